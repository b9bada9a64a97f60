"""Section 6.3, second part: the logistic sigmoid and the hyperbolic tangent as hidden units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, integers, points, rows, with_tails
from ffverify.conformance.pictures import Curve, Panel
from ffverify.exact.formats import Array


@claim(
    "6.3",
    "tanh z = 2σ(2z) - 1, to full relative accuracy on either side of zero.",
    functions=["sigmoid", "tanh"],
    z=points(),
)
def tanh_is_scaled_sigmoid(check: Check, z: Array) -> None:
    check.value("tanh", z)
    check.value(lambda f, z: 2 * f.sigmoid(2 * z), z, core=(0,), scale=1.0)
    proofs.equal(check, lambda f, z: f.tanh(z), lambda f, z: 2 * f.sigmoid(2 * z) - 1, z)


@tanh_is_scaled_sigmoid.bug("tanh", "2σ(z) - 1")
def _(f: Any, z: Any) -> Any:
    return 2 * f.sigmoid(z) - 1


@tanh_is_scaled_sigmoid.bug("tanh", "2σ(2z) - 1 in floating point, which cancels near 0")
def _(f: Any, z: Any) -> Any:
    return 2 * f.sigmoid(2 * z) - 1


@tanh_is_scaled_sigmoid.bug("tanh", "(e^z - e^-z) / (e^z + e^-z), which overflows")
def _(f: Any, z: Any) -> Any:
    return (f.exp(z) - f.exp(-z)) / (f.exp(z) + f.exp(-z))


@tanh_is_scaled_sigmoid.bug("sigmoid", "σ(z) = (1 + tanh z) / 2: a factor 2 lost")
def _(f: Any, z: Any) -> Any:
    return (1 + f.tanh(z)) / 2


def sigmoid_slope(f: Any, z: Any) -> Any:
    """Give σ'(z)."""
    return f.sigmoid(z) * f.sigmoid(-z)


def tanh_slope(f: Any, z: Any) -> Any:
    """Give tanh'(z)."""
    return 4 * sigmoid_slope(f, 2 * z)


def bounded_and_falling(check: Check, slope: Any, largest: float, z: Array) -> None:
    """Prove slope(z) ≤ largest and slope(z) > slope(9z/8)."""
    name, further = slope.__name__, np.where(z == 0, 1, z)
    bound, fall = f"{largest} - {name}(z)", f"{name}(z) - {name}(9z/8)"
    proofs.positive(check, lambda f, z: largest - slope(f, z), z, or_zero=True, where=bound)
    proofs.positive(check, lambda f, z: slope(f, z) - slope(f, 1.125 * z), further, where=fall)


@claim(
    "6.3",
    "Sigmoidal units saturate over most of their domain: σ' ≤ ¼ and tanh' ≤ 1 fall monotonically to "
    "0 on both sides, and are known to full relative accuracy there (σ'(40) = 4.2e-18, not 0).",
    functions=["sigmoid", "tanh"],
    each="unit",
    examples=15,
    z=points(),
)
def sigmoidal_units_saturate(check: Check, unit: str, z: Array) -> None:
    check.gradient(unit, with_tails(z, check.fmt))
    slope, largest = (sigmoid_slope, 0.25) if unit == "sigmoid" else (tanh_slope, 1.0)
    bounded_and_falling(check, slope, largest, z)


@sigmoidal_units_saturate.plot(
    "Sigmoidal units saturate: their slopes fall as exp(-|z|) and 4 exp(-2|z|)"
)
def _(check: Check) -> list[Panel]:
    z = np.linspace(-45, 45, 901).astype(check.fmt.carrier)
    near = abs(z) <= 5
    ones = np.ones_like(z)
    values, slopes = {}, {}
    for unit in ("sigmoid", "tanh"):

        def program(f: Any, z: Any, unit: str = unit) -> Any:
            return getattr(f, unit)(z)

        values[unit] = check.backend.value(program, [z], check.fmt.name)
        slopes[unit] = check.backend.vjp(program, [z], ones, check.fmt.name, wrt=[0])[0]
    exact = {"sigmoid": sigmoid_slope, "tanh": tanh_slope}
    return [
        Panel(
            "values", "z", "unit",
            [Curve(unit, z[near], y[near]) for unit, y in values.items()],
        ),
        Panel(
            "slopes, and the exact ones", "z", "derivative",
            [
                *(Curve(f"{unit}'", z, y) for unit, y in slopes.items()),
                *(Curve("", z, proofs.balls(f, z).values.astype(float), "exact") for f in exact.values()),
            ],
            log="y",
        ),
    ]  # fmt: skip


@sigmoidal_units_saturate.bug("sigmoid", "σ' = y(1 - y), which cancels where y is near 1")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.sigmoid, vjp=lambda y_bar, y, _z: (y_bar * y * (1 - y),))(z)


@sigmoidal_units_saturate.bug("tanh", "tanh' = 1 - y²")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.tanh, vjp=lambda y_bar, y, _z: (y_bar * (1 - y * y),))(z)


@sigmoidal_units_saturate.bug("sigmoid", "a slope of at least 1e-7 keeps it from saturating")
def _(f: Any, z: Any) -> Any:
    def vjp(y_bar: Any, y: Any, z: Any) -> tuple[Any]:
        return (y_bar * np.maximum(y * f.sigmoid(-z), 1e-7),)

    return f.custom_rule(f.sigmoid, vjp=vjp)(z)


