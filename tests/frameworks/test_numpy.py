"""Shadows of NumPy programs, and the running bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffverify import gradcheck, reference
from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import arb
from ffverify.frameworks.shadow import Shadow
from ffverify.strategies import arrays
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from tests.bounds import running_bound

F64 = formats.of("float64")
RNG = np.random.default_rng(0)


def precise(args: list[Any], arithmetic: Any = BALLS) -> list[Any]:
    return [arithmetic.array(a) if a.dtype.kind == "f" else a for a in args]


def floats(x: Any) -> Any:
    return np.vectorize(float, otypes=[float])(x.values) if isinstance(x, PreciseArray) else x


def made(fn: Callable[..., Any], *args: Any, **options: Any) -> Shadow:
    return Shadow(fn, list(args), framework="numpy", **options)


UNITS = str.split("""relu leaky_relu elu selu gelu gelu_tanh silu mish softplus softsign tanhshrink hard_swish
    hard_sigmoid hard_tanh sigmoid tanh log_sigmoid erf erfc softmax log_softmax logsumexp relu6""")


@pytest.mark.parametrize("arithmetic", [BALLS, MPMATH], ids=["Arb", "mpmath"])
@pytest.mark.parametrize("name", UNITS)
def test_the_engines_units_are_the_textbooks(name: str, arithmetic: Any) -> None:
    x = RNG.normal(size=6) * 3
    program = made(getattr(reference, name), x)
    assert program.forward is not None, program.unknown
    with arithmetic.precision(128):
        (found,) = program.forward(arithmetic.array(x))
        exact = textbook.CATALOGUE[name].function(arithmetic.array(x))
        apart = np.abs(floats(found - exact))
    # Constants of the engine's own formulas, such as SELU's, are rounded as its results are.
    (bound,) = running_bound(program.forward, [x], F64)
    assert (apart <= bound).all()


@pytest.mark.parametrize("name", UNITS)
def test_backward_and_jvp_are_the_derivative_of_forward(name: str) -> None:
    x = RNG.normal(size=5) * 3
    program = made(getattr(reference, name), x)
    assert program.forward is not None
    assert program.backward is not None
    assert program.jvp is not None
    forward = program.forward
    t = RNG.normal(size=5)
    exact = truth.directional(lambda *a: forward(*a)[0], [x], [t], F64)
    with BALLS.precision(128):
        (tangent,) = program.jvp(*precise([x, t]))
        apart = [
            (e - f).abs_lower()
            for e, f in zip(exact.exact.ravel(), tangent.values.ravel(), strict=True)
        ]
    (bound,) = running_bound(program.jvp, [x, t], F64)
    assert (np.array(apart, dtype=object) <= bound.ravel()).all()
    with BALLS.precision(128):
        v = np.ones(tangent.shape)
        (bar,) = program.backward(*precise([x, v]))
        left, right = np.sum(bar * BALLS.array(t)), np.sum(tangent * v)
        assert abs(left - right).values[()] < 1e-15 * (1 + abs(right).values[()])


def test_plain_numpy_code_with_labels_and_parameters() -> None:
    x, W, b = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 5)), RNG.normal(size=5)
    labels = np.array([0, 4, 2])

    def loss(x: Any, W: Any, b: Any, labels: Any) -> Any:
        z = np.tanh(x @ W) + b
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(3), labels])

    program = made(loss, x, W, b, labels)
    assert program.forward is not None, program.unknown
    assert program.backward is not None, program.unknown
    with BALLS.precision(128):
        (value,) = program.forward(*precise([x, W, b]), labels)
        bars = program.backward(*precise([x, W, b]), labels, BALLS.array(np.ones(())))
    assert [p.shape for p in bars] == [(3, 4), (4, 5), (5,)]
    exact = truth.value(loss, [x, W, b, labels], F64)
    assert value.values[()].overlaps(exact.exact[()])
    for k, bar in enumerate(bars):
        of_loss = truth.gradient(loss, [x, W, b, labels], np.ones(()), k, F64)
        meet = np.frompyfunc(lambda a, b: a.overlaps(b), 2, 1)
        assert of_loss.resolved.all()
        assert meet(bar.values, of_loss.exact).all()


def test_branches_of_plain_code_are_decided_at_every_point() -> None:
    def branching(x: Any) -> Any:
        return 2 * x if np.sum(x) > 0 else x**2

    program = made(branching, np.ones(2))
    assert program.forward is not None
    np.testing.assert_array_equal(floats(program.forward(BALLS.array(-np.ones(2)))[0]), [1, 1])


def test_a_program_is_made_once_unless_its_branches_fix_it_at_a_point() -> None:
    def fixed(x: Any) -> Any:  # code of the engine's own, which precise arrays cannot run
        return reference.gelu(x) if np.sum(x) > 0 else reference.relu(x)

    def value(program: Any, x: Any) -> Any:
        return floats(program(BALLS.array(x))[0])

    points = [np.ones(2), 2 * np.ones(2), -np.ones(2)]
    for fn, alike in (
        (np.tanh, True),
        (lambda x: x if np.sum(x) > 0 else x**2, True),
        (fixed, False),
    ):
        known: dict[str, Any] = {}
        programs = [made(fn, x, known=known).forward for x in points]
        assert (len(set(programs)) == 1) is alike
        for program, x in zip(programs, points, strict=True):
            np.testing.assert_allclose(value(program, x), fn(x), rtol=1e-15)


def test_code_that_assigns_runs_on_precise_arrays() -> None:
    def assigning(x: Any) -> Any:
        y = np.zeros_like(x)
        y[1:] = x[:-1] * 2
        return y

    program = made(
        assigning, np.arange(3.0), vjp=lambda g, x: (np.concatenate([2 * g[1:], 0 * g[:1]]),)
    )
    assert program.forward is not None
    assert program.backward is not None
    np.testing.assert_array_equal(
        floats(program.forward(BALLS.array(np.arange(3.0)))[0]), [0, 0, 2]
    )
    (bar,) = program.backward(*precise([np.arange(3.0), np.ones(3)]))
    np.testing.assert_array_equal(floats(bar), [2, 2, 0])


WEIGHTS = np.array([1.0, -2.0, 3.0, 0.5])
KNOTS = np.array([-1.0, 0.0, 1.5])
BY_ORDER: dict[str, Callable[[Any], Any]] = {
    "interp": lambda x: np.interp(x, KNOTS, WEIGHTS[:3]),
    "interp between its own": lambda x: np.interp(WEIGHTS, np.cumsum(np.exp(x)), x),
    "partition": lambda x: np.partition(x, 1) * WEIGHTS,
    "partition of columns": lambda x: np.partition(x.reshape(2, 2), 1, axis=0) * WEIGHTS[:2],
    "argpartition": lambda x: x[np.argpartition(x, 2)] ** 2 * WEIGHTS,
}


@pytest.mark.parametrize("name", BY_ORDER)
def test_places_among_others_have_an_exact_form(name: str) -> None:
    fn, given = BY_ORDER[name], arrays("float64", (4,), min_value=-3, max_value=3)
    report = gradcheck(fn, given, max_examples=50)
    assert report.truth == "shadow"

    def vjp(g: Any, x: Any) -> Any:  # right where numbers rise
        bar = reference.vjp(fn, x)[1](g)[0]
        return bar * (1 + 1e-6 * (x[0] > x[1]))

    with pytest.raises(AssertionError, match="wrong"):
        gradcheck(fn, given, vjp=vjp, max_examples=50)


def test_a_callers_wrong_vjp_is_wrong_in_exact_arithmetic_too() -> None:
    program = made(np.tanh, RNG.normal(size=3), vjp=lambda g, x: (g * (1 + np.tanh(x) ** 2),))
    assert program.backward is not None
    x = np.array([0.5, 1.0, -2.0])
    (bar,) = program.backward(*precise([x, np.ones(3)]))
    assert np.all(abs(floats(bar) - (1 - np.tanh(x) ** 2)) > 0.1)


def test_an_unknown_operation_is_named() -> None:
    program = made(lambda x: np.linalg.svd(x)[1], np.eye(2))
    assert program.forward is None
    assert any("svd" in u for u in program.unknown)


def test_what_is_not_used_needs_no_exact_form() -> None:
    right, b = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]]), np.array([1.0, -1.0, 0.5])

    def solved(a: Any) -> Any:
        return np.linalg.lstsq(a, b, rcond=None)[0]  # beside its singular values

    def pulled(g: Any, a: Any, factor: float = 1.0) -> Any:
        inverse = np.linalg.pinv(a)
        x, y = inverse @ b, inverse.T @ g
        return np.outer(b - a @ x, inverse @ y) - factor * np.outer(y, x)

    report = gradcheck(solved, right, vjp=pulled)
    assert report.truth == "shadow"
    with pytest.raises(AssertionError, match="wrong"):
        gradcheck(solved, right, vjp=lambda g, a: pulled(g, a, 1 + 1e-9))


# --- the running bound --------------------------------------------------------------------------

ELEMENTWISE = sorted(
    n for n, d in textbook.CATALOGUE.items() if d.core == (0,) and n not in ("erf", "erfc", "gelu")
)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_numpy_computes_is_within_the_running_bound(name: str, dtype: str) -> None:
    definition, fmt = textbook.CATALOGUE[name], formats.of(dtype)
    low = definition.domain[0]
    x = np.random.default_rng(1).normal(size=400) * 3
    x = (x if low == -np.inf else low + abs(x) + 1e-3).astype(dtype)
    with np.errstate(all="ignore"):
        computed = definition.function(x).astype(np.float64)
    (bound,) = running_bound(definition.function, [x], fmt)
    with BALLS.precision(256):
        exact = definition.function(BALLS.array(x)).values
        for c, t, b in zip(computed.tolist(), exact, bound, strict=True):
            assert not np.isfinite(c) or not b.is_finite() or abs(t - c) <= b


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_bound_is_not_much_more_than_the_roundings(dtype: str) -> None:
    # One library call of eight units of roundoff, and 0 where nothing is rounded.
    fmt = formats.of(dtype)
    x = np.array([0.5, 1.0, 3.0], dtype=dtype)
    (bound,) = running_bound(np.exp, [x], fmt)
    with BALLS.precision(100):
        for b, t in zip(bound, np.exp(BALLS.array(x)).values, strict=True):
            assert b < 8.01 * fmt.unit_roundoff * t
    (nothing,) = running_bound(lambda x: np.maximum(2 * x, 0)[::-1], [x], fmt)
    assert all(b.is_zero() for b in nothing)


def test_cancellation_is_in_the_bound_and_a_wrong_formula_is_not() -> None:
    x = np.array([1e-9, 1e-5])

    def loses_digits(x: Any) -> Any:
        return np.log(1 + x)

    (bound,) = running_bound(loses_digits, [x], F64)
    with BALLS.precision(200):
        exact = np.log1p(BALLS.array(x)).values
        assert all(
            abs(t - c) <= b for t, c, b in zip(exact, np.log(1 + x).tolist(), bound, strict=True)
        )
        assert all(b < 1e-15 for b in bound)
        # Ten digits are lost at 1e-9; a formula that is off by one part in 10^5 is still told.
        assert all(1e-5 * abs(t) > b for t, b in zip(exact, bound, strict=True))


def test_sums_are_bounded_in_any_order() -> None:
    x = np.array([1e16, 1.0, -1e16])
    (bound,) = running_bound(np.sum, [x], F64)
    with BALLS.precision(200):
        for order in ([0, 1, 2], [0, 2, 1], [1, 2, 0]):
            assert abs(arb(float(np.sum(x[order]))) - 1) <= bound[()]


def test_a_branch_within_the_roundings_has_no_bound() -> None:
    def branch(x: Any) -> Any:
        return np.where(x / 3 * 3 > x, x, 0)

    (bound,) = running_bound(branch, [np.array([0.1])], F64)
    assert not bound[0].is_finite()


@pytest.mark.parametrize("name", ["relu", "reshape", "scatter"])
def test_what_a_caller_calls_by_the_name_of_a_primitive_is_not_taken_for_it(name):
    def function(x):  # a leaky relu
        return np.maximum(x, 0) + np.minimum(x, 0) / 8

    function.__name__ = name
    leaky = reference.custom_rule(
        function, vjp=lambda y_bar, _y, x: (y_bar * np.where(x > 0, 1, 1 / 8),)
    )
    report = gradcheck(
        lambda x: np.sum(leaky(x) ** 2), np.array([-2.0, 3.0]), raise_exception=False
    )
    assert report.ok
    assert report.truth == "shadow"
