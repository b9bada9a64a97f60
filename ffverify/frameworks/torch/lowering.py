"""Shadows of torch programs: traced to ATen, functionalised, decomposed, run on exact numbers.

``trace(fn, args)`` gives the program as a function of precise arrays. The trace sees what autograd
executes, so a backward pass, a custom ``autograd.Function`` and in-place operations come out as plain
ATen operations. Those that the table of operations does not have are decomposed by torch's own
reference formulas; those that only move elements are run by torch itself, on labels.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray
from ffverify.exact.formats import dtype_name, is_floating
from ffverify.exact.moves import Move, marked, move
from ffverify.exact.operations import Value
from ffverify.exact.programs import Draw, Known, Program, UnknownOperation, listed, remembered
from ffverify.frameworks.line import Line, entering, in_format, moving, once

from . import FRAMEWORK, recorded
from .complex_numbers import in_pairs
from .decompositions import FACTORED, FORMULAS
from .operations import ATEN, COPIES, DRAWS, FILLS, IGNORED, MOVES, ON_NUMBERS, natively
from .tape import (
    Slot,
    Step,
    Tape,
    among,
    bind,
    decomposed,
    functional,
    has_floats,
    mapped,
    record,
    slots,
)


def trace(fn: Callable[..., Any], args: Sequence[Any], known: Known) -> Program:
    """Give a torch function at a point as a function of precise arrays (see `Framework.trace`).

    What runs here is recorded, a third of a trace's work; the rest is done once for a program.
    """
    return _traced(lambda *a: tuple(listed(fn(*a))), args, known, len(args), 0)[0]


def trace_both(
    fn: Callable[..., Any],
    args: Sequence[Any],
    cotangents: Sequence[Any],
    wrt: Sequence[bool],
    known: Known,
) -> tuple[Program, Program, Any]:
    """See `Framework.trace_both`: what autograd went through are its `_nodes`."""
    through: list[Any] = []

    def both(*given: Any) -> tuple[Any, ...]:
        results, walk = recorded(fn, given[: len(args)], wrt, graph=False)
        through[:] = [_nodes(results)]
        values = [r.clone() for r in results]  # a backward may write to what it was given
        floats = iter(given[len(args) :])
        bars = walk([next(floats) if is_floating(r) else None for r in results], keep=False)
        pairs = zip(bars, given, wrt, strict=False)
        return *values, *(torch.zeros_like(a) if g is None else g for g, a, w in pairs if w)

    forward, backward = _traced(both, [*args, *cotangents], known, len(args), sum(wrt))
    return forward, backward, through[0]


def _nodes(results: Sequence[Any]) -> frozenset[Any]:
    """Give the kinds of autograd's nodes behind results, not keeping alive what a user has defined."""
    found, waiting = dict[Any, None](), [r.grad_fn for r in results]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [n for n, _ in node.next_functions]
    return frozenset((weakref.ref(type(node)), node.name()) for node in found)


def _traced(
    fn: Callable[..., Any], args: Sequence[Any], known: Known, count: int, last: int
) -> tuple[Program, ...]:
    """Trace a function: its first results, which need ``count`` inputs alone, and the ``last`` apart."""
    examples = [a.detach().cpu() if isinstance(a, torch.Tensor) else a for a in args]
    with _as_written(), _Leaving() as leaving:
        seen = record(fn, _copied(examples), FACTORED, kept=True)
    key = (seen.key, last)
    new = key not in known
    if new and (drawn := _drawn(seen)):
        raise Draw(*drawn)
    programs = remembered(known, key, lambda: _lowered(seen, examples, count, last))
    # Whether a value that leaves matters may differ from one input to another, as where it is a bound.
    if (new or leaving.seen) and not _is_complete(fn, seen, examples, leaves=leaving.seen):
        del known[key]  # at the edge of a branch it does not show: another input may do
        raise UnknownOperation(
            *seen.noise or ["a value that leaves the graph (.numpy() or .item())"]
        )
    return programs


_SMALL = 2**10  # numbers of a program that outlives its function
_programs: Known = {}
_formulas: dict[str, Tape] = {}
Moves = dict[Any, Any]  # by what operations have in common, and their indices
_moves: Moves = {}


