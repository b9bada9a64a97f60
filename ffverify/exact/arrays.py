"""Arrays of high-precision numbers with NumPy's semantics, over any arithmetic.

Plain NumPy code runs on a ``PreciseArray`` unchanged: ``np.log(1 + np.exp(x))`` with broadcasting,
reductions, ``np.where``, sorting, indexing, assignment, ``np.einsum`` and ``@``. Floats go in exactly. A
comparison that the working precision cannot decide raises ``Undecided``, never guesses; the caller then
asks for more bits.

A *batch* is such an array with a hidden first axis, over rows that the same program treats alike: it has
the shape of one row, and every operation, at the price of one, is done for all of them. Code that would
see the hidden axis, and branches in which rows differ, raise ``HiddenRows``: that part is then run row by
row (`by_rows`).

What NumPy's functions mean is looked up in two tables, ``UFUNCS`` and ``FUNCTIONS``,
which the modules fill that say so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .elements import arb, boxed
from .formats import FORMATS, Array, Format
from .matrices import arb_mat, entries
from .ordering import COMPARISONS, compare

# What ufuncs (by name) and other functions of NumPy mean for precise arrays, where that is more than a
# function of their arithmetic.
UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}

_PREDICATES = ("isnan", "isfinite")


def _none(*_args: Any) -> None:
    """Know no way around."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """One kind of high-precision number: how to make it, and its elementary functions.

    ``functions`` maps names (NumPy's, where it has one) to functions of elements; ``matmul`` takes stacks
    of matrices as object arrays, or as floats, ``solve`` and ``det`` take matrices; ``exact`` makes an
    element from an int, a float or a Fraction. ``accumulate`` calls ``function(*operands)``, which sums the
    operands' elements or products of them (a sum, a matrix product): the place to account for long sums.
    Of rounded numbers ``format`` is what they are rounded to, ``cast`` rounds some to another format, and
    ``within`` gives the arithmetic that rounds to it; None if numbers are exact.
    ``observer(name, operands, result)`` is called after every elementwise operation.

    The others are ways around a Python call for every element: ``entering(numbers)`` brings an ndarray in,
    ``as_matrices(ufunc, *arrays)`` keeps matrices whole, ``at_once(name, operands)`` applies a function to
    whole object arrays; the last two give None where they are none.
    """

    name: str
    exact: Callable[[Any], Any]
    precision: Callable[[int], AbstractContextManager[Any]]
    functions: dict[str, Callable[..., Any]]
    matmul: Callable[[Array, Array], Array]
    solve: Callable[[Array, Array], Array]
    det: Callable[[Array], Any]
    accumulate: Callable[..., Array] = lambda function, *operands: function(*operands)
    format: Format | None = None
    cast: Callable[[Array, Format], Array] | None = None
    within: Callable[[Format], Arithmetic] | None = None
    observer: Callable[[str, Sequence[Array], Any], None] | None = None
    entering: Callable[[Array], Any] | None = None
    as_matrices: Callable[..., Any] = _none
    at_once: Callable[..., Any] = _none

    def deriving(self, **changes: Any) -> Arithmetic:
        """Give this arithmetic with changes, which its ways around single elements do not know."""
        ways = {"entering": None, "as_matrices": _none, "at_once": _none}
        return replace(self, **(ways | changes))

    def array(self, values: Any) -> PreciseArray:
        """Convert numbers, exactly, to an array of this arithmetic (float, int, bool or Fraction)."""
        if isinstance(values, PreciseArray):
            return values
        if isinstance(values, Plain):
            return PreciseArray(self.array(values.elements).elements, self, values.rows)
        given = np.asarray(values)
        if self.entering is not None and given.dtype not in (object, np.longdouble):
            return PreciseArray(self.entering(given), self)
        if given.dtype == np.longdouble:  # tolist keeps longdouble scalars: two floats hold one
            flat = [self.exact(float(v)) + self.exact(float(v - float(v))) for v in given.ravel()]
        else:
            flat = list(map(self.exact, given.ravel().tolist()))
        return PreciseArray(boxed(flat, given.shape), self)


@dataclass
class Run:
    """A run of plain NumPy code on exact numbers: their arithmetic, and the one format of its floats."""

    arithmetic: Arithmetic | None = None
    dtype: Any = None


RUNNING: ContextVar[Run] = ContextVar("RUNNING", default=Run())  # noqa: B039 - nothing runs, and no one sets it


class HiddenRows(TypeError):
    """Something that cannot be done to all rows of a batch at once."""


class Rows(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that may be a batch: then ``rows`` is the length of a hidden first axis."""

    __slots__ = ()
    elements: Any
    rows: int
    shape: Any

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))

    def like(self, values: Any, rows: int = 0) -> Any:
        """Give other elements as such an array, or as a batch of so many rows."""
        raise NotImplementedError

    def _numbers(self) -> Array:
        return np.arange(self.size).reshape(self.shape)

    def __getitem__(self, index: Any) -> Any:
        if not self.rows:
            return self.like(self.elements[index])
        places = np.asarray(self._numbers()[index])
        taken = self.elements.reshape(self.rows, -1)[:, places.ravel()]
        return _taken(self.like(taken.reshape(self.rows, *places.shape), self.rows))

    def reshape(self, *shape: Any) -> Any:
        """As `ndarray.reshape`."""
        new = shape[0] if len(shape) == 1 else shape
        if self.rows:  # -1 is the length that is left
            new = (self.rows, *np.empty(self.shape, dtype=bool).reshape(new).shape)
            return _taken(self.like(self.elements.reshape(new), self.rows))
        return self.like(self.elements.reshape(new))


