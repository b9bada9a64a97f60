"""Hidden units (chapter 6.3 and later ones), each with the slope it is usually given at its kinks."""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, Times, elementwise, reshape
from ffverify.reference.engine.var import Value, dtype_of, shape_of

from . import special
from .elementary import (
    absolute,
    clip,
    cosh,
    exp,
    expm1,
    greater,
    greater_equal,
    less_equal,
    square,
    where,
)
from .reductions import max_over, sum_

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def identity(z: Value) -> Value:
    """Return z: the linear unit."""
    return z


# Rectifiers ------------------------------------------------------------------------------------------
relu = elementwise(
    "relu",
    lambda z: np.maximum(z, 0),
    lambda _y, z: greater(z, 0),
    kinks={0.0: 0.0},
    choosing=True,
    exact=lambda z: np.maximum(z, 0),
)
prelu = elementwise(
    "prelu",
    lambda z, alpha: np.where(np.greater(z, 0), z, np.multiply(alpha, z)),
    lambda _y, z, alpha: where(greater(z, 0), 1.0, alpha),
    lambda _y, z, _alpha: where(greater(z, 0), 0.0, z),
    kinks="z = 0: slope alpha",
    exact=lambda z, alpha: np.where(z > 0, z, alpha * z),
)


def leaky_relu(z: Value, slope: Value = 0.01) -> Value:
    """Return max(0, z) + slope · min(0, z)."""
    return prelu(z, slope)


def relu6(z: Value) -> Value:
    """Return min(max(0, z), 6)."""
    return clip(z, low=0, high=6)


def hard_tanh(z: Value) -> Value:
    """Return max(-1, min(1, z)) (section 6.3.3)."""
    return clip(z, low=-1, high=1)


def clipped_linear(z: Value) -> Value:
    """Return max(0, min(1, z)) (equation 6.18), the output unit that goes dead."""
    return clip(z, low=0, high=1)


def hard_sigmoid(z: Value) -> Value:
    """Return max(0, min(1, z/6 + 1/2))."""
    return clip(z + 3.0, low=0, high=6) / 6.0


def _hard_swish(z: Any) -> Any:
    # z is held above -3, where the product is 0, so that -inf · 0 does not arise.
    return np.maximum(z, -3) * (np.clip(np.add(z, 3), 0, 6) / 6)


# z · hard_sigmoid(z)
hard_swish = elementwise(
    "hard_swish",
    _hard_swish,
    lambda _y, z: where(less_equal(z, -3.0), 0.0, where(greater_equal(z, 3.0), 1.0, z / 3.0 + 0.5)),
    kinks={-3.0: 0.0, 3.0: 1.0},
    choosing=True,
    flops=4,
    exact=lambda z: z * np.clip(z + 3, 0, 6) / 6,
)


def maxout(z: Value, k: int) -> Value:
    """Maximum of each group of k adjacent values of the last axis: [..., m k] to [..., m]."""
    shape = shape_of(z)
    if k < 1 or shape[-1] % k:
        raise ValueError(f"maxout: the last axis has {shape[-1]} values, no multiple of k = {k}")
    groups = reshape(z, shape=(*shape[:-1], shape[-1] // k, k))
    return max_over(groups, axis=(len(shape),), keepdims=False)


# Sigmoidal units ---------------------------------------------------------------------------------------
def _sigmoid(z: Any) -> Any:
    e = np.exp(-np.absolute(z))
    return np.where(np.greater_equal(z, 0), np.ones_like(e), e) / (1 + e)


def _exact_sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _sigmoid_slope(z: Any) -> Any:
    e = np.exp(-np.absolute(z))
    return e / (1 + e) / (1 + e)


# σ(z) σ(-z): nowhere a difference, so that it is exact in both tails, and its own slope at 0.
sigmoid_slope = elementwise(
    "sigmoid_slope",
    _sigmoid_slope,
    lambda s, z: -s * tanh(0.5 * z),
    flops=14,
    exact=lambda z: _exact_sigmoid(z) * _exact_sigmoid(-z),
)
sigmoid = elementwise(
    "sigmoid",
    _sigmoid,
    lambda _y, z: sigmoid_slope(z),
    flops=13,
    exact=_exact_sigmoid,
)


def _over_cosh_squared(v: Value, z: Value) -> Value:
    c = cosh(z)
    return v / c / c


# v/cosh², where 1 - tanh² would be 0 beyond |z| = 19, and cosh² would overflow beyond 355.
over_cosh_squared: Primitive = elementwise(
    "over_cosh_squared",
    _over_cosh_squared,
    Times(lambda w, _y, _v, z: over_cosh_squared(w, z)),
    lambda y, _v, z: -2.0 * tanh(z) * y,
    flops=12,
    inline=True,
    exact=lambda v, z: v / np.cosh(z) ** 2,
)
tanh: Primitive = elementwise(
    "tanh", np.tanh, Times(lambda v, _y, z: over_cosh_squared(v, z)), flops=10
)
softplus = elementwise(
    "softplus",
    lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.absolute(z))),
    lambda _y, z: sigmoid(z),
    flops=23,
    exact=lambda z: np.maximum(z, 0) + np.log1p(np.exp(-abs(z))),
)


