"""What a function's own derivative programs give in exact arithmetic, at a point and around it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import to_numpy
from ffverify.gradients.evaluation import Point

_BITS = (128, 256)


def formula_of(
    point: Point, weights: Array, arithmetic: Arithmetic = BALLS, *, units: int = 0
) -> list[Array] | None:
    """Run the derivative program in exact arithmetic: one object array per argument.

    With ``units`` the balls hold whatever it gives at inputs that are moved by up to units·u.
    """
    vectors = [to_numpy(v) for v in point.split(weights) if v is not None]
    bars = _exactly(point, "backward", arithmetic, vectors, units)
    if bars is None:
        return None
    results = iter(bars)
    return [
        next(results) if f else np.zeros(x.shape, dtype=object)
        for x, f in zip(point.points, point.floating, strict=True)
    ]


def tangents_formula(
    point: Point,
    directions: Sequence[Array | None],
    arithmetic: Arithmetic = BALLS,
    *,
    units: int = 0,
) -> Array | None:
    """Run the tangent program as `formula_of` does: one object array over the floating results."""
    dots = [
        np.zeros(x.shape) if d is None else d
        for d, x, f in zip(directions, point.points, point.floating, strict=True)
        if f
    ]
    results = _exactly(point, "tangent", arithmetic, dots, units)
    return None if results is None else np.concatenate([r.ravel() for r in results])


def _exactly(
    point: Point, mode: str, arithmetic: Arithmetic, more: Sequence[Array], units: int
) -> list[Array] | None:
    """Run the program of a mode exactly; None if there is none, or none that exact arithmetic can run.

    Where cancellation leaves fewer digits than a bound needs, it runs once more, with twice the bits.
    """
    program = getattr(point.formulas, mode)()
    if program is None:
        return None
    found = None
    for bits in _BITS[: 1 if units else None]:
        try:
            with BALLS.precision(bits):
                found = [r.values for r in program(*_entered(point, arithmetic, more, units))]
        except Undecided:
            continue
        except Exception:  # noqa: BLE001 - code of the caller's that exact arithmetic cannot run
            if not units:  # it may yet run on the numbers themselves
                unknown: dict[str, Any] = {mode: lambda: None}
                point.formulas = replace(point.formulas, **unknown)
            return None
        elements = itertools.chain.from_iterable(r.ravel().tolist() for r in found)
        if min(map(arb.rel_accuracy_bits, elements), default=bits) >= point.fmt.precision + 8:
            break
    return found


def _entered(point: Point, arithmetic: Arithmetic, more: Sequence[Any], units: int) -> list[Any]:
    inputs = point.inputs.balls
    if units:
        least = arb(units) * arb(2) ** point.fmt.smallest_exponent
        around = 1 + arb(0, units * point.fmt.unit_roundoff)
        inputs = [
            b * around + arb(0, least) if f else b
            for b, f in zip(inputs, point.floating, strict=True)
        ]
    balls = [*inputs, *(BALLS.array(a) for a in more)]
    if arithmetic is BALLS:
        return balls
    return [PreciseArray(b.values, arithmetic) if isinstance(b, PreciseArray) else b for b in balls]
