"""Exact programs: functions of precise arrays that give a tuple of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .arithmetic import BALLS
from .arrays import RUNNING, HiddenRows, Plain, PreciseArray, Run, arithmetic_of, by_rows, flat_rows
from .elements import Undecided
from .formats import Array, is_floating

Program = Callable[..., Any]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Itself:
    """A function as its own exact program: it becomes what the function becomes.

    ``dtype`` is the one format of the floats that it is given, None if there are several.
    """

    fn: Callable[..., Any]
    dtype: Any = None

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        """Give its results, one or several, as programs do."""
        before = RUNNING.set(Run(arithmetic_of(args), self.dtype))
        try:
            return tuple(listed(self.fn(*args)))
        finally:
            RUNNING.reset(before)


class UnknownOperation(TypeError):
    """An operation that has no exact form; its ``args`` are the names."""


class Draw(UnknownOperation):
    """A draw from a distribution whose parameters depend on the inputs: its derivative is a convention."""


Known = dict[Any, Any]  # programs, or that there is none


_MOST = 64  # programs of one function that are known


def remembered(known: Known, key: Any, make: Callable[[], T], *, most: int = _MOST) -> T:
    """Give what is known under a key, as a program or that there is none; make it the first time."""
    if key not in known:
        if len(known) == most:
            known.clear()
        try:
            known[key] = make()
        except UnknownOperation as unknown:
            known[key] = UnknownOperation(*unknown.args)  # without the frames that it came through
    found = known[key]
    if isinstance(found, UnknownOperation):
        raise UnknownOperation(*found.args)
    return found  # type: ignore[no-any-return]  # what was made


def listed(results: Any) -> list[Any]:
    """Give a function's results as a list, whether it returned one or several."""
    return list(results) if isinstance(results, list | tuple) else [results]


def joined(program: Program, places: Sequence[int] | None = None) -> Program:
    """Give a program whose result is one vector: its results (those at ``places``), raveled."""

    def run(*args: Any) -> PreciseArray:
        results = listed(program(*args))
        chosen = results if places is None else [results[i] for i in places]
        arithmetic = arithmetic_of((*chosen, *args))
        parts = list(map(arithmetic.array, chosen))
        rows = max((r.rows for r in parts), default=0)
        flat = np.concatenate([flat_rows(r, rows or 1) for r in parts], axis=1)
        return PreciseArray(flat if rows else flat[0], arithmetic, rows)

    return run


def projected(vector: Program, weights: Array) -> Program:
    """Give ⟨weights, vector⟩ as a program; results of weight 0 stay out, whatever they are."""
    chosen = np.flatnonzero(weights)

    def run(*args: Any) -> PreciseArray:
        out = vector(*args)
        return (out[chosen] * weights[chosen]).sum()  # type: ignore[no-any-return]  # a duck array

    return run


def at_rows(program: Program, args: Sequence[Any]) -> Any:
    """Run a program at batches among its arguments: at once, or row by row where that cannot be."""
    try:
        return program(*args)
    except HiddenRows:
        return by_rows(program, *args)


def together(arrays: Array | Sequence[Array]) -> Any:
    """Make what many points have in one place a batch; data that are the same for all stay as they are."""
    whole = np.asarray(arrays)
    if is_floating(whole):
        return PreciseArray(BALLS.array(whole).elements, BALLS, len(whole))
    same = len(whole) and (whole == whole[0]).all()
    return whole[0] if same else Plain(whole, len(whole))


def in_halves(
    run: Callable[[Sequence[T]], Sequence[R | None]], items: Sequence[T]
) -> list[R | None]:
    """Run many at once; where a branch is undecided at one of them half of them, and None for it alone."""
    try:
        return list(run(items))
    except Undecided:
        if len(items) == 1:
            return [None]
    middle = len(items) // 2
    return [*in_halves(run, items[:middle]), *in_halves(run, items[middle:])]
