"""Logarithms of distribution functions that go on, with their slopes, where the functions have underflown.

The slope of log F is s = ±f/F, and that of s is s (q - s), q the slope of log f. Far out f and F are 0, and
q - s is lost: of an exponential tail both are -1. So there s and the gap q - s are each a continued fraction
of their own (Cuyt et al. 2008), whose terms have one sign; elsewhere s is the quotient that it says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, elementwise
from ffverify.reference.engine.var import Value

from .elementary import divide, exp, greater, less, square, where
from .scipy_functions import (
    FLOPS,
    _unknown,
    beta_density,
    betainc,
    betaincc,
    gamma_density,
    gammainc,
    gammaincc,
    log_beta_density,
    log_gamma_density,
    log_t_density,
    stdtr,
)

CLOSE, LONGEST = 4 * 2.0**-53, 10_000
LEAST = 1e-290  # of a distribution function, where its logarithm has all digits


def _fraction(start: Any, term: Callable[[int], tuple[Any, Any]]) -> Any:
    """Evaluate start + a_1 / (b_1 + a_2 / (b_2 + ...)), (a_k, b_k) = term(k) (Lentz 1976)."""
    y = above = start
    below: Any = 0.0
    for k in range(1, LONGEST):
        a, b = term(k)
        below = 1.0 / (b + a * below)
        above = b + a / above
        y = y * (above * below)
        if not np.any(np.abs(above * below - 1.0) > CLOSE):
            break
    return y


def _upper_gamma(a: Any, x: Any) -> tuple[Any, Any]:
    """Return (log Q)' and q less that, for x above a."""
    x = np.minimum(x, 1e300)
    d = _fraction(x + 3 - a, lambda k: (-(k + 1) * (k + 1 - a), x + 2 * k + 3 - a))
    return -(x + 1 - a + (a - 1) / d) / x, (a - 1) / d / x


def _lower_gamma(a: Any, x: Any) -> tuple[Any, Any]:
    """Return (log P)' and q less that, for x below a."""
    below = _fraction(
        a + 2, lambda k: ((k // 2 + 1) * x if k % 2 == 0 else -(a + k // 2 + 1) * x, a + 2 + k)
    )
    u = x / below
    return a / x * ((a + 1 - x + u) / (a + 1 + u)), -(1 / x + (1 + u) / (a + 1 + u))


def _beta_parts(a: Any, b: Any, x: Any, c: Any) -> tuple[Any, Any]:
    """Return x (1 - x) / a times (log I)', and what the gap is made of, for x below the mean; c = 1 - x."""

    def term(k: int) -> Any:
        m = (k + 2) // 2
        if k % 2 == 0:
            return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))

    g = term(0) / _fraction(np.ones_like(x * a * b), lambda k: (term(k), 1.0))
    rest = (1 + (a + 1) * g) / ((a + 1) * (1 + g))
    return (g + c + x * (1 - b) / (a + 1)) / (1 + g), rest


def _beta_tail(a: Any, b: Any, x: Any, *, upper: bool) -> tuple[Any, Any]:
    c, sign = 1 - x, 1
    if upper:
        (a, x), (b, c), sign = (b, c), (a, x), -1
    s, rest = _beta_parts(a, b, x, c)
    return sign * a / x / c * s, -sign * (c - x + (a + b) * x * rest) / x / c


def _t_tail(df: Any, t: Any) -> tuple[Any, Any]:
    """Return the same of Student's t, for t < -2: half of I at df / (df + t²)."""
    r = t / np.sqrt(df)
    w, c = 1 / (1 + r * r), 1 / (1 + 1 / (r * r))
    s, rest = _beta_parts(df / 2, 0.5, w, c)
    return -df * s / t, -(1 - (df + 1) * w * rest) / t


def _tail(
    name: str,
    compute: Callable[..., tuple[Any, Any]],
    bend: Callable[..., Value],
    unknown: list[Any],
) -> Primitive:
    """Declare s, and for n=1 the gap, by their numbers and by `bend`, the slope of q."""

    def forward(*args: Any, n: int = 0, **side: Any) -> Any:
        with np.errstate(all="ignore"):
            y = compute(*(np.asarray(x, float) for x in args), **side)[n]
        return y.astype(np.result_type(*args), copy=False)[()]

    def slope(y: Value, *args: Value, n: int = 0, **side: Any) -> Value:
        other = self(*args, n=1 - n, **side)
        return y * other if n == 0 else bend(*args) - y * other

    self = elementwise(name, forward, *unknown, slope, flops=FLOPS)
    return self


_IN_GAMMAS = [_unknown("gammainc", "its first argument")]
_IN_BETAS = [
    _unknown("betainc", "its first argument"),
    _unknown("betainc", "its second argument", 1),
]
_IN_T = [_unknown("stdtr", "its degrees of freedom")]


def _gamma_bend(a: Value, x: Value) -> Value:
    return divide(divide(1.0 - a, x), x)


