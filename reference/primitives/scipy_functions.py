"""SciPy's functions, the special ones above all, with slopes made of one another; values are SciPy's own.

``scipy.special.gammaln(x)`` on a traced value finds its primitive here by name. SciPy need not be
installed, and is imported when the first of them is applied. A parameter in which SciPy has no function
for the slope (the shape of an incomplete gamma function) is refused, not taken as constant.

Functions that turn their arguments into plain arrays before anyone is asked (`polygamma`, `logsumexp`,
`softmax`, scipy.signal's `convolve`, scipy.linalg's `sqrtm`, ...) are to be called from here, as
``ffverify.reference.scipy_functions``.
"""

from __future__ import annotations

import functools
import importlib
from math import factorial, pi, prod, sqrt
from math import log as log_number
from typing import Any, NoReturn

import numpy as np

from ffverify.reference.engine.primitive import (
    ELEMENTARY,
    Primitive,
    constant,
    elementwise,
    general,
    reshape,
    scale,
)
from ffverify.reference.engine.var import NAMESAKES, SPECIAL, Value, innermost, shape_of

from . import activations, elementary
from .elementary import (
    absolute,
    cos,
    divide,
    exp,
    hypot,
    hypot_slope,
    less,
    log,
    log1p,
    power,
    sign,
    square,
    where,
)  # fmt: skip
from .linalg import matmul, matrix_transpose, solve
from .reductions import axes, log_softmax_along, rows_of, softmax_along, sum_
from .reductions import logsumexp as plain_logsumexp
from .shaping import ARRAY, gather, pad_zeros, transpose

FLOPS = 100


@functools.cache
def _special() -> Any:
    try:
        return importlib.import_module("scipy.special")
    except ImportError:  # pragma: no cover
        raise ImportError(
            "this function's values are SciPy's: pip install 'ffverify[scipy]'"
        ) from None


