"""The slope that one element of a VJP or a JVP should be, and what is known of it.

It is exact where the function has an exact program, else what differences leave open (`..opaque`).
"""

from __future__ import annotations

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
from ffverify.gradients.evaluation import Point, nearer
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION, Truth
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.slopes import (
    CONSTANT_PATTERNS,
    Inputs,
    Slopes,
    along,
    glance,
    projection_slope,
    slopes_together,
    weighted,
    with_constants_moved,
)

# Constants move by so much less than a rounding that no threshold among them crosses a float; what they
# move is scaled up.
NEAR = 1024
_DRAWS = 3  # of signs with which sums might not cancel: any may do so by chance


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
        point, weights = self.point, [varied(self.weights, k) for k in range(_DRAWS)]
        directions = [
            [None if d is None else varied(d, k) for d in self.directions] for k in range(_DRAWS)
        ]
        each: Sequence[Slopes | None] = [None] * _DRAWS
        if point.formulas.differences is None:
            each = slopes_together(point.vector, [point.inputs] * _DRAWS, directions, point.fmt)
        sizes = [arb(0)]
        with BALLS.precision(2 * FIRST_PRECISION):
            for found, w, d in zip(each, weights, directions, strict=True):
                other = (
                    Slope(point, w, d).truth.exact[0] if found is None else weighted(found.exact, w)
                )
                sizes.append(other.abs_upper())
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
