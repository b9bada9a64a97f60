"""Reports for people: the matrix claim × backend, the findings by their cause, and one line that sums up."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from ffverify.conformance.claim import Claim, Result
from ffverify.conformance.mutants import Kill
from ffverify.conformance.verification import Report
from ffverify.truth.textbook import CATALOGUE

from .reports.causes import Cause, causes

BOUND = (
    "Where a number is compared with the exact one t, it may err by g·u·|t|, plus as far as t moves "
    "when every input moves by g·u relative, plus g of the smallest subnormals: u is the unit "
    "roundoff of the format, and g is 8 (four library calls of an ulp each) plus the length of the "
    "longest reduction. ffverify/truth/differences.py has the derivation. Statements without a number "
    "to compare (equal bits, an order, a count, a proof in balls) have no room at all, or the one "
    "stated there."
)

# status → (mark, style)
_MARKS = {
    "holds": ("✓", "green"),
    "fails": ("✗", "bold red"),
    "inconclusive": ("?", "yellow"),
    "lost": ("lost", "bold red"),
    "not provided": ("–", "dim"),
    "not available": ("n/a", "dim"),
}


_MEASURED = 3  # claims whose measurements are printed unless they are asked for


def matrices(report: Report, claims: list[Claim]) -> Iterator[Table]:
    """Give tables claim × (backend, dtype): mark, and the worst error within its bound in per cent of that.

    Claims that are about other formats than most have a table of their own; what no backend provides is
    left out.
    """
    rows: dict[str, list[Result]] = {}
    for result in report.results:
        rows.setdefault(result.claim, []).append(result)
    shown = [c for c in claims if any(r.status != "not provided" for r in rows.get(c.id, []))]
    for formats in dict.fromkeys(c.formats for c in shown):
        alike = [c for c in shown if c.formats == formats]
        columns = list(dict.fromkeys((r.backend, r.dtype) for c in alike for r in rows[c.id]))
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("§", no_wrap=True)
        table.add_column("claim", overflow="fold")
        for backend, dtype in columns:
            table.add_column(f"{backend}\n{dtype}", justify="right", no_wrap=True)
        for claim in alike:
            cells = {(r.backend, r.dtype): r for r in rows[claim.id]}
            table.add_row(claim.section, claim.id, *(_cell(cells.get(c)) for c in columns))
        yield table


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    mark, style = _MARKS[result.status]
    known = "*" if result.known else ""
    share = f" {100 * result.worst_share:3.0f}%" if result.worst_share else "     "
    share = share if result.status == "holds" else ""
    missing = f" –{len(result.missing)}" if result.missing else ""
    return f"[{style}]{mark}{known}{share}[/{style}]{missing}"


def print_report(
    report: Report, claims: list[Claim], console: Console, *, known: bool = False
) -> None:
    """Print matrix, findings, warnings, unexpected passes and summary.

    ``known``: known failures and what claims measured stand there in full.
    """
    for table in matrices(report, claims):
        console.print(table)
    if any(r.status == "holds" for r in report.results):
        console.print("✓ 35%: the worst error is 35 % of what is allowed", highlight=False)
    if any(r.missing for r in report.results):
        line = "–3: three of the claim's functions are not provided, the others were tried"
        console.print(line, highlight=False)
    found = causes(report.results)
    for cause in (c for c in found if c.severity == "error" and not c.known):
        _print_cause(cause, console)
    _print_lines("warnings", (c for c in found if c.severity != "error" and not c.known), console)
    if known:
        for cause in (c for c in found if c.known):
            _print_cause(cause, console)
    else:
        title = "✗* known failures (in full: --known)"
        _print_lines(title, (c for c in found if c.known), console)
    measured = dict.fromkeys(r.claim for r in report.results if r.measured)
    if known or len(measured) <= _MEASURED:
        _print_notes("measured", ((r, r.measured) for r in report.results), console)
    else:
        one = next(iter(measured))
        line = f"\n[yellow]measured[/yellow] by {len(measured)} claims: `ffverify explain {one}`, …"
        console.print(line, highlight=False)
    for status in ("inconclusive", "lost"):
        _print_notes(status, ((r, _reason(r, status)) for r in report.results), console)
    missing = ((r, ", ".join(r.missing)) for r in report.results)
    _print_notes("not provided, beside what was tried", missing, console)
    mended = "known_defects.toml says that it fails, and no input failed: "
    _print_notes(
        "unexpected pass",
        ((r, mended + ", ".join(r.mended)) for r in report.results if r.mended),
        console,
    )
    for line in report.stale:
        console.print(f"[red]out of date[/red] {escape(line)}", highlight=False, soft_wrap=True)
    for name, reason in report.unjudged.items():
        line = f"[red]nothing could be judged[/red] on {name}: {escape(reason)}"
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"\n{summary(report)}", highlight=False)


def _print_cause(cause: Cause, console: Console) -> None:
    style = "bold red" if cause.severity == "error" else "yellow"
    where = f"{cause.backend} {', '.join(cause.dtypes)}"
    title = f"[{style}]{cause.worst.kind}[/{style}] {escape(cause.what)} · {where}"
    console.print(f"\n{title}", highlight=False)
    console.print(f"  {cause.worst}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"  in {', '.join(cause.claims)}", style="dim", highlight=False, soft_wrap=True)
    for reason in cause.known:
        console.print(f"  known: {escape(reason)}", highlight=False, soft_wrap=True)


def _print_lines(title: str, found: Iterable[Cause], console: Console) -> None:
    """Print causes, a line each, as wide as the console."""
    lines = [
        f"  {c.what} · {c.backend} {', '.join(c.dtypes)}: "
        + (f"{', '.join(c.degrees)}: " if c.known and c.degrees else "")
        + (c.known[0] if c.known else f"{c.worst.kind}: {c.worst.where}")
        for c in found
    ]
    if lines:
        console.print(f"\n[yellow]{title}[/yellow]", highlight=False)
    for line in lines:
        console.print(line, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")


def _reason(result: Result, status: str) -> str:
    return result.reason if result.status == status else ""


def _print_notes(title: str, notes: Iterable[tuple[Result, str]], console: Console) -> None:
    """Print notes on results under a title, each once for all the columns that it holds for."""
    columns: dict[tuple[str, str], list[str]] = {}
    for r, note in notes:
        if note:
            columns.setdefault((r.claim, note), []).append(f"{r.backend} {r.dtype}")
    if columns:
        console.print(f"\n[yellow]{title}[/yellow]", highlight=False)
    for (claim, note), where in columns.items():
        line = f"  {claim} · {', '.join(where)}: {note}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def summary(report: Report) -> str:
    """Give the line that says how it went."""
    count = {status: sum(r.status == status for r in report.results) for status in _MARKS}
    known = sum(r.known for r in report.results)
    failed = f"{count['fails'] - known} failed" + (f" ({known} more are known to)" if known else "")
    parts = [f"{count['holds']} held", failed]
    parts += [f"{count[s]} {s}" for s in _MARKS if s not in ("holds", "fails") and count[s]]
    note = "Interrupted: this is what was done so far. " if report.interrupted else ""
    return f"{note}{len(report.results)} checks: {', '.join(parts)}."


def print_kills(kills: list[Kill], console: Console) -> bool:
    """Print the kill matrix; give whether every claim rejects all its bugs and none survives."""
    table = Table(title="Planted bugs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("claim", "bug", "changes", "rejected by", "examples"):
        table.add_column(
            heading, overflow="fold", justify="right" if heading == "examples" else "left"
        )
    survivors = 0
    for bug, meetings in _by_bug(kills).items():
        own = next(k for k in meetings if k.own)
        survivors += not own.killed
        others = [k.claim for k in meetings if k.killed and not k.own]
        mark = "[green]✓[/green]" if own.killed else "[bold red]survives[/bold red]"
        also = f" and {len(others)} other claims" if others else ""
        table.add_row(bug[0], escape(bug[2]), bug[1], f"{mark}{also}", str(own.examples))
    console.print(table)
    killed = len(_by_bug(kills)) - survivors
    console.print(
        f"{killed} of {len(_by_bug(kills))} planted bugs are rejected by their claim.",
        highlight=False,
    )
    return survivors == 0


def _by_bug(kills: list[Kill]) -> dict[tuple[str, str, str], list[Kill]]:
    grouped: dict[tuple[str, str, str], list[Kill]] = {}
    for kill in kills:
        grouped.setdefault((kill.bug_of, kill.function, kill.sentence), []).append(kill)
    return grouped


def print_explanation(claim: Claim, report: Report, console: Console) -> None:
    """Print what a claim says, how it is checked, what it must reject, and how backends fare."""
    console.print(
        f"[bold]{claim.id}[/bold]  (section {claim.section})\n{escape(claim.sentence)}",
        highlight=False,
    )
    formulas = [CATALOGUE[name] for name in claim.functions if name in CATALOGUE]
    if formulas:
        console.print("\n[bold]Definitions[/bold], run in ball arithmetic")
        for formula in formulas:
            _print_code(formula.function, console)
            low, high = formula.domain
            kinks = f", kinks at {', '.join(map(str, formula.kinks))}" if formula.kinks else ""
            console.print(f"    on ({low}, {high}){kinks}", style="dim", highlight=False)
    else:
        console.print(
            "\n[bold]Definitions[/bold]\n  None of the catalogue: the check states its own."
        )
    console.print("\n[bold]Domain[/bold]")
    for name, draw in claim.inputs.items():
        says = (inspect.getdoc(draw) or "").partition("\n")[0].removeprefix("Draw ")
        console.print(f"  {name}: {escape(says)}", highlight=False)
    drawn = "Nothing is drawn"
    if set(claim.inputs) - {claim.each}:
        drawn = f"{claim.examples} examples {'of each ' if claim.each else ''}by default"
    console.print(f"  {drawn}; formats as asked for.", highlight=False)
    console.print("\n[bold]Check[/bold]")
    _print_code(claim.property, console)
    console.print(f"\n[bold]Bound[/bold]\n{BOUND}", highlight=False)
    console.print("\n[bold]Must reject[/bold]")
    for bug in claim.bugs:
        console.print(f"  {bug.function}: {escape(bug.sentence)}", highlight=False)
    for picture in claim.pictures:
        told = f"\n[bold]Picture[/bold] (--plot FILE)\n  {escape(picture.title)}"
        console.print(told, highlight=False)
    console.print("\n[bold]Results[/bold]")
    print_report(report, [claim], console, known=True)
    absent = ((r, _reason(r, "not provided")) for r in report.results)
    _print_notes("not provided", absent, console)


def _print_code(function: Callable[..., Any], console: Console) -> None:
    source = inspect.getsource(function).rstrip()
    console.print(Syntax(source, "python", background_color="default", word_wrap=True))
