"""Standard output as it is: a terminal, a pipe that is closed early, a disk that is full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click
from rich.console import Console


def wide_console() -> Console:
    """Give a console that is wide enough for the matrix where no terminal sets a width."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=120)


def leave_stdout() -> None:
    """Let what is still to be written to standard output go nowhere, at the end of Python as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_and_exit(code: int, tell: Callable[[], None]) -> None:
    """Print, and exit with a code; a reader who has left (``| head -1``) changes nothing of it."""
    try:
        tell()
        sys.stdout.flush()
    except BrokenPipeError:
        leave_stdout()
    except OSError as error:
        leave_stdout()
        click.echo(f"ffverify: the report could not be printed: {error.strerror}", err=True)
        code = code or 1
    sys.exit(code)
