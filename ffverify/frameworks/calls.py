"""Calls of functions with derivatives of their own, as the frameworks' ``calls`` modules see them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Custom:
    """A function with a derivative of its own.

    Attributes
    ----------
    kind, name
        How it was declared, as in ``torch.autograd.Function``, and what it is called, with its module.
    framework
        ``"torch"`` or ``"jax"``.
    call
        Calls it as it was called; or, if ``made``, makes a copy of it as it is now.
    constants
        Places of arguments that it is never differentiated by.
    modes
        The modes that it can have a derivative in.
    """

    kind: str
    name: str
    framework: str
    call: Callable[..., Any]
    made: bool = False
    constants: tuple[int, ...] = ()
    modes: tuple[str, ...] = ("reverse", "forward")


@dataclass(frozen=True)
class Leaf:
    """An array among the arguments of a call.

    Attributes
    ----------
    shape, dtype, device
        What it is.
    wanted
        Whether it was differentiated by at this call.
    take
        Gives a copy of its numbers; None where it has none: it is traced, or of a kind that is not judged.
    """

    shape: tuple[int, ...]
    dtype: str
    wanted: bool
    take: Callable[[], Any] | None
    device: str | None = None


# Is told of a call before it is made; gives what is to be called once it has come back, or None.
See = Callable[[Custom, tuple[Any, ...], dict[str, Any]], Callable[[], None] | None]


def around(
    original: Callable[..., Any], see: See, describe: Callable[..., Custom | None]
) -> Callable[..., Any]:
    """Give a method that is seen; in what it does and raises it is the original."""

    @functools.wraps(original)
    def called(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        keep = None
        try:
            custom = describe(owner, *args, **kwargs)
            if custom is not None:
                keep = see(custom, args, kwargs)
        except Exception:  # noqa: BLE001 - a call that cannot be recorded is a call all the same
            keep = None
        result = original(owner, *args, **kwargs)
        if keep is not None:
            keep()
        return result

    return called