def _taken(batch: Any) -> Any:
    if isinstance(batch, PreciseArray):
        batch.taken = True
    return batch


class PreciseArray(Rows):
    """An array of high-precision numbers that plain NumPy code computes with.

    ``values`` is an object array of one arithmetic's elements. Matrices of balls are held as Arb's own
    from their making, through sums and products, until somebody asks for their elements.
    """

    __slots__ = ("_held", "arithmetic", "rows", "taken")
    __array_priority__ = 1000

    def __init__(self, values: Any, arithmetic: Arithmetic, rows: int = 0) -> None:
        self._held = values
        self.arithmetic = arithmetic
        self.rows = rows  # of a batch: the length of the hidden axis; 0 for a plain array
        self.taken = False  # whether its elements are another batch's: a plain array may be a view

    @property
    def matrix(self) -> Any:
        """Arb's matrix, where it is still held as one."""
        return self._held if isinstance(self._held, arb_mat) else None

    @property
    def elements(self) -> Array:
        """The elements, an object array, with the hidden axis of a batch."""
        if isinstance(self._held, arb_mat):
            self._held = entries(self._held)
        return self._held  # type: ignore[no-any-return]  # one or the other

    @property
    def values(self) -> Array:
        """The elements, an object array; not of a batch."""
        if self.rows:
            raise HiddenRows("the elements of a batch")
        return self.elements

    @property
    def shape(self) -> tuple[int, ...]:
        """As `ndarray.shape`; of a batch: of one row."""
        held = self._held
        if isinstance(held, arb_mat):
            return (held.nrows(), held.ncols())
        return held.shape[1:] if self.rows else held.shape  # type: ignore[no-any-return]  # an ndarray's

    T = property(lambda self: np.transpose(self))  # noqa: PLW0108 - it is no function of objects
    mT = property(lambda self: np.swapaxes(self, -1, -2))  # noqa: N815 - NumPy's name

    def like(self, values: Any, rows: int = 0) -> PreciseArray:
        """Give elements of the same arithmetic as a precise array."""
        box = isinstance(values, np.ndarray)  # NumPy unwraps 0-d results
        return PreciseArray(values if box else boxed([values], ()), self.arithmetic, rows)

    def __repr__(self) -> str:
        return f"PreciseArray({self.elements}, {self.arithmetic.name})"

    def __len__(self) -> int:
        return len(np.empty(self.shape, dtype=bool))

    def __iter__(self) -> Iterator[PreciseArray]:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, index: Any, values: Any) -> None:
        given = self.arithmetic.array(values)
        if self.arithmetic.format is not None:
            given = given.astype(self.arithmetic.format.name)
        if self.taken:
            raise HiddenRows("a write to what NumPy may have as a view")
        if not self.rows:
            held = given.values
            self.elements[index] = held if held.ndim else held[()]
            return
        flat = np.ascontiguousarray(self.elements.reshape(self.rows, -1))
        places = np.asarray(self._numbers()[index])
        full, _ = aligned([given, PreciseArray(np.empty(places.shape, object), self.arithmetic)])
        shape = (self.rows, *places.shape)
        flat[:, places.ravel()] = np.broadcast_to(full[0], shape).reshape(self.rows, -1)
        self._held = flat.reshape(self.elements.shape)

    def __array__(self, *_args: Any, **_kwargs: Any) -> Array:
        raise TypeError(
            "a precise array cannot become a plain one, its digits would be lost: "
            "call NumPy's functions on it as it is"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        (into,) = kwargs.pop("out", (None,)) or (None,)
        if into is not None:
            into[...] = self.__array_ufunc__(ufunc, method, *inputs, **kwargs)
            return into
        arithmetic = self.arithmetic
        if kwargs or arithmetic.format is not None:
            inputs = tuple(promoted(inputs, kwargs))
            arithmetic = arithmetic_of(inputs)
        if method == "reduce" and name in _REDUCTIONS:
            kwargs = {"axis": 0} | kwargs
            return FUNCTIONS[_REDUCTIONS[name]](*inputs, **kwargs)
        if method == "accumulate" and name in _REDUCTIONS:
            (x,) = inputs
            return x.like(of_elements(arithmetic, name, 2).accumulate(x.values, **kwargs))
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{name}.{method} with {sorted(kwargs)} has no precise form: call the plain function"
            )
        operands, batch = [], False
        for x in inputs:  # as plain as can be: this runs for every operation of every program
            if not isinstance(x, PreciseArray):
                x = arithmetic.array(x)  # noqa: PLW2901
            batch = batch or x.rows > 0
            operands.append(x)
        if name in UFUNCS:
            return UFUNCS[name](*operands)
        observer = arithmetic.observer
        if observer is None and not batch:
            matrix = arithmetic.as_matrices(ufunc, *operands)
            if matrix is not None:
                return PreciseArray(matrix, arithmetic)
        if ufunc is np.matmul:
            return _multiplied(*operands)
        values, rows = aligned(operands) if batch else ([x.elements for x in operands], 0)
        if ufunc in COMPARISONS:
            result: Any = Plain.like(compare(ufunc, *values), rows)
        else:
            result = applied(arithmetic, name, values)
            if name in _PREDICATES:
                result = Plain.like(np.asarray(result, dtype=bool), rows)
            else:
                result = PreciseArray(result, arithmetic, rows)
        if observer is not None:
            observer(name, values, result)
        return result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in FUNCTIONS:
            return FUNCTIONS[func](*promoted(args, kwargs), **kwargs)
        raise TypeError(
            f"np.{func.__name__} has no precise form: add a line to numpy_functions.py, or do without it"
        )

    def dot(self, other: Any) -> Any:
        """As `ndarray.dot` of vectors and matrices."""
        return self @ other

    def copy(self) -> PreciseArray:
        """As `ndarray.copy`: elements of the copy can be assigned."""
        return self.like(self.elements.copy(), self.rows)

    def astype(self, dtype: Any) -> Any:
        """Convert, in another array: as floats exact numbers stay themselves, to integers they are cut."""
        name, arithmetic = np.dtype(dtype).name, self.arithmetic
        if np.dtype(dtype) != RUNNING.get().dtype and np.dtype(dtype).kind == "f":
            RUNNING.get().dtype = None  # which of them an array is of, it does not know
        if name in FORMATS and arithmetic.within is not None:
            cast = self.cast(FORMATS[name])
            return PreciseArray(cast.elements.copy(), arithmetic.within(FORMATS[name]), self.rows)
        if name in FORMATS or np.dtype(dtype).kind == "f":
            return self.copy()
        if np.dtype(dtype).kind == "b":
            return self != 0
        whole = UFUNCS["trunc"](self).elements
        integer = np.frompyfunc(lambda x: int(x.unique_fmpz() if isinstance(x, arb) else x), 1, 1)
        return Plain.like(np.asarray(integer(whole)).astype(dtype), self.rows)

    def cast(self, to: Format) -> PreciseArray:
        """Round to a format if numbers are rounded, as frameworks do whose results say of which they are."""
        cast = self.arithmetic.cast
        return self if cast is None else self.like(cast(self.elements, to), self.rows)

    def _reduced(self, name: str, axis: Any = None, dtype: Any = None, **options: Any) -> Any:
        options |= {} if dtype is None else {"dtype": dtype}
        return getattr(np, name)(self, axis=axis, **options)

    def flatten(self) -> Any:
        """As `ndarray.flatten`, which copies."""
        return self.copy().reshape(-1)

    def transpose(self, *axes: Any) -> Any:
        """As `ndarray.transpose`."""
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    @property
    def dtype(self) -> Any:
        """The format of a program's floats, where all have one: exact numbers themselves have none."""
        dtype = RUNNING.get().dtype
        if dtype is None:
            raise AttributeError("exact numbers have no dtype")
        return dtype

    sum = functools.partialmethod(_reduced, "sum")
    mean = functools.partialmethod(_reduced, "mean")
    max = functools.partialmethod(_reduced, "max")
    min = functools.partialmethod(_reduced, "min")
    prod = functools.partialmethod(_reduced, "prod")


