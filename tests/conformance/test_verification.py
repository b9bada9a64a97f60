from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ffverify.command.report import print_report
from ffverify.conformance import claim as registry
from ffverify.conformance import replay, verification
from ffverify.conformance.backends import UnknownBackendError, load
from ffverify.conformance.claim import Result
from ffverify.conformance.verification import Report, UnknownClaimError, verify

SOME = ["bernoulli_nll_is_softplus", "xor_exact_solution"]


def _essence(results: list[Result]) -> list[object]:
    return [
        (r.claim, r.backend, r.dtype, r.status, r.findings, r.worst_ulps, r.examples)
        for r in results
    ]


def test_the_same_seed_gives_the_same_findings_on_any_number_of_workers() -> None:
    inline = verify(["reference", "torch"], SOME, workers=0, seed=7)
    spread = verify(["reference", "torch"], SOME, workers=2, seed=7)
    assert _essence(inline.results) == _essence(spread.results)
    assert any(r.findings for r in inline.results)


def test_another_seed_draws_other_inputs() -> None:
    first, second = (verify("reference", SOME[:1], seed=s).results[0].worst_ulps for s in (1, 2))
    assert first != second


def test_a_findings_replay_line_shows_it_again() -> None:
    result = verify("torch", SOME[:1], dtypes=["float64"]).results[0]
    finding = result.findings[0]
    claim, backend, dtype, inputs = replay.parse(finding.replay.split()[-1])
    assert finding in registry.replay(claim, load(backend), dtype, inputs)
    assert registry.replay(claim, load("reference"), dtype, inputs) == []


def test_reports_are_written_whole(tmp_path: Path) -> None:
    report = verify("reference", "xor_exact_solution")
    target = tmp_path / "report.json"
    report.write_json(target)
    plain = json.loads(target.read_text(encoding="utf-8"))
    assert plain["ok"] is True
    assert [r["claim"] for r in plain["results"]] == ["xor_exact_solution"] * 2
    assert list(tmp_path.iterdir()) == [target]


def test_ctrl_c_keeps_what_was_done() -> None:
    seen: list[Result] = []

    def stop_after_two(result: Result) -> None:
        seen.append(result)
        if len(seen) == 2:
            raise KeyboardInterrupt

    report = verify("reference", SOME, on_result=stop_after_two)
    assert report.interrupted
    assert not report.ok
    assert report.results == seen


def test_a_device_that_is_not_here_is_a_row_and_no_success() -> None:
    report = verify("torch:nowhere", SOME[:1], dtypes=["float64"])
    assert [r.status for r in report.results] == ["not available"]
    assert "nowhere" in report.results[0].reason
    assert list(report.unjudged) == ["torch:nowhere"]
    assert not report.ok


def test_functions_a_module_lacks_are_not_provided(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "half_a_library.py").write_text(
        "import numpy as np\n\ndef relu(z):\n    return np.maximum(z, 0)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    report = verify("half_a_library", SOME[:1])
    assert {r.status for r in report.results} == {"not provided"}
    assert not report.ok


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"backend": "no_such_module"}, UnknownBackendError, "importable"),
        ({"backend": "json"}, UnknownBackendError, "catalogue"),
        ({"specs": "no_such_claim"}, UnknownClaimError, "ffverify specs"),
        ({"max_examples": 0}, ValueError, "1 or more"),
        ({"workers": -1}, ValueError, "0 or more"),
        ({"dtypes": ["float8"]}, ValueError, "bfloat16"),
    ],
)
def test_a_wrong_word_is_one_clear_error(
    options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        verify(**{"backend": "reference", **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_claims_are_the_same_list_in_every_process() -> None:
    assert [c.id for c in registry.claims()] == [c.id for c in verification.select(())]
    assert len({c.id for c in registry.claims()}) == len(registry.claims())
    assert all(c.sentence.rstrip(")").endswith(".") for c in registry.claims())


def test_claims_stand_in_book_order() -> None:
    sections = [c.section for c in registry.claims()]
    told = [tuple(map(int, s.split("."))) for s in sections if s != "beyond"]
    assert told == sorted(told)
    assert sections[len(told) :] == ["beyond"] * (len(sections) - len(told))


def _printed(*results: Result) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_report(Report(list(results)), registry.claims(), console)
    return console.export_text()


def test_what_is_measured_is_printed_once_for_all_columns_that_agree() -> None:
    told = _printed(
        Result(SOME[1], "reference", "float64", "holds", measured="3 of 4"),
        Result(SOME[1], "torch", "float64", "holds", measured="3 of 4"),
        Result(SOME[1], "torch", "float32", "holds", measured="2 of 4"),
    )
    assert f"{SOME[1]} · reference float64, torch float64: 3 of 4" in told
    assert f"{SOME[1]} · torch float32: 2 of 4" in told


def test_nothing_judged_is_no_success_and_says_so() -> None:
    result = Result(SOME[1], "torch", "float64", "inconclusive", reason="nothing could be judged")
    assert not Report([result]).ok
    assert f"{SOME[1]} · torch float64: nothing could be judged" in _printed(result)


def test_a_known_defect_that_does_not_show_is_printed() -> None:
    result = Result(SOME[1], "torch", "float64", "holds", mended=("relu", "relu' reverse"))
    told = _printed(result)
    assert "unexpected pass" in told
    assert "no input failed: relu, relu' reverse" in told


def test_a_frameworks_own_warnings_are_not_findings_in_a_process_that_begins_with_them() -> None:
    pytest.importorskip("torch")
    code = (
        "import numpy as np\n"
        "from ffverify.conformance.backends import load\n"
        "H = load('torch').hessian(lambda f, x: (x**3).sum(), [np.array([1.0, 2.0])], 'float64')\n"
        "assert H.tolist() == [[6.0, 0.0], [0.0, 12.0]], H\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_shards_are_the_whole_in_parts() -> None:
    claims = [*SOME, "softmax_on_simplex"]
    whole = verify("reference", claims, max_examples=3)
    parts = [verify("reference", claims, max_examples=3, shard=(i, 4)) for i in (1, 2, 3, 4)]
    found = [essence for part in parts for essence in _essence(part.results)]
    assert sorted(map(str, found)) == sorted(map(str, _essence(whole.results)))
    assert max(len(part.results) for part in parts) == 2
    with pytest.raises(ValueError, match="shard is 5/4"):
        verify("reference", claims, shard=(5, 4))
