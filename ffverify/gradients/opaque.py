"""Functions of which only values are known: extrapolated differences, with an error estimate.

A kernel that nobody can run in exact arithmetic is evaluated in the widest float that it takes.
``ridders`` extrapolates central differences to step 0 (Ridders 1982; Press et al., Numerical Recipes
§5.7) and estimates its own error; a number is only called wrong when it differs by more than that.
``limits_by_differences`` is for kernels what `ffverify.truth.neighbourhood` is for exact programs, and
no sharper than differences are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from ffverify.exact.elements import arb, parted
from ffverify.exact.formats import FORMATS, Array, dtype_name, is_floating
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.truth.neighbourhood import spread_moves

from .function_under_test import Fault

_SHRINK = 1.4  # Ridders' ratio of steps
_ROWS = 40  # steps down to 1e-6 of the first: a direction through many inputs bends early
_ORDERS = 4
_BESIDE_CONSTANTS = 2.0**-9  # the scale beside zero of functions with constants of 1, as log(1 + x)
_HELD = 64.0  # roundings of an input: a step of so many is known to a hundredth
_ABOVE = 8  # rows: down to a fifteenth of the step
_UNEVEN = 12.944  # units, 8 times the golden ratio: multiples fall evenly between a format's floats
_VANISHING = 1024.0  # times smaller is a step with which a slope leaves next to nothing
_SAFETY = 4.0  # the estimate is a difference of two rows: a margin for what both have in common
# Rows that may agree on another slope by chance where noise is more than was measured: one in ten does.
_ASTRAY = 0.25

_BESIDE = 24  # points around a point
_ZERO = 2.0**-400  # what is smaller moves as zeros do: by the size of the other numbers
_LEAST = 2.0**-500  # a step that divides numbers of any size

# What a step gives: a central difference, the noise in it, and the bend.
Difference = Callable[[float], tuple[float, float, float]]


def ridders(slope: Difference, *steps: float) -> tuple[float, float, float]:
    """Extrapolate central differences to step 0.

    Large steps say of a bounded function that it is flat, and of one that is alike at all scales, such as
    log |x| or the mantissa of a float, whatever its slope is on their own scale: by chance two of them agree.
    A derivative is what small steps agree on, so most of all smaller steps have to bear it out.

    Parameters
    ----------
    slope
        ``slope(h)`` gives the central difference with step h, the rounding noise in it, and the size of the
        second difference, a bend.
    steps
        The first steps, falling: each begins a series that shrinks.

    Returns
    -------
    The derivative, an estimate of its error (infinite if no two rows agree), and the largest step that
    it rests on.
    """
    series = [_extrapolated(slope, step) for step in steps]
    table = np.array([row for rows in series for row in rows]).reshape(-1, 4)
    errors, values, sizes, noises = table.T
    # To contradict others a row need not know what noise there is at larger steps than its own.
    errors = errors - noises / sizes

    def is_borne_out(row: tuple[float, ...]) -> bool:
        error, value, h, _ = row
        telling = (sizes < h) & (errors < np.maximum(np.abs(values), abs(value)))
        apart = np.abs(values - value) > _SAFETY * (errors + error)
        return bool(np.sum(apart & telling) <= _ASTRAY * np.sum(telling))

    found: list[tuple[float, float, float]] = []
    for rows in series[::-1]:
        settled = [i for i, row in enumerate(rows) if len(rows) > 1 and is_borne_out(row)]
        if not settled:
            continue
        best = min(settled, key=lambda i: rows[i][0])
        error, value, h, _ = rows[best]
        beside = [rows[i] for i in (best - 1, best + 1) if 0 <= i < len(rows)]
        # An extrapolation that its neighbours in step do not bear out was a coincidence.
        spread = min(max(abs(value - each[1]) for each in beside), max(each[0] for each in beside))
        # What a difference keeps when its step all but vanishes is a jump or noise, and no slope: the
        # difference with the larger step has it as well, in h instead of h / 1024.
        jump = max(0.0, abs(slope(h / _VANISHING)[0]) - abs(value)) / _VANISHING
        error = _SAFETY * max(error, spread, jump if np.isfinite(jump) else np.inf)
        # Of two that contradict each other the one on the finer scale is the derivative.
        if all(abs(value - v) <= error + e for e, v, _ in found):
            found.append((error, value, min(h * _SHRINK**_ORDERS, steps[0])))
    error, value, step = min(found, default=(np.inf, 0.0, 0.0))
    return value, error, step


def _extrapolated(slope: Difference, step: float) -> list[tuple[float, float, float, float]]:
    """Give for every row an estimate of the error of its best extrapolation, this, its step, and noise."""
    sizes = step / _SHRINK ** np.arange(_ROWS)
    differences, noises, bends = np.array([slope(h) for h in sizes]).T
    shown = _shown(bends, sizes)
    kept: list[tuple[float, float, float, float]] = []
    previous: list[float] = []
    for row, h in enumerate(sizes):
        here, noise = differences[row], noises[row] + shown[row] / h
        if not np.isfinite(here):
            previous = []
            continue
        current = [here]
        factor = _SHRINK**2
        candidates = []
        for k, old in enumerate(previous[:_ORDERS]):
            current.append((factor * current[k] - old) / (factor - 1))
            noise *= (factor + 1) / (factor - 1)  # that of the two, which may have either sign
            factor *= _SHRINK**2
            estimate = max(abs(current[-1] - current[-2]), abs(current[-1] - old)) + noise
            candidates.append((estimate, current[-1]))
        previous = current
        if candidates:
            kept.append((*min(candidates), h, shown[row]))
    return kept


def _shown(bends: Array, sizes: Array) -> Array:
    """Give for falling steps the noise in values, as the bends show it from a few steps above on.

    A bend falls as the step does at a kink, and elsewhere as its square: what is more than another of a
    larger step makes of it is noise. A jitter of the inputs does not show all: a matrix that is scaled keeps
    its eigenvalues of 0 exactly, and one that is moved does not.
    """
    noise = np.zeros(bends.size)
    for row in range(bends.size):
        among = slice(max(0, row - _ABOVE), None)
        each = bends[among] / sizes[among]
        noise[row] = np.nanmax((each - np.fmin.accumulate(each)) * sizes[among], initial=0.0)
    return noise


class Opaque:
    """A function of which only values are known, at one point, evaluated in the widest float it takes.

    Parameters
    ----------
    evaluate
        ``evaluate(native)`` gives its floating results.
    native
        The point: arrays of the caller's framework.
    """

    def __init__(
        self, evaluate: Callable[[Sequence[Any]], Sequence[Any]], native: Sequence[Any]
    ) -> None:
        self._evaluate = evaluate
        self.native = native
        self._known: dict[Any, Callable[[float], Array]] = {}

    @cached_property
    def inputs(self) -> list[Any]:
        """Give the inputs in the widest float in which it is the same function, or as they are.

        Rounding does not change results by an eighth of the largest; random numbers that are drawn in the
        format of the inputs do.
        """
        wide = [
            framework_of(value).widened(value) if is_floating(value) else value
            for value in self.native
        ]
        try:
            there = self.results(wide)
        except Fault:
            return list(self.native)
        here = self.results(self.native)
        both = np.isfinite(here) & np.isfinite(there)
        apart = np.abs(there[both] - here[both]).max(initial=0.0)
        same = 8 * apart <= np.abs(here[both]).max(initial=0.0)
        return wide if same else list(self.native)

    @cached_property
    def unit(self) -> float:
        """Give the unit roundoff of what it is evaluated in."""
        return unit_roundoff(next(w for w in self.inputs if is_floating(w)))

    def roundoff(self, results: Array) -> float:
        """Give the unit roundoff of the narrowest format at hand that holds some results exactly.

        What computes or returns floats in place of long doubles rounds to floats, and no jitter of the inputs
        shows it where a constant swallows that: log(4 + x) is the same at every x of 1e-12.
        """
        with np.errstate(over="ignore"):
            for unit, carrier in self._narrower:
                if np.array_equal(results.astype(carrier), results, equal_nan=True):
                    return unit
        return self.unit

    @cached_property
    def _narrower(self) -> list[tuple[float, str]]:
        own = {FORMATS[dtype_name(n)].carrier for n in self.native if is_floating(n)}
        units = [(float(np.finfo(c).eps) / 2, c) for c in {"float64", *own}]
        return sorted((pair for pair in units if pair[0] > self.unit), reverse=True)

    def results(self, inputs: Sequence[Any]) -> Array:
        """Give all floating results as one vector of long doubles."""
        return np.concatenate([widest(r).ravel() for r in self._evaluate(inputs)])

    def moved(self, directions: Sequence[Array | None], t: float) -> list[Any]:
        """Give the inputs moved by t times a direction."""
        return [
            w if d is None else shifted(w, d, t)
            for w, d in zip(self.inputs, directions, strict=True)
        ]

    def along(self, directions: Sequence[Array | None]) -> Callable[[float], Array]:
        """Give what gives the results so far along a direction: once, whichever of them are asked about.

        They are known along the last two: zeros are moved apart from other numbers.
        """
        key = tuple(None if d is None else d.tobytes() for d in directions)
        if key not in self._known:
            self._known = dict(list(self._known.items())[-1:])
            self._known[key] = cache(lambda t: self.results(self.moved(directions, t)))
        return self._known[key]

    def noise(self, weights: Array) -> float:
        """Measure the rounding noise of ⟨weights, results⟩ near the point.

        Over steps of a few units of the last place a smooth function is a polynomial, and its sixth
        differences vanish; noise of deviation σ leaves 30 σ in them, in the root mean square (Moré &
        Wild, Estimating Computational Noise, 2011: γ₆ = 6!² / 12!). Four σ cover a uniform error. The
        function may round to a narrower format inside, and over less than that format's ulps it is
        flat: so the steps are the units of every format from the inputs' own to float32. They all lead
        away from zero, by the same factor: kinks at the point, at zero and at ties are no noise. Where they
        move next to nothing they are taken beside the point as well. A result that is subnormal may have been
        flushed to zero.
        """
        used = weights != 0
        deviations = [
            np.sqrt(np.mean(np.diff(table[:, used] @ weights[used], n=6) ** 2) / 924)
            for table in self._tables
        ]
        if not np.isfinite(deviations).all():
            return np.inf
        return 4 * float(max(deviations)) + self.flushed * float(np.abs(weights[used]).sum())

    @cached_property
    def flushed(self) -> float:
        """Give the smallest normal number of the inputs' formats: below it nothing is promised."""
        return max(_smallest_normal(n) for n in self.native if is_floating(n))

    @cached_property
    def _tables(self) -> list[Array]:
        """Results at inputs that are scaled by units, and beside numbers too small for that to show."""
        units = {self.unit, *(u for u in (2.0**-53, 2.0**-24) if u > self.unit)}
        scales = [np.abs(to_numpy(w)) if is_floating(w) else None for w in self.inputs]
        small = [None if s is None else s < _BESIDE_CONSTANTS for s in scales]
        tables = [self._along(self.inputs, scales, u) for u in sorted(units)]
        if any(s is not None and s.any() for s in small):
            apart = [None if s is None else s * _numbered(s.shape) for s in small]
            beside = self.moved(apart, _BESIDE_CONSTANTS)
            scales = [
                None if s is None else np.where(s < _BESIDE_CONSTANTS, 1.0, s) for s in scales
            ]
            with contextlib.suppress(Fault), np.errstate(all="ignore"):  # not defined there
                # Results of about the same size round as these do.
                here = self.results(self.inputs)
                alike = 2 * np.abs(self.results(beside) - here) <= np.abs(here)
                each = [self._along(beside, scales, u) for u in sorted(units)]
                tables += [np.where(alike, table, 0.0) for table in each]
        return tables

    def _along(self, inputs: Sequence[Any], scales: Sequence[Array | None], unit: float) -> Array:
        """Give the results at inputs that move away from zero by units of their scales."""
        moved = (
            [
                w if s is None else shifted(w, np.copysign(s, to_numpy(w)), _UNEVEN * unit * k)
                for w, s in zip(inputs, scales, strict=True)
            ]
            for k in range(1, 14)
        )
        return np.stack(list(map(self.results, moved)))


