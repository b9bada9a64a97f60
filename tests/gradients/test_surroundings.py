"""gradcheck among threads, and the function under test in its caller's surroundings."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import flint
import mpmath
import numpy as np
import pytest
from hypothesis.internal.conjecture import providers

from ffverify import gradcheck, strategies

FACTOR = contextvars.ContextVar("FACTOR", default=1.0)
own = threading.local()


def _check(k: int) -> tuple[object, ...]:
    """Check one of four functions, two of them with a wrong or a lossy gradient."""
    functions = (
        (lambda x: np.log1p(np.exp(x)), None),
        (lambda x: x**3, lambda v, x: (v * 3.0001 * x * x,)),
        (lambda x: np.tanh(x) * x, None),
        (lambda x: 1 - np.cos(x), lambda v, x: (v * (np.sin(x + 1) - np.sin(1 - x)) / 2 / np.cos(1),)),
    )  # fmt: skip
    fn, vjp = functions[k % 4]
    x = np.random.default_rng(k).normal(size=3) if k % 9 else strategies.arrays("float64", (2,))
    report = gradcheck(fn, x, vjp=vjp, max_examples=4, raise_exception=False)
    found = tuple(str(f) for f in report.findings)
    return report.verdict, report.points, report.judged, report.worst_ulps, found


def _settings() -> tuple[object, ...]:
    return (
        flint.ctx.prec,
        flint.ctx.cap,
        mpmath.mp.prec,
        providers._get_local_constants,
        np.geterr(),
    )


def test_threads_find_what_one_thread_finds():
    before, alone = _settings(), [_check(k) for k in range(20)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(_check, range(20)))
    assert together == alone
    assert {"correct", "wrong"} <= {found[0] for found in alone}
    assert _settings() == before


def test_one_thread_checks_while_others_wait():
    inside, most = [0], [0]

    def fn(x):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)
        inside[0] -= 1
        return x * x

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda k: gradcheck(fn, np.array([k + 0.5])).ok, range(4)))
    assert most == [1]


def test_a_function_may_check_another():
    def fn(x):
        assert gradcheck(np.sin, np.array([0.5])).ok
        return x * x

    assert gradcheck(fn, np.array([0.5])).ok


def test_context_variables_and_thread_locals_reach_the_function():
    def fn(x):
        return FACTOR.get() * own.factor * x * x

    def vjp(v, x):
        return (v * 6 * x,)

    own.factor = 1.5
    token = FACTOR.set(2.0)
    try:
        assert gradcheck(fn, np.array([0.7, -1.1]), vjp=vjp).ok
    finally:
        FACTOR.reset(token)
    assert not gradcheck(fn, np.array([0.7, -1.1]), vjp=vjp, raise_exception=False).ok


# ---------------------------------------------------------------------------------------------
# torch's modes
# ---------------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")
F = torch.nn.functional
WEIGHTS = torch.linspace(-1, 1, 9).reshape(3, 3)


class Square(torch.autograd.Function):
    factor = 2.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @classmethod
    def backward(cls, ctx, v):
        return cls.factor * v * ctx.saved_tensors[0]


class NotTwice(Square):
    factor = 2.01


RIGHT = {
    "tanh": torch.tanh,
    "linear": torch.nn.Linear(3, 2),
    "batch_norm": torch.nn.BatchNorm1d(3).eval(),
    "product": lambda x: x @ WEIGHTS,
    "softmax": lambda x: F.softmax(x, -1),
    "in place": lambda x: x.clone().mul_(2).sin(),
    "custom": Square.apply,
}
WRONG = {"detached": lambda x: x * x.detach(), "not twice": NotTwice.apply}
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("cpu"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_modes_around_the_check_do_not_change_the_verdict(mode, name):
    x = torch.tensor([[0.5, -1.25, 2.0], [0.25, 0.75, -0.5]])
    with MODES[mode]():
        report = gradcheck((RIGHT | WRONG)[name], x.clone(), raise_exception=False)
    assert report.ok is (name in RIGHT), str(report)
    assert set(report.modes) == {"reverse", "forward"} or "custom" in name or "not" in name


def test_second_order_in_inference_mode():
    with torch.inference_mode():
        assert gradcheck(torch.sigmoid, torch.tensor([0.5, -1.25]), order=2).ok


def test_the_function_runs_in_the_format_of_its_autocast():
    def fn(x):
        return x @ WEIGHTS

    x = torch.tensor([[0.5, -1.25, 2.0]])
    assert fn(x).dtype == torch.float32
    seen = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gradcheck(lambda x: seen.append(fn(x).dtype) or fn(x), x).ok
    assert set(seen) == {torch.bfloat16}


def test_x64_around_the_check_reaches_jax():
    jax = pytest.importorskip("jax")
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

    def fn(x):
        seen.append(jax.numpy.zeros(1).dtype.name)  # of the surroundings, not of x
        return jax.numpy.sin(x)

    for wide, expected in ((False, "float32"), (True, "float64")):
        seen: list[str] = []
        with enable(wide):
            before = jax.config.jax_enable_x64
            assert gradcheck(fn, jax.numpy.array([0.5, -1.25])).ok
            assert jax.config.jax_enable_x64 is before
        assert set(seen) == {expected}
