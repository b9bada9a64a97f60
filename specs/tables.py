"""Values, slopes and curvatures of elementwise functions, at every number of a half-precision format.

``table("mish", "float16")`` gives f, f', f'' and a bound on the error of each. They come from Taylor
polynomials of the textbook definitions, in ball arithmetic: on an interval with centre c and radius r,
f(c + d) = Σ_{k≤n} a_k d^k + R with |R| ≤ |a_{n+1}(interval)| |d|^{n+1}, where a_{n+1} of the whole interval
is itself a ball. Intervals are halved until R is negligible; what never becomes so is evaluated number
by number. Far out, where a function is a line to within less than any format shows, it is that line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import flint
import numpy as np

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import in_halves
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook

DEGREE = 16
FEW = 4  # so few numbers are cheaper one by one than a polynomial
BITS = 256  # 1 + e^z keeps 30 bits of e^z down to the smallest float32
# What a half format's numbers are computed in at the finest; a backend without bfloat16 takes float32.
FINEST = {"float16": formats.of("float16"), "bfloat16": formats.of("float32")}

# ---------------------------------------------------------------------------------------------
# Power series as numbers
# ---------------------------------------------------------------------------------------------

series = flint.arb_series
UNKNOWN = series([arb.nan()])


class Jet:
    """A power series in d that textbook formulas compute with; compared by its constant term.

    Formulas say e^z more than once: what a series has been taken to is kept with it.
    """

    __slots__ = ("made", "s")

    def __init__(self, s: Any) -> None:
        self.s = s
        self.made: dict[str, Jet] = {}

    def taken(self, method: str) -> Jet:
        """Give a function of the series, by the name of Arb's method."""
        if method not in self.made:
            self.made[method] = Jet(getattr(self.s, method)())
        return self.made[method]

    def __add__(self, other: Jet) -> Jet:
        return Jet(self.s + other.s)

    def __sub__(self, other: Jet) -> Jet:
        return Jet(self.s - other.s)

    def __mul__(self, other: Jet) -> Jet:
        return Jet(self.s * other.s)

    def __neg__(self) -> Jet:
        return self.taken("__neg__")

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
    return lambda x: x.taken(method)


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


def _coefficients(
    function: Callable[..., Any], at: list[Any], count: int, radii: list[float] | None = None
) -> list[list[Any]]:
    """Give the first Taylor coefficients of a definition at numbers or balls, in units of the radii."""
    cap = flint.ctx.cap
    flint.ctx.cap = count
    try:
        points = np.empty(len(at), dtype=object)
        points[:] = [Jet(series([x, r])) for x, r in zip(at, radii or [1] * len(at), strict=True)]
        found = function(PreciseArray(points, JETS)).values
        return [[jet.s[k] for k in range(count)] for jet in found]
    finally:
        flint.ctx.cap = cap


# ---------------------------------------------------------------------------------------------
# Truth for every number of a format
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A function on numbers of a format: f, f', f'' [3, n] and the error bound of each.

    ``finest`` is the finest format that the numbers are computed in.
    """

    x: Array
    jets: Array
    errors: Array
    finest: Format

    def put(self, places: Any, found: Array, bound: Array) -> float:
        """Take f, f', f'' at some places where they are narrow enough; give the worst width over enough."""
        excess = np.max(bound / self._negligible(found, self.x[places]), axis=0)
        self.jets[:, places] = found
        self.errors[:, places] = np.where(excess <= 1, bound, np.inf)
        return float(np.max(excess, initial=0.0))

    def _negligible(self, found: Array, x: Array) -> Array:
        """Give the errors of f, f', f'' that do not matter beside the bound: `specs.half_precision` has it.

        That is at least 8 u of f or f', and 8 of the smallest numbers: of either 2^-6 is little. In
        it x f'' is multiplied by 8 u: of that 2^-8 is little.
        """
        u, least = self.finest.unit_roundoff, 2.0**self.finest.smallest_exponent
        relative = np.array([[2.0**-6 * u], [2.0**-6 * u], [2.0**-8]])
        absolute = np.full(found.shape, 2.0**-6 * least)
        absolute[2] /= u * np.maximum(np.abs(x), least)
        sizes: Array = np.maximum(np.abs(found) * relative, absolute)
        return sizes


def every(fmt: Format) -> Array:
    """Give every finite number of a half-precision format, ascending, -0 left out."""
    bits = np.arange(2**16, dtype=np.uint16)
    wide = (
        bits.view(np.float16)
        if fmt.name == "float16"
        else (bits.astype(np.uint32) << 16).view(np.float32)
    )
    return np.unique(wide[np.isfinite(wide)].astype(np.float64))


