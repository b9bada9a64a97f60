"""Bounds on what rounding may do to a computed number.

The *conditioning bound* is what a good algorithm reaches:

    g·u·|t| + (how far t moves when every input moves by g·u relative) + g subnormals [+ g·u·scale]

where u is the unit roundoff and g the growth factor of the truth (its derivation is in
`ffverify.truth.differences`). ``scale`` is given where a claim promises absolute accuracy only, such as 1
for probabilities. The *running bound* is what the roundings of one program can add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, at_rows, in_halves, together
from ffverify.exact.rounding_arithmetic import rounded
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.slopes import under


def rounding_of(exacts: list[Any], growth: int, fmt: Format, scale: float) -> list[Any]:
    """Give g·u·|t| + g subnormals + g·u·scale: the bound without the motion of the inputs."""
    unit = growth * arb(fmt.unit_roundoff)
    absolute = growth * arb(2) ** fmt.smallest_exponent + unit * arb(float(scale))
    return [unit * t.abs_upper() + absolute for t in exacts]


def running_bounds(
    vector: Program, arguments: Sequence[Sequence[Array]], fmt: Format, exact: Sequence[Array]
) -> list[Array]:
    """Bound how far a program's result, a vector, computed in a format, can be from the exact one.

    Every number that the program can compute, in this format and in any order of its sums, lies
    in the ball that `rounded` arithmetic gives (running error analysis: Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3). The bound is the largest distance from the exact result to
    any point of that ball; infinite where a branch or a pole lies within the roundings.

    Parameters
    ----------
    arguments
        Those of many points, which are run together; floats are exact numbers.
    exact
        The exact results there.

    Returns
    -------
    For each point an object array of balls (upper bounds of the error).
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
