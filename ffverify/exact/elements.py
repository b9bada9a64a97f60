"""The elements of precise arrays: Arb balls and mpmath numbers, and what is asked of either."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import flint
import mpmath
import numpy as np

from .formats import Array

arb = flint.arb
acb = flint.acb
mp = mpmath.mp

_DEEP = 2200  # bits, more than from 2^1024 down to 2^-1074: sums of floats are exact
_BELOW_FLOATS = arb(2) ** -1100


class Undecided(ArithmeticError):
    """A comparison, sign or branch that the working precision cannot decide."""


def shown(x: Any) -> str:
    """Print an element that stays undecided: of its thousands of digits, as many as are read."""
    return str(x.str(15, radius=False) if isinstance(x, arb) else mp.nstr(x, 15))


def _is_settled(x: Any) -> bool:
    """Tell whether an element that is not finite is so indeed.

    Arb has the same for a number that a wide ball has left without bounds, as the root of [-1, 1], and for
    what is undefined, as 0 / 0: it is the latter once no sum of floats is wide any more.
    """
    if flint.ctx.prec < _DEEP and not x.rad().is_zero():
        raise Undecided("whether something is a number")
    return True


def may_be_nan(x: Any) -> bool:
    """Tell whether an element is nan, or may be (Arb's nan is not unequal to itself)."""
    return bool(x.is_nan() if isinstance(x, arb) else mp.isnan(x))


def is_nan(x: Any) -> bool:
    """Tell whether an element is nan.

    Raises
    ------
    Undecided
        Where it may be a number.
    """
    return may_be_nan(x) and (not isinstance(x, arb) or _is_settled(x))


def is_finite(x: Any) -> bool:
    """Tell whether an element is finite.

    Raises
    ------
    Undecided
        Where it may be.
    """
    if not isinstance(x, arb):
        return bool(mp.isfinite(x))
    return bool(x.is_finite() or not _is_settled(x))


def is_same(x: Any, y: Any) -> bool:
    """Tell whether two elements are one number: one object, or apart by less than any float is large.

    At so many bits balls that are no farther apart are of equal numbers, as tanh of ties, or a normalised
    column that is 0 and its mean. It is no proof: 1 and tanh 1e5 differ by less than any float is large, and
    floats take the branch of a tie there as well.
    """
    if x is y:
        return True
    if flint.ctx.prec < _DEEP or not (isinstance(x, arb) and isinstance(y, arb)):
        return False
    return bool((x - y).abs_upper() < _BELOW_FLOATS * max(arb(1), x.abs_upper()))


def boxed(elements: list[Any], shape: tuple[int, ...]) -> Array:
    """Give elements as an object array."""
    out = np.empty(len(elements), dtype=object)
    out[:] = elements
    return out.reshape(shape)


def parted(flat: Array, sizes: Sequence[int]) -> list[Array]:
    """Cut a vector into parts of so many elements each."""
    ends = list(itertools.accumulate(sizes))
    return [flat[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def are_finite(balls: Array) -> Array:
    """Tell which balls are finite."""
    flat = map(arb.is_finite, balls.ravel().tolist())
    return np.fromiter(flat, dtype=bool, count=balls.size).reshape(balls.shape)


def midpoints(balls: Array | list[Any]) -> Array:
    """Give the floats that are nearest to the centres of balls, as one vector."""
    flat = balls.ravel().tolist() if isinstance(balls, np.ndarray) else balls
    return np.array(list(map(float, flat)), dtype=np.float64)
