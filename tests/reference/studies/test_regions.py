"""Region counts against theorems, against enumeration of all patterns, and against a 1-D sweep."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse.csgraph import connected_components

from ffverify.reference.networks.network import MLP
from ffverify.reference.studies import regions
from ffverify.reference.studies.regions import (
    Layer,
    activation_regions,
    cells_in_general_position,
    count_activation_regions,
    count_linear_regions,
    folding_layers,
    layers_of,
    montufar_bound,
    montufar_layers,
    pieces_along,
    upper_bound,
)

quick = settings(derandomize=True, deadline=None, max_examples=40)
Count = Callable[[list[Layer]], int]


def random_layers(widths: list[int], seed: int, unit: str = "relu") -> list[Layer]:
    rng = np.random.default_rng(seed)
    return [
        Layer(rng.standard_normal((m, n)), rng.standard_normal(n), unit)
        for m, n in itertools.pairwise(widths)
    ]


def evaluate(layers: list[Layer], x: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
    """The network in exact arithmetic, straight from its definition."""
    for layer in layers:
        columns = np.asarray(layer.weights).T.tolist()
        bias = [0] * len(columns) if layer.bias is None else np.asarray(layer.bias).tolist()
        z = [
            Fraction(b) + sum(Fraction(w) * x_i for w, x_i in zip(column, x, strict=True))
            for b, column in zip(bias, columns, strict=True)
        ]
        unit = {
            "relu": lambda z: [max(Fraction(0), v) for v in z],
            "absolute": lambda z: [abs(v) for v in z],
            "identity": lambda z: z,
            "leaky_relu": lambda z, a=layer.slope: [v if v > 0 else Fraction(a) * v for v in z],
            "maxout": lambda z, k=layer.k: [max(z[i : i + k]) for i in range(0, len(z), k)],
        }[layer.unit]
        x = tuple(unit(z))
    return x


def cells_by_whitney(planes: list[tuple[int, ...]]) -> int:
    """Count the cells of planes a · x + c = 0, given as (a, c), in any position.

    Whitney's formula: Σ (-1)^(|B| - rank B) over the subsets B of planes that have a common point.
    """
    different = set()
    for plane in planes:
        if first := next((c for c in plane[:-1] if c), 0):
            divisor = math.gcd(*plane) * (1 if first > 0 else -1)
            different.add(tuple(c // divisor for c in plane))

    def rank(rows: list[tuple[int, ...]]) -> int:
        return flint.fmpz_mat(rows).rank() if rows else 0

    count = 0
    for size in range(len(different) + 1):
        for subset in itertools.combinations(sorted(different), size):
            if rank(subset) == rank([plane[:-1] for plane in subset]):
                count += (-1) ** (size - rank(subset))
    return count


def patterns_by_linear_programs(layers: list[Layer]) -> int:
    """Try every pattern of a ReLU network: is there a ball of positive radius with it?"""
    widths = [np.shape(layer.weights)[1] for layer in layers]
    d = np.shape(layers[0].weights)[0]
    found = 0
    for bits in itertools.product((0, 1), repeat=sum(widths)):
        matrix, offset, rows, bounds, at = np.eye(d), np.zeros(d), [], [], 0
        for layer, n in zip(layers, widths, strict=True):
            z, z0 = matrix @ layer.weights, offset @ layer.weights + layer.bias
            active = np.array(bits[at : at + n])
            sign = 2 * active - 1
            rows += [
                [*(-s * column), np.linalg.norm(column)]
                for s, column in zip(sign, z.T, strict=True)
            ]
            bounds += [*(sign * z0)]
            if any(
                not column.any() and s * c <= 0 for column, s, c in zip(z.T, sign, z0, strict=True)
            ):
                break
            matrix, offset, at = z * active, z0 * active, at + n
        else:
            answer = linprog(
                [*np.zeros(d), -1],
                rows,
                bounds,
                bounds=[(-1e4, 1e4)] * d + [(0, 1)],
                method="highs",
            )
            found += answer.status == 0 and -answer.fun > 1e-9
    return found


def breakpoints_by_sweep(layers: list[Layer], low: Fraction, high: Fraction) -> list[Fraction]:
    """Breakpoints in 1-D: every unit's values at a growing list of knots, zero crossings added."""
    knots = [low, high]
    for depth in range(1, len(layers) + 1):
        before = [
            *layers[: depth - 1],
            Layer(layers[depth - 1].weights, layers[depth - 1].bias, "identity"),
        ]
        values = [evaluate(before, (t,)) for t in knots]
        for (s, z_s), (t, z_t) in itertools.pairwise(list(zip(knots, values, strict=True))):
            crossings = [
                s + (t - s) * a / (a - b) for a, b in zip(z_s, z_t, strict=True) if a * b < 0
            ]
            knots = knots + crossings
        knots = sorted(set(knots))
    outputs = [evaluate(layers, (t,)) for t in knots]
    slopes = [
        tuple((b - a) / (t - s) for a, b in zip(y_s, y_t, strict=True))
        for (s, y_s), (t, y_t) in itertools.pairwise(list(zip(knots, outputs, strict=True)))
    ]
    return [t for t, (a, b) in zip(knots[1:-1], itertools.pairwise(slopes), strict=True) if a != b]


