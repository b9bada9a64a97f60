"""Truth: exact values and derivatives of a program, each with a bound on its own error.

``value``, ``directional`` and ``gradient`` run a program in ball arithmetic and answer with a
``Truth``: for every element a ball that contains the exact result *at the given floats*, and how
far the result moves when the inputs move by their rounding. Derivatives are high-precision
central differences, not differentiation rules, so that they share nothing with what they judge
(`differences` has their error).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, together

from .adaptive import Truth, adapt, narrow
from .differences import at_shifts, central, enclosure, exponent, motion, smallest

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
    program = program if core is None else _shown(program)
    growth, still = _growth(rows), [None] * len(args)

    def run(x: list[Any]) -> Array:
        return at_shifts(program, x, still, (0,))[0].elements

    def evaluate(some: Array, _bits: int) -> tuple[Array, None]:
        return run([together(a[some]) for a in rows]), None

    def move(some: Array, exact: Array, _bits: int) -> Array:
        x = [together(a[some]) for a in rows]
        return motion(run, exact, x, _places(rows), growth * fmt.unit_roundoff)

    bits = _first_precision(fmt)
    truth = adapt(evaluate, move, len(rows[0]), fmt, bits=bits, growth=growth, enough=narrow)
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
    if 0 in _flatten(args, core)[1]:
        return value(program, args, fmt, core=core)  # nothing, of the right shape
    apply = program if core is None else _shown(program)
    return _derivative(apply, args, tangents, _cores(args, core), fmt, whole=core is None)


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
    cores, batch = _cores(args, core), _flatten(args, core)[1]
    core_shape = args[wrt].shape[args[wrt].ndim - cores[wrt] :]
    columns = int(np.prod(core_shape))
    if not columns or 0 in batch:
        nothing = np.broadcast_to(args[wrt], batch + core_shape)
        return value(lambda x: x, [nothing], fmt, core=[len(core_shape)])
    # Every column of the gradient is a row of its own: the same point, another direction.
    cores.append(cotangent.ndim - len(batch))
    operands = [
        np.expand_dims(a, a.ndim - c) for a, c in zip([*args, cotangent], cores, strict=True)
    ]
    one_hot = np.eye(columns).reshape(columns, *core_shape)
    apply = program if core is None else _shown(program)
    truth = _derivative(
        lambda *x: (apply(*x[:-1]) * x[-1]).sum(),
        operands,
        [one_hot if i == wrt else None for i in range(len(operands))],
        cores,
        fmt,
        exact=1,
        whole=core is None,
    )
    return truth.reshape(batch + core_shape)


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def _cores(args: Sequence[Array], core: Sequence[int] | None) -> list[int]:
    return [a.ndim for a in args] if core is None else list(core)


def _flatten(
    args: Sequence[Array], core: Sequence[int] | None
) -> tuple[list[Array], tuple[int, ...]]:
    """Broadcast the batch axes of all arguments together and make them one axis."""
    split = [a.ndim - c for a, c in zip(args, _cores(args, core), strict=True)]
    batch = np.broadcast_shapes(*(a.shape[:s] for a, s in zip(args, split, strict=True)))
    size = int(np.prod(batch))
    flat = [
        np.broadcast_to(a, batch + a.shape[s:]).reshape(size, *a.shape[s:])
        for a, s in zip(args, split, strict=True)
    ]
    return flat, batch


def _shown(program: Program) -> Program:
    """Let a program whose arguments have leading axes take batches: their rows are its first axis."""

    def run(*args: Any) -> Any:
        rows = max(getattr(a, "rows", 0) for a in args)
        if not rows:
            return program(*args)
        full = [
            a.like(a.elements) if getattr(a, "rows", 0) else np.broadcast_to(a, (rows, *a.shape))
            for a in args
        ]
        out = BALLS.array(program(*full))
        return out.like(out.elements, rows)

    return run


def _growth(rows: Sequence[Array]) -> int:
    return LIBRARY_ROUNDINGS + max((n for a in rows for n in a.shape[1:]), default=0)


def _places(rows: Sequence[Array]) -> list[Array]:
    """Give for every argument the elements of a row that carry rounding errors: all, of floats."""
    return [np.arange(a[0].size if is_floating(a) else 0) for a in rows]


def _first_precision(fmt: Format) -> int:
    """Give the bits to begin with.

    Differences keep two thirds of them, more than `narrow` asks for: a run at 300 bits costs hardly more
    than one at 100, and a second run as much as the first.
    """
    return 4 * (fmt.precision + 16)


def _derivative(
    program: Program,
    args: Sequence[Array],
    tangents: Sequence[Array | None],
    cores: Sequence[int],
    fmt: Format,
    *,
    whole: bool,
    exact: int = 0,
) -> Truth:
    """Differentiate row by row along tangents; the last ``exact`` arguments carry no rounding.

    A ``whole`` program's values are of size 1 whatever one coordinate of many is (see `exponent`); what is
    applied to every element follows its own: there h ≈ 2^(-p/3) of the coordinate.
    """
    moved = [(t, c) for t, c in zip(tangents, cores, strict=True) if t is not None]
    rows, batch = _flatten([*args, *(t for t, _ in moved)], [*cores, *(c for _, c in moved)])
    points, rest = rows[: len(args)], iter(rows[len(args) :])
    along = [None if t is None else next(rest) for t in tangents]
    rounded = points[: len(args) - exact]
    growth, least = _growth(rounded), smallest(points, along)
    places = [*_places(rounded), *[np.zeros(0, int)] * exact]

    def at(some: Array, bits: int) -> tuple[list[Any], list[Any], Array]:
        """Give arguments, tangents and the exponents of steps for rows, which may come more than once."""
        exponents = exponent(least[some], bits) if whole else least[some] - bits // 3
        directions = [None if t is None else together(t[some]) for t in along]
        return [together(a[some]) for a in points], directions, exponents

    def evaluate(some: Array, bits: int) -> tuple[Array, Array]:
        x, directions, exponents = at(some, bits)
        return enclosure(program, x, directions, exponents)[:2]

    def move(some: Array, slopes: Array, bits: int) -> Array:
        def run(moved: list[Any]) -> Array:
            _, directions, exponents = at(np.repeat(some, moved[0].rows // len(some)), bits)
            return central(program, moved, directions, exponents)

        return motion(run, slopes, at(some, bits)[0], places, growth * fmt.unit_roundoff)

    bits = _first_precision(fmt) - (int(least.min(initial=0)) if whole else 0)
    truth = adapt(evaluate, move, len(least), fmt, bits=bits, growth=growth)
    return truth.reshape(batch + truth.exact.shape[1:])
