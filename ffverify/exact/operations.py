"""THE table of operations that a shadow knows: one operation, one line, over precise arrays.

The front ends (NumPy's graphs, torch's ATen, JAX's jaxprs) translate names and arguments; what an
operation *means* on exact numbers is written here once. Operations that only move elements have no
line at all: `moved` asks the framework itself where each element goes. Whatever else a program does
is decomposed into these, or is unknown and named so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from . import numpy_functions  # noqa: F401 - fills tables that operations rest on
from .arithmetic import BALLS
from .arrays import UFUNCS, Arithmetic, PreciseArray, elementwise, flat_rows, rowwise
from .formats import Array
from .programs import UnknownOperation

Value = Any  # a PreciseArray, an integer or boolean ndarray, a Python number, or a list of these


def arithmetic_of(values: Any) -> Arithmetic | None:
    """Give the arithmetic of the first precise array among values, looking into lists."""
    for value in values:
        if isinstance(value, PreciseArray):
            return value.arithmetic
        if isinstance(value, list | tuple):
            found = arithmetic_of(value)
            if found is not None:
                return found
    return None


# ---------------------------------------------------------------------------------------------
# Moving elements
# ---------------------------------------------------------------------------------------------


def labels(arrays: Sequence[PreciseArray]) -> list[Array]:
    """Give every element of all arrays a number, from 1 on; 0 is left to stand for a zero."""
    ends = np.cumsum([1, *(a.size for a in arrays)])
    return [
        np.arange(start, start + a.size).reshape(a.shape)
        for start, a in zip(ends[:-1], arrays, strict=True)
    ]


def moved(arrays: Sequence[PreciseArray], places: Array, outside: float = math.nan) -> PreciseArray:
    """Put elements where their labels went; 0 gives zero, a negative label what fills from outside."""
    arithmetic = arrays[0].arithmetic
    places = np.asarray(places).astype(np.int64)
    if len(arrays) == 1 and arrays[0].matrix is not None:  # a matrix as it is, or transposed
        own = labels(arrays)[0]
        if np.array_equal(places, own):
            return PreciseArray(arrays[0].matrix, arithmetic)
        if np.array_equal(places, own.T):
            return PreciseArray(arrays[0].matrix.transpose(), arithmetic)
    rows = max(a.rows for a in arrays)
    pool = np.empty((rows or 1, sum(a.size for a in arrays) + 2), dtype=object)
    pool[:, 0], pool[:, -1] = arithmetic.exact(0), arithmetic.exact(outside)
    pool[:, 1:-1] = np.concatenate([flat_rows(a, rows or 1) for a in arrays], axis=1)
    taken = pool[:, np.where(places < 0, -1, places).ravel()]
    shape = (rows, *places.shape) if rows else places.shape
    return PreciseArray(taken.reshape(shape), arithmetic, rows)


# ---------------------------------------------------------------------------------------------
# Operations that NumPy has under no name
# ---------------------------------------------------------------------------------------------


def _one(x: PreciseArray) -> PreciseArray:
    return np.ones_like(x)  # type: ignore[return-value]  # a duck array


def _pi(like: PreciseArray) -> Any:
    return 4 * np.arctan(_one(like))


def _scatter(combine: str) -> Callable[..., PreciseArray]:
    """Combine updates into a copy of x at flat positions, duplicates one after the other."""

    @rowwise
    def scatter(x: PreciseArray, positions: Array, updates: Any) -> PreciseArray:
        flat = x.values.ravel().copy()
        values = np.broadcast_to(x.arithmetic.array(updates).values, positions.shape).ravel()
        groups: dict[int, list[Any]] = {}
        for place, value in zip(positions.ravel().tolist(), values, strict=True):
            groups.setdefault(place, []).append(value)
        for place, group in groups.items():
            terms = np.empty(len(group) + 1, dtype=object)
            terms[0], terms[1:] = flat[place], group
            folded = OPERATIONS[combine](PreciseArray(terms, x.arithmetic))
            flat[place] = folded.values[()]
        return PreciseArray(flat.reshape(x.shape), x.arithmetic)

    return scatter


@rowwise
def _cholesky(a: PreciseArray) -> PreciseArray:
    """Factor a = L Lᵀ, column by column."""
    n = a.shape[-1]
    L: Any = np.zeros_like(a).copy()
    for j in range(n):
        row = L[..., j, :j]
        L[..., j, j] = np.sqrt(a[..., j, j] - np.sum(row * row, axis=-1))
        for i in range(j + 1, n):
            rest = a[..., i, j] - np.sum(L[..., i, :j] * row, axis=-1)
            L[..., i, j] = rest / L[..., j, j]
    return L  # type: ignore[no-any-return]  # a duck array


def _cumulative(ufunc: str) -> Callable[..., Any]:
    def accumulate(x: PreciseArray, axis: int) -> Any:
        if not x.size:
            return x
        parts: Any = np.moveaxis(x, axis, 0)  # type: ignore[type-var]  # a duck array
        steps: Any = np.stack(list(itertools.accumulate(parts, getattr(np, ufunc))))
        return np.moveaxis(steps, 0, axis)

    return accumulate


def _xlog(logarithm: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def product(x: Any, y: Any) -> Any:
        arithmetic = arithmetic_of((x, y)) or BALLS
        x, y = arithmetic.array(x), arithmetic.array(y)
        return np.where((x == 0) & ~np.isnan(y), 0, x * logarithm(y))

    return product


def _sinc(x: Any) -> Any:
    angle = _pi(x) * x
    return np.where(x == 0, 1, np.sin(angle) / np.where(x == 0, 1, angle))


def _select(which: Array, *cases: Any) -> Any:
    """Choose among cases by index, elementwise (booleans choose among two)."""
    arithmetic = arithmetic_of(cases)
    if len(cases) == 2 and arithmetic is not None:
        return np.where(which != 0, cases[1], cases[0])
    chosen = np.asarray(which).astype(np.int64)
    if arithmetic is None:
        return np.choose(chosen, cases)
    cases = tuple(arithmetic.array(c) for c in cases)
    return reduce(
        lambda out, i: np.where(chosen == i, cases[i], out), range(1, len(cases)), cases[0]
    )


def _contract(a: Any, b: Any, over: Any, batch: Any = ((), ())) -> Any:
    """Multiply and sum over pairs of axes; the result has batch axes, then a's, then b's others."""
    (over_a, over_b), (batch_a, batch_b) = over, batch
    free_a = [i for i in range(a.ndim) if i not in {*over_a, *batch_a}]
    free_b = [i for i in range(b.ndim) if i not in {*over_b, *batch_b}]
    size = int(np.prod([a.shape[i] for i in over_a]))
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    stack = [a.shape[i] for i in batch_a]
    left = np.transpose(a, [*batch_a, *free_a, *over_a]).reshape(*stack, int(np.prod(rows)), size)
    right = np.transpose(b, [*batch_b, *over_b, *free_b]).reshape(
        *stack, size, int(np.prod(columns))
    )
    return (left @ right).reshape(*stack, *rows, *columns)


def _named(name: str) -> Callable[..., Any]:
    return partial(elementwise, name)


# ---------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------

# Operations of NumPy that mean the same under NumPy's name: precise.py has them.
_NUMPY = str.split("""
    add subtract multiply divide power float_power negative positive absolute square sqrt cbrt reciprocal
    exp exp2 expm1 log log2 log10 log1p logaddexp sin cos tan arcsin arccos arctan arctan2 sinh cosh
    tanh arcsinh arccosh arctanh hypot maximum minimum fmax fmin floor ceil trunc rint sign copysign heaviside
    remainder fmod floor_divide isnan isfinite isinf signbit greater greater_equal less less_equal
    equal not_equal logical_not logical_and logical_or
    sum prod mean max min argmax argmin cumsum cumprod sort argsort where matmul
