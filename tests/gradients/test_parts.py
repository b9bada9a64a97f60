"""The parts of the gradient check: slopes, differences, decisions; each with a case it must reject."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.programs import joined
from ffverify.gradients.function_under_test import Fault
from ffverify.gradients.judge.exactly import run_alone
from ffverify.gradients.opaque import Opaque, ridders, slope_by_differences
from ffverify.truth.slopes import Inputs, along, exact_value, slopes, slopes_together

F64 = formats.FORMATS["float64"]
X = np.array([0.5, -2.0, 3.0])


def directional(f, x, d, *, each=True):
    return slopes(joined(f), Inputs([x]), [d], F64, each=each)


# -- slopes -------------------------------------------------------------------------------------


def test_slopes_of_all_results_along_a_direction():
    found = directional(lambda x: (np.sin(x), x * x), X, np.array([1.0, 2.0, 0.0]))
    expected = [math.cos(0.5), 2 * math.cos(2.0), 0.0, 1.0, -8.0, 0.0]
    assert [float(e.mid()) for e in found.exact] == pytest.approx(expected, rel=1e-15)
    assert not found.kink.any()


def test_slopes_see_a_kink_and_give_the_hull():
    found = directional(abs, np.array([0.0, 1.0]), np.ones(2))
    assert found.kink.tolist() == [True, False]
    ball = found.exact[0]
    assert ball.contains(arb(-1))
    assert ball.contains(arb(1))
    assert float(abs(ball).upper()) < 1.001


def test_slopes_beside_huge_spreads_of_inputs():
    x = np.array([1e-200, 1.0])
    found = directional(lambda x: x * x, x, np.ones(2))
    assert float(found.exact[0].mid()) == 2e-200
    assert float(found.exact[1].mid()) == 2.0


@pytest.mark.parametrize(
    ("function", "slope", "value"),
    [
        (np.tanh, 1.0, 1e-30),
        (np.log, 1e30, math.log(1e-30)),
        (lambda x: np.exp(x) - 1, 1.0, 1e-30),
        (lambda x: x * x, 2e-30, 1e-60),
        (lambda x: np.maximum(x, 0), 1.0, 1e-30),
    ],
)
def test_slopes_at_many_points_are_as_good_beside_tiny_coordinates(function, slope, value):
    points = [Inputs([np.array([1e-30, 0.75])]), Inputs([np.array([0.5, 0.75])])]
    found, _ = slopes_together(joined(function), points, [[np.ones(2)]] * 2, F64)
    assert found is not None
    for ball, exact in ((found.exact[0], slope), (found.value[0], value)):
        assert float(ball.mid()) == pytest.approx(exact, rel=1e-15)
        assert ball.rel_accuracy_bits() > 53


def test_a_kink_is_not_passed_over_by_wide_steps():
    points = [Inputs([np.array([0.0, 0.75])]), Inputs([np.array([0.5, 0.75])])]
    found = slopes_together(joined(np.abs), points, [[np.ones(2)]] * 2, F64)
    assert [f is None for f in found] == [True, False]


def test_a_jump_at_one_point_leaves_the_slopes_at_others():
    points = [Inputs([np.array([x, 1e-200])]) for x in (1.0, 0.5, 0.25)]
    apart = joined(lambda x: np.where(x == 1, 5.0, x * x))
    jump, *others = slopes_together(apart, points, [[np.ones(2)]] * 3, F64)
    assert jump is None
    assert [None if s is None else s.exact.shape for s in others] == [(2,), (2,)]


def test_undecidable_branch_is_unresolved():
    def third(
        x, scale
    ):  # a zero that no precision decides, nor whether it is one where that is scaled up
        return np.where((x / 3 - x / 3) * scale > 0, x, -x)

    one = Inputs([np.array([1.0])])
    assert exact_value(joined(lambda x: third(x, 1.0)), one).tolist() == [-1]
    with pytest.raises(Undecided):
        exact_value(joined(lambda x: third(x, (1e300 * x) ** 9)), one)


def test_along_measures_the_motion_of_an_exact_zero():
    # x·y - y·x·1 has slope 0 at any input, x² - 1 has slope 2 that moves with x
    exact = along(
        lambda x: (x * x * x - 3 * x).sum(), Inputs([np.array([1.0])]), [np.ones(1)], F64,
        growth=8, moving=[np.ones(1)],
    )  # fmt: skip
    assert exact.exact[0].contains(0)
    # f'' = 6x: the slope moves by 6·8u
    assert float(exact.motion[0].mid()) == pytest.approx(48 * 2.0**-53, rel=1e-6)


# -- differences --------------------------------------------------------------------------------


def test_ridders_gives_the_derivative_and_a_bound_that_holds():
    for f, x, exact in ((math.sin, 0.7, math.cos(0.7)), (math.exp, 3.0, math.exp(3.0))):

        def difference(h, f=f, x=x):
            above, here, below = f(x + h), f(x), f(x - h)
            return (
                (above - below) / (2 * h),
                4 * 2.0**-53 * abs(here) / h,
                abs(above + below - 2 * here),
            )

        value, error, _ = ridders(difference, 0.25)
        assert abs(value - exact) <= error
        assert error < 1e-9


def test_ridders_knows_nothing_at_a_pole():
    _, error, _ = ridders(lambda h: (float("nan"), 0.0, float("nan")), 0.25)
    assert error == math.inf


def test_slope_by_differences_measures_noise():
    """A value that is rounded far beyond its format must not look exact."""

    def coarse(args):
        return [np.round(np.sin(np.asarray(args[0], dtype=float)), 6)]

    ball, _ = slope_by_differences(Opaque(coarse, [np.array([0.7])]), [np.ones(1)], np.ones(1))
    assert not ball.is_finite() or ball.contains(arb(math.cos(0.7)))


def test_a_kink_that_only_steps_above_the_rounding_show():
    def evaluate(native):
        (x,) = native
        if x.dtype != np.float32:
            raise Fault("takes float32 only")
        return [np.array([max(x[0], x[1]), x[2]], dtype=np.float32)]

    x = np.array([0.0, 0.0, 2.0], dtype=np.float32)
    ball, kink = slope_by_differences(
        Opaque(evaluate, [x]), [np.array([1.0, 0.0, 0.0])], np.array([1.0210952758789062, 1.5])
    )
    assert kink
    assert ball.contains(0)
    assert ball.contains(arb(1.0210952758789062))
    ball, kink = slope_by_differences(
        Opaque(evaluate, [x]), [np.array([0.0, 0.0, 1.0])], np.array([1.0, 1.5])
    )
    assert not kink
    assert float(abs(ball - 1.5).upper()) < 0.25


# -- decisions ----------------------------------------------------------------------------------


TIDY = np.array([3.0, -0.5])


def exactly(program, x=TIDY):
    vector, inputs = joined(program), Inputs([x])
    return run_alone(vector, inputs, [], F64, growth=8)


def test_what_is_measured_of_a_program_at_a_point():
    of_squares = exactly(lambda x: (x * x,))
    assert of_squares.floats.tolist() == [9.0, 0.25]
    u = F64.unit_roundoff
    # Either input alone moves its own square by 2 g u: the 2-norm of one, times √2 for two inputs.
    moved = 2**0.5 * 2 * 8 * u * np.array([9.0, 0.25])
    assert of_squares.motion(np.arange(2)) == pytest.approx(moved, rel=1e-9)
    assert of_squares.running.tolist() == [0.0, 0.0]  # these squares are floats
    assert 0 < exactly(lambda x: (x * x,), np.array([0.1])).running[0] < 1e-17
    assert not of_squares.constants.any()


def test_constants_that_fill_their_format_are_rounded_and_thresholds_are_not():
    of_root = exactly(lambda x: (x * 2**0.5,))
    assert of_root.constants == pytest.approx(8 * F64.unit_roundoff * 2**0.5 * abs(TIDY), rel=1e-9)
    edge = float(np.nextafter(0.1, 1))
    cut = exactly(lambda x: (np.where(x > 0.1, x, 0.0),), np.array([edge]))
    assert cut.constants[0] < 1e-8  # not 0.1: it lies across the threshold when that moves


@pytest.mark.parametrize(
    ("vjp", "expected"),
    [
        (lambda v, x: (v * np.cos(x),), "correct"),
        (
            lambda v, x: (v * np.cos(x) * (1 + 1e-9),),
            "wrong",
        ),  # a formula that is off, however little
        (lambda v, x: (v * (np.cos(x) + 2.0**30 - 2.0**30),), "imprecise"),
        (lambda v, x: (v * np.cos(x) * np.where(x > 0, np.inf, 1),), "nonfinite"),
    ],
)
def test_three_questions(vjp, expected):
    report = gradcheck(np.sin, np.array([0.5, -1.0]), vjp=vjp, raise_exception=False)
    assert str(report.verdict) == expected


def test_code_that_does_not_execute_its_formula_is_wrong():
    """In exact arithmetic it is right; its floats are beyond all that rounding can add up to."""

    def vjp(v, x):
        slope = np.cos(x)
        return (v * (slope * 1.001 if isinstance(slope, np.ndarray) else slope),)

    report = gradcheck(np.sin, np.array([0.5, -1.0]), vjp=vjp, raise_exception=False)
    assert str(report.verdict) == "wrong"


def test_balls_are_left_at_their_own_precision():
    before = BALLS.array([0.1]).values[0]
    directional(np.sin, X, np.ones(3))
    assert BALLS.array([0.1]).values[0].bits() == before.bits()


@pytest.mark.parametrize(
    ("fn", "inputs", "says"),
    [
        (3, np.ones(2), "cannot be called"),
        (np.exp, "abc", "real floats"),
        (np.exp, np.ones(2, dtype=complex), "need vjp="),
        (np.exp, [None], "real floats"),
    ],
)
def test_bad_input_is_one_clear_error(fn: object, inputs: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        gradcheck(fn, inputs)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("function", "vjp", "at"),
    [
        (np.tanh, lambda ct, x: (ct * 8 * np.exp(-2 * x),), 80.0),  # 8e^-2x for 4e^-2x
        (lambda x: 1e100 + x * x, lambda ct, x: (ct * 3 * x,), 3.0),
    ],
)
def test_slopes_nearby_are_known_better_than_the_error_that_they_would_excuse(function, vjp, at):
    """Beside values of 1 (1e100), 160 bits of a difference leave a ball that holds any such slope."""
    report = gradcheck(function, np.array([at]), vjp=vjp, raise_exception=False)
    assert [str(f.kind) for f in report.findings] == ["wrong"]


@pytest.mark.parametrize("tiny", [1e-60, 5.5e-294, 2.3e-308])
def test_the_second_opinion_sees_steps_as_small_as_the_inputs(tiny):
    """Values at p and at 2p bits were alike: their rounding, or 0, passed for mpmath's slope."""
    x = np.array([tiny, 1.1 * tiny, 0.3])
    report = gradcheck(
        lambda x: np.exp(np.sin(x) + x / 3),
        x,
        vjp=lambda ct, x: (1.001 * ct * np.exp(np.sin(x) + x / 3) * (np.cos(x) + 1 / 3),),
        raise_exception=False,
    )
    assert not report.ok
    for found in report.findings:
        assert found.kind == "wrong"
        assert "mpmath" not in found.reason
        assert len(found.exact) > 50  # sixty digits, not Arb's twenty


