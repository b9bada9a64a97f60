"""Mutants of the checker: each switches one rule of gradcheck off, and a row of the corpora must show it.

A row kills a mutant if its buggy function is then missed, or its right twin accused; such rows stay in the
test suite. ``python -m tests.gradients.checker_mutants SURVEY`` makes a survey of which rows ask which rules;
run again it looks for the killers, cheapest rows first, and prints them. Rules without a killer among the
rows have tests of their own, or two rules show the same errors.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import numpy as np

from ffverify.gradients.gradcheck import gradcheck
from tests.corpus import CORPORA, ROWS

EXAMPLES = 6  # inputs of a row


class Mutant(NamedTuple):
    """A rule that is switched off: where it stands, what takes its place, which row kills it.

    ``killer`` is a row's name and "buggy" or "twin"; empty if no row of the corpora shows the rule.
    """

    place: str
    instead: Any
    killer: str = ""


def _nothing(*_args: Any, **_kwargs: Any) -> Iterator[Any]:
    return iter(())


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


MUTANTS = {
    # how inputs are searched
    "no edges are sought": Mutant(
        "given.searching._sharpened", lambda _check, slots: (slots.given, [])
    ),
    "numbers of any size are errors": Mutant("given.searching.held_within", _constant(None)),
    "no second order": Mutant(
        "check.Check._second_order", _constant(None), "torch_double_backward buggy"
    ),
    # laws
    "inputs may be changed": Mutant("check.mutations", _nothing),
    "a VJP may change its inputs": Mutant("laws.side_checks.mutations", _nothing),
    "random functions are judged": Mutant("laws.side_checks.is_random", _constant(False)),
    "gradients may be of any kind": Mutant("laws.side_checks._kinds", _nothing),
    "random VJPs are judged": Mutant("check.varies", _constant(False)),
    "a VJP need not be linear": Mutant("laws.side_checks._linearity", _nothing),
    "far from 1 it need not be linear": Mutant("check.far_multiples", _nothing),
    "a zero cotangent may give anything": Mutant("laws.side_checks._at_zero", _nothing),
    "nothing is asked of pure programs": Mutant("check.lasting_checks", _nothing),
    "a second backward may differ": Mutant("laws.side_checks._changed_again", _constant([])),
    "layouts are not tried": Mutant("laws.side_checks.layouts", _nothing),
    "rows are not tried alone": Mutant("laws.side_checks.rows", _nothing),
    "inputs need not be asked for alone": Mutant("laws.side_checks._inputs_alone", _nothing),
    "rows that share memory are not tried": Mutant("laws.layouts._shared_memory", _nothing),
    "layouts are tried where noise is all": Mutant("laws.side_checks.are_steady", _constant(True)),
    "gradients have no natural scale": Mutant(
        "laws.side_checks.natural_scales",
        lambda _native, _results, _v, gradients: [0.0] * len(gradients),
    ),
    # where truth comes from
    "a trace is kept wherever it was made": Mutant(
        "truth_sources.hold_to", lambda _formulas, _native, _results, _exact: None
    ),
    "opaque code has no limits beside the point": Mutant(
        "truth_sources.limits_by_differences", _constant(None)
    ),
    "opaque code is not noisy": Mutant("opaque.Opaque.noise", _constant(0.0)),
    # the formula question
    "no formula of a VJP is off": Mutant(
        "judge.questions.reverse_faults", _constant({}), "torch_double_backward buggy"
    ),
    "no formula of a JVP is off": Mutant(
        "judge.questions.faults", _constant({}), "cumprod-tangent buggy"
    ),
    "ties are not kept": Mutant(
        "judge.questions.tied_directions", _constant([]), "norm-at-zero twin"
    ),
    "elements on kinks are not judged": Mutant("judge.questions._on_kinks", _constant(None)),
    "no limit of slopes is right": Mutant(
        "judge.alternatives.is_limit", _constant(False), "sort-tangent twin"
    ),
    "any number is a limit of slopes": Mutant(
        "judge.alternatives.is_limit", _constant(True), "torch_double_backward buggy"
    ),
    "constants are not rounded": Mutant("judge.slope.Slope.constants", _constant(0.0)),
    "whole directions are not judged": Mutant(
        "judge.questions.judge_sum", _constant(None), "max_ties buggy"
    ),
    "no tail is cut off": Mutant("judge.slope.Slope.hides_in_tail", _constant(False)),
    # execution and accuracy
    "values are not judged": Mutant("judge.questions._values", _constant(None)),
    "neither execution nor accuracy": Mutant(
        "judge.questions.execution_and_accuracy", _constant(None), "sinc_near_zero buggy"
    ),
    "no natural scale": Mutant(
        "judge.numbers.Numbers.is_relative", _constant(False), "mixture-responsibility twin"
    ),
    "natural scales excuse all": Mutant(
        "judge.numbers.Numbers.is_relative", _constant(True), "variance_by_squares buggy"
    ),
    # code without an exact form
    "unknown tangents are not judged": Mutant("judge.questions.judge_tangents", _constant(None)),
    "unknown VJPs are not judged": Mutant(
        "judge.questions.judge_vjp", _constant(None), "determinant-singular buggy"
    ),
    "nothing cancels": Mutant(
        "judge.slope.Slope.of_values", _constant(0.0), "mixture-responsibility twin"
    ),
    "opaque kinks have no limits": Mutant(
        "judge.alternatives._is_limit_of_differences", _constant(False)
    ),
    "opaque code is not judged": Mutant("judge.unknown._judge_each", _constant(None)),
    "sums that are off lead nowhere": Mutant("judge.unknown._led_to", _constant(([], np.zeros(0)))),
}


@contextmanager
def planted(*names: str, instead: Callable[[str], Any] | None = None) -> Iterator[None]:
    """Plant mutants in gradcheck."""
    with ExitStack() as stack:
        for name in names:
            owner, attribute = _target(MUTANTS[name].place)
            new = MUTANTS[name].instead if instead is None else instead(name)
            stack.enter_context(mock.patch.object(owner, attribute, new))
        yield


def _target(place: str) -> tuple[Any, str]:
    """Give what an attribute of gradcheck's modules hangs on, and its name."""
    *path, attribute = place.split(".")
    owner: Any = import_module("ffverify.gradients")
    for part in path:
        found = getattr(owner, part, None)
        owner = import_module(f"{owner.__name__}.{part}") if found is None else found
    return owner, attribute


