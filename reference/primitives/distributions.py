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
from math import log as log_number
from math import pi
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive
from ffverify.reference.engine.var import Value, shape_of

from . import scipy_functions as f
from .elementary import exp, log, log1p, square
from .factorisations import pinv
from .linalg import log_abs_det, matmul, solve
from .reductions import sum_

LOG_2PI = log_number(2 * pi)
Density = Callable[..., Value]


def _scaled(logpdf: Density, cdf: Density, sf: Density) -> SimpleNamespace:
    """Make a distribution's functions, with loc and scale, from those of its standard form.

    Each is given (z, *shapes) with z = (x - loc) / scale.
    """

    def of(function: Density, finish: Callable[[Value, Value], Value]) -> Density:
        def evaluate(x: Value, *shapes: Value, loc: Value = 0.0, scale: Value = 1.0) -> Value:
            count = 0 if isinstance(function, Primitive) else function.__code__.co_argcount - 1
            shapes, rest = shapes[:count], shapes[count:]
            loc, scale = rest[0] if rest else loc, rest[1] if len(rest) > 1 else scale
            return finish(function((x - loc) / scale, *shapes), scale)

        return evaluate

    def as_it_is(y: Value, _scale: Value) -> Value:
        return y

    return SimpleNamespace(
        logpdf=of(logpdf, lambda y, scale: y - log(scale)),
        pdf=of(logpdf, lambda y, scale: exp(y) / scale),
        cdf=of(cdf, as_it_is),
        logcdf=of(cdf, lambda y, _scale: log(y)),
        sf=of(sf, as_it_is),
        logsf=of(sf, lambda y, _scale: log(y)),
    )


norm = _scaled(lambda z: -0.5 * square(z) - 0.5 * LOG_2PI, f.ndtr, lambda z: f.ndtr(-z))
# In the tails the logarithm of a distribution function is not that of what has underflown.
norm.logcdf = lambda x, loc=0.0, scale=1.0: f.log_ndtr((x - loc) / scale)
norm.logsf = lambda x, loc=0.0, scale=1.0: f.log_ndtr(-(x - loc) / scale)
t = _scaled(
    lambda z, df: (
        f.gammaln(0.5 * (df + 1.0))
        - f.gammaln(0.5 * df)
        - 0.5 * log(pi * df)
        - 0.5 * (df + 1.0) * log1p(square(z) / df)
    ),
    lambda z, df: f.stdtr(df, z),
    lambda z, df: f.stdtr(df, -z),
)
gamma = _scaled(
    lambda z, a: f.xlogy(a - 1.0, z) - z - f.gammaln(a),
    lambda z, a: f.gammainc(a, z),
    lambda z, a: f.gammaincc(a, z),
)
chi2 = _scaled(
    lambda z, df: (
        f.xlogy(0.5 * df - 1.0, 0.5 * z) - 0.5 * z - f.gammaln(0.5 * df) - log_number(2.0)
    ),
    lambda z, df: f.gammainc(0.5 * df, 0.5 * z),
    lambda z, df: f.gammaincc(0.5 * df, 0.5 * z),
)
beta = _scaled(
    lambda z, a, b: f.xlogy(a - 1.0, z) + f.xlog1py(b - 1.0, -z) - f.betaln(a, b),
    lambda z, a, b: f.betainc(a, b, z),
    lambda z, a, b: f.betainc(b, a, 1.0 - z),
)


def _poisson_logpmf(k: Value, mu: Value, loc: Any = 0) -> Value:
    return f.xlogy(k - loc, mu) - f.gammaln(k - loc + 1.0) - mu


poisson = SimpleNamespace(
    logpmf=_poisson_logpmf,
    pmf=lambda k, mu, loc=0: exp(_poisson_logpmf(k, mu, loc)),
    cdf=lambda k, mu, loc=0: f.gammaincc(np.floor(k - loc) + 1.0, mu),
    sf=lambda k, mu, loc=0: f.gammainc(np.floor(k - loc) + 1.0, mu),
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
        some = np.greater(w, 1e-10 * np.max(np.abs(w)))
        rank, log_det = int(np.sum(np.asarray(some))), sum_(log(np.where(some, w, 1.0)))
    else:
        rank, log_det = n, log_abs_det(cov)
    if entropy:
        return 0.5 * (rank * (LOG_2PI + 1.0) + log_det)
    r = x - mean
    white = matmul(r, pinv(cov)) if allow_singular else solve(cov, r.T if r.ndim > 1 else r).T
    return -0.5 * (rank * LOG_2PI + log_det + sum_(r * white, -1))


multivariate_normal = SimpleNamespace(
    logpdf=_normal_logpdf,
    pdf=lambda x, mean, cov, allow_singular=False: exp(
        _normal_logpdf(x, mean, cov, allow_singular)
    ),
    entropy=lambda mean, cov: _normal_logpdf(mean, mean, cov, entropy=True),
)
