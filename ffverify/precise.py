"""Arrays of high-precision numbers with NumPy's semantics, over two independent arithmetics.

Plain NumPy code runs on a ``PreciseArray`` unchanged: ``np.log(1 + np.exp(x))`` with broadcasting,
reductions, ``np.where``, indexing and ``@``. Its elements are Arb balls (``BALLS``: every number
carries a rigorous bound on its own error) or mpmath numbers (``MPMATH``: the second opinion that
confirms findings). Floats go in exactly. A comparison that the working precision cannot decide
raises ``Undecided``, never guesses; the caller then asks for more bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import flint
import mpmath
import numpy as np

from .formats import Array

arb = flint.arb
mp = mpmath.mp


class Undecided(ArithmeticError):
    """A comparison, sign or branch that the working precision cannot decide."""


@dataclass(frozen=True)
class Arithmetic:
    """One kind of high-precision number: how to make it, and its elementary functions.

    ``functions`` maps NumPy's names to functions of elements; ``matmul``, ``solve`` and ``det`` take
    matrices as object arrays; ``exact`` makes an element from an int, a float or a Fraction.
    """

    name: str
    exact: Callable[[Any], Any]
    precision: Callable[[int], AbstractContextManager[Any]]
    functions: dict[str, Callable[..., Any]]
    matmul: Callable[[Array, Array], Array]
    solve: Callable[[Array, Array], Array]
    det: Callable[[Array], Any]

    def array(self, values: Any) -> PreciseArray:
        """Convert numbers, exactly, to an array of this arithmetic (float, int, bool or Fraction)."""
        if isinstance(values, PreciseArray):
            return values
        given = np.asarray(values)
        flat = [self.exact(v) for v in given.ravel().tolist()]
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
    if isinstance(value, Fraction):
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
    if not y.is_integer() or abs(y) > 1024:
        return x**y
    n = int(y.unique_fmpz())  # by squaring: Arb's own gives nan when the ball contains 0
    result, square = arb(1), x
    for bit in reversed(bin(abs(n))[2:]):
        if bit == "1":
            result = result * square
        square = square * square
    return result if n >= 0 else _ball_divide(arb(1), result)


def _ball_hull(pick: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def extremum(x: Any, y: Any) -> Any:
        return _NAN if x.is_nan() or y.is_nan() else pick(x, y)

    return extremum


def _matrix(a: Array) -> Any:
    return flint.arb_mat(*a.shape, a.ravel().tolist())


def _entries(matrix: Any) -> Array:
    out = np.empty(matrix.nrows() * matrix.ncols(), dtype=object)
    out[:] = matrix.entries()
    return out.reshape(matrix.nrows(), matrix.ncols())


def _ball_solve(a: Array, b: Array) -> Array:
    try:
        return _entries(_matrix(a).solve(_matrix(b)))
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
        "maximum": _ball_hull(arb.max), "minimum": _ball_hull(arb.min), "isnan": arb.is_nan,
    },
    matmul=lambda a, b: _entries(_matrix(a) * _matrix(b)),
    solve=_ball_solve,
    det=lambda a: _matrix(a).det(),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# mpmath numbers
# ---------------------------------------------------------------------------------------------


def _mpf(value: Any) -> Any:
    if isinstance(value, Fraction):
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


def _mp_extremum(pick: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def extremum(x: Any, y: Any) -> Any:
        return mp.nan if mp.isnan(x) or mp.isnan(y) else pick(x, y)

    return extremum


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
        "maximum": _mp_extremum(max), "minimum": _mp_extremum(min), "isnan": mp.isnan,
    },
    matmul=lambda a, b: np.dot(a, b),
    solve=lambda a, b: np.array((mp.matrix(a.tolist()) ** -1 * mp.matrix(b.tolist())).tolist(), dtype=object),
    det=lambda a: mp.det(mp.matrix(a.tolist())),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# The array
# ---------------------------------------------------------------------------------------------


class PreciseArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of high-precision numbers that plain NumPy code computes with.

    ``values`` is an object array of one arithmetic's elements.
    """

    __slots__ = ("arithmetic", "values")
    __array_priority__ = 1000

    def __init__(self, values: Array, arithmetic: Arithmetic) -> None:
        self.values = values
        self.arithmetic = arithmetic

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    size = property(lambda self: self.values.size)
    T = property(lambda self: self._like(self.values.T))

    def _like(self, values: Any) -> PreciseArray:
        if not isinstance(values, np.ndarray):  # NumPy unwraps 0-d results
            boxed = np.empty((), dtype=object)
            boxed[()] = values
            values = boxed
        return PreciseArray(values, self.arithmetic)

    def __repr__(self) -> str:
        return f"PreciseArray({self.values}, {self.arithmetic.name})"

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[PreciseArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> PreciseArray:
        return self._like(self.values[index])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        operands = [self.arithmetic.array(x).values for x in inputs]
        if ufunc is np.matmul:
            return self._like(_matmul(self.arithmetic, *operands))
        if ufunc in _COMPARISONS:
            return _compare(_COMPARISONS[ufunc], *operands)
        function = _ufunc(self.arithmetic, ufunc.__name__)
        if method == "reduce":
            return self._like(function.reduce(*operands, **kwargs))
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{ufunc.__name__}.{method} with {sorted(kwargs)} has no precise form: call the plain function"
            )
        result = function(*operands)
        return np.asarray(result, dtype=bool) if ufunc is np.isnan else self._like(result)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _FUNCTIONS:
            return _FUNCTIONS[func](*args, **kwargs)
        if func not in _STRUCTURAL:
            raise TypeError(
                f"np.{func.__name__} has no precise form: add one line to precise.py, or write the definition without it"
            )
        result = func(*(_unwrap(a, self.arithmetic) for a in args), **kwargs)
        return (
            [self._like(r) for r in result]
            if isinstance(result, list | tuple)
            else self._like(result)
        )

    def reshape(self, *shape: Any) -> PreciseArray:
        return self._like(self.values.reshape(*shape))

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.sum(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]  # a duck array

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.mean(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]  # a duck array

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Any:
        return np.max(self, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]  # a duck array


