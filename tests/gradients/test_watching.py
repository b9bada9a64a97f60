"""Watched calls behave as before, and are checked at the inputs that they had."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import numpy as np
import pytest

from ffverify.gradients.watching.checking import Checked, check
from ffverify.gradients.watching.recording import KEPT, LARGEST, Watch

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = jax.numpy


class Square(torch.autograd.Function):
    """The square, which refuses seven elements."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any) -> Any:
        if x.numel() == 7:
            raise ValueError("seven")
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g * ctx.saved_tensors[0]


class Wrong(torch.autograd.Function):
    """The square with the derivative of something else, of a matrix and a constant."""

    @staticmethod
    def forward(ctx: Any, x: Any, c: Any) -> Any:
        ctx.save_for_backward(x, c)
        return c * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, c = ctx.saved_tensors
        return g * c * x, torch.zeros_like(c)


class Doubled(torch.autograd.Function):
    """Twice its input, in place."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * g


class Clamped(torch.nn.Module):
    """A module with a state that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x: Any) -> Any:
        return Square.apply(x * self.weight)


def _checks(watch: Watch, **options: Any) -> dict[str, Checked]:
    return {c.custom.name.rpartition(".")[2]: c for c in check(watch, **options)}


def _ok(checked: Checked) -> bool:
    return checked.report is not None and checked.report.ok


def _everything() -> list[Any]:
    """Call a function in every way, and give all that comes of it."""
    torch.manual_seed(0)
    x = torch.randn(3, requires_grad=True)
    y = Square.apply(x)
    y.sum().backward()
    told = [y.tolist(), x.grad.tolist(), x._version, type(y.grad_fn).__name__]
    told.append(torch.rand(2).tolist())
    told.append(torch.func.vmap(Square.apply)(torch.ones(2, 3)).tolist())
    told.append(torch.func.grad(lambda x: Square.apply(x).sum())(torch.ones(3)).tolist())
    for wrong in ((torch.ones(7),), ()):
        try:
            Square.apply(*wrong)
        except (ValueError, TypeError) as error:
            told.append([str(error), traceback.extract_tb(error.__traceback__)[-1].name])
    z = torch.ones(3)
    told.append([Doubled.apply(z).tolist(), z.tolist(), z._version])
    return told


def test_watched_calls_give_the_same_results_gradients_errors_and_random_numbers() -> None:
    before = _everything()
    original = torch.autograd.Function.__dict__["apply"]
    watch = Watch()
    with watch:
        assert torch.autograd.Function.__dict__["apply"] is not original
        assert _everything() == before
    assert torch.autograd.Function.__dict__["apply"] is original
    assert _everything() == before
    found = _checks(watch)
    assert _ok(found["Square"])
    assert found["Square"].calls > 3


def test_inputs_are_those_of_before_the_call() -> None:
    watch = Watch()
    with watch:
        Doubled.apply(torch.tensor([1.0, 2.0]))
    (seen,) = watch.seen.values()
    ((call,),) = seen.kept.values()
    assert call.arrays[0].tolist() == [1.0, 2.0]


def test_a_wrong_derivative_is_found_where_only_values_were_asked_for() -> None:
    watch = Watch()
    with watch:
        Wrong.apply(torch.ones(2, 2), torch.tensor(3.0))
    report = _checks(watch)["Wrong"].report
    assert report is not None
    assert {str(f.kind) for f in report.findings} == {"wrong"}


def test_what_nobody_differentiates_by_is_a_constant_where_others_are_differentiated_by() -> None:
    class Right(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, c: Any) -> Any:
            ctx.save_for_backward(c)
            return c * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * ctx.saved_tensors[0], torch.zeros(())

    watch = Watch()
    with watch:
        Right.apply(torch.ones(2, requires_grad=True), torch.tensor(3.0))
    assert [_ok(c) for c in check(watch)] == [True]


def test_a_few_calls_are_kept_and_large_ones_are_not() -> None:
    watch = Watch()
    with watch:
        for i in range(20):
            Square.apply(torch.full((2,), float(i)))
        for dtype in (torch.float64, torch.bfloat16):
            Square.apply(torch.ones(2, dtype=dtype))
        Square.apply(torch.ones(LARGEST + 1))
    (seen,) = watch.seen.values()
    assert seen.calls == 23
    assert sorted(len(calls) for calls in seen.kept.values()) == [1, 1, KEPT]
    assert {c.dtype for c in check(watch)} == {"float32", "float64", "bfloat16"}


def test_a_function_with_large_inputs_only_is_said_not_to_be_checked() -> None:
    watch = Watch()
    with watch:
        Square.apply(torch.ones(LARGEST + 1))
    (checked,) = check(watch)
    assert checked.report is None
    assert f"{LARGEST + 1} elements" in checked.left_out


def test_no_time_is_said() -> None:
    watch = Watch()
    with watch:
        Square.apply(torch.ones(2))
    (checked,) = check(watch, seconds=-1.0)
    assert checked.report is None
    assert checked.left_out == "there was no time left"


def test_modules_of_a_given_name_with_the_state_that_they_had() -> None:
    module = Clamped()
    watch = Watch(modules=["Clam*"])
    with watch:
        module(torch.tensor([0.5, -1.0]))
        with torch.no_grad():
            module.weight.mul_(100)
    found = _checks(watch)
    assert _ok(found["Clamped"])
    (seen,) = (s for s in watch.seen.values() if s.custom.name.endswith("Clamped"))
    ((call,),) = seen.kept.values()
    assert call.custom.call.weight.tolist() == [1.0, 2.0]


