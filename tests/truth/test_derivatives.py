"""Truth against derivatives that are known in closed form, over the whole range of float64."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from flint import arb
from hypothesis import given, settings

from ffverify import strategies
from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.truth import derivatives as truth
from ffverify.truth import second_opinion as confirm
from ffverify.truth import textbook
from ffverify.truth.differences import sign_patterns

F64 = formats.of("float64")
mp = mpmath.mp


def _near(ball: object, exact: mpmath.mpf, ulps: float = 0.25) -> bool:
    """Whether a ball holds a number, and lies within some ulps of float64 around it."""
    with mp.workprec(5000), BALLS.precision(5000):
        ulp = max(abs(exact) * mp.mpf(2) ** -52, mp.mpf(2) ** -1074)
        return bool(ball.overlaps(arb(exact))) and abs(mp.mpf(ball.mid()) - exact) <= ulps * ulp  # type: ignore[attr-defined]


def _sigmoid_slope(x: float) -> mpmath.mpf:
    return 1 / (1 + mp.exp(-mp.mpf(x))) / (1 + mp.exp(mp.mpf(x)))


def _erfc_slope(x: float) -> mpmath.mpf:
    return -2 / mp.sqrt(mp.pi) * mp.exp(-(mp.mpf(x) ** 2))


@pytest.mark.parametrize(
    "x", [0.0, 5e-324, -1e-300, 1e-9, 1.0, -36.7, 40.0, 500.0, 700.0, -700.0, 745.0]
)
@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("sigmoid", _sigmoid_slope),
        ("erfc", _erfc_slope),
        ("exp", lambda x: mp.exp(mp.mpf(x))),
        ("softplus", lambda x: 1 / (1 + mp.exp(-mp.mpf(x)))),
        ("tanh", lambda x: mp.sech(mp.mpf(x)) ** 2),
        ("softsign", lambda x: 1 / (1 + abs(mp.mpf(x))) ** 2),
    ],
)
def test_slopes_hold_into_the_tails(name: str, slope: object, x: float) -> None:
    function = textbook.CATALOGUE[name].function
    found = truth.directional(function, [np.array([x])], [np.ones(1)], F64, core=(0,))
    with mp.workprec(4000):
        exact = slope(x)  # type: ignore[operator]
    assert found.resolved.all()
    assert not found.kink.any()
    assert _near(found.exact[0], exact)


@pytest.mark.parametrize("x", [1e-300, 0.5, 1e300])
def test_the_logarithms_slope_holds_at_any_scale(x: float) -> None:
    found = truth.directional(np.log, [np.array([x])], [np.ones(1)], F64, core=(0,))
    with mp.workprec(4000):
        assert _near(found.exact[0], 1 / mp.mpf(x))


@given(strategies.arrays("float64", (8,)))
def test_relu_has_a_kink_at_zero_and_nowhere_else(x: np.ndarray) -> None:
    found = truth.directional(
        textbook.CATALOGUE["relu"].function, [x], [np.ones(8)], F64, core=(0,)
    )
    assert found.resolved.all()
    assert found.kink.tolist() == (x == 0).tolist()
    for ball, point in zip(found.exact, x, strict=True):
        ends = (0, 1) if point == 0 else (float(point > 0),) * 2
        assert float(ball.lower()) <= ends[0]
        assert float(ball.upper()) >= ends[1]
        assert float(ball.rad()) < 0.51


def test_a_kink_within_a_step_of_the_point_is_not_taken_for_one() -> None:
    def near_kink(x: np.ndarray) -> np.ndarray:
        return np.abs(x - 2.0**-60)  # closer to 0 than the first step, 2^-42

    found = truth.directional(near_kink, [np.zeros(1)], [np.ones(1)], F64, core=(0,))
    assert not found.kink[0]
    assert _near(found.exact[0], mp.mpf(-1))


def test_logsumexp_at_any_magnitude_has_softmax_as_gradient() -> None:
    z = np.array([[1e300, 1e300, -1e300], [-1e300, 0.0, 1.0], [700.0, 710.0, -745.0]])
    found = truth.gradient(
        textbook.CATALOGUE["logsumexp"].function, [z], np.ones(3), 0, F64, core=(1,)
    )
    assert found.resolved.all()
    for row, exact in zip(z, found.exact, strict=True):
        with mp.workprec(3000):
            shifted = [mp.exp(mp.mpf(v) - mp.mpf(row.max())) for v in row]
            for ball, e in zip(exact, shifted, strict=True):
                assert _near(ball, e / sum(shifted))


def test_unbatched_and_batched_agree() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 4))
    softmax = textbook.CATALOGUE["softmax"].function
    v = rng.normal(size=(3, 4))
    batched = truth.gradient(softmax, [z], v, 0, F64, core=(1,))
    whole = truth.gradient(softmax, [z], v, 0, F64)
    assert all(
        a.overlaps(b) for a, b in zip(batched.exact.ravel(), whole.exact.ravel(), strict=True)
    )


def test_sensitivity_is_the_one_norm_within_its_stated_factor() -> None:
    """Motion lies between ‖x·t'‖₁ and √m times it, in units of g·u (one input: equal)."""
    x = np.array([[1.0, -2.0, 3.0, 0.5]])
    w = np.array([[2.0, 5.0, -1.0, 8.0]])
    found = truth.value(lambda a: np.sum(a * BALLS.array(w), axis=-1), [x], F64, core=(1,))
    one_norm = float(np.abs(x * w).sum()) * found.growth * F64.unit_roundoff
    assert one_norm * (1 - 1e-9) <= float(found.motion[0]) <= one_norm * 2


