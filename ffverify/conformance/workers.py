"""Run independent jobs in this process or in several; no job that is done is lost, none is left behind.

A worker process that is killed (by whoever runs out of memory, as a rule) takes only its own job with
it: that is tried again, and a job that ends its worker twice is `Lost`. Workers end with their parent,
however that ends.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

import threadpoolctl

from ffverify.errors import UsageError

T = TypeVar("T")
Job = tuple[Any, ...]


@dataclass(frozen=True)
class Lost:
    """A job that ended its worker process twice, in place of its result."""

    job: Job
    reason: str = "its worker process was killed twice (out of memory?)"


class _Worker:
    """A process, and the jobs that it is to do, the next one first."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._pool: ProcessPoolExecutor | None = None
        self._deaths = 0  # of processes, by the job that is the next

    def begin(self, function: Callable[..., T]) -> Future[T]:
        """Begin the next job."""
        if self._pool is None:
            context = multiprocessing.get_context(
                "spawn"
            )  # a forked copy of torch's threads deadlocks
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_become_worker)
            self._up = self._pool.submit(int)
        try:
            return self._pool.submit(function, *self.jobs[0])
        except BrokenProcessPool:  # killed while it had nothing to do
            self.end()
            return self.begin(function)

    def done(self) -> None:
        """Go on to the job after the next."""
        del self.jobs[0]
        self._deaths = 0

    def died(self) -> bool:
        """Bury the process; tell whether its job ended one before.

        Raises
        ------
        UsageError
            If neither had come as far as to take a job.
        """
        was_up = self._up.exception() is None
        self.end()
        self._deaths += 1
        if self._deaths == 2 and not was_up:
            raise UsageError(
                "worker processes do not start, and have said why above: a script that asks for some "
                "does so under if __name__ == '__main__':, or with workers=0"
            )
        return self._deaths == 2

    def end(self) -> None:
        """End the process when it has done what it does."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def execute(
    function: Callable[..., T], groups: Sequence[Sequence[Job]], workers: int
) -> Iterator[T | Lost]:
    """Give ``function(*job)`` for every job of all groups as it is done; 0 workers: here, in order.

    A group is done by one worker: its jobs share what the first of them has worked out.

    Raises
    ------
    UsageError
        If worker processes do not start.
    """
    if workers == 0:
        yield from (function(*job) for group in groups for job in group)
        return
    # The exhaustive sweeps stand at the end of the book: begun first, none is waited for alone.
    waiting = [list(group) for group in groups if group]
    idle = [_Worker() for _ in range(min(workers, len(waiting)))]
    crew, others = list(idle), set(multiprocessing.active_children())
    busy: dict[Future[T], _Worker] = {}
    try:
        while waiting or busy:
            while idle and waiting:
                worker = idle.pop()
                worker.jobs = waiting.pop()
                busy[worker.begin(function)] = worker
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker = busy.pop(future)
                try:
                    result: T | Lost = future.result()
                except BrokenProcessPool:
                    if not worker.died():
                        busy[worker.begin(function)] = worker
                        continue
                    result = Lost(worker.jobs[0])
                worker.done()
                yield result
                if worker.jobs:
                    busy[worker.begin(function)] = worker
                else:
                    idle.append(worker)
    except BaseException:  # Ctrl-C above all: nobody waits for a job that is under way
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        for worker in crew:
            worker.end()


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
def undisturbed() -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Pass over SIGINT, SIGTERM and SIGHUP while what was found is written to files.

    Gives a context in which they are heeded as before: for the work itself.
    """
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    heeding = {
        n: handler
        for n in numbers
        if n is not None and (handler := signal.getsignal(n)) not in (None, signal.SIG_IGN)
    }

    def take(handlers: dict[Any, Any]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    # Unlike SIG_IGN, a function is not inherited by processes that are started.
    passing_over = dict.fromkeys(heeding, lambda _number, _frame: None)

    @contextlib.contextmanager
    def heeded() -> Iterator[None]:
        take(heeding)
        try:
            yield
        finally:
            take(passing_over)

    take(passing_over)
    try:
        yield heeded
    finally:
        take(heeding)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: sums in one order, so that every run gives the same bits."""
    with _blas(len(sys.modules)).limit(limits=1):
        yield


@functools.lru_cache(maxsize=1)
def _blas(_modules: int) -> threadpoolctl.ThreadpoolController:
    """Look for BLAS, which takes long, when modules were imported that may have brought one."""
    return threadpoolctl.ThreadpoolController()
