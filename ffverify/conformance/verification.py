"""Verify backends against the claims: the jobs, their order, and what they add up to.

``verify("torch")`` runs every claim on PyTorch and gives a ``Report``. Jobs are independent and
seeded one by one, so any number of worker processes gives the same results in the same order.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from ffverify.errors import UnavailableError, UsageError
from ffverify.exact.formats import FORMATS
from ffverify.files import write_json
from ffverify.truth.textbook import CATALOGUE

from . import known_defects
from .backends import DEFAULT_BACKENDS, TRANSFORMS, Backend, load
from .claim import Claim, Result, claims, run
from .known_defects import Defect
from .workers import Job, Lost, execute, one_thread

OnResult = Callable[[Result], None]


class UnknownClaimError(UsageError):
    """A pattern that no claim matches."""


@dataclass
class Report:
    """What came of a verification, in book order.

    ``ok`` (and truth value): every claim that ran holds, known failures aside. It is no success where
    nothing could be judged, of a claim or of a whole backend, or where an entry of the user's known
    failures is out of date.

    Attributes
    ----------
    results
        One per claim, backend and dtype.
    interrupted
        Whether it was ended early.
    unjudged
        Backends on which nothing could be judged, with the reason.
    stale
        Entries of the user's known failures that no run met.
    """

    results: list[Result] = field(default_factory=list)
    interrupted: bool = False
    unjudged: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every claim that ran holds, known failures aside."""
        failed = any(
            r.status in ("inconclusive", "lost") or (r.status == "fails" and not r.known)
            for r in self.results
        )
        return not (failed or self.interrupted or self.unjudged or self.stale)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Backends and dtypes, in order."""
        return list(dict.fromkeys((r.backend, r.dtype) for r in self.results))

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain data."""
        return {
            "ok": self.ok,
            "interrupted": self.interrupted,
            "unjudged": self.unjudged,
            "stale": self.stale,
            "results": [asdict(r) for r in self.results],
        }

    def write_json(self, path: Path) -> None:
        """Write the report as JSON; a crash leaves the old file or the new one."""
        write_json(path, self.to_dict())


