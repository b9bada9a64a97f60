"""Rows that nobody tuned gradcheck for: sums, losses, normalisations, indices, matrices, forward mode."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_jvp_row, numpy_row, scattered

# Cumulative sums and products, reductions, ties.


def suffix_sums(v):
    return np.cumsum(v[::-1])[::-1]


def log_cumulative_logs(v, x):
    y = np.logaddexp.accumulate(x)
    return (np.exp(x + np.log(suffix_sums(np.exp(np.log(v) - y)))),)


def log_cumulative(v, x):
    return (np.exp(x) * suffix_sums(v * np.exp(-np.logaddexp.accumulate(x))),)


numpy_row(
    "logcumsumexp-negative-cotangent", "logcumsumexp backward in the log of the cotangent",
    np.logaddexp.accumulate, log_cumulative_logs, log_cumulative, box(4, low=-2, high=2),
    expected="nonfinite",
)  # fmt: skip
numpy_row(
    "cumsum-exclusive", "cumsum(exclusive=True): the gradient is inclusive",
    lambda x: np.concatenate([np.zeros(1), np.cumsum(x[:-1])]),
    lambda v, x: (suffix_sums(v),),
    lambda v, x: (np.concatenate([suffix_sums(v[1:]), np.zeros(1)]),), box(5),
)  # fmt: skip
numpy_row(
    "product-of-two-zeros", "prod backward that puts 1 for every zero, as if there were one",
    np.prod,
    lambda v, x: (v * np.prod(np.where(x == 0, 1.0, x)) / np.where(x == 0, 1.0, x) * (x == 0),),
    lambda v, x: (np.stack([v * np.prod(np.delete(x, i)) for i in range(x.size)]),),
    np.array([0.0, 3.0, 0.0, 2.0]),
)  # fmt: skip
numpy_row(
    "row-maximum-ties", "amax(axis): ties of all rows counted together",
    lambda x: x.max(1),
    lambda v, x: (v[:, None] * (x == x.max(1, keepdims=True)) / (x == x.max(1, keepdims=True)).sum(),),
    lambda v, x: (v[:, None] * (x == x.max(1, keepdims=True))
                  / (x == x.max(1, keepdims=True)).sum(1, keepdims=True),),
    np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]),
)  # fmt: skip
numpy_row(
    "quantile-weights", "quantile: weights of the two neighbours swapped",
    lambda x: np.quantile(x, 0.3),
    lambda v, x: (scattered(x, np.argsort(x)[1:3], v * np.array([4 * 0.3 - 1, 2 - 4 * 0.3])),),
    lambda v, x: (scattered(x, np.argsort(x)[1:3], v * np.array([2 - 4 * 0.3, 4 * 0.3 - 1])),),
    box(5),
)  # fmt: skip


# Losses and layers.


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def temperature_vjp(projected):
    def vjp(v, x, t):
        s = softmax(x / t)
        g = s * (v - (v * s).sum(-1, keepdims=True)) / t
        return g, -((g if projected else v * s / t) * x).sum() / t

    return vjp


numpy_row(
    "softmax-temperature", "learned temperature: its gradient lacks the softmax's projection",
    lambda x, t: softmax(x / t), temperature_vjp(False), temperature_vjp(True),
    box(2, 4, low=-1, high=1), box(low=1, high=2),
)  # fmt: skip
MASK = np.float32([1, 0, 1, 1])
numpy_row(
    "dice-denominator", "dice loss: the prediction in the denominator taken as constant",
    lambda x: 1 - 2 * (x * MASK).sum() / (x.sum() + MASK.sum()),
    lambda v, x: (-2 * v * MASK / (x.sum() + MASK.sum()),),
    lambda v, x: (-2 * v * (MASK * (x.sum() + MASK.sum()) - (x * MASK).sum()) / (x.sum() + MASK.sum()) ** 2,),
    box(4, low=0.1, high=1, dtype="float32"),
)  # fmt: skip


def length(x):
    return np.sqrt((x * x).sum(-1, keepdims=True))


def triplet_vjp(both):
    def vjp(v, a, p, n):
        active = v * ((length(a - p) - length(a - n) + 1)[:, 0] > 0)
        near = active[:, None] * (a - p) / length(a - p)
        far = active[:, None] * (a - n) / length(a - n)
        return near - both * far, -near, far

    return vjp


numpy_row(
    "triplet-anchor", "triplet margin loss: the anchor is not pushed from the negative",
    lambda a, p, n: np.maximum(length(a - p) - length(a - n) + 1, 0)[:, 0],
    triplet_vjp(0), triplet_vjp(1),
    box(2, 3, low=1, high=2), box(2, 3, low=-1, high=0), box(2, 3, low=2.5, high=4),
)  # fmt: skip
MEAN, SPREAD = np.array([0.5, -1.0, 2.0]), np.sqrt(np.array([1.0, 0.25, 4.0]) + 1e-5)


def frozen_norm_vjp(training):
    def vjp(v, x, w, b):
        h, g = (x - MEAN) / SPREAD, v * w
        if training:
            g = g - g.mean(0) - h * (g * h).mean(0)
        return g / SPREAD, (v * h).sum(0), v.sum(0) + 0 * b

    return vjp


numpy_row(
    "batch-norm-evaluation", "batch norm in evaluation: backward of training",
    lambda x, w, b: (x - MEAN) / SPREAD * w + b, frozen_norm_vjp(True), frozen_norm_vjp(False),
    box(4, 3), box(3), box(3),
)  # fmt: skip


def group_norm(x):
    g = x.reshape(2, 2, 4)
    centred = g - g.mean(-1, keepdims=True)
    return (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)).reshape(2, 8)


def group_norm_vjp(axes):
    def vjp(v, x):
        g, w, h = x.reshape(2, 2, 4), v.reshape(2, 2, 4), group_norm(x).reshape(2, 2, 4)
        scale = np.sqrt(g.var(-1, keepdims=True) + 1e-3)
        inner = w - w.mean(axes, keepdims=True) - h * (w * h).mean(axes, keepdims=True)
        return ((inner / scale).reshape(2, 8),)

    return vjp


numpy_row(
    "group-norm-all-channels", "group norm: the backward averages over all channels, not the group's",
    group_norm, group_norm_vjp((1, 2)), group_norm_vjp(-1), box(2, 8),
)  # fmt: skip
COS, SIN = np.float32([0.8, -0.6]), np.float32([0.6, 0.8])


def rotate(x, sin=SIN):
    a, b = x[:, :2], x[:, 2:]
    return np.concatenate([a * COS - b * sin, b * COS + a * sin], axis=1)


numpy_row(
    "rotary-embedding", "fused rotary embedding: the backward rotates forwards",
    rotate, lambda v, x: (rotate(v),), lambda v, x: (rotate(v, -SIN),), box(2, 4, dtype="float32"),
)  # fmt: skip


def strided(x, w):
    return np.stack([(x[2 * i : 2 * i + 3] * w).sum() for i in range(3)])


def strided_vjp(apart):
    def vjp(v, x, w):
        spread = np.zeros(5)
        spread[::2] = v
        dense = np.concatenate([v, np.zeros(2)])
        return (np.convolve(spread if apart else dense, w),
                np.stack([(v * x[k : k + 5 : 2]).sum() for k in range(3)]))  # fmt: skip

    return vjp


numpy_row(
    "convolution-stride", "transposed convolution without the stride's zeros",
    strided, strided_vjp(False), strided_vjp(True), box(7), box(3),
)  # fmt: skip

# Indices and broadcasts.

WORDS = np.array([2, 0, 1, 0, 2])
numpy_row(
    "padding-row", "embedding: the padding row, zero forwards, gets a gradient",
    lambda w: w[WORDS] * (WORDS != 0)[:, None],
    lambda v, w: (scattered(w, WORDS, v),), lambda v, w: (scattered(w, WORDS, v * (WORDS != 0)[:, None]),),
    box(3, 2),
)  # fmt: skip
PICKS = np.array([[0, 2], [1, 1], [2, 0]])
numpy_row(
    "take-along-axis", "gather: scattered back along the other axis",
    lambda x: np.take_along_axis(x, PICKS, axis=1),
    lambda v, x: (scattered(x, (PICKS, np.arange(2)[None]), v),),
    lambda v, x: (scattered(x, (np.arange(3)[:, None], PICKS), v),),
    box(3, 3),
)  # fmt: skip
FAR = np.array([3, 150, 3])
numpy_row(
    "index-wraps", "positions kept in eight bits: those above 127 wrap",
    lambda x: x[FAR] ** 2,
    lambda v, x: (scattered(x, FAR.astype(np.int8), 2 * v * x[FAR]),),
    lambda v, x: (scattered(x, FAR, 2 * v * x[FAR]),), box(160),
)  # fmt: skip


def cell(c):
    c = np.clip(c, 0, 3)
    i = np.minimum(np.floor(c), 2).astype(int)
    return i, c - i


def interpolate(x, c):
    i, w = cell(c)
    return x[i] * (1 - w) + x[i + 1] * w


def interpolate_vjp(clipped):
    def vjp(v, x, c):
        i, w = cell(c)
        inside = (c >= 0) & (c <= 3) if clipped else True
        return scattered(x, i, v * (1 - w)) + scattered(x, i + 1, v * w), v * (
            x[i + 1] - x[i]
        ) * inside

    return vjp


numpy_row(
    "grid-sample-border", "grid_sample(padding_mode='border'): coordinates move beyond the border",
    interpolate, interpolate_vjp(False), interpolate_vjp(True), box(4), box(3, low=-1, high=4),
)  # fmt: skip
numpy_row(
    "column-beside-row", "(3, 1) times (3,): both look alike to an un-broadcast by size",
    lambda x, y: x * y,
    lambda v, x, y: ((v * y).sum(0)[:, None], (v * x).sum(0)),
    lambda v, x, y: ((v * y).sum(1, keepdims=True), (v * x).sum(0)),
    box(3, 1), box(3),
)  # fmt: skip

# Matrices.


def kron_vjp(letters):
    def vjp(v, a, b):
        blocks = v.reshape(2, 2, 2, 2)
        return np.einsum(f"{letters},kl->ij", blocks, b), np.einsum(f"{letters},ij->kl", blocks, a)

    return vjp


numpy_row(
    "kron-blocks", "kron: rows and columns of the blocks confused",
    np.kron, kron_vjp("ijkl"), kron_vjp("ikjl"), box(2, 2), box(2, 2),
)  # fmt: skip
SYMMETRIC = np.array([[2.0, 0.5, 0.1], [0.5, -1.0, 0.3], [0.1, 0.3, 5.0]])


def vectors(x):
    return np.linalg.eigh((x + x.T) / 2)[1]


numpy_row(
    "eigenvalues-transposed", "eigvalsh: eigenvectors taken from the rows",
    lambda x: np.linalg.eigvalsh((x + x.T) / 2),
    lambda v, x: ((vectors(x).T * v) @ vectors(x),), lambda v, x: ((vectors(x) * v) @ vectors(x).T,),
    SYMMETRIC,
)  # fmt: skip
TRIANGLE = np.array([[4.0, 9.0, 9.0], [1.0, 3.0, 9.0], [-1.0, 0.5, 5.0]])


def triangular_vjp(mask):
    def vjp(v, a, b):
        w = np.linalg.solve(np.tril(a).T, v)
        return -mask(np.outer(w, np.linalg.solve(np.tril(a), b))), w

    return vjp


numpy_row(
    "triangular-solve-mask", "triangular_solve: a gradient for the half that is not read",
    lambda a, b: np.linalg.solve(np.tril(a), b), triangular_vjp(lambda g: g), triangular_vjp(np.tril),
    TRIANGLE, box(3),
)  # fmt: skip
numpy_row(
    "determinant-singular", "det' = det · inverse, by the pseudo-inverse, at a singular matrix",
    np.linalg.det,
    lambda v, a: (v * np.linalg.det(a) * np.linalg.pinv(a).T,),
    lambda v, a: (v * np.array([[a[1, 1], -a[1, 0]], [-a[0, 1], a[0, 0]]]),),
    np.array([[1.0, 2.0], [2.0, 4.0]]),
)  # fmt: skip
numpy_row(
    "cross-order", "cross product: factors of the first gradient in the wrong order", np.cross,
    lambda v, a, b: (np.cross(v, b), np.cross(v, a)), lambda v, a, b: (np.cross(b, v), np.cross(v, a)),
    box(3), box(3),
)  # fmt: skip

# Forward mode.

numpy_jvp_row(
    "sort-tangent", "forward-mode sort: tangents sorted by their own size", np.sort,
    lambda t, x: np.sort(t[0]), lambda t, x: t[0][np.argsort(x)], box(5),
)  # fmt: skip


def standardise(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-3)


def standardise_jvp(variance):
    def jvp(t, x):
        h, moved = standardise(x), t[0] - t[0].mean()
        return (moved - variance * h * (h * moved).mean()) / np.sqrt(x.var() + 1e-3)

    return jvp


numpy_jvp_row(
    "layer-norm-tangent", "forward-mode layer norm: the variance's tangent left out",
    standardise, standardise_jvp(0), standardise_jvp(1), box(6),
)  # fmt: skip


def cumprod_jvp(t, x):
    product, tangent, tangents = 1.0, 0.0, []
    for xi, ti in zip(x, t[0], strict=True):
        product, tangent = product * xi, tangent * xi + product * ti
        tangents.append(tangent)
    return np.stack(tangents)


numpy_jvp_row(
    "cumprod-tangent", "forward-mode cumprod through t / x, at a zero", np.cumprod,
    lambda t, x: np.cumprod(x) * np.cumsum(t[0] / x), cumprod_jvp,
    np.array([2.0, 0.0, 3.0, -1.0]), expected="nonfinite",
)  # fmt: skip
numpy_jvp_row(
    "norm-tangent", "forward-mode row norms: divided by the square",
    lambda x: length(x)[:, 0],
    lambda t, x: (t[0] * x).sum(1) / (x * x).sum(1), lambda t, x: (t[0] * x).sum(1) / length(x)[:, 0],
    box(2, 3, low=0.5, high=2),
)  # fmt: skip
