"""Calls of the command line, most of them with a word that cannot be taken.

The wrong words come from the commands themselves: every option, every kind of value that it does not take,
and a list of what people and fuzzers write where a word has a meaning of its own. ``Call.codes`` are the exit
codes that are right: 2 alone for a wrong word. Beyond these, right calls with some of their signs changed may
end with any code, but not with a traceback.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ffverify.command.main import commands
from ffverify.conformance import replay

_GOOD = """
import numpy as np

NOT = 3

def square(x):
    return x * x

def scaled(x, k=1.0):
    return k * x * x

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

class Raises:
    def __init__(self):
        raise ValueError("no\\nway")
"""
MODULES = {
    "good": _GOOD,
    "raises": "raise RuntimeError('not\\ntoday')\n",
    "leaves": "import sys\nsys.exit(0)\n",
    "unparsed": "def f(:\n",
    "empty": "",
}
TOKEN = replay.line("xor_exact_solution", "reference", "float64", {}).split()[-1]
# A right call of every command, which wrong words are added to.
RIGHT: dict[str, tuple[str, ...]] = {
    "verify": (
        "--backend", "reference", "--spec", "xor_exact_solution", "--workers", "0", "--dtype", "float64",
    ),
    "gradcheck": ("good:scaled", "--input", "x: float64[2]", "--max-examples", "2"),
    "explain": ("xor_exact_solution", "--backend", "reference"),
    "replay": (TOKEN,),
    "report": ("run.jsonl",),
    "mutants": ("--spec", "xor_exact_solution", "--workers", "0"),
    "specs": (),
    "catalogue": (),
}  # fmt: skip
NO_MODULE = (
    "torch:cudaa", "torch:", "jax:cuda", "reference:cpu", "refrence", ".", ".good", "good.", "a..b", "a/b",
    "-", "", " ", "good:square", "raises", "leaves", "unparsed", "empty", "json", "ｔorch", "os.path.join",
    "*", "__main__",
)  # fmt: skip
NO_FUNCTION = (
    "good", "good:", ":square", "good:nope", "good:NOT", "good:Raises()", "good:square()", "nope:f",
    "raises:f", "leaves:f", "unparsed:f", ".good:square", "good:square.nope", "", ":",
    "good:square:square", "a b:c", "good:1", "good:__name__",
)  # fmt: skip
NO_NUMBER = ("", "x", "1.5", "1e3", "nan", "inf", "９", "٣", "--", "0x10", "1/2", " 1", "1_0")
NO_INPUT = (
    "", "x", "x:", "x: float99[2]", "x: complex64[2]", "x: object[2]", "x: float64[-1]", "x: float64[1.5]",
    "x: float64[2", "x: float64]2[", "x: float64[999999999,999999999]", "x: float64[1000000000000]",
    "x: float64[٣]", "x: float64[2] in [5, -5]", "x: float64[2] in [nan, 1]", "x: float64[2] in [a, b]",
    "x: float64[2] in []", "x: float64[2] in [٣, ٤]", "x: float64[2] in", "x: int64[2] in [0, inf]",
    "x: int64[2] in [0.5, 1.5]", "x: int64[2] in [0, 1.5]", "x: int64[2] in [0, 1e30]",
    "x: int8[2] in [0, 300]",
    "x: float16[2] in [1e6, 1e7]", "float64[2] float64[2]", "x: float64[2] in [0, 1] in [0, 1]",
)  # fmt: skip
# What is wrong for one option, by its name; for the others their types say it.
WRONG: dict[str, Sequence[str]] = {
    "backends": NO_MODULE,
    "named": NO_MODULE,
    "specs": ("nope", "9.9", "", "[", "xor_exact", "XOR_EXACT_SOLUTION"),
    "shard": ("0/1", "2/1", "1/0", "x", "1", "1/", "/", "-1/2", "１/２", "1/2/3", "1e0/1", ""),
    "known": ("nowhere.toml", "good.py"),
    "since": ("nowhere.jsonl", "good.py", ""),
    "inputs": NO_INPUT,
    "keywords": ("", "k", "=", "=1", "1=1", "k l=1", "nope=1", "k=" + "(" * 300 + ")" * 300, "k=9**9**9**9"),
    "device": ("cuda:99", "nope", "", "cpu"),
    "truth": ("nope", "", *NO_FUNCTION[1:6]),
    "vjp": NO_FUNCTION,
    "jvp": NO_FUNCTION,
    "function": NO_FUNCTION,
    "claim_id": ("nope", "", "*", "xor_exact", "["),
    "token": ("", "x", TOKEN[:-5], TOKEN + "A", "é", f"{TOKEN}\n{TOKEN}", "-", "A" * 10_000, TOKEN.lower()),
    "picture": ("a.gif", "a", "", "nowhere/a.png", "folder.png"),
    "paths": ("nowhere.jsonl", "good.py", "", "folder.png"),
}  # fmt: skip
ANY = frozenset({0, 1, 2})
FILES = ("", "nowhere/a", "folder.png", "n" * 300)


@dataclass(frozen=True)
class Call:
    """Words for the command line, and the exit codes that are right."""

    words: tuple[str, ...]
    codes: frozenset[int] = frozenset({2})


def prepare(folder: Path) -> None:
    """Put what the calls name into a folder."""
    for name, code in MODULES.items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / "folder.png").mkdir()


def calls() -> Iterator[Call]:
    """Give every call, the right ones first."""
    for name, words in RIGHT.items():
        if name != "report":
            yield Call((name, *words), frozenset({0}))
    yield from (
        Call(words) for words in (("nope",), ("--nope",), ("verify", "--"[:1]), ("",), ("verify ",))
    )
    for name, words in RIGHT.items():
        yield Call((name, *words, "--nope"))
        yield Call((name, *words, "more"))
        for parameter in commands.commands[name].params:
            yield from _wrong(name, words, parameter)


def _wrong(name: str, words: tuple[str, ...], parameter: click.Parameter) -> Iterator[Call]:
    values = _values(parameter)
    if isinstance(parameter, click.Argument):
        rest = words[1:]
        yield Call((name, *rest))
        yield from (Call((name, *rest, "--", value)) for value in values)
    elif not getattr(parameter, "is_flag", False) and parameter.name != "help":
        option = parameter.opts[0]
        if parameter.name != "known":  # which needs no value
            yield Call((name, *words, option))
        yield from (Call((name, *words, option, value)) for value in values)


def _values(parameter: click.Parameter) -> Sequence[str]:
    own = WRONG.get(str(parameter.name))
    if own is not None:
        return own
    if isinstance(parameter.type, click.Choice):
        return ("nope", "", "FLOAT64", "float64,float32")
    if isinstance(parameter.type, click.Path):
        return FILES
    if isinstance(parameter.type, click.IntRange):
        low = parameter.type.min
        return NO_NUMBER if low is None else (*NO_NUMBER, str(low - 1), "-99")
    if isinstance(parameter.type, click.FloatRange):
        return ("", "x", "nan", "inf", "٣", "--", "0x10", "1/2", " 1", "1_0", "-1", "0")
    return NO_NUMBER


def sample(count: int, seed: int) -> list[Call]:
    """Draw calls; beyond all that there are, right ones with signs changed."""
    rng, every = random.Random(seed), list(calls())
    rng.shuffle(every)
    right = [call.words for call in every if call.codes == {0}]
    changed = (Call(_changed(rng, rng.choice(right)), ANY) for _ in range(count - len(every)))
    return [*every[:count], *changed]


def _changed(rng: random.Random, words: tuple[str, ...]) -> tuple[str, ...]:
    """Change, drop or double some signs of the words after the command, or whole words."""
    found = list(words[1:]) or ["x"]
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(found))
        word = found[i]
        at = rng.randrange(len(word) + 1)
        sign = rng.choice("-=[](){}:,.*/ \\'\"0123456789eé\u0663\n\t~$%")
        found[i] = rng.choice((
            word[:at] + sign + word[at:],
            word[:at] + word[at + 1 :],
            word[:at] + word[at - 1 :] if at else word + word,
        ))  # fmt: skip
        if rng.random() < 0.1:
            found.insert(rng.randrange(len(found) + 1), rng.choice(found))
    return (words[0], *found)
