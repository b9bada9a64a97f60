"""Graphs: see what a function computes, operation by operation.

`trace` runs a function once and returns its graph, which can be printed, drawn (`Graph.dot`),
counted (`Graph.flops`, `Graph.counts`), run again (``graph(*args)``), or interpreted in another
arithmetic: go through `Graph.nodes` in order, each applies `node.primitive` to the values of
`node.inputs` with the keywords `node.params`.
"""

from __future__ import annotations

import inspect
import itertools
import keyword
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive
from ffverify.reference.engine.tracing import Recording, Tape, explain
from ffverify.reference.engine.tree import LEAF, Structure, flatten, flatten_like, unflatten
from ffverify.reference.engine.var import Value, Var, dtype_of, innermost, shape_of


@dataclass(eq=False, slots=True)
class Node:
    """One value of a graph: an input, a constant, or a primitive applied to earlier nodes.

    Attributes
    ----------
    name : unique and readable, such as ``params_0_W``, ``tanh_2``, ``constant_1``.
    primitive : None for inputs and constants.
    inputs, params : what the primitive is applied to, and its keyword arguments.
    shape, dtype : of the value in the traced run.
    value : the value in the traced run; for a constant, the constant.
    """

    name: str
    primitive: Primitive | None
    inputs: tuple[Node, ...]
    params: dict[str, Any]
    value: Value
    is_constant: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return shape_of(self.value)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the value."""
        return dtype_of(self.value)

    @property
    def flops(self) -> float:
        """Floating-point operations of this application, as its primitive counts them."""
        if self.primitive is None:
            return 0.0
        return self.primitive.count_flops(self.value, [n.value for n in self.inputs], self.params)

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(eq=False, slots=True)
class Graph:
    """The operations of a function on arguments of given shapes.

    Attributes
    ----------
    inputs : one node for each array (or float) among the arguments.
    constants : arrays and numbers that the function brought along.
    nodes : the applications of primitives, each after the nodes it uses.
    outputs : one node for each leaf of the result, whose structure is `out_structure`.
    branches : nodes on whose value a Python branch or a shape depended: the graph holds for
        arguments that take the same branches.
    """

    inputs: list[Node]
    constants: list[Node]
    nodes: list[Node]
    outputs: list[Node]
    in_structure: Structure
    out_structure: Structure
    branches: list[Node] = field(default_factory=list)

    @property
    def flops(self) -> float:
        """Floating-point operations of one run."""
        return sum(node.flops for node in self.nodes)

    @property
    def memory(self) -> int:
        """Bytes that all intermediate values take when all are kept, as reverse mode keeps them."""
        return sum(prod(node.shape) * node.dtype.itemsize for node in self.nodes)

    def counts(self) -> dict[str, int]:
        """Return how many times each primitive is applied, by name."""
        return dict(sorted(Counter(n.primitive.name for n in self.nodes if n.primitive).items()))

    def __call__(self, *args: Any) -> Any:
        """Run the graph on other arguments of the same structure and shapes."""
        leaves = dynamic_leaves(flatten_like(self.in_structure, args, "arguments"))[0]
        return unflatten(self.out_structure, self.run([leaves[i] for i in sorted(leaves)]))

    def run(self, leaves: Sequence[Value]) -> list[Value]:
        """Run the graph on the leaves of its inputs; returns the leaves of the result."""
        values: dict[Node, Value] = {node: node.value for node in self.constants}
        values.update(zip(self.inputs, leaves, strict=True))
        with np.errstate(all="ignore"):
            for node in self.nodes:
                assert node.primitive is not None  # noqa: S101  # nodes are applications
                values[node] = node.primitive(*(values[x] for x in node.inputs), **node.params)
        return [values[node] for node in self.outputs]

    def __str__(self) -> str:
        lines = [f"inputs   {', '.join(map(repr, self.inputs))}"]
        for node in self.constants:
            text = repr(innermost(node.value)) if node.shape == () else "..."
            lines.append(f"constant {node!r} = {text}")
        for node in self.nodes:
            arguments = [x.name for x in node.inputs]
            arguments += [f"{k}={v!r}" for k, v in node.params.items()]
            lines.append(
                f"{node!r} = {node.primitive and node.primitive.name}({', '.join(arguments)})"
            )
        lines.append(f"outputs  {', '.join(node.name for node in self.outputs)}")
        return "\n".join(lines)

    def dot(self) -> str:
        """Return the graph in the DOT language of Graphviz."""
        lines = ["digraph {", "  rankdir=BT;"]
        for node in [*self.inputs, *self.constants, *self.nodes]:
            operation = node.primitive.name if node.primitive else node.name
            label = f"{operation}\\n{node.dtype}{list(node.shape)}"
            shape = "ellipse" if node.primitive else "box"
            style = ", penwidth=2" if node in self.outputs else ""
            lines.append(f'  {node.name} [label="{label}", shape={shape}{style}];')
            lines += [f"  {x.name} -> {node.name};" for x in node.inputs]
        return "\n".join([*lines, "}"])


def trace(f: Callable[..., Any], *args: Any) -> Graph:
    """Run f once and return its graph.

    Arrays and floats among the arguments (pytrees) become inputs; anything else, such as a Python
    int, is part of the program.
    """
    leaves, structure = flatten(args)
    dynamic, _ = dynamic_leaves(leaves)
    recording = Recording(records_all=True)
    inputs = dict(zip(dynamic, recording.inputs(list(dynamic.values())), strict=True))
    try:
        out = f(*unflatten(structure, [inputs.get(i, leaf) for i, leaf in enumerate(leaves)]))
    except ValueError as error:
        explain(error)
        raise
    finally:
        tape = recording.close()
    out_leaves, out_structure = flatten(out)
    names = argument_names(f, args)
    return _assemble(
        recording,
        tape,
        {names[i]: value for i, value in dynamic.items()},
        out_leaves,
        in_structure=structure,
        out_structure=out_structure,
    )


class Names(set[str]):
    """The names that are taken; each `new` one is an identifier like none of them."""

    def new(self, wanted: str) -> str:
        """Return the name, or, where it is taken, the name with a number."""
        wanted = unicodedata.normalize("NFKC", re.sub(r"\W", "_", wanted))  # as Python reads it
        if not wanted.isidentifier():
            wanted = f"_{wanted}"
        name = wanted
        for i in itertools.count(2):
            if name not in self and not keyword.iskeyword(name):
                break
            name = f"{wanted}_{i}"
        self.add(name)
        return name

    def numbered(self, name: str, counts: Counter[str]) -> str:
        """Return ``name_1``, ``name_2``, ... in turn, leaving out what is taken."""
        while True:
            counts[name] += 1
            numbered = f"{name}_{counts[name]}"
            if numbered not in self:
                return self.new(numbered)


def _assemble(
    recording: Recording,
    tape: Tape,
    inputs: dict[str, Value],
    out_leaves: list[Value],
    *,
    in_structure: Structure,
    out_structure: Structure,
) -> Graph:
    graph = Graph([], [], [], [], in_structure, out_structure)
    graph.inputs += [Node(name, None, (), {}, value) for name, value in inputs.items()]
    nodes = [*graph.inputs]  # by place
    constants: dict[int, Node] = {}  # by identity: the tape keeps them alive
    counts: Counter[str] = Counter()
    free = Names(inputs)

    def node_of(value: Value, place: int | None) -> Node:
        if place is not None:
            return nodes[place]
        if id(value) not in constants:
            name = free.numbered("constant", counts)
            constants[id(value)] = Node(name, None, (), {}, value, True)
            graph.constants.append(constants[id(value)])
        return constants[id(value)]

    for value, primitive, params, values, places, _ in tape:
        arguments = tuple(map(node_of, values, places))
        name = free.numbered(re.sub(r"\W", "_", primitive.name), counts)
        nodes.append(Node(name, primitive, arguments, params, value))
        graph.nodes.append(nodes[-1])
    for leaf in out_leaves:
        var = recording.own(leaf)
        graph.outputs.append(node_of(leaf, None if var is None else var.index))
    graph.branches = [nodes[place] for place in recording.branches]
    return graph


def retrace(graph: Graph, apply: Callable[..., Value]) -> Graph:
    """Rebuild a graph, applying ``apply(primitive, *args, **params)`` in place of each node."""
    recording = Recording(records_all=True)
    values: dict[Node, Value] = {node: node.value for node in graph.constants}
    values.update(
        zip(graph.inputs, recording.inputs([node.value for node in graph.inputs]), strict=True)
    )
    try:
        for node in graph.nodes:
            values[node] = apply(node.primitive, *(values[x] for x in node.inputs), **node.params)
    finally:
        tape = recording.close()
    return _assemble(
        recording,
        tape,
        {node.name: node.value for node in graph.inputs},
        [values[node] for node in graph.outputs],
        in_structure=graph.in_structure,
        out_structure=graph.out_structure,
    )


def dynamic_leaves(leaves: Sequence[Any]) -> tuple[dict[int, Value], list[Any]]:
    """Split leaves into {place: array or float} and the list of all others."""
    kinds = (np.ndarray, np.generic, float, Var)
    dynamic = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, kinds)}
    return dynamic, [leaf for i, leaf in enumerate(leaves) if i not in dynamic]


def argument_names(f: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """Return a readable identifier for each leaf of the arguments: ``params_0_W``."""
    try:
        parameters = inspect.signature(f).parameters.values()
        known = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # some callables have no signature
        known = []
    free = Names()
    names: list[str] = []
    for i, arg in enumerate(args):
        base = known[i] if i < len(known) else f"argument_{i}"
        names += [free.new(base + path) for path in _paths(flatten(arg)[1])]
    return names


def _paths(structure: Structure) -> list[str]:
    if structure is LEAF:
        return [""]
    if not isinstance(structure, tuple):
        return []
    _, labels, children = structure
    labels = range(len(children)) if labels is None else labels
    return [
        f"_{label}{path}"
        for label, child in zip(labels, children, strict=True)
        for path in _paths(child)
    ]
