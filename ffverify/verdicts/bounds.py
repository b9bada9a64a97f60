"""Bounds on what rounding may do to a computed number.

The *conditioning bound* is what a good algorithm reaches:

    g·u·|t| + (how far t moves when every input moves by g·u relative) + g subnormals [+ g·u·scale]

where u is the unit roundoff and g the growth factor of the truth (its derivation is in
`ffverify.truth.derivatives`). ``scale`` is given where a claim promises absolute accuracy only, such as 1
for probabilities. The *running bound* is what the roundings of one program can add up to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, at_rows, in_halves, joined, listed, together
from ffverify.exact.rounding_arithmetic import rounded
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION
from ffverify.truth.slopes import under


def rounding_of(exacts: list[Any], growth: int, fmt: Format, scale: float) -> list[Any]:
    """Give g·u·|t| + g subnormals + g·u·scale: the bound without the motion of the inputs."""
    unit = growth * arb(fmt.unit_roundoff)
    absolute = growth * arb(2) ** fmt.smallest_exponent + unit * arb(float(scale))
    return [unit * t.abs_upper() + absolute for t in exacts]


def running_bound(program: Program, args: Sequence[Array], fmt: Format) -> tuple[Array, ...]:
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

    Returns
    -------
    tuple
        One object array of balls (upper bounds of the error) per result.
    """
    exact = _results(program, args)
    flat = np.concatenate([np.ravel(BALLS.array(r).values) for r in exact])
    (bounds,) = running_bounds(joined(program), [args], fmt, [flat])
    parts = np.split(bounds, np.cumsum([np.size(r) for r in exact])[:-1])
    return tuple(part.reshape(np.shape(r)) for part, r in zip(parts, exact, strict=True))


def _results(program: Program, args: Sequence[Array]) -> list[Any]:
    """Run a program exactly; where no precision decides a branch, in mpmath, which always decides."""
    bits = FIRST_PRECISION
    while bits <= CEILING:
        with BALLS.precision(bits), contextlib.suppress(Undecided):
            return listed(program(*(BALLS.array(a) if is_floating(a) else a for a in args)))
        bits *= 2
    return listed(program(*(MPMATH.array(a) if is_floating(a) else a for a in args)))


def running_bounds(
    vector: Program, arguments: Sequence[Sequence[Array]], fmt: Format, exact: Sequence[Array]
) -> list[Array]:
    """Give `running_bound` of a program whose result is one vector, at many points, from one run.

    ``exact`` are its exact results there.
    """
    arithmetic = rounded(fmt)

    def run(some: Sequence[int]) -> list[Array]:
        args = [together(arrays) for arrays in zip(*(arguments[i] for i in some), strict=True)]
        with np.errstate(all="ignore"):
            out = at_rows(vector, [under(arithmetic, a) for a in args])
        wide = np.broadcast_to(out.elements, (len(some), out.shape[-1]))
        return [_largest_distance(wide[k], exact[i]) for k, i in enumerate(some)]

    # Which holds products of floats as they are: its own roundings are nothing beside the format's.
    with BALLS.precision(FIRST_PRECISION):
        found = in_halves(run, range(len(arguments)))
    undecided = [np.full(e.shape, arb.pos_inf(), dtype=object) for e in exact]
    return [u if bounds is None else bounds for u, bounds in zip(undecided, found, strict=True)]


def _apart(ball: Any, exact: Any) -> Any:
    if ball.is_exact() and exact.is_exact() and ball == exact:
        return arb(0)  # infinities too
    distance = abs(ball - exact)
    return arb.pos_inf() if distance.is_nan() else distance.abs_upper()


_largest_distance = np.frompyfunc(_apart, 2, 1)
