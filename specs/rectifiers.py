"""Section 6.3, first part: kinks, and the rectified linear unit with its generalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify import textbook
from ffverify.check import Check
from ffverify.claims import claim
from ffverify.formats import Array
from ffverify.inputs import array, points, rows
from ffverify.precise import BALLS

UNITS_WITH_KINKS = [
    "relu", "absolute", "leaky_relu", "prelu", "clipped_linear", "hard_tanh", "hard_sigmoid",
    "hard_swish", "relu6", "elu", "selu", "softsign",
]  # fmt: skip
SLOPES = np.array([-1.0, 0.0625, 2.0])  # of the parametric unit
EDGES = [-3.0, -1.0, 1.0, 3.0, 6.0]


def difference_quotient(unit: str, kink: float, h: float) -> Any:
    """Give (g(kink + h) - g(kink)) / h for one unit, in balls."""
    definition = textbook.CATALOGUE[unit]
    here = BALLS.array(np.full(SLOPES.shape, kink))
    slopes = (BALLS.array(SLOPES),) if unit == "prelu" else ()
    change = definition.function(here + h, *slopes) - definition.function(here, *slopes)
    return change / h


@claim(
    "6.3",
    "Hidden units lack a derivative at few points only, and have left and right derivatives there; "
    "the one reported lies between these, and random inputs do not meet such points.",
    functions=UNITS_WITH_KINKS,
)
def kinks_have_one_sided_derivatives(check: Check) -> None:
    draws = np.random.default_rng(6).standard_normal(10**6)
    for unit in UNITS_WITH_KINKS:
        for kink in textbook.CATALOGUE[unit].kinks:
            for h in (2.0**-50, -(2.0**-50)):
                # On either side |g''| ≤ 4, so a quotient is within 2h of its limit.
                with BALLS.precision(400):
                    coarse, fine = (difference_quotient(unit, kink, s) for s in (h, h * abs(h)))
                    exists = bool(np.all(abs(coarse - fine) < BALLS.array(4 * abs(h))))
                where = f"difference quotients of {unit} at {kink} from one side"
                check.that(exists, where, f"{coarse.values}, {fine.values}", "one limit")
            at = np.full(SLOPES.shape, kink, dtype=check.fmt.carrier)
            check.gradient(unit, at, *([SLOPES.astype(at.dtype)] if unit == "prelu" else []))
            # The chance of a hit is below 10⁶ · 0.4 · ulp(6) < 4e-10.
            hits = int(np.sum(draws == kink))
            check.that(hits == 0, f"random inputs on the kink of {unit} at {kink}", hits, 0)


@kinks_have_one_sided_derivatives.bug("relu", "derivative 2 at 0")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.relu, vjp=lambda y_bar, _y, z: (y_bar * np.where(z > 0, 1.0, 2.0 * (z == 0)),)
    )(z)


@kinks_have_one_sided_derivatives.bug("hard_tanh", "derivative 0 + 1 + 1 at the ends: both pieces")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.hard_tanh,
        vjp=lambda y_bar, _y, z: (y_bar * ((abs(z) <= 1) * 1.0 + (abs(z) == 1) * 1.0),),
    )(z)


@claim(
    "6.3",
    "max(0, z) + α min(0, z): α = -1 is |z|, 0.01 the leaky unit; a learned α has the gradient "
    "min(0, z), summed over everything that shares it.",
    functions=["absolute", "leaky_relu", "prelu", "relu"],
    z=points(),
    images=rows(3, low=-8, high=8),
    alpha=array(3),
)
def generalised_rectifiers(check: Check, z: Array, images: Array, alpha: Array) -> None:
    minus_one, zero = np.full_like(z, -1), np.zeros_like(z)
    absolute, rectified = check.value("absolute", z), check.value("relu", z)
    check.equal(check.value("prelu", z, minus_one), absolute, "prelu with α = -1, which is |z|")
    check.equal(check.value("prelu", z, zero), rectified, "prelu with α = 0, which is relu")
    check.gradient("absolute", z)
    check.value("leaky_relu", z)
    check.gradient("leaky_relu", z)
    check.value("leaky_relu", z, slope=0.25)

    def per_channel(f: Any, images: Any, alpha: Any) -> Any:
        return f.prelu(images, alpha)

    def shared(f: Any, images: Any, alpha: Any) -> Any:
        return f.prelu(images, alpha[0])

    check.gradient(per_channel, images, alpha, core=(0, 0))
    check.gradient(per_channel, images[:4], alpha, wrt=1)
    check.gradient(shared, images[:4], alpha, wrt=1)


def _broadcast(z: Any, alpha: Any) -> tuple[Any, Any]:
    """Give both the same shape, in a way that is differentiated."""
    return z + 0 * alpha, alpha + 0 * z


@generalised_rectifiers.bug("prelu", "branch from the output's sign, wrong where α < 0")
def _(f: Any, z: Any, alpha: Any) -> Any:
    def vjp(y_bar: Any, y: Any, z: Any, alpha: Any) -> tuple[Any, Any]:
        return y_bar * np.where(y > 0, 1.0, alpha), y_bar * np.where(y > 0, 0.0, z)

    return f.custom_rule(f.prelu, vjp=vjp)(*_broadcast(z, alpha))


@generalised_rectifiers.bug("prelu", "gradient of α from the positive side")
def _(f: Any, z: Any, alpha: Any) -> Any:
    def vjp(y_bar: Any, _y: Any, z: Any, alpha: Any) -> tuple[Any, Any]:
        return y_bar * np.where(z > 0, 1.0, alpha), y_bar * np.where(z > 0, z, 0.0)

    return f.custom_rule(f.prelu, vjp=vjp)(*_broadcast(z, alpha))


@generalised_rectifiers.bug("leaky_relu", "the default slope whatever is asked for")
def _(f: Any, z: Any, slope: float = 0.01) -> Any:  # noqa: ARG001 - the bug
    return f.leaky_relu(z)
