"""Products and linear algebra: matmul, affine, einsum, solve, cholesky, log-determinant.

Matrices are the last two axes, all axes before them are a batch, as in `numpy.linalg`.
Rules from Giles 2008, "Collected matrix derivative results for forward and reverse mode".
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ffverify.reference.engine.primitive import (
    Primitive,
    broadcast_to,
    constant,
    general,
    linear,
    multilinear,
    reshape,
)
from ffverify.reference.engine.tracing import View, linked, read_only
from ffverify.reference.engine.var import Value, as_array, dtype_of, ndarray, shape_of

from .elementary import where
from .reductions import sum_
from .shaping import (
    before,
    concatenate,
    getitem,
    number,
    pad_zeros,
    parted,
    scatter,
    setitem,
    transpose,
    with_memory,
)


def matrix_transpose(x: Value) -> Value:
    """Exchange the last two axes."""
    if x.ndim == 2:
        return x.T
    n = len(shape_of(x))
    return transpose(x, axes=(*range(n - 2), n - 1, n - 2))


def _column(v: Value) -> Value:
    return reshape(v, shape=(*shape_of(v), 1))


def _row(v: Value) -> Value:
    shape = shape_of(v)
    return reshape(v, shape=(*shape[:-1], 1, shape[-1]))


def _uncolumn(v: Value) -> Value:
    return reshape(v, shape=shape_of(v)[:-1])


def _flat_rows(v: Value) -> Value:
    shape = shape_of(v)
    return reshape(v, shape=(prod(shape[:-1]), shape[-1]))


def _matmul(a: Any, b: Any) -> Any:
    if type(a) is type(b) is ndarray and a.ndim == b.ndim == 2:  # the usual case, quickly
        return a.dot(b)
    return a.dot(b) if _is_dot(a, b) else np.matmul(a, b)


def _is_dot(a: Any, b: Any) -> bool:
    """Whether `ndarray.dot`, called in half the time, is the same product of the BLAS."""
    return type(a) is type(b) is np.ndarray and a.ndim in {1, 2} and b.ndim in {1, 2}


def _matmul_source(a: Value, b: Value) -> str:
    return "{0}.dot({1}{out})" if _is_dot(a, b) else "np.matmul({0}, {1}{out})"


def _product(a: Value, b: Value) -> Value:
    """Multiply matrices as `matmul` does, with nothing in between where nothing is traced."""
    return a.dot(b) if type(a) is type(b) is np.ndarray else matmul(a, b)


def _matmul_transpose_a(y_bar: Value, _y: Value, a: Value, b: Value, *_: Value) -> Value:
    if a.ndim == b.ndim == 2:
        return _product(y_bar, b.T)
    if a.ndim > 1 < b.ndim:
        return matmul(y_bar, matrix_transpose(b))
    if a.ndim == b.ndim == 1:
        return y_bar * b
    if b.ndim == 1:
        return _column(y_bar) * b
    return _uncolumn(matmul(b, _column(y_bar)))


def _matmul_transpose_b(y_bar: Value, _y: Value, a: Value, b: Value, *_: Value) -> Value:
    if a.ndim == b.ndim == 2:
        return _product(a.T, y_bar)
    if a.ndim == b.ndim == 1:
        return y_bar * a
    if b.ndim == 1:
        return _uncolumn(matmul(matrix_transpose(a), _column(y_bar)))
    if a.ndim == 1:
        return _column(a) * _row(y_bar)
    if a.ndim > 2 == b.ndim:  # sum over the batch inside one product
        a, y_bar = _flat_rows(a), _flat_rows(y_bar)
    return matmul(matrix_transpose(a), y_bar)


def _matmul_flops(y: Value, a: Value, _b: Value, *_: Value) -> float:
    return 2.0 * prod(shape_of(y)) * shape_of(a)[-1]


matmul: Primitive = multilinear(
    "matmul",
    _matmul,
    _matmul_transpose_a,
    _matmul_transpose_b,
    flops=_matmul_flops,
    source=_matmul_source,
)


def _affine(x: Any, W: Any, b: Any) -> Any:
    y = _matmul(x, W)
    inplace = type(y) is type(b) is np.ndarray and y.dtype is b.dtype and b.shape == y.shape[-1:]
    return np.add(y, b, y) if inplace else y + b


affine = general(
    "affine",
    _affine,
    (lambda x_dot, _y, _x, W, _b: matmul(x_dot, W), _matmul_transpose_a),
    (lambda W_dot, _y, x, _W, _b: matmul(x, W_dot), _matmul_transpose_b),
    (lambda b_dot, _y, _x, _W, _b: b_dot, lambda y_bar, _y, _x, _W, _b: y_bar),
    flops=lambda y, x, W, _b: _matmul_flops(y, x, W) + prod(shape_of(y)),
    source=lambda x, W, _b: f"np.add({_matmul_source(x, W)}, {{2}}{{out}})",
    exact=lambda x, W, b: x @ W + b,
)


def dot(a: Value, b: Value) -> Value:
    """As `numpy.dot`."""
    if not shape_of(a) or not shape_of(b):
        return a * b
    if len(shape_of(b)) <= 2:
        return matmul(a, b)
    return tensordot(a, b, axes=((-1,), (-2,)))


def outer(a: Value, b: Value) -> Value:
    """As `numpy.outer`."""
    return reshape(a, shape=(prod(shape_of(a)), 1)) * reshape(b, shape=(1, prod(shape_of(b))))


def outer_of_vectors(a: Value, b: Value) -> Value:
    """As `numpy.linalg.outer`, which takes no matrices."""
    if not len(shape_of(a)) == len(shape_of(b)) == 1:
        raise ValueError(f"outer: of vectors, not of shapes {shape_of(a)} and {shape_of(b)}")
    return outer(a, b)


def vecdot(a: Value, b: Value, axis: int = -1) -> Value:
    """As `numpy.vecdot`: along an axis of each, before they are broadcast."""
    ends = [
        transpose(x, axes=(*(i for i in range(x.ndim) if i != along), along))
        for x, along in ((x, len(before(x, axis))) for x in (a, b))
    ]
    n, m = (shape_of(x)[-1] for x in ends)
    if n != m:
        raise ValueError(f"vecdot: vectors of lengths {n} and {m}")
    return sum_(ends[0] * ends[1], -1)


def matvec(a: Value, v: Value) -> Value:
    """As `numpy.matvec`; indices say how many axes there are at least."""
    return matmul(a[..., :, :], v[..., :, None])[..., 0]


def vecmat(v: Value, a: Value) -> Value:
    """As `numpy.vecmat`."""
    return matmul(v[..., None, :], a[..., :, :])[..., 0, :]


def multi_dot(arrays: Sequence[Value]) -> Value:
    """As `numpy.linalg.multi_dot`, from left to right."""
    shapes = [shape_of(x) for x in arrays]
    if len(shapes) < 2:
        raise ValueError("multi_dot: of two arrays or more")
    ranks = [len(shape) for shape in shapes]
    if len(ranks) > 2 and not ({ranks[0], ranks[-1]} <= {1, 2} and {*ranks[1:-1]} == {2}):
        raise np.linalg.LinAlgError(
            f"multi_dot: of matrices, between vectors, not of shapes {shapes}"
        )
    return functools.reduce(dot, map(as_array, arrays))


def check_square(name: str, a: Value) -> None:
    """Raise NumPy's LinAlgError for what are no square matrices."""
    shape = shape_of(a)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise np.linalg.LinAlgError(f"{name}: of square matrices, not of shape {shape}")


