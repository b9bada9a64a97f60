"""Losses that are only relative, of code without an exact form: errors within rounding of a natural scale.

A derivative in the tail of a function, or one whose terms cancel, may have no right digit and still serve:
beside the scale on which it matters its error is rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point, nearer
from ffverify.truth.derivatives import Truth
from ffverify.truth.slopes import Inputs, glance


def is_tail(
    point: Point,
    weights: Array,
    directions: Sequence[Array | None],
    computed: float,
    exact: Truth,
    gradient: Array,
) -> bool:
    """Tell whether an error is only relative: within g·u of the derivative's natural scale.

    The natural scale of an element is the largest magnitude in its own array, and the sizes of the exact
    slopes in its own place at the inputs cut off at ±1: of all results, as if no two cotangents cancelled,
    which were drawn at random. At a pole there is no slope: differences do not settle. The code is unknown,
    so that beside those inputs a loss is a tail's only where the slope falls like an exponential: from the
    halved input on by √(g·u), the root of all that it falls by. A power law falls less. Below the smallest
    normal numbers nothing is promised: compilers and devices flush them to zero.
    """
    if not np.isfinite(computed):
        return False
    distance = abs(arb(computed) - exact.exact[0]).upper()
    unit = arb(exact.growth * point.fmt.unit_roundoff)
    if bool(distance <= exact.growth * arb(2) ** point.fmt.emin):
        return True
    if is_beside_others(point, computed, exact, gradient):
        return True
    half = _size(point, weights, directions, nearer(point, 0.5), 128)
    if half is None or not distance <= unit.sqrt() * half:
        return False
    near = nearer(point, None)
    size = _size(point, weights, directions, near, 128)
    if size is None or not distance <= unit * size:
        return False
    # Differences across a pole grow as their step falls: there is no slope, and no scale. Those
    # of a log a, which grow the least, are twice as large at twice the bits; a slope's stay.
    again = _size(point, weights, directions, near, 256)
    return again is not None and bool(2 * again <= 3 * size)


def is_beside_others(
    point: Point, computed: float, exact: Truth, gradient: Array, moved: Array | None = None
) -> bool:
    """Tell whether an error is within g·u of the largest magnitude in the number's own array.

    So exact a real part is beside an imaginary one, and what linear algebra gives beside the largest of it:
    as far as any of these moves with the inputs (``moved``), the algorithm may be off in each.
    """
    finite = np.abs(gradient[np.isfinite(gradient)])
    allowed = exact.growth * point.fmt.unit_roundoff * float(finite.max(initial=0.0))
    if moved is not None:
        allowed += float(moved[np.isfinite(moved)].max(initial=0.0))
    distance = (arb(computed) - exact.exact[0]).abs_upper()
    return bool(np.isfinite(computed) and distance <= allowed)


def _size(
    point: Point,
    weights: Array,
    directions: Sequence[Array | None],
    arrays: Sequence[Array],
    bits: int,
) -> Any:
    """Give the sum of the sizes of all results' weighted slopes at a glance; None if there is none."""
    try:
        each = glance(point.vector, Inputs(arrays), directions, bits)
    except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
        return None
    if each is None:
        return None
    size = sum((abs(s).lower() * abs(w) for s, w in zip(each, weights, strict=True) if w), arb(0))
    return size if size.is_finite() else None


def is_noise(
    point: Point,
    weights: Array,
    directions: Sequence[Array | None],
    computed: float,
    exact: Truth,
) -> bool:
    """Tell whether an error is noise beside what cancels: as in the slope of a sum of softmax, 0.

    The natural scale is the slope that would change the results by their own size when the inputs change
    by theirs (by 1, if they are smaller: what varies at the scale of its input keeps its digits there).
    Beside an exact 0 there is nothing to be relative to: g·u of that scale however small the inputs, but not
    those of a function that itself is unknown.
    """
    if not np.isfinite(computed):
        return False
    zero = bool(exact.exact[0].contains(0))
    distance = (arb(computed) - exact.exact[0]).abs_upper()
    known = point.formulas.forward is not None
    results = point.exact if known else map(arb, point.computed.tolist())
    values = sum(
        (abs(float(w)) * y.abs_upper() for w, y in zip(weights, results, strict=True) if w), arb(0)
    )
    reach = 0.0
    for d, x in zip(directions, point.points, strict=True):
        if d is not None:
            size = np.abs(x.astype(np.float64))
            scale = np.where(size == 0, 1.0, size) if zero and known else np.maximum(size, 1.0)
            with np.errstate(over="ignore"):  # beside subnormal inputs a slope may be of any size
                reach += float(np.sum(np.abs(d) / scale))
    return bool(distance <= exact.growth * point.fmt.unit_roundoff * reach * values)
