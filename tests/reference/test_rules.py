"""Every primitive, one row each, against textbook definitions in 60-digit arithmetic.

The whole Jacobian by `push` and by `pull`, and second directional derivatives in all four nestings,
are compared with central differences of the textbook function. A primitive without a row fails.
"""

import mpmath as mp
import numpy as np
import pytest

from ffverify.reference import elementwise, general, grad, jvp, linear, primitives, vjp

DIGITS = 60
# Differences with step h have an error of h² relative to third derivatives of size O(1..100), and of
# 10^-60/h (10^-60/h² for second ones) from rounding: with h = 1e-15 both are below 1e-27.
STEP = mp.mpf(10) ** -15
U = 2.0**-53

rng = np.random.default_rng(0)


def each(f):
    """A function of one mpmath number, on object arrays."""
    return np.frompyfunc(f, 1, 1)


def reals(*shape, low=-2.0, high=2.0):
    return np.asarray(rng.uniform(low, high, shape))


def sigma(z):
    return 1 / (1 + mp.exp(-z))


def zeta(z):
    return mp.log(1 + mp.exp(z))


def gelu_argument(z):
    return 2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf(0.044715) * z**3)


def derivative(f):
    """f' by a central difference, whose error of 1e-30 is far below float64."""
    return lambda z: (f(z + STEP) - f(z - STEP)) / (2 * STEP)


ONE_ARGUMENT = {  # textbook function of one number
    "absolute": abs,
    "arccos": mp.acos,
    "arccosh": mp.acosh,
    "arcsin": mp.asin,
    "arcsinh": mp.asinh,
    "arctan": mp.atan,
    "arctanh": mp.atanh,
    "cbrt": lambda z: mp.sign(z) * mp.cbrt(abs(z)),
    "cos": mp.cos,
    "cosh": mp.cosh,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "exp": mp.exp,
    "exp2": lambda z: mp.mpf(2) ** z,
    "expm1": lambda z: mp.exp(z) - 1,
    "gauss": lambda z: mp.exp(-z * z),
    "gelu": lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2,
    "gelu_slope": derivative(lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2),
    "gelu_tanh": lambda z: z * sigma(gelu_argument(z)),
    "gelu_tanh_slope": derivative(lambda z: z * sigma(gelu_argument(z))),
    "hard_swish": lambda z: z * min(max(z / 6 + mp.mpf(0.5), 0), 1),
    "log": mp.log,
    "log10": mp.log10,
    "log1p": lambda z: mp.log(1 + z),
    "log2": lambda z: mp.log(z) / mp.log(2),
    "mish": lambda z: z * mp.tanh(zeta(z)),
    "mish_slope": derivative(lambda z: z * mp.tanh(zeta(z))),
    "negative": lambda z: -z,
    "positive": lambda z: z,
    "reciprocal": lambda z: 1 / z,
    "relu": lambda z: max(z, mp.mpf(0)),
    "selu": lambda z: 1.0507009873554805 * (z if z > 0 else 1.6732632423543772 * mp.expm1(z)),
    "sigmoid": sigma,
    "sigmoid_slope": lambda z: sigma(z) * sigma(-z),
    "silu": lambda z: z * sigma(z),
    "silu_slope": derivative(lambda z: z * sigma(z)),
    "sin": mp.sin,
    "sinh": mp.sinh,
    "softplus": zeta,
    "softsign": lambda z: z / (1 + abs(z)),
    "sqrt": mp.sqrt,
    "square": lambda z: z * z,
    "tan": mp.tan,
    "tanh": mp.tanh,
    "tanh_slope": lambda z: 1 / mp.cosh(z) ** 2,
    "tanhshrink": lambda z: z - mp.tanh(z),
}
A, B = reals(2, 3), reals(2, 1)  # B is broadcast against A
POSITIVE = reals(2, 3, low=0.5)
TWO_ARGUMENTS = {  # textbook function of numbers, arguments
    "add": (lambda a, b: a + b, A, B),
    "arctan2": (mp.atan2, A, B),
    "copysign": (lambda a, b: abs(a) * (1 if b > 0 else -1), A, B),
    "divide": (lambda a, b: a / b, A, B + np.sign(B)),
    "hypot": (mp.hypot, A, B),
    "logaddexp": (lambda a, b: mp.log(mp.exp(a) + mp.exp(b)), A, B),
    "maximum": (max, A, B),
    "minimum": (min, A, B),
    "multiply": (lambda a, b: a * b, A, B),
    "power": (lambda a, b: a**b, POSITIVE, B),
    "prelu": (lambda z, alpha: z if z > 0 else alpha * z, A, np.asarray(0.3)),
    "remainder": (lambda a, b: a - b * mp.floor(a / b), A, B + np.sign(B)),
    "scale": (lambda a, b: a * b, A, B),
    "subtract": (lambda a, b: a - b, A, B),
}


