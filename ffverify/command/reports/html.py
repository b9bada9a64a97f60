"""A page for a browser: one file that needs nothing else, with the matrix, the findings and the pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffverify.conformance import pictures
from ffverify.conformance.backends import load
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claims
from ffverify.conformance.known_defects import function_of
from ffverify.errors import UsageError
from ffverify.files import write_whole
from ffverify.frameworks.framework import is_installed
from ffverify.truth import derivatives as truth
from ffverify.truth.textbook import CATALOGUE
from ffverify.verdicts.verdict import judge

from .causes import Cause, causes
from .records import Document, Entry

_POINTS = 81


@dataclass(frozen=True)
class _Row:
    """A row of the matrix: a claim (or function), and its cells by column."""

    section: str
    name: str
    title: str
    cells: dict[tuple[str, str], Entry]

    @property
    def statuses(self) -> str:
        return " ".join(sorted({status(e) for e in self.cells.values()}))


def write(document: Document, path: Path, *, drawn: bool = True) -> None:
    """Write a run as a page; ``drawn`` with the errors around findings, and the chapter's pictures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ffverify.command.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = causes(e.result for e in document.entries)
    shown = drawn and is_installed("matplotlib")
    page = environment.get_template("report.html").render(
        document=document,
        groups=_groups(document.entries),
        causes=[(c, _image(_figure(document, c)) if shown else "") for c in found],
        pictures=_pictures(document.entries) if shown else [],
        measured=_measured(document.entries),
        undrawn=drawn and not shown,
        counts=_counts(document.entries),
        backends=_distinct(e.result.backend for e in document.entries),
        sections=_distinct(e.section for e in document.entries if e.section),
        status=status,
        anchors={
            (e.result.claim, e.result.backend, e.result.dtype): f"cause-{number}"
            for number, cause in reversed(list(enumerate(found, 1)))
            for e in document.entries
            if any(e.result is r for r, _ in cause.found)
        },
    )
    write_whole(path, page.encode())


def status(entry: Entry) -> str:
    """Give what a cell shows: a status, or ``known``."""
    return "known" if entry.result.known else entry.result.status


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(values))


def _counts(entries: Sequence[Entry]) -> dict[str, int]:
    order = ("fails", "lost", "inconclusive", "known", "holds", "not provided", "not available")
    held = {s: sum(status(e) == s for e in entries) for s in order}
    return {s: n for s, n in held.items() if n}


def _measured(entries: Sequence[Entry]) -> dict[str, dict[str, list[str]]]:
    """Give what claims measured, each once with the columns that it holds for."""
    found: dict[str, dict[str, list[str]]] = {}
    for r in (e.result for e in entries if e.result.measured):
        columns = found.setdefault(r.claim, {}).setdefault(r.measured, [])
        columns.append(f"{r.backend} {r.dtype}")
    return found


def _groups(entries: Sequence[Entry]) -> list[tuple[list[tuple[str, str]], list[_Row]]]:
    """Give tables, each with its columns and rows: claims about the same backends and formats share one."""
    rows: dict[tuple[str, str], _Row] = {}
    for e in entries:
        row = rows.setdefault(
            (e.tool, e.result.claim), _Row(e.section, e.result.claim, e.title, {})
        )
        row.cells[e.result.backend, e.result.dtype] = e
    shown = [r for r in rows.values() if r.statuses != "not provided"]
    tables: dict[frozenset[str], list[_Row]] = {}
    for row in shown:
        tables.setdefault(frozenset(d for _, d in row.cells), []).append(row)
    return [
        (list(dict.fromkeys(c for row in held for c in row.cells)), held)
        for held in tables.values()
    ]


def _figure(document: Document, cause: Cause) -> Any:
    return document.figures.get(cause.found[0][0].claim) or around(cause)


def around(cause: Cause) -> Any:
    """Draw the error of an elementwise function around the input of a finding, or give None."""
    found, result = cause.worst, cause.found[0][0]
    function = function_of(found.part)
    at = re.search(r"\(([-+.\de]+)\)", found.where)
    if function not in CATALOGUE or CATALOGUE[function].signature != "()->()" or at is None:
        return None
    degree = found.part.removeprefix(function)
    if degree not in ("", "' reverse"):
        return None
    from matplotlib.figure import Figure

    try:
        backend = load(result.backend)
        fmt = backend.format(found.dtype)
        low, high = CATALOGUE[function].domain
        x0 = float(at[1])
        reach = max(abs(x0) / 4, 1.0)
        with np.errstate(over="ignore"):
            x = (x0 + np.linspace(-reach, reach, _POINTS)).astype(fmt.carrier)
        x = x[np.isfinite(x) & (x > low) & (x < high)]

        def program(f: Any, z: Any) -> Any:
            return getattr(f, function)(z)

        exact_program, one = CATALOGUE[function].function, np.ones_like(x)
        with np.errstate(all="ignore"):
            if degree:
                (computed,) = backend.vjp(program, [x], one, fmt.name, wrt=[0])
                exact = truth.gradient(exact_program, [x], one, 0, fmt, core=(0,))
            else:
                computed = backend.value(program, [x], fmt.name)
                exact = truth.value(exact_program, [x], fmt, core=(0,))
            told = judge(computed, exact, fmt)
    except Exception:  # noqa: BLE001 - the user's code may raise anything; there is a report without it
        return None
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.add_subplot()
    error = np.where(np.isfinite(told.error_ulps), told.error_ulps, np.nan)
    axes.plot(x, np.maximum(error, 2.0**-4), marker=".", label="error")
    axes.plot(x, np.maximum(told.allowed_ulps, 2.0**-4), "--", color="gray", label="allowed")
    axes.axvline(x0, color="#c33", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("input")
    axes.set_ylabel(f"ulps of {fmt.name}")
    axes.legend(fontsize=8)
    return figure


def _pictures(entries: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    """Give the pictures of the claims that ran, as their first backend computes them."""
    first: dict[str, str] = {}
    for e in entries:
        if e.tool == "verify" and e.result.status in ("holds", "fails"):
            first.setdefault(e.result.claim, e.result.backend)
    made = []
    for claim in claims():
        if claim.id not in first or not claim.pictures:
            continue
        try:
            backend = load(first[claim.id])
            picture = claim.picture(backend)
            image = _image(pictures.draw(picture, Check(backend, backend.format("float64"))))
        except UsageError:
            continue
        made.append((claim.id, picture.title, backend.name, image))
    return made


def _image(figure: Any) -> str:
    """Give a figure as an address that holds it."""
    if figure is None:
        return ""
    held = io.BytesIO()
    with np.errstate(all="ignore"):  # margins around the largest numbers
        figure.savefig(held, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(held.getvalue()).decode()}"
