"""Shadows of torch programs: what autograd executes, run on exact numbers."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ffverify import strategies  # noqa: E402 - after the skip
from ffverify.exact import formats  # noqa: E402 - after the skip
from ffverify.exact.arithmetic import BALLS, MPMATH  # noqa: E402
from ffverify.exact.arrays import PreciseArray  # noqa: E402
from ffverify.frameworks.framework import framework  # noqa: E402
from ffverify.frameworks.shadow import Shadow  # noqa: E402
from ffverify.frameworks.torch import lowering  # noqa: E402
from ffverify.frameworks.torch.tape import Tape  # noqa: E402
from ffverify.gradients.gradcheck import gradcheck  # noqa: E402
from ffverify.truth import derivatives as truth  # noqa: E402 - after the skip
from tests.bounds import running_bound  # noqa: E402
from tests.shadow_coverage import _beyond as beyond  # noqa: E402
from tests.shadow_coverage import check as coverage_check  # noqa: E402

F = torch.nn.functional
F64 = formats.of("float64")


def normal(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def made(fn: Callable[..., Any], *args: Any) -> Shadow:
    return Shadow(fn, args, framework="torch")


def precise(args: Any, arithmetic: Any = BALLS) -> list[Any]:
    return [
        arithmetic.array(a.double().numpy()) if a.is_floating_point() else a.numpy() for a in args
    ]


def floats(x: Any) -> Any:
    return np.vectorize(float, otypes=[float])(x.values) if isinstance(x, PreciseArray) else x


def within(bound: Any, exact: Any, computed: Any) -> bool:
    """Tell whether results are as near to the exact ones, rounded once, as their roundings allow."""
    if not isinstance(bound, np.ndarray) or bound.dtype != object:  # integers
        return np.array_equal(exact, computed)
    slack = np.array([float(b.abs_upper()) for b in bound.ravel()]).reshape(bound.shape)
    assert np.isfinite(slack).all()  # or nothing is compared
    return bool(np.all(np.abs(exact - computed) <= slack + F64.unit_roundoff * np.abs(exact)))


def check(fn: Callable[..., Any], *args: Any) -> Shadow:
    """Value and gradient of the shadow are torch's, and the gradient is the value's derivative."""
    program = made(fn, *args)
    assert program.forward is not None, program.unknown
    assert program.backward is not None, program.unknown
    forward = program.forward
    computed = fn(*(a.clone() for a in args))
    computed = computed if isinstance(computed, tuple) else (computed,)
    drawn = [normal(*v.shape, seed=5) if v.is_floating_point() else None for v in computed]
    cotangents = [v for v in drawn if v is not None]
    plain = [a.numpy() for a in args]
    given = [*plain, *(v.numpy() for v in cotangents)]
    gradients = framework("torch").vjp(fn, args, drawn)
    allowed = running_bound(forward, plain, F64), running_bound(program.backward, given, F64)
    for arithmetic in (BALLS, MPMATH):
        with arithmetic.precision(128):
            exact = (
                forward(*precise(args, arithmetic)),
                program.backward(*precise([*args, *cotangents], arithmetic)),
            )
        for programs in zip(exact, (computed, gradients), allowed, strict=True):
            for found, native, bound in zip(*programs, strict=True):
                assert within(bound, floats(found), native.detach().numpy())
    tangents = [normal(*a.shape, seed=6).numpy() if a.is_floating_point() else None for a in args]
    floating = [k for k, r in enumerate(computed) if r.is_floating_point()]

    def weighed(*xs: Any) -> Any:
        out = forward(*xs)
        return sum(np.sum(out[k] * v.numpy()) for k, v in zip(floating, cotangents, strict=True))

    derivative = truth.directional(weighed, [a.numpy() for a in args], tangents, F64)
    backward = program.backward

    def pulled(*given: Any) -> Any:
        moved = [t for t in tangents if t is not None]
        return sum(np.sum(b * t) for b, t in zip(backward(*given), moved, strict=True))

    with BALLS.precision(
        128
    ):  # constants of the formula, such as 1/√2, are rounded as its results are
        apart = pulled(*precise([*args, *cotangents])).values[()] - derivative.exact.ravel()[0]
    assert apart.abs_upper() <= running_bound(pulled, given, F64)[0][()]
    return program


LABELS = torch.tensor([1, 0, 3])
TARGETS = torch.tensor([[1, 0, -1, 2]] * 3)
STATISTICS = torch.zeros(4).double(), torch.ones(4).double()
ZEROS = torch.zeros(3, 4).double()
TURNS = torch.polar(torch.ones(3, 2).double(), normal(3, 2, seed=3))
complex_of, parts = torch.view_as_complex, torch.view_as_real


def rotated(x: Any) -> Any:
    """Turn pairs of features, as Llama's rotary embedding does."""
    return parts(complex_of(x.reshape(3, 2, 2)) * TURNS).flatten(1)


CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "relu": (F.relu, [normal(3, 4)]),
    "gelu": (F.gelu, [normal(3, 4)]),
    "silu": (F.silu, [normal(3, 4)]),
    "mish": (F.mish, [normal(3, 4)]),
    "elu": (F.elu, [normal(3, 4)]),
    "softplus": (F.softplus, [normal(3, 4)]),
    "softshrink": (F.softshrink, [normal(3, 4)]),
    "prelu": (F.prelu, [normal(3, 4), normal(4, seed=1)]),
    "glu": (F.glu, [normal(3, 4)]),
    "log_softmax": (lambda x: F.log_softmax(x, -1), [normal(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, LABELS, label_smoothing=0.1), [normal(3, 4)]),
    "linear": (F.linear, [normal(3, 4), normal(2, 4, seed=1), normal(2, seed=2)]),
    "layer_norm": (lambda x, w: F.layer_norm(x, (4,), w), [normal(3, 4), normal(4, seed=1)]),
    "batch_norm": (lambda x: F.batch_norm(x, *STATISTICS, training=True), [normal(3, 4)]),
    "multi_margin_loss": (lambda x: F.multi_margin_loss(x, LABELS), [normal(3, 4)]),
    "multilabel_margin_loss": (lambda x: F.multilabel_margin_loss(x, TARGETS), [normal(3, 4)]),
    "bilinear": (F.bilinear, [normal(3, 4), normal(3, 2, seed=1), normal(2, 4, 2, seed=2)]),
    "pdist": (lambda x: F.pdist(x, 3.0), [normal(3, 4)]),
    "conv2d": (
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=2),
        [normal(1, 4, 5, 5), normal(2, 2, 3, 3, seed=1)]),
    "conv_transpose1d": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2, dilation=2),
        [normal(1, 2, 4), normal(2, 3, 2, seed=1)]),
    "columns of windows": (lambda x: F.unfold(x, 2, padding=1, stride=2), [normal(1, 2, 4, 4)]),
    "unfold of a number": (lambda x: x.sum().unfold(0, 1, 1), [normal(3)]),
    "matmul of none": (lambda x, w: (x @ w).reshape(-1, 3), [normal(2, 0), normal(0, 3)]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, stride=2, padding=1, ceil_mode=True), [normal(1, 2, 6)]),
    "max": (lambda x: F.softmax(x, -1).max(-1).values, [normal(3, 4)]),
    "sort": (lambda x: (x * x).sort(0, descending=True).values, [normal(3, 4)]),
    "searchsorted": (
        lambda x, y: y * x.gather(1, torch.searchsorted(x.exp().cumsum(1), y, right=True).clamp(max=3)),
        [normal(3, 4), 3 * normal(3, 2, seed=1)]),
    "cumulative": (lambda x: x.cumsum(0) * x.cumprod(1), [normal(3, 4)]),
    "indices": (lambda x: x[[0, 2]][:, 1:] * x[LABELS.clamp(max=2), LABELS][:, None][:2], [normal(3, 4)]),
    "einsum": (lambda x: torch.einsum("ij,kj->ik", x, x).tril(), [normal(3, 4)]),
    "solve": (lambda x: torch.linalg.solve(x @ x.T + torch.eye(3).double(), x), [normal(3, 4)]),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=1), [normal(3, 4)]),
    "two results": (lambda x: (x.exp(), x.argmax(1), x.sum()), [normal(3, 4)]),
    "index_reduce": (
        lambda x: ZEROS.index_reduce(1, LABELS, x[:, :3], "mean", include_self=False), [normal(3, 4)]),
    "rotary embedding": (rotated, [normal(3, 4)]),
    "complex products": (
        lambda z, w: parts(complex_of(z) @ complex_of(w).mH), [normal(3, 2, 2), normal(4, 2, 2)]),
    "complex quotient": (
        lambda x, y: parts(torch.complex(x, y) / (x - 2j * y + 1)), [normal(3), normal(3, seed=1)]),
    "complex sizes": (
        lambda x, y: torch.polar(x.exp(), y).sum().abs() + (torch.complex(x, y) ** 2).angle(),
        [normal(3), normal(3, seed=1)]),
    "complex moves": (
        lambda z: parts(torch.cat([complex_of(z).T, complex_of(z).conj()])[1:].roll(1, 0).mean(1)),
        [normal(3, 3, 2)]),
    "complex choice in place": (
        lambda z: parts(torch.where(z[..., 0] > 0, complex_of(z), 1 / complex_of(z)).mul_(1j)),
        [normal(3, 2)]),
    "complex exponentials": (
        lambda z: parts(complex_of(z).exp() - complex_of(z).sgn().sum()), [normal(3, 2)]),
    "complex linear": (
        lambda z, w, b: parts(F.linear(complex_of(z), complex_of(w), complex_of(b))),
        [normal(3, 4, 2), normal(2, 4, 2, seed=1), normal(2, 2, seed=2)]),
    "scatter": (lambda x: ZEROS.scatter_add(1, LABELS[:, None], x[:, :1]), [normal(3, 4)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str) -> None:
    fn, args = CASES[name]
    check(fn, *args)


def test_a_rotation_that_is_not_turned_back_is_wrong() -> None:
    class Rotated(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, back: Any) -> Any:
            ctx.back = back
            return rotated(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return parts(complex_of(g.contiguous().reshape(3, 2, 2)) * ctx.back).flatten(1), None

    def verdict(back: Any) -> str:
        fn = lambda x: Rotated.apply(x, back)  # noqa: E731
        report = gradcheck(fn, normal(3, 4), raise_exception=False, modes=("reverse",))
        assert report.truth == "shadow"
        return str(report.verdict)

    assert verdict(TURNS.conj()) == "correct"
    assert verdict(TURNS) == verdict(TURNS.conj() * (1 + 1e-13)) == "wrong"


def test_in_place_operations_and_views() -> None:
    def program(x: Any) -> Any:
        y = x.clone()
        y[0] = y[0].sigmoid()
        y[:, 1].mul_(3)
        y.view(-1)[2:5] += x.sum()
        return y.t().contiguous()

    check(program, normal(3, 4))


def test_moves_one_after_another_and_what_is_computed_twice() -> None:
    def program(x: Any, y: Any) -> Any:
        a = x.t().reshape(2, 6)[:, ::2].unsqueeze(0).expand(2, 2, 3)
        b = torch.stack([y[0], y.flip(0)[1], y[1, 0].unsqueeze(0).expand(2)])[:2].unsqueeze(-1)
        return torch.cat([a, a * b], -1).permute(2, 0, 1) + x.exp().sum() * x.exp().mean()

    check(program, normal(3, 4), normal(2, 2))


def test_the_backward_of_a_custom_function_is_the_callers() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:  # type: ignore[override]
            (x,) = ctx.saved_tensors
            return g * (1 - torch.tanh(x))  # the square is missing

    x = torch.tensor([0.5, -1.0], dtype=torch.float64)
    program = made(Wrong.apply, x)
    assert program.backward is not None
    with BALLS.precision(128):
        (bar,) = program.backward(*precise([x, torch.ones(2).double()]))
        own = 1 - np.tanh(BALLS.array(x.numpy()))
    assert all(a.overlaps(b) for a, b in zip(bar.values, own.values, strict=True))


def test_branches_are_those_of_the_point() -> None:
    def branching(x: Any) -> Any:
        return x * 2 if x.sum() > 0 else x**2

    program = made(branching, torch.ones(2).double())
    assert program.forward is not None
    np.testing.assert_array_equal(floats(program.forward(BALLS.array(np.ones(2)))[0]), [2, 2])


@pytest.mark.parametrize(
    ("fn", "named"),
    [
        (lambda x: F.dropout(x, 0.5), "bernoulli"),
        (torch.linalg.svdvals, "_linalg_svd"),
        (lambda x: torch.from_numpy(2 * x.detach().numpy()) + 0 * x, "leaves the graph"),
        (lambda x: x * x.max().item(), "leaves the graph"),
        (lambda x: torch.fft.rfft(x).sqrt().abs(), "sqrt on complex numbers"),
    ],
)
def test_what_has_no_exact_form_is_named(fn: Callable[..., Any], named: str) -> None:
    program = made(fn, normal(3, 3))
    assert program.forward is None
    assert any(named in u for u in program.unknown), program.unknown


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_leaves_the_graph_is_seen_in_every_format(dtype: Any) -> None:
    x = torch.tensor([0.5, 1.25, -2.0], dtype=dtype)
    assert made(lambda x: x * float(x.detach().double().max()), x).forward is None
    assert made(lambda x: x * x.detach().max(), x).forward is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_torch_computes_is_within_the_running_bound(dtype: Any) -> None:
    fmt = formats.of(dtype)
    x, W, b = (
        normal(5, 8, dtype=dtype),
        normal(6, 8, dtype=dtype, seed=1),
        normal(6, dtype=dtype, seed=2),
    )
    labels = torch.tensor([0, 5, 2, 3, 1])

    def loss(x: Any, W: Any, b: Any) -> Any:
        return F.cross_entropy(F.gelu(F.linear(x, W, b)), labels)

    program = Shadow(loss, [x, W, b], framework="torch")
    assert program.backward is not None
    one = torch.ones((), dtype=dtype)
    points = [a.double().numpy() for a in (x, W, b, one)]
    bars = framework("torch").vjp(loss, [x, W, b], [one])
    bounds = running_bound(program.backward, points, fmt)
    with BALLS.precision(256):
        exact = program.backward(*map(BALLS.array, points))
        for native, e, bound in zip(bars, exact, bounds, strict=True):
            for c, t, r in zip(
                native.double().ravel().tolist(), e.values.ravel(), bound.ravel(), strict=True
            ):
                assert abs(t - c) <= r
                assert r < 4000 * fmt.unit_roundoff  # far from a sign error in gradients of 0.1


def test_the_formula_that_runs_is_the_one_that_is_bounded() -> None:
    """At -17 torch's loss with logits is -17 + 17.00000004; another formula has a smaller bound."""
    z, y = torch.tensor([-17.0]).double(), torch.tensor([0.0]).double()

    def loss(z: Any, y: Any) -> Any:
        return F.binary_cross_entropy_with_logits(z, y, reduction="none")

    assert not beyond(made(loss, z, y).forward, [z.numpy(), y.numpy()], [loss(z, y).numpy()])
    other = made(lambda z, y: F.softplus(z) - z * y, z, y).forward
    assert beyond(other, [z.numpy(), y.numpy()], [loss(z, y).numpy()])


@pytest.mark.parametrize("seed", range(4))
def test_roundings_that_cancel_are_no_value_that_leaves_the_graph(seed: int) -> None:
    """Along a tangent of ones the JVP of layer_norm is a sum of terms that cancel: it is all roundings."""
    x, w = normal(3, 4, seed=seed), normal(4, 4, seed=seed + 50)
    program = made(lambda x, w: F.layer_norm(x @ w, (4,)), x, w)
    assert program.jvp is not None, program.unknown


class Counter(torch.nn.Module):
    """Changes a tensor of its own, then uses it, through a view as well."""

    def forward(self, x: Any) -> Any:
        held = torch.zeros(2, 2, dtype=x.dtype)
        held[0].add_(x)
        held.mul_(2)
        constant = torch.tensor(3.0, dtype=x.dtype)
        constant.add_(1)
        return (held.sum(0) * constant).sin_()


def test_tensors_that_the_program_changes() -> None:
    check(Counter(), normal(2))


def test_a_constant_from_outside_is_taken_as_it_was() -> None:
    scale = torch.ones(2).double()

    def fn(x: Any) -> Any:
        scale.mul_(2)
        return x * scale

    x = normal(2)
    program = made(fn, x)
    assert program.forward is None  # it is no function: every call gives another value


class Scaled(torch.autograd.Function):
    """The identity, whose value or gradient is off by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Any, value: float, slope: float) -> Any:
        ctx.slope = slope
        return x * value

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # type: ignore[override]  # torch's signature
        return g * ctx.slope, None, None


class Forward(torch.autograd.Function):
    """A function with both modes in the style that torch.func refuses."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_forward(x)
        return x.sin()

    @staticmethod
    def jvp(ctx: Any, t: Any) -> Any:  # type: ignore[override]  # torch's signature
        return 2 * t * ctx.saved_tensors[0].cos()


def test_forward_mode_is_what_runs_and_may_have_forward_mode_inside() -> None:
    x, t = normal(3), normal(3, seed=1)

    def inner(x: Any) -> Any:
        return torch.func.jvp(torch.exp, (x,), (2 * torch.ones_like(x),))[1]

    for fn, slope in (
        (Forward.apply, 2 * x.cos()),
        (inner, 2 * x.exp()),
        (F.logsigmoid, (-x).sigmoid()),
    ):
        program = made(fn, x).jvp
        assert program is not None, made(fn, x).unknown
        with BALLS.precision(128):
            (dot,) = program(*precise([x, t]))
        np.testing.assert_allclose(floats(dot), (slope * t).numpy(), rtol=1e-14)


def test_the_tangent_of_a_solution_by_cholesky_factors_has_an_exact_program() -> None:
    """On the way torch makes zeros in the layout of another tensor."""
    a, t = normal(3, 3), normal(3, 3, seed=1)

    def solution(a: Any) -> Any:
        gram = a @ a.mT + torch.eye(3, dtype=a.dtype)
        return torch.cholesky_solve(torch.ones(3, 1, dtype=a.dtype), torch.linalg.cholesky(gram))

    program = made(solution, a).jvp
    assert program is not None, made(solution, a).unknown
    with BALLS.precision(128):
        (dot,) = program(*precise([a, t]))
    jacobian = torch.autograd.functional.jacobian(solution, a)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(floats(dot), (jacobian * t).sum((2, 3)).numpy(), rtol=1e-12)


# --- one trace for every structure --------------------------------------------------------------


def by_mask(x: Any) -> Any:
    return x * torch.tensor(x.detach().numpy() > 0)


def by_number(x: Any) -> Any:
    return x ** (2 + int(x.detach().abs().max() > 1))


def by_constant(x: Any) -> Any:
    return x * (LOW if x.sum() > 0 else HIGH)


def until_small(x: Any) -> Any:
    while x.abs().max() > 1:
        x = x / 2
    return x.sin()


class Sided(torch.autograd.Function):
    """|Σ x|: a value without branches, whose gradient has two."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sum().abs()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:  # type: ignore[override]  # torch's signature
        (x,) = ctx.saved_tensors
        return g.expand(2).clone() if x.sum() > 0 else -g.expand(2)


LOW, HIGH = torch.tensor([2.0]).double(), torch.tensor([3.0]).double()
POINTS = [[0.5, 0.25], [0.75, 0.5], [-0.5, -0.75], [3.5, 3.0], [0.5, -3.0]]
STRUCTURES: dict[str, tuple[Callable[..., Any], list[int]]] = {
    "none": (F.gelu, [0, 0, 0, 0, 0]),
    "order of operands": (lambda x: x - 1 if x.sum() > 0 else 1 - x, [0, 0, 1, 0, 1]),
    "a number read, to branch": (lambda x: 2 * x if x.max().item() > 1 else 3 * x, [0, 0, 0, 1, 0]),
    "a mask that torch does not see": (by_mask, [0, 0, 1, 0, 2]),
    "a number among the arguments": (by_number, [0, 0, 0, 1, 1]),
    "a constant": (by_constant, [0, 0, 1, 0, 1]),
    "how often": (until_small, [0, 0, 0, 1, 1]),
    "how many": (lambda x: x[x > 0].sum(), [0, 0, 1, 0, 2]),
    "a slice": (lambda x: x[: 1 + int(x[0] > 0)].exp(), [0, 0, 1, 0, 0]),
    "the backward pass alone": (Sided.apply, [0, 0, 1, 0, 1]),
}


def structures(fn: Callable[..., Any]) -> list[int]:
    """Give the numbers of the programs that are run at the points, and check that each is right there."""
    known: dict[str, Any] = {}
    seen: list[Any] = []
    for numbers in POINTS:
        x = torch.tensor(numbers).double()
        program = Shadow(fn, [x], framework="torch", known=known)
        assert program.forward is not None, program.unknown
        assert program.backward is not None, program.unknown
        value = fn(x)
        ones = torch.ones_like(value)
        with BALLS.precision(128):
            (y,), (bar,) = program.forward(*precise([x])), program.backward(*precise([x, ones]))
        np.testing.assert_allclose(floats(y), value.numpy(), rtol=1e-13)
        (expected,) = framework("torch").vjp(fn, [x], [ones])
        np.testing.assert_allclose(floats(bar), expected.numpy(), rtol=1e-13)
        seen.append(program.backward)
    return [list(dict.fromkeys(seen)).index(p) for p in seen]


@pytest.mark.parametrize("by", STRUCTURES)
def test_a_program_is_made_once_for_all_points_that_take_its_branches(by: str) -> None:
    fn, expected = STRUCTURES[by]
    assert structures(fn) == expected


@pytest.mark.parametrize("by", [k for k, (_, found) in STRUCTURES.items() if any(found)])
def test_one_program_for_all_points_would_be_seen(by: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(Tape, "key", "the same")
    with pytest.raises((AssertionError, ValueError, IndexError, RuntimeError)):
        structures(STRUCTURES[by][0])


def test_an_input_at_the_edge_of_a_branch_has_the_branchs_program() -> None:
    known: dict[str, Any] = {}
    found = [
        Shadow(
            until_small, [torch.tensor([x, 3.0]).double()], framework="torch", known=known
        ).forward
        for x in (4.0, 3.5)  # a little beyond 4 another step is needed
    ]
    assert found[0] is found[1] is not None


@pytest.mark.parametrize("fn", [by_mask, by_number, by_constant, until_small])
def test_right_functions_are_not_accused_of_the_branches_of_another_input(fn: Any) -> None:
    points = strategies.arrays("float64", (3,), min_value=-5, max_value=5, framework="torch")
    assert gradcheck(fn, points, max_examples=10).ok


def test_a_search_lowers_a_function_once_for_each_mode(monkeypatch: Any) -> None:
    made_: list[Any] = []
    lowered = lowering._lowered
    monkeypatch.setattr(lowering, "_lowered", lambda *a: made_.append(a) or lowered(*a))
    points = strategies.arrays("float64", (3,), min_value=-9, max_value=9, framework="torch")
    assert gradcheck(F.gelu, points, max_examples=20).points >= 20
    assert len(made_) == 2  # the function with its VJP, and its JVP


OWN_FUNCTION = """
import torch
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x
    @staticmethod
    def backward(ctx, v):
        return 2 * v
"""


@pytest.mark.parametrize(
    ("before", "fn"), [("import torch", "torch.nn.functional.gelu"), (OWN_FUNCTION, "Twice.apply")]
)
def test_a_first_check_loads_neither_torchs_compiler_nor_sympy_nor_hypothesis(
    before: str, fn: str
) -> None:
    code = f"""{before}
import sys, ffverify
ffverify.gradcheck({fn}, torch.ones(2).double())
heavy = {{'torch._dynamo', 'sympy', 'torch._decomp.decompositions_for_jvp', 'hypothesis'}}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (F.gelu, ""),
        (lambda x: Scaled.apply(x, 2.0, 2.0), ""),
        (lambda x: Scaled.apply(x, 2.0, 2.0 + 1e-9), "formula gives"),
        (lambda x: F.dropout(x, 0.5), "no exact form of bernoulli"),
    ],
)
def test_coverage_says_what_is_not_covered(fn: Callable[..., Any], says: str) -> None:
    found = coverage_check(fn, [normal(3, 4) / 4], framework="torch")
    assert says in found if says else not found


