"""Two independent arithmetics of high-precision numbers.

``BALLS`` computes with Arb balls, each of which encloses its number rigorously. ``MPMATH`` computes
with mpmath numbers; it shares no code with Arb and confirms what Arb finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from .arrays import Arithmetic, Shortcuts
from .elements import Undecided, arb, mp, shown
from .formats import Array
from .matrices import arb_mat, as_matrices, entries, matrix_of

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
    raised = _raised(x, abs(n))
    return raised if n > 0 else _ball_divide(arb(1), raised)


def _raised(x: Any, n: int) -> Any:
    """Raise balls to a positive power by squaring: Arb's own gives nan when a ball contains 0."""
    result = x
    for bit in f"{n:b}"[1:]:
        result = result * result
        if bit == "1":
            result = result * x
    return result


def _at_once(name: str, operands: Sequence[Array]) -> Any:
    """Apply a function to arrays of balls without a Python call for every element; None if that is not right.

    Arb's own division and functions differ from the careful ones here only where they give no finite
    number; a power by one number is one power for all.
    """
    if name == "power" and not operands[1].ndim:
        x: Any = operands[0]
        n: Any = operands[1][()]
        return _raised(x, int(n.unique_fmpz())) if n.is_integer() and 0 < n <= 1024 else None
    if name not in _ARBS_OWN:
        return None
    result = _ARBS_OWN[name](*operands)
    return result if all(map(arb.is_finite, np.ravel(result).tolist())) else None


_ARBS_OWN: dict[str, Callable[..., Any]] = {
    "divide": np.true_divide,
    "log": np.frompyfunc(arb.log, 1, 1),
    "erfc": np.frompyfunc(arb.erfc, 1, 1),
}


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
        raise Undecided(f"sign of {shown(x)}")
    return sign


def _ball_step(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        if not x.is_finite():
            return x
        y = function(x)
        if not y.is_exact():
            raise Undecided(f"which integer is next to {shown(x)}")
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
    if k and not x > 0:  # Hurwitz' zeta is defined to the right of 0: ψ is shifted there
        below = (-x).floor().unique_fmpz()
        if below is None or below > 1000:
            return arb.nan()
        shift = int(below) + 1
        poles = sum((1 / (x + i) ** (k + 1) for i in range(shift)), arb(0))
        return _ball_polygamma(n, x + shift) - (-1) ** k * arb(k).fac() * poles
    return x.digamma() if k == 0 else (-1) ** (k + 1) * arb(k).fac() * arb(k + 1).zeta(x)


def _ball_solve(a: Array, b: Array) -> Array:
    try:
        return entries(matrix_of(a).solve(matrix_of(b)))
    except ZeroDivisionError as error:  # singular as far as these balls tell
        raise Undecided("whether a matrix is singular") from error


def _entering(given: Array) -> Any:
    """Bring plain numbers in, without a Python call for every one."""
    if given.ndim == 2 and given.dtype == np.float64:
        return arb_mat(*given.shape, given.ravel().tolist())
    out = np.empty(given.size, dtype=object)
    out[:] = list(map(arb, given.ravel().tolist()))
    return out.reshape(given.shape)


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
    shortcuts=Shortcuts(_entering, as_matrices, _at_once),
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


def _mp_exp(x: Any) -> Any:
    # mpmath raises e to a whole number by as many squarings as that has bits: log 2 is taken off before.
    if not mp.isfinite(x) or mp.mag(x) < 64:
        return mp.exp(x)
    with mp.extraprec(mp.mag(x) + 8):
        n = mp.floor(x / mp.ln2)
        rest = x - n * mp.ln2
    return mp.ldexp(mp.exp(rest), int(n))


MPMATH = Arithmetic(
    name="mpmath",
    exact=_mpf,
    precision=mp.workprec,
    functions={
        "exp": _mp_exp, "log": _mp_log, "log1p": _mp_real(mp.log1p), "expm1": mp.expm1,
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
