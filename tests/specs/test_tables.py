"""The tables that half precision is judged by hold what balls say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.specs.tables import TAILS, _coefficients, table
from ffverify.truth.textbook import CATALOGUE


def derivatives(name: str, x: np.ndarray) -> list[list[Any]]:
    """Give balls around f, f', f'' at numbers."""
    function, at = CATALOGUE[name].function, [arb(v) for v in x.tolist()]
    return [[c[0], c[1], 2 * c[2]] for c in _coefficients(function, at, 3)]


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["log", "mish", "gelu_tanh", "tanhshrink", "erfc"])
def test_a_table_is_within_its_own_bounds(name: str, half: str) -> None:
    made = table(name, half)
    assert np.isfinite(made.errors).all()
    places = np.flatnonzero(np.abs(made.x) < 1000)[::400]
    with BALLS.precision(4000):
        for i, balls in zip(places, derivatives(name, made.x[places]), strict=True):
            for ball, told, bound in zip(balls, made.jets[:, i], made.errors[:, i], strict=True):
                assert abs(ball - arb(told)) <= arb(bound), (made.x[i], ball, told, bound)


@pytest.mark.parametrize("name", sorted(TAILS))
def test_a_tail_is_its_line_to_within_what_is_said(name: str) -> None:
    sizes = np.array([16.0, 17.5, 33.0, 100.0])
    with BALLS.precision(60_000):
        for side, (slope, offset) in zip((-1, 1), TAILS[name], strict=True):
            x = side * sizes
            for v, (value, first, second) in zip(x.tolist(), derivatives(name, x), strict=True):
                if np.isinf(offset):
                    assert value > arb(2) ** 16
                    continue
                q = (-arb(abs(v))).exp()
                line = slope * arb(v) + offset  # whose own numbers are rounded to float64
                for apart in (value - line, first - slope, second):
                    assert abs(apart) <= (8 + 4 * abs(v)) * q + abs(line) * arb(2) ** -52
                swapped = slope * arb(v) + offset + 100 * (8 + 4 * abs(v)) * q
                assert not abs(value - swapped) <= (8 + 4 * abs(v)) * q
