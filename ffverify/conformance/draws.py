"""Inputs of claims: strategies that are made for a format and a batch size when a claim runs.

Each says in words what it draws (its ``__doc__``), which `ffverify explain` prints. `unfit` tells which
inputs, of a token say, a claim cannot have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from hypothesis import strategies as st

from ffverify import strategies
from ffverify.exact.formats import Array, Format
from ffverify.search import search

Draw = Callable[[Format, int], st.SearchStrategy[Any]]
BATCHES = (1, 2, 7, 20)  # few: a framework that compiles does so for every shape
Fits = Callable[[Format, int, Any], bool]
_FITS: WeakKeyDictionary[Draw, Fits] = WeakKeyDictionary()


def drawing(says: str, fits: Fits | None = None) -> Callable[[Draw], Draw]:
    """Say in words what a strategy draws; ``fits(fmt, batch, value)`` tells what it can have drawn."""

    def named(make: Draw) -> Draw:
        make.__doc__ = f"Draw {says}."
        if fits is not None:
            _FITS[make] = fits
        return make

    return named


def unfit(draws: Mapping[str, Draw], fmt: Format, inputs: Mapping[str, Any]) -> str:
    """Say what is amiss with inputs that a claim did not draw itself; empty if nothing is seen to be.

    Of what is put together from other draws only types, formats and numbers of axes are compared.
    """
    if set(draws) != set(inputs):
        return f"its inputs are {', '.join(inputs) or 'none'}, not {', '.join(draws) or 'none'}"
    amiss = ""
    for batch in BATCHES:  # one for all inputs
        amiss = next(
            (
                f"{name} is not {str(make.__doc__).removeprefix('Draw ').rstrip('.')}"
                for name, make in draws.items()
                if not _fits(make, fmt, batch, inputs[name])
            ),
            "",
        )
        if not amiss:
            break
    return amiss


def _fits(make: Draw, fmt: Format, batch: int, value: Any) -> bool:
    fits = _FITS.get(make)
    if fits is not None:
        return fits(fmt, batch, value)
    samples: list[Any] = []
    search(make(fmt, batch), samples.append, seed_value=0, max_examples=1, shrink=False)
    return _alike(samples[0], value)


def _alike(sample: Any, value: Any) -> bool:
    if isinstance(sample, np.ndarray):
        same = isinstance(value, np.ndarray) and sample.dtype == value.dtype
        return same and sample.ndim == value.ndim
    if isinstance(sample, list | tuple):
        listed = isinstance(value, list | tuple)
        return listed and all(any(_alike(s, v) for s in sample) for v in value if sample)
    return type(sample) is type(value)


def _numbers(
    fmt: Format, shape: tuple[int, ...], low: float | None, high: float | None, value: Any
) -> bool:
    """Tell whether a value is an array of finite numbers of a format, of a shape and in a range."""
    if not isinstance(value, np.ndarray) or (value.dtype.name, value.shape) != (fmt.carrier, shape):
        return False
    wide = value.astype(np.float64)
    above, below = low is None or np.all(wide >= low), high is None or np.all(wide <= high)
    return bool(np.all(np.isfinite(wide)) and above and below)


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


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

    def shape(batch: int) -> tuple[int, ...]:
        return (batch,) if width is None else (batch, width)

    @drawing(
        f"a batch of {what} {_within(low, high)}{often}",
        lambda fmt, batch, value: _numbers(fmt, shape(batch), low, high, value),
    )
    def make(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
        return strategies.arrays(fmt, shape(batch), min_value=low, max_value=high, edges=edges)

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
    says = drawing(
        f"an array of shape {shape}, its numbers {_within(low, high)}",
        lambda fmt, _batch, value: _numbers(fmt, shape, low, high, value),
    )
    return says(lambda fmt, _batch: strategies.arrays(fmt, shape, min_value=low, max_value=high))


def labels(classes: int) -> Draw:
    """Draw a batch of integer labels 0 … classes - 1."""

    def fits(_fmt: Format, batch: int, value: Any) -> bool:
        fine = isinstance(value, np.ndarray) and value.dtype == np.int64 and value.shape == (batch,)
        return fine and bool(np.all((value >= 0) & (value < classes)))

    says = drawing(f"a batch of labels 0 to {classes - 1}", fits)
    return says(lambda _fmt, batch: strategies.labels((batch,), classes))


def integers(low: int, high: int) -> Draw:
    """Draw one integer of a closed range (a width, a depth, a seed)."""
    says = drawing(f"an integer in [{low}, {high}]", lambda _f, _b, value: _whole(value, low, high))
    return says(lambda _fmt, _batch: st.integers(low, high))


def lists(low: int, high: int, *, least: int, most: int) -> Draw:
    """Draw from ``least`` to ``most`` integers of a closed range."""
    count = f"{least}" if least == most else f"{least} to {most}"

    def fits(_fmt: Format, _batch: int, value: Any) -> bool:
        listed = isinstance(value, list) and least <= len(value) <= most
        return listed and all(_whole(v, low, high) for v in value)

    says = drawing(f"{count} integers in [{low}, {high}]", fits)
    return says(
        lambda _fmt, _batch: st.lists(st.integers(low, high), min_size=least, max_size=most)
    )


def one_of(*choices: Any) -> Draw:
    """Draw one of some values."""
    says = drawing(
        f"one of {', '.join(map(str, choices))}",
        lambda _fmt, _batch, value: any(type(value) is type(c) and value == c for c in choices),
    )
    return says(lambda _fmt, _batch: st.sampled_from(choices))
