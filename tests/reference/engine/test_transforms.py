"""The transforms, and what engines get wrong: perturbation confusion, aliasing, zeros, kinks, state."""

import concurrent.futures
import dataclasses
import gc
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from ffverify.reference import (
    custom_rule,
    elementwise,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    linearize,
    primitives,
    softmax,
    trace,
    value_and_grad,
    vjp,
)

X = np.array([0.5, -1.0, 2.0])


def derivative(f):
    return lambda x: jvp(f, (x,), (1.0,))[1]


BOTH = pytest.mark.parametrize("outer", [grad, derivative], ids=["reverse", "forward"])
BOTH_INNER = pytest.mark.parametrize("inner", [grad, derivative], ids=["reverse", "forward"])


# Nesting ----------------------------------------------------------------------------------------
@BOTH
@BOTH_INNER
def test_perturbations_are_not_confused(outer, inner):
    # d/dx x (d/dy (x + y)) = d/dx x · 1 = 1; engines that confuse the two give 2.
    assert outer(lambda x: x * inner(lambda y: x + y)(2.0))(3.0) == 1.0
    # d/dx x d/dy (x y) = d/dx x² = 2 x
    assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0) == 6.0


@BOTH
@BOTH_INNER
def test_constant_inner_functions_have_derivative_zero(outer, inner):
    assert inner(lambda _y: 5.0)(1.0) == 0.0
    assert outer(lambda x: inner(lambda _y: x)(1.0))(3.0) == 0.0
    assert outer(lambda x: x * inner(lambda y: y * 0 + 2.0)(1.0))(3.0) == 0.0


def test_five_nested_derivatives_in_mixed_modes():
    f = np.sin
    for k, transform in enumerate([grad, derivative, grad, derivative, derivative], start=1):
        f = transform(f)
        true = [np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x)][k % 4](0.7)
        assert f(0.7) == pytest.approx(true, rel=1e-14 * 2**k)  # at most 2^k products of two terms


def test_a_pullback_can_be_used_again_and_differentiated():
    y, pullback = vjp(lambda x: x**3, 2.0)
    assert y == 8.0
    assert pullback(1.0) == (12.0,)
    assert pullback(1.0) == (12.0,)  # seeds and accumulators are not overwritten
    assert grad(lambda y_bar: pullback(y_bar)[0] * y_bar)(3.0) == 72.0


def test_an_exception_leaves_no_state_behind():
    def fails(x):
        raise KeyError(str(np.sum(x * x).shape))

    for transform in (grad(fails), jacobian(fails), lambda x: jvp(fails, (x,), (x,))):
        with pytest.raises(KeyError):
            transform(X)
    assert grad(lambda x: x * x)(3.0) == 6.0


def test_a_value_that_escapes_is_refused():
    kept = []
    grad(lambda x: kept.append(x) or x * 1.0)(1.0)
    with pytest.raises(TypeError, match="finished derivative"):
        kept[0] * 2.0
    with pytest.raises(TypeError, match="escaped"):
        grad(lambda x: (vjp(lambda y: kept.append(y) or y, x), kept[-1])[1])(1.0)


# Rules are applied once -----------------------------------------------------------------------------
def counting(calls):
    def slope(_y, x):
        calls.append(1)
        return np.cos(x)

    return elementwise("counted_sin", np.sin, slope)


def test_a_chain_of_diamonds_needs_one_application_for_each_node():
    calls = []
    f = counting(calls)

    def diamonds(x, n=40):  # 2^40 paths
        for _ in range(n):
            x = f(x)
            x = 0.5 * x + 0.5 * x
        return x

    grad(diamonds)(0.3)
    assert len(calls) == 40
    calls.clear()
    jvp(diamonds, (0.3,), (1.0,))
    assert len(calls) == 40


def test_a_node_is_complete_before_its_rule_is_applied():
    # y = s + s², s = sin x: a sweep that takes s before s² has arrived gives cos x alone.
    calls = []
    f = counting(calls)
    g = grad(lambda x: np.sum(np.stack([s := f(x), s * s])))(0.3)
    assert g == pytest.approx(np.cos(0.3) * (1 + 2 * np.sin(0.3)), rel=1e-15)
    assert len(calls) == 1


