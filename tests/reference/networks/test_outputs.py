"""Output units against SciPy's densities, their moments against samples."""

import math

import numpy as np
import pytest
from scipy import special, stats

from ffverify.reference.engine.transforms import grad
from ffverify.reference.networks.network import MLP
from ffverify.reference.networks.outputs import (
    bernoulli,
    cost,
    full_covariance,
    gaussian,
    heteroscedastic,
    log_precision_penalty,
    mixture,
    multinoulli,
    weight_penalty,
)

RNG = np.random.default_rng(11)
N, K, ROWS = 3, 2, 5
Y = RNG.standard_normal((ROWS, N))
BITS = RNG.integers(0, 2, (ROWS, N))
LABELS = RNG.integers(0, N, ROWS)


def softplus(b):
    return np.logaddexp(0, b)


def density_gaussian(z, y):
    return stats.norm.logpdf(y, z).sum()


def density_bernoulli(z, y):
    return stats.bernoulli.logpmf(y, special.expit(z)).sum()


def density_multinoulli(z, y):
    return math.log(special.softmax(z)[y])


def density_heteroscedastic(z, y):
    return stats.norm.logpdf(y, z[:N], 1 / np.sqrt(softplus(z[N:]))).sum()


def density_full_covariance(z, y):
    B = z[N:].reshape(N, N)
    return stats.multivariate_normal.logpdf(y, z[:N], B @ B.T)


def density_mixture(z, y):
    weights, means, raw = special.softmax(z[:K]), z[K : K + K * N].reshape(K, N), z[K + K * N :]
    return math.log(
        sum(
            w * stats.multivariate_normal.pdf(y, m, np.eye(N) / b)
            for w, m, b in zip(weights, means, softplus(raw), strict=True)
        )
    )


UNITS = {
    "gaussian": (gaussian(N), density_gaussian, Y),
    "bernoulli": (bernoulli(N), density_bernoulli, BITS),
    "multinoulli": (multinoulli(N), density_multinoulli, LABELS),
    "heteroscedastic": (heteroscedastic(N), density_heteroscedastic, Y),
    "full_covariance": (full_covariance(N), density_full_covariance, Y),
    "mixture": (mixture(N, k=K), density_mixture, Y),
}
WIDTHS = {
    "gaussian": 3,
    "bernoulli": 3,
    "multinoulli": 3,
    "heteroscedastic": 6,
    "full_covariance": 12,
    "mixture": 2 + 6 + 2,
}


def outputs_of(name):
    z = np.random.default_rng(3).standard_normal((ROWS, UNITS[name][0].width))
    if name == "full_covariance":
        z[:, N:] += 3 * np.eye(N).ravel()  # well-conditioned, see check_loss
    return z


def check_loss(name, loss):
    """The loss is minus SciPy's log-density.

    At most 12 numbers of size below 40 are combined on either side, each rounded at most 30 times
    (a logarithm or exponential of a rounded argument counts for its argument's error too), and the
    factor B, whose condition number is below 10, is solved once: 12 · 40 · 30 · 10 · 2^-53 < 2e-11.
    """
    _, density, y = UNITS[name]
    z = outputs_of(name)
    expected = [-density(z_i, y_i) for z_i, y_i in zip(z, y, strict=True)]
    assert np.abs(loss(z, y) - expected).max() < 2e-11
    if name == "full_covariance":
        assert np.linalg.cond(z[:, N:].reshape(-1, N, N)).max() < 10


@pytest.mark.parametrize("name", UNITS)
def test_the_loss_is_minus_the_log_density(name):
    unit = UNITS[name][0]
    assert unit.width == WIDTHS[name]
    check_loss(name, unit.loss)


@pytest.mark.parametrize("name", UNITS)
def test_a_loss_without_its_constant_or_with_a_wrong_sign_is_rejected(name):
    unit = UNITS[name][0]
    for planted in (
        lambda z, y: unit.loss(z, y) - 0.5 * math.log(2 * math.pi),
        lambda z, y: unit.loss(-z, y),
    ):
        with pytest.raises(AssertionError):
            check_loss(name, planted)


def test_a_transposed_factor_is_rejected():
    unit = full_covariance(N)

    def transposed(z, y):
        B = z[:, N:].reshape(-1, N, N).swapaxes(1, 2).reshape(-1, N * N)
        return unit.loss(np.concatenate([z[:, :N], B], axis=1), y)

    with pytest.raises(AssertionError):
        check_loss("full_covariance", transposed)


def check_mean(name, mean):
    """The mean of 20,000 samples is within six standard errors, by their own deviation."""
    unit = UNITS[name][0]
    z = outputs_of(name)[0]
    samples = unit.sample(np.random.default_rng(1), np.tile(z, (20_000, 1)))
    if name == "multinoulli":
        samples = np.eye(N)[samples]
    error = samples.std(axis=0) / math.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - mean(z)) <= 6 * error)


