"""The numbers that a function computed at a point in one mode: its values, a JVP or a VJP, as one vector.

``values``, ``tangents`` and ``gradients`` compute them. Whatever the mode, element i is the slope of
⟨weights, results⟩ along a direction (of values: no direction), and what fails is kept by ``fail``: a
``Judged`` in the ``Screening`` of the point, which knows also how small an error would have shown.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb, parted
from ffverify.exact.formats import Array
from ffverify.exact.programs import Program, joined
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.gradients.evaluation import (
    Point,
    cotangents_at,
    forward_motion,
    gradients_of,
    of_ordinary_size,
    of_other_signs,
    reverse_motion,
    tangents_at,
    tangents_of,
)
from ffverify.gradients.function_under_test import Fault
from ffverify.truth.adaptive import Truth
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.verdicts.finding import lost_ulps
from ffverify.verdicts.verdict import Verdict

from .alternatives import without_derivative
from .exactly import Exactly, run_alone
from .slope import Slope, varied


@dataclass(frozen=True)
class Judged:
    """One number that failed, with what there is to say about it.

    ``argument`` is an argument's position (reverse mode) or a result's (values, forward mode), ``index`` the
    element in its ``array``; -1 and no array for a sum of several. ``slope`` is what it should be, or for a
    value which one it is.
    """

    slope: Slope
    mode: str
    argument: int
    index: tuple[int, ...]
    array: Array | None
    kind: Verdict
    computed: float
    truth: Truth
    error_ulps: float
    allowed_ulps: float
    tail: bool = False
    reason: str = ""

    @property
    def point(self) -> Point:
        """The input."""
        return self.slope.point

    @property
    def ends_range(self) -> bool:
        """Whether it overflowed so near to the largest number that g of its size cannot be summed up."""
        if self.kind is not Verdict.NONFINITE or self.point.formulas.forward is None:
            return False
        largest = BALLS.exact(self.point.fmt.overflow) / self.point.growth
        # Where it is less itself the terms that cancelled in it are as large.
        return bool(self.truth.exact[0].abs_upper() >= largest or self.slope.uncancelled >= largest)

    @property
    def aside(self) -> bool:
        """Whether it is a value of a function of which the caller's derivative is asked for."""
        subject = self.point.subject
        return self.mode == "value" and (subject.caller_vjp or subject.caller_jvp) is not None


@dataclass
class Screening:
    """What was found at one point, or at many.

    ``zero`` tells of each input by name whether its gradient is 0 all over: no wrong factor shows in that.
    """

    failed: list[Judged] = field(default_factory=list)
    judged: int = 0
    worst_ulps: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    zero: dict[str, bool] = field(default_factory=dict)
    power: dict[tuple[str, int], Array] = field(default_factory=dict)
    half: float = 0.0
    accused: float = 0.0
    format: str = ""

    def add(self, other: Screening) -> None:
        """Add what was found at another point, except what failed."""
        self.judged += other.judged
        self.worst_ulps = max(self.worst_ulps, other.worst_ulps)
        self.skipped |= other.skipped
        self.zero |= {k: self.zero.get(k, True) and zero for k, zero in other.zero.items()}
        for key, limits in other.power.items():
            self.power[key] = np.fmin(self.power.get(key, limits), limits)
        self.half, self.format = max(self.half, other.half), other.format or self.format
        self.accused = max(self.accused, other.accused)

    @property
    def sensitivity(self) -> float:
        """The smallest error that would have been seen in whichever single element of the gradients it is."""
        best: dict[str, float] = {}
        for (mode, _), limits in self.power.items():
            largest = float(np.fmax.reduce(limits))
            best[mode] = min(best.get(mode, np.inf), 0.0 if np.isnan(largest) else largest)
        return max(best.values(), default=0.0)


