"""Primitives that reduce axes, and those that normalise along them: max, logsumexp, softmax.

`axis` is None, an int or a tuple at the public functions, always a tuple in primitives' params.
Kinks: a maximum that several elements share gives each of them an equal part of the slope.
"""

from __future__ import annotations

from math import isfinite
from math import prod as product_of
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ffverify.reference.engine.primitive import (
    astype,
    broadcast_to,
    constant,
    general,
    has_nan,
    linear,
    positive,
    reshape,
    scale,
    sum_over,
    sum_transpose,
)
from ffverify.reference.engine.var import Value, dtype_of, shape_of

from .elementary import absolute, equal, multiply, square, where
from .shaping import concatenate, expand, gather, number, put_along, take_along, transpose

Axis = Any  # None, int or tuple of ints


def axes(x: Value, axis: Axis, *, of_number: bool = False) -> tuple[int, ...]:
    """Return the axes as a tuple of nonnegative integers; None means all.

    With `of_number`, as in NumPy's own loops over sums, products and extremes, a number has one axis.
    """
    ndim = len(shape_of(x))
    if type(axis) is int and 0 <= axis < ndim:  # the usual case, quickly
        return (axis,)
    if isinstance(axis, bool | list):
        raise TypeError(f"axis={axis!r}: an integer, a tuple of integers, or None")
    if of_number and not ndim and axis in (0, -1):
        return ()
    return listed_axes(x, axis)


def listed_axes(x: Value, axis: Axis) -> tuple[int, ...]:
    """As `axes`, for functions of NumPy that take a list of them as well."""
    ndim = len(shape_of(x))
    return tuple(range(ndim)) if axis is None else tuple(sorted(normalize_axis_tuple(axis, ndim)))


def _elements(_y: Value, x: Value, **_: Any) -> float:
    return float(product_of(shape_of(x)))


