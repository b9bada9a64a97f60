"""The numbers that a function computed at a point in one mode: its values, a JVP or a VJP, as one vector.

``values``, ``tangents`` and ``gradients`` compute them. Whatever the mode, element i is the slope of
⟨weights, results⟩ along a direction (of values: no direction), and what fails is kept by ``fail``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.gradients.evaluation import (
    Point,
    forward_motion,
    gradients_of,
    reverse_motion,
    tangents_of,
)
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.verdict import Verdict

from .judged import Judged, Screening
from .slope import Slope


@dataclass
class Numbers:
    """Arrays of one mode, raveled and joined; ``owners`` are their results, or for a VJP their arguments.

    ``weights`` are the cotangents of a VJP, ``directions`` the tangents of a JVP; what is None differs from
    element to element: one result alone, one input alone.
    """

    point: Point
    found: Screening
    mode: str
    computed: Array
    owners: Sequence[int]
    shapes: Sequence[tuple[int, ...]]
    weights: Array | None = None
    directions: Sequence[Array | None] | None = None
    _slopes: dict[int, Slope] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> list[int]:
        """How many elements each array has."""
        return [int(np.prod(s)) for s in self.shapes]

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

    def slope(self, i: int) -> Slope:
        """Give what element i should be."""
        if i not in self._slopes:
            weights, directions = self.weights, self.directions
            if weights is None:
                weights = np.zeros(self.computed.size)
                weights[i] = 1.0
            if directions is None:
                directions = self.point.unit(*self.places([i])[0])
            self._slopes[i] = Slope(self.point, weights, directions)
        return self._slopes[i]

    def along(self, step: Array) -> Slope:
        """Give what ⟨a VJP, step⟩ should be."""
        assert self.weights is not None  # noqa: S101 - of a VJP
        directions: list[Array | None] = [None] * len(self.point.points)
        parts = np.split(step, np.cumsum(self.sizes)[:-1])
        for j, shape, part in zip(self.owners, self.shapes, parts, strict=True):
            directions[j] = part.reshape(shape) if np.any(part) else None
        return Slope(self.point, self.weights, directions)

    def of_largest(self, numbers: Array) -> Array:
        """Give for every element the largest finite magnitude in its own array."""
        sizes = np.where(np.isfinite(numbers), np.abs(numbers), 0.0)
        parts = np.split(sizes, np.cumsum(self.sizes)[:-1])
        return np.repeat([p.max(initial=0.0) for p in parts], self.sizes)

    @cached_property
    def motion(self) -> Array | None:
        """How far each number moves when the inputs move by g·u, as floats tell; None if they do not."""
        if self.directions is not None:
            return forward_motion(self.point, self.directions)
        assert self.weights is not None  # noqa: S101 - of a VJP
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

    def unseen(self, limits: Array) -> None:
        """Note the errors that these numbers might have without being accused (see `Screening.unseen`)."""
        self.found.unseen(self.point, self.mode, limits)

    def fail(
        self, i: int, kind: Verdict, truth: Truth, error: float, allowed: float, *, tail: bool = False,
        reason: str = "",
    ) -> None:  # fmt: skip
        """Keep element i, which is off by an error, in ulps."""
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
    given = zip(point.native, point.points, point.floating, strict=True)
    unsigned = [
        like(a, x + 0) if f and np.any((x == 0) & np.signbit(x)) else a for a, x, f in given
    ]
    if any(a is not b for a, b in zip(unsigned, point.native, strict=True)):
        results = point.subject.value(unsigned)
        joined = np.concatenate([to_numpy(results[k]).ravel() for k in point.places])
        computed = joined.astype(np.float64)
    still: list[Array | None] = [None] * len(point.points)
    return Numbers(
        point, found, "value", computed, point.places, point.shapes, directions=still
    )  # fmt: skip


def tangents(point: Point, found: Screening, directions: Sequence[Array | None]) -> Numbers | None:
    """Compute a JVP; None if there is no such mode."""
    computed = tangents_of(point, directions, found.skipped)
    if computed is None:
        return None
    mode = point.subject.forward
    return Numbers(point, found, mode, computed, point.places, point.shapes, directions=directions)


def gradients(point: Point, found: Screening, weights: Array) -> Numbers | None:
    """Compute a VJP; None if there is no such mode."""
    arrays = gradients_of(point, weights)
    if arrays is None:
        return None
    owners = [j for j, g in enumerate(arrays) if g is not None]
    parts = [g for g in arrays if g is not None]
    computed = np.concatenate([g.ravel().astype(np.float64) for g in parts])
    shapes = [g.shape for g in parts]
    return Numbers(point, found, point.subject.reverse, computed, owners, shapes, weights=weights)
