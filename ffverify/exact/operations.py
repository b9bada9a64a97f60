"""THE table of operations: one operation, one row.

A row says what an operation means on exact numbers, how often an implementation in floats may round, and
what NumPy or SciPy, ATen and LAX call it. An elementary function has its meaning twice, on Arb's balls and
on mpmath's numbers; whatever is a short formula of others is written once, over precise arrays, and rounds
as its parts do. The front ends take from here what is only a name of theirs (`renamed`); operations with
arguments that only one framework has are in its own ``operations``. Operations that only move elements
have no row at all (see `moves`).
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from .arrays import (
    UFUNCS,
    PreciseArray,
    arithmetic_of,
    elementwise,
    flat_rows,
    of_elements,
    stackwise,
)
from .elements import Undecided, acb, arb, is_finite, is_nan, is_same, may_be_nan, mp, shown
from .formats import Array
from .matrices import cholesky, contract, lu, permutation, solve_triangular, unpacked

Value = Any  # a PreciseArray, an integer or boolean ndarray, a Python number, or a list of these

# How many units of roundoff a library's function may err by. One ulp is at most two units. IEEE 754
# rounds basic operations correctly; NumPy's, SLEEF's and XLA's elementary functions promise four ulps or
# better; nobody promises anything for the special functions, whose usual implementations (Cephes, Boost) are
# quoted with tens of ulps.
EXACT, CORRECT, ELEMENTARY, SPECIAL = 0, 1, 8, 64


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes
    ----------
    name
        NumPy's, or SciPy's, or else our own.
    meaning
        The operation on precise arrays, with NumPy's arguments.
    kind
        How frameworks pass arguments to it: "map" (arrays; matmul, too), "reduce", "place" (argmax) and
        "scan" along axes, "scatter", "algebra", "own" (every framework in its own way).
    scipy, aten, lax
        Other names: several of one framework are aliases, or names of other versions.
    balls, numbers
        An elementary function of elements: of Arb's balls, of mpmath's numbers.
    units
        Units of roundoff by which it may err in floats, relative to its value; to its value and 1 if
        ``rooted``: it is only absolutely accurate around its zeros.
    """

    name: str
    meaning: Callable[..., Any]
    kind: str
    scipy: tuple[str, ...]
    aten: tuple[str, ...]
    lax: tuple[str, ...]
    balls: Callable[..., Any] | None = None
    numbers: Callable[..., Any] | None = None
    units: int = EXACT
    rooted: bool = False


# ---------------------------------------------------------------------------------------------
# Elementary functions, where Arb's or mpmath's own are not NumPy's
# ---------------------------------------------------------------------------------------------

_NAN, _NEGATIVE_INFINITY = arb.nan(), arb.neg_inf()


def _divide(sign: Callable[[Any], Any], infinity: Any, nan: Any) -> Callable[[Any, Any], Any]:
    def divide(x: Any, y: Any) -> Any:
        if y == 0:  # of its own accord neither gives infinity
            return nan if x == 0 or may_be_nan(x) else sign(x) * infinity
        return x / y

    return divide


_ball_divide = _divide(arb.sgn, arb.pos_inf(), _NAN)


