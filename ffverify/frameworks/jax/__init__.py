"""JAX, differentiated by jax.vjp and jax.jvp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffverify.exact.formats import FORMATS, Array, dtype_name, is_floating
from ffverify.exact.programs import Program, listed
from ffverify.frameworks.arguments import floating, split, spread

Function = Callable[..., Any]
name, gradual = "jax", False  # XLA flushes subnormals to zero, on CPUs too


@cache
def keep_all_digits() -> None:
    """Let this process have float64, and products of matrices that keep the digits of their format."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


def is_array(value: Any) -> bool:
    return isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def refusal(value: Any) -> str:
    if isinstance(value, jax.core.Tracer):
        return "is a tracer, without numbers: call gradcheck outside of jit, grad and vmap"
    if jnp.iscomplexobj(value):
        return (
            "is complex, and derivatives are checked by real numbers only: take its real and imaginary "
            "parts as inputs, and put them together inside the function, as jax.lax.complex(x, y)"
        )
    if jnp.issubdtype(value.dtype, jnp.floating) and not is_floating(value):
        return f"is {value.dtype.name}: give one of {', '.join(FORMATS)}"
    return ""


def array(values: Array, dtype: str, device: str | None = None) -> Any:
    del device  # the default one
    keep_all_digits()
    return jnp.asarray(values, dtype=dtype if is_floating(values) else None)


def to_numpy(value: Any) -> Array:
    held = np.asarray(value)
    return held.astype(np.float32) if held.dtype.name == "bfloat16" else held


def like(template: Any, values: Array) -> Any:
    return jnp.asarray(values, dtype=template.dtype)


def copied(value: Any) -> Any:
    return value  # nobody can change it


def attached(fn: Function, args: Sequence[Any], wrt: Sequence[bool]) -> list[bool]:
    del wrt
    return [True] * len(listed(fn(*args)))


def zeros_like(template: Any) -> Any:
    return template * 0


def as_computed(value: Any) -> Any:
    if dtype_name(value) not in ("float64", "float32", "bfloat16"):
        return value  # XLA takes subnormals of float32's range for zeros
    held = np.array(value)
    lost = (held != 0) & (np.abs(held) < float(jnp.finfo(held.dtype).tiny))  # type: ignore[no-untyped-call]
    return jnp.asarray(np.where(lost, np.zeros_like(held), held)) if lost.any() else value


def widened(value: Any) -> Any:
    return value


def shifted(value: Any, direction: Array, t: float) -> Any:
    return value + jnp.asarray(t * direction, dtype=value.dtype)


def vjp(
    fn: Function,
    args: Sequence[Any],
    cotangents: Sequence[Any],
    *,
    wrt: Sequence[bool] | None = None,
    graph: bool = False,
) -> list[Any]:
    del graph  # JAX's derivatives are functions like any other
    chosen = floating(args) if wrt is None else wrt
    full, points = split(args, chosen)

    def of_chosen(*xs: Any) -> tuple[Any, ...]:
        results = listed(fn(*full(*xs)))
        return tuple(r for r, v in zip(results, cotangents, strict=True) if v is not None)

    _, pullback = jax.vjp(of_chosen, *points)
    return spread(pullback(tuple(v for v in cotangents if v is not None)), chosen)


def vjp_twice(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], wrt: Sequence[bool]
) -> None:
    del fn, args, cotangents, wrt  # no graph is kept


def jvp(
    fn: Function, args: Sequence[Any], tangents: Sequence[Any], *, nesting: bool = False
) -> list[Any]:
    del nesting  # JAX's forward mode always nests
    full, points = split(args, [t is not None for t in tangents])

    def of_chosen(*xs: Any) -> tuple[Any, ...]:
        return tuple(listed(fn(*full(*xs))))

    return list(jax.jvp(of_chosen, points, [t for t in tangents if t is not None])[1])


def second_derivative(fn: Function, z: Any) -> Any:
    return jax.jvp(jax.grad(lambda z: fn(z).sum()), (z,), (jnp.ones_like(z),))[1]


def hessian(fn: Function) -> Function:
    return jax.hessian(fn)


def compiled(fn: Function) -> Function:
    """Give a function that JAX compiles once per kind of arguments, or calls as it is where it cannot.

    A derivative that JAX takes anew at every call costs milliseconds, and memory that it keeps.
    """
    once: Function = jax.jit(fn)

    def call(*args: Any) -> Any:
        nonlocal once
        try:
            return once(*args)
        except Exception:  # noqa: BLE001 - a branch on a value, foreign code: whatever jit does not take
            results = fn(*args)  # which raises as well where these arguments are to blame
            once = fn
            return results

    return call


def trace(fn: Function, args: Sequence[Any]) -> Program:
    from . import lowering

    return lowering.trace(fn, args)
