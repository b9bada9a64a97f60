"""`gradcheck` itself: verdicts, localisation, side checks, faults, frameworks, formats, reports."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffverify
from ffverify.gradients import function_under_test as subject
from ffverify.gradients.gradcheck import GradcheckError, gradcheck
from ffverify.strategies import arrays

X = np.array([0.5, -1.25, 2.0])


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


def kinds(report):
    return [str(f.kind) for f in report.findings]


# -- NumPy, one point ---------------------------------------------------------------------------


def test_plain_numpy_function_is_differentiated_by_the_engine():
    report = ffverify.gradcheck(lambda x: np.log1p(np.exp(x)), X)
    assert report.ok
    assert report
    assert report.truth == "shadow"
    assert report.modes == ("reverse", "forward")
    assert report.verdict == "correct"


def test_wrong_gradient_raises_with_value_reason_and_replay():
    with pytest.raises(GradcheckError) as caught:
        gradcheck(np.exp, np.array([1.0]), vjp=lambda v, x: (-v * np.exp(x),))
    text = str(caught.value)
    assert (
        "wrong: exp'([1.0]), reverse = -2.718281828459045, but should be 2.71828182845904523536"
        in text
    )
    assert "the sign is flipped" in text
    assert "gradcheck(exp, [np.array([1.0], dtype='float64')], vjp=vjp)" in text
    assert isinstance(caught.value, AssertionError)
    assert not caught.value.report.replay().ok


def test_one_sign_of_many_is_found():  # of 100,000, at 20 seeds, in the benchmark
    x = np.random.default_rng(0).normal(size=30_000)
    place = int(np.random.default_rng(100).integers(x.size))

    def vjp(v, x):
        return (np.where(np.arange(x.size) == place, -2 * v * x, 2 * v * x),)

    report = quiet(lambda x: np.sum(x * x), x, vjp=vjp)
    assert [f.index for f in report.findings] == [(place,)]
    assert kinds(report) == ["wrong"]


def test_one_sign_of_many_is_found_in_float32_where_the_formula_cannot_be_run():
    x = np.random.default_rng(0).normal(size=20_000).astype(np.float32)

    def vjp(v, x):
        g = 2 * v * x
        g[777] *= -1  # in place: exact arithmetic cannot run this formula
        return (g,)

    report = quiet(lambda x: np.sum(x * x), x, vjp=vjp)
    assert [f.index for f in report.findings] == [(777,)]


def test_relative_error_of_1e_10_is_found():
    x = np.random.default_rng(1).normal(size=500)
    report = quiet(lambda x: np.sum(np.sin(x)), x, vjp=lambda v, x: (v * np.cos(x) * (1 + 1e-10),))
    assert kinds(report) == ["wrong"]
    assert quiet(lambda x: np.sum(np.sin(x)), x, vjp=lambda v, x: (v * np.cos(x),)).ok


def test_loss_of_digits_is_told_from_a_wrong_formula():
    def naive(v, x):
        return (v * (np.cosh(x) - 1) / np.cosh(x),)

    f = lambda x: x - 2 * np.arctan(np.tanh(x / 2))  # noqa: E731 - its derivative is 1 - 1/cosh x
    report = quiet(f, np.array([1e-5]), vjp=naive, strict=True)
    assert [(f.mode, f.severity) for f in report.findings] == [
        ("reverse", "error"),
        ("value", "warning"),  # the value cancels as well
    ]
    for found in report.findings:
        assert str(found.kind) == "imprecise"
        assert found.digits_lost > 4


def test_tail_is_a_warning_and_an_error_when_strict():
    def vjp(v, x):
        return (v * (1 - np.tanh(x) ** 2),)

    report = quiet(np.tanh, np.array([25.0]), vjp=vjp)
    assert report.ok
    assert [f.severity for f in report.findings] == ["warning"]
    assert "relative" in report.findings[0].reason
    assert not quiet(np.tanh, np.array([25.0]), vjp=vjp, strict=True).ok


def test_strict_asks_for_three_quarters_of_the_digits_and_for_none_beside_an_exact_zero():
    def annuity(r):
        return (1 - (1 + r) ** -40.0) / r

    def vjp(v, r):
        return (v * (40 * (1 + r) ** -41.0 / r - annuity(r) / r),)

    few = quiet(annuity, np.array([0.3]), vjp=vjp, strict=True)
    assert few.ok
    assert not quiet(annuity, np.array([1e-9]), vjp=vjp, strict=True).ok

    def softmax(x):
        return np.exp(x) / np.sum(np.exp(x))

    def pull(v, x):
        y = softmax(x)
        return (y * (v - np.sum(v * y)),)

    def total(x):
        return np.sum(softmax(x))

    x = np.array([0.3, 0.2, 0.9])
    assert np.any(pull(np.ones(3), x)[0] != 0)
    assert quiet(total, x, vjp=lambda v, x: pull(v * np.ones(3), x), strict=True).ok


def test_strict_holds_sums_of_several_inputs_to_the_scale_of_those_that_are_drawn():
    """(x₂ - x₁) + (x₁ - x₀) is no sigmoid'(40): other inputs' terms cancel; a tail is its own."""

    def area(x, y):
        return np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1])) / 2

    def vjp(v, x, y):
        step, none = x[1:] - x[:-1], np.zeros(1)
        by_y = np.append(step, none) + np.append(none, step)
        mean = y[1:] + y[:-1]
        return v * (np.append(none, mean) - np.append(mean, none)) / 2, v * by_y / 2

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    tail = np.array([0.0, 1.0, 4.6e-10, 0.0]), np.ones(4)
    drawn = arrays("float64", 4)
    assert quiet(area, (drawn, drawn), vjp=vjp, strict=True).ok
    assert not quiet(area, tail, vjp=vjp, strict=True).ok
    assert not quiet(
        sigmoid, drawn, vjp=lambda v, x: v * sigmoid(x) * (1 - sigmoid(x)), strict=True
    ).ok


def test_kinks_admit_every_subgradient_and_nothing_else():
    for at_zero, right in ((0.0, True), (0.5, True), (1.0, True), (1.5, False), (-0.5, False)):
        report = quiet(
            lambda x: np.maximum(x, 0),
            np.array([0.0, 1.0, -1.0]),
            vjp=lambda v, x, s=at_zero: (v * np.where(x == 0, s, np.where(x > 0, 1.0, 0.0)),),
        )
        assert report.ok is right


def test_caller_and_textbook_truth():
    assert quiet(lambda x: np.exp(x) - 1, X, truth=np.expm1).truth == "caller"
    assert quiet(np.tanh, X, truth="tanh").truth == "textbook"
    wrong = quiet(np.tanh, X, truth="sigmoid")
    assert not wrong.ok
    with pytest.raises(ValueError, match="not in the catalogue"):
        quiet(np.tanh, X, truth="tanhh")


def test_jvp_of_the_caller():
    assert quiet(np.sin, X, jvp=lambda t, x: t[0] * np.cos(x)).modes == ("forward",)
    report = quiet(np.sin, X, jvp=lambda t, x: -t[0] * np.cos(x))
    assert "JVP of sin" in report.findings[0].where


def test_second_order_in_all_nestings():
    report = quiet(lambda x: np.sin(x) * x, X, order=2)
    assert report.ok
    assert set(report.modes) == {"reverse", "forward", "rr", "fr", "rf", "ff"}


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def test_noise_beside_an_exact_zero_is_a_warning_and_more_than_noise_is_not():
    x = np.array([0.3, -0.3, 0.45, -0.86])
    assert quiet(lambda x: np.sum(softmax(softmax(x))), x, seed=131).ok
    report = quiet(lambda x: np.sum(softmax(x)), x, vjp=lambda v, x: (v * 1e-9 * x,))
    assert kinds(report)[0] == "wrong"


STEPS = [
    np.tanh, np.sin, np.arctan, np.expm1, softmax, np.cumsum, abs,
    lambda x: x * x, lambda x: 1 / (1 + np.exp(-x)), lambda x: np.maximum(x, 0),
    lambda x: x - np.mean(x), lambda x: x[::-1] * x, lambda x: np.where(x > 0.5, x * x, x),
]  # fmt: skip
ENDS = [np.sum, np.mean, np.max, lambda x: x]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(20))
def test_random_correct_programs_are_not_accused(seed, dtype):
    rng = np.random.default_rng(seed)
    steps = rng.integers(len(STEPS), size=rng.integers(1, 4))
    end = ENDS[rng.integers(len(ENDS))]

    def program(x):
        for k in steps:
            x = STEPS[k](x)
        return end(x)

    report = quiet(program, (rng.normal(size=4) * 1.5).astype(dtype), seed=seed)
    assert report.ok, str(report)


# -- search -------------------------------------------------------------------------------------


def test_strategy_is_searched_and_shrunk():
    report = quiet(
        np.exp, arrays("float64", (3,), min_value=-5, max_value=5),
        vjp=lambda v, x: (v * np.exp(x) * np.where(x > 1, 1.5, 1.0),), max_examples=60,
    )  # fmt: skip
    assert not report.ok
    (x,) = report.inputs
    assert np.count_nonzero(x) == 1
    assert 1 < x.max() <= 5
    assert not report.replay().ok


def test_same_seed_same_report():
    def run(seed):
        report = quiet(
            np.exp, arrays("float64", (2,), min_value=-5, max_value=5),
            vjp=lambda v, x: (v * np.exp(x) * np.where(x > 1, 1.5, 1.0),), max_examples=40, seed=seed,
        )  # fmt: skip
        return [str(f) for f in report.findings], report.points

    assert run(3) == run(3)


@settings(derandomize=True, deadline=None, max_examples=5)
@given(st.floats(-3, 3))
def test_given_works_too(x):
    gradcheck(np.sin, np.array([x]))


# -- side checks --------------------------------------------------------------------------------


def test_mutated_input():
    def vjp(v, x):
        x *= 2
        return (v * np.cos(x / 2),)

    assert "changes its input" in str(quiet(np.sin, X.copy(), vjp=vjp))


def test_random_function_is_inconclusive_and_not_ok():
    rng = np.random.default_rng(0)
    report = quiet(lambda x: x * rng.normal(), X)
    assert kinds(report) == ["inconclusive"]
    assert not report.ok
    assert "different values" in str(report)


def test_gradient_dtype_and_shape():
    x = X.astype(np.float32)
    assert "is float64, the input float32" in str(
        quiet(np.sin, x, vjp=lambda v, x: (v * np.cos(x.astype(np.float64)),))
    )
    assert "has shape" in str(quiet(np.sum, X, vjp=lambda v, x: (v,)))


def test_cotangent_must_enter_linearly():
    report = quiet(np.sin, X, vjp=lambda v, x: (np.abs(v) * np.cos(x),))
    assert "not linear" in str(report)
    report = quiet(np.sin, X, vjp=lambda v, x: (v * np.cos(x) + 1e-3,))
    assert "a zero cotangent gives a gradient" in str(report)


def test_memory_layout():
    def vjp(v, x):
        flat = np.frombuffer(v.tobytes(order="A"), dtype=v.dtype).reshape(v.shape)
        return (flat * np.cos(x),)

    report = quiet(np.sin, np.arange(6.0).reshape(2, 3), vjp=vjp)
    assert "laid out otherwise" in str(report)


# -- faults -------------------------------------------------------------------------------------


def test_function_that_raises():
    def f(x):
        raise RuntimeError("no\nsecond line")

    report = quiet(f, X)
    assert not report.ok
    assert kinds(report) == ["inconclusive"]
    assert "f raised RuntimeError: no" in str(report)


def test_function_that_allocates_too_much():
    report = quiet(lambda x: np.empty(2**45) + x[0], X)
    assert kinds(report) == ["inconclusive"]
    assert "Unable to allocate" in str(report)


def test_vjp_that_raises_is_an_error():
    def vjp(v, x):
        raise ValueError("sorry")

    report = quiet(np.sin, X, vjp=vjp)
    assert kinds(report) == ["wrong"]
    assert "raised ValueError: sorry" in str(report)


def test_function_that_hangs(monkeypatch):
    monkeypatch.setattr(subject, "TIME_LIMIT", 0.2)
    report = quiet(lambda x: time.sleep(2) or x, X)
    assert "did not come back within 0.2 s" in str(report)
    assert not report.ok


def test_results_that_are_not_numbers_or_not_finite():
    assert "no floating-point array" in str(quiet(np.argmax, X))
    assert "not finite here" in str(quiet(lambda x: np.log(x * 0), X))


def test_usage_errors():
    with pytest.raises(ValueError, match="order=3"):
        gradcheck(np.sin, X, order=3)
    with pytest.raises(ValueError, match="empty"):
        gradcheck(np.sin, [])


def test_definition_that_fails_is_inconclusive_without_a_traceback():
    def definition(x):
        raise KeyError("missing")

    report = quiet(np.sin, X, truth=definition)
    assert kinds(report) == ["inconclusive"]
    assert "KeyError" in str(report)


# -- reports ------------------------------------------------------------------------------------


def test_report_as_dict_is_json():
    report = quiet(np.exp, X, vjp=lambda v, x: (2 * v * np.exp(x),))
    held = json.loads(json.dumps(report.to_dict()))
    assert held["ok"] is False
    assert held["findings"][0]["mode"] == "reverse"
    assert held["findings"][0]["hint"].startswith("Hint: off by a factor 2")
    assert len(held["findings"][0]["index"]) == 1


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    report = quiet(np.exp, X, vjp=lambda v, x: (v * np.exp(x) * (1 + 1e-9),))
    ax = report.plot()
    assert ax.lines[0].get_ydata().max() > 1e5
    with pytest.raises(ValueError, match="nothing failed"):
        quiet(np.exp, X).plot()


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda v, x: (v * x,), "½"),
        (lambda v, x: (4 * v * x,), "factor 2"),
        (lambda v, x: (6 * v * x,), "factor 3"),
        (lambda v, x: (2 * v * x / 3,), "factor 1/3"),
        (lambda v, x: (0 * v * x,), "zero gradient"),
        (lambda v, x: (2 * v * x * (1 + 2e-7 * x),), "right to 6 digits"),
    ],
)
def test_hints(vjp, words):
    report = quiet(lambda x: np.sum(x * x), X, vjp=vjp)
    assert words in report.findings[0].hint


def test_small_elements_are_off_beside_large_ones():
    """A constant of six digits is so for each of them."""
    x = np.array([2.0, 4.0])
    report = quiet(
        lambda x: np.exp(-x * x), x, vjp=lambda v, x: (-2.000001 * v * x * np.exp(-x * x),)
    )
    assert report.findings[0].reason == "Every element is off."


LABELS = np.array([1.0, 0.0, 0.0, 1.0])
DISTANCES = np.array([[0.0, 8.0], [8.0, 0.0]])


def logistic(x):
    return 1 / (1 + np.exp(-x))


def kernel(length):
    return np.exp(-0.5 * DISTANCES / length**2)


@pytest.mark.parametrize(
    ("fn", "x", "vjp"),
    [
        # σ' is missing, which is a mean's ¼ at 0 only.
        (
            lambda x: -LABELS * np.log(logistic(x)) - (1 - LABELS) * np.log(1 - logistic(x)),
            np.zeros(4),
            lambda v, x: v * ((1 - LABELS) / (1 - logistic(x)) - LABELS / logistic(x)),
        ),
        # l² in place of l³, which is a factor of 2 at ½ only.
        (kernel, np.array(0.5), lambda v, x: (v * kernel(x) * DISTANCES / x**2).sum()),
    ],
    ids=["slope of a sigmoid", "a power"],
)
def test_a_factor_that_fits_by_coincidence_is_no_hint(fn, x, vjp):
    report = quiet(fn, x, vjp=vjp)
    assert report.verdict == "wrong"
    assert not any("factor" in f.hint for f in report.findings)


def test_hint_transposed():
    report = quiet(
        lambda W: np.sum(W * np.arange(9.0).reshape(3, 3)), np.ones((3, 3)),
        vjp=lambda v, W: (v * np.arange(9.0).reshape(3, 3).T,),
    )  # fmt: skip
    assert "transposed" in report.findings[0].hint


def test_a_gradient_for_symmetric_matrices_is_named_and_the_symmetric_function_correct():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    A = torch.tensor(root @ root.T + 3 * np.eye(3))
    report = quiet(torch.linalg.cholesky, A)
    assert "symmetric" in next(f for f in report.findings if "reverse" in f.where).hint
    assert gradcheck(lambda A: torch.linalg.cholesky((A + A.mT) / 2), A).ok


# -- differences --------------------------------------------------------------------------------


def opaque(x):
    """Compute x³ out of sight of any tracer."""
    return np.array([float(t) ** 3 for t in np.asarray(x, dtype=float).ravel()]).reshape(
        np.shape(x)
    )


def test_opaque_function_falls_back_to_differences():
    right = quiet(opaque, X, vjp=lambda v, x: (3 * v * x * x,))
    assert right.truth == "differences"
    assert right.notes
    assert right.ok
    assert right.sensitivity < 1e-6
    wrong = quiet(opaque, X, vjp=lambda v, x: (3 * v * x,))
    assert "wrong" in kinds(wrong)
    assert (
        quiet(opaque, X, vjp=lambda v, x: (3 * v * x,), truth=lambda x: x * x * x).truth == "caller"
    )


@pytest.mark.parametrize("option", [{"seed": "a"}, {"seed": -1}, {"max_examples": 0}, {"order": 3}])
def test_options_that_are_no_counts_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        gradcheck(lambda x: x, X, **option)


def test_of_one_result_computed_and_exact_are_shown_in_the_same_unit():
    def opaque(x):  # no exact form: differences judge
        return np.array(float(np.sum(x.astype(float)) * 1.0))

    report = quiet(opaque, np.array([1.0, 2.0]), vjp=lambda v, x: (v * np.array([1.0, 3.0]),))
    wrong = report.findings[0]
    assert report.truth == "differences"
    assert float(wrong.computed) == 3.0
    assert wrong.exact.startswith("[1.00")


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        (lambda x: x.sum(), "truth= gives shape () where tanh gives (2, 1)"),
        (lambda x: np.tanh(x).reshape(1, 2), "truth= gives shape (1, 2) where tanh gives (2, 1)"),
        (lambda x: (np.tanh(x), x), "truth= gives 2 results where tanh gives 1"),
        (lambda x, y: x, "TypeError: <lambda>() missing 1 required positional argument: 'y'; it is called"),
        (lambda x: np.tanh(x).none, "has no attribute 'none'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("searched", [False, True])
def test_a_definition_that_does_not_fit_is_said_once(truth, says, *, searched):
    x = arrays("float64", (2, 1), min_value=-2, max_value=2) if searched else np.ones((2, 1))
    report = gradcheck(np.tanh, x, truth=truth, raise_exception=False, max_examples=5)
    (found,) = report.findings
    assert says in str(found)
    assert "Hint" not in str(found)
    assert not report.ok
    assert gradcheck(np.tanh, x, truth=np.tanh, max_examples=5).ok


def test_a_wave_at_infinity_has_no_value_that_it_should_be():
    x = np.array([np.inf, 1.0])
    report = gradcheck(np.sin, x)
    assert not report.findings
    assert "results that are nan" in report.skipped

    def wrong(v, x):
        return (v * np.cos(x) * 1.01,)

    assert str(gradcheck(np.sin, x, vjp=wrong, raise_exception=False).verdict) == "wrong"
    assert not gradcheck(lambda x: np.sin(x) * (x / x), np.zeros(2), raise_exception=False).ok
