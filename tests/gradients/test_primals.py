"""Derivative code computes the function's own values on the way: each case with a rule that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffverify import strategies
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport

OTHER = "the rule's forward gives another value than the function"


def check(fn: Any, inputs: Any, **options: Any) -> GradcheckReport:
    return gradcheck(fn, inputs, raise_exception=False, **options)


def holds(fn: Any, inputs: Any, *, right: bool, **options: Any) -> None:
    report = check(fn, inputs, **options)
    assert report.ok is right, report
    assert (OTHER in str(report)) is not right
    assert right or str(report.verdict) == "wrong"


FACTORS = [(1.0, True), (1.01, False), (1 + 1e-5, False)]


@pytest.mark.parametrize(("factor", "right"), FACTORS)
@pytest.mark.parametrize("inputs", ["point", "zeros", "search"])
def test_jax_rules(factor: float, *, right: bool, inputs: str) -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    given = {
        "point": jnp.array([0.5, 1.0]),
        "zeros": jnp.zeros(2),
        "search": strategies.arrays("float32", (2,), min_value=-2, max_value=2, framework="jax"),
    }[inputs]
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (factor * jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    holds(sine, given, right=right, max_examples=10)
    holds(lambda x: sine(x) + x, given, right=right, max_examples=10)

    tangent = jax.custom_jvp(jnp.sin)
    tangent.defjvp(lambda p, t: (factor * jnp.sin(p[0]), t[0] * jnp.cos(p[0])))
    holds(tangent, given, right=right, max_examples=10)
    holds(tangent, given, right=right, max_examples=10, modes=("forward",))


@pytest.mark.parametrize(("factor", "right"), FACTORS)
@pytest.mark.parametrize("modes", ["reverse", "forward"])
def test_torch_functions_that_ask_whether_they_are_differentiated(
    factor: float, *, right: bool, modes: str
) -> None:
    torch = pytest.importorskip("torch")

    def f(x: Any) -> Any:
        watched = x.requires_grad or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
        return torch.sin(x) + ((factor - 1) * torch.sin(x).detach() if watched else 0.0)

    x = torch.tensor([0.5, 1.0], dtype=torch.float64)
    holds(f, x, right=right, modes=modes)


def test_another_algorithm_may_round_otherwise() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    total = jax.custom_vjp(lambda x: x.sum())

    def forward(x: Any) -> Any:
        return x[0] + x[1] + x[2] + jnp.sum(x[3:][::-1]), x

    total.defvjp(forward, lambda x, g: (g * jnp.ones_like(x),))
    x = jnp.asarray(np.random.default_rng(0).standard_normal(9), "float32")
    assert float(forward(x)[0]) != float(total(x))
    holds(total, x, right=True)


def test_a_rule_that_is_right_in_one_result_only() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    both = jax.custom_vjp(lambda x: (jnp.sin(x), jnp.cos(x)))
    both.defvjp(
        lambda x: ((jnp.sin(x), -jnp.cos(x)), x),
        lambda x, g: (g[0] * jnp.cos(x) - g[1] * jnp.sin(x),),
    )
    report = check(both, jnp.array([0.5, 1.0]))
    assert "result 1" in str(report)
    assert str(report.verdict) == "wrong"
