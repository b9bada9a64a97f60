"""Where the truth about a function comes from: its shadow, a definition, or differences.

``TruthSources(truth, fn).at(subject, native, results)`` gives the exact programs that hold at a point. A
traced program holds as long as the same branches are taken. By which all was right is remembered beyond the
check, and supposed to hold at the first point of the next one (`keep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import Undecided, midpoints
from ffverify.exact.formats import Array, is_floating
from ffverify.exact.programs import Itself, Program, UnknownOperation, joined, listed
from ffverify.frameworks.arrays import coarsest, like, to_numpy
from ffverify.frameworks.chosen import spread
from ffverify.frameworks.shadow import Shadow
from ffverify.truth import textbook
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.slopes import Inputs, exact_value
from ffverify.verdicts.bounds import running_bounds

from .function_under_test import Fault, FunctionUnderTest
from .given.memory import memory_of
from .opaque import (
    Opaque,
    is_apart_by_differences,
    limits_by_differences,
    slope_by_differences,
)

_SMALL = 2**16  # numbers of a point whose programs are kept: of more, tracing is not what it costs
# Programs by which all was right, by the program of the VJP and by what it went through.
_right: WeakKeyDictionary[Program, dict[Any, Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ExactPrograms:
    """What is known exactly about a function at a point (see `ffverify.frameworks.shadow`).

    ``name`` says what the truth rests on; ``forward`` is a program, None if unknown, and ``backward()``
    and ``tangent()`` give those of the VJP and the JVP. ``inputs`` and ``here`` are the point and the
    exact results there, joined, if these are known; ``refused`` is why forward mode could not be run before.
    Where ``forward`` is None, ``differences(weights, directions)`` gives a slope as a ball, ``limits`` the
    hull of slopes beside the point, None if they are all alike, and ``is_apart(directions)`` tells whether
    any value there is no limit. ``through`` tells whose code the VJP is, if the framework says so.
    """

    name: str
    forward: Program | None
    backward: Callable[[], Program | None] = lambda: None
    tangent: Callable[[], Program | None] = lambda: None
    differences: Callable[[Array, Sequence[Array | None]], Any] | None = None
    limits: Callable[[Array, Sequence[Array | None]], tuple[float, float] | None] | None = None
    is_apart: Callable[[Sequence[Array | None]], bool] | None = None
    inputs: Inputs | None = None
    here: Array | None = None
    refused: str = ""
    through: Any = None

    @property
    def programs(self) -> tuple[Program | None, ...]:
        """The three programs."""
        return self.forward, self.backward(), self.tangent()

    @property
    def code(self) -> bool:
        """Whether ``forward`` is the function's own program, no definition of what it should be."""
        return self.name == "shadow"


