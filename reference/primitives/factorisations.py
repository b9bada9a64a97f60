"""Factorisations of matrices: singular values, eigenvalues, QR, the pseudo-inverse, and what rests on them.

A factorisation has several results and a primitive has one: all factors are packed into one row, and
taken out of it again. Each is declared by its differential alone; its transpose is found by
differentiating that, which is linear. Where singular or eigenvalues coincide the vectors are not
defined, and their slopes not finite; what needs no vectors (values alone, the nuclear norm) goes without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ffverify.reference.engine.primitive import (
    Primitive,
    astype,
    general,
    multilinear,
    reshape,
    scale,
)
from ffverify.reference.engine.var import Value, dtype_of, shape_of

from .elementary import absolute, divide, equal, isnan, where
from .linalg import (
    check_square,
    inv,
    matmul,
    matrix_diagonal,
    matrix_transpose,
    symmetric,
    tril,
    triu,
)  # fmt: skip
from .reductions import axes, largest, min_, norm, sum_
from .shaping import concatenate, gather, number, transpose

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

    primitive = general(name, forward, (map_, transposed), flops=_flops)
    FACTORISATIONS.append(primitive)
    return lambda a: _unpacked(primitive(a), shapes(*shape_of(a)[-2:]))


FACTORISATIONS: list[Primitive] = []


def _flops(_y: Value, a: Value, **_: Any) -> float:
    return 20.0 * prod(shape_of(a)[:-2]) * min(shape_of(a)[-2:]) ** 3


def _gaps(w: Value) -> Value:
    """Return 1 / (w_j - w_i), with 0 for i = j."""
    n = shape_of(w)[-1]
    apart = _along_rows(w) - _along_columns(w)
    return where(np.eye(n, dtype=bool), 0.0, divide(1.0, where(np.eye(n, dtype=bool), 1.0, apart)))


def _along_rows(w: Value) -> Value:
    return reshape(w, shape=(*shape_of(w)[:-1], 1, shape_of(w)[-1]))


def _along_columns(w: Value) -> Value:
    return reshape(w, shape=(*shape_of(w), 1))


# Σ_k w_k u_k v_kᵀ, and u_kᵀ a v_k for every k, to which it is transposed. As everywhere a weight of
# exactly zero wins, here against vectors whose slopes are not finite.
def _weighted(u: Any, w: Any, vh: Any) -> Any:
    left_out = w == 0
    left = np.where(_along_rows(left_out), 0, u * _along_rows(w))
    return left @ np.where(_along_columns(left_out), 0, vh)


rank_ones: Primitive = multilinear(
    "rank_ones",
    _weighted,
    lambda y_bar, _y, _u, w, vh: scale(_along_rows(w), matmul(y_bar, matrix_transpose(vh))),
    lambda y_bar, _y, u, _w, vh: in_vectors(u, y_bar, vh),
    lambda y_bar, _y, u, w, _vh: scale(_along_columns(w), matmul(matrix_transpose(u), y_bar)),
    flops=lambda y, _u, w, _vh: 2.0 * prod(shape_of(y)) * shape_of(w)[-1],
    exact=lambda u, w, vh: (u * w[..., None, :]) @ vh,
)
in_vectors: Primitive = multilinear(
    "in_vectors",
    lambda u, a, vh: np.sum(u * (a @ np.swapaxes(vh, -1, -2)), axis=-2),
    lambda y_bar, _y, _u, a, vh: scale(_along_rows(y_bar), matmul(a, matrix_transpose(vh))),
    lambda y_bar, _y, u, _a, vh: rank_ones(u, y_bar, vh),
    lambda y_bar, _y, u, a, _vh: scale(_along_columns(y_bar), matmul(matrix_transpose(u), a)),
    flops=lambda y, _u, a, _vh: 2.0 * prod(shape_of(a)) * shape_of(y)[-1],
    exact=lambda u, a, vh: np.sum(u * (a @ np.swapaxes(vh, -1, -2)), axis=-2),
)


def _values_alone(
    name: str, forward: Callable[..., Any], vectors: Callable[..., tuple[Value, Value]]
) -> Primitive:
    """Declare singular or eigenvalues by `vectors`, a -> (u, vᵀ): those that coincide spoil no other one."""

    def map_(a_dot: Value, _w: Value, a: Value, **params: Any) -> Value:
        u, vh = vectors(a, **params)
        return in_vectors(u, a_dot, vh)

    def transposed(w_bar: Value, _w: Value, a: Value, **params: Any) -> Value:
        u, vh = vectors(a, **params)
        return rank_ones(u, w_bar, vh)

    return general(name, forward, (map_, transposed), flops=_flops)


# Eigenvalues -----------------------------------------------------------------------------------------
def _eigh_differential(a_dot: Value, _a: Value, w: Value, v: Value) -> Sequence[Value]:
    # The matrix is symmetric, and so is its tangent.
    inside = matmul(matmul(matrix_transpose(v), symmetric(a_dot)), v)
    return matrix_diagonal(inside, offset=0), matmul(v, scale(inside, _gaps(w)))


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


def _eigenvectors(a: Value) -> tuple[Value, Value]:
    v = _eigh(a)[1]
    return v, matrix_transpose(v)


eigenvalues = _values_alone("eigenvalues", np.linalg.eigvalsh, _eigenvectors)


def _of_triangle(a: Value, UPLO: str) -> Value:
    """Return the symmetric matrix that has the lower triangle (UPLO="L"), or the upper one."""
    check_square("eigh", a)
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"eigh: UPLO={UPLO!r}: 'L' or 'U'")
    if UPLO.upper() == "L":
        return tril(a) + matrix_transpose(tril(a, -1))
    return triu(a) + matrix_transpose(triu(a, 1))


def eigh(a: Value, UPLO: str = "L") -> Eigen:  # NumPy's
    """As `numpy.linalg.eigh`: of the lower triangle (UPLO="L") or the upper one alone."""
    factors = _eigh if UPLO.upper() == "L" else _eigh_upper
    return Eigen(*factors(_of_triangle(a, UPLO)))


def eigvalsh(a: Value, UPLO: str = "L") -> Value:  # NumPy's
    """As `numpy.linalg.eigvalsh`, see `eigh`."""
    return eigenvalues(_of_triangle(a, UPLO))


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
    return matrix_diagonal(inside, offset=0), turned - v * sum_(v * turned, axis=-2, keepdims=True)


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
    return u_dot, matrix_diagonal(inside, offset=0), matrix_transpose(v_dot)


_svd = _factorisation(
    "svd", lambda a: np.linalg.svd(a, full_matrices=False), _svd_shapes, _svd_differential
)


def _singular_vectors(a: Value) -> tuple[Value, Value]:
    u, _, vh = _svd(a)
    return u, vh


singular_values = _values_alone(
    "singular_values", functools.partial(np.linalg.svd, compute_uv=False), _singular_vectors
)


def svd(a: Value, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """As `numpy.linalg.svd`; the vectors beyond the smaller side are not defined, so not here."""
    if not compute_uv:
        return singular_values(a)
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
def _pinv_map(a_dot: Value, p: Value, a: Value, **_: Any) -> Value:
    p_t, d_t = matrix_transpose(p), matrix_transpose(a_dot)
    identities = [np.eye(n, dtype=dtype_of(a)) for n in shape_of(a)[-2:]]
    left, right = identities[1] - matmul(p, a), identities[0] - matmul(a, p)
    return (
        -matmul(matmul(p, a_dot), p)
        + matmul(matmul(matmul(p, p_t), d_t), right)
        + matmul(matmul(matmul(left, d_t), p_t), p)
    )


def _pinv_transpose(p_bar: Value, p: Value, a: Value, **_: Any) -> Value:
    p_t, b_t = matrix_transpose(p), matrix_transpose(p_bar)
    identities = [np.eye(n, dtype=dtype_of(a)) for n in shape_of(a)[-2:]]
    left, right = identities[1] - matmul(p, a), identities[0] - matmul(a, p)
    return (
        -matmul(matmul(p_t, p_bar), p_t)
        + matmul(matmul(matmul(right, b_t), p), p_t)
        + matmul(matmul(matmul(p_t, p), b_t), left)
    )


def _exact_pinv(a: Any, **_: Any) -> Any:
    """Of a matrix of full rank."""
    t = np.swapaxes(a, -1, -2)
    return np.linalg.inv(t @ a) @ t if a.shape[-2] >= a.shape[-1] else t @ np.linalg.inv(a @ t)


# Golub & Pereyra 1973, for matrices whose rank does not change.
pinv = general(
    "pinv",
    np.linalg.pinv,
    (_pinv_map, _pinv_transpose),
    flops=lambda _y, a, **_: 20.0 * prod(shape_of(a)) * min(shape_of(a)[-2:]),
    exact=_exact_pinv,
)


def _log_pseudo_det(a: Any, *, rcond: float) -> Any:
    w = np.linalg.eigvalsh(a)
    some = w > rcond * np.max(np.abs(w), axis=-1, keepdims=True)
    return np.sum(np.log(np.where(some, w, 1)), axis=-1)


def _transposed_pinv(a: Value, rcond: float) -> Value:
    return matrix_transpose(pinv(a, rcond=rcond))


# Of the eigenvalues of a symmetric matrix that are above `rcond` of the largest one.
log_pseudo_det = general(
    "log_pseudo_det",
    _log_pseudo_det,
    (
        lambda a_dot, _y, a, *, rcond: sum_(_transposed_pinv(a, rcond) * a_dot, (-2, -1)),
        lambda y_bar, _y, a, *, rcond: (
            _along_columns(_along_columns(y_bar)) * _transposed_pinv(a, rcond)
        ),
    ),
    flops=_flops,
    exact=lambda a, **_: np.log(np.linalg.det(a)),  # of full rank
)


# The polar factor ------------------------------------------------------------------------------------
def _sylvester_of_symmetric(h: Any, q: Any) -> Any:
    w, v = np.linalg.eigh(symmetric(h))
    turned = np.swapaxes(v, -1, -2) @ q @ v
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = turned / (_along_rows(w) + _along_columns(w))
    return v @ inside @ np.swapaxes(v, -1, -2)


def _sylvester_map_h(h_dot: Value, x: Value, h: Value, _q: Value) -> Value:
    h_dot = symmetric(h_dot)
    return -sylvester_of_symmetric(h, matmul(h_dot, x) + matmul(x, h_dot))


def _sylvester_transpose_h(x_bar: Value, x: Value, h: Value, _q: Value) -> Value:
    y, x_t = sylvester_of_symmetric(h, x_bar), matrix_transpose(x)
    return -symmetric(matmul(y, x_t) + matmul(x_t, y))


# X with H X + X H = Q, H symmetric: where eigenvalues coincide their sums are as good as any.
sylvester_of_symmetric: Primitive = general(
    "sylvester_of_symmetric",
    _sylvester_of_symmetric,
    (_sylvester_map_h, _sylvester_transpose_h),
    (
        lambda q_dot, _x, h, _q: sylvester_of_symmetric(h, q_dot),
        lambda x_bar, _x, h, _q: sylvester_of_symmetric(h, x_bar),
    ),
    flops=lambda x, *_: 30.0 * prod(shape_of(x)) * shape_of(x)[-1],
)


def _polar_factor(a: Any) -> Any:
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    return u @ vh


def _polar_slope(v: Value, q: Value, a: Value) -> Value:
    """Return Q's slope for A = Q H: X H + H X = Qᵀ dA - dAᵀ Q with X = Qᵀ dQ; as a map it is symmetric."""
    m, n = shape_of(a)[-2:]
    if m < n:
        return matrix_transpose(_polar_slope(*map(matrix_transpose, (v, q, a))))
    q_t = matrix_transpose(q)
    h, inside = matmul(q_t, a), matmul(q_t, v)
    y = matmul(q, sylvester_of_symmetric(h, inside - matrix_transpose(inside)))
    return y if m == n else y + matmul(v - matmul(q, inside), inv(h))


