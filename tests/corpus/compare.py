"""Print what each checker finds in the corpus: ``python -m tests.corpus.compare`` (from the checkout).

Every row that is plain NumPy is shown to ffverify and, through their own frameworks, to torch's gradcheck
(slow and fast), JAX's check_grads, autograd's check_grads and SciPy's check_grad, all with their
defaults at float64. ffverify searches the row's domain; the others get as many random inputs from it.
A buggy function counts as detected if any input makes the checker object (for ffverify: with the
expected verdict), its twin as a false alarm if any input does. For ffverify the counts over seeds follow.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from ffverify.gradients.gradcheck import gradcheck

from . import CORPORA, ROWS, Case, Row

Checker = Callable[[Row, Case, list[np.ndarray]], bool]


def main() -> None:
    """Run the comparison and print one line per row and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds for ffverify")
    parser.add_argument("--examples", type=int, default=25, help="inputs per row and seed")
    parser.add_argument("--corpus", choices=CORPORA, help="one of them; all by default")
    parser.add_argument(
        "--only", default="", help="rows whose name contains this; several with commas"
    )
    parser.add_argument("--no-others", action="store_true", help="ffverify alone")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of the other checkers about float32 and the like
    others = {} if options.no_others else OTHERS
    rows = CORPORA[options.corpus] if options.corpus else list(ROWS.values())
    rows = [r for r in rows if any(part in r.name for part in options.only.split(","))]
    sums = {name: [0, 0, 0, 0] for name in ("ffverify", *others)}
    seconds = dict.fromkeys(sums, 0.0)
    for row in rows:
        marks = [_ffverify(row, options.seeds, options.examples, sums["ffverify"], seconds)]
        for name, checker in others.items():
            marks.append(_other(name, checker, row, options.examples, sums[name], seconds))
        click.echo(f"{row.name:28s} {row.expected:10s} " + " ".join(f"{m:>12s}" for m in marks))
    click.echo(f"\n{'checker':14s} {'detected':>12s} {'false alarms':>13s} {'seconds':>9s}")
    for name, (found, buggy, alarms, twins) in sums.items():
        click.echo(
            f"{name:14s} {found:>5d} / {buggy:<4d} {alarms:>6d} / {twins:<4d} {seconds[name]:9.1f}"
        )


def _ffverify(
    row: Row, seeds: int, examples: int, total: list[int], seconds: dict[str, float]
) -> str:
    began = time.perf_counter()
    found = alarms = 0
    for seed in range(seeds):
        for case in (row.buggy, row.twin):
            try:
                report = gradcheck(
                    case.fn, row.drawn(), vjp=case.vjp, jvp=case.jvp, max_examples=examples,
                    seed=seed, raise_exception=False, **row.options,
                )  # fmt: skip
            except Exception:  # noqa: BLE001 - a traceback of ours: nothing found, and an alarm
                alarms += case is row.twin
                continue
            kinds = {str(f.kind) for f in report.findings if f.severity == "error"}
            if case is row.buggy:
                found += row.expected in kinds
            else:
                alarms += not report.ok
    seconds["ffverify"] += time.perf_counter() - began
    for i, n in enumerate((found, seeds, alarms, seeds)):
        total[i] += n
    return f"{_mark(found == seeds, alarms > 0)} {found}/{seeds} {alarms}"


def _other(
    name: str,
    checker: Checker,
    row: Row,
    examples: int,
    total: list[int],
    seconds: dict[str, float],
) -> str:
    """Try another checker on random inputs; rows that it cannot be shown are left out of its sums."""
    if row.framework != "numpy" or row.options.get("order", 1) != 1:
        return "-"
    if (name in ("autograd", "scipy", "torch slow", "torch fast")) and row.buggy.vjp is None:
        return "-"
    count = examples if any(hasattr(i, "sample") for i in row.inputs) else 1
    began = time.perf_counter()
    samples = [row.sample(seed) for seed in range(count)]
    found = any(not checker(row, row.buggy, s) for s in samples)
    alarm = any(not checker(row, row.twin, s) for s in samples)
    seconds[name] += time.perf_counter() - began
    for i, n in enumerate((found, 1, alarm, 1)):
        total[i] += n
    return _mark(found, alarm)


def _mark(found: bool, alarm: bool) -> str:
    return ("found" if found else "MISSED") + (" ALARM" if alarm else "")


