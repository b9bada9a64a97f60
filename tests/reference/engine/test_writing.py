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


def into_arrays_made_like_it(x):
    out, e = np.zeros((2, 3), like=x), np.eye(3, like=x)
    own = x * 1.0
    copy_of, same = np.array(own, like=x), np.asarray(own, like=x)
    out[0] = x
    e[0, 1:] = x[1:] * np.full(2, 3.0, like=x)
    copy_of *= 5.0
    same *= x
    return np.sum((out @ e) ** 2) + np.sum(copy_of * own)


FUNCTIONS = [
    through_a_helper, through_another_name, through_a_view, from_a_view_to_others, over_parts,
    by_arrays_and_masks, a_copy_is_its_own, a_number_is_not_an_array, an_array_that_is_used_again,
    broadcast_into, into_an_array_like_its_argument, into_arrays_made_like_it,
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
    with pytest.raises(AssertionError):
        test_memory_is_shared_as_numpys_is("broadcast_to")


# Of a matrix v: views, which NumPy lets one write into or not, and what is no view though it looks like one.
ALIASES = {
    "rot90": np.rot90,
    "rot90 0": lambda v: np.rot90(v, 0),
    "rot90 2": lambda v: np.rot90(v, 2),
    "rot90 3": lambda v: np.rot90(v, 3, (1, 0)),
    "flip": np.flip,
    "diagonal": lambda v: np.diagonal(v, 1),
    "diag": np.diag,
    "linalg.diagonal": lambda v: np.linalg.diagonal(v.T),
    "broadcast_to": lambda v: np.broadcast_to(v, (2, 3, 3)),
    "sliding_window_view": lambda v: np.lib.stride_tricks.sliding_window_view(v.T, 2, axis=0),
    "broadcast_arrays": lambda v: np.broadcast_arrays(v, np.zeros((2, 3, 3)))[0],
    "broadcast alike": lambda v: np.broadcast_arrays(v, 1.0)[0],
    "einsum": lambda v: np.einsum("ij->ji", v),
    "einsum diagonal": lambda v: np.einsum("ii->i", v),
    "einsum diagonals": lambda v: np.einsum("jii->ij", np.broadcast_to(v, (2, 3, 3)).copy()),
    "einsum sum": lambda v: np.einsum("ij->j", v),
    "meshgrid": lambda v: np.meshgrid(v[0], v[1])[0],
    "meshgrid without copies": lambda v: np.meshgrid(v[0], v[1], copy=False, sparse=True)[1],
    "nan_to_num": np.nan_to_num,
    "nan_to_num in place": lambda v: np.nan_to_num(v, copy=False),
    "conj": lambda v: v.conj(),
    "conjugate": np.conjugate,
    "take": lambda v: np.take(v, 1, axis=0),
    "index": lambda v: v[1],
    "astype": lambda v: v.astype(v.dtype),
    "astype without a copy": lambda v: v.astype(v.dtype, copy=False),
    "reshape in columns": lambda v: v.T.reshape(9, order="F"),
    "ravel of columns": lambda v: v.T.ravel(),
    "flatten": lambda v: v.flatten(),
    "split": lambda v: np.hsplit(v, 3)[1],
    "squeeze": lambda v: np.squeeze(v[:, None]),
    "swapaxes": lambda v: v[None].swapaxes(0, 2),
    "atleast_3d": np.atleast_3d,
    "slices": lambda v: v[::-1, 1:].T,
    "chain": lambda v: np.rot90(v.T)[1:][:, None, ::-1],
    "triu": np.triu,
    "sum over no axes": lambda v: np.sum(v, axis=()),
    "prod over no axes": lambda v: np.prod(v, axis=()),
    "prod of one row": lambda v: np.prod(v[:1], axis=0),
    "cumprod of one row": lambda v: np.cumprod(v[:1], axis=0),
    "cumsum of one row": lambda v: np.cumsum(v[:1], axis=0),
    "median of one row": lambda v: np.median(v[:1], axis=0),
    "matrix_power 1": lambda v: np.linalg.matrix_power(v, 1),
    "array without a copy": lambda v: np.array(v, copy=False, like=v),
    "ravel of a column": lambda v: v[:, 1].ravel(),
    "ravel of a row": lambda v: v[1].ravel(),
    "reshape of a column": lambda v: v[:, 1].reshape(3, 1),
    "astype in the order it has": lambda v: v.astype(v.dtype, order="C", copy=False),
    "astype in another order": lambda v: v.astype(v.dtype, order="F", copy=False),
    "an array without axes": lambda v: v[..., 0, 1],
    "copy of a number": lambda v: np.copy(v[0, 1]),
    "asarray of a number": lambda v: np.asarray(v[0, 1], like=v[0]),
}
READ_ONLY = {
    "diagonal", "diag", "linalg.diagonal", "broadcast_to", "broadcast_arrays", "sliding_window_view",
}  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_memory_is_shared_as_numpys_is(name):
    def written(x):
        v = np.outer(x, x)
        w = ALIASES[name](v)
        v[...] = v * v[::-1] + 1.0
        v[0, 1] += x[2]
        if name not in READ_ONLY:
            w[...] = w * 0.5
            w *= x[0]
        return np.sum(v**2 * np.arange(9.0).reshape(3, 3)) + np.sum(w**2)

    test_what_is_written_is_differentiated(written)


@pytest.mark.parametrize("name", sorted(READ_ONLY - {"broadcast_arrays"}))  # of which NumPy warns
def test_what_numpy_makes_read_only_is_not_written_into(name):
    def f(x):
        ALIASES[name](np.outer(x, x))[..., 1:] *= 2.0
        return np.sum(x)

    for g in (f, grad(f)):
        with pytest.raises(ValueError, match="read-only"):
            g(X.copy())


@pytest.mark.parametrize("reverse", [1, -1])
@pytest.mark.parametrize("source_step", [1, 2, -1, -2])
@pytest.mark.parametrize("target_step", [1, 2, -1, 3])
def test_overlapping_parts_are_assigned_as_numpy_does_or_refused(target_step, source_step, reverse):
    """Of rows NumPy makes no copy first, and of steps that differ some elements get lost on the way."""
    x, kept = np.arange(9.0) ** 2, []
    for start in range(5):
        for n in (2, 3, 4):

            def f(x, start=start, n=n):
                y = (x * 1.0)[::reverse]
                target, source = y[2::target_step][:n], y[start::source_step][:n]
                if target.shape == source.shape:
                    target[...] = source
                return y

            y, as_if_copied = f(x), x[::reverse].copy()
            part = as_if_copied[2::target_step][:n]
            if part.shape == as_if_copied[start::source_step][:n].shape:
                part[...] = as_if_copied[start::source_step][:n].copy()
            kept.append(np.array_equal(y, as_if_copied))
            if kept[-1]:
                np.testing.assert_array_equal(vjp(f, x)[0], y)
            else:
                with pytest.raises(ValueError, match="assign a copy"):
                    vjp(f, x)
    alike = target_step == source_step or target_step * source_step < 0
    assert all(kept) or not alike
    assert (target_step, source_step) != (2, 1) or not all(kept)


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

    def to_a_number(x):
        total = np.sum(x)
        total[...] = x[0]
        return total

    with pytest.raises(TypeError, match="a number does not support item assignment"):
        grad(to_a_number)(X)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) to an array of shape \(3,\)"):
        grad(wider)(X)
    with pytest.raises(TypeError, match=r"write `a = a \+ b`"):
        grad(to_integers)(X)


@pytest.mark.parametrize("mode", [grad, lambda f: lambda x: jvp(f, (x,), (x,)), compile])
@pytest.mark.parametrize("part", [lambda o: o, lambda o: o.flat], ids=["the array", "flat"])
def test_a_plain_array_cannot_hold_a_traced_value(mode, part):
    def f(x):
        o = np.zeros(3)
        for i in range(3):
            part(o)[i] = x[i] ** 2
        return np.sum(o)

    with pytest.raises(TypeError, match=r"np\.stack|np\.zeros_like\(x\)"):
        mode(f)(X)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradcheck_does_not_blame_what_is_right(f):
    report = gradcheck(f, X.copy(), order=2)
    assert report.truth == "shadow"