@dataclass
class Numbers:
    """Arrays of one mode, raveled and joined; ``owners`` are their results, or for a VJP their arguments.

    ``weights`` are the cotangents of a VJP, ``directions`` the tangents of a JVP; those that are not there
    differ from element to element: one result alone, one input alone. ``program`` is the code, if it is
    known, ``more`` what it takes besides the inputs, ``ran`` what it gave, if it was run already.
    """

    point: Point
    found: Screening
    mode: str
    computed: Array
    owners: Sequence[int]
    shapes: Sequence[tuple[int, ...]]
    weights: Array = field(default_factory=lambda: np.zeros(0))
    directions: Sequence[Array | None] | None = None
    program: Program | None = None
    more: Sequence[Array] = ()
    ran: Exactly | None = None
    _slopes: dict[int, Slope] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> list[int]:
        """How many elements each array has."""
        return list(map(math.prod, self.shapes))

    @cached_property
    def which(self) -> Array:
        """Which array each element is of."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def place(self) -> Array:
        """Where in its array each element is, the array raveled."""
        return np.concatenate([np.arange(n) for n in self.sizes])

    def places(self, chosen: Iterable[int]) -> list[tuple[int, int]]:
        """Give the result or argument that elements belong to, and where they are in it, raveled."""
        return [(self.owners[self.which[i]], int(self.place[i])) for i in chosen]

    @cached_property
    def own(self) -> Exactly | None:
        """The code in exact arithmetic; None where it is unknown or cannot be run."""
        if self.program is None:
            return None
        point, found = self.point, self.ran
        if found is None:
            vector = joined(self.program)
            found = run_alone(vector, point.inputs, self.more, point.fmt, point.growth)
        return found if found is not None and found.balls.size == self.computed.size else None

    @cached_property
    def doubts(self) -> tuple[Array, Array]:
        """Which are off by more than rounding from what their code gives exactly, and all by how much."""
        return self.doubted(self.exactly.floats)

    @property
    def exactly(self) -> Exactly:
        """The code in exact arithmetic, which is known."""
        assert self.own is not None  # noqa: S101 - the caller asked
        return self.own

    @cached_property
    def balls(self) -> Array:
        """What the code gives exactly; where it is unknown what it computed."""
        return BALLS.array(self.computed).values if self.own is None else self.own.balls

    def slope(self, i: int) -> Slope:
        """Give what element i should be."""
        if i not in self._slopes:
            weights, directions = self.weights, self.directions
            if not weights.size:
                weights = np.zeros(self.computed.size)
                weights[i] = 1.0
            if directions is None:
                directions = self.point.unit(*self.places([i])[0])
            self._slopes[i] = Slope(self.point, weights, directions)
        return self._slopes[i]

    def along(self, step: Array) -> Slope:
        """Give what ⟨a VJP, step⟩ should be."""
        directions: list[Array | None] = [None] * len(self.point.points)
        parts = parted(step, self.sizes)
        for j, shape, part in zip(self.owners, self.shapes, parts, strict=True):
            directions[j] = part.reshape(shape) if np.any(part) else None
        return Slope(self.point, self.weights, directions)

    def of_largest(self, numbers: Array) -> Array:
        """Give for every element the largest finite magnitude in its own array."""
        sizes = np.where(np.isfinite(numbers), np.abs(numbers), 0.0)
        return np.repeat([p.max(initial=0.0) for p in parted(sizes, self.sizes)], self.sizes)

    @property
    def floats(self) -> Array:
        """What the code gives exactly, rounded to floats; where it is unknown what it computed."""
        return self.computed if self.own is None else self.own.floats

    def _at(self, others: Sequence[Sequence[Array]], *mores: Sequence[Array]) -> list[Array]:
        """Give the numbers at other inputs, a row for each of ``mores``: exactly, or as unknown code does."""
        if self.own is not None:
            return self.own.at(others, *mores)
        if self.directions is not None:  # tangents are of the size of the inputs here
            return []
        return [row[None] for arrays in others if (row := self._computed_at(arrays)) is not None]

    def _computed_at(self, arrays: Sequence[Array]) -> Array | None:
        """Compute the numbers at other inputs; None where that fails, or gives others."""
        point, found = self.point, None
        given = zip(point.native, arrays, point.floating, strict=True)
        with contextlib.suppress(Fault):
            there = point.at([like(a, x) if f else a for a, x, f in given])
            found = gradients(there, Screening(), self.weights)
        return found.computed if found is not None and found.shapes == self.shapes else None

    def _scale_at(self, others: Sequence[Sequence[Array]]) -> Array:
        """Give the largest magnitude in each element's own array, here and at other inputs."""
        there = self._at(others, self.more, list(map(varied, self.more)))
        every = np.concatenate([self.floats[None], *there])
        return np.max([self.of_largest(each) for each in every], axis=0)  # type: ignore[no-any-return]  # an array

    @cached_property
    def motion(self) -> Array | None:
        """How far each number moves when the inputs move by g·u, as floats tell; None if they do not."""
        if self.directions is not None:
            return forward_motion(self.point, self.directions)
        found = reverse_motion(self.point, self.weights)
        parts = [part for j in self.owners if (part := found[j]) is not None]
        return np.concatenate(parts) if len(parts) == len(self.owners) else None

    def doubted(self, exact: Array) -> tuple[Array, Array]:
        """Tell which are off by more than rounding, and by how much; ``exact`` is rounded to floats."""
        fmt, g = self.point.fmt, self.point.growth
        with np.errstate(all="ignore"):
            error = np.abs(self.computed - exact)
            error[self.computed == exact] = 0.0
            allowed = (g - 1) * fmt.unit_roundoff * np.abs(exact) + g * 2.0**fmt.smallest_exponent
        return ~(error <= allowed), error

    @cached_property
    def too_large(self) -> Array:
        """Whether an element of a number's array is beyond the format: what is computed with it may fail."""
        overflow = BALLS.exact(self.point.fmt.overflow)
        beyond = np.array([not abs(b).abs_lower() < overflow for b in self.balls], dtype=bool)
        return np.repeat([p.any() for p in parted(beyond, self.sizes)], self.sizes)

    def is_relative(self, i: int, exact: Any) -> bool:
        """Tell whether an error is rounding beside the natural scale, or beside what cancels or underflows.

        A derivative in the tail of a function, or one whose terms cancel, may have no right digit and
        still serve: beside the scale on which it matters its error is rounding.
        """
        computed, point = float(self.computed[i]), self.point
        own = None if self.own is None or not self.own.balls[i].is_finite() else self.own
        fmt = point.fmt
        if not np.isfinite(computed):
            return False
        distance = (arb(computed) - exact).abs_upper()
        # What underflows may be flushed to zero; strictly no more than there are no numbers for.
        flushed = point.growth * 2.0 ** (fmt.smallest_exponent if point.strict else fmt.emin)
        if distance <= flushed:
            return True
        unit = point.growth * fmt.unit_roundoff
        if own is not None:
            # So near to underflow that half of its digits are below what may be flushed.
            size = float(exact.abs_upper())
            small = size <= flushed / fmt.unit_roundoff**0.5
            nothing = small or exact.contains(0) or size <= 2 * own.constants[i]
            if nothing and distance <= own.running[i] < np.inf:
                return True
        if point.strict and exact.contains(0):
            return True
        share = unit
        if self.mode == "value":  # beside its scale it owes what a number owes beside itself
            share = max(unit, fmt.unit_roundoff * lost_ulps(fmt, strict=point.strict))
        allowed = share * self._natural_scale(i)
        if point.formulas.forward is None and self.motion is not None:
            # What linear algebra gives may be off in each of an array as far as any of it moves.
            allowed += float(self.of_largest(self.motion)[i])
        return bool(distance <= allowed or distance <= unit * self.slope(i).uncancelled)

    def _natural_scale(self, i: int) -> float:
        """Give the largest magnitude in an array, here and at ordinary inputs, or what results' sizes tell.

        Where several inputs make a number its terms may happen to cancel here. What one input alone makes may
        be a tail: then only what is larger than 1 becomes ordinary, as below it owes the digits of its size.
        Strictly it owes those of its tail too, and ordinary is only what is drawn. A value is asked for
        beside others, as a sum of losses is, strictly too.
        """
        if self.mode == "value" or (self._ordinary and self._is_of_many(i, self._ordinary[0])):
            scales = self._scale_at_ordinary
        elif self.point.strict:
            return 0.0
        else:
            scales = self._scale_of_tails
        return max(float(scales[i]), self.slope(i).of_values())

    @cached_property
    def _ordinary(self) -> list[list[Array]]:
        """Inputs without anything special about them."""
        point = self.point
        only_drawn = point.strict and self.mode != "value"
        drawn = point.ordinary if only_drawn else of_ordinary_size(point)
        return [
            [o if f else x for x, o, f in zip(point.points, other, point.floating, strict=True)]
            for other in drawn
            if [o.shape for o in other] == [x.shape for x in point.points]
        ]

    @cached_property
    def _scale_at_ordinary(self) -> Array:
        # What saturates, by how its inputs add up, does not with other signs. Strictly it owes its tail.
        unasked = self.mode == "value" or self.point.strict
        others = [] if unasked else of_other_signs(self.point)
        return self._scale_at([*self._ordinary, *others])

    @cached_property
    def _scale_of_tails(self) -> Array:
        given = self.point.points
        large = [np.abs(x.astype(np.float64)) > 1 for x in given]
        return self._scale_at([list(map(np.where, large, o, given)) for o in self._ordinary])

    def _is_of_many(self, i: int, ordinary: Sequence[Array]) -> bool:
        """Tell whether several inputs make a number: it changes when all but one become ordinary.

        One input alone makes that of an elementwise function: in arrays of one size the one in its place.
        """
        size = self.sizes[self.which[i]]
        own = np.arange(size) == self.place[i]
        given = zip(self.point.points, ordinary, self.point.floating, strict=True)
        alone = [
            np.where(own.reshape(x.shape), x, o) if f and x.size == size else o for x, o, f in given
        ]
        there = self._at([alone], self.more)
        if not there:
            return False
        here, unit = self.floats[i], self.point.growth * self.point.fmt.unit_roundoff
        return not abs(there[0][0, i] - here) <= unit * abs(here)  # what is undefined here too

    def unseen(self, limits: Array) -> None:
        """Note errors that these numbers might have without being accused, in units of their array's largest.

        Of all inputs of one size those count that show the smallest error; NaN is for numbers beside which
        nothing is relative. Every format is held to half its digits, or to what plain rounding adds up to.
        """
        fmt, g = self.point.fmt, self.point.growth
        power = {(self.mode, limits.size): limits} if limits.size else {}
        half = max(fmt.unit_roundoff**0.5, (g + LIBRARY_ROUNDINGS) * fmt.unit_roundoff)
        # Of code that nobody can run exactly so many ulps are taken for its rounding.
        accused = 2 * fmt.unit_roundoff**0.5 if self.own is None else 0.0
        self.found.add(Screening(power=power, half=half, accused=accused, format=fmt.name))

    def fail(
        self, i: int, kind: Verdict, truth: Truth, error: float, allowed: float, *, tail: bool = False,
        reason: str = "",
    ) -> None:  # fmt: skip
        """Keep element i, which is off by an error, in ulps."""
        accused = kind in (Verdict.WRONG, Verdict.NONFINITE) and self.mode != "value"
        if accused and (why := without_derivative(self.slope(i), float(self.computed[i]))):
            kind, reason = Verdict.INCONCLUSIVE, why
        k = int(self.which[i])
        array = self.computed[self.which == k].reshape(self.shapes[k])
        index = tuple(int(n) for n in np.unravel_index(self.place[i], self.shapes[k]))
        self.found.failed.append(
            Judged(
                self.slope(i), self.mode, self.owners[k], index, array, kind, float(self.computed[i]),
                truth, error, allowed, tail, reason,
            )
        )  # fmt: skip


