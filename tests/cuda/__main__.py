"""Check torch on a GPU: ``python -m tests.cuda`` (from the checkout); ``--dry`` tries it all on the CPU.

The most telling parts come first; each has a share of the time, and what it leaves goes to the next ones.
Every row is in OUT/results.jsonl as soon as it is known: a run that is cut off has said what it found.

Exit codes: 0 every job came to an end, 1 some did not or missed a planted error, 2 a wrong word in the call.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from . import atomics, claims, exhaustive, faults, gradchecks, network, products
from .jobs import BROKEN, Job, Row, Setting, crew, run
from .machine import machine
from .table import table

# What is run in this order, and its share of the time.
PARTS: dict[str, tuple[Callable[[Setting], list[Job]], float]] = {
    "claims": (claims.jobs, 0.3),
    "gradchecks": (gradchecks.jobs, 0.25),
    "matrix products": (products.jobs, 0.05),
    "atomics": (atomics.jobs, 0.05),
    "network": (network.jobs, 0.1),
    "exhaustive": (exhaustive.jobs, 0.2),
    "faults": (faults.jobs, 0.05),
}


@click.command(help=str(__doc__).split("\n", 1)[0], context_settings={"show_default": True})
@click.option(
    "--out",
    default="cuda-results",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder of the results",
)
@click.option("--minutes", default=8.0, type=click.FloatRange(min=0.1), help="for everything")
@click.option("--device", default="cuda", help="torch's name of the device")
@click.option("--dry", is_flag=True, help="all parts on the CPU, at a small size")
@click.option(
    "--part", "chosen", multiple=True, type=click.Choice(list(PARTS)), help="only these; repeatable"
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="processes; by default one a core, 12 at most, 1 in a dry run",
)
def main(
    out: Path, minutes: float, device: str, dry: bool, chosen: tuple[str, ...], workers: int | None
) -> None:  # fmt: skip
    """Run the parts, write rows as they come, then the table; print a line for each part."""
    ends = time.monotonic() + 60 * minutes
    setting = Setting("cpu" if dry else device, small=dry)
    count = workers or (1 if dry else min(12, os.cpu_count() or 1))
    shares = {n: s for n, (_, s) in PARTS.items() if not chosen or n in chosen}
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with (out / "results.jsonl").open("w", encoding="utf-8") as file, crew(setting, count) as hands:

        def kept(part: str, jobs: list[Job], deadline: float) -> list[Row]:
            began = len(rows)
            for row in run(jobs, hands, deadline):
                rows.append({"part": part, **row})
                file.write(json.dumps(_plain(rows[-1])) + "\n")
                file.flush()
            return rows[began:]

        said = kept("machine", [Job("machine", machine)], ends)[-1]
        if said["outcome"] != "noted":
            raise click.UsageError(f"device {setting.device!r} cannot be used: {said['reason']}")
        click.echo(said["reason"])
        unspent = sum(shares.values())
        for name, share in shares.items():
            began = time.monotonic()
            jobs = PARTS[name][0](setting)
            found = kept(name, jobs, began + (ends - began) * share / unspent)
            unspent -= share
            counts = Counter(r["outcome"] for r in found).most_common()
            outcomes = ", ".join(f"{n} {outcome}" for outcome, n in counts)
            click.echo(f"{name}: {len(jobs)} jobs, {outcomes}; {time.monotonic() - began:.0f} s")
    (out / "table.md").write_text(table(rows, setting.devices), encoding="utf-8")
    click.echo(
        f"{out / 'results.jsonl'}, {out / 'table.md'}: {ends - time.monotonic():.0f} s were left"
    )
    sys.exit(any(r["outcome"] in BROKEN for r in rows))


def _plain(row: Row) -> Row:
    """Give a row that JSON can hold: what is not a finite number is a word."""
    return json.loads(json.dumps(row, default=str), parse_constant=str)  # type: ignore[no-any-return]  # a dict


if __name__ == "__main__":
    main()
