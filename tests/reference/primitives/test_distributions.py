"""Distributions and SciPy's functions on traced values: SciPy's values, and slopes that fit together."""

import mpmath as mp
import numpy as np
import pytest

from ffverify.reference import grad, hvp, jvp, scipy_functions, stats

special = pytest.importorskip("scipy.special")
scipy_stats = pytest.importorskip("scipy.stats")
rng = np.random.default_rng(0)
X, LOC, SCALE = rng.uniform(0.2, 0.8, 5), rng.uniform(-0.2, 0.1, 5), rng.uniform(1.1, 2.0, 5)
CONTINUOUS = {  # name: shape parameters
    "norm": (), "t": (rng.uniform(2.1, 5, 5),), "gamma": (rng.uniform(1.1, 4, 5),),
    "chi2": (rng.uniform(1.1, 4, 5),), "beta": (rng.uniform(1.1, 4, 5), rng.uniform(1.1, 4, 5)),
}  # fmt: skip
FUNCTIONS = ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf")
# SciPy's functions are within some ten roundings, and so are these formulas, whose largest terms are
# of size 10 beside results of size 1.
CLOSE = {"rtol": 200 * 2**-53, "atol": 200 * 2**-53}


def scalar(f, *shapes):
    return lambda x, loc, scale: np.sum(f(x, *shapes, loc, scale))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_values_are_scipys(name, function):
    shapes = CONTINUOUS[name]
    ours, theirs = (getattr(getattr(m, name), function) for m in (stats, scipy_stats))
    at = X + 0.3  # to the right of every location
    np.testing.assert_allclose(
        ours(at, *shapes, LOC, SCALE), theirs(at, *shapes, LOC, SCALE), **CLOSE
    )
    np.testing.assert_allclose(ours(X, *shapes), theirs(X, *shapes), **CLOSE)
    traced = jvp(lambda x: ours(x, *shapes, loc=LOC, scale=SCALE), (at,), (at,))[0]
    np.testing.assert_array_equal(traced, ours(at, *shapes, LOC, SCALE))


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_slopes_fit_together(name):
    """F' = p, (1 - F)' = -p, (log F)' = p/F, (log p)' p = p', and by location the same with a minus."""
    shapes, d, at = CONTINUOUS[name], getattr(stats, name), X + 0.3

    def slope(function, k=0):
        return grad(scalar(getattr(d, function), *shapes), k)(at, LOC, SCALE)

    pdf, cdf = d.pdf(at, *shapes, LOC, SCALE), d.cdf(at, *shapes, LOC, SCALE)
    np.testing.assert_allclose(slope("cdf"), pdf, **CLOSE)
    np.testing.assert_allclose(slope("sf"), -pdf, **CLOSE)
    np.testing.assert_allclose(slope("logcdf"), pdf / cdf, **CLOSE)
    np.testing.assert_allclose(slope("logpdf") * pdf, slope("pdf"), **CLOSE)
    np.testing.assert_allclose(slope("cdf", 1), -pdf, **CLOSE)
    np.testing.assert_allclose(slope("cdf", 2), -pdf * (at - LOC) / SCALE, **CLOSE)
    f = scalar(d.logpdf, *shapes)
    h, step = hvp(lambda x: f(x, LOC, SCALE), at, np.ones(5)), 2.0**-20
    difference = (grad(f)(at + step, LOC, SCALE) - grad(f)(at - step, LOC, SCALE)) / (2 * step)
    # Truncation 2^-40 of third derivatives below 100, rounding 2^-52 over the step.
    np.testing.assert_allclose(h, difference, rtol=1e-8, atol=1e-8)


