"""Rows written without a look at gradcheck: matrices, special functions, digits; some opaque programs."""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg, special

from .rows import box, native_row, numpy_jvp_row, numpy_row

# Matrices and spectra.

numpy_row(
    "expm-commuted", "matrix exponential: differentiated as if the direction commuted with the matrix",
    linalg.expm,
    lambda v, a: (linalg.expm(a.T) @ v,),
    lambda v, a: (linalg.expm_frechet(a.T, v, compute_expm=False),), box(3, 3, low=-1, high=1),
)  # fmt: skip


def polar(x):
    u, _, vh = np.linalg.svd(x + 4 * np.eye(3))
    return u @ vh


numpy_row(
    "nuclear-norm-transposed", "nuclear norm: V Uᵀ in place of U Vᵀ",
    lambda x: np.sum(np.linalg.svd(x + 4 * np.eye(3), compute_uv=False)),
    lambda v, x: (v * polar(x).T,), lambda v, x: (v * polar(x),), box(3, 3, low=-1, high=1),
)  # fmt: skip


def ridge(x, y):
    return np.linalg.solve(x.T @ x + np.eye(2), x.T @ y)


def ridge_vjp(residual):
    def vjp(v, x, y):
        w, bar = ridge(x, y), np.linalg.solve(x.T @ x + np.eye(2), v)
        return np.outer(residual(x, y, w), bar) - np.outer(x @ bar, w), x @ bar

    return vjp


numpy_row(
    "ridge-residual", "ridge regression as a layer (meta-learning): X in Xᵀy taken as constant",
    ridge, ridge_vjp(lambda x, y, w: -x @ w), ridge_vjp(lambda x, y, w: y - x @ w),
    box(4, 2, low=-2, high=2), box(4, low=-2, high=2),
)  # fmt: skip


def log_det_by_loops(a):
    """Give the log-determinant of a + 4 I, of which, as in LAPACK, the lower triangle alone is read."""
    a, low, total = np.asarray(a, dtype=float), np.zeros((3, 3)), 0.0
    for j in range(3):
        low[j, j] = math.sqrt(a[j, j] + 4 - low[j, :j] @ low[j, :j])
        total += 2 * math.log(low[j, j])
        for i in range(j + 1, 3):
            low[i, j] = (a[i, j] - low[i, :j] @ low[j, :j]) / low[j, j]
    return np.array(total)


def lower_inverse(a):
    lower = np.tril(a, -1)
    return np.linalg.inv(lower + lower.T + np.diag(np.diag(a) + 4))


numpy_row(
    "log-det-lower-read", "log-determinant of the lower triangle: the symmetric gradient, not folded",
    log_det_by_loops,
    lambda v, a: (v * lower_inverse(a),),
    lambda v, a: (v * (np.tril(lower_inverse(a)) + np.tril(lower_inverse(a), -1)),),
    box(3, 3, low=-1, high=1),
)  # fmt: skip
PHASES = 2 * np.pi / 6 * (np.outer(np.arange(4), np.arange(6)) % 6)


def spectrum_vjp(v, x):
    f = np.fft.rfft(x)
    return (2 * ((v * f.real) @ np.cos(PHASES) - (v * f.imag) @ np.sin(PHASES)),)


numpy_row(
    "power-spectrum-doubled", "spectral loss through irfft: bins between the ends counted twice",
    lambda x: np.abs(np.fft.rfft(x)) ** 2,
    lambda v, x: (12 * np.fft.irfft(v * np.fft.rfft(x), 6),), spectrum_vjp, box(6),
)  # fmt: skip


def quaternion(p, q):
    a, b, c, d = p
    e, f, g, h = q
    return np.stack([
        a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e,
    ])  # fmt: skip


MIRROR = np.array([1.0, -1, -1, -1])
POINT = np.array([0.0, 0.5, -1, 2])


def sandwich(left, right):
    return quaternion(quaternion(left, POINT), MIRROR * right)[1:]


numpy_jvp_row(
    "quaternion-sandwich-tangent", "rotation q p q*: the right factor's tangent conjugated twice",
    lambda q: sandwich(q, q),
    lambda t, q: sandwich(t[0], q) + sandwich(q, MIRROR * t[0]),
    lambda t, q: sandwich(t[0], q) + sandwich(q, t[0]), box(4),
)  # fmt: skip


def horner(c, x):
    p = c[0] + 0 * x
    for k in (1, 2, 3):
        p = p * x + c[k]
    return p


def horner_tangent(late):
    def jvp(tangents, c, x):
        tc, tx = tangents
        p, dp = c[0] + 0 * x, tc[0] + 0 * x
        for k in (1, 2, 3):
            after = p * x + c[k]
            dp = dp * x + (after if late else p) * tx + tc[k]
            p = after
        return dp

    return jvp


numpy_jvp_row(
    "horner-tangent-order", "Horner's scheme in forward mode: the value updated before its tangent",
    horner, horner_tangent(True), horner_tangent(False), box(4, low=-2, high=2), box(3, low=-2, high=2),
)  # fmt: skip

# Special functions, and loops over floats.


def central_angle(lat, step):
    a, b, s = float(lat[0]), float(lat[1]), float(step)
    square = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(s / 2) ** 2
    return np.array(2 * math.asin(math.sqrt(square)))


