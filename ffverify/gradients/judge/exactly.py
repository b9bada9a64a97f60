"""A program at a point in exact arithmetic: what it gives, how far that moves, what rounding can add up to.

``Exactly`` is asked for all elements of all results at once, and measures nothing that nobody asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray, batch, row_of
from ffverify.exact.elements import Undecided, arb, midpoints
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, at_rows, in_halves, together
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS, sign_patterns
from ffverify.truth.slopes import Inputs, under, with_constants_moved, with_rounding
from ffverify.verdicts.bounds import running_bounds

from .slope import NEAR

_SPARE = 8  # bits beyond the format's: a 256th of its rounding is nothing beside 8 of them
_BITS = (FIRST_PRECISION, 2 * FIRST_PRECISION, 4 * FIRST_PRECISION)
# Wider than float64's range, 2^1024 to 2^-1074: sums of the lowest float, written for log 0, are exact.
_WHOLE_RANGE = 2200
# ‖·‖₁ ≤ √m ‖·‖₂ for m inputs; of rounding errors that are independent, eight times the 2-norm is exceeded
# with a probability below 2 exp(-8² / 2) = 3e-14 (Higham & Mary, A new approach to probabilistic rounding
# error analysis, 2019).
PROBABLE = 8.0
_FEW, MANY = 2, 4096  # patterns of signs beside inputs of many elements, whose effects average


def run_together(
    vector: Program, arguments: Sequence[Sequence[Array]], fmt: Format
) -> list[Array | None]:
    """Run a program at many points, with what else it takes; None where that fails."""

    def run(some: Sequence[int]) -> Sequence[Array]:
        args = [together(arrays) for arrays in zip(*(arguments[i] for i in some), strict=True)]
        out = at_rows(vector, args)
        return list(np.broadcast_to(out.elements, (len(some), out.shape[-1])))

    return _as_narrow(run, len(arguments), fmt)


def run_alone(vector: Program, inputs: Inputs, more: Sequence[Array], fmt: Format) -> Array | None:
    """Run a program at one point, with what else it takes; None where that fails."""
    given = [*inputs.balls, *map(BALLS.array, more)]
    try:
        return _as_narrow(lambda _: [vector(*given).values], 1, fmt)[0]
    except Exception:  # noqa: BLE001 - code of the caller's that exact arithmetic cannot run
        return None


def _as_narrow(
    run: Callable[[Sequence[int]], Sequence[Array]], count: int, fmt: Format
) -> list[Array | None]:
    """Run with more and more bits, at last those whose results are not finite; None where undecided."""
    found: list[Array | None] = [None] * count
    pending = list(range(count))
    for bits in (*_BITS, _WHOLE_RANGE):
        with BALLS.precision(bits):
            for i, balls in zip(pending, in_halves(run, pending) if pending else [], strict=True):
                found[i] = balls
        digits = fmt.precision + _SPARE if bits < _BITS[-1] else -_WHOLE_RANGE
        pending = [i for i in pending if not _is_narrow(found[i], digits)]
    return found


def _is_narrow(balls: Array | None, digits: int) -> bool:
    if balls is None or not all(map(arb.is_finite, balls.tolist())):
        return False
    return min(map(arb.rel_accuracy_bits, balls.tolist()), default=digits) >= digits


@dataclass(eq=False)
class Exactly:
    """A program at a point, its results raveled and joined.

    Attributes
    ----------
    vector
        Of precise arrays; takes the inputs, then ``more``.
    inputs
        The point. Its floating elements carry rounding errors.
    more
        Cotangents or tangents: exact numbers.
    balls
        The exact results there.
    fmt, growth
        The format of what was computed, and the growth factor g.
    code
        Whether the program is the code that computed them: only its own roundings are known then.
    """

    vector: Program
    inputs: Inputs
    more: Sequence[Array]
    balls: Array
    fmt: Format
    growth: int
    code: bool = True

    def __post_init__(self) -> None:
        self._exact = [BALLS.array(a) for a in self.more]

    @cached_property
    def floats(self) -> Array:
        """The exact results as the floats nearest to them."""
        return midpoints(self.balls)

    def motion(self, chosen: Array) -> Array:
        """Give how far chosen results move when the inputs move by g·u: the conditioning term of their bound.

        Inputs move with patterns of signs; the root mean square of what the results move by is the 2-norm
        of their sensitivities, and that times λ bounds what independent errors do (see `PROBABLE`). No
        less is allowed than what any of the moves did: beyond a kink there are other sensitivities.
        """
        places = [
            np.flatnonzero(x) if isinstance(b, PreciseArray) else np.zeros(0, int)
            for x, b in zip(self.inputs.arrays, self.inputs.balls, strict=True)
        ]
        count = sum(p.size for p in places)
        if not count:
            return np.zeros(chosen.size)
        if count <= MANY:
            groups = [sign_patterns(count)]
        else:  # matrices of balls are whole in single rows
            groups = list(np.random.default_rng(0).choice([-1.0, 1.0], (_FEW, 1, count)))
        size = self.growth * self.fmt.unit_roundoff
        least = arb(self.growth) * arb(2) ** self.fmt.smallest_exponent
        parts = []
        with BALLS.precision(_BITS[0]):
            for some in groups:
                moved = with_rounding(self.inputs, places, some, size, least)
                parts.append(self._apart([*moved, *self._exact], len(some), chosen))
        apart = np.concatenate(parts)
        norm = np.hypot.reduce(apart, axis=0) * np.sqrt(count / len(apart))
        out: Array = np.maximum(norm * min(1.0, PROBABLE / np.sqrt(count)), apart.max(axis=0))
        return out

    def _apart(self, moved: Sequence[Any], rows: int, chosen: Any) -> Array:
        """Give how far chosen results at rows of inputs are from those at the point, as floats."""
        here = self.balls[chosen]
        try:
            out = at_rows(self.vector, row_of(list(moved), 0) if rows == 1 else moved)
        except Undecided:  # a branch within the roundings: nothing is promised there
            return np.full((rows, here.size), np.inf)
        difference = np.broadcast_to(out.elements[..., chosen], (rows, here.size)) - here
        sizes = [float(abs(x).upper()) if x.is_finite() else np.inf for x in difference.ravel()]
        return np.array(sizes).reshape(difference.shape)

    @cached_property
    def constants(self) -> Array:
        """How far each result moves when the program's own constants, such as √2, are rounded otherwise."""

        def moved(arithmetic: Arithmetic) -> Array:
            given = [under(arithmetic, b) for b in (*self.inputs.balls, *self._exact)]
            with BALLS.precision(_BITS[0]):
                apart = self._apart(given, 1, slice(None))[0]
            return np.where(np.isfinite(apart), NEAR * apart, 0.0)

        found = with_constants_moved(self.fmt, LIBRARY_ROUNDINGS / NEAR, moved)
        sizes = [apart * np.sqrt(count) for apart, count in found] or [np.zeros(self.floats.size)]
        return np.hypot.reduce(sizes, axis=0) / len(sizes) ** 0.5  # type: ignore[no-any-return]  # an array

    @cached_property
    def running(self) -> Array:
        """What the roundings of the code can add up to in each result.

        Of code that is not this program they are unknown: then half the digits are taken for rounding.
        """
        if not self.code:
            out: Array = np.abs(self.floats) * self.fmt.unit_roundoff**0.5
            return out
        given = [*self.inputs.arrays, *self.more]
        (bounds,) = running_bounds(self.vector, [given], self.fmt, [self.balls])
        return np.array([float(b.upper()) if b.is_finite() else np.inf for b in bounds])

    def at(self, arrays: Sequence[Array], *mores: Sequence[Array]) -> Array | None:
        """Give the results at other inputs as floats, a row for each of ``mores``; None without."""
        rows = [batch([BALLS.array(a) for a in same]) for same in zip(*mores, strict=True)]
        try:
            with BALLS.precision(_BITS[0]):
                out = at_rows(self.vector, [*Inputs(arrays).balls, *rows])
                return midpoints(out.elements).reshape(-1, self.floats.size)
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            return None
