"""A sample of the sweep over correct functions, and of errors planted in their derivatives.

None is accused, all errors are found (`python -m tests.corpus.sweep` and `tests.corpus.mutate` have all).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.corpus import mutate, sweep

EVERY = {"numpy": 29, "torch": 43, "jax": 31}  # about a dozen functions of each
SMALL = 24  # elements of the functions that errors are planted in: the command has all
PLANTED = {"numpy": 0.02, "torch": 0.012, "jax": 0.015}  # the share that errors are planted in


@pytest.mark.filterwarnings("ignore")  # of functions that are deprecated
@pytest.mark.parametrize("framework", EVERY)
def test_correct_functions_are_not_accused(framework):
    if framework != "numpy":
        pytest.importorskip(framework)
    for k, dtype in enumerate(sweep.DTYPES):
        sample = sweep.functions(framework, dtype)[k :: 2 * EVERY[framework]]
        assert len(sample) >= 4
        for function in sample:
            if not sweep.known(framework, function):
                report = sweep.check(function, framework, examples=2)
                accused = [f for f in report.findings if f.severity == "error"]
                assert not accused, f"{function.name} {dtype}\n{report}"


def test_a_thousand_functions():
    pytest.importorskip("torch")
    names = [g.name for g in sweep.functions("torch", "float64")]
    assert len(set(names)) == len(names) >= 1000


def test_a_planted_bug_is_accused():
    torch = pytest.importorskip("torch")
    wrong = sweep.Function("x²", lambda x: x * x.detach(), (sweep.box(3, dtype="float32"),))
    assert not sweep.check(wrong, "torch", examples=2).ok
    nan = sweep.Function("√x", lambda x: torch.where(x > 1, x.sqrt(), x), (sweep.box(3),))
    assert not sweep.check(nan, "torch", examples=4).ok


@pytest.mark.parametrize("framework", PLANTED)
def test_errors_planted_in_right_derivatives_are_found(framework):
    if framework != "numpy":
        pytest.importorskip(framework)
    found = 0
    for function, dtype, plant in mutate.drawn(framework, seed=0, share=PLANTED[framework]):
        if sum(math.prod(i.shape) for i in function.inputs) > SMALL:
            continue
        j = plant.argument
        if mutate.changes(mutate.gradient(function, framework, j), plant, dtype):
            report = mutate.check(function, framework, plant, examples=3)
            assert not report.ok, f"{function.name} {dtype} {plant}\n{report}"
            assert report.verdict == plant.expected
            found += 1
    assert found >= 2


def test_a_mutant_without_an_error_is_not_accused(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(mutate.FACTORS, "none", lambda ones, _i, _small: ones)
    plant = mutate.Plant("none", 0, 0.5)
    for framework, name in (("numpy", "tanh of exp"), ("torch", "sigmoid ")):
        function = next(f for f in sweep.functions(framework, "float64") if f.name.startswith(name))
        assert mutate.check(function, framework, plant, examples=3).ok
    assert not mutate.changes(
        np.array([1e-17, -2e-16]), mutate.Plant("all zero", 0, 0.5), "float64"
    )
