"""Section 6.2.2: output units."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.check import Check
from ffverify.claims import claim
from ffverify.inputs import labels, points, rows
from ffverify.formats import Array


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


@bernoulli_nll_is_softplus.bug("bernoulli_nll", "log(sigmoid(.)) composed naively")
def _(f: Any, z: Any, y: Array) -> Any:
    return -np.log(1 / (1 + np.exp(-(2 * y - 1) * z)))
