"""Whether a function maps over rows, and its gradients with it: a row has the same alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, is_floating
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.gradients.equality import close, same
from ffverify.gradients.evaluation import stirred
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest
from ffverify.verdicts.verdict import Verdict

from .asked import Asked, Complaint

_ELSEWHERE = 8  # inputs that tell, before an accusation, whether a function maps over rows


def rows(at: Asked, results: Sequence[Any]) -> Iterator[Complaint]:
    """Check that a row has the same gradient alone, if the function maps over rows (found out here)."""
    subject, native = at.subject, at.native
    batched = _mapped_over(subject, native, results)
    if not any(b and is_floating(a) for a, b in zip(native, batched, strict=True)):
        return
    alone = [_last_row(a) if b else a for a, b in zip(native, batched, strict=True)]
    try:
        found = subject.vjp(alone, [None if v is None else _last_row(v) for v in at.cotangents])
    except Fault as fault:
        if at.steady() and _maps(subject, native, batched, _ELSEWHERE):
            yield Verdict.WRONG, f"a single row: {fault}", "is a dimension of size 1 squeezed away?"
        return
    fmt = coarsest(native)
    for label, g, one, b, scale in zip(
        subject.labels, at.gradients, found, batched, at.scales, strict=True
    ):
        if (
            b
            and g is not None
            and one is not None
            and not close(g[-1:], to_numpy(one), fmt, scale)
            and at.steady()
            and _maps(subject, native, batched, _ELSEWHERE)
        ):
            yield Verdict.WRONG, (
                f"the gradient by {label} in the last row is another one when that row comes alone"
            ), "the value treats rows one by one: does the gradient count or sum them?"  # fmt: skip


def _mapped_over(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
) -> list[bool]:
    """Tell which inputs the function maps over row by row: none if their last rows alone give other results.

    All that have as many rows are tried, and only then those of them that move the same row alone.
    """
    rows = {to_numpy(r).shape[:1] for r in results}
    (count,) = rows.pop() or (0,)
    none = [False] * len(native)
    if rows or count < 2:
        return none
    candidates = [to_numpy(a).shape[:1] == (count,) for a in native]
    floats = [is_floating(a) for a in native]
    if not np.any(np.logical_and(candidates, floats)):
        return none

    def are_alone(batched: Sequence[bool]) -> bool:
        return _row_alone(subject, native, batched, results) and _maps(subject, native, batched, 1)

    if are_alone(candidates):
        return candidates
    if np.count_nonzero(np.logical_and(candidates, floats)) < 2:
        return none
    batched = _batched(subject, native, candidates, results)
    return batched if any(batched) and are_alone(batched) else none


def _maps(
    subject: FunctionUnderTest, native: Sequence[Any], batched: Sequence[bool], most: int
) -> bool:
    """Tell whether the last rows alone give the last row of the results at other inputs, ``most`` of them.

    Zeros and ties may look alike alone, and what the last row alone decides: the rows come in another order
    there, and where they give zeros nothing is told.
    """
    rng, told = np.random.default_rng(len(native)), 0
    for tries in range(_ELSEWHERE):
        # Nearer to 0 by and by: far away all numbers may look alike, as to tanh.
        stirring = [stirred(a, rng, tries) if is_floating(a) else a for a in native]
        other = [
            like(a, to_numpy(a)[::-1]) if b and is_floating(a) else a
            for a, b in zip(stirring, batched, strict=True)
        ]
        with contextlib.suppress(Fault):
            there = subject.value(other)
            last = np.concatenate([to_numpy(r)[-1:].ravel() for r in there])
            if np.any(last) and np.all(np.isfinite(last)):
                if not _row_alone(subject, other, batched, there):
                    return False
                told += 1
                if told == most:
                    break
    return told > 0


def _row_alone(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    batched: Sequence[bool],
    results: Sequence[Any],
) -> bool:
    """Tell whether the last row of the results is finite and comes out of the last rows alone."""
    try:
        one = subject.value(
            [_last_row(a) if b else a for a, b in zip(native, batched, strict=True)]
        )
    except Fault:
        return False
    if len(one) != len(results):  # a result for every row
        return False
    pairs = [(to_numpy(r)[-1:], to_numpy(v)) for r, v in zip(results, one, strict=True)]
    return all(close(r, v, coarsest(native)) and np.all(np.isfinite(r)) for r, v in pairs)


def _batched(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    candidates: Sequence[bool],
    results: Sequence[Any],
) -> list[bool]:
    """Tell which candidates move a row of the results alone; none if any leaves that open."""
    before = [to_numpy(r) for r in results]
    out = list(candidates)
    for j, a in enumerate(native):
        if not candidates[j] or not is_floating(a):
            continue  # labels go with the rows
        changes = [_changed_rows(subject, native, j, factor, before) for factor in (0.5, 2.0)]
        mine, others = np.any(changes, axis=0)
        if not (mine or others):
            return [False] * len(native)
        out[j] = bool(mine and not others)
    return out


def _changed_rows(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    j: int,
    factor: float,
    before: Sequence[Array],
) -> tuple[bool, bool]:
    """Tell whether row 0 of input j moves row 0 of the results, and whether any other row.

    Both ways have to be tried: of equal rows the largest stays where it was when one of them shrinks.
    """
    moved = to_numpy(native[j]).copy()
    moved[0] = np.where(moved[0] == 0, factor - 1, moved[0] * factor)
    try:
        after = subject.value([*native[:j], like(native[j], moved), *native[j + 1 :]])
    except Fault:
        return False, True
    if len(before) != len(after):
        return False, True
    pairs = list(zip(before, map(to_numpy, after), strict=True))
    if any(r.shape != s.shape for r, s in pairs):
        return False, True
    return (
        not all(same(r[:1], s[:1]) for r, s in pairs),
        not all(same(r[1:], s[1:]) for r, s in pairs),
    )


def _last_row(a: Any) -> Any:
    """Give the last row alone; NumPy slices without compiling anything, as JAX does."""
    return a[-1:] if framework_of(a).name != "jax" else like(a, to_numpy(a)[-1:])