def _method(name: str) -> Callable[..., Any]:
    return lambda *args, **options: getattr(np, name)(*args, **options)  # noqa: PLW0108 - NumPy's do not bind


for _name in str.split(
    "ravel squeeze swapaxes repeat take diagonal argsort argmax argmin cumsum cumprod clip trace std var"
):
    setattr(PreciseArray, _name, _method(_name))  # as ndarray's


class Plain(Rows):
    """A batch of truth values or integers: what comparisons of batches give."""

    __slots__ = ("elements", "rows")
    __array_priority__ = 900

    def __init__(self, elements: Array, rows: int) -> None:
        self.elements, self.rows = elements, rows

    @staticmethod
    def like(values: Any, rows: int = 0) -> Any:
        """Give truth values or integers as they are, or as a batch of so many rows."""
        return Plain(values, rows) if rows else np.asarray(values)

    shape = property(lambda self: self.elements.shape[1:])
    dtype = property(lambda self: self.elements.dtype)

    def alike(self) -> Array:
        """Give the values of a row, if they are those of all; else raise `HiddenRows`."""
        if (self.elements != self.elements[:1]).any():
            raise HiddenRows("rows that differ")
        return self.elements[0]  # type: ignore[no-any-return]  # an ndarray

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        return np.array(self.alike(), *args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self.alike())

    def __int__(self) -> int:
        return int(self.alike())

    __index__ = __int__

    def astype(self, dtype: Any) -> Plain:
        """As `ndarray.astype`."""
        return Plain(self.elements.astype(dtype), self.rows)

    def _told(self, name: str, axis: Any = None, *, keepdims: bool = False) -> Any:
        axes = hidden_axes(axis, self.ndim)
        found = getattr(self.elements, name)(axis=axes, keepdims=keepdims)
        return Plain(np.asarray(found), self.rows)

    any = functools.partialmethod(_told, "any")
    all = functools.partialmethod(_told, "all")
    sum = functools.partialmethod(_told, "sum")
    max = functools.partialmethod(_told, "max")
    min = functools.partialmethod(_told, "min")

    def __getattr__(self, name: str) -> Any:
        """Give what arrays have besides, of values that are alike in all rows."""
        if name.startswith("__"):  # NumPy's protocols: it is no array of so many rows
            raise AttributeError(name)
        return getattr(self.alike(), name)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, PreciseArray) for x in inputs):
            return NotImplemented  # which then gives what it is of
        if method != "__call__" or kwargs:
            raise HiddenRows(f"np.{ufunc.__name__}.{method}")
        values, rows = aligned(inputs)
        return Plain(np.asarray(ufunc(*values)), rows)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        arrays = [a for a in flattened(args) if isinstance(a, PreciseArray)]
        if arrays:
            return arrays[0].__array_function__(func, types, args, kwargs)
        if func in (np.any, np.all, np.sum, np.max, np.min):
            return getattr(self, func.__name__)(*args[1:], **kwargs)
        if func is np.count_nonzero:
            return (self != 0).sum(*args[1:], **kwargs)
        if func is np.where and len(args) == 3:
            values, rows = aligned(args)
            return Plain(np.where(*values), rows)
        raise HiddenRows(f"np.{func.__name__}")


