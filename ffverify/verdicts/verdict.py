"""Verdicts: what a computed number is worth beside the truth, and how to say so.

``judge`` compares an array with its ``Truth``, element by element, in units in the last place of
the exact result.

The allowed error is the conditioning bound (`ffverify.verdicts.bounds`). Beyond it the verdict is
``imprecise`` as long as the *running bound* explains the error, else ``wrong``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb, midpoints
from ffverify.exact.formats import Array, Format
from ffverify.truth.adaptive import Truth

from .bounds import rounding_of


class Verdict(StrEnum):
    """What a computed number is, beside the truth."""

    CORRECT = "correct"
    IMPRECISE = "imprecise"
    WRONG = "wrong"
    NONFINITE = "nonfinite"
    INCONCLUSIVE = "inconclusive"


_WORST_FIRST = (
    (Verdict.WRONG, Verdict.NONFINITE),
    (Verdict.IMPRECISE,),
    (Verdict.INCONCLUSIVE,),
)


@dataclass(frozen=True)
class Judgement:
    """Verdicts on an array, element by element (all fields have its shape).

    The motion of the inputs is in ``allowed_ulps`` only where the rounding of the result alone does
    not explain an error.
    """

    verdicts: Array
    error_ulps: Array
    allowed_ulps: Array

    @property
    def worst(self) -> tuple[int, ...] | None:
        """Index of the worst failed element; None if all are correct.

        Wrong and nonfinite come before imprecise, what cannot be judged comes last; among equals
        the largest error over bound is the worst.
        """
        for kinds in _WORST_FIRST:
            failed = np.isin(self.verdicts, kinds)
            if failed.any():
                break
        else:
            return None
        with np.errstate(invalid="ignore"):  # both are infinitely many ulps of an exact 0
            rank = np.where(failed, self.error_ulps / np.maximum(self.allowed_ulps, 1e-300), -1.0)
        rank = np.where(failed & np.isnan(rank), np.inf, rank)
        return tuple(int(i) for i in np.unravel_index(np.argmax(rank), rank.shape))


def judge(
    computed: Array,
    truth: Truth,
    fmt: Format,
    *,
    scale: float = 0.0,
    inputs_exact: bool = False,
    running: Callable[[], Array | None] | None = None,
) -> Judgement:
    """Compare computed numbers with the truth, element by element.

    Parameters
    ----------
    computed
        Array of the truth's shape.
    scale
        Natural scale of the result where only absolute accuracy is promised; ulps are then of it.
    inputs_exact
        Leave the motion of the inputs out of the bound.
    running
        Gives the running bound, an object array, when it is asked for. None: unknown, then rounding is
        blamed for at most half the digits.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if computed.shape != truth.exact.shape:
        raise ValueError(
            f"computed has shape {computed.shape}, the truth {truth.exact.shape}: compare equal shapes"
        )
    exacts, numbers = truth.exact.ravel().tolist(), computed.astype(np.float64).ravel().tolist()
    limits = rounding_of(exacts, truth.growth, fmt, scale)
    distances = [arb(c) - t for c, t in zip(numbers, exacts, strict=True)]
    near = [bool(d.abs_upper() <= m) for d, m in zip(distances, limits, strict=True)]
    correct = np.array(near, dtype=bool)
    if not (inputs_exact or correct.all()):
        motions = truth.motion.ravel()
        for i in np.flatnonzero(~correct).tolist():
            if not motions[i].is_nan():
                limits[i] = limits[i] + motions[i].abs_upper()
    exponents = fmt.ulp_exponents(np.maximum(np.abs(midpoints(exacts)), scale))
    with np.errstate(over="ignore"):
        errors, allowances = (
            np.ldexp(np.abs(midpoints(x)), -exponents) for x in (distances, limits)
        )
    verdicts = np.array([Verdict.CORRECT] * computed.size, dtype=object)
    resolved, two = truth.resolved.ravel().tolist(), arb(2)
    bounds: list[Any] | None = None  # asked for where it decides: it is dear
    for i in np.flatnonzero(~correct).tolist():
        kind, errors[i] = _decide(
            numbers[i],
            exacts[i],
            limits[i],
            fmt,
            ulp=two ** int(exponents[i]),
            resolved=resolved[i],
        )
        if kind is Verdict.IMPRECISE:
            if bounds is None:
                found = None if running is None else running()
                bounds = [None] * computed.size if found is None else found.ravel().tolist()
            if bounds[i] is None:
                explained = errors[i] <= 2.0 ** (fmt.precision / 2)
            else:
                most = bounds[i] + limits[i]
                explained = not most.is_finite() or distances[i].abs_lower() <= most
            kind = kind if explained else Verdict.WRONG
        verdicts[i] = kind
    shape = computed.shape
    return Judgement(verdicts.reshape(shape), errors.reshape(shape), allowances.reshape(shape))


def _decide(
    computed: float,
    exact: Any,
    allowed: Any,
    fmt: Format,
    *,
    ulp: Any,
    resolved: bool,
) -> tuple[Verdict, float]:
    """Judge one number, imprecise where it is off: the verdict, and the error in ulps.

    ``resolved`` tells whether the ball around the exact number is as narrow as can be: what it holds is then
    right, and not merely possible. The error of what is not finite is infinite.
    """
    c, t = computed, exact
    if t.is_nan():
        return (Verdict.CORRECT, 0.0) if math.isnan(c) else (Verdict.INCONCLUSIVE, math.inf)
    if not math.isfinite(c):
        same_sign = bool(t > 0) if c > 0 else bool(t < 0)
        overflow = BALLS.exact(fmt.overflow)
        overflows = not math.isnan(c) and same_sign and t.abs_upper() + allowed >= overflow
        return (Verdict.CORRECT, 0.0) if overflows else (Verdict.NONFINITE, math.inf)
    if not t.is_finite():
        return (Verdict.WRONG, math.inf) if resolved else (Verdict.INCONCLUSIVE, math.inf)
    distance = abs(arb(c) - t)
    least = distance.abs_lower()
    error = float((least if not resolved or t.rad() > ulp else distance.mid()) / ulp)
    if not least > allowed:
        certain = resolved or distance.abs_upper() <= allowed
        return (Verdict.CORRECT if certain else Verdict.INCONCLUSIVE), error
    return Verdict.IMPRECISE, error