def log_sigmoid(z: Value) -> Value:
    """Return log σ(z) = -ζ(-z)."""
    return -softplus(-z)


# Sums and products of these, as primitives: composed, their slopes would cancel.
softsign = elementwise(
    "softsign",
    special.softsign_forward,
    lambda _y, z: square(1.0 / (1.0 + absolute(z))),
    flops=3,
    exact=lambda z: z / (1 + abs(z)),
)
tanhshrink = elementwise(
    "tanhshrink",
    special.tanhshrink_forward,
    lambda _y, z: square(tanh(z)),
    flops=20,
    exact=lambda z: z - np.tanh(z),
)


def _root_of_sigmoid_slope(z: Value) -> Value:
    """Return sqrt(σ'(z)): multiplied in twice, it lets a large factor meet no subnormal number."""
    return 0.5 / cosh(0.5 * z)


def _silu_curvature(_s: Value, z: Value) -> Value:
    r = _root_of_sigmoid_slope(z)
    return (r * (2.0 - z * tanh(0.5 * z))) * r


silu_slope = elementwise(
    "silu_slope",
    special.silu_slope_forward,
    _silu_curvature,
    flops=19,
    exact=lambda z: _exact_sigmoid(z) * (1 + z * _exact_sigmoid(-z)),
)
silu = elementwise(
    "silu",
    special.silu_forward,
    lambda _y, z: silu_slope(z),
    flops=16,
    exact=lambda z: z * _exact_sigmoid(z),
)


def _mish_curvature(_s: Value, z: Value) -> Value:
    t, s = tanh(softplus(z)), sigmoid(z)
    root = exp(-0.5 * softplus(-z)) / cosh(softplus(z))  # of σ(z) / cosh²(ζ(z))
    return (2.0 * root + (root * z) * (sigmoid(-z) - 2.0 * t * s)) * root


def _exact_mish_slope(z: Any) -> Any:
    t = np.tanh(np.log1p(np.exp(z)))
    return t + z * (1 - t * t) * _exact_sigmoid(z)


mish_slope = elementwise(
    "mish_slope",
    special.mish_slope_forward,
    _mish_curvature,
    flops=30,
    exact=_exact_mish_slope,
)
mish = elementwise(
    "mish",
    special.mish_forward,
    lambda _y, z: mish_slope(z),
    flops=22,
    exact=lambda z: z * np.tanh(np.log1p(np.exp(z))),
)


