"""Derivatives whose code has no exact form: the formula question is asked of what was computed.

Its rounding is noise then, and an error of less than half the digits is taken for it. The slopes that it is
compared with are exact; or, as a last resort, they are differences of a function that is unknown as well
(see `ffverify.gradients.opaque`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array
from ffverify.gradients.directions import cotangents, random_direction
from ffverify.gradients.evaluation import Point, attached, results_beside, widened
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.slopes import Slopes
from ffverify.verdicts.verdict import Verdict, judge

from .alternatives import may_be
from .formula import Identity
from .numbers import Numbers, Screening, gradients, tangents

# Of one array, judged one by one: one is a finding, others stand in for what a kink excuses.
_SUSPECTS = 4
_SINGLY = 32  # elements of an input that differences check one by one
# Sums that are checked of a larger input: any shows an error of whichever element, unless a kink lies across
# its direction, which says nothing then.
_PROJECTIONS = 3

_OFF = (Verdict.WRONG, Verdict.IMPRECISE)


def judge_tangents(jvp: Numbers, exact: Slopes, smooth: Array) -> None:
    """Judge a JVP against the exact slopes of the results."""
    expected = midpoints(exact.exact)
    off, error = jvp.doubted(expected)
    off &= smooth
    unseen = np.where(smooth, jvp.point.growth * jvp.point.fmt.unit_roundoff, np.nan)
    if off.any() and jvp.motion is not None:
        largest = float(np.abs(expected[smooth]).max())
        unseen = np.maximum(unseen, jvp.motion / (largest or 1.0))
        off &= ~(error <= jvp.motion)
    jvp.unseen(unseen)
    with np.errstate(all="ignore"):
        rank = np.nan_to_num(-error / np.abs(expected), nan=-np.inf)
    for o in sorted(np.flatnonzero(off).tolist(), key=lambda o: float(rank[o]))[:_SUSPECTS]:
        judge_one(jvp, o)


def judge_vjp(vjp: Numbers, step: Array, undefined: Array) -> None:
    """Judge a VJP by its sum along a direction; elements that are ``undefined`` have no derivative."""
    chosen, unseen = _led_to(vjp, [step], ~undefined)
    for i in chosen:
        judge_one(vjp, i)
    vjp.unseen(unseen)


def _led_to(vjp: Numbers, steps: Iterable[Array], defined: Array) -> tuple[list[int], Array]:
    """Give elements that are not finite, and those to which sums along directions lead that are off.

    Beside them stands the smallest error of a single element that would have shown, in units of the largest.
    """
    finite = np.isfinite(vjp.computed)
    chosen = np.flatnonzero(~finite & defined)[:_SUSPECTS].tolist()
    largest = float(np.abs(vjp.computed[finite]).max(initial=0.0)) or 1.0
    unseen = np.full(finite.size, np.nan)
    for step in steps:
        identity = Identity(vjp, step)
        part = identity.whole
        if part.size:
            slope, noise = identity.total, identity.rounding(part)
            width = 2 * float(slope.rad()) if slope.is_finite() else np.inf
            seen = (noise + width) / np.abs(step[part]) / largest
            unseen[part] = np.fmin(unseen[part], seen)
            if identity.residual(part) > noise:
                chosen.append(int(identity.lead(part, 2, 1)[0]))
    return chosen, unseen


def judge_one(numbers: Numbers, i: int) -> float:
    """Judge one number against its own slope and keep it if it fails.

    Code that is known to be 0/0 here and computed a number all the same did so by rounding: that may be
    anything, and says nothing of the formula.

    Returns
    -------
    The error that it might have unaccused, beside the largest of its array; nan where nothing is known.
    """
    point, slope, computed = numbers.point, numbers.slope(i), float(numbers.computed[i])
    truth, is_exact = slope.truth, point.formulas.forward is not None
    ball, reason, tail = truth.exact[0], "", False
    if not is_exact:
        motion = np.inf if numbers.motion is None else numbers.motion[i]
        truth = replace(truth, measure=lambda: np.array([arb(motion)], dtype=object))
    found = judge(numbers.computed[i : i + 1], truth, point.fmt)
    kind, error = found.verdicts[0], float(found.error_ulps[0])
    if kind is Verdict.INCONCLUSIVE and not is_exact and ball.is_finite():
        kind = Verdict.CORRECT  # as far as these differences can tell: `sensitivity` says how far
    doubtful = kind in _OFF if is_exact else kind is not Verdict.CORRECT
    if doubtful and may_be(slope, computed):
        kind = Verdict.CORRECT if is_exact else Verdict.INCONCLUSIVE
        reason = "It lies at a kink, and only differences are known of this function."
    elif kind in _OFF and numbers.is_relative(i, ball):
        kind, tail = Verdict.IMPRECISE, True
    elif kind in _OFF and (
        numbers.own is not None
        or (is_exact and slope.has_lost_values())
        or _is_right_widened(numbers, i, ball)
    ):
        kind = Verdict.IMPRECISE
    if is_exact and np.isfinite(error) and not (tail or ball.contains(0)):
        numbers.found.worst_ulps = max(numbers.found.worst_ulps, error)
    if kind is not Verdict.CORRECT:
        numbers.fail(i, kind, truth, error, float(found.allowed_ulps[0]), tail=tail, reason=reason)
    if not ball.is_finite() or kind is Verdict.INCONCLUSIVE:
        return np.nan
    excused = np.isfinite(computed) and (tail or kind is Verdict.CORRECT)
    unseen = float((ball - computed).abs_upper() if excused else ball.rad())
    allowed = point.growth * point.fmt.unit_roundoff * float(ball.abs_upper())
    if numbers.motion is not None and np.isfinite(numbers.motion[i]):
        allowed += float(numbers.motion[i])
    unseen += allowed
    return unseen / (float(numbers.of_largest(numbers.computed)[i]) or 1.0)


def _is_right_widened(numbers: Numbers, i: int, exact: Any) -> bool:
    """Tell whether the same code has a number right in a wider format: then its formula is.

    Or nearly right, where it cancels there too: an error of rounding falls as the unit roundoff does, one of
    the formula stays. Half of the digits that are won tell these apart.
    """
    wide = widened(numbers.point)
    if wide is None or not np.isfinite(numbers.computed[i]):
        return False
    try:
        if numbers.directions is None:
            found = gradients(wide, Screening(), numbers.weights)
        else:
            found = tangents(wide, Screening(), numbers.directions)
    except Fault:  # the code refuses wide numbers
        return False
    if found is None:
        return False
    unit = numbers.point.growth * numbers.point.fmt.unit_roundoff
    won = (wide.fmt.unit_roundoff / numbers.point.fmt.unit_roundoff) ** 0.5
    there, here = (abs(arb(float(n.computed[i])) - exact) for n in (found, numbers))
    return bool(there.abs_lower() <= max(unit * exact.abs_upper(), won * here.abs_lower()))


def screen_by_differences(point: Point, found: Screening) -> None:
    """Judge a function that is unknown too: every element of a small input, else sums of them."""
    usable = np.isfinite(point.computed) & attached(point)
    if not usable.any():
        raise Fault(f"{point.subject.name} is not finite here, so it has no derivative")
    weights = np.where(usable, cotangents(point, usable.size), 0.0)
    vjp = gradients(point, found, weights)
    if vjp is not None:
        size = vjp.computed.size
        chosen, unseen = list(range(size)), np.full(size, np.inf)
        if size > _SINGLY:
            found.judged += size
            drawn = [random_direction(point, proportional=True) for _ in range(_PROJECTIONS)]
            steps = [np.concatenate([d.ravel() for d in each if d is not None]) for each in drawn]
            chosen, unseen = _led_to(vjp, steps, np.ones(size, dtype=bool))
        poles = _poles(vjp, usable, chosen)
        unseen[poles] = np.nan
        _judge_each(vjp, [i for i in chosen if i not in poles], unseen)
    jvp = tangents(point, found, random_direction(point, proportional=True))
    if jvp is not None:
        chosen = np.flatnonzero(usable)[:_SINGLY].tolist()
        _judge_each(jvp, chosen, np.full(usable.size, np.nan))


def _poles(vjp: Numbers, usable: Array, chosen: list[int]) -> list[int]:
    """Give elements that are not finite and move a result that is not: 0 times its slope is nan."""
    point, others = vjp.point, ~usable & attached(vjp.point)
    broken = [i for i in chosen if not np.isfinite(vjp.computed[i])] if others.any() else []
    found = dict[int, None]()
    for i, (j, place) in zip(broken, vjp.places(broken), strict=True):
        step = point.fmt.unit_roundoff**0.5 * max(abs(float(point.points[j].ravel()[place])), 1.0)
        with contextlib.suppress(Fault):  # not defined there
            for h in (step, -step):
                there = results_beside(point, point.unit(j, place), h)[others]
                if not np.array_equal(there, point.computed[others], equal_nan=True):
                    found[i] = None
    if found:
        why = f"not finite in {len(found)} of {vjp.computed.size} at some input, where a result is not either"
        vjp.found.skipped[f"numbers of {vjp.mode} mode"] = why
    return list(found)


def _judge_each(numbers: Numbers, chosen: list[int], unseen: Array) -> None:
    for i in chosen:
        unseen[i] = judge_one(numbers, i)
    numbers.found.judged += int(np.count_nonzero(~np.isnan(unseen[chosen])))
    numbers.unseen(unseen)
