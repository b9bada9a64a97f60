"""Rows written without a look at gradcheck: layers, sequence models, losses, indices, matrices, tangents."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, numpy_jvp_row, numpy_row, scattered

# Sequence models.


def forwards(e, a):
    """Give the scaled forward variables of a linear chain and their norms (Rabiner 1989)."""
    p, k = np.exp(e), np.exp(a)
    alpha = p[0]
    alphas, norms = [alpha / alpha.sum()], [alpha.sum()]
    for row in p[1:]:
        alpha = (alphas[-1] @ k) * row
        alphas.append(alpha / alpha.sum())
        norms.append(alpha.sum())
    return alphas, norms


def chain_vjp(oriented):
    def vjp(v, e, a):
        p, k = np.exp(e), np.exp(a)
        alphas, norms = forwards(e, a)
        beta, pairs, marginals = np.ones_like(p[0]), np.zeros_like(a), [alphas[-1]]
        for t in range(len(p) - 1, 0, -1):
            message = p[t] * beta / norms[t]
            pairs = pairs + np.outer(alphas[t - 1], message) * k
            beta = k @ message
            marginals.append(alphas[t - 1] * beta)
        return v * np.stack(marginals[::-1]), v * oriented(pairs)

    return vjp


numpy_row(
    "crf-transitions-transposed", "linear-chain CRF: pair marginals added as (to, from), scored (from, to)",
    lambda e, a: np.sum(np.log(np.stack(forwards(e, a)[1]))),
    chain_vjp(np.transpose), chain_vjp(lambda pairs: pairs),
    box(3, 3, low=-1, high=1), box(3, 3, low=-1, high=1),
)  # fmt: skip


def gru(x, h, u):
    z, n = special.expit(x - h), np.tanh(x + special.expit(x + h) * (u @ h))
    return special.expit(h - x) * n + z * h


def gru_vjp(reset):
    def vjp(v, x, h, u):
        r, z, recurrent = special.expit(x + h), special.expit(x - h), u @ h
        inner = x + r * recurrent
        d_inner = v * special.expit(h - x) / np.cosh(inner) ** 2
        d_recurrent = d_inner * reset(r)
        d_r = d_inner * recurrent * r * special.expit(-x - h)
        d_z = v * (h - np.tanh(inner)) * z * special.expit(h - x)
        return d_inner + d_r + d_z, v * z + u.T @ d_recurrent + d_r - d_z, np.outer(d_recurrent, h)

    return vjp


numpy_row(
    "gru-reset-after", "GRU(reset_after=True): the reset gate missing on the way back to the state",
    gru, gru_vjp(np.ones_like), gru_vjp(lambda r: r),
    box(3, low=-1.5, high=1.5), box(3, low=-1.5, high=1.5), box(3, 3, low=-1, high=1),
)  # fmt: skip


def dilated(x, w):
    padded = np.concatenate([np.zeros_like(x[:4]), x])
    return sum(w[k] * padded[4 - 2 * k : 12 - 2 * k] for k in range(3))


def dilated_vjp(step):
    def vjp(v, x, w):
        g = np.zeros_like(x, shape=12)
        for k in range(3):
            g[4 - 2 * k : 12 - 2 * k] += v * w[k]
        padded = np.concatenate([np.zeros_like(x[:4]), x])
        return g[4:], np.stack([(v * padded[4 - step * k : 12 - step * k]).sum() for k in range(3)])

    return vjp


numpy_row(
    "causal-convolution-dilation", "WaveNet's dilated convolution: dilation 1 in the weight's gradient",
    dilated, dilated_vjp(1), dilated_vjp(2), box(8, dtype="float32"), box(3, dtype="float32"),
)  # fmt: skip

# Normalisations and gates.


def lse(x, axis):
    return np.logaddexp.reduce(x, axis=axis, keepdims=True)


def sinkhorn(x):
    y = x - lse(x, 1)
    return y - lse(y, 0)


def sinkhorn_vjp(first):
    def vjp(v, x):
        y = x - lse(x, 1)
        g = v - np.exp(y - lse(y, 0)) * v.sum(0)
        return (g - np.exp(first(x)) * g.sum(1, keepdims=True),)

    return vjp


numpy_row(
    "sinkhorn-saved-result", "Sinkhorn step: the rows' backward from the result, normalised by columns since",
    sinkhorn, sinkhorn_vjp(sinkhorn), sinkhorn_vjp(lambda x: x - lse(x, 1)), box(3, 3, low=-2, high=2),
)  # fmt: skip


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def gates(top, rest):
    x = np.stack([rest[0], top[0], rest[1], top[1]])
    chosen = np.argsort(-x)[:2]
    y = np.zeros_like(x)
    y[chosen] = softmax(x[chosen])
    return y


def gates_vjp(sparse):
    def vjp(v, top, rest):
        x = np.stack([rest[0], top[0], rest[1], top[1]])
        chosen = np.argsort(-x)[:2] if sparse else np.arange(4)
        p, g = softmax(x[chosen]), np.zeros_like(x)
        g[chosen] = p * (v[chosen] - (p * v[chosen]).sum())
        return g[[1, 3]], g[[0, 2]]

    return vjp


numpy_row(
    "top-k-gate-dense", "mixture of experts: the backward's softmax over all experts, not the chosen two",
    gates, gates_vjp(False), gates_vjp(True), box(2, low=1, high=2), box(2, low=-1, high=0),
)  # fmt: skip


def pool_vjp(centred):
    def vjp(v, x, w):
        y = (w[:, None] * x).sum(0) / w.sum()
        return v * w[:, None] / w.sum(), ((x - centred * y) * v).sum(1) / w.sum()

    return vjp


numpy_row(
    "weighted-mean-normaliser", "attention pooling: the weights' sum taken as constant",
    lambda x, w: (w[:, None] * x).sum(0) / w.sum(),
    pool_vjp(np.float32(0)), pool_vjp(np.float32(1)),
    box(4, 3, dtype="float32"), box(4, low=0.1, high=1, dtype="float32"),
)  # fmt: skip
OFF = 1 - np.eye(3, dtype=np.float32)


def correlation(s):
    r = 1 / np.sqrt(np.diagonal(s))
    return np.where(OFF == 0, 1, s * r[:, None] * r)


def correlation_vjp(both):
    def vjp(v, s):
        d, w = np.diagonal(s), v * OFF
        r = 1 / np.sqrt(d)
        share = w * correlation(s)
        onto = share.sum(1) + share.sum(0) if both else 2 * share.sum(1)
        return (w * r[:, None] * r - np.diag(onto / (2 * d)),)

    return vjp


numpy_row(
    "correlation-symmetric-cotangent", "covariance to correlation: twice the rows, as if v were symmetric",
    correlation, correlation_vjp(False), correlation_vjp(True),
    box(3, 3, low=0.5, high=2, dtype="float32"),
)  # fmt: skip
LONG = np.float16([8] + [0] * 199)


def mixed_lse(x):
    return np.log(np.exp(x.astype(np.float32)).sum()).astype(np.float16)


def mixed_lse_vjp(v, x):
    wide = x.astype(np.float32)
    p = np.exp(wide - np.log(np.exp(wide).sum()))
    return ((v * p).astype(np.float16),)


numpy_row(
    "float16-accumulator", "softmax's denominator accumulated in float16: ones beside e⁸ are lost",
    mixed_lse, lambda v, x: (v * np.exp(x) / np.cumsum(np.exp(x))[-1],), mixed_lse_vjp, LONG,
    expected="imprecise",
)  # fmt: skip

# Losses.

POSITIVE, OTHERS = np.array([1, 0, 3, 2]), np.array([[2, 3], [2, 3], [0, 1], [0, 1]])
ROWS4 = np.arange(4)


def odds(z):
    s = z @ z.T / 0.5
    return np.exp(np.take_along_axis(s, OTHERS, 1) - s[ROWS4, POSITIVE][:, None])


def contrastive_vjp(both):
    def vjp(v, z):
        rest = odds(z)
        q = rest / (1 + rest.sum(1, keepdims=True))
        g = np.zeros_like(z, shape=(4, 4))
        g[ROWS4[:, None], OTHERS] = q
        g[ROWS4, POSITIVE] = -q.sum(1)
        return (v / (4 * 0.5) * ((g + g.T if both else 2 * g) @ z),)

    return vjp


numpy_row(
    "contrastive-one-side", "NT-Xent: the similarity matrix' gradient taken for symmetric",
    lambda z: np.log1p(odds(z).sum(1)).mean(), contrastive_vjp(False), contrastive_vjp(True),
    box(4, 3, low=-1, high=1),
)  # fmt: skip
TRUE = np.array([2, 0, 3])
OTHER = np.ones((3, 4))
OTHER[np.arange(3), TRUE] = 0


def margins(x):
    return 1 + x - x[np.arange(3), TRUE][:, None]


def margin_vjp(counted):
    def vjp(v, x):
        g = v[:, None] * (margins(x) > 0) * OTHER
        g[np.arange(3), TRUE] = -g.sum(1) if counted else -v
        return (g,)

    return vjp


numpy_row(
    "multi-margin-count", "multi-class hinge (cs231n): the true class pushed once, not per violation",
    lambda x: (np.maximum(margins(x), 0) * OTHER).sum(1), margin_vjp(False), margin_vjp(True), box(3, 4),
)  # fmt: skip


def transport_vjp(places):
    def vjp(v, x, y):
        s = 2 * v * (np.sort(x) - np.sort(y))
        return scattered(x, places(x), s), scattered(y, np.argsort(y), -s)

    return vjp


numpy_row(
    "sliced-transport-order", "sliced Wasserstein: differences left in sorted order",
    lambda x, y: ((np.sort(x) - np.sort(y)) ** 2).sum(),
    transport_vjp(lambda x: np.arange(x.size)), transport_vjp(np.argsort), box(5), box(5),
)  # fmt: skip

# Indices, broadcasts, buffers.


def bases(t):
    """Give a uniform cubic B-spline's first control point, its four weights and their slopes."""
    i = np.minimum(np.floor(t), 2).astype(int)
    u = t - i
    w = np.stack([(1 - u) ** 3, 4 - u * u * (6 - 3 * u), 1 + 3 * u * (1 + u * (1 - u)), u**3]) / 6
    slope = np.stack([-((1 - u) ** 2), u * (3 * u - 4), (1 - u) * (3 * u + 1), u * u]) / 2
    return i, w, slope


