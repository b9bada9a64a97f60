"""Verify backends against the claims: the jobs, their order, and what they add up to.

``verify("torch")`` runs every claim on PyTorch and gives a ``Report``. Jobs are independent and
seeded one by one, so any number of worker processes gives the same results in the same order.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from ffverify.errors import UnavailableError, UsageError
from ffverify.exact.formats import FORMATS
from ffverify.files import write_json

from .backends import DEFAULT_BACKENDS, DEFAULT_DTYPES, Backend, load
from .claim import Claim, Result, claims, run
from .workers import execute, one_thread

OnResult = Callable[[Result], None]


class UnknownClaimError(UsageError):
    """A pattern that no claim matches."""


@dataclass
class Report:
    """What came of a verification, in book order.

    ``ok`` (and truth value): every claim that ran holds. A known upstream defect is a failure,
    and so is a claim of which nothing could be judged.
    """

    results: list[Result] = field(default_factory=list)
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every claim that ran holds."""
        failed = any(r.status in ("fails", "inconclusive") for r in self.results)
        return not self.interrupted and not failed

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
            raise UnknownClaimError(
                f"no claim matches {pattern!r}: "
                "`ffverify specs` lists them, * and ? stand for anything"
            )
        chosen |= matching
    return [c for c in everything if c.id in chosen]


def verify(
    backend: str | Sequence[str] = DEFAULT_BACKENDS,
    specs: str | Sequence[str] = (),
    *,
    dtypes: Sequence[str] = DEFAULT_DTYPES,
    max_examples: int | None = None,
    seed: int = 0,
    workers: int = 0,
    on_result: OnResult = lambda _result: None,
) -> Report:
    """Run claims on backends.

    Parameters
    ----------
    backend, specs
        Names of backends; patterns of claims (all by default).
    dtypes
        Formats to run each backend in.
    max_examples
        Inputs per claim, in place of each claim's own number.
    seed
        Same seed, same inputs, same report.
    workers
        Worker processes; 0 runs everything in this one.
    on_result
        Called with every result as it comes (in any order).

    Raises
    ------
    UsageError
        For a name that is not known, a framework that is missing, or a bad number.
    """
    names = [backend] if isinstance(backend, str) else list(dict.fromkeys(backend))
    chosen = select([specs] if isinstance(specs, str) else specs)
    if max_examples is not None and max_examples < 1:
        raise UsageError(f"max_examples is {max_examples}: it counts examples, give 1 or more")
    if workers < 0:
        raise UsageError(f"workers is {workers}: it counts processes, give 0 or more")
    unknown = [d for d in dtypes if d not in FORMATS]
    if unknown:
        raise UsageError(f"dtype {unknown[0]!r} is not known: use one of {', '.join(FORMATS)}")
    absent = {name: reason for name in names if (reason := _absence(name))}
    jobs = [(c.id, name, dtype) for c in chosen for name in names for dtype in dtypes]
    examine = partial(check_one, seed=seed, max_examples=max_examples)
    report = Report()
    done: dict[tuple[str, str, str], Result] = {}
    try:
        runnable = [job for job in jobs if job[1] not in absent]
        for result in execute(examine, runnable, workers):
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
    return report


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
    claim_id: str, backend: str, dtype: str, *, seed: int = 0, max_examples: int | None = None
) -> Result:
    """Run one claim on one backend at one dtype, on one BLAS thread."""
    with one_thread():
        return run(
            find_claim(claim_id),
            _backend(backend),
            dtype,
            seed_value=seed,
            max_examples=max_examples,
        )