@settings(max_examples=10)  # in the far tails mpmath takes its time
@given(strategies.floats("float64", min_value=-800, max_value=800))
def test_the_second_arithmetic_agrees(x: float) -> None:
    point, one = [np.array([x])], [np.ones(1)]
    for name in ("softplus", "gelu", "mish"):
        function = textbook.CATALOGUE[name].function
        found = truth.directional(function, point, one, F64, core=(0,))
        ball = found.exact[0]
        second = confirm.slope(lambda x, f=function: f(x)[0], point, one, ball)
        assert confirm.agreement(second, ball, kink=False)[1] == ""
        with BALLS.precision(600):
            elsewhere = ball + arb(2) ** -30
        assert "disagree" in confirm.agreement(second, elsewhere, kink=False)[1]


def test_a_kink_that_the_third_difference_cannot_see_is_not_where_steps_are_round() -> None:
    """The stencil is blind at x + h/2: no distance of so few bits is one."""
    for k in range(20, 53):
        for distance in (2.0**-k, 3 * 2.0**-k, 5 * 2.0**-k):

            def relu(x: np.ndarray, kink: float = 1 + distance) -> np.ndarray:
                return np.maximum(x, kink)

            found = truth.directional(relu, [np.ones(1)], [np.ones(1)], F64, core=(0,))
            assert not found.kink[0]
            assert found.resolved[0]
            assert float(abs(found.exact[0]).upper()) == 0


@pytest.mark.parametrize("below", [0.0, -1.0, -2.0, 1.0])  # at -2 no third difference shows it
def test_a_jump_has_no_derivative_and_a_vertical_slope_overflows(below: float) -> None:
    def step(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 1, np.where(x < 0, below, 0)) * x**0

    at_jump, vertical = (
        truth.directional(function, [np.zeros(1)], [np.ones(1)], F64, core=(0,))
        for function in (step, np.cbrt)
    )
    assert not at_jump.resolved[0]
    assert not at_jump.kink[0]
    assert vertical.resolved[0]
    assert float(vertical.exact[0].lower()) == np.inf


def test_a_slope_of_zero_at_an_even_functions_middle() -> None:
    for function in (np.cosh, lambda x: x * x, lambda x: x**4):
        found = truth.directional(function, [np.zeros(1)], [np.ones(1)], F64, core=(0,))
        assert found.resolved[0]
        assert not found.kink[0]
        assert found.exact[0].contains(0)
        assert float(abs(found.exact[0]).upper()) < 5e-324


def test_an_undecidable_branch_is_reported_not_guessed() -> None:
    from ffverify.exact.elements import Undecided

    def tie(x: np.ndarray, times: int = 0) -> np.ndarray:
        apart = np.exp(x) - np.exp(x / 3 * 3)
        for _ in range(times):
            apart = apart * 1e300
        return np.where(apart > 0, x, -x)

    assert truth.value(tie, [np.ones(1)], F64, core=(0,)).exact[0] == -1
    with pytest.raises(Undecided):
        truth.value(lambda x: tie(x, 9), [np.ones(1)], F64, core=(0,))


def test_an_undefined_value_is_left_unresolved() -> None:
    found = truth.value(np.log, [np.array([-1.0, 1.0])], F64, core=(0,))
    assert found.resolved.tolist() == [False, True]
    assert found.exact[0].is_nan()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 40, 1000])
def test_every_input_is_moved_either_way_as_often(count: int) -> None:
    signs = sign_patterns(count)
    assert np.all(np.abs(signs) == 1)
    assert not np.any(signs.sum(axis=0))