def spline(t, c):
    i, w, _ = bases(t)
    return (w * c[i + np.arange(4)[:, None]]).sum(0)


def spline_vjp(direction):
    def vjp(v, t, c):
        i, w, slope = bases(t)
        places = i + np.arange(4)[:, None]
        return v * (slope * direction * c[places]).sum(0), scattered(c, places, v * w)

    return vjp


numpy_row(
    "b-spline-first-weight", "cubic B-spline (KAN, image warps): sign of the first weight's slope",
    spline, spline_vjp(np.array([[-1], [1], [1], [1]])), spline_vjp(1), box(3, low=0, high=3), box(6),
)  # fmt: skip
KEEP = np.array([1.0, 0.0, 1.0, 0.0])


def masked_in_place(v, x, y):
    v *= KEEP
    return v, v


numpy_row(
    "cotangent-masked-in-place", "dropout beside a skip connection: the shared cotangent masked in place",
    lambda x, y: x * KEEP + y, masked_in_place, lambda v, x, y: (v * KEEP, v.copy()), box(4), box(4),
)  # fmt: skip

# Matrices.

numpy_row(
    "bilinear-form-symmetric", "quadratic form xᵀWx: 2Wx, as if W were symmetric",
    lambda x, w: np.einsum("bi,ij,bj->b", x, w, x),
    lambda v, x, w: (2 * v[:, None] * (x @ w.T), np.einsum("b,bi,bj->ij", v, x, x)),
    lambda v, x, w: (v[:, None] * (x @ w.T + x @ w), np.einsum("b,bi,bj->ij", v, x, x)),
    box(2, 3), box(3, 3),
)  # fmt: skip
numpy_row(
    "log-det-low-rank", "log det(I + XXᵀ): 2 forgotten; the right one through the small matrix (Woodbury)",
    lambda x: np.linalg.slogdet(np.eye(3) + x @ x.T)[1],
    lambda v, x: (v * np.linalg.solve(np.eye(3) + x @ x.T, x),),
    lambda v, x: (2 * v * np.linalg.solve(np.eye(2) + x.T @ x, x.T).T,), box(3, 2, low=0.5, high=2),
)  # fmt: skip
POINT = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 3.0]])


