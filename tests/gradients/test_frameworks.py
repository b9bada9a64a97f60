"""gradcheck of torch and JAX functions: modules, custom rules, all orders, every format."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.frameworks.framework import framework
from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays

torch = pytest.importorskip("torch")

X = [0.5, -1.25, 2.0]
FORMATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


class Tripled(torch.autograd.Function):
    """sin with three times its gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, v):
        (x,) = ctx.saved_tensors
        return 3 * v * x.cos()


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_format_is_checked_at_its_own_precision(dtype):
    x = torch.tensor(X, dtype=dtype)
    right = quiet(torch.sin, x)
    assert right.ok
    assert right.truth == "shadow"
    wrong = quiet(Tripled.apply, x)
    assert not wrong.ok
    assert {str(f.kind) for f in wrong.findings if f.severity == "error"} == {"wrong"}
    assert wrong.findings[0].dtype == str(dtype).removeprefix("torch.")


def test_parameters_of_a_module_are_checked_too():
    class Scaled(torch.nn.Module):
        def __init__(self, detach):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1.5, -0.5], dtype=torch.float64))
            self.detach = detach

        def forward(self, x):
            return x * (self.weight.detach() if self.detach else self.weight)

    x = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert quiet(Scaled(detach=False), x).ok
    report = quiet(Scaled(detach=True), x)
    assert not report.ok
    assert any("/∂weight[" in f.where for f in report.findings)


@pytest.mark.parametrize("order", [1, 2])
def test_all_nestings_in_torch(order):
    report = quiet(lambda x: torch.sin(x) * x, torch.tensor(X, dtype=torch.float64), order=order)
    assert report.ok
    assert len(report.modes) == (2 if order == 1 else 6)
    assert not report.skipped


def test_forward_mode_that_is_not_there_is_named():
    report = quiet(torch.sin, torch.tensor(X))
    assert not report.skipped
    assert "jvp" in quiet(Tripled.apply, torch.tensor(X)).skipped["forward"]


