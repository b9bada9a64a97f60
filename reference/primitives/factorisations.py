"""Factorisations of matrices: singular values, eigenvalues, QR, the pseudo-inverse, and what rests on them.

A factorisation has several results and a primitive has one: all factors are packed into one row, and
taken out of it again. Each is declared by its differential alone; its transpose is found by
differentiating that, which is linear. Where singular or eigenvalues coincide the vectors are not
defined, and their slopes not finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ffverify.reference.engine.primitive import Primitive, astype, general, reshape, scale
from ffverify.reference.engine.var import Value, dtype_of, shape_of

from .elementary import absolute, divide, equal, where
from .linalg import check_square, inv, matmul, matrix_transpose, tril, triu
from .reductions import axes, largest, min_, sum_
from .shaping import concatenate, gather, transpose

Shapes = Sequence[tuple[int, ...]]


class Eigen(NamedTuple):
    """What `eig` and `eigh` return, with NumPy's names."""

    eigenvalues: Value
    eigenvectors: Value


class Singular(NamedTuple):
    """What `svd` returns, with NumPy's names."""

    U: Value
    S: Value
    Vh: Value


class QR(NamedTuple):
    """What `qr` returns, with NumPy's names."""

    Q: Value
    R: Value


def _packed(batch: tuple[int, ...], *factors: Value) -> Value:
    rows = [reshape(x, shape=(*batch, prod(shape_of(x)[len(batch) :]))) for x in factors]
    return concatenate(*rows, axis=-1)


def _unpacked(row: Value, shapes: Shapes) -> list[Value]:
    batch, found, start = shape_of(row)[:-1], [], 0
    for shape in shapes:
        part = gather(row, index=(..., slice(start, start + prod(shape))))
        found.append(reshape(part, shape=(*batch, *shape)))
        start += prod(shape)
    return found


def _factorisation(
    name: str,
    factors: Callable[[Any], Sequence[Any]],
    shapes: Callable[[int, int], Shapes],
    differential: Callable[..., Sequence[Value]],
) -> Callable[[Value], list[Value]]:
    """Declare factors of a matrix by the map (a_dot, a, *factors) -> their tangents."""

    def forward(a: Any) -> Any:
        found = factors(a)
        return _packed(a.shape[:-2], *found)

    def map_(a_dot: Value, row: Value, a: Value) -> Value:
        parts = _unpacked(row, shapes(*shape_of(a)[-2:]))
        return _packed(shape_of(a)[:-2], *differential(a_dot, a, *parts))

    def transposed(row_bar: Value, row: Value, a: Value) -> Value:
        from ffverify.reference.engine.transforms import vjp  # which imports primitives

        zero = np.zeros(shape_of(a), dtype_of(a))
        return vjp(lambda a_dot: map_(a_dot, row, a), zero)[1](row_bar)[0]

    primitive = general(
        name,
        forward,
        (map_, transposed),
        flops=lambda _row, a: 20.0 * prod(shape_of(a)[:-2]) * min(shape_of(a)[-2:]) ** 3,
    )
    FACTORISATIONS.append(primitive)
    return lambda a: _unpacked(primitive(a), shapes(*shape_of(a)[-2:]))


FACTORISATIONS: list[Primitive] = []


def _diagonal(x: Value) -> Value:
    n = shape_of(x)[-1]
    return gather(x, np.arange(n), np.arange(n), index=(..., "array", "array"))


def _gaps(w: Value) -> Value:
    """Return 1 / (w_j - w_i), with 0 for i = j."""
    n = shape_of(w)[-1]
    apart = _along_rows(w) - _along_columns(w)
    return where(np.eye(n, dtype=bool), 0.0, divide(1.0, where(np.eye(n, dtype=bool), 1.0, apart)))


def _along_rows(w: Value) -> Value:
    return reshape(w, shape=(*shape_of(w)[:-1], 1, shape_of(w)[-1]))


def _along_columns(w: Value) -> Value:
    return reshape(w, shape=(*shape_of(w), 1))


# Eigenvalues -----------------------------------------------------------------------------------------
def _eigh_differential(a_dot: Value, _a: Value, w: Value, v: Value) -> Sequence[Value]:
    a_dot = 0.5 * (
        a_dot + matrix_transpose(a_dot)
    )  # the matrix is symmetric, and so is its tangent
    inside = matmul(matmul(matrix_transpose(v), a_dot), v)
    return _diagonal(inside), matmul(v, scale(inside, _gaps(w)))


