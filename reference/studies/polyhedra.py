"""Cut polyhedra by half-spaces, exactly.

A polyhedron is a cone in homogeneous coordinates (1, x), kept by its generators in integers:
`polyhedron` makes one from half-spaces, `clip` cuts it by one more, `interior_point` picks a point,
`facets` lists its sides, `count_connected` counts what hangs together. Any dimension, any
degenerate position, bounded or not. Source: the double description method (Motzkin et al. 1953;
Fukuda & Prodon 1996).
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Vector = tuple[int, ...]


class Cone(NamedTuple):
    """The set {x : a · x >= 0 for every a of ``halfspaces``}, by what generates it.

    It is all sums of multiples of ``lines`` and of nonnegative multiples of ``rays``. With each ray
    comes a bit for every half-space on whose boundary it lies.
    """

    lines: tuple[Vector, ...]
    rays: tuple[tuple[Vector, int], ...]
    halfspaces: tuple[Vector, ...]


def dot(a: Vector, x: Vector) -> int:
    """Return a · x."""
    return sum(map(int.__mul__, a, x))


def combine(p: int, x: Vector, q: int, y: Vector) -> Vector:
    """Return p x + q y, divided by the common divisor of its entries."""
    z = [p * x_i + q * y_i for x_i, y_i in zip(x, y, strict=True)]
    divisor = math.gcd(*z) or 1
    return tuple(z_i // divisor for z_i in z)


def clip(cone: Cone, a: Vector) -> Cone | None:
    """Intersect with a · x >= 0: a step of the double description method (Motzkin et al. 1953).

    Returns None where the intersection has no interior (relative to the span of ``cone``).
    """
    bit = 1 << len(cone.halfspaces)
    halfspaces = (*cone.halfspaces, a)
    for i, line in enumerate(cone.lines):
        if rise := dot(a, line):
            up = line if rise > 0 else tuple(-c for c in line)
            rise = abs(rise)
            rest = cone.lines[:i] + cone.lines[i + 1 :]
            # Sliding along the line brings every other generator onto a · x = 0.
            lines = tuple(combine(rise, g, -dot(a, g), up) for g in rest)
            rays = tuple((combine(rise, g, -dot(a, g), up), on | bit) for g, on in cone.rays)
            return Cone(lines, (*rays, (up, bit - 1)), halfspaces)
    heights = [dot(a, g) for g, _ in cone.rays]
    if min(heights, default=0) >= 0:
        return cone
    if max(heights) <= 0:
        return None
    above = [(h, g, on) for h, (g, on) in zip(heights, cone.rays, strict=True) if h > 0]
    below = [(h, g, on) for h, (g, on) in zip(heights, cone.rays, strict=True) if h < 0]
    kept = [
        (g, on if h else on | bit) for h, (g, on) in zip(heights, cone.rays, strict=True) if h >= 0
    ]
    for h, g, on in above:
        for h_below, g_below, on_below in below:
            common = on & on_below
            # An edge joins two rays when no third one lies on all the half-spaces they share.
            if sum(1 for _, other in cone.rays if other & common == common) == 2:
                kept.append((combine(-h_below, g, h, g_below), common | bit))
    return Cone(cone.lines, tuple(kept), halfspaces)


def clip_all(cone: Cone, halfspaces: Iterable[Vector]) -> Cone | None:
    """Intersect with several half-spaces; None where no interior is left."""
    part: Cone | None = cone
    for a in halfspaces:
        part = clip(part, a) if part else None
    return part


def unit_vectors(n: int) -> tuple[Vector, ...]:
    """Return the rows of the identity matrix."""
    return tuple(tuple(int(i == j) for j in range(n)) for i in range(n))


def polyhedron(d: int, halfspaces: Iterable[Vector] = ()) -> Cone | None:
    """Return {x in R^d : a_0 + a_1 x_1 + ... >= 0 for all a}; None where it has no interior."""
    axes = unit_vectors(d + 1)
    return clip_all(Cone(axes, (), ()), (axes[0], *halfspaces))


def interior_point(cone: Cone) -> tuple[Fraction, ...]:
    """Return a point x in the interior of a polyhedron: the sum of its rays is inside."""
    scale, *x = (sum(column) for column in zip(*(ray for ray, _ in cone.rays), strict=True))
    return tuple(Fraction(x_i, scale) for x_i in x)


def facets(cone: Cone) -> dict[Vector, Cone]:
    """Return the facets, the faces of one dimension less, each by the half-space it bounds.

    They are the largest faces, and every one belongs to a half-space.
    """
    tight = [
        frozenset(ray for ray, on in cone.rays if on >> k & 1) for k in range(len(cone.halfspaces))
    ]
    return {
        a: Cone(cone.lines, tuple(r for r in cone.rays if r[0] in rays), cone.halfspaces)
        for a, rays in zip(cone.halfspaces, tight, strict=True)
        if not any(rays < larger for larger in tight)
    }


def count_connected(cones: Sequence[Cone]) -> int:
    """Count the connected groups of polyhedra, where those that share part of a facet touch.

    The polyhedra must have no interior points in common; touching in less is not enough.
    """
    walls = [facets(cone) for cone in cones]
    behind: defaultdict[Vector, list[int]] = defaultdict(list)
    for i, own in enumerate(walls):
        for a in own:
            behind[tuple(-c for c in a)].append(i)
    group = list(range(len(cones)))
    for i, own in enumerate(walls):
        for a, facet in own.items():
            for j in behind[a]:
                if group[i] != group[j] and clip_all(facet, cones[j].halfspaces):
                    merged = group[j]
                    group = [group[i] if g == merged else g for g in group]
    return len(set(group))
