"""High-precision central differences, and how far what programs give moves with their inputs.

A *row* is one point. Many of them are a batch (`ffverify.exact.arrays`): programs run on all at once.

How the error of a difference is bounded
----------------------------------------
At p bits and step h ≈ 2^(-p/3)·min(1, |x|) the program runs at x - h, x, x + h and x + 2h. The ball
around D = (f(x+h) - f(x-h)) / 2h accounts for rounding, of size 2^(-2p/3). Truncation is
Σ hⁿ⁻¹ f⁽ⁿ⁾(x) / n! over odd n ≥ 3. The third difference T = f(x+2h) - 3 f(x+h) + 3 f(x) - f(x-h) has
hⁿ f⁽ⁿ⁾(x) (2ⁿ - 2) / n! in its place, so |T| / 2h bounds truncation with a margin of three for n = 3, and
of more for higher n. Precision doubles until the ball D ± |T| / 2h is narrower than 1/8 ulp of
the result's format, or than 1/8 of the smallest subnormal.

Where f jumps and f(x) is no limit of its values beside x, T may vanish: f(x+h) and f(x+2h) are alike then,
and f(x) is another. What f jumps by is added to |T|. Of |x|^p it is not, down to p = 0.05.

At a kink D is the mean of left and right derivative and |T| / 2h, up to O(h), half of their distance:
the ball is the interval between them, of which any value is a legitimate subgradient. On a smooth
function the ball shrinks when precision doubles (and h squares); at a kink it stays. With exact
inputs a step can cross a kink only if the point is on it or within 2h.

Sensitivity
-----------
A backward stable algorithm returns the exact result for inputs moved by g·u relative, g a small
growth factor. How far that can move the result is measured on the truth itself: inputs are moved
by g·u with sign patterns that are rows of a Hadamard matrix, whose root mean square gives the
2-norm of the sensitivities (exactly, up to 8 inputs), and ‖·‖₁ ≤ √m ‖·‖₂ for m inputs.
Source: Higham, Accuracy and Stability of Numerical Algorithms (2nd ed.), §1.6, §3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Plain, PreciseArray, batch, every_row, row_of, rows_of
from ffverify.exact.elements import arb, boxed
from ffverify.exact.formats import Array
from ffverify.exact.programs import Program, at_rows

from .adaptive import each_row

# For every argument a direction, an array or a batch of them, or None: not moved.
Weights = Sequence[Any]

_STENCIL = (-1, 0, 1, 2)
TOGETHER = 2**16  # elements of a batch: beyond, rows run one after the other, in less memory
PATTERNS = 8

# The third difference does not see a kink halfway between x and x + h. This significand of the step
# keeps one from sitting there by its nature: an ulp or a power of two away from a float.
_SIGNIFICAND = 181


# ---------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------


def smallest(points: Sequence[Any], directions: Weights) -> Array:
    """Give s for every row, 2^s its smallest coordinate in units of how far it moves, or 1."""
    least = np.ones(len(points[0]))
    for x, v in zip(points, directions, strict=True):
        if v is not None:
            moved = (v != 0) & (x != 0)
            with np.errstate(all="ignore"):
                ratio = np.abs(x.astype(np.float64)) / np.abs(v.astype(np.float64))
            size = np.where(moved & (ratio > 0), ratio, 1.0)
            least = np.minimum(least, each_row(size).min(axis=1, initial=1.0))
    exponents: Array = np.frexp(least)[1] - 1
    return exponents


def smallest_at(point: Sequence[Array], directions: Weights) -> int:
    """Give `smallest` of one point."""
    along = [None if v is None else v[None] for v in directions]
    return int(smallest([np.asarray(a)[None] for a in point], along)[0])


def exponent(smallest: Any, bits: int) -> Any:
    """Give the exponent of the step h = 2^(s - k), k = (p + s) / 3 at p bits, 2^s the smallest coordinate.

    A difference of values of size 1 is good to 2^-p / h, and a step of 2^-k of the smallest
    coordinate leaves out what is of the size of 2^-2k: this k makes the two equal.
    """
    return smallest - (bits + smallest) // 3


def steps(exponents: Any) -> tuple[PreciseArray, PreciseArray]:
    """Give h, of size 2^k, and 1 / 2h: a batch of them for a vector of exponents k."""
    each = [_SIGNIFICAND * arb(2) ** (k - 7) for k in np.ravel(exponents).tolist()]
    shape, rows = np.shape(exponents), np.size(exponents) if np.ndim(exponents) else 0
    h, half = (boxed(balls, shape) for balls in (each, [1 / (2 * h) for h in each]))
    return PreciseArray(h, BALLS, rows), PreciseArray(half, BALLS, rows)


def shifts(directions: Weights, h: PreciseArray) -> list[Any]:
    """Give by how much arguments move along directions in a step."""
    return [None if v is None else BALLS.array(v.astype(np.float64)) * h for v in directions]


def shifted(x: Sequence[Any], by: Sequence[Any], c: int) -> list[Any]:
    """Give x + c·s; None does not move."""
    if c == 0:
        return list(x)
    return [
        b if s is None else b + s if c == 1 else b - s if c == -1 else b + c * s
        for b, s in zip(x, by, strict=True)
    ]


# ---------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------


def at_shifts(
    program: Program, x: Sequence[Any], by: Sequence[Any], at: Sequence[int]
) -> list[PreciseArray]:
    """Run a program at x + c·s for every c: as one batch, or in parts if it is too large for that.

    Arguments may be batches of rows; what they give then is one as well.
    """
    rows = max(getattr(b, "rows", 0) for b in (*x, *by))
    size = sum(b.size for b in x if isinstance(b, PreciseArray)) * max(rows, 1) * len(at)
    if size > TOGETHER and rows > 1:
        parts = [
            at_shifts(program, rows_of(x, some), rows_of(by, some), at)
            for some in np.array_split(np.arange(rows), min(rows, -(-size // TOGETHER)))
        ]
        return [batch(each) for each in zip(*parts, strict=True)]
    points = [shifted(x, by, c) for c in at]
    if size > TOGETHER:  # alone, matrices of balls are whole
        out = [BALLS.array(program(*row_of(point, 0))) for point in points]
        return [batch([y]) for y in out] if rows else out
    moved = [
        b
        if s is None and not getattr(b, "rows", 0)
        else batch([every_row(p[j], rows) for p in points])
        for j, (b, s) in enumerate(zip(x, by, strict=True))
    ]
    found = BALLS.array(at_rows(program, moved))
    shape = (len(at), max(rows, 1), *found.shape)
    values = np.broadcast_to(found.elements, (shape[0] * shape[1], *found.shape)).reshape(shape)
    return [found.like(v, rows) if rows else found.like(v[0]) for v in values]


def central(program: Program, x: Sequence[Any], directions: Weights, exponents: Any) -> Array:
    """Give the central differences of a program's result: as many as x has rows, one if it is no batch."""
    h, half = steps(exponents)
    below, above = at_shifts(program, x, shifts(directions, h), (-1, 1))
    found: PreciseArray = (above - below) * half
    return found.elements if found.rows else found.elements[None]


