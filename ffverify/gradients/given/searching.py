"""The search for inputs that fail: edges of the program first, then what is drawn; what fails is shrunk."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ffverify.frameworks.arrays import to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.frameworks.trees import flatten
from ffverify.gradients.judge.numbers import Screening
from ffverify.truth.differences import TOGETHER
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .extremes import held_within, is_free, limit
from .slots import Slots, drawn

if TYPE_CHECKING:
    from ffverify.gradients.check import Begun, Check

    from .drawing import Drawing

GRAVITY = (Verdict.WRONG, Verdict.NONFINITE, Verdict.IMPRECISE, Verdict.INCONCLUSIVE)
_FIRST = 3  # ordinary inputs drawn before the search, for the last of which edges are sought
_MOST = 32  # inputs that are begun with at a time
_NEARER = 6  # octaves nearer at which one of two signs of a cotangent shows, but for one in 64
_SHRINKS = 80  # inputs tried to make a failing one smaller


class _Failure(AssertionError):
    """Carries what failed at one point through Hypothesis."""


@dataclass
class _Trials:
    """What is tried. ``failures`` are errors and inputs, by what was drawn, the last one the smallest."""

    check: Check
    slots: Slots
    gravest: int  # what is shrunk must not become something milder
    failures: dict[Any, tuple[list[Any], Any]] = field(default_factory=dict)

    @property
    def are_over(self) -> bool:
        """Whether there is no time left; one input is checked whatever that takes."""
        return bool(self.check.points) and self.check.clock.is_over

    def fails(self, values: Sequence[Any], begun: Begun | None = None) -> bool:
        """Check an input; keep what was found if it is no milder than what is known."""
        self.check.errors.clear()
        _try(self.check, self.slots, values, begun)
        if not self.check.errors or self.check.gravest() > self.gravest:
            self.check.errors.clear()
            return False
        self.failures[_key(values)] = (list(self.check.errors), self.check.inputs)
        self.check.confirms = False  # of what is simpler, only the simplest has to be
        return True

    def still_fails(self, values: Sequence[Any]) -> bool:
        """Check an input that is simpler than one that fails, if there is time left."""
        if self.are_over:
            return False
        (begun,) = self.check.begin_together([self.slots.filled(values)])
        return self.fails(values, begun)

    def first(self, many: Sequence[Sequence[Any]]) -> int | None:
        """Check inputs, as many at a time as are no burden, up to the first that fails; say which it is."""
        for i, (values, begun) in enumerate(_begun(self.check, self.slots, many)):
            if self.are_over or self.fails(values, begun):
                return i if self.failures else None
        return None


def search(check: Check, slots: Slots, max_examples: int) -> None:
    """Draw inputs, and shrink what fails."""
    given: list[Any] = slots.given
    sweeps: list[tuple[list[Any], list[Any]]] = []
    with contextlib.suppress(Exception):  # what fails at a first input is reported below
        given, sweeps = _sharpened(check, slots)
    unshrunk: tuple[list[Any], Any] | None = None
    trials = _Trials(check, slots, check.gravest())
    try:
        tried = [values for values, _ in sweeps[:max_examples]]
        for (values, begun), (_, narrow) in zip(_begun(check, slots, tried), sweeps, strict=False):
            if check.clock.is_over:
                break
            _try(check, slots, values, begun)
            if check.gravest() < trials.gravest:
                trials.gravest, unshrunk = check.gravest(), (list(check.errors), check.inputs)
                given = narrow
            check.errors.clear()
            if trials.gravest < GRAVITY.index(Verdict.IMPRECISE):
                break
        from .drawing import (
            Drawing,
        )  # which loads Hypothesis: a check of one point has no use for it

        drawing = Drawing.of(given, check.seed)
        if drawing is None:
            _by_hypothesis(trials, given, max_examples)
        else:
            _as_wholes(trials, drawing, max_examples)
    finally:  # on Ctrl-C too
        kept = [*([unshrunk] if unshrunk else []), *trials.failures.values()]
        check.confirm()
        while kept and not check.errors:
            check.errors, check.inputs = kept.pop()
            check.confirm()


def _as_wholes(trials: _Trials, drawing: Drawing, max_examples: int) -> None:
    numbers = drawing.numbers(max_examples)
    size = 1
    while some := list(itertools.islice(numbers, size)):
        values = [drawing.values(each) for each in some]
        # Where one of the first fails few were begun in vain.
        size = min(4 * size, _together(values[0]))
        failing = trials.first(values)
        if trials.are_over:
            return
        if failing is not None:
            drawing.simplify(some[failing], _SHRINKS, trials.still_fails)
            return


def _by_hypothesis(trials: _Trials, given: Sequence[Any], max_examples: int) -> None:
    """Let Hypothesis draw inputs; of one that fails it draws the same ones again, and shrinks it."""
    from ffverify.search import search as searched

    waiting: list[tuple[Any, ...]] = []
    shrinks = 0

    def collect(values: tuple[Any, ...]) -> None:
        if trials.failures:
            raise _Failure
        waiting.append(values)
        if len(waiting) >= (_together(waiting[0]) if trials.check.points else 1):
            trials.first(waiting)
            waiting.clear()

    def shrink(values: tuple[Any, ...]) -> None:
        nonlocal shrinks
        key = _key(values)
        if key not in trials.failures:
            if not shrinks or shrinks > _SHRINKS or trials.are_over:
                return  # it is known to hold, or the smallest failure so far is small enough
            shrinks += 1
            if not trials.fails(values):
                return
        shrinks = shrinks or 1
        errors, trials.check.inputs = trials.failures[key]
        trials.check.errors = list(errors)
        raise _Failure

    options: dict[str, Any] = {"seed_value": trials.check.seed, "max_examples": max_examples}
    with contextlib.suppress(_Failure):
        searched(drawn(given), collect, shrink=False, **options)
    trials.first(waiting)
    if trials.failures:
        with contextlib.suppress(_Failure):  # check.errors: what the smallest failing input gave
            searched(drawn(given), shrink, **options)


def _sharpened(check: Check, slots: Slots) -> tuple[list[Any], list[tuple[list[Any], list[Any]]]]:
    """Find the edges of the program from a first input (see `ffverify.gradients.edges.sharpened`)."""
    from ffverify.gradients.edges import sharpened
    from ffverify.search import search

    first: list[Any] = []
    from .drawing import Drawing

    drawing = Drawing.of(slots.given, check.seed)
    if drawing is None:
        search(drawn(slots.given), first.append, seed_value=check.seed, max_examples=_FIRST)
    else:
        rng = np.random.default_rng(check.seed)
        first += [drawing.values(drawing.generic(rng)) for _ in range(_FIRST)]
    if check.strict:
        natives = [check.subject(slots.filled(values))[1] for values in first]
        check.ordinary = [[to_numpy(a) for a in native] for native in natives]
    made, native = check.subject(slots.filled(first[-1]))
    if not slots.is_ranged:
        return slots.given, []
    results = made.value(native)
    places = slots.places(made.labels)
    aligned = [native[j] if i is None else slots.given[i] for j, i in enumerate(places)]
    given, sweeps = sharpened(aligned, check.oracles.at(made, native, results), native, results)

    def back(values: list[Any], otherwise: Sequence[Any]) -> list[Any]:
        out = list(otherwise)
        for i, value in zip(places, values, strict=True):
            if i is not None:
                out[i] = value
        return out

    return back(given, slots.given), [
        (back(values, first[-1]), back(narrow, slots.given)) for values, narrow in sweeps
    ]


def _together(values: Sequence[Any]) -> int:
    """Give how many inputs of this size are begun with at a time."""
    leaves = (leaf.value for value in values for leaf in flatten(value).leaves)
    size = sum(np.size(to_numpy(a)) for a in leaves if framework_of(a).is_array(a))
    return max(min(_MOST, TOGETHER // (8 * max(size, 1))), 1)


def _begun(
    check: Check, slots: Slots, many: Sequence[Sequence[Any]]
) -> Iterator[tuple[Sequence[Any], Begun | None]]:
    """Begin with inputs, as many at a time as are no burden; the first is checked before others are begun."""
    start = 0
    while start < len(many):
        size = _together(many[start]) if check.points else 1
        some = many[start : start + size]
        filled = [slots.filled(values) for values in some]
        yield from zip(some, check.begin_together(filled), strict=True)
        start += size


def _key(values: Sequence[Any]) -> Any:
    return tuple(map(_fingerprint, values))


def _try(check: Check, slots: Slots, values: Sequence[Any], begun: Begun | None = None) -> None:
    """Check one point; what nobody asked for numbers so large or small for is kept as a warning."""
    beside = check.beside
    check.at(slots.filled(values) if begun is None else begun.inputs, begun)
    if is_free(values, slots.given):
        _set_apart(check)
    if not check.errors or held_within(values, slots.given) is None:
        return
    beyond = dict[Any, Any]()
    for judged, make in check.errors:
        kind = make().kind if judged is None else judged.kind
        key = ("range", kind, judged and judged.mode, judged and judged.argument)
        beyond.setdefault(key, (judged, make))
    # Of many faults only some cotangents tell, and every input has its own; what fails beside 0 may at 0.
    inside = [held_within(values, slots.given, zeros=True)]
    inside += [held_within(values, slots.given, nearer) for nearer in range(_NEARER)]
    for moved in inside if beyond.keys() - check.warnings.keys() else inside[:2]:
        check.errors, check.beside = [], beside
        check.at(slots.filled(moved or values))
        if check.errors:
            return
    for key, (judged, make) in beyond.items():
        check.warnings.setdefault(key, (0.0, judged, partial(_beyond, check, make, slots, values)))


def _set_apart(check: Check) -> None:
    """Keep as warnings that numbers overflowed which are so large that sums on the way to them may."""
    errors, check.errors = check.errors, []
    for judged, make in errors:
        if judged is None or not judged.ends_range:
            check.errors.append((judged, make))
            continue
        key = ("range", judged.kind, judged.mode, judged.argument)
        told = partial(_at_end, make, judged.point.growth)
        check.warnings.setdefault(key, (0.0, judged, told))


def _at_end(make: Callable[[], Finding], growth: int) -> Finding:
    made = make()
    words = (
        f"It is within a factor of {growth} of the largest number: sums on the way to it overflow."
    )
    return replace(made, beyond=True, reason=f"{words} {made.reason}".strip())


def _beyond(
    check: Check, make: Callable[[], Finding], slots: Slots, values: Sequence[Any]
) -> Finding:
    """Make a finding at inputs beyond the root of the range: say how far the check holds."""

    def holds(moved: list[Any]) -> bool:
        other = replace(
            check, found=Screening(), errors=[], warnings={}, warned=set(), modes={},
            beside=True, confirms=False,
        )  # fmt: skip
        other.at(slots.filled(moved))
        return not other.errors

    made = make()
    words = limit(values, slots.given, holds)
    return replace(made, beyond=True, reason=f"{words} {made.reason}".strip())


def _fingerprint(value: Any) -> Any:
    """Give something to tell drawn values apart by."""
    if hasattr(value, "dtype") and framework_of(value).is_array(value):
        held = to_numpy(value)
        return held.tobytes(), held.shape
    tree = flatten(value)
    if len(tree.leaves) == 1 and tree.leaves[0].value is value:
        return repr(value)
    return tuple((leaf.label, _fingerprint(leaf.value)) for leaf in tree.leaves)
