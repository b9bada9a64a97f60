"""What the judge found at a point: the numbers that failed, and what there is to say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.verdict import Verdict


@dataclass(frozen=True)
class Judged:
    """One number that failed, with what there is to say about it.

    ``argument`` is an argument's position (reverse mode) or a result's (forward mode), ``index`` the
    element in it. ``weights`` and ``directions`` restate the exact slope, for the second arithmetic.
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
    """What was found at one point."""

    failed: list[Judged] = field(default_factory=list)
    judged: int = 0
    worst_ulps: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    power: dict[tuple[str, int], Array] = field(default_factory=dict)
    half: float = 0.0
    format: str = ""

    def unseen(self, point: Point, mode: str, limits: Array) -> None:
        """Note errors that these numbers might have without being accused, in units of their array's largest.

        Of all inputs of one size those count that show the smallest error; NaN is for numbers beside which
        nothing is relative. Every format is held to half its digits, or to what plain rounding adds up to.
        """
        u = point.fmt.unit_roundoff
        self.half = max(self.half, u**0.5, point.growth * u)
        self.format = point.fmt.name
        self._lower(mode, limits)

    def _lower(self, mode: str, limits: Array) -> None:
        if limits.size:
            key = (mode, limits.size)
            self.power[key] = np.fmin(self.power.get(key, limits), limits)

    def add(self, other: Screening) -> None:
        """Add what was found at another point, except what failed."""
        self.judged += other.judged
        self.worst_ulps = max(self.worst_ulps, other.worst_ulps)
        self.skipped |= other.skipped
        for (mode, _), limits in other.power.items():
            self._lower(mode, limits)
        self.half, self.format = max(self.half, other.half), other.format or self.format

    @property
    def sensitivity(self) -> float:
        """The smallest error that would have been seen in whichever single element of the gradients it is."""
        best: dict[str, float] = {}
        for (mode, _), limits in self.power.items():
            largest = float(np.fmax.reduce(limits))
            best[mode] = min(best.get(mode, np.inf), 0.0 if np.isnan(largest) else largest)
        return max(best.values(), default=0.0)


def judged_number(
    point: Point,
    mode: str,
    argument: int,
    index: tuple[int, ...],
    kind: Verdict,
    computed: float,
    exact: Any,
    error: float,
    allowed: float,
    *,
    tail: bool,
    weights: Array,
    directions: Sequence[Array | None],
    gradient: Array | None,
    kink: bool = False,
    reason: str = "",
) -> Judged:
    """Record a number that failed beside a ball around the exact one."""
    held = np.empty(1, dtype=object)
    held[0] = exact
    zero = np.full(1, arb(0), dtype=object)
    truth = Truth(held, lambda: zero, np.array([kink]), np.array([True]), growth=point.growth)
    return Judged(
        point, mode, argument, index, kind, computed, truth, error, allowed, tail, weights,
        directions, gradient, reason,
    )  # fmt: skip
