"""The judge: three questions about a function's derivatives at a point, never mixed, each over all elements.

F is the function's exact program, G that of its derivative code, ĝ what this code computed.

1. *Formula*: is G the derivative of F? One identity of two exact numbers, ⟨G(x; v), d⟩ = ⟨v, ∂F·d⟩, along
   a random direction d, and along one that keeps ties and zeros where there are some. It shows a wrong
   element of any size. Only where it fails the slopes of single elements are measured (`.formula`).
2. *Execution*: is ĝ a rounding of G? |ĝ - G| ≤ the running bound of G.
3. *Accuracy*: is ĝ as good as a good algorithm's? |ĝ - G| ≤ g·u·|G| + how far G moves when the inputs move
   by g·u + g subnormals (2 and 3: `.accuracy`).

``wrong``: 1 or 2 fails. ``imprecise``: only 3 fails. ``nonfinite``: nan or infinity where the derivative is
finite and representable. ``correct``: all three hold. Once 1 holds G is the truth of every element; where G
is unknown the formula question is asked of ĝ (`.unknown`).

``judge`` asks them at a point, along directions; ``look_ahead`` runs what is asked along the first of them
at many points as batches, so that no point needs a run of its own unless something is in doubt, and what
several are in doubt of is run for all of these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffverify.exact.elements import arb, are_finite
from ffverify.exact.formats import Array
from ffverify.exact.programs import Program, joined
from ffverify.gradients.directions import chosen_cotangents, random_direction, tied_directions
from ffverify.gradients.evaluation import Point, cotangents_at, finite_results, tangents_at
from ffverify.gradients.truth_sources import hold_to
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.slopes import Slopes, slopes, slopes_along, slopes_together
from ffverify.verdicts.verdict import Verdict
from ffverify.verdicts.verdict import judge as judge_numbers

from .accuracy import execution_and_accuracy
from .alternatives import undefined
from .exactly import Exactly, run_together
from .formula import faults, judge_sum, reverse_faults
from .numbers import Numbers, Screening, gradients, tangents, values
from .slope import known
from .unknown import judge_one, judge_tangents, judge_vjp, screen_by_differences

# Elements of one argument on kinks that are judged one by one: the same code made the others, and directions
# that keep ties judge the sum of all. They are sought among so many that are neither zeros nor ties.
_ON_KINKS, _SOUGHT = 4, 64


@dataclass
class Ahead:
    """What was computed along a direction: the values of a function, a JVP and a VJP.

    ``weights`` are cotangents of those results that have one slope; ``found`` is where what fails is kept.
    """

    directions: list[Array | None]
    slopes: Slopes
    weights: Array
    found: Screening
    jvp: Numbers | None = None
    vjp: Numbers | None = None
    values: Numbers | None = None

    def has_slopes(self, usable: Array) -> bool:
        """Tell whether any of the usable results has a slope, or one on either side."""
        return bool((usable & (self.slopes.smooth | self.slopes.kink)).any())

    def compute(
        self, point: Point, tangent: Exactly | None = None, gradient: Exactly | None = None
    ) -> None:
        """Compute in both modes what has slopes; what the code gives exactly may be known."""
        if self.weights.any() or self.slopes.kink.any():
            self.jvp = tangents(point, self.found, self.directions, tangent)
        if self.weights.any():
            self.vjp = gradients(point, self.found, self.weights, gradient)


def ahead_along(
    point: Point, directions: list[Array | None], usable: Array, found: Screening
) -> Ahead:
    """Measure along a direction at one point; the ``usable`` results are those that have derivatives."""
    exact = slopes(point.vector, point.inputs, directions, point.fmt, here=point.exact)
    out = Ahead(directions, exact, chosen_cotangents(point, usable & exact.smooth), found)
    out.compute(point)
    return out


def judge(point: Point, *, values: bool = True) -> Screening:
    """Judge the values, the VJP and the JVP of a function at a point."""
    found = Screening() if point.ahead is None else point.ahead.found
    if values and point.formulas.forward is not None:
        _values(point, found)
    detached = [f"result {k}" for k in point.places if not point.attached[k]]
    found.skipped |= dict.fromkeys(detached, "it is detached, and other results are not")
    if nans := int(np.isnan(point.computed).sum()):
        found.skipped["results that are nan"] = f"{nans} of {point.computed.size} at some input"
    if point.formulas.forward is None:
        screen_by_differences(point, found)
        return found
    usable = finite_results(point)
    ahead = point.ahead or ahead_along(point, random_direction(point), usable, found)
    each = [ahead] if ahead.has_slopes(usable) else _by_single_arguments(ahead, point, usable)
    kinked = np.any([_along(one, usable) for one in each], axis=0)
    if np.any(kinked):
        for direction in tied_directions(point):
            _along(ahead_along(point, direction, usable, found), usable, tied=True)
        # Beside one without any slope, as at a jump, none of a sum's would be seen.
        sloped = np.any([one.slopes.smooth | one.slopes.kink for one in each], axis=0)
        _on_kinks(point, kinked, usable & sloped, found)
    return found


def look_ahead(points: Sequence[Point]) -> None:
    """Run the exact programs that points share, and compute there; one where that fails gets nothing.

    The programs are only supposed to hold at all of them.
    """
    directions, first = [random_direction(p) for p in points], points[0]
    some: list[tuple[Point, Ahead]] = []
    each = slopes_together(first.vector, [p.inputs for p in points], directions, first.fmt)
    for point, direction, exact in zip(points, directions, each, strict=True):
        if exact is None:
            continue
        with contextlib.suppress(Exception):  # it is told when the point is checked alone
            hold_to(point.formulas, point.native, point.results, exact.value)
            point.formulas = replace(point.formulas, inputs=point.inputs, here=exact.value)
            smooth = finite_results(point) & exact.smooth
            ahead = Ahead(direction, exact, chosen_cotangents(point, smooth), Screening())
            some.append((point, ahead))
    if not some:
        return
    inputs = [p.inputs for p, _ in some]

    def run(program: Program | None, mores: list[list[Array]]) -> Sequence[Exactly | None]:
        if program is not None:
            with contextlib.suppress(Exception):  # code of the caller's, not for exact numbers
                return run_together(joined(program), inputs, mores, first.fmt, first.growth)
        return [None] * len(some)

    backward = run(first.formulas.backward(), [cotangents_at(p, a.weights) for p, a in some])
    tangent = run(first.formulas.tangent(), [tangents_at(p, a.directions) for p, a in some])
    refused = ""
    for (point, ahead), forward, reverse in zip(some, tangent, backward, strict=True):
        with contextlib.suppress(Exception):  # as above
            point.refused = point.refused or refused
            ahead.values = values(point, ahead.found)
            ahead.compute(point, forward, reverse)
            point.ahead = ahead
            refused = ahead.found.skipped.get(point.subject.forward, "")
    made = [p.ahead for p in points if p.ahead is not None]
    for alike in ([a.values for a in made], [a.jvp for a in made], [a.vjp for a in made]):
        ran = [n for n in alike if n is not None and n.own is not None]
        beside = [n.exactly for n in ran]
        for n in ran:
            n.exactly.beside, n.exactly.doubted = beside, bool(n.doubts[0].any())


def _by_single_arguments(ahead: Ahead, point: Point, usable: Array) -> list[Ahead]:
    """Measure along one argument at a time, as where one is a label at which the function jumps."""
    out = []
    for j in np.flatnonzero(point.floating).tolist():
        alone = [
            d if d is None or k == j else np.zeros_like(d) for k, d in enumerate(ahead.directions)
        ]
        one = ahead_along(point, alone, usable, ahead.found)
        if one.has_slopes(usable):
            out.append(one)
        else:
            reason = "no result has a slope along it at some input"
            ahead.found.skipped[f"by {point.subject.labels[j]}"] = reason
    return out


def _values(point: Point, found: Screening) -> None:
    """Ask the second and the third question of the function's own values."""
    ahead = point.ahead
    computed = values(point, found) if ahead is None or ahead.values is None else ahead.values
    execution_and_accuracy(computed, np.ones(computed.computed.size, dtype=bool))


