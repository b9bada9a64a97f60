"""Shadows of JAX programs: their jaxpr, run on exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from ffverify.exact.arithmetic import BALLS, MPMATH  # noqa: E402 - after the skip
from ffverify.exact.arrays import PreciseArray  # noqa: E402
from ffverify.exact.elements import arb  # noqa: E402 - after the skip
from ffverify.exact.formats import of  # noqa: E402
from ffverify.frameworks.framework import framework  # noqa: E402
from ffverify.frameworks.shadow import Shadow, shadow  # noqa: E402
from ffverify.gradients.gradcheck import gradcheck  # noqa: E402
from ffverify.strategies import arrays  # noqa: E402
from tests.bounds import running_bound  # noqa: E402

jax.config.update("jax_enable_x64", True)
F64 = of("float64")
jnp = jax.numpy
nn = jax.nn


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def made(fn: Callable[..., Any], *args: Any) -> Shadow:
    return shadow(fn, args, framework="jax")


def floats(x: Any) -> Any:
    return np.vectorize(float, otypes=[float])(x.values) if isinstance(x, PreciseArray) else x


@jax.custom_vjp
def clipped(x: Any) -> Any:
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.clip(g * jnp.cos(x), -0.5, 0.5),))


@jax.custom_jvp
def softplus(x: Any) -> Any:
    return jnp.logaddexp(x, 0.0)


softplus.defjvp(lambda p, t: (softplus(*p), nn.sigmoid(*p) * t[0]))

INDEX = jnp.array([0, 2, 2])
CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    **{n: (getattr(nn, n), [normal(3, 4)]) for n in str.split(
        "relu relu6 sigmoid softplus soft_sign silu log_sigmoid leaky_relu hard_sigmoid hard_silu hard_tanh "
        "elu celu selu gelu glu squareplus mish sparse_plus softmax log_softmax logsumexp standardize")},
    "custom_vjp": (clipped, [normal(4)]),
    "custom_jvp": (lambda x: softplus(x).sum(), [normal(4)]),
    "network": (
        lambda x, W: jax.jit(lambda x: nn.softmax(jnp.tanh(x @ W)))(x), [normal(3, 4), normal(4, 2, seed=1)]),
    "indices": (lambda x: x[INDEX] * jnp.take_along_axis(x, INDEX[:, None], 1), [normal(3, 4)]),
    "scatter": (lambda x: x.at[INDEX].add(x * x).at[0].set(1.0), [normal(3, 4)]),
    "moves": (
        lambda x: jnp.tile(jax.lax.reshape(x * x, (2, 6), dimensions=(1, 0)).T, (2, 1))[:, None] * x[0, 0],
        [normal(3, 4)]),
    "where": (lambda x: jnp.where(x > 0, jnp.exp(x), x**3), [normal(3, 4)]),
    "scan": (lambda x: jax.lax.scan(lambda c, y: (c * y, jnp.sin(c)), x[0], x), [normal(3, 4)]),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda i, c: jnp.cos(c) + x, x), [normal(3)]),
    "cond": (lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), [normal(3)]),
    "sort": (lambda x: jnp.sort(x * x, axis=0), [normal(3, 4)]),
    "cumulative": (lambda x: jnp.cumsum(x, axis=0) + jnp.cumprod(x, axis=1), [normal(3, 4)]),
    "einsum": (lambda x: jnp.einsum("bij,bkj->bik", x, x), [normal(2, 3, 4)]),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), [normal(3)]),
    "logaddexp": (jnp.logaddexp, [normal(3), normal(3, seed=1)]),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(3)), [normal(3, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_tangent(name: str) -> None:
    fn, args = CASES[name]
    program = made(fn, *args)
    assert program.forward is not None
    assert program.backward is not None
    values, pull = jax.vjp(fn, *args)
    bars = pull(jax.tree.map(jnp.ones_like, values))
    values = values if isinstance(values, tuple) else (values,)
    points = [np.asarray(a) for a in args]
    ones = [np.ones(v.shape) for v in values]
    explained(program.forward, points, values)
    explained(program.backward, [*points, *ones], bars)
    if name == "custom_vjp":  # which has no forward mode
        assert program.jvp is None
        return
    assert program.jvp is not None, program.unknown
    tangents = [np.cos(p) for p in points]
    dots = jax.jvp(fn, args, [jnp.asarray(t) for t in tangents])[1]
    explained(program.jvp, [*points, *tangents], dots if isinstance(dots, tuple) else (dots,))


def explained(program: Callable[..., Any], args: list[Any], computed: Any) -> None:
    """Check that JAX's numbers are the exact ones within their running bound, and mpmath agrees."""
    with BALLS.precision(256):
        found = program(*map(BALLS.array, args))
    with MPMATH.precision(256):
        again = program(*map(MPMATH.array, args))
    bounds = running_bound(program, args, F64)
    for ours, second, bound, theirs in zip(found, again, bounds, computed, strict=True):
        if not isinstance(ours, PreciseArray):
            np.testing.assert_array_equal(ours, theirs)
            continue
        numbers = np.asarray(theirs).ravel().tolist()
        for x, y, radius, number in zip(
            *(a.ravel() for a in (ours.values, second.values, bound)), numbers, strict=True
        ):
            assert radius.is_finite()
            assert abs(arb(number) - x) <= radius
            # mpmath rounds each of its operations to 256 bits.
            assert abs(arb(y) - x) <= radius * arb(2) ** -128