def test_slopes_in_shape_parameters():
    step = 2.0**-20
    for name in ("t", "gamma", "chi2", "beta"):
        shapes = CONTINUOUS[name]
        for k in range(len(shapes)):

            def f(a, k=k, name=name, shapes=shapes):
                return getattr(stats, name).logpdf(X, *shapes[:k], a, *shapes[k + 1 :])

            true = (f(shapes[k] + step) - f(shapes[k] - step)) / (2 * step)
            found = grad(lambda a, f=f: np.sum(f(a)))(shapes[k])
            np.testing.assert_allclose(found, true, rtol=1e-8, atol=1e-8)
    for name, reason in (
        ("t", "stdtr has no derivative in its degrees of freedom, 2.5"),
        ("gamma", "gammainc has no derivative in its first argument, 2.5"),
        ("chi2", "gammainc has no derivative in its first argument, 1.25"),
        ("beta", "betainc has no derivative in its first argument, 2.5"),
    ):
        rest = CONTINUOUS[name][1:]
        message = f"{reason}, whose slope has no closed form.*hold it constant.*custom_rule"
        with pytest.raises(TypeError, match=message):
            grad(lambda a, name=name, rest=rest: np.sum(getattr(stats, name).cdf(X, a, *rest)))(2.5)


def test_the_tails_of_the_normal_distribution():
    assert stats.norm.logcdf(-50.0) == pytest.approx(scipy_stats.norm.logcdf(-50.0), rel=1e-14)
    assert grad(stats.norm.logcdf)(-50.0) == pytest.approx(50.01998, rel=1e-6)


# Shapes, location, scale, and points in and outside of the support, on its ends, and NaN.
BEYOND = [
    ("gamma", (2.0,), [-1.0, 0.0, 0.5, np.nan]),
    ("gamma", (1.0,), [-1.0, 0.0, np.inf]),
    ("gamma", (2.0, 1.0, 3.0), [0.5, 1.0, 4.0]),
    ("gamma", (-0.5,), [-1.0, 1.0]),
    ("chi2", (2.0,), [-1.0, 0.0, 2.0]),
    ("beta", (1.0, 1.0), [-1.0, 0.0, 0.3, 1.0, 2.0]),
    ("beta", (2.0, 3.0, -1.0, 4.0), [-2.0, -1.0, 0.0, 3.0, 3.5]),
    ("beta", (-1.0, 1.0), [-1.0, 0.5]),
    ("norm", (0.0, -1.0), [1.0]),
    ("norm", (0.0, 0.0), [1.0]),
    ("t", (3.0,), [-np.inf, np.inf]),
    ("t", (-3.0,), [1.0]),
    ("poisson", (2.0,), [-3.5, -1.0, -0.5, 0.5, 2.0]),
]


@np.errstate(all="ignore")
def test_beyond_the_support_and_for_parameters_that_are_none():
    for name, parameters, points in BEYOND:
        for kind in ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf"):
            function = kind.replace("pdf", "pmf") if name == "poisson" else kind
            ours, theirs = (getattr(getattr(m, name), function) for m in (stats, scipy_stats))
            found = ours(np.array(points), *parameters)
            np.testing.assert_allclose(found, theirs(np.array(points), *parameters), **CLOSE)
    assert grad(stats.gamma.pdf)(-1.0, 1.0) == 0  # the density's formula is e there
    assert grad(stats.beta.cdf)(2.0, 1.0, 1.0) == 0
    assert grad(stats.gamma.cdf)(0.0, 1.0) == grad(stats.beta.cdf)(1.0, 1.0, 1.0) == 1
    assert grad(stats.gamma.logpdf, 1)(-1.0, 2.0) == 0


