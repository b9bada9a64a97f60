"""Jobs in processes of their own: whatever a job does to its process or its device, the others go on.

``run(jobs, workers, deadline)`` gives the rows of all jobs as they come, each a plain dict. A job that
raises, whose process dies (a device assert, a segmentation fault, the system's memory guard), or that is not
done at the deadline leaves a row that says so.
"""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from ffverify.conformance.workers import _become_worker

Row = dict[str, Any]

# Outcomes of a row that are no answer, or not the planted error's; the others are "holds", "known defect",
# "finding", "inconclusive", "not provided", "rejected" (of a planted error) and "noted".
BROKEN = ("failed", "lost", "out of time", "not run", "missed")


@dataclass(frozen=True)
class Setting:
    """What all jobs of a run share: the device, and whether sizes are those of a dry run."""

    device: str
    small: bool

    @property
    def devices(self) -> tuple[str, ...]:
        """The device and, for comparison, the CPU."""
        return tuple(dict.fromkeys(("cpu", self.device)))


@dataclass(frozen=True)
class Job:
    """One call, ``call(setting, *args)``, that yields rows; it is made in another process."""

    name: str
    call: Callable[..., Iterator[Row]]
    args: tuple[Any, ...] = ()


@contextmanager
def crew(setting: Setting, workers: int) -> Iterator[list[_Worker]]:
    """Give workers; their processes begin with their first jobs, and end with this block."""
    made = [_Worker(setting) for _ in range(workers)]
    try:
        yield made
    finally:
        for worker in made:
            worker.end()


def run(jobs: Sequence[Job], workers: Sequence[_Worker], deadline: float) -> Iterator[Row]:
    """Run jobs; give their rows as they come, each with the job's name.

    ``deadline`` is a reading of `time.monotonic`: what runs then is ended, what waits is not begun.
    """
    waiting = list(reversed(jobs))
    while waiting or any(w.job for w in workers):
        late = time.monotonic() >= deadline
        for worker in workers:
            if late and worker.job:
                yield worker.row(outcome="out of time", reason="ended at the part's deadline")
                worker.end()
            elif waiting and not worker.job and not late:
                worker.begin(waiting.pop())
        if late:
            for job in reversed(waiting):
                yield {"job": job.name, "outcome": "not run", "reason": "no time was left"}
            return
        busy = [w for w in workers if w.job]
        ready = wait([w.pipe for w in busy], max(deadline - time.monotonic(), 0))
        for worker in busy:
            if worker.pipe in ready:
                yield from worker.take()


class _Worker:
    """A process that runs one job after another, and is replaced when a job has broken it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.job: Job | None = None
        self.process: Any = None

    def begin(self, job: Job) -> None:
        if self.process is None:
            context = multiprocessing.get_context("spawn")  # a forked copy has no CUDA
            self.pipe, far = context.Pipe()
            self.process = context.Process(target=_serve, args=(far, self.setting), daemon=True)
            self.process.start()
            far.close()
        self.job, self.began = job, time.monotonic()
        self.pipe.send(job)

    def row(self, **said: Any) -> Row:
        assert self.job is not None
        return {"job": self.job.name, "seconds": round(time.monotonic() - self.began, 3), **said}

    def take(self) -> Iterator[Row]:
        """Give what has come from the process: a row, its end, or its death."""
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            yield self.row(outcome="lost", reason=f"its process ended with code {code}")
            self.end()
            return
        if isinstance(said, dict):
            yield self.row(**said)
            return
        self.job = None
        if said == "broken":  # what the device says from now on is no answer
            self.end()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
        self.job = self.process = None


def _serve(pipe: Any, setting: Setting) -> None:
    """Run the jobs that come, until nobody is there to send any."""
    _become_worker()  # before NumPy and torch count the cores
    warnings.simplefilter("ignore")  # torch's about its own future; what counts is in the rows
    while True:
        job = pipe.recv()
        try:
            for row in job.call(setting, *job.args):
                pipe.send(row)
        except Exception as error:  # noqa: BLE001 - whatever a device does is a row
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0] if lines else ''}"
            pipe.send({"outcome": "failed", "reason": reason})
        pipe.send("ended" if _usable(setting.device) else "broken")


def _usable(device: str) -> bool:
    """Tell whether the device still answers: after a device assert a process gets no more from it."""
    if not device.startswith("cuda"):
        return True
    import torch

    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError):  # torch asserts that it was built for CUDA
        return False
    return True
