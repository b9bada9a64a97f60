"""Primitives that move elements: transposing, indexing, joining, padding, sorting, cumulative sums.

Each is linear, so its declaration is the map and its transpose: gathering is transposed by
scattering, padding by slicing, joining by splitting.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ffverify.reference.engine.primitive import (
    Primitive,
    astype,
    broadcast_to,
    constant,
    general,
    kept,
    linear,
    positive,
    reshape,
)
from ffverify.reference.engine.var import (
    Value,
    Var,
    concrete,
    dtype_of,
    innermost,
    ndarray,
    shape_of,
)

from .elementary import where

__all__ = ["broadcast_to", "reshape"]  # declared with the engine, in primitive.py

transpose: Primitive = linear(
    "transpose",
    lambda x, *, axes: x.transpose(axes),
    lambda y_bar, _y, _x, *, axes: transpose(y_bar, axes=tuple(np.argsort(axes).tolist())),
    flops=0,
    source=lambda _x, *, axes: "{0}.T" if axes == (1, 0) else "{0}.transpose({axes})",
    written=lambda _x, v, *, axes: transpose(v, axes=tuple(np.argsort(axes).tolist())),
)

# Indexing. Integer arrays in an index are arguments, so that they may be inputs of a graph; `index`
# is the index with ARRAY in their places. ----------------------------------------------------------
ARRAY = "array"
SIMPLE = frozenset({int, slice})


def filled(index: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arrays) == len(index) or not arrays:  # the usual cases, quickly
        return arrays or index
    remaining = iter(arrays)
    return tuple(next(remaining) if part is ARRAY else part for part in index)


def _scatter(
    y: Any, *arrays: Any, index: tuple[Any, ...], shape: tuple[int, ...], distinct: bool = False
) -> Any:
    x = np.zeros(shape, dtype_of(y))
    if arrays and not distinct:
        np.add.at(x, filled(index, arrays), y)  # an element taken twice is given twice
    else:
        x[filled(index, arrays)] = y
    return x


def _gather_source(_x: Value, *_arrays: Value, index: tuple[Any, ...]) -> str:
    places = itertools.count(1)
    parts = []
    for part in index:
        if isinstance(part, slice):
            parts.append(":".join("" if i is None else str(i) for i in (part.start, part.stop)))
            parts[-1] += "" if part.step is None else f":{part.step}"
        elif part is None or part is Ellipsis or isinstance(part, int):
            parts.append("..." if part is Ellipsis else str(part))
        elif part is ARRAY:
            parts.append(f"{{{next(places)}}}")
        else:
            return ""  # a mask
    return f"{{0}}[{', '.join(parts) or '()'}]"


gather: Primitive = linear(
    "gather",
    lambda x, *arrays, index: x[filled(index, arrays)],
    lambda y_bar, _y, x, *arrays, index: scatter(y_bar, *arrays, index=index, shape=shape_of(x)),
    flops=0,
    source=_gather_source,
    written=lambda x, v, *, index: assigned(x, v, index=index),
)
scatter: Primitive = linear(
    "scatter",
    _scatter,
    lambda x_bar, _x, _y, *arrays, index, **_: gather(x_bar, *arrays, index=index),
)


def _assigned(x: Any, v: Any, *arrays: Any, index: tuple[Any, ...]) -> Any:
    y = np.array(x)
    y[filled(index, arrays)] = v
    return y


def _stays(*arrays: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """Tell which of the values put at an index stay: where an element is written twice, the last."""
    owner = np.zeros(shape, np.intp)
    place = filled(index, arrays)
    numbers = np.arange(owner[place].size).reshape(owner[place].shape)
    owner[place] = numbers
    return owner[place] == numbers


def _assigned_transpose(
    y_bar: Value, _y: Value, x: Value, _v: Value, *arrays: Value, index: tuple[Any, ...]
) -> Value:
    v_bar = gather(y_bar, *arrays, index=index)
    if not arrays:
        return v_bar
    return where(stays(*arrays, index=index, shape=shape_of(x)), v_bar, 0.0)


stays = constant("stays", _stays, exact=_stays)
# x after ``x[index] = v``.
assigned: Primitive = general(
    "assigned",
    _assigned,
    (
        lambda x_dot, _y, _x, _v, *arrays, index: assigned(x_dot, 0.0, *arrays, index=index),
        lambda y_bar, _y, _x, _v, *arrays, index: assigned(y_bar, 0.0, *arrays, index=index),
    ),
    (
        lambda v_dot, _y, x, _v, *arrays, index: assigned(
            np.zeros(shape_of(x), dtype_of(x)), v_dot, *arrays, index=index
        ),
        _assigned_transpose,
    ),
    None,
    flops=0,
)


def parted(index: Any) -> tuple[list[Any], tuple[Any, ...]]:
    """Part an index into its arrays of integers and all else, with ARRAY in their places."""
    template, arrays = [], []
    for part in index if isinstance(index, tuple) else (index,):
        kind = type(part)
        if kind in SIMPLE:  # the usual cases, quickly
            template.append(part)
            continue
        if kind is not ndarray and kind is not Var:
            if isinstance(part, (list, tuple)):  # NumPy's own reading of them
                part = np.asarray(part, None if len(part) else np.intp)  # noqa: PLW2901
            elif not isinstance(part, np.ndarray):
                template.append(part)
                continue
        if part.dtype.kind == "b":
            template.append(concrete(part))  # a mask decides the shape of the result
        elif part.ndim or kind is Var:
            template.append(ARRAY)
            arrays.append(part)
        else:
            template.append(part)
    return arrays, tuple(template)


def getitem(x: Value, index: Any) -> Value:
    """Return ``x[index]``: slices, integers, None, Ellipsis, integer arrays, boolean masks."""
    arrays, template = parted(index)
    return gather.on(x, *arrays, index=template)


def number(y: Value) -> Value:
    """Give a result without axes as a number, as NumPy does: ``+=`` makes another of it."""
    return gather(y, index=()) if shape_of(y) == () and isinstance(innermost(y), ndarray) else y


def with_memory(x: Value) -> Value:
    """Give a number as an array without axes, into which a program may write."""
    return x if isinstance(innermost(x), ndarray) else reshape(x, shape=())


def _reads_what_it_wrote(target: Any, source: Any) -> bool:
    """Whether NumPy changes elements of the source before it assigns them: of rows it makes no copy."""
    if not (target.ndim == source.ndim == 1 and target.shape == source.shape):
        return False
    if not np.may_share_memory(target, source):
        return False
    if target.strides[0] < 0:
        target, source = target[::-1], source[::-1]
    (step,), (stride,) = target.strides, source.strides
    if stride * step <= 0:  # then it does
        return False
    read = np.arange(target.size)
    gap = source.ctypes.data - target.ctypes.data
    written, between = np.divmod(gap + stride * read, step)  # which write each read meets
    backwards = gap < 0 < gap + stride * target.size
    before = written > read if backwards else written < read
    met = (between == 0) & (written >= 0) & (written < target.size)
    return bool(np.any(met & before))


def setitem(x: Value, index: Any, v: Value) -> Value:
    """Return x after ``x[index] = v``."""
    arrays, template = parted(index)
    parts = not arrays and type(v) is Var and isinstance(innermost(v), ndarray)
    if parts and _reads_what_it_wrote(np.asarray(innermost(x)[template]), innermost(v)):
        raise ValueError(
            "assignment of a part of an array to an overlapping one, of which NumPy reads elements that it "
            "has written before: assign a copy (y[::2] = y[:3].copy())"
        )
    x_like = np.broadcast_to(False, shape_of(x))
    place = x_like[filled(template, tuple(map(innermost, arrays)))]
    if type(v) in (list, tuple):
        np.empty(place.shape)[...] = v  # NumPy says where a list has too many axes
    elif shape_of(v) and not isinstance(place, ndarray):
        np.empty(1)[0] = np.broadcast_to(False, shape_of(v))  # as it does of arrays for one element
    shape = place.shape
    surplus = len(shape_of(v)) - len(shape)
    if surplus > 0 and set(shape_of(v)[:surplus]) == {1}:  # which NumPy leaves out
        v = reshape(v, shape=shape_of(v)[surplus:])
    return assigned(x, cast_into(x, v), *arrays, index=template)


def cast_into(x: Value, v: Value) -> Value:
    """Give what is written into an array the array's dtype."""
    if dtype_of(v).kind == "c":
        raise TypeError(
            "a complex value into an array of real ones: write its .real or np.abs of it"
        )
    return astype(v, dtype=dtype_of(x))


