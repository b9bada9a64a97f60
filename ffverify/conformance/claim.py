"""Claims: sentences of the chapter as executable properties, each with the bugs it must reject.

A claim is a function of a ``Check`` and drawn inputs::

    @claim("6.3", "tanh z = 2σ(2z) - 1.", functions=["tanh"], z=points())
    def tanh_is_scaled_sigmoid(check, z):
        check.value("tanh", z)

    @tanh_is_scaled_sigmoid.bug("tanh", "2σ(z) - 1")
    def _(f, z):
        return 2 * f.sigmoid(z) - 1

``run`` tries it on a backend at a dtype; the same seed gives the same inputs and the same result.
"""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from ffverify.errors import UsageError
from ffverify.exact.alone import alone
from ffverify.exact.formats import Format
from ffverify.search import search
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from . import known_defects as defects
from .backends import DEFAULT_DTYPES, Backend
from .check import Check, ClaimViolation
from .pictures import Panel, Picture

Draw = Callable[[Format, int], st.SearchStrategy[Any]]
DEFAULT_EXAMPLES = 25
BATCHES = (1, 2, 7, 20)  # few: a framework that compiles does so for every shape


@dataclass(frozen=True)
class Bug:
    """A planted bug: one function of a backend changed, which the claim must reject.

    ``change(f, *args)`` takes the place of the function ``function``; ``f`` has the right ones.
    """

    function: str
    sentence: str
    change: Callable[..., Any]

    def plant(self, backend: Backend) -> Backend:
        """Give the backend with this bug in it."""
        right = SimpleNamespace(**backend.functions)

        def broken(*args: Any, **options: Any) -> Any:
            return self.change(right, *args, **options)

        return backend.replacing(self.function, broken)


