"""Where there is no derivative nothing is wrong, and it hides no error beside it."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify import reference
from ffverify.exact.formats import FORMATS
from ffverify.gradients import findings
from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.truth.slopes import Inputs, slopes


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


def errors(report):
    return [f for f in report.findings if f.severity == "error"]


Z = np.array([0.0, 0.5])


def test_slopes_that_grow_as_steps_shrink_are_none_however_large():
    """Those beyond the format are slopes where they are known as well as others are."""
    x, fmt = Inputs([np.array([0.0, 0.5])]), FORMATS["float64"]
    for fn in (np.cbrt, lambda x: np.abs(x) ** 0.25 * np.sign(x), np.sqrt):
        for direction in ([1.0, 1.0], [-1.25, 1.5]):
            assert slopes(fn, x, [np.array(direction)], fmt).smooth.tolist() == [False, True]
    steep = slopes(lambda x: np.exp(1600 * x), x, [np.ones(2)], fmt)
    assert steep.smooth.all()
    assert float(steep.exact[1].log().mid()) == pytest.approx(800 + np.log(1600))


CASES = {
    "cbrt": np.cbrt,
    "sign": lambda x: np.sign(x) * np.abs(x) ** (1 / 3),
    "x^1.5": lambda x: x**1.5,
    "|x|^1.5": lambda x: np.abs(x) ** 1.5,
    "sqrt": np.sqrt,
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("fn", CASES.values(), ids=CASES)
def test_numpy(fn, order):
    assert not errors(check(fn, Z, order=order))

    def spoiled(v, x):
        (g,) = reference.vjp(fn, x)[1](v)
        return (g * np.array([1.0, 1.01]),)

    assert check(fn, Z, vjp=spoiled).verdict == "wrong"


def test_jax_and_torch():
    jnp, torch = (pytest.importorskip(name) for name in ("jax.numpy", "torch"))
    z = jnp.asarray(Z, dtype="float32")
    assert not errors(check(lambda x: jnp.abs(x) ** 1.5, z, order=2))
    assert not errors(check(jnp.cbrt, z, order=2))
    assert not errors(check(lambda x: x.sign() * x.abs() ** (1 / 3), torch.tensor(Z), order=2))
    assert not errors(check(torch.atan2, torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0])))
    # x², whose root has no derivative at 0: 0 · inf.
    assert errors(check(lambda x: x.abs() * (x * x).sqrt(), torch.tensor(Z)))


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_angles(factor):
    x, y = np.array([0.0, 1.0]), np.array([0.0, -2.0])

    def vjp(v, x, y):
        with np.errstate(all="ignore"):
            return v * y / (x * x + y * y), -factor * v * x / (x * x + y * y)

    assert check(np.arctan2, x, y, vjp=vjp).ok is (factor == 1)
    ranged = arrays("float64", (2,), min_value=-3, max_value=3)
    assert not errors(check(np.arctan2, ranged, ranged, max_examples=20))


@pytest.mark.parametrize("x", [np.zeros((3, 3)), np.ones((3, 3)), np.outer([4, 2, 1], [1, 0.5, 2])])
def test_factors_of_a_singular_matrix_that_are_no_linear_function_beside_it(x):
    """U along every direction has a slope, that of a sum of two is not their sum: nan is no fault."""
    torch = pytest.importorskip("torch")

    def upper(x):
        return torch.linalg.lu(x)[2]

    assert not errors(check(upper, torch.tensor(x)))
    # A derivative that is not finite where there is one; here slopes along directions add up.
    beside = torch.tensor(x + np.diag([4.0, 5.0, 6.0]))
    assert check(upper, beside).ok
    assert errors(check(lambda x: upper(x) + 0 * (x - beside).abs().sqrt(), beside))


def test_a_number_that_is_not_confirmed_is_no_error_and_hides_none(monkeypatch):
    def vjp(v, x):
        return (3.0 * v * np.cos(x),)

    x, y = np.array([1.0, 2.0]), np.array([0.5])

    def fn(x, y):
        return np.sin(x) * y

    def wrong(v, x, y):
        return v * np.cos(x) * y * 3, np.sum(v * np.sin(x), keepdims=True) * 2

    assert len(errors(check(fn, x, y, vjp=wrong))) == 2
    confirmed = findings.confirm.slope

    def slope(program, args, tangents, ball):
        by_the_first = tangents[0] is not None and np.any(tangents[0])
        return (None, None, 0) if by_the_first else confirmed(program, args, tangents, ball)

    monkeypatch.setattr(findings.confirm, "slope", slope)
    report = check(fn, x, y, vjp=wrong)
    assert [f.kind for f in report.findings] == ["wrong", "inconclusive"]
    assert "∂⟨v, fn⟩/∂y" in report.findings[0].where
    assert "Not confirmed" in report.findings[1].reason
    searched = check(fn, arrays("float64", (2,)), y, vjp=wrong, max_examples=5)
    assert "∂⟨v, fn⟩/∂y" in errors(searched)[0].where
    # Where nothing else is wrong the search goes on, and ends without an error.
    alone = check(np.sin, arrays("float64", (2,), min_value=-2), vjp=vjp, max_examples=5)
    assert alone.ok
    assert {str(f.kind) for f in alone.findings} == {"inconclusive"}
    assert alone.points > 5


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_staircase_is_one_where_its_own_slope_is_nearly_that_over_many_steps(factor):
    """Where all numbers are nearly the same a step of a normalised bisection has the slope of the whole."""
    torch = pytest.importorskip("torch")

    class Entmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x = x / 2
            low, width = x.max() - 1, 1 - x.numel() ** -0.5
            for _ in range(50):
                width = width / 2
                total = ((x - low - width).clamp(min=0) ** 2).sum()
                low = torch.where(total >= 1, low + width, low)
            p = (x - low).clamp(min=0) ** 2
            p = p / p.sum()
            ctx.save_for_backward(p)
            return p

        @staticmethod
        def backward(ctx, v):
            s = ctx.saved_tensors[0].sqrt()
            return factor * (v * s - (v * s).sum() / s.sum() * s)

    x = torch.tensor([0.0, -1.053671212772351e-08, 0.0, 0.0], dtype=torch.float64)
    report = check(Entmax.apply, x)
    assert report.ok is (factor == 1), report


@pytest.mark.parametrize("harmless", [True, False])
def test_what_is_not_finite_beside_zero_and_at_it_is_no_matter_of_extreme_inputs(harmless):
    torch = pytest.importorskip("torch")

    def angle(q):
        square = (q[1:] * q[1:]).sum()
        sine = torch.where(square > 0, square, 1.0).sqrt() if harmless else square.sqrt()
        turned = torch.atan2(torch.where(square > 0, sine, 0.0), q[0].abs() + 1)
        return q[1:] * torch.where(square > 0, turned / sine, 1 / (q[0].abs() + 1))

    drawn = arrays("float64", (4,), min_value=-3, max_value=3, framework="torch")
    report = check(angle, drawn, max_examples=50)
    assert (str(report.verdict) == "nonfinite" and not report.ok) is not harmless, report
