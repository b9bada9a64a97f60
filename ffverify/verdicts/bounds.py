"""Bounds on what rounding may do to a computed number.

The *conditioning bound*, ``bound``, is what a good algorithm reaches:

    g·u·|t| + (how far t moves when every input moves by g·u relative) + g subnormals [+ g·u·scale]

where u is the unit roundoff and g the growth factor of the truth (its derivation is in
`ffverify.truth.derivatives`). ``scale`` is given where a claim promises absolute accuracy only, such as 1
for probabilities. The *running bound* is what the roundings of one program can add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, at_rows, in_halves, listed, together
from ffverify.exact.rounding_arithmetic import rounded
from ffverify.truth.adaptive import Truth

_CEILING = 2048


def bound(truth: Truth, fmt: Format, *, scale: float = 0.0) -> Array:
    """Give the conditioning bound, an object array of balls (whose upper ends count)."""
    limits = rounding_of(truth.exact.ravel().tolist(), truth.growth, fmt, scale)
    moved = [m.abs_upper() if m.is_finite() else 0 for m in truth.motion.ravel().tolist()]
    out = np.empty(truth.exact.size, dtype=object)
    out[:] = [a + b for a, b in zip(limits, moved, strict=True)]
    return out.reshape(truth.exact.shape)


def rounding_of(exacts: list[Any], growth: int, fmt: Format, scale: float) -> list[Any]:
    """Give g·u·|t| + g subnormals + g·u·scale: the bound without the motion of the inputs."""
    unit = growth * arb(fmt.unit_roundoff)
    absolute = growth * arb(2) ** fmt.smallest_exponent + unit * arb(float(scale))
    return [unit * t.abs_upper() + absolute for t in exacts]


def running_bound(
    program: Program, args: Sequence[Array], fmt: Format, *, exact: list[Any] | None = None
) -> tuple[Array, ...]:
    """Bound how far a program's results, computed in a format, can be from the exact ones.

    Every number that the program can compute, in this format and in any order of its sums, lies
    in the ball that `rounded` arithmetic gives (running error analysis: Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3). The bound is the largest distance from the exact result to
    any point of that ball; infinite where a branch or a pole lies within the roundings.

    Parameters
    ----------
    program
        A shadow's ``forward``, ``backward`` or ``jvp``, or any program of precise arrays.
    args
        Its arguments; those of floating dtype are exact numbers.
    exact
        Its exact results, if they are known.

    Returns
    -------
    tuple
        One object array of balls (upper bounds of the error) per result.
    """
    arithmetic = rounded(fmt)
    bits = 2 * fmt.precision + 64
    if exact is None:
        exact = _results(program, [BALLS.array(a) if is_floating(a) else a for a in args], bits)
    with np.errstate(all="ignore"):
        wide = _results(
            program,
            [
                PreciseArray(BALLS.array(a).values, arithmetic) if is_floating(a) else a
                for a in args
            ],
            bits,
        )
    if exact is None:  # mpmath, which always decides, tells the shapes
        exact = listed(program(*(MPMATH.array(a) if is_floating(a) else a for a in args)))
        wide = None
    if wide is None:
        return tuple(_infinite(np.shape(r)) for r in exact)
    with BALLS.precision(bits):
        return tuple(_distance(w, r) for w, r in zip(wide, exact, strict=True))


def running_bounds(
    vector: Program, arguments: Sequence[Sequence[Array]], fmt: Format, exact: Sequence[Array]
) -> list[Array]:
    """Give `running_bound` of a program whose result is one vector, at many points, from one run."""
    arithmetic = rounded(fmt)

    def run(some: Sequence[int]) -> list[Array]:
        args = [together(arrays) for arrays in zip(*(arguments[i] for i in some), strict=True)]
        given = [
            PreciseArray(a.elements, arithmetic, a.rows) if isinstance(a, PreciseArray) else a
            for a in args
        ]
        with np.errstate(all="ignore"):
            out = at_rows(vector, given)
        wide = np.broadcast_to(out.elements, (len(some), out.shape[-1]))
        return [np.asarray(_largest_distance(wide[k], exact[i])) for k, i in enumerate(some)]

    with BALLS.precision(2 * fmt.precision + 64):
        found = in_halves(run, range(len(arguments)))
    return [
        _infinite(exact[i].shape) if bounds is None else bounds for i, bounds in enumerate(found)
    ]


def _results(program: Program, points: Sequence[Any], bits: int) -> list[Any] | None:
    while bits <= _CEILING:
        try:
            with BALLS.precision(bits):
                return listed(program(*points))
        except Undecided:
            bits *= 2
    return None


def _infinite(shape: tuple[int, ...]) -> Array:
    return np.full(shape, arb.pos_inf(), dtype=object)


def _distance(wide: Any, exact: Any) -> Array:
    if not isinstance(exact, PreciseArray):  # integers and truth values, equal or not at all
        same = np.equal(wide, exact)
        return np.where(same, _zeros(np.shape(exact)), _infinite(np.shape(exact)))
    return np.asarray(_largest_distance(wide.values, exact.values), dtype=object).reshape(
        exact.shape
    )


def _zeros(shape: tuple[int, ...]) -> Array:
    return np.full(shape, arb(0), dtype=object)


def _apart(ball: Any, exact: Any) -> Any:
    if ball.is_exact() and exact.is_exact() and ball == exact:
        return arb(0)  # infinities too
    distance = abs(ball - exact)
    return arb.pos_inf() if distance.is_nan() else distance.abs_upper()


_largest_distance = np.frompyfunc(_apart, 2, 1)
