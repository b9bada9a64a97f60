"""A sample of the sweep over correct functions: none is accused (`python -m tests.corpus.sweep` has all)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

EVERY = {"numpy": 29, "torch": 43, "jax": 41}  # about a dozen functions of each


@pytest.fixture(scope="module")
def sweep():
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    try:
        return importlib.import_module("tests.corpus.sweep")
    finally:
        sys.path.remove(root)


@pytest.mark.parametrize("framework", EVERY)
def test_correct_functions_are_not_accused(sweep, framework):
    if framework != "numpy":
        pytest.importorskip(framework)
    sample = sweep.functions(framework)[:: EVERY[framework]]
    assert len(sample) >= 7
    for i, function in enumerate(sample):
        dtype = sweep.DTYPES[i % 2]
        if not sweep.upstream(framework, function, dtype):
            report = sweep.check(function, framework, dtype, examples=2)
            assert report.ok, f"{function.name} {dtype}\n{report}"


def test_a_thousand_functions(sweep):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    names = [(f, function.name) for f in sweep.FRAMEWORKS for function in sweep.functions(f)]
    assert len(set(names)) >= 1000


def test_a_planted_bug_is_accused(sweep):
    torch = pytest.importorskip("torch")
    wrong = sweep.Function("x²", lambda x: x * x.detach(), (sweep.box(3),))
    assert not sweep.check(wrong, "torch", "float32", examples=2).ok
    nan = sweep.Function("√x", lambda x: torch.where(x > 1, x.sqrt(), x), (sweep.box(3),))
    assert not sweep.check(nan, "torch", "float64", examples=4).ok