def test_discrete_and_multivariate():
    k, mu = np.array([0, 1, 4]), np.array([0.5, 2.0, 3.0])
    for function in ("pmf", "logpmf", "cdf", "logcdf", "sf", "logsf"):
        ours, theirs = (getattr(m.poisson, function) for m in (stats, scipy_stats))
        np.testing.assert_allclose(ours(k, mu), theirs(k, mu), **CLOSE)
    pmf = stats.poisson.pmf(k, mu)
    np.testing.assert_allclose(grad(lambda m: np.sum(stats.poisson.cdf(k, m)))(mu), -pmf, **CLOSE)

    alpha, x = np.array([1.5, 2.5, 3.0]), np.array([0.2, 0.3, 0.5])
    for function in ("pdf", "logpdf"):
        ours, theirs = (getattr(m.dirichlet, function) for m in (stats, scipy_stats))
        np.testing.assert_allclose(ours(x, alpha), theirs(x, alpha), **CLOSE)
    np.testing.assert_allclose(grad(stats.dirichlet.logpdf)(x, alpha), (alpha - 1) / x, **CLOSE)

    A = rng.normal(size=(3, 3))
    cov, mean, points = A @ A.T + np.eye(3), rng.normal(size=3), rng.normal(size=(4, 3))
    normal, theirs = stats.multivariate_normal, scipy_stats.multivariate_normal
    np.testing.assert_allclose(
        normal.logpdf(points, mean, cov), theirs.logpdf(points, mean, cov), **CLOSE
    )
    np.testing.assert_allclose(
        normal.pdf(points[0], mean, cov), theirs.pdf(points[0], mean, cov), **CLOSE
    )
    np.testing.assert_allclose(normal.entropy(mean, cov), theirs.entropy(mean, cov), **CLOSE)
    slope = grad(lambda m: normal.logpdf(points[0], m, cov))(mean)
    np.testing.assert_allclose(slope, np.linalg.solve(cov, points[0] - mean), rtol=1e-12)
    flat = np.diag([1.0, 2.0, 0.0])
    at = np.array([0.3, -1.0, 0.0])
    np.testing.assert_allclose(
        normal.logpdf(at, np.zeros(3), flat, allow_singular=True),
        theirs.logpdf(at, np.zeros(3), flat, allow_singular=True), **CLOSE,
    )  # fmt: skip


def test_scipys_ufuncs_take_traced_values():
    x = np.array([0.3, 1.2, 2.5])
    for f, slope in (
        (special.gammaln, special.psi(x)),
        (special.i0, special.i1(x)),
        (special.expit, special.expit(x) * special.expit(-x)),
        (lambda x: special.xlogy(x, x), np.log(x) + 1),
        (lambda x: special.jv(1.0, x), special.jvp(1, x)),
        (special.i0e, special.i1e(x) - special.i0e(x)),
        (special.erfcx, 2 * x * special.erfcx(x) - 2 / np.sqrt(np.pi)),
        (lambda x: special.huber(1.5, x), np.minimum(x, 1.5)),
        (lambda x: special.pseudo_huber(1.5, x), x / np.sqrt(1 + (x / 1.5) ** 2)),
        (lambda x: special.rel_entr(x, 1.5), np.log(x / 1.5) + 1),
        (lambda x: special.kl_div(1.5, x), 1 - 1.5 / x),
        (special.expm1, np.exp(x)),
        (lambda x: special.kn(2, x), special.kvp(2, x)),
    ):
        np.testing.assert_allclose(grad(lambda x, f=f: np.sum(f(x)))(x), slope, **CLOSE)
    with pytest.raises(TypeError, match=r"numpy\.ellipj has no derivative rule"):
        grad(lambda x: np.sum(special.ellipj(x, 0.5)[0]))(x)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_soft_maxima_over_any_axes(name, axis):
    """Values are SciPy's, and slopes those of the definition."""
    x, w = rng.normal(size=(2, 2, 3, 2))
    ours, theirs = (getattr(m, name) for m in (scipy_functions, special))
    np.testing.assert_allclose(ours(x, axis), theirs(x, axis), **CLOSE)

    def defined(x):
        e = np.exp(x)
        total = np.sum(e, axis=axis, keepdims=True)
        return {"logsumexp": np.log(total), "softmax": e / total}.get(name, x - np.log(total))

    def weighted(f):
        return lambda x: np.sum(w * f(x))

    def here(x):
        return ours(x, axis, keepdims=True) if name == "logsumexp" else ours(x, axis)

    np.testing.assert_allclose(grad(weighted(here))(x), grad(weighted(defined))(x), **CLOSE)
    np.testing.assert_allclose(jvp(here, (x,), (w,))[1], jvp(defined, (x,), (w,))[1], **CLOSE)
    second = hvp(weighted(defined), x, w)
    np.testing.assert_allclose(hvp(weighted(here), x, w), second, **CLOSE)