def _t_bend(df: Value, t: Value) -> Value:
    r = divide(1.0, t + divide(df, t))  # t / (df + t²)
    return (df + 1.0) * r * (2.0 * r - divide(1.0, t))


upper_gamma = _tail("upper_gamma", _upper_gamma, _gamma_bend, _IN_GAMMAS)
lower_gamma = _tail("lower_gamma", _lower_gamma, _gamma_bend, _IN_GAMMAS)
beta_tail = _tail(
    "beta_tail",
    _beta_tail,
    lambda a, b, x: (1.0 - a) / square(x) + (1.0 - b) / square(1.0 - x),
    _IN_BETAS,
)
t_tail = _tail("t_tail", _t_tail, _t_bend, _IN_T)


def _logarithm(
    name: str,
    F: Callable[..., Any],
    complement: Callable[..., Any],
    log_density: Callable[..., Any],
    tail: Callable[..., Any],
    slope: Callable[..., Value],
    unknown: list[Any],
) -> Primitive:
    """Declare log F, which is log f - log |s| where F is 0 or nearly so."""

    def forward(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            below = np.asarray(F(*args), float)
            y = np.where(below > 0.5, np.log1p(-complement(*args)), np.log(below))
            lost = below < LEAST
            if lost.any():
                parts = [np.broadcast_to(np.asarray(x, float), below.shape)[lost] for x in args]
                s = tail(*parts)
                at_end = np.isinf(parts[-1]) | np.isinf(s)
                y[lost] = np.where(at_end, -np.inf, log_density(*parts) - np.log(np.abs(s)))
        return y.astype(np.result_type(*args), copy=False)[()]

    return elementwise(
        name, forward, *unknown, lambda _y, *args: slope(*args), singular=True, flops=2 * FLOPS
    )


def _by_parts(
    x: Value,
    far: Value,
    tail: tuple[Callable[[Value], Value], Value],
    near: tuple[Callable[[Value], Value], Value],
) -> Value:
    """Return a tail's function of x where it is far, else another; each with a point that is right for it."""
    (of_far, there), (of_near, here) = tail, near
    return where(far, of_far(where(far, x, there)), of_near(where(far, here, x)))


def _log_gammainc_slope(a: Value, x: Value) -> Value:
    return _by_parts(
        x,
        less(x, a + 1.0),
        (lambda x: lower_gamma(a, x), 0.5 * a),
        (lambda x: -upper_gamma(a, x) * gammaincc(a, x) / gammainc(a, x), 2.0 * a + 9.0),
    )


def _log_gammaincc_slope(a: Value, x: Value) -> Value:
    return _by_parts(
        x,
        greater(x, a + 1.0),
        (lambda x: upper_gamma(a, x), 2.0 * a + 9.0),
        (lambda x: -gamma_density(a, x) / gammaincc(a, x), a),
    )


def _log_betainc_slope(a: Value, b: Value, x: Value) -> Value:
    mean = (a + 1.0) / (a + b + 2.0)
    return _by_parts(
        x,
        less(x, mean),
        (lambda x: beta_tail(a, b, x, upper=False), 0.5 * mean),
        (lambda x: beta_density(a, b, x) / betainc(a, b, x), mean),
    )


def _log_betaincc_slope(a: Value, b: Value, x: Value) -> Value:
    mean = (a + 1.0) / (a + b + 2.0)
    return _by_parts(
        x,
        greater(x, mean),
        (lambda x: beta_tail(a, b, x, upper=True), 0.5 * mean + 0.5),
        (lambda x: -beta_density(a, b, x) / betaincc(a, b, x), mean),
    )


def _log_stdtr_slope(df: Value, t: Value) -> Value:
    return _by_parts(
        t,
        less(t, -2.0),
        (lambda t: t_tail(df, t), -4.0),
        (lambda t: exp(log_t_density(df, t)) / stdtr(df, t), 0.0),
    )


log_gammainc = _logarithm(
    "log_gammainc", gammainc, gammaincc, log_gamma_density, lower_gamma, _log_gammainc_slope, _IN_GAMMAS
)  # fmt: skip
log_gammaincc = _logarithm(
    "log_gammaincc", gammaincc, gammainc, log_gamma_density, upper_gamma, _log_gammaincc_slope, _IN_GAMMAS
)  # fmt: skip
log_betainc = _logarithm(
    "log_betainc",
    betainc,
    betaincc,
    log_beta_density,
    lambda *args: beta_tail(*args, upper=False),
    _log_betainc_slope,
    _IN_BETAS,
)
log_betaincc = _logarithm(
    "log_betaincc",
    betaincc,
    betainc,
    log_beta_density,
    lambda *args: beta_tail(*args, upper=True),
    _log_betaincc_slope,
    _IN_BETAS,
)
log_stdtr = _logarithm(
    "log_stdtr",
    stdtr,
    lambda df, t: stdtr(df, -t),
    log_t_density,
    t_tail,
    _log_stdtr_slope,
    _IN_T,
)
