"""The command line as a user meets it: output, exit codes, wrong words, Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ffverify.command import main as cli
from ffverify.command.report import print_explanation
from ffverify.command.reports.records import read
from ffverify.command.verify import INTERRUPTED
from ffverify.conformance.claim import Claim, Result, claims
from ffverify.conformance.verification import Report
from ffverify.errors import UsageError
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


def test_known_failures_are_a_line_each_and_no_failure_unless_asked() -> None:
    words = [
        "verify",
        "--backend",
        "torch",
        "--spec",
        "bernoulli_nll_is_softplus",
        "--workers",
        "0",
    ]
    words += ["--dtype", "float64"]
    code, out, _ = _run(*words)
    assert code == 0
    assert out.count("bernoulli_nll ·") == 1
    assert "ffverify replay" not in out
    assert "0 failed (1 more are known to)" in out
    code, out, _ = _run(*words, "--fail-on-known", "--known")
    assert code == 1
    assert "known: binary_cross_entropy_with_logits computes" in out
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
        ["verify", "--known", "/no/such/file.toml"],
        ["verify", "--shard", "5/4"],
        ["verify", "--backend", "torch:cdua"],
        ["verify", "--backend", "torch:"],
        ["verify", "--backend", ""],
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


def test_the_command_alone_prints_its_help() -> None:
    assert _run() == _run("--help")
    code, out, err = _run()
    assert (code, err) == (0, "")
    assert out.startswith("Usage: ")
    assert "\n  verify " in out


def test_a_missing_framework_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ffverify.conformance import verification
    from ffverify.frameworks import framework as frameworks

    frameworks.framework.cache_clear()
    verification._backend.cache_clear()
    monkeypatch.setattr(frameworks, "is_installed", lambda name: name != "torch")
    monkeypatch.setattr(sys, "argv", ["ffverify", "verify", "--backend", "torch"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "ffverify: torch is not installed: pip install 'ffverify[torch]'\n"
    )


def test_specs_lists_every_claim_by_section() -> None:
    code, out, _ = _run("specs")
    assert code == 0
    assert "6.2.2" in out
    assert out.index("xor_exact_solution") < out.index("bernoulli_nll_is_softplus")


@pytest.mark.parametrize("claim", claims(), ids=lambda c: c.id)
def test_explain_tells_all_about_every_claim(claim: Claim) -> None:
    results = [
        Result(claim.id, "reference", "float64", "holds", worst_share=0.59, measured="3 of 4"),
        Result(claim.id, "torch", "float64", "not provided", reason="no such_function"),
    ]
    console = Console(width=400, record=True, file=io.StringIO())
    print_explanation(claim, Report(results), console)
    told = console.export_text()
    assert told.startswith(f"{claim.id}  (section {claim.section})\n{claim.sentence}\n")
    for heading in ("Definitions", "Domain", "Check", "Bound", "Must reject", "Results"):
        assert f"\n{heading}" in told
    stated = ((f"def {n}(", f'_unit("{n}", ') for n in claim.functions if n in CATALOGUE)
    assert all(a in told or b in told for a, b in stated)
    assert all(f"  {name}: " in told and f"  {name}: \n" not in told for name in claim.inputs)
    assert f"def {claim.id}(" in told
    assert all(f"{bug.function}: {bug.sentence}" in told for bug in claim.bugs)
    assert all(picture.title in told for picture in claim.pictures)
    assert "✓  59%" in told
    assert "no such_function" in told
    assert "3 of 4" in told


def test_explain_refuses_a_pattern_of_several_claims() -> None:
    code, out, err = _run("explain", "softmax_*")
    assert code == 2
    assert not out
    count = sum(c.id.startswith("softmax_") for c in claims())
    assert f"names {count} claims (softmax_on_simplex, softmax_shift_invariance, …)" in err


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
        time.sleep(5)
    except KeyboardInterrupt:
        sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")


def test_what_cannot_be_judged_at_all_is_no_success() -> None:
    code, out, err = _run(
        "verify", "--backend", "torch:tpu", "--spec", "xor_exact*", "--workers", "0"
    )
    assert (code, err) == (1, "")
    assert "nothing could be judged on torch:tpu: torch has no device 'tpu' here" in out


USERS = """
import numpy as np

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def tanh(z):
    return 2 * sigmoid(z) - 1  # should be 2 * sigmoid(2 * z) - 1

def cross_entropy(z, y):
    return z
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mylib.py").write_text(USERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TANH = ["--backend", "mylib", "--spec", "tanh_is_scaled_sigmoid", "--workers", "0"]


def test_one_finding_per_cause_and_what_is_not_used(project: Path) -> None:
    code, out, _ = _run("verify", *TANH)
    assert code == 1
    assert out.count("wrong tanh · mylib float64, float32") == 1
    assert out.count("ffverify replay") == 1
    assert "not used of mylib: cross_entropy (did you mean softmax_nll?)" in out


