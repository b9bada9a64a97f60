"""Accumulation orders against sums over paths, all bracketings, and all permutations."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffverify.reference.studies import accumulation
from ffverify.reference.studies.accumulation import (
    Linearised,
    bracketing_cost,
    eliminate,
    forward_bracketing,
    forward_order,
    linearised,
    markowitz_order,
    multiply_chain,
    optimal_bracketing,
    optimal_order,
    reverse_bracketing,
    reverse_order,
)

quick = settings(derandomize=True, deadline=None, max_examples=60)


def all_bracketings(first, last):
    if first == last:
        yield first
    for k in range(first, last):
        yield from itertools.product(all_bracketings(first, k), all_bracketings(k + 1, last))


def cost_by_multiplying(shapes, tree):
    """Count the multiplications as they happen, entry by entry."""
    count = 0

    def product(node):
        nonlocal count
        if isinstance(node, int):
            return np.ones(shapes[node], dtype=int)
        left, right = map(product, node)
        for _ in np.ndindex(left.shape[0], left.shape[1], right.shape[1]):
            count += 1
        return np.ones((left.shape[0], right.shape[1]), dtype=int)

    product(tree)
    return count


chains = st.lists(st.integers(1, 6), min_size=2, max_size=7).map(
    lambda sizes: list(itertools.pairwise(sizes))
)
BOTTLENECK = [(10, 9), (9, 1), (1, 9), (9, 10)]


def check_costs(cost):
    for sizes in ([2, 3, 4], [5, 1, 5, 2], [1, 6, 2, 3, 1]):
        shapes = list(itertools.pairwise(sizes))
        for tree in all_bracketings(0, len(shapes) - 1):
            assert cost(shapes, tree) == cost_by_multiplying(shapes, tree)


def test_costs_are_the_multiplications_done():
    check_costs(bracketing_cost)


def cost_by_leaves(shapes, tree):
    """The planted bug: takes the columns of a product from its first matrix, not its last."""
    if isinstance(tree, int):
        return 0
    left, right = tree
    firsts = [str(node).replace("(", "").split(",")[0] for node in tree]
    (rows, inner), (_, columns) = (shapes[int(first)] for first in firsts)
    own = rows * inner * columns
    return cost_by_leaves(shapes, left) + cost_by_leaves(shapes, right) + own


def test_a_wrong_cost_is_rejected():
    with pytest.raises(AssertionError):
        check_costs(cost_by_leaves)


def check_optimal(find, shapes):
    costs = [bracketing_cost(shapes, tree) for tree in all_bracketings(0, len(shapes) - 1)]
    assert bracketing_cost(shapes, find(shapes)) == min(costs)


@quick
@given(chains)
def test_dynamic_programming_finds_the_cheapest_of_all(shapes):
    check_optimal(optimal_bracketing, shapes)


@pytest.mark.parametrize("pure", [forward_bracketing, reverse_bracketing])
def test_pure_modes_are_bracketings_but_not_the_cheapest(pure):
    assert pure(4) in list(all_bracketings(0, 3))
    with pytest.raises(AssertionError):
        check_optimal(lambda shapes: pure(len(shapes)), BOTTLENECK)


@quick
@given(chains, st.integers(0, 1000))
def test_every_bracketing_gives_the_same_jacobian(shapes, seed):
    rng = np.random.default_rng(seed)
    chain = [rng.integers(-9, 10, shape) for shape in shapes]  # exact, so the same to the last bit
    expected = chain[0]
    for matrix in chain[1:]:
        expected = np.einsum("ij,jk->ik", expected, matrix)
    for tree in all_bracketings(0, len(shapes) - 1):
        assert np.array_equal(multiply_chain(chain, tree), expected)


def test_a_bottleneck_is_the_place_to_split():
    assert optimal_bracketing(BOTTLENECK) == ((0, 1), (2, 3))
    assert bracketing_cost(BOTTLENECK, ((0, 1), (2, 3))) == 10 * 9 + 9 * 10 + 10 * 10


def test_reverse_is_the_cheapest_for_one_output_and_forward_for_one_input():
    shapes = [(1, 7), (7, 5), (5, 8)]
    assert optimal_bracketing(shapes) == reverse_bracketing(3) == ((0, 1), 2)
    transposed = [shape[::-1] for shape in shapes[::-1]]
    assert optimal_bracketing(transposed) == forward_bracketing(3) == (0, (1, 2))


def test_chains_longer_than_pythons_stack():
    k = 5000
    matrices = [np.eye(1)] * k
    for tree in (forward_bracketing(k), reverse_bracketing(k)):
        assert bracketing_cost([(1, 1)] * k, tree) == k - 1
        assert multiply_chain(matrices, tree) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_bracketing([]), "at least one"),
        (lambda: optimal_bracketing([(2, 3), (2, 3)]), "do not multiply"),
        (lambda: bracketing_cost([(2, 2)] * 3, (0, 1)), "each once"),
        (lambda: bracketing_cost([(2, 2)] * 3, ((1, 0), 2)), "each once"),
        (lambda: Linearised(("x",), ("y",), {("x", "y"): 1, ("y", "z"): 1}), "insert a copy"),
        (lambda: eliminate(diamond(), ["a"]), "once"),
        (lambda: eliminate(diamond(), ["a", "a"]), "once"),
        (lambda: optimal_order(path(17)), "markowitz_order"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def diamond():
    return Linearised(("x",), ("y",), {("x", "a"): 2, ("x", "b"): 3, ("a", "y"): 5, ("b", "y"): 7})


def path(n):
    return Linearised((0,), (n + 1,), {(i, i + 1): 1 for i in range(n + 1)})


@st.composite
def graphs(draw, most=6):
    n_in, n_mid, n_out = (draw(st.integers(1, n)) for n in (3, most, 3))
    total = n_in + n_mid + n_out
    pairs = [
        (i, j) for i, j in itertools.combinations(range(total), 2) if j >= n_in and i < n_in + n_mid
    ]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    partial = st.fractions(-3, 3, max_denominator=5)
    edges = {edge: draw(partial) for edge in chosen}
    return Linearised(tuple(range(n_in)), tuple(range(n_in + n_mid, total)), edges)


def jacobian_by_paths(graph):
    """Sum over all paths of the product of partials: Bauer's formula, exponential."""

    def derivative(j, i):
        if i == j:
            return Fraction(1)
        return sum(
            (
                partial * derivative(k, i)
                for (k, target), partial in graph.edges.items()
                if target == j
            ),
            Fraction(0),
        )

    return [[derivative(j, i) for i in graph.inputs] for j in graph.outputs]


