"""Is the formula right? What derivative code gives exactly is compared with exact slopes of the function.

``faults`` gives the elements that are off their exact slopes, ``reverse_faults`` those of a VJP, each with
its exact slope. A truncated series is a legitimate formula, and so is one whose
constants are rounded: an element may be off by 8 u of itself and by as far as the constants move it. At a
kink the slope is the hull of the slopes beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb, are_finite, midpoints
from ffverify.exact.formats import Array
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION
from ffverify.truth.differences import TOGETHER
from ffverify.truth.slopes import (
    Slopes,
    slopes_along,
    weighted,
)
from ffverify.verdicts.verdict import Verdict

from .alternatives import may_be, without_derivative
from .numbers import Judged, Numbers
from .slope import known, slack

# How much is done at a time: the slopes of as many elements from one run, of the rest sums in so many parts.
_SINGLY, _PARTS = 64, 32
# Sums lose nothing of slopes, which are good to two thirds of the first precision.
_BITS = 2 * FIRST_PRECISION


class NotSeen(Exception):
    """The function does not execute the programs that it was supposed to."""


def faults(numbers: Numbers, slopes: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """Give of each array the worst element that is neither its exact slope nor a limit of slopes beside it.

    It is the worst beside itself of those that the code gives exactly. Apart from it stand the worst of those
    that only rounding made finite, and of those that the code gives as 0: as a tail that is cut off such a
    one may be excused, and hides no other.

    Raises
    ------
    NotSeen
        If there are some, and the programs are not those that the function executes.
    """
    balls, floats = numbers.balls, numbers.exactly.floats
    off = [
        (float((abs(balls[i] - t) / t).abs_upper()), i, t)
        for i, t in slopes
        if _differs(numbers, i, t)
    ]
    if off and not numbers.point.is_seen((numbers.mode,)):
        raise NotSeen
    off.sort(key=lambda each: -np.nan_to_num(each[0], nan=np.inf))  # an exact 0 first
    found: dict[Any, tuple[int, Any]] = {}
    for _, i, t in off[:_PARTS]:  # the slopes beside each of hundreds take minutes
        slope, kind = numbers.slope(i), (numbers.which[i], balls[i].is_finite(), floats[i] == 0)
        # A truncated series is off by a rounding of each term, whatever is left of their sum.
        if (kind, True) in found or abs(balls[i] - t).lower() <= slack(
            numbers.point, slope.uncancelled
        ):
            continue
        if not may_be(slope, balls[i]):  # where there may be no slope it hides no other
            found.setdefault((kind, bool(slope.truth.resolved[0])), (i, t))
    return dict(found.values())


def _differs(numbers: Numbers, i: int, exact: Any) -> bool:
    own, point = numbers.exactly, numbers.point
    formula = own.balls[i]
    if not formula.is_finite():
        return bool(exact.is_finite() and exact.abs_upper() < BALLS.exact(point.fmt.overflow))
    apart, allowed = abs(formula - exact).lower(), slack(point, exact)
    if not apart > allowed:
        return False
    if formula.is_zero() and exact.abs_upper() < arb(2) ** point.fmt.emin:  # it may be flushed
        return False
    # The constants of either side may be rounded up where those of the other are rounded down.
    mine = float(own.constants[i])
    if apart <= allowed + arb(2 * mine):  # those of the code alone cost the least
        return False
    return not apart <= allowed + arb(2 * (mine + numbers.slope(i).constants()))


class Identity:
    """⟨numbers, step⟩ = ⟨v, ∂F·step⟩ for the elements of a VJP, and the way from its failing to single ones.

    An element that is not finite stays out. ``exact`` are the slopes of all results along the step, if they
    are known.
    """

    def __init__(self, vjp: Numbers, step: Array, exact: Slopes | None = None) -> None:
        self.vjp, self.numbers, self.exact = vjp, vjp.balls, exact
        self.finite = are_finite(self.numbers)
        self.step = np.where(self.finite, step, 0.0)
        self.whole = np.flatnonzero(self.step)

    @cached_property
    def terms(self) -> Array:
        """What is summed up, as floats."""
        return np.where(self.finite, self.step * midpoints(self.numbers), 0.0)

    def masked(self, chosen: Array) -> Array:
        """Give the step as far as it moves some elements."""
        out = np.zeros(self.step.size)
        out[chosen] = self.step[chosen]
        return out

    @cached_property
    def total(self) -> Any:
        """The exact slope that all elements together should be."""
        if self.exact is None or not self.finite.all():
            return self.vjp.along(self.step).ball
        with BALLS.precision(_BITS):
            return weighted(self.exact.exact, self.vjp.weights)

    def slope(self, chosen: Array) -> Any:
        """Give the exact slope that some elements together should be."""
        is_whole = chosen.size == self.whole.size
        return self.total if is_whole else self.vjp.along(self.masked(chosen)).ball

    def residual(self, chosen: Array) -> float:
        """Give by how much the two sides differ at least; 0 where that is unknown."""
        if not chosen.size:
            return 0.0
        with BALLS.precision(_BITS):
            total = sum((self.numbers[chosen] * self.step[chosen]).tolist(), arb(0))
            apart = total - self.slope(chosen)
            return float(apart.abs_lower()) if apart.is_finite() else 0.0

    def differs(self, chosen: Array) -> bool:
        """Tell whether the two sides differ by more than constants explain, as either's are rounded."""
        size = self.residual(chosen)
        if not size:
            return False
        mine = float(np.hypot.reduce(self.vjp.exactly.constants[chosen] * self.step[chosen]))
        if size <= 2 * mine:
            return False
        return size > 2 * float(np.hypot(self.vjp.along(self.masked(chosen)).constants(), mine))

    def rounding(self, chosen: Array) -> float:
        """Give what roundings of the terms add up to; they meet random signs in the step."""
        point = self.vjp.point
        size = point.growth * point.fmt.unit_roundoff * float(np.hypot.reduce(self.terms[chosen]))
        return size + 2.0**point.fmt.smallest_exponent

    def lead(self, part: Array, parts: int, most: int) -> Array:
        """Lead from a sum that is off to a few elements: into the part that is off the most, and on."""
        while part.size > most:
            pieces = [p for p in np.array_split(part, parts) if p.size]
            part = max(pieces, key=lambda p: self.residual(p) / self.rounding(p))
        return part


