"""What a check costs beside the framework's own numerical check of the same function at the same point.

    OMP_NUM_THREADS=1 pytest tests/benchmarks -k price
    OMP_NUM_THREADS=1 FFVERIFY_EXAMPLES=200 pytest tests/benchmarks -k "price and torch"

prints CPU milliseconds per searched input (``FFVERIFY_EXAMPLES`` of them, float64, in [-10, 10]) and for
one warm point, of a function that was checked before, of one that is made anew with the code of one that
was, of one whose code is new, and of one that executes what none did before, beside one point of torch's
slow ``gradcheck``, or of JAX's ``check_grads``, in the same process; and CPU seconds of the first check of a
process after its framework is imported. A NumPy function with ``vjp=`` is beside the same function in torch.
Nothing here asserts a time.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.strategies import arrays, labels

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp, F = jax.numpy, torch.nn.functional
jax.config.update("jax_enable_x64", True)

EXAMPLES = int(os.environ.get("FFVERIFY_EXAMPLES", "40"))
ROUNDS = 5


# ---------------------------------------------------------------------------------------------
# The functions
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A function, the shapes of its inputs (a number of classes for labels, a strategy as it is)."""

    name: str
    framework: str
    fn: Any
    inputs: tuple[Any, ...]
    beside: Callable[..., Any] | None = None  # the same in torch
    options: dict[str, Any] = field(default_factory=dict)


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_vjp(v, x):
    s = _softmax(x)
    return s * (v - (v * s).sum(axis=-1, keepdims=True))


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _gelu_vjp(v, x):
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return v * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x))


def _rms_norm(x, w):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6) * w


def _rms_norm_vjp(v, x, w):
    r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    g = v * w
    return r * g - x * r**3 * (g * x).mean(axis=-1, keepdims=True), (v * x * r).sum(axis=0)


def _two_layers(x, a, b):
    return np.tanh(x @ a) @ b


def _two_layers_vjp(v, x, a, b):
    h = np.tanh(x @ a)
    g = (v @ b.T) * (1 - h * h)
    return g @ a.T, x.T @ g, h.T @ v


def _cross_entropy(x, y):
    m = x.max(axis=-1, keepdims=True)
    total = np.log(np.exp(x - m).sum(axis=-1)) + m[:, 0]
    return (total - x[np.arange(len(x)), y]).mean()


def _cross_entropy_vjp(v, x, y):
    return v * (_softmax(x) - np.eye(x.shape[1])[y]) / len(x), None


def _attention(softmax):
    def attention(q, k, v):
        return softmax(q @ k.mT / math.sqrt(q.shape[-1])) @ v

    return attention


class SiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, v):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return v * s * (1 + x * (1 - s))


class Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        ctx.save_for_backward(x, r)
        return x / r

    @staticmethod
    def backward(ctx, v):
        x, r = ctx.saved_tensors
        return v / r - x * (v * x).sum(-1, keepdim=True) / r**3


@jax.custom_vjp
def log1pexp(x):
    return jnp.logaddexp(x, 0.0)


log1pexp.defvjp(lambda x: (log1pexp(x), x), lambda x, v: (v * jax.nn.sigmoid(x),))


@jax.custom_vjp
def clipped(x):
    return jnp.clip(x, -1.0, 1.0)


clipped.defvjp(lambda x: (clipped(x), x), lambda x, v: (jnp.where(jnp.abs(x) < 1, v, 0.0),))


