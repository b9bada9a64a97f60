"""A second check of one function: its programs are known, and hold as long as it is what it was."""

from __future__ import annotations

import functools
import gc
import weakref

import numpy as np
import pytest

from ffverify.gradients.given.memory import memory_of
from ffverify.gradients.gradcheck import gradcheck

SHARED = np.ones(3)


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
    monkeypatch.setattr(torch_lowering, "record", refuse)
    report = gradcheck(fn, x)
    assert (report.truth, report.judged) == ("shadow", 2 * len(report.modes))


@both
def test_a_function_that_is_made_anew_is_known(made, monkeypatch):
    from ffverify.frameworks.jax import lowering as jax_lowering
    from ffverify.frameworks.torch import lowering as torch_lowering

    fn, x = made(RIGHT)

    def again():
        return gradcheck(lambda x: fn(x), x, raise_exception=False)  # noqa: PLW0108 - another object

    assert str(again().verdict) == "correct"

    def refuse(*_):
        raise AssertionError("traced again")

    monkeypatch.setattr(jax_lowering, "lowered", refuse)
    monkeypatch.setattr(torch_lowering, "_lowered", refuse)
    report = again()
    assert (report.truth, report.judged) == ("shadow", 2 * len(report.modes))


def rows_of_jax(factor):
    jax = pytest.importorskip("jax")

    def rows(x):
        @jax.custom_vjp
        def square(x):
            return x * x

        def backward(x, v):
            return (2 * v * x * (factor if len(x) == 1 else 1.0),)

        square.defvjp(lambda x: (x * x, x), backward)
        return square(x)

    return rows, jax.numpy.array([[0.5, -1.25, 2.0], [0.75, 1.5, -3.0]])


def rows_of_torch(factor):
    torch = pytest.importorskip("torch")

    def rows(x):
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x

            @staticmethod
            def backward(ctx, v):
                (x,) = ctx.saved_tensors
                return 2 * v * x * (factor if len(x) == 1 else 1.0)

        return Square.apply(x)

    return rows, torch.tensor([[0.5, -1.25, 2.0], [0.75, 1.5, -3.0]], dtype=torch.float64)


@pytest.mark.parametrize("made", [rows_of_jax, rows_of_torch])
@pytest.mark.parametrize("bound", [False, True])
def test_one_of_the_same_code_that_captured_something_else_is_asked_everything(made, bound):
    """Of what the other one was asked once at any inputs too: here whether a row is the same alone."""

    def checked(factor):
        fn, x = made(factor)
        return verdict(functools.partial(fn) if bound else fn, x)

    assert [checked(f) for f in (1.0, 1.0, 3.0, 1.0, 3.0)] == [
        "correct", "correct", "wrong", "correct", "wrong"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0, True),
        (1.0, 1, False),
        (0.0, -0.0, False),
        ((1, "a"), (1, "a"), True),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": [1]}, {"a": [2]}, False),
        (np.float32(1), np.float64(1), False),
        (np.ones(3), np.ones(3), False),
        (SHARED, SHARED, True),
        (np.zeros(2**17), np.zeros(2**17), False),
        (object(), object(), False),
        (lambda x: x, lambda x: x, False),
    ],
)
def test_what_was_captured_tells_functions_apart(one, other, same):
    def capturing(value):
        return lambda x: (x, value)

    assert (memory_of(capturing(one)) is memory_of(capturing(other))) == same


def test_memory_is_bounded_and_what_captures_itself_has_its_own():
    def numbered(i):
        return lambda x: x + i

    first = memory_of(numbered(0))
    for i in range(200):
        memory_of(numbered(i))
    assert memory_of(numbered(0)) is not first

    def endless(x):
        return endless(x)

    def again():
        def endless(x):
            return endless(x)

        return endless

    assert memory_of(endless) is memory_of(endless)
    assert memory_of(again()) is not memory_of(again())


def test_code_outside_of_modules_has_globals_of_its_own():
    functions = []
    for factor in (1.0, 2.0):
        namespace = {"factor": factor, "__name__": __name__}
        exec("fn = lambda x: x * factor", namespace)  # noqa: S102 - what notebooks and corpora do
        functions.append(namespace["fn"])
    assert memory_of(functions[0]) is not memory_of(functions[1])


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
@pytest.mark.parametrize("anew", [False, True])
def test_no_function_is_kept_alive(made, anew):
    fn, x = made(RIGHT)
    for _ in range(2):
        verdict(functools.partial(fn) if anew else fn, x)
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


