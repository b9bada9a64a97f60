"""Ball arithmetic that rounds as a float format does.

``rounded(fmt)`` is ball arithmetic in which every operation widens the ball by what the roundings of
that format can do: the ball around a program's result then contains whatever the program computes in
that format. An ``Execution`` is one way that it may be computed.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .arithmetic import BALLS
from .arrays import Arithmetic, PreciseArray, applied
from .elements import Undecided, arb, are_finite, boxed
from .formats import Array, Format
from .operations import CORRECT, EXACT, TABLE, Operation
from .programs import Program

UNHELD = 60  # bits from what a format holds down to what it is far from holding
_sizes_of = np.frompyfunc(lambda x: x.abs_upper() if x.is_finite() else arb(0), 1, 1)
# What rounds: functions of balls, and operators.
_ROUNDING: dict[str, Callable[..., Any]] = {
    row.name: row.balls for row in TABLE if row.balls is not None and row.units != EXACT
} | {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "square": lambda x: x * x,
}


@dataclass(eq=False)
class Execution:
    """A program whose steps err as a format may: every one to nearest, or by as much as one chooses.

    The first run tells the error of every step, and any other run errs by as much. So the program is as
    smooth as it is exactly, and takes branches that it may take in that format: even where nothing rounds
    a step errs by far less than the format holds, so that no two are tied.

    Parameters
    ----------
    errors
        Gives the error of the k-th step in roundings; None: what is not rounded does not err.
    share
        Which part of these errors there is.
    to_nearest
        Whether steps are rounded first; what errs then is far below what the format holds.
    beside
        One whose steps these err from, each by its own error alone: what those before it err by is left out.
        So of equal numbers none is larger but by its place.
    """

    fmt: Format
    errors: Callable[[int], float] | None
    share: float = 1.0
    to_nearest: bool = field(default=False, kw_only=True)
    beside: Execution | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self._integers = arb(2) ** self.fmt.precision
        self._steps: list[tuple[Any, Any]] = []
        self._step = 0
        functions = {name: self._erring(function) for name, function in _ROUNDING.items()}
        self.arithmetic = BALLS.deriving(
            name=f"Arb as executed in {self.fmt.name}",
            functions=BALLS.functions | functions,
            accumulate=self._accumulated,
        )

    def run(
        self, program: Program, x: Sequence[Any], moving: Sequence[bool]
    ) -> PreciseArray | None:
        """Run a program; None if its steps are not those of the first run. Inputs that are moving err too."""
        first, self._step = not self._steps, 0
        erring = np.frompyfunc(lambda b: self._moved(b, whole=True), 1, 1)
        given = [
            b if not isinstance(b, PreciseArray)
            else PreciseArray(erring(b.values) if m else b.values, self.arithmetic)
            for b, m in zip(x, moving, strict=True)
        ]  # fmt: skip
        out = program(*given)
        return PreciseArray(out.values, BALLS) if first or self._step == len(self._steps) else None

    def rises(
        self, program: Program, x: Sequence[Any], moving: Sequence[bool]
    ) -> list[float] | None:
        """Tell by how much every step is larger at x than in the first run, the largest change being 1."""
        first = [near for _, near in self._steps]
        self._steps = []
        if self.run(program, x, moving) is None or len(first) != len(self._steps):
            return None
        each = [b - a for a, (_, b) in zip(first, self._steps, strict=True)]
        largest = max((abs(d).mid() for d in each if d.is_finite()), default=arb(1))
        return [float((d / largest).mid()) if d.is_finite() and largest else 0.0 for d in each]

    def _erring(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *operands: self._moved(function(*operands))

    def _accumulated(self, function: Callable[..., Array], *operands: Array) -> Array:
        result, sizes = function(*operands), function(*map(_sizes_of, operands))
        return np.asarray(np.frompyfunc(self._moved, 2, 1)(result, sizes), dtype=object)

    def _moved(self, x: Any, terms: Any = 0, *, whole: bool = False) -> Any:
        if not isinstance(x, arb):
            return x
        if self._step == len(self._steps):
            # Or may be one: larger integers need not be held.
            is_index = not whole and x.is_exact() and x.is_integer() and abs(x) < self._integers
            self._steps.append((x, x if is_index else self._near(x, terms)))
        exact, near = self._steps[self._step]
        self._step += 1
        if near is exact:
            return x
        is_same = x.mid() == exact.mid() and x.rad() == exact.rad()
        return near if is_same else x + (near - exact)

    def _near(self, x: Any, terms: Any) -> Any:
        if not x.is_finite():
            return x
        place, start = len(self._steps), x
        if self.beside is not None:
            start = self.beside._steps[place][1]  # noqa: SLF001 - of the same class
        near = self._nearest(start) if self.to_nearest else start
        if self.errors is not None:
            near = near + self.errors(place) * self._size(near, terms)
        return near if self.share == 1 else start + self.share * (near - start)

    def _size(self, x: Any, terms: Any) -> Any:
        """Give a rounding of a number; of a sum in which ``terms`` cancel, of their magnitudes' sum.

        The error of a sum is up to n·u of that in any order (Higham, Accuracy and Stability of Numerical
        Algorithms, 2nd ed., §4.2). Terms that lose a bit or more, to less than half of it, cancel.
        """
        fmt, size = self.fmt, abs(x).mid()
        cancels = not self.to_nearest and terms > 2 * size
        unit, unheld = (terms if cancels else size) * arb(fmt.unit_roundoff), arb(2) ** -UNHELD
        is_held = not cancels and abs(x - self._nearest(x)) <= 2 * unheld * unit
        return (unheld * unit if is_held else unit) + unheld * arb(2) ** fmt.smallest_exponent

    def _nearest(self, x: Any) -> Any:
        if x.contains(0):
            return x
        man, exp = map(int, x.mid().man_exp())
        excess = max(man.bit_length() - self.fmt.precision, 0)
        return arb(round(Fraction(man, 1 << excess))) * arb(2) ** (exp + excess)


def _told(told: Any) -> Array:
    return np.asarray(told, dtype=bool)


def _kept(result: Array, holds: Callable[..., bool], *operands: Array) -> Array:
    """Tell which results are as they are: zeros, and exact ones of which it ``holds``."""
    kept = np.array(list(map(arb.is_exact, result.ravel().tolist())), dtype=bool)
    if kept.any():
        each = [np.broadcast_to(a, result.shape).ravel() for a in (result, *operands)]
        for i in np.flatnonzero(kept).tolist():
            x, *given = (a[i] for a in each)
            kept[i] = x.is_zero() or holds(x, *given)
    return kept.reshape(result.shape)


@functools.cache
def _limits(fmt: Format) -> tuple[Callable[..., bool], Callable[..., Array]]:
    """Give whether a format holds an exact number, and what becomes of balls outside of its range.

    What may be subnormal may be flushed to zero; from the overflow threshold on a number is anything. What
    is ``kept`` is as it was before it was widened.
    """
    normal, overflow = arb(2) ** fmt.emin, BALLS.exact(fmt.overflow)
    flushed, line = arb(0, normal), arb(0, arb.pos_inf())

    def held(x: Any) -> bool:
        return bool(normal <= abs(x) < overflow and x.man_exp()[0].bit_length() <= fmt.precision)

    def limited(x: Array, wide: Array, kept: Array) -> Array:
        small = ~_told(np.abs(x) >= normal)
        wide = np.where(small, wide + flushed, wide) if small.any() else wide
        over = ~_told(np.abs(wide) < overflow)
        if over.any():
            is_finite = are_finite(np.asarray(x, dtype=object))  # one number of a 0-d array
            wide = np.where(over, np.where(is_finite, line, x), wide)
        return np.where(kept, x, wide) if kept.any() else wide

    return held, limited


def _narrower(fmt: Format, widest: Format) -> bool:
    return fmt.precision < widest.precision or fmt.emin > widest.emin


@functools.cache
def rounded(fmt: Format, widest: Format | None = None) -> Arithmetic:
    """Give ball arithmetic whose every operation is widened by the roundings of a format.

    A number that fl(x ∘ y) = (x ∘ y)(1 + δ), |δ| ≤ k·u, can give lies in the ball, whatever floats
    the operands' balls stand for: running error analysis (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3) with intervals. A sum of n terms in any order, or n products
    and their sum, is widened by n·u/(1 - n·u) of the sum of magnitudes (§3.1, §4.2). A result that may be
    subnormal is widened by the smallest normal number, since libraries and devices may flush it to
    zero. From the overflow threshold on the ball is the whole line. Exact products that the format
    holds stay exact; a sum of two is widened by u of both terms, not of their sum, because fused
    kernels scale terms before they add them. A quotient may be a product with the rounded reciprocal, two
    roundings: XLA and other compilers divide by constants so, and LAPACK by pivots. What is cast to a
    format of fewer digits or less range rounds once more, as that one does.

    A program of a ``widest`` format computes some numbers in narrower ones; what it computes in wider ones is
    taken for rounded to that.
    """
    whole = widest or fmt
    u, zero = arb(fmt.unit_roundoff), arb(0)
    held, limited = _limits(fmt)
    own: dict[str, Callable[..., Array]] = {}

    def about(units: Any) -> Any:
        return arb(1, units * u)

    def is_held(x: Any, *operands: Any) -> bool:
        return held(x) and all(o.is_exact() for o in operands)

    def rounding(row: Operation) -> Callable[..., Array]:
        wider, beside = about(row.units), arb(0, row.units * u) if row.rooted else zero

        def operate(*operands: Array) -> Array:
            x = applied(BALLS, row.name, operands)
            once = row.units == CORRECT
            kept = _kept(x, is_held, *operands) if once else _told(x == zero)
            return limited(x, x * wider + beside if row.rooted else x * wider, kept)

        return operate

    own |= {row.name: rounding(row) for row in TABLE if row.units != EXACT}

    def adding(function: np.ufunc) -> Callable[..., Array]:
        once = about(1)

        def operate(x: Array, y: Array) -> Array:
            alone = _told(x == zero) | _told(y == zero)
            return limited(function(x, y), function(x * once, y * once), alone)

        return operate

    largest = arb(2) ** -fmt.emin  # beyond it a reciprocal may be flushed to zero

    def divide(x: Array, y: Array) -> Array:
        def is_halved(quotient: Any, x: Any, y: Any) -> bool:
            exact = x.is_exact() and y.is_exact() and abs(y) <= largest
            return exact and abs(y.man_exp()[0]) == 1 and held(quotient)

        quotient = applied(BALLS, "divide", (x, y))
        wide = quotient * about(2 / (1 - 2 * u))
        beyond = ~_told(np.abs(y) <= largest)
        wide = np.where(beyond, wide + x * arb(0, 1 / largest), wide) if beyond.any() else wide
        return limited(quotient, wide, _kept(quotient, is_halved, x, y))

    own |= {"add": adding(np.add), "subtract": adding(np.subtract), "divide": divide}

    def accumulate(function: Callable[..., Array], *operands: Array) -> Array:
        x, size = function(*operands), function(*map(np.abs, operands))
        terms = function(*(1.0 - _told(a == zero) for a in operands))
        roundings = np.asarray(terms, dtype=np.int64) - (len(operands) == 1)
        units = {n: arb(0, n * u / (1 - n * u)) for n in np.unique(roundings).tolist()}
        each = boxed([units[n] for n in roundings.ravel().tolist()], roundings.shape)
        return limited(x, x + size * each, roundings <= 0)

    def perturbed(a: Array) -> Array:
        """Widen a matrix by the backward error of elimination with partial pivoting.

        |ΔA| ≤ n·γ_3n·ρ·max|A| (Higham §9.3), with growth ρ ≤ n: only contrived matrices exceed it.
        """
        n = len(a)
        largest = max((x.abs_upper() for x in a.ravel()), default=arb(0))
        slack = arb(0, (3 * n**3 * u * largest).abs_upper())
        return a + slack  # type: ignore[no-any-return]  # an object array

    def constant(value: Any) -> Any:
        x = BALLS.exact(value)  # a constant of the program is rounded when it meets the format
        if not abs(x) >= arb(2) ** fmt.emin or not x.is_finite() or (x.is_exact() and held(x)):
            return x
        return limited(boxed([x], ()), boxed([x * about(1)], ()), np.zeros((), bool))[()]

    def cast(values: Array, to: Format) -> Array:
        if not _narrower(to, fmt):
            return values
        holds, limits = _limits(to)
        return limits(values, values * arb(1, to.unit_roundoff), _kept(values, holds))

    return BALLS.deriving(
        name=f"Arb rounded to {fmt.name}",
        exact=constant,
        functions=BALLS.functions | {name: _of_one(function) for name, function in own.items()},
        accumulate=accumulate,
        format=fmt,
        cast=cast,
        within=lambda to: rounded(to, whole) if _narrower(to, whole) else rounded(whole),
        solve=lambda a, b: BALLS.solve(perturbed(a), b),
        det=lambda a: BALLS.det(perturbed(a)),
        at_once=lambda name, operands: own[name](*operands) if name in own else None,
    )


def _of_one(function: Callable[..., Array]) -> Callable[..., Any]:
    """Give a function of arrays as one of elements."""
    return lambda *operands: np.asarray(function(*(boxed([x], ()) for x in operands)))[()]


@functools.cache
def _decided(fmt: Format, widest: Format) -> Arithmetic:
    """Give rounded arithmetic in which extrema and magnitudes are branches, undecided as others are."""

    def where(decided: Callable[..., bool], function: Callable[..., Any]) -> Callable[..., Any]:
        def choose(*operands: Any) -> Any:
            if not decided(*operands):
                raise Undecided("a branch of an extremum or a magnitude")
            return function(*operands)

        return choose

    arithmetic = rounded(fmt) if fmt is widest else rounded(fmt, widest)
    own = dict.fromkeys(("absolute", "fabs"), where(lambda x: not x.contains(0), abs))
    for name in ("maximum", "minimum"):
        own[name] = where(lambda x, y: x is y or not x.overlaps(y), arithmetic.functions[name])
    return arithmetic.deriving(
        functions=arithmetic.functions | own,
        at_once=arithmetic.at_once,
        within=lambda to: _decided(to if _narrower(to, widest) else widest, widest),
    )


def takes_one_branch(program: Program, x: Sequence[Any], fmt: Format) -> bool:
    """Tell whether no rounding of its steps, nor a move that a format cannot hold, takes another branch."""
    tiny, arithmetic = arb(0, arb(2) ** (fmt.smallest_exponent - UNHELD)), _decided(fmt, fmt)
    given = [
        PreciseArray(b.values + tiny, arithmetic) if isinstance(b, PreciseArray) else b for b in x
    ]
    try:
        program(*given)
    except Exception:  # noqa: BLE001 - undecided ones, or code that fails beside the point
        return False
    return True
