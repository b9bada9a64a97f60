"""Rows written without a look at gradcheck: signals, statistics, physics and geometry in plain NumPy."""

from __future__ import annotations

import numpy as np
from scipy import special

from .rows import box, numpy_jvp_row, numpy_row

# Signals.


def recursive(x, a):
    """Give the output of an all-pole filter of order two."""
    y = []
    for n in range(6):
        s = x[n]
        for k in range(min(n, 2)):
            s = s - a[k] * y[n - 1 - k]
        y.append(s)
    return np.stack(y)


def recursive_vjp(weights):
    def vjp(v, x, a):
        y, back = recursive(x, a), np.zeros(8)
        for n in range(5, -1, -1):
            back[n] = v[n] - a[0] * back[n + 1] - a[1] * back[n + 2]
        w = weights(v, back[:6])
        return back[:6], -np.stack([w[1:] @ y[:5], w[2:] @ y[:4]])

    return vjp


numpy_row(
    "recursive-filter-feedback", "torchaudio lfilter (audio#1310): feedback's gradient of the raw cotangent",
    recursive, recursive_vjp(lambda v, back: v), recursive_vjp(lambda v, back: back),
    box(6), box(2, low=-0.75, high=0.75),
)  # fmt: skip


def emphasised(x):
    return np.concatenate([x[:1], x[1:] - np.float32(0.96875) * x[:-1]])


