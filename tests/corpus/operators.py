"""Every differentiable entry of torch's operator database, at its own sample inputs.

``python -m tests.corpus.operators --to rows.jsonl`` (from the checkout) checks them all, forward and reverse,
and goes on where it was stopped; then it says what is wrong beside what is known to be (`DEFECTS`).
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click

from ffverify.gradients.gradcheck import gradcheck

from .catalogues import entries, of_sample
from .torch_defects import DEFECTS, VERSION, table

SAMPLES = 2  # of each entry and dtype
DTYPES = ("float64", "complex128")
_SECONDS = 120  # for one sample


class Case(NamedTuple):
    """An entry at one of its samples: a function of the tensors that need gradients, and these."""

    name: str
    call: Callable[..., Any]
    tensors: list[Any]


def cases(dtype: str, samples: int, only: str = "", *, every: int = 1) -> Iterator[Case]:
    """Give the entries at their samples, as torch's own gradient checks call them."""
    import torch

    for name, entry in islice(
        (e for e in entries(dtype) if re.search(only, e[0])), None, None, every
    ):
        torch.manual_seed(0)
        found = (
            (number, *of_sample(entry, sample))
            for number, sample in enumerate(
                entry.sample_inputs("cpu", getattr(torch, dtype), requires_grad=True)
            )
        )
        fit = ((n, call, tensors) for n, call, tensors in found if any(t.numel() for t in tensors))
        for number, call, tensors in islice(fit, samples):
            yield Case(f"{name} {number} {dtype}", call, tensors)


def row(case: Case, order: int) -> dict[str, Any]:
    """Check one sample."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal.alarm(_SECONDS)
        try:
            report = gradcheck(case.call, case.tensors, order=order, raise_exception=False)
        except KeyboardInterrupt:
            said = {"verdict": "too long"}
        except TypeError as error:
            said = {"verdict": "refused", "findings": [str(error)]}
        except Exception:  # noqa: BLE001 - a traceback of ours is a finding
            said = {"verdict": "exception", "findings": [traceback.format_exc(limit=-3)]}
        else:
            said = {
                "verdict": str(report.verdict), "ok": report.ok, "modes": report.modes, "truth": report.truth,
                "skipped": report.skipped, "notes": report.notes, "suggestion": report.suggestion,
                "findings": [str(f) for f in report.findings],
            }  # fmt: skip
        finally:
            signal.alarm(0)
    return {"case": case.name, "order": order, **said, "seconds": time.perf_counter() - began}


def is_known(name: str, order: int = 1) -> bool:
    """Tell whether an entry (or a case of it) is known to be wrong in torch itself, up to an order."""
    entry = name.split(maxsplit=1)[0]
    return any(re.fullmatch(d.entries, entry) for d in DEFECTS if d.order <= order)


def is_fault(row: dict[str, Any]) -> bool:
    """Tell whether a row says that torch is wrong, or that we are."""
    return row["verdict"] in ("wrong", "nonfinite", "exception", "too long")


def _overdue(*_: Any) -> None:
    raise KeyboardInterrupt


def _summary(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Say how many samples of each dtype came out how, what rests on differences, and what is news."""
    for dtype in DTYPES:
        here = [r for r in rows if r["case"].endswith(dtype)]
        verdicts = Counter(r["verdict"] for r in here)
        truths = Counter(r.get("truth") for r in here)
        count = len({r["case"].split()[0] for r in here})
        yield f"{dtype}: {count} entries, {len(here)} samples: {dict(verdicts)}; truth {dict(truths)}"
    wrong = {r["case"].split()[0] for r in rows if is_fault(r)}
    yield f"known defects of torch {VERSION}, by {len([w for w in wrong if is_known(w)])} entries:"
    yield table()
    news = [r for r in rows if is_fault(r) and not is_known(r["case"], r["order"])]
    for r in news:
        yield f"NEW {r['verdict']} {r['case']}: {' '.join(r.get('findings', [])[:1])}"
    yield f"{len(news)} samples are wrong beside these"


def main() -> int:
    """Check them all and print what is not simply correct, and the sums; 1 if a fault is not known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, help="a file of rows to add to, and to go on from")
    parser.add_argument("--dtype", choices=DTYPES, help="one of them; both by default")
    parser.add_argument("--only", default="", help="a regular expression that names must contain")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each entry")
    parser.add_argument("--order", type=int, choices=(1, 2), default=1)
    parser.add_argument("--every", type=int, default=1, help="one entry in so many")
    options = parser.parse_args()
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if options.to and options.to.exists():
        for line in options.to.read_text().splitlines():
            read = json.loads(line)
            rows[read["case"], read["order"]] = read
    signal.signal(signal.SIGALRM, _overdue)
    for dtype in [options.dtype] if options.dtype else DTYPES:
        for case in cases(dtype, options.samples, options.only, every=options.every):
            key = case.name, options.order
            if key in rows:
                continue
            rows[key] = row(case, options.order)
            if options.to:
                with options.to.open("a") as file:
                    file.write(json.dumps(rows[key], default=str) + "\n")
            if rows[key]["verdict"] != "correct":
                first = " ".join(rows[key].get("findings", [])[:1]).splitlines()[:1]
                click.echo(f"{rows[key]['verdict']} {case.name} {' '.join(first)}"[:300])
    asked = [r for (_, order), r in rows.items() if order == options.order]
    click.echo("\n".join(_summary(asked)))
    return any(is_fault(r) and not is_known(r["case"], r["order"]) for r in asked)


if __name__ == "__main__":
    sys.exit(main())
