"""The second derivative of an elementwise function, in high precision.

A program says ``f.second_derivative(f.silu, z)``: a backend answers by differentiating twice (see
`ffverify.frameworks`), the textbook by the second difference here.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from ffverify.exact.arithmetic import MPMATH
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import arb, midpoints, mp


def second_derivative(function: Callable[[Any], Any], z: PreciseArray) -> PreciseArray:
    """Give f''(z) elementwise, by (f(z+h) - 2f(z) + f(z-h)) / h² with h = 2^(-p/4)·min(1, |z|).

    At p bits its rounding and its truncation c·h² + O(h⁴) are of size 2^(-p/2). With 2h in place of
    h there is four times the truncation, so the difference of the two, 3c·h², bounds it with a
    margin of three: balls are widened by it. On a kink nothing settles; the claim stays off them.
    """
    inexact = z.arithmetic is MPMATH
    bits = mp.prec if inexact else flint.ctx.prec
    size = np.minimum(np.abs(midpoints(z.values)), 1.0)
    exponents = np.frexp(np.where(size == 0, 1.0, size))[1] - 1 - bits // 4
    h = z.arithmetic.array([Fraction(2) ** k for k in exponents.tolist()]).reshape(z.shape)
    here = function(z)

    def difference(c: int) -> Any:
        return (function(z + c * h) - 2 * here + function(z - c * h)) / (c * h) ** 2

    near = difference(1)
    if inexact:
        return near  # type: ignore[no-any-return]  # a duck array
    return near + abs(near - difference(2)) * z.arithmetic.exact(arb(0, 1))  # type: ignore[no-any-return]  # a duck array
