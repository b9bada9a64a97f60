"""Code that writes into arrays, as NumPy code does: through names, views, helpers, parts, elements."""

import copy

import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.reference import (
    compile,  # noqa: A004  # the engine's name
    grad,
    hessian,
    jvp,
    linearize,
    value_and_grad,
    vjp,
)

X = np.array([1.0, 2.0, -4.0])


def add_bias(v):
    v += 1.0


def through_a_helper(x):
    v = x * 2
    add_bias(v)
    return np.sum(v**2)


def through_another_name(x):
    v = x * 2
    w = v
    w *= x
    return np.sum(v * w)


def through_a_view(x):
    v = np.concatenate([x, x]).reshape(2, 3)
    v[0] += x
    v.T[1] *= 3.0
    v[:, ::-1][1, 0] -= 1.0
    return np.sum(v**3)


def from_a_view_to_others(x):
    v = x * 1.0
    first, whole = v[:2], v.reshape(3, 1)
    v += 1.0
    first *= 2.0
    return np.sum(first * 5.0) + np.sum(whole**2)


def over_parts(x):
    v = np.stack([x, x**2])
    for row in v:
        row += x  # noqa: PLW2901  # it writes into v
    for i in range(3):
        v[1, i] = v[0, i] * v[1, i]
    return np.sum(v**2)


def by_arrays_and_masks(x):
    v = x * 1.0
    v[[0, 0]] = x[1:] * 3.0  # the last of the two stays
    v[np.array([False, True, False])] = 7.0
    return np.sum(v * x)


def a_copy_is_its_own(x):
    v = x * 2.0
    kept, deep, flat = v.copy(), copy.deepcopy(v), v.flatten()
    v += 100.0
    return np.sum(kept * deep * flat)


def a_number_is_not_an_array(x):
    total = np.sum(x)
    before = total
    total += x[0] ** 2
    return before * total


def an_array_that_is_used_again(x):
    work, total = np.zeros(3), 0.0
    for i in range(3):
        work[:] = 0
        work[i] = i + 1.0
        total = total + np.sum(x**2 * work)
    return total


def broadcast_into(x):
    v = np.outer(x, x)
    v[0] = x[:1]
    v[1:, 1:] = x[1:].reshape(1, 1, 2)
    v -= x
    return np.sum(v**2)


def into_an_array_like_its_argument(x):
    out, total = np.zeros_like(x), np.full_like(x, 2.0)
    for i in range(3):
        out[i] = x[i] ** 2 + out[i - 1]
        total += out
    return np.sum(out * total) + np.sum(np.ones_like(x) * np.zeros_like(x, dtype=int))


FUNCTIONS = [
    through_a_helper, through_another_name, through_a_view, from_a_view_to_others, over_parts,
    by_arrays_and_masks, a_copy_is_its_own, a_number_is_not_an_array, an_array_that_is_used_again,
    broadcast_into, into_an_array_like_its_argument,
]  # fmt: skip


def difference(f, x):
    """The gradient of a polynomial of degree <= 9 by central differences in longdouble.

    With five points at step 2^-12 the truncation is h⁴/30 of the fifth derivative, some 10^4 times the
    function's size here: below 1e-12 of it; rounding is 2^-64 of it over the step, 2^-52.
    """
    step, columns = np.longdouble(2.0**-12), []
    for i in range(x.size):
        unit = np.zeros(x.size, np.longdouble)
        unit[i] = step
        wide = x.astype(np.longdouble)
        near = f(wide + unit) - f(wide - unit)
        far = f(wide + 2 * unit) - f(wide - 2 * unit)
        columns.append((8 * near - far) / (12 * step))
    return np.array(columns, float)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_written_is_differentiated(f):
    before = X.copy()
    value, gradient = value_and_grad(f)(X)
    true = difference(f, X)
    size = np.abs(true).max() + abs(value)
    assert value == f(X.copy())
    np.testing.assert_allclose(gradient, true, rtol=0, atol=1e-11 * size)
    _, slope = jvp(f, (X,), (np.ones(3),))
    np.testing.assert_allclose(slope, true.sum(), rtol=0, atol=4e-11 * size)
    np.testing.assert_allclose(linearize(f, X)[1](np.ones(3)), slope, rtol=1e-14, atol=1e-14 * size)
    h = hessian(f)(X)
    np.testing.assert_allclose(h, h.T, rtol=1e-13, atol=1e-13 * size)
    second = difference(lambda x: grad(f)(x) @ np.array([1, 2, 3]), X)
    np.testing.assert_allclose(h @ [1, 2, 3], second, rtol=0, atol=1e-9 * np.abs(h).max())
    np.testing.assert_array_equal(compile(value_and_grad(f))(X)[1], gradient)
    np.testing.assert_array_equal(X, before)


def test_a_lost_write_would_be_noticed(monkeypatch):
    """The planted bug: what is written into one name is not seen under the others."""
    monkeypatch.setattr("ffverify.reference.engine.var._refresh", lambda _var: None)
    with pytest.raises(AssertionError):
        test_what_is_written_is_differentiated(from_a_view_to_others)


def test_the_argument_of_a_derivative_is_not_written_into():
    def f(x):
        x *= x
        return np.sum(x)

    x = X.copy()
    np.testing.assert_array_equal(grad(f)(x), 2 * X)
    _, pullback = vjp(f, x)
    np.testing.assert_array_equal(pullback(1.0)[0], 2 * X)
    np.testing.assert_array_equal(x, X)
    with pytest.raises(TypeError, match="writes into its arguments"):
        compile(f)(x)
    np.testing.assert_array_equal(x, X)


def test_writing_into_a_value_of_an_enclosing_derivative():
    def outer(x):
        v = x * 2.0
        inner_value, pullback = vjp(lambda z: np.sum(z**2 * v), v)
        v += 100.0  # after the inner run, which must not see it
        return inner_value + np.sum(pullback(1.0)[0])

    # ∑ v³ + ∑ (2 v · v), both with v held in one place: d/dx of ∑ 8x³ + ∑ 8x²
    np.testing.assert_allclose(grad(outer)(X), 24 * X**2 + 16 * X)


def test_what_numpy_refuses_is_refused():
    def wider(x):
        x += np.ones((2, 3))
        return np.sum(x)

    def to_integers(x):
        v = np.array([1, 2, 3])
        v += x
        return np.sum(v)

    with pytest.raises(ValueError, match=r"shape \(2, 3\) to an array of shape \(3,\)"):
        grad(wider)(X)
    with pytest.raises(TypeError, match=r"write `a = a \+ b`"):
        grad(to_integers)(X)


@pytest.mark.parametrize("mode", [grad, lambda f: lambda x: jvp(f, (x,), (x,)), compile])
def test_a_plain_array_cannot_hold_a_traced_value(mode):
    def f(x):
        o = np.zeros(3)
        for i in range(3):
            o[i] = x[i] ** 2
        return np.sum(o)

    with pytest.raises(TypeError, match=r"np\.stack|np\.zeros_like\(x\)"):
        mode(f)(X)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradcheck_does_not_blame_what_is_right(f):
    report = gradcheck(f, X.copy(), order=2)
    assert report.truth == "shadow"
