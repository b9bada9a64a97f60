"""The two modes of each framework: VJPs and JVPs of functions with several inputs and results.

Integer inputs and results are data: they get and give no derivative. ``graph=True`` keeps a derivative
differentiable, for second orders.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from .arrays import is_floating

Function = Callable[..., Any]


def listed(result: Any) -> list[Any]:
    """Give a function's results as a list."""
    if isinstance(result, tuple | list):
        return list(result)
    return [result]


def _split(
    args: Sequence[Any], chosen: Sequence[bool]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Give a function that puts chosen arguments back among the others, and the chosen ones."""
    places = [i for i, c in enumerate(chosen) if c]

    def full(*values: Any) -> list[Any]:
        out = list(args)
        for i, value in zip(places, values, strict=True):
            out[i] = value
        return out

    return full, [args[i] for i in places]


def _spread(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    remaining = iter(values)
    return [next(remaining) if c else None for c in chosen]


def numpy_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    """Pull cotangents back with the reference engine."""
    from ffverify import reference

    chosen = [is_floating(a) for a in args]
    full, points = _split(args, chosen)
    wanted = [v is not None for v in cotangents]

    def floats(*xs: Any) -> tuple[Any, ...]:
        results = listed(fn(*full(*xs)))
        return tuple(r for r, w in zip(results, wanted, strict=True) if w)

    del graph  # the engine's derivatives are always graphs of the derivative around them
    _, pullback = reference.vjp(floats, *points)
    return _spread(pullback(tuple(v for v in cotangents if v is not None)), chosen)


def numpy_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Push tangents forward with the reference engine."""
    from ffverify import reference

    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    _, dots = reference.jvp(
        lambda *xs: tuple(listed(fn(*full(*xs)))), points, [t for t in tangents if t is not None]
    )
    return list(dots)


def torch_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    """Pull cotangents back with torch.autograd.grad; None where it gives no gradient."""
    return _torch_walks(fn, args, cotangents, graph=graph, times=1)[0]


def torch_vjp_twice(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any]
) -> list[list[Any]]:
    """Pull cotangents back twice through one and the same retained graph."""
    return _torch_walks(fn, args, cotangents, graph=False, times=2)


def _torch_walks(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool, times: int
) -> list[list[Any]]:
    import torch

    chosen = [is_floating(a) for a in args]
    with torch.enable_grad():
        if graph:  # clone keeps the tangent of a surrounding forward mode
            leaves = [
                a.clone().requires_grad_() if c and not a.requires_grad else a
                for a, c in zip(args, chosen, strict=True)
            ]
        else:
            leaves = [
                a.detach().clone().requires_grad_() if c else a
                for a, c in zip(args, chosen, strict=True)
            ]
        results = listed(fn(*leaves))
        pairs = [
            (r, v)
            for r, v in zip(results, cotangents, strict=True)
            if v is not None and r.requires_grad
        ]
        if not pairs:
            return [[None] * len(args)] * times
        wanted = [a for a, c in zip(leaves, chosen, strict=True) if c]
        walks = []
        for walk in range(times):
            gradients: tuple[Any, ...] = torch.autograd.grad(
                [r for r, _ in pairs],
                wanted,
                [v for _, v in pairs],
                allow_unused=True,
                create_graph=graph,
                retain_graph=graph or walk + 1 < times,
            )
            if times > 1:  # the next walk may write to what this one gave
                gradients = tuple(None if g is None else g.clone() for g in gradients)
            walks.append(_spread(gradients, chosen))
    return walks


@cache
def forward_mode_of_torch() -> None:
    """Load torch's forward formulas; that they rest on a deprecated part of torch is its own matter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", DeprecationWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401 - loaded, not used


def torch_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Push tangents forward with torch's dual numbers."""
    import torch
    from torch.autograd import forward_ad

    forward_mode_of_torch()
    with forward_ad.dual_level():
        duals = [
            a if t is None else forward_ad.make_dual(a.detach().clone(), t)
            for a, t in zip(args, tangents, strict=True)
        ]
        parts = [forward_ad.unpack_dual(r) for r in listed(fn(*duals))]
        return [
            torch.zeros_like(p.primal) if p.tangent is None else p.tangent.clone() for p in parts
        ]


def torch_func_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Push forward with torch.func, whose forward mode nests."""
    import torch

    forward_mode_of_torch()
    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    primal_and_tangent = torch.func.jvp(
        lambda *xs: tuple(listed(fn(*full(*xs)))),
        tuple(points),
        tuple(t for t in tangents if t is not None),
    )
    return list(primal_and_tangent[1])


def jax_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    """Pull cotangents back with jax.vjp."""
    import jax

    del graph  # JAX's derivatives are functions like any other
    chosen = [is_floating(a) for a in args]
    full, points = _split(args, chosen)

    def floats(*xs: Any) -> tuple[Any, ...]:
        results = listed(fn(*full(*xs)))
        return tuple(r for r, v in zip(results, cotangents, strict=True) if v is not None)

    _, pullback = jax.vjp(floats, *points)
    return _spread(pullback(tuple(v for v in cotangents if v is not None)), chosen)


def jax_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Push tangents forward with jax.jvp."""
    import jax

    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    _, dots = jax.jvp(
        lambda *xs: tuple(listed(fn(*full(*xs)))), points, [t for t in tangents if t is not None]
    )
    return list(dots)


def jax_compiled(fn: Function) -> Function:
    """Give a function that JAX compiles once per kind of arguments, or calls as it is where it cannot.

    A derivative that JAX takes anew at every call costs milliseconds, and memory that it keeps.
    """
    import jax

    compiled: Function = jax.jit(fn)

    def call(*args: Any) -> Any:
        nonlocal compiled
        try:
            return compiled(*args)
        except Exception:  # noqa: BLE001 - a branch on a value, foreign code: whatever jit does not take
            results = fn(*args)  # which raises as well where these arguments are to blame
            compiled = fn
            return results

    return call
