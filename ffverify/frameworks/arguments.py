"""Arguments and results of a function under test, some of which are differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ffverify.exact.formats import is_floating

from .arrays import zeros_like


def floating(args: Sequence[Any]) -> list[bool]:
    """Tell which arguments hold floats: those are differentiated by."""
    return [is_floating(a) for a in args]


def split(
    args: Sequence[Any], chosen: Sequence[bool]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Give a function that puts chosen arguments back among the others, and the chosen ones."""

    def full(*values: Any) -> list[Any]:
        given = iter(values)
        return [next(given) if c else a for a, c in zip(args, chosen, strict=True)]

    return full, [a for a, c in zip(args, chosen, strict=True) if c]


def spread(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    """Put values at the chosen places, None at the others."""
    given = iter(values)
    return [next(given) if c else None for c in chosen]


def zeros_for_none(given: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Put zeros in the place of cotangents of results, or tangents of arguments, that are left out."""
    return [zeros_like(a) if v is None else v for v, a in zip(given, arrays, strict=True)]


def pulled_by(
    rule: Callable[..., Any], cotangents: Sequence[Any], results: Sequence[Any], args: Any
) -> Any:
    """Call a caller's ``vjp(cotangent, *inputs)``, which takes a tuple of cotangents of several results."""
    given = zeros_for_none(cotangents, results)
    return rule(tuple(given) if len(given) > 1 else given[0], *args)


def pushed_by(rule: Callable[..., Any], tangents: Sequence[Any], args: Sequence[Any]) -> Any:
    """Call a caller's ``jvp(tangents, *inputs)``."""
    return rule(tuple(zeros_for_none(tangents, args)), *args)
