"""Options that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path

import click

SEED = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N",
    help="Same seed, same inputs, same findings.",
)  # fmt: skip
SPECS = click.option(
    "--spec", "specs", multiple=True, metavar="PATTERN",
    help="Claims: names with * and ?, or a section; repeatable. All by default.",
)  # fmt: skip
WORKERS = click.option(
    "--workers", type=click.IntRange(min=0), default=None, metavar="N",
    help="Worker processes, one per core by default; 0 runs everything in this one.",
)  # fmt: skip
JSON = click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the whole report as JSON.",
)  # fmt: skip
