"""Attack the command line and gradcheck: ``python -m tests.attack --calls 1000`` (from the checkout).

``python -m tests.attack --kills 10``: kill -9, SIGTERM and SIGHUP for verify and for its workers, at ten
random moments each, in place of the calls.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from . import kills, oddities
from .calls import calls, prepare, sample
from .run import complaints, complaints_of_gradcheck


@click.command(help=str(__doc__))
@click.option("--calls", "count", default=1000, show_default=True, help="of the command line")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="calls, or kills, that have this in their words")
@click.option("--kills", "moments", default=0, help="moments for each signal and target")
def main(count: int, seed: int, only: str, moments: int) -> None:
    """Make the calls; print what is amiss, and the sums."""
    if moments:
        sys.exit(_kill(moments, seed, only))
    amiss = tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for call in sample(count, seed):
            if only and only not in " ".join(call.words):
                continue
            tried += 1
            for what in complaints(call, folder):
                amiss += 1
                click.echo(f"{' '.join(map(repr, call.words))[:150]}\n    {what}")
        for f in oddities.functions() if not only else ():
            for x in oddities.inputs():
                tried += 1
                fn, given = oddities.functions()[f], oddities.inputs()[x]
                for what in complaints_of_gradcheck(fn, given, folder):
                    amiss += 1
                    click.echo(f"gradcheck({f}, {x})\n    {what}")
    click.echo(
        f"{tried} calls, {amiss} complaints; there are {len(list(calls()))} single wrong words"
    )
    sys.exit(bool(amiss))


def _kill(moments: int, seed: int, only: str) -> bool:
    """Kill runs; print what is amiss, and tell whether anything is."""
    amiss = tried = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = kills.undisturbed(kills.EVERYTHING, folder)
        for kill in kills.kills(moments, len(right), seed):
            if only not in str(kill):
                continue
            tried += 1
            for what in kills.complaints(kill, right, kills.command(kills.EVERYTHING), folder):
                amiss += 1
                click.echo(f"{kill}\n    {what}")
    click.echo(f"{tried} kills of runs of {len(right)} checks, {amiss} complaints")
    return bool(amiss)


if __name__ == "__main__":
    main()
