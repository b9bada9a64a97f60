"""Derivatives whose code has no exact form: the formula question is asked of what was computed.

Its rounding is noise then, and an error of less than half the digits is taken for it. The slopes that it is
compared with are exact; or, as a last resort, they are differences of a function that is unknown as well
(see `ffverify.gradients.opaque`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array
from ffverify.gradients.directions import cotangents, random_direction
from ffverify.gradients.evaluation import Point, attached
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.adaptive import Truth
from ffverify.truth.slopes import Slopes
from ffverify.verdicts.verdict import Verdict, judge

from .formula import Identity, judge_sum
from .judged import Screening
from .natural_scale import NaturalScale
from .numbers import Numbers, gradients, tangents

# What is measured of a point. More of the same costs more, and says the same of one function.
_SUSPECTS = 4  # of one array, judged one by one
_SINGLY = 32  # elements of an input that differences check one by one
_PROJECTIONS = 3  # of an input that is larger than that

_OFF = (Verdict.WRONG, Verdict.IMPRECISE)


def judge_tangents(jvp: Numbers, exact: Slopes, smooth: Array) -> None:
    """Judge a JVP against the exact slopes of the results."""
    expected = midpoints(exact.exact)
    unseen = np.where(smooth, jvp.point.growth * jvp.point.fmt.unit_roundoff, np.nan)
    suspects = _suspects(jvp, expected, smooth)
    if suspects and jvp.motion is not None:
        largest = float(np.abs(expected[smooth]).max())
        unseen = np.maximum(unseen, jvp.motion / (largest or 1.0))
        suspects = _suspects(jvp, expected, smooth, jvp.motion)
    jvp.unseen(unseen)
    for o in suspects:
        judge_one(jvp, o)


def _suspects(
    jvp: Numbers, expected: Array, wanted: Array, motion: Array | None = None
) -> list[int]:
    """Give elements that differ from what is expected by more than plain rounding, the worst first."""
    fmt, g, computed = jvp.point.fmt, jvp.point.growth, jvp.computed
    with np.errstate(all="ignore"):
        error = np.abs(computed - expected)
        error[computed == expected] = 0.0
        allowed = g * (fmt.unit_roundoff * np.abs(expected) + 2.0**fmt.smallest_exponent)
        bad = wanted & ~(error <= (allowed if motion is None else np.maximum(allowed, motion)))
        rank = np.nan_to_num(np.where(bad, error / allowed, -1.0), nan=np.inf, posinf=np.inf)
    order = np.argsort(-rank, kind="stable")
    return [int(i) for i in order[:_SUSPECTS] if bad[i]]


def judge_vjp(vjp: Numbers, step: Array, undefined: Array, *, tied: bool) -> None:
    """Judge a VJP by its sum along a direction; elements that are ``undefined`` have no derivative.

    Where the direction keeps ties they may be wrong together that are right one by one.
    """
    chosen, unseen = _led_to(vjp, [step], ~undefined)
    before = len(vjp.found.failed)
    for i in chosen:
        judge_one(vjp, i)
    vjp.unseen(unseen)
    if tied and chosen and len(vjp.found.failed) == before:
        judge_sum(Identity(vjp, _as_balls(vjp.computed), step))


def _led_to(vjp: Numbers, steps: Iterable[Array], defined: Array) -> tuple[list[int], Array]:
    """Give elements that are not finite, and those to which sums along directions lead that are off.

    Beside them stands the smallest error of a single element that would have shown, in units of the largest.
    """
    finite = np.isfinite(vjp.computed)
    chosen = np.flatnonzero(~finite & defined)[:_SUSPECTS].tolist()
    largest = float(np.abs(vjp.computed[finite]).max(initial=0.0)) or 1.0
    balls, unseen = _as_balls(vjp.computed), np.full(finite.size, np.nan)
    for step in steps:
        identity = Identity(vjp, balls, step)
        part = identity.whole
        if part.size:
            slope, noise = identity.slope(part), identity.rounding(part)
            width = 2 * float(slope.rad()) if slope.is_finite() else np.inf
            seen = (noise + width) / np.abs(step[part]) / largest
            unseen[part] = np.fmin(unseen[part], seen)
            if identity.residual(part, slope) > noise:
                chosen.append(int(identity.lead(part, 2, 1)[0]))
    return chosen, unseen


def _as_balls(computed: Array) -> Array:
    return np.array([arb(c) for c in computed.tolist()], dtype=object)


def judge_one(numbers: Numbers, i: int, *, by_rounding: bool = False) -> None:
    """Judge one number against its own exact slope and keep it if it fails.

    Code that is 0/0 here and computed a number all the same did so ``by_rounding``: that may be anything, and
    says nothing of the formula.
    """
    slope = numbers.slope(i)
    kind, error, allowed = _judged(numbers, i, slope.truth)
    if np.isfinite(error) and not slope.truth.exact[0].contains(0):
        numbers.found.worst_ulps = max(numbers.found.worst_ulps, error)
    if kind is Verdict.CORRECT or (kind in _OFF and slope.is_limit(numbers.computed[i])):
        return
    tail = kind in _OFF and NaturalScale(numbers, None).excuses(i, slope.truth.exact[0])
    kind = Verdict.IMPRECISE if tail or (by_rounding and kind in _OFF) else kind
    numbers.fail(i, kind, slope.truth, error, allowed, tail=tail)


def _judged(numbers: Numbers, i: int, truth: Truth) -> tuple[Verdict, float, float]:
    found = judge(numbers.computed[i : i + 1], truth, numbers.point.fmt)
    return found.verdicts[0], float(found.error_ulps[0]), float(found.allowed_ulps[0])


# ---------------------------------------------------------------------------------------------
# The function is unknown too
# ---------------------------------------------------------------------------------------------


def screen_by_differences(point: Point, found: Screening) -> None:
    """Check against extrapolated differences: every element of a small input, else sums of them."""
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
        for i in chosen:
            unseen[i] = _judge_by_differences(vjp, i)
        vjp.unseen(unseen)
    jvp = tangents(point, found, random_direction(point, proportional=True))
    if jvp is not None:
        unseen = np.full(usable.size, np.nan)
        for o in np.flatnonzero(usable)[:_SINGLY].tolist():
            unseen[o] = _judge_by_differences(jvp, o)
        jvp.unseen(unseen)


def _judge_by_differences(numbers: Numbers, i: int) -> float:
    """Judge one number; give the error that it might have unaccused, beside the largest of its array."""
    point, slope, computed = numbers.point, numbers.slope(i), float(numbers.computed[i])
    assert point.formulas.differences is not None  # noqa: S101 - there is always one of the two
    ball, kink = point.formulas.differences(slope.weights, slope.directions)
    no = np.array([False])

    def motion() -> Array:
        return np.array([arb(0 if numbers.motion is None else numbers.motion[i])], dtype=object)

    truth = Truth(np.array([ball], dtype=object), motion, no, no, growth=point.growth)
    kind, error, allowed = _judged(numbers, i, truth)
    reason, tail = "", False
    if kind is Verdict.INCONCLUSIVE and ball.is_finite():
        kind = Verdict.CORRECT  # as far as these differences can tell: `sensitivity` says how far
    if kind is not Verdict.CORRECT and (
        # A limit of gradients nearby need not lie between the two sides along one of several inputs.
        (kink and sum(x.size for x in point.points) > 1) or _is_limit(numbers, i)
    ):
        kind = Verdict.INCONCLUSIVE
        reason = "It lies at a kink, and only differences are known of this function."
    elif kind in _OFF and NaturalScale(numbers, None).excuses(i, ball):
        kind, tail = Verdict.IMPRECISE, True
    numbers.found.judged += kind is not Verdict.INCONCLUSIVE
    if kind is not Verdict.CORRECT:
        numbers.fail(i, kind, truth, error, allowed, tail=tail, reason=reason)
    if not ball.is_finite() or kind is Verdict.INCONCLUSIVE:
        return np.nan
    excused = np.isfinite(computed) and (tail or kind is Verdict.CORRECT)
    error = float((ball - computed).abs_upper() if excused else ball.rad())
    return error / (float(numbers.of_largest(numbers.computed)[i]) or 1.0)


def _is_limit(numbers: Numbers, i: int) -> bool:
    """Tell whether a number lies between slopes nearby that do not draw together at the point."""
    point, slope, computed = numbers.point, numbers.slope(i), float(numbers.computed[i])
    assert point.formulas.limits is not None  # noqa: S101 - there beside the differences
    if not np.isfinite(computed):
        return False
    hull = point.formulas.limits(slope.weights, slope.directions)
    own = point.growth * point.fmt.unit_roundoff * abs(computed)
    return hull is not None and hull[0] - own <= computed <= hull[1] + own