def _numbered(shape: tuple[int, ...]) -> Array:
    """Give numbers from 1 to 2, no two alike."""
    size = math.prod(shape)
    return 1 + np.arange(size).reshape(shape) / max(size, 1)


def slope_by_differences(
    opaque: Opaque, directions: Sequence[Array | None], weights: Array
) -> tuple[Any, bool]:
    """Give the slope of ⟨weights, results⟩ along a direction as a ball, and whether there is a kink.

    Zeros are moved apart from other numbers, which a step that is small beside the smallest of them would not
    move at all: at a kink the sum of the two hulls holds every slope along the whole direction.
    """
    zero = [
        to_numpy(n) == 0 if d is not None else None
        for n, d in zip(opaque.native, directions, strict=True)
    ]
    parts = [
        [
            None if d is None else np.where(z == among, d, 0.0)
            for d, z in zip(directions, zero, strict=True)
        ]
        for among in (True, False)
    ]
    found = [
        _slope_by_differences(opaque, part, weights)
        for part in parts
        if any(d is not None and np.any(d) for d in part)
    ]
    return sum((ball for ball, _ in found), arb(0)), any(kink for _, kink in found)


def _slope_by_differences(
    opaque: Opaque, directions: Sequence[Array | None], weights: Array
) -> tuple[Any, bool]:
    all_results, steps, shortest = opaque.along(directions), *_steps(opaque, directions)
    here = all_results(0.0)
    # What no step moves has no slope but what its rounding hides over the largest of them, and is no noise
    # in smaller ones.
    moves = np.any([all_results(sign * h) != here for h in steps for sign in (-1, 1)], axis=0)
    used, still = (weights != 0) & moves, (weights != 0) & ~moves
    hidden = np.abs(weights[still]) @ (opaque.roundoff(here) * np.abs(here[still]) + opaque.flushed)
    with np.errstate(divide="ignore", over="ignore"):
        hidden = float(hidden / np.float64(steps[0]))
    if not used.any():
        return arb(0, hidden), False
    noise = opaque.noise(np.where(used, weights, 0.0))

    def terms(t: float) -> tuple[Array, Array]:
        results = all_results(t)[used]
        each = results * weights[used]
        return each, opaque.roundoff(results) * np.abs(each)

    center, _ = terms(0.0)

    def slope(h: float) -> tuple[float, float, float]:
        (above, rounding), (below, _) = terms(h), terms(-h)
        found = (above - below).sum() / (2 * np.longdouble(h))
        bend = abs((above + below - 2 * center).sum())
        return float(found), (4 * float(rounding.sum()) + noise) / h, float(bend)

    def told(h: float) -> tuple[float, float, float]:
        """Leave out steps that an input rounds, and what is nothing because it is flushed to zero inside."""
        nothing = np.nan, 0.0, np.nan
        if h < shortest:
            return nothing
        found = slope(h)
        is_small = len(steps) > 1 and h <= steps[1]
        return nothing if is_small and found[0] == 0 else found

    value, error, step = ridders(told, *steps)
    if not np.isfinite(error):
        return arb.nan(), False
    error += hidden

    def bends(h: float) -> tuple[Array, Array]:
        (above, rounding), (below, _) = terms(h), terms(-h)
        bend = (above - 2 * center + below) / np.longdouble(h)
        return bend.astype(np.float64), (8 * rounding + 4 * noise) / h

    # Right minus left slope of each result. Where it is smooth it falls as the step does; what stays is a
    # kink, and any slope between the two sides is right. Of one that lies beside the point, within a step,
    # only a part shows: then the whole jump is allowed for, on either side. Half of it, and a sixteenth
    # of that for how far the one-sided slopes bend over a step, is enough where both steps show it alike.
    # In a narrow format rounding hides kinks at small steps that extrapolation, at larger ones, averages.
    allowed = np.zeros(np.count_nonzero(used))
    for outer, inner in ((16, 1024), (4, 64), (1, 4)):
        (far, _), (near, floor) = bends(step / outer), bends(step / inner)
        far, near = np.abs(far), np.abs(near)
        kinks = (near > floor) & (2 * near >= far) & (allowed == 0)
        # What does not shrink with the step at all is a jump of the function's at the point: no slope. At a
        # kink it does by 4 and by 16; between lies a jump beside which a kink adds up to an eighth.
        jumps = np.abs([bends(step / inner / k)[0][kinks] / k for k in (1, 4, 16)])
        if np.any(jumps.min(axis=0) >= 7 / 8 * jumps.max(axis=0)):
            return arb.nan(), False
        sides = np.where(near >= 0.95 * far, near * 17 / 32, np.maximum(near, far))
        allowed[kinks] = (floor + sides)[kinks]
        low, unsure = _limit(*(bends(step / outer / k) for k in (1, 4, 16)))
        below = (low > unsure) & (allowed == 0)
        allowed[below] = (unsure + low * 17 / 32)[below]
        if floor.max() <= 2 * error:
            break
    return arb(value, error + float(allowed.sum())), bool(allowed.any())


