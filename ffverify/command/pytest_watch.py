"""What a pytest session tells of the functions that it watched, and the reports that it writes.

Under pytest-xdist every worker checks what it has seen, and the controller puts it together.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ffverify.conformance.claim import Result
from ffverify.conformance.verification import find_claim
from ffverify.errors import UsageError
from ffverify.gradients.report import GradcheckReport
from ffverify.gradients.report import listeners as gradchecks
from ffverify.gradients.watching.checking import Checked, check
from ffverify.gradients.watching.recording import Watch

from .pytest_plugin import setting
from .pytest_specs import listeners as specs
from .reports.checked import figure_of, result_of
from .reports.files import Files
from .reports.records import Document, Entry, check_record, entry_of, run_record

_WATCH = pytest.StashKey[Watch]()
_WORST = ("fails", "inconclusive", "holds", "not available")


def begin(config: pytest.Config) -> None:
    """Begin to watch; `Reporter` ends it."""
    watch = Watch(modules=setting(config, "watch-module", []), but=setting(config, "watch-but", []))
    config.stash[_WATCH] = watch
    config.add_cleanup(watch.end)
    watch.begin()


class Reporter:
    """The part of the plugin that is there when something is watched, or a report is asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        for name, least in (("watch-search", 0), ("watch-seconds", 1), ("seed", 0)):
            given = setting(config, name)
            if given is not None and given < least:
                says = f"ffverify: --ffverify-{name} is {given}: give {least} or more"
                raise pytest.UsageError(says)
        self._watch: Watch | None = config.stash.get(_WATCH, None)
        self._worker = hasattr(config, "workerinput")
        self._document = Document(run_record("pytest", seed=setting(config, "seed", 0)))
        self._never: set[str] | None = None
        self._unmatched: set[str] | None = None
        self._told: dict[str, float] = {"recording": 0.0, "checking": 0.0, "session": 0.0}
        self._lost = 0
        self._began = time.perf_counter()
        paths = {n: setting(config, n) for n in ("json", "jsonl", "junit", "report")}
        self._files = Files(**{n: None if p is None else Path(p) for n, p in paths.items()})
        self._checked: list[Entry] = []  # since the last test
        gradchecks.append(self._gradchecked)
        specs.append(self._tried)
        config.add_cleanup(self._hear_no_more)
        if not self._worker:
            try:
                self._files.begin(self._document)
            except UsageError as error:
                raise pytest.UsageError(f"ffverify: {error}") from error

    # -- claims and gradient checks -------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report of a test carry what its specs and gradient checks found."""
        report = yield
        if call.when == "call":
            found = []
            for entry in self._checked:
                if entry.tool == "verify":
                    found.append(entry)
                elif not (entry.failed and report.passed):  # then the test wants it to fail
                    named = f"{entry.result.claim} in {report.nodeid}"
                    found.append(replace(entry, result=replace(entry.result, claim=named)))
            self._checked.clear()
            if found:
                vars(report)["ffverify"] = [check_record(entry) for entry in found]
        return report

    def _gradchecked(self, report: GradcheckReport) -> None:
        self._checked.append(Entry(result_of(report), "gradcheck"))

    def _tried(self, result: Result) -> None:
        claim = find_claim(result.claim)
        self._checked.append(Entry(result, "verify", claim.section, claim.sentence))

    def _hear_no_more(self) -> None:
        if self._gradchecked in gradchecks:
            gradchecks.remove(self._gradchecked)
            specs.remove(self._tried)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what it carries, here or from a worker."""
        if not self._worker:
            for record in getattr(report, "ffverify", []):
                self._take(entry_of(record))

    def _take(self, entry: Entry) -> None:
        self._document.entries.append(entry)
        self._files.add(entry)

    # -- watched functions ----------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Check what was seen; in a worker, send it on; otherwise write the reports."""
        self._hear_no_more()
        ran_here = not self._config.pluginmanager.hasplugin("dsession")  # pytest-xdist's controller
        stopped = (
            session.exitstatus == pytest.ExitCode.INTERRUPTED or self._config.option.collectonly
        )
        if self._watch is not None and ran_here and not stopped:
            self._check(self._watch)
        if self._worker:
            output = self._config.workeroutput  # type: ignore[attr-defined]  # of pytest-xdist
            output["ffverify"] = {
                "checked": [check_record(e) for e in self._document.entries if e.tool == "watch"],
                "never": sorted(self._never or ()),
                "unmatched": sorted(self._unmatched or ()),
                "told": self._told,
            }
            return
        watched = [e for e in self._document.entries if e.tool == "watch"]
        others = [e for e in self._document.entries if e.tool != "watch"]
        self._document.entries = [*others, *_worst_of(watched)]
        failed = any(e.result.status == "fails" for e in watched)
        notes = [f"never ran: {name}" for name in sorted(self._never or ())]
        notes += sorted(self._unmatched or ())
        if self._lost:
            notes.append(f"{self._lost} workers ended before they could check what they had seen")
        ok = session.exitstatus == 0 and not failed
        self._document.end(ok=ok, interrupted=session.exitstatus == 2, notes=notes)
        records = [check_record(e) for e in self._document.entries]
        self._document.notes += self._files.finish(self._document, records)
        if failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _check(self, watch: Watch) -> None:
        watch.end()
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and watch.seen:
            terminal.ensure_newline()
            terminal.write_line(f"ffverify checks {len(watch.seen)} custom derivatives")
        began = time.perf_counter()
        checked = check(
            watch,
            seconds=setting(self._config, "watch-seconds", 60),
            search=setting(self._config, "watch-search", 0),
            seed=setting(self._config, "seed", 0),
        )
        self._told = {
            "recording": watch.seconds,
            "checking": time.perf_counter() - began,
            "session": began - self._began,
        }
        for one in checked:
            entry = Entry(_result(one), "watch", "", one.custom.kind)
            if self._files.report is not None and one.report is not None and not self._worker:
                self._document.figures[one.custom.name] = figure_of(one.report)
            if self._worker:
                self._document.entries.append(entry)
            else:
                self._take(entry)
        self._never = {f"{name} ({kind})" for kind, name in watch.never_ran()}
        there = {"but": "no function that was defined or ran", "module": "no module that ran"}
        self._unmatched = {
            f"--ffverify-watch-{to} {pattern}: {there[to]} has such a name"
            for to, pattern in watch.unmatched()
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker of pytest-xdist has checked."""
        del error
        sent = getattr(node, "workeroutput", {}).get("ffverify")
        if sent is None:
            self._lost += self._watch is not None
            return
        for record in sent["checked"]:
            self._take(entry_of(record))
        if self._watch is not None:
            never, unmatched = set(sent["never"]), set(sent["unmatched"])
            self._never = never if self._never is None else self._never & never
            self._unmatched = unmatched if self._unmatched is None else self._unmatched & unmatched
        for name, seconds in sent["told"].items():
            self._told[name] += seconds

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which derivatives were checked, which are wrong, and which never ran."""
        if self._watch is None or self._config.option.collectonly:
            return
        watched = [e.result for e in self._document.entries if e.tool == "watch"]
        write = terminalreporter
        write.section("ffverify: custom derivatives that the tests ran")
        marks = {"fails": "wrong", "holds": "right", "inconclusive": "undecided"}
        for result in sorted(watched, key=lambda r: (_WORST.index(r.status), r.claim)):
            said = marks.get(result.status, "not checked")
            style = {"fails": {"red": True, "bold": True}, "holds": {"green": True}}
            write.write(f"{said:12}", **style.get(result.status, {"yellow": True}))
            counted = f", {result.examples} inputs" if result.examples else ""
            reason = f": {result.reason}" if result.reason else ""
            write.line(f"{result.claim} ({result.backend} {result.dtype}{counted}){reason}")
            for finding in result.findings:
                if finding.severity == "error" and result.status == "fails":
                    write.line("    " + str(finding).replace("\n", "\n    "))
        for note in self._document.notes:
            write.line(note, yellow=True)
        count = {s: sum(r.status == s for r in watched) for s in _WORST}
        told = self._told
        write.line(
            f"{count['holds']} right, {count['fails']} wrong, {count['inconclusive']} undecided, "
            f"{count['not available']} not checked, {len(self._never or ())} never ran; recording took "
            f"{told['recording']:.2f} s of {told['session']:.2f} s, checking {told['checking']:.2f} s"
        )


def _worst_of(entries: list[Entry]) -> list[Entry]:
    """Give one entry per function and format: several workers may have seen the same."""
    found: dict[Any, Entry] = {}
    for entry in sorted(entries, key=lambda e: _WORST.index(e.result.status)):
        kept = found.setdefault(entry.key, entry)
        if kept is not entry:
            more = kept.result.examples + entry.result.examples
            found[entry.key] = replace(kept, result=replace(kept.result, examples=more))
    return [found[key] for key in sorted(found)]


def _result(checked: Checked) -> Result:
    """Give what came of a watched function as a result."""
    name, backend, dtype = checked.custom.name, checked.custom.framework, checked.dtype
    note = [checked.left_out] if checked.left_out else []
    if checked.report is None:
        return Result(name, backend, dtype, "not available", reason="; ".join(note))
    note += ["all calls were traced: inputs were drawn"] if checked.drawn else []
    result = result_of(checked.report)
    said = "; ".join([*([result.reason] if result.reason else []), *note])
    return replace(
        result, claim=name, backend=backend, dtype=dtype, examples=checked.points, reason=said
    )
