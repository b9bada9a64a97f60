"""Tapes of torch programs: the ATen operations that a function executes, below autograd.

``record(fn, args, table)`` runs a function once and writes down what reaches ATen: a backward pass, a
custom ``autograd.Function`` and forward mode come out as plain operations. ``functional(tape, …)`` gives
the same program without mutations and views, ``decomposed(tape, …)`` by formulas of a table. A tape is made
some ten times faster than make_fx makes its graphs, whose proxies and symbolic shapes exact arithmetic has
no use for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

from ffverify.exact.programs import remembered

# ruff: noqa: SLF001 - an operation's schema and keys have no public names
aten = torch.ops.aten
Table = Mapping[Any, Any]  # of operations, functions in their place


@dataclass(frozen=True, repr=False)  # no NamedTuple: it would be taken apart as a tuple
class Slot:
    """Where on a tape a tensor is, and what it looks like."""

    number: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]

    def __repr__(self) -> str:
        return f"%{self.number}"


@dataclass(frozen=True)
class Step:
    """One operation; tensors among its arguments and results are slots."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: Any

    @cached_property
    def name(self) -> str:
        """The operation's name without namespace and overload."""
        return str(self.operation._schema.name).split("::")[-1]

    @property
    def writes(self) -> bool:
        """Whether the operation changes its arguments: of a functional program, the inputs."""
        return bool(self.operation._schema.is_mutable)

    @cached_property
    def inputs(self) -> list[Slot]:
        """The tensors that the operation reads."""
        return slots((self.args, self.kwargs))

    @cached_property
    def outputs(self) -> list[Slot]:
        """The tensors that the operation gives."""
        return slots(self.results)

    @cached_property
    def floating(self) -> bool:
        """Whether the operation gives one tensor of floats."""
        return isinstance(self.results, Slot) and self.results.dtype.is_floating_point

    @cached_property
    def likeness(self) -> tuple[list[Slot], Any, str]:
        """What the operation has in common with others: its inputs, and (args, kwargs) that number these.

        The text is the same where the operation, how its inputs look and its other arguments are.
        """
        given = list({s.number: s for s in self.inputs}.values())
        places = {s.number: Slot(i, s.dtype, s.shape, s.stride) for i, s in enumerate(given)}
        numbered = _renamed((self.args, self.kwargs), places)
        return given, numbered, f"{self.operation}{numbered}{_looks(list(places.values()))}"

    @cached_property
    def given(self) -> Callable[[Sequence[Any]], Any]:
        """What gives the arguments, as (args, kwargs), with values in the place of `inputs`."""
        given = self.args, self.kwargs
        return _filling(given, {s.number: i for i, s in enumerate(self.inputs)}) or partial(
            _same, given
        )


@dataclass(frozen=True)
class Tape:
    """A recorded program.

    Attributes
    ----------
    steps
        In the order of execution.
    inputs, outputs
        Slots of the arguments (other arguments as they were), and the results, slots among them.
    constants
        Tensors from outside, by slot number, as they were before the program changed them; and noise.
    noise
        The names of the operations that drew it.
    """

    steps: Sequence[Step]
    inputs: Sequence[Any]
    outputs: Any
    constants: Mapping[int, torch.Tensor]
    noise: Sequence[str] = ()

    def __call__(self, *args: Any) -> Any:
        """Run the program again, on other tensors."""
        values: dict[int, Any] = {k: t.clone() for k, t in self.constants.items()}
        bind(self.inputs, args, values)
        for step in self.steps:
            given, named = step.given([values[s.number] for s in step.inputs])
            bind(step.results, step.operation(*given, **named), values)
        return mapped(Slot, lambda s: values[s.number], self.outputs)

    def part(self, inputs: Sequence[Any], outputs: Any) -> Tape:
        """Give the program of some outputs, which need these inputs alone: without unused steps."""
        needed = {s.number for s in slots(outputs)}
        steps: list[Step] = []
        for step in reversed(self.steps):
            numbers = {s.number for s in step.outputs}
            if numbers & needed:
                steps.append(step)
                needed |= {s.number for s in step.inputs}
        kept = {k: t.clone() for k, t in self.constants.items() if k in needed}
        return Tape(steps[::-1], inputs, outputs, kept)

    @property
    def opened(self) -> list[Slot]:
        """The slots of the constants."""
        return [Slot(k, t.dtype, t.shape, t.stride()) for k, t in self.constants.items()]

    @cached_property
    def key(self) -> str:
        """What tells the program from others: operations, their arguments, shapes, and constants.

        What the program has read of its numbers, to branch on it or to go on with it outside of torch, is
        told by what came of it: another operation, argument or constant.
        """
        steps = [f"{s.operation}{s.args}{s.kwargs}{_looks(s.results)}" for s in self.steps]
        held = [
            f"{k}{t.dtype}{tuple(t.shape)}{t.stride()}{_digest(t)}"
            for k, t in self.constants.items()
        ]
        return "\n".join([*steps, f"{self.inputs}{_looks(self.inputs)}{self.outputs}", *held])


