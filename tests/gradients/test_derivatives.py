"""Derivatives as people have them: gradients of numbers, Hessian diagonals, objects with backward, modes."""

from __future__ import annotations

import numpy as np
import pytest

import ffverify
from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays

X = np.array([0.5, -1.25, 2.0])
Y = np.array([1.0, 0.0, 1.0])
RNG = np.random.default_rng(0)


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


def verdict(*args, **kwargs):
    return str(quiet(*args, **kwargs).verdict)


# -- the gradient of a number -----------------------------------------------------------------------


def test_a_pair_of_scipy_optimize():
    optimize = pytest.importorskip("scipy.optimize")
    report = quiet(optimize.rosen, X, gradient=optimize.rosen_der)
    assert report.verdict == "correct"
    assert report.derivatives == "the caller's gradient="
    assert (
        verdict(optimize.rosen, X, gradient=lambda x: optimize.rosen_der(x) * [1, 1, 1.001])
        == "wrong"
    )


def test_value_and_gradient_at_once():
    assert verdict(lambda x: (np.sum(x**3), 3 * x**2), X, gradient=True) == "correct"
    assert verdict(lambda x: (np.sum(x**3), 2 * x**2), X, gradient=True) == "wrong"


def test_the_gradient_of_a_tree_and_of_several_inputs():
    def loss(params, x, y):
        return np.mean((x @ params["w"] + params["b"] - y) ** 2)

    def gradient(params, x, y, factor=2.0):
        r = factor * (x @ params["w"] + params["b"] - y) / y.size
        return {"w": x.T @ r, "b": np.sum(r)}, None, None

    given = {"w": X[:2], "b": np.array(0.5)}, RNG.normal(size=(4, 2)), RNG.normal(size=4)
    assert verdict(loss, given, gradient=gradient) == "correct"
    assert verdict(loss, given, gradient=lambda *a: gradient(*a, factor=1.0)) == "wrong"


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="both given"):
        gradcheck(np.sum, X, vjp=lambda v, x: v, gradient=lambda x: x)
    with pytest.raises(TypeError, match=r"gradient=3\.0 cannot be called"):
        gradcheck(np.sum, X, gradient=3.0)
    assert "gradient= is of one" in str(quiet(lambda x: (x, x), X, gradient=lambda x: x))


# -- boosting ---------------------------------------------------------------------------------------


def logistic(z, y):
    return np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - y * z  # one loss per row


def objective(z, y, slip=0.0):
    p = 1 / (1 + np.exp(-z))
    return p - y, p * (1 - p + slip)


def boosting(slip=0.0, gradient=None):
    return {
        "gradient": gradient or (lambda z, y: objective(z, y)[0]),
        "hessian_diagonal": lambda z, y: objective(z, y, slip)[1],
    }


def test_a_boosting_objective():
    given = (X, ffverify.data(Y))
    report = quiet(logistic, given, **boosting())
    assert report.verdict == "correct"
    assert report.modes == ("reverse", "hessian diagonal")
    assert report.derivatives == "the caller's gradient= and hessian_diagonal="
    wrong = quiet(logistic, given, **boosting(slip=1e-6))
    assert wrong.verdict == "wrong"
    assert "hessian diagonal" in wrong.findings[0].where
    drawn = (arrays("float64", (3,), min_value=-5, max_value=5), ffverify.data(Y))
    assert quiet(logistic, drawn, **boosting(), max_examples=10).ok
    assert quiet(logistic, drawn, **boosting(slip=0.1), max_examples=10).verdict == "wrong"


def softmax_loss(z, y):
    shifted = z - np.max(z, axis=1, keepdims=True)
    return np.sum(np.log(np.sum(np.exp(shifted), axis=1)) - shifted[np.arange(len(y)), y])


def softmax(z):
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [2, 3])  # 6 elements, each by itself, and some of 9
def test_a_diagonal_of_rows_with_several_columns(rows):
    z, y = RNG.normal(size=(rows, 3)), RNG.integers(3, size=rows)

    def gradient(z, y):
        return softmax(z) - np.eye(3)[y]

    def check(diagonal):
        return quiet(softmax_loss, (z, y), gradient=gradient, hessian_diagonal=diagonal)

    right = check(lambda z, y: softmax(z) * (1 - softmax(z)))
    assert right.verdict == "correct"
    assert ("hessian diagonal mode" in right.skipped) == (rows == 3)
    assert check(lambda z, y: 2 * softmax(z) * (1 - softmax(z))).verdict == "wrong"


