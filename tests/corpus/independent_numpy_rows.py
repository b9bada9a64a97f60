"""Rows written without a look at gradcheck: statistics, physics, signals, layers in plain NumPy."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_jvp_row, numpy_row

# Statistics.

CLAIMS = np.array([0.0, 0.5, 3.0, 0.0])


def tweedie(s):
    return (2 * CLAIMS * np.exp(-s / 2) + 2 * np.exp(s / 2)).sum()


numpy_row(
    "i-tweedie-by-mean", "Tweedie objective of boosting: the score by the mean, not by its logarithm",
    tweedie, lambda v, s: (v * (np.exp(-s / 2) - CLAIMS * np.exp(-1.5 * s)),),
    lambda v, s: (v * (np.exp(s / 2) - CLAIMS * np.exp(-s / 2)),), box(4, low=-2, high=2),
)  # fmt: skip
DEATHS = [(np.array([1, 1, 0, 0, 0]), np.array([1, 1, 1, 1, 1])),
          (np.array([0, 0, 1, 0, 0]), np.array([0, 0, 1, 1, 1])),
          (np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 0, 1]))]  # fmt: skip


def efron(s):
    e, loss = np.exp(s), -(s * sum(dead for dead, _ in DEATHS)).sum()
    for dead, at_risk in DEATHS:
        for i in range(dead.sum()):
            loss = loss + np.log((e * (at_risk - i / dead.sum() * dead)).sum())
    return loss


def efron_vjp(thinned):
    def vjp(v, s):
        e, g = np.exp(s), np.zeros_like(s)
        for dead, at_risk in DEATHS:
            g = g - dead
            for i in range(dead.sum()):
                share = i / dead.sum() * dead
                g = g + e * (at_risk - thinned * share) / (e * (at_risk - share)).sum()
        return (v * g,)

    return vjp


numpy_row(
    "i-cox-efron-ties", "Cox loss by Efron: ties taken off the denominators, not off the numerators",
    efron, efron_vjp(0), efron_vjp(1), box(5, low=-1, high=1),
)  # fmt: skip


def precision_factor(p):
    return np.exp(p[0]), p[1], np.exp(p[2])


def whitened(p, r):
    a, b, c = precision_factor(p)
    return a * r[0] + b * r[1], c * r[1]


def log_density(p, r):
    z, w = whitened(p, r)
    return p[0] + p[2] - (z * z + w * w) / 2


def log_density_vjp(slope):
    def vjp(v, p, r):
        (a, b, c), (z, w) = precision_factor(p), whitened(p, r)
        by_p = np.stack([1 - z * r[0] * slope(a), -z * r[1], 1 - w * r[1] * slope(c)])
        return v * by_p, -v * np.stack([z * a, z * b + w * c])

    return vjp


numpy_row(
    "i-packed-cholesky-exponential",
    "Gaussian by a packed Cholesky factor: exp of its diagonal lost in the chain",
    log_density, log_density_vjp(lambda d: 1), log_density_vjp(lambda d: d),
    box(3, low=-1, high=1), box(2, low=-2, high=2),
)  # fmt: skip


def sticks(x):
    left = np.concatenate([np.ones_like(x[:1]), np.cumprod(1 - x)])
    return left * np.concatenate([x, np.ones_like(x[:1])])


def sticks_vjp(later):
    def vjp(v, x):
        left = np.concatenate([np.ones_like(x[:1]), np.cumprod(1 - x)])
        paid = v * sticks(x)
        after = np.stack([paid[i + 1 :].sum() for i in range(x.size)])
        return (v[:-1] * left[:-1] - later * after / (1 - x),)

    return vjp


numpy_row(
    "i-stick-breaking-later",
    "Dirichlet process by stick breaking: what breaks off is not lost to later sticks",
    sticks, sticks_vjp(0), sticks_vjp(1), box(4, low=0.125, high=0.875),
)  # fmt: skip


def between(s):
    """Give the log-probability that s plus logistic noise lies between the cut-points 1 and 1.5."""
    return (
        s - 1 + float(np.log1p(-np.exp(-0.5))) - np.log1p(np.exp(s - 1.5)) - np.log1p(np.exp(s - 1))
    )


def logistic(z):
    return 1 / (1 + np.exp(-z))


def between_by_densities(v, s):
    a, b = np.exp(s - 1.5), np.exp(s - 1)
    mass = logistic(1.5 - s) - logistic(1 - s)
    return (v * (b / (1 + b) ** 2 - a / (1 + a) ** 2) / mass,)


numpy_row(
    "i-ordered-logit-tail",
    "ordered logit (statsmodels-like): densities' difference over that of two CDF near 1",
    between, between_by_densities, lambda v, s: (v * (1 - logistic(s - 1.5) - logistic(s - 1)),),
    box(4, low=-12, high=-9, dtype="float32"), expected="imprecise",
)  # fmt: skip

# Losses, labels, masks.

LABELS = np.array([2, -1, 0])
KEPT = LABELS >= 0


def kept_cross_entropy(x):
    m = x.max(1, keepdims=True)
    total = np.log(np.exp(x - m).sum(1)) + m[:, 0]
    return ((total - x[np.arange(3), LABELS]) * KEPT).sum() / 2


def cross_entropy_vjp(places):
    def vjp(v, x):
        e = np.exp(x - x.max(1, keepdims=True))
        g = e / e.sum(1, keepdims=True) * KEPT[:, None]
        hit = np.zeros_like(e)
        hit[places] = 1
        return (v * (g - hit) / 2,)

    return vjp


numpy_row(
    "i-ignored-label-wraps",
    "cs231n-like softmax loss: 1 taken off at label -1, the last class of an ignored row",
    kept_cross_entropy, cross_entropy_vjp((np.arange(3), LABELS)),
    cross_entropy_vjp((np.arange(3)[KEPT], LABELS[KEPT])), box(3, 4, low=-2, high=2, dtype="float32"),
)  # fmt: skip
MASK = np.array([0.0, 0.0, -np.inf, 0.0])


def masked_total(x, t):
    z = t * x + MASK
    return np.log(np.exp(z - z.max()).sum()) + z.max()


def masked_total_vjp(scores):
    def vjp(v, x, t):
        p = np.exp(t * x + MASK - masked_total(x, t))
        with np.errstate(invalid="ignore"):
            return v * t * p, v * (p * scores(x, t)).sum()

    return vjp


numpy_row(
    "i-masked-scores-scale",
    "trained attention scale: its gradient from scores masked by -inf, weighted by 0",
    masked_total, masked_total_vjp(lambda x, t: (t * x + MASK) / t), masked_total_vjp(lambda x, t: x),
    box(4), box(low=0.5, high=2), expected="nonfinite",
)  # fmt: skip


def soft_maximum(x, t):
    m = x.max()
    return m + t * np.log(np.exp((x - m) / t).sum())


def soft_maximum_vjp(place):
    def vjp(v, x, t):
        y = soft_maximum(x, t)
        p = np.exp((x - y) / t)
        return v * p, v * (y - (p * place(x)).sum()) / t

    return vjp


numpy_row(
    "i-soft-maximum-shifted-in-place",
    "soft maximum: the shifted scores stand in for x in the temperature's slope",
    soft_maximum, soft_maximum_vjp(lambda x: x - x.max()), soft_maximum_vjp(lambda x: x),
    box(4), box(low=0.5, high=2),
)  # fmt: skip


def lengths(x):
    return np.sqrt((x * x).sum(1, keepdims=True))


def clipped_vjp(length):
    def vjp(v, x):
        n = np.maximum(length(x), 1)
        along = np.where(length(x) > 1, (v * x).sum(1, keepdims=True) / n**3, 0)
        return (v / n - along * x,)

    return vjp


numpy_row(
    "i-clipped-per-sample", "DP-SGD: rows clipped one by one forwards, by the norm of the batch backwards",
    lambda x: x / np.maximum(lengths(x), 1), clipped_vjp(lambda x: np.sqrt((x * x).sum())),
    clipped_vjp(lengths), box(3, 2, low=-2, high=2),
)  # fmt: skip

# Layers and their buffers.

COLLECTED = np.zeros((3, 2))


def collected(v, x, w):
    COLLECTED[...] += x.T @ v
    return v @ w.T, COLLECTED.copy()


numpy_row(
    "i-weight-gradient-not-zeroed", "layer class in plain NumPy: dW += in each backward, set to 0 by nobody",
    lambda x, w: x @ w, collected, lambda v, x, w: (v @ w.T, x.T @ v), box(4, 3), box(3, 2),
)  # fmt: skip


def cubes_vjp(order):
    def vjp(v, x):
        g = v.T
        return (3 * x * x * np.ravel(g, order=order).reshape(g.shape),)

    return vjp


numpy_row(
    "i-cotangent-memory-order", "C kernel by ctypes: reads the buffer of a transposed cotangent as it lies",
    lambda x: (x * x * x).T, cubes_vjp("K"), cubes_vjp("C"), box(2, 3),
)  # fmt: skip
numpy_row(
    "i-power-exponent-truncated", "x ** 2.5: the exponent of the slope goes through an integer array",
    lambda x: x**2.5, lambda v, x: (v * 2.5 * x ** np.array(1.5).astype(int),),
    lambda v, x: (v * 2.5 * x**1.5,), box(4, low=0.5, high=3),
)  # fmt: skip

# Signals.


def padded(x, before, after):
    return np.concatenate([np.zeros(before), x, np.zeros(after)])


def window_means(x, before):
    p = padded(x, before, 3 - before)
    return sum(p[i : i + x.size] for i in range(4)) / 4


numpy_row(
    "i-even-window-same-side", "moving average of an even window, 'same': padded on the same side backwards",
    lambda x: window_means(x, 2), lambda v, x: (window_means(v, 2),),
    lambda v, x: (window_means(v, 1),), box(7),
)  # fmt: skip


def debiased(x):
    m, out = 0 * x[0], []
    for n, one in enumerate(x, 1):
        m = 0.75 * m + 0.25 * one
        out.append(m / (1 - 0.75**n))
    return np.stack(out)


def debiased_vjp(weight):
    def vjp(v, x):
        bar, out = 0 * v[0], []
        for n in range(x.size, 0, -1):
            bar = 0.75 * bar + v[n - 1] / weight(n)
            out.append(0.25 * bar)
        return (np.stack(out[::-1]),)

    return vjp


numpy_row(
    "i-moving-average-debiased",
    "exponential moving average (Adam's bias correction): correction forwards only",
    debiased, debiased_vjp(lambda n: 1), debiased_vjp(lambda n: 1 - 0.75**n), box(5),
)  # fmt: skip


def decimated(x, h):
    return sum(h[j] * x[1 + j : 8 + j : 2] for j in range(3))


def decimated_vjp(phase):
    def vjp(v, x, h):
        g = np.zeros_like(x)
        for j in range(3):
            g[phase + j : phase + j + 7 : 2] += h[j] * v
        return g, np.stack([(v * x[1 + j : 8 + j : 2]).sum() for j in range(3)])

    return vjp


numpy_row(
    "i-decimation-phase", "polyphase decimator: the backward puts samples at phase 0, taken at phase 1",
    decimated, decimated_vjp(0), decimated_vjp(1), box(10), box(3),
)  # fmt: skip

# Physics and geometry.

PLACES = np.array([[0.0, 0.0], [2.0, 0.5], [-0.5, 2.5]])
MASSES = np.array([1.0, 0.5, 2.0])
PAIRS = ((0, 1), (0, 2), (1, 2))


def potential(x):
    r = PLACES + x
    return -sum(
        MASSES[i] * MASSES[j] / np.sqrt(((r[i] - r[j]) ** 2).sum() + 0.25) for i, j in PAIRS
    )


def softened_force(strength):
    def vjp(v, x):
        r, g = PLACES + x, np.zeros_like(x)
        for i, j in PAIRS:
            d = r[i] - r[j]
            pull = MASSES[i] * MASSES[j] * strength((d * d).sum()) * d
            g[i] += pull
            g[j] -= pull
        return (v * g,)

    return vjp


numpy_row(
    "i-plummer-force", "N-body code: softened 1/(r² + ε²) along the unit vector, not Plummer's force",
    potential, softened_force(lambda s: 1 / ((s + 0.25) * np.sqrt(s))),
    softened_force(lambda s: (s + 0.25) ** -1.5), box(3, 2, low=-0.5, high=0.5),
)  # fmt: skip
ATOMS = np.array([[1.5, 0.0, -0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.5, 1.5, 2.5]])


def cross(a, b):
    return np.stack([
        a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
    ])  # fmt: skip


def bonds(x):
    r = ATOMS + x
    a, b, c = r[1] - r[0], r[2] - r[1], r[3] - r[2]
    return a, b, c, cross(a, b), cross(b, c)


def dihedral(x):
    a, b, _, m, n = bonds(x)
    return np.arctan2(np.sqrt((b * b).sum()) * (a * n).sum(), (m * n).sum())


def dihedral_vjp(levers):
    def vjp(v, x):
        a, b, c, m, n = bonds(x)
        square = (b * b).sum()
        first = -np.sqrt(square) / (m * m).sum() * m
        last = np.sqrt(square) / (n * n).sum() * n
        shift = levers * ((a * b).sum() * first - (c * b).sum() * last) / square
        return (v * np.stack([first, -first - shift, shift - last, last]),)

    return vjp


numpy_row(
    "i-dihedral-inner-atoms",
    "torsion in molecular dynamics (Blondel 1996): inner atoms mirror the outer ones",
    dihedral, dihedral_vjp(0), dihedral_vjp(1), box(4, 3, low=-0.25, high=0.25),
)  # fmt: skip
HALF = np.float32(1e4)


def hill_by_quotient(v, x):
    with np.errstate(all="ignore"):
        return (v * 6 * HALF**6 * x**5 / (HALF**6 + x**6) ** 2,)


def hill_by_ratio(v, x):
    return (v * 6 / (x * (1 + (HALF / x) ** 6) * (1 + (x / HALF) ** 6)),)


numpy_row(
    "i-hill-quotient-overflow",
    "Hill equation of binding: quotient rule over sixth powers overflows in float32",
    lambda x: 1 / (1 + (HALF / x) ** 6), hill_by_quotient, hill_by_ratio,
    box(3, low=5e3, high=2e4, dtype="float32"), expected="nonfinite",
)  # fmt: skip


def einstein_by_factors(v, x):
    e = np.exp(x)
    return (v * x * x * e / (e - 1) ** 2 * (2 / x + 1 - 2 * e / (e - 1)),)


numpy_row(
    "i-einstein-heat-capacity", "Einstein solid's heat capacity: its logarithm's terms near x = 0, hot",
    lambda x: (x / 2 / np.sinh(x / 2)) ** 2, einstein_by_factors,
    lambda v, x: (-v * x * (1 / 6 - x * x * (1 / 60 - x * x / 1008)),),
    box(3, low=1e-4, high=1e-3), expected="imprecise",
)  # fmt: skip
NORTH = 0.75


def hav(a, b):
    return np.sin(a / 2) ** 2 + np.cos(NORTH) * np.cos(NORTH + a) * np.sin(b / 2) ** 2


def way_by_haversine(v, a, b):
    by_h = v / np.sqrt(hav(a, b) * (1 - hav(a, b)))
    by_a = np.sin(a) / 2 - np.cos(NORTH) * np.sin(NORTH + a) * np.sin(b / 2) ** 2
    return by_h * by_a, by_h * np.cos(NORTH) * np.cos(NORTH + a) * np.sin(b) / 2


def way_by_cosine(v, a, b):
    c = np.sin(NORTH) * np.sin(NORTH + a) + np.cos(NORTH) * np.cos(NORTH + a) * np.cos(b)
    by_c = -v / np.sqrt(1 - c * c)
    by_a = np.sin(NORTH) * np.cos(NORTH + a) - np.cos(NORTH) * np.sin(NORTH + a) * np.cos(b)
    return by_c * by_a, -by_c * np.cos(NORTH) * np.cos(NORTH + a) * np.sin(b)


numpy_row(
    "i-short-way-by-cosine", "great-circle distance of near points: slope by the spherical law of cosines",
    lambda a, b: 2 * np.arcsin(np.sqrt(hav(a, b))), way_by_cosine, way_by_haversine,
    box(3, low=1e-5, high=1e-4), box(3, low=1e-5, high=1e-4), expected="imprecise",
)  # fmt: skip


def magnification_by_quotient(v, u):
    s, root = u * u, np.sqrt(u * u + 4)
    return (v * (2 * s * root - (s + 2) * (root + s / root)) / (s * (s + 4)),)


numpy_row(
    "i-microlensing-far-source", "point lens' magnification of a far source: slope by the quotient rule",
    lambda u: (u * u + 2) / (u * np.sqrt(u * u + 4)), magnification_by_quotient,
    lambda v, u: (-8 * v / (u * u * (u * u + 4) * np.sqrt(u * u + 4)),),
    box(3, low=20, high=60, dtype="float32"), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "i-float16-coulomb-cube", "Coulomb force as r/|r|³ in float16: the cube is subnormal, and rounded",
    lambda r: 1 / r, lambda v, r: (-v * r / r**3,), lambda v, r: (-v / r / r,),
    box(4, low=0.0075, high=0.02, dtype="float16"), expected="imprecise",
)  # fmt: skip

# Wrong only in forward mode.

SPREAD = np.array([[2.0, 0.5], [0.0, 2.0], [1.0, -1.0]])


def orthonormal(x):
    a, b = (SPREAD + x).T
    q = a / np.sqrt((a * a).sum())
    u = b - (q * b).sum() * q
    return np.stack([q, u / np.sqrt((u * u).sum())], axis=1)


def orthonormal_tangent(turned):
    def jvp(tangents, x):
        (a, b), (ta, tb), (q, w) = (SPREAD + x).T, tangents[0].T, orthonormal(x).T
        tq = (ta - (q * ta).sum() * q) / np.sqrt((a * a).sum())
        shadow, moved = (q * b).sum(), turned * (tq * b).sum() + (q * tb).sum()
        u, tu = b - shadow * q, tb - moved * q - shadow * tq
        return np.stack([tq, (tu - (w * tu).sum() * w) / np.sqrt((u * u).sum())], axis=1)

    return jvp


numpy_jvp_row(
    "i-gram-schmidt-coefficient",
    "Gram-Schmidt in forward mode: the coefficient's tangent of the second vector only",
    orthonormal, orthonormal_tangent(0), orthonormal_tangent(1), box(3, 2, low=-0.5, high=0.5),
)  # fmt: skip


def interpolated(x, y):
    i = np.floor(x).astype(int)
    return y[i] + (x - i) * (y[i + 1] - y[i])


def interpolated_tangent(by_table):
    def jvp(tangents, x, y):
        tx, ty = tangents
        i = np.floor(x).astype(int)
        return tx * (y[i + 1] - y[i]) + by_table(x, i, ty)

    return jvp


numpy_jvp_row(
    "i-interpolation-table-tangent",
    "linear interpolation in forward mode: the trained table's left ends alone",
    interpolated, interpolated_tangent(lambda x, i, ty: ty[i]),
    interpolated_tangent(lambda x, i, ty: ty[i] + (x - i) * (ty[i + 1] - ty[i])),
    np.array([0.25, 1.5, 3.75]), box(5),
)  # fmt: skip
