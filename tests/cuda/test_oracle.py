"""The GPU oracle works before a GPU is seen: a dry run on the CPU, and jobs that break their process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cuda.__main__ import PARTS
from tests.cuda.breaking import dying, fine, raising, staying
from tests.cuda.jobs import BROKEN, Job, Row, Setting, crew, run
from tests.cuda.table import table

ROOT = Path(__file__).parents[2]
# As on a machine that has neither: `import jax` raises ModuleNotFoundError, and no module is found.
BLOCKED = "import sys\nsys.modules.update(jax=None, jaxlib=None, scipy=None)\n"


def test_a_dry_run_needs_torch_and_our_own_dependencies_only(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "tests.cuda", "--dry", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    broken = [r for r in rows if r["outcome"] in BROKEN]
    assert (done.returncode, broken) == (0, []), done.stdout + done.stderr
    assert [*dict.fromkeys(r["part"] for r in rows)] == ["machine", *PARTS]
    # All but the claims plant errors, and of these known defects speak; a fault is its own.
    planted = {r["part"] for r in rows if r["outcome"] == "rejected"}
    assert planted == {*PARTS} - {"claims", "faults"}
    wrong = [r for r in rows if r["outcome"] == "finding" and r["part"] != "exhaustive"]
    assert wrong == []
    # torch computes tanh' from tanh: beyond the bound where the unit saturates.
    worst = (tmp_path / "out/table.md").read_text()
    assert "| tanh | float16 | 0.5 / 2.05e+03 |" in worst


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "tests.cuda", "--device", "cuda:77", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "device 'cuda:77' cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------------
# Jobs that break their process
# ---------------------------------------------------------------------------------------------


def outcomes(jobs: dict[str, object], seconds: float = 60) -> dict[str, list[Row]]:
    made = [Job(name, call) for name, call in jobs.items()]
    found: dict[str, list[Row]] = {name: [] for name in jobs}
    with crew(Setting("cpu", small=True), 2) as workers:
        for row in run(made, workers, time.monotonic() + seconds):
            found[row["job"]].append(row)
    return found


def test_what_a_job_does_to_its_process_is_a_row_and_the_rest_goes_on():
    found = outcomes({"a": raising, "b": dying, "c": fine, "d": fine})
    said = {
        name: [(r["outcome"], r.get("reason", "")) for r in rows] for name, rows in found.items()
    }
    assert said == {
        "a": [("holds", ""), ("failed", "ValueError: no")],
        "b": [("holds", ""), ("lost", "its process ended with code 3")],
        "c": [("holds", "")],
        "d": [("holds", "")],
    }


def test_a_deadline_ends_what_runs_and_says_what_did_not():
    found = outcomes({"a": staying, "b": staying, "c": fine}, seconds=3)
    said = {name: [r["outcome"] for r in rows][-1] for name, rows in found.items()}
    assert said == {"a": "out of time", "b": "out of time", "c": "not run"}
    for name in "ab":
        with pytest.raises(ProcessLookupError):
            os.kill(found[name][0]["pid"], 0)


def test_a_run_that_is_killed_leaves_no_process():
    code = (
        "import time; from tests.cuda.breaking import *; from tests.cuda.jobs import *\n"
        "with crew(Setting('cpu', small=True), 1) as workers:\n"
        "    for row in run([Job('a', fine), Job('b', staying)], workers, time.monotonic() + 60):\n"
        "        print(row['pid'], flush=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert int(parent.stdout.readline()) == child  # one process for both
        parent.send_signal(signal.SIGKILL)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_the_table_has_the_worst_of_every_piece_and_no_planted_error():
    def row(job: str, device: str, what: str, ulps: float) -> Row:
        said = {"job": job, "device": device, "what": what, "worst_ulps": ulps}
        return said | {"function": "gelu", "dtype": "float32"}

    rows = [
        row("1 of 2", "cpu", "value", 1.5),
        row("2 of 2", "cpu", "value", 2.5),
        row("1 of 2", "cpu", "reverse", 3.0),
        row("1 of 2", "cuda", "value", 0.5),
        row("planted in gelu", "cuda", "value", 99.0),
    ]
    assert table(rows, ("cpu", "cuda")).splitlines()[-1] == "| gelu | float32 | 2.5 / 3 | 0.5 /  |"
