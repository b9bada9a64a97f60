"""Accumulate Jacobians in any order, and count what each order costs.

The chain rule fixes the Jacobian, not the order in which its products are formed. For a chain of
Jacobian matrices, `optimal_bracketing` finds the cheapest order by dynamic programming, to compare
with pure forward and reverse mode. For a graph of scalar operations with its local partial
derivatives (`Linearised`), `eliminate` removes the intermediate vertices in any order;
`forward_order`, `reverse_order` and `markowitz_order` choose one, and `optimal_order` searches all
of them, as one must in the worst case: the problem is NP-complete. `linearised` makes the graph
of a plain function of numbers.

Cost is the number of scalar multiplications. Sources: Griewank & Walther 2008, chapters 9 and 10;
Naumann 2008, "Optimal Jacobian accumulation is NP-complete"; chapter 6.5.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from ffverify.reference.programs.graph import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Array: TypeAlias = "np.ndarray[Any, Any]"
Vertex: TypeAlias = Hashable
Bracketing: TypeAlias = "int | tuple[Bracketing, Bracketing]"
T = TypeVar("T")

LARGEST_SEARCH = 16  # vertices: every subset is visited, 2^16 take about a second


# Chains of Jacobian matrices. The product is written J_0 J_1 ... J_{k-1}, so J_0 belongs to the
# function applied last. A bracketing is a nested pair of positions: ((0, 1), 2) is (J_0 J_1) J_2.


def forward_bracketing(k: int) -> Bracketing:
    """Return J_0 (J_1 (J_2 ...)): forward mode, from the inputs on the right."""
    tree: Bracketing = k - 1
    for i in reversed(range(k - 1)):
        tree = (i, tree)
    return tree


def reverse_bracketing(k: int) -> Bracketing:
    """Return ((J_0 J_1) J_2) ...: reverse mode, from the outputs on the left."""
    tree: Bracketing = 0
    for i in range(1, k):
        tree = (tree, i)
    return tree


def optimal_bracketing(shapes: Sequence[tuple[int, int]]) -> Bracketing:
    """Find a cheapest bracketing, by dynamic programming over subchains in O(k³) (Godbole 1973)."""
    _check_chain(shapes)
    best: dict[tuple[int, int], tuple[int, Bracketing]] = {}
    for length in range(len(shapes)):
        for first in range(len(shapes) - length):
            last = first + length
            splits: list[tuple[int, Bracketing]] = [] if length else [(0, first)]
            for k in range(first, last):
                (left_cost, left), (right_cost, right) = best[first, k], best[k + 1, last]
                product = shapes[first][0] * shapes[k][1] * shapes[last][1]
                splits.append((left_cost + right_cost + product, (left, right)))
            best[first, last] = min(splits, key=lambda split: split[0])
    return best[0, len(shapes) - 1][1]


def bracketing_cost(shapes: Sequence[tuple[int, int]], tree: Bracketing) -> int:
    """Count the multiplications of the chain in this order: l·m·n for [l, m] times [m, n]."""
    _check_chain(shapes)
    leaves = [(rows, columns, 0) for rows, columns in shapes]

    def product(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
        return a[0], b[1], a[2] + b[2] + a[0] * a[1] * b[1]

    return _fold(leaves, tree, product)[2]


def multiply_chain(jacobians: Sequence[Array], tree: Bracketing) -> Array:
    """Multiply J_0 J_1 ... in the order of ``tree``."""
    _check_chain([jacobian.shape for jacobian in jacobians])
    return _fold(jacobians, tree, np.matmul)


def _fold(leaves: Sequence[T], tree: Bracketing, product: Callable[[T, T], T]) -> T:
    """Evaluate a bracketing, with a stack of its own: a chain may be longer than Python's."""
    done: list[T] = []
    todo: list[Bracketing | None] = [tree]
    positions = []
    while todo:
        node = todo.pop()
        if node is None:
            right, left = done.pop(), done.pop()
            done.append(product(left, right))
        elif isinstance(node, tuple):
            todo += [None, node[1], node[0]]
        else:
            positions.append(node)
            done.append(leaves[node])
    if positions != list(range(len(leaves))):
        raise ValueError(
            f"the bracketing takes the matrices in the order {positions}, not each once from left "
            f"to right: give a nested pair of the positions 0 to {len(leaves) - 1}"
        )
    return done[0]


