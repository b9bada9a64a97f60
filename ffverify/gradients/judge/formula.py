"""Is the formula right? What derivative code gives exactly is compared with exact slopes of the function.

``reverse_faults`` and ``forward_faults`` give the elements that are off, with their exact slopes. A
truncated series is a legitimate formula, and so is one whose constants are rounded: an element may be off by
8 u of itself and by as far as the constants move it. At a kink the slope is the hull of the slopes beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.exact.programs import projected
from ffverify.gradients.evaluation import Point, nearer
from ffverify.truth.adaptive import CEILING, Truth
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS, TOGETHER
from ffverify.truth.neighbourhood import nearby_slopes
from ffverify.truth.slopes import (
    CONSTANT_PATTERNS,
    Inputs,
    Slopes,
    along,
    constants_moved,
    glance,
    projection_slope,
    slopes_along,
)
from ffverify.verdicts.verdict import Verdict

from .exactly import NEAR, Exactly
from .judged import Screening, judged_number

_SINGLY = 64  # elements whose slopes are measured all at once
_PARTS = 32  # that a larger number of elements is divided into
_BITS = 256
_AROUND, _EVERYWHERE = 6, 48  # points beside one
_NARROW = 2.0**-20  # how well a slope is known beside the number that it is compared with
Place = Callable[[int], tuple[int, int]]


def slack(point: Point, exact: Any) -> Any:
    """Give how far a formula may be off: as a library's function, which may be a truncated series."""
    unit = arb(point.fmt.unit_roundoff) * exact.abs_upper()
    return LIBRARY_ROUNDINGS * (unit + arb(2) ** point.fmt.smallest_exponent)


def forward_faults(
    point: Point, own: Exactly, exact: Slopes, smooth: Array, directions: Sequence[Array | None]
) -> dict[int, Any]:
    """Give the results whose tangent has a wrong formula, with the exact slopes."""
    balls = own.balls
    assert balls is not None  # noqa: S101 - callers asked

    def constants(o: int) -> float:
        return float(own.constants[o]) + _constants_along(point, one_result(point, o), directions)

    suspects = [
        (balls[o], exact.exact[o], o)
        for o in np.flatnonzero(smooth).tolist()
        if _differs(point, balls[o], exact.exact[o], partial(constants, o))
    ]
    return {
        o: t
        for number, t, o in _worst(suspects)
        if not is_limit(point, one_result(point, o), directions, number)
    }


def _worst(suspects: list[tuple[Any, Any, int]]) -> list[tuple[Any, Any, int]]:
    """Give the suspects that are off the most: the slopes beside each of hundreds take minutes."""
    return sorted(suspects, key=lambda s: -float(abs(s[0] - s[1]).abs_upper()))[:_PARTS]


def one_result(point: Point, o: int) -> Array:
    """Give the weights of a single result."""
    weights = np.zeros(sum(point.sizes))
    weights[o] = 1.0
    return weights


def _constants_along(point: Point, weights: Array, directions: Sequence[Array | None]) -> float:
    """Give how far a slope of the function moves with the constants of its program."""
    used = np.flatnonzero(weights)

    def projected_on(each: Array | None) -> Any:
        return (
            arb.nan() if each is None else sum((each[used] * weights[used]).tolist(), start=arb(0))
        )

    bits = _BITS // 2
    while True:
        (each, _), *moved = _slopes_with_constants(point, directions, bits)
        with BALLS.precision(bits):
            here = projected_on(each)
            if here.rel_accuracy_bits() >= point.fmt.precision or 4 * bits > CEILING:
                apart = [(abs(projected_on(m) - here).upper(), count) for m, count in moved]
                break
        bits *= 4
    total = sum(float(a) ** 2 * n for a, n in apart if a.is_finite()) / CONSTANT_PATTERNS
    return NEAR * float(np.sqrt(total))


