"""Section 6.4, second part: what depth buys, in linear regions counted exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from math import comb, cos, pi, prod, sin
from typing import Any

import numpy as np

from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, integers
from ffverify.conformance.pictures import Curve, Panel, Surface
from ffverify.exact.formats import Array


def folds(depth: int) -> Any:
    """Give the program of ``depth`` layers of one unit |2h - 1|."""

    def network(f: Any, x: Any, W: Any, b: Any) -> Any:
        for _ in range(depth):
            x = f.absolute(f.affine(x, W, b))
        return x

    return network


def sawtooth(depth: int, kind: Any) -> tuple[Array, Array]:
    """Give the ends [2^depth + 1, 1] of the pieces that folds make, and their values 1, …, 0, 1."""
    x = np.arange(2**depth + 1) / 2**depth
    return x[:, None].astype(kind), (np.arange(2**depth + 1) % 2 == 0).astype(kind)


@claim(
    "6.4",
    "Every layer of absolute values folds its input space once more: l of them, of one unit each, "
    "have 2^l linear pieces on an interval, where one layer of n units has n + 1 at most.",
    functions=["absolute", "affine"],
    examples=10,
    depth=integers(1, 8),
    weights=array(9, low=-1, high=1),
    kinks=array(9, low=0, high=1),
)
def folding_doubles_the_regions(check: Check, depth: int, weights: Array, kinks: Array) -> None:
    kind, name = check.fmt.carrier, check.fmt.name
    W, b = np.full((1, 1), 2, kind), np.full(1, -1, kind)
    x, teeth = sawtooth(depth, kind)

    def slope(program: Any, x: Array, *parameters: Array) -> Array:
        ones = np.ones((len(x), 1), kind)
        return check.backend.vjp(program, [x, *parameters], ones, name, wrt=[0])[0][:, 0]

    # Everything here is a multiple of 2^-(depth + 2) in [-1, 1], hence exact.
    ends = check.backend.value(folds(depth), [x, W, b], name)[:, 0]
    check.equal(ends, teeth, "ends of the pieces: 1, 0, 1, …")
    rise = np.where(np.arange(2**depth) % 2 == 0, -1, 1) * 2.0**depth
    for part in (0.25, 0.5, 0.75):
        inside = x[:-1] + kind_of(part / 2**depth, kind)
        height = check.backend.value(folds(depth), [inside, W, b], name)[:, 0]
        check.equal(height, teeth[:-1] + rise * part / 2**depth, "2^l pieces, straight between")
        check.equal(slope(folds(depth), inside, W, b), rise, f"slopes of {2**depth} pieces")

    def shallow(f: Any, x: Any, W: Any, c: Any, w: Any, b: Any) -> Any:
        return f.affine(f.absolute(f.affine(x, W, c)), w, b)

    units = depth + 1
    one, none = np.ones((1, units), kind), np.zeros(1, kind)
    grid = ((np.arange(1024) + 0.5) / 1024).astype(kind)[:, None]
    steep = slope(shallow, grid, one, -kinks[:units], weights[:units, None], none)
    changes = int(np.sum(np.diff(steep) != 0))
    check.that(changes <= units, f"pieces of one layer of {units} units", changes + 1, units + 1)


def kind_of(number: float, kind: Any) -> Any:
    """Give a number as a scalar of a dtype."""
    return np.dtype(kind).type(number)


@folding_doubles_the_regions.plot("Every layer |2h - 1| folds the interval once more: 2ˡ pieces")
def _(check: Check) -> list[Panel]:
    kind = check.fmt.carrier
    x = np.linspace(0, 1, 1025).astype(kind)[:, None]
    given = [x, np.full((1, 1), 2, kind), np.full(1, -1, kind)]

    def panel(depth: int) -> Panel:
        y = check.backend.value(folds(depth), given, check.fmt.name)[:, 0]
        slopes = check.backend.vjp(folds(depth), given, np.ones_like(x), check.fmt.name, wrt=[0])[0]
        pieces = 1 + int(np.sum(np.diff(np.sign(slopes[slopes != 0])) != 0))  # 0 on a kink
        title = f"{depth} layer{'s' * (depth > 1)}: {pieces} pieces"
        return Panel(title, "x", "h", [Curve("", x[:, 0], y)])

    return [panel(depth) for depth in (1, 2, 4)]


@folding_doubles_the_regions.bug("absolute", "a fold off the interval")
def _(f: Any, z: Any) -> Any:
    return f.absolute(z - 2) - 2


@folding_doubles_the_regions.bug("absolute", "no fold: identity")
def _(_f: Any, z: Any) -> Any:
    return 1 * z


@folding_doubles_the_regions.bug("absolute", "|z| with slope 0 on the left")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.absolute, vjp=lambda y_bar, _y, z: (y_bar * (z > 0),))(z)


def cells(n: int, d: int) -> int:
    """Give Σ_{j≤d} C(n, j), into how many cells n hyperplanes cut R^d (Zaslavsky 1975)."""
    return sum(comb(n, j) for j in range(d + 1))


def random_layers(check: Check, widths: list[int], seed: int) -> list[Any]:
    """Give random ReLU layers of the backend's own kind; widths[0] inputs."""
    rng = np.random.default_rng(seed)
    make = check.backend.functions["Layer"]
    draw = [
        (rng.standard_normal((m, n)), rng.standard_normal(n)) for m, n in itertools.pairwise(widths)
    ]
    return [make(W.astype(check.fmt.carrier), b.astype(check.fmt.carrier)) for W, b in draw]


