"""JAX's programs, laid out as straight lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ffverify.frameworks.line import Line


def laid_out(
    line: Line,
    program: Any,
    takes: Sequence[int],
    called: Callable[[Any], Any],
    add: Callable[[Line, Any, list[int]], Sequence[int]],
) -> list[int]:
    """Add the equations of a jaxpr to a line; give the places of its results.

    ``called(equation)`` gives the jaxpr that stands for an equation, None if it is a step; ``add`` adds it.
    """
    jaxpr = getattr(program, "jaxpr", program)
    places = dict(zip(jaxpr.invars, takes, strict=True))
    constants = map(line.constant, getattr(program, "consts", ()))
    places.update(zip(jaxpr.constvars, constants, strict=True))

    def place(atom: Any) -> int:  # of a variable, or of a literal, which has its value
        return line.constant(atom.val) if hasattr(atom, "val") else places[atom]

    for equation in jaxpr.eqns:
        given, inner = list(map(place, equation.invars)), called(equation)
        gives = (
            add(line, equation, given)
            if inner is None
            else laid_out(line, inner, _taken(equation, given), called, add)
        )
        places.update(zip(equation.outvars, gives, strict=True))
    return list(map(place, jaxpr.outvars))


_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr", "cond_jaxpr", "body_jaxpr")


def inside(equation: Any) -> list[Any]:
    """Give all jaxprs that an equation runs."""
    params = equation.params
    if "const_lengths" in params:  # of a linear system, which has programs for its derivatives, too
        return [params["jaxprs"].solve]
    return [*(params[k] for k in _PROGRAMS if k in params), *params.get("branches", ())]


def _taken(equation: Any, given: list[int]) -> list[int]:
    """Give what the jaxpr that stands for an equation takes: of linear systems there are several."""
    lengths = equation.params.get("const_lengths")
    if lengths is None:
        return given
    before = lengths.matvec + lengths.vecmat
    return [*given[before : before + lengths.solve], *given[sum(lengths) :]]


def ran(primitive: Any, results: Any) -> list[Any]:
    """Give the results of a primitive, one or several, as a list."""
    return list(results) if primitive.multiple_results else [results]
