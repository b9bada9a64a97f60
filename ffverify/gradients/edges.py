"""Edges of a program: the numbers at which its exact run takes another course.

A kink, a threshold, an overflow: wherever a comparison, a sign or the range of an intermediate number
changes while one input moves. ``edges`` spreads numbers over the input's range, runs the program on them
and bisects between those whose runs differ, to neighbouring floats. Nothing is judged here: what is found
is worth trying, no more.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify import strategies
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import HiddenRows, PreciseArray
from ffverify.exact.elements import midpoints
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.truth.differences import TOGETHER
from ffverify.truth.slopes import Inputs, under

from .truth_sources import ExactPrograms

_SPREAD = 64  # numbers each, evenly by value and evenly by floats
_WIDER = np.ldexp([[1.0], [1.5]], range(6, 11)).ravel()  # where exponentials overflow
_MOST = 16  # changes of each kind sought per input, those nearest to zero
_LARGEST = 1024  # elements of an input beyond which a run is no glance any more
_BITS = 128

Program = Callable[..., Any]


def sharpened(
    given: Sequence[Any], formulas: ExactPrograms, native: Sequence[Any], results: Sequence[Any]
) -> tuple[list[Any], list[tuple[list[Any], list[Any]]]]:
    """Give the inputs of a check, where `strategies.arrays` made them, with the program's edges.

    Other strategies stay as they are: what lies between two numbers that they draw may be outside
    their domain. The second result has generic numbers first, then all edges once: inputs that hold
    some of them, and strategies that draw these often.
    """
    rng = np.random.default_rng(0)
    generic = list(native[: len(given)])
    inputs = formulas.inputs or Inputs([to_numpy(a) for a in native])
    backward = formulas.backward()
    programs = [p for p in (formulas.forward,) if p is not None]
    if backward is not None:
        ones = [BALLS.array(np.ones(to_numpy(r).shape)) for r in results if is_floating(r)]
        programs.append(lambda *args: backward(*args, *ones))
    out, sweeps = list(given), []
    for j, strategy in enumerate(given):
        made = strategies.arguments(strategy)
        if made is None:
            continue
        low, high = made["min_value"], made["max_value"]
        found = edges(programs, inputs, j, made["dtype"], low, high)
        out[j] = strategies.arrays(**(made | {"edges": (*made["edges"], *found)}))
        shape = inputs.arrays[j].shape
        generic[j] = like(native[j], strategies.generic(rng, shape, made["dtype"], low, high))
        size = max(inputs.arrays[j].size, 1)
        beside = (x for edge in found for x in strategies.neighbours([edge], made["dtype"]))
        near = [x for x in dict.fromkeys(beside) if low <= x <= high]
        for some in (near[i : i + size] for i in range(0, len(near), size)):
            full = np.resize(some, shape)
            narrow = strategies.arrays(**(made | {"edges": some}))
            sweeps.append((_with(native[: len(given)], j, like(native[j], full)), (j, narrow)))
    return out, [(generic, out), *((point, _with(out, *narrow)) for point, narrow in sweeps)]


def _with(values: Sequence[Any], j: int, value: Any) -> list[Any]:
    return [*values[:j], value, *values[j + 1 :]]


def edges(
    programs: Sequence[Program], inputs: Inputs, j: int, fmt: Format, low: float, high: float
) -> list[float]:
    """Give numbers on both sides of every change met while input j moves from low to high.

    Decisions come first, then ranges, then signs, each from zero outwards.
    Exact for programs that treat input j element by element, on the way to whatever they do next.
    ``programs`` take all inputs as precise arrays. Every element goes over a part of the range, and is
    only compared with itself: the other inputs are not the same beside all of them.
    """
    shape = inputs.arrays[j].shape
    size = int(np.prod(shape))
    if not 0 < size <= _LARGEST:
        return []
    places = _places_over(fmt, low, high)
    elements = np.arange(places.size) * size // places.size
    border = np.flatnonzero(np.diff(elements)) + 1  # where one's part ends, the next one's begins
    places = np.insert(places, border, places[border])
    elements = np.insert(elements, border, elements[border - 1])

    def courses(places: Array, elements: Array) -> Array:
        pairs, each = np.unique(np.stack([places, elements]), axis=1, return_inverse=True)
        return of_pairs(*pairs)[:, each.ravel()]

    def of_pairs(places: Array, elements: Array) -> Array:
        rounds = _nth(elements)  # no run has two numbers for one element
        rows = np.broadcast_to(inputs.arrays[j].ravel(), (rounds.max() + 1, size)).copy()
        rows[rounds, elements] = _floats_at(places, fmt)
        return _courses(programs, inputs, j, rows.reshape(-1, *shape), fmt)[:, rounds, elements]

    first = courses(places, elements)  # decisions, ranges, signs
    gaps, kinds = [], []
    for k, course in enumerate(first):
        changes = np.flatnonzero((course[1:] != course[:-1]) & (elements[1:] == elements[:-1]))
        nearest = np.argsort(np.abs(places[changes]), kind="stable")[:_MOST]
        gaps.append(changes[nearest])
        kinds.append(np.full(nearest.size, k))
    gap, kind = np.concatenate(gaps), np.concatenate(kinds)
    below, above, wanted, where = places[gap], places[gap + 1], first[kind, gap], elements[gap]
    while (apart := np.flatnonzero(above != below + 1)).size:
        # Four parts at a time: a run of three times as many numbers costs less than a second one.
        low_end, high_end = below[apart], above[apart]
        middle = _between(low_end, high_end)
        ends = [low_end, _between(low_end, middle), middle, _between(middle, high_end), high_end]
        found_in = courses(np.concatenate(ends[1:4]), np.tile(where[apart], 3))
        each = found_in[np.tile(kind[apart], 3), np.arange(3 * apart.size)].reshape(3, -1)
        same = (each == wanted[apart]) | (np.stack(ends[1:4]) == low_end)
        part = np.logical_and.accumulate(same).sum(axis=0)
        below[apart], above[apart] = np.choose(part, ends[:4]), np.choose(part, ends[1:])
    found = _floats_at(np.stack([below, above], axis=1).ravel(), fmt)
    return list(dict.fromkeys(found.tolist()))


def _between(low: Array, high: Array) -> Array:
    """Give the places halfway; the sum of two may not fit."""
    return np.asarray((low >> 1) + (high >> 1) + (low & high & 1))


def _nth(values: Array) -> Array:
    """Tell of every value how many equal ones come before it."""
    order = np.argsort(values, kind="stable")
    first = np.searchsorted(values[order], values[order])
    out = np.empty(values.size, dtype=np.int64)
    out[order] = np.arange(values.size) - first
    return out


def _courses(
    programs: Sequence[Program], inputs: Inputs, j: int, rows: Array, fmt: Format
) -> Array:
    """Give numbers per row and element: which decisions a run takes, which ranges and signs it meets."""
    size = inputs.arrays[j].size
    step = max(TOGETHER // size, 1)
    parts = [rows[i : i + step] for i in range(0, len(rows), step)]
    out = np.zeros((3, len(rows), size), dtype=np.uint64)
    for program in programs:
        try:
            runs = [_course(program, inputs, j, part, fmt, batch=True) for part in parts]
        except HiddenRows:
            runs = [_course(program, inputs, j, row, fmt, batch=False) for row in rows]
        _mark(out, np.concatenate([run.reshape(3, -1, size) for run in runs], axis=1))
    return out


def _course(
    program: Program, inputs: Inputs, j: int, x: Array, fmt: Format, *, batch: bool
) -> Array:
    """Give three numbers per element of a run with x in the place of input j, or of a batch of runs."""
    shape, rows = inputs.arrays[j].shape, len(x) if batch else 0
    out = np.zeros((3, *x.shape), dtype=np.uint64)

    def note(name: str, operands: Sequence[Array], result: Any) -> None:
        if result.shape != shape or getattr(result, "rows", 0) != rows:
            return
        if name in ("maximum", "minimum"):  # they give one of their operands, not a copy
            _mark(out[0, ...], _is(np.broadcast_to(operands[0], x.shape), result.elements))
        elif isinstance(result, PreciseArray):
            numbers = midpoints(result.elements).reshape(x.shape)
            _mark(out[1, ...], _ranges(numbers, fmt))
            _mark(out[2, ...], np.add(numbers > 0, numbers >= 0, dtype=np.uint64))
        else:
            _mark(out[0, ...], getattr(result, "elements", result))

    observing = replace(BALLS, observer=note)
    moved = PreciseArray(BALLS.array(x).elements, observing, rows)
    args = [moved if i == j else under(observing, a) for i, a in enumerate(inputs.balls)]
    with BALLS.precision(_BITS):
        program(*args)
    return out


_is = np.frompyfunc(operator.is_, 2, 1)


def _mark(row: Array, marks: Any) -> None:
    np.multiply(row, np.uint64(1_000_003), out=row)
    np.add(row, np.asarray(marks).astype(np.uint64), out=row)


def _ranges(x: Array, fmt: Format) -> Array:
    """Tell zero, subnormal, normal, overflowing and undefined numbers apart."""
    size, overflow = np.abs(x), 2.0 ** (fmt.emax + 1) if fmt.emax < 1023 else np.inf
    limits = (size > 0, size >= 2.0**fmt.emin, size >= overflow)
    return np.where(np.isnan(x), 4, np.sum(limits, axis=0, dtype=np.uint64))


def _places_over(fmt: Format, low: float, high: float) -> Array:
    """Spread places over a range, evenly among the floats and evenly by value."""
    by_value = np.linspace(max(low, -64.0), min(high, 64.0), _SPREAD) if low <= 64 else np.zeros(0)
    by_value = np.concatenate([by_value, _WIDER, -_WIDER])
    inside = by_value[(by_value >= low) & (by_value <= high)]
    ends = _place_of(np.array([low, high]), fmt)
    by_floats = np.linspace(float(ends[0]), float(ends[1]), _SPREAD).astype(np.int64)
    both = np.concatenate([ends, _place_of(inside, fmt), by_floats[1:-1]])
    return np.unique(both.clip(*ends))


def _place_of(x: Array, fmt: Format) -> Array:
    """Give the place of floats in their order: neighbours are one apart, zero is at 0."""
    held = x.astype(fmt.carrier)
    bits = held.view(f"i{held.itemsize}").astype(np.int64)
    magnitude = bits & np.int64((1 << (8 * held.itemsize - 1)) - 1)
    if fmt.name == "bfloat16":
        magnitude >>= 16
    return np.where(bits < 0, -magnitude, magnitude)


def _floats_at(places: Array, fmt: Format) -> Array:
    """Give the floats at places."""
    width = np.dtype(fmt.carrier).itemsize
    magnitude = np.abs(places) << (16 if fmt.name == "bfloat16" else 0)
    kind = np.dtype(fmt.carrier)
    return np.asarray(np.copysign(magnitude.astype(f"i{width}").view(kind), places), dtype=kind)
