"""Gradchecks of some 40 functions on the device's tensors: values, VJPs, JVPs, and second order for some."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffverify.frameworks.framework import framework
from ffverify.gradients.gradcheck import gradcheck
from ffverify.verdicts.verdict import Verdict

from .jobs import Job, Row, Setting

FORMATS = ("float32", "float16", "bfloat16")
TWICE = ("tanh", "matmul")  # at second order in a dry run too


@dataclass(frozen=True)
class Case:
    """A function of tensors, what it is given, and what should come of it.

    Attributes
    ----------
    make
        Gives the function, once torch is imported; it takes the device.
    inputs
        Shapes of floats, and arrays of integers.
    order
        2 where its second derivatives are checked too.
    planted
        Whether its derivative has an error that must be found.
    """

    make: Callable[[str], Callable[..., Any]]
    inputs: Sequence[Any]
    order: int = 1
    planted: bool = False


def _labels(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


def _cases() -> dict[str, Case]:
    """Give the functions by name. Torch is imported here, not where this module is."""
    import torch
    from torch.nn import functional as F

    def plain(fn: Callable[..., Any], *inputs: Any, order: int = 1) -> Case:
        return Case(lambda _device: fn, inputs, order)

    row, square, batch = (6,), (2, 4), (2, 2, 4)
    where = _labels(0, 2, 2, 0, 1, 2)
    unit = {
        name: plain(fn, row, order=2 if name in {"tanh", "sigmoid", "softplus", "gelu"} else 1)
        for name, fn in {
            "relu": F.relu, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
            "silu": F.silu, "softplus": F.softplus, "mish": F.mish, "elu": F.elu, "selu": F.selu,
            "sigmoid": torch.sigmoid, "tanh": torch.tanh, "log_sigmoid": F.logsigmoid,
            "hard_swish": F.hardswish,
        }.items()
    }  # fmt: skip
    return unit | {
        # losses
        "mse_loss": plain(F.mse_loss, square, square, order=2),
        "cross_entropy": plain(F.cross_entropy, square, _labels(0, 3)),
        "binary_cross_entropy": plain(
            lambda z, y: F.binary_cross_entropy_with_logits(z, y.sigmoid()), row, row
        ),
        "smooth_l1_loss": plain(F.smooth_l1_loss, row, row),
        "huber_loss": plain(F.huber_loss, row, row),
        "kl_div": plain(
            lambda p, q: F.kl_div(
                F.log_softmax(p, -1), F.softmax(q, -1), reduction="batchmean"
            ),
            square,
            square,
        ),
        # norms
        "layer_norm": plain(lambda x, w, b: F.layer_norm(x, (4,), w, b), square, (4,), (4,), order=2),
        "batch_norm": plain(
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), square, (4,), (4,)
        ),
        "batch_norm_module": Case(lambda device: torch.nn.BatchNorm1d(4).to(device).eval(), (square,)),
        "group_norm": plain(lambda x: F.group_norm(x, 2), (1, 4, 3)),
        "rms_norm": plain(lambda x, w: F.rms_norm(x, (4,), w), square, (4,)),
        "normalize": plain(F.normalize, square),
        # attention
        "attention": plain(F.scaled_dot_product_attention, batch, batch, batch),
        "causal_attention": plain(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            batch, batch, batch,
        ),
        # products
        "matmul": plain(torch.matmul, square, (4, 2), order=2),
        "bmm": plain(torch.bmm, batch, (2, 4, 3)),
        "linear": plain(F.linear, square, (3, 4), (3,)),
        "einsum": plain(lambda a, b: torch.einsum("bij,bkj->ik", a, b), batch, batch),
        "conv2d": plain(F.conv2d, (1, 2, 3, 3), (2, 2, 2, 2)),
        # reductions
        "softmax": plain(lambda x: F.softmax(x, -1), square, order=2),
        "logsumexp": plain(lambda x: torch.logsumexp(x, -1), square, order=2),
        "norm": plain(lambda x: torch.linalg.vector_norm(x, dim=-1), square, order=2),
        "var": plain(lambda x: x.var(dim=-1), square),
        "prod": plain(lambda x: x.prod(dim=-1), square),
        "cumsum": plain(lambda x: x.cumsum(-1), square),
        # scatter: several contributions meet in one element
        "scatter_add": plain(lambda x, i: torch.zeros_like(x[:3]).scatter_add(0, i, x), (6,), where),
        "index_add": plain(lambda x, i: torch.zeros_like(x[:3]).index_add(0, i, x), (6, 2), where),
        "index_put": plain(
            lambda x, y, i: x.index_put((i,), y, accumulate=True), (3,), (6,), where
        ),
        "embedding": plain(lambda w, i: F.embedding(i, w), (3, 2), where),
        # of the user's own, and compiled
        "custom_function": Case(lambda _device: _cube(exact=True), (row,)),
        "compiled": Case(_compiled, (row,)),
    }  # fmt: skip


def _planted() -> dict[str, Case]:
    return {
        "planted factor": Case(lambda _device: _cube(exact=False), ((6,),), planted=True),
        "planted detach": Case(lambda _device: lambda x: x * x.detach(), ((6,),), planted=True),
    }


def _compiled(device: str) -> Callable[..., Any]:
    import torch

    def fn(x: Any) -> Any:
        return torch.exp(-x * x / 2) * torch.sin(x)

    # On a CPU the compiler of C++ would cost a minute of a dry run.
    return torch.compile(fn, backend="inductor" if device.startswith("cuda") else "aot_eager")  # type: ignore[no-any-return]  # a function


def _cube(*, exact: bool) -> Callable[..., Any]:
    import torch

    factor = 3.0 if exact else 3.02

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * x * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx: Any, v: Any) -> Any:  # type: ignore[override]  # torch takes any number
            (x,) = ctx.saved_tensors
            return v * factor * x * x

        @staticmethod
        def jvp(ctx: Any, dx: Any) -> Any:  # type: ignore[override]  # likewise
            (x,) = ctx.saved_tensors
            return dx * 3.0 * x * x

    return Cube.apply  # type: ignore[no-any-return]  # a function


def jobs(setting: Setting) -> list[Job]:
    """Every function in float32, then in the half formats; a dry run takes the half formats in turn."""
    names = [*_cases(), *_planted()]
    halves = [(n, f) for n in names for f in FORMATS[1:]]
    pairs = [(n, FORMATS[0]) for n in names] + (halves[::19] if setting.small else halves)
    return [Job(f"{name} {fmt}", check, (name, fmt)) for name, fmt in pairs]


def tensors(case: Case, fmt: str, device: str, seed: int) -> list[Any]:
    """Draw the inputs of a function: normal numbers of moderate size, on a device."""
    rng, torch = np.random.default_rng(seed), framework("torch")
    return [
        torch.array(i if isinstance(i, np.ndarray) else rng.normal(size=i), fmt, device)
        for i in case.inputs
    ]


def check(setting: Setting, name: str, fmt: str) -> Iterator[Row]:
    """Check one function in one format: its values, its derivatives by both modes, and those of these."""
    case = (_cases() | _planted())[name]
    fn = case.make(setting.device)
    for seed in range(1 if setting.small else 4):
        inputs = tensors(case, fmt, setting.device, zlib.crc32(name.encode()) + seed)
        order = case.order if not setting.small or name in TWICE else 1
        report = gradcheck(  # a compiler takes its time
            fn, inputs, order=order, timeout=60, raise_exception=False
        )
        errors = [f for f in report.findings if f.severity == "error"]
        outcome = "finding" if errors else "holds" if report.ok else "inconclusive"
        if case.planted:
            outcome = "rejected" if report.verdict is Verdict.WRONG else "missed"
        yield {
            "outcome": outcome, "device": setting.device, "dtype": fmt, "order": order,
            "verdict": str(report.verdict), "truth": report.truth, "modes": list(report.modes),
            "skipped": report.skipped, "judged": report.judged, "worst_ulps": report.worst_ulps,
            "sensitivity": report.sensitivity, "notes": list(report.notes),
            "findings": [str(f) for f in report.findings],
        }  # fmt: skip
