"""Every claim on every backend, and every planted bug against its claim."""

from __future__ import annotations

import pytest

from ffverify.command.pytest_specs import Spec, parametrize_specs
from ffverify.conformance import claim as registry
from ffverify.conformance.backends import load
from ffverify.conformance.claim import Bug, Claim

CLAIMS = registry.claims()
BUGS = [(claim, bug) for claim in CLAIMS for bug in claim.bugs]


@parametrize_specs(["reference", "torch"])
def test_claim(spec: Spec) -> None:
    spec()


@pytest.mark.parametrize(
    ("claim", "bug"), BUGS, ids=[f"{claim.id}-{bug.sentence}" for claim, bug in BUGS]
)
def test_planted_bug_is_rejected(claim: Claim, bug: Bug) -> None:
    planted, dtype = bug.plant(load("reference")), claim.dtypes()[0]
    result = registry.run(claim, planted, dtype, shrink=False, functions=[bug.function])
    assert result.status == "fails", result
