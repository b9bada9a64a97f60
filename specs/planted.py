"""Ways for planted bugs to go wrong in.

`swept` takes the place of an engine's `vjp`: it traces the function and lets the caller say how
cotangents are carried back from node to node. `plant_forgetfulness` plants every way to forget an option
or an argument of a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ffverify.conformance.claim import Claim
from ffverify.truth.textbook import CATALOGUE

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
            if node.primitive is not None and k in node.primitive.active
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


def plant_forgetfulness(claim: Claim, name: str) -> None:
    """Plant in a claim every way to forget an option or an argument of a function of the catalogue.

    The value, or one mode of the derivative, takes an option's default whatever is asked for; one mode
    takes an argument for a constant.
    """
    definition = CATALOGUE[name]
    parameters = inspect.signature(definition.function).parameters
    for place, (parameter, declared) in enumerate(parameters.items()):
        if place >= len(definition.core):
            default = 2 if declared.default is declared.empty else declared.default
            for mode in ("value", "reverse mode", "forward mode"):
                sentence = f"{parameter} = {default} in its {mode}, whatever is asked for"
                claim.bug(name, sentence)(_forgetting(name, parameter, mode, default))
        elif place not in definition.data:
            for mode in ("reverse mode", "forward mode"):
                sentence = f"{parameter} taken for a constant in {mode}"
                claim.bug(name, sentence)(_forgetting(name, parameter, mode, None))


def _forgetting(name: str, parameter: str, mode: str, default: Any) -> Callable[..., Any]:
    """Give the change that takes, in one mode, an option's default, or (None) an argument for constant."""
    definition = CATALOGUE[name]
    signature = inspect.signature(definition.function)
    arguments = list(signature.parameters)[: len(definition.core)]
    moving = [a for i, a in enumerate(arguments) if i not in definition.data]

    def change(f: Any, *args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        given = bound.arguments

        def right(*xs: Any, **fixed: Any) -> Any:
            told = {**given, **dict(zip(moving, xs, strict=True)), **fixed}
            return getattr(f, name)(*told.values())

        def of(own: str, xs: Sequence[Any]) -> Callable[..., Any]:
            if own != mode:
                return right
            known = xs[moving.index(parameter)] if default is None else default
            return partial(right, **{parameter: known})

        def vjp(v: Any, _y: Any, *xs: Any) -> Any:
            return f.vjp(of("reverse mode", xs), *xs)[1](v)

        def jvp(tangents: Any, _y: Any, *xs: Any) -> Any:
            return f.jvp(of("forward mode", xs), xs, tangents)[1]

        inputs = [given[a] for a in moving]
        return f.custom_rule(of("value", inputs), vjp=vjp, jvp=jvp)(*inputs)

    return change
