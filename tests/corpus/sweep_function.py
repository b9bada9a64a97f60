"""What a function of the sweep is: a name, a callable, the boxes of its inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .rows import Box, box

SHAPES: tuple[tuple[int, ...], ...] = ((), (5,), (2, 3), (2, 3, 4))


class Function(NamedTuple):
    name: str
    call: Callable[..., Any]
    boxes: tuple[Box, ...]


def elementwise(
    table: dict[str, tuple[Callable[..., Any], float, float]],
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
) -> Iterator[Function]:
    for (name, (call, low, high)), shape in itertools.product(table.items(), shapes):
        yield Function(f"{name} {shape}", call, (box(*shape, low=low, high=high),))
