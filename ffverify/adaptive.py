"""Adaptive precision: evaluate in balls, with more and more bits, until the answer is narrow enough.

A ``Truth`` is what comes out: exact results with their uncertainty. Rows that are resolved are done;
the others are evaluated again with twice the bits, up to a ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .formats import Array, Format
from .precise import BALLS, Undecided, arb

FIRST_PRECISION = 128
CEILING = 8192


@dataclass(frozen=True)
class Truth:
    """Exact results with their uncertainty; all fields have the result's shape.

    Attributes
    ----------
    exact
        Object array of balls. At a kink the ball is the interval of legitimate subgradients.
    motion
        Object array: how far the result moves when the inputs move by their rounding.
    kink
        Where left and right derivatives differ.
    resolved
        Where the ball is as narrow as promised (at a kink: its ends are).
    growth
        The growth factor g of the bound g·u.
    """

    exact: Array
    motion: Array
    kink: Array
    resolved: Array
    growth: int

    def reshape(self, shape: tuple[int, ...]) -> Truth:
        """Give the same truth in another shape."""
        return Truth(
            self.exact.reshape(shape),
            self.motion.reshape(shape),
            self.kink.reshape(shape),
            self.resolved.reshape(shape),
            self.growth,
        )


def each_row(x: Any) -> Any:
    """Flatten all axes but the first (-1 would not do for empty arrays)."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def narrow(balls: Array, fmt: Format) -> Array:
    """Tell which balls are narrower than 1/8 ulp, or 1/8 of the smallest subnormal, or overflow."""
    tiny = arb(2) ** (fmt.smallest_exponent - 3)
    huge = BALLS.exact(fmt.overflow)
    wanted = fmt.precision + 4

    def is_narrow(x: Any) -> bool:
        if x.rel_accuracy_bits() >= wanted:
            return True
        if x.is_nan():
            return False
        return bool(x.rad() < tiny or x.abs_lower() >= huge or (x.rad() == 0))

    return np.array([is_narrow(x) for x in balls.ravel()], dtype=bool).reshape(balls.shape)


def _choose(condition: Array, balls: Array, otherwise: Any) -> Array:
    """Give balls where the condition holds, and one ball elsewhere."""
    out = np.full(balls.shape, otherwise, dtype=object)
    out[condition] = balls[condition]
    return out


def adapt(
    evaluate: Callable[[list[Array], int], tuple[Array, Array, Array | None]],
    args: list[Array],
    fmt: Format,
    growth: int,
) -> Truth:
    """Evaluate all rows, then those not yet resolved again with twice the bits, up to the ceiling.

    ``evaluate`` gives balls, motions and, for derivatives, the jumps between one-sided derivatives
    where it suspects a kink (elsewhere 0). A jump that survives a doubling is a kink.
    """
    pending = np.arange(len(args[0]))
    truth: Truth | None = None
    jumps = np.zeros(0)
    bits = FIRST_PRECISION
    while bits <= CEILING and (len(pending) or truth is None):
        with BALLS.precision(bits):
            try:
                exact, motion, jump = evaluate([a[pending] for a in args], bits)
            except Undecided:
                bits *= 2
                if bits > CEILING and truth is None:
                    raise
                continue
            if truth is None:
                shape = (len(args[0]), *exact.shape[1:])
                truth = Truth(
                    exact=np.full(shape, arb.nan(), dtype=object),
                    motion=np.full(shape, arb(0), dtype=object),
                    kink=np.zeros(shape, dtype=bool),
                    resolved=np.zeros(shape, dtype=bool),
                    growth=growth,
                )
                jumps = np.full(shape, arb.pos_inf(), dtype=object)
            resolved = narrow(exact, fmt)
            if jump is not None:
                suspect = jump > 0
                kink = suspect & (2 * jump >= jumps[pending])
                resolved = (resolved & ~suspect) | kink
                jumps[pending] = _choose(suspect, jump, arb.pos_inf())
                truth.kink[pending] = kink
                motion = _choose(~kink, motion, arb(0))
            truth.exact[pending], truth.motion[pending] = exact, motion
            truth.resolved[pending] = resolved
        pending = pending[~each_row(resolved).all(axis=1)]
        bits *= 2
    assert truth is not None  # noqa: S101 - the first precision is below the ceiling
    return truth
