"""Faults of the device: each is a finding with its reason, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ffverify.gradients.gradcheck import gradcheck

from .jobs import Job, Row, Setting


def jobs(setting: Setting) -> list[Job]:
    """The faults; after each an ordinary check in whatever process there then is."""
    every = {
        "out of memory": (out_of_memory, "memory"),
        "illegal index": (illegal_index, "index|assert|bounds"),
        "another device": (another_device, "device"),
    }
    if setting.device.startswith("cuda"):
        every["inputs on two devices"] = (two_devices, "device")
    return [
        job
        for name, (make, words) in every.items()
        for job in (Job(name, fault, (make, words)), Job(f"after {name}", well))
    ]


def fault(
    setting: Setting, make: Callable[[str], tuple[Callable[..., Any], list[Any]]], words: str
) -> Iterator[Row]:
    """Gradcheck a function that fails: no traceback, and a reason that has one of some words in it."""
    report = gradcheck(*make(setting.device), raise_exception=False)
    said = " ".join([*map(str, report.findings), *report.skipped.values()])
    fine = not report.ok and any(w in said.lower() for w in words.split("|"))
    yield {
        "outcome": "holds" if fine else "finding", "device": setting.device, "verdict": str(report.verdict),
        "reason": said,
    }  # fmt: skip


def well(setting: Setting) -> Iterator[Row]:
    """Check that the device still answers, and gradcheck still finds what is right and what is wrong."""
    import torch

    x = torch.tensor([0.5, -1.25, 2.0], device=setting.device)
    right = gradcheck(torch.tanh, [x], raise_exception=False)
    wrong = gradcheck(lambda z: z * z.detach(), [x], raise_exception=False)
    fine = right.verdict == "correct" and wrong.verdict == "wrong"
    yield {
        "outcome": "holds" if fine else "finding", "device": setting.device,
        "reason": f"tanh is {right.verdict}, x·detach(x) is {wrong.verdict}",
    }  # fmt: skip


def out_of_memory(device: str) -> tuple[Callable[..., Any], list[Any]]:
    """Ask for 4 EiB."""
    import torch

    return lambda x: x + torch.zeros(2**60, device=device)[0], [torch.ones(3, device=device)]


def illegal_index(device: str) -> tuple[Callable[..., Any], list[Any]]:
    """Take the eighth of three: on CUDA a device assert, after which the process gets no more answers."""
    import torch

    i = torch.tensor([7], device=device)
    return lambda x: x[i.to(x.device)], [torch.ones(3, device=device)]


def another_device(device: str) -> tuple[Callable[..., Any], list[Any]]:
    """Multiply by weights that were left on another device: on the CPU, or on none in a dry run."""
    import torch

    weights = torch.ones(3, device="cpu" if device.startswith("cuda") else "meta")
    return lambda x: (x * weights).sum().reshape(1).to(x.device), [torch.ones(3, device=device)]


def two_devices(device: str) -> tuple[Callable[..., Any], list[Any]]:
    """Give one input on the device and one on the CPU."""
    import torch

    return lambda x, y: x * y, [torch.ones(3, device=device), torch.ones(3)]
