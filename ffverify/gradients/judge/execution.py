"""Execution and accuracy: what was computed, beside what the same code gives in exact arithmetic.

``execution_and_accuracy`` asks the judge's second and third question of all elements of the values, a VJP or
a JVP at once (see `.questions`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point, nearer
from ffverify.verdicts.verdict import Verdict, decide

from .exactly import Exactly
from .formula import is_limit, is_slope
from .judged import Screening

SlopeOf = Callable[[int], tuple[Array, Sequence[Array | None]]]

_MOST = 1  # findings kept of one array, the worst


def execution_and_accuracy(
    point: Point,
    own: Exactly,
    computed: Array,
    asked: Array,
    sizes: Sequence[int],
    arguments: Sequence[int],
    found: Screening,
    mode: str,
    tell: Any,
    slope_of: SlopeOf | None,
) -> None:
    """Compare what was computed with what the same code gives in exact arithmetic.

    Parameters
    ----------
    computed, asked
        The numbers, raveled and joined, and which of them are judged.
    sizes, arguments
        How many of them each array has, and which argument or result it belongs to.
    mode
        How they were computed.
    tell
        Takes what fails: ``tell(i, kind, error, allowed, tail=…)``, in ulps.
    slope_of
        Restates element i as the slope of ⟨weights, results⟩ along a direction; None for values.
    """
    fmt, g = point.fmt, point.growth
    u, least = fmt.unit_roundoff, g * 2.0**fmt.smallest_exponent
    exact, balls = own.floats, own.balls
    assert balls is not None  # noqa: S101 - callers asked
    with np.errstate(all="ignore"):
        error = np.abs(computed - exact)
        error[computed == exact] = 0.0
        near = error <= (g - 1) * u * np.abs(exact) + least
    largest = largest_of(exact, sizes)
    unseen = np.where(asked & np.isfinite(exact) & (largest > 0), g * u, np.nan)
    doubted = asked & ~near
    # Of an array's losses that are rounding beside it the first is told. More are no news, as long as the
    # code's own roundings explain them: whether it ran right is asked of every number.
    warned = np.repeat([(mode, a) in point.warned for a in arguments], sizes)
    known = doubted & warned & (error <= g * u * largest)
    if known.any():
        known &= error <= own.running + g * 2.0**fmt.emin
    doubtful = np.flatnonzero(doubted & ~known)
    failing: list[tuple[Verdict, float, float, int]] = []
    for i in doubtful.tolist():
        t, c = balls[i], float(computed[i])
        if not t.is_finite():
            continue  # undefined here: the formula question was asked of it
        ulp = 2.0 ** int(fmt.ulp_exponents(np.array([exact[i]]))[0])
        allowed = g * u * t.abs_upper() + arb(least)
        if np.isfinite(c) and abs(arb(c) - t).lower() <= allowed:
            continue
        allowed += arb(own.motion[i]) if np.isfinite(own.motion[i]) else arb.pos_inf()

        def running(i: int = i) -> Any:
            # Below the smallest normal number results may be flushed to zero: nothing is promised there.
            run = own.running[i] + g * 2.0**fmt.emin
            return arb(run) if np.isfinite(run) else arb.pos_inf()

        kind, size = decide(c, t, allowed, fmt, ulp=ulp, running=running)
        if kind is not Verdict.CORRECT:
            if np.isfinite(c) and not t.contains(0):
                found.worst_ulps = max(found.worst_ulps, size)
            failing.append((kind, size, float(allowed) / ulp if np.isfinite(c) else 0.0, i))
        elif np.isfinite(c):
            if not np.isfinite(own.motion[i]) and slope_of and is_limit(point, *slope_of(i), c):
                continue  # at a tie: any of the slopes beside it is right
            with np.errstate(over="ignore"):
                unseen[i] = max(g * u, float(allowed) / largest[i]) if largest[i] else np.nan
    found.unseen(point, mode, unseen)
    if not failing:
        return
    scale = _NaturalScale(point, own, sizes, slope_of)
    rank = {Verdict.WRONG: 0, Verdict.NONFINITE: 0, Verdict.IMPRECISE: 1}
    told = []
    for kind, size, allowed_ulps, i in failing:
        tail = kind is Verdict.IMPRECISE and scale.excuses(i, float(computed[i]))
        told.append((rank[kind], tail, -size, i, kind, allowed_ulps))
    count = 0
    for _, tail, minus, i, kind, allowed_ulps in sorted(told)[: 2 * _MOST]:
        grave = kind is Verdict.WRONG or (kind is Verdict.IMPRECISE and not tail)
        # Code whose constants are rounded may be off itself where what it computed is right.
        right = is_limit if grave else is_slope
        if slope_of and right(point, *slope_of(i), float(computed[i])):
            continue
        tell(i, kind, -minus, allowed_ulps, tail=tail)
        count += 1
        if count == _MOST:
            break


def largest_of(numbers: Array, sizes: Sequence[int]) -> Array:
    """Give for every element the largest finite magnitude in its own array."""
    magnitudes = np.where(np.isfinite(numbers), np.abs(numbers), 0.0)
    parts = np.split(magnitudes, np.cumsum(sizes)[:-1])
    return np.concatenate([np.full(p.size, p.max(initial=0.0)) for p in parts])


class _NaturalScale:
    """The scale beside which an error may be rounding: a derivative in a tail need not be relatively exact.

    It is the largest of an element's own array, at the point and at the inputs cut off at ±1; or the slope
    that changes the results by their own size when the inputs change by theirs, or by 1 if they are
    smaller: beside it what cancels, as in the gradient of a sum of a softmax, is rounding.
    """

    def __init__(
        self, point: Point, own: Exactly, sizes: Sequence[int], slope_of: SlopeOf | None
    ) -> None:
        self.point, self.own, self.slope_of = point, own, slope_of
        near = nearer(point, None)
        # Cotangents are drawn at random: with other signs they do not cancel in the same way.
        signs = [np.resize([1.0, -1.0], v.size).reshape(v.shape) * v for v in own.more]
        cut = own.at(near, own.more, signs)
        both = own.floats[None] if cut is None else np.vstack([own.floats, cut])
        self.largest = np.max([largest_of(numbers, sizes) for numbers in both], axis=0)

    def excuses(self, i: int, computed: float) -> bool:
        """Tell whether an error is within rounding of the natural scale, or of what cancels or underflows."""
        fmt, g = self.point.fmt, self.point.growth
        exact = self.own.balls[i]  # type: ignore[index]  # callers asked
        distance = float(abs(arb(computed) - exact).upper())
        if distance <= g * 2.0**fmt.emin:  # below it results may be flushed to zero
            return True
        if distance <= g * fmt.unit_roundoff * max(self.largest[i], self._of_values(i)):
            return True
        # So near to underflow that what it was made of underflowed.
        small = 2.0**fmt.emin / fmt.unit_roundoff**0.5
        size = float(exact.abs_upper())
        nothing = size <= small or exact.contains(0) or size <= 2 * self.own.constants[i]
        return bool(nothing and distance <= self.own.running[i])

    def _of_values(self, i: int) -> float:
        if self.slope_of is None:
            return 0.0
        weights, directions = self.slope_of(i)
        values = sum(
            float(abs(w) * y.abs_upper())
            for w, y in zip(weights.tolist(), self.point.exact, strict=True)
            if w
        )
        reach = sum(
            float(np.sum(np.abs(d) / np.maximum(np.abs(x.astype(np.float64)), 1.0)))
            for d, x in zip(directions, self.point.points, strict=True)
            if d is not None
        )
        return values * reach