""")

OPERATIONS: dict[str, Callable[..., Any]] = {name: getattr(np, name) for name in _NUMPY} | {
    "erf": _named("erf"),
    "erfc": _named("erfc"),
    "erfinv": _named("erfinv"),
    "erfcx": lambda x: np.exp(x * x) * elementwise("erfc", x),
    "lgamma": _named("lgamma"),
    "digamma": _named("digamma"),
    "polygamma": _named("polygamma"),
    "zeta": _named("zeta"),
    "i0": _named("i0"),
    "i1": _named("i1"),
    "i0e": lambda x: np.exp(-abs(x)) * elementwise("i0", x),
    "i1e": lambda x: np.exp(-abs(x)) * elementwise("i1", x),
    "ndtr": lambda x: elementwise("erfc", -x / np.sqrt(1 + _one(x))) / 2,
    "log_ndtr": lambda x: np.log(elementwise("erfc", -x / np.sqrt(1 + _one(x))) / 2),
    "ndtri": lambda p: np.sqrt(1 + _one(p)) * elementwise("erfinv", 2 * p - 1),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sinc": _sinc,
    "xlogy": _xlog(np.log),
    "xlog1py": _xlog(np.log1p),
    "entr": lambda x: -_xlog(np.log)(x, x),
    "integer_power": lambda x, y: x ** int(y),
    "cummax": _cumulative("maximum"),
    "cummin": _cumulative("minimum"),
    "logcumsumexp": lambda x, axis: np.log(np.cumsum(np.exp(x), axis=axis)),
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "select": _select,
    "contract": _contract,
    "scatter_add": _scatter("sum"),
    "scatter_multiply": _scatter("prod"),
    "scatter_maximum": _scatter("max"),
    "scatter_minimum": _scatter("min"),
    "inverse": np.linalg.inv,
    "solve": np.linalg.solve,
    "determinant": np.linalg.det,
    "cholesky": _cholesky,
}

# What scipy.special calls some of them.
UFUNCS |= {
    theirs: OPERATIONS[ours]
    for theirs, ours in {
        "gammaln": "lgamma", "psi": "digamma", "expit": "sigmoid",
        **{n: n for n in str.split("ndtr log_ndtr ndtri xlogy xlog1py entr erfcx i0e i1e")},
    }.items()
}  # fmt: skip


def operation(name: str) -> Callable[..., Any]:
    """Give the operation of that name.

    Raises
    ------
    UnknownOperation
        If the table has no line for it.
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        raise UnknownOperation(name) from None
