"""Checks beside the numbers: what a derivative must do whatever its value is.

``side_checks(subject, native)`` calls the function a few more times at one point and yields a
sentence for everything that is amiss: randomness, mutated inputs, wrong dtypes or devices, a zero
cotangent that gives something else than zero, a gradient that is not linear in its cotangent, that a
second backward changes, or that depends on how the input lies in memory or on how many rows come
with one. That forward and reverse mode agree needs no check of its own: each is compared with the
same exact slope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, dtype_name, is_floating
from ffverify.frameworks.arrays import coarsest, device_of, like, ones_like, to_numpy, zeros_like
from ffverify.frameworks.framework import Pullback, framework_of
from ffverify.verdicts.verdict import Verdict

from .equality import alike, close, same
from .function_under_test import Fault, FunctionUnderTest

Complaint = tuple[Verdict, str, str]
RANDOM = "two calls on the same input give different values"
VARIES: Complaint = (
    Verdict.INCONCLUSIVE,
    "two calls of the VJP on the same input differ",
    "a buffer may be shared between calls, or the function is random",
)


def side_checks(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any], seed: int
) -> Iterator[Complaint]:
    """Yield (verdict, sentence, hint) for everything that is amiss at one point.

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
        changed = _changed_again(subject, pull, cotangents)
        for label in changed or ():
            yield Verdict.WRONG, (
                f"a second backward through the same graph gives another gradient by {label}"
            ), "backward changes what it saved: work on a copy"  # fmt: skip
        if changed is None or changed:
            pull = partial(subject.vjp, native)
    yield from _at_zero(subject, pull(_scaled(cotangents, 0.0)), lambda: arrays)
    yield from _lasting(subject, native, first, pull, cotangents, arrays)


def lasting_checks(
    subject: FunctionUnderTest, native: Sequence[Any], seed: int
) -> Iterator[Complaint]:
    """Yield what is amiss with a function that is pure, where that is amiss at all points or at none."""
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
    yield from _linearity(subject, native, pull, cotangents, arrays)
    scales = _natural(native, results, cotangents, arrays)
    steady = cache(lambda: _steady(subject, native, cotangents, arrays, scales))
    yield from _layouts(subject, native, pull, cotangents, arrays, scales, steady)
    yield from _rows(subject, native, results, cotangents, arrays, scales, steady)
    yield from _shared_memory(subject, native, cotangents, scales)


def _cotangents(results: Sequence[Any], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        like(r, rng.choice([-2.0, -1.0, 1.0, 2.0], to_numpy(r).shape)) if is_floating(r) else None
        for r in results
    ]


def is_random(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any], *, calls: int = 1
) -> bool:
    """Tell whether calls on the same input give different values.

    The last bits may differ: LAPACK's do, with how arrays are aligned in memory.
    """
    first = [to_numpy(r).copy() for r in results]
    return not all(
        alike(a, to_numpy(b), coarsest([b]))
        for _ in range(calls)
        for a, b in zip(first, subject.value(native), strict=True)
    )


def varies(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any], *, calls: int
) -> bool:
    """Tell whether VJPs of a pure function that are taken anew on the same input differ."""
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


def _linearity(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    pull: Pullback,
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
) -> Iterator[Complaint]:
    """Check that the VJP is -2 times as large at -2 times a cotangent."""
    fmt = coarsest(native)
    multiples = pull(_scaled(cotangents, -2.0))
    for label, g, z in zip(subject.labels, gradients, multiples, strict=True):
        if g is None or z is None:
            continue
        underflow = (
            2.0**fmt.emin / fmt.unit_roundoff**0.5
        )  # what is smaller may have underflowed on the way
        if not close(-2.0 * g, to_numpy(z), fmt, underflow / fmt.unit_roundoff**0.5):
            yield Verdict.WRONG, (
                f"the gradient by {label} is not linear: -2 times the cotangent does not give -2 "
                "times the gradient"
            ), "is the incoming cotangent multiplied in, once, with its sign?"  # fmt: skip


