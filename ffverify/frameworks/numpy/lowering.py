"""Shadows of NumPy programs: the reference engine's graph of them, run on exact numbers.

A program whose path depends on its values is not fixed at the traced point: plain NumPy code runs on
precise arrays by NumPy's own protocols, and its branches are decided anew at every point. So does a
program that the engine cannot trace (one that assigns to elements, say).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ffverify import reference
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray, by_rows
from ffverify.exact.formats import is_floating
from ffverify.exact.operations import OPERATIONS, Value, arithmetic_of, labels, moved
from ffverify.exact.programs import Program, UnknownOperation, listed
from ffverify.reference.primitives.shaping import ARRAY
from ffverify.reference.programs.graph import Graph, Node

_op = OPERATIONS.__getitem__


def trace(fn: Callable[..., Any], args: Sequence[Any]) -> Program:
    """Give a NumPy function as a function of precise arrays, fixed at a point where it must be.

    Raises
    ------
    UnknownOperation
        Naming what has no exact form.
    """

    def as_it_is(*given: Value) -> tuple[Any, ...]:
        return tuple(listed(fn(*given)))

    try:
        graph = reference.trace(fn, *args)
    except Exception as error:  # noqa: BLE001 - whatever the engine cannot trace
        return _trial(as_it_is, args, error)
    program = _interpreter(graph)
    if not graph.branches:
        return program
    try:
        return _trial(as_it_is, args, None)
    except UnknownOperation:
        return program


def _trial(program: Program, args: Sequence[Any], cause: Exception | None) -> Program:
    """Give back a program that runs on precise arrays here."""
    try:
        with BALLS.precision(64):
            program(*(BALLS.array(a) if is_floating(np.asarray(a)) else a for a in args))
    except ArithmeticError:
        return program  # undecided at this precision: it runs
    except Exception as error:
        name = str(cause or error).split(" has no derivative rule")[0]
        raise UnknownOperation(name) from error
    return program


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _interpreter(graph: Graph) -> Program:
    def run(*args: Value) -> tuple[Any, ...]:
        arithmetic = arithmetic_of(args) or BALLS
        values: dict[Node, Value] = dict(zip(graph.inputs, args, strict=True))
        values.update((n, _entering(n.value, arithmetic)) for n in graph.constants)
        for node in graph.nodes:
            values[node] = _apply(node, [values[x] for x in node.inputs], arithmetic)
        return tuple(values[node] for node in graph.outputs)

    return run


def _entering(value: Any, arithmetic: Arithmetic) -> Value:
    given = np.asarray(value)
    return arithmetic.array(given) if is_floating(given) else value


def _apply(node: Node, xs: list[Value], arithmetic: Arithmetic) -> Value:
    try:
        return _applied(node, xs, arithmetic)
    except HiddenRows:
        return by_rows(lambda *row: _applied(node, list(row), arithmetic), *xs)


def _applied(node: Node, xs: list[Value], arithmetic: Arithmetic) -> Value:
    primitive = node.primitive
    assert primitive is not None  # noqa: S101 - a node of the graph's nodes is an application
    if not any(isinstance(x, PreciseArray) for x in xs):
        if any(isinstance(x, Plain) for x in xs):
            raise HiddenRows(primitive.name)
        return _entering(primitive.forward(*xs, **node.params), arithmetic)
    if primitive.name in _MOVES:
        if any(isinstance(x, Plain) for x in xs):
            raise HiddenRows(primitive.name)
        arrays = [x for x in xs if isinstance(x, PreciseArray)]
        numbers = iter(labels(arrays))
        marked = [next(numbers) if isinstance(x, PreciseArray) else x for x in xs]
        return moved(arrays, primitive.forward(*marked, **node.params))
    if primitive.name in _ENGINE:
        return _ENGINE[primitive.name](*xs, **node.params)
    if primitive.name in OPERATIONS and isinstance(primitive.forward, np.ufunc):
        return _op(primitive.name)(*xs)
    # A caller's primitive (custom_rule) is plain NumPy: it runs on precise arrays as it is, or not at all.
    try:
        return primitive.forward(*xs, **node.params)
    except HiddenRows:
        raise
    except (AttributeError, TypeError) as error:
        raise UnknownOperation(f"{primitive.name}: {error}") from error


# Primitives that only move elements, or put zeros beside them: they run on labels.
_MOVES = frozenset(
    str.split("broadcast_to reshape transpose gather take_along pad_zeros concatenate")
)


def _scale(v: Any, slope: Any) -> Any:
    product = np.multiply(v, slope)
    lost = np.isnan(product)
    if not lost.any():  # whether v is 0 need not be decided
        return product
    return np.where(lost, np.where(v == 0, 0, product), product)


def _scatter(y: Any, *arrays: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    given = iter(arrays)
    place = tuple(next(given) if part is ARRAY else part for part in index)
    positions = np.arange(int(np.prod(shape))).reshape(shape)[place]
    return _op("scatter_add")(y.arithmetic.array(np.zeros(shape)), positions, y)


def _put_along(y: Any, indices: Any, *, axis: int, shape: tuple[int, ...]) -> Any:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    positions = np.take_along_axis(numbers, indices, axis)
    return _op("scatter_add")(y.arithmetic.array(np.zeros(shape)), positions, y)


def _minus_max(z: Any, *, axis: int) -> Any:
    return z - np.max(z, axis=axis, keepdims=True)


def _losers(d: Any, axis: int) -> Any:
    """Tell all but the first maximum."""
    place = np.argmax(d, axis=axis, keepdims=True)
    shape = [-1 if i == axis % d.ndim else 1 for i in range(d.ndim)]
    return np.arange(d.shape[axis]).reshape(shape) != place


def _softmax(z: Any, *, axis: int) -> Any:
    e = np.exp(_minus_max(z, axis=axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def _logsumexp(z: Any, *, axis: int, keepdims: bool) -> Any:
    rest = np.log(np.sum(np.exp(_minus_max(z, axis=axis)), axis=axis, keepdims=keepdims))
    return np.max(z, axis=axis, keepdims=keepdims) + rest


def _softmax_nll(z: Any, place: Any) -> Any:
    cost = _logsumexp(z, axis=-1, keepdims=False)
    return cost - z.reshape(-1)[place].reshape(cost.shape)


def _put_at(x: Any, v: Any, place: Any) -> Any:
    at_place = np.zeros(x.shape, bool)
    at_place.reshape(-1)[place] = True
    row = np.cumsum(at_place.reshape(-1)).reshape(x.shape) - 1  # of the place last passed
    return np.where(at_place, v[row] if np.ndim(v) else v, x)


def _gauss(z: Any) -> Any:
    return np.exp(-z * z)


def _normal(z: Any) -> Any:
    """Density of the standard normal distribution."""
    return np.exp(-z * z / 2) / np.sqrt(8 * np.arctan(np.ones_like(z)))


def _tanh_form(z: Any) -> tuple[Any, Any]:
    """Give u = √(8/π) (z + 0.044715 z³) and du/dz, as in gelu's tanh form z σ(u)."""
    k = np.sqrt(2 / np.arctan(np.ones_like(z)))
    return k * (z + 0.044715 * z**3), k * (1 + 3 * 0.044715 * z**2)


