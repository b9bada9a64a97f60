"""Findings: one failed check, its numbers, how severe it is, and the line that replays it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffverify.exact.formats import FORMATS, Format

from .verdict import Verdict


def lost_ulps(fmt: Format, *, strict: bool) -> float:
    """Give how many ulps a number may be off until that is an error: half of its digits.

    Strictly it is a quarter of them: what right code loses beyond its conditioning are a few ulps.
    """
    return float(2.0 ** (fmt.precision / (4 if strict else 2)))


@dataclass(frozen=True)
class Finding:
    """One failed check.

    Attributes
    ----------
    kind
        The verdict, never ``correct``.
    where
        What was computed, as in ``softplus'(40.0)``.
    computed, exact
        The number that came out, and the exact one to 60 digits; a sentence and nothing where no number
        says what is amiss.
    error_ulps, allowed_ulps
        The error and the bound, in ulps of the exact result.
    dtype
        The format that the computation ran in.
    reason
        What the numbers do not say by themselves.
    replay
        A command that shows the finding again.
    mode
        How the number was computed: "reverse", "forward", at second order "rr", "fr", "rf", "ff".
    index
        Which element of its array it is.
    hint
        A known mistake that makes such numbers.
    tail
        Whether the loss is only relative: the absolute error is within rounding of the natural scale, which
        under strict is that of sums of several inputs only.
    aside
        Whether it is a function's own value, where it was the caller's derivative of it that was asked for.
    beyond
        Whether it needs inputs beyond the fourth root of the format's range, which nobody asked for.
    strict
        Whether a loss of more than a quarter of the digits is an error.
    known
        Why it is known to fail; empty if it is not.
    part
        What fails, whatever the input: ``softplus``, ``softplus' reverse``, or a statement's words.
    """

    kind: Verdict
    where: str
    computed: str
    exact: str
    error_ulps: float
    allowed_ulps: float
    dtype: str
    reason: str = ""
    replay: str = ""
    mode: str = ""
    index: tuple[int, ...] = ()
    hint: str = ""
    tail: bool = False
    aside: bool = False
    beyond: bool = False
    strict: bool = False
    known: str = ""
    part: str = ""

    @property
    def severity(self) -> str:
        """``"error"``, or ``"warning"``: of losses of less than half the digits, only a tail's, or aside."""
        if self.kind is Verdict.INCONCLUSIVE or self.beyond:
            return "warning"
        few = self.error_ulps <= lost_ulps(FORMATS[self.dtype], strict=self.strict)
        excused = self.kind is Verdict.IMPRECISE and (few or self.tail or self.aside)
        return "warning" if excused else "error"

    @property
    def beside(self) -> str:
        """The words between the number and the exact one: of what is not decided nothing is amiss."""
        undecided = self.kind is Verdict.INCONCLUSIVE
        return "and the exact number is" if undecided else "but should be"

    @property
    def digits_lost(self) -> float:
        """Decimal digits of the format that the number does not have right (infinite if none)."""
        return float(np.log10(max(self.error_ulps, 1.0)))

    def __str__(self) -> str:
        should = f", {self.beside} {self.exact}" if self.exact else ""
        size = (
            f"{self.error_ulps:.3g} ulps of {self.dtype} where {self.allowed_ulps:.3g} are allowed"
        )
        ulps = f" ({size})" if np.isfinite(self.error_ulps) and self.exact else ""
        notes = "".join(f"\n  {note}" for note in (self.reason, self.hint, self.replay) if note)
        what = f"{self.where} = {self.computed}" if self.exact else f"{self.where}: {self.computed}"
        return f"{self.kind}: {what}{should}{ulps}{notes}"
