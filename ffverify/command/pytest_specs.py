"""Claims as pytest tests: ``@ffverify.parametrize_specs(backend)``.

    @ffverify.parametrize_specs("mylib.ops")
    def test_claims(spec):
        spec()

makes one test per claim, backend and dtype. A claim that fails, or of which nothing could be judged,
raises with the finding as its message; one that the backend does not provide is skipped. Known failures,
upstream's and those of your own file (``known="known.toml"``), are expected failures, of what they name
only, and strict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ffverify.conformance.claim import Result
from ffverify.conformance.known_defects import Defect
from ffverify.conformance.verification import (
    check_one,
    read_known,
    refuse_formats,
    refuse_unknown_backend,
    select,
)
from ffverify.errors import UnavailableError, UsageError


@dataclass(frozen=True)
class Spec:
    """One claim on one backend at one dtype; call it to try it."""

    claim: str
    backend: str
    dtype: str
    max_examples: int | None = None
    seed: int = 0
    known: tuple[Defect, ...] = ()

    def __call__(self) -> None:
        """Run the claim; known failures alone make an expected failure.

        Raises
        ------
        AssertionError
            With the findings that no known defect covers; with the known defects that did not show;
            or where nothing could be judged. A pytest skip where the claim is not provided, or not of
            each function that it is about, or its device is not there.
        """
        __tracebackhide__ = True
        result = self.run()
        for tell in listeners:
            tell(result)
        self.judge(result)

    def run(self) -> Result:
        """Give the result; a device that is not here is one."""
        try:
            return check_one(
                self.claim,
                self.backend,
                self.dtype,
                seed=self.seed,
                max_examples=self.max_examples,
                known=self.known,
            )
        except UnavailableError as error:
            return Result(self.claim, self.backend, self.dtype, "not available", reason=str(error))

    def judge(self, result: Result) -> None:
        """Say to pytest what came of it, as `__call__`."""
        __tracebackhide__ = True
        if result.status in ("not provided", "not available"):
            # Nothing to check: the backend lacks the function, or this machine the device.
            pytest.skip(f"{result.status}: {result.reason}")
        unknown = [str(f) for f in result.findings if not f.known]
        if result.status == "inconclusive":
            pytest.fail("\n".join([f"inconclusive: {result.reason}", *unknown]), pytrace=False)
        if result.status == "fails" and unknown:
            pytest.fail("\n".join(unknown), pytrace=False)
        if result.mended:
            parts = ", ".join(result.mended)
            pytest.fail(f"known_defects.toml says that this fails: {parts}", pytrace=False)
        stale = [
            entry
            for entry in self.known
            if entry.claim
            and not entry.function
            and entry.concerns(self.claim, self.backend, self.dtype)
            and entry.reason not in {f.known for f in result.findings}
        ]
        if stale:
            pytest.fail(f"{stale[0].file} says that this fails: {stale[0]}", pytrace=False)
        if result.known:  # whatever shows is declared, and all of that shows
            pytest.xfail("\n".join(dict.fromkeys(f.known for f in result.findings)))
        if result.missing:
            pytest.skip(f"not provided: {', '.join(result.missing)}; of the others it holds")

    def __str__(self) -> str:
        return f"{self.claim}-{self.backend}-{self.dtype}"


# Whoever is to be told of every result, as a session that writes a report.
listeners: list[Callable[[Result], None]] = []


def all_specs(
    backends: Sequence[str],
    patterns: Sequence[str] = (),
    *,
    dtypes: Sequence[str] = (),
    max_examples: int | None = None,
    seed: int = 0,
    known: Sequence[str | Path] = (),
) -> Iterator[Spec]:
    """Give every spec, in book order.

    Raises
    ------
    UsageError
        For a claim, backend, format or file that is not there.
    """
    refuse_formats(dtypes)
    declared = read_known(known)
    for claim in select(patterns):
        for backend in dict.fromkeys(backends):
            for dtype in claim.dtypes(dtypes):
                yield Spec(claim.id, backend, dtype, max_examples, seed, declared)


def parametrize_specs(
    backend: str | Sequence[str],
    specs: str | Sequence[str] = (),
    *,
    dtypes: Sequence[str] = (),
    max_examples: int | None = None,
    seed: int = 0,
    known: str | Path | Sequence[str | Path] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Parametrize a test function by ``spec``, one per claim, backend and dtype.

    Parameters are those of `ffverify.verify`.

    Raises
    ------
    pytest.Collector.CollectError
        For a name that is not known: one line in place of a traceback.
    """
    backends = [backend] if isinstance(backend, str) else backend
    patterns = [specs] if isinstance(specs, str) else specs
    files = [known] if isinstance(known, str | Path) else known
    try:
        for name in backends:
            refuse_unknown_backend(name)
        chosen = list(
            all_specs(
                backends, patterns, dtypes=dtypes, max_examples=max_examples, seed=seed, known=files
            )
        )
    except UsageError as error:
        raise pytest.Collector.CollectError(f"ffverify.parametrize_specs: {error}") from error
    return pytest.mark.parametrize("spec", chosen, ids=str)