def inner(a: Value, b: Value) -> Value:
    """As `numpy.inner`."""
    if not shape_of(a) or not shape_of(b):
        return a * b
    return number(tensordot(a, b, axes=((-1,), (-1,))))


def tensordot(a: Value, b: Value, axes: Any = 2) -> Value:
    """As `numpy.tensordot`, by one matrix product."""
    rank_a, rank_b = len(shape_of(a)), len(shape_of(b))
    if isinstance(axes, int):
        axes = (range(rank_a - axes, rank_a), range(axes))
    in_a, in_b = ([i] if np.ndim(i) == 0 else list(i) for i in axes)
    in_a = [normalize_axis_index(i, rank_a) for i in in_a]
    in_b = [normalize_axis_index(i, rank_b) for i in in_b]
    lengths = [[shape_of(x)[i] for i in axes] for x, axes in ((a, in_a), (b, in_b))]
    if lengths[0] != lengths[1]:
        raise ValueError(f"tensordot: axes of lengths {lengths[0]} are summed with {lengths[1]}")
    out_a = [i for i in range(rank_a) if i not in in_a]
    out_b = [i for i in range(rank_b) if i not in in_b]
    shape = tuple(shape_of(a)[i] for i in out_a) + tuple(shape_of(b)[i] for i in out_b)
    n = prod(shape_of(a)[i] for i in in_a)
    rows, columns = prod(shape_of(a)[i] for i in out_a), prod(shape_of(b)[i] for i in out_b)
    left = reshape(_as_array(a, (*out_a, *in_a)), shape=(rows, n))
    right = reshape(_as_array(b, (*in_b, *out_b)), shape=(n, columns))
    return reshape(matmul(left, right), shape=shape)


