"""Who may import whom, and how light the import is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "jax", "distributed", "matplotlib", "scipy", "autograd")
# The only modules of the harness that load the claims.
LOADS_SPECS = {"cli.py", "pytest_plugin.py", "claim.py"}


def _imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def _modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


@pytest.mark.parametrize("path", _modules("reference"), ids=lambda p: p.name)
def test_the_reference_imports_numpy_and_itself(path: Path) -> None:
    allowed = {"numpy", "scipy", *sys.stdlib_module_names}  # SciPy inside functions only, see below
    outside = {name for name in _imports(path) if not name.startswith(".")}
    assert {name.split(".")[0] for name in outside} <= allowed
    at_top = {n.split(".")[0] for n in _imports(path, top_level_only=True) if not n.startswith(".")}
    assert "scipy" not in at_top


@pytest.mark.parametrize("path", _modules("specs"), ids=lambda p: p.name)
def test_specs_take_nothing_from_the_reference(path: Path) -> None:
    assert not any("reference" in name for name in _imports(path))


@pytest.mark.parametrize("path", _modules("ffverify"), ids=lambda p: p.name)
def test_only_the_command_line_the_plugin_and_the_registry_load_the_specs(path: Path) -> None:
    named = any(name in (".specs", "ffverify.specs") for name in _imports(path))
    by_string = 'import_module("ffverify.specs")' in path.read_text(encoding="utf-8")
    assert path.name in LOADS_SPECS or not (named or by_string)


@pytest.mark.parametrize("folder", ["ffverify", "reference", "specs"])
def test_heavy_packages_are_imported_where_used(folder: str) -> None:
    for path in _modules(folder):
        if not path.name.startswith(
            ("torch_", "jax_", "aten", "lax")
        ):  # loaded only for that framework
            top = {name.split(".")[0] for name in _imports(path, top_level_only=True)}
            assert not top & set(HEAVY), path


def test_importing_ffverify_loads_no_numerical_package() -> None:
    code = (
        "import sys, ffverify;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code, *HEAVY, "numpy", "flint", "mpmath", "hypothesis"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


def test_the_readmes_test_command_is_what_ci_runs() -> None:
    command = next(
        line
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if "pytest -n auto" in line
    )
    assert command.strip() in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