def test_functions_of_signal_and_linalg():
    signal, linalg = (pytest.importorskip(f"scipy.{name}") for name in ("signal", "linalg"))
    a, v, w = rng.normal(size=(5, 4)), rng.normal(size=(3, 2)), rng.normal(size=(5, 4))
    for mode in ("full", "same", "valid"):
        for x, y in ((a, v), (v, a)) if mode != "same" else ((a, v),):
            found = scipy_functions.convolve(x, y, mode)
            np.testing.assert_allclose(found, signal.convolve(x, y, mode, "direct"), **CLOSE)
    slope = grad(lambda x: np.sum(scipy_functions.convolve(x, v, "same") * w))(a)
    np.testing.assert_allclose(slope, signal.correlate(w, v, "full", "direct")[1:-1, 1:], **CLOSE)
    ab, b = rng.normal(size=(3, 5)), rng.normal(size=5)
    ab[1] += 4.0
    np.testing.assert_allclose(
        scipy_functions.solve_banded((1, 1), ab, b), linalg.solve_banded((1, 1), ab, b), **CLOSE
    )
    assert np.all(
        grad(lambda ab: np.sum(scipy_functions.solve_banded((1, 1), ab, b)))(ab)[0, 0] == 0
    )
    with pytest.raises(TypeError, match="square root is complex"):
        grad(lambda a: np.sum(scipy_functions.sqrtm(a)))(-np.eye(2))
    with pytest.raises(ValueError, match="2 and 1 axes"):
        scipy_functions.convolve(a, b)


# What has a power at the end of its support, a pole that another one lifts, or terms that cancel far out:
# function, point, slope, second slope.
ENDS = {
    "gamma 2": (lambda x: stats.gamma.pdf(x, 2.0), 0.0, 1.0, -2.0),
    "gamma 1": (lambda x: stats.gamma.pdf(x, 1.0), 0.0, -1.0, 1.0),
    "log gamma 1": (lambda x: stats.gamma.logpdf(x, 1.0), 0.0, -1.0, 0.0),
    "chi2 4": (lambda x: stats.chi2.pdf(x, 4.0), 0.0, 0.25, -0.25),
    "beta 2, 1": (lambda x: stats.beta.pdf(x, 2.0, 1.0), 0.0, 2.0, 0.0),
    "beta 1, 2": (lambda x: stats.beta.pdf(x, 1.0, 2.0), 1.0, -2.0, 0.0),
    "beta cdf": (lambda x: stats.beta.cdf(x, 3.0, 2.0), 1.0, 0.0, -12.0),
    "gamma cdf": (lambda x: stats.gamma.cdf(x, 2.0), 0.0, 0.0, 1.0),
    "poisson 1": (lambda mu: stats.poisson.pmf(1, mu), 0.0, 1.0, -2.0),
    "poisson 0": (lambda mu: stats.poisson.pmf(0, mu), 0.0, -1.0, 1.0),
    "poisson cdf": (lambda mu: stats.poisson.cdf(1, mu), 0.0, 0.0, -1.0),
    "rgamma at 0": (special.rgamma, 0.0, 1.0, 2 * np.euler_gamma),
    "rgamma at -2": (special.rgamma, -2.0, 2.0, 4 * np.euler_gamma - 6.0),
    # Mills' ratio r = t - 1/t + ..., t = -x: slope t + 1/t - 2/t^3, second slope -1 + 1/t^2 - 6/t^4.
    "log_ndtr": (special.log_ndtr, -1e4, 1e4 + 1e-4 - 2e-12, -1 + 1e-8 - 6e-16),
    # Beyond 713 I_0 and I_1 are infinite.
    "i0e": (special.i0e, 800.0, -8.819599342187331e-6, 1.6541926215916229e-8),
    "i1e": (special.i1e, 800.0, -8.803057415971415e-6, 1.6490216501746471e-8),
    "norm's logsf": (stats.norm.logsf, 1e6, -1e6 - 1e-6, -1 + 1e-12),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ENDS)
