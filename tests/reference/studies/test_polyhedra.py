"""Generators against vertices found by solving every d boundary equations."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffverify.reference.studies.polyhedra import clip, count_connected, interior_point, polyhedron

CUBE = {d: [v for i in range(d) for v in ([1] + [0] * d, [1] + [0] * d)] for d in (1, 2, 3)}
for d, sides in CUBE.items():  # the cube [-1, 1]^d: 1 + x_i >= 0 and 1 - x_i >= 0
    for i in range(d):
        sides[2 * i][i + 1], sides[2 * i + 1][i + 1] = 1, -1


def solve(rows):
    """Solve the equations row · (1, x) = 0 by Gauss-Jordan elimination in Fractions."""
    rows = [[Fraction(c) for c in (*row[1:], -row[0])] for row in rows]
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [c / rows[i][i] for c in rows[i]]
        for r in range(len(rows)):
            if r != i:
                rows[r] = [a - rows[r][i] * b for a, b in zip(rows[r], rows[i], strict=True)]
    return tuple(row[-1] for row in rows)


def vertices_by_brute_force(d, halfspaces):
    corners = map(solve, itertools.combinations(halfspaces, d))
    return {
        x
        for x in corners
        if x
        and all(a[0] + sum(p * q for p, q in zip(a[1:], x, strict=True)) >= 0 for a in halfspaces)
    }


def vertices(cone):
    return [tuple(Fraction(c, ray[0]) for c in ray[1:]) for ray, _ in cone.rays]


cuts = st.integers(1, 3).flatmap(
    lambda d: st.tuples(
        st.just(d), st.lists(st.tuples(*[st.integers(-2, 2)] * (d + 1)), max_size=6)
    )
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(cuts)
def test_rays_are_the_vertices_each_once(problem):
    d, extra = problem
    halfspaces = [*map(tuple, CUBE[d]), *extra]
    cone = polyhedron(d, halfspaces)
    if cone is None:  # then the vertices lie in a plane: some half-space is tight on all of them
        corners = vertices_by_brute_force(d, halfspaces)
        value = lambda a, x: a[0] + sum(p * q for p, q in zip(a[1:], x, strict=True))  # noqa: E731 - a formula
        assert any(all(value(a, x) == 0 for x in corners) for a in halfspaces)
    else:
        assert cone.lines == ()
        assert sorted(vertices(cone)) == sorted(vertices_by_brute_force(d, halfspaces))
        inside = interior_point(cone)
        assert all(
            a[0] + sum(p * q for p, q in zip(a[1:], inside, strict=True)) > 0
            for a in extra
            if any(a)
        )


def test_a_cut_without_its_new_vertices_is_rejected():
    square = polyhedron(2, map(tuple, CUBE[2]))
    half = clip(square, (1, 2, 0))
    planted = half._replace(rays=tuple(ray for ray in half.rays if ray in square.rays))
    expected = vertices_by_brute_force(2, [*CUBE[2], (1, 2, 0)])
    assert set(vertices(half)) == expected
    assert set(vertices(planted)) != expected


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ([(-1, 1, 0), (2, -1, 0), (0, 0, 1), (3, 0, -1)], True),  # [1,2]×[0,3], sharing half a side
        ([(-1, 1, 0), (-1, 0, 1)], False),  # x, y >= 1: a corner in common
        ([(-2, 1, 0)], False),  # x >= 2: apart
        ([(-1, 1, 0)], True),  # x >= 1: a half-plane
    ],
)
def test_neighbours_share_part_of_a_facet(q, expected):
    p, q = polyhedron(2, map(tuple, CUBE[2])), polyhedron(2, q)
    for cones in ([p, q], [q, p]):
        assert count_connected(cones) == (1 if expected else 2)
