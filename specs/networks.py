"""Sections 6.0 and 6.1: feedforward networks, and learning XOR."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import Draw, array, drawing
from ffverify.conformance.pictures import Curve, Panel, Surface
from ffverify.exact.formats import Array, Format

XOR_INPUTS = ((0, 0), (0, 1), (1, 0), (1, 1))
XOR_TARGETS = (0, 1, 1, 0)


def _xor(check: Check) -> tuple[Array, Array]:
    """Give the four inputs [4, 2] and targets [4]."""
    kind = check.fmt.carrier
    return np.array(XOR_INPUTS, dtype=kind), np.array(XOR_TARGETS, dtype=kind)


# --- 6.0 ---------------------------------------------------------------------------------------


def _network(f: Any, x: Any, *parameters: Any) -> Any:
    """Apply layers (W, b), all but the last with hidden tanh units."""
    *hidden, W, b = parameters
    for V, a in zip(hidden[::2], hidden[1::2], strict=True):
        x = f.tanh(f.affine(x, V, a))
    return f.affine(x, W, b)


def _layers(entries: st.SearchStrategy[float]) -> Draw:
    @drawing(f"(W, b) of one to four layers of width 1 to 3 on 3 inputs, numbers of {entries}")
    def make(fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
        @st.composite
        def layers(draw: st.DrawFn) -> list[Array]:
            widths = [3, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))]
            shapes = [s for m, n in pairwise(widths) for s in ((m, n), (n,))]
            sizes = [math.prod(shape) for shape in shapes]
            flat = [draw(st.lists(entries, min_size=n, max_size=n)) for n in sizes]
            return [np.array(v, fmt.carrier).reshape(s) for v, s in zip(flat, shapes, strict=True)]

        return layers()

    return make


@claim(
    "6.0",
    "A network y = f(x; θ) is the composition of its layers, f₃(f₂(f₁(x))): as many as it is deep, "
    "with Σ (m + 1)n numbers in θ for layers of m inputs and n units.",
    functions=["affine", "tanh"],
    parameters=_layers(st.floats(-2, 2, width=16)),
    x=array(2, 3),
)
def network_is_composition(check: Check, parameters: list[Array], x: Array) -> None:
    whole = check.value(_network, x, *parameters)
    h = x
    for W, b in list(zip(parameters[::2], parameters[1::2], strict=True))[:-1]:
        layer = check.backend.value(lambda f, h, W, b: f.affine(h, W, b), [h, W, b], check.fmt.name)
        h = check.backend.value(lambda f, z: f.tanh(z), [layer], check.fmt.name)
    W, b = parameters[-2:]
    last = check.backend.value(lambda f, h, W, b: f.affine(h, W, b), [h, W, b], check.fmt.name)
    check.equal(whole, last, "network = layer after layer")
    if check.backend.provides("MLP"):
        widths = (3, *(len(b) for b in parameters[1::2]))
        network = check.backend.functions["MLP"](widths, hidden="tanh")
        theta = [{"W": W, "b": b} for W, b in zip(parameters[::2], parameters[1::2], strict=True)]
        check.equal(network(theta, x), whole, "MLP = its layers")
        count = sum((m + 1) * n for m, n in pairwise(widths))
        shape = network.depth, network.width, network.parameter_count
        told = len(widths) - 1, max(widths[1:-1], default=0), count
        check.that(shape == told, "depth, width, number of parameters", shape, told)


@network_is_composition.bug("affine", "a layer applied twice")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    y = f.affine(x, W, b)
    return f.affine(y, W, b) if W.shape[0] == W.shape[1] else y


@network_is_composition.bug("MLP", "a tanh on the output layer")
def _(f: Any, *args: Any, **options: Any) -> Any:
    return f.MLP(*args, **{**options, "output": "tanh"})


@claim(
    "6.0",
    "Information flows forward: no layer's activations depend on the parameters of a later layer, "
    "and there is no feedback of outputs.",
    functions=["MLP", "vjp"],
    examples=12,
    parameters=_layers(st.floats(-2, 2, width=16)),
    x=array(2, 3),
)
def information_flows_forward(check: Check, parameters: list[Array], x: Array) -> None:
    widths = (3, *(len(b) for b in parameters[1::2]))
    network = check.backend.functions["MLP"](widths, hidden="tanh")
    theta = [{"W": W, "b": b} for W, b in zip(parameters[::2], parameters[1::2], strict=True)]
    for i in range(len(theta)):
        h, pullback = check.backend.functions["vjp"](
            lambda theta, i=i: network.activations(theta, x)[i], theta
        )
        slopes = pullback(np.ones_like(h))[0]
        check.that(bool(np.any(slopes[i]["b"])), f"∂h{i + 1}/∂b{i + 1}", slopes[i]["b"], "not zero")
        for j in range(i + 1, len(theta)):
            check.equal(slopes[j]["W"], 0, f"∂h{i + 1}/∂W{j + 1}")
            check.equal(slopes[j]["b"], 0, f"∂h{i + 1}/∂b{j + 1}")
        changed = [
            {name: p + (j > i) for name, p in layer.items()} for j, layer in enumerate(theta)
        ]
        check.equal(network.activations(changed, x)[i], h, f"h{i + 1} with later layers changed")


@information_flows_forward.bug("MLP", "the last layer's bias fed back into the first layer")
def _(f: Any, *args: Any, **options: Any) -> Any:
    network = f.MLP(*args, **options)

    def activations(theta: Any, x: Any) -> Any:
        first, *rest = network.activations(theta, x)
        return [first + np.sum(theta[-1]["b"]), *rest]

    return SimpleNamespace(activations=activations)


@information_flows_forward.bug("MLP", "the output fed back into the first layer")
def _(f: Any, *args: Any, **options: Any) -> Any:
    network = f.MLP(*args, **options)

    def activations(theta: Any, x: Any) -> Any:
        first, *rest = network.activations(theta, x)
        return [first * (1 + np.sum(rest[-1])) if rest else first, *rest]

    return SimpleNamespace(activations=activations)


# --- 6.1 ---------------------------------------------------------------------------------------


@claim(
    "6.1",
    "On XOR the linear model xᵀw + b of least mean squared error is w = 0, b = ½: it answers ½ to "
    "everything, at a loss of ¼; the normal equations and gradient descent both say so.",
    functions=["affine", "squared_error"],
    examples=6,
    W=array(2, 3),
    b=array(3),
)
def xor_linear_regression_is_constant(check: Check, W: Array, b: Array) -> None:
    # The normal equations AᵀA (w, b) = Aᵀy of the design A = [X 1], in integers.
    A = np.array([(*x, 1) for x in XOR_INPUTS], dtype=object)
    best = np.array([0, 0, Fraction(1, 2)], dtype=object)
    check.that(
        bool(np.all(A.T @ A @ best == A.T @ np.array(XOR_TARGETS))), "normal equations", best
    )
    X, y = _xor(check)
    Y = np.repeat(y[:, None], 3, axis=1)

    def errors(f: Any, X: Any, W: Any, b: Any, Y: Any) -> Any:  # three models, one per column
        return f.squared_error(f.affine(X, W, b), Y)

    constant = np.zeros_like(W), np.full_like(b, 0.5)
    answers = check.backend.value(
        lambda f, X, W, b: f.affine(X, W, b), [X, *constant], check.fmt.name
    )
    check.equal(answers, 0.5, "the best model's answers")
    loss = check.backend.value(errors, [X, *constant, Y], check.fmt.name).mean()
    check.equal(loss, 0.25, "the best model's mean squared error")

    check.gradient(errors, X, W, b, Y, wrt=1)
    # AᵀA/2, the Hessian of the mean, has the eigenvalues ½, (7 ± √33)/4: at rate ½ the error of the
    # parameters falls by ρ = 1 - (7 - √33)/8 < 0.843 a step, from at most 4√3 + 1 < 8.
    rate, shrink, u = 0.5, 0.843, check.fmt.unit_roundoff
    mean = np.full_like(Y, 0.25)
    for _ in range(math.ceil(math.log(u / 8) / math.log(shrink))):
        slopes = check.backend.vjp(errors, [X, W, b, Y], mean, check.fmt.name, wrt=[1, 2])
        W, b = W - W.dtype.type(rate) * slopes[0], b - b.dtype.type(rate) * slopes[1]
    # Near the end an answer (of size 1) takes 3 roundings, a residual 1, a slope 2 + 4 of at most 1
    # each, the step 2: together 12u per parameter and step, √3·12u in norm, and a geometric series.
    allowed = math.sqrt(3) * 12 * u / (1 - shrink) + u
    off = max(float(np.abs(W).max()), float(np.abs(b - 0.5).max()))
    check.that(
        off <= allowed,
        "distance of what gradient descent learns from w = 0, b = ½",
        off,
        f"≤ {allowed}",
    )


@xor_linear_regression_is_constant.bug("affine", "bias omitted")
def _(_f: Any, x: Any, W: Any, _b: Any) -> Any:
    return x @ W


@xor_linear_regression_is_constant.bug("squared_error", "the error's sign taken for its square")
def _(_f: Any, prediction: Any, y: Any) -> Any:
    return abs(prediction - y) / 2


def _stack(f: Any, x: Any, *parameters: Any) -> Any:
    """Apply linear layers (W, b) one after the other."""
    for W, b in zip(parameters[::2], parameters[1::2], strict=True):
        x = f.affine(x, W, b)
    return x


@claim(
    "6.1",
    "A stack of linear layers is one linear layer: h = Wx, y = w'h make y = (w'W)x, of any depth.",
    functions=["affine"],
    whole=_layers(st.sampled_from([-1.0, 0.0, 1.0])),
    real=_layers(st.floats(-4, 4, width=16)),
    x=array(2, 3),
)
def linear_layers_collapse(check: Check, whole: list[Array], real: list[Array], x: Array) -> None:
    # With weights -1, 0, 1 and inputs up to 3 in size no number exceeds 121: every sum is exact in
    # every format, so both sides must agree bit for bit.
    steps = np.round(x * 0.75)
    W, b = np.eye(3, dtype=x.dtype), np.zeros(3, dtype=x.dtype)
    for layer_W, layer_b in zip(whole[::2], whole[1::2], strict=True):
        W, b = W @ layer_W, b @ layer_W + layer_b
    deep = check.backend.value(_stack, [steps, *whole], check.fmt.name)
    check.equal(
        deep, check.backend.value(_stack, [steps, W, b], check.fmt.name), "stack = one layer"
    )
    check.value(_stack, x, *real)
    check.gradient(_stack, x, *real)

    def collapsed(f: Any, x: Any, *parameters: Any) -> Any:
        W, b = parameters[:2]
        for layer_W, layer_b in zip(parameters[2::2], parameters[3::2], strict=True):
            W, b = W @ layer_W, b @ layer_W + layer_b
        return f.affine(x, W, b)

    proofs.equal(check, _stack, collapsed, x, *real)


@linear_layers_collapse.bug("affine", "a hidden ReLU")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.relu(f.affine(x, W, b))


@linear_layers_collapse.bug("affine", "the bias left out of square layers")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return x @ W if W.shape[0] == W.shape[1] else f.affine(x, W, b)


SOLUTION = [[1, 1], [1, 1]], [0, -1], [[1], [-2]], [0]  # W, c, w, b


def _hidden(f: Any, X: Any, W: Any, c: Any) -> Any:
    return f.relu(f.affine(X, W, c))


def _solved(f: Any, X: Any, W: Any, c: Any, w: Any, b: Any) -> Any:
    return f.affine(_hidden(f, X, W, c), w, b)


@claim(
    "6.1",
    "max(0, xW + c)w with W = [[1, 1], [1, 1]], c = [0, -1], w = [1, -2] is XOR, bit for bit; its "
    "hidden units map (0, 1) and (1, 0) to the same point.",
    functions=["affine", "relu"],
)
def xor_exact_solution(check: Check) -> None:
    X, y = _xor(check)
    W, c, w, b = (np.array(a, X.dtype) for a in SOLUTION)
    h = check.backend.value(_hidden, [X, W, c], check.fmt.name)
    check.equal(h, [[0, 0], [1, 0], [1, 0], [2, 1]], "hidden units at the four inputs")
    answers = check.backend.value(_solved, [X, W, c, w, b], check.fmt.name)
    check.equal(answers, y[:, None], "answers at (0,0), (0,1), (1,0), (1,1)")


@xor_exact_solution.plot(
    "XOR by two rectifiers: no line parts the inputs, one parts the hidden units"
)
def _(check: Check) -> list[Panel]:
    X, y = _xor(check)
    W, c, w, b = (np.array(a, X.dtype) for a in SOLUTION)
    axis = np.linspace(-0.5, 2.25, 111)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(X.dtype)

    def surface(program: Any, *parameters: Array) -> Surface:
        z = check.backend.value(program, [grid, *parameters], check.fmt.name)
        return Surface(axis, axis, z.reshape(len(axis), -1), "answer", levels=[0.5])

    def marks(at: Array) -> list[Curve]:
        return [Curve(str(t), at[y == t, 0], at[y == t, 1], style="marks") for t in (0, 1)]

    h = check.backend.value(_hidden, [X, W, c], check.fmt.name)
    return [
        Panel("the inputs, marked by XOR", "x₁", "x₂", marks(X), surface(_solved, W, c, w, b)),
        Panel(
            "the hidden units: (0, 1) and (1, 0) meet", "h₁", "h₂", marks(h),
            surface(lambda f, h, w, b: f.affine(h, w, b), w, b),
        ),
    ]  # fmt: skip


@xor_exact_solution.bug("affine", "c = [0, 1]")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.affine(x, W, -b)


@xor_exact_solution.bug("relu", "no rectification")
def _(_f: Any, z: Any) -> Any:
    return 1 * z


STARTS, STEPS, RATE = 200, 400, 0.2


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    """Give the 99% score interval of a share (Wilson 1927)."""
    z = 2.5758293035489004  # the normal distribution's 0.995 quantile
    share, spread = successes / trials, z * z / trials
    centre, half = share + spread / 2, math.sqrt(spread * (share * (1 - share) + spread / 4))
    return (centre - half) / (1 + spread), (centre + half) / (1 + spread)


@claim(
    "6.1",
    "Gradient descent teaches XOR to 2-2-1 rectifier networks from some of 200 random starts (loss "
    "below 0.001), by other parameters than the clean ones; a linear model never learns it.",
    functions=["affine", "relu", "squared_error"],
)
def xor_is_learnable(check: Check) -> None:
    X, y = _xor(check)
    random = np.random.default_rng(0)
    kind = X.dtype.type
    # All networks side by side: hidden units 2k and 2k + 1, and their weights w, are network k's.
    W = random.uniform(-1, 1, (2, 2 * STARTS)).astype(kind)
    w = random.uniform(-1, 1, 2 * STARTS).astype(kind)
    c, b = np.zeros(2 * STARTS, kind), np.zeros(STARTS, kind)
    Y = np.repeat(y[:, None], STARTS, axis=1)

    def errors(f: Any, X: Any, W: Any, c: Any, w: Any, b: Any, Y: Any) -> Any:
        hidden = f.relu(f.affine(X, W, c))
        return f.squared_error((hidden * w).reshape(4, -1, 2).sum(-1) + b, Y)

    parameters = (1, 2, 3, 4)
    one = X, W[:, :2], c[:2] + kind(0.125), w[:2], b[:1], Y[:, :1]
    for parameter in parameters:
        check.gradient(errors, *one, wrt=parameter)
    theta, mean = [W, c, w, b], np.full_like(Y, 0.25)
    for _ in range(STEPS):
        slopes = check.backend.vjp(errors, [X, *theta, Y], mean, check.fmt.name, wrt=parameters)
        theta = [p - kind(RATE) * g for p, g in zip(theta, slopes, strict=True)]
    loss = check.backend.value(errors, [X, *theta, Y], check.fmt.name).mean(axis=0)
    solved = loss < 1e-3
    low, high = _wilson(int(solved.sum()), STARTS)
    clean = np.abs(theta[0] - 1).reshape(2, -1, 2).max(axis=(0, 2)) < 0.1
    stuck = np.median(loss[~solved])
    check.measured = (
        f"{solved.sum()} of {STARTS} starts learn XOR (99% interval {low:.0%} to {high:.0%}), "
        f"{(solved & ~clean).sum()} of them by other weights than W = 1; the stuck ones' median "
        f"loss is {stuck:.3g}"
    )
    check.that(low > 0, "share of starts that learn", check.measured, "above a linear model's 0")
    check.that(bool(np.any(solved & ~clean)), "learned weights", theta[0], "other than W = 1")


@xor_is_learnable.bug("affine", "gradient of c dropped")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    def vjp(y_bar: Any, _y: Any, x: Any, W: Any, _b: Any) -> Any:
        return y_bar @ W.T, x.T @ y_bar, None

    return f.custom_rule(f.affine, vjp=vjp)(x, W, b)


@xor_is_learnable.bug("relu", "no rectification: a linear model")
def _(_f: Any, z: Any) -> Any:
    return 1 * z