def test_the_second_opinion_settles_a_zero_at_small_steps():
    """Its rounding was asked to be below 2^-(p/2), more than steps beside small inputs leave."""

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    report = gradcheck(
        lambda x: softmax(softmax(x)).sum(),  # 1
        np.array([1e-90, 1e-100, 1e-200]),
        vjp=lambda ct, x: (ct * np.linspace(1, 2, 3),),
        raise_exception=False,
    )
    assert not report.ok
    reason = "Every element is off."  # and nothing about a disagreement
    assert {(str(f.kind), f.exact, f.reason) for f in report.findings} == {("wrong", "0.0", reason)}


@pytest.mark.parametrize(
    ("function", "jvp"),
    [
        (lambda x: 1 / x, lambda dots, x: -2 * dots[0] / x**2),
        (np.tanh, lambda dots, x: 8 * dots[0] * np.exp(-2 * x)),
        (lambda x, n: x**n, lambda dots, x, n: 2 * n * dots[0] * x ** (n - 1)),
    ],
)
def test_a_wrong_formula_of_the_callers_jvp_is_wrong_in_a_tail_too(function, jvp):
    """The formula was not traced, so that its errors passed for rounding of the slopes elsewhere."""
    inputs = [np.array([30.0, 50.0]), 3][: 1 + (jvp.__code__.co_argcount == 3)]
    report = gradcheck(function, inputs, jvp=jvp, raise_exception=False)
    assert {str(f.kind) for f in report.findings} == {"wrong"}


def test_a_right_formula_of_the_callers_jvp_with_integers_and_two_results():
    report = gradcheck(
        lambda x, n: (x**n, n, 1 / x),
        [np.array([3.0, 5.0]), 3],
        jvp=lambda dots, x, n: (n * dots[0] * x ** (n - 1), 0, -dots[0] / x**2),
    )
    assert report.verdict == "correct"


def test_a_pole_is_no_scale_of_the_slopes_elsewhere():
    """Differences across it are as large as their step is small: any loss passed for a tail's."""

    def vjp(ct, x):
        return (-ct * ((1 / x**2 + 2.0**40) - 2.0**40),)

    report = gradcheck(lambda x: 1 / x, np.array([3.0]), vjp=vjp, raise_exception=False)
    assert [(str(f.kind), f.severity) for f in report.findings] == [("imprecise", "error")]