def _unwrap(argument: Any, arithmetic: Arithmetic) -> Any:
    """Replace precise arrays, and floats beside them in a list, by object arrays."""
    if isinstance(argument, PreciseArray):
        return argument.values
    if isinstance(argument, list | tuple) and any(isinstance(a, PreciseArray) for a in argument):
        return [arithmetic.array(a).values for a in argument]
    return argument


def _matmul(arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    """Multiply stacks of matrices with NumPy's rules for vectors and broadcasting."""
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = np.empty((*batch, left.shape[-2], right.shape[-1]), dtype=object)
    left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    right = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    for i in np.ndindex(batch):
        out[i] = arithmetic.matmul(left[i], right[i])
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _solve(a: PreciseArray, b: PreciseArray) -> PreciseArray:
    """Solve stacks of systems a x = b, b a stack of matrices."""
    out = np.empty(b.shape, dtype=object)
    for i in np.ndindex(b.shape[:-2]):
        out[i] = a.arithmetic.solve(a.values[i], b.values[i])
    return b._like(out)


def _det(a: PreciseArray) -> PreciseArray:
    out = np.empty(a.shape[:-2], dtype=object)
    for i in np.ndindex(out.shape):
        out[i] = a.arithmetic.det(a.values[i])
    return a._like(out)


_COMPARISONS = {
    np.greater: (np.greater, np.less_equal),
    np.greater_equal: (np.greater_equal, np.less),
    np.less: (np.less, np.greater_equal),
    np.less_equal: (np.less_equal, np.greater),
    np.equal: (np.equal, np.not_equal),
    np.not_equal: (np.not_equal, np.equal),
}


def _compare(pair: tuple[np.ufunc, np.ufunc], a: Array, b: Array) -> Array:
    """Compare elementwise: balls that overlap satisfy neither relation, and are undecided."""
    holds, fails = pair
    true = np.asarray(holds(a, b), dtype=bool)
    decided = true | np.asarray(fails(a, b), dtype=bool) | (a != a) | (b != b)  # noqa: PLR0124 - nan
    if not decided.all():
        i = tuple(np.argwhere(~np.broadcast_to(decided, true.shape))[0])
        raise Undecided(
            f"{np.broadcast_to(a, true.shape)[i]} {holds.__name__} {np.broadcast_to(b, true.shape)[i]}"
        )
    return true


def _sign(x: Any) -> Any:
    if x > 0:
        return x**0
    if x < 0:
        return -(x**0)
    if x == 0 or x != x:  # noqa: PLR0124 - nan
        return x
    raise Undecided(f"sign of {x}")


# Operators of elements: NumPy applies them to object arrays itself.
_OPERATORS: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "negative": np.negative,
    "positive": np.positive, "absolute": np.absolute, "fabs": np.absolute, "square": np.square,
    "sign": np.frompyfunc(_sign, 1, 1),
}  # fmt: skip