class TruthSources:
    """The truths of one check.

    Parameters
    ----------
    truth
        The caller's definition, a name of the textbook catalogue, or None: then the function's shadow.
    fn, own
        The function that is checked, and the caller's derivatives of it.

    Attributes
    ----------
    name
        What the last truth rested on.
    reasons
        Why a shadow could not be had.

    Raises
    ------
    ValueError
        If the catalogue has no such name.
    """

    def __init__(
        self,
        truth: Callable[..., Any] | str | None,
        fn: Callable[..., Any],
        own: Sequence[Any] = (),
    ) -> None:
        self.name = "shadow"
        self.reasons: dict[str, None] = {}
        if isinstance(truth, str) and truth not in textbook.CATALOGUE:
            raise ValueError(
                f"truth={truth!r} is not in the catalogue: "
                f"use one of {', '.join(sorted(textbook.CATALOGUE))}, or give a NumPy function"
            )
        self._truth = truth
        self._own: dict[Any, Any] = {}  # by kind of point
        given = any(rule is not None for rule in own)
        self._kept = memory_of(
            partial(fn, *own) if given else fn
        )  # what was right, and torch's programs by what is seen to run
        self._compiled: dict[
            Any, Callable[..., Any]
        ] = {}  # functions without one, by kind of point
        self._last: dict[Any, ExactPrograms] = {}
        self._traced: tuple[tuple[Any, ...], Shadow] | None = None  # at the last point

    def at(
        self, subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
    ) -> ExactPrograms:
        """Give the exact programs of a function that hold at a point."""
        traced = self._shadow(subject, native, results)
        if self._truth is not None and not subject.name.startswith("the "):
            self.name, forward = self._definition()
            if _kind(subject, native) not in self._last:
                _fit(forward, subject, native, results)
            traced = replace(traced, name=self.name, forward=forward, here=None)
        self.name = traced.name
        kind = _kind(subject, native)
        last = self._last.get(kind)
        if last is not None and last.forward is traced.forward:
            traced = replace(traced, refused=last.refused)
        self._last[kind] = traced
        return traced

    def note(self, subject: FunctionUnderTest, native: Sequence[Any], refused: str) -> None:
        """Note why the last programs of this kind of points refuse forward mode, or that they do not."""
        kind = _kind(subject, native)
        last = self._last.get(kind)
        if last is not None and last.refused != refused:
            self._last[kind] = replace(last, refused=refused)

    def supposed(self, subject: FunctionUnderTest, native: Sequence[Any]) -> ExactPrograms | None:
        """Give the programs of the last point of this kind, if there are any; they may not hold here."""
        last = self._last.get(_kind(subject, native))
        if last is None or last.forward is None:
            return None
        return replace(last, inputs=None, here=None, refused="")  # forward mode is tried again

    def of_an_earlier_check(
        self, subject: FunctionUnderTest, native: Sequence[Any]
    ) -> ExactPrograms | None:
        """Give what `keep` kept, at the first point of this kind; it may not hold here."""
        kind = _kind(subject, native)
        if kind in self._last or ("right", kind) not in self._kept:
            return None
        (forward, backward, tangent), refused = self._kept["right", kind]
        self._last[kind] = ExactPrograms(
            "shadow", forward, lambda: backward, lambda: tangent, refused=refused
        )
        return self._last[kind]

    def keep(
        self,
        subject: FunctionUnderTest,
        native: Sequence[Any],
        formulas: ExactPrograms,
        refused: str,
        *,
        lawful: bool,
    ) -> None:
        """Keep programs by which all was right, and why forward mode was refused, for the next check.

        JAX takes a function for the same as long as it is the same object. So does this: until something
        that it computes is not what its programs give. What is ``lawful`` is also kept for other functions
        that execute the same and are differentiated by the same code.
        """
        found = formulas.programs, refused
        itself = any(isinstance(program, Itself) for program in found[0])
        if self._lasts(native) and formulas.code and not itself:
            self._kept["right", _kind(subject, native)] = found
            backward = found[0][1]
            if lawful and backward is not None and formulas.through is not None:
                _right.setdefault(backward, {})[formulas.through] = found

    def exactly(self, subject: FunctionUnderTest) -> FunctionUnderTest:
        """Give a pure function and its VJP in exact arithmetic, as far as they have exact forms.

        A framework compiles nothing for them, whatever the shapes of the inputs are.
        """

        def run(program: Program | None, given: Sequence[Any]) -> tuple[Array, ...] | None:
            with contextlib.suppress(Exception), BALLS.precision(FIRST_PRECISION):
                arrays = [BALLS.array(a) if is_floating(a) else a for a in map(to_numpy, given)]
                results = () if program is None else program(*arrays)
                return tuple(
                    midpoints(r.values).reshape(r.shape) if isinstance(r, PreciseArray) else r
                    for r in results
                )
            return None

        def value(*args: Any) -> Sequence[Any]:
            return run(self._made(subject, args).forward, args) or subject.value(args)

        def pulled(cotangents: Any, *args: Any) -> Sequence[Any]:
            given = cotangents if isinstance(cotangents, tuple) else (cotangents,)
            floats = [v for v in given if is_floating(v)]
            found = run(self._made(subject, args).backward, [*args, *floats])
            if found:
                return spread(found, subject.wrt)
            return subject.vjp(args, [v if is_floating(v) else None for v in given])

        return replace(subject, fn=value, caller_vjp=pulled)

    def is_kept(
        self, subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
    ) -> bool:
        """Tell whether `keep` kept programs of points of this kind, or those of the same code."""
        key = ("right", _kind(subject, native))
        if key not in self._kept and self._lasts(native):
            made = self._made(subject, native, results)
            if made.through is not None and made.backward is not None:
                known = _right.get(made.backward, {})
                if made.through in known:
                    self._kept[key] = known[made.through]
        return key in self._kept

    def _lasts(self, native: Sequence[Any]) -> bool:
        """Tell whether programs are kept beyond the check."""
        return self._truth is None and sum(to_numpy(a).size for a in native) <= _SMALL

    def _definition(self) -> tuple[str, Callable[..., Any]]:
        if isinstance(self._truth, str):
            return "textbook", getattr(textbook.namespace, self._truth)
        assert self._truth is not None  # noqa: S101 - asked before
        return "caller", self._truth

    def _made(
        self,
        subject: FunctionUnderTest,
        native: Sequence[Any],
        results: Sequence[Any] | None = None,
    ) -> Shadow:
        point = (subject, results, *native)
        if self._traced is not None and list(map(id, point)) == list(map(id, self._traced[0])):
            return self._traced[1]
        seen = subject.framework.name == "torch" and self._lasts(native)
        known = self._kept if seen else self._own
        made = Shadow(
            subject.fn, native,
            framework=subject.framework.name, vjp=subject.caller_vjp, jvp=subject.caller_jvp, wrt=subject.wrt,
            known=known.setdefault(_kind(subject, native), {}), results=results if subject.reverse else None,
        )  # fmt: skip
        self._traced = point, made
        return made

    def _shadow(
        self, subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
    ) -> ExactPrograms:
        made = self._made(subject, native, results)
        if made.draws:
            raise Fault(
                f"{subject.name} draws from a distribution whose parameters depend on its inputs "
                f"({', '.join(made.draws)}): the derivative of a draw by these is a convention"
            )
        if made.forward is None:
            self.reasons[f"no exact form of {', '.join(made.unknown)}"] = None
            return self._by_differences(subject, native, results)
        formulas = ExactPrograms(
            "shadow",
            made.forward,
            lambda: made.backward if subject.reverse else None,
            lambda: made.jvp if subject.forward else None,
            through=made.through,
        )
        try:
            places = [k for k, r in enumerate(results) if is_floating(r)]
            if not places:
                return formulas
            inputs = Inputs([to_numpy(a) for a in native])
            exact = exact_value(joined(made.forward, places), inputs)
            try:
                hold_to(formulas, native, results, exact)
            except ValueError:  # what is right at moderate numbers is off here by what was computed
                moderate = [_moderate(a) for a in native]
                there = exact_value(
                    joined(made.forward, places), Inputs([to_numpy(a) for a in moderate])
                )
                hold_to(formulas, moderate, subject.value(moderate), there)
            return replace(formulas, inputs=inputs, here=exact)
        except UnknownOperation as unknown:
            self.reasons[f"no exact form of {', '.join(map(str, unknown.args))}"] = None
        except Exception as error:  # noqa: BLE001 - code of the caller's that exact arithmetic cannot run
            self.reasons[str(error)] = None
        return self._by_differences(subject, native, results)

    def _by_differences(
        self, subject: FunctionUnderTest, native: Sequence[Any], results: Sequence[Any]
    ) -> ExactPrograms:
        kind, places = _kind(subject, native), [k for k, r in enumerate(results) if is_floating(r)]
        if kind not in self._compiled:
            self._compiled[kind] = subject.framework.compiled(subject.fn)
        compiled = replace(subject, fn=self._compiled[kind], known=None)

        def evaluate(args: Sequence[Any]) -> list[Any]:
            values = compiled.value(args)
            if len(values) != len(results):
                raise Fault(
                    f"{subject.name} returns {len(values)} results, and {len(results)} before"
                )
            return [values[k] for k in places]

        opaque = Opaque(evaluate, native)
        return ExactPrograms(
            "differences",
            None,
            differences=lambda w, d: slope_by_differences(opaque, d, w),
            limits=lambda w, d: limits_by_differences(opaque, d, w),
            is_apart=lambda d: is_apart_by_differences(opaque, d),
        )


