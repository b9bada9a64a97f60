"""Exact slopes of a whole traced program along a direction, at any size.

`ffverify.truth` measures single numbers with everything that a verdict needs. ``slopes`` is its
counterpart for screening: every result of a program, differentiated along one direction through
all inputs, for five runs of the program and nothing more. ``along`` measures the truth of one
projection ⟨weights, program⟩ along a direction, with the sensitivity that its bound needs.
Derivatives are the same high-precision central differences (see `ffverify.truth` for their error).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import adaptive, truth
from .formats import Array, Format, is_floating
from .precise import BALLS, PreciseArray, Undecided, arb
from .truth import CEILING, FIRST_PRECISION, Program, Truth

Weights = Sequence[Array | None]

EACH = 1024
_HOPELESS = 3  # doublings after which a slope that is still undefined is taken for undefined


class Unresolved(ArithmeticError):
    """A slope that no precision up to the ceiling decides."""


@dataclass(frozen=True)
class Slopes:
    """Directional derivatives of all results of a program, raveled and joined.

    Attributes
    ----------
    exact
        Object array of balls; at a kink the hull of the one-sided derivatives.
    kink
        Where left and right derivative differ.
    value
        Object array of balls: the program's own results.
    """

    exact: Array
    kink: Array
    value: Array


@dataclass(frozen=True)
class Inputs:
    """A point as ndarrays, and as balls: floats are exact at any precision, so these are made once."""

    arrays: Sequence[Array]

    @cached_property
    def balls(self) -> list[Any]:
        """The floating arrays as precise arrays, the others as they are."""
        return [BALLS.array(a) if is_floating(a) else a for a in self.arrays]


def joined(program: Program, places: Sequence[int] | None = None) -> Program:
    """Give a program whose result is one vector: its results (those at ``places``), raveled."""

    def run(*args: Any) -> PreciseArray:
        results = program(*args)
        results = results if isinstance(results, tuple | list) else (results,)
        chosen = results if places is None else [results[i] for i in places]
        parts = [r.values.ravel() if isinstance(r, PreciseArray) else r for r in chosen]
        arithmetic = next(r.arithmetic for r in (*chosen, *args) if isinstance(r, PreciseArray))
        parts = [
            p if p.dtype == object else arithmetic.array(p).values.ravel()
            for p in map(np.asarray, parts)
        ]
        return PreciseArray(np.concatenate([p.ravel() for p in parts]), arithmetic)

    return run


def projected(vector: Program, weights: Array) -> Program:
    """Give ⟨weights, vector⟩ as a program; results of weight 0 stay out, whatever they are."""
    chosen = np.flatnonzero(weights)

    def run(*args: Any) -> PreciseArray:
        out = vector(*args)
        return (out[chosen] * weights[chosen]).sum()  # type: ignore[no-any-return]  # a duck array

    return run


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
    bits, rounds, last = _first_precision(inputs, directions), 0, ""
    jumps: Array | None = None
    found: Slopes | None = None
    while bits <= CEILING:
        with BALLS.precision(bits):
            try:
                exact, jump, value = _differences(
                    vector, inputs, directions, bits, here=here if bits == FIRST_PRECISION else None
                )
            except Undecided as undecided:
                last = str(undecided)
                bits *= 2
                continue
            suspect = np.array([bool(j > 0) for j in jump], dtype=bool)
            kink = np.zeros_like(suspect)
            if jumps is not None:
                kink = suspect & np.array(
                    [bool(2 * a >= b) for a, b in zip(jump, jumps, strict=True)]
                )
            jumps = jump
            found = Slopes(exact, kink, value)
            known = kink | (_narrow_enough(exact, fmt, each=each and bits < EACH) & ~suspect)
            if rounds >= _HOPELESS:
                known |= np.array([not e.is_finite() for e in exact], dtype=bool)
            if known.all():
                break
            rounds += 1
        bits *= 2
    if found is None:
        raise Unresolved(last)
    return found


def projection_slope(
    vector: Program, weights: Array, inputs: Inputs, directions: Weights, bits: int
) -> Any:
    """Give the slope of ⟨weights, program⟩ from two runs: for bisection, where a glance suffices."""
    bits = max(bits, _first_precision(inputs, directions))
    while bits <= CEILING:
        with BALLS.precision(bits):
            h = _step(inputs, directions, bits)
            shifts = _shifts(directions, h)
            x = inputs.balls
            try:
                near = [(vector(*_moved(x, shifts, c)) * weights).sum() for c in (1, -1)]
            except Undecided:
                bits *= 2
                continue
            return ((near[0] - near[1]) / (2 * h)).values[()]
    return arb.nan()


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
    places = [m.ravel().nonzero()[0] if m is not None else np.zeros(0, int) for m in moving]
    count = sum(p.size for p in places)
    patterns = truth.sign_patterns(count) if count else np.zeros((0, 0))
    rounding = (growth * fmt.unit_roundoff, arb(growth) * arb(2) ** fmt.smallest_exponent)
    undefined = 0
    exact, motion = arb.nan(), arb(0)
    kink = resolved = False
    before = None
    bits = _first_precision(inputs, directions)
    while bits <= CEILING and not resolved and undefined <= _HOPELESS:
        with BALLS.precision(bits):
            try:
                ball, jump, _ = _differences(_boxed(program), inputs, directions, bits)
                total = arb(0)
                h = _step(inputs, directions, bits)
                shifts = _shifts(directions, h)
                for pattern in patterns:
                    moved = _with_rounding(inputs, places, pattern, *rounding)
                    near = [program(*_moved(moved, shifts, c)) for c in (1, -1)]
                    slope = ((near[0] - near[1]) / (2 * h)).values[()]
                    apart = slope - ball[0]
                    total += apart * apart  # Arb's own square of a ball around 0 is nan
                square = total * count / max(len(patterns), 1)
            except Undecided:
                bits *= 2
                continue
            exact = ball[0]
            suspect = bool(jump[0] > 0)
            kink = suspect and before is not None and bool(2 * jump[0] >= before)
            before = jump[0] if suspect else None
            motion = arb(0) if kink else square.abs_upper().sqrt()
            narrow = bool(adaptive.narrow(ball, fmt)[0])
            resolved = (narrow and not suspect) or kink
            undefined += not exact.is_finite()
        bits *= 2
    return Truth(
        _object(exact), _object(motion), np.array([kink]), np.array([resolved]), growth=growth
    )


# ---------------------------------------------------------------------------------------------


def _object(x: Any) -> Array:
    out = np.empty(1, dtype=object)
    out[0] = x
    return out


def _boxed(program: Program) -> Program:
    return lambda *args: program(*args).reshape(1)


def _with_rounding(
    inputs: Inputs, places: Sequence[Array], pattern: Array, size: float, least: Any
) -> list[Any]:
    """Move the elements at ``places`` by ``size`` relative plus ``least``, with a pattern's signs."""
    out, start = [], 0
    up, down = 1 + arb(size), 1 - arb(size)
    for x, p in zip(inputs.balls, places, strict=True):
        if p.size:
            values = x.values.ravel().copy()
            positive = pattern[start : start + p.size] > 0
            values[p] = values[p] * np.where(positive, up, down) + np.where(positive, least, -least)
            start += p.size
            x = PreciseArray(values.reshape(x.shape), BALLS)  # noqa: PLW2901 - moved, else as it was
        out.append(x)
    return out