@pytest.mark.parametrize("wrong", [1 + 1e-13, -1.0])
def test_a_number_beyond_its_roundings_is_told(wrong: float) -> None:
    x = np.array([0.5, 1.5])
    program = made(jnp.sin, jnp.asarray(x)).forward
    assert program is not None
    explained(program, [x], [np.sin(x)])
    with pytest.raises(AssertionError):
        explained(program, [x], [np.sin(x) * wrong])


def test_a_wrong_custom_rule_stays_wrong() -> None:
    backward = made(clipped, jnp.zeros(1)).backward
    assert backward is not None
    (bar,) = backward(BALLS.array(np.zeros(1)), BALLS.array(np.ones(1)))
    np.testing.assert_array_equal(floats(bar), [0.5])  # clipped, where the derivative is 1


def test_a_program_is_made_once() -> None:
    known: dict[str, Any] = {}
    fn, (x,) = CASES["cond"]
    first, second = (shadow(fn, [y], framework="jax", known=known).forward for y in (x, -x))
    assert first is second is not None
    for y in (x, -x):
        explained(first, [np.asarray(y)], [fn(y)])


def test_what_has_no_exact_form_is_named() -> None:
    program = made(lambda x: jnp.linalg.eigh(x)[0], normal(3, 3))
    assert program.forward is None
    assert any("eigh" in u for u in program.unknown), program.unknown


def test_the_dot_product_of_two_vectors_has_an_exact_form() -> None:
    x = jnp.array([0.5, -2.0, 3.0])
    program = shadow(lambda x: jnp.dot(jnp.tanh(x), x), [x], framework="jax")
    assert program.forward is not None
    (value,) = program.forward(BALLS.array(np.asarray(x, dtype=np.float64)))
    assert value.shape == ()


# --- VJPs that are run again ---------------------------------------------------------------------


def pulled(fn: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def vjp(x: Any, v: Any) -> Any:
        calls[0] += 1
        return jax.vjp(fn, x)[1](v)

    return vjp


def test_a_vjp_is_staged_once_and_gives_the_same_bits() -> None:
    calls, known = [0], dict[Any, Any]()
    vjp = pulled(lambda x: jnp.tanh(x @ x.T).sum(), calls)
    replayed = framework("jax").replayed
    for seed in range(4):
        x, v = normal(3, 3, seed=seed), normal(seed=9)
        again, fresh = (
            replayed(vjp, known, "f", x, v),
            jax.vjp(lambda x: jnp.tanh(x @ x.T).sum(), x)[1](v),
        )
        assert again[0].tobytes() == fresh[0].tobytes()
    assert calls == [2]  # called, and staged


def test_a_vjp_that_branches_on_a_value_is_called() -> None:
    calls, known = [0], dict[Any, Any]()
    vjp = pulled(lambda x: x**2 if x > 0 else -x, calls)
    found = [
        framework("jax").replayed(vjp, known, "f", jnp.asarray(x), jnp.ones(()))
        for x in (1.0, -1.0, 2.0)
    ]
    assert [float(f[0]) for f in found] == [2.0, -1.0, 4.0]


def test_a_vjp_that_a_compiled_part_rounds_otherwise_is_called(monkeypatch: Any) -> None:
    calls, known = [0], dict[Any, Any]()
    vjp = pulled(jnp.sin, calls)
    module = framework("jax")
    monkeypatch.setattr(
        module, "staged", lambda _: lambda x, v: [jnp.nextafter(v * jnp.cos(x), 9.0)]
    )
    for _ in range(3):
        (found,) = module.replayed(vjp, known, "f", jnp.ones(()), jnp.ones(()))
        assert float(found) == float(jnp.cos(1.0))


@jax.custom_vjp
def without_forward_mode(x: Any) -> Any:
    return jnp.sin(x)


without_forward_mode.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def test_forward_mode_that_is_refused_is_not_tried_everywhere(monkeypatch: Any) -> None:
    tried = [0]
    jvp = jax.jvp

    def counted(*args: Any) -> Any:
        tried[0] += 1
        return jvp(*args)

    monkeypatch.setattr(jax, "jvp", counted)
    report = gradcheck(without_forward_mode, arrays("float64", 2, framework="jax"), max_examples=40)
    assert report.ok
    assert "forward" in report.skipped
    assert 3 <= tried[0] < report.points // 2


def test_numpys_float64_is_a_cotangent_of_whatever_dtype_the_result_has() -> None:
    x = jnp.ones(2, dtype="float32")
    with jax.enable_x64(True):
        pull = framework("jax").pullback(jnp.tanh, (x,), [True], [True])
        (gradient,) = pull([np.ones(2)])
    assert gradient.dtype == np.float32
