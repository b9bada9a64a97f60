"""Judge single numbers of a derivative against their own exact slopes.

``judge_reverse`` and ``judge_forward`` judge one element of a VJP or JVP and keep it in the
``Screening`` if it fails; ``decide`` is the rule by which a number is wrong, imprecise or right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, projected
from ffverify.frameworks.arrays import to_numpy
from ffverify.gradients.evaluation import Point, result_index
from ffverify.gradients.judge.formula import formula_of, tangents_formula
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS, Truth
from ffverify.truth.neighbourhood import nearby_slopes
from ffverify.truth.slopes import along, constants_moved
from ffverify.verdicts.verdict import Verdict, judge

from .natural_scale import is_noise, is_tail

_PATTERNS = 2  # of signs, to move a formula's constants by


@dataclass(frozen=True)
class Judged:
    """One number that failed, with what there is to say about it.

    ``argument`` is an argument's position (reverse mode) or a result's (forward mode), ``index`` the
    element in it. ``program`` and ``directions`` restate the exact slope, for the second arithmetic.
    """

    point: Point
    mode: str
    argument: int
    index: tuple[int, ...]
    kind: Verdict
    computed: float
    truth: Truth
    error_ulps: float
    allowed_ulps: float
    tail: bool
    weights: Array
    directions: Sequence[Array | None]
    gradient: Array | None = None
    reason: str = ""


@dataclass
class Screening:
    """What the screening of one point found."""

    failed: list[Judged] = field(default_factory=list)
    judged: int = 0
    worst_ulps: float = 0.0
    sensitivity: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)


def note_sensitivity(
    point: Point, found: Screening, expected: Array, noise: float, smallest: float
) -> None:
    """Note the smallest error in an element, beside the largest element, that shows at this point."""
    finite = np.abs(expected[np.isfinite(expected)])
    largest = float(finite.max(initial=0.0))
    if largest == 0:
        return
    seen = LIBRARY_ROUNDINGS * point.fmt.unit_roundoff + noise / smallest / largest
    found.sensitivity = max(found.sensitivity, seen)


def note_allowed(found: Screening, gradient: Array, error: float) -> None:
    """Note an error that conditioning allows, beside the largest element: a like one cannot show."""
    largest = float(np.abs(gradient[np.isfinite(gradient)]).max(initial=0.0))
    if largest:
        found.sensitivity = max(found.sensitivity, error / largest)


def _moving(point: Point, i: int | None) -> list[Array | None]:
    """Tell whose rounding moves a slope: that of every input, or, elementwise, of element i only."""
    out: list[Array | None] = []
    for x, f in zip(point.points, point.floating, strict=True):
        if not f:
            out.append(None)
            continue
        mask = x != 0
        if i is not None:
            mask = mask & (np.arange(x.size).reshape(x.shape) == i)
        out.append(mask)
    return out


def judge_reverse(
    point: Point,
    found: Screening,
    j: int,
    i: int,
    gradients: list[Array | None],
    formula: list[Array] | None,
    weights: Array,
    *,
    elementwise: bool = False,
) -> None:
    """Judge element i of the gradient by argument j."""
    g = gradients[j]
    assert g is not None  # noqa: S101 - callers asked
    index = tuple(int(k) for k in np.unravel_index(i, g.shape))
    exact_formula = None if formula is None else formula[j].ravel()[i]

    def other(arithmetic: Arithmetic, units: int = 0) -> Any:
        again = formula_of(point, weights, arithmetic, units=units)
        return None if again is None else again[j].ravel()[i]

    _judge(
        point, found, point.subject.reverse, j, index, float(g.ravel()[i]), weights,
        point.unit(j, i), exact_formula, other, i if elementwise else None, gradient=g,
    )  # fmt: skip


def judge_forward(
    point: Point,
    found: Screening,
    o: int,
    tangents: Array,
    directions: Sequence[Array | None],
    *,
    elementwise: bool = False,
) -> None:
    """Judge element o of the joined tangents."""
    weights = np.zeros(tangents.size)
    weights[o] = 1.0
    k, index = result_index(point, o)
    formula = tangents_formula(point, directions)
    exact_formula = None if formula is None else formula[o]

    def other(arithmetic: Arithmetic, units: int = 0) -> Any:
        again = tangents_formula(point, directions, arithmetic, units=units)
        return None if again is None else again[o]

    _judge(
        point, found, point.subject.forward, k, index, float(tangents[o]), weights,
        directions, exact_formula, other, o if elementwise else None, gradient=tangents,
    )  # fmt: skip


def judge_direction(
    point: Point,
    found: Screening,
    gradients: list[Array | None],
    directions: list[Array | None],
    weights: Array,
) -> None:
    """Judge a VJP along a whole direction: elements that are right one by one can be wrong together.

    At a tie every element of a maximum's gradient may be anything from 0 to 1, but their sum is 1. The
    bound allows each element half its digits: only a term too many or too few goes beyond that.
    """
    program = projected(point.vector, weights)
    moving = _moving(point, None)
    exact = along(program, point.inputs, directions, point.fmt, growth=point.growth, moving=moving)
    pairs = [
        (g, d)
        for g, d in zip(gradients, directions, strict=True)
        if g is not None and d is not None
    ]
    terms = np.concatenate([(g.astype(np.float64) * d).ravel() for g, d in pairs])
    if exact.kink[0] or not exact.resolved[0] or not np.isfinite(terms).all():
        return
    computed = math.fsum(terms)
    t = float(exact.exact[0].mid())
    allowed = point.fmt.unit_roundoff**0.5 * float(np.abs(terms).sum())
    ulp = 2.0 ** int(point.fmt.ulp_exponents(np.array([t]))[0])
    if abs(computed - t) > allowed and not _within_reach(
        point, program, directions, computed, exact, None, units=0, roundings=exact.growth
    ):
        found.failed.append(
            Judged(
                point, point.subject.reverse, -1, (), Verdict.WRONG, computed, exact,
                abs(computed - t) / ulp, allowed / ulp, False, weights, directions,
                reason="Elements that sit on a kink are right one by one, but not together.",
            )
        )  # fmt: skip


def _judge(
    point: Point,
    found: Screening,
    mode: str,
    argument: int,
    index: tuple[int, ...],
    computed: float,
    weights: Array,
    directions: Sequence[Array | None],
    formula: Any,
    other: Callable[..., Any],
    element: int | None,
    *,
    gradient: Array,
) -> None:
    """Judge one number against its own exact slope and keep it if it fails.

    ``formula`` is the number in exact arithmetic; ``other(arithmetic, units)`` gives it in another one,
    and at all inputs that are moved by up to units·u.
    """

    @cache
    def off() -> bool:
        return _differs(formula, other, exact, point.fmt)

    @cache
    def running() -> Any:
        return _running(point, weights, mode, argument, index, directions)

    program = projected(point.vector, weights)
    growth = LIBRARY_ROUNDINGS if element is not None else point.growth
    exact = along(
        program, point.inputs, directions, point.fmt, growth=growth, moving=_moving(point, element)
    )
    verdict, error, allowed = decide(
        computed, exact, point.fmt, formula=formula, strict=point.strict, off=off, running=running
    )
    if np.isfinite(error) and not exact.exact[0].contains(0):  # beside 0 ulps mean nothing
        found.worst_ulps = max(found.worst_ulps, error)
    if verdict is Verdict.CORRECT:
        if np.isfinite(computed):  # whatever is allowed here would not have been seen
            note_allowed(found, gradient, float((arb(computed) - exact.exact[0]).abs_lower()))
        return
    same = not off()
    # A formula that is wrong must not hide in how far slopes or roundings move: it may be a limit only.
    units = exact.growth if same and not point.strict else 0
    in_itself = not same and formula.is_finite()
    off_by_a_number = verdict in (Verdict.IMPRECISE, Verdict.WRONG)
    if off_by_a_number and _within_reach(
        point, program, directions, formula if in_itself else computed, exact, element, units=units,
        roundings=LIBRARY_ROUNDINGS if in_itself else exact.growth,
        around=other(BALLS, units) if units and formula is not None else None,
    ):  # fmt: skip
        return
    whole = gradient if element is None else None
    known = None if formula is None else same
    tail = off_by_a_number and (
        is_tail(point, weights, directions, computed, exact, whole, same=known)
        or (same and is_noise(point, weights, directions, computed, exact, running))
    )
    if tail:
        verdict = Verdict.IMPRECISE
    found.failed.append(
        Judged(
            point, mode, argument, index, verdict, computed, exact, error, allowed, tail,
            weights, directions, gradient,
        )
    )  # fmt: skip


def _within_reach(
    point: Point,
    program: Program,
    directions: Sequence[Array | None],
    number: Any,
    exact: Truth,
    element: int | None,
    *,
    units: int,
    roundings: int,
    around: Any = None,
) -> bool:
    """Tell whether a number is a slope at inputs that move by up to units·u, 0 for a limit of slopes.

    So is the gradient at a tie, or at a kink that is met within the rounding of the inputs. Limits are
    as narrow as the slope itself where the function is smooth. The number, a float or a ball, has so
    many roundings of its own. ``around`` is a ball that holds all of those slopes, where one is known: a
    number outside it needs no search.
    """
    number = arb(number)
    if (
        around is not None
        and around.is_finite()
        and not _holds(around, number, roundings, point.fmt)
    ):
        return False
    every = [
        np.ones(x.shape, bool) if f else None
        for x, f in zip(point.points, point.floating, strict=True)
    ]
    if element is not None:
        here = np.arange(point.sizes[0]) == element
        every = [m if m is None else here.reshape(m.shape) for m in every]
    width = float((number - exact.exact[0]).abs_lower()) / 8  # far from covering the error itself
    hull = nearby_slopes(
        program, point.inputs, directions, point.fmt, every, units=units, width=width
    )
    if hull is None:
        return False
    return _holds(arb(hull[0]).union(arb(hull[1])), number, roundings, point.fmt)


def _holds(slopes: Any, number: Any, roundings: int, fmt: Format) -> bool:
    """Tell whether a number is one of the slopes in a ball, up to its own roundings."""
    slack = roundings * (fmt.unit_roundoff * slopes.abs_upper() + arb(2) ** fmt.smallest_exponent)
    return bool(number.is_finite() and (number - slopes).abs_lower() <= slack)


def _running(
    point: Point,
    weights: Array,
    mode: str,
    argument: int,
    index: tuple[int, ...],
    directions: Sequence[Array | None],
) -> Any:
    """Bound what the roundings of the derivative program can add up to in one element, or None."""
    from ffverify.verdicts.bounds import running_bound

    if mode == point.subject.reverse:
        program, position = point.formulas.backward(), sum(point.floating[:argument])
        vectors = [to_numpy(v) for v in point.split(weights) if v is not None]
    else:
        program, position = point.formulas.tangent(), point.places.index(argument)
        vectors = [
            np.zeros(x.shape) if d is None else d
            for d, x, f in zip(directions, point.points, point.floating, strict=True)
            if f
        ]
    if program is None:
        return None
    radii = running_bound(program, [*point.points, *vectors], point.fmt)
    return radii[position][index]


def _differs(formula: Any, other: Callable[[Arithmetic], Any], exact: Truth, fmt: Format) -> bool:
    """Tell whether the formula, in exact arithmetic, is off by more than its rounded constants.

    These are the truth's (its motion has them) and the formula's own, moved here.
    """
    if formula is None:
        return False
    t, motion = exact.exact[0], exact.motion[0]
    slack = LIBRARY_ROUNDINGS * (
        arb(fmt.unit_roundoff) * t.abs_upper() + arb(2) ** fmt.smallest_exponent
    )
    if motion.is_finite():
        slack += motion.abs_upper() * LIBRARY_ROUNDINGS / exact.growth
    if not formula.is_finite():
        return True
    if not bool((formula - t).abs_lower() > slack):
        return False
    total = arb(0)
    for pattern in range(_PATTERNS):
        arithmetic, met = constants_moved(fmt, LIBRARY_ROUNDINGS, pattern)
        again = other(arithmetic)
        if again is not None and again.is_finite():
            apart = again - formula
            total += apart * apart * len(met) / _PATTERNS  # Arb's ** 2 around 0 is nan
    return bool((formula - t).abs_lower() > slack + total.abs_upper().sqrt())


def decide(
    computed: float,
    exact: Truth,
    fmt: Format,
    *,
    formula: Any = None,
    strict: bool = False,
    off: Callable[[], bool] = lambda: False,
    running: Callable[[], Any] = lambda: None,
) -> tuple[Verdict, float, float]:
    """Give the verdict on one number, its error and the allowed one in ulps.

    ``formula`` is what the derivative program gives in exact arithmetic: if it is ``off`` the truth the
    number is wrong, whatever rounding adds; if it agrees, rounding is to blame as far as the running
    bound goes.
    """
    number = np.array([computed])
    first = judge(number, exact, fmt, inputs_exact=strict)
    verdict = Verdict(first.verdicts[0])
    error, allowed = float(first.error_ulps[0]), float(first.allowed_ulps[0])
    t = exact.exact[0]
    differs = bool(exact.resolved[0]) and off()
    if verdict is Verdict.CORRECT and differs and formula.is_finite() and not exact.kink[0]:
        c = arb(computed) if np.isfinite(computed) else arb.nan()
        if bool(2 * abs(c - formula) < abs(formula - t)):
            return Verdict.WRONG, error, allowed
    if verdict not in (Verdict.IMPRECISE, Verdict.WRONG):
        return verdict, error, allowed
    if differs:
        return Verdict.WRONG, error, allowed
    bound = running()
    if bound is not None:
        held = np.empty(1, dtype=object)
        held[0] = bound
        second = judge(number, exact, fmt, inputs_exact=strict, running=held)
        verdict = Verdict(second.verdicts[0])
    return verdict, error, allowed