def hidden_axes(axis: Any, ndim: int) -> Any:
    """Give axes counted from the end, where a hidden first one does not matter; None: all of them."""
    if axis is None:
        return tuple(range(-ndim, 0))
    if isinstance(axis, int | np.integer):
        return axis % ndim - ndim
    return tuple(a % ndim - ndim for a in axis)


def aligned(operands: Sequence[Any]) -> tuple[list[Any], int]:
    """Give the elements of arrays, hidden axes first and as many others in all batches, and the rows."""
    bare = [x.elements if isinstance(x, Rows) else x for x in operands]
    rows = [x.rows if isinstance(x, Rows) else 0 for x in operands]
    most = max(rows, default=0)
    if most:
        # Axes of arrays that are no batch are counted from the last one anyway.
        ndim = max([np.ndim(b) + (not r) for b, r in zip(bare, rows, strict=True)])
        for i, r in enumerate(rows):
            if r and bare[i].ndim < ndim:
                shape = bare[i].shape
                bare[i] = bare[i].reshape(r, *(1,) * (ndim - len(shape)), *shape[1:])
    return bare, most


def _multiplied(a: PreciseArray, b: PreciseArray) -> PreciseArray:
    """Multiply matrices, stacks and vectors of them."""
    left = a.reshape(1, -1) if a.ndim == 1 else a
    right = b.reshape(-1, 1) if b.ndim == 1 else b
    values, rows = aligned([left, right])
    out = a.like(a.arithmetic.accumulate(a.arithmetic.matmul, *values), rows)
    shape = out.shape[:-2] + out.shape[-1:] if a.ndim == 1 else out.shape
    shape = shape[:-1] if b.ndim == 1 else shape
    return out if len(shape) == out.ndim else out.reshape(shape)


