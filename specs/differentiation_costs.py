"""Section 6.5: what derivatives cost, in operations that are counted on the engine's graphs."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import lists
from ffverify.conformance.pictures import Curve, Panel
from ffverify.exact.formats import Array, Format
from ffverify.truth import textbook

from . import programs
from .programs import Code

# ---------------------------------------------------------------------------------------------
# Modes
# ---------------------------------------------------------------------------------------------


def _counted(check: Check, n: int, hidden: int, m: int) -> tuple[Any, Callable[..., float]]:
    """Give a network of n inputs and m outputs, and what counts a program's operations at a point."""
    f = programs.namespace(check)
    x, A, B = programs.typed(check, np.ones(n), direction(n, hidden), direction(hidden, m))

    def network(x: Any, A: Any, B: Any) -> Any:
        return f.tanh(x @ A) @ B

    return network, lambda fn: float(f.trace(fn, x, A, B).flops)


@claim(
    "6.5",
    "The full Jacobian costs forward mode one pass for each input, reverse mode one for each "
    "output: the cheaper is decided where (inputs × JVP) = (outputs × VJP) in operations.",
    functions=["jacobian", "linearize", "trace", "vjp"],
    sizes=lists(1, 8, least=3, most=3),
)
def mode_cost_scales_with_the_other_side(check: Check, sizes: list[int]) -> None:
    f = programs.namespace(check)
    n, hidden, m = sizes
    (v,) = programs.typed(check, np.ones(m))
    network, operations = _counted(check, n, hidden, m)
    once = operations(network)
    push = operations(lambda x, A, B: f.linearize(lambda x: network(x, A, B), x)[1](x)) - once
    pull = operations(lambda x, A, B: f.vjp(lambda x: network(x, A, B), x)[1](v)[0]) - once
    forward = operations(f.jacobian(network, mode="forward"))
    reverse = operations(f.jacobian(network, mode="reverse"))
    for mode, total, expected, passes in (
        ("forward", forward, once + n * push, f"{n} inputs"),
        ("reverse", reverse, once + m * pull, f"{m} outputs"),
    ):
        check.that(total == expected, f"operations of {mode} mode, {passes}", total, expected)
    cheaper = operations(f.jacobian(network))
    # Finding out how many outputs there are may take one more evaluation of the function.
    most = once + (forward if n < m else reverse)
    where = f"operations of the cheaper mode for {n} inputs and {m} outputs"
    check.measured = (
        f"{n} inputs, {m} outputs: {forward:g} operations by forward, {reverse:g} by reverse mode "
        f"(exact counts)"
    )
    check.that(cheaper <= most, where, cheaper, f"at most {most}")


@mode_cost_scales_with_the_other_side.plot(
    "A Jacobian costs forward mode one pass for each input, reverse mode one for each output"
)
def _(check: Check) -> list[Panel]:
    f, sides = programs.namespace(check), np.arange(1, 17)

    def panel(title: str, x_label: str, shape: Callable[[int], tuple[int, int, int]]) -> Panel:
        curves = []
        for mode in ("forward", "reverse"):
            counts = []
            for side in sides.tolist():
                network, operations = _counted(check, *shape(side))
                counts.append(operations(f.jacobian(network, mode=mode)))
            curves.append(Curve(mode, sides, np.array(counts), "points"))
        return Panel(title, x_label, "operations for the Jacobian", curves)

    return [
        panel("4 outputs", "inputs", lambda n: (n, 8, 4)),
        panel("4 inputs", "outputs", lambda m: (4, 8, m)),
    ]


@mode_cost_scales_with_the_other_side.bug("jacobian", "forward mode in name, run row by row")
def _(f: Any, fn: Any, *, mode: str = "cheaper") -> Any:
    return f.jacobian(fn, mode="reverse" if mode == "forward" else mode)


@mode_cost_scales_with_the_other_side.bug("jacobian", "the function is run again for every row")
def _(f: Any, fn: Any, *, mode: str = "cheaper") -> Any:
    if mode != "reverse":
        return f.jacobian(fn, mode=mode)

    def rows(x: Any, *data: Any) -> Any:
        def of_x(x: Any) -> Any:
            return fn(x, *data)

        return np.stack([f.vjp(of_x, x)[1](e)[0] for e in np.eye(f.vjp(of_x, x)[0].shape[0])])

    return rows