def _steps(opaque: Opaque, directions: Sequence[Array | None]) -> tuple[list[float], float]:
    """Give the first steps along a direction, falling, and the shortest that an input does not round."""
    pairs = [
        (np.abs(to_numpy(n)[d != 0].astype(np.float64)), np.abs(d[d != 0]))
        for n, d in zip(opaque.native, directions, strict=True)
        if d is not None
    ]
    sizes, moves = (np.concatenate(each) for each in zip(*pairs, strict=True))
    # Near a pole or a kink at zero a function changes on the scale of the numbers that are moved, of the
    # smallest as well, and of any beside which they are moved, as long as no step is 0.
    beside = [to_numpy(n).ravel().astype(np.float64) for n in opaque.native if is_floating(n)]
    scales = np.abs(np.concatenate([[_BESIDE_CONSTANTS], *beside])) / moves.max()
    scales = np.unique(np.concatenate([scales, sizes / moves]))[::-1] / 16
    scales = scales[np.isfinite(scales)]
    least = np.finfo(np.float64).tiny * _SHRINK**_ROWS * _VANISHING
    steps = [float(scales[0])]
    for own in scales[scales > least].tolist():
        if own < steps[-1] * _SHRINK ** (-_ROWS / 2):
            steps.append(own)
    return steps, _HELD * opaque.unit * float((sizes / moves).max())


