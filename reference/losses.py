"""Costs per example: the negative log-likelihoods of the output units (chapter 6.2), and distances.

y is data. None of them takes the mean over examples; ``np.mean`` does.
"""

from __future__ import annotations

from math import log as log_number
from math import pi, prod
from typing import Any

import numpy as np

from .activations import softplus
from .elementary import absolute, equal, log, square, where
from .linalg import log_abs_det, solve_matrix
from .primitive import general, linear, reshape
from .reductions import log_softmax, logsumexp, minus_max, softmax_along, sum_, sum_of_losers
from .shaping import take_along
from .var import Value, Var, dtype_of, innermost, shape_of

LOG_2PI = log_number(2 * pi)


def _data(y: Value, like: Value) -> Value:
    """Return integer or boolean data in the dtype of the prediction, which they must not widen."""
    if dtype_of(y).kind == "f":
        return y
    return y.astype(dtype_of(like)) if isinstance(y, Var) else np.asarray(y, dtype_of(like))


def squared_error(prediction: Value, y: Value) -> Value:
    """Return (prediction - y)², elementwise."""
    return square(prediction - _data(y, prediction))


def absolute_error(prediction: Value, y: Value) -> Value:
    """Return |prediction - y|, elementwise."""
    return absolute(prediction - _data(y, prediction))


def gaussian_nll(mean: Value, y: Value) -> Value:
    """-log N(y; mean, I) = ½‖y - mean‖² + (n/2) log 2π over the last axis: [..., n] to [...]."""
    n = shape_of(mean)[-1]
    return 0.5 * sum_(square(mean - _data(y, mean)), axis=-1) + 0.5 * n * LOG_2PI


def bernoulli_nll(z: Value, y: Value) -> Value:
    """-log σ((2y - 1) z) = ζ((1 - 2y) z), elementwise, for y in {0, 1} (section 6.2.2.2)."""
    return softplus((1.0 - 2.0 * _data(y, z)) * z)


def heteroscedastic_nll(mean: Value, precision: Value, y: Value) -> Value:
    """½ (β (y - μ)² - log β), elementwise, by the precision β > 0 (section 6.2.2.4)."""
    return 0.5 * (precision * square(mean - _data(y, mean)) - log(precision))


def covariance_nll(mean: Value, factor: Value, y: Value) -> Value:
    """Negative log-density of N(mean, B Bᵀ): mean, y [..., n], factor B [..., n, n] to [...]."""
    n = shape_of(mean)[-1]
    r = mean - _data(y, mean)
    white = solve_matrix(factor, reshape(r, shape=(*shape_of(r), 1)))
    return 0.5 * sum_(square(white), axis=(-2, -1)) + log_abs_det(factor) + 0.5 * n * LOG_2PI


def mixture_nll(logits: Value, means: Value, precisions: Value, y: Value) -> Value:
    """-log Σ_k π_k N(y; μ_k, I/β_k): logits, β [..., k], means [..., k, d], y [..., d] to [...].

    Equation 6.35, with log π = log_softmax(logits), all of it in the log domain.
    """
    d = shape_of(means)[-1]
    y = reshape(y, shape=(*shape_of(y)[:-1], 1, d))
    distance = sum_(square(means - _data(y, means)), axis=-1)
    log_density = 0.5 * (d * log(precisions) - precisions * distance - d * LOG_2PI)
    return -logsumexp(log_softmax(logits) + log_density)


# Softmax with its negative log-likelihood: fused, because p - onehot(y) cancels where it is best known.
def _labelled(v: Any, y: Any) -> tuple[Any, ...]:
    if len(shape_of(y)) == 1:
        return (np.arange(shape_of(y)[0]), y)
    return (*np.ogrid[tuple(slice(n) for n in shape_of(v)[:-1])], y)


def _error(p: Any, y: Any, out: Any = None) -> Any:
    g = np.array(p, order="C") if out is None else np.positive(p, out=out)
    flat, n = g.reshape(-1), g.shape[-1]
    place = np.arange(0, g.size, n) + y.reshape(-1)
    if n == 2:  # all others are the one beside it
        flat[place] = -flat[place ^ 1]
    else:
        flat[place] = 0
        flat[place] = -np.add.reduce(g, axis=-1).reshape(-1)
    return g


def _at_label(y: Value, like: Value) -> Value:
    return equal(reshape(y, shape=(*shape_of(y), 1)), np.arange(shape_of(like)[-1]))


# p - onehot(y) for probabilities p, where the label's p - 1 is minus the sum of all others.
softmax_error = linear(
    "softmax_error",
    _error,
    lambda g_bar, _g, _p, y: where(
        _at_label(y, g_bar),
        0.0,
        g_bar - take_along(g_bar, reshape(y, shape=(*shape_of(y), 1)), axis=-1),
    ),
    source="softmax_error({0}, {1}{out})",
)


def _softmax_nll(z: Any, y: Any) -> Any:
    d = minus_max(z, axis=len(z.shape) - 1)
    rest = sum_of_losers(np.exp(d), d, axis=len(z.shape) - 1)
    return np.log1p(rest.reshape(z.shape[:-1])) - d[_labelled(z, y)]


def _softmax_nll_map(z_dot: Value, _j: Value, z: Value, y: Value) -> Value:
    column = reshape(y, shape=(*shape_of(y), 1))
    relative = z_dot - take_along(z_dot, column, axis=len(shape_of(z)) - 1)
    return sum_(softmax_along(z, axis=len(shape_of(z)) - 1) * relative, axis=-1)


def _softmax_nll_transpose(j_bar: Value, _j: Value, z: Value, y: Value) -> Value:
    error = softmax_error(softmax_along(z, axis=len(shape_of(z)) - 1), y)
    return reshape(j_bar, shape=(*shape_of(j_bar), 1)) * error


softmax_nll_fused = general(
    "softmax_nll",
    _softmax_nll,
    (_softmax_nll_map, _softmax_nll_transpose),
    None,
    flops=lambda _j, z, _y: 13.0 * prod(shape_of(z)),
    inline=True,
)


def softmax_nll(z: Value, y: Value) -> Value:
    """-log softmax(z)_y: logits z [..., n], integer labels y [...] to [...] (equation 6.30).

    Raises
    ------
    TypeError, ValueError
        Where y is no array of integers from 0 to n-1 of z's shape without its last axis.
    """
    n = shape_of(z)[-1]
    labels = np.asarray(innermost(y))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"softmax_nll: labels of dtype {dtype_of(y)}: pass integers 0 to {n - 1}")
    if labels.shape != shape_of(z)[:-1]:
        raise ValueError(f"softmax_nll: labels {labels.shape} for logits {shape_of(z)}")
    if labels.size and labels.astype(np.uint64).max() >= n:  # a negative one becomes large
        raise ValueError(f"softmax_nll: labels {labels.min()} to {labels.max()} for {n} classes")
    return softmax_nll_fused(z, y if isinstance(y, Var) else labels)