def square_root(x):
    w, u = np.linalg.eigh((x + x.T) / 2)
    return (u * np.sqrt(w)) @ u.T


def square_root_vjp(mean):
    def vjp(v, x):
        w, u = np.linalg.eigh((x + x.T) / 2)
        s = np.sqrt(w)
        return (u @ (u.T @ ((v + v.T) / 2) @ u / (2 * mean(s[:, None], s))) @ u.T,)

    return vjp


numpy_row(
    "matrix-square-root", "covariance pooling: geometric, not arithmetic mean of the roots (Sylvester)",
    square_root, square_root_vjp(lambda a, b: np.sqrt(a * b)), square_root_vjp(lambda a, b: (a + b) / 2),
    POINT,
)  # fmt: skip

# Forward mode.


def leaders(x):
    top = np.maximum.accumulate(x)
    return np.maximum.accumulate(np.where(x >= top, np.arange(x.size), 0))


numpy_jvp_row(
    "cumulative-maximum-tangent", "forward-mode cummax: the tangents' own running maximum",
    np.maximum.accumulate,
    lambda t, x: np.maximum.accumulate(t[0]), lambda t, x: t[0][leaders(x)], box(5),
)  # fmt: skip
numpy_jvp_row(
    "inverse-tangent-commuted", "forward-mode inverse: -A⁻²T, as if matrices commuted", np.linalg.inv,
    lambda t, a: -np.linalg.inv(a) @ np.linalg.inv(a) @ t[0],
    lambda t, a: -np.linalg.inv(a) @ t[0] @ np.linalg.inv(a),
    np.array([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [1.0, 0.0, 2.0]]),
)  # fmt: skip
numpy_jvp_row(
    "polar-tangent-radius", "forward-mode polar coordinates: the angle's tangent without the radius",
    lambda r, a: np.stack([r * np.cos(a), r * np.sin(a)]),
    lambda t, r, a: np.stack([t[0] * np.cos(a) - t[1] * np.sin(a), t[0] * np.sin(a) + t[1] * np.cos(a)]),
    lambda t, r, a: np.stack(
        [t[0] * np.cos(a) - r * t[1] * np.sin(a), t[0] * np.sin(a) + r * t[1] * np.cos(a)]
    ),
    box(3, low=0.5, high=2), box(3),
)  # fmt: skip