def _slopes_with_constants(
    point: Point, directions: Sequence[Array | None], bits: int
) -> list[tuple[Array | None, int]]:
    """Give the slopes of all results, and those with the program's constants moved, with their number."""
    key = (bits, *(None if d is None else d.tobytes() for d in directions))
    found: list[tuple[Array | None, int]] | None = point.memo.get(key)
    if found is None:
        found = [(glance(point.vector, point.inputs, directions, bits), 0)]
        for pattern in range(CONSTANT_PATTERNS):
            arithmetic, met = constants_moved(point.fmt, LIBRARY_ROUNDINGS / NEAR, pattern)
            each = glance(point.vector, point.inputs, directions, bits, arithmetic=arithmetic)
            if not met:
                break
            found.append((each, len(met)))
        point.memo[key] = found
    return found


def _differs(point: Point, formula: Any, exact: Any, constants: Callable[[], float]) -> bool:
    if not formula.is_finite():
        return bool(exact.is_finite() and exact.abs_upper() < BALLS.exact(point.fmt.overflow))
    apart = abs(formula - exact).lower()
    allowed = slack(point, exact)
    return bool(apart > allowed) and not bool(apart <= allowed + arb(2 * constants()))


class _Identity:
    """⟨G(x; v), d⟩ = ⟨v, ∂F·d⟩, and the way from its failing to single elements."""

    def __init__(
        self,
        point: Point,
        own: Exactly,
        weights: Array,
        directions: list[Array | None],
        place: Place,
    ) -> None:
        self.point, self.own, self.weights, self.place = point, own, weights, place
        assert own.balls is not None  # noqa: S101 - callers asked
        self.balls = own.balls
        parts = [np.ravel(d) for d in directions if d is not None]
        self.step = np.concatenate(parts)
        self.broken = np.array([not b.is_finite() for b in self.balls], dtype=bool)
        self.step[self.broken] = 0.0

    def directions(self, chosen: Array) -> list[Array | None]:
        """Give the direction as far as it moves some elements."""
        out: list[Array | None] = [
            np.zeros(x.shape) if f else None
            for x, f in zip(self.point.points, self.point.floating, strict=True)
        ]
        start = 0
        for d in out:
            if d is not None:
                here = chosen[(chosen >= start) & (chosen < start + d.size)]
                d.ravel()[here - start] = self.step[here]
                start += d.size
        return [d if d is not None and np.any(d) else None for d in out]

    def residual(self, chosen: Array, slope: Any) -> Any:
        with BALLS.precision(_BITS):
            terms = (self.balls[chosen] * self.step[chosen]).tolist()
            return sum(terms, arb(0)) - slope

    def excess(self, chosen: Array, slope: Any) -> float | None:
        """Give by how much the two sides differ: 0 if they may be equal, None if constants explain it."""
        residual = self.residual(chosen, slope)
        if not residual.is_finite() or residual.contains(0):
            return 0.0
        size = float(residual.abs_lower())
        return None if size <= self.noise(chosen) else size

    def noise(self, chosen: Array) -> float:
        """Give how far the constants of either side, as they are rounded, put the two apart."""
        theirs = _constants_along(self.point, self.weights, self.directions(chosen))
        mine = float(np.sum((self.own.constants[chosen] * self.step[chosen]) ** 2))
        return 2 * float(np.sqrt(theirs**2 + mine))


def reverse_faults(
    point: Point,
    own: Exactly,
    exact: Slopes,
    weights: Array,
    directions: list[Array | None],
    place: Place,
    undefined: Array,
    found: Screening,
    *,
    tied: bool,
) -> dict[int, Any]:
    """Give the elements of a VJP that have a wrong formula, with the exact slopes.

    Those that are ``undefined`` have none.
    """
    identity = _Identity(point, own, weights, directions, place)
    overflow = BALLS.exact(point.fmt.overflow)
    broken = np.flatnonzero(identity.broken)
    some = broken[~undefined[broken]][:_SINGLY]
    faults = {
        i: t
        for i, t in zip(
            some.tolist(),
            _exact_slopes(point, weights, some.tolist(), place, [arb(1)] * some.size),
            strict=True,
        )
        if t.is_finite() and t.abs_upper() < overflow
    }
    part = np.flatnonzero(identity.step)
    if not part.size:
        return faults
    if broken.size:
        whole = _slope(identity, part)
    else:
        used = np.flatnonzero(weights)
        with BALLS.precision(_BITS):
            whole = sum((exact.exact[used] * weights[used]).tolist(), arb(0))
    size = identity.excess(part, whole)
    if size is None:
        # What constants that round otherwise move by its own size is on a threshold: it excuses itself alone.
        part = part[own.constants[part] < np.abs(own.floats[part])]
        if part.size:
            whole = _slope(identity, part)
            size = identity.excess(part, whole)
    if not size:
        return faults
    off = _single_faults(identity, part)
    if not off and tied:
        _whole_direction(identity, part, whole, size, found)
    return faults | off


