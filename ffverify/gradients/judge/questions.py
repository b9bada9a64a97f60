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
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.gradients.directions import chosen_cotangents, random_direction, tied_directions
from ffverify.gradients.evaluation import (
    Point,
    attached,
    cotangents_at,
    finite_results,
    gradients_of,
    result_index,
    tangents_at,
    tangents_of,
)
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.slopes import Inputs, Slopes, slopes, slopes_along
from ffverify.verdicts.verdict import Verdict

from .ahead import Ahead
from .by_differences import screen_by_differences
from .exactly import Exactly, Row, Together
from .execution import SlopeOf, execution_and_accuracy
from .formula import (
    forward_faults,
    is_cut_off,
    kinked_faults,
    one_result,
    reverse_faults,
)
from .judged import Screening, judged_number
from .unknown import judge_one, judge_tangents, judge_vjp

_ON_KINKS = 4  # elements on kinks that are judged, of one argument
_BESIDE = 2.0**-12  # how far finite inputs are from those where results have no slope
_RESOLVED = 2.0**-42  # half of the bits that differences at the first precision have


def judge(point: Point, *, values: bool = True) -> Screening:
    """Judge the values, the VJP and the JVP of a function at a point."""
    found = Screening()
    if values and point.formulas.forward is not None:
        _values(point, found)
    flags = point.subject.attached(point.native, len(point.results))
    for k in point.places:
        if not flags[k]:
            found.skipped[f"result {k}"] = "it is detached, and other results are not"
    if point.formulas.forward is None:
        screen_by_differences(point, found)
        return found
    usable = finite_results(point)
    ahead = point.ahead
    direction = random_direction(point) if ahead is None else ahead.directions
    kinked = _along(point, direction, usable, found, ahead=ahead)
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
    ahead: Ahead | None = None,
) -> bool:
    """Judge both modes along a direction; tell whether any result has a kink there."""
    if ahead is None:
        exact = slopes(point.vector, point.inputs, directions, point.fmt, here=point.exact)
    else:
        exact = ahead.slopes
    smooth = usable & exact.smooth
    if smooth.any():
        _forward(point, directions, exact, smooth, found, ahead)
        weights = chosen_cotangents(point, smooth) if ahead is None else ahead.weights
        row = None if ahead is None else ahead.gradients
        vjp = _Vjp(point, weights, usable & (exact.smooth | exact.kink), found, row)
        _reverse(vjp, directions, exact, tied=tied)
    return bool((exact.kink & usable).any())


def _values(point: Point, found: Screening) -> None:
    """Ask the second and the third question of the function's own values.

    Exact numbers have no sign of zero: the values are those with its sign left out.
    """
    computed = point.computed
    if any(
        np.any((x == 0) & np.signbit(x))
        for x, f in zip(point.points, point.floating, strict=True)
        if f
    ):
        unsigned = [
            like(a, x + 0) if f else a
            for a, x, f in zip(point.native, point.points, point.floating, strict=True)
        ]
        results = point.subject.value(unsigned)
        computed = np.concatenate([to_numpy(results[k]).ravel() for k in point.places])
        computed = computed.astype(np.float64)
    row = None if point.ahead is None else point.ahead.values
    if row is None:
        row = Row(Together(point.vector, [point.inputs.arrays], point.fmt, [point.exact]), 0)
    own = Exactly(
        point.vector,
        point.inputs,
        [],
        point.fmt,
        point.growth,
        row=row,
        code=point.formulas.code,
    )

    def tell(o: int, kind: Verdict, error: float, allowed: float, *, tail: bool) -> None:
        k, index = result_index(point, o)
        found.failed.append(
            judged_number(
                point, "value", k, index, kind, float(computed[o]), point.exact[o], error,
                allowed, tail=tail, weights=one_result(point, o),
                directions=[None] * len(point.points), gradient=None,
            )
        )  # fmt: skip

    asked = np.ones(computed.size, dtype=bool)
    execution_and_accuracy(
        point, own, computed, asked, point.sizes, point.places, found, "value", tell, None
    )


