"""NumPy's functions that reshape, rearrange, split and join arrays, on traced values.

Where elements only move, NumPy itself is asked: its function is applied to the numbers of the elements,
and they are gathered from where these say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ffverify.reference.primitives import linalg, shaping
from ffverify.reference.primitives.elementary import positive, where
from ffverify.reference.primitives.reductions import listed_axes
from ffverify.reference.primitives.shaping import (
    concatenate,
    gather,
    getitem,
    number,
    transpose,
    with_memory,
)

from .primitive import astype, broadcast_to, reshape
from .tracing import View, linked, read_only
from .tree import flatten, unflatten
from .var import (
    ADDITIONS,
    FUNCTIONS,
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


def size(x: Value, axis: Axis = None) -> int:
    """As `numpy.size`."""
    shape = shape_of(x)
    return int(np.prod([shape[a] for a in listed_axes(x, axis)]))


def numbers(x: Value, start: int = 0) -> Any:
    """Return an array of x's shape, and layout in memory, in which every element has a number."""
    places = np.empty_like(np.asarray(innermost(x)), np.intp)
    places[...] = np.arange(start, start + size(x)).reshape(shape_of(x))
    return places


def like(x: Value) -> Any:
    """Return an array of x's shape that takes no memory, of which to ask NumPy for shapes."""
    return np.broadcast_to(False, shape_of(x))


# Shapes ----------------------------------------------------------------------------------------------
FUNCTIONS[np.size] = size
FUNCTIONS[np.shape] = shape_of
FUNCTIONS[np.ndim] = lambda x: len(shape_of(x))


def _order(x: Value, order: str) -> str:
    """Return "C" or "F", also for the orders that depend on the memory layout."""
    order = (order or "C").upper()
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"order={order!r}: one of 'C', 'F', 'A', 'K'")
    if order in "CF":
        return order
    return "F" if np.isfortran(np.asarray(innermost(x))) else "C"


@implements(np.reshape)
def _reshape(x: Value, shape: Any, order: str = "C", *, copy: bool | None = None) -> Value:
    reshaped: Callable[..., Any] = np.reshape
    if copy is False:
        reshaped(np.asarray(innermost(x)), shape, order, copy=False)  # which says where it cannot
    sizes = reshaped(like(x), shape, order).shape  # NumPy says what -1 is
    x = _copy(x, _order(x, order)) if copy else x
    if _order(x, order) == "C":
        return reshape(x, shape=sizes)
    return _transpose(reshape(_transpose(x), shape=sizes[::-1]))


@implements(np.ravel)
def ravel(x: Value, order: str = "C") -> Value:
    """As `numpy.ravel`."""
    array = innermost(x)
    if order in ("K", "k") and isinstance(array, np.ndarray) and not array.flags.forc:
        return gather(ravel(x), numbers(x).ravel("K"), index=(shaping.ARRAY,))
    y = _reshape(x, (size(x),), _order(x, order))
    return y if innermost(y).flags.forc else positive(y)  # no view with gaps


@implements(np.copy)
def _copy(x: Value, order: str = "K", **_: Any) -> Value:
    if order in ("K", "k", None):
        return with_memory(positive(x))
    if _order(x, order) == "F":
        return _transpose(_copy(_transpose(x), "C"))
    y = positive(x)
    if not shape_of(y) or innermost(y).flags.c_contiguous:
        return with_memory(y)
    return reshape(reshape(y, shape=(size(x),)), shape=shape_of(x))


def in_layout_of(x: Value, y: Value) -> Value:
    """Lay y out in memory as NumPy does what it makes of x."""
    strides = np.empty_like(np.asarray(innermost(x)), shape=shape_of(y)).strides
    if np.asarray(innermost(y)).strides == strides:
        return y
    order = tuple(sorted(range(len(strides)), key=lambda a: -strides[a]))
    return transpose(_copy(transpose(y, axes=order), "C"), axes=tuple(np.argsort(order).tolist()))


def is_row_of_one(x: Value, axis: Axis) -> bool:
    """Whether it is a number of which NumPy takes an axis, as if it were a row."""
    return not shape_of(x) and axis in (0, -1)


def flat(x: Value, axis: int | None) -> tuple[Value, int]:
    """Return x and the axis; where that is None, x as one row, and 0."""
    return (ravel(x), 0) if axis is None else (x, axis)


