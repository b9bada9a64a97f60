"""Backward sweeps that come again and again are compiled: eager gradients without the interpreting.

What a sweep does is settled by the tape's structure: the primitives with their parameters, the wiring,
whether the cotangents are 1, and type, shape, memory layout and dtype of whatever comes from outside. Of
values only Python's integers and truth values count. A structure that was swept `OFTEN` times gets a
program, which takes everything else on the tape as arguments; the sweep interprets the tape where there is
none.
"""

from __future__ import annotations

import functools
import marshal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive
from ffverify.reference.engine.tracing import Tape, owned, pull_back
from ffverify.reference.engine.var import OF_PYTHONS, Value, dtype_of, ndarray

from .compiler import written
from .graph import trace

Program = Callable[[list[Any]], list[Value]]

OFTEN = 100  # sweeps, which together take about as long as compiling
KEPT = 256  # structures
LONG = 1000  # records: a program is made of so many in a tenth of a second
LARGE = 2**20  # bytes of constants and intermediate values, beside which interpreting takes no time
# How often a structure was swept, then its program, or None where it has none.
SWEEPS: dict[Any, int | Program | None] = {}


def sweep(
    tape: Tape,
    outputs: Sequence[int | None],
    y_bars: Sequence[Value] | None,
    inputs: Sequence[Value],
) -> list[Value]:
    """Return the cotangents of the inputs, as `pull_back` does, in arrays that the caller may write to.

    No `y_bars` stands for 1 of each output, which are scalars.
    """
    try:
        key, leaves = _structure(tape, outputs, y_bars, inputs)
    except ValueError:
        return _interpreted(tape, outputs, y_bars, inputs)
    found = SWEEPS.get(key, 0)
    if type(found) is int:
        if len(SWEEPS) >= KEPT:
            SWEEPS.clear()
        often = found >= OFTEN
        SWEEPS[key] = found = (
            _program(tape, outputs, y_bars, inputs, leaves) if often else found + 1
        )
    if callable(found):
        return found(leaves)
    return _interpreted(tape, outputs, y_bars, inputs)


def _interpreted(
    tape: Tape,
    outputs: Sequence[int | None],
    y_bars: Sequence[Value] | None,
    inputs: Sequence[Value],
) -> list[Value]:
    if y_bars is None:
        ys = [*inputs, *(record[0] for record in tape)]
        y_bars = [1.0 if place is None else dtype_of(ys[place]).type(1) for place in outputs]
    return owned(pull_back(tape, outputs, y_bars, len(inputs)), inputs, y_bars)


@functools.cache
def _own() -> frozenset[Primitive]:
    """Return the engine's own primitives: a user's rules may depend on more than arguments."""
    from ffverify.reference.primitives.catalogue import primitives  # which rests on the engine

    own = (*primitives().values(), *OF_PYTHONS.values())
    return frozenset(p for p in own if p.remembering is None)


def _structure(
    tape: Tape,
    outputs: Sequence[int | None],
    y_bars: Sequence[Value] | None,
    inputs: Sequence[Value],
) -> tuple[Any, list[Any]]:
    """Return the key of a tape, and the values that its program takes.

    It can be read back, so that no two structures have one key. `marshal` tells 1 from True and 1.0, which
    are equal, and writes all that `_is_plain`. Arrays among the parameters it writes as mere bytes, which
    no plain part is written as: they have keys too, and no program.

    Raises
    ------
    ValueError
        Where a primitive or value is not the engine's own.
    """
    if not 0 < len(tape) < LONG:
        raise ValueError("too long for a program, or empty")
    ys, primitives, params, _, places, outside = zip(*tape, strict=True)
    if not _own().issuperset(primitives):
        raise ValueError("a rule that may depend on anything")
    key = [primitives, places, *outputs, y_bars is None, _dumped(params)]
    leaves = []
    for x in (*(y_bars or ()), *inputs, *sum(outside, ())):
        if type(x) is not ndarray:
            _sign(x, key)
            if type(x) in STATIC:
                continue
        else:  # the usual case, quickly
            key.append(x.shape)
            key.append(x.strides)
            key.append(x.dtype)
        leaves.append(x)
    return tuple(key), [*leaves, *ys]


STATIC = (int, bool)  # values that are part of the structure
NUMBERS = "fiub"  # kinds of dtypes


def _sign(x: Value, key: list[Any]) -> None:
    """Add to the key what of a value from outside counts."""
    kind = type(x)
    if kind is ndarray:
        key += x.shape, x.strides, x.dtype
    elif kind in STATIC:
        key += kind, x
    elif issubclass(kind, float | np.generic):
        key.append(kind)
    else:
        raise ValueError(f"{kind}: not a number or array")


def _dumped(params: Any) -> bytes:
    try:
        found = marshal.dumps(params, 2)
    except ValueError:  # neither slices nor dtypes are written
        found = marshal.dumps(_written_out(params), 2)
    if len(found) > LONG + 100 * len(params):
        raise ValueError("a large array among the parameters")
    return found


def _written_out(value: Any) -> Any:
    """Replace slices and dtypes by lists, which plain parts are not."""
    kind = type(value)
    if kind is slice:
        return [value.start, value.stop, value.step]
    if isinstance(value, np.dtype):
        return [value.str]
    if kind is tuple:
        return tuple(map(_written_out, value))
    return {k: _written_out(v) for k, v in value.items()} if kind is dict else value


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is slice:
        return all(map(_is_plain, (value.start, value.stop, value.step)))
    if kind is tuple:
        return all(map(_is_plain, value))
    if isinstance(value, np.dtype):
        return value.kind in NUMBERS
    return value is None or value is Ellipsis or kind in (bool, int, float, str)


def _program(
    tape: Tape,
    outputs: Sequence[int | None],
    y_bars: Sequence[Value] | None,
    inputs: Sequence[Value],
    leaves: list[Any],
) -> Program | None:
    """Compile the sweep, or return None where that does not do."""
    if not all(_is_plain(value) for record in tape for value in record[2].values()):
        return None
    if not all(
        type(x) is float or (isinstance(x, np.ndarray | np.generic) and x.dtype.kind in NUMBERS)
        for x in leaves
    ):
        return None

    def swept(*leaves: Value) -> list[Value]:
        given = iter(leaves)
        bars = None if y_bars is None else [next(given) for _ in outputs]
        ys = [*(next(given) for _ in inputs), *leaves[len(leaves) - len(tape) :]]
        again: Tape = []
        for y, (_, primitive, params, values, places, _) in zip(
            ys[len(inputs) :], tape, strict=True
        ):
            xs = [
                ys[p] if p is not None else x if type(x) in STATIC else next(given)
                for x, p in zip(values, places, strict=True)
            ]
            again.append((y, primitive, params, xs, places, ()))
        return _interpreted(again, outputs, bars, inputs)

    try:
        graph = trace(swept, *leaves)
    except (TypeError, ValueError):  # a rule of plain arrays only
        return None
    constant = sum(getattr(node.value, "nbytes", 0) for node in graph.constants)
    if graph.branches or graph.memory + constant > LARGE:
        return None
    program, _ = written(swept, graph)
    expected = _interpreted([*tape], outputs, y_bars, inputs)
    return program if all(map(_same, program(leaves), expected)) else None


def _same(a: Value, b: Value) -> bool:
    """Whether two results are the same to the bit, in type, dtype and memory layout."""
    signatures: tuple[list[Any], list[Any]] = [], []
    for x, signature in zip((a, b), signatures, strict=True):
        _sign(x, signature)
    return signatures[0] == signatures[1] and np.asarray(a).tobytes() == np.asarray(b).tobytes()
