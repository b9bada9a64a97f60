"""Exact slopes of a whole traced program along a direction, at any size.

`ffverify.truth.derivatives` measures single numbers with everything that a verdict needs. ``slopes`` is its
counterpart for screening: every result of a program, differentiated along one direction through
all inputs, for four runs of the program and nothing more. ``along`` measures the truth of one
projection ⟨weights, program⟩ along a direction, with the sensitivity that its bound needs.
Derivatives are the same high-precision central differences (`ffverify.truth.differences` has their error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray
from ffverify.exact.elements import Undecided, arb, are_finite
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, in_halves, together

from .adaptive import CEILING, FIRST_PRECISION, Truth, adapt, decided, narrow, narrow_slopes
from .differences import TOGETHER, Weights, central, enclosure, exponent, motion, smallest_at

T = TypeVar("T")

EACH = 1024
CONSTANT_PATTERNS = 2
_SPARE = 16  # digits beyond the format's: 8 are asked for, 8 pay for a few hundred roundings
# Bits with which many points are tried at first: tails down to 2^-70 of what they cancel against are narrow.
_COARSE = 192


@dataclass(frozen=True)
class Slopes:
    """Directional derivatives of all results of a program, raveled and joined.

    Attributes
    ----------
    exact
        Object array of balls; at a kink the hull of the one-sided derivatives, nan where no precision tells.
    kink
        Where left and right derivative differ.
    value
        Object array of balls: the program's own results.
    wide
        Whether steps that are small beside 1 were small enough.
    """

    exact: Array
    kink: Array
    value: Array
    wide: bool = False

    @property
    def smooth(self) -> Array:
        """Where there is one slope, and a finite one."""
        return are_finite(self.exact) & ~self.kink


@dataclass(frozen=True)
class Inputs:
    """A point as ndarrays, and as balls: floats are exact at any precision, so these are made once."""

    arrays: Sequence[Array]

    @cached_property
    def balls(self) -> list[Any]:
        """The floating arrays as precise arrays, the others as they are."""
        return [BALLS.array(a) if is_floating(a) else a for a in self.arrays]


def exact_value(vector: Program, inputs: Inputs, *, bits: int = FIRST_PRECISION) -> Array:
    """Run a program in balls, with more bits while a branch is undecided (see `decided`)."""
    return decided(lambda _: vector(*inputs.balls).values, bits)


def slopes(
    vector: Program,
    inputs: Inputs,
    directions: Weights,
    fmt: Format,
    *,
    here: Array | None = None,
    each: bool = False,
) -> Slopes:
    """Differentiate all results of a program along a direction.

    Precision doubles until every slope is narrow: beside the largest one, or with ``each`` beside
    itself (up to `EACH` bits: a slope of exactly 0 may never be). A jump that survives a doubling is
    a kink. ``here`` is the program's exact result, if it is known already. It raises as `adapt` does.
    """
    least = smallest_at(inputs.arrays, directions)
    value: Array = np.zeros(0)

    def evaluate(_row: Array, bits: int) -> tuple[Array, Array]:
        nonlocal value, each
        known, each = here if bits == FIRST_PRECISION else None, each and bits < EACH
        exact, jump, value = enclosure(
            vector, inputs.balls, directions, exponent(least, bits), known
        )
        return exact, jump

    def enough(balls: Array, fmt: Format) -> Array:
        return _narrow_enough(balls[0], fmt, each=each)[None]

    bits = _first_precision(least, fmt.precision + _SPARE)
    truth = adapt(
        evaluate, lambda _row, balls, _bits: balls, 1, fmt, bits=bits, growth=0, enough=enough
    )
    # At a jump balls stay as wide as they are large: in a sum they would hide every other slope.
    exact = np.where(truth.resolved, truth.exact, arb.nan())
    return Slopes(exact[0], truth.kink[0], value[0])


def slopes_together(
    vector: Program, points: Sequence[Inputs], directions: Sequence[Weights], fmt: Format
) -> list[Slopes | None]:
    """Give `slopes` of one program at many points; None at kinks, and where a branch is undecided.

    Few programs change within 2^-64 of a tiny coordinate: all points are tried with few bits, and with
    steps that are small beside 1. A kink or a pole beside the point shows in the third difference, and in the
    balls what cancels: where a slope or a value is not narrow beside itself, a point runs again with steps
    that are small beside its smallest coordinate, together with those that need about as many bits.
    """
    digits = fmt.precision + _SPARE
    least = [smallest_at(p.arrays, d) for p, d in zip(points, directions, strict=True)]
    needed = [_first_precision(s, digits) for s in least]

    def run(some: Sequence[int], *, coarse: bool = False) -> list[Slopes | None]:
        bits = _COARSE if coarse else max(needed[i] for i in some)
        with BALLS.precision(bits):
            exponents: Any = np.array([exponent(0 if coarse else least[i], bits) for i in some])
            x: Sequence[Any]
            if len(some) == 1:  # matrices of balls are whole alone
                x, along, exponents = points[some[0]].balls, directions[some[0]], exponents[0]
            else:
                x, along = (
                    [None if a[0] is None else together(a) for a in zip(*each, strict=True)]
                    for each in ([points[i].arrays for i in some], [directions[i] for i in some])
                )
            each, _, value = enclosure(vector, x, along, exponents)
            found: list[Slopes | None] = []
            for e, v in zip(each, value, strict=True):
                known = _narrow_enough(e, fmt, each=coarse) & (not coarse or narrow(v, fmt))
                made = Slopes(e, np.zeros(e.shape, bool), v, coarse)
                found.append(made if known.all() else None)
            return found

    found = in_halves(partial(run, coarse=True), range(len(points)))
    left = [i for i, made in enumerate(found) if made is None and needed[i] > FIRST_PRECISION]
    for length in sorted({needed[i].bit_length() for i in left}):
        alike = [i for i in left if needed[i].bit_length() == length]
        for i, made in zip(alike, in_halves(run, alike), strict=True):
            found[i] = made
    return found


def glance(
    vector: Program,
    inputs: Inputs,
    directions: Weights,
    bits: int,
    *,
    arithmetic: Arithmetic = BALLS,
    wide: bool = False,
) -> Array | None:
    """Give the slopes of all results from two runs, without an error bound; None if undecided.

    ``wide`` steps are small beside 1, others beside the smallest coordinate.
    """
    least = 0 if wide else smallest_at(inputs.arrays, directions)
    x = [under(arithmetic, b) for b in inputs.balls]
    try:
        bits = max(bits, _first_precision(least, 2 * bits // 3))
        return decided(lambda p: central(vector, x, directions, exponent(least, p)), bits)[0]  # type: ignore[no-any-return]  # an object array
    except Undecided:
        return None


def projection_slope(
    vector: Program, weights: Array, inputs: Inputs, directions: Weights, bits: int
) -> Any:
    """Give the slope of ⟨weights, program⟩ at a glance: for bisection, where that suffices."""
    with BALLS.precision(bits):
        return weighted(glance(vector, inputs, directions, bits), weights)


def weighted(each: Array | None, weights: Array) -> Any:
    """Give the weighted sum of the slopes of all results, without those of weight 0; nan without any."""
    used = np.flatnonzero(weights)
    return arb.nan() if each is None else sum((each[used] * weights[used]).tolist(), arb(0))


def slopes_along(
    vector: Program, weights: Array, inputs: Inputs, elements: Sequence[tuple[int, int]], bits: int
) -> list[Any]:
    """Give the slopes of ⟨weights, program⟩ along single elements of the inputs, from one run, at a glance.

    ``elements`` are pairs of an argument and a place in it, raveled. nan where no precision decides.
    """
    if not elements:
        return []
    most = max(TOGETHER // (2 * sum(a.size for a in inputs.arrays)), 1)
    if len(elements) > most:
        pieces = [elements[i : i + most] for i in range(0, len(elements), most)]
        return [s for p in pieces for s in slopes_along(vector, weights, inputs, p, bits)]
    sizes = [float(abs(inputs.arrays[j].ravel()[i])) for j, i in elements]
    scales = np.frexp([min(s, 1.0) if s else 1.0 for s in sizes])[1] - 1
    bits = min(max(bits, bits - int(scales.min(initial=0))), CEILING)
    units = [np.zeros((len(elements), a.size)) for a in inputs.arrays]
    for row, (j, i) in enumerate(elements):
        units[j][row, i] = 1.0

    def run(bits: int) -> list[Any]:
        directions = [
            together(list(u.reshape(len(u), *a.shape))) if u.any() else None
            for u, a in zip(units, inputs.arrays, strict=True)
        ]
        each = central(vector, inputs.balls, directions, exponent(scales, bits))
        return [weighted(slopes, weights) for slopes in each]

    try:
        return decided(run, bits)
    except Undecided:
        return [arb.nan()] * len(elements)


def along(
    program: Program,
    inputs: Inputs,
    directions: Weights,
    fmt: Format,
    *,
    growth: int,
    moving: Sequence[Array | None],
) -> Truth:
    """Measure the truth of a scalar program's slope along a direction.

    Inputs are moved by g·u, g the ``growth``, to measure how far the slope moves: where ``moving`` tells, per
    argument, that elements carry rounding errors that matter (None: nowhere).
    """
    least, size = smallest_at(inputs.arrays, directions), growth * fmt.unit_roundoff
    places = [np.zeros(0, int) if m is None else np.flatnonzero(m) for m in moving]

    def evaluate(_row: Array, bits: int) -> tuple[Array, Array]:
        return enclosure(program, inputs.balls, directions, exponent(least, bits))[:2]

    def move(_row: Array, slope: Array, bits: int) -> Array:
        """Measure how far the slope moves with the inputs, and with the program's constants.

        They are inputs too: √2 is not a float, and another rounding of it is as right.
        """

        def run(x: Sequence[Any]) -> Array:
            return central(program, x, directions, exponent(least, bits))

        def moved_by(arithmetic: Arithmetic) -> Any:
            apart = run([under(arithmetic, b) for b in inputs.balls])[0] - slope[0].mid()
            return apart * apart

        underflow = arb(growth) * arb(2) ** fmt.smallest_exponent
        far = motion(run, slope, inputs.balls, places, size, underflow)
        found = with_constants_moved(fmt, growth, moved_by)
        total = far[0] * far[0] + sum(s * n for s, n in found) / CONSTANT_PATTERNS
        return BALLS.array([total.abs_upper().sqrt()]).values

    bits = _first_precision(least, fmt.precision + _SPARE)
    return adapt(evaluate, move, 1, fmt, bits=bits, growth=growth, enough=_known)


def with_constants_moved(
    fmt: Format, units: float, run: Callable[[Arithmetic], T]
) -> list[tuple[T, int]]:
    """Give what comes out with a program's own constants moved by units·u, and how many there are.

    A constant that fills its format, such as √2 or 0.1, stands for a number that was rounded; one of
    few digits is meant as it is. Signs are drawn by the constant's digits, in each of a few patterns.
    Without any constant there is nothing.
    """
    found: list[tuple[T, int]] = []
    met: set[int] = set()

    def exact(value: Any) -> Any:
        x = BALLS.exact(value)
        if not x.is_exact() or not x.is_finite() or x.is_zero():
            return x
        digits = int(abs(x.man_exp()[0]))
        if digits.bit_length() <= fmt.precision // 2:
            return x
        met.add(digits)
        return x * (1 + (-1) ** (hash((digits, len(found))) & 1) * arb(units * fmt.unit_roundoff))

    while len(found) < CONSTANT_PATTERNS:
        met.clear()
        out = run(BALLS.deriving(exact=exact))
        if not met:
            break
        found.append((out, len(met)))
    return found


def under(arithmetic: Arithmetic, x: Any) -> Any:
    """Give a precise array in an arithmetic, and what is none as it is."""
    if not isinstance(x, PreciseArray) or x.arithmetic is arithmetic:
        return x
    return PreciseArray(x.elements, arithmetic, x.rows)


def _first_precision(least: int, digits: int) -> int:
    """Give the bits with which a slope of the size of the values comes out to so many digits, base 2.

    It is good to 2(p + s) / 3 (see `exponent`).
    """
    needed = 3 * digits // 2 - least
    return min(max(FIRST_PRECISION, needed), CEILING // 2)


def _known(balls: Array, fmt: Format) -> Array:
    """Tell which slopes are known, one of them to overflow as well as any: vertical ones are none.

    They grow as the step shrinks, and are about as wide as they are large.
    """
    huge = BALLS.exact(fmt.overflow)
    vertical = [
        bool(b.abs_lower() >= huge and b.rel_accuracy_bits() < fmt.precision) for b in balls.ravel()
    ]
    known: Array = narrow_slopes(balls, fmt) & ~np.array(vertical, dtype=bool).reshape(balls.shape)
    return known


def _narrow_enough(balls: Array, fmt: Format, *, each: bool) -> Array:
    """Tell which slopes are known well enough: beside themselves or, unless each, the largest."""
    own = _known(balls, fmt)
    sizes = [b.abs_upper() for b in balls[own] if b.is_finite()]
    if each or not sizes:
        return own
    margin = max(sizes) * arb(2) ** -(fmt.precision + 8)
    own |= np.array([bool(b.is_finite() and b.rad() <= margin) for b in balls], dtype=bool)
    return own
