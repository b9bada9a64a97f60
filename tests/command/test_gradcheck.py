"""``ffverify gradcheck``: what its words mean, what it prints, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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


def test_arrays_are_of_the_framework_that_the_function_mentions(tmp_path, monkeypatch):
    """A NumPy function beside torch code was given tensors, and its right gradient called wrong."""
    pytest.importorskip("torch")
    (tmp_path / "both.py").write_text(
        "import numpy as np\nimport torch\n"
        "def loss(x):\n    return np.sum([np.abs(x) ** 3])\n"
        "def slope(x):\n    return 3 * x * np.abs(x)\n"
        "def bent(x):\n    return 3.001 * x * np.abs(x)\n"
        "def layer(x):\n    return torch.as_tensor(np.eye(2)) @ x\n"
        "class Cube(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x):\n"
        "        ctx.save_for_backward(x)\n        return x**3\n"
        "    @staticmethod\n    def backward(ctx, g):\n"
        "        return 3 * g * ctx.saved_tensors[0] ** 2\n"
        "class Square(Cube):\n"
        "    @staticmethod\n    def backward(ctx, g):\n"
        "        return 2 * g * ctx.saved_tensors[0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    of = ("--input", "x: float64[2] in [-2, 2]", "--max-examples", "5")
    assert "correct" in run("both:loss", *of, "--gradient", "both:slope").output
    assert "wrong in" in run("both:loss", *of, "--gradient", "both:bent").output
    assert "correct" in run("both:layer", *of).output
    of = ("--input", "float64[2] in [-2, 2]", "--max-examples", "5")
    assert "correct" in run("both:Cube", *of).output  # a class of autograd's is what it applies
    assert "wrong in" in run("both:Square", *of).output


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
        (("numpy:tanh", "--input", "int64[3]"), "need a range of integers"),
        (("numpy:tanhh", "--input", "float64"), "did you mean 'tanh'?"),
        (("numpy:tanh", "--input", "flaot32"), "did you mean 'float32'?"),
        (("numpy:tanh", "--input", "int8[2] in [0, 300]"), "no range of int8"),
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
    name, drawn = parse_input("x: float32[3, 4] in [-5, 5]", "numpy")
    x = data.draw(drawn)
    assert name == "x"
    assert x.shape == (3, 4)
    assert x.dtype == np.float32
    assert np.abs(x).max() <= 5
    y = data.draw(parse_input("int32[2] in [-3, 9]", "numpy")[1])
    assert y.shape == (2,)
    assert y.dtype == np.int32
    assert -3 <= y.min() <= y.max() <= 9
    assert data.draw(parse_input("float64", "numpy")[1]).shape == ()
    assert data.draw(parse_input("mask: bool[3]", "numpy")[1]).dtype == bool
    assert parse_input("t: data float32[3]", "numpy")[1].kind == "data"


MODULE = """
import sys
import numpy as np


def loss(x, y, *, scale=1.0):
    return scale * np.sum((x - y) ** 2 * (y > 0))


def gradient(x, y):
    return 2 * (x - y) * (y > 0)


def masked(x, mask):
    return np.where(mask, x, 0)


def slow(x):
    import time

    time.sleep(3)
    return x


def ends(x):
    ends.calls += 1
    if ends.calls == 41:  # once, as a key is pressed
        raise KeyboardInterrupt
    return x * x


ends.calls = 0


def halved(v, x):
    return v * x
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "named_inputs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "named_inputs"


def test_inputs_go_by_name(module):
    few = ("--max-examples", "4")
    x, y = "float64[3] in [-2, 2]", "data float64[3] in [1, 3]"
    rule = ("--gradient", f"{module}:gradient")
    swapped = run(f"{module}:loss", "--input", f"y: {y}", "--input", f"x: {x}", *rule, *few)
    assert swapped.exit_code == 0, swapped.output
    assert "not differentiated: y" in swapped.output
    wrong = run(f"{module}:loss", "--input", f"x: {y}", "--input", f"y: {x}", *rule, *few)
    assert wrong.exit_code == 1
    result = run(f"{module}:masked", "--input", "mask: bool[3]", "--input", x, *few)
    assert result.exit_code == 0, result.output


def test_all_that_is_amiss_with_names_is_said_once(module):
    result = run(f"{module}:loss", "--input", "z: float64", "--set", "scal=2")
    assert result.exit_code == 2
    line = result.output.strip().splitlines()[-1]
    for words in (
        "loss(x, y, scale)", "it has no z", "it has no scal: did you mean 'scale'?", "x, y are missing",
    ):  # fmt: skip
        assert words in line
    twice = run(f"{module}:masked", "--input", "x: float64", "--input", "x: float64")
    assert "x is given twice; mask is missing" in twice.output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no licence\\nmore')", "raises when it is imported: RuntimeError: no licence"),
        ("raise SystemExit(3)", "exits when it is imported: SystemExit: 3"),
        ("import missing_package_q", "No module named 'missing_package_q'"),
        ("def (", "raises when it is imported: SyntaxError"),
    ],
)  # fmt: skip
def test_a_module_that_raises_or_exits_is_one_line(tmp_path, monkeypatch, code, message):
    name = f"broken_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = run(f"{name}:f", "--input", "float64")
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_time_and_ctrl_c(module):
    result = run(f"{module}:slow", "--input", "float64", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "did not come back within 0.2 s" in result.output
    words = (f"{module}:ends", "--input", "float64[2] in [-2, 2]", "--vjp", f"{module}:halved")
    stopped = run(*words, "--max-examples", "1000")
    assert stopped.exit_code != 0
    assert "gradcheck of ends: stopped after" in stopped.output
    assert "inputs, so far wrong in " in stopped.output


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"},
     {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)  # fmt: skip
def test_terminals_without_utf8_get_ascii(variables):
    command = [sys.executable, "-m", "ffverify", "gradcheck", "numpy:tanh"]
    words = ["--input", "float64[2] in [-2, 2]", "--max-examples", "3", "--vjp", "numpy:add"]
    env = {**os.environ, **variables}
    done = subprocess.run([*command, *words], capture_output=True, check=False, env=env)
    assert done.returncode == 1, done.stderr
    text = done.stdout.decode(variables.get("PYTHONIOENCODING", "utf-8"))
    assert "?" not in text
    if "PYTHONIOENCODING" in variables:
        assert "d<v, tanh>/dx[" in text


def test_load_function_calls_a_class():
    with pytest.raises(TypeError, match="not a function"):
        load_function("fractions:Fraction()")
