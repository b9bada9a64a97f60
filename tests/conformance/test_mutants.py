from __future__ import annotations

from rich.console import Console

from ffverify.command.report import print_kills
from ffverify.conformance import mutants
from ffverify.conformance.claim import Bug, Claim, claims


def test_the_matrix_is_the_same_on_any_number_of_workers() -> None:
    inline, spread = (mutants.kill_matrix(["xor_*"], workers=n) for n in (0, 2))
    essence = [(k.claim, k.bug_of, k.sentence, k.killed, k.examples) for k in inline]
    assert essence == [(k.claim, k.bug_of, k.sentence, k.killed, k.examples) for k in spread]
    assert all(k.killed for k in inline)


def test_a_surviving_bug_is_an_error() -> None:
    claim: Claim = next(c for c in claims() if c.id == "xor_exact_solution")
    harmless = Bug("relu", "no change at all", lambda f, z: f.relu(z))
    claim.bugs.append(harmless)
    try:
        kills = mutants.kill_matrix(["xor_exact_solution"])
    finally:
        claim.bugs.remove(harmless)
    assert [k.sentence for k in kills if not k.killed] == ["no change at all"]
    assert not print_kills(kills, Console(quiet=True))


def test_everywhere_tries_each_claim_that_uses_the_function() -> None:
    kills = mutants.kill_matrix(["xor_exact_solution"], everywhere=True)
    users = {c.id for c in claims() if "relu" in c.functions}
    assert {k.claim for k in kills if k.function == "relu"} == users
