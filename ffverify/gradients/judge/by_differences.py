"""The last resort where no exact program is known: extrapolated differences, with an error estimate.

A kernel that nobody can run in exact arithmetic is evaluated in the widest float that it takes.
``ridders`` extrapolates central differences to step 0 (Ridders 1982; Press et al., Numerical Recipes
§5.7) and estimates its own error; a number is only called wrong when it differs by more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import FORMATS, Array, dtype_name, is_floating
from ffverify.frameworks.arrays import to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.gradients.evaluation import (
    Point,
    cotangents,
    forward_motion,
    gradients_of,
    random_direction,
    result_index,
    reverse_motion,
    signed,
    tangents_of,
)
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.derivatives import Truth
from ffverify.verdicts.verdict import Verdict

from .elements import Judged, Screening, decide
from .natural_scale import is_noise

_FEW = 32  # elements of an input that differences check one by one
_PROJECTIONS = 3  # of an input that is larger than that
_SHRINK = 1.4  # Ridders' ratio of steps
_ROWS = 40  # steps down to 1e-6 of the first: a direction through many inputs bends early
_ORDERS = 4
_UNEVEN = 12.944  # units, 8 times the golden ratio: multiples fall evenly between a format's floats
_SAFETY = 4.0  # the estimate is a difference of two rows: a margin for what both have in common


def ridders(slope: Callable[[float], tuple[float, float]], step: float) -> tuple[float, float]:
    """Extrapolate central differences to step 0.

    Parameters
    ----------
    slope
        ``slope(h)`` gives the central difference with step h and the rounding noise in it.
    step
        The first step.

    Returns
    -------
    The derivative and an estimate of its error (infinite if no two rows agree).
    """
    kept: list[tuple[float, float]] = []
    previous: list[float] = []
    for row in range(_ROWS):
        h = step / _SHRINK**row
        here, noise = slope(h)
        if not np.isfinite(here):
            previous = []
            continue
        current = [here]
        factor = _SHRINK**2
        candidates = []
        for k, old in enumerate(previous[:_ORDERS]):
            current.append((factor * current[k] - old) / (factor - 1))
            factor *= _SHRINK**2
            estimate = max(abs(current[-1] - current[-2]), abs(current[-1] - old)) + noise
            candidates.append((estimate, current[-1]))
        previous = current
        if candidates:
            kept.append(min(candidates))
    if len(kept) < 2:
        return 0.0, np.inf
    best = min(range(len(kept)), key=lambda i: kept[i][0])
    error, value = kept[best]
    beside = [kept[i] for i in (best - 1, best + 1) if 0 <= i < len(kept)]
    # An extrapolation that its neighbours in step do not bear out was a coincidence.
    spread = max(abs(value - other) for _, other in beside)
    return value, _SAFETY * max(error, min(spread, max(e for e, _ in beside)))


class Opaque:
    """A function of which only values are known, at one point, evaluated in the widest float it takes.

    Parameters
    ----------
    evaluate
        ``evaluate(native)`` gives its floating results.
    native
        The point: arrays of the caller's framework.
    """

    def __init__(
        self, evaluate: Callable[[Sequence[Any]], Sequence[Any]], native: Sequence[Any]
    ) -> None:
        self._evaluate = evaluate
        self.native = native

    @cached_property
    def inputs(self) -> list[Any]:
        """Give the inputs in the widest float that the function takes, or as they are."""
        wide = [
            framework_of(value).widened(value) if is_floating(value) else value
            for value in self.native
        ]
        try:
            self._evaluate(wide)
        except Fault:
            return list(self.native)
        return wide

    @property
    def unit(self) -> float:
        """Give the unit roundoff of what it is evaluated in."""
        return unit_roundoff(next(w for w in self.inputs if is_floating(w)))

    def results(self, inputs: Sequence[Any]) -> Array:
        """Give all floating results as one vector of long doubles."""
        return np.concatenate([widest(r).ravel() for r in self._evaluate(inputs)])

    def moved(self, directions: Sequence[Array | None], t: float) -> list[Any]:
        """Give the inputs moved by t times a direction."""
        return [
            w if d is None else shifted(w, d, t)
            for w, d in zip(self.inputs, directions, strict=True)
        ]

    def noise(self, weights: Array) -> float:
        """Measure the rounding noise of ⟨weights, results⟩ near the point.

        Over steps of a few units of the last place a smooth function is a polynomial, and its sixth
        differences vanish; noise of deviation σ leaves 30 σ in them, in the root mean square (Moré &
        Wild, Estimating Computational Noise, 2011: γ₆ = 6!² / 12!). Four σ cover a uniform error. The
        function may round to a narrower format inside, and over less than that format's ulps it is
        flat: so the steps are the units of every format from the inputs' own to float32. They all lead
        away from zero, by the same factor: kinks at the point, at zero and at ties are no noise. A result
        that is subnormal may have been flushed to zero.
        """
        used = weights != 0
        deviations = [
            np.sqrt(np.mean(np.diff(table[:, used] @ weights[used], n=6) ** 2) / 924)
            for table in self._tables
        ]
        if not np.isfinite(deviations).all():
            return np.inf
        flushed = max(_smallest_normal(n) for n in self.native if is_floating(n))
        return 4 * float(max(deviations)) + flushed * float(np.abs(weights[used]).sum())

    @cached_property
    def _tables(self) -> list[Array]:
        units = {self.unit, *(u for u in (2.0**-53, 2.0**-24) if u > self.unit)}
        return [
            np.stack([self.results(self._scaled(_UNEVEN * unit * k)) for k in range(1, 14)])
            for unit in sorted(units)
        ]

    def _scaled(self, relative: float) -> list[Any]:
        return [w * (1 + relative) if is_floating(w) else w for w in self.inputs]


def slope_by_differences(
    opaque: Opaque, directions: Sequence[Array | None], weights: Array
) -> tuple[Any, bool]:
    """Give the slope of ⟨weights, results⟩ along a direction as a ball, and whether there is a kink."""
    unit, noise = opaque.unit, opaque.noise(weights)
    used = weights != 0

    def total(t: float) -> tuple[np.longdouble, float]:
        terms = opaque.results(opaque.moved(directions, t))[used] * weights[used]
        return terms.sum(), float(np.abs(terms).sum())

    def slope(h: float) -> tuple[float, float]:
        (above, size), (below, _) = total(h), total(-h)
        return float((above - below) / (2 * np.longdouble(h))), (4 * unit * size + noise) / h

    sizes = [
        float(np.abs(to_numpy(n)[d != 0]).max())
        for n, d in zip(opaque.native, directions, strict=True)
        if d is not None and np.any(d)
    ]
    largest = [float(np.abs(d).max()) for d in directions if d is not None]
    step = max([*sizes, 2.0**-10]) / 16 / max(largest)
    value, error = ridders(slope, step)
    if not np.isfinite(error):
        return arb.nan(), False
    center, _ = total(0.0)

    def jump(h: float) -> tuple[float, float]:
        (above, size), (below, _) = total(h), total(-h)
        bend = abs(float((above - 2 * center + below) / np.longdouble(h)))
        return bend, (8 * unit * size + 4 * noise) / h

    # Right minus left slope. Where the function is smooth it falls as the step does; what stays is a
    # kink, and any slope between the two sides is right. Of one that lies beside the point, within a step,
    # only a part shows: then the whole jump is allowed for, on either side. Half of it, and a sixteenth
    # of that for how far the one-sided slopes bend over a step, is enough where both steps show it alike.
    # In a narrow format rounding hides kinks at small steps that extrapolation, at larger ones, averages.
    for outer, inner in ((16, 1024), (4, 64), (1, 4)):
        (far, _), (near, floor) = jump(step / outer), jump(step / inner)
        kink = near > floor and 2 * near >= far
        if kink or floor <= 2 * error:
            break
    if kink:
        error += floor + (near * 17 / 32 if near >= 0.95 * far else max(near, far))
    return arb(value, error), kink


def unit_roundoff(value: Any) -> float:
    """Give the unit roundoff of an array's format, long doubles among them."""
    if _is_long(value):
        return float(np.finfo(np.longdouble).eps) / 2
    return FORMATS[dtype_name(value)].unit_roundoff


