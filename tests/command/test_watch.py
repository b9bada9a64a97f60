"""Custom derivatives that a project's own tests run: the wrong ones are found, and nothing else changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffverify.command.reports.records import read
from ffverify.command.watch import watch

pytest.importorskip("torch")
pytest.importorskip("jax")
pytest_plugins = ["pytester"]

OPERATIONS = '''
"""Ten functions with derivatives of their own, three of them wrong, and one that nobody tests."""

from functools import partial

import jax
import jax.numpy as jnp
import torch


class Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return torch.logaddexp(z, torch.zeros_like(z))

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * torch.sigmoid(z)


softplus = Softplus.apply


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * torch.sigmoid(z)

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * torch.sigmoid(z)  # wrong: z σ'(z) is missing


class ScaledTanh(torch.autograd.Function):
    @staticmethod
    def forward(x, scale):
        return scale * torch.tanh(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.scale = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ctx.scale * (1 - torch.tanh(x) ** 2), None


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x @ w + b

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w.T, x.T @ g, g.sum(0)


class Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask):
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return g * mask, None


@torch.library.custom_op("mine::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


cube.register_autograd(  # wrong: 2 for 3
    lambda ctx, g: g * 2 * ctx.saved_tensors[0] ** 2, setup_context=_setup
)


@jax.custom_vjp
def log1pexp(z):
    return jnp.logaddexp(z, 0.0)


log1pexp.defvjp(lambda z: (log1pexp(z), z), lambda z, g: (g * jax.nn.sigmoid(z),))


@jax.custom_vjp
def norm(x):
    return jnp.sqrt(jnp.sum(x * x))


norm.defvjp(lambda x: (norm(x), (x, norm(x))), lambda r, g: (g * r[0] / r[1],))


@jax.custom_jvp
def sinc(x):
    return jnp.sin(x) / x


@sinc.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return sinc(x), (jnp.cos(x) * x - jnp.sin(x)) / x * t  # wrong: / x²


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defvjp(lambda x, n: (power(x, n), x), lambda n, x, g: (g * n * x ** (n - 1),))


class Unused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        return g
'''
TESTS = """
import jax
import jax.numpy as jnp
import numpy as np
import operations as ops
import pytest
import torch

Z = torch.tensor([0.5, -3.0])


def test_softplus():
    assert torch.allclose(ops.softplus(Z), torch.nn.functional.softplus(Z))


def test_silu():
    torch.manual_seed(0)
    z = torch.randn(4, 3)
    assert torch.allclose(ops.Silu.apply(z), torch.nn.functional.silu(z))
    assert torch.rand(()).item() == pytest.approx(0.4194, abs=1e-4)  # nobody else has drawn


def test_tanh():
    assert ops.ScaledTanh.apply(torch.zeros(3), 2.0).sum() == 0


def test_linear():
    x, w, b = torch.ones(2, 3), torch.ones(3, 4), torch.ones(4)
    assert torch.allclose(ops.Linear.apply(x, w, b), x @ w + b)


def test_masked():
    assert ops.Masked.apply(torch.ones(3), torch.tensor([1.0, 0.0, 1.0])).sum() == 2


def test_cube():
    assert ops.cube(torch.tensor([2.0])).item() == 8


def test_log1pexp():
    assert np.isclose(ops.log1pexp(jnp.float32(0.0)), np.log(2))


def test_norm():
    assert ops.norm(jnp.array([3.0, 4.0])) == 5


@pytest.mark.parametrize("compiled", [False, True])
def test_sinc(compiled):
    sinc = jax.jit(ops.sinc) if compiled else ops.sinc
    assert np.isclose(sinc(jnp.float32(1.5)), np.sin(1.5) / 1.5)


def test_power():
    assert ops.power(jnp.array([2.0]), 3)[0] == 8


def test_that_fails():
    assert ops.softplus(torch.zeros(())) == 1


def test_error():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'z'"):
        ops.Softplus.apply()
