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
    sensitivity: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)


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
