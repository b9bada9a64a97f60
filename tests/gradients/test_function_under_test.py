"""Code under test runs beside the checker: what it raises, and that it hangs, is a sentence."""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
import pytest

from ffverify.gradients import findings
from ffverify.gradients import function_under_test as subject


def test_a_late_answer_is_nobody_elses(monkeypatch):
    monkeypatch.setattr(subject, "TIME_LIMIT", 0.2)
    with pytest.raises(subject.Fault, match="did not come back"):
        subject.limited(lambda: time.sleep(0.4) or "late", "f")
    time.sleep(0.4)
    assert subject.limited(lambda: "next", "f") == "next"


def test_calls_may_be_nested():
    assert subject.limited(lambda: subject.limited(lambda: "inner", "g"), "f") == "inner"


def _raise():
    raise ValueError("sorry")


def test_what_is_raised_does_not_spoil_the_next_call():
    with pytest.raises(subject.Fault, match="f raised ValueError: sorry"):
        subject.limited(_raise, "f")
    assert subject.limited(lambda: "next", "f") == "next"


def _child(answers):
    answers.put(subject.limited(lambda: "child", "f"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads, this one's too
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, if it was imported
def test_a_fork_gets_a_thread_of_its_own():
    assert subject.limited(lambda: "parent", "f") == "parent"
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_child, args=(answers,), daemon=True)
    child.start()
    child.join(20)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert answers.get() == "child"


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

    monkeypatch.setattr(findings, "to_numpy", dead)
    assert "cannot be read any more" in findings.code("f", [np.ones(2)])
