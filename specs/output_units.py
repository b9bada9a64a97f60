"""Sections 6.2.2.1 and 6.2.2.2: linear units for Gaussian, sigmoid units for Bernoulli outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import labels, points, with_tails
from ffverify.exact.formats import Array, Format
from ffverify.strategies import arrays
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS


def _bernoulli_nll(f: Any, z: Any, y: Any) -> Any:
    return f.bernoulli_nll(z, y)


def _squarable(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
    """Draw pairs of numbers whose squared differences do not overflow."""
    size = float(fmt.largest) ** 0.5 / 8
    return arrays(fmt.name, (batch, 2), min_value=-size, max_value=size)


@claim(
    "6.2.2.1",
    "For a linear unit -log N(y; ŷ, I) = ½‖y - ŷ‖² + (n/2) log 2π: its slope is that of the squared "
    "error, ŷ - y, and never saturates.",
    functions=["gaussian_nll"],
    examples=8,
    mean=_squarable,
    y=_squarable,
)
def gaussian_nll_is_mse(check: Check, mean: Array, y: Array) -> None:
    check.value("gaussian_nll", mean, y)
    check.gradient("gaussian_nll", mean, y)

    def density(_f: Any, mean: Any, y: Any) -> Any:
        pi = 4 * np.arctan(1 + 0 * mean)
        return (np.exp(-((y - mean) ** 2) / 2) / np.sqrt(2 * pi)).prod(axis=-1)

    near = mean / np.maximum(1, np.abs(mean)), y / np.maximum(1, np.abs(y))
    proofs.equal(check, lambda f, m, y: np.exp(-f.gaussian_nll(m, y)), density, *near)
    slope = proofs.slopes(check, lambda f, m, y: f.gaussian_nll(m, y), mean, y, core=(1, 1))
    residual = proofs.balls(lambda _f, m, y: m - y, mean, y).values
    proofs.agree(check, slope, residual, "slope")


@gaussian_nll_is_mse.bug("gaussian_nll", "missing ½")
def _(f: Any, mean: Any, y: Any) -> Any:
    return 2 * f.gaussian_nll(mean, y) - mean.shape[-1] * np.log(2 * np.pi) / 2


@gaussian_nll_is_mse.bug("gaussian_nll", "residual clipped to ±100: a slope that saturates")
def _(f: Any, mean: Any, y: Any) -> Any:
    return f.gaussian_nll(np.clip(mean - y, -100, 100), np.zeros_like(y))


@claim(
    "6.2.2.2",
    "Exponentiating yz and normalising over y = 0, 1 gives the Bernoulli distribution "
    "P(y) = σ((2y-1)z), whose two probabilities sum to 1.",
    functions=["sigmoid", "bernoulli_nll", "exp"],
    z=points(),
    y=labels(2),
)
def bernoulli_normalisation(check: Check, z: Array, y: Array) -> None:
    def probability(f: Any, z: Any, y: Any) -> Any:
        return f.exp(-f.bernoulli_nll(z, y))

    # A probability is a share of 1: accuracy is absolute.
    check.value(probability, z, y, core=(0, 0), scale=1.0)
    check.value("sigmoid", (2 * y - 1).astype(z.dtype) * z, scale=1.0)
    moderate = np.clip(z, -1000, 1000)
    normalised = lambda _f, z, y: np.exp(y * z) / (1 + np.exp(z))  # noqa: E731 - a formula
    proofs.equal(check, normalised, lambda f, z, y: f.sigmoid((2 * y - 1) * z), moderate, y)
    proofs.equal(check, normalised, probability, moderate, y)
    both = lambda f, z: f.sigmoid(z) + f.sigmoid(-z)  # noqa: E731 - a formula
    proofs.equal(check, both, lambda _f, z: 1 + 0 * z, z)
    total = check.backend.value(both, [z], check.fmt.name).astype(np.float64)
    # Each probability is good to a few u (LIBRARY_ROUNDINGS of them), their sum is rounded once.
    slack = (LIBRARY_ROUNDINGS + 1) * check.fmt.unit_roundoff
    check.that(bool(np.all(np.abs(total - 1) <= slack)), "P(0) + P(1)", total, f"1 ± {slack}")


@bernoulli_normalisation.bug("bernoulli_nll", "σ(yz)")
def _(f: Any, z: Any, y: Array) -> Any:
    return f.softplus(-y * z)


@bernoulli_normalisation.bug("sigmoid", "not normalised: e^z up to 1")
def _(_f: Any, z: Any) -> Any:
    return np.exp(np.minimum(z, 0))


@claim(
    "6.2.2.2",
    "z is the log-odds, log P(y = 1) - log P(y = 0), in natural logarithms; and the logit of σ(z) is "
    "z again, as closely as the rounding of σ(z) lets it.",
    functions=["log_sigmoid", "sigmoid"],
    z=points(),
)
def logit_is_log_odds(check: Check, z: Array) -> None:
    def log_odds(f: Any, z: Any) -> Any:
        return f.log_sigmoid(z) - f.log_sigmoid(-z)

    check.value(log_odds, z, core=(0,), scale=1.0)  # a difference of numbers near log ½
    check.gradient(log_odds, z, core=(0,))
    proofs.equal(check, log_odds, lambda _f, z: z, np.clip(z, -1000, 1000))
    # Where σ(z) keeps half of its digits below 1: p(1 + δ) has the logit z + δ/(1 - p), and a
    # library's σ has |δ| of a few u (LIBRARY_ROUNDINGS of them).
    inside = z[np.abs(z) <= check.fmt.precision * np.log(2) / 2]
    p = check.backend.value(lambda f, z: f.sigmoid(z), [inside], check.fmt.name)
    distance = proofs.balls(lambda _f, p, z: abs(np.log(p) - np.log(1 - p) - z), p, inside).values
    allowed = LIBRARY_ROUNDINGS * check.fmt.unit_roundoff / (1 - p.astype(np.float64))
    check.that(bool(np.all(distance <= allowed)), "|logit(σ(z)) - z|", distance, allowed)


@logit_is_log_odds.bug("log_sigmoid", "log base 2")
def _(f: Any, z: Any) -> Any:
    return f.log_sigmoid(z) / np.log(2)


@logit_is_log_odds.bug("sigmoid", "hard sigmoid")
def _(f: Any, z: Any) -> Any:
    return f.hard_sigmoid(z)


@claim(
    "6.2.2.2",
    "The clipped linear unit max(0, min(1, z)) goes dead: outside [0, 1] its slope is exactly 0.",
    functions=["clipped_linear"],
    z=points(edges=(0, 1)),
)
def clipped_linear_unit_goes_dead(check: Check, z: Array) -> None:
    check.value("clipped_linear", z)
    slope = check.gradient("clipped_linear", z)
    check.equal(slope[(z < 0) | (z > 1)], 0, "slope outside [0, 1]")
    check.equal(slope[(z > 0) & (z < 1)], 1, "slope inside (0, 1)")


@clipped_linear_unit_goes_dead.bug("clipped_linear", "straight-through gradient")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.clipped_linear, vjp=lambda y_bar, _y, _z: (y_bar,))(z)


@clipped_linear_unit_goes_dead.bug("clipped_linear", "a leak of 0.01 outside")
def _(f: Any, z: Any) -> Any:
    return f.clipped_linear(z) + 0.01 * (z - f.clipped_linear(z))


@claim(
    "6.2.2.2",
    "-log σ((2y-1)z) = ζ((1-2y)z) for every z, without overflow and with full relative accuracy.",
    functions=["bernoulli_nll"],
    z=points(),
    y=labels(2),
)
def bernoulli_nll_is_softplus(check: Check, z: Array, y: Array) -> None:
    right = with_tails(z[:0], check.fmt)  # answers that are right, where small losses are lost
    some_z, some_y = np.concatenate([z, right]), np.concatenate([y, right > 0])
    check.value("bernoulli_nll", some_z, some_y)
    check.gradient("bernoulli_nll", some_z, some_y)
    proofs.equal(
        check,
        lambda f, z, y: -np.log(f.sigmoid((2 * y - 1) * z)),
        lambda f, z, y: f.softplus((1 - 2 * y) * z),
        np.clip(z, -1000, 1000),  # beyond, 1 - σ takes more bits to write down than are worth it
        y,
    )


@bernoulli_nll_is_softplus.bug("bernoulli_nll", "log(sigmoid(.)) composed naively")
def _(_f: Any, z: Any, y: Array) -> Any:
    return -np.log(1 / (1 + np.exp(-(2 * y - 1) * z)))


@bernoulli_nll_is_softplus.bug("bernoulli_nll", "softplus replaced by its argument above 5")
def _(f: Any, z: Any, y: Array) -> Any:
    t = (1 - 2 * y) * z
    return np.where(t > 5, t, f.softplus(t))


@claim(
    "6.2.2.2",
    "The loss ζ((1-2y)z) saturates only where the answer is right, as e^-|z|. Where it is wrong "
    "its slope is at least ½, grows with the error towards sign(z), and 0 ≤ J - |z| ≤ log 2.",
    functions=["bernoulli_nll"],
    z=points(),
    y=labels(2),
)
def softplus_loss_saturates_only_when_right(check: Check, z: Array, y: Array) -> None:
    wrong = (2 * y - 1) * z <= 0
    if wrong.any():
        check.value("bernoulli_nll", z[wrong], y[wrong])
    # Where right, a slope that has vanished to within the roundoff of 1 has vanished.
    slope = check.gradient("bernoulli_nll", z, y, scale=1.0)
    check.that(bool(np.all(slope * (1 - 2 * y) >= 0)), "slope", slope, "of the sign of 1 - 2y")

    exact = proofs.slopes(check, _bernoulli_nll, z, y, core=(0, 0))
    steepness = abs(exact[wrong])[np.argsort(np.abs(z[wrong]), kind="stable")]
    check.that(not np.any(steepness < 0.5), "|slope| where wrong", steepness, "≥ ½")
    check.that(
        not np.any(steepness[1:] < steepness[:-1]), "|slope| as z gets worse", steepness, "growing"
    )
    error = z[wrong], y[wrong]
    proofs.positive(check, lambda f, z, y: f.bernoulli_nll(z, y) - abs(z), *error, or_zero=True)
    proofs.positive(
        check,
        lambda f, z, y: np.log(2 + 0 * z) + abs(z) - f.bernoulli_nll(z, y),
        *error,
        or_zero=True,
    )
    tail = proofs.balls(lambda _f, z: np.exp(-abs(z)), z[~wrong]).values
    steepness = abs(exact[~wrong])
    check.that(
        not np.any((steepness > tail) | (2 * steepness < tail)),
        "|slope| where right",
        steepness,
        "e^-|z|/2 to e^-|z|",
    )


@softplus_loss_saturates_only_when_right.bug(
    "bernoulli_nll", "cross-entropy of clipped probabilities"
)
def _(f: Any, z: Any, y: Array) -> Any:
    p = np.clip(f.sigmoid(z), 1e-7, 1 - 1e-7)
    return -np.where(y == 1, np.log(p), np.log(1 - p))


@softplus_loss_saturates_only_when_right.bug("bernoulli_nll", "squared error of the probability")
def _(f: Any, z: Any, y: Array) -> Any:
    return (f.sigmoid(z) - y) ** 2


@claim(
    "6.2.2.2",
    "The squared error of σ(z) saturates both ways: its slope vanishes as z goes to ±∞, whether the "
    "answer is right or wrong.",
    functions=["sigmoid", "squared_error"],
    z=points(),
    y=labels(2),
)
def mse_on_sigmoid_saturates_both_ways(check: Check, z: Array, y: Array) -> None:
    def cost(f: Any, z: Any, y: Any) -> Any:
        return f.squared_error(f.sigmoid(z), y)

    target = y.astype(z.dtype)
    check.value(cost, z, target, core=(0, 0), scale=1.0)
    check.gradient(cost, z, target, core=(0, 0), scale=1.0)  # vanished beside 1 is vanished
    right = (2 * y - 1) * z > 0
    steepness = abs(proofs.slopes(check, cost, z, target, core=(0, 0)))
    # |2(σ(z) - y)σ'(z)| is at most 2e^-2|z| where right, and where wrong from e^-|z|/4 to 2e^-|z|.
    tail = proofs.balls(lambda _f, z: np.exp(-abs(z)), z).values
    beyond = np.where(right, steepness > 2 * tail * tail, steepness > 2 * tail)
    check.that(not np.any(beyond), "|slope|", steepness, "vanishing")
    slow = (4 * steepness < tail) & ~right
    check.that(not np.any(slow), "|slope| where wrong", steepness, "≥ e^-|z|/4")


@mse_on_sigmoid_saturates_both_ways.bug("sigmoid", "gradient without the σ' factor")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.sigmoid, vjp=lambda y_bar, _y, _z: (y_bar,))(z)


@mse_on_sigmoid_saturates_both_ways.bug("squared_error", "absolute error")
def _(f: Any, prediction: Any, y: Any) -> Any:
    return f.absolute_error(prediction, y)