def _changed_again(
    subject: FunctionUnderTest, pull: Pullback, cotangents: Sequence[Any]
) -> list[str] | None:
    """Give the inputs by which a graph that is kept gives another gradient again; None where it gives none.

    Losses whose forward keeps the gradient, for backward to scale in place, do not. The cotangents are
    never 1, which scales nothing. A graph that refuses a second walk promises none.
    """
    try:
        walks = [pull(_scaled(cotangents, 3.0)) for _ in range(2)]
    except Fault:
        return None
    return [
        label
        for label, once, again in zip(subject.labels, *walks, strict=True)
        if once is not None
        and again is not None
        and not same(to_numpy(once), to_numpy(again), native=once)
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
    return all(
        g is None or f is None or close(g, to_numpy(f), coarsest(native), scale)
        for g, f, scale in zip(gradients, found, scales, strict=True)
    )


def _shared_memory(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    cotangents: Sequence[Any],
    scales: Sequence[float],
) -> Iterator[Complaint]:
    """Check that rows which are one and the same memory have the gradient of equal rows."""
    if subject.framework.name == "jax":
        return
    shared = [_first_rows(a, copy=False) if is_floating(a) else a for a in native]
    copied = [_first_rows(a, copy=True) if is_floating(a) else a for a in native]
    try:
        expected = [_numbers(g) for g in subject.vjp(copied, cotangents)]
    except Fault:
        return  # equal rows are no input for this function
    steady = partial(_steady, subject, copied, cotangents, expected, scales)
    what = "rows expanded from one row"
    yield from _changed(subject, shared, cotangents, expected, scales, steady, what)


def _changed(
    subject: FunctionUnderTest,
    other: Sequence[Any],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
    scales: Sequence[float],
    steady: Callable[[], bool],
    what: str,
) -> Iterator[Complaint]:
    """Compare the gradients at the same numbers, laid out otherwise, with those that are known.

    Whether they are ``steady`` is only asked where they differ.
    """
    try:
        changed = subject.vjp(other, cotangents)
    except Fault as fault:
        if _refuses(subject, other) or not steady():
            return
        yield Verdict.WRONG, f"inputs laid out otherwise ({what}): {fault}", (
            "use reshape in place of view, write to arrays of your own only, or make the input contiguous"
        )  # fmt: skip
        return
    for label, g, c, scale in zip(subject.labels, gradients, changed, scales, strict=True):
        if g is not None and c is not None and not close(g, to_numpy(c), coarsest(other), scale):
            if _reads_memory(subject, other) or not steady():
                return
            yield Verdict.WRONG, (
                f"the gradient by {label} changes when inputs and cotangents are laid out "
                f"otherwise ({what})"
            ), "the code takes its arrays for contiguous, or for its own"  # fmt: skip


def _reads_memory(subject: FunctionUnderTest, native: Sequence[Any]) -> bool:
    """Tell whether a function is one of how its inputs lie in memory, as torch's as_strided is."""
    if subject.framework.name != "torch":
        return False
    from ffverify.frameworks.torch.tape import record

    steps = record(lambda *args: tuple(subject.value(args)), native, {}).steps
    return any(step.name.startswith("as_strided") for step in steps)


def _refuses(subject: FunctionUnderTest, native: Sequence[Any]) -> bool:
    """Tell whether the function itself, not only its VJP, refuses how its inputs are laid out."""
    try:
        subject.value(native)
    except Fault:
        return True
    return False


def _rows(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
    scales: Sequence[float],
    steady: Callable[[], bool],
) -> Iterator[Complaint]:
    """Check that a row has the same gradient alone, if the function maps over rows (found out here)."""
    batched = _batched(subject, native, results)
    if not any(b and is_floating(a) for a, b in zip(native, batched, strict=True)):
        return
    alone = [_last_row(a) if b else a for a, b in zip(native, batched, strict=True)]
    # Zeros and ties may look alike alone: the promise has to hold at other numbers too.
    rng = np.random.default_rng(len(native))
    other = [stirred(a, rng) if is_floating(a) else a for a in native]
    if not all(_row_alone(subject, point, batched) for point in (native, other)):
        return
    try:
        found = subject.vjp(alone, [None if v is None else _last_row(v) for v in cotangents])
    except Fault as fault:
        if steady():
            yield Verdict.WRONG, f"a single row: {fault}", "is a dimension of size 1 squeezed away?"
        return
    fmt = coarsest(native)
    for label, g, one, b, scale in zip(
        subject.labels, gradients, found, batched, scales, strict=True
    ):
        if (
            b
            and g is not None
            and one is not None
            and not close(g[-1:], to_numpy(one), fmt, scale)
            and steady()
        ):
            yield Verdict.WRONG, (
                f"the gradient by {label} in the last row is another one when that row comes alone"
            ), "the value treats rows one by one: does the gradient count or sum them?"  # fmt: skip


def _last_row(a: Any) -> Any:
    """Give the last row alone; NumPy slices without compiling anything, as JAX does."""
    return a[-1:] if framework_of(a).name != "jax" else like(a, to_numpy(a)[-1:])


def stirred(a: Any, rng: np.random.Generator) -> Any:
    """Give numbers of the same signs and like sizes, none of them zero and no two alike."""
    x = to_numpy(a)
    size = np.where(x == 0, rng.choice([-1.0, 1.0], x.shape), x)
    return like(a, size * rng.uniform(0.5, 1.0, x.shape))


def _row_alone(subject: FunctionUnderTest, native: Sequence[Any], batched: Sequence[bool]) -> bool:
    """Tell whether the last row of the results is finite and comes out of the last rows alone."""
    try:
        full = [to_numpy(r)[-1:] for r in subject.value(native)]
        one = subject.value(
            [_last_row(a) if b else a for a, b in zip(native, batched, strict=True)]
        )
    except Fault:
        return False
    pairs = zip(full, map(to_numpy, one), strict=True)
    return all(close(r, v, coarsest(native)) and np.all(np.isfinite(r)) for r, v in pairs)


def _batched(
    subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
) -> list[bool]:
    """Tell which inputs the function maps over row by row; none if any input leaves that open.

    Whether it really does is seen when a row is tried alone.
    """
    before = [to_numpy(r) for r in results]
    out = [False] * len(native)
    rows = {r.shape[0] if r.ndim else 0 for r in before}
    count = rows.pop()
    if rows or count < 2:
        return out
    for j, a in enumerate(native):
        x = to_numpy(a)
        if not x.ndim or x.shape[0] != count:
            continue
        if not is_floating(a):
            out[j] = True  # labels, which go with the rows
            continue
        changes = [_changed_rows(subject, native, j, factor, before) for factor in (0.5, 2.0)]
        mine, others = np.any(changes, axis=0)
        if not (mine or others):
            return [False] * len(native)
        out[j] = mine and not others
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
    pairs = list(zip(before, map(to_numpy, after), strict=True))
    if any(r.shape != s.shape for r, s in pairs):
        return False, True
    return (
        not all(same(r[:1], s[:1]) for r, s in pairs),
        not all(same(r[1:], s[1:]) for r, s in pairs),
    )


def _layouts(
    subject: FunctionUnderTest,
    native: Sequence[Any],
    pull: Pullback,
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
    scales: Sequence[float],
    steady: Callable[[], bool],
) -> Iterator[Complaint]:
    """Check that the same numbers, laid out otherwise in memory, have the same gradient."""
    if subject.framework.name == "jax":  # its arrays have no layout of their own
        return
    for what, change in (("transposed in memory", _fortran), ("every other element", _strided)):
        other = [change(a) if is_floating(a) else a for a in native]
        turned = [None if v is None else change(v) for v in cotangents]
        yield from _changed(subject, other, turned, gradients, scales, steady, what)
    ones = [None if v is None else ones_like(v) for v in cotangents]
    expanded = [None if v is None else _expanded(v) for v in ones]
    of_ones = [_numbers(g) for g in pull(ones)]
    what = "a cotangent of ones that is expanded from a single one, as that of a sum is"
    yield from _changed(subject, native, expanded, of_ones, scales, steady, what)


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
