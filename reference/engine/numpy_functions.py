"""Which primitive serves which NumPy function, so that plain NumPy code differentiates.

A ufunc is served by the primitive whose `forward` it is; other functions by a function here or in
the modules of primitives. A function that is not in these tables raises one clear TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.reference.primitives import activations, elementary, linalg, reductions, shaping
from ffverify.reference.primitives.elementary import (
    divide,
    maximum,
    minimum,
    multiply,
    power,
    power_number,
)
from ffverify.reference.primitives.reductions import axes
from ffverify.reference.primitives.shaping import concatenate, flip, gather, getitem, transpose

from .primitive import Primitive, astype, broadcast_to, elementwise, reshape
from .var import FUNCTIONS, REDUCTIONS, UFUNCS, Value, dtype_of, innermost, shape_of

Axis = Any


def implements(
    *functions: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the one that serves these NumPy functions on `Var`s."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for numpy_function in functions:
            FUNCTIONS[numpy_function] = function
        return function

    return register


for _module in (elementary, activations, linalg):
    for _primitive in vars(_module).values():
        if isinstance(_primitive, Primitive) and isinstance(_primitive.forward, np.ufunc):
            UFUNCS[_primitive.forward] = _primitive


# Ufuncs that are compositions ------------------------------------------------------------------------
def _power(x: Value, p: Value) -> Value:
    if type(p) in (int, float):  # NumPy's own numbers have a dtype, which counts in the result's
        return elementary.square(x) if p == 2 else power_number(x, p=p)
    return power(x, p)


def _logaddexp_slope(_y: Value, a: Value, b: Value) -> Value:
    return activations.sigmoid(a - b)


logaddexp = elementwise(
    "logaddexp",
    np.logaddexp,
    _logaddexp_slope,
    lambda y, a, b: _logaddexp_slope(y, b, a),
    flops=22,
)
UFUNCS |= {
    np.power: _power,
    np.float_power: _power,
    np.matmul: linalg.matmul,
    np.logaddexp: logaddexp,
    np.fabs: elementary.absolute,
    np.deg2rad: lambda x: x * (np.pi / 180),
    np.radians: lambda x: x * (np.pi / 180),
    np.rad2deg: lambda x: x * (180 / np.pi),
    np.degrees: lambda x: x * (180 / np.pi),
    np.conjugate: elementary.positive,
}


# Reductions by ufunc.reduce, whose axis is 0 unless given ----------------------------------------------
def _reducer(function: Callable[..., Value]) -> Callable[..., Value]:
    def reduce(x: Value, axis: Axis = 0, dtype: Any = None, *, keepdims: bool = False) -> Value:
        if dtype is not None:
            raise TypeError("reduce: dtype= is not supported on a traced value: use astype")
        return function(x, axis=axis, keepdims=keepdims)

    return reduce


REDUCTIONS |= {
    np.add: _reducer(reductions.sum_),
    np.multiply: _reducer(reductions.prod),
    np.maximum: _reducer(reductions.max_),
    np.minimum: _reducer(reductions.min_),
}


def _by_keyword(primitive: Primitive) -> Callable[..., Value]:
    return lambda x, axis=None, *, keepdims=False: primitive(x, axis=axis, keepdims=keepdims)


FUNCTIONS |= {
    np.sum: reductions.sum_,
    np.mean: reductions.mean,
    np.prod: reductions.prod,
    np.max: reductions.max_,
    np.amax: reductions.max_,
    np.min: reductions.min_,
    np.amin: reductions.min_,
    np.var: reductions.var,
    np.std: reductions.std,
    np.argmax: _by_keyword(reductions.argmax),
    np.argmin: _by_keyword(reductions.argmin),
    np.all: _by_keyword(reductions.all_),
    np.any: _by_keyword(reductions.any_),
    np.linalg.norm: reductions.norm,
    np.dot: linalg.dot,
    np.vdot: lambda a, b: linalg.dot(_ravel(a), _ravel(b)),
    np.inner: linalg.inner,
    np.outer: linalg.outer,
    np.tensordot: linalg.tensordot,
    np.einsum: linalg.einsum,
    np.diagonal: linalg.diagonal,
    np.trace: linalg.trace,
    np.tril: linalg.tril,
    np.triu: linalg.triu,
    np.linalg.solve: linalg.solve,
    np.linalg.inv: linalg.inv,
    np.linalg.det: linalg.det,
    np.linalg.slogdet: linalg.slogdet,
    np.linalg.cholesky: linalg.cholesky,
    np.where: elementary.where,
    np.sort: lambda x, axis=-1, **_: shaping.sort(*_flat(x, axis)),
    np.argsort: lambda x, axis=-1, **_: shaping.argsort(_flat(x, axis)[0], axis=_flat(x, axis)[1]),
    np.ndarray.__getitem__: getitem,
    np.ndarray.__setitem__: shaping.setitem,
    np.shape: shape_of,
    np.ndim: lambda x: len(shape_of(x)),
    np.iscomplexobj: lambda _x: False,
    np.result_type: lambda *xs: np.result_type(*(dtype_of(x) for x in xs)),
}
# Names of the array API standard, which NumPy has from version 2 on.
FUNCTIONS |= {
    getattr(np.linalg, name): function
    for name, function in {
        "diagonal": lambda x, *, offset=0: linalg.diagonal(x, offset, -2, -1),
        "matrix_transpose": linalg.matrix_transpose,
        "outer": linalg.outer,
        "trace": lambda x, *, offset=0: linalg.trace(x, offset, -2, -1),
        "vecdot": lambda a, b, *, axis=-1: reductions.sum_(a * b, axis),
        "vector_norm": lambda x, *, axis=None, keepdims=False, ord=2: reductions.norm(  # noqa: A006  # NumPy's
            x, None if ord == 2 else ord, axis, keepdims=keepdims
        ),
    }.items()
    if hasattr(np.linalg, name)
}


# Shapes ------------------------------------------------------------------------------------------------
@implements(np.size)
def _size(x: Value, axis: int | None = None) -> int:
    return int(np.prod(shape_of(x))) if axis is None else shape_of(x)[axis]


@implements(np.ndarray.astype)
def _astype(x: Value, dtype: Any) -> Value:
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        raise TypeError(f"astype({dtype}): complex values are not differentiated here")
    if dtype.kind != "f":
        return elementary.to_integer(x, dtype=dtype)
    return astype(x, dtype=dtype)


@implements(np.reshape)
def _reshape(x: Value, shape: Any, order: str = "C", *, copy: bool | None = None) -> Value:
    if order == "A":
        order = "F" if np.isfortran(np.asarray(innermost(x))) else "C"
    sizes = np.broadcast_to(0, shape_of(x)).reshape(shape).shape  # NumPy says what -1 is
    x = elementary.positive(x) if copy else x
    return reshape(x, shape=sizes) if order == "C" else _reshape(x.T, sizes[::-1]).T


@implements(np.ravel)
def _ravel(x: Value, order: str = "C") -> Value:
    if order in "AK":
        order = "F" if np.isfortran(np.asarray(innermost(x))) else "C"
    return reshape(x, shape=(_size(x),)) if order == "C" else _reshape(x, -1, order)


def _flat(x: Value, axis: int | None) -> tuple[Value, int]:
    """Return x and the axis; where that is None, x as one row, and 0."""
    return (_ravel(x), 0) if axis is None else (x, axis)


@implements(np.transpose, getattr(np, "permute_dims", np.transpose))
def _transpose(x: Value, axes: Any = None) -> Value:
    n = len(shape_of(x))
    order = tuple(range(n))[::-1] if axes is None else tuple(a % n for a in axes)
    return transpose(x, axes=order)


@implements(np.swapaxes)
def _swapaxes(x: Value, axis1: int, axis2: int) -> Value:
    return transpose(x, axes=np.swapaxes(_numbered(x), axis1, axis2).shape)


@implements(np.moveaxis)
def _moveaxis(x: Value, source: Any, destination: Any) -> Value:
    return transpose(x, axes=np.moveaxis(_numbered(x), source, destination).shape)


def _numbered(x: Value) -> Any:
    """Return an array of as many axes, each as long as its own number: NumPy permutes them for us."""
    return np.empty(range(len(shape_of(x))))


@implements(np.expand_dims)
def _expand_dims(x: Value, axis: Any) -> Value:
    return reshape(x, shape=np.expand_dims(np.broadcast_to(0, shape_of(x)), axis).shape)


@implements(np.squeeze)
def _squeeze(x: Value, axis: Any = None) -> Value:
    return reshape(x, shape=np.squeeze(np.broadcast_to(0, shape_of(x)), axis).shape)


@implements(np.atleast_1d)
def _atleast_1d(x: Value) -> Value:
    return x if shape_of(x) else _ravel(x)


@implements(np.broadcast_to)
def _broadcast_to(x: Value, shape: Any) -> Value:
    return broadcast_to(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


@implements(np.flip)
def _flip(x: Value, axis: Axis = None) -> Value:
    for a in axes(x, axis):
        x = flip(x, a)
    return x


@implements(np.clip)
def _clip(
    x: Value,
    a_min: Value = None,
    a_max: Value = None,
    *,
    min: Value = None,  # noqa: A002  # NumPy's
    max: Value = None,  # noqa: A002  # NumPy's
) -> Value:
    a_min, a_max = a_min if min is None else min, a_max if max is None else max
    numbers = {int, float, type(None)}
    if {type(a_min), type(a_max)} <= numbers:
        low = -np.inf if a_min is None else a_min
        return elementary.clip(x, low=low, high=np.inf if a_max is None else a_max)
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


# Joining -------------------------------------------------------------------------------------------------
@implements(np.concatenate)
def _concatenate(arrays: Sequence[Value], axis: int | None = 0) -> Value:
    if axis is None:
        arrays, axis = [_ravel(x) for x in arrays], 0
    return concatenate(*arrays, axis=axis)


@implements(np.stack)
def stack(arrays: Sequence[Value], axis: int = 0) -> Value:
    """As `numpy.stack`."""
    return concatenate(*(_expand_dims(x, axis) for x in arrays), axis=axis)


@implements(np.vstack)
def _vstack(arrays: Sequence[Value]) -> Value:
    rows = [reshape(x, shape=(1, _size(x))) if len(shape_of(x)) < 2 else x for x in arrays]
    return concatenate(*rows, axis=0)


@implements(np.hstack)
def _hstack(arrays: Sequence[Value]) -> Value:
    parts = [_atleast_1d(x) for x in arrays]
    return concatenate(*parts, axis=0 if len(shape_of(parts[0])) == 1 else 1)


@implements(np.column_stack)
def _column_stack(arrays: Sequence[Value]) -> Value:
    columns = [reshape(x, shape=(_size(x), 1)) if len(shape_of(x)) < 2 else x for x in arrays]
    return concatenate(*columns, axis=1)


@implements(np.append)
def _append(x: Value, values: Value, axis: int | None = None) -> Value:
    return _concatenate([x, values], axis)


@implements(np.split)
def _split(x: Value, sections: Any, axis: int = 0) -> Value:
    n = shape_of(x)[axis]
    if isinstance(sections, int) and n % sections:
        raise ValueError(f"split: {n} elements do not divide into {sections} equal parts")
    return _array_split(x, sections, axis)


@implements(np.array_split)
def _array_split(x: Value, sections: Any, axis: int = 0) -> list[Value]:
    parts = np.array_split(np.arange(shape_of(x)[axis]), sections)
    before = (slice(None),) * (axis % len(shape_of(x)))
    return [
        gather(
            x, index=(*before, slice(int(part[0]), int(part[-1]) + 1) if part.size else slice(0))
        )
        for part in parts
    ]


@implements(np.pad)
def _pad(x: Value, pad_width: Any, mode: str = "constant", *, constant_values: Value = 0) -> Value:
    if mode != "constant" or not isinstance(constant_values, int | float):
        raise TypeError(f"pad: mode {mode!r} has no rule: use constant_values, or np.concatenate")
    n = len(shape_of(x))
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(pad_width, (n, 2)))
    y = shaping.pad_zeros(x, widths=widths)
    return (
        y
        if constant_values == 0
        else y + np.pad(np.zeros(shape_of(x), dtype_of(x)), widths, constant_values=constant_values)
    )


@implements(np.repeat)
def _repeat(x: Value, repeats: int, axis: int | None = None) -> Value:
    if axis is None:
        x, axis = _ravel(x), 0
    places = np.repeat(np.arange(shape_of(x)[axis]), repeats)
    return _take(x, places, axis)


@implements(np.tile)
def _tile(x: Value, reps: Any) -> Value:
    places = np.tile(np.arange(_size(x)).reshape(shape_of(x)), reps)
    return gather(_ravel(x), places, index=(shaping.ARRAY,))


@implements(np.roll)
def _roll(x: Value, shift: Any, axis: Any = None) -> Value:
    if axis is None:
        return reshape(_roll(_ravel(x), shift, 0), shape=shape_of(x))
    for a, n in np.broadcast(axis, shift):
        x = _take(x, np.roll(np.arange(shape_of(x)[a]), n), a)
    return x


@implements(np.take)
def _take(x: Value, indices: Value, axis: int | None = None) -> Value:
    if axis is None:
        x, axis = _ravel(x), 0
    return getitem(x, (*(slice(None),) * (axis % len(shape_of(x))), indices))


@implements(np.take_along_axis)
def _take_along_axis(x: Value, indices: Value, axis: int | None = -1) -> Value:
    x, axis = _flat(x, axis)
    return shaping.take_along(x, indices, axis=axis % len(shape_of(x)))


@implements(np.cumsum)
def _cumsum(x: Value, axis: int | None = None) -> Value:
    return shaping.cumsum(_ravel(x), axis=0) if axis is None else shaping.cumsum(x, axis=axis)


@implements(np.cumprod)
def _cumprod(x: Value, axis: int | None = None) -> Value:
    return shaping.cumprod(_ravel(x), 0) if axis is None else shaping.cumprod(x, axis)


@implements(np.diff)
def _diff(x: Value, n: int = 1, axis: int = -1) -> Value:
    before = (slice(None),) * (axis % len(shape_of(x)))
    for _ in range(n):
        x = gather(x, index=(*before, slice(1, None))) - gather(x, index=(*before, slice(None, -1)))
    return x


@implements(np.diag)
def _diag(x: Value, k: int = 0) -> Value:
    if len(shape_of(x)) == 2:
        return linalg.diagonal(x, k)
    n = shape_of(x)[0] + abs(k)
    i = np.arange(shape_of(x)[0])
    return shaping.scatter(
        x, i - min(k, 0), i + max(k, 0), index=(shaping.ARRAY, shaping.ARRAY), shape=(n, n)
    )


@implements(np.average)
def _average(
    x: Value,
    axis: Axis = None,
    weights: Value = None,
    returned: bool = False,  # as in NumPy
    *,
    keepdims: bool = False,
) -> Value:
    if weights is None:
        y = reductions.mean(x, axis, keepdims=keepdims)
        total: Value = _size(x) / max(_size(y), 1)
    else:
        weights = weights if isinstance(weights, np.ndarray) else np.asarray(weights)
        chosen = axes(x, axis)
        if shape_of(weights) != shape_of(x):
            if axis is None:
                raise TypeError("average: weights of another shape than the array need an axis")
            if shape_of(weights) != tuple(shape_of(x)[a] for a in np.atleast_1d(axis)):
                raise ValueError(
                    f"average: weights of shape {shape_of(weights)} for axis {axis} of an array of "
                    f"shape {shape_of(x)}"
                )
            order = tuple(np.argsort([a % len(shape_of(x)) for a in np.atleast_1d(axis)]).tolist())
            along = [n if i in chosen else 1 for i, n in enumerate(shape_of(x))]
            weights = reshape(transpose(weights, axes=order), shape=tuple(along))
        total = reductions.sum_(weights, chosen, keepdims=keepdims)
        y = divide(reductions.sum_(multiply(x, weights), chosen, keepdims=keepdims), total)
    return (y, broadcast_to(total, shape=shape_of(y))) if returned else y


# Constants of a given shape --------------------------------------------------------------------------
for _like in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):

    def _make(x: Value, *args: Any, dtype: Any = None, function: Any = _like) -> Any:
        return function(np.broadcast_to(np.zeros((), dtype_of(x)), shape_of(x)), *args, dtype=dtype)

    FUNCTIONS[_like] = _make
