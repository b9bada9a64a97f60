"""The bound never rejects a faithful result, and always rejects an error a hundred times itself.

``python -m tests.bounds --points 1000000`` is the whole run, and prints what it measures.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.verdicts import verdict
from tests import bounds

POINTS = 120


@pytest.mark.parametrize("dtype", sorted(formats.FORMATS))
@pytest.mark.parametrize("name", sorted(textbook.CATALOGUE))
def test_the_bound_accepts_what_is_faithful_and_rejects_a_hundred_times_itself(
    name: str, dtype: str
) -> None:
    judged, rejected, far, missed = bounds.measured(
        textbook.CATALOGUE[name], formats.of(dtype), POINTS
    )
    assert (rejected, missed) == (0, 0)
    assert min(judged, far) > POINTS // 2


@pytest.mark.parametrize("name", ["exp", "softplus", "gelu"])
def test_the_bound_of_slopes_does_so_too(name: str) -> None:
    _, rejected, far, missed = bounds.measured(
        textbook.CATALOGUE[name], formats.of("float64"), POINTS, slopes=True
    )
    assert (rejected, missed) == (0, 0)
    assert far > POINTS // 2


@pytest.mark.parametrize("dtype", sorted(formats.FORMATS))
def test_neighbours_are_the_formats_own(dtype: str) -> None:
    fmt = formats.of(dtype)
    with BALLS.precision(200):
        third, half = arb(1) / 3, arb(2) ** (fmt.smallest_exponent - 1)
        exact = np.array([arb(1), third, -third, arb(0), half])
    below, above = bounds.neighbours(exact, fmt)
    u, tiny = fmt.unit_roundoff, 2.0**fmt.smallest_exponent
    assert below[0] == above[0] == 1
    assert (above - below)[1:3].tolist() == [u / 2, u / 2]
    assert Fraction(below[1]) < Fraction(1, 3) < Fraction(above[1])
    assert (below[3], above[3], below[4], above[4]) == (0, 0, 0, tiny)
    for ends in (below, above):
        np.testing.assert_array_equal(bounds.rounded(ends, fmt).astype(np.float64), ends)


def test_planted_bounds_too_tight_and_too_wide_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    fmt, rng = formats.of("float64"), np.random.default_rng(0)
    exact = truth.value(np.exp, [np.linspace(0.1, 3, 50)], fmt, core=(0,))
    assert bounds.measure(exact, fmt, rng)[1::2] == (0, 0)
    # Half an ulp allowed rejects results that are rounded the other way.
    assert bounds.measure(replace(exact, growth=1), fmt, rng)[1] > 0
    # A judge that allows a thousand times what it says lets a hundred times pass.
    real = verdict.rounding_of
    monkeypatch.setattr(verdict, "rounding_of", lambda t, g, f, s: real(t, 1000 * g, f, s))
    assert bounds.measure(exact, fmt, rng)[3] > 0
