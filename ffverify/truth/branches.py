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
from functools import cache, cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program
from ffverify.exact.rounding_arithmetic import Execution

from .differences import Weights, shifted, shifts, steps
from .neighbourhood import NEARER, has_jumped, reach
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

    def slopes(
        self, weights: Array, exact: Any, unit: float, *, kink: bool
    ) -> Iterator[tuple[bool, list[Any]]]:
        """Give slopes of ⟨weights, results⟩ by one way to err after another, and whether it is across a jump.

        At a smooth point slopes of the branch it is on are left out, and those within a ``unit`` of the
        ``exact`` one. Where steps may be tied one on either side is given, of which one may be across a jump.
        """
        for way in (*_TIED, *_BY_INDEX, *_ALONG, *_ALL, *_DRAWN):
            runs = self._runs(way)
            found = self._weighted(runs, weights)
            if not kink:
                found = [s for s in found if not abs(s - exact) <= unit * exact.abs_upper()]
                half = self._weighted(self._runs(way, 0.5), weights) if found else []
                found = [s for s in found if _is_on_other(exact, s, half)]
            yield bool(found) and self._jumps(way, runs, weights != 0), found

    @cached_property
    def _beside(self) -> Callable[[int], tuple[int, Any, list[list[Any]]]]:
        return cache(self._stencil)

    def _stencil(self, nearer: int) -> tuple[int, Any, list[list[Any]]]:
        """Give the precision, 1 / 2h, and inputs a step h, so much nearer, below, here and above.

        None moves by more than h.
        """
        step, bits = reach(self.inputs, self.fmt, self.moving)
        moves = [np.abs(v).max(initial=0.0) for v in self.directions if v is not None]
        with BALLS.precision(bits + 2 * nearer):
            h, half = steps(np.asarray(step - nearer - np.frexp(max(moves, default=1.0))[1]))
            by = shifts(self.directions, h)
            beside = [shifted(self.inputs.balls, by, c) for c in (-1, 0, 1)]
            return bits + 2 * nearer, half.values[()], beside

    def _runs(self, way: int, share: float = 1.0, nearer: int = 0) -> list[Array]:
        """Give the results below and above, if steps are tied here first; none if a branch is undecided."""
        vector, (bits, _, (below, here, above)) = self.vector, self._beside(nearer)
        # Undecided ones, or a program that is fixed at one point and does not hold elsewhere.
        with BALLS.precision(bits), contextlib.suppress(Exception):
            rises: list[float] | None = []
            if way in _ALONG:
                still = Execution(self.fmt, lambda _: 0.0)
                first = still.run(vector, below, self.moving)
                rises = still.rises(vector, above, self.moving) if first is not None else None
            if rises is None:
                return []
            is_tied, rounds, beside = way in _TIED, way in (*_TIED, *_BY_INDEX), None
            if way in _BY_INDEX:
                beside = Execution(self.fmt, None, to_nearest=True)
                beside.run(vector, here, self.moving)
            errors = None if is_tied else _errors(way, rises)
            execution = Execution(self.fmt, errors, share, to_nearest=rounds, beside=beside)
            at = [here, below, above] if is_tied else [below, above]
            runs = [out for x in at if (out := execution.run(vector, x, self.moving)) is not None]
            return [out.values for out in runs] if len(runs) == len(at) else []
        return []

    def _weighted(self, runs: Sequence[Array], weights: Array) -> list[Any]:
        """Give the finite slopes of ⟨weights, results⟩ between runs."""
        bits, half, _ = self._beside(0)
        if not runs:
            return []
        *here, below, above = runs
        sides = [(below, *here), (*here, above)] if here else [(below, above)]
        with BALLS.precision(bits):
            each = [weighted((b - a) * (len(sides) * half), weights) for a, b in sides]
        return [s for s in each if s.is_finite()]

    def _jumps(self, way: int, far: Sequence[Array], used: Array) -> bool:
        """Tell whether results are as far away where steps err less by far, as where a label is none.

        If steps are tied the inputs come nearer instead.
        """
        is_tied = way in _TIED
        near = self._runs(way, 1.0 if is_tied else 2.0**-NEARER, NEARER)
        with BALLS.precision(self._beside(NEARER)[0]), contextlib.suppress(Undecided):
            if not near:
                return is_tied
            if is_tied:
                return any(
                    has_jumped((n - near[0])[used], (f - far[0])[used])
                    for n, f in zip(near[1:], far[1:], strict=True)
                )
            here, there = (self.vector(*self._beside(k)[2][0]).values for k in (NEARER, 0))
            return has_jumped((near[0] - here)[used], (far[0] - there)[used])
        return False


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
