"""One check: its inputs one after another, what is asked of each, and what has been found so far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from ffverify.exact.elements import Undecided
from ffverify.exact.formats import Array, is_floating
from ffverify.exact.programs import Program
from ffverify.frameworks.arguments import arguments, refusal_of
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.framework import framework, framework_of
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict

from .evaluation import Point
from .findings import finding
from .function_under_test import Call, Clock, Fault, FunctionUnderTest, is_lambda, subject, written
from .given.derivatives import MODES, Derivatives, diagonal
from .given.searching import GRAVITY
from .judge.numbers import Judged, Screening
from .judge.questions import judge, look_ahead
from .laws.multiples import far_multiples
from .laws.primals import other_values
from .laws.randomness import DRAWS, RANDOM, VARIES, draws, is_random, varies
from .laws.side_checks import lasting_checks, mutations, side_checks
from .reporting.reproduction import code
from .truth_sources import ExactPrograms, TruthSources

_CALLS = 4  # of a function that seems to be wrong for the first time, to see that it is not random
_GRAVE = {Verdict.WRONG, Verdict.NONFINITE}

# What numbers of a mode are judged by; to see which program of one runs takes a trace of it.
_PROGRAMS: dict[str, Callable[[ExactPrograms], Program | None]] = {
    "value": lambda known: known.forward,
    "reverse": lambda known: known.backward(),
    "forward": lambda known: known.tangent(),
}

Kept = tuple[Any, Callable[[], Finding]]  # what was judged, None of a complaint, and its finding


@dataclass
class Begun:
    """An input that a function was called with: ``before`` are its numbers before the call."""

    inputs: Any
    made: FunctionUnderTest
    native: list[Any]
    before: list[Array]
    results: list[Any]
    point: Point | None = None


@dataclass
class Check:
    """What was asked of a function, and what has been found so far."""

    fn: Callable[..., Any]
    own: Derivatives
    truth: Callable[..., Any] | str | None
    order: int
    strict: bool
    seed: int
    clock: Clock
    progress: Callable[[str], Any] | None = None
    found: Screening = field(default_factory=Screening)
    points: int = 0
    errors: list[Kept] = field(default_factory=list)
    warnings: dict[Any, tuple[float, Any, Callable[[], Finding]]] = field(default_factory=dict)
    inputs: Any = None
    ordinary: list[list[Array]] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)
    irreversible: str = ""  # why its framework cannot differentiate it in reverse mode
    modes: dict[str, None] = field(default_factory=dict)
    name: str = "f"
    framework: str = "numpy"
    native: list[Any] = field(default_factory=list)
    beside: bool = False
    lasting: bool = False
    far: bool = False
    lawful: bool = True
    steady: bool = False
    confirms: bool = True
    second: int = 0
    warned: set[tuple[str, int]] = field(default_factory=set)
    known: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = self.own.vjp, self.own.jvp, self.own.gradient, self.own.hessian_diagonal
        self.oracles = TruthSources(self.truth, self.fn, own)

    def subject(self, inputs: Any) -> tuple[FunctionUnderTest, list[Any]]:
        """Take inputs apart; the function is given copies, whatever it does with them."""
        given = arguments(self.fn, inputs)
        if self.order == 2 and given.is_curved:
            raise ValueError(
                "order=2 needs flat inputs, and these are on a curved manifold: take order=1"
            )
        if (
            given.is_complex
            and not self.own.own
            and framework_of(*given.arrays, self.fn).name == "numpy"
        ):
            raise TypeError(
                "complex inputs of a NumPy function need vjp= or jvp=: ffverify.reference is real"
            )
        given = replace(given, arrays=[framework_of(a).as_computed(a) for a in given.arrays])
        self.inputs = given.given(given.arrays)
        fn, vjp = self.own.of(self.fn)
        made, native = subject(
            fn, given, vjp=vjp, jvp=self.own.jvp, data=self.data, clock=self.clock
        )
        reverse, forward = self.own.checked()
        reverse = "" if self.irreversible else reverse
        known = self.known if self.found.judged else None  # a check of one input has no use for it
        made = replace(made, reverse=reverse, forward=forward, call=self._call, known=known)
        return made, [framework_of(a).copied(a) for a in native]

    @cached_property
    def _call(self) -> Call:
        """Give how the check was called, without what was left as it is by default."""
        own = {k: v for k, v in vars(self.own).items() if v is not None and k != "modes"}
        options: dict[str, Any] = {
            k: v if not callable(v) else k if is_lambda(v) else written(v) for k, v in own.items()
        }
        if tuple(self.own.modes) != MODES:
            options["modes"] = repr(self.own.modes)
        if self.truth is not None:
            options["truth"] = written(self.truth) if callable(self.truth) else repr(self.truth)
        options |= {"order": self.order} if self.order != 1 else {}
        options |= {"strict": True} if self.strict else {}
        options |= {"seed": self.seed} if self.seed else {}
        given: Call = getattr(self.fn, "ffverify_call", None) or Call(written(self.fn))
        if given.by != "gradcheck":
            options.pop("vjp", None)
        return replace(given, options="".join(f", {k}={v}" for k, v in options.items()))

    def at(self, inputs: Any, begun: Begun | None = None) -> None:
        """Check one point, which may be begun with; keep what fails."""
        try:
            self._at(inputs, begun)
            if self.confirms:
                self.confirm()
        finally:
            if self.progress is not None:
                self.progress(self.name)

    def begin_together(self, many: Sequence[Any]) -> list[Begun | None]:
        """Begin with many inputs, and run the exact programs that hold at all of them as one batch.

        None for an input that has to be checked alone: the first, one for which something goes wrong, and
        where there is no time left.
        """
        begun = [None if self.clock.is_over else self._begun(inputs) for inputs in many]
        kinds: dict[Any, list[Point]] = {}
        for each in begun:
            if each is not None and each.point is not None:
                kinds.setdefault(id(each.point.formulas.forward), []).append(each.point)
        for points in kinds.values():
            first = points[0]
            with (
                contextlib.suppress(Exception),
                np.errstate(all="ignore"),
                first.subject.framework.scope(first.native),
            ):
                look_ahead(points)
        return begun

    def _begun(self, inputs: Any) -> Begun | None:
        if not self.points:
            return None
        with contextlib.suppress(Exception):  # it is told when the input is checked alone
            made, native = self.subject(inputs)
            before = [to_numpy(a).copy() for a in native]
            with np.errstate(all="ignore"), made.framework.scope(native):
                results = made.value(native)
                formulas = self.oracles.supposed(made, native)
                point = None if formulas is None else self._point(made, native, formulas, results)
            return Begun(self.inputs, made, native, before, results, point)
        return None

    def _at(self, inputs: Any, begun: Begun | None) -> None:
        self.points += 1
        if begun is not None:
            self.inputs, made, native = begun.inputs, begun.made, begun.native
        else:
            made, native = self.subject(inputs)
        if self.points == 1 and (none := made.without_gradient(native)):
            rule = "vjp=" if self.own.gradient is None else "gradient="
            self.data = dict.fromkeys(none, f"{rule} gives None for it")
            made, native = self.subject(inputs)
        self.data = made.arguments.data
        self.name, self.framework, self.native = made.name, made.framework.name, native
        try:
            with (
                np.errstate(all="ignore"),
                made.framework.scope(native),
            ):  # nan are findings, not warnings
                if begun is None:
                    before = [to_numpy(a).copy() for a in native]
                    begun = Begun(self.inputs, made, native, before, made.value(native))
                self._examine(begun)
        except Fault as fault:
            own = made.caller_vjp is not None
            if made.reverse and not own and made.framework.has_no_derivative(fault.__cause__):
                self.irreversible = self.found.skipped[made.reverse] = str(fault)
                self.points -= 1
                self.beside = False
                self._at(inputs, None)
                return
            self._complain(fault.kind, str(fault), "", native)
            return
        except Undecided as unresolved:
            self._complain(
                Verdict.INCONCLUSIVE, f"a branch stays undecided at any precision: {unresolved}", "", native
            )  # fmt: skip
            return
        except Exception as error:  # noqa: BLE001 - exact programs of foreign code fail in any way
            self._complain(
                Verdict.INCONCLUSIVE,
                f"its exact program cannot be run here: {type(error).__name__}: {error}",
                "" if self.truth else "give truth=, a plain NumPy function, as the definition",
                native,
            )

    def _examine(self, begun: Begun) -> None:
        made, native, results = begun.made, begun.native, begun.results
        changed = list(mutations(made, native, begun.before, "the function"))
        if changed:
            raise Fault(changed[0][1], Verdict.WRONG)
        if results and not self.beside:
            self.beside = True
            if not made.is_pure:
                self.lasting = not self.oracles.is_kept(made, native, results)
            amiss = list(side_checks(made, native, results, self.seed, lasting=self.lasting))
            self.lawful = not amiss
            for kind, sentence, hint in amiss:
                self._complain(kind, sentence, hint, native)
            if amiss and not any(is_floating(r) for r in results):
                return
            if any(kind is Verdict.INCONCLUSIVE for kind, _, _ in amiss):
                self.beside = False
                return
            if self.lasting:
                self._hold_primals(made, native)
        found = self._screened(made, native, results, begun.point)
        kinds = {judged.kind for judged in found.failed}
        if self.errors:  # a random function is accused of nothing else
            if is_random(made, native, results, calls=1 if self.steady else _CALLS):
                self.errors.clear()
                raise Fault(RANDOM)
            if not self.steady and draws(made, native):
                self.errors.clear()
                raise Fault(DRAWS)
            if not self.steady and varies(made, native, results, calls=_CALLS):
                self.errors.clear()
                self._complain(*VARIES, native)
                return
            self.steady = True
        if self.order == 2 and kinds <= {Verdict.INCONCLUSIVE, Verdict.IMPRECISE}:
            self._second_order(made, native, results, lossy=Verdict.IMPRECISE in kinds)
        if self.own.hessian_diagonal is not None and not kinds & _GRAVE:
            self._diagonal(made, native)

    def _screened(
        self,
        made: FunctionUnderTest,
        native: list[Any],
        results: list[Any],
        begun: Point | None = None,
        *,
        of: Sequence[Any] = (),
        lossy: bool = False,
    ) -> Screening:
        """Screen one point and keep what fails.

        The values of a derivative ``of`` results were judged already, in the format of these; where they are
        ``lossy`` lost digits are no news.
        """
        refused = {f"result {k}": w for k, r in enumerate(results) if (w := refusal_of(r))}
        if not any(is_floating(r) for r in results):
            why = next((f"a result that {w}" for w in refused.values()), "no floating-point array")
            raise Fault(f"{made.name} returns {why}")
        self.found.skipped |= refused
        if not any(made.wrt):
            raise Fault(f"{made.name} has no floating-point input to differentiate by")
        if not any(to_numpy(a).size for a, w in zip(native, made.wrt, strict=True) if w):
            raise Fault(f"{made.name} has no numbers to differentiate by: its inputs are empty")
        if not any(to_numpy(r).size for r in results if is_floating(r)):
            raise Fault(f"{made.name} returns no numbers: its results are empty")
        found = self._supposed(made, native, results, begun, of)
        if found is None:
            formulas = self.oracles.at(made, native, results)
            point = self._point(made, native, formulas, results, of)
            found = judge(point, values=not of)
            if self._is_right(found) and (of or self._is_lawful(point)):
                why = found.skipped.get(made.forward, "")
                self.oracles.keep(made, native, formulas, why, lawful=not of)
        self.oracles.note(made, native, found.skipped.get(made.forward, ""))
        self.modes |= dict.fromkeys(
            m for m in (made.reverse, made.forward) if m and m not in found.skipped
        )
        self.found.add(found)
        for judged in found.failed:
            if not (lossy and judged.kind is Verdict.IMPRECISE):
                self._keep(judged)
        return found

    def _is_lawful(self, point: Point) -> bool:
        """Ask what is amiss at all points or at none, once in a check; not with programs of earlier ones."""
        made, native = point.subject, point.native
        if not self.lasting:
            self.lasting = True
            self._hold_primals(made, native)
            asked = self.oracles.exactly(made) if made.is_pure else made
            for kind, sentence, hint in lasting_checks(asked, native, self.seed):
                self._complain(kind, sentence, hint, native)
                self.lawful = False
        if self.lawful and not self.far:
            self.far = True
            for kind, sentence, hint in far_multiples(point, partial(self._beside, made)):
                self._complain(kind, sentence, hint, native)
                self.lawful = False
        return self.lawful

    def _hold_primals(self, made: FunctionUnderTest, native: list[Any]) -> None:
        """Ask whether derivative code computes the function's own values."""
        beside = partial(self._beside, made)
        for kind, sentence, hint in other_values(made, native, self.seed, beside, self.is_mild):
            self._complain(kind, sentence, hint, native)
            self.lawful = False

    def _beside(
        self, made: FunctionUnderTest, args: Sequence[Any], results: Sequence[Any] | None = None
    ) -> Point:
        """Give another input as a point, and its results, which may be said to be others."""
        plain = made.value(args)
        formulas = self.oracles.at(made, args, plain)
        return self._point(made, list(args), formulas, list(plain if results is None else results))

    def _point(
        self,
        made: FunctionUnderTest,
        native: list[Any],
        formulas: ExactPrograms,
        results: list[Any],
        of: Sequence[Any] = (),
    ) -> Point:
        return Point(
            made, native, formulas, self.seed, self.strict, results, self.warned,
            of=of, refused=formulas.refused, ordinary=self.ordinary,
        )  # fmt: skip

    def _supposed(
        self,
        made: FunctionUnderTest,
        native: list[Any],
        results: list[Any],
        point: Point | None,
        of: Sequence[Any],
    ) -> Screening | None:
        """Judge a point by exact programs that are only supposed to hold there; None if they do not.

        Where all that was computed is right beside them, up to rounding at its natural scale, they do.
        Nothing else is accused by others than those that the function is seen to execute there, nor is it
        excused by others: that costs more than to see.
        """
        with contextlib.suppress(Exception):  # it is told when the input is checked alone
            if point is None:
                formulas = self.oracles.of_an_earlier_check(made, native)
                if formulas is None:
                    return None
                point = self._point(made, native, formulas, results, of)
                look_ahead([point])
            elif point.ahead is None:
                return None
            supposed = point.formulas

            def is_seen(modes: Container[str]) -> bool:
                seen = self.oracles.at(made, native, results)
                return all(
                    program(seen) == program(supposed)
                    for mode, program in _PROGRAMS.items()
                    if mode == "value" or getattr(made, mode) in modes
                )

            point.is_seen = is_seen
            found = judge(point, values=not of)
            if self._is_right(found) or is_seen({judged.mode for judged in found.failed}):
                return found
        return None

    def _second_order(
        self, made: FunctionUnderTest, native: list[Any], results: list[Any], *, lossy: bool
    ) -> None:
        """Check the derivative programs of both modes as functions in their own right.

        Digits that the first derivative loses here, the second loses as well: that is said once.
        """
        rng = np.random.default_rng([self.seed, 2])
        cotangents = [_weights(r, rng) for r in results]
        tangents = [_weights(a, rng) if w else None for a, w in zip(native, made.wrt, strict=True)]
        inner = []
        if made.reverse:
            inner.append(made.pulled_back(cotangents))
        if made.forward and made.forward not in self.found.skipped:
            inner.append(made.pushed_forward(tangents))
        for derivative in inner:
            try:
                self._screened(
                    derivative, native, derivative.value(native), of=results, lossy=lossy
                )
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

    def _diagonal(self, made: FunctionUnderTest, native: list[Any]) -> None:
        """Check the caller's diagonal of the Hessian."""
        assert self.own.hessian_diagonal is not None  # noqa: S101 - callers asked
        rng = np.random.default_rng([self.seed, self.points])
        derived, few = diagonal(made, self.own.hessian_diagonal, native, rng)
        self._screened(derived, native, derived.value(native))
        if few:
            self.found.skipped[f"{derived.reverse} mode"] = few

    def _keep(self, judged: Judged) -> None:
        if not self.is_mild(judged):
            self.errors.append((judged, cache(lambda: finding(judged))))
            return
        key = (judged.mode, judged.kind, judged.argument)
        if key not in self.warnings or self.warnings[key][0] < judged.error_ulps:
            self.warnings[key] = (judged.error_ulps, judged, lambda: finding(judged))
            if judged.tail and not self.strict:
                self.warned.add((judged.mode, judged.argument))

    def confirm(self) -> None:
        """Make warnings, which hide no error, of what the second arithmetic does not confirm."""
        found, self.errors = self.errors, []
        with np.errstate(all="ignore"), framework(self.framework).scope(self.native):
            for judged, make in found:
                made = make()
                once = partial(replace, made)  # another opinion costs as much again
                if judged is None or made.severity == "error":
                    self.errors.append((judged, once))
                else:
                    told = replace(judged, kind=made.kind)
                    self.warnings.setdefault(made.where, (0.0, told, once))

    def _is_right(self, found: Screening) -> bool:
        """Tell whether all that was computed is right, up to rounding at its natural scale."""
        return all(judged.tail and self.is_mild(judged) for judged in found.failed)

    def is_mild(self, judged: Judged) -> bool:
        """Tell whether what failed is a warning by its numbers alone."""
        quick = Finding(
            judged.kind, "", "", "", judged.error_ulps, judged.allowed_ulps,
            judged.point.fmt.name, tail=judged.tail, aside=judged.aside, strict=self.strict,
        )  # fmt: skip
        return quick.severity == "warning"

    def gravest(self) -> int:
        """Give the place in `GRAVITY` of the worst error so far."""
        kinds = (make().kind if judged is None else judged.kind for judged, make in self.errors)
        return min(map(GRAVITY.index, kinds), default=len(GRAVITY))

    def _complain(self, kind: Verdict, sentence: str, hint: str, native: list[Any]) -> None:
        made = Finding(
            kind, self.name, sentence, "", np.inf, 0.0, coarsest(native).name,
            hint=f"Hint: {hint}" if hint else "", replay=code(self._call, self.inputs),
            strict=self.strict,
        )  # fmt: skip
        if made.severity == "error":
            self.errors.append((None, lambda: made))
        else:
            self.warnings.setdefault(sentence, (0.0, None, lambda: made))


def _weights(value: Any, rng: np.random.Generator) -> Any:
    if not is_floating(value):
        return None
    shape = to_numpy(value).shape
    numbers: Array = rng.choice([-1.0, 1.0], shape) * rng.choice([1.0, 1.25, 1.5, 1.75], shape)
    return like(value, numbers)
