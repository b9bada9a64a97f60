"""``ffverify verify``: the chapter's claims on backends, as a matrix and findings.

Exit codes: 0 everything holds but for known failures, 1 findings, or nothing could be judged, 2 a word of
the call is wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click

from ffverify.conformance.backends import DEFAULT_BACKENDS, unused
from ffverify.conformance.verification import select
from ffverify.conformance.verification import verify as run_verification
from ffverify.exact.formats import FORMATS
from ffverify.files import refuse_unwritable
from ffverify.frameworks.framework import is_installed

from . import options
from .printing import print_and_exit, wide_console
from .progress import progress
from .report import print_report

INTERRUPTED = 130


class Shard(click.ParamType[tuple[int, int]]):
    """``i/n``: the i-th of n parts."""

    name = "shard"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Read it."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r} is no part: write i/n with i from 1 to n, as in 2/4", param, ctx)
        return int(found[1]), int(found[2])


@click.command()
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
@click.option(
    "--known",
    multiple=True,
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Failures that you know of, declared in a TOML file; repeatable. "
    "Without a file: show known failures in full.",
)
@click.option("--fail-on-known", is_flag=True, help="Exit with 1 for known failures too.")
@click.option(
    "--shard", type=Shard(), default=(1, 1), metavar="I/N", help="Run the I-th of N parts only."
)
@options.JSON
def verify(
    backends: tuple[str, ...],
    specs: tuple[str, ...],
    dtypes: tuple[str, ...],
    max_examples: int | None,
    seed: int,
    workers: int | None,
    known: tuple[str, ...],
    fail_on_known: bool,
    shard: tuple[int, int],
    json_path: Path | None,
) -> None:
    """Run the chapter's claims on backends and print a matrix and every finding."""
    names = tuple(dict.fromkeys(backends)) or installed()
    if json_path is not None:
        refuse_unwritable(json_path)
    chosen = select(specs)
    total = sum(len(c.dtypes(dtypes)) for c in chosen) * len(names)
    with progress(len(range(shard[0] - 1, total, shard[1]))) as advance:
        report = run_verification(
            names,
            specs,
            dtypes=dtypes,
            max_examples=max_examples,
            seed=seed,
            workers=workers_or_all(workers),
            known=[file for file in known if file],
            shard=shard,
            on_result=lambda r: advance(f"{r.claim} · {r.backend}"),
        )
    if json_path is not None:
        report.write_json(json_path)

    def tell() -> None:
        console = wide_console()
        print_report(report, chosen, console, known="" in known)
        absent = [n for n in DEFAULT_BACKENDS if not backends and n not in names]
        notes = [
            f"{n} is not installed and was left out: pip install 'ffverify[{n}]'" for n in absent
        ]
        for name in names:
            left = unused(name).items()
            meant = [f"{n} (did you mean {near}?)" if near else n for n, near in left]
            notes += [f"not used of {name}: {', '.join(meant)}"] if meant else []
        for note in notes:
            console.print(note, markup=False, highlight=False, soft_wrap=True)

    failed = not report.ok or (fail_on_known and any(r.known for r in report.results))
    print_and_exit(INTERRUPTED if report.interrupted else int(failed), tell)


def workers_or_all(given: int | None) -> int:
    """Give a number of worker processes: by default as many as there are cores."""
    return os.cpu_count() or 1 if given is None else given


def installed() -> tuple[str, ...]:
    """Give the backends of a run that names none."""
    return tuple(n for n in DEFAULT_BACKENDS if n == "reference" or is_installed(n))
