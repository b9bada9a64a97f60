"""Shadows of NumPy programs: the reference engine's graph of them, run on exact numbers.

A program whose path depends on its values is not fixed at the traced point: plain NumPy code runs on
precise arrays by NumPy's own protocols, and its branches are decided anew at every point. So does a
program that the engine cannot trace (one that assigns to elements, say).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify import reference
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray, arithmetic_of
from ffverify.exact.formats import is_floating
from ffverify.exact.moves import Move, marked, move, moved, moves_of
from ffverify.exact.operations import OPERATIONS, Value
from ffverify.exact.programs import Itself, Known, Program, UnknownOperation, at_rows, remembered
from ffverify.reference import Primitive
from ffverify.reference.primitives.shaping import ARRAY
from ffverify.reference.programs.graph import Graph, Node

_op = OPERATIONS.__getitem__


def trace(fn: Callable[..., Any], args: Sequence[Any], known: Known) -> Program:
    """Give a NumPy function as a function of precise arrays, fixed at a point where it must be.

    Raises
    ------
    UnknownOperation
        Naming what has no exact form.
    """
    if None in known:
        return remembered(known, None, lambda: Itself(fn))
    try:
        graph = reference.trace(fn, *args)
    except Exception as error:  # noqa: BLE001 - whatever the engine cannot trace
        program: Program = _trial(Itself(fn), args, error)
    else:
        for node in graph.nodes:
            if not _is_known(node.primitive):
                raise UnknownOperation(getattr(node.primitive, "name", ""))
        program = _interpreter(graph)
        if graph.branches:
            try:
                program = _trial(Itself(fn), args, None)
            except UnknownOperation:
                return program  # which holds where the same branches are taken
    return remembered(known, None, lambda: program)


def _trial(program: Program, args: Sequence[Any], cause: Exception | None) -> Program:
    """Give back a program that runs on precise arrays here."""
    try:
        with BALLS.precision(64):
            program(*(BALLS.array(a) if is_floating(np.asarray(a)) else a for a in args))
    except ArithmeticError:
        return program  # undecided at this precision: it runs
    except Exception as error:
        name = str(cause or error).split(" has no derivative rule")[0]
        raise UnknownOperation(name) from error
    return program


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _interpreter(graph: Graph) -> Program:
    moves: dict[Node, Move] = {}

    def run(*args: Value) -> tuple[Any, ...]:
        arithmetic = arithmetic_of(args) or BALLS
        values: dict[Node, Value] = dict(zip(graph.inputs, args, strict=True))
        values.update((n, _entering(n.value, arithmetic)) for n in graph.constants)
        for node in graph.nodes:
            values[node] = at_rows(
                lambda *xs, node=node: _apply(node, xs, arithmetic, moves),
                [values[x] for x in node.inputs],
            )
        return tuple(values[node] for node in graph.outputs)

    return run


def _entering(value: Any, arithmetic: Arithmetic) -> Value:
    given = np.asarray(value)
    return arithmetic.array(given) if is_floating(given) else value


def _apply(
    node: Node, xs: Sequence[Value], arithmetic: Arithmetic, moves: dict[Node, Move]
) -> Value:
    primitive = node.primitive
    assert primitive is not None  # noqa: S101 - a node of the graph's nodes is an application
    some = any(isinstance(x, PreciseArray) for x in xs)
    if not some:
        if any(isinstance(x, Plain) for x in xs):
            raise HiddenRows(primitive.name)
        return _entering(primitive.forward(*xs, **node.params), arithmetic)
    if primitive.name in _MOVES:
        arrays = [x for x in xs if isinstance(x, PreciseArray)]
        by = moves.get(node) or moves_of(
            lambda given: move(primitive.forward(*marked(given), **node.params)), xs
        )
        if len(arrays) == len(xs):  # no index that may vary
            moves[node] = by
        return moved(arrays, by)
    if primitive not in _OURS:
        return _of_the_caller(primitive, xs, node.params)
    if primitive.name in _SUMS:
        return _SUMS[primitive.name](*xs, **node.params)
    return _meaning(primitive)(*xs, **node.params)


def _meaning(primitive: Primitive) -> Callable[..., Value]:
    return primitive.exact or OPERATIONS.get(primitive.name) or primitive.forward


def _is_known(primitive: Primitive | None) -> bool:
    """Tell whether a primitive of ours has an exact meaning; a caller's own is tried as it is."""
    if primitive is None or primitive not in _OURS or primitive.exact is not None:
        return True
    if not primitive.differentiable and isinstance(primitive.forward, np.ufunc):
        return True  # of conditions: & and | of truth values are NumPy's
    return primitive.name in _MOVES or primitive.name in _SUMS or primitive.name in OPERATIONS


def _of_the_caller(primitive: Primitive, xs: Sequence[Value], params: dict[str, Any]) -> Value:
    """Apply a caller's primitive (custom_rule), which is plain NumPy: as it is, or not at all."""
    try:
        return (primitive.exact or primitive.forward)(*xs, **params)
    except HiddenRows:
        raise
    except (AttributeError, TypeError) as error:
        raise UnknownOperation(f"{primitive.name}: {error}") from error


# What a caller calls by the name of a primitive of ours need not be that.
_OURS = frozenset(reference.primitives().values())
# Primitives that only move elements, or put zeros beside them: they run on labels.
_MOVES = frozenset(
    str.split("broadcast_to reshape transpose gather take_along pad_zeros concatenate assigned")
)


def _scatter(y: Any, *arrays: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    given = iter(arrays)
    place = tuple(next(given) if part is ARRAY else part for part in index)
    positions = np.arange(int(np.prod(shape))).reshape(shape)[place]
    return _op("scatter_add")(y.arithmetic.array(np.zeros(shape)), positions, y)


def _put_along(y: Any, indices: Any, *, axis: int, shape: tuple[int, ...]) -> Any:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    positions = np.take_along_axis(numbers, indices, axis)
    return _op("scatter_add")(y.arithmetic.array(np.zeros(shape)), positions, y)


_SUMS: dict[str, Callable[..., Any]] = {"scatter": _scatter, "put_along": _put_along}
