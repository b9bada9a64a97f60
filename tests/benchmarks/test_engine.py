"""Gradients side by side: compiled, eager, hand-written NumPy, torch, autograd, JAX.

    OMP_NUM_THREADS=1 pytest tests/benchmarks -k engine --benchmark-only -s

prints, before pytest-benchmark's own table, each one's time as a multiple of hand-written NumPy:
medians of interleaved repetitions, CPU time of all threads, float64; first of a loss in plain NumPy, as
autograd's and torch's are, then of one that calls this engine's fused `affine` and `softmax_nll`; the time
that compiling takes; and GradBench's objectives as a multiple of torch's eager mode. Nothing here asserts a
time.
"""

import functools
import importlib.util
import itertools
import statistics
import time

import numpy as np
import pytest

from ffverify.reference import (
    affine,
    compile,  # noqa: A004  # the engine's name
    flatten,
    grad,
    hvp,
    logsumexp,
    mixture_nll,
    softmax_nll,
    value_and_grad,
)
from tests.reference.objectives import lse, ode

SHAPES = {
    "2-2-2 x4": ([2, 2, 2], 4),
    "10-32-32-2 x32": ([10, 32, 32, 2], 32),
    "784-128-10 x64": ([784, 128, 10], 64),
    "784-1024-1024-10 x256": ([784, 1024, 1024, 10], 256),
    "20 layers of 32 x32": ([32] * 21, 32),
}


def problem(name):
    widths, n = SHAPES[name]
    rng = np.random.default_rng(0)
    params = [
        (rng.normal(size=(a, b)) / np.sqrt(a), np.zeros(b)) for a, b in itertools.pairwise(widths)
    ]
    return params, rng.normal(size=(n, widths[0])), rng.integers(0, widths[-1], n)


def loss(params, X, Y):
    """What people write."""
    h = X
    for W, b in params[:-1]:
        h = np.tanh(h @ W + b)
    W, b = params[-1]
    z = h @ W + b
    z = z - np.max(z, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(Y)), Y])


def fused_loss(params, X, Y):
    h = X
    for W, b in params[:-1]:
        h = np.tanh(affine(h, W, b))
    W, b = params[-1]
    return np.mean(softmax_nll(affine(h, W, b), Y))


def handwritten(params, X, Y):
    """Back-propagation as one writes it by hand; like most, it takes tanh' as 1 - h²."""
    n = len(Y)
    rows = np.arange(n)
    hs = [X]
    for W, b in params[:-1]:
        hs.append(np.tanh(hs[-1] @ W + b))
    W, b = params[-1]
    z = hs[-1] @ W + b
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    s = e.sum(axis=1, keepdims=True)
    value = np.mean(np.log(s[:, 0]) - z[rows, Y])
    g = e / s
    g[rows, Y] -= 1
    g /= n
    gradients = []
    for i in range(len(params) - 1, -1, -1):
        gradients.append((hs[i].T @ g, g.sum(axis=0)))
        if i:
            g = (g @ params[i][0].T) * (1 - hs[i] * hs[i])
    return value, gradients[::-1]


def torch_gradient(params, X, Y):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    tensors = [tuple(torch.tensor(a, requires_grad=True) for a in layer) for layer in params]
    inputs, labels = torch.tensor(X), torch.tensor(Y)
    leaves = [t for layer in tensors for t in layer]

    def run():
        h = inputs
        for W, b in tensors[:-1]:
            h = torch.tanh(torch.addmm(b, h, W))
        W, b = tensors[-1]
        cost = torch.nn.functional.cross_entropy(torch.addmm(b, h, W), labels)
        return cost, torch.autograd.grad(cost, leaves)

    return run


def autograd_gradient(params, X, Y):
    autograd = pytest.importorskip("autograd")
    anp = pytest.importorskip("autograd.numpy")

    def cost(params):
        h = X
        for W, b in params[:-1]:
            h = anp.tanh(anp.dot(h, W) + b)
        W, b = params[-1]
        z = anp.dot(h, W) + b
        z = z - anp.max(z, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[np.arange(len(Y)), Y])

    gradient = autograd.value_and_grad(cost)
    return lambda: gradient(params)


