"""Arrays of high-precision numbers with NumPy's semantics, over any of the arithmetics.

Plain NumPy code runs on a ``PreciseArray`` unchanged: ``np.log(1 + np.exp(x))`` with broadcasting,
reductions, ``np.where``, sorting, indexing, assignment, ``np.einsum`` and ``@``. Its elements are Arb
balls (``BALLS``: every number carries a rigorous bound on its own error) or mpmath numbers
(``MPMATH``: the second opinion that confirms findings). Floats go in exactly. A comparison that
the working precision cannot decide raises ``Undecided``, never guesses; the caller then asks for
more bits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

import numpy as np

from .arithmetic import BALLS, MPMATH, Arithmetic, Undecided, arb, at_once, mp
from .formats import FORMATS, Array
from .matrices import arb_mat, det, entries, held, matmul, solve
from .ordering import COMPARISONS, arg_extremum, argsort, compare, sort

__all__ = [
    "BALLS", "MPMATH", "Arithmetic", "PreciseArray", "Undecided", "arb", "elementwise", "mp", "observed",
]  # fmt: skip


_OBSERVER: ContextVar[Callable[[str, Sequence[Array], Any], None] | None] = ContextVar(
    "observer", default=None
)


@contextmanager
def observed(observer: Callable[[str, Sequence[Array], Any], None]) -> Iterator[None]:
    """Call ``observer(name, operands, result)`` after every elementwise operation, until left."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


class PreciseArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of high-precision numbers that plain NumPy code computes with.

    ``values`` is an object array of one arithmetic's elements. Matrices of balls are held as Arb's own
    from their making, through sums and products, until somebody asks for their elements.
    """

    __slots__ = ("_held", "arithmetic")
    __array_priority__ = 1000

    def __init__(self, values: Any, arithmetic: Arithmetic) -> None:
        self._held = values
        self.arithmetic = arithmetic

    @property
    def matrix(self) -> Any:
        """Arb's matrix, where it is still held as one."""
        return self._held if isinstance(self._held, arb_mat) else None

    @property
    def values(self) -> Array:
        """The elements, an object array."""
        if isinstance(self._held, arb_mat):
            self._held = entries(self._held)
        return self._held  # type: ignore[no-any-return]  # one or the other

    @property
    def shape(self) -> tuple[int, ...]:
        """As `ndarray.shape`."""
        held = self._held
        return (held.nrows(), held.ncols()) if isinstance(held, arb_mat) else held.shape

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    T = property(lambda self: self.like(self.values.T))
    mT = property(  # noqa: N815 - NumPy's name
        lambda self: self.like(np.swapaxes(self.values, -1, -2))
    )

    def like(self, values: Any) -> PreciseArray:
        """Give elements of the same arithmetic as a precise array."""
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
        return self.like(self.values[index])

    def __setitem__(self, index: Any, values: Any) -> None:
        held = self.arithmetic.array(values).values
        self.values[index] = held if held.ndim else held[()]

    def __array__(self, *_args: Any, **_kwargs: Any) -> Array:
        raise TypeError(
            "a precise array cannot become a plain one, its digits would be lost: "
            "call NumPy's functions on it as it is"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method == "reduce" and name in _REDUCTIONS:
            kwargs = {"axis": 0} | {k: v for k, v in kwargs.items() if k != "out"}
            return _FUNCTIONS[_REDUCTIONS[name]](*inputs, **kwargs)
        if method == "accumulate" and name in _REDUCTIONS:
            return self.like(_ufunc(self.arithmetic, name).accumulate(self.values, **kwargs))
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{name}.{method} with {sorted(kwargs)} has no precise form: call the plain function"
            )
        operands = [x if isinstance(x, PreciseArray) else self.arithmetic.array(x) for x in inputs]
        composed = _COMPOSED.get(name) or _of_scipy(ufunc)
        if composed is not None:
            return composed(*operands)
        observer = _OBSERVER.get()
        if self.arithmetic is BALLS and observer is None:
            matrix = held(ufunc, *operands)
            if matrix is not None:
                return PreciseArray(matrix, self.arithmetic)
        values = [x.values for x in operands]
        if ufunc is np.matmul:
            return self.like(matmul(self.arithmetic, *values))
        if ufunc in COMPARISONS:
            result: Any = compare(ufunc, *values)
        else:
            result = at_once(name, values) if self.arithmetic is BALLS else None
            if result is None:
                result = _ufunc(self.arithmetic, name)(*values)
            result = np.asarray(result, dtype=bool) if name in _PREDICATES else self.like(result)
        if observer is not None:
            observer(name, values, result)
        return result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _FUNCTIONS:
            return _FUNCTIONS[func](*args, **kwargs)
        if func not in _STRUCTURAL:
            raise TypeError(
                f"np.{func.__name__} has no precise form: add one line to precise.py, or do without it"
            )
        result = func(*(_unwrap(a, self.arithmetic) for a in args), **kwargs)
        return (
            [self.like(r) for r in result]
            if isinstance(result, list | tuple)
            else self.like(result)
        )

    def reshape(self, *shape: Any) -> PreciseArray:
        """As `ndarray.reshape`."""
        return self.like(self.values.reshape(shape[0] if len(shape) == 1 else shape))

    def dot(self, other: Any) -> Any:
        """As `ndarray.dot` of vectors and matrices."""
        return self @ other

    def copy(self) -> PreciseArray:
        """As `ndarray.copy`: elements of the copy can be assigned."""
        return self.like(self.values.copy())

    def astype(self, dtype: Any) -> Any:
        """Convert: exact numbers stay themselves as floats; to integers they are truncated."""
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        if name in FORMATS and self.arithmetic.cast is not None:
            return self.like(self.arithmetic.cast(self.values, FORMATS[name]))
        if name in FORMATS or np.dtype(dtype).kind == "f":
            return self
        if np.dtype(dtype).kind == "b":
            return self != 0
        whole = _COMPOSED["trunc"](self).values
        return np.asarray(np.frompyfunc(_integer, 1, 1)(whole)).astype(dtype)

    def _reduced(self, name: str, axis: Any = None, *, keepdims: bool = False) -> Any:
        return getattr(np, name)(self, axis=axis, keepdims=keepdims)

    sum = functools.partialmethod(_reduced, "sum")
    mean = functools.partialmethod(_reduced, "mean")
    max = functools.partialmethod(_reduced, "max")
    min = functools.partialmethod(_reduced, "min")
    prod = functools.partialmethod(_reduced, "prod")


