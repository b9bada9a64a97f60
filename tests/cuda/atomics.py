"""Sums whose order changes from run to run: atomics of scatter, index_add, and the embedding's gradient.

n terms x added in any order, each addition rounded with u, lie within (n - 1)·u/(1 - n·u)·Σ|x| of their
sum (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §4.2), the running bound. Two runs may
differ; each has to keep it, and gradcheck must not call the function random or wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.formats import Array
from ffverify.frameworks.framework import framework
from ffverify.gradients.gradcheck import gradcheck

from .jobs import Job, Row, Setting

FORMATS = ("float32", "float16", "bfloat16")
BINS = 7


def sums() -> dict[str, Callable[[Any, Any], Any]]:
    """Give functions that add x[k] to element i[k] of seven."""
    import torch
    from torch.nn import functional as F

    def zeros(x: Any) -> Any:
        return torch.zeros(BINS, dtype=x.dtype, device=x.device)

    def embedding(x: Any, i: Any) -> Any:
        with torch.enable_grad():
            w = zeros(x)[:, None].requires_grad_()
            (gradient,) = torch.autograd.grad(F.embedding(i, w), w, x[:, None])
        return gradient[:, 0]

    def gather(x: Any, i: Any) -> Any:
        with torch.enable_grad():
            w = zeros(x).requires_grad_()
            return torch.autograd.grad(w.gather(0, i), w, x)[0]

    return {
        "scatter_add": lambda x, i: zeros(x).scatter_add(0, i, x),
        "scatter_reduce": lambda x, i: zeros(x).scatter_reduce(0, i, x, "sum"),
        "index_add": lambda x, i: zeros(x).index_add(0, i, x),
        "index_put": lambda x, i: zeros(x).index_put((i,), x, accumulate=True),
        "embedding backward": embedding,
        "gather backward": gather,
    }


def jobs(setting: Setting) -> list[Job]:
    """Every such function in every format, a gradcheck of them, and a planted loss."""
    names = list(sums())
    return [
        *(Job(f"{n} {f}", repeated, (n, f)) for f in FORMATS for n in names),
        *(Job(f"gradcheck of {n}", checked, (n,)) for n in names[:3]),
        Job("planted loss", planted),
    ]


def drawn(setting: Setting, fmt: str) -> tuple[Any, Any, Array, Array, int]:
    """Give terms and places on the device; the sums, those of magnitudes, and the most terms of a sum."""
    count = 2_000 if setting.small else 1_000_000
    if fmt != "float32":  # a half format's own sum stagnates: the bound would say nothing
        count = 200
    rng, torch = np.random.default_rng(count), framework("torch")
    native = torch.array(rng.normal(size=count), fmt, setting.device)
    places = rng.integers(0, BINS, count)
    x = torch.to_numpy(native).astype(np.float64)
    exact, size = (np.bincount(places, v, BINS) for v in (x, np.abs(x)))
    most = int(np.bincount(places).max())
    return native, torch.array(places, "", setting.device), exact, size, most


def allowance(fmt: str, size: Array, most: int) -> Array:
    """Give the running bound of sums, and what float64 leaves open of the sums that stand for exact ones."""
    u = formats.of(fmt).unit_roundoff
    return most * (u / (1 - most * u) + 2.0**-52) * size


def repeated(setting: Setting, name: str, fmt: str) -> Iterator[Row]:
    """Add up some times: how many different results there are, and how far the worst is from the sum."""
    fn = sums()[name]
    x, places, exact, size, most = drawn(setting, fmt)
    runs = [
        framework("torch").to_numpy(fn(x, places)).astype(np.float64)
        for _ in range(3 if setting.small else 10)
    ]
    ratio = max(float(np.max(np.abs(r - exact) / allowance(fmt, size, most))) for r in runs)
    different = len({r.tobytes() for r in runs})
    yield {
        "outcome": "holds" if ratio <= 1 else "finding", "device": setting.device, "dtype": fmt,
        "reason": f"{len(runs)} runs, {different} different results, of at most {most} terms",
        "of_bound": {"running": ratio},
    }  # fmt: skip


def checked(setting: Setting, name: str) -> Iterator[Row]:
    """Gradcheck such a sum: not random, and not wrong because its last bits may change."""
    x, places, *_ = drawn(Setting(setting.device, small=True), "float32")
    report = gradcheck(sums()[name], [x[:150], places[:150]], raise_exception=False)
    yield {
        "outcome": "holds" if report.ok else "finding", "dtype": "float32",
        "device": setting.device, "verdict": str(report.verdict),
        "findings": [str(f) for f in report.findings],
    }  # fmt: skip


def planted(setting: Setting) -> Iterator[Row]:
    """Lose one term of a sum: it must be beyond the bound."""
    x, places, exact, size, most = drawn(Setting(setting.device, small=True), "float32")
    largest = int(x.abs().argmax())
    x[largest] = 0
    found = framework("torch").to_numpy(sums()["index_add"](x, places)).astype(np.float64)
    ratio = float(np.max(np.abs(found - exact) / allowance("float32", size, most)))
    yield {
        "outcome": "rejected" if ratio > 1 else "missed", "device": setting.device, "dtype": "float32",
        "of_bound": {"running": ratio},
    }  # fmt: skip
