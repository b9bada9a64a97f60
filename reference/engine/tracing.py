"""Traces: what happens when a primitive meets a `Var`.

There are three. `Recording` writes every application on a tape, for reverse mode and for graphs;
`Forward` carries a tangent beside each value. Each trace has a level, larger for the one that
started later, and handles only its own `Var`s: whatever belongs to an enclosing derivative is to
it a constant *value*, on which it computes with primitives, so that the enclosing trace sees the
derivative program itself. This is what makes derivatives nest without confusing perturbations
(Siskind & Pearlmutter 2005), and what turns symbol-to-number into symbol-to-symbol differentiation
(chapter 6.5.5) with the same rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .var import Value, Var, innermost

if TYPE_CHECKING:
    from .primitive import Primitive

# An inner derivative starts after the outer one, so a counter orders them by nesting. It is never
# reset: nothing is left behind by an exception, and threads cannot disturb each other.
_levels = itertools.count(1)


class Trace:
    """What the three traces share."""

    __slots__ = ("level",)

    level: int

    def apply(self, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Value:
        """Apply a primitive of whose arguments this trace is the innermost."""
        raise NotImplementedError

    def on_branch(self, var: Var) -> None:
        """Take note that the program's path depends on this value."""

    def own(self, value: Value) -> Var | None:
        """Return the value if it is this trace's `Var`, None if it is constant here."""
        if type(value) is Var:
            if value.trace is self:
                return value
            if value.trace.level > self.level:
                raise TypeError("a value of a finished inner derivative escaped from it")
        return None


class Forward(Trace):
    """Forward mode: every `Var` carries its tangent; nothing is kept."""

    __slots__ = ()

    def __init__(self) -> None:
        self.level = next(_levels)

    def input(self, value: Value, tangent: Value) -> Var:
        """Make a `Var` with this tangent."""
        var = Var(value, self)
        var.tangent = tangent
        return var

    def apply(self, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Value:
        """Compute the value, and y_dot = Σ_k J_k x_dot_k."""
        values = [a.value if type(a) is Var and a.trace is self else a for a in args]
        y = primitive(*values, **params)
        y_dot = None
        for k, arg in enumerate(args):
            if type(arg) is Var and arg.trace is self and primitive.differentiates(k):
                term = primitive.push(k, arg.tangent, y, values, params)
                y_dot = term if y_dot is None else y_dot + term
        return y if y_dot is None else self.input(y, y_dot)


# One application on a tape: (primitive, args, params, values, parents). `args` are what it was applied
# to, `values` the same as the enclosing level sees them; `parents` are the pairs (k, place on the
# tape) of the arguments in which it is differentiated.
Record = tuple["Primitive", tuple[Value, ...], dict[str, Any], list[Value], list[tuple[int, int]]]


class Recording(Trace):
    """A tape of every application, in the order of execution, which is a topological order."""

    __slots__ = ("branches", "records_all", "tape")

    def __init__(self, *, records_all: bool = False) -> None:
        self.level = next(_levels)
        self.tape: list[Var] | None = []
        self.records_all = records_all  # a graph also keeps comparisons, rounding, argmax, ...
        self.branches: list[Var] = []

    def on_branch(self, var: Var) -> None:
        """Take note that the program's path depends on this value."""
        self.branches.append(var)

    def input(self, value: Value, record: Record | None = None) -> Var:
        """Put a value on the tape: an input, unless `record` says which application made it."""
        tape = self.tape
        if tape is None:
            raise TypeError(
                "a value of a finished derivative is used outside of it: "
                "return it from the differentiated function (has_aux=True) instead of keeping it"
            )
        var = Var(value, self, len(tape), record)
        tape.append(var)
        return var

    def apply(self, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Value:
        """Compute the value and put the application on the tape."""
        values, parents = list(args), []
        nested = self.records_all
        for k, arg in enumerate(args):
            if type(arg) is Var:
                if arg.trace is self:
                    if primitive.differentiates(k):
                        parents.append((k, arg.index))
                    values[k] = arg = arg.value  # noqa: PLW2901  # what the enclosing level sees
                nested = nested or type(arg) is Var
        if nested:
            y = primitive(*values, **params)
        elif primitive.remembering is None:
            y = primitive.forward(*values, **params)
        else:
            y, kept = primitive.remembering(*values, **params)
            params["kept"] = kept
        if not (parents or self.records_all):
            return y
        return self.input(y, (primitive, args, params, values, parents))

    def close(self) -> list[Var]:
        """Return the tape; the `Var`s no longer refer to it, so no reference cycle remains."""
        tape, self.tape = self.tape, None
        return tape or []


def pull_back(
    tape: Sequence[Var],
    outputs: Sequence[Var | None],
    y_bars: Sequence[Value],
    inputs: Sequence[Var],
) -> list[Value | None]:
    """Sweep the tape backwards once: cotangents of the inputs from those of the outputs.

    A node is visited after all its consumers, when its cotangent is complete, and its rules are
    applied once (algorithm 6.6 of the chapter with the table that its memoisation asks for).
    None stands for a cotangent that is zero because no path leads there.
    """
    bars: list[Value | None] = [None] * len(tape)

    for out, y_bar in zip(outputs, y_bars, strict=True):
        if out is not None:
            present = bars[out.index]
            bars[out.index] = y_bar if present is None else present + y_bar
    for var in reversed(tape):
        y_bar = bars[var.index]
        if y_bar is None or var.record is None:
            continue
        bars[var.index] = None  # this cotangent is complete and about to be used up
        primitive, _, params, values, parents = var.record
        for k, index in parents:
            x_bar = primitive.pull(k, y_bar, var.value, values, params)
            present = bars[index]
            # Never in place: x_bar may be another node's cotangent, or the caller's own array.
            bars[index] = x_bar if present is None else present + x_bar
    return bars[: len(inputs)]  # which came first on the tape


def push_forward(
    tape: Sequence[Var], inputs: Sequence[Var], x_dots: Sequence[Value]
) -> Callable[[Var | None], Value | None]:
    """Sweep the tape forwards once; returns the function from a node to its tangent."""
    dots: list[Value | None] = [None] * len(tape)
    for var, x_dot in zip(inputs, x_dots, strict=True):
        dots[var.index] = x_dot
    for var in tape:
        if var.record is None:
            continue
        primitive, _, params, values, parents = var.record
        for k, index in parents:
            x_dot = dots[index]
            if x_dot is not None:
                term = primitive.push(k, x_dot, var.value, values, params)
                present = dots[var.index]
                dots[var.index] = term if present is None else present + term
    return lambda var: None if var is None else dots[var.index]


def is_float(value: Value) -> bool:
    """Whether the value has a derivative: its dtype is a real floating type."""
    value = innermost(value)
    return isinstance(value, float) or (
        isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"
    )