def _fit(
    definition: Callable[..., Any],
    subject: FunctionUnderTest,
    native: Sequence[Any],
    results: Sequence[Any],
) -> None:
    """See that a definition can be run, and that its results are like those of the function it is of.

    Raises
    ------
    Fault
        If not.
    """
    try:
        with BALLS.precision(FIRST_PRECISION):
            given = listed(definition(*Inputs(list(map(to_numpy, native))).balls))
    except Undecided:
        return  # by so few bits
    except Exception as error:
        count = f"{len(native)} array{'s' if len(native) > 1 else ''} ({', '.join(subject.labels)})"
        raise Fault(
            f"truth= cannot be run on exact numbers: {type(error).__name__}: {error}; "
            f"it is called with {count}, as {subject.name} is: give a plain NumPy function of these"
        ) from error
    if len(given) != len(results):
        raise Fault(
            f"truth= gives {len(given)} results where {subject.name} gives {len(results)}: "
            "give a function with the same results"
        )
    for k, (own, result) in enumerate(zip(given, results, strict=True)):
        shape, wanted = tuple(np.shape(own)), to_numpy(result).shape
        if is_floating(result) and shape != wanted:
            which = f" as result {k}" if len(results) > 1 else ""
            raise Fault(
                f"truth= gives shape {shape}{which} where {subject.name} gives {wanted}: "
                "give a function with results of the same shapes"
            )


