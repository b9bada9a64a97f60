"""The float32 sweep: its truth is held to ball arithmetic, and what float64 cannot decide goes there."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.cuda import exhaustive  # noqa: E402 - after torch is known to be there
from tests.cuda.jobs import Setting  # noqa: E402 - likewise

SMALL = Setting("cpu", small=True)


@pytest.mark.parametrize("name", exhaustive.ACTIVATIONS)
def test_the_error_of_the_float64_truth_is_within_its_bound(name):
    bits = range(-(2**31), 2**31, 2**32 // 3001)
    x = torch.tensor(list(bits), dtype=torch.int64).to(torch.int32).view(torch.float32)
    x = x[torch.isfinite(x)]
    found = exhaustive.series(name, x.double())
    for order in (0, 1):
        (t, size), exact = found[order], exhaustive._exact(name, order, x).exact
        epsilon = 64 * exhaustive.U64 * size + 1e-280
        for at, v, r, ball in zip(x.tolist(), t.tolist(), epsilon.tolist(), exact, strict=True):
            assert not abs(ball - v) > r, (name, order, at)


def test_a_truth_that_is_off_is_told(monkeypatch):
    right = exhaustive.series

    def off(name, x):
        return [(t * (1 + 1e-13), size) for t, size in right(name, x)]

    monkeypatch.setattr(exhaustive, "series", off)
    rows = list(exhaustive.every_single(SMALL, "softplus", 0))
    assert {r["outcome"] for r in rows} == {"failed"}
    assert all("exactly it is" in r["reason"] for r in rows)


def test_what_float64_leaves_open_balls_decide_alike(monkeypatch):
    narrow = list(exhaustive.every_single(SMALL, "tanh", 0))
    monkeypatch.setattr(exhaustive, "U64", 2.0**-33)  # as if float64 had 33 bits
    monkeypatch.setattr(exhaustive, "CLOSE", 50)
    wide = list(exhaustive.every_single(SMALL, "tanh", 0))
    assert narrow[1]["by_balls"] == 0 < wide[1]["by_balls"]
    assert abs(narrow[1]["beyond"] - wide[1]["beyond"]) <= wide[1]["undecided"]
    assert narrow[1]["worst_ulps"] == wide[1]["worst_ulps"]
