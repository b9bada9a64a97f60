"""The recipes and the README's examples run as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffverify.command.main import commands

ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / ".docs" / "recipes.md").read_text(encoding="utf-8")


def snippets(text, language):
    """Give the snippets of a language, each with the heading above it."""
    found, heading = [], ""
    for part in re.split(r"^(## [^\n]*|```\w+\n.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        if part.startswith("## "):
            heading = part.removeprefix("## ")
        elif part.startswith(f"```{language}\n"):
            found.append(pytest.param(part.split("\n", 1)[1].removesuffix("```"), id=heading))
    assert found
    return found


def run(code):
    for package in ("torch", "jax", "scipy"):
        if re.search(rf"\b{package}\b", code):
            pytest.importorskip(package)
    names = {"__name__": "recipe"}
    exec(compile(code, "recipe", "exec"), names)  # noqa: S102 - our own documentation
    for name, test in list(names.items()):
        if name.startswith("test_"):
            test()


@pytest.mark.parametrize("code", snippets(RECIPES, "python"))
def test_recipes(code, capsys):
    run(code)


@pytest.mark.parametrize("line", snippets(RECIPES, "sh"))
def test_lines_for_a_shell(line):
    program, *words = shlex.split(line)
    assert program == "ffverify"
    result = CliRunner().invoke(commands, words)
    assert result.exit_code == 0, result.output


def test_a_mistake_in_a_recipe_is_found():
    (cube,) = (p.values[0] for p in snippets(RECIPES, "python") if "class Cube" in p.values[0])
    pytest.importorskip("torch")
    with pytest.raises(AssertionError, match="gradcheck of Cube: wrong"):
        run(cube.replace("return 3 * g * x**2", "return 2 * g * x**2"))
