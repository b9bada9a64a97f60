"""Costs per example: the negative log-likelihoods of the output units (chapter 6.2), and distances.

y is data. None of them takes the mean over examples; ``np.mean`` does.
"""

from __future__ import annotations

from math import log as log_number
from math import pi, prod
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, constant, general, ones, reshape
from ffverify.reference.engine.var import Value, Var, dtype_of, shape_of

from .activations import softplus
from .elementary import absolute, log, square
from .linalg import log_abs_det, solve_matrix
from .reductions import exact_logsumexp, log_softmax, logsumexp, minus_max, sum_

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
# The logits are one row for each example, and the labels are given by `places`: where they are in the
# flattened logits.
def _places(y: Any, *, n: int) -> Any:
    rows = y.size
    try:
        return np.ravel_multi_index((np.arange(rows), y.reshape(-1)), (rows, n))
    except ValueError:
        raise ValueError(f"softmax_nll: labels {y.min()} to {y.max()} for {n} classes") from None


places = constant("places", _places, exact=_places)


def _replaced(x: Any, v: Any, place: Any, out: Any = None) -> Any:
    y = x.copy() if out is None else np.positive(x, out=out)
    y.put(place, v)
    return y


def _exact_replaced(x: Any, v: Any, place: Any) -> Any:
    at_place = np.zeros(x.shape, bool)
    at_place.reshape(-1)[place] = True
    row = np.cumsum(at_place.reshape(-1)).reshape(x.shape) - 1  # of the place last passed
    return np.where(at_place, v[row] if np.ndim(v) else v, x)


# x with v at the places; v is one number, or one for each place.
replaced: Primitive = general(
    "replaced",
    _replaced,
    (
        lambda x_dot, _y, _x, _v, place: replaced(x_dot, 0.0, place),
        lambda y_bar, _y, _x, _v, place: replaced(y_bar, 0.0, place),
    ),
    (
        lambda v_dot, _y, x, _v, place: replaced(np.zeros(shape_of(x)), v_dot, place),
        lambda y_bar, _y, _x, _v, place: y_bar.ravel()[place],
    ),
    None,
    flops=0,
    source="replaced({0}, {1}, {2}{out})",
    exact=_exact_replaced,
)


def _exact_softmax_nll(z: Any, place: Any) -> Any:
    cost = exact_logsumexp(z, axis=-1, keepdims=False)
    return cost - z.reshape(-1)[place].reshape(cost.shape)


def _softmax_nll(z: Value, place: Value) -> tuple[Value, tuple[Value, ...]]:
    """Return the costs, and for the rules: e^z and its sum without the labels, its sum; up to a factor."""
    d = minus_max(z, axis=1)
    e = np.exp(d)
    others = replaced(e, 0.0, place)
    rest = others.dot(ones(e.shape[1:], e.dtype.char))
    # log Σ e - d_y. Where the label wins, d_y = 0 and e_y = 1, and the sum of the others keeps its
    # digits; where it does not, the result is at least log 2, beside which a rounding of e_y is small.
    e_y, d_y = e.ravel()[place], d.ravel()[place]
    return np.log1p(rest + (e_y - 1.0)) - d_y, (others, rest, rest + e_y)


def _softmax_error(z: Value, place: Value, factor: Value, kept: Any) -> Value:
    """Return factor · (softmax(z) - onehot(y)); the label's p - 1 is minus the sum of all others."""
    others, rest, total = kept or _softmax_nll(z, place)[1]
    return (factor / total).reshape((len(place), 1)) * replaced(others, -rest, place)


def _softmax_nll_map(z_dot: Value, _j: Value, z: Value, place: Value, kept: Any = None) -> Value:
    return sum_(z_dot * _softmax_error(z, place, 1.0, kept), axis=1)


def _softmax_nll_transpose(
    j_bar: Value, _j: Value, z: Value, place: Value, kept: Any = None
) -> Value:
    return _softmax_error(z, place, j_bar, kept)


softmax_nll_fused = general(
    "softmax_nll",
    lambda z, place: _softmax_nll(z, place)[0],
    (_softmax_nll_map, _softmax_nll_transpose),
    None,
    flops=lambda _j, z, _place: 13.0 * prod(shape_of(z)),
    inline=True,
    remembering=_softmax_nll,
    exact=_exact_softmax_nll,
)


def softmax_nll(z: Value, y: Value) -> Value:
    """-log softmax(z)_y: logits z [..., n], integer labels y [...] to [...] (equation 6.30).

    Raises
    ------
    TypeError, ValueError
        Where y is no array of integers from 0 to n-1 of z's shape without its last axis.
    """
    shape = shape_of(z)
    n = shape[-1]
    labels = y if isinstance(y, Var) else np.asarray(y)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"softmax_nll: labels of dtype {labels.dtype}: pass integers 0 to {n - 1}")
    if labels.shape != shape[:-1]:
        raise ValueError(f"softmax_nll: labels {labels.shape} for logits {shape}")
    place = places(labels, n=n)
    if len(shape) == 2:
        return softmax_nll_fused(z, place)
    cost = softmax_nll_fused(reshape(z, shape=(prod(shape[:-1]), n)), place)
    return reshape(cost, shape=shape[:-1]) if len(shape) > 2 else cost[0]
