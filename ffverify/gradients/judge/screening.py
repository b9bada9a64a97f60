"""Screen all derivatives of a function at one point, and judge what looks suspicious.

Screening is cheap at any size and decides nothing by itself; whatever it suspects is then judged as
a single number against its own exact slope, so that it can miss but never accuse.

1. One exact directional derivative of the whole program (`ffverify.truth.slopes`) gives the truth of every
   element of the JVP, and, summed with the cotangent, of the projection ⟨VJP, direction⟩.
2. The derivative program in exact arithmetic gives, for one run, what every element of the VJP should
   be if its formula is right; elements that differ from it by more than rounding are suspects.
3. The formula itself is compared with the truth through the projection. Both sides are exact, so that
   a wrong element shows however small it is beside the others. Where there is no formula to run,
   the computed elements take its place, with their rounding as noise.
4. Bisection of the projection leads to the element that is wrong: log2(n) pairs of runs.

Where the function maps elementwise (found out, not declared) step 1 alone gives every element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array
from ffverify.gradients.directions import (
    cotangents,
    plain,
    powers_of_two,
    random_direction,
    signed,
    tied_directions,
)
from ffverify.gradients.evaluation import (
    Point,
    finite_results,
    forward_motion,
    gradients_of,
    is_elementwise,
    reverse_motion,
    tangents_of,
)
from ffverify.gradients.judge.formula import formula_of, tangents_formula
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.slopes import Slopes, projection_slope, slopes
from ffverify.verdicts.verdict import Verdict

from .by_differences import screen_by_differences
from .elements import (
    Screening,
    judge_direction,
    judge_forward,
    judge_reverse,
    note_allowed,
    note_sensitivity,
)

SUSPECTS = 2  # per ranking, input and mode: the worst by relative and by absolute error


def screen(point: Point) -> Screening:
    """Check the reverse and the forward mode of a function at one point."""
    found = Screening()
    if point.formulas.forward is None:
        screen_by_differences(point, found)
        return found
    usable = finite_results(point)
    if is_elementwise(point):
        _elementwise_modes(point, usable, found)
        return found
    kinked = _modes(point, random_direction(point), usable, found)
    if kinked:
        for direction in tied_directions(point):
            _modes(point, direction, usable, found)
        _kinked_elements(point, usable, found)
    return found


def _elementwise_modes(point: Point, usable: Array, found: Screening) -> None:
    """Check every element: one exact slope per input gives both modes all their truths."""
    # What a report can divide out, and what has all digits.
    drawn = [np.where(usable, draw(point, usable.size), 0.0) for draw in (plain, signed)]
    computed = [(v, gradients_of(point, v), formula_of(point, v)) for v in drawn]
    for j, x in enumerate(point.points):
        if not point.floating[j]:
            continue
        steps = powers_of_two(point, x)
        exact = slopes(
            point.vector,
            point.inputs,
            _only(point, j, steps),
            point.fmt,
            here=point.exact,
            each=True,
        )
        with np.errstate(over="ignore"):  # an infinite expectation is judged by its exact value
            expected = midpoints(exact.exact) / steps.ravel()
        smooth, before = usable & ~exact.kink, len(found.failed)
        for v, gradients, formula in computed:
            if gradients is None or len(found.failed) > before:
                break
            bad = _suspects(point, gradients[j], expected * v, smooth)
            if formula is not None:  # what it is off by, lost digits elsewhere must not hide
                bad += _suspects(point, midpoints(formula[j]), expected * v, smooth)
            if v is drawn[0]:
                bad += [int(i) for i in np.flatnonzero(exact.kink & usable)[:SUSPECTS]]
                found.judged += int(usable.sum())
                note_sensitivity(point, found, expected * v, 0.0, 1.0)
            for i in dict.fromkeys(bad):
                only = np.where(np.arange(v.size) == i, v, 0.0)
                judge_reverse(point, found, j, i, gradients, formula, only, elementwise=True)
        ahead = steps * np.abs(signed(point, x.size)).reshape(x.shape)
        directions = _only(point, j, ahead)
        tangents = tangents_of(point, directions, found.skipped)
        if tangents is not None:
            found.judged += int(usable.sum())
            along = expected * ahead.ravel()
            for o in _forward_suspects(point, tangents, directions, along, smooth):
                judge_forward(point, found, o, tangents, directions, elementwise=True)


def _only(point: Point, j: int, direction: Array) -> list[Array | None]:
    """Give directions that move argument j alone."""
    return [direction if k == j else None for k in range(len(point.points))]


def _modes(point: Point, directions: list[Array | None], usable: Array, found: Screening) -> bool:
    """Check both modes along one direction; tell whether any result has a kink there."""
    exact = slopes(point.vector, point.inputs, directions, point.fmt, here=point.exact)
    smooth = usable & ~exact.kink & np.array([bool(e.is_finite()) for e in exact.exact], dtype=bool)
    tangents = tangents_of(point, directions, found.skipped)
    if tangents is not None and smooth.any():
        found.judged += int(smooth.sum())
        expected, motion = midpoints(exact.exact), None
        if _suspects(point, tangents, expected, smooth):
            motion = forward_motion(point, directions)
            note_allowed(found, tangents, _excused(tangents, expected, smooth, motion))
        for o in _forward_suspects(point, tangents, directions, expected, smooth, motion):
            judge_forward(point, found, o, tangents, directions)
    if smooth.any():
        weights = np.where(smooth, cotangents(point, smooth.size), 0.0)
        gradients = gradients_of(point, weights)
        if gradients is not None:
            _reverse(point, weights, gradients, exact, directions, found)
    return bool((exact.kink & usable).any())


def _reverse(
    point: Point,
    weights: Array,
    gradients: list[Array | None],
    exact: Slopes,
    directions: list[Array | None],
    found: Screening,
) -> None:
    formula = formula_of(point, weights)
    suspects: list[tuple[int, int]] = []
    motion: list[Array | None] | None = None
    for j, g in enumerate(gradients):
        if g is None:
            continue
        expected = midpoints(formula[j]) if formula is not None else g.ravel()
        wanted = np.ones(g.size, dtype=bool)
        bad = _suspects(point, g, expected, wanted)
        if bad:
            motion = motion or reverse_motion(point, weights)
            note_allowed(found, g, _excused(g, expected, wanted, motion[j]))
            bad = _suspects(point, g, expected, wanted, motion[j])
        suspects += [(j, i) for i in bad]
        found.judged += g.size
    before = len(found.failed)
    for j, i in suspects:
        judge_reverse(point, found, j, i, gradients, formula, weights)
    if any(judged.kind is not Verdict.IMPRECISE for judged in found.failed[before:]):
        return  # a lost digit, unlike a wrong formula, must not hide one
    flat = _Projection(point, weights, gradients, formula, directions, exact)
    led = flat.suspects()
    before = len(found.failed)
    for j, i in led:
        judge_reverse(point, found, j, i, gradients, formula, weights)
    if led and len(found.failed) == before:
        judge_direction(point, found, gradients, directions, weights)
    note_sensitivity(point, found, flat.expected, max(flat.noise(), flat.apart), flat.smallest)


def _kinked_elements(point: Point, usable: Array, found: Screening) -> None:
    """Judge single elements that sit on a kink: zeros and ties, against the hull of one-sided slopes."""
    weights = np.where(usable, cotangents(point, usable.size), 0.0)
    gradients = gradients_of(point, weights)
    if gradients is None:
        return
    formula = formula_of(point, weights)
    for j, x in enumerate(point.points):
        if point.floating[j]:
            flat = x.ravel()
            values, counts = np.unique(flat, return_counts=True)
            tied = np.isin(flat, values[counts > 1]) | (flat == 0)
            for i in np.flatnonzero(tied)[: 2 * SUSPECTS]:
                judge_reverse(point, found, j, int(i), gradients, formula, weights)


class _Projection:
    """⟨VJP, direction⟩ against the exact slope, and its bisection."""

    def __init__(
        self,
        point: Point,
        weights: Array,
        gradients: list[Array | None],
        formula: list[Array] | None,
        directions: list[Array | None],
        exact: Slopes,
    ) -> None:
        self.point, self.weights, self.bits = point, weights, 256
        moved = [j for j, g in enumerate(gradients) if g is not None]
        self.owner = np.concatenate([np.full(point.points[j].size, j) for j in moved])
        self.place = np.concatenate([np.arange(point.points[j].size) for j in moved])
        self.step = np.concatenate([np.ravel(directions[j]) for j in moved])  # type: ignore[arg-type]  # moved
        computed = np.concatenate([np.ravel(gradients[j]) for j in moved])  # type: ignore[arg-type]  # moved
        with BALLS.precision(self.bits):
            self.terms = (
                np.concatenate([formula[j].ravel() for j in moved])
                if formula is not None
                else BALLS.array(computed.astype(np.float64)).values
            )
            self.expected = midpoints(self.terms)
            broken = ~np.isfinite(self.expected)
            if broken.any():  # judged one by one already; here they would hide the others
                self.step = np.where(broken, 0.0, self.step)
            self.terms = np.where(self.step != 0, self.terms, arb(0)) * self.step
            if broken.any():
                self.whole = None
            else:
                used = np.flatnonzero(weights)
                self.whole = sum((exact.exact[used] * weights[used]).tolist(), arb(0))
        self.exactly = formula is not None
        size = self.expected * self.step
        rounding = 4 if self.exactly else point.growth
        self.tolerance = (
            rounding * point.fmt.unit_roundoff * np.abs(np.where(self.step != 0, size, 0.0))
        )
        smallest = np.abs(self.step[self.step != 0])
        self.smallest = float(smallest.min()) if smallest.size else 1.0
        self.apart = 0.0  # by how much the projections disagree, if they do

    def noise(self) -> float:
        """Give the residual below which nothing is suspected.

        The roundings left on either side (constants of the formula; all of them where the computed
        elements stand in for it) meet random signs: they add up like their root sum of squares.
        """
        return float(np.sqrt(np.sum(self.tolerance**2))) + float(
            2.0**self.point.fmt.smallest_exponent
        )

    def _slope(self, part: Array) -> Any:
        directions: list[Array | None] = [None] * len(self.point.points)
        for j in np.unique(self.owner[part]):
            here = part[self.owner[part] == j]
            d = np.zeros(self.point.points[j].size)
            d[self.place[here]] = self.step[here]
            directions[j] = d.reshape(self.point.points[j].shape)
        point = self.point
        return projection_slope(
            point.vector, self.weights, point.inputs, directions, self.bits // 2
        )

    def _residual(self, part: Array) -> Any:
        with BALLS.precision(self.bits):
            total = sum(self.terms[part].tolist(), arb(0))
        return total - self._slope(part)

    def suspects(self) -> list[tuple[int, int]]:
        """Give the element that bisection leads to, if the projections disagree."""
        part = np.flatnonzero(self.step)
        if not part.size:
            return []
        with BALLS.precision(self.bits):
            residual = (
                self._residual(part)
                if self.whole is None
                else sum(self.terms[part].tolist(), arb(0)) - self.whole
            )
        if not residual.is_finite() or not residual.abs_lower() > self.noise():
            return []
        self.apart = float(residual.abs_lower())
        while part.size > 1:
            left, right = np.split(part, [part.size // 2])
            of_left = self._residual(left)
            of_right = residual - of_left
            go_left = self._excess(of_left, left) >= self._excess(of_right, right)
            part, residual = (left, of_left) if go_left else (right, of_right)
        return [(int(self.owner[part[0]]), int(self.place[part[0]]))]

    def _excess(self, residual: Any, part: Array) -> float:
        noise = float(np.sqrt(np.sum(self.tolerance[part] ** 2))) + 2.0**-1074
        size = float(residual.abs_lower()) if residual.is_finite() else np.inf
        return size / noise


def _excused(computed: Array, expected: Array, wanted: Array, motion: Array | None) -> float:
    """Give the largest error that the inputs' rounding excuses."""
    if motion is None:
        return 0.0
    error = np.abs(np.ravel(computed).astype(np.float64) - expected)
    return float(error[wanted & (error <= motion)].max(initial=0.0))


