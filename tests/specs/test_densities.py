"""The textbook's densities are those of SciPy, which shares nothing with them."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.conformance import proofs

stats = pytest.importorskip("scipy.stats")

# SciPy goes through an eigendecomposition: its relative error is some n·u times the condition
# number (below 10² for these factors), well under 10⁻¹².
CLOSE = {"rel": 1e-12, "abs": 0.0}


def _exact(program, *args):
    return float(proofs.balls(program, *args).values[()].mid())


@pytest.mark.parametrize("seed", range(5))
def test_covariance_nll_is_the_multivariate_normal_density(seed):
    random = np.random.default_rng(seed)
    mean, y = random.standard_normal((2, 3))
    factor = random.uniform(-1, 1, (3, 3)) + 3 * np.eye(3)
    density = stats.multivariate_normal(mean, factor @ factor.T)
    nll = _exact(lambda f, m, b, y: f.covariance_nll(m, b, y), mean, factor, y)
    assert nll == pytest.approx(-density.logpdf(y), **CLOSE)
    transposed = _exact(lambda f, m, b, y: f.covariance_nll(m, b, y), mean, factor.T, y)
    assert nll != pytest.approx(transposed, **CLOSE)  # so the comparison can fail


@pytest.mark.parametrize("seed", range(5))
def test_mixture_nll_is_the_density_of_a_mixture_of_normals(seed):
    random = np.random.default_rng(seed)
    logits, (y,) = random.standard_normal(3), random.standard_normal((1, 2))
    means, precisions = random.standard_normal((3, 2)), random.uniform(0.5, 2, 3)
    weights = np.exp(logits) / np.exp(logits).sum()
    densities = [
        stats.multivariate_normal(m, np.eye(2) / b).pdf(y)
        for m, b in zip(means, precisions, strict=True)
    ]
    nll = _exact(lambda f, a, m, b, y: f.mixture_nll(a, m, b, y), logits, means, precisions, y)
    assert nll == pytest.approx(-np.log(weights @ densities), **CLOSE)


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_nll_is_the_standard_normal_density(seed):
    mean, y = np.random.default_rng(seed).standard_normal((2, 4))
    nll = _exact(lambda f, m, y: f.gaussian_nll(m, y), mean, y)
    assert nll == pytest.approx(-stats.norm(mean).logpdf(y).sum(), **CLOSE)