def test_a_diagonal_beside_the_gradient_of_a_framework():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    report = quiet(lambda x: (x**4).sum(), x, hessian_diagonal=lambda x: 12 * x**2)
    assert report.ok
    assert report.derivatives == "torch's autograd, and the caller's hessian_diagonal="
    assert verdict(lambda x: (x**4).sum(), x, hessian_diagonal=lambda x: 6 * x**2) == "wrong"
    report = quiet(lambda x, y: (x * y).sum(), (x, x), hessian_diagonal=lambda x, y: x)
    assert "declare the others ffverify.data" in str(report)


# -- objects with forward and backward ------------------------------------------------------------------


class Dense:
    def __init__(self, rows, columns, slip=1.0):
        self.W, self.b = RNG.normal(size=(rows, columns)), RNG.normal(size=columns)
        self.slip = slip

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy * self.slip, dy.sum(axis=0)
        return dy @ self.W.T


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class Network:
    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy


def network(slip=1.0):
    return Network(Dense(2, 3), Tanh(), Dense(3, 1, slip))


def test_hand_written_backpropagation():
    x = RNG.normal(size=(4, 2))
    report = ffverify.backprop(network(), x)
    assert report.verdict == "correct"
    assert report.name == "Network"
    wrong = ffverify.backprop(network(slip=1.001), x, raise_exception=False)
    (found,) = wrong.findings
    assert '/∂parameters["layers[2].W"]' in found.where
    drawn = arrays("float64", (4, 2), min_value=-2, max_value=2)
    assert ffverify.backprop(network(), drawn, max_examples=5).ok
    with pytest.raises(ffverify.GradcheckError, match="wrong"):
        ffverify.backprop(network(slip=-1.0), drawn, max_examples=5)


class Affine:
    """A layer whose gradients are made by ``spoil(name, gradient)`` from the right ones."""

    def __init__(self, spoil, *, held):
        w = np.arange(1.0, 7.0).reshape(3, 2) / 8
        self.params, self.grads = {"W": w, "b": np.ones(2)}, {}
        self.spoil, self.held = spoil, held
        if not held:
            self.W, self.b = self.params.values()
            del self.params, self.grads

    def forward(self, x):
        self.x = x
        w, b = self.params.values() if self.held else (self.W, self.b)
        return x @ w + b

    def backward(self, dy):
        right = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        spoilt = {name: self.spoil(name, g, dy) for name, g in right.items()}
        if self.held:
            self.grads.update(spoilt)
            return dy @ self.params["W"].T
        self.dW, self.db = spoilt.values()
        return dy @ self.W.T


