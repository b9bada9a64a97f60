"""Measure the conditioning bound: ``python -m tests.bounds --points 1000000`` (from the checkout).

For every function of the catalogue and every dtype it draws arguments, takes the truth, and prints
one line: how many results were judged; how many of their neighbours in the format, rounded down
and rounded up, were rejected by the bound in its strictest form, with inputs taken as exact (the
correctly rounded result is one of the two, and so is any faithful one); and how many numbers
off by a hundred times the whole bound were not rejected. Both must be 0: the exit code says so.
Of functions of one argument in half precision, every argument is taken.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, joined, listed
from ffverify.strategies import edges_of
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.adaptive import FIRST_PRECISION, Truth
from ffverify.verdicts.bounds import rounding_of, running_bounds
from ffverify.verdicts.verdict import Verdict, judge

CHUNK = 10_000
AXES = {"n": 4, "m": 3, "d": 2, "k": 3}
POSITIVE = ("precision", "precisions", "sigma")
OPTIONS: dict[str, dict[str, Any]] = {"maxout": {"k": 2}}


def running_bound(program: Program, args: Sequence[Array], fmt: Format) -> tuple[Array, ...]:
    """Give `running_bounds` of each result, at one point; mpmath decides branches that balls leave open."""
    try:
        with BALLS.precision(2 * FIRST_PRECISION):
            exact = listed(program(*(BALLS.array(a) if is_floating(a) else a for a in args)))
    except Undecided:
        exact = listed(program(*(MPMATH.array(a) if is_floating(a) else a for a in args)))
    flat = np.concatenate([np.ravel(BALLS.array(r).values) for r in exact])
    (bounds,) = running_bounds(joined(program), [args], fmt, [flat])
    parts = np.split(bounds, np.cumsum([np.size(r) for r in exact])[:-1])
    return tuple(part.reshape(np.shape(r)) for part, r in zip(parts, exact, strict=True))


def program(definition: textbook.Definition) -> Callable[..., Any]:
    """Give a definition with its options, if it has any, filled in."""
    options = OPTIONS.get(definition.name, {})
    return lambda *args: definition.function(*args, **options)


def rounded(x: Array, fmt: Format) -> Array:
    """Round float64 numbers to a format, towards zero for bfloat16; infinities become finite."""
    largest = float(fmt.largest)
    with np.errstate(over="ignore"):
        out = np.clip(x, -largest, largest).astype(fmt.carrier)
    if fmt.name == "bfloat16":
        out = (out.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(out), out, out.dtype.type(0))


def numbers(
    fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, kinks: Any = ()
) -> Array:
    """Draw numbers: a third of all magnitudes, a third moderate, a third some ulps from an edge."""
    signs = rng.choice([-1.0, 1.0], shape)
    anywhere = np.exp2(rng.uniform(fmt.smallest_exponent, fmt.emax, shape))
    moderate = 10.0 ** rng.uniform(-6, 2, shape)
    edges = rng.choice([*edges_of(fmt), *kinks], shape)
    with np.errstate(over="ignore"):
        beside = edges * (1 + fmt.unit_roundoff * rng.integers(-64, 65, shape))
    which = rng.integers(0, 3, shape)
    return rounded(np.choose(which, [signs * anywhere, signs * moderate, beside]), fmt)


def every_half(fmt: Format) -> Array:
    """Give all finite numbers of a 16-bit format."""
    bits = np.arange(2**16, dtype=np.uint16)
    x = (
        bits.view(np.float16)
        if fmt.name == "float16"
        else (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    )
    return x[np.isfinite(x)]


def arguments(
    definition: textbook.Definition, fmt: Format, count: int, rng: np.random.Generator
) -> list[Array]:
    """Draw a batch of arguments from a definition's domain; those of several arguments are moderate."""
    names = list(inspect.signature(definition.function).parameters)
    operands = re.findall(r"\(([\w,]*)\)", definition.signature.split("->")[0])
    low, high = definition.domain
    args = []
    for i, operand in enumerate(operands):
        shape = (count, *(AXES[a] for a in operand.split(",") if a))
        if i in definition.data:
            args.append(
                rng.integers(0, AXES["n"] if definition.name == "softmax_nll" else 2, shape)
            )
            continue
        x = numbers(fmt, shape, rng, definition.kinks)
        if definition.core != (0,):
            x = rounded(rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 1.5, shape), fmt)
        if names[i] in POSITIVE:
            x = rounded(abs(x.astype(np.float64)) + 1e-3, fmt)
        elif i == 0 and low > -np.inf:
            x = rounded(low + abs(x.astype(np.float64)), fmt)
        args.append(x)
    if definition.core == (0,):
        args = [args[0][(args[0] > low) & (args[0] < high)]]
    return args


