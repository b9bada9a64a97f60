"""Claims: sentences of the chapter as executable properties, each with the bugs it must reject.

A claim is a function of a ``Check`` and drawn inputs::

    @claim("6.3", "tanh z = 2σ(2z) - 1.", functions=["tanh"], z=points())
    def tanh_is_scaled_sigmoid(check, z):
        check.value("tanh", z)

    @tanh_is_scaled_sigmoid.bug("tanh", "2σ(z) - 1")
    def _(f, z):
        return 2 * f.sigmoid(z) - 1

``run`` tries it on a backend at a dtype; the same seed gives the same inputs and the same result.

A sentence that is about each of its functions by itself is tried on those that the backend has, and what
fails of one hides nothing of the others; ``each`` names the argument that takes the function's name::

    @claim("6.3", "…", functions=["sigmoid", "tanh"], each="unit", z=points())
    def sigmoidal_units_saturate(check, unit, z):
        check.gradient(unit, z)
"""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisException

from ffverify.errors import UsageError
from ffverify.exact.alone import alone
from ffverify.search import search
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from . import known_defects as defects
from .backends import DEFAULT_DTYPES, Backend
from .check import Check, ClaimViolation
from .draws import BATCHES, Draw, one_of
from .pictures import Panel, Picture

DEFAULT_EXAMPLES = 25


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
    each
        The argument that takes each of the functions in turn, where the claim is about each by itself: it
        is tried on those that the backend has. Empty where it is about all of them together.
    inputs
        Strategies for its arguments, made for a format and a batch size.
    property
        ``property(check, **inputs)`` raises through ``check`` where the claim fails.
    bugs
        The planted bugs, in order.
    examples
        How many examples are drawn (for each function) unless told otherwise (1 where there is nothing to
        draw).
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
    each: str = ""
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

    def missing(self, backend: Backend, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """Give the functions that a backend lacks for this claim, or for it on some inputs."""
        needed = [inputs[self.each]] if self.each and inputs else self.functions
        return [name for name in needed if not backend.provides(name)]

    def tried(self, backend: Backend, functions: Collection[str] = ()) -> list[str]:
        """Give what a run tries it on: ``""`` for all functions together, or each by itself.

        Nothing where the backend does not provide it; ``functions`` are the only ones of each to try.
        """
        if not self.each:
            return [] if self.missing(backend) else [""]
        return [n for n in self.functions if backend.provides(n) and n in (functions or [n])]


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
    missing
        Functions that the backend lacks of a claim that was tried on the others.
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
    missing: tuple[str, ...] = ()
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
    each: str = "",
    examples: int = DEFAULT_EXAMPLES,
    formats: Sequence[str] = (),
    **inputs: Draw,
) -> Callable[[Callable[..., None]], Claim]:
    """Declare a claim, under the function's own name; see `Claim`."""
    apart: dict[str, Draw] = {each: one_of(*functions)} if each else {}

    def declare(function: Callable[..., None]) -> Claim:
        declared = Claim(
            id=function.__name__,
            section=section,
            sentence=sentence,
            functions=tuple(functions),
            inputs={**apart, **inputs},
            property=function,
            examples=examples if inputs else 1,
            each=each,
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
    functions: Collection[str] = (),
) -> Result:
    """Try a claim on a backend at a dtype, on drawn inputs, and shrink what fails.

    ``known`` are failures that the user knows of, beside those that `ffverify` declares; ``functions`` the
    only ones to try a claim on that is about each by itself.
    """
    lacking = claim.missing(backend)
    tried = claim.tried(backend, functions)
    if not tried:
        reason = f"no {', '.join(lacking)}"
        return Result(claim.id, backend.name, dtype, "not provided", reason=reason)
    started = time.perf_counter()
    declared = defects.of(claim.id, backend.name, dtype, known)
    trials = []
    for function in tried:
        check = Check(backend, backend.format(dtype), declared)
        unknown = _search(
            claim,
            check,
            {claim.each: function} if claim.each else {},
            seed_value=zlib.crc32(f"{seed_value}:{claim.id}".encode()),
            max_examples=max_examples or claim.examples,
            shrink=shrink,
        )
        trials.append(_Trial(function, check, (*check.known_findings, *unknown)))
    undecided = [t for t in trials if t.undecided]
    failed = any(t.failed for t in trials)
    of = f" of {', '.join(t.function for t in undecided)}" if claim.each else ""
    findings = [f for t in trials for f in t.found or t.check.warnings]
    return Result(
        claim.id,
        backend.name,
        dtype,
        status="fails" if failed else "inconclusive" if undecided else "holds",
        findings=tuple(sorted(findings, key=lambda f: not f.known)),
        worst_ulps=max(t.check.worst_ulps for t in trials),
        worst_share=max(t.check.worst_share for t in trials),
        examples=sum(t.check.examples for t in trials),
        seconds=time.perf_counter() - started,
        measured="; ".join(t.check.measured for t in trials if t.check.measured),
        reason=f"nothing could be judged{of}" if undecided else "",
        missing=tuple(lacking),
        mended=tuple(part for t in trials for part in t.mended(declared)),
    )


@dataclass(frozen=True)
class _Trial:
    """What came of a claim on one of its functions, or on all of them together (``""``)."""

    function: str
    check: Check
    found: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        return any(f.kind is not Verdict.INCONCLUSIVE for f in self.found)

    @property
    def undecided(self) -> bool:
        return not self.failed and (bool(self.found) or self.check.only_inconclusive)

    def mended(self, declared: defects.Known) -> list[str]:
        """Give the parts that a known defect says fail, and that did not; none where others do."""
        if not all(f.known for f in self.found):
            return []
        unmet = declared.unmet(self.check.known_parts)
        return [p for p in unmet if self.function in ("", defects.function_of(p))]


def _search(
    claim: Claim,
    check: Check,
    fixed: Mapping[str, Any],
    *,
    seed_value: int,
    max_examples: int,
    shrink: bool,
) -> tuple[Finding, ...]:
    """Try a claim on drawn inputs beside fixed ones; give what fails and nobody knew of, shrunk."""
    sizes = st.sampled_from(BATCHES)
    draws = {name: make for name, make in claim.inputs.items() if name not in fixed}
    made = {b: {n: make(check.fmt, b) for n, make in draws.items()} for b in BATCHES}

    @st.composite
    def drawn(draw: st.DrawFn) -> dict[str, Any]:
        return {name: draw(strategy) for name, strategy in made[draw(sizes)].items()}

    def examine(inputs: Mapping[str, Any]) -> None:
        _examine(claim, check, {**fixed, **inputs})

    try:
        if draws:
            search(
                drawn(), examine, seed_value=seed_value, max_examples=max_examples, shrink=shrink
            )
        else:
            examine({})
    except ClaimViolation as violation:
        return (violation.finding,)
    except Flaky as flaky:
        failed = [v for v in getattr(flaky, "exceptions", ()) if isinstance(v, ClaimViolation)]
        if not failed:
            raise
        once = (
            "It failed once and not again on the same input: something is random, or is measured."
        )
        return tuple(replace(v.finding, kind=Verdict.INCONCLUSIVE, reason=once) for v in failed)
    return ()


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
