"""Write down every verdict, and compare with another time: ``python -m tests.photograph OUT.json``.

A change of structure changes no verdict: photograph before and after, and look at every difference.

    python -m tests.photograph before.json            # all parts, two hours of one core or less
    python -m tests.photograph after.json --part 'corpus *' --against before.json

A part is a corpus, the sweep of one framework in one format, or the claims on one backend; each is
written to the file when it is complete, beside the parts that the file has already.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import click

CORPUS_EXAMPLES, SWEEP_EXAMPLES = 12, 2
BACKENDS = ("reference", "torch", "jax")

Photograph = dict[
    str, dict[str, list[list[str]]]
]  # part: entry: kind, severity and place of findings


@cache
def parts() -> dict[str, int]:
    """Give the parts, with the number of entries in each."""
    from ffverify import claims

    from .corpus import CORPORA
    from .corpus.sweep import DTYPES, FRAMEWORKS, functions

    counts = {f"corpus {name}": 2 * len(rows) for name, rows in CORPORA.items()}
    for framework, dtype in itertools.product(FRAMEWORKS, DTYPES):
        counts[f"sweep {framework} {dtype}"] = len(functions(framework, dtype))
    return counts | {f"verify {backend}": len(claims()) for backend in BACKENDS}


def entry(part: str, index: int) -> tuple[str, str, list[list[str]]]:
    """Give one entry of a part: part, name, and what was found."""
    warnings.simplefilter("ignore")  # of foreign code about float32 and the like
    kind, *rest = part.split()
    name, found = {"corpus": _corpus, "sweep": _sweep, "verify": _verify}[kind](*rest, index)
    return part, name, found


def _corpus(corpus: str, index: int) -> tuple[str, list[list[str]]]:
    from .corpus import CORPORA

    row = CORPORA[corpus][index // 2]
    case = (row.buggy, row.twin)[index % 2]
    name = f"{row.name} {('buggy', 'twin')[index % 2]}"
    return name, _found(
        case.fn,
        row.drawn(),
        vjp=case.vjp,
        jvp=case.jvp,
        max_examples=CORPUS_EXAMPLES,
        **row.options,
    )


def _sweep(framework: str, dtype: str, index: int) -> tuple[str, list[list[str]]]:
    function = _functions(framework, dtype)[index]
    drawn = [i.strategy(framework) for i in function.inputs]
    return f"{index} {function.name}", _found(function.call, drawn, max_examples=SWEEP_EXAMPLES)


@cache
def _functions(framework: str, dtype: str) -> list[Any]:
    from .corpus.sweep import functions

    return functions(framework, dtype)


def _found(fn: Any, inputs: Any, **options: Any) -> list[list[str]]:
    import ffverify

    try:
        report = ffverify.gradcheck(fn, inputs, raise_exception=False, **options)
    except Exception as error:  # noqa: BLE001 - a traceback of ours is in the picture too
        return [["exception", type(error).__name__, str(error)]]
    places = [[str(f.kind), f.severity, f"{f.mode} {f.where}".strip()] for f in report.findings]
    skipped = [["skipped", mode, ""] for mode in sorted(report.skipped)]
    return [[str(report.verdict), "ok" if report.ok else "not ok", report.truth], *places, *skipped]


def _verify(backend: str, index: int) -> tuple[str, list[list[str]]]:
    import ffverify

    claim = ffverify.claims()[index]
    results = ffverify.verify(backend, claim.id).results
    return claim.id, [
        found
        for r in results
        for found in (
            [r.status, r.dtype, r.reason],
            *([str(f.kind), f.severity, f.where] for f in r.findings),
        )
    ]


def differences(old: Photograph, new: Photograph) -> Iterator[str]:
    """Give what differs in the parts that both have, an entry each."""
    for part in old.keys() & new.keys():
        for name in old[part].keys() | new[part].keys():
            before, after = (p[part].get(name) for p in (old, new))
            if before != after:
                yield f"{part}: {name}\n  - {before}\n  + {after}"


@click.command(help=str(__doc__).split("\n", 1)[0])
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--part", "patterns", multiple=True, help="parts by name, * and ? stand for anything")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="print differences")
@click.option("--workers", default=os.cpu_count(), show_default=True, type=click.IntRange(min=1))
def main(out: Path, patterns: tuple[str, ...], against: Path | None, workers: int) -> None:
    """Photograph the parts that are asked for, and compare."""
    wanted = patterns or ("*",)
    chosen = {
        part: n for part, n in parts().items() if any(fnmatch.fnmatch(part, w) for w in wanted)
    }
    if not chosen:
        raise click.UsageError(f"no part matches {wanted}: there are {', '.join(parts())}")
    taken: Photograph = json.loads(out.read_text()) if out.exists() else {}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")  # a forked copy of torch's threads deadlocks
    for part, count in chosen.items():
        began = time.perf_counter()
        with ProcessPoolExecutor(
            workers, mp_context=spawn
        ) as pool:  # anew: JAX keeps what it compiled
            found = list(pool.map(entry, [part] * count, range(count)))
        taken[part] = {name: what for _, name, what in found}
        out.write_text(json.dumps(taken, indent=0, sort_keys=True) + "\n")
        click.echo(f"{part}: {count} entries, {time.perf_counter() - began:.0f} s", err=True)
    if against is not None:
        lines = sorted(differences(json.loads(against.read_text()), {p: taken[p] for p in chosen}))
        click.echo("\n".join([*lines, f"{len(lines)} differences"]))


if __name__ == "__main__":
    main()
