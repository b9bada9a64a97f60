"""Adaptive precision: evaluate in balls, with more and more bits, until the answer is narrow enough.

A ``Truth`` is what comes out: exact results with their uncertainty. Rows that are resolved are done;
the others are evaluated again with twice the bits, up to a ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided, arb, are_finite
from ffverify.exact.formats import Array, Format

T = TypeVar("T")

FIRST_PRECISION = 128
CEILING = 8192
# A step shrinks to its square when precision doubles. A jump that stays from 192 bits (h = 2^-64)
# to 384 (2^-128) is no kink in the neighbourhood, as far as floats have neighbours.
_CONFIRMING = 256
_HOPELESS = 3  # doublings after which a slope that is still undefined is taken for undefined


@dataclass(frozen=True)
class Truth:
    """Exact results with their uncertainty; all fields have the result's shape.

    Attributes
    ----------
    exact
        Object array of balls. At a kink the ball is the interval of legitimate subgradients.
    measure
        Gives ``motion``, which is measured only when somebody asks.
    kink
        Where left and right derivatives differ.
    resolved
        Where the ball is as narrow as promised (at a kink: its ends are).
    growth
        The growth factor g of the bound g·u.
    """

    exact: Array
    measure: Callable[[], Array]
    kink: Array
    resolved: Array
    growth: int

    @cached_property
    def motion(self) -> Array:
        """Object array: how far the result moves when the inputs move by their rounding."""
        return self.measure().reshape(self.exact.shape)

    def reshape(self, shape: tuple[int, ...]) -> Truth:
        """Give the same truth in another shape."""
        exact, kink, resolved = (a.reshape(shape) for a in (self.exact, self.kink, self.resolved))
        return Truth(exact, lambda: self.motion, kink, resolved, self.growth)


def each_row(x: Any) -> Any:
    """Flatten all axes but the first (-1 would not do for empty arrays)."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def narrow(balls: Array, fmt: Format) -> Array:
    """Tell which balls are narrower than 1/8 ulp, or 1/8 of the smallest subnormal, or overflow."""
    tiny = arb(2) ** (fmt.smallest_exponent - 3)
    huge = BALLS.exact(fmt.overflow)
    flat = balls.ravel()
    told = np.array(list(map(arb.rel_accuracy_bits, flat.tolist())), dtype=object)
    found = np.asarray(told >= fmt.precision + 4, dtype=bool)
    for i in np.flatnonzero(~found):
        x = flat[i]
        found[i] = not x.is_nan() and bool(x.rad() < tiny or x.abs_lower() >= huge or x.rad() == 0)
    return found.reshape(balls.shape)


def narrow_slopes(balls: Array, fmt: Format) -> Array:
    """Tell as `narrow` does, but of overflow where there is a slope: at a jump balls grow with precision.

    They hold 0 there: the radius is at least half of what the function jumps by, over the step.
    """
    sloped = [not b.contains(0) or b.abs_upper() < 1 for b in balls.ravel()]
    found: Array = narrow(balls, fmt) & np.array(sloped, dtype=bool).reshape(balls.shape)
    return found


def decided(run: Callable[[int], T], bits: int) -> T:
    """Run with so many bits, and with twice as many while a branch is undecided, up to the ceiling.

    Raises
    ------
    Undecided
        If no precision decides it.
    """
    while True:
        try:
            with BALLS.precision(bits):
                return run(bits)
        except Undecided:
            bits *= 2
            if bits > CEILING:
                raise


def adapt(
    evaluate: Callable[[Array, int], tuple[Array, Array | None]],
    move: Callable[[Array, Array, int], Array],
    count: int,
    fmt: Format,
    *,
    bits: int,
    growth: int,
    enough: Callable[[Array, Format], Array] = narrow_slopes,
) -> Truth:
    """Evaluate all rows, then those not yet resolved again with twice the bits, up to the ceiling.

    ``evaluate(rows, bits)`` gives balls and, for derivatives, the jumps that their widths may be.
    A jump that survives a doubling is a kink; a derivative that is still undefined after some is undefined.
    ``move(rows, balls, bits)`` measures motions. ``bits`` are those to begin with. ``enough(balls, fmt)``
    tells which balls are narrow.

    Raises
    ------
    Undecided
        If no precision up to the ceiling decides the branches of any row.
    """
    pending, used, rounds = np.arange(count), np.zeros(count, dtype=np.int64), 0
    bits = min(bits, CEILING)
    while not rounds or len(pending):
        with BALLS.precision(bits):
            try:
                balls, jump = evaluate(pending, bits)
            except Undecided:
                if bits == CEILING and not rounds:
                    raise
            else:
                if not rounds:
                    shape = (count, *balls.shape[1:])
                    exact, jumps = (np.full(shape, arb.nan(), dtype=object) for _ in range(2))
                    kink, resolved = np.zeros((2, *shape), bool)
                done = enough(balls, fmt)
                left = ~done
                if jump is not None:
                    if bits >= _CONFIRMING:
                        kinked = kink[pending] = left & np.asarray(
                            _stays(jump, jumps[pending]), dtype=bool
                        )
                        done |= kinked
                        # A kink beside the point lies off centre for the smaller step: the ends of
                        # the interval are as good as two steps agree on them.
                        balls[kinked] = _hull(balls[kinked], exact[pending][kinked])
                    jumps[pending] = jump
                    left = ~done & (are_finite(balls) | (rounds < _HOPELESS))
                exact[pending], resolved[pending], used[pending] = balls, done, bits
                pending = pending[each_row(left).any(axis=1)]
                rounds += 1
        if bits == CEILING:
            break
        bits = min(2 * bits, CEILING)

    def measure() -> Array:
        motion = np.full(exact.shape, arb(0), dtype=object)
        for first in np.unique(used[used > 0]).tolist():
            rows = np.flatnonzero(used == first)
            try:
                motion[rows] = decided(lambda bits, rows=rows: move(rows, exact[rows], bits), first)  # type: ignore[misc]  # of this turn
            except Undecided:
                motion[rows] = arb.nan()
        motion[kink] = arb(0)
        return motion

    return Truth(exact, measure, kink, resolved, growth)


# Which jumps are certainly still there: no smaller than half of those before, and no larger than twice.
_stays = np.frompyfunc(lambda a, b: bool(2 * a >= b and a <= 2 * b), 2, 1)
_hull = np.frompyfunc(lambda a, b: a.union(b), 2, 1)
