"""The pytest plugin: claims as tests, custom derivatives that are watched, and reports of both.

    pytest --pyargs ffverify.specs --ffverify-backend mylib.ops
    pytest --ffverify-watch

It adds one group of options, each of which can be set in pytest's configuration too (``ffverify_backend =
mylib.ops``). Until one of them is used it loads nothing but pytest.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class _Option:
    """An option, its configuration key, and what it takes."""

    name: str
    says: str
    kind: type = str
    many: bool = False
    metavar: str = "NAME"

    @property
    def flag(self) -> str:
        return f"--ffverify-{self.name}"

    @property
    def key(self) -> str:
        return f"ffverify_{self.name.replace('-', '_')}"

    def read(self, text: Any) -> Any:
        """Give the value that a configuration file has."""
        if self.kind is not int:
            return text
        try:
            return int(text)
        except ValueError as error:
            raise pytest.UsageError(f"{self.key} = {text!r} is no whole number") from error


_OPTIONS = (
    _Option("backend", "backend for --pyargs ffverify.specs (default: reference)", many=True),
    _Option("spec", "claims: names with * and ?, or a section (default: all)", many=True, metavar="PATTERN"),
    _Option("dtype", "format (default: float64 and float32)", many=True, metavar="DTYPE"),
    _Option("max-examples", "inputs per claim (default: each claim's own number)", int, metavar="N"),
    _Option("seed", "same seed, same inputs (default: 0)", int, metavar="N"),
    _Option("known", "failures that you know of, in TOML", many=True, metavar="FILE"),
    _Option("watch", "check the custom derivatives that the tests run, when they have run", bool),
    _Option("watch-module", "watch torch modules of this name too", many=True),
    _Option("watch-but", "leave functions of this name alone", many=True),
    _Option("watch-search", "inputs to draw around those that there were (default: 0)", int, metavar="N"),
    _Option("watch-seconds", "how long the checks may take in all (default: 60)", int, metavar="N"),
    _Option("report", "write the report as a page for a browser", metavar="FILE"),
    _Option("junit", "write the report as JUnit XML", metavar="FILE"),
    _Option("jsonl", "write the report as JSON Lines", metavar="FILE"),
    _Option("json", "write the report as JSON", metavar="FILE"),
)  # fmt: skip
_PACKAGE = "ffverify.specs"
_BY_NAME = {option.name: option for option in _OPTIONS}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the group of options, and their keys."""
    group = parser.getgroup("ffverify", "gradients checked against high-precision truth")
    for o in _OPTIONS:
        kinds: dict[type, Any] = {bool: "bool", int: "string", str: "args" if o.many else "string"}
        parser.addini(o.key, o.says, type=kinds[o.kind], default=None)
        if o.kind is bool:
            group.addoption(o.flag, action="store_true", default=None, help=o.says)
        elif o.many:
            says = f"{o.says}; repeatable"
            group.addoption(o.flag, action="append", metavar=o.metavar, default=None, help=says)
        else:
            group.addoption(o.flag, type=o.kind, metavar=o.metavar, default=None, help=o.says)


def setting(config: pytest.Config, name: str, default: Any = None) -> Any:
    """Give what an option says, else what the configuration file does, else a default."""
    option = _BY_NAME[name]
    for parsed in (config.option, config.known_args_namespace):  # the first one is filled later
        given = getattr(parsed, option.key, None)
        if given is not None:
            return given
    held = config.getini(option.key)
    return option.read(held) if held or held is False else default


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Take ids of claims as pytest shows them; begin to watch before the project's code is imported."""
    given = [word for word in args if word.startswith(f"{_PACKAGE}::")]
    if given:
        args[:] = [word for word in args if word not in given]
        args += ["--pyargs", _PACKAGE]
        args += [f"--ffverify-spec={word.removeprefix(f'{_PACKAGE}::')}" for word in given]
    if setting(early_config, "watch"):
        from .pytest_watch import begin

        begin(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse wrong options before anything is collected."""
    config.addinivalue_line("markers", "ffverify_claim: a claim of the chapter, as a test item")
    if any(getattr(config.option, o.key) is not None for o in _OPTIONS[:6]):
        chosen_specs(config)  # what the configuration says is looked at when claims are collected
    if any(setting(config, name) for name in ("watch", "report", "junit", "jsonl", "json")):
        from .pytest_watch import Reporter

        config.pluginmanager.register(Reporter(config), "ffverify-reporter")


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

    patterns = setting(config, "spec", [])
    ids = [
        p for p in patterns if p.count("-") >= 2
    ]  # claim-backend-dtype; a claim's own name has none
    patterns = [p for p in patterns if p not in ids]
    backends = setting(config, "backend", ["reference"])
    examples = setting(config, "max-examples")
    if examples is not None and examples < 1:
        raise pytest.UsageError(f"ffverify: --ffverify-max-examples is {examples}: give 1 or more")
    specs = partial(
        all_specs,
        max_examples=examples,
        seed=setting(config, "seed", 0),
        known=setting(config, "known", []),
    )
    made: list[Any] = []
    try:
        if patterns or not ids:
            for name in backends:
                refuse_unknown_backend(name)
            made += specs(backends, patterns, dtypes=setting(config, "dtype", []))
        for one in ids:
            claim, _, rest = one.partition("-")
            backend, _, dtype = rest.rpartition("-")
            refuse_unknown_backend(backend)
            made += specs([backend], [claim], dtypes=[dtype])
    except UsageError as error:
        raise pytest.UsageError(f"ffverify: {error}") from error
    return made


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the package of the claims as the claims themselves."""
    if path.name != "specs" or not (path / "__init__.py").is_file():
        return None
    found = importlib.util.find_spec(_PACKAGE)
    origin = Path(found.origin).resolve() if found and found.origin else None
    if origin != (path / "__init__.py").resolve():
        return None
    return ClaimsDirectory.from_parent(parent, path=path)


class ClaimsDirectory(pytest.Directory):
    """The package ``ffverify.specs``, one item per claim, backend and dtype."""

    def collect(self) -> Iterable[pytest.Item]:
        """Give one item per spec, in book order."""
        for spec in chosen_specs(self.config):
            made = ClaimItem.from_parent(
                self, name=str(spec), spec=spec, nodeid=f"{_PACKAGE}::{spec}"
            )
            yield made


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