def emphasised_vjp(chunk):
    def vjp(v, x):
        later = [np.append(part[1:], np.zeros_like(v[:1])) for part in np.split(v, 200 // chunk)]
        return (v - np.float32(0.96875) * np.concatenate(later),)

    return vjp


numpy_row(
    "pre-emphasis-chunks", "speech front end run in chunks: one sample before the border gets no carry",
    emphasised, emphasised_vjp(100), emphasised_vjp(200), box(200, dtype="float32"),
)  # fmt: skip
MU, LOG_MU = 255, 5.545177444479562
numpy_row(
    "mu-law-companding", "WaveNet's μ-law companding, smooth version: inner factor μ forgotten",
    lambda x: np.sign(x) * np.log1p(MU * np.abs(x)) / LOG_MU,
    lambda v, x: (v / LOG_MU / (1 + MU * np.abs(x)),),
    lambda v, x: (v * (MU / LOG_MU) / (1 + MU * np.abs(x)),),
    box(4, low=-1, high=1, dtype="float16"),
)  # fmt: skip


def tone_curve(x):
    return np.where(x < 0, 0.5 * x, np.where(x < 1, 2 * x, x + 1))


numpy_row(
    "tone-curve-knot-twice", "piecewise linear tone curve: a knot lies in both segments' closed masks",
    tone_curve,
    lambda v, x: (v * (0.5 * (x <= 0) + 2.0 * ((x >= 0) & (x <= 1)) + 1.0 * (x >= 1)).astype(x.dtype),),
    lambda v, x: (v * np.where(x < 0, 0.5, np.where(x < 1, 2, 1)).astype(x.dtype),),
    np.float32([-1, 0, 0.25, 1, 1.5]),
)  # fmt: skip

# Likelihoods and estimators.

SHARES = np.array([0.125, 0.5, 0.25, 0.125])


def dirichlet(a):
    return special.gammaln(np.sum(a)) + np.sum((a - 1) * np.log(SHARES) - special.gammaln(a))


numpy_row(
    "dirichlet-total", "Dirichlet log-likelihood (Minka 2000): the total's digamma forgotten",
    dirichlet,
    lambda v, a: (v * (np.log(SHARES) - special.digamma(a)),),
    lambda v, a: (v * (special.digamma(np.sum(a)) - special.digamma(a) + np.log(SHARES)),),
    box(4, low=0.5, high=4),
)  # fmt: skip
EVENTS = np.array([1.0, 0, 1, 1, 0])


def at_risk(h):
    e = np.exp(h - np.max(h))
    return e, np.cumsum(e[::-1])[::-1]


def cox(h):
    return np.sum(EVENTS * (np.log(at_risk(h)[1]) + np.max(h) - h))


def cox_vjp(accumulate):
    def vjp(v, h):
        e, risk = at_risk(h)
        return (v * (e * accumulate(EVENTS / risk) - EVENTS),)

    return vjp


numpy_row(
    "cox-risk-sets", "Cox loss as a boosting objective: a subject counts in its own risk set alone",
    cox, cox_vjp(lambda s: s), cox_vjp(np.cumsum), box(5),
)  # fmt: skip
LESS_A, LESS_B = np.array([0.0, 1, 2]), np.array([1.0, 0, 2])  # a - 1 and b - 1


def beta_log_density(x):
    return LESS_A * np.log(np.where(LESS_A == 0, 1, x)) + LESS_B * np.log1p(-x)


def beta_vjp(v, x):
    with np.errstate(all="ignore"):
        return (v * (LESS_A / x - LESS_B / (1 - x)),)


numpy_row(
    "beta-density-at-zero", "numpyro#2088: log-density of Beta(1, b) at 0 is 0 · log 0, its slope 0/0",
    beta_log_density, beta_vjp,
    lambda v, x: (v * (LESS_A / np.where(LESS_A == 0, 1, x) - LESS_B / (1 - x)),),
    np.array([0.0, 0.5, 0.25]), expected="nonfinite",
)  # fmt: skip


def event_probability(x):
    return -np.expm1(-np.exp(x))


numpy_row(
    "cloglog-from-probability", "binomial GLM, complementary log-log: μ' as e^η (1 - μ), far up",
    event_probability,
    lambda v, x: (v * np.exp(x) * (1 - event_probability(x)),),
    lambda v, x: (v * np.exp(x - np.exp(x)),),
    box(4, low=2, high=3.25), expected="imprecise", strict=True,
)  # fmt: skip


def welford(x):
    mean, squares = 0 * x[0], 0 * x[0]
    for n in range(5):
        d = x[n] - mean
        mean = mean + d / (n + 1)
        squares = squares + d * (x[n] - mean)
    return squares / 4


def welford_tangent(updated):
    def jvp(tangents, x):
        (t,) = tangents
        mean, dm, ds = 0 * x[0], 0 * t[0], 0 * t[0]
        for n in range(5):
            d, dd = x[n] - mean, t[n] - dm
            mean, dm = mean + d / (n + 1), dm + dd / (n + 1)
            ds = ds + dd * (x[n] - mean) + d * (t[n] - dm if updated else dd)
        return ds / 4

    return jvp


numpy_jvp_row(
    "welford-tangent", "running variance (Welford) in forward mode: the old mean's tangent in both factors",
    welford, welford_tangent(False), welford_tangent(True), box(5),
)  # fmt: skip
YEARS = np.arange(1, 31)


def annuity(r):
    return -np.expm1(-30 * np.log1p(r)) / r


numpy_row(
    "annuity-low-rate", "duration of an annuity by the quotient rule, at rates near zero",
    annuity,
    lambda v, r: (v * (30 * r * (1 + r) ** -31.0 - (1 - (1 + r) ** -30.0)) / (r * r),),
    lambda v, r: (-v * np.sum(YEARS * (1 + r[:, None]) ** -(YEARS + 1.0), axis=1),),
    box(3, low=1e-9, high=1e-6), expected="imprecise",
)  # fmt: skip

# Physics.


def switched(r):
    u = np.clip(2.5 - r, 0, 1)
    return 4 * (r**-12 - r**-6) * u**3 * (10 - u * (15 - 6 * u))


def switched_vjp(slope):
    def vjp(v, r):
        u, t = np.clip(2.5 - r, 0, 1), np.clip(r - 1.5, 0, 1)
        energy, force = 4 * (r**-12 - r**-6), 4 * (6 * r**-7 - 12 * r**-13)
        return (v * (force * u**3 * (10 - u * (15 - 6 * u)) - slope * energy * 30 * u**2 * t**2),)

    return vjp


numpy_row(
    "switched-potential-force", "Lennard-Jones with a switch (CHARMM, OpenMM): the force alone switched",
    switched, switched_vjp(0), switched_vjp(1), box(5, low=1, high=3),
)  # fmt: skip


def planck(x):
    e = np.exp(-x)
    return x**3 * e / (1 - e)


def planck_vjp(v, x):
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return (v * (3 * x**2 * (e - 1) - x**3 * e) / (e - 1) ** 2,)


def planck_stable_vjp(v, x):
    e = np.exp(-x)
    return (v * (x * x * e * (3 - x / (1 - e)) / (1 - e)),)


numpy_row(
    "planck-law-slope", "Planck's law in the Wien limit: the quotient rule over e^x overflows in float32",
    planck, planck_vjp, planck_stable_vjp, box(3, low=78, high=86, dtype="float32"), expected="nonfinite",
)  # fmt: skip


def tidal_vjp(by_distance):
    def vjp(v, r, d):
        return v * by_distance(r, d), v * 2 / (r + d) ** 3

    return vjp


numpy_row(
    "tidal-acceleration", "Encke's method: 2/(r + d)³ - 2/r³, the difference that the value avoids",
    lambda r, d: d * (2 * r + d) / (r * (r + d)) ** 2,
    tidal_vjp(lambda r, d: 2 / (r + d) ** 3 - 2 / r**3),
    tidal_vjp(lambda r, d: -2 * d * (3 * r * (r + d) + d * d) / (r * (r + d)) ** 3),
    box(3, low=1, high=3), box(3, low=1e-11, high=1e-9), expected="imprecise",
)  # fmt: skip


def leapfrog(q, p):
    half = p - 0.125 * np.sin(q)
    moved = q + 0.25 * half
    return np.stack([moved, half - 0.125 * np.sin(moved)])


def leapfrog_tangent(at):
    def jvp(tangents, q, p):
        tq, tp = tangents
        moved = q + 0.25 * (p - 0.125 * np.sin(q))
        half = tp - 0.125 * np.cos(q) * tq
        new = tq + 0.25 * half
        return np.stack([new, half - 0.125 * np.cos(at(q, moved)) * new])

    return jvp


numpy_jvp_row(
    "leapfrog-second-kick", "Hamiltonian Monte Carlo, forward mode: both kicks linearised at the old place",
    leapfrog, leapfrog_tangent(lambda q, moved: q), leapfrog_tangent(lambda q, moved: moved), box(3), box(3),
)  # fmt: skip
NORMAL = np.float32([0.5, -1, 2])


def traction(e):
    rows = [[e[0], e[5] / 2, e[4] / 2], [e[5] / 2, e[1], e[3] / 2], [e[4] / 2, e[3] / 2, e[2]]]
    return np.stack([np.stack(row) for row in rows]) @ NORMAL


def traction_vjp(shear):
    def vjp(v, e):
        m = np.outer(v, NORMAL)
        shears = [m[1, 2] + m[2, 1], m[0, 2] + m[2, 0], m[0, 1] + m[1, 0]]
        return (np.concatenate([np.diag(m), shear * np.stack(shears)]).astype(e.dtype),)

    return vjp


numpy_row(
    "voigt-shear", "elasticity in Voigt notation: tensor shear's gradient for engineering shear",
    traction, traction_vjp(1), traction_vjp(0.5), box(6, dtype="float32"),
)  # fmt: skip

# Rendering and recurrence.


def composite(a, c):
    seen, total = 1 + 0 * a[0], 0 * a[0]
    for k in range(4):
        total = total + seen * a[k] * c[k]
        seen = seen * (1 - a[k])
    return total


def reaching(a):
    return np.concatenate([np.ones(1), np.cumprod(1 - a[:-1])])


def composite_by_division(v, a, c):
    w = a * reaching(a)
    later = np.cumsum((w * c)[::-1])[::-1] - w * c
    with np.errstate(all="ignore"):
        return v * (c * reaching(a) - later / (1 - a)), v * w


def composite_by_recursion(v, a, c):
    behind = np.zeros(4)
    for k in (2, 1, 0):
        behind[k] = a[k + 1] * c[k + 1] + (1 - a[k + 1]) * behind[k + 1]
    return v * reaching(a) * (c - behind), v * a * reaching(a)


numpy_row(
    "compositing-opaque-sample", "volume rendering (gsplat): what lies behind over 1 - α, at α = 1",
    composite, composite_by_division, composite_by_recursion,
    np.array([0.25, 0.5, 1.0, 0.75]), box(4, low=0.25, high=1), expected="nonfinite",
)  # fmt: skip
DX, DY = np.float32([0.5, -1, 0.25, 1, -0.75]), np.float32([1, 0.5, -0.5, -1, -0.25])


def splat_vjp(mixed):
    def vjp(v, q):
        g = v * np.exp(-0.5 * (q[0] * DX * DX + q[2] * DY * DY) - q[1] * DX * DY)
        parts = [-0.5 * g @ (DX * DX), -mixed * g @ (DX * DY), -0.5 * g @ (DY * DY)]
        return (np.stack(parts),)

    return vjp


numpy_row(
    "splat-conic-mixed", "diff-gaussian-rasterization#94: the mixed conic term's gradient halved",
    lambda q: np.exp(-0.5 * (q[0] * DX * DX + q[2] * DY * DY) - q[1] * DX * DY),
    splat_vjp(np.float32(0.5)), splat_vjp(np.float32(1)), box(3, low=0.5, high=2, dtype="float32"),
)  # fmt: skip


def update_vjp(gate_slope):
    def vjp(v, a, c, h):
        return v * (c - h) * gate_slope(a), v * special.expit(a), v * special.expit(-a)

    return vjp


numpy_row(
    "update-gate-buffer", "recurrent cell activates its gates in place: backward activates the buffer again",
    lambda a, c, h: h + special.expit(a) * (c - h),
    update_vjp(lambda a: special.expit(special.expit(a)) * special.expit(-special.expit(a))),
    update_vjp(lambda a: special.expit(a) * special.expit(-a)),
    *(box(4, dtype="float32") for _ in range(3)),
)  # fmt: skip