def _slope(identity: _Identity, chosen: Array) -> Any:
    point = identity.point
    return projection_slope(
        point.vector, identity.weights, point.inputs, identity.directions(chosen), _BITS // 2
    )


def _single_faults(identity: _Identity, part: Array) -> dict[int, Any]:
    """Lead from a sum that is off to elements that are."""
    point = identity.point
    size = sum(x.size for x in point.points)
    while part.size > _SINGLY:
        pieces = np.array_split(part, 2 if size > TOGETHER else _PARTS)
        off = [identity.residual(p, _slope(identity, p)) for p in pieces]
        sizes = [float(r.abs_lower()) if r.is_finite() else np.inf for r in off]
        noise = [
            float(np.abs(identity.own.floats[p] * identity.step[p]).max(initial=0.0))
            for p in pieces
        ]
        excess = [
            s / (point.fmt.unit_roundoff * n + 2.0**-1070)
            for s, n in zip(sizes, noise, strict=True)
        ]
        part = pieces[int(np.argmax(excess))]
    numbers = identity.balls[part].tolist()
    exact = _exact_slopes(point, identity.weights, part.tolist(), identity.place, numbers)
    suspects = [
        (number, t, i)
        for number, t, i in zip(numbers, exact, part.tolist(), strict=True)
        if _differs(point, number, t, partial(_constants, identity, i))
    ]
    return {
        i: t
        for number, t, i in _worst(suspects)
        if not is_limit(point, identity.weights, point.unit(*identity.place(i)), number)
    }


def _constants(identity: _Identity, i: int) -> float:
    """Give how far an element and its slope move with the programs' constants."""
    direction = identity.point.unit(*identity.place(i))
    theirs = _constants_along(identity.point, identity.weights, direction)
    return float(identity.own.constants[i]) + theirs


def _exact_slopes(
    point: Point, weights: Array, chosen: Sequence[int], place: Place, numbers: Sequence[Any]
) -> list[Any]:
    """Give the slopes along single elements, each known well enough to be compared with a number."""
    found: list[Any] = [None] * len(chosen)
    tiny = arb(2) ** (point.fmt.smallest_exponent - 3)
    pending, bits = list(range(len(chosen))), _BITS
    while pending and bits <= CEILING:
        places = [place(int(chosen[k])) for k in pending]
        for k, slope in zip(
            pending, slopes_along(point.vector, weights, point.inputs, places, bits), strict=True
        ):
            found[k] = slope
        # A ball that holds whatever was computed because the slope is tiny beside its value would excuse it.
        pending = [
            k
            for k in pending
            if found[k].is_finite()
            and bool(found[k].rad() > tiny + abs(numbers[k]).mid() * _NARROW)
        ]
        bits *= 2
    return found


def slope_at(point: Point, weights: Array, direction: Sequence[Array | None]) -> Truth:
    """Give the exact slope along a direction; at a kink the hull of the slopes on either side."""
    return along(
        projected(point.vector, weights), point.inputs, direction, point.fmt, growth=point.growth,
        moving=[None] * len(point.points),
    )  # fmt: skip


def is_slope(
    point: Point, weights: Array, directions: Sequence[Array | None], number: float
) -> bool:
    """Tell whether a number is the exact slope itself, up to rounding."""
    exact = slope_at(point, weights, directions).exact[0]
    return bool(abs(arb(number) - exact).lower() <= slack(point, exact))