@implements(np.transpose, getattr(np, "permute_dims", np.transpose))
def _transpose(x: Value, axes: Any = None) -> Value:
    return transpose(x, axes=_permuted(x, np.transpose, axes))


@implements(np.swapaxes)
def _swapaxes(x: Value, axis1: int, axis2: int) -> Value:
    return transpose(x, axes=_permuted(x, np.swapaxes, axis1, axis2))


@implements(np.moveaxis)
def _moveaxis(x: Value, source: Any, destination: Any) -> Value:
    return transpose(x, axes=_permuted(x, np.moveaxis, source, destination))


@implements(np.rollaxis)
def _rollaxis(x: Value, axis: int, start: int = 0) -> Value:
    return transpose(x, axes=_permuted(x, np.rollaxis, axis, start))


def _permuted(x: Value, function: Callable[..., Any], *args: Any) -> tuple[int, ...]:
    """Permute the numbers of the axes: each axis of an array is made as long as its own number."""
    shape: tuple[int, ...] = function(np.empty(range(len(shape_of(x)))), *args).shape
    return shape


@implements(np.expand_dims)
def expand_dims(x: Value, axis: Any) -> Value:
    """As `numpy.expand_dims`."""
    return reshape(x, shape=np.expand_dims(like(x), axis).shape)


@implements(np.squeeze)
def _squeeze(x: Value, axis: Any = None) -> Value:
    shape = np.squeeze(like(x), axis).shape
    return reshape(x, shape=shape) if isinstance(innermost(x), np.ndarray) else x


def _at_least(function: Callable[..., Any]) -> Callable[..., Any]:
    def of(*arrays: Value) -> Any:
        shapes = [function(like(x)).shape for x in arrays]
        found = [
            x if shape_of(x) == shape else reshape(x, shape=shape)
            for x, shape in zip(map(as_array, arrays), shapes, strict=True)
        ]
        return found[0] if len(found) == 1 else tuple(found)

    return of


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    FUNCTIONS[_function] = _at_least(_function)


@implements(np.broadcast_to)
def _broadcast_to(x: Value, shape: Any) -> Value:
    shape = np.broadcast_to(like(x), shape).shape
    how = {"shape": shape, "view": True}
    return linked(broadcast_to(x, **how), x, View(broadcast_to, read_only), how)


@implements(np.broadcast_arrays)
def _broadcast_arrays(*arrays: Value) -> tuple[Value, ...]:
    arrays = tuple(map(as_array, arrays))
    shape = np.broadcast_shapes(*map(shape_of, arrays))
    return tuple(x if shape_of(x) == shape else _broadcast_to(x, shape) for x in arrays)


@implements(np.meshgrid)
def _meshgrid(
    *arrays: Value, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Value, ...]:
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing={indexing!r}: 'xy' or 'ij'")
    found = []
    for i, x in enumerate(arrays):
        axis = 1 - i if indexing == "xy" and i < 2 <= len(arrays) else i
        found.append(
            reshape(x, shape=tuple(size(x) if a == axis else 1 for a in range(len(arrays))))
        )
    parts = tuple(found) if sparse else _broadcast_arrays(*found)
    return tuple(map(positive, parts)) if copy else parts


