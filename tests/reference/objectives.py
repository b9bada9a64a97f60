"""Objectives of GradBench, in the functions of whatever array package they are given."""

from __future__ import annotations

from typing import Any


def lse(xp: Any, x: Any) -> Any:
    """Log-sum-exp."""
    top = xp.max(x)
    return top + xp.log(xp.sum(xp.exp(x - top)))


def ode(xp: Any, x: Any, zero: Any, one: Any, steps: int) -> Any:
    """RK4 for y_0' = x_0, y_i' = x_i y_{i-1}, from y = `zero` to time 2; `one` is an array of one 1."""

    def slope(y: Any) -> Any:
        return x * xp.concatenate([one, y[:-1]])

    h, y = 2.0 / steps, zero
    for _ in range(steps):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y[-1]