def _bump(z: Any) -> Any:
    return _op("sigmoid")(z) * _op("sigmoid")(-z)


def _silu_slope(z: Any) -> Any:
    return _op("sigmoid")(z) + z * _bump(z)


def _mish_slope(z: Any) -> Any:
    t = np.tanh(np.log1p(np.exp(z)))
    return t + z * (1 - t * t) * _op("sigmoid")(z)


def _gelu_tanh_slope(z: Any) -> Any:
    u, u_dot = _tanh_form(z)
    return _op("sigmoid")(u) + z * _bump(u) * u_dot


# The engine's own primitives, as mathematics: their code is made for floats.
_ENGINE: dict[str, Callable[..., Any]] = {
    "scale": _scale,
    "scatter": _scatter,
    "put_along": _put_along,
    "sum": lambda x, axis, keepdims=False: np.sum(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims),
    "all": lambda x, axis=None, keepdims=False: np.all(x != 0, axis=axis, keepdims=keepdims),
    "any": lambda x, axis=None, keepdims=False: np.any(x != 0, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    "norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "minus_max": _minus_max,
    "sum_of_losers": lambda e, d, axis: np.sum(
        np.where(_losers(d, axis), e, 0), axis=axis, keepdims=True
    ),
    "softmax": _softmax,
    "log_softmax": lambda z, axis: z - _logsumexp(z, axis=axis, keepdims=True),
    "logsumexp": _logsumexp,
    "softmax_nll": _softmax_nll,
    "replaced": _put_at,
    "astype": lambda x, dtype: x.astype(dtype),
    "to_integer": lambda x, dtype: x.astype(dtype),
    "where": lambda condition, x, y: _op("select")(condition, y, x),
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "power_number": lambda x, p: x**p,
    "power": np.power,
    "einsum": lambda *xs, subscripts: np.einsum(subscripts, *xs),
    "matmul": np.matmul,
    "affine": lambda x, W, b: x @ W + b,
    "inv": np.linalg.inv,
    "cholesky": _op("cholesky"),
    "det": np.linalg.det,
    "log_abs_det": lambda a: np.log(abs(np.linalg.det(a))),
    "sign_of_det": lambda a: np.sign(np.linalg.det(a)),
    "argmax": lambda x, axis=None, keepdims=False: np.argmax(x, axis=axis, keepdims=keepdims),
    "argmin": lambda x, axis=None, keepdims=False: np.argmin(x, axis=axis, keepdims=keepdims),
    "argsort": lambda x, axis: np.argsort(x, axis=axis),
    "cumsum": lambda x, axis: np.cumsum(x, axis=axis),
    "solve": _op("solve"),
    "logical_xor": lambda x, y: np.not_equal(x, 0) ^ np.not_equal(y, 0),
    "relu": lambda z: np.maximum(z, 0),
    "prelu": lambda z, alpha: np.where(z > 0, z, alpha * z),
    "hard_swish": lambda z: z * np.clip(z + 3, 0, 6) / 6,
    "sigmoid": _op("sigmoid"),
    "sigmoid_slope": _bump,
    "tanh_slope": lambda z: 1 / np.cosh(z) ** 2,
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-abs(z))),
    "softsign": lambda z: z / (1 + abs(z)),
    "tanhshrink": lambda z: z - np.tanh(z),
    "silu": lambda z: z * _op("sigmoid")(z),
    "silu_slope": _silu_slope,
    "mish": lambda z: z * np.tanh(np.log1p(np.exp(z))),
    "mish_slope": _mish_slope,
    "gauss": _gauss,
    "erf": _op("erf"),
    "erfc": _op("erfc"),
    "gelu": lambda z: z * _op("ndtr")(z),
    "gelu_slope": lambda z: _op("ndtr")(z) + z * _normal(z),
    "gelu_tanh": lambda z: z * _op("sigmoid")(_tanh_form(z)[0]),
    "gelu_tanh_slope": _gelu_tanh_slope,
}