def flattened(values: Any) -> Iterator[Any]:
    """Give values, and in the place of lists and tuples what these hold."""
    for v in values:
        if isinstance(v, list | tuple):
            yield from flattened(v)
        else:
            yield v


def promoted(values: Sequence[Any], options: dict[str, Any]) -> Sequence[Any]:
    """Give operands in the format of a ``dtype`` among the options, else of the widest, as NumPy computes.

    Python's own numbers have none. What is done by this is taken out of the options.
    """
    options.pop("casting", None)
    dtype = options.get("dtype")
    if dtype is None or np.dtype(dtype).kind == "f":
        options.pop("dtype", None)
    else:
        return values
    within = getattr(arithmetic_of(values), "within", None)
    if within is not None:
        numbers = [v for v in flattened(values) if isinstance(v, np.ndarray | np.generic)]
        kinds = [within(FORMATS[v.dtype.name]) for v in numbers if v.dtype.name in FORMATS]
        kinds += [v.arithmetic for v in flattened(values) if isinstance(v, PreciseArray)]
        dtype = dtype or max(kinds, key=lambda a: (a.format.precision, -a.format.emin)).format.name

    def brought(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(brought, value))
        return value.astype(dtype) if isinstance(value, PreciseArray) else value

    return values if dtype is None else [brought(v) for v in values]


def arithmetic_of(values: Any) -> Any:
    """Give the arithmetic of the first precise array among values, looking into lists; None without any."""
    return next((v.arithmetic for v in flattened(values) if isinstance(v, PreciseArray)), None)


def flat_rows(a: PreciseArray, rows: int) -> Array:
    """Give the elements as one vector for each row, the same for all if it is no batch."""
    return np.broadcast_to(a.elements.reshape(a.rows or 1, a.size), (rows, a.size))


