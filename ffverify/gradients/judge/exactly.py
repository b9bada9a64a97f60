"""A program at a point in exact arithmetic: what it gives, how far that moves, what rounding can add up to.

``Exactly`` is asked for all elements of all results at once, and measures nothing that nobody asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray, batch
from ffverify.exact.elements import Undecided, arb, midpoints
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, at_rows, in_halves, joined, together
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS, sign_patterns
from ffverify.truth.slopes import CONSTANT_PATTERNS, Inputs, constants_moved, with_rounding
from ffverify.verdicts.bounds import running_bound, running_bounds

_BITS = (128, 256, 512)
# Wider than float64's range: sums of the lowest float, as which code writes log 0, are exact with this many.
_WHOLE_RANGE = 2200
# ‖·‖₁ ≤ √m ‖·‖₂ for m inputs; of rounding errors that are independent, eight times the 2-norm is exceeded
# with a probability below 2 exp(-8² / 2) = 3e-14 (Higham & Mary, A new approach to probabilistic rounding
# error analysis, 2019).
_PROBABLE = 8.0
# Constants move by so much less than a rounding that no threshold among them crosses a float; what they
# move is scaled up.
NEAR = 1024
_FEW = 2  # patterns of signs beside inputs of many elements
_MANY = 4096


def _root_mean_square(sizes: Array) -> Array:
    """Give the root mean square over rows, whatever the range of the numbers."""
    largest = sizes.max(axis=0)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    out: Array = unit * np.sqrt(np.mean((sizes / unit) ** 2, axis=0))
    return out


@dataclass
class Together:
    """One program at many points, with what else it takes there: a batch of what `Exactly` gives of one.

    ``balls`` are None where the program cannot be run. What nobody asks for is not run.
    """

    vector: Program
    arguments: Sequence[Sequence[Array]]
    fmt: Format
    balls: Sequence[Array | None]

    @cached_property
    def running(self) -> list[Array | None]:
        """What roundings can add up to at each point, from one run; None where there are no balls."""
        known = [i for i, b in enumerate(self.balls) if b is not None]
        exact = [b for b in self.balls if b is not None]
        given = [self.arguments[i] for i in known]
        found: list[Array | None] = [None] * len(self.balls)
        for i, bounds in zip(
            known, running_bounds(self.vector, given, self.fmt, exact), strict=True
        ):
            found[i] = bounds
        return found


@dataclass(frozen=True)
class Row:
    """One point of a batch."""

    together: Together
    place: int

    @property
    def balls(self) -> Array | None:  # noqa: D102 - see `Together`
        return self.together.balls[self.place]

    @property
    def running(self) -> Array | None:  # noqa: D102 - see `Together`
        return self.together.running[self.place]


def balls_together(
    vector: Program, arguments: Sequence[Sequence[Array]], fmt: Format
) -> list[Array | None]:
    """Give `Exactly.balls` of one program at many points, with what else it takes; None where that fails."""
    found: list[Array | None] = [None] * len(arguments)
    pending = list(range(len(arguments)))

    def run(some: Sequence[int]) -> Sequence[Array]:
        args = [together(arrays) for arrays in zip(*(arguments[i] for i in some), strict=True)]
        out = at_rows(vector, args)
        return list(np.broadcast_to(out.elements, (len(some), out.shape[-1])))

    for bits in _BITS:
        with BALLS.precision(bits):
            for i, balls in zip(pending, in_halves(run, pending), strict=True):
                found[i] = balls
        pending = [i for i in pending if not _is_narrow(found[i], fmt, bits)]
        if not pending:
            break
    for i in pending:
        balls = found[i]
        if balls is not None and not all(map(arb.is_finite, balls.tolist())):
            found[i] = None  # it may need the whole range
    return found


def _is_narrow(balls: Array | None, fmt: Format, bits: int) -> bool:
    if balls is None:
        return False
    return min(map(arb.rel_accuracy_bits, balls.tolist()), default=bits) >= fmt.precision + 8


class Exactly:
    """A program at a point, its results raveled and joined.

    Parameters
    ----------
    program
        Of precise arrays; takes the inputs, then ``more``.
    inputs
        The point. Its floating elements carry rounding errors.
    more
        Cotangents or tangents: exact numbers.
    fmt, growth
        The format of what was computed, and the growth factor g.
    row
        The point among others that the program was run at already.
    code
        Whether the program is the code that computed them: only its own roundings are known then.
    """

    def __init__(
        self,
        program: Program,
        inputs: Inputs,
        more: Sequence[Array],
        fmt: Format,
        growth: int,
        *,
        row: Row | None = None,
        code: bool = True,
    ) -> None:
        self._row, self._code = row, code
        self.program, self.inputs, self.more = program, inputs, list(more)
        self.fmt, self.growth = fmt, growth
        self._vector = joined(program)
        self._exact = [BALLS.array(a) for a in self.more]

    @cached_property
    def balls(self) -> Array | None:
        """The exact results, as narrow as the format needs; None if the program cannot be run here."""
        found = None if self._row is None else self._row.balls
        for bits in () if found is not None else (*_BITS, _WHOLE_RANGE):
            try:
                with BALLS.precision(bits):
                    found = self._vector(*self.inputs.balls, *self._exact).values
            except Undecided:
                continue
            except Exception:  # noqa: BLE001 - code of the caller's that exact arithmetic cannot run
                return None
            if _is_narrow(found, self.fmt, bits):
                break
            if bits == _BITS[-1] and all(map(arb.is_finite, found.tolist())):
                break
        return found

    @cached_property
    def floats(self) -> Array:
        """The exact results as the floats nearest to them."""
        assert self.balls is not None  # noqa: S101 - callers asked
        return midpoints(self.balls)

    @cached_property
    def motion(self) -> Array:
        """How far each result moves when the inputs move by g·u: the conditioning term of its bound.

        Inputs move with patterns of signs; the root mean square of what the results move by is the 2-norm
        of their sensitivities, and that times λ bounds what independent errors do (see `_PROBABLE`).
        """
        places = [
            np.flatnonzero(x) if isinstance(b, PreciseArray) else np.zeros(0, int)
            for x, b in zip(self.inputs.arrays, self.inputs.balls, strict=True)
        ]
        count = sum(p.size for p in places)
        zero = np.zeros(self.floats.size)
        if not count:
            return zero
        patterns = sign_patterns(count)[: _FEW if count > _MANY else None]
        size = self.growth * self.fmt.unit_roundoff
        least = arb(self.growth) * arb(2) ** self.fmt.smallest_exponent
        with BALLS.precision(_BITS[0]):
            moved = with_rounding(self.inputs, places, patterns, size, least)
            apart = self._apart([*moved, *self._exact], len(patterns))
        norm = np.sqrt(count) * _root_mean_square(apart)
        out: Array = norm * min(1.0, _PROBABLE / np.sqrt(count))
        return out

    def _apart(self, moved: Sequence[Any], rows: int) -> Array:
        """Give how far the results at rows of inputs are from those at the point, as floats."""
        try:
            out = at_rows(self._vector, moved)
        except Undecided:  # a branch within the roundings: nothing is promised there
            return np.full((rows, self.floats.size), np.inf)
        difference = np.broadcast_to(out.elements, (rows, self.floats.size)) - self.balls
        sizes = [float(abs(x).upper()) if x.is_finite() else np.inf for x in difference.ravel()]
        return np.array(sizes).reshape(difference.shape)

    @cached_property
    def constants(self) -> Array:
        """How far each result moves when the program's own constants, such as √2, are rounded otherwise."""
        moves = []
        for pattern in range(CONSTANT_PATTERNS):
            arithmetic, met = constants_moved(self.fmt, LIBRARY_ROUNDINGS / NEAR, pattern)
            given = [
                PreciseArray(b.values, arithmetic) if isinstance(b, PreciseArray) else b
                for b in (*self.inputs.balls, *self._exact)
            ]
            with BALLS.precision(_BITS[0]):
                apart = self._apart(given, 1)[0]
            if not met:
                return np.zeros(self.floats.size)
            moves.append(np.where(np.isfinite(apart), NEAR * apart, 0.0) * np.sqrt(len(met)))
        return _root_mean_square(np.stack(moves))

    @cached_property
    def running(self) -> Array:
        """What the roundings of the code can add up to in each result.

        Of code that is not this program they are unknown: then half the digits are taken for rounding.
        """
        if not self._code:
            out: Array = np.abs(self.floats) * self.fmt.unit_roundoff**0.5
            return out
        bounds = None if self._row is None else self._row.running
        if bounds is None:
            exact = PreciseArray(self.balls, BALLS)
            (bounds,) = running_bound(
                self._vector, [*self.inputs.arrays, *self.more], self.fmt, exact=[exact]
            )
        return np.array([float(b.upper()) if b.is_finite() else np.inf for b in bounds])

    def at(self, arrays: Sequence[Array], *mores: Sequence[Array]) -> Array | None:
        """Give the results at other inputs as floats, a row for each of ``mores``; None without."""
        rows = [batch([BALLS.array(a) for a in same]) for same in zip(*mores, strict=True)]
        try:
            with BALLS.precision(_BITS[0]):
                out = at_rows(self._vector, [*Inputs(arrays).balls, *rows])
                return midpoints(out.elements).reshape(-1, self.floats.size)
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            return None