class Classifier(torch.nn.Module):
    """A small network with cross-entropy."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 5, dtype=torch.float64),
            torch.nn.Tanh(),
            torch.nn.Linear(5, 3, dtype=torch.float64),
        )

    def forward(self, x, y):
        return F.cross_entropy(self.layers(x), y)


def _of_parameters(module):
    names = [n for n, _ in module.named_parameters()]

    def call(x, y, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, y))

    return call, [p.detach().clone().requires_grad_() for p in module.parameters()]


def _jax_classifier(x, a, b):
    return -jax.nn.log_softmax(jnp.tanh(x @ a) @ b)[jnp.arange(3), jnp.array([0, 2, 1])].mean()


def _jax_layer_norm(x, g, b):
    m = x.mean(-1, keepdims=True)
    return (x - m) / jnp.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + 1e-5) * g + b


def _solve(a, b):
    return torch.cholesky_solve(b, torch.linalg.cholesky(a @ a.mT + torch.eye(3, dtype=a.dtype)))


def _lstm(x, h, c, w, u, b):
    i, f, g, o = (x @ w.T + h @ u.T + b).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


ROWS = [
    Row("tanh", "numpy", np.tanh, ((3, 4),), torch.tanh,
        {"vjp": lambda v, x: v * (1 - np.tanh(x) ** 2)}),
    Row("gelu", "numpy", _gelu, ((3, 4),), lambda x: F.gelu(x, approximate="tanh"), {"vjp": _gelu_vjp}),
    Row("softmax", "numpy", _softmax, ((3, 4),), lambda x: x.softmax(-1), {"vjp": _softmax_vjp}),
    Row("rms_norm", "numpy", _rms_norm, ((3, 4), (4,)), lambda x, w: F.rms_norm(x, (4,), w, 1e-6),
        {"vjp": _rms_norm_vjp}),
    Row("two layers", "numpy", _two_layers, ((3, 4), (4, 5), (5, 2)),
        lambda x, a, b: torch.tanh(x @ a) @ b, {"vjp": _two_layers_vjp}),
    Row("cross_entropy", "numpy", _cross_entropy, ((3, 4), 4), F.cross_entropy, {"vjp": _cross_entropy_vjp}),
    Row("tanh", "torch", torch.tanh, ((3, 4),)),
    Row("gelu", "torch", F.gelu, ((3, 4),)),
    Row("softplus", "torch", F.softplus, ((3, 4),)),
    Row("silu, autograd.Function", "torch", SiLU.apply, ((3, 4),)),
    Row("x / norm, autograd.Function", "torch", Normalised.apply, ((3, 4),)),
    Row("softmax", "torch", lambda x: x.softmax(-1), ((3, 4),)),
    Row("layer_norm(x @ w)", "torch", lambda x, w: F.layer_norm(x @ w, (4,)), ((3, 4), (4, 4))),
    Row("batch_norm", "torch",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), ((4, 3), (3,), (3,))),
    Row("attention", "torch", _attention(lambda x: x.softmax(-1)), ((3, 4), (3, 4), (3, 4))),
    Row("mlp with cross_entropy", "torch", Classifier(), ((3, 4), 3)),
    Row("cross_entropy", "torch", F.cross_entropy, ((3, 4), 4)),
    Row("bce with logits", "torch", F.binary_cross_entropy_with_logits,
        ((3, 4), arrays("float64", (3, 4), min_value=0, max_value=1, framework="torch"))),
    Row("lstm cell", "torch", _lstm, ((2, 3), (2, 2), (2, 2), (8, 3), (8, 2), (8,))),
    Row("conv2d", "torch", F.conv2d, ((1, 2, 4, 4), (2, 2, 3, 3), (2,))),
    Row("cholesky solve", "torch", _solve, ((3, 3), (3, 2))),
    Row("gelu", "jax", jax.nn.gelu, ((3, 4),)),
    Row("softplus, custom_vjp", "jax", log1pexp, ((3, 4),)),
    Row("clip, custom_vjp", "jax", clipped, ((3, 4),)),
    Row("softmax", "jax", jax.nn.softmax, ((3, 4),)),
    Row("layer_norm", "jax", _jax_layer_norm, ((3, 4), (4,), (4,))),
    Row("attention", "jax", _attention(jax.nn.softmax), ((3, 4), (3, 4), (3, 4))),
    Row("mlp with cross_entropy", "jax", _jax_classifier, ((3, 4), (4, 5), (5, 3))),
]  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------


def _strategy(row: Row, given: Any) -> Any:
    if isinstance(given, tuple):
        return arrays("float64", given, min_value=-10, max_value=10, framework=row.framework)
    return labels(row.inputs[0][0], given) if isinstance(given, int) else given


def _point(row: Row, given: Any, kind: str, rng: np.random.Generator) -> Any:
    if isinstance(given, int):
        out = rng.integers(0, given, row.inputs[0][0])
    elif isinstance(given, tuple):
        out = rng.uniform(-2, 2, given)
    else:  # probabilities
        out = rng.uniform(0.1, 0.9, (3, 4))
    return {"torch": torch.tensor, "jax": jnp.asarray}.get(kind, np.asarray)(out)


def cpu(task: Callable[[], Any]) -> float:
    """Give the median CPU seconds of a task."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return statistics.median(times)


def own_check(row: Row) -> Callable[[], Any]:
    """Give the numerical check of the framework, or of torch for NumPy, at one point."""
    kind = "jax" if row.framework == "jax" else "torch"
    given = [_point(row, i, kind, np.random.default_rng(1)) for i in row.inputs]
    if kind == "jax":
        from jax.test_util import check_grads

        modes = ("rev",) if isinstance(row.fn, jax.custom_vjp) else ("fwd", "rev")
        return lambda: check_grads(row.fn, given, order=1, modes=modes)
    fn, more = row.beside or row.fn, []
    if isinstance(fn, torch.nn.Module):
        fn, more = _of_parameters(fn)
    given = [a.requires_grad_() if a.is_floating_point() else a for a in given] + more
    return lambda: torch.autograd.gradcheck(fn, given)