def _waves(ball: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Have no value at infinity, where Arb says that it is between -1 and 1."""
    return lambda x: ball(x) if x.is_finite() or x.mid().is_finite() else _NAN


def _ball_power(x: Any, y: Any) -> Any:
    n = int(y.unique_fmpz()) if y.is_integer() else 0
    if not 0 < abs(n) <= 1024:
        return x**y
    result = raised(x, abs(n))
    return result if n > 0 else _ball_divide(arb(1), result)


def raised(x: Any, n: int) -> Any:
    """Raise balls to a positive power by squaring: Arb's own gives nan when a ball contains 0."""
    result = x
    for bit in f"{n:b}"[1:]:
        result = result * result
        if bit == "1":
            result = result * x
    return result


def _extremum(
    precedes: Callable[[Any, Any], Any], of_overlapping: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    """Choose the operand that precedes, itself and no copy: the same object is known to be equal."""

    def choose(x: Any, y: Any) -> Any:
        if precedes(x, y):
            return x
        if precedes(y, x):
            return y
        if may_be_nan(x) or may_be_nan(y):
            return x if may_be_nan(x) else y
        return x if is_same(x, y) else of_overlapping(x, y)

    return choose


def _ball_sign(x: Any) -> Any:
    sign = x.sgn()
    if sign.is_exact() or x.is_nan():
        return sign
    if is_same(x, arb(0)):
        return arb(0)
    raise Undecided(f"sign of {shown(x)}")


def _ball_step(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def step(x: Any) -> Any:
        if not x.is_finite():
            return x
        y = function(x)
        if not y.is_exact():
            nearest = (x.mid() + arb(0.5)).floor()
            if not is_same(x, nearest):
                raise Undecided(f"which integer is next to {shown(x)}")
            y = function(nearest)
        return y

    return step


def _half_even(floor: Callable[[Any], Any], half: Any) -> Callable[[Any], Any]:
    def rint(x: Any) -> Any:
        low = floor(x + half)
        return low - 1 if low - half == x and floor(low / 2) * 2 != low else low

    return rint


def _ball_exponent(x: Any) -> Any:
    """Give e where 2^(e-1) ≤ |x| < 2^e; 0 of 0 and of what is not finite."""
    if x.is_zero() or not x.is_finite():
        return arb(0)
    low, high = (
        int(exponent) + int(mantissa).bit_length() if mantissa else None
        for mantissa, exponent in (x.abs_lower().man_exp(), x.abs_upper().man_exp())
    )
    if low is None or low != high:
        raise Undecided(f"which powers of two {shown(x)} lies between")
    return arb(low)


def _frexp(x: Any) -> tuple[Any, Any]:
    exponent = elementwise("exponent", x)
    return x / 2**exponent, exponent.astype(np.int32)


def _zeta(function: Callable[..., Any], undefined: Any) -> Callable[[Any, Any], Any]:
    """Give Hurwitz' zeta function as libraries define it, by its sum, which converges to the right of 1."""
    return lambda s, q: function(s, q) if s > 1 else undefined


def _on_the_real_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function of mpmath's that is nan where it has a pole or is complex."""

    def real(*operands: Any) -> Any:
        try:
            result = function(*operands)
        except (ValueError, ZeroDivisionError):  # mpmath refuses poles
            return mp.nan
        return mp.nan if isinstance(result, mp.mpc) else result

    return real


def _mp_exp(x: Any) -> Any:
    # mpmath raises e to a whole number by as many squarings as that has bits: log 2 is taken off before.
    if not mp.isfinite(x) or mp.mag(x) < 64:
        return mp.exp(x)
    with mp.extraprec(mp.mag(x) + 8):
        n = mp.floor(x / mp.ln2)
        rest = x - n * mp.ln2
    return mp.ldexp(mp.exp(rest), int(n))


def _bessel(kind: str, n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    own, order = getattr(arb, f"bessel_{kind}"), arb(n)
    return lambda x: own(x, order), partial(getattr(mp, f"bessel{kind}"), n)


# ---------------------------------------------------------------------------------------------
# Formulas that take more than a line
# ---------------------------------------------------------------------------------------------


def _one(x: PreciseArray) -> PreciseArray:
    return np.ones_like(x)  # type: ignore[return-value]  # a duck array


def _but_nan(extremum: np.ufunc) -> Callable[[Any, Any], Any]:
    def of_numbers(x: Any, y: Any) -> Any:
        return np.where(np.isnan(x), y, np.where(np.isnan(y), x, extremum(x, y)))

    return of_numbers


def _ndtr(x: Any) -> Any:
    """Give the standard normal distribution function."""
    return elementwise("erfc", -x / np.sqrt(1 + _one(x))) / 2


def _xlog(logarithm: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def product(x: Any, y: Any) -> Any:
        arithmetic = arithmetic_of((x, y))
        x, y = arithmetic.array(x), arithmetic.array(y)
        return np.where((x == 0) & ~np.isnan(y), 0, x * logarithm(y))

    return product


def _select(which: Any, *cases: Any) -> Any:
    """Choose among cases by index, elementwise (booleans choose among two)."""
    places = range(1, len(cases))
    return reduce(lambda out, i: np.where(which == i, cases[i], out), places, cases[0])


def _cumulative(ufunc: str) -> Callable[..., Any]:
    def accumulate(x: PreciseArray, axis: int) -> Any:
        if not x.size:
            return x
        parts: Any = np.moveaxis(x, axis, 0)  # type: ignore[type-var]  # a duck array
        steps: Any = np.stack(list(itertools.accumulate(parts, getattr(np, ufunc))))
        return np.moveaxis(steps, 0, axis)

    return accumulate


def _scatter(name: str) -> Callable[..., Any]:
    """Combine updates with the elements of x at flat positions, duplicates one after the other."""

    def scatter(x: PreciseArray, positions: Any, updates: Any) -> PreciseArray:
        where, more = np.asarray(positions), x.arithmetic.array(updates)
        if more.shape != where.shape:
            more = np.broadcast_to(more, where.shape)  # type: ignore[assignment]  # a duck array
        rows = max(x.rows, more.rows)
        places, which = np.unique(where.ravel(), return_inverse=True)
        flat, count = flat_rows(x, rows or 1).copy(), places.size
        adds = name == "add"
        each: Any = np.add if adds else of_elements(x.arithmetic, name, 2)

        def combine(terms: Array) -> Array:
            out = terms[:, :count].copy()
            each.at(out, (slice(None), which), terms[:, count:])
            return out

        terms = np.concatenate([flat[:, places], flat_rows(more, rows or 1)], axis=1)
        flat[:, places] = x.arithmetic.accumulate(combine, terms) if adds else combine(terms)
        return x.like(flat.reshape((rows, *x.shape) if rows else x.shape), rows)

    return scatter


# ---------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------


def _row(
    name: str, aten: str, lax: str, meaning: Any, kind: str = "map", scipy: str = "", **said: Any
) -> Operation:
    """Make a row; names are parted by blanks. Ufuncs of its names get the meaning."""
    ufunc = getattr(np, name, None)
    if kind == "map" and meaning is not ufunc:
        own = [] if "balls" in said else [name]  # elementary functions are found by their name
        UFUNCS.update(dict.fromkeys([*scipy.split(), *own], meaning))
    known = ufunc if isinstance(ufunc, np.ufunc) else meaning
    names = [tuple(given.split()) for given in (scipy, aten, lax)]
    return Operation(name, known, kind, names[0], names[1], names[2], **said)


def _numpys(name: str, aten: str = "", lax: str = "", **said: Any) -> Operation:
    """Make the row of what NumPy has, and precise arrays by themselves."""
    return _row(name, aten, lax, getattr(np, name), **said)


def _elementary(
    name: str, aten: str, lax: str, balls: Any, numbers: Any, units: int = ELEMENTARY, **said: Any
) -> Operation:
    """Make the row of a function of elements."""
    ufunc = getattr(np, name, None)
    meaning = ufunc if isinstance(ufunc, np.ufunc) else partial(elementwise, name)
    real = _on_the_real_line(numbers)
    return _row(name, aten, lax, meaning, balls=balls, numbers=real, units=units, **said)


_sums, _xlogy = partial(_numpys, kind="reduce"), _xlog(np.log)

# fmt: off
TABLE = (
    # ---- operators and comparisons
    _numpys("add", lax="add add_any"), _numpys("subtract", lax="sub"),
    _numpys("multiply", "mul", "mul", units=CORRECT), _numpys("square", "square", "square", units=CORRECT),
    _elementary("divide", "", "div", _ball_divide, _divide(mp.sign, mp.inf, mp.nan), CORRECT),
    _elementary("power", "pow", "pow", _ball_power, mp.power),
    _row("float_power", "float_power", "", np.power), _row("reciprocal", "reciprocal", "", lambda x: 1 / x),
    _numpys("negative", "neg", "neg"), _numpys("positive"), _numpys("absolute", "abs", "abs"),
    _numpys("greater", "gt", "gt"), _numpys("greater_equal", "ge", "ge"), _numpys("less", "lt", "lt"),
    _numpys("less_equal", "le", "le"), _numpys("equal", "eq", "eq"), _numpys("not_equal", "ne", "ne"),
    _row("logical_not", "logical_not", "", lambda x: x == 0),
    _row("logical_and", "logical_and", "", lambda x, y: (x != 0) & (y != 0)),
    _row("logical_or", "logical_or", "", lambda x, y: (x != 0) | (y != 0)),
    _row("logical_xor", "logical_xor", "", lambda x, y: np.not_equal(x, 0) ^ np.not_equal(y, 0)),
    _row("select", "", "select_n", _select), _numpys("where", kind="own"),
    _row("clip", "", "", lambda x, low=None, high=None: np.clip(x, low, high), "own"),
    # ---- exponentials and powers
    _elementary("exp", "exp", "exp", arb.exp, _mp_exp),
    _elementary("expm1", "expm1", "expm1", arb.expm1, mp.expm1),
    _elementary("log", "log", "log", lambda x: _NEGATIVE_INFINITY if x.is_zero() else x.log(),
                lambda x: mp.log(x) if x else mp.ninf),
    _elementary("log1p", "log1p", "log1p", arb.log1p, mp.log1p),
    _row("exp2", "exp2", "exp2", lambda x: np.exp(x * np.log(1 + _one(x)))),
    _row("log2", "log2", "", lambda x: np.log(x) / np.log(1 + _one(x))),
    _row("log10", "log10", "", lambda x: np.log(x) / np.log(9 + _one(x))),
    _row("logaddexp", "logaddexp", "", lambda x, y: np.maximum(x, y) + np.log1p(np.exp(-abs(x - y)))),
    _row("xlogy", "xlogy", "", _xlogy),
    _row("xlog1py", "special_xlog1py", "", _xlog(np.log1p)),
    _row("entr", "special_entr", "", lambda x: -_xlogy(x, x)),
    _row("sigmoid", "sigmoid", "logistic", lambda x: 1 / (1 + np.exp(-x)), scipy="expit"),
    _elementary("sqrt", "sqrt", "sqrt", arb.sqrt, mp.sqrt, CORRECT),
    _row("rsqrt", "rsqrt", "rsqrt", lambda x: 1 / np.sqrt(x)),
    _row("cbrt", "", "cbrt", lambda x: np.sign(x) * abs(x) ** Fraction(1, 3)),
    _row("hypot", "hypot", "", lambda x, y: np.sqrt(x * x + y * y)),
    # ---- circular and hyperbolic functions
    _elementary("sin", "sin", "sin", _waves(arb.sin), mp.sin),
    _elementary("cos", "cos", "cos", _waves(arb.cos), mp.cos),
    _elementary("tan", "tan", "tan", arb.tan, mp.tan),
    _elementary("sinc", "sinc", "", arb.sinc_pi, mp.sincpi, rooted=True),
    _elementary("arcsin", "asin", "asin", arb.asin, mp.asin),
    _elementary("arccos", "acos", "acos", arb.acos, mp.acos),
    _elementary("arctan", "atan", "atan", arb.atan, mp.atan),
    _elementary("arctan2", "atan2", "atan2", arb.atan2, mp.atan2),
    _elementary("sinh", "sinh", "sinh", arb.sinh, mp.sinh),
    _elementary("cosh", "cosh", "cosh", arb.cosh, mp.cosh),
    _elementary("tanh", "tanh", "tanh", arb.tanh, mp.tanh),
    _elementary("arcsinh", "asinh", "asinh", arb.asinh, mp.asinh),
    _elementary("arccosh", "acosh", "acosh", arb.acosh, mp.acosh),
    _elementary("arctanh", "atanh", "atanh", arb.atanh, mp.atanh),
    # ---- special functions
    _elementary("erf", "erf", "erf", arb.erf, mp.erf),
    _elementary("erfc", "erfc", "erfc",  # Arb: nan at ±inf
                lambda x: x.erfc() if x.is_finite() or x.is_nan() else arb(1) - x.sgn(), mp.erfc),
    _elementary("erfinv", "erfinv", "erf_inv", arb.erfinv, mp.erfinv, SPECIAL),
    _row("erfcinv", "", "", lambda x: elementwise("erfinv", 1 - x)),
    _row("erfcx", "special_erfcx", "", lambda x: np.exp(x * x) * elementwise("erfc", x)),
    _row("ndtr", "special_ndtr", "", _ndtr),
    _row("log_ndtr", "special_log_ndtr", "", lambda x: np.log(_ndtr(x))),
    _row("ndtri", "special_ndtri", "",
         lambda p: np.sqrt(1 + _one(p)) * elementwise("erfinv", 2 * p - 1)),
    _elementary("lgamma", "lgamma", "lgamma",  # log |Γ|
                lambda x: x.lgamma() if x > 0 else acb(x).lgamma().real, lambda x: mp.re(mp.loggamma(x)),
                SPECIAL, scipy="gammaln", rooted=True),
    _elementary("digamma", "digamma", "digamma", arb.digamma, mp.digamma, SPECIAL, scipy="psi", rooted=True),
    _elementary("polygamma", "polygamma", "polygamma", lambda n, x: acb(x).polygamma(n).real,
                lambda n, x: mp.psi(int(n), x), SPECIAL),
    _elementary("zeta", "special_zeta", "zeta", _zeta(arb.zeta, _NAN), _zeta(mp.zeta, mp.nan), SPECIAL),
    _elementary("gamma", "", "", arb.gamma, mp.gamma, SPECIAL),
    _elementary("rgamma", "", "", arb.rgamma, mp.rgamma, SPECIAL, rooted=True),
    _elementary("gammainc", "", "igamma", lambda a, x: x.gamma_lower(a, regularized=1),
                lambda a, x: mp.gammainc(a, 0, x, regularized=True), SPECIAL),
    _elementary("gammaincc", "", "igammac", lambda a, x: x.gamma_upper(a, regularized=1),
                lambda a, x: mp.gammainc(a, x, regularized=True), SPECIAL),
    _elementary("betainc", "", "regularized_incomplete_beta",
                lambda a, b, x: x.beta_lower(a, b, regularized=True),
                lambda a, b, x: mp.betainc(a, b, 0, x, regularized=True), SPECIAL),
    _elementary("i0", "i0", "", *_bessel("i", 0), SPECIAL),
    _elementary("i1", "special_i1", "", *_bessel("i", 1), SPECIAL),
    _elementary("j0", "special_bessel_j0", "", *_bessel("j", 0), SPECIAL, rooted=True),
    _elementary("j1", "special_bessel_j1", "", *_bessel("j", 1), SPECIAL, rooted=True),
    _elementary("y0", "special_bessel_y0", "", *_bessel("y", 0), SPECIAL, rooted=True),
    _elementary("y1", "special_bessel_y1", "", *_bessel("y", 1), SPECIAL, rooted=True),
    _elementary("k0", "special_modified_bessel_k0", "", *_bessel("k", 0), SPECIAL),
    _elementary("k1", "special_modified_bessel_k1", "", *_bessel("k", 1), SPECIAL),
    _row("i0e", "special_i0e", "bessel_i0e", lambda x: np.exp(-abs(x)) * elementwise("i0", x)),
    _row("i1e", "special_i1e", "bessel_i1e", lambda x: np.exp(-abs(x)) * elementwise("i1", x)),
    # ---- steps, signs, extrema: nothing rounds
    _elementary("maximum", "maximum", "max", _extremum(operator.ge, arb.max),
                _extremum(operator.ge, max), EXACT),
    _elementary("minimum", "minimum", "min", _extremum(operator.le, arb.min),
                _extremum(operator.le, min), EXACT),
    _row("fmax", "fmax", "", _but_nan(np.maximum)), _row("fmin", "fmin", "", _but_nan(np.minimum)),
    _elementary("sign", "sign sgn", "sign", _ball_sign, mp.sign, EXACT),
    _elementary("floor", "floor", "floor", _ball_step(arb.floor), mp.floor, EXACT),
    _elementary("ceil", "ceil", "ceil", _ball_step(arb.ceil), mp.ceil, EXACT),
    _elementary("rint", "", "", _half_even(_ball_step(arb.floor), arb(0.5)),
                _half_even(mp.floor, mp.mpf(0.5)), EXACT),
    _elementary("exponent", "", "", _ball_exponent,
                lambda x: mp.mpf(mp.frexp(x)[1] if mp.isfinite(x) else 0), EXACT),
    _row("frexp", "frexp", "", _frexp),
    _row("trunc", "trunc", "", lambda x: np.sign(x) * np.floor(abs(x))),
    _row("remainder", "remainder", "", lambda x, y: x - np.floor(x / y) * y),
    _row("fmod", "fmod", "rem", lambda x, y: x - np.trunc(x / y) * y),
    _row("floor_divide", "", "", lambda x, y: np.floor(x / y)),
    _row("copysign", "copysign", "", lambda x, y: np.where(y < 0, -abs(x), abs(x))),
    _row("heaviside", "heaviside", "", lambda x, half: np.where(x < 0, 0, np.where(x > 0, 1, half))),
    _row("signbit", "signbit", "", lambda x: x < 0),
    _elementary("isnan", "isnan", "", is_nan, is_nan, EXACT),
    _elementary("isfinite", "isfinite", "is_finite", is_finite, is_finite, EXACT),
    _row("isinf", "isinf", "", lambda x: ~np.isfinite(x) & ~np.isnan(x)),
    # ---- along axes
    _sums("sum", "sum", "reduce_sum"), _sums("mean", "mean"), _sums("prod", "prod", "reduce_prod"),
    _sums("max", "amax", "reduce_max"), _sums("min", "amin", "reduce_min"),
    _row("any", "any", "", lambda x, **axes: np.any(np.not_equal(x, 0), **axes), "reduce"),
    _row("all", "all", "", lambda x, **axes: np.all(np.not_equal(x, 0), **axes), "reduce"),
    _numpys("argmax", "argmax", "argmax", kind="place"), _numpys("argmin", "argmin", "argmin", kind="place"),
    _numpys("cumsum", "cumsum", "cumsum", kind="scan"), _numpys("cumprod", "cumprod", "cumprod", kind="scan"),
    _row("cummax", "", "cummax", _cumulative("maximum"), "scan"),
    _row("cummin", "", "cummin", _cumulative("minimum"), "scan"),
    _row("logcumsumexp", "logcumsumexp", "cumlogsumexp",
         _cumulative("logaddexp"), kind="scan"),
    # ---- places, matrices
    _numpys("searchsorted", kind="own"),
    _row("scatter_add", "", "scatter-add", _scatter("add"), "scatter"),
    _row("scatter_multiply", "", "scatter-mul scatter_mul", _scatter("multiply"), "scatter"),
    _row("scatter_maximum", "", "scatter-max scatter_max", _scatter("maximum"), "scatter"),
    _row("scatter_minimum", "", "scatter-min scatter_min", _scatter("minimum"), "scatter"),
    _numpys("matmul", "mm bmm mv dot vdot"), _row("contract", "", "", contract, "algebra"),
    _row("inverse", "", "", np.linalg.inv, "algebra"),
    _row("solve", "", "", np.linalg.solve, "algebra"), _row("determinant", "", "", np.linalg.det, "algebra"),
    _row("lu", "", "", stackwise(lu), "own"), _row("lu_unpacked", "", "", unpacked, "own"),
    _row("lu_permutation", "", "", permutation, "own"),
    _row("cholesky", "", "cholesky", stackwise(cholesky), "algebra"),
    _row("solve_triangular", "", "", stackwise(solve_triangular), "own"),
)
# fmt: on

OPERATIONS: dict[str, Callable[..., Any]] = {row.name: row.meaning for row in TABLE}


def renamed(
    framework: str, adapters: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]]
) -> dict[str, Callable[..., Any]]:
    """Give the operations by the names of ``"aten"`` or ``"lax"``; for each kind, an adapter of arguments.

    Operations of other kinds are left out: the framework says itself what it makes of them.
    """
    return {
        theirs: adapters[row.kind](row.meaning)
        for row in TABLE
        for theirs in (getattr(row, framework) if row.kind in adapters else ())
    }
