"""Is this gradient right? ``gradcheck(fn, inputs)`` answers with proof, and no tolerance to tune.

>>> import numpy as np
>>> from ffverify import gradcheck
>>> gradcheck(lambda x: np.log1p(np.exp(x)), np.array([0.5, -3.0])).ok
True

The derivatives that a function's own framework (or the caller) computes are compared with the exact
derivative of the function, from the same program run in high precision. The verdict says whether
the formula is wrong, or right but computed with a loss of digits, or not finite.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, is_floating
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.framework import framework_of
from ffverify.truth.slopes import Unresolved
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .evaluation import Point
from .findings import code, finding
from .function_under_test import Fault, FunctionUnderTest, subject
from .judge.judged import Judged, Screening
from .judge.questions import judge
from .laws import RANDOM, is_random, mutations, side_checks
from .report import GradcheckError, GradcheckReport
from .truth_sources import TruthSources

_FIRST = 3  # inputs drawn before the search, for the last of which edges are sought
_CALLS = 4  # of a function that seems to be wrong, to see that it is not random
_SHRINKS = 80  # inputs tried to make a failing one smaller
_ORDER = (Verdict.WRONG, Verdict.NONFINITE, Verdict.IMPRECISE, Verdict.INCONCLUSIVE)


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    truth: Callable[..., Any] | str | None = None,
    order: int = 1,
    strict: bool = False,
    max_examples: int = 200,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Check the derivatives of a function against exact ones.

    Parameters
    ----------
    fn
        A function of NumPy, torch or JAX arrays that returns an array, or arrays in tuples, lists and
        dicts, or a torch module (its parameters are checked too).
    inputs
        One array or Hypothesis strategy, or a tuple or list of them. Arrays are one point; strategies
        are searched and shrunk. Integer arrays are data.
    vjp, jvp
        The caller's own derivatives, ``vjp(cotangent, *inputs)`` (a tuple of cotangents for several
        results) and ``jvp(tangents, *inputs)``. By default the framework's own modes are checked,
        for NumPy functions those of `ffverify.reference`.
    truth
        A plain NumPy function taken as the definition, or a name of the textbook catalogue.
    order
        2 checks the derivatives of both modes by both modes as well.
    strict
        Small and only relative losses of digits are errors too. What conditioning allows stays allowed.
    max_examples, seed
        How many inputs to draw from strategies, and the seed of everything random.
    raise_exception
        Raise `GradcheckError` if the check fails.

    Raises
    ------
    GradcheckError
        If an error is found, or if nothing could be judged.
    TypeError
        If ``fn`` cannot be called, or an input is no array of numbers.
    ValueError
        If ``order`` is neither 1 nor 2, the inputs are empty, or ``max_examples`` or ``seed`` is no
        count.
    """
    __tracebackhide__ = True
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}, which cannot be called: give a function of arrays")
    if order not in (1, 2):
        raise ValueError(f"order={order!r}: gradcheck knows order=1 and order=2")
    counts: list[tuple[str, Any, int]] = [("max_examples", max_examples, 1), ("seed", seed, 0)]
    for name, value, least in counts:
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}={value!r}: give an integer from {least} on")
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if not given:
        raise ValueError("inputs is empty: give at least one array or strategy")
    check = _Check(fn, vjp, jvp, truth, order, strict, seed)
    began = time.perf_counter()
    if any(_is_strategy(i) for i in given):
        check.search(given, max_examples)
    else:
        check.at([_array(i) for i in given])
    report = check.report(time.perf_counter() - began)
    if raise_exception and not report.ok:
        raise GradcheckError(report)
    return report


def _is_strategy(value: Any) -> bool:
    return type(value).__module__.startswith("hypothesis") and hasattr(value, "example")


def _array(value: Any) -> Any:
    if hasattr(value, "dtype") and not isinstance(value, np.ndarray):
        return value  # torch's, JAX's
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"input {value!r} is of dtype {array.dtype}: give arrays of real floats, or integers as data"
        )
    return array


class _Failure(AssertionError):
    """Carries what failed at one point through Hypothesis."""


