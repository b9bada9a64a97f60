"""Section 6.5: back-propagation with symbols and numbers, in a network, and beside forward mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array
from ffverify.exact.programs import Program
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook

from . import programs
from .programs import Code

SHAPES = ((), (3,), (2, 3))


# ---------------------------------------------------------------------------------------------
# Symbols and numbers
# ---------------------------------------------------------------------------------------------

TANH_FIRST: Code = [["tanh", place] for place in range(len(SHAPES))]


@claim(
    "6.5",
    "Symbol-to-number and symbol-to-symbol back-propagation apply the same rules and give the same "
    "bits; only the latter, which gives a graph, lets the derivative be differentiated again.",
    functions=["grad", "trace", *programs.NEEDED],
    examples=10,
    code=programs.code(*SHAPES, names=programs.SMOOTH, start=TANH_FIRST),
    inputs=programs.inputs(*SHAPES),
)
def symbol_to_number_equals_symbol_to_symbol(check: Check, code: Code, inputs: list[Array]) -> None:
    f = programs.namespace(check)
    shape = programs.run(textbook.namespace, code, inputs).shape
    (v,) = typed_v = programs.typed(check, direction(*shape))
    u = programs.typed(check, *(direction(*s) for s in SHAPES))
    gradient = f.grad(lambda *xs: (programs.run(f, code, xs) * v).sum(), argnums=(0, 1, 2))

    numbers = gradient(*inputs)
    graph = f.trace(gradient, *inputs)
    for i, (symbol, number) in enumerate(zip(graph(*inputs), numbers, strict=True)):
        kind = type(number).__name__
        check.that(isinstance(number, np.ndarray | np.generic), f"gradient[{i}]", kind, "numbers")
        check.equal(symbol, number, f"the graph's gradient[{i}]")

    def slope(t: Any) -> Any:
        moved = graph(*(x + t * w for x, w in zip(inputs, u, strict=True)))
        return sum((g * w).sum() for g, w in zip(moved, u, strict=True))

    (zero,) = programs.typed(check, np.zeros(()))
    second = f.grad(slope)(zero)
    line = programs.along(code, inputs, u, typed_v[0])
    exact = truth.value(programs.derivative(line, 2), [zero], check.fmt)
    scale = programs.running_scale(f, f.grad(slope), zero)
    check.agrees("the graph differentiated again", second, exact, scale=scale)


@symbol_to_number_equals_symbol_to_symbol.bug("tanh", "one rule computes with bare numbers")
def _(f: Any, z: Any) -> Any:
    def bare(x: Any) -> Any:
        while hasattr(x, "value"):
            x = x.value
        return x

    return f.custom_rule(np.tanh, vjp=lambda v, y, _z: (v * (1 - bare(y) ** 2),))(z)


@symbol_to_number_equals_symbol_to_symbol.bug("trace", "the graph keeps numbers, not operations")
def _(f: Any, fn: Any, *args: Any) -> Any:
    numbers = fn(*args)
    return f.trace(lambda *_args: numbers, *args)


@symbol_to_number_equals_symbol_to_symbol.bug("trace", "the graph's numbers are rounded")
def _(f: Any, fn: Any, *args: Any) -> Any:
    def rounded(*xs: Any) -> Any:
        results = fn(*xs)
        return tuple(y * (1 + 2**-20) for y in results) if isinstance(results, tuple) else results

    return f.trace(rounded, *args)


# ---------------------------------------------------------------------------------------------
# The formulas of a layered network
# ---------------------------------------------------------------------------------------------


def _two_layers(f: Any, *inputs: Any) -> Any:
    X, W, b, V, c, G = inputs
    return (f.affine(f.softplus(f.affine(X, W, b)), V, c) * G).sum()


def _by_hand(f: Any, *inputs: Any) -> tuple[Any, ...]:
    """Back-propagate G through the two layers: the cotangents of X, W, b, V and c."""
    X, W, b, V, _, G = inputs
    Z = f.affine(X, W, b)
    H = f.softplus(Z)
    G_V, G_c, G_H = H.T @ G, G.sum(axis=0), G @ V.T
    G_Z = G_H * f.sigmoid(Z)
    return G_Z @ W.T, X.T @ G_Z, G_Z.sum(axis=0), G_V, G_c


@claim(
    "6.5",
    "For a layer Z = XW + b with cotangent G: G_W = XᵀG, G_b = Σ G over the batch, G_X = GWᵀ; "
    "through two layers, the engine's gradients and these formulas by hand agree.",
    functions=["affine", "softplus", "sigmoid"],
    examples=3,
    inputs=programs.inputs((3, 2), (2, 2), (2,), (2, 2), (2,), (3, 2)),
)
def mlp_backprop_formulas(check: Check, inputs: list[Array]) -> None:
    backend, dtype = check.backend, check.fmt.name
    (one,) = programs.typed(check, np.ones(()))
    gradients = backend.vjp(_two_layers, inputs, one, dtype, wrt=range(5))
    zero = np.zeros(())
    for i, (name, gradient) in enumerate(zip("XWbVc", gradients, strict=True)):
        along = direction(*inputs[i].shape)
        exact = truth.value(_slope(i, along), [zero, *inputs], check.fmt)
        hand = backend.value(lambda f, *a, i=i: _by_hand(f, *a)[i], inputs, dtype)
        for where, found in ((f"the engine's G_{name}", gradient), (f"G_{name} by hand", hand)):
            check.agrees(f"⟨{where}, u⟩", programs.inner([found], [along]), exact)
    for i, name in enumerate("XWbVc"):
        u = BALLS.array(direction(*inputs[i].shape))
        proofs.equal(
            check,  # 1 + ... on both sides: to 2^-100 absolute, where the gradient vanishes, too
            lambda _f, *a, i=i, u=u: 1 + _slope(i, u)(BALLS.array(zero), *a),
            lambda f, *a, i=i, u=u: 1 + (_by_hand(f, *a)[i] * u).sum(),
            *inputs,
            where=f"the formula of G_{name}",
        )


def _slope(i: int, along: Any) -> Program:
    """Give the exact derivative of the two layers when input i moves along a direction."""

    def slope(t: Any, *inputs: Any) -> Any:
        def line(t: Any) -> Any:
            moved = inputs[i] + t * BALLS.array(along)
            return _two_layers(textbook.namespace, *inputs[:i], moved, *inputs[i + 1 :])

        return programs.derivative(line, 1)(t)

    return slope


def _planted_affine(f: Any, X_bar: Any, W_bar: Any, b_bar: Any) -> Any:
    """Give an affine layer with other formulas for its cotangents."""

    def rule(v: Any, _y: Any, X: Any, W: Any, _b: Any) -> tuple[Any, ...]:
        return X_bar(v, W), W_bar(v, X), b_bar(v)

    return f.custom_rule(lambda X, W, b: X @ W + b, vjp=rule)


@mlp_backprop_formulas.bug("affine", "G_W transposed, which a square W does not notice")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    return _planted_affine(f, lambda G, W: G @ W.T, lambda G, X: G.T @ X, lambda G: G.sum(axis=0))(
        X, W, b
    )


@mlp_backprop_formulas.bug("affine", "G_b averaged over the batch instead of summed")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    return _planted_affine(f, lambda G, W: G @ W.T, lambda G, X: X.T @ G, lambda G: G.mean(axis=0))(
        X, W, b
    )


@mlp_backprop_formulas.bug("affine", "G_X = GW")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    return _planted_affine(f, lambda G, W: G @ W, lambda G, X: X.T @ G, lambda G: G.sum(axis=0))(
        X, W, b
    )


# ---------------------------------------------------------------------------------------------
# Forward and reverse mode
# ---------------------------------------------------------------------------------------------

NETWORK_SHAPES = ((2, 3), (3, 3), (3,))
NETWORK_FIRST: Code = [["affine", 0, 1, 2], ["tanh", 3]]


@claim(
    "6.5",
    "Forward and reverse mode compute the same derivative: ⟨v, Ju⟩ = ⟨Jᵀv, u⟩ for random programs "
    "over a network's layer, and both equal truth.",
    functions=programs.NEEDED,
    examples=12,
    code=programs.code(*NETWORK_SHAPES, most=4, start=NETWORK_FIRST),
    inputs=programs.inputs(*NETWORK_SHAPES),
)
def forward_equals_reverse(check: Check, code: Code, inputs: list[Array]) -> None:
    if programs.on_a_kink(code, inputs, check.fmt):
        return
    forward, reverse, exact = programs.both_modes(check, code, inputs)
    check.agrees("⟨v, Ju⟩ in forward mode", forward, exact)
    check.agrees("⟨Jᵀv, u⟩ in reverse mode", reverse, exact)


@forward_equals_reverse.bug("affine", "the weights' tangent is dropped in the product")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    return f.custom_rule(
        lambda X, W, b: X @ W + b,
        vjp=lambda v, _y, X, W, _b: (v @ W.T, X.T @ v, v.sum(axis=0)),
        jvp=lambda dots, _y, _X, W, _b: dots[0] @ W + dots[2],
    )(X, W, b)


@forward_equals_reverse.bug("tanh", "1 - tanh z in reverse mode only")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        np.tanh,
        vjp=lambda v, y, _z: (v * (1 - y),),
        jvp=lambda dots, y, _z: dots[0] * (1 - y * y),
    )(z)
