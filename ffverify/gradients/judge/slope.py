"""The slope that one element of a VJP or a JVP should be, and what else may pass for it.

It is exact where the function has an exact program, else what differences leave open (`..opaque`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic
from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array
from ffverify.exact.programs import projected
from ffverify.gradients.evaluation import Point, nearer, secant
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION, Truth
from ffverify.truth.branches import Branches
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.neighbourhood import MANY, jumped, nearby_slopes
from ffverify.truth.slopes import (
    CONSTANT_PATTERNS,
    Inputs,
    along,
    glance,
    projection_slope,
    weighted,
    with_constants_moved,
)

# Constants move by so much less than a rounding that no threshold among them crosses a float; what they
# move is scaled up.
NEAR = 1024
# Points beside one: of what a tenth of them shows, one neighbourhood in 160 shows nothing (0.9⁴⁸).
_BESIDE = 48
_DRAWS = 3  # of signs with which sums might not cancel: any may do so by chance
_TELLING = 2.0**-6  # an error by which differences in float32 tell slopes apart
# Numbers at a point that are on no branch, after which no more are looked at: one is a finding.
_UNEXPLAINED = 4


def slack(point: Point, exact: Any) -> Any:
    """Give how far a formula may be off: as a library's function, which may be a truncated series."""
    unit = arb(point.fmt.unit_roundoff) * exact.abs_upper()
    return LIBRARY_ROUNDINGS * (unit + arb(2) ** point.fmt.smallest_exponent)


def known(exact: Any, growth: int) -> Truth:
    """Give a number that is known as a ball, or several, as a truth."""
    held = np.atleast_1d(np.asarray(exact, dtype=object))
    no = np.zeros(held.shape, dtype=bool)
    return Truth(held, lambda: np.full(held.shape, arb(0), dtype=object), no, ~no, growth)


def varied(numbers: Array, draw: int = 0) -> Array:
    """Give cotangents or tangents of other signs and up to twice as large: they cancel otherwise."""
    rng = np.random.default_rng(draw)
    return rng.choice([-1.0, 1.0], numbers.shape) * rng.uniform(1.0, 2.0, numbers.shape) * numbers


