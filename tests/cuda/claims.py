"""The claims of the chapter on torch's device."""

from __future__ import annotations

from collections.abc import Iterator

from ffverify.conformance.claim import claims
from ffverify.conformance.verification import check_one

from .jobs import Job, Row, Setting

FORMATS = ("float64", "float32", "float16", "bfloat16")
# A dry run tries a few of them: values, slopes, a network, one that draws integers.
FEW = ("softmax_shift_invariance", "relu_has_a_left_and_a_right_derivative", "xor_exact_solution")
OUTCOMES = {"holds": "holds", "inconclusive": "inconclusive", "not provided": "not provided"}


def jobs(setting: Setting) -> list[Job]:
    """Every claim in float64 and float32 first, then in the half formats."""
    names = [c.id for c in claims()]
    chosen = [n for n in names if n in FEW] or names[:3] if setting.small else names
    pairs = [(n, f) for half in (FORMATS[:2], FORMATS[2:]) for n in chosen for f in half]
    return [Job(f"{name} {fmt}", claim, (name, fmt)) for name, fmt in pairs]


def claim(setting: Setting, name: str, fmt: str) -> Iterator[Row]:
    """Run one claim in one format."""
    examples = 2 if setting.small else None
    result = check_one(name, f"torch:{setting.device}", fmt, max_examples=examples)
    outcome = OUTCOMES.get(result.status, "known defect" if result.known else "finding")
    found = [
        {"kind": str(f.kind), "severity": f.severity, "where": f.where, "computed": f.computed,
         "exact": f.exact, "error_ulps": f.error_ulps, "known": bool(f.known), "reason": f.reason,
         "replay": f.replay}
        for f in result.findings
    ]  # fmt: skip
    yield {
        "outcome": outcome, "device": setting.device, "dtype": fmt, "worst_ulps": result.worst_ulps,
        "reason": result.reason, "mended": list(result.mended), "findings": found,
    }  # fmt: skip