DIAMONDS: Code = [["tanh", 0], *(["multiply", place, place] for place in range(1, 9))]


@claim(
    "6.5",
    "Cheap gradient: value and gradient of a number take at most 5 times the operations of the "
    "number, whatever the number of inputs; the memory of reverse mode grows with depth.",
    functions=["grad", "jvp", "trace", "vjp", *programs.NEEDED],
    code=programs.code((3,), (3, 3), start=DIAMONDS),
    inputs=programs.inputs((3,), (3, 3)),
)
def cheap_gradient(check: Check, code: Code, inputs: list[Array]) -> None:
    f = programs.namespace(check)

    def number(*xs: Any) -> Any:
        return programs.run(f, code, xs).sum()

    function = float(f.trace(number, *inputs).flops)
    gradient = float(f.trace(f.grad(number, argnums=(0, 1)), *inputs).flops)
    check.that(gradient <= 5 * function, "operations of the gradient", gradient, 5 * function)
    (x,) = programs.typed(check, np.full(10_000, 0.5))
    reverse = _growth_with_depth(lambda chain: f.vjp(chain, x)[1](x), x.nbytes)
    forward = _growth_with_depth(lambda chain: f.jvp(chain, (x,), (x,)), x.nbytes)
    # Reverse mode keeps each layer's value, and at most its slope and cotangent beside it.
    check.that(1 <= reverse <= 3, "arrays that reverse mode keeps per layer", reverse, "1 to 3")
    check.measured = (
        f"arrays kept per layer of a chain: {reverse:.2f} in reverse mode, {forward:.2f} in forward "
        f"mode; the last program's gradient takes {gradient / function:.2f} times its operations "
        f"(exact counts)"
    )
    check.that(forward <= 0.01, "arrays that forward mode keeps per layer", forward, 0)


def _growth_with_depth(run: Callable[..., Any], layer: int) -> float:
    """Measure the arrays of one layer's size by which the peak of memory grows with each layer.

    What is made at a first run, or by chance beside one, is no matter of depth: the least of several counts.
    """

    def peak(depth: int) -> int:
        tracemalloc.start()
        run(lambda x: _tanhs(x, depth))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    shallow, deep = (min(peak(depth) for _ in range(3)) for depth in (8, 24))
    return (deep - shallow) / (16 * layer)


def _tanhs(x: Any, depth: int) -> Any:
    for _ in range(depth):
        x = np.tanh(x)
    return x


@cheap_gradient.bug("grad", "no memo: the rules of a reused node are applied for every use")
def _(f: Any, fn: Any, *, argnums: Any) -> Any:
    def gradient(*args: Any) -> Any:
        graph = f.trace(fn, *args)
        bars: dict[Any, Any] = {}

        def visit(node: Any, y_bar: Any) -> None:
            if node.primitive is None:
                bars[node] = bars[node] + y_bar if node in bars else y_bar
                return
            values = [x.value for x in node.inputs]
            for k, x in enumerate(node.inputs):
                if k in node.primitive.active and x not in graph.constants:
                    visit(x, node.primitive.pull(k, y_bar, node.value, values, node.params))

        visit(graph.outputs[0], np.ones(()))
        return tuple(bars.get(graph.inputs[i], args[i] * 0) for i in argnums)

    return gradient


# ---------------------------------------------------------------------------------------------
# Orders
# ---------------------------------------------------------------------------------------------


def _bracketings(first: int, last: int) -> Iterator[Any]:
    """Give every way to bracket the matrices first … last."""
    if first == last:
        yield first
    for split in range(first, last):
        for left in _bracketings(first, split):
            for right in _bracketings(split + 1, last):
                yield (left, right)


def _multiplications(shapes: list[tuple[int, int]], tree: Any) -> tuple[int, tuple[int, int]]:
    """Count the multiplications of a bracketing; give the product's shape, too."""
    if isinstance(tree, int):
        return 0, shapes[tree]
    (left, (rows, inner)), (right, (_, columns)) = (_multiplications(shapes, t) for t in tree)
    return left + right + rows * inner * columns, (rows, columns)


