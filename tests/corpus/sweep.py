"""Show gradcheck a thousand correct functions: ``python -m tests.corpus.sweep`` (from the checkout).

Every error that it prints is to be examined: a defect of the framework, or a false alarm of ours.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import click

from ffverify.conformance.backends import load
from ffverify.exact.formats import FORMATS
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport
from ffverify.search import search
from ffverify.specs import programs

from .catalogues import Function, jax_functions, numpy_functions, torch_functions
from .rows import box

FRAMEWORKS = ("numpy", "torch", "jax")
DTYPES = ("float64", "float32")
# What is known to be wrong beside `tests.corpus.torch_defects`, by framework and function.
KNOWN = {
    (
        "torch",
        "nn.functional.hardshrink",
    ): "with lambd = 0 it is the identity: at 0 its slope is 1, not 0",
    (
        "torch",
        "nn.functional.softshrink",
    ): "with lambd = 0 it is the identity: at 0 its slope is 1, not 0",
    ("torch", "sinc"): "cos(πx)/x - sin(πx)/(πx²) cancels: at 1e-8 no digit is right",
    ("torch", "nn.functional.tanhshrink"): "x - tanh x, as it is computed, cancels",
    ("jax", "jax.numpy.nextafter"): "it has no derivative: JAX says so",
    ("jax", "jax.numpy.spacing"): "it has no derivative: JAX says so",
}


def known(framework: str, function: Function) -> str | None:
    """Give what is known to be wrong with a function."""
    name = function.name.rsplit(" ", 1)[0]
    if framework == "torch":
        from .operators import is_known

        if is_known(name):
            return "as tests.corpus.torch_defects has it"
    return KNOWN.get((framework, name))


def check(function: Function, framework: str, examples: int = 4) -> GradcheckReport:
    """Check one function over its inputs."""
    drawn = [i.strategy(framework) for i in function.inputs]
    return gradcheck(function.call, drawn, max_examples=examples, raise_exception=False)


def drawn_programs(count: int) -> list[programs.Code]:
    shapes, start = ((2, 3), (3, 3), (3,)), [["affine", 0, 1, 2], ["softmax_first", 3]]
    found: list[programs.Code] = []
    for draw in (programs.code(*shapes), programs.code(*shapes, start=start)):
        search(draw(None, 1), found.append, seed_value=1, max_examples=count, shrink=False)
    return [code for i, code in enumerate(found) if code not in found[:i]][:count]


def program_functions(framework: str, dtype: str, count: int) -> Iterator[Function]:
    """Give random programs of a framework's own functions."""
    backend = load({"numpy": "reference"}.get(framework, framework))
    namespace = SimpleNamespace(**backend.functions)

    def call(code: programs.Code, *xs: Any) -> Any:
        return programs.run(namespace, code, xs)

    boxes = tuple(box(*shape, low=-2, high=2, dtype=dtype) for shape in ((2, 3), (3, 3), (3,)))
    for code in drawn_programs(count):
        yield Function(f"program {code}", partial(call, code), boxes)


CATALOGUES = {"numpy": numpy_functions, "torch": torch_functions, "jax": jax_functions}


@cache
def functions(framework: str, dtype: str, programs_each: int = 120) -> list[Function]:
    """Give a framework's functions, its share of the random programs last.

    They are made in a thread of their own: torch's database reads the source of all its callers at
    each entry, and under pytest these are many.
    """
    with ThreadPoolExecutor(1) as thread:
        catalogue = thread.submit(lambda: list(CATALOGUES[framework](dtype))).result()
    return [*catalogue, *program_functions(framework, dtype, programs_each)]


def main() -> None:
    """Check them all and print the errors, what could not be judged, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="one of them; all by default")
    parser.add_argument(
        "--dtype", choices=FORMATS, help="one format; float64 and float32 by default"
    )
    parser.add_argument("--only", default="", help="functions whose name contains this")
    parser.add_argument("--examples", type=int, default=4, help="inputs per function")
    options = parser.parse_args()
    began, sums, truths = time.perf_counter(), Counter[str](), Counter[str]()
    for framework in [options.framework] if options.framework else FRAMEWORKS:
        for dtype in [options.dtype] if options.dtype else DTYPES:
            for function in functions(framework, dtype):
                if options.only not in function.name:
                    continue
                where = f"{framework} {dtype} {function.name}"
                sums["checks"] += 1
                try:
                    report = check(function, framework, options.examples)
                except Exception:  # noqa: BLE001 - a traceback of ours is a finding
                    sums["exceptions"] += 1
                    click.echo(f"EXCEPTION {where}\n{traceback.format_exc(limit=-3)}")
                    continue
                sums[str(report.verdict)] += 1
                truths[report.truth] += 1
                reason = known(framework, function)
                if any(f.severity == "error" for f in report.findings):
                    sums["known" if reason else "errors"] += 1
                    click.echo(f"{f'KNOWN ({reason})' if reason else 'ERROR'} {where}\n{report}\n")
                elif report.truth != "shadow" or report.skipped or report.verdict == "inconclusive":
                    words = f"{report.verdict}, {report.truth}, {report.skipped} {report.notes}"
                    click.echo(f"note {where}: {words}")
    click.echo(f"{dict(sums)}, truth {dict(truths)}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
