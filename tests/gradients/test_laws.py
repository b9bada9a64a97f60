"""Checks beside the numbers, on their own: each with the bug that it alone would see."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.gradients.function_under_test import subject
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.laws.side_checks import side_checks

X = np.array([[0.5, -1.25, 2.0], [1.0, 0.25, -0.5]])


def amiss(fn, *inputs, vjp=None):
    made, native = subject(fn, list(inputs), vjp=vjp, jvp=None)
    return [sentence for _, sentence, _ in side_checks(made, native, made.value(native), 0)]


def cosine(v, x):
    return (v * np.cos(x),)


def for_batches_only(v, x):
    """Another formula for a single row, as kernels for a batch of one have."""
    return (v * np.cos(x) * (1.0 if len(x) > 1 else 1.001),)


def own_memory_only(v, x):
    """Takes every row for memory of its own."""
    return (v * np.cos(x) * (0.5 if 0 in x.strides else 1.0),)


def test_a_right_gradient_has_nothing_amiss():
    assert amiss(np.sin, X, vjp=cosine) == []


@pytest.mark.parametrize(
    ("vjp", "says"),
    [
        (for_batches_only, "last row is another one when that row comes alone"),
        (own_memory_only, "rows expanded from one row"),
    ],
)
def test_wrong_for_one_row_or_shared_rows(vjp, says):
    (sentence,) = amiss(np.sin, X, vjp=vjp)
    assert says in sentence


def test_a_gradient_that_fails_for_one_row():
    def vjp(v, x):
        return (v * np.cos(np.squeeze(x)) if x.shape[0] > 1 else (v * np.cos(x))[1],)

    (sentence,) = amiss(np.sin, X, vjp=vjp)
    assert sentence.startswith("a single row:")


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: np.mean(x * x),  # no rows
        lambda x: x - np.mean(x, axis=0),  # rows that depend on each other
        lambda x: x[::-1] * 2.0,  # rows in another order
        lambda x: np.maximum(x, 5.0),  # nothing moves here
        lambda x: np.reshape(x, (2, 3)) ** 2,  # made for two rows
    ],
)
def test_functions_that_promise_nothing_about_single_rows(fn):
    assert amiss(fn, X) == []


def test_labels_go_with_their_rows():
    labels = np.array([2, 0])

    def nll(x, labels):
        return np.log(np.sum(np.exp(x), axis=1)) - x[np.arange(len(labels)), labels]

    assert amiss(nll, X, labels) == []

    def vjp(v, x, labels):
        p = np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True)
        p[np.arange(len(labels)), labels] -= 1
        return v[:, None] * p / (1 if len(labels) > 1 else 2), None

    (sentence,) = amiss(nll, X, labels, vjp=vjp)
    assert "that row comes alone" in sentence


def test_noise_beside_a_zero_gradient_is_no_change():
    def vjp(v, x):  # exactly zero, up to noise that depends on the layout
        return (v * 1e-17 * (1.0 if x.flags.c_contiguous else -3.0) * np.ones_like(x),)

    softmax_sum = lambda x: np.sum(np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True))  # noqa: E731 - short
    assert amiss(softmax_sum, X, vjp=vjp) == []


def test_what_no_layout_can_be_blamed_for():
    def vjp(v, x):  # what is left of a cancellation of all digits changes with everything
        wild = 1e3 * np.sin(1e17 * x) * (1.0 if x.flags.c_contiguous else -1.0)
        return (v * wild,)

    assert amiss(np.sin, X, vjp=vjp) == []


def test_rows_of_torch_modules():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    assert amiss(layer, torch.tensor(X, dtype=torch.float32)) == []

    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            return v * torch.cos(x) * (1.0 if len(x) > 1 else 2.0)

    (sentence,) = amiss(Late.apply, torch.tensor(X))
    assert "that row comes alone" in sentence


@pytest.mark.parametrize(
    ("scaled", "says"),
    [
        (lambda g, v: g.mul_(v), ["second backward through the same graph"]),
        (lambda g, v: g * v, []),
    ],
)
def test_a_second_backward(scaled, says):
    torch = pytest.importorskip("torch")

    class Loss(torch.autograd.Function):
        """Keeps the gradient forwards, as fused losses do."""

        @staticmethod
        def forward(ctx, x):
            ctx.gradient = x.detach().clone()
            return 0.5 * x.square().sum()

        @staticmethod
        def backward(ctx, v):
            return scaled(ctx.gradient, v)

    found = amiss(Loss.apply, torch.tensor(X))
    assert len(found) == len(says)
    assert all(part in sentence for part, sentence in zip(says, found, strict=True))


def test_a_graph_that_is_walked_once_only():
    torch = pytest.importorskip("torch")

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.gradient = torch.cos(x.detach())
            return torch.sin(x)

        @staticmethod
        def backward(ctx, v):
            gradient, ctx.gradient = ctx.gradient, None  # memory is freed early
            return v * gradient

    assert amiss(Once.apply, torch.tensor(X)) == []


# --- JAX: what holds at all points is asked of its programs --------------------------------------


def jax_sine(backward, forward=None):
    jax = pytest.importorskip("jax")
    sine = jax.custom_vjp(jax.numpy.sin)
    sine.defvjp(forward or (lambda x: (jax.numpy.sin(x), x)), backward)
    return sine, jax.numpy.array([1.0, 0.5, -2.0])


def jax_cos(x):
    return pytest.importorskip("jax").numpy.cos(x)


def clipped(x, v):
    return (v.clip(-3.0, 3.0) * jax_cos(x),)


def for_three_rows_only(x, v):
    return (v * jax_cos(x) * (1.0 if len(x) == 3 else 1.01),)


def squeezed(x, v):
    return (v * jax_cos(x) if len(x) == 3 else (v * jax_cos(x))[0],)


@pytest.mark.parametrize(
    ("backward", "says"),
    [
        (clipped, "is not linear"),
        (for_three_rows_only, "last row is another one when that row comes alone"),
        (squeezed, "a single row: the VJP of"),
        (lambda x, v: (v * v / v * jax_cos(x),), "a zero cotangent gives NaN"),
    ],
)
def test_what_is_amiss_at_all_points_is_told_by_every_check(backward, says):
    sine, x = jax_sine(backward)
    for _ in range(2):
        report = gradcheck(sine, x, raise_exception=False)
        assert [says in str(f) for f in report.findings] == [True], report


def test_it_is_asked_once_and_compiles_nothing(monkeypatch):
    sine, x = jax_sine(lambda x, v: (v * jax_cos(x),))
    shapes = []

    def seen(x):
        if type(x).__module__.startswith("jaxlib"):  # an array: tracers are JAX's own
            shapes.append(x.shape)
        return sine(x)

    assert gradcheck(seen, x).ok
    assert shapes == [(3,)] * len(shapes)
    monkeypatch.setattr("ffverify.gradients.check.lasting_checks", None)
    assert gradcheck(seen, x).ok


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_random_vjp_is_accused_of_nothing_else(where):
    rng = np.random.default_rng(0)

    def noise(x, here):
        return rng.uniform(0.5, 1.5, x.shape) if where == here else 1.0

    sine, x = jax_sine(
        lambda saved, v: (v * jax_cos(saved[0]) * saved[1] * noise(v, "backward"),),
        lambda x: (sine(x), (x, noise(x, "forward"))),
    )
    report = gradcheck(sine, x, raise_exception=False)
    assert [str(f.kind) for f in report.findings] == ["inconclusive"]
    assert "two calls of the VJP on the same input differ" in str(report)


def test_a_mode_that_is_refused_is_not_tried_again(monkeypatch):
    sine, x = jax_sine(lambda x, v: (v * jax_cos(x),))
    first = gradcheck(sine, x)
    monkeypatch.setattr("ffverify.frameworks.jax.FRAMEWORK.jvp", None)
    again = gradcheck(sine, x)
    assert (again.skipped, again.modes) == (first.skipped, ("reverse",))
    assert "custom_vjp" in again.skipped["forward"]


@pytest.mark.parametrize(("factor", "verdict"), [(1, "correct"), (2, "wrong")])
def test_a_result_for_every_row_is_no_function_of_rows(factor, verdict):
    def rows(x):
        return tuple(np.sin(x))

    def vjp(v, x):
        return (factor * np.stack(v) * np.cos(x),)

    x = np.linspace(0.1, 1, 9).reshape(3, 3)
    report = gradcheck(rows, x, vjp=vjp, raise_exception=False)
    assert str(report.verdict) == verdict


@pytest.mark.parametrize("how", ["right", "crashes", "drops the other", "swaps"])
def test_results_of_which_one_alone_is_used(how):
    torch = pytest.importorskip("torch")

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(x)
            return torch.sin(x), torch.cos(x)

        @staticmethod
        def backward(ctx, a, b):
            (x,) = ctx.saved_tensors
            if how != "crashes" and (a is None or b is None):
                if how == "drops the other":
                    return None if a is None else a * torch.cos(x)
                a, b = (torch.zeros_like(x) if v is None else v for v in (a, b))
                a, b = (b, a) if how == "swaps" else (a, b)
            return a * torch.cos(x) - b * torch.sin(x)

    sentences = amiss(Both.apply, torch.tensor(X))
    says = {
        "right": [],
        "crashes": ["a loss of result 0 alone: the VJP of Both raised TypeError"],
    }.get(how, ["do not add up to that of all of them"])
    assert len(sentences) == len(says)
    assert all(said in sentence for said, sentence in zip(says, sentences, strict=True))


def test_many_results_are_used_alone_or_together_with_the_rest():
    torch = pytest.importorskip("torch")
    assert amiss(lambda x: list(torch.sin(x).ravel()) * 2, torch.tensor(X)) == []


@pytest.mark.parametrize("how", ["right", "wrong", "none", "crashes"])
def test_gradients_by_an_input_that_alone_requires_one(how):
    torch = pytest.importorskip("torch")

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            if how == "crashes":
                ctx.b = b if ctx.needs_input_grad[1] else None
            return a * b

        @staticmethod
        def backward(ctx, v):
            a, b = ctx.saved_tensors
            by_a = v * (ctx.b if how == "crashes" else b)
            if all(ctx.needs_input_grad):
                return by_a, v * a
            if how == "none":
                return None, None
            return by_a, v * (b if how == "wrong" else a)

    a = torch.tensor([1.0, 2.0], dtype=torch.float64)
    says = {
        "right": [],
        "wrong": ["the gradient by input 1 is another one where it alone is asked for"],
        "none": ["the gradient by input 0 is another one where it alone is asked for"],
        "crashes": ["a gradient by input 0 alone: the VJP of Product raised TypeError"],
    }
    found = amiss(Product.apply, a, 2 + a**2)
    assert [sentence.split(":")[0] for sentence in found] == [s.split(":")[0] for s in says[how]]