def enclosure(
    program: Program,
    x: Sequence[Any],
    directions: Weights,
    exponents: Any,
    here: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Give the balls around the derivatives of a program's result, their radii, and the result itself.

    Each has as many rows as the arguments, one without a batch. ``here`` is the result, if it is known.
    """
    h, half = steps(exponents)
    at = _STENCIL if here is None else [c for c in _STENCIL if c]
    values = at_shifts(program, x, shifts(directions, h), at)
    if here is not None:
        values.insert(_STENCIL.index(0), PreciseArray(here, BALLS))
    below, value, above, beyond = values
    left, right, further = value - below, above - value, beyond - above
    spread = abs(further - 2 * right + left)
    jumps = np.asarray(_jumps(right.elements, further.elements), dtype=bool)
    if jumps.any():
        spread = spread + (abs(left) + abs(right)) * Plain.like(jumps, right.rows)
    found = (left + right) * half, spread * half, value
    by_row = [y.elements if y.rows else y.elements[None] for y in found]
    return by_row[0] + by_row[1] * arb(0, 1), by_row[1], by_row[2]


def _jump(right: Any, further: Any) -> bool:
    return bool(32 * further.abs_upper() < right.abs_lower())


_jumps = np.frompyfunc(_jump, 2, 1)


# ---------------------------------------------------------------------------------------------
# Sensitivity
# ---------------------------------------------------------------------------------------------


@lru_cache(64)
def sign_patterns(count: int) -> Array:
    """Give sign patterns of inputs, one per row, at most `PATTERNS`, a power of two.

    Every input has as many of either sign: a kink on one side of a single one is met. The columns of fewer
    than `PATTERNS` inputs are orthogonal, those of more are drawn.
    """
    if count >= PATTERNS:
        half = np.repeat([-1.0, 1.0], PATTERNS // 2)
        return np.random.default_rng(0).permuted(np.tile(half, (count, 1)), axis=1).T
    signs = np.ones((1, 1))
    while len(signs) <= count:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs[:, 1 : count + 1]


def with_rounding(
    x: Sequence[Any], places: Sequence[Array], patterns: Array, size: float, least: Any = 0
) -> list[Any]:
    """Move the elements at ``places`` by ``size`` relative plus ``least``: each row once for each pattern."""
    out, start = [], 0
    up, down = 1 + arb(size), 1 - arb(size)
    for b, p in zip(x, places, strict=True):
        rows = getattr(b, "rows", 0)
        if rows or p.size:
            values = np.repeat(b.elements if rows else b.elements[None], len(patterns), axis=0)
            positive = np.tile(patterns[:, start : start + p.size] > 0, (rows or 1, 1))
            flat = each_row(values)
            flat[:, p] = flat[:, p] * np.where(positive, up, down) + np.where(
                positive, least, -least
            )
            start += p.size
            b = b.like(values, len(values))  # noqa: PLW2901 - moved, else as it was
        out.append(b)
    return out


def motion(
    run: Callable[[list[Any]], Array],
    exact: Array,
    x: Sequence[Any],
    places: Sequence[Array],
    size: float,
    least: Any = 0,
) -> Array:
    """Measure how far results move when the elements at ``places`` move as in `with_rounding`.

    ``run`` gives as many rows of results as arguments have; ``exact`` are those at x.
    """
    count = sum(p.size for p in places)
    if not count:
        return np.full(exact.shape, arb(0), dtype=object)
    patterns = sign_patterns(count)
    there = run(with_rounding(x, places, patterns, size, least))
    there = there.reshape(len(exact), len(patterns), *exact.shape[1:])
    apart = there - np.frompyfunc(arb.mid, 1, 1)(exact)[:, None]
    squared = apart * apart  # Arb's own square of a ball around 0 is nan
    moves = squared.swapaxes(0, 1).reshape(len(patterns), -1)
    factor, out = arb(count) / len(patterns), np.empty(exact.shape, dtype=object)
    for i, row in enumerate(moves.T.tolist()):
        squares = [s.abs_upper() for s in row]
        # No less than any of the moves did: beyond a kink there are other sensitivities.
        out.ravel()[i] = max((sum(squares, arb(0)) * factor).abs_upper(), *squares).sqrt()
    return out
