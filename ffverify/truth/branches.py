"""Slopes of the branches that a program's steps take where they round.

At a tie that only rounding makes, or where several pieces are on their kinks at once, derivative code gives
slopes that are no limits of the function's own: relu(x - mean x) at 0 has each piece's slope 0. They are
those of the program with its steps moved: elements of a conservative field (Bolte and Pauwels, Conservative
set valued fields, automatic differentiation, stochastic gradient methods and deep learning, 2021).
``Branches`` gives them along a direction.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program
from ffverify.exact.rounding_arithmetic import Execution

from .differences import Weights, shifted, shifts, steps
from .neighbourhood import around
from .slopes import Inputs, weighted

# Ways that steps err: to nearest, as ties; so that ties are broken by their index, the first or the last
# being the largest; those that rise the most along the direction upwards and others down, or the other way
# round; all down or upwards, the first by the most; and as drawn.
_TIED, _BY_INDEX, _ALONG, _ALL, _DRAWN = (0,), (1, 2), (3, 4), (5, 6), range(7, 23)


@dataclass(frozen=True)
class Branches:
    """A program at a point, and a direction. ``moving`` tells which inputs may be moved."""

    vector: Program
    inputs: Inputs
    directions: Weights
    fmt: Format
    moving: Sequence[bool]

    def slopes(self, weights: Array, exact: Any, *, kink: bool) -> Iterator[tuple[bool, list[Any]]]:
        """Give slopes of ⟨weights, results⟩ by one way to err after another, and whether steps may be tied.

        Where they are, slopes are those on both sides, of which one may belong to a jump. At a smooth point
        those of the branch it is on are left out.
        """
        for way in (*_TIED, *_BY_INDEX, *_ALONG, *_ALL, *_DRAWN):
            full, half = (
                [s for each in found if (s := weighted(each, weights)).is_finite()]
                for found in (self._erring(way), [] if kink else self._erring(way, 0.5))
            )
            yield way in _TIED, [s for s in full if kink or _is_on_other(exact, s, half)]

    def _erring(self, way: int, share: float = 1.0) -> list[Array]:
        """Give the slopes of all results; nothing where branches are not decided, or others begin."""
        vector = self.vector
        beside = around(self.inputs, self.fmt, self.moving, 1, self.directions)
        moves = [np.abs(v).max(initial=0.0) for v in self.directions if v is not None]
        # Undecided ones, or a program that is fixed at one point and does not hold elsewhere.
        with BALLS.precision(beside.bits), contextlib.suppress(Exception):
            # No direction moves any input by more than the step.
            h, half = steps(np.asarray(beside.step - np.frexp(max(moves, default=1.0))[1]))
            by = shifts(self.directions, h)
            below, here, above = (shifted(self.inputs.balls, by, c) for c in (-1, 0, 1))
            rises: list[float] | None = []
            if way in _ALONG:
                still = Execution(self.fmt, lambda _: 0.0)
                first = still.run(vector, below, self.moving)
                rises = still.rises(vector, above, self.moving) if first is not None else None
            if rises is None:
                return []
            is_tied, rounds = way in _TIED, way in (*_TIED, *_BY_INDEX)
            errors = None if is_tied else _errors(way, rises)
            execution = Execution(self.fmt, errors, share, to_nearest=rounds)
            at = [here, below, above] if is_tied else [below, above]
            runs = [out for x in at if (out := execution.run(vector, x, self.moving)) is not None]
            if len(runs) == len(at):
                sides = [(1, 0), (0, 2)] if is_tied else [(0, 1)]
                scale = 2 * half if is_tied else half
                return [((runs[b] - runs[a]) * scale).values for a, b in sides]
        return []


def _errors(way: int, rises: Sequence[float]) -> Callable[[int], float]:
    """Give the errors of steps, one to two roundings, and along a direction up to a library's eight.

    No two err by the same; of ties that are broken by their index each errs by more than those before.
    Rises are between -1 and 1.
    """
    rng, sign = np.random.default_rng(way), (-1) ** way
    if way in _BY_INDEX:
        return lambda k: sign * (k + 1)
    if way in _ALONG:
        return lambda k: sign * (3 * rises[k] - 1) * (1 + 1 / (k + 1))
    if way in _ALL:
        return lambda k: sign * (1 + 1 / (k + 1))
    return lambda _: float(rng.choice([-1, 1]) * rng.uniform(1, 2))


def _is_on_other(exact: Any, full: Any, half: Sequence[Any]) -> bool:
    """Tell whether steps that err reach another branch, which is not said where half of that is unknown.

    On one branch half of the errors do half, to first order. Beyond a threshold half of them reach it or
    do not: that is a half of the change away from the middle. A fourth is between the two.
    """
    return bool(half) and all(abs(h - (exact + full) / 2) > abs(full - exact) / 4 for h in half)
