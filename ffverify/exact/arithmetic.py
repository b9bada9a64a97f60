"""Two independent arithmetics of high-precision numbers.

``BALLS`` computes with Arb balls, each of which encloses its number rigorously. ``MPMATH`` computes
with mpmath numbers; it shares no code with Arb and confirms what Arb finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from .arrays import Arithmetic
from .elements import Undecided, arb, boxed, mp
from .formats import Array
from .matrices import arb_mat, as_matrices, entries, matrix_of, products
from .operations import TABLE, raised

# ---------------------------------------------------------------------------------------------
# Arb balls
# ---------------------------------------------------------------------------------------------


def _exactly(number: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make numbers of ints, floats and fractions."""
    return lambda v: (
        number(v.numerator) / number(v.denominator) if type(v) is Fraction else number(v)
    )


def _at_once(name: str, operands: Sequence[Array]) -> Any:
    """Apply a function to arrays of balls without a Python call for every element; None if that is not right.

    Arb's own division and functions differ from the careful ones here only where they give no finite
    number; a power by one number is one power for all.
    """
    if name == "power" and not operands[1].ndim:
        x: Any = operands[0]
        n: Any = operands[1][()]
        return raised(x, int(n.unique_fmpz())) if n.is_integer() and 0 < n <= 1024 else None
    if name not in _ARBS_OWN:
        return None
    result = _ARBS_OWN[name](*operands)
    return result if all(map(arb.is_finite, np.ravel(result).tolist())) else None


_ARBS_OWN: dict[str, Callable[..., Any]] = {
    "divide": np.true_divide,
    "log": np.frompyfunc(arb.log, 1, 1),
    "erfc": np.frompyfunc(arb.erfc, 1, 1),
}


def _ball_solve(a: Array, b: Array) -> Array:
    try:
        return entries(matrix_of(a).solve(matrix_of(b)))
    except ZeroDivisionError as error:  # singular as far as these balls tell
        raise Undecided("whether a matrix is singular") from error


def _entering(given: Array) -> Any:
    """Bring plain numbers in, without a Python call for every one."""
    if given.ndim == 2 and given.dtype.kind == "f":
        return arb_mat(*given.shape, given.ravel().tolist())
    return boxed(list(map(arb, given.ravel().tolist())), given.shape)


BALLS = Arithmetic(
    name="Arb",
    exact=_exactly(arb),
    precision=flint.ctx.workprec,
    functions={row.name: row.balls for row in TABLE if row.balls is not None},
    matmul=products,
    solve=_ball_solve,
    det=lambda a: matrix_of(a).det(),
    entering=_entering, as_matrices=as_matrices, at_once=_at_once,
)  # fmt: skip


# ---------------------------------------------------------------------------------------------
# mpmath numbers
# ---------------------------------------------------------------------------------------------


def _mpf(value: Any) -> Any:
    with mp.workprec(1100):  # any float's significand and any int that a program holds, exactly
        return mp.mpf(value)


MPMATH = Arithmetic(
    name="mpmath",
    exact=_exactly(_mpf),
    precision=mp.workprec,
    functions={row.name: row.numbers for row in TABLE if row.numbers is not None},
    matmul=np.matmul,
    solve=lambda a, b: np.array((mp.matrix(a.tolist()) ** -1 * mp.matrix(b.tolist())).tolist(), dtype=object),
    det=lambda a: mp.det(mp.matrix(a.tolist())),
)  # fmt: skip
