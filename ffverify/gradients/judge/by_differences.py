"""Screen a function of which only differences are known (see `ffverify.gradients.opaque`): a last resort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.directions import cotangents, random_direction, signed
from ffverify.gradients.evaluation import (
    Point,
    attached,
    forward_motion,
    gradients_of,
    result_index,
    reverse_motion,
    tangents_of,
)
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.derivatives import Truth
from ffverify.verdicts.verdict import Verdict, judge

from .judged import Judged, Screening
from .natural_scale import is_beside_others, is_noise

_FEW = 32  # elements of an input that differences check one by one
_PROJECTIONS = 3  # of an input that is larger than that


def screen_by_differences(point: Point, found: Screening) -> None:
    """Check against extrapolated differences: every element of a small input, else by projections."""
    slope = point.formulas.differences
    assert slope is not None  # noqa: S101 - there is always one of the two
    usable = np.isfinite(point.computed) & attached(point)
    if not usable.any():
        raise Fault(f"{point.subject.name} is not finite here, so it has no derivative")
    weights = np.where(usable, cotangents(point, usable.size), 0.0)
    gradients = gradients_of(point, weights)
    if gradients is not None:
        elements = [(j, i) for j, g in enumerate(gradients) if g is not None for i in range(g.size)]
        unseen = np.full(len(elements), np.inf)
        suspects = elements
        if len(elements) > _FEW:
            found.judged += len(elements)
            suspects, unseen[:] = _bisected_by_differences(point, weights, gradients, slope)
        motions = cache(lambda: reverse_motion(point, weights))

        def of_argument(j: int) -> Callable[[], Array | None]:
            return lambda: motions()[j]

        for j, i in suspects:
            g = gradients[j]
            index = tuple(int(k) for k in np.unravel_index(i, point.points[j].shape))
            unit = point.unit(j, i)
            c = float(np.ravel(g)[i])  # type: ignore[arg-type]  # only arrays are listed
            unseen[elements.index((j, i))] = _judge_by_differences(
                point, found, point.subject.reverse, j, index, c, slope(weights, unit), weights, unit, g,
                of_argument(j), i,
            )  # fmt: skip
        found.unseen(point, point.subject.reverse, unseen)
    directions = random_direction(point)
    tangents = tangents_of(point, directions, found.skipped)
    if tangents is not None:
        ahead = cache(lambda: forward_motion(point, directions))
        unseen = np.full(tangents.size, np.nan)
        for o in np.flatnonzero(usable)[:_FEW]:
            one = np.zeros(tangents.size)
            one[o] = 1.0
            k, index = result_index(point, int(o))
            unseen[o] = _judge_by_differences(
                point, found, point.subject.forward, k, index, float(tangents[o]),
                slope(one, directions), one, directions, tangents, ahead, int(o),
            )  # fmt: skip
        found.unseen(point, point.subject.forward, unseen)


def _bisected_by_differences(
    point: Point,
    weights: Array,
    gradients: list[Array | None],
    slope: Callable[[Array, Sequence[Array | None]], tuple[Any, bool]],
) -> tuple[list[tuple[int, int]], float]:
    """Compare a few projections with differences; lead to an element where they disagree.

    The second result is the smallest error of a single element that would have shown, beside the largest.
    """
    moved = [j for j, g in enumerate(gradients) if g is not None]
    owner = np.concatenate([np.full(point.points[j].size, j) for j in moved])
    place = np.concatenate([np.arange(point.points[j].size) for j in moved])
    computed = np.concatenate([np.ravel(gradients[j]).astype(np.float64) for j in moved])  # type: ignore[arg-type]  # as listed
    chosen: list[tuple[int, int]] = []
    seen = np.inf
    for _ in range(_PROJECTIONS):
        step = signed(point, computed.size)

        def excess(part: Array, step: Array = step) -> tuple[float, float]:
            """Give how far a projection is off, in what noise allows, and that with the ball's width."""
            d: list[Array | None] = [None] * len(point.points)
            for j in np.unique(owner[part]):
                here = part[owner[part] == j]
                flat = np.zeros(point.points[j].size)
                flat[place[here]] = step[here]
                d[j] = flat.reshape(point.points[j].shape)
            terms = computed[part] * step[part]
            ball = slope(weights, d)[0] - float(terms.sum())
            noise = point.growth * point.fmt.unit_roundoff * float(np.abs(terms).sum())
            if not np.isfinite(terms).all():
                return np.inf, np.inf
            if not ball.is_finite():
                return 0.0, np.inf
            return float(ball.abs_lower()) / (noise + 2.0**-1022), noise + 2 * float(ball.rad())

        part = np.arange(computed.size)
        off, allowed = excess(part)
        seen = min(seen, allowed / float(np.abs(step).min()))
        if off <= 1:
            continue
        while part.size > 1:
            left, right = np.split(part, [part.size // 2])
            part = left if excess(left) >= excess(right) else right
        chosen.append((int(owner[part[0]]), int(place[part[0]])))
    largest = float(np.abs(computed[np.isfinite(computed)]).max(initial=0.0))
    return chosen, seen / (largest or 1.0)


def _judge_by_differences(
    point: Point,
    found: Screening,
    mode: str,
    argument: int,
    index: tuple[int, ...],
    computed: float,
    exact_slope: tuple[Any, bool],
    weights: Array,
    directions: Sequence[Array | None],
    gradient: Array | None,
    motions: Callable[[], Array | None],
    place: int,
) -> float:
    """Judge one number; give the error that it might have unaccused, beside the largest.

    ``motions`` gives how far the numbers of its array move with the inputs, ``place`` is its own there.
    """
    ball, kink = exact_slope
    no = np.array([False])

    def moved() -> Array:
        found = motions()
        return np.zeros(place + 1) if found is None else found

    def motion() -> Array:
        return np.array([arb(float(moved()[place]))], dtype=object)

    exact = Truth(np.array([ball], dtype=object), motion, no, no, growth=point.growth)
    judgement = judge(np.array([computed]), exact, point.fmt)
    verdict = Verdict(judgement.verdicts[0])
    error, allowed = float(judgement.error_ulps[0]), float(judgement.allowed_ulps[0])
    if verdict is Verdict.INCONCLUSIVE and ball.is_finite():
        verdict = (
            Verdict.CORRECT
        )  # as far as these differences can tell: `sensitivity` says how far
    reason = ""
    if verdict is not Verdict.CORRECT and (
        (kink and sum(x.size for x in point.points) > 1)
        or _is_limit(point, computed, weights, directions)
    ):
        verdict = (
            Verdict.INCONCLUSIVE
        )  # a limit of gradients nearby need not lie between the two sides
        reason = "It lies at a kink, and only differences are known of this function."
    tail = verdict in (Verdict.WRONG, Verdict.IMPRECISE) and (
        (gradient is not None and is_beside_others(point, computed, exact, gradient, moved()))
        or is_noise(point, weights, directions, computed, exact)
    )
    if tail:
        verdict = Verdict.IMPRECISE
    found.judged += verdict is not Verdict.INCONCLUSIVE
    if verdict is not Verdict.CORRECT:
        found.failed.append(
            Judged(
                point, mode, argument, index, verdict, computed, exact, error, allowed,
                tail, weights, directions, gradient, reason,
            )
        )  # fmt: skip
    if not ball.is_finite() or verdict is Verdict.INCONCLUSIVE:
        return np.nan
    largest = float(np.abs(np.ravel(gradient)).max(initial=0.0)) if gradient is not None else 0.0
    excused = np.isfinite(computed) and (tail or verdict is Verdict.CORRECT)
    unseen = (ball - computed).abs_upper() if excused else ball.rad()
    return float(unseen) / (largest or 1.0)


def _is_limit(
    point: Point, computed: float, weights: Array, directions: Sequence[Array | None]
) -> bool:
    """Tell whether a number lies between slopes nearby that do not draw together at the point."""
    assert point.formulas.limits is not None  # noqa: S101 - there beside the differences
    if not np.isfinite(computed):
        return False
    hull = point.formulas.limits(weights, directions)
    own = point.growth * point.fmt.unit_roundoff * abs(computed)
    return hull is not None and hull[0] - own <= computed <= hull[1] + own
