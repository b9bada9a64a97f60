"""Inputs of claims: strategies that are made for a format and a batch size when a claim runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from . import strategies
from .claim import Draw
from .formats import Array, Format


def points(
    *, low: float | None = None, high: float | None = None, edges: Sequence[float] = ()
) -> Draw:
    """Draw a batch of numbers, one per element; edges are drawn often."""
    return rows(None, low=low, high=high, edges=edges)


def rows(
    width: int | None,
    *,
    low: float | None = None,
    high: float | None = None,
    edges: Sequence[float] = (),
) -> Draw:
    """Draw a batch of rows of a width (None: of plain numbers)."""

    def make(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
        shape = (batch,) if width is None else (batch, width)
        return strategies.arrays(fmt, shape, min_value=low, max_value=high, edges=edges)

    return make


SIZES = (1e-10, 1e-3, 0.5, 2.0, 3.5, 6.5, 10.0, 20.0, 25.0, 40.0, 100.0, 700.0, 1e17, 1e120)


def with_tails(z: Array, fmt: Format) -> Array:
    """Append numbers of both signs: near 0, far out, where e^z overflows, and almost the largest."""
    largest = float(fmt.largest)
    sizes = np.minimum([*SIZES, np.log(largest) + 1 / 64, np.inf], 0.9 * largest)
    sizes = np.unique(sizes.astype(z.dtype))
    return np.concatenate([z, -sizes, sizes])


def array(*shape: int, low: float = -4.0, high: float = 4.0) -> Draw:
    """Draw one array of a fixed shape, of moderate numbers."""
    return lambda fmt, _batch: strategies.arrays(fmt, shape, min_value=low, max_value=high)


def labels(classes: int) -> Draw:
    """Draw a batch of integer labels 0 … classes - 1."""
    return lambda _fmt, batch: strategies.labels((batch,), classes)


def integers(low: int, high: int) -> Draw:
    """Draw one integer of a closed range (a width, a depth, a seed)."""
    return lambda _fmt, _batch: st.integers(low, high)
