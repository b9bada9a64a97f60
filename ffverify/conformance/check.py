"""What a claim says with: ``check.value``, ``check.gradient``, ``check.tangent``, ``check.that``.

A ``Check`` stands between a claim and a backend. It computes with the backend, gets the truth from
the textbook definitions, judges, keeps the worst error, and raises ``ClaimViolation`` where the
judgement is an error. The finding itself, with sixty digits confirmed in a second arithmetic, is
only made when somebody reads it: Hypothesis throws most violations away while it shrinks. A
failure that is declared as a known defect is kept, and the claim goes on past it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program
from ffverify.truth import derivatives as truth
from ffverify.truth import second_opinion as confirm
from ffverify.truth import textbook
from ffverify.truth.adaptive import Truth
from ffverify.verdicts import places as display
from ffverify.verdicts.finding import Finding
from ffverify.verdicts.verdict import Verdict, judge

from . import replay
from .backends import Backend, floating_arguments
from .known_defects import Known
from .own_bound import own_bound

MakeFinding = Callable[[], Finding]


class ClaimViolation(AssertionError):
    """A claim fails on a backend; ``finding`` says how."""

    def __init__(self, make: MakeFinding) -> None:
        super().__init__()
        self._make = make

    @cached_property
    def finding(self) -> Finding:
        """The finding, made on first use."""
        return self._make()

    def __str__(self) -> str:
        return str(self.finding)


def direction(*shape: int) -> Array:
    """Give a fixed vector in general position: signed, of sizes ½ to 1, exact in every dtype.

    Were its elements alike, sums that vanish identically (of a softmax's derivative) would leave
    nothing but rounding to look at.
    """
    drawn: Array = np.random.default_rng(math.prod(shape)).integers(64, 128, size=shape) / 128.0
    drawn *= np.resize([1.0, -1.0, -1.0, 1.0, -1.0], shape)
    return drawn


class Check:
    """One claim's dealings with one backend at one format.

    Attributes
    ----------
    worst_ulps
        The largest error so far, in ulps of the exact result.
    worst_share
        The largest error so far that is within its bound, as a share of the bound.
    examples
        How many inputs the claim was tried on.
    measured
        What a claim that measures has to report, with its interval; it sets this itself.
    """

    def __init__(self, backend: Backend, fmt: Format, known: Known | None = None) -> None:
        self.backend = backend
        self.fmt = fmt
        self._known = known or Known()
        self._met: dict[str, tuple[float, MakeFinding]] = {}
        self.worst_ulps = self.worst_share = 0.0
        self.examples = 0
        self.measured = ""
        self.inputs: Mapping[str, Any] = {}
        self._claim = ""
        self._judged = self._inconclusive = 0
        self._warning: tuple[float, MakeFinding] | None = None
        self._once: list[ClaimViolation | None] = []

    def start(self, claim: str, inputs: Mapping[str, Any]) -> None:
        """Begin one example."""
        self._claim, self.inputs = claim, inputs
        self.examples += 1

    @property
    def only_inconclusive(self) -> bool:
        """Whether there was something to judge and nothing could be."""
        return 0 < self._judged == self._inconclusive

    @property
    def warnings(self) -> list[Finding]:
        """The worst warning, if there was one."""
        return [] if self._warning is None else [self._warning[1]()]

    @property
    def known_parts(self) -> list[str]:
        """The parts that failed as a known defect says."""
        return sorted(self._met)

    @property
    def known_findings(self) -> list[Finding]:
        """The worst failure of each of those parts."""
        return [self._met[part][1]() for part in self.known_parts]

    # -- against truth -------------------------------------------------------------------------

    def value(
        self,
        fn: str | Program,
        *args: Array,
        core: Sequence[int] | None = None,
        scale: float = 0.0,
        **options: Any,
    ) -> Array:
        """Check a function's or a program's value against truth; give the computed value.

        Parameters
        ----------
        fn
            A name of the catalogue, or a program ``fn(f, *args)``.
        core
            For a program: trailing axes of each argument that one application takes (a name
            brings its own). None: the arguments are one whole application.
        scale
            Natural scale of the result, where absolute accuracy is all that is promised.
        """
        program, core, name = self._program(fn, core, options)
        computed = self._compute(
            name, args, lambda: self.backend.value(program, args, self.fmt.name)
        )
        exact_program = self._exact(program)
        exact = truth.value(exact_program, args, self.fmt, core=core)
        if computed is None:
            return self._as_if_right(exact)
        explain = partial(own_bound, self.backend, program, args, exact, self.fmt)

        def describe(index: tuple[int, ...]) -> tuple[str, Any]:
            row, rest = display.row(args, core, index)
            second = confirm.value(lambda *points: exact_program(*points)[rest], row)
            return f"{name}({display.join(row)}){display.subscript(rest)}", second

        self._judge(name, name, args, computed, exact, scale, explain, describe)
        return computed

    def gradient(
        self,
        fn: str | Program,
        *args: Array,
        wrt: int = 0,
        cotangent: Array | None = None,
        core: Sequence[int] | None = None,
        scale: float = 0.0,
        **options: Any,
    ) -> Array:
        """Check a VJP, by the backend's reverse mode, against truth; give the computed gradient.

        The cotangent is 1 everywhere unless given: the gradient of the sum of the results. Other
        parameters are as in `value`.
        """
        program, core, name = self._program(fn, core, options)
        part = f"{name}' reverse"
        if cotangent is None:
            value = self._compute(
                part, args, lambda: self.backend.value(program, args, self.fmt.name)
            )
            cotangent = np.ones(() if value is None else value.shape, dtype=self.fmt.carrier)
        v = cotangent
        computed = self._compute(
            part, args, lambda: self.backend.vjp(program, args, v, self.fmt.name, wrt=[wrt])[0]
        )
        exact_program = self._exact(program)
        exact = truth.gradient(exact_program, args, v, wrt, self.fmt, core=core)
        if computed is None:
            return self._as_if_right(exact)
        explain = partial(
            own_bound, self.backend, program, args, exact, self.fmt, wrt=wrt, cotangent=v
        )

        def describe(index: tuple[int, ...]) -> tuple[str, Any]:
            row, rest = display.row(args, core, index)
            weights = (
                v[index[: v.ndim - display.result_dims(v, args, core)]] if core is not None else v
            )

            def inner(*points: Any) -> Any:
                return np.sum(exact_program(*points) * weights)

            tangent = np.zeros(row[wrt].shape, dtype=np.float64)
            tangent[rest] = 1.0
            tangents = [tangent if i == wrt else None for i in range(len(row))]
            prime = f"{name}'" if not rest else f"∂{name}/∂{display.subscript(rest)}"
            second = confirm.slope(inner, row, tangents, exact.exact[index])
            return f"{prime}({display.join(row)})", second

        self._judge(part, name, args, computed, exact, scale, explain, describe)
        return computed

    def tangent(
        self,
        fn: str | Program,
        args: Sequence[Array],
        tangents: Sequence[Array | None],
        *,
        core: Sequence[int] | None = None,
        scale: float = 0.0,
        **options: Any,
    ) -> Array:
        """Check a JVP, by the backend's forward mode, against truth; give the computed tangent."""
        program, core, name = self._program(fn, core, options)
        part = f"{name}' forward"
        computed = self._compute(
            part, args, lambda: self.backend.jvp(program, args, tangents, self.fmt.name)
        )
        exact_program = self._exact(program)
        exact = truth.directional(exact_program, args, tangents, self.fmt, core=core)
        if computed is None:
            return self._as_if_right(exact)
        explain = partial(
            own_bound, self.backend, program, args, exact, self.fmt, tangents=tangents
        )

        def describe(index: tuple[int, ...]) -> tuple[str, Any]:
            row, rest = display.row(args, core, index)
            filled = [
                np.zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)
            ]
            directions = display.row(filled, core, index)[0]
            moved = [None if t is None else d for t, d in zip(tangents, directions, strict=True)]
            at, along = display.join(row), display.join(directions)
            where = f"JVP of {name} at ({at}) along ({along}){display.subscript(rest)}"
            return where, confirm.slope(
                lambda *points: exact_program(*points)[rest], row, moved, exact.exact[index]
            )

        self._judge(part, name, args, computed, exact, scale, explain, describe)
        return computed

    def derivatives(self, fn: str, *args: Array, scale: float = 0.0, **options: Any) -> None:
        """Check a function's value, its VJP in each floating argument, and its JVP along all of them.

        It is one application to whole arrays, so that an axis may be any, and what rows share is summed.
        """
        program = self._program(fn, None, options)[0]
        program.__name__ = fn
        v = direction(*self.value(program, *args, scale=scale).shape).astype(self.fmt.carrier)
        for wrt in floating_arguments(args):
            self.gradient(program, *args, wrt=wrt, cotangent=v, scale=scale)
        tangents = [  # each another one: a loss does not feel a target that moves along
            direction(k, *a.shape)[-1].astype(a.dtype) if is_floating(a) else None
            for k, a in enumerate(args, 1)
        ]
        self.tangent(program, args, tangents, scale=scale)

    def agrees(self, where: str, computed: Any, exact: Truth, *, scale: float = 0.0) -> None:
        """Check numbers that a claim computed its own way against their truth; any loss is an error."""
        numbers = np.asarray(computed)

        def describe(index: tuple[int, ...]) -> tuple[str, Any]:
            return f"{where}{list(index) or ''}", None

        self._judge(where, where, (), numbers, exact, scale, lambda: None, describe, strict=True)

    # -- without truth -------------------------------------------------------------------------

    def that(
        self,
        holds: bool,
        where: str,
        computed: Any,
        exact: Any = "",
        *,
        reason: str = "",
        part: str = "",
        kind: Verdict = Verdict.WRONG,
    ) -> None:
        """Check a statement that needs no bound (an exact equality, an order, a count).

        ``part`` is the name that a known defect has for it; by default its ``where``.
        """
        self._judged += 1
        if holds:
            return

        again = self._replay()

        def make() -> Finding:
            shown, right = display.show(computed), display.show(exact)
            return Finding(kind, where, shown, right, np.inf, 0.0, self.fmt.name, reason, again())

        self._fail(part or where, kind, np.inf, make)

    def equal(self, computed: Array, exact: Any, where: str) -> None:
        """Check equality bit for bit (zeros of either sign are equal)."""
        wanted = np.broadcast_to(np.asarray(exact), np.shape(computed))
        same = np.asarray(computed) == wanted
        self.that(
            bool(np.all(same)),
            where,
            computed,
            wanted,
            reason="Equal bit for bit is what is claimed.",
        )

    def once(self, examine: Callable[[Check], None]) -> None:
        """Examine what has nothing to draw at the first example only; its violation is everyone's.

        That every example says the same is what Hypothesis needs to shrink.
        """
        if not self._once:
            try:
                examine(self)
            except ClaimViolation as violation:
                self._once.append(violation)
            else:
                self._once.append(None)
        if self._once[0] is not None:
            raise self._once[0]

    # -- plumbing ------------------------------------------------------------------------------

    def _fail(self, part: str, kind: Verdict, size: float, make: MakeFinding) -> None:
        """Raise a violation; of a known defect keep the worst one, and go on."""
        defect = self._known.covering(part, kind)
        if defect is None:
            raise ClaimViolation(lambda: replace(make(), part=part))
        if part not in self._met or size > self._met[part][0]:
            self._met[part] = size, lambda: replace(make(), part=part, known=defect.reason)

    def expects(self, part: str, kind: Verdict) -> bool:
        """Tell whether a part is declared to fail in this way."""
        return self._known.covering(part, kind) is not None

    def _replay(self) -> Callable[[], str]:
        claim, inputs = self._claim, self.inputs
        return lambda: replay.line(claim, self.backend.name, self.fmt.name, inputs)

    def _program(
        self, fn: str | Program, core: Sequence[int] | None, options: Mapping[str, Any]
    ) -> tuple[Program, Sequence[int] | None, str]:
        if not isinstance(fn, str):
            return fn, core, getattr(fn, "__name__", "program").replace("<lambda>", "program")

        def program(f: Any, *args: Any) -> Any:
            return getattr(f, fn)(*args, **options)

        return program, textbook.CATALOGUE[fn].core, fn

    def _exact(self, program: Program) -> Program:
        return lambda *args: program(textbook.namespace, *args)

    def _compute(
        self, part: str, args: Sequence[Array], compute: Callable[[], Array]
    ) -> Array | None:
        """Compute with the backend; None where it raises, as a known defect says."""
        try:
            with np.errstate(all="ignore"):  # infinities and NaNs are judged, not warned about
                return compute()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - its failure, not ours
            shown = f"an exception: {type(error).__name__}: {str(error).strip()}"
            self.that(False, f"{part}({display.join(args)})", shown, "a number", part=part)
            return None

    def _as_if_right(self, exact: Truth) -> Array:
        """Give the exact result in place of one that a known defect keeps from being computed."""
        sizes = [float(t.mid()) for t in exact.exact.ravel().tolist()]
        return np.array(sizes, self.fmt.carrier).reshape(exact.exact.shape)

    def _judge(
        self,
        part: str,
        name: str,
        args: Sequence[Array],
        computed: Array,
        exact: Truth,
        scale: float,
        explain: Callable[[], Array | None],
        describe: Callable[[tuple[int, ...]], tuple[str, Any]],
        *,
        strict: bool = False,
    ) -> None:
        """Raise the worst finding if it is an error; remember it if it is a warning.

        ``explain`` gives the running bound of the backend's own program. It is dear, and asked only
        where severity hangs on it: a loss of more than half the digits is an error in any case,
        unless a known defect covers it. ``describe`` gives where a number is and, if it can, what the
        second arithmetic says.
        """
        if computed.shape != exact.exact.shape:
            self.that(
                False, f"shape of {name}({display.join(args)})", computed.shape, exact.exact.shape
            )
        judgement = judge(computed, exact, self.fmt, scale=scale)
        finite = judgement.error_ulps[np.isfinite(judgement.error_ulps)]
        self.worst_ulps = max(self.worst_ulps, float(finite.max(initial=0.0)))
        within = (judgement.verdicts == Verdict.CORRECT) & (judgement.allowed_ulps > 0)
        shares = judgement.error_ulps[within] / judgement.allowed_ulps[within]
        self.worst_share = max(self.worst_share, float(shares.max(initial=0.0)))
        self._judged += computed.size
        self._inconclusive += int(np.sum(judgement.verdicts == Verdict.INCONCLUSIVE))
        if judgement.worst is None:
            return
        explained = None
        if self._known.covering(part) or judgement.verdicts[judgement.worst] == Verdict.IMPRECISE:
            judgement = explained = judge(computed, exact, self.fmt, scale=scale, running=explain)
        index = judgement.worst
        if index is None:
            return
        error, allowed = float(judgement.error_ulps[index]), float(judgement.allowed_ulps[index])
        again = self._replay()

        def make() -> Finding:
            told = explained or judge(computed, exact, self.fmt, scale=scale, running=explain)
            kind, reason = Verdict(told.verdicts[index]), ""
            where, second = describe(index)
            ball = exact.exact[index]
            shown = ball.str(30)
            if second is not None:
                shown, reason = confirm.agreement(second, ball, kink=bool(exact.kink[index]))
            if reason:
                kind = Verdict.INCONCLUSIVE
            elif kind is Verdict.INCONCLUSIVE:
                reason = f"The truth is too wide to tell, or undefined here: {ball}."
            number = display.show(computed[index])
            return Finding(
                kind, where, number, shown, error, allowed, self.fmt.name, reason, again(),
                strict=strict,
            )  # fmt: skip

        kind = Verdict(judgement.verdicts[index])
        quick = Finding(kind, "", "", "", error, allowed, self.fmt.name, strict=strict)
        if quick.severity == "error":
            self._fail(part, kind, error, make)
        elif self._warning is None or error > self._warning[0]:
            self._warning = (error, make)
