"""Standard output as it is: a terminal, a pipe that is closed early, a disk that is full."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence

import click
from rich.console import Console

_IN_ASCII = {
    "∂": "d", "⟨": "<", "⟩": ">", "½": "1/2", "·": "*", "×": "x", "…": "...", "–": "-", "−": "-", "≤": "<=",
    "≥": ">=", "≠": "!=", "√": "sqrt", "∞": "inf", "→": "->", "±": "+/-", "§": "section ", "²": "^2",
    "³": "^3", "∈": " in ", "∇": "grad ", "Σ": "sum", "∥": "||", "✓": "ok", "✗": "x",
    "ᵀ": "^T", "’": "'", "π": "pi",
}  # fmt: skip


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Give what a terminal can show in the place of what it cannot."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    shown = "".join(_IN_ASCII.get(c) or _spelled(c) for c in text)
    return shown, error.end


def _spelled(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    name = unicodedata.name(letter, "?").lower()
    return plain or (name.rsplit(" ", 1)[-1] if name.startswith("greek") else "?")


def speak_ascii() -> None:
    """Let what a terminal without UTF-8 cannot show be spelled in ASCII."""
    codecs.register_error("ffverify.ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ffverify.ascii")


def say(text: str) -> None:
    """Print a line as the terminal can show it: click by itself writes UTF-8 where ASCII is asked for."""
    click.echo(text, file=sys.stdout)


def wide_console() -> Console:
    """Give a console that is wide enough for the matrix where no terminal sets a width."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=120)


def leave_stdout() -> None:
    """Let what is still to be written to standard output go nowhere, at the end of Python as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_and_exit(code: int, tell: Callable[[], None], problems: Sequence[str] = ()) -> None:
    """Print, and exit with a code; a reader who has left (``| head -1``) changes nothing of it.

    ``problems`` are files that could not be written: then the code is not 0.
    """
    try:
        tell()
        sys.stdout.flush()
    except BrokenPipeError:
        leave_stdout()
    except OSError as error:
        leave_stdout()
        click.echo(f"ffverify: the report could not be printed: {error.strerror}", err=True)
        code = code or 1
    for problem in problems:
        click.echo(f"ffverify: {problem}", err=True)
        code = code or 1
    sys.exit(code)
