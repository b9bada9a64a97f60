"""Shadows: the program under test run again, operation by operation, on exact numbers.

``shadow(fn, args, framework=…, dtype=…)`` gives the program, its own backward formula and its own
forward mode as functions of precise arrays of either arithmetic, so that truth can be taken from any
NumPy, torch or JAX program, and a derivative formula judged apart from its rounding.
``running_bound`` says how far the roundings of such a program, run in a float format, can carry its
results.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS, MPMATH, Undecided, arb
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.operations import Program, UnknownOperation, listed
from ffverify.exact.rounding_arithmetic import rounded

_CEILING = 2048


class Shadow:
    """A program in exact arithmetic; what is not asked for is not traced.

    An operation may turn out to be unknown only when a program runs: it then raises `UnknownOperation`.

    Attributes
    ----------
    forward
        ``forward(*args)`` gives a tuple with one entry per result: a PreciseArray, or an ndarray for
        a result of integers or truth values. Floating arguments are PreciseArrays.
    backward
        ``backward(*args, *cotangents)``, one cotangent per floating result, gives one gradient per
        floating argument, by the framework's own formula. None if that has no exact form.
    jvp
        ``jvp(*args, *tangents)``, one tangent per floating argument, gives one tangent per
        floating result.
    unknown
        Operations without an exact form, as far as they have been met; if the program itself has
        some, all programs are None.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        front: ModuleType,
        vjp: Callable[..., Any] | None,
        jvp: Callable[..., Any] | None,
    ) -> None:
        self._fn, self._args, self._front = fn, list(args), front
        self._vjp = {} if vjp is None else {"vjp": vjp}
        self._jvp = {} if jvp is None else {"jvp": jvp}
        self._unknown: dict[str, None] = {}
        self.forward = self._traced(lambda: (fn, []))

    @property
    def unknown(self) -> tuple[str, ...]:  # noqa: D102 - see the class
        return tuple(self._unknown)

    @cached_property
    def backward(self) -> Program | None:  # noqa: D102 - see the class
        if self.forward is None:
            return None
        fn, args, front = self._fn, self._args, self._front
        return self._traced(
            lambda: (front.backward_of(fn, args, **self._vjp), front.cotangents_of(fn, args))
        )

    @cached_property
    def jvp(self) -> Program | None:  # noqa: D102 - see the class
        if self.forward is None:
            return None
        fn, args, front = self._fn, self._args, self._front
        return self._traced(
            lambda: (front.tangent_of(fn, args, **self._jvp), front.tangents_of(args))
        )

    def _traced(self, make: Callable[[], tuple[Callable[..., Any], list[Any]]]) -> Program | None:
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # at numbers that nobody asked for
                function, more = make()
                return self._front.trace(function, [*self._args, *more])  # type: ignore[no-any-return]  # a program
        except UnknownOperation as error:
            self._unknown.update(dict.fromkeys(error.args))
        except Exception as error:  # noqa: BLE001 - foreign code that cannot be traced, in any way
            self._unknown[f"{type(error).__name__}: {error}".splitlines()[0]] = None
        return None


def shadow(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    framework: str,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
) -> Shadow:
    """Make the shadow of a function at a point.

    Branches that depend on values are those taken at this point, except in plain NumPy code.

    Parameters
    ----------
    args
        The point, in the framework's arrays.
    framework
        ``"numpy"``, ``"torch"`` or ``"jax"``.
    vjp, jvp
        The caller's own formulas, ``vjp(cotangent, *args)`` and ``jvp(tangents, *args)``.
    """
    return Shadow(fn, args, _front_end(framework), vjp, jvp)


def _front_end(framework: str) -> ModuleType:
    if framework == "numpy":
        from .numpy import lowering as numpy_shadow

        return numpy_shadow
    if framework == "torch":
        from .torch import lowering as torch_shadow

        return torch_shadow
    if framework == "jax":
        from .jax import lowering as jax_shadow

        return jax_shadow
    raise ValueError(f"framework {framework!r} is not known: use 'numpy', 'torch' or 'jax'")


# ---------------------------------------------------------------------------------------------
# The running bound
# ---------------------------------------------------------------------------------------------


def running_bound(program: Program, args: Sequence[Array], fmt: Format) -> tuple[Array, ...]:
    """Bound how far a program's results, computed in a format, can be from the exact ones.

    Every number that the program can compute, in this format and in any order of its sums, lies
    in the ball that `rounded` arithmetic gives (running error analysis: Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., §3.3). The bound is the largest distance from the exact result to
    any point of that ball; infinite where a branch or a pole lies within the roundings.

    Parameters
    ----------
    program
        A shadow's ``forward``, ``backward`` or ``jvp``, or any program of precise arrays.
    args
        Its arguments; those of floating dtype are exact numbers.

    Returns
    -------
    tuple
        One object array of balls (upper bounds of the error) per result.
    """
    arithmetic = rounded(fmt)
    bits = 2 * fmt.precision + 64
    exact = _results(program, [BALLS.array(a) if is_floating(a) else a for a in args], bits)
    with np.errstate(all="ignore"):
        wide = _results(
            program,
            [
                PreciseArray(BALLS.array(a).values, arithmetic) if is_floating(a) else a
                for a in args
            ],
            bits,
        )
    if exact is None:  # mpmath, which always decides, tells the shapes
        exact = listed(program(*(MPMATH.array(a) if is_floating(a) else a for a in args)))
        wide = None
    if wide is None:
        return tuple(_filled(np.shape(r)) for r in exact)
    with BALLS.precision(bits):
        return tuple(_distance(w, r) for w, r in zip(wide, exact, strict=True))


def _results(program: Program, points: Sequence[Any], bits: int) -> list[Any] | None:
    while bits <= _CEILING:
        try:
            with BALLS.precision(bits):
                return listed(program(*points))
        except Undecided:
            bits *= 2
    return None


def _filled(shape: tuple[int, ...]) -> Array:
    return np.full(shape, arb.pos_inf(), dtype=object)


def _distance(wide: Any, exact: Any) -> Array:
    if not isinstance(exact, PreciseArray):  # integers and truth values, equal or not at all
        same = np.equal(wide, exact)
        return np.where(same, _zeros(np.shape(exact)), _filled(np.shape(exact)))
    return np.asarray(_largest_distance(wide.values, exact.values), dtype=object).reshape(
        exact.shape
    )


def _zeros(shape: tuple[int, ...]) -> Array:
    return np.full(shape, arb(0), dtype=object)


def _apart(ball: Any, exact: Any) -> Any:
    if ball.is_exact() and exact.is_exact() and ball == exact:
        return arb(0)  # infinities too
    distance = abs(ball - exact)
    return arb.pos_inf() if distance.is_nan() else distance.abs_upper()


_largest_distance = np.frompyfunc(_apart, 2, 1)