def reverse_faults(vjp: Numbers, exact: Slopes, step: Array, undefined: Array) -> dict[int, Any]:
    """Give the elements of a VJP that have a wrong formula; those that are ``undefined`` have none."""
    own, identity = vjp.exactly, Identity(vjp, step, exact)
    broken, part = np.flatnonzero(~identity.finite), identity.whole
    chosen = broken[~undefined[broken]][:_SINGLY].tolist()
    if identity.residual(part) and not identity.differs(part):
        # What constants that round otherwise move by its own size is on a threshold: it excuses itself alone.
        part = part[own.constants[part] < np.abs(own.floats[part])]
    if identity.differs(part):
        large = sum(x.size for x in vjp.point.points) > TOGETHER
        chosen += identity.lead(part, 2 if large else _PARTS, _SINGLY).tolist()
    return faults(vjp, zip(chosen, _slopes_of(vjp, chosen), strict=True))


def _slopes_of(vjp: Numbers, chosen: list[int]) -> list[Any]:
    """Give the exact slopes along single elements, each known to a rounding of what it is compared with.

    A ball that holds whatever was computed because the slope is tiny beside its value would excuse it.
    """
    point, balls, found = vjp.point, vjp.balls, dict[int, Any]()
    tiny = arb(2) ** (point.fmt.smallest_exponent - 3)

    def is_wide(i: int) -> bool:
        size = abs(balls[i]).mid() if balls[i].is_finite() else arb(1)
        return bool(found[i].rad() > tiny + size * point.fmt.unit_roundoff)

    pending, bits = chosen, _BITS
    while pending and bits <= CEILING:
        places = vjp.places(pending)
        slopes = slopes_along(point.vector, vjp.weights, point.inputs, places, bits)
        found |= dict(zip(pending, slopes, strict=True))
        pending = [i for i in pending if found[i].is_finite() and is_wide(i)]
        bits *= 2
    return [found[i] for i in chosen]


def judge_sum(vjp: Numbers, exact: Slopes, step: Array) -> None:
    """Keep a direction in which elements are wrong together that are right one by one.

    At a tie every element of a maximum's gradient may be anything from 0 to 1, but their sum is 1. The
    bound allows each element half its digits: only a term too many or too few goes beyond that.
    """
    identity, fmt = Identity(vjp, step, exact), vjp.point.fmt
    part, terms, whole = identity.whole, identity.terms, identity.total
    size, allowed = identity.residual(part), fmt.unit_roundoff**0.5 * float(abs(terms).sum())
    if size <= allowed or (vjp.own is not None and not identity.differs(part)):
        return
    along = vjp.along(identity.step)
    if vjp.own is None:  # nobody knows what cancels in single elements
        allowed += vjp.point.growth * fmt.unit_roundoff * float(along.uncancelled)
    if size <= allowed or may_be(along, terms.sum()) or without_derivative(along, terms.sum()):
        return
    lost = vjp.own is None and along.has_lost_values()
    ulp = 2.0 ** int(fmt.ulp_exponents(np.array([float(whole.mid())]))[0])
    vjp.found.failed.append(
        Judged(
            along, vjp.mode, -1, (), None, Verdict.IMPRECISE if lost else Verdict.WRONG, float(terms.sum()),
            known(whole, vjp.point.growth), size / ulp, allowed / ulp,
            reason="Elements that sit on a kink are right one by one, but not together.",
        )
    )  # fmt: skip
