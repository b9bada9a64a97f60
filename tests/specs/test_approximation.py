"""The certificate of one_hidden_layer_approximates_continuous_functions, on errors that are known."""

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided
from ffverify.specs.approximation import IN_BALLS, exceeds, one_layer, target

SLOPE_1 = target("polygon", np.array([1.0]), np.array([0.0]), [1.0])  # |x|, x on [0, 1]


def furthest(wanted, width, unit, epsilon, *, without=None):
    """Certify a network of this width, or find a point where it is off; perhaps without a unit."""
    W, c, w, b = (BALLS.array(p) for p in wanted.network(width, unit, "float64"))
    if without is not None:
        w.values[without] *= 0
    with BALLS.precision(64):
        return exceeds(
            lambda x: one_layer(unit)(IN_BALLS, x[:, None], W, c, w, b)[:, 0] - wanted.function(x),
            epsilon,
            8 * width,
        )


def test_bounds_of_known_functions():
    assert exceeds(lambda x: x * (1 - x), 0.2501, 4) is None
    found = exceeds(lambda x: x * (1 - x), 0.2499, 4)
    assert found is not None
    assert found * (1 - found) > 0.2498
    assert exceeds(lambda x: x - 1, 1.0001, 3) is None
    assert exceeds(lambda x: x - 1, 0.9999, 3) == pytest.approx(0, abs=2e-4)


def test_a_peak_between_grid_points_is_found():
    def peak(x):
        return np.exp(-(((x - 1 / 3) * 1e4) ** 2))

    assert exceeds(peak, 0.5, 8) == pytest.approx(1 / 3, abs=1e-4)


def test_what_stays_undecided_is_said():
    with pytest.raises(Undecided, match="is above"):
        exceeds(lambda x: x + 2.0**-50, 1.0, 4)


@pytest.mark.parametrize("unit", ["sigmoid", "tanh"])
@pytest.mark.parametrize("kind", ["waves", "polygon", "roots"])
def test_the_predicted_width_is_enough(kind, unit):
    wanted = target(kind, np.array([0.5, -0.25, 0.125]), np.array([0.0, 0.3, 0.9]))
    assert furthest(wanted, wanted.width(0.125), unit, 0.125) is None


@pytest.mark.parametrize("unit", ["sigmoid", "tanh"])
def test_a_network_without_one_of_its_units_is_rejected(unit):
    width = SLOPE_1.width(0.0625)
    assert furthest(SLOPE_1, width, unit, 0.0625, without=width // 2) is not None


def test_a_far_too_narrow_network_is_rejected():
    assert furthest(SLOPE_1, SLOPE_1.width(0.0625) // 6, "sigmoid", 0.0625) is not None
