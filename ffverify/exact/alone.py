"""One thread at a time: the precision of Arb and of mpmath belongs to the process, not to a thread.

What computes exactly at the request of users is ``@alone``: one thread works, the others wait. It may call
itself, in the same thread.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.RLock()


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """Give a function that runs in one thread at a time, together with all others that are so declared."""

    @functools.wraps(function)
    def run_alone(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        with _lock:
            return function(*args, **kwargs)

    return run_alone


def _begin_anew() -> None:
    global _lock  # noqa: PLW0603 - a fork has no thread that would ever release the old one
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
