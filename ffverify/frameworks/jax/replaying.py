"""Derivatives run again: what JAX takes anew at every call costs milliseconds of Python, and memory it keeps.

``replayed(function, known, key, *operands)`` calls a function of trees of arrays; once it is known what that
executes it has JAX run the same primitives, with other numbers, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock, get_ident
from typing import Any

import jax
import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.frameworks.line import Line

from .jaxprs import inside, laid_out, ran

Function = Callable[..., Any]
# What runs primitives on arrays, of which there is no public name; without it none is seen.
_Eager: Any = None
with contextlib.suppress(ImportError):
    from jax._src.core import EvalTrace as _Eager
_watched = Lock()  # held by the one that watches


@dataclass
class _Course:
    """What a function executes at arrays of one kind; it ``holds`` where it gave the function's own bits."""

    loops: bool
    calls: int = 0
    program: Function | None = None
    form: Any = None
    holds: bool = False

    def run(self, function: Function, operands: Sequence[Any]) -> Any:
        """Call the function, or what it was seen to execute, or its jaxpr where not all of that is seen.

        That has to give the same bits at other numbers before it counts: what is compiled as a whole may have
        other roundings than its parts.
        """
        leaves = jax.tree_util.tree_leaves(operands)
        if self.program is not None and self.holds:
            return jax.tree_util.tree_unflatten(self.form, self.program(leaves))
        self.calls += 1
        if self.calls == 1 and not self.loops:
            results, self.program = executed(function, operands)
        else:
            results = function(*operands)
        self.form = jax.tree_util.tree_structure(results)
        if self.calls == 2 and self.program is None:
            self.program = staged(function, operands, loops=self.loops)
        elif self.calls > 1 and self.program is not None:
            with contextlib.suppress(Exception):
                pairs = zip(jax.tree_util.tree_leaves(results), self.program(leaves), strict=True)
                self.holds = all(
                    np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs
                )
            self.program = self.program if self.holds else None
        return results


def replayed(
    function: Function, known: dict[Any, Any], key: Any, *operands: Any, loops: bool = False
) -> Any:
    """See `Framework.replayed`: what JAX can stage without the numbers is one program for all of them."""
    leaves, tree = jax.tree_util.tree_flatten(operands)
    kinds = [(a.shape, a.dtype.name, getattr(a, "weak_type", False)) for a in leaves]
    course: _Course = known.setdefault((key, tree, *kinds), _Course(loops))
    return course.run(function, operands)


def staged(function: Function, operands: Sequence[Any], *, loops: bool) -> Function | None:
    """Give a function's jaxpr as a program, at half the price of evaluating it.

    None if it branches on a number or runs foreign code; with ``loops`` unless it has some, which outside of
    a jit are compiled anew at every call.
    """
    with contextlib.suppress(Exception):
        closed = jax.make_jaxpr(function)(*operands)
        line = Line(len(closed.jaxpr.invars))
        found: set[str] = set()

        def add(line: Line, equation: Any, takes: list[int]) -> Sequence[int]:
            found.add(equation.primitive.name)
            step = partial(_run, equation.primitive, equation.params)
            return line.add(step, takes, len(equation.outvars))

        places = range(len(closed.jaxpr.invars))
        line.giving(laid_out(line, closed, places, _called, add))
        if not loops or not _LOOPS.isdisjoint(found):
            return partial(line.run, constants=line.values)
    return None


_LOOPS = {"scan", "while", "cond"}
_INLINE = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}  # called as they are


def _called(equation: Any) -> Any:
    return inside(equation)[0] if equation.primitive.name in _INLINE else None


def _run(primitive: Any, params: Any, *xs: Any) -> list[Any]:
    return ran(primitive, primitive.impl(*xs, **params))


def executed(function: Function, operands: Sequence[Any]) -> tuple[Any, Function | None]:
    """Call a function; give its results, and what it was seen to execute as a program.

    That needs no compiling: every primitive was run. None if an array comes from somewhere else, as from
    functions that are compiled as a whole, which are not seen, or if there are integers, by which JAX may
    choose what it executes; where a function cannot be staged, because it may branch on any number; and
    while another is watched, around this one or in another thread.
    """
    leaves = jax.tree_util.tree_leaves(operands)
    names = list(map(id, leaves))
    plain = all(map(is_floating, leaves)) and len({*names}) == len(names)
    if not plain or _Eager is None or not _watched.acquire(blocking=False):
        return function(*operands), None
    seen: list[tuple[Any, Any, Any, Any]] = []
    try:
        with _watching(lambda *step: seen.append(step)):
            results = function(*operands)
    finally:
        _watched.release()
    given = {id(x) for primitive, _, _, out in seen for x in ran(primitive, out)}
    if not given.issuperset(map(id, jax.tree_util.tree_leaves(results))):
        return results, None
    with contextlib.suppress(Exception):
        constants = {id(c) for c in jax.make_jaxpr(function)(*operands).consts}
        line, places = Line(len(names)), {name: i for i, name in enumerate(names)}

        def place(value: Any) -> int:
            if id(value) in places:
                return places[id(value)]
            if isinstance(value, jax.Array) and id(value) not in constants:
                raise LookupError
            return line.constant(value)

        for primitive, args, params, out in seen:
            gives = list(map(id, ran(primitive, out)))
            added = line.add(partial(_run, primitive, params), list(map(place, args)), len(gives))
            places.update(zip(gives, added, strict=True))
        line.giving([places[id(r)] for r in jax.tree_util.tree_leaves(results)])
        return results, partial(line.run, constants=line.values)
    return results, None


@contextlib.contextmanager
def _watching(see: Callable[[Any, Any, Any, Any], None]) -> Iterator[None]:
    """Have every primitive seen that this thread runs on arrays, its arguments, parameters and results."""
    thread, inside, original = get_ident(), False, _Eager.process_primitive

    def process(trace: Any, primitive: Any, args: Any, params: Any, /) -> Any:
        nonlocal inside
        if inside or get_ident() != thread:  # primitives may be made of others
            return original(trace, primitive, args, params)
        inside = True
        try:
            out = original(trace, primitive, args, params)
        finally:
            inside = False
        see(primitive, args, params, out)
        return out

    _Eager.process_primitive = process
    try:
        yield
    finally:
        _Eager.process_primitive = original
