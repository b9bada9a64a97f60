"""Where the truth about a function comes from: its shadow, a definition, or differences.

``Oracles(truth).at(subject, native, results)`` gives the exact programs that hold at a point. A traced
program holds as long as the same branches are taken: it is kept while it reproduces the values.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import textbook
from .differences import slope_by_differences
from .formats import Array
from .native import coarsest, is_floating, to_numpy
from .point import Formulas
from .slopes import Inputs, exact_value, joined
from .subject import Fault, Subject


class Oracles:
    """The truths of one check.

    Parameters
    ----------
    truth
        The caller's definition, a name of the textbook catalogue, or None: then the function's shadow.

    Attributes
    ----------
    name
        What the last truth rested on.
    reasons
        Why a shadow could not be had.

    Raises
    ------
    ValueError
        If the catalogue has no such name.
    """

    def __init__(self, truth: Callable[..., Any] | str | None) -> None:
        self.name = "shadow"
        self.reasons: dict[str, None] = {}
        if isinstance(truth, str) and truth not in textbook.CATALOGUE:
            raise ValueError(
                f"truth={truth!r} is not in the catalogue: "
                f"use one of {', '.join(sorted(textbook.CATALOGUE))}, or give a NumPy function"
            )
        self._truth = truth
        self._traced: dict[Any, Formulas] = {}

    def at(self, subject: Subject, native: Sequence[Any], results: Sequence[Any]) -> Formulas:
        """Give the exact programs of a function that hold at a point."""
        formulas = self._formulas(subject, native, results)
        self.name = formulas.name
        return formulas

    def _formulas(
        self, subject: Subject, native: Sequence[Any], results: Sequence[Any]
    ) -> Formulas:
        key = (subject.name, *((to_numpy(a).shape, str(a.dtype)) for a in native))
        kept = self._traced.get(key)
        if kept is not None and kept.forward is not None and _reproduces(kept, native, results):
            return kept
        traced = self._shadow(subject, native, results)
        if self._truth is not None and not subject.name.startswith("the "):
            traced = Formulas(*self._definition(), traced.backward, traced.tangent)
        self._traced[key] = traced
        return traced

    def _definition(self) -> tuple[str, Callable[..., Any]]:
        if isinstance(self._truth, str):
            return "textbook", getattr(textbook.namespace, self._truth)
        assert self._truth is not None  # noqa: S101 - asked before
        return "caller", self._truth

    def _shadow(self, subject: Subject, native: Sequence[Any], results: Sequence[Any]) -> Formulas:
        from .shadow import shadow

        fmt = coarsest([*native, *results])
        fallback = Formulas(
            "differences",
            None,
            differences=lambda w, d: _differences(subject, native, results, w, d),
        )
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracing, at numbers that nobody asked for
                made = shadow(
                    subject.fn,
                    native,
                    framework=subject.framework,
                    dtype=fmt.name,
                    vjp=subject.caller_vjp,
                )
        except Exception as error:  # noqa: BLE001 - a function that cannot be traced is no failure of it
            self.reasons[f"{type(error).__name__}: {error}"] = None
            return fallback
        if made.forward is None:
            self.reasons[f"no exact form of {', '.join(made.unknown)}"] = None
            return fallback
        formulas = Formulas(
            "shadow",
            made.forward,
            made.backward if subject.reverse else None,
            made.jvp if subject.caller_jvp is None else None,
        )
        if not _reproduces(formulas, native, results):
            self.reasons["the traced program does not reproduce the value"] = None
            return fallback
        return formulas


def _reproduces(formulas: Formulas, native: Sequence[Any], results: Sequence[Any]) -> bool:
    """Tell whether an exact program gives the computed values, to half the digits of the largest.

    Where a value cancels so far that fewer are left, the running bound says what there may be.
    """
    from .shadow import running_bound

    points = [to_numpy(a) for a in native]
    places = [k for k, r in enumerate(results) if is_floating(r)]
    if not places:
        return True
    fmt = coarsest([*native, *results])
    assert formulas.forward is not None  # noqa: S101 - callers asked
    vector = joined(formulas.forward, places)
    try:
        exact = exact_value(vector, Inputs(points))
    except Exception:  # noqa: BLE001 - a program fixed at another point may fail here in any way
        return False
    values = np.concatenate([to_numpy(results[k]).ravel() for k in places]).astype(np.float64)
    if exact.size != values.size:
        return False
    floats = np.array([float(e.mid()) if e.is_finite() else np.nan for e in exact])
    both = np.isfinite(floats) & np.isfinite(values)
    largest = float(np.abs(floats[both]).max(initial=0.0))
    half = 2.0 ** (-fmt.precision / 2)
    off = np.where(both, np.abs(floats - values), 0.0)
    allowed = half * largest + 2.0**fmt.smallest_exponent
    if np.all(off <= allowed):
        return True
    try:
        bounds = running_bound(formulas.forward, points, fmt)
    except Exception:  # noqa: BLE001 - as above
        return False
    radii = np.array([float(b) for p in places for b in np.ravel(bounds[p])])
    return bool(np.all((off <= allowed) | (np.isfinite(radii) & (off <= radii))))


def _differences(
    subject: Subject,
    native: Sequence[Any],
    results: Sequence[Any],
    weights: Array,
    directions: Sequence[Array | None],
) -> Any:
    places = [k for k, r in enumerate(results) if is_floating(r)]

    def evaluate(args: Sequence[Any]) -> list[Any]:
        values = subject.value(args)
        if len(values) != len(results):
            raise Fault(f"{subject.name} returns {len(values)} results, and {len(results)} before")
        return [values[k] for k in places]

    return slope_by_differences(evaluate, native, directions, weights)
