"""Complex tensors as pairs of real ones: programs that pass through complex numbers, without any.

``in_pairs(tape, args)`` gives the same program with a real and an imaginary part in the place of each
complex tensor. Autograd's conjugates come out as signs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import prod
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
_matmul = _product(torch.matmul)


def _waves(rows: int, columns: int, n: int, sign: int, dtype: torch.dtype) -> Pair:
    """Give exp(sign·2πi·jk/n) for rows j and columns k, from π itself; whole quarters of a turn are exact."""
    turns = torch.arange(rows)[:, None] * torch.arange(columns) % n
    angle = turns.to(dtype) * torch.full((), -1.0, dtype=dtype).acos() * 2 / n
    quarter, is_whole = 4 * turns // n, 4 * turns % n == 0
    cosines = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=dtype)
    return Pair(
        torch.where(is_whole, cosines[quarter], angle.cos()),
        sign * torch.where(is_whole, cosines[quarter - 1], angle.sin()),
    )


_AT_ONCE = 16  # numbers of which all pairs are multiplied: of fewer it is not products that cost


def _transform(z: Pair, sign: int) -> Pair:
    """Give Σ_j z_j exp(sign·2πi·jk/n) along the last axis.

    Of n = rm numbers every r-th is transformed first (Cooley and Tukey, An algorithm for the machine
    calculation of complex Fourier series, 1965).
    """
    n, dtype = z.real.shape[-1], z.real.dtype
    r = next((r for r in range(_AT_ONCE, 1, -1) if n % r == 0), n)
    if r == n or n <= _AT_ONCE:
        rows = Pair(*(part.unsqueeze(-2) for part in z))
        return Pair(*(part.squeeze(-2) for part in _matmul(rows, _waves(n, n, n, sign, dtype))))
    each = Pair(*(part.unflatten(-1, (n // r, r)).mT for part in z))
    turned = _times(_transform(each, sign), _waves(r, n // r, n, sign, dtype))
    return Pair(*(part.flatten(-2) for part in _matmul(_waves(r, r, r, sign, dtype), turned)))


def _fourier(z: Pair, dims: Sequence[int], sign: int) -> Pair:
    for dim in dims:
        found = _transform(Pair(*(part.movedim(dim, -1) for part in z)), sign)
        z = Pair(*(part.movedim(-1, dim) for part in found))
    return z


def _scaled(z: Pair, sizes: Sequence[int], normalization: int) -> Pair:
    """Divide by the root of how many numbers there are (1), or by how many (2)."""
    if not normalization:
        return z
    count = torch.full((), float(prod(sizes)), dtype=z.real.dtype)
    return _divide(z, count.sqrt() if normalization == 1 else count)


def _fft_c2c(z: Pair, dims: Sequence[int], normalization: int, forward: bool) -> Pair:
    sizes = [z.real.shape[d] for d in dims]
    return _scaled(_fourier(z, dims, -1 if forward else 1), sizes, normalization)


def _fft_r2c(x: Tensor, dims: Sequence[int], normalization: int, onesided: bool) -> Pair:
    z = _fft_c2c(Pair(x, torch.zeros_like(x)), dims, normalization, forward=True)
    size = x.shape[dims[-1]]
    return Pair(*(part.narrow(dims[-1], 0, size // 2 + 1) for part in z)) if onesided else z


def _fft_c2r(z: Pair, dims: Sequence[int], normalization: int, size: int) -> Tensor:
    """Transform back to real numbers: from half of what would be given, its last axis a mirror image."""
    *others, dim = dims
    z = _fourier(z, others, 1)
    kept = size // 2 + 1
    inner = 1, (size + 1) // 2 - 1  # those that are mirrored
    a, b = (part.narrow(dim, 0, kept) for part in z)
    tail = Pair(*(part.narrow(dim, *inner).flip(dim) for part in (a, b)))
    whole = Pair(torch.cat([a, tail.real], dim), torch.cat([b, -tail.imag], dim))
    sizes = [size, *(z.real.shape[d] for d in others)]
    return _scaled(_fourier(whole, [dim], 1), sizes, normalization).real  # type: ignore[no-any-return]  # a tensor


_MEANINGS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("view_as_complex", "view_as_complex_copy"), lambda x: Pair(x[..., 0], x[..., 1])),
    **dict.fromkeys(("view_as_real", "view_as_real_copy"), lambda z: torch.stack(z, -1)),
    "complex": Pair, "polar": lambda r, angle: Pair(r * angle.cos(), r * angle.sin()),
    **dict.fromkeys(("_conj", "_conj_copy", "_conj_physical", "conj_physical"), _conj),
    "copy": lambda _x, y, *_: _pair(y),
    "log": lambda z: Pair(torch.hypot(*z).log(), torch.atan2(z.imag, z.real)),
    "abs": lambda z: torch.hypot(*z), "angle": lambda z: torch.atan2(z.imag, z.real), "sgn": _sign,
    "exp": lambda z: Pair(z.real.exp() * z.imag.cos(), z.real.exp() * z.imag.sin()),
    "add": _sum, "sub": lambda x, y, alpha=1: _sum(x, y, -alpha), "mul": _times, "div": _divide,
    "reciprocal": lambda z: _divide(1.0, z), "pow": _power, "where": _choose,
    "constant_pad_nd": lambda z, ends, value=0: Pair(
        *(torch.constant_pad_nd(*given) for given in zip(z, [ends] * 2, _pair(value), strict=True))),
    "masked_fill": lambda z, where, x: _choose(where, x, z),
    **dict.fromkeys(("scalar_tensor", "_to_copy"), lambda x, **_: _pair(x)),
    **{name: _product(getattr(torch, name)) for name in ("bmm", "mv", "dot")}, "mm": _mm,
    "addmm": lambda x, a, b, beta=1, alpha=1: _sum(_times(beta, x), _mm(a, b), alpha),
    "_fft_r2c": _fft_r2c, "_fft_c2c": _fft_c2c, "_fft_c2r": _fft_c2r,
    "eq": lambda x, y: (_pair(x).real == _pair(y).real) & (_pair(x).imag == _pair(y).imag),
}  # fmt: skip
# What does to each part what it does to a real tensor.
_BY_PARTS = (MOVES - FILLS.keys() | COPIES | set(str.split("""
    sum mean cumsum neg select_backward slice_backward zeros zeros_like new_zeros
    new_empty_strided _new_zeros_with_same_feature_meta
"""))) - {"as_strided", "as_strided_copy", "as_strided_scatter"}  # fmt: skip


def _is_complex(step: Step) -> bool:
    return any(s.dtype.is_complex for s in (*step.inputs, *step.outputs))


def _applied(step: Step, *args: Any, **kwargs: Any) -> Any:
    if step.name in _MEANINGS:
        result = _MEANINGS[step.name](*args, **kwargs)
        if isinstance(result, Pair):
            kind = step.results.dtype.to_real()
            parts = (torch.as_tensor(part, dtype=kind) for part in result)
            result = Pair(*(part.expand(step.results.shape) for part in parts))
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
