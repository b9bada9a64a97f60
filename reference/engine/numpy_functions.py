"""Which primitive serves which NumPy function, so that plain NumPy code differentiates.

A ufunc is served by the primitive whose `forward` it is; other functions by a function here or in
the modules of primitives. A function that is not in these tables raises one clear TypeError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ffverify.reference.primitives import (
    activations,
    elementary,
    factorisations,
    linalg,
    reductions,
    scipy_functions,
    shaping,
)
from ffverify.reference.primitives.elementary import (
    maximum,
    minimum,
    power_number,
    power_operator,
)

from . import complex_numbers, numpy_shapes, numpy_statistics  # noqa: F401  # which fill the tables
from .primitive import Primitive, astype, constant, elementwise, of_pythons
from .var import (
    FUNCTIONS,
    NOT_GIVEN,
    OF_PYTHONS,
    PRIMITIVES,
    PYTHONS,
    UFUNCS,
    Value,
    Var,
    as_array,
    as_operand,
    concrete,
    dtype_of,
    implements,
    innermost,
    shape_of,
)

for _module in (elementary, activations, linalg):
    for _primitive in vars(_module).values():
        if isinstance(_primitive, Primitive) and isinstance(_primitive.forward, np.ufunc):
            UFUNCS[_primitive.forward] = _primitive


# Ufuncs that are compositions ------------------------------------------------------------------------
def _to_the_power(x: Value, p: Value) -> Value:
    """As the operator x**p."""
    if type(p) not in PYTHONS:  # NumPy's own numbers have a dtype, which counts in the result's
        return power_operator(x, p)
    squared = p == 2 and isinstance(innermost(x), np.ndarray)
    return elementary.square(x) if squared else power_number(x, p=p)


def _logaddexp_slope(_y: Value, a: Value, b: Value) -> Value:
    return activations.sigmoid(a - b)


logaddexp = elementwise(
    "logaddexp",
    np.logaddexp,
    _logaddexp_slope,
    lambda y, a, b: _logaddexp_slope(y, b, a),
    flops=22,
)
logaddexp2 = elementwise(
    "logaddexp2",
    np.logaddexp2,
    lambda _y, a, b: activations.sigmoid((a - b) * elementary.LN2),
    lambda _y, a, b: activations.sigmoid((b - a) * elementary.LN2),
    flops=22,
    exact=lambda a, b: np.maximum(a, b) + np.log2(1 + np.exp2(-abs(a - b))),
)
fmod = elementwise(
    "fmod",
    np.fmod,
    1,
    lambda _y, a, b: -elementary.trunc(elementary.divide(a, b)),
    kinks="a/b an integer: jumps",
)
heaviside = elementwise(
    "heaviside", np.heaviside, None, lambda _y, x, _h: elementary.equal(x, 0), kinks="x = 0: jumps"
)


def _exactly_rounded(x: Value, *, decimals: int) -> Value:
    """Round as NumPy does, by powers of ten."""
    scale = 10 ** abs(decimals)
    return np.rint(x * scale) / scale if decimals > 0 else np.rint(x / scale) * scale


rounded = constant("rounded", lambda x, *, decimals: np.round(x, decimals), exact=_exactly_rounded)
UFUNCS |= {
    np.fmod: fmod,
    np.divmod: lambda a, b: (elementary.floor_divide(a, b), elementary.remainder(a, b)),
    np.modf: lambda x: (
        shaping.number(
            elementary.where(
                elementary.isinf(x), elementary.copysign(np.zeros((), dtype_of(x)), x), fmod(x, 1.0)
            )
        ),
        elementary.trunc(x),
    ),
    np.logaddexp2: logaddexp2,
    np.heaviside: heaviside,
    operator.pow: _to_the_power,
    np.matmul: linalg.matmul,
    np.logaddexp: logaddexp,
    np.fabs: elementary.absolute,
    np.radians: elementary.deg2rad,
    np.degrees: elementary.rad2deg,
    np.conjugate: elementary.positive,
}

# Products that NumPy has as ufuncs, the last two from 2.2 on.
UFUNCS |= {
    getattr(np, name): function
    for name, function in {
        "vecdot": linalg.vecdot,
        "matvec": linalg.matvec,
        "vecmat": linalg.vecmat,
    }.items()
    if hasattr(np, name)
}

PRIMITIVES.update((ufunc, f) for ufunc, f in UFUNCS.items() if isinstance(f, Primitive))
OF_PYTHONS.update(
    (ufunc, of_pythons(PRIMITIVES[ufunc]))
    for ufunc in (
        np.add, np.subtract, np.multiply, np.divide, np.remainder, np.floor_divide, np.negative, np.positive,
        np.absolute,
    )
)  # fmt: skip


@implements(np.round, np.around)
def _round(x: Value, decimals: int = 0) -> Value:
    return rounded(x, decimals=decimals)


@implements(np.angle)
def _angle(x: Value, deg: bool = False) -> Value:
    """As `numpy.angle` of a real number: 0, or π where it is negative."""
    angle = elementary.arctan2(np.zeros((), dtype_of(x)), x)
    return angle * (180 / np.pi) if deg else angle


@implements(np.sinc)
def _sinc(x: Value) -> Value:
    return numpy_shapes.in_layout_of(x, activations.sinc_derivative(x, n=0))


def _where(condition: Value, *choices: Value) -> Value:
    return elementary.where(condition, *choices) if choices else np.nonzero(concrete(condition))


FUNCTIONS[np.fix] = elementary.trunc
FUNCTIONS[np.i0] = lambda x: shaping.with_memory(astype(scipy_functions.i0(x), dtype=dtype_of(x)))


# Linear algebra ----------------------------------------------------------------------------------------
FUNCTIONS |= {
    np.dot: linalg.dot,
    np.vdot: lambda a, b: linalg.dot(numpy_shapes.ravel(a), numpy_shapes.ravel(b)),
    np.inner: linalg.inner,
    np.outer: linalg.outer,
    np.tensordot: linalg.tensordot,
    np.einsum: linalg.einsum,
    np.diagonal: linalg.diagonal,
    np.trace: linalg.trace,
    np.tril: linalg.tril,
    np.triu: linalg.triu,
    np.linalg.solve: linalg.solve,
    np.linalg.inv: linalg.inv,
    np.linalg.det: linalg.det,
    np.linalg.slogdet: linalg.slogdet,
    np.linalg.cholesky: linalg.cholesky_factor,
    np.linalg.svd: factorisations.svd,
    np.linalg.eigh: factorisations.eigh,
    np.linalg.eigvalsh: factorisations.eigvalsh,
    np.linalg.eig: factorisations.eig,
    np.linalg.eigvals: lambda a: factorisations.eig(a).eigenvalues,
    np.linalg.qr: factorisations.qr,
    np.linalg.cond: factorisations.cond,
    np.linalg.pinv: lambda a: factorisations.pinv(a),  # noqa: PLW0108  # its slopes know no rcond=
    np.linalg.matrix_power: linalg.matrix_power,
    np.linalg.multi_dot: linalg.multi_dot,
    np.kron: linalg.kron,
    np.cross: linalg.cross,
    np.convolve: linalg.convolve,
    np.correlate: linalg.correlate,
    np.where: _where,
    np.ndarray.__getitem__: shaping.getitem,
    np.ndarray.__setitem__: shaping.setitem,
    np.iscomplexobj: lambda _x: False,
    np.result_type: lambda *xs: np.result_type(*map(innermost, xs)),
}


@implements(np.linalg.lstsq)
def _least_squares(a: Value, b: Value, rcond: Any = None) -> tuple[Value, Value, int, Value]:
    """As `numpy.linalg.lstsq` of a matrix of full rank."""
    a, b = as_array(a), as_array(b)
    rank = int(np.linalg.lstsq(innermost(a), innermost(b), rcond)[2])
    m, n = shape_of(a)
    if rank < min(m, n):
        raise TypeError(
            f"lstsq: a matrix of shape {(m, n)} has rank {rank}: beside it the rank is another, and the "
            "solution jumps"
        )
    x = linalg.matmul(factorisations.pinv(a), b)
    squares = reductions.sum_(elementary.square(b - linalg.matmul(a, x)), axis=0)
    residuals = FUNCTIONS[np.atleast_1d](squares) if m > n else np.zeros(0, dtype_of(x))
    return x, residuals, rank, factorisations.svd(a, compute_uv=False)


def _of_arrays(function: Callable[..., Value]) -> Callable[..., Value]:
    """Let the first two arguments be lists and Python's numbers."""
    return lambda *args, **options: function(*map(as_array, args[:2]), *args[2:], **options)