def values(point: Point, found: Screening) -> Numbers:
    """Give the function's own values.

    Exact numbers have no sign of zero: the values are those with its sign left out.
    """
    computed = point.computed
    given = list(zip(point.native, point.points, point.floating, strict=True))
    if any(f and np.any((x == 0) & np.signbit(x)) for _, x, f in given):
        results = point.subject.value([like(a, x + 0) if f else a for a, x, f in given])
        parts = [to_numpy(results[k]).ravel() for k in point.places]
        computed = np.concatenate(parts).astype(np.float64)
    return Numbers(
        point, found, "value", computed, point.places, point.shapes,
        directions=[None] * len(point.points), program=point.vector,
        ran=Exactly(
            point.vector, point.inputs, [], point.exact, point.fmt, point.growth,
            code=point.formulas.code,
        ),
    )  # fmt: skip


def tangents(
    point: Point, found: Screening, directions: Sequence[Array | None], ran: Exactly | None = None
) -> Numbers | None:
    """Compute a JVP; None if there is no such mode."""
    computed = tangents_of(point, directions, found.skipped)
    if computed is None:
        return None
    return Numbers(
        point, found, point.subject.forward, computed, point.places, point.shapes, directions=directions,
        program=point.formulas.tangent(), more=tangents_at(point, directions), ran=ran,
    )  # fmt: skip


def gradients(
    point: Point, found: Screening, weights: Array, ran: Exactly | None = None
) -> Numbers | None:
    """Compute a VJP; None if there is no such mode."""
    arrays = gradients_of(point, weights)
    if arrays is None:
        return None
    parts = {j: g for j, g in enumerate(arrays) if g is not None}
    if weights.any():
        labels = point.subject.labels
        found.add(Screening(zero={labels[j]: not np.any(g) for j, g in parts.items()}))
    computed = np.concatenate([g.ravel().astype(np.float64) for g in parts.values()])
    owners, shapes = list(parts), [g.shape for g in parts.values()]
    return Numbers(
        point, found, point.subject.reverse, computed, owners, shapes, weights=weights,
        program=point.formulas.backward(), more=cotangents_at(point, weights), ran=ran,
    )  # fmt: skip