def _integer(x: Any) -> int:
    return int(x.unique_fmpz() if isinstance(x, arb) else x)


def _unwrap(argument: Any, arithmetic: Arithmetic) -> Any:
    """Replace precise arrays, and floats beside them in a list, by object arrays."""
    if isinstance(argument, PreciseArray):
        return argument.values
    if isinstance(argument, list | tuple) and any(isinstance(a, PreciseArray) for a in argument):
        return [arithmetic.array(a).values for a in argument]
    return argument


# ---------------------------------------------------------------------------------------------
# Elements
# ---------------------------------------------------------------------------------------------

# Operators of elements: NumPy applies them to object arrays itself.
_OPERATORS: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "negative": np.negative,
    "positive": np.positive, "absolute": np.absolute, "fabs": np.absolute, "square": np.square,
}  # fmt: skip

_BINARY = str.split("add subtract multiply divide power maximum minimum arctan2 polygamma zeta")
_PREDICATES = ("isnan", "isfinite")


@functools.cache
def _ufunc(arithmetic: Arithmetic, name: str) -> Any:
    if name in arithmetic.functions:
        return np.frompyfunc(arithmetic.functions[name], 2 if name in _BINARY else 1, 1)
    if name in _OPERATORS:
        return _OPERATORS[name]
    raise TypeError(
        f"np.{name} has no precise form: add one line to precise.py, or write the definition without it"
    )


