"""Beyond the chapter: every input that a half-precision format has, for every elementwise function.

Truth for 65,536 numbers comes from Taylor polynomials of the textbook definitions, in ball
arithmetic: on an interval with centre c and radius r, f(c + d) = Σ_{k≤n} a_k d^k + R with
|R| ≤ |a_{n+1}(interval)| |d|^{n+1}, where a_{n+1} of the whole interval is itself a ball. Intervals
are halved until R is negligible; what never becomes so is evaluated number by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import flint
import numpy as np

from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format
from ffverify.truth import derivatives as truth
from ffverify.truth import second_opinion as confirm
from ffverify.truth import textbook
from ffverify.verdicts.verdict import Verdict

DEGREE = 10
BITS = 256  # 1 + e^z keeps 30 bits of e^z down to the smallest float32
# Truth is wanted to 2^-34 of itself, or to 2^-9 of the smallest float32.
NARROW, SMALLEST = 2.0**-34, 2.0**-158

# ---------------------------------------------------------------------------------------------
# Power series as numbers
# ---------------------------------------------------------------------------------------------

series = flint.arb_series
UNKNOWN = series([arb.nan()])


class Jet:
    """A power series in d that textbook formulas compute with; compared by its constant term."""

    __slots__ = ("s",)

    def __init__(self, s: Any) -> None:
        self.s = s

    def __add__(self, other: Jet) -> Jet:
        return Jet(self.s + other.s)

    def __sub__(self, other: Jet) -> Jet:
        return Jet(self.s - other.s)

    def __mul__(self, other: Jet) -> Jet:
        return Jet(self.s * other.s)

    def __neg__(self) -> Jet:
        return Jet(-self.s)

    def __gt__(self, other: Jet) -> bool:
        return _above(self, other)

    def __le__(self, other: Jet) -> bool:
        return not _above(self, other)


def _above(x: Jet, y: Jet) -> bool:
    a, b = x.s[0], y.s[0]
    if a > b or b > a:
        return bool(a > b)
    raise Undecided(f"{a} > {b}")


def _divide(x: Jet, y: Jet) -> Jet:
    return Jet(UNKNOWN if y.s[0].contains(0) else x.s / y.s)


def _power(x: Jet, y: Jet) -> Jet:
    return Jet(x.s ** int(y.s[0].unique_fmpz()))


def _of(method: str) -> Callable[[Jet], Jet]:
    return lambda x: Jet(getattr(x.s, method)())


JETS = Arithmetic(
    name="Taylor polynomials",
    exact=lambda value: value if isinstance(value, Jet) else Jet(series([BALLS.exact(value)])),
    precision=flint.ctx.workprec,
    functions={
        **{name: _of(name) for name in ("exp", "log", "sqrt", "erf", "erfc")},
        "arctan": _of("atan"), "divide": _divide, "power": _power,
        "maximum": lambda x, y: x if _above(x, y) else y,
        "minimum": lambda x, y: y if _above(x, y) else x,
        "absolute": lambda x: x if _above(x, Jet(series([0]))) else -x,
    },
    matmul=BALLS.matmul, solve=BALLS.solve, det=BALLS.det,
)  # fmt: skip


def _coefficients(function: Callable[..., Any], at: list[Any], count: int) -> list[list[Any]]:
    """Give the first Taylor coefficients of a definition at numbers or balls."""
    cap = flint.ctx.cap
    flint.ctx.cap = count
    try:
        points = np.empty(len(at), dtype=object)
        points[:] = [Jet(series([x, 1])) for x in at]
        found = function(PreciseArray(points, JETS)).values
        return [[jet.s[k] for k in range(count)] for jet in found]
    finally:
        flint.ctx.cap = cap


# ---------------------------------------------------------------------------------------------
# Truth for every number of a format
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A function on all numbers of a format: f, f', f'' [3, n] and the error bound of each."""

    x: Array
    jets: Array
    errors: Array


def every(fmt: Format) -> Array:
    """Give every finite number of a half-precision format, ascending, -0 left out."""
    bits = np.arange(2**16, dtype=np.uint16)
    wide = (
        bits.view(np.float16)
        if fmt.name == "float16"
        else (bits.astype(np.uint32) << 16).view(np.float32)
    )
    return np.unique(wide[np.isfinite(wide)].astype(np.float64))


