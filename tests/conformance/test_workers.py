"""Workers that die, and parents that do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffverify.conformance.workers import Lost, execute, heeding_interrupts, undisturbed

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="signals are sent differently there"
)


def _square(number: int, folder: str, deaths: int) -> int:
    """Square a number; 3 ends its worker a number of times first."""
    notes = Path(folder)
    if number == 3 and len(list(notes.iterdir())) < deaths:
        (notes / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_is_killed_loses_no_other_result(tmp_path: Path, deaths: int) -> None:
    jobs = [(n, str(tmp_path), deaths) for n in range(6)]
    came = list(execute(_square, [[job] for job in jobs], 2))
    squares = {n**2 for n in range(6)}
    lost = [c for c in came if isinstance(c, Lost)]
    assert [x.job[0] for x in lost] == ([3] if deaths == 2 else [])
    assert {c for c in came if not isinstance(c, Lost)} == squares - ({9} if deaths == 2 else set())
    assert len(came) == 6


PARENT = """
import multiprocessing, sys, time
from ffverify.conformance.workers import execute

def work(n):
    if n:
        time.sleep(60)
    return n

if __name__ == "__main__":
    for _ in execute(work, [[(1,)], [(0,), (1,)]], 2):
        print(*(c.pid for c in multiprocessing.active_children()), flush=True)
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        os.kill(parent.pid, number)
        parent.wait(10)
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, pids))


def test_a_script_that_workers_cannot_import_is_told_once(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import ffverify\nffverify.verify('reference', 'xor_exact_solution', workers=1)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "UsageError: worker processes do not start" in done.stderr


def test_jobs_of_a_group_are_done_by_one_worker() -> None:
    pids = list(execute(_pid, [[(0, n) for n in range(3)], [(1, n) for n in range(3)]], 2))
    assert len({pid for group, pid in pids if group == 0}) == 1
    assert len({pid for group, pid in pids if group == 1}) == 1
    assert len(pids) == 6


def _pid(group: int, _number: int) -> tuple[int, int]:
    return group, os.getpid()


def test_signals_are_passed_over_while_files_are_written() -> None:
    came = []
    with heeding_interrupts(), undisturbed() as heeded:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        came.append("written")
        with pytest.raises(KeyboardInterrupt), heeded():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        came.append("written")
    assert came == ["written", "written"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
