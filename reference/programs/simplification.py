"""Simplify a graph without changing its values: fold constants, merge equal nodes, drop dead ones.

Only rewritings that keep every bit are made: no reordering of sums, no x · 0 = 0. Sums are taken in
the order of memory, so the layout of every array is kept as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, astype, broadcast_to, multiply, reshape
from ffverify.reference.engine.var import Var
from ffverify.reference.primitives.elementary import negative
from ffverify.reference.primitives.shaping import transpose

from .graph import Graph, Node


def simplify(graph: Graph) -> Graph:
    """Return a graph with the same values and fewer operations."""
    known: dict[Any, Node] = {}
    replaced: dict[Node, Node] = {node: node for node in graph.inputs}
    constants: list[Node] = []
    nodes: list[Node] = []

    def merged_constant(node: Node) -> Node:
        key = ("constant", frozen(node.value))
        if key not in known:
            known[key] = Node(f"constant_{len(constants) + 1}", None, (), {}, node.value, True)
            constants.append(known[key])
        return known[key]

    for node in graph.constants:
        replaced[node] = merged_constant(node)
    for node in graph.nodes:
        assert node.primitive is not None  # noqa: S101  # nodes are applications
        arguments = _without_broadcasts(node, tuple(replaced[x] for x in node.inputs))
        if all(x.is_constant for x in arguments):
            replaced[node] = merged_constant(node)  # its value in the traced run is its value
            continue
        same = _identity(node.primitive, arguments, node)
        if same is not None:
            replaced[node] = same
            continue
        key = (node.primitive, arguments, frozen(node.params))
        if key not in known:
            known[key] = Node(node.name, node.primitive, arguments, node.params, node.value)
            nodes.append(known[key])
        replaced[node] = known[key]

    outputs = [replaced[node] for node in graph.outputs]
    branches = [replaced[node] for node in graph.branches]
    alive = set(outputs) | set(branches)
    for node in reversed(nodes):
        if node in alive:
            alive.update(node.inputs)
    return Graph(
        graph.inputs,
        [node for node in constants if node in alive],
        [node for node in nodes if node in alive],
        outputs,
        graph.in_structure,
        graph.out_structure,
        branches,
    )


def _without_broadcasts(node: Node, arguments: tuple[Node, ...]) -> tuple[Node, ...]:
    """Let an elementwise primitive broadcast by itself what was broadcast for it."""
    assert node.primitive is not None  # noqa: S101  # nodes are applications
    if node.primitive.slopes is None:
        return arguments
    short = tuple(x.inputs[0] if x.primitive is broadcast_to else x for x in arguments)
    if short == arguments or np.broadcast_shapes(*(x.shape for x in short)) != node.shape:
        return arguments
    return short if _layout(short, node.dtype) == getattr(node.value, "strides", ()) else arguments


def _layout(arguments: tuple[Node, ...], dtype: Any) -> tuple[int, ...]:
    """Return the strides of what NumPy makes of the arguments elementwise."""
    flags: Any = [["readonly"]] * len(arguments) + [["writeonly", "allocate"]]
    iterator = np.nditer(
        [*(x.value for x in arguments), None],
        ["zerosize_ok"],
        flags,
        [None] * len(arguments) + [dtype],
    )
    return iterator.operands[-1].strides


def _identity(primitive: Primitive, arguments: tuple[Node, ...], node: Node) -> Node | None:
    """Return the argument whose value the node repeats, or None."""
    x = arguments[0]
    alike = _alike(x, node)
    if alike and primitive in (reshape, broadcast_to, astype):
        return x
    if alike and primitive is transpose and node.params["axes"] == tuple(range(len(x.shape))):
        return x
    if primitive in (negative, transpose) and x.primitive is primitive:
        before = x.inputs[0]
        if primitive is negative:
            return before if _alike(before, node) else None
        first, second = x.params["axes"], node.params["axes"]
        if tuple(first[a] for a in second) == tuple(range(len(first))):
            return before
    if primitive is multiply:
        for one, other in (arguments, arguments[::-1]):
            if one.is_constant and _alike(other, node) and np.all(np.equal(one.value, 1)):
                return other
    return None


def _alike(x: Node, y: Node) -> bool:
    """Whether two values have the same type, shape, dtype and memory layout."""
    if type(x.value) is not type(y.value):  # an array, a number of NumPy's, or one of Python's
        return False
    layouts = [getattr(node.value, "strides", ()) for node in (x, y)]
    return x.shape == y.shape and x.dtype == y.dtype and layouts[0] == layouts[1]


def frozen(value: Any) -> Any:
    """Return a hashable stand-in that is equal only for values that cannot be told apart."""
    if type(value) is Var:
        return ("identity", id(value))
    if isinstance(value, dict):
        return tuple((key, frozen(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return (type(value), tuple(map(frozen, value)))
    if isinstance(value, slice):
        return ("slice", frozen(value.start), frozen(value.stop), frozen(value.step))
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return id(value)
        return ("array", value.dtype.str, value.shape, value.strides, value.tobytes())
    if isinstance(value, np.generic):
        return (type(value), value.tobytes())
    if isinstance(value, float):
        return (float, value.hex())  # tells -0.0 from 0.0
    try:
        hash(value)
    except TypeError:
        return ("identity", id(value))
    return (type(value), value)
