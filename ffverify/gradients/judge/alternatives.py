"""What else may pass for a slope, and where there is no derivative to hold a number to.

At a kink every limit of slopes nearby is right, and at a tie that only rounding makes so are the slopes of
the branches that a program's steps take (``may_be``). Where a result's value is no limit of those beside it,
or the function is a staircase, no number is right or wrong (``without_derivative``); and what shares an
infinite slope of another result is not defined (``undefined``).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided, arb, are_finite
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point, attached, secant, stirred
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION
from ffverify.truth.branches import Branches
from ffverify.truth.neighbourhood import MANY, is_apart, jumped, nearby_slopes
from ffverify.truth.slopes import Inputs, exact_value, projection_slope, slopes, slopes_along

from .slope import Slope, slack, varied

if TYPE_CHECKING:
    from .numbers import Numbers

# Points beside one: of what a tenth of them shows, one neighbourhood in 160 shows nothing (0.9⁴⁸).
_BESIDE = 48
_TELLING = 2.0**-6  # an error by which differences in float32 tell slopes apart
# Numbers at a point that are on no branch, after which no more are looked at: one is a finding.
_UNEXPLAINED = 4
# Half of the bits that slopes from the first precision have: what is 0 to so many is 0.
_RESOLVED = 2.0 ** -(FIRST_PRECISION // 3)


def may_be(slope: Slope, number: Any, *, rounded: bool = True) -> bool:
    """Tell whether a number is a limit of slopes; if steps may be ``rounded``, or one of other branches."""
    return is_limit(slope, number) or (rounded and _is_of_branches(slope, number))


def is_limit(slope: Slope, number: Any) -> bool:
    """Tell whether a number is a limit of slopes beside the point, as a derivative at a kink may be.

    The slopes are known to an eighth of how far the number is from them: one slope's balls span half of
    the way, so that where the function is smooth their hull holds nothing else. Where there is one
    branch only none is looked at.
    """
    number, point = arb(number), slope.point
    if point.formulas.limits is not None:
        return _is_limit_of_differences(slope, number)
    if not number.is_finite():
        return False
    exact = slope.truth.exact[0]
    if abs(number - exact).lower() <= slack(point, exact):
        return True
    if slope.truth.resolved[0] and not slope.truth.kink[0] and point.takes_one_branch:
        return False
    where = point.vector, slope.weights, point.inputs, slope.directions, point.fmt, point.floating
    width, across = float(abs(number - exact).abs_lower()) / 8, list[int]()
    while True:
        hull = nearby_slopes(*where, width=width, points=_BESIDE, without=across)
        if hull is None:
            return False
        whole = arb(hull[0]).union(arb(hull[1])).union(exact)
        if not abs(number - whole).lower() <= slack(point, whole):
            return False
        # What would be excused is asked for without what lies across a jump.
        if across or not (across := jumped(*where, points=_BESIDE)):
            return True


def _is_limit_of_differences(slope: Slope, number: Any) -> bool:
    """Tell whether a number lies between slopes nearby that do not draw together at the point."""
    point = slope.point
    if slope.truth.kink[0] and sum(x.size for x in point.points) > 1:
        return True  # along one of several inputs a limit need not lie between the two sides
    if not number.is_finite():
        return False
    assert point.formulas.limits is not None  # noqa: S101 - the caller saw it
    hull = point.formulas.limits(slope.weights, slope.directions)
    own = point.growth * point.fmt.unit_roundoff * abs(number)
    return hull is not None and bool(hull[0] - own <= number <= hull[1] + own)


def _is_of_branches(slope: Slope, number: Any) -> bool:
    """Tell whether a number lies between slopes of branches that the function takes if its steps round.

    After some that do not no more are looked at: each takes some dozens of runs.
    """
    number, point, left = arb(number), slope.point, "numbers that branches may explain"
    if point.formulas.limits is not None or not number.is_finite():
        return False
    # Where very many inputs are tied the hull of slopes nearby is the whole line.
    few = sum(x.size for x in point.points) <= MANY
    if not (few and point.memo.setdefault(left, _UNEXPLAINED)) or point.takes_one_branch:
        return False
    branches = Branches(point.vector, point.inputs, slope.directions, point.fmt, point.floating)
    hull, kink = slope.truth.exact[0], bool(slope.truth.kink[0])
    unit = point.growth * point.fmt.unit_roundoff
    rounding = unit * slope.uncancelled

    def is_near(other: Any) -> bool:
        return bool(abs(number - other).lower() <= rounding + unit * other.abs_upper())

    if is_near(hull):
        return True
    for jumps, others in branches.slopes(slope.weights, hull, unit, kink=kink):
        for other in others:
            hull = hull if jumps else hull.union(other)
            if is_near(other if jumps else hull):
                return True
    point.memo[left] -= 1
    return False


def without_derivative(slope: Slope, number: float) -> str:
    """Say why there is no derivative that a number could be held to; nothing where there is one."""
    if _is_apart(slope):
        return "A result's value at this very point is not its limit beside it: there is no derivative."
    if _is_of_staircase(slope, number):
        return (
            "It is the slope over many roundings of the inputs: between two of them the function is a "
            "staircase, as bisection leaves one."
        )
    if slope.point.formulas.forward is None:
        return ""
    if not slope.truth.resolved[0]:
        return f"No precision tells the slope here, if there is one: it is {slope.truth.exact[0]}."
    if not (math.isfinite(number) or _adds_up(slope)):
        return "Slopes along directions do not add up to those along their sum: there is no derivative."
    return ""


def _adds_up(slope: Slope) -> bool:
    """Tell whether results' slopes along two directions at random are those along their sum.

    Only of results that have slopes, and no kinks, along all three is that known: a derivative is linear.
    """
    point, moved = slope.point, _moved(slope)
    key = "adds up", moved
    if key not in point.memo:
        ones = [np.ones(x.shape) for x in point.points]
        one, two = (
            [varied(o, k + j) if m else None for j, (o, m) in enumerate(zip(ones, moved, strict=True))]
            for k in (0, len(ones))
        )  # fmt: skip
        both = [None if d is None else d + r for d, r in zip(one, two, strict=True)]
        found = [slopes(point.vector, point.inputs, d, point.fmt) for d in (one, two, both)]
        known = np.flatnonzero(np.all([s.smooth for s in found], axis=0))
        half = arb(point.fmt.unit_roundoff).sqrt()
        point.memo[key] = not any(
            abs(a + b - c).lower() > half * (abs(a) + abs(b) + abs(c))
            for a, b, c in zip(*(s.exact[known] for s in found), strict=True)
        )
    return bool(point.memo[key])


def _moved(slope: Slope) -> tuple[bool, ...]:
    return tuple(d is not None and bool(d.any()) for d in slope.directions)


def _is_apart(slope: Slope) -> bool:
    """Tell whether a result's value at a point is not its limit beside it, as far as it is known.

    What is moved are the arguments along which a slope is asked for: a label, a float at which a loss jumps,
    is none of them.
    """
    point, moved = slope.point, _moved(slope)
    key = "apart", moved
    if key not in point.memo:
        given = enumerate(zip(point.points, moved, strict=True))
        directions = [varied(np.ones(x.shape), j) if m else None for j, (x, m) in given]
        by_differences = point.formulas.is_apart
        point.memo[key] = (
            is_apart(point.vector, point.inputs, directions)
            if by_differences is None
            else by_differences(directions)
        )
    return bool(point.memo[key])


def _is_of_staircase(slope: Slope, number: float) -> bool:
    """Tell whether a number is the slope over many roundings of the inputs, and the exact one is none.

    What searches until it is as near as floats are, as bisection does, gives a staircase: between two
    steps its slope is 0. A product with a rounded number has one slope over many roundings, which is what
    differences find, and another over few. Where by chance they are alike here it shows at other inputs.
    Over half of the digits of the smallest input, or of 1, and over 16 times that, differences have half of
    the digits left, and over less a quarter: half of what is left is asked for, where that is anything. A
    smooth function's are its slope.
    """
    point, exact, near = slope.point, slope.truth.exact[0], _near(slope.point)
    if near > _TELLING or not (number and np.isfinite(number) and exact.is_finite()):
        return False
    with np.errstate(all="ignore"):
        moved = zip(point.points, slope.directions, strict=True)
        sizes = np.concatenate([np.abs(x / d)[d * x != 0] for x, d in moved if d is not None])
        for least in {1.0, float(sizes.min(initial=np.inf))} - {np.inf}:
            over, noise = _secants(point, slope.weights, slope.directions, least)
            allowed = near * abs(number)
            if noise <= allowed and all(abs(s - number) <= allowed + noise for s in over):
                apart = all(abs(arb(s) - exact).lower() > allowed + noise for s in over)
                if apart or _is_staircase(point):
                    return True
    return False


def _near(point: Point) -> float:
    """Give how alike two differences are, as a share of either."""
    return float(point.fmt.unit_roundoff ** (0.25 if point.formulas.forward else 0.125))


def _secants(
    point: Point, weights: Array, directions: Sequence[Array | None], least: float
) -> tuple[list[float], float]:
    """Give slopes over many roundings of numbers of a size, and what the rounding of results is in them."""
    unit = point.fmt.unit_roundoff
    steps = [k * least * unit ** (0.5 if point.formulas.forward else 0.75) for k in (1, 16)]
    used = weights != 0
    noise = point.growth * unit * np.abs(weights * point.computed)[used].sum() / steps[0]
    with contextlib.suppress(Fault):  # not defined there
        return [secant(point, directions, weights, h) for h in steps], float(noise)
    return [], np.inf


def _is_staircase(point: Point) -> bool:
    """Tell whether a known function's slopes over many roundings are none of its own, at other inputs."""
    if point.formulas.forward is None:
        return False
    rng = np.random.default_rng(0)
    native = [
        stirred(a, rng) if f else a for a, f in zip(point.native, point.floating, strict=True)
    ]
    with contextlib.suppress(Exception):  # a program fixed at one point need not hold elsewhere
        there = point.at(native)
        weights = varied(np.isfinite(there.computed).astype(float))
        directions = [
            varied(np.abs(x)) if f else None
            for x, f in zip(there.points, there.floating, strict=True)
        ]
        exact = projection_slope(there.vector, weights, there.inputs, directions, FIRST_PRECISION)
        over, noise = _secants(there, weights, directions, 1.0)
        first, second = over
        allowed = _near(point) * abs(first) + noise
        return bool(abs(first - second) <= allowed < abs(arb(first) - exact).lower())
    return False