_PLAIN = frozenset({int, float, bool, str, type(None)})  # most arguments are no arrays


def mapped(kind: type, function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of a kind in nested lists, tuples and dicts.

    What torch's pytree does to any container, a tape needs for three, thousands of times.
    """
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, list | tuple):
        parts = [t if type(t) in _PLAIN else mapped(kind, function, t) for t in tree]
        return parts if isinstance(tree, list) else tuple(parts)
    if isinstance(tree, dict):
        return {k: mapped(kind, function, t) for k, t in tree.items()} if tree else tree
    return tree


def among(kind: type, tree: Any) -> list[Any]:
    """Give the leaves of a kind in nested lists, tuples and dicts, from left to right."""
    if isinstance(tree, kind):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    if not isinstance(tree, list | tuple):
        return []
    return [leaf for t in tree if type(t) not in _PLAIN for leaf in among(kind, t)]


def _looks(tree: Any) -> str:
    return "".join([f"{s}{s.dtype}{tuple(s.shape)}{s.stride}" for s in slots(tree)])


def _digest(tensor: torch.Tensor) -> str:
    whole = tensor.cpu().resolve_neg().resolve_conj().reshape(-1).view(torch.uint8)
    return blake2b(whole.numpy(force=True).tobytes()).hexdigest()


def _filling(tree: Any, places: Mapping[int, int]) -> Callable[[Sequence[Any]], Any] | None:
    """Give the function that puts values in the place of slots, as a tape runs often; None without any.

    ``places`` tell by a slot's number where among the values its own is.
    """
    if isinstance(tree, Slot):
        return itemgetter(places[tree.number])
    if not isinstance(tree, list | tuple | dict):
        return None
    parts = list(tree.values() if isinstance(tree, dict) else tree)
    fills = [None if type(part) in _PLAIN else _filling(part, places) for part in parts]
    if not any(fills):
        return None
    each = [fill or partial(_same, part) for fill, part in zip(fills, parts, strict=True)]
    if isinstance(tree, dict):
        return lambda values: {k: fill(values) for k, fill in zip(tree, each, strict=True)}
    if isinstance(tree, list):
        return lambda values: [fill(values) for fill in each]
    return lambda values: tuple([fill(values) for fill in each])


def _same(value: Any, _: Any) -> Any:
    return value


def bind(places: Any, results: Any, values: dict[int, Any]) -> None:
    """Keep results under the slots at their places."""
    if isinstance(places, Slot):
        values[places.number] = results
    elif isinstance(places, list | tuple):
        for place, result in zip(places, results, strict=False):  # unused ones may not be given
            bind(place, result, values)


def slots(tree: Any) -> list[Slot]:
    """Give the slots among the leaves of a tree."""
    return among(Slot, tree)


class _Recorder(TorchDispatchMode):
    """Writes down every operation that reaches it; those in the table are decomposed first.

    Noise that is ``kept`` is no operation, but a constant of the program.
    """

    def __init__(self, table: Table, *, kept: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.table = table
        self.noise: dict[str, None] | None = {} if kept else None
        self.steps: list[Step] = []
        self.constants: dict[int, torch.Tensor] = {}
        self._open: list[Any] = []  # operations being decomposed
        self._kept: list[torch.Tensor] = []  # alive, so that no other tensor gets the same id
        self._slots: dict[int, Slot] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Save the import of torch's compiler, a second of every first check: it has no part here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types  # subclasses come apart above
        kwargs = kwargs or {}
        formula = self._formula(func, (args, kwargs))
        if formula is not None:
            self._open.append(func)
            try:
                with self:
                    out = formula(*args, **kwargs)
            finally:
                self._open.pop()
            if out is not NotImplemented:
                return out
        if func is aten.lift_fresh.default:  # a number of the code's, which the code may yet change
            func = aten.lift_fresh_copy.default
            args = (args[0].clone(),)
        if func is aten._efficientzerotensor.default:
            func = aten.zeros.default  # that one torch reads where it has no memory, and dies
        for i, name in _written(func):
            for tensor in among(torch.Tensor, args[i] if i < len(args) else kwargs.get(name)):
                number = self.slot(tensor).number
                if number in self.constants:
                    self.constants[number] = tensor.detach().clone()
        given, named = mapped(torch.Tensor, self.slot, (args, kwargs))
        out = func(*args, **kwargs)
        if self.noise is not None and _is_noise(func):
            self.noise[func._schema.name.split("::")[-1]] = None
            drawn = self.slot(out.clone() if _written(func) else out)
            if not _written(func):
                return out
            func, given, named = aten.copy_.default, (given[0], drawn), {}
        results = mapped(torch.Tensor, self.new, out)
        self.steps.append(Step(func, given, named, results))
        return out

    def _formula(self, func: Any, given: Any) -> Callable[..., Any] | None:
        """Give the formula of an operation that is to be decomposed, or the code of one that a user declared.

        An operation without floats needs none, and nor does one inside its own: what ATen and torch's
        primitive operations are decomposed into is each other, where there is nothing simpler.
        """
        if func in self._open:
            return None
        if func in self.table and any(map(has_floats, among(torch.Tensor, given))):
            return self.table[func]  # type: ignore[no-any-return]  # a function
        return _own(func) or _parts(func)

    def new(self, tensor: torch.Tensor) -> Slot:
        """Give a slot to a tensor that has just been made, or changed."""
        stride = tensor.stride() if tensor.layout is torch.strided else ()
        slot = Slot(len(self._kept), tensor.dtype, tensor.shape, stride)
        self._kept.append(tensor)
        self._slots[id(tensor)] = slot
        return slot

    def slot(self, tensor: torch.Tensor) -> Slot:
        """Give the slot of a tensor; one not seen before comes from outside."""
        found = self._slots.get(id(tensor))
        if found is None:
            found = self.new(tensor)
            self.constants[found.number] = tensor.detach()
        return found


def has_floats(x: Slot | torch.Tensor) -> bool:
    """Tell whether an array is one of floats."""
    return x.dtype.is_floating_point or x.dtype.is_complex


@cache
def _is_noise(func: Any) -> bool:
    """Tell whether an operation draws what depends on no tensor's numbers: it makes one, or fills it."""
    if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):
        return False
    tensors = [a for a in func._schema.arguments if str(a.type) == "Tensor"]
    fills = len(tensors) == 1 and (bool(_written(func)) or func is aten.bernoulli.p)
    return fills or not tensors or func._schema.name.endswith("_like")


@cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Give places and names of the arguments that an operation changes."""
    return [
        (i, argument.name)
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def _own(func: Any) -> Callable[..., Any] | None:
    """Give the Python code of an operation that a user has declared to torch as a whole one."""
    found = OPDEFS.get(func._schema.name)
    return None if found is None or found._namespace == "prims" else found._init_fn


_WHOLE = {aten.size.default, aten.stride.default, aten.storage_offset.default}


@cache
def _parts(func: Any) -> Callable[..., Any] | None:
    """Give the code of an operation that only consists of others, if it comes here whole."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    if func not in _WHOLE and func.has_kernel_for_dispatch_key(key):
        return func.decompose  # type: ignore[no-any-return]  # a function
    return getattr(func, "impl_aten", None)


def record(
    fn: Callable[..., Any], args: Sequence[Any], table: Table, *, kept: bool = False
) -> Tape:
    """Run a function and record what it executes.

    Operations in ``table`` are replaced by the functions there; these may return NotImplemented. Noise is
    drawn anew when the tape runs, unless it is ``kept``: that of one seed differs from format to format.
    """
    recorder = _Recorder(table, kept=kept)
    inputs = [recorder.new(a) if isinstance(a, torch.Tensor) else a for a in args]
    with recorder:
        results = fn(*args)
    outputs = mapped(torch.Tensor, recorder.slot, results)
    return Tape(recorder.steps, inputs, outputs, recorder.constants, tuple(recorder.noise or ()))


