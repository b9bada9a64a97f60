"""Checks beside the numbers: what a derivative must do whatever its value is.

``side_checks(subject, native)`` calls the function a few more times at one point and yields a
sentence for everything that is amiss: randomness, mutated inputs, wrong dtypes or devices, a zero
cotangent that gives something else than zero, a gradient that is not linear in its cotangent, or
that depends on how the input lies in memory. That forward and reverse mode agree needs no check of
its own: each is compared with the same exact slope.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .formats import Array
from .native import dtype_name, framework_of, is_floating, like, to_numpy
from .subject import Fault, Subject
from .verdict import Verdict

Complaint = tuple[Verdict, str, str]


def side_checks(
    subject: Subject, native: Sequence[Any], results: Sequence[Any], seed: int
) -> Iterator[Complaint]:
    """Yield (verdict, sentence, hint) for everything that is amiss at one point.

    A function that is random yields that alone: nothing else means anything then.
    """
    before = [to_numpy(a).copy() for a in native]
    first = [to_numpy(r).copy() for r in results]
    again = [to_numpy(r) for r in subject.value(native)]
    if not all(
        _same(a, b, device=_device(r)) for a, b, r in zip(first, again, results, strict=True)
    ):
        yield Verdict.INCONCLUSIVE, "two calls on the same input give different values", (
            "fix the seed inside the function, or put dropout and the like in evaluation mode"
        )  # fmt: skip
        return
    yield from _mutations(native, before, "the function")
    if not subject.reverse:
        return
    rng = np.random.default_rng(seed)
    cotangents = [
        like(r, rng.choice([-2.0, -1.0, 1.0, 2.0], to_numpy(r).shape)) if is_floating(r) else None
        for r in results
    ]
    gradients = subject.vjp(native, cotangents)
    yield from _mutations(native, before, "the VJP")
    yield from _kinds(subject, native, gradients)
    arrays = [None if g is None else to_numpy(g).copy() for g in gradients]
    repeated = subject.vjp(native, cotangents)
    if not all(
        a is None or b is None or _same(a, to_numpy(b), device=_device(b))
        for a, b in zip(arrays, repeated, strict=True)
    ):
        yield Verdict.INCONCLUSIVE, "two calls of the VJP on the same input differ", (
            "a buffer may be shared between calls, or the function is random"
        )  # fmt: skip
        return
    yield from _linearity(subject, native, cotangents, arrays)
    yield from _layouts(subject, native, cotangents, arrays)


def _device(value: Any) -> str:
    return str(getattr(getattr(value, "device", None), "type", "cpu"))


def _same(a: Array, b: Array, *, device: str = "cpu") -> bool:
    """Compare two runs: bit for bit on a CPU; a GPU may add in another order, to half the digits."""
    if a.shape != b.shape:
        return False
    if device in ("cpu", "str"):
        return bool(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.floating)))
    return _close(a, b)


def _close(a: Array, b: Array) -> bool:
    """Tell whether two arrays agree to half the digits, of the largest element.

    Both are judged against the truth elsewhere; this only has to tell one function from another.
    """
    if a.shape != b.shape:
        return False
    if not np.issubdtype(a.dtype, np.floating):
        return bool(np.array_equal(a, b))
    finite = np.isfinite(a) & np.isfinite(b)
    largest = float(np.abs(a[finite]).max(initial=0.0))
    half = float(np.finfo(a.dtype).eps) ** 0.5
    return bool(np.all(~finite | (np.abs(a - b) <= half * largest)))


def _mutations(native: Sequence[Any], before: Sequence[Array], who: str) -> Iterator[Complaint]:
    for i, (a, b) in enumerate(zip(native, before, strict=True)):
        if not np.array_equal(to_numpy(a), b, equal_nan=is_floating(a)):
            yield Verdict.WRONG, f"{who} changes its input {i} in place", "work on a copy"


def _kinds(
    subject: Subject, native: Sequence[Any], gradients: Sequence[Any]
) -> Iterator[Complaint]:
    for label, a, g in zip(subject.labels, native, gradients, strict=True):
        if g is None or not is_floating(a):
            continue
        if dtype_name(g) != dtype_name(a):
            yield Verdict.WRONG, (
                f"the gradient by {label} is {dtype_name(g)}, the input {dtype_name(a)}"
            ), "convert the gradient to the input's dtype"  # fmt: skip
        if _device(g) != _device(a):
            yield Verdict.WRONG, (
                f"the gradient by {label} is on {_device(g)}, the input on {_device(a)}"
            ), "move the gradient to the input's device"  # fmt: skip


def _scaled(cotangents: Sequence[Any], factor: float) -> list[Any]:
    return [None if v is None else v * factor for v in cotangents]


def _linearity(
    subject: Subject,
    native: Sequence[Any],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
) -> Iterator[Complaint]:
    """Check that the VJP is 0 at a zero cotangent, and -2 times as large at -2 times one."""
    labelled = list(zip(subject.labels, gradients, strict=True))
    for (label, g), z in zip(labelled, subject.vjp(native, _scaled(cotangents, 0.0)), strict=True):
        if g is None or z is None:
            continue
        zero = to_numpy(z)
        if np.any(np.isnan(zero)) and np.all(np.isfinite(g)):
            yield Verdict.NONFINITE, (
                f"a zero cotangent gives NaN in the gradient by {label}"
            ), "0·inf: something on the way is infinite"  # fmt: skip
        elif np.any(zero[np.isfinite(zero)] != 0):
            yield Verdict.WRONG, (
                f"a zero cotangent gives a gradient by {label} that is not zero"
            ), "is the incoming cotangent multiplied in?"  # fmt: skip
    for (label, g), z in zip(labelled, subject.vjp(native, _scaled(cotangents, -2.0)), strict=True):
        if g is None or z is None:
            continue
        if not _close(-2.0 * g, to_numpy(z)):
            yield Verdict.WRONG, (
                f"the gradient by {label} is not linear: -2 times the cotangent does not give -2 "
                "times the gradient"
            ), "is the incoming cotangent multiplied in, once, with its sign?"  # fmt: skip


def _layouts(
    subject: Subject,
    native: Sequence[Any],
    cotangents: Sequence[Any],
    gradients: Sequence[Array | None],
) -> Iterator[Complaint]:
    """Check that the same numbers, laid out otherwise in memory, have the same gradient."""
    if subject.framework == "jax":  # its arrays have no layout of their own
        return
    for what, change in (("transposed in memory", _fortran), ("every other element", _strided)):
        other = [change(a) if is_floating(a) else a for a in native]
        try:
            changed = subject.vjp(other, [None if v is None else change(v) for v in cotangents])
        except Fault as fault:
            yield Verdict.WRONG, f"inputs laid out otherwise ({what}): {fault}", (
                "use reshape in place of view, or make the input contiguous"
            )  # fmt: skip
            continue
        for label, g, c in zip(subject.labels, gradients, changed, strict=True):
            if g is not None and c is not None and not _close(g, to_numpy(c)):
                yield Verdict.WRONG, (
                    f"the gradient by {label} changes when inputs and cotangents are laid out "
                    f"otherwise ({what})"
                ), "the code takes its arrays for contiguous"  # fmt: skip


def _fortran(a: Any) -> Any:
    if a.ndim < 2:
        return a
    if framework_of([a]) == "torch":
        backwards = tuple(range(a.ndim))[::-1]
        return a.permute(backwards).contiguous().permute(backwards)
    return np.asfortranarray(a)


def _strided(a: Any) -> Any:
    if a.ndim == 0:
        return a
    if framework_of([a]) == "torch":
        import torch

        return torch.repeat_interleave(a, 2, dim=-1)[..., ::2]
    return np.repeat(a, 2, axis=-1)[..., ::2]
