"""Many points at once: what the judge will ask of the exact programs at each of them, run as batches.

``look_ahead(points)`` gives every point what was found at it (``Point.ahead``), and to judge it needs no run
of its own unless something is in doubt. What a batch does not settle is left to be run alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ffverify.exact.formats import Array
from ffverify.exact.programs import Program, joined
from ffverify.gradients.directions import chosen_cotangents, random_direction
from ffverify.gradients.evaluation import Point, cotangents_at, finite_results, tangents_at
from ffverify.gradients.truth_sources import hold_to
from ffverify.truth.slopes import Slopes, slopes_together

from .exactly import Row, Together, balls_together


@dataclass
class Ahead:
    """What was run at a point together with others.

    The direction, and the exact slopes of all results along it; cotangents; and the exact values, VJP and
    JVP, None where their program is not known.
    """

    directions: list[Array | None]
    slopes: Slopes
    weights: Array
    values: Row | None = None
    gradients: Row | None = None
    tangents: Row | None = None


def look_ahead(points: Sequence[Point]) -> None:
    """Run the exact programs that points share; one where that fails gets nothing.

    The programs are only supposed to hold at all of them.
    """
    directions, fmt = [random_direction(p) for p in points], points[0].fmt
    some: list[tuple[Point, Ahead]] = []
    slopes = slopes_together(points[0].vector, [p.inputs for p in points], directions, fmt)
    for point, direction, exact in zip(points, directions, slopes, strict=True):
        if exact is None:
            continue
        with contextlib.suppress(Exception):  # it is told when the point is checked alone
            hold_to(point.formulas, point.native, point.results, exact.value)
            point.formulas = replace(point.formulas, inputs=point.inputs, here=exact.value)
            smooth = finite_results(point) & exact.smooth
            point.ahead = Ahead(direction, exact, chosen_cotangents(point, smooth))
            some.append((point, point.ahead))
    if not some:
        return
    formulas = points[0].formulas

    def run(
        program: Program | None, more: Callable[[Point, Ahead], list[Array]]
    ) -> Together | None:
        if program is not None:
            with contextlib.suppress(
                Exception
            ):  # code of the caller's that exact numbers do not suit
                given = [[*p.inputs.arrays, *more(p, a)] for p, a in some]
                vector = joined(program)
                return Together(vector, given, fmt, balls_together(vector, given, fmt))
        return None

    here = [p.exact for p, _ in some]
    values = Together(some[0][0].vector, [p.inputs.arrays for p, _ in some], fmt, here)
    gradients = run(formulas.backward(), lambda p, a: cotangents_at(p, a.weights))
    tangents = run(formulas.tangent(), lambda p, a: tangents_at(p, a.directions))
    for i, (_, ahead) in enumerate(some):
        ahead.values = Row(values, i)
        ahead.gradients = None if gradients is None else Row(gradients, i)
        ahead.tangents = None if tangents is None else Row(tangents, i)
