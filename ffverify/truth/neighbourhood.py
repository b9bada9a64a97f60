"""Limits of slopes beside a point: at a tie or a kink each of them is as right as another.

At a kink a framework's gradient is a limit of gradients nearby, an element of Clarke's generalised
gradient (Optimization and Nonsmooth Analysis, 1983, §2.5): along a single input it need not lie between
the one-sided derivatives, as where three numbers tie in a sort. ``nearby_slopes`` gives the hull of exact
slopes at inputs around the point.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray, rows_of
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, at_rows, in_halves
from ffverify.exact.rounding_arithmetic import UNHELD

from .adaptive import CEILING
from .differences import Weights, at_shifts, central, shifts, smallest_at, steps
from .slopes import Inputs, weighted

_FEW, MANY = 6, 1024  # points that are tried beside inputs of many elements
_LARGEST = 64  # of so many equal numbers, each is tried at every place among them
NEARER = (
    1000  # bits: a twentieth root has 2^-50 of its change left, and 1e102 has ties that less breaks
)
_DIGITS = 160  # bits that are left of a difference, at first and beside values of the inputs' size


def nearby_slopes(
    vector: Program,
    weights: Array,
    inputs: Inputs,
    directions: Weights,
    fmt: Format,
    moving: Sequence[bool],
    *,
    width: float,
    points: int,
    without: Sequence[int] = (),
) -> tuple[float, float] | None:
    """Give the hull of slopes of ⟨weights, results⟩ at inputs that move by less than a format could hold.

    ``moving`` tells which arguments move: all of their elements, in another order at each of some ``points``
    or more, so that ties are broken every way round. None if no slope there is finite. Among very many equal
    numbers not every place is tried: if slopes of any result differ, the hull is unknown, the whole line.
    Points ``without`` are left out, as those across a jump (see `jumped`): no slope there is a limit.

    Slopes are known to ``width``, up to the highest precision: a ball that holds whatever was computed
    because the slope is tiny beside its value would excuse it.
    """
    beside = around(inputs, fmt, moving, points, directions)

    x: list[Any] = []
    kept = [k for k in range(beside.points) if k not in without]
    if not kept:
        return None

    def slopes_at(some: Sequence[int]) -> Sequence[Array]:
        return list(central(vector, rows_of(x, np.array(some)), directions, np.array(beside.step)))

    bits = beside.bits
    while True:
        with BALLS.precision(bits):
            x = beside.rows(1.0)
            rows = [r for r in in_halves(slopes_at, kept) if r is not None]
            found = [s for s in (weighted(row, weights) for row in rows) if s.is_finite()]
        decided, bits = len(rows) == len(kept), 2 * bits
        if bits > CEILING or (decided and not any(s.rad() > width for s in found)):
            break
    if not found:
        return None
    if not beside.every and any(_vary(each, fmt, width) for each in zip(*rows, strict=True)):
        return -np.inf, np.inf
    return min(float(s.lower()) for s in found), max(float(s.upper()) for s in found)


def jumped(
    vector: Program,
    weights: Array,
    inputs: Inputs,
    directions: Weights,
    fmt: Format,
    moving: Sequence[bool],
    *,
    points: int,
) -> list[int]:
    """Give the points beside one where a result with a weight has jumped: `NEARER` it is as far off.

    None are told where a branch is undecided at the point itself.
    """
    beside, used = around(inputs, fmt, moving, points, directions), weights != 0
    with BALLS.precision(beside.bits + 2 * NEARER), contextlib.suppress(Exception):
        here = vector(*inputs.balls).values
        far, near = (
            at_rows(vector, beside.rows(scale)).elements.reshape(beside.points, -1) - here
            for scale in (1.0, 2.0**-NEARER)
        )
        return [
            k
            for k, row in enumerate(zip(near[:, used], far[:, used], strict=True))
            if has_jumped(*row)
        ]
    return []


def is_apart(vector: Program, inputs: Inputs, directions: Weights) -> bool:
    """Tell whether any result's value is another than its limit beside the point, one on both sides.

    A program that takes a branch of its own at just this point gives such values: a column that is eliminated
    already is not reflected by a QR decomposition, and elsewhere is, with the other sign. What it computes
    there besides belongs to no slope that others have beside it. None is told where a branch is undecided.
    """
    least, bends = smallest_at(inputs.arrays, directions), []
    with BALLS.precision(4 * NEARER - 2 * least), contextlib.suppress(Exception):
        for k in (NEARER, 2 * NEARER):
            by = shifts(directions, steps(least - k)[0])
            below, here, above = (v.values for v in at_shifts(vector, inputs.balls, by, (-1, 0, 1)))
            bends.append(above + below - 2 * here)
        return any(
            near.abs_lower() > 2 * sides.abs_upper()
            and 100 * abs(near - far).upper() < abs(far).lower()
            for far, near, sides in zip(*bends, above - below, strict=True)
        )
    return False


def has_jumped(near: Array, far: Array) -> bool:
    """Tell whether any result is as far off nearer: a continuous one is less than half as far."""
    return any(n.abs_lower() > f.abs_upper() / 2 for n, f in zip(near, far, strict=True))


def _vary(slopes: Sequence[Any], fmt: Format, width: float) -> bool:
    """Tell whether slopes differ by more than those of a smooth function at moves far below a rounding."""
    finite = [s for s in slopes if s.is_finite()]
    if not finite:
        return False
    apart = max(float(s.lower()) for s in finite) - min(float(s.upper()) for s in finite)
    return bool(apart > fmt.unit_roundoff * (max(float(s.abs_upper()) for s in finite) + width))


@dataclass(frozen=True)
class Around:
    """Inputs that move by less than a format could hold, in another order at every point.

    ``rows(scale)`` makes them at the working precision, so much nearer, a batch for every argument that
    moves. ``every`` tells whether each of equal numbers among those asked about takes every place among
    these. ``step`` is an exponent far below that of the moves, ``bits`` the precision that tells steps of the
    largest apart.
    """

    rows: Callable[[float], list[Any]]
    points: int
    every: bool
    step: int
    bits: int


def around(
    inputs: Inputs, fmt: Format, moving: Sequence[bool], points: int, directions: Weights
) -> Around:
    """Give inputs beside a point; equal numbers, if a direction moves any, are tried at every place."""
    sizes = [
        np.abs(x.astype(np.float64)) if m else None
        for x, m in zip(inputs.arrays, moving, strict=True)
    ]
    numbers = np.concatenate([s.ravel() for s in sizes if s is not None])
    asked = [
        np.zeros(s.size, dtype=bool) if d is None else d.ravel() != 0
        for d, s in zip(directions, sizes, strict=True)
        if s is not None
    ]
    _, ties = np.unique(numbers, return_inverse=True)
    most, count = int(np.bincount(ties)[ties[np.concatenate(asked)]].max(initial=1)), numbers.size
    points = max(points, 3 * min(most, _LARGEST)) if count <= MANY else min(points, _FEW)
    relative, least = _moves(fmt)
    step, bits = reach(inputs, fmt, moving)
    rng = np.random.default_rng(count)
    moves = np.stack([spread_moves(ties, k, points, rng) for k in range(points)])

    def rows(scale: float) -> list[Any]:
        start, x = 0, []
        for a, size in zip(inputs.balls, sizes, strict=True):
            if size is None:
                x.append(a)
                continue
            # No farther than 1 does: beside 1e102 a normalised row has ties that 1e-3 breaks.
            far = BALLS.array(np.minimum(size, 1.0)).values * relative + least
            here = BALLS.array(
                scale * moves[:, start : start + size.size].reshape(points, *size.shape)
            )
            x.append(PreciseArray(a.values + far * here.values, BALLS, points))
            start += size.size
        return x

    return Around(rows, points, 3 * most <= points, step, bits)


def reach(inputs: Inputs, fmt: Format, moving: Sequence[bool]) -> tuple[int, int]:
    """Give an exponent far below that of moves beside inputs, and bits that tell large steps apart."""
    each = [np.abs(x.ravel()) for x, m in zip(inputs.arrays, moving, strict=True) if m]
    numbers, (relative, least) = np.concatenate(each).astype(np.float64), _moves(fmt)
    smallest = float(numbers.min(initial=1.0))
    largest = max(0, int(np.frexp(numbers[np.isfinite(numbers)].max(initial=0.0))[1]))
    digits, power = (arb(smallest) * relative + least).mid().man_exp()
    step = int(power) + int(digits).bit_length() - UNHELD - max(numbers.size, 2).bit_length()
    return step, _DIGITS + max(0, -step) + largest


def _moves(fmt: Format) -> tuple[float, Any]:
    """Give by how much numbers move, beside their size and at least."""
    return fmt.unit_roundoff * 2.0**-UNHELD, arb(2) ** (fmt.smallest_exponent - UNHELD)


def spread_moves(ties: Array, k: int, points: int, rng: np.random.Generator) -> Array:
    """Give numbers between -1 and 1, none of them 0 and no two alike: rising, falling and mixed by turns.

    Elements with the same number in ``ties`` are equal. Of up to a third of all points each of them gets
    every place among these once.
    """
    count = ties.size
    if count == 1:
        return np.array([(-1.0) ** k * (k + 1) / points])
    ranks = (2 * np.arange(count) + 1.5) / (count + 1) - 1
    if k % 3 == 2:
        return rng.permutation(ranks)
    moves = np.roll(ranks[::-1] if k % 3 else ranks, k // 3)
    together = np.argsort(ties, kind="stable")
    for members in np.split(together, np.flatnonzero(np.diff(ties[together])) + 1):
        if members.size > 1:
            moves[members] = np.roll(np.sort(moves[members])[:: -1 if k % 3 else 1], k // 3)
    return moves
