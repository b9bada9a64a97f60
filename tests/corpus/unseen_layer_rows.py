"""Rows written without a look at gradcheck or the first corpus: layers, losses, recurrences."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_row


def rows(x):
    return x.sum(axis=-1, keepdims=True)


# Normalisation.


def normalised(x):
    c = x - x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(axis=-1, keepdims=True) + 1e-5)
    return c * r, r


def layer_norm(x, g, b):
    return g * normalised(x)[0] + b


def layer_norm_vjp(projected=True, bias=lambda v: v.sum(0)):
    def vjp(v, x, g, b):
        n, r = normalised(x)
        h = v * g
        along = n * (h * n).mean(axis=-1, keepdims=True) if projected else 0.0
        return r * (h - h.mean(axis=-1, keepdims=True) - along), (v * n).sum(0), bias(v)

    return vjp


LAYER = (box(3, 4), box(4), box(4))
numpy_row(
    "layer-norm-variance-constant", "layer norm backward in early fused kernels: variance taken as constant",
    layer_norm, layer_norm_vjp(projected=False), layer_norm_vjp(), *LAYER,
)  # fmt: skip
numpy_row(
    "layer-norm-bias-last-row", "Triton layer norm tutorial, lock lost: bias gets the last row",
    layer_norm, layer_norm_vjp(bias=lambda v: v[-1]), layer_norm_vjp(), *LAYER,
)  # fmt: skip


def fast_variance(v, x):
    m = x.mean(axis=-1, keepdims=True)
    r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) - m * m + np.float32(1e-5))
    n = (x - m) * r
    return (r * (v - v.mean(axis=-1, keepdims=True) - n * (v * n).mean(axis=-1, keepdims=True)),)


def exact_variance(v, x):
    n, r = normalised(x)
    return (r * (v - v.mean(axis=-1, keepdims=True) - n * (v * n).mean(axis=-1, keepdims=True)),)


numpy_row(
    "fast-variance", "Flax use_fast_variance, TF fused batch norm: E x² - (E x)²",
    lambda x: normalised(x)[0], fast_variance, exact_variance,
    np.float32([[3000.25, 3001.5, 2999.75, 3000.5]]), expected="imprecise",
)  # fmt: skip


def rms(x):
    return 1 / np.sqrt((x * x).mean() + 1e-6)


numpy_row(
    "rms-norm-weight", "RMSNorm kernels: the weight missing in the inner product",
    lambda x, w: w * x * rms(x),
    lambda v, x, w: (rms(x) * (v * w - x * rms(x) ** 2 * (v * x).mean()), v * x * rms(x)),
    lambda v, x, w: (rms(x) * (v * w - x * rms(x) ** 2 * (v * w * x).mean()), v * x * rms(x)),
    box(4, low=0.5, high=2), box(4, low=0.5, high=2),
)  # fmt: skip


def length(x):
    return np.sqrt(rows(x * x))


numpy_row(
    "weight-norm-projection", "weight normalisation (Salimans 2016) without the projection",
    lambda v, g: g * v / length(v),
    lambda c, v, g: (c * g / length(v), rows(c * v) / length(v)),
    lambda c, v, g: (g / length(v) * (c - v * rows(c * v) / length(v) ** 2), rows(c * v) / length(v)),
    box(2, 3, low=0.5, high=2), box(2, 1),
)  # fmt: skip
numpy_row(
    "cosine-similarity-norm", "torch cosine_similarity: the first norm taken as constant",
    lambda x, y: x @ y / np.sqrt((x @ x) * (y @ y)),
    lambda v, x, y: (v * y / np.sqrt((x @ x) * (y @ y)), cosine_slope(v, y, x)),
    lambda v, x, y: (cosine_slope(v, x, y), cosine_slope(v, y, x)),
    box(3, low=0.5, high=2), box(3, low=0.5, high=2),
)  # fmt: skip


def cosine_slope(v, x, y):
    return v * (y - x * ((x @ y) / (x @ x))) / np.sqrt((x @ x) * (y @ y))


def scaled_norm(x):
    return np.abs(x).max() * np.sqrt(((x / np.abs(x).max()) ** 2).sum())


numpy_row(
    "norm-float16", "apex: the square of a float16 gradient norm overflows",
    scaled_norm,
    lambda v, x: (v * x / np.sqrt((x * x).sum()),),
    lambda v, x: (v * (x / scaled_norm(x)),),
    box(4, low=300, high=2000, dtype="float16"), expected="imprecise",
)  # fmt: skip
numpy_row(
    "norm-at-zero", "torch #2421, JAX norm: 0/0 for the zero vector",
    lambda x: np.sqrt((x * x).sum()),
    lambda v, x: (v * x / np.sqrt((x * x).sum()),),
    lambda v, x: (v * x / max(np.sqrt((x * x).sum()), 1e-300),),
    np.zeros(3), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "std-of-constant", "torch #4320: std of equal values, 0/0",
    np.std,
    lambda v, x: (v * (x - x.mean()) / (x.size * np.std(x)),),
    lambda v, x: (v * (x - x.mean()) / (x.size * max(np.std(x), 1e-300)),),
    np.full(4, 3.0), expected="nonfinite",
)  # fmt: skip


def distance(x, y):
    return np.sqrt(((x - y) ** 2).sum())


numpy_row(
    "cdist-by-matmul", "torch cdist use_mm_for_euclid_dist: x² + y² - 2xy of near points",
    distance,
    lambda v, x, y: (v * (x - y) / expanded(x, y), v * (y - x) / expanded(x, y)),
    lambda v, x, y: (v * (x - y) / distance(x, y), v * (y - x) / distance(x, y)),
    np.float32([100.0, 100.5, 101.0]), np.float32([100.01, 100.51, 101.02]),
    expected="imprecise", strict=True,
)  # fmt: skip


def expanded(x, y):
    return np.sqrt(np.abs((x * x).sum() + (y * y).sum() - 2 * (x * y).sum()))


# Attention, losses, recurrences.


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / rows(e)


def attention(q, k, w):
    return softmax(q @ k.T / np.sqrt(2)) @ w


def attention_vjp(key_scale):
    def vjp(v, q, k, w):
        p = softmax(q @ k.T / np.sqrt(2))
        s = p * (v @ w.T - rows(p * (v @ w.T)))
        return s @ k / np.sqrt(2), s.T @ q / key_scale, p.T @ v

    return vjp


numpy_row(
    "attention-key-scale", "hand-written attention backward: 1/√d missing for the keys",
    attention, attention_vjp(1.0), attention_vjp(np.sqrt(2)), box(3, 2), box(3, 2), box(3, 2),
)  # fmt: skip
MASK = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


def masked(x):
    e = MASK * np.exp(x - x.max(axis=-1, keepdims=True))
    return e / np.where(rows(e) > 0, rows(e), 1.0)


def masked_nan(v, x):
    p = softmax(np.where(MASK > 0, x, -np.inf))
    return (p * (v - rows(p * v)),)


numpy_row(
    "masked-softmax-empty-row", "torch #41508: attention with every key masked",
    masked, masked_nan, lambda v, x: (masked(x) * (v - rows(masked(x) * v)),),
    box(2, 3), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "tied-weights", "tied embeddings: the encoder's share overwritten by the decoder's",
    lambda x, w: np.tanh(x @ w) @ w.T,
    lambda v, x, w: (((v @ w) * (1 - np.tanh(x @ w) ** 2)) @ w.T, v.T @ np.tanh(x @ w)),
    lambda v, x, w: (
        ((v @ w) * (1 - np.tanh(x @ w) ** 2)) @ w.T,
        v.T @ np.tanh(x @ w) + x.T @ ((v @ w) * (1 - np.tanh(x @ w) ** 2)),
    ),
    box(2, 3, low=-1, high=1), box(3, 3, low=-1, high=1),
)  # fmt: skip
X = np.array([[1.0, -0.5], [0.25, 2.0], [-1.0, 0.75], [0.5, 0.5]])
Y = np.array([1.0, 0.0, -2.0, 0.5])
numpy_row(
    "gradient-accumulation", "transformers, 2024: mean of the means of unequal micro-batches",
    lambda w: ((X @ w - Y) ** 2).mean(),
    lambda v, w: (v * (X[:3].T @ (X[:3] @ w - Y[:3]) / 3 + X[3:].T @ (X[3:] @ w - Y[3:])),),
    lambda v, w: (v * X.T @ (X @ w - Y) / 2,),
    box(2),
)  # fmt: skip
KEPT = np.array([[0.0, 0, 1], [1, 0, 0], [0, 0, 0]])
numpy_row(
    "ignore-index-mean", "cross entropy with ignore_index: divided by all, not by those kept",
    lambda x: (-KEPT * np.log(softmax(x))).sum() / 2,
    lambda v, x: (v * (softmax(x) * rows(KEPT) - KEPT) / 3,),
    lambda v, x: (v * (softmax(x) * rows(KEPT) - KEPT) / 2,),
    box(3, 3),
)  # fmt: skip
numpy_row(
    "log-softmax-no-shift", "log_softmax backward through exp(x)/sum in float32",
    lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
    lambda v, x: (v - np.exp(x) / np.exp(x).sum() * v.sum(),),
    lambda v, x: (v - softmax(x) * v.sum(),),
    box(4, low=-200, high=200, dtype="float32"), expected="nonfinite",
)  # fmt: skip
POINTS = np.array([[-1.0], [0.5], [2.0], [0.0]])


def joint(w, m):
    return w - np.log(np.exp(w).sum()) - 0.5 * (POINTS - m) ** 2


def mixture_vjp(responsibility):
    def vjp(v, w, m):
        p = softmax(joint(w, m))
        weights = (p - softmax(w)).sum(0)
        return v * weights, v * (responsibility(p, w) * (POINTS - m)).sum(0)

    return vjp


numpy_row(
    "mixture-responsibility", "mixture density networks: prior weights in place of responsibilities",
    lambda w, m: np.log(np.exp(joint(w, m)).sum(1)).sum(),
    mixture_vjp(lambda p, w: softmax(w)), mixture_vjp(lambda p, w: p), box(3, low=-1, high=1), box(3),
)  # fmt: skip
numpy_row(
    "dropout-scale", "inverted dropout: 1/(1 - p) forgotten backwards",
    lambda x: x * np.array([1, 0, 1, 1]) / 0.75,
    lambda v, x: (v * np.array([1, 0, 1, 1]),), lambda v, x: (v * np.array([1, 0, 1, 1]) / 0.75,), box(4),
)  # fmt: skip


def recurrence_vjp(truncated):
    def vjp(v, w):
        states = [0.5 + 0 * w]
        for _ in range(3):
            states.append(np.tanh(w * states[-1] + 0.3))
        total = 0 * w
        for before, after in zip(states[-2::-1], states[:0:-1], strict=True):
            local = v * (1 - after * after)
            total = total + local * before
            v = 0 * v if truncated else local * w
        return (total,)

    return vjp


def recurrence(w):
    h = 0.5
    for _ in range(3):
        h = np.tanh(w * h + 0.3)
    return h


numpy_row(
    "recurrence-truncated", "truncated back-propagation through time, one step",
    recurrence, recurrence_vjp(True), recurrence_vjp(False), box(3, low=-1.5, high=1.5),
)  # fmt: skip