SPOILT_SHAPES = {
    "transposed": lambda name, g, dy: g.T if name == "W" else g,
    "not summed up": lambda name, g, dy: dy if name == "b" else g,
    "summed up to a number": lambda name, g, dy: g.sum() if name == "b" else g,
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("name", SPOILT_SHAPES)
def test_a_gradient_of_another_shape_than_its_parameter_is_wrong(name, held):
    x = np.arange(1.0, 13.0).reshape(4, 3) / 4
    assert ffverify.backprop(Affine(lambda _, g, dy: g, held=held), x).verdict == "correct"
    layer = Affine(SPOILT_SHAPES[name], held=held)
    report = ffverify.backprop(layer, x, raise_exception=False)
    assert report.verdict == "wrong"
    assert "has shape" in report.findings[0].computed


class Holding:
    """A layer that has arrays for its gradients from the beginning, as numpy-ml's."""

    def __init__(self, slip=1.0):
        self.slip, self.parameters = slip, {"W": np.full((3, 2), 0.5), "b": np.zeros((1, 2))}
        self.gradients = {"W": np.zeros((3, 2)), "b": np.zeros((1, 2))}

    def forward(self, x):
        self.x = x
        return x @ self.parameters["W"] + self.parameters["b"]

    def backward(self, dy):
        self.gradients = {"W": self.slip * self.x.T @ dy, "b": dy.sum(axis=0, keepdims=True)}
        return dy @ self.parameters["W"].T


class Square:
    def apply(self, x):
        out = np.zeros(x.shape)
        for i in np.ndindex(x.shape):
            out[i] = x[i] ** 2
        return out


class Filling:
    """A convolution as courses have it, element by element, with another object in it."""

    def __init__(self, slip=1.0):
        self.slip, self.W, self.unit = slip, np.array([[0.5, -1.0], [2.0, 0.25]]), Square()

    def forward(self, x):
        self.x, self.y = x, np.zeros((x.shape[0] - 1, x.shape[1] - 1))
        for i, j in np.ndindex(self.y.shape):
            self.y[i, j] = np.sum(x[i : i + 2, j : j + 2] * self.W)
        return self.unit.apply(self.y)

    def backward(self, dy):
        dy, dx, self.dW = dy * 2 * self.y, np.zeros_like(self.x), np.zeros((2, 2))
        for i, j in np.ndindex(dy.shape):
            dx[i : i + 2, j : j + 2] += dy[i, j] * self.W
            self.dW += self.slip * dy[i, j] * self.x[i : i + 2, j : j + 2]
        return dx


def test_a_layer_that_fills_arrays_has_an_exact_form_and_stays_what_it_is():
    x, layer = np.arange(9.0).reshape(3, 3) / 4, Filling()
    right = ffverify.backprop(layer, x)
    assert (right.verdict, right.truth) == ("correct", "shadow")
    assert type(layer) is Filling
    assert type(layer.unit) is Square
    assert vars(layer).keys() == {"slip", "W", "unit"}
    wrong = ffverify.backprop(Filling(1 + 1e-12), x, raise_exception=False)
    assert (wrong.verdict, wrong.truth) == ("wrong", "shadow")
    assert 'parameters["W"]' in wrong.findings[0].where


def test_what_lies_among_gradients_is_no_parameter():
    x = np.arange(12.0).reshape(4, 3)
    report = ffverify.backprop(Holding(), x)
    assert report.verdict == "correct"
    wrong = ffverify.backprop(Holding(1.01), x, raise_exception=False)
    assert "parameters['W']" in wrong.findings[0].where
    assert "gradients" not in "".join(f.where for f in wrong.findings)


class Adding:
    """A layer that adds to its gradients, or sets them, or spoils what its next call needs."""

    def __init__(self, *, adds=True, slip=1.0, spoils=False):
        self.w, self.adds, self.slip, self.spoils = np.full((3, 2), 0.5), adds, slip, spoils
        self.dw = np.zeros_like(self.w)
        self.scale = 1.0

    def forward(self, x):
        self.x = x
        return x @ self.w

    def backward(self, v):
        found = self.slip * self.scale * (self.x.T @ v)
        self.dw = self.dw + found if self.adds else found
        self.scale = 3.0 if self.spoils else 1.0
        return v @ self.w.T


def test_gradients_that_add_up_are_checked_from_0_on_and_the_report_says_so():
    x = np.ones((4, 3))
    used = Adding()
    used.forward(x)
    used.backward(np.ones((4, 2)))
    for layer in (Adding(), used):
        report = ffverify.backprop(layer, x)
        assert "it adds to what lies there" in report.skipped["by w from a second backward on"]
    assert not ffverify.backprop(Adding(slip=1.001), x, raise_exception=False).ok
    assert ffverify.backprop(Adding(adds=False), x).skipped == {}
    spoilt = ffverify.backprop(Adding(adds=False, spoils=True), x)
    assert "another gradient there the second" in spoilt.skipped["by w from a second backward on"]


class TwoLayers:
    """As courses have it: parameters and gradients in dicts, the loss inside, backward without argument."""

    def __init__(self, slip=1.0):
        self.params = {"W1": RNG.normal(size=(2, 3)), "W2": RNG.normal(size=(3,))}
        self.grads, self.slip = {}, slip

    def forward(self, x, y):
        self.x, self.h = x, np.maximum(x @ self.params["W1"], 0)
        self.r = self.h @ self.params["W2"] - y
        return np.mean(self.r**2)

    def backward(self):
        dr = 2 * self.r / self.r.size
        dh = np.outer(dr, self.params["W2"]) * (self.h > 0) * self.slip
        self.grads = {"W2": self.h.T @ dr, "W1": self.x.T @ dh}


def test_a_loss_with_gradients_in_a_dict():
    given = RNG.normal(size=(4, 2)), RNG.normal(size=4)
    report = ffverify.backprop(TwoLayers(), given)
    assert report.verdict == "correct"
    assert set(report.data) == {"x", "y"}
    wrong = ffverify.backprop(TwoLayers(slip=0.5), given, raise_exception=False)
    assert "params['W1']" in wrong.findings[0].where


class LossLayer:
    """As books have it: mean cross entropy, and a cotangent with a default, which it may make nothing of."""

    def __init__(self, scaled=False, slip=1.0, uneven=False):
        self.W, self.labels = (
            np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]]),
            (np.arange(2), [0, 2]),
        )
        self.scaled, self.slip, self.uneven = scaled, slip, uneven

    def forward(self, x):
        e = np.exp(x @ self.W)
        self.x, self.y = x, e / e.sum(1, keepdims=True)
        return -np.mean(np.log(self.y[self.labels]))

    def backward(self, dout=1):
        d = self.y.copy()
        d[self.labels] -= self.slip
        d *= (dout if self.scaled else 1) / 2
        self.dW = self.x.T @ d * (dout if self.uneven else 1)
        return d @ self.W.T


