"""Options that several commands have, each declared once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .reports.files import Files


class Whole(click.IntRange):
    """An integer in plain digits: Python's own takes those of every script, spaces and underscores."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Give it as an int."""
        if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value):
            self.fail(f"{value!r:.60} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


class Seconds(click.FloatRange):
    """A finite number in plain digits."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Give it as a float."""
        if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", value):
            self.fail(f"{value!r:.60} is not a number of seconds.", param, ctx)
        return super().convert(value, param, ctx)


SEED = click.option(
    "--seed", type=Whole(0), default=0, show_default=True, metavar="N",
    help="Same seed, same inputs, same findings.",
)  # fmt: skip
SPECS = click.option(
    "--spec", "specs", multiple=True, metavar="PATTERN",
    help="Claims: names with * and ?, or a section; repeatable. All by default.",
)  # fmt: skip
WORKERS = click.option(
    "--workers", type=Whole(0), default=None, metavar="N",
    help="Worker processes, one per core by default; 0 runs everything in this one.",
)  # fmt: skip


def _path(flag: str, name: str, says: str) -> Callable[[Any], Any]:
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(flag, name, type=kind, metavar="FILE", help=says)


def files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for what it writes, and their values as its argument ``files``."""

    @functools.wraps(command)
    def with_files(
        *args: Any,
        json_path: Path | None,
        jsonl: Path | None,
        junit: Path | None,
        page: Path | None,
        **options: Any,
    ) -> Any:
        return command(*args, files=Files(json_path, jsonl, junit, page), **options)

    made: Callable[..., Any] = with_files
    for add in (
        _path("--json", "json_path", "Write the whole report as JSON."),
        _path("--jsonl", "jsonl", "Write the report as JSON Lines, each check when it is done."),
        _path("--junit", "junit", "Write the report as JUnit XML."),
        _path("--report", "page", "Write the report as a page for a browser."),
    ):
        made = add(made)
    return made
