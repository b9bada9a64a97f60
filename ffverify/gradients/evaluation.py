"""One input of a function under test: its numbers, its directions, and what was computed there.

A ``Point`` knows the exact programs that hold at it (``ExactPrograms``); ``gradients_of`` and
``tangents_of`` compute there by the function's own modes. Directions and cotangents are exact in every
format.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Container, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import parted
from ffverify.exact.formats import FORMATS, Array, Format, is_floating
from ffverify.exact.programs import Program, joined
from ffverify.exact.rounding_arithmetic import takes_one_branch
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.truth.slopes import Inputs, exact_value
from ffverify.verdicts.verdict import Verdict

from .function_under_test import Fault, FunctionUnderTest
from .truth_sources import ExactPrograms

if TYPE_CHECKING:
    from .judge.questions import Ahead

_SIGNS = 4  # inputs of other signs, to see what does not saturate: a bad guess only costs a warning
_PATTERNS = 2  # of signs, to estimate sensitivities with: a bad estimate only costs a judgement


@dataclass
class Point:
    """One input of a function under test, and what was computed there.

    Of the arrays in ``warned``, by mode and position, it was said by now that they lose digits. ``ahead`` is
    what was run here together with other points, ``memo`` what was measured here, by what was asked. A
    derivative ``of`` results in a narrower format, as under autocast, passes through that format. ``refused``
    says why forward mode could not be run at another input of its batch: it is not tried here. ``ordinary``
    are some of the inputs that are drawn, without anything special about them. ``is_seen`` tells whether the
    function executes the programs of some modes here, where that is only supposed.
    """

    subject: FunctionUnderTest
    native: list[Any]
    formulas: ExactPrograms
    seed: int
    strict: bool = False
    results: list[Any] = field(default_factory=list)
    warned: AbstractSet[tuple[str, int]] = frozenset()
    ahead: Ahead | None = None
    memo: dict[Any, Any] = field(default_factory=dict)
    of: Sequence[Any] = ()
    refused: str = ""
    ordinary: Sequence[Sequence[Array]] = ()
    is_seen: Callable[[Container[str]], bool] = lambda _modes: True

    def __post_init__(self) -> None:
        self.points = [to_numpy(a) for a in self.native]
        self.inputs = self.formulas.inputs or Inputs(self.points)
        self.floating = list(self.subject.wrt)
        if not self.results:
            self.results = self.subject.value(self.native)
        self.places = [k for k, r in enumerate(self.results) if is_floating(r)]
        self.shapes = [to_numpy(self.results[k]).shape for k in self.places]
        self.sizes = list(map(math.prod, self.shapes))
        moved = [a for a, f in zip(self.native, self.floating, strict=True) if f]
        given = [r for r in self.of if is_floating(r)]
        fmt = coarsest([*moved, *(self.results[k] for k in self.places), *given])
        gradual = self.subject.framework.gradual
        self.fmt: Format = fmt if fmt.gradual == gradual else replace(fmt, gradual=gradual)
        dims = [n for a in (*self.points, *map(np.empty, self.shapes)) for n in a.shape]
        # Half formats are summed up in float32 by good code, as torch and JAX do, and NumPy along contiguous
        # axes: its roundings are nothing beside theirs.
        wide = fmt.precision >= FORMATS["float32"].precision
        self.growth = LIBRARY_ROUNDINGS + (max(dims, default=0) if wide else 0)
        key = zlib.crc32(b"".join(np.ascontiguousarray(a).tobytes() for a in self.points))
        self.rng = np.random.default_rng([self.seed, key])

    def at(self, native: list[Any]) -> Point:
        """Give the point of other arrays, where exact programs are only supposed to hold."""
        formulas = replace(self.formulas, inputs=None, here=None)
        return replace(self, native=native, results=[], formulas=formulas, memo={}, ahead=None)

    @cached_property
    def exact(self) -> Array:
        """The exact results, raveled and joined, as balls."""
        here = self.formulas.here
        return exact_value(self.vector, self.inputs) if here is None else here

    @cached_property
    def computed(self) -> Array:
        """The computed results, raveled and joined, as float64."""
        parts = [to_numpy(self.results[k]).ravel() for k in self.places]
        return np.concatenate(parts).astype(np.float64)

    @cached_property
    def vector(self) -> Program:
        """The exact program, its floating results raveled and joined."""
        assert self.formulas.forward is not None  # noqa: S101 - callers asked
        return joined(self.formulas.forward, self.places)

    @cached_property
    def attached(self) -> list[bool]:
        """Which results the framework differentiates at all."""
        return self.subject.attached(self.native, len(self.results))

    @cached_property
    def takes_one_branch(self) -> bool:
        """Whether no rounding of the steps, nor a move that a format cannot hold, takes another."""
        with BALLS.precision(FIRST_PRECISION):
            return takes_one_branch(self.vector, self.inputs.balls, self.fmt)

    def beside(self, digits: float, side: int = 1) -> Inputs:
        """Give finite inputs so many of the format's digits, as a share of them, above it or below.

        Each is moved by an amount of its own. They are no numbers that programs single out.
        """
        near, out = side * self.fmt.unit_roundoff**digits, []
        for x, f in zip(self.points, self.floating, strict=True):
            finite = np.where(np.isfinite(x), x, 1.0) if f else x
            spread = 1 + np.arange(x.size).reshape(x.shape) / max(x.size, 1)
            out.append(finite + near * np.maximum(abs(finite), 1) * spread if f else x)
        return Inputs(out)

    def split(self, flat: Array) -> list[Any | None]:
        """Cut a vector over all floating results into native cotangents, None for other results."""
        out: list[Any | None] = [None] * len(self.results)
        for k, part in zip(self.places, cotangents_at(self, flat), strict=True):
            out[k] = like(self.results[k], part)
        return out

    def unit(self, j: int, i: int) -> list[Array | None]:
        """Give the direction along one element of one argument."""
        e = np.zeros(self.points[j].shape)
        e.ravel()[i] = 1.0
        return [e if k == j else None for k in range(len(self.points))]


def cotangents_at(point: Point, weights: Array) -> list[Array]:
    """Give the cotangents of all floating results as arrays: they are exact in every format."""
    parts = parted(weights, point.sizes)
    return [part.reshape(shape) for part, shape in zip(parts, point.shapes, strict=True)]


def tangents_at(point: Point, directions: Sequence[Array | None]) -> list[Array]:
    """Give the tangents of all floating inputs as arrays."""
    return [
        np.zeros(x.shape) if d is None else d
        for d, x, f in zip(directions, point.points, point.floating, strict=True)
        if f
    ]


def attached(point: Point) -> Array:
    """Tell which results, raveled and joined, the framework differentiates at all."""
    return np.repeat([point.attached[k] for k in point.places], point.sizes)


def finite_results(point: Point) -> Array:
    """Tell which results are finite, representable numbers: only these have derivatives to check."""
    overflow = BALLS.exact(point.fmt.overflow)
    usable = np.array([bool(y.is_finite() and abs(y) < overflow) for y in point.exact], dtype=bool)
    usable &= attached(point)
    if not usable.any():
        raise Fault(f"{point.subject.name} is not finite here, so it has no derivative")
    return usable


def nearer(point: Point, factor: float | None) -> list[Array]:
    """Give the inputs nearer to zero: scaled, or cut off at ±1."""
    return [
        x if not f else x.clip(-1, 1) if factor is None else x.astype(np.float64) * factor
        for x, f in zip(point.points, point.floating, strict=True)
    ]


def of_ordinary_size(point: Point) -> list[list[Array]]:
    """Give inputs with the signs of a point and sizes between a half and 2: all of them, and each alone."""
    rng, floating = np.random.default_rng(0), np.flatnonzero(point.floating).tolist()
    return [
        [
            np.copysign(rng.uniform(0.5, 2.0, x.shape), x) if j in moved else x
            for j, x in enumerate(point.points)
        ]
        for moved in (floating, *([j] for j in floating))
    ]


def of_other_signs(point: Point) -> list[list[Array]]:
    """Give inputs of the sizes of a point and of any signs."""
    rng = np.random.default_rng(0)
    return [
        [
            x * rng.choice([-1.0, 1.0], x.shape) if f else x
            for x, f in zip(point.points, point.floating, strict=True)
        ]
        for _ in range(_SIGNS)
    ]


def stirred(a: Any, rng: np.random.Generator, octaves: int = 0) -> Any:
    """Give numbers of the same signs and like sizes, or ``octaves`` smaller, none zero and no two alike."""
    x = to_numpy(a)
    size = np.where(x == 0, rng.choice([-1.0, 1.0], x.shape), x)
    return like(a, size * 2.0 ** -rng.uniform(0.0, 1.0 + octaves, x.shape))


def gradients_of(point: Point, weights: Array) -> list[Array | None] | None:
    """Compute the VJP; zeros for an input without a gradient; None if there is no such mode."""
    if not point.subject.reverse:
        return None
    native = point.subject.vjp(point.native, point.split(weights))
    out: list[Array | None] = []
    for j, (g, x) in enumerate(zip(native, point.points, strict=True)):
        if not point.floating[j]:
            out.append(None)
            continue
        array = np.zeros(x.shape) if g is None else to_numpy(g)
        if array.shape != x.shape:
            raise Fault(
                f"the gradient of {point.subject.name} by {point.subject.labels[j]} has shape "
                f"{array.shape} instead of {x.shape}",
                Verdict.WRONG,
            )
        out.append(array)
    return out


def tangents_of(
    point: Point, directions: Sequence[Array | None], skipped: dict[str, str]
) -> Array | None:
    """Compute the JVP as one vector over the floating results; None if there is no such mode."""
    mode = point.subject.forward
    if not mode or mode in skipped:
        return None
    if point.refused:
        skipped[mode] = point.refused
        return None
    tangents = [
        None if d is None else like(a, d) for d, a in zip(directions, point.native, strict=True)
    ]
    try:
        native = point.subject.jvp(point.native, tangents)
    except Fault as fault:
        if fault.kind is Verdict.WRONG:  # the caller's own rule
            raise
        skipped[mode] = str(fault)
        return None
    parts = [to_numpy(native[k]) for k in point.places]
    for part, shape, k in zip(parts, point.shapes, point.places, strict=True):
        if part.shape != shape:
            raise Fault(
                f"the tangent of result {k} has shape {part.shape} instead of {shape}",
                Verdict.WRONG,
            )
    return np.concatenate([p.ravel() for p in parts]).astype(np.float64)


# ---------------------------------------------------------------------------------------------
# Conditioning, as far as floats tell
# ---------------------------------------------------------------------------------------------


def reverse_motion(point: Point, weights: Array) -> list[Array | None]:
    """Estimate how far each gradient element moves when the inputs move by g·u; None if unknown."""
    return _float_motion(
        point,
        point.split(weights),
        lambda native, cotangents: [
            None if g is None else to_numpy(g).ravel()
            for g in point.subject.vjp(native, cotangents)
        ],
        len(point.points),
    )


def forward_motion(point: Point, directions: Sequence[Array | None]) -> Array | None:
    """Estimate how far each tangent moves when the inputs move by g·u; None if unknown."""
    dots = [
        None if d is None else like(a, d) for d, a in zip(directions, point.native, strict=True)
    ]

    def tangents(native: Sequence[Any], dots: Sequence[Any]) -> list[Array | None]:
        parts = point.subject.jvp(native, dots)
        return [np.concatenate([to_numpy(parts[k]).ravel() for k in point.places])]

    return _float_motion(point, dots, tangents, 1)[0]


def secant(point: Point, directions: Sequence[Array | None], weights: Array, step: float) -> float:
    """Give the slope of ⟨weights, results⟩ over a step, as they are computed."""
    above, below = (results_beside(point, directions, h) for h in (step, -step))
    used = weights != 0
    return float(((above - below)[used] * weights[used]).sum() / (2 * step))


def results_beside(point: Point, directions: Sequence[Array | None], step: float) -> Array:
    """Give what is computed a step along a direction, raveled and joined."""
    native = [
        a if d is None else like(a, (x + step * d).astype(x.dtype))
        for a, x, d in zip(point.native, point.points, directions, strict=True)
    ]
    results = point.subject.value(native)
    return np.concatenate([to_numpy(results[k]).ravel() for k in point.places]).astype(np.float64)


def _float_motion(
    point: Point,
    given: Sequence[Any],
    compute: Callable[[Sequence[Any], Sequence[Any]], list[Array | None]],
    count: int,
) -> list[Array | None]:
    """Measure the conditioning term of the bound (see `ffverify.truth.differences`) as floats tell.

    Inputs move by δ = √u, the result is scaled to g·u. The elements' own errors are scaled down with
    it by g·u·√m/δ. They move the result by twice themselves at most: below a half of that an error cannot
    excuse itself. Beyond, in half precision, the same code in a wide format moves by g·u itself; where that
    cannot be nothing is said.
    """
    size = np.sqrt(sum(x.size for x, f in zip(point.points, point.floating, strict=True) if f))
    delta = 2.0 ** -(point.fmt.precision // 2)
    unit = point.growth * point.fmt.unit_roundoff
    at, points = point.native, point.points
    if unit / delta * size >= 0.5:
        at, given = ([_widened(a) for a in some] for some in (at, given))
        points, delta = [to_numpy(a) for a in at], unit
        if coarsest(at).unit_roundoff > unit**2:  # the framework has none
            return [None] * count
    moves: list[Any] = [0.0] * count
    try:
        before = compute(at, given)
        for _ in range(_PATTERNS):
            native = [
                like(a, (x * (1 + delta * point.rng.choice([-1.0, 1.0], x.shape))).astype(x.dtype))
                if f
                else a
                for a, x, f in zip(at, points, point.floating, strict=True)
            ]
            with np.errstate(all="ignore"):
                for k, (a, b) in enumerate(zip(compute(native, given), before, strict=True)):
                    if a is not None and b is not None:
                        moves[k] = np.hypot(moves[k], a.astype(np.float64) - b)
    except Fault:
        if at is point.native:
            raise
        return [None] * count  # the code refuses wide numbers
    roots = [unit / delta * size * m / np.sqrt(_PATTERNS) for m in moves]
    return [np.where(np.isfinite(r), r, 0.0) if np.ndim(r) else None for r in roots]


def widened(point: Point) -> Point | None:
    """Give a point in the widest format that its framework has; None if it is there, or its results are."""
    native = list(map(_widened, point.native))
    with contextlib.suppress(Fault):
        there = point.at(native)
        return there if there.fmt.precision > point.fmt.precision else None
    return None


def _widened(a: Any) -> Any:
    return framework_of(a).widened(a) if a is not None and is_floating(a) else a
