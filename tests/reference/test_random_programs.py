"""A fraction of the random programs; `python -m tests.reference.random_programs` runs thousands."""

import numpy as np
import pytest

from ffverify.reference import elementwise

pytest.importorskip("torch")
random_programs = pytest.importorskip("tests.reference.random_programs")


@pytest.mark.parametrize("seed", range(10_000, 10_020))
def test_the_engine_agrees_with_torch(seed):
    assert not random_programs.differences(seed)


@pytest.mark.parametrize("order", [1, 2])
def test_a_planted_bug_is_found(monkeypatch, order):
    """tanh with a slope, or a slope of the slope, that is off by 1e-6."""
    slope = elementwise(
        "s", lambda x: 1 / np.cosh(x) ** 2, lambda s, x: -2 * np.tanh(x) * s * (1 + 1e-6)
    )
    wrong = elementwise(
        "t", np.tanh, lambda _y, x: slope(x) if order == 2 else (1 + 1e-6) / np.cosh(x) ** 2
    )
    step = random_programs.Step("tanh", lambda a, _: wrong(a), random_programs.STEPS[0].in_torch)
    monkeypatch.setattr(random_programs, "STEPS", [step])
    found = random_programs.differences(0)
    assert any("second order" in what for what in found)
    assert any("gradient" in what for what in found) == (order == 1)
