from __future__ import annotations

import base64
import json
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from ffverify.command.main import commands
from ffverify.conformance import draws, replay
from ffverify.conformance.claim import Claim, claims
from ffverify.errors import UsageError
from ffverify.exact import formats
from ffverify.search import search


def test_a_token_holds_its_inputs_exactly() -> None:
    inputs = {
        "z": np.array([[5e-324, -0.0, 1.7976931348623157e308]]),
        "half": np.array([0.1], dtype=np.float16),
        "labels": np.array([0, 2]),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "n": 3,
        "x": 0.1,
        "nested": [1, np.ones(2)],
    }
    command, _, token = replay.line("claim", "torch", "float64", inputs).rpartition(" ")
    assert command == "ffverify replay"
    claim, backend, dtype, restored = replay.parse(token)
    assert (claim, backend, dtype) == ("claim", "torch", "float64")
    for name in ("z", "half", "labels", "empty"):
        assert restored[name].dtype == inputs[name].dtype  # type: ignore[attr-defined]
        assert restored[name].tobytes() == inputs[name].tobytes()  # type: ignore[attr-defined]
        assert restored[name].shape == inputs[name].shape  # type: ignore[attr-defined]
    assert (restored["n"], restored["x"]) == (3, 0.1)
    assert restored["nested"][1].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("token", ["", "nonsense", "eJyrVkrLz1eyUkpKLFKqBQAdegQ0", "é"])
def test_a_damaged_token_is_one_clear_error(token: str) -> None:
    with pytest.raises(UsageError, match="copy the whole line"):
        replay.parse(token)


# ---------------------------------------------------------------------------------------------
# What a token may be
# ---------------------------------------------------------------------------------------------


def packed(content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def array(dtype: Any = "float64", shape: Any = (1,), values: Any = ("0x1p0",)) -> str:
    return packed(
        ["c", "torch", "float64", {"z": {"dtype": dtype, "shape": shape, "values": values}}]
    )


DAMAGED = {
    "not base64": "é!",
    "not packed": "AAAA",
    "cut off": packed(["c", "torch", "float64", {}])[:-6],
    "more behind it": base64.urlsafe_b64encode(zlib.compress(b"[]") + b"more").decode().rstrip("="),
    "a bomb": packed("[" + "0," * 2**24 + "0]"),
    "too deep": packed("[" * 100_000 + "]" * 100_000),
    "infinity": packed('["c", "torch", "float64", {"x": Infinity}]'),
    "no list": packed({"claim": "c"}),
    "too short": packed(["c", "torch"]),
    "no claim": packed([None, "torch", "float64", {}]),
    "no backend": packed(["c", ["torch"], "float64", {}]),
    "no inputs": packed(["c", "torch", "float64", [1]]),
    "no format": packed(["c", "torch", "object", {}]),
    "object array": array("object"),
    "void array": array("V8"),
    "negative shape": array(shape=[-1]),
    "shape of truth values": array(shape=[True]),
    "too few numbers": array(shape=[10**9]),
    "too many axes": array(shape=[1] * 40),
    "numbers that are words": array(values=["one"]),
    "numbers that are none": array(values=[None]),
    "floats in decimals": array(values=[1.5]),
    "beyond the format": array("float16", values=["0x1p20"]),
    "beyond every format": array(values=["0x1p99999"]),
    "between two floats": array("float32", values=["0x1.0000000000001p0"]),
    "integers too large": array("int8", values=[300]),
    "fractions as integers": array("int64", values=[1.5]),
    "integers as truth values": array("bool", values=[2]),
    "an odd record": packed(["c", "torch", "float64", {"z": {"__reduce__": "os.system"}}]),
    "a float that is none": packed(["c", "torch", "float64", {"z": {"float": [1]}}]),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_token_of_another_form_is_damaged(kind: str) -> None:
    with pytest.raises(UsageError, match="is damaged") as caught:
        replay.parse(DAMAGED[kind])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("claim", claims(), ids=lambda c: c.id)
def test_a_claims_own_inputs_fit(claim: Claim) -> None:
    for dtype in ("float64", "bfloat16"):
        fmt = formats.of(dtype)
        for batch in draws.BATCHES[::2]:
            drawn: list[Any] = []
            every = st.fixed_dictionaries({n: m(fmt, batch) for n, m in claim.inputs.items()})
            search(every, drawn.append, seed_value=1, max_examples=2, shrink=False)
            for inputs in drawn:
                token = replay.line(claim.id, "torch", dtype, inputs).split()[-1]
                assert draws.unfit(claim.inputs, fmt, replay.parse(token)[3]) == ""


F64 = formats.of("float64")
LABELLED = {"z": draws.rows(3, low=-5, high=5), "y": draws.labels(3)}
Z, Y = np.ones((2, 3)), np.array([0, 2])
UNFIT = {
    "a name too few": {"z": Z},
    "a name too many": {"z": Z, "y": Y, "x": Y},
    "another shape": {"z": np.ones((2, 4)), "y": Y},
    "another batch": {"z": Z, "y": np.array([0])},
    "no batch that is drawn": {"z": np.ones((3, 3)), "y": np.array([0, 1, 2])},
    "another format": {"z": Z.astype(np.float32), "y": Y},
    "not finite": {"z": Z * np.nan, "y": Y},
    "out of its range": {"z": 6 * Z, "y": Y},
    "labels that there are not": {"z": Z, "y": np.array([0, 3])},
    "labels as floats": {"z": Z, "y": np.array([0.0, 1.0])},
    "no array": {"z": "Z", "y": Y},
}


@pytest.mark.parametrize("kind", UNFIT)
def test_inputs_that_a_claim_does_not_draw_do_not_fit(kind: str) -> None:
    assert draws.unfit(LABELLED, F64, {"z": Z, "y": Y}) == ""
    assert draws.unfit(LABELLED, F64, UNFIT[kind]) != ""


def test_words_numbers_and_lists_that_are_not_drawn_do_not_fit() -> None:
    declared = {
        "n": draws.integers(1, 4),
        "k": draws.lists(0, 2, least=1, most=2),
        "s": draws.one_of("a", 0.5),
    }
    right = {"n": 3, "k": [0, 2], "s": 0.5}
    assert draws.unfit(declared, F64, right) == ""
    for name, values in {
        "n": (0, 5, True, 3.0, "3"),
        "k": ([], [0, 0, 0], [3], 0),
        "s": ("b", 1),
    }.items():
        for value in values:
            assert draws.unfit(declared, F64, {**right, name: value}).startswith(name)


def test_a_token_imports_no_module_that_is_not_named() -> None:
    line = replay.line("softmax_shift_invariance", "antigravity", "float64", {})
    assert line.startswith("ffverify replay --backend antigravity ")
    result = CliRunner().invoke(commands, ["replay", line.split()[-1]])
    assert isinstance(result.exception, UsageError)
    assert "say --backend" in str(result.exception)
    assert "antigravity" not in sys.modules
