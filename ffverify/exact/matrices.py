"""Matrix algebra of high-precision arrays, and matrices of balls as Arb itself holds them.

An ``arb_mat`` adds three times as fast as an object array of balls, and a product of two needs no
conversion; the elements of a product are converted once.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flint
import numpy as np

from .elements import boxed, midpoints
from .formats import Array

arb_mat = flint.arb_mat


def matrix_of(a: Array) -> Any:
    """Give an object array of balls as an Arb matrix."""
    return arb_mat(*a.shape, a.ravel().tolist())


def entries(matrix: Any) -> Array:
    """Give the elements of an Arb matrix as an object array."""
    return boxed(matrix.entries(), (matrix.nrows(), matrix.ncols()))


_SUMS: dict[np.ufunc, Any] = {np.add: operator.add, np.subtract: operator.sub}


def as_matrices(ufunc: np.ufunc, *operands: Any) -> Any:
    """Apply a ufunc to precise arrays of balls as Arb's matrices; None if that is no gain."""
    if len(operands) != 2:
        return None
    a, b = operands
    if ufunc is np.matmul and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        left, right = (matrix_of(x.values) if x.matrix is None else x.matrix for x in operands)
        return left * right
    if ufunc is np.multiply and 0 in (a.ndim, b.ndim):
        matrix, factor = (a, b) if b.ndim == 0 else (b, a)
        return None if matrix.matrix is None else matrix.matrix * factor.values[()]
    both = a.matrix is not None and b.matrix is not None and a.shape == b.shape
    return _SUMS[ufunc](a.matrix, b.matrix) if both and ufunc in _SUMS else None


def _over_stacks(function: Callable[..., Any], result: tuple[int, ...], *stacks: Array) -> Array:
    """Apply a function of matrices, with a result of one shape, to stacks of them."""
    batch = np.broadcast_shapes(*(s.shape[:-2] for s in stacks))
    out = np.empty((*batch, *result), dtype=object)
    full = [np.broadcast_to(s, (*batch, *s.shape[-2:])) for s in stacks]
    for i in np.ndindex(batch):
        out[i] = function(*(s[i] for s in full))
    return out


def products(a: Array, b: Array) -> Array:
    """Multiply stacks of matrices of balls; of floats NumPy does."""
    if object not in (a.dtype, b.dtype):
        return a @ b
    if b.ndim == 2:
        flat = matrix_of(a.reshape(math.prod(a.shape[:-1]), a.shape[-1])) * matrix_of(b)
        return boxed(flat.entries(), (*a.shape[:-1], b.shape[1]))
    (m, k), n = a.shape[-2:], b.shape[-1]
    stacks = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = (
        np.broadcast_to(x, (*stacks, *x.shape[-2:]))
        .reshape(math.prod(stacks), math.prod(x.shape[-2:]))
        .tolist()
        for x in (a, b)
    )
    found: list[Any] = []
    for x, y in zip(left, right, strict=True):
        found += (arb_mat(m, k, x) * arb_mat(k, n, y)).entries()
    return boxed(found, (*stacks, m, n))


def solve(a: Any, b: Any) -> Any:
    """Solve stacks of systems a x = b, b a stack of matrices."""
    return b.like(_over_stacks(a.arithmetic.solve, b.shape[-2:], a.values, b.values))


def det(a: Any) -> Any:
    """Give the determinants of a stack of matrices."""
    return a.like(_over_stacks(a.arithmetic.det, (), a.values))


def cholesky(a: Any) -> Any:
    """Factor a = L Lᵀ, column by column."""
    n = a.shape[-1]
    L: Any = np.zeros_like(a).copy()
    for j in range(n):
        row = L[..., j, :j]
        L[..., j, j] = np.sqrt(a[..., j, j] - np.sum(row * row, axis=-1))
        for i in range(j + 1, n):
            rest = a[..., i, j] - np.sum(L[..., i, :j] * row, axis=-1)
            L[..., i, j] = rest / L[..., j, j]
    return L


def contract(a: Any, b: Any, over: Any, batch: Any = ((), ())) -> Any:
    """Multiply and sum over pairs of axes; the result has batch axes, then a's, then b's others."""
    (over_a, over_b), (batch_a, batch_b) = over, batch
    free_a = [i for i in range(a.ndim) if i not in {*over_a, *batch_a}]
    free_b = [i for i in range(b.ndim) if i not in {*over_b, *batch_b}]
    size = math.prod(a.shape[i] for i in over_a)
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    stack = [a.shape[i] for i in batch_a]
    left = np.transpose(a, [*batch_a, *free_a, *over_a]).reshape(*stack, math.prod(rows), size)
    right = np.transpose(b, [*batch_b, *over_b, *free_b]).reshape(*stack, size, math.prod(columns))
    return (left @ right).reshape(*stack, *rows, *columns)


