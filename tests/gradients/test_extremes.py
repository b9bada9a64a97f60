"""What fails only beyond the root of a format's range is a warning, unless the caller asked for it."""

from functools import partial

import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.strategies import arrays, labels
from ffverify.verdicts.verdict import Verdict

torch = pytest.importorskip("torch")
F = torch.nn.functional


def drawn(*shapes, dtype="float64", **bounds):
    return tuple(arrays(dtype, s, framework="torch", **bounds) for s in shapes)


def focal(logits, y):
    p = torch.sigmoid(logits)
    loss = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return ((1 - (p * y + (1 - p) * (1 - y))) ** 2 * loss).mean()


RIGHT = {
    "swiglu": (lambda x, g: F.silu(g) * x, drawn(3, 3)),
    "rms_norm": (lambda x, w: F.rms_norm(x, (3,), w, eps=1e-6), drawn((2, 3), 3)),
    "cross_entropy": (F.cross_entropy, (*drawn((2, 3)), labels((2,), 3, framework="torch"))),
    "focal": (lambda x: focal(x, torch.tensor([0.0, 1, 1], dtype=torch.float64)), drawn(3)),
    "product": (lambda x, w: x @ w, drawn((2, 3), (3, 2))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_functions_pass_on_the_default_domain(name):
    fn, inputs = RIGHT[name]
    assert gradcheck(fn, inputs, max_examples=20, raise_exception=False).ok


def test_how_far_a_product_holds_is_said_and_beyond_it_is_a_warning():
    (x,) = drawn(2)
    report = gradcheck(lambda x: x * x, x, max_examples=40, raise_exception=False)
    root = gradcheck(lambda x: torch.sqrt(1 + x * x), x, max_examples=40, raise_exception=False)
    assert report.ok
    assert root.ok
    said = [f for f in root.findings if f.beyond]
    assert said
    assert any("|x| ≤ 6.7e+153" in f.reason for f in said)


@pytest.mark.parametrize(
    "x",
    [torch.tensor([1e200, 1.0], dtype=torch.float64), *drawn(2, max_value=1e300, min_value=-1e300)],
)
def test_numbers_that_were_asked_for_count(x):
    report = gradcheck(lambda x: (x * x) / x, x, max_examples=40, raise_exception=False)
    assert report.verdict is Verdict.NONFINITE
    assert not report.ok


def reflected(v, x):
    return x - 2 * v * (v @ x) / (v @ v)


def reflected_vjp(g, v, x, share=2):
    n, a, b = v @ v, v @ x, v @ g
    return 2 * share * v * a * b / n**2 - 2 * (g * a + x * b) / n, g - 2 * v * b / n


@pytest.mark.parametrize("bounds", [{}, {"min_value": -4, "max_value": 4}, {"min_value": 0}])
def test_a_range_around_zero_says_nothing_of_how_near_it_numbers_are(bounds):
    """A reflection, as every x/(x·x), is 0/0 in floats at 1e-300, and its derivative from 1e-77 on."""
    pair = (arrays("float64", 3, **bounds), arrays("float64", 3, **bounds))
    right = gradcheck(reflected, pair, vjp=reflected_vjp, raise_exception=False)
    assert right.ok, str(right)
    assert any(f.beyond and "fails for smaller ones" in f.reason for f in right.findings)
    wrong = partial(reflected_vjp, share=1)
    assert gradcheck(reflected, pair, vjp=wrong, raise_exception=False).verdict is Verdict.WRONG


@pytest.mark.parametrize("bounds", [(1e-300, 1.0), (-1e-200, 1e-200)])
def test_small_numbers_that_were_asked_for_count(bounds):
    x = arrays("float64", 2, min_value=bounds[0], max_value=bounds[1])
    report = gradcheck(lambda x: x / np.sqrt(x @ x), x, max_examples=40, raise_exception=False)
    assert not report.ok


def test_an_overflow_within_the_range_is_an_error():
    naive = gradcheck(lambda x: torch.log(1 + torch.exp(x)), drawn(2), raise_exception=False)
    assert not naive.ok
    assert max(float(abs(v)) for v in naive.inputs[0]) < 1000


def test_an_overflow_of_a_sum_at_the_end_of_the_range_is_a_warning():
    """A mean sums up first; a factor of the largest number of the format is no fault of the code's."""

    def divergence(mean, log_variance):
        return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(-1).mean()

    zeros = torch.zeros(2, 2)
    at = torch.tensor([[88.72, 0.0], [1.0, 0.0]])
    assert not gradcheck(divergence, (zeros, at), raise_exception=False).ok  # the caller's own
    for seed in range(3):
        inputs = (arrays("float32", (4,), framework="torch"),)
        report = gradcheck(
            lambda x: (x.exp() - x).mean(),
            inputs,
            max_examples=60,
            seed=seed,
            raise_exception=False,
        )
        assert not any(f.kind == "nonfinite" and f.severity == "error" for f in report.findings)


def test_a_wrong_formula_is_an_error_however_far_out_it_was_met():
    def wrong(v, x):
        return (v * 2 * x + (np.abs(x) > 1) * v,)

    report = gradcheck(lambda x: x * x, arrays("float64", 2), vjp=wrong, raise_exception=False)
    assert report.verdict is Verdict.WRONG
    assert not report.ok


# -- values ------------------------------------------------------------------------------------


def test_a_value_that_is_not_the_definition_is_wrong():
    x = np.array([0.5, -2.0])
    assert gradcheck(np.tanh, x, truth=np.tanh).verdict is Verdict.CORRECT
    report = gradcheck(lambda x: np.tanh(x) + 1, x, truth=np.tanh, raise_exception=False)
    assert report.verdict is Verdict.WRONG
    assert {f.mode for f in report.findings} == {"value"}
    assert report.findings[0].where.startswith("f[")


def test_a_value_that_loses_its_digits_is_imprecise():
    def relu6(x):
        return np.maximum(x, 0) - np.maximum(x - 6, 0)

    x = np.array([1.0, 4104.0], dtype=np.float16)
    report = gradcheck(relu6, x, raise_exception=False)
    assert [(f.kind, f.mode, f.severity) for f in report.findings] == [
        ("imprecise", "value", "error")
    ]
    assert gradcheck(lambda x: np.minimum(np.maximum(x, 0), 6), x).verdict is Verdict.CORRECT
    # Who gives a derivative of a function asks for that.
    given = gradcheck(relu6, x, vjp=lambda v, x: (v * ((x > 0) & (x < 6)),), raise_exception=False)
    assert [(f.mode, f.severity) for f in given.findings] == [("value", "warning")]


@pytest.mark.parametrize("strict", [False, True])
def test_a_value_has_the_scale_of_those_at_ordinary_inputs(strict):
    """1 - cos x has no digits at 1e-9, and log(1 - tanh² x) few at 15, where it is no smaller."""
    for f, x, ok in (
        (lambda x: 1 - torch.cos(x), 1e-9, True),
        (lambda x: torch.log(torch.cosh(x)), 1e-6, True),
        (lambda x: torch.log(1 - torch.tanh(x) ** 2), 15.0, False),
    ):
        at = torch.tensor([x], dtype=torch.float64)
        found = gradcheck(f, at, strict=strict, raise_exception=False).findings
        values = [f for f in found if f.mode == "value"]
        assert [f.severity for f in values] == ["warning" if ok else "error"]


def test_a_norm_that_underflows_is_imprecise():
    x = torch.tensor([0.0, 1.6e-162], dtype=torch.float64)
    report = gradcheck(torch.linalg.vector_norm, x, raise_exception=False)
    assert "value" in {f.mode for f in report.findings}
    assert not report.ok


@pytest.mark.parametrize("sign", [-0.0, 0.0, -1.0])
def test_exact_numbers_have_no_sign_of_zero(sign):
    def vjp(v, x, s):
        return v * np.sign(x) * np.copysign(1.0, s), 0.0 * v

    x, s = np.array([-0.5, 2.0]), np.array([sign, 3.0])
    assert gradcheck(np.copysign, (x, s), vjp=vjp, raise_exception=False).verdict != "wrong"