def test_slopes_at_ends_and_far_out(name):
    """To second order in all nestings, where a constant selected at the end would have no slope."""
    f, x, first, second = ENDS[name]
    forward = lambda f: lambda x: jvp(f, (x,), (1.0,))[1]  # noqa: E731  # a formula
    for one in (grad(f), forward(f)):
        np.testing.assert_allclose(one(x), first, **CLOSE)
        for two in (grad(one), forward(one)):
            np.testing.assert_allclose(two(x), second, **CLOSE)


# The logarithm of a distribution function F, its slope s = f/F, and s' = s (q - s), q the slope of log f, of
# those far out and between: (function, F, log f, q), then points.
def _of_gamma(a, side):
    a_ = mp.mpf(a)
    ours = stats.gamma.logsf if side > 0 else stats.gamma.logcdf
    F = lambda x: mp.gammainc(a_, *((x,) if side > 0 else (0, x)), regularized=True)  # noqa: E731
    log_f = lambda x: (a_ - 1) * mp.log(x) - x - mp.loggamma(a_)  # noqa: E731
    return lambda x: ours(x, a), F, log_f, lambda x: (a_ - 1) / x - 1, side


def _of_beta(a, b, side):
    a_, b_ = mp.mpf(a), mp.mpf(b)
    ours = stats.beta.logsf if side > 0 else stats.beta.logcdf

    def F(x):  # whose upper side is the lower one of 1 - x
        of = (b_, a_, 0, 1 - x) if side > 0 else (a_, b_, 0, x)
        return mp.betainc(*of, regularized=True)

    log_f = lambda x: (a_ - 1) * mp.log(x) + (b_ - 1) * mp.log1p(-x) - mp.log(mp.beta(a_, b_))  # noqa: E731
    return lambda x: ours(x, a, b), F, log_f, lambda x: (a_ - 1) / x - (b_ - 1) / (1 - x), side


def _of_t(df, side):
    df_ = mp.mpf(df)
    ours = stats.t.logsf if side > 0 else stats.t.logcdf

    def F(x):
        half = mp.betainc(df_ / 2, mp.mpf(0.5), 0, df_ / (df_ + x * x), regularized=True) / 2
        return half if x * side > 0 else 1 - half

    def log_f(x):
        c = mp.log(mp.beta(df_ / 2, mp.mpf(0.5))) + mp.log(df_) / 2
        return -c - (df_ + 1) / 2 * mp.log1p(x * x / df_)

    return lambda x: ours(x, df), F, log_f, lambda x: -(df_ + 1) * x / (df_ + x * x), side


LEFT, RIGHT = -1, 1
TAILS = {
    "gamma 2": (_of_gamma(2.0, RIGHT), [0.1, 1.0, 3.0, 3.1, 30.0, 600.0, 800.0, 1e5, 1e10]),
    "gamma 0.3": (_of_gamma(0.3, RIGHT), [0.1, 1.4, 30.0, 800.0]),
    "gamma 1e4": (_of_gamma(1e4, RIGHT), [1.5e4, 1e5]),
    "gamma's left": (_of_gamma(2.5, LEFT), [1e-200, 1e-3, 1.0, 3.5, 3.6, 20.0, 60.0]),
    "gamma 50's left": (_of_gamma(50.0, LEFT), [1e-10, 1.0, 49.0, 52.0, 80.0]),
    "gamma 1e4's left": (_of_gamma(1e4, LEFT), [1e-10, 600.0, 5e3]),
    "beta": (_of_beta(2.0, 3.0, RIGHT), [0.01, 0.4, 0.5, 0.9, 1 - 2.0**-40]),
    "beta's left": (_of_beta(300.0, 2.0, LEFT), [1e-20, 0.01, 0.9, 0.99, 0.999]),
    "beta, sharp": (_of_beta(5.0, 1e4, RIGHT), [0.01, 0.5, 0.99]),
    "beta, with poles": (_of_beta(0.5, 0.5, LEFT), [1e-20, 0.1, 0.5, 0.9]),
    "t": (_of_t(3.0, LEFT), [-1e10, -100.0, -2.1, -1.9, 0.5, 40.0]),
    "t of 30": (_of_t(30.0, RIGHT), [-3.0, 1.9, 2.1, 1e5, 1e20]),
    "t of 1e4": (_of_t(1e4, LEFT), [-1e4, -100.0, -40.0, -3.0, 1.0]),
}


