"""The pytest plugin: ``pytest --pyargs ffverify.specs --ffverify-backend mylib.ops``.

It adds one group of options and turns the claims into test items when that package is collected.
Until then it loads nothing but pytest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the group of options."""
    group = parser.getgroup("ffverify", "verification of backends against the chapter's claims")
    group.addoption(
        "--ffverify-backend",
        action="append",
        metavar="NAME",
        default=[],
        help="backend for --pyargs ffverify.specs (repeatable; default: reference)",
    )
    group.addoption(
        "--ffverify-spec",
        action="append",
        metavar="PATTERN",
        default=[],
        help="claims to run: names with * and ?, or a section (repeatable; default: all)",
    )
    group.addoption(
        "--ffverify-dtype",
        action="append",
        metavar="DTYPE",
        default=[],
        help="format to run in (repeatable; default: float64 and float32)",
    )
    group.addoption(
        "--ffverify-max-examples",
        type=int,
        metavar="N",
        default=None,
        help="inputs per claim (default: each claim's own number)",
    )
    group.addoption("--ffverify-seed", type=int, metavar="N", default=0,
                    help="same seed, same inputs (default: 0)")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse wrong options before anything is collected."""
    config.addinivalue_line("markers", "ffverify_claim: a claim of the chapter, as a test item")
    names = ("backend", "spec", "dtype", "max-examples", "seed")
    if any(config.getoption(f"--ffverify-{name}") for name in names):
        chosen_specs(config)


def chosen_specs(config: pytest.Config) -> list[Any]:
    """Give the specs that the options ask for.

    Raises
    ------
    pytest.UsageError
        If an option names what is not known or not installed.
    """
    from ffverify.conformance.verification import refuse_unknown_backend
    from ffverify.errors import UsageError

    from .pytest_specs import all_specs

    option = config.getoption
    backends = option("--ffverify-backend") or ["reference"]
    try:
        for name in backends:
            refuse_unknown_backend(name)
        return list(
            all_specs(
                backends,
                option("--ffverify-spec"),
                dtypes=option("--ffverify-dtype"),
                max_examples=option("--ffverify-max-examples"),
                seed=option("--ffverify-seed"),
            )
        )
    except UsageError as error:
        raise pytest.UsageError(f"ffverify: {error}") from error


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the package of the claims as the claims themselves."""
    if path.name != "specs" or not (path / "__init__.py").is_file():
        return None
    found = importlib.util.find_spec("ffverify.specs")
    origin = Path(found.origin).resolve() if found and found.origin else None
    if origin != (path / "__init__.py").resolve():
        return None
    return ClaimsDirectory.from_parent(parent, path=path)


class ClaimsDirectory(pytest.Directory):
    """The package ``ffverify.specs``, one item per claim, backend and dtype."""

    def collect(self) -> Iterable[pytest.Item]:
        """Give one item per spec, in book order."""
        for spec in chosen_specs(self.config):
            yield ClaimItem.from_parent(self, name=str(spec), spec=spec)


class ClaimItem(pytest.Item):
    """One claim on one backend at one dtype."""

    def __init__(self, *, spec: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.add_marker("ffverify_claim")

    def runtest(self) -> None:
        """Run the claim."""
        self.spec()

    def reportinfo(self) -> tuple[Path, None, str]:
        """Say where it belongs and what it is called."""
        return self.path, None, self.name