# LAPACK gives the vectors signs that depend on the triangle it reads.
_eigh, _eigh_upper = (
    _factorisation(
        name,
        functools.partial(np.linalg.eigh, UPLO=UPLO),
        lambda n, _: [(n,), (n, n)],
        _eigh_differential,
    )
    for name, UPLO in (("eigh", "L"), ("eigh_upper", "U"))
)


def eigh(a: Value, UPLO: str = "L") -> Eigen:  # NumPy's
    """As `numpy.linalg.eigh`: of the lower triangle (UPLO="L") or the upper one alone."""
    check_square("eigh", a)
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"eigh: UPLO={UPLO!r}: 'L' or 'U'")
    if UPLO.upper() == "L":
        return Eigen(*_eigh(tril(a) + matrix_transpose(tril(a, -1))))
    return Eigen(*_eigh_upper(triu(a) + matrix_transpose(triu(a, 1))))


def _real_eig(a: Any) -> tuple[Any, Any]:
    w, v = np.linalg.eig(a)
    if np.iscomplexobj(w):
        raise TypeError(
            "eig: a matrix with complex eigenvalues, and only real numbers are differentiated here"
        )
    return w, v


def _eig_differential(a_dot: Value, _a: Value, w: Value, v: Value) -> Sequence[Value]:
    inside = matmul(inv(v), matmul(a_dot, v))
    turned = matmul(v, scale(inside, _gaps(w)))
    # Columns keep length 1.
    return _diagonal(inside), turned - v * sum_(v * turned, axis=-2, keepdims=True)


_eig = _factorisation("eig", _real_eig, lambda n, _: [(n,), (n, n)], _eig_differential)


def eig(a: Value) -> Eigen:
    """As `numpy.linalg.eig`, for a matrix with real eigenvalues."""
    return Eigen(*_eig(a))


# Singular values -------------------------------------------------------------------------------------
def _svd_shapes(m: int, n: int) -> Shapes:
    k = min(m, n)
    return [(m, k), (k,), (k, n)]


def _svd_differential(a_dot: Value, _a: Value, u: Value, s: Value, vh: Value) -> Sequence[Value]:
    u_t, v = matrix_transpose(u), matrix_transpose(vh)
    inside = matmul(matmul(u_t, a_dot), v)
    turned = matrix_transpose(inside)
    row, column = _along_rows(s), _along_columns(s)
    gaps = scale(_gaps(s), divide(1.0, row + column))  # 1 / (s_j² - s_i²)
    u_dot = matmul(u, scale(inside * row + column * turned, gaps))
    v_dot = matmul(v, scale(column * inside + turned * row, gaps))
    (m, k), n = shape_of(u)[-2:], shape_of(v)[-2]
    if m > k:  # what leaves the columns' space
        outside = matmul(a_dot, v) - matmul(u, inside)
        u_dot = u_dot + scale(outside, divide(1.0, row))
    if n > k:
        outside = matmul(matrix_transpose(a_dot), u) - matmul(v, turned)
        v_dot = v_dot + scale(outside, divide(1.0, row))
    return u_dot, _diagonal(inside), matrix_transpose(v_dot)


_svd = _factorisation(
    "svd", lambda a: np.linalg.svd(a, full_matrices=False), _svd_shapes, _svd_differential
)


