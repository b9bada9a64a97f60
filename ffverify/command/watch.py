"""``ffverify watch -- pytest …``: run a test suite, and check the custom derivatives that it runs.

Exit codes: those of pytest, and 1 where a derivative is wrong.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from . import options
from .reports.files import Files


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument(
    "words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- pytest [WORD]..."
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="NAME",
    help="Watch torch modules of this name too (* and ? stand for anything); repeatable.",
)
@click.option(
    "--but",
    multiple=True,
    metavar="NAME",
    help="Leave functions of this name alone, as straight-through estimators; repeatable.",
)
@click.option(
    "--search",
    type=options.Whole(0),
    default=0,
    metavar="N",
    help="Inputs to draw around those that there were.",
)
@click.option(
    "--seconds",
    type=options.Whole(1),
    default=60,
    show_default=True,
    metavar="N",
    help="How long the checks may take in all.",
)
@options.SEED
@options.files
def watch(
    words: tuple[str, ...],
    modules: tuple[str, ...],
    but: tuple[str, ...],
    search: int,
    seconds: int,
    seed: int,
    files: Files,
) -> None:
    """Run pytest, and check every custom derivative that it runs, at the inputs it had.

    Seen are torch.autograd.Function, custom operators of torch.library, jax.custom_vjp and custom_jvp, and
    torch modules of given names. The tests themselves run as before.
    """  # fmt: skip
    rest = _of_pytest(words)
    flags = ["--ffverify-watch", f"--ffverify-watch-search={search}", f"--ffverify-seed={seed}"]
    flags += [f"--ffverify-watch-seconds={seconds}"]
    flags += [f"--ffverify-watch-module={name}" for name in modules]
    flags += [f"--ffverify-watch-but={name}" for name in but]
    flags += [f"--ffverify-{kind}={Path(path)}" for kind, path in vars(files).items() if path]
    command = [sys.executable, "-m", "pytest", *flags, *rest]
    sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - what the user asks for


def _of_pytest(words: tuple[str, ...]) -> tuple[str, ...]:
    """Give the words after ``pytest`` or ``python -m pytest``."""
    if Path(words[0]).name in ("pytest", "py.test"):
        return words[1:]
    if Path(words[0]).name.startswith("python") and words[1:3] == ("-m", "pytest"):
        return words[3:]
    raise click.UsageError(
        f"{words[0]!r} is not watched: write ffverify watch -- pytest, then its words"
    )