def central_angle_vjp(second):
    def vjp(v, lat, step):
        a, b = lat
        rise, run = np.sin((b - a) / 2), np.sin(step / 2)
        square = rise**2 + np.cos(a) * np.cos(b) * run**2
        scale = v / np.sqrt(square * (1 - square))
        north = np.sin(b - a) / 2
        slopes = (
            -north - np.sin(a) * np.cos(b) * run**2,
            north - second * np.cos(a) * np.sin(b) * run**2,
        )
        return scale * np.stack(slopes), scale * np.cos(a) * np.cos(b) * np.sin(step) / 2

    return vjp


numpy_row(
    "haversine-second-latitude", "haversine distance: the second latitude's cosine taken as constant",
    central_angle, central_angle_vjp(0), central_angle_vjp(1), box(2, low=-1, high=1), box(low=0.5, high=2),
)  # fmt: skip
numpy_row(
    "matern-bessel-recurrence", "Matérn kernels: K' by the recurrence of J, a difference",
    lambda x: special.kv(1.5, x),
    lambda v, x: (v * (special.kv(0.5, x) - special.kv(2.5, x)) / 2,),
    lambda v, x: (-v * (special.kv(0.5, x) + special.kv(2.5, x)) / 2,), box(3, low=0.5, high=4),
)  # fmt: skip


def power_mean_vjp(normalised):
    def vjp(v, x, p):
        powers = x**p
        mean = np.mean(powers)
        y = mean ** (1 / p)
        by_power = np.mean(powers * np.log(x)) / (p * mean) - normalised * np.log(mean) / p**2
        return v * y * powers / (x * mean * 4), v * y * by_power

    return vjp


numpy_row(
    "generalised-mean-power", "GeM pooling with a trained p: the outer 1/p not differentiated",
    lambda x, p: np.mean(x**p) ** (1 / p), power_mean_vjp(0), power_mean_vjp(1),
    box(4, low=0.25, high=2), box(low=1.5, high=4),
)  # fmt: skip

# NaN and infinity.


def log_softmax(x):
    z = x - np.max(x)
    return z - np.log(np.sum(np.exp(z)))


def by_division(v, x):
    p = np.exp(log_softmax(x))
    with np.errstate(all="ignore"):
        g = v / p
        return (p * (g - np.sum(p * g)),)


numpy_row(
    "log-softmax-by-division", "log after softmax, each with its own backward: v/p of p underflowed",
    log_softmax, by_division, lambda v, x: (v - np.exp(log_softmax(x)) * np.sum(v),),
    box(4, low=-150, high=150, dtype="float32"), expected="nonfinite",
)  # fmt: skip
STEEP = np.float16(1.703125)


def quick_gelu_vjp(gate):
    def vjp(v, x):
        with np.errstate(over="ignore", invalid="ignore"):
            s = gate(np.exp(STEEP * x), np.exp(-STEEP * x))
        return (v * s * (1 + STEEP * x * (1 - s)),)

    return vjp


numpy_row(
    "quick-gelu-float16", "QuickGELU in float16: e/(1 + e) of an overflowed exponential",
    lambda x: x / (1 + np.exp(-STEEP * x)),
    quick_gelu_vjp(lambda e, r: e / (1 + e)), quick_gelu_vjp(lambda e, r: 1 / (1 + r)),
    box(3, low=8, high=30, dtype="float16"), expected="nonfinite",
)  # fmt: skip

# Right formulas that lose their digits.


def small_root(b, c):
    return -2 * c / (b + np.sqrt(b * b - 4 * c))


def small_root_vjp(by_linear):
    def vjp(v, b, c):
        s = np.sqrt(b * b - 4 * c)
        return v * by_linear(b, c, s), -v / s

    return vjp


numpy_row(
    "quadratic-small-root", "the small root of a quadratic differentiated in its textbook form (b/s - 1)/2",
    small_root,
    small_root_vjp(lambda b, c, s: (b / s - 1) / 2), small_root_vjp(lambda b, c, s: -small_root(b, c) / s),
    box(3, low=1e6, high=1e7), box(3, low=0.5, high=2), expected="imprecise", strict=True,
)  # fmt: skip
numpy_row(
    "langevin-slope", "Langevin function (magnets, polymers): 1/x² - 1/sinh² x near 0",
    lambda x: x / 3 * (1 - x * x / 15 * (1 - x * x * 2 / 21)),
    lambda v, x: (v * (1 / x**2 - 1 / np.sinh(x) ** 2),),
    lambda v, x: (v * (1 / 3 - x * x / 15 * (1 - x * x * 10 / 63)),),
    box(3, low=1e-6, high=1e-4), expected="imprecise",
)  # fmt: skip
numpy_row(
    "softsign-from-result", "softsign in place: (1 - |y|)² of the result for large x, float32",
    lambda x: x / (1 + np.abs(x)),
    lambda v, x: (v * (1 - np.abs(x / (1 + np.abs(x)))) ** 2,), lambda v, x: (v / (1 + np.abs(x)) ** 2,),
    box(3, low=1e4, high=1e6, dtype="float32"), expected="imprecise", strict=True,
)  # fmt: skip
native_row(
    "hyperbolic-sinc", "(exp(x) - exp(-x))/2x in spherical kernels, differentiated as it stands near 0",
    "numpy", lambda x: (np.exp(x) - np.exp(-x)) / (2 * x),
    lambda x: 1 + x * x / 6 * (1 + x * x / 20 * (1 + x * x / 42)),
    box(3, low=1e-7, high=1e-5), expected="imprecise",
)  # fmt: skip
