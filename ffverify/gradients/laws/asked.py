"""Gradients at a point, of which a law is asked, and when they count as others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, Format, is_floating
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.framework import Pullback
from ffverify.gradients.equality import close
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest
from ffverify.verdicts.verdict import Verdict

Complaint = tuple[Verdict, str, str]


@dataclass(frozen=True)
class Asked:
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
        return are_close(expected, found, coarsest(native), scales)


def are_close(
    expected: Sequence[Array | None], found: Sequence[Any], fmt: Format, scales: Sequence[float]
) -> bool:
    """Tell whether gradients are as expected, each beside its scale."""
    return all(
        e is None or f is None or close(e, to_numpy(f), fmt, scale)
        for e, f, scale in zip(expected, found, scales, strict=True)
    )


def natural_scales(
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


def are_steady(
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
    return are_close(gradients, found, coarsest(native), scales)


def cotangents_for(results: Sequence[Any], seed: int) -> list[Any]:
    """Draw cotangents, none of them 1, which scales nothing: what a backward leaves scaled would not show."""
    rng = np.random.default_rng(seed)
    return [
        like(r, rng.choice([-3.0, -1.5, 1.5, 3.0], to_numpy(r).shape)) if is_floating(r) else None
        for r in results
    ]


def scaled(cotangents: Sequence[Any], factor: float) -> list[Any]:
    """Give a multiple of cotangents."""
    return [None if v is None else like(v, factor * to_numpy(v)) for v in cotangents]


def underflow(native: Sequence[Any]) -> float:
    """Give a scale beside which what is smaller may have underflowed on the way."""
    fmt = coarsest(native)
    return float(2.0**fmt.emin / fmt.unit_roundoff)


def numbers(value: Any) -> Array | None:
    """Give a copy of an array as NumPy's; None stays."""
    return None if value is None else to_numpy(value).copy()
