"""Output units: what distribution of y the network's last layer z stands for.

A network does not predict y but the parameters ω of a distribution p(y given x), and is trained by
maximum likelihood: its loss is -log p(y; ω). An `OutputUnit` says how many outputs z the network
needs, which ω they mean, what the loss is, and what mean and samples the distribution has:

    unit = mixture(1, k=2)                                     # two Gaussians for one number y
    network = MLP((3, 32, unit.width))
    loss = cost(network, unit)                                 # loss(params, X, Y), mean over rows

The losses are computed from z itself, never from the log of a rounded probability: this is what
keeps the gradient alive where the network is confidently wrong (section 6.2.2).

Shapes: z is [..., width], y is [..., n] (for `multinoulli` labels [...]), a loss is [...].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ffverify.reference.primitives.activations import sigmoid, softplus
from ffverify.reference.primitives.losses import (
    LOG_2PI,
    bernoulli_nll,
    covariance_nll,
    gaussian_nll,
    heteroscedastic_nll,
    mixture_nll,
    softmax_nll,
)
from ffverify.reference.primitives.reductions import softmax

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = "np.ndarray[Any, Any]"
Value: TypeAlias = Any  # an array, or a value under differentiation
Distribution: TypeAlias = "dict[str, Value]"  # ω by name


class OutputUnit(NamedTuple):
    """A family of distributions of y, and how the network's outputs z parametrise it.

    Attributes
    ----------
    width : how many outputs z the network must have
    distribution : ω, by name, from z
    loss : -log p(y; ω), one for each example, from (z, y)
    mean : the expectation of y, from z
    sample : one draw of y for each example, from (generator, z)
    """

    width: int
    distribution: Callable[[Value], Distribution]
    loss: Callable[[Value, Array], Value]
    mean: Callable[[Value], Value]
    sample: Callable[[np.random.Generator, Array], Array]


def gaussian(n: int) -> OutputUnit:
    """Make linear units, y ~ N(z, I): half the squared error, and a constant (6.2.2.1)."""
    return OutputUnit(
        width=n,
        distribution=lambda z: {"mean": z},
        loss=gaussian_nll,
        mean=lambda z: z,
        sample=lambda generator, z: z + generator.standard_normal(z.shape),
    )


def bernoulli(n: int = 1) -> OutputUnit:
    """Make sigmoid units: n independent y in {0, 1} with P(y = 1) = σ(z) (6.2.2.2)."""
    return OutputUnit(
        width=n,
        distribution=lambda z: {"probability": sigmoid(z)},
        loss=lambda z, y: np.sum(bernoulli_nll(z, y), axis=-1),
        mean=sigmoid,
        sample=lambda generator, z: (generator.random(z.shape) < sigmoid(z)).astype(int),
    )


def multinoulli(n: int) -> OutputUnit:
    """Make softmax units: y in {0, ..., n-1} with P(y = i) = softmax(z)_i (6.2.2.3).

    The mean is that of y's one-hot code: the probabilities [..., n].
    """
    return OutputUnit(
        width=n,
        distribution=lambda z: {"probabilities": softmax(z)},
        loss=softmax_nll,
        mean=softmax,
        # The largest of z + Gumbel noise is distributed as softmax(z) (Gumbel 1954).
        sample=lambda generator, z: np.argmax(z + generator.gumbel(size=z.shape), axis=-1),
    )


def heteroscedastic(n: int) -> OutputUnit:
    """Make y ~ N(μ, diag(β)⁻¹), with z = (μ, b) and precisions β = ζ(b) > 0 (6.2.2.4).

    In the precision the loss is made of products and a logarithm; no division by a variance.
    """

    def distribution(z: Value) -> Distribution:
        return {"mean": z[..., :n], "precision": softplus(z[..., n:])}

    def loss(z: Value, y: Array) -> Value:
        return np.sum(heteroscedastic_nll(**distribution(z), y=y), axis=-1) + 0.5 * n * LOG_2PI

    def sample(generator: np.random.Generator, z: Array) -> Array:
        mean, precision = distribution(z).values()
        y: Array = mean + generator.standard_normal(mean.shape) / np.sqrt(precision)
        return y

    return OutputUnit(2 * n, distribution, loss, lambda z: z[..., :n], sample)


def full_covariance(n: int) -> OutputUnit:
    """Make y ~ N(μ, B Bᵀ), with z = (μ, B): every square B gives a covariance (6.2.2.4).

    The loss is infinite where B is singular: then y lies in a plane and has no density.
    """

    def distribution(z: Value) -> Distribution:
        factor = np.reshape(z[..., n:], (*z.shape[:-1], n, n))
        return {"mean": z[..., :n], "factor": factor}

    def sample(generator: np.random.Generator, z: Array) -> Array:
        mean, factor = distribution(z).values()
        noise = generator.standard_normal(mean.shape)
        y: Array = mean + np.einsum("...ij,...j->...i", factor, noise)
        return y

    return OutputUnit(
        width=n + n * n,
        distribution=distribution,
        loss=lambda z, y: covariance_nll(**distribution(z), y=y),
        mean=lambda z: z[..., :n],
        sample=sample,
    )


def mixture(n: int, *, k: int) -> OutputUnit:
    """Make y ~ Σ_k softmax(a)_k N(μ_k, I / β_k), for targets with several modes (6.2.2.4).

    z = (a, μ, b) with k logits a, k means μ of n numbers each, and precisions β = ζ(b).
    """

    def distribution(z: Value) -> Distribution:
        return {
            "logits": z[..., :k],
            "means": np.reshape(z[..., k : k + k * n], (*z.shape[:-1], k, n)),
            "precisions": softplus(z[..., k + k * n :]),
        }

    def mean(z: Value) -> Value:
        logits, means, _ = distribution(z).values()
        return np.sum(softmax(logits)[..., None] * means, axis=-2)

    def sample(generator: np.random.Generator, z: Array) -> Array:
        logits, means, precisions = distribution(z).values()
        chosen = np.argmax(logits + generator.gumbel(size=logits.shape), axis=-1)[..., None]
        centre = np.take_along_axis(means, chosen[..., None], axis=-2)[..., 0, :]
        spread = 1 / np.sqrt(np.take_along_axis(precisions, chosen, axis=-1))
        y: Array = centre + spread * generator.standard_normal(centre.shape)
        return y

    return OutputUnit(
        width=k + k * n + k,
        distribution=distribution,
        loss=lambda z, y: mixture_nll(**distribution(z), y=y),
        mean=mean,
        sample=sample,
    )


def cost(
    network: Callable[[Any, Any], Value],
    unit: OutputUnit,
    *,
    penalty: Callable[[Any], Value] | None = None,
) -> Callable[[Any, Array, Array], Value]:
    """Return loss(params, X, Y): the mean of unit.loss over examples, plus penalty(params)."""

    def loss(params: Any, x: Array, y: Array) -> Value:
        mean = np.mean(unit.loss(network(params, x), y))
        return mean if penalty is None else mean + penalty(params)

    return loss


def weight_penalty(params: list[dict[str, Value]], *, strength: float) -> Value:
    """Return strength · Σ W² over the weights of all layers; biases are left free (6.1)."""
    return strength * sum(np.sum(layer["W"] ** 2) for layer in params)


def log_precision_penalty(precision: Value, *, strength: float) -> Value:
    """Return strength · Σ (log β)².

    Where a network passes through a target exactly, a learned precision lowers the loss without
    bound; this makes the lowest point finite (section 6.2.1).
    """
    return strength * np.sum(np.log(precision) ** 2)
