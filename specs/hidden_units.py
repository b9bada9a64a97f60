"""Section 6.3, third part: linear hidden units, the softmax switch, and other hidden units."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, points, rows, with_tails
from ffverify.conformance.pictures import Curve, Panel, or_gap
from ffverify.exact.formats import Array
from ffverify.truth import textbook


def factored(f: Any, x: Any, U: Any, V: Any, b: Any) -> Any:
    """Give the layer Vᵀ(Uᵀx) + b, by way of linear hidden units without a bias."""
    return f.affine(f.identity(x @ U), V, b)


@claim(
    "6.3",
    "A linear hidden layer of q units makes one linear layer of n inputs and p outputs of rank q at "
    "most, with (n + p)q weights instead of np.",
    functions=["affine", "identity"],
    x=array(2, 4),
    U=array(4, 2),
    V=array(2, 5),
    b=array(5),
)
def identity_units_factor_the_layer(check: Check, x: Array, U: Array, V: Array, b: Array) -> None:
    (n, q), p = U.shape, V.shape[1]
    check.value(factored, x, U, V, b)
    proofs.equal(check, factored, lambda f, x, U, V, b: f.affine(x, U @ V, b), x, U, V, b)
    given = [x, U, V, b]
    unit = check.backend.vjp(
        factored, given, np.ones((2, p), x.dtype), check.fmt.name, wrt=range(1, 4)
    )
    weights = sum(g.size for g in unit) - p
    check.that(
        weights == (n + p) * q < n * p, "weights", weights, f"{(n + p) * q}, fewer than {n * p}"
    )
    one = np.ones((1, p), x.dtype)
    jacobian = np.vstack([
        check.backend.vjp(factored, [x[:1], U, V, b], one * row, check.fmt.name, wrt=[0])[0]
        for row in np.eye(p, dtype=x.dtype)
    ])  # fmt: skip
    # J = (UV)ᵀ has rank q; computed entries are off by q + 1 roundings of |U||V|, hence so are its
    # singular values (Weyl), in the Frobenius norm; and those of zeros by underflow.
    size = float(np.linalg.norm(np.abs(U).astype(float) @ np.abs(V).astype(float)))
    noise = (q + 2) * check.fmt.unit_roundoff * size + 2.0 ** (check.fmt.smallest_exponent + 4)
    values = np.linalg.svd(jacobian.astype(float), compute_uv=False)
    # The decomposition itself is done in float64, and good to some 50 of its roundings.
    beyond = values[q:] <= noise + 50 * 2.0**-53 * values[0]
    check.that(bool(np.all(beyond)), f"singular values after the first {q}", values[q:], "0")


@identity_units_factor_the_layer.bug("identity", "a unit that is not linear")
def _(f: Any, z: Any) -> Any:
    return f.hard_tanh(z)


@identity_units_factor_the_layer.bug("affine", "a bias for every factor of a weight")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.affine(x, W, len(W) * b)


def switch(f: Any, z: Any, items: Any, none: Any) -> Any:
    """Give Σ_i softmax(z)_i item_i."""
    return f.affine(f.softmax(z), items, none)


@claim(
    "6.3",
    "Softmax as a switch: it mixes items in proportions that add up to 1, so the mixture lies between "
    "them; saturated, it takes one of them as it is.",
    functions=["affine", "softmax"],
    z=rows(4),
    items=array(4, 3),
)
def softmax_as_switch(check: Check, z: Array, items: Array) -> None:
    none = np.zeros(3, items.dtype)
    mixture = check.value(switch, z[:6], items, none)
    # k products of weights good to 2k + 16 roundings, relative: of the largest item in all.
    slack = 40 * check.fmt.unit_roundoff * float(np.max(np.abs(items)))
    low, high = items.min(axis=0).astype(float) - slack, items.max(axis=0).astype(float) + slack
    inside = bool(np.all((low <= mixture) & (mixture <= high)))
    check.that(inside, "a mixture of items", mixture, f"between {low} and {high}")

    for chosen in range(4):
        gate = np.where(np.arange(4) == chosen, 0, -3e4)[None].astype(items.dtype)
        taken = check.value(switch, gate, items, none)[0]
        check.equal(taken, items[chosen], f"the mixture when only item {chosen} is switched on")


@softmax_as_switch.bug("softmax", "unnormalised gate")
def _(f: Any, z: Any) -> Any:
    return f.exp(z - np.max(z, axis=-1, keepdims=True))


@softmax_as_switch.bug("softmax", "a gate of sigmoids, each for itself")
def _(f: Any, z: Any) -> Any:
    return f.sigmoid(z)


@softmax_as_switch.bug("softmax", "smoothed: a little of every item always")
def _(f: Any, z: Any) -> Any:
    return 0.999 * f.softmax(z) + 0.00025


@claim(
    "6.3",
    "RBF units are 0 away from their template; softplus is a smooth ReLU with ζ' = σ and "
    "ζ(z) - ζ(-z) = z, at most log 2 above it; hard tanh is bounded and piecewise linear.",
    functions=["hard_tanh", "rbf", "softplus"],
    each="unit",
    examples=10,
    z=points(edges=[-1.0, 1.0]),
    x=rows(2, low=-4, high=4),
    W=array(3, 2),
    sigma=array(1, low=0.5, high=2),
)
def other_hidden_units(check: Check, unit: str, z: Array, x: Array, W: Array, sigma: Array) -> None:
    if unit == "softplus":
        _smooth_rectifier(check, z)
    elif unit == "hard_tanh":
        clipped = check.value("hard_tanh", z)
        check.equal(clipped, np.clip(z, -1, 1), "hard tanh: -1, z or 1")
        check.gradient("hard_tanh", z)
    else:
        _local_unit(check, x, W, np.array(sigma[0]))


def _smooth_rectifier(check: Check, z: Array) -> None:
    check.value("softplus", with_tails(z, check.fmt))
    check.gradient("softplus", with_tails(z, check.fmt))
    proofs.equal(check, lambda f, z: f.softplus(z) - f.softplus(-z), lambda _f, z: 1 * z, z)
    above = {
        "ζ(z) - max(0, z)": lambda f, z: f.softplus(z) - f.relu(z),
        "log 2 + max(0, z) - ζ(z)": lambda f, z: f.log(0 * z + 2) + f.relu(z) - f.softplus(z),
    }
    for where, difference in above.items():
        proofs.positive(check, difference, z, or_zero=True, where=where)


def _local_unit(check: Check, x: Array, W: Array, width: Array) -> None:
    check.value("rbf", x[:6], W, width)
    check.gradient("rbf", x[:3], W, width)
    far = np.full((1, 2), 1000, x.dtype)
    check.equal(check.value("rbf", far, W, width), 0, "rbf far from its templates")
    check.equal(check.gradient("rbf", far, W, width), 0, "rbf' far from its templates")
    check.equal(np.diagonal(check.value("rbf", W, W, width)), 1, "rbf on its templates")


@other_hidden_units.bug("softplus", "z itself above a threshold")
def _(f: Any, z: Any) -> Any:
    return np.where(z > 8, z, f.softplus(np.where(z > 8, 0.0, z)))


@other_hidden_units.bug("softplus", "log(1 + e^z) as written")
def _(f: Any, z: Any) -> Any:
    return f.log(1 + f.exp(z))


@other_hidden_units.bug("rbf", "σ instead of σ²")
def _(f: Any, x: Any, W: Any, sigma: Any) -> Any:
    return f.rbf(x, W, f.sqrt(sigma))


@other_hidden_units.bug("hard_tanh", "clipped to [0, 1]")
def _(f: Any, z: Any) -> Any:
    return f.clipped_linear(z)


MODERN = [
    "elu", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish", "log_sigmoid", "mish", "relu6", "selu",
    "silu", "softsign", "tanhshrink",
]  # fmt: skip


def _second(unit: str) -> Any:
    """Give the program of a unit's second derivative."""

    def second(f: Any, z: Any) -> Any:
        return f.second_derivative(getattr(f, unit), z)

    second.__name__ = f"{unit}''"
    return second


