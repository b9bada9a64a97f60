"""Nothing that a function of the catalogue can be told goes without a planted bug that forgets it."""

from __future__ import annotations

import inspect

from ffverify.conformance.claim import claims
from ffverify.truth.textbook import CATALOGUE


def test_every_option_and_argument_is_forgotten_in_every_mode() -> None:
    planted = {(bug.function, bug.sentence) for claim in claims() for bug in claim.bugs}
    for name, definition in CATALOGUE.items():
        parameters = list(inspect.signature(definition.function).parameters)
        if len(parameters) == 1:
            continue  # such functions are swept whole, in both modes
        for place, parameter in enumerate(parameters):
            modes = {"value", "reverse mode", "forward mode"}
            if place < len(definition.core):
                modes = set() if place in definition.data else modes - {"value"}
            said = [s for n, s in planted if n == name and s.startswith(f"{parameter} ")]
            assert modes == {m for m in modes if any(m in s for s in said)}, (name, parameter)