def count_by_sampling(layers: list[Layer]) -> int:
    """The planted bug: patterns seen at random points, which miss small regions."""
    x = np.random.default_rng(0).uniform(-3, 3, (2000, np.shape(layers[0].weights)[0]))
    seen = []
    for layer in layers:
        z = x @ layer.weights + layer.bias
        seen.append(z > 0)
        x = np.maximum(z, 0)
    return len(np.unique(np.concatenate(seen, axis=1), axis=0))


def check_general_position(count: Count) -> None:
    for d, n in itertools.product((1, 2, 3), range(1, 9)):
        assert count(random_layers([d, n], seed=n)) == cells_in_general_position(n, d)


def check_montufar(count: Count) -> None:
    for n, d, depth in [(4, 1, 4), (5, 1, 3), (4, 2, 3), (8, 2, 2), (7, 3, 2), (6, 3, 2)]:
        assert count(montufar_layers(n, d, depth)) == montufar_bound(n, d, depth)


def test_one_layer_in_general_position_has_zaslavskys_number():
    check_general_position(count_activation_regions)


def test_the_construction_reaches_montufars_bound():
    check_montufar(lambda layers: count_activation_regions(layers, box=(0, 1)))


@pytest.mark.parametrize("check", [check_general_position, check_montufar])
def test_sampling_is_rejected(check):
    with pytest.raises(AssertionError):
        check(count_by_sampling)


arrangements = st.integers(1, 3).flatmap(
    lambda d: st.lists(st.tuples(*[st.integers(-2, 2)] * (d + 1)), min_size=1, max_size=6)
)


@quick
@given(arrangements)
def test_degenerate_arrangements_are_counted_exactly(planes):
    *normals, offsets = np.array(planes, dtype=float).T
    expected = cells_by_whitney(planes)
    for unit in ("relu", "absolute", "leaky_relu"):
        assert count_activation_regions([Layer(np.array(normals), offsets, unit)]) == expected


def test_whitneys_formula_rejects_a_count_in_general_position():
    assert cells_by_whitney([(1, 0, 0), (0, 1, 0), (1, 1, 0)]) == 6  # through one point
    assert cells_in_general_position(3, 2) == 7


@pytest.mark.parametrize("widths", [[1, 3, 3], [2, 3, 3], [2, 2, 2, 2], [3, 4, 2], [2, 5]])
@pytest.mark.parametrize("seed", [0, 1])
def test_deep_networks_against_every_pattern(widths, seed):
    layers = random_layers(widths, seed)
    count = count_activation_regions(layers)
    assert count == patterns_by_linear_programs(layers)
    assert count <= upper_bound(widths[1:], widths[0])


def test_the_enumeration_rejects_a_count_that_forgets_the_last_layer():
    layers = random_layers([2, 3, 3], 0)
    assert count_activation_regions(layers[:-1]) != patterns_by_linear_programs(layers)


