"""How a finding names a place and prints its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import Array


def row(
    args: Sequence[Array], core: Sequence[int] | None, index: tuple[int, ...]
) -> tuple[list[Array], tuple[int, ...]]:
    """Give the arguments of the application that an index belongs to, and the index within it."""
    if core is None:
        return list(args), index
    batch = _batch(args, core)
    here = index[: len(batch)]
    rows = [
        np.broadcast_to(a, batch + a.shape[a.ndim - c :])[here]
        for a, c in zip(args, core, strict=True)
    ]
    return [np.asarray(r) for r in rows], index[len(batch) :]


def result_dims(result: Array, args: Sequence[Array], core: Sequence[int] | None) -> int:
    """Give how many axes of a result belong to one application."""
    return result.ndim - (0 if core is None else len(_batch(args, core)))


def _batch(args: Sequence[Array], core: Sequence[int]) -> tuple[int, ...]:
    return np.broadcast_shapes(*(a.shape[: a.ndim - c] for a, c in zip(args, core, strict=True)))


def show(x: Any) -> str:
    """Print a number, an array or a text as a finding shows it."""
    if isinstance(x, str):
        return x
    if isinstance(x, np.ndarray) and x.ndim:
        if x.size > 64:
            return f"array of shape {x.shape}"
        return str([show(v) for v in x]).replace("'", "")
    if isinstance(x, np.floating | np.ndarray):
        return str(x)
    return repr(x)


def join(args: Sequence[Any]) -> str:
    """Print arguments, with commas."""
    return ", ".join(show(a) for a in args)


def subscript(index: tuple[int, ...]) -> str:
    """Print the place of an element, nothing for a number."""
    return f"[{', '.join(map(str, index))}]" if index else ""
