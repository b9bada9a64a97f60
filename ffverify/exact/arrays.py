"""Arrays of high-precision numbers with NumPy's semantics, over any arithmetic.

Plain NumPy code runs on a ``PreciseArray`` unchanged: ``np.log(1 + np.exp(x))`` with broadcasting,
reductions, ``np.where``, sorting, indexing, assignment, ``np.einsum`` and ``@``. Floats go in exactly. A
comparison that the working precision cannot decide raises ``Undecided``, never guesses; the caller then
asks for more bits. What NumPy's functions mean is looked up in two tables, ``UFUNCS`` and ``FUNCTIONS``,
which the modules fill that say so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .elements import integer
from .formats import FORMATS, Array, Format
from .matrices import arb_mat, entries, matmul
from .ordering import COMPARISONS, compare

# What ufuncs (by name) and other functions of NumPy mean for precise arrays, where that is more than a
# function of their arithmetic; and those that only move elements: NumPy's own serve on object arrays.
UFUNCS: dict[str, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
STRUCTURAL: set[Any] = set()

_PREDICATES = ("isnan", "isfinite")


class Shortcuts(NamedTuple):
    """Ways around a Python call for every element; the last two give None where they are none.

    ``entering(numbers)`` brings an ndarray in; ``as_matrices(ufunc, *arrays)`` keeps matrices whole;
    ``at_once(name, operands)`` applies a function to whole object arrays.
    """

    entering: Callable[[Array], Any]
    as_matrices: Callable[..., Any]
    at_once: Callable[[str, Sequence[Array]], Any]


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """One kind of high-precision number: how to make it, and its elementary functions.

    ``functions`` maps names (NumPy's, where it has one) to functions of elements; ``matmul``,
    ``solve`` and ``det`` take matrices as object arrays; ``exact`` makes an element from an int, a
    float or a Fraction. ``accumulate`` calls ``function(*operands)``, which sums the operands'
    elements or products of them (a sum, a matrix product): the place to account for long sums. ``cast``
    rounds to another float format; None if numbers are exact.
    """

    name: str
    exact: Callable[[Any], Any]
    precision: Callable[[int], AbstractContextManager[Any]]
    functions: dict[str, Callable[..., Any]]
    matmul: Callable[[Array, Array], Array]
    solve: Callable[[Array, Array], Array]
    det: Callable[[Array], Any]
    accumulate: Callable[..., Array] = lambda function, *operands: function(*operands)
    cast: Callable[[Array, Format], Array] | None = None
    shortcuts: Shortcuts | None = None

    def deriving(self, **changes: Any) -> Arithmetic:
        """Give this arithmetic with changes, which its shortcuts do not know."""
        return replace(self, shortcuts=None, **changes)

    def array(self, values: Any) -> PreciseArray:
        """Convert numbers, exactly, to an array of this arithmetic (float, int, bool or Fraction)."""
        if isinstance(values, PreciseArray):
            return values
        given = np.asarray(values)
        if self.shortcuts is not None and given.dtype not in (object, np.longdouble):
            return PreciseArray(self.shortcuts.entering(given), self)
        flat = list(map(self.exact, given.ravel().tolist()))
        if given.dtype == np.longdouble:  # tolist keeps longdouble scalars: two floats hold one
            flat = [self.exact(float(v)) + self.exact(float(v - float(v))) for v in given.ravel()]
        out = np.empty(given.size, dtype=object)
        out[:] = flat
        return PreciseArray(out.reshape(given.shape), self)


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
            return FUNCTIONS[_REDUCTIONS[name]](*inputs, **kwargs)
        if method == "accumulate" and name in _REDUCTIONS:
            return self.like(of_elements(self.arithmetic, name).accumulate(self.values, **kwargs))
        if method != "__call__" or kwargs:
            raise TypeError(
                f"np.{name}.{method} with {sorted(kwargs)} has no precise form: call the plain function"
            )
        operands = [x if isinstance(x, PreciseArray) else self.arithmetic.array(x) for x in inputs]
        if name in UFUNCS:
            return UFUNCS[name](*operands)
        observer, shortcuts = _OBSERVER.get(), self.arithmetic.shortcuts
        if shortcuts is not None and observer is None:
            matrix = shortcuts.as_matrices(ufunc, *operands)
            if matrix is not None:
                return PreciseArray(matrix, self.arithmetic)
        values = [x.values for x in operands]
        if ufunc is np.matmul:
            return self.like(matmul(self.arithmetic, *values))
        if ufunc in COMPARISONS:
            result: Any = compare(ufunc, *values)
        else:
            result = shortcuts.at_once(name, values) if shortcuts is not None else None
            if result is None:
                result = of_elements(self.arithmetic, name)(*values)
            result = np.asarray(result, dtype=bool) if name in _PREDICATES else self.like(result)
        if observer is not None:
            observer(name, values, result)
        return result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in FUNCTIONS:
            return FUNCTIONS[func](*args, **kwargs)
        if func not in STRUCTURAL:
            raise TypeError(
                f"np.{func.__name__} has no precise form: add a line to numpy_functions.py, or do without it"
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
        whole = UFUNCS["trunc"](self).values
        return np.asarray(np.frompyfunc(integer, 1, 1)(whole)).astype(dtype)

    def _reduced(self, name: str, axis: Any = None, *, keepdims: bool = False) -> Any:
        return getattr(np, name)(self, axis=axis, keepdims=keepdims)

    sum = functools.partialmethod(_reduced, "sum")
    mean = functools.partialmethod(_reduced, "mean")
    max = functools.partialmethod(_reduced, "max")
    min = functools.partialmethod(_reduced, "min")
    prod = functools.partialmethod(_reduced, "prod")


def _unwrap(argument: Any, arithmetic: Arithmetic) -> Any:
    """Replace precise arrays, and floats beside them in a list, by object arrays."""
    if isinstance(argument, PreciseArray):
        return argument.values
    if isinstance(argument, list | tuple) and any(isinstance(a, PreciseArray) for a in argument):
        return [arithmetic.array(a).values for a in argument]
    return argument


# What ufunc.reduce is under its own name.
_REDUCTIONS = {"add": np.sum, "multiply": np.prod, "maximum": np.max, "minimum": np.min}

# Operators of elements: NumPy applies them to object arrays itself.
_OPERATORS: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "negative": np.negative,
    "positive": np.positive, "absolute": np.absolute, "fabs": np.absolute, "square": np.square,
}  # fmt: skip

_BINARY = str.split("add subtract multiply divide power maximum minimum arctan2 polygamma zeta")


@functools.cache
def of_elements(arithmetic: Arithmetic, name: str) -> Any:
    """Give a function of elements as a ufunc of object arrays."""
    if name in arithmetic.functions:
        return np.frompyfunc(arithmetic.functions[name], 2 if name in _BINARY else 1, 1)
    if name in _OPERATORS:
        return _OPERATORS[name]
    raise TypeError(
        f"np.{name} has no precise form: add a line to numpy_functions.py, or write the definition without it"
    )


def elementwise(name: str, *operands: Any) -> PreciseArray:
    """Apply a function that NumPy does not have (``erf``, ``lgamma``) to every element."""
    arithmetic = arithmetic_among(operands)
    result = of_elements(arithmetic, name)(*(arithmetic.array(x).values for x in operands))
    return PreciseArray(np.asarray(result, dtype=object), arithmetic)


def arithmetic_among(operands: Sequence[Any]) -> Arithmetic:
    """Give the arithmetic of the first precise array."""
    return next(a for a in operands if isinstance(a, PreciseArray)).arithmetic
