"""Wrong structure: sums, broadcasting, transposes, duplicates, normalisations, one element of many."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_row

W33, X23, B3 = box(3, 3), box(2, 3), box(3)


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def logsumexp(x):
    m = np.max(x, axis=-1, keepdims=True)
    return (m + np.log(np.sum(np.exp(x - m), axis=-1, keepdims=True)))[..., 0]


def mean_last(x):
    return np.sum(x, axis=-1, keepdims=True) / x.shape[-1]


numpy_row(
    "mean_divisor",
    "1/N of a mean",
    lambda x: np.sum(x * x) / 6,
    lambda v, x: (2 * v * x,),
    lambda v, x: (2 * v * x / 6,),
    X23,
)
numpy_row(
    "batch_divisor",
    "loss averaged over the batch, gradient not",
    lambda p: np.sum(p * p, axis=1).sum() / 2,
    lambda v, p: (2 * v * p,),
    lambda v, p: (v * p,),
    X23,
)
numpy_row(
    "matmul_transposed",
    "W's gradient transposed (square, so shapes agree)",
    lambda x, W: x @ W,
    lambda v, x, W: (v @ W.T, v.T @ x),
    lambda v, x, W: (v @ W.T, x.T @ v),
    box(3, 3),
    W33,
)
numpy_row(
    "matmul_no_transpose",
    "x's gradient with W for Wᵀ",
    lambda x, W: x @ W,
    lambda v, x, W: (v @ W, x.T @ v),
    lambda v, x, W: (v @ W.T, x.T @ v),
    X23,
    W33,
)
numpy_row(
    "matmul_twice",
    "a weight used twice, counted once",
    lambda x, W: x @ W @ W,
    lambda v, x, W: (v @ W.T @ W.T, (x @ W).T @ v),
    lambda v, x, W: (v @ W.T @ W.T, (x @ W).T @ v + x.T @ (v @ W.T)),
    X23,
    W33,
)
numpy_row(
    "dot_self",
    "⟨x, x⟩ accumulated once",
    lambda x: np.sum(x * x),
    lambda v, x: (v * x,),
    lambda v, x: (2 * v * x,),
    box(5),
)
numpy_row(
    "bias_first_row",
    "bias gradient of the first row only",
    lambda x, b: x + b,
    lambda v, x, b: (v, v[0]),
    lambda v, x, b: (v, np.sum(v, axis=0)),
    X23,
    B3,
)
numpy_row(
    "bias_mean",
    "broadcast axis averaged, not summed",
    lambda x, b: x + b,
    lambda v, x, b: (v, np.sum(v, axis=0) / 2),
    lambda v, x, b: (v, np.sum(v, axis=0)),
    X23,
    B3,
)
numpy_row(
    "bias_not_summed",
    "broadcast axis not summed at all: wrong shape",
    lambda x, b: x + b,
    lambda v, x, b: (v, v),
    lambda v, x, b: (v, np.sum(v, axis=0)),
    X23,
    B3,
)
numpy_row(
    "scale_forgets_x",
    "gradient of a broadcast scale without x",
    lambda x, s: x * s,
    lambda v, x, s: (v * s, np.sum(v, axis=0)),
    lambda v, x, s: (v * s, np.sum(v * x, axis=0)),
    X23,
    B3,
)
numpy_row(
    "softmax_diagonal",
    "diagonal of the Jacobian only",
    softmax,
    lambda v, x: (v * softmax(x) * (1 - softmax(x)),),
    lambda v, x: (softmax(x) * (v - np.sum(v * softmax(x), axis=-1, keepdims=True)),),
    X23,
)
numpy_row(
    "softmax_axis",
    "summed along the wrong axis",
    softmax,
    lambda v, x: (softmax(x) * (v - np.sum(v * softmax(x), axis=0, keepdims=True)),),
    lambda v, x: (softmax(x) * (v - np.sum(v * softmax(x), axis=-1, keepdims=True)),),
    W33,
)
numpy_row(
    "logsumexp_unnormalised",
    "exponentials not divided by their sum",
    logsumexp,
    lambda v, x: (v[:, None] * np.exp(x - np.max(x, axis=-1, keepdims=True)),),
    lambda v, x: (v[:, None] * softmax(x),),
    X23,
)
numpy_row(
    "log_softmax_sum",
    "the sum over classes missing",
    lambda x: x - logsumexp(x)[:, None],
    lambda v, x: (v * (1 - softmax(x)),),
    lambda v, x: (v - softmax(x) * np.sum(v, axis=-1, keepdims=True),),
    X23,
)
numpy_row(
    "cross_entropy_onehot",
    "softmax without the one-hot",
    lambda x: np.sum(logsumexp(x) - x[:, 0]),
    lambda v, x: (v * softmax(x),),
    lambda v, x: (v * (softmax(x) - np.array([1.0, 0.0, 0.0])),),
    X23,
)


def standardised(x):
    c = x - mean_last(x)
    return c / np.sqrt(mean_last(c * c) + 0.125)


def layer_norm_vjp(v, x, *, mean=True, variance=True):
    c = x - mean_last(x)
    r = 1 / np.sqrt(mean_last(c * c) + 0.125)
    g = v * r - (c * r * r * r * mean_last(v * c) if variance else 0)
    return (g - mean_last(g) if mean else g,)


numpy_row(
    "layer_norm_mean",
    "mean taken for a constant",
    standardised,
    lambda v, x: layer_norm_vjp(v, x, mean=False),
    layer_norm_vjp,
    box(2, 4),
)
numpy_row(
    "layer_norm_variance",
    "variance taken for a constant",
    standardised,
    lambda v, x: layer_norm_vjp(v, x, variance=False),
    layer_norm_vjp,
    box(2, 4),
)
numpy_row(
    "rms_norm",
    "r.m.s. taken for a constant",
    lambda x: x / np.sqrt(mean_last(x * x) + 0.125),
    lambda v, x: (v / np.sqrt(mean_last(x * x) + 0.125),),
    lambda v, x: (
        v / np.sqrt(mean_last(x * x) + 0.125)
        - x
        * mean_last(v * x)
        / (mean_last(x * x) + 0.125) ** 1
        / np.sqrt(mean_last(x * x) + 0.125),
    ),
    box(2, 4),
)
numpy_row(
    "unit_vector",
    "projection missing",
    lambda x: x / np.sqrt(np.sum(x * x)),
    lambda v, x: (v / np.sqrt(np.sum(x * x)),),
    lambda v, x: ((v - x * np.sum(v * x) / np.sum(x * x)) / np.sqrt(np.sum(x * x)),),
    box(3, low=0.25, high=2),
)
numpy_row(
    "variance_mean",
    "variance with the factor of the other divisor",
    lambda x: np.sum((x - np.sum(x) / 4) ** 2) / 3,
    lambda v, x: (2 * v * (x - np.sum(x) / 4) / 4,),
    lambda v, x: (2 * v * (x - np.sum(x) / 4) / 3,),
    box(4),
)
numpy_row(
    "cumsum_forward",
    "cumulative sum not reversed",
    np.cumsum,
    lambda v, x: (np.cumsum(v),),
    lambda v, x: (np.flip(np.cumsum(np.flip(v))),),
    box(4),
)
numpy_row(
    "difference_boundary",
    "first element of a difference's transpose",
    lambda x: x[1:] - x[:-1],
    lambda v, x: (np.concatenate([v, 0 * v[:1]]) * -1 + np.concatenate([v[:1], v]),),
    lambda v, x: (np.concatenate([0 * v[:1], v]) - np.concatenate([v, 0 * v[:1]]),),
    box(4),
)


def correlate(x, k):
    return np.stack([np.sum(x[i : i + 2] * k) for i in range(3)])


def correlate_vjp(v, x, k, *, flipped=False):
    z = np.zeros(1)
    a, b = (k[1], k[0]) if flipped else (k[0], k[1])
    x_bar = np.concatenate([v * a, z]) + np.concatenate([z, v * b])
    return x_bar, np.stack([np.sum(v * x[:-1]), np.sum(v * x[1:])])


numpy_row(
    "convolution_flipped",
    "kernel flipped in the input's gradient",
    correlate,
    lambda v, x, k: correlate_vjp(v, x, k, flipped=True),
    correlate_vjp,
    box(4),
    box(2),
)
numpy_row(
    "pooling_divisor",
    "1/k of an average pool",
    lambda x: np.sum(x.reshape(2, 2), axis=1) / 2,
    lambda v, x: (np.repeat(v, 2),),
    lambda v, x: (np.repeat(v, 2) / 2,),
    box(4),
)
numpy_row(
    "max_ties",
    "every tied maximum gets the whole gradient (HIPS/autograd#141)",
    np.max,
    lambda v, x: (v * np.where(x == np.max(x), 1.0, 0.0),),
    lambda v, x: (
        v * np.where(x == np.max(x), 1.0, 0.0) / np.sum(np.where(x == np.max(x), 1.0, 0.0)),
    ),
    np.array([1.0, 1.0, -1.0]),
)
numpy_row(
    "max_first_row",
    "maximum's gradient always at position 0",
    np.max,
    lambda v, x: (v * np.array([1.0, 0.0, 0.0]),),
    lambda v, x: (
        v * np.where(x == np.max(x), 1.0, 0.0) / np.sum(np.where(x == np.max(x), 1.0, 0.0)),
    ),
    box(3),
)


def gather_vjp(v, x, *, accumulate):
    g = np.zeros(3)
    if accumulate:
        np.add.at(g, [0, 2, 0], v)
    else:
        g[[0, 2, 0]] = v
    return (g,)


numpy_row(
    "gather_overwrites",
    "repeated indices overwritten, not added",
    lambda x: x[np.array([0, 2, 0])],
    lambda v, x: gather_vjp(v, x, accumulate=False),
    lambda v, x: gather_vjp(v, x, accumulate=True),
    box(3),
)


def flipped(v, x):
    g = 2 * v * x
    return (np.where(np.arange(1000) == 637, -g, g),)


N1000 = np.random.default_rng(0).normal(size=1000)
numpy_row(
    "one_of_thousand",
    "one sign of 1,000 flipped",
    lambda x: np.sum(x * x),
    flipped,
    lambda v, x: (2 * v * x,),
    N1000,
)
numpy_row(
    "last_element",
    "loop stops one short",
    lambda x: np.sum(np.sin(x)),
    lambda v, x: (v * np.cos(x) * np.where(np.arange(200) < 199, 1.0, 0.0),),
    lambda v, x: (v * np.cos(x),),
    np.linspace(-1, 1, 200),
)
numpy_row(
    "swapped_pair",
    "two elements of 300 swapped",
    lambda x: np.sum(np.exp(x)),
    lambda v, x: (v * np.exp(np.concatenate([x[:10], x[11:12], x[10:11], x[12:]])),),
    lambda v, x: (v * np.exp(x),),
    np.linspace(-2, 2, 300),
)
numpy_row(
    "outer_swapped",
    "operands of an outer product swapped",
    np.outer,
    lambda v, a, b: (v.T @ b, v @ a),
    lambda v, a, b: (v @ b, v.T @ a),
    B3,
    B3,
)
numpy_row(
    "quadratic_form",
    "xᵀAx with A taken for symmetric",
    lambda x, A: np.sum(x * (A @ x)),
    lambda v, x, A: (2 * v * (A @ x), v * np.outer(x, x)),
    lambda v, x, A: (v * (A @ x + A.T @ x), v * np.outer(x, x)),
    B3,
    W33,
)
numpy_row(
    "attention_scale",
    "1/√d missing in the backward",
    lambda q, k: softmax((q @ k.T) / 2),
    lambda v, q, k: _attention(v, q, k, 1),
    lambda v, q, k: _attention(v, q, k, 2),
    box(2, 4),
    box(3, 4),
)


def _attention(v, q, k, scale):
    s = softmax((q @ k.T) / 2)
    inner = s * (v - np.sum(v * s, axis=-1, keepdims=True)) / scale
    return inner @ k, inner.T @ q


numpy_row(
    "two_layers_mask",
    "hidden mask from the output, not the input",
    lambda x, W: np.sum(np.maximum(x @ W, 0) ** 2),
    lambda v, x, W: ((2 * v * (x @ W)) @ W.T, x.T @ (2 * v * (x @ W))),
    lambda v, x, W: ((2 * v * np.maximum(x @ W, 0)) @ W.T, x.T @ (2 * v * np.maximum(x @ W, 0))),
    X23,
    W33,
)
numpy_row(
    "dropout_scale",
    "1/keep of a fixed mask missing",
    lambda x: x * np.array([1.0, 0.0, 1.0]) / 0.75,
    lambda v, x: (v * np.array([1.0, 0.0, 1.0]),),
    lambda v, x: (v * np.array([1.0, 0.0, 1.0]) / 0.75,),
    B3,
)
numpy_row(
    "transpose_forgotten",
    "reshape in place of a transpose",
    lambda x: x.T * np.array([1.0, 2.0]),
    lambda v, x: ((v * np.array([1.0, 2.0])).reshape(2, 3),),
    lambda v, x: ((v * np.array([1.0, 2.0])).T,),
    X23,
)
numpy_row(
    "cosine_norm",
    "norm taken for a constant in a cosine similarity",
    lambda a, b: np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)),
    lambda v, a, b: (
        v * b / np.sqrt(np.sum(a * a) * np.sum(b * b)),
        v * a / np.sqrt(np.sum(a * a) * np.sum(b * b)),
    ),
    lambda v, a, b: tuple(
        v
        * (
            o / np.sqrt(np.sum(a * a) * np.sum(b * b))
            - s * np.sum(a * b) / (np.sum(s * s) * np.sqrt(np.sum(a * a) * np.sum(b * b)))
        )
        for s, o in ((a, b), (b, a))
    ),
    box(3, low=0.5, high=2),
    box(3, low=0.5, high=2),
)
numpy_row(
    "logdet_no_transpose",
    "inverse not transposed",
    lambda A: np.log(A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]),
    lambda v, A: (
        v * np.array([[1, 0], [0, 0]]) * A[1, 1] / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
        + v * np.array([[0, 0], [0, 1]]) * A[0, 0] / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
        - v * (A * np.array([[0, 1], [1, 0]])) / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]),
    ),
    lambda v, A: (
        v * np.array([[1, 0], [0, 0]]) * A[1, 1] / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
        + v * np.array([[0, 0], [0, 1]]) * A[0, 0] / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0])
        - v * (A.T * np.array([[0, 1], [1, 0]])) / (A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0]),
    ),
    np.array([[3.0, 0.5], [-1.0, 2.0]]),
)
