"""What the judge asks of the exact programs along a direction: at one point, or at many as batches.

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
from ffverify.truth.slopes import Slopes, slopes, slopes_together

from .exactly import run_together


@dataclass
class Ahead:
    """A direction, the exact slopes of all results along it, and cotangents of those that have one slope.

    ``gradients`` and ``tangents`` are what the code gives, where it was run together with other points.
    """

    directions: list[Array | None]
    slopes: Slopes
    weights: Array
    gradients: Array | None = None
    tangents: Array | None = None


def ahead_along(point: Point, directions: list[Array | None], usable: Array) -> Ahead:
    """Measure along a direction at one point; the ``usable`` results are those that have derivatives."""
    exact = slopes(point.vector, point.inputs, directions, point.fmt, here=point.exact)
    return Ahead(directions, exact, chosen_cotangents(point, usable & exact.smooth))


def look_ahead(points: Sequence[Point]) -> None:
    """Run the exact programs that points share; one where that fails gets nothing.

    The programs are only supposed to hold at all of them.
    """
    directions, fmt = [random_direction(p) for p in points], points[0].fmt
    some: list[tuple[Point, Ahead]] = []
    each = slopes_together(points[0].vector, [p.inputs for p in points], directions, fmt)
    for point, direction, exact in zip(points, directions, each, strict=True):
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
    ) -> Sequence[Array | None]:
        if program is not None:
            with contextlib.suppress(Exception):  # code of the caller's, not for exact numbers
                given = [[*p.inputs.arrays, *more(p, a)] for p, a in some]
                return run_together(joined(program), given, fmt)
        return [None] * len(some)

    gradients = run(formulas.backward(), lambda p, a: cotangents_at(p, a.weights))
    tangents = run(formulas.tangent(), lambda p, a: tangents_at(p, a.directions))
    for i, (_, ahead) in enumerate(some):
        ahead.gradients, ahead.tangents = gradients[i], tangents[i]
