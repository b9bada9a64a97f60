"""``ffverify verify``: the chapter's claims on backends, as a matrix and findings.

Exit codes: 0 everything holds but for known failures, 1 findings, or nothing could be judged, 2 a word of
the call is wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import re
from typing import Any

import click

from ffverify.conformance.backends import DEFAULT_BACKENDS, unused
from ffverify.conformance.claim import Result
from ffverify.conformance.verification import Report, select
from ffverify.conformance.verification import verify as run_verification
from ffverify.conformance.workers import undisturbed
from ffverify.exact.formats import FORMATS
from ffverify.frameworks.framework import is_installed

from . import options
from .printing import print_and_exit, wide_console
from .progress import progress
from .report import print_report
from .reports.files import Files
from .reports.records import Document, Entry, run_record

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
    type=options.Whole(1),
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
    "Without a file: show known failures, and what claims measured, in full.",
)
@click.option("--fail-on-known", is_flag=True, help="Exit with 1 for known failures too.")
@click.option(
    "--shard", type=Shard(), default=(1, 1), metavar="I/N", help="Run the I-th of N parts only."
)
@options.files
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
    files: Files,
) -> None:
    """Run the chapter's claims on backends and print a matrix and every finding."""
    names = tuple(dict.fromkeys(backends)) or installed()
    chosen = select(specs)
    document = Document(run_record("verify", seed=seed, shard="/".join(map(str, shard))))
    titles = {c.id: (c.section, c.sentence) for c in chosen}

    def entry(result: Result) -> Entry:
        return Entry(result, "verify", *titles[result.claim])

    came: list[Result] = []

    def done(result: Result) -> None:
        came.append(result)
        files.add(entry(result))
        advance(f"{result.claim} · {result.backend}")

    files.begin(document)
    total = sum(len(c.dtypes(dtypes)) for c in chosen) * len(names)
    with undisturbed() as heeded:
        try:
            with heeded(), progress(len(range(shard[0] - 1, total, shard[1]))) as advance:
                report = run_verification(
                    names,
                    specs,
                    dtypes=dtypes,
                    max_examples=max_examples,
                    seed=seed,
                    workers=workers_or_all(workers),
                    known=[file for file in known if file],
                    shard=shard,
                    on_result=done,
                )
        except KeyboardInterrupt:  # before the first result, or after the last
            report = Report(came, interrupted=True)
        failed = not report.ok or (fail_on_known and any(r.known for r in report.results))
        document.entries = [entry(r) for r in report.results]
        unjudged = [f"nothing could be judged on {n}: {why}" for n, why in report.unjudged.items()]
        document.end(
            ok=not failed, interrupted=report.interrupted, notes=[*unjudged, *report.stale]
        )
        problems = files.finish(document, report.to_dict(), drawn=not report.interrupted)

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

    print_and_exit(INTERRUPTED if report.interrupted else int(failed), tell, problems)


def workers_or_all(given: int | None) -> int:
    """Give a number of worker processes: by default as many as there are cores."""
    return os.cpu_count() or 1 if given is None else given


def installed() -> tuple[str, ...]:
    """Give the backends of a run that names none."""
    return tuple(n for n in DEFAULT_BACKENDS if n == "reference" or is_installed(n))