def by_rows(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function once for every row of the batches among its arguments, and put the rows together."""
    if getattr(arithmetic_of(args), "observer", None) is not None:
        raise HiddenRows("operations on single rows, of which an observer does not know the place")
    batches = [a for a in flattened(args) if getattr(a, "rows", 0)]
    if all(isinstance(b, Plain) for b in batches):  # integers of few kinds
        first, which = distinct_rows(batches)
    else:
        first = which = list(range(batches[0].rows))
    found = [function(*(row_of(a, i) for a in args)) for i in first]
    return stacked([found[k] for k in which])


def distinct_rows(batches: Sequence[Plain]) -> tuple[list[int], list[int]]:
    """Give rows that differ, and for every row which of them it is."""
    flat = np.concatenate([b.elements.reshape(b.rows, -1) for b in batches], axis=1)
    places = dict[bytes, int]()
    which = [places.setdefault(row.tobytes(), len(places)) for row in flat]
    return [which.index(k) for k in range(len(places))], which


def stackwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of stacks of matrices take batches: the hidden axis is the first of a stack."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        arithmetic = arithmetic_of(args)
        values, rows = aligned([arithmetic.array(a) for a in args])
        result = function(*(PreciseArray(v, arithmetic) for v in values), **options)
        if not rows:
            return result
        return tuple(map(whole, result)) if isinstance(result, tuple) else whole(result)

    def whole(result: Any) -> Any:
        precise = isinstance(result, PreciseArray)
        return result.like(result.elements, len(result)) if precise else plain_batch(result)

    return call


def row_of(value: Any, i: int) -> Any:
    """Give one row of a batch, or of the batches in lists and tuples; the rest as it is."""
    if getattr(value, "rows", 0):
        return value.like(value.elements[i])
    if isinstance(value, list | tuple):
        return type(value)(row_of(v, i) for v in value)
    return value


def rows_of(values: Sequence[Any], some: Array) -> list[Any]:
    """Give some rows of the batches among values."""
    return [v.like(v.elements[some], len(some)) if getattr(v, "rows", 0) else v for v in values]


def every_row(value: Any, rows: int) -> Any:
    """Give a value as a batch of so many rows, all alike if it is none; as it is where there are no rows."""
    if value.rows or not rows:
        return value
    return value.like(np.broadcast_to(value.elements, (rows, *value.shape)), rows)


def batch(arrays: Sequence[Any]) -> Any:
    """Make arrays of one shape a batch: each is a row, or a batch of rows itself."""
    elements = np.concatenate([a.elements if a.rows else a.elements[None] for a in arrays])
    return arrays[0].like(elements, len(elements))


def stacked(results: Sequence[Any]) -> Any:
    """Put the results for rows together as batches; integers that are the same in all rows are no batch."""
    first = results[0]
    if isinstance(first, list | tuple):
        return type(first)(stacked(parts) for parts in zip(*results, strict=True))
    if first is None or isinstance(first, str):
        return first
    precise = isinstance(first, PreciseArray)
    rows = results if precise else list(map(np.asarray, results))
    if len({r.shape for r in rows}) > 1:
        raise HiddenRows("rows of different shapes")
    if precise:
        return batch(rows)
    return plain_batch(np.stack(rows))


def plain_batch(whole: Array) -> Any:
    """Give truth values or integers of rows as a batch, or those of one row if they are the same in all."""
    return np.asarray(whole[0]) if (whole == whole[0]).all() else Plain(whole, len(whole))


# What ufunc.reduce is under its own name.
_REDUCTIONS = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min}

# Operators of elements: NumPy applies them to object arrays itself.
_OPERATORS: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "negative": np.negative,
    "positive": np.positive, "absolute": np.absolute, "fabs": np.absolute, "square": np.square,
}  # fmt: skip


@functools.lru_cache(2**12)  # some arithmetics are made for one run
def of_elements(arithmetic: Arithmetic, name: str, operands: int) -> Any:
    """Give a function of so many elements as a ufunc of object arrays."""
    if name in arithmetic.functions:
        return np.frompyfunc(arithmetic.functions[name], operands, 1)
    if name in _OPERATORS:
        return _OPERATORS[name]
    raise TypeError(
        f"np.{name} has no precise form: add a row to operations.py, or write the definition without it"
    )


def applied(arithmetic: Arithmetic, name: str, values: Sequence[Array]) -> Array:
    """Apply a function to every element of object arrays."""
    result = arithmetic.at_once(name, values)
    if result is None:
        result = of_elements(arithmetic, name, len(values))(*values)
    return np.asarray(result, dtype=object)


def elementwise(name: str, *operands: Any) -> PreciseArray:
    """Apply a function that NumPy does not have (``erf``, ``lgamma``) to every element."""
    arithmetic = arithmetic_of(operands)
    values, rows = aligned([arithmetic.array(x) for x in operands])
    return PreciseArray(applied(arithmetic, name, values), arithmetic, rows)