def _as_array(x: Value, axes: tuple[int, ...]) -> Value:
    return transpose(x, axes=axes) if axes else x  # a number has no axes to exchange


def kron(a: Value, b: Value) -> Value:
    """As `numpy.kron`."""
    n = max(len(shape_of(a)), len(shape_of(b)))
    (*rows,), (*columns,) = ((1,) * (n - len(shape_of(x))) + shape_of(x) for x in (a, b))
    left = reshape(a, shape=tuple(k for i in rows for k in (i, 1)))
    right = reshape(b, shape=tuple(k for i in columns for k in (1, i)))
    shape = tuple(i * j for i, j in zip(rows, columns, strict=True))
    return reshape(left * right, shape=shape)


def cross(
    a: Value,
    b: Value,
    axisa: int = -1,
    axisb: int = -1,
    axisc: int = -1,
    axis: int | None = None,
) -> Value:
    """As `numpy.cross`, of vectors with two or three components."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    parts = []
    for x, along in ((a, axisa), (b, axisb)):
        whole = before(x, along)
        n = shape_of(x)[along]
        if n not in (2, 3):
            raise ValueError(f"cross: vectors have 2 or 3 components, and these have {n}")
        parts.append([getitem(x, (*whole, i)) for i in range(n)] + [None] * (3 - n))
    (a0, a1, a2), (b0, b1, b2) = parts
    last = a0 * b1 - a1 * b0
    if a2 is None and b2 is None:
        return with_memory(last)

    def product(x: Value, y: Value) -> Value:
        return np.zeros(shape_of(last), dtype_of(last)) if x is None or y is None else x * y

    found = [product(a1, b2) - product(a2, b1), product(a2, b0) - product(a0, b2), last]
    y = concatenate(*map(_column, found), axis=-1)
    n = len(shape_of(y)) - 1
    order = list(range(n))
    order.insert(normalize_axis_index(axisc, n + 1), n)
    return transpose(y, axes=tuple(order))


def cross_of_three(a: Value, b: Value, *, axis: int = -1) -> Value:
    """As `numpy.linalg.cross`, of vectors with three components alone."""
    if not shape_of(a)[axis] == shape_of(b)[axis] == 3:
        raise ValueError("cross: vectors have 3 components: np.cross takes such with 2 as well")
    return cross(a, b, axis=axis)


def convolve(a: Value, v: Value, mode: str = "full") -> Value:
    """As `numpy.convolve`: of two vectors."""
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"convolve: mode={mode!r}: one of 'full', 'same', 'valid'")
    a, v = (reshape(x, shape=shape_of(x) or (1,)) for x in (a, v))
    if len(shape_of(a)) > 1 or len(shape_of(v)) > 1:
        raise ValueError(f"convolve: of vectors, not of shapes {shape_of(a)} and {shape_of(v)}")
    if shape_of(v)[0] > shape_of(a)[0]:
        a, v = v, a
    n, m = shape_of(a)[0], shape_of(v)[0]
    # Row i of the windows is a_i, a_{i-1}, ..., a_{i-m+1}, with zeros before and behind.
    padded = pad_zeros(a, widths=((m - 1, m - 1),))
    places = np.arange(n + m - 1)[:, None] + (m - 1) - np.arange(m)
    outside = (places < m - 1) | (places >= n + m - 1)  # where an infinite v is not to count
    y = sum_(where(outside, _zero(a), getitem(padded, places) * v), -1)
    if mode == "full":
        return y
    length = n if mode == "same" else n - m + 1
    start = (m - 1) // 2 if mode == "same" else m - 1
    return getitem(y, slice(start, start + length))


def correlate(a: Value, v: Value, mode: str = "valid") -> Value:
    """As `numpy.correlate`."""
    turned = getitem(v, slice(None, None, -1))
    if shape_of(v)[0] <= shape_of(a)[0]:
        return convolve(a, turned, mode)
    # The longer one is the second: NumPy turns the result round.
    return getitem(convolve(v, getitem(a, slice(None, None, -1)), mode), slice(None, None, -1))


def matrix_power(a: Value, n: int) -> Value:
    """As `numpy.linalg.matrix_power`."""
    n = operator.index(n)
    if n < 0:
        return matrix_power(inv(a), -n)
    check_square("matrix_power", a)
    if n == 0:
        return np.zeros(shape_of(a), dtype_of(a)) + np.eye(shape_of(a)[-1], dtype=dtype_of(a))
    if n == 1:
        return a  # itself, as NumPy does
    half = matrix_power(a, n // 2)
    y = matmul(half, half)
    return matmul(y, a) if n % 2 else y


# Einstein sums ---------------------------------------------------------------------------------------
def _einsum_map(x_dot: Value, _y: Value, *xs: Value, subscripts: str, k: int) -> Value:
    return einsum_explicit(*xs[:k], x_dot, *xs[k + 1 :], subscripts=subscripts)


def _einsum_transpose(y_bar: Value, _y: Value, *xs: Value, subscripts: str, k: int) -> Value:
    inputs, output = subscripts.split("->")
    labels = inputs.split(",")
    others = [(label, x) for i, (label, x) in enumerate(zip(labels, xs, strict=True)) if i != k]
    present = set(output).union(*(label for label, _ in others))
    reached = "".join(c for c in labels[k] if c in present)
    text = ",".join([output, *(label for label, _ in others)])
    x_bar = einsum_explicit(y_bar, *(x for _, x in others), subscripts=f"{text}->{reached}")
    # Labels that only this operand has were summed over: its cotangent is constant along them.
    shape = tuple(n if c in present else 1 for c, n in zip(labels[k], shape_of(xs[k]), strict=True))
    if len(reached) < len(shape):
        sizes = iter(shape_of(x_bar))
        x_bar = reshape(x_bar, shape=tuple(next(sizes) if c in present else 1 for c in labels[k]))
        x_bar = broadcast_to(
            x_bar,
            shape=tuple(max(m, n) for m, n in zip(shape_of(x_bar), shape_of(xs[k]), strict=True)),
        )
    return _at_least_as_long(x_bar, shape_of(xs[k]))


def _at_least_as_long(x_bar: Value, shape: tuple[int, ...]) -> Value:
    """Broadcast a cotangent along axes where only other operands had length 1, as NumPy lets them."""
    full = np.broadcast_shapes(shape_of(x_bar), shape)
    return x_bar if shape_of(x_bar) == full else broadcast_to(x_bar, shape=full)


def _einsum_flops(_y: Value, *xs: Value, subscripts: str) -> float:
    labels = subscripts.partition("->")[0].split(",")
    sizes = {
        c: n
        for label, x in zip(labels, xs, strict=True)
        for c, n in zip(label, shape_of(x), strict=True)
    }
    return float(len(xs) * prod(sizes.values()))


einsum_explicit = general(
    "einsum",
    lambda *xs, subscripts: np.einsum(subscripts, *xs),
    (_einsum_map, _einsum_transpose),
    variadic=True,
    flops=_einsum_flops,
    exact=lambda *xs, subscripts: np.einsum(subscripts, *xs),
)


def _in_letters(operands: tuple[Any, ...]) -> tuple[str, tuple[Value, ...]]:
    """Write lists of axes (``einsum(x, [0, 1], [1, 0])``) as letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"

    def label(axes: Any) -> str:
        return "".join("..." if a is Ellipsis else letters[a] for a in axes)

    text = ",".join(map(label, operands[1::2]))
    if len(operands) % 2:
        text = ",".join(map(label, operands[1:-1:2])) + "->" + label(operands[-1])
    return text, operands[: len(operands) - len(operands) % 2 : 2]