take_along: Primitive = linear(
    "take_along",
    lambda x, indices, *, axis: np.take_along_axis(x, indices, axis),
    lambda y_bar, _y, x, indices, *, axis: put_along(y_bar, indices, axis=axis, shape=shape_of(x)),
    flops=0,
)


def _put_along(y: Any, indices: Any, *, axis: int, shape: tuple[int, ...]) -> Any:
    x = np.zeros(shape, dtype_of(y))
    # Of the axes that y or its indices are broadcast along, every element counts.
    places = list(np.ogrid[tuple(slice(n) for n in shape)])
    places[axis] = indices
    np.add.at(x, tuple(places), y)
    return x


put_along: Primitive = linear(
    "put_along",
    _put_along,
    lambda x_bar, _x, _y, indices, *, axis, **_: take_along(x_bar, indices, axis=axis),
)

# Joining, padding ----------------------------------------------------------------------------------


def before(x: Value, axis: int) -> tuple[slice, ...]:
    """Return the index of all that lies in the axes before one; raises NumPy's AxisError."""
    if isinstance(axis, bool):
        raise TypeError(f"axis={axis!r}: an integer")
    return (slice(None),) * normalize_axis_index(axis, len(shape_of(x)))


def _part(v: Value, k: int, xs: tuple[Value, ...], axis: int) -> tuple[slice, ...]:
    sizes = [shape_of(x)[axis] for x in xs]
    start = sum(sizes[:k])
    return (*before(v, axis), slice(start, start + sizes[k]))


