"""The judge: three questions about a function's derivatives at a point, never mixed, each over all elements.

F is the function's exact program, G that of its derivative code, ĝ what this code computed.

1. *Formula*: is G the derivative of F? One identity of two exact numbers, ⟨G(x; v), d⟩ = ⟨v, ∂F·d⟩, along
   a random direction d, and along one that keeps ties and zeros where there are some. It shows a wrong
   element of any size. Only where it fails the slopes of single elements are measured (`formula`).
2. *Execution*: is ĝ a rounding of G? |ĝ - G| ≤ the running bound of G.
3. *Accuracy*: is ĝ as good as a good algorithm's? |ĝ - G| ≤ g·u·|G| + how far G moves when the inputs move
   by g·u + g subnormals.

``wrong``: 1 or 2 fails. ``imprecise``: only 3 fails. ``nonfinite``: nan or infinity where the derivative is
finite and representable. ``correct``: all three hold. Once 1 holds G is the truth of every element; where G
is unknown the formula question is asked of ĝ (`unknown`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import to_numpy
from ffverify.gradients.directions import cotangents, random_direction, tied_directions
from ffverify.gradients.evaluation import (
    Point,
    finite_results,
    gradients_of,
    nearer,
    result_index,
    tangents_of,
)
from ffverify.truth.slopes import Slopes, slopes
from ffverify.verdicts.verdict import Verdict

from .by_differences import screen_by_differences
from .exactly import Exactly
from .formula import (
    forward_faults,
    is_cut_off,
    is_limit,
    kinked_faults,
    one_result,
    reverse_faults,
)
from .judged import Screening, judged_number
from .unknown import judge_one, judge_tangents, judge_vjp

SlopeOf = Callable[[int], tuple[Array, Sequence[Array | None]]]

_MOST = 1  # findings kept of one array, the worst
_ON_KINKS = 4  # elements on kinks that are judged, of one argument


def judge(point: Point) -> Screening:
    """Judge the VJP and the JVP of a function at a point."""
    found = Screening()
    flags = point.subject.attached(point.native, len(point.results))
    for k in point.places:
        if not flags[k]:
            found.skipped[f"result {k}"] = "it is detached, and other results are not"
    if point.formulas.forward is None:
        screen_by_differences(point, found)
        return found
    usable = finite_results(point)
    kinked = _along(point, random_direction(point), usable, found)
    if kinked:
        for direction in tied_directions(point):
            _along(point, direction, usable, found, tied=True)
        _on_kinks(point, usable, found)
    return found


def _along(
    point: Point,
    directions: list[Array | None],
    usable: Array,
    found: Screening,
    *,
    tied: bool = False,
) -> bool:
    """Judge both modes along a direction; tell whether any result has a kink there."""
    exact = slopes(point.vector, point.inputs, directions, point.fmt, here=point.exact)
    finite = np.array([bool(e.is_finite()) for e in exact.exact], dtype=bool)
    smooth = usable & ~exact.kink & finite
    if smooth.any():
        _forward(point, directions, exact, smooth, found)
        _reverse(point, directions, exact, smooth, found, tied=tied)
    return bool((exact.kink & usable).any())


# ---------------------------------------------------------------------------------------------
# The two modes
# ---------------------------------------------------------------------------------------------


def _forward(
    point: Point,
    directions: list[Array | None],
    exact: Slopes,
    smooth: Array,
    found: Screening,
) -> None:
    tangents = tangents_of(point, directions, found.skipped)
    if tangents is None:
        return
    found.judged += int(smooth.sum())
    program = point.formulas.tangent()
    own = None
    if program is not None:
        dots = [
            np.zeros(x.shape) if d is None else d
            for d, x, f in zip(directions, point.points, point.floating, strict=True)
            if f
        ]
        own = Exactly(program, point.inputs, dots, point.fmt, point.growth)
    if own is None or own.balls is None or own.balls.size != tangents.size:
        judge_tangents(point, found, tangents, directions, exact, smooth)
        return
    wrong = forward_faults(point, own, exact, smooth, directions)

    def tell(o: int, kind: Verdict, error: float, allowed: float, *, tail: bool) -> None:
        weights = one_result(point, o)
        k, index = result_index(point, o)
        number = float(tangents[o])
        exactly = exact.exact[o] if o in wrong else own.balls[o]  # type: ignore[index]  # known
        found.failed.append(
            judged_number(
                point, point.subject.forward, k, index, kind, number, exactly, error, allowed,
                tail=tail, weights=weights, directions=directions, gradient=tangents,
            )
        )  # fmt: skip

    def slope_of(o: int) -> tuple[Array, Sequence[Array | None]]:
        return one_result(point, o), directions

    _tell_wrong(point, own, tangents, wrong, lambda _: 0, tell, slope_of)
    keep = smooth.copy()
    keep[list(wrong)] = False
    _execution_and_accuracy(point, own, tangents, keep, [tangents.size], found, tell, slope_of)


class _Vjp:
    """A VJP at a point, computed and exact, its arrays raveled and joined."""

    def __init__(self, point: Point, weights: Array, found: Screening) -> None:
        self.point, self.weights, self.found = point, weights, found
        self.gradients = gradients_of(point, weights)
        self.own: Exactly | None = None
        if self.gradients is None:
            return
        self.owners = [j for j, g in enumerate(self.gradients) if g is not None]
        arrays = [g for g in self.gradients if g is not None]
        self.sizes = [g.size for g in arrays]
        self.ends = np.cumsum(self.sizes)
        self.computed = np.concatenate([g.ravel().astype(np.float64) for g in arrays])
        program = point.formulas.backward()
        if program is not None:
            vectors = [to_numpy(v) for v in point.split(weights) if v is not None]
            own = Exactly(program, point.inputs, vectors, point.fmt, point.growth)
            self.own = own if own.balls is not None and own.balls.size == self.ends[-1] else None

    def place(self, i: int) -> tuple[int, int]:
        """Give the argument that an element belongs to, and its place there."""
        k = int(np.searchsorted(self.ends, i, side="right"))
        return self.owners[k], i - int(self.ends[k] - self.sizes[k])

    def judge(self, own: Exactly, wrong: dict[int, Any], *, asked: Array | None = None) -> None:
        """Tell the elements with a wrong formula, and ask the other questions of the rest."""
        point = self.point

        def tell(i: int, kind: Verdict, error: float, allowed: float, *, tail: bool) -> None:
            j, flat = self.place(i)
            index = tuple(int(n) for n in np.unravel_index(flat, point.points[j].shape))
            exactly = wrong[i] if i in wrong else own.balls[i]  # type: ignore[index]  # known
            self.found.failed.append(
                judged_number(
                    point, point.subject.reverse, j, index, kind, float(self.computed[i]), exactly,
                    error, allowed, tail=tail, weights=self.weights,
                    directions=point.unit(j, flat), gradient=self.gradients[j],  # type: ignore[index]  # known
                )
            )  # fmt: skip

        def owner(i: int) -> int:
            return self.place(i)[0]

        _tell_wrong(point, own, self.computed, wrong, owner, tell, self._slope_of)
        rest = np.ones(self.computed.size, dtype=bool) if asked is None else asked.copy()
        rest[list(wrong)] = False
        _execution_and_accuracy(
            point, own, self.computed, rest, self.sizes, self.found, tell, self._slope_of
        )

    def _slope_of(self, i: int) -> tuple[Array, list[Array | None]]:
        return self.weights, self.point.unit(*self.place(i))


def _reverse(
    point: Point,
    directions: list[Array | None],
    exact: Slopes,
    smooth: Array,
    found: Screening,
    *,
    tied: bool,
) -> None:
    weights = np.where(smooth, cotangents(point, smooth.size), 0.0)
    vjp = _Vjp(point, weights, found)
    if vjp.gradients is None:
        return
    found.judged += vjp.computed.size
    if vjp.own is None:
        judge_vjp(point, found, vjp.gradients, weights, directions)
        return
    wrong = reverse_faults(point, vjp.own, exact, weights, directions, vjp.place, found, tied=tied)
    vjp.judge(vjp.own, wrong)


def _on_kinks(point: Point, usable: Array, found: Screening) -> None:
    """Judge elements that sit on a kink, zeros and ties, against the slopes on either side and beside."""
    vjp = _Vjp(point, np.where(usable, cotangents(point, usable.size), 0.0), found)
    if vjp.gradients is None:
        return
    chosen: list[int] = []
    start = 0
    for j, size in zip(vjp.owners, vjp.sizes, strict=True):
        flat = point.points[j].ravel()
        values, counts = np.unique(flat, return_counts=True)
        tied = np.isin(flat, values[counts > 1]) | (flat == 0)
        chosen += (start + np.flatnonzero(tied)[:_ON_KINKS]).tolist()
        start += size
    elements = np.array(chosen, dtype=int)
    if vjp.own is None:
        for i in chosen:
            j, flat_place = vjp.place(i)
            g = vjp.gradients[j]
            assert g is not None  # noqa: S101 - as listed
            index = tuple(int(n) for n in np.unravel_index(flat_place, g.shape))
            judge_one(
                point, found, point.subject.reverse, j, index, float(vjp.computed[i]), vjp.weights,
                point.unit(j, flat_place), g,
            )  # fmt: skip
        return
    wrong = kinked_faults(point, vjp.own, vjp.weights, elements, vjp.place)
    asked = np.zeros(vjp.computed.size, dtype=bool)
    asked[elements] = True
    vjp.judge(vjp.own, wrong, asked=asked)


def _tell_wrong(
    point: Point,
    own: Exactly,
    computed: Array,
    wrong: dict[int, Any],
    owner: Callable[[int], int],
    tell: Any,
    slope_of: SlopeOf,
) -> None:
    """Tell of each array the element whose formula is off the most."""
    fmt = point.fmt
    told: dict[int, tuple[float, int, Verdict, float]] = {}
    for i, t in wrong.items():
        c = float(computed[i])
        ulp = 2.0 ** int(fmt.ulp_exponents(np.array([float(t.mid())]))[0])
        error = float(abs(arb(c) - t).lower()) / ulp if np.isfinite(c) else np.inf
        allowed = point.growth * fmt.unit_roundoff * float(abs(t).mid()) / ulp
        kind = Verdict.WRONG if np.isfinite(c) else Verdict.NONFINITE
        if owner(i) not in told or error > told[owner(i)][0]:
            told[owner(i)] = error, i, kind, allowed
    for error, i, kind, allowed in told.values():
        tail = float(computed[i]) == 0 == own.floats[i] and is_cut_off(
            point, *slope_of(i), wrong[i]
        )
        tell(i, Verdict.IMPRECISE if tail else kind, error, allowed, tail=tail)


# ---------------------------------------------------------------------------------------------
# Execution and accuracy
# ---------------------------------------------------------------------------------------------


def _execution_and_accuracy(
    point: Point,
    own: Exactly,
    computed: Array,
    asked: Array,
    sizes: Sequence[int],
    found: Screening,
    tell: Any,
    slope_of: SlopeOf,
) -> None:
    """Compare what was computed with what the same code gives in exact arithmetic."""
    fmt, g = point.fmt, point.growth
    u, least = fmt.unit_roundoff, g * 2.0**fmt.smallest_exponent
    exact, balls = own.floats, own.balls
    assert balls is not None  # noqa: S101 - callers asked
    with np.errstate(all="ignore"):
        error = np.abs(computed - exact)
        error[computed == exact] = 0.0
        near = error <= (g - 1) * u * np.abs(exact) + least
    largest = float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
    if largest:
        found.sensitivity = max(found.sensitivity, g * u)
    doubtful = np.flatnonzero(asked & ~near)
    if not doubtful.size:
        return
    overflow = BALLS.exact(fmt.overflow)
    failing: list[tuple[Verdict, float, float, int]] = []
    for i in doubtful.tolist():
        t, c = balls[i], float(computed[i])
        ulp = 2.0 ** int(fmt.ulp_exponents(np.array([exact[i]]))[0])
        rounding = g * u * t.abs_upper() + arb(least)
        if not t.is_finite():
            continue  # undefined here: the formula question was asked of it
        if not np.isfinite(c):
            allowed = rounding + arb(own.motion[i]) if np.isfinite(own.motion[i]) else arb.pos_inf()
            same_sign = bool(t > 0) if c > 0 else bool(t < 0)
            if np.isnan(c) or not (same_sign and bool(t.abs_upper() + allowed >= overflow)):
                failing.append((Verdict.NONFINITE, np.inf, 0.0, i))
            continue
        distance = abs(arb(c) - t)
        if distance.lower() <= rounding:
            continue
        allowed = rounding + arb(own.motion[i]) if np.isfinite(own.motion[i]) else arb.pos_inf()
        if not distance.lower() > allowed:
            if largest:
                found.sensitivity = max(found.sensitivity, float(distance.upper()) / largest)
            continue
        size = float(distance.lower()) / ulp
        found.worst_ulps = max(found.worst_ulps, size if not t.contains(0) else 0.0)
        # Below the smallest normal number results may be flushed to zero: nothing is promised there.
        run = own.running[i] + g * 2.0**fmt.emin
        explained = not np.isfinite(run) or bool(distance.lower() <= arb(run) + allowed)
        kind = Verdict.IMPRECISE if explained else Verdict.WRONG
        failing.append((kind, size, float(allowed) / ulp, i))
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
        if grave and is_limit(point, *slope_of(i), float(computed[i])):
            continue
        tell(i, kind, -minus, allowed_ulps, tail=tail)
        count += 1
        if count == _MOST:
            break


class _NaturalScale:
    """The scale beside which an error may be rounding: a derivative in a tail need not be relatively exact.

    It is the largest of an element's own array, at the point and at the inputs cut off at ±1; or the slope
    that changes the results by their own size when the inputs change by theirs, or by 1 if they are
    smaller: beside it what cancels, as in the gradient of a sum of a softmax, is rounding.
    """

    def __init__(self, point: Point, own: Exactly, sizes: Sequence[int], slope_of: SlopeOf) -> None:
        self.point, self.own, self.slope_of = point, own, slope_of
        near = nearer(point, None)
        # Cotangents are drawn at random: with other signs they do not cancel in the same way.
        signs = [np.resize([1.0, -1.0], v.size).reshape(v.shape) * v for v in own.more]
        cut = [own.at(near, more) for more in (own.more, signs)]
        both = np.stack([own.floats, *(c for c in cut if c is not None)])
        both = np.where(np.isfinite(both), np.abs(both), 0.0)
        parts = np.split(both, np.cumsum(sizes)[:-1], axis=1)
        self.largest = np.concatenate([np.full(p.shape[1], p.max(initial=0.0)) for p in parts])

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