def solve_triangular(
    a: Any, b: Any, *, lower: bool, left: bool, unit: bool, transposed: bool = False
) -> Any:
    """Solve a x = b, or x a = b, by one triangle of a, with ones on its diagonal if ``unit``.

    By substitution; a singular system has no solution, whatever floats make of some of its rows: all is nan.
    """
    if not left:
        mirrored = solve_triangular(
            a, np.swapaxes(b, -1, -2), lower=lower, left=True, unit=unit, transposed=not transposed
        )
        return np.swapaxes(mirrored, -1, -2)
    if transposed:
        a, lower = np.swapaxes(a, -1, -2), not lower
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x: Any = np.broadcast_to(b, (*stack, *b.shape[-2:])).copy()
    for i in range(a.shape[-1]) if lower else reversed(range(a.shape[-1])):
        known = slice(None, i) if lower else slice(i + 1, None)
        terms = np.concatenate([x[..., [i], :], x[..., known, :]], axis=-2)
        factors = np.concatenate([np.ones_like(a[..., [i], [i]]), -a[..., i, known]], axis=-1)
        rest = factors[..., None, :] @ terms  # one sum, in whatever order
        x[..., [i], :] = rest if unit else rest / a[..., i, i, None, None]
    each = range(0 if unit else a.shape[-1])
    return x + np.sum(0 / a[..., each, each], axis=-1)[..., None, None]


def lu(a: Any) -> tuple[Any, Array]:
    """Factor a = P L U with partial pivoting: L and U in one matrix, and the pivots as LAPACK counts them.

    Which of two candidates of one size is the pivot is a matter of rounding: the product is a either way.
    """
    packed: Any = a.copy()
    *stack, rows, columns = a.shape
    pivots = np.zeros((*stack, min(rows, columns)), np.int32)
    for j in range(pivots.shape[-1]):
        sizes = np.nan_to_num(np.abs(midpoints(packed.values[..., j:, j])))
        chosen = j + np.argmax(sizes.reshape(*stack, rows - j), axis=-1)
        pivots[..., j] = chosen + 1
        packed = np.take_along_axis(packed, exchanged(stack, rows, j, chosen)[..., None], -2)
        below = packed[..., j + 1 :, j]
        # Where nothing is left to eliminate the pivot may be 0.
        done = np.all(below.values == 0, axis=-1)
        factors = below / np.where(done, 1, packed[..., j, j])[..., None]
        packed[..., j + 1 :, j] = factors
        row = packed[..., j, None, j + 1 :]
        packed[..., j + 1 :, j + 1 :] = packed[..., j + 1 :, j + 1 :] - factors[..., None] * row
    return packed, pivots


def exchanged(stack: Sequence[int], rows: int, j: int, chosen: Array) -> Array:
    """Give the order of rows, of each matrix of a stack, in which the j-th and a chosen one change places."""
    order = np.broadcast_to(np.arange(rows), (*stack, rows)).copy()
    order[..., j] = chosen
    np.put_along_axis(order, chosen[..., None], j, -1)
    return order


def permutation(pivots: Array, rows: int) -> Array:
    """Give which row of a each row of L U is, for the pivots of `lu`."""
    *stack, count = pivots.shape
    order = np.broadcast_to(np.arange(rows, dtype=np.int32), (*stack, rows))
    for j in range(count):
        order = np.take_along_axis(order, exchanged(stack, rows, j, pivots[..., j] - 1), -1)
    return order


def unpacked(packed: Any, pivots: Any) -> tuple[Array, Any, Any]:
    """Give P, L and U of `lu`."""
    rows, columns = packed.shape[-2:]
    k = min(rows, columns)
    lower = np.tril(np.ones((rows, k), bool), -1)
    L = np.where(lower, packed[..., :k], np.eye(rows, k))
    U = np.where(np.triu(np.ones((k, columns), bool)), packed[..., :k, :], 0)
    return np.swapaxes(np.eye(rows)[permutation(np.asarray(pivots), rows)], -1, -2), L, U