def jax_gradient(params, X, Y):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def cost(params, X, Y):
        h = X
        for W, b in params[:-1]:
            h = jnp.tanh(h @ W + b)
        W, b = params[-1]
        z = jax.nn.log_softmax(h @ W + b)
        return -jnp.mean(z[jnp.arange(len(Y)), Y])

    gradient = jax.jit(jax.value_and_grad(cost))
    arrays = jax.tree.map(jnp.asarray, (params, X, Y))
    return lambda: jax.block_until_ready(gradient(*arrays))


def contenders(name):
    params, X, Y = problem(name)
    eager, eager_fused = value_and_grad(loss), value_and_grad(fused_loss)
    program, program_fused = compile(eager), compile(eager_fused)
    found = {
        "hand-written": lambda: handwritten(params, X, Y),
        "compiled": lambda: program(params, X, Y),
        "eager": lambda: eager(params, X, Y),
        "fused compiled": lambda: program_fused(params, X, Y),
        "fused eager": lambda: eager_fused(params, X, Y),
    }
    for package, make in [("torch", torch_gradient), ("autograd", autograd_gradient)]:
        if importlib.util.find_spec(package):
            found[package] = make(params, X, Y)
    return found


# The objectives of GradBench that give one real number, in a framework's plain functions -----------------


def ba(xp, cameras, points, weights, features):
    """Half the squared reprojection errors of as many cameras as points, with radial distortion."""
    rotation, moved = cameras[:, :3], points - cameras[:, 3:6]
    theta = xp.sqrt(xp.sum(rotation**2, axis=1))[:, None]
    axis = rotation / theta
    u, v, w = axis[:, 0:1], axis[:, 1:2], axis[:, 2:3]
    x, y, z = moved[:, 0:1], moved[:, 1:2], moved[:, 2:3]
    crossed = xp.concatenate([v * z - w * y, w * x - u * z, u * y - v * x], axis=1)
    along = xp.sum(axis * moved, axis=1)[:, None] * (1 - xp.cos(theta))
    p = moved * xp.cos(theta) + crossed * xp.sin(theta) + axis * along
    flat = p[:, :2] / p[:, 2:3]
    r2 = xp.sum(flat**2, axis=1)[:, None]
    distorted = flat * (1 + cameras[:, 9:10] * r2 + cameras[:, 10:] * r2**2)
    errors = weights * (cameras[:, 6:7] * distorted + cameras[:, 7:9] - features)
    return 0.5 * xp.sum(errors**2)


def gmm(xp, alphas, means, factors, x, lower):
    """ADBench's Gaussian mixture up to constants.

    Each component's factor has the logs of its diagonal first, then what `lower` puts below it.
    """
    d = x.shape[1]
    scales, below = xp.exp(factors[:, :d]), factors[:, d:]
    centred = x[None] - means[:, None]
    white = centred * scales[:, None] + centred @ (below @ lower).reshape(-1, d, d).swapaxes(1, 2)
    log_weights = alphas + xp.sum(factors[:, :d], axis=1)
    terms = log_weights[:, None] - 0.5 * xp.sum(white**2, axis=2)
    largest = xp.amax if xp.__name__ == "torch" else xp.max

    def lse(z):
        top = largest(z, axis=0)
        return xp.log(xp.sum(xp.exp(z - top), axis=0)) + top

    prior = 0.5 * (xp.sum(scales**2) + xp.sum(below**2))
    return xp.sum(lse(terms)) - x.shape[0] * lse(alphas) + prior


