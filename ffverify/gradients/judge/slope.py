"""The exact slope that one element of a VJP or a JVP should be, and what else may pass for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.exact.programs import projected
from ffverify.gradients.evaluation import Point, nearer
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION, Truth
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.neighbourhood import nearby_slopes
from ffverify.truth.slopes import CONSTANT_PATTERNS, Inputs, along, constants_moved, glance

# Constants move by so much less than a rounding that no threshold among them crosses a float; what they
# move is scaled up.
NEAR = 1024
_AROUND, _EVERYWHERE = 6, 48  # points beside one


def slack(point: Point, exact: Any) -> Any:
    """Give how far a formula may be off: as a library's function, which may be a truncated series."""
    unit = arb(point.fmt.unit_roundoff) * exact.abs_upper()
    return LIBRARY_ROUNDINGS * (unit + arb(2) ** point.fmt.smallest_exponent)


@dataclass(frozen=True)
class Slope:
    """The slope of ⟨weights, results⟩ at a point along a direction through its inputs."""

    point: Point
    weights: Array
    directions: Sequence[Array | None]

    @cached_property
    def truth(self) -> Truth:
        """The exact slope; at a kink the hull of the slopes on either side."""
        point = self.point
        moving = [
            (x != 0) if f else None for x, f in zip(point.points, point.floating, strict=True)
        ]
        return along(
            projected(point.vector, self.weights), point.inputs, self.directions, point.fmt,
            growth=point.growth, moving=moving,
        )  # fmt: skip

    def is_near(self, number: Any) -> bool:
        """Tell whether a number is the exact slope itself, up to rounding."""
        exact = self.truth.exact[0]
        return bool(abs(arb(number) - exact).lower() <= slack(self.point, exact))

    def is_limit(self, number: Any) -> bool:
        """Tell whether a number is a limit of slopes beside the point, as a derivative at a kink may be.

        The slopes are known to a fraction of how far the number is from them: where the function is smooth
        their hull is as narrow, and holds nothing else. Where the slope at the point is no hull, and is that
        at a few points around as well, it is smooth: ties are broken there every way round.
        """
        number, point = arb(number), self.point
        if not number.is_finite():
            return False
        exact, program = self.truth.exact[0], projected(point.vector, self.weights)
        width = (
            float(abs(number - exact).abs_lower()) / 8
        )  # far from covering the difference itself

        def beside(points: int) -> Any:
            return nearby_slopes(
                program, point.inputs, self.directions, point.fmt, point.floating, width=width,
                points=points,
            )  # fmt: skip

        smooth = bool(self.truth.resolved[0]) and not self.truth.kink[0]
        hull = beside(_AROUND) if smooth else None
        if hull is None or any(bool(abs(arb(end) - exact).upper() > width) for end in hull):
            hull = beside(_EVERYWHERE)
        if hull is None:
            return False
        slopes = arb(hull[0]).union(arb(hull[1])).union(exact)
        return bool(abs(number - slopes).lower() <= slack(point, slopes))

    def constants(self) -> float:
        """Give how far the slope moves when the program's constants, such as √2, are rounded otherwise."""
        point, used = self.point, np.flatnonzero(self.weights)

        def sum_of(each: Array | None) -> Any:
            if each is None:
                return arb.nan()
            return sum((each[used] * self.weights[used]).tolist(), start=arb(0))

        bits = FIRST_PRECISION
        while True:
            (each, _), *moved = _with_constants_moved(point, self.directions, bits)
            with BALLS.precision(bits):
                here = sum_of(each)
                if here.rel_accuracy_bits() >= point.fmt.precision or 4 * bits > CEILING:
                    apart = [(abs(sum_of(m) - here).upper(), count) for m, count in moved]
                    break
            bits *= 4
        total = sum(float(a) ** 2 * n for a, n in apart if a.is_finite()) / CONSTANT_PATTERNS
        return NEAR * float(np.sqrt(total))

    def hides_in_tail(self, distance: Any, unit: float) -> bool:
        """Tell whether an error is within rounding of a slope that falls exponentially to here.

        Its scale is the slope at the inputs cut off at ±1: of all results, as if no two cotangents
        cancelled, which were drawn at random. Exponential is what falls from the halved input on by the
        root of all that it falls by: a power law falls less.
        """
        half, cut = self._size(nearer(self.point, 0.5)), self._size(nearer(self.point, None))
        return bool(distance <= arb(unit).sqrt() * half and distance <= unit * cut)

    def _size(self, arrays: Sequence[Array]) -> Any:
        """Give the sum of the sizes of all results' weighted slopes at other inputs; 0 without any."""
        try:
            each = glance(self.point.vector, Inputs(arrays), self.directions, FIRST_PRECISION)
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            return arb(0)
        if each is None:
            return arb(0)
        used = [
            abs(s).lower() * abs(w) for s, w in zip(each, self.weights.tolist(), strict=True) if w
        ]
        size = sum(used, arb(0))
        return size if size.is_finite() else arb(0)


def _with_constants_moved(
    point: Point, directions: Sequence[Array | None], bits: int
) -> list[tuple[Array | None, int]]:
    """Give the slopes of all results, and those with the program's constants moved, with their number."""
    key = (bits, *(None if d is None else d.tobytes() for d in directions))
    found: list[tuple[Array | None, int]] | None = point.memo.get(key)
    if found is None:
        found = [(glance(point.vector, point.inputs, directions, bits), 0)]
        for pattern in range(CONSTANT_PATTERNS):
            arithmetic, met = constants_moved(point.fmt, LIBRARY_ROUNDINGS / NEAR, pattern)
            each = glance(point.vector, point.inputs, directions, bits, arithmetic=arithmetic)
            if not met:
                break
            found.append((each, len(met)))
        point.memo[key] = found
    return found