@dataclass(frozen=True)
class Slope:
    """The slope of ⟨weights, results⟩ at a point along a direction through its inputs."""

    point: Point
    weights: Array
    directions: Sequence[Array | None]

    @cached_property
    def truth(self) -> Truth:
        """The exact slope, at a kink the hull of those on either side; or what differences leave open."""
        point = self.point
        if point.formulas.differences is not None:
            ball, kink = point.formulas.differences(self.weights, self.directions)
            told = known(ball, point.growth)
            return replace(told, kink=np.array([kink]), resolved=np.array([False]))
        return self._truth_at(point.inputs)

    def _truth_at(self, inputs: Inputs) -> Truth:
        point = self.point
        moving = [
            (x != 0) if f else None for x, f in zip(inputs.arrays, point.floating, strict=True)
        ]
        return along(
            projected(point.vector, self.weights), inputs, self.directions, point.fmt,
            growth=point.growth, moving=moving,
        )  # fmt: skip

    @property
    def ball(self) -> Any:
        """The slope at a glance, to two thirds of the first precision where the function is known."""
        if self.point.formulas.differences is not None:
            return self.truth.exact[0]
        vector, inputs = self.point.vector, self.point.inputs
        return projection_slope(vector, self.weights, inputs, self.directions, FIRST_PRECISION)

    def may_be(self, number: Any) -> bool:
        """Tell whether a number is a limit of slopes, or lies between those of other branches."""
        return self.is_limit(number) or self.is_of_branches(number)

    def is_limit(self, number: Any) -> bool:
        """Tell whether a number is a limit of slopes beside the point, as a derivative at a kink may be.

        The slopes are known to an eighth of how far the number is from them: one slope's balls span half of
        the way, so that where the function is smooth their hull holds nothing else. Where there is one
        branch only none is looked at.
        """
        number, point = arb(number), self.point
        if point.formulas.limits is not None:
            return self._is_limit_of_differences(number)
        if not number.is_finite():
            return False
        exact = self.truth.exact[0]
        if abs(number - exact).lower() <= slack(point, exact):
            return True
        if self.truth.resolved[0] and not self.truth.kink[0] and point.takes_one_branch:
            return False
        where = point.vector, self.weights, point.inputs, self.directions, point.fmt, point.floating
        width, across = float(abs(number - exact).abs_lower()) / 8, list[int]()
        while True:
            hull = nearby_slopes(*where, width=width, points=_BESIDE, without=across)
            if hull is None:
                return False
            slopes = arb(hull[0]).union(arb(hull[1])).union(exact)
            if not abs(number - slopes).lower() <= slack(point, slopes):
                return False
            # What would be excused is asked for without what lies across a jump.
            if across or not (across := jumped(*where, points=_BESIDE)):
                return True

    def is_of_branches(self, number: Any) -> bool:
        """Tell whether a number lies between slopes of branches that the function takes if its steps round.

        After some that do not no more are looked at: each takes some dozens of runs.
        """
        number, point, left = arb(number), self.point, "numbers that branches may explain"
        if point.formulas.limits is not None or not number.is_finite():
            return False
        # Where very many inputs are tied the hull of slopes nearby is the whole line.
        few = sum(x.size for x in point.points) <= MANY
        if not (few and point.memo.setdefault(left, _UNEXPLAINED)) or point.takes_one_branch:
            return False
        branches = Branches(point.vector, point.inputs, self.directions, point.fmt, point.floating)
        hull, kink = self.truth.exact[0], bool(self.truth.kink[0])
        unit = point.growth * point.fmt.unit_roundoff
        rounding = unit * self.uncancelled

        def is_near(slope: Any) -> bool:
            return bool(abs(number - slope).lower() <= rounding + unit * slope.abs_upper())

        if is_near(hull):
            return True
        for jumps, slopes in branches.slopes(self.weights, hull, unit, kink=kink):
            for slope in slopes:
                hull = hull if jumps else hull.union(slope)
                if is_near(slope if jumps else hull):
                    return True
        point.memo[left] -= 1
        return False

    def is_of_staircase(self, number: float) -> bool:
        """Tell whether a number is the slope over many roundings of the inputs, and the exact one is none.

        What searches until it is as near as floats are, as bisection does, gives a staircase: between two
        steps its slope is 0. A product with a rounded number has one slope over many roundings, which is what
        differences find, and another over few. Over half of the digits of the smallest input, or of 1, and
        over 16 times that, differences have half of the digits left, and over less a quarter: half of what is
        left is asked for, where that is anything. A smooth function's are its slope.
        """
        point, exact, unit = self.point, self.truth.exact[0], self.point.fmt.unit_roundoff
        step, near = (0.5, unit**0.25) if point.formulas.forward else (0.75, unit**0.125)
        if near > _TELLING or not (number and np.isfinite(number) and exact.is_finite()):
            return False
        with np.errstate(all="ignore"):
            moved = zip(point.points, self.directions, strict=True)
            sizes = np.concatenate([np.abs(x / d)[d * x != 0] for x, d in moved if d is not None])
            for least in {1.0, float(sizes.min(initial=np.inf))} - {np.inf}:
                steps = [k * least * unit**step for k in (1, 16)]
                with contextlib.suppress(Fault):  # not defined there
                    over = [secant(point, self.directions, self.weights, h) for h in steps]
                    if all(
                        abs(s - number) <= near * abs(number) < abs(arb(s) - exact).lower()
                        for s in over
                    ):
                        return True
        return False

    def _is_limit_of_differences(self, number: Any) -> bool:
        """Tell whether a number lies between slopes nearby that do not draw together at the point."""
        point = self.point
        if self.truth.kink[0] and sum(x.size for x in point.points) > 1:
            return True  # along one of several inputs a limit need not lie between the two sides
        if not number.is_finite():
            return False
        assert point.formulas.limits is not None  # noqa: S101 - the caller saw it
        hull = point.formulas.limits(self.weights, self.directions)
        own = point.growth * point.fmt.unit_roundoff * abs(number)
        return hull is not None and bool(hull[0] - own <= number <= hull[1] + own)

    def constants(self) -> float:
        """Give how far the slope moves when the program's constants, such as √2, are rounded otherwise.

        What moves by more than half of the digits has crossed a threshold, and is no matter of rounding.
        """
        point, bits = self.point, FIRST_PRECISION

        wide = point.ahead is not None and point.ahead.slopes.wide

        def slopes(arithmetic: Arithmetic) -> Array | None:
            return glance(
                point.vector, point.inputs, self.directions, bits, arithmetic=arithmetic, wide=wide
            )

        while True:
            key = (bits, *(None if d is None else d.tobytes() for d in self.directions))
            if key not in point.memo:
                units = LIBRARY_ROUNDINGS / NEAR
                moved = with_constants_moved(point.fmt, units, slopes)
                point.memo[key] = slopes(BALLS), moved
            with BALLS.precision(bits):
                each, moved = point.memo[key]
                here = weighted(each, self.weights)
                apart = [(abs(weighted(m, self.weights) - here).upper(), n) for m, n in moved]
            if here.rel_accuracy_bits() >= point.fmt.precision or 4 * bits > CEILING:
                break
            bits *= 4
        most = point.fmt.unit_roundoff**0.5 * (float(here.abs_upper()) + self.of_values())
        sizes = [float(a) * np.sqrt(n / CONSTANT_PATTERNS) for a, n in apart if a <= most]
        return NEAR * float(np.hypot.reduce(sizes, initial=0.0))

    @cached_property
    def uncancelled(self) -> Any:
        """The slope's size if cotangents and tangents did not cancel; 0 where none can, or unknown."""
        moved = sum(np.count_nonzero(d) for d in self.directions if d is not None)
        if np.count_nonzero(self.weights) <= 1 >= moved:
            return arb(0)  # there is nothing that could
        sizes = [arb(0)]
        for k in range(_DRAWS):
            directions = [None if d is None else varied(d, k) for d in self.directions]
            other = Slope(self.point, varied(self.weights, k), directions)
            sizes.append(other.truth.exact[0].abs_upper())
        return max(filter(arb.is_finite, sizes))

    def hides_in_tail(self, distance: Any, unit: float) -> bool:
        """Tell whether an error is within rounding of a slope that falls exponentially to here.

        Its scale is the slope at the inputs cut off at ±1: of all results, as if no two cotangents
        cancelled, which were drawn at random. Exponential is what falls from the halved input on by the
        root of all that it falls by: a power law falls less.
        """
        half, cut = self._size(nearer(self.point, 0.5)), self._size(nearer(self.point, None))
        return bool(distance <= arb(unit).sqrt() * half and distance <= unit * cut)

    def has_lost_values(self) -> bool:
        """Tell whether the function's own results have lost half of their digits, where its program is known.

        So may then what else is computed from the same numbers, as those that underflow: that is rounding.
        """
        exact, fmt = midpoints(self.point.exact), self.point.fmt
        with np.errstate(all="ignore"):
            error = np.abs(self.point.computed - exact)
            lost = error > fmt.unit_roundoff**0.5 * np.abs(exact) + 2.0**fmt.emin
        return bool(np.any(lost & (self.weights != 0)))

    def _size(self, arrays: Sequence[Array]) -> Any:
        """Give the sum of the sizes of all results' weighted slopes at other inputs; 0 without any."""
        try:
            each = glance(self.point.vector, Inputs(arrays), self.directions, FIRST_PRECISION)
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            return arb(0)
        sizes = None if each is None else np.array([abs(s).lower() for s in each], dtype=object)
        size = weighted(sizes, np.abs(self.weights))
        return size if size.is_finite() else arb(0)

    def of_values(self) -> float:
        """Give the slope that changes results by their own size when inputs change by theirs, or by 1."""
        point, used = self.point, self.weights != 0
        results = point.computed if point.formulas.forward is None else midpoints(point.exact)
        moved = zip(self.directions, point.points, strict=True)
        with np.errstate(over="ignore"):
            values = float(np.abs(self.weights[used] * results[used]).sum())
            shares = (np.abs(d) / np.maximum(np.abs(x), 1.0) for d, x in moved if d is not None)
            return values * sum(float(share.sum()) for share in shares)
