from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from ffverify import strategies
from ffverify.exact import formats
from ffverify.search import search

DTYPES = ["float64", "float32", "float16", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_hold_finite_numbers_of_their_format_in_range(dtype: str) -> None:
    @given(strategies.arrays(dtype, (5,), min_value=-3.3, max_value=1e4, edges=(6,)))
    def holds(a: np.ndarray) -> None:
        assert a.dtype == formats.of(dtype).carrier
        assert np.isfinite(a).all()
        assert (a >= -3.3).all()
        assert (a <= 1e4).all()
        if dtype == "bfloat16":
            assert not (a.view(np.uint32) & 0xFFFF).any()

    holds()


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_are_found_quickly(dtype: str) -> None:
    exactly = settings(max_examples=2000, database=None, derandomize=True)
    whole = strategies.floats(dtype)
    subnormal = 2.0 ** formats.of(dtype).emin
    assert find(whole, lambda x: 0 < abs(x) < subnormal, settings=exactly)
    assert (
        abs(find(whole, lambda x: abs(x) >= float(formats.of(dtype).largest), settings=exactly)) > 0
    )
    assert find(strategies.floats(dtype, edges=(3,)), lambda x: x == 3, settings=exactly) == 3
    assert find(strategies.floats(dtype, edges=(3,)), lambda x: 3 < x < 3.1, settings=exactly)


def test_counterexamples_shrink() -> None:
    exactly = settings(max_examples=500, database=None, derandomize=True)
    small = find(strategies.arrays("float64", (3,)), lambda a: (a > 10).any(), settings=exactly)
    assert sorted(small.tolist()) == [0.0, 0.0, 11.0]


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="min_value <= max_value"):
        strategies.arrays("float16", (2,), min_value=1.0001, max_value=1.0002)


def test_other_frameworks_arrays_are_drawn() -> None:
    torch = pytest.importorskip("torch")

    @settings(max_examples=5)
    @given(strategies.arrays("bfloat16", (2, 3), framework="torch"))
    def holds(t: object) -> None:
        assert t.dtype == torch.bfloat16  # type: ignore[attr-defined]
        assert tuple(t.shape) == (2, 3)  # type: ignore[attr-defined]

    holds()


@pytest.mark.parametrize(
    "draw",
    [
        lambda shape: strategies.arrays("float32", shape),
        lambda shape: strategies.labels(shape, 3),
        strategies.booleans,
    ],
)
@pytest.mark.parametrize(
    ("shape", "error", "says"),
    [
        ((-2,), ValueError, r"shape=\(-2,\): a length is negative"),
        (-1, ValueError, "shape=-1: a length is negative"),
        ((2, 3.0), TypeError, r"shape=\(2, 3.0\): give a number of elements"),
        ("ab", TypeError, "shape='ab': give a number of elements"),
    ],
)
def test_what_is_no_shape_is_refused_where_it_is_given(
    draw: Any, shape: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        draw(shape)


def test_zero_size_shapes_are_drawn() -> None:
    @given(strategies.arrays("float32", st.sampled_from([(0,), (2, 0), ()])))
    def holds(a: np.ndarray) -> None:
        assert a.size in (0, 1)

    holds()


def test_the_same_seed_draws_the_same_whatever_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    import importlib.util
    import sys
    from pathlib import Path

    def drawn() -> list[float]:
        seen: list[float] = []
        search(strategies.floats("float64"), seen.append, seed_value=3, max_examples=200)
        return seen

    before = drawn()
    local = Path(str(tmp_path)) / "local_constants.py"
    local.write_text("X = [" + ", ".join(f"{k}.125" for k in range(1000, 1400)) + "]\n")
    spec = importlib.util.spec_from_file_location("local_constants", local)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "local_constants", module)
    assert drawn() == before