_FACTORS = (1 + k / 1024 for k in itertools.count(1))


def unlike(row: Row) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Give a function that executes what none did before, a multiple of a row's, and its options."""
    factor, options = next(_FACTORS), dict(row.options)

    def multiple(*args):
        results = row.fn(*args)
        return (
            tuple(factor * r for r in results) if isinstance(results, tuple) else factor * results
        )

    if "vjp" in options:
        options["vjp"] = lambda v, *args: row.options["vjp"](factor * v, *args)
    return multiple, options | {"raise_exception": False}


@pytest.fixture(scope="module")
def table(request):
    """Collect lines; print them at the end, though pytest captures what tests print."""
    rows: list[tuple[Any, ...]] = []
    first: list[tuple[str, float]] = []
    yield rows, first
    lines = []
    if rows:
        heads = "".join(
            f"{head:>9}{'×':>6}" for head in ("searched", "one", "anew", "new", "unlike")
        )
        lines = ["", f"{'CPU ms':38}{'own':>8}{heads}"]
        for name, own, *prices, verdict in rows:
            ratios = "".join(f"{ms:9.2f}{ms / own:6.1f}" for ms in prices)
            lines.append(f"{name:38}{own:8.2f}{ratios} {verdict}")
        for what, chosen in [("all", ""), *((f, f) for f in ("numpy", "torch", "jax"))]:
            few = [r for r in rows if r[0].startswith(chosen)]
            if few:
                ratios = [[r[k] / r[1] for r in few] for k in range(2, 7)]
                told = [f"{statistics.median(r):.2f} × (worst {max(r):.1f})" for r in ratios]
                lines.append(
                    f"{what}: median {told[0]} per searched input, {told[1]} for one point, {told[2]} of a "
                    f"function made anew, {told[3]} of new code, {told[4]} of one unlike any before"
                )
    lines += [f"first check of a process, {f}: {seconds:.2f} s of CPU" for f, seconds in first]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n".join(lines))  # noqa: T201 - a report


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.framework} {r.name}")
def test_price(row, table):
    rng = np.random.default_rng(1)
    point = [_point(row, i, row.framework, rng) for i in row.inputs]
    drawn = [_strategy(row, i) for i in row.inputs]
    own, options = own_check(row), row.options | {"raise_exception": False}
    own()
    gradcheck(row.fn, point, **options)
    one = cpu(lambda: gradcheck(row.fn, point, **options))
    # Of the same function not everything is asked again; test suites make another object of it each time.
    anew = cpu(lambda: gradcheck(lambda *args: row.fn(*args), point, **options))  # noqa: PLW0108
    source = (
        "lambda *args: fn(*args)"  # whose code, outside of any module, is that of no other function
    )
    new = cpu(lambda: gradcheck(eval(source, {"fn": row.fn}), point, **options))  # noqa: S307

    def checked():
        fn, given = unlike(row)
        gradcheck(fn, point, **given)

    other = cpu(checked)
    start = time.process_time()
    report = gradcheck(row.fn, drawn, max_examples=EXAMPLES, **options)
    searched = (time.process_time() - start) / report.points
    verdict = "" if report.ok else str(report.verdict)
    name = f"{row.framework} {row.name}"
    prices = [1000 * seconds for seconds in (cpu(own), searched, one, anew, new, other)]
    table[0].append((name, *prices, verdict))


FIRST = """
import time, numpy
{imports}
start = time.process_time()
from ffverify import gradcheck
gradcheck({call})
print(time.process_time() - start)
"""


@pytest.mark.parametrize(
    ("framework", "imports", "call"),
    [
        ("numpy", "", "numpy.tanh, numpy.ones(3), vjp=lambda v, x: v * (1 - numpy.tanh(x) ** 2)"),
        ("torch", "import torch", "torch.tanh, torch.ones(3, dtype=torch.float64)"),
        ("jax", "import jax.numpy", "jax.numpy.tanh, jax.numpy.ones(3)"),
    ],
)
def test_price_of_the_first_check(framework, imports, call, table):
    program = [sys.executable, "-c", FIRST.format(imports=imports, call=call)]
    # Installed modules are compiled to bytecode; the first of these runs compiles what is not.
    writing = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    seconds = [
        float(subprocess.run(program, check=True, capture_output=True, env=writing).stdout)
        for _ in range(3)
    ]
    table[1].append((framework, statistics.median(seconds)))