# ---------------------------------------------------------------------------------------------
# The two modes
# ---------------------------------------------------------------------------------------------


def _forward(
    point: Point,
    directions: list[Array | None],
    exact: Slopes,
    smooth: Array,
    found: Screening,
    ahead: Ahead | None,
) -> None:
    tangents = tangents_of(point, directions, found.skipped)
    if tangents is None:
        return
    found.judged += int(smooth.sum())
    program = point.formulas.tangent()
    own = None
    if program is not None:
        dots, row = tangents_at(point, directions), None if ahead is None else ahead.tangents
        own = Exactly(program, point.inputs, dots, point.fmt, point.growth, row=row)
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
    execution_and_accuracy(
        point,
        own,
        tangents,
        keep,
        point.sizes,
        point.places,
        found,
        point.subject.forward,
        tell,
        slope_of,
    )


class _Vjp:
    """A VJP at a point, computed and exact, its arrays raveled and joined.

    Results that are not ``sloped`` have no slope, as they or it are not finite: their cotangent is 0.
    """

    def __init__(
        self,
        point: Point,
        weights: Array,
        sloped: Array,
        found: Screening,
        row: Row | None = None,
    ) -> None:
        self.point, self.weights, self.sloped, self.found = point, weights, sloped, found
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
            vectors = cotangents_at(point, weights)
            own = Exactly(program, point.inputs, vectors, point.fmt, point.growth, row=row)
            self.own = own if own.balls is not None and own.balls.size == self.ends[-1] else None

    @cached_property
    def undefined(self) -> Array:
        """Which elements are not finite and move results that have no slope.

        0, the cotangent of these, times their infinite slope is nan: that is no fault of the code's. What
        moves them shows in their exact slopes at finite inputs beside the point.
        """
        broken = np.flatnonzero(~np.isfinite(self.computed))
        out = np.zeros(self.computed.size, dtype=bool)
        without = np.flatnonzero(~self.sloped & attached(self.point)) if broken.size else broken
        if not without.size:
            return out
        weights = np.zeros(self.weights.size)
        weights[without] = np.sqrt(1.0 + np.arange(without.size))  # so that no slopes add up to 0
        beside = [
            np.where(np.isfinite(x), x, 1.0)
            + _BESIDE * (1 + np.arange(x.size).reshape(x.shape) % 64)
            if f
            else x
            for x, f in zip(self.point.points, self.point.floating, strict=True)
        ]
        places = [self.place(i) for i in broken.tolist()]
        try:
            found = slopes_along(
                self.point.vector, weights, Inputs(beside), places, FIRST_PRECISION
            )
            out[broken] = [not (s.contains(0) and s.rad() < _RESOLVED) for s in found]
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            out[broken] = True
        return out

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
        rest &= ~self.undefined
        execution_and_accuracy(
            point,
            own,
            self.computed,
            rest,
            self.sizes,
            self.owners,
            self.found,
            point.subject.reverse,
            tell,
            self._slope_of,
        )

    def _slope_of(self, i: int) -> tuple[Array, list[Array | None]]:
        return self.weights, self.point.unit(*self.place(i))


def _reverse(vjp: _Vjp, directions: list[Array | None], exact: Slopes, *, tied: bool) -> None:
    if vjp.gradients is None:
        return
    point, weights, found = vjp.point, vjp.weights, vjp.found
    found.judged += vjp.computed.size
    if vjp.own is None:
        judge_vjp(point, found, vjp.gradients, weights, directions, vjp.undefined)
        return
    wrong = reverse_faults(
        point, vjp.own, exact, weights, directions, vjp.place, vjp.undefined, found, tied=tied
    )
    vjp.judge(vjp.own, wrong)


def _on_kinks(point: Point, usable: Array, found: Screening) -> None:
    """Judge elements that sit on a kink, zeros and ties, against the slopes on either side and beside."""
    vjp = _Vjp(point, chosen_cotangents(point, usable), usable, found)
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
