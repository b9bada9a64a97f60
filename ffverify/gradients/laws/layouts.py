"""Whether gradients depend on how inputs and cotangents lie in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.frameworks.arrays import coarsest, ones_like, to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.gradients.equality import close
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest
from ffverify.verdicts.verdict import Verdict

from .asked import Asked, Complaint, are_steady, numbers, scaled, underflow


def is_linear_however_laid_out(at: Asked) -> bool:
    """Tell whether -2 times the cotangent, all transposed in memory, gives -2 times the gradient."""
    if at.subject.framework.name == "jax":
        return False
    native, cotangents = _laid_out(_fortran, at.native, scaled(at.cotangents, -2.0))
    expected = [None if g is None else -2.0 * g for g in at.gradients]
    scales = [min(scale, underflow(native)) for scale in at.scales]
    return at.holds(native, cotangents, expected, scales)


def layouts(at: Asked, *, known: bool) -> Iterator[Complaint]:
    """Check that the same numbers, laid out otherwise in memory, have the same gradient.

    That transposed ones have may be ``known``.
    """
    if at.subject.framework.name == "jax":  # its arrays have no layout of their own
        return
    if not known:
        yield from _changed(
            at, *_laid_out(_fortran, at.native, at.cotangents), "transposed in memory"
        )
    yield from _changed(at, *_laid_out(_strided, at.native, at.cotangents), "every other element")
    ones = [None if v is None else ones_like(v) for v in at.cotangents]
    expanded = [None if v is None else _expanded(v) for v in ones]
    shared, copied = (
        [_first_rows(a, copy=copy) if is_floating(a) else a for a in at.native]
        for copy in (False, True)
    )
    with contextlib.suppress(Fault):  # equal rows are no input for this function
        of_ones = [numbers(g) for g in at.subject.vjp(copied, ones)]
        if at.holds(shared, expanded, of_ones, at.scales):
            return
    here = replace(at, gradients=[numbers(g) for g in at.pull(ones)])
    what = "a cotangent of ones that is expanded from a single one, as that of a sum is"
    yield from _changed(here, at.native, expanded, what)
    yield from _shared_memory(at, shared, copied)


def _laid_out(
    change: Callable[[Any], Any], native: Sequence[Any], cotangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    return (
        [change(a) if is_floating(a) else a for a in native],
        [None if v is None else change(v) for v in cotangents],
    )


def _shared_memory(at: Asked, shared: Sequence[Any], copied: Sequence[Any]) -> Iterator[Complaint]:
    """Check that rows which are one and the same memory have the gradient of equal rows."""
    subject, cotangents, scales = at.subject, at.cotangents, at.scales
    try:
        expected = [numbers(g) for g in subject.vjp(copied, cotangents)]
    except Fault:
        return  # equal rows are no input for this function
    steady = partial(are_steady, subject, copied, cotangents, expected, scales)
    there = replace(at, gradients=expected, steady=steady)
    yield from _changed(there, shared, cotangents, "rows expanded from one row")


def _changed(
    at: Asked, other: Sequence[Any], cotangents: Sequence[Any], what: str
) -> Iterator[Complaint]:
    """Compare the gradients at the same numbers, laid out otherwise, with those that are known."""
    subject = at.subject
    try:
        changed = subject.vjp(other, cotangents)
    except Fault as fault:
        if _refuses(subject, other) or not at.steady():
            return
        yield Verdict.WRONG, f"inputs laid out otherwise ({what}): {fault}", (
            "use reshape in place of view, write to arrays of your own only, or make the input contiguous"
        )  # fmt: skip
        return
    for label, g, c, scale in zip(subject.labels, at.gradients, changed, at.scales, strict=True):
        if g is not None and c is not None and not close(g, to_numpy(c), coarsest(other), scale):
            if _reads_memory(at, other) or not at.steady():
                return
            yield Verdict.WRONG, (
                f"the gradient by {label} changes when inputs and cotangents are laid out "
                f"otherwise ({what})"
            ), "the code takes its arrays for contiguous, or for its own"  # fmt: skip


def _reads_memory(at: Asked, other: Sequence[Any]) -> bool:
    """Tell whether a function is one of how its inputs lie in memory.

    torch's as_strided is, and so is noise that fills an array like an input, in the order of its memory.
    """
    value = at.subject.value
    if at.subject.framework.name != "torch":
        return False
    from ffverify.frameworks.torch.tape import record

    tape = record(lambda *args: tuple(value(args)), other, {}, kept=True)
    if any(step.name.startswith("as_strided") for step in tape.steps):
        return True
    results = zip(value(at.native), value(other), strict=True)
    return bool(tape.noise) and not all(
        np.array_equal(to_numpy(a), to_numpy(b)) for a, b in results
    )


def _refuses(subject: FunctionUnderTest, native: Sequence[Any]) -> bool:
    """Tell whether the function itself, not only its VJP, refuses how its inputs are laid out."""
    try:
        subject.value(native)
    except Fault:
        return True
    return False


def _first_rows(a: Any, *, copy: bool) -> Any:
    """Give the first row in the place of all, as one memory or copied."""
    if not a.ndim or a.shape[0] < 2:
        return a
    if framework_of(a).name == "torch":
        shared = a[:1].expand(a.shape)
        return shared.contiguous() if copy else shared
    shared = np.broadcast_to(a[:1], a.shape)
    return shared.copy() if copy else shared


def _expanded(ones: Any) -> Any:
    """Give an array of ones as one number in memory, all strides 0."""
    if framework_of(ones).name == "torch":
        return ones.new_ones(()).expand(ones.shape)
    return np.broadcast_to(np.ones((), ones.dtype), ones.shape)


def _fortran(a: Any) -> Any:
    if a.ndim < 2:
        return a
    if framework_of(a).name == "torch":
        backwards = tuple(range(a.ndim))[::-1]
        return a.permute(backwards).contiguous().permute(backwards)
    return np.asfortranarray(a)


def _strided(a: Any) -> Any:
    if a.ndim == 0:
        return a
    if framework_of(a).name == "torch":
        import torch

        return torch.repeat_interleave(a, 2, dim=-1)[..., ::2]
    return np.repeat(a, 2, axis=-1)[..., ::2]
