"""Findings by their cause: what is wrong shows in many claims, formats and modes, and is told once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ffverify.conformance.claim import Result
from ffverify.conformance.known_defects import function_of
from ffverify.truth.textbook import CATALOGUE
from ffverify.verdicts.finding import Finding

_DEGREES = {"": "value", "'": "first derivative", "''": "second derivative"}


@dataclass(frozen=True)
class Cause:
    """What fails on one backend, and everywhere that it shows.

    Attributes
    ----------
    backend, what
        Where, and the function (with a prime per derivative) or the statement.
    found
        The results that show it, each with its finding, the gravest first.
    """

    backend: str
    what: str
    found: tuple[tuple[Result, Finding], ...]

    @property
    def worst(self) -> Finding:
        """The gravest finding."""
        return self.found[0][1]

    @property
    def severity(self) -> str:
        """That of the gravest finding."""
        return self.worst.severity

    @property
    def known(self) -> tuple[str, ...]:
        """Why it is known to fail; empty if it is not."""
        return tuple(dict.fromkeys(f.known for _, f in self.found if f.known))

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that show it."""
        return tuple(dict.fromkeys(r.claim for r, _ in self.found))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The formats that show it."""
        return tuple(dict.fromkeys(r.dtype for r, _ in self.found))

    @property
    def degrees(self) -> tuple[str, ...]:
        """What of the function fails: value, first or second derivative; empty for a statement."""
        shown = {_prime(f.part) for _, f in self.found if function_of(f.part) in CATALOGUE}
        return tuple(name for prime, name in _DEGREES.items() if prime in shown)


def causes(results: Iterable[Result]) -> list[Cause]:
    """Group the findings of results, those that nobody knew of first.

    Known failures of one function are one cause; of others value, first and second derivative are told
    apart, since each may have its own.
    """
    groups: dict[tuple[str, str, bool, bool], list[tuple[Result, Finding]]] = {}
    for result in results:
        for f in result.findings:
            function = function_of(f.part)
            # Of a gradient check the function is the cause; a claim's own programs have the claim's name.
            what = ": ".join(filter(None, (result.claim, f.part.lstrip("_"))))
            if function in CATALOGUE:
                what = function if f.known else function + _prime(f.part)
            key = (result.backend, what, bool(f.known), f.severity == "error")
            groups.setdefault(key, []).append((result, f))
    made = [
        Cause(backend, what, tuple(sorted(found, key=lambda pair: -_gravity(pair[1]))))
        for (backend, what, _, _), found in groups.items()
    ]
    return sorted(made, key=lambda c: (bool(c.known), c.severity != "error"))


def _prime(part: str) -> str:
    rest = part.removeprefix(function_of(part))
    return "''" if rest.startswith("''") else "'" if rest.startswith("'") else ""


def _gravity(finding: Finding) -> float:
    return finding.error_ulps / max(finding.allowed_ulps, 1e-300)
