"""Values and first derivatives of every elementwise function, over the whole domain, in the tails.

The bound is the conditioning bound of a good algorithm: 8 u (|t| + |x t'|) plus one subnormal, where
u is the unit roundoff: a few roundings, and a few roundings' worth of error in x.
"""

import mpmath as mp
import numpy as np
import pytest

from ffverify import reference
from ffverify.reference import elementwise, vjp


def precision(x):
    """Digits, and the step of differences: their errors stay far below the smallest derivative.

    Rounding leaves 10^-digits / step² in a second difference, truncation step² in a first one.
    Derivatives go down to e^-x² (erf), 1e-28 at 8, and to 1e-330 (below that all is 0) further out.
    """
    return (240, mp.mpf(10) ** -60) if abs(x) < 8 else (800, mp.mpf(10) ** -200)


def sigma(x):
    return 1 / (1 + mp.exp(-x))


def zeta(x):
    return mp.log1p(mp.exp(-abs(x))) + max(x, 0)


def elu(x):
    return x if x > 0 else mp.expm1(x)


def selu_constants():
    return mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")


def gelu_tanh(x):
    return x * sigma(2 * mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))


TEXTBOOK = {
    "elu": elu,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "exp": mp.exp,
    "expm1": mp.expm1,
    "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": gelu_tanh,
    "hard_sigmoid": lambda x: min(max(x / 6 + mp.mpf("0.5"), 0), 1),
    "hard_swish": lambda x: x * min(max(x / 6 + mp.mpf("0.5"), 0), 1),
    "log": mp.log,
    "log1p": mp.log1p,
    "log_sigmoid": lambda x: -zeta(-x),
    "mish": lambda x: x * mp.tanh(zeta(x)),
    "selu": lambda x: selu_constants()[0] * (x if x > 0 else selu_constants()[1] * mp.expm1(x)),
    "sigmoid": sigma,
    "silu": lambda x: x * sigma(x),
    "softplus": zeta,
    "softsign": lambda x: x / (1 + abs(x)),
    "sqrt": mp.sqrt,
    "tanh": mp.tanh,
    "tanhshrink": lambda x: x - mp.tanh(x),
}
rng = np.random.default_rng(0)
POINTS = np.concatenate(
    [
        rng.normal(size=15) * 3,
        rng.normal(size=5) * 20,
        10.0 ** rng.uniform(-12, 3, 7),
        -(10.0 ** rng.uniform(-12, 3, 7)),
        [-745.2, -744.0, -720.5, -708.4, -38.4, -37.5, -27.3, -13.0, 26.6, 27.1, 40.0, 710.0],
    ]
)


def worst(f, textbook, points, dtype):
    """The largest error as a multiple of the bound, of the values and of the first derivatives."""
    info = np.finfo(dtype)
    u, tiny = mp.mpf(float(info.eps)) / 2, mp.mpf(float(info.smallest_subnormal))
    xs = points.astype(dtype)
    found = f(xs), vjp(f, xs)[1](np.ones_like(xs))[0]
    assert found[0].dtype == found[1].dtype == dtype
    ratios = [mp.mpf(0), mp.mpf(0)]
    for i, x in enumerate(xs):
        digits, step = precision(x)
        with mp.workdps(digits):
            at = mp.mpf(float(x))
            up, here, down = textbook(at + step), textbook(at), textbook(at - step)
            d1, d2 = (up - down) / (2 * step), (up - 2 * here + down) / step**2
            for k, (t, t_dot) in enumerate(((here, d1), (d1, d2))):
                if abs(t) <= float(info.max):
                    bound = 8 * u * (abs(t) + abs(at * t_dot)) + tiny
                    assert np.isfinite(found[k][i]), (x, t)
                    ratios[k] = max(ratios[k], abs(mp.mpf(float(found[k][i])) - t) / bound)
    return [float(r) for r in ratios]


