"""Calls of torch functions that have derivatives of their own, seen as they happen.

These are `torch.autograd.Function`, custom operators of `torch.library` with a registered backward (called
as ``op(x)`` or ``torch.ops.mylib.op(x)``), and modules of given names.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._library import custom_ops
from torch.utils import _pytree as pytree

from ffverify.frameworks.calls import Custom, Leaf, See, around

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def watch(see: See, modules: Sequence[str]) -> Callable[[], None]:
    """Have every such call seen; give what ends it."""
    undo = contextlib.ExitStack()

    def put(
        owner: Any, name: str, describe: Callable[..., Custom | None], *, of_class: bool
    ) -> None:
        held = owner.__dict__[name]
        called = around(held.__func__ if of_class else held, see, describe)
        setattr(owner, name, classmethod(called) if of_class else called)
        undo.callback(setattr, owner, name, held)

    put(torch.autograd.Function, "apply", _function, of_class=True)
    put(custom_ops.CustomOpDef, "__call__", _operator, of_class=False)
    put(torch._ops.OpOverloadPacket, "__call__", _packet, of_class=False)  # noqa: SLF001 - there is no other way to see them
    if modules:
        put(torch.nn.Module, "__call__", functools.partial(_module, modules), of_class=False)
    return undo.close


def defined() -> Iterator[tuple[str, str]]:
    """Give kind and name of every function with a derivative of its own that has been defined."""
    waiting: list[type] = [torch.autograd.Function]
    while waiting:
        made: list[type] = waiting.pop().__subclasses__()
        waiting += made
        yield from (("torch.autograd.Function", _name(cls)) for cls in made)
    for definition in custom_ops.OPDEFS.values():
        if definition._backward_fn is not None:  # noqa: SLF001 - as above
            yield "torch.library.custom_op", _name(definition._init_fn)  # noqa: SLF001 - as above


def flatten(given: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Give the leaves of nested arguments, and what puts them back."""
    leaves, structure = pytree.tree_flatten(given)
    return leaves, lambda values: pytree.tree_unflatten(list(values), structure)


def leaf(value: Any) -> Leaf | None:
    """Look at an argument: an array as it is now (``value`` None: traced, it has no numbers), or None."""
    if not isinstance(value, torch.Tensor):
        return None
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    wanted = bool(value.requires_grad)
    traced = type(value) not in _PLAIN or torch._C._functorch.is_functorch_wrapped_tensor(value)  # noqa: SLF001 - as above
    plain = not traced and value.layout == torch.strided and not value.is_meta
    taken = functools.partial(_copied, value) if plain else None
    return Leaf(shape, dtype, wanted, taken, None if traced else str(value.device))


def _copied(value: Any) -> Any:
    with torch.inference_mode(False), torch.no_grad():
        return value.detach().clone()


def none_gradients(
    custom: Custom, given: Callable[..., Any], arrays: Sequence[Any], wanted: Sequence[bool]
) -> list[bool]:
    """Tell of which arguments the backward gives None: it does not mean to differentiate by those."""
    with torch.enable_grad():
        leaves = [
            a.detach().clone().requires_grad_() if w else a
            for a, w in zip(arrays, wanted, strict=True)
        ]
        args, kwargs = given(*leaves)
        returned = pytree.tree_leaves(custom.call(*args, **kwargs))
        results = [r for r in returned if _differentiable(r)]
        if not results:
            return [False] * len(arrays)
        torch.autograd.backward(results, [torch.ones_like(r) for r in results])
    return [w and a.grad is None for a, w in zip(leaves, wanted, strict=True)]


def parameters(module: torch.nn.Module) -> list[Leaf]:
    """Look at the parameters that a module is differentiated by."""
    return [look for p in module.parameters() if p.requires_grad and (look := leaf(p))]


class WithParameters(torch.nn.Module):
    """A function that calls a module, as a module that is differentiated by the other's parameters."""

    def __init__(self, module: torch.nn.Module, fn: Callable[..., Any]) -> None:
        super().__init__()
        self.add_module(type(module).__name__, module)  # its name is in those of the parameters
        self.__name__ = fn.__name__
        self.forward = fn


def _differentiable(result: Any) -> bool:
    return isinstance(result, torch.Tensor) and result.requires_grad


def _name(function: Any) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _function(cls: Any, *_: Any, **__: Any) -> Custom | None:
    if torch.compiler.is_compiling():
        return None
    return Custom("torch.autograd.Function", _name(cls), "torch", cls.apply)


def _operator(definition: Any, *_: Any, **__: Any) -> Custom | None:
    if torch.compiler.is_compiling() or definition._backward_fn is None:  # noqa: SLF001 - as above
        return None
    name = _name(definition._init_fn)  # noqa: SLF001 - as above
    return Custom("torch.library.custom_op", name, "torch", definition, modes=("reverse",))


def _packet(packet: Any, *args: Any, **kwargs: Any) -> Custom | None:
    found = custom_ops.OPDEFS.get(packet._qualified_op_name)  # noqa: SLF001 - as above
    return None if found is None else _operator(found, *args, **kwargs)


def _module(names: Sequence[str], module: Any, *_: Any, **__: Any) -> Custom | None:
    name = _name(type(module))
    if torch.compiler.is_compiling() or not any(
        fnmatch.fnmatchcase(n, pattern) for pattern in names for n in (name, type(module).__name__)
    ):
        return None
    return Custom(
        "torch.nn.Module", name, "torch", functools.partial(copy.deepcopy, module), made=True
    )
