"""Rows written without a look at gradcheck or the first corpus: elementwise formulas, lost digits."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, numpy_row

# Wrong formulas, thresholds, straight-through estimators.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


numpy_row(
    "hardswish-product-rule", "torch hardswish_backward, an early version: x' of the gate dropped",
    lambda x: x * np.clip(x + 3, 0, 6) / 6,
    lambda v, x: (v * np.clip(x + 3, 0, 6) / 6,),
    lambda v, x: (v * np.where(x <= -3, 0.0, np.where(x < 3, (2 * x + 3) / 6, 1.0)),),
    box(5, low=-5, high=5),
)  # fmt: skip
numpy_row(
    "leaky-inplace-negative-slope", "torch #31938: leaky_relu_ with a negative slope tests the result",
    lambda x: np.where(x > 0, x, -0.5 * x),
    lambda v, x: (v * np.where(np.where(x > 0, x, -0.5 * x) > 0, 1.0, -0.5),),
    lambda v, x: (v * np.where(x > 0, 1.0, -0.5),),
    box(4),
)  # fmt: skip
numpy_row(
    "abs-inplace", "Torch7 nn.Abs in place: the sign is taken of the result",
    np.abs,
    lambda v, x: (v * np.sign(np.abs(x)),),
    lambda v, x: (v * np.sign(x),),
    box(3, 2),
)  # fmt: skip
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772
numpy_row(
    "selu-from-result", "Chainer SELU from its result: scale forgotten on alpha",
    lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
    lambda v, x: (v * np.where(x > 0, SCALE, SCALE * ALPHA * np.expm1(np.minimum(x, 0)) + ALPHA),),
    lambda v, x: (v * np.where(x > 0, SCALE, SCALE * ALPHA * np.exp(np.minimum(x, 0))),),
    box(5),
)  # fmt: skip
numpy_row(
    "quick-gelu", "transformers QuickGELU fused backward: 1.702 missing from the chain rule",
    lambda x: x * sigmoid(1.702 * x),
    lambda v, x: (v * sigmoid(1.702 * x) * (1 + x * sigmoid(-1.702 * x)),),
    lambda v, x: (v * sigmoid(1.702 * x) * (1 + 1.702 * x * sigmoid(-1.702 * x)),),
    box(5),
)  # fmt: skip
numpy_row(
    "kl-div-log-target", "torch kl_div(log_target=True) with respect to the target: + 1 missing",
    lambda x, t: np.exp(t) * (t - x),
    lambda v, x, t: (-v * np.exp(t), v * np.exp(t) * (t - x)),
    lambda v, x, t: (-v * np.exp(t), v * np.exp(t) * (t - x + 1)),
    box(4), box(4),
)  # fmt: skip


def logistic_slope(x):
    c = np.clip(x, 0.1, 0.9)
    return 1 / (c * (1 - c))


def clipped_logit(x):
    c = np.clip(x, 0.1, 0.9)
    return np.log(c / (1 - c))


numpy_row(
    "logit-eps", "torch logit_backward(eps): gradient passed outside of [eps, 1 - eps]",
    clipped_logit,
    lambda v, x: (v * logistic_slope(x),),
    lambda v, x: (v * np.where((x > 0.1) & (x < 0.9), logistic_slope(x), 0.0),),
    box(4, low=-0.5, high=1.5),
)  # fmt: skip
numpy_row(
    "arctan2-sign", "TF atan2, before it was fixed: atan2's second gradient without its minus",
    np.arctan2,
    lambda v, y, x: (v * x / (x * x + y * y), v * y / (x * x + y * y)),
    lambda v, y, x: (v * x / (x * x + y * y), -v * y / (x * x + y * y)),
    box(3, low=0.5, high=2), box(3, low=0.5, high=2),
)  # fmt: skip
numpy_row(
    "mod-divisor", "Theano and early TF: mod has no gradient for the divisor",
    np.mod,
    lambda v, x, y: (v, 0 * v),
    lambda v, x, y: (v, -v * np.floor(x / y)),
    box(3, low=4.1, high=4.9), box(3, low=2.0, high=2.04),
)  # fmt: skip
numpy_row(
    "smooth-l1-beta", "torch smooth_l1_loss when beta came: the inner branch not divided by it",
    lambda x: np.where(np.abs(x) < 0.5, x * x, np.abs(x) - 0.25),
    lambda v, x: (v * np.where(np.abs(x) < 0.5, x, np.sign(x)),),
    lambda v, x: (v * np.where(np.abs(x) < 0.5, 2 * x, np.sign(x)),),
    box(6, low=-2, high=2),
)  # fmt: skip
numpy_row(
    "gaussian-nll-log-variance", "GaussianNLLLoss re-implementations: the log-variance term's 1/2 lost",
    lambda m, s: 0.5 * (np.exp(-s) * (1.5 - m) ** 2 + s),
    lambda v, m, s: (-v * np.exp(-s) * (1.5 - m), v * (1 - 0.5 * np.exp(-s) * (1.5 - m) ** 2)),
    lambda v, m, s: (-v * np.exp(-s) * (1.5 - m), v * (0.5 - 0.5 * np.exp(-s) * (1.5 - m) ** 2)),
    box(3), box(3, low=-2, high=2),
)  # fmt: skip
numpy_row(
    "focal-modulator", "sigmoid_focal_loss: the modulating factor taken as constant",
    lambda x: sigmoid(-x) ** 2 * np.logaddexp(0, -x),
    lambda v, x: (-v * sigmoid(-x) ** 3,),
    lambda v, x: (-v * sigmoid(-x) ** 2 * (2 * sigmoid(x) * np.logaddexp(0, -x) + sigmoid(-x)),),
    box(4),
)  # fmt: skip
numpy_row(
    "ceil-straight-through", "straight-through estimator left in: TF quantize, Larq",
    np.ceil, lambda v, x: (v,), lambda v, x: (0 * v,), box(3, low=0.1, high=0.9),
)  # fmt: skip
numpy_row(
    "clip-straight-through", "JAX/TF clip_by_value with identity gradient, from quantised training",
    lambda x: np.clip(x, -1, 1), lambda v, x: (v,), lambda v, x: (v * (np.abs(x) < 1),), box(6),
)  # fmt: skip
numpy_row(
    "scalar-product-rule", "autograd issue: 0-d inputs, one factor's derivative forgotten",
    lambda x: x * np.exp(x), lambda v, x: (v * np.exp(x),), lambda v, x: (v * np.exp(x) * (1 + x),),
    box(low=-0.5, high=3),
)  # fmt: skip
numpy_row(
    "complex-abs-conjugate", "JAX and torch conventions of complex gradients mixed: conjugate",
    lambda a, b: np.abs(a + 1j * b),
    lambda v, a, b: (v * a / np.hypot(a, b), -v * b / np.hypot(a, b)),
    lambda v, a, b: (v * a / np.hypot(a, b), v * b / np.hypot(a, b)),
    box(3, low=0.5, high=2), box(3, low=0.5, high=2),
)  # fmt: skip
numpy_row(
    "gammaln-stirling", "digamma by Stirling without the recurrence for small arguments",
    special.gammaln,
    lambda v, x: (v * (np.log(x) - 0.5 / x),),
    lambda v, x: (v * special.digamma(x),),
    box(4, low=1, high=5),
)  # fmt: skip
numpy_row(
    "bernoulli-int-labels", "BCE with integer labels: label cast by truncation of its smoothed value",
    lambda x, t: np.logaddexp(0, x) - (0.9 * t + 0.05) * x,
    lambda v, x, t: (v * (sigmoid(x) - t), None),
    lambda v, x, t: (v * (sigmoid(x) - (0.9 * t + 0.05)), None),
    box(4), np.array([0, 1, 1, 0]),
)  # fmt: skip

# NaN and infinity from what is not selected, or on the way.

numpy_row(
    "pow-zero-base", "TF and torch pow: x**y log x at x = 0",
    lambda x, y: x**y,
    lambda v, x, y: (v * y * x ** (y - 1), v * x**y * np.log(x)),
    lambda v, x, y: (v * y * x ** (y - 1), v * x**y * np.log(np.where(x > 0, x, 1.0))),
    np.array([0.0, 1.5]), np.array([2.0, 2.5]), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "where-fractional-power", "JAX FAQ on NaN and where: the branch not taken is multiplied by 0",
    lambda x: np.where(x > 1, np.abs(x) ** 1.5, 1.5 * x - 0.5),
    lambda v, x: (v * ((x > 1) * 1.5 * np.sqrt(x) + (x <= 1) * 1.5),),
    lambda v, x: (v * np.where(x > 1, 1.5 * np.sqrt(np.abs(x)), 1.5),),
    box(4, low=-4, high=4), expected="nonfinite",
)  # fmt: skip
K = np.arange(1, 14)
SINC = np.array([2 * k * (-1.0) ** k * np.pi ** (2 * k) / special.factorial(2 * k + 1) for k in K])


def sinc_slope(x):
    small = np.abs(x) < 0.5
    s, t = np.where(small, x, 0.0), np.where(small, 1.0, x)
    series = 0 * s
    for c in SINC[::-1]:
        series = series * s * s + c * s
    return np.where(small, series, (np.cos(np.pi * t) - np.sin(np.pi * t) / (np.pi * t)) / t)


numpy_row(
    "sinc-at-zero", "JAX and torch sinc, first versions: 0/0 at the origin",
    np.sinc,
    lambda v, x: (v * (np.cos(np.pi * x) - np.sin(np.pi * x) / (np.pi * x)) / x,),
    lambda v, x: (v * sinc_slope(x),),
    np.array([0.0, 0.25, 1.5]), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "logaddexp-overflow", "autograd logaddexp: exp(a) / (exp(a) + exp(b))",
    np.logaddexp,
    lambda v, a, b: (v * np.exp(a) / (np.exp(a) + np.exp(b)), v * np.exp(b) / (np.exp(a) + np.exp(b))),
    lambda v, a, b: (v * np.exp(a - np.logaddexp(a, b)), v * np.exp(b - np.logaddexp(a, b))),
    box(3, low=-1000, high=1000), box(3, low=-1000, high=1000), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "softplus-float16", "apex: softplus under autocast, exp overflows at 11.1",
    lambda x: np.logaddexp(np.zeros_like(x), x),
    lambda v, x: (v * np.exp(x) / (1 + np.exp(x)),),
    lambda v, x: (v / (1 + np.exp(-x)),),
    box(4, low=-8, high=20, dtype="float16"), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "bce-from-probabilities", "Keras binary_crossentropy on probabilities that are 1 in float32",
    lambda x: np.logaddexp(np.zeros_like(x), x),
    lambda v, x: (v / (1 - sigmoid(x)) * sigmoid(x) * (1 - sigmoid(x)),),
    lambda v, x: (v * sigmoid(x),),
    box(3, low=10, high=40, dtype="float32"), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "rsqrt-cubed-underflow", "layer norm backward kernels: rsqrt' through 1/sqrt(x³) underflows",
    lambda x: 1 / np.sqrt(x),
    lambda v, x: (-v * np.float32(0.5) / np.sqrt(x * x * x),),
    lambda v, x: (-v * np.float32(0.5) / (x * np.sqrt(x)),),
    box(3, low=1e-18, high=1e-16, dtype="float32"), expected="nonfinite",
)  # fmt: skip

# Right formulas that lose their digits.

numpy_row(
    "expm1-ratio", "TFP and jax.scipy: (exp(x) - 1)/x differentiated by the quotient rule",
    lambda x: np.expm1(x) / x,
    lambda v, x: (v * (x * np.exp(x) - np.expm1(x)) / (x * x),),
    lambda v, x: (v * (0.5 + x * (1 / 3 + x * (1 / 8 + x / 30))),),
    box(3, low=1e-9, high=1e-6), expected="imprecise",
)  # fmt: skip
numpy_row(
    "bernoulli-function", "x / (exp(x) - 1) in drift-diffusion codes",
    lambda x: x / np.expm1(x),
    lambda v, x: (v * ((np.exp(x) - 1) - x * np.exp(x)) / (np.exp(x) - 1) ** 2,),
    lambda v, x: (v * (-0.5 + x * (1 / 6 - x * x / 180)),),
    box(3, low=1e-9, high=1e-6), expected="imprecise",
)  # fmt: skip
numpy_row(
    "log1mexp", "TFP log1mexp, Stan: 1 - exp(-x) for small x",
    lambda x: np.log(-np.expm1(-x)),
    lambda v, x: (v * np.exp(-x) / (1 - np.exp(-x)),),
    lambda v, x: (v / np.expm1(x),),
    box(3, low=1e-12, high=1e-9), expected="imprecise",
)  # fmt: skip
numpy_row(
    "acosh-near-one", "JAX, torch acosh: x² - 1 beside 1",
    np.arccosh,
    lambda v, x: (v / np.sqrt(x * x - 1),),
    lambda v, x: (v / (np.sqrt(x - 1) * np.sqrt(x + 1)),),
    box(3, low=1 + 1e-12, high=1 + 1e-10), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "hypot-overflow", "hypot's gradient through x² + y² in float32",
    np.hypot,
    lambda v, x, y: (v * x / np.sqrt(x * x + y * y), v * y / np.sqrt(x * x + y * y)),
    lambda v, x, y: (v * (x / np.hypot(x, y)), v * (y / np.hypot(x, y))),
    box(3, low=1e25, high=1e30, dtype="float32"), box(3, low=1e25, high=1e30, dtype="float32"),
    expected="imprecise",
)  # fmt: skip
numpy_row(
    "tanhshrink-near-zero", "torch tanhshrink composed as 1 - (1 - tanh²)",
    lambda x: x - np.tanh(x),
    lambda v, x: (v * (1 - (1 - np.tanh(x) ** 2)),),
    lambda v, x: (v * np.tanh(x) ** 2,),
    box(3, low=1e-7, high=1e-5), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "probit-hazard", "torch log_ndtr before 1.11: the density over (1 + erf)/2",
    lambda x: np.log(0.5 * special.erfc(-x / np.sqrt(2))),
    lambda v, x: (v * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / (0.5 * (1 + special.erf(x / np.sqrt(2)))),),
    lambda v, x: (v * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / (0.5 * special.erfc(-x / np.sqrt(2))),),
    box(3, low=-8, high=-7), expected="imprecise",
)  # fmt: skip
numpy_row(
    "sqrt-difference", "0.5/sqrt(x + 1) - 0.5/sqrt(x) for large x",
    lambda x: np.sqrt(x + 1) - np.sqrt(x),
    lambda v, x: (v * (0.5 / np.sqrt(x + 1) - 0.5 / np.sqrt(x)),),
    lambda v, x: (-0.5 * v / (np.sqrt(x) * np.sqrt(x + 1) * (np.sqrt(x) + np.sqrt(x + 1))),),
    box(3, low=1e12, high=1e15), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "cosine-ratio", "(1 - cos x)/x² in rotation vectors (pytorch3d so3_exp_map)",
    lambda x: 2 * np.sin(x / 2) ** 2 / (x * x),
    lambda v, x: (v * (np.sin(x) / (x * x) - 2 * (1 - np.cos(x)) / (x * x * x)),),
    lambda v, x: (v * x * (-1 / 12 + x * x * (1 / 180 - x * x / 6720)),),
    box(3, low=1e-6, high=1e-4), expected="imprecise",
)  # fmt: skip
numpy_row(
    "kl-scale", "KL of two Gaussians near equal scales: 1 - 1/s",
    lambda s: s - np.log(s),
    lambda v, s: (v * (1 - 1 / s),),
    lambda v, s: (v * ((s - 1) / s),),
    box(3, low=1 + 1e-12, high=1 + 1e-9), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "digamma-difference", "log-beta ratios in TFP: ψ(x + 1) - ψ(x) for large x",
    np.log,
    lambda v, x: (v * (special.digamma(x + 1) - special.digamma(x)),),
    lambda v, x: (v / x,),
    box(3, low=1e9, high=1e12), expected="imprecise", strict=True,
)  # fmt: skip
