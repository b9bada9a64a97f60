"""When two runs of one function count as alike: bit for bit, or to half the digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.exact.formats import Array, Format
from ffverify.frameworks.arrays import coarsest, device_of


def same(a: Array, b: Array, *, native: Any = None) -> bool:
    """Compare two runs: bit for bit on a CPU; a GPU may add in another order, to half the digits.

    ``native`` is an array as the framework gave it, whose device and format count.
    """
    if a.shape != b.shape:
        return False
    if device_of(native) in ("cpu", "str"):
        return bool(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.floating)))
    return close(a, b, coarsest([native]))


def close(a: Array, b: Array, fmt: Format, scale: float = 0.0) -> bool:
    """Tell whether two arrays agree to half a format's digits, of the largest element or of a scale.

    Both are judged against the truth elsewhere; this only has to tell one function from another.
    """
    if a.shape != b.shape:
        return False
    if np.array_equal(a, b):
        return True
    if not np.issubdtype(a.dtype, np.floating):
        return False
    finite = np.isfinite(a) & np.isfinite(b)
    largest = max(scale, float(np.abs(a[finite]).max(initial=0.0)))
    half = (2 * fmt.unit_roundoff) ** 0.5
    tiny = 2.0**fmt.emin  # below it results may be flushed, or rounded to a digit or two
    return bool(np.all(~finite | (np.abs(a - b) <= half * largest + tiny)))


def alike(a: Array, b: Array, fmt: Format) -> bool:
    """Tell whether two runs on the same input are one function's: nan and infinities too."""
    if a.shape != b.shape:
        return False
    if not np.issubdtype(a.dtype, np.floating):
        return bool(np.array_equal(a, b))
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    return bool(np.array_equal(a[odd], b[odd], equal_nan=True)) and close(a, b, fmt)