concatenate = general(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    (
        lambda x_dot, y, *xs, axis, k: scatter(
            x_dot, index=_part(y, k, xs, axis), shape=shape_of(y)
        ),
        lambda y_bar, _y, *xs, axis, k: gather(y_bar, index=_part(y_bar, k, xs, axis)),
    ),
    variadic=True,
    flops=0,
)
pad_zeros = linear(
    "pad_zeros",
    lambda x, *, widths: np.pad(x, widths),
    lambda y_bar, _y, x, *, widths: gather(
        y_bar,
        index=tuple(
            slice(before, before + n) for (before, _), n in zip(widths, shape_of(x), strict=True)
        ),
    ),
    flops=0,
)


# Cumulative sums and sorting -----------------------------------------------------------------------
def flip(x: Value, axis: int) -> Value:
    """Reverse the order along an axis."""
    return gather(x, index=(*before(x, axis), slice(None, None, -1)))


cumsum: Primitive = linear(
    "cumsum",
    lambda x, *, axis: np.cumsum(x, axis=axis),
    lambda y_bar, _y, _x, *, axis: flip(cumsum(flip(y_bar, axis), axis=axis), axis),
)


def cumprod(x: Value, axis: int) -> Value:
    """As `numpy.cumprod`, by doubling: each step makes every element the product of twice as many.

    Without a division, so that it is right to every order also where factors are 0.
    """
    whole = before(x, axis)
    if shape_of(x)[axis] < 2:
        return positive(x)  # no x itself
    shift = 1
    while shift < shape_of(x)[axis]:
        first = gather(x, index=(*whole, slice(None, shift)))
        later = gather(x, index=(*whole, slice(shift, None)))
        x = concatenate(first, later * gather(x, index=(*whole, slice(None, -shift))), axis=axis)
        shift *= 2
    return x


def _argsort(x: Value, *, axis: int, kind: Any = "stable") -> Value:
    return np.argsort(x, axis=axis, kind=kind)


argsort = constant("argsort", _argsort, exact=_argsort)


def sort(x: Value, axis: int = -1) -> Value:
    """Sort along an axis; equal elements keep their order, which settles the slopes at ties."""
    return take_along(x, argsort(x, axis=axis), axis=axis)


def expand(y: Value, x: Value, axis: tuple[int, ...]) -> Value:
    """Give the result of a reduction of x over `axis` its reduced axes back, with length 1."""
    return reshape(y, shape=kept(shape_of(x), axis))
