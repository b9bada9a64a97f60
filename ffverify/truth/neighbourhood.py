"""Slopes that rounding cannot tell from the given one: at ties, at kinks, and within some ulps of them.

At a kink a framework's gradient is a limit of gradients nearby, an element of Clarke's generalised
gradient (Optimization and Nonsmooth Analysis, 1983, §2.5): along a single input it need not lie between
the one-sided derivatives, as where three numbers tie in a sort. And a kink within the rounding of the
inputs may be met or missed. ``nearby_slopes`` gives the hull of exact slopes at inputs around the point.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray, row_of
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program

from .derivatives import CEILING
from .slopes import Inputs, Weights, central

_POINTS, _FEW = 48, 6  # points tried, and beside inputs of many elements
_MANY = 1024
_BEYOND = (
    60  # bits between what a format holds and a limit, and between a move and the difference step
)
_DIGITS = 160  # bits that are left of a difference, at first and beside values around 1


def nearby_slopes(
    program: Program,
    inputs: Inputs,
    directions: Weights,
    fmt: Format,
    moving: Sequence[Array | None],
    *,
    units: int,
    width: float,
    points: int = _POINTS,
) -> tuple[float, float] | None:
    """Give the hull of slopes of a scalar program at inputs that move by up to units·u (or subnormals).

    With ``units`` 0 they move by nothing that a format could hold: it is then the hull of limits.
    ``moving`` tells which elements of each argument move; all of them in another order at every point,
    so that ties are broken every way round, at up to ``points`` of them. None if no slope there is finite.

    Slopes are known to ``width``, up to the highest precision: a ball that holds whatever was computed
    because the slope is tiny beside its value would excuse it.
    """
    places = [np.flatnonzero(m) if m is not None else np.zeros(0, int) for m in moving]
    count = sum(p.size for p in places)
    points = min(points, _POINTS if count <= _MANY else _FEW)
    limit = 2.0 ** (0 if units else -_BEYOND)
    relative = max(units, 1) * fmt.unit_roundoff * limit
    sizes = [
        np.abs(x.ravel()[p].astype(np.float64)) for x, p in zip(inputs.arrays, places, strict=True)
    ]
    least = arb(2) ** fmt.smallest_exponent * max(units, 1) * limit
    smallest = min((float(s.min()) for s in sizes if s.size), default=1.0)
    step = _exponent_of(arb(smallest) * relative + least) - _BEYOND - max(count, 2).bit_length()

    rng = np.random.default_rng(count)
    # Half of the points are a unit away: between kinks that lie close there is little room.
    moves = np.stack(
        [
            spread_moves(count, k, points, rng) / (max(units, 1) if k // 2 % 2 else 1)
            for k in range(points)
        ]
    )

    def slopes_around(bits: int) -> list[Any]:
        with BALLS.precision(bits):
            start, x = 0, []
            for a, p, size in zip(inputs.balls, places, sizes, strict=True):
                if p.size:
                    values = np.repeat(a.values.ravel()[None], points, axis=0)
                    far = BALLS.array(size).values * relative + least
                    here = moves[:, start : start + p.size]
                    values[:, p] = values[:, p] + far * BALLS.array(here).values
                    start += p.size
                    a = PreciseArray(values.reshape(points, *a.shape), BALLS, points)  # noqa: PLW2901 - moved, else as it was
                x.append(a)
            found = _decided_slopes(program, x, directions, np.asarray(step), points)
            return [s for s in found if s.is_finite()]

    bits = max(_DIGITS, _DIGITS - step)
    found = slopes_around(bits)
    while bits < CEILING and any(s.rad() > width for s in found):
        bits *= 2
        found = slopes_around(bits)
    if not found:
        return None
    return min(float(s.lower()) for s in found), max(float(s.upper()) for s in found)


def _decided_slopes(
    program: Program, x: Sequence[Any], directions: Weights, step: Array, points: int
) -> list[Any]:
    """Give the slopes at all rows, without those whose branches are not decided."""
    try:
        return central(program, x, directions, step).tolist()  # type: ignore[no-any-return]  # a list
    except Undecided:
        found = []
        for i in range(points):
            with contextlib.suppress(Undecided):
                found += central(program, row_of(list(x), i), directions, step).tolist()
        return found


def _exponent_of(size: Any) -> int:
    mantissa, exponent = size.mid().man_exp()
    return int(exponent) + int(mantissa).bit_length()


def spread_moves(count: int, k: int, points: int, rng: np.random.Generator) -> Array:
    """Give numbers between -1 and 1, none of them 0 and no two alike: rising, falling and mixed by turns."""
    if count == 1:
        return np.array([(-1.0) ** k * (k + 1) / points])
    ranks = (2 * np.arange(count) + 1.5) / (count + 1) - 1
    if k % 3 == 2:
        return rng.permutation(ranks)
    return np.roll(ranks[::-1] if k % 3 else ranks, k // 3)
