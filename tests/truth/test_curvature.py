"""Second derivatives in high precision, against formulas, in both arithmetics."""

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.truth import textbook
from ffverify.truth.curvature import second_derivative

POINTS = np.array([0.0, 5e-324, -1e-300, 0.3, -2.5, 40.0, -700.0, 1e4])
FORMULAS = {
    "exp": lambda f, z: f.exp(z),
    "sigmoid": lambda f, z: f.sigmoid(z) * f.sigmoid(-z) * (1 - 2 * f.sigmoid(z)),
    "tanh": lambda f, z: -2 * f.tanh(z) * (1 - f.tanh(z) ** 2),
    "softplus": lambda f, z: f.sigmoid(z) * f.sigmoid(-z),
    "identity": lambda f, z: 0 * z,
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_balls_contain_the_second_derivative(name):
    f = textbook.namespace
    with BALLS.precision(16384):
        z = BALLS.array(POINTS)
        right = FORMULAS[name](f, z).values
        found = second_derivative(getattr(f, name), z).values
        assert all(ball.overlaps(x) for ball, x in zip(found, right, strict=True))
        assert all(
            abs(ball).rad() < 2.0**-900 * (1 + abs(x)) for ball, x in zip(found, right, strict=True)
        )


def test_mpmath_agrees():
    f = textbook.namespace
    z = np.array([0.3, -2.5, 40.0])
    with MPMATH.precision(1024), BALLS.precision(1024):
        ours = second_derivative(f.tanh, BALLS.array(z)).values
        theirs = second_derivative(f.tanh, MPMATH.array(z)).values
        apart = [abs(float(a.mid()) / float(b) - 1) for a, b in zip(ours, theirs, strict=True)]
    assert max(apart) < 1e-15


def test_on_a_kink_nothing_settles():
    with BALLS.precision(1024):
        ball = second_derivative(textbook.namespace.relu, BALLS.array(np.zeros(1))).values[0]
    assert ball.rad() > 1


def test_a_wrong_second_derivative_is_outside():
    f = textbook.namespace
    with BALLS.precision(1024):
        z = BALLS.array(np.array([0.3]))
        wrong = (f.sigmoid(z) * (1 - f.sigmoid(z))).values[0]  # the first
        assert not second_derivative(f.sigmoid, z).values[0].overlaps(wrong)