def _limit(*bends: tuple[Array, Array]) -> tuple[Array, Array]:
    """Extrapolate bends over steps that are each a fourth of the one before, less terms in h and in h³.

    Beside a smooth bend a kink may be too low to show at steps whose rounding is lower still. What is known
    of the limit is a difference of two extrapolations and the rounding.
    """
    (far, _), (middle, _), (near, floor) = bends
    rough, better = (4 * middle - far) / 3, (4 * near - middle) / 3
    best = (64 * better - rough) / 63
    return np.abs(best), _SAFETY * np.abs(best - better) + 2 * floor


def unit_roundoff(value: Any) -> float:
    """Give the unit roundoff of an array's format, long doubles among them."""
    if _is_long(value):
        return float(np.finfo(np.longdouble).eps) / 2
    return FORMATS[dtype_name(value)].unit_roundoff


def _smallest_normal(value: Any) -> float:
    return float(2.0 ** FORMATS[dtype_name(value)].emin)


def _is_long(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.longdouble


def widest(value: Any) -> Array:
    """Give an array of any framework as long doubles."""
    return np.asarray(
        value if isinstance(value, np.ndarray) else to_numpy(value), dtype=np.longdouble
    )


def shifted(value: Any, direction: Array, t: float) -> Any:
    """Give an array moved by t times a direction, in its own framework and format."""
    step = np.longdouble(t) * direction
    if isinstance(value, np.ndarray):
        return value + like(value, step)
    held, step = to_numpy(value), step.astype(np.float64)
    if held.dtype.name == dtype_name(value):  # NumPy adds the same at a fraction of the price
        return like(value, held + step.astype(held.dtype))
    return value + like(value, step)


def is_apart_by_differences(opaque: Opaque, directions: Sequence[Array | None]) -> bool:
    """Tell whether any result's value is another than its limit beside it: see `neighbourhood.is_apart`.

    What is less than a 256th of its size, or changes by more than a hundredth with steps of some ulps, is no
    such jump.
    """
    sizes = [float(np.abs(to_numpy(n)).max(initial=0.0)) for n in opaque.native if is_floating(n)]
    here, first = opaque.results(opaque.inputs), 2.0**-20 * (max(sizes) or 1.0)
    jumps, sides = np.empty((2, 3, here.size))
    for k, h in enumerate((first, first / 4, first / 16)):
        above, below = (opaque.results(opaque.moved(directions, t)) for t in (h, -h))
        with np.errstate(all="ignore"):  # where results are infinite, or beyond doubles
            jumps[k], sides[k] = np.abs(above + below - 2 * here), np.abs(above - below)
    stays = jumps.min(axis=0) >= 0.99 * jumps.max(axis=0)
    large = np.all((jumps > 2 * sides) & (jumps > np.abs(here) / 256), axis=0)
    return bool(np.any(stays & large))


def limits_by_differences(
    opaque: Opaque, directions: Sequence[Array | None], weights: Array
) -> tuple[float, float] | None:
    """Give the hull of slopes of ⟨weights, results⟩ beside the point; None where they are all alike.

    At ties of a sort no input alone moves the middle one, and no kink shows along it; the limits of
    gradients nearby, each a right answer, differ all the same (see there). Inputs move in
    another order at every point, by some square roots of the unit roundoff, which balances truncation
    and noise. Where the function is smooth slopes draw together as the points do: only what stays apart
    when the points come eight times nearer, and is more than noise, is a hull of limits.
    """
    wide = opaque.inputs
    # Inside it may round to the narrowest format of its inputs.
    unit = max(unit_roundoff(n) for n in opaque.native if is_floating(n))
    within = opaque.noise(weights)
    sizes = [np.abs(to_numpy(w).ravel().astype(np.float64)) for w in wide if is_floating(w)]
    numbers = [s > _ZERO for s in sizes]
    smallest = min(
        (float(s[n].min()) for s, n in zip(sizes, numbers, strict=True) if n.any()), default=1.0
    )
    scales = np.concatenate([np.where(n, s, smallest) for s, n in zip(sizes, numbers, strict=True)])
    steps = np.concatenate(
        [
            np.zeros(to_numpy(w).size) if d is None else np.abs(d).ravel()
            for w, d in zip(wide, directions, strict=True)
            if is_floating(w)
        ]
    )
    if scales.size < 2 or not np.any(steps):
        return None
    rng = np.random.default_rng(scales.size)
    apart = np.arange(scales.size)
    hulls = []
    for nearness in (1.0, 0.125):
        far = min(64 * scales.size * unit**0.5, 2.0**-6) * nearness
        gap = far * scales / (scales.size + 1)
        h = float((gap[steps != 0] / steps[steps != 0]).min()) / 4
        if h < _LEAST:
            return None
        slopes, noise = [], 0.0
        for k in range(_BESIDE):
            moves = far * scales * spread_moves(apart, k, _BESIDE, rng)
            parts = iter(parted(moves, [s.size for s in sizes]))
            there = [
                shifted(w, next(parts).reshape(w.shape), 1.0) if is_floating(w) else w for w in wide
            ]
            ends = []
            for t in (h, -h):
                moved = [
                    w if d is None else shifted(w, d, t)
                    for w, d in zip(there, directions, strict=True)
                ]
                terms = opaque.results(moved)[weights != 0] * weights[weights != 0]
                ends.append(terms.sum())
                noise = max(noise, (4 * unit * float(np.abs(terms).sum()) + within) / h)
            slopes.append(float((ends[0] - ends[1]) / (2 * np.longdouble(h))))
        if not np.isfinite(slopes).all():
            return None
        hulls.append((min(slopes) - noise, max(slopes) + noise, noise))
    (low, high, _), (near_low, near_high, noise) = hulls
    if near_high - near_low <= 8 * noise or 2 * (near_high - near_low) < high - low:
        return None
    return near_low, near_high
