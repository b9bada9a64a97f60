"""A sample of the attack; ``python -m tests.attack`` has as much of it as one wants."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.attack import oddities, run
from tests.attack.calls import Call, calls, prepare, sample

EVERY, SHARES = 600, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("attacked")
    prepare(made)
    return made


@pytest.mark.parametrize("share", range(SHARES))
def test_no_call_of_the_command_line_is_a_traceback_or_taken_in_silence(folder, share):
    amiss = {
        call.words: found
        for call in sample(EVERY, seed=0)[share::SHARES]
        if (found := run.complaints(call, folder))
    }
    assert amiss == {}


@pytest.mark.parametrize("name", oddities.functions())
def test_odd_functions_and_inputs_have_a_report_or_one_clear_error(folder, name):
    amiss = {
        given: found
        for given in oddities.inputs()
        if (
            found := run.complaints_of_gradcheck(
                oddities.functions()[name], oddities.inputs()[given], folder
            )
        )
    }
    assert amiss == {}


def test_every_option_is_attacked():
    every = list(calls())
    words = {word for call in every for word in call.words}
    assert len({call.words for call in every}) > 400
    assert {"--backend", "--shard", "--input", "--json", "--seed", "--since", "--plot"} <= words


def test_what_is_amiss_is_seen(folder, monkeypatch):
    call = Call(("specs",))

    def saying(text, code, before=lambda: None):
        def main():
            before()
            sys.stderr.write(text)
            sys.exit(code)

        monkeypatch.setattr(run, "main", main)
        return " ".join(run.complaints(call, folder))

    assert saying("ffverify: no\n", 2) == ""
    assert "exit code 0" in saying("", 0)
    assert "2 lines" in saying("ffverify: no\nway\n", 2)
    assert "a traceback is printed" in saying("Traceback", 2)
    assert "changed: files" in saying("no", 2, (folder / "left").touch)
    (folder / "left").unlink()
    old = np.geterr()
    assert "changed: NumPy's error state" in saying("no", 2, lambda: np.seterr(over="raise"))
    np.seterr(**old)
    monkeypatch.setattr(run, "main", lambda: {}["x"])
    assert "traceback: KeyError" in " ".join(run.complaints(call, folder))
    monkeypatch.setattr(run, "LIMIT", 0.2)
    monkeypatch.setattr(run, "main", lambda: [None for _ in iter(int, 1)])
    assert "not done" in " ".join(run.complaints(call, folder))