def of_rows(backward, jvp=None):
    """Give an autograd.Function of its own class: rows times 3, beside derivatives of the caller's."""
    torch = pytest.importorskip("torch")
    body = {"forward": lambda ctx, x: 3 * x, "backward": lambda ctx, v: backward(v)}
    body |= {} if jvp is None else {"jvp": lambda ctx, d: jvp(d)}
    cls = type("Rows", (torch.autograd.Function,), {k: staticmethod(f) for k, f in body.items()})
    return cls.apply, torch.tensor([[0.5, -1.25], [0.75, 1.5]], dtype=torch.float64)


def test_functions_made_anew_of_the_same_code_are_asked_their_laws_once():
    fn, x = of_rows(lambda v: 3 * v.reshape(-1).reshape(v.shape))
    counts = []
    for _ in range(3):
        calls = []
        assert verdict(lambda x, calls=calls: calls.append(0) or fn(x), x) == "correct"
        counts.append(len(calls))
    assert counts[1] == counts[2] < counts[0]


def test_other_code_that_executes_the_same_is_asked_the_laws():
    right, x = of_rows(lambda v: 3 * v.reshape(-1).reshape(v.shape))
    assert verdict(right, x) == "correct"
    reads_memory, x = of_rows(lambda v: 3 * v.as_strided(v.shape, (2, 1)))
    assert verdict(reads_memory, x) == "wrong"
    views, x = of_rows(lambda v: 3 * v.view(-1).view(v.shape))
    assert verdict(views, x) == "wrong"


def test_other_code_that_executes_the_same_backward_is_asked_its_jvp():
    backward = lambda v: 3 * v  # noqa: E731
    right, x = of_rows(backward, lambda d: 3 * d)
    report = gradcheck(right, x)
    assert report.modes == ("reverse", "forward")
    wrong, x = of_rows(backward, lambda d: 2 * d)
    assert verdict(wrong, x) == "wrong"
    none, x = of_rows(backward)
    assert gradcheck(none, x).modes == ("reverse",)


class Cubed:
    """A NumPy function with a VJP, which may be made wrong, and how often that is called."""

    slope, calls = 3.0, 0

    def value(self, x):
        return x * x * x

    def vjp(self, v, x):
        self.calls += 1
        return self.slope * v * x * x

    def verdict(self):
        self.calls = 0
        x = np.array([[0.5, -1.25], [0.75, 1.5]])
        return str(gradcheck(self.value, x, vjp=self.vjp, raise_exception=False).verdict)


def test_a_numpy_function_and_its_vjp_are_asked_their_laws_once():
    cubed, counts = Cubed(), []
    for _ in range(3):
        assert cubed.verdict() == "correct"
        counts.append(cubed.calls)
    assert counts[1] == counts[2] < counts[0]


def test_what_a_vjp_of_a_numpy_function_has_become_is_judged():
    cubed = Cubed()
    assert cubed.verdict() == "correct"
    cubed.slope = 3.001
    assert cubed.verdict() == "wrong"
    cubed.slope = 3.0
    assert cubed.verdict() == "correct"


def test_another_vjp_of_the_same_function_is_asked_its_laws():
    def cubed(x):
        return x * x * x

    def contiguous(v, x):
        if not v.flags.c_contiguous:
            raise ValueError("give a contiguous cotangent")
        return 3 * v * x * x

    x = np.array([[0.5, -1.25], [0.75, 1.5]])
    assert gradcheck(cubed, x, vjp=lambda v, x: 3 * v * x * x).ok
    report = gradcheck(cubed, x, vjp=contiguous, raise_exception=False)
    assert str(report.verdict) == "wrong"


def test_no_numpy_function_is_kept_alive():
    cubed = Cubed()
    assert cubed.verdict() == cubed.verdict() == "correct"
    seen = weakref.ref(cubed)
    del cubed
    gc.collect()
    assert seen() is None
