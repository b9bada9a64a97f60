"""Whether rounding explains an error: the program under test, run again in exact arithmetic.

A program whose formula is right but whose roundings add up is imprecise; one whose formula gives
something else even in exact arithmetic, or which errs by more than its roundings can, is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program, UnknownOperation, joined
from ffverify.frameworks.shadow import Shadow
from ffverify.truth.adaptive import Truth
from ffverify.verdicts.bounds import running_bounds

from .backends import Backend

# Exact enough that no float64 in or out of range can be mistaken for another.
FORMULA_PRECISION = 2400


def own_bound(
    backend: Backend,
    program: Program,
    args: Sequence[Array],
    exact: Truth,
    fmt: Format,
    *,
    wrt: int | None = None,
    cotangent: Array | None = None,
    tangents: Sequence[Array | None] | None = None,
) -> Array | None:
    """Bound the error that the roundings of a backend's own program can add up to.

    The program is the backend's value; its VJP in argument ``wrt`` where a cotangent is given; its
    JVP where tangents are.

    Returns
    -------
    Object array of the truth's shape, 0 where the formula itself is not the truth's; None if the
    program has no shadow.
    """
    native = backend.native(args, fmt.name)
    floating = [i for i, a in enumerate(args) if is_floating(a)]
    position, operands = 0, list(args)
    with backend.framework.scope(native):  # JAX has float64 where it is asked for
        traced = Shadow(backend.bound(program), native, framework=backend.framework.name)
        if cotangent is not None and wrt is not None:
            own, position = traced.backward, floating.index(wrt)
            operands.append(cotangent)
        elif tangents is not None:
            own = traced.jvp
            filled = [
                np.zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)
            ]
            operands += [filled[i] for i in floating]
        else:
            own = traced.forward
    if own is None:
        return None
    try:
        vector = joined(own, [position])
        with BALLS.precision(FORMULA_PRECISION):
            points = [BALLS.array(a) if is_floating(a) else a for a in operands]
            formula = vector(*points).values
        (radii,) = running_bounds(vector, [operands], fmt, [formula])
    except (ArithmeticError, Undecided, UnknownOperation, TypeError):  # or made for floats alone
        return None
    slack = exact.growth * arb(fmt.unit_roundoff)

    def is_right(f: Any, t: Any, motion: Any) -> bool:
        # A formula's constants, such as 1/√2, are rounded as its inputs are.
        return bool(f.overlaps(t) or (f - t).abs_lower() <= slack * t.abs_upper() + motion)

    verdicts = np.frompyfunc(is_right, 3, 1)(formula, exact.exact.ravel(), exact.motion.ravel())
    right = np.asarray(verdicts, dtype=bool)
    return np.where(right, radii, arb(0)).reshape(exact.exact.shape)
