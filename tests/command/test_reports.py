"""Reports in files: JSON Lines that can be read again and merged, JUnit, a page, and what changed since."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffverify.command.compare import report
from ffverify.command.reports import html, junit
from ffverify.command.reports.causes import causes
from ffverify.command.reports.checked import figure_of, result_of
from ffverify.command.reports.files import Files
from ffverify.command.reports.records import Document, Entry, merge, read, run_record
from ffverify.conformance.claim import Result
from ffverify.errors import UsageError
from ffverify.gradients.gradcheck import gradcheck
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

HOSTILE = "<script>alert('&\"\x07')</script>"
WRONG = Finding(
    Verdict.WRONG, "tanh(1.0)", "0.5", "0.76", 1e15, 8.0, "float64", HOSTILE,
    "ffverify replay xyz", part="tanh",
)  # fmt: skip
KNOWN = replace(WRONG, where="softplus'(21.0)", part="softplus' reverse", known="its threshold")
BROKEN = replace(WRONG, kind=Verdict.NONFINITE, error_ulps=math.inf, part="gelu''", where="gelu''")
SLIGHT = replace(WRONG, kind=Verdict.IMPRECISE, error_ulps=100.0, part="relu", where="relu(1.0)")


def _entry(
    claim: str, status: str, *findings: Finding, dtype: str = "float64", **more: Any
) -> Entry:
    result = Result(
        claim, "torch", dtype, status, findings, worst_ulps=2.0, worst_share=0.25, **more
    )
    return Entry(result, "verify", "6.3", f"What {claim} says.")


ENTRIES = [
    _entry("xor_exact_solution", "holds", SLIGHT),
    _entry("tanh_is_scaled_sigmoid", "fails", WRONG, KNOWN),
    _entry("tanh_is_scaled_sigmoid", "fails", WRONG, dtype="float32"),
    _entry("other_hidden_units", "fails", KNOWN, mended=("relu",)),
    _entry("modern_units", "fails", BROKEN, seconds=1.25),
    _entry("learning_may_fail", "not provided", reason="no MLP"),
    _entry("depth_beats_width", "lost", reason="its worker process was killed"),
    _entry("cheap_gradient", "inconclusive", reason="nothing could be judged"),
]


@pytest.fixture
def document() -> Document:
    made = Document(run_record("verify", seed=3, shard="1/2"), list(ENTRIES))
    made.end(ok=False, notes=["one & only"])
    return made


def _written(document: Document, path: Path) -> Path:
    files = Files(jsonl=path)
    files.begin(document)
    for entry in document.entries:
        files.add(entry)
    if document.ended:
        files.finish(document)
    elif files._stream is not None:
        files._stream.close()
    return path


def test_json_lines_are_json_and_hold_everything(document: Document, tmp_path: Path) -> None:
    path = _written(document, tmp_path / "a.jsonl")

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    lines = [json.loads(x, parse_constant=refuse) for x in path.read_text().splitlines()]
    assert [x["record"] for x in lines] == ["run", *["check"] * len(ENTRIES), "end"]
    assert {"schema", "version", "ffverify", "packages", "platform", "date", "seed"} <= set(
        lines[0]
    )
    again = read(path)
    assert again == document
    assert [f.severity for e in again.entries for f in e.result.findings] == [
        f.severity for e in ENTRIES for f in e.result.findings
    ]


def test_checks_are_in_the_file_before_the_run_ends(document: Document, tmp_path: Path) -> None:
    document.ended = False
    path = _written(document, tmp_path / "a.jsonl")
    assert read(path).entries == ENTRIES
    path.write_text(path.read_text()[:-9])  # killed while it wrote
    cut = read(path)
    assert cut.entries == ENTRIES[:-1]
    assert not merge([cut]).ok
    assert merge([cut]).interrupted


def test_parts_merged_are_the_whole(document: Document, tmp_path: Path) -> None:
    parts = []
    for i in range(4):
        part = Document(run_record("verify"), ENTRIES[i::4])
        part.end(ok=not any(e.failed for e in part.entries))
        parts.append(read(_written(part, tmp_path / f"{i}.jsonl")))
    whole = merge([document])
    assert merge(parts).entries == whole.entries
    assert merge(parts[::-1]).entries == whole.entries
    assert not merge(parts).ok


def test_a_backend_of_which_nothing_was_judged_in_any_part_is_no_success() -> None:
    parts = []
    for dtype in ("float64", "float32"):
        part = Document(
            run_record("verify"), [_entry("xor_exact_solution", "not provided", dtype=dtype)]
        )
        part.end(ok=True)
        parts.append(part)
    assert not merge(parts).ok
    assert merge(parts).notes == ["nothing could be judged on torch"]


def test_a_program_of_a_claims_own_has_the_claims_name() -> None:
    for part, title in (
        ("_bernoulli' reverse", "cheap_gradient: bernoulli' reverse"),
        ("program", "cheap_gradient: program"),
        ("sum of the slopes", "cheap_gradient: sum of the slopes"),
        ("relu' reverse", "relu'"),
    ):
        entry = _entry("cheap_gradient", "fails", replace(WRONG, part=part))
        assert [c.what for c in causes([entry.result])] == [title]


def test_a_cause_is_one_with_all_that_shows_it() -> None:
    found = causes(e.result for e in ENTRIES)
    assert [(c.what, c.dtypes, bool(c.known), c.severity) for c in found] == [
        ("tanh", ("float64", "float32"), False, "error"),
        ("gelu''", ("float64",), False, "error"),
        ("relu", ("float64",), False, "warning"),
        ("softplus", ("float64",), True, "error"),
    ]
    assert found[-1].claims == ("tanh_is_scaled_sigmoid", "other_hidden_units")
    assert found[-1].degrees == ("first derivative",)


def test_junit(document: Document, tmp_path: Path) -> None:
    junit.write(document, tmp_path / "out.xml")
    (suite,) = ET.parse(tmp_path / "out.xml").getroot()  # noqa: S314 - our own file
    count = {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")}
    assert count == {"tests": "8", "failures": "4", "errors": "1", "skipped": "2"}
    case = suite.findall("testcase")[1]
    assert case.get("classname") == "ffverify.verify.torch.6.3"
    assert case.get("name") == "tanh_is_scaled_sigmoid[float64]"
    (failure,) = case.findall("failure")
    assert failure.get("type") == "wrong"
    assert "ffverify replay xyz" in str(failure.text)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_one_file_and_escaped(document: Document, tmp_path: Path) -> None:
    html.write(document, tmp_path / "out.html", drawn=False)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1  # ours, and not the hostile one
    assert "one &amp; only" in text
    parts = {a["id"] for tag, a in page.tags if tag == "article"}
    assert len(parts) == 4
    links = [str(a["href"]) for tag, a in page.tags if tag == "a"]
    assert len(links) == 4
    assert {link.removeprefix("#") for link in links} <= parts
    outside = [a.get("src") or a.get("href") for _, a in page.tags]
    assert not any(re.match(r"(https?:)?//", str(address)) for address in outside)
    cells = [a.get("data-status") for tag, a in page.tags if tag == "td" and "data-status" in a]
    assert sorted(map(str, cells)) == ["fails"] * 3 + ["holds", "inconclusive", "known", "lost"]


def test_the_error_is_drawn_around_a_finding(document: Document, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    finding = replace(WRONG, where="tanh(1.0)")
    result = Result("tanh_is_scaled_sigmoid", "reference", "float64", "fails", (finding,))
    (cause,) = causes([result])
    drawn = html.around(cause)
    errors = drawn.axes[0].lines[0].get_ydata()
    assert len(errors) == 81
    assert errors.max() < 8  # the reference's own tanh is right: nothing is copied from the finding
    (elsewhere,) = causes([replace(result, findings=(replace(finding, part="a statement"),))])
    assert html.around(elsewhere) is None


def _since(tmp_path: Path, before: list[Entry], now: list[Entry]) -> Any:
    for name, entries in (("before", before), ("now", now)):
        made = Document(run_record("verify"), entries)
        made.end(ok=not any(e.failed for e in entries))
        _written(made, tmp_path / f"{name}.jsonl")
    words = [str(tmp_path / "now.jsonl"), "--since", str(tmp_path / "before.jsonl")]
    return CliRunner().invoke(report, words)


@pytest.mark.parametrize(
    ("before", "now", "code", "says"),
    [
        ("holds", "fails", 1, "1 new, 0 worse, 0 gone"),
        ("fails", "fails", 0, "0 new, 0 worse, 0 gone"),
        ("fails", "holds", 0, "0 new, 0 worse, 1 gone"),
    ],
)
def test_what_is_new_and_gone(tmp_path: Path, before: str, now: str, code: int, says: str) -> None:
    either = {
        "holds": [_entry("tanh_is_scaled_sigmoid", "holds")],
        "fails": [_entry("tanh_is_scaled_sigmoid", "fails", WRONG)],
    }
    came = _since(tmp_path, either[before], either[now])
    assert came.exit_code == code, came.output
    assert f"Since the earlier run: {says}." in came.output


def test_what_is_worse(tmp_path: Path) -> None:
    small = replace(WRONG, error_ulps=1e9)
    came = _since(
        tmp_path,
        [_entry("tanh_is_scaled_sigmoid", "fails", small)],
        [_entry("tanh_is_scaled_sigmoid", "fails", WRONG)],
    )
    assert came.exit_code == 1
    assert "0 new, 1 worse, 0 gone" in came.output


def test_200_damaged_files_are_each_one_clear_error_or_fine(
    document: Document, tmp_path: Path
) -> None:
    good = "".join(f"{line}\n" for line in document.lines())
    rng, refused, path = np.random.default_rng(0), [], tmp_path / "bad.jsonl"
    junk = ["", "\x00", '"', "[", "{", ":", "\n", "é", "0", "null", "-", "NaN", "}", "1e999"]
    for _ in range(200):
        held = list(good)
        for place in rng.integers(len(held), size=4):
            held[place] = str(rng.choice(junk))
        path.write_text("".join(held), encoding="utf-8")
        try:
            merge([read(path)])
        except UsageError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not any("\n" in line for line in refused)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no report of ffverify"),
        ("{}\n", "no report of ffverify"),
        ("[1]\n", "no report of ffverify"),
        ('{"record": "run", "schema": "ffverify", "version": 99}\n', "of version 99"),
        ('{"record": "run", "schema": "ffverify", "version": 1}\n{"record": "x"}\n', "line 2"),
        ("{}\nnot json\n", "line 2 is no JSON"),
    ],
)
def test_what_is_no_report_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UsageError, match=says):
        read(tmp_path / "a.jsonl")


def test_a_gradient_check_has_its_error_drawn_in_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    wrong = gradcheck(np.tanh, np.array([0.5]), vjp=lambda v, x: (v,), raise_exception=False)
    figure = figure_of(wrong)
    assert np.nanmax(figure.axes[0].lines[0].get_ydata()) > 1e12
    assert figure_of(gradcheck(np.tanh, np.array([0.5]))) is None
    document = Document(
        run_record("gradcheck"), [Entry(result_of(wrong), "gradcheck")], figures={"tanh": figure}
    )
    html.write(document, tmp_path / "out.html")
    page = _Page()
    page.feed((tmp_path / "out.html").read_text(encoding="utf-8"))
    (image,) = [a["src"] for tag, a in page.tags if tag == "img"]
    assert str(image).startswith("data:image/svg+xml;base64,")


def test_a_function_whose_gradient_is_wrong_is_one_cause_at_any_input(tmp_path: Path) -> None:
    def checked(at: float) -> Entry:
        wrong = gradcheck(np.tanh, np.array([at]), vjp=lambda v, x: (v,), raise_exception=False)
        return Entry(result_of(wrong), "gradcheck")

    came = _since(tmp_path, [checked(0.5)], [checked(0.25)])
    assert "0 new, 0 worse, 0 gone" in came.output
    assert came.exit_code == 0
