"""Matrix products: which arithmetic was at work, and whether it kept its own bound.

Of C = A·B with n terms an element, S = |A|·|B|, u the unit roundoff of what is stored:

- *exact terms, summed in float32*: |Ĉ - C| ≤ 2n·2⁻²³·S + u·|C|. Tensor cores align the terms of a block with
  the largest and cut off below, which loses less than 2⁻²³ of the block's largest partial sum for each term
  and once more for the block (Fasi and others, Numerical behavior of NVIDIA tensor cores, 2021).
- *TF32*: the operands of float32 products are rounded or cut to 11 bits, 2·2⁻¹⁰ + 2⁻²⁰ of S more. They are
  drawn so that all lose 0.45 of the eleventh bit: errors that cancel could be explained by the first bound.
- *sums in the half format*: partial sums are rounded to it, up to n·u·S more.

The smallest of these that holds says what was at work. A probe with one term an element says so too: with
TF32 (1 + 2⁻¹³)·1 is 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.formats import Array
from ffverify.frameworks.framework import framework

from .jobs import Job, Row, Setting

FORMATS = ("float32", "float16", "bfloat16")


def jobs(setting: Setting) -> list[Job]:
    """Each format with its shortcut forbidden and allowed, and the planted cases."""
    return [
        *(
            Job(f"{f} shortcut {'on' if on else 'off'}", product, (f, on))
            for f in FORMATS for on in (False, True)
        ),
        *(Job(f"planted in {f}", planted, (f,)) for f in FORMATS),
    ]  # fmt: skip


def product(setting: Setting, fmt: str, shortcut: bool) -> Iterator[Row]:
    """Multiply in one format, and say which arithmetic explains the result."""
    import torch

    with allowed(shortcut=shortcut):
        for seed, (m, n) in enumerate(sizes(setting, fmt)):
            a, b = operands(fmt, m, n, seed)
            computed = _times(a, b, fmt, setting.device)
            model, ratios = explained(computed, a, b, fmt)
            strict = model == "float32 sums"
            fine = strict or (shortcut and model != "none")
            yield {
                "outcome": "holds" if fine else "finding", "device": setting.device, "dtype": fmt,
                "what": f"{m}×{n}·{n}×{m}, shortcut {'allowed' if shortcut else 'forbidden'}",
                "reason": f"explained by: {model}", "of_bound": ratios,
            }  # fmt: skip
        if fmt == "float32":
            size = max(m for m, _ in sizes(setting, fmt))
            seen = probe(setting.device, size)
            asked = torch.get_float32_matmul_precision()
            yield {
                "outcome": "holds" if shortcut or seen == "float32" else "finding", "device": setting.device,
                "dtype": fmt, "what": f"probe, precision {asked!r} asked for", "reason": f"active: {seen}",
            }  # fmt: skip


def planted(setting: Setting, fmt: str) -> Iterator[Row]:
    """Round operands (as TF32 does), or a sum, where that is forbidden: it must show."""
    (m, n) = sizes(setting, fmt)[-1]
    a, b = operands(fmt, m, n, 9)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    if fmt == "float32":
        computed = (_rounded(a).astype(np.float64) @ _rounded(b)).astype(np.float32)
        expected = "TF32"
    else:  # every sum loses what the half format does not hold, some hundred times
        wrong = 1 + 2.0 ** (4 - formats.of(fmt).precision)
        computed, expected = exact * wrong, "sums in the half format"
    model, ratios = explained(computed, a, b, fmt)
    yield {
        "outcome": "rejected" if model == expected else "missed", "device": "cpu", "dtype": fmt,
        "what": "planted", "reason": f"explained by: {model}", "of_bound": ratios,
    }  # fmt: skip


def sizes(setting: Setting, fmt: str) -> list[tuple[int, int]]:
    """Give m and n: a few large products, and one of few rows and many terms, whose sum is split.

    Of more than 2¹¹ terms float32's own bound is wider than what TF32 loses.
    """
    if setting.small:
        return [(16, 64), (8, 256)]
    return [(256, 256), (1024, 1024), (64, 1024 if fmt == "float32" else 16384)]


def operands(fmt: str, m: int, n: int, seed: int) -> tuple[Array, Array]:
    """Draw A (m×n) and B (n×m) of numbers of a format, in [1, 2) times a power of two."""
    rng, torch = np.random.default_rng([seed, m, n]), framework("torch")
    scale = 2.0 ** -np.ceil(np.log2(n) / 2)
    parts = (scale * (1 + (rng.integers(0, 1023, s) + 0.45) / 1024) for s in ((m, n), (n, m)))
    a, b = (torch.to_numpy(torch.array(x, fmt)) for x in parts)
    return a, b


@contextlib.contextmanager
def allowed(*, shortcut: bool) -> Iterator[None]:
    """Allow or forbid TF32 and sums in half formats, and restore what was."""
    import torch

    matmul = torch.backends.cuda.matmul
    names = (
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
    )
    before = torch.get_float32_matmul_precision(), [getattr(matmul, n) for n in names]
    torch.set_float32_matmul_precision("high" if shortcut else "highest")
    for name in names:
        setattr(matmul, name, shortcut)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        for name, value in zip(names, before[1], strict=True):
            setattr(matmul, name, value)


def _times(a: Array, b: Array, fmt: str, device: str) -> Array:
    torch = framework("torch")
    return torch.to_numpy(torch.array(a, fmt, device) @ torch.array(b, fmt, device))


def explained(computed: Array, a: Array, b: Array, fmt: str) -> tuple[str, dict[str, float]]:
    """Give the first arithmetic whose bound holds, and the largest error in units of each bound."""
    form, n = formats.of(fmt), a.shape[1]
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    exact, sums = wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b)
    u = form.unit_roundoff
    own = n * 2.0**-52 * sums  # of the float64 product that stands for the exact one
    strict = (
        (1 + u) * 2 * n * 2.0**-23 * sums + u * np.abs(exact) + 2.0**form.smallest_exponent + own
    )
    bounds = {"float32 sums": strict}
    if fmt == "float32":
        bounds["TF32"] = strict + (2.0**-9 + 2.0**-20) * sums
    else:
        bounds["sums in the half format"] = strict + n * u * sums
    error = np.abs(computed.astype(np.float64) - exact)
    ratios = {name: float(np.max(error / bound)) for name, bound in bounds.items()}
    return next((name for name, ratio in ratios.items() if ratio <= 1), "none"), ratios


def _rounded(x: Array) -> Array:
    """Round float32 numbers to 11 bits."""
    return ((x.view(np.uint32) + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def probe(device: str, size: int) -> str:
    """Say which arithmetic multiplies float32 matrices, by one product that has a single term an element."""
    import torch

    small = 2.0**-13
    a = torch.eye(size, device=device) * (1 + small)
    found: Any = (a @ torch.ones(size, size, device=device)).double().cpu().numpy()
    if np.all(found == 1 + small):
        return "float32"
    return "TF32" if np.all(found == 1) else "something else"
