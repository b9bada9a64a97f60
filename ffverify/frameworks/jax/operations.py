"""LAX's vocabulary: how JAX's primitives say what the table of operations does.

``LAX`` maps names of primitives to functions of precise arrays; ``MOVES`` names those that only move
elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffverify.exact.arrays import PreciseArray
from ffverify.exact.operations import OPERATIONS
from ffverify.exact.programs import UnknownOperation

_op = OPERATIONS.__getitem__

MOVES = frozenset(
    str.split("""
    broadcast_in_dim reshape transpose squeeze expand_dims slice dynamic_slice dynamic_update_slice gather
    scatter concatenate pad rev split tile stack unstack
    """)
)


def _identity(*xs: Any, **_: Any) -> Any:
    return list(xs) if len(xs) != 1 else xs[0]


def _reduced(name: str) -> Callable[..., Any]:
    def reduce(x: Any, *, axes: Any, **_: Any) -> Any:
        return _op(name)(x, axis=tuple(axes)) if axes else x

    return reduce


def _arg(name: str) -> Callable[..., Any]:
    return lambda x, axes, index_dtype: _op(name)(x, axis=axes[0]).astype(index_dtype)


def _running(name: str) -> Callable[..., Any]:
    def accumulate(x: Any, *, axis: int, reverse: bool) -> Any:
        if not reverse:
            return _op(name)(x, axis=axis)
        return np.flip(_op(name)(np.flip(x, axis), axis=axis), axis)

    return accumulate


def _sort(*xs: Any, dimension: int, num_keys: int, **_: Any) -> list[Any]:
    if num_keys != 1:
        raise UnknownOperation("sort by several keys")
    order = np.argsort(xs[0], axis=dimension, kind="stable")
    return [np.take_along_axis(x, order, dimension) for x in xs]


def _top_k(x: Any, *, k: int, axis: int = -1, **_: Any) -> list[Any]:
    order = np.moveaxis(np.moveaxis(np.argsort(-x, axis=axis), axis, -1)[..., :k], -1, axis)
    return [np.take_along_axis(x, order, axis), order.astype(np.int32)]


def _scatter(name: str) -> Callable[..., Any]:
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
        numbers = jnp.arange(x.size).reshape(x.shape)
        found = jax.lax.gather(
            numbers, jnp.asarray(indices), gather, tuple(sizes), mode=mode, fill_value=-1
        )
        positions = np.asarray(found)
        inside = positions.ravel() >= 0
        return _op(name)(x, positions.ravel()[inside], updates.reshape(-1)[inside])

    return scatter


def _convert(x: Any, *, new_dtype: Any, **_: Any) -> Any:
    if jnp.issubdtype(new_dtype, jnp.floating):
        return x.astype(np.dtype(new_dtype).name) if isinstance(x, PreciseArray) else x
    return x.astype(new_dtype)


def _round(x: Any, *, rounding_method: Any) -> Any:
    if int(rounding_method) == 1:
        return np.rint(x)
    return np.sign(x) * np.floor(abs(x) + 0.5)


def _triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    unit_diagonal: bool,
    **_: Any,
) -> Any:
    n = a.shape[-1]
    keep = np.tril(np.ones((n, n), bool)) if lower else np.triu(np.ones((n, n), bool))
    a = np.where(keep, a, 0)
    a = np.where(np.eye(n, dtype=bool), 1, a) if unit_diagonal else a
    a = np.swapaxes(a, -1, -2) if transpose_a else a
    if left_side:
        return _op("solve")(a, b)
    return np.swapaxes(_op("solve")(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)


def _plain(name: str) -> Callable[..., Any]:
    """Give an operation that no parameter of the primitive changes."""
    function = _op(name)
    return lambda *xs, **_: function(*xs)


LAX: dict[str, Callable[..., Any]] = {
    theirs: _plain(ours)
    for theirs, ours in {
        "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative", "abs": "absolute",
        "add_any": "add", "pow": "power", "max": "maximum", "min": "minimum", "rem": "fmod",
        "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
        "atanh": "arctanh", "atan2": "arctan2", "eq": "equal", "ne": "not_equal", "lt": "less",
        "le": "less_equal", "gt": "greater", "ge": "greater_equal", "logistic": "sigmoid",
        "is_finite": "isfinite",
        "erf_inv": "erfinv", "bessel_i0e": "i0e", "bessel_i1e": "i1e", "select_n": "select",
        **{n: n for n in str.split(
            "add exp exp2 expm1 log log1p sin cos tan sinh cosh tanh sqrt rsqrt cbrt square sign floor ceil "
            "erf erfc lgamma digamma polygamma zeta")},
    }.items()
} | {
    "integer_pow": _op("integer_power"),
    "clamp": lambda low, x, high: _op("clip")(x, low, high),
    "round": _round, "convert_element_type": _convert,
    "dot_general": lambda a, b, dimension_numbers, **_: _op("contract")(a, b, *dimension_numbers),
    "reduce_sum": _reduced("sum"), "reduce_prod": _reduced("prod"), "reduce_max": _reduced("max"),
    "reduce_min": _reduced("min"), "argmax": _arg("argmax"), "argmin": _arg("argmin"),
    "cumsum": _running("cumsum"), "cumprod": _running("cumprod"), "cummax": _running("cummax"),
    "cummin": _running("cummin"), "cumlogsumexp": _running("logcumsumexp"), "sort": _sort, "top_k": _top_k,
    "scatter-add": _scatter("scatter_add"), "scatter_add": _scatter("scatter_add"),
    "scatter-mul": _scatter("scatter_multiply"), "scatter_mul": _scatter("scatter_multiply"),
    "scatter-max": _scatter("scatter_maximum"), "scatter_max": _scatter("scatter_maximum"),
    "scatter-min": _scatter("scatter_minimum"), "scatter_min": _scatter("scatter_minimum"),
    "triangular_solve": _triangular_solve, "cholesky": lambda a, **_: _op("cholesky")(a),
    **dict.fromkeys(str.split(
        "stop_gradient copy copy_p reduce_precision optimization_barrier real name pvary "
        "device_put sharding_constraint"), _identity),
}  # fmt: skip
