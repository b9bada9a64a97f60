"""The command line as a user meets it: output, exit codes, wrong words, Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from ffverify.command import main as cli
from ffverify.command.report import print_explanation
from ffverify.conformance.claim import Claim, Result, claims
from ffverify.conformance.verification import Report
from ffverify.truth.textbook import CATALOGUE


def _run(*words: str) -> tuple[int, str, str]:
    """Run in a process of its own, as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "ffverify", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_backend_that_holds_exits_with_0(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    code, out, _ = _run(
        "verify",
        "--backend",
        "reference",
        "--spec",
        "xor_exact*",
        "--workers",
        "0",
        "--json",
        str(target),
    )
    assert code == 0
    assert "xor_exact_solution" in out
    assert "2 held, 0 failed" in out
    assert json.loads(target.read_text(encoding="utf-8"))["ok"]


def test_findings_exit_with_1_and_replay() -> None:
    code, out, _ = _run(
        "verify", "--backend", "torch", "--spec", "bernoulli_nll_is_softplus", "--workers", "0"
    )
    assert code == 1
    line = next(line for line in out.splitlines() if "ffverify replay" in line)
    code, out, _ = _run(*line.split()[1:])
    assert code == 1
    assert "but should be" in out


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "--backend", "no_such_thing"],
        ["verify", "--spec", "no_such_claim"],
        ["verify", "--max-examples", "none"],
        ["verify", "--max-examples", "0"],
        ["verify", "--workers", "-1"],
        ["verify", "--dtype", "float8"],
        ["verify", "--json", "/no/such/folder/x.json"],
        ["verify", "--no-such-option"],
        ["replay", "damaged"],
        ["no_such_command"],
    ],
)
def test_a_wrong_word_is_one_line_and_exit_2(words: list[str]) -> None:
    code, out, err = _run(*words)
    assert code == 2
    assert not out
    assert err.startswith("ffverify: ")
    assert err.count("\n") == 1


def test_a_missing_framework_is_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffverify.conformance import verification
    from ffverify.frameworks import framework as frameworks

    frameworks.framework.cache_clear()
    verification._backend.cache_clear()
    monkeypatch.setattr(frameworks, "is_installed", lambda name: name != "torch")
    result = CliRunner().invoke(cli.commands, ["verify", "--backend", "torch"])
    assert result.exit_code == 2
    assert result.stderr == "ffverify: torch is not installed: pip install 'ffverify[torch]'\n"


def test_specs_lists_every_claim_by_section() -> None:
    code, out, _ = _run("specs")
    assert code == 0
    assert "6.2.2" in out
    assert out.index("xor_exact_solution") < out.index("bernoulli_nll_is_softplus")


@pytest.mark.parametrize("claim", claims(), ids=lambda c: c.id)
def test_explain_tells_all_about_every_claim(claim: Claim) -> None:
    results = [
        Result(claim.id, "reference", "float64", "holds", worst_ulps=1.5, measured="3 of 4"),
        Result(claim.id, "torch", "float64", "not provided", reason="no such_function"),
    ]
    console = Console(width=400, record=True, file=io.StringIO())
    print_explanation(claim, Report(results), console)
    told = console.export_text()
    assert told.startswith(f"{claim.id}  (section {claim.section})\n{claim.sentence}\n")
    for heading in ("ExactPrograms", "Domain", "Check", "Bound", "Must reject", "Results"):
        assert f"\n{heading}" in told
    assert all(f"def {n}(" in told for n in claim.functions if n in CATALOGUE)
    assert all(f"  {name}: " in told and f"  {name}: \n" not in told for name in claim.inputs)
    assert f"def {claim.id}(" in told
    assert all(f"{bug.function}: {bug.sentence}" in told for bug in claim.bugs)
    assert all(picture.title in told for picture in claim.pictures)
    assert "✓ 1.5" in told
    assert "no such_function" in told
    assert "3 of 4" in told


def test_explain_refuses_a_pattern_of_several_claims() -> None:
    code, out, err = _run("explain", "softmax_*")
    assert code == 2
    assert not out
    assert "names 7 claims (softmax_on_simplex, softmax_shift_invariance, …)" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_prints_what_was_done_so_far(workers: str) -> None:
    # What runs the tests may ignore the signal, as what a shell starts with & does.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import sys; from ffverify.command.main import main; sys.argv[0] = 'ffverify'; main()"
    )
    words = ["verify", "--backend", "reference", "--workers", workers, "--max-examples", "100000"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "100"},
    ) as process:
        time.sleep(6)
        os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == cli.INTERRUPTED, err
    assert "Interrupted: this is what was done so far." in out
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_ctrl_c_that_falls_into_a_callback_is_not_lost() -> None:
    code = """
import signal, sys, time, weakref
from ffverify.conformance.workers import heeding_interrupts

class Thing: pass

signal.signal(signal.SIGINT, signal.default_int_handler)
with heeding_interrupts():
    try:
        thing = Thing()
        dropped = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        del thing
        time.sleep(20)
    except KeyboardInterrupt:
        sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")