# Sums ----------------------------------------------------------------------------------------------
def sum_(x: Value, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """As `numpy.sum`."""
    return sum_over.on(x, axis=axes(x, axis, of_number=True), keepdims=keepdims)


def _count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    return product_of(map(shape.__getitem__, axis))


def _mean_transpose(y_bar: Value, _y: Value, x: Value, *, axis: Any, keepdims: bool) -> Value:
    return sum_transpose(y_bar / _count(shape_of(x), axis), _y, x, axis=axis, keepdims=keepdims)


def _mean_forward(x: Any, *, axis: tuple[int, ...], keepdims: Any) -> Any:
    dtype = dtype_of(x)
    if dtype.char == "e":  # half precision: as NumPy does: the sum of many would overflow
        wide = _mean_forward(astype(x, dtype=np.float32), axis=axis, keepdims=keepdims)
        return astype(wide, dtype=dtype)
    return np.add.reduce(x, axis=axis, keepdims=keepdims) / _count(shape_of(x), axis)


mean_over = linear("mean", _mean_forward, _mean_transpose, flops=_elements, inline=True)


def mean(x: Value, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """As `numpy.mean`."""
    return mean_over.on(x, axis=axes(x, axis), keepdims=keepdims)


def var(
    x: Value,
    axis: Axis = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    mean: Value = None,
    mask: Any = True,
) -> Value:
    """As `numpy.var`, in two passes: about a given mean, or of those elements alone that a mask takes."""
    if dtype_of(x) == np.float16:  # as NumPy does: squares would overflow
        wide = astype(x, dtype=np.float32)
        y = var(wide, axis, ddof=ddof, keepdims=keepdims, mean=mean, mask=mask)
        return astype(y, dtype=np.float16)
    chosen = axes(x, axis)
    centred, count = _centred(x, chosen, keepdims, mean, mask)
    total = sum_over(square(centred), axis=chosen, keepdims=keepdims)
    return total / _freedom(x, count, ddof)


def std(
    x: Value,
    axis: Axis = None,
    *,
    ddof: float = 0,
    keepdims: bool = False,
    mean: Value = None,
    mask: Any = True,
) -> Value:
    """As `numpy.std`, see `var`; where all elements are equal the slope is taken to be 0."""
    chosen = axes(x, axis)
    centred, count = _centred(x, chosen, keepdims, mean, mask)
    return norm_over(centred, axis=chosen, keepdims=keepdims) / _freedom(x, count, ddof) ** 0.5


def _centred(
    x: Value, axis: tuple[int, ...], keepdims: bool, mean: Value, mask: Any
) -> tuple[Value, Any]:
    """Return how far the elements taken are from their mean, 0 for others, and how many are taken."""
    zero = np.zeros((), dtype_of(x))
    if mask is True:
        count: Any = _count(shape_of(x), axis)
        mean = mean_over(x, axis=axis, keepdims=True) if mean is None else mean
        return x - mean, count
    every = np.broadcast_to(mask, shape_of(x))
    if mean is None:
        taken = np.sum(every, axis, keepdims=True).astype(dtype_of(x))
        mean = sum_over(where(mask, x, zero), axis=axis, keepdims=True) / taken
    return where(mask, x - mean, zero), np.sum(every, axis, keepdims=keepdims)


def _freedom(x: Value, count: Any, ddof: float) -> Any:
    """Return the degrees of freedom, which leave the dtype as it is."""
    freedom = np.maximum(count - ddof, 0)
    return float(freedom) if type(count) is int else astype(freedom, dtype=dtype_of(x))


def rows_of(x: Value, axis: tuple[int, ...]) -> Value:
    """Lay the elements of some axes out along one, the last."""
    shape = shape_of(x)
    others = tuple(a for a in range(len(shape)) if a not in axis)
    x = transpose(x, axes=others + axis) if shape else x
    return reshape(x, shape=(*(shape[a] for a in others), _count(shape, axis)))


def prod(x: Value, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """As `numpy.prod`, by products of halves: right to every order also where factors are 0."""
    chosen = axes(x, axis, of_number=True)
    rows = rows_of(x, chosen)
    if shape_of(rows)[-1] == 0:
        rows = np.ones((*shape_of(rows)[:-1], 1), dtype_of(x))
    elif shape_of(rows)[-1] == 1:
        rows = positive(rows)  # no view
    while (n := shape_of(rows)[-1]) > 1:
        half = n // 2
        halves = multiply(
            gather(rows, index=(..., slice(0, half))),
            gather(rows, index=(..., slice(half, 2 * half))),
        )
        if n % 2:
            halves = concatenate(halves, gather(rows, index=(..., slice(n - 1, n))), axis=-1)
        rows = halves
    y = gather(rows, index=(..., 0))
    return number(expand(y, x, chosen) if keepdims else y)


# 1/m at each of the m elements of x that are equal to y, along axes, else 0.
def _share(x: Any, y: Any, *, axis: tuple[int, ...]) -> Any:
    attains, dtype = np.equal(x, y), y.dtype
    if np.count_nonzero(attains) == y.size and not has_nan(y):  # every element of y attained once
        return attains.astype(dtype)
    return np.divide(
        attains, np.add.reduce(attains, axis=axis, keepdims=True, dtype=dtype), dtype=dtype
    )


def _exact_share(x: Any, y: Any, *, axis: tuple[int, ...]) -> Any:
    attains = np.where(np.equal(x, y), np.ones_like(x), 0)
    return attains / np.sum(attains, axis=axis, keepdims=True)


share = constant("share", _share, exact=_exact_share)


# Extremes ------------------------------------------------------------------------------------------
def _extreme(name: str, ufunc: np.ufunc) -> Any:
    def map_(x_dot: Value, y: Value, x: Value, *, axis: Any, keepdims: bool) -> Value:
        y = y if keepdims else expand(y, x, axis)
        # However steep an element is that attains no extreme, it has no part in it.
        return sum_over(scale(share(x, y, axis=axis), x_dot), axis=axis, keepdims=keepdims)

    def transpose_(y_bar: Value, y: Value, x: Value, *, axis: Any, keepdims: bool) -> Value:
        if not keepdims:
            y_bar, y = expand(y_bar, x, axis), expand(y, x, axis)
        return y_bar * share(x, y, axis=axis)

    return general(
        name,
        ufunc.reduce,
        (map_, transpose_),
        kinks="ties: equal shares",
        flops=_elements,
        source=f"np.{name}imum.reduce({{0}}, axis={{axis}}, keepdims={{keepdims}}{{out}})",
    )


max_over = _extreme("max", np.maximum)
min_over = _extreme("min", np.minimum)


def max_(x: Value, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """As `numpy.max`; ties share the slope equally."""
    return max_over.on(x, axis=axes(x, axis, of_number=True), keepdims=keepdims)


def min_(x: Value, axis: Axis = None, *, keepdims: bool = False) -> Value:
    """As `numpy.min`; ties share the slope equally."""
    return min_over.on(x, axis=axes(x, axis, of_number=True), keepdims=keepdims)


argmax = constant(
    "argmax", lambda x, *, axis=None, keepdims=False: np.argmax(x, axis=axis, keepdims=keepdims)
)
argmin = constant(
    "argmin", lambda x, *, axis=None, keepdims=False: np.argmin(x, axis=axis, keepdims=keepdims)
)
all_ = constant(
    "all",
    lambda x, *, axis=None, keepdims=False: np.all(x, axis, keepdims=keepdims),
    exact=lambda x, *, axis=None, keepdims=False: np.all(x != 0, axis=axis, keepdims=keepdims),
)
any_ = constant(
    "any",
    lambda x, *, axis=None, keepdims=False: np.any(x, axis, keepdims=keepdims),
    exact=lambda x, *, axis=None, keepdims=False: np.any(x != 0, axis=axis, keepdims=keepdims),
)


# Euclidean norm ------------------------------------------------------------------------------------
def _norm_forward(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    largest = np.maximum.reduce(np.absolute(x), axis=axis, keepdims=True, initial=0)
    with np.errstate(invalid="ignore", under="ignore"):
        unit = np.where((largest == 0) | np.isinf(largest), largest.dtype.type(1), largest)
        y = unit * np.sqrt(np.add.reduce(np.square(x / unit), axis=axis, keepdims=True))
    return y if keepdims else np.reshape(y, [n for i, n in enumerate(y.shape) if i not in axis])[()]


def _direction(y: Value, x: Value, axis: tuple[int, ...], keepdims: bool) -> Value:
    y = y if keepdims else expand(y, x, axis)
    zero = equal(y, 0)
    return where(zero, 0.0, x / where(zero, 1.0, y))


norm_over = general(
    "norm",
    _norm_forward,
    (
        lambda x_dot, y, x, *, axis, keepdims: sum_over(
            x_dot * _direction(y, x, axis, keepdims), axis=axis, keepdims=keepdims
        ),
        lambda y_bar, y, x, *, axis, keepdims: (
            (y_bar if keepdims else expand(y_bar, x, axis)) * _direction(y, x, axis, keepdims)
        ),
    ),
    kinks="x = 0: slope 0",
    flops=lambda y, x, **_: 3 * _elements(y, x),
    exact=lambda x, *, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
)


def largest(x: Value, axis: int, *, keepdims: bool = False) -> Value:
    """Return the maximum of what is not negative, which is 0 of nothing."""
    return (max_ if shape_of(x)[axis] else sum_)(x, axis, keepdims=keepdims)


def norm(x: Value, ord: Any = None, axis: Axis = None, *, keepdims: bool = False) -> Value:  # noqa: A002  # NumPy's
    """As `numpy.linalg.norm`; Euclidean and Frobenius norms never overflow."""
    from . import factorisations  # which rest on this module

    chosen = axes(x, axis)
    if axis is not None and len(chosen) not in (1, 2):
        raise ValueError(f"norm: over one axis or two, not over {axis} of {len(shape_of(x))}")
    if ord is None or (ord == "fro" and len(chosen) == 2) or (ord == 2 and len(chosen) == 1):
        return norm_over(x, axis=chosen, keepdims=keepdims)
    if len(chosen) == 2:
        order = chosen if axis is None else axis
        return number(factorisations.matrix_norm(x, ord, order, keepdims=keepdims))
    if len(chosen) != 1 or isinstance(ord, str):
        raise ValueError(f"norm: ord={ord!r} over axes {chosen} is no norm")
    if ord == 1:
        return sum_over(absolute(x), axis=chosen, keepdims=keepdims)
    if ord == np.inf:
        return largest(absolute(x), *chosen, keepdims=keepdims)
    return number(factorisations.vector_norm(x, ord, axis, keepdims=keepdims))


def vector_norm(x: Value, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Value:  # noqa: A002  # NumPy's
    """As `numpy.linalg.vector_norm`: over any number of axes, as of one long vector."""
    chosen = axes(x, axis)
    y = norm(rows_of(x, chosen), ord, -1)
    return expand(y, x, chosen) if keepdims else y


# Log-sum-exp and its kin. Blanchard, Higham & Higham 2021: shift by the maximum, and leave one
# maximal element out of the sum, so that log1p keeps the digits of a small rest. ---------------------


def _minus_max(z: Any, *, axis: int, out: Any = None) -> Any:
    largest = np.maximum.reduce(z, axis=axis, keepdims=True)
    # Finite only if every element is, and far from overflow; unlike other products it never warns.
    # Exact arrays, of a shadow, are no ndarrays and have no need of it.
    if type(z) is np.ndarray and isfinite(np.vdot(z, z)):
        return np.subtract(z, largest, out)
    with np.errstate(over="ignore", invalid="ignore"):
        d = np.subtract(z, largest, out)
    d[np.isnan(d) & np.isinf(largest)] = 0  # inf - inf: the limit of equal entries
    return d


def _minus_max_map(z_dot: Value, _d: Value, z: Value, *, axis: int) -> Value:
    return z_dot - take_along(z_dot, argmax(z, axis=axis, keepdims=True), axis=axis)


def _minus_max_transpose(d_bar: Value, _d: Value, z: Value, *, axis: int) -> Value:
    total = sum_over(d_bar, axis=(axis,), keepdims=True)
    place = argmax(z, axis=axis, keepdims=True)
    return d_bar - put_along(total, place, axis=axis, shape=shape_of(z))


minus_max = general(
    "minus_max",
    _minus_max,
    (_minus_max_map, _minus_max_transpose),
    kinks="ties: slope of the first maximum",
    flops=lambda y, z, **_: 2 * _elements(y, z),
    source="minus_max({0}, axis={axis}{out})",
    exact=lambda z, *, axis: _exact_minus_max(z, axis),
)


def _sum_of_losers(e: Any, d: Any, *, axis: int) -> Any:
    if np.shape(e)[axis] == 2:
        return np.minimum.reduce(e, axis=axis, keepdims=True)
    e = np.array(e)
    winner = np.argmax(d, axis=axis, keepdims=True)
    if axis == e.ndim - 1 and e.flags.c_contiguous:
        e.reshape(-1)[winner.reshape(-1) + np.arange(0, e.size, e.shape[-1])] = 0
    else:
        np.put_along_axis(e, winner, 0, axis)
    return np.add.reduce(e, axis=axis, keepdims=True)


def _losers(e: Value, d: Value, axis: int) -> Value:
    place = argmax(d, axis=axis, keepdims=True)
    return where(put_along(np.ones(shape_of(place)), place, axis=axis, shape=shape_of(e)), 0.0, e)


# Σ e over all but the first maximum of d, for e = exp(d); keeps the axis, with length 1.
sum_of_losers = general(
    "sum_of_losers",
    _sum_of_losers,
    (
        lambda e_dot, _s, _e, d, *, axis: sum_over(
            _losers(e_dot, d, axis), axis=(axis,), keepdims=True
        ),
        lambda s_bar, _s, e, d, *, axis: _losers(broadcast_to(s_bar, shape=shape_of(e)), d, axis),
    ),
    None,
    flops=lambda _s, e, *_, **__: _elements(_s, e),
    exact=lambda e, d, *, axis: np.sum(
        np.where(_exact_losers(d, axis), e, 0), axis=axis, keepdims=True
    ),
)


def _exact_minus_max(z: Any, axis: int) -> Any:
    return z - np.max(z, axis=axis, keepdims=True)


def _exact_losers(d: Any, axis: int) -> Any:
    """Tell all but the first maximum."""
    place = np.argmax(d, axis=axis, keepdims=True)
    shape = [-1 if i == axis % d.ndim else 1 for i in range(d.ndim)]
    return np.arange(d.shape[axis]).reshape(shape) != place


def _exact_softmax(z: Any, *, axis: int) -> Any:
    e = np.exp(_exact_minus_max(z, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def exact_logsumexp(z: Any, *, axis: int, keepdims: bool) -> Any:
    """Log-sum-exp by its definition, shifted by the maximum."""
    rest = np.log(np.sum(np.exp(_exact_minus_max(z, axis)), axis=axis, keepdims=keepdims))
    return np.max(z, axis=axis, keepdims=keepdims) + rest


def _logsumexp(z: Any, *, axis: int, keepdims: bool) -> Any:
    d = minus_max(z, axis=axis)
    rest = sum_of_losers(np.exp(d), d, axis=axis)
    y = np.maximum.reduce(z, axis=axis, keepdims=True) + np.log1p(rest)
    return y if keepdims else reshape(y, shape=shape_of(y)[:axis] + shape_of(y)[axis + 1 :])[()]


def _softmax(z: Any, *, axis: int) -> Any:
    d = minus_max(z, axis=axis)
    e = np.exp(d)
    return e / (1.0 + sum_of_losers(e, d, axis=axis))


def _log_softmax(z: Any, *, axis: int) -> Any:
    d = minus_max(z, axis=axis)
    return d - np.log1p(sum_of_losers(np.exp(d), d, axis=axis))


def _relative_to_winner(v: Value, p: Value, axis: int) -> Value:
    """Subtract v at the largest p: then Σ p v has no term of size 1 to cancel against."""
    return v - take_along(v, argmax(p, axis=axis, keepdims=True), axis=axis)


def _spread(v: Value, p: Value, axis: int) -> Value:
    """Return v - Σ p v, for Σ p = 1."""
    w = _relative_to_winner(v, p, axis)
    return w - sum_over(p * w, axis=(axis,), keepdims=True)


def _log_softmax_transpose(y_bar: Value, _y: Value, z: Value, *, axis: int) -> Value:
    # z_bar = y_bar - p Σ y_bar. At the winner, where 1 - p may be tiny, 1 - p is the sum of the rest.
    p = softmax_along(z, axis=axis)
    place = argmax(p, axis=axis, keepdims=True)
    winner = put_along(np.ones(shape_of(place)), place, axis=axis, shape=shape_of(z)) == 1.0
    p_rest, y_rest = where(winner, 0.0, p), where(winner, 0.0, y_bar)
    at_winner = y_bar * sum_over(p_rest, axis=(axis,), keepdims=True) - p * sum_over(
        y_rest, axis=(axis,), keepdims=True
    )
    return where(winner, at_winner, y_bar - p * sum_over(y_bar, axis=(axis,), keepdims=True))


softmax_along = general(
    "softmax",
    _softmax,
    # The Jacobian diag(p) - p pᵀ is symmetric: map and transpose are one.
    (
        lambda z_dot, p, _z, *, axis: p * _spread(z_dot, p, axis),
        lambda p_bar, p, _z, *, axis: p * _spread(p_bar, p, axis),
    ),
    flops=lambda y, z, **_: 13 * _elements(y, z),
    inline=True,
    exact=_exact_softmax,
)
log_softmax_along = general(
    "log_softmax",
    _log_softmax,
    (
        lambda z_dot, _y, z, *, axis: _spread(z_dot, softmax_along(z, axis=axis), axis),
        _log_softmax_transpose,
    ),
    flops=lambda y, z, **_: 13 * _elements(y, z),
    inline=True,
    exact=lambda z, *, axis: z - exact_logsumexp(z, axis=axis, keepdims=True),
)
logsumexp_along = general(
    "logsumexp",
    _logsumexp,
    (
        lambda z_dot, _y, z, *, axis, keepdims: sum_over(
            z_dot * softmax_along(z, axis=axis), axis=(axis,), keepdims=keepdims
        ),
        lambda y_bar, _y, z, *, axis, keepdims: (
            (y_bar if keepdims else expand(y_bar, z, (axis,))) * softmax_along(z, axis=axis)
        ),
    ),
    flops=lambda y, z, **_: 13 * _elements(y, z),
    inline=True,
    exact=exact_logsumexp,
)


def softmax(z: Value, axis: int = -1) -> Value:
    """softmax(z)_i = exp(z_i) / Σ_j exp(z_j) along an axis (equation 6.29); never overflows."""
    return softmax_along(z, axis=axes(z, axis)[0])


def log_softmax(z: Value, axis: int = -1) -> Value:
    """Return z_i - log Σ_j exp(z_j) along an axis (equation 6.30)."""
    return log_softmax_along(z, axis=axes(z, axis)[0])


def logsumexp(z: Value, axis: Axis = -1, *, keepdims: bool = False) -> Value:
    """Return log Σ exp(z) over an axis, several, or (None) all: the soft maximum."""
    chosen = axes(z, axis)
    if len(chosen) == 1:
        return logsumexp_along(z, axis=chosen[0], keepdims=keepdims)
    rows = rows_of(z, chosen)
    y = logsumexp_along(rows, axis=len(shape_of(rows)) - 1, keepdims=False)
    return expand(y, z, chosen) if keepdims else y
