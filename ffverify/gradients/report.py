"""What a gradient check found: for people (``print(report)``), machines and plots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .judge.judged import Judged


class GradcheckError(AssertionError):
    """A gradient check failed; ``report`` has everything."""

    def __init__(self, report: GradcheckReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class GradcheckReport:
    """What a gradient check found.

    Attributes
    ----------
    name
        The function.
    verdict
        The worst that was found; ``correct`` if nothing was.
    findings
        Errors first, then warnings.
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
        The largest error that was looked at closely, in ulps of the exact value.
    sensitivity
        The smallest error in a single element of a gradient, in units of its largest element, that
        each of the inputs would have revealed, as long as conditioning does not allow more: how far the
        gradient moves with its inputs is measured only where an error makes it matter.
    inputs
        The inputs of the first finding (shrunk), or the last ones tried, as gradcheck takes them.
    data
        Floats that were not differentiated by, by name, and why.
    notes
        Why the truth rests on less than an exact program, where it does.
    seconds
        How long it took.
    """

    name: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    truth: str
    derivatives: str
    modes: tuple[str, ...]
    skipped: dict[str, str]
    points: int
    judged: int
    worst_ulps: float
    sensitivity: float
    inputs: tuple[Any, ...] | dict[str, Any]
    data: dict[str, str]
    notes: tuple[str, ...]
    seconds: float
    _again: Callable[[], GradcheckReport] = field(repr=False, compare=False)
    _failed: tuple[Judged, ...] = field(default=(), repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether something was judged and nothing is an error."""
        return self.judged > 0 and not any(f.severity == "error" for f in self.findings)

    def __bool__(self) -> bool:
        return self.ok

    def replay(self) -> GradcheckReport:
        """Check the input of the first finding (or the last input) again; nothing is raised."""
        return self._again()

    def __str__(self) -> str:
        head = f"gradcheck of {self.name}: {self.verdict}" + (
            "" if self.ok or self.verdict != "correct" else " (nothing could be judged)"
        )
        lines = [head, *(_indented(f"{f.severity}: {f}") for f in self.findings)]
        lines.append(f"  derivatives: {self.derivatives}")
        lines.append(
            f"  truth: {self.truth}; modes: {', '.join(self.modes) or 'none'}; {self.points} inputs, "
            f"{self.judged} numbers; worst error {self.worst_ulps:.3g} ulps; {self.seconds:.2f} s"
        )
        if self.sensitivity:
            lines.append(
                f"  In any single element, an error of {self.sensitivity:.2g} of the largest would "
                "have been seen, unless the inputs' own rounding explains it."
            )
        lines += [f"  not differentiated: {what} ({why})" for what, why in self.data.items()]
        lines += [f"  no exact program: {note}" for note in self.notes]
        lines += [
            f"  not checked: {what if what.startswith('result') else f'{what} mode'} ({why})"
            for what, why in sorted(self.skipped.items())
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain dicts, lists, numbers and strings."""
        return {
            "name": self.name, "ok": self.ok, "verdict": str(self.verdict), "truth": self.truth,
            "derivatives": self.derivatives,
            "modes": list(self.modes), "skipped": dict(self.skipped), "points": self.points,
            "judged": self.judged, "worst_ulps": self.worst_ulps, "sensitivity": self.sensitivity,
            "data": dict(self.data),
            "notes": list(self.notes),
            "seconds": self.seconds,
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

        if not self._failed:
            raise ValueError("nothing failed, so there is no direction to draw: see print(report)")
        return plot_error(self._failed[0], ax)


def _indented(text: str) -> str:
    return "  " + text.replace("\n", "\n  ")
