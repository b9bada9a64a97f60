"""Adaptive precision: evaluate in balls, with more and more bits, until the answer is narrow enough.

A ``Truth`` is what comes out: exact results with their uncertainty. Rows that are resolved are done;
the others are evaluated again with twice the bits, up to a ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format

FIRST_PRECISION = 128
CEILING = 8192
# A step shrinks to its square when precision doubles. A jump that stays from 192 bits (h = 2^-64)
# to 384 (2^-128) is no kink in the neighbourhood, as far as floats have neighbours.
_CONFIRMING = 256


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
        return Truth(
            self.exact.reshape(shape),
            lambda: self.motion,
            self.kink.reshape(shape),
            self.resolved.reshape(shape),
            self.growth,
        )


def first_precision(fmt: Format) -> int:
    """Give the bits to begin with.

    Differences keep two thirds of them, more than `narrow` asks for: a run at 300 bits costs hardly more
    than one at 100, and a second run as much as the first.
    """
    return 4 * (fmt.precision + 16)


def each_row(x: Any) -> Any:
    """Flatten all axes but the first (-1 would not do for empty arrays)."""
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


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

    Where a function jumps and is what it is on either side, or the mean, its third difference is half of the
    first or more, at any step. Of |x|^p, whose slope is vertical, it is 1 - 2^(p-1): 15/32 at p = 0.09.
    """
    sloped = [32 * b.rad() <= 15 * abs(b.mid()) or b.abs_upper() < 1 for b in balls.ravel()]
    found: Array = narrow(balls, fmt) & np.array(sloped, dtype=bool).reshape(balls.shape)
    return found


def stays(jump: Array, before: Array) -> Array:
    """Tell which jumps are certainly still there: no smaller than half and no larger than twice."""
    kept = np.frompyfunc(lambda a, b: bool(2 * a >= b and a <= 2 * b), 2, 1)(jump, before)
    return np.asarray(kept, dtype=bool)


def adapt(
    evaluate: Callable[[list[Array], int], tuple[Array, Array | None]],
    move: Callable[[list[Array], Array, int], Array],
    args: list[Array],
    fmt: Format,
    growth: int,
    *,
    bits: int | None = None,
) -> Truth:
    """Evaluate all rows, then those not yet resolved again with twice the bits, up to the ceiling.

    ``evaluate(rows, bits)`` gives balls and, for derivatives, the jumps that their widths may be.
    A jump that survives a doubling is a kink. ``move(rows, balls, bits)`` measures motions. ``bits`` are
    those to begin with.

    Raises
    ------
    Undecided
        If no precision up to the ceiling decides the branches of any row.
    """
    pending = np.arange(len(args[0]))
    used = np.zeros(len(pending), dtype=np.int64)
    kept: tuple[Array, ...] = ()
    bits = first_precision(fmt) if bits is None else min(bits, CEILING)
    while not kept or len(pending):
        with BALLS.precision(bits):
            try:
                balls, jump = evaluate([a[pending] for a in args], bits)
            except Undecided:
                if bits == CEILING and not kept:
                    raise
            else:
                if not kept:
                    shape = (len(args[0]), *balls.shape[1:])
                    kept = (
                        _full(shape, arb.nan()),
                        *np.zeros((2, *shape), bool),
                        _full(shape, arb.nan()),
                    )
                exact, kink, resolved, jumps = kept
                done = narrow(balls, fmt) if jump is None else narrow_slopes(balls, fmt)
                if jump is not None:
                    if bits >= _CONFIRMING:
                        kinked = kink[pending] = ~done & stays(jump, jumps[pending])
                        done |= kinked
                        # A kink beside the point lies off centre for the smaller step: the ends of
                        # the interval are as good as two steps agree on them.
                        balls[kinked] = _hull(balls[kinked], exact[pending][kinked])
                    jumps[pending] = jump
                exact[pending], resolved[pending], used[pending] = balls, done, bits
                pending = pending[~each_row(done).all(axis=1)]
        if bits == CEILING:
            break
        bits = min(2 * bits, CEILING)
    exact, kink, resolved, _ = kept

    def measure() -> Array:
        motion = _full(exact.shape, arb(0))
        for bits in np.unique(used[used > 0]).tolist():
            rows = np.flatnonzero(used == bits)
            motion[rows] = _decided(move, [a[rows] for a in args], exact[rows], bits)
        motion[kink] = arb(0)
        return motion

    return Truth(exact, measure, kink, resolved, growth)


_hull = np.frompyfunc(lambda a, b: a.union(b), 2, 1)


def _full(shape: tuple[int, ...], ball: Any) -> Array:
    return np.full(shape, ball, dtype=object)


def _decided(
    move: Callable[[list[Array], Array, int], Array], args: list[Array], exact: Array, bits: int
) -> Array:
    """Measure motions; widen the precision while a branch beside the point is undecided."""
    while bits <= CEILING:
        with BALLS.precision(bits):
            try:
                return move(args, exact, bits)
            except Undecided:
                bits *= 2
    return _full(exact.shape, arb.nan())