def _unknown(made: Table, starts: list[int]) -> list[tuple[int, int]]:
    """Give the stretches of numbers between the starts that nothing is known of yet."""
    known = np.asarray(np.isfinite(made.errors).all(axis=0))
    found = []
    for start, stop in pairwise(starts):
        places = start + np.flatnonzero(~known[start:stop])
        if places.size:
            found += [
                (int(p[0]), int(p[-1]) + 1)
                for p in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
            ]
    return found


# What a function is beyond ±16, left and right: a line (slope, offset), or infinite. With q = e^-|z| it
# differs from that, as do its first two derivatives, by less than (8 + 4|z|) q: e^z, σ, σ' and |σ''| are at
# most q on the left, log(1 + q) ≤ q, 1 - tanh|z| ≤ 2q² and its derivatives are at most 4 q² and 8 q²; z
# times one of these has derivatives below (1 + |z|) q and (2 + |z|) q, for mish twice that; and Gaussian
# tails, e^(-z²/2) and less, with powers of z before it, lie below q² from 16 on.
ZERO, ONE, MINUS_ONE, ITSELF = (0.0, 0.0), (0.0, 1.0), (0.0, -1.0), (1.0, 0.0)
INFINITE, OVERFLOWING = (0.0, math.inf), 710  # e^710 is no float64
SATURATED = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
TAILS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "elu": (MINUS_ONE, ITSELF), "erf": (MINUS_ONE, ONE), "erfc": ((0.0, 2.0), ZERO),
    "gelu": (ZERO, ITSELF), "gelu_tanh": (ZERO, ITSELF), "log_sigmoid": (ITSELF, ZERO),
    "mish": (ZERO, ITSELF), "selu": ((0.0, SATURATED), (1.0507009873554804934193349852946, 0.0)),
    "sigmoid": (ZERO, ONE), "silu": (ZERO, ITSELF), "softplus": (ZERO, ITSELF),
    "tanh": (MINUS_ONE, ONE), "tanhshrink": ((1.0, 1.0), (1.0, -1.0)),
    "exp": (ZERO, INFINITE), "expm1": (MINUS_ONE, INFINITE),
}  # fmt: skip


def _fill_tails(made: Table, name: str) -> None:
    """Fill in what lies so far out that a line is as good as the function, or beyond any float."""
    for (slope, offset), side in zip(TAILS.get(name, ()), (-1, 1), strict=False):
        places = np.flatnonzero(made.x * side >= (16 if math.isfinite(offset) else OVERFLOWING))
        x = made.x[places]
        found = np.stack([slope * x + offset, 0 * x + slope, 0 * x])
        bound = (8 + 4 * np.abs(x)) * np.exp(-np.minimum(np.abs(x), OVERFLOWING))
        if math.isinf(offset):
            found, bound = np.full((3, len(x)), offset), np.zeros((3, len(x)))
        made.put(places, found, bound + np.where(np.isinf(found), 0.0, np.abs(found)) * 2.0**-52)


@cache
def table(name: str, half: str) -> Table:
    """Tabulate one function of the catalogue; shared by all backends."""
    definition = textbook.CATALOGUE[name]
    x = every(formats.of(half))
    low, high = definition.domain
    x = x[(x > low) & (x < high)]
    made = Table(x, np.empty((3, len(x))), np.full((3, len(x)), np.inf), FINEST[half])
    # Binades, and one block for all that is small; kinks and zero are numbers of their own.
    edges = np.frexp(np.abs(x))[1] * np.sign(x)
    small = np.abs(x) < 2.0**-5
    edges[small] = 0 if not definition.kinks else edges[small]
    starts = [0, *(np.flatnonzero(np.diff(edges)) + 1).tolist(), len(x)]
    single = [i for kink in definition.kinks for i in np.flatnonzero(x == kink).tolist()]
    _fill_tails(made, name)
    with BALLS.precision(BITS):
        ones = _fill(made, definition.function, _unknown(made, starts))
    for bits in (BITS, 4 * BITS):  # the second for the exponential of what a cube makes huge
        with BALLS.precision(bits):
            ones = [i for i in ones if i not in single and not np.isfinite(made.errors[:, i]).all()]
            _fill_ones(made, definition.function, ones)
    _fill_exactly(made, definition.function, np.flatnonzero(~np.isfinite(made.errors).all(axis=0)))
    return made