def einsum(subscripts: Any, *operands: Any, optimize: Any = False) -> Value:  # noqa: ARG001  # NumPy's
    """As `numpy.einsum`; repeated letters in one operand take a diagonal."""
    if not isinstance(subscripts, str):
        subscripts, operands = _in_letters((subscripts, *operands))
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    labels = inputs.split(",")
    if "..." in text:
        spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text]
        counts = [
            len(shape_of(x)) - len(label.replace("...", ""))
            for label, x in zip(labels, operands, strict=True)
        ]
        dots = spare[: max(counts)]
        labels = [
            label.replace("...", "".join(dots[len(dots) - n :]))
            for label, n in zip(labels, counts, strict=True)
        ]
        output = output.replace("...", "".join(dots))
    joined = "".join(labels)
    if not arrow:
        single = sorted(c for c in set(joined) if joined.count(c) == 1)
        output = "".join(single)
        if "..." in text:
            output = "".join(dots) + "".join(c for c in single if c not in dots)
    arrays = list(operands)
    for i, label in enumerate(labels):
        for c in sorted(set(label)):
            while labels[i].count(c) > 1:
                first = labels[i].index(c)
                second = labels[i].index(c, first + 1)
                n, m = (shape_of(arrays[i])[axis] for axis in (first, second))
                if n != m:
                    raise ValueError(f"einsum: '{c}' stands for axes of lengths {n} and {m}")
                arrays[i] = _diagonal(arrays[i], 0, first, second, _with_diagonal)
                labels[i] = (
                    labels[i][:first] + labels[i][first + 1 : second] + labels[i][second + 1 :] + c
                )
    alone = len(labels) == 1 and joined.isalpha()
    if alone and set(labels[0]) == set(output):  # nothing is summed: a view, as NumPy's
        return transpose(arrays[0], axes=tuple(map(labels[0].index, output)))
    return einsum_explicit(*arrays, subscripts=",".join(labels) + "->" + output)