"""
WRONG = ["operations.Silu", "operations.cube", "operations.sinc"]
RIGHT = [
    "operations.Linear", "operations.Masked", "operations.ScaledTanh", "operations.Softplus",
    "operations.log1pexp", "operations.norm", "operations.power",
]  # fmt: skip


@pytest.fixture
def project(pytester: pytest.Pytester) -> Iterator[Path]:
    pytester.makepyfile(operations=OPERATIONS, test_operations=TESTS)
    yield pytester.path
    sys.modules.pop("operations", None)


def _names(path: Path, status: str) -> list[str]:
    return sorted(e.result.claim for e in read(path).entries if e.result.status == status)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_wrong_derivatives_of_a_project_are_found(
    project: Path, pytester: pytest.Pytester, workers: str
) -> None:
    words = ("-q", "-p", "no:cacheprovider", "-n", workers, "--ffverify-jsonl=out.jsonl")
    words += ("--ffverify-report=out.html", "--ffverify-junit=out.xml", "--ffverify-json=out.json")
    run = pytester.runpytest_inprocess if workers == "0" else pytester.runpytest_subprocess
    result = run(*words, "--ffverify-watch")
    result.assert_outcomes(passed=12, failed=1)
    assert result.ret == 1
    assert _names(project / "out.jsonl", "fails") == WRONG
    assert _names(project / "out.jsonl", "holds") == RIGHT
    result.stdout.fnmatch_lines([
        "*custom derivatives that the tests ran*",
        "wrong*operations.Silu (torch float32*",
        "*∂⟨v, Silu⟩/∂input[[]*[]], reverse = *, but should be *",
        "right*operations.Masked (torch float32*: its backward gives None for input 1",
        "never ran: operations.Unused (torch.autograd.Function)",
        "7 right, 3 wrong, 0 undecided, 0 not checked, * never ran; recording took *",
    ])  # fmt: skip
    assert len(json.loads((project / "out.json").read_text())) == 10
    assert "∂⟨v, Silu⟩" in (project / "out.html").read_text(encoding="utf-8")
    assert 'failures="3"' in (project / "out.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_names_that_nothing_has_are_told(
    project: Path, pytester: pytest.Pytester, workers: str
) -> None:
    pytester.makepyfile(
        test_modules="""
        import torch

        def test_linear():
            torch.nn.Linear(2, 2)(torch.ones(2)).sum().backward()
        """
    )
    but = ("Silu", "Unused", "Nope", "operations.Nope*")
    modules = ("Linear", "Nope")
    run = pytester.runpytest_inprocess if workers == "0" else pytester.runpytest_subprocess
    words = ["-q", "-p", "no:cacheprovider", "-n", workers, "--ffverify-watch"]
    words += [f"--ffverify-watch-but={name}" for name in but]
    words += [f"--ffverify-watch-module={name}" for name in modules]
    told = str(run(*words, "--ffverify-jsonl=out.jsonl").stdout)
    for option in ("but Nope", "but operations.Nope*", "module Nope"):
        assert f"--ffverify-watch-{option}: no " in told
    assert told.count("has such a name") == 3
    assert sum("has such a name" in note for note in read(project / "out.jsonl").notes) == 3


def test_the_command_and_what_it_leaves_alone(project: Path) -> None:
    words = ["--but", "operations.Sil*", "--but", "sinc", "--but", "cube", "--jsonl", "out.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        done = CliRunner().invoke(
            watch,
            [*words, "--", "pytest", "-q", "-k", "silu or norm or cube", "-p", "no:cacheprovider"],
        )
    assert done.exit_code == 0, done.output
    assert _names(project / "out.jsonl", "fails") == []
    assert _names(project / "out.jsonl", "holds") == ["operations.norm"]


@pytest.mark.parametrize("words", [["make"], ["python", "x.py"], ["python", "-m", "unittest"]])
def test_what_is_no_pytest_is_one_clear_error(words: list[str]) -> None:
    done = CliRunner().invoke(watch, ["--", *words])
    assert done.exit_code == 2
    assert "write ffverify watch -- pytest" in done.output


@pytest.mark.parametrize("words", [("--collect-only",), ("-k", "stop")])
def test_nothing_is_checked_where_nothing_ran_or_the_user_has_stopped(
    project: Path, pytester: pytest.Pytester, words: tuple[str, ...]
) -> None:
    pytester.makepyfile(
        test_operations="""
        import operations as ops
        import pytest
        import torch

        def test_stop():
            ops.Silu.apply(torch.ones(2))
            pytest.exit("as Ctrl-C does")
        """
    )
    result = pytester.runpytest_inprocess(
        "-q", "--ffverify-watch", "--ffverify-jsonl=a.jsonl", *words
    )
    assert result.ret in (0, pytest.ExitCode.INTERRUPTED)
    assert read(project / "a.jsonl").entries == []
    result.stdout.no_fnmatch_line("wrong*")
