"""JAX, differentiated by jax.vjp and jax.jvp."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffverify.exact.formats import Array, dtype_name, is_floating
from ffverify.exact.programs import Known, Program, remembered
from ffverify.frameworks.chosen import restricted, spread
from ffverify.frameworks.framework import Framework, Function, Pullback

_NO_DERIVATIVE = re.compile(  # loops of unknown length have none in reverse mode, callbacks none at all
    "^Reverse-mode differentiation does not work for|^(Differentiation|Transpose) rule .*not implemented"
    "|^(Pure|IO) callbacks do not support JVP|gradient with respect to .* not supported"
    "|gradients are only implemented if"
)
_WIDE = ("float64", "int64", "uint64", "complex128")
_home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
_enable_x64: Any = vars(_home)["enable_x64"]  # the latter before 0.8


def _scoped(method: Function) -> Function:
    """Make a method of a native array, or of (fn, args, ...), that keeps their formats."""

    @functools.wraps(method)
    def inside(self: _JAX, first: Any, *more: Any, **named: Any) -> Any:
        with self.scope(more[0] if callable(first) else [first]):
            return method(self, first, *more, **named)

    return inside


class _JAX(Framework):
    name, gradual = "jax", False  # XLA flushes subnormals to zero, on CPUs too

    def scope(self, values: Sequence[Any]) -> AbstractContextManager[Any]:
        """Let this thread have float64 where values are; everything else is as the user has set it."""
        wide = any(dtype_name(v) in _WIDE for v in values if hasattr(v, "dtype"))
        if not wide or jax.config.jax_enable_x64:  # type: ignore[attr-defined]  # a flag
            return nullcontext()
        return _enable_x64(True)  # type: ignore[no-any-return]  # a scope

    @_scoped
    def parts(self, value: Any) -> Any:
        return jnp.stack([value.real, value.imag], axis=-1)

    @_scoped
    def complex_of(self, parts: Any) -> Any:
        return jax.lax.complex(parts[..., 0], parts[..., 1])

    def is_array(self, value: Any) -> bool:
        return isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)

    def refusal(self, value: Any) -> str:
        if isinstance(value, jax.core.Tracer):
            return "is a tracer, without numbers: call gradcheck outside of jit, grad and vmap"
        return ""

    def array(self, values: Array, dtype: str, device: str | None = None) -> Any:
        del device  # the default one
        if not is_floating(values):
            return jnp.asarray(values)
        with self.scope([np.empty(0, dtype)]):
            return jnp.asarray(values, dtype=dtype)

    def to_numpy(self, value: Any) -> Array:
        held = np.asarray(value)
        return held.astype(np.float32) if held.dtype.name == "bfloat16" else held

    @_scoped
    def like(self, template: Any, values: Array) -> Any:
        return jax.device_put(values.astype(template.dtype))  # neither of which compiles anything

    def copied(self, value: Any) -> Any:
        return value  # nobody can change it

    def shaped(self, fn: Function, args: Sequence[Any], program: Program) -> list[Any]:
        del fn, args
        return program.results  # type: ignore[attr-defined,no-any-return]  # as `trace` has made it

    def has_no_derivative(self, error: BaseException | None) -> bool:
        return _NO_DERIVATIVE.search(str(error)) is not None

    @_scoped
    def as_computed(self, value: Any) -> Any:
        if dtype_name(value) not in ("float64", "float32", "bfloat16"):
            return value  # XLA takes subnormals of float32's range for zeros
        held = np.array(value)
        lost = (held != 0) & (np.abs(held) < float(jnp.finfo(held.dtype).tiny))  # type: ignore[no-untyped-call]
        return jnp.asarray(np.where(lost, np.zeros_like(held), held)) if lost.any() else value

    @_scoped
    def pullback(
        self, fn: Function, args: Sequence[Any], wrt: Sequence[bool], kept: Sequence[bool]
    ) -> tuple[Sequence[Any], Pullback]:
        of_chosen, points = restricted(fn, args, wrt, kept)
        results, pull = jax.vjp(of_chosen, *points)

        def pulled(cotangents: Sequence[Any]) -> list[Any]:
            given = zip(results, (v for v in cotangents if v is not None), strict=True)
            # With x64 JAX takes float64 from NumPy as it is.
            typed = tuple(
                v if v.dtype == r.dtype else self.like(r, self.to_numpy(v)) for r, v in given
            )
            with self.scope(points):
                return spread(pull(typed), wrt)

        return results, pulled

    @_scoped
    def pushed(self, fn: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        return jax.jvp(fn, points, tangents)

    def hessian(self, fn: Function) -> Function:
        return jax.hessian(fn)

    def compiled(self, fn: Function) -> Function:
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

    def replayed(
        self,
        function: Function,
        known: dict[Any, Any],
        key: Any,
        *operands: Any,
        loops: bool = False,
    ) -> Any:
        from . import replaying

        with self.scope(jax.tree_util.tree_leaves(operands)):
            return replaying.replayed(function, known, key, *operands, loops=loops)

    def trace(self, example: Callable[[], tuple[Function, list[Any]]], known: Known) -> Program:
        from . import lowering

        def lowered() -> Program:
            fn, args = example()
            with self.scope(args):
                return lowering.lowered(fn, args)

        return remembered(known, None, lowered)  # one program for all inputs of a kind


FRAMEWORK = _JAX()
