"""Claims as pytest tests: ``@ffverify.parametrize_specs(backend)``.

    @ffverify.parametrize_specs("mylib.ops")
    def test_claims(spec):
        spec()

makes one test per claim, backend and dtype. A claim that fails, or of which nothing could be judged,
raises with the finding as its message; one that the backend does not provide is skipped; known
upstream defects are expected failures, of the parts that they name only, and strict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ffverify.conformance.backends import DEFAULT_DTYPES
from ffverify.conformance.verification import check_one, select


@dataclass(frozen=True)
class Spec:
    """One claim on one backend at one dtype; call it to try it."""

    claim: str
    backend: str
    dtype: str
    max_examples: int | None = None
    seed: int = 0

    def __call__(self) -> None:
        """Run the claim; known upstream defects alone make an expected failure.

        Raises
        ------
        AssertionError
            With the findings that no known defect covers; with the known defects that did not show;
            or where nothing could be judged. A pytest skip where the claim is not provided or its
            device is not there.
        """
        __tracebackhide__ = True
        result = check_one(
            self.claim, self.backend, self.dtype, seed=self.seed, max_examples=self.max_examples
        )
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
        if result.known:  # whatever shows is declared in known_defects.toml, and all of that shows
            pytest.xfail("\n".join(dict.fromkeys(f.known for f in result.findings)))

    def __str__(self) -> str:
        return f"{self.claim}-{self.backend}-{self.dtype}"


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
    return pytest.mark.parametrize("spec", list(chosen), ids=str)
