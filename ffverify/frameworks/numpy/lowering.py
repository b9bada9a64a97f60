"""Shadows of NumPy programs: the reference engine's graph of them, run on exact numbers.

A program whose path depends on its values is not fixed at the traced point: plain NumPy code runs on
precise arrays by NumPy's own protocols, and its branches are decided anew at every point. So does a
program that the engine cannot trace (one that assigns to elements, say).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ffverify import reference
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray
from ffverify.exact.formats import FORMATS, is_floating
from ffverify.exact.moves import marked, move
from ffverify.exact.operations import OPERATIONS, Value
from ffverify.exact.programs import Itself, Known, Program, UnknownOperation, remembered
from ffverify.frameworks.line import Line, entering, moving
from ffverify.reference import Primitive
from ffverify.reference.primitives import shaping
from ffverify.reference.programs.graph import Graph, Node

from .making import making


def trace(fn: Callable[..., Any], args: Sequence[Any], known: Known) -> Program:
    """Give a NumPy function as a function of precise arrays, fixed at a point where it must be."""
    formats = {a.dtype for a in map(np.asarray, args) if is_floating(a)}
    itself = partial(Itself, dtype=next(iter(formats)) if len(formats) == 1 else None)
    if None in known:
        return remembered(known, None, lambda: itself(fn))
    try:
        graph = reference.trace(fn, *args)
    except Exception as error:  # noqa: BLE001 - whatever the engine cannot trace
        try:
            program: Program = _trial(itself(fn), args, error)
        except UnknownOperation:
            program = _trial(itself(making(fn)), args, error)
    else:
        program = _interpreted(graph)
        if graph.branches:
            try:
                program = _trial(itself(fn), args, None)
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
        name, known, _ = str(cause or error).partition(" has no derivative rule")
        raise UnknownOperation(
            name if known else f"code that refuses exact numbers: {name}"
        ) from error
    return program


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _interpreted(graph: Graph) -> Program:
    line = Line(len(graph.inputs), _plain)
    places = {node: i for i, node in enumerate(graph.inputs)}
    places |= {node: line.constant(node.value) for node in graph.constants}
    needed = set(graph.outputs)  # what is not used needs no exact form
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.inputs)
    for node in filter(needed.__contains__, graph.nodes):
        (places[node],) = line.add(_step(node), [places[x] for x in node.inputs], 1)
    line.giving([places[node] for node in graph.outputs])
    return lambda *args: tuple(line.exactly(args))


def _plain(value: Any) -> Any:
    return np.asarray(value) if is_floating(np.asarray(value)) else value


def _step(node: Node) -> Callable[..., Sequence[Value]]:
    """Give what a node does to values; it is told first of which arithmetic they are."""
    primitive = node.primitive
    assert primitive is not None  # noqa: S101 - a node of the graph's nodes is an application
    forward = partial(primitive.forward, **node.params)
    apply: Callable[[Sequence[Value]], Sequence[Value]]
    if primitive in _OURS and primitive.name in _MOVES:
        apply = moving(lambda xs: [move(forward(*marked(xs)))])
    else:
        meaning = partial(_meaning(primitive), **node.params)
        apply = lambda xs: [meaning(*xs)]  # noqa: E731

    name = node.dtype.name

    def step(arithmetic: Arithmetic, *xs: Value) -> Sequence[Value]:
        kinds = set(map(type, xs))
        if PreciseArray not in kinds:
            if Plain in kinds:
                raise HiddenRows(primitive.name)
            return [entering(_plain(forward(*xs)), arithmetic)]
        if arithmetic.format is None or name not in FORMATS:
            return apply(xs)
        return _computed_in(name, apply(_computed_in(name, xs)))

    return step


def _computed_in(name: str, xs: Sequence[Value]) -> Sequence[Value]:
    """Round precise arrays to a format: NumPy casts operands to it before it computes."""
    return [x.astype(name) if isinstance(x, PreciseArray) else x for x in xs]


def _meaning(primitive: Primitive) -> Callable[..., Value]:
    """Give what a primitive means; a caller's own is tried as it is, which is plain NumPy."""
    name = primitive.name
    if primitive not in _OURS:
        return partial(_of_the_caller, primitive)
    meaning = primitive.exact or _SUMS.get(name) or OPERATIONS.get(name)
    if not primitive.differentiable and isinstance(primitive.forward, np.ufunc):
        return meaning or primitive.forward  # of conditions: & and | of truth values are NumPy's
    if meaning is None:
        raise UnknownOperation(name)
    return meaning


def _of_the_caller(primitive: Primitive, *xs: Value, **params: Any) -> Value:
    """Apply a caller's primitive (custom_rule): as it is, or not at all."""
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
    str.split(
        "broadcast_to reshape transpose gather take_along pad_zeros concatenate assigned matrix_diagonal"
    )
)


def _added_where(read: Primitive) -> Callable[..., Any]:
    def add(y: Any, *places: Any, shape: tuple[int, ...], **where: Any) -> Any:
        positions = read.forward(np.arange(math.prod(shape)).reshape(shape), *places, **where)
        return OPERATIONS["scatter_add"](y.arithmetic.array(np.zeros(shape)), positions, y)

    return add


# What adds to zeros, by what reads from there.
_SUMS = {"scatter": _added_where(shaping.gather), "put_along": _added_where(shaping.take_along)}