def objectives():
    """Return (function, arguments, data) of each, by name and size."""
    rng = np.random.default_rng(0)
    n, d, k, observed = 1000, 10, 25, 100
    lower = np.zeros((d * (d - 1) // 2, d, d))
    lower[(np.arange(len(lower)), *np.tril_indices(d, -1))] = 1
    mixture = [0.3 * rng.normal(size=shape) for shape in [(k,), (k, d), (k, d * (d + 1) // 2)]]
    camera = np.array([0.1, -0.2, 0.3, 0.2, 0.1, 5.0, 2.0, 0.3, -0.1, 0.02, -0.01])
    cameras = camera * rng.uniform(0.9, 1.1, (observed, 11))
    points = np.array([0.5, -0.4, -1.0]) * rng.uniform(0.9, 1.1, (observed, 3))
    return {
        "lse, n=1000": (lse, [rng.normal(size=1000)], ()),
        "ode, n=100": (
            functools.partial(ode, steps=10),
            [rng.uniform(0.5, 1.5, 100)],
            (np.zeros(100), np.ones(1)),
        ),
        "ba, 100 observations": (
            ba,
            [cameras, points, rng.uniform(0.5, 1.0, (observed, 1))],
            (rng.normal(size=(observed, 2)),),
        ),
        "gmm, n=1000, d=10, k=25": (
            gmm,
            mixture,
            (rng.normal(size=(n, d)), lower.reshape(len(lower), -1)),
        ),
    }


def objective_contenders(name):
    """Values and gradients of an objective; torch's first, of which the others' times are multiples."""
    f, at, given = objectives()[name]
    places = tuple(range(len(at)))
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    tensors = [torch.tensor(a, requires_grad=True) for a in at]
    constant = [torch.tensor(a) for a in given]

    def in_torch():
        cost = f(torch, *tensors, *constant)
        return cost, torch.autograd.grad(cost, tensors)

    eager = value_and_grad(lambda *at: f(np, *at, *given), places)
    program = compile(eager)
    found = {
        "torch": in_torch,
        "compiled": lambda: program(*at),
        "eager": lambda: eager(*at),
    }
    if importlib.util.find_spec("autograd"):
        autograd = importlib.import_module("autograd")
        anp = importlib.import_module("autograd.numpy")
        theirs = autograd.value_and_grad(lambda *at: f(anp, *at, *given), places)
        found["autograd"] = lambda: theirs(*at)
    if importlib.util.find_spec("jax"):
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        jitted = jax.jit(jax.value_and_grad(lambda *at: f(jax.numpy, *at, *given), places))
        arrays = [jax.numpy.asarray(a) for a in at]
        found["jax jit"] = lambda: jax.block_until_ready(jitted(*arrays))
    return found


@pytest.mark.parametrize("name", list(objectives()))
def test_all_agree_on_the_objectives(name):
    found = objective_contenders(name)
    cost, gradients = found.pop("torch")()
    for contender in found.values():
        value, ours = contender()
        # Sums of up to n k d = 250,000 terms, with a few roundings of the largest entry each: 10^6 in all.
        np.testing.assert_allclose(value, cost.item(), rtol=1e6 * 2**-53)
        for a, b in zip(ours, gradients, strict=True):
            largest = float(abs(b).max())
            np.testing.assert_allclose(a, b, rtol=0, atol=1e6 * 2**-53 * largest)


def interleaved(functions, *, seconds=1.0, minimum=5):
    """Median CPU time of each, in turns so that the machine's moods meet all alike."""
    times = {name: [] for name in functions}
    for f in functions.values():  # for a while: what comes often is compiled, in eager mode too
        end = time.perf_counter() + 0.3
        f()
        while time.perf_counter() < end:
            f()
    base = next(iter(functions))
    start = time.process_time()
    functions[base]()
    repeat = max(1, int(1e-3 / max(time.process_time() - start, 1e-7)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[base]) < minimum:
        for name, f in functions.items():
            start = time.process_time()
            for _ in range(repeat):
                f()
            times[name].append((time.process_time() - start) / repeat)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.mark.parametrize("name", list(SHAPES))
def test_engine_agrees_with_handwritten(name):
    params, X, Y = problem(name)
    expected = flatten(handwritten(params, X, Y))[0]
    for f in (
        g
        for cost in (loss, fused_loss)
        for g in (value_and_grad(cost), compile(value_and_grad(cost)))
    ):
        for found, true in zip(flatten(f(params, X, Y))[0], expected, strict=True):
            # Products sum 784 + 1024 + 1024 terms forwards, 10 + 1024 and 256 rows backwards, with a few
            # roundings an element between: fewer than 10^4 in all, each at most the largest entry's u.
            np.testing.assert_allclose(found, true, rtol=0, atol=1e4 * 2**-53 * np.abs(true).max())


def test_engine_ratios(benchmark, capsys):
    def table():
        return {name: interleaved(contenders(name)) for name in SHAPES}

    rows = benchmark.pedantic(table, rounds=1)
    with capsys.disabled():
        print("\nas a multiple of hand-written NumPy")  # noqa: T201  # this is its purpose
        for name, row in rows.items():
            base = row["hand-written"]
            ratios = "  ".join(
                f"{k} {v / base:5.2f}" for k, v in row.items() if k != "hand-written"
            )
            print(f"{name:24s} {base * 1e6:10.1f} µs  {ratios}")  # noqa: T201  # this is its purpose
        print("objectives of GradBench, as a multiple of torch's eager mode")  # noqa: T201  # as above
        for name in objectives():
            row = interleaved(objective_contenders(name))
            base = row.pop("torch")
            ratios = "  ".join(f"{k} {v / base:5.2f}" for k, v in row.items())
            print(f"{name:24s} {base * 1e6:10.1f} µs  {ratios}")  # noqa: T201  # as above
        print("compiling takes")  # noqa: T201  # this is its purpose
        for name in SHAPES:
            args = problem(name)
            start = time.thread_time()
            compile(value_and_grad(loss))(*args)
            spent = (time.thread_time() - start) * 1e3
            print(f"{name:24s} {spent:10.1f} ms")  # noqa: T201  # this is its purpose


@pytest.mark.parametrize(
    "which",
    [
        "hand-written",
        "compiled",
        "eager",
        "fused compiled",
        "fused eager",
        "torch",
        "autograd",
        "jax",
    ],
)
@pytest.mark.parametrize("name", list(SHAPES))
def test_engine_gradient(benchmark, name, which):
    benchmark.group = f"gradient {name}"
    if which == "jax":
        run = jax_gradient(*problem(name))
    else:
        run = contenders(name).get(which)
        if run is None:
            pytest.skip(f"{which} is not installed")  # a contender, of no concern to the others
    run()
    benchmark(run)


@pytest.mark.parametrize("which", ["value", "gradient", "compiled gradient"])
def test_engine_logsumexp_of_a_million(benchmark, which):
    x = np.random.default_rng(0).normal(size=10**6)
    f = {
        "value": logsumexp,
        "gradient": grad(logsumexp),
        "compiled gradient": compile(grad(logsumexp)),
    }
    benchmark.group = "log-sum-exp of 10^6 values"
    benchmark(f[which], x)


@pytest.mark.parametrize("which", ["value", "gradient", "compiled gradient"])
def test_engine_gaussian_mixture(benchmark, which):
    rng = np.random.default_rng(0)
    n, d, k = 1000, 10, 25
    y, args = rng.normal(size=(n, d)), (rng.normal(size=k), rng.normal(size=(k, d)), np.ones(k))

    def cost(logits, means, precisions):
        return np.mean(mixture_nll(logits, means, precisions, y))

    f = {"value": cost, "gradient": grad(cost, (0, 1, 2)), "compiled gradient": None}
    f["compiled gradient"] = compile(f["gradient"])
    benchmark.group = "Gaussian mixture, n=1000, d=10, k=25"
    benchmark(f[which], *args)


@pytest.mark.parametrize("depth", [2, 8, 32, 128])
def test_engine_growth_with_depth(benchmark, depth):
    SHAPES["depth"] = ([32] * (depth + 1), 32)
    args = problem("depth")
    del SHAPES["depth"]
    benchmark.group = "growth with depth, 32 wide"
    benchmark(value_and_grad(loss), *args)


@pytest.mark.parametrize("width", [8, 32, 128, 512])
def test_engine_growth_with_width(benchmark, width):
    SHAPES["width"] = ([width] * 4, 32)
    params, X, Y = problem("width")
    del SHAPES["width"]
    benchmark.group = "growth of an HVP with width, 3 layers"
    benchmark(lambda: hvp(lambda p: loss(p, X, Y), params, params))