def is_limit(point: Point, weights: Array, directions: Sequence[Array | None], number: Any) -> bool:
    """Tell whether a number is a limit of slopes beside the point, as a derivative at a kink or a tie may be.

    The slopes are known to a fraction of how far the number is from them: where the function is smooth their
    hull is as narrow, and holds nothing else. Where the slope at the point is no hull, and is that at a few
    points around as well, it is smooth: ties are broken there by rising, falling and mixed numbers, which
    cannot all be alike beside a jump of slopes.
    """
    number = arb(number)
    if not number.is_finite():
        return False
    every = [
        np.ones(x.shape, bool) if f else None
        for x, f in zip(point.points, point.floating, strict=True)
    ]
    here = slope_at(point, weights, directions)
    exact = here.exact[0]
    width = float(abs(number - exact).abs_lower()) / 8  # far from covering the difference itself
    program = projected(point.vector, weights)

    def beside(points: int) -> Any:
        return nearby_slopes(
            program, point.inputs, directions, point.fmt, every, units=0, width=width, points=points
        )

    smooth = bool(here.resolved[0]) and not here.kink[0]
    hull = beside(_AROUND) if smooth else None
    if hull is None or any(bool(abs(arb(end) - exact).upper() > width) for end in hull):
        hull = beside(_EVERYWHERE)
    if hull is None:
        return False
    slopes = arb(hull[0]).union(arb(hull[1])).union(exact)
    return bool(abs(number - slopes).lower() <= slack(point, slopes))


def is_cut_off(
    point: Point, weights: Array, directions: Sequence[Array | None], exact: Any
) -> bool:
    """Tell whether a derivative is given as 0 where an exponential tail is below a rounding of its scale.

    Its scale is the slope at the inputs cut off at ±1, and exponential is what falls from the halved input
    on by the root of all that it falls by: a power law falls less.
    """
    unit = LIBRARY_ROUNDINGS * point.fmt.unit_roundoff
    for arrays, most in ((nearer(point, None), unit), (nearer(point, 0.5), unit**0.5)):
        try:
            size = projection_slope(point.vector, weights, Inputs(arrays), directions, _BITS // 2)
        except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
            return False
        if not size.is_finite() or not bool(exact.abs_upper() <= most * abs(size).upper()):
            return False
    return True


def _whole_direction(
    identity: _Identity, part: Array, whole: Any, size: float, found: Screening
) -> None:
    """Keep a direction in which elements are wrong together that are right one by one.

    At a tie every element of a maximum's gradient may be anything from 0 to 1, but their sum is 1. The
    bound allows each element half its digits: only a term too many or too few goes beyond that.
    """
    point = identity.point
    terms = identity.own.floats[part] * identity.step[part]
    allowed = point.fmt.unit_roundoff**0.5 * float(np.abs(terms).sum())
    if size <= allowed:
        return
    ulp = 2.0 ** int(point.fmt.ulp_exponents(np.array([float(whole.mid())]))[0])
    found.failed.append(
        judged_number(
            point, point.subject.reverse, -1, (), Verdict.WRONG, float(terms.sum()), whole,
            size / ulp, allowed / ulp, tail=False, weights=identity.weights,
            directions=identity.directions(part), gradient=None,
            reason="Elements that sit on a kink are right one by one, but not together.",
        )
    )  # fmt: skip


def kinked_faults(
    point: Point, own: Exactly, weights: Array, elements: Array, place: Place
) -> dict[int, Any]:
    """Give the elements among some, zeros and ties, that are no slope on either side nor a limit beside."""
    faults: dict[int, Any] = {}
    assert own.balls is not None  # noqa: S101 - callers asked
    for i in elements.tolist():
        j, flat = place(i)
        exact = slope_at(point, weights, point.unit(j, flat))
        t = exact.exact[0]
        number = own.balls[i]
        if not exact.resolved[0] or not number.is_finite() or not t.is_finite():
            continue
        if bool(abs(number - t).lower() > slack(point, t)) and not is_limit(
            point, weights, point.unit(j, flat), number
        ):
            still = [
                np.zeros(x.shape) if f else None
                for x, f in zip(point.points, point.floating, strict=True)
            ]
            identity = _Identity(point, own, weights, still, place)
            if bool(abs(number - t).lower() > slack(point, t) + arb(2 * _constants(identity, i))):
                faults[i] = t
    return faults
