from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from ffverify.exact import formats
from ffverify.gradients import edges as edges_module
from ffverify.gradients.edges import edges
from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.truth.slopes import Inputs


def found(program, shape=(), dtype="float64", low=-1e3, high=1e3):
    fmt = formats.of(dtype)
    return edges([program], Inputs([np.zeros(shape, fmt.carrier)]), 0, fmt, low, high)


def beside(edge, dtype="float64"):
    """Give the floats on both sides of a number that is none, or is one of them."""
    kind = np.dtype(dtype).type
    near = kind(edge)
    return {
        float(near),
        float(np.nextafter(near, kind(np.inf))),
        float(np.nextafter(near, kind(-np.inf))),
    }


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("program", "edge"),
    [
        (lambda x: np.where(x > 3.7, x, 1), 3.7),
        (lambda x: np.maximum(2 * x - 11, x * 0 - 4), 3.5),
        (lambda x: abs(x - 0.3), 0.3),
        (lambda x: np.clip(x, -2, 513.25), 513.25),
    ],
)  # fmt: skip
def test_kinks_and_thresholds_are_found_to_the_last_bit(program, edge, dtype, shape):
    got = set(found(program, shape, dtype))
    assert len(got & beside(edge, dtype)) >= 2


@pytest.mark.parametrize(
    ("dtype", "edge"), [("float64", 709.782712893384), ("float32", 88.72284), ("float16", 11.09)]
)
def test_overflow_is_found_where_the_format_has_it(dtype, edge):
    got = found(lambda x: np.exp(2 * x), dtype=dtype)
    assert any(abs(e - edge / 2) <= 2.0 ** -formats.of(dtype).precision * 2 * edge for e in got)


def test_a_program_without_edges_has_none_but_the_ends_of_the_range():
    assert found(lambda x: x + 2000.0, low=1.0) == []


def test_only_a_program_whose_rows_branch_apart_runs_row_by_row():
    runs = {"compares": 0, "loops": 0}

    def compares(x):
        runs["compares"] += 1
        return np.where((x > 3.7) & ~(x > 100), np.exp(x), 1)

    def loops(x):
        runs["loops"] += 1
        while abs(x) > 1:
            x = x / 4
        return x

    inputs = Inputs([np.zeros(())])
    got = edges([compares, loops], inputs, 0, formats.of("float64"), -1e3, 1e3)
    assert set(got) & beside(3.7)
    assert set(got) & beside(4.0)
    assert runs["compares"] < 100 < runs["loops"]


def test_bfloat16_has_its_own_neighbours():
    got = found(lambda x: np.where(x >= 3.0, x, 1), dtype="bfloat16")
    assert {3.0, 3.0 - 2.0**-6} <= set(got)


def narrow_bug(v, x):
    """The derivative of sin, wrong on a ten-millionth of its domain."""
    return (v * np.where((x > 3.7) & (x < 3.7000001), 1.5 * np.cos(x), np.cos(x)),)


def check(strategy, seed=0):
    return gradcheck(
        np.sin, strategy, vjp=narrow_bug, max_examples=12, seed=seed, raise_exception=False
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_overflow_of_the_derivative_program_is_tried_whatever_the_seed(seed):
    def vjp(v, x):
        return (v * np.exp(x) / (1 + np.exp(x)) ** 2,)

    def sigmoid(x):
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))

    inputs = arrays("float64", (2,), min_value=-500, max_value=900)
    report = gradcheck(sigmoid, inputs, vjp=vjp, max_examples=12, seed=seed, raise_exception=False)
    assert str(report.verdict) == "nonfinite"
    assert 709 < report.inputs[0].max() <= 710  # the first that overflows, and a round one


@pytest.mark.parametrize("seed", range(3))
def test_a_bug_behind_a_narrow_threshold_is_found_from_the_program(seed, monkeypatch):
    inputs = arrays("float64", (3, 4), min_value=-10, max_value=10)
    report = check(inputs, seed)
    assert not report.ok
    assert 3.7 < report.inputs[0].max() < 3.7000001
    monkeypatch.setattr(edges_module, "edges", lambda *_: [])
    assert check(inputs, seed).ok  # by chance alone it is not


def test_strategies_of_others_keep_their_domain():
    def outside(x):
        return ((x <= 3.7) | (x >= 3.7000001)).all()

    inputs = arrays("float64", (3,), min_value=-10, max_value=10).filter(outside)
    assert check(inputs).ok  # the edges lie where these inputs are not


def test_thresholds_of_torch_programs_are_found():
    torch = pytest.importorskip("torch")

    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            return torch.where((x > 3.7) & (x < 3.70001), -v, v) * torch.cos(x)

    inputs = arrays("float32", (4,), min_value=-10, max_value=10, framework="torch")
    report = gradcheck(Late.apply, inputs, max_examples=12, raise_exception=False)
    assert not report.ok


def test_strategies_drawn_of_other_kinds_are_taken():
    report = gradcheck(np.sin, st.just(np.ones(2)), max_examples=2, raise_exception=False)
    assert report.ok


def test_elements_are_only_compared_with_themselves():
    """Beside another input that is not the same for all of them, every element has edges of its own."""
    inputs = Inputs([np.zeros(3), np.array([-300.0, 0.5, 60.0])])
    near = edges(
        [lambda a, b: np.maximum(a, b) + np.exp(a)], inputs, 0, formats.of("float64"), -1e3, 1e3
    )
    assert any(709.78 < x < 709.79 for x in near)  # exp overflows
    assert {-300.0, 60.0} <= set(near)
    assert len(near) <= 16  # and not wherever one element's part of the range ends


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid", "ignore:divide")
def test_of_all_edges_the_gravest_failure_is_reported():
    """exp(x) / Σ exp(x) loses digits among subnormals, nearer to zero than it overflows."""

    def vjp(v, x):
        return (v - np.exp(x) / np.exp(x).sum() * v.sum(),)

    report = gradcheck(
        lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum()),
        arrays("float32", (4,), min_value=-200, max_value=200),
        vjp=vjp, seed=2, max_examples=12, raise_exception=False,
    )  # fmt: skip
    assert str(report.verdict) == "nonfinite"