def check_orders(run, graph):
    for order in (forward_order, reverse_order, markowitz_order, optimal_order):
        assert run(graph, order(graph)).jacobian.tolist() == jacobian_by_paths(graph)


@quick
@given(graphs())
def test_every_order_gives_the_sum_over_paths(graph):
    check_orders(eliminate, graph)


@settings(quick, max_examples=25)
@given(graphs(most=5))
def test_the_search_finds_the_cheapest_of_all_permutations(graph):
    costs = [
        eliminate(graph, order).multiplications
        for order in itertools.permutations(graph.intermediates)
    ]
    assert eliminate(graph, optimal_order(graph)).multiplications == min(costs)


def rosenbrock_like(x, y, z):
    u = np.sin(x * y)
    v = u * u + np.exp(z)
    unused = np.cos(v)  # noqa: F841 - a dead operation
    return u, v / (1.0 + x * x), v, v, x, 3.0


def test_plain_functions_are_linearised():
    at = (0.7, -1.3, 0.4)
    graph = linearised(rosenbrock_like, *at)
    assert "cos_1" not in {vertex for edge in graph.edges for vertex in edge}
    x = torch.tensor(at, dtype=torch.float64)

    def by_torch(x):
        u = torch.sin(x[0] * x[1])
        v = u * u + torch.exp(x[2])
        return torch.stack([u, v / (1 + x[0] * x[0]), v, v, x[0], 0 * x[0] + 3])

    expected = torch.autograd.functional.jacobian(by_torch, x).numpy()
    for order in (forward_order, reverse_order, markowitz_order, optimal_order):
        found = eliminate(graph, order(graph)).jacobian
        # No entry is a sum of more than 3 products of 8 numbers below 3: 2 · 24 · 3 roundings.
        assert np.abs(found - expected).max() <= 2 * 24 * 3 * 2.0**-53
        assert np.array_equal(found == 0, expected == 0)


def test_arrays_are_not_vertices():
    with pytest.raises(ValueError, match="numbers only"):
        linearised(lambda x: np.sum(x * np.ones(3)), 1.0)


def test_a_diamond_by_hand():
    assert eliminate(diamond(), ["a", "b"]) == (np.array([[31]]), 2)


def test_an_overwritten_accumulator_is_rejected():
    def overwriting(graph, order):
        below, above = accumulation._adjacency(graph)
        for v in order:
            for i, inner in below[v].items():
                for k, outer in above[v].items():
                    above[i][k] = below[k][i] = outer * inner  # not added to what is there
            accumulation._remove(v, below, above)
        rows = [[below[j].get(i, 0) for i in graph.inputs] for j in graph.outputs]
        return accumulation.Accumulation(np.array(rows), 0)

    check_orders(eliminate, diamond())
    with pytest.raises(AssertionError):
        check_orders(overwriting, diamond())


def test_cross_country_can_beat_both_modes():
    # A bottleneck: 3 inputs -> 3 -> 1 -> 3 -> 3 outputs. The middle vertex must go last.
    edges = {(f"x{i}", f"a{i}"): 1 for i in range(3)} | {(f"a{i}", "m"): 1 for i in range(3)}
    edges |= {("m", f"b{i}"): 1 for i in range(3)} | {(f"b{i}", f"y{i}"): 1 for i in range(3)}
    graph = Linearised(("x0", "x1", "x2"), ("y0", "y1", "y2"), edges)
    cost = {
        order: eliminate(graph, order(graph)).multiplications
        for order in (forward_order, reverse_order, markowitz_order, optimal_order)
    }
    assert cost[optimal_order] == cost[markowitz_order] == 3 + 3 + 9
    assert cost[forward_order] == cost[reverse_order] == 3 + 9 + 9


def test_markowitz_is_not_always_optimal():
    rng = np.random.default_rng(0)
    worse = 0
    for _ in range(300):
        pairs = [(i, j) for i, j in itertools.combinations(range(10), 2) if j >= 2 and i < 8]
        edges = {pair: 1 for pair in pairs if rng.random() < 0.4}
        graph = Linearised((0, 1), (8, 9), edges)
        greedy = eliminate(graph, markowitz_order(graph)).multiplications
        best = eliminate(graph, optimal_order(graph)).multiplications
        assert greedy >= best
        worse += greedy > best
    assert worse > 0
