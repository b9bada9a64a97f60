"""The command line: ``ffverify verify | gradcheck | watch | report | specs | explain | replay`` and more.

Exit codes: 0 everything holds, 1 findings, 2 a word of the call is wrong, 130 interrupted.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from ffverify.conformance import pictures as plots
from ffverify.conformance.backends import is_known, load
from ffverify.conformance.claim import claims
from ffverify.conformance.claim import replay as replay_claim
from ffverify.conformance.draws import unfit
from ffverify.conformance.mutants import kill_matrix
from ffverify.conformance.replay import parse
from ffverify.conformance.user_module import ALIASES
from ffverify.conformance.verification import UnknownClaimError, select
from ffverify.conformance.verification import verify as run_verification
from ffverify.conformance.workers import heeding_interrupts
from ffverify.errors import UsageError
from ffverify.truth.textbook import CATALOGUE

from . import options, settings
from .compare import report
from .gradcheck import gradcheck
from .printing import leave_stdout, speak_ascii, wide_console
from .report import print_explanation, print_kills
from .verify import INTERRUPTED, installed, verify, workers_or_all
from .watch import watch


def main() -> NoReturn:
    """Run the command line; a wrong word of the call is one line and exit code 2."""
    speak_ascii()
    # As `python -m` does, for as long as the user's modules run: they lie where the command is given.
    sys.path.insert(0, "")
    try:
        with heeding_interrupts():
            sys.exit(commands.main(standalone_mode=False))
    except click.ClickException as error:
        _refuse(error.format_message())
    except UsageError as error:
        _refuse(str(error))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # nobody reads on
        leave_stdout()
        sys.exit(1)


def _refuse(message: str) -> NoReturn:
    click.echo(f"ffverify: {' '.join(message.split())}", err=True)  # one line, whatever it quotes
    sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="ffverify")
@click.pass_context
def commands(context: click.Context) -> None:
    """Verify feedforward networks and their derivatives against high-precision truth."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    elif context.invoked_subcommand == "verify":
        context.default_map = {"verify": settings.of_project(Path.cwd())}


@commands.command()
@options.SPECS
@click.option("--everywhere", is_flag=True, help="Try every claim that uses the changed function.")
@options.SEED
@options.WORKERS
def mutants(specs: tuple[str, ...], *, everywhere: bool, seed: int, workers: int | None) -> None:
    """Plant every bug and print which claims reject it; one that survives is an error."""
    kills = kill_matrix(specs, everywhere=everywhere, seed=seed, workers=workers_or_all(workers))
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
    names = backends or installed()
    (claim, *others) = select([claim_id])
    if others:
        both = f"{claim.id}, {others[0].id}"
        raise UnknownClaimError(f"{claim_id!r} names {len(others) + 1} claims ({both}, …)")
    if picture is not None:
        drawn_by = load(names[0])
        plots.write(claim.picture(drawn_by), drawn_by, picture)
    print_explanation(claim, run_verification(names, claim.id), wide_console())


commands.add_command(gradcheck)
commands.add_command(verify)
commands.add_command(report)
commands.add_command(watch)


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
def catalogue() -> None:
    """List the functions that a backend may provide, with their arguments and other names."""
    others: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        others.setdefault(name, []).append(alias)
    for name, formula in CATALOGUE.items():
        given = ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in inspect.signature(formula.function).parameters.values()
        )
        also = f"  also {', '.join(others[name])}" if name in others else ""
        click.echo(
            f"{f'{name}({given})':44} {formula.signature:26} §{formula.section}{also}".rstrip()
        )


@commands.command()
@click.argument("token")
@click.option(
    "--backend",
    "named",
    metavar="NAME",
    help="The token's module, which a token does not import itself; or another backend to try.",
)
def replay(token: str, named: str | None) -> None:
    """Try a claim again on the one input of a finding."""
    claim_id, own, dtype, inputs = parse(token)
    claim = {c.id: c for c in claims()}.get(claim_id)
    if claim is None:
        raise UnknownClaimError(
            f"this version has no claim {claim_id!r:.60}: `ffverify specs` lists them"
        )
    if named is None and not is_known(own):
        raise UsageError(
            f"the token is of a module, {own!r:.60}: say --backend with its name to import it"
        )
    backend = load(own if named is None else named)
    if amiss := unfit(claim.inputs, backend.format(dtype), inputs):
        raise UsageError(f"the token is no input of {claim_id}: {amiss}")
    if lacking := claim.missing(backend, inputs):
        raise UsageError(f"{backend.name} cannot try {claim_id}: it has no {', '.join(lacking)}")
    findings = replay_claim(claim_id, backend, dtype, inputs)
    if not findings:
        click.echo(f"{claim_id} holds on {backend.name} {dtype} at this input.")
    for finding in findings:
        click.echo(str(finding))
    sys.exit(1 if findings else 0)
