"""A known defect covers the parts and kinds that it names: nothing hides behind it, and it is strict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ffverify.command import pytest_specs
from ffverify.command.pytest_specs import Spec
from ffverify.conformance import known_defects as defects
from ffverify.conformance.claim import Result, claims, run
from ffverify.conformance.verification import find_claim
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

torch = pytest.importorskip("torch")

from ffverify.conformance.backends import load  # noqa: E402 - after torch is known to be there


def _tried(claim: str, **changes: Callable[..., Any]) -> Result:
    backend = load("torch")
    for name, function in changes.items():
        backend = backend.replacing(name, function)
    return run(find_claim(claim), backend, "float64", shrink=False)


def test_known_defects_alone_make_a_known_failure() -> None:
    result = _tried("sigmoidal_units_saturate")
    assert result.known
    assert [f.where.split("(")[0] for f in result.findings] == ["sigmoid'", "tanh'"]
    assert all("1 - y²" in f.known for f in result.findings)
    assert not result.mended


def test_another_function_of_the_claim_does_not_hide_behind_it() -> None:
    result = _tried("other_hidden_units", hard_tanh=lambda z: torch.clamp(z, -1, 0.5))
    assert result.status == "fails"
    assert not result.known
    *known, found = result.findings
    assert {f.where.split("(")[0] for f in known} == {"softplus", "softplus'"}
    assert found.where.startswith("hard_tanh(")
    assert not found.known


def test_another_kind_of_error_of_the_same_function_does_not_hide_behind_it() -> None:
    result = _tried("sigmoidal_units_saturate", sigmoid=lambda z: torch.sigmoid(1.001 * z))
    assert not result.known
    assert result.findings[-1].kind is Verdict.WRONG
    assert result.findings[-1].where.startswith("sigmoid'(")


class _Mended(torch.autograd.Function):
    """The logistic function with its derivative as e^-|z| / (1 + e^-|z|)²."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Any) -> Any:
        return torch.sigmoid(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, y_bar: Any) -> Any:
        (z,) = ctx.saved_tensors
        e = torch.exp(-torch.abs(z))
        return y_bar * e / (1 + e) ** 2


def test_a_defect_that_does_not_occur_is_reported() -> None:
    result = _tried("sigmoidal_units_saturate", sigmoid=_Mended.apply)
    assert result.mended == ("sigmoid' reverse",)
    assert result.known  # tanh' still fails


FINDING = Finding(Verdict.WRONG, "f(1.0)", "2.0", "1.0", 1e16, 8.0, "float64")
KNOWN = Finding(Verdict.WRONG, "g(1.0)", "2.0", "1.0", 1e16, 8.0, "float64", known="upstream")


@pytest.mark.parametrize(
    ("status", "findings", "mended", "outcome", "says"),
    [
        ("fails", (KNOWN,), (), pytest.xfail.Exception, "upstream"),
        ("fails", (KNOWN, FINDING), (), pytest.fail.Exception, r"f\(1.0\)"),
        ("fails", (KNOWN,), ("h",), pytest.fail.Exception, "known_defects.toml .* h"),
        ("holds", (), ("h",), pytest.fail.Exception, "known_defects.toml .* h"),
        ("inconclusive", (), (), pytest.fail.Exception, "inconclusive"),
        ("not provided", (), (), pytest.skip.Exception, "not provided"),
    ],
)
def test_what_pytest_makes_of_a_result(
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    findings: tuple[Finding, ...],
    mended: tuple[str, ...],
    outcome: type[BaseException],
    says: str,
) -> None:
    result = Result("a", "torch", "float64", status, findings, mended=mended)
    monkeypatch.setattr(pytest_specs, "check_one", lambda *_, **__: result)
    with pytest.raises(outcome, match=says):
        Spec("a", "torch", "float64")()


def test_a_function_that_raises_as_declared_does_not_end_the_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raises(z: Any) -> Any:
        raise RuntimeError("no kernel")

    entry = defects.Defect(
        "tanh_is_scaled_sigmoid", "torch", ["float64"], ["tanh"], ["wrong"], "", "it raises"
    )
    monkeypatch.setattr(defects, "declared", lambda: (entry,))
    assert _tried("tanh_is_scaled_sigmoid", tanh=raises).known
    both = _tried("tanh_is_scaled_sigmoid", tanh=raises, sigmoid=lambda z: torch.sigmoid(z) ** 2)
    assert not both.known


def test_every_entry_names_a_claim_and_gives_sizes() -> None:
    ids = {c.id for c in claims()}
    for defect in defects.declared():
        assert defect.claim in ids
        assert set(defect.kinds) <= {"wrong", "imprecise", "nonfinite"}
        assert any(c.isdigit() for c in defect.reason), "a reason gives the size of the error"
    named = [
        (d.claim, d.backend, dtype, part)
        for d in defects.declared()
        for dtype in d.dtypes
        for part in d.parts
    ]
    assert len(named) == len(set(named)), "a part is declared once"


def test_only_the_version_named_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert defects.of("other_hidden_units", "torch", "float64")
    assert defects.of("other_hidden_units", "torch:cuda", "float64")
    assert not defects.of("other_hidden_units", "reference", "float64")
    monkeypatch.setattr(defects, "_version", lambda _package: "2.14.0")
    assert not defects.of("other_hidden_units", "torch", "float64")