def _smallest_normal(value: Any) -> float:
    return float(2.0 ** FORMATS[dtype_name(value)].emin)


def _is_long(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.longdouble


def widest(value: Any) -> Array:
    """Give an array of any framework as long doubles."""
    return np.asarray(
        value if isinstance(value, np.ndarray) else to_numpy(value), dtype=np.longdouble
    )


def shifted(value: Any, direction: Array, t: float) -> Any:
    """Give an array moved by t times a direction, in its own framework and format."""
    return framework_of(value).shifted(value, direction, t)


def screen_by_differences(point: Point, found: Screening) -> None:
    """Check against extrapolated differences: every element of a small input, else by projections."""
    slope = point.formulas.differences
    assert slope is not None  # noqa: S101 - there is always one of the two
    usable = np.isfinite(point.computed)
    if not usable.any():
        raise Fault(f"{point.subject.name} is not finite here, so it has no derivative")
    weights = np.where(usable, cotangents(point, usable.size), 0.0)
    gradients = gradients_of(point, weights)
    if gradients is not None:
        elements = [(j, i) for j, g in enumerate(gradients) if g is not None for i in range(g.size)]
        if len(elements) > _FEW:
            found.judged += len(elements)
            elements = _bisected_by_differences(point, weights, gradients, slope)
        motions = cache(lambda: reverse_motion(point, weights))
        for j, i in elements:
            g = gradients[j]
            index = tuple(int(k) for k in np.unravel_index(i, point.points[j].shape))
            unit = point.unit(j, i)
            c = float(np.ravel(g)[i])  # type: ignore[arg-type]  # only arrays are listed
            _judge_by_differences(
                point, found, point.subject.reverse, j, index, c, slope(weights, unit), weights, unit, g,
                _at(motions, j, i),
            )  # fmt: skip
    directions = random_direction(point)
    tangents = tangents_of(point, directions, found.skipped)
    if tangents is not None:
        ahead = cache(lambda: [forward_motion(point, directions)])
        for o in np.flatnonzero(usable)[:_FEW]:
            one = np.zeros(tangents.size)
            one[o] = 1.0
            k, index = result_index(point, int(o))
            _judge_by_differences(
                point, found, point.subject.forward, k, index, float(tangents[o]),
                slope(one, directions), one, directions, tangents, _at(ahead, 0, int(o)),
            )  # fmt: skip


def _at(motions: Callable[[], list[Array | None]], j: int, i: int) -> Callable[[], Array]:
    """Give the motion of one number as a truth holds it, when it is asked for."""
    return lambda: np.array(
        [arb(0.0 if (moved := motions()[j]) is None else float(moved[i]))], dtype=object
    )


def _bisected_by_differences(
    point: Point,
    weights: Array,
    gradients: list[Array | None],
    slope: Callable[[Array, Sequence[Array | None]], tuple[Any, bool]],
) -> list[tuple[int, int]]:
    """Compare a few projections with differences; lead to an element where they disagree."""
    moved = [j for j, g in enumerate(gradients) if g is not None]
    owner = np.concatenate([np.full(point.points[j].size, j) for j in moved])
    place = np.concatenate([np.arange(point.points[j].size) for j in moved])
    computed = np.concatenate([np.ravel(gradients[j]).astype(np.float64) for j in moved])  # type: ignore[arg-type]  # as listed
    chosen: list[tuple[int, int]] = []
    for _ in range(_PROJECTIONS):
        step = signed(point, computed.size)

        def excess(part: Array, step: Array = step) -> float:
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
                return np.inf
            return float(ball.abs_lower()) / (noise + 2.0**-1022) if ball.is_finite() else 0.0

        part = np.arange(computed.size)
        if excess(part) <= 1:
            continue
        while part.size > 1:
            left, right = np.split(part, [part.size // 2])
            part = left if excess(left) >= excess(right) else right
        chosen.append((int(owner[part[0]]), int(place[part[0]])))
    return chosen


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
    motion: Callable[[], Array],
) -> None:
    ball, kink = exact_slope
    no = np.array([False])
    exact = Truth(np.array([ball], dtype=object), motion, no, no, growth=point.growth)
    verdict, error, allowed = decide(computed, exact, point.fmt, strict=point.strict)
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
    tail = verdict in (Verdict.WRONG, Verdict.IMPRECISE) and is_noise(
        point, weights, directions, computed, exact, lambda: None
    )
    if tail:
        verdict = Verdict.IMPRECISE
    found.judged += verdict is not Verdict.INCONCLUSIVE
    if ball.is_finite():
        largest = (
            float(np.abs(np.ravel(gradient)).max(initial=0.0)) if gradient is not None else 0.0
        )
        excused = np.isfinite(computed) and (tail or verdict is Verdict.CORRECT)
        unseen = (ball - computed).abs_upper() if excused else ball.rad()
        found.sensitivity = max(found.sensitivity, float(unseen) / (largest or 1.0))
    if verdict is not Verdict.CORRECT:
        found.failed.append(
            Judged(
                point, mode, argument, index, verdict, computed, exact, error, allowed,
                tail, weights, directions, gradient, reason,
            )
        )  # fmt: skip


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
