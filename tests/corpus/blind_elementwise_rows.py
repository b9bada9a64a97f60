"""Rows that nobody tuned gradcheck for: elementwise formulas, thresholds, overflow, lost digits."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, numpy_row

# Piecewise functions and wrong formulas.

numpy_row(
    "relu6-lower-bound-only", "relu6 kernels with relu's backward: the upper bound forgotten",
    lambda x: np.clip(x, 0, 6),
    lambda v, x: (v * (x > 0),), lambda v, x: (v * ((x > 0) & (x < 6)),),
    box(6, low=-3, high=9, dtype="float32"),
)  # fmt: skip
numpy_row(
    "softshrink-one-sided", "softshrink backward that tests x > λ in place of |x| > λ",
    lambda x: np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, x * 0)),
    lambda v, x: (v * (x > 0.5),), lambda v, x: (v * (np.abs(x) > 0.5),),
    box(4, dtype="float32"),
)  # fmt: skip
numpy_row(
    "logsigmoid-buffer-sign", "log_sigmoid backward from the buffer exp(-|x|), right for x > 0 only",
    lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))),
    lambda v, x: (v * np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))),),
    lambda v, x: (v * np.where(x < 0, 1.0, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x))),),
    box(4),
)  # fmt: skip
numpy_row(
    "erfinv-half", "erfinv's derivative without its 1/2", special.erfinv,
    lambda v, x: (v * np.sqrt(np.pi) * np.exp(special.erfinv(x) ** 2),),
    lambda v, x: (v * 0.5 * np.sqrt(np.pi) * np.exp(special.erfinv(x) ** 2),),
    box(3, low=-0.9, high=0.9),
)  # fmt: skip
numpy_row(
    "sinc-pi", "normalised sinc with the unnormalised one's cosine", np.sinc,
    lambda v, x: (v * (np.cos(x) - np.sinc(x)) / x,),
    lambda v, x: (v * (np.cos(np.pi * x) - np.sinc(x)) / x,),
    box(3, low=0.5, high=2.25),
)  # fmt: skip
numpy_row(
    "power-of-exponent", "pow: the exponent's gradient with the base's power y - 1",
    lambda x, y: x**y,
    lambda v, x, y: (v * y * x ** (y - 1), v * x ** (y - 1) * np.log(x)),
    lambda v, x, y: (v * y * x ** (y - 1), v * x**y * np.log(x)),
    box(3, low=0.5, high=3), box(3, low=0.5, high=3),
)  # fmt: skip
numpy_row(
    "copysign-magnitude", "copysign: sign of the magnitude forgotten in its own gradient",
    np.copysign,
    lambda v, x, y: (v * np.copysign(1.0, y), 0 * y),
    lambda v, x, y: (v * np.copysign(1.0, y) * np.sign(x), 0 * y),
    box(3), box(3),
)  # fmt: skip
numpy_row(
    "distance-to-integer", "quantisation penalty |x - round(x)|: sign of x in place of the remainder's",
    lambda x: np.abs(x - np.round(x)),
    lambda v, x: (v * np.sign(x),), lambda v, x: (v * np.sign(x - np.round(x)),), box(5),
)  # fmt: skip
numpy_row(
    "pseudo-huber-delta", "pseudo-Huber loss: δ multiplied once too often",
    lambda x: x * x / (np.sqrt(1 + x * x / 4) + 1),
    lambda v, x: (v * 2 * x / np.sqrt(1 + x * x / 4),), lambda v, x: (v * x / np.sqrt(1 + x * x / 4),),
    box(4),
)  # fmt: skip
numpy_row(
    "softplus-beta-threshold", "softplus(beta): the backward compares x, not beta x, with the threshold",
    lambda x: np.where(2 * x > 20, x, np.log1p(np.exp(np.minimum(2 * x, 20))) / 2),
    lambda v, x: (v * np.where(x > 20, 1.0, 1 / (1 + np.exp(-2 * x))),),
    lambda v, x: (v * np.where(2 * x > 20, 1.0, 1 / (1 + np.exp(-2 * x))),),
    box(3, low=5, high=15),
)  # fmt: skip
COUNTS = np.array([0.0, 1.0, 3.0])
numpy_row(
    "poisson-eps", "Poisson likelihood of a rate: log(x + eps) differentiated without its eps",
    lambda x: x - COUNTS * np.log(x + 1e-8),
    lambda v, x: (v * (1 - COUNTS / x),), lambda v, x: (v * (1 - COUNTS / (x + 1e-8)),),
    box(3, low=0.01, high=2),
)  # fmt: skip


def elu(x):
    return np.where(x > 0, x, -0.5 * np.expm1(np.minimum(x, 0)))


numpy_row(
    "elu-negative-alpha-result", "elu in place with a negative alpha: the sign is that of the result",
    elu,
    lambda v, x: (v * np.where(elu(x) > 0, 1.0, -0.5 * np.exp(np.minimum(x, 0))),),
    lambda v, x: (v * np.where(x > 0, 1.0, -0.5 * np.exp(np.minimum(x, 0))),),
    box(4),
)  # fmt: skip
numpy_row(
    "threshold-inplace", "threshold in place, replacement above the threshold: mask of the result",
    lambda x: np.where(x > 0.5, x, 20.0),
    lambda v, x: (v * (np.where(x > 0.5, x, 20.0) > 0.5),), lambda v, x: (v * (x > 0.5),), box(4),
)  # fmt: skip

# NaN and infinity.

numpy_row(
    "log-cosh-overflow", "log cosh loss: sinh/cosh overflows in float32",
    lambda x: np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.float32(np.log(2)),
    lambda v, x: (v * np.sinh(x) / np.cosh(x),), lambda v, x: (v * np.tanh(x),),
    box(3, low=-100, high=-50, dtype="float32"), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "tanh-by-exponentials", "tanh' as 4 e/(e + 1)² with e = exp(2x), in float32",
    np.tanh,
    lambda v, x: (v * 4 * np.exp(2 * x) / (np.exp(2 * x) + 1) ** 2,),
    lambda v, x: (v * (1 / np.cosh(x)) * (1 / np.cosh(x)),),
    box(3, low=40, high=46, dtype="float32"), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "cube-root-by-power", "cbrt' by pow: NaN for negative numbers", np.cbrt,
    lambda v, x: (v / 3 * x ** (-2 / 3),), lambda v, x: (v / (3 * np.cbrt(x) ** 2),),
    box(3, low=-3, high=-0.1), expected="nonfinite",
)  # fmt: skip
SLOPE, CUBIC = 0.7978845608028654, 0.044715


def gelu(x):
    s = np.clip(x, -8, 8)
    return 0.5 * x * (1 + np.tanh(SLOPE * (s + CUBIC * s**3)))


def gelu_slope(x):
    t = np.tanh(SLOPE * (x + CUBIC * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SLOPE * (1 + 3 * CUBIC * x**2)


numpy_row(
    "gelu-float16-square", "tanh-GELU in float16: x² overflows beside a zero",
    gelu, lambda v, x: (v * gelu_slope(x),), lambda v, x: (v * gelu_slope(np.clip(x, -8, 8)),),
    box(3, low=100, high=300, dtype="float16"), expected="nonfinite",
)  # fmt: skip


def positive(x):
    return np.where(x > 1e-3, x, 1.0)


numpy_row(
    "bump-masked-product", "smooth step exp(-1/x): masked by a product, not by a selection",
    lambda x: np.where(x > 1e-3, np.exp(-1 / positive(x)), 0.0),
    lambda v, x: (v * (x > 0) * np.exp(-1 / x) / x**2,),
    lambda v, x: (v * np.where(x > 1e-3, np.exp(-1 / positive(x) - 2 * np.log(positive(x))), 0.0),),
    box(4, low=-1, high=1), expected="nonfinite",
)  # fmt: skip

# Right formulas that lose their digits.

numpy_row(
    "logit-expanded", "logit' as 1/(x - x²) near 1",
    lambda x: np.log(x) - np.log1p(-x),
    lambda v, x: (v / (x - x * x),), lambda v, x: (v / (x * (1 - x)),),
    box(3, low=1 - 1e-10, high=1 - 1e-12), expected="imprecise", strict=True,
)  # fmt: skip


def box_cox_vjp(by_lambda):
    def vjp(v, x, lam):
        return v * x ** (lam - 1), (v * by_lambda(np.log(x), lam)).sum()

    return vjp


numpy_row(
    "box-cox-small-lambda", "Box-Cox: the exponent's gradient by the quotient rule near 0",
    lambda x, lam: np.expm1(lam * np.log(x)) / lam,
    box_cox_vjp(lambda log, lam: (np.exp(lam * log) * (lam * log - 1) + 1) / lam**2),
    box_cox_vjp(lambda log, lam: log**2 * (1 / 2 + lam * log * (1 / 3 + lam * log * (1 / 8)))),
    box(3, low=2, high=5), box(low=1e-8, high=1e-5), expected="imprecise",
)  # fmt: skip


def log_mean_vjp(by_step):
    def vjp(v, x, d):
        log = np.log1p(d / x)
        return v * (d / log) ** 2 / (x * (x + d)), v * by_step(x, d, log)

    return vjp


numpy_row(
    "logarithmic-mean", "entropy-conserving fluxes: logarithmic mean of nearly equal densities",
    lambda x, d: d / np.log1p(d / x),
    log_mean_vjp(lambda x, d, log: 1 / log - d / (log * log * (x + d))),
    log_mean_vjp(lambda x, d, log: 1 / 2 - d / x * (1 / 6 - d / x / 8)),
    box(3, low=0.5, high=2), box(3, low=1e-11, high=1e-8), expected="imprecise",
)  # fmt: skip
numpy_row(
    "poincare-distance", "hyperbolic embeddings: arccosh(1 + z)' through (1 + z)² - 1",
    lambda z: np.log1p(z + np.sqrt(z * (z + 2))),
    lambda v, z: (v / np.sqrt((1 + z) ** 2 - 1),), lambda v, z: (v / np.sqrt(z * (z + 2)),),
    box(3, low=1e-14, high=1e-10), expected="imprecise",
)  # fmt: skip
