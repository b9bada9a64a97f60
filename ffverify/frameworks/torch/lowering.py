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
from ffverify.frameworks.line import Line, entering, moving

from . import FRAMEWORK, recorded
from .decompositions import FACTORED, FORMULAS
from .operations import ATEN, COPIES, DRAWS, FILLS, IGNORED, MOVES, ON_NUMBERS, TYPED, natively
from .tape import Slot, Step, Tape, among, bind, functional, has_floats, mapped, record, slots


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
    if new and not _is_complete(fn, seen, examples, leaves=leaving.seen):
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
        tape = functional(seen, _copied(examples), _DECOMPOSITIONS, _formulas)
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
    shows through any format to which it is rounded on the way.
    """
    if leaves and not all(_near(*p, 0.0) for p in _aside(fn, tape, examples, _FAR, 0.0)):
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
    fn: Callable[..., Any], tape: Tape, examples: Sequence[Any], times: float, power: float
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give the floating results of a trace and of its function, a step of times · εᵖ aside."""

    def moved_by(a: Any) -> Any:
        return a * (1 + times * torch.finfo(a.dtype).eps ** power) if is_floating(a) else a

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

    Copies are what they copy, and what was computed before is not computed again. What depends on data alone,
    on labels and masks and no floats, is one step; so are moves of what was only moved. Where moved elements
    go is remembered among ``moves``. An index that a program gets by rounding floats of its own is what torch
    makes it, not what exact arithmetic would.
    """
    unknown = sorted({s.name for s in tape.steps if not _known(s)})
    if unknown:
        raise UnknownOperation(*unknown)
    same: dict[int, int] = {}
    before: dict[Any, list[Slot]] = {}
    data = [s for s in slots(tape.inputs) if not has_floats(s)]
    known = {s.number for s in data} | tape.constants.keys()  # of which torch has the numbers
    of_data: list[Slot] = []
    steps: list[tuple[Step, list[int]]] = []
    for step in tape.steps:
        takes, results = [same.get(s.number, s.number) for s in step.inputs], step.outputs
        alike = before.setdefault((step.likeness[-1], *takes), results)
        if step.name in COPIES:
            same[results[0].number] = takes[0]
        elif alike is not results and not step.writes:
            same |= zip((s.number for s in results), (s.number for s in alike), strict=True)
        elif step.writes or not known.issuperset(takes):
            steps.append((step, takes))
        else:
            known |= {s.number for s in results}
            if _rounds(step):
                steps.append((step, takes))
            else:
                of_data += results
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
    moving: dict[int, Moving] = {}
    for step, takes in steps:
        sources, does = takes, _step(step, moves)
        if _only_moves(step):
            sources, chain = moving[step.outputs[0].number] = _after(step, takes, moving)
            does = _moved(sources, chain, moves)
        add(does, sources, step.outputs)
    line.giving([places[n] for n in outputs])

    def run(*args: Value) -> tuple[Any, ...]:
        found = dict(zip(outputs, line.exactly(args), strict=True))
        return tuple(mapped(Slot, lambda s: found[same.get(s.number, s.number)], tape.outputs))

    return run


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


def _step(step: Step, moves: Moves) -> Callable[..., Sequence[Value]]:
    """Give what an operation does to values; it is told first of which arithmetic they are."""
    meant = step  # with the arguments that its meaning takes
    if ignored := step.kwargs.keys() & IGNORED - ({"dtype"} if step.name in TYPED else set()):
        meant = replace(step, kwargs={k: v for k, v in step.kwargs.items() if k not in ignored})
    put = _moving(step, moves) if step.name in MOVES else None

    def results_of(arithmetic: Arithmetic, xs: Sequence[Value], *, some: bool) -> Value:
        if step.name not in ATEN or not (some or _makes_floats(step)):
            args, kwargs = step.given(xs)
            return _native(step.operation, args, kwargs, arithmetic)
        args, said = meant.given(xs)
        if not some:
            args = [arithmetic.array(a) if isinstance(a, np.ndarray) else a for a in args]
        result = ATEN[step.name](*args, **said)
        exact = arithmetic.cast is None and meant.floating
        if exact or not (isinstance(step.results, Slot) and isinstance(result, PreciseArray)):
            return result
        return result.astype(dtype_name(step.results))

    def run(arithmetic: Arithmetic, *xs: Value) -> Sequence[Value]:
        kinds = set(map(type, xs))
        if put and PreciseArray in kinds:
            return put(xs)
        if Plain in kinds and step.name not in _OF_PLAIN:
            raise HiddenRows(step.name)
        results = results_of(arithmetic, xs, some=PreciseArray in kinds or Plain in kinds)
        if isinstance(step.results, Slot):
            return [results]
        found: dict[int, Value] = {}
        bind(step.results, results, found)
        return [found.get(s.number) for s in step.outputs]

    return run


def _only_moves(step: Step) -> bool:
    """Tell whether an operation moves elements of floats to one array, by no indices or strides that vary."""
    own = step.name in MOVES and step.name not in FILLS and not step.name.startswith("as_strided")
    return own and step.floating and all(map(has_floats, step.inputs))


# What is moved, and the operations that move it one after another, each with what it takes.
Moving = tuple[list[int], list[tuple[Step, list[int]]]]
_LONG = 64  # operations that are one move


def _after(step: Step, takes: list[int], before: dict[int, Moving]) -> Moving:
    """Give what a step moves, where that was moved before from there."""
    parts = [before.get(n, ([n], [])) for n in takes]
    chain = list({id(s): (s, t) for _, some in parts for s, t in some}.values())
    if len(chain) >= _LONG:
        return list(dict.fromkeys(takes)), [(step, takes)]
    return list(dict.fromkeys(n for some, _ in parts for n in some)), [*chain, (step, takes)]


def _moved(
    sources: list[int], chain: list[tuple[Step, list[int]]], moves: Moves
) -> Callable[..., Sequence[Value]]:
    """Give what moves elements as operations do one after another."""
    places = {n: i for i, n in enumerate(sources)}
    places |= {s.outputs[0].number: i for i, (s, _) in enumerate(chain, len(places))}
    key = tuple((*(places[n] for n in takes), step.likeness[-1]) for step, takes in chain)

    def by_each(xs: Sequence[Any], do: Callable[[Step, list[Any]], Any]) -> Any:
        values = list(xs)
        for step, takes in chain:
            values.append(do(step, [values[places[n]] for n in takes]))
        return values[-1]

    def on_labels(step: Step, given: list[Any]) -> Any:
        args, kwargs = step.given(given)
        return step.operation(*args, **kwargs).contiguous()

    def where(operands: Sequence[Value]) -> list[Move]:
        return [move(by_each(natively(marked(operands)), on_labels).numpy())]

    put = moving(lambda operands: remembered(moves, key, lambda: where(operands), most=_MANY))

    def run(arithmetic: Arithmetic, *xs: Value) -> Sequence[Value]:
        if all(type(x) is PreciseArray for x in xs):
            return put(xs)
        return [by_each(xs, lambda step, given: _step(step, moves)(arithmetic, *given)[0])]

    return run


def _rounds(step: Step) -> bool:
    """Tell whether an operation on numbers that torch has may give others than exact arithmetic does."""
    floats = any(map(has_floats, step.inputs)) and any(map(has_floats, step.outputs))
    return floats or _makes_floats(step)


def _makes_floats(step: Step) -> bool:
    """Tell whether an operation that the table has turns numbers that may be integers into floats."""
    return step.name in ON_NUMBERS and step.name in ATEN and step.floating


def _moving(step: Step, known: Moves) -> Callable[[Sequence[Value]], Sequence[Value]]:
    """Let torch move the labels of elements, and put the elements where the labels went.

    Where that is stays the same for the same indices.
    """
    place = FILLS.get(step.name, len(step.args))
    number, outside = next(iter(step.args[place:]), None), math.nan
    if isinstance(number, int | float):  # that elements are set to
        outside = float(number)
        step = replace(step, args=(*step.args[:place], -1, *step.args[place + 1 :]))

    def find(operands: Sequence[Value]) -> list[Move]:
        key = (step.likeness[-1], *(x.tobytes() for x in operands if isinstance(x, np.ndarray)))
        return remembered(known, key, lambda: where(operands), most=_MANY)

    def where(operands: Sequence[Value]) -> list[Move]:
        looks = zip(step.inputs, marked(operands), strict=True)
        args, kwargs = step.given([_laid_in_memory(x, slot, step.name) for slot, x in looks])
        out = step.operation(*args, **kwargs)
        return [move(t.numpy()) for t in among(torch.Tensor, out)]

    return moving(find, outside)


def _laid_in_memory(x: Any, slot: Slot, name: str) -> torch.Tensor:
    """Give labels or indices as a tensor; for operations on its storage, with the strides that it had."""
    plain: torch.Tensor = natively(x)
    if not name.startswith("as_strided"):
        return plain
    return torch.empty_strided(slot.shape, slot.stride, dtype=torch.int64).copy_(plain)


def _native(target: Any, args: Any, kwargs: Any, arithmetic: Arithmetic) -> Value:
    """Run an operation without precise operands as it is: integers, and constants being made."""
    args, kwargs = natively((args, kwargs))
    if among(PreciseArray, (args, kwargs)):
        raise UnknownOperation(str(target))
    out = target(*args, **kwargs)
    return mapped(torch.Tensor, lambda t: entering(FRAMEWORK.to_numpy(t), arithmetic), out)


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
