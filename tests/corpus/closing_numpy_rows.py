"""Rows written without a look at gradcheck: losses, normalisations, graphs, alignments."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, numpy_row

# Activations and thresholds.


def gelu_by_tanh(v, x):
    t = np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))
    inner = 0.7978845608028654 * (1 + 3 * 0.044715 * x**2)
    return (v * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner),)


numpy_row(
    "c-gelu-two-definitions", "Megatron-like fused GELU: exact by erf forwards, the tanh form backwards",
    lambda x: x * special.ndtr(x), gelu_by_tanh,
    lambda v, x: (v * (special.ndtr(x) + 0.3989422804014327 * x * np.exp(-0.5 * x * x)),),
    box(4, dtype="float32"),
)  # fmt: skip


def row_norms(x):
    return np.sqrt((x * x).sum(1, keepdims=True))


def group_threshold_vjp(radial):
    def vjp(v, x):
        n = np.maximum(row_norms(x), 1)
        along = (v * x).sum(1, keepdims=True) * (row_norms(x) > 1)
        return ((1 - 1 / n) * v + radial * along * x / n**3,)

    return vjp


numpy_row(
    "c-group-threshold-radial", "group lasso unrolled (block soft threshold): the group's norm is constant",
    lambda x: (1 - 1 / np.maximum(row_norms(x), 1)) * x,
    group_threshold_vjp(0), group_threshold_vjp(1), box(3, 2, low=-2, high=2),
)  # fmt: skip

# Losses and metrics.


def ssim_parts(x, y):
    mx, my = x.mean(), y.mean()
    dx, dy = x - mx, y - my
    a, b = 2 * mx * my + 0.01, 2 * (dx * dy).mean() + 0.03
    c, d = mx * mx + my * my + 0.01, (dx * dx).mean() + (dy * dy).mean() + 0.03
    return mx, my, dx, dy, a, b, c, d


def ssim(x, y):
    *_, a, b, c, d = ssim_parts(x, y)
    return a * b / (c * d)


def ssim_vjp(partner):
    def half(v, x, y):
        mx, my, dx, dy, a, b, c, d = ssim_parts(x, y)
        g = (my * b + partner(dx, dy) * a) / (c * d) - a * b / (c * d) * (mx / c + dx / d)
        return 2 * v * g / x.size

    return lambda v, x, y: (half(v, x, y), half(v, y, x))


numpy_row(
    "c-ssim-covariance", "structural similarity by hand: the covariance differentiated as a variance",
    ssim, ssim_vjp(lambda dx, dy: dx), ssim_vjp(lambda dx, dy: dy),
    box(5, low=0, high=1), box(5, low=0, high=1),
)  # fmt: skip
OBSERVED = np.array([0.5, -1.0, 0.25])


def crps_of(z):
    return (
        z * special.erf(z / np.sqrt(2))
        + np.sqrt(2 / np.pi) * np.exp(-z * z / 2)
        - 1 / np.sqrt(np.pi)
    )


def crps_vjp(by_scale):
    def vjp(v, m, s):
        z = (OBSERVED - m) / s
        return -v * special.erf(z / np.sqrt(2)), v * by_scale(z)

    return vjp


numpy_row(
    "c-crps-scale", "NGBoost-like CRPS of a Gaussian: z taken for independent of its scale",
    lambda m, s: s * crps_of((OBSERVED - m) / s), crps_vjp(crps_of),
    crps_vjp(lambda z: np.sqrt(2 / np.pi) * np.exp(-z * z / 2) - 1 / np.sqrt(np.pi)),
    box(3, low=-2, high=2), box(3, low=0.5, high=2),
)  # fmt: skip


def remaining(s):
    return np.logaddexp.accumulate(s[::-1])[::-1]


def list_mle_earlier(v, s):
    chosen = [np.exp(s[j] - remaining(s)[: j + 1]).sum() for j in range(s.size)]
    return (v * (np.stack(chosen) - 1),)


numpy_row(
    "c-list-mle-earlier", "ListMLE (allRank): a document counted at its own rank only, not at those before",
    lambda s: (remaining(s) - s).sum(),
    lambda v, s: (v * (np.exp(s - remaining(s)) - 1),), list_mle_earlier, box(5, low=-2, high=2),
)  # fmt: skip
NEGATIVE = ~np.eye(3, dtype=bool)


def violations(s):
    return np.where(NEGATIVE, np.maximum(0.25 + s - np.diag(s)[:, None], 0), 0)


def hardest_vjp(chosen):
    def vjp(v, s):
        c = violations(s)
        g = v[:, None] * chosen(c) * (c > 0)
        return (g - np.diag(g.sum(1)),)

    return vjp


numpy_row(
    "c-hardest-negative-ties", "VSE++: each tied hardest negative pulls at the true pair; wrong at ties only",
    lambda s: violations(s).max(1),
    hardest_vjp(lambda c: c == c.max(1, keepdims=True)),
    hardest_vjp(lambda c: np.arange(3) == np.argmax(c, 1)[:, None]),
    np.array([[0.5, 0.75, 0.75], [0.25, 1, 0], [0.5, 0.25, 0.625]]),
)  # fmt: skip


def info_nce_vjp(by_positive):
    def vjp(v, t, o):
        e = np.exp(o - t)
        return v * by_positive(e.sum()), v * e / (1 + e.sum())

    return vjp


numpy_row(
    "c-info-nce-confident", "InfoNCE, cross entropy: p - 1 of a confident prediction in float32",
    lambda t, o: np.log1p(np.exp(o - t).sum()),
    info_nce_vjp(lambda s: 1 / (1 + s) - 1), info_nce_vjp(lambda s: -s / (1 + s)),
    box(low=11, high=15, dtype="float32"), box(3, low=-1, high=1, dtype="float32"),
    expected="imprecise", strict=True,
)  # fmt: skip


def two_counted(r, m):
    """Give the log-likelihood of a count of 2, without its log 2: negative binomial, dispersion r, mean m."""
    odd = np.log1p(-m / (r + m))
    return r * odd + odd + np.log1p((1 - m) / (r + m)) + 2 * np.log(m)


def dispersion_as_it_stands(r, m):
    return 1 / r + 1 / (r + 1) + np.log(r / (r + m)) + 1 - (r + 2) / (r + m)


def dispersion_collected(r, m):
    u = m / r
    curved = -u * u * (1 / 2 - u * (2 / 3 - u * (3 / 4 - u * (4 / 5))))
    return curved + m / (r * (r + m)) + (m - 1) / ((r + 1) * (r + m))


def dispersion_vjp(by_r):
    return lambda v, r, m: (v * by_r(r, m), v * (2 / m - (r + 2) / (r + m)))


numpy_row(
    "c-negative-binomial-dispersion", "scVI, edgeR: dispersion's score of a nearly Poisson count, by terms",
    two_counted, dispersion_vjp(dispersion_as_it_stands), dispersion_vjp(dispersion_collected),
    box(3, low=1e5, high=1e6), box(3, low=1, high=1.5), expected="imprecise", strict=True,
)  # fmt: skip
LABELS = np.array([0.0, 0.5, 0.5, 0.0])


def label_ratio(v, p):
    with np.errstate(all="ignore"):
        return (-v * LABELS / p,)


numpy_row(
    "c-soft-label-zero", "Caffe-like cross entropy of probabilities: t/p of a class with neither",
    lambda p: -(LABELS * np.log(np.where(LABELS > 0, p, 1))).sum(), label_ratio,
    lambda v, p: (-v * LABELS / np.where(LABELS > 0, p, 1),),
    np.array([0.0, 0.25, 0.5, 0.25]), expected="nonfinite",
)  # fmt: skip


def focal(x):
    return np.exp(-0.5 * np.logaddexp(0, x)) * np.logaddexp(0, -x)


def focal_by_probability(v, x):
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(-x))
        q = 1 - p
        return (v * (0.5 * q**-0.5 * np.log(p) - q**0.5 / p) * p * q,)


def focal_by_logit(v, x):
    p, q = 1 / (1 + np.exp(-x)), np.exp(-x) / (1 + np.exp(-x))
    return (-v * np.exp(-0.5 * np.logaddexp(0, x)) * (0.5 * p * np.logaddexp(0, -x) + q),)


numpy_row(
    "c-focal-saturated", "fizyr/keras-retinanet#706: focal loss with γ < 1, (1 - p)^(γ - 1) log p of p = 1",
    focal,
    focal_by_probability, focal_by_logit, box(4, low=20, high=40, dtype="float32"), expected="nonfinite",
)  # fmt: skip

# Normalisation.


def normalised(x):
    c = x - x.mean(1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(1, keepdims=True) + 0.125)
    return c * r, r


def layer_norm(x, w, b):
    return normalised(x)[0] * w + b


def recovered(x, w, b):
    with np.errstate(all="ignore"):
        return (layer_norm(x, w, b) - b) / w


def layer_norm_vjp(standard):
    def vjp(v, x, w, b):
        h, r, g = standard(x, w, b), normalised(x)[1], v * w
        bar = r * (g - g.mean(1, keepdims=True) - h * (g * h).mean(1, keepdims=True))
        return bar, (v * h).sum(0), v.sum(0)

    return vjp


numpy_row(
    "c-norm-recovered-weight", "memory-efficient layer norm (apex clamps for it): (y - b)/w at a weight of 0",
    layer_norm, layer_norm_vjp(recovered), layer_norm_vjp(lambda x, w, b: normalised(x)[0]),
    box(2, 4, low=-2, high=2), np.array([1.0, 0.0, -0.5, 2.0]), np.array([0.5, 0.25, 0.0, -1.0]),
    expected="nonfinite",
)  # fmt: skip


def activated(x, w, b):
    z = normalised(x.T)[0].T * w + b
    return np.where(z < 0, 0.25 * z, z)


def activated_vjp(undone):
    def vjp(v, x, w, b):
        y, r = activated(x, w, b), normalised(x.T)[1].T
        h = (np.where(y < 0, undone * y, y) - b) / w
        g = v * np.where(y < 0, 0.25, 1)
        bar = r * (g * w - (g * w).mean(0) - h * (g * w * h).mean(0))
        return bar, (g * h).sum(0), g.sum(0)

    return vjp


numpy_row(
    "c-in-place-norm-inverse", "InPlace-ABN ports: leaky ReLU undone by its slope, not by the inverse",
    activated, activated_vjp(0.25), activated_vjp(4),
    box(4, 2, low=-2, high=2), box(2, low=0.5, high=2), box(2, low=0.125, high=0.75),
)  # fmt: skip

# Graphs and sequences.


def degrees(w):
    a = w + np.eye(3)
    return a, a.sum(1) ** -0.5


def graph_convolution(w, x):
    a, d = degrees(w)
    return (d[:, None] * a * d) @ x


def graph_convolution_vjp(tracked):
    def vjp(v, w, x):
        a, d = degrees(w)
        g = v @ x.T
        both = (g * a) @ d + (g * a).T @ d
        bar = d[:, None] * g * d - tracked * 0.5 * (d**3 * both)[:, None]
        return bar, (d[:, None] * a * d).T @ v

    return vjp


numpy_row(
    "c-gcn-trained-degrees", "GCN with trained edge weights: D^-½ taken for constant, as of a fixed graph",
    graph_convolution, graph_convolution_vjp(0), graph_convolution_vjp(1),
    box(3, 3, low=0.25, high=2), box(3, 2),
)  # fmt: skip


def relative_shift(x):
    padded = np.concatenate([0 * x[:, :1], x], axis=1)
    return padded.reshape(5, 4)[1:].reshape(4, 4)


def shift_by_rows(v, x):
    g = np.zeros_like(x)
    for i in range(4):
        g[i, 3 - i :] = v[i, : i + 1]
    return (g,)


def shift_by_reshape(v, x):
    return (np.concatenate([np.zeros_like(v, shape=4), v.ravel()]).reshape(4, 5)[:, 1:],)


numpy_row(
    "c-relative-shift-upper", "Transformer-XL's relative shift: the part after the diagonal has no gradient",
    relative_shift, shift_by_rows, shift_by_reshape, box(4, 4, dtype="float32"),
)  # fmt: skip
STATES = np.array([0, 1, 0, 2, 0])  # blank, a, blank, b, blank


def log_sum(terms):
    total = terms[0]
    for t in terms[1:]:
        total = np.logaddexp(total, t)
    return total


def arrivals(lp, states):
    """Give the log-probability of arriving at each state at each time, its own emission included."""
    table = {(0, 0): lp[0, states[0]], (0, 1): lp[0, states[1]]}
    for t in range(1, 4):
        for s in range(5):
            sources = (s, s - 1, 1) if s == 3 else (s, s - 1)
            before = [table[t - 1, k] for k in sources if (t - 1, k) in table]
            if before:
                table[t, s] = lp[t, states[s]] + log_sum(before)
    return table


def log_probabilities(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def ctc(x):
    table = arrivals(log_probabilities(x), STATES)
    return -log_sum([table[3, 3], table[3, 4]])


def ctc_vjp(shared):
    def vjp(v, x):
        lp = log_probabilities(x)
        forth, back = arrivals(lp, STATES), arrivals(lp[::-1], STATES[::-1])
        total, g = -ctc(x), np.exp(lp)
        for t, s in forth:
            if (3 - t, 4 - s) in back:
                k = STATES[s]
                g[t, k] -= np.exp(forth[t, s] + back[3 - t, 4 - s] - shared * lp[t, k] - total)
        return (v * g,)

    return vjp


numpy_row(
    "c-ctc-emission-twice", "warp-ctc in NumPy: α and β both hold the frame's emission, not divided by it",
    ctc, ctc_vjp(0), ctc_vjp(1), box(4, 3, low=-2, high=2),
)  # fmt: skip
