"""Costs per example: against densities written out, in every shape, with data of every dtype."""

import numpy as np
import pytest

from ffverify import reference as f

rng = np.random.default_rng(0)
U = 2.0**-53


def normal_nll(y, mean, covariance):
    r = np.asarray(y - mean, np.longdouble).astype(float)
    n = len(r)
    return 0.5 * (
        r @ np.linalg.solve(covariance, r)
        + np.linalg.slogdet(2 * np.pi * np.eye(n) @ covariance)[1]
    )


def close(found, true):
    # Sums of fewer than 50 terms of size 1 to 10, each with a few roundings.
    np.testing.assert_allclose(found, true, rtol=0, atol=200 * 10 * U)


def test_gaussian_is_half_the_squared_error_and_a_constant():
    mean, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    close(
        f.gaussian_nll(mean, y), [normal_nll(a, b, np.eye(3)) for a, b in zip(y, mean, strict=True)]
    )
    close(f.grad(lambda m: np.sum(f.gaussian_nll(m, y)))(mean), mean - y)


def test_covariance_by_a_factor():
    mean, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    factor = 0.3 * rng.normal(size=(5, 3, 3)) + 2 * np.eye(3)  # well-conditioned
    true = [normal_nll(a, b, B @ B.T) for a, b, B in zip(y, mean, factor, strict=True)]
    close(f.covariance_nll(mean, factor, y), true)


def test_mixture_is_the_log_of_a_sum_of_densities():
    logits, means = rng.normal(size=(5, 4)), rng.normal(size=(5, 4, 2))
    precisions, y = rng.uniform(0.5, 2, (5, 4)), rng.normal(size=(5, 2))
    density = (
        precisions
        / (2 * np.pi)
        * np.exp(-0.5 * precisions * np.sum((means - y[:, None]) ** 2, axis=-1))
    )
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    close(f.mixture_nll(logits, means, precisions, y), -np.log((weights * density).sum(axis=-1)))
    far = f.mixture_nll(logits, means + 1e4, precisions, y)
    assert np.isfinite(far).all()


def test_heteroscedastic():
    mean, y, precision = rng.normal(size=4), rng.normal(size=4), rng.uniform(0.5, 2, 4)
    true = [normal_nll(y[i : i + 1], mean[i : i + 1], np.eye(1) / precision[i]) for i in range(4)]
    close(f.heteroscedastic_nll(mean, precision, y) + 0.5 * np.log(2 * np.pi), true)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_softmax_nll_in_every_shape(shape):
    z = rng.normal(size=(*shape, 5))
    y = rng.integers(0, 5, shape)
    true = -np.take_along_axis(f.log_softmax(z), np.expand_dims(y, -1), -1)[..., 0]
    close(f.softmax_nll(z, y), true)
    g = f.grad(lambda z: np.sum(f.softmax_nll(z, y)))(z)
    close(g, f.softmax(z) - np.eye(5)[y])
    h = f.hvp(lambda z: np.sum(f.softmax_nll(z, y)), z, np.ones_like(z))
    close(h, np.zeros_like(z))  # the loss does not change along (1, ..., 1)


def test_softmax_nll_of_a_confident_right_answer_keeps_its_digits():
    for n in (2, 3):
        z = np.zeros(n)
        z[0] = 40.0
        value, g = f.value_and_grad(lambda z: f.softmax_nll(z, 0))(z)
        tail = 4.248354255291589e-18  # e^-40, and 1 - σ(40)
        assert value == pytest.approx((n - 1) * tail, rel=4 * U)
        assert g[0] == pytest.approx(-(n - 1) * tail, rel=4 * U)


@pytest.mark.parametrize(
    ("y", "error"),
    [([0.0], TypeError), ([2], ValueError), ([-1], ValueError), ([0, 1], ValueError)],
)
def test_wrong_labels_are_refused(y, error):
    with pytest.raises(error, match="softmax_nll: labels"):
        f.softmax_nll(np.zeros((1, 2)), np.array(y))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.bool_, np.int32])
