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

from ffverify.exact.formats import Array
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
    order = np.argsort(-x, axis=axis, kind="stable")
    order = np.moveaxis(np.moveaxis(order, axis, -1)[..., :k], -1, axis)
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
    "lu": _lu,
    **dict.fromkeys(str.split(
        "convert_element_type stop_gradient copy copy_p reduce_precision optimization_barrier real name "
        "pvary device_put sharding_constraint"), _identity),
}  # fmt: skip
