"""Checks beside the numbers: what a derivative must do whatever its value is.

``side_checks(subject, native)`` calls the function a few more times at one point and yields a
sentence for everything that is amiss: randomness, mutated inputs, wrong dtypes or devices, a zero
cotangent that gives something else than zero, a gradient that is not linear in its cotangent, that a
second backward changes, or that depends on how the input lies in memory or on how many rows come
with one. That forward and reverse mode agree needs no check of its own: each is compared with the
same exact slope. That gradients are linear at cotangents of any size `judge.multiples` asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, Format, dtype_name, is_floating
from ffverify.frameworks.arrays import coarsest, device_of, like, ones_like, to_numpy, zeros_like
from ffverify.frameworks.framework import Pullback, framework_of
from ffverify.verdicts.verdict import Verdict

from .equality import alike, close, same
from .function_under_test import Fault, FunctionUnderTest

Complaint = tuple[Verdict, str, str]
_ELSEWHERE = 8  # inputs that tell, before an accusation, whether a function maps over rows
_MOST = 8  # results that are used alone, or together with all further ones
RANDOM = "two calls on the same input give different values"
DRAWS = (
    "it draws random numbers that it does not seed, so that its values may differ from call to call"
)
VARIES: Complaint = (
    Verdict.INCONCLUSIVE,
    "two calls of the VJP on the same input differ",
    "a buffer may be shared between calls, or the function is random",
)


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
            subject, zeros, lambda: [*map(_numbers, pull(_cotangents(results, seed)))]
        )
        return
    cotangents = _cotangents(results, seed)
    given = [_numbers(v) for v in cotangents]
    gradients = subject.vjp(native, cotangents)
    yield from mutations(subject, native, before, "the VJP")
    for v, kept in zip(cotangents, given, strict=True):
        if kept is not None and not same(to_numpy(v), kept):
            yield Verdict.WRONG, "the VJP changes its cotangent in place", "work on a copy"
            return
    yield from _kinds(subject, native, gradients)
    arrays = [_numbers(g) for g in gradients]
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
    yield from _at_zero(subject, pull(_scaled(cotangents, 0.0)), lambda: arrays)
    if lasting:
        yield from _lasting(subject, native, first, pull, cotangents, arrays)


def lasting_checks(
    subject: FunctionUnderTest, native: Sequence[Any], seed: int
) -> Iterator[Complaint]:
    """Yield what is amiss with a function at all points or at none."""
    if not subject.reverse:
        return
    results = subject.value(native)
    cotangents = _cotangents(results, seed)
    arrays = list(map(_numbers, subject.vjp(native, cotangents)))
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
    scales = _natural(native, results, cotangents, arrays)
    steady = cache(lambda: _steady(subject, native, cotangents, arrays, scales))
    at = _Asked(subject, native, pull, cotangents, arrays, scales, steady)
    # Two laws are asked by one call, and one by one only where that shows that either may be broken.
    both = _is_linear_however_laid_out(at)
    if not both:
        yield from _linearity(at)
    yield from _layouts(at, known=both)
    yield from _rows(at, results)
    yield from _results_alone(at)


def _cotangents(results: Sequence[Any], seed: int) -> list[Any]:
    """Draw cotangents, none of them 1, which scales nothing: what a backward leaves scaled would not show."""
    rng = np.random.default_rng(seed)
    return [
        like(r, rng.choice([-3.0, -1.5, 1.5, 3.0], to_numpy(r).shape)) if is_floating(r) else None
        for r in results
    ]


@dataclass(frozen=True)
class _Asked:
    """Gradients at a point: ``pull`` gives those of other cotangents, ``scales`` are their natural ones.

    Whether they are ``steady`` is only asked where they differ from what they should be.
    """

    subject: FunctionUnderTest
    native: Sequence[Any]
    pull: Pullback
    cotangents: Sequence[Any]
    gradients: Sequence[Array | None]
    scales: Sequence[float]
    steady: Callable[[], bool]

    def holds(
        self,
        native: Sequence[Any],
        cotangents: Sequence[Any],
        expected: Sequence[Array | None],
        scales: Sequence[float],
    ) -> bool:
        """Tell whether gradients are as expected elsewhere."""
        try:
            found = self.subject.vjp(native, cotangents)
        except Fault:
            return False
        return _are_close(expected, found, coarsest(native), scales)


def _are_close(
    expected: Sequence[Array | None], found: Sequence[Any], fmt: Format, scales: Sequence[float]
) -> bool:
    return all(
        e is None or f is None or close(e, to_numpy(f), fmt, scale)
        for e, f, scale in zip(expected, found, scales, strict=True)
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
    cotangents = _cotangents(results, 0)

    def taken() -> list[Array | None]:
        return [*map(_numbers, replace(subject, known=None, pulls={}).vjp(native, cotangents))]

    first = taken()
    return not all(
        a is None or b is None or alike(a, b, coarsest(native))
        for _ in range(calls)
        for a, b in zip(first, taken(), strict=True)
    )


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


def _scaled(cotangents: Sequence[Any], factor: float) -> list[Any]:
    return [None if v is None else like(v, factor * to_numpy(v)) for v in cotangents]


def _underflow(native: Sequence[Any]) -> float:
    """Give a scale beside which what is smaller may have underflowed on the way."""
    fmt = coarsest(native)
    return float(2.0**fmt.emin / fmt.unit_roundoff)


def _is_linear_however_laid_out(at: _Asked) -> bool:
    """Tell whether -2 times the cotangent, all transposed in memory, gives -2 times the gradient."""
    if at.subject.framework.name == "jax":
        return False
    native, cotangents = _laid_out(_fortran, at.native, _scaled(at.cotangents, -2.0))
    expected = [None if g is None else -2.0 * g for g in at.gradients]
    scales = [min(scale, _underflow(native)) for scale in at.scales]
    return at.holds(native, cotangents, expected, scales)


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


def _linearity(at: _Asked) -> Iterator[Complaint]:
    """Check that the VJP is -2 times as large at -2 times a cotangent."""
    fmt, scale = coarsest(at.native), _underflow(at.native)
    multiples = at.pull(_scaled(at.cotangents, -2.0))
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


def _natural(
    native: Sequence[Any],
    results: Sequence[Array],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
) -> list[float]:
    """Give the natural scale of each gradient: ⟨cotangents, results⟩ beside its input.

    A gradient far below it, as that of a sum of a softmax, is rounding noise, and noise changes with
    the order of additions.
    """
    value = sum(
        float(np.sum(np.abs(r * to_numpy(v))[np.isfinite(r)]))
        for r, v in zip(results, cotangents, strict=True)
        if v is not None
    )
    sizes = [float(np.abs(to_numpy(a)).max(initial=0.0)) if is_floating(a) else 0.0 for a in native]
    return [
        value / (size or 1.0) if g is not None else 0.0
        for g, size in zip(gradients, sizes, strict=True)
    ]


def _steady(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
    scales: Sequence[float],
) -> bool:
    """Tell whether gradients keep half their digits when inputs move by some ulps.

    Where they do not, the order of additions changes them too, and no layout can be blamed.
    """
    moved = []
    for a in native:
        x = to_numpy(a)
        if is_floating(a):
            wobble = np.resize([1.0, -1.0, -1.0], x.size).reshape(x.shape)
            x = x * (1 + 16 * coarsest([a]).unit_roundoff * wobble)
        moved.append(like(a, x))
    try:
        found = subject.vjp(moved, cotangents)
    except Fault:
        return False
    return _are_close(gradients, found, coarsest(native), scales)


def _layouts(at: _Asked, *, known: bool) -> Iterator[Complaint]:
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
        of_ones = [_numbers(g) for g in at.subject.vjp(copied, ones)]
        if at.holds(shared, expanded, of_ones, at.scales):
            return
    here = replace(at, gradients=[_numbers(g) for g in at.pull(ones)])
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


def _shared_memory(at: _Asked, shared: Sequence[Any], copied: Sequence[Any]) -> Iterator[Complaint]:
    """Check that rows which are one and the same memory have the gradient of equal rows."""
    subject, cotangents, scales = at.subject, at.cotangents, at.scales
    try:
        expected = [_numbers(g) for g in subject.vjp(copied, cotangents)]
    except Fault:
        return  # equal rows are no input for this function
    steady = partial(_steady, subject, copied, cotangents, expected, scales)
    there = replace(at, gradients=expected, steady=steady)
    yield from _changed(there, shared, cotangents, "rows expanded from one row")


def _changed(
    at: _Asked, other: Sequence[Any], cotangents: Sequence[Any], what: str
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


def _reads_memory(at: _Asked, other: Sequence[Any]) -> bool:
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


def _rows(at: _Asked, results: Sequence[Any]) -> Iterator[Complaint]:
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


def _results_alone(at: _Asked) -> Iterator[Complaint]:
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
            parts.append(list(map(_numbers, subject.vjp(at.native, alone))))
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


def _last_row(a: Any) -> Any:
    """Give the last row alone; NumPy slices without compiling anything, as JAX does."""
    return a[-1:] if framework_of(a).name != "jax" else like(a, to_numpy(a)[-1:])


def stirred(a: Any, rng: np.random.Generator, octaves: int = 0) -> Any:
    """Give numbers of the same signs and like sizes, or ``octaves`` smaller, none zero and no two alike."""
    x = to_numpy(a)
    size = np.where(x == 0, rng.choice([-1.0, 1.0], x.shape), x)
    return like(a, size * 2.0 ** -rng.uniform(0.0, 1.0 + octaves, x.shape))


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


def _numbers(value: Any) -> Array | None:
    return None if value is None else to_numpy(value).copy()


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
