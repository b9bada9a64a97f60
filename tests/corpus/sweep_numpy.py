"""Correct functions of NumPy for the sweep, differentiated by the reference engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .rows import box
from .sweep_function import Function


def numpy_functions() -> Iterator[Function]:
    units = {
        "exp": np.exp,
        "expm1": np.expm1,
        "log1p": np.log1p,
        "sqrt": np.sqrt,
        "square": np.square,
        "tanh": np.tanh,
        "sin": np.sin,
        "arctan": np.arctan,
        "reciprocal": np.reciprocal,
        "shift": lambda x: x + 1,
        "cube": lambda x: x**3,
        "halve": lambda x: x / 2,
    }
    outer = units | {"log": np.log, "cos": np.cos, "abs": np.abs}

    def composed(f: Callable[..., Any], g: Callable[..., Any], x: Any) -> Any:
        return f(g(x))

    for (f, apply), (g, inner) in itertools.product(outer.items(), units.items()):
        yield Function(f"{f} of {g}", partial(composed, apply, inner), (box(3, low=0.25, high=2),))
    joints = {
        "sum": lambda z: z.sum(),
        "mean": lambda z: z.mean(axis=0),
        "max": lambda z: z.max(axis=1),
        "var": lambda z: z.var(axis=0),
        "norm": lambda z: np.sqrt((z * z).sum(axis=-1)),
        "logsumexp": lambda z: np.log(np.exp(z).sum(axis=-1)),
        "matmul": lambda z: z @ z.T,
        "transpose": lambda z: z.T.reshape(-1)[1:] * z.reshape(-1)[:-1],
        "gather": lambda z: z[np.array([0, 0, 1])],
    }
    for (f, apply), (g, inner) in itertools.product(joints.items(), units.items()):
        yield Function(
            f"{f} of y {g}",
            lambda x, y, apply=apply, inner=inner: apply(y * inner(x)),
            (box(2, 3, low=0.25, high=2), box(3, low=0.5, high=2)),
        )
