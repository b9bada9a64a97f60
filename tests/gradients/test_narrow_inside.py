"""What passes through a narrower format inside loses digits of the wider one that it comes out in."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from ffverify import gradcheck, reference

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


def looped(x, fmt):
    y = x.astype(fmt)
    while np.max(np.abs(y)) > 0.4:
        y = fmt(0.75) * y
    return y


def written(x, fmt):
    y = np.empty_like(x, dtype=fmt)
    y[...] = x * x
    y *= x.astype(fmt)
    return y


# Ways into a narrower format: each gives x²-like numbers that are computed there, or are only held there.
WAYS = {
    "astype": lambda x, fmt: np.tanh(x.astype(fmt)),
    "sum": lambda x, fmt: np.sum(x * x, dtype=fmt),
    "method": lambda x, fmt: (x * x).mean(dtype=fmt),
    "strided sum": lambda x, fmt: (x[None, :] * np.linspace(0.5, 1, 200)[:, None]).sum(
        0, dtype=fmt
    ),
    "cumsum": lambda x, fmt: np.cumsum(np.repeat(x, 50), dtype=fmt)[::50],
    "reduce": lambda x, fmt: np.multiply.reduce(x, dtype=fmt),
    "ufunc": lambda x, fmt: np.exp(x, dtype=fmt),
    "two operands": lambda x, fmt: np.add(x, x * x, dtype=fmt),
    "out": lambda x, fmt: np.multiply(x, x, out=np.empty_like(x, dtype=fmt)),
    "concatenate": lambda x, fmt: np.concatenate([x, x * x], dtype=fmt)[2:5],
    "mixed": lambda x, fmt: np.sin(x.astype(fmt)) * fmt(0.75) + x.astype(fmt) * x,
    "a branch": lambda x, fmt: np.tanh(x.astype(fmt)) if x[0] > 0 else x,
    "a loop": looped,
    "written into": written,
}


@pytest.mark.parametrize("narrow", [np.float16, np.float32])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_way_into_a_narrower_format(way, narrow):
    """A right derivative, by the same way, is as precise as that; a factor and a missing term are wrong."""
    wide = np.float32 if narrow is np.float16 else np.float64

    def fn(x):
        return way(x, narrow).astype(wide) * x

    def vjp(v, x, factor=1.0, own=1.0):
        y, pulled = reference.vjp(lambda x: way(x, narrow).astype(wide), x)
        cotangent = v * x * wide(factor)
        (by_way,) = pulled(cotangent if np.ndim(y) else cotangent.sum())
        return (by_way + wide(own) * v * y,)

    report = gradcheck(fn, X.astype(wide), vjp=vjp, raise_exception=False)
    assert {str(f.kind) for f in report.findings} <= {"imprecise"}, str(report)
    assert report.truth == "shadow"
    for mistake in ({"factor": 1.25}, {"own": 0.0}):
        rule = functools.partial(vjp, **mistake)
        bad = gradcheck(fn, X.astype(wide), vjp=rule, raise_exception=False)
        assert bad.verdict == "wrong", str(bad)


def test_what_passes_through_integers_is_a_staircase():
    def fn(x):
        return x * (4 * x).astype(int)

    assert gradcheck(fn, X).verdict == "correct"
    right = gradcheck(fn, X, vjp=lambda v, x: (v * (4 * x).astype(int),))
    assert right.verdict == "correct"
    wrong = gradcheck(fn, X, vjp=lambda v, x: (8 * v * x,), raise_exception=False)
    assert wrong.verdict == "wrong"


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