def check_tails(f, truth, points):
    _, F, log_f, q, side = truth
    forward = lambda f: lambda x: jvp(f, (x,), (1.0,))[1]  # noqa: E731  # a formula
    for x in points:
        with mp.workdps(60):
            at = mp.mpf(x)
            value = mp.log(F(at))
            s = -side * mp.exp(log_f(at) - value)
            first, second = (float(y) for y in (s, s * (q(at) - s)))
        # Fractions of a hundred terms and densities whose exponents are some hundreds: 1e4 roundings.
        close = {"rtol": 1e4 * 2.0**-53, "atol": 0}
        np.testing.assert_allclose(f(x), float(value), **close)
        for one in (grad(f), forward(f)):
            np.testing.assert_allclose(one(x), first, **close)
            for two in (grad(one), forward(one)):
                np.testing.assert_allclose(two(x), second, **close)


@pytest.mark.parametrize("name", TAILS)
def test_logarithms_go_on_in_the_tails(name):
    truth, points = TAILS[name]
    check_tails(truth[0], truth, points)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_logarithm_of_what_has_underflown_is_rejected():
    """The planted bug: log of a distribution function, of which the slope is 1 over nearly 0, squared."""
    truth, _ = TAILS["gamma 2"]
    f = lambda x: np.log(stats.gamma.sf(x, 2.0))  # noqa: E731  # a formula
    check_tails(f, truth, [0.1, 1.0])
    for far in (600.0, 800.0):
        with pytest.raises(AssertionError):
            check_tails(f, truth, [far])


def test_tails_of_other_names_types_and_shapes():
    """chi2 and poisson are gamma's; an array of both sides is computed at once, in its own format."""
    x = np.array([[0.5, 3.0], [700.0, 1e4]])
    np.testing.assert_array_equal(stats.chi2.logsf(2 * x, 4.0), stats.gamma.logsf(x, 2.0))
    np.testing.assert_array_equal(stats.poisson.logcdf(1, x), stats.gamma.logsf(x, 2.0))
    np.testing.assert_array_equal(stats.poisson.logsf(1, x), stats.gamma.logcdf(x, 2.0))
    slope = grad(lambda x: np.sum(stats.gamma.logsf(x, 2.0)))(x)
    np.testing.assert_allclose(slope, -x / (1 + x), **CLOSE)  # of (1 + x) e^-x
    single = np.float32([0.5, 700.0])
    found = grad(lambda x: np.sum(stats.gamma.logsf(x, 2.0)))(single)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, -single / (1 + single), rtol=4 * 2.0**-24)


def test_growth_of_the_gamma_function():
    """Γ's logarithmic derivatives at a + b less those at a, b small: differences would have no digits."""
    for a, b in ((1e8, 0.5), (1e12, 3.0), (2.0, 1e-10), (1e-8, 1e-3), (30.0, 400.0), (1e5, 1e5)):
        with mp.workdps(80):
            exact = [mp.psi(n, mp.mpf(a)) - mp.psi(n, mp.mpf(a) + mp.mpf(b)) for n in (0, 1)]
        for f, true in zip((special.betaln, grad(special.betaln)), exact, strict=True):
            np.testing.assert_allclose(grad(f)(a, b), float(true), rtol=100 * 2.0**-53)
    # Student's t of very many degrees of freedom is normal: log f = log φ + (z⁴ - 2 z² - 1) / (4 df) + ...
    z, df = np.array([0.0, 0.5, 3.0]), 1e10
    near = stats.norm.logpdf(z) + (z**4 - 2 * z**2 - 1) / (4 * df)
    np.testing.assert_allclose(stats.t.logpdf(z, df), near, **CLOSE)
