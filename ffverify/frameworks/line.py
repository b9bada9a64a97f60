"""Straight lines: what programs are laid out as, once for all runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray, arithmetic_of
from ffverify.exact.formats import FORMATS, is_floating
from ffverify.exact.moves import Move, moved, moves_of
from ffverify.exact.programs import Known, UnknownOperation, at_rows, remembered

Step = Callable[..., Sequence[Any]]
R = TypeVar("R")


class Line:
    """Steps in turn: each takes values from numbered places and puts its results in places of their own.

    The first places are those of the inputs; ``values`` are the constants, at theirs. ``plain`` gives these
    as NumPy's.
    """

    def __init__(self, inputs: int, plain: Callable[[Any], Any] = np.asarray) -> None:
        self.values: list[Any] = [None] * inputs
        self._inputs, self._as_plain = inputs, plain
        self._laid: list[tuple[Step, Sequence[int], range]] = []
        self._plain: list[Any] = []
        self._entered: WeakKeyDictionary[Arithmetic, list[Any]] = WeakKeyDictionary()

    def constant(self, value: Any) -> int:
        """Give the place of a new constant."""
        self.values.append(value)
        return len(self.values) - 1

    def add(self, step: Step, takes: Sequence[int], count: int) -> range:
        """Add a step; give the places of its results."""
        gives = range(len(self.values), len(self.values) + count)
        self.values += [None] * count
        self._laid.append((step, takes, gives))
        return gives

    def giving(self, results: Sequence[int]) -> Self:
        """Have it give some results: what these have no use for is not run, and no longer held than used."""
        self._results, needed = list(results), set(results)
        self._steps: list[tuple[Step, Sequence[int], range, list[int]]] = []
        for step, takes, gives in reversed(self._laid):
            if not needed.isdisjoint(gives):
                self._steps.append((step, takes, gives, list(set(takes) - needed)))
                needed.update(takes)
        self._steps.reverse()
        return self

    def run(self, inputs: Sequence[Any], constants: Sequence[Any], *before: Any) -> list[Any]:
        """Run the steps, with some arguments before their own; row by row where that is how they can be."""
        values = [*inputs, *constants[self._inputs :]]
        for step, takes, gives, done in self._steps:
            values[gives.start : gives.stop] = at_rows(step, [*before, *[values[i] for i in takes]])
            for i in done:
                values[i] = None
        return [values[i] for i in self._results]

    def exactly(self, inputs: Sequence[Any], arithmetic: Arithmetic | None = None) -> list[Any]:
        """Run the steps in an arithmetic, that of the inputs, which they are told first.

        Constants are brought into an arithmetic once.
        """
        arithmetic = arithmetic or arithmetic_of(inputs) or BALLS
        if not self._plain:
            self._plain = [None if v is None else self._as_plain(v) for v in self.values]
        entered = self._entered.get(arithmetic)
        if entered is None:
            entered = self._entered[arithmetic] = [entering(v, arithmetic) for v in self._plain]
        return self.run(inputs, entered, arithmetic)


def moving(
    find: Callable[[Sequence[Any]], list[Move]], outside: float = math.nan
) -> Callable[[Sequence[Any]], list[PreciseArray]]:
    """Give what puts elements where ``find`` says that labels go, which stays unless indices vary."""
    found: list[Move] = []

    def put(xs: Sequence[Any]) -> list[PreciseArray]:
        arrays = [x for x in xs if isinstance(x, PreciseArray)]
        moves = found or moves_of(find, xs)
        if len(arrays) == len(xs):
            found[:] = moves
        return [moved(arrays, by, outside) for by in moves]

    return put


_FEW, _MANY = 2**10, 2**10  # numbers that are told apart by all of them, and how often


def once(run: Callable[..., R]) -> Callable[..., R]:
    """Let what plain numbers alone determine run once for the same: dispatching it takes long."""
    known: Known = {}

    def run_once(*xs: Any) -> R:
        plain = all(isinstance(x, np.ndarray) and x.dtype != object for x in xs)
        if not plain or sum(x.size for x in xs) > _FEW:
            return run(*xs)
        key = tuple((x.dtype.char, x.shape, x.tobytes()) for x in xs)
        return remembered(known, key, lambda: run(*xs), most=_MANY)

    return run_once


def in_format(result: Any, format_name: str, arithmetic: Arithmetic) -> Any:
    """Bring a step's result to the format that a framework gives it; floats are rounded if numbers are."""
    if "float" not in format_name:
        return result.astype(format_name)
    precise = result if isinstance(result, PreciseArray) else arithmetic.array(result)
    return precise.cast(FORMATS[format_name]) if format_name in FORMATS else precise


def entering(plain: Any, arithmetic: Arithmetic) -> Any:
    """Bring an array of NumPy's in: floats exactly, complex numbers not at all, whatever else as it is."""
    if isinstance(plain, np.ndarray) and plain.dtype.kind == "c":
        raise UnknownOperation("complex numbers")
    return arithmetic.array(plain) if is_floating(plain) else plain
