"""Whether code ran right, and as well as a good algorithm does.

Of numbers whose code is known exactly ``execution_and_accuracy`` asks whether what was computed is within the
running bound of it, and within how far the exact numbers move when the inputs move by their rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.verdicts.verdict import Verdict, judge

from .alternatives import is_limit, may_be
from .exactly import MANY, PROBABLE
from .numbers import Numbers
from .slope import known


def execution_and_accuracy(numbers: Numbers, asked: Array) -> None:
    """Compare what was computed with what the same code gives in exact arithmetic; keep the worst that fails.

    ``asked`` are the elements that are judged. Noted is the smallest error that each would have shown.
    """
    point, exact = numbers.point, numbers.exactly.floats
    if not np.isfinite(numbers.computed).all():
        asked = asked & (np.isfinite(numbers.computed) | ~numbers.too_large)
    largest = numbers.of_largest(exact)
    unit = point.growth * point.fmt.unit_roundoff
    # A formula may be off by as much as a library's function, and what it computes by rounding besides.
    formula = 0.0 if numbers.mode == "value" else LIBRARY_ROUNDINGS * point.fmt.unit_roundoff
    unseen = np.where(asked & np.isfinite(exact) & (largest > 0), unit + formula, np.nan)
    warned = np.array([(numbers.mode, owner) in point.warned for owner in numbers.owners])
    doubtful = _doubtful(numbers, asked & numbers.doubts[0], warned, unit * largest)
    if doubtful.size:
        unseen[doubtful] = np.fmax(unseen[doubtful], _judge(numbers, doubtful, warned, largest))
    numbers.unseen(unseen)


def _doubtful(numbers: Numbers, doubted: Array, warned: Array, rounding: Array) -> Array:
    """Give the places of elements that are off by more than what is known to be rounding."""
    # Of an array's losses that are rounding beside it the first is told. More are no news, as long as the
    # code's own roundings explain them: whether it ran right is asked of every number.
    error, own, flushed = numbers.doubts[1], numbers.exactly, _flushed(numbers)
    old = doubted & warned[numbers.which] & (error <= rounding)
    if old.any():
        doubted = doubted & ~(old & (error <= own.running + flushed))
    # What is undefined here is left out: the formula question was asked of it.
    balls = numbers.balls
    return np.array([i for i in np.flatnonzero(doubted) if balls[i].is_finite()], dtype=int)


def _flushed(numbers: Numbers) -> float:
    """Give what results may lose that are flushed to zero: below the smallest normal nothing is promised."""
    return numbers.point.growth * 2.0**numbers.point.fmt.emin


def _judge(numbers: Numbers, doubtful: Array, warned: Array, largest: Array) -> Array:
    """Keep the worst of the elements that are off, and give how large an error each may have unseen."""
    point, computed, own = numbers.point, numbers.computed, numbers.exactly
    balls, error, is_slope = numbers.balls, numbers.doubts[1], numbers.mode != "value"
    truth = replace(
        known(balls[doubtful], point.growth),
        measure=lambda: BALLS.array(_motion(numbers, doubtful, error[doubtful])).values,
    )
    found = judge(
        computed[doubtful], truth, point.fmt,
        running=lambda: BALLS.array(own.running[doubtful] + _flushed(numbers)).values,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        allowed = np.ldexp(found.allowed_ulps, point.fmt.ulp_exponents(own.floats[doubtful]))
        unseen = allowed / largest[doubtful]
    ranked = []
    for k, i in enumerate(doubtful.tolist()):
        kind, size, finite = found.verdicts[k], float(found.error_ulps[k]), np.isfinite(computed[i])
        if kind is not Verdict.CORRECT:
            tail = kind is Verdict.IMPRECISE and numbers.is_relative(i, balls[i])
            if finite and not (tail or balls[i].contains(0)):
                numbers.found.worst_ulps = max(numbers.found.worst_ulps, size)
            if not (tail and warned[numbers.which[i]]):
                ranked.append((kind is Verdict.IMPRECISE, tail, -size, i, k))
        # At a tie any of the slopes beside it is right, however far apart they are.
        lost = is_slope and unseen[k] > point.fmt.unit_roundoff**0.5
        if (
            kind is not Verdict.CORRECT
            or not finite
            or not largest[i]
            or (lost and is_limit(numbers.slope(i), computed[i]))
        ):
            unseen[k] = np.nan
    for _, tail, minus, i, k in sorted(ranked)[:2]:
        number, decided = float(computed[i]), own.code and np.isfinite(own.running[i])
        # Code whose constants are rounded may be off itself where what it computed is right.
        if is_slope and may_be(numbers.slope(i), number, rounded=not decided):
            continue
        allowed_ulps = float(found.allowed_ulps[k])
        numbers.fail(
            i, found.verdicts[k], known(balls[i], point.growth), -minus, allowed_ulps, tail=tail
        )
        break
    return unseen


def _motion(numbers: Numbers, chosen: Array, error: Array) -> Array:
    """Give how far chosen numbers, which have errors, move with the inputs: with many, as floats tell.

    That costs three runs in floats in place of two in balls, half of a check of a million numbers. It is
    √m times a 2-norm, as are the moves in balls (see `PROBABLE`); what floats leave open these tell.

    Where the largest of an array moves by its own size, and within the moves lies a pole or a branch,
    smaller moves may move it farther, without bound: no digit is promised, and all that is asked is what
    roundings can add up to. Deviations of an ulp or two from a mean are so, normalised.
    """
    point, own = numbers.point, numbers.exactly
    count = sum(x.size for x, f in zip(point.points, point.floating, strict=True) if f)
    floats = numbers.motion if count > MANY and numbers.mode != "value" else None
    if floats is not None and np.all(floats[chosen] > 0):
        return floats[chosen] * min(1.0, PROBABLE / np.sqrt(count))  # type: ignore[no-any-return]  # an array
    found = own.motion(chosen)
    if np.any(error > found) and own.has_pole_beside:
        sure = np.where([b.contains(0) for b in own.balls], 0.0, own.floats)
        with np.errstate(all="ignore"):
            largest = numbers.of_largest(own.motion(np.arange(sure.size)))
            # Infinite, or nan, beside an exact 0.
            share = (largest / numbers.of_largest(sure))[chosen]
        lost = np.isfinite(share) & (share >= 1)
        found = np.where(lost, np.maximum(found, own.running[chosen]), found)
    if np.any(error > found) and count <= MANY:
        # Of so many moves one is no less than an eighth of any.
        lost = 8 * own.wild[chosen] >= error
        found = np.where(lost, np.maximum(found, own.running[chosen]), found)
    return found