def test_failures_that_a_project_knows_of(project: Path) -> None:
    entry = '[[defect]]\nfunction = "{}"\nreason = "2σ(z), ticket 12"\n'
    (project / "known.toml").write_text(entry.format("tanh"), encoding="utf-8")
    code, out, _ = _run("verify", *TANH, "--known", "known.toml")
    assert code == 0, out
    assert "2σ(z), ticket 12" in out
    (project / "pyproject.toml").write_text('[tool.ffverify]\nknown = "known.toml"\n')
    assert _run("verify", *TANH)[0] == 0
    (project / "known.toml").write_text(entry.format("sigmoid"), encoding="utf-8")
    code, out, _ = _run("verify", *TANH)
    assert code == 1
    assert "out of date" in out
    assert "function sigmoid (2σ(z), ticket 12)" in out
    (project / "pyproject.toml").write_text("[tool.ffverify]\nbackends = 3\n")
    code, _, err = _run("verify", *TANH)
    assert code == 2
    assert "did you mean 'backend'?" in err


def test_a_module_that_exits_is_no_success(project: Path) -> None:
    (project / "mylib.py").write_text("import sys\nsys.exit(0)\n")
    code, _, err = _run("verify", *TANH)
    assert code == 2
    assert "cannot be imported, it raises SystemExit: 0" in err


def test_a_function_that_exits_is_a_finding(project: Path) -> None:
    (project / "mylib.py").write_text(
        "import sys\ndef sigmoid(z): sys.exit(0)\ndef tanh(z): sys.exit(0)\n"
    )
    code, out, _ = _run("verify", *TANH[:-1], "1")
    assert code == 1
    assert "SystemExit: 0" in out


def test_files_are_written_before_anything_is_printed(project: Path) -> None:
    command = f"{sys.executable} -m ffverify verify {' '.join(TANH)} --json out.json"
    done = subprocess.run(
        ["/bin/sh", "-c", f"({command}; echo $? > code) | head -1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert (project / "code").read_text() == "1\n"
    assert json.loads((project / "out.json").read_text())["ok"] is False


def test_catalogue_tells_names_and_arguments() -> None:
    code, out, _ = _run("catalogue")
    assert code == 0
    assert "softmax_nll(z, y)" in out
    assert "also hardtanh" in out
    assert len(out.splitlines()) == len(CATALOGUE)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_was_done_is_kept_however_the_run_ends(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nimport numpy as np\n"
        "def softmax(z):\n    e = np.exp(z - z.max(-1, keepdims=True))\n"
        "    return e / e.sum(-1, keepdims=True)\n"
        "def relu(z):\n    time.sleep(100 * (z.dtype == np.float64))\n    return np.maximum(z, 0)\n"
    )
    words = [
        "verify",
        "--backend",
        "slow",
        "--workers",
        "2",
        "--spec",
        "relu_is_linear_when_active",
    ]
    words += ["--spec", "softmax_on_simplex"]
    files = [f"--jsonl={tmp_path / 'a.jsonl'}", f"--json={tmp_path / 'a.json'}"]
    with subprocess.Popen(
        [sys.executable, "-m", "ffverify", *words, *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        deadline = time.monotonic() + 60
        while len(_lines(tmp_path / "a.jsonl")) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    document = read(tmp_path / "a.jsonl")
    assert len(document.entries) >= 2, err
    assert {e.result.status for e in document.entries} <= {"holds", "fails"}
    if number != signal.SIGKILL:
        assert process.returncode == INTERRUPTED
        assert "Traceback" not in err
        assert "Interrupted: this is what was done so far." in out
        assert document.interrupted
        assert json.loads((tmp_path / "a.json").read_text())["interrupted"] is True


WORDS = [
    "verify", "report", "explain", "replay", "specs", "gradcheck", "watch", "--", "-", "", "=", "é", "\x7f",
    "--backend", "--backend=", "--spec", "--spec=[", "--dtype", "--dtype=float32", "--seed", "--seed=x",
    "--seed=1e9", "--workers", "--workers=-1", "--workers=٣", "--max-examples", "--max-examples=0",
    "--shard", "--shard=0/0", "--shard=2/1", "--shard=1", "--shard=٢/٤", "--known=", "--known=nowhere",
    "--json", "--json=.", "--jsonl=/", "--junit=no/where.xml", "--report=/dev/null/x",
    "--fail-on-known=1", "--since", "nothing.jsonl", "xor_exact_solution", "no_such_claim", "torch:",
    "torch:cdua", "jax:0", "reference:cpu", "a.b", "..", "1/2",
]  # fmt: skip


def test_300_calls_that_mean_nothing_are_each_one_line_and_exit_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])

    def would_run(*_: object, **__: object) -> None:
        raise UsageError("these words would do")

    for module in ("main", "verify"):
        monkeypatch.setattr(f"ffverify.command.{module}.run_verification", would_run)
    rng, before = random.Random(0), sorted(project.iterdir())
    for _ in range(300):
        command = rng.choice(["verify", "report", "explain", "replay", "gradcheck", "watch"])
        words = [command, *rng.choices(WORDS, k=rng.randint(1, 4)), f"--no-such-{rng.random()}"]
        monkeypatch.setattr(sys, "argv", ["ffverify", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert ended.value.code == 2, words
        assert out == "", words
        assert err.startswith("ffverify: "), words
        assert err.count("\n") <= 2, (words, err)
    assert sorted(project.iterdir()) == before
