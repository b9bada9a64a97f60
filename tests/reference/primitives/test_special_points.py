"""Second derivatives at special points: zeros, ones, ties, integers, for every pair of arguments.

A rule that selects a constant where its formula is not defined (``where(p == 0, 0, ...)``) has the
right slope there, whose own slope is then 0. Truth is the textbook's in 60 digits; where its one-sided
second differences disagree there is a kink, of which each primitive says what it takes.
"""

import itertools

import mpmath as mp
import numpy as np
import pytest

from ffverify.reference import elementwise, grad, jvp, primitives
from tests.reference.primitive_rows import (
    ONE_ARGUMENT,
    STEP,
    TWO_ARGUMENTS,
    UNDIFFERENTIATED,
    WITHOUT_EXACT_MEANING,
)

POINTS = [-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]
POLES = {"digamma", "lgamma", "polygamma_n"}  # at every negative integer
NAMES = sorted({*ONE_ARGUMENT, *TWO_ARGUMENTS} - WITHOUT_EXACT_MEANING - POLES)


def moved(point, i, j, s, t):
    at = [mp.mpf(x) for x in point]
    at[i] += s * STEP
    at[j] += t * STEP
    return at


def second(f, point, i, j):
    """∂²f/∂i∂j in 60 digits, or None at a kink and outside the domain."""
    sides = []
    try:
        for s, t in itertools.product((1, -1), repeat=2):
            corners = [f(*moved(point, i, j, s * a, t * b)) for a in (0, 1) for b in (0, 1)]
            (low, up), (side, far) = corners[:2], corners[2:]
            sides.append((far - side - up + low) / (s * t * STEP**2))
    except (ValueError, ZeroDivisionError, TypeError):
        return None
    if not all(isinstance(side, mp.mpf) and mp.isfinite(side) for side in sides):
        return None
    if max(sides) - min(sides) > 1e-9 * max(1, *map(abs, sides)):
        return None
    return float(sum(sides) / 4)


def nested(f, i, j, nesting, arguments):
    """∂²f/∂i∂j of an elementwise f at every point, the inner mode last in the nesting's name."""

    def slope(g, k, mode):
        if mode == "r":
            return grad(lambda *ys: np.sum(g(*ys)), k)
        return lambda *xs: jvp(
            g, xs, [np.ones_like(x) if n == k else None for n, x in enumerate(xs)]
        )[1]

    outer, inner = nesting
    return slope(slope(f, i, inner), j, outer)(*arguments)


def check(primitive, text, count):
    points = list(itertools.product(POINTS, repeat=count))
    arguments = [np.array(column) for column in zip(*points, strict=True)]
    seen = 0
    with mp.workdps(60):
        for i, j in itertools.product(range(count), repeat=2):
            if {i, j} & UNDIFFERENTIATED.get(primitive.name, set()):
                continue
            true = [second(text, point, i, j) for point in points]
            for nesting in ("rr", "rf", "fr", "ff"):
                found = nested(primitive, i, j, nesting, arguments)
                for point, value, right in zip(points, found, true, strict=True):
                    if right is None:
                        continue
                    seen += 1
                    # A second derivative of a one-line rule: fewer than 100 roundings of its size.
                    assert abs(value - right) <= 100 * 2.0**-53 * max(1.0, abs(right)), (
                        f"{primitive.name}{point}: second slope in {i}, {j} by {nesting} is "
                        f"{value}, but should be {right}"
                    )
    return seen


def case(name):
    if name in ONE_ARGUMENT:
        return primitives()[name], ONE_ARGUMENT[name], 1
    return primitives()[name], TWO_ARGUMENTS[name][0], 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # outside the domain
@pytest.mark.parametrize("name", NAMES)
def test_second_slopes_at_special_points(name):
    assert check(*case(name)) > 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_slope_selected_at_zero_is_rejected():
    """The planted bug: what `power` did at p = 0."""

    def slope(_y, x, p):
        zero = np.equal(p, 0)
        return np.where(zero, 0.0, p * np.power(x, np.where(zero, 1.0, p - 1.0)))

    wrong = elementwise("power", primitives()["power"].forward, slope, primitives()["power_log"])
    with pytest.raises(AssertionError, match=r"second slope in 0, 1"):
        check(wrong, TWO_ARGUMENTS["power"][0], 2)