@pytest.mark.parametrize("name", UNITS)
def test_samples_have_the_mean(name):
    check_mean(name, UNITS[name][0].mean)
    with pytest.raises(AssertionError):
        check_mean(name, lambda z: UNITS[name][0].mean(z) + 0.5)


def check_score(name, sample):
    """The slope of the loss in z averages to zero over samples from z's own distribution.

    An identity of every likelihood: ∫ ∇p = 0. Within six standard errors, by the slopes' deviation.
    """
    unit = UNITS[name][0]
    z = np.tile(outputs_of(name)[0], (20_000, 1))
    y = sample(np.random.default_rng(2), z)
    slopes = grad(lambda z: np.sum(unit.loss(z, y)))(z)
    error = slopes.std(axis=0) / math.sqrt(len(slopes))
    assert np.all(np.abs(slopes.mean(axis=0)) <= 6 * error)


@pytest.mark.parametrize("name", UNITS)
def test_samples_have_the_distribution_of_the_loss(name):
    unit = UNITS[name][0]
    check_score(name, unit.sample)
    with pytest.raises(AssertionError):  # the planted bug: samples of other parameters
        check_score(name, lambda generator, z: unit.sample(generator, 0.5 * z))


@pytest.mark.parametrize("name", UNITS)
def test_the_loss_of_a_network_is_differentiable(name):
    unit, _, y = UNITS[name]
    network = MLP((2, 4, unit.width), hidden="tanh")
    params = network.init(0)
    x = RNG.standard_normal((ROWS, 2))
    loss = cost(network, unit)
    slopes = grad(loss)(params, x, y)
    # One step down lowers the loss, by rate · ‖g‖² to first order.
    square = sum(np.sum(s**2) for layer in slopes for s in layer.values())
    rate = 1e-4 / square
    after = [
        {name: p - rate * s[name] for name, p in layer.items()}
        for layer, s in zip(params, slopes, strict=True)
    ]
    drop = loss(params, x, y) - loss(after, x, y)
    assert 0.9e-4 < drop < 1.1e-4  # the second-order term is rate times a curvature below 0.1


def test_the_distributions_are_named():
    z = outputs_of("mixture")
    omega = mixture(N, k=K).distribution(z)
    assert {name: value.shape for name, value in omega.items()} == {
        "logits": (ROWS, K),
        "means": (ROWS, K, N),
        "precisions": (ROWS, K),
    }
    assert np.array_equal(gaussian(N).distribution(Y)["mean"], Y)
    p = multinoulli(N).distribution(Y)["probabilities"]
    assert np.abs(p.sum(axis=1) - 1).max() <= 4 * 2.0**-53  # n roundings of terms that sum to 1
    assert np.array_equal(bernoulli(N).distribution(Y)["probability"], bernoulli(N).mean(Y))
    assert (heteroscedastic(N).distribution(outputs_of("heteroscedastic"))["precision"] > 0).all()
    assert full_covariance(N).distribution(outputs_of("full_covariance"))["factor"].shape == (
        5,
        3,
        3,
    )


def test_penalties():
    params = [{"W": np.array([[1.0, 2.0]]), "b": np.array([100.0])}, {"W": np.array([[3.0]])}]
    assert weight_penalty(params, strength=0.5) == 7.0
    slopes = grad(lambda p: weight_penalty(p, strength=0.5))(params)
    assert slopes[0]["W"].tolist() == [[1.0, 2.0]]
    assert slopes[0]["b"].tolist() == [0.0]
    assert log_precision_penalty(np.exp(np.array([2.0, 0.0])), strength=0.25) == 1.0
    loss = cost(
        lambda p, _x: p[0]["W"], gaussian(2), penalty=lambda p: weight_penalty(p, strength=0.5)
    )
    y = np.array([[1.0, 2.0]])
    assert loss(params, None, y) == gaussian(2).loss(y, y)[0] + 7.0


def test_a_penalty_gives_an_unbounded_loss_a_lowest_point():
    # At an interpolated point the loss of a learned precision β is -½ log β: no lower bound.
    loss = lambda log_beta, strength: (  # noqa: E731 - a formula
        -0.5 * log_beta + log_precision_penalty(np.exp(log_beta), strength=strength)
    )
    assert loss(400.0, 0.0) < loss(40.0, 0.0) < loss(4.0, 0.0)
    # With λ (log β)² added the lowest point is log β = 1 / (4 λ).
    assert loss(5.0, 0.05) < min(loss(4.9, 0.05), loss(5.1, 0.05))