def _along(ahead: Ahead, usable: Array, *, tied: bool = False) -> Array:
    """Judge both modes along a direction; tell which results have a kink there."""
    exact, found = ahead.slopes, ahead.found
    smooth = usable & exact.smooth
    jvp, vjp = ahead.jvp, ahead.vjp
    if jvp is not None:
        defined, kinked = smooth & ~_undefined(jvp, exact, usable), np.zeros_like(smooth)
        hulls = usable & exact.kink & are_finite(exact.exact)
        kinked[np.flatnonzero(hulls)[:_ON_KINKS]] = True
        found.judged += int((defined | kinked).sum())
        if jvp.own is None:
            judge_tangents(jvp, exact, defined)
            for o in np.flatnonzero(kinked).tolist():
                judge_one(jvp, o)
        else:
            wrong: dict[int, Any] = {}
            for some in (defined, kinked):  # what limits explain must not fill the places of others
                each = ((o, exact.exact[o]) for o in np.flatnonzero(some).tolist())
                wrong |= faults(jvp, each)
            _tell(jvp, wrong, defined | kinked)
    if vjp is not None:
        without = _undefined(vjp, exact, usable)
        found.judged += int((~without).sum())
        before = len(found.failed)
        step = np.concatenate([np.ravel(d) for d in ahead.directions if d is not None])
        if vjp.own is None:
            judge_vjp(vjp, step, without)
        else:
            _tell(vjp, reverse_faults(vjp, exact, step, without), ~without)
        if tied and len(found.failed) == before:
            judge_sum(vjp, exact, step)
    return exact.kink & usable


