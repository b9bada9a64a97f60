"""JSON Lines: what a run found, one check a line, in a form that is documented and has a version.

Every line is an object with a ``record``:

``run``, first: ``schema`` (``"ffverify"``), ``version`` (of this form: 1), ``tool`` (``verify``,
``gradcheck``, ``watch`` or ``pytest``), ``ffverify`` and ``packages`` (versions), ``python``, ``platform``,
``date`` (ISO 8601, UTC), ``seed``, ``shard`` (``"2/4"``).

``check``, one per claim (or function), backend and dtype, as they come: ``tool``, ``section``, ``name``,
``title`` (the claim's sentence), ``backend``, ``dtype``, ``status`` (``holds``, ``fails``, ``inconclusive``,
``not provided``, ``not available`` or ``lost``), ``known`` (it fails, as declared), ``worst_ulps`` (the
largest error in ulps), ``worst_share`` (the largest error within its bound, as a share of the bound),
``examples``, ``seconds``, ``measured``, ``reason``, ``missing`` (functions that the backend lacks of a claim
that was tried on the others), ``mended`` (known failures that did not show), and ``findings``, each with
``kind``, ``severity``, ``part`` (what fails, whatever the input), ``where``, ``computed``, ``exact``,
``error_ulps``, ``allowed_ulps``, ``dtype``, ``mode``, ``index``, ``reason``, ``hint``, ``tail``, ``strict``,
``known`` (why it is) and ``replay``.

``end``, last: ``ok``, ``interrupted``, ``notes`` (what was never run, known failures that are out of date).
Without it the run was cut off.

The same version may come to have more keys, and what reads it takes them as they come. Numbers that are not
finite are the texts ``"inf"``, ``"-inf"`` and ``"nan"``, since JSON has none.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from ffverify.conformance.claim import Result, claims
from ffverify.errors import UsageError
from ffverify.exact.formats import FORMATS
from ffverify.files import plain, write_whole
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

VERSION = 1
STATUSES = ("holds", "fails", "inconclusive", "not provided", "not available", "lost")
_PACKAGES = ("numpy", "torch", "jax", "python-flint", "mpmath", "hypothesis")
_RESULT = [f.name for f in fields(Result) if f.name not in ("claim", "findings")]
_FINDING = [f.name for f in fields(Finding)]


@dataclass(frozen=True)
class Entry:
    """One check: what was tried, and what came of it."""

    result: Result
    tool: str = "verify"
    section: str = ""
    title: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same check in another run."""
        return self.tool, self.result.claim, self.result.backend, self.result.dtype

    @property
    def failed(self) -> bool:
        """Whether it is a failure that nobody knew of."""
        status = self.result.status
        if self.tool == "watch":  # that a function cannot be judged is no failure of who watches it
            return status == "fails"
        return status in ("inconclusive", "lost") or (status == "fails" and not self.result.known)


@dataclass
class Document:
    """A run, or several merged: its circumstances, its checks, and how it ended."""

    run: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    ended: bool = False
    ok: bool = True
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(
        default_factory=dict, compare=False
    )  # by function, for the page

    def end(self, *, ok: bool, interrupted: bool = False, notes: Iterable[str] = ()) -> None:
        """Say how it ended."""
        self.ended, self.ok, self.interrupted = True, ok, interrupted
        self.notes += notes

    def lines(self) -> list[str]:
        """Give it as JSON Lines."""
        made = [_line(self.run), *(_line(check_record(e)) for e in self.entries)]
        return [*made, _line(self.end_record())] if self.ended else made

    def end_record(self) -> dict[str, Any]:
        """Give the last line as plain data."""
        return {
            "record": "end",
            "ok": self.ok,
            "interrupted": self.interrupted,
            "notes": self.notes,
        }

    def write(self, path: Path) -> None:
        """Write it as JSON Lines, in order; a pipe or device has had its lines already."""
        if path.is_file():
            write_whole(path, "".join(f"{line}\n" for line in self.lines()).encode())


