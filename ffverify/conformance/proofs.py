"""Statements about the textbook definitions themselves, proven in ball arithmetic.

A claim has two halves: a sentence of mathematics, and an implementation that computes it. The
second is what ``Check`` judges; the first is shown here, at the same inputs, on the definitions:

    proofs.equal(check, lambda f, z: f.softmax(z), lambda f, z: f.softmax(z + 1), z)
    proofs.positive(check, lambda f, z: f.softplus(z) - f.relu(z), z)

A strict inequality is proven: the ball lies on one side. Equality of real numbers cannot be; it is
shown to ``BITS`` bits of the larger side, or of the smallest double if that is larger. What does
not hold is a finding like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, is_floating
from ffverify.exact.programs import Program
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.adaptive import CEILING, FIRST_PRECISION

from .check import Check

BITS = 100
SMALLEST = -1074  # exponent of the smallest double


def balls(program: Program, *args: Any, bits: int = FIRST_PRECISION) -> PreciseArray:
    """Evaluate a program of textbook definitions at given floats."""
    with BALLS.precision(bits):
        points = [BALLS.array(a) if is_floating(np.asarray(a)) else a for a in args]
        return BALLS.array(program(textbook.namespace, *points))


def slopes(
    check: Check, program: Program, *args: Array, wrt: int = 0, core: Sequence[int] | None = None
) -> Array:
    """Give balls around the gradient of the sum of a program's results, narrower than an ulp."""
    result = balls(program, *args)
    ones = np.ones(result.shape)

    def exact(*points: Any) -> Any:
        return program(textbook.namespace, *points)

    return truth.gradient(exact, args, ones, wrt, check.fmt, core=core).exact


def agree(check: Check, exact: Array, formula: Array, where: str) -> None:
    """Check that a formula's balls meet those around the exact slopes."""
    meet = np.frompyfunc(lambda a, b: a.overlaps(b), 2, 1)(exact, formula)
    check.that(bool(np.all(meet)), where, formula, exact)


def equal(
    check: Check, left: Program, right: Program, *args: Array, where: str = "left = right"
) -> None:
    """Show that two programs agree at ``args``."""

    def settled(a: Any, b: Any) -> bool | None:
        if not a.overlaps(b):
            return False
        size = arb.max(arb.max(a.abs_upper(), b.abs_upper()), arb(2) ** SMALLEST)
        narrow = (a - b).abs_upper() * arb(2) ** BITS <= size
        return True if narrow or not (a.is_finite() or a.is_nan()) else None

    _decide(check, [left, right], args, settled, where)


def positive(
    check: Check, program: Program, *args: Array, where: str = "0 <", or_zero: bool = False
) -> None:
    """Prove that a program is positive at ``args``.

    ``or_zero`` also takes what ``CEILING`` bits cannot tell from zero.
    """

    def settled(a: Any) -> bool | None:
        if a > 0 or (or_zero and a >= 0):
            return True
        return False if (a < 0 if or_zero else a <= 0) else None

    _decide(check, [program], args, settled, where, at_the_ceiling=or_zero)


def _decide(
    check: Check,
    programs: list[Program],
    args: tuple[Array, ...],
    settled: Callable[..., bool | None],
    where: str,
    *,
    at_the_ceiling: bool = False,
) -> None:
    """Evaluate with more and more bits until every element is settled one way or the other."""
    bits = FIRST_PRECISION
    while bits <= CEILING:
        with BALLS.precision(bits):
            try:
                sides = np.broadcast_arrays(*(balls(p, *args, bits=bits).values for p in programs))
                elements = list(zip(*(np.ravel(s) for s in sides), strict=True))
                answers = [settled(*element) for element in elements]
            except Undecided:
                answers = [None]
        bits *= 2
        if False in answers:
            wrong = elements[answers.index(False)]
            check.that(False, where, " and ".join(map(str, wrong)), "so, by the textbook")
        if None not in answers:
            break
    else:
        check.that(at_the_ceiling, where, f"undecided at {CEILING} bits", "decided")
    check.that(True, where, "")
