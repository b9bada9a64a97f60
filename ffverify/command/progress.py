"""How far a run is: a bar on a terminal, a plain line now and then where nobody sees one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

INTERVAL = 15.0  # seconds between plain lines

Advance = Callable[[str], None]


@contextmanager
def progress(total: int, unit: str = "checks") -> Iterator[Advance]:
    """Give a function to be called with a name whenever one more is done; it tells on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plainly(total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda name: bar.update(task, advance=1, description=name)


def _plainly(total: int, unit: str) -> Advance:
    done, began = 0, time.monotonic()
    said = began

    def advance(name: str) -> None:
        nonlocal done, said
        done += 1
        now = time.monotonic()
        if now - said >= INTERVAL:
            said = now
            click.echo(f"{done} of {total} {unit} after {now - began:.0f} s: {name}", err=True)

    return advance
