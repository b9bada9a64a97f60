"""The files that a run was asked to leave: ``--json``, ``--jsonl``, ``--junit``, ``--report``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ffverify.errors import UsageError
from ffverify.files import refuse_unwritable, write_json

from . import html, junit
from .records import Document, Entry, Stream, check_record


@dataclass
class Files:
    """Where a run is written to, each None where it was not asked for."""

    json: Path | None = None
    jsonl: Path | None = None
    junit: Path | None = None
    report: Path | None = None

    def begin(self, document: Document) -> None:
        """Refuse what cannot be written, before any work is done; begin the JSON Lines.

        Raises
        ------
        UsageError
            As said.
        """
        for path in (self.json, self.jsonl, self.junit, self.report):
            if path is not None:
                refuse_unwritable(path)
        self._stream = None if self.jsonl is None else Stream(self.jsonl, document.run)

    def add(self, entry: Entry) -> None:
        """Write a check down at once."""
        if self._stream is not None:
            self._stream.add(check_record(entry))

    def finish(self, document: Document, whole: Any = None, *, drawn: bool = True) -> list[str]:
        """Write everything; give what could not be written, and why.

        ``whole`` is what `--json` has, ``drawn`` whether the page has pictures.
        """
        problems = []
        for path, write in (
            (self.jsonl, self._finish_lines),
            (self.json, lambda _, path: write_json(path, whole)),
            (self.junit, junit.write),
            (self.report, partial(html.write, drawn=drawn)),
        ):
            if path is not None:
                try:
                    write(document, path)
                except (UsageError, OSError) as error:
                    problems.append(str(error))
        return problems

    def _finish_lines(self, document: Document, path: Path) -> None:
        if self._stream is not None:
            self._stream.add(document.end_record())
            self._stream.close()
        document.write(path)
