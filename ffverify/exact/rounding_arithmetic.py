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
from .arrays import Arithmetic, PreciseArray
from .elements import Undecided, arb
from .formats import Array, Format
from .operations import EXACT, TABLE
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


@functools.cache
def _roundings(fmt: Format) -> tuple[Callable[[Any], bool], Callable[[Any, Any, Any], Any]]:
    """Give whether a format holds a number, and a ball widened by so many units of a size."""
    u = arb(fmt.unit_roundoff)
    normal = arb(2) ** fmt.emin
    overflow = BALLS.exact(fmt.overflow)
    line = arb(0, arb.pos_inf())

    def held(x: Any) -> bool:
        return bool(
            x.is_exact()
            and normal <= abs(x) < overflow
            and x.man_exp()[0].bit_length() <= fmt.precision
        )

    def widened(x: Any, units: Any, size: Any) -> Any:
        if not x.is_finite():
            return x
        slack = units * u * size
        if not abs(x) >= normal:
            slack = slack + normal
        x = x + arb(0, slack.abs_upper())
        return x if x.abs_upper() < overflow else line

    return held, widened


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
    """

    fmt: Format
    errors: Callable[[int], float] | None
    share: float = 1.0
    to_nearest: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._integers = arb(2) ** self.fmt.precision
        self._steps: list[tuple[Any, Any]] = []
        self._step = 0
        functions = {name: self._erring(function) for name, function in _ROUNDING.items()}
        self._arithmetic = BALLS.deriving(
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
            else PreciseArray(erring(b.values) if m and self.errors else b.values, self._arithmetic)
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
        near = self._nearest(x) if self.to_nearest else x
        if self.errors is not None:
            near = near + self.errors(len(self._steps)) * self._size(near, terms)
        return near if self.share == 1 else x + self.share * (near - x)

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


@functools.cache
def rounded(fmt: Format) -> Arithmetic:
    """Give ball arithmetic whose every operation is widened by the roundings of a format.

    A number that fl(x ∘ y) = (x ∘ y)(1 + δ), |δ| ≤ k·u, can give lies in the ball, whatever floats
    the operands' balls stand for: running error analysis (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3) with intervals. A sum of n terms in any order, or n products
    and their sum, is widened by n·u/(1 - n·u) of the sum of magnitudes (§3.1, §4.2). A result that may be
    subnormal is widened by the smallest normal number, since libraries and devices may flush it to
    zero. From the overflow threshold on the ball is the whole line. Exact products that the format
    holds stay exact; a sum of two is widened by u of both terms, not of their sum, because fused
    kernels scale terms before they add them. A quotient may be a product with the rounded reciprocal, two
    roundings: XLA and other compilers divide by constants so. What is cast to a narrower format rounds
    once more, as that one does.
    """
    u, normal = arb(fmt.unit_roundoff), arb(2) ** fmt.emin
    held, widened = _roundings(fmt)

    def rounding(units: int, function: Callable[..., Any], base: int = 0) -> Callable[..., Any]:
        def operate(*operands: Any) -> Any:
            x = function(*operands)
            if x.is_zero() or (units == 1 and held(x) and all(o.is_exact() for o in operands)):
                return x
            return widened(x, units, x.abs_upper() + base)

        return operate

    def adding(function: Callable[..., Any]) -> Callable[..., Any]:
        def operate(x: Any, y: Any) -> Any:
            total, alone = function(x, y), x.is_zero() or y.is_zero()
            return total if alone else widened(total, 1, x.abs_upper() + y.abs_upper())

        return operate

    def divide(x: Any, y: Any) -> Any:
        quotient = BALLS.functions["divide"](x, y)
        halving = y.is_exact() and abs(y.man_exp()[0]) == 1 if y.is_finite() else False
        if quotient.is_zero() or (halving and x.is_exact() and held(quotient)):
            return quotient
        return widened(quotient, 2 / (1 - 2 * u), quotient.abs_upper())

    own = {"add": adding(operator.add), "subtract": adding(operator.sub), "divide": divide}
    functions = BALLS.functions | {
        row.name: rounding(row.units, _ROUNDING[row.name], int(row.rooted))
        for row in TABLE if row.units != EXACT
    }  # fmt: skip
    present = np.frompyfunc(lambda x: arb(0 if x.is_zero() else 1), 1, 1)

    def accumulate(function: Callable[..., Array], *operands: Array) -> Array:
        def widen(x: Any, size: Any, terms: Any) -> Any:
            roundings = terms if len(operands) > 1 else terms - 1
            return widened(x, roundings / (1 - roundings * u), size) if roundings > 0 else x

        result, size = function(*operands), function(*map(_sizes_of, operands))
        terms = function(*(present(a) for a in operands))
        return np.asarray(np.frompyfunc(widen, 3, 1)(result, size, terms), dtype=object)

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
        return x if not abs(x) >= normal or not x.is_finite() or held(x) else widened(x, 1, abs(x))

    def cast(values: Array, to: Format) -> Array:
        if to.precision >= fmt.precision:
            return values
        holds, widen = _roundings(to)
        once = np.frompyfunc(
            lambda x: x if x.is_zero() or holds(x) else widen(x, 1, x.abs_upper()), 1, 1
        )
        return np.asarray(once(values), dtype=object)

    return BALLS.deriving(
        name=f"Arb rounded to {fmt.name}",
        exact=constant,
        functions=functions | own,
        accumulate=accumulate,
        cast=cast,
        solve=lambda a, b: BALLS.solve(perturbed(a), b),
        det=lambda a: BALLS.det(perturbed(a)),
    )


@functools.cache
def _decided(fmt: Format) -> Arithmetic:
    """Give rounded arithmetic in which extrema and magnitudes are branches, undecided as others are."""

    def where(decided: Callable[..., bool], function: Callable[..., Any]) -> Callable[..., Any]:
        def choose(*operands: Any) -> Any:
            if not decided(*operands):
                raise Undecided("a branch of an extremum or a magnitude")
            return function(*operands)

        return choose

    functions = rounded(fmt).functions
    own = dict.fromkeys(("absolute", "fabs"), where(lambda x: not x.contains(0), abs))
    for name in ("maximum", "minimum"):
        own[name] = where(lambda x, y: x is y or not x.overlaps(y), functions[name])
    return rounded(fmt).deriving(functions=functions | own)


def takes_one_branch(program: Program, x: Sequence[Any], fmt: Format) -> bool:
    """Tell whether no rounding of its steps, nor a move that a format cannot hold, takes another branch."""
    tiny, arithmetic = arb(0, arb(2) ** (fmt.smallest_exponent - UNHELD)), _decided(fmt)
    given = [
        PreciseArray(b.values + tiny, arithmetic) if isinstance(b, PreciseArray) else b for b in x
    ]
    try:
        program(*given)
    except Exception:  # noqa: BLE001 - undecided ones, or code that fails beside the point
        return False
    return True
