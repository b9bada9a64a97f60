"""LAX's vocabulary: how JAX's primitives say what the table of operations does.

``LAX`` maps names of primitives to functions of precise arrays; ``MOVES`` names those that only move
elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffverify.exact.formats import Array, Format
from ffverify.exact.operations import OPERATIONS, renamed
from ffverify.exact.programs import UnknownOperation, at_rows

_op = OPERATIONS.__getitem__

MOVES = frozenset(
    str.split("""
    broadcast_in_dim reshape transpose squeeze slice dynamic_slice dynamic_update_slice gather
    scatter concatenate pad rev split tile stack unstack
    """)
)


def _broadcast(x: Array, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> Array:
    new = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
    return np.broadcast_to(np.expand_dims(x, new), shape)


# Moves that NumPy makes alike: JAX would compile each for every shape.
BY_NUMPY: dict[str, Callable[..., Array]] = {
    "reshape": lambda x, *, new_sizes, dimensions=None, **_: (
        x if dimensions is None else x.transpose(dimensions)
    ).reshape(new_sizes),
    "transpose": lambda x, *, permutation, **_: x.transpose(permutation),
    "squeeze": lambda x, *, dimensions, **_: x.squeeze(tuple(dimensions)),
    "broadcast_in_dim": _broadcast,
}


def _identity(*xs: Any, **_: Any) -> Any:
    return list(xs) if len(xs) != 1 else xs[0]


def _mapped(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs, **_: operation(*xs)  # no parameter of the primitive changes it


def _folded(operation: Any) -> Callable[..., Any]:
    return lambda x, *, axes, **_: operation.reduce(x, axis=tuple(axes))


# What NumPy makes of integers and truth values as JAX does, up to the dtype, which has to be that of the
# result: loops count by them, and JAX would dispatch every step of each.
_AS_IN_NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal, "convert_element_type": np.asarray,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.bitwise_not,
}  # fmt: skip
ON_INTEGERS = {
    "reduce_and": _folded(np.bitwise_and), "reduce_or": _folded(np.bitwise_or),
    **{name: _mapped(operation) for name, operation in _AS_IN_NUMPY.items()},
}  # fmt: skip


def _scanned(operation: Callable[..., Any]) -> Callable[..., Any]:
    def accumulate(x: Any, *, axis: int, reverse: bool) -> Any:
        if not reverse:
            return operation(x, axis=axis)
        return np.flip(operation(np.flip(x, axis), axis=axis), axis)

    return accumulate


def _sort(*xs: Any, dimension: int, num_keys: int, **_: Any) -> list[Any]:
    if num_keys != 1:
        raise UnknownOperation("sort by several keys")
    order = np.argsort(xs[0], axis=dimension, kind="stable")
    return [np.take_along_axis(x, order, dimension) for x in xs]


def _top_k(x: Any, *, k: int, axis: int = -1, **_: Any) -> list[Any]:
    first = (*[slice(None)] * (axis % x.ndim), slice(k))
    order = np.argsort(-x, axis=axis, kind="stable")[first]
    return [np.take_along_axis(x, order, axis), order]


def _scattered(operation: Callable[..., Any]) -> Callable[..., Any]:
    def scatter(
        x: Any, indices: Any, updates: Any, *, dimension_numbers: Any, mode: Any, **_: Any
    ) -> Any:
        d = dimension_numbers
        windows = iter(d.update_window_dims)
        single = {*d.inserted_window_dims, *d.operand_batching_dims}
        sizes = [1 if i in single else updates.shape[next(windows)] for i in range(x.ndim)]
        gather = jax.lax.GatherDimensionNumbers(
            d.update_window_dims, d.inserted_window_dims, d.scatter_dims_to_operand_dims,
            d.operand_batching_dims, d.scatter_indices_batching_dims,
        )  # fmt: skip
        given = np.asarray(indices)
        key = (given.tobytes(), given.dtype, given.shape)
        positions = _positions(x.shape, key, gather, tuple(sizes), mode)
        inside = positions >= 0
        return operation(x, positions[inside], updates.reshape(-1)[inside])

    return scatter


@lru_cache(maxsize=64)
def _positions(
    shape: tuple[int, ...], indices: tuple[Any, ...], gather: Any, sizes: tuple[int, ...], mode: Any
) -> Array:
    """Give where JAX gathers the elements of an array from, raveled; -1 outside."""
    data, dtype, form = indices
    found = jax.lax.gather(
        jnp.arange(math.prod(shape)).reshape(shape),
        jnp.asarray(np.frombuffer(data, dtype).reshape(form)),
        gather, sizes, mode=mode, fill_value=-1,
    )  # fmt: skip
    return np.asarray(found).ravel()


def _convolution(
    x: Any, w: Any, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
    dimension_numbers: Any, feature_group_count: int, batch_group_count: int, **_: Any,
) -> Any:  # fmt: skip
    """Convolve: of every window a column, and a product of matrices for every group."""
    d = dimension_numbers
    x, w = np.transpose(x, d.lhs_spec), np.transpose(w, d.rhs_spec)
    by_dim = zip(
        x.shape[2:], w.shape[2:], window_strides, padding, lhs_dilation, rhs_dilation, strict=True
    )
    along = [_windows(*each) for each in by_dim]
    spatial, taps = [len(a) for a in along], math.prod(w.shape[2:])
    places, outside = np.zeros((1, 1), int), np.zeros((1, 1), bool)
    for a, size in zip(along, x.shape[2:], strict=True):
        shape = len(places) * len(a), places.shape[1] * a.shape[1]
        places = (places[:, None, :, None] * size + a[None, :, None, :]).reshape(shape)
        outside = (outside[:, None, :, None] | (a < 0)[None, :, None, :]).reshape(shape)
    (n, c), (o, inner) = x.shape[:2], w.shape[:2]
    numbers = np.concatenate([x.reshape(n, c, math.prod(x.shape[2:])), np.zeros((n, c, 1))], axis=2)
    windows = numbers[:, :, np.where(outside, -1, places).T]  # n, c, taps, windows
    features, batches = feature_group_count, batch_group_count
    columns = windows.reshape(batches, n // batches, features, inner * taps, len(places))
    kernels = w.reshape(batches, 1, features, o // (batches * features), inner * taps)
    found = np.swapaxes(kernels @ columns, 0, 1).reshape(n // batches, o, *spatial)
    return np.transpose(found, np.argsort(d.out_spec))


def _windows(
    size: int, taps: int, stride: int, padding: tuple[int, int], between: int, apart: int
) -> Array:
    """Give for every window along an axis where its taps are, -1 between elements or outside."""
    whole = max(0, (size - 1) * between + 1) + sum(padding)
    count = max(0, (whole - (taps - 1) * apart - 1) // stride + 1)
    at = np.arange(count)[:, None] * stride + np.arange(taps) * apart - padding[0]
    is_element = (at >= 0) & (at < size * between) & (at % between == 0)
    return np.where(is_element, at // between, -1)


def _in_fewer_bits(x: Any, *, exponent_bits: int, mantissa_bits: int, **_: Any) -> Any:
    largest = 2 ** (exponent_bits - 1) - 1
    name = f"{1 + exponent_bits + mantissa_bits} bits"
    return x.cast(Format(name, mantissa_bits + 1, 1 - largest, largest, "float64"))


def _lu(a: Any) -> list[Any]:
    packed, pivots = _op("lu")(a)
    permutation = at_rows(lambda p: _op("lu_permutation")(p, a.shape[-2]), [pivots])
    return [packed, pivots - 1, permutation]


LAX: dict[str, Callable[..., Any]] = renamed("lax", {
    "map": _mapped, "algebra": _mapped, "scan": _scanned, "scatter": _scattered,
    "reduce": lambda operation: lambda x, axes, **_: operation(x, axis=tuple(axes)) if axes else x,
    "place": lambda operation: lambda x, axes, **_: operation(x, axis=axes[0]),
}) | {
    "integer_pow": lambda x, y: x ** int(y), "clamp": lambda low, x, high: np.clip(x, low, high),
    "round": lambda x, rounding_method: (
        np.rint(x) if int(rounding_method) == 1 else np.sign(x) * np.floor(abs(x) + 0.5)),
    "sort": _sort, "top_k": _top_k,
    "lt_to": _mapped(np.less), "le_to": _mapped(np.less_equal),  # searches make all zeros one before
    "dot_general": lambda a, b, dimension_numbers, **_: _op("contract")(a, b, *dimension_numbers),
    "triangular_solve": lambda a, b, left_side, lower, transpose_a, unit_diagonal, **_: _op(
        "solve_triangular")(a, b, lower=lower, left=left_side, unit=unit_diagonal, transposed=transpose_a),
    "lu": _lu, "conv_general_dilated": _convolution, "reduce_precision": _in_fewer_bits,
    **dict.fromkeys(str.split(
        "convert_element_type stop_gradient copy copy_p optimization_barrier real name "
        "pvary device_put sharding_constraint"), _identity),
}  # fmt: skip
