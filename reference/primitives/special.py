"""Numerical kernels: values (and slopes) that keep their digits in both tails, in NumPy alone.

`activations.py` declares the primitives whose `forward` they are. Each works in float64 for
narrower types, which rounds the result once, and in longdouble for longdouble (erf and its kin have
double accuracy there). Results near the smallest numbers are products of two square roots of a
small factor, so that only the last rounding can be one of a subnormal number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import factorial, pi, sqrt
from typing import Any

import numpy as np

# erf(x)/x - 1 in powers of x², on |x| <= 1: Chebyshev interpolation at 60 digits; error < 2^-60.
_ERF = (
    0.1283791670955126,
    -0.3761263890318375,
    0.11283791670954882,
    -0.026866170645077334,
    0.005223977624823223,
    -0.0008548326981129666,
    0.00012055331122299266,
    -1.4925595519506043e-05,
    1.6461004480962034e-06,
    -1.6350354461959655e-07,
    1.4660051998394848e-08,
    -1.1373902296430911e-09,
    5.958930743134941e-11,
)
# (1 + 2x) e^(x²) erfc(x) for x >= 0, Chebyshev series in (x - 15/4)/(x + 15/4), the variable of
# Shepherd & Laframboise 1981; the first term left out is 2e-18.
_ERFCX = (
    1.1775789345674017,
    -0.004590054580646478,
    -0.08424913336651792,
    0.05920993999819189,
    -0.026658668435305753,
    0.009074997670705265,
    -0.002413163540417608,
    0.0004907758365258086,
    -6.916973302501207e-05,
    4.13902798607301e-06,
    7.74038306619849e-07,
    -2.1886401049234397e-07,
    1.076499946567091e-08,
    4.521959811218287e-09,
    -7.754400208831351e-10,
    -6.318088340886684e-11,
    2.86879501093067e-11,
    1.94558685457774e-13,
    -9.65469674843343e-13,
    3.252548148148898e-14,
    3.347811948287014e-14,
    -1.864562880416744e-15,
    -1.250795053065837e-15,
    7.418235256969802e-17,
    5.0681489051815133e-17,
)
# z cosh z - sinh z = Σ_k 2k/(2k+1)! z^(2k+1), all terms of one sign.
_TANHSHRINK = (
    1 / 3,
    1 / 30,
    1 / 840,
    1 / 45360,
    1 / 3991680,
    1 / 518918400,
    1 / 93405312000,
    1 / 22230464256000,
    1 / 6758061133824000,
    1 / 2554547108585472000,
)
_FAR = 2e4  # e^-|z| is 0 here in every dtype, so that farther points may be moved to it
Kernel = Callable[[Any], Any]


def _kernel(compute: Kernel) -> Kernel:
    """Let a float64 or longdouble computation serve every dtype, scalars, and infinities silently."""

    @functools.wraps(compute)
    def forward(z: Any) -> Any:
        if not isinstance(z, np.ndarray | np.generic | float | int):  # as a ufunc of this name does
            return z.__array_ufunc__(forward, "__call__", z)
        given = np.asarray(z)
        dtype = given.dtype if given.dtype.kind == "f" else np.dtype(np.float64)
        wide = np.atleast_1d(given.astype(np.result_type(dtype, np.float64), copy=False))
        with np.errstate(all="ignore"):
            return compute(wide).reshape(given.shape).astype(dtype, copy=False)[()]

    return forward


def _horner(coefficients: tuple[float, ...], s: Any) -> Any:
    total = np.full_like(s, coefficients[-1])
    for c in coefficients[-2::-1]:
        total *= s
        total += c
    return total


def _erf_near_zero(x: Any) -> Any:
    return x + x * _horner(_ERF, x * x)


def _erfcx(x: Any) -> Any:
    """Return e^(x²) erfc(x) for 0 <= x < inf."""
    t = (x - 3.75) / (x + 3.75)
    after, here = np.zeros_like(t), np.zeros_like(t)
    for c in _ERFCX[:0:-1]:
        after, here = here, 2 * t * here - after + c
    return (t * here - after + _ERFCX[0]) / (1 + 2 * x)


def _erfc_right(x: Any) -> Any:
    """erfc(x) for x >= 0.5. x² is split into an exact part and a rest, or e^(-x²) would lose digits."""
    x = np.minimum(x, 100.0)
    head = x.astype(np.float32).astype(x.dtype)
    return np.exp(-head * head) * (np.exp(-(x - head) * (x + head)) * _erfcx(x))


@_kernel
def erf(x: Any) -> Any:
    """erf, within 1 ulp or so."""
    y = np.sign(x) * (1 - _erfc_right(np.maximum(np.absolute(x), 0.5)))
    near = np.absolute(x) <= 1
    y[near] = _erf_near_zero(x[near])
    return np.where(np.isnan(x), x, y)


@_kernel
def erfc(x: Any) -> Any:
    """erfc, with full relative accuracy in the right tail."""
    right = _erfc_right(np.maximum(np.absolute(x), 0.5))
    y = np.where(x < 0, 2 - right, right)
    near = np.absolute(x) < 0.5
    y[near] = 1 - _erf_near_zero(x[near])
    return np.where(np.isnan(x), x, y)


@_kernel
def gauss_forward(x: Any) -> Any:
    """e^(-x²), in two factors as in erfc."""
    x = np.clip(x, -200.0, 200.0)
    head = x.astype(np.float32).astype(x.dtype)
    return np.exp(-head * head) * np.exp(-(x - head) * (x + head))


# In the next ones h = e^(-|z|/2), so that e^(-|z|) = h² multiplies in two steps. -----------------------
@_kernel
def silu_forward(z: Any) -> Any:
    """Z σ(z)."""
    z = np.maximum(z, -_FAR)
    h = np.exp(-np.absolute(z) / 2)
    factor = np.where(z >= 0, 1.0, h)
    return (z * factor / (1 + h * h)) * factor


@_kernel
def silu_slope_forward(z: Any) -> Any:
    """σ(z) (1 + z σ(-z))."""
    z = np.clip(z, -_FAR, _FAR)
    h = np.exp(-np.absolute(z) / 2)
    e = h * h
    factor, other = np.where(z >= 0, 1.0, h), np.where(z >= 0, e, 1.0)
    return (factor * (1 + z * other / (1 + e)) / (1 + e)) * factor


@_kernel
def mish_forward(z: Any) -> Any:
    """Z tanh(ζ(z)) = z n / (n + 2) with n = e^z (e^z + 2)."""
    z = np.maximum(z, -_FAR)
    h = np.exp(-np.absolute(z) / 2)
    e = h * h
    right = z * ((1 + 2 * e) / (1 + 2 * e + 2 * e * e))
    left = (z * h * ((e + 2) / (e * (e + 2) + 2))) * h
    return np.where(z >= 0, right, left)


@_kernel
def mish_slope_forward(z: Any) -> Any:
    """tanh(ζ) + z σ / cosh²(ζ), over the common denominator (n + 2)²."""
    z = np.clip(z, -_FAR, _FAR)
    h = np.exp(-np.absolute(z) / 2)
    e = h * h
    d = 1 + 2 * e + 2 * e * e
    right = (1 + 2 * e) / d + z * (4 * e * e * (1 + e) / (d * d))
    d = e * (e + 2) + 2
    left = (h * (((e + 2) * d + 4 * z * (1 + e)) / (d * d))) * h
    return np.where(z >= 0, right, left)


@_kernel
def gelu_forward(z: Any) -> Any:
    """Z Φ(z); on the left by erfcx, without the underflow of Φ."""
    a = np.clip(np.absolute(z) * sqrt(0.5), 0, 100.0)
    # e^(-z²/2) from z itself: a² would carry the rounding of sqrt(0.5).
    q = np.exp(-np.square(np.minimum(np.absolute(z), 150.0)) / 4)
    tail = 0.5 * _erfcx(a)
    right = z - (z * tail * q) * q
    left = (np.maximum(z, -150.0) * tail * q) * q
    y = np.where(z > 0, right, left)
    return np.where(z == np.inf, z, y)


@_kernel
def gelu_slope_forward(z: Any) -> Any:
    """Φ(z) + z φ(z)."""
    w = np.clip(z, -150.0, 150.0)
    q = np.exp(-np.square(w) / 4)
    tail = 0.5 * _erfcx(np.absolute(w) * sqrt(0.5))
    left = (q * (w / sqrt(2 * pi) + tail)) * q
    right = 1 + (q * (w / sqrt(2 * pi) - tail)) * q
    return np.where(z > 0, right, left)


_GELU_K, _GELU_C = 2 * sqrt(2 / pi), 0.044715


def gelu_tanh_argument(z: Any) -> tuple[Any, Any]:
    """Return u = 2 sqrt(2/π) (z + 0.044715 z³) and du/dz: the tanh form of GELU is z σ(u)."""
    return _GELU_K * z + (_GELU_K * _GELU_C) * z * z * z, _GELU_K * (1 + 3 * _GELU_C * z * z)


@_kernel
def gelu_tanh_forward(z: Any) -> Any:
    """Z σ(u)."""
    z = np.maximum(z, -60.0)
    h = np.exp(-np.absolute(gelu_tanh_argument(np.minimum(z, 60.0))[0]) / 2)
    factor = np.where(z >= 0, 1.0, h)
    return (z * factor / (1 + h * h)) * factor


@_kernel
def gelu_tanh_slope_forward(z: Any) -> Any:
    """σ(u) (1 + z σ(-u) du/dz)."""
    z = np.clip(z, -60.0, 60.0)
    u, u_dot = gelu_tanh_argument(z)
    h = np.exp(-np.absolute(u) / 2)
    e = h * h
    factor, other = np.where(z >= 0, 1.0, h), np.where(z >= 0, e, 1.0)
    return (factor * (1 + z * u_dot * other / (1 + e)) / (1 + e)) * factor


@_kernel
def tanhshrink_forward(z: Any) -> Any:
    """Z - tanh z = (z cosh z - sinh z) / cosh z, whose numerator is a sum of one sign near 0."""
    y = z - np.tanh(z)
    near = np.absolute(z) < 1
    x = z[near]
    y[near] = x * x * x * _horner(_TANHSHRINK, x * x) / np.cosh(x)
    return y


def sinc_derivative(x: Any, *, n: int = 0) -> Any:
    """Return the derivative of order n of sin(πx)/(πx).

    With z = πx it is π^n g_n(z), g_n(z) = ∫_0^1 t^n cos(zt + nπ/2) dt: by its power series near 0, and by
    z g_n = sin(z + nπ/2) - n g_{n-1} where that does not amplify errors.
    """

    def compute(x: Any) -> Any:
        z = pi * x
        far = np.absolute(z) > max(1, n)
        safe = np.where(far, z, 1.0)
        turns = [np.sin(safe), np.cos(safe), -np.sin(safe), -np.cos(safe)]
        y = turns[0] / safe
        for k in range(1, n + 1):
            y = (turns[k % 4] - k * y) / safe
        near, square = np.where(far, 0.0, z), np.square(np.where(far, 0.0, z))
        first = (n + 1) // 2  # (-1)^k (2k)! / ((2k-n)! (2k+1)!) z^(2k-n), from 2k >= n on
        c = (
            (-1.0) ** first
            * factorial(2 * first)
            / factorial(2 * first - n)
            / factorial(2 * first + 1)
        )
        term = c * (near if n % 2 else np.ones_like(near))
        total = term.copy()
        for k in range(first + 1, first + 20):
            term = -term * square / ((2 * k - n) * (2 * k - n - 1)) * ((2 * k - 1) / (2 * k + 1))
            total += term
        return pi**n * np.where(far, y, total)

    return _kernel(compute)(x)


@_kernel
def softsign_forward(z: Any) -> Any:
    """Z / (1 + |z|)."""
    return np.where(np.isinf(z), np.sign(z), z / (1 + np.absolute(z)))
