"""Run independent jobs in this process or in several, and end them all at once on Ctrl-C."""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, TypeVar

import threadpoolctl

T = TypeVar("T")


def execute(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[T]:
    """Give ``function(*job)`` for every job as it is done; 0 workers: here, in order."""
    if workers == 0:
        yield from (function(*job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads deadlocks
    count = min(workers, max(len(jobs), 1))
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_become_worker)
    try:
        # The exhaustive sweeps stand at the end of the book: begun first, none is waited for alone.
        pending = {pool.submit(function, *job) for job in reversed(jobs)}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BaseException:  # Ctrl-C above all: nobody waits for a job that is under way
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _become_worker() -> None:
    """Leave Ctrl-C to the parent, and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Send a Ctrl-C again where Python drops it: in a destructor or a weak reference's callback."""
    before = sys.unraisablehook

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Here it would be dropped once more: it waits until the callback has surely returned.
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: sums in one order, so that every run gives the same bits."""
    with threadpoolctl.threadpool_limits(1):
        yield
