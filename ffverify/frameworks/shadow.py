"""Shadows: the program under test run again, operation by operation, on exact numbers.

``Shadow(fn, args, framework=…)`` has the program, its own backward formula and its own
forward mode as functions of precise arrays of either arithmetic, so that truth can be taken from any
NumPy, torch or JAX program, and a derivative formula judged apart from its rounding.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.exact.programs import Draw, Known, Program, UnknownOperation, listed

from .arguments import pulled_by, pushed_by
from .arrays import ones_like, zeros_like
from .chosen import floating, spread
from .framework import Function
from .framework import framework as named

Memory = dict[str, Known]


class Shadow:
    """A function at a point in exact arithmetic; what is not asked for is not traced.

    Branches that depend on values are those taken at this point, except in plain NumPy code. An operation
    may turn out to be unknown only when a program runs: it then raises `UnknownOperation`.

    Parameters
    ----------
    args
        The point, in the framework's arrays.
    framework
        ``"numpy"``, ``"torch"`` or ``"jax"``.
    vjp, jvp
        The caller's own formulas, ``vjp(cotangent, *args)`` and ``jvp(tangents, *args)``.
    wrt
        Which arguments are differentiated by: all floating ones by default.
    known
        Its programs at other points of the same shapes and formats, which the caller keeps: one that takes
        the same branches here is not made again.
    results
        What the function gave at the point, where its VJP will be asked for as well.

    Attributes
    ----------
    forward
        ``forward(*args)`` gives a tuple of results. Floating arguments and results are PreciseArrays.
    backward
        ``backward(*args, *cotangents)``, one cotangent per floating result, gives one gradient per
        argument that is differentiated by. None, as every program, if it has no exact form.
    jvp
        ``jvp(*args, *tangents)``, one tangent per argument that is differentiated by, gives one tangent per
        floating result.
    unknown, draws
        Operations without an exact form, as far as they have been met (if the program itself has some, all
        programs are None), and which of these are `Draw`s.
    through
        What the framework's VJP went through, to tell whose code that is, where it says so.
    """

    def __init__(
        self,
        fn: Function,
        args: Sequence[Any],
        *,
        framework: str,
        vjp: Function | None = None,
        jvp: Function | None = None,
        wrt: Sequence[bool] | None = None,
        known: Memory | None = None,
        results: Sequence[Any] | None = None,
    ) -> None:
        self._fn, self._args, self._framework = fn, list(args), named(framework)
        self._vjp, self._jvp, self._memory = vjp, jvp, {} if known is None else known
        self._wrt = floating(args) if wrt is None else list(wrt)
        self._unknown: dict[str, None] = {}
        self.draws: tuple[str, ...] = ()
        self.through: Any = None
        if results is not None:
            self._results = list(results)
        both = self._both() if vjp is None and results is not None else None
        if both is not None:
            self.__dict__["backward"], self.through = both[1:]
        self.forward = both[0] if both else self._traced("forward", lambda: (fn, []))

    @property
    def unknown(self) -> tuple[str, ...]:  # noqa: D102 - see the class
        return tuple(self._unknown)

    @cached_property
    def _results(self) -> list[Any]:
        assert self.forward is not None  # noqa: S101 - callers asked
        return self._framework.shaped(self._fn, self._args, self.forward)

    @cached_property
    def backward(self) -> Program | None:  # noqa: D102 - see the class
        return None if self.forward is None else self._traced("backward", self._pulling)

    @cached_property
    def jvp(self) -> Program | None:  # noqa: D102 - see the class
        return None if self.forward is None else self._traced("jvp", self._pushing)

    def _both(self) -> tuple[Program, Program, Any] | None:
        """Trace the program and its VJP in one run; None where that cannot be: then each is traced alone."""
        known = self._memory.setdefault("both", {})
        cotangents = [ones_like(r) for r in self._results if is_floating(r)]
        with contextlib.suppress(Exception), _quiet():
            return self._framework.trace_both(self._fn, self._args, cotangents, self._wrt, known)
        return None

    def _pulling(self) -> tuple[Function, list[Any]]:
        """Give (args, cotangents of floating results) → gradients of floating args, and an example."""
        results, wrt, rule = self._results, self._wrt, self._vjp
        floats = floating(results)

        def backward(*given: Any) -> tuple[Any, ...]:
            points = given[: len(wrt)]
            cotangents = spread(given[len(wrt) :], floats)
            if rule is None:
                bars = self._framework.vjp(self._fn, points, cotangents, wrt=wrt)
            else:
                bars = listed(pulled_by(rule, cotangents, results, points))
            pairs = zip(bars, points, wrt, strict=True)
            return tuple(zeros_like(a) if g is None else g for g, a, f in pairs if f)

        return backward, [ones_like(r) for r, f in zip(results, floats, strict=True) if f]

    def _pushing(self) -> tuple[Function, list[Any]]:
        """Give (args, tangents of floating args) → tangents of floating results, and an example."""
        floats, wrt, rule = floating(self._results), self._wrt, self._jvp

        def tangent(*given: Any) -> tuple[Any, ...]:
            points = given[: len(wrt)]
            tangents = spread(given[len(wrt) :], wrt)
            if rule is None:
                dots = self._framework.jvp(self._fn, points, tangents)
            else:
                dots = listed(pushed_by(rule, tangents, points))
            return tuple(d for d, f in zip(dots, floats, strict=True) if f)

        return tangent, [ones_like(a) for a, f in zip(self._args, wrt, strict=True) if f]

    def _traced(
        self, name: str, make: Callable[[], tuple[Callable[..., Any], list[Any]]]
    ) -> Program | None:
        known = self._memory.setdefault(name, {})

        def example() -> tuple[Function, list[Any]]:
            function, more = make()
            return function, [*self._args, *more]

        try:
            with _quiet():
                return self._framework.trace(example, known)
        except UnknownOperation as error:
            self._unknown.update(dict.fromkeys(error.args))
            self.draws = error.args if isinstance(error, Draw) else self.draws
        except Exception as error:  # noqa: BLE001 - foreign code that cannot be traced, in any way
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            self._unknown[f"code that fails: {said}"] = None
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing about numbers that nobody asked for."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