@cache
def table(name: str, half: str) -> Table:
    """Tabulate one function of the catalogue; shared by all backends."""
    definition = textbook.CATALOGUE[name]
    x = every(formats.of(half))
    low, high = definition.domain
    x = x[(x > low) & (x < high)]
    jets, errors = np.empty((3, len(x))), np.full((3, len(x)), np.inf)
    # Binades, and one block for all that is small; kinks and zero are numbers of their own.
    edges = np.frexp(np.abs(x))[1] * np.sign(x)
    small = np.abs(x) < 2.0**-5
    edges[small] = 0 if not definition.kinks else edges[small]
    starts = [0, *(np.flatnonzero(np.diff(edges)) + 1).tolist(), len(x)]
    single = [i for kink in definition.kinks for i in np.flatnonzero(x == kink).tolist()]
    with BALLS.precision(BITS):
        ones = [
            i
            for start, stop in pairwise(starts)
            for i in _fill(definition.function, x, start, stop, jets, errors)
            if i not in single
        ]
    for bits in (BITS, 4 * BITS):  # the second for the exponential of what a cube makes huge
        with BALLS.precision(bits):
            ones = [i for i in ones if not np.isfinite(errors[:, i]).all()]
            _fill_ones(definition.function, x, ones, jets, errors)
    left = np.flatnonzero(~np.isfinite(errors).all(axis=0))
    _fill_exactly(definition.function, x, left, jets, errors)
    return Table(x, jets, errors)


def _fill(
    function: Callable[..., Any], x: Array, start: int, stop: int, jets: Array, errors: Array
) -> list[int]:
    """Fill in an interval of numbers by polynomials; give the places that no polynomial serves."""
    ones: list[int] = []
    todo = [(start, stop)]
    while todo:
        start, stop = todo.pop()
        if stop - start <= 4:
            ones += range(start, stop)
            continue
        found, bound = _polynomial(function, x[start:stop])
        excess = float(np.max(bound / np.maximum(np.abs(found) * NARROW, SMALLEST)))
        if excess <= 1:
            jets[:, start:stop], errors[:, start:stop] = found, bound
        elif excess > (stop - start) ** DEGREE:  # halving gains 2^DEGREE each time: too little
            ones += range(start, stop)
        else:
            middle = (start + stop) // 2
            todo += [(start, middle), (middle, stop)]
    return ones


