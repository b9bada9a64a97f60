"""Rows written without a look at gradcheck: elementwise formulas, overflow, lost digits, a stale memo."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, native_row, numpy_row

# Losses with thresholds, and their parameters.

numpy_row(
    "pinball-weights-swapped", "quantile loss in boosting libraries: q and 1 - q swapped in the gradient",
    lambda y, t: np.where(t >= y, 0.9 * (t - y), 0.1 * (y - t)),
    lambda v, y, t: (v * np.where(t >= y, -0.1, 0.9), v * np.where(t >= y, 0.1, -0.9)),
    lambda v, y, t: (v * np.where(t >= y, -0.9, 0.1), v * np.where(t >= y, 0.9, -0.1)),
    box(4), box(4),
)  # fmt: skip
numpy_row(
    "lista-threshold-sign", "LISTA: the trained soft threshold's gradient without the sign of x",
    lambda x, t: np.sign(x) * np.maximum(np.abs(x) - t, 0),
    lambda v, x, t: (v * (np.abs(x) > t), -(v * (np.abs(x) > t)).sum()),
    lambda v, x, t: (v * (np.abs(x) > t), -(v * np.sign(x) * (np.abs(x) > t)).sum()),
    box(6), box(low=0.25, high=1),
)  # fmt: skip


def huber(x, d):
    a = np.abs(x)
    return np.where(a <= d, 0.5 * x * x, d * (a - 0.5 * d))


def huber_slope(x, d):
    return np.where(np.abs(x) <= d, x, d * np.sign(x))


numpy_row(
    "huber-trained-delta", "Huber loss with a trained δ: the -½δ² differentiated as -½δ",
    huber,
    lambda v, x, d: (v * huber_slope(x, d), v * np.where(np.abs(x) <= d, 0, np.abs(x) - 0.5 * d)),
    lambda v, x, d: (v * huber_slope(x, d), v * np.maximum(np.abs(x) - d, 0)),
    box(5), box(5, low=0.5, high=2),
)  # fmt: skip


def biweight(x):
    z = np.minimum((x / 2) ** 2, 1)
    return np.float32(4 / 6) * z * (3 - z * (3 - z))  # 1 - (1 - z)³ without its cancellation


numpy_row(
    "tukey-redescends", "Tukey's biweight in M-estimators: no cut-off beyond c in the influence function",
    biweight,
    lambda v, x: (v * x * (1 - (x / 2) ** 2) ** 2,),
    lambda v, x: (v * x * (1 - np.minimum((x / 2) ** 2, 1)) ** 2,),
    box(5, dtype="float32"),
)  # fmt: skip
LABELS = np.float16([1, -1, -1, 1, -1])
numpy_row(
    "squared-hinge-label", "squared hinge (liblinear, Keras): the label's sign lost by the chain rule",
    lambda x: np.maximum(1 - LABELS * x, 0) ** 2,
    lambda v, x: (-2 * v * np.maximum(1 - LABELS * x, 0),),
    lambda v, x: (-2 * v * LABELS * np.maximum(1 - LABELS * x, 0),),
    box(5, dtype="float16"),
)  # fmt: skip

# Activations.


def mish_slope(last):
    def vjp(v, x):
        plus = np.log1p(np.exp(x))
        return (v * (np.tanh(plus) + x * last(x) / np.cosh(plus) ** 2),)

    return vjp


numpy_row(
    "mish-inner-sigmoid", "Mish CUDA kernels: softplus' slope forgotten by the chain rule",
    lambda x: x * np.tanh(np.log1p(np.exp(x))),
    mish_slope(lambda x: 1), mish_slope(special.expit), box(5, low=-6, high=6, dtype="float32"),
)  # fmt: skip


def swish_vjp(power):
    def vjp(v, x, b):
        s, r = special.expit(b * x), special.expit(-b * x)
        return v * s * (1 + b * x * r), (v * x**power * s * r).sum()

    return vjp


numpy_row(
    "swish-trained-beta", "Swish with a trained β: x for x² in β's gradient",
    lambda x, b: x * special.expit(b * x), swish_vjp(1), swish_vjp(2),
    box(5, dtype="float32"), box(low=0.5, high=2, dtype="float32"),
)  # fmt: skip
CAP = np.float32(30)
numpy_row(
    "logit-soft-cap", "soft-capped attention logits c tanh(x/c): 1 - y² of the capped y, not of y/c",
    lambda x: CAP * np.tanh(x / CAP),
    lambda v, x: (v * (1 - (CAP * np.tanh(x / CAP)) ** 2),),
    lambda v, x: (v / np.cosh(x / CAP) ** 2,), box(4, low=-90, high=90, dtype="float32"),
)  # fmt: skip


def smoothstep_vjp(width):
    def vjp(v, x):
        t = np.clip((x + 1) / 3, 0, 1)
        return (v * 6 * t * (1 - t) / width,)

    return vjp


def smoothstep(x):
    t = np.clip((x + 1) / 3, 0, 1)
    return t * t * (3 - 2 * t)


numpy_row(
    "smoothstep-edge-width", "smoothstep(a, b, x) in differentiable renderers: 1/(b - a) forgotten",
    smoothstep, smoothstep_vjp(1), smoothstep_vjp(3), box(5, dtype="float32"),
)  # fmt: skip

# Likelihoods.


def student_vjp(weight):
    def vjp(v, x, n):
        q = x * x / n
        slope = 0.5 * np.log1p(q) - 0.5 * weight(n) / n * q / (1 + q)
        return v * (n + 1) * x / (n + x * x), v * slope

    return vjp


numpy_row(
    "student-t-degrees", "Student's t with trained degrees of freedom: ν for ν + 1 in their gradient",
    lambda x, n: 0.5 * (n + 1) * np.log1p(x * x / n),
    student_vjp(lambda n: n), student_vjp(lambda n: n + 1), box(4), box(4, low=1, high=4),
)  # fmt: skip


def zero_count_vjp(rate):
    def vjp(v, a, b):
        y = np.logaddexp(a, -np.exp(b))
        return v * np.exp(a - y), -v * rate(b) * np.exp(-np.exp(b) - y)

    return vjp


numpy_row(
    "zero-inflated-poisson", "zero-inflated Poisson by log-rate: exp(b) lost by the chain rule",
    lambda a, b: np.logaddexp(a, -np.exp(b)),
    zero_count_vjp(np.ones_like), zero_count_vjp(np.exp),
    box(4, low=-2, high=2), box(4, low=-2, high=2),
)  # fmt: skip

# NaN and infinity.


def gumbel(x):
    with np.errstate(over="ignore"):
        return np.exp(-np.exp(-x))


def gumbel_density(x):
    with np.errstate(over="ignore"):
        return np.exp(-x - np.exp(-x))


numpy_row(
    "gumbel-density-overflow", "Gumbel CDF' as exp(-x) times the CDF: ∞ · 0 in float32", gumbel,
    lambda v, x: (v * np.exp(-x) * gumbel(x),), lambda v, x: (v * gumbel_density(x),),
    box(3, low=-100, high=-90, dtype="float32"), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "von-mises-concentration", "von Mises log-normaliser: I₁/I₀ without the exponential scaling",
    lambda k: np.log(special.i0e(k)) + k,
    lambda v, k: (v * special.i1(k) / special.i0(k),), lambda v, k: (v * special.i1e(k) / special.i0e(k),),
    box(3, low=750, high=2000), expected="nonfinite",
)  # fmt: skip

# Right formulas that lose their digits.


def cauchy_vjp(scale):
    def vjp(v, x, c):
        q = (x / c) ** 2
        return v * x / (1 + q), v * c * scale(q)

    return vjp


numpy_row(
    "cauchy-loss-scale", "Cauchy (Lorentzian) loss with a trained scale, at small residuals",
    lambda x, c: 0.5 * c * c * np.log1p((x / c) ** 2),
    cauchy_vjp(lambda q: np.log1p(q) - q / (1 + q)), cauchy_vjp(lambda q: q * q * (1 / 2 - q * 2 / 3)),
    box(3, low=1e-7, high=1e-6), box(3, low=0.5, high=2), expected="imprecise", strict=True,
)  # fmt: skip
HALF = 1e-6


def bin_slope(x):
    a, b = special.expit(x + HALF), special.expit(x - HALF)
    return (a * (1 - a) - b * (1 - b)) / (a - b)


numpy_row(
    "discretised-logistic-slope", "PixelCNN++ likelihood of a narrow bin: differences of CDF and density",
    lambda x: np.log(np.sinh(HALF)) - np.log(np.cosh(x) + np.cosh(HALF)),
    lambda v, x: (v * bin_slope(x),), lambda v, x: (-v * np.sinh(x) / (np.cosh(x) + np.cosh(HALF)),),
    box(3), expected="imprecise",
)  # fmt: skip


def asinh(x):
    a = np.abs(x)
    return np.sign(x) * np.log1p(a + a * a / (1 + np.sqrt(a * a + 1)))


native_row(
    "asinh-negative-branch", "asinh as log(x + sqrt(x² + 1)), TensorFlow before its fix, below zero",
    "numpy", lambda x: np.log(x + np.sqrt(x * x + 1)), asinh,
    box(3, low=-1e6, high=-1e4), expected="imprecise",
)  # fmt: skip

# State.

_BY_SHAPE: dict[tuple[int, ...], np.ndarray] = {}
_LAST: list[np.ndarray] = []


def stale(v, x):
    if x.shape not in _BY_SHAPE:
        _BY_SHAPE[x.shape] = np.exp(x)
    return (v * _BY_SHAPE[x.shape],)


def fresh(v, x):
    if not (_LAST and np.array_equal(_LAST[0], x)):
        _LAST[:] = [np.array(x), np.exp(x)]
    return (v * _LAST[1],)


numpy_row(
    "memo-keyed-by-shape", "a layer's cached activations looked up by shape: those of another batch",
    np.exp, stale, fresh, box(2, 3, low=-1, high=1),
)  # fmt: skip
