"""Exact programs: functions of precise arrays that give a tuple of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import PreciseArray
from .formats import Array

Program = Callable[..., Any]


class UnknownOperation(TypeError):
    """An operation that has no exact form; its ``args`` are the names."""


def listed(results: Any) -> list[Any]:
    """Give a function's results as a list, whether it returned one or several."""
    return list(results) if isinstance(results, list | tuple) else [results]


def joined(program: Program, places: Sequence[int] | None = None) -> Program:
    """Give a program whose result is one vector: its results (those at ``places``), raveled."""

    def run(*args: Any) -> PreciseArray:
        results = listed(program(*args))
        chosen = results if places is None else [results[i] for i in places]
        parts = [r.values.ravel() if isinstance(r, PreciseArray) else r for r in chosen]
        arithmetic = next(r.arithmetic for r in (*chosen, *args) if isinstance(r, PreciseArray))
        parts = [
            p if p.dtype == object else arithmetic.array(p).values.ravel()
            for p in map(np.asarray, parts)
        ]
        return PreciseArray(np.concatenate([p.ravel() for p in parts]), arithmetic)

    return run


def projected(vector: Program, weights: Array) -> Program:
    """Give ⟨weights, vector⟩ as a program; results of weight 0 stay out, whatever they are."""
    chosen = np.flatnonzero(weights)

    def run(*args: Any) -> PreciseArray:
        out = vector(*args)
        return (out[chosen] * weights[chosen]).sum()  # type: ignore[no-any-return]  # a duck array

    return run