for _function in (
    np.dot, np.vdot, np.inner, np.tensordot, np.cross, np.convolve, np.correlate, np.linalg.solve, np.polyval,
):  # fmt: skip
    FUNCTIONS[_function] = _of_arrays(FUNCTIONS[_function])
# Names of the array API standard, which NumPy has from version 2 on.
FUNCTIONS[np.matrix_transpose] = linalg.matrix_transpose
FUNCTIONS |= {
    getattr(np.linalg, name): function
    for name, function in {
        "diagonal": lambda x, *, offset=0: linalg.diagonal(x, offset, -2, -1),
        "matrix_transpose": linalg.matrix_transpose,
        "outer": linalg.outer_of_vectors,
        "trace": lambda x, *, offset=0: linalg.trace(x, offset, -2, -1),
        "vecdot": _of_arrays(linalg.vecdot),
        "vector_norm": reductions.vector_norm,
        "matrix_norm": lambda x, *, keepdims=False, ord="fro": reductions.norm(  # noqa: A006  # NumPy's
            x, ord, (-2, -1), keepdims=keepdims
        ),
        "svdvals": lambda x: factorisations.svd(x, compute_uv=False),
        "cross": _of_arrays(linalg.cross_of_three),
        "matmul": linalg.matmul,
        "tensordot": _of_arrays(linalg.tensordot),
    }.items()
    if hasattr(np.linalg, name)
}