@lru_cache(maxsize=None)
def _named(arithmetic_name: str, name: str) -> Any:
    function = {a.name: a for a in (BALLS, MPMATH)}[arithmetic_name].functions[name]
    nin = 2 if name in ("divide", "power", "maximum", "minimum") else 1
    return np.frompyfunc(function, nin, 1)


def _ufunc(arithmetic: Arithmetic, name: str) -> Any:
    if name in _OPERATORS:
        return _OPERATORS[name]
    if name in arithmetic.functions:
        return _named(arithmetic.name, name)
    raise TypeError(
        f"np.{name} has no precise form: add one line to precise.py, or write the definition without it"
    )


def elementwise(name: str, x: PreciseArray) -> PreciseArray:
    """Apply a function that NumPy does not have (``erf``, ``erfc``) to every element."""
    return x._like(_ufunc(x.arithmetic, name)(x.values))


def _where(condition: Array, x: Any, y: Any) -> PreciseArray:
    arithmetic = next(a for a in (x, y) if isinstance(a, PreciseArray)).arithmetic
    return PreciseArray(
        np.where(condition, arithmetic.array(x).values, arithmetic.array(y).values), arithmetic
    )


def _mean(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]  # a duck array
    return total * Fraction(total.size, max(x.size, 1))


def _extremum(name: str) -> Callable[..., PreciseArray]:
    def reduce(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> PreciseArray:
        return x._like(_ufunc(x.arithmetic, name).reduce(x.values, axis=axis, keepdims=keepdims))

    return reduce


def _filled(value: int) -> Callable[..., PreciseArray]:
    return lambda x: x.arithmetic.array(np.full(x.shape, value))


# Functions with a meaning of their own for precise numbers.
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where, np.mean: _mean, np.max: _extremum("maximum"), np.min: _extremum("minimum"),
    np.zeros_like: _filled(0), np.ones_like: _filled(1),
    np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size,
    np.linalg.solve: _solve, np.linalg.det: _det,
    np.clip: lambda x, low, high: np.minimum(np.maximum(x, low), high),
}  # fmt: skip

# Functions that only move or add elements: NumPy's own serve on object arrays.
_STRUCTURAL: Sequence[Any] = (
    np.sum, np.prod, np.cumsum, np.reshape, np.ravel, np.transpose, np.moveaxis, np.swapaxes,
    np.squeeze, np.expand_dims, np.broadcast_to, np.concatenate, np.stack, np.split, np.take,
    np.take_along_axis, np.repeat, np.tile, np.flip, np.roll, np.diagonal, np.trace, np.einsum,
    np.outer, np.dot, np.copy, np.diff,
)  # fmt: skip
