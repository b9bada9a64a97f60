"""Truth: exact values and derivatives of a program, each with a bound on its own error.

``value``, ``directional`` and ``gradient`` run a program in ball arithmetic and answer with a
``Truth``: for every element a ball that contains the exact result *at the given floats*, and how
far the result moves when the inputs move by their rounding. Derivatives are high-precision
central differences, not differentiation rules, so that they share nothing with what they judge.

How the error is bounded
------------------------
At p bits and step h = 2^(-p/3)·min(1, |x|), the ball around D(h) = (f(x+h) - f(x-h)) / 2h accounts
for rounding, of size 2^(-2p/3). Truncation is c·h² + O(h⁴), the same order; D(2h) has four times
as much, so |D(2h) - D(h)| = 3c·h² bounds it with a margin of three. Precision doubles until the
ball is narrower than 1/8 ulp of the result's format, or than 1/8 of the smallest subnormal.

One-sided differences L and R, exact to the same order, tell a kink: on a smooth function R - L
vanishes like h³, on a kink it stays when precision doubles (and h squares). With exact inputs a
step can cross a kink only if the point is on it or within h; then the derivative is the interval
between L and R, any value inside being a legitimate subgradient.

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
from functools import cache
from typing import Any

import numpy as np

from .adaptive import CEILING, FIRST_PRECISION, Truth, adapt, each_row
from .formats import Array, Format, is_floating
from .precise import BALLS, PreciseArray, arb

__all__ = [
    "CEILING",
    "FIRST_PRECISION",
    "LIBRARY_ROUNDINGS",
    "Program",
    "Truth",
    "directional",
    "gradient",
    "value",
]

Program = Callable[..., Any]

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
    rows, batch, run = _rows(program, args, core)
    floating = tuple(is_floating(a) for a in rows)

    def evaluate(parts: list[Array], _bits: int) -> tuple[Array, Array, None]:
        points = _precise(parts)
        exact = run(*points)
        motion = _motion(lambda moved: run(*moved), exact, points, floating, _growth(rows), fmt)
        return exact.values, motion, None

    truth = adapt(evaluate, rows, fmt, _growth(rows))
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
    if cores is None:
        cores = [a.ndim for a in args] + [t.ndim for t in held]
    program = program if core is not None else _looped(program)
    rows, batch = _flatten([*args, *held], cores)
    moved = [t is not None for t in tangents]
    truth = _derivative(program, rows[: len(args)], rows[len(args) :], moved, fmt)
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
    run = _looped(program) if core is None else program
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
        return _sum_rows(run(*inputs) * weights)

    moved = [i == wrt for i in range(len(points))]
    truth = _derivative(
        inner, [*points, v], [*tangents, np.zeros(len(v))], [*moved, False], fmt, data=1
    )
    return truth.reshape(batch + core_shape)


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def _looped(program: Program) -> Program:
    """Apply an unbatched program to every row of its arguments."""

    def run(*args: PreciseArray) -> PreciseArray:
        return np.stack([program(*row) for row in zip(*args, strict=True)])  # type: ignore[return-value]  # duck arrays

    return run


def _flatten(args: Sequence[Array], core: Sequence[int]) -> tuple[list[Array], tuple[int, ...]]:
    """Broadcast the batch axes of all arguments together and make them one axis."""
    split = [a.ndim - c for a, c in zip(args, core, strict=True)]
    batch = np.broadcast_shapes(*(a.shape[:s] for a, s in zip(args, split, strict=True)))
    size = int(np.prod(batch))
    flat = [
        np.broadcast_to(a, batch + a.shape[s:]).reshape(size, *a.shape[s:])
        for a, s in zip(args, split, strict=True)
    ]
    return flat, batch


def _rows(
    program: Program, args: Sequence[Array], core: Sequence[int] | None
) -> tuple[list[Array], tuple[int, ...], Program]:
    if core is None:
        rows, batch = _flatten(args, [a.ndim for a in args])
        return rows, batch, _looped(program)
    rows, batch = _flatten(args, core)
    return rows, batch, program


def _precise(parts: Sequence[Array]) -> list[Any]:
    return [BALLS.array(a) if is_floating(a) else a for a in parts]


def _sum_rows(x: PreciseArray) -> PreciseArray:
    return x if x.ndim == 1 else each_row(x).sum(axis=1)


def _growth(rows: Sequence[Array]) -> int:
    return LIBRARY_ROUNDINGS + max((n for a in rows for n in a.shape[1:]), default=0)


# ---------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------


def _power_of_two(exponents: Array) -> Array:
    out = np.empty(exponents.shape, dtype=object)
    two = arb(2)
    out.ravel()[:] = [two ** int(k) for k in exponents.ravel()]
    return out


def _step_exponents(
    points: Sequence[Array], tangents: Sequence[Array], moved: Sequence[bool], bits: int
) -> Array:
    """Give k per row, h = 2^k: 2^(-bits/3) of the smallest moved coordinate, at most of 1."""
    smallest = np.ones(len(points[0]))
    for x, v, moves in zip(points, tangents, moved, strict=True):
        if moves:
            size = np.where((v != 0) & (x != 0), np.abs(x.astype(np.float64)), 1.0)
            smallest = np.minimum(smallest, each_row(size).min(axis=1, initial=1.0))
    return np.frexp(smallest)[1] - 1 - bits // 3


def _derivative(
    program: Program,
    args: Sequence[Array],
    tangents: Sequence[Array],
    moved: Sequence[bool],
    fmt: Format,
    *,
    data: int = 0,
) -> Truth:
    """Differentiate row by row along tangents; the last ``data`` arguments carry no rounding."""
    count = len(args)
    floating = tuple(is_floating(a) and i < count - data for i, a in enumerate(args))
    growth = _growth(args[: count - data])

    def evaluate(parts: list[Array], bits: int) -> tuple[Array, Array, Array]:
        points, directions = parts[:count], parts[count:]
        exponents = _step_exponents(points, directions, moved, bits)
        x = _precise(points)
        step = PreciseArray(_power_of_two(exponents), BALLS)
        shifts = [
            BALLS.array(v) * step.reshape(-1, *[1] * (v.ndim - 1)) if moves else None
            for v, moves in zip(directions, moved, strict=True)
        ]

        def at(base: list[Any], c: int) -> Any:
            return program(
                *(b if s is None else b + c * s for b, s in zip(base, shifts, strict=True))
            )

        def central(base: list[Any]) -> Any:
            return at(base, 1) - at(base, -1)

        here, near, wide = at(x, 0), (at(x, 1), at(x, -1)), (at(x, 2), at(x, -2))
        h = step.reshape(-1, *[1] * (here.ndim - 1))
        slope = (near[0] - near[1]) / (2 * h)
        truncation = abs(slope - (wide[0] - wide[1]) / (4 * h))
        right = (4 * near[0] - 3 * here - wide[0]) / (2 * h)
        left = (wide[1] - 4 * near[1] + 3 * here) / (2 * h)
        motion = _motion(lambda base: central(base) / (2 * h), slope, x, floating, growth, fmt)
        exact, jump = with_kinks(slope, truncation, left, right, bits)
        return exact, motion, jump

    return adapt(evaluate, [*args, *tangents], fmt, growth)


def with_kinks(
    slope: Any, truncation: Any, left: Any, right: Any, bits: int
) -> tuple[Array, Array]:
    """Give balls [slope ± truncation], or the hull of L and R and their jump where these differ."""
    balls, jumps = np.empty(slope.shape, dtype=object), np.empty(slope.shape, dtype=object)
    tolerance = arb(2) ** (-(bits // 4))
    zero = arb(0)
    parts = (slope, truncation, left, right)
    for i, (s, t, before, after) in enumerate(zip(*(a.values.ravel() for a in parts), strict=True)):
        jump = abs(after - before)
        suspect = jump > tolerance * (abs(before) + abs(after))
        balls.ravel()[i] = before.union(after) if suspect else s + arb(0, t.abs_upper())
        jumps.ravel()[i] = jump if suspect else zero
    return balls, jumps


@cache
def sign_patterns(count: int) -> Array:
    """Give sign patterns, one per row, whose columns are orthogonal up to 8 inputs."""
    if count > 8:
        return np.random.default_rng(0).choice([-1.0, 1.0], size=(8, count))
    signs = np.ones((1, 1))
    while len(signs) < count:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs[:, :count]


def _motion(
    run: Callable[[list[Any]], Any],
    exact: PreciseArray,
    points: list[Any],
    floating: tuple[bool, ...],
    growth: int,
    fmt: Format,
) -> Array:
    """Measure how far the result moves when every input moves by ``growth`` unit roundoffs."""
    sizes = [int(np.prod(x.shape[1:])) if f else 0 for x, f in zip(points, floating, strict=True)]
    inputs = sum(sizes)
    if inputs == 0:
        return np.full(exact.shape, arb(0), dtype=object)
    patterns = sign_patterns(inputs)
    total: Any = 0
    for pattern in patterns:
        pieces = np.split(pattern, np.cumsum(sizes)[:-1])
        moved = [
            x * (1 + BALLS.array(growth * fmt.unit_roundoff * piece.reshape(x.shape[1:])))
            if f
            else x
            for x, piece, f in zip(points, pieces, floating, strict=True)
        ]
        total = total + (run(moved) - exact) ** 2
    mean = (total * inputs / len(patterns)).values
    return np.frompyfunc(lambda square: square.abs_upper().sqrt(), 1, 1)(mean)  # type: ignore[no-any-return]  # a ufunc of objects
