"""A claim about each of its functions by itself: none hides another, and a missing one hides none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffverify.command.main import commands
from ffverify.command.pytest_specs import Spec
from ffverify.conformance import claim as registry
from ffverify.conformance import known_defects as defects
from ffverify.conformance import replay
from ffverify.conformance.backends import load
from ffverify.conformance.claim import Result
from ffverify.conformance.verification import find_claim, verify
from ffverify.errors import UsageError

FEW = """
import numpy as np

def gelu(z):
    return z / (1 + np.exp(-1.702 * z))

def silu(z):
    return z / (1 + np.exp(-z))

def softsign(z):
    return z / (1 + np.abs(z))

def tanh(z):
    return np.tanh(z)

tanh.vjp = lambda g, z: g * (1 - np.tanh(z))
"""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Give the name of a module with a few functions, of which gelu and tanh' are wrong."""
    (tmp_path / "few_units.py").write_text(FEW, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "few_units"


def _naive_elu(z: Any, alpha: float = 1.0) -> Any:
    return np.where(z > 0, z, alpha * (np.exp(np.where(z > 0, 0.0, z)) - 1))


def _with_three_bugs(**options: Any) -> Result:
    backend = load("reference")
    right = backend.functions
    for name, broken in {
        "elu": _naive_elu,
        "gelu": lambda z: z * right["sigmoid"](1.702 * z),
        "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
    }.items():
        backend = backend.replacing(name, broken)
    return registry.run(find_claim("modern_units"), backend, "float64", shrink=False, **options)


def test_every_function_that_is_wrong_is_found_in_one_run() -> None:
    kinds = {defects.function_of(f.part): str(f.kind) for f in _with_three_bugs().findings}
    assert kinds["elu"] == "imprecise"
    assert kinds["gelu"] == "wrong"
    assert kinds["mish"] == "nonfinite"


def test_what_is_known_of_one_function_hides_nothing_of_another() -> None:
    entries = (defects.Defect("e^z - 1", function="elu", file="known.toml"),)
    result = _with_three_bugs(known=entries)
    assert not result.known
    known = [f.known for f in result.findings if f.known]
    assert known == [f.known for f in result.findings][: len(known)]
    assert {defects.function_of(f.part) for f in result.findings if not f.known} >= {"gelu", "mish"}


def test_all_that_is_known_to_fail_of_a_function_is_told() -> None:
    entries = (defects.Defect("another function", function="gelu", file="known.toml"),)
    known = [f.part for f in _with_three_bugs(known=entries).findings if f.known]
    assert {"gelu", "gelu' reverse"} <= set(known)


def test_a_defect_that_one_function_no_longer_has_is_seen_beside_another_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [
        defects.Defect("mended", claim="modern_units", parts=(f"{name}' reverse",))
        for name in ("silu", "gelu")
    ]
    monkeypatch.setattr(defects, "declared", lambda: tuple(entries))
    assert _with_three_bugs().mended == ("silu' reverse",)  # of gelu nobody knows: its value fails


def test_a_replay_line_is_about_its_function_alone() -> None:
    for finding in (f for f in _with_three_bugs().findings if f.severity == "error"):
        claim, _, _, inputs = replay.parse(finding.replay.split()[-1])
        assert inputs["unit"] == defects.function_of(finding.part)
        assert registry.replay(claim, load("reference"), "float64", inputs) == []


def test_functions_that_a_backend_has_are_tried_without_the_others(few: str) -> None:
    found = verify(few, ["modern_units", "sigmoidal_units_saturate"], dtypes=["float64"])
    saturate, units = found.results
    assert units.status == saturate.status == "fails"
    assert {f.part for f in units.findings if f.severity == "error"} >= {"gelu"}
    assert {f.part for f in saturate.findings} == {"tanh' reverse"}
    assert saturate.missing == ("sigmoid",)
    assert len(units.missing) == len(find_claim("modern_units").functions) - 3


def test_a_user_is_told_what_was_not_tried(few: str, tmp_path: Path) -> None:
    names = [f"--{kind}={tmp_path / f'out.{kind}'}" for kind in ("jsonl", "junit", "report")]
    words = ["verify", "--backend", few, "--dtype", "float64", "--workers", "0"]
    spec = ["--spec", "kinks_have_one_sided_derivatives"]
    told = CliRunner().invoke(commands, [*words, *spec, *names])
    assert told.exit_code == 0, told.output
    assert "–11" in told.output
    assert "few_units float64: relu, absolute" in told.output
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    (check,) = (r for r in map(json.loads, lines) if r["record"] == "check")
    assert "relu" in check["missing"]
    assert "softsign" not in check["missing"]
    assert "not provided: relu, absolute" in (tmp_path / "out.junit").read_text(encoding="utf-8")
    assert "not provided: relu, absolute" in (tmp_path / "out.report").read_text(encoding="utf-8")


def test_a_claim_that_is_tried_in_part_does_not_pass_in_pytest(few: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"not provided: relu, .* the others it holds"):
        Spec("kinks_have_one_sided_derivatives", few, "float64")()
    with pytest.raises(pytest.fail.Exception, match="gelu"):
        Spec("modern_units", few, "float64")()


def test_an_entry_about_a_function_that_is_not_there_is_not_out_of_date(
    few: str, tmp_path: Path
) -> None:
    known = tmp_path / "known.toml"
    known.write_text('[[defect]]\nfunction = "elu"\nreason = "why"\n', encoding="utf-8")
    assert verify(few, "modern_units", dtypes=["float64"], known=[known]).stale == []
    known.write_text('[[defect]]\nfunction = "softsign"\nreason = "why"\n', encoding="utf-8")
    assert len(verify(few, "kinks*", dtypes=["float64"], known=[known]).stale) == 1


def test_a_token_of_a_function_that_another_backend_lacks_is_one_clear_error(few: str) -> None:
    elu = next(f for f in _with_three_bugs().findings if f.part.startswith("elu"))
    token = elu.replay.split()[-1]
    refused = CliRunner().invoke(commands, ["replay", "--backend", few, token])
    assert isinstance(refused.exception, UsageError)
    assert "few_units cannot try modern_units: it has no elu" in str(refused.exception)