def exps(z):
    return each(mp.exp)(z)


def logs(z):
    return each(mp.log)(z)


def text_solve(a, b):
    x = mp.lu_solve(mp.matrix(a.tolist()), mp.matrix(b.tolist()))
    return np.array(x.tolist(), dtype=object).reshape(b.shape)


def text_solve_columns(a, b):
    return np.stack([text_solve(a, b[:, j]) for j in range(b.shape[1])], axis=1)


def text_cholesky(a):
    a = (a + a.T) / 2  # the convention: the matrix is symmetric, and so is its tangent
    return np.array(mp.cholesky(mp.matrix(a.tolist())).tolist(), dtype=object)


def text_log_softmax(z, axis):
    return z - logs(exps(z).sum(axis=axis, keepdims=True))


def losers(e, d, axis):
    best = np.argmax(np.asarray(d, float), axis=axis)
    mask = np.ones(e.shape)
    np.put_along_axis(mask, np.expand_dims(best, axis), 0, axis)
    return (e * mask).sum(axis=axis, keepdims=True)


def replaced(x, v, place):
    y = x.copy()
    y.flat[place] = v
    return y


def scattered(y, i, *, shape):
    x = np.zeros(shape, dtype=object)
    for row, place in enumerate(i):
        x[place] = x[place] + y[row]
    return x


M = reals(3, 3) + 3 * np.eye(3)
Z = reals(2, 4)
LABELS = np.array([1, 7])  # in Z, flattened
PLACES = np.array([2, 0, 2])
C = np.array([[True], [False]])
# name: (textbook on object arrays, arguments, params); integer and boolean arguments are data.
ARRAYS = {
    "affine": (lambda x, W, b: x @ W + b, (reals(2, 3), reals(3, 2), reals(2)), {}),
    "astype": (lambda x, dtype: x, (A,), {"dtype": np.float64}),
    "broadcast_to": (np.broadcast_to, (B,), {"shape": (2, 3)}),
    "cholesky": (text_cholesky, (M @ M.T,), {}),
    "clip": (
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
        (A,),
        {"low": -1, "high": 0.5},
    ),
    "concatenate": (lambda *x, axis: np.concatenate(x, axis), (A, B, A), {"axis": 1}),
    "cumsum": (np.cumsum, (A,), {"axis": 1}),
    "einsum": (
        lambda *x, subscripts: np.einsum(subscripts, *x),
        (reals(2, 3), reals(3, 2), reals(2)),
        {"subscripts": "ij,jk,k->ik"},
    ),
    "gather": (lambda x, i, index: x[:, i], (A, PLACES), {"index": (slice(None), "array")}),
    "inv": (lambda a: text_solve_columns(a, np.eye(3).astype(object)), (M,), {}),
    "log_abs_det": (
        lambda a: np.array(mp.log(abs(mp.det(mp.matrix(a.tolist())))), dtype=object),
        (M,),
        {},
    ),
    "log_softmax": (text_log_softmax, (Z,), {"axis": 1}),
    "logsumexp": (
        lambda z, axis, keepdims: logs(exps(z).sum(axis=axis, keepdims=keepdims)),
        (Z,),
        {"axis": 1, "keepdims": True},
    ),
    "matmul": (np.matmul, (reals(2, 2, 3), reals(3, 2)), {}),
    "max": (np.max, (A,), {"axis": (1,), "keepdims": False}),
    "mean": (
        lambda x, axis, keepdims: x.sum(axis=axis) / 2,
        (A,),
        {"axis": (0,), "keepdims": False},
    ),
    "min": (np.min, (A,), {"axis": (0, 1), "keepdims": True}),
    "minus_max": (lambda z, axis: z - z.max(axis=axis, keepdims=True), (Z,), {"axis": 1}),
    "norm": (
        lambda x, axis, keepdims: each(mp.sqrt)((x * x).sum(axis=axis)),
        (A,),
        {"axis": (1,), "keepdims": False},
    ),
    "pad_zeros": (
        lambda x, widths: np.pad(x, pad_width=widths),
        (A,),
        {"widths": ((1, 0), (0, 2))},
    ),
    "power_number": (lambda x, p: x**p, (A,), {"p": 3}),
    "put_along": (
        lambda y, i, axis, shape: np.stack(
            [scattered(y[r], i[r], shape=shape[1:]) for r in range(2)]
        ),
        (reals(2, 3), np.array([[0, 0, 1], [3, 2, 3]])),
        {"axis": 1, "shape": (2, 4)},
    ),
    "replaced": (replaced, (Z, reals(2), LABELS), {}),
    "reshape": (lambda x, shape: x.reshape(shape), (A,), {"shape": (3, 2)}),
    "scatter": (
        lambda y, i, index, shape: scattered(y, i, shape=shape),
        (reals(3), PLACES),
        {"index": ("array",), "shape": (4,)},
    ),
    "softmax": (lambda z, axis: exps(text_log_softmax(z, axis)), (Z,), {"axis": 0}),
    "softmax_nll": (lambda z, place: -text_log_softmax(z, 1).flat[place], (Z, LABELS), {}),
    "solve": (text_solve_columns, (M, reals(3, 2)), {}),
    "sum": (np.sum, (A,), {"axis": (0,), "keepdims": True}),
    "sum_of_losers": (
        losers,
        (Z, np.array([[3, 1, 2, 0], [0, 1, 2, 3]])),
        {"axis": 1},
    ),
    "take_along": (
        np.take_along_axis,
        (Z, np.array([[0, 0, 1], [3, 2, 3]])),
        {"axis": 1},
    ),
    "transpose": (np.transpose, (reals(2, 1, 3),), {"axes": (2, 0, 1)}),
    "where": (np.where, (C, A, B), {}),
}
CASES = {}
for _name, _f in ONE_ARGUMENT.items():
    _low, _high = primitives()[_name].domain if _name in primitives() else (-np.inf, np.inf)
    _points = np.array([-1.7, -0.6, -0.01, 0.02, 0.9, 2.3])
    if _low > -np.inf:
        _points = _low + np.array([0.01, 0.3, 0.9, 1.4] if _high == np.inf else [0.05, 0.8, 1.9])
    CASES[_name] = (np.frompyfunc(_f, 1, 1), (_points,), {})
