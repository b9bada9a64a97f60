"""Beyond the chapter: every input that a half-precision format has, for every elementwise function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.exact.formats import Array, Format
from ffverify.truth import derivatives as truth
from ffverify.truth import second_opinion as confirm
from ffverify.truth import textbook
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.verdict import Verdict, judge

from .tables import Table, table

FUNCTIONS = sorted(name for name, d in textbook.CATALOGUE.items() if d.signature == "()->()")
PRIMES = ("", "'")


@claim(
    "beyond",
    "Each of the 65,536 numbers of float16 and of bfloat16, through every elementwise function: "
    "value, derivative in reverse and in forward mode. (A backend without the format computes on "
    "its numbers in float32.)",
    functions=FUNCTIONS,
    each="function",
    formats=("float16", "bfloat16"),
)
def half_precision_exhaustively(check: Check, function: str) -> None:
    half = check.fmt.name
    carried = check.backend.framework.name == "numpy" and half == "bfloat16"
    fmt = check.backend.format("float32" if carried else half)
    failed = _sweep(check, function, half, fmt)
    new = [str(one) for one in failed if not check.expects(one.part, one.kind)]
    for one in sorted(failed, key=lambda failure: -failure.excess):
        check.that(
            False,
            f"{one.name}{PRIMES[one.order]}({one.x}) in {fmt.name}",
            one.computed,
            _confirmed(one, fmt),
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
    kind: Verdict

    @property
    def part(self) -> str:
        """What fails, as known defects name it."""
        return f"{self.name}{PRIMES[self.order]}{self.mode}"

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
            count, found, at = int(np.sum(excess > 1)), float(computed[i]), float(x[i])
            kind = _judged(name, order, at, found, fmt)
            failed.append(Failure(name, order, mode, count, at, found, float(excess[i]), kind))
    return failed


def _truth(name: str, order: int, x: float, fmt: Format) -> Truth:
    function, at = textbook.CATALOGUE[name].function, [np.array([x])]
    if order:
        return truth.gradient(function, at, np.ones(1), 0, fmt, core=(0,))
    return truth.value(function, at, fmt, core=(0,))


def _judged(name: str, order: int, x: float, computed: float, fmt: Format) -> Verdict:
    """Judge the worst number as every other claim judges: the tables are only a screen."""
    exact = _truth(name, order, x, fmt)
    return Verdict(judge(np.array([computed]), exact, fmt).verdicts[0])


def _excess(exact: Table, order: int, computed: Array, fmt: Format) -> Array:
    """Give error over bound, g·u·(|t| + |x t'|) + g subnormals, as in `ffverify.verdicts.bounds`."""
    t, slope = exact.jets[order], np.abs(exact.jets[order + 1]) + exact.errors[order + 1]
    motion = np.abs(exact.x) * slope
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


def _confirmed(one: Failure, fmt: Format) -> str:
    """Give the exact value or derivative to 60 digits, in the second arithmetic."""
    function, at = textbook.CATALOGUE[one.name].function, [np.array(one.x)]
    exact = _truth(one.name, one.order, one.x, fmt)
    ball, kink = exact.exact[0], bool(exact.kink[0])
    slope = confirm.slope(function, at, [np.ones(())], ball) if one.order else None
    return confirm.agreement(slope or confirm.value(function, at), ball, kink=kink)[0]


@half_precision_exhaustively.bug("softplus", "one input patched: 11.5 gives its value at 11.25")
def _(f: Any, z: Any) -> Any:
    return f.softplus(z - 0.25 * (z == 11.5))


@half_precision_exhaustively.bug("silu", "one input patched in the derivative: at -0.625 it is 0")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.silu,
        vjp=lambda v, _y, z: (v * (z != -0.625) * f.vjp(f.silu, z)[1](1 + 0 * z)[0],),
    )(z)
