"""What a gradient check found: for people (``print(report)``), machines and plots."""

from __future__ import annotations

import decimal
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ffverify.exact.formats import FORMATS
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .judge.numbers import Judged


class GradcheckError(AssertionError):
    """A gradient check failed; ``report`` has everything."""

    def __init__(self, report: GradcheckReport) -> None:
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[type[GradcheckError], tuple[GradcheckReport]]:
        return type(self), (self.report,)


@dataclass(frozen=True)
class Told:
    """Findings, the code that shows the first of them again, and what failed, to be drawn."""

    findings: tuple[Finding, ...]
    reproduction: str
    failed: tuple[Judged, ...] = ()


@dataclass(frozen=True)
class GradcheckReport:
    """What a gradient check found.

    Attributes
    ----------
    name
        The function.
    verdict
        The gravest error, or where there is none the gravest warning; ``correct`` if nothing was found.
    fails
        Whether something is an error.
    framework, dtype, device
        Whose arrays were given, in which formats, and where they were.
    suggestion
        What to say of the inputs, where the failure has the pattern of a convention.
    truth
        What the verdict rests on: "shadow", "textbook", "caller" or "differences".
    derivatives
        Whose derivatives were checked.
    modes
        The modes that were checked.
    skipped
        Modes and results that could not be checked, with the reason.
    points, judged
        How many inputs were tried, and how many numbers were judged.
    worst_ulps
        The largest error that was looked at closely, in ulps of the exact value, and is not only relative.
    sensitivity
        The smallest error in a single element of a gradient, in units of its largest element, that
        each of the inputs would have revealed, as long as conditioning does not allow more: how far the
        gradient moves with its inputs is measured only where an error makes it matter.
    accused
        Where some code has no exact form, from which error on, in these units, it is wrong, and no warning of
        lost digits: how such code rounds is unknown. Else 0.
    inputs
        The inputs of the first finding (shrunk), or the last ones tried, as gradcheck takes them.
    data
        Floats that were not differentiated by, by name, and why.
    notes
        Why the truth rests on less than an exact program, where it does.
    seconds
        How long it took.
    stopped
        Whether Ctrl-C ended it: more inputs would have been tried.
    """

    name: str
    verdict: Verdict
    fails: bool
    framework: str
    dtype: str
    device: str
    suggestion: str
    truth: str
    derivatives: str
    modes: tuple[str, ...]
    skipped: dict[str, str]
    points: int
    judged: int
    worst_ulps: float
    sensitivity: float
    accused: float
    inputs: tuple[Any, ...] | dict[str, Any]
    data: dict[str, str]
    notes: tuple[str, ...]
    seconds: float
    _again: Callable[[], GradcheckReport] = field(repr=False, compare=False)
    _told: Callable[[], Told] = field(repr=False, compare=False)
    stopped: bool = False

    @cached_property
    def _found(self) -> Told:
        return self._told()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Errors first, then warnings; those are confirmed in a second arithmetic when they are read."""
        return self._found.findings

    @property
    def reproduction(self) -> str:
        """Code that shows the first finding again, with its cotangent or tangent."""
        return self._found.reproduction

    @property
    def ok(self) -> bool:
        """Whether something was judged and nothing is an error."""
        return self.judged > 0 and not self.fails

    def __bool__(self) -> bool:
        return self.ok

    def replay(self) -> GradcheckReport:
        """Check the input of the first finding (or the last input) again; nothing is raised."""
        return self._again()

    def __str__(self) -> str:
        held = "" if self.judged or self.findings else " (nothing could be judged)"
        word = "passed with warnings, " if self.ok and self.findings else ""
        where = self.findings[0].where if self.findings else self.name
        if word and self.findings[0].beyond:
            held = " at extreme inputs only"
        place = f" in {where}" if where != self.name else ""
        so_far = f"stopped after {self.points} inputs, so far " if self.stopped else ""
        whose = f"{_FRAMEWORKS.get(self.framework, self.framework)} {self.dtype or 'numbers'}"
        rests = f"truth: {self.truth}, {_TRUTHS.get(self.truth, '')}"
        lines = [
            f"gradcheck of {self.name}: {so_far}{word}{self.verdict}{held}{place}",
            f"  {whose} on {self.device}; derivatives: {self.derivatives}; {rests}",
            *(_indented(_paragraph(f)) for f in self.findings),
        ]
        if self.suggestion:
            lines.append(f"  {self.suggestion}")
        if self.reproduction:
            lines.append(_indented(self.reproduction))
        lines.append(
            f"  modes: {', '.join(self.modes) or 'none'}; {self.points} inputs, {self.judged} numbers"
            f"{self._worst()}; {self.seconds:.2f} s"
        )
        if self.sensitivity and self.judged:
            unknown = ""
            if self.accused > self.sensitivity:
                unknown = (
                    f", as wrong one of {self.accused:.2g} (as no exact form of some code is known)"
                )
            lines.append(
                f"  In any single element, an error of {self.sensitivity:.2g} of the largest would "
                f"have been seen{unknown}, unless the rounding of inputs or constants explains it."
            )
        lines += [f"  not differentiated: {what} ({why})" for what, why in self.data.items()]
        lines += [f"  no exact program: {note}" for note in self.notes]
        for what, why in sorted(self.skipped.items()):
            is_mode = not (what.endswith("mode") or what.startswith(("result", "by")))
            lines.append(f"  not checked: {what}{' mode' if is_mode else ''} ({why})")
        return "\n".join(lines)

    def _worst(self) -> str:
        """Name the worst error where it says something: beside "correct" a large one is the inputs' own."""
        if self.verdict == "correct" and self.worst_ulps > _LARGE:
            return "; errors as large as the inputs' own rounding explains"
        return f"; worst error {self.worst_ulps:.3g} ulps" if self.worst_ulps else ""

    def script(self) -> str:
        """Give five lines of Python that compute the error of the first finding with mpmath alone.

        Raises
        ------
        ValueError
            If nothing failed, or not by a number.
        """
        from .reporting.reproduction import script

        if not self.findings:
            raise ValueError("nothing failed, so there is no error to compute: see print(report)")
        return script(self.findings[0])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what other processes cannot have: the function, and what was traced of it."""
        inputs: Any = self.inputs
        try:
            pickle.dumps(inputs)
        except Exception:  # noqa: BLE001 - a function among them, or whatever else has no copy elsewhere
            inputs = (repr(inputs),)
        found = replace(self._found, failed=())
        return {
            **vars(self),
            "inputs": inputs,
            "_again": _elsewhere,
            "_told": None,
            "_found": found,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain dicts, lists, numbers and strings."""
        return {
            "name": self.name, "ok": self.ok, "verdict": str(self.verdict), "truth": self.truth,
            "framework": self.framework, "dtype": self.dtype, "device": self.device,
            "reproduction": self.reproduction, "suggestion": self.suggestion,
            "derivatives": self.derivatives,
            "modes": list(self.modes), "skipped": dict(self.skipped), "points": self.points,
            "judged": self.judged, "worst_ulps": self.worst_ulps, "sensitivity": self.sensitivity,
            "accused": self.accused,
            "data": dict(self.data),
            "notes": list(self.notes),
            "seconds": self.seconds, "stopped": self.stopped,
            "findings": [
                {
                    "kind": str(f.kind), "severity": f.severity, "where": f.where, "mode": f.mode,
                    "index": list(f.index), "computed": f.computed, "exact": f.exact,
                    "error_ulps": f.error_ulps, "allowed_ulps": f.allowed_ulps,
                    "digits_lost": f.digits_lost, "dtype": f.dtype, "reason": f.reason,
                    "hint": f.hint, "replay": f.replay,
                }
                for f in self.findings
            ],
        }  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Draw the error in ulps along the failing direction; give the matplotlib axes.

        Raises
        ------
        ValueError
            If no finding has a direction to draw along.
        """
        from .plot import plot_error

        if not self._found.failed:
            raise ValueError("nothing failed, so there is no direction to draw: see print(report)")
        return plot_error(self._found.failed[0], ax)


_FRAMEWORKS = {"numpy": "NumPy", "torch": "torch", "jax": "JAX"}
_TRUTHS = {
    "shadow": "its own program in exact arithmetic",
    "textbook": "the definition of the catalogue",
    "caller": "the definition that was given",
    "differences": "extrapolated differences with error bars",
}
_LARGE = 1e3  # ulps


def _elsewhere() -> GradcheckReport:
    raise RuntimeError("this report comes from another process: run its reproduction instead")


def _paragraph(found: Finding) -> str:
    """Give a finding with the digits that its format warrants, without its reproduction."""
    text = f"{found.severity}: {found.kind}: {found.where}"
    text += f" = {found.computed}" if found.exact else f": {found.computed}"
    if found.exact:
        digits = math.ceil(FORMATS[found.dtype].precision * math.log10(2)) + _MORE
        exact = _NUMBER.sub(lambda m: _rounded(m.group(), digits), found.exact)
        text += f", {found.beside} {exact}{_size(found)}"
    notes = [note for note in (found.reason, found.hint) if note]
    return "\n  ".join([text, *notes])


_MORE = 5  # digits that are shown beyond those of a format
_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")


def _rounded(number: str, digits: int) -> str:
    mantissa, e, power = number.partition("e")  # which may be larger than decimal numbers may have
    with decimal.localcontext() as context:
        context.prec = digits
        value = +decimal.Decimal(mantissa)
    if value == decimal.Decimal(mantissa):
        return number
    return str(value).replace("E+", "e").replace("E", "e") + e + power


def _size(found: Finding) -> str:
    """Give the error in ulps; beside zero, whose ulps say nothing, in words."""
    if _NUMBER.fullmatch(found.exact) and float(found.exact.partition("e")[0]) == 0:
        return " (exactly zero: all of it is error)"
    if not math.isfinite(found.error_ulps):
        return ""
    return f" ({found.error_ulps:.3g} ulps of {found.dtype} where {found.allowed_ulps:.3g} are allowed)"


def _indented(text: str) -> str:
    return "  " + text.replace("\n", "\n  ")


# Whoever is to be told of every report, as a pytest session that writes one of its own.
listeners: list[Callable[[GradcheckReport], None]] = []
