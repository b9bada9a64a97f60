"""PyTorch's own implementations of the catalogue, under the catalogue's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributions
from torch.nn import functional as F


def _prelu(z: Any, alpha: Any) -> Any:
    z, alpha = torch.broadcast_tensors(z, alpha)  # torch has one weight per channel, axis 1
    return F.prelu(z.reshape(1, -1), alpha.reshape(-1)).reshape(z.shape)


def _maxout(z: Any, k: int) -> Any:
    return torch.amax(z.unflatten(-1, (-1, k)), dim=-1)


def _rbf(x: Any, W: Any, sigma: Any) -> Any:
    return torch.exp(-((W - x.unsqueeze(-2)) ** 2).sum(-1) / sigma.unsqueeze(-1) ** 2)


def _softmax_nll(z: Any, y: Any) -> Any:
    return F.cross_entropy(z.reshape(-1, z.shape[-1]), y.reshape(-1), reduction="none").reshape(
        y.shape
    )


def _bernoulli_nll(z: Any, y: Any) -> Any:
    return F.binary_cross_entropy_with_logits(z, y.to(z.dtype), reduction="none")


def _gaussian_nll(mean: Any, y: Any) -> Any:
    return -distributions.Independent(
        distributions.Normal(mean, torch.ones_like(mean)), 1
    ).log_prob(y)


def _heteroscedastic_nll(mean: Any, precision: Any, y: Any) -> Any:
    return F.gaussian_nll_loss(mean, y, 1 / precision, eps=0.0, reduction="none")


def _covariance_nll(mean: Any, factor: Any, y: Any) -> Any:
    return -distributions.MultivariateNormal(mean, factor @ factor.mT).log_prob(y)


def _mixture_nll(logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    deviation = (precisions**-0.5).unsqueeze(-1).expand_as(means)
    components = distributions.Independent(distributions.Normal(means, deviation), 1)
    return -distributions.MixtureSameFamily(
        distributions.Categorical(logits=logits), components
    ).log_prob(y)


def torch_functions() -> dict[str, Callable[..., Any]]:
    """Give the functions by name. Units that torch has no function for are written as users do."""
    return {
        "exp": torch.exp, "log": torch.log, "log1p": torch.log1p, "expm1": torch.expm1,
        "sqrt": torch.sqrt, "erf": torch.erf, "erfc": torch.erfc, "identity": torch.nn.Identity(),
        "absolute": torch.abs, "relu": F.relu, "relu6": F.relu6, "prelu": _prelu, "maxout": _maxout,
        "leaky_relu": lambda z, slope=0.01: F.leaky_relu(z, slope),
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus,
        "log_sigmoid": F.logsigmoid, "hard_tanh": F.hardtanh, "hard_sigmoid": F.hardsigmoid,
        "clipped_linear": lambda z: torch.clamp(z, 0, 1), "hard_swish": F.hardswish,
        "elu": F.elu, "selu": F.selu, "gelu": F.gelu,
        "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"), "silu": F.silu, "mish": F.mish,
        "softsign": F.softsign, "tanhshrink": F.tanhshrink, "rbf": _rbf,
        "affine": lambda x, W, b: F.linear(x, W.mT, b),
        "softmax": lambda z, axis=-1: F.softmax(z, dim=axis),
        "log_softmax": lambda z, axis=-1: F.log_softmax(z, dim=axis),
        "logsumexp": lambda z, axis=-1: torch.logsumexp(z, dim=axis),
        "squared_error": lambda p, y: F.mse_loss(p, y, reduction="none"),
        "absolute_error": lambda p, y: F.l1_loss(p, y, reduction="none"),
        "gaussian_nll": _gaussian_nll, "bernoulli_nll": _bernoulli_nll, "softmax_nll": _softmax_nll,
        "heteroscedastic_nll": _heteroscedastic_nll, "covariance_nll": _covariance_nll,
        "mixture_nll": _mixture_nll,
    }  # fmt: skip