def _kind(subject: FunctionUnderTest, native: Sequence[Any]) -> Any:
    """Give what points have in common that one program may serve."""
    shapes = ((to_numpy(a).shape, str(a.dtype)) for a in native)
    return (subject.name, subject.reverse, subject.forward, subject.arguments.key, *shapes)


def _moderate(a: Any) -> Any:
    """Give an array of floats with the same signs and fractions, but of numbers around 1."""
    return like(a, np.frexp(to_numpy(a))[0]) if is_floating(a) else a


def hold_to(
    formulas: ExactPrograms, native: Sequence[Any], results: Sequence[Any], exact: Array
) -> None:
    """See that the exact value of a function's own program is the computed one to half its digits.

    Where a value cancels so far that fewer are left, the running bound says what there may be; where that is
    infinite, the value may have no digit.

    Raises
    ------
    ValueError
        If the exact program does not give the computed values.
    """
    if not formulas.code:
        return
    places = [k for k, r in enumerate(results) if is_floating(r)]
    fmt = coarsest([*native, *results])
    values = np.concatenate([to_numpy(results[k]).ravel() for k in places]).astype(np.float64)
    if exact.size != values.size:
        raise ValueError(_OFF)
    floats = np.array([float(e.mid()) if e.is_finite() else np.nan for e in exact])
    both = np.isfinite(floats) & np.isfinite(values)
    largest = float(np.abs(floats[both]).max(initial=0.0))
    half = 2.0 ** (-fmt.precision / 2)
    off = np.abs(np.where(both, floats, 0.0) - np.where(both, values, 0.0))
    allowed = half * largest + 2.0**fmt.smallest_exponent
    if not np.all(off <= allowed):
        assert formulas.forward is not None  # noqa: S101 - callers asked
        vector, here = joined(formulas.forward, places), [to_numpy(a) for a in native]
        (bounds,) = running_bounds(vector, [here], fmt, [exact])
        radii = np.array([float(b) for b in bounds])
        if not np.all((off <= allowed) | (off <= radii)):
            raise ValueError(_OFF)


_OFF = "the traced program does not reproduce the value"
