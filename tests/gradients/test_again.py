"""A second check of one function: its programs are known, and hold as long as it is what it was."""

from __future__ import annotations

import gc
import weakref

import pytest

from ffverify.gradients.gradcheck import gradcheck


def of_torch(state):
    torch = pytest.importorskip("torch")

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return state["value"] * x.sin()

        @staticmethod
        def backward(ctx, v):
            return v * state["slope"] * ctx.saved_tensors[0].cos()

    return Scaled.apply, torch.tensor([0.5, -1.25], dtype=torch.float64)


def of_jax(state):
    jax = pytest.importorskip("jax")

    @jax.custom_vjp
    def scaled(x):
        return state["value"] * jax.numpy.sin(x)

    def forward(x):
        return scaled(x), x

    scaled.defvjp(forward, lambda x, v: (v * state["slope"] * jax.numpy.cos(x),))
    return scaled, jax.numpy.array([0.5, -1.25])


RIGHT = {"value": 1.0, "slope": 1.0}
both = pytest.mark.parametrize("made", [of_torch, of_jax])


def verdict(fn, x):
    return str(gradcheck(fn, x, raise_exception=False).verdict)


@both
def test_nothing_is_lowered_again(made, monkeypatch):
    from ffverify.frameworks.jax import lowering as jax_lowering
    from ffverify.frameworks.torch import lowering as torch_lowering

    fn, x = made(RIGHT)
    assert verdict(fn, x) == "correct"

    def refuse(*_):
        raise AssertionError("traced again")

    monkeypatch.setattr(jax_lowering, "lowered", refuse)
    monkeypatch.setattr(torch_lowering, "_lowered", refuse)
    report = gradcheck(fn, x)
    assert (report.truth, report.judged) == ("shadow", 2 * len(report.modes))


@both
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"value": 1.0, "slope": 1.001}, "wrong"),
        ({"value": 1.001, "slope": 1.0}, "wrong"),
        ({"value": 3.0, "slope": 3.0}, "correct"),
    ],
)
def test_what_a_function_has_become_is_judged(made, now, expected):
    state = dict(RIGHT)
    fn, x = made(state)
    assert verdict(fn, x) == "correct"
    state.update(now)
    assert verdict(fn, x) == expected
    state.update(RIGHT)
    assert verdict(fn, x) == "correct"


@both
def test_no_function_is_kept_alive(made):
    fn, x = made(RIGHT)
    verdict(fn, x)
    verdict(fn, x)
    seen = weakref.ref(getattr(fn, "__self__", fn))
    del fn, x
    gc.collect()
    assert seen() is None


def of_layouts():
    """Give a function whose backward may be made to take its input for contiguous, and how to do that."""
    torch = pytest.importorskip("torch")
    state = {"contiguous": False, "scale": 1.0, "calls": 0}

    class Squared(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            state["calls"] += 1
            ctx.save_for_backward(x)
            return state["scale"] * x * x

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            if state["contiguous"]:
                x = torch.as_strided(x, x.shape, torch.empty(x.shape).stride())
            return 2 * state["scale"] * v * x

    x = torch.tensor([[0.5, -1.25, 2.0], [0.75, 1.5, -3.0]], dtype=torch.float64)
    return Squared.apply, x, state


def test_layouts_and_rows_are_asked_once_of_what_has_not_changed():
    fn, x, state = of_layouts()
    calls = []
    for _ in range(3):
        state["calls"] = 0
        assert verdict(fn, x) == "correct"
        calls.append(state["calls"])
    assert calls[1] == calls[2] < calls[0]


def test_layouts_are_asked_again_of_what_computes_something_else():
    fn, x, state = of_layouts()
    assert verdict(fn, x) == verdict(fn, x) == "correct"
    state.update(contiguous=True, scale=3.0)
    assert verdict(fn, x) == "wrong"
    assert verdict(fn, x) == "wrong"


def test_what_breaks_a_law_is_asked_again():
    fn, x, state = of_layouts()
    state.update(contiguous=True)
    assert [verdict(fn, x) for _ in range(3)] == ["wrong"] * 3
