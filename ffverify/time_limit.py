"""A limit on how long a call takes that leaves it in the caller's thread: it sees what the caller sees.

Gradient mode, autocast, JAX's configuration, context variables and thread-locals belong to a thread; so the
function under test runs in its caller's. A thread beside it interrupts what lasts too long: Python code at
its next instruction, in the main thread also what sleeps or waits, as Ctrl-C does. C code that neither comes
back nor lets Python run cannot be ended from within. The time that a call takes to import modules is not the
function's (torch's forward mode imports its compiler, which takes seconds), and half an import is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_TICK, _AGAIN = (
    0.05,
    1.0,
)  # seconds between looks, and between interrupts of code that goes on after one


class Overran(TimeoutError):
    """A call lasted longer than it may."""


class _Overdue(BaseException):
    """What interrupts a call outside of the main thread."""


@dataclass
class _Call:
    """A call under way."""

    thread: int
    ends: float
    modules: int
    done: bool = False
    overdue: bool = False

    def interrupt(self) -> None:
        self.overdue, self.ends = True, time.monotonic() + _AGAIN
        as_ctrl_c = (
            self.thread == threading.main_thread().ident
            and hasattr(signal, "pthread_kill")  # not on Windows
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if as_ctrl_c:
            signal.pthread_kill(self.thread, signal.SIGINT)
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread), ctypes.py_object(_Overdue)
            )


_calls: dict[int, _Call] = {}
_guard = threading.Lock()
_watcher: threading.Thread | None = None


def within(seconds: float, call: Callable[[], T]) -> T:
    """Give what a call gives.

    Raises
    ------
    Overran
        If it lasts longer.
    """
    one = _Call(threading.get_ident(), time.monotonic() + seconds, len(sys.modules))
    _watch_over(one)
    try:
        try:
            result = call()
        finally:
            one.done = True
            with _guard:  # an interrupt has been sent by now, or never will be
                pass
            for _ in range(2 if one.overdue else 0):
                # An interrupt that is still to come is raised here. It cannot be taken back: CPython goes on
                # looking for it at every instruction, and where those are traced it gets no further.
                time.sleep(0)
    except BaseException:
        one.done = True
        if not one.overdue:
            raise
    if one.overdue:
        raise Overran
    return result


def _watch_over(one: _Call) -> None:
    global _watcher  # noqa: PLW0603 - one for the process
    _calls[id(one)] = one
    with _guard:
        if _watcher is None or not _watcher.is_alive():
            _watcher = threading.Thread(target=_watch, name="ffverify-time-limit", daemon=True)
            _watcher.start()


def _watch() -> None:
    """Interrupt what is overdue, until nothing has run for a second."""
    global _watcher  # noqa: PLW0603 - as above
    now = idle_since = time.monotonic()
    while True:
        time.sleep(_TICK)
        before, now = now, time.monotonic()
        with _guard:
            for key, one in _calls.copy().items():  # other threads add to it
                if one.done:
                    del _calls[key]
                else:
                    idle_since = now
                    if _is_importing(one):
                        one.ends += now - before
                    elif now >= one.ends:
                        with contextlib.suppress(ProcessLookupError):  # its thread has ended
                            one.interrupt()
            if now - idle_since > 1 and not _calls:
                _watcher = None
                return


def _is_importing(one: _Call) -> bool:
    """Tell whether a module that was not there when a call began is being imported.

    Which thread imports it is not asked: the frames of another thread, while it runs, cannot be relied on.
    """
    begun = list(sys.modules.copy().values())[one.modules :]
    specs = (getattr(module, "__spec__", None) for module in begun)
    return any(getattr(spec, "_initializing", False) for spec in specs)


def _begin_anew() -> None:
    """Forget what a fork's parent ran: its threads are not here."""
    global _guard, _watcher
    _guard, _watcher = threading.Lock(), None
    own = threading.get_ident()
    for key, one in list(_calls.items()):
        if one.thread != own:
            del _calls[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