@implements(np.ndarray.astype, getattr(np, "astype", np.ndarray.astype))
def _astype(
    x: Value,
    dtype: Any,
    order: str = "K",
    casting: Any = "unsafe",
    subok: bool = True,  # noqa: ARG001  # NumPy's
    copy: bool = True,
) -> Value:
    dtype = np.dtype(dtype)
    if not np.can_cast(dtype_of(x), dtype, casting):
        raise TypeError(f"astype: {dtype_of(x)} to {dtype} is no cast of casting={casting!r}")
    if order != "K":
        flags = np.asarray(innermost(x)).flags
        ordered = {"A": flags.forc, "C": flags.c_contiguous, "F": flags.f_contiguous}
        if copy or not ordered[order]:
            x = FUNCTIONS[np.copy](x, order)
    if dtype == dtype_of(x) and not copy:
        return x
    if dtype.kind == "c":
        raise TypeError(f"astype({dtype}): complex values are not differentiated here")
    if dtype.kind != "f":
        return elementary.to_integer(x, dtype=dtype)
    return astype(x, dtype=dtype)


@implements(np.clip)
def _clip(
    x: Value,
    a_min: Value = NOT_GIVEN,
    a_max: Value = NOT_GIVEN,
    *,
    min: Value = NOT_GIVEN,  # noqa: A002  # NumPy's
    max: Value = NOT_GIVEN,  # noqa: A002  # NumPy's
) -> Value:
    if a_min is a_max is NOT_GIVEN:
        a_min, a_max = (None if v is NOT_GIVEN else v for v in (min, max))
    elif a_min is NOT_GIVEN or a_max is NOT_GIVEN:
        raise TypeError(
            "clip: one bound alone: give None for the other, or give it as min= or max="
        )
    elif not min is max is NOT_GIVEN:
        raise ValueError("clip: bounds given by place and by name")
    a_min, a_max = as_operand(a_min), as_operand(a_max)
    bounds = [bound for bound in (a_min, a_max) if bound is not None]
    if all(type(bound) in PYTHONS for bound in bounds):
        low = -np.inf if a_min is None else a_min
        return elementary.clip(x, low=low, high=np.inf if a_max is None else a_max)
    dtype = np.result_type(*map(innermost, (x, *bounds)))
    x = x if dtype == dtype_of(x) else _astype(x, dtype)
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


# Constants of a given shape: traced, so that the program may write traced values into them ---------------
for _like in (np.zeros_like, np.ones_like, np.empty_like, np.full_like):

    def _make(
        x: Value, *args: Any, dtype: Any = None, function: Any = _like, **options: Any
    ) -> Any:
        made = function(innermost(x), *args, dtype=dtype, **options)
        return x.owner.constant(made) if type(x) is Var and made.dtype.kind == "f" else made

    FUNCTIONS[_like] = _make

_full_of_numbers = FUNCTIONS[np.full_like]


@implements(np.full_like)
def _full_like(x: Value, fill_value: Value, dtype: Any = None, **options: Any) -> Value:
    if type(fill_value) is not Var:
        return _full_of_numbers(x, fill_value, dtype=dtype, **options)
    zeros = np.zeros_like(innermost(x), dtype, **options)
    return shaping.setitem(zeros, ..., _astype(fill_value, zeros.dtype))