@dataclass(frozen=True)
class Claim:
    """One sentence of the chapter as a property over a backend.

    Attributes
    ----------
    id, section, sentence
        Its name, where the chapter says it, and what it says.
    functions
        The backend's functions it needs; a backend without one does not provide the claim.
    inputs
        Strategies for its arguments, made for a format and a batch size.
    property
        ``property(check, **inputs)`` raises through ``check`` where the claim fails.
    bugs
        The planted bugs, in order.
    examples
        How many examples are drawn unless told otherwise (1 where there is nothing to draw).
    formats
        The only formats that it is about; empty where it is about any.
    pictures
        What shows it, one at most.
    """

    id: str
    section: str
    sentence: str
    functions: tuple[str, ...]
    inputs: Mapping[str, Draw]
    property: Callable[..., None]
    examples: int
    formats: tuple[str, ...] = ()
    bugs: list[Bug] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def bug(
        self, function: str, sentence: str
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a planted bug: a change to one function of a backend."""

        def declare(change: Callable[..., Any]) -> Callable[..., Any]:
            self.bugs.append(Bug(function, sentence, change))
            return change

        return declare

    def plot(
        self, title: str
    ) -> Callable[[Callable[[Check], list[Panel]]], Callable[[Check], list[Panel]]]:
        """Declare its picture: panels of the claim's own data, as a backend computes them."""

        def declare(panels: Callable[[Check], list[Panel]]) -> Callable[[Check], list[Panel]]:
            self.pictures.append(Picture(title, panels))
            return panels

        return declare

    def picture(self, backend: Backend) -> Picture:
        """Give its picture, which the backend can draw.

        Raises
        ------
        UsageError
            If it has none, or the backend lacks a function for it.
        """
        if not self.pictures:
            drawn = ", ".join(c.id for c in claims() if c.pictures)
            raise UsageError(f"{self.id} has no picture; these have one: {drawn}")
        if lacking := self.missing(backend):
            raise UsageError(
                f"{backend.name} cannot draw {self.id}: it has no {', '.join(lacking)}"
            )
        return self.pictures[0]

    def dtypes(self, asked: Sequence[str] = ()) -> list[str]:
        """Give the formats to run it in: of those asked for, or by default, those it is about."""
        if not self.formats:
            return list(asked or DEFAULT_DTYPES)
        return [d for d in self.formats if d in asked or not asked]

    def missing(self, backend: Backend) -> list[str]:
        """Give the functions that a backend lacks for this claim."""
        return [name for name in self.functions if not backend.provides(name)]


@dataclass(frozen=True)
class Result:
    """What came of one claim on one backend at one dtype.

    Attributes
    ----------
    status
        "holds", "fails", "inconclusive", "not provided", "not available" or "lost" (its worker died).
    findings
        What fails (known defects first), else the worst warning.
    worst_ulps
        The largest error that was met, in ulps of the exact result.
    worst_share
        The largest error within its bound, as a share of the bound.
    measured
        What a claim that measures has to report: the statistic with its interval.
    reason
        Why nothing was provided, available or told, or how it was lost.
    mended
        Parts that a known defect says fail, and that did not.
    """

    claim: str
    backend: str
    dtype: str
    status: str
    findings: tuple[Finding, ...] = ()
    worst_ulps: float = 0.0
    worst_share: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    measured: str = ""
    reason: str = ""
    mended: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it fails, and by known failures only."""
        return self.status == "fails" and all(f.known for f in self.findings)


_REGISTRY: dict[str, Claim] = {}


def claim(
    section: str,
    sentence: str,
    *,
    functions: Sequence[str] = (),
    examples: int = DEFAULT_EXAMPLES,
    formats: Sequence[str] = (),
    **inputs: Draw,
) -> Callable[[Callable[..., None]], Claim]:
    """Declare a claim, under the function's own name."""

    def declare(function: Callable[..., None]) -> Claim:
        declared = Claim(
            id=function.__name__,
            section=section,
            sentence=sentence,
            functions=tuple(functions),
            inputs=inputs,
            property=function,
            examples=examples if inputs else 1,
            formats=tuple(formats),
        )
        _REGISTRY[declared.id] = declared
        return declared

    return declare


def claims() -> list[Claim]:
    """Give every claim of the chapter, in book order."""
    importlib.import_module("ffverify.specs")  # its modules declare them as they are imported
    return list(_REGISTRY.values())


@alone
def run(
    claim: Claim,
    backend: Backend,
    dtype: str,
    *,
    seed_value: int = 0,
    max_examples: int | None = None,
    shrink: bool = True,
    known: Sequence[defects.Defect] = (),
) -> Result:
    """Try a claim on a backend at a dtype, on drawn inputs, and shrink what fails.

    ``known`` are failures that the user knows of, beside those that `ffverify` declares.
    """
    lacking = claim.missing(backend)
    if lacking:
        return Result(
            claim.id, backend.name, dtype, "not provided", reason=f"no {', '.join(lacking)}"
        )
    started = time.perf_counter()
    declared = defects.of(claim.id, backend.name, dtype, known)
    check = Check(backend, backend.format(dtype), declared)
    unknown: tuple[Finding, ...] = ()

    sizes = st.sampled_from(BATCHES)
    made = {b: {n: make(check.fmt, b) for n, make in claim.inputs.items()} for b in BATCHES}

    @st.composite
    def drawn(draw: st.DrawFn) -> dict[str, Any]:
        return {name: draw(strategy) for name, strategy in made[draw(sizes)].items()}

    try:
        if claim.inputs:
            search(
                drawn(),
                partial(_examine, claim, check),
                seed_value=zlib.crc32(f"{seed_value}:{claim.id}".encode()),
                max_examples=max_examples or claim.examples,
                shrink=shrink,
            )
        else:
            _examine(claim, check, {})
    except ClaimViolation as violation:
        unknown = (violation.finding,)
    findings = (*check.known_findings, *unknown)
    failed = any(f.kind is not Verdict.INCONCLUSIVE for f in findings)
    undecided = not failed and (bool(findings) or check.only_inconclusive)
    return Result(
        claim.id,
        backend.name,
        dtype,
        status="fails" if failed else "inconclusive" if undecided else "holds",
        findings=findings or tuple(check.warnings),
        worst_ulps=check.worst_ulps,
        worst_share=check.worst_share,
        examples=check.examples,
        seconds=time.perf_counter() - started,
        measured=check.measured,
        reason="nothing could be judged" if undecided else "",
        mended=() if unknown else declared.unmet(check.known_parts),
    )


def _examine(claim: Claim, check: Check, inputs: Mapping[str, Any]) -> None:
    """Try a claim on one input; whatever the code under test raises is its failure."""
    check.start(claim.id, inputs)
    try:
        with np.errstate(all="ignore"):  # infinities and NaNs are judged, not warned about
            claim.property(check, **inputs)
    except (ClaimViolation, HypothesisException):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
        shown = f"an exception: {type(error).__name__}: {error}"
        try:
            check.that(False, claim.id, shown, "no exception")
        except ClaimViolation as violation:
            raise violation from error


@alone
def replay(claim_id: str, backend: Backend, dtype: str, inputs: Mapping[str, Any]) -> list[Finding]:
    """Try a claim on one given input; give the findings, none if it holds there."""
    check = Check(backend, backend.format(dtype), defects.of(claim_id, backend.name, dtype))
    try:
        _examine({c.id: c for c in claims()}[claim_id], check, inputs)
    except ClaimViolation as violation:
        return [*check.known_findings, violation.finding]
    return check.known_findings