def _undefined(numbers: Numbers, exact: Slopes, usable: Array) -> Array:
    """Tell which numbers have no derivative because other results have no slope, and note that."""
    out = undefined(numbers, usable & (exact.smooth | exact.kink))
    if count := int(out.sum()):
        why = (
            f"not finite in {count} of {out.size} at some input, where other results have no slope"
        )
        numbers.found.skipped[f"numbers of {numbers.mode} mode"] = why
    return out


def _on_kinks(point: Point, kinked: Array, usable: Array, found: Screening) -> None:
    """Judge elements that sit on a kink against the slopes on either side and beside.

    They are zeros and ties, and others at which results that are ``kinked`` bend.
    """
    vjp = gradients(point, found, chosen_cotangents(point, usable))
    if vjp is None:
        return
    special, plain = list[int](), list[int]()
    for k, j in enumerate(vjp.owners):
        flat, here = point.points[j].ravel(), np.flatnonzero(vjp.which == k)
        numbers, counts = np.unique(flat, return_counts=True)
        tied = np.isin(flat, numbers[counts > 1]) | (flat == 0)
        special += here[tied][:_ON_KINKS].tolist()
        plain += here[~tied][:_SOUGHT].tolist()
    bent = _bent(point, kinked, plain, vjp.places(plain))
    for k in range(len(vjp.owners)):
        special += [i for i in bent if vjp.which[i] == k][:_ON_KINKS]
    asked = np.zeros(vjp.computed.size, dtype=bool)
    asked[special] = True
    if vjp.own is None:
        for i in np.flatnonzero(asked).tolist():
            judge_one(vjp, i)
    else:
        asked &= ~undefined(vjp, usable)
        truths = ((i, vjp.slope(i).truth) for i in np.flatnonzero(asked).tolist())
        hulls = [(i, t.exact[0]) for i, t in truths if t.resolved[0] and t.exact[0].is_finite()]
        _tell(vjp, faults(vjp, hulls), asked)
    found.judged += int(asked.sum())


def _bent(
    point: Point, results: Array, elements: Sequence[int], places: Sequence[tuple[int, int]]
) -> list[int]:
    """Give the elements along which some results have other slopes above the point than below it."""
    weights = np.where(results, np.sqrt(1.0 + np.arange(results.size)), 0.0)  # none add up to 0
    half = arb(point.fmt.unit_roundoff).sqrt()
    with contextlib.suppress(Exception):  # a program fixed at one point need not hold elsewhere
        below, above = (
            slopes_along(point.vector, weights, point.beside(0.75, side), places, FIRST_PRECISION)
            for side in (-1, 1)
        )
        return [
            i
            for i, a, b in zip(elements, below, above, strict=True)
            if not abs(a - b).upper() <= half * (abs(a) + abs(b)).lower()
        ]
    return []


def _tell(numbers: Numbers, wrong: dict[int, Any], asked: Array) -> None:
    """Keep the elements that have a wrong formula; ask the other questions of the rest."""
    point, asked = numbers.point, asked.copy()
    for i, exact in wrong.items():
        computed, truth, asked[i] = float(numbers.computed[i]), known(exact, point.growth), False
        if np.isfinite(computed) and not numbers.balls[i].is_finite():
            judge_one(numbers, i)
            continue
        # A formula that gives 0 below a rounding of its scale cuts a tail off.
        cut_off = computed == 0 == numbers.exactly.floats[i] and numbers.slope(i).hides_in_tail(
            exact.abs_upper(), point.growth * point.fmt.unit_roundoff
        )
        off = Verdict.WRONG if np.isfinite(computed) else Verdict.NONFINITE
        found = judge_numbers(numbers.computed[i : i + 1], truth, point.fmt)
        numbers.fail(
            i, Verdict.IMPRECISE if cut_off else off, truth, float(found.error_ulps[0]),
            float(found.allowed_ulps[0]), tail=cut_off and numbers.is_relative(i, exact),
        )  # fmt: skip
    execution_and_accuracy(numbers, asked)