def _smallest(inputs: Inputs, directions: Weights) -> int:
    """Give the exponent of the smallest coordinate in units of how far the direction moves it, or 0."""
    smallest = 0
    for x, v in zip(inputs.arrays, directions, strict=True):
        if v is not None:
            moved = (v != 0) & (x != 0)
            ratio = np.abs(x[moved].astype(np.float64)) / np.abs(v[moved].astype(np.float64))
            ratio = ratio[ratio > 0]
            if ratio.size:
                smallest = min(smallest, int(np.frexp(ratio.min())[1]) - 1)
    return smallest


def _first_precision(inputs: Inputs, directions: Weights) -> int:
    """Give the bits with which a slope comes out to 85 if it is of the size of the values.

    At p bits and step h = 2^(s - p/3) the difference of values of size 1 is good to 2^-p / h.
    """
    return min(max(FIRST_PRECISION, 3 * (85 - _smallest(inputs, directions)) // 2), CEILING // 2)


def _step(inputs: Inputs, directions: Weights, bits: int) -> Any:
    """Give h = 2^k: 2^(-bits/3) of the smallest coordinate that the direction moves."""
    return arb(2) ** (_smallest(inputs, directions) - bits // 3)


def _shifts(directions: Weights, step: Any) -> list[tuple[Array, Array] | None]:
    """Give where each argument moves, and by how much."""
    out: list[tuple[Array, Array] | None] = []
    for v in directions:
        if v is None:
            out.append(None)
            continue
        places = np.flatnonzero(v)
        out.append((places, BALLS.array(v.ravel()[places].astype(np.float64)).values * step))
    return out


def _moved(x: Sequence[Any], shifts: Sequence[tuple[Array, Array] | None], c: int) -> list[Any]:
    out = []
    for a, shift in zip(x, shifts, strict=True):
        if shift is None:
            out.append(a)
            continue
        places, amounts = shift
        values = a.values.ravel().copy()
        values[places] = values[places] + (amounts if c == 1 else amounts * c)
        out.append(PreciseArray(values.reshape(a.shape), BALLS))
    return out


def _differences(
    vector: Program, inputs: Inputs, directions: Weights, bits: int, *, here: Array | None = None
) -> tuple[Array, Array, Array]:
    """Give slopes as balls, jumps between one-sided slopes where suspected, and the values."""
    x = inputs.balls
    h = _step(inputs, directions, bits)
    shifts = _shifts(directions, h)
    value = vector(*x) if here is None else PreciseArray(here, BALLS)
    near = [vector(*_moved(x, shifts, c)) for c in (1, -1)]
    wide = [vector(*_moved(x, shifts, c)) for c in (2, -2)]
    slope = (near[0] - near[1]) / (2 * h)
    truncation = abs(slope - (wide[0] - wide[1]) / (4 * h))
    right = (4 * near[0] - 3 * value - wide[0]) / (2 * h)
    left = (wide[1] - 4 * near[1] + 3 * value) / (2 * h)
    exact, jump = truth.with_kinks(slope, truncation, left, right, bits)
    return exact, jump, value.values


def _narrow_enough(balls: Array, fmt: Format, *, each: bool) -> Array:
    """Tell which slopes are known well enough: beside themselves or, unless each, the largest."""
    finite = [b.abs_upper() for b in balls if b.is_finite()]
    if not finite:
        return np.zeros(balls.shape, dtype=bool)
    margin = max(finite) * arb(2) ** -(fmt.precision + 8)
    own: Array = adaptive.narrow(balls, fmt)
    if each:
        return own
    near: Array = np.array([bool(b.is_finite() and b.rad() <= margin) for b in balls], dtype=bool)

    return own | near
