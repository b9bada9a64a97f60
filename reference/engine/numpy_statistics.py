"""NumPy's functions that reduce, count, order and interpolate, on traced values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ffverify.reference.primitives import elementary, reductions, shaping
from ffverify.reference.primitives.elementary import divide, isnan, multiply, where
from ffverify.reference.primitives.reductions import axes, listed_axes
from ffverify.reference.primitives.shaping import gather, number, take_along, transpose, with_memory

from .numpy_shapes import flat, in_layout_of, is_row_of_one, ravel, size, stack, take
from .primitive import astype, broadcast_to, constant, kept, reshape
from .var import (
    ACCUMULATIONS,
    FUNCTIONS,
    NOT_GIVEN,
    REDUCTIONS,
    UFUNCS,
    Value,
    Var,
    as_array,
    as_operand,
    concrete,
    dtype_of,
    implements,
    innermost,
    shape_of,
)

Axis = Any


# Reductions ------------------------------------------------------------------------------------------
def _as_floats(x: Value, dtype: Any) -> Value:
    """Give x the dtype that was asked for, if one was."""
    if dtype is None:
        return x
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype={np.dtype(dtype)} has no rule: take a floating one, and cast after")
    return astype(x, dtype=np.dtype(dtype))


def _is_whole(dtype: Any) -> bool:
    """Whether integers or truth values are asked for, which have no slope."""
    return dtype is not None and np.dtype(dtype).kind in "iub"


in_whole_numbers = constant("in_whole_numbers", lambda x, *, function, **how: function(x, **how))


def _in_whole_numbers(function: Callable[..., Any], x: Value, **how: Any) -> Value:
    """Return what NumPy's function gives in a dtype of which `_is_whole` says so."""
    how = {name: concrete(value) for name, value in how.items()}
    return in_whole_numbers(x, function=function, **how)


def of_nothing(function: Callable[..., Any], x: Value, **how: Any) -> Any:
    """Let NumPy say what is no argument: what it makes of zeros in an array of x's shape and dtype."""
    zeros = np.broadcast_to(np.zeros((), dtype_of(x)), shape_of(x))
    return function(zeros, **{name: innermost(value) for name, value in how.items()})


def _reduction(
    ufunc: np.ufunc, function: Callable[..., Value], neutral: float | None
) -> Callable[..., Value]:
    """Make NumPy's arguments of a reduction: dtype, initial and where, beside axis and keepdims."""

    def reduce(
        x: Value,
        axis: Axis = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = NOT_GIVEN,
        where: Any = True,
    ) -> Value:
        plain = dtype is out is None and initial is NOT_GIVEN and where is True
        if plain and type(keepdims) is bool:  # the usual case, quickly
            return function(x, axis=axis, keepdims=keepdims)
        if out is not None:
            raise TypeError("out= would write into an existing array: give the result a name")
        how = {"axis": axis, "dtype": dtype, "keepdims": keepdims, "where": where}
        if initial is not NOT_GIVEN:
            how["initial"] = initial
        shape = of_nothing(ufunc.reduce, x, **how).shape
        if _is_whole(dtype):
            return _in_whole_numbers(ufunc.reduce, x, **how)
        x = _as_floats(x, dtype)
        if initial is NOT_GIVEN or initial is None:  # None says that there is no neutral element
            left_out = initial = None
        else:
            left_out = initial = astype(as_array(initial), dtype=dtype_of(x))
        if neutral is not None:
            left_out = np.asarray(neutral, dtype_of(x))
        if where is not True:
            x = elementary.where(where, x, left_out)
        if neutral is None and not size(x, axes(x, axis, of_number=True)):
            return number(broadcast_to(left_out, shape=shape))
        y = function(x, axis=axis, keepdims=bool(keepdims))
        return y if initial is None else UFUNCS[ufunc](y, initial)

    return reduce


_sum = _reduction(np.add, reductions.sum_, 0)
_prod = _reduction(np.multiply, reductions.prod, 1)
_max = _reduction(np.maximum, reductions.max_, None)
_min = _reduction(np.minimum, reductions.min_, None)


def _without_dtype(function: Callable[..., Value]) -> Callable[..., Value]:
    return lambda x, axis=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True: function(
        x, axis, None, out, keepdims, initial, where
    )


