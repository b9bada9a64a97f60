"""Random programs on the engine and on torch: values, gradients, second orders, compiled, float32.

    python -m tests.reference.random_programs --count 3000 --seed 0

draws straight-line programs of up to twelve steps out of `STEPS` (arithmetic, reductions, indices, moves,
linear algebra, writing into arrays and views), runs each in NumPy through the engine and in torch's
float64, and compares value, gradient, JVP, and wᵀHv in all four nestings; that the compiled program has
the eager one's bits, also for other numbers, in float32, and after what it brings along has changed; that
the eager gradient keeps its bits where its backward sweep is compiled; and that float32 stays float32. It
prints what differs, with the seed that replays it.

Every step's slope is at most 4 in size and its second slope 8, for arguments of the sizes that occur;
errors of 2^-53 in one of twelve steps are then below 4^12 · 2^-53 = 2e-9 of the largest derivative at the
end. Twice that for two libraries, and some for sums of twelve terms, is `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from ffverify.reference import compile as compiled
from ffverify.reference import flatten, grad, jvp, value_and_grad, vjp
from ffverify.reference.programs import sweeps

TOLERANCE = 1e-8
SHAPE = (3, 4)
PLACES, ROW = np.array([2, 0, 2]), np.array([[1, 1, 3, 0]])
EYE = np.eye(3)
SPREAD = np.diag([1.0, 2.0, 4.0])  # keeps eigenvalues and singular values apart


class Step(NamedTuple):
    """One step in NumPy and in torch, of two matrices to one."""

    name: str
    in_numpy: Callable[[Any, Any], Any]
    in_torch: Callable[[Any, Any], Any]


def wide(x: Any) -> Any:
    return np.broadcast_to(x, SHAPE)


def wide_t(x: Any) -> Any:
    return x.expand(SHAPE)


def t(x: Any) -> Any:
    return torch.as_tensor(x)


def add_in_place(a: Any, b: Any) -> Any:
    v = a * 1.0
    w = v
    w += b * 0.5
    v[1:] *= 0.5
    for row in v:
        row -= 0.1  # noqa: PLW2901  # it writes into v
    return v


def add_in_place_t(a: Any, b: Any) -> Any:
    v = a.clone()
    v += b * 0.5
    v[1:] *= 0.5
    v -= 0.1
    return v


def write_elements(a: Any, b: Any) -> Any:
    v = a + 0.0
    part = v[1:].T
    part[::2] = b[1:, ::2].T * 0.5
    v[0, 1] = b[2, 3]
    v[:, [0, 0]] = v[:, 2:] * 0.5
    return v


def write_elements_t(a: Any, b: Any) -> Any:
    v = a.clone()
    v[1:, ::2] = b[1:, ::2] * 0.5
    v[0, 1] = b[2, 3]
    v[:, 0] = v[:, 3].clone() * 0.5
    return v


def symmetric(a: Any, b: Any) -> Any:
    return np.tanh(a @ b.T + b @ a.T) * 0.2


def symmetric_t(a: Any, b: Any) -> Any:
    return torch.tanh(a @ b.T + b @ a.T) * 0.2


def padded(x: Any) -> Any:
    """Widen a matrix of three columns."""
    return np.concatenate([x, x[:, :1]], axis=1)


def padded_t(x: Any) -> Any:
    return torch.cat([x, x[:, :1]], 1)


def softmax(a: Any, _b: Any) -> Any:
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


STEPS = [
    Step("tanh", lambda a, _: np.tanh(a), lambda a, _: torch.tanh(a)),
    Step("sin", lambda a, b: np.sin(a) + b * 0.5, lambda a, b: torch.sin(a) + b * 0.5),
    Step("exp", lambda a, _: np.exp(-a * a), lambda a, _: torch.exp(-a * a)),
    Step("arctan", lambda a, b: np.arctan(a - b), lambda a, b: torch.arctan(a - b)),
    Step("sqrt", lambda a, _: np.sqrt(1 + a**2), lambda a, _: torch.sqrt(1 + a**2)),
    Step("log1p", lambda a, b: np.log1p(a * a) * b, lambda a, b: torch.log1p(a * a) * b),
    Step("absolute", lambda a, b: np.abs(a) - b, lambda a, b: torch.abs(a) - b),
    Step("relu", lambda a, b: np.maximum(a, 0) + b, lambda a, b: torch.relu(a) + b),
    Step("maximum", np.maximum, torch.maximum),
    Step("minimum", np.fmin, torch.fmin),
    Step("ratio", lambda a, b: a / (1 + np.abs(b)), lambda a, b: a / (1 + torch.abs(b))),
    Step(
        "product", lambda a, b: np.tanh(a) * np.tanh(b), lambda a, b: torch.tanh(a) * torch.tanh(b)
    ),
    Step(
        "power", lambda a, b: (1 + a * a) ** np.tanh(b), lambda a, b: (1 + a * a) ** torch.tanh(b)
    ),
    Step("cube", lambda a, _: np.tanh(a) ** 3, lambda a, _: torch.tanh(a) ** 3),
    Step(
        "where",
        lambda a, b: np.where(a > b, a, b * b / 4),
        lambda a, b: torch.where(a > b, a, b * b / 4),
    ),
    Step("clip", lambda a, _: np.clip(a, -0.7, 0.9), lambda a, _: torch.clip(a, -0.7, 0.9)),
    Step("hypot", lambda a, b: np.hypot(a, b + 3), lambda a, b: torch.hypot(a, b + 3)),
    Step("logaddexp", np.logaddexp, torch.logaddexp),
    Step(
        "arctan2",
        lambda a, b: np.arctan2(a, 2 + np.tanh(b)),
        lambda a, b: torch.arctan2(a, 2 + torch.tanh(b)),
    ),
    Step("sum", lambda a, b: a.sum(axis=0) / 3 + b, lambda a, b: a.sum(0) / 3 + b),
    Step(
        "mean",
        lambda a, b: b - np.mean(a, axis=1, keepdims=True),
        lambda a, b: b - a.mean(1, keepdim=True),
    ),
    Step("max", lambda a, b: b + np.max(a, axis=0), lambda a, b: b + a.amax(0)),
    Step(
        "min",
        lambda a, b: wide(a.min(axis=1)[:, None] + b.min()),
        lambda a, b: wide_t(a.amin(1)[:, None] + b.amin()),
    ),
    Step(
        "prod",
        lambda a, b: b + np.prod(np.tanh(a), axis=1)[:, None],
        lambda a, b: b + torch.tanh(a).prod(1)[:, None],
    ),
    Step(
        "var",
        lambda a, b: b + np.var(a, axis=0, ddof=1) / 4,
        lambda a, b: b + a.var(0, correction=1) / 4,
    ),
    Step(
        "norm",
        lambda a, b: b + np.linalg.norm(a, axis=1, keepdims=True) / 2,
        lambda a, b: b + a.norm(dim=1, keepdim=True) / 2,
    ),
    Step("softmax", softmax, lambda a, _: torch.softmax(a, 1)),
    Step(
        "logsumexp",
        lambda a, b: b - np.log(np.sum(np.exp(a - np.max(a)), axis=0)) - np.max(a),
        lambda a, b: b - torch.logsumexp(a, 0),
    ),
    Step("cumsum", lambda a, _: np.cumsum(a, axis=1) / 2, lambda a, _: torch.cumsum(a, 1) / 2),
    Step(
        "cumprod",
        lambda a, _: np.cumprod(np.tanh(a), axis=0),
        lambda a, _: torch.cumprod(torch.tanh(a), 0),
    ),
    Step("sort", lambda a, _: np.sort(a, axis=1), lambda a, _: torch.sort(a, 1)[0]),
    Step("median", lambda a, b: b + np.median(a, axis=0), lambda a, b: b + a.median(0)[0]),
    Step(
        "diff",
        lambda a, b: padded(np.diff(a, axis=1)) + b * 0.5,
        lambda a, b: padded_t(torch.diff(a, dim=1)) + b * 0.5,
    ),
    Step("transpose", lambda a, _: a.T.reshape(SHAPE), lambda a, _: a.T.reshape(SHAPE)),
    Step(
        "columns",
        lambda a, _: np.ravel(a, order="F").reshape(SHAPE),
        lambda a, _: a.T.reshape(SHAPE),
    ),
    Step("flip", lambda a, b: a[::-1, ::-1] + b, lambda a, b: a.flip(0, 1) + b),
    Step(
        "roll", lambda a, _: np.roll(a, (1, 2), (0, 1)), lambda a, _: torch.roll(a, (1, 2), (0, 1))
    ),
    Step(
        "gather", lambda a, b: a[PLACES] + b[(0, 0, 1), :], lambda a, b: a[t(PLACES)] + b[[0, 0, 1]]
    ),
    Step(
        "take_along",
        lambda a, _: np.take_along_axis(a, np.argsort(a, axis=0), 0),
        lambda a, _: torch.sort(a, 0)[0],
    ),
    Step(
        "take_row",
        lambda a, b: np.take_along_axis(a, ROW, 1) * 0.5 + b,
        lambda a, b: a[:, [1, 1, 3, 0]] * 0.5 + b,
    ),
    Step(
        "split",
        lambda a, b: np.hstack([np.hsplit(a, 2)[1], np.split(b, [2], axis=1)[0]]),
        lambda a, b: torch.cat([a[:, 2:], b[:, :2]], 1),
    ),
    Step("stack", lambda a, b: np.stack([a, b]).mean(axis=0), lambda a, b: (a + b) / 2),
    Step(
        "tile",
        lambda a, b: np.tile(a[:, :1], (1, 4)) + np.repeat(b[:1], 3, axis=0),
        lambda a, b: a[:, :1].repeat(1, 4) + b[:1].repeat(3, 1),
    ),
    Step(
        "pad",
        lambda a, b: np.pad(a, ((1, 0), (0, 0)))[:-1] + b,
        lambda a, b: torch.cat([a[:1] * 0, a[:-1]]) + b,
    ),
    Step(
        "triangle",
        lambda a, b: np.tril(a) + np.triu(b, 1),
        lambda a, b: torch.tril(a) + torch.triu(b, 1),
    ),
    Step("matmul", lambda a, b: symmetric(a, b) @ a, lambda a, b: symmetric_t(a, b) @ a),
    Step(
        "einsum",
        lambda a, b: np.einsum("ij,kj,kl->il", a, np.tanh(b), b) / 8,
        lambda a, b: torch.einsum("ij,kj,kl->il", a, torch.tanh(b), b) / 8,
    ),
    Step(
        "outer",
        lambda a, b: np.outer(np.tanh(a[:, 0]), b[0]),
        lambda a, b: torch.outer(torch.tanh(a[:, 0]), b[0]),
    ),
    Step(
        "cross",
        lambda a, b: padded(np.cross(np.tanh(a[:, 1:]), b[:, :3])),
        lambda a, b: padded_t(torch.linalg.cross(torch.tanh(a[:, 1:]), b[:, :3])),
    ),
    Step(
        "solve",
        lambda a, b: np.linalg.solve(EYE * 2 + symmetric(a, b), b),
        lambda a, b: torch.linalg.solve(t(EYE) * 2 + symmetric_t(a, b), b),
    ),
    Step(
        "inv",
        lambda a, b: np.linalg.inv(EYE * 2 + symmetric(a, b)) @ a,
        lambda a, b: torch.linalg.inv(t(EYE) * 2 + symmetric_t(a, b)) @ a,
    ),
    Step(
        "det",
        lambda a, b: a + np.linalg.det(EYE + symmetric(a, b)),
        lambda a, b: a + torch.linalg.det(t(EYE) + symmetric_t(a, b)),
    ),
    Step(
        "cholesky",
        lambda a, b: np.linalg.cholesky(EYE * 2 + symmetric(a, b)) @ b / 2,
        lambda a, b: torch.linalg.cholesky(t(EYE) * 2 + symmetric_t(a, b)) @ b / 2,
    ),
    Step(
        "eigenvalues",
        lambda a, b: b + np.linalg.eigvalsh(SPREAD + symmetric(a, b) * 0.5)[:, None] / 4,
        lambda a, b: b + torch.linalg.eigvalsh(t(SPREAD) + symmetric_t(a, b) * 0.5)[:, None] / 4,
    ),
    Step(
        "singular values",
        lambda a, b: (
            b + np.linalg.svd(SPREAD + symmetric(a, b) * 0.5, compute_uv=False)[:, None] / 4
        ),
        lambda a, b: b + torch.linalg.svdvals(t(SPREAD) + symmetric_t(a, b) * 0.5)[:, None] / 4,
    ),
    Step("in place", add_in_place, add_in_place_t),
    Step("elements", write_elements, write_elements_t),
]
Program = list[tuple[int, int, int]]


def drawn(seed: int) -> Program:
    rng = np.random.default_rng([seed, 1])
    count = int(rng.integers(2, 13))
    return [tuple(map(int, rng.integers((len(STEPS), 50, 50)))) for _ in range(count)]  # type: ignore[misc]


def run(program: Program, x: Any, y: Any, *, in_numpy: bool) -> Any:
    values = [x, y]
    for step, i, j in program:
        f = STEPS[step][1 if in_numpy else 2]
        values.append(f(values[-1 - i % min(3, len(values))], values[j % len(values)]))
    return values[-1] + values[len(values) // 2] * 0.5


def text(program: Program) -> str:
    return ", ".join(f"{STEPS[step].name}({i}, {j})" for step, i, j in program)


def differences(seed: int) -> list[str]:
    """Return what differs between the engine and torch, and between compiled and eager."""
    program, rng = drawn(seed), np.random.default_rng([seed, 2])
    x, y, c, vx, vy, wx, wy = rng.normal(size=(7, *SHAPE))
    weights = c.copy()

    def cost(x: Any, y: Any) -> Any:
        return np.sum(weights * run(program, x, y, in_numpy=True))

    tx, ty = (torch.tensor(a, requires_grad=True) for a in (x, y))
    value = (torch.tensor(c) * run(program, tx, ty, in_numpy=False)).sum()

    def along(of: Any, v: Any, w: Any) -> Any:
        if not of.requires_grad:
            return torch.zeros((), dtype=of.dtype)
        g = torch.autograd.grad(of, (tx, ty), create_graph=True, materialize_grads=True)
        return (g[0] * torch.tensor(v)).sum() + (g[1] * torch.tensor(w)).sum()

    first = along(value, vx, vy)
    second = along(first, wx, wy).item()
    torch_gradient: Any = (torch.zeros(SHAPE), torch.zeros(SHAPE))
    if value.requires_grad:
        torch_gradient = torch.autograd.grad(value, (tx, ty), materialize_grads=True)
    found: list[str] = []

    def expect(what: str, ours: Any, theirs: Any, scale: float) -> None:
        if not np.all(np.isfinite(theirs)):
            return  # as of torch's norm at a row of zeros, where there is a kink
        error = float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs)), initial=0.0))
        if not error <= TOLERANCE * max(1.0, scale):
            found.append(f"{what}: {ours!r}, but torch has {theirs!r}")

    ours, (gx, gy) = value_and_grad(cost, (0, 1))(x, y)
    size = float(max(np.abs(gx).max(), np.abs(gy).max(), abs(ours)))
    expect("value", ours, value.item(), abs(float(ours)))
    expect("value on plain arrays", ours, cost(x.copy(), y.copy()), abs(float(ours)))
    expect("gradient in x", gx, torch_gradient[0].numpy(), size)
    expect("gradient in y", gy, torch_gradient[1].numpy(), size)
    expect("JVP", jvp(cost, (x, y), (vx, vy))[1], first.item(), 24 * size)
    modes = {
        "f": lambda g, v, w: lambda *at: jvp(g, at, (v, w))[1],
        "r": lambda g, v, w: (
            lambda *at: sum(np.sum(a * b) for a, b in zip(vjp(g, *at)[1](1.0), (v, w), strict=True))
        ),
    }
    for outer in "rf":
        for inner in "rf":
            nested = modes[outer](modes[inner](cost, vx, vy), wx, wy)(x, y)
            expect(f"second order by {outer}{inner}", nested, second, 24 * max(size, abs(second)))
    found += of_swept(cost, x, y)
    found += of_compiled(cost, x, y, weights)
    for part in grad(cost, (0, 1))(x.astype(np.float32), y.astype(np.float32)):
        if part.dtype != np.float32:
            found.append(f"float32: a gradient in {part.dtype}")
    return found


def of_swept(cost: Callable[..., Any], x: Any, y: Any) -> list[str]:
    """Return where a gradient has other bits once its backward sweep is compiled."""
    gradient = grad(cost, (0, 1))
    calls = [(x, y), (x * 0.75, y + 0.1), (x.astype("f"), y.astype("f")), (np.asfortranarray(x), y)]
    sweeps.SWEEPS.clear()
    before = [gradient(*args) for args in calls]
    found = []
    with mock.patch.object(sweeps, "OFTEN", 0):
        # Made at the first, with which it is compared, and run on all.
        for args, expected in [*zip(calls, before, strict=True)] * 2:
            pairs = zip(gradient(*args), expected, strict=True)
            if not all(
                a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs
            ):
                found.append("a compiled sweep differs from the interpreted one")
    return found


def of_compiled(cost: Callable[..., Any], x: Any, y: Any, weights: Any) -> list[str]:
    """Return where the compiled program has other bits than the eager one."""
    eager = value_and_grad(cost, (0, 1))
    program = compiled(eager)
    found = []
    calls = [
        ("", x, y),
        ("again ", x * 0.75, y + 0.1),
        ("in float32 ", x.astype("f"), y.astype("f")),
    ]
    for when, *args in [
        *calls,
        ("after a change ", x, y),
        ("with columns ", np.asfortranarray(x), y),
    ]:
        if when == "after a change ":
            weights[1:, ::2] *= -0.5
        pairs = zip(flatten(program(*args))[0], flatten(eager(*args))[0], strict=True)
        if not all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            found.append(f"compiled {when}differs from eager")
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    options = parser.parse_args(argv)
    wrong = 0
    for seed in range(options.seed, options.seed + options.count):
        try:
            found = differences(seed)
        except Exception as error:  # noqa: BLE001  # a crash is a finding too
            found = [f"{type(error).__name__}: {error}"]
        for what in found:
            print(f"--seed {seed} --count 1: {what}\n    {text(drawn(seed))}")  # noqa: T201
        wrong += bool(found)
    print(f"{wrong} of {options.count} programs differ")  # noqa: T201  # this is its purpose
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
