"""Claims as pytest tests: ``@ffverify.parametrize_specs(backend)``.

    @ffverify.parametrize_specs("mylib.ops")
    def test_claims(spec):
        spec()

makes one test per claim, backend and dtype. A claim that fails raises with the finding as its
message; one that the backend does not provide is skipped; a known upstream defect is a strict
expected failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from .backends import DEFAULT_DTYPES
from .claim import Result
from .verification import check_one, known_defect, select


@dataclass(frozen=True)
class Spec:
    """One claim on one backend at one dtype; call it to try it."""

    claim: str
    backend: str
    dtype: str
    max_examples: int | None = None
    seed: int = 0

    def __call__(self) -> None:
        """Run the claim.

        Raises
        ------
        AssertionError
            With the finding, if it fails; a pytest skip where it is not provided or available.
        """
        __tracebackhide__ = True
        result = check_one(
            self.claim, self.backend, self.dtype, seed=self.seed, max_examples=self.max_examples
        )
        if result.status == "fails":
            pytest.fail("\n".join(str(f) for f in result.findings), pytrace=False)
        if result.status != "holds":
            pytest.skip(f"{result.status}: {result.reason}")

    def __str__(self) -> str:
        return f"{self.claim}-{self.backend}-{self.dtype}"

    @property
    def known(self) -> str:
        """Why this is known to fail upstream, or nothing."""
        return known_defect(Result(self.claim, self.backend, self.dtype, "fails"))


def all_specs(
    backends: Sequence[str],
    patterns: Sequence[str] = (),
    *,
    dtypes: Sequence[str] = DEFAULT_DTYPES,
    max_examples: int | None = None,
    seed: int = 0,
) -> Iterator[Spec]:
    """Give every spec, in book order."""
    for claim in select(patterns):
        for backend in backends:
            for dtype in dtypes:
                yield Spec(claim.id, backend, dtype, max_examples, seed)


def parametrize_specs(
    backend: str | Sequence[str],
    specs: str | Sequence[str] = (),
    *,
    dtypes: Sequence[str] = DEFAULT_DTYPES,
    max_examples: int | None = None,
    seed: int = 0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Parametrize a test function by ``spec``, one per claim, backend and dtype.

    Parameters are those of `ffverify.verify`.
    """
    backends = [backend] if isinstance(backend, str) else backend
    patterns = [specs] if isinstance(specs, str) else specs
    chosen = all_specs(backends, patterns, dtypes=dtypes, max_examples=max_examples, seed=seed)
    return pytest.mark.parametrize(
        "spec",
        [
            pytest.param(
                s,
                id=str(s),
                marks=[pytest.mark.xfail(reason=s.known, strict=True)] if s.known else [],
            )
            for s in chosen
        ],
    )
