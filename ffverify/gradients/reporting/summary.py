"""From what a check found to its report: findings in order, what they extend to, and what power it had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.alone import alone
from ffverify.exact.formats import dtype_name, is_floating
from ffverify.frameworks.arguments import arguments
from ffverify.frameworks.arrays import device_of, to_numpy
from ffverify.frameworks.framework import framework
from ffverify.gradients.check import Check, Kept
from ffverify.gradients.given.searching import GRAVITY
from ffverify.gradients.judge.numbers import Judged
from ffverify.gradients.report import GradcheckReport, Told
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .extent import extent
from .reproduction import along

_SMALL = 1024  # elements of inputs that are checked once more, to suggest a structure


def summary(
    check: Check, seconds: float, again: Callable[[Any], GradcheckReport]
) -> GradcheckReport:
    """Make the findings and the report; ``again`` checks other inputs."""
    kept = _distinct([*check.errors, *((j, m) for _, j, m in check.warnings.values())])
    mild: list[tuple[Judged, Callable[[], Finding]]] = []
    grave: list[tuple[Judged | None, Finding]] = []
    native = check.native
    with framework(check.framework).scope(native):
        for judged, make in kept:
            if judged is not None and check.is_mild(judged):
                mild.append((judged, make))  # it is confirmed when somebody reads it
            else:
                grave.append((judged, _told(check, judged, make)))
    if not kept and check.found.sensitivity > check.found.half:
        sentence = (
            f"an error of {check.found.sensitivity:.2g} of the largest would not have been seen in some "
            "single element: the inputs' own rounding explains it, or differences are too coarse"
        )
        blind = Finding(
            Verdict.INCONCLUSIVE, check.name, sentence, "", np.inf, 0.0,
            check.found.format, hint="Hint: give inputs of moderate size.",
        )  # fmt: skip
        grave = [(None, blind)]

    @alone
    def told() -> Told:
        with framework(check.framework).scope(native):
            return _in_order([*grave, *((j, make()) for j, make in mild)])

    findings = [f for _, f in grave]
    errors = [f.kind for f in findings if f.severity == "error"]
    kinds = errors or [*(f.kind for f in findings), *(j.kind for j, _ in mild)]
    nothing = Verdict.CORRECT if check.found.judged else Verdict.INCONCLUSIVE
    inputs = check.inputs if isinstance(check.inputs, dict) else tuple(check.inputs)
    skipped = dict(check.found.skipped)
    for name in [name for name, is_zero in check.found.zero.items() if is_zero]:
        if f"by {name}" not in skipped:
            skipped[f"by {name}, what it is multiplied by"] = "its gradient is 0 all over here"
    return GradcheckReport(
        name=check.name,
        verdict=min(kinds, key=GRAVITY.index, default=nothing),
        fails=bool(errors),
        framework=check.framework,
        dtype=", ".join(dict.fromkeys(dtype_name(a) for a in check.native if is_floating(a))),
        device=", ".join(dict.fromkeys(map(device_of, check.native))) or "cpu",
        suggestion=_suggestion(check, findings),
        truth=check.oracles.name,
        derivatives=check.own.said(check.framework),
        modes=tuple(check.modes),
        skipped=skipped,
        points=check.points,
        judged=check.found.judged,
        worst_ulps=check.found.worst_ulps,
        sensitivity=check.found.sensitivity,
        accused=check.found.accused,
        inputs=inputs,
        data=check.data,
        notes=tuple(check.oracles.reasons),
        seconds=seconds,
        _again=partial(again, inputs),
        _told=told,
    )


def _in_order(made: Sequence[tuple[Judged | None, Finding]]) -> Told:
    """Put errors before warnings, and the gravest of either first; give the code that shows the first."""
    ordered = sorted(
        made, key=lambda each: (each[1].severity != "error", GRAVITY.index(each[1].kind))
    )
    failed = tuple(j for j, _ in ordered if j is not None and j.mode != "value")
    again = [ordered[0][1].replay] if ordered else []
    again += [along(failed[0])] if failed and failed[0] is ordered[0][0] else []
    return Told(tuple(f for _, f in ordered), "\n".join(again), failed)


def _distinct(kept: Sequence[Kept]) -> list[Kept]:
    """Keep the worst of each distinct fault: of one kind, in one mode, of one array."""
    found: dict[Any, Kept] = {}
    for i, (judged, make) in enumerate(kept):
        key = i if judged is None else (judged.kind, judged.mode, judged.argument, judged.tail)
        other = found.get(key)
        if other is None or (other[0] and judged and judged.error_ulps > other[0].error_ulps):
            found[key] = judged, make
    return list(found.values())


def _told(check: Check, judged: Any, make: Callable[[], Finding]) -> Finding:
    """Make a finding, and say how far the fault extends."""
    made = make()
    if judged is None or made.kind is not Verdict.WRONG or check.clock.is_over:
        return made
    words = ""
    with contextlib.suppress(Exception):  # what is said beside a finding must not lose it
        words = extent(judged)
    return replace(made, reason=f"{words} {made.reason}".strip())


def _suggestion(check: Check, findings: Sequence[Finding]) -> str:
    """Try whether a gradient that is wrong is right within a structure that its input happens to have."""
    wrong = any(f.kind is Verdict.WRONG and f.severity == "error" for f in findings)
    if not wrong or check.order == 2 or check.clock.is_over:
        return ""
    given = arguments(check.fn, check.inputs)
    if sum(to_numpy(a).size for a in given.arrays) > _SMALL:
        return ""
    for label, kind in given.structures():
        within = Check(check.fn, check.own, check.truth, 1, check.strict, check.seed, check.clock)
        within.at(given.declaring(label, kind))
        if within.found.judged and not within.errors:
            declared = f"declare ffverify.{kind}({label})"
            return (
                f"Within {kind.replace('_', ' ')} inputs it is right: {declared} if they are such."
            )
    return ""
