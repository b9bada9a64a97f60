"""The kill matrix: which claims reject which planted bugs, and after how many examples.

A check that cannot fail proves nothing. Every claim declares bugs, each a change to one function;
here every bug is planted in the reference and every claim concerned has to find it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .backends import load
from .claim import run
from .verification import find_claim, select
from .workers import Lost, execute, one_thread


@dataclass(frozen=True)
class Kill:
    """One bug met by one claim.

    Attributes
    ----------
    bug_of, function, sentence
        The claim that declares the bug, the function it changes, and what it does.
    claim
        The claim that was tried on it.
    killed
        Whether that claim rejected it.
    examples
        How many inputs were tried, shrinking included.
    seconds
        How long it took.
    """

    bug_of: str
    function: str
    sentence: str
    claim: str
    killed: bool
    examples: int
    seconds: float

    @property
    def own(self) -> bool:
        """Whether the claim is the one that declares the bug."""
        return self.claim == self.bug_of


def kill_matrix(
    patterns: Sequence[str] = (),
    *,
    everywhere: bool = False,
    seed: int = 0,
    workers: int = 0,
    on_kill: Callable[[Kill], None] = lambda _kill: None,
) -> list[Kill]:
    """Plant the bugs of the selected claims and try claims on them, in book order.

    Parameters
    ----------
    patterns
        Claims whose bugs to plant, as in `ffverify.verify`.
    everywhere
        Try every claim that uses the changed function, not only the one that declares the bug.
    seed, workers, on_kill
        As in `ffverify.verify`.
    """
    everything = select()
    jobs = [
        (mine.id, number, other.id)
        for mine in select(patterns)
        for number, bug in enumerate(mine.bugs)
        for other in everything
        if other.id == mine.id or (everywhere and bug.function in other.functions)
    ]
    kills = {}
    for met in execute(partial(_meet, seed=seed), [[job] for job in jobs], workers):
        if isinstance(met, Lost):
            raise ChildProcessError(
                f"{met.job[2]} met bug {met.job[1]} of {met.job[0]}: {met.reason}"
            )
        kill, job = met
        kills[job] = kill
        on_kill(kill)
    return [kills[job] for job in jobs]


def _meet(bug_of: str, number: int, claim: str, *, seed: int) -> tuple[Kill, tuple[str, int, str]]:
    bug = find_claim(bug_of).bugs[number]
    met = find_claim(claim)
    with one_thread():
        result = run(
            met,
            bug.plant(load("reference")),
            met.dtypes()[0],
            seed_value=seed,
            shrink=False,
            functions=[bug.function],
        )
    killed = result.status == "fails"
    kill = Kill(bug_of, bug.function, bug.sentence, claim, killed, result.examples, result.seconds)
    return kill, (bug_of, number, claim)
