"""A check leaves the process as it was."""

from __future__ import annotations

import locale
import random
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays

X = np.array([0.5, -1.25, 2.0])

_JAX = """
import jax, jax.numpy as jnp, numpy as np
from ffverify import gradcheck, strategies

drawn = strategies.arrays("float64", (3,), min_value=-3, max_value=3, framework="jax")
narrow = strategies.arrays("float32", (2, 2), min_value=-3, max_value=3, framework="jax")

@jax.custom_vjp
def sine(x):
    return jnp.sin(x)

sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * (1 + 1e-10),))
found = gradcheck(sine, drawn, max_examples=3, raise_exception=False)
assert str(found.verdict) == "wrong", found  # seen in float64 only
assert found.inputs[0].dtype == "float64", found.inputs
assert gradcheck(lambda x: jnp.tanh(x) @ x, jnp.ones(2), order=2).ok
seen = []

def function(x):
    seen.append((jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision))
    return x @ x

assert gradcheck(function, narrow, max_examples=2).ok
assert set(seen) == {(False, None)}, seen
assert not jax.config.jax_enable_x64
assert jax.config.jax_default_matmul_precision is None
assert jnp.asarray(np.ones(2)).dtype == "float32"
from ffverify.conformance.backends import load
value = load("jax").value(lambda f, x: f.exp(x), [np.array([1.0])], "float64")
assert value.dtype == "float64" and abs(value[0] - np.e) < 1e-15, value
assert not jax.config.jax_enable_x64
"""


def test_jax_stays_as_the_user_has_set_it():
    pytest.importorskip("jax")
    done = subprocess.run([sys.executable, "-c", _JAX], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def state():
    """Give what a process has in common to all its parts."""
    import mpmath
    from flint import ctx

    held = {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 - the process's own
        "errors": np.geterr(),
        "mpmath": (mpmath.mp.prec, mpmath.mp.dps, mpmath.iv.prec),
        "flint": ctx.prec,
        "warnings": list(warnings.filters),
        "signals": {
            s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        },
        "excepthook": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "path": list(sys.path),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
        "print": np.get_printoptions(),
    }
    if torch := sys.modules.get("torch"):
        held |= {
            "torch": (
                torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled(),
                torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
            )
        }  # fmt: skip
    return held


def test_nothing_global_is_changed():
    gradcheck(np.sin, X)  # imports
    before = state()
    drawn = arrays("float32", (2,), min_value=-3, max_value=3)
    gradcheck(np.tanh, drawn, max_examples=5, order=2)
    gradcheck(np.sin, X, vjp=lambda v, x: v, raise_exception=False)
    assert state() == before
    mine = threading.active_count()
    for _ in range(3):
        gradcheck(np.sin, X)
    assert threading.active_count() <= mine


def test_torch_stays_as_it_was():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    gradcheck(torch.tanh, x, order=2)
    before = state()
    with torch.no_grad():
        assert gradcheck(torch.tanh, x).ok
        assert not torch.is_grad_enabled()
    gradcheck(lambda x: x * torch.rand(()), x, raise_exception=False)
    assert {k: v for k, v in state().items() if k != "torch"} == {
        k: v for k, v in before.items() if k != "torch"
    }
    assert state()["torch"][1:] == before["torch"][1:]
    assert x.grad is None
    assert not x.requires_grad


@pytest.mark.parametrize("held", [False, True])
def test_gradients_that_a_backward_leaves_on_a_module_are_taken_back(held):
    """Reversible blocks run torch.autograd.backward in their own: the parameters' gradients go to .grad."""
    torch = pytest.importorskip("torch")

    class Reversible(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, layer):
            ctx.layer = layer
            ctx.save_for_backward(x)
            return x + layer(x)

        @staticmethod
        def backward(ctx, v):
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                torch.autograd.backward(ctx.layer(x), v)
            return v + x.grad, None

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2).double()

        def forward(self, x):
            return Reversible.apply(x, self.layer)

    net, x = Net(), torch.tensor([[0.5, -1.25]], dtype=torch.float64)
    before = torch.ones(2, 2, dtype=torch.float64) if held else None
    net.layer.weight.grad = before
    report = gradcheck(net, x, raise_exception=False)
    assert str(report.verdict) == "inconclusive"
    assert "adds to the .grad of layer.weight, layer.bias" in str(report)
    assert net.layer.bias.grad is None
    assert (net.layer.weight.grad is None) if before is None else bool((before == 1).all())
    assert before is None or net.layer.weight.grad.equal(torch.ones(2, 2, dtype=torch.float64))
