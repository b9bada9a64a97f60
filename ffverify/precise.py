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
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

import numpy as np

from .arithmetic import (
    BALLS,
    MPMATH,
    Arithmetic,
    Undecided,
    arb,
    arb_mat,
    entries,
    matrix_of,
    mp,
)
from .formats import Array
from .ordering import COMPARISONS, along, argsort, compare, place_of_extremum

__all__ = [
    "BALLS",
    "MPMATH",
    "Arithmetic",
    "PreciseArray",
    "Undecided",
    "arb",
    "elementwise",
    "mp",
    "observed",
]


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
    from their making, through sums and products, until somebody asks for their elements: it adds three
    times and multiplies a hundred times as fast.
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
        self.values[index] = self.arithmetic.array(values).values

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
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{name}.{method} with {sorted(kwargs)} has no precise form: call the plain function"
            )
        operands = [self.arithmetic.array(x) for x in inputs]
        composed = _COMPOSED.get(name) or _of_scipy(ufunc)
        if composed is not None:
            return composed(*operands)
        observer = _OBSERVER.get()
        if self.arithmetic is BALLS and observer is None:
            matrix = _of_matrices(ufunc, *operands)
            if matrix is not None:
                return PreciseArray(matrix, self.arithmetic)
        values = [x.values for x in operands]
        if ufunc is np.matmul:
            return self.like(_matmul(self.arithmetic, *values))
        if ufunc in COMPARISONS:
            result: Any = compare(ufunc, *values)
        else:
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
        return self.like(self.values.reshape(*shape))

    def dot(self, other: Any) -> Any:
        """As `ndarray.dot` of vectors and matrices."""
        return self @ other

    def copy(self) -> PreciseArray:
        """As `ndarray.copy`: elements of the copy can be assigned."""
        return self.like(self.values.copy())

    def astype(self, dtype: Any) -> Any:
        """Convert: exact numbers stay themselves as floats; to integers they are truncated."""
        kind = np.dtype(dtype).kind
        if kind == "f":
            return self
        if kind == "b":
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


def _matmul(arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    """Multiply stacks of matrices with NumPy's rules for vectors and broadcasting."""
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    out = np.empty((*batch, left.shape[-2], right.shape[-1]), dtype=object)
    left = np.broadcast_to(left, (*batch, *left.shape[-2:]))
    right = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    for i in np.ndindex(batch):
        out[i] = arithmetic.accumulate(arithmetic.matmul, left[i], right[i])
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _of_matrices(ufunc: np.ufunc, *operands: PreciseArray) -> Any:
    """Apply a ufunc to matrices of balls as Arb holds them, if it can be."""
    if len(operands) != 2:
        return None
    a, b = operands
    if ufunc is np.matmul and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return _as_matrix(a) * _as_matrix(b)
    if ufunc is np.multiply and 0 in (a.ndim, b.ndim):
        matrix, factor = (a, b) if b.ndim == 0 else (b, a)
        return None if matrix.matrix is None else matrix.matrix * factor.values[()]
    if ufunc in _SUMS and a.shape == b.shape and a.matrix is not None and b.matrix is not None:
        return _SUMS[ufunc](a.matrix, b.matrix)
    return None


def _as_matrix(x: PreciseArray) -> Any:
    return matrix_of(x.values) if x.matrix is None else x.matrix


_SUMS: dict[Any, Callable[[Any, Any], Any]] = {np.add: operator.add, np.subtract: operator.sub}


def _solve(a: PreciseArray, b: PreciseArray) -> PreciseArray:
    """Solve stacks of systems a x = b, b a stack of matrices."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = np.broadcast_to(a.values, batch + a.shape[-2:])
    right = np.broadcast_to(b.values, batch + b.shape[-2:])
    out = np.empty(right.shape, dtype=object)
    for i in np.ndindex(batch):
        out[i] = a.arithmetic.solve(left[i], right[i])
    return b.like(out)


def _det(a: PreciseArray) -> PreciseArray:
    out = np.empty(a.shape[:-2], dtype=object)
    for i in np.ndindex(out.shape):
        out[i] = a.arithmetic.det(a.values[i])
    return a.like(out)


def _inverse(a: PreciseArray) -> PreciseArray:
    return _solve(a, np.broadcast_to(a.arithmetic.array(np.eye(a.shape[-1])), a.shape))  # type: ignore[arg-type]  # duck arrays


# ---------------------------------------------------------------------------------------------
# NumPy's functions
# ---------------------------------------------------------------------------------------------


def _where(condition: Array, x: Any, y: Any) -> PreciseArray:
    arithmetic = _arithmetic((x, y))
    return PreciseArray(
        np.where(condition, arithmetic.array(x).values, arithmetic.array(y).values), arithmetic
    )


def _argsort(x: PreciseArray, axis: int | None = -1, **_kind: Any) -> Array:
    """Sort indirectly; equal elements keep their order."""
    values = x.values.ravel() if axis is None else x.values
    return along(argsort, values, 0 if axis is None else axis)


def _sort(x: PreciseArray, axis: int | None = -1, **_kind: Any) -> PreciseArray:
    values = x.values.ravel() if axis is None else x.values
    axis = 0 if axis is None else axis
    return PreciseArray(
        np.take_along_axis(values, along(argsort, values, axis), axis), x.arithmetic
    )


def _arg_extremum(sign: int) -> Callable[..., Array]:
    place = functools.partial(place_of_extremum, sign)

    def arg(x: PreciseArray, axis: int | None = None, *, keepdims: bool = False) -> Array:
        if axis is None:
            found = np.asarray(place(x.values.ravel()))
            return found.reshape((1,) * x.ndim) if keepdims else found
        found = np.apply_along_axis(place, axis, x.values)
        return np.expand_dims(found, axis) if keepdims else found

    return arg


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
    np.amin: _folded("minimum"), np.argmax: _arg_extremum(1), np.argmin: _arg_extremum(-1),
    np.sort: _sort, np.argsort: _argsort, np.clip: _clip,
    np.outer: lambda a, b: a.reshape(-1, 1) * b.reshape(1, -1),
    np.zeros_like: _filled(0), np.ones_like: _filled(1), np.full_like: _filled(None),
    np.empty_like: _filled(0), np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size, np.linalg.solve: _solve, np.linalg.det: _det, np.linalg.inv: _inverse,
}  # fmt: skip

# Functions that only move elements: NumPy's own serve on object arrays.
_STRUCTURAL: Sequence[Any] = (
    np.reshape, np.ravel, np.transpose, np.moveaxis, np.swapaxes, np.squeeze, np.expand_dims,
    np.broadcast_to, np.concatenate, np.stack, np.hstack, np.vstack, np.split, np.array_split, np.take,
    np.take_along_axis, np.repeat, np.tile, np.flip, np.roll, np.rot90, np.diagonal, np.copy, np.diff,
    np.atleast_1d, np.atleast_2d, np.delete,
)  # fmt: skip
