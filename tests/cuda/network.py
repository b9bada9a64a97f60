"""A 784-1024-1024-10 network: torch on its device against the reference engine and exact arithmetic.

The reference engine computes gradient and Hessian-vector product in float64. That these are right is seen
along one direction d: ⟨g, d⟩ and ⟨Hd, d⟩ against differences of the loss in ball arithmetic. Every element
is then held to the judge's third bound, g·u·|G_i| + λ·C_i, where C_i, how far G_i moves when every number
moves by g·u, is the root mean square over sign patterns, at least that of its array, and λ = 8: a sum of
independent roundings exceeds its standard deviation so far once in 10¹⁴ times (Higham and Mary, A new
approach to probabilistic rounding error analysis, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array
from ffverify.frameworks.framework import framework
from ffverify.reference import grad, hvp
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS

from .jobs import Job, Row, Setting

FORMATS = ("float64", "float32")
BATCH, PATTERNS, DEVIATIONS = 4, 4, 8.0
Arrays = list[Array]


def jobs(setting: Setting) -> list[Job]:
    """Both formats, and errors planted in single elements."""
    found = [Job(f"network {f}", compared, (f,)) for f in FORMATS]
    return [*found, Job("planted element", planted)]


def widths(setting: Setting) -> tuple[int, ...]:
    """Give the layers' widths."""
    return (20, 32, 32, 10) if setting.small else (784, 1024, 1024, 10)


def parameters(sizes: Sequence[int]) -> tuple[Arrays, Array, Array, Arrays]:
    """Draw weights and biases, inputs, labels in one-hot rows, and a direction: float32 numbers."""
    rng = np.random.default_rng(sum(sizes))

    def normal(*shape: int, scale: float = 1.0) -> Array:
        return (scale * rng.normal(size=shape)).astype(np.float32).astype(np.float64)

    shapes = [s for n, m in pairwise(sizes) for s in ((n, m), (m,))]
    p = [normal(*s, scale=s[0] ** -0.5 if len(s) > 1 else 0.1) for s in shapes]
    labels = np.eye(sizes[-1])[rng.integers(0, sizes[-1], BATCH)]
    return p, normal(BATCH, sizes[0]), labels, [normal(*s, scale=0.1) for s in shapes]


def loss(p: Any, x: Any, labels: Any) -> Any:
    """Give the mean cross-entropy of a tanh network, in whatever NumPy arrays there are."""
    h = x
    for k in range(0, len(p) - 2, 2):
        h = np.tanh(h @ p[k] + p[k + 1])
    z = h @ p[-2] + p[-1]
    return np.sum(np.log(np.sum(np.exp(z), axis=-1)) - np.sum(z * labels, axis=-1)) / BATCH


def _torch_loss(p: Any, x: Any, labels: Any) -> Any:
    from torch.nn import functional as F

    h = x
    for k in range(0, len(p) - 2, 2):
        h = F.linear(h, p[k].mT, p[k + 1]).tanh()
    return F.cross_entropy(F.linear(h, p[-2].mT, p[-1]), labels)


def by_reference(p: Arrays, x: Array, labels: Array, d: Arrays) -> dict[str, Arrays]:
    """Give gradient and Hessian-vector product by the reference engine, in float64."""
    count = len(p)

    def of(*numbers: Any) -> Any:
        return loss(list(numbers[:count]), x, labels)

    every = tuple(range(count))
    return {
        "gradient": list(grad(of, argnums=every)(*p)),
        "HVP": list(hvp(lambda q: loss(q, x, labels), p, d)),
    }


def by_torch(
    p: Arrays, x: Array, labels: Array, d: Arrays, fmt: str, device: str
) -> dict[str, Arrays]:
    """Give them by torch on a device: backward, and backward of ⟨gradient, d⟩."""
    import torch

    numbers = framework("torch")
    q = [numbers.array(a, fmt, device).requires_grad_() for a in p]
    direction = [numbers.array(a, fmt, device) for a in d]
    classes = numbers.array(labels.argmax(-1), "", device)
    value = _torch_loss(q, numbers.array(x, fmt, device), classes)
    g = torch.autograd.grad(value, q, create_graph=True)
    along = torch.stack([(a * b).sum() for a, b in zip(g, direction, strict=True)]).sum()
    h = torch.autograd.grad(along, q)
    return {
        name: [numbers.to_numpy(a).astype(np.float64) for a in arrays]
        for name, arrays in (("gradient", g), ("HVP", h))
    }