# U Vᵀ of A = U S Vᵀ, and the sum of S, of which it is the slope. Of lower rank the sum has a kink.
polar_factor = general("polar_factor", _polar_factor, (_polar_slope, _polar_slope), flops=_flops)
nuclear_norm = general(
    "nuclear_norm",
    lambda a: np.sum(np.linalg.svd(a, compute_uv=False), axis=-1),
    (
        lambda a_dot, _y, a: sum_(polar_factor(a) * a_dot, (-2, -1)),
        lambda y_bar, _y, a: _along_columns(_along_columns(y_bar)) * polar_factor(a),
    ),
    kinks="rank below the smaller side: U Vᵀ",
    flops=_flops,
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
        x_last = transpose(x, axes=(*rest, row, column))
        y = nuclear_norm(x_last) if ord == "nuc" else extreme(singular_values(x_last), -1)
    else:
        raise ValueError(f"norm: ord={ord!r} is no norm of matrices: use 1, 2, inf, 'fro' or 'nuc'")
    shape = [1 if a in (row, column) else n for a, n in enumerate(shape_of(x))]
    if not keepdims:
        shape = [n for a, n in enumerate(shape) if a not in (row, column)]
    return reshape(y, shape=tuple(shape))


def cond(x: Value, p: Any = None) -> Value:
    """As `numpy.linalg.cond`, but for p other than 2 and -2 of regular matrices alone."""
    if p in (None, 2, -2):
        s = singular_values(x)
        ends = [gather(s, index=(..., i)) for i in (0, -1)]
        y = divide(*(reversed(ends) if p == -2 else ends))
    else:
        check_square("cond", x)
        y = norm(x, p, (-2, -1)) * norm(inv(x), p, (-2, -1))
    # What has no number, as of matrices of zeros, is infinite.
    return number(where(isnan(y) & ~np.isnan(x).any((-2, -1)), np.inf, y))


def vector_norm(x: Value, ord: float, axis: Any, *, keepdims: bool = False) -> Value:  # noqa: A002  # NumPy's
    """(Σ |x|^ord)^(1/ord), ord 0 and -inf included; where the sum is 0 the slope is taken to be 0."""
    if ord == 0:
        return sum_(astype(x != 0, dtype=dtype_of(x)), axes(x, axis), keepdims=keepdims)
    if ord == -np.inf:
        return min_(absolute(x), axes(x, axis), keepdims=keepdims)
    total = sum_(absolute(x) ** float(ord), axes(x, axis), keepdims=keepdims)
    zero = equal(total, 0)
    return where(zero, np.inf if ord < 0 else 0.0, where(zero, 1.0, total) ** (1.0 / ord))
