"""Some arguments chosen among all, as those that a derivative is taken by, or that are not left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ffverify.exact.formats import is_floating
from ffverify.exact.programs import listed


def floating(args: Sequence[Any]) -> list[bool]:
    """Tell which arguments hold floats: those are differentiated by."""
    return [is_floating(a) for a in args]


def restricted(
    fn: Callable[..., Any],
    args: Sequence[Any],
    chosen: Sequence[bool],
    kept: Sequence[bool] | None = None,
) -> tuple[Callable[..., tuple[Any, ...]], list[Any]]:
    """Give a function of chosen arguments alone that gives the results to be kept, and these arguments."""

    def of_chosen(*values: Any) -> tuple[Any, ...]:
        given = iter(values)
        results = listed(fn(*(next(given) if c else a for a, c in zip(args, chosen, strict=True))))
        return tuple(results if kept is None else those(results, kept))

    return of_chosen, those(args, chosen)


def those(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    """Give the values at the chosen places."""
    return [v for v, c in zip(values, chosen, strict=True) if c]


def spread(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    """Put values at the chosen places, None at the others."""
    given = iter(values)
    return [next(given) if c else None for c in chosen]
