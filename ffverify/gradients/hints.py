"""Hints: what mistake makes such numbers. A hint never decides anything.

``hint(judged)`` compares a failed number with its exact value and names the known pattern: a flipped
sign, a missing factor, a transposed index, a zero gradient, a cancellation, an overflow. A pattern of numbers
that fits at the failing input fits at a generic one too, or it was a coincidence of round numbers and is not
told.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, PreciseArray
from ffverify.exact.elements import boxed, midpoints
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program, joined
from ffverify.exact.rounding_arithmetic import Execution, rounded, takes_one_branch
from ffverify.frameworks.arrays import device_of, to_numpy
from ffverify.truth.adaptive import FIRST_PRECISION
from ffverify.truth.slopes import projection_slope, under
from ffverify.verdicts.verdict import Verdict

from .evaluation import cotangents_at, gradients_of, stirred, tangents_at, tangents_of
from .judge.numbers import Judged

# TF32 rounds or cuts the operands of a product to 11 bits: each is off by up to 2^-10 of itself.
_TF32 = 2 * 2.0**-10 + 2.0**-20
_NARROWED = (
    "products of float32 may run in TF32 here, with 11 bits: see whether it holds under "
    "jax.default_matmul_precision('highest'), or torch.set_float32_matmul_precision('highest') with "
    "torch.backends.cudnn.allow_tf32 = False."
)
_ROUGH = (
    "it is right to {:.0f} digits: an iteration that stops at a tolerance (make it smaller for the check), a "
    "series cut short, or a constant of few digits."
)
_TIED = (
    "a tie, or a comparison of numbers that their rounding makes equal, is decided the other way: a jump "
    "here, no loss of digits."
)
_CLOSE = 1e-3  # ratios are read off wrong numbers: three digits tell the patterns apart


def hint(judged: Judged) -> str:
    """Give one sentence on what may have gone wrong, or an empty one."""
    if judged.kind is Verdict.NONFINITE:
        return _nonfinite(judged)
    if judged.kind not in (Verdict.WRONG, Verdict.IMPRECISE):
        return ""
    exact = float(judged.truth.exact[0].mid())
    if not (math.isfinite(exact) and math.isfinite(judged.computed)):
        return ""
    narrowed = _NARROWED if _is_narrowed(judged, exact) else ""
    if judged.kind is Verdict.IMPRECISE:
        return narrowed or _imprecise(judged, exact)
    if judged.computed == 0:
        return _zero(judged)
    found = _pattern(judged, exact)
    if found and exact != 0 and judged.point.formulas.forward is not None:
        other = _elsewhere(judged)
        if other is None or _pattern(*other) != found:
            found = ""
    if not (found or narrowed) and 0 < (off := abs(judged.computed - exact)) < _CLOSE * abs(exact):
        return _ROUGH.format(np.floor(-np.log10(off / abs(exact))))
    return found or narrowed


def _is_narrowed(judged: Judged, exact: float) -> bool:
    """Tell whether an error on a device is as small as what products in TF32 lose beside their array."""
    on_device = any(device_of(a) not in ("", "cpu") for a in judged.point.native)
    if judged.point.fmt.name != "float32" or judged.array is None or not on_device:
        return False
    return abs(judged.computed - exact) <= _TF32 * float(np.abs(judged.array).max())


def _pattern(judged: Judged, exact: float) -> str:
    mirrored = _mirrored(judged, exact)
    if exact == 0 and judged.truth.kink[0]:  # the middle of what may be
        return mirrored
    if exact == 0:
        what = "value" if judged.mode == "value" else "derivative"
        return (
            mirrored or f"the exact {what} is zero: a term may be left over, or a mask not applied."
        )
    return mirrored or _ratio(judged, judged.computed / exact)


def _elsewhere(judged: Judged) -> tuple[Judged, float] | None:
    """Give the same number at inputs without anything special about them; None if it cannot be had."""
    rng = np.random.default_rng(len(judged.point.points))
    native = [
        stirred(a, rng) if f else a
        for a, f in zip(judged.point.native, judged.point.floating, strict=True)
    ]
    try:
        formulas = replace(judged.point.formulas, inputs=None, here=None)
        point = replace(judged.point, native=native, formulas=formulas, results=[], memo={})
        if judged.mode in ("forward", "fr", "ff"):
            tangents = tangents_of(point, list(judged.slope.directions), {})
            array, place = tangents, int(np.flatnonzero(judged.slope.weights)[0])
        else:
            gradients = gradients_of(point, judged.slope.weights)
            array = None if gradients is None else gradients[judged.argument]
            place = int(np.ravel_multi_index(judged.index, point.points[judged.argument].shape))
        if array is None:
            return None
        computed = float(array.ravel()[place])
        exact = projection_slope(
            point.vector, judged.slope.weights, point.inputs, judged.slope.directions, 128
        )
    except Exception:  # noqa: BLE001 - foreign code at inputs that nobody gave
        return None
    there = replace(judged, slope=replace(judged.slope, point=point), computed=computed)
    return (there, float(exact.mid())) if exact.is_finite() and exact != 0 else None


def _nonfinite(judged: Judged) -> str:
    values = [to_numpy(judged.point.results[k]) for k in judged.point.places]
    if all(np.isfinite(v).all() for v in values):
        return (
            "the value is finite, its derivative is not: 0·inf, as from a `where` branch that is not "
            "selected (make its argument harmless too), or an overflow on the way."
        )
    return "the value is not finite either: an overflow on the way, as of exp before log, or an underflow."


def _imprecise(judged: Judged, exact: float) -> str:
    with contextlib.suppress(Exception):  # exact programs of foreign code fail in any way
        code = _code(judged)
        if code is not None and (found := _by_steps(judged, exact, *code)) is not None:
            return found
    if judged.computed == 0:
        return "all digits are lost to an underflow or a cancellation such as 1 - σ near σ = 1."
    if abs(judged.computed - exact) > abs(exact) * judged.point.fmt.unit_roundoff**0.5:
        return (
            "most digits are lost: a cancellation such as 1 - σ near σ = 1, 1 - tanh², x - log(…)."
        )
    return ""


def _code(judged: Judged) -> tuple[Program, Sequence[Any], int] | None:
    """Give the program that computed a number, what it takes as balls, and the place in its results."""
    point, index = judged.point, judged.index
    if judged.mode in ("reverse", "rr", "rf"):
        program, more = point.formulas.backward(), cotangents_at(point, judged.slope.weights)
        moved = [x for x, f in zip(point.points, point.floating, strict=True) if f]
        owner = int(np.count_nonzero(point.floating[: judged.argument]))
        before = sum(x.size for x in moved[:owner])
        place = before + (int(np.ravel_multi_index(index, moved[owner].shape)) if index else 0)
    else:
        place, more = int(np.flatnonzero(judged.slope.weights)[0]), []
        program = point.vector
        if judged.mode != "value":
            tangent = point.formulas.tangent()
            program, more = tangent, tangents_at(point, judged.slope.directions)
    if program is None or judged.argument < 0:
        return None
    return joined(program), [*point.inputs.balls, *map(BALLS.array, more)], place


def _by_steps(
    judged: Judged, exact: float, program: Program, given: Sequence[Any], place: int
) -> str | None:
    """Say which steps make a number what it is; empty if that is open, None if no single ones do."""
    fmt, narrow = judged.point.fmt, dict[str, None]()

    def cast(values: Array, to: Format) -> Array:
        if to.precision >= fmt.precision:
            return values
        narrow[to.name] = None
        floats = midpoints(values).reshape(values.shape)
        ulps = to.ulp_exponents(floats)
        rounded = np.ldexp(np.rint(np.ldexp(floats, -ulps)), ulps)
        return boxed([BALLS.exact(x) for x in rounded.ravel().tolist()], values.shape)

    def within(to: Format) -> Arithmetic:
        """Compute in a narrower format as NumPy does; where a framework says what it gives that is cast."""
        if to.precision >= fmt.precision:
            return there
        executed = Execution(to, None, to_nearest=True).arithmetic
        return executed.deriving(format=to, cast=cast, within=within)

    def is_so(results: PreciseArray | None) -> bool:
        if results is None:
            return False
        number = float(results.values[place].mid())
        return abs(number - judged.computed) <= abs(exact - judged.computed) / 2

    there = BALLS.deriving(format=fmt, cast=cast, within=within)
    with BALLS.precision(FIRST_PRECISION):
        cut = [PreciseArray(b.values, there) if isinstance(b, PreciseArray) else b for b in given]
        through = program(*cut)
        if narrow and is_so(through):
            return f"it passes through {' and '.join(narrow)} on the way, with fewer digits."
        if takes_one_branch(program, given, fmt) or _rounds(program, given, place, fmt):
            return None
        still = [False] * len(given)
        # With some digits less numbers that are made equal stay so; what cancels loses more.
        formats = [replace(fmt, precision=fmt.precision - less) for less in (0, 3, 6)]
        so, *still_so = (
            is_so(Execution(f, None, to_nearest=True).run(program, given, still)) for f in formats
        )
    return "" if not so else _TIED if all(still_so) else None


def _rounds(program: Program, given: Sequence[Any], place: int, fmt: Format) -> bool:
    """Tell whether what roundings can add up to in a number is known: no branch of its own decides it."""
    with contextlib.suppress(Exception):  # undecided
        out = program(*(under(rounded(fmt), x) for x in given))
        return bool(out.values[place].is_finite())
    return False


def _zero(judged: Judged) -> str:
    missing = (
        "the result does not depend on this input as far as the framework sees (detached, or a "
        "branch without gradient)"
    )
    whole = judged.mode != "value" and not np.any(judged.array)
    return (
        f"zero gradient: {missing}."
        if whole
        else "zero here: a mask, a threshold or a missing term."
    )


def _ratio(judged: Judged, ratio: float) -> str:
    def near(value: float) -> bool:
        return abs(ratio - value) <= _CLOSE * abs(value)

    if near(-1):
        return "the sign is flipped."
    if near(2) or near(0.5):
        counted = "twice" if near(2) else "once instead of twice"
        factor = "2" if near(2) else "½"
        return f"off by a factor {factor}: a square's 2, or a term counted {counted}."
    sizes = sorted({n for a in judged.point.points for n in (*a.shape, a.size) if n > 1})
    for n in sizes:
        if near(n):
            return f"off by a factor {n}: a mean over {n} elements without its 1/{n}, or one sum too many."
        if near(1 / n):
            return f"off by a factor 1/{n}: not summed over an axis of {n} elements, or one mean too many."
    return ""


def _mirrored(judged: Judged, exact: float) -> str:
    """Compare with the exact derivative on the other side of the diagonal."""
    if judged.mode not in ("reverse", "rr", "rf") or len(judged.index) < 2:
        return ""
    point = judged.point
    if point.formulas.forward is None:
        return ""
    x = point.points[judged.argument]
    *batch, i, j = judged.index
    other = (*batch, j, i)
    if i == j or i >= x.shape[-1] or j >= x.shape[-2]:
        return ""
    direction = point.unit(judged.argument, int(np.ravel_multi_index(other, x.shape)))
    slope: Any = projection_slope(point.vector, judged.slope.weights, point.inputs, direction, 128)
    opposite = float(slope.mid())

    def near(value: float) -> bool:
        return value != 0 and abs(judged.computed - value) <= _CLOSE * abs(value)

    if near(opposite):
        return f"this is the derivative at {list(other)}: transposed."
    if x.shape[-1] == x.shape[-2] and near((exact + opposite) / 2):
        return (
            f"this is the mean of the derivatives here and at {list(other)}: right for symmetric "
            "matrices only, which torch.linalg.cholesky, eigh and the like take theirs to be. "
            "Check the function of (A + A.mT) / 2."
        )
    return ""