def _check_chain(shapes: Sequence[tuple[int, ...]]) -> None:
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise ValueError(
            f"shapes {list(shapes)} are no chain: give at least one, each (rows, columns)"
        )
    for i, (left, right) in enumerate(pairwise(shapes)):
        if left[1] != right[0]:
            raise ValueError(
                f"matrix {i} of shape {left} and matrix {i + 1} of shape {right} do not multiply: "
                "write the chain with the last function's Jacobian first"
            )


# Graphs of scalar operations


@dataclass(frozen=True)
class Linearised:
    """A linearised computational graph: ``edges[i, j]`` is the local partial derivative ∂j/∂i.

    Inputs are vertices without predecessors, outputs without successors; where an output also feeds
    another vertex, give it a copy with partial derivative 1. Partials may be floats or Fractions.
    """

    inputs: tuple[Vertex, ...]
    outputs: tuple[Vertex, ...]
    edges: Mapping[tuple[Vertex, Vertex], Any]

    def __post_init__(self) -> None:
        for i, j in self.edges:
            if j in self.inputs or i in self.outputs:
                raise ValueError(
                    f"edge {i!r} -> {j!r} enters an input or leaves an output: "
                    "insert a copy with partial derivative 1"
                )

    @property
    def intermediates(self) -> tuple[Vertex, ...]:
        """The vertices between inputs and outputs, each after those it is computed from."""
        predecessors: dict[Vertex, list[Vertex]] = {}
        for i, j in self.edges:
            predecessors.setdefault(j, []).append(i)
        ends = {*self.inputs, *self.outputs}
        return tuple(v for v in TopologicalSorter(predecessors).static_order() if v not in ends)


def linearised(f: Callable[..., Any], *args: float) -> Linearised:
    """Trace f, a function of numbers, and evaluate its local partial derivatives at ``args``.

    Vertices carry the names of the trace's nodes; operations that no output depends on are left
    out. An output that is used further, or returned twice, gets a vertex of its own.

    Raises
    ------
    ValueError
        where f computes with arrays: their elements would have to be vertices.
    """
    graph = trace(f, *map(float, args))
    alive = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node in alive:
            alive.update(node.inputs)
    edges: dict[tuple[Vertex, Vertex], Any] = {}
    for node in graph.nodes:
        if node.shape != ():
            raise ValueError(f"{node!r} is an array: write f with numbers only, one per vertex")
        values = [source.value for source in node.inputs]
        for k, source in enumerate(node.inputs):
            assert node.primitive is not None  # noqa: S101 - nodes are applications
            if node in alive and not source.is_constant and k in node.primitive.active:
                partial = node.primitive.push(k, np.float64(1), node.value, values, node.params)
                edge = (source.name, node.name)
                edges[edge] = edges.get(edge, 0) + partial  # in x * x both factors are x
    used = {source for source, _ in edges} | {node.name for node in graph.inputs}
    outputs: list[Vertex] = []
    for i, node in enumerate(graph.outputs):
        if node.name in used or node.name in outputs:
            outputs.append(f"output_{i}")
            if not node.is_constant:
                edges[node.name, outputs[-1]] = 1.0
        else:
            outputs.append(node.name)
    return Linearised(tuple(node.name for node in graph.inputs), tuple(outputs), edges)


class Accumulation(NamedTuple):
    """A Jacobian [outputs, inputs] and the multiplications spent on it."""

    jacobian: Array
    multiplications: int


def eliminate(graph: Linearised, order: Iterable[Vertex]) -> Accumulation:
    """Accumulate the Jacobian by eliminating the intermediate vertices in this order.

    Eliminating v adds c_vi · c_kv to c_ki for each predecessor i and successor k of v. What remains
    are edges from inputs to outputs: the Jacobian, the same for every order.
    """
    order = list(order)
    if len(order) != len(graph.intermediates) or {*order} != {*graph.intermediates}:
        raise ValueError(
            f"the order {order} must name each of the vertices {[*graph.intermediates]} once"
        )
    below, above = _adjacency(graph)
    multiplications = 0
    for v in order:
        for i, inner in below[v].items():
            for k, outer in above[v].items():
                above[i][k] = below[k][i] = outer * inner + below[k].get(i, 0)
        multiplications += len(below[v]) * len(above[v])
        _remove(v, below, above)
    jacobian = [[below.get(j, {}).get(i, 0) for i in graph.inputs] for j in graph.outputs]
    return Accumulation(np.array(jacobian), multiplications)


