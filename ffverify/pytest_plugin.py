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
    config.addinivalue_line("markers", "ffverify_claim(section): a claim of the chapter, as a test")


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the package of the claims as the claims themselves."""
    if path.name != "specs" or not (path / "__init__.py").is_file():
        return None
    found = importlib.util.find_spec("ffverify.specs")
    origin = Path(found.origin).resolve() if found and found.origin else None
    if origin != (path / "__init__.py").resolve():
        return None
    return ClaimsDirectory.from_parent(parent, path=path)  # type: ignore[no-any-return]  # pytest's own annotation


class ClaimsDirectory(pytest.Directory):
    """The package ``ffverify.specs``, one item per claim, backend and dtype."""

    def collect(self) -> Iterable[pytest.Item]:
        from .backends import DEFAULT_DTYPES, UnknownBackendError, load
        from .frameworks import UnavailableError
        from .pytest_specs import all_specs

        option = self.config.getoption
        backends = option("--ffverify-backend") or ["reference"]
        try:
            for name in backends:
                load(name)
            specs = list(
                all_specs(
                    backends,
                    option("--ffverify-spec"),
                    dtypes=option("--ffverify-dtype") or DEFAULT_DTYPES,
                    max_examples=option("--ffverify-max-examples"),
                    seed=option("--ffverify-seed"),
                )
            )
        except (UnknownBackendError, UnavailableError, ValueError) as error:
            raise pytest.UsageError(f"ffverify: {error}") from error
        for spec in specs:
            yield ClaimItem.from_parent(self, name=str(spec), spec=spec)


class ClaimItem(pytest.Item):
    """One claim on one backend at one dtype."""

    def __init__(self, *, spec: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.add_marker("ffverify_claim")
        if spec.known:
            self.add_marker(pytest.mark.xfail(reason=spec.known, strict=True))

    def runtest(self) -> None:
        self.spec()

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
