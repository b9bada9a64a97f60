"""Known failures: which part of which claim fails on which version, and why.

Those of released frameworks are declared in ``known_defects.toml``; `read` takes a file of the
user's own, in the same form::

    [[defect]]
    function = "softplus"    # or claim = "other_hidden_units"
    dtypes = ["float32"]     # all of them unless given, and so for the next ones
    backend = "mylib.ops"
    version = "1.2"          # of the backend's package, by its beginning
    parts = ["softplus' reverse"]
    kinds = ["imprecise"]
    reason = "log(1 + exp z) loses small values; issue 17"

An entry covers what it names and nothing else: a claim goes on past it, so that another defect of the
same claim is found beside it. A part is what a finding's ``where`` begins with: ``gelu``, ``gelu'
reverse``, ``gelu' forward``, ``gelu''``, or a statement's own words. A ``wrong`` number does not hide
behind an entry whose kinds are ``imprecise`` only.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ffverify.errors import UsageError
from ffverify.exact.formats import FORMATS
from ffverify.verdicts.verdict import Verdict

KINDS = tuple(str(v) for v in Verdict if v not in (Verdict.CORRECT, Verdict.INCONCLUSIVE))


@dataclass(frozen=True)
class Defect:
    """One declared failure; an empty field stands for all.

    Attributes
    ----------
    reason
        What goes wrong, with numbers.
    claim, function
        Where it shows: in claims (* and ? stand for anything), or in whatever claim the function fails.
        One of them at least.
    backend, dtypes, version
        The backend, the formats, and the versions of its package, by their beginning.
    parts
        What it covers: all of these fail, in every run, or the entry is out of date.
    kinds
        The verdicts that it covers.
    file
        The user's file that has it; empty for `ffverify`'s own.
    """

    reason: str
    claim: str = ""
    function: str = ""
    backend: str = ""
    dtypes: tuple[str, ...] = ()
    version: str = ""
    parts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = KINDS
    file: str = ""

    def concerns(self, claim: str, backend: str, dtype: str) -> bool:
        """Tell whether a run of a claim can meet it, on the version that is installed."""
        package = backend.partition(":")[0]
        return (
            fnmatch.fnmatchcase(claim, self.claim or "*")
            and self.backend in ("", package, backend)
            and (not self.dtypes or dtype in self.dtypes)
            and (not self.version or f"{_version(package)}.".startswith(f"{self.version}."))
        )

    def covers(self, part: str) -> bool:
        """Tell whether it names a part."""
        if self.function and function_of(part) != self.function:
            return False
        return not self.parts or part in self.parts

    def __str__(self) -> str:
        said = (
            (n, getattr(self, n))
            for n in ("claim", "function", "backend", "dtypes", "version", "parts")
        )
        return ", ".join(
            f"{name} {value if isinstance(value, str) else ' '.join(value)}"
            for name, value in said
            if value
        )


@dataclass(frozen=True)
class Known:
    """The declared failures that a claim may meet on one backend at one dtype."""

    defects: tuple[Defect, ...] = ()

    def covering(self, part: str, kind: Verdict | None = None) -> Defect | None:
        """Give the entry that names a part (and the way in which it fails), or None."""
        found = (d for d in self.defects if d.covers(part) and (kind is None or kind in d.kinds))
        return next(found, None)

    def unmet(self, met: Collection[str]) -> tuple[str, ...]:
        """Give the parts that `ffverify`'s own entries name and that were not met."""
        named = {part for d in self.defects if not d.file for part in d.parts}
        return tuple(sorted(named - set(met)))


def function_of(part: str) -> str:
    """Give the function that a part is of: ``gelu`` for ``gelu' reverse``."""
    found = re.match(r"\w+", part)
    return found[0] if found else part


@cache
def declared() -> tuple[Defect, ...]:
    """Give every defect of a released framework that `ffverify` declares."""
    source = resources.files("ffverify.conformance").joinpath("known_defects.toml")
    return parse(source.read_text(encoding="utf-8"), "known_defects.toml", own=True)


def read(path: Path) -> tuple[Defect, ...]:
    """Read a user's file of known failures.

    Raises
    ------
    UsageError
        If it cannot be read, is no TOML, or an entry says what no entry can.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"cannot read {path}: {why}") from error
    return parse(text, str(path))


def parse(text: str, name: str, *, own: bool = False) -> tuple[Defect, ...]:
    """Read entries from TOML; ``own`` are those of `ffverify` itself.

    Raises
    ------
    UsageError
        As `read`.
    """
    try:
        held = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no TOML: {error}") from error
    refuse_unknown(held, ["defect"], name)
    entries = held.get("defect", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UsageError(f"{name}: write each entry under a heading [[defect]]")
    return tuple(
        _entry(entry, f"{name}, entry {number}", "" if own else name)
        for number, entry in enumerate(entries, 1)
    )


def _entry(entry: dict[str, Any], where: str, file: str) -> Defect:
    allowed = [f.name for f in fields(Defect) if f.name != "file"]
    refuse_unknown(entry, allowed, where)
    lists: dict[str, Sequence[str]] = {"dtypes": list(FORMATS), "kinds": KINDS, "parts": ()}
    made: dict[str, Any] = {}
    for key, value in entry.items():
        if key in lists:
            held = [value] if isinstance(value, str) else value
            if not isinstance(held, list) or not all(isinstance(v, str) and v for v in held):
                raise UsageError(f"{where}: {key} = {value!r} is no list of texts")
            for one in held:
                if lists[key] and one not in lists[key]:
                    some = ", ".join(lists[key])
                    raise UsageError(f"{where}: {key} has {one!r}, which is none of {some}")
            made[key] = tuple(held)
        elif not isinstance(value, str) or not value.strip():
            raise UsageError(f"{where}: {key} = {value!r} is no text")
        else:
            made[key] = value
    if "reason" not in made:
        raise UsageError(f"{where} has no reason: say why it is known to fail")
    if not {"claim", "function"} & set(made):
        raise UsageError(f"{where} names neither a claim nor a function")
    return Defect(**made, file=file)


def refuse_unknown(given: Collection[str], allowed: Sequence[str], where: str) -> None:
    """Refuse keys that mean nothing.

    Raises
    ------
    UsageError
        With the key and the one that may have been meant.
    """
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"use {', '.join(allowed)}"
            raise UsageError(f"{where} has {key!r}, which is not known: {meant}")


def of(claim: str, backend: str, dtype: str, more: Sequence[Defect] = ()) -> Known:
    """Give the failures that a claim may meet on a backend's installed version, the user's first."""
    return Known(tuple(d for d in (*more, *declared()) if d.concerns(claim, backend, dtype)))


@cache
def _version(package: str) -> str:
    """Give the version of the package that a backend's module belongs to; empty if it has none."""
    root = package.partition(".")[0]
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(root), "__version__", ""))
