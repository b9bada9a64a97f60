"""Ways to go back through a graph, for planted bugs to go wrong in.

`swept` takes the place of an engine's `vjp`: it traces the function and lets the caller say how
cotangents are carried back from node to node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Pulls = Callable[[Any, Any], list[tuple[Any, Any]]]


def swept(
    f: Any, fn: Callable[..., Any], args: Any, pull_back: Callable[[Any, Any, Any], dict[Any, Any]]
) -> Any:
    """Give (value, pullback) as `vjp` does, by a planted way to go back through the graph.

    ``pull_back(graph, y_bar, pulls)`` gives the cotangent of every node; ``pulls(node, y_bar)`` are
    what a node's rules send to its inputs.
    """
    graph = f.trace(fn, *args)

    def pulls(node: Any, y_bar: Any) -> list[tuple[Any, Any]]:
        values = [x.value for x in node.inputs]
        return [
            (x, node.primitive.pull(k, y_bar, node.value, values, node.params))
            for k, x in enumerate(node.inputs)
            if node.primitive is not None and node.primitive.differentiates(k)
        ]

    def pullback(y_bar: Any) -> tuple[Any, ...]:
        bars = pull_back(graph, y_bar, pulls)
        return tuple(bars.get(x, np.zeros(x.shape, x.dtype)) for x in graph.inputs)

    return graph(*args), pullback


def overwriting(graph: Any, y_bar: Any, pulls: Pulls) -> dict[Any, Any]:
    """Let a consumer's cotangent replace what other consumers have sent."""
    bars = {graph.outputs[0]: y_bar}
    for node in reversed(graph.nodes):
        if node in bars:
            bars.update(pulls(node, bars[node]))
    return bars


def unsummed(graph: Any, y_bar: Any, pulls: Pulls) -> dict[Any, Any]:
    """Let an operand that was broadcast over rows get the first row's cotangent alone."""
    bars = {graph.outputs[0]: y_bar}
    for node in reversed(graph.nodes):
        if node not in bars:
            continue
        y_bar = bars[node]
        whole, first = dict_of_sums(pulls(node, y_bar)), {}
        if node.shape:
            only = np.zeros_like(y_bar)
            only[0] = y_bar[0]
            first = dict_of_sums(pulls(node, only))
        for x, x_bar in whole.items():
            broadcast = node.primitive.name == "add" and len(x.shape) < len(node.shape)
            sent = first[x] if broadcast else x_bar
            bars[x] = bars[x] + sent if x in bars else sent
    return bars


def dict_of_sums(sent: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Add up what one node sends to the same operand."""
    sums: dict[Any, Any] = {}
    for x, x_bar in sent:
        sums[x] = sums[x] + x_bar if x in sums else x_bar
    return sums
