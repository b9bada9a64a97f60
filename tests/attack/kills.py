"""Runs of verify whose main process, or one of its workers, is killed at a random moment."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffverify.command.reports.records import read
from ffverify.errors import UsageError

SIGNALS = (signal.SIGKILL, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
TARGETS = ("main", "worker")
EVERYTHING = ("--dtype", "float32", "--max-examples", "1")
GRACE = 5.0  # seconds that a run may take to end, with all its processes
PATIENCE = 600.0  # for runs that go on

Statuses = dict[tuple[str, str, str, str], str]


@dataclass(frozen=True)
class Kill:
    """A signal, whom it is sent to, and when: so long after so many checks are done."""

    signal: int
    target: str
    checks: int
    delay: float

    def __str__(self) -> str:
        name = signal.Signals(self.signal).name
        return f"{name} for {self.target} {self.delay:.2f} s after {self.checks} checks"


def kills(count: int, checks: int, seed: int) -> Iterator[Kill]:
    """Give random moments of a run of so many checks, as many for every signal and target."""
    rng = random.Random(seed)
    for number, target in itertools.product(SIGNALS, TARGETS):
        for _ in range(count):
            done = rng.randrange(checks)
            yield Kill(number, target, done, rng.uniform(0.0, 0.3 if done else 2.0))


def command(words: Sequence[str]) -> list[str]:
    """Give the run that is attacked: of the reference engine, by two workers."""
    call = ["verify", "--backend", "reference", "--workers", "2", *words]
    return [sys.executable, "-m", "ffverify", *call, "--jsonl", "run.jsonl", "--json", "run.json"]


def undisturbed(words: Sequence[str], folder: Path) -> Statuses:
    """Give the checks of a run that nobody kills, and what came of them."""
    subprocess.run(command(words), cwd=folder, check=True, capture_output=True)
    return _statuses(folder)


def complaints(kill: Kill, right: Statuses, run: Sequence[str], folder: Path) -> list[str]:
    """Kill a run; give what is amiss with what it leaves: nothing if all is well."""
    for name in ("run.jsonl", "run.json"):
        (folder / name).unlink(missing_ok=True)
    with (
        _heard(),
        (folder / "printed").open("w+", encoding="utf-8") as printed,
        subprocess.Popen(
            run, cwd=folder, stdout=printed, stderr=printed, start_new_session=True
        ) as process,
    ):
        try:
            pid = _when(kill, process, folder)
            before = _statuses(folder)
            with contextlib.suppress(ProcessLookupError):  # a worker that has just ended
                os.kill(pid, kill.signal)
            sent = time.monotonic()
            try:
                process.wait(GRACE if kill.target == "main" else PATIENCE)
            except subprocess.TimeoutExpired:
                return [f"it goes on: {_processes(process.pid)}"]
            ended = sent if kill.target == "main" else time.monotonic()
            while (left := _processes(process.pid)) and time.monotonic() < ended + GRACE:
                time.sleep(0.05)
        finally:
            for other in _processes(process.pid):
                os.kill(other, signal.SIGKILL)
    amiss = [f"left behind: {' '.join(left.values())}"] if left else []
    after = _statuses(folder)
    if lost := [key for key in before if key not in after]:
        amiss.append(f"{len(lost)} finished checks are lost: {lost[:3]}")
    if other := [key for key, status in after.items() if status != right[key]]:
        amiss.append(f"not as in a run that nobody kills: {[(k, after[k]) for k in other[:3]]}")
    text = (folder / "printed").read_text(encoding="utf-8")
    if "Traceback" in text:
        amiss.append(f"a traceback: {text[-300:]}")
    if kill.target == "worker":
        if process.returncode or after != right:
            amiss.append(f"exit code {process.returncode}, {len(after)} of {len(right)} checks")
    elif kill.signal != signal.SIGKILL and before:  # it had begun, and was told
        whole = {r["claim"] for r in json.loads((folder / "run.json").read_text())["results"]}
        if missing := {claim for _, claim, _, _ in before} - whole:
            amiss.append(f"not in its JSON: {missing}")
        if process.returncode not in (130, 0):
            amiss.append(f"exit code {process.returncode}")
    return amiss


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Let runs hear what a shell's background, or nohup, has them ignore."""
    deaf = [n for n in SIGNALS[1:] if signal.getsignal(n) is signal.SIG_IGN]
    for number in deaf:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in deaf:
            signal.signal(number, signal.SIG_IGN)


def _when(kill: Kill, process: subprocess.Popen[Any], folder: Path) -> int:
    """Wait for the moment; give the process to be killed."""
    until = time.monotonic() + PATIENCE
    path = folder / "run.jsonl"
    while time.monotonic() < until and process.poll() is None:
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if lines > kill.checks or not kill.checks:  # the first says what run it is
            break
        time.sleep(0.02)
    time.sleep(kill.delay)
    if kill.target == "main":
        return process.pid
    while time.monotonic() < until and process.poll() is None:
        crew = [pid for pid, words in _processes(process.pid).items() if "spawn_main" in words]
        if crew:
            return random.Random(str(kill)).choice(crew)
        time.sleep(0.02)
    return process.pid  # which has ended


def _processes(session: int) -> dict[int, str]:
    """Give the processes of a session that have not ended, with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found[int(folder.name)] = words
    return found


def _statuses(folder: Path) -> Statuses:
    try:
        entries = read(folder / "run.jsonl").entries
    except UsageError:  # it has not begun
        return {}
    return {e.key: e.result.status for e in entries}