def _partials(_fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
    """Draw a linearised graph: inputs 0, 1, then vertices with edges [from, to, partial]."""

    @st.composite
    def drawn(draw: st.DrawFn) -> list[list[int]]:
        edges = []
        for vertex in range(2, draw(st.integers(4, 7))):
            below = draw(st.lists(st.integers(0, vertex - 1), min_size=1, max_size=3, unique=True))
            edges += [[x, vertex, draw(st.integers(1, 4))] for x in sorted(below)]
        return edges

    return drawn()


@claim(
    "6.5",
    "Every order of accumulating a Jacobian gives the same Jacobian; dynamic programming finds the "
    "cheapest order of a chain, which can be neither forward nor reverse mode; on a graph only a "
    "search finds the cheapest elimination, and heuristics cost at least as much.",
    functions=[
        "Linearised", "bracketing_cost", "eliminate", "forward_bracketing", "forward_order",
        "markowitz_order", "multiply_chain", "optimal_bracketing", "optimal_order",
        "reverse_bracketing", "reverse_order",
    ],
    sides=lists(1, 5, least=3, most=6),
    edges=_partials,
)  # fmt: skip
def jacobian_accumulation_orders(check: Check, sides: list[int], edges: list[list[int]]) -> None:
    f = programs.namespace(check)
    for chain in (sides, [5, 1, 5, 1, 5]):  # the second: the vectors first, then outwards
        shapes = list(itertools.pairwise(chain))
        small = np.random.default_rng(math.prod(chain))  # integers: exact in every order
        factors = programs.typed(check, *(small.integers(-2, 3, size=s) for s in shapes))
        trees = list(_bracketings(0, len(shapes) - 1))
        costs = {tree: _multiplications(shapes, tree)[0] for tree in trees}
        product = f.multiply_chain(factors, f.reverse_bracketing(len(shapes)))
        for tree in trees:
            check.equal(f.multiply_chain(factors, tree), product, f"Jacobian bracketed {tree}")
            check.equal(f.bracketing_cost(shapes, tree), costs[tree], f"cost of {tree} of {shapes}")
        best = f.optimal_bracketing(shapes)
        where = f"cost of the best bracketing of {shapes}"
        check.that(costs.get(best) == min(costs.values()), where, best, min(costs.values()))
    pure = [costs[f.forward_bracketing(4)], costs[f.reverse_bracketing(4)]]
    check.that(costs[best] < min(pure), f"cost of {best} beside pure modes", costs[best], pure)
    _check_eliminations(check, f, edges)


def _check_eliminations(check: Check, f: Any, edges: list[list[int]]) -> None:
    sinks = {to for _, to, _ in edges} - {start for start, _, _ in edges}
    partials = {(start, to): Fraction(value) for start, to, value in edges}
    graph = f.Linearised((0, 1), tuple(sorted(sinks)), partials)
    done = [f.eliminate(graph, order) for order in itertools.permutations(graph.intermediates)]
    least = min(one.multiplications for one in done)
    jacobian = np.array([[_paths(partials, i, j) for i in (0, 1)] for j in graph.outputs])
    for one in done:
        check.that(bool(np.all(one.jacobian == jacobian)), "Jacobian", one.jacobian, jacobian)
    found = f.eliminate(graph, f.optimal_order(graph)).multiplications
    check.that(found == least, "multiplications of the optimal elimination", found, least)
    for heuristic in (f.forward_order, f.reverse_order, f.markowitz_order):
        cost = f.eliminate(graph, heuristic(graph)).multiplications
        check.that(cost >= least, "multiplications of a heuristic", cost, f"at least {least}")


def _paths(partials: dict[tuple[int, int], Fraction], start: int, end: int) -> Fraction:
    """Sum the products of partials over all paths (Bauer's formula)."""
    if start == end:
        return Fraction(1)
    steps = ((to, value) for (here, to), value in partials.items() if here == start)
    return sum((value * _paths(partials, to, end) for to, value in steps), Fraction(0))


@jacobian_accumulation_orders.bug("bracketing_cost", "rows × columns, the inner side forgotten")
def _(_f: Any, shapes: Any, tree: Any) -> int:
    def cost(tree: Any) -> tuple[int, tuple[int, int]]:
        if isinstance(tree, int):
            return 0, shapes[tree]
        (left, (rows, _)), (right, (_, columns)) = map(cost, tree)
        return left + right + rows * columns, (rows, columns)

    return cost(tree)[0]


@jacobian_accumulation_orders.bug("optimal_bracketing", "the pure mode that is cheaper")
def _(f: Any, shapes: Any) -> Any:
    pure = f.forward_bracketing(len(shapes)), f.reverse_bracketing(len(shapes))
    return min(pure, key=lambda tree: f.bracketing_cost(shapes, tree))


@jacobian_accumulation_orders.bug("eliminate", "a new edge replaces the one that was there")
def _(f: Any, graph: Any, order: Any) -> Any:
    edges = dict(graph.edges)
    count = 0
    for v in order:
        inner = [(i, c) for (i, j), c in edges.items() if j == v]
        outer = [(k, c) for (j, k), c in edges.items() if j == v]
        count += len(inner) * len(outer)
        edges.update({(i, k): c * d for i, c in inner for k, d in outer})
        edges = {ends: c for ends, c in edges.items() if v not in ends}
    jacobian = [[edges.get((i, j), 0) for i in graph.inputs] for j in graph.outputs]
    return f.eliminate(graph, order)._replace(jacobian=np.array(jacobian))


# ---------------------------------------------------------------------------------------------
# Simplification
# ---------------------------------------------------------------------------------------------


@claim(
    "6.5",
    "Merging common subexpressions, folding constants and dropping dead nodes leave every value as "
    "it was, with fewer operations; so does compiling the program.",
    functions=["compile", "grad", "simplify", "trace", *programs.NEEDED],
    examples=15,
    code=programs.code((3,), (2, 3), start=[["tanh", 1]]),
    inputs=programs.inputs((3,), (2, 3)),
)
def graph_simplification_preserves_values(check: Check, code: Code, inputs: list[Array]) -> None:
    f = programs.namespace(check)
    shape = programs.run(textbook.namespace, code, inputs).shape
    half, third = programs.typed(check, direction(*shape), direction(*shape) / 3)

    def once(*xs: Any) -> Any:
        return (programs.run(f, code, xs) * half + np.exp(half)).sum()

    def twice(*xs: Any) -> Any:
        programs.run(f, code, xs)  # dead
        again = (programs.run(f, code, xs) * third + np.exp(half)).sum()
        return once(*xs) - again

    for name, fn in (("value", twice), ("gradient", f.grad(twice, argnums=(0, 1)))):
        graph, wanted = f.trace(fn, *inputs), fn(*inputs)
        _check_same(check, graph(*inputs), wanted, f"{name} of the traced program")
        simple = f.simplify(graph)
        _check_same(check, simple(*inputs), wanted, f"{name} of the simplified program")
        _check_same(check, f.compile(fn)(*inputs), wanted, f"{name} of the compiled program")
        fewer = len(f.trace(once, *inputs).nodes) + 4 if name == "value" else len(graph.nodes)
        where = f"operations of the simplified {name}"
        check.that(len(simple.nodes) <= fewer, where, len(simple.nodes), f"at most {fewer}")


def _check_same(check: Check, found: Any, wanted: Any, where: str) -> None:
    pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]
    for number, right in pairs:
        check.equal(number, right, where)


@graph_simplification_preserves_values.bug("simplify", "constants of one shape are merged")
def _(f: Any, graph: Any) -> Any:
    first: dict[Any, Any] = {}
    for node in graph.constants:
        first.setdefault(node.shape, node)
    for node in graph.nodes:
        node.inputs = tuple(first[x.shape] if x in graph.constants else x for x in node.inputs)
    return f.simplify(graph)


@graph_simplification_preserves_values.bug("simplify", "nothing is merged or dropped")
def _(_f: Any, graph: Any) -> Any:
    return graph


@graph_simplification_preserves_values.bug("compile", "the first call's result is kept for all")
def _(f: Any, fn: Any) -> Any:
    kept: list[Any] = []

    def compiled(*args: Any) -> Any:
        kept.append(f.compile(fn)(*(x * 0 + 1 for x in args)))
        return kept[0]

    return compiled
