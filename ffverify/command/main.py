"""The command line: ``ffverify verify | gradcheck | specs | explain | mutants | replay``.

Exit codes: 0 everything holds, 1 findings, 2 a word of the call is wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ffverify.conformance import pictures as plots
from ffverify.conformance.backends import DEFAULT_BACKENDS, DEFAULT_DTYPES, load
from ffverify.conformance.claim import Result, claims
from ffverify.conformance.claim import replay as replay_claim
from ffverify.conformance.mutants import kill_matrix
from ffverify.conformance.replay import parse
from ffverify.conformance.verification import UnknownClaimError, select
from ffverify.conformance.verification import verify as run_verification
from ffverify.conformance.workers import heeding_interrupts
from ffverify.errors import UsageError
from ffverify.exact.formats import FORMATS
from ffverify.files import refuse_unwritable
from ffverify.frameworks.framework import is_installed

from . import options
from .gradcheck import gradcheck
from .report import print_explanation, print_kills, print_report

INTERRUPTED = 130


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn a wrong word of the user's into one line and exit code 2."""
    try:
        yield
    except UsageError as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    click.echo(f"ffverify: {message}", err=True)
    sys.exit(2)


def main() -> NoReturn:
    """Run the command line; a wrong word of the call is one line and exit code 2."""
    try:
        with heeding_interrupts():
            sys.exit(commands.main(standalone_mode=False))
    except click.ClickException as error:
        _refuse(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ffverify")
def commands() -> None:
    """Verify feedforward networks and their derivatives against high-precision truth."""


@commands.command()
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help="reference, torch, torch:DEVICE, jax, or a module; repeatable. "
    "By default reference, and torch where it is installed.",
)
@options.SPECS
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(sorted(FORMATS)),
    help="Formats to run in; repeatable. float64 and float32 by default.",
)
@click.option(
    "--max-examples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Inputs per claim, in place of each claim's own number.",
)
@options.SEED
@options.WORKERS
@options.JSON
def verify(
    backends: tuple[str, ...],
    specs: tuple[str, ...],
    dtypes: tuple[str, ...],
    max_examples: int | None,
    seed: int,
    workers: int | None,
    json_path: Path | None,
) -> None:
    """Run the chapter's claims on backends and print a matrix and every finding."""
    names = backends or _installed()
    console = _console()
    with _usage_errors():
        if json_path is not None:
            refuse_unwritable(json_path)
        chosen = select(specs)
        total = len(chosen) * len(dict.fromkeys(names)) * len(dtypes or DEFAULT_DTYPES)
        with _progress(total) as advance:
            report = run_verification(
                names,
                specs,
                dtypes=dtypes or DEFAULT_DTYPES,
                max_examples=max_examples,
                seed=seed,
                workers=_workers(workers),
                on_result=advance,
            )
    print_report(report, chosen, console)
    for name in DEFAULT_BACKENDS:
        if not backends and name not in names:
            line = f"{name} is not installed and was left out: pip install 'ffverify[{name}]'"
            console.print(line, markup=False, highlight=False)
    if json_path is not None:
        report.write_json(json_path)
    sys.exit(INTERRUPTED if report.interrupted else 0 if report.ok else 1)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("starting", total=total)

        def advance(result: Result) -> None:
            progress.update(task, advance=1, description=f"{result.claim} · {result.backend}")

        yield advance


@commands.command()
@options.SPECS
@click.option("--everywhere", is_flag=True, help="Try every claim that uses the changed function.")
@options.SEED
@options.WORKERS
def mutants(specs: tuple[str, ...], *, everywhere: bool, seed: int, workers: int | None) -> None:
    """Plant every bug and print which claims reject it; one that survives is an error."""
    with _usage_errors():
        kills = kill_matrix(specs, everywhere=everywhere, seed=seed, workers=_workers(workers))
        idle = [c.id for c in select(specs) if not c.bugs]
    console = Console()
    clean = print_kills(kills, console)
    for claim_id in idle:
        console.print(f"{claim_id} declares no bug: it rejects nothing.", highlight=False)
    sys.exit(0 if clean and not idle else 1)


@commands.command()
@click.argument("claim_id", metavar="CLAIM")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="As in verify.")
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw its picture (.png, .svg or .pdf) as the first backend computes it.",
)
def explain(claim_id: str, backends: tuple[str, ...], picture: Path | None) -> None:
    """Say what a claim means, how it is checked, what it rejects, and how backends fare."""
    names = backends or _installed()
    with _usage_errors():
        (claim, *others) = select([claim_id])
        if others:
            both = f"{claim.id}, {others[0].id}"
            raise UnknownClaimError(f"{claim_id!r} names {len(others) + 1} claims ({both}, …)")
        if picture is not None:
            drawn_by = load(names[0])
            plots.write(claim.picture(drawn_by), drawn_by, picture)
        report = run_verification(names, claim.id)
    print_explanation(claim, report, _console())


def _console() -> Console:
    """Give a console that is wide enough for the matrix where no terminal sets a width."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=120)


def _workers(given: int | None) -> int:
    return os.cpu_count() or 1 if given is None else given


def _installed() -> tuple[str, ...]:
    return tuple(n for n in DEFAULT_BACKENDS if n == "reference" or is_installed(n))


commands.add_command(gradcheck)


@commands.command()
def specs() -> None:
    """List the claims by section."""
    console = Console()
    section = ""
    for claim in claims():
        if claim.section != section:
            section = claim.section
            console.print(f"\n[bold]{section}[/bold]", highlight=False)
        console.print(f"  {claim.id}", style="cyan", highlight=False)
        console.print(f"      {claim.sentence}", highlight=False, markup=False)


@commands.command()
@click.argument("token")
def replay(token: str) -> None:
    """Try a claim again on the one input of a finding."""
    with _usage_errors():
        claim_id, backend, dtype, inputs = parse(token)
        if claim_id not in {c.id for c in claims()}:
            raise UnknownClaimError(
                f"this version has no claim {claim_id!r}: `ffverify specs` lists them"
            )
        findings = replay_claim(claim_id, load(backend), dtype, inputs)
    if not findings:
        click.echo(f"{claim_id} holds on {backend} {dtype} at this input.")
    for finding in findings:
        click.echo(str(finding))
    sys.exit(1 if findings else 0)
