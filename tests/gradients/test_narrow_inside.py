"""What passes through a narrower format inside loses digits of the wider one that it comes out in."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify import gradcheck

X = np.array([0.3, -1.2, 0.7])


def through(narrow, wide):
    """Give x·tanh(x), its tanh in a narrower format."""
    return lambda x: np.tanh(x.astype(narrow)).astype(wide) * x


@pytest.mark.parametrize(
    ("narrow", "wide"), [("float16", "float64"), ("float32", "float64"), ("float16", "float32")]
)
def test_numpy(narrow, wide):
    report = gradcheck(through(narrow, wide), X.astype(wide), raise_exception=False)
    # Beside float64 float32 keeps about half the digits, where an exact program is told from another.
    assert report.verdict != "correct"
    assert not report.ok or narrow == "float32"
    assert gradcheck(through(wide, wide), X.astype(wide)).verdict == "correct"


def test_a_gradient_of_the_callers():
    def vjp(v, x):
        return ((3 * v * x * x).astype(np.float16).astype(np.float64),)

    assert not gradcheck(lambda x: x**3, X, vjp=vjp, raise_exception=False).ok
    assert gradcheck(lambda x: x**3, X, vjp=lambda v, x: (3 * v * x * x,)).verdict == "correct"


def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    assert not gradcheck(lambda x: x.half().tanh().double() * x, x, raise_exception=False).ok
    assert gradcheck(lambda x: x.tanh() * x, x).verdict == "correct"


def test_second_order_under_autocast_is_judged_in_its_format():
    """Gradients come out in float32, and were bfloat16 inside, as the result was."""
    torch = pytest.importorskip("torch")
    weight = torch.tensor([[0.5, -1.25, 0.75], [2.0, 0.3, -0.6]])
    x = torch.tensor([[0.3, -1.2, 0.7], [1.1, 0.2, -0.4]])

    class Slope(torch.autograd.Function):
        """The derivative of 3x², with a second derivative of its own."""

        @staticmethod
        def forward(ctx, x, g, factor):
            ctx.save_for_backward(x, g)
            ctx.factor = factor
            return 6 * g * x

        @staticmethod
        def backward(ctx, v):
            x, g = ctx.saved_tensors
            return ctx.factor * 6 * g * v, 6 * x * v, None

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.save_for_backward(x)
            ctx.factor = factor
            return 3 * x * x

        @staticmethod
        def backward(ctx, g):
            return Slope.apply(*ctx.saved_tensors, g, ctx.factor), None

    def layer(factor):
        return lambda x, w: torch.nn.functional.linear(Square.apply(x, factor), w)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        right, wrong = (
            gradcheck(layer(f), (x, weight), order=2, modes=("reverse",), raise_exception=False)
            for f in (1.0, 1.5)
        )
    assert right.ok, str(right)
    assert right.truth == "shadow"
    assert not wrong.ok