def two_layers(f: Any, x: Any, V: Any, U: Any, w: Any) -> Any:
    """Give the network wᵀ tanh(Uᵀ tanh(Vᵀ x))."""
    return f.tanh(f.tanh(x @ V) @ U) @ w


@claim(
    "6.3",
    "tanh resembles the identity, tanh z = z + O(z³), where σ(0) = ½: a network of small activations "
    "wᵀ tanh(Uᵀ tanh(Vᵀx)) is the linear model wᵀUᵀVᵀx up to cubic terms.",
    functions=["sigmoid", "tanh"],
    examples=10,
    z=points(),
    x=rows(2, low=-0.25, high=0.25),
    V=array(2, 3, low=-1, high=1),
    U=array(3, 3, low=-1, high=1),
    w=array(3, low=-1, high=1),
)
def tanh_resembles_identity(check: Check, z: Array, x: Array, V: Array, U: Array, w: Array) -> None:
    origin = np.zeros(1, check.fmt.carrier)
    check.equal(check.value("tanh", origin), 0, "tanh(0)")
    check.equal(check.gradient("tanh", origin), 1, "tanh'(0)")
    check.equal(check.value("sigmoid", origin), 0.5, "σ(0)")
    check.value("tanh", z)
    check.value(two_layers, x[:4], V, U, w)

    def cubic(f: Any, z: Any) -> Any:
        return abs(z) ** 3 / 3 - abs(f.tanh(z) - z)

    def carried(f: Any, x: Any, V: Any, U: Any, w: Any) -> Any:
        """Bound the cubic terms of both layers, carried to the output, less the true difference."""
        first = abs(x) @ abs(V)
        second = first @ abs(U)
        bound = (first**3 / 3 @ abs(U) + second**3 / 3) @ abs(w)
        return bound - abs(two_layers(f, x, V, U, w) - x @ V @ U @ w)

    proofs.positive(check, cubic, z, or_zero=True, where="|z|³/3 - |tanh z - z|")
    proofs.positive(check, carried, x, V, U, w, or_zero=True, where="bound of the cubic terms")


@tanh_resembles_identity.bug("tanh", "σ in place of tanh")
def _(f: Any, z: Any) -> Any:
    return f.sigmoid(z)


@tanh_resembles_identity.bug("tanh", "softsign, which has a quadratic term")
def _(f: Any, z: Any) -> Any:
    return z / (1 + f.absolute(z))


@claim(
    "6.3",
    "Gradients vanish through stacks of sigmoid layers: through L of them they shrink to (¼)^L Π‖W‖ "
    "at least, which is reached at z = 0; through ReLUs they need not shrink at all.",
    functions=["affine", "relu", "sigmoid"],
    depth=integers(1, 8),
    W=array(3, 3),
    x=array(1, 3),
)
def sigmoid_stack_vanishes(check: Check, depth: int, W: Array, x: Array) -> None:
    kind, u = check.fmt.carrier, check.fmt.unit_roundoff

    def stack(unit: str) -> Any:
        def layers(f: Any, x: Any, W: Any, b: Any) -> Any:
            for _ in range(depth):
                x = getattr(f, unit)(f.affine(x, W, b))
            return x

        return layers

    def norm(a: Array) -> float:
        return math.hypot(*a.ravel().tolist())

    def slope(unit: str, x: Array, W: Array, b: Array) -> Array:
        given, v = [x, W, b], np.ones(x.shape, kind)
        return check.backend.vjp(stack(unit), given, v, check.fmt.name, wrt=[0])[0]

    # Frobenius norms bound sums of sizes too, hence the computed gradient but for its roundings: 6
    # of σ', 5 of a product and its sum, per layer, and those of these norms; and underflows.
    size, tiny = norm(W) / 4, 2.0**check.fmt.smallest_exponent
    bound = (
        size**depth * math.sqrt(3) * (1 + 16 * u) ** (depth + 1) + 32 * tiny * (1 + size) ** depth
    )
    shrunk = norm(slope("sigmoid", x, W, np.zeros(3, kind)))
    check.that(shrunk <= bound, f"gradient through {depth} sigmoid layers", shrunk, bound)

    one, twice = np.ones((1, 1), kind), np.full((1, 1), 2, kind)
    # x = ½, W = 2, b = -1: every z is 0 and every y is ½.
    through = slope("sigmoid", one / 2, twice, -one[0])
    check.equal(through, 0.5**depth, f"(2/4)^{depth}, reached at z = 0")
    check.equal(slope("relu", one, twice, 0 * one[0]), 2.0**depth, f"2^{depth} through ReLUs")
    if depth <= 3:
        check.gradient(stack("sigmoid"), x, W, np.zeros(3, kind))


@sigmoid_stack_vanishes.bug("sigmoid", "σ' = y, which does not vanish")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.sigmoid, vjp=lambda y_bar, y, _z: (y_bar * y,))(z)


@sigmoid_stack_vanishes.bug("affine", "backward with W where Wᵀ belongs")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    def vjp(y_bar: Any, _y: Any, x: Any, W: Any, _b: Any) -> tuple[Any, Any, Any]:
        return y_bar @ W, np.swapaxes(x, 0, 1) @ y_bar, np.sum(y_bar, axis=0)

    return f.custom_rule(f.affine, vjp=vjp)(x, W, b)
