"""Compiled backward sweeps: the bits of the interpreted ones, whatever changes between two gradients."""

import concurrent.futures

import numpy as np
import pytest

from ffverify.reference import custom_rule, elementwise, grad, jacobian, vjp
from ffverify.reference.engine.var import Var
from ffverify.reference.programs import sweeps

X = np.linspace(-1.0, 2.0, 12).reshape(3, 4)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every structure gets its program in its first sweep."""
    monkeypatch.setattr(sweeps, "OFTEN", 0)
    sweeps.SWEEPS.clear()
    yield
    sweeps.SWEEPS.clear()


def programs():
    return sum(map(callable, sweeps.SWEEPS.values()))


def interpreted(f, *args):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "SWEEPS", {})
        patch.setattr(sweeps, "OFTEN", 10)
        return grad(f)(*args)


def network(params, x):
    (W, b), (V, c) = params
    z = np.tanh(x @ W + b) @ V + c
    z = z - np.max(z, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(z)), [0, 1, 0]])


def test_a_program_is_made_of_what_comes_often_and_has_its_bits(monkeypatch):
    monkeypatch.setattr(sweeps, "OFTEN", 3)
    rng = np.random.default_rng(0)
    made = []
    for _ in range(6):
        params = [(rng.normal(size=s), rng.normal(size=s[1])) for s in [(4, 3), (3, 2)]]
        x = rng.normal(size=(3, 4))
        found, expected = grad(network)(params, x), interpreted(network, params, x)
        made.append(programs())
        for a, b in zip(found, expected, strict=True):
            assert all(map(np.array_equal, a, b))
    assert made == [0, 0, 0, 1, 1, 1]
    assert len(sweeps.SWEEPS) == 1


# Pairs of functions whose tapes differ in one thing, which their slopes depend on.
DIFFERENT = {
    "an integer factor": (lambda x: np.sum(x * 2), lambda x: np.sum(x * 3)),
    "a truth value for 1": (lambda x: np.sum((x * 1) ** 3), lambda x: np.sum((x * True) ** 3)),
    "an exponent": (lambda x: np.sum(x**3), lambda x: np.sum(x**4)),
    "the sign of zero": (
        lambda x: np.sum(np.copysign(x, 0.0) * np.clip(x, 0.0, 1)),
        lambda x: np.sum(np.copysign(x, -0.0) * np.clip(x, -0.0, 1)),
    ),
    "an axis": (lambda x: np.sum(np.max(x, axis=0)), lambda x: np.sum(np.max(x, axis=1))),
    "a slice": (lambda x: np.sum(x[1:] ** 2), lambda x: np.sum(x[:2] ** 2)),
    "an index": (lambda x: np.sum(x[1] ** 2), lambda x: np.sum(x[True] ** 2)),
    "a mask": (lambda x: np.sum(x[x > 0] ** 2), lambda x: np.sum(x[x > 1] ** 2)),
    "places": (lambda x: np.sum(x[[0, 0]] ** 2), lambda x: np.sum(x[[0, 1]] ** 2)),
    "the wiring": (lambda x: np.sum(x / (x * x)), lambda x: np.sum((x * x) / x)),
    "one array twice": (
        lambda x, a=X + 3, b=X + 3: np.sum(x * a + np.sin(x) * a) + 0 * np.sum(b),
        lambda x, a=X + 3, b=X + 4: np.sum(x * a + np.sin(x) * b),
    ),
    "a scalar's type": (
        lambda x: np.sum(x.astype("f") * np.float64(0.1)),
        lambda x: np.sum(x.astype("f") * np.float32(0.1)),
    ),
    "a number's dtype": (
        lambda x: np.sum(x.astype("f") * 0.1),
        lambda x: np.sum(x.astype("d") * 0.1),
    ),
    "a written row": (lambda x: written(x, 0), lambda x: written(x, 2)),
}


def written(x, row):
    y = x * 1.0
    y[row] = 2 * x[1] ** 2
    y += x
    return np.sum(y**2)


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=list(DIFFERENT))
def test_what_a_slope_depends_on_is_told_apart(pair):
    for f in (*pair, *pair):
        for x in (X, X.astype("f"), np.asfortranarray(X), X[::-1], X[:, :1]):
            found, expected = grad(f)(x), interpreted(f, x)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert programs() or pair is DIFFERENT["a mask"]


def test_branches_on_values():
    f = lambda x: np.sum(x**2) if x[0, 0] > 0 else np.sum(x**3)  # noqa: E731  # a formula
    for x in (X, X + 5, X, X + 7):
        np.testing.assert_array_equal(grad(f)(x), interpreted(f, x))
    assert programs() == 2


def test_second_orders_and_many_cotangents():
    f = lambda x: np.sum(np.tanh(x) ** 2 * x)  # noqa: E731  # a formula
    twice = lambda x: np.sum(grad(f)(x) * np.sin(x))  # noqa: E731  # a formula
    np.testing.assert_array_equal(grad(twice)(X), interpreted(twice, X))
    rows = lambda x: np.sin(x) @ X  # noqa: E731  # a formula
    found = jacobian(rows, mode="reverse")(X[:, 0])
    np.testing.assert_allclose(found, (np.cos(X[:, 0]) * X.T), rtol=1e-15)
    _, pullback = vjp(rows, X[:, 0])
    for v in (X[0], X[1], -X[1], X[:, 0] @ X):
        np.testing.assert_allclose(pullback(v)[0], found.T @ v, rtol=1e-14)
    assert programs() == 2


def test_results_are_the_callers_own():
    f = lambda x: np.sum(x.T @ X) + np.sum(x)  # noqa: E731  # a formula
    first = grad(f)(X)
    kept = first.copy()
    first *= 7
    np.testing.assert_array_equal(grad(f)(X), kept)
    assert programs() == 1


def test_a_gradients_1_is_part_of_its_program_and_other_cotangents_are_not():
    f = lambda x: np.sum(np.log(x + 2) * x[:, :1])  # noqa: E731  # a formula
    right = interpreted(f, X)
    for y_bar in (2.0, 0.5, np.float32(1), np.array(4.0)):
        np.testing.assert_array_equal(vjp(f, X)[1](y_bar)[0], right * y_bar)
        np.testing.assert_array_equal(grad(f)(X), right)
    assert programs() == 4


def test_a_users_rule_may_depend_on_anything():
    slopes = iter([2.0, 3.0, 4.0, 5.0])
    theirs = elementwise("theirs", np.sin, lambda _y, _x: next(slopes))
    assert [grad(theirs)(1.0), grad(theirs)(1.0)] == [2.0, 3.0]
    ruled = custom_rule(np.sin, vjp=lambda y_bar, _y, _x: (y_bar * next(slopes),))
    assert [grad(ruled)(1.0), grad(ruled)(1.0)] == [4.0, 5.0]
    assert not sweeps.SWEEPS


def test_a_rule_that_computes_otherwise_in_a_graph_is_interpreted(monkeypatch):
    """The planted bug: its graph's slope is off by one ulp."""
    off = elementwise("off", np.sin, lambda _y, x: 1.0 + 2**-52 if type(x) is Var else 1.0)
    own = sweeps._own() | {off}
    monkeypatch.setattr(sweeps, "_own", lambda: own)
    assert [grad(off)(1.0) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert list(sweeps.SWEEPS.values()) == [None]


@pytest.mark.parametrize("lost", ["values", "parameters"])
def test_a_key_that_loses_something_is_found(monkeypatch, lost):
    """Were the key to leave out the numbers or the parameters, the tests above would fail."""
    if lost == "values":
        monkeypatch.setattr(sweeps, "_sign", lambda _x, _key: None)
        pair = DIFFERENT["an integer factor"]
    else:
        monkeypatch.setattr(sweeps, "_dumped", lambda _params: b"")
        pair = DIFFERENT["an exponent"]
    with pytest.raises(AssertionError):
        test_what_a_slope_depends_on_is_told_apart(pair)


def test_many_structures_are_forgotten():
    for n in range(2 * sweeps.KEPT):
        grad(lambda x, n=n: np.sum(x * n))(X)
        assert len(sweeps.SWEEPS) <= sweeps.KEPT


def test_long_and_large_ones_are_interpreted():
    def long(x):
        for _ in range(sweeps.LONG):
            x = np.sin(x)
        return x

    grad(long)(1.0)
    assert not sweeps.SWEEPS
    large = np.ones(sweeps.LARGE // 8 + 1)
    np.testing.assert_array_equal(grad(lambda x: np.sum(np.sin(x)))(large), np.cos(large))
    np.testing.assert_array_equal(grad(lambda x: np.sum(-x))(large), -1)
    assert list(sweeps.SWEEPS.values()) == [None, None]


def test_in_several_threads_at_once():
    f = lambda x, k: np.sum(np.tanh(x * k) ** 2)  # noqa: E731  # a formula
    ks = [0.1 * i for i in range(40)]
    expected = [interpreted(f, X, k) for k in ks]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda k: [grad(f)(X, k) for _ in range(20)], ks)]
    for of_k, right in zip(found, expected, strict=True):
        assert all(np.array_equal(one, right) for one in of_k)
    assert programs() == 1
