"""Calls of JAX functions that have derivatives of their own, seen as they happen."""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ffverify.frameworks.calls import Custom, Leaf, See, around

_KINDS = {"jax.custom_vjp": jax.custom_vjp, "jax.custom_jvp": jax.custom_jvp}
_made: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(see: See, modules: Sequence[str]) -> Callable[[], None]:
    """Have every such call seen; give what ends it."""
    del modules  # of torch
    undo = contextlib.ExitStack()
    for kind, owner in _KINDS.items():
        call, init = owner.__dict__["__call__"], owner.__dict__["__init__"]
        seen = around(call, see, functools.partial(_described, kind))
        for name, held, put in (("__call__", call, seen), ("__init__", init, _remembering(init))):
            undo.callback(setattr, owner, name, held)
            setattr(owner, name, put)
    return undo.close


def _remembering(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _made.add(self)

    return init


def _described(kind: str, function: Any, *_: Any, **__: Any) -> Custom:
    constants = tuple(function.nondiff_argnums)
    return Custom(kind, _name(function), "jax", function, constants=constants)


def _name(function: Any) -> str:
    inner = function.fun
    while isinstance(inner, functools.partial):
        inner = inner.func
    return f"{inner.__module__}.{getattr(inner, '__qualname__', type(inner).__name__)}"


def defined() -> Iterator[tuple[str, str]]:
    """Give kind and name of every function with a derivative of its own made since the watch began."""
    for function in list(_made):
        kind = next(k for k, owner in _KINDS.items() if isinstance(function, owner))
        yield kind, _name(function)


def flatten(given: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Give the leaves of nested arguments, and what puts them back."""
    leaves, structure = jax.tree_util.tree_flatten(given)
    return leaves, lambda values: jax.tree_util.tree_unflatten(structure, list(values))


def leaf(value: Any) -> Leaf | None:
    """Look at an argument: an array as it is now (``value`` None: traced, it has no numbers), or None."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return None
    inner, wanted = value, False
    while isinstance(inner, jax.core.Tracer):
        if hasattr(inner, "primal"):  # being differentiated, with its numbers
            inner, wanted = inner.primal, True
        elif getattr(inner, "batch_dim", None) is not None and hasattr(inner, "val"):
            if not isinstance(inner.batch_dim, int):
                break
            inner = inner.val.take(0, axis=inner.batch_dim)
        else:
            break
    if isinstance(inner, jax.core.Tracer):
        return Leaf(tuple(value.shape), str(value.dtype), wanted, None)
    # Nobody can change one of JAX's; to copy it inside of a transform would make it a part of that.
    taken = (lambda: inner) if isinstance(inner, jax.Array) else functools.partial(np.array, inner)
    return Leaf(tuple(inner.shape), str(inner.dtype), wanted, taken)


def none_gradients(
    custom: Custom, given: Callable[..., Any], arrays: Sequence[Any], wanted: Sequence[bool]
) -> list[bool]:
    """Tell of which arguments the backward gives None: it does not mean to differentiate by those."""
    function, found = custom.call, []
    if not isinstance(function, jax.custom_vjp):
        return [False] * len(arrays)
    rule: Callable[..., Any] = function.bwd  # type: ignore[assignment]  # it has been called: there is one

    def noting(*of: Any) -> Any:
        found.append(rule(*of))
        return found[-1]

    def of_wanted(*values: Any) -> Any:
        new = iter(values)
        filled = [next(new) if w else a for a, w in zip(arrays, wanted, strict=True)]
        args, kwargs = given(*filled)
        return function(*args, **kwargs)

    function.bwd = noting
    try:
        value, pull = jax.vjp(of_wanted, *(a for a, w in zip(arrays, wanted, strict=True) if w))
        pull(jax.tree_util.tree_map(jax.numpy.ones_like, value))
    finally:
        function.bwd = rule
    args, kwargs = given(*arrays)
    signature = inspect.signature(function.fun)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    cotangents = iter(found[0])
    by_place = [
        [] if i in custom.constants else _none_among(next(cotangents), arg)
        for i, arg in enumerate(bound.args)
    ]
    names = list(signature.parameters)
    # The leaves of what was given by place come first, then those of keywords, by name.
    order = [*range(len(args)), *(names.index(key) for key in sorted(kwargs))]
    none = [flag for place in order for flag in by_place[place]]
    return [w and n for w, n in zip(wanted, none, strict=True)]


def _none_among(cotangent: Any, arg: Any) -> list[bool]:
    """Tell which arrays of an argument have None for a cotangent."""
    count = sum(leaf(x) is not None for x in jax.tree_util.tree_leaves(arg))
    parts = jax.tree_util.tree_leaves(cotangent, is_leaf=lambda x: x is None)
    if cotangent is None or len(parts) != count:
        return [cotangent is None] * count
    return [p is None for p in parts]