def _by_axis_0(function: Callable[..., Value]) -> Callable[..., Value]:
    """Make ``ufunc.reduce``, whose axis is 0 unless given."""
    return lambda x, axis=0, dtype=None, out=None, **options: function(
        x, axis, dtype, out, **options
    )


def _index(primitive: Any) -> Callable[..., Value]:
    return lambda x, axis=None, *, keepdims=False: primitive(x, axis=axis, keepdims=keepdims)


def _quantified(primitive: Any, *, missing: bool) -> Callable[..., Value]:
    """Make NumPy's arguments of "for all" and "for any", in which an element left out counts as missing."""

    def quantified(
        x: Value,
        axis: Axis = None,
        out: Any = None,
        keepdims: bool = False,
        *,
        where: Any = True,
    ) -> Value:
        if out is not None:
            raise TypeError("out= would write into an existing array: give the result a name")
        if where is not True:
            of_nothing(np.all, x, axis=axis, where=where)
            x = elementary.where(where, elementary.not_equal(x, 0), missing)
        return primitive(x, axis=axis, keepdims=keepdims)

    return quantified


def _spread(
    numpys: Callable[..., Any], function: Callable[..., Value], *, over_nan: bool = False
) -> Callable[..., Value]:
    """Make NumPy's arguments of `var` and `std`, and of those that leave out what is not a number."""

    def spread(
        x: Value,
        axis: Axis = None,
        dtype: Any = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        *,
        where: Any = True,
        mean: Value = None,
        correction: float | None = None,
    ) -> Value:
        if out is not None:
            raise TypeError("out= would write into an existing array: give the result a name")
        if correction is not None and ddof:
            raise ValueError("ddof= and correction= are two names of one number: give one")
        ddof = ddof if correction is None else correction
        if _is_whole(dtype) and mean is None and not over_nan:
            how = {"axis": axis, "dtype": dtype, "ddof": ddof, "keepdims": keepdims, "where": where}
            return _in_whole_numbers(numpys, x, **how)
        x = _as_floats(x, dtype)
        if where is not True:
            of_nothing(np.sum, x, axis=axis, where=where)
        if over_nan:
            where = _numbers_among(x, where)
        y = function(x, axis, ddof=ddof, keepdims=keepdims, mean=mean, mask=where)
        if over_nan:
            freedom = reductions.sum_(1.0 * where, axis, keepdims=keepdims) - ddof
            y = number(elementary.where(freedom <= 0, np.nan, y))
        if over_nan or dtype is not None:  # whatever that of the mean is
            y = FUNCTIONS[np.ndarray.astype](y, dtype_of(x), copy=False)
        return y

    return spread


def _numbers_among(x: Value, where: Any) -> Value:
    """Return where the elements are that are to be taken, and are no NaN."""
    of_nothing(np.sum, x, where=where)
    return np.logical_and(elementary.equal(x, x), where)


def _logical(ufunc: np.ufunc, function: Callable[..., Any]) -> Callable[..., Value]:
    def reduce(x: Value, axis: Axis = 0, **options: Any) -> Value:
        if options.keys() <= {"keepdims", "where"}:
            return FUNCTIONS[function](x, axis, **options)
        return _in_whole_numbers(ufunc.reduce, x, axis=axis, **options)

    return reduce


REDUCTIONS |= {
    np.add: _by_axis_0(_sum),
    np.multiply: _by_axis_0(_prod),
    np.maximum: _by_axis_0(_max),
    np.minimum: _by_axis_0(_min),
    np.logical_and: _logical(np.logical_and, np.all),
    np.logical_or: _logical(np.logical_or, np.any),
}


@implements(np.mean)
def _mean(
    x: Value,
    axis: Axis = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    *,
    where: Any = True,
) -> Value:
    if out is not None:
        raise TypeError("mean: out= would write into an existing array: give the result a name")
    if _is_whole(dtype):
        return _in_whole_numbers(np.mean, x, axis=axis, dtype=dtype, keepdims=keepdims, where=where)
    x = _as_floats(x, dtype)
    if where is True:
        return reductions.mean(x, axis, keepdims=keepdims)
    wide = np.result_type(dtype_of(x), np.float32)  # of half precision the sum would overflow
    return astype(_mean_of(astype(x, dtype=wide), axis, keepdims, where), dtype=dtype_of(x))