# Elements that move ----------------------------------------------------------------------------------
def _moving(function: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
    """Let a function that only moves elements of one argument serve: it moves their numbers."""

    def moved(*args: Any, **kwargs: Any) -> Any:
        x = args[place]
        rest = [numbers(a) if i == place else concrete(a) for i, a in enumerate(args)]
        kwargs = {name: concrete(value) for name, value in kwargs.items()}
        return _gathered(ravel(x), function(*rest, **kwargs))

    return moved


def _gathered(x: Value, places: Any) -> Any:
    if isinstance(places, list | tuple):
        return type(places)(_gathered(x, part) for part in places)
    if np.size(places) > 0 == size(x):  # where there is none to take, NumPy's resize takes zeros
        return np.zeros(np.shape(places), dtype_of(x))
    return with_memory(gather(x, np.asarray(places), index=(shaping.ARRAY,)))


MOVING = (
    np.tile, np.repeat, np.roll, np.delete, np.resize, np.fft.fftshift, np.fft.ifftshift,
)  # fmt: skip
FUNCTIONS |= {function: _moving(function) for function in MOVING}
FUNCTIONS |= {function: _moving(function, 1) for function in (np.compress, np.extract)}


def _windows(x: Value, *, window_shape: Any, axis: Any) -> Value:
    return _gathered(ravel(x), sliding_window_view(numbers(x), window_shape, axis))


@implements(sliding_window_view)
def _sliding_window_view(x: Value, window_shape: Any, axis: Any = None) -> Value:
    how = {"window_shape": window_shape, "axis": axis}
    return linked(_windows(x, **how), x, View(_windows, read_only), how)


@implements(np.flip)
def _flip(x: Value, axis: Axis = None) -> Value:
    chosen = listed_axes(x, axis)
    step = [slice(None, None, -1 if a in chosen else None) for a in range(len(shape_of(x)))]
    return gather(x, index=tuple(step))


@implements(np.rot90)
def _rot90(x: Value, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Value:
    np.rot90(like(x), k, axes)  # which says what is no plane
    if k % 2 == 0:
        return _flip(x, axes if k % 4 else ())
    return (
        _swapaxes(_flip(x, axes[1]), *axes) if k % 4 == 1 else _flip(_swapaxes(x, *axes), axes[1])
    )


FUNCTIONS[np.flipud] = lambda x: _flip(x, 0)
FUNCTIONS[np.fliplr] = lambda x: _flip(x, 1)


@implements(np.take)
def take(x: Value, indices: Value, axis: int | None = None, *, mode: str = "raise") -> Value:
    """As `numpy.take`."""
    if isinstance(indices, slice):
        raise TypeError("take: indices are integers: write x[a:b] for a slice")
    if type(indices) is not Var and not isinstance(indices, np.ndarray):
        indices = np.asarray(indices, np.intp)  # NumPy casts lists and numbers whatever they are
    indices = FUNCTIONS[np.ndarray.astype](indices, np.intp, casting="same_kind", copy=False)
    x, axis = flat(x, None if is_row_of_one(x, axis) else axis)
    before = shaping.before(x, axis)
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(f"take: mode={mode!r}: one of 'raise', 'wrap', 'clip'")
    if mode != "raise":
        n = shape_of(x)[axis]
        indices = np.clip(indices, 0, n - 1) if mode == "clip" else np.mod(indices, n)
    y = getitem(x, (*before, indices))
    return number(_copy(y, "C"))  # a copy also where an integer index gives a view


@implements(np.take_along_axis)
def _take_along_axis(x: Value, indices: Value, axis: int | None = -1) -> Value:
    x, axis = flat(x, axis)
    return shaping.take_along(x, indices, axis=len(shaping.before(x, axis)))


@implements(np.pad)
def _pad(x: Value, pad_width: Any, mode: Any = "constant", **options: Any) -> Value:
    pad: Callable[..., Any] = np.pad
    if mode in ("edge", "reflect", "symmetric", "wrap") and "reflect_type" not in options:
        return _gathered(ravel(x), pad(numbers(x), pad_width, mode=mode, **options))
    if mode != "constant":
        raise TypeError(f"pad: mode {mode!r} has no rule: use another, or np.concatenate")
    inside = pad(np.ones(shape_of(x), bool), pad_width)
    if not shape_of(x):
        return _copy(x)  # there is no axis to pad
    widths = [(int(row[0]), int(row[1])) for row in _widths(pad_width, len(shape_of(x)))]
    y = shaping.pad_zeros(x, widths=tuple(widths))
    if not np.any(options.get("constant_values", 0)):
        return y
    outside = pad(np.zeros(shape_of(x), dtype_of(x)), pad_width, **options)
    return in_layout_of(y, where(inside, y, outside))


def _widths(pad_width: Any, ndim: int) -> Any:
    given = pad_width
    if isinstance(pad_width, dict):
        by_axis = {a % ndim: width for a, width in pad_width.items()}
        given = [np.broadcast_to(np.asarray(by_axis.get(a, 0)), 2) for a in range(ndim)]
    return np.broadcast_to(np.asarray(given), (ndim, 2))


@implements(np.diag)
def _diag(x: Value, k: int = 0) -> Value:
    if len(shape_of(x)) == 2:
        return linalg.diagonal(x, k)
    n = shape_of(x)[0] + abs(k)
    i = np.arange(shape_of(x)[0])
    zeros = np.zeros((n, n), dtype_of(x))
    places = (shaping.ARRAY, shaping.ARRAY)
    return shaping.assigned(zeros, x, i - min(k, 0), i + max(k, 0), index=places)


FUNCTIONS[np.diagflat] = lambda x, k=0: _diag(ravel(x), k)


@implements(np.vander)
def _vander(x: Value, N: int | None = None, increasing: bool = False) -> Value:
    (n,) = shape_of(x)
    column = astype(expand_dims(x, 1), dtype=np.promote_types(dtype_of(x), int))
    columns = n if N is None else N
    powers = [np.ones((n, 1), dtype_of(column))]
    for _ in range(1, columns):
        powers.append(powers[-1] * column)
    none, powers = np.ones((n, 0), dtype_of(column)), powers[:columns]
    return concatenate(none, *(powers if increasing else reversed(powers)), axis=1)


# Joining and splitting -------------------------------------------------------------------------------
@implements(np.concatenate)
def _concatenate(arrays: Sequence[Value], axis: int | None = 0, dtype: Any = None) -> Value:
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    return _cast(concatenate(*arrays, axis=axis), dtype)


def _cast(x: Value, dtype: Any) -> Value:
    """Give what is joined a dtype that was asked for, if one was."""
    if dtype is None:
        return x
    if not np.can_cast(dtype_of(x), dtype, "same_kind"):
        raise TypeError(
            f"joining {dtype_of(x)} as {np.dtype(dtype)} would lose more than digits: use astype"
        )
    return astype(x, dtype=np.dtype(dtype))


@implements(np.stack)
def stack(arrays: Sequence[Value], axis: int = 0, dtype: Any = None) -> Value:
    """As `numpy.stack`."""
    return _cast(concatenate(*(expand_dims(x, axis) for x in arrays), axis=axis), dtype)


@implements(np.asarray, np.asanyarray)
def _as_array(values: Any, dtype: Any = None, **_: Any) -> Value:
    """As `numpy.asarray` of nested lists of values, with ``like=``, by which NumPy finds the way here."""
    y = (
        stack(list(map(_as_array, values)))
        if isinstance(values, list | tuple)
        else with_memory(values)
    )
    return y if dtype is None else FUNCTIONS[np.ndarray.astype](y, dtype, copy=False)


@implements(np.array)
def _array(
    values: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: str = "K",
    ndmin: int = 0,
    **_: Any,
) -> Value:
    y = _as_array(values, dtype)
    if len(shape_of(y)) < ndmin:
        y = reshape(y, shape=(1,) * (ndmin - len(shape_of(y))) + shape_of(y))
    if not copy:
        if order != "K":
            raise TypeError("array: order= without a copy has no rule: leave it to np.copy")
        return y
    return _copy(y, "C" if order == "K" and isinstance(values, list | tuple) else order)


def _joining(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that only moves elements of many arrays serve."""

    def joined(
        arrays: Any, *args: Any, dtype: Any = None, casting: Any = "same_kind", **kwargs: Any
    ) -> Any:
        leaves, structure = flatten(arrays if function is np.block else list(arrays))
        if casting != "same_kind":  # NumPy says what it is too strict for
            np.concatenate([np.empty(0, dtype_of(x)) for x in leaves], dtype=dtype, casting=casting)
        ends = np.cumsum([0, *map(size, leaves)]).tolist()
        places = function(unflatten(structure, list(map(numbers, leaves, ends))), *args, **kwargs)
        return _cast(_gathered(concatenate(*map(ravel, leaves), axis=0), places), dtype)

    return joined


FUNCTIONS |= {
    function: _joining(function)
    for function in (np.vstack, np.hstack, np.dstack, np.column_stack, np.block)
}
FUNCTIONS[np.insert] = lambda x, place, values, axis=None: _joining(
    lambda parts: np.insert(parts[0], place, parts[1], axis)
)([x, astype(as_operand(values), dtype=dtype_of(x))])


@implements(np.append)
def _append(x: Value, values: Value, axis: int | None = None) -> Value:
    return _concatenate([x, values], axis)


@implements(np.array_split)
def _array_split(x: Value, sections: Any, axis: int = 0) -> list[Value]:
    whole = shaping.before(x, axis)
    return [
        gather(x, index=(*whole, slice(int(part[0]), int(part[-1]) + 1) if part.size else slice(0)))
        for part in np.array_split(np.arange(shape_of(x)[axis]), sections)
    ]


@implements(np.split)
def _split(x: Value, sections: Any, axis: int = 0) -> list[Value]:
    n = shape_of(x)[axis]
    if np.ndim(sections) == 0 and n % sections:
        raise ValueError(f"split: {n} elements do not divide into {sections} equal parts")
    parts: list[Value] = _array_split(x, sections, axis)
    return parts


@implements(np.vsplit)
def _vsplit(x: Value, sections: Any) -> list[Value]:
    np.vsplit(like(x), sections)  # which says of how many axes
    parts: list[Value] = _split(x, sections, 0)
    return parts


FUNCTIONS[np.hsplit] = lambda x, sections: _split(x, sections, min(1, len(shape_of(x)) - 1))
FUNCTIONS[np.dsplit] = lambda x, sections: _split(x, sections, 2)
if hasattr(np, "unstack"):
    FUNCTIONS[np.unstack] = lambda x, *, axis=0: tuple(_moveaxis(x, axis, 0))


# Writing ---------------------------------------------------------------------------------------------
def _adding(ufunc: Any) -> Callable[..., None]:
    """Make ``ufunc.at``, of one that adds up what is put at an index several times."""

    def at(x: Value, index: Any, values: Value) -> None:
        arrays, template = shaping.parted(index)
        shape = like(x)[shaping.filled(template, tuple(map(innermost, arrays)))].shape
        values = as_array(values)
        values = astype(values, dtype=np.result_type(dtype_of(x), innermost(values)))
        parts = _broadcast_to(values, shape)
        total = shaping.scatter(parts, *arrays, index=template, shape=shape_of(x))
        # To an element that the index has twice the same is assigned twice.
        x[index] = ufunc(getitem(x, index), getitem(total, index))

    return at


ADDITIONS |= {ufunc: _adding(ufunc) for ufunc in (np.add, np.subtract)}


def _scratch(x: Value) -> Any:
    """Return an array like x, of which NumPy says what cannot be written into it."""
    return np.zeros(shape_of(x), dtype_of(x))


@implements(np.copyto)
def _copyto(
    destination: Value,
    source: Value,
    casting: Any = "same_kind",
    where: Any = True,
) -> None:
    np.copyto(_scratch(destination), innermost(source), casting, innermost(where))
    if where is True:
        destination[...] = source
    else:
        destination[...] = FUNCTIONS[np.where](where, source, destination)


@implements(np.fill_diagonal)
def _fill_diagonal(x: Value, values: Value, wrap: bool = False) -> None:
    marked = np.zeros(shape_of(x), np.intp)
    np.fill_diagonal(marked, 1, wrap)
    places = np.nonzero(marked)
    values = ravel(shaping.cast_into(x, as_array(values)))
    if size(values):
        x[places] = take(values, np.arange(places[0].size), mode="wrap")


@implements(np.put)
def _put(x: Value, indices: Any, values: Value, mode: Any = "raise") -> None:
    values = ravel(shaping.cast_into(x, as_array(values)))
    places = np.arange(size(x)).take(concrete(indices), mode=mode).ravel()
    if size(x) and not size(values):
        return
    cycled = take(values, np.arange(places.size), mode="wrap")
    if shape_of(x):
        x[np.unravel_index(places, shape_of(x))] = cycled
    elif places.size:
        x[()] = cycled[-1]


@implements(np.putmask)
def _putmask(x: Value, mask: Value, values: Value) -> None:
    np.putmask(_scratch(x), *map(innermost, (mask, values)))
    mask = np.reshape(as_operand(mask), shape_of(x))
    if size(as_array(values)):
        x[...] = where(mask, FUNCTIONS[np.resize](as_operand(values), shape_of(x)), x)


@implements(np.put_along_axis)
def _put_along_axis(x: Value, indices: Any, values: Value, axis: int | None) -> None:
    np.take_along_axis(like(x), concrete(indices), axis)  # which says what does not match
    if axis is None:
        x[np.unravel_index(concrete(indices), shape_of(x))] = values
        return
    places = list(np.ogrid[tuple(slice(n) for n in shape_of(x))])
    places[axis] = concrete(indices)
    x[tuple(places)] = values
