"""The places of inputs that Hypothesis draws values for.

``Slots(fn, inputs)`` finds the strategies in a tree of inputs; ``slots.filled(values)`` gives the inputs with
what was drawn in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import dtype_name
from ffverify.frameworks.arguments import arguments, taken_apart
from ffverify.frameworks.declared import Declared
from ffverify.frameworks.framework import framework_of
from ffverify.frameworks.trees import flatten


class Slots:
    """The leaves of inputs, strategies among them.

    Attributes
    ----------
    given
        The leaves in order.
    strategies
        Which of them are strategies.
    """

    def __init__(self, fn: Callable[..., Any], inputs: Any) -> None:
        self._fn = fn
        self._tree, _ = taken_apart(fn, inputs)
        self.given = [leaf.value for leaf in self._tree.leaves]
        self.strategies = [i for i, value in enumerate(self.given) if is_strategy(value)]

    @property
    def is_ranged(self) -> bool:
        """Whether any of the strategies is one whose range is known."""
        from ffverify import strategies

        return any(strategies.arguments(self.given[i]) for i in self.strategies)

    def filled(self, values: Sequence[Any]) -> Any:
        """Give the inputs with values in the places of the leaves."""
        from ffverify import strategies

        beside = [leaf.value for value in values for leaf in flatten(value).leaves]
        template = next((v for v in beside if framework_of(v).name != "numpy"), None)
        declared = []
        for leaf, value in zip(self.given, values, strict=True):
            if template is not None and strategies.follows(leaf) and isinstance(value, np.ndarray):
                device = getattr(template, "device", None)
                value = framework_of(template).array(value, dtype_name(value), device)  # noqa: PLW2901 - as it is needed
            kind = strategies.structure(leaf)
            declared.append(Declared(kind, value) if kind else value)
        return self._tree.rebuild(declared, declared=True)

    def example(self) -> tuple[Any, ...]:
        """Give arguments as the function takes them, drawn where there are strategies."""
        from ffverify.search import search

        values: list[Any] = [self.given]
        if self.strategies:
            search(drawn(self.given), values.append, seed_value=0, max_examples=1)
        given = arguments(self._fn, self.filled(values[-1]))
        return given.apply(lambda *args: args, given.arrays)  # type: ignore[no-any-return]  # a tuple

    def places(self, labels: Sequence[str]) -> list[int | None]:
        """Tell which leaf each of a function's arrays was drawn for as it is; None for none."""
        where = {self._tree.leaves[i].label: i for i in self.strategies}
        return [where.get(label) for label in labels]


def is_strategy(value: Any) -> bool:
    """Tell whether a value is a strategy of Hypothesis."""
    return type(value).__module__.startswith("hypothesis") and hasattr(value, "example")


def drawn(given: Sequence[Any]) -> Any:
    """Give a strategy of the values of all leaves."""
    from hypothesis import strategies as st

    return st.tuples(*(v if is_strategy(v) else st.just(v) for v in given))
