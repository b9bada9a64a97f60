"""Whether derivatives are linear far away too, at 2^40 times a cotangent or a tangent and at 2^-40 times it.

Code that clips, drops or compares cotangents is right at those of ordinary size. Of a power of two times as
many right code gives that times as much, bit for bit, unless numbers leave the format's range on the way. So
what differs is asked of the derivative's exact program, which has no range, and of what its roundings and
underflows can add up to. Code without an exact program is asked again in its widest format, by a factor that
takes little of that format's range, and only what is off by an eighth is told: it may lose digits of its own
there, as a matrix exponential does whose scaling depends on the tangent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffverify.exact.elements import arb
from ffverify.exact.formats import FORMATS, Array, dtype_name
from ffverify.gradients.evaluation import Point, finite_results, stirred, widened
from ffverify.gradients.judge.accuracy import execution_and_accuracy
from ffverify.gradients.judge.numbers import Numbers, Screening, gradients, tangents
from ffverify.verdicts.verdict import Verdict

from .asked import Complaint

_OCTAVES = 40
_LITTLE = 12  # of the octaves on one side of 1, the part that no good code's numbers are away from the end
_LARGE = 0.125  # an error, as a share of the largest, that is no loss of digits
_SIZES = np.array([-3.0, -1.5, 1.5, 3.0])

# Numbers of one mode at a point, at so many times the cotangents or tangents.
Compute = Callable[[Point, float], Numbers | None]


def far_multiples(point: Point, point_at: Callable[[Sequence[Any]], Point]) -> Iterator[Complaint]:
    """Yield a complaint for every mode that is not linear far away.

    Asked at the point, or beside it where derivatives there are all 0; ``point_at(arrays)`` gives that one.
    """
    for compute in (_gradients, _tangents):
        with contextlib.suppress(Exception):  # it is told elsewhere what cannot be run
            numbers = compute(point, 1.0)
            if numbers is None:
                continue
            if not numbers.computed.any():
                rng = np.random.default_rng(point.seed)
                pairs = zip(point.native, point.floating, strict=True)
                beside = point_at([stirred(a, rng) if f else a for a, f in pairs])
                numbers = compute(beside, 1.0)
            found = None if numbers is None else _broken(numbers, compute)
            if found is not None:
                yield found


def _gradients(point: Point, factor: float) -> Numbers | None:
    known = point.formulas.forward is not None
    usable = finite_results(point) if known else np.isfinite(point.computed)
    weights = np.random.default_rng(point.seed).choice(_SIZES, usable.size)
    return gradients(point, Screening(), factor * np.where(usable, weights, 0.0))


def _tangents(point: Point, factor: float) -> Numbers | None:
    rng = np.random.default_rng(point.seed)
    directions = [
        factor * rng.choice(_SIZES, x.shape) if f else None
        for x, f in zip(point.points, point.floating, strict=True)
    ]
    return tangents(point, Screening(), directions)


def _broken(near: Numbers, compute: Compute) -> Complaint | None:
    """Say where numbers are not linear in a cotangent or tangent; None where they are."""
    octaves = min(_OCTAVES, _range(near.point) // 2)  # cotangents are finite in half formats too
    half = (2 * near.point.fmt.unit_roundoff) ** 0.5
    for exponent in (octaves, -octaves):
        far = compute(near.point, 2.0**exponent)
        if far is None:
            return None
        off = _differ(near, far, exponent, half)
        if off.any() and _is_proven(near, far, exponent, off, half, compute):
            i = int(np.argmax(off))
            (owner, place), subject = near.places([i])[0], near.point.subject
            what, given = f"tangent of result {owner}", "tangent"
            if near.directions is None:
                what, given = f"gradient by {subject.labels[owner]}", "cotangent"
            return Verdict.WRONG, (
                f"the {what} is not linear: element {place} is {near.computed[i]:.9g} at some {given}, and "
                f"{far.computed[i]:.9g} at 2^{exponent} times this {given}"
            ), f"is the incoming {given} clipped, compared or dropped?"  # fmt: skip
    return None


def _range(point: Point) -> int:
    """Give how many octaves on either side of 1 all arrays have."""
    moved = [a for a, f in zip(point.native, point.floating, strict=True) if f]
    names = [dtype_name(a) for a in [*moved, *(point.results[k] for k in point.places)]]
    return min([point.fmt.emax, *(FORMATS[name].emax for name in names if name in FORMATS)])


def _differ(near: Numbers, far: Numbers, exponent: int, share: float) -> Array:
    """Tell which numbers are finite and not 2^exponent times as large, by a share of their largest."""
    tiny = 2.0 ** (1 - _range(near.point))
    with np.errstate(all="ignore"):
        expected = np.ldexp(near.computed, exponent)
        off: Array = np.abs(far.computed - expected) > share * near.of_largest(expected) + tiny
    return off & np.isfinite(far.computed) & np.isfinite(expected)


def _is_proven(
    near: Numbers, far: Numbers, exponent: int, off: Array, share: float, compute: Compute
) -> bool:
    """Tell whether nothing that left the format's range on the way explains what differs.

    Code may take more or fewer terms of a series far away: its exact programs differ by less than digits that
    are lost then, and by no ``share`` of the largest number.
    """
    if near.own is None or far.own is None:
        wide = widened(near.point) or near.point
        part = int(np.sign(exponent)) * min(_OCTAVES, _range(wide) // _LITTLE)
        before, after = compute(wide, 1.0), compute(wide, 2.0**part)
        if abs(part) == 1 or before is None or after is None:
            return False
        return bool(np.any(off & _differ(before, after, part, _LARGE)))
    times, largest = arb(2) ** exponent, near.of_largest(near.exactly.floats)
    for i in np.flatnonzero(off).tolist():
        own, there = near.balls[i], far.balls[i] / times
        if own.is_finite() and there.is_finite() and abs(own - there) > share * largest[i]:
            return True
    # What branches on its cotangent need not run the program that is known.
    execution_and_accuracy(far, off & _differ(near, far, exponent, _LARGE))
    return any(judged.kind is Verdict.WRONG for judged in far.found.failed)
