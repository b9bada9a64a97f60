"""Derivatives run again: what JAX takes anew at every call costs milliseconds of Python, and memory it keeps.

``replayed(function, known, key, *operands)`` calls a function of trees of arrays; once it is known what that
executes it has JAX run the same primitives, with other numbers, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Any

import jax
import numpy as np

from ffverify.exact.formats import is_floating

Function = Callable[..., Any]
# What runs primitives on arrays, of which there is no public name; without it none is seen.
_Eager: Any = None
with contextlib.suppress(ImportError):
    from jax._src.core import EvalTrace as _Eager
_watched = Lock()  # held by the one that watches


@dataclass
class _Course:
    """What a function executes at arrays of one kind; it ``holds`` where it gave the function's own bits.

    ``made`` tells how a program is made of it, by the number of the call.
    """

    made: Mapping[int, Function]
    calls: int = 0
    program: Function | None = None
    form: Any = None
    holds: bool = False

    def run(self, function: Function, operands: Sequence[Any]) -> Any:
        """Call the function, or what it was seen to execute.

        That has to give the same bits at other numbers before it counts: what is compiled as a whole may have
        other roundings than its parts.
        """
        leaves = jax.tree_util.tree_leaves(operands)
        if self.program is not None and self.holds:
            return jax.tree_util.tree_unflatten(self.form, self.program(*leaves))
        self.calls += 1
        make = self.made.get(self.calls)
        if make is not None and self.program is None:
            results, self.program = make(function, operands)
            self.form = jax.tree_util.tree_structure(results)
            return results
        results = function(*operands)
        if self.program is not None:
            with contextlib.suppress(Exception):
                pairs = zip(jax.tree_util.tree_leaves(results), self.program(*leaves), strict=True)
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
    course: _Course = known.setdefault(
        (key, tree, *kinds), _Course({2: staged_loops} if loops else _MADE)
    )
    return course.run(function, operands)


class _Program:
    """Primitives that JAX runs in turn; ``known`` are the places of what they take and give, by any names."""

    def __init__(self, operands: Sequence[Hashable]) -> None:
        self.known = {name: i for i, name in enumerate(operands)}
        self._values: list[Any] = [None] * len(operands)  # constants among them
        self._steps: list[tuple[Any, Any, list[int], range]] = []
        self._results: list[int] = []

    def constant(self, value: Any) -> int:
        """Give the place of a new constant."""
        self._values.append(value)
        return len(self._values) - 1

    def add(self, primitive: Any, params: Any, takes: list[int], gives: Sequence[Hashable]) -> None:
        """Add a step."""
        places = range(len(self._values), len(self._values) + len(gives))
        self._values += [None] * len(gives)
        self._steps.append((primitive, params, takes, places))
        self.known.update(zip(gives, places, strict=True))

    def giving(self, results: list[int]) -> _Program:
        """Have it give some results, and nothing run that they have no use for."""
        self._results, needed, steps = results, set(results), []
        for step in reversed(self._steps):
            _, _, takes, gives = step
            if not needed.isdisjoint(gives):
                needed.update(takes)
                steps.append(step)
        self._steps = steps[::-1]
        return self

    @property
    def primitives(self) -> set[str]:
        """The names of what it runs."""
        return {primitive.name for primitive, *_ in self._steps}

    def __call__(self, *operands: Any) -> list[Any]:
        values = [*operands, *self._values[len(operands) :]]
        for primitive, params, takes, gives in self._steps:
            out = primitive.impl(*[values[i] for i in takes], **params)
            values[gives.start : gives.stop] = _listed(primitive, out)
        return [values[i] for i in self._results]


def _listed(primitive: Any, out: Any) -> list[Any]:
    return list(out) if primitive.multiple_results else [out]


def staged(function: Function, operands: Sequence[Any]) -> tuple[Any, Function | None]:
    """Call a function; give its results, and its jaxpr as a program, at half the price of evaluating it.

    None if it branches on a number or runs foreign code.
    """
    results = function(*operands)
    with contextlib.suppress(Exception):
        closed = jax.make_jaxpr(function)(*operands)
        program = _Program(closed.jaxpr.invars)
        takes = range(len(closed.jaxpr.invars))
        return results, program.giving(_laid_out(program, closed.jaxpr, closed.consts, takes))
    return results, None


def staged_loops(function: Function, operands: Sequence[Any]) -> tuple[Any, Function | None]:
    """Give `staged` of what has loops: outside of a jit these are compiled anew at every call."""
    results, program = staged(function, operands)
    loops = isinstance(program, _Program) and not _LOOPS.isdisjoint(program.primitives)
    return results, program if loops else None


_LOOPS = {"scan", "while", "cond"}
_INLINE = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}  # called as they are


def _laid_out(
    program: _Program, jaxpr: Any, constants: Sequence[Any], takes: Sequence[int]
) -> list[int]:
    """Add the steps of a jaxpr to a program; give the places of its results."""
    program.known.update(zip(jaxpr.invars, takes, strict=True))
    program.known.update(zip(jaxpr.constvars, map(program.constant, constants), strict=True))

    def places(atoms: Sequence[Any]) -> list[int]:  # literals have values
        return [program.constant(a.val) if hasattr(a, "val") else program.known[a] for a in atoms]

    for e in jaxpr.eqns:
        if e.primitive.name in _INLINE:
            inner = e.params.get("call_jaxpr") or e.params["fun_jaxpr"]
            gives = _laid_out(program, inner.jaxpr, inner.consts, places(e.invars))
            program.known.update(zip(e.outvars, gives, strict=True))
        else:
            program.add(e.primitive, e.params, places(e.invars), e.outvars)
    return places(jaxpr.outvars)


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
    given = {id(x) for primitive, _, _, out in seen for x in _listed(primitive, out)}
    if not given.issuperset(map(id, jax.tree_util.tree_leaves(results))):
        return results, None
    with contextlib.suppress(Exception):
        constants = {id(c) for c in jax.make_jaxpr(function)(*operands).consts}
        program = _Program(names)

        def place(value: Any) -> int:
            if id(value) in program.known:
                return program.known[id(value)]
            if isinstance(value, jax.Array) and id(value) not in constants:
                raise LookupError
            return program.constant(value)

        for primitive, args, params, out in seen:
            gives = list(map(id, _listed(primitive, out)))
            program.add(primitive, params, list(map(place, args)), gives)
        found = [program.known[id(r)] for r in jax.tree_util.tree_leaves(results)]
        return results, program.giving(found)
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


# To compile the primitives of a jaxpr costs as much as some tens of calls.
_MADE = {1: executed, 2: staged_loops, 32: staged}
