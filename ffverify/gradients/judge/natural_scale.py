"""Losses that are only relative: errors within rounding of a natural scale.

A derivative in the tail of a function, or one whose terms cancel, may have no right digit and still serve:
beside the scale on which it matters its error is rounding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import nearer

from .exactly import Exactly
from .numbers import Numbers
from .slope import Slope


class NaturalScale:
    """The natural scales of a mode's elements.

    An element's is the largest magnitude in its own array, here and at the inputs cut off at ±1; or the
    slope that changes the results by their own size when the inputs change by theirs, or by 1 if they are
    smaller: beside it what cancels, as in the gradient of a sum of a softmax, is rounding.

    Parameters
    ----------
    own
        The code in exact arithmetic; None if it is unknown.
    """

    def __init__(self, numbers: Numbers, own: Exactly | None) -> None:
        self.numbers, self.own, self.point = numbers, own, numbers.point

    @cached_property
    def _largest(self) -> Array:
        numbers, own = self.numbers, self.own
        if own is None:
            return numbers.of_largest(numbers.computed)
        cut = own.at(nearer(self.point, None), own.more, [_other_signs(v) for v in own.more])
        every = [own.floats, *(() if cut is None else cut)]
        return np.max([numbers.of_largest(each) for each in every], axis=0)  # type: ignore[no-any-return]  # an array

    def excuses(self, i: int, exact: Any) -> bool:
        """Tell whether an error is within rounding of the natural scale, or of what cancels or underflows."""
        computed, fmt = float(self.numbers.computed[i]), self.point.fmt
        if not np.isfinite(computed):
            return False
        distance = (arb(computed) - exact).abs_upper()
        if distance <= self.point.growth * 2.0**fmt.emin:  # below it results may be flushed to zero
            return True
        unit, slope = self.point.growth * fmt.unit_roundoff, self.numbers.slope(i)
        allowed = unit * float(self._largest[i])
        if self.point.formulas.forward is None and self.numbers.motion is not None:
            # What linear algebra gives may be off in each of an array as far as any of it moves.
            allowed += float(self.numbers.of_largest(self.numbers.motion)[i])
        if distance <= allowed or distance <= unit * self._of_values(slope, exact):
            return True
        if self.own is not None:
            # So near to underflow that half of its digits are below what may be flushed.
            small = 2.0**fmt.emin / fmt.unit_roundoff**0.5
            size = float(exact.abs_upper())
            nothing = size <= small or exact.contains(0) or size <= 2 * self.own.constants[i]
            return bool(nothing and distance <= self.own.running[i])
        if self.point.formulas.forward is None:
            return False
        return bool(distance <= unit * _uncancelled(slope)) or slope.hides_in_tail(distance, unit)

    def _of_values(self, slope: Slope, exact: Any) -> Any:
        """Give the slope that changes the results by their own size.

        Beside an exact 0 there is nothing to be relative to, however small the inputs: only where the
        function itself is unknown, and its slope is not exact, nothing is smaller than 1.
        """
        known = self.point.formulas.forward is not None
        results = self.point.exact if known else [arb(y) for y in self.point.computed.tolist()]
        terms = zip(slope.weights.tolist(), results, strict=True)
        values = sum((abs(w) * y.abs_upper() for w, y in terms if w), arb(0))
        reach = 0.0
        for d, x in zip(slope.directions, self.point.points, strict=True):
            if d is not None:
                size = np.abs(x.astype(np.float64))
                bare = known and bool(exact.contains(0))
                scale = np.where(size == 0, 1.0, size) if bare else np.maximum(size, 1.0)
                with np.errstate(
                    over="ignore"
                ):  # beside subnormal inputs a slope may be of any size
                    reach += float(np.sum(np.abs(d) / scale))
        return values * reach


def _other_signs(numbers: Array) -> Array:
    """Give cotangents or tangents, drawn at random, with other signs: they do not cancel in the same way."""
    return np.resize([1.0, -1.0], numbers.size).reshape(numbers.shape) * numbers


def _uncancelled(slope: Slope) -> Any:
    """Give the size of a slope whose cotangents and tangents do not cancel; 0 where it is unknown."""
    directions = [None if d is None else _other_signs(d) for d in slope.directions]
    size = Slope(slope.point, _other_signs(slope.weights), directions).truth.exact[0].abs_upper()
    return size if size.is_finite() else arb(0)