def run_record(tool: str, *, seed: int = 0, shard: str = "1/1") -> dict[str, Any]:
    """Give the first line of a run as plain data."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "record": "run",
        "schema": "ffverify",
        "version": VERSION,
        "tool": tool,
        "ffverify": importlib.metadata.version("ffverify"),
        "packages": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "shard": shard,
    }


def check_record(entry: Entry) -> dict[str, Any]:
    """Give the line of a check as plain data."""
    result = entry.result
    return {
        "record": "check",
        "tool": entry.tool,
        "section": entry.section,
        "name": result.claim,
        "title": entry.title,
        **{name: getattr(result, name) for name in _RESULT},
        "known": result.known,
        "findings": [
            {"severity": f.severity, **{n: getattr(f, n) for n in _FINDING}, "kind": str(f.kind)}
            for f in result.findings
        ],
    }


def _line(record: dict[str, Any]) -> str:
    return json.dumps(plain(record), allow_nan=False, ensure_ascii=False)


class Stream:
    """A JSON Lines file that has every check as soon as it is done, whatever happens later."""

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        try:
            self._file: TextIO = path.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        self.add(run)

    def add(self, record: dict[str, Any]) -> None:
        """Write a line."""
        self._file.write(f"{_line(record)}\n")
        self._file.flush()

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def read(path: Path) -> Document:
    """Read a JSON Lines file; one that breaks off in its last line is one that was cut off.

    Raises
    ------
    UsageError
        If it is not such a file, or of a version that is not known here.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UsageError(f"cannot read {path}: {why}") from error
    whole = text.endswith("\n")
    lines = text.split("\n")
    records: list[tuple[int, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not whole and records:
                break
            raise UsageError(f"{path}, line {number} is no JSON: {error}") from error
        records.append((number, record))
    if not records or not _is_header(records[0][1]):
        raise UsageError(f"{path} is no report of ffverify: write one with --jsonl FILE")
    version = records[0][1].get("version")
    if version != VERSION:
        raise UsageError(f"{path} is of version {version!r}: this ffverify reads version {VERSION}")
    document = Document(records[0][1])
    for number, record in records[1:]:
        try:
            _add(document, record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UsageError(f"{path}, line {number} is no record of ffverify ({what})") from error
    return document


def _is_header(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and record.get("schema") == "ffverify"
        and record.get("record") == "run"
    )


def _add(document: Document, record: dict[str, Any]) -> None:
    kind = record["record"]
    if kind == "check":
        document.entries.append(entry_of(record))
    elif kind == "end":
        notes = [_text(n) for n in record["notes"]]
        document.end(ok=bool(record["ok"]), interrupted=bool(record["interrupted"]), notes=notes)
    elif kind != "run":
        raise ValueError(f"record {kind!r}")


def entry_of(record: dict[str, Any]) -> Entry:
    """Give the check that a record is of; what raises is no such record."""
    if record["status"] not in STATUSES:
        raise ValueError(f"status {record['status']!r}")
    findings = tuple(_finding(f) for f in record["findings"])
    held = _held(Result, _RESULT, record)
    result = Result(claim=_text(record["name"]), findings=findings, **held)
    texts = (_text(record[name]) for name in ("tool", "section", "title"))
    return Entry(result, *texts)


def _finding(record: dict[str, Any]) -> Finding:
    if record["dtype"] not in FORMATS:
        raise ValueError(f"dtype {record['dtype']!r}")
    held = _held(Finding, [name for name in _FINDING if name != "kind"], record)
    return Finding(kind=Verdict(record["kind"]), **held)


def _held(kind: type, names: Sequence[str], record: dict[str, Any]) -> dict[str, Any]:
    """Give fields of a record; one that came later, and has a default, may be missing."""
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    return {n: _typed(kind, n, record[n]) for n in names if n in record or n in needed}


def _typed(kind: type, name: str, value: Any) -> Any:
    declared = kind.__annotations__[name]
    if declared == "str":
        return _text(value)
    if declared == "float":
        return float(value)
    if declared == "int":
        return int(value)
    if declared == "bool":
        return bool(value)
    return tuple(_text(v) if declared == "tuple[str, ...]" else int(v) for v in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def merge(documents: Sequence[Document]) -> Document:
    """Make one run of several parts, a check of a later one in place of the same of an earlier."""
    runs = [d.run for d in documents]
    shared = {k: v for k, v in runs[0].items() if all(r.get(k) == v for r in runs)}
    whole = Document(
        {**runs[0], **shared, "shard": "1/1" if len(runs) > 1 else runs[0].get("shard")}
    )
    found: dict[Any, Entry] = {}
    for document in documents:
        found |= {e.key: e for e in document.entries}
    whole.entries = in_order(found.values())
    notes = dict.fromkeys(n for d in documents for n in d.notes)
    by_backend: dict[str, bool] = {}  # whether anything could be judged on it
    for r in (e.result for e in whole.entries if e.tool == "verify"):
        judged = r.status not in ("not provided", "not available")
        by_backend[r.backend] = by_backend.get(r.backend, False) or judged
    notes |= dict.fromkeys(
        f"nothing could be judged on {name}" for name, judged in by_backend.items() if not judged
    )
    whole.end(
        ok=all(d.ok and d.ended for d in documents)
        and not any(e.failed for e in whole.entries)
        and all(by_backend.values()),
        interrupted=any(d.interrupted or not d.ended for d in documents),
        notes=notes,
    )
    return whole


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """Give checks in book order, then by backend and format: the same for any number of parts."""
    claim_ids = {c.id: place for place, c in enumerate(claims())}
    formats = list(FORMATS)
    return sorted(
        entries,
        key=lambda e: (
            claim_ids.get(e.result.claim, len(claim_ids)),
            e.result.claim,
            e.result.backend,
            formats.index(e.result.dtype) if e.result.dtype in formats else 0,
        ),
    )
