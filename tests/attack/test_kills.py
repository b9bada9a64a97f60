"""A sample of runs that are killed; ``python -m tests.attack --kills 10`` has as many as one wants."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.attack.kills import Kill, command, complaints, undisturbed

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks at processes in /proc"
)
FEW = ("--spec", "6.2.2.3", "--dtype", "float32", "--max-examples", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def right(whole):
    return undisturbed(FEW, whole)


@pytest.mark.parametrize(
    "kill",
    [
        Kill(signal.SIGHUP, "main", 1, 0.0),
        Kill(signal.SIGKILL, "main", 0, 0.7),
        Kill(signal.SIGTERM, "worker", 1, 0.0),
    ],
    ids=str,
)
def test_runs_that_are_killed_lose_nothing_and_leave_nobody(tmp_path, right, kill):
    assert len(right) > 3
    assert complaints(kill, right, command(FEW), tmp_path) == []


CARELESS = """
import json, os, signal, subprocess, sys, time

def end(*_):
    open("run.jsonl", "w").write("\\n".join(lines[:-2]) + "\\n")
    sys.exit(3)

subprocess.Popen(["sleep", "60"])
lines = open(sys.argv[1]).read().splitlines()
open("run.json", "w").write('{"results": []}')
signal.signal(signal.SIGTERM, end)
open("run.jsonl", "w").write("\\n".join(lines) + "\\n")
time.sleep(60)
"""


def test_what_is_lost_or_left_behind_is_seen(tmp_path, whole, right, monkeypatch):
    monkeypatch.setattr("tests.attack.kills.GRACE", 0.5)
    run = [sys.executable, "-c", CARELESS, whole / "run.jsonl"]
    kill = Kill(signal.SIGTERM, "main", len(right), 0.3)
    said = " ".join(complaints(kill, right, run, tmp_path))
    for what in ("left behind: sleep", "1 finished checks are lost", "exit code 3", "its JSON"):
        assert what in said