def _scipy(
    name: str, *slopes: Any, called: str = "", singular: bool = False, **options: Any
) -> Primitive:
    """Declare scipy.special's function of that name; `called` is the primitive's name, if another."""

    def forward(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return getattr(_special(), name)(*args)

    options = {"flops": FLOPS} | options
    return elementwise(called or name, forward, *slopes, singular=singular, **options)


def _unknown(name: str, argument: str, place: int = 0) -> Any:
    def refuse(_y: Value, *xs: Value, **__: Any) -> NoReturn:
        value = np.array2string(np.asarray(innermost(xs[place])), threshold=4, edgeitems=2)
        raise TypeError(
            f"scipy.special.{name} has no derivative in {argument}, {value}, whose slope has "
            "no closed form (distribution functions put a shape parameter there): hold it constant "
            "(argnums=, or a closure), or attach a rule with custom_rule"
        )

    return refuse


# Gamma functions -------------------------------------------------------------------------------------
gammaln: Primitive = _scipy("gammaln", lambda _y, x: digamma(x), called="lgamma")
digamma: Primitive = _scipy("psi", lambda _y, x: trigamma(x, n=1), called="digamma")
trigamma: Primitive = elementwise(
    "polygamma_n",
    lambda x, *, n=1: np.asarray(_special().polygamma(n, x), getattr(x, "dtype", float))[()],
    lambda _y, x, *, n=1: trigamma(x, n=n + 1),
    flops=FLOPS,
    # As a ufunc of that name would, if SciPy's were one.
    exact=lambda x, *, n=1: x.__array_ufunc__(polygamma, "__call__", float(n), x),
)
gamma = _scipy("gamma", lambda y, x: y * digamma(x), called="gamma")


def _rgamma_slope(y: Value, x: Value) -> Value:
    """Return -ψ(x)/Γ(x), to the left by reflection, where both have poles and it has none."""
    left = less(x, 0.5)
    z = where(left, x, 0.0)
    sine = z * activations.sinc_derivative(z, n=0)  # sin(πz)/π
    turned = gamma(1.0 - z) * (cos(pi * z) - digamma(1.0 - z) * sine)
    return where(left, turned, -y * digamma(where(left, 1.0, x)))


rgamma = _scipy("rgamma", _rgamma_slope)


def _gamma_growth(a: Any, b: Any, *, n: int = -1) -> Any:
    """Compute it for a, a + b > 0 by Stirling's series at a + 10: a sum of small differences, each exact."""
    dtype, (a, b) = np.result_type(a, b), (np.asarray(x, float) for x in (a, b))

    def of_power(x: Any, p: int) -> Any:
        """(x + b)^-p - x^-p."""
        return x**-p * np.expm1(-p * np.log1p(b / x))

    with np.errstate(all="ignore"):
        x, sign = a + SHIFT, (-1.0) ** (n + 1)
        ratio = np.log1p(b / x)
        if n < 0:
            y = (x - 0.5) * ratio + b * (np.log(x + b) - 1.0)
            y = y - sum(np.log1p(b / (a + k)) for k in range(SHIFT))
        else:
            y = ratio if n == 0 else sign * factorial(n - 1) * of_power(x, n)
            shifted = sum(of_power(a + k, n + 1) for k in range(SHIFT))
            y = y + sign * factorial(n) * (of_power(x, n + 1) / 2 + shifted)
        for k, bernoulli in enumerate(BERNOULLI, 1):
            rising = factorial(2 * k + n - 1) / factorial(2 * k)
            y = y + sign * bernoulli * rising * of_power(x, 2 * k + n)
        direct = _derivative_of_gammaln(a + b, n) - _derivative_of_gammaln(a, n)
        return np.where((a > 0) & (a + b > 0), y, direct).astype(dtype)[()]


def _derivative_of_gammaln(x: Any, n: int) -> Any:
    return _special().gammaln(x) if n < 0 else polygamma(n, x)


SHIFT = 10
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
# log Γ(a + b) - log Γ(a), b small beside a or not; for n >= 0 of log Γ's derivative of order n + 1.
gamma_growth: Primitive = elementwise(
    "gamma_growth",
    _gamma_growth,
    lambda _y, a, b, *, n=-1: gamma_growth(a, b, n=n + 1),
    lambda _y, a, b, *, n=-1: polygamma(n + 1, a + b),
    flops=2 * FLOPS,
    exact=lambda a, b, *, n=-1: _derivative_of_gammaln(a + b, n) - _derivative_of_gammaln(a, n),
)
beta = _scipy(
    "beta",
    lambda y, a, b: -y * gamma_growth(a, b, n=0),
    lambda y, a, b: -y * gamma_growth(b, a, n=0),
)
betaln = _scipy(
    "betaln",
    lambda _y, a, b: -gamma_growth(a, b, n=0),
    lambda _y, a, b: -gamma_growth(b, a, n=0),
)
gammasgn = constant("gammasgn", lambda x: _special().gammasgn(x))


def _beta_kernel(p: Any, q: Any, x: Any, r: Any) -> Any:
    return np.exp(_special().xlogy(p, x) + _special().xlog1py(q, -x) + r)


# x^p (1 - x)^q e^r, of which densities and their slopes are made: that of a power is one of another
# power, right to every order also where the base is 0.
beta_kernel: Primitive = elementwise(
    "beta_kernel",
    _beta_kernel,
    lambda y, _p, _q, x, _r: scale(y, log(x)),
    lambda y, _p, _q, x, _r: scale(y, log1p(-x)),
    lambda _y, p, q, x, r: (
        scale(p, beta_kernel(p - 1.0, q, x, r)) - scale(q, beta_kernel(p, q - 1.0, x, r))
    ),
    lambda y, *_: y,
    singular=True,
    flops=FLOPS,
    exact=lambda p, q, x, r: x**p * (1 - x) ** q * np.exp(r),
)


def _log1p_square(x: Any) -> Any:
    far = np.absolute(x) > 1e9
    near = np.log1p(np.square(np.where(far, 0.0, x)))
    return np.where(far, 2.0 * np.log(np.absolute(np.where(far, x, 1.0))), near)[()]


def log_gamma_density(a: Value, x: Value) -> Value:
    """Return the logarithm of the density of the standard gamma distribution."""
    return xlogy(a - 1.0, x) - x - gammaln(a)


def log_beta_density(a: Value, b: Value, x: Value) -> Value:
    """Return the logarithm of the density of the beta distribution."""
    return xlogy(a - 1.0, x) + xlog1py(b - 1.0, -x) - betaln(a, b)


def log_t_density(df: Value, t: Value) -> Value:
    """Return the logarithm of the density of Student's t distribution."""
    return (
        gamma_growth(0.5 * df, 0.5)
        - 0.5 * log(pi * df)
        - 0.5 * (df + 1.0) * log1p_square(divide(t, elementary.sqrt(df)))
    )


# log(1 + x²), of which x² may overflow.
log1p_square = elementwise(
    "log1p_square",
    _log1p_square,
    lambda _y, x: 2.0 * hypot_slope(x, 1.0) / hypot(x, 1.0),
    flops=2 * ELEMENTARY,
    exact=lambda x: np.log1p(x * x),
)


def gamma_density(a: Value, x: Value) -> Value:
    """Return the density of the standard gamma distribution."""
    return beta_kernel(a - 1.0, 0.0, x, -x - gammaln(a))


def beta_density(a: Value, b: Value, x: Value) -> Value:
    """Return the density of the beta distribution."""
    return beta_kernel(a - 1.0, b - 1.0, x, -betaln(a, b))


gammainc = _scipy(
    "gammainc", _unknown("gammainc", "its first argument"), lambda _y, a, x: gamma_density(a, x)
)
gammaincc = _scipy(
    "gammaincc", _unknown("gammaincc", "its first argument"), lambda _y, a, x: -gamma_density(a, x)
)
betainc, betaincc = (
    _scipy(
        name,
        _unknown("betainc", "its first argument"),
        _unknown("betainc", "its second argument", 1),
        slope,
    )
    for name, slope in (
        ("betainc", lambda _y, a, b, x: beta_density(a, b, x)),
        ("betaincc", lambda _y, a, b, x: -beta_density(a, b, x)),
    )
)


def polygamma(n: int, x: Value) -> Value:
    """As `scipy.special.polygamma`, for one order n."""
    order = int(np.asarray(n))
    return digamma(x) if order == 0 else trigamma(x, n=order)


def multigammaln(a: Value, d: int) -> Value:
    """As `scipy.special.multigammaln`."""
    y = d * (d - 1) * 0.25 * log_number(pi)
    for j in range(d):
        y = y + gammaln(a - j / 2.0)
    return y


# The normal distribution, logarithms -----------------------------------------------------------------
erfinv: Primitive = _scipy("erfinv", lambda y, _x: (sqrt(pi) / 2) * exp(square(y)), domain=(-1, 1))
erfcinv: Primitive = _scipy(
    "erfcinv", lambda y, _x: (-sqrt(pi) / 2) * exp(square(y)), domain=(0, 2)
)
ndtr = _scipy("ndtr", lambda _y, x: exp(-0.5 * square(x)) / sqrt(2 * pi))
ndtri = _scipy("ndtri", lambda y, _x: sqrt(2 * pi) * exp(0.5 * square(y)), domain=(0, 1))


def _erfcx_slope(x: Any) -> Any:
    """Compute 2x erfcx(x) - 2/√π, to the right by its asymptotic series: the terms cancel."""
    far = np.maximum(x, FAR)
    s = 0.5 / np.square(far)
    series = 0.0 * s
    for k in range(TERMS, 0, -1):
        series = -(2 * k - 1) * s * (1.0 + series)
    near = 2.0 * x * _special().erfcx(x) - 2 / sqrt(pi)
    return np.where(x > FAR, 2 / sqrt(pi) * series, near)[()]


FAR, TERMS = 16.0, 9  # the first term left out is 3e-16 of the first
erfcx: Primitive = _scipy("erfcx", lambda _y, x: erfcx_slope(x))
erfcx_slope: Primitive = elementwise(
    "erfcx_slope",
    _erfcx_slope,
    lambda y, x: 2.0 * (erfcx(x) + x * y),
    flops=FLOPS,
    exact=lambda x: 2 * x * erfcx(x) - 1 / np.sqrt(np.arctan(np.ones_like(x))),  # √(π/4) = √π/2
)


def _log_ndtr_slope(y: Value, x: Value) -> Value:
    """Return φ(x)/Φ(x), to the left by erfcx: the exponents of both are large there."""
    left = less(x, 0.0)
    mills = divide(sqrt(2 / pi), erfcx(-sqrt(0.5) * where(left, x, 0.0)))
    return where(left, mills, exp(where(left, 0.0, -0.5 * square(x) - y)) / sqrt(2 * pi))


log_ndtr = _scipy("log_ndtr", _log_ndtr_slope)
logit = _scipy(
    "logit",
    lambda _y, x: divide(1.0, x * (1.0 - x)),
    domain=(0, 1),
    exact=lambda x: np.log(x) - np.log1p(-x),
)
xlogy: Primitive = _scipy(
    "xlogy", lambda _y, _x, y: log(y), lambda _y, x, y: scale(x, divide(1.0, y)), singular=True
)
xlog1py: Primitive = _scipy(
    "xlog1py",
    lambda _y, _x, y: log1p(y),
    lambda _y, x, y: scale(x, divide(1.0, 1.0 + y)),
    singular=True,
)
entr = _scipy("entr", lambda _y, x: -1.0 - log(x), domain=(0, np.inf), singular=True)
rel_entr = _scipy(
    "rel_entr",
    lambda _y, x, y: 1.0 + log(divide(x, y)),
    lambda _y, x, y: -divide(x, y),
    singular=True,
    exact=lambda x, y: -entr(x) - xlogy(x, y),
)

# Robust losses: the threshold, then the residual -------------------------------------------------------
huber = _scipy(
    "huber",
    lambda _y, d, r: where(less(absolute(r), d), 0.0, absolute(r) - d),
    lambda _y, d, r: where(less(absolute(r), d), r, d * sign(r)),
    kinks="|r| = d: second slopes of the straight side",
    exact=lambda d, r: np.minimum(abs(r), d) * (abs(r) - np.minimum(abs(r), d) / 2),
)


def _pseudo_huber_slope(_y: Value, d: Value, r: Value) -> Value:
    """Return (h - d)²/h for h = hypot(d, r), of which h - d = r²/(h + d) does not cancel."""
    h = hypot(d, r)
    rest = r * divide(r, h + d)
    return rest * divide(rest, h)


pseudo_huber = _scipy(
    "pseudo_huber",
    _pseudo_huber_slope,
    lambda _y, d, r: d * hypot_slope(r, d),
    domain=(0, np.inf),
    exact=lambda d, r: d * (np.sqrt(d * d + r * r) - d),
)

# Bessel functions ------------------------------------------------------------------------------------


def _of_order(name: str, below: float, above: float, more: Any = None) -> Primitive:
    """Declare a function of order v whose slope is a combination of orders v - 1 and v + 1."""

    def slope(y: Value, v: Value, x: Value) -> Value:
        found = below * self(v - 1, x) + above * self(v + 1, x)
        return found if more is None else found + more(y, x)

    self: Primitive = _scipy(name, _unknown(name, "its order"), slope)
    return self


jv = _of_order("jv", 0.5, -0.5)
yv = _of_order("yv", 0.5, -0.5)
iv = _of_order("iv", 0.5, 0.5)
kv = _of_order("kv", -0.5, -0.5)
ive = _of_order("ive", 0.5, 0.5, lambda y, x: -sign(x) * y)
j0: Primitive = _scipy("j0", lambda _y, x: -j1(x))
j1: Primitive = _scipy("j1", lambda _y, x: 0.5 * (j0(x) - jv(2.0, x)))
y0: Primitive = _scipy("y0", lambda _y, x: -y1(x), domain=(0, np.inf))
y1: Primitive = _scipy("y1", lambda _y, x: 0.5 * (y0(x) - yv(2.0, x)), domain=(0, np.inf))
i0: Primitive = _scipy("i0", lambda _y, x: i1(x))
i1: Primitive = _scipy("i1", lambda _y, x: 0.5 * (i0(x) + iv(2.0, x)))
# Of themselves: exp(-|x|) times the others would be 0 times infinity beyond 713.
i0e: Primitive = _scipy("i0e", lambda y, x: i1e(x) - sign(x) * y, kinks={0.0: 0.0})
i1e: Primitive = _scipy("i1e", lambda y, x: 0.5 * (i0e(x) + ive(2.0, x)) - sign(x) * y)
k0: Primitive = _scipy("k0", lambda _y, x: -k1(x), domain=(0, np.inf))
k1: Primitive = _scipy("k1", lambda _y, x: -0.5 * (k0(x) + kv(2.0, x)), domain=(0, np.inf))
# The distribution function of Student's t: degrees of freedom, then the point.
stdtr = _scipy(
    "stdtr",
    _unknown("stdtr", "its degrees of freedom"),
    lambda _y, df, t: exp(log_t_density(df, t)),
)


def logsumexp(
    a: Value, axis: Any = None, b: Value = None, keepdims: bool = False, return_sign: bool = False
) -> Value:
    """As `scipy.special.logsumexp`: log Σ b exp(a)."""
    if return_sign:
        raise TypeError("logsumexp: return_sign=True is not supported on a traced value")
    if b is None:
        return plain_logsumexp(a, axis, keepdims=keepdims)
    largest = np.max(a, axis=axis, keepdims=True)
    total = sum_(b * exp(a - largest), axis, keepdims=keepdims)
    return log(total) + (largest if keepdims else np.max(a, axis=axis))


def softmax(x: Value, axis: Any = None) -> Value:
    """As `scipy.special.softmax`: over one axis, several, or (None) all."""
    return _of_rows(softmax_along, x, axes(x, axis))


def log_softmax(x: Value, axis: Any = None) -> Value:
    """As `scipy.special.log_softmax`: over one axis, several, or (None) all."""
    return _of_rows(log_softmax_along, x, axes(x, axis))


def _of_rows(function: Primitive, x: Value, chosen: tuple[int, ...]) -> Value:
    """Apply a function along one axis to the elements of some axes, each where it was."""
    if len(chosen) == 1:
        return function(x, axis=chosen[0])
    shape, others = shape_of(x), tuple(a for a in range(len(shape_of(x))) if a not in chosen)
    rows = rows_of(x, chosen)
    y = function(rows, axis=len(shape_of(rows)) - 1)
    y = reshape(y, shape=tuple(shape[a] for a in others + chosen))
    return transpose(y, axes=tuple(np.argsort(others + chosen).tolist()))


# Of scipy.signal and scipy.linalg ---------------------------------------------------------------------
def convolve(a: Value, v: Value, mode: str = "full") -> Value:
    """As `scipy.signal.convolve` of two arrays with as many axes, by its sum."""
    if len(shape_of(a)) != len(shape_of(v)):
        raise ValueError(f"convolve: arrays with {len(shape_of(a))} and {len(shape_of(v))} axes")
    if mode == "valid" and any(m > n for n, m in zip(shape_of(a), shape_of(v), strict=True)):
        a, v = v, a
    sizes, lengths = shape_of(a), shape_of(v)
    full = tuple(n + m - 1 for n, m in zip(sizes, lengths, strict=True))
    padded = pad_zeros(a, widths=tuple((m - 1, m - 1) for m in lengths))
    # Where in the padded array the terms of each element of the full result lie.
    numbers = np.arange(prod(shape_of(padded))).reshape(shape_of(padded))
    windows: Any = np.lib.stride_tricks.sliding_window_view(numbers, lengths)
    backwards: tuple[Any, ...] = (..., *(slice(None, None, -1),) * len(lengths))
    flat = reshape(padded, shape=(numbers.size,))
    places = windows[backwards].reshape(-1, prod(lengths))
    terms = gather(flat, places, index=(ARRAY,))
    y = reshape(matmul(terms, reshape(v, shape=(prod(lengths),))), shape=full)
    if mode == "full":
        return y
    first = [
        ((m - 1) // 2, n) if mode == "same" else (m - 1, n - m + 1)
        for n, m in zip(sizes, lengths, strict=True)
    ]
    return gather(y, index=tuple(slice(start, start + n) for start, n in first))


def _sylvester(a: Any, b: Any, q: Any) -> Any:
    return importlib.import_module("scipy.linalg").solve_sylvester(a, b, q)


def _sylvester_transposed(x_bar: Value, a: Value, b: Value) -> Value:
    return solve_sylvester(matrix_transpose(a), matrix_transpose(b), x_bar)


# x with a x + x b = q.
solve_sylvester: Primitive = general(
    "solve_sylvester",
    _sylvester,
    (
        lambda a_dot, x, a, b, _q: -solve_sylvester(a, b, matmul(a_dot, x)),
        lambda x_bar, x, a, b, _q: -matmul(_sylvester_transposed(x_bar, a, b), matrix_transpose(x)),
    ),
    (
        lambda b_dot, x, a, b, _q: -solve_sylvester(a, b, matmul(x, b_dot)),
        lambda x_bar, x, a, b, _q: -matmul(matrix_transpose(x), _sylvester_transposed(x_bar, a, b)),
    ),
    (
        lambda q_dot, _x, a, b, _q: solve_sylvester(a, b, q_dot),
        lambda x_bar, _x, a, b, _q: _sylvester_transposed(x_bar, a, b),
    ),
    flops=lambda x, *_: 25.0 * max(shape_of(x)) ** 3,
)


def _sqrtm(a: Any) -> Any:
    y = importlib.import_module("scipy.linalg").sqrtm(a)
    if np.iscomplexobj(y):
        raise TypeError(
            "sqrtm: the square root is complex, and only real numbers are differentiated here"
        )
    return np.asarray(y, a.dtype)


sqrtm = general(
    "sqrtm",
    _sqrtm,
    (
        lambda a_dot, y, _a: solve_sylvester(y, y, a_dot),
        lambda y_bar, y, _a: _sylvester_transposed(y_bar, y, y),
    ),
    flops=lambda y, *_: 25.0 * max(shape_of(y)) ** 3,
)


def solve_banded(l_and_u: tuple[int, int], ab: Value, b: Value) -> Value:
    """As `scipy.linalg.solve_banded`, by the full matrix."""
    lower, upper = l_and_u
    n = shape_of(ab)[1]
    rows, columns = np.indices((n, n))
    places = upper + rows - columns
    inside = (places >= 0) & (places <= lower + upper)
    dense = gather(ab, np.clip(places, 0, lower + upper), columns, index=(ARRAY, ARRAY))
    return solve(where(inside, dense, 0.0), b)


SPECIAL |= {
    "gammaln": gammaln, "psi": digamma, "gamma": gamma, "rgamma": rgamma, "beta": beta, "betaln": betaln,
    "gammasgn": gammasgn, "gammainc": gammainc, "gammaincc": gammaincc, "betainc": betainc,
    "betaincc": betaincc,
    "erf": activations.erf, "erfc": activations.erfc, "erfinv": erfinv, "erfcinv": erfcinv,
    "ndtr": ndtr, "ndtri": ndtri, "log_ndtr": log_ndtr, "logit": logit, "expit": activations.sigmoid,
    "log_expit": activations.log_sigmoid, "xlogy": xlogy, "xlog1py": xlog1py, "entr": entr,
    "erfcx": erfcx, "huber": huber, "pseudo_huber": pseudo_huber, "rel_entr": rel_entr,
    "kl_div": lambda x, y: rel_entr(x, y) - x + y, "expm1": elementary.expm1, "kn": kv,
    "jv": jv, "jn": jv, "yv": yv, "yn": yv, "iv": iv, "ive": ive, "kv": kv, "stdtr": stdtr,
    "j0": j0, "j1": j1, "y0": y0, "y1": y1, "i0": i0, "i1": i1, "k0": k0, "k1": k1,
    "exp10": lambda x: power(10.0, x), "exp2": lambda x: power(2.0, x), "log1p": log1p,
    "cbrt": elementary.cbrt, "i0e": i0e, "i1e": i1e,
}  # fmt: skip
NAMESAKES |= {
    "scipy.special.polygamma", "scipy.special.multigammaln", "scipy.special.logsumexp",
    "scipy.special.softmax", "scipy.special.log_softmax", "scipy.signal.convolve", "scipy.linalg.sqrtm",
    "scipy.linalg.solve_sylvester", "scipy.linalg.solve_banded",
}  # fmt: skip
