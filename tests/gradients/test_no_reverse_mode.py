"""What a framework has no derivative of, in one mode or in both, is not wrong: it is told as not checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffverify import strategies
from ffverify.gradients.gradcheck import gradcheck


def _loop(x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * jnp.sin(c[1])), (0, x))[
        1
    ]


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_a_loop_of_unknown_length_is_checked_in_forward_mode(order: int, *, searched: bool) -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    x = strategies.arrays("float32", (2,), framework="jax") if searched else jnp.ones(2)
    report = gradcheck(_loop, x, order=order, max_examples=5)
    assert report.modes == (("forward", "ff") if order == 2 else ("forward",))
    assert (
        "Reverse-mode differentiation does not work for lax.while_loop" in report.skipped["reverse"]
    )

    wrong = jax.custom_jvp(_loop)
    wrong.defjvp(lambda p, t: (_loop(*p), 1.01 * jax.jvp(_loop, p, t)[1]))
    found = gradcheck(wrong, x, order=order, max_examples=5, raise_exception=False)
    assert {(str(f.kind), f.mode) for f in found.findings} == {("wrong", "forward")}


def test_where_no_mode_is_left_nothing_is_correct() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    def called(x: Any) -> Any:
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    for fn, modes in ((called, ("reverse", "forward")), (_loop, ("reverse",))):
        report = gradcheck(fn, jnp.ones(2), modes=modes, raise_exception=False)
        assert not report.ok
        assert str(report.verdict) == "inconclusive"
        assert "nothing could be judged" in str(report)
        assert set(report.skipped) == set(modes)


def test_a_rule_of_the_users_own_that_raises_is_wrong() -> None:
    jnp = pytest.importorskip("jax.numpy")
    import jax

    def pull(saved: Any, g: Any) -> Any:
        raise ValueError("not today")

    fn = jax.custom_vjp(jnp.sin)
    fn.defvjp(lambda x: (jnp.sin(x), x), pull)
    report = gradcheck(fn, jnp.ones(2), raise_exception=False)
    assert "not today" in str(report)
    assert not report.ok

    def own(g: Any, x: Any) -> Any:
        raise ValueError("Reverse-mode differentiation does not work for me")

    report = gradcheck(jnp.sin, jnp.ones(2), vjp=own, raise_exception=False)
    assert str(report.verdict) == "wrong"


def test_an_operation_of_torchs_without_a_derivative() -> None:
    torch = pytest.importorskip("torch")
    report = gradcheck(lambda x: x * torch.heaviside(x, x), torch.ones(2), raise_exception=False)
    assert not report.ok
    assert str(report.verdict) == "inconclusive"
    assert "derivative for aten::heaviside is not implemented" in report.skipped["reverse"]
