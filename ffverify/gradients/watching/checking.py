"""Check watched functions at the inputs that they had: what is differentiated by, in which modes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ffverify import strategies
from ffverify.exact.formats import FORMATS, is_floating
from ffverify.frameworks.calls import Custom
from ffverify.frameworks.framework import framework
from ffverify.gradients.gradcheck import gradcheck
from ffverify.gradients.report import GradcheckReport

from .recording import LARGEST, Call, Seen, Watch, calls_of, numbers_in, short


@dataclass(frozen=True)
class Checked:
    """What came of one function in one format.

    Attributes
    ----------
    custom, dtype
        The function and the format.
    report
        The gravest report of gradcheck; None where nothing could be checked.
    calls, points
        How many calls were seen, and at how many inputs it was checked.
    drawn
        Whether inputs had to be drawn, since all calls were traced and had no numbers.
    left_out
        Inputs that it does not mean to differentiate by, or why it was not checked.
    """

    custom: Custom
    dtype: str
    report: GradcheckReport | None
    calls: int
    points: int
    drawn: bool
    left_out: str


def check(watch: Watch, *, seconds: float = 60.0, search: int = 0, seed: int = 0) -> list[Checked]:
    """Check every function that was seen at the inputs that it had, and at ``search`` more around them.

    What ``seconds`` do not suffice for is given as not checked.
    """
    until = time.monotonic() + seconds
    made = []
    for seen in watch.seen.values():
        by_dtype: dict[str, list[Call]] = {}
        for calls in seen.kept.values():
            for call in calls:
                by_dtype.setdefault(call.dtype, []).append(call)
        for dtype, calls in (by_dtype or {"": []}).items():
            smallest_first = sorted(calls, key=lambda c: c.size)
            made.append(_checked(seen, dtype, smallest_first, until, search, seed))
    return made


def _checked(
    seen: Seen, dtype: str, calls: list[Call], until: float, search: int, seed: int
) -> Checked:
    """Check one function in one format, until something is wrong or the time is up."""
    worst: GradcheckReport | None = None
    points, drawn = 0, False
    notes: dict[str, None] = {}
    if not dtype:
        why = (
            "it was called with no float that can be judged" if seen.calls else "no call came back"
        )
        return Checked(seen.custom, "float64", None, seen.calls, 0, False, why)
    if any(not call.traced for call in calls):
        calls = [call for call in calls if not call.traced]
    for call in calls:
        if points and time.monotonic() > until:
            break
        if time.monotonic() > until:
            notes["there was no time left"] = None
            break
        if call.size > LARGEST:
            notes[f"inputs of {call.size} elements are too large"] = None
            continue
        try:
            arrays = _numbers(call, seed)
            fn, inputs, left_out = _differentiated(seen, call, arrays)
            notes |= dict.fromkeys(left_out)
            check = partial(
                gradcheck, fn, seed=seed, raise_exception=False, vjp=_reverse_only(call.custom, fn)
            )
            report = check(inputs)
            if report.ok and search:
                points += report.points
                report = check(_around(call, inputs), max_examples=search)
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            notes[f"{type(error).__name__}: {error}".splitlines()[0]] = None
            continue
        points += report.points
        drawn = drawn or call.traced
        if worst is None or _gravity(report) > _gravity(worst):
            worst = report
        if _gravity(report) == 2:
            break
    return Checked(seen.custom, dtype, worst, seen.calls, points, drawn, "; ".join(notes))


def _gravity(report: GradcheckReport) -> int:
    return 0 if report.ok else 2 if any(f.severity == "error" for f in report.findings) else 1


def _numbers(call: Call, seed: int) -> list[Any]:
    """Give the arrays of a call as its framework's, with numbers for those that had none."""
    rng, of = np.random.default_rng(seed), framework(call.custom.framework)
    made = []
    for look, array in zip(call.looks, call.arrays, strict=True):
        if isinstance(array, np.ndarray | np.generic):
            made.append(of.array(np.asarray(array), look.dtype, look.device))
        elif array is not None:
            made.append(array)
        elif look.dtype in FORMATS:
            made.append(of.array(rng.standard_normal(look.shape), look.dtype, look.device))
        else:
            raise ValueError(f"an input of {look.dtype} was traced, and had no numbers")
    return made


def _differentiated(
    seen: Seen, call: Call, arrays: list[Any]
) -> tuple[Callable[..., Any], list[Any], list[str]]:
    """Give the function of the arrays that it is differentiated by, those, and notes on the others.

    These are the ones that somebody differentiated by; where nobody did, all floats but those of which the
    backward gives None. A module is always differentiated by its parameters.
    """
    floats = [look.dtype in FORMATS for look in call.looks]
    asked = [f and p in seen.wanted for f, p in zip(floats, call.places, strict=True)]
    notes, of = [], calls_of(call.custom.framework)
    if not any(asked):
        asked = floats
        try:
            none = of.none_gradients(call.custom, call.given, arrays, floats)
        except Exception:  # noqa: BLE001 - a derivative that raises is one for gradcheck to tell of
            none = [False] * len(arrays)
        if any(none) and none != floats:
            asked = [f and not n for f, n in zip(floats, none, strict=True)]
            notes = [f"its backward gives None for input {i}" for i, n in enumerate(none) if n]
    chosen = [i for i, a in enumerate(asked) if a]
    if not chosen and call.parameters:  # an embedding of integers
        chosen = list(range(len(arrays)))

    def fn(*values: Any) -> Any:
        filled = list(arrays)
        for i, value in zip(chosen, values, strict=True):
            filled[i] = value
        args, kwargs = call.given(*filled)
        return call.custom.call(*args, **kwargs)

    fn.__name__ = short(call.custom.name)
    inputs = [arrays[i] for i in chosen]
    count = numbers_in(call.parameters)
    if not count or call.size + count > LARGEST:
        notes += [f"parameters of {count} elements are too large"] if count else []
        return fn, inputs, notes
    return of.WithParameters(call.custom.call, fn), inputs, notes


def _reverse_only(custom: Custom, fn: Callable[..., Any]) -> Callable[..., Any] | None:
    """Give the function's own VJP where that is its only derivative (forward mode gives zeros there)."""
    if "forward" in custom.modes:
        return None
    of = framework(custom.framework)

    def vjp(cotangent: Any, *inputs: Any) -> list[Any]:
        return of.vjp(fn, inputs, cotangent if isinstance(cotangent, tuple) else (cotangent,))

    return vjp


def _around(call: Call, inputs: Sequence[Any]) -> list[Any]:
    """Give strategies for floats like the ones there were, over twice their range."""
    of = framework(call.custom.framework)
    made = []
    for array in inputs:
        held = of.to_numpy(array)
        if not is_floating(array):
            made.append(array)
            continue
        low, high = float(held.min(initial=0.0)), float(held.max(initial=0.0))
        margin = max((high - low) / 2, 1.0)
        made.append(
            strategies.arrays(
                str(array.dtype).removeprefix("torch."),
                held.shape,
                min_value=low - margin if low < 0 else low,
                max_value=high + margin if high > 0 else high,
                framework=of.name,
            )
        )
    return made
