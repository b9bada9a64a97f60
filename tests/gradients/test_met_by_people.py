"""What people met: right code that was accused and wrong code that passed, each with the right answer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck

torch = pytest.importorskip("torch")
F = torch.nn.functional


def f64(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def verdict(fn, inputs, **options):
    return str(gradcheck(fn, inputs, raise_exception=False, **options).verdict)


def said(fn, inputs, **options):
    return str(gradcheck(fn, inputs, raise_exception=False, **options))


# -- values that lose their digits ---------------------------------------------------------------


def dirichlet(u):
    concentration = f64(2.5, 10.0, 2.0, 3.0)
    z = torch.sigmoid(u - torch.log(f64(3.0, 2.0, 1.0)))
    rest = F.pad((1 - z).cumprod(-1), [1, 0], value=1.0)
    return ((concentration - 1) * torch.log(F.pad(z, [0, 1], value=1.0) * rest)).sum()


def truncated_normal(x, loc, scale, low=-20.0, high=-1.0):
    def cdf(z):
        return 0.5 * (1 + torch.erf(z / math.sqrt(2)))

    z, a, b = (x - loc) / scale, (low - loc) / scale, (high - loc) / scale
    return -0.5 * z * z - torch.log(scale) - torch.log(cdf(b) - cdf(a))


def divergence(x, y):
    q, p = x.exp(), y.exp()
    m = 0.3 * p + 0.7 * q
    return (0.3 * p * y + 0.7 * q * x - m * m.log()).sum()


LOGITS = torch.tensor([0.0, -8.317767143249512, -87.3365478515625])


@pytest.mark.parametrize(
    ("fn", "inputs", "expected"),
    [
        (lambda x: torch.log(1 - torch.sigmoid(x)), f64(36.5), "correct"),
        (dirichlet, f64(0.0, 0.0, 36.0), "correct"),
        (truncated_normal, (f64(-2.0), f64(1.0), f64(0.25)), "imprecise"),
        (divergence, (LOGITS, LOGITS.clone()), "imprecise"),
        (
            lambda z: (torch.logsumexp(z, -1) - z[:, 0]).sum(),
            torch.tensor([[40.0, 0, 0], [1e17, 0, 0]], dtype=torch.float64),
            "imprecise",
        ),
    ],
    ids=["log of a difference", "dirichlet", "truncated normal", "divergence", "logsumexp"],
)
def test_the_exact_program_is_kept_where_a_value_loses_its_digits(fn, inputs, expected):
    report = gradcheck(fn, inputs, raise_exception=False)
    kinds = {str(f.kind) for f in report.findings if f.mode != "value"}
    assert (report.truth, kinds - {"correct"}) == ("shadow", {expected} - {"correct"})


# -- exact zeros, tails, underflow ---------------------------------------------------------------


@pytest.mark.parametrize("x", [torch.zeros(5, 3), torch.linspace(-2, 3, 15).reshape(5, 3)])
def test_the_tangent_of_a_summed_batch_norm_is_rounding_beside_zero(x):
    norm = torch.nn.BatchNorm1d(3).double()
    report = gradcheck(lambda x: norm(x).sum(), x.double())
    assert {str(f.kind) for f in report.findings} <= {"imprecise"}
    assert not any(f.computed.lstrip("-") == f.exact for f in report.findings)


def test_the_gradient_of_a_summed_batch_norm_is_rounding_beside_zero():
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64)
    report = gradcheck(lambda x: F.batch_norm(x, None, None, training=True).sum(), x)
    assert str(report.verdict) in ("correct", "imprecise")


def test_a_tail_is_a_warning_at_every_point_of_it():
    report = gradcheck(F.silu, torch.tensor([0, 0, 0, -88.72283935546875]))
    assert str(report.verdict) == "imprecise"
    found = gradcheck(torch.sigmoid, f64(37.0), order=2)
    assert {f.severity for f in found.findings} == {"warning"}


def rms_norm(halved):
    class RMS(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            r = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            ctx.save_for_backward(x, w, r)
            return x * r * w

        @staticmethod
        def backward(ctx, g):
            x, w, r = ctx.saved_tensors
            gw = g * w
            dot = (gw * x).sum(-1, keepdim=True)
            return (r * gw - r**3 * (dot * x) / x.shape[-1]) * halved, (g * x * r).sum(0)

    return RMS.apply


def test_what_underflows_on_the_way_is_a_warning():
    x = torch.tensor([[0.0, 0.0, -0.000244140625], [0.0, 0.0, 9.0], [0.0, 4.0, 0.0]])
    w = torch.tensor([0.0, 0.0, 1.1754942106924411e-38])
    assert gradcheck(rms_norm(1.0), (x, w), raise_exception=False).ok
    assert not gradcheck(rms_norm(0.5), (x, w + 1), raise_exception=False).ok


# -- what a function does beside its numbers ------------------------------------------------------


def test_a_backward_that_reads_its_cotangent_flat_is_wrong():
    class Silu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(x)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            if 0 in g.stride():  # what a kernel with g's pointer and x's strides would read
                flat = torch.zeros(g.numel(), dtype=g.dtype)
                flat[0] = g.flatten()[0]
                g = flat.reshape(x.shape)
            s = torch.sigmoid(x)
            return g * s * (1 + x * (1 - s))

    text = said(Silu.apply, torch.ones(2, 3))
    assert ": wrong" in text.splitlines()[0]
    assert "expanded" in text


def test_overwritten_inputs_are_told_and_the_callers_stay_as_they_are():
    def softmax(x):
        x -= x.max()
        e = np.exp(x)
        return e / e.sum()

    x = np.array([1.0, 2.0, 4.0])
    assert "changes its input x in place" in said(softmax, x)
    assert x.tolist() == [1.0, 2.0, 4.0]
    t = torch.tensor([-1.0, 2.0])
    assert "changes its input v in place" in said(lambda v: v.relu_(), t)
    assert t.tolist() == [-1.0, 2.0]


def test_last_bits_that_differ_from_call_to_call_are_not_random():
    torch.manual_seed(1)
    for _ in range(6):
        a, b = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
        assert gradcheck(lambda a, b: torch.linalg.lstsq(a, b).solution, (a, b)).ok


def test_a_result_that_is_marked_non_differentiable_is_not_judged():
    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            r = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
            ctx.save_for_backward(x, r)
            ctx.mark_non_differentiable(r)
            return x * r, r

        @staticmethod
        def backward(ctx, g, _):
            x, r = ctx.saved_tensors
            return r * g - r**3 * (g * x).mean(-1, keepdim=True) * x

    x = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, 2.0]], dtype=torch.float64)
    report = gradcheck(Norm.apply, x)
    assert str(report.verdict) == "correct"
    assert "result 1" in report.skipped


@pytest.mark.parametrize(
    "fn",
    [lambda x: x.reshape(-1).view(3, 2) ** 2, lambda x: x.view(-1) ** 2,
     lambda x: torch.view_as_complex(x).abs()],
)  # fmt: skip
def test_a_layout_may_be_refused(fn):
    assert gradcheck(fn, torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 2.0]])).ok


def test_a_jvp_that_raises_is_told():
    def failing(tangents, x):
        raise ZeroDivisionError("by zero")

    def vjp(v, x):
        return 2 * v

    assert verdict(lambda x: 2 * x, np.ones(3), vjp=vjp, jvp=failing) == "wrong"


# -- what cannot be told is said -----------------------------------------------------------------


def test_results_that_are_nan_are_told_of():
    """A row of a softmax that is masked as a whole is nan, and nothing of it was checked: "correct"."""
    mask = torch.tensor([[True, False], [False, False]])

    def rows(scores):
        return torch.softmax(scores.masked_fill(~mask, -math.inf), -1)

    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert "not checked: results that are nan (2 of 4 at some input)" in said(rows, scores)
    assert "nan" not in said(lambda s: rows(s)[:1], scores)


@pytest.mark.parametrize(("factor", "expected"), [(1, "imprecise"), (1.01, "wrong")])
def test_a_kernel_that_cancels_in_wider_numbers_too_is_imprecise(factor, expected):
    """1 - 1e-11 is 1 in float32, and its cancellation leaves an error of 4e-6 in float64, too."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            ctx.save_for_backward(*args)
            return F.scaled_dot_product_attention(*args, is_causal=True)

        @staticmethod
        def backward(ctx, g):
            with torch.enable_grad():
                at = [t.detach().requires_grad_() for t in ctx.saved_tensors]
                bars = torch.autograd.grad(
                    F.scaled_dot_product_attention(*at, is_causal=True), at, g
                )
            return tuple(factor * bar for bar in bars)

    q = torch.tensor([[[[0.0, 0.0], [1e12, -9.0], [0.0, 0.0]]]])
    k = torch.tensor([[[[0.0, -4.0], [0.0, 0.0], [0.5, 0.0]]]])
    v = torch.tensor([[[[4.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]])
    assert verdict(Attention.apply, (q, k, v)) == expected
