"""Known defects of released frameworks: which part of which claim fails on which version, and why.

They are declared in ``known_defects.toml``. An entry covers the parts that it names and nothing
else: a claim goes on past them, so that another defect of the same claim is found beside them. A
part is what a finding's ``where`` begins with: ``gelu``, ``gelu' reverse``, ``gelu' forward``,
``gelu''``, or a statement's own words. An entry also names the kinds of finding that it covers: a
``wrong`` number does not hide behind an ``imprecise`` one.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Defect:
    """One declared defect.

    Attributes
    ----------
    claim, backend, dtypes
        Where it shows.
    parts
        What it covers: all of these fail, in every run, or the entry is out of date.
    kinds
        The verdicts that it covers.
    version
        The framework's versions that have it, by their beginning.
    reason
        What goes wrong upstream, with numbers.
    """

    claim: str
    backend: str
    dtypes: Sequence[str]
    parts: Sequence[str]
    kinds: Sequence[str]
    version: str
    reason: str


@cache
def declared() -> tuple[Defect, ...]:
    """Give every declared defect."""
    text = (
        resources.files("ffverify.conformance")
        .joinpath("known_defects.toml")
        .read_text(encoding="utf-8")
    )
    entries: list[dict[str, Any]] = tomllib.loads(text).get("defect", [])
    return tuple(Defect(**entry) for entry in entries)


def of(claim: str, backend: str, dtype: str) -> Mapping[str, Defect]:
    """Give the defects that a claim meets on a backend's installed version, by part."""
    package = backend.partition(":")[0]
    return {
        part: defect
        for defect in declared()
        if (defect.claim, defect.backend) == (claim, package)
        and dtype in defect.dtypes
        and _version(package).startswith(defect.version)
        for part in defect.parts
    }


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
