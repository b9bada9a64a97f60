"""Directions and cotangents to differentiate along: random, exact in the format, fit for the point."""

from __future__ import annotations

import numpy as np

from ffverify.exact.elements import parted
from ffverify.exact.formats import SIGNS, Array, picked

from .evaluation import Point

_EVENLY = 64  # inputs up to which a direction moves all of them by like amounts
_SPREAD = (
    24  # octaves that more inputs may spread over: slopes need no more than the first precision
)


def signed(point: Point, size: int) -> Array:
    """Draw signs times numbers from 1 to 2, exact in the format, so that no two errors cancel often.

    They have all of its digits: a narrower format that they pass through shows.
    """
    steps = 2 ** (point.fmt.precision - 1)
    signs = picked(point.rng, SIGNS, size)
    drawn: Array = signs * (1 + point.rng.integers(0, steps, size) / steps)
    return drawn


def plain(point: Point, size: int) -> Array:
    """Draw ±1 and ±2: cotangents of single results, which a report can divide out exactly."""
    return picked(point.rng, np.array([-2.0, -1.0, 1.0, 2.0]), size)


def cotangents(point: Point, size: int) -> Array:
    """Draw a cotangent for all results; of a single one, a number to divide by exactly."""
    return plain(point, size) if size == 1 else signed(point, size)


def chosen_cotangents(point: Point, chosen: Array) -> Array:
    """Draw a cotangent for the chosen results, 0 for the others."""
    return np.where(chosen, cotangents(point, chosen.size), 0.0)


def powers_of_two(point: Point, x: Array) -> Array:
    """Give the power of two at or below each |x| (1 for zeros), well inside the format's range."""
    sizes = np.ldexp(0.5, np.frexp(np.where(x == 0, 1.0, np.abs(x.astype(np.float64))))[1])
    return np.clip(sizes, 2.0 ** (point.fmt.emin // 2), 2.0 ** (point.fmt.emax // 2))


def random_direction(point: Point, *, proportional: bool = False) -> list[Array | None]:
    """Draw a direction: signs of like size, or, for many inputs that spread far, proportional to them.

    A step has to be small beside the smallest input: the precision that this costs beside the largest
    is only spent on few inputs, and never in floats.
    """
    exponents = [
        np.frexp(x[x != 0])[1] for x, f in zip(point.points, point.floating, strict=True) if f
    ]
    found = np.concatenate([e.ravel() for e in exponents])
    far = found.size > _EVENLY and int(found.max()) - int(found.min()) > _SPREAD
    spread = proportional or far
    return [
        signed(point, x.size).reshape(x.shape) * (powers_of_two(point, x) if spread else 1.0)
        if f
        else None
        for x, f in zip(point.points, point.floating, strict=True)
    ]


def tied_directions(point: Point) -> list[list[Array | None]]:
    """Draw directions that keep equal inputs equal: they run along most kinks.

    Of the first numbers of one size share a step, and zeros stay; of the second, where two zeros or more
    are equal inputs as well, they move.
    """
    arrays = [x for x, f in zip(point.points, point.floating, strict=True) if f]
    flat = np.concatenate([x.ravel().astype(np.float64) for x in arrays])
    values, inverse = np.unique(np.abs(flat), return_inverse=True)
    steps = np.abs(signed(point, values.size)) * powers_of_two(point, values)
    along = steps[inverse] * np.sign(flat)
    drawn = [along]
    if np.count_nonzero(flat == 0) > 1:
        drawn.append(np.where(flat == 0, steps[0], along))
    return [_by_argument(point, d) for d in drawn]


def _by_argument(point: Point, flat: Array) -> list[Array | None]:
    sizes = [x.size for x, f in zip(point.points, point.floating, strict=True) if f]
    parts = iter(parted(flat, sizes))
    return [
        next(parts).reshape(x.shape) if f else None
        for x, f in zip(point.points, point.floating, strict=True)
    ]
