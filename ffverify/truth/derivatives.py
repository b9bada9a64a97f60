"""Truth: exact values and derivatives of a program, each with a bound on its own error.

``value``, ``directional`` and ``gradient`` run a program in ball arithmetic and answer with a
``Truth``: for every element a ball that contains the exact result *at the given floats*, and how
far the result moves when the inputs move by their rounding. Derivatives are high-precision
central differences, not differentiation rules, so that they share nothing with what they judge.

How the error is bounded
------------------------
At p bits and step h ≈ 2^(-p/3)·min(1, |x|) the program runs at x - h, x, x + h and x + 2h. The ball
around D = (f(x+h) - f(x-h)) / 2h accounts for rounding, of size 2^(-2p/3). Truncation is
Σ hⁿ⁻¹ f⁽ⁿ⁾(x) / n! over odd n ≥ 3. The third difference T = f(x+2h) - 3 f(x+h) + 3 f(x) - f(x-h) has
hⁿ f⁽ⁿ⁾(x) (2ⁿ - 2) / n! in its place, so |T| / 2h bounds truncation with a margin of three for n = 3, and
of more for higher n. Precision doubles until the ball D ± |T| / 2h is narrower than 1/8 ulp of
the result's format, or than 1/8 of the smallest subnormal.

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
from ffverify.exact.arrays import Plain, PreciseArray
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, at_rows

from .adaptive import CEILING, FIRST_PRECISION, Truth, adapt, each_row, first_precision

__all__ = [
    "CEILING",
    "FIRST_PRECISION",
    "LIBRARY_ROUNDINGS",
    "Truth",
    "directional",
    "gradient",
    "value",
]

# A good algorithm evaluates a unit by at most four chained library calls, each good to an ulp
# (2u, what NumPy's, CUDA's and SLEEF's documentation promise for most), and each element of a
# reduction of length n suffers at most n more roundings (Higham §3.1).
LIBRARY_ROUNDINGS = 8


def value(
    program: Program, args: Sequence[Array], fmt: Format, *, core: Sequence[int] | None = None
) -> Truth:
    """Evaluate a program exactly at the given floats.

    Parameters
    ----------
    program
        A plain NumPy function of the arguments.
    args
        Arrays; those of floating dtype are perturbed to measure sensitivity, others are data.
    fmt
        The format of the computed result that this truth will judge.
    core
        How many trailing axes of each argument belong to one application of the program, the
        leading ones being a batch (gufunc convention): ``(0,)`` for an elementwise function,
        ``(1, 0)`` for rows and labels. None: the arguments are one whole application.
    """
    rows, batch = _flatten(args, core)
    floating = [is_floating(a) for a in rows]
    growth = _growth(rows)

    apply = _one_by_one(program) if core is None else program

    def run(points: Sequence[Any]) -> Array:
        return apply(*map(precise, points)).values  # type: ignore[no-any-return]  # an object array

    def evaluate(parts: list[Array], _bits: int) -> tuple[Array, None]:
        return run(parts), None

    def move(parts: list[Array], exact: Array, _bits: int) -> Array:
        return _motion(run, exact, parts, floating, growth, fmt)

    truth = adapt(evaluate, move, rows, fmt, growth)
    return truth.reshape(batch + truth.exact.shape[1:])


def directional(
    program: Program,
    args: Sequence[Array],
    tangents: Sequence[Array | None],
    fmt: Format,
    *,
    core: Sequence[int] | None = None,
) -> Truth:
    """Differentiate a program exactly along tangents (a JVP); None holds an argument fixed.

    Parameters and batching are as in `value`; tangents have the shapes of their arguments.
    """
    held = [np.zeros(()) if t is None else t for t in tangents]
    cores = (
        None
        if core is None
        else [*core, *(0 if t is None else c for t, c in zip(tangents, core, strict=True))]
    )
    rows, batch = _flatten([*args, *held], cores)
    moved = [t is not None for t in tangents]
    truth = _derivative(
        program, rows[: len(args)], rows[len(args) :], moved, fmt, whole=core is None
    )
    return truth.reshape(batch + truth.exact.shape[1:])


def gradient(
    program: Program,
    args: Sequence[Array],
    cotangent: Array,
    wrt: int,
    fmt: Format,
    *,
    core: Sequence[int] | None = None,
) -> Truth:
    """Differentiate ⟨cotangent, program⟩ exactly with respect to one argument (a VJP).

    Parameters and batching are as in `value`; the cotangent has the shape of the program's result.
    The truth has the shape of ``args[wrt]`` (broadcast over the batch).
    """
    cores = [a.ndim for a in args] if core is None else list(core)
    batch_shape = np.broadcast_shapes(
        *(a.shape[: a.ndim - c] for a, c in zip(args, cores, strict=True))
    )
    rows, batch = _flatten([*args, cotangent], [*cores, cotangent.ndim - len(batch_shape)])
    *points, v = rows
    core_shape = points[wrt].shape[1:]
    columns = int(np.prod(core_shape))
    # Every column of the gradient is a row of its own: the same point, another direction.
    points = [np.repeat(a, columns, axis=0) for a in points]
    v = np.repeat(v, columns, axis=0)
    one_hot = np.tile(np.eye(columns), (len(rows[0]), 1)).reshape(len(v), *core_shape)
    tangents = [one_hot if i == wrt else np.zeros(len(a)) for i, a in enumerate(points)]

    def inner(*operands: Any) -> Any:
        *inputs, weights = operands
        weighed = program(*inputs) * weights
        if core is None:
            return weighed.sum()
        return weighed if weighed.ndim == 1 else each_row(weighed).sum(axis=1)

    truth = _derivative(
        inner,
        [*points, v],
        [*tangents, np.zeros(len(v))],
        [i == wrt for i in range(len(points) + 1)],
        fmt,
        data=1,
        whole=core is None,
    )
    return truth.reshape(batch + core_shape)


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def _flatten(
    args: Sequence[Array], core: Sequence[int] | None
) -> tuple[list[Array], tuple[int, ...]]:
    """Broadcast the batch axes of all arguments together and make them one axis."""
    cores = [a.ndim for a in args] if core is None else core
    split = [a.ndim - c for a, c in zip(args, cores, strict=True)]
    batch = np.broadcast_shapes(*(a.shape[:s] for a, s in zip(args, split, strict=True)))
    size = int(np.prod(batch))
    flat = [
        np.broadcast_to(a, batch + a.shape[s:]).reshape(size, *a.shape[s:])
        for a, s in zip(args, split, strict=True)
    ]
    return flat, batch


def _one_by_one(program: Program) -> Program:
    """Apply a program of whole arguments to each row: as batches, of as many rows as are no burden."""

    def hidden(a: Any, rows: slice) -> Any:
        some = a.elements[rows] if isinstance(a, PreciseArray) else a[rows]
        return (
            PreciseArray(some, BALLS, len(some))
            if isinstance(a, PreciseArray)
            else Plain(some, len(some))
        )

    def apply(*args: Any) -> PreciseArray:
        count = len(args[0])
        size = sum(int(np.prod(a.shape[1:])) for a in args)
        step = max(TOGETHER // max(size, 1), 1)
        parts = []
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            out = BALLS.array(at_rows(program, [hidden(a, rows) for a in args]))
            shape = (rows.stop - rows.start, *out.shape)
            parts.append(np.broadcast_to(out.elements, shape))
        return PreciseArray(np.concatenate(parts), BALLS)

    return apply


def precise(a: Any) -> Any:
    """Give floats as an array of balls; data, and what is one already, as they are."""
    return a if isinstance(a, PreciseArray) or not is_floating(np.asarray(a)) else BALLS.array(a)


def _growth(rows: Sequence[Array]) -> int:
    return LIBRARY_ROUNDINGS + max((n for a in rows for n in a.shape[1:]), default=0)


# ---------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------

STENCIL = (-1, 0, 1, 2)
TOGETHER = 2**16  # elements of a batch: beyond, rows run one after the other, in less memory

# The third difference does not see a kink halfway between x and x + h. This significand of the step
# keeps one from sitting there by its nature: an ulp or a power of two away from a float.
_SIGNIFICAND = 181


def steps(exponents: Array) -> tuple[PreciseArray, PreciseArray]:
    """Give h, of size 2^k for every exponent k, and 1 / 2h."""
    each, where = np.unique(exponents, return_inverse=True)
    table = np.empty((2, len(each)), dtype=object)
    table[0] = [_SIGNIFICAND * arb(2) ** (k - 7) for k in each.tolist()]
    table[1] = 1 / (2 * table[0])
    h, half = table[:, where.reshape(exponents.shape)]
    return BALLS.array(h), BALLS.array(half)


def enclosure(values: Sequence[PreciseArray], half: PreciseArray) -> tuple[Array, Array]:
    """Give the ball around the derivative from the values on the stencil, and its radius.

    ``half`` is 1 / 2h.
    """
    below, here, above, beyond = values
    half = _aligned(half, here.ndim)
    spread = abs(beyond - below - 3 * (above - here)) * half
    slope = (above - below) * half
    return slope.values + spread.values * arb(0, 1), spread.values


def _aligned(h: PreciseArray, ndim: int) -> PreciseArray:
    """Give one step per row the axes of what it multiplies."""
    return h.reshape(h.shape + (1,) * (ndim - h.ndim)) if h.ndim else h


def _step_exponents(
    points: Sequence[Array],
    tangents: Sequence[Array],
    moved: Sequence[bool],
    bits: int,
    *,
    whole: bool,
) -> Array:
    """Give k per row, h ≈ 2^k: 2^(-p/3) at p bits of the smallest moved coordinate 2^s, at most of 1.

    A ``whole`` program's values are of size 1 whatever one coordinate of many is, and the difference
    is good to 2^-p / h only: there 2^(-(p + s)/3) makes rounding and truncation equal.
    """
    smallest = np.ones(len(points[0]))
    for x, v, moves in zip(points, tangents, moved, strict=True):
        if moves:
            size = np.where((v != 0) & (x != 0), np.abs(x.astype(np.float64)), 1.0)
            smallest = np.minimum(smallest, each_row(size).min(axis=1, initial=1.0))
    s = np.frexp(smallest)[1] - 1
    return s - (bits + s if whole else bits) // 3


def _derivative(
    program: Program,
    args: Sequence[Array],
    tangents: Sequence[Array],
    moved: Sequence[bool],
    fmt: Format,
    *,
    whole: bool,
    data: int = 0,
) -> Truth:
    """Differentiate row by row along tangents; the last ``data`` arguments carry no rounding."""
    count = len(args)
    floating = [is_floating(a) and i < count - data for i, a in enumerate(args)]
    growth = _growth(args[: count - data])

    def stencil(operands: Sequence[Any], at: Sequence[int]) -> tuple[list[Any], PreciseArray]:
        """Run at x + c·h·v for every c; give 1 / 2h too."""
        *rows, exponents = operands
        h, half = steps(np.asarray(exponents))
        x = [precise(a) for a in rows[:count]]
        shifts = [
            BALLS.array(v) * _aligned(h, np.ndim(v)) if moves else None
            for v, moves in zip(rows[count:], moved, strict=True)
        ]
        return [apply(*shifted(x, shifts, c)) for c in at], half

    apply = _one_by_one(program) if whole else program

    def exponents(parts: list[Array], bits: int) -> Array:
        return _step_exponents(parts[:count], parts[count:], moved, bits, whole=whole)

    def evaluate(parts: list[Array], bits: int) -> tuple[Array, Array]:
        return enclosure(*stencil([*parts, exponents(parts, bits)], STENCIL))

    def move(parts: list[Array], exact: Array, bits: int) -> Array:
        rest = (*parts[count:], exponents(parts, bits))

        def differ(points: list[Any]) -> Array:
            (below, above), half = stencil([*points, *rest], (-1, 1))
            return ((above - below) * _aligned(half, above.ndim)).values  # type: ignore[no-any-return]  # an object array

        return _motion(differ, exact, parts[:count], floating, growth, fmt)

    bits = first_precision(fmt)
    if whole:  # p + s is what counts; at 0 bits the exponent is 2 s / 3
        bits -= 3 * int(exponents([*args, *tangents], 0).min(initial=0)) // 2
    return adapt(evaluate, move, [*args, *tangents], fmt, growth, bits=bits)


def shifted(x: Sequence[Any], shifts: Sequence[Any], c: int) -> list[Any]:
    """Give x + c·s; None does not move."""
    if c == 0:
        return list(x)
    return [
        b if s is None else b + s if c == 1 else b - s if c == -1 else b + c * s
        for b, s in zip(x, shifts, strict=True)
    ]


PATTERNS = 8


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


def _motion(
    run: Callable[[list[Any]], Array],
    exact: Array,
    points: Sequence[Array],
    floating: Sequence[bool],
    growth: int,
    fmt: Format,
) -> Array:
    """Measure how far the result moves when every input moves by ``growth`` unit roundoffs."""
    sizes = [int(np.prod(x.shape[1:])) if f else 0 for x, f in zip(points, floating, strict=True)]
    inputs = sum(sizes)
    if inputs == 0:
        return np.full(exact.shape, arb(0), dtype=object)
    up, down = (
        [
            precise(x) * (1 + sign * BALLS.array(growth * fmt.unit_roundoff)) if f else x
            for x, f in zip(points, floating, strict=True)
        ]
        for sign in (1, -1)
    )
    here = np.frompyfunc(arb.mid, 1, 1)(exact)
    patterns = sign_patterns(inputs)
    moves = []
    for pattern in patterns:
        pieces = np.split(pattern, np.cumsum(sizes)[:-1])
        moved = [
            np.where(piece.reshape(a.shape[1:]) > 0, a, b) if f else a
            for a, b, piece, f in zip(up, down, pieces, floating, strict=True)
        ]
        apart = run(moved) - here
        moves.append((apart * apart).ravel().tolist())  # Arb's own square of a ball around 0 is nan
    factor = arb(inputs) / len(patterns)
    out = np.empty(exact.shape, dtype=object)
    for i, row in enumerate(zip(*moves, strict=True)):
        squares = [s.abs_upper() for s in row]
        # No less than any of the moves did: beyond a kink there are other sensitivities.
        out.ravel()[i] = max((sum(squares, arb(0)) * factor).abs_upper(), *squares).sqrt()
    return out
