"""Moving elements: whatever only moves them is run by the framework itself, on labels.

Give every element a number, let the framework move the numbers (`marked`), and put the elements where
their numbers went (`moved`): reshape, gather, pad, concatenate and their like need no meaning of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import Arithmetic, PreciseArray, flat_rows
from .formats import Array


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


def labels(arrays: Sequence[PreciseArray]) -> list[Array]:
    """Give every element of all arrays a number, from 1 on; 0 is left to stand for a zero."""
    ends = np.cumsum([1, *(a.size for a in arrays)])
    return [
        np.arange(start, start + a.size).reshape(a.shape)
        for start, a in zip(ends[:-1], arrays, strict=True)
    ]


def marked(operands: Sequence[Any], native: Callable[[Array], Any] = np.asarray) -> list[Any]:
    """Give operands with labels, as a framework's arrays, in the place of the precise ones."""
    numbers = iter(labels([x for x in operands if isinstance(x, PreciseArray)]))
    return [native(next(numbers)) if isinstance(x, PreciseArray) else x for x in operands]


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
