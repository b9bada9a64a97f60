"""Whether a function, or its VJP, gives the same twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ffverify.exact.formats import Array
from ffverify.frameworks.arrays import coarsest, to_numpy
from ffverify.gradients.equality import alike
from ffverify.gradients.function_under_test import FunctionUnderTest
from ffverify.verdicts.verdict import Verdict

from .asked import Complaint, cotangents_for, numbers

RANDOM = "two calls on the same input give different values"
DRAWS = (
    "it draws random numbers that it does not seed, so that its values may differ from call to call"
)
VARIES: Complaint = (
    Verdict.INCONCLUSIVE,
    "two calls of the VJP on the same input differ",
    "a buffer may be shared between calls, or the function is random",
)


def is_random(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any], *, calls: int = 1
) -> bool:
    """Tell whether calls on the same input give different values.

    The last bits may differ: LAPACK's do, with how arrays are aligned in memory.
    """
    first, called = [to_numpy(r).copy() for r in results], replace(subject, known=None)
    return not all(
        alike(a, to_numpy(b), coarsest([b]))
        for _ in range(calls)
        for a, b in zip(first, called.value(native), strict=True)
    )


def draws(subject: FunctionUnderTest, native: Sequence[Any]) -> bool:
    """Tell whether calls leave a global generator in another state each time: values may differ, if seldom.

    What seeds the generator itself, or puts it back, leaves the same.
    """
    left = []
    for _ in range(2):
        replace(subject, known=None).value(native)
        left.append(subject.framework.generator())
    return left[0] != left[1]


def varies(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any], *, calls: int
) -> bool:
    """Tell whether VJPs of a pure function that are taken anew on the same input differ."""
    if not (subject.is_pure and subject.reverse):
        return False  # `side_checks` asked
    cotangents = cotangents_for(results, 0)

    def taken() -> list[Array | None]:
        return [*map(numbers, replace(subject, known=None, pulls={}).vjp(native, cotangents))]

    first = taken()
    return not all(
        a is None or b is None or alike(a, b, coarsest(native))
        for _ in range(calls)
        for a, b in zip(first, taken(), strict=True)
    )