def _lowered(seen: Tape, examples: Sequence[Any], count: int, last: int) -> tuple[Program, ...]:
    """Give what a function was seen to execute as functions of precise arrays.

    Functions that are made anew at every call, as those in tests are, execute the same: it is one program.
    """
    numbers = sum(t.numel() for t in among(torch.Tensor, [examples, seen.constants]))
    known, moves = (_programs, _moves) if numbers <= _SMALL else ({}, {})

    def made() -> tuple[Program, ...]:
        tape = functional(seen, _copied(examples), _DECOMPOSITIONS)
        tape = decomposed(in_pairs(tape, _copied(examples)), _DECOMPOSITIONS, _formulas)
        cut = len(tape.outputs) - last
        parts = [tape.part(tape.inputs[:count], tape.outputs[:cut])]
        parts += [tape.part(tape.inputs, tape.outputs[cut:])] if last else []
        return tuple(_laid_out(part, moves) for part in parts)

    return remembered(known, (seen.key, last), made)


def _as_written() -> AbstractContextManager[Any]:
    """Run what torch.compile has made as it was written: of compiled kernels nothing can be recorded."""
    compiles = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return torch.compiler.set_stance("force_eager") if compiles else nullcontext()


_MARGIN = 64
_FAR = 2.0**-4  # a step that a machine epsilon of bfloat16, 2⁻⁷, does not hide
_HALF_PRECISION = 2.0**-12  # a machine epsilon between those of float32 and of the half formats


def _is_complete(
    fn: Callable[..., Any], tape: Tape, examples: Sequence[Any], *, leaves: bool
) -> bool:
    """Tell whether no values have gone around a trace (through .numpy() or .item()), as constants.

    A step of half the digits aside, of three quarters in half precision, the trace and the function run
    the same kernels on the same numbers; a constant in place of a value would leave them that far apart.
    What is decomposed rounds otherwise: a few times more, and where that cancels, about as much as it does
    some ulps aside. The worst of five places that few ulps aside is no bound on rounding: `_MARGIN` times
    it is allowed, and no more than the fourth root of all ulps: 2⁶ beside the 2²⁶ ulps of the step in
    float64 and the 2¹² in float32, 2² beside 2⁸ in float16, and 2 beside 2⁵ in bfloat16.

    What is seen to leave, as for a branch, has no such allowance, and is tried so far aside as well that it
    shows through any format to which it is rounded on the way: beside its size, where a zero stays, and
    beside 1, as the cosine of a small number does not move else.
    """
    if leaves and not all(
        _near(*pair, 0.0)
        for least in (0.0, 1.0)
        for pair in _aside(fn, tape, examples, _FAR, 0.0, least)
    ):
        return False
    eps = max((torch.finfo(a.dtype).eps for a in examples if is_floating(a)), default=0.0)
    margin = min(_MARGIN, eps**-0.25) if eps else _MARGIN
    pairs = _aside(fn, tape, examples, 1, 0.25 if eps > _HALF_PRECISION else 0.5)
    if all(_near(ours, theirs, 0.0) for ours, theirs in pairs):
        return True
    if leaves:
        return False
    near = [_aside(fn, tape, examples, ulps, 1.0) for ulps in (0, 0, 1, 2, 3)]
    alike = all(_near(a, b, 0.0) for (_, a), (_, b) in zip(*near[:2], strict=True))
    noise = [max(float((o - t).abs().max()) for o, t in found) for found in zip(*near, strict=True)]
    return alike and all(_near(*p, margin * n) for p, n in zip(pairs, noise, strict=True))


class _Leaving(TorchFunctionMode):
    """Sees what values are taken out of tensors of floats; of compiled code nothing is seen."""

    seen = False

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _WAYS_OUT and is_floating(args[0]):
            self.seen = True
        return func(*args, **(kwargs or {}))


_WAYS_OUT = {
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "numpy", "__array__", "__float__", "__dlpack__")
}


