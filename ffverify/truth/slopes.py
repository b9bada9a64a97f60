"""Exact slopes of a whole traced program along a direction, at any size.

`ffverify.truth.derivatives` measures single numbers with everything that a verdict needs. ``slopes`` is its
counterpart for screening: every result of a program, differentiated along one direction through
all inputs, for four runs of the program and nothing more. ``along`` measures the truth of one
projection ⟨weights, program⟩ along a direction, with the sensitivity that its bound needs.
Derivatives are the same high-precision central differences (`ffverify.truth.derivatives` has their error).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray, batch, row_of
from ffverify.exact.elements import Undecided, arb, are_finite
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, at_rows, in_halves, together

from . import adaptive
from . import derivatives as truth
from .derivatives import CEILING, FIRST_PRECISION, Truth

Weights = Sequence[Array | None]
T = TypeVar("T")

EACH = 1024
CONSTANT_PATTERNS = 2
_SPARE = 16  # digits beyond the format's: 8 are asked for, 8 pay for a few hundred roundings
# Bits with which many points are tried at first: tails down to 2^-70 of what they cancel against are narrow.
_COARSE = 192
_HOPELESS = 3  # doublings after which a slope that is still undefined is taken for undefined


class Unresolved(ArithmeticError):
    """A slope that no precision up to the ceiling decides."""


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
    """Run a program in balls; widen the precision while a branch is undecided.

    Raises
    ------
    Unresolved
        If a branch stays undecided up to the ceiling.
    """
    while bits <= CEILING:
        try:
            with BALLS.precision(bits):
                return vector(*inputs.balls).values  # type: ignore[no-any-return]  # an object array
        except Undecided as undecided:
            last = str(undecided)
            bits *= 2
    raise Unresolved(last)


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
    a kink. ``here`` is the program's exact result, if it is known already.

    Raises
    ------
    Unresolved
        If a branch stays undecided up to the ceiling.
    """
    bits = _first_precision(_smallest(inputs, directions), fmt.precision + _SPARE)
    rounds, last = 0, ""
    jumps: Array | None = None
    found: Slopes | None = None
    while bits <= CEILING:
        with BALLS.precision(bits):
            try:
                stencil, half = _stencil(
                    vector, inputs, directions, bits, here=here if bits == FIRST_PRECISION else None
                )
            except Undecided as undecided:
                last = str(undecided)
                bits *= 2
                continue
            exact, jump = truth.enclosure(stencil, half)
            known = _narrow_enough(exact, fmt, each=each and bits < EACH)
            kink = np.zeros_like(known) if jumps is None else ~known & adaptive.stays(jump, jumps)
            jumps = jump
            found = Slopes(exact, kink, stencil[1].values)
            known |= kink
            if rounds >= _HOPELESS:
                known |= ~are_finite(exact)
            if known.all():
                break
            rounds += 1
        bits *= 2
    if found is None:
        raise Unresolved(last)
    # At a jump balls stay as wide as they are large: in a sum they would hide every other slope.
    return replace(found, exact=np.where(known, found.exact, arb.nan()))


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
    smallest = [_smallest(*p) for p in zip(points, directions, strict=True)]
    needed = [_first_precision(s, digits) for s in smallest]

    def run(some: Sequence[int], *, coarse: bool = False) -> list[Slopes | None]:
        bits = _COARSE if coarse else max(needed[i] for i in some)
        with BALLS.precision(bits):
            exponents = [_exponent(0 if coarse else smallest[i], bits) for i in some]
            h, half = truth.steps(np.array(exponents))
            moved = [
                _on_stencil(
                    [points[i].arrays[j] for i in some], [directions[i][j] for i in some], h.values
                )
                for j in range(len(points[0].arrays))
            ]
            out = at_rows(vector, moved)
            size = (len(truth.STENCIL), len(some), out.shape[-1])
            values = np.broadcast_to(out.elements, (size[0] * size[1], size[2])).reshape(size)
            each, _ = truth.enclosure([PreciseArray(v, BALLS) for v in values], half)
            here = values[truth.STENCIL.index(0)]
            enough = [_narrow_enough(e, fmt, each=coarse).all() for e in each]
            if coarse:
                enough = [
                    k and adaptive.narrow(v, fmt).all() for k, v in zip(enough, here, strict=True)
                ]
            return [
                Slopes(e, np.zeros(e.shape, bool), v, coarse) if k else None
                for e, v, k in zip(each, here, enough, strict=True)
            ]

    found = in_halves(partial(run, coarse=True), range(len(points)))
    left = [i for i, made in enumerate(found) if made is None and needed[i] > FIRST_PRECISION]
    for length in sorted({needed[i].bit_length() for i in left}):
        alike = [i for i in left if needed[i].bit_length() == length]
        for i, made in zip(alike, in_halves(run, alike), strict=True):
            found[i] = made
    return found


