"""Inputs of claims: strategies that are made for a format and a batch size when a claim runs.

Each says in words what it draws (its ``__doc__``), which `ffverify explain` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify import strategies
from ffverify.exact.formats import Array, Format

from .claim import Draw


def drawing(says: str) -> Callable[[Draw], Draw]:
    """Say in words what a strategy draws."""

    def named(make: Draw) -> Draw:
        make.__doc__ = f"Draw {says}."
        return make

    return named


def _within(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "anywhere in the format"
    return f"in [{'lowest' if low is None else f'{low:g}'}, {'largest' if high is None else f'{high:g}'}]"


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
    what = "numbers" if width is None else f"rows of {width} numbers"
    often = f"; often {', '.join(f'{e:g}' for e in edges)}" if edges else ""

    @drawing(f"a batch of {what} {_within(low, high)}{often}")
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
    says = drawing(f"an array of shape {shape}, its numbers {_within(low, high)}")
    return says(lambda fmt, _batch: strategies.arrays(fmt, shape, min_value=low, max_value=high))


def labels(classes: int) -> Draw:
    """Draw a batch of integer labels 0 … classes - 1."""
    says = drawing(f"a batch of labels 0 to {classes - 1}")
    return says(lambda _fmt, batch: strategies.labels((batch,), classes))


def integers(low: int, high: int) -> Draw:
    """Draw one integer of a closed range (a width, a depth, a seed)."""
    says = drawing(f"an integer in [{low}, {high}]")
    return says(lambda _fmt, _batch: st.integers(low, high))


def lists(low: int, high: int, *, least: int, most: int) -> Draw:
    """Draw from ``least`` to ``most`` integers of a closed range."""
    count = f"{least}" if least == most else f"{least} to {most}"
    says = drawing(f"{count} integers in [{low}, {high}]")
    return says(
        lambda _fmt, _batch: st.lists(st.integers(low, high), min_size=least, max_size=most)
    )


def one_of(*choices: Any) -> Draw:
    """Draw one of some values."""
    says = drawing(f"one of {', '.join(map(str, choices))}")
    return says(lambda _fmt, _batch: st.sampled_from(choices))
