"""How far a fault extends: which elements of a gradient are off beside the one that is shown, and by what."""

from __future__ import annotations

import numpy as np

from ffverify.exact.formats import Array
from ffverify.gradients.judge.numbers import Judged
from ffverify.gradients.judge.slope import Slope

_MOST = 32  # elements whose exact slopes are measured one by one


def extent(judged: Judged) -> str:
    """Say how many elements of the gradient are off by more than half of their digits, and in which pattern.

    Nothing is said of large gradients, of JVPs, and where no exact program is known.
    """
    point, gradient = judged.point, judged.array
    if (
        judged.mode != point.subject.reverse
        or point.formulas.forward is None
        or judged.argument < 0
    ):
        return ""
    if gradient is None or not 1 < gradient.size <= _MOST:
        return ""
    each = [
        Slope(point, judged.slope.weights, point.unit(judged.argument, i))
        for i in range(gradient.size)
    ]
    exact = np.array([float(s.truth.exact[0].mid()) for s in each]).reshape(gradient.shape)
    computed = gradient.astype(np.float64)
    finite = np.isfinite(exact)
    half, unit = 2.0 ** (-point.fmt.precision / 2), point.growth * point.fmt.unit_roundoff
    noise = unit * np.abs(exact[finite]).max(initial=0.0)
    with np.errstate(all="ignore"):
        off = finite & ~(np.abs(computed - exact) <= np.maximum(half * np.abs(exact), noise))
    if not off[judged.index]:
        return ""
    count = int(off.sum())
    who = "Every element" if count == off.size else f"{count} of {off.size} elements"
    verb = "is" if count in (1, off.size) else "are"
    return f"{who} {verb} off{_where(off)}{_factor(computed[off], exact[off])}."


def _where(off: Array) -> str:
    """Name the rows, columns or the diagonal that the elements are."""
    if off.ndim != 2 or off.all() or off.sum() < 2:
        return ""
    rows, columns = np.flatnonzero(off.any(axis=1)), np.flatnonzero(off.any(axis=0))
    if rows.size == 1:
        return f", all in row {rows[0]}"
    if columns.size == 1:
        return f", all in column {columns[0]}"
    i, j = np.nonzero(off)
    if np.all(i == j):
        return ", all on the diagonal"
    if np.all(i > j) or np.all(i < j):
        return f", all {'below' if np.all(i > j) else 'above'} the diagonal"
    return ""


def _factor(computed: Array, exact: Array) -> str:
    """Name the factor by which all elements are off, if it is one."""
    if not np.all(np.isfinite(computed)) or np.any(exact == 0):
        return ""
    if np.all(computed == 0):
        return ", computed as 0"
    ratios = computed / exact
    middle = float(np.median(ratios))
    alike = computed.size > 1 and np.all(np.abs(ratios - middle) <= 1e-3 * abs(middle))
    shown = f"{middle:.4g}"
    return f", by the factor {shown}" if alike and shown != "1" else ""
