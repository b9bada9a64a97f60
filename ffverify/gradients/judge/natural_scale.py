"""Losses that are only relative: errors within rounding of a natural scale.

A derivative in the tail of a function, or one whose terms cancel, may have no right digit and still serve:
beside the scale on which it matters its error is rounding. That scale is the largest magnitude in its own
array, here and at the inputs cut off at ±1 (`Numbers.scale`); or the slope that changes the results by their
own size when the inputs change by theirs, or by 1 if they are smaller: beside it what cancels, as in the
gradient of a sum of a softmax, is rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.exact.elements import arb

from .numbers import Numbers
from .slope import Slope


def is_relative(numbers: Numbers, i: int, exact: Any) -> bool:
    """Tell whether an error is within rounding of the natural scale, or of what cancels or underflows."""
    computed, point, own = float(numbers.computed[i]), numbers.point, numbers.own
    fmt, is_known = point.fmt, point.formulas.forward is not None
    if not np.isfinite(computed):
        return False
    distance = (arb(computed) - exact).abs_upper()
    if distance <= point.growth * 2.0**fmt.emin:  # below it results may be flushed to zero
        return True
    unit, slope = point.growth * fmt.unit_roundoff, numbers.slope(i)
    allowed = unit * float(numbers.scale[i])
    if not is_known and numbers.motion is not None:
        # What linear algebra gives may be off in each of an array as far as any of it moves.
        allowed += float(numbers.of_largest(numbers.motion)[i])
    if distance <= allowed or distance <= unit * of_values(slope, exact):
        return True
    if own is not None:
        # So near to underflow that half of its digits are below what may be flushed.
        small = 2.0**fmt.emin / fmt.unit_roundoff**0.5
        size = float(exact.abs_upper())
        nothing = size <= small or exact.contains(0) or size <= 2 * own.constants[i]
        return bool(nothing and distance <= own.running[i])
    return is_known and slope.hides_in_tail(distance, unit)


def of_values(slope: Slope, exact: Any) -> Any:
    """Give the slope that changes the results by their own size.

    Beside an exact 0 there is nothing to be relative to, however small the inputs: only where the
    function itself is unknown, and its slope is not exact, nothing is smaller than 1.
    """
    point = slope.point
    is_known = point.formulas.forward is not None
    results = point.exact if is_known else [arb(y) for y in point.computed.tolist()]
    terms = zip(slope.weights.tolist(), results, strict=True)
    values = sum((abs(w) * y.abs_upper() for w, y in terms if w), arb(0))
    reach = 0.0
    for d, x in zip(slope.directions, point.points, strict=True):
        if d is not None:
            size = np.abs(x.astype(np.float64))
            bare = is_known and bool(exact.contains(0))
            scale = np.where(size == 0, 1.0, size) if bare else np.maximum(size, 1.0)
            with np.errstate(over="ignore"):  # beside subnormal inputs a slope may be of any size
                reach += float(np.sum(np.abs(d) / scale))
    return values * reach