def batches(
    definition: textbook.Definition, fmt: Format, points: int, seed: int
) -> Iterator[list[Array]]:
    """Give batches of arguments: without end, unless they are all there are."""
    rng = np.random.default_rng([seed, *definition.name.encode()])
    if definition.core == (0,) and fmt.precision < 12 and points >= 2**16:
        x = every_half(fmt)
        x = x[(x > definition.domain[0]) & (x < definition.domain[1])]
        yield from ([part] for part in np.array_split(x, len(x) // CHUNK))
        return
    while True:
        yield arguments(definition, fmt, min(CHUNK, points), rng)


def neighbours(exact: Array, fmt: Format) -> tuple[Array, Array]:
    """Give the numbers of the format next below and above exact ones (one number twice if it is exact)."""
    mids = [t.mid() for t in exact.ravel().tolist()]
    near = np.array([float(m) for m in mids])
    steps = np.ldexp(1.0, fmt.ulp_exponents(near))
    near = np.where(
        np.isfinite(near), np.floor(near / steps) * steps, np.nan
    )  # exact: powers of two
    off = [m - arb(n) for m, n in zip(mids, near.tolist(), strict=True)]
    below = near - np.array([d < 0 for d in off]) * steps
    above = below + np.array([d != 0 for d in off]) * steps
    return below.reshape(exact.shape), above.reshape(exact.shape)


def bound(truth: Truth, fmt: Format) -> Array:
    """Give the conditioning bound, an object array of balls (whose upper ends count)."""
    limits = rounding_of(truth.exact.ravel().tolist(), truth.growth, fmt, 0.0)
    moved = [m.abs_upper() if m.is_finite() else 0 for m in truth.motion.ravel().tolist()]
    out = np.empty(truth.exact.size, dtype=object)
    out[:] = [a + b for a, b in zip(limits, moved, strict=True)]
    return out.reshape(truth.exact.shape)


def measure(exact: Truth, fmt: Format, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Judge neighbours of the truth, and numbers far from it.

    Returns
    -------
    How many results were judged, how many neighbours rejected, how many numbers a hundred bounds off were
    judged, and how many of them were not rejected.
    """
    below, above = neighbours(exact.exact, fmt)
    usable = (
        (np.maximum(abs(below), abs(above)) <= float(fmt.largest)) & exact.resolved & ~exact.kink
    )
    rejected = np.zeros(usable.shape, dtype=bool)
    for computed in (below, above):
        rejected |= judge(computed, exact, fmt, inputs_exact=True).verdicts != Verdict.CORRECT
    limits = np.array([float(b) for b in bound(exact, fmt).ravel()]).reshape(below.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        # One more: the numbers are rounded to the format.
        off = below + rng.choice([-101.0, 101.0], below.shape) * limits
        told = usable & (abs(off) <= float(fmt.largest))
        off = rounded(np.where(told, off, np.nan), fmt).astype(np.float64)
    missed = judge(off, exact, fmt).verdicts == Verdict.CORRECT
    return (
        int(usable.sum()),
        int((rejected & usable).sum()),
        int(told.sum()),
        int((missed & told).sum()),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--points", type=int, default=1_000_000, help="results per function and dtype"
    )
    parser.add_argument("--functions", nargs="*", default=list(textbook.CATALOGUE))
    parser.add_argument("--dtypes", nargs="*", default=list(formats.FORMATS))
    parser.add_argument(
        "--slopes", action="store_true", help="of functions of one argument, the slopes"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    for name in options.functions:
        definition = textbook.CATALOGUE[name]
        if options.slopes and definition.core != (0,):
            continue
        for dtype in options.dtypes:
            start = time.process_time()
            fmt, slopes = formats.of(dtype), options.slopes
            sums = measured(definition, fmt, options.points, options.seed, slopes=slopes)
            failed |= bool(sums[1] or sums[3])
            print(  # noqa: T201 - the table
                f"{name:20s} {dtype:9s} {sums[0]:9,d} results, faithful ones rejected: {sums[1]}; "
                f"{sums[2]:9,d} a hundred bounds off, not rejected: {sums[3]}"
                f"  ({time.process_time() - start:.0f} s)", flush=True,
            )  # fmt: skip
    sys.exit(failed)


def measured(
    definition: textbook.Definition,
    fmt: Format,
    points: int,
    seed: int = 0,
    *,
    slopes: bool = False,
) -> tuple[int, ...]:
    """Sum `measure` over all batches of a function and a format."""
    rng, function = np.random.default_rng(seed), program(definition)
    sums = np.zeros(4, dtype=np.int64)
    for args in batches(definition, fmt, points, seed):
        if slopes:
            exact = truth.directional(function, args, [np.ones(args[0].shape)], fmt, core=(0,))
        else:
            exact = truth.value(function, args, fmt, core=definition.core)
        sums += measure(exact, fmt, rng)
        if sums[0] >= points:
            break
    return tuple(sums.tolist())


if __name__ == "__main__":
    main()
