"""Rows written without a look at gradcheck or the first corpus: sums, indices, matrices, forward mode."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_jvp_row, numpy_row, scattered

# Broadcasts, sums and reductions.


def rows(x):
    return x.sum(axis=-1, keepdims=True)


def snake_slope(x, a):
    return x * np.sin(2 * a * x) / a - (np.sin(a * x) / a) ** 2


numpy_row(
    "snake-frequency-unsummed", "BigVGAN Snake: the per-channel parameter gets one row's gradient",
    lambda x, a: x + np.sin(a * x) ** 2 / a,
    lambda v, x, a: (v * (1 + np.sin(2 * a * x)), (v * snake_slope(x, a))[-1]),
    lambda v, x, a: (v * (1 + np.sin(2 * a * x)), (v * snake_slope(x, a)).sum(0)),
    box(4, 3), box(3, low=0.5, high=2),
)  # fmt: skip
numpy_row(
    "prelu-weight-axis", "Chainer and MXNet PReLU: the weight's gradient summed over the wrong axis",
    lambda x, w: np.where(x > 0, x, w * x),
    lambda v, x, w: (v * np.where(x > 0, 1.0, w), (v * x * (x <= 0)).sum(1)),
    lambda v, x, w: (v * np.where(x > 0, 1.0, w), (v * x * (x <= 0)).sum(0)),
    box(3, 3), box(3, low=0.1, high=0.5),
)  # fmt: skip
numpy_row(
    "where-scalar-mean", "a 0-d operand of where: mean in place of sum",
    lambda x, s: np.where(x > 0, x * s, s),
    lambda v, x, s: (v * s * (x > 0), (v * np.where(x > 0, x, 1.0)).mean()),
    lambda v, x, s: (v * s * (x > 0), (v * np.where(x > 0, x, 1.0)).sum()),
    box(5, low=0.5, high=2), box(low=1, high=2),
)  # fmt: skip
numpy_row(
    "batched-matmul-shared-weight", "autograd matmul: a broadcast batch axis gets the first batch alone",
    lambda a, b: a @ b,
    lambda v, a, b: (v @ b.T, a[0].T @ v[0]),
    lambda v, a, b: (v @ b.T, (np.swapaxes(a, 1, 2) @ v).sum(0)),
    box(2, 3, 2), box(2, 2),
)  # fmt: skip
numpy_row(
    "einsum-transposed", "torch einsum backward: operand's letters swapped",
    lambda a, b: np.einsum("ij,jk->k", a, b),
    lambda v, a, b: (np.ones((3, 1)) * (b.T @ v), np.outer(a.sum(0), v)),
    lambda v, a, b: (np.ones((3, 1)) * (b @ v), np.outer(a.sum(0), v)),
    box(3, 3), box(3, 3),
)  # fmt: skip
numpy_row(
    "logsumexp-axis", "scipy/autograd logsumexp(axis=0): normalised along the other axis",
    lambda x: np.log(np.exp(x - x.max(0)).sum(0)) + x.max(0),
    lambda v, x: (v * np.exp(x - x.max(1, keepdims=True)) / rows(np.exp(x - x.max(1, keepdims=True))),),
    lambda v, x: (v * np.exp(x - x.max(0)) / np.exp(x - x.max(0)).sum(0),),
    box(3, 3),
)  # fmt: skip
numpy_row(
    "cumsum-not-reversed", "MXNet, TF cumsum: the gradient runs forwards",
    np.cumsum, lambda v, x: (np.cumsum(v),), lambda v, x: (np.cumsum(v[::-1])[::-1],), box(5),
)  # fmt: skip


def cumprod_vjp(v, x):
    parts = [
        sum(v[j] * np.prod(x[:i]) * np.prod(x[i + 1 : j + 1]) for j in range(i, len(x)))
        for i in range(len(x))
    ]
    return (np.stack(parts),)


numpy_row(
    "cumprod-by-division", "torch and TF cumprod: division by an input that is zero",
    np.cumprod,
    lambda v, x: (np.cumsum((v * np.cumprod(x))[::-1])[::-1] / x,),
    cumprod_vjp, np.array([2.0, 0.0, 3.0, -1.0]), expected="nonfinite",
)  # fmt: skip
numpy_row(
    "einsum-trace-product", "gradient of trace(AB): B in place of its transpose",
    lambda a, b: np.trace(a @ b),
    lambda v, a, b: (v * b, v * a.T), lambda v, a, b: (v * b.T, v * a.T), box(3, 3), box(3, 3),
)  # fmt: skip
numpy_row(
    "mean-and-variance", "TF moments, two results: the variance's cotangent dropped",
    lambda x: (x.mean(), x.var()),
    lambda v, x: (np.full(x.shape, v[0] / x.size),),
    lambda v, x: (v[0] / x.size + 2 * v[1] * (x - x.mean()) / x.size,),
    box(5),
)  # fmt: skip


def at(x, i, v):
    g = np.zeros_like(x)
    g[i] = v
    return g


numpy_row(
    "max-with-index", "max that returns its index as well: gradient one place off",
    lambda x: (x.max(), np.argmax(x)),
    lambda v, x: (at(x, (np.argmax(x) + 1) % x.size, v[0]),),
    lambda v, x: (at(x, np.argmax(x), v[0]),),
    box(5),
)  # fmt: skip

# Indices.


numpy_row(
    "gather-duplicates", "Theano AdvancedSubtensor, MXNet take: duplicates assigned, not added",
    lambda x, i: x[i],
    lambda v, x, i: (at(x, i, v), None), lambda v, x, i: (scattered(x, i, v), None),
    box(3), np.array([0, 0, 2, 1, 0]),
)  # fmt: skip


def scatter(x, u):
    y = x.copy()
    y[[1, 3]] = u
    return y


numpy_row(
    "scatter-overwritten", "torch index_put_, MXNet scatter_nd: overwritten elements keep their gradient",
    scatter,
    lambda v, x, u: (v, v[[1, 3]]), lambda v, x, u: (np.array([1.0, 0, 1, 0, 1]) * v, v[[1, 3]]),
    box(5), box(2),
)  # fmt: skip
numpy_row(
    "sort-inverse-permutation", "sort's gradient by the permutation in place of its inverse",
    np.sort,
    lambda v, x: (v[np.argsort(x)],), lambda v, x: (at(x, np.argsort(x), v),), box(5),
)  # fmt: skip
numpy_row(
    "cummax-identity", "torch cummax before it had a backward: gradient stays in place",
    np.maximum.accumulate,
    lambda v, x: (v,),
    lambda v, x: (scattered(x, np.array([np.argmax(x[: i + 1]) for i in range(x.size)]), v),),
    box(5),
)  # fmt: skip
numpy_row(
    "max-ties-all", "Theano max: every tie gets the whole gradient",
    lambda x: x.max(),
    lambda v, x: (v * (x == x.max()),), lambda v, x: (at(x, np.argmax(x), v),),
    np.array([2.0, 2.0, 1.0]),
)  # fmt: skip
numpy_row(
    "median-even", "torch's lower median's gradient for NumPy's mean of two",
    np.median,
    lambda v, x: (at(x, np.argsort(x)[1], v),), lambda v, x: (at(x, np.argsort(x)[[1, 2]], v / 2),),
    box(4),
)  # fmt: skip


def windows(x):
    return np.stack([x[i : i + 3] for i in range(x.size - 2)])


def winners(x):
    return np.arange(x.size - 2) + np.argmax(windows(x), axis=1)


numpy_row(
    "max-pool-overlap", "Caffe-like max pooling: a winner of two windows gets one's gradient",
    lambda x: windows(x).max(1),
    lambda v, x: (at(x, winners(x), v),), lambda v, x: (scattered(x, winners(x), v),), box(6),
)  # fmt: skip
POOL = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])
numpy_row(
    "average-pool-padding", "MKL-DNN AvgPool: count_include_pad in the backward alone",
    lambda x: POOL @ x / POOL.sum(1),
    lambda v, x: (POOL.T @ v / 3,), lambda v, x: (POOL.T @ (v / POOL.sum(1)),), box(4),
)  # fmt: skip
numpy_row(
    "reflect-pad", "torch reflection_pad1d on MPS: the padding's cotangents lost",
    lambda x: np.pad(x, 2, mode="reflect"),
    lambda v, x: (v[2:-2],),
    lambda v, x: (scattered(x, np.array([2, 1, 0, 1, 2, 3, 2, 1]), v),),
    box(4),
)  # fmt: skip
numpy_row(
    "roll-back", "roll's gradient rolled the same way", lambda x: np.roll(x, 1),
    lambda v, x: (np.roll(v, 1),), lambda v, x: (np.roll(v, -1),), box(5),
)  # fmt: skip
numpy_row(
    "repeat-as-tile", "Theano repeat: summed as if it were tile",
    lambda x: np.repeat(x, 2),
    lambda v, x: (v.reshape(2, -1).sum(0),), lambda v, x: (v.reshape(-1, 2).sum(1),), box(3),
)  # fmt: skip
numpy_row(
    "transpose-inverse", "transpose(1, 2, 0): undone by itself, not by its inverse",
    lambda x: np.transpose(x, (1, 2, 0)),
    lambda v, x: (np.transpose(v, (1, 2, 0)),), lambda v, x: (np.transpose(v, (2, 0, 1)),),
    box(2, 2, 2),
)  # fmt: skip
numpy_row(
    "reshape-fortran", "autograd reshape(order='F'): backward in C order",
    lambda x: np.reshape(x, 6, order="F"),
    lambda v, x: (np.reshape(v, (2, 3)),), lambda v, x: (np.reshape(v, (2, 3), order="F"),),
    box(2, 3),
)  # fmt: skip
numpy_row(
    "diff-assigned", "diff: the second use of an element overwrites the first",
    np.diff,
    lambda v, x: (np.concatenate([-v[:1], v]),),
    lambda v, x: (np.concatenate([np.zeros(1), v]) - np.concatenate([v, np.zeros(1)]),),
    box(5),
)  # fmt: skip
numpy_row(
    "strict-triangle", "triu(k=1): the diagonal let through",
    lambda x: np.triu(x, 1), lambda v, x: (np.triu(v),), lambda v, x: (np.triu(v, 1),), box(3, 3),
)  # fmt: skip


def steps(h):
    """Give the adjoint of differences of four numbers, applied to h."""
    return np.concatenate([np.zeros(1), h]) - np.concatenate([h, np.zeros(1)])


def means(h):
    return 0.5 * (np.concatenate([np.zeros(1), h]) + np.concatenate([h, np.zeros(1)]))


numpy_row(
    "trapezoid-abscissae", "torch trapz: no gradient for the abscissae",
    lambda y, x: (0.5 * (y[1:] + y[:-1]) * (x[1:] - x[:-1])).sum(),
    lambda v, y, x: (means(v * (x[1:] - x[:-1])), 0 * x),
    lambda v, y, x: (means(v * (x[1:] - x[:-1])), steps(v * 0.5 * (y[1:] + y[:-1]))),
    box(4), box(4),
)  # fmt: skip
SEGMENTS = np.array([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
numpy_row(
    "segment-mean", "TF segment_mean: not divided by the count",
    lambda x: SEGMENTS @ x / SEGMENTS.sum(1),
    lambda v, x: (SEGMENTS.T @ v,), lambda v, x: (SEGMENTS.T @ (v / SEGMENTS.sum(1)),), box(5),
)  # fmt: skip
numpy_row(
    "unused-input", "gradient of an unused argument is the upstream one",
    lambda x, y: x * x, lambda v, x, y: (2 * x * v, v), lambda v, x, y: (2 * x * v, 0 * y), box(3), box(3),
)  # fmt: skip
numpy_row(
    "empty-beside", "concatenation with an empty part: offset wrong by one",
    lambda x, w: np.concatenate([x, w]) ** 2,
    lambda v, x, w: (2 * v[:0], np.roll(2 * v * w, 1)), lambda v, x, w: (2 * v[:0], 2 * v * w),
    np.zeros(0), box(3, low=1, high=2),
)  # fmt: skip
ONE = np.where(np.arange(10007) == 7777, -1.0, 1.0)
numpy_row(
    "one-of-many", "a lane of one vector register, sign flipped", np.sin,
    lambda v, x: (v * np.cos(x) * ONE,), lambda v, x: (v * np.cos(x),), box(10007),
)  # fmt: skip
TAIL = (np.arange(67) < 64) * np.float32(1)
numpy_row(
    "vector-tail", "a kernel's remainder loop left out", np.tanh,
    lambda v, x: (v / np.cosh(x) ** 2 * TAIL,), lambda v, x: (v / np.cosh(x) ** 2,),
    box(67, low=-2, high=2, dtype="float32"),
)  # fmt: skip

# Matrices.

numpy_row(
    "solve-not-transposed", "solve: cotangent through A in place of its transpose",
    np.linalg.solve,
    lambda v, a, b: (-np.outer(np.linalg.solve(a, v), np.linalg.solve(a, b)), np.linalg.solve(a, v)),
    lambda v, a, b: (-np.outer(np.linalg.solve(a.T, v), np.linalg.solve(a, b)), np.linalg.solve(a.T, v)),
    np.array([[4.0, 1, -1], [0.5, 3, 1], [-1, 0.25, 5]]), box(3),
)  # fmt: skip
numpy_row(
    "inverse-sign", "autograd inv, first version: minus lost",
    np.linalg.inv,
    lambda v, a: (np.linalg.inv(a).T @ v @ np.linalg.inv(a).T,),
    lambda v, a: (-np.linalg.inv(a).T @ v @ np.linalg.inv(a).T,),
    np.array([[4.0, 1, -1], [0.5, 3, 1], [-1, 0.25, 5]]),
)  # fmt: skip
numpy_row(
    "logdet-transposed", "slogdet: inverse not transposed",
    lambda x: np.linalg.slogdet(x + 4 * np.eye(3))[1],
    lambda v, x: (v * np.linalg.inv(x + 4 * np.eye(3)),),
    lambda v, x: (v * np.linalg.inv(x + 4 * np.eye(3)).T,),
    box(3, 3, low=-1, high=1),
)  # fmt: skip


def gram(x):
    return x @ x.T + 3 * np.eye(3)


def cholesky_vjp(halved):
    def vjp(v, x):
        low = np.linalg.cholesky(gram(x))
        phi = np.tril(low.T @ np.tril(v))
        phi = phi - halved * np.diag(np.diag(phi))
        s = np.linalg.solve(low.T, phi) @ np.linalg.inv(low)
        return ((s + s.T) @ x,)

    return vjp


numpy_row(
    "cholesky-diagonal", "TF cholesky_grad, Murray 2016: Φ does not halve the diagonal",
    lambda x: np.linalg.cholesky(gram(x)), cholesky_vjp(0.0), cholesky_vjp(0.5), box(3, 3, low=-1, high=1),
)  # fmt: skip
numpy_row(
    "matrix-cube", "matrix power: 3 (A²)ᵀ v as if matrices commuted",
    lambda a: a @ a @ a,
    lambda v, a: (3 * (a @ a).T @ v,),
    lambda v, a: (v @ (a @ a).T + a.T @ v @ a.T + (a @ a).T @ v,),
    box(3, 3, low=-1, high=1),
)  # fmt: skip
numpy_row(
    "outer-swapped", "outer: cotangent transposed",
    np.outer,
    lambda v, x, y: (v.T @ y, v.T @ x), lambda v, x, y: (v @ y, v.T @ x), box(3), box(3),
)  # fmt: skip
numpy_row(
    "convolution-flipped", "Theano conv1d: kernel flipped once too often",
    lambda x, w: np.stack([(x[i : i + 3] * w).sum() for i in range(4)]),
    lambda v, x, w: (np.convolve(v, w[::-1]), np.stack([(v * x[k : k + 4]).sum() for k in range(3)])),
    lambda v, x, w: (np.convolve(v, w), np.stack([(v * x[k : k + 4]).sum() for k in range(3)])),
    box(6), box(3),
)  # fmt: skip

# Forward mode.

numpy_jvp_row(
    "quotient-tangent-sign", "forward-mode division: plus for minus",
    lambda a, b: a / b,
    lambda t, a, b: (t[0] + a / b * t[1]) / b, lambda t, a, b: (t[0] - a / b * t[1]) / b,
    box(4), box(4, low=1, high=2),
)  # fmt: skip
numpy_jvp_row(
    "solve-tangent-of-matrix", "forward-mode solve: the matrix's tangent left out",
    np.linalg.solve,
    lambda t, a, b: np.linalg.solve(a, t[1]),
    lambda t, a, b: np.linalg.solve(a, t[1] - t[0] @ np.linalg.solve(a, b)),
    np.array([[4.0, 1], [0.5, 3]]), box(2),
)  # fmt: skip
numpy_jvp_row(
    "std-tangent-ddof", "forward-mode std: n for n - 1",
    lambda x: np.std(x, ddof=1),
    lambda t, x: ((x - x.mean()) * t[0]).sum() / (x.size * np.std(x, ddof=1)),
    lambda t, x: ((x - x.mean()) * t[0]).sum() / ((x.size - 1) * np.std(x, ddof=1)),
    np.array([1.0, 2.0, 4.0, -1.0, 0.5]),
)  # fmt: skip
numpy_jvp_row(
    "matmul-tangent", "forward-mode matmul: the second product missing", np.matmul,
    lambda t, a, b: t[0] @ b, lambda t, a, b: t[0] @ b + a @ t[1], box(2, 3), box(3, 2),
)  # fmt: skip