def test_a_loss_layer_whose_cotangent_has_a_default():
    x = RNG.normal(size=(2, 2))
    drawn = arrays("float64", (2, 2), min_value=-2, max_value=2)
    for scaled in (False, True):
        assert ffverify.backprop(LossLayer(scaled), x).verdict == "correct"
        assert ffverify.backprop(LossLayer(scaled), drawn, max_examples=5).ok
        for wrong in (LossLayer(scaled, slip=1.001), LossLayer(scaled, uneven=True)):
            report = ffverify.backprop(wrong, x, raise_exception=False)
            assert "wrong" in {f.kind for f in report.findings}


class Odd:
    def __init__(self, slip=1.0):
        self.weight, self.slip = np.array([1.0, 2.0, 3.0]), slip

    def forward(self, x):
        self.x = x
        return self.weight * x

    def backward(self, v):
        self.update = v * self.x * self.slip
        return v * self.weight


def test_parameters_may_be_named():
    where = {"weight": "update"}
    assert ffverify.backprop(Odd(), X, parameters=where).ok
    assert not ffverify.backprop(Odd(slip=2.0), X, parameters=where, raise_exception=False).ok
    unseen = ffverify.backprop(Odd(slip=2.0), X)  # its gradient has no name that tells
    assert unseen.data == {"weight": "no gradient was found for it: name it in parameters="}
    with pytest.raises(ValueError, match="'wait' is no array"):
        ffverify.backprop(Odd(), X, parameters={"wait": "update"})
    report = ffverify.backprop(Odd(), X, parameters={"weight": "dw"}, raise_exception=False)
    assert "has no dw after backward" in str(report)
    with pytest.raises(TypeError, match="has no forward"):
        ffverify.backprop(np.sin, X)


# -- modes and whose ------------------------------------------------------------------------------------


def test_modes_are_those_asked_for():
    assert quiet(np.tanh, X, modes=("forward",)).modes == ("forward",)
    assert quiet(np.tanh, X, modes="reverse").modes == ("reverse",)
    wrong = {"vjp": lambda v, x: v, "jvp": lambda t, x: t[0] * np.cos(x)}
    assert verdict(np.sin, X, **wrong) == "wrong"
    assert verdict(np.sin, X, modes=("forward",), **wrong) == "correct"
    with pytest.raises(ValueError, match="did you mean 'reverse'"):
        gradcheck(np.sin, X, modes=("revers",))
    with pytest.raises(ValueError, match="none of them is left"):
        gradcheck(np.sin, X, modes=("forward",), vjp=lambda v, x: v)


def test_the_report_says_whose_derivatives_were_checked():
    assert "ffverify.reference's, not the caller's" in str(quiet(np.tanh, X))
    assert "the caller's vjp= and jvp=" in str(
        quiet(np.sin, X, vjp=lambda v, x: v * np.cos(x), jvp=lambda t, x: t[0] * np.cos(x))
    )
