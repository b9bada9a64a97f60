"""What code under test raises is a sentence, and what it is given is where it runs."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.gradients import function_under_test as subject
from ffverify.gradients.function_under_test import Call
from ffverify.gradients.reporting import reproduction


def test_calls_may_be_nested():
    assert subject.limited(lambda: subject.limited(lambda: "inner", "g"), "f") == "inner"


def _raise():
    raise ValueError("sorry")


def test_what_is_raised_does_not_spoil_the_next_call():
    with pytest.raises(subject.Fault, match="f raised ValueError: sorry"):
        subject.limited(_raise, "f")
    assert subject.limited(lambda: "next", "f") == "next"


def test_the_buffers_of_a_module_follow_its_inputs():
    torch = pytest.importorskip("torch")
    module = torch.nn.BatchNorm1d(2).eval()
    made, native = subject.subject(module, [torch.ones(3, 2)], vjp=None, jvp=None)
    there = made.fn(
        *(a.to("meta") for a in native)
    )  # as a CUDA module's program is traced on the CPU
    assert there.device.type == "meta"


def test_a_call_to_paste_is_no_traceback_where_the_device_is_dead(monkeypatch):
    def dead(_array):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(reproduction, "to_numpy", dead)
    assert "cannot be read any more" in reproduction.code(Call(), [np.ones(2)])