def forward_order(graph: Linearised) -> tuple[Vertex, ...]:
    """Return the order of sparse forward mode: vertices as they are computed."""
    return graph.intermediates


def reverse_order(graph: Linearised) -> tuple[Vertex, ...]:
    """Return the order of sparse reverse mode: the last computed vertex first."""
    return graph.intermediates[::-1]


def markowitz_order(graph: Linearised) -> tuple[Vertex, ...]:
    """Choose at each step a vertex that is cheapest to eliminate now; of equal ones the first.

    A heuristic (Markowitz 1957, in Griewank & Walther section 10.3): good, not always optimal.
    """
    below, above = _adjacency(graph)
    rest = list(graph.intermediates)
    order = []
    while rest:
        v = min(rest, key=lambda u: len(below[u]) * len(above[u]))
        for i in below[v]:
            for k in above[v]:
                above[i][k] = below[k][i] = 1
        _remove(v, below, above)
        rest.remove(v)
        order.append(v)
    return tuple(order)


def optimal_order(graph: Linearised) -> tuple[Vertex, ...]:
    """Find a cheapest elimination order among all, for at most 16 intermediate vertices.

    Which edges exist once a set of vertices is gone does not depend on the order in which they
    went: an edge i -> k stands for the paths through them. So the cheapest order for each set
    follows from the sets with one vertex less: 2^n steps instead of n!.
    """
    vertices = graph.intermediates
    if len(vertices) > LARGEST_SEARCH:
        raise ValueError(
            f"{len(vertices)} intermediate vertices have 2^{len(vertices)} subsets to search: "
            f"use markowitz_order beyond {LARGEST_SEARCH}"
        )
    names = [*vertices, *graph.inputs, *graph.outputs]
    bit = {v: 1 << n for n, v in enumerate(names)}
    below, above = _adjacency(graph)
    sources = [sum(bit[i] for i in below[v]) for v in vertices]
    sinks = [sum(bit[k] for k in above[v]) for v in vertices]

    def neighbours(links: list[int], n: int, gone: int) -> int:
        """Count the vertices that n reaches over ``links`` through vertices that are gone."""
        reached = links[n]
        todo = reached & gone
        while todo:
            lowest = todo & -todo
            new = links[lowest.bit_length() - 1] & ~reached
            reached |= new
            todo = (todo ^ lowest) | (new & gone)
        return (reached & ~gone).bit_count()

    best: list[tuple[int, int]] = [(0, -1)]  # for each set: its cost, and which vertex goes last
    for gone in range(1, 1 << len(vertices)):
        choices = []
        for n in range(len(vertices)):
            if gone >> n & 1:
                before = gone ^ (1 << n)
                cost = neighbours(sources, n, before) * neighbours(sinks, n, before)
                choices.append((best[before][0] + cost, n))
        best.append(min(choices))
    order = []
    gone = len(best) - 1
    while gone:
        last = best[gone][1]
        order.append(vertices[last])
        gone ^= 1 << last
    return tuple(reversed(order))


Links: TypeAlias = dict[Vertex, dict[Vertex, Any]]


def _adjacency(graph: Linearised) -> tuple[Links, Links]:
    """Return the partials by target, {j: {i: ∂j/∂i}}, and by source, {i: {j: ∂j/∂i}}."""
    vertices = (*graph.inputs, *graph.intermediates, *graph.outputs)
    below: Links = {v: {} for v in vertices}
    above: Links = {v: {} for v in vertices}
    for (i, j), partial in graph.edges.items():
        below[j][i] = above[i][j] = partial
    return below, above


def _remove(v: Vertex, below: Links, above: Links) -> None:
    for i in below.pop(v):
        del above[i][v]
    for k in above.pop(v):
        del below[k][v]
