"""The rules of every primitive against textbook definitions in 60-digit arithmetic.

The whole Jacobian by `push` and by `pull`, and second directional derivatives in all four nestings,
are compared with central differences of the textbook function. A primitive without a row fails.
"""

import mpmath as mp
import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.reference import elementwise, general, grad, jvp, linear, primitives, vjp
from tests.reference.primitive_rows import (
    CASES,
    STEP,
    WITHOUT_EXACT_MEANING,
    differentiated,
    program,
)

DIGITS = 60
U = 2.0**-53


def precise(x):
    return np.vectorize(mp.mpf, otypes=[object])(x) if x.size else x.astype(object)


def textbook(f, params):
    def evaluate(*xs):
        return np.asarray(f(*xs, **params), dtype=object)

    return evaluate


def moved(xs, k, v, h):
    return [x + h * precise(v) if i == k else x for i, x in enumerate(xs)]


def as_float(x):
    return np.vectorize(float, otypes=[float])(x) if np.size(x) else np.asarray(x, float)


def check_first_order(primitive, case, name=None):
    """Raise AssertionError unless value, push and pull agree with the textbook."""
    f, args, params = case
    with mp.workdps(DIGITS):
        xs = [precise(x) if x.dtype.kind == "f" else x for x in args]
        text = textbook(f, params)
        y = primitive(*args, **params)
        y_true = text(*xs)
        close(y, as_float(y_true), "value", xs=args)
        for k in differentiated(name or primitive.name, args):
            columns = []
            for j in range(args[k].size):
                unit = np.zeros(args[k].shape)
                unit.flat[j] = 1
                up, down = text(*moved(xs, k, unit, STEP)), text(*moved(xs, k, unit, -STEP))
                columns.append(as_float((up - down) / (2 * STEP)).ravel())
                y_dot = primitive.push(k, unit, y, list(args), params)
                assert np.shape(y_dot) == np.shape(y)
                close(np.ravel(y_dot), columns[-1], f"push in argument {k}", xs=args)
            true = np.stack(columns, axis=1)
            for i in range(np.size(y)):
                unit = np.zeros(np.shape(y))
                unit.flat[i] = 1
                x_bar = primitive.pull(k, unit, y, list(args), params)
                assert np.shape(x_bar) == args[k].shape
                close(np.ravel(x_bar), true[i], f"pull in argument {k}", xs=args)


def close(found, true, what, *, xs, roundings=100):
    """A rule of these sizes is a program of fewer than 100 roundings, each of at most one unit of
    the largest number that occurs, which is bounded by the products of the largest input and the
    largest derivative; these inputs are well-conditioned on purpose."""
    largest = max(1.0, *(float(np.max(np.abs(x))) for x in xs if x.size))
    allowed = roundings * U * largest * max(1.0, float(np.max(np.abs(true), initial=0.0)))
    error = float(np.max(np.abs(np.asarray(found) - true), initial=0.0))
    assert error <= allowed, f"{what}: error {error:.3g}, allowed {allowed:.3g}"


def test_every_primitive_has_a_row():
    needed = {name for name, p in primitives().items() if p.differentiable}
    assert set(CASES) == needed


@pytest.mark.parametrize("name", sorted(CASES))
def test_first_order(name):
    check_first_order(primitives()[name], CASES[name])


KINKED_ONLY_FIRST = {"astype"}  # nothing of second order to see


@pytest.mark.parametrize("name", sorted(set(CASES) - KINKED_ONLY_FIRST))
def test_second_order_in_all_nestings(name):
    """wᵀ H v of φ(x) = Σ c f(x), x all arguments together, by rr, fr, rf, ff, against differences."""
    primitive = primitives()[name]
    text, args, params = CASES[name]
    places = differentiated(name, args)
    y_shape = np.shape(primitive(*args, **params))
    local = np.random.default_rng(1)
    c = local.uniform(0.5, 1.5, y_shape)
    v = [local.uniform(-1, 1, args[k].shape) for k in places]
    w = [local.uniform(-1, 1, args[k].shape) for k in places]
    with mp.workdps(DIGITS):
        xs = [precise(x) if x.dtype.kind == "f" else x for x in args]

        def phi(s, t):
            at = list(xs)
            for k, v_k, w_k in zip(places, v, w, strict=True):
                at[k] = at[k] + s * STEP * precise(v_k) + t * STEP * precise(w_k)
            return np.sum(precise(c) * textbook(text, params)(*at))

        true = float((phi(1, 1) - phi(1, -1) - phi(-1, 1) + phi(-1, -1)) / (4 * STEP**2))

    f, at = program(primitive, name)

    def cost(*zs):
        return np.sum(c * f(*zs))

    inner = {
        "f": lambda g, d: lambda *zs: jvp(g, zs, d)[1],
        "r": lambda g, d: (
            lambda *zs: sum(np.sum(b * e) for b, e in zip(vjp(g, *zs)[1](1.0), d, strict=True))
        ),
    }
    size = max(1.0, *(float(np.max(np.abs(x))) for x in at)) * max(1.0, abs(true)) * 10
    found = {a + b: inner[a](inner[b](cost, v), w)(*at) for a in "rf" for b in "rf"}
    for nesting, value in found.items():
        error = abs(float(value) - true)
        # As in `close`, for twice the program and a sum over fewer than 100 terms.
        assert error <= 2000 * U * size, f"{nesting}: {value}, but should be {true}"