# Functionalisation replaces this one by a formula of other roundings than the one that runs.
_FIRST = aten.binary_cross_entropy_with_logits.default


def functional(tape: Tape, args: Sequence[Any], table: Table) -> Tape:
    """Give the same program without mutations and views.

    Where nothing is written to, views are copies, and nothing has to be functionalised.
    """
    if not any(step.writes for step in tape.steps):
        return tape
    tape = decomposed(tape, {_FIRST: table[_FIRST]}, {})
    program = replace(tape, inputs=[*tape.inputs, *tape.opened], constants={})
    return recorded_again(_pure(program), args, list(tape.constants.values()))


def recorded_again(
    program: Callable[..., Any], args: Sequence[Any], held: Sequence[torch.Tensor]
) -> Tape:
    """Record a program of arguments and of its constants."""
    count = len(args)
    again = record(program, [*args, *(t.clone() for t in held)], {})
    constants = dict(again.constants)
    bind(again.inputs[count:], held, constants)
    return replace(again, inputs=again.inputs[:count], constants=constants)


def _pure(program: Callable[..., Any]) -> Callable[..., Any]:
    return torch.func.functionalize(program, remove="mutations_and_views")


def decomposed(tape: Tape, table: Table, known: dict[str, Tape]) -> Tape:
    """Put in the place of each operation that has a formula what this executes.

    Into what it is decomposed of arguments that look like these is ``known`` the next time.
    """
    fresh = itertools.count(-1, -1)  # numbers that a recorded tape does not have
    steps: list[Step] = []
    constants = dict(tape.constants)
    instead: dict[int, Any] = {}  # of slots of results

    def new(numbers: dict[int, Any], slot: Slot) -> Slot:
        numbers[slot.number] = Slot(next(fresh), slot.dtype, slot.shape, slot.stride)
        return numbers[slot.number]  # type: ignore[no-any-return]  # a slot

    for whole in tape.steps:
        step = whole
        if not instead.keys().isdisjoint(s.number for s in whole.inputs):
            args, kwargs = _renamed((whole.args, whole.kwargs), instead)
            step = Step(whole.operation, args, kwargs, whole.results)
        floats = any(map(has_floats, step.inputs))
        if not (floats and step.operation in table) and _parts(step.operation) is None:
            steps.append(step)
            continue
        given, part = _formula_of(step, table, known)
        inside: dict[int, Any] = dict(zip((s.number for s in part.inputs), given, strict=True))
        for k, t in part.constants.items():
            constants[new(inside, Slot(k, t.dtype, t.shape, t.stride())).number] = t
        for inner in part.steps:
            args, kwargs = _renamed((inner.args, inner.kwargs), inside)
            results = mapped(Slot, partial(new, inside), inner.results)
            steps.append(Step(inner.operation, args, kwargs, results))
        bind(step.results, _renamed(part.outputs, inside), instead)
    return Tape(steps, tape.inputs, _renamed(tape.outputs, instead), constants)


def _renamed(tree: Any, names: Mapping[int, Any]) -> Any:
    return mapped(Slot, lambda s: names.get(s.number, s), tree)


_MANY = 1024  # formulas that are known


def _formula_of(step: Step, table: Table, known: dict[str, Tape]) -> tuple[list[Slot], Tape]:
    """Give the arguments of a step, and what it executes as a program of these."""
    given, numbered, key = step.likeness

    def program(*values: Any) -> Any:
        args, kwargs = mapped(Slot, lambda s: values[s.number], numbered)
        return step.operation(*args, **kwargs)

    def recorded() -> Tape:
        examples = list(map(_example, given))
        part = record(program, examples, table)
        writes = any(inner.writes for inner in part.steps)
        return record(_pure(program), examples, table) if writes else part

    return given, remembered(known, key, recorded, most=_MANY)


def _example(slot: Slot) -> torch.Tensor:
    """Give a tensor of ones, of integers zeros, which any index may be, that looks like a slot's."""
    if 0 in slot.shape:
        return torch.empty_strided(slot.shape, slot.stride, dtype=slot.dtype)
    size = 1 + sum((n - 1) * step for n, step in zip(slot.shape, slot.stride, strict=True))
    make = torch.ones if has_floats(slot) else torch.zeros
    return make(size, dtype=slot.dtype).as_strided(slot.shape, slot.stride)
