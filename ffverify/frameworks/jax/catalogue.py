"""JAX's own implementations of the catalogue, under the catalogue's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import nn
from jax.scipy import special, stats


def _softmax_nll(z: Any, y: Any) -> Any:
    return -jnp.take_along_axis(nn.log_softmax(z, axis=-1), y[..., None], axis=-1)[..., 0]


def _rbf(x: Any, W: Any, sigma: Any) -> Any:
    return jnp.exp(-((W - x[..., None, :]) ** 2).sum(-1) / sigma[..., None] ** 2)


def _covariance_nll(mean: Any, factor: Any, y: Any) -> Any:
    return jnp.negative(stats.multivariate_normal.logpdf(y, mean, factor @ factor.mT))


def _mixture_nll(logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    components = stats.norm.logpdf(y[..., None, :], means, precisions[..., None] ** -0.5).sum(-1)
    return -nn.logsumexp(nn.log_softmax(logits) + components, axis=-1)


def jax_functions() -> dict[str, Callable[..., Any]]:
    """Give the functions by name; JAX has no losses of its own but what its users compose."""
    return {
        "exp": jnp.exp, "log": jnp.log, "log1p": jnp.log1p, "expm1": jnp.expm1, "sqrt": jnp.sqrt,
        "erf": special.erf, "erfc": special.erfc, "identity": nn.identity, "absolute": jnp.abs,
        "relu": nn.relu, "relu6": nn.relu6, "sigmoid": nn.sigmoid,
        "leaky_relu": lambda z, slope=0.01: nn.leaky_relu(z, slope),
        "tanh": jnp.tanh, "softplus": nn.softplus, "log_sigmoid": nn.log_sigmoid,
        "hard_tanh": nn.hard_tanh, "hard_sigmoid": nn.hard_sigmoid, "hard_swish": nn.hard_swish,
        "clipped_linear": lambda z: jnp.clip(z, 0, 1), "elu": nn.elu, "selu": nn.selu,
        "gelu": lambda z: nn.gelu(z, approximate=False),
        "gelu_tanh": lambda z: nn.gelu(z, approximate=True), "silu": nn.silu, "mish": nn.mish,
        "softsign": nn.soft_sign, "tanhshrink": lambda z: z - jnp.tanh(z),
        "maxout": lambda z, k: jnp.max(z.reshape(*z.shape[:-1], -1, k), axis=-1),
        "prelu": lambda z, alpha: jnp.where(z > 0, z, alpha * z),
        "affine": lambda x, W, b: x @ W + b,
        "softmax": nn.softmax, "log_softmax": nn.log_softmax,
        "logsumexp": lambda z, axis=-1: nn.logsumexp(z, axis=axis),
        "bernoulli_nll": lambda z, y: jnp.logaddexp(0.0, jnp.where(y == 1, -z, z)),
        "softmax_nll": _softmax_nll, "rbf": _rbf, "covariance_nll": _covariance_nll,
        "gaussian_nll": lambda mean, y: -stats.norm.logpdf(y, mean).sum(-1),
        "heteroscedastic_nll": lambda mean, precision, y: (
            precision * (y - mean) ** 2 - jnp.log(precision)
        ) / 2,
        "mixture_nll": _mixture_nll,
        "squared_error": lambda p, y: (p - y) ** 2, "absolute_error": lambda p, y: jnp.abs(p - y),
    }  # fmt: skip