@cache
def exact_slopes(sizes: Sequence[int], bits: int = 400) -> dict[str, Any]:
    """Give ∂f·d and dᵀHd as balls, by differences of the exact loss.

    With steps of 2⁻⁸⁰ central differences err by h²f‴/6 and h²f⁗/12; one step further on both have changed by
    about h·f″ and h·f‴, 2⁸⁰ times as much for derivatives of like size, which is their radius.
    """
    p, x, labels, d = parameters(sizes)
    with BALLS.precision(bits):
        h = BALLS.array(2.0**-80)
        points = [(BALLS.array(a), BALLS.array(b)) for a, b in zip(p, d, strict=True)]
        values = []
        for c in (-1, 0, 1, 2):
            moved = [a + c * h * b for a, b in points]
            values.append(loss(moved, BALLS.array(x), BALLS.array(labels)).values[()])
        below, here, above, beyond = values
        step = h.values[()]
        first, shifted = (above - below) / (2 * step), (beyond - here) / (2 * step)
        second, later = ((a - 2 * b + c) / step**2 for a, b, c in
                         ((below, here, above), (here, above, beyond)))  # fmt: skip
        ball = type(step)
        return {
            "gradient": first + ball(0, abs(shifted - first).abs_upper()),
            "HVP": second + ball(0, abs(later - second).abs_upper()),
        }


@cache
def bounds(sizes: Sequence[int], fmt: str) -> tuple[dict[str, Arrays], dict[str, Arrays]]:
    """Give gradient and HVP of the reference engine, and what a good algorithm may err by in a format."""
    p, x, labels, d = parameters(sizes)
    here = by_reference(p, x, labels, d)
    rng = np.random.default_rng(0)
    unit = (LIBRARY_ROUNDINGS + max(sizes)) * formats.of(fmt).unit_roundoff
    squares: dict[str, list[Any]] = {name: [0.0] * len(p) for name in here}
    seen = max(unit, 2.0**-24)  # float64's own roundings would hide in a motion of float64's size

    def shaken(a: Array) -> Array:
        return a * (1 + seen * rng.choice([-1.0, 1.0], a.shape))

    for _ in range(PATTERNS):
        there = by_reference([shaken(a) for a in p], shaken(x), labels, [shaken(a) for a in d])
        for name, arrays in there.items():
            for k, (a, b) in enumerate(zip(arrays, here[name], strict=True)):
                squares[name][k] = squares[name][k] + ((a - b) * (unit / seen)) ** 2 / PATTERNS
    allowed = {
        name: [
            unit * np.abs(g) + DEVIATIONS * np.sqrt(np.maximum(s, s.mean()))
            for g, s in zip(here[name], squares[name], strict=True)
        ]
        for name in here
    }
    return here, allowed


def compared(setting: Setting, fmt: str) -> Iterator[Row]:
    """Hold torch on every device, and the reference engine itself, to the reference and to the truth."""
    sizes = widths(setting)
    p, x, labels, d = parameters(sizes)
    reference, allowed = bounds(sizes, fmt)
    subjects = {f"torch on {v}": by_torch(p, x, labels, d, fmt, v) for v in setting.devices}
    if fmt == "float64":
        subjects["the reference engine"] = reference
    for name, found in subjects.items():
        yield from judged(name, fmt, found, reference, allowed)
    for name, found in subjects.items():
        for what, exact in exact_slopes(sizes).items():
            along = math.fsum(float(a @ b) for a, b in _pairs(found[what], d))
            limit = math.fsum(float(a @ np.abs(b)) for a, b in _pairs(allowed[what], d))
            error = float(abs(type(exact)(along) - exact).abs_upper())
            yield {
                "outcome": "holds" if error <= limit else "finding", "device": name, "dtype": fmt,
                "what": f"{what} along a direction, against balls", "of_bound": {what: error / limit},
            }  # fmt: skip


def _pairs(a: Arrays, b: Arrays) -> Iterator[tuple[Array, Array]]:
    return ((x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True))


def judged(
    name: str, fmt: str, found: dict[str, Arrays], reference: dict[str, Arrays], allowed: dict[str, Arrays]
) -> Iterator[Row]:  # fmt: skip
    """Hold every element to its bound."""
    for what, arrays in found.items():
        ratio = max(
            float(np.max(np.abs(a - b) / c))
            for a, b, c in zip(arrays, reference[what], allowed[what], strict=True)
        )
        yield {
            "outcome": "holds" if ratio <= 1 else "finding", "device": name, "dtype": fmt, "what": what,
            "judged": sum(a.size for a in arrays), "of_bound": {what: ratio},
        }  # fmt: skip


def planted(setting: Setting) -> Iterator[Row]:
    """Change one element of the gradient, by a hundredth of its array's largest: it must show."""
    sizes = widths(setting)
    reference, allowed = bounds(sizes, "float32")
    for what, arrays in reference.items():
        wrong = {what: [a.copy() for a in arrays]}
        element = np.unravel_index(np.argmin(np.abs(arrays[0])), arrays[0].shape)
        wrong[what][0][element] += 0.01 * np.abs(arrays[0]).max()
        (row,) = judged("planted", "float32", wrong, reference, allowed)
        yield row | {"outcome": "rejected" if row["outcome"] == "finding" else "missed"}