def svd(a: Value, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """As `numpy.linalg.svd`; the vectors beyond the smaller side are not defined, so not here."""
    if not compute_uv:
        return _svd(a)[1]
    if full_matrices and len(set(shape_of(a)[-2:])) > 1:
        raise TypeError(
            "svd: full_matrices=True of a matrix that is not square has vectors that the matrix does "
            "not determine: pass full_matrices=False"
        )
    return Singular(*_svd(a))


# QR --------------------------------------------------------------------------------------------------
def _qr_differential(a_dot: Value, _a: Value, q: Value, r: Value) -> Sequence[Value]:
    q_t = matrix_transpose(q)
    scaled = matmul(a_dot, inv(r))
    inside = matmul(q_t, scaled)
    turn = tril(inside, -1) - matrix_transpose(tril(inside, -1))
    return scaled - matmul(q, inside) + matmul(q, turn), matmul(inside - turn, r)


_qr = _factorisation("qr", np.linalg.qr, lambda m, n: [(m, n), (n, n)], _qr_differential)


def qr(a: Value, mode: str = "reduced") -> Any:
    """As `numpy.linalg.qr`, for the modes "reduced" and "r"."""
    m, n = shape_of(a)[-2:]
    if mode not in ("reduced", "r") and not (mode == "complete" and m <= n):
        raise TypeError(f"qr: mode={mode!r} has no rule: use 'reduced' or 'r'")
    q, r = _qr(gather(a, index=(..., slice(min(m, n)))))
    if m < n:
        rest = matmul(matrix_transpose(q), gather(a, index=(..., slice(m, None))))
        r = concatenate(r, rest, axis=-1)
    return r if mode == "r" else QR(q, r)


# The pseudo-inverse ----------------------------------------------------------------------------------
def _pinv_map(a_dot: Value, p: Value, a: Value) -> Value:
    p_t, d_t = matrix_transpose(p), matrix_transpose(a_dot)
    identities = [np.eye(n, dtype=dtype_of(a)) for n in shape_of(a)[-2:]]
    left, right = identities[1] - matmul(p, a), identities[0] - matmul(a, p)
    return (
        -matmul(matmul(p, a_dot), p)
        + matmul(matmul(matmul(p, p_t), d_t), right)
        + matmul(matmul(matmul(left, d_t), p_t), p)
    )


def _pinv_transpose(p_bar: Value, p: Value, a: Value) -> Value:
    p_t, b_t = matrix_transpose(p), matrix_transpose(p_bar)
    identities = [np.eye(n, dtype=dtype_of(a)) for n in shape_of(a)[-2:]]
    left, right = identities[1] - matmul(p, a), identities[0] - matmul(a, p)
    return (
        -matmul(matmul(p_t, p_bar), p_t)
        + matmul(matmul(matmul(right, b_t), p), p_t)
        + matmul(matmul(matmul(p_t, p), b_t), left)
    )


def _exact_pinv(a: Any) -> Any:
    """Of a matrix of full rank."""
    t = np.swapaxes(a, -1, -2)
    return np.linalg.inv(t @ a) @ t if a.shape[-2] >= a.shape[-1] else t @ np.linalg.inv(a @ t)


# Golub & Pereyra 1973, for matrices whose rank does not change.
pinv = general(
    "pinv",
    np.linalg.pinv,
    (_pinv_map, _pinv_transpose),
    flops=lambda _y, a: 20.0 * prod(shape_of(a)) * min(shape_of(a)[-2:]),
    exact=_exact_pinv,
)


# Norms of matrices -----------------------------------------------------------------------------------
def matrix_norm(x: Value, ord: Any, axis: Any, *, keepdims: bool = False) -> Value:  # noqa: A002  # NumPy's
    """As `numpy.linalg.norm` over two axes, with ord 1, -1, 2, -2, inf, -inf or "nuc"."""
    row, column = (a % len(shape_of(x)) for a in axis)
    extreme = min_ if ord in (-1, -2, -np.inf) else largest
    if ord in (1, -1, np.inf, -np.inf):
        summed, other = (row, column) if ord in (1, -1) else (column, row)
        y = extreme(sum_(absolute(x), summed, keepdims=True), other, keepdims=True)
    elif ord in (2, -2, "nuc"):
        rest = tuple(a for a in range(len(shape_of(x))) if a not in (row, column))
        s = _svd(transpose(x, axes=(*rest, row, column)))[1]
        y = sum_(s, -1) if ord == "nuc" else extreme(s, -1)
    else:
        raise ValueError(f"norm: ord={ord!r} is no norm of matrices: use 1, 2, inf, 'fro' or 'nuc'")
    shape = [1 if a in (row, column) else n for a, n in enumerate(shape_of(x))]
    if not keepdims:
        shape = [n for a, n in enumerate(shape) if a not in (row, column)]
    return reshape(y, shape=tuple(shape))


def vector_norm(x: Value, ord: float, axis: Any, *, keepdims: bool = False) -> Value:  # noqa: A002  # NumPy's
    """(Σ |x|^ord)^(1/ord), ord 0 and -inf included; where the sum is 0 the slope is taken to be 0."""
    if ord == 0:
        return sum_(astype(x != 0, dtype=dtype_of(x)), axes(x, axis), keepdims=keepdims)
    if ord == -np.inf:
        return min_(absolute(x), axes(x, axis), keepdims=keepdims)
    total = sum_(absolute(x) ** float(ord), axes(x, axis), keepdims=keepdims)
    zero = equal(total, 0)
    return where(zero, np.inf if ord < 0 else 0.0, where(zero, 1.0, total) ** (1.0 / ord))
