"""The bound never rejects a rounded exact result, and always rejects an error a hundred times itself.

``FFVERIFY_POINTS=1000000 pytest -s tests/ffverify/test_shadow_bounds.py`` is the nightly run: it
prints how many points were judged, per function and dtype.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from ffverify import formats, textbook, truth
from ffverify.arithmetic import BALLS, arb
from ffverify.formats import Format
from ffverify.verdict import Verdict, judge

POINTS = int(os.environ.get("FFVERIFY_POINTS", "240"))
CHUNK = 20_000
FUNCTIONS = sorted(n for n, d in textbook.CATALOGUE.items() if d.core == (0,))


def arguments(definition: textbook.Definition, fmt: Format, count: int, seed: int) -> np.ndarray:
    """Draw arguments of every magnitude, and on and beside kinks, thresholds and the domain's ends."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-8, 2.5, count)
    x = rng.choice([-1.0, 1.0], count) * scale
    special = [
        0.0,
        2.0**fmt.emin,
        2.0**fmt.smallest_exponent,
        1.0,
        88.7,
        -103.9,
        -745.1,
        *definition.kinks,
    ]
    special = [s for s in special if abs(s) < float(fmt.largest)]
    spots = rng.choice(special, count // 4)
    x[: count // 4] = spots * (1 + fmt.unit_roundoff * rng.integers(-4, 5, count // 4))
    low, high = definition.domain
    x = np.clip(x, -float(fmt.largest) / 8, float(fmt.largest) / 8)
    x = low + abs(x) if low > -np.inf else x
    x = x.astype(fmt.carrier)
    if fmt.name == "bfloat16":
        x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return x[(x > low) & (x < high)]


def neighbours(exact: np.ndarray, fmt: Format) -> tuple[np.ndarray, np.ndarray]:
    """Give the numbers of the format below and above exact ones (one number twice if it is exact)."""
    with BALLS.precision(1300):
        mids = [t.mid() for t in exact]
        ulps = [arb(2) ** int(k) for k in fmt.ulp_exponents(np.array([float(m) for m in mids]))]
        below = [float((m / u).floor() * u) for m, u in zip(mids, ulps, strict=True)]
        above = [float((m / u).ceil() * u) for m, u in zip(mids, ulps, strict=True)]
    return np.array(below), np.array(above)


@pytest.mark.parametrize("dtype", sorted(formats.FORMATS))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_bound_accepts_what_is_rounded_and_rejects_a_hundred_times_itself(
    name: str, dtype: str
) -> None:
    definition, fmt = textbook.CATALOGUE[name], formats.of(dtype)
    judged = 0
    for chunk in range(-(-POINTS // CHUNK)):
        x = arguments(definition, fmt, min(CHUNK, POINTS), chunk)
        exact = truth.value(definition.function, [x], fmt, core=(0,))
        below, above = neighbours(exact.exact, fmt)
        usable = (np.maximum(abs(below), abs(above)) <= float(fmt.largest)) & exact.resolved
        for computed in (below, above):
            strict = judge(computed, exact, fmt, inputs_exact=True)
            assert (strict.verdicts[usable] == Verdict.CORRECT).all()
        found = judge(below, exact, fmt)
        ulps = np.ldexp(1.0, fmt.ulp_exponents(below))
        for sign in (-1, 1):
            with np.errstate(over="ignore"):  # near a zero the bound is large beside the result
                off = below + sign * (100 * found.allowed_ulps + 1) * ulps
            told = usable & np.isfinite(off) & (abs(off) <= float(fmt.largest))
            assert (judge(off, exact, fmt).verdicts[told] != Verdict.CORRECT).all()
        judged += int(usable.sum())
    assert judged > POINTS // 2
    print(f"{name} {dtype}: {judged} points, rounded down and up accepted, 100 bounds off rejected")  # noqa: T201 - a report


def test_a_planted_bug_in_the_bound_would_be_seen() -> None:
    # Half an ulp allowed would reject results that are rounded the other way.
    fmt = formats.of("float64")
    x = np.linspace(0.1, 3, 50)
    exact = truth.value(np.exp, [x], fmt, core=(0,))
    tight = truth.Truth(exact.exact, exact.motion, exact.kink, exact.resolved, growth=1)
    below, above = neighbours(exact.exact, fmt)
    verdicts = [judge(c, tight, fmt, inputs_exact=True).verdicts for c in (below, above)]
    assert any((v != Verdict.CORRECT).any() for v in verdicts)
