"""Inputs drawn as whole arrays, and made simpler by steps of our own.

``Drawing.of(given, seed)`` draws for leaves that are strategies of `ffverify.strategies`; where others are
among them, Hypothesis draws (see `searching`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.exact.formats import Array
from ffverify.strategies import Whole, whole

from .slots import is_strategy

Numbers = list[Array | None]
Simpler = Callable[[Array, Whole], Array]


def _zero(x: Array, of: Whole) -> Array:
    return np.full(x.shape, min(max(0.0, of.low), of.high))


def _one(x: Array, of: Whole) -> Array:
    return np.where(x == 0, x, np.clip(np.sign(x), of.low, of.high))


def _integer(x: Array, of: Whole) -> Array:
    return np.asarray(np.trunc(x).clip(of.low, of.high))


def _short(x: Array, of: Whole) -> Array:
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.asarray(np.ldexp(np.rint(mantissa * 64) / 64, exponent).clip(of.low, of.high))


_SIMPLER: tuple[Simpler, ...] = (_zero, _one, _integer, _short)


@dataclass(frozen=True)
class Drawing:
    """How inputs are drawn; None for a leaf that is as it is.

    Numbers are what is drawn, before anything is made of them.
    """

    given: Sequence[Any]
    wholes: Sequence[Whole | None]
    seed: int

    @classmethod
    def of(cls, given: Sequence[Any], seed: int) -> Drawing | None:
        """Give how leaves are drawn as whole arrays; None where Hypothesis has to."""
        wholes = [whole(g) for g in given]
        if any(w is None and is_strategy(g) for g, w in zip(given, wholes, strict=True)):
            return None
        return cls(given, wholes, seed)

    def numbers(self, count: int) -> Iterator[Numbers]:
        """Draw numbers so many times, the simplest ones first."""
        rng = np.random.default_rng([self.seed, count])
        for k in range(count):
            drawn = [None if w is None else w.drawn(rng) for w in self.wholes]
            yield (
                drawn
                if k
                else [
                    None if x is None or w is None else _zero(x, w).astype(x.dtype)
                    for x, w in zip(drawn, self.wholes, strict=True)
                ]
            )

    def values(self, numbers: Numbers) -> tuple[Any, ...]:
        """Give the leaves with numbers in their places."""
        return tuple(
            g if w is None or x is None else w.made(x.copy())
            for g, w, x in zip(self.given, self.wholes, numbers, strict=True)
        )

    def generic(self, rng: np.random.Generator) -> Numbers:
        """Draw numbers without anything special about them."""
        return [None if w is None else w.generic(rng) for w in self.wholes]

    def simplify(self, numbers: Numbers, most: int, fails: Callable[[Sequence[Any]], bool]) -> None:
        """Make numbers simpler, as many at a time as it still fails with; try that so many times."""
        left = iter(range(most))

        def attempt(j: int, places: Array, simpler: Array) -> bool:
            x = numbers[j]
            assert x is not None  # noqa: S101 - as drawn
            tried = x.copy()
            tried.reshape(-1)[places] = simpler
            if next(left, None) is None or not fails(
                self.values([*numbers[:j], tried, *numbers[j + 1 :]])
            ):
                return False
            numbers[j] = tried
            return True

        def in_parts(j: int, of: Whole, places: Array, simpler: Simpler) -> None:
            x = numbers[j]
            assert x is not None  # noqa: S101 - as drawn
            new = simpler(x.reshape(-1)[places], of).astype(x.dtype)
            changed = new != x.reshape(-1)[places]
            places, new = places[changed], new[changed]
            if places.size and not attempt(j, places, new) and places.size > 1:
                for half in np.array_split(places, 2):
                    in_parts(j, of, half, simpler)

        def nearer(j: int, of: Whole, place: int) -> None:
            """Find the smallest whole number that one may be, of those that are larger than 1."""
            x = numbers[j]
            assert x is not None  # noqa: S101 - as drawn
            here = float(x.flat[place])
            sign, holds, high = np.sign(here), 1.0, float(np.ceil(abs(here)))
            while high - holds > 1 and holds < 2**53:
                middle = np.floor(
                    np.sqrt(holds) * np.sqrt(high) if high > 4 * holds else (holds + high) / 2
                )
                new = np.array([sign * middle])
                if of.low <= new[0] <= of.high and attempt(j, np.array([place]), new):
                    high = middle
                else:
                    holds = middle

        each = [(j, of, x) for j, (of, x) in enumerate(zip(self.wholes, numbers, strict=True))]
        for simpler in _SIMPLER:
            for j, of, x in each:
                if of is not None and x is not None:
                    in_parts(j, of, np.arange(x.size), simpler)
        for j, of, _ in each:
            x = numbers[j]
            if of is not None and x is not None:
                for place in np.flatnonzero(np.abs(x) > 1).tolist():
                    nearer(j, of, place)
