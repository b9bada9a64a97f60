"""Inputs that nobody asked for: beyond the fourth root of a format's range, products over- or underflow.

It is the fourth root because the derivative of x/(x·x), as in projections, has products of four: (x·x)².
Where a strategy of inputs was left open, what fails at such inputs and nowhere nearer is a warning, which
states how far it holds. Bounds and points that the caller gave count, every one of them; a range around
zero, as [-2, 2], says how far from it, and not how near, which is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, is_floating
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS


def _open_sides(given: Any) -> tuple[bool, bool]:
    """Tell whether a strategy of `arrays` was left open towards zero, and to the end of its format."""
    from ffverify import strategies  # which load Hypothesis: a check of one point has no use for it

    made = strategies.arguments(given)
    if made is None or strategies.structure(given):
        return False, False
    fmt, low, high = made["dtype"], made["min_value"], made["max_value"]
    # A range that is smaller asks for small numbers.
    near = low <= 0 <= high and max(-low, high) > fmt.unit_roundoff
    return bool(near), bool(-float(fmt.largest) == low or high == float(fmt.largest))


def _open(values: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    return [v for v, g in zip(values, given, strict=True) if any(_open_sides(g)) and is_floating(v)]


def is_free(values: Sequence[Any], given: Sequence[Any]) -> bool:
    """Tell whether any of the values may be of any size, as far as its strategy goes."""
    return bool(_open(values, given))


def _range(inputs: Sequence[Any]) -> tuple[int, int]:
    """Give the exponents of the least and the largest numbers whose sums of products of four are normal.

    Narrow formats have few of them: numbers down to a rounding of 1, and those whose exponential still does
    not overflow, always count.
    """
    fmt = coarsest(inputs)
    longest = max((n for a in inputs for n in np.shape(a)), default=1)
    terms = int(np.ceil(np.log2(LIBRARY_ROUNDINGS + longest)))
    exponential = int(np.ceil(np.log2(fmt.emax * np.log(2))))
    return min(-(-fmt.emin // 4), -fmt.precision), max((fmt.emax - terms) // 4, exponential)


def _held(
    values: Sequence[Any], given: Sequence[Any], low: int, high: int, *, zeros: bool = False
) -> list[Any] | None:
    """Give values held between 2^low and 2^high in magnitude where they are open; None if they all are."""
    out, changed = [], False
    for a, g in zip(values, given, strict=True):
        near, far = _open_sides(g)
        if (near or far) and is_floating(a):
            x = to_numpy(a)
            size = np.abs(x.astype(np.float64))
            with np.errstate(over="ignore"):  # 2 to the power beyond a float64 is infinity
                ends = np.ldexp(1.0, low) if near else 0.0, np.ldexp(1.0, high) if far else np.inf
            inside = np.where(x == 0, 0.0, size.clip(*ends))
            inside = np.where(size < ends[0], 0.0, inside) if zeros else inside
            if np.any(inside != size):
                a, changed = like(a, np.copysign(inside, x).astype(x.dtype)), True  # noqa: PLW2901 - held, else as it was
        out.append(a)
    return out if changed else None


def held_within(
    values: Sequence[Any], given: Sequence[Any], nearer: int = 0, *, zeros: bool = False
) -> list[Any] | None:
    """Give values with what lies beyond the root of the range moved to it; None if nothing does.

    Parameters
    ----------
    values
        What was drawn for all leaves of the inputs.
    given
        The strategies that it was drawn from, among leaves that are none.
    nearer
        So many octaves nearer to 1 than the root.
    zeros
        Whether what is too small becomes 0 instead.
    """
    if not is_free(values, given):
        return None
    low, high = _range(_open(values, given))
    return _held(values, given, low + nearer, high - nearer, zeros=zeros)


def limit(values: Sequence[Any], given: Sequence[Any], holds: Callable[[list[Any]], bool]) -> str:
    """Say in words how far from zero, or how near to it, a check holds: to a power of two, by bisection.

    ``holds(values)`` checks a point; it does not hold at these, and does where they are held within.
    """
    free = _open(values, given)
    low, high = _range(free)
    sizes: Array = np.concatenate([np.abs(to_numpy(a).astype(np.float64)).ravel() for a in free])
    exponents = np.frexp(sizes[sizes > 0])[1]
    bottom, top = int(exponents.min()) - 1, int(exponents.max())

    def bisected(good: int, bad: int, at: Callable[[int], list[Any] | None]) -> int:
        while abs(bad - good) > 1:
            middle = (good + bad) // 2
            moved = at(middle)
            if moved is not None and holds(moved):
                good = middle
            else:
                bad = middle
        return good

    if top > high and not ((small := _held(values, given, low, top)) and holds(small)):
        reached = bisected(high, top, lambda e: _held(values, given, low, e))
        return f"It holds for |x| ≤ {2.0**reached:.2g}, and fails for larger numbers."
    reached = bisected(low, bottom, lambda e: _held(values, given, e, max(top, high)))
    return f"It holds for |x| ≥ {2.0**reached:.2g}, and fails for smaller ones that are not 0."