def undefined(numbers: Numbers, sloped: Array) -> Array:
    """Tell which numbers of a mode are not finite because of results without a slope, none of the ``sloped``.

    Of a VJP they are the elements that move these beside the point, and along which they have no slope at
    it, as those of x^y along y at 0 have: 0, their cotangent, times their infinite slope is nan, and that is
    no fault of the code's. Where such slopes grow towards the point, as a singular matrix's factors' do,
    they are also what other results share with these: in a JVP all, in a VJP elements whose slope changes
    beside the point.
    """
    point, broken = numbers.point, np.flatnonzero(~np.isfinite(numbers.computed))
    out = np.zeros(numbers.computed.size, dtype=bool)
    without = np.flatnonzero(~sloped & attached(point)) if broken.size else broken
    if not without.size:
        return out
    weights = np.zeros(sloped.size)
    weights[without] = np.sqrt(1.0 + np.arange(without.size))  # so that no slopes add up to 0
    try:
        far, near = (_slopes_at(numbers, weights, broken, point.beside(d)) for d in (0.5, 0.75))
        # Beside a jump slopes stay; those of x^0.9 grow by 15 % and more, in whatever format.
        grow = any(
            not (_is_zero(n) or abs(n).upper() < 1.1 * abs(f).lower())
            for n, f in zip(near, far, strict=True)
        )
        if numbers.directions is not None:
            out[broken] = grow
            return out
        out[broken] = [not _is_zero(s) for s in far]
        if out.any() and _are_defined(point, without):
            moving = broken[out[broken]].tolist()
            for i, place in zip(moving, numbers.places(moving), strict=True):
                own = Slope(point, weights, point.unit(*place)).truth
                finite = own.exact[0].abs_upper() < BALLS.exact(point.fmt.overflow)
                out[i] = not (own.resolved[0] and finite)
        if grow:
            here, there = (
                _slopes_at(numbers, numbers.weights, broken, x)
                for x in (point.inputs, point.beside(0.75))
            )
            allowed = arb(point.fmt.unit_roundoff).sqrt()
            out[broken] |= [
                not abs(a - b).upper() <= allowed * (abs(a) + abs(b)).lower()
                for a, b in zip(here, there, strict=True)
            ]
    except Exception:  # noqa: BLE001 - a program fixed at one point need not hold elsewhere
        out[broken] = True
    return out


def _is_zero(slope: Any) -> bool:
    return bool(slope.contains(0) and slope.rad() < _RESOLVED)


def _slopes_at(numbers: Numbers, weights: Array, elements: Array, inputs: Inputs) -> list[Any]:
    """Give the exact slopes of weighted results along elements of a VJP, or along the direction of a JVP."""
    vector, directions = numbers.point.vector, numbers.directions
    if directions is not None:
        return [projection_slope(vector, weights, inputs, directions, FIRST_PRECISION)]
    places = numbers.places(elements.tolist())
    return slopes_along(vector, weights, inputs, places, FIRST_PRECISION)


def _are_defined(point: Point, results: Array) -> bool:
    """Tell whether results have values: those without any at the highest precision have no slope at any."""
    try:
        return bool(
            are_finite(exact_value(point.vector, point.inputs, bits=CEILING)[results]).all()
        )
    except Undecided:
        return False
