"""Whether derivative code computes the function's own values on the way to its derivatives.

The forward half of a rule (``custom_vjp``, ``custom_jvp``, an ``autograd.Function`` that asks whether it is
differentiated) may be another program than the function: a loss under ``value_and_grad`` is then another one
than without. Values that are not the same bit for bit are judged as the function's own are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.frameworks.arrays import coarsest, to_numpy
from ffverify.gradients.equality import alike, same
from ffverify.gradients.evaluation import Point, stirred
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest
from ffverify.gradients.judge.accuracy import execution_and_accuracy
from ffverify.gradients.judge.numbers import Judged, Screening, values
from ffverify.verdicts.verdict import Verdict

from .asked import Complaint

PointAt = Callable[[Sequence[Any], Sequence[Any]], Point]


def other_values(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    seed: int,
    point_at: PointAt,
    is_mild: Callable[[Judged], bool],
) -> Iterator[Complaint]:
    """Yield a complaint about the first mode that computes other values on the way than the function gives.

    Asked at a point, where zeros may hide a factor, and at one without any. ``point_at(arrays, results)``
    gives these as a point, to be judged; what ``is_mild`` is rounding.
    """
    if subject.caller_vjp is not None or subject.caller_jvp is not None:
        return  # derivatives alone
    rng = np.random.default_rng(seed)
    moved = [stirred(a, rng) if w else a for a, w in zip(native, subject.wrt, strict=True)]
    for args in (native, moved):
        for mode in filter(None, (subject.reverse, subject.forward)):
            with contextlib.suppress(Fault):  # it is told elsewhere, if it is defined there at all
                plain = subject.value(args)
                other = iter(subject.on_the_way(mode, args, plain))
                there = [next(other) if is_floating(r) else r for r in plain]
                found = _worst(plain, there, lambda of, args=args: point_at(args, of), is_mild)  # type: ignore[misc]
                if found is not None:
                    kind, (k, i) = found
                    given, own = (to_numpy(of[k]).ravel()[i] for of in (there, plain))
                    name = subject.name if len(plain) == 1 else f"result {k} of {subject.name}"
                    yield kind, (
                        "the rule's forward gives another value than the function: "
                        f"in {mode} mode element {i} of {name} is {given:.9g}, "
                        f"and without derivatives {own:.9g}"
                    ), "return from the rule's forward what the function itself returns"  # fmt: skip
                    return


def _worst(
    plain: Sequence[Any],
    there: Sequence[Any],
    point_of: Callable[[Sequence[Any]], Point],
    is_mild: Callable[[Judged], bool],
) -> tuple[Verdict, tuple[int, int]] | None:
    """Give the verdict on values that are not the plain ones, result and element; None if they are right."""
    places = [k for k, r in enumerate(plain) if is_floating(r)]
    pairs = {k: (to_numpy(plain[k]), to_numpy(there[k])) for k in places}
    if any(a.shape != b.shape for a, b in pairs.values()):
        k = next(k for k, (a, b) in pairs.items() if a.shape != b.shape)
        return Verdict.WRONG, (k, 0)
    if all(same(a, b) for a, b in pairs.values()):
        return None
    own, other = (_judged(point_of, of) for of in (plain, there))
    if own is None or other is None:
        for k, (a, b) in pairs.items():
            if not alike(a, b, coarsest([plain[k]])):
                return Verdict.WRONG, (k, int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf))))
        return None
    known = {(j.argument, j.index, j.kind) for j in own}
    for j in other:
        if not is_mild(j) and (j.argument, j.index, j.kind) not in known:
            shape = pairs[j.argument][0].shape
            return j.kind, (j.argument, int(np.ravel_multi_index(j.index, shape)) if shape else 0)
    return None


def _judged(
    point_of: Callable[[Sequence[Any]], Point], results: Sequence[Any]
) -> list[Judged] | None:
    """Judge values; None where they have no exact program that can be run."""
    found = Screening()
    with contextlib.suppress(Exception):  # exact programs of foreign code fail in any way
        point = point_of(results)
        if point.formulas.forward is not None:
            numbers = values(point, found)
            execution_and_accuracy(numbers, np.ones(numbers.computed.size, dtype=bool))
            return found.failed
    return None