def test_coverage_sees_a_computed_value_that_is_off() -> None:
    x = normal(3, 4)
    program = made(F.gelu, x).forward
    right = F.gelu(x).numpy()
    assert not beyond(program, [x.numpy()], [right])
    assert "beyond the running bound" in beyond(program, [x.numpy()], [right * (1 + 1e-12)])


def test_a_planted_bug_in_the_backward_formula_is_beyond_the_bound() -> None:
    x = normal(4)
    right, wrong = made(F.silu, x), made(lambda x: F.silu(x) + 1e-9 * x, x)
    assert right.backward is not None
    assert wrong.backward is not None
    points = [x.numpy(), np.ones(4)]
    (bound,) = running_bound(right.backward, points, F64)
    with BALLS.precision(128):
        (t,), (c,) = (p.backward(*map(BALLS.array, points)) for p in (right, wrong))  # type: ignore[misc]
        assert all(abs(a - b) > r for a, b, r in zip(t.values, c.values, bound, strict=True))


def test_a_compiled_function_has_the_exact_program_of_what_was_written():
    right = torch.compile(lambda x: torch.exp(-x * x) * torch.sin(x), backend="aot_eager")
    wrong = torch.compile(lambda x: x * x.detach(), backend="aot_eager")
    x = torch.tensor([0.5, -1.25, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about deprecated parts of torch
        found = gradcheck(right, [x])
        assert (found.truth, found.verdict) == ("shadow", "correct")
        assert gradcheck(wrong, [x], raise_exception=False).verdict == "wrong"


def test_functions_that_execute_the_same_are_one_program():
    x = normal(3)
    first, second = (made(lambda x, k=k: k * x.tanh(), x) for k in (2.0, 2.0))
    assert first.forward is second.forward
    assert first.backward is second.backward
    assert made(lambda x: 2.5 * x.tanh(), x).forward is not first.forward
    assert made(lambda x: 2.0 * x.tanh(), x.float()).forward is not first.forward


def test_a_program_keeps_its_constants_whatever_becomes_of_them():
    x, c = normal(3), torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    program = made(lambda x: x * c, x).forward
    kept = c.clone()
    c.zero_()
    later = made(lambda x: x * kept, x).forward
    assert later is program
    assert np.array_equal(floats(later(BALLS.array(x.numpy()))[0]), (x * kept).numpy())


@pytest.mark.parametrize("out", [lambda c: c.item(), lambda c: float(c.numpy())])
def test_a_number_that_leaves_the_graph_is_seen_where_a_program_without_one_is_known(out):
    x = torch.tensor([2.0, 3.0], dtype=torch.float64)
    assert made(lambda x: x * 2.0, x).forward is not None
    assert made(lambda x: x * out(x[0]), x).forward is None


def test_a_gradient_of_zeros_without_memory_has_an_exact_form():
    assert made(torch.sgn, normal(3)).backward is not None


def test_an_index_that_is_made_of_floats_is_the_one_that_torch_takes():
    x, n = torch.arange(30, dtype=torch.float64) * 1.5, torch.tensor([29])

    def of(n: Any) -> Any:
        return (n.double() * 0.01 * 100).long()  # of the same floats exactly: 29

    def elsewhere(x: Any, n: Any) -> Any:
        return x[n] ** 2 + (x[of(n)] ** 2 - x[n] ** 2).detach()

    assert of(n) == 28
    for fn in (lambda x, n: x[of(n)] ** 2, lambda x, _: x[of(n)] ** 2):
        assert gradcheck(fn, (x, n)).truth == "shadow"
    assert gradcheck(elsewhere, (x, n), raise_exception=False).verdict == "wrong"


def test_a_value_that_leaves_as_a_bound_is_looked_for_at_every_input() -> None:
    """Below the bound nothing shows that it is a constant of the trace; above it the result is the bound."""
    known: dict[Any, Any] = {}

    def clipped(x: Any, top: Any) -> Any:
        return x.clamp(max=top.item())

    below, above = (torch.tensor([a], dtype=torch.float64) for a in (0.25, 2.0))
    top = torch.tensor([1.0], dtype=torch.float64)
    assert Shadow(clipped, [below, top], framework="torch", known=known).forward is not None
    later = Shadow(clipped, [above, top], framework="torch", known=known)
    assert later.forward is None
    assert "leaves the graph" in str(later.unknown)