@claim(
    "6.3",
    "Later units (ELU, SELU, GELU in both forms, SiLU, Mish, hard sigmoid, hard swish, ReLU6, "
    "softsign, log-sigmoid, tanhshrink): value, first and second derivative, out into both tails.",
    functions=MODERN,
    each="unit",
    examples=4,
    z=points(edges=[-3.0, 3.0, 6.0]),
)
def modern_units(check: Check, unit: str, z: Array) -> None:
    z = with_tails(z, check.fmt)
    check.value(unit, z)
    check.gradient(unit, z)
    smooth = z[~np.isin(z, textbook.CATALOGUE[unit].kinks)]
    check.value(_second(unit), smooth, core=(0,))


@modern_units.plot("Hidden units: value, derivative, second derivative")
def _(check: Check) -> list[Panel]:
    z = np.linspace(-7, 7, 281).astype(check.fmt.carrier)
    ones, name = np.ones_like(z), check.fmt.name

    def curves(unit: str) -> list[Curve]:
        def program(f: Any, z: Any) -> Any:
            return getattr(f, unit)(z)

        return [
            Curve("g", z, check.backend.value(program, [z], name)),
            Curve("g'", z, check.backend.vjp(program, [z], ones, name, wrt=[0])[0]),
            Curve("g''", z, or_gap(z, lambda: check.backend.value(_second(unit), [z], name))),
        ]

    return [Panel(unit, "z", "", curves(unit)) for unit in MODERN]


@modern_units.bug("gelu", "1 + erf, which cancels in the left tail")
def _(f: Any, z: Any) -> Any:
    return 0.5 * z * (1 + f.erf(z * np.sqrt(0.5)))


@modern_units.bug("gelu", "the tanh form where the exact one is meant")
def _(f: Any, z: Any) -> Any:
    return f.gelu_tanh(z)


@modern_units.bug("silu", "derivative σ(z): the product rule's other half is missing")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.silu, vjp=lambda y_bar, _y, z: (y_bar * f.sigmoid(z),))(z)


@modern_units.bug("mish", "right value and derivative, second derivative 0")
def _(f: Any, z: Any) -> Any:
    def slope(z: Any) -> Any:
        return f.grad(lambda z: np.sum(f.mish(z)))(z)

    constant = f.custom_rule(slope, vjp=lambda *_: (None,))
    return f.custom_rule(f.mish, vjp=lambda y_bar, _y, z: (y_bar * constant(z),))(z)


@modern_units.bug("elu", "e^z - 1 where expm1 is needed")
def _(f: Any, z: Any) -> Any:
    return np.where(z > 0, z, f.exp(np.where(z > 0, 0.0, z)) - 1)


@modern_units.bug("hard_sigmoid", "slope 1/5 and kinks at ± 2.5")
def _(f: Any, z: Any) -> Any:
    return f.clipped_linear(0.2 * z + 0.5)
