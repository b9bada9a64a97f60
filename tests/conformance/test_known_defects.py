"""A known defect covers the parts and kinds that it names: nothing hides behind it, and it is strict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffverify.command import pytest_specs
from ffverify.command.pytest_specs import Spec
from ffverify.conformance import known_defects as defects
from ffverify.conformance.claim import Result, claims, run
from ffverify.conformance.verification import find_claim, read_known
from ffverify.errors import UsageError
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
        "it raises", claim="tanh_is_scaled_sigmoid", backend="torch", parts=("tanh",)
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
    assert defects.of("other_hidden_units", "torch", "float64").defects
    assert defects.of("other_hidden_units", "torch:cuda", "float64").defects
    assert not defects.of("other_hidden_units", "reference", "float64").defects
    monkeypatch.setattr(defects, "_version", lambda _package: "2.14.0")
    assert not defects.of("other_hidden_units", "torch", "float64").defects


def _file(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "known.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[defect]", "is no TOML"),
        ("x = 1", "'x', which is not known: use defect"),
        ("defects = []", "did you mean 'defect'"),
        ("defect = 3", r"heading \[\[defect\]\]"),
        ("defect = [3]", r"heading \[\[defect\]\]"),
        ('[[defect]]\nfunction = "tanh"', "no reason"),
        ('[[defect]]\nreason = "why"', "neither a claim nor a function"),
        ('[[defect]]\nreason = "why"\nfunctoin = "tanh"', "did you mean 'function'"),
        ('[[defect]]\nreason = " "\nfunction = "tanh"', "no text"),
        ('[[defect]]\nreason = "why"\nfunction = 3', "no text"),
        ('[[defect]]\nreason = "why"\nfunction = "tanhh"', "did you mean 'tanh'"),
        ('[[defect]]\nreason = "why"\nclaim = "xor_exact"', "there is no claim"),
        ('[[defect]]\nreason = "why"\nfunction = "tanh"\ndtypes = ["float8"]', "float8.*none of"),
        ('[[defect]]\nreason = "why"\nfunction = "tanh"\ndtypes = [3]', "no list of texts"),
        ('[[defect]]\nreason = "why"\nfunction = "tanh"\nkinds = "slow"', "none of imprecise"),
        ("a = " + 5000 * "[", "is no TOML"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        read_known([_file(text, tmp_path)])
    assert "\n" not in str(caught.value)


def test_200_damaged_files_are_each_one_clear_error_or_fine(tmp_path: Path) -> None:
    good = (
        '[[defect]]\nfunction = "tanh"\ndtypes = ["float32"]\nversion = "1.2"\n'
        'kinds = ["wrong"]\nreason = "ticket 3"\n'
    )
    rng, refused = np.random.default_rng(0), []
    for _ in range(200):
        held = list(good)
        for place in rng.integers(len(held), size=3):
            held[place] = str(rng.choice(["", "\x00", '"', "[", "=", "\n", "é", "0", "'", "#"]))
        try:
            read_known([_file("".join(held), tmp_path)])
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)


def test_an_entry_covers_what_it_names_only() -> None:
    entry = defects.Defect("why", function="gelu", dtypes=("float32",), version="2.1")
    assert all(map(entry.covers, ("gelu", "gelu' reverse", "gelu''")))
    assert not entry.covers("gelu_tanh")
    assert not entry.concerns("any", "torch", "float64")
    for version, covered in (("2.1.0", True), ("2.1", True), ("2.10", False), ("", False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(defects, "_version", lambda _package, v=version: v)
            assert entry.concerns("any", "torch", "float32") is covered


def test_a_users_entry_that_holds_fails_in_pytest() -> None:
    entry = defects.Defect("why", claim="xor_*", file="known.toml")
    with pytest.raises(
        pytest.fail.Exception, match=r"known.toml says that this fails: claim xor_\*"
    ):
        Spec("xor_exact_solution", "reference", "float64", known=(entry,))()


def test_a_defect_of_one_device_covers_no_other() -> None:
    everywhere = defects.Defect("", claim="c", backend="torch")
    there = defects.Defect("", claim="c", backend="torch:cuda")
    assert [everywhere.concerns("c", b, "float32") for b in ("torch", "torch:cuda")] == [True, True]
    assert [there.concerns("c", b, "float32") for b in ("torch", "torch:cuda")] == [False, True]
