"""Hints are true or absent: what lost the digits is named, and is no other thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck

X = np.array([[0.3, 0.7], [1.1, 0.9]], dtype=np.float32)
CANCELLATION, TIE = "a cancellation such as", "is decided the other way"


def told(fn: Any, *inputs: Any) -> str:
    return str(gradcheck(fn, inputs, raise_exception=False))


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_a_cast_is_named_where_it_loses_the_digits(narrow: str) -> None:
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, narrow)
    said = told(lambda a: (a.to(dtype) @ a.to(dtype)).float(), torch.tensor(X))
    assert f"Hint: it passes through {narrow} on the way" in said
    assert CANCELLATION not in said


def test_casts_of_numpy_and_jax_are_named() -> None:
    jnp = pytest.importorskip("jax.numpy")
    for fn, x in (
        (lambda x: np.tanh(x.astype(np.float16).astype(np.float32)) * x, X),
        (lambda x: jnp.tanh(x.astype("float16")).astype("float32") * x, jnp.array(X)),
    ):
        said = told(fn, x)
        assert "passes through float16" in said
        assert CANCELLATION not in said


def test_a_cast_that_loses_nothing_is_not_named() -> None:
    def loses(x: Any) -> Any:
        return ((1 + x) - 1) * np.array([0.5], np.float32).astype(np.float16).astype(np.float32)

    def after_a_cast(x: Any) -> Any:
        return ((1 + x) - 1) * (0 * x + 0.5).astype(np.float16).astype(np.float32)

    for fn in (loses, after_a_cast):
        said = told(fn, np.array([1e-6, 3e-6], np.float32))
        assert CANCELLATION in said
        assert "passes through" not in said


def test_an_argmax_that_rounding_ties_is_no_cancellation() -> None:
    def taken(x: Any) -> Any:
        e = np.exp(x)
        p = e / np.sum(e)
        return np.where(p[0] >= p[1], 1.0, 2.0) * np.sum(p * p)

    said = told(taken, np.array([-4.656613e-10, 0.0, -1.0], np.float32))
    assert TIE in said
    assert CANCELLATION not in said


def test_where_no_branch_is_near_a_cancellation_is_still_named() -> None:
    said = told(lambda x: 1 - 1 / (1 + np.exp(-x)), np.array([30.0, 33.0]))
    assert CANCELLATION in said
    assert TIE not in said


def test_what_cancels_beside_a_maximum_is_no_tie():
    torch = pytest.importorskip("torch")

    def f(z):
        return torch.logsumexp(z, -1) - z[0]

    report = gradcheck(f, torch.tensor([40.0, 27.0, 0.0]), raise_exception=False)
    assert "most digits are lost" in report.findings[0].hint


def test_a_cancellation_beside_a_threshold_is_no_tie() -> None:
    """cos x / x and sin x / x² round alike in shorter formats too; the mask at 0 has no part in that."""
    torch = pytest.importorskip("torch")

    class Sinc(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.where(x == 0, 1.0, torch.sin(x) / x)

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:
            (x,) = ctx.saved_tensors
            slope = torch.cos(x) / x - torch.sin(x) / (x * x)
            return v * torch.where(x.abs() < 1e-10, 0.0, slope)

    said = told(Sinc.apply, torch.tensor([0.0, 0.000244140625]))
    assert "imprecise" in said
    assert TIE not in said
