"""What the judge found at a point: the numbers that failed, and how small an error would have shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ffverify.exact.formats import Array
from ffverify.gradients.evaluation import Point
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.verdict import Verdict

from .slope import Slope


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


@dataclass
class Screening:
    """What was found at one point, or at many."""

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