BROKEN = {  # primitives that are wrong on purpose, with the row that must reject them
    "slope off by 1e-10": (elementwise("b", np.exp, lambda y, x: y * (1 + 1e-10)), "exp"),
    "sign": (elementwise("b", np.cos, lambda y, x: np.sin(x)), "cos"),
    "value": (elementwise("b", lambda x: np.exp(x) * (1 + 1e-12), lambda y, x: y), "exp"),
    "slopes exchanged": (
        elementwise("b", np.divide, lambda y, a, b: -y / b, lambda y, a, b: 1 / b),
        "divide",
    ),
    "transpose of another map": (
        linear(
            "b",
            lambda x, *, axis: np.cumsum(x, axis=axis),
            lambda y_bar, _y, _x, *, axis: np.cumsum(y_bar, axis=axis),
        ),
        "cumsum",
    ),
    "softmax by p (1 - p)": (
        general(
            "b",
            primitives()["softmax"].forward,
            (lambda d, p, _z, axis: d * p * (1 - p), lambda d, p, _z, axis: d * p * (1 - p)),
        ),
        "softmax",
    ),
    "forward mode alone": (
        general(
            "b",
            np.linalg.inv,
            (lambda d, y, _a: y @ d @ y, primitives()["inv"].transposes[0]),
        ),
        "inv",
    ),
}


@pytest.mark.parametrize("bug", sorted(BROKEN))
def test_planted_bugs_are_rejected(bug):
    primitive, row = BROKEN[bug]
    with pytest.raises(AssertionError, match="error"):
        check_first_order(primitive, CASES[row], row)


def judged(primitive, row):
    """Value, both modes and all four nestings, by the harness: exact arithmetic, derived bounds."""
    f, at = program(primitive, row)
    if row == "cholesky":  # its convention: the matrix is symmetric, and so is its tangent

        def f(a, of_symmetric=f):
            return of_symmetric((a + a.T) / 2)

    return gradcheck(f, at, order=2, raise_exception=False)


@pytest.mark.parametrize("name", sorted(set(CASES) - WITHOUT_EXACT_MEANING))
def test_the_harness_finds_every_primitive_right(name):
    report = judged(primitives()[name], name)
    assert report.ok, report
    assert report.truth == "shadow"
    assert not [f for f in report.findings if f.kind == "inconclusive"]


# The harness takes the value of a primitive that it does not know for its definition.
@pytest.mark.parametrize("bug", sorted(set(BROKEN) - {"value"}))
def test_the_harness_rejects_planted_bugs(bug):
    assert not judged(*BROKEN[bug]).ok


@pytest.mark.parametrize("name", sorted(CASES))
def test_adjoint_identity(name):
    """⟨y_bar, J x_dot⟩ = ⟨Jᵀ y_bar, x_dot⟩ to the rounding of the two inner products."""
    f, at = program(primitives()[name], name)
    local = np.random.default_rng(2)
    x_dots = [local.uniform(-1, 1, x.shape) for x in at]
    y, y_dot = jvp(f, at, x_dots)
    y_bar = local.uniform(-1, 1, np.shape(y))
    x_bars = vjp(f, *at)[1](y_bar)
    left = float(np.sum(y_bar * y_dot))
    right = sum(float(np.sum(a * b)) for a, b in zip(x_bars, x_dots, strict=True))
    terms = float(np.sum(np.abs(y_bar * y_dot))) + sum(
        float(np.sum(np.abs(a * b))) for a, b in zip(x_bars, x_dots, strict=True)
    )
    assert abs(left - right) <= 200 * U * max(1.0, terms)


def test_a_kink_takes_the_slope_that_is_declared():
    for name, primitive in primitives().items():
        if isinstance(primitive.kinks, dict):
            for point, slope in primitive.kinks.items():
                assert grad(primitive)(point) == pytest.approx(slope, rel=4 * U), name