def _mean_of(x: Value, axis: Axis, keepdims: bool, where: Any) -> Value:
    """Return the mean of the elements that a mask takes, which are summed in x's own dtype."""
    total = _sum(x, axis, keepdims=keepdims, where=where)
    count = np.sum(np.broadcast_to(where, shape_of(x)), axis, keepdims=keepdims)
    return total / astype(count, dtype=dtype_of(x))


FUNCTIONS |= {
    np.sum: _sum,
    np.prod: _prod,
    np.max: _without_dtype(_max),
    np.amax: _without_dtype(_max),
    np.min: _without_dtype(_min),
    np.amin: _without_dtype(_min),
    np.var: _spread(np.var, reductions.var),
    np.std: _spread(np.std, reductions.std),
    np.argmax: _index(reductions.argmax),
    np.argmin: _index(reductions.argmin),
    np.all: _quantified(reductions.all_, missing=True),
    np.any: _quantified(reductions.any_, missing=False),
    np.ptp: lambda x, axis=None, *, keepdims=False: (
        reductions.max_(x, axis, keepdims=keepdims) - reductions.min_(x, axis, keepdims=keepdims)
    ),
    np.linalg.norm: reductions.norm,
}


@implements(np.average)
def _average(
    x: Value,
    axis: Axis = None,
    weights: Value = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Value:
    if weights is None:
        y = reductions.mean(x, listed_axes(x, axis), keepdims=keepdims)
        total: Value = np.asarray(size(x) / size(y), dtype_of(x))[()]
    else:
        weights = as_array(weights)
        chosen = listed_axes(x, axis)
        if shape_of(weights) != shape_of(x):
            if axis is None:
                raise TypeError("average: weights of another shape than the array need an axis")
            given = normalize_axis_tuple(axis, len(shape_of(x)))
            if shape_of(weights) != tuple(shape_of(x)[a] for a in given):
                raise ValueError(
                    f"average: weights of shape {shape_of(weights)} for axis {axis} of an array of "
                    f"shape {shape_of(x)}"
                )
            along = [n if i in chosen else 1 for i, n in enumerate(shape_of(x))]
            order = tuple(np.argsort(given).tolist())
            weights = reshape(transpose(weights, axes=order), shape=tuple(along))
        total = reductions.sum_(weights, chosen, keepdims=keepdims)
        if np.any(np.equal(innermost(total), 0)):
            raise ZeroDivisionError("average: weights that sum to zero")
        y = divide(reductions.sum_(multiply(x, weights), chosen, keepdims=keepdims), total)
    return (y, number(broadcast_to(total, shape=shape_of(y)))) if returned else y


# Cumulative ------------------------------------------------------------------------------------------
def _row(x: Value, axis: int | None, dtype: Any) -> tuple[Value, int]:
    return flat(_as_floats(x, dtype), None if is_row_of_one(x, axis) else axis)


@implements(np.cumsum)
def _cumsum(x: Value, axis: int | None = None, dtype: Any = None) -> Value:
    if _is_whole(dtype):
        return _in_whole_numbers(np.cumsum, x, axis=axis, dtype=dtype)
    x, axis = _row(x, axis, dtype)
    return shaping.cumsum(x, axis=axis)


@implements(np.cumprod)
def _cumprod(x: Value, axis: int | None = None, dtype: Any = None) -> Value:
    if _is_whole(dtype):
        return _in_whole_numbers(np.cumprod, x, axis=axis, dtype=dtype)
    return in_layout_of(x, shaping.cumprod(*_row(x, axis, dtype)))


def _accumulated(ufunc: np.ufunc, function: Callable[..., Value]) -> Callable[..., Value]:
    """Make ``ufunc.accumulate``, whose one axis is 0 unless given."""

    def accumulate(x: Value, axis: Axis = 0, dtype: Any = None) -> Value:
        if not shape_of(x):
            raise TypeError("accumulate: a number has no axis")
        (along,) = axes(x, axis)
        if _is_whole(dtype):
            return _in_whole_numbers(ufunc.accumulate, x, axis=along, dtype=dtype)
        return function(_as_floats(x, dtype), along)

    return accumulate


def _extreme_so_far(ufunc: np.ufunc) -> Callable[..., Value]:
    def places(x: Any, *, axis: int) -> Any:
        attained = np.logical_or(x == ufunc.accumulate(x, axis), np.isnan(x))
        along = np.arange(x.shape[axis]).reshape([-1] + [1] * (x.ndim - 1 - axis))
        return np.maximum.accumulate(np.where(attained, along, 0), axis)

    primitive = constant(f"{ufunc.__name__}_so_far", places)

    def extreme(x: Value, axis: int) -> Value:
        return take_along(x, primitive(x, axis=axis), axis=axis)

    return extreme


ACCUMULATIONS |= {
    np.add: _accumulated(np.add, _cumsum),
    np.multiply: _accumulated(np.multiply, _cumprod),
    # Of several that attain it the last has the slope.
    np.maximum: _accumulated(np.maximum, _extreme_so_far(np.maximum)),
    np.minimum: _accumulated(np.minimum, _extreme_so_far(np.minimum)),
}


@implements(np.diff)
def _diff(x: Value, n: int = 1, axis: int = -1, **ends: Value) -> Value:
    if n < 0:
        raise ValueError(f"diff: n={n}: a difference is taken 0, 1, 2, ... times")
    if n == 0:
        return x
    before = shaping.before(x, axis)
    parts = [ends.get("prepend"), x, ends.get("append")]
    one = tuple(1 if a == len(before) else k for a, k in enumerate(shape_of(x)))
    given = [
        broadcast_to(as_array(part), shape=one) if np.ndim(part) == 0 else as_operand(part)
        for part in parts
        if part is not None
    ]
    x = shaping.concatenate(*given, axis=axis) if len(given) > 1 else x
    for _ in range(n):
        x = gather(x, index=(*before, slice(1, None))) - gather(x, index=(*before, slice(None, -1)))
    return x


@implements(getattr(np, "trapezoid", None) or getattr(np, "trapz"))  # noqa: B009  # NumPy 1's name
def _trapezoid(y: Value, x: Value = None, dx: float = 1.0, axis: int = -1) -> Value:
    y = as_operand(y)
    before = shaping.before(y, axis)
    if x is None:
        step: Value = dx
    else:
        x = as_array(x)
        step = _diff(x, axis=axis if len(shape_of(x)) > 1 else 0)
        if len(shape_of(x)) == 1:
            along = [-1 if a == len(before) else 1 for a in range(len(shape_of(y)))]
            step = reshape(step, shape=tuple(size(step) if a == -1 else 1 for a in along))
    ends = gather(y, index=(*before, slice(1, None))) + gather(y, index=(*before, slice(None, -1)))
    return reductions.sum_(step * ends / 2.0, axis)


@implements(np.gradient)
def _gradient(x: Value, *spacing: Any, axis: Axis = None, edge_order: int = 1) -> Any:
    if edge_order not in (1, 2):
        raise ValueError(f"gradient: edge_order={edge_order}: 1 or 2")
    x = as_operand(x)
    every = range(len(shape_of(x)))
    chosen = normalize_axis_tuple(every if axis is None else axis, len(every))
    one = len(spacing) < 2 and not any(map(shape_of, spacing))
    steps = list(spacing or [1.0]) * (len(chosen) if one else 1)
    if len(steps) != len(chosen):
        raise TypeError(
            f"gradient: {len(steps)} spacings for {len(chosen)} axes: give each its own"
        )
    gradient: Callable[..., Any] = np.gradient
    # It is linear in x: each of its values is a weighted sum of neighbours along the axis, at most two away.
    # Their weights are the gradients of combs, of which each has one tooth in five places.
    found = []
    for a, step in zip(chosen, steps, strict=True):
        n = shape_of(x)[a]
        traced = type(step) is Var
        if traced and shape_of(step):
            raise TypeError("gradient: places that are traced have no rule: write it with np.diff")
        unit = 1.0 if traced else step
        here, teeth = np.arange(n), np.arange(5)[:, None]
        combs = (here % 5 == teeth).astype(dtype_of(x))
        weights = gradient(combs, unit, axis=1, edge_order=edge_order)
        places = here - 2 + (teeth - here + 2) % 5
        moved, slopes = FUNCTIONS[np.moveaxis](x, a, -1), 0.0
        for k in range(5):
            parts = take(moved, np.clip(places[k], 0, n - 1), axis=-1)
            slopes = slopes + where(weights[k] == 0, np.zeros((), dtype_of(x)), weights[k] * parts)
        slopes = in_layout_of(x, FUNCTIONS[np.moveaxis](slopes, -1, a))
        found.append(slopes / step if traced else slopes)
    return found[0] if len(found) == 1 else tuple(found)


# Not a number ----------------------------------------------------------------------------------------
@implements(np.nan_to_num)
def _nan_to_num(
    x: Value,
    copy: bool = True,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Value:
    # NumPy says what is no number.
    np.nan_to_num(0.0, nan=innermost(nan), posinf=posinf, neginf=neginf)
    limits = np.finfo(dtype_of(x))
    y = where(isnan(x), nan, x)
    y = where(elementary.equal(x, np.inf), limits.max if posinf is None else posinf, y)
    y = where(elementary.equal(x, -np.inf), limits.min if neginf is None else neginf, y)
    y = astype(y, dtype=dtype_of(x))
    if copy:
        return number(y)
    x[...] = y
    return x


def _over_nan(function: Callable[..., Value], neutral: float) -> Callable[..., Value]:
    return lambda x, *args, **options: function(
        where(isnan(x), np.asarray(neutral, dtype_of(x)), x), *args, **options
    )


def _extreme_over_nan(function: Callable[..., Value], neutral: float) -> Callable[..., Value]:
    def extreme(
        x: Value,
        axis: Axis = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Value = NOT_GIVEN,
        **mask: Any,
    ) -> Value:
        taken = _numbers_among(x, mask.get("where", True))
        if initial is NOT_GIVEN or initial is None:
            initial = np.nan
        else:
            mask["initial"] = where(isnan(initial), neutral, initial)
        y = _over_nan(function, neutral)(x, axis, out, keepdims, **mask)
        empty = isnan(initial) & ~reductions.any_(taken, axis=axis, keepdims=keepdims)
        return number(where(empty, np.asarray(np.nan, dtype_of(x)), y))

    return extreme


def _nanmean(
    x: Value, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, where: Any = True
) -> Value:
    x = _as_floats(x, dtype)
    return _mean_of(x, axis, keepdims, _numbers_among(x, where))


FUNCTIONS |= {
    np.nansum: _over_nan(_sum, 0),
    np.nanprod: _over_nan(_prod, 1),
    np.nanmax: _extreme_over_nan(FUNCTIONS[np.max], -np.inf),
    np.nanmin: _extreme_over_nan(FUNCTIONS[np.min], np.inf),
    np.nanmean: _nanmean,
    np.nanvar: _spread(np.nanvar, reductions.var, over_nan=True),
    np.nanstd: _spread(np.nanstd, reductions.std, over_nan=True),
}


# Order -----------------------------------------------------------------------------------------------
@implements(np.sort)
def _sort(x: Value, axis: int | None = -1, kind: Any = None, **how: Any) -> Value:
    np.sort([], kind=kind, **how)  # which says what is no way to sort
    return in_layout_of(x, shaping.sort(*flat(x, axis)))


@implements(np.argsort)
def _argsort(x: Value, axis: int | None = -1, kind: Any = None, **how: Any) -> Value:
    np.argsort([], kind=kind, **how)
    x, axis = flat(x, axis)
    # Which of equal elements comes first is NumPy's choice.
    return shaping.argsort(x, axis=axis, kind="stable" if how.get("stable") else kind)


def _argpartition_of(x: Any, *, kth: Any, axis: int) -> Any:
    return np.argpartition(x, kth, axis)


def _partition_places(x: Any, *, kth: Any, axis: int) -> Any:
    """Tell where the elements of `numpy.partition` come from, whose order is not that of argpartition."""
    y = np.partition(x, kth, axis)
    places = np.empty(x.shape, np.intp)
    in_y, in_x = (np.argsort(v, axis, kind="stable") for v in (y, x))
    np.put_along_axis(places, in_y, in_x, axis)
    return places


def _by_ranks(places: Callable[..., Any]) -> Callable[..., Any]:
    """Let what looks at nothing but the order of elements take numbers that are no floats."""

    def find(x: Any, *, kth: Any, axis: int) -> Any:
        rows = np.moveaxis(x, axis, -1)
        ranks = np.sum(rows[..., :, None] > rows[..., None, :], axis=-1)
        return places(np.moveaxis(ranks, -1, axis).astype(float), kth=kth, axis=axis)

    return find


argpartition = constant("argpartition", _argpartition_of, exact=_by_ranks(_argpartition_of))
partition_places = constant(
    "partition_places", _partition_places, exact=_by_ranks(_partition_places)
)
searchsorted = constant("searchsorted", lambda a, v, *, side: np.searchsorted(a, v, side))


@implements(np.partition)
def _partition(x: Value, kth: Any, axis: int | None = -1, **how: Any) -> Value:
    np.partition([0.0], 0, **how)  # which says what is no way to part
    y, along = flat(x, axis)
    return in_layout_of(x, take_along(y, partition_places(y, kth=kth, axis=along), axis=along))


@implements(np.argpartition)
def _argpartition(x: Value, kth: Any, axis: int | None = -1, **how: Any) -> Value:
    np.argpartition([0.0], 0, **how)
    x, axis = flat(x, axis)
    return argpartition(x, kth=kth, axis=axis)


def _ranked(x: Value, axis: Axis) -> tuple[Value, int]:
    """Return the elements along the axes in order, as the last axis, and how many they are."""
    chosen = listed_axes(x, axis)
    if len(chosen) == 1:
        return FUNCTIONS[np.moveaxis](_sort(x, *chosen), *chosen, -1), shape_of(x)[chosen[0]]
    rows = shaping.sort(reductions.rows_of(x, chosen))
    return rows, shape_of(rows)[-1]


@implements(np.median)
def _median(
    x: Value, axis: Axis = None, *, overwrite_input: bool = False, keepdims: bool = False
) -> Value:
    """As `numpy.median`; with ``overwrite_input`` too the argument stays as it is, for its derivative."""
    del overwrite_input
    rows, n = _ranked(x, axis)
    y = reductions.mean(gather(rows, index=(..., slice(max(n - 1, 0) // 2, n // 2 + 1))), -1)
    if n:
        y = where(isnan(gather(rows, index=(..., -1))), np.asarray(np.nan, dtype_of(x)), y)
    return shaping.expand(y, x, listed_axes(x, axis)) if keepdims else number(y)


@implements(np.quantile)
def _quantile(
    x: Value,
    q: Any,
    axis: Axis = None,
    *,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    weights: Any = None,
) -> Value:
    """As `numpy.quantile`; with ``overwrite_input`` too the argument stays as it is, for its derivative."""
    del overwrite_input
    if method != "linear" or weights is not None:
        raise TypeError(f"quantile: method={method!r}, weights= have no rule: use 'linear' alone")
    parts = as_array(q)
    if type(innermost(q)) is float:
        parts = astype(parts, dtype=dtype_of(x))
    if not np.all((innermost(parts) >= 0) & (innermost(parts) <= 1)):
        raise ValueError(f"quantile: q={q} is to lie in [0, 1] (percentile: in [0, 100])")
    rows, n = _ranked(x, axis)
    ranks = FUNCTIONS[np.moveaxis](rows, -1, 0)
    places = parts * (n - 1)
    if dtype_of(parts).kind == "f":
        below = np.clip(np.floor(places), 0, max(n - 2, 0))
        low = below.astype(int)
        a, b = shaping.getitem(ranks, low), shaping.getitem(ranks, np.minimum(low + 1, n - 1))
        share = np.reshape(places - below, shape_of(parts) + (1,) * len(shape_of(ranks)[1:]))
        # From the nearer end, as NumPy does: the other may be infinite.
        y = where(share < 0.5, a + (b - a) * share, b - (b - a) * (1 - share))
    else:
        y = shaping.getitem(ranks, places)
    y = where(isnan(gather(ranks, index=(-1,))), np.asarray(np.nan, dtype_of(x)), y)
    reduced = kept(shape_of(x), listed_axes(x, axis)) if keepdims else shape_of(ranks)[1:]
    return number(reshape(FUNCTIONS[np.copy](y, "C"), shape=shape_of(parts) + reduced))


FUNCTIONS[np.percentile] = lambda x, q, axis=None, **options: _quantile(
    x, as_operand(q) / 100, axis, **options
)


@implements(np.searchsorted)
def _searchsorted(a: Value, v: Value, side: str = "left", sorter: Any = None) -> Value:
    if sorter is not None:
        np.searchsorted(innermost(a), 0.0, sorter=sorter)  # which says what is none
        a = take(a, sorter)
    return searchsorted(a, v, side=side)


def _of_one_period(x: Value, xp: Value, fp: Value, period: Value) -> tuple[Value, Value, Value]:
    """Return x and the points within one period, in order, with one point more on either side."""
    x, xp = (elementary.remainder(v, period) for v in (x, xp))
    order = shaping.argsort(xp, axis=0)
    xp, fp = take(xp, order), take(fp, order)
    first, last = (slice(0, 1),), (slice(-1, None),)
    ends = gather(xp, index=last) - period, gather(xp, index=first) + period
    return (
        x,
        shaping.concatenate(ends[0], xp, ends[1], axis=0),
        shaping.concatenate(gather(fp, index=last), fp, gather(fp, index=first), axis=0),
    )


@implements(np.interp)
def _interp(
    x: Value, xp: Value, fp: Value, left: Value = None, right: Value = None, period: Any = None
) -> Value:
    if np.iscomplexobj(innermost(fp)):
        raise TypeError(
            "interp: of complex values fp: interpolate their real and imaginary parts, one by one"
        )
    x, xp, fp = (v if type(v) is Var else np.asarray(v, float) for v in (x, xp, fp))
    # NumPy says what are no points, and what is no period.
    np.interp(0.0, *map(innermost, (xp, fp, left, right, period)))
    if period is not None:
        x, xp, fp = _of_one_period(x, xp, fp, elementary.absolute(period))
        left = right = None
    n = shape_of(xp)[0]
    if n == 1:
        y = broadcast_to(gather(fp, index=(0,)), shape=shape_of(x))
    else:
        place = np.clip(searchsorted(xp, x, side="right") - 1, 0, n - 2)
        here, there = take(xp, place), take(xp, place + 1)
        low, high = take(fp, place), take(fp, place + 1)
        slope = (high - low) / (there - here)
        # From the other end where this one is infinite.
        near = place + isnan(slope * (x - here) + low)
        y = slope * (x - take(xp, near)) + take(fp, near)
        known = elementary.equal(x, here) | elementary.equal(low, high)  # whatever the slope
        y = where(isnan(y) & known & ~isnan(x), low, y)
    first, last = gather(xp, index=(0,)), gather(xp, index=(n - 1,))
    y = where(elementary.less(x, first), gather(fp, index=(0,)) if left is None else left, y)
    end = gather(fp, index=(n - 1,))
    y = where(elementary.greater_equal(x, last), end, y)
    return number(y if right is None else where(elementary.greater(x, last), right, y))


# Moments and polynomials -----------------------------------------------------------------------------
TURNS_ONE_ROW = np.ndim(np.cov(np.zeros((1, 2)), rowvar=False, bias=True)) > 0  # not every NumPy


@implements(np.cov)
def _cov(
    x: Value, y: Value = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None
) -> Value:
    if ddof is not None and ddof != int(ddof):
        raise ValueError(f"cov: ddof={ddof} is no integer")
    at_least_2d = FUNCTIONS[np.atleast_2d]
    x = as_array(x)
    rows = at_least_2d(astype(x, dtype=np.result_type(dtype_of(x), np.float64)))  # as NumPy does
    if not rowvar and (shape_of(rows)[0] != 1 or (TURNS_ONE_ROW and len(shape_of(x)) == 2)):
        rows = rows.T
    if not shape_of(rows)[0]:
        return np.zeros((0, 0))
    if y is not None:
        more = at_least_2d(as_array(y))
        more = more if rowvar or shape_of(more)[0] == 1 else more.T
        rows = shaping.concatenate(rows, more, axis=0)
    centred = rows - reductions.mean(rows, 1, keepdims=True)
    n = shape_of(rows)[1] - (ddof if ddof is not None else 0 if bias else 1)
    return FUNCTIONS[np.squeeze](centred @ centred.T / max(n, 0))


@implements(np.corrcoef)
def _corrcoef(x: Value, y: Value = None, rowvar: bool = True) -> Value:
    c = _cov(x, y, rowvar)
    if not shape_of(c):
        return c / c
    spread = elementary.sqrt(FUNCTIONS[np.diagonal](c))
    return np.clip(c / spread[:, None] / spread[None, :], -1, 1)


@implements(np.polyval)
def _polyval(p: Value, x: Value) -> Value:
    y = FUNCTIONS[np.zeros_like](x)
    for i in range(len(p)):
        y = y * x + p[i]
    return y


@implements(np.apply_along_axis)
def _apply_along_axis(function: Callable[..., Value], axis: int, x: Value, *args: Any) -> Value:
    before = len(shaping.before(x, axis))
    rows = FUNCTIONS[np.moveaxis](x, axis, -1)
    shape = shape_of(rows)[:-1]
    found = [function(rows[i], *args) for i in np.ndindex(*shape)]
    inner = shape_of(found[0])
    joined = reshape(stack(found), shape=(*shape, *inner))
    n = len(inner)
    places = tuple(before + k for k in range(n))
    return FUNCTIONS[np.moveaxis](joined, tuple(range(-n, 0)), places) if n else joined


@implements(np.linspace)
def _linspace(
    start: Value,
    stop: Value,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Value:
    num = len(np.linspace(0, 0, num))  # which says what is no number of points
    start, stop = as_operand(start), as_operand(stop)
    ends: list[Any] = [np.zeros((), dtype_of(v)) if type(v) is Var else v for v in (start, stop)]
    parts = num - 1 if endpoint else num
    step = (stop - start) / parts if parts > 0 else np.nan
    places = reshape(np.arange(num) * 1.0, shape=(num, *(1,) * len(shape_of(start * 1.0 + stop))))
    y = start + places * (step if parts > 0 else stop - start)
    if endpoint and num > 1:
        y = where(places == parts, stop, y)
    y = astype(y, dtype=np.linspace(ends[0], ends[1], 1).dtype)
    if dtype is not None:
        whole = np.dtype(dtype).kind in "iu"
        y = FUNCTIONS[np.ndarray.astype](elementary.floor(y) if whole else y, dtype)
    y = y if axis == 0 else FUNCTIONS[np.moveaxis](y, 0, axis)
    return (y, step) if retstep else y


@implements(np.select)
def _select(conditions: Any, choices: Any, default: Value = 0) -> Value:
    if any(dtype_of(condition).kind != "b" for condition in conditions):
        raise TypeError(
            "select: conditions are to be boolean: write x != 0 for an array of numbers"
        )
    y = default
    for condition, choice in zip(conditions[::-1], choices[::-1], strict=True):
        y = where(condition, choice, y)
    return FUNCTIONS[np.copy](y, "C")


# What is known of the values alone: the program then holds for these values ----------------------------
def _of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **options: function(
        *map(concrete, args), **{name: concrete(value) for name, value in options.items()}
    )


FUNCTIONS |= {
    function: _of_values(function)
    for function in (
        np.allclose, np.argwhere, np.array_equal, np.array_equiv, np.count_nonzero, np.digitize,
        np.flatnonzero, np.isclose, np.nonzero, np.nanargmax, np.nanargmin,
    )
}  # fmt: skip


@implements(np.bincount)
def _bincount(x: Value, weights: Value = None, minlength: int = 0) -> Value:
    places = np.asarray(concrete(x))
    counts = np.bincount(places, minlength=minlength)
    if weights is None:
        return counts
    wide = astype(as_operand(weights), dtype=np.dtype(float))
    if shape_of(wide) != shape_of(places):
        raise ValueError(f"bincount: {size(wide)} weights for {size(places)} numbers")
    return shaping.scatter(wide, places, index=(shaping.ARRAY,), shape=counts.shape)


@implements(np.histogram)
def _histogram(
    a: Value,
    bins: Any = 10,
    range: Any = None,  # noqa: A002  # NumPy's
    density: Any = None,
    weights: Value = None,
) -> Any:
    if type(weights) is Var:
        raise TypeError(
            "histogram: weights that are traced have no rule: np.bincount(np.digitize(a, edges), weights) has"
        )
    return np.histogram(concrete(a), concrete(bins), range, density, weights)


FUNCTIONS[np.real] = lambda x: x
FUNCTIONS[np.real_if_close] = lambda x, **_: with_memory(x)
for _function in (np.imag, np.iscomplex, np.isreal):
    FUNCTIONS[_function] = lambda x, function=_function: function(innermost(x))
FUNCTIONS[np.isposinf] = lambda x: elementary.equal(x, np.inf)
FUNCTIONS[np.isneginf] = lambda x: elementary.equal(x, -np.inf)


@implements(np.ediff1d)
def _ediff1d(x: Value, to_end: Value = None, to_begin: Value = None) -> Value:
    parts = [as_operand(v) for v in (to_begin, _diff(ravel(x)), to_end) if v is not None]
    rows = [astype(ravel(part), dtype=dtype_of(x)) for part in parts]
    return shaping.concatenate(*rows, axis=0)
