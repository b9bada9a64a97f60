"""NumPy, differentiated by the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ffverify.exact.formats import FORMATS, Array, dtype_name, is_floating
from ffverify.exact.programs import Known, Program, listed
from ffverify.frameworks.arguments import floating, restricted, spread
from ffverify.frameworks.framework import Pullback

Function = Callable[..., Any]
name, gradual = "numpy", True


def is_array(value: Any) -> bool:
    if isinstance(value, np.ma.MaskedArray):
        return True
    numeric = isinstance(value, np.ndarray | np.generic)
    return numeric and (
        value.dtype.kind in "fiubcO" or is_floating(value) or "float" in value.dtype.name
    )


def refusal(value: Any) -> str:
    if isinstance(value, np.ma.MaskedArray):
        return "is a masked array, whose mask derivatives lose: give x.filled(0), and the mask beside it"
    if value.dtype.kind == "O":
        return "is an array of Python objects: give an array of floats, as x.astype(float) makes it"
    if value.dtype.kind == "c" and value.dtype.itemsize > 16:
        return f"is {value.dtype.name}, wider than what can be judged: give complex128"
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        return f"is {value.dtype.name}, wider than what can be judged: give float64"
    if "float" in value.dtype.name and not is_floating(value):
        return f"is {value.dtype.name}: give one of {', '.join(FORMATS)}"
    return ""


def parts(value: Any) -> Any:
    return np.stack([value.real, value.imag], axis=-1)


def complex_of(parts: Any) -> Any:
    return parts[..., 0] + 1j * parts[..., 1]


def scope(values: Sequence[Any]) -> AbstractContextManager[None]:
    del values
    return nullcontext()


def array(values: Array, dtype: str, device: str | None = None) -> Array:
    del device  # the host
    return values.astype(dtype) if is_floating(values) else values


def to_numpy(value: Any) -> Array:
    plain = np.asarray(value)
    return plain.astype(np.float32) if dtype_name(plain) == "bfloat16" else plain


def like(template: Any, values: Array) -> Array:
    return np.array(values, dtype=np.asarray(template).dtype)


def copied(value: Any) -> Any:
    return np.array(value, copy=True)


def attached(fn: Function, args: Sequence[Any], wrt: Sequence[bool]) -> list[bool]:
    del wrt
    return [True] * len(listed(fn(*args)))


def shaped(fn: Function, args: Sequence[Any], program: Program) -> list[Any]:
    del program
    return listed(fn(*args))


def zeros_like(template: Any) -> Any:
    return np.zeros_like(template)


def as_computed(value: Any) -> Any:
    return value


def widened(value: Any) -> Array:
    return np.asarray(value, dtype=np.longdouble)


def shifted(value: Any, direction: Array, t: float) -> Any:
    return value + (np.longdouble(t) * direction).astype(value.dtype)


def vjp(
    fn: Function,
    args: Sequence[Any],
    cotangents: Sequence[Any],
    *,
    wrt: Sequence[bool] | None = None,
    graph: bool = False,
) -> list[Any]:
    del graph  # the engine's derivatives are always graphs of the derivative around them
    chosen = floating(args) if wrt is None else wrt
    return pullback(fn, args, chosen, [v is not None for v in cotangents])(cotangents)


def pullback(
    fn: Function, args: Sequence[Any], wrt: Sequence[bool], kept: Sequence[bool]
) -> Pullback:
    from ffverify import reference

    of_chosen, points = restricted(fn, args, wrt, kept)
    _, pull = reference.vjp(of_chosen, *points)
    return lambda cotangents: spread(pull(tuple(v for v in cotangents if v is not None)), wrt)


def jvp(
    fn: Function, args: Sequence[Any], tangents: Sequence[Any], *, nesting: bool = False
) -> list[Any]:
    from ffverify import reference

    del nesting  # the engine's forward mode always nests
    of_chosen, points = restricted(fn, args, [t is not None for t in tangents])
    return list(reference.jvp(of_chosen, points, [t for t in tangents if t is not None])[1])


def second_derivative(fn: Function, z: Any) -> Any:
    from ffverify import reference

    return reference.hvp(lambda z: np.sum(fn(z)), z, np.ones_like(z))


def hessian(fn: Function) -> Function:
    from ffverify import reference

    return reference.hessian(fn)


def compiled(fn: Function) -> Function:
    return fn


def replayed(
    function: Function, known: dict[Any, Any], key: Any, *operands: Any, loops: bool = False
) -> Any:
    del known, key, loops
    return function(*operands)


def trace(example: Callable[[], tuple[Function, list[Any]]], known: Known) -> Program:
    from . import lowering

    return lowering.trace(*example(), known)


def trace_both(*_: Any) -> None:
    return None