@functools.cache
def _of_scipy(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """Give the operation that scipy.special has under its own name, if it is no function of elements."""
    from .operations import OPERATIONS, SCIPY  # which are written with precise arrays

    return None if hasattr(np, ufunc.__name__) else OPERATIONS.get(SCIPY.get(ufunc.__name__, ""))


def elementwise(name: str, *operands: Any) -> PreciseArray:
    """Apply a function that NumPy does not have (``erf``, ``lgamma``) to every element."""
    arithmetic = _arithmetic(operands)
    result = _ufunc(arithmetic, name)(*(arithmetic.array(x).values for x in operands))
    return PreciseArray(np.asarray(result, dtype=object), arithmetic)


def _arithmetic(operands: Sequence[Any]) -> Arithmetic:
    return next(a for a in operands if isinstance(a, PreciseArray)).arithmetic


def _remainder(x: Any, y: Any) -> Any:
    return x - np.floor(x / y) * y


# Functions that are short formulas of others, over precise arrays.
_COMPOSED: dict[str, Callable[..., Any]] = {
    "reciprocal": lambda x: 1 / x, "exp2": lambda x: np.exp(x * np.log(1 + np.ones_like(x))),
    "log2": lambda x: np.log(x) / np.log(1 + np.ones_like(x)),
    "log10": lambda x: np.log(x) / np.log(9 + np.ones_like(x)),
    "logaddexp": lambda x, y: np.maximum(x, y) + np.log1p(np.exp(-abs(x - y))),
    "hypot": lambda x, y: np.sqrt(x * x + y * y), "trunc": lambda x: np.sign(x) * np.floor(abs(x)),
    "remainder": _remainder, "floor_divide": lambda x, y: np.floor(x / y),
    "fmod": lambda x, y: x - np.trunc(x / y) * y, "float_power": np.power,
    "cbrt": lambda x: np.sign(x) * abs(x) ** Fraction(1, 3),
    "isinf": lambda x: ~np.isfinite(x) & ~np.isnan(x), "signbit": lambda x: x < 0,
    "copysign": lambda x, y: np.where(y < 0, -abs(x), abs(x)),
    "heaviside": lambda x, half: np.where(x < 0, 0, np.where(x > 0, 1, half)),
    "fmax": lambda x, y: np.where(np.isnan(x), y, np.where(np.isnan(y), x, np.maximum(x, y))),
    "fmin": lambda x, y: np.where(np.isnan(x), y, np.where(np.isnan(y), x, np.minimum(x, y))),
    "logical_not": lambda x: x == 0, "logical_and": lambda x, y: (x != 0) & (y != 0),
    "logical_or": lambda x, y: (x != 0) | (y != 0),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Reductions and matrices
# ---------------------------------------------------------------------------------------------


def _accumulated(function: Callable[..., Any]) -> Callable[..., PreciseArray]:
    """Make a NumPy function that sums elements, or products of them, account for long sums."""

    def accumulate(*args: Any, **kwargs: Any) -> PreciseArray:
        arithmetic = _arithmetic(args)
        where = [i for i, a in enumerate(args) if isinstance(a, PreciseArray | np.ndarray)]

        def call(*operands: Array) -> Any:
            full = list(args)
            for i, operand in zip(where, operands, strict=True):
                full[i] = operand
            return function(*full, **kwargs)

        operands = [arithmetic.array(args[i]).values for i in where]
        result = PreciseArray(operands[0], arithmetic).like(arithmetic.accumulate(call, *operands))
        return result if all(a.size for a in operands) else arithmetic.array(result.values)

    return accumulate


def _one_axis(x: PreciseArray, axis: Any, *, keepdims: bool) -> tuple[Array, tuple[int, ...]]:
    """Move the reduced axes to the end and make them one; give also the reduced shape."""
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    reduced = {a % x.ndim for a in axes} if x.ndim else set()
    kept = [i for i in range(x.ndim) if i not in reduced]
    moved = x.values.transpose([*kept, *sorted(reduced)])
    shape = tuple(1 if i in reduced else n for i, n in enumerate(x.shape) if keepdims or i in kept)
    length = int(np.prod([x.shape[i] for i in reduced]))
    return moved.reshape(*(x.shape[i] for i in kept), length), shape


def _folded(name: str) -> Callable[..., PreciseArray]:
    def fold(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> PreciseArray:
        rows, shape = _one_axis(x, axis, keepdims=keepdims)
        if not rows.shape[-1] and name == "multiply":
            return x.arithmetic.array(np.ones(shape))
        return x.like(_ufunc(x.arithmetic, name).reduce(rows, axis=-1)).reshape(shape)

    return fold


def _cumulative_product(x: PreciseArray, axis: int) -> PreciseArray:
    return x.like(_ufunc(x.arithmetic, "multiply").accumulate(x.values, axis=axis))


def _mean(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / Fraction(x.size, max(total.size, 1)) if x.size else total / 0


def _variance(x: PreciseArray, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    squares = (x - _mean(x, axis, keepdims=True)) ** 2
    total = np.sum(squares, axis=axis, keepdims=keepdims)
    return total / (Fraction(x.size, max(total.size, 1)) - Fraction(ddof))


def _median(x: PreciseArray, axis: int | None = None, *, keepdims: bool = False) -> Any:
    rows, shape = _one_axis(x, axis, keepdims=keepdims)
    n = rows.shape[-1]
    middle = sort(x.like(rows), -1)[..., (n - 1) // 2 : n // 2 + 1]
    return _mean(middle, -1).reshape(shape)


def _inverse(a: PreciseArray) -> PreciseArray:
    return solve(a, np.broadcast_to(a.arithmetic.array(np.eye(a.shape[-1])), a.shape))  # type: ignore[no-any-return]  # a duck array


# ---------------------------------------------------------------------------------------------
# NumPy's functions
# ---------------------------------------------------------------------------------------------


def _where(condition: Array, x: Any, y: Any) -> PreciseArray:
    arithmetic = _arithmetic((x, y))
    return PreciseArray(
        np.where(condition, arithmetic.array(x).values, arithmetic.array(y).values), arithmetic
    )


def _filled(value: float | None) -> Callable[..., PreciseArray]:
    def fill(x: PreciseArray, fill_value: Any = value, **_dtype: Any) -> PreciseArray:
        return x.arithmetic.array(np.full(x.shape, fill_value))

    return fill


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


# What ufunc.reduce is under its own name.
_REDUCTIONS = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min}

# Functions with a meaning of their own for precise numbers.
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: _where, np.mean: _mean, np.var: _variance, np.std: lambda *a, **k: np.sqrt(_variance(*a, **k)),
    np.sum: _accumulated(np.sum), np.cumsum: _accumulated(np.cumsum), np.einsum: _accumulated(np.einsum),
    np.trace: _accumulated(np.trace), np.dot: _accumulated(np.dot),
    np.prod: _folded("multiply"), np.cumprod: _cumulative_product,
    np.max: _folded("maximum"), np.min: _folded("minimum"), np.amax: _folded("maximum"),
    np.amin: _folded("minimum"), np.argmax: arg_extremum(1), np.argmin: arg_extremum(-1),
    np.median: _median, np.sort: sort, np.argsort: argsort, np.clip: _clip,
    np.outer: lambda a, b: a.reshape(-1, 1) * b.reshape(1, -1),
    np.zeros_like: _filled(0), np.ones_like: _filled(1), np.full_like: _filled(None),
    np.empty_like: _filled(0), np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size, np.linalg.solve: solve, np.linalg.det: det, np.linalg.inv: _inverse,
}  # fmt: skip

# Functions that only move elements: NumPy's own serve on object arrays.
_STRUCTURAL: Sequence[Any] = (
    np.reshape, np.ravel, np.transpose, np.moveaxis, np.swapaxes, np.squeeze, np.expand_dims,
    np.broadcast_to, np.concatenate, np.stack, np.hstack, np.vstack, np.split, np.array_split, np.take,
    np.take_along_axis, np.repeat, np.tile, np.flip, np.roll, np.rot90, np.diagonal, np.copy, np.diff,
    np.atleast_1d, np.atleast_2d, np.delete,
)  # fmt: skip
