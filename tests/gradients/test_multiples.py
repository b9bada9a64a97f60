"""Derivatives are linear at cotangents and tangents of any size: each case with code that is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffverify import strategies
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport

X = np.array([0.5, -1.25, 2.0])
NOT_LINEAR = "is not linear: element"


def check(fn: Any, *inputs: Any, **options: Any) -> GradcheckReport:
    return gradcheck(fn, inputs, raise_exception=False, **options)


def tripled(x: Any) -> Any:
    return 3 * x


RULES: dict[str, tuple[bool, Callable[..., Any]]] = {
    "clipped at 100": (False, lambda v, _x: (np.clip(3 * v, -100, 100),)),
    "clipped at 10000": (False, lambda v, _x: (np.clip(3 * v, -1e4, 1e4),)),
    "clipped by its norm": (False, lambda v, _x: (3 * v / max(1.0, np.linalg.norm(v) / 50),)),
    "below a half dropped": (False, lambda v, _x: (np.where(abs(v) < 0.5, 0, 3 * v),)),
    "below 1e-8 dropped": (False, lambda v, _x: (np.where(abs(v) < 1e-8, 0, 3 * v),)),
    "above 1e6 dropped": (False, lambda v, _x: (np.where(abs(v) > 1e6, 0, 3 * v),)),
    "right": (True, lambda v, _x: (3 * v,)),
    "right, of no exact form": (True, lambda v, _x: (np.array([3 * float(t) for t in v], v.dtype),)),
    "clipped, of no exact form": (
        False,
        lambda v, _x: (np.array([float(min(max(3 * float(t), -100), 100)) for t in v], v.dtype),),
    ),
    "right, in float16": (True, lambda v, _x: ((3 * v.astype(np.float16)).astype(v.dtype),)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_numpy_functions(rule: str, dtype: str) -> None:
    right, vjp = RULES[rule]
    report = check(tripled, X.astype(dtype), vjp=vjp)
    assert (NOT_LINEAR in str(report)) is not right, report
    assert right or (not report.ok and str(report.verdict) == "wrong")


@pytest.mark.parametrize("limit", [np.inf, 100.0, 1e10])
def test_functions_of_no_exact_form(limit: float) -> None:
    def tripled(x: Any) -> Any:
        return np.array([3 * float(t) for t in x], x.dtype)

    for dtype in ("float64", "float32"):
        report = check(tripled, X.astype(dtype), vjp=lambda v, _x: (np.clip(3 * v, -limit, limit),))
        assert report.ok is math.isinf(limit)


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_code_that_is_written_for_float32_alone(limit: float) -> None:
    def tripled(x: Any) -> Any:
        assert x.dtype == np.float32
        return np.array([3 * float(t) for t in x], x.dtype)

    report = check(tripled, np.float32(X), vjp=lambda v, _x: (np.clip(3 * v, -limit, limit),))
    assert report.ok is math.isinf(limit)


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_where_the_gradient_is_0_another_input_is_asked(limit: float) -> None:
    def vjp(v: Any, x: Any) -> Any:
        return (np.clip(2 * x * v, -limit, limit),)

    assert check(lambda x: x * x, np.zeros(3), vjp=vjp).ok is math.isinf(limit)


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_tangents(limit: float) -> None:
    def jvp(dots: Any, x: Any) -> Any:
        return np.clip(np.cos(x) * dots[0], -limit, limit)

    report = check(np.sin, X, jvp=jvp)
    assert report.ok is math.isinf(limit), report
    assert report.ok or "the tangent of result 0 is not linear" in str(report)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_torch_functions(dtype: str, limit: float) -> None:
    torch = pytest.importorskip("torch")

    class Clipped(torch.autograd.Function):
        @staticmethod
        def forward(_ctx: Any, x: Any) -> Any:
            return x * 3

        @staticmethod
        def backward(_ctx: Any, v: Any) -> Any:
            return (v * 3).clamp(-limit, limit)

    report = check(Clipped.apply, torch.tensor(X, dtype=getattr(torch, dtype)))
    assert report.ok is math.isinf(limit), report
    drawn = strategies.arrays(dtype, (3,), min_value=-4, max_value=4, framework="torch")
    assert check(Clipped.apply, drawn, max_examples=10).ok is math.isinf(limit)


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_jax_functions(limit: float) -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    @jax.custom_vjp
    def clipped(x: Any) -> Any:
        return 3 * x

    clipped.defvjp(lambda x: (3 * x, None), lambda _, v: (jnp.clip(3 * v, -limit, limit),))
    assert check(clipped, jnp.array(X, jnp.float32)).ok is math.isinf(limit)


def _unshifted(v: Any, x: Any) -> Any:
    """Give the gradient of log Σ e^x as written, whose numbers reach far down and up on the way."""
    e = np.exp(x)
    return (v / np.sum(e) * e,)


@pytest.mark.parametrize("at", [80.0, 0.0, -80.0])
def test_what_leaves_the_range_on_the_way_is_no_fault(at: float) -> None:
    x = (at + X).astype(np.float32)
    report = check(lambda x: np.log(np.sum(np.exp(x))), x, vjp=_unshifted)
    assert NOT_LINEAR not in str(report)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_means_of_many_numbers_in_half_formats(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.linspace(-3, 3, 1000).to(getattr(torch, dtype))
    assert NOT_LINEAR not in str(check(lambda x: x.tanh().mean(), x))
    assert NOT_LINEAR not in str(check(lambda x: (x * 1e-3).square().mean(), x))


@pytest.mark.parametrize("narrow", ["half", "bfloat16"])
def test_narrower_formats_inside(narrow: str) -> None:
    torch = pytest.importorskip("torch")

    def mixed(x: Any) -> Any:
        return (torch.tanh(getattr(x, narrow)()) * 0.5).float()

    assert NOT_LINEAR not in str(check(mixed, torch.tensor(X, dtype=torch.float32)))


def test_less_range_inside_or_in_the_gradient_than_in_the_result() -> None:
    torch = pytest.importorskip("torch")
    for dtype, narrow in (("float16", "bfloat16"), ("bfloat16", "float16")):
        x = torch.tensor(X, dtype=getattr(torch, dtype))
        other = getattr(torch, narrow)
        assert NOT_LINEAR not in str(check(lambda x, other=other: x.to(other), x))
        assert NOT_LINEAR not in str(check(lambda x, other=other: x.to(other).to(x.dtype) * x, x))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_inputs_near_the_ends_of_the_range(size: float) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(size * X, dtype=torch.float32)
    for fn in (
        lambda x: torch.nn.functional.normalize(x, dim=0),
        lambda x: torch.nn.functional.layer_norm(x, (3,)),
        lambda x: x / (1 + x * x),
        torch.linalg.vector_norm,
        lambda x: torch.atan2(x, x.flip(0)),
        lambda x: x.sigmoid() * size,
    ):
        assert NOT_LINEAR not in str(check(fn, x))


def test_code_that_loses_digits_far_away_is_not_said_to_clip() -> None:
    """torch scales a matrix by its norm together with its tangent's."""
    torch = pytest.importorskip("torch")
    a = torch.tensor([[0.5, -4.0, 1.0], [3.0, 0.25, -2.0], [1.5, 2.0, -3.0]], dtype=torch.float64)
    far = torch.tensor(2.0**40, dtype=torch.float64)
    (once,) = torch.func.vjp(torch.linalg.matrix_exp, a)[1](torch.ones_like(a))
    (there,) = torch.func.vjp(torch.linalg.matrix_exp, a)[1](far * torch.ones_like(a))
    assert (there / far - once).abs().max() > 1e-8 * once.abs().max()  # as it is in torch
    assert check(torch.linalg.matrix_exp, a).ok


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_far_away_code_may_lose_digits_and_take_other_terms_of_a_series(limit: float) -> None:
    """How often a matrix exponential is scaled depends on its tangent, and what its terms leave out too."""

    def vjp(v: Any, x: Any) -> Any:
        is_far = np.abs(v).max() > 1e3
        series = sum(x**k / math.factorial(k) for k in range(16 if is_far else 12))
        large = v * (1e12 if is_far else 0.0)
        return (np.clip(v * series + large, -limit, limit) - large,)

    report = check(np.exp, np.array([0.3, 0.1, -0.2]), vjp=vjp)
    assert report.ok is math.isinf(limit), report


@pytest.mark.parametrize("limit", [np.inf, 100.0])
def test_torch_code_that_branches_on_its_cotangent_may_lose_digits_far_away(limit: float) -> None:
    """Its program is that of ordinary cotangents, as a matrix exponential's scaling is."""
    torch = pytest.importorskip("torch")

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.exp()

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:
            (x,) = ctx.saved_tensors
            slope = v * x.exp()
            if float(v.abs().max()) > 1e3:
                slope = (slope + v * 1e12).clamp(-limit, limit) - v * 1e12
            return slope

    report = check(Exp.apply, torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64))
    assert report.ok is math.isinf(limit), report
