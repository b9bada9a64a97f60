"""What a new user tries first, and what the answer is."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays, labels

torch = pytest.importorskip("torch")
ONES = torch.ones(3)
UPSIDE = {"a": torch.ones(2)}


def ask(fn, inputs, **options):
    """Give the verdict, and what the report says; of a refusal its sentence."""
    try:
        report = gradcheck(fn, inputs, raise_exception=False, **options)
    except TypeError as error:
        return "refused", str(error)
    return str(report.verdict), str(report)


def squared_error(z, y):
    return ((z - y) ** 2).sum()


def raising(tangents, x):
    return 1 / 0


ASKED = {
    "a Python float": (lambda x, s: x * s, (ONES, 3.0), {}, "correct", ""),
    "None from vjp=": (
        squared_error, (np.ones(3), np.zeros(3)), {"vjp": lambda d, z, y: (d * 2 * (z - y), None)},
        "correct", "not differentiated: y",
    ),
    "a list of tensors": (lambda p: p[0] * p[1], ([ONES, ONES],), {}, "correct", "torch's autograd"),
    "a jvp= that raises": (
        lambda x: x * 2, np.ones(3), {"vjp": lambda d, x: 2 * d, "jvp": raising},
        "wrong", "ZeroDivisionError",
    ),
    "a sparse tensor": (lambda s: s.to_dense(), torch.eye(3).to_sparse(), {}, "refused", "is sparse"),
    "complex inside": (lambda v: torch.view_as_complex(v).abs(), torch.ones(3, 2), {}, "correct", ""),
    "an input overwritten": (
        lambda x: x.add_(1).sum(), torch.zeros(3), {}, "wrong", "changes its input x in place",
    ),
    "a cancelling loss": (
        lambda z: (torch.logsumexp(z, -1) - z[:, 0]).sum(),
        torch.tensor([[40.0, 0, 0], [1e17, 0, 0]], dtype=torch.float64), {}, "imprecise", "",
    ),
    "one that requires no gradient": (
        lambda a, b: a * b.detach(), (torch.ones(2, requires_grad=True), torch.ones(2)), {},
        "correct", "not differentiated: b",
    ),
    "a complex result": (torch.fft.rfft, torch.ones(4), {}, "correct", ""),
    "a complex input": (lambda z: z.abs().sum(), torch.tensor([1 + 2j]), {}, "correct", ""),
    "a dict": (lambda d: d["a"], UPSIDE, {}, "correct", ""),
    "a definition that is another function's": (
        lambda x: np.tanh(x) + 1, np.ones(3), {"truth": np.tanh}, "wrong", "f[0]",
    ),
    "None": (lambda x, m: x * 2, (ONES, None), {}, "correct", ""),
    "labels of torch": (
        torch.nn.functional.cross_entropy,
        (arrays("float32", (3, 4), min_value=-5, max_value=5, framework="torch"), labels((3,), 4)),
        {"max_examples": 5}, "correct", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fn", "inputs", "options", "verdict", "words"), ASKED.values(), ids=ASKED)
def test_what_people_try_first(fn, inputs, options, verdict, words):
    found, text = ask(fn, inputs, **options)
    assert found == verdict, text
    assert words in text


def test_an_input_is_what_it_was_although_the_function_overwrites_it():
    x = torch.tensor([-1.0, 2.0])
    assert ask(lambda v: v.relu_(), x)[0] == "wrong"
    assert x.tolist() == [-1.0, 2.0]


def test_a_key_alone_is_nothing_to_differentiate_by():
    jax = pytest.importorskip("jax")
    verdict, text = ask(jax.numpy.tanh, jax.random.key(0))
    assert verdict == "refused"
    assert text.endswith("there is no array of numbers among them: give real floats")
    assert "\n" not in text


class Divergence(torch.autograd.Function):
    """The gradient of the teacher, y, is left out."""

    @staticmethod
    def forward(ctx, x, y):
        q, p = x.exp(), y.exp()
        m = 0.3 * p + 0.7 * q
        ctx.save_for_backward(x, q, m)
        return (0.3 * p * y + 0.7 * q * x - m * m.log()).sum()

    @staticmethod
    def backward(ctx, g):
        x, q, m = ctx.saved_tensors
        return g * 0.7 * q * (x - m.log()), None


def test_a_gradient_that_is_left_out_is_shown_where_it_is_large():
    drawn = arrays("float32", (1, 3), min_value=-120, max_value=0, framework="torch")
    report = gradcheck(Divergence.apply, (drawn, drawn), max_examples=60, raise_exception=False)
    found = report.findings[0]
    assert (str(found.kind), float(found.computed)) == ("wrong", 0.0)
    assert abs(float(found.exact)) > 1e-3
    assert "zero gradient" in found.hint
