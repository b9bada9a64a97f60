"""A call that lasts too long is interrupted where it runs, in its caller's thread."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ffverify import time_limit
from ffverify.gradients import function_under_test as subject
from ffverify.time_limit import Overran, within


def loops():
    while True:
        pass


def stubborn():
    with contextlib.suppress(BaseException):
        time.sleep(60)
    time.sleep(60)


def test_it_runs_in_the_callers_thread():
    assert within(5, threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("call", [loops, lambda: time.sleep(60), threading.Event().wait])
def test_what_loops_sleeps_or_waits_is_interrupted(call):
    began = signal.getsignal(signal.SIGINT)
    with pytest.raises(Overran):
        within(0.2, call)
    assert within(5, lambda: "next") == "next"
    time.sleep(0.2)  # nothing of the interrupt is left to come
    assert signal.getsignal(signal.SIGINT) is began


def test_the_time_of_an_import_is_not_the_calls(tmp_path, monkeypatch):
    """Forward mode of torch's imports its compiler: on a busy machine that takes more than a time limit."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.6)\nready = True\n")

    def importing():
        import slow_to_import

        return slow_to_import.ready

    assert within(0.2, importing)
    (tmp_path / "overruns.py").write_text(
        "from ffverify.time_limit import Overran, within\n"
        "try:\n    within(0.2, lambda: [0 for _ in iter(int, 1)])\nexcept Overran:\n    ended = True\n"
    )
    import overruns  # that a module is being imported around a call gives it no time

    assert overruns.ended


def test_in_another_thread_python_code_is_interrupted():
    def overruns():
        with pytest.raises(Overran):
            within(0.2, loops)
        return within(5, lambda: "next")

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(overruns).result(30) == "next"


TRACED = """
import sys, threading
from ffverify.time_limit import Overran, within

def loops():
    while True:
        pass

def overruns():
    try:
        within(0.1, loops)
    except Overran:
        print("overran")

overruns()
thread = threading.Thread(target=overruns)
thread.start()
thread.join()
sys.settrace(lambda *_: None)
(lambda: print("traced"))()
"""


def test_what_is_traced_after_an_overrun_goes_on():
    """Coverage and debuggers trace. Once an exception was taken back CPython hung in the next call."""
    done = subprocess.run(
        [sys.executable, "-c", TRACED], timeout=60, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["overran", "overran", "traced"]


def test_what_swallows_an_interrupt_is_interrupted_again(monkeypatch):
    monkeypatch.setattr(time_limit, "_AGAIN", 0.1)
    with pytest.raises(Overran):
        within(0.2, stubborn)


def test_of_nested_calls_the_overdue_one_is_told():
    def inner():
        with pytest.raises(Overran):
            within(0.2, loops)
        return "inner"

    assert within(20, inner) == "inner"
    with pytest.raises(Overran):
        within(0.2, lambda: within(20, loops))


def test_an_interrupt_of_the_users_is_the_users():
    def interrupted():
        signal.raise_signal(signal.SIGINT)
        time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        within(20, interrupted)


def test_a_call_that_lasts_too_long_is_a_sentence(monkeypatch):
    monkeypatch.setattr(subject, "TIME_LIMIT", 0.2)
    with pytest.raises(subject.Fault, match=r"f did not come back within 0\.2 s"):
        subject.limited(lambda: time.sleep(9), "f")
    with pytest.raises(subject.Fault, match="f raised TimeoutError: mine"):
        subject.limited(_timeout, "f")


def _timeout():
    raise TimeoutError("mine")


def _child(answers):
    with contextlib.suppress(Overran):
        within(0.2, loops)
    answers.put(within(5, lambda: "child"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of forks beside threads, the watcher's too
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, if it was imported
def test_a_fork_has_a_watcher_of_its_own():
    assert within(5, lambda: "parent") == "parent"
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_child, args=(answers,), daemon=True)
    within(5, child.start)
    child.join(20)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert answers.get() == "child"