def _with_diagonal(x: Value, v: Value, *, offset: int) -> Value:
    return setitem(x, _diagonal_index(shape_of(x), offset), v)


# Diagonals, triangles ----------------------------------------------------------------------------------
def diagonal(x: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """As `numpy.diagonal`: the diagonal becomes the last axis, which is not written into."""
    return _diagonal(x, offset, axis1, axis2, read_only)


def _diagonal_index(shape: tuple[int, ...], offset: int) -> tuple[Any, ...]:
    rows, columns = shape[-2:]
    i = np.arange(max(0, min(rows + min(offset, 0), columns - max(offset, 0))))
    return ..., i - min(offset, 0), i + max(offset, 0)


def _diagonal_transpose(y_bar: Value, _y: Value, x: Value, *, offset: int) -> Value:
    arrays, index = parted(_diagonal_index(shape_of(x), offset))
    return scatter(y_bar, *arrays, index=index, shape=shape_of(x))


# Of the last two axes; it is a view.
matrix_diagonal = linear(
    "matrix_diagonal",
    lambda x, *, offset: x.diagonal(offset, -2, -1),
    _diagonal_transpose,
    flops=0,
    source="{0}.diagonal({offset}, -2, -1)",
)


def _diagonal(
    x: Value, offset: int, axis1: int, axis2: int, written: Callable[..., Value]
) -> Value:
    rank = len(shape_of(x))
    axis1, axis2 = normalize_axis_tuple((axis1, axis2), rank)
    others = tuple(i for i in range(rank) if i not in (axis1, axis2))
    moved = transpose(x, axes=(*others, axis1, axis2))
    how = {"offset": operator.index(offset)}
    # As in NumPy a diagonal follows what is written into its matrix.
    return linked(matrix_diagonal(moved, **how), moved, View(matrix_diagonal, written), how)


def trace(x: Value, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Value:
    """As `numpy.trace`."""
    return sum_(diagonal(x, offset, axis1, axis2), axis=-1)


def tril(x: Value, k: int = 0) -> Value:
    """As `numpy.tril`."""
    return where(_triangle(x, k), x, _zero(x))


def triu(x: Value, k: int = 0) -> Value:
    """As `numpy.triu`."""
    return where(_triangle(x, k - 1), _zero(x), x)


def _triangle(x: Value, k: int) -> Any:
    rows, columns = (shape_of(x) * 2)[-2:]  # of a vector, NumPy makes a square matrix
    return np.tri(rows, columns, k, dtype=bool)


def _zero(x: Value) -> Any:
    return np.zeros((), dtype_of(x))


# Factorisations ----------------------------------------------------------------------------------------
def _cubic(_y: Value, a: Value, *_: Value) -> float:
    shape = shape_of(a)
    return prod(shape[:-2]) * float(shape[-1]) ** 3


def _solve_map_a(a_dot: Value, x: Value, a: Value, _b: Value) -> Value:
    return -solve_matrix(a, matmul(a_dot, x))


def _solve_transpose_a(x_bar: Value, x: Value, a: Value, _b: Value) -> Value:
    return -matmul(solve_matrix(matrix_transpose(a), x_bar), matrix_transpose(x))


solve_matrix: Primitive = general(
    "solve",
    np.linalg.solve,
    (_solve_map_a, _solve_transpose_a),
    (
        lambda b_dot, _x, a, _b: solve_matrix(a, b_dot),
        lambda x_bar, _x, a, _b: solve_matrix(matrix_transpose(a), x_bar),
    ),
    flops=_cubic,
)


def solve(a: Value, b: Value) -> Value:
    """As `numpy.linalg.solve`: x with a x = b; b is one vector or a stack of matrices."""
    if len(shape_of(b)) == 1:
        return _uncolumn(solve_matrix(a, _column(b)))
    return solve_matrix(a, b)


inv: Primitive = general(
    "inv",
    np.linalg.inv,
    (
        lambda a_dot, y, _a: -matmul(y, matmul(a_dot, y)),
        lambda y_bar, y, _a: -matmul(matrix_transpose(y), matmul(y_bar, matrix_transpose(y))),
    ),
    flops=lambda y, a: 2 * _cubic(y, a),
    exact=np.linalg.inv,
)
log_abs_det = general(
    "log_abs_det",
    lambda a: np.linalg.slogdet(a)[1],
    (
        lambda a_dot, _y, a: trace(solve_matrix(a, a_dot), axis1=-2, axis2=-1),
        lambda y_bar, _y, a: _column(_column(y_bar)) * matrix_transpose(inv(a)),
    ),
    flops=_cubic,
    exact=lambda a: np.log(abs(np.linalg.det(a))),
)


# Determinants: polynomials of the elements, which have slopes at singular matrices too --------------------
def _in_singular_vectors(a: Any, inside: Callable[[Any, Any, Any], Any]) -> Any:
    """Return det(U) det(V) U inside(S, U, Vᵀ) Vᵀ of A = U S Vᵀ: its cofactors are those of S, turned."""
    u, s, vh = np.linalg.svd(a)
    sign = np.rint(np.linalg.det(u) * np.linalg.det(vh))
    return sign[..., None, None] * (u @ inside(s, u, vh) @ vh)


def _products_of_others(s: Any, *, pairs: bool) -> Any:
    """Multiply all s but the i-th, or but i-th and j-th; zeros and powers of 2 are counted beside."""
    zero = s == 0
    mantissa, power = np.frexp(np.where(zero, 1, s))
    parts = [mantissa, power, zero.astype(int)]
    product, total, zeros = (x[..., None] for x in (mantissa.prod(-1), power.sum(-1), zero.sum(-1)))
    if pairs:
        product, total, zeros = (x[..., None] for x in (product, total, zeros))
        combine = (np.multiply, np.add, np.add)
        parts = [f(x[..., :, None], x[..., None, :]) for f, x in zip(combine, parts, strict=True)]
    mantissa, power, left_out = parts
    return np.where(left_out == zeros, np.ldexp(product / mantissa, total - power), 0)


def _cofactors(a: Any) -> Any:
    """By det(A) A⁻ᵀ, which loses nothing near a singular matrix (Stewart 1998), but at one."""
    d, eye = np.linalg.det(a)[..., None, None], np.eye(a.shape[-1], dtype=a.dtype)
    singular = d == 0
    y = d * np.swapaxes(np.linalg.inv(np.where(singular, eye, a)), -1, -2)
    if not singular.any():
        return y
    turned = _in_singular_vectors(
        a, lambda s, *_: eye * _products_of_others(s, pairs=False)[..., None]
    )
    return np.where(singular, turned, y)


def _cofactors_along(a: Any, e: Any) -> Any:
    def of_diagonal(s: Any, u: Any, vh: Any) -> Any:
        inside = np.swapaxes(u, -1, -2) @ e @ np.swapaxes(vh, -1, -2)
        eye = np.eye(s.shape[-1], dtype=s.dtype)
        others = np.where(eye, 0, _products_of_others(s, pairs=True))
        diagonal = others @ np.diagonal(inside, axis1=-2, axis2=-1)[..., None]
        return eye * diagonal - others * np.swapaxes(inside, -1, -2)

    return _in_singular_vectors(a, of_diagonal)


def _cofactors_along_slope(v: Value, _y: Value, a: Value, e: Value) -> Value:
    """Return the third differential, which is symmetric: map and transpose. A is regular."""

    def turned(c: Value, x: Value) -> Value:
        return _column(_column(trace(x, 0, -2, -1))) * c - matmul(c, matrix_transpose(x))

    b, c, c_dot = inv(a), cofactors(a), cofactors_along(a, v)
    along = matmul(b, e)
    return turned(c_dot, along) - turned(c, matmul(matmul(b, v), along))


def _exact_cofactors(a: Any, e: Any) -> tuple[Any, Any]:
    """Give them and their slope along e, by products alone (Faddeev & LeVerrier)."""
    eye = np.eye(a.shape[-1])
    m, m_dot = eye + 0 * a, 0 * (a + e)
    for k in range(1, a.shape[-1]):
        m, m_dot = a @ m, e @ m + a @ m_dot
        m, m_dot = (
            eye * np.sum(eye * x, axis=(-2, -1))[..., None, None] / k - x for x in (m, m_dot)
        )
    return np.swapaxes(m, -1, -2), np.swapaxes(m_dot, -1, -2)


# The slope of the second in A is of third order, and refused at singular matrices.
cofactors_along: Primitive = general(
    "cofactors_along",
    _cofactors_along,
    (_cofactors_along_slope, _cofactors_along_slope),
    (
        lambda e_dot, _y, a, _e: cofactors_along(a, e_dot),
        lambda y_bar, _y, a, _e: cofactors_along(a, y_bar),
    ),
    flops=lambda y, a, _e: 20 * _cubic(y, a),
    exact=lambda a, e: _exact_cofactors(a, e)[1],
)
cofactors: Primitive = general(
    "cofactors",
    _cofactors,
    (
        lambda a_dot, _y, a: cofactors_along(a, a_dot),
        lambda y_bar, _y, a: cofactors_along(a, y_bar),
    ),
    flops=lambda y, a: 3 * _cubic(y, a),
    exact=lambda a: _exact_cofactors(a, 0 * a)[0],
)
det = general(
    "det",
    np.linalg.det,
    (
        lambda a_dot, _y, a: sum_(cofactors(a) * a_dot, (-2, -1)),
        lambda y_bar, _y, a: _column(_column(y_bar)) * cofactors(a),
    ),
    flops=_cubic,
    exact=np.linalg.det,
)
sign_of_det = constant(
    "sign_of_det",
    lambda a: np.linalg.slogdet(a)[0],
    exact=lambda a: np.sign(np.linalg.det(a)),
)


class SignAndLog(NamedTuple):
    """What `slogdet` returns, with NumPy's names."""

    sign: Value
    logabsdet: Value


def slogdet(a: Value) -> SignAndLog:
    """As `numpy.linalg.slogdet`."""
    return SignAndLog(sign_of_det(a), log_abs_det(a))


def _lower_half(x: Value) -> Value:
    """Keep the lower triangle, and half of the diagonal."""
    n = shape_of(x)[-1]
    return x * (np.tri(n) - 0.5 * np.eye(n))


def symmetric(x: Value) -> Value:
    """Return the symmetric part."""
    return 0.5 * (x + matrix_transpose(x))


def _cholesky_map(a_dot: Value, l: Value, _a: Value) -> Value:  # noqa: E741  # A = L Lᵀ
    inside = solve_matrix(l, matrix_transpose(solve_matrix(l, symmetric(a_dot))))
    return matmul(l, _lower_half(inside))


def _cholesky_transpose(l_bar: Value, l: Value, _a: Value) -> Value:  # noqa: E741  # A = L Lᵀ
    l_t = matrix_transpose(l)
    inside = _lower_half(matmul(l_t, l_bar))
    return symmetric(
        matrix_transpose(solve_matrix(l_t, matrix_transpose(solve_matrix(l_t, inside))))
    )


def cholesky_factor(a: Value, *, upper: bool = False) -> Value:
    """As `numpy.linalg.cholesky`: of the lower triangle, or the upper one, alone."""
    return matrix_transpose(cholesky(matrix_transpose(a))) if upper else cholesky(a)


# The matrix is symmetric; its tangent and cotangent are taken as symmetric too (Murray 2016).
cholesky = general(
    "cholesky",
    np.linalg.cholesky,
    (_cholesky_map, _cholesky_transpose),
    flops=lambda y, a: _cubic(y, a) / 3,
)
