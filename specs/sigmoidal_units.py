"""Section 6.3, second part: the logistic sigmoid and the hyperbolic tangent as hidden units."""

from __future__ import annotations

from typing import Any

from ffverify import proofs
from ffverify.check import Check
from ffverify.claims import claim
from ffverify.formats import Array
from ffverify.inputs import points


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