def _fill(made: Table, function: Callable[..., Any], stretches: list[tuple[int, int]]) -> list[int]:
    """Fill in stretches of numbers by polynomials; give the places that no polynomial serves."""
    ones: list[int] = []
    todo = stretches
    while True:
        ones += [i for start, stop in todo if stop - start <= FEW for i in range(start, stop)]
        todo = [(start, stop) for start, stop in todo if stop - start > FEW]
        if not todo:
            return ones
        found = in_halves(partial(_polynomials, function, made.x), todo)
        pairs, todo = zip(todo, found, strict=True), []
        for (start, stop), polynomial in pairs:
            excess = math.inf
            if polynomial is not None:
                # Where the ends and the middle show that halves are needed the rest is not computed.
                for places in ([start, (start + stop) // 2, stop - 1], slice(start, stop)):
                    excess = made.put(places, *polynomial(made.x[places]))
                    if excess > 1:
                        break
            binades = np.flatnonzero(np.diff(np.frexp(made.x[start:stop])[1])) + start + 1
            if excess <= 1:
                continue
            if excess <= (stop - start) ** DEGREE:  # halving gains 2^DEGREE each time
                middle = (start + stop) // 2
                todo += [(start, middle), (middle, stop)]
            elif binades.size:
                todo += pairwise([start, *binades.tolist(), stop])
            else:
                ones += range(start, stop)


Polynomial = Callable[[Array], tuple[Array, Array]]


def _polynomials(
    function: Callable[..., Any], x: Array, stretches: Sequence[tuple[int, int]]
) -> list[Polynomial | None]:
    """Give f, f', f'' on stretches of numbers, each by a Taylor polynomial, with bounds on their errors."""
    ends = [(float(x[start]), float(x[stop - 1])) for start, stop in stretches]
    centres = [
        0.0 if low < 0 < high else float(x[(start + stop) // 2])
        for (low, high), (start, stop) in zip(ends, stretches, strict=True)
    ]
    radii = [max(c - low, high - c) for (low, high), c in zip(ends, centres, strict=True)]
    balls = [arb(low).union(arb(high)) for low, high in ends]
    found = _coefficients(function, [*balls, *map(arb, centres)], DEGREE + 2, radii * 2)
    return [
        _polynomial(c, radius, around, everywhere[-1])
        if all(k.is_finite() for k in everywhere)
        else None
        for c, radius, everywhere, around in zip(
            centres, radii, found[: len(radii)], found[len(radii) :], strict=True
        )
    ]


def _polynomial(centre: float, radius: float, around: list[Any], last: Any) -> Polynomial:
    """Give a polynomial in (x - centre) / radius; the last coefficient is that of the remainder."""
    scaled = np.array([float(c.mid()) for c in around[:-1]])
    spread = np.array([float(c.rad()) for c in around[:-1]])
    # Rounded in float64: d and d / radius, sixteen times in a power, the power, its coefficient and
    # weight, the product, a sum of seventeen, and the last factor: below 64 · 2^-53 of each term.
    rough = np.append(spread + np.abs(scaled) * 2.0**-47, float(last.abs_upper()))

    def at(x: Array) -> tuple[Array, Array]:
        powers = np.empty((DEGREE + 2, len(x)))
        powers[0], powers[1:] = 1.0, (x - centre) / radius
        np.multiply.accumulate(powers, out=powers)
        sizes = np.abs(powers)
        found, bound = np.empty((3, len(x))), np.empty((3, len(x)))
        with np.errstate(all="ignore"):  # what is not finite is marked so below
            for order, weights in enumerate(_WEIGHTS):
                factor = radius**-order
                found[order] = (weights[:-1] * scaled[order:]) @ powers[: -1 - order] * factor
                bound[order] = (weights * rough[order:]) @ sizes[: len(weights)] * factor
        good = np.isfinite(bound) & np.isfinite(found)
        return np.where(good, found, 0.0), np.where(good, bound, np.inf)

    return at


# k (k - 1) …, what derivatives of each order make of d^k.
_WEIGHTS = [
    np.array([float(math.perm(k, order)) for k in range(order, DEGREE + 2)]) for order in range(3)
]


def _fill_ones(made: Table, function: Callable[..., Any], places: list[int]) -> None:
    """Fill in numbers one by one."""
    series = _coefficients(function, [arb(v) for v in made.x[places].tolist()], 3)
    balls = [(f, slope, 2 * half_curvature) for f, slope, half_curvature in series]
    found = np.array([[float(b.mid()) for b in row] for row in balls]).reshape(-1, 3).T
    radii = np.array([[float(b.rad()) for b in row] for row in balls]).reshape(-1, 3).T
    # Infinite is what is far beyond either format.
    made.put(places, found, np.where(np.isinf(found), 0.0, radii + np.abs(found) * 2.0**-52))


def _fill_exactly(made: Table, function: Callable[..., Any], places: Array) -> None:
    """Fill in kinks, and whatever else is left, by the differences that every claim uses."""
    if not len(places):
        return
    at, fmt = made.x[places], formats.of("float32")
    value = truth.value(function, [at], fmt, core=(0,)).exact
    slope = truth.gradient(function, [at], np.ones(len(at)), 0, fmt, core=(0,)).exact
    for order, balls in enumerate((value, slope)):
        made.jets[order, places] = [float(b.mid()) for b in balls]
        made.errors[order, places] = [
            float(b.rad()) + abs(float(b.mid())) * 2.0**-52 for b in balls
        ]
    made.jets[2, places], made.errors[2, places] = 0.0, 0.0