def right(entry: str) -> bool:
    """Tell whether gradcheck says what it should of a row's buggy function, or of its twin."""
    name, _, which = entry.partition(" ")
    row = ROWS[name]
    case = row.buggy if which == "buggy" else row.twin
    report = gradcheck(
        case.fn, row.drawn(), vjp=case.vjp, jvp=case.jvp, max_examples=EXAMPLES,
        raise_exception=False, **row.options,
    )  # fmt: skip
    if which == "twin":
        return report.ok
    return row.expected in {str(f.kind) for f in report.findings if f.severity == "error"}


def _consulted(entry: str) -> tuple[bool, float, list[str]]:
    """Tell whether a row is right, how long it takes, and which rules it asks."""
    asked: dict[str, None] = {}

    def watched(name: str) -> Any:
        owner, attribute = _target(MUTANTS[name].place)
        old = owner.__dict__[attribute] if isinstance(owner, type) else getattr(owner, attribute)
        if not callable(old):
            asked[name] = None
            return old

        def watch(*args: Any, **kwargs: Any) -> Any:
            asked[name] = None
            return old(*args, **kwargs)

        return watch

    one_each = list({m.place: name for name, m in MUTANTS.items()}.values())
    began = time.process_time()
    with planted(*one_each, instead=watched):
        fine = right(entry)
    places = {MUTANTS[name].place for name in asked}
    return (
        fine,
        time.process_time() - began,
        [name for name, m in MUTANTS.items() if m.place in places],
    )


def main() -> None:
    """Look for killers and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "survey", type=Path, help="JSON: which rows ask which rules; made if missing"
    )
    parser.add_argument("--share", default="0/1", help="of the mutants, or of the survey: 0/2, 1/2")
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA), choices=list(CORPORA))
    parser.add_argument("--most", type=int, default=80, help="rows tried for a mutant")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    part, parts = map(int, options.share.split("/"))
    names = [row.name for corpus in options.corpora for row in CORPORA[corpus]]
    entries = [f"{name} {which}" for name in names for which in ("buggy", "twin")]
    if not options.survey.exists():
        found: dict[str, Any] = {}
        for entry in entries[part::parts]:
            try:
                found[entry] = _consulted(entry)
            except Exception as error:  # noqa: BLE001 - such a row is no test of a rule
                click.echo(f"{entry}: {type(error).__name__}: {error}", err=True)
        options.survey.write_text(json.dumps(found))
        return
    survey = json.loads(options.survey.read_text())
    cheapest = sorted((e for e, (fine, *_) in survey.items() if fine), key=lambda e: survey[e][1])
    killers: list[str] = []
    for name in list(MUTANTS)[part::parts]:
        asking = [e for e in cheapest if name in survey[e][2]]
        first = [e for e in killers if e in asking]
        killer = next((e for e in [*first, *asking[: options.most]] if not _survives(name, e)), "")
        killers += [killer] if killer and killer not in killers else []
        click.echo(f"{name}: {killer or f'none of {len(asking)}'}")


def _survives(mutant: str, entry: str) -> bool:
    try:
        with planted(mutant):
            return right(entry)
    except Exception:  # noqa: BLE001 - a rule that is needed is shown as well
        return False


if __name__ == "__main__":
    main()