@dataclass
class _Check:
    """One call of gradcheck: what was asked, and what has been found so far."""

    fn: Callable[..., Any]
    vjp: Callable[..., Any] | None
    jvp: Callable[..., Any] | None
    truth: Callable[..., Any] | str | None
    order: int
    strict: bool
    seed: int
    found: Screening = field(default_factory=Screening)
    points: int = 0
    errors: list[tuple[Any, Callable[[], Finding]]] = field(default_factory=list)
    warnings: dict[Any, tuple[float, Any, Callable[[], Finding]]] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    modes: dict[str, None] = field(default_factory=dict)
    name: str = "f"
    beside: bool = False
    second: int = 0

    def __post_init__(self) -> None:
        self.oracles = TruthSources(self.truth)

    def search(self, given: list[Any], max_examples: int) -> None:
        """Let Hypothesis draw inputs, and shrink what fails."""
        from hypothesis import strategies as st

        from ffverify.search import search

        def all_of(given: list[Any]) -> st.SearchStrategy[Any]:
            return st.tuples(*(i if _is_strategy(i) else st.just(_array(i)) for i in given))

        drawn = all_of(given)
        sweeps: list[tuple[list[Any], list[Any]]] = []
        with contextlib.suppress(Exception):  # what fails at a first input is reported below
            given, sweeps = self._sharpened(given, drawn)
            drawn = all_of(given)
        unshrunk: tuple[list[Any], list[Any]] | None = None
        gravest = len(_ORDER)  # what is shrunk must not become something milder
        for inputs, narrow in sweeps[:max_examples]:
            self.at(inputs)
            if self._gravest() < gravest:
                gravest, unshrunk = self._gravest(), (list(self.errors), inputs)
                drawn = all_of(narrow)
            self.errors.clear()
            if gravest < _ORDER.index(Verdict.IMPRECISE):
                break
        failures: dict[bytes, tuple[list[Any], list[Any]]] = {}
        shrinks = 0

        def examine(drawn_inputs: tuple[Any, ...]) -> None:
            nonlocal shrinks
            inputs = [_array(i) for i in drawn_inputs]
            key = b"".join(to_numpy(i).tobytes() for i in inputs)
            if key not in failures:
                if shrinks >= _SHRINKS:
                    return  # the smallest failure so far is small enough
                shrinks += bool(failures)
                self.errors.clear()
                self.at(inputs, searching=True)
                if not self.errors or self._gravest() > gravest:
                    self.errors.clear()
                    return
                failures[key] = (list(self.errors), inputs)
            self.errors, self.inputs = list(failures[key][0]), failures[key][1]
            raise _Failure

        with contextlib.suppress(_Failure):  # self.errors: what the smallest failing input gave
            search(drawn, examine, seed_value=self.seed, max_examples=max_examples)
        if unshrunk is not None and not self.errors:
            self.errors, self.inputs = unshrunk

    def _sharpened(
        self, given: list[Any], drawn: Any
    ) -> tuple[list[Any], list[tuple[list[Any], list[Any]]]]:
        """Find the edges of the program from a first input (see `ffverify.gradients.edges.sharpened`)."""
        from ffverify import strategies
        from ffverify.search import search

        from .edges import sharpened

        if not any(_is_strategy(i) and strategies.arguments(i) for i in given):
            return given, []
        first: list[Any] = []
        search(drawn, first.append, seed_value=self.seed, max_examples=_FIRST)
        made, native = subject(self.fn, list(first[-1]), vjp=self.vjp, jvp=self.jvp)
        results = made.value(native)
        return sharpened(given, self.oracles.at(made, native, results), native, results)

    def at(self, inputs: list[Any], *, searching: bool = False) -> None:
        """Check one point; keep what fails."""
        self.points += 1
        # The function gets copies: the caller's arrays stay what they are, whatever it does with its own.
        self.inputs = [framework_of(i).as_computed(i) for i in inputs]
        inputs = [framework_of(i).copied(i) for i in self.inputs]
        made, native = subject(self.fn, inputs, vjp=self.vjp, jvp=self.jvp)
        self.name = made.name
        try:
            with np.errstate(all="ignore"):  # infinities and nan are findings, not warnings
                worst = self._examine(made, native)
        except Fault as fault:
            self._complain(fault.kind, str(fault), "", native)
            return
        except Unresolved as unresolved:
            self._complain(
                Verdict.INCONCLUSIVE, f"a branch stays undecided at any precision: {unresolved}", "", native
            )  # fmt: skip
            return
        except Exception as error:  # noqa: BLE001 - exact programs of foreign code fail in any way
            self._complain(
                Verdict.INCONCLUSIVE,
                f"its exact program cannot be run here: {type(error).__name__}: {error}",
                "give truth=, a plain NumPy function, as the definition",
                native,
            )
            return
        if searching:
            from hypothesis import target

            target(min(worst, 1e300), label="largest error in ulps")

    def _examine(self, made: FunctionUnderTest, native: list[Any]) -> float:
        before = [to_numpy(a).copy() for a in native]
        results = made.value(native)
        changed = list(mutations(native, before, "the function"))
        if changed:
            raise Fault(changed[0][1], Verdict.WRONG)
        if results and not self.beside:
            self.beside = True
            amiss = list(side_checks(made, native, results, self.seed))
            for kind, sentence, hint in amiss:
                self._complain(kind, sentence, hint, native)
            if amiss and not any(is_floating(r) for r in results):
                return 0.0
            if any(kind is Verdict.INCONCLUSIVE for kind, _, _ in amiss):
                self.beside = False
                return 0.0
        found = self._screened(made, native, results)
        kinds = {judged.kind for judged in found.failed}
        if self.errors and is_random(made, native, results, calls=_CALLS):
            self.errors.clear()  # a random function is accused of nothing else
            raise Fault(RANDOM)
        if self.order == 2 and kinds <= {Verdict.INCONCLUSIVE, Verdict.IMPRECISE}:
            self._second_order(made, native, results, lossy=Verdict.IMPRECISE in kinds)
        return found.worst_ulps

    def _screened(
        self, made: FunctionUnderTest, native: list[Any], results: list[Any], *, lossy: bool = False
    ) -> Screening:
        """Screen one point and keep what fails; where it is ``lossy`` by itself, no lost digits."""
        if not any(is_floating(r) for r in results):
            raise Fault(f"{made.name} returns no floating-point array")
        if not any(is_floating(a) for a in native):
            raise Fault(f"{made.name} has no floating-point input to differentiate by")
        if not any(to_numpy(a).size for a in native if is_floating(a)):
            raise Fault(f"{made.name} has no numbers to differentiate by: its inputs are empty")
        formulas = self.oracles.at(made, native, results)
        point = Point(made, native, formulas, self.seed, self.strict, results)
        found = judge(point)
        self.modes |= dict.fromkeys(
            m for m in (made.reverse, made.forward) if m and m not in found.skipped
        )
        self.found.judged += found.judged
        self.found.worst_ulps = max(self.found.worst_ulps, found.worst_ulps)
        self.found.sensitivity = max(self.found.sensitivity, found.sensitivity)
        self.found.skipped |= found.skipped
        for judged in found.failed:
            if not (lossy and judged.kind is Verdict.IMPRECISE):
                self._keep(judged)
        return found

    def _second_order(
        self, made: FunctionUnderTest, native: list[Any], results: list[Any], *, lossy: bool
    ) -> None:
        """Check the derivative programs of both modes as functions in their own right.

        Digits that the first derivative loses here, the second loses as well: that is said once.
        """
        rng = np.random.default_rng([self.seed, 2])
        cotangents = [_weights(r, rng) for r in results]
        tangents = [_weights(a, rng) for a in native]
        inner = []
        if made.reverse:
            inner.append(made.pulled_back(cotangents))
        if made.forward and made.forward not in self.found.skipped:
            inner.append(made.pushed_forward(tangents))
        for derivative in inner:
            try:
                self._screened(derivative, native, derivative.value(native), lossy=lossy)
                self.second += 1
            except Fault as fault:
                self.found.skipped[f"{derivative.reverse}, {derivative.forward}"] = str(fault)
        if not self.second:
            reasons = "; ".join(dict.fromkeys(self.found.skipped.values())) or "no mode can be run"
            self._complain(
                Verdict.INCONCLUSIVE,
                f"no second derivative could be checked: {reasons}",
                "",
                native,
            )

    def _keep(self, judged: Judged) -> None:
        quick = Finding(
            judged.kind, "", "", "", judged.error_ulps, judged.allowed_ulps,
            judged.point.fmt.name, tail=judged.tail, strict=self.strict,
        )  # fmt: skip
        if quick.severity == "error":
            self.errors.append((judged, lambda: finding(judged)))
            return
        key = (judged.mode, judged.kind, judged.argument)
        if key not in self.warnings or self.warnings[key][0] < judged.error_ulps:
            self.warnings[key] = (judged.error_ulps, judged, lambda: finding(judged))

    def _gravest(self) -> int:
        kinds = (make().kind if judged is None else judged.kind for judged, make in self.errors)
        return min(map(_ORDER.index, kinds), default=len(_ORDER))

    def _complain(self, kind: Verdict, sentence: str, hint: str, native: list[Any]) -> None:
        made = Finding(
            kind, self.name, sentence, "", np.inf, 0.0, coarsest(native).name,
            hint=f"Hint: {hint}" if hint else "", replay=code(self.name, native),
            strict=self.strict,
        )  # fmt: skip
        if made.severity == "error":
            self.errors.append((None, lambda: made))
        else:
            self.warnings.setdefault(sentence, (0.0, None, lambda: made))

    def report(self, seconds: float) -> GradcheckReport:
        """Make the findings and the report."""
        kept = [*self.errors, *((j, m) for _, j, m in self.warnings.values())]
        findings = sorted(
            (make() for _, make in kept),
            key=lambda f: (f.severity != "error", _ORDER.index(f.kind)),
        )
        failed = tuple(j for j, _ in kept if j is not None)
        inputs = tuple(self.inputs)

        def again() -> GradcheckReport:
            return gradcheck(
                self.fn, list(inputs), vjp=self.vjp, jvp=self.jvp, truth=self.truth, order=self.order,
                strict=self.strict, seed=self.seed, raise_exception=False,
            )  # fmt: skip

        return GradcheckReport(
            name=self.name,
            verdict=min((f.kind for f in findings), key=_ORDER.index, default=Verdict.CORRECT),
            findings=tuple(findings),
            truth=self.oracles.name,
            modes=tuple(self.modes),
            skipped=self.found.skipped,
            points=self.points,
            judged=self.found.judged,
            worst_ulps=self.found.worst_ulps,
            sensitivity=self.found.sensitivity,
            inputs=inputs,
            notes=tuple(self.oracles.reasons),
            seconds=seconds,
            _again=again,
            _failed=failed,
        )


def _weights(value: Any, rng: np.random.Generator) -> Any:
    if not is_floating(value):
        return None
    shape = to_numpy(value).shape
    numbers: Array = rng.choice([-1.0, 1.0], shape) * rng.choice([1.0, 1.25, 1.5, 1.75], shape)
    return like(value, numbers)
