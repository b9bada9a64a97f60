"""Run independent jobs in this process or in several; no job that is done is lost, none is left behind.

A worker process that is killed (by whoever runs out of memory, as a rule) takes only its own job with
it: what was under way is tried again, one by one, and a job that kills its worker twice is `Lost`. Workers
end with their parent, however that ends.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import threadpoolctl

T = TypeVar("T")
Job = tuple[Any, ...]


@dataclass(frozen=True)
class Lost:
    """A job that ended its worker process twice, in place of its result."""

    job: Job
    reason: str = "its worker process was killed twice (out of memory?)"


def execute(function: Callable[..., T], jobs: Sequence[Job], workers: int) -> Iterator[T | Lost]:
    """Give ``function(*job)`` for every job as it is done; 0 workers: here, in order."""
    if workers == 0:
        yield from (function(*job) for job in jobs)
        return
    # The exhaustive sweeps stand at the end of the book: begun first, none is waited for alone.
    waiting = list(jobs)
    while waiting:
        for job in (yield from _in_pool(function, waiting, min(workers, len(waiting)))):
            if (yield from _in_pool(function, [job], 1)):
                yield Lost(job)


def _in_pool(
    function: Callable[..., T], waiting: list[Job], count: int
) -> Generator[T | Lost, None, list[Job]]:
    """Run jobs from the end of a list until it is empty, or a worker dies; give what it may have had."""
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads deadlocks
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_become_worker)
    # No more is handed out than there are workers: so it is known what a dead one may have had.
    pending: dict[Future[T], Job] = {}
    try:
        while waiting or pending:
            while waiting and len(pending) < count:
                pending[pool.submit(function, *waiting[-1])] = waiting[-1]
                waiting.pop()
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                result = future.result()
                del pending[future]
                yield result
    except BrokenProcessPool:
        return list(pending.values())
    except BaseException:  # Ctrl-C above all: nobody waits for a job that is under way
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _become_worker() -> None:
    """Leave Ctrl-C to the parent, and the other cores to the other workers; end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Take SIGTERM and SIGHUP as a Ctrl-C, and send a Ctrl-C again where Python drops it.

    It does so in a destructor or in a weak reference's callback.
    """
    before = sys.unraisablehook

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Here it would be dropped once more: it waits until the callback has surely returned.
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            before(unraisable)

    def end(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    handlers = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            handlers[number] = signal.signal(number, end)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: sums in one order, so that every run gives the same bits."""
    with threadpoolctl.threadpool_limits(1):
        yield