class Scaled(torch.nn.Module):
    """A module whose parameter can be differentiated by rightly, wrongly, and not at all."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]), requires_grad=how != "frozen")
        self.how = how

    def forward(self, x: Any) -> Any:
        w = self.weight
        if self.how == "wrong":
            return x * Wrong.apply(w, torch.ones(()))
        return x * (w.detach() if self.how in ("detached", "frozen") else w)


@pytest.mark.parametrize(
    ("how", "wrong"), [("right", False), ("frozen", False), ("detached", True), ("wrong", True)]
)
@pytest.mark.parametrize("wanted", [False, True])
def test_a_module_is_differentiated_by_its_parameters(
    how: str, *, wrong: bool, wanted: bool
) -> None:
    watch = Watch(modules=["Scaled"])
    with watch:
        Scaled(how)(torch.tensor([0.5, -1.0], requires_grad=wanted))
    report = _checks(watch)["Scaled"].report
    assert report is not None
    assert report.ok is not wrong
    assert not wrong or "Scaled.weight" in str(report)


def test_a_module_that_is_differentiated_by_parameters_alone() -> None:
    class Taken(torch.nn.Embedding):
        def forward(self, places: Any) -> Any:
            return super().forward(places) * self.weight.detach()[0]

    watch = Watch(modules=["*Taken"])
    with watch:
        Taken(4, 3)(torch.tensor([2, 0]))
    (checked,) = check(watch, search=3)
    assert checked.report is not None
    assert str(checked.report.verdict) == "wrong"  # row 0 moves the factor, too

    watch = Watch(modules=["*Embedding"], packages=())
    with watch:
        torch.nn.Embedding(4, 3)(torch.tensor([2, 0]))
    assert [_ok(c) for c in check(watch, search=3)] == [True]


def test_parameters_that_are_too_large_are_said_not_to_be_checked() -> None:
    watch = Watch(modules=["Linear"], packages=())
    with watch:
        torch.nn.Linear(2, LARGEST)(torch.ones(1, 2))
    (checked,) = check(watch)
    assert _ok(checked)
    assert "parameters of 60000 elements are too large" in checked.left_out


def test_what_is_left_alone_and_what_never_ran() -> None:
    watch = Watch(but=["Wrong"])
    with watch:
        Wrong.apply(torch.ones(2), torch.tensor(3.0))
    assert check(watch) == []
    never = [name for _, name in watch.never_ran()]
    assert f"{__name__}.Square" in never
    assert f"{__name__}.Wrong" not in never
    assert not any(name.startswith("torch.") for name in never)


@jax.custom_vjp
def cubed(x: Any, scale: Any) -> Any:
    return scale * x**3


def _backward(saved: Any, g: Any) -> Any:
    x, scale = saved
    return 3 * g * scale * x**2, None


cubed.defvjp(lambda x, scale: (cubed(x, scale), (x, scale)), _backward)


@pytest.mark.parametrize(
    ("how", "drawn"),
    [("plain", False), ("grad", False), ("vmap", False), ("jit", True), ("jit of grad", True)],
)
def test_jax_functions_under_its_transforms(how: str, *, drawn: bool) -> None:
    x, scale = jnp.array([1.0, -2.0], "float32"), jnp.array(2.0, "float32")

    def run() -> Any:
        def total(x: Any) -> Any:
            return cubed(x, scale).sum()

        made = {
            "plain": lambda x: cubed(x, scale),
            "grad": jax.grad(total),
            "vmap": jax.vmap(lambda x: cubed(x, scale)),
            "jit": jax.jit(total),  # anew: what is compiled is not traced again
            "jit of grad": jax.jit(jax.grad(total)),
        }
        return np.asarray(made[how](x))

    expected = run()
    watch = Watch()
    with watch:
        assert (run() == expected).all()
    (checked,) = check(watch)
    assert _ok(checked), checked
    assert checked.drawn == drawn


def test_a_framework_is_watched_from_its_import_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import json as stand_in

    began: list[str] = []
    monkeypatch.setattr("ffverify.gradients.watching.recording.FRAMEWORKS", ("json",))
    monkeypatch.setattr(Watch, "_begin", lambda self, name: began.append(name))
    monkeypatch.delitem(sys.modules, "json")
    with Watch():
        assert began == []
        import json

        assert began == ["json"]
        assert json.loads("[1]") == [1]
        assert json.__spec__ is not None
        assert json.__spec__.loader is json.__loader__
        assert type(json.__loader__) is type(stand_in.__loader__)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_what_is_called_in_any_mode_can_be_checked(mode: type) -> None:
    watch = Watch()
    with watch, mode():
        Square.apply(torch.tensor([0.5, 2.0]))
    assert [_ok(c) for c in check(watch)] == [True]


def test_calls_by_keyword_are_told_apart() -> None:
    watch = Watch()
    with watch:
        for i in range(20):
            cubed(x=jnp.ones(2 + i % 2), scale=jnp.ones(()))
    (seen,) = watch.seen.values()
    assert [len(calls) for calls in seen.kept.values()] == [KEPT, KEPT]
    assert all(_ok(c) for c in check(watch))


def test_a_backward_that_raises_is_wrong() -> None:
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise RuntimeError("not yet")

    watch = Watch()
    with watch:
        Raises.apply(torch.ones(2))
    (checked,) = check(watch)
    assert checked.report is not None
    assert str(checked.report.verdict) == "wrong"
    assert "not yet" in str(checked.report)