def test_constant_paths_are_skipped():
    calls = []
    f = counting(calls)
    grad(lambda x: x * f(2.0) + np.sign(f(x)))(1.0)
    assert not calls


def test_long_chains_run_and_are_freed_without_recursion():
    def chain(x):
        for _ in range(100_000):
            x = x * 1.0000001
        return x

    limit = sys.getrecursionlimit()
    assert grad(chain)(1.0) == pytest.approx(1.01005016, rel=1e-8)
    assert jvp(chain, (1.0,), (1.0,))[1] == pytest.approx(1.01005016, rel=1e-8)
    graph = trace(chain, 1.0)
    assert len(graph.nodes) == 100_000
    del graph
    gc.collect()
    assert sys.getrecursionlimit() == limit


def test_no_reference_cycles_keep_arrays_alive():
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(20):
            grad(lambda x: np.sum(np.exp(x) * x))(X)
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


# Trees, argnums, aux ---------------------------------------------------------------------------------
class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Layer:
    W: np.ndarray
    b: np.ndarray | None


def test_pytrees_of_every_kind():
    tree = {"z": [X, (X * 2, None)], "a": Layer(X * 3, None), "p": Pair(X * 4, 1.0)}

    def f(t):
        return np.sum(t["z"][0] * t["z"][1][0] + t["a"].W ** 2 * t["p"].a * t["p"].b)

    value, g = value_and_grad(f)(tree)
    assert value == pytest.approx(np.sum(2 * X**2 + 36 * X**3))
    np.testing.assert_allclose(g["z"][0], 2 * X)
    assert g["z"][1][1] is None
    assert isinstance(g["a"], Layer)
    assert g["a"].b is None
    np.testing.assert_allclose(g["a"].W, 24 * X**2)
    assert isinstance(g["p"], Pair)
    assert list(g) == list(tree)
    direction = {"p": Pair(X, 1.0), "z": [X, (X, None)], "a": Layer(X, None)}  # other key order
    y_dot = jvp(f, (tree,), (direction,))[1]
    by_hand = np.sum(g["z"][0] * X + g["z"][1][0] * X + g["a"].W * X + g["p"].a * X) + g["p"].b
    assert y_dot == pytest.approx(by_hand)


def test_argnums_and_aux():
    def f(a, b, c):
        return np.sum(a * b) * c, {"kept": a * 2}

    g, aux = grad(f, (1, -1), has_aux=True)(X, X * 2, 3.0)
    np.testing.assert_allclose(g[0], X * 3)
    assert g[1] == np.sum(2 * X * X)
    assert isinstance(aux["kept"], np.ndarray)
    (value, _), g = value_and_grad(f, has_aux=True)(X, X, 1.0)
    assert isinstance(value, float)
    with pytest.raises(ValueError, match="argnums=3"):
        grad(f, 3, has_aux=True)(X, X, 1.0)


def test_an_argument_that_is_not_differentiated_has_no_influence_on_the_gradient():
    f = lambda x, y: np.sum(x * np.sin(y))  # noqa: E731  # a formula
    np.testing.assert_array_equal(grad(f)(X, X), grad(f, (0, 1))(X, X)[0])


# Shapes ---------------------------------------------------------------------------------------------
def test_jacobian_modes_agree_and_have_the_shape_output_plus_input():
    W = np.arange(6.0).reshape(2, 3) / 5

    def f(x):
        return np.tanh(W @ x)

    expected = (1 - f(X) ** 2)[:, None] * W
    for mode in ("forward", "reverse", "cheaper"):
        np.testing.assert_allclose(jacobian(f, mode=mode)(X), expected, rtol=1e-14)
    tree = jacobian(lambda t: {"y": t[0] * t[1], "s": np.sum(t[0])})((X, 2.0))
    np.testing.assert_allclose(tree["y"][0], 2 * np.eye(3))
    np.testing.assert_allclose(tree["y"][1], X)
    assert tree["s"][0].shape == (3,)
    with pytest.raises(ValueError, match="mode='both'"):
        jacobian(f, mode="both")