def _on_stencil(arrays: Sequence[Array], directions: Sequence[Array | None], h: Array) -> Any:
    """Give one argument at all points, moved by one step of the stencil after the other, as a batch."""
    moving = [d for d in directions if d is not None]
    if not moving:
        return together([*arrays] * len(truth.STENCIL))
    x = together(arrays).elements
    shift = BALLS.array(np.stack(moving).astype(np.float64)).elements
    shift = shift * h.reshape(-1, *(1,) * (shift.ndim - 1))
    moved = np.concatenate([x + c * shift if c else x for c in truth.STENCIL])
    return PreciseArray(moved, BALLS, len(moved))


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
    smallest = 0 if wide else _smallest(inputs, directions)
    bits = max(bits, _first_precision(smallest, 2 * bits // 3))
    while bits <= CEILING:
        with BALLS.precision(bits):
            try:
                exponent = _exponent(smallest, bits)
                x = [under(arithmetic, b) for b in inputs.balls]
                return central(vector, x, directions, exponent)[0]  # type: ignore[no-any-return]  # an object array
            except Undecided:
                bits *= 2
    return None


def projection_slope(
    vector: Program,
    weights: Array,
    inputs: Inputs,
    directions: Weights,
    bits: int,
    *,
    arithmetic: Arithmetic = BALLS,
) -> Any:
    """Give the slope of ⟨weights, program⟩ at a glance: for bisection, where that suffices."""
    with BALLS.precision(bits):
        return weighted(glance(vector, inputs, directions, bits, arithmetic=arithmetic), weights)


def weighted(each: Array | None, weights: Array) -> Any:
    """Give the weighted sum of the slopes of all results, without those of weight 0; nan without any."""
    used = np.flatnonzero(weights)
    return arb.nan() if each is None else sum((each[used] * weights[used]).tolist(), arb(0))


def slopes_along(
    vector: Program,
    weights: Array,
    inputs: Inputs,
    elements: Sequence[tuple[int, int]],
    bits: int,
    *,
    arithmetic: Arithmetic = BALLS,
) -> list[Any]:
    """Give the slopes of ⟨weights, program⟩ along single elements of the inputs, from one run, at a glance.

    ``elements`` are pairs of an argument and a place in it, raveled. nan where no precision decides.
    """
    if not elements:
        return []
    if (
        len(elements) > 1
        and 2 * len(elements) * sum(a.size for a in inputs.arrays) > truth.TOGETHER
    ):
        middle = len(elements) // 2
        pieces = (elements[:middle], elements[middle:])
        return [
            s for p in pieces
            for s in slopes_along(vector, weights, inputs, p, bits, arithmetic=arithmetic)
        ]  # fmt: skip
    sizes = [float(abs(inputs.arrays[j].ravel()[i])) for j, i in elements]
    scales = np.frexp([min(s, 1.0) if s else 1.0 for s in sizes])[1] - 1
    bits = min(max(bits, bits - int(scales.min(initial=0))), CEILING)
    count, used = len(elements), np.flatnonzero(weights)
    while bits <= CEILING:
        h, half = truth.steps(scales - (bits + scales) // 3)
        with BALLS.precision(bits):
            moved = []
            for j, b in enumerate(inputs.balls):
                mine = [r for r, (k, _) in enumerate(elements) if k == j]
                if not mine:
                    moved.append(under(arithmetic, b))
                    continue
                rows = np.repeat(b.values.ravel()[None], 2 * count, axis=0)
                for r in mine:
                    rows[r, elements[r][1]] += h.values[r]
                    rows[count + r, elements[r][1]] -= h.values[r]
                shape = (2 * count, *b.shape)
                moved.append(PreciseArray(rows.reshape(shape), arithmetic, 2 * count))
            try:
                out = at_rows(vector, moved)
            except Undecided:
                bits *= 2
                continue
            full = np.broadcast_to(out.elements, (2 * count, out.shape[-1]))[:, used]
            apart = (full[:count] - full[count:]) * weights[used]
            return [
                sum(row, arb(0)) * k for row, k in zip(apart.tolist(), half.values, strict=True)
            ]
    return [arb.nan()] * count


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

    Parameters
    ----------
    growth
        The growth factor g: inputs are moved by g·u to measure how far the slope moves.
    moving
        Per argument, where its elements carry rounding errors that matter (None: nowhere).
    """
    exact, kink, resolved, undefined = arb.nan(), False, False, 0
    before = None
    bits = used = _first_precision(_smallest(inputs, directions), fmt.precision + _SPARE)
    while bits <= CEILING and not resolved and undefined <= _HOPELESS:
        with BALLS.precision(bits):
            try:
                stencil, half = _stencil(program, inputs, directions, bits)
            except Undecided:
                bits *= 2
                continue
            balls, jump = truth.enclosure([y.reshape(1) for y in stencil], half)
            exact, used = balls[0], bits
            narrow = bool(adaptive.narrow_slopes(balls, fmt)[0])
            kink = not narrow and before is not None and bool(adaptive.stays(jump, before)[0])
            before = jump
            resolved = narrow or kink
            undefined += not exact.is_finite()
        bits *= 2

    def measure() -> Array:
        if kink:
            return _object(arb(0))
        with BALLS.precision(used):
            try:
                return _object(
                    _motion(program, inputs, directions, exact.mid(), used, growth, fmt, moving)
                )
            except Undecided:
                return _object(arb.nan())

    return Truth(_object(exact), measure, np.array([kink]), np.array([resolved]), growth=growth)


# ---------------------------------------------------------------------------------------------


def _object(x: Any) -> Array:
    out = np.empty(1, dtype=object)
    out[0] = x
    return out


def _motion(
    program: Program,
    inputs: Inputs,
    directions: Weights,
    slope: Any,
    bits: int,
    growth: int,
    fmt: Format,
    moving: Sequence[Array | None],
) -> Any:
    """Measure how far a slope moves with the inputs (as in `derivatives`, with a term for underflow).

    The program's constants are inputs too: √2 is not a float, and another rounding of it is as right.
    """
    places = [m.ravel().nonzero()[0] if m is not None else np.zeros(0, int) for m in moving]
    count = sum(p.size for p in places)
    patterns = truth.sign_patterns(count) if count else np.zeros((0, 0))
    size, least = growth * fmt.unit_roundoff, arb(growth) * arb(2) ** fmt.smallest_exponent
    total = arb(0)
    if len(patterns):
        moved = with_rounding(inputs, places, patterns, size, least)
        apart = (
            central(program, moved, directions, _exponent(_smallest(inputs, directions), bits))
            - slope
        )
        # Arb's own square of a ball around 0 is nan.
        squares = [(a * a).abs_upper() for a in apart.tolist()]
        # No less than any of the moves did: beyond a kink there are other sensitivities.
        total = max(sum(squares, arb(0)) * count / len(patterns), *squares)

    def moved_by(arithmetic: Arithmetic) -> Any:
        x = [under(arithmetic, b) for b in inputs.balls]
        (apart,) = (
            central(program, x, directions, _exponent(_smallest(inputs, directions), bits)) - slope
        )
        return apart * apart

    total += sum(s * n for s, n in with_constants_moved(fmt, growth, moved_by)) / CONSTANT_PATTERNS
    return total.abs_upper().sqrt()


def with_constants_moved(
    fmt: Format, units: float, run: Callable[[Arithmetic], T]
) -> list[tuple[T, int]]:
    """Give what comes out with a program's constants moved, and how many there are; nothing without any."""
    found = []
    for pattern in range(CONSTANT_PATTERNS):
        arithmetic, met = constants_moved(fmt, units, pattern)
        out = run(arithmetic)
        if not met:
            break
        found.append((out, len(met)))
    return found


def under(arithmetic: Arithmetic, x: Any) -> Any:
    """Give a precise array in an arithmetic, and what is none as it is."""
    if not isinstance(x, PreciseArray) or x.arithmetic is arithmetic:
        return x
    return PreciseArray(x.elements, arithmetic, x.rows)


def constants_moved(fmt: Format, units: float, pattern: int) -> tuple[Arithmetic, set[Any]]:
    """Give ball arithmetic that moves a program's own constants by units·u, and those it has met.

    A constant that fills its format, such as √2 or 0.1, stands for a number that was rounded; one of
    few digits is meant as it is. Signs are drawn by the constant's digits and the pattern.
    """
    met: set[Any] = set()

    def exact(value: Any) -> Any:
        x = BALLS.exact(value)
        if not x.is_exact() or not x.is_finite() or x.is_zero():
            return x
        digits = int(abs(x.man_exp()[0]))
        if digits.bit_length() <= fmt.precision // 2:
            return x
        met.add(digits)
        return x * (1 + (-1) ** (hash((digits, pattern)) & 1) * arb(units * fmt.unit_roundoff))

    return BALLS.deriving(exact=exact), met


def with_rounding(
    inputs: Inputs, places: Sequence[Array], patterns: Array, size: float, least: Any
) -> list[Any]:
    """Move the elements at ``places`` by ``size`` relative plus ``least``: a row for each pattern."""
    out, start = [], 0
    up, down = 1 + arb(size), 1 - arb(size)
    for x, p in zip(inputs.balls, places, strict=True):
        if p.size:
            values = np.repeat(x.values.ravel()[None], len(patterns), axis=0)
            positive = patterns[:, start : start + p.size] > 0
            here = values[:, p]
            values[:, p] = here * np.where(positive, up, down) + np.where(positive, least, -least)
            start += p.size
            shape = (len(patterns), *x.shape)
            x = PreciseArray(values.reshape(shape), BALLS, len(patterns))  # noqa: PLW2901 - moved, else as it was
        out.append(x)
    return out


def _smallest(inputs: Inputs, directions: Weights) -> int:
    """Give s, 2^s the smallest coordinate in units of how far it moves, or 1."""
    smallest = 0
    for x, v in zip(inputs.arrays, directions, strict=True):
        if v is not None:
            moved = (v != 0) & (x != 0)
            ratio = np.abs(x[moved].astype(np.float64)) / np.abs(v[moved].astype(np.float64))
            ratio = ratio[ratio > 0]
            if ratio.size:
                smallest = min(smallest, int(np.frexp(ratio.min())[1]) - 1)
    return smallest


def _exponent(smallest: int, bits: int) -> Array:
    """Give the exponent of the step h = 2^(s - k), k = (p + s) / 3 at p bits, 2^s the smallest coordinate.

    A difference of values of size 1 is good to 2^-p / h, and a step of 2^-k of the smallest
    coordinate leaves out what is of the size of 2^-2k: this k makes the two equal.
    """
    return np.asarray(smallest - (bits + smallest) // 3)


def _first_precision(smallest: int, digits: int) -> int:
    """Give the bits with which a slope of the size of the values comes out to so many digits, base 2.

    It is good to 2(p + s) / 3 (see `_exponent`).
    """
    needed = 3 * digits // 2 - smallest
    return min(max(FIRST_PRECISION, needed), CEILING // 2)


def _run(
    program: Program, x: Sequence[Any], directions: Weights, exponent: Array, at: Sequence[int]
) -> tuple[list[Any], PreciseArray]:
    """Run a program at x + c·h·v for every c; give 1 / 2h too."""
    h, half = truth.steps(exponent)
    shifts = [None if v is None else BALLS.array(v.astype(np.float64)) * h for v in directions]
    return _at_shifts(program, x, shifts, at), half


def _at_shifts(
    program: Program, x: Sequence[Any], shifts: Sequence[Any], at: Sequence[int]
) -> list[Any]:
    """Run a program at x + c·s for every c: as one batch, if it is not too large for that."""
    points = [truth.shifted(x, shifts, c) for c in at]
    if sum(b.size for b in x if isinstance(b, PreciseArray)) * len(at) > truth.TOGETHER:
        return [program(*point) for point in points]
    moved = [
        b if s is None else batch([point[j] for point in points])
        for j, (b, s) in enumerate(zip(x, shifts, strict=True))
    ]
    out = at_rows(program, moved)
    return [row_of(out, i) for i in range(len(at))]


def central(program: Program, x: Sequence[Any], directions: Weights, exponent: Array) -> Array:
    """Give the central differences of a program's result: as many as x has rows, one if it is no batch."""
    h, half = truth.steps(exponent)
    shifts = [None if v is None else BALLS.array(v.astype(np.float64)) * h for v in directions]
    rows = max(b.rows for b in x if isinstance(b, PreciseArray))
    if not rows:
        below, above = _at_shifts(program, x, shifts, (-1, 1))
        return np.asarray(((above - below) * half).values[None], dtype=object)
    size = sum(b.size for b in x if isinstance(b, PreciseArray))
    if size * rows > truth.TOGETHER and rows > 1:
        parts = [central(program, row_of(list(x), i), directions, exponent) for i in range(rows)]
        return np.concatenate(parts)
    sides = [at_rows(program, truth.shifted(x, shifts, c)) for c in (-1, 1)]
    difference = (sides[1] - sides[0]) * half
    return np.broadcast_to(difference.elements, (rows, *difference.shape))


def _stencil(
    program: Program, inputs: Inputs, directions: Weights, bits: int, *, here: Array | None = None
) -> tuple[list[Any], PreciseArray]:
    """Run a program on the stencil of `truth.enclosure`; what it gives at the point may be known."""
    at = truth.STENCIL if here is None else [c for c in truth.STENCIL if c]
    exponent = _exponent(_smallest(inputs, directions), bits)
    values, half = _run(program, inputs.balls, directions, exponent, at)
    if here is not None:
        values.insert(truth.STENCIL.index(0), PreciseArray(here, BALLS))
    return values, half


def _narrow_enough(balls: Array, fmt: Format, *, each: bool) -> Array:
    """Tell which slopes are known well enough: beside themselves or, unless each, the largest."""
    own: Array = adaptive.narrow_slopes(balls, fmt)
    sizes = [b.abs_upper() for b in balls[own] if b.is_finite()]
    if each or not sizes:
        return own
    margin = max(sizes) * arb(2) ** -(fmt.precision + 8)
    near: Array = np.array([bool(b.is_finite() and b.rad() <= margin) for b in balls], dtype=bool)

    return own | near