def domain(name, dtype):
    points = POINTS
    if name in ("log", "sqrt"):
        points = np.abs(POINTS)
    if name == "log1p":
        points = POINTS[POINTS > -1]
    if name in ("exp", "expm1"):
        points = POINTS[np.log(float(np.finfo(dtype).max)) > POINTS]
    if dtype != np.float64:
        points = points[::2]
    if dtype == np.float16:
        points = points[np.abs(points) < 1e3]
    return points[np.abs(points) > float(np.finfo(dtype).smallest_normal)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("name", sorted(TEXTBOOK))
def test_full_relative_accuracy(name, dtype):
    ratios = worst(getattr(reference, name), TEXTBOOK[name], domain(name, dtype), dtype)
    assert max(ratios) <= 1, ratios


LOSING = {  # correct formulas that lose digits, which the bound must reject
    "tanh": elementwise("b", np.tanh, lambda y, x: 1 - y * y),
    "sigmoid": elementwise("b", reference.sigmoid.forward, lambda y, x: y * (1 - y)),
    "gelu": elementwise(
        "b", lambda z: z * 0.5 * (1 + reference.erf(z * np.sqrt(0.5))), reference.gelu.slopes[0]
    ),
    "expm1": elementwise("b", np.expm1, lambda y, x: y + 1),
    "softplus": elementwise(
        "b", lambda z: np.log(1 + np.exp(np.minimum(z, 700))), lambda y, z: reference.sigmoid(z)
    ),
    "tanhshrink": elementwise("b", lambda z: z - np.tanh(z), lambda y, z: np.tanh(z) ** 2),
}


@pytest.mark.parametrize("name", sorted(LOSING))
def test_planted_losses_are_rejected(name):
    assert max(worst(LOSING[name], TEXTBOOK[name], domain(name, np.float64), np.float64)) > 10


def test_known_tail_values():
    assert reference.grad(reference.sigmoid)(40.0) == 4.248354255291589e-18
    # tanh'(360) = 1e-312 has lost digits, its product with a large cotangent has not.
    assert vjp(np.tanh, 360.0)[1](1e300)[0] == pytest.approx(8.128923209697173e-13, rel=8 * 2**-53)
    assert reference.gelu(np.float64(-10.0)) == pytest.approx(-7.619853024160527e-23, rel=1e-13)
    p = reference.grad(reference.logsumexp)(np.array([1e50, 1e50, 0.0]))
    assert p.sum() == 1
    assert reference.logsumexp(np.array([-np.inf, 0.0])) == 0
    assert reference.logsumexp(np.array([-np.inf, -np.inf])) == -np.inf
    assert reference.logsumexp(np.array([np.inf, 0.0])) == np.inf
    assert np.isfinite(reference.softmax(np.array([np.inf, 0.0, -np.inf]))).all()
    assert np.hypot(3e300, 4e300) == 5e300
    slope = reference.grad(np.hypot)  # a/h, whose slope b²/h³ is left of 1/h - a²/h³
    assert reference.grad(slope)(1e8, 1.0) == pytest.approx(1e-24, rel=8 * 2**-53)


def test_half_precision_means_do_not_overflow():
    x = np.full(3000, 60.0, np.float16)
    assert reference.value_and_grad(np.mean)(x)[0] == 60


@pytest.mark.parametrize("name", sorted(set(TEXTBOOK) - {"log", "sqrt", "log1p", "exp", "expm1"}))
def test_limits_and_nan(name):
    f = getattr(reference, name)
    x = np.array([-np.inf, np.inf, np.nan])
    y, pullback = vjp(f, x)
    (x_bar,) = pullback(np.ones(3))
    assert np.isnan(y[2])
    assert not np.isnan(y[:2]).any()
    assert not np.isnan(x_bar[:2]).any()
    far = np.array([-1e308, 1e308])
    _, pullback = vjp(f, far)
    np.testing.assert_array_equal(pullback(np.ones(2))[0], x_bar[:2])
