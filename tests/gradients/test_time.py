"""Time: deadlines of the tests around, functions that hang, limits, and Ctrl-C."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import errors, given, settings

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays

X = np.array([0.5, -1.25, 2.0])
DRAWN = arrays("float64", (2,), min_value=-3, max_value=3)
MILLISECONDS = dt.timedelta(milliseconds=20)


def slow(x):
    time.sleep(0.03)
    return np.sin(x)


def test_a_check_inside_a_test_with_a_deadline():
    @settings(derandomize=True, deadline=MILLISECONDS, max_examples=2, database=None)
    @given(DRAWN)
    def right(x):
        assert gradcheck(slow, x, vjp=lambda v, x: v * np.cos(x))

    right()

    @settings(derandomize=True, deadline=MILLISECONDS, max_examples=2, database=None)
    @given(DRAWN)
    def own_time(x):
        gradcheck(np.sin, x)
        time.sleep(0.05)

    with pytest.raises(errors.DeadlineExceeded):
        own_time()

    @settings(derandomize=True, deadline=MILLISECONDS, max_examples=2, database=None)
    @given(DRAWN)
    def wrong(x):
        gradcheck(np.sin, x, vjp=lambda v, x: v * np.cos(x) * 1.01)

    with pytest.raises(AssertionError, match="wrong"):
        wrong()


def test_the_pattern_of_the_readme_passes_out_of_the_box(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import ffverify, numpy as np\n"
        "from hypothesis import given\n"
        "from ffverify.strategies import arrays\n"
        "@given(arrays('float64', (3,), min_value=-5, max_value=5))\n"
        "def test_it(x):\n"
        "    ffverify.gradcheck(np.tanh, x)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_what_hung_once_is_not_called_again():
    calls = []

    def hangs(x):
        calls.append(1)
        time.sleep(1.0)
        return x

    report = gradcheck(hangs, DRAWN, timeout=0.1, raise_exception=False)
    assert "hangs did not come back within 0.1 s" in str(report)
    assert len(calls) == 1
    assert not report.ok


def test_no_new_inputs_are_drawn_after_the_time_limit():
    report = gradcheck(slow, DRAWN, time_limit=0.01, raise_exception=False)
    assert report.ok
    assert 0 < report.points < 200
    for name in ("timeout", "time_limit"):
        with pytest.raises(ValueError, match=f"{name}=0: give seconds"):
            gradcheck(np.sin, X, **{name: 0})


def test_ctrl_c_leaves_a_report_of_what_was_done():
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return x * x

    with pytest.raises(KeyboardInterrupt) as caught:
        gradcheck(f, DRAWN, vjp=lambda v, x: v * x, max_examples=1000)
    report = caught.value.report
    assert report.verdict == "wrong"
    assert report.stopped
    assert str(report).startswith(
        f"gradcheck of f: stopped after {report.points} inputs, so far wrong"
    )
    assert caught.value.__notes__[0] == str(report)
    calls.clear()
    with pytest.raises(KeyboardInterrupt) as caught:
        gradcheck(f, DRAWN, vjp=lambda v, x: 2 * v * x, max_examples=1000)
    assert "inputs, so far correct" in str(caught.value.report)


def test_progress_is_told_after_every_input():
    told = []
    report = gradcheck(np.sin, DRAWN, max_examples=4, progress=told.append)
    assert told == ["sin"] * report.points
