"""Shadows of torch programs: traced to ATen, functionalised, decomposed, run on exact numbers.

``trace(fn, args)`` gives the program as a function of precise arrays. The trace sees what autograd
executes, so a backward pass, a custom ``autograd.Function`` and in-place operations come out as plain
ATen operations. Those that the table of operations does not have are decomposed by torch's own
reference formulas; those that only move elements are run by torch itself, on labels.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch._library.custom_ops import OPDEFS
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from .aten import ATEN, FILLS, IGNORED, MOVES, ON_NUMBERS, TYPED
from .aten_formulas import FORMULAS
from .operations import Program, UnknownOperation, Value, arithmetic_of, labels, listed, moved
from .precise import BALLS, Arithmetic, PreciseArray


def backward_of(fn: Callable[..., Any], args: Sequence[Any]) -> Callable[..., Any]:
    """Give the function (args, cotangents of floating results) → gradients of floating args."""

    def backward(*given: Any) -> tuple[Any, ...]:
        leaves = [_leaf(a) for a in given[: len(args)]]
        results = [r for r in listed(fn(*leaves)) if r.is_floating_point()]
        wanted = [a for a in leaves if _floats(a)]
        paired: list[tuple[Any, Any]] = [
            (r, v) for r, v in zip(results, given[len(args) :], strict=True) if r.requires_grad
        ]
        if not paired:
            return tuple(torch.zeros_like(a) for a in wanted)
        outputs, cotangents = zip(*paired, strict=True)
        bars = torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True)
        found: list[Any] = list(bars)  # None for an argument that no path leads to
        return tuple(
            torch.zeros_like(a) if g is None else g for a, g in zip(wanted, found, strict=True)
        )

    return backward


def tangent_of(fn: Callable[..., Any], args: Sequence[Any]) -> Callable[..., Any]:
    """Give the function (args, tangents of floating args) → tangents of floating results."""
    places = [i for i, a in enumerate(args) if _floats(a)]

    def tangent(*given: Any) -> tuple[Any, ...]:
        def of_floats(*floats: Any) -> tuple[Any, ...]:
            full = list(given[: len(args)])
            for i, x in zip(places, floats, strict=True):
                full[i] = x
            return tuple(r for r in listed(fn(*full)) if r.is_floating_point())

        primals = tuple(given[i] for i in places)
        return tuple(torch.func.jvp(of_floats, primals, tuple(given[len(args) :]))[1])

    return tangent


def cotangents_of(fn: Callable[..., Any], args: Sequence[Any]) -> list[Any]:
    """Give one cotangent of ones per floating result, as an example to trace with."""
    return [torch.ones_like(r) for r in listed(fn(*args)) if r.is_floating_point()]


def tangents_of(args: Sequence[Any]) -> list[Any]:
    """Give one tangent of ones per floating argument, as an example to trace with."""
    return [torch.ones_like(a) for a in args if _floats(a)]


def trace(fn: Callable[..., Any], args: Sequence[Any]) -> Program:
    """Trace a torch function at a point and give it as a function of precise arrays.

    Raises
    ------
    UnknownOperation
        Naming the operations that have no exact form.
    """
    examples = [a.detach().cpu() if isinstance(a, torch.Tensor) else a for a in args]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about its own internals
        seen = _traced(lambda *a: tuple(listed(fn(*a))), examples, _custom_operations())
        pure = torch.func.functionalize(seen, remove="mutations_and_views")
        graph = _traced(pure, examples, _DECOMPOSITIONS)
    graph.graph.eliminate_dead_code()
    unknown = sorted({_name(n) for n in graph.graph.nodes if not _known(n)})
    if unknown:
        raise UnknownOperation(*unknown)
    _check_complete(fn, seen, examples)
    return _Interpreter(graph)


def _check_complete(fn: Callable[..., Any], graph: GraphModule, examples: Sequence[Any]) -> None:
    """Refuse a trace that values have gone around (through .numpy() or .item()), as constants.

    A step of half the digits aside, the trace and the function run the same kernels on the same
    numbers; a constant in place of a value would leave them half the digits apart.
    """
    moved_by = [_aside(a) if _floats(a) else a for a in examples]
    expected = listed(fn(*(_copied(a) for a in moved_by)))
    for ours, theirs in zip(graph(*(_copied(a) for a in moved_by)), expected, strict=True):
        if not _floats(theirs):
            continue
        slack = 8 * torch.finfo(theirs.dtype).eps
        if not torch.allclose(ours, theirs.detach().cpu(), rtol=slack, atol=0.0, equal_nan=True):
            raise UnknownOperation("a value that leaves the graph (.numpy() or .item())")


def _aside(a: Any) -> Any:
    return a * (1 + torch.finfo(a.dtype).eps ** 0.5)


def _copied(a: Any) -> Any:
    return a.detach().clone() if isinstance(a, torch.Tensor) else a


def _traced(fn: Callable[..., Any], args: Sequence[Any], table: Any) -> GraphModule:
    return make_fx(fn, decomposition_table=table, _error_on_data_dependent_ops=False)(*args)


def _floats(a: Any) -> bool:
    return isinstance(a, torch.Tensor) and a.is_floating_point()


def _leaf(a: Any) -> Any:
    return a.detach().requires_grad_() if _floats(a) else a


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


class _Interpreter:
    """A traced graph as a program on precise arrays; remembers where moved elements go."""

    def __init__(self, graph: GraphModule) -> None:
        self._nodes = list(graph.graph.nodes)
        self._constants = {
            n.name: _attribute(graph, n.target) for n in self._nodes if n.op == "get_attr"
        }
        self._places: dict[str, Any] = {}
        uses = {u: i for i, n in enumerate(self._nodes) for u in n.all_input_nodes}
        self._last: dict[int, list[Node]] = {}
        for node, i in uses.items():
            self._last.setdefault(i, []).append(node)

    def __call__(self, *args: Value) -> tuple[Any, ...]:
        arithmetic = arithmetic_of(args) or BALLS
        given = iter(args)
        values: dict[Node, Value] = {}
        for i, node in enumerate(self._nodes):
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = _entering(self._constants[node.name], arithmetic)
            elif node.op == "output":
                return tuple(pytree.tree_map_only(Node, values.__getitem__, node.args[0]))
            else:
                values[node] = self._run(node, values, arithmetic)
            for done in self._last.get(i, ()):
                del values[done]
        raise AssertionError("a graph without output")

    def _run(self, node: Node, values: dict[Node, Value], arithmetic: Arithmetic) -> Value:
        args, kwargs = pytree.tree_map_only(Node, values.__getitem__, (node.args, node.kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]]
        name = _name(node)
        floating = _floating_result(node)
        some = any(isinstance(x, PreciseArray) for x in pytree.tree_leaves((args, kwargs)))
        if some and name in MOVES:
            return self._move(node, args, kwargs)
        if name in ATEN and (some or (floating and name in ON_NUMBERS)):
            if not some:
                args = [arithmetic.array(a) if isinstance(a, np.ndarray) else a for a in args]
            said = {k: v for k, v in kwargs.items() if k not in IGNORED}
            if name in TYPED and "dtype" in kwargs:
                said["dtype"] = kwargs["dtype"]
            return ATEN[name](*args, **said)
        return _native(node.target, args, kwargs, arithmetic)

    def _move(self, node: Node, args: Any, kwargs: Any) -> Value:
        """Let torch move the labels of elements, and put the elements where the labels went."""
        position = FILLS.get(_name(node), len(args))
        if position < len(args) and isinstance(args[position], int | float):
            fill = (arithmetic_of(args) or BALLS).array(
                args[position]
            )  # a number that elements are set to
            args = (*args[:position], fill, *args[position + 1 :])
        leaves, structure = pytree.tree_flatten((args, kwargs))
        where = [i for i, x in enumerate(leaves) if isinstance(x, PreciseArray)]
        arrays = [leaves[i] for i in where]
        steady = not any(isinstance(x, np.ndarray) for x in leaves)
        places = self._places.get(node.name) if steady else None
        if places is None:
            nodes = pytree.tree_leaves((node.args, node.kwargs))
            leaves = [_native_value(x) for x in leaves]
            for i, numbers in zip(where, labels(arrays), strict=True):
                leaves[i] = (
                    _laid_out(numbers, nodes[i], _name(node))
                    if numbers.ndim or isinstance(nodes[i], Node)
                    else int(numbers)
                )
            args, kwargs = pytree.tree_unflatten(leaves, structure)
            out = node.target(*args, **kwargs)  # type: ignore[operator]  # an operation, seen above
            places = pytree.tree_map_only(torch.Tensor, lambda t: t.numpy(), out)
            self._places[node.name] = places
        return pytree.tree_map_only(np.ndarray, lambda p: moved(arrays, p), places)


def _laid_out(numbers: Any, node: Any, name: str) -> torch.Tensor:
    """Give labels as a tensor; for operations on its storage, with the strides that it had."""
    plain = torch.from_numpy(np.array(numbers))
    val = node.meta.get("val") if isinstance(node, Node) else None
    if val is None or not name.startswith("as_strided") or val.is_contiguous():
        return plain
    return torch.empty_strided(val.shape, val.stride(), dtype=torch.int64).copy_(plain)


def _attribute(graph: GraphModule, path: Any) -> Any:
    return functools.reduce(getattr, str(path).split("."), graph)


def _entering(value: Any, arithmetic: Arithmetic) -> Value:
    """Bring a tensor in: floats exactly, integers and booleans as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.is_complex():
        raise UnknownOperation("complex numbers")
    value = value.detach().cpu()
    if value.is_floating_point():
        return arithmetic.array(value.double().numpy())
    return value.numpy()


