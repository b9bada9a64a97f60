"""Derivatives whose code has no exact form: what was computed is compared with exact slopes of the function.

Where the code is unknown the formula question is asked of the computed numbers, with their rounding as
noise; an error of less than half the digits is taken for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array
from ffverify.exact.programs import projected
from ffverify.gradients.evaluation import Point, forward_motion, result_index
from ffverify.truth.slopes import Slopes, along, projection_slope
from ffverify.verdicts.verdict import Verdict, judge

from .formula import is_limit
from .judged import Judged, Screening
from .natural_scale import is_noise, is_tail

_SUSPECTS = 4  # of one array, judged one by one


def judge_tangents(
    point: Point,
    found: Screening,
    tangents: Array,
    directions: Sequence[Array | None],
    exact: Slopes,
    smooth: Array,
) -> None:
    """Judge a JVP against the exact slopes of the results."""
    expected = midpoints(exact.exact)
    suspects = _suspects(point, tangents, expected, smooth)
    unit = point.growth * point.fmt.unit_roundoff
    unseen = np.where(smooth, unit, np.nan)
    if suspects:
        motion = forward_motion(point, directions)
        largest = float(np.abs(expected[smooth]).max())
        if motion is not None and largest:
            unseen = np.maximum(unseen, motion / largest)
    found.unseen(point, point.subject.forward, unseen)
    if not suspects:
        return
    for o in _suspects(point, tangents, expected, smooth, motion):
        weights = np.zeros(tangents.size)
        weights[o] = 1.0
        k, index = result_index(point, o)
        judge_one(
            point, found, point.subject.forward, k, index, float(tangents[o]), weights, directions,
            tangents,
        )  # fmt: skip


def judge_vjp(
    point: Point,
    found: Screening,
    gradients: Sequence[Array | None],
    weights: Array,
    directions: Sequence[Array | None],
    undefined: Array,
) -> None:
    """Judge a VJP by its projection on a direction; bisection leads to an element that is off.

    Elements that are ``undefined`` have no derivative.
    """
    computed = np.concatenate([np.ravel(g).astype(np.float64) for g in gradients if g is not None])
    step = np.concatenate([np.ravel(d) for d in directions if d is not None])
    owner = np.concatenate([np.full(g.size, j) for j, g in enumerate(gradients) if g is not None])
    place = np.concatenate([np.arange(g.size) for g in gradients if g is not None])
    broken = np.flatnonzero(~np.isfinite(computed) & ~undefined)

    def tell(i: int) -> None:
        j, flat = int(owner[i]), int(place[i])
        g = gradients[j]
        assert g is not None  # noqa: S101 - as listed
        index = tuple(int(n) for n in np.unravel_index(flat, g.shape))
        judge_one(
            point, found, point.subject.reverse, j, index, float(computed[i]), weights,
            point.unit(j, flat), g,
        )  # fmt: skip

    for i in broken[:_SUSPECTS].tolist():
        tell(i)
    step = np.where(np.isfinite(computed), step, 0.0)
    part = np.flatnonzero(step)
    if not part.size:
        return

    def residual(chosen: Array) -> float:
        masked: list[Array | None] = []
        for j, x in enumerate(point.points):
            here = chosen[owner[chosen] == j]
            d = np.zeros(x.size)
            d[place[here]] = step[here]
            masked.append(d.reshape(x.shape) if here.size else None)
        slope = projection_slope(point.vector, weights, point.inputs, masked, 128)
        with BALLS.precision(256):
            total = sum(
                (arb(c) * s for c, s in zip(computed[chosen], step[chosen], strict=True)), arb(0)
            )
        apart = total - slope
        return float(apart.abs_lower()) if apart.is_finite() else np.inf

    tolerance = point.growth * point.fmt.unit_roundoff * np.abs(computed * step)

    def noise(chosen: Array) -> float:
        """Add up roundings, which meet random signs, as their root sum of squares."""
        return float(np.sqrt(np.sum(tolerance[chosen] ** 2))) + 2.0**point.fmt.smallest_exponent

    smallest = float(np.abs(step[part]).min())
    largest = float(np.abs(computed[part]).max(initial=0.0))
    if largest:
        unseen = np.full(computed.size, np.nan)
        unseen[part] = noise(part) / smallest / largest
        found.unseen(point, point.subject.reverse, unseen)
    if residual(part) <= noise(part):
        return
    while part.size > 1:
        left, right = np.split(part, [part.size // 2])
        part = max((left, right), key=lambda p: residual(p) / noise(p))
    tell(int(part[0]))


def judge_one(
    point: Point,
    found: Screening,
    mode: str,
    argument: int,
    index: tuple[int, ...],
    computed: float,
    weights: Array,
    directions: Sequence[Array | None],
    gradient: Array,
) -> None:
    """Judge one number against its own exact slope and keep it if it fails."""
    moving = [(x != 0) if f else None for x, f in zip(point.points, point.floating, strict=True)]
    program = projected(point.vector, weights)
    exact = along(program, point.inputs, directions, point.fmt, growth=point.growth, moving=moving)
    judgement = judge(np.array([computed]), exact, point.fmt)
    verdict = Verdict(judgement.verdicts[0])
    error, allowed = float(judgement.error_ulps[0]), float(judgement.allowed_ulps[0])
    if np.isfinite(error) and not exact.exact[0].contains(0):
        found.worst_ulps = max(found.worst_ulps, error)
    if verdict is Verdict.CORRECT:
        return
    tail = False
    if verdict in (Verdict.WRONG, Verdict.IMPRECISE):
        if is_limit(point, weights, directions, computed):
            return
        tail = is_tail(point, weights, directions, computed, exact, gradient) or is_noise(
            point, weights, directions, computed, exact
        )
        verdict = Verdict.IMPRECISE if tail else verdict
    found.failed.append(
        Judged(
            point, mode, argument, index, verdict, computed, exact, error, allowed, tail, weights,
            directions, gradient,
        )
    )  # fmt: skip


def _suspects(
    point: Point, computed: Array, expected: Array, wanted: Array, motion: Array | None = None
) -> list[int]:
    """Give elements that differ from what is expected by more than plain rounding, the worst first."""
    with np.errstate(all="ignore"):
        error = np.abs(computed - expected)
        error[computed == expected] = 0.0
        allowed = point.growth * (
            point.fmt.unit_roundoff * np.abs(expected) + 2.0**point.fmt.smallest_exponent
        )
        bad = wanted & ~(error <= allowed)
        if motion is not None:
            bad &= ~(error <= motion)
        rank = np.nan_to_num(np.where(bad, error / allowed, -1.0), nan=np.inf, posinf=np.inf)
    order = np.argsort(-rank, kind="stable")
    return [int(i) for i in order[:_SUSPECTS] if bad[i]]
