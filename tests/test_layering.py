"""Which room may import from which, and how light the import is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "jax", "distributed", "matplotlib", "scipy", "autograd")
# What each room may take from, itself and `errors` and `files` aside. A room is a folder, or a module
# beside the folders.
MAY = {
    "errors": set(),
    "files": set(),
    "exact": set(),
    "truth": {"exact"},
    "verdicts": {"exact", "truth"},
    "frameworks": {"exact", "reference"},
    "strategies": {"exact", "frameworks"},
    "search": set(),
    "time_limit": set(),
    "gradients": {
        "exact", "truth", "verdicts", "frameworks", "strategies", "search", "time_limit",
    },
    "conformance": {
        "exact", "truth", "verdicts", "frameworks", "strategies", "search", "reference", "specs",
    },
    "command": {
        "exact", "truth", "verdicts", "frameworks", "strategies", "gradients", "conformance", "specs",
    },
    "specs": {
        "exact", "truth", "verdicts", "frameworks", "strategies", "search", "conformance",
    },
    "reference": set(),
    "__init__": {"reference", "strategies", "frameworks", "conformance", "gradients", "command"},
    "__main__": {"command"},
}  # fmt: skip
# The only modules that load the claims.
LOADS_SPECS = {"conformance/claim.py", "command/pytest_plugin.py"}
# Modules of a framework are loaded for that framework only.
OF_A_FRAMEWORK = ("ffverify/frameworks/torch/", "ffverify/frameworks/jax/")


def _modules() -> list[Path]:
    found = [p for top in ("ffverify", "reference", "specs") for p in (ROOT / top).rglob("*.py")]
    links = (ROOT / "ffverify/reference", ROOT / "ffverify/specs")
    return sorted(p for p in found if not any(p.is_relative_to(link) for link in links))


def _imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Give the absolute names of what a module imports."""
    name = path.relative_to(ROOT).with_suffix("").parts
    package = [*([] if name[0] == "ffverify" else ["ffverify"]), *name][:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _room(path: Path) -> str:
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return rest[0] if top == "ffverify" else top


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_take_from_those_below_them(path: Path) -> None:
    room = _room(path)
    taken = {n.split(".")[1] for n in _imports(path) if n.startswith("ffverify.")}
    assert taken - {room, "errors", "files"} <= MAY[room]


def test_no_room_is_crowded() -> None:
    counts: dict[Path, int] = {}
    for path in _modules():
        counts[path.parent] = counts.get(path.parent, 0) + (path.name != "__init__.py")
    claims = counts.pop(ROOT / "specs")  # a module a section of the book
    assert claims < 25
    assert {folder.name: n for folder, n in counts.items() if n > 13} == {}


def test_the_reference_imports_numpy_and_itself() -> None:
    for path in _modules():
        if _room(path) == "reference":
            outside = {n.split(".")[0] for n in _imports(path) if not n.startswith("ffverify.")}
            assert outside <= {"numpy", "scipy", *sys.stdlib_module_names}, path


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_used(path: Path) -> None:
    if not str(path.relative_to(ROOT)).startswith(OF_A_FRAMEWORK):
        top = {name.split(".")[0] for name in _imports(path, top_level_only=True)}
        assert not top & set(HEAVY)


def test_few_load_the_specs() -> None:
    loading = {
        str(path.relative_to(ROOT / "ffverify"))
        for path in _modules()
        if path.is_relative_to(ROOT / "ffverify")
        and "ffverify.specs" in path.read_text(encoding="utf-8")
        and ('"ffverify.specs"' in path.read_text(encoding="utf-8"))
    }
    assert loading == LOADS_SPECS


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