def test_hessian_hvp_and_linearize():
    def f(x):
        return np.sum(np.exp(x) * x[::-1])

    h = hessian(f)(X)
    np.testing.assert_allclose(h, h.T, rtol=1e-15)
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(hvp(f, X, v), h @ v, rtol=1e-14)
    y, linear_map = linearize(f, X)
    assert y == f(X)
    for direction in (v, X):
        assert linear_map(direction) == pytest.approx(jvp(f, (X,), (direction,))[1], rel=1e-15)


def test_broadcasts_are_summed_and_axes_are_not_stale():
    a, b = np.ones((2, 1, 3)), np.ones((4, 1))
    ga, gb = grad(lambda a, b: np.sum(a * b * np.arange(3.0)), (0, 1))(a, b)
    assert ga.shape == a.shape
    assert gb.shape == b.shape
    np.testing.assert_array_equal(gb[:, 0], np.full(4, 6.0))

    def reductions(x):
        y = x - np.mean(x, axis=-1, keepdims=True)
        return np.sum(np.max(y, axis=0) * np.sum(y, axis=(0,)))

    x = np.array([[1.0, 5.0], [2.0, 3.0]])
    step = 1e-6 * np.eye(4).reshape(4, 2, 2)
    slopes = [(reductions(x + e) - reductions(x - e)) / 2e-6 for e in step]
    # piecewise quadratic: the difference is exact but for rounding, 1e-16 · 10 / 1e-6
    np.testing.assert_allclose(grad(reductions)(x).ravel(), slopes, atol=1e-8)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_arrays_without_elements(shape):
    x = np.zeros(shape)
    assert grad(lambda x: np.sum(np.exp(x) * x))(x).shape == shape
    assert jacobian(np.sin)(x).shape == shape + shape


def test_scalars_of_every_kind():
    for x in (2.0, np.float64(2.0), np.array(2.0)):
        assert grad(lambda x: x * x)(x) == 4.0
        assert jvp(np.exp, (x,), (0.0,))[1] == 0.0


def test_layout_and_ownership():
    base = np.arange(24.0).reshape(4, 6)
    strided = base[::2, ::3].T
    strided.setflags(write=False)
    before = base.copy()
    g = grad(lambda x: np.sum(x**2))(strided)
    np.testing.assert_array_equal(g, 2 * strided)
    np.testing.assert_array_equal(base, before)
    # Gradients are the caller's own: writing into one changes neither another nor the arguments.
    a, b = grad(lambda a, b: np.sum(a + b), (0, 1))(np.ones(3), np.ones(3))
    a += 1
    np.testing.assert_array_equal(b, np.ones(3))
    y_bar = np.ones(3)
    (x_bar,) = vjp(lambda x: x, X)[1](y_bar)
    x_bar += 1
    np.testing.assert_array_equal(y_bar, np.ones(3))
    x_dot = np.ones(3)
    y_dot = jvp(lambda x: x + 1, (X,), (x_dot,))[1]
    y_dot += 1
    np.testing.assert_array_equal(x_dot, np.ones(3))


def test_saved_values_are_not_changed_by_later_writes():
    x = X.copy()
    _, pullback = vjp(lambda x: np.sum(np.sin(x) * 1.0), x)
    _, linear_map = linearize(lambda x: np.sum(np.sin(x) * 1.0), x)
    x[:] = 0
    np.testing.assert_array_equal(pullback(1.0)[0], np.cos(X))
    assert linear_map(np.ones(3)) == np.sum(np.cos(X))


# Dtypes ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_dtypes_are_kept(dtype):
    x = X.astype(dtype)

    def f(x):
        return np.sum(softmax(np.tanh(x) * 2.0) ** 2 / 3)

    value, g = value_and_grad(f)(x)
    assert value.dtype == g.dtype == dtype
    assert jvp(f, (x,), (X,))[1].dtype == dtype
    assert hessian(f)(x).dtype == dtype
    mixed = grad(lambda x: np.sum(x * X))(x)
    assert mixed.dtype == dtype


