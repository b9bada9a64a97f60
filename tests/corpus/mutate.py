"""Plant errors in derivatives that are right: ``python -m tests.corpus.mutate`` (from the checkout).

Every function of the sweep gets a derivative of its own, its framework's with one error planted in it, and
gradcheck has to find that. What it misses is printed. Functions whose gradient is 0, where the planted
error changes nothing, are counted apart.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np

import ffverify.reference as engine
from ffverify.exact.formats import FORMATS, is_floating
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.frameworks.framework import framework as named
from ffverify.gradients.function_under_test import Fault, subject
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport

from .sweep import DTYPES, FRAMEWORKS, Function, functions, known

SMALL = {"float64": 1e-6, "float32": 1e-2}  # a planted error of one element


def _one(number: float) -> Callable[[np.ndarray, int, float], np.ndarray]:
    """Give factors that change one element."""
    return lambda ones, i, _small: np.where(
        np.arange(ones.size).reshape(ones.shape) == i, number, ones
    )


# What a gradient's elements are multiplied by: factors of the gradient's shape, an element, a small number.
FACTORS: dict[str, Callable[[np.ndarray, int, float], np.ndarray]] = {
    "sign of one": _one(-1.0),
    "one left out": _one(0.0),
    "one nan": _one(np.nan),
    "one slightly off": lambda ones, i, small: _one(1 + small)(ones, i, small),
    "all zero": lambda ones, _i, _small: 0 * ones,
    "all doubled": lambda ones, _i, _small: 2 * ones,
    "all halved": lambda ones, _i, _small: ones / 2,
}


class Plant(NamedTuple):
    """An error: its name, the argument whose gradient it is in, and where among the elements (0 to 1)."""

    error: str
    argument: int
    place: float

    def factors(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        ones = np.ones(shape)
        return FACTORS[self.error](ones, int(self.place * ones.size), SMALL[dtype])

    @property
    def expected(self) -> str:
        return "nonfinite" if self.error == "one nan" else "wrong"


def numpy_mutant(call: Callable[..., Any], plant: Plant, dtype: str) -> dict[str, Any]:
    def vjp(v: Any, *xs: Any) -> tuple[Any, ...]:
        bars = list(engine.vjp(call, *xs)[1](v))
        j = plant.argument
        bars[j] = bars[j] * plant.factors(np.shape(xs[j]), dtype).astype(xs[j].dtype)
        return tuple(bars)

    return {"fn": call, "vjp": vjp}


def torch_mutant(call: Callable[..., Any], plant: Plant, dtype: str) -> dict[str, Any]:
    import torch

    class Mutant(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            ctx.save_for_backward(*xs)
            return call(*(x.detach() for x in xs))

        @staticmethod
        def backward(ctx: Any, *v: Any) -> Any:
            with torch.enable_grad():
                xs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
                results = call(*xs)
                listed = results if isinstance(results, tuple) else (results,)
                pairs = [(y, w) for y, w in zip(listed, v, strict=True) if y.requires_grad]
                ys, ws = zip(*pairs, strict=True)
                bars = list(torch.autograd.grad(ys, xs, ws, materialize_grads=True))
            j = plant.argument
            bars[j] = bars[j] * torch.as_tensor(
                plant.factors(xs[j].shape, dtype), dtype=xs[j].dtype
            )
            return tuple(bars)

    return {"fn": Mutant.apply}


def jax_mutant(call: Callable[..., Any], plant: Plant, dtype: str) -> dict[str, Any]:
    import jax

    def plain(
        *xs: Any,
    ) -> Any:  # without the defaults of ``call``, which custom_vjp would differentiate by
        return call(*xs)

    def pull(xs: tuple[Any, ...], v: Any) -> tuple[Any, ...]:
        bars = list(jax.vjp(plain, *xs)[1](v))
        j = plant.argument
        bars[j] = bars[j] * plant.factors(xs[j].shape, dtype).astype(xs[j].dtype)
        return tuple(bars)

    mutant = jax.custom_vjp(plain)
    mutant.defvjp(lambda *xs: (plain(*xs), xs), pull)
    return {"fn": mutant}


MUTANTS = {"numpy": numpy_mutant, "torch": torch_mutant, "jax": jax_mutant}


def gradient(function: Function, framework: str, j: int) -> np.ndarray:
    """Give a gradient at generic inputs, along a generic cotangent, to see what an error would change."""
    rng = np.random.default_rng(0)
    array = named(framework).array
    inputs = [array(i.sample(rng), i.dtype) for i in function.inputs]
    made, native = subject(function.call, inputs, vjp=None, jvp=None)
    results = made.value(native)
    draw = [rng.normal(size=to_numpy(y).shape) for y in results]
    cotangents = [
        like(y, v) if is_floating(y) else None for y, v in zip(results, draw, strict=True)
    ]
    bar = made.vjp(native, cotangents)[j]
    return np.zeros(native[j].shape) if bar is None else to_numpy(bar).astype(np.float64)


def changes(g: np.ndarray, plant: Plant, dtype: str) -> bool:
    """Tell whether an error shows in a gradient: not in one that is rounding noise beside an exact 0."""
    largest = np.abs(g).max(initial=0.0)
    if not largest > FORMATS[dtype].unit_roundoff ** 0.5:
        return False
    off = np.abs(g * plant.factors(g.shape, dtype) - g)
    return bool(np.isnan(off).any() or off.max() > SMALL[dtype] * largest / 2)


def check(function: Function, framework: str, plant: Plant, examples: int) -> GradcheckReport:
    """Check one function with an error planted in its derivative."""
    inputs = [i.strategy(framework) for i in function.inputs]
    mutant = MUTANTS[framework](function.call, plant, function.inputs[plant.argument].dtype)
    return gradcheck(inputs=inputs, max_examples=examples, raise_exception=False, **mutant)


def drawn(framework: str, seed: int, share: float) -> Iterator[tuple[Function, str, Plant]]:
    """Draw functions, with a format and an error for each."""
    rng = np.random.default_rng(seed)
    for pair in zip(*(functions(framework, dtype) for dtype in DTYPES), strict=True):
        taken, place = rng.random(2)
        k, error = int(rng.integers(len(DTYPES))), str(rng.choice(list(FACTORS)))
        plant = Plant(error, int(rng.integers(len(pair[k].inputs))), float(place))
        if taken < share and known(framework, pair[k]) is None:
            yield pair[k], DTYPES[k], plant


def main() -> None:
    """Plant errors, and print which were missed, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, help="one of them; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the functions")
    parser.add_argument("--examples", type=int, default=4, help="inputs per function")
    options = parser.parse_args()
    for framework in [options.framework] if options.framework else FRAMEWORKS:
        sums = Counter[str]()
        for function, dtype, plant in drawn(framework, options.seed, options.share):
            try:
                found = gradient(function, framework, plant.argument)
            except Fault:
                sums["no derivative"] += 1
                continue
            if not changes(found, plant, dtype):
                sums["nothing changed"] += 1
                continue
            report = check(function, framework, plant, options.examples)
            seen = not report.ok and report.verdict == plant.expected
            sums["found" if seen else "missed"] += 1
            if not seen:
                click.echo(f"MISSED {framework} {dtype} {function.name}: {plant}\n{report}\n")
        click.echo(f"{framework}: {dict(sums)}")


if __name__ == "__main__":
    main()
