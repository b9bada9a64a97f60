"""A program at a point in exact arithmetic: what it gives, how far that moves, what rounding can add up to.

``Exactly`` is asked for all elements of all results at once, and measures nothing that nobody asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray, batch, row_of
from ffverify.exact.elements import arb, are_finite, midpoints
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, at_rows, in_halves, together
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.differences import sign_patterns, with_rounding
from ffverify.truth.slopes import Inputs, under, with_constants_moved
from ffverify.verdicts.bounds import running_bounds

from .slope import NEAR

_SPARE = 8  # bits beyond the format's: a 256th of its rounding is nothing beside 8 of them
_BITS = (FIRST_PRECISION, 2 * FIRST_PRECISION, 4 * FIRST_PRECISION)
# What is measured of one program at several points, in one run.
Measure = Callable[[Sequence["Exactly"]], Sequence[Array]]
# Wider than float64's range, 2^1024 to 2^-1074: sums of the lowest float, written for log 0, are exact.
_WHOLE_RANGE = 2200
# ‖·‖₁ ≤ √m ‖·‖₂ for m inputs; of rounding errors that are independent, eight times the 2-norm is exceeded
# with a probability below 2 exp(-8² / 2) = 3e-14 (Higham & Mary, A new approach to probabilistic rounding
# error analysis, 2019).
PROBABLE = 8.0
_BESIDE = 2**11  # numbers of other inputs that run at once: of more it is not steps that cost
_FEW, MANY = 2, 4096  # patterns of signs beside inputs of many elements, whose effects average


def run_alone(
    vector: Program, inputs: Inputs, more: Sequence[Array], fmt: Format, growth: int
) -> Exactly | None:
    """Run a program at one point, with what else it takes; None where that fails."""
    try:
        return run_together(vector, [inputs], [more], fmt, growth)[0]
    except Exception:  # noqa: BLE001 - code of the caller's that exact arithmetic cannot run
        return None


def run_together(
    vector: Program,
    points: Sequence[Inputs],
    mores: Sequence[Sequence[Array]],
    fmt: Format,
    growth: int,
) -> list[Exactly | None]:
    """Run a program at many points, with what else it takes; None where that fails."""
    given = [[*p.arrays, *more] for p, more in zip(points, mores, strict=True)]

    def run(some: Sequence[int]) -> Sequence[Array]:
        if len(some) == 1:  # matrices of balls are whole alone
            (i,) = some
            return [vector(*points[i].balls, *map(BALLS.array, mores[i])).values]
        args = [together(arrays) for arrays in zip(*(given[i] for i in some), strict=True)]
        return list(_results(vector, args, len(some)))

    found = _as_narrow(run, len(given), fmt)
    return [
        None if balls is None else Exactly(vector, p, more, balls, fmt, growth, bits)
        for p, more, (balls, bits) in zip(points, mores, found, strict=True)
    ]


def _results(vector: Program, x: Sequence[Any], count: int) -> Array:
    """Run a program at so many rows, a batch; of one alone, whose matrices of balls are whole."""
    out = at_rows(vector, x) if count > 1 else vector(*row_of(list(x), 0))
    return np.broadcast_to(out.elements, (count, out.shape[-1]))


def _as_narrow(
    run: Callable[[Sequence[int]], Sequence[Array]], count: int, fmt: Format
) -> list[tuple[Array | None, int]]:
    """Run with more and more bits, at last those whose results are not finite; None where undecided.

    The bits stand beside the results.
    """
    found: list[tuple[Array | None, int]] = [(None, 0)] * count
    pending = list(range(count))
    for bits in (*_BITS, _WHOLE_RANGE):
        with BALLS.precision(bits):
            for i, balls in zip(pending, in_halves(run, pending) if pending else [], strict=True):
                found[i] = balls, bits
        digits = fmt.precision + _SPARE if bits < _BITS[-1] else -_WHOLE_RANGE
        pending = [i for i in pending if not _is_narrow(found[i][0], digits)]
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
        Cotangents or tangents. They carry rounding errors too.
    balls
        The exact results there.
    fmt, growth
        The format of what was computed, and the growth factor g.
    bits
        The precision that the results took: with less a branch may be undecided.
    code
        Whether the program is the code that computed them: only its own roundings are known then.
    beside
        It and the same program at other points, of which the same may be asked.
    doubted
        Whether what was computed is off by more than plain rounding.
    known
        What was measured of it, by name.
    """

    vector: Program
    inputs: Inputs
    more: Sequence[Array]
    balls: Array
    fmt: Format
    growth: int
    bits: int = FIRST_PRECISION
    code: bool = True
    beside: Sequence[Exactly] = ()
    doubted: bool = True
    known: dict[str, Array] = field(default_factory=dict)

    def _measured(self, measure: Measure) -> Array:
        """Measure something here; for the second that asks it is measured beside it as well, in one run.

        That costs a fraction each, and one that asks alone does not pay for others.
        """
        what = measure.__name__
        if what not in self.known:
            beside = [e for e in self.beside if e.doubted >= self.doubted]
            waiting = [e for e in beside if what not in e.known]
            some = waiting if len(waiting) < len(beside) else [self]
            try:
                found = measure(some)
            except Exception:  # at another point; code of the caller's need not hold there
                if some == [self]:
                    raise
                some = [self]
                found = measure(some)
            for each, measured in zip(some, found, strict=True):
                each.known[what] = measured
        return self.known[what]

    @cached_property
    def floats(self) -> Array:
        """The exact results as the floats nearest to them."""
        return midpoints(self.balls)

    def motion(self, chosen: Array) -> Array:
        """Give how far chosen results move when the inputs move by g·u: the conditioning term of their bound.

        So do cotangents and tangents: a derivative is linear in them, and whoever sums up products of theirs
        that cancel can do no better than give the exact sum of others beside these.

        Inputs move with patterns of signs; the root mean square of what the results move by is the 2-norm
        of their sensitivities, and that times λ bounds what independent errors do (see `PROBABLE`). No
        less is allowed than what any of the moves did: beyond a kink there are other sensitivities.
        """
        here = self.balls[chosen]
        count = sum(map(np.size, _places([self])))
        if not count:
            return np.zeros(here.size)
        # Those of many inputs take memory.
        moved = self._measured(_moved) if count <= MANY else _moved([self])[0]
        with BALLS.precision(self.bits):
            apart = _sizes(moved[:, chosen] - here)
        norm = np.hypot.reduce(apart, axis=0) * np.sqrt(count / len(apart))
        out: Array = np.maximum(norm * min(1.0, PROBABLE / np.sqrt(count)), apart.max(axis=0))
        return out

    @cached_property
    def wild(self) -> Array:
        """How far results move by few u that move by these twice as far as their share of g·u, else 0.

        They oscillate within their rounding: how far they move by g·u is chance then, and no bound.
        """

        def far(moved: Array) -> Array:
            return _sizes(moved - self.balls).max(axis=0)  # type: ignore[no-any-return]  # an array

        # Shares that have no measure in common: whole ones may all be whole waves.
        whole, units = far(self._measured(_moved)), np.array([0.618, 1.414, 2.718])
        (moved,) = _moved_by([self], *units)
        few = np.array([far(rows) for rows in np.split(moved, len(units))])
        apart = np.any(few * (self.growth / units)[:, None] > 2 * whole, axis=0)
        return np.where(apart, few.max(axis=0), 0.0)

    @cached_property
    def has_pole_beside(self) -> bool:
        """Whether a pole or a branch lies where inputs that move by g·u may be, as far as balls tell."""
        moves = arb(0, self.growth * self.fmt.unit_roundoff)
        x = [
            PreciseArray(b.values * (1 + moves), BALLS) if isinstance(b, PreciseArray) else b
            for b in self.inputs.balls
        ]
        try:
            with BALLS.precision(self.bits):
                return not are_finite(self.vector(*x, *map(BALLS.array, self.more)).values).all()
        except Exception:  # noqa: BLE001 - undecided, or code that fails beside the point
            return True

    @property
    def constants(self) -> Array:
        """How far each result moves when the program's own constants, such as √2, are rounded otherwise."""
        return self._measured(_constants)

    @property
    def running(self) -> Array:
        """What the roundings of the code can add up to in each result.

        Of code that is not this program they are unknown: then half the digits are taken for rounding.
        """
        half: Array = np.abs(self.floats) * self.fmt.unit_roundoff**0.5
        return self._measured(_running) if self.code else half

    def at(self, others: Sequence[Sequence[Array]], *mores: Sequence[Array]) -> list[Array]:
        """Give the results at other inputs as floats, a row for each of ``mores``; none where that fails."""
        most = max(_BESIDE // max(sum(map(np.size, (*self.inputs.arrays, *self.more))), 1), 1)
        if len(others) > most:
            some = [others[i : i + most] for i in range(0, len(others), most)]
            return [rows for each in some for rows in self.at(each, *mores)]
        more = [
            batch(list(map(BALLS.array, same)) * len(others)) for same in zip(*mores, strict=True)
        ]
        try:
            if len(others) == 1:  # what does not depend on more runs once
                x = Inputs(others[0]).balls
            else:
                times = range(len(mores) if more else 1)
                x = [
                    together([a for a in same for _ in times]) for same in zip(*others, strict=True)
                ]
            with BALLS.precision(self.bits):
                out = at_rows(self.vector, [*x, *more])
            return list(midpoints(out.elements).reshape(len(others), -1, self.floats.size))
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            each = [] if len(others) == 1 else others
            return [rows for one in each for rows in self.at([one], *mores)]


# ---------------------------------------------------------------------------------------------
# What is measured of one program at several points
# ---------------------------------------------------------------------------------------------


def _given(some: Sequence[Exactly]) -> list[Any]:
    """Give what a program takes at several points, as batches."""
    each = [[*e.inputs.arrays, *e.more] for e in some]
    return [together(arrays) for arrays in zip(*each, strict=True)]


def _at(some: Sequence[Exactly], x: Sequence[Any], rows: int = 1) -> Array:
    """Run a program at as many rows for each of several points: points × rows × results."""
    return _results(some[0].vector, x, len(some) * rows).reshape(len(some), rows, -1)


def _sizes(balls: Array) -> Array:
    flat = balls.ravel().tolist()
    sizes = [float(abs(x).upper()) if x.is_finite() else np.inf for x in flat]
    return np.array(sizes).reshape(balls.shape)


def _places(some: Sequence[Exactly]) -> list[Array]:
    """Give what carries rounding errors of each argument: cotangents and tangents do as inputs do."""
    given = [*some[0].inputs.arrays, *some[0].more]
    return [np.arange(np.size(a) if is_floating(a) else 0) for a in given]


def _moved(some: Sequence[Exactly]) -> Sequence[Array]:
    """Give the results at inputs moved by g·u, a row for each pattern of signs; infinite where undecided."""
    return _moved_by(some, some[0].growth)


def _moved_by(some: Sequence[Exactly], *units: float) -> Sequence[Array]:
    """Give the results at inputs moved by so many u, by one number of them after another."""
    first = some[0]
    places = _places(some)
    count = sum(map(np.size, places))
    if count <= MANY:
        groups = [sign_patterns(count)]
    else:
        groups = list(np.random.default_rng(0).choice([-1.0, 1.0], (_FEW, 1, count)))
    unit, least = first.fmt.unit_roundoff, arb(2) ** first.fmt.smallest_exponent

    def run(each: Sequence[Exactly]) -> Sequence[Array]:
        x, parts = _given(each), []
        for signs in groups:
            moved = [with_rounding(x, places, signs, n * unit, n * least) for n in units]
            whole = [
                batch(b) if getattr(b[0], "rows", 0) else b[0] for b in zip(*moved, strict=True)
            ]
            rows = _results(first.vector, whole, len(units) * len(each) * len(signs))
            parts.append(rows.reshape(len(units), len(each), len(signs), -1))
        found = np.concatenate(parts, axis=2).swapaxes(0, 1)
        return list(found.reshape(len(each), -1, found.shape[-1]))

    with BALLS.precision(max(e.bits for e in some)):
        undecided = np.full((len(units), first.balls.size), arb.pos_inf(), dtype=object)
        return [undecided if rows is None else rows for rows in in_halves(run, some)]


def _constants(some: Sequence[Exactly]) -> Sequence[Array]:
    def moved(arithmetic: Arithmetic) -> list[Array]:
        def run(each: Sequence[Exactly]) -> Sequence[Array]:
            return list(_at(each, [under(arithmetic, b) for b in _given(each)]))

        with BALLS.precision(max(e.bits for e in some)):
            rows = in_halves(run, some)
            apart = [
                np.full(e.balls.size, np.inf) if r is None else _sizes(r[0] - e.balls)
                for e, r in zip(some, rows, strict=True)
            ]
        return [np.where(np.isfinite(a), NEAR * a, 0.0) for a in apart]

    found = with_constants_moved(some[0].fmt, LIBRARY_ROUNDINGS / NEAR, moved)
    if not found:
        return [np.zeros(e.balls.size) for e in some]
    scaled = [np.sqrt(count) * np.array(apart) for apart, count in found]
    return list(np.hypot.reduce(scaled, axis=0) / len(scaled) ** 0.5)


def _running(some: Sequence[Exactly]) -> Sequence[Array]:
    given = [[*e.inputs.arrays, *e.more] for e in some]
    bounds = running_bounds(some[0].vector, given, some[0].fmt, [e.balls for e in some])
    return [
        np.array([float(b.upper()) if b.is_finite() else np.inf for b in each]) for each in bounds
    ]
