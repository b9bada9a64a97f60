"""Show gradcheck a thousand correct functions: ``python -m tests.corpus.sweep`` (from the checkout).

Every error that it prints is to be examined: a defect of the framework, or a false alarm of ours.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import click

import ffverify.reference as engine
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport
from ffverify.search import search
from ffverify.specs import programs

from .rows import box
from .sweep_function import Function

FRAMEWORKS = ("numpy", "torch", "jax")
DTYPES = ("float64", "float32")
# What is wrong upstream (torch 2.13, JAX 0.10.2): computed, then exact by hand and by mpmath.
UPSTREAM = {
    ("torch", "celu 0.7", "float64"): "1/alpha in float32: 0.23965103469 at -1 for 0.23965103644",
    ("torch", "hardsigmoid", "float64"): "1/6 in float32: 0.16666667163 for 0.16666666667",
    ("torch", "logcumsumexp", "float64"): "forward mode adds 1e-13: 1.6223344802855 for 1.6223344802856",
    ("torch", "prod", "float64"): "result / x after underflow: 0 for 5.9e-286 at (1, 1, 1e-214, 5.9e-286)",
    ("torch", "gelu tanh", "float32"): "1 + tanh cancels: -3.69137e-4 for -3.68862e-4 at -3.978",
    ("jax", "gelu tanh", "float32"): "1 + tanh cancels: -5.90413e-4 for -5.90057e-4 at -3.868",
    ("torch", "prod", "float32"): "result / x after underflow: 3 digits at 2.6e-11, four of them",
    ("torch", "tanhshrink", "float64"): "1 - (1 - t²) cancels: 0 for 4.9e-32 at 2.2e-16",
    ("torch", "tanhshrink", "float32"): "1 - (1 - t²) cancels: 0 for 1.1e-25 at 3.3e-13",
    ("torch", "digamma", "float64"): "trigamma to ten digits: 1.644934067638 for π²/6 at 1",
    ("torch", "kron", "float64"): "RuntimeError in backward: views what is transposed in memory",
    ("torch", "kron", "float32"): "RuntimeError in backward: views what is transposed in memory",
    ("torch", "cumprod signs", "float64"): "forward mode divides by subnormals: NaN at -1.1125e-308, twice",
    ("torch", "cumprod signs", "float32"): "forward mode divides by subnormals: infinity for 1 at 1e-39",
    ("torch", "vander", "float64"): "by cumprod: -2 (forward: infinity) for -1.67567634582519531 at 4.9e-324",
    ("torch", "vander", "float32"): "by cumprod: -2 (forward: infinity) for -1.67567634582519531 at 1.4e-45",
    ("jax", "attention", "float64"): "softmax in float32: -0.47938062189 for -0.47938060760",
    ("jax", "attention mask", "float64"): "softmax in float32, as above: -0.47938062189 for -0.47938060760",
    ("jax", "vander", "float64"): "0 · log 0: NaN for 0 at 0, and for 1",
    ("jax", "vander", "float32"): "0 · log 0: NaN for 0 at 0, and for 1",
    ("jax", "std", "float64"): "NaN where all elements are equal",
    ("jax", "std", "float32"): "NaN where all elements are equal",
}  # fmt: skip


def upstream(framework: str, function: Function, dtype: str) -> str | None:
    """Give what is known to be wrong with a function, whatever its shape."""
    return UPSTREAM.get((framework, function.name.split(" (")[0], dtype))


__all__ = ["DTYPES", "FRAMEWORKS", "Function", "box", "check", "functions", "inputs", "upstream"]


def inputs(function: Function, framework: str, dtype: str) -> list[Any]:
    """Give strategies for a function's boxes."""
    return [replace(b, dtype=dtype).strategy(framework) for b in function.boxes]


def check(function: Function, framework: str, dtype: str, examples: int = 4) -> GradcheckReport:
    """Check one function over its boxes."""
    drawn = inputs(function, framework, dtype)
    return gradcheck(function.call, drawn, max_examples=examples, raise_exception=False)


def drawn_programs(count: int) -> list[programs.Code]:
    shapes, start = ((2, 3), (3, 3), (3,)), [["affine", 0, 1, 2], ["softmax_first", 3]]
    found: list[programs.Code] = []
    for draw in (programs.code(*shapes), programs.code(*shapes, start=start)):
        search(draw(None, 1), found.append, seed_value=1, max_examples=count, shrink=False)
    return [code for i, code in enumerate(found) if code not in found[:i]][:count]


def program_functions(namespace: Any, count: int) -> Iterator[Function]:
    def call(code: programs.Code, *xs: Any) -> Any:
        return programs.run(namespace, code, xs)

    boxes = (box(2, 3, low=-2, high=2), box(3, 3, low=-2, high=2), box(3, low=-2, high=2))
    for code in drawn_programs(count):
        yield Function(f"program {code}", partial(call, code), boxes)


def functions(framework: str, programs_each: int = 120) -> list[Function]:
    """Give a framework's functions, its share of the random programs last."""
    if framework == "torch":
        from ffverify.frameworks.torch.catalogue import torch_functions as catalogue

        from .sweep_torch import torch_functions
        from .sweep_torch_further import further_torch_functions

        own = [*torch_functions(), *further_torch_functions()]
        namespace: Any = SimpleNamespace(**catalogue())
    elif framework == "jax":
        from ffverify.frameworks.jax.catalogue import jax_functions as catalogue

        from .sweep_jax import jax_functions
        from .sweep_jax_further import further_jax_functions

        own = [*jax_functions(), *further_jax_functions()]
        namespace = SimpleNamespace(**catalogue())
    else:
        from .sweep_numpy import numpy_functions

        own, namespace = [*numpy_functions()], engine
    return [*own, *program_functions(namespace, programs_each)]


def main() -> None:
    """Check them all and print the errors, what could not be judged, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="one of them; all by default")
    parser.add_argument("--dtype", choices=DTYPES, help="one of them; both by default")
    parser.add_argument("--only", default="", help="functions whose name contains this")
    parser.add_argument("--examples", type=int, default=4, help="inputs per function")
    options = parser.parse_args()
    began, sums, truths = time.perf_counter(), Counter[str](), Counter[str]()
    for framework in [options.framework] if options.framework else FRAMEWORKS:
        for function in functions(framework):
            if options.only not in function.name:
                continue
            sums["functions"] += 1
            for dtype in [options.dtype] if options.dtype else DTYPES:
                where = f"{framework} {dtype} {function.name}"
                sums["checks"] += 1
                try:
                    report = check(function, framework, dtype, options.examples)
                except Exception:  # noqa: BLE001 - a traceback of ours is a finding
                    sums["exceptions"] += 1
                    click.echo(f"EXCEPTION {where}\n{traceback.format_exc(limit=-3)}")
                    continue
                sums[str(report.verdict)] += 1
                truths[report.truth] += 1
                known = upstream(framework, function, dtype)
                if not report.ok:
                    sums["upstream" if known else "errors"] += 1
                    click.echo(f"{f'UPSTREAM ({known})' if known else 'ERROR'} {where}\n{report}\n")
                elif report.truth != "shadow" or report.skipped or report.verdict == "inconclusive":
                    words = f"{report.verdict}, {report.truth}, {report.skipped} {report.notes}"
                    click.echo(f"note {where}: {words}")
    click.echo(f"{dict(sums)}, truth {dict(truths)}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
