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
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .primitive import positive, unbroadcast, unchanged
from .var import Value, Var, dtype_of, innermost, ndarray, shape_of

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
        """Apply a primitive to arguments of which one is this trace's.

        Where another is an inner trace's, that one applies it.
        """
        raise NotImplementedError

    def constant(self, value: Value) -> Var:
        """Make a `Var` that does not depend on the inputs."""
        raise NotImplementedError

    def on_branch(self, var: Var) -> None:
        """Take note that the program's path depends on this value."""

    def own(self, value: Value) -> Var | None:
        """Return the value if it is this trace's `Var`, None if it is constant here."""
        if type(value) is Var:
            if value.owner is self:
                return value
            if value.owner.level > self.level:
                raise TypeError("a value of a finished inner derivative escaped from it")
        return None


class Forward(Trace):
    """Forward mode: every `Var` carries its tangent; nothing is kept."""

    __slots__ = ()

    def __init__(self) -> None:
        self.level = next(_levels)

    def input(self, value: Value, tangent: Value) -> Var:
        """Make a `Var` with this tangent."""
        var = Var()
        var.value, var.owner, var.tangent = value, self, tangent
        return var

    def constant(self, value: Value) -> Var:
        """Make a `Var` that does not depend on the inputs."""
        return self.input(value, np.zeros(shape_of(value), dtype_of(value)))

    def apply(self, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Value:
        """Compute the value, and y_dot = Σ_k J_k x_dot_k."""
        for arg in args:
            if type(arg) is Var and arg.owner.level > self.level:
                return arg.owner.apply(primitive, args, params)
        values = [a.value if type(a) is Var and a.owner is self else a for a in args]
        y = primitive(*values, **params)
        y_dot = None
        for k, arg in enumerate(args):
            if type(arg) is Var and arg.owner is self and k in primitive.active:
                term = primitive.push(k, arg.tangent, y, values, params)
                y_dot = term if y_dot is None else y_dot + term
        if y_dot is None:
            return y
        var = self.input(y, y_dot)
        return var if primitive.written is None else as_view(var, primitive, args, params)


# One application and what it gave: (y, primitive, params, values, places, outside). `values` are its
# arguments as the enclosing level sees them. `places`, which count the inputs, then the values on the tape,
# are those of the arguments in which it is differentiated, in a graph of all that are there, else None.
# `outside` are the arguments without a place.
Record = tuple[
    Value,
    "Primitive",
    dict[str, Any],
    Sequence[Value],
    tuple[int | None, ...],
    tuple[Value, ...],
]
Tape = list[Record]
SMALL = 4096  # bytes that are as quick to copy as to compare
EVERY = range(sys.maxsize)


class _Finished(list[Record]):
    """Stands for the tape of a trace that is over."""

    def append(self, _record: Record) -> None:
        raise TypeError(
            "a value of a finished derivative is used outside of it: "
            "return it from the differentiated function (has_aux=True) instead of keeping it"
        )


FINISHED = _Finished()


class Recording(Trace):
    """A tape of every application, in the order of execution, which is a topological order."""

    __slots__ = ("before", "branches", "copies", "nested", "records_all", "tape")

    def __init__(self, *, records_all: bool = False) -> None:
        self.level = next(_levels)
        self.tape: Tape = []
        self.before = 0  # how many inputs have their places before the tape's
        self.records_all = records_all  # a graph also keeps comparisons, rounding, argmax, ...
        self.nested = records_all  # some value is another trace's, which is to see what is computed
        self.branches: list[int] = []
        self.copies: dict[int, tuple[Any, Any]] = {}

    def on_branch(self, var: Var) -> None:
        """Take note that the program's path depends on this value."""
        self.branches.append(var.index)

    def inputs(self, values: Sequence[Value]) -> list[Var]:
        """Make the `Var`s that all others are computed from."""
        found: list[Var] = []
        for value in values:
            var = Var()
            var.value, var.owner, var.index = value, self, len(found)
            found.append(var)
            if type(value) is Var:
                self.nested = True
        self.before = len(found)
        return found

    def constant(self, value: Value) -> Var:
        """Make a `Var` that does not depend on the inputs."""
        self.nested = self.nested or type(value) is Var
        var = Var()
        var.value, var.owner, var.index = value, self, self.before + len(self.tape)
        self.tape.append((value, positive, {}, (value,), (None,), (value,)))
        return var

    def apply(self, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Value:
        """Compute the value and put the application on the tape."""
        count = len(args)
        values: Sequence[Value]
        places: tuple[int | None, ...]
        outside: tuple[Value, ...] = ()
        if count == 1 and 0 in primitive.active:  # the usual cases, quickly
            (x,) = args
            values, places = (x.value,), (x.index,)
        elif (
            count == 2
            and type(args[0]) is type(args[1]) is Var
            and args[0].owner is args[1].owner
            and 0 in primitive.active
            and 1 in primitive.active
        ):
            x, other = args
            values, places = (x.value, other.value), (x.index, other.index)
        else:
            active = EVERY if self.records_all else primitive.active
            values, found = [], []
            for x in args:
                value, place = x, None
                kind = type(x)
                if kind is Var:
                    if x.owner is self:
                        value = x.value  # what the enclosing level sees
                        if len(values) in active:
                            place = x.index
                    elif x.owner.level > self.level:
                        return x.owner.apply(primitive, args, params)
                    else:
                        value = x.alias()  # the program may write into the `Var`
                        self.nested = True
                elif kind is ndarray:
                    value = x.copy("K") if x.nbytes <= SMALL else self._copied(x)
                values.append(value)
                found.append(place)
                if place is None:
                    outside += (value,)
            places = tuple(found)
        if self.nested:
            y = primitive(*values, **params)
        elif primitive.remembering is None:
            y = primitive.forward(*values, **params) if params else primitive.forward(*values)
        else:
            y, params["kept"] = primitive.remembering(*values, **params)
        if outside and len(outside) == count and not self.records_all:
            return y
        tape = self.tape
        var = Var()
        var.value, var.owner, var.index = y, self, self.before + len(tape)
        tape.append((y, primitive, params, values, places, outside))
        return var if primitive.written is None else as_view(var, primitive, args, params)

    def _copied(self, array: Any) -> Any:
        """Return what stays when the program later writes into an array that it brought along."""
        if not array.flags.writeable:
            return array
        known = self.copies.get(id(array))
        if known is None or known[1].tobytes() != array.tobytes():
            self.copies[id(array)] = known = array, array.copy("K")
        return known[1]

    def close(self) -> Tape:
        """Return the tape; the `Var`s no longer refer to it, so no reference cycle remains."""
        tape, self.tape = self.tape, FINISHED
        self.copies = {}
        return tape


def as_view(var: Var, primitive: Primitive, args: tuple[Value, ...], params: dict[str, Any]) -> Var:
    """Note whose memory the result shares, as NumPy's own does: what is written into one is in both."""
    whole, base = args[0], getattr(innermost(var), "base", None)
    if base is None or type(whole) is not Var:
        return var  # memory of its own
    array = innermost(whole)
    shared = base is array or base is getattr(array, "base", None)
    if shared or np.may_share_memory(innermost(var), array):
        linked(var, whole, primitive, params)
    return var


@dataclass(frozen=True)
class View:
    """What gives a view where no primitive does: as `Primitive`, with ``written``, called by keywords."""

    function: Callable[..., Value]
    written: Callable[..., Value]

    def __call__(self, whole: Value, **params: Any) -> Value:
        """Give the view."""
        return self.function(whole, **params)


def read_only(*_: Value, **__: Any) -> NoReturn:
    """Refuse to write into a view that NumPy lets nobody write into."""
    raise ValueError("assignment destination is read-only: write into a copy of it (x.copy())")


def linked(var: Value, whole: Value, view: Primitive | View, params: dict[str, Any]) -> Value:
    """Let two values stand for shared memory: what is written into one is in the other as well."""
    if type(var) is Var and type(whole) is Var:
        var.base = (whole, view, params)
        views = whole.views = getattr(whole, "views", [])
        if len(views) & (len(views) - 1) == 0:  # now and then, that many views take no longer each
            views[:] = [view for view in views if view() is not None]
        views.append(weakref.ref(var))
    return var


def explain(error: ValueError) -> None:
    """Say what to write instead where a program has put a traced value into a plain array."""
    # Of what is put into ``flat`` NumPy tells no cause.
    if "cannot become" in str(error.__cause__) or "setting single item of array" in str(error):
        raise TypeError(
            "a traced value cannot be put into a plain array, where its derivative would be lost: "
            "make the array like one that is traced (out = np.zeros_like(x), then out[i] = ...), "
            "or put values together with np.stack or np.concatenate"
        ) from error


@np.errstate(all="ignore")
def pull_back(
    tape: Tape, outputs: Sequence[int | None], y_bars: Sequence[Value], n_inputs: int
) -> list[Value | None]:
    """Sweep the tape backwards once, and use it up: cotangents of the inputs from the outputs'.

    A node is visited after all its consumers, when its cotangent is complete, and its rules are
    applied once (algorithm 6.6 of the chapter with the table that its memoisation asks for).
    None stands for a cotangent that is zero because no path leads there. `outputs` are places.
    """
    bars: list[Value | None] = [None] * (n_inputs + len(tape))

    for place, y_bar in zip(outputs, y_bars, strict=True):
        if place is not None:
            present = bars[place]
            bars[place] = y_bar if present is None else present + y_bar
    while tape:
        y, primitive, params, values, places, _ = tape.pop()
        y_bar = bars.pop()  # this cotangent is complete and about to be used up
        if y_bar is None:
            continue
        rules: Any = primitive.transposes
        for k, place in enumerate(places):
            if place is None:
                continue
            rule = rules[k]
            if rule is unchanged:
                x_bar = y_bar
            elif params:
                x_bar = rule(y_bar, y, *values, **params)
            else:  # an empty dictionary, too, takes its time
                x_bar = rule(y_bar, y, *values)
            x = values[k]
            if not (
                type(x) is type(x_bar) is ndarray
                and x.dtype is x_bar.dtype
                and x.shape == x_bar.shape
            ):  # the unusual case
                x_bar = unbroadcast(x_bar, x)
            present = bars[place]
            # Never in place: x_bar may be another node's cotangent, or the caller's own array.
            bars[place] = x_bar if present is None else present + x_bar
    return bars


@np.errstate(all="ignore")
def push_forward(tape: Tape, x_dots: Sequence[Value]) -> list[Value | None]:
    """Sweep the tape forwards once: the tangent at every place, None for zero."""
    dots: list[Value | None] = [*x_dots]
    for y, primitive, params, values, places, _ in tape:
        y_dot = None
        for k, place in enumerate(places):
            x_dot = None if place is None else dots[place]
            if x_dot is not None:
                term = primitive.push(k, x_dot, y, values, params)
                y_dot = term if y_dot is None else y_dot + term
        dots.append(y_dot)
    return dots


def owned(found: list[Value | None], like: Sequence[Value], given: Sequence[Value]) -> list[Value]:
    """Fill in zeros for None, and copy what is not an array of its own: the caller may write to it."""
    taken = set(map(id, given))
    for i, v in enumerate(found):
        if type(v) is np.ndarray:
            if id(v) in taken or v.base is not None:
                found[i] = v.copy("K")
            taken.add(id(v))
        elif v is None:
            found[i] = np.zeros(shape_of(like[i]), dtype_of(like[i]))
        elif type(v) is Var:
            found[i] = v.alias()
    return found


def is_float(value: Value) -> bool:
    """Whether the value has a derivative: its dtype is a real floating type."""
    value = innermost(value)
    return isinstance(value, float) or (
        isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"
    )
