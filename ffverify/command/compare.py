"""``ffverify report *.jsonl``: put the parts of a run together, and compare it with an earlier one.

Exit codes: 0 everything holds (or nothing is new since the earlier run), 1 it does not, 2 a word of the call
is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ffverify.conformance.claim import claims
from ffverify.conformance.verification import Report

from . import options
from .printing import print_and_exit, wide_console
from .report import print_report
from .reports.causes import Cause, causes
from .reports.files import Files
from .reports.records import Document, merge, read

_WORSE = 4.0  # an error that grew by less is another input's, or another library's last bits


@click.command()
@click.argument(
    "parts", nargs=-1, required=True, metavar="FILE.jsonl...", type=click.Path(path_type=Path)
)
@click.option(
    "--since",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="An earlier run (its parts: repeatable): say what is new, gone and worse since.",
)
@options.files
def report(parts: tuple[Path, ...], since: tuple[Path, ...], files: Files) -> None:
    """Merge the parts of a run into one report; with --since, compare it with an earlier run."""
    now = merge([read(f) for f in parts])
    earlier = merge([read(f) for f in since]) if since else None
    files.begin(now)
    results = [e.result for e in now.entries]
    told = Report(results, interrupted=now.interrupted)
    problems = files.finish(now, told.to_dict())
    changes = [] if earlier is None else _changes(earlier, now)
    new = any(kind in ("new", "worse") for kind, _ in changes)

    def tell() -> None:
        console = wide_console()
        ids = {e.result.claim for e in now.entries}
        print_report(told, [c for c in claims() if c.id in ids], console)
        for note in now.notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        if earlier is not None:
            _print_changes(changes, console)

    print_and_exit(int(new if earlier is not None else not now.ok), tell, problems)


def _changes(before: Document, now: Document) -> list[tuple[str, Cause]]:
    """Give what is new, gone and worse, by backend and part."""
    old, new = (_errors(d) for d in (before, now))
    tried = {e.key[1:] for e in now.entries if e.result.status in ("holds", "fails")}
    made = [("new", c) for key, c in new.items() if key not in old]
    made += [("worse", c) for key, c in new.items() if key in old and _grew(old[key], c)]
    made += [
        ("gone", c)
        for key, c in old.items()
        if key not in new and any((r.claim, r.backend, r.dtype) in tried for r, _ in c.found)
    ]
    return made


def _errors(document: Document) -> dict[tuple[str, str], Cause]:
    found = causes(e.result for e in document.entries)
    return {(c.backend, c.what): c for c in found if c.severity == "error" and not c.known}


def _grew(before: Cause, now: Cause) -> bool:
    wider = set(now.dtypes) - set(before.dtypes)
    return bool(wider) or now.worst.error_ulps > _WORSE * before.worst.error_ulps


def _print_changes(changes: list[tuple[str, Cause]], console: Console) -> None:
    styles = {"new": "bold red", "worse": "red", "gone": "green"}
    for kind, cause in changes:
        line: Any = f"{cause.what} · {cause.backend} {', '.join(cause.dtypes)}: {cause.worst.where}"
        console.print(f"[{styles[kind]}]{kind}[/{styles[kind]}] ", end="")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    count = {kind: sum(k == kind for k, _ in changes) for kind in styles}
    said = ", ".join(f"{n} {kind}" for kind, n in count.items())
    console.print(f"Since the earlier run: {said}.", highlight=False)