@claim(
    "6.4",
    "Linear regions, counted exactly: one layer of n ReLUs cuts R^d into Σ_{j≤d} C(n, j), several "
    "into the product of these at most, and folding layers into ⌊n/d⌋^(d(l-1)) Σ_{j≤d} C(n, j).",
    functions=["Layer", "count_activation_regions", "count_linear_regions", "montufar_layers"],
    examples=10,
    d=integers(1, 3),
    n=integers(1, 6),
    seed=integers(0, 10**6),
)
def linear_region_counts(check: Check, d: int, n: int, seed: int) -> None:
    linear = check.backend.functions["count_linear_regions"]
    patterns = check.backend.functions["count_activation_regions"]
    # Weights drawn from a density are in general position but for a chance of about 2^-24.
    one = linear(random_layers(check, [d, n], seed))
    check.that(one == cells(n, d), f"regions of {n} units in R^{d}", one, cells(n, d))
    widths = [d, *[min(n, 4)] * (4 - d)]
    layers = random_layers(check, widths, seed)
    most = prod(cells(w, d) for w in widths[1:])
    parts, pieces = patterns(layers), linear(layers)
    what = f"linear regions ≤ patterns ≤ the bound, for the widths {widths}"
    check.that(pieces <= parts <= most, what, (pieces, parts), most)
    for width, inputs, depth in ((4, 1, 4), (4, 2, 2), (5, 2, 2), (3, 3, 2)):
        folded = (width // inputs) ** (inputs * (depth - 1)) * cells(width, inputs)
        found = patterns(
            check.backend.functions["montufar_layers"](width, inputs, depth), box=(0, 1)
        )
        what = f"regions of {depth} folding layers of {width} units on [0, 1]^{inputs}"
        check.that(found == folded, what, found, folded)


@linear_region_counts.plot("Linear regions of ReLU networks on the plane, counted exactly")
def _(check: Check) -> list[Panel]:
    axis = np.linspace(-4, 4, 481)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    panels = []
    for widths in ([2, 6], [2, 6, 6], [2, 6, 6, 6]):
        layers = random_layers(check, widths, 2)
        found = check.backend.functions["count_activation_regions"](layers)
        h, pattern = grid, np.zeros(len(grid), dtype=object)
        for layer in layers:
            z = h @ np.asarray(layer.weights, float) + np.asarray(layer.bias, float)
            pattern = pattern * 2 ** z.shape[1] + (z > 0) @ (2 ** np.arange(z.shape[1]))
            h = np.maximum(z, 0)
        met, place = np.unique(pattern, return_inverse=True)
        shades = np.random.default_rng(0).permutation(len(met))[place].reshape(len(axis), -1)
        name = " and ".join([", ".join(map(str, widths[1:-1]))] * (len(widths) > 2) + ["6"])
        title = f"{name} units: {found} activation patterns"
        panels.append(Panel(title, "x₁", "x₂", surface=Surface(axis, axis, shades, "")))
    return panels


@linear_region_counts.bug(
    "count_linear_regions", "sampling: regions that 200 points happen to meet"
)
def _(_f: Any, layers: Any) -> int:
    x = np.random.default_rng(0).uniform(-3, 3, (200, len(layers[0].weights)))
    patterns = []
    for layer in layers:
        z = x @ layer.weights + layer.bias
        patterns.append(z > 0)
        x = np.maximum(z, 0)
    return len(np.unique(np.hstack(patterns), axis=0))


@linear_region_counts.bug("count_activation_regions", "every pattern counted, met or not")
def _(_f: Any, layers: Any, **_options: Any) -> int:
    units: int = sum(np.shape(layer.weights)[1] for layer in layers)
    return 1 << units


def printed(n: int, d: int, depth: int) -> int:
    """Give what the chapter prints, C(n, d)^(d(l-1)) n^d."""
    count: int = comb(n, d) ** (d * (depth - 1)) * n**d
    return count


def montufar(n: int, d: int, depth: int) -> float:
    """Give (n/d)^(d(l-1)) n^d, of Montúfar et al. (2014)."""
    return float((n / d) ** (d * (depth - 1)) * n**d)


def turned_regions(check: Check, depths: Iterable[int]) -> list[int]:
    """Count the regions of layers of two ReLUs: a turn by 5π/7, in 16ths, with a bias of ¼."""
    turn = [[cos(5 * pi / 7), -sin(5 * pi / 7)], [sin(5 * pi / 7), cos(5 * pi / 7)]]
    layer = check.backend.functions["Layer"](np.round(np.array(turn) * 16) / 16, np.full(2, 0.25))
    return [check.backend.functions["count_linear_regions"]([layer] * depth) for depth in depths]


@claim(
    "6.4",
    "The chapter prints O(C(n,d)^(d(l-1)) n^d) linear regions. As an upper bound it fails: at n = d it "
    "is n^d at any depth, and so is (n/d)^(d(l-1)) n^d (Montúfar et al., a lower bound), while 1 to 8 "
    "layers of two ReLUs have 4, 8, 11, 14, 18, 22, 26, 31 regions of the plane. Nor is it reached: "
    "for n = 4, d = l = 2 it is 576, where no network has more than 121.",
    functions=["Layer", "count_linear_regions"],
)
def printed_region_formula(check: Check) -> None:
    depths = range(1, 9)
    counts = turned_regions(check, depths)
    check.that(counts == [4, 8, 11, 14, 18, 22, 26, 31], "regions by depth, n = d = 2", counts)
    flat = all(printed(2, 2, depth) == montufar(2, 2, depth) == 4 for depth in depths)
    check.that(flat, "the formulas at n = d = 2", [printed(2, 2, depth) for depth in depths], 4)
    most = cells(4, 2) ** 2
    check.that(printed(4, 2, 2) == 576 > most == 121, "the formula at n = 4, d = l = 2", 576, most)


@printed_region_formula.plot("The printed number of regions is neither an upper bound nor reached")
def _(check: Check) -> list[Panel]:
    depths = list(range(1, 9))

    def curve(label: str, counts: Iterable[float], style: str = "points") -> Curve:
        return Curve(label, np.array(depths), np.array(list(counts), float), style)

    return [
        Panel(
            "two ReLUs a layer, on the plane: no upper bound", "layers l", "linear regions",
            [
                curve("exact count", turned_regions(check, depths)),
                curve("printed, and\nMontúfar et al.", (printed(2, 2, depth) for depth in depths), "exact"),
            ],
        ),
        Panel(
            "four ReLUs a layer: far above what is possible", "layers l", "linear regions",
            [
                curve("printed", (printed(4, 2, depth) for depth in depths)),
                curve("Montúfar et al.", (montufar(4, 2, depth) for depth in depths)),
                curve("most possible", (cells(4, 2) ** depth for depth in depths), "exact"),
            ],
            log="y",
        ),
    ]  # fmt: skip


@printed_region_formula.bug("count_linear_regions", "stops at the first two layers")
def _(f: Any, layers: Any) -> int:
    return int(f.count_linear_regions(layers[:2]))


@claim(
    "6.4",
    "Depth beats width: l layers of two ReLUs are exactly a sawtooth of 2^l pieces, which every "
    "single layer of fewer than 2^l - 1 ReLUs misses by ½ or more somewhere.",
    functions=["affine", "relu"],
    examples=8,
    depth=integers(2, 6),
    seed=integers(0, 10**6),
)
def depth_beats_width(check: Check, depth: int, seed: int) -> None:
    kind, name = check.fmt.carrier, check.fmt.name
    x, teeth = sawtooth(depth, kind)
    halves, kinks = np.ones((1, 2), kind), np.array([0, -0.5], kind)
    up_and_down, one = np.array([[-2], [4]], kind), np.ones(1, kind)

    def deep(f: Any, x: Any, W: Any, c: Any, w: Any, b: Any) -> Any:
        for _ in range(depth):  # |2x - 1| = 1 - 2 max(0, x) + 4 max(0, x - ½) on [0, 1]
            x = f.affine(f.relu(f.affine(x, W, c)), w, b)
        return x

    answers = check.backend.value(deep, [x, halves, kinks, up_and_down, one], name)[:, 0]
    check.equal(answers, teeth, f"the sawtooth, by {2 * depth} units")

    # A function within less than ½ of the sawtooth at its 2^l + 1 ends crosses ½ 2^l times, each
    # on a piece of its own; n units make n + 1 pieces. So the least error of n < 2^l - 1 is ½.
    rng = np.random.default_rng(seed)

    def hidden(f: Any, x: Any, W: Any, c: Any) -> Any:
        return f.relu(f.affine(x, W, c))

    for units in (depth, 2 ** (depth - 1) - 1, 2**depth - 2):
        W = rng.choice([-1.0, 1.0], (1, units)).astype(kind)
        c = (-W[0] * rng.random(units)).astype(kind)
        h = check.backend.value(hidden, [x, W, c], name).astype(np.float64)
        design = np.hstack([h, np.ones((len(h), 1))])
        weights = np.linalg.lstsq(design, teeth.astype(np.float64), rcond=None)[0]
        error = float(np.max(np.abs(design @ weights - teeth)))
        # h is good to 2 roundings of |x| + |c| ≤ 2, and sums to n + 1 of float64's.
        u = 4 * check.fmt.unit_roundoff + (units + 2) * 2.0**-53
        least = 0.5 - u * float(np.sum(np.abs(weights)))
        check.that(error >= least, f"error of {units} units, one layer, best weights", error, "≥ ½")


@depth_beats_width.bug("relu", "a leaky slope: the deep network is no sawtooth")
def _(f: Any, z: Any) -> Any:
    return f.leaky_relu(z, 0.0625)


@depth_beats_width.bug("relu", "a step: one layer then does what it cannot")
def _(_f: Any, z: Any) -> Any:
    return np.where(z > 0, 1.0 + 0 * z, 0 * z)
