"""What NumPy's functions that are no ufuncs mean for precise arrays: reductions, matrices, moves."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .arrays import (
    FUNCTIONS,
    HiddenRows,
    Plain,
    PreciseArray,
    aligned,
    arithmetic_of,
    hidden_axes,
    of_elements,
    stackwise,
)
from .formats import Array
from .matrices import contract, det, solve
from .moves import marked, move, moved, rearranged
from .ordering import argsort, searchsorted, sort

# ---------------------------------------------------------------------------------------------
# Reductions and matrices
# ---------------------------------------------------------------------------------------------


def _summed(function: Callable[..., Any], *operands: Any) -> PreciseArray:
    """Apply a function that sums elements, or products of them, and account for long sums."""
    arithmetic = arithmetic_of(operands)
    values = [arithmetic.array(x).values for x in operands]
    result = PreciseArray(values[0], arithmetic).like(arithmetic.accumulate(function, *values))
    return result if all(a.size for a in values) else arithmetic.array(result.values)


def _sums(function: Callable[..., Any]) -> Callable[..., PreciseArray]:
    return lambda x, axis=None, **options: _summed(partial(function, axis=axis, **options), x)


def _folded(name: str) -> Callable[..., PreciseArray]:
    def fold(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> PreciseArray:
        if not x.size and name == "multiply":
            return x.arithmetic.array(np.prod(np.ones(x.shape), axis=axis, keepdims=keepdims))
        axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        values: Any = x.values
        for a in sorted({a % x.ndim for a in axes}, reverse=True):
            values = of_elements(x.arithmetic, name, 2).reduce(values, axis=a, keepdims=keepdims)
        return x.like(values)

    return fold


def _place_of(extremum: Callable[..., Any]) -> Callable[..., Array]:
    """Give argmax or argmin, the first place of the extremum itself; nan is it where there is one."""

    def place(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> Array:
        found = (x == extremum(x, axis, keepdims=True)) | np.isnan(x)
        return np.asarray(np.argmax(found, axis, keepdims=keepdims))

    return place


def _mean(x: PreciseArray, axis: Any = None, *, keepdims: bool = False) -> Any:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    terms = Fraction(x.size, max(total.size, 1)) if x.size else 0
    return total if terms == 1 else total / terms


def _variance(x: PreciseArray, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Any:
    squares = (x - _mean(x, axis, keepdims=True)) ** 2
    total = np.sum(squares, axis=axis, keepdims=keepdims)
    return total / (Fraction(x.size, max(total.size, 1)) - Fraction(ddof))


def _median(x: PreciseArray, axis: int | None = None, *, keepdims: bool = False) -> Any:
    along = x.reshape(-1) if axis is None else np.moveaxis(x, axis, -1)  # type: ignore[type-var]  # a duck array
    n = along.shape[-1]
    ordered: Any = np.sort(along)
    found = _mean(ordered[..., (n - 1) // 2 : n // 2 + 1], -1)
    return found.reshape(np.max(np.ones(x.shape), axis, keepdims=keepdims).shape)


def _differences(x: Any, n: int = 1, axis: int = -1) -> Any:
    for _ in range(n):
        along = np.moveaxis(x, axis, 0)
        x = np.moveaxis(along[1:] - along[:-1], 0, axis)
    return x


def _dot(*operands: Any) -> Any:
    a, b = map(arithmetic_of(operands).array, operands)
    if not (a.ndim and b.ndim):
        return a * b
    return contract(a, b, ([a.ndim - 1], [max(b.ndim - 2, 0)]))


def _inverse(a: PreciseArray) -> PreciseArray:
    return solve(a, np.broadcast_to(a.arithmetic.array(np.eye(a.shape[-1])), a.shape))  # type: ignore[no-any-return]  # a duck array


# ---------------------------------------------------------------------------------------------
# NumPy's functions
# ---------------------------------------------------------------------------------------------


def _where(condition: Any, x: Any, y: Any) -> PreciseArray:
    arithmetic = arithmetic_of((x, y))
    values, rows = aligned([condition, arithmetic.array(x), arithmetic.array(y)])
    return PreciseArray(np.where(*values), arithmetic, rows)


def _along(
    function: Callable[..., Any], *, flat: bool = False, default: int | None = None
) -> Callable[..., Any]:
    """Let a function along axes pass over the hidden axis of a batch.

    ``flat`` tells that with the axis None it takes the elements as one vector.
    """

    def along(x: PreciseArray, axis: Any = default, **options: Any) -> Any:
        if not x.rows:
            return function(x, axis, **options)
        if axis is None and flat:
            x, axis = x.reshape(-1), -1
        result = function(x.like(x.elements), hidden_axes(axis, x.ndim), **options)
        if isinstance(result, PreciseArray):
            return result.like(result.elements, x.rows)
        return Plain(result, x.rows)

    return along


def _einsum(subscripts: str, *operands: Any) -> PreciseArray:
    rows = max(getattr(x, "rows", 0) for x in operands)
    if not rows:
        return _summed(partial(np.einsum, subscripts), *operands)
    if "->" not in subscripts or "." in subscripts:
        raise HiddenRows(f"np.einsum of {subscripts}")
    terms, out = subscripts.split("->")
    marked = [
        f"...{t}" if getattr(x, "rows", 0) else t
        for t, x in zip(terms.split(","), operands, strict=True)
    ]
    arithmetic = arithmetic_of(operands)
    shown = [PreciseArray(arithmetic.array(x).elements, arithmetic) for x in operands]
    result = _summed(partial(np.einsum, f"{','.join(marked)}->...{out}"), *shown)
    return result.like(result.elements, rows)


def _filled(value: float | None) -> Callable[..., Any]:
    def fill(x: PreciseArray, fill_value: Any = value, *, dtype: Any = None) -> Any:
        made = np.full(x.shape, fill_value, dtype)
        return x.arithmetic.array(made) if dtype is None else made

    return fill


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _vander(x: PreciseArray, N: int | None = None, increasing: bool = False) -> Any:
    exponents = range(x.shape[-1] if N is None else N)
    return np.stack([x**k for k in (exponents if increasing else reversed(exponents))], axis=-1)


def _pad(
    x: PreciseArray,
    pad_width: Any,
    mode: str = "constant",
    *,
    constant_values: float = 0.0,
    **options: Any,
) -> PreciseArray:
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise TypeError(
            f"np.pad with mode={mode!r} has no precise form: pad with a number, or with elements"
        )
    options |= {"constant_values": -1} if mode == "constant" else {}
    pad: Any = np.pad  # of any options
    places = pad(marked([x])[0], pad_width, mode, **options)
    return moved([x], move(places), float(constant_values))


def _norm(x: PreciseArray, ord: Any = None, axis: Any = None, *, keepdims: bool = False) -> Any:  # noqa: A002 - NumPy's
    if ord not in (None, 2 if x.ndim == 1 or isinstance(axis, int) else "fro"):
        raise TypeError(f"np.linalg.norm with ord={ord!r} has no precise form: take the 2-norm")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


def _masked(mask: Callable[..., Array]) -> Callable[..., Any]:
    return lambda x, k=0: x * mask(np.ones(x.shape), k)


# Functions with a meaning of their own for precise numbers.
FUNCTIONS |= {
    np.where: _where, np.mean: _mean, np.var: _variance,
    np.std: lambda *a, **k: np.sqrt(_variance(*a, **k)),
    np.sum: _along(_sums(np.sum)), np.cumsum: _along(_sums(np.cumsum), flat=True),
    np.einsum: _einsum, np.dot: _dot,
    np.trace: lambda *a, **k: np.sum(np.diagonal(*a, **k), axis=-1),
    np.prod: _along(_folded("multiply")), np.cumprod: _along(np.multiply.accumulate, flat=True),
    np.max: _along(_folded("maximum")), np.min: _along(_folded("minimum")),
    np.argmax: _along(_place_of(np.max), flat=True), np.argmin: _along(_place_of(np.min), flat=True),
    np.sort: _along(sort, flat=True, default=-1), np.argsort: _along(argsort, flat=True, default=-1),
    np.searchsorted: searchsorted, np.median: _median, np.diff: _differences, np.clip: _clip,
    np.outer: lambda a, b: a.reshape(-1, 1) * b.reshape(1, -1),
    np.zeros_like: _filled(0), np.ones_like: _filled(1), np.full_like: _filled(None),
    np.empty_like: _filled(0), np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size, np.linalg.solve: stackwise(solve),
    np.pad: _pad, np.linalg.norm: _norm, np.tril: _masked(np.tril), np.triu: _masked(np.triu),
    np.linalg.det: stackwise(det), np.linalg.inv: stackwise(_inverse), np.vander: _vander,
}  # fmt: skip
FUNCTIONS |= {np.amax: FUNCTIONS[np.max], np.amin: FUNCTIONS[np.min]}

# Functions that only move elements.
FUNCTIONS |= {f: partial(rearranged, f) for f in (
    np.reshape, np.ravel, np.transpose, np.moveaxis, np.swapaxes, np.squeeze, np.expand_dims,
    np.broadcast_to, np.concatenate, np.stack, np.hstack, np.vstack, np.split, np.array_split, np.take,
    np.take_along_axis, np.repeat, np.tile, np.flip, np.roll, np.rot90, np.diagonal, np.copy,
    np.atleast_1d, np.atleast_2d, np.delete, np.append, np.column_stack, np.dstack, np.flipud, np.fliplr,
    sliding_window_view,
)}  # fmt: skip
