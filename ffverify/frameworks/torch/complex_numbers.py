"""Complex tensors as pairs of real ones: programs that pass through complex numbers, without any.

``in_pairs(tape, args)`` gives the same program with a real and an imaginary part in the place of each
complex tensor. Autograd's conjugates come out as signs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ffverify.exact.programs import UnknownOperation

from .operations import COPIES, FILLS, MOVES
from .tape import Slot, Step, Tape, among, bind, mapped, recorded_again, slots


class Pair(NamedTuple):
    """Real and imaginary part of a tensor, or of a number."""

    real: Any
    imag: Any


def _pair(x: Any) -> Pair:
    return Pair(x.real, x.imag) if isinstance(x, Pair | complex) else Pair(x, 0.0)


def _product(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Pair]:
    """Give what a function that is linear in both arguments does to complex ones."""

    def multiply(x: Any, y: Any) -> Pair:
        (a, b), (c, d) = _pair(x), _pair(y)
        return Pair(f(a, c) - f(b, d), f(a, d) + f(b, c))

    return multiply


def _sum(x: Any, y: Any, alpha: Any = 1) -> Pair:
    (a, b), (c, d) = _pair(x), _times(alpha, y)
    return Pair(a + c, b + d)


def _conj(x: Pair) -> Pair:
    return Pair(x.real, -x.imag)


def _divide(x: Any, y: Any) -> Pair:
    c, d = _pair(y)
    if not isinstance(y, Pair | complex):
        return Pair(*(part / c for part in _pair(x)))
    a, b = _times(x, Pair(c, -d))
    return Pair(a / (c * c + d * d), b / (c * c + d * d))


def _power(z: Any, n: Any) -> Pair:
    if not isinstance(n, int | float) or n not in range(1, 9):
        raise UnknownOperation(f"pow({n}) on complex numbers")
    power: Pair = reduce(_times, [z] * int(n))
    return power


def _sign(z: Pair) -> Pair:
    size = torch.hypot(*z)
    safe = torch.where(size == 0, 1.0, size)
    return Pair(z.real / safe, z.imag / safe)


def _choose(condition: Tensor, x: Any, y: Any) -> Pair:
    return Pair(*(torch.where(condition, *parts) for parts in zip(_pair(x), _pair(y), strict=True)))


_times, _mm = _product(lambda x, y: x * y), _product(torch.mm)
_MEANINGS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("view_as_complex", "view_as_complex_copy"), lambda x: Pair(x[..., 0], x[..., 1])),
    **dict.fromkeys(("view_as_real", "view_as_real_copy"), lambda z: torch.stack(z, -1)),
    "complex": Pair, "polar": lambda r, angle: Pair(r * angle.cos(), r * angle.sin()),
    **dict.fromkeys(("_conj", "_conj_copy", "_conj_physical", "conj_physical"), _conj),
    "abs": lambda z: torch.hypot(*z), "angle": lambda z: torch.atan2(z.imag, z.real), "sgn": _sign,
    "exp": lambda z: Pair(z.real.exp() * z.imag.cos(), z.real.exp() * z.imag.sin()),
    "add": _sum, "sub": lambda x, y, alpha=1: _sum(x, y, -alpha), "mul": _times, "div": _divide,
    "reciprocal": lambda z: _divide(1.0, z), "pow": _power, "where": _choose,
    "masked_fill": lambda z, where, x: _choose(where, x, z), "scalar_tensor": lambda x, **_: _pair(x),
    **{name: _product(getattr(torch, name)) for name in ("bmm", "mv", "dot")}, "mm": _mm,
    "addmm": lambda x, a, b, beta=1, alpha=1: _sum(_times(beta, x), _mm(a, b), alpha),
    "eq": lambda x, y: (_pair(x).real == _pair(y).real) & (_pair(x).imag == _pair(y).imag),
}  # fmt: skip
# What does to each part what it does to a real tensor.
_BY_PARTS = (MOVES - FILLS.keys() | COPIES | set(str.split("""
    sum mean neg select_backward slice_backward zeros zeros_like new_zeros
"""))) - {"as_strided", "as_strided_copy", "as_strided_scatter"}  # fmt: skip


def _is_complex(step: Step) -> bool:
    return any(s.dtype.is_complex for s in (*step.inputs, *step.outputs))


def _applied(step: Step, *args: Any, **kwargs: Any) -> Any:
    if step.name in _MEANINGS:
        result = _MEANINGS[step.name](*args, **kwargs)
        if isinstance(result, Pair):
            kind = step.results.dtype.to_real()
            parts = (torch.as_tensor(part, dtype=kind) for part in result)
            result = Pair(*torch.broadcast_tensors(*parts))
        return result
    real = any(s.dtype.is_floating_point for s in step.inputs)  # which has no imaginary part
    if step.name not in _BY_PARTS or real or among(torch.dtype, args):
        raise UnknownOperation(f"{step.name} on complex numbers")
    kwargs = mapped(torch.dtype, torch.dtype.to_real, kwargs)
    found = []
    for part in (itemgetter(0), itemgetter(1)):
        given, named = mapped(Pair, part, (args, kwargs))
        found.append(step.operation(*given, **named))
    one = isinstance(found[0], Tensor)
    return Pair(*found) if one else [Pair(*parts) for parts in zip(*found, strict=True)]


def in_pairs(tape: Tape, args: Sequence[Any]) -> Tape:
    """Give a functional program without complex tensors; as it is where it has none.

    Raises
    ------
    UnknownOperation
        Where it does to them what has no meaning here.
    """
    steps = tape.part(tape.inputs, tape.outputs).steps
    if not any(map(_is_complex, steps)):
        return tape
    if any(s.dtype.is_complex for s in slots([tape.inputs, tape.outputs])):
        raise UnknownOperation("complex numbers")
    held = [
        torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
        for t in tape.constants.values()
    ]

    def program(*values: Any) -> Any:
        known: dict[int, Any] = {}
        bind([*tape.inputs, *tape.opened], values, known)
        for s in tape.opened:
            if s.dtype.is_complex:
                known[s.number] = Pair(*known[s.number].unbind(-1))
        for step in steps:
            given, named = step.given([known[s.number] for s in step.inputs])
            run = partial(_applied, step) if _is_complex(step) else step.operation
            bind(step.results, run(*given, **named), known)
        return mapped(Slot, lambda s: known[s.number], tape.outputs)

    return recorded_again(program, args, held)
