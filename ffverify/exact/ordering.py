"""Order of high-precision numbers: decided, or refused as undecided; nan as NumPy has it.

Works on object arrays of elements of any arithmetic. Balls that overlap are in no order, unless they
are one and the same object: one object is one number, however wide its ball, so that
``x == np.max(x)`` is decided. So are balls of many bits that are apart by less than any float is large.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from .elements import Undecided, is_nan, is_same, midpoints, shown
from .formats import Array

# Each relation, the one that denies it, and whether a number has it to itself.
COMPARISONS: dict[np.ufunc, tuple[np.ufunc, bool]] = {
    np.greater: (np.less_equal, False),
    np.greater_equal: (np.less, True),
    np.less: (np.greater_equal, False),
    np.less_equal: (np.greater, True),
    np.equal: (np.not_equal, True),
    np.not_equal: (np.equal, False),
}

_same = np.frompyfunc(is_same, 2, 1)
_nan_of_two = np.frompyfunc(lambda x, y: is_nan(x) or is_nan(y), 2, 1)


def compare(holds: np.ufunc, a: Array, b: Array) -> Array:
    """Compare elementwise.

    Raises
    ------
    Undecided
        Where two balls overlap.
    """
    fails, reflexive = COMPARISONS[holds]
    true = np.asarray(holds(a, b), dtype=bool)
    decided = true | np.asarray(fails(a, b), dtype=bool)
    if not decided.all():
        same = np.asarray(_same(a, b), dtype=bool)
        nan = np.asarray(_nan_of_two(a, b), dtype=bool)
        true = np.where(nan, holds is np.not_equal, true | (same & reflexive))
        decided = decided | same | nan
    if not decided.all():
        i = tuple(np.argwhere(~np.broadcast_to(decided, true.shape))[0])
        left, right = (shown(np.broadcast_to(x, true.shape)[i]) for x in (a, b))
        raise Undecided(f"whether {left} {holds.__name__} {right}")
    return true


def order(x: Any, y: Any) -> int:
    """Say which of two elements sorts first (-1: x); nan sorts last."""
    if x == y or is_same(x, y):
        return 0
    if x < y or (is_nan(y) and not is_nan(x)):
        return -1
    if x > y or is_nan(x):
        return 1
    raise Undecided(f"whether {shown(x)} or {shown(y)} is larger")


def _in_order(row: Array) -> bool:
    """Tell whether the elements of a row rise: that neighbours do is a proof for all of them."""
    return all(order(x, y) <= 0 for x, y in itertools.pairwise(row))


def _places(row: Array, first: Array) -> Array:
    """Sort one row indirectly, by the places ``first`` if these do; else equal elements keep their order.

    Which of equal elements comes first is for whoever sorts floats to choose. Balls that overlap are not
    less than each other; a sort by that alone has them side by side, where `_in_order` finds them.
    """
    if _in_order(row[first]):
        return first
    rising = np.array(sorted(range(len(row)), key=row.__getitem__), dtype=np.int64)
    if _in_order(row[rising]):
        return rising

    def by_value(i: int, j: int) -> int:
        return order(row[i], row[j])

    return np.array(sorted(range(len(row)), key=functools.cmp_to_key(by_value)), dtype=np.int64)


# What NumPy has under these names, of precise arrays.


def argsort(x: Any, axis: int | None = -1, kind: Any = None, **_stable: Any) -> Array:
    """Sort indirectly; equal elements in the order in which ``kind`` has the floats nearest to them.

    That is a kind of NumPy's, or a function of floats and an axis.
    """
    values, axis = (x.values.ravel(), 0) if axis is None else (x.values, axis)
    floats = midpoints(values).reshape(values.shape)
    first = kind(floats, axis) if callable(kind) else np.argsort(floats, axis, kind)
    if not values.size:
        return np.zeros(values.shape, np.int64)
    rows, firsts = (np.moveaxis(a, axis, -1) for a in (values, first))
    found = [_places(rows[i], firsts[i]) for i in np.ndindex(rows.shape[:-1])]
    return np.moveaxis(np.reshape(found, rows.shape), -1, axis)


def sort(x: Any, axis: int | None = -1, **options: Any) -> Any:
    """Sort along an axis, or all elements."""
    values = x.values.ravel() if axis is None else x.values
    return x.like(np.take_along_axis(values, argsort(x, axis, **options), axis or 0))


def searchsorted(a: Any, v: Any, side: str = "left") -> Any:
    """Give where numbers go among rising ones, left or right of equal ones; nan at the end."""
    a, v = np.expand_dims(a, -2), np.expand_dims(v, -1)
    before = np.less_equal if side == "right" else np.less
    return (before(a, v) | np.isnan(v)).sum(-1)
