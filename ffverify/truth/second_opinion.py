"""The second opinion: an exact value recomputed in mpmath before a finding leaves.

Arb and mpmath share no code; a finding is shown only with a value on which both agree, printed to
60 digits. Here precision is plain: everything is computed at p and at 2p bits, and what the two
have in common is taken for exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.elements import arb, mp
from ffverify.exact.formats import Array, is_floating
from ffverify.exact.programs import Program

from .adaptive import CEILING, FIRST_PRECISION

DIGITS = 60
_PRECISIONS = tuple(2**k for k in range(9, CEILING.bit_length() + 1))


def _points(args: Sequence[Array]) -> list[Any]:
    return [MPMATH.array(a) if is_floating(a) else a for a in args]


def _settled(
    compute: Callable[[int], Any], precisions: Sequence[int] = _PRECISIONS, noise: Any = 0
) -> Any:
    """Compute at growing precision until two results agree to `DIGITS`, or to noise; None if they never do.

    Two zeros prove nothing short of the highest precision: both may have cancelled altogether.
    """
    before: Any = None
    for bits in precisions:
        with mp.workprec(bits):
            now = compute(bits)  # nan agrees with nothing
            settled = before is not None and (
                now == before or abs(now - before) <= abs(now) * mp.mpf(10) ** -DIGITS + noise
            )
            if settled and (now != 0 or bits == precisions[-1]):
                return now
        before = now
    return None


Opinion = tuple[Any, Any, Any]  # a number to the left and to the right, or None, and their noise


def value(program: Program, args: Sequence[Array], noise: float = 0.0) -> Opinion:
    """Give the exact value of a program with one number as result, to `DIGITS` digits or to a noise.

    Where all of it cancels no precision gives any digit: the noise is then how well it is known otherwise.
    """
    found = _settled(lambda _bits: program(*_points(args)).values[()], noise=noise)
    return found, found, noise


def slope(
    program: Program, args: Sequence[Array], tangents: Sequence[Array | None], ball: Any
) -> Opinion:
    """Give left and right derivative along tangents of a program with one number as result.

    None for one that p and 2p bits do not agree on. p follows from the size of the derivative, which is in
    the ``ball``, and from that of the step: values whose difference is far below them agree to all digits
    that there are, and their rounding, or zero, must not be taken for the slope. The step 2^(e - p/3)
    leaves 2p/3 - |e| bits of a difference of values around 1, and as many fewer as an input is larger than
    the step's own; 64 bits of those are left to larger values and to the roundings on the way. Where that
    is too few, the two runs differ by more than the noise, and nothing is confirmed.
    """
    size = float(abs(ball).mid())
    sizes = [
        np.abs(x[d != 0] / d[d != 0].astype(np.float64))
        for x, d in zip(args, tangents, strict=True)
        if d is not None and np.any(d)
    ]
    moved = np.concatenate(sizes) if sizes else np.ones(1)
    moved[(moved == 0) | ~np.isfinite(moved)] = 1.0  # infinite numbers do not move
    step = float(moved.min())
    least, largest = (math.frexp(s)[1] for s in (step, float(moved.max())))
    exponent = max(abs(least), largest - least)
    bits = 512 + 2 * exponent
    if math.isfinite(size):
        bits += 4 * abs(math.frexp(size)[1])
    bits = min(bits, CEILING // 2)
    noise = mp.mpf(2) ** (64 + exponent - 2 * bits // 3)
    one_sided, twice = partial(_one_sided, program, args, tangents), (bits, 2 * bits)
    left, right = (_settled(partial(one_sided, s), twice, noise) for s in (-step, step))
    return left, right, noise


def _one_sided(
    program: Program,
    args: Sequence[Array],
    tangents: Sequence[Array | None],
    step: float,
    bits: int,
) -> Any:
    """Differentiate to one side, of second order in the step 2^(-p/3) of a size, at p bits."""
    with mp.workprec(bits):
        h = mp.ldexp(mp.mpf(step), -(bits // 3))
        x = _points(args)
        moves = [None if t is None else MPMATH.array(t).values * h for t in tangents]

        def at(c: int) -> Any:
            moved = [
                a if m is None else a.like(a.values + c * m) for a, m in zip(x, moves, strict=True)
            ]
            return program(*moved).values[()]

        return (4 * at(1) - 3 * at(0) - at(2)) / (2 * h)


def digits(number: Any, *, count: int = DIGITS) -> str:
    """Print an mpmath number to so many significant digits."""
    with mp.workprec(4 * count + 64):
        return str(mp.nstr(number, count, strip_zeros=True, min_fixed=-3, max_fixed=16))


def agreement(second: Opinion, ball: Any, *, kink: bool, unit: float = 1.0) -> tuple[str, str]:
    """Print the second arithmetic's number, in a unit, and say where it is not in the first one's ball.

    It is settled to `DIGITS` digits, and to its noise: balls can be narrower than that.
    """
    *sides, noise = second
    if None in sides:
        if ball.is_nan():
            return "undefined", ""
        return ball.str(30), "Not confirmed: mpmath finds no limit."
    with BALLS.precision(4 * FIRST_PRECISION):
        near = [arb(v) + arb(0, arb(noise) + abs(arb(v)) * arb(10) ** -DIGITS) for v in sides]
        agree = all(bool(ball.overlaps(v)) or not v.is_finite() for v in near)
    zero = ball.contains(0) and not kink
    with mp.workprec(2 * CEILING):
        ends = [mp.mpf(0)] * 2 if zero else sorted(v / unit for v in sides)
    low, high = map(digits, ends)
    text = f"in [{low}, {high}], the interval of one-sided derivatives" if kink else low
    return (
        text,
        "" if agree else f"Arb and mpmath disagree on the exact value: {ball} against {text}.",
    )