class Backwards(torch.autograd.Function):
    """sin without forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, v):
        return v * ctx.saved_tensors[0].cos()


class Forwards(Backwards):
    """sin, whose forward mode gives three times the tangent."""

    @staticmethod
    def jvp(ctx, t):
        return 3 * t * ctx.saved_tensors[0].cos()


def test_forward_mode_that_is_refused_at_some_inputs_is_checked_at_others():
    """At the first inputs it is refused; where another program runs it is tried anew."""

    def fn(x):
        return Forwards.apply(x) if float(x.sum()) < -8 else 2 * Backwards.apply(x)

    given = arrays("float64", 2, framework="torch", min_value=-10, max_value=10)
    report = quiet(fn, given, max_examples=200)
    assert any("JVP" in f.where and str(f.kind) == "wrong" for f in report.findings)


def test_integer_inputs_are_data():
    index = torch.tensor([2, 0, 2])
    assert quiet(lambda x, i: x[i] * x[i], [torch.tensor(X, dtype=torch.float64), index]).ok


def test_unused_input_has_a_zero_gradient():
    x = torch.tensor(X, dtype=torch.float64)
    assert quiet(lambda x, y: x * x, [x, x.clone()]).ok


def test_several_results():
    x = torch.tensor(X, dtype=torch.float64)
    assert quiet(lambda x: (x.sin(), x.sum(), x.argmax()), x).ok
    report = quiet(lambda x: (x.sin(), x.detach() * 2), x)  # as saved statistics are
    assert report.ok
    assert "detached" in str(report)
    assert not quiet(lambda x: (x.detach() * 2, x.detach().sin()), x).ok
    assert not quiet(lambda x: (x * x.detach(), x.detach() * 2), x).ok


def test_dropout_is_inconclusive():
    report = quiet(torch.nn.Dropout(0.5), torch.ones(64))
    assert str(report.verdict) == "inconclusive"
    assert not report.ok


def test_what_draws_seldom_is_not_accused():
    """Calls agree, most of the time: that it leaves the generator elsewhere each time tells it."""

    def noisy(x):
        return x.sin() * (2.0 if torch.rand(()) < 0.03 else 1.0)

    class Seeded(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            torch.manual_seed(0)
            return noisy(x)

        @staticmethod
        def backward(ctx, v):
            return v * ctx.saved_tensors[0].sin()

    x = torch.linspace(0.1, 1, 4, dtype=torch.float64)
    with torch.random.fork_rng():
        verdicts = set()
        for seed in range(12):
            torch.manual_seed(seed)
            verdicts |= {str(quiet(noisy, x, seed=seed).verdict)}
        assert verdicts == {"correct", "inconclusive"}
        assert str(quiet(Seeded.apply, x).verdict) == "wrong"


def test_hardsigmoid_of_torch_has_a_float32_constant():
    """A defect upstream, kept as a test of the checker: 1/6 is rounded to float32 at float64.

    Where torch mends it this fails, as its entry in known_defects.toml does.
    """
    x = torch.linspace(-2, 2, 20, dtype=torch.float64)
    report = quiet(torch.nn.functional.hardsigmoid, x)
    assert any(f.kind in ("wrong", "imprecise") for f in report.findings)


def test_jax_all_nestings_and_formats():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x = jnp.array(X, dtype="float32")
    report = quiet(lambda x: jnp.sin(x) * x, x, order=2)
    assert report.ok
    assert set(report.modes) == {"reverse", "forward", "rr", "fr", "rf", "ff"}
    assert quiet(jnp.sin, x.astype("bfloat16")).ok

    def halved(x):
        return x * jax.lax.stop_gradient(x)

    stopped = quiet(halved, x)
    assert "wrong" in {str(f.kind) for f in stopped.findings}
    assert "x64" not in stopped.findings[0].replay
    with jax.enable_x64(True):
        wide = quiet(halved, jnp.array(X, dtype="float64"))
    assert wide.findings[0].replay.endswith("# after jax.config.update('jax_enable_x64', True)")


def test_nested_results_are_arrays_all_the_same():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    recurrent = torch.nn.LSTM(2, 3, dtype=torch.float64)  # gives (output, (h, c))
    assert gradcheck(recurrent, torch.randn(4, 1, 2, dtype=torch.float64)).truth == "shadow"

    def several(x):
        return {"double": x * 2, "rest": (x.detach() * x, None)}

    report = gradcheck(several, torch.ones(2, dtype=torch.float64), raise_exception=False)
    assert [f.kind for f in report.findings if f.severity == "error"]
    assert "result 1" in report.findings[0].where


@pytest.mark.parametrize("nothing", [None, (), "text", {}])
def test_a_function_without_arrays_is_told_so(nothing):
    report = gradcheck(lambda x: nothing, np.ones(3), raise_exception=False)
    assert "returns no floating-point array" in str(report)


def test_pasted_code_holds_what_numbers_cannot_say():
    report = gradcheck(lambda x: x, arrays("float64", (0, 3)), raise_exception=False)
    assert "inputs are empty" in str(report)
    assert ".reshape(0, 3)" in str(report)
    report = gradcheck(lambda x: x * np.nan, np.array([np.inf]), raise_exception=False)
    assert "np.array([float('inf')]" in str(report)


def test_what_rounds_in_a_narrower_format_inside_is_imprecise_not_wrong():
    """Residuals compressed to bfloat16: the formula is right, the digits are lost where it says."""
    torch = pytest.importorskip("torch")

    def cube(kept, factor):
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x.to(kept))
                return x * x * x / 3

            @staticmethod
            def backward(ctx, v):
                (x,) = ctx.saved_tensors
                return factor * v * (x * x).to(v.dtype)

        return Cube.apply

    x = torch.tensor([1.3125, 2.0, 0.7])
    assert {str(f.kind) for f in quiet(cube(torch.bfloat16, 1.0), x).findings} == {"imprecise"}
    assert "wrong" in {str(f.kind) for f in quiet(cube(torch.bfloat16, 1.25), x).findings}
    assert not quiet(cube(torch.float32, 1.0), x).findings


def test_jax_functions_are_compiled_where_they_can_be():
    jax = pytest.importorskip("jax")

    calls = []

    def counted(x):
        calls.append(type(x))
        return 2 * x

    compiled = framework("jax").compiled(counted)
    x = jax.numpy.ones(3, dtype="float32")
    assert all(np.array_equal(compiled(x), [2, 2, 2]) for _ in range(3))
    assert len(calls) == 1

    branching = framework("jax").compiled(lambda x: x if x.sum() > 0 else -x)  # which jit refuses
    assert [float(branching(s * x)[0]) for s in (1, -1)] == [1, 1]
    with pytest.raises(TypeError):
        compiled(None)  # these arguments are to blame: it stays compiled
    compiled(x)
    assert len(calls) == 3  # the two were at None


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("factor", [1, 1.25])
def test_the_mantissa_has_an_exact_form(dtype, factor):
    """At -3e-7 its slope is 2^21; beside the largest floats it is subnormal, and flushed; zeros are jumps."""
    torch = pytest.importorskip("torch")

    class Mantissa(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            mantissa, exponent = torch.frexp(x)
            ctx.save_for_backward(exponent)
            return mantissa

        @staticmethod
        def backward(ctx, v):
            (exponent,) = ctx.saved_tensors
            return factor * v / exponent.exp2()

    x = torch.zeros(20, dtype=getattr(torch, dtype))
    x[1], x[2] = -3.05e-7, 3.0 if dtype == "float64" else -1.7014120374287884e38
    for f in (Mantissa.apply, lambda x: torch.frexp(x)[0]):
        report = gradcheck(f, x, raise_exception=False)
        assert report.truth == "shadow"
        wrong = factor != 1 and f == Mantissa.apply
        assert str(report.verdict) == ("wrong" if wrong else "correct"), str(report)


def test_torchs_ldexp_is_judged_where_it_killed_the_process():
    """Its tangent holds zeros without memory, which torch's kernels read under a dispatch mode."""
    torch = pytest.importorskip("torch")
    exponents = torch.tensor([1, -2])
    x = torch.tensor([1.3, -0.6], requires_grad=True)
    (gradient,) = torch.autograd.grad((torch.ldexp(x, exponents) * x).sum(), x)
    report = gradcheck(lambda x: torch.ldexp(x, exponents) * x, x.detach(), raise_exception=False)
    found = [f for f in report.findings if "reverse" in f.where]
    # Of integers torch takes 2 to the power of -2 for 0, which halves the second element.
    assert bool(found) == (not torch.allclose(gradient, torch.tensor([5.2, -0.3])))
