"""How long a gradient check takes: ``pytest tests/benchmarks -k gradcheck --benchmark-only``.

The network with 26,122 parameters on 16 rows beside torch's own checker, and growth with parameters.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck

torch = pytest.importorskip("torch")


def network(widths):
    """Give the mean of squares of a tanh network of these widths."""
    torch.manual_seed(0)
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [torch.nn.Linear(a, b, dtype=torch.float64), torch.nn.Tanh()]
    stack = torch.nn.Sequential(*layers[:-1])

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stack = stack

        def forward(self, x):
            return (self.stack(x) ** 2).mean()

    return Loss(), torch.randn(16, widths[0], dtype=torch.float64)


@pytest.mark.parametrize(
    "widths", [(8, 8, 4), (28, 32, 5, 1), (64, 128, 128, 10), (784, 128, 10), (784, 1024, 200, 10)]
)
def test_gradcheck_of_a_network(benchmark, widths):
    loss, x = network(widths)
    benchmark.extra_info["parameters"] = sum(p.numel() for p in loss.parameters())
    gradcheck(loss, x)  # the first check of a process imports torch's tracer
    report = benchmark.pedantic(gradcheck, args=(loss, x), rounds=3)
    assert report.truth == "shadow"


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_torch_gradcheck_of_the_same_network(benchmark, fast):
    loss, x = network((64, 128, 128, 10))
    names = [n for n, _ in loss.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in loss.parameters()]

    def of_parameters(*values):
        return torch.func.functional_call(loss, dict(zip(names, values, strict=True)), (x,))

    benchmark.pedantic(
        torch.autograd.gradcheck, args=(of_parameters, parameters),
        kwargs={"fast_mode": fast}, rounds=1,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_gradcheck_finds_one_sign_of_1e5(benchmark, seed):
    x = np.random.default_rng(seed).normal(size=100_000)
    place = int(np.random.default_rng(seed + 100).integers(x.size))

    def vjp(v, x):
        return (np.where(np.arange(x.size) == place, -2 * v * x, 2 * v * x),)

    report = benchmark.pedantic(
        gradcheck, args=(lambda x: np.sum(x * x), x),
        kwargs={"vjp": vjp, "seed": seed, "raise_exception": False}, rounds=1,
    )  # fmt: skip
    assert [f.index for f in report.findings] == [(place,)]