def _torch(fast: bool) -> Checker:
    def check(row: Row, case: Case, inputs: list[np.ndarray]) -> bool:
        import torch

        class Wrapped(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *xs: Any) -> Any:
                ctx.save_for_backward(*xs)
                return torch.as_tensor(np.asarray(case.fn(*(x.numpy() for x in xs))))

            @staticmethod
            def backward(ctx: Any, v: Any) -> Any:
                bars = case.vjp(v.numpy(), *(x.numpy() for x in ctx.saved_tensors))
                return tuple(torch.as_tensor(np.asarray(b)) for b in bars)

        points = [torch.from_numpy(np.array(x)).requires_grad_() for x in inputs]
        try:
            with np.errstate(all="ignore"):
                return bool(torch.autograd.gradcheck(Wrapped.apply, points, fast_mode=fast))
        except Exception:  # noqa: BLE001 - an objection, whatever its form
            return False

    return check


def _jax(row: Row, case: Case, inputs: list[np.ndarray]) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    out = np.asarray(case.fn(*inputs))
    like = jax.ShapeDtypeStruct(out.shape, out.dtype)
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs)

    def host(*xs: Any) -> Any:
        return np.asarray(case.fn(*map(np.asarray, xs)), dtype=out.dtype)

    def call(*xs: Any) -> Any:
        return jax.pure_callback(host, like, *xs)

    if case.vjp is not None:
        f = jax.custom_vjp(call)

        def pull(saved: Any, v: Any) -> Any:
            def back(v: Any, *xs: Any) -> Any:
                bars = case.vjp(np.asarray(v), *map(np.asarray, xs))
                return tuple(
                    np.asarray(b, dtype=x.dtype) for b, x in zip(bars, inputs, strict=True)
                )

            return jax.pure_callback(back, shapes, v, *saved)

        f.defvjp(lambda *xs: (call(*xs), xs), pull)
        modes = ["rev"]
    else:
        f = jax.custom_jvp(call)

        def push(primals: Any, tangents: Any) -> Any:
            def forward(ts: Any, *xs: Any) -> Any:
                return np.asarray(case.jvp(tuple(map(np.asarray, ts)), *map(np.asarray, xs)))

            return call(*primals), jax.pure_callback(forward, like, tuple(tangents), *primals)

        f.defjvp(push)
        modes = ["fwd"]
    try:
        with np.errstate(all="ignore"):
            check_grads(f, tuple(inputs), order=1, modes=modes)
    except Exception:  # noqa: BLE001 - an objection, whatever its form
        return False
    return True


def _autograd(row: Row, case: Case, inputs: list[np.ndarray]) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    f = primitive(lambda *xs: np.asarray(case.fn(*xs)))
    defvjp(
        f,
        *(
            lambda ans, *xs, i=i: lambda v: np.asarray(case.vjp(np.asarray(v), *xs)[i])
            for i in range(len(inputs))
        ),
    )
    try:
        with np.errstate(all="ignore"):
            check_grads(f, modes=["rev"], order=1)(*inputs)
    except Exception:  # noqa: BLE001 - an objection, whatever its form
        return False
    return True


def _scipy(row: Row, case: Case, inputs: list[np.ndarray]) -> bool:
    """Compare along the row's sum of results; SciPy gives a number, 1e-5 is what its users ask for."""
    from scipy.optimize import check_grad

    sizes = np.cumsum([x.size for x in inputs])[:-1]
    shapes = [x.shape for x in inputs]

    def parts(flat: np.ndarray) -> list[np.ndarray]:
        return [p.reshape(s) for p, s in zip(np.split(flat, sizes), shapes, strict=True)]

    def value(flat: np.ndarray) -> float:
        return float(np.sum(case.fn(*parts(flat))))

    def gradient(flat: np.ndarray) -> np.ndarray:
        xs = parts(flat)
        bars = case.vjp(np.ones_like(np.asarray(case.fn(*xs), dtype=float)), *xs)
        return np.concatenate([np.ravel(b) for b in bars])

    try:
        with np.errstate(all="ignore"):
            error = check_grad(
                value, gradient, np.concatenate([x.ravel() for x in inputs]).astype(float)
            )
    except Exception:  # noqa: BLE001 - an objection, whatever its form
        return False
    return bool(error <= 1e-5)


OTHERS: dict[str, Checker] = {
    "torch slow": _torch(fast=False),
    "torch fast": _torch(fast=True),
    "jax": _jax,
    "autograd": _autograd,
    "scipy": _scipy,
}

if __name__ == "__main__":
    main()
