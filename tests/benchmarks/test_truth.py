"""Truth: points per second, the exact derivative of a network, and what shadows cover.

    OMP_NUM_THREADS=1 pytest tests/benchmarks -k truth --benchmark-only -s

prints, before pytest-benchmark's own table, rates in points per second of one thread's CPU time, and
each task beside the same task on object arrays of mpmath numbers. Nothing here asserts a time.
"""

import itertools
import statistics
import time

import numpy as np
import pytest

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import arb
from ffverify.exact.matrices import arb_mat
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.adaptive import FIRST_PRECISION

F64 = formats.of("float64")
BITS = 170
WIDTHS, ROWS = [64, 128, 128, 10], 16


def cpu_time(task, rounds=5):
    times = []
    for _ in range(rounds):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return statistics.median(times)


def report(what, seconds, points=0, *, beside=None):
    rate = f", {points / seconds:,.0f} points/s" if points else ""
    ratio = f", {beside / seconds:.0f} × as fast as mpmath objects" if beside else ""
    print(f"\n{what}: {seconds:.4f} s{rate}{ratio}")  # noqa: T201 - a report


@pytest.mark.parametrize("name", ["relu", "exp", "softplus", "tanh", "gelu"])
def test_truth_elementwise(benchmark, name):
    function = textbook.CATALOGUE[name].function
    x = np.random.default_rng(0).normal(size=10_000)

    def value():
        return truth.value(function, [x], F64, core=(0,))

    def slope():
        return truth.directional(function, [x], [np.ones_like(x)], F64, core=(0,))

    def on_mpmath():
        with MPMATH.precision(FIRST_PRECISION):
            return function(MPMATH.array(x[:500]))

    def on_balls():
        with BALLS.precision(FIRST_PRECISION):
            return function(BALLS.array(x))

    for what, truth_of in (("value", value), ("slope", slope)):
        report(f"{name}, truth of the {what}", cpu_time(truth_of), len(x))
        moved = cpu_time(lambda truth_of=truth_of: truth_of().motion)
        report(f"{name}, truth of the {what} and its motion", moved, len(x))
    report(f"{name}, definition alone", cpu_time(on_balls), len(x), beside=20 * cpu_time(on_mpmath))
    benchmark.pedantic(value, rounds=3)


def test_truth_softmax_rows(benchmark):
    z = np.random.default_rng(0).normal(size=(1000, 10)) * 5
    function = textbook.CATALOGUE["softmax"].function

    def value():
        return truth.value(function, [z], F64, core=(1,))

    report("softmax of rows of 10, truth of the value", cpu_time(value), len(z))
    benchmark.pedantic(value, rounds=3)


def network():
    rng = np.random.default_rng(0)
    layers = [
        (rng.normal(size=(m, n)) / np.sqrt(m), rng.normal(size=n))
        for m, n in itertools.pairwise(WIDTHS)
    ]
    parameters = [p for layer in layers for p in layer]
    x, labels = rng.normal(size=(ROWS, WIDTHS[0])), rng.integers(0, WIDTHS[-1], ROWS)

    def loss(*parameters):
        h = x
        for k in range(0, 4, 2):
            h = np.tanh(h @ parameters[k] + parameters[k + 1])
        z = h @ parameters[4] + parameters[5]
        right = z[np.arange(ROWS), labels]
        return np.sum(np.log(np.sum(np.exp(z), axis=1)) - right)

    return loss, parameters, [rng.normal(size=p.shape) for p in parameters]


def floor(parameters):
    """Give the time of nothing but the matrix products and the tanhs of two runs at BITS bits."""
    rng = np.random.default_rng(0)
    with BALLS.precision(BITS):
        step = arb(2.0 ** -(BITS // 3))
        weights = [
            arb_mat(*W.shape, [arb(w) + step / 3 for w in W.ravel()]) for W in parameters[::2]
        ]
        tanhs = [[arb(y).tanh() for y in rng.normal(size=ROWS * n)] for n in WIDTHS[1:3]]
        inputs = [arb_mat(ROWS, WIDTHS[0], rng.normal(size=ROWS * WIDTHS[0]).tolist())]
        inputs += [arb_mat(ROWS, len(h) // ROWS, h) for h in tanhs]

        def two_runs():
            for _ in range(2):
                for x, W in zip(inputs, weights, strict=True):
                    x * W
                for h in tanhs:
                    list(map(arb.tanh, h))

        return cpu_time(two_runs)


def test_truth_of_a_networks_directional_derivative(benchmark):
    loss, parameters, directions = network()

    def central(arithmetic):
        with arithmetic.precision(BITS):
            step = arithmetic.array(2.0 ** -(BITS // 3))
            points = [arithmetic.array(p) for p in parameters]
            moves = [arithmetic.array(d) * step for d in directions]
            above = loss(*(p + m for p, m in zip(points, moves, strict=True)))
            below = loss(*(p - m for p, m in zip(points, moves, strict=True)))
            return (above - below) / (2 * step)

    def exact():
        return truth.directional(loss, parameters, directions, F64)

    on_mpmath = cpu_time(lambda: central(MPMATH), rounds=3)
    what = f"{sum(p.size for p in parameters)} parameters × {ROWS}"
    report(f"{what}, two runs at {BITS} bits", cpu_time(lambda: central(BALLS)), beside=on_mpmath)
    report("their products and tanhs alone", floor(parameters), beside=on_mpmath)
    report("truth.directional: four runs, kink test", cpu_time(exact), beside=2 * on_mpmath)
    report("the same with its motion", cpu_time(lambda: exact().motion, rounds=3))
    assert isinstance(central(BALLS), PreciseArray)
    benchmark.pedantic(central, args=(BALLS,), rounds=3)


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_truth_of_a_shadow(benchmark, framework):
    from ffverify.frameworks.shadow import Shadow

    x = np.random.default_rng(0).normal(size=(16, 64))
    if framework == "numpy":
        fn, point = (lambda x: np.log(np.sum(np.exp(np.tanh(x)), axis=1))), x
    elif framework == "torch":
        torch = pytest.importorskip("torch")
        fn, point = (lambda x: torch.logsumexp(torch.tanh(x), 1)), torch.from_numpy(x)
    else:
        jax = pytest.importorskip("jax")
        fn, point = (lambda x: jax.nn.logsumexp(jax.numpy.tanh(x), axis=1)), jax.numpy.asarray(x)

    def make():
        return Shadow(fn, [point], framework=framework)

    make()
    report(f"{framework}: tracing forward, backward and forward mode", cpu_time(make))
    program = make()
    with BALLS.precision(128):
        args = [BALLS.array(x), BALLS.array(np.ones(16))]
        program.backward(*args)  # where elements move is found on the first run
        report(
            f"{framework}: one exact backward", cpu_time(lambda: program.backward(*args)), x.size
        )
        benchmark.pedantic(program.backward, args=args, rounds=3)
