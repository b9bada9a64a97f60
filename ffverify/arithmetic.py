"""Two independent arithmetics of high-precision numbers, and one that rounds as a float format does.

``BALLS`` computes with Arb balls, each of which encloses its number rigorously. ``MPMATH`` computes
with mpmath numbers; it shares no code with Arb and confirms what Arb finds. ``rounded(fmt)`` is
ball arithmetic in which every operation widens the ball by what the roundings of that format can
do: the ball around a program's result then contains whatever the program computes in that format.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import flint
import mpmath
import numpy as np

from .formats import Array, Format
from .matrices import arb_mat, entries, matrix_of

if TYPE_CHECKING:
    from .precise import PreciseArray

arb = flint.arb
mp = mpmath.mp


class Undecided(ArithmeticError):
    """A comparison, sign or branch that the working precision cannot decide."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """One kind of high-precision number: how to make it, and its elementary functions.

    ``functions`` maps names (NumPy's, where it has one) to functions of elements; ``matmul``,
    ``solve`` and ``det`` take matrices as object arrays; ``exact`` makes an element from an int, a
    float or a Fraction. ``accumulate`` calls ``function(*operands)``, which sums the operands'
    elements or products of them (a sum, a matrix product): the place to account for long sums.
    """

    name: str
    exact: Callable[[Any], Any]
    precision: Callable[[int], AbstractContextManager[Any]]
    functions: dict[str, Callable[..., Any]]
    matmul: Callable[[Array, Array], Array]
    solve: Callable[[Array, Array], Array]
    det: Callable[[Array], Any]
    accumulate: Callable[..., Array] = lambda function, *operands: function(*operands)

    def array(self, values: Any) -> PreciseArray:
        """Convert numbers, exactly, to an array of this arithmetic (float, int, bool or Fraction)."""
        from .precise import PreciseArray  # an array knows its arithmetic, and this makes arrays

        if isinstance(values, PreciseArray):
            return values
        given = np.asarray(values)
        if self.exact is _ball and given.ndim == 2 and given.dtype == np.float64:
            return PreciseArray(arb_mat(*given.shape, given.ravel().tolist()), self)
        # arb itself is several times faster than a Python function around it
        exact = arb if self.exact is _ball and given.dtype != object else self.exact
        flat = list(map(exact, given.ravel().tolist()))
        if given.dtype == np.longdouble:  # tolist keeps longdouble scalars: two floats hold one
            flat = [self.exact(float(v)) + self.exact(float(v - float(v))) for v in given.ravel()]
        out = np.empty(given.size, dtype=object)
        out[:] = flat
        return PreciseArray(out.reshape(given.shape), self)


# ---------------------------------------------------------------------------------------------
# Arb balls
# ---------------------------------------------------------------------------------------------

_NAN, _POSITIVE_INFINITY, _NEGATIVE_INFINITY = arb.nan(), arb.pos_inf(), arb.neg_inf()


def _ball(value: Any) -> Any:
    if type(value) is Fraction:
        return arb(value.numerator) / arb(value.denominator)
    return arb(value)


def _ball_log(x: Any) -> Any:
    return _NEGATIVE_INFINITY if x.is_zero() else x.log()  # Arb: log 0 is nan


def _ball_divide(x: Any, y: Any) -> Any:
    if y.is_zero() and not x.is_zero() and not x.is_nan():  # Arb: x / 0 is nan
        return x.sgn() * _POSITIVE_INFINITY
    return x / y


def _ball_erfc(x: Any) -> Any:
    return x.erfc() if x.is_finite() or x.is_nan() else arb(1) - x.sgn()  # Arb: nan at ±inf


def _ball_power(x: Any, y: Any) -> Any:
    n = int(y.unique_fmpz()) if y.is_integer() else 0
    if not 0 < abs(n) <= 1024:
        return x**y
    # By squaring: Arb's own gives nan when the ball contains 0.
    result = x
    for bit in f"{abs(n):b}"[1:]:
        result = result * result
        if bit == "1":
            result = result * x
    return result if n > 0 else _ball_divide(arb(1), result)


def _ball_maximum(x: Any, y: Any) -> Any:
    """Give the larger operand itself, not a copy: the same object is known to be equal."""
    if x.is_nan() or y.is_nan():
        return _NAN
    return x if x >= y else y if y > x else x.max(y)


def _ball_minimum(x: Any, y: Any) -> Any:
    if x.is_nan() or y.is_nan():
        return _NAN
    return x if x <= y else y if y < x else x.min(y)


def _ball_sign(x: Any) -> Any:
    sign = x.sgn()
    if not (sign.is_exact() or x.is_nan()):
        raise Undecided(f"sign of {x}")
    return sign


def _ball_step(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        if not x.is_finite():
            return x
        y = function(x)
        if not y.is_exact():
            raise Undecided(f"which integer is next to {x}")
        return y

    return step


def _half_even(floor: Callable[[Any], Any], half: Any) -> Callable[[Any], Any]:
    def rint(x: Any) -> Any:
        low = floor(x + half)
        return low - 1 if low - half == x and floor(low / 2) * 2 != low else low

    return rint


def _ball_lgamma(x: Any) -> Any:
    if x > 0:
        return x.lgamma()
    return (arb.pi() / abs((arb.pi() * x).sin())).log() - (1 - x).lgamma()


def _ball_arctan2(y: Any, x: Any) -> Any:
    return arb.atan2(y, x)


def _ball_polygamma(n: Any, x: Any) -> Any:
    k = int(n.unique_fmpz())
    return x.digamma() if k == 0 else (-1) ** (k + 1) * arb(k).fac() * arb(k + 1).zeta(x)


def _ball_solve(a: Array, b: Array) -> Array:
    try:
        return entries(matrix_of(a).solve(matrix_of(b)))
    except ZeroDivisionError as error:  # singular as far as these balls tell
        raise Undecided("whether a matrix is singular") from error


BALLS = Arithmetic(
    name="Arb",
    exact=_ball,
    precision=flint.ctx.workprec,
    functions={
        "exp": arb.exp, "log": _ball_log, "log1p": arb.log1p, "expm1": arb.expm1, "sqrt": arb.sqrt,
        "sin": arb.sin, "cos": arb.cos, "tan": arb.tan, "arctan": arb.atan, "arcsin": arb.asin,
        "arccos": arb.acos, "sinh": arb.sinh, "cosh": arb.cosh, "tanh": arb.tanh,
        "arcsinh": arb.asinh, "arccosh": arb.acosh, "arctanh": arb.atanh,
        "erf": arb.erf, "erfc": _ball_erfc, "divide": _ball_divide, "power": _ball_power,
        "maximum": _ball_maximum, "minimum": _ball_minimum, "isnan": arb.is_nan,
        "isfinite": arb.is_finite, "sign": _ball_sign, "floor": _ball_step(arb.floor),
        "ceil": _ball_step(arb.ceil), "rint": _half_even(_ball_step(arb.floor), arb(0.5)),
        "arctan2": _ball_arctan2, "erfinv": arb.erfinv, "lgamma": _ball_lgamma,
        "digamma": arb.digamma, "polygamma": _ball_polygamma, "zeta": arb.zeta,
        "i0": lambda x: x.bessel_i(0), "i1": lambda x: x.bessel_i(1),
    },
    matmul=lambda a, b: entries(matrix_of(a) * matrix_of(b)),
    solve=_ball_solve,
    det=lambda a: matrix_of(a).det(),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# mpmath numbers
# ---------------------------------------------------------------------------------------------


def _mpf(value: Any) -> Any:
    if type(value) is Fraction:
        return mp.mpf(value.numerator) / value.denominator
    with mp.workprec(1100):  # any float's significand and any int that a program holds, exactly
        return mp.mpf(value)


def _mp_real(function: Callable[..., Any]) -> Callable[..., Any]:
    def real(*operands: Any) -> Any:
        result = function(*operands)
        return mp.nan if isinstance(result, mp.mpc) else result  # mpmath leaves the real line

    return real


def _mp_log(x: Any) -> Any:
    return mp.ninf if x == 0 else _mp_real(mp.log)(x)


def _mp_divide(x: Any, y: Any) -> Any:
    if y == 0:
        return mp.nan if x == 0 or mp.isnan(x) else mp.sign(x) * mp.inf
    return x / y


def _mp_maximum(x: Any, y: Any) -> Any:
    return mp.nan if mp.isnan(x) or mp.isnan(y) else max(x, y)


def _mp_minimum(x: Any, y: Any) -> Any:
    return mp.nan if mp.isnan(x) or mp.isnan(y) else min(x, y)


def _mp_lgamma(x: Any) -> Any:
    if x > 0:
        return mp.loggamma(x)
    return mp.log(mp.pi / abs(mp.sinpi(x))) - mp.loggamma(1 - x)


def _mp_step(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(x) if mp.isfinite(x) else x


MPMATH = Arithmetic(
    name="mpmath",
    exact=_mpf,
    precision=mp.workprec,
    functions={
        "exp": mp.exp, "log": _mp_log, "log1p": _mp_real(mp.log1p), "expm1": mp.expm1,
        "sqrt": _mp_real(mp.sqrt), "sin": mp.sin, "cos": mp.cos, "tan": mp.tan,
        "arctan": mp.atan, "arcsin": _mp_real(mp.asin), "arccos": _mp_real(mp.acos),
        "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "arcsinh": mp.asinh,
        "arccosh": _mp_real(mp.acosh), "arctanh": _mp_real(mp.atanh), "erf": mp.erf,
        "erfc": mp.erfc, "divide": _mp_divide, "power": _mp_real(mp.power),
        "maximum": _mp_maximum, "minimum": _mp_minimum, "isnan": mp.isnan,
        "isfinite": mp.isfinite, "sign": mp.sign, "floor": _mp_step(mp.floor),
        "ceil": _mp_step(mp.ceil), "rint": _half_even(_mp_step(mp.floor), mp.mpf(0.5)),
        "arctan2": mp.atan2, "erfinv": mp.erfinv, "lgamma": _mp_lgamma, "digamma": mp.digamma,
        "polygamma": lambda n, x: mp.psi(int(n), x), "zeta": mp.zeta,
        "i0": lambda x: mp.besseli(0, x), "i1": lambda x: mp.besseli(1, x),
    },
    matmul=np.dot,
    solve=lambda a, b: np.array((mp.matrix(a.tolist()) ** -1 * mp.matrix(b.tolist())).tolist(), dtype=object),
    det=lambda a: mp.det(mp.matrix(a.tolist())),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Rounding as a format does
# ---------------------------------------------------------------------------------------------

# How many units of roundoff a library's function may err by. One ulp is at most two units. IEEE 754
# rounds those of _CORRECT correctly; NumPy's, SLEEF's and XLA's elementary functions promise four ulps
# or better; nobody promises anything for the special functions, whose usual implementations
# (Cephes, Boost) are quoted with tens of ulps.
_EXACT = frozenset({
    "isnan", "isfinite", "maximum", "minimum", "sign", "floor", "ceil", "rint", "negative", "positive",
    "absolute", "fabs",
})  # fmt: skip
_CORRECT = frozenset({"multiply", "square", "sqrt"})
_SPECIAL = frozenset({"erfinv", "lgamma", "digamma", "polygamma", "zeta", "i0", "i1"})
_ROOTED = frozenset({"lgamma", "digamma"})  # only absolutely accurate around their zeros
_ELEMENTARY_UNITS, _SPECIAL_UNITS = 8, 64


@functools.cache
def rounded(fmt: Format) -> Arithmetic:
    """Give ball arithmetic whose every operation is widened by the roundings of a format.

    A number that fl(x ∘ y) = (x ∘ y)(1 + δ), |δ| ≤ k·u, can give lies in the ball, whatever floats
    the operands' balls stand for: running error analysis (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3) with intervals. A sum of n terms in any order, or n products
    and their sum, is widened by n·u/(1 - n·u) of the sum of magnitudes (§3.1, §4.2). A result that may be
    subnormal is widened by the smallest normal number, since libraries and devices may flush it to
    zero. From the overflow threshold on the ball is the whole line. Exact products that the format
    holds stay exact; a sum of two is widened by u of both terms, not of their sum, because fused
    kernels scale terms before they add them. A quotient may be a product with the rounded reciprocal, two
    roundings: XLA and other compilers divide by constants so.
    """
    u = arb(fmt.unit_roundoff)
    normal = arb(2) ** fmt.emin
    overflow = _ball(fmt.overflow)
    line = arb(0, _POSITIVE_INFINITY)

    def held(x: Any) -> bool:
        return bool(
            x.is_exact()
            and normal <= abs(x) < overflow
            and x.man_exp()[0].bit_length() <= fmt.precision
        )

    def widened(x: Any, units: Any, size: Any) -> Any:
        if not x.is_finite():
            return x
        slack = units * u * size
        if not abs(x) >= normal:
            slack = slack + normal
        x = x + arb(0, slack.abs_upper())
        return x if x.abs_upper() < overflow else line

    def rounding(units: int, function: Callable[..., Any], base: int = 0) -> Callable[..., Any]:
        def operate(*operands: Any) -> Any:
            x = function(*operands)
            if x.is_zero() or (units == 1 and held(x) and all(o.is_exact() for o in operands)):
                return x
            return widened(x, units, x.abs_upper() + base)

        return operate

    def adding(function: Callable[..., Any]) -> Callable[..., Any]:
        def operate(x: Any, y: Any) -> Any:
            total = function(x, y)
            if x.is_zero() or y.is_zero() or not total.is_finite():
                return total
            return widened(total, 1, x.abs_upper() + y.abs_upper())

        return operate

    def divide(x: Any, y: Any) -> Any:
        quotient = _ball_divide(x, y)
        halving = y.is_exact() and abs(y.man_exp()[0]) == 1 if y.is_finite() else False
        if quotient.is_zero() or (halving and x.is_exact() and held(quotient)):
            return quotient
        return widened(quotient, 2 / (1 - 2 * u), quotient.abs_upper())

    products: dict[str, Callable[..., Any]] = {"multiply": operator.mul, "square": lambda x: x * x}
    own = {"add": adding(operator.add), "subtract": adding(operator.sub), "divide": divide}
    every: dict[str, Callable[..., Any]] = {**BALLS.functions, **products}
    functions: dict[str, Callable[..., Any]] = {
        name: function
        if name in _EXACT
        else rounding(
            1 if name in _CORRECT else _SPECIAL_UNITS if name in _SPECIAL else _ELEMENTARY_UNITS,
            function,
            1 if name in _ROOTED else 0,
        )
        for name, function in every.items()
    }

    sizes_of = np.frompyfunc(lambda x: x.abs_upper() if x.is_finite() else arb(0), 1, 1)
    present = np.frompyfunc(lambda x: arb(0 if x.is_zero() else 1), 1, 1)

    def accumulate(function: Callable[..., Array], *operands: Array) -> Array:
        def widen(x: Any, size: Any, terms: Any) -> Any:
            roundings = terms if len(operands) > 1 else terms - 1
            if not roundings > 0:
                return x
            return widened(x, roundings / (1 - roundings * u), size)

        result, size = function(*operands), function(*(sizes_of(a) for a in operands))
        terms = function(*(present(a) for a in operands))
        return np.asarray(np.frompyfunc(widen, 3, 1)(result, size, terms), dtype=object)

    def perturbed(a: Array) -> Array:
        """Widen a matrix by the backward error of elimination with partial pivoting.

        |ΔA| ≤ n·γ_3n·ρ·max|A| (Higham §9.3), with growth ρ ≤ n: only contrived matrices exceed it.
        """
        n = len(a)
        largest = max((x.abs_upper() for x in a.ravel()), default=arb(0))
        slack = arb(0, (3 * n**3 * u * largest).abs_upper())
        return np.asarray(np.frompyfunc(lambda x: x + slack, 1, 1)(a), dtype=object)

    def constant(value: Any) -> Any:
        x = _ball(value)  # a constant of the program is rounded when it meets the format
        return x if not abs(x) >= normal or not x.is_finite() or held(x) else widened(x, 1, abs(x))

    return replace(
        BALLS,
        name=f"Arb rounded to {fmt.name}",
        exact=constant,
        functions=functions | own,
        accumulate=accumulate,
        solve=lambda a, b: BALLS.solve(perturbed(a), b),
        det=lambda a: BALLS.det(perturbed(a)),
    )
