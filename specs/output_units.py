"""Section 6.2.2: output units, one number at a time (linear, sigmoid)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify import proofs
from ffverify.check import Check
from ffverify.claims import claim
from ffverify.formats import Array
from ffverify.inputs import labels, points


def _bernoulli_nll(f: Any, z: Any, y: Any) -> Any:
    return f.bernoulli_nll(z, y)


@claim(
    "6.2.2",
    "-log σ((2y-1)z) = ζ((1-2y)z) for every z, without overflow and with full relative accuracy.",
    functions=["bernoulli_nll"],
    z=points(),
    y=labels(2),
)
def bernoulli_nll_is_softplus(check: Check, z: Array, y: Array) -> None:
    check.value("bernoulli_nll", z, y)
    check.gradient("bernoulli_nll", z, y)
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
    "6.2.2",
    "The loss ζ((1-2y)z) saturates only where the answer is right, as e^-|z|. Where it is wrong "
    "its slope is at least ½, grows with the error towards sign(z), and 0 ≤ J - |z| ≤ log 2.",
    functions=["bernoulli_nll"],
    z=points(),
    y=labels(2),
)
def softplus_loss_saturates_only_when_right(check: Check, z: Array, y: Array) -> None:
    wrong = (2 * y - 1) * z <= 0
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
