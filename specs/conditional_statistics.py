"""Section 6.2.1.2: what a cost's minimiser predicts, and which costs let a saturated unit learn."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, labels, points
from ffverify.conformance.pictures import Curve, Panel
from ffverify.exact.formats import Array, Format
from ffverify.truth import textbook


def _joint(fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
    """Draw counts k[x, y] of three x and four y."""
    return st.lists(st.integers(1, 4), min_size=12, max_size=12).map(
        lambda k: np.array(k, fmt.carrier).reshape(3, 4)
    )


def _answers(fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
    """Draw the four y, whole numbers in ascending order."""
    return st.permutations(range(-8, 9)).map(lambda p: np.array(sorted(p[:4]), fmt.carrier))


def _table_cost(name: str) -> Any:
    """Make the cost Σ k[x, y] error(t[x], y) of a table t[x] of predictions."""

    def cost(f: Any, t: Any, k: Any, y: Any) -> Any:
        return (k * getattr(f, name)(t + 0 * k, y + 0 * k)).sum()

    return cost


def _exactly(a: Array) -> Array:
    fractions: Array = np.vectorize(Fraction, otypes=[object])(a.astype(float))
    return fractions


@claim(
    "6.2.1.2",
    "What minimises the expected squared error is the conditional mean E[y given x]: the slope is "
    "zero there and every change raises the cost.",
    functions=["squared_error"],
    k=_joint,
    y=_answers,
    change=array(3, 1),
)
def mse_minimiser_is_conditional_mean(check: Check, k: Array, y: Array, change: Array) -> None:
    cost = _table_cost("squared_error")
    counts, values, delta = _exactly(k), _exactly(y), _exactly(change)
    mean = ((counts * values).sum(axis=1) / counts.sum(axis=1))[:, None]
    least = cost(textbook.namespace, mean, counts, values)
    moved = cost(textbook.namespace, mean + delta, counts, values)
    check.that(moved > least or not delta.any(), "cost beside the mean", moved, f"> {least}")
    one = np.eye(3, dtype=int)[:, :, None]  # of a quadratic, a symmetric difference is the slope
    slope = [
        cost(textbook.namespace, mean + e, counts, values)
        - cost(textbook.namespace, mean - e, counts, values)
        for e in one
    ]
    check.equal(np.array(slope), 0, "slope of the cost at the mean")

    t = mean.astype(k.dtype)
    size = float(np.abs(y).max()) * float(k.sum())  # the natural size of the terms that add up
    check.value(cost, t + change, k, y)
    check.gradient(cost, t + change, k, y, scale=size)
    check.gradient(cost, t, k, y, scale=size)


@mse_minimiser_is_conditional_mean.bug("squared_error", "trimmed mean: errors above 2 count as 2")
def _(_f: Any, prediction: Any, y: Any) -> Any:
    return np.minimum((prediction - y) ** 2, 4.0)


@mse_minimiser_is_conditional_mean.bug("squared_error", "errors upwards count twice")
def _(f: Any, prediction: Any, y: Any) -> Any:
    return f.squared_error(prediction, y) + f.relu(prediction - y) ** 2


@claim(
    "6.2.1.2",
    "What minimises the expected absolute error is a conditional median: 0 is a subgradient there, "
    "no change lowers the cost, and where half of the mass lies on each side a whole interval is "
    "best.",
    functions=["absolute_error"],
    examples=12,
    k=_joint,
    y=_answers,
    change=array(3, 1),
)
def mae_minimiser_is_conditional_median(check: Check, k: Array, y: Array, change: Array) -> None:
    cost = _table_cost("absolute_error")
    counts, values, delta = _exactly(k), _exactly(y), _exactly(change)
    below = np.cumsum(counts, axis=1)
    half = counts.sum(axis=1, keepdims=True) / 2
    first = (below >= half).argmax(axis=1)  # the lower median, and the upper one
    last = (below > half).argmax(axis=1)
    low, high = values[first][:, None], values[last][:, None]
    least = cost(textbook.namespace, low, counts, values)
    check.that(cost(textbook.namespace, high, counts, values) == least, "ties", high, low)
    moved = cost(textbook.namespace, low + delta, counts, values)
    check.that(moved >= least, "cost beside the median", moved, f"≥ {least}")
    left = np.sum(np.where(values < low, counts, -counts), axis=1)  # slopes from left and right
    right = np.sum(np.where(values <= low, counts, -counts), axis=1)
    check.that(bool(np.all((left <= 0) & (right >= 0))), "subgradients", (left, right), "around 0")

    median = low.astype(k.dtype)
    check.value(cost, median + change, k, y)
    check.gradient(cost, median, k, y)
    check.gradient(cost, (median + high.astype(k.dtype)) / 2, k, y)
    check.gradient(cost, median + change, k, y)


@mae_minimiser_is_conditional_median.bug("absolute_error", "lower quartile: upward errors thrice")
def _(f: Any, prediction: Any, y: Any) -> Any:
    return 1.5 * f.relu(prediction - y) + 0.5 * f.relu(y - prediction)


@mae_minimiser_is_conditional_median.bug("absolute_error", "squared error")
def _(f: Any, prediction: Any, y: Any) -> Any:
    return f.squared_error(prediction, y)


def _squared(f: Any, z: Any, y: Any) -> Any:
    return f.squared_error(f.sigmoid(z), y)


def _absolute(f: Any, z: Any, y: Any) -> Any:
    return f.absolute_error(f.sigmoid(z), y)


def _cross_entropy(f: Any, z: Any, y: Any) -> Any:
    return f.bernoulli_nll(z, y)


@claim(
    "6.2.1.2",
    "With a sigmoid output, squared and absolute error stop teaching where the unit saturates at "
    "the wrong answer; cross-entropy does not.",
    functions=["sigmoid", "squared_error", "absolute_error", "bernoulli_nll"],
    examples=12,
    z=points(),
    y=labels(2),
)
def mse_and_mae_saturate_output_units(check: Check, z: Array, y: Array) -> None:
    target = y.astype(z.dtype)
    wrong = (2 * y - 1) * z <= 0
    # Accuracy is absolute: what matters is whether a slope is there beside one of size 1.
    check.gradient(_cross_entropy, z, y, core=(0, 0), scale=1.0)
    steepness = abs(proofs.slopes(check, _cross_entropy, z, y, core=(0, 0))[wrong])
    check.that(not np.any(steepness < 0.5), "|slope| of cross-entropy", steepness, "≥ ½")
    tail = proofs.balls(lambda _f, z: np.exp(-abs(z)), z).values
    for cost, factor in ((_squared, 2), (_absolute, 1)):
        check.gradient(cost, z, target, core=(0, 0), scale=1.0)
        steepness = abs(proofs.slopes(check, cost, z, target, core=(0, 0)))
        check.that(
            not np.any(steepness > factor * tail),
            f"|slope| of the {cost.__name__[1:]} error",
            steepness,
            f"≤ {factor}e^-|z|",
        )


@mse_and_mae_saturate_output_units.plot(
    "A wrong, saturated answer: cross-entropy still has a slope, squared and absolute error have none"
)
def _(check: Check) -> list[Panel]:
    z = np.linspace(-40, 10, 401).astype(check.fmt.carrier)
    ones = np.ones_like(z)
    costs = {"cross-entropy": _cross_entropy, "squared": _squared, "absolute": _absolute}

    def value(cost: Any) -> Array:
        return check.backend.value(cost, [z, ones], check.fmt.name)

    def steepness(cost: Any) -> Array:
        return abs(check.backend.vjp(cost, [z, ones], ones, check.fmt.name, wrt=[0])[0])

    far = z < -2
    return [
        Panel(
            "cost of the right answer 1", "logit z", "cost J",
            [Curve(name, z, value(cost)) for name, cost in costs.items()],
        ),
        Panel(
            "what teaches: the slope", "logit z", "|∂J/∂z|",
            [
                *(Curve(name, z[::-1], steepness(cost)[::-1]) for name, cost in costs.items()),
                Curve("$e^{-|z|}$", z[far][::-1], np.exp(z[far])[::-1], style="exact"),
            ],
            log="y",
        ),
    ]  # fmt: skip


@mse_and_mae_saturate_output_units.bug("bernoulli_nll", "cross-entropy of ε-clipped probabilities")
def _(f: Any, z: Any, y: Array) -> Any:
    p = np.clip(f.sigmoid(z), 1e-7, 1 - 1e-7)
    return -np.where(y == 1, np.log(p), np.log(1 - p))


@mse_and_mae_saturate_output_units.bug("sigmoid", "straight-through gradient")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.sigmoid, vjp=lambda y_bar, _y, _z: (y_bar,))(z)