def _exact_sinc(x: Any, *, n: int = 0) -> Any:
    z = _pi(x) * x
    at_zero = z == 0
    z = np.where(at_zero, 1, z)
    turns = [np.sin(z), np.cos(z), -np.sin(z), -np.cos(z)]
    y = turns[0] / z
    for k in range(1, n + 1):
        y = (turns[k % 4] - k * y) / z
    value = 0 if n % 2 else (-1) ** (n // 2) / (n + 1 + np.zeros_like(z))
    return _pi(x) ** n * np.where(at_zero, value, y)


# Derivative of order n of sin(πx)/(πx), which has no singular point.
sinc_derivative: Primitive = elementwise(
    "sinc_derivative",
    special.sinc_derivative,
    lambda _y, x, *, n=0: sinc_derivative(x, n=n + 1),
    flops=60,
    exact=_exact_sinc,
)


# Exponential and Gaussian units ------------------------------------------------------------------------
def elu(z: Value, alpha: float = 1.0) -> Value:
    """Return z for z > 0, else alpha (e^z - 1)."""
    positive = greater(z, 0)
    return where(positive, z, alpha * expm1(where(positive, 0.0, z)))


def _selu(z: Any) -> Any:
    return SELU_SCALE * np.where(np.greater(z, 0), z, SELU_ALPHA * np.expm1(np.minimum(z, 0)))


def _selu_slope(_y: Value, z: Value) -> Value:
    positive = greater(z, 0)
    # The factor is put into the exponent: a subnormal e^z would not bear to be multiplied.
    return where(positive, SELU_SCALE, exp(where(positive, 0.0, z) + log(SELU_SCALE * SELU_ALPHA)))


# The self-normalising ELU (Klambauer et al. 2017).
selu = elementwise(
    "selu", _selu, _selu_slope, kinks={0.0: SELU_SCALE * SELU_ALPHA}, exact=_selu, flops=11
)
# e^(-z²), the slope of erf up to a factor.
gauss = elementwise(
    "gauss",
    special.gauss_forward,
    lambda y, z: -2.0 * z * y,
    flops=12,
    exact=lambda z: np.exp(-z * z),
)
erf = elementwise("erf", special.erf, lambda _y, z: 2 / sqrt(pi) * gauss(z), flops=70)
erfc = elementwise("erfc", special.erfc, lambda _y, z: -2 / sqrt(pi) * gauss(z), flops=70)


def _pi(like: Any) -> Any:
    """π in the arithmetic of an array."""
    return 4 * np.arctan(np.ones_like(like))


def _exact_normal_cdf(z: Any) -> Any:
    return erfc(-z / np.sqrt(1 + np.ones_like(z))) / 2


def _gelu_curvature(_s: Value, z: Value) -> Value:
    g = gauss(0.5 * z)  # sqrt of e^(-z²/2)
    return (2.0 * g * g - square(g * z)) / sqrt(2 * pi)


gelu_slope = elementwise(
    "gelu_slope",
    special.gelu_slope_forward,
    _gelu_curvature,
    flops=80,
    exact=lambda z: _exact_normal_cdf(z) + z * np.exp(-z * z / 2) / np.sqrt(2 * _pi(z)),
)
# z Φ(z), exact, with full relative accuracy in the left tail.
gelu = elementwise(
    "gelu",
    special.gelu_forward,
    lambda _y, z: gelu_slope(z),
    flops=80,
    exact=lambda z: z * _exact_normal_cdf(z),
)


def _gelu_tanh_curvature(_s: Value, z: Value) -> Value:
    # It is 0 beyond these bounds, where powers of z would overflow.
    reach = 8.0 if dtype_of(z) == np.float16 else 60.0
    z = clip(z, low=-reach, high=reach)
    u, u_dot = special.gelu_tanh_argument(z)
    bend = 6 * 0.044715 * 2 * sqrt(2 / pi) * z  # d²u/dz²
    r = _root_of_sigmoid_slope(u)
    return (r * (2.0 * u_dot + z * (bend - u_dot * u_dot * tanh(0.5 * u)))) * r


def _exact_tanh_form(z: Any) -> tuple[Any, Any]:
    """Give u = √(8/π) (z + 0.044715 z³) and du/dz, as in gelu's tanh form z σ(u)."""
    k = np.sqrt(8 / _pi(z))
    return k * (z + 0.044715 * z**3), k * (1 + 3 * 0.044715 * z**2)


def _exact_gelu_tanh_slope(z: Any) -> Any:
    u, u_dot = _exact_tanh_form(z)
    return _exact_sigmoid(u) * (1 + z * _exact_sigmoid(-u) * u_dot)


gelu_tanh_slope = elementwise(
    "gelu_tanh_slope",
    special.gelu_tanh_slope_forward,
    _gelu_tanh_curvature,
    flops=27,
    exact=_exact_gelu_tanh_slope,
)
# GELU with Φ approximated through a tanh (Hendrycks & Gimpel 2016): z σ(u).
gelu_tanh = elementwise(
    "gelu_tanh",
    special.gelu_tanh_forward,
    lambda _y, z: gelu_tanh_slope(z),
    flops=20,
    exact=lambda z: z * _exact_sigmoid(_exact_tanh_form(z)[0]),
)


def rbf(x: Value, W: Value, sigma: Value) -> Value:
    """Return exp(-‖W_j - x‖²/σ²): x[..., d], templates W[m, d], width sigma[...] to [..., m]."""
    x = reshape(x, shape=(*shape_of(x)[:-1], 1, shape_of(x)[-1]))
    sigma = reshape(sigma, shape=(*shape_of(sigma), 1))
    return exp(-sum_(square(W - x), axis=-1) / square(sigma))
