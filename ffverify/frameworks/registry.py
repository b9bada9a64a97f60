"""How each framework takes arrays and differentiates: NumPy by the reference engine, torch, JAX.

A ``Framework`` moves ndarrays in and out and gives the VJP and the JVP of a function of that
framework's own arrays, by that framework's own differentiation. Nothing heavy is imported until
``framework(name)`` is asked for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ffverify.errors import UnavailableError
from ffverify.exact.formats import Array

from .derivatives import forward_mode_of_torch

Function = Callable[..., Any]


@dataclass(frozen=True)
class Framework:
    """One framework's arrays and derivatives.

    Attributes
    ----------
    native
        ``native(array, dtype, device)``: an ndarray as the framework's array; integers keep theirs.
    numpy
        The framework's array as an ndarray (bfloat16 widened to float32).
    vjp
        ``vjp(fn, args, differentiable, cotangent)``: value and one gradient per argument, None
        where the framework gives none or none was asked.
    jvp
        ``jvp(fn, args, tangents)``: value and tangent; a tangent None holds its argument fixed.
    gradual
        Whether it computes with subnormals.
    second_derivative
        ``second_derivative(fn, z)`` of an elementwise function: the gradient, differentiated.
    hessian
        ``hessian(fn)(*args)``: the Hessian of a number in the first argument.
    """

    name: str
    native: Callable[[Array, str, str | None], Any]
    numpy: Callable[[Any], Array]
    vjp: Callable[[Function, Sequence[Any], Sequence[bool], Any], tuple[Any, list[Any]]]
    jvp: Callable[[Function, Sequence[Any], Sequence[Any]], tuple[Any, Any]]
    second_derivative: Callable[[Function, Any], Any]
    hessian: Callable[[Function], Function]
    gradual: bool = True


def _partial(
    fn: Function, args: Sequence[Any], chosen: Sequence[bool]
) -> tuple[Function, list[Any]]:
    """Fix the arguments that are not chosen; give a function of the others, and those."""
    positions = [i for i, c in enumerate(chosen) if c]

    def of_chosen(*given: Any) -> Any:
        full = list(args)
        for i, value in zip(positions, given, strict=True):
            full[i] = value
        return fn(*full)

    return of_chosen, [args[i] for i in positions]


def _spread(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    remaining = iter(values)
    return [next(remaining) if c else None for c in chosen]


def _numpy() -> Framework:
    from ffverify import reference

    def native(array: Array, dtype: str, _device: str | None) -> Array:
        return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

    def vjp(
        fn: Function, args: Sequence[Any], chosen: Sequence[bool], cotangent: Any
    ) -> tuple[Any, list[Any]]:
        partial, points = _partial(fn, args, chosen)
        value, pullback = reference.vjp(partial, *points)
        return value, _spread(pullback(cotangent), chosen)

    def jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        chosen = [t is not None for t in tangents]
        partial, points = _partial(fn, args, chosen)
        value, tangent = reference.jvp(
            partial, tuple(points), tuple(t for t in tangents if t is not None)
        )
        return value, tangent

    def second_derivative(fn: Function, z: Any) -> Any:
        return reference.hvp(lambda z: np.sum(fn(z)), z, np.ones_like(z))

    return Framework("numpy", native, np.asarray, vjp, jvp, second_derivative, reference.hessian)


def _torch() -> Framework:
    import torch

    def native(array: Array, dtype: str, device: str | None) -> Any:
        tensor = torch.from_numpy(np.array(array))  # a copy: NumPy's may be read-only
        return tensor.to(
            device=device, dtype=getattr(torch, dtype) if tensor.is_floating_point() else None
        )

    def to_numpy(tensor: Any) -> Array:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()  # type: ignore[no-any-return]  # torch is typed in part

    def vjp(
        fn: Function, args: Sequence[Any], chosen: Sequence[bool], cotangent: Any
    ) -> tuple[Any, list[Any]]:
        leaves = [
            a.detach().clone().requires_grad_() if c else a
            for a, c in zip(args, chosen, strict=True)
        ]
        value = fn(*leaves)
        wanted = [a for a, c in zip(leaves, chosen, strict=True) if c]
        gradients = torch.autograd.grad(value, wanted, cotangent, allow_unused=True)
        return value.detach(), _spread(gradients, chosen)

    def jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        chosen = [t is not None for t in tangents]
        partial, points = _partial(fn, args, chosen)
        directions = tuple(t for t in tangents if t is not None)
        forward_mode_of_torch()
        value, tangent, *_ = torch.func.jvp(partial, tuple(points), directions)
        return value, tangent

    def second_derivative(fn: Function, z: Any) -> Any:
        z = z.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(fn(z).sum(), z, create_graph=True)
        if not slope.requires_grad:  # a constant
            return torch.zeros_like(z)
        return torch.autograd.grad(slope.sum(), z, materialize_grads=True)[0]

    def hessian(fn: Function) -> Function:
        forward_mode_of_torch()
        return torch.func.hessian(fn)

    return Framework("torch", native, to_numpy, vjp, jvp, second_derivative, hessian)


def _jax() -> Framework:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")

    def native(array: Array, dtype: str, _device: str | None) -> Any:
        return jnp.asarray(array, dtype=dtype if np.issubdtype(array.dtype, np.floating) else None)

    def to_numpy(array: Any) -> Array:
        return np.asarray(array, dtype=np.float32 if array.dtype == jnp.bfloat16 else None)

    def vjp(
        fn: Function, args: Sequence[Any], chosen: Sequence[bool], cotangent: Any
    ) -> tuple[Any, list[Any]]:
        partial, points = _partial(fn, args, chosen)
        value, pullback = jax.vjp(partial, *points)
        return value, _spread(pullback(cotangent), chosen)

    def jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        chosen = [t is not None for t in tangents]
        partial, points = _partial(fn, args, chosen)
        value, tangent = jax.jvp(partial, points, [t for t in tangents if t is not None])
        return value, tangent

    def second_derivative(fn: Function, z: Any) -> Any:
        return jax.jvp(jax.grad(lambda z: fn(z).sum()), (z,), (jnp.ones_like(z),))[1]

    # XLA flushes subnormals to zero, on CPUs too.
    hessian = jax.hessian
    return Framework("jax", native, to_numpy, vjp, jvp, second_derivative, hessian, gradual=False)


_FRAMEWORKS: dict[str, Callable[[], Framework]] = {"numpy": _numpy, "torch": _torch, "jax": _jax}


def is_installed(name: str) -> bool:
    """Tell whether a framework is installed, without importing it."""
    return name == "numpy" or importlib.util.find_spec(name) is not None


@cache
def framework(name: str) -> Framework:
    """Give a framework by name: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    if not is_installed(name):
        raise UnavailableError(f"{name} is not installed: pip install 'ffverify[{name}]'")
    return _FRAMEWORKS[name]()
