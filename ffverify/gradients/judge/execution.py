"""Execution and accuracy: what was computed, beside what the same code gives in exact arithmetic.

``execution_and_accuracy`` asks the judge's second and third question of all elements of the values, a VJP or
a JVP at once (see `.questions`).
"""

from __future__ import annotations

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.verdict import Verdict, judge

from .exactly import MANY, PROBABLE
from .numbers import Numbers
from .slope import known


def execution_and_accuracy(numbers: Numbers, asked: Array) -> None:
    """Compare what was computed with what the same code gives in exact arithmetic; keep the worst that fails.

    ``asked`` are the elements that are judged.
    """
    point, computed, own = numbers.point, numbers.computed, numbers.exactly
    fmt, g, exact = point.fmt, point.growth, own.floats
    unit, flushed = g * fmt.unit_roundoff, g * 2.0**fmt.emin
    off, error = numbers.doubted(exact)
    largest = numbers.of_largest(exact)
    unseen = np.where(asked & np.isfinite(exact) & (largest > 0), unit, np.nan)
    doubted = asked & off
    # Of an array's losses that are rounding beside it the first is told. More are no news, as long as the
    # code's own roundings explain them: whether it ran right is asked of every number.
    warned = np.array([(numbers.mode, owner) in point.warned for owner in numbers.owners])
    old = doubted & warned[numbers.which] & (error <= unit * largest)
    if old.any():
        doubted &= ~(old & (error <= own.running + flushed))
    balls = own.balls
    # What is undefined here is left out: the formula question was asked of it.
    doubtful = np.array([i for i in np.flatnonzero(doubted) if balls[i].is_finite()], dtype=int)
    if not doubtful.size:
        numbers.unseen(unseen)
        return

    def running() -> Array:
        # Below the smallest normal number results may be flushed to zero: nothing is promised there.
        return _as_balls(own.running[doubtful] + flushed)

    no = np.zeros(doubtful.size, dtype=bool)
    truth = Truth(balls[doubtful], lambda: _as_balls(_motion(numbers, doubtful)), no, ~no, g)
    found = judge(computed[doubtful], truth, fmt, running=running)
    allowed = np.ldexp(found.allowed_ulps, fmt.ulp_exponents(exact[doubtful]))
    failing = []
    for k, i in enumerate(doubtful.tolist()):
        kind, size, finite = found.verdicts[k], float(found.error_ulps[k]), np.isfinite(computed[i])
        if kind is not Verdict.CORRECT:
            if finite and not balls[i].contains(0):
                numbers.found.worst_ulps = max(numbers.found.worst_ulps, size)
            failing.append((k, i, kind, size))
        elif finite and largest[i]:
            # At a tie any of the slopes beside it is right, however far apart they are.
            lost = allowed[k] > fmt.unit_roundoff**0.5 * largest[i]
            if not (lost and numbers.mode != "value" and numbers.slope(i).is_limit(computed[i])):
                with np.errstate(over="ignore"):
                    unseen[i] = max(unit, allowed[k] / largest[i])
    numbers.unseen(unseen)
    _tell(numbers, failing, found.allowed_ulps)


def _tell(numbers: Numbers, failing: list[tuple[int, int, Verdict, float]], allowed: Array) -> None:
    """Keep the worst of what fails that is not right after all: one or none of the first two."""
    balls, ranked = numbers.exactly.balls, []
    for k, i, kind, size in failing:
        tail = kind is Verdict.IMPRECISE and numbers.is_relative(i, balls[i])
        ranked.append((kind is Verdict.IMPRECISE, tail, -size, i, kind, float(allowed[k])))
    for _, tail, minus, i, kind, ulps in sorted(ranked)[:2]:
        # Code whose constants are rounded may be off itself where what it computed is right.
        if numbers.mode != "value" and numbers.slope(i).is_limit(float(numbers.computed[i])):
            continue
        numbers.fail(i, kind, known(balls[i], numbers.point.growth), -minus, ulps, tail=tail)
        return


def _motion(numbers: Numbers, chosen: Array) -> Array:
    """Give how far chosen numbers move with the inputs: with many, as floats tell (`numbers.motion`).

    That costs three runs in floats in place of two in balls, half of a check of a million numbers. It is
    √m times a 2-norm, as are the moves in balls (see `PROBABLE`); what floats leave open these tell.
    """
    count = sum(
        x.size for x, f in zip(numbers.point.points, numbers.point.floating, strict=True) if f
    )
    floats = numbers.motion if count > MANY and numbers.mode != "value" else None
    if floats is not None and np.all(floats[chosen] > 0):
        told: Array = floats[chosen] * min(1.0, PROBABLE / np.sqrt(count))
        return told
    return numbers.exactly.motion(chosen)


def _as_balls(sizes: Array) -> Array:
    return np.array([arb(s) for s in sizes.tolist()], dtype=object)