def _aside(
    fn: Callable[..., Any],
    tape: Tape,
    examples: Sequence[Any],
    times: float,
    power: float,
    least: float = 0.0,
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give the floating results of a trace and of its function, a step of times · εᵖ aside, away from 0.

    It is relative, to sizes of no ``least``.
    """

    def moved_by(a: Any) -> Any:
        if not is_floating(a):
            return a
        step = times * torch.finfo(a.dtype).eps ** power
        return a + step * torch.copysign(a.abs().clamp(min=least), a)

    args = list(map(moved_by, examples))
    pairs = zip(tape(*_copied(args)), listed(fn(*_copied(args))), strict=True)
    return [(o, t.detach().cpu()) for o, t in pairs if is_floating(t) and t.numel()]


def _near(ours: torch.Tensor, theirs: torch.Tensor, noise: float) -> bool:
    slack = 8 * torch.finfo(theirs.dtype).eps  # as many roundings as a library's function has
    a, b = (t.double().numpy(force=True) for t in (ours, theirs))
    with np.errstate(invalid="ignore"):
        apart = abs(a - b)
        near = (a == b) | (np.isnan(a) & np.isnan(b))
        near |= np.isfinite(apart) & (apart <= noise + slack * abs(b))
    return bool(near.all())


def _copied(args: Sequence[Any]) -> list[Any]:
    return [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _laid_out(tape: Tape, moves: Moves) -> Program:
    """Give a tape as a program on precise arrays.

    What depends on data alone is one step; so are moves of what was only moved. Where moved elements go is
    remembered among ``moves``.
    """
    unknown = sorted({s.name for s in tape.steps if not _known(s)})
    if unknown:
        raise UnknownOperation(*unknown)
    data = [s for s in slots(tape.inputs) if not has_floats(s)]
    steps, of_data, same = _parted(tape, data)
    outputs = [same.get(s.number, s.number) for s in slots(tape.outputs)]
    line = Line(len(tape.inputs), FRAMEWORK.to_numpy)
    places = {s.number: i for i, s in enumerate(tape.inputs) if isinstance(s, Slot)}
    places |= {k: line.constant(t) for k, t in tape.constants.items()}

    def add(what: Callable[..., Any], takes: Sequence[int], results: Sequence[Slot]) -> None:
        gives = line.add(what, [places[n] for n in takes], len(results))
        places.update(zip((s.number for s in results), gives, strict=True))

    used = {*outputs, *(n for _, takes in steps for n in takes)}
    wanted = [s for s in of_data if s.number in used]
    if wanted:
        add(_of_data(tape.part(data, wanted)), [s.number for s in data], wanted)
    chains: dict[int, Chain] = {}
    for step, takes in steps:
        if step.name in MOVES and any(map(has_floats, step.inputs)):
            sources, chain = _after(step, takes, chains)
            add(_moving(sources, chain, moves), sources, step.outputs)
        else:
            add(_step(step), takes, step.outputs)
    line.giving([places[n] for n in outputs])

    def run(*args: Value) -> tuple[Any, ...]:
        found = dict(zip(outputs, line.exactly(args), strict=True))
        return tuple(mapped(Slot, lambda s: found[same.get(s.number, s.number)], tape.outputs))

    return run


def _parted(
    tape: Tape, data: Sequence[Slot]
) -> tuple[list[tuple[Step, list[int]]], list[Slot], dict[int, int]]:
    """Give the exact steps, each with what it takes, what torch makes of data, and what is the same as what.

    Copies are what they copy, and what was computed before is not computed again. An index that a program
    gets by rounding floats of its own is what torch makes it, not what exact arithmetic would.
    """
    same: dict[int, int] = {}
    before: dict[Any, list[Slot]] = {}
    known = {s.number for s in data} | tape.constants.keys()  # of which torch has the numbers
    of_data: list[Slot] = []
    steps: list[tuple[Step, list[int]]] = []
    for step in tape.steps:
        takes, results = [same.get(s.number, s.number) for s in step.inputs], step.outputs
        alike = before.setdefault((step.likeness[-1], *takes), results)
        if step.name in COPIES:
            same[results[0].number] = takes[0]
            continue
        if alike is not results and not step.writes:
            same |= zip((s.number for s in results), (s.number for s in alike), strict=True)
            continue
        is_known = known.issuperset(takes) and not step.writes
        known |= {s.number for s in results} if is_known else set()
        if is_known and not _rounds(step):
            of_data += results
        else:
            steps.append((step, takes))
    return steps, of_data, same


def _of_data(tape: Tape) -> Callable[..., list[Value]]:
    """Give the step of what depends on data alone, which torch runs once for the same data."""
    known: Known = {}

    def step(arithmetic: Arithmetic, *given: Value) -> list[Value]:
        if any(isinstance(a, Plain) for a in given):
            raise HiddenRows("data of each row's own")
        key = tuple(np.asarray(a).tobytes() for a in given)
        made = remembered(known, key, lambda: tape(*natively(given)), most=_MANY)
        return [entering(FRAMEWORK.to_numpy(t), arithmetic) for t in made]

    return step


def _step(step: Step) -> Callable[..., Sequence[Value]]:
    """Give what an operation does to values; it is told first of which arithmetic they are."""
    said = {k: v for k, v in step.kwargs.items() if k not in IGNORED}
    meant = replace(step, kwargs=said)  # with the arguments that its meaning takes
    native = once(partial(_native, step))

    def run(arithmetic: Arithmetic, *xs: Value) -> Sequence[Value]:
        kinds = set(map(type, xs))
        if Plain in kinds and step.name not in _OF_PLAIN:
            raise HiddenRows(step.name)
        some = PreciseArray in kinds or Plain in kinds
        if step.name not in ATEN or not (some or _makes_floats(step)):
            made = native(*xs)
            results = mapped(np.ndarray, lambda a: entering(a, arithmetic), made)
        else:
            given = xs if some else [arithmetic.array(x) for x in xs]
            args, kwargs = meant.given(given)
            results = ATEN[step.name](*args, **kwargs)
        if isinstance(step.results, Slot):
            return [in_format(results, dtype_name(step.results), arithmetic)]
        found: dict[int, Value] = {}
        bind(step.results, results, found)
        return [found.get(s.number) for s in step.outputs]

    return run


# What is moved, and the operations that move it one after another, each with what it takes.
Chain = tuple[list[int], list[tuple[Step, list[int]]]]
_LONG = 64  # operations that are one move


def _after(step: Step, takes: list[int], chains: dict[int, Chain]) -> Chain:
    """Give what a step moves, where that was moved before from there.

    Only what moves floats to one array, by no indices or strides that vary, is part of a longer chain.
    """
    alone = step.name in FILLS or step.name.startswith("as_strided") or not step.floating
    alone = alone or not all(map(has_floats, step.inputs))
    parts = [([n], []) if alone else chains.get(n, ([n], [])) for n in takes]
    before = list({id(s): (s, t) for _, some in parts for s, t in some}.values())
    if len(before) >= _LONG:
        parts, before = [(takes, [])], []
    chain = list(dict.fromkeys(n for some, _ in parts for n in some)), [*before, (step, takes)]
    if not alone:
        chains[step.outputs[0].number] = chain
    return chain


def _moving(
    sources: list[int], chain: list[tuple[Step, list[int]]], known: Moves
) -> Callable[..., Sequence[Value]]:
    """Let torch move the labels of elements, as a chain does, and put the elements where the labels went.

    Where that is stays the same for the same indices.
    """
    places = {n: i for i, n in enumerate(sources)}
    places |= {s.outputs[0].number: i for i, (s, _) in enumerate(chain, len(places))}
    *before, (last, taken) = chain
    place = FILLS.get(last.name, len(last.args))
    number, outside = next(iter(last.args[place:]), None), math.nan
    if isinstance(number, int | float):  # that elements are set to
        outside = float(number)
        last = replace(last, args=(*last.args[:place], -1, *last.args[place + 1 :]))
    steps = [(s, [places[n] for n in takes]) for s, takes in (*before, (last, taken))]
    alike = tuple((*takes, s.likeness[-1]) for s, takes in steps)

    def find(operands: Sequence[Value]) -> list[Move]:
        key = (alike, *(x.tobytes() for x in operands if isinstance(x, np.ndarray)))
        return remembered(known, key, lambda: where(operands), most=_MANY)

    def where(operands: Sequence[Value]) -> list[Move]:
        values = list(map(natively, marked(operands)))
        for step, takes in steps:
            looks = zip(step.inputs, [values[i] for i in takes], strict=True)
            args, kwargs = step.given([_laid_in_memory(x, slot, step.name) for slot, x in looks])
            out = step.operation(*args, **kwargs)
            values.append(mapped(torch.Tensor, torch.Tensor.contiguous, out))
        return [move(t.numpy()) for t in among(torch.Tensor, values[-1])]

    put = moving(find, outside)
    return lambda _arithmetic, *xs: put(xs)


def _rounds(step: Step) -> bool:
    """Tell whether an operation on numbers that torch has may give others than exact arithmetic does."""
    floats = any(map(has_floats, step.inputs)) and any(map(has_floats, step.outputs))
    return floats or _makes_floats(step)


def _makes_floats(step: Step) -> bool:
    """Tell whether an operation that the table has turns numbers that may be integers into floats."""
    return step.name in ON_NUMBERS and step.name in ATEN and step.floating


def _laid_in_memory(x: torch.Tensor, slot: Slot, name: str) -> torch.Tensor:
    """Give labels as they are; for operations on their storage, with the strides that elements had."""
    if not name.startswith("as_strided"):
        return x
    return torch.empty_strided(slot.shape, slot.stride, dtype=torch.int64).copy_(x)


def _native(step: Step, *xs: Value) -> Value:
    """Run an operation without precise operands as it is: integers, and constants being made."""
    if any(isinstance(x, PreciseArray) for x in xs):
        raise UnknownOperation(str(step.operation))
    args, kwargs = step.given(natively(xs))
    out = step.operation(*args, **kwargs)
    return mapped(torch.Tensor, FRAMEWORK.to_numpy, out)


def _known(step: Step) -> bool:
    tensors = [*step.inputs, *step.outputs]
    random = torch.Tag.nondeterministic_seeded in getattr(step.operation, "tags", ())
    if random or any(s.dtype.is_complex for s in tensors):
        return False
    floating = any(s.dtype.is_floating_point for s in step.inputs)
    return step.name in ATEN or step.name in MOVES or not floating


def _drawn(tape: Tape) -> list[str]:
    """Give the draws from distributions whose parameters depend on the inputs."""
    moved = {s.number for s in slots(tape.inputs)}
    found: dict[str, None] = {}
    for step in tape.steps:
        if any(s.number in moved for s in step.inputs):
            moved |= {s.number for s in step.outputs}
            found |= {step.name: None} if step.operation in DRAWS else {}
    return list(found)


_MANY = 1024  # data of which results, and indices of which moves, are remembered

# What batches of truth values are taken by as they are.
_OF_PLAIN = frozenset(str.split("where logical_and logical_or logical_not eq ne lt le gt ge"))


# What torch wraps reference formulas in, to compute as its kernels do where formats mix or are narrow.
_CASTS = ("elementwise_type_promotion_wrapper.", "type_casts.")


def _uncast(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Give a reference formula that is wrapped in casts only where there is something to cast.

    To wrap it torch imports its compiler, to keep it out, and SymPy: most of the first check's time.
    """
    part: Any = formula
    while not getattr(getattr(part, "__code__", None), "co_qualname", "").startswith(_CASTS):
        part = getattr(part, "__wrapped__", None)
        if part is None:
            return formula
    bare = part.__wrapped__

    def call(*args: Any, **kwargs: Any) -> Any:
        formats = {t.dtype for t in among(torch.Tensor, (args, kwargs))}
        alike = formats in ({torch.float32}, {torch.float64})
        alike = alike and not among(torch.dtype, (args, kwargs))
        return (bare if alike else formula)(*args, **kwargs)

    return call


_DECOMPOSITIONS = {
    op: _uncast(formula)
    for op, formula in decomposition_table.items()
    if isinstance(op, OpOverload) and op._schema.name.split("::")[-1] not in {*ATEN, *MOVES}  # noqa: SLF001 - torch has no public way
} | FORMULAS
