"""Moving elements: whatever only moves them is run by the framework itself, on labels.

Give every element a number, let the framework move the numbers (`marked`), and put the elements where
their numbers went (`moved`): reshape, gather, pad, concatenate and their like need no meaning of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .arrays import (
    HiddenRows,
    Plain,
    PreciseArray,
    arithmetic_of,
    distinct_rows,
    flat_rows,
    flattened,
    row_of,
)
from .formats import Array


def marked(operands: Sequence[Any]) -> list[Any]:
    """Give operands with labels in the place of precise arrays, in lists too.

    Every element of all arrays has a number, from 1 on; 0 is left to stand for a zero.
    """
    start = 1

    def mark(x: PreciseArray) -> Array:
        nonlocal start
        start += x.size
        return np.arange(start - x.size, start).reshape(x.shape)

    return _with(mark, operands)


def _with(other: Callable[[PreciseArray], Any], operands: Sequence[Any]) -> list[Any]:
    each = partial(_with, other)
    return [
        other(x) if isinstance(x, PreciseArray) else each(x) if isinstance(x, list) else x
        for x in operands
    ]


@dataclass(frozen=True)
class Move:
    """Where elements go: what an operation that only moves them did to their labels (`move`).

    Labels of results, raveled, and their shape; whether they are in order, or those of a transposed matrix,
    or at least all of elements. Where the rows of a batch move by indices of their own, labels are a row for
    each.
    """

    labels: Array
    shape: tuple[int, ...]
    in_order: bool = False
    transposed: bool = False
    whole: bool = False


def move(places: Any) -> Move:
    """Give the move that took labels to these places."""
    places = np.asarray(places).astype(np.int64)
    flat, order = places.ravel(), np.arange(1, places.size + 1)
    transposed = places.ndim == 2 and np.array_equal(places.T.ravel(), order)
    whole = bool((flat > 0).all())
    return Move(flat, places.shape, np.array_equal(flat, order), transposed, whole)


def moves_of(find: Callable[[Sequence[Any]], Any], operands: Sequence[Any]) -> Any:
    """Find the moves that ``find`` gives of operands, one or a list; those of each row of integers."""
    integers = [x for x in operands if isinstance(x, Plain)]
    if not integers:
        return find(operands)
    kinds, which = distinct_rows(integers)

    def together(moves: Sequence[Any]) -> Any:
        if not isinstance(moves[0], Move):
            return type(moves[0])(map(together, zip(*moves, strict=True)))
        if any(m.shape != moves[0].shape for m in moves):
            raise HiddenRows("rows of different shapes")
        return Move(np.stack([m.labels for m in moves])[which], moves[0].shape)

    return together(
        [find([row_of(x, i) if isinstance(x, Plain) else x for x in operands]) for i in kinds]
    )


def moved(arrays: Sequence[PreciseArray], by: Move, outside: float = math.nan) -> PreciseArray:
    """Put elements where their labels went; 0 gives zero, a negative label what fills from outside."""
    first, arithmetic = arrays[0], arrays[0].arithmetic
    rows = max(len(by.labels) if by.labels.ndim > 1 else 0, *(a.rows for a in arrays))
    alone = len(arrays) == 1
    if alone and by.in_order and by.labels.size == first.size:
        return first if by.shape == first.shape else first.reshape(by.shape)
    if alone and by.transposed and by.shape == first.shape[::-1] and first.matrix is not None:
        return PreciseArray(first.matrix.transpose(), arithmetic)
    if alone and by.whole:
        pool, index = flat_rows(first, rows or 1), by.labels - 1
    else:
        pool = np.empty((rows or 1, sum(a.size for a in arrays) + 2), dtype=object)
        pool[:, 0], pool[:, -1] = arithmetic.exact(0), arithmetic.exact(outside)
        pool[:, 1:-1] = np.concatenate([flat_rows(a, rows or 1) for a in arrays], axis=1)
        index = np.where(by.labels < 0, -1, by.labels)
    shape = (rows, *by.shape) if rows else by.shape
    taken = pool[:, index] if index.ndim == 1 else pool[np.arange(rows)[:, None], index]
    return PreciseArray(taken.reshape(shape), arithmetic, rows)


def rearranged(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Apply a function of NumPy's that only moves elements; it may take and give lists of arrays."""
    arithmetic = arithmetic_of(args)

    def precise(x: Any) -> Any:  # floats beside precise arrays in a list, too
        some = isinstance(x, list | tuple) and arithmetic_of(x) is not None
        return list(map(arithmetic.array, x)) if some else x

    operands = list(map(precise, args))
    arrays = [x for x in flattened(operands) if isinstance(x, PreciseArray)]
    if any(getattr(x, "rows", 0) for x in flattened(operands)):
        by = moves_of(lambda given: _each(move, function(*marked(given), **options)), operands)
        found = _each(partial(moved, arrays), by)
        for array in found if isinstance(found, list) else [found]:
            array.taken = bool(array.rows)
        return found
    return _each(arrays[0].like, function(*_with(lambda x: x.values, operands), **options))


def _each(function: Callable[[Any], Any], found: Any) -> Any:
    return list(map(function, found)) if isinstance(found, list | tuple) else function(found)
