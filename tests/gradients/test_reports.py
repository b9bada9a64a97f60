"""What a report says, how it is pasted, and that it travels."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import ffverify
from ffverify.gradients.gradcheck import GradcheckError, gradcheck
from ffverify.strategies import arrays

X = np.array([0.5, -1.25, 2.0])
A = np.arange(6.0).reshape(2, 3)


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


def halved(v, x):
    return v * np.cos(x) / 2


def test_the_headline_says_the_verdict_and_the_place_and_what_was_checked():
    first, second, *_ = str(quiet(np.sin, X[:1], vjp=halved)).splitlines()
    assert first == "gradcheck of sin: wrong in sin'([0.5]), reverse"
    assert second.strip().split("; ") == [
        "NumPy float64 on cpu",
        "derivatives: the caller's vjp=",
        "truth: shadow, its own program in exact arithmetic",
    ]
    assert str(quiet(np.sin, X)).splitlines()[0] == "gradcheck of sin: correct"
    tail = quiet(np.tanh, np.array([25.0]), vjp=lambda v, x: v * (1 - np.tanh(x) ** 2))
    assert str(tail).startswith(
        "gradcheck of tanh: passed with warnings, imprecise in tanh'([25.0])"
    )


def doubled_far_out(v, x):
    return v * np.where(abs(x) > 1e300, 2.0, 1.0)


def lossy_and_doubled_far_out(v, x):
    size = np.where(x == 0, 1, np.minimum(abs(x), 1))
    return doubled_far_out(v, x) * ((1e12 + size) - 1e12) / size


def test_what_is_wrong_at_extreme_inputs_only_does_not_read_as_wrong():
    report = quiet(lambda x: x + 0.0, arrays("float64", (2,)), vjp=doubled_far_out)
    assert report.ok
    assert "passed with warnings, wrong at extreme inputs only in " in str(report)


def test_the_headline_and_the_verdict_are_of_errors_where_there_are_some():
    rule = lossy_and_doubled_far_out
    report = quiet(lambda x: x + 0.0, arrays("float64", (2,)), vjp=rule)
    assert not report.ok
    errors = {str(f.kind) for f in report.findings if f.severity == "error"}
    assert "wrong" in {str(f.kind) for f in report.findings} - errors
    assert str(report.verdict) == "imprecise"
    assert str(report).startswith("gradcheck of f: imprecise in ")


def test_a_truth_without_a_digit_is_told_by_its_ends():
    from ffverify.exact.elements import arb
    from ffverify.gradients.findings import _within

    assert _within(arb(0, 7.7501)) == "between -7.76 and 7.76"
    assert _within(arb(5, 6)) == "between -1.01 and 11.1"  # outwards
    assert _within(arb.nan()) == "unknown"
    assert _within(arb(1.25, 0.001)).startswith("[1.25")


def test_what_is_not_decided_should_be_nothing():
    found = ffverify.verdicts.finding.Finding(
        ffverify.verdicts.verdict.Verdict.INCONCLUSIVE, "f", "nan", "undefined", 1.0, 1.0, "float64"
    )
    assert str(found).startswith("inconclusive: f = nan, and the exact number is undefined")


def test_why_there_is_no_exact_program_is_one_sentence():
    def floats(x):
        return np.array([3 * float(t) for t in x])

    (note,) = quiet(floats, X, vjp=lambda v, x: (3 * v,)).notes
    assert note.startswith("no exact form of code that refuses exact numbers: a traced value of ")
    (note,) = quiet(np.logaddexp.accumulate, X, vjp=lambda v, x: (v,)).notes
    assert note == "no exact form of numpy.logaddexp.accumulate"


def test_pytest_shows_the_verdict_and_the_place_in_its_summary(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import numpy as np, ffverify\n"
        "def test_it():\n"
        "    ffverify.gradcheck(np.sin, np.array([0.5]), vjp=lambda v, x: v)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"COLUMNS": "200"}
    )
    assert re.search(r"^FAILED .*gradcheck of sin: wrong in sin'", done.stdout, re.MULTILINE), (
        done.stdout
    )


def test_one_paragraph_per_fault_with_its_extent_and_the_inputs_once():
    def vjp(v, x):
        slip = np.ones_like(x)
        slip[:, 1] = 3.0
        return v * np.cos(x) * slip

    report = quiet(np.sin, A, vjp=vjp)
    (found,) = report.findings
    assert found.reason.startswith("2 of 6 elements are off, all in column 1, by the factor 3.")
    assert str(report).count("np.array(") == 1
    report = quiet(np.sin, A, vjp=lambda v, x: 0 * v)
    assert report.findings[0].reason.startswith("Every element is off, computed as 0.")
    drawn = arrays("float64", (2, 3), min_value=1, max_value=2)
    both = quiet(np.sin, drawn, vjp=vjp, jvp=lambda t, x: t[0], max_examples=10)
    assert sorted(f.mode for f in both.findings if f.severity == "error") == ["forward", "reverse"]


def test_as_many_digits_as_the_format_warrants_and_sixty_on_demand():
    x = X.astype(np.float32)
    report = quiet(np.sin, x, vjp=lambda v, x: v)
    exact = report.findings[0].exact
    shown = re.search(r"should be (\S+) ", str(report)).group(1)
    assert len(exact) > 50
    assert 12 <= len(re.sub(r"e.*|\D", "", shown)) <= 14
    assert float(shown) == pytest.approx(float(exact), rel=1e-11)


def test_numbers_of_any_power_are_printed():
    """A gate that underflows is e to the power of -10³⁸ in the open domain; 1e-400 is not exactly zero."""

    def swish(x):
        return x / (1 + np.exp(-x))

    text = str(quiet(swish, np.array([-1e50]), vjp=lambda v, x: v * np.nan))
    assert re.search(r"should be -?\d\.\d+e-\d{50,}\n", text), text
    text = str(quiet(swish, np.array([-1e3]), vjp=lambda v, x: v * 1e-300))
    assert re.search(r"should be -?\d\.\d+e-43\d ", text), text
    assert "exactly zero" not in text


def test_beside_zero_ulps_are_words_and_beside_correct_there_are_no_huge_ones():
    report = quiet(lambda x: np.sum(x * 0), X, vjp=lambda v, x: v + 0 * x)
    assert "exactly zero: all of it is error" in str(report)
    assert "ulps of float64" not in str(report)
    for x in (1e5, 1e10):
        text = str(quiet(np.sin, np.array([x * np.pi])))
        assert "correct" not in text or not re.search(r"worst error \S+e\+", text)


def test_the_reproduction_has_the_options_and_the_direction():
    report = quiet(np.sin, X, vjp=halved, seed=3, strict=True)
    call, cotangent = report.reproduction.splitlines()
    assert call == (
        "gradcheck(sin, [np.array([0.5, -1.25, 2.0], dtype='float64')], vjp=halved, strict=True, seed=3)"
    )
    assert re.fullmatch(r"# cotangent \[[-\d., e+]+\]", cotangent)
    assert call in str(report)
    again = eval(call, {"gradcheck": quiet, "sin": np.sin, "np": np, "halved": halved})  # noqa: S307 - pasted
    assert [str(f) for f in again.findings] == [str(f) for f in report.findings]
    report = quiet(np.sin, X, jvp=lambda t, x: t[0])
    assert "# tangent x: [" in report.reproduction
    report = quiet(
        np.sin, X, order=2, vjp=lambda v, x: v * np.cos(x), modes="reverse", truth=np.cos
    )
    assert ", modes='reverse', truth=cos, order=2)" in report.reproduction


class Layer:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, v):
        return v * self.x


def test_the_reproduction_of_an_object():
    report = ffverify.backprop(Layer(), X, raise_exception=False)
    assert report.reproduction.startswith("ffverify.backprop(layer, [np.array([0.5, -1.25, 2.0]")


def test_an_autograd_function_is_called_by_its_name():
    torch = pytest.importorskip("torch")

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0] ** 2

    report = quiet(Cube.apply, torch.tensor([1.0, 2.0]), order=2)
    assert str(report).startswith("gradcheck of Cube: wrong in ∂⟨v, Cube⟩/∂")
    assert report.reproduction.startswith("gradcheck(Cube.apply, [torch.tensor([1.0, 2.0]")


def test_a_script_computes_the_error_with_mpmath_alone():
    report = quiet(np.sin, X, vjp=halved)
    text = report.script()
    assert len(text.splitlines()) == 5
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    number, _ = done.stdout.split(maxsplit=1)
    assert abs(float(number)) == pytest.approx(report.findings[0].error_ulps, rel=1e-6)
    with pytest.raises(ValueError, match="nothing failed"):
        quiet(np.sin, X).script()
    with pytest.raises(ValueError, match="no pair of numbers"):
        quiet(np.argmax, X).script()


@pytest.mark.parametrize(
    ("fn", "x", "off"),
    [
        (np.vectorize(math.sin), 0.75, (3 - math.cos(0.75)) * 2.0**53),  # differences: a ball
        (np.abs, 0.0, 2 * 2.0**52),  # between the one-sided derivatives
    ],
)
def test_a_script_takes_the_nearest_of_what_may_be(fn, x, off, capsys):
    report = quiet(fn, np.array([x]), vjp=lambda v, x: (3 * v,))
    assert float(report.findings[0].computed) == 3
    exec(report.script(), {})  # noqa: S102 - our own
    number, *words = capsys.readouterr().out.split()
    assert float(number) == pytest.approx(off, rel=1e-6)
    assert len(number) < 20
    assert words == ["ulps", "of", "float64"]


@dataclasses.dataclass
class State:
    x: object
    label: str


class Pair(NamedTuple):
    x: object
    n: int


@pytest.mark.parametrize("state", [State(X, "a"), Pair(X / 3, 2)], ids=["dataclass", "tuple"])
def test_classes_are_pasted_with_all_digits(state):
    report = quiet(lambda s: np.sin(s.x), [state], jvp=lambda d, s: d[0].x * 0.5, modes=["forward"])
    assert not report.ok
    (pasted,) = eval(  # noqa: S307 - our own
        report.reproduction.splitlines()[0].removeprefix("gradcheck(f, ").partition(", jvp=")[0],
        {"np": np, "State": State, "Pair": Pair},
    )
    assert type(pasted) is type(state)
    np.testing.assert_array_equal(pasted.x, state.x)


def test_hints_beside_a_zero_say_of_what():
    def left_over(x):
        return (x + 1) - x - 1

    value = quiet(lambda x: x * 0 + 1e-3, X, truth=lambda x: x - x)
    assert "the exact value is zero" in str(value)
    assert "exact derivative is zero" in str(quiet(left_over, X, vjp=lambda v, x: (v,)))
    kink = quiet(np.abs, np.array([0.0]), vjp=lambda v, x: (3 * v,))
    assert "is zero" not in str(kink)


def test_reports_and_errors_travel():
    report = quiet(np.sin, X, vjp=halved)
    held = pickle.loads(pickle.dumps(report))  # noqa: S301 - our own
    assert str(held) == str(report)
    assert held.to_dict() == report.to_dict()
    assert not held.ok
    with pytest.raises(RuntimeError, match="another process"):
        held.replay()
    given = (X, lambda x: x)
    odd = quiet(lambda x, f: f(x), given, vjp=lambda v, x, f: (2 * v, None))
    assert "wrong" in str(pickle.loads(pickle.dumps(odd)))  # noqa: S301 - our own
    error = pickle.loads(pickle.dumps(GradcheckError(report)))  # noqa: S301 - our own
    assert str(error) == str(report)
    assert str(error.report) == str(report)


def test_a_structure_is_suggested_where_the_failure_has_its_pattern():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    symmetric = root @ root.T + np.eye(3)
    symmetric = (symmetric + symmetric.T) / 2

    report = quiet(lambda x: np.sum(x * x), symmetric, vjp=lambda v, x: v * (2 * x + root - root.T))
    assert "Within symmetric inputs it is right: declare ffverify.symmetric(x)" in str(report)
    report = quiet(
        lambda p: np.sum(p * p), np.array([0.25, 0.5, 0.25]), vjp=lambda v, p: v * (2 * p + 1)
    )
    assert "declare ffverify.simplex(p)" in report.suggestion
    assert quiet(lambda x: np.sum(x * x), symmetric, vjp=lambda v, x: v * x).suggestion == ""


@pytest.mark.parametrize(("device", "told"), [("cuda", True), ("gpu", True), ("cpu", False)])
def test_what_products_in_tf32_lose_on_a_device_has_a_hint(monkeypatch, device, told):
    """JAX's default on a GPU: each operand has 11 bits. No device is here: the loss is planted."""
    monkeypatch.setattr("ffverify.gradients.hints.device_of", lambda _: device)
    w = (1 + np.arange(12.0).reshape(3, 4) / 37).astype(np.float32)

    def short(a):
        a = np.asarray(a)
        return ((a.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32)

    def vjp(ct, x):
        if ct.dtype != np.float32:  # in exact arithmetic the formula is right
            return (w.T @ ct,)
        return (short(w).T @ short(ct),)

    x = np.array([0.5, -1.5, 2.5, 0.7], dtype=np.float32)
    report = ffverify.gradcheck(lambda x: w @ x, x, vjp=vjp, raise_exception=False)
    assert not report.ok
    assert all(("TF32" in f.hint) == told for f in report.findings)


def test_a_device_of_jax_is_a_platform():
    from types import SimpleNamespace

    from ffverify.frameworks.arrays import device_of

    assert device_of(SimpleNamespace(device=SimpleNamespace(platform="gpu"))) == "gpu"
    assert device_of(np.ones(2)) == "cpu"


@pytest.mark.parametrize("b", [np.zeros((2, 3)), np.ones((2, 3))])
def test_a_gradient_that_is_0_all_over_says_what_it_cannot_show(b):
    """A low-rank adapter as it begins: whatever its other factor's gradient is multiplied by is not seen."""

    def adapter(x, a, b):
        return (x @ a) @ b

    def vjp(v, x, a, b):
        return v @ b.T @ a.T, x.T @ v @ b.T, a.T @ x.T @ v

    x, a = np.array([[1.0, -2.0]]), np.array([[0.5, 1.5], [2.0, 0.25]])
    report = gradcheck(adapter, (x, a, b), vjp=vjp)
    said = "not checked: by a, what it is multiplied by (its gradient is 0 all over here)"
    assert (said in str(report)) == (not b.any())
    assert report.verdict == "correct"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", ["line", "sine", "matrix"])
def test_an_error_larger_than_the_report_claims_to_see_is_seen(dtype, name):
    a = np.array([[1.0, -0.5], [2.0, 0.25]], dtype)
    f, slope = {
        "line": (lambda x: 3 * x, lambda v, x: 3 * v),
        "sine": (np.sin, lambda v, x: v * np.cos(x)),
        "matrix": (lambda x: a @ x, lambda v, x: a.T @ v),
    }[name]
    x = np.array([[0.5, -1.25], [2.0, 0.75]], dtype)
    report = gradcheck(f, x, vjp=slope)
    # A power of 2 is no constant that was rounded.
    error = np.asarray(2.0 ** np.ceil(np.log2(report.sensitivity) + 0.5), dtype)

    def off(v, x):
        return slope(v, x) + error * slope(v, x)

    assert gradcheck(f, x, vjp=off, raise_exception=False).verdict != "correct"