def _forward_suspects(
    point: Point,
    tangents: Array,
    directions: list[Array | None],
    expected: Array,
    wanted: Array,
    motion: Array | None = None,
) -> list[int]:
    """Give the suspects of a JVP; where they crowd, what lost digits might hide: those of its formula."""
    bad = _suspects(point, tangents, expected, wanted, motion)
    formula = tangents_formula(point, directions) if len(bad) >= SUSPECTS else None
    if formula is not None:
        bad += _suspects(point, midpoints(formula), expected, wanted)
    return list(dict.fromkeys(bad))


def _suspects(
    point: Point, computed: Any, expected: Array, wanted: Array, motion: Array | None = None
) -> list[int]:
    """Give elements that differ from what is expected by more than plain rounding, worst first.

    ``motion`` is how far the elements move with their inputs' rounding, as far as that is known.
    """
    g = np.zeros(expected.size) if computed is None else np.ravel(computed).astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(g - expected)
        error[g == expected] = 0.0
        allowed = point.fmt.unit_roundoff * np.abs(expected) + 2.0**point.fmt.smallest_exponent
        bad = wanted & ~(error <= LIBRARY_ROUNDINGS * allowed)
        if motion is not None:
            bad &= ~(error <= motion)
        broken = bad & ~np.isfinite(g)
        relative = np.where(bad, np.where(broken, np.inf, error / allowed), -1.0)
        absolute = np.where(bad & ~broken, error, -1.0)
    chosen: list[int] = []
    for rank in (relative, absolute):
        order = np.argsort(-np.nan_to_num(rank, nan=np.inf, posinf=np.inf), kind="stable")
        chosen += [int(i) for i in order[:SUSPECTS] if bad[i]]
    return list(dict.fromkeys(chosen))