@pytest.mark.parametrize(
    "name", [n for n, p in primitives().items() if p.slopes and len(p.slopes) == 1]
)
def test_every_elementwise_primitive_keeps_float32(name):
    p = primitives()[name]
    params = {"power_number": {"p": 3}, "clip": {"low": 0, "high": 1}}.get(name, {})
    x = np.array([1.25, 1.5], np.float32) if p.domain[0] > 0 else np.array([0.25, 0.5], np.float32)
    y, pullback = vjp(lambda x: p(x, **params), x)
    assert y.dtype == np.float32
    assert pullback(np.ones_like(x))[0].dtype == np.float32
    with_slope = p.slopes[0](y, x, **params) if callable(p.slopes[0]) else x
    assert np.result_type(with_slope, x) == np.float32  # no silent detour through float64


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (3, "int"),
        (np.array([1, 2]), "int64"),
        (True, "bool"),
        (1j, "complex"),
        (np.array([1j]), "complex"),
        ("x", "str"),
    ],
)
def test_what_has_no_derivative_is_refused(value, match):
    for transform in (
        lambda: grad(np.sum)(value),
        lambda: jvp(np.sum, (value,), (value,)),
        lambda: linearize(np.sum, value),
    ):
        with pytest.raises(TypeError, match=match):
            transform()


def test_results_must_be_real_scalars():
    with pytest.raises(TypeError, match=r"shape \(3,\)"):
        grad(lambda x: x * 2)(X)
    with pytest.raises(TypeError, match="result"):
        grad(lambda _x: 3)(X)
    with pytest.raises(ValueError, match="cotangent of shape"):
        vjp(np.sin, X)[1](np.ones(2))
    with pytest.raises(ValueError, match="tangent of shape"):
        jvp(np.sin, (X,), (np.ones(2),))


# Custom rules -------------------------------------------------------------------------------------------
def test_custom_rules_in_every_mode():
    def f(a, b):
        return np.asarray(a) ** 2 * b

    only_vjp = custom_rule(f, vjp=lambda y_bar, y, a, b: (y_bar * 2 * a * b, y_bar * a**2))
    only_jvp = custom_rule(f, jvp=lambda dots, y, a, b: dots[0] * 2 * a * b + dots[1] * a**2)
    wrong = custom_rule(f, vjp=lambda y_bar, y, a, b: (y_bar * 7.0, None))
    for g in (only_vjp, only_jvp):
        assert grad(g, (0, 1))(3.0, 2.0) == (12.0, 9.0)
        assert jvp(g, (3.0, 2.0), (1.0, 10.0))[1] == 102.0
        assert grad(grad(g))(3.0, 2.0) == 4.0
        assert grad(lambda a, g=g: g(a, a))(2.0) == 12.0
    assert grad(wrong, (0, 1))(3.0, 2.0) == (7.0, 0.0)  # the caller's rule is used, right or not
    with pytest.raises(ValueError, match="give vjp="):
        custom_rule(f)
    with pytest.raises(TypeError, match="2 arguments"):
        grad(custom_rule(f, vjp=lambda y_bar, y, a, b: (y_bar,)))(1.0, 1.0)


def test_symbol_to_number_and_symbol_to_symbol_give_the_same_bits():
    f = lambda x: np.sum(np.tanh(x) * np.exp(-x) + softmax(x) ** 2)  # noqa: E731  # a formula
    numbers = grad(f)(X)
    graph = trace(grad(f), X)
    np.testing.assert_array_equal(graph(X), numbers)
    _, pullback = vjp(grad(f), X)  # the same derivative, as a graph that is differentiated again
    np.testing.assert_allclose(pullback(np.ones(3))[0], hessian(f)(X).sum(axis=0), rtol=1e-13)


def test_gradients_in_several_threads_at_once():
    """Each thread has derivatives of its own, nested ones too, of functions and arrays they share."""
    shared = np.linspace(-1, 1, 50)

    def f(x, k):
        y = x * k
        y += shared
        return np.sum(np.sin(y) ** 2 * shared)

    def all_of(k):
        return (
            grad(f)(shared, k), hessian(f)(shared, k), jvp(grad(f), (shared, k), (shared, 1.0))[1],
            grad(lambda x: np.sum(grad(f)(x, k) * x))(shared),
        )  # fmt: skip

    ks = [0.5, 1.0, 2.0, 3.0]
    expected = [all_of(k) for k in ks]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(all_of, ks * 10))
    for i, results in enumerate(found):
        for result, right in zip(results, expected[i % len(ks)], strict=True):
            np.testing.assert_array_equal(result, right)