@pytest.mark.parametrize("unit", ["relu", "absolute", "leaky_relu", "maxout", "identity"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_maps_are_the_networks(unit, d):
    rng = np.random.default_rng(d)
    sizes = [(d, 6), (3 if unit == "maxout" else 6, 4), (2 if unit == "maxout" else 4, 2)]
    layers = [Layer(rng.standard_normal(s), rng.standard_normal(s[1]), unit) for s in sizes[:2]]
    layers.append(Layer(rng.standard_normal(sizes[2]), None, "identity"))
    found = activation_regions(layers)
    assert len({region.pattern for region in found}) == len(found)
    for region in found:
        expected = tuple(
            b + sum(w * x for w, x in zip(column, region.inside, strict=True))
            for column, b in zip(zip(*region.weights, strict=True), region.bias, strict=True)
        )
        assert evaluate(layers, region.inside) == expected


def test_maxout_counts_its_envelope_and_nothing_else():
    # max(x, -x, 0.5 x) has two pieces: the third never wins.
    third_never_wins = Layer(np.array([[1.0, -1.0, 0.5]]), None, "maxout", k=3)
    assert [r.pattern for r in activation_regions([third_never_wins])] == [((0,),), ((1,),)]
    twice = Layer(np.array([[1.0, 1.0]]), None, "maxout", k=2)
    assert [r.pattern for r in activation_regions([twice])] == [((0,),)]


def test_a_fold_doubles_the_pieces_and_a_fold_off_the_interval_does_not():
    for depth in range(1, 11):
        assert count_linear_regions(folding_layers(depth), box=(0, 1)) == 2**depth
    off = [Layer(np.array([[2.0]]), np.array([1.0]), "absolute"), *folding_layers(1)]
    assert count_linear_regions(off, box=(0, 1)) != 4


TENT = [
    Layer(np.array([[1.0, 1.0, 1.0]]), np.array([0.0, -1.0, -2.0])),
    Layer(np.array([[1.0], [-2.0], [1.0]]), None, "identity"),
]
IDENTITY_OF_TWO_RELUS = [
    Layer(np.array([[1.0, -1.0], [0.0, 0.0]])),
    Layer(np.array([[1.0], [-1.0]]), None, "identity"),
]


def check_linear_regions(count: Count) -> None:
    assert count(TENT) == 4  # zero on both sides: the same map, not connected
    assert count(IDENTITY_OF_TWO_RELUS) == 1  # relu(x) - relu(-x) = x: connected, the same map
    corner = [Layer(np.eye(2)), Layer(np.array([[1.0], [1.0]]), np.array([-1.0]))]
    assert count(corner) == 4  # 0; x - 1; y - 1; x + y - 1
    assert count_activation_regions(corner) == 7


def count_maps(layers: list[Layer]) -> int:
    return len({(r.weights, r.bias) for r in activation_regions(layers)})


def test_linear_regions_are_connected_and_maximal():
    check_linear_regions(count_linear_regions)


@pytest.mark.parametrize("wrong", [count_maps, count_activation_regions])
def test_counting_maps_or_patterns_is_rejected(wrong):
    with pytest.raises(AssertionError):
        check_linear_regions(wrong)


def linear_regions_by_linear_programs(layers: list[Layer]) -> int:
    """Join cells with equal maps where a disc of positive radius lies between them."""
    cells = regions._cells(layers, None)
    touching = np.zeros((len(cells), len(cells)))

    def scaled(a: tuple[int, ...]) -> np.ndarray:
        return np.array(a, dtype=float) / np.linalg.norm(np.array(a[1:], dtype=float))

    for (i, p), (j, q) in itertools.combinations(enumerate(cells), 2):
        if regions._map(p) != regions._map(q):
            continue
        sides = {a for a in (*p.cone.halfspaces, *q.cone.halfspaces) if any(a[1:])}
        for a in sides.intersection(p.cone.halfspaces):
            others = np.array([scaled(b) for b in sides if b not in (a, tuple(-c for c in a))])
            d = len(a) - 1
            answer = linprog(  # the largest r with a · x = 0 and b · x >= r for all others b
                [*np.zeros(d), -1],
                np.column_stack([-others[:, 1:], np.ones(len(others))]),
                others[:, 0],
                [[*scaled(a)[1:], 0]],
                [-scaled(a)[0]],
                bounds=[(-1e4, 1e4)] * d + [(0, 1)],
                method="highs",
            )
            touching[i, j] += answer.status == 0 and -answer.fun > 1e-7
    return connected_components(touching, directed=False)[0]


@pytest.mark.parametrize("widths", [[2, 5, 2], [2, 3, 3, 1], [3, 4, 2]])
def test_linear_regions_against_linear_programs(widths):
    layers = [
        Layer(layer.weights, layer.bias - 0.5) for layer in random_layers(widths, seed=len(widths))
    ]
    expected = linear_regions_by_linear_programs(layers)
    assert count_linear_regions(layers) == expected
    assert count_maps(layers) <= expected < count_activation_regions(layers)


def test_integer_weights_do_not_overflow():
    big = np.array([[2**40, -(2**41), 3]])
    layers = [Layer(big, np.array([1, 5, 7])), Layer(np.diag([2**40] * 3), np.array([1, -1, 5]))]
    as_floats = [Layer(layer.weights * 1.0, layer.bias * 1.0) for layer in layers]
    found = activation_regions(layers)
    assert found == activation_regions(as_floats)
    assert max(abs(w) for region in found for row in region.weights for w in row) == 2**81


def test_touching_in_a_corner_is_not_connected():
    # relu(|x| - |y|): x - y, x + y, -x - y, -x + y, and zero above and below, touching at 0 only.
    layers = [Layer(np.eye(2), None, "absolute"), Layer(np.array([[1.0], [-1.0]]), None)]
    assert count_linear_regions(layers) == 6


@quick
@given(st.integers(0, 10**6), st.sampled_from(["relu", "absolute", "leaky_relu"]))
def test_pieces_along_a_line_against_a_sweep(seed, unit):
    layers = [*random_layers([1, 4, 3], seed, unit), *random_layers([3, 1], seed + 1, "identity")]
    pieces = pieces_along(layers, [-4], [4])
    along = [Layer(np.array([[8.0]]), np.array([-4.0]), "identity"), *layers]
    assert [piece.start for piece in pieces[1:]] == breakpoints_by_sweep(
        along, Fraction(0), Fraction(1)
    )
    assert (pieces[0].start, pieces[-1].end) == (0, 1)
    for piece in pieces:
        for t in (piece.start, piece.end):
            expected = tuple(a * t + b for a, b in zip(piece.slope, piece.intercept, strict=True))
            assert evaluate(along, (t,)) == expected


def test_a_line_through_many_dimensions():
    layers = [*random_layers([20, 30, 30], 3), *random_layers([30, 1], 4, "identity")]
    start, end = np.full(20, -10.0), np.full(20, 10.0)
    pieces = pieces_along(layers, start, end)
    assert len(pieces) > 10
    for left, right in itertools.pairwise(pieces):
        assert left.end == right.start
        assert left.slope != right.slope
        t = left.end  # continuous at every breakpoint
        assert left.slope[0] * t + left.intercept[0] == right.slope[0] * t + right.intercept[0]


@pytest.mark.parametrize("unit", ["relu", "absolute", "leaky_relu", "prelu", "maxout", "identity"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_layers_of_an_mlp_compute_what_it_computes(unit, bias):
    network = MLP((2, 4, 3, 1), hidden=unit, bias=bias, k=3)
    params = network.init(0, hidden_bias=0.5)
    if unit == "prelu":
        params[0]["alpha"] = np.array([-1.0, 0.5, 0.0, 1.0])
    for region in activation_regions(layers_of(network, params)):
        x = np.array(region.inside, dtype=float)
        exact = sum(w * Fraction(c) for (w,), c in zip(region.weights, x.tolist(), strict=True))
        error = abs(Fraction(float(network(params, x)[0])) - exact - region.bias[0])
        # Three layers of at most 5 terms, in size below (1 + |x|) times the product of the layers'
        # column sums, each term rounded at most 6 times.
        size = np.prod([1 + np.abs(p["W"]).sum(axis=0).max() for p in params])
        assert error <= 3 * 5 * 6 * 2.0**-53 * size * (1 + np.abs(x).max())


def test_a_segment_of_one_point_is_one_piece():
    (piece,) = pieces_along([Layer(np.eye(2))], [1.0, 2.0], [1.0, 2.0])
    assert (piece.slope, piece.intercept) == ((0, 0), (1, 2))


def count(*layers: Layer, box: tuple[float, float] | None = None) -> int:
    return count_activation_regions(layers, box=box)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (count, "at least one Layer"),
        (lambda: count(Layer(np.ones(3))), "give a matrix"),
        (lambda: count(Layer(np.ones((2, 3)), np.ones(2))), "need \\(3,\\)"),
        (lambda: count(*[Layer(np.ones((2, 3)))] * 2), "layer 1 takes 2 inputs"),
        (lambda: count(Layer(np.eye(2), None, "tanh")), "'tanh' is not piecewise linear"),
        (lambda: count(Layer(np.ones((2, 3)), None, "maxout", k=2)), "groups of k = 2"),
        (lambda: count(Layer(np.eye(2), None, "leaky_relu", slope=2.0)), "at most 1"),
        (lambda: count(Layer(np.array([[np.inf]]))), "not finite"),
        (lambda: count(Layer(np.array([[np.nan]]))), "not finite"),
        (lambda: count(Layer(np.eye(2)), box=(1, 1)), "low < high"),
        (lambda: montufar_layers(2, 3, 1), "give n >= d"),
        (lambda: pieces_along([Layer(np.eye(2))], [0.0, 0.0], [1.0]), "shapes"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
