"""Draw how the error of a failed derivative runs along the direction in which it failed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.truth.slopes import Inputs, projection_slope

from .function_under_test import Fault
from .judge.numbers import Judged

_POINTS = 41
_BITS = 256


def plot_error(judged: Judged, ax: Any = None) -> Any:
    """Plot the error in ulps of the exact slope at inputs around the failing one; give the axes.

    The inputs run along the failing direction from -1 to 1 times the size of what it moves.

    Raises
    ------
    ValueError
        If the truth rests on differences, which are too coarse to draw in ulps.
    """
    if judged.point.formulas.forward is None:
        raise ValueError("the truth rests on differences here: there is no exact slope to draw")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.figure().add_subplot()
    offsets = np.linspace(-1.0, 1.0, _POINTS)
    moved = [
        np.abs(x[d != 0])
        for x, d in zip(judged.point.points, judged.slope.directions, strict=True)
        if d is not None
    ]
    size = float(np.concatenate(moved).max(initial=0.0)) or 1.0
    errors = [_error(judged, t * size) for t in offsets]
    ax.semilogy(offsets * size, np.maximum(errors, 2.0**-4), marker=".")
    ax.axhline(max(judged.allowed_ulps, 2.0**-4), linestyle="--", color="gray", label="allowed")
    ax.set_xlabel("distance from the input along the direction")
    ax.set_ylabel(f"error in ulps of {judged.point.fmt.name}")
    ax.set_title(f"{judged.point.subject.name}, {judged.mode} mode")
    ax.legend()
    return ax


def _error(judged: Judged, t: float) -> float:
    """Give the error in ulps with the inputs moved by t along the direction; NaN where there is none."""
    point = judged.point
    native = [
        a if d is None else like(a, (x + t * np.sign(d)).astype(x.dtype))
        for a, x, d in zip(point.native, point.points, judged.slope.directions, strict=True)
    ]
    try:
        slope = projection_slope(
            point.vector,
            judged.slope.weights,
            Inputs([to_numpy(a) for a in native]),
            judged.slope.directions,
            _BITS,
        )
        computed = _computed(judged, native)
    except (Fault, ArithmeticError):
        return float("nan")
    exact = float(slope.mid())
    ulp = 2.0 ** int(point.fmt.ulp_exponents(np.array([exact]))[0])
    return abs(computed - exact) / ulp


def _computed(judged: Judged, native: list[Any]) -> float:
    point = judged.point
    if judged.mode.startswith("f"):
        tangents = [
            None if d is None else like(a, d)
            for a, d in zip(native, judged.slope.directions, strict=True)
        ]
        return _dot(
            judged.slope.weights, [point.subject.jvp(native, tangents)[k] for k in point.places]
        )
    gradients = point.subject.vjp(native, point.split(judged.slope.weights))
    pairs = [
        (g, d) for g, d in zip(gradients, judged.slope.directions, strict=True) if d is not None
    ]
    return sum(0.0 if g is None else float(np.sum(to_numpy(g) * d)) for g, d in pairs)


def _dot(weights: Array, parts: list[Any]) -> float:
    flat = np.concatenate([to_numpy(p).ravel() for p in parts])
    used = weights != 0
    return float(np.sum(flat[used] * weights[used]))