for _name, (_f, *_args) in TWO_ARGUMENTS.items():
    CASES[_name] = (np.frompyfunc(_f, 2, 1), tuple(_args), {})
CASES |= ARRAYS
UNDIFFERENTIATED = {"copysign": {1}}


def precise(x):
    return np.vectorize(mp.mpf, otypes=[object])(x) if x.size else x.astype(object)


def textbook(f, params):
    def evaluate(*xs):
        return np.asarray(f(*xs, **params), dtype=object)

    return evaluate


def differentiated(name, args):
    skip = UNDIFFERENTIATED.get(name, set())
    return [k for k, x in enumerate(args) if x.dtype.kind == "f" and k not in skip]


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
    f, args, params = CASES[name]
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
            return np.sum(precise(c) * textbook(f, params)(*at))

        true = float((phi(1, 1) - phi(1, -1) - phi(-1, 1) + phi(-1, -1)) / (4 * STEP**2))

    def program(*zs):
        full = list(args)
        for k, z in zip(places, zs, strict=True):
            full[k] = z
        return np.sum(c * primitive(*full, **params))

    at = [args[k] for k in places]
    inner = {
        "f": lambda g, d: lambda *zs: jvp(g, zs, d)[1],
        "r": lambda g, d: (
            lambda *zs: sum(np.sum(b * e) for b, e in zip(vjp(g, *zs)[1](1.0), d, strict=True))
        ),
    }
    size = max(1.0, *(float(np.max(np.abs(x))) for x in at)) * max(1.0, abs(true)) * 10
    found = {a + b: inner[a](inner[b](program, v), w)(*at) for a in "rf" for b in "rf"}
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


@pytest.mark.parametrize("name", sorted(CASES))
def test_adjoint_identity(name):
    """⟨y_bar, J x_dot⟩ = ⟨Jᵀ y_bar, x_dot⟩ to the rounding of the two inner products."""
    primitive = primitives()[name]
    _, args, params = CASES[name]
    places = differentiated(name, args)
    local = np.random.default_rng(2)

    def program(*zs):
        full = list(args)
        for k, z in zip(places, zs, strict=True):
            full[k] = z
        return primitive(*full, **params)

    at = [args[k] for k in places]
    x_dots = [local.uniform(-1, 1, x.shape) for x in at]
    y, y_dot = jvp(program, at, x_dots)
    y_bar = local.uniform(-1, 1, np.shape(y))
    x_bars = vjp(program, *at)[1](y_bar)
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