def select(patterns: Sequence[str] = ()) -> list[Claim]:
    """Give the claims that match any of the patterns (shell style), or are of a section so named.

    Raises
    ------
    UnknownClaimError
        If a pattern matches none.
    """
    everything = claims()
    chosen: set[str] = set()
    for pattern in patterns or ("*",):
        matching = {
            c.id
            for c in everything
            if fnmatch.fnmatch(c.id, pattern) or f"{c.section}.".startswith(f"{pattern}.")
        }
        if not matching:
            near = difflib.get_close_matches(pattern, [c.id for c in everything], n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownClaimError(
                f"no claim matches {pattern!r}: {meant}"
                "`ffverify specs` lists them, * and ? stand for anything"
            )
        chosen |= matching
    return [c for c in everything if c.id in chosen]


def verify(
    backend: str | Sequence[str] = DEFAULT_BACKENDS,
    specs: str | Sequence[str] = (),
    *,
    dtypes: Sequence[str] = (),
    max_examples: int | None = None,
    seed: int = 0,
    workers: int = 0,
    known: Sequence[str | Path] = (),
    shard: tuple[int, int] = (1, 1),
    on_result: OnResult = lambda _result: None,
) -> Report:
    """Run claims on backends.

    Parameters
    ----------
    backend, specs
        Names of backends; patterns of claims (all by default).
    dtypes
        Formats to run each backend in: by default float64 and float32, and half precision for the
        claims that are about that alone.
    max_examples
        Inputs per claim, in place of each claim's own number.
    seed
        Same seed, same inputs, same report.
    workers
        Worker processes; 0 runs everything in this one.
    known
        Files of failures that you know of (see `ffverify.conformance.known_defects`).
    shard
        ``(i, n)`` runs the i-th of n parts of it all, counted from 1; the parts together are the whole.
    on_result
        Called with every result as it comes (in any order).

    Raises
    ------
    UsageError
        For a name that is not known, a framework that is missing, a bad number or a bad file.
    """
    names = [backend] if isinstance(backend, str) else list(dict.fromkeys(backend))
    chosen = select([specs] if isinstance(specs, str) else specs)
    if max_examples is not None and max_examples < 1:
        raise UsageError(f"max_examples is {max_examples}: it counts examples, give 1 or more")
    if workers < 0:
        raise UsageError(f"workers is {workers}: it counts processes, give 0 or more")
    refuse_formats(dtypes)
    part, parts = shard
    if not 1 <= part <= parts:
        raise UsageError(f"shard is {part}/{parts}: give i/n with i from 1 to n")
    declared = read_known(known)
    absent = {name: reason for name in names if (reason := _absence(name))}
    jobs = [(c.id, name, dtype) for c in chosen for name in names for dtype in c.dtypes(dtypes)]
    jobs = jobs[part - 1 :: parts]
    examine = partial(check_one, seed=seed, max_examples=max_examples, known=declared)
    report = Report()
    done: dict[tuple[str, str, str], Result] = {}
    try:
        together: dict[tuple[str, str], list[Job]] = {}  # backends share the truth of a claim
        for job in jobs:
            if job[1] not in absent:
                together.setdefault((job[0], job[2]), []).append(job)
        for came in execute(examine, list(together.values()), workers):
            result = _lost(came) if isinstance(came, Lost) else came
            done[result.claim, result.backend, result.dtype] = result
            on_result(result)
    except KeyboardInterrupt:
        report.interrupted = True
    for claim_id, name, dtype in jobs:
        if name in absent:
            done[claim_id, name, dtype] = Result(
                claim_id, name, dtype, "not available", reason=absent[name]
            )
        if (claim_id, name, dtype) in done:
            report.results.append(done[claim_id, name, dtype])
    if not report.interrupted:
        report.unjudged = _unjudged(report.results, names, whole=parts == 1)
        report.stale = _stale(report.results, declared) if parts == 1 else []
    return report


def _lost(job: Lost) -> Result:
    claim, backend, dtype = job.job
    return Result(claim, backend, dtype, "lost", reason=job.reason)


def read_known(files: Sequence[str | Path]) -> tuple[Defect, ...]:
    """Read files of known failures; an entry about no claim is an error.

    Raises
    ------
    UsageError
        As said.
    """
    entries = tuple(entry for file in files for entry in known_defects.read(Path(file)))
    ids, functions = [c.id for c in claims()], [*CATALOGUE, *TRANSFORMS]
    for entry in entries:
        for what, name, there in (
            ("claim", entry.claim, ids),
            ("function", entry.function, functions),
        ):
            if name and not fnmatch.filter(there, name):
                near = difflib.get_close_matches(name, there, n=1)
                meant = f": did you mean {near[0]!r}?" if near else ""
                raise UsageError(f"{entry.file}: there is no {what} {name!r}{meant}")
    return entries


def _unjudged(results: Sequence[Result], names: Sequence[str], *, whole: bool) -> dict[str, str]:
    """Give the backends on which nothing could be judged; part of a run may well hold nothing of one."""
    found = {}
    for name in names:
        own = [r for r in results if r.backend == name]
        if any(r.status not in ("not provided", "not available") for r in own):
            continue
        reasons = [r.reason for r in own if r.status == "not available"]
        if reasons:
            found[name] = reasons[0]
        elif whole:
            found[name] = (
                "it provides none of these claims" if own else "no claim runs in these formats"
            )
    return found


def _stale(results: Sequence[Result], declared: Sequence[Defect]) -> list[str]:
    """Give the user's entries that were tried and not met."""
    judged = [r for r in results if r.status in ("holds", "fails", "inconclusive")]
    met = {f.known for r in judged for f in r.findings}
    return [
        f"{entry.file}: nothing fails as it says: {entry} ({entry.reason})"
        for entry in declared
        if entry.reason not in met
        and any(
            entry.concerns(r.claim, r.backend, r.dtype)
            and (not entry.function or entry.function in find_claim(r.claim).functions)
            and entry.function not in r.missing
            for r in judged
        )
    ]


def refuse_formats(dtypes: Sequence[str]) -> None:
    """Refuse what is no format.

    Raises
    ------
    UsageError
        As said.
    """
    unknown = [d for d in dtypes if d not in FORMATS]
    if unknown:
        raise UsageError(f"dtype {unknown[0]!r} is not known: use one of {', '.join(FORMATS)}")


def refuse_unknown_backend(name: str) -> None:
    """Refuse what is no backend; a device that is not here is a matter of the run.

    Raises
    ------
    UsageError
        As said.
    """
    _absence(name)


def _absence(name: str) -> str:
    """Give the reason why a backend's device is not here; empty if all is well."""
    try:
        _backend(name)
    except UnavailableError as error:
        if ":" not in name:
            raise
        return str(error)
    return ""


@cache
def _backend(name: str) -> Backend:
    return load(name)


@cache
def find_claim(claim_id: str) -> Claim:
    """Give a claim by its id."""
    return {c.id: c for c in claims()}[claim_id]


def check_one(
    claim_id: str,
    backend: str,
    dtype: str,
    *,
    seed: int = 0,
    max_examples: int | None = None,
    known: Sequence[Defect] = (),
) -> Result:
    """Run one claim on one backend at one dtype, on one BLAS thread."""
    found = _backend(backend)
    with one_thread():
        return run(
            find_claim(claim_id),
            found,
            dtype,
            seed_value=seed,
            max_examples=max_examples,
            known=known,
        )
