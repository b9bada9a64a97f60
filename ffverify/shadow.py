"""Shadows: the program under test run again, operation by operation, on exact numbers.

``shadow(fn, args, framework=…, dtype=…)`` gives the program, its own backward formula and its own
forward mode as functions of precise arrays of either arithmetic, so that truth can be taken from any
NumPy, torch or JAX program, and a derivative formula judged apart from its rounding.
``running_bound`` says how far the roundings of such a program, run in a float format, can carry its
results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from .arithmetic import BALLS, MPMATH, Undecided, arb, rounded
from .formats import Array, Format, is_floating
from .operations import Program, UnknownOperation, listed
from .precise import PreciseArray

_TRIAL_PRECISION = 128
_CEILING = 2048


@dataclass(frozen=True)
class Shadow:
    """A program in exact arithmetic.

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
        Operations without an exact form; if the program itself has some, ``forward`` is None.
    """

    forward: Program | None
    backward: Program | None
    jvp: Program | None
    unknown: tuple[str, ...]


def shadow(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    framework: str,
    dtype: str,  # noqa: ARG001 - part of the contract: exact numbers have no format
    vjp: Callable[..., Any] | None = None,
) -> Shadow:
    """Make the shadow of a function at a point.

    Branches that depend on values are those taken at this point, except in plain NumPy code.

    Parameters
    ----------
    args
        The point, in the framework's arrays.
    framework
        ``"numpy"``, ``"torch"`` or ``"jax"``.
    vjp
        The caller's own backward formula, ``vjp(cotangent, *args)``.
    """
    front = _front_end(framework)
    unknown: dict[str, None] = {}

    def traced(make: Callable[[], tuple[Callable[..., Any], list[Any]]]) -> Program | None:
        try:
            function, points = make()
            program: Program = front.trace(function, points)
            _tried(program, [front.numpy(a) for a in points])
        except UnknownOperation as error:
            unknown.update(dict.fromkeys(error.args))
        except Exception as error:  # noqa: BLE001 - foreign code that cannot be traced, in any way
            unknown[f"{type(error).__name__}: {error}".splitlines()[0]] = None
        else:
            return program
        return None

    forward = traced(lambda: (fn, list(args)))
    backward = jvp = None
    if forward is not None:
        own = {} if vjp is None else {"vjp": vjp}
        backward = traced(
            lambda: (
                front.backward_of(fn, args, **own),
                [*args, *front.cotangents_of(fn, args)],
            )
        )
        jvp = traced(lambda: (front.tangent_of(fn, args), [*args, *front.tangents_of(args)]))
    return Shadow(forward, backward, jvp, tuple(unknown))


def _front_end(framework: str) -> ModuleType:
    if framework == "numpy":
        from . import numpy_shadow

        return numpy_shadow
    if framework == "torch":
        from . import torch_shadow

        return torch_shadow
    if framework == "jax":
        from . import jax_shadow

        return jax_shadow
    raise ValueError(f"framework {framework!r} is not known: use 'numpy', 'torch' or 'jax'")


def _tried(program: Program, points: Sequence[Array]) -> None:
    """Run a program once: an operation may turn out unknown only then."""
    try:
        with BALLS.precision(_TRIAL_PRECISION):
            program(*(BALLS.array(a) if is_floating(a) else a for a in points))
    except Undecided:
        pass  # at this precision; it runs


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
