"""JUnit XML, as CI services read it: a suite per backend, a case per claim and dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ffverify.files import write_whole

from .records import Document, Entry


def write(document: Document, path: Path) -> None:
    """Write a run as JUnit XML."""
    import junitparser

    xml: Any = junitparser.JUnitXml("ffverify")
    suites: dict[str, Any] = {}
    for entry in document.entries:
        backend = entry.result.backend
        if backend not in suites:
            suites[backend] = junitparser.TestSuite(_legal(backend))
            for key in ("ffverify", "python", "platform", "date", "seed"):
                suites[backend].add_property(key, _legal(str(document.run.get(key, ""))))
        suites[backend].add_testcase(_case(entry))
    for suite in suites.values():
        suite.update_statistics()
        xml.add_testsuite(suite)
    xml.update_statistics()
    write_whole(path, xml.tostring())


def _case(entry: Entry) -> Any:
    import junitparser

    result = entry.result
    group = f".{entry.section}" if entry.section else ""
    case = junitparser.TestCase(
        _legal(f"{result.claim}[{result.dtype}]"),
        _legal(f"ffverify.{entry.tool}.{result.backend}{group}"),
        round(result.seconds, 3),
    )
    if result.missing:
        case.system_out = _legal(f"not provided: {', '.join(result.missing)}")
    outcome = _outcome(entry)
    if outcome is not None:
        outcome.text = _legal("\n\n".join(str(f) for f in result.findings))
        case.result = [outcome]
    return case


def _outcome(entry: Entry) -> Any:
    import junitparser

    result = entry.result
    if result.status == "lost":
        return junitparser.Error(_legal(result.reason), "lost")
    if entry.failed:
        new = next((f for f in result.findings if not f.known), None)
        first = str(new).splitlines()[0] if new else result.reason
        return junitparser.Failure(_legal(first), str(new.kind) if new else "inconclusive")
    if result.known:
        return junitparser.Skipped(_legal(f"known: {result.findings[0].known}"), "known")
    if result.status in ("not provided", "not available"):
        return junitparser.Skipped(_legal(f"{result.status}: {result.reason}"), result.status)
    return None


def _legal(text: str) -> str:
    """Put ? for what XML cannot hold, as control characters."""
    return "".join(
        c
        if c in "\t\n\r"
        or 0x20 <= ord(c) <= 0xD7FF
        or 0xE000 <= ord(c) <= 0xFFFD
        or ord(c) > 0xFFFF
        else "?"
        for c in text
    )
