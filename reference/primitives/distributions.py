"""Densities and distribution functions with the names of scipy.stats, to be differentiated.

>>> import numpy as np
>>> from ffverify.reference import grad, stats
>>> float(grad(stats.norm.logpdf)(1.0))
-1.0

scipy.stats' own functions turn their arguments into plain arrays. These take traced values: points x,
shape parameters, then ``loc`` and ``scale``; in points, location and scale all are differentiated, and in
shape parameters where SciPy has the functions that this needs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite, nan, pi
from math import log as log_number
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive
from ffverify.reference.engine.var import Value, shape_of

from . import scipy_functions as f
from . import tails
from .elementary import exp, greater, less, log, logical_or, square, where
from .factorisations import log_pseudo_det, pinv
from .linalg import log_abs_det, matmul, solve
from .reductions import sum_

LOG_2PI = log_number(2 * pi)
RCOND = 1e-10  # of the largest eigenvalue of a covariance: smaller ones count as 0
Density = Callable[..., Value]


def _positive(parameter: Value) -> Value:
    """Return a scale or shape, NaN where it is not positive: as in SciPy, so is what is made of it."""
    return where(greater(parameter, 0.0), parameter, nan)


def _as_it_is(y: Value, _scale: Value) -> Value:
    return y


def _scaled(
    logpdf: Density,
    cdf: Density,
    sf: Density,
    *,
    support: tuple[float, float] = (-inf, inf),
    pdf: Density | None = None,
    logcdf: Density,
    logsf: Density,
) -> SimpleNamespace:
    """Make a distribution's functions, with loc and scale, from those of its standard form.

    Each is given (z, *shapes) with z = (x - loc) / scale, where z lies in the support. In the tails the
    logarithm of a distribution function is not that of what has underflown.
    """
    low, high = support
    middle = 0.5 * (low + high) if isfinite(high) else low + 1.0

    def of(
        function: Density, below: float, above: float, finish: Callable[[Value, Value], Value]
    ) -> Density:
        def evaluate(x: Value, *shapes: Value, loc: Value = 0.0, scale: Value = 1.0) -> Value:
            count = 0 if isinstance(function, Primitive) else function.__code__.co_argcount - 1
            shapes, rest = shapes[:count], shapes[count:]
            loc, scale = rest[0] if rest else loc, rest[1] if len(rest) > 1 else scale
            shapes, scale = tuple(map(_positive, shapes)), _positive(scale)
            z = (x - loc) / scale
            if isfinite(low):
                under, over = less(z, low), greater(z, high)
                y = function(where(logical_or(under, over), middle, z), *shapes)
                beyond = 0.0 * y  # NaN where a parameter is
                y = where(under, below + beyond, where(over, above + beyond, y))
            else:
                y = function(z, *shapes)
            return finish(y, scale)

        return evaluate

    return SimpleNamespace(
        logpdf=of(logpdf, -inf, -inf, lambda y, scale: y - log(scale)),
        # At the ends of a support the logarithm of a density of 0 has no slope.
        pdf=of(pdf, 0.0, 0.0, lambda y, scale: y / scale)
        if pdf
        else of(logpdf, -inf, -inf, lambda y, scale: exp(y) / scale),
        cdf=of(cdf, 0.0, 1.0, _as_it_is),
        logcdf=of(logcdf, -inf, 0.0, _as_it_is),
        sf=of(sf, 1.0, 0.0, _as_it_is),
        logsf=of(logsf, 0.0, -inf, _as_it_is),
    )


norm = _scaled(
    lambda z: -0.5 * square(z) - 0.5 * LOG_2PI,
    f.ndtr,
    lambda z: f.ndtr(-z),
    logcdf=f.log_ndtr,
    logsf=lambda z: f.log_ndtr(-z),
)
t = _scaled(
    lambda z, df: f.log_t_density(df, z),
    lambda z, df: f.stdtr(df, z),
    lambda z, df: f.stdtr(df, -z),
    logcdf=lambda z, df: tails.log_stdtr(df, z),
    logsf=lambda z, df: tails.log_stdtr(df, -z),
)
gamma = _scaled(
    lambda z, a: f.log_gamma_density(a, z),
    lambda z, a: f.gammainc(a, z),
    lambda z, a: f.gammaincc(a, z),
    support=(0.0, inf),
    pdf=lambda z, a: f.gamma_density(a, z),
    logcdf=lambda z, a: tails.log_gammainc(a, z),
    logsf=lambda z, a: tails.log_gammaincc(a, z),
)
chi2 = _scaled(
    lambda z, df: f.log_gamma_density(0.5 * df, 0.5 * z) - log_number(2.0),
    lambda z, df: f.gammainc(0.5 * df, 0.5 * z),
    lambda z, df: f.gammaincc(0.5 * df, 0.5 * z),
    support=(0.0, inf),
    pdf=lambda z, df: 0.5 * f.gamma_density(0.5 * df, 0.5 * z),
    logcdf=lambda z, df: tails.log_gammainc(0.5 * df, 0.5 * z),
    logsf=lambda z, df: tails.log_gammaincc(0.5 * df, 0.5 * z),
)
beta = _scaled(
    lambda z, a, b: f.log_beta_density(a, b, z),
    lambda z, a, b: f.betainc(a, b, z),
    lambda z, a, b: f.betaincc(a, b, z),
    support=(0.0, 1.0),
    pdf=lambda z, a, b: f.beta_density(a, b, z),
    logcdf=lambda z, a, b: tails.log_betainc(a, b, z),
    logsf=lambda z, a, b: tails.log_betaincc(a, b, z),
)


def _of_counts(function: Density, beyond: float) -> Density:
    """Make the function of numbers of events, which is given (n, mu)."""

    def of(k: Value, mu: Value, loc: Any = 0) -> Value:
        n = np.asarray(k - loc)
        counts = (n >= 0) & (n == np.floor(n))
        return where(counts, function(np.where(counts, n, 0.0), mu), beyond)

    return of


def _poisson_cdf(function: Density, below: float) -> Density:
    def cdf(k: Value, mu: Value, loc: Any = 0) -> Value:
        n = np.floor(np.asarray(k - loc))
        return where(n >= 0, function(np.maximum(n, 0.0) + 1.0, mu), below)

    return cdf


poisson: Any = SimpleNamespace(
    logpmf=_of_counts(lambda n, mu: f.xlogy(n, mu) - f.gammaln(n + 1.0) - mu, -inf),
    pmf=_of_counts(lambda n, mu: f.gamma_density(n + 1.0, mu), 0.0),
    cdf=_poisson_cdf(f.gammaincc, 0.0),
    sf=_poisson_cdf(f.gammainc, 1.0),
    logcdf=_poisson_cdf(tails.log_gammaincc, -inf),
    logsf=_poisson_cdf(tails.log_gammainc, 0.0),
)


def _dirichlet_logpdf(x: Value, alpha: Value) -> Value:
    total = f.gammaln(sum_(alpha)) - sum_(f.gammaln(alpha))
    return total + np.dot(alpha - 1.0, log(x))


dirichlet = SimpleNamespace(
    logpdf=_dirichlet_logpdf, pdf=lambda x, alpha: exp(_dirichlet_logpdf(x, alpha))
)


def _normal_logpdf(
    x: Value, mean: Value, cov: Value, allow_singular: bool = False, *, entropy: bool = False
) -> Value:
    """Log-density of points [..., n]; or, with `entropy`, what it is on average, with its sign changed."""
    n = shape_of(cov)[-1]
    if allow_singular:
        w = np.linalg.eigvalsh(cov)
        rank = int(np.sum(np.asarray(np.greater(w, RCOND * np.max(np.abs(w))))))
        log_det = log_pseudo_det(cov, rcond=RCOND)
    else:
        rank, log_det = n, log_abs_det(cov)
    if entropy:
        return 0.5 * (rank * (LOG_2PI + 1.0) + log_det)
    r = x - mean
    white = (
        matmul(r, pinv(cov, rcond=RCOND))
        if allow_singular
        else solve(cov, r.T if r.ndim > 1 else r).T
    )
    return -0.5 * (rank * LOG_2PI + log_det + sum_(r * white, -1))


multivariate_normal = SimpleNamespace(
    logpdf=_normal_logpdf,
    pdf=lambda x, mean, cov, allow_singular=False: exp(
        _normal_logpdf(x, mean, cov, allow_singular)
    ),
    entropy=lambda mean, cov: _normal_logpdf(mean, mean, cov, entropy=True),
)
