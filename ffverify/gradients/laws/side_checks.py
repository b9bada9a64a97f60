"""Checks beside the numbers: what a derivative must do whatever its value is.

``side_checks(subject, native)`` calls the function a few more times at one point and yields a
sentence for everything that is amiss: randomness, mutated inputs, wrong dtypes or devices, a zero
cotangent that gives something else than zero, a gradient that is not linear in its cotangent, that a
second backward changes, or that depends on how the input lies in memory or on how many rows come
with one. That forward and reverse mode agree needs no check of its own: each is compared with the
same exact slope. That gradients are linear at cotangents of any size `.multiples` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, dtype_name, is_floating
from ffverify.frameworks.arrays import coarsest, device_of, to_numpy, zeros_like
from ffverify.frameworks.framework import Pullback
from ffverify.gradients.equality import alike, close, same
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest
from ffverify.verdicts.verdict import Verdict

from .asked import (
    Asked,
    Complaint,
    are_steady,
    cotangents_for,
    natural_scales,
    numbers,
    scaled,
    underflow,
)
from .layouts import is_linear_however_laid_out, layouts
from .randomness import RANDOM, VARIES, is_random
from .rows import rows

_MOST = 8  # inputs and results that are asked about alone, the last of these with all further ones


def side_checks(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    results: Sequence[Any],
    seed: int,
    *,
    lasting: bool = True,
) -> Iterator[Complaint]:
    """Yield (verdict, sentence, hint) for everything that is amiss at one point.

    What is amiss at all points or at none is only asked if ``lasting``, and not of what is pure (see below).
    A function that is random yields that alone: nothing else means anything then.
    """
    before = [to_numpy(a).copy() for a in native]
    first = [to_numpy(r).copy() for r in results]
    if is_random(subject, native, results):
        yield Verdict.INCONCLUSIVE, RANDOM, (
            "fix the seed inside the function, or put dropout and the like in evaluation mode"
        )  # fmt: skip
        return
    if not subject.reverse:
        return
    if subject.is_pure:  # its gradients may be of any cotangents, and change nothing
        pull = subject.pullback(native, results)
        zeros = pull([zeros_like(r) if is_floating(r) else None for r in results])
        yield from _kinds(subject, native, zeros)
        yield from _at_zero(
            subject, zeros, lambda: [*map(numbers, pull(cotangents_for(results, seed)))]
        )
        return
    cotangents = cotangents_for(results, seed)
    given = [numbers(v) for v in cotangents]
    gradients = subject.vjp(native, cotangents)
    yield from mutations(subject, native, before, "the VJP")
    for v, kept in zip(cotangents, given, strict=True):
        if kept is not None and not same(to_numpy(v), kept):
            yield Verdict.WRONG, "the VJP changes its cotangent in place", "work on a copy"
            return
    yield from _kinds(subject, native, gradients)
    arrays = [numbers(g) for g in gradients]
    pull, keeps = subject.pullback(native, results), subject.keeps_graph
    try:
        repeated = pull(cotangents)
    except Fault:  # what torch.compile makes may refuse to have its graph kept
        pull, keeps = partial(subject.vjp, native), False
        repeated = pull(cotangents)
    if not all(
        a is None or b is None or alike(a, to_numpy(b), coarsest(native))
        for a, b in zip(arrays, repeated, strict=True)
    ):
        yield VARIES
        return
    if keeps:
        changed = _changed_again(subject, pull, cotangents, repeated)
        for label in changed or ():
            yield Verdict.WRONG, (
                f"a second backward through the same graph gives another gradient by {label}"
            ), "backward changes what it saved: work on a copy"  # fmt: skip
        if changed is None or changed:
            pull = partial(subject.vjp, native)
    yield from _at_zero(subject, pull(scaled(cotangents, 0.0)), lambda: arrays)
    if lasting:
        yield from _lasting(subject, native, first, pull, cotangents, arrays)


def lasting_checks(
    subject: FunctionUnderTest, native: Sequence[Any], seed: int
) -> Iterator[Complaint]:
    """Yield what is amiss with a function at all points or at none."""
    if not subject.reverse:
        return
    results = subject.value(native)
    cotangents = cotangents_for(results, seed)
    arrays = list(map(numbers, subject.vjp(native, cotangents)))
    pull = partial(subject.vjp, native)
    yield from _lasting(subject, native, list(map(to_numpy, results)), pull, cotangents, arrays)


def _lasting(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    results: Sequence[Array],
    pull: Pullback,
    cotangents: Sequence[Any],
    arrays: Sequence[Array | None],
) -> Iterator[Complaint]:
    scales = natural_scales(native, results, cotangents, arrays)
    steady = cache(lambda: are_steady(subject, native, cotangents, arrays, scales))
    at = Asked(subject, native, pull, cotangents, arrays, scales, steady)
    # Two laws are asked by one call, and one by one only where that shows that either may be broken.
    both = is_linear_however_laid_out(at)
    if not both:
        yield from _linearity(at)
    yield from layouts(at, known=both)
    yield from rows(at, results)
    yield from _results_alone(at)
    yield from _inputs_alone(at)


def mutations(
    subject: FunctionUnderTest, native: Sequence[Any], before: Sequence[Array], who: str
) -> Iterator[Complaint]:
    """Yield a complaint for every input that is not what it was before."""
    for label, a, b in zip(subject.labels, native, before, strict=True):
        if not np.array_equal(to_numpy(a), b, equal_nan=is_floating(a)):
            name = label if label.startswith("input") else f"input {label}"
            yield Verdict.WRONG, f"{who} changes its {name} in place", "work on a copy"


def _kinds(
    subject: FunctionUnderTest, native: Sequence[Any], gradients: Sequence[Any]
) -> Iterator[Complaint]:
    for label, a, g in zip(subject.labels, native, gradients, strict=True):
        if g is None or not is_floating(a):
            continue
        if dtype_name(g) != dtype_name(a):
            yield Verdict.WRONG, (
                f"the gradient by {label} is {dtype_name(g)}, the input {dtype_name(a)}"
            ), "convert the gradient to the input's dtype"  # fmt: skip
        if device_of(g) != device_of(a):
            yield Verdict.WRONG, (
                f"the gradient by {label} is on {device_of(g)}, the input on {device_of(a)}"
            ), "move the gradient to the input's device"  # fmt: skip


def _at_zero(
    subject: FunctionUnderTest,
    zeros: Sequence[Any],
    gradients: Callable[[], Sequence[Array | None]],
) -> Iterator[Complaint]:
    """Check that the VJP is 0 at a zero cotangent; its gradients at another are asked for if it is not."""
    for j, (label, z) in enumerate(zip(subject.labels, zeros, strict=True)):
        zero = np.zeros(()) if z is None else to_numpy(z)
        if not np.any(zero != 0):  # NaN is not
            continue
        g = gradients()[j]
        if g is None:
            continue
        if np.any(np.isnan(zero)) and np.all(np.isfinite(g)):
            yield Verdict.NONFINITE, (
                f"a zero cotangent gives NaN in the gradient by {label}"
            ), "0·inf: something on the way is infinite"  # fmt: skip
        elif np.any(zero[np.isfinite(zero)] != 0):
            yield Verdict.WRONG, (
                f"a zero cotangent gives a gradient by {label} that is not zero"
            ), "is the incoming cotangent multiplied in?"  # fmt: skip


def _linearity(at: Asked) -> Iterator[Complaint]:
    """Check that the VJP is -2 times as large at -2 times a cotangent."""
    fmt, scale = coarsest(at.native), underflow(at.native)
    multiples = at.pull(scaled(at.cotangents, -2.0))
    for label, g, z in zip(at.subject.labels, at.gradients, multiples, strict=True):
        if g is not None and z is not None and not close(-2.0 * g, to_numpy(z), fmt, scale):
            yield Verdict.WRONG, (
                f"the gradient by {label} is not linear: -2 times the cotangent does not give -2 "
                "times the gradient"
            ), "is the incoming cotangent multiplied in, once, with its sign?"  # fmt: skip


def _changed_again(
    subject: FunctionUnderTest, pull: Pullback, cotangents: Sequence[Any], once: Sequence[Any]
) -> list[str] | None:
    """Give the inputs by which a graph that is kept gives another gradient again; None where it gives none.

    Losses whose forward keeps the gradient, for backward to scale in place, do not. A graph that refuses a
    second walk promises none.
    """
    try:
        again = pull(cotangents)
    except Fault:
        return None
    return [
        label
        for label, a, b in zip(subject.labels, once, again, strict=True)
        if a is not None and b is not None and not same(to_numpy(a), to_numpy(b), native=a)
    ]


def _results_alone(at: Asked) -> Iterator[Complaint]:
    """Check that results of which one alone is used have gradients, which add up to that of all.

    An autograd function may be given None for a result that is not used.
    """
    subject, cotangents = at.subject, at.cotangents
    used = [k for k, v in enumerate(cotangents) if v is not None]
    if not subject.keeps_graph or len(used) < 2:
        return
    groups = [*([k] for k in used[: _MOST - 1]), *([rest] if (rest := used[_MOST - 1 :]) else [])]
    parts: list[list[Array | None]] = []
    for group in groups:
        try:
            alone = [v if k in group else None for k, v in enumerate(cotangents)]
            parts.append(list(map(numbers, subject.vjp(at.native, alone))))
        except Fault as fault:
            yield fault.kind, f"a loss of result {group[0]} alone: {fault}", (
                "with set_materialize_grads(False) backward is given None for a result that is not used"
            )  # fmt: skip
            return
    fmt = coarsest(at.native)
    for label, g, scale, *each in zip(subject.labels, at.gradients, at.scales, *parts, strict=True):
        terms = [p for p in each if p is not None]
        if g is None or not terms:
            continue
        largest = max(float(np.abs(p[np.isfinite(p)]).max(initial=0.0)) for p in terms)
        if not close(g, np.sum(terms, axis=0), fmt, max(scale, largest)) and at.steady():
            yield Verdict.WRONG, (
                f"the gradients by {label} of single results do not add up to that of all of them"
            ), "does backward take a result that is not used, None, for something else than 0?"  # fmt: skip


def _inputs_alone(at: Asked) -> Iterator[Complaint]:
    """Check that the gradient by one input is the same where no other requires any, as if these were frozen.

    An autograd function may ask ``ctx.needs_input_grad`` what to compute, and what to save for it.
    """
    subject = at.subject
    asked = np.flatnonzero(subject.wrt).tolist()
    if not subject.keeps_graph or len(asked) < 2:
        return
    for j in asked[:_MOST]:
        label, g = subject.labels[j], at.gradients[j]
        hint = "which inputs need a gradient may change what is saved, and not what is computed"
        frozen = replace(subject, wrt=tuple(k == j for k in range(len(subject.wrt))), known=None)
        try:
            given = frozen.vjp(at.native, at.cotangents)[j]
        except Fault as fault:
            yield fault.kind, f"a gradient by {label} alone: {fault}", hint
            return
        if g is None:
            continue
        alone = np.zeros_like(g) if given is None else to_numpy(given)
        if not close(g, alone, coarsest(at.native), at.scales[j]) and at.steady():
            yield (
                Verdict.WRONG,
                f"the gradient by {label} is another one where it alone is asked for",
                hint,
            )
            return
