from __future__ import annotations

import numpy as np
import pytest

from ffverify.conformance import replay
from ffverify.errors import UsageError


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