def test_data_of_any_dtype_neither_widen_nor_wrap(kind):
    y = np.array([[0, 1, 1]]).astype(kind)  # two axes: NumPy 1 widens single numbers by itself
    z = np.array([[0.5, -1.0, 2.0]], np.float32)
    for loss in (f.squared_error, f.absolute_error, f.gaussian_nll, f.bernoulli_nll):
        value, pullback = f.vjp(lambda z, loss=loss: loss(z, y), z)
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, loss(z, y.astype(np.float32)))
        assert pullback(np.ones_like(value))[0].dtype == np.float32
    # In float64 the naive formula is exact beside float32: two calls of 4 ulps and a sum are left.
    wide = z.astype(np.float64)
    naive = np.log(1 + np.exp(-(2.0 * y - 1) * wide))
    np.testing.assert_allclose(f.bernoulli_nll(z, y), naive, rtol=2 * 9 * 2.0**-24)


def test_maxout_and_rbf():
    z = np.array([[1.0, 4.0, 2.0, 2.0, 0.0, -1.0]])
    np.testing.assert_array_equal(f.maxout(z, 2), [[4, 2, 0]])
    np.testing.assert_array_equal(f.maxout(z, 3), [[4, 2]])
    g = f.grad(lambda z: np.sum(f.maxout(z, 2)))(z)
    np.testing.assert_array_equal(g, [[0, 1, 0.5, 0.5, 1, 0]])
    with pytest.raises(ValueError, match="multiple of k = 4"):
        f.maxout(z, 4)
    x, W = rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
    true = np.exp(-np.sum((x[:, None] - W) ** 2, axis=-1) / 0.25)
    close(f.rbf(x, W, 0.5), true)
    close(f.rbf(x[0], W, 0.5), true[0])
    close(f.rbf(x, W, np.array([0.5, 1.0])), [true[0], true[1] ** 0.25])


@pytest.mark.parametrize("bad", [[0, 2], [-1, 0]])
def test_a_compiled_program_refuses_wrong_labels_too(bad):
    program = f.compile(f.grad(lambda z, y: np.sum(f.softmax_nll(z, y))))
    z = np.zeros((2, 2))
    program(z, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"labels -?\d to \d for 2 classes"):
        program(z, np.array(bad))
    np.testing.assert_array_equal(program(z, np.array([0, 1])), [[-0.5, 0.5], [0.5, -0.5]])


def remembering(factor):
    """x², whose forward run keeps its slope, times a factor that the rules do not know."""

    def rule(v, _y, x, kept=None):
        return v * (2.0 * x if kept is None else kept)

    return f.general(
        "b", lambda x: x * x, (rule, rule), remembering=lambda x: (x * x, factor * 2.0 * x)
    )


def test_what_the_forward_run_keeps_serves_the_rules_unless_it_must_be_traced():
    square = remembering(1.0)
    x = np.array(3.0)
    assert (
        f.grad(square)(x) == f.linearize(square, x)[1](1.0) == f.jvp(square, (x,), (1.0,))[1] == 6
    )
    assert f.grad(f.grad(square))(x) == f.hvp(square, x, 1.0) == 2
    assert f.compile(f.grad(square))(x) == 6
    assert f.trace(square, x).nodes[0].params == {}
    wrong = remembering(1.5)
    assert f.grad(wrong)(x) == 9
    with pytest.raises(TypeError, match="another result"):  # the rules that a trace sees give 6
        f.compile(f.grad(wrong))(x)


def test_the_kept_sums_of_the_softmax_are_those_that_its_rules_compute():
    z, y, v = rng.normal(size=(5, 3)), rng.integers(0, 3, 5), rng.normal(size=(5, 3))

    def cost(z):
        return f.softmax_nll(z, y)

    np.testing.assert_array_equal(f.linearize(cost, z)[1](v), f.jvp(cost, (z,), (v,))[1])
    mean = f.grad(lambda z: np.mean(cost(z)))
    np.testing.assert_array_equal(mean(z), f.trace(mean, z)(z))
