"""Functions and VJPs of which no exact program is known: only differences tell what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.verdicts.verdict import Verdict


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


def _softmax(a, b):
    z = np.exp(a + b - np.max(a + b, axis=0))
    return z / z.sum(axis=0)


def _softmax_vjp(v, a, b):
    y = _softmax(a, b)
    g = y * (v - (v * y).sum(axis=0))
    return g, g.sum(axis=0)


UNKNOWN = {
    "exact zeros": (_softmax, _softmax_vjp, ((4, 3), (3,)), (-3, 3)),
    "a large argument": (
        lambda x: np.sin(1000 * x),
        lambda v, x: (1000 * v * np.cos(1000 * x),),
        ((3,),),
        (0.5, 1.5),
    ),
    "a difference": (
        lambda x: np.square(x - x.mean()),
        lambda v, x: (2 * v * (x - x.mean()) - 2 * np.mean(v * (x - x.mean())),),
        ((3,),),
        (10, 12),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_rounding_in_a_gradient_that_nobody_can_run_is_no_fault(name, dtype):
    """Inputs' rounding moves a VJP whether an exact program of it is known or not."""
    fn, pull, shapes, (low, high) = UNKNOWN[name]

    def opaque(*args):
        return np.asarray(fn(*map(np.asarray, args)))

    def vjp(factor):
        return lambda *args: tuple((factor * g).astype(dtype) for g in pull(*map(np.asarray, args)))

    inputs = [arrays(dtype, s, min_value=low, max_value=high) for s in shapes]
    for seed in range(3):
        right, wrong = (
            check(opaque, *inputs, vjp=vjp(f), max_examples=6, seed=seed) for f in (1.0, 1.01)
        )
        assert right.ok, str(right)
        assert right.truth == "differences"
        assert wrong.verdict is Verdict.WRONG


def test_a_jump_is_no_slope_however_steadily_it_is_divided_by_the_step():
    """The mantissa of h over h is the same over a binade of steps: it passed for a slope of 19153.967."""
    torch = pytest.importorskip("torch")
    report = gradcheck(
        lambda x: torch.frexp(x)[0], torch.zeros(1, dtype=torch.float32), raise_exception=False
    )
    assert report.truth == "differences"
    assert str(report.verdict) == "inconclusive"


@pytest.mark.parametrize("factor", [1, 1.01])
def test_inputs_of_very_different_sizes_are_moved_in_proportion(factor):
    """A step that is small beside 9e6 is large beside 0: a right tangent was wrong, should be 0."""

    def one_by_one(x):
        return np.array([math.tanh(float(each)) for each in x])

    report = gradcheck(
        one_by_one,
        np.array([0.0, 0.0, 9e6]),
        vjp=lambda v, x: (v * (1 - np.tanh(x) ** 2),),
        jvp=lambda dots, x: factor * dots[0] * (1 - np.tanh(x) ** 2),
        raise_exception=False,
    )
    assert report.truth == "differences"
    assert str(report.verdict) == ("correct" if factor == 1 else "wrong")
