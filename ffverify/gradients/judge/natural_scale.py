"""Losses that are only relative: errors within rounding of a derivative's natural scale.

A gradient in the tail of a function, or one whose terms cancel, may have no right digit and still serve:
beside the scale on which it matters its error is rounding. Such a loss is a warning, not an error (and
an error under ``strict``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS, Truth
from ffverify.truth.slopes import Inputs, glance


def is_tail(
    point: Point,
    weights: Array,
    directions: Sequence[Array | None],
    computed: float,
    exact: Truth,
    gradient: Array | None,
    *,
    same: bool | None,
) -> bool:
    """Tell whether an error is only relative: within g·u of the gradient's natural scale.

    ``same`` tells whether the formula is right in exact arithmetic; None where it is unknown.

    The natural scale of an element is the largest magnitude among the elements of its own array
    (unless the function maps elementwise: then they are points of their own) and the sizes of the exact
    slopes in its own place at the inputs scaled by ½, ¼, … 2^-6, and cut off at ±1: of all results, as if no
    two cotangents cancelled, which were drawn at random. At a pole there is no slope: differences do not
    settle. A formula that is not known to be right has a tail's loss only beside the inputs cut off at ±1,
    and where the slope falls like an exponential: from the halved input on by √(g·u), the root of all that it
    falls by. A power law falls less. One that is off in itself has to give zero there, and g is that of one
    library call: nothing piles up. Below the smallest normal numbers nothing is promised: compilers and
    devices flush them to zero.
    """
    if not np.isfinite(computed) or (same is False and computed != 0):
        return False
    distance = (arb(computed) - exact.exact[0]).abs_upper()
    growth = LIBRARY_ROUNDINGS if same is False else exact.growth
    unit = arb(growth * point.fmt.unit_roundoff)
    if bool(distance <= growth * arb(2) ** point.fmt.emin):
        return True
    finite = np.zeros(0) if gradient is None else np.abs(gradient[np.isfinite(gradient)])
    if finite.size and bool(distance <= unit * float(finite.max())):
        return True
    if not same:
        half = _size(point, weights, directions, _nearer(point, 0.5), 128)
        if half is None or not distance <= unit.sqrt() * half:
            return False
    for factor in (*((2.0**-k for k in range(1, 7)) if same else ()), None):
        nearer = _nearer(point, factor)
        size = _size(point, weights, directions, nearer, 128)
        if size is not None and bool(distance <= unit * size):
            # Differences across a pole grow as their step falls: there is no slope, and no scale. Those
            # of a log a, which grow the least, are twice as large at twice the bits; a slope's stay.
            again = _size(point, weights, directions, nearer, 256)
            if again is not None and bool(2 * again <= 3 * size):
                return True
    return False


def _nearer(point: Point, factor: float | None) -> Inputs:
    """Give the inputs nearer to zero: scaled, or cut off at ±1."""
    return Inputs(
        [
            x if not f else x.clip(-1, 1) if factor is None else x.astype(np.float64) * factor
            for x, f in zip(point.points, point.floating, strict=True)
        ]
    )


def _size(
    point: Point, weights: Array, directions: Sequence[Array | None], inputs: Inputs, bits: int
) -> Any:
    """Give the sum of the sizes of all results' weighted slopes at a glance; None if there is none."""
    try:
        each = glance(point.vector, inputs, directions, bits)
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
    running: Callable[[], Any],
) -> bool:
    """Tell whether an error is noise beside what cancels: as in the slope of a sum of softmax, 0.

    The natural scale is the slope that would change the results by their own size when the inputs change
    by theirs (by 1, if they are smaller: what varies at the scale of its input keeps its digits there).
    Beside an exact 0 there is nothing to be relative to: what the roundings of the derivative program
    can add up to is allowed, or, where that is unknown, g·u of that scale however small the inputs: but not
    those of a function that itself is unknown.
    """
    if not np.isfinite(computed):
        return False
    zero = bool(exact.exact[0].contains(0))
    distance = (arb(computed) - exact.exact[0]).abs_upper()
    if zero:
        bound = running()
        if bound is not None and bound.is_finite():
            return bool(distance <= bound)
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
