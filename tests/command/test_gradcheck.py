"""``ffverify gradcheck``: what its words mean, what it prints, its exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ffverify.command.gradcheck import gradcheck, load_function, parse_input


def run(*words):
    return CliRunner().invoke(gradcheck, words)


def test_right_function(tmp_path):
    path = tmp_path / "report.json"
    result = run(
        "numpy:tanh", "--input", "x: float64[3] in [-2, 2]", "--max-examples", "5",
        "--json", str(path),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "gradcheck of tanh: correct" in result.output
    assert json.loads(path.read_text())["ok"] is True


def test_wrong_function(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def f(x, scale=1.0):\n    return scale * np.sin(x)\n"
        "def wrong(v, x):\n    return (v * np.cos(x),)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        "mine:f",
        "--input",
        "float64[2] in [-1, 1]",
        "--vjp",
        "mine:wrong",
        "--max-examples",
        "5",
    )
    assert run(*words).exit_code == 0
    result = run(*words, "--set", "scale=2.0")
    assert result.exit_code == 1
    assert "factor ½" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("numpy:tanhh", "--input", "float64"), "cannot be imported"),
        (("numpy", "--input", "float64"), "names no function"),
        (("numpy:pi", "--input", "float64"), "not a function"),
        (("numpy:tanh", "--input", "x = 3"), "cannot be read"),
        (("numpy:tanh", "--input", "float65"), "is none of"),
        (("numpy:tanh", "--input", "float64 in [a, 2]"), "is not a number"),
        (("numpy:tanh", "--input", "int64[3]"), "need a range from 0"),
        (("numpy:tanh", "--input", "float64 in [0, 1]", "--set", "q"), "name=value"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(words, message):
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


@settings(derandomize=True, deadline=None, max_examples=10)
@given(st.data())
def test_inputs(data):
    x = data.draw(parse_input("x: float32[3, 4] in [-5, 5]", "numpy"))
    assert x.shape == (3, 4)
    assert x.dtype == np.float32
    assert np.abs(x).max() <= 5
    y = data.draw(parse_input("int64[2] in [0, 9]", "numpy"))
    assert y.shape == (2,)
    assert y.max() <= 9
    assert data.draw(parse_input("float64", "numpy")).shape == ()


def test_load_function_calls_a_class():
    with pytest.raises(TypeError, match="not a function"):
        load_function("fractions:Fraction()")
