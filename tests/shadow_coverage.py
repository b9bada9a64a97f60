"""How much of torch and JAX has an exact form: measured, and printed with what is missing.

``python -m tests.shadow_coverage torch`` goes through torch's own operator database (the feedforward
part of ``nn.functional``; ``--all`` for every differentiable float64 entry), ``… jax`` through ``jax.nn``,
``jax.numpy`` and ``jax.scipy.special``. A function counts as covered if, at its sample inputs, its value
and its gradient have an exact form; the exact gradient of the backward formula is the derivative of
the exact value; and what the framework computes lies within the running bound of both.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, is_floating
from ffverify.exact.programs import listed
from ffverify.frameworks.arguments import zeros_for_none
from ffverify.frameworks.arrays import like, to_numpy
from ffverify.frameworks.framework import framework as named
from ffverify.frameworks.shadow import Shadow
from ffverify.truth import derivatives as truth
from tests.bounds import running_bound
from tests.corpus.catalogues import jax_functions, torch_functions

# Not feedforward layers: what the second half of the name says is left to other shadows.
_NOT_FEEDFORWARD = re.compile(
    r"conv|pool|interpolate|upsample|attention|functional\.embedding|fold|ctc|dropout|rrelu|grid_sample"
    r"|\.pad|pixel"
)
Case = tuple[Callable[..., Any], list[Any]]


def check(fn: Callable[..., Any], args: Sequence[Any], *, framework: str) -> str:
    """Say what keeps a function at a point from being covered; empty if nothing does."""
    made = Shadow(fn, args, framework=framework)
    if made.forward is None or made.backward is None:
        what = "value" if made.forward is None else "gradient"
        return f"{what}: no exact form of {'; '.join(made.unknown)}"
    points = [to_numpy(a) for a in args]
    rng = np.random.default_rng(0)
    try:
        return _disagreement(fn, args, made, framework, points, rng)
    except Undecided as error:
        return f"undecided: {error}"


def _disagreement(
    fn: Callable[..., Any],
    args: Sequence[Any],
    made: Shadow,
    framework: str,
    points: list[Array],
    rng: Any,
) -> str:
    forward, backward = made.forward, made.backward
    assert forward is not None
    assert backward is not None
    results = [to_numpy(r) for r in listed(fn(*args))]
    apart = _beyond(forward, points, results)
    if apart:
        return f"value {apart}"
    drawn = [rng.choice([0.5, 1.0, -2.0], r.shape) if is_floating(r) else None for r in results]
    cotangents = [v for v in drawn if v is not None]
    given = [
        None if v is None else like(r, v) for r, v in zip(listed(fn(*args)), drawn, strict=True)
    ]
    gradients = zeros_for_none(named(framework).vjp(fn, args, given), args)
    bars = [to_numpy(b) for b, a in zip(gradients, args, strict=True) if is_floating(a)]
    apart = _beyond(backward, [*points, *cotangents], bars)
    return f"gradient {apart}" if apart else _not_derivative(made, points, results, cotangents, rng)


def _beyond(program: Any, points: list[Array], computed: list[Array]) -> str:
    """Say where computed results are beyond the running bound of the exact ones."""
    bounds = running_bound(program, points, formats.of("float64"))
    with BALLS.precision(256):
        exact = program(*(BALLS.array(p) if is_floating(p) else p for p in points))
        for e, b, c in zip(exact, bounds, computed, strict=True):
            if np.shape(e) != c.shape:
                return f"of shape {np.shape(e)} instead of {c.shape}"
            if not isinstance(e, PreciseArray):
                continue
            for x, bound, y in zip(e.values.ravel(), b.ravel(), c.ravel().tolist(), strict=True):
                if x.is_nan() and y != y:  # noqa: PLR0124 - both undefined
                    continue
                if bound.is_finite() and not abs(x - y) <= bound and not (x.is_exact() and x == y):
                    return f"{y}, exactly {x.str(20)}, is beyond the running bound {bound.str(3)}"
    return ""


def _not_derivative(
    made: Shadow, points: list[Array], results: list[Array], cotangents: list[Array], rng: Any
) -> str:
    """Compare ⟨cotangents, dF·t⟩, by differences, with ⟨backward(cotangents), t⟩, both exact."""
    forward, backward = made.forward, made.backward
    assert forward is not None
    assert backward is not None
    floating = [k for k, r in enumerate(results) if is_floating(r)]
    tangents = [rng.choice([0.25, 1.0, -0.5], p.shape) if is_floating(p) else None for p in points]

    def joined(*xs: Any) -> Any:
        out = forward(*xs)
        return sum(
            (np.sum(out[k] * v) for k, v in zip(floating, cotangents, strict=True)),
            BALLS.array(0.0),
        )

    found = truth.directional(joined, points, tangents, formats.of("float64"))
    with BALLS.precision(256):
        bars = backward(*(BALLS.array(p) if is_floating(p) else p for p in [*points, *cotangents]))
        moving = [t for t in tangents if t is not None]
        terms = [np.sum(b * t).values[()] for b, t in zip(bars, moving, strict=True) if b.size]
        total: Any = sum(terms, arb(0))
        size = sum((abs(x) for x in terms), arb(0))
        derivative = found.exact.ravel()[0]
        if bool(found.kink.any()) or total.is_nan():
            return ""
        # Constants of the two formulas (such as √2/2) are rounded to float64 apart: eight of them.
        if abs(total - derivative) > size * arb(2) ** -50 + arb(2) ** -1000:
            return f"formula gives {total.str(20)}, the derivative is {derivative.str(20)}"
    return ""


def cases(framework: str, *, everything: bool, samples: int) -> dict[str, list[Case]]:
    """Give functions with sample inputs, by name."""
    found: dict[str, list[Case]] = {}
    if framework == "torch":
        functions = torch_functions(samples=samples, wanted=bool if everything else _is_feedforward)
    else:
        functions = jax_functions()
    rng = np.random.default_rng(0)
    array = named(framework).array
    for function in functions:
        name = function.name.rsplit(" ", 1)[0]
        args = [array(i.sample(rng), i.dtype) for i in function.inputs]
        found.setdefault(name, []).append((function.call, args))
    return found


def _is_feedforward(name: str) -> bool:
    return name.startswith("nn.functional.") and not _NOT_FEEDFORWARD.search(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print coverage, and what is missing with its reason."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=["torch", "jax"])
    parser.add_argument("--all", action="store_true", help="torch: all differentiable entries")
    parser.add_argument("--samples", type=int, default=3, help="torch: sample inputs per entry")
    parser.add_argument("--only", default="", help="a regular expression that names must contain")
    options = parser.parse_args(arguments)
    chosen = cases(options.framework, everything=options.all, samples=options.samples)
    total = covered = 0
    for name, examples in chosen.items():
        if not re.search(options.only, name):
            continue
        total += 1
        reason = ""
        for fn, args in examples:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    reason = check(fn, args, framework=options.framework)
                except Exception as error:  # noqa: BLE001 - reported as what it is
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if reason:
                break
        covered += not reason
        if reason:
            sys.stdout.write(f"{name}: {reason}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{covered} of {total} in full shadow ({covered / max(total, 1):.0%})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