def _native_value(x: Value) -> Any:
    return torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x


def _native(target: Any, args: Any, kwargs: Any, arithmetic: Arithmetic) -> Value:
    """Run an operation without precise operands as it is: integers, and constants being made."""
    args, kwargs = pytree.tree_map_only(np.ndarray, _native_value, (args, kwargs))
    if any(isinstance(x, PreciseArray) for x in pytree.tree_leaves((args, kwargs))):
        raise UnknownOperation(str(target))
    out = target(*args, **kwargs)
    return pytree.tree_map_only(torch.Tensor, lambda t: _entering(t, arithmetic), out)


def _floating_result(node: Node) -> bool:
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and val.is_floating_point()


def _name(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).split("::")[-1] if schema is not None else str(node.target)


def _known(node: Node) -> bool:
    if node.op != "call_function" or node.target is operator.getitem:
        return True
    name = _name(node)
    vals = [u.meta.get("val") for u in (*node.all_input_nodes, node)]
    tensors = [v for v in pytree.tree_leaves(vals) if isinstance(v, torch.Tensor)]
    if any(v.is_complex() for v in tensors) or torch.Tag.nondeterministic_seeded in getattr(
        node.target, "tags", ()
    ):
        return False
    inputs = pytree.tree_leaves([u.meta.get("val") for u in node.all_input_nodes])
    floating = any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in inputs)
    return name in ATEN or name in MOVES or not floating


_DECOMPOSITIONS = {
    op: formula
    for op, formula in decomposition_table.items()
    if isinstance(op, OpOverload) and op._schema.name.split("::")[-1] not in {*ATEN, *MOVES}  # noqa: SLF001 - torch has no public way
} | FORMULAS


# Functionalisation replaces this one by a formula of other roundings than the one that runs.
_AS_EXECUTED = {
    op: decomposition_table[op] for op in (torch.ops.aten.binary_cross_entropy_with_logits.default,)
}


def _custom_operations() -> dict[Any, Any]:
    """Give the Python code of operations declared with torch.library.custom_op."""
    own = {k: d for k, d in OPDEFS.items() if not k.startswith("prims::")}
    return {d._opoverload: d._init_fn for d in own.values()}  # noqa: SLF001 - torch has no public way


def numpy(a: Any) -> Any:
    """Give a tensor as an ndarray, bfloat16 widened."""
    a = a.detach().cpu()
    return (a.float() if a.dtype == torch.bfloat16 else a).numpy()


def like(a: Any) -> Any:
    """Give an ndarray as a tensor."""
    return torch.from_numpy(np.array(a))