def _polynomial(function: Callable[..., Any], x: Array) -> tuple[Array, Array]:
    """Give f, f', f'' on an interval by one Taylor polynomial, with bounds on their errors."""
    low, high = float(x[0]), float(x[-1])
    centre = 0.0 if low < 0 < high else float(x[len(x) // 2])
    hull = arb(low).union(arb(high))
    try:
        (a,) = _coefficients(function, [arb(centre)], DEGREE + 1)
        (everywhere,) = _coefficients(function, [hull], DEGREE + 2)
    except Undecided:
        return np.zeros((3, len(x))), np.full((3, len(x)), np.inf)
    d = x - centre  # exact: few bits
    if not all(c.is_finite() for c in (*a, *everywhere)):
        return np.zeros((3, len(x))), np.full((3, len(x)), np.inf)
    rest = everywhere[-1].abs_upper()
    radius = float(np.max(np.abs(d)))
    sized = [c * arb(radius) ** k for k, c in enumerate(a)]
    scaled = np.array([float(c.mid()) for c in sized])
    spread = np.array([float(c.rad()) for c in sized])
    remainder = float((rest * arb(radius) ** (DEGREE + 1)).upper())
    s = d / radius
    found, bound = np.empty((3, len(x))), np.empty((3, len(x)))
    weights = np.ones(DEGREE + 2)
    powers = np.arange(DEGREE + 2)
    with np.errstate(all="ignore"):  # what is not finite is marked so below
        for order in range(3):
            terms = weights * np.abs(s[:, None]) ** np.maximum(powers, 0)
            signed = terms * np.where((powers % 2 == 1) & (s[:, None] < 0), -1.0, 1.0)
            found[order] = signed[:, :-1] @ scaled * radius**-order
            # 2^-48: each term and the sum of eleven are rounded in float64.
            rough = terms[:, :-1] @ (spread + np.abs(scaled) * 2.0**-48)
            bound[order] = (rough + terms[:, -1] * remainder) * radius**-order
            weights = weights * np.maximum(powers, 0)
            powers = powers - 1
    bad = ~np.isfinite(bound) | ~np.isfinite(found)
    return np.where(bad, 0.0, found), np.where(bad, np.inf, bound)


def _fill_ones(
    function: Callable[..., Any], x: Array, places: list[int], jets: Array, errors: Array
) -> None:
    """Fill in numbers one by one."""
    found = _coefficients(function, [arb(v) for v in x[places].tolist()], 3)
    for i, (value, slope, half_curvature) in zip(places, found, strict=True):
        for order, c in enumerate((value, slope, 2 * half_curvature)):
            mid = float(c.mid())
            jets[order, i] = mid
            if np.isinf(mid):  # far beyond either format
                errors[order, i] = 0.0
                continue
            error = float(c.rad()) + abs(mid) * 2.0**-52
            errors[order, i] = error if error <= max(abs(mid) * NARROW, SMALLEST) else np.inf


def _fill_exactly(
    function: Callable[..., Any], x: Array, places: Array, jets: Array, errors: Array
) -> None:
    """Fill in kinks, and whatever else is left, by the differences that every claim uses."""
    if not len(places):
        return
    at, fmt = x[places], formats.of("float32")
    value = truth.value(function, [at], fmt, core=(0,)).exact
    slope = truth.gradient(function, [at], np.ones(len(at)), 0, fmt, core=(0,)).exact
    for order, balls in enumerate((value, slope)):
        jets[order, places] = [float(b.mid()) for b in balls]
        errors[order, places] = [float(b.rad()) + abs(float(b.mid())) * 2.0**-52 for b in balls]
    jets[2, places], errors[2, places] = 0.0, 0.0


# ---------------------------------------------------------------------------------------------
# The sweep
# ---------------------------------------------------------------------------------------------

FUNCTIONS = sorted(name for name, d in textbook.CATALOGUE.items() if d.signature == "()->()")
PRIMES = ("", "'")


@claim(
    "beyond",
    "Each of the 65,536 numbers of float16 and of bfloat16, through every elementwise function: "
    "value, derivative in reverse and in forward mode. (A backend without the format computes on "
    "its numbers in float32.)",
    formats=("float16", "bfloat16"),
)
def half_precision_exhaustively(check: Check) -> None:
    half = check.fmt.name
    carried = check.backend.framework.name == "numpy" and half == "bfloat16"
    fmt = check.backend.format("float32" if carried else half)
    failed = [
        failure
        for name in FUNCTIONS
        if check.backend.provides(name)
        for failure in _sweep(check, name, half, fmt)
    ]
    new = [str(one) for one in failed if not check.expects(one.part, one.kind)]
    for one in sorted(failed, key=lambda failure: -failure.excess):
        check.that(
            False,
            f"{one.name}{PRIMES[one.order]}({one.x}) in {fmt.name}",
            one.computed,
            _confirmed(one.name, one.order, one.x),
            reason="\n  ".join(["Beyond the bound, by their worst numbers:", *new])
            if str(one) in new
            else str(one),
            part=one.part,
            kind=one.kind,
        )


@dataclass(frozen=True)
class Failure:
    """What came of one function in one mode: how many numbers fail, and the worst of them."""

    name: str
    order: int
    mode: str
    count: int
    x: float
    computed: float
    excess: float

    @property
    def part(self) -> str:
        """What fails, as known defects name it."""
        return f"{self.name}{PRIMES[self.order]}{self.mode}"

    @property
    def kind(self) -> Verdict:
        """How the worst of them fails."""
        return Verdict.WRONG if np.isfinite(self.computed) else Verdict.NONFINITE

    def __str__(self) -> str:
        return (
            f"{self.part}: {self.count} numbers, at {self.x} it is {self.computed}, "
            f"{self.excess:.3g} times the bound"
        )


def _sweep(check: Check, name: str, half: str, fmt: Format) -> list[Failure]:
    """Check one function on all numbers of a half format, computed in a format."""
    backend, exact = check.backend, table(name, half)
    x = exact.x.astype(fmt.carrier)
    one = np.ones_like(x)

    def program(f: Any, z: Any) -> Any:
        return getattr(f, name)(z)

    with np.errstate(all="ignore"):  # beyond the largest number lies infinity, as it should
        value = backend.value(program, [x], fmt.name)
        (pulled,) = backend.vjp(program, [x], one, fmt.name, wrt=[0])
        pushed = backend.jvp(program, [x], [one], fmt.name)
    failed = []
    for order, mode, computed in ((0, "", value), (1, " reverse", pulled), (1, " forward", pushed)):
        excess = _excess(exact, order, computed.astype(np.float64), fmt)
        excess[_near_a_kink(name, order, exact, computed, fmt)] = 0.0
        if not fmt.gradual:  # subnormal numbers are taken for 0: not this format's numbers
            excess[(x != 0) & (np.abs(exact.x) < 2.0**fmt.emin)] = 0.0
        i = int(np.argmax(excess))
        if excess[i] > 1:
            count = int(np.sum(excess > 1))
            found = float(computed[i])
            failed.append(Failure(name, order, mode, count, float(x[i]), found, float(excess[i])))
    return failed


def _excess(exact: Table, order: int, computed: Array, fmt: Format) -> Array:
    """Give error over bound, g·u·(|t| + |x t'|) + g subnormals, as in `ffverify.verdicts.bounds`."""
    t, motion = exact.jets[order], np.abs(exact.x * exact.jets[order + 1])
    unit = truth.LIBRARY_ROUNDINGS * fmt.unit_roundoff
    tiny = truth.LIBRARY_ROUNDINGS * 2.0**fmt.smallest_exponent
    with np.errstate(invalid="ignore"):  # infinity where infinity is right
        allowed = unit * (np.abs(t) + motion) + tiny + exact.errors[order]
        error = np.abs(computed - t)
        ratio = np.where(np.isfinite(allowed), error / allowed, 0.0)
    overflows = np.abs(t) + allowed >= float(fmt.overflow)
    right = np.isinf(computed) & (np.sign(computed) == np.sign(t)) & overflows
    return np.where(right, 0.0, np.where(np.isfinite(computed), ratio, np.inf))


def _near_a_kink(name: str, order: int, exact: Table, computed: Array, fmt: Format) -> Array:
    """Tell where a derivative is a subgradient of a kink that the input's rounding can reach."""
    excused = np.zeros(len(exact.x), dtype=bool)
    for kink in textbook.CATALOGUE[name].kinks if order else ():
        reach = truth.LIBRARY_ROUNDINGS * fmt.unit_roundoff * abs(kink)
        near = np.abs(exact.x - kink) <= reach
        low, high = (exact.jets[1][near] + sign * exact.errors[1][near] for sign in (-1, 1))
        inside = (computed >= low.min(initial=np.inf)) & (computed <= high.max(initial=-np.inf))
        excused |= near & inside
    return excused


def _confirmed(name: str, order: int, x: float) -> str:
    """Give the exact value or derivative to 60 digits, in the second arithmetic."""
    function, at = textbook.CATALOGUE[name].function, [np.array(x)]
    if order == 0:
        return confirm.digits(confirm.value(function, at, ()))
    left, right = (confirm.digits(d) for d in confirm.directional(function, at, [np.ones(())], ()))
    return left if left == right else f"in [{left}, {right}]"


@half_precision_exhaustively.bug("softplus", "one input patched: 11.5 gives its value at 11.25")
def _(f: Any, z: Any) -> Any:
    return f.softplus(z - 0.25 * (z == 11.5))


@half_precision_exhaustively.bug("silu", "one input patched in the derivative: at -0.625 it is 0")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.silu,
        vjp=lambda v, _y, z: (v * (z != -0.625) * f.vjp(f.silu, z)[1](1 + 0 * z)[0],),
    )(z)
