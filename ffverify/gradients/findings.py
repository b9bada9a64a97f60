"""From a failed number to a finding: its place in words, sixty confirmed digits, and code to paste."""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array
from ffverify.exact.programs import projected
from ffverify.truth import second_opinion as confirm
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.places import subscript
from ffverify.verdicts.verdict import Verdict

from .hints import hint
from .judge.numbers import Judged
from .reporting.reproduction import code

_SECOND_OPINION = 4096  # input elements above which mpmath would take minutes


def finding(judged: Judged) -> Finding:
    """Make the finding: measure the exact slope, also in the second arithmetic, and name the place."""
    if judged.point.formulas.forward is not None and judged.mode != "value":
        judged = replace(judged, truth=judged.slope.truth)
    shown, reason, agree = _exact(judged)
    kind = judged.kind if agree else Verdict.INCONCLUSIVE
    if kind is Verdict.INCONCLUSIVE and agree and not judged.reason:
        reason = f"The truth is too wide to tell, or undefined here: {judged.truth.exact[0]}."
    if kind is Verdict.WRONG and judged.error_ulps <= judged.allowed_ulps:
        reason = "Rounding alone may add so much, but here the formula itself is off. " + reason
    if judged.tail:
        reason = (
            "Only relative accuracy is lost: the error is rounding at its own natural scale. "
            + reason
        )
    return Finding(
        kind=kind,
        where=_where(judged),
        computed=repr(judged.computed / _unit(judged)),
        exact=shown,
        error_ulps=judged.error_ulps,
        allowed_ulps=judged.allowed_ulps,
        dtype=judged.point.fmt.name,
        reason=reason.strip(),
        replay=code(judged.point.subject.call, judged.point.subject.given_at(judged.point.native)),
        mode=judged.mode,
        index=judged.index,
        hint=_sentence(hint(judged)),
        tail=judged.tail,
        aside=judged.aside,
        strict=judged.point.strict,
    )


def _sentence(text: str) -> str:
    return f"Hint: {text}" if text else ""


def _unit(judged: Judged) -> float:
    """Give the cotangent where one result stands alone: numbers are shown per unit of it."""
    used = judged.slope.weights[judged.slope.weights != 0]
    return float(used[0]) if used.size == 1 and judged.mode in ("reverse", "rr", "rf") else 1.0


def _where(judged: Judged) -> str:
    point = judged.point
    name, index = point.subject.name, subscript(judged.index)
    at = _shown_at(point.points)
    if judged.mode == "value":
        result = f"result {judged.argument} of " if len(point.results) > 1 else ""
        return f"{result}{name}{index}{at}"
    if judged.mode in ("forward", "fr", "ff"):
        result = f" of result {judged.argument}" if len(point.results) > 1 else ""
        return f"JVP of {name}{result}{index}{at}, {judged.mode}"
    if judged.argument < 0:
        return f"VJP of {name} along a direction{at}, {judged.mode}"
    label = point.subject.labels[judged.argument]
    single = np.count_nonzero(judged.slope.weights) == 1
    above = name if single else f"⟨v, {name}⟩"
    if single and point.points[judged.argument].size == 1 and len(point.points) == 1:
        return f"{name}'{at.removeprefix(' at ')}, {judged.mode}"
    return f"∂{above}/∂{label}{index}{at}, {judged.mode}"


def _shown_at(points: Sequence[Array]) -> str:
    if sum(x.size for x in points) > 8:
        return ""
    return f" at ({', '.join(str(x.tolist()) for x in points)})"


def _exact(judged: Judged) -> tuple[str, str, bool]:
    """Print the exact value; tell whether the second arithmetic agrees."""
    ball, unit = judged.truth.exact[0], _unit(judged)
    if judged.point.formulas.forward is None:
        return _within(ball / arb(unit)), judged.reason, True
    program = projected(judged.point.vector, judged.slope.weights)
    if sum(x.size for x in judged.point.points) > _SECOND_OPINION:
        return (
            _ball_digits(ball, unit),
            "Too large to be confirmed in a second arithmetic.",
            True,
        )
    if ball.is_nan():
        return "undefined", judged.reason, True
    try:
        if judged.mode == "value":
            known = float(ball.rad()) if ball.is_finite() else 0.0
            second = confirm.value(program, judged.point.points, known)
        else:
            second = confirm.slope(program, judged.point.points, judged.slope.directions, ball)
    except Exception:  # noqa: BLE001 - a program fixed at one point may fail beside it in any way
        second = None, None, 0
    if None in second:
        return _ball_digits(ball, unit), "Not confirmed: mpmath finds no limit.", False
    kink = bool(judged.truth.kink[0])
    text, apart = confirm.agreement(second, ball, kink=kink, unit=unit)
    return text, apart or judged.reason, not apart


def _within(ball: Any) -> str:
    """Print a ball; by its ends, rounded outwards, where that has no digit, as where it holds 0."""
    if not ball.is_finite():
        return "unknown"
    if ball.rel_accuracy_bits() > 0:
        return str(ball.str(8, radius=True))
    ends = (ball.lower(), decimal.ROUND_FLOOR), (ball.upper(), decimal.ROUND_CEILING)
    low, high = (decimal.Context(3, way).create_decimal_from_float(float(x)) for x, way in ends)
    if not (low.is_finite() and high.is_finite() and (low or high)):  # beyond floats
        return str(ball.str(3))
    return f"between {float(low):.3g} and {float(high):.3g}"


def _ball_digits(ball: Any, unit: float) -> str:
    with BALLS.precision(4 * FIRST_PRECISION):
        known = ball / unit
        return str(known.str(20, radius=False)) if known.rel_accuracy_bits() > 0 else _within(known)
