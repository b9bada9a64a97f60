"""Shadows of JAX programs: their jaxpr, run on exact numbers.

``trace(fn, args)`` gives the program as a function of precise arrays. ``jit``, ``custom_jvp``,
``custom_vjp``, checkpoints, ``cond``, ``scan`` and ``while`` are gone through; primitives that only
move elements are run by JAX itself, on labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray
from ffverify.exact.formats import is_floating
from ffverify.exact.moves import Move, arithmetic_of, marked, move, moved, moves_of
from ffverify.exact.operations import Value
from ffverify.exact.programs import Known, Program, UnknownOperation, at_rows, listed, remembered

from .operations import LAX, MOVES


def trace(fn: Callable[..., Any], args: Sequence[Any], known: Known) -> Program:
    """Trace a JAX function and give it as a function of precise arrays, one for all inputs of a kind.

    Raises
    ------
    UnknownOperation
        Naming the primitives that have no exact form.
    """
    return remembered(known, None, lambda: _lowered(fn, args))


def _lowered(fn: Callable[..., Any], args: Sequence[Any]) -> Program:
    closed = jax.make_jaxpr(lambda *a: tuple(listed(fn(*a))))(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(
        closed.jaxpr, [True] * len(closed.out_avals), instantiate=True
    )
    unknown = sorted(_unknown(jaxpr))
    if unknown:
        raise UnknownOperation(*unknown)
    jaxpr, consts = _bare(jaxpr), closed.consts
    places: dict[Any, Any] = {}

    def run(*given: Value) -> tuple[Any, ...]:
        arithmetic = arithmetic_of(given) or BALLS
        return tuple(_run(jaxpr, consts, given, arithmetic, places))

    return run


def _bare(jaxpr: Any) -> Any:
    """Give a jaxpr, closed or not, without the rules of custom functions: it would keep these alive."""
    if hasattr(jaxpr, "consts"):
        return jaxpr.replace(jaxpr=_bare(jaxpr.jaxpr))
    equations = []
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name not in _CONTROL and _called(params) is not None:
            params = {"jaxpr": _called(params)}
        inner = {k: _bare(params[k]) for k in _PROGRAMS if k in params}
        branches = {k: tuple(map(_bare, params[k])) for k in ("branches",) if k in params}
        equations.append(equation.replace(params=params | inner | branches))
    return jaxpr.replace(eqns=equations)


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _run(
    jaxpr: Any, consts: Sequence[Any], args: Sequence[Value], arithmetic: Arithmetic, places: Any
) -> list[Value]:
    values: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
    values.update(
        (v, _entering(c, arithmetic)) for v, c in zip(jaxpr.constvars, consts, strict=True)
    )

    def read(atom: Any) -> Value:  # a variable, or a literal, which has its value
        return _entering(atom.val, arithmetic) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        results = at_rows(
            lambda *xs, equation=equation: _apply(equation, list(xs), arithmetic, places),
            [read(v) for v in equation.invars],
        )
        values.update(zip(equation.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _apply(equation: Any, xs: list[Value], arithmetic: Arithmetic, places: Any) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name in _CONTROL:
        return _CONTROL[name](
            lambda inner, args: _run(inner.jaxpr, inner.consts, args, arithmetic, places),
            xs,
            **params,
        )
    called = _called(params)
    if called is not None:
        jaxpr, consts = getattr(called, "jaxpr", called), getattr(called, "consts", ())
        return _run(jaxpr, consts, xs, arithmetic, places)
    some = any(isinstance(x, PreciseArray) for x in xs)
    if any(isinstance(x, Plain) for x in xs) and not (some and name in _OF_PLAIN | MOVES):
        raise HiddenRows(name)
    if not some:
        out = equation.primitive.bind(*xs, **params)
        return [
            _entering(o, arithmetic)
            for o in (out if equation.primitive.multiple_results else [out])
        ]
    if name in MOVES:
        return _move(equation, xs, places)
    result = LAX[name](*xs, **params)
    results = result if isinstance(result, list) else [result]
    return [
        r.astype(v.aval.dtype.name) if isinstance(r, PreciseArray) and is_floating(v.aval) else r
        for r, v in zip(results, equation.outvars, strict=True)
    ]


def _move(equation: Any, xs: list[Value], places: Any) -> list[Value]:
    """Let JAX move the labels of elements, and put the elements where the labels went."""
    arrays = [x for x in xs if isinstance(x, PreciseArray)]
    fill = equation.params.get("fill_value")
    outside = math.nan if fill is None else float(fill)
    steady = len(arrays) == len(xs)
    found = places.get(id(equation)) if steady else None
    if found is None:
        params = dict(equation.params)
        if "fill_value" in params:
            params["fill_value"] = -1

        def find(given: Sequence[Value]) -> list[Move]:
            out = equation.primitive.bind(*marked(given, jnp.asarray), **params)
            return [move(o) for o in (out if equation.primitive.multiple_results else [out])]

        found = moves_of(find, xs)
        if steady:
            places[id(equation)] = found
    return [moved(arrays, by, outside) for by in found]


def _entering(value: Any, arithmetic: Arithmetic) -> Value:
    """Bring an array in: floats exactly, integers and booleans as they are."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.extended):
        return value  # a key of random numbers
    if jnp.issubdtype(jnp.result_type(value), jnp.complexfloating):
        raise UnknownOperation("complex numbers")
    if is_floating(value):
        return arithmetic.array(np.asarray(value).astype(np.float64))
    return np.asarray(value)


# What batches of truth values are taken by as they are.
_OF_PLAIN = frozenset({"select_n"})


def _called(params: Any) -> Any:
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in params:
            return params[key]
    return None


_PROGRAMS = ("jaxpr", "call_jaxpr", "fun_jaxpr", "cond_jaxpr", "body_jaxpr")


def _inner(params: Any) -> list[Any]:
    """Give all jaxprs that an equation runs."""
    found = [params[k] for k in _PROGRAMS if k in params]
    return [getattr(j, "jaxpr", j) for j in (*found, *params.get("branches", ()))]


def _unknown(jaxpr: Any) -> set[str]:
    names: set[str] = set()
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, _inner(equation.params)
        for sub in inner:
            names |= _unknown(sub)
        avals = [v.aval for v in (*equation.invars, *equation.outvars)]
        if any(jnp.issubdtype(getattr(a, "dtype", int), jnp.complexfloating) for a in avals):
            names.add(f"{name} on complex numbers")
        floating = any(
            jnp.issubdtype(getattr(v.aval, "dtype", int), jnp.floating) for v in equation.invars
        )
        if floating and not inner and name not in LAX and name not in MOVES:
            names.add(name)
    return names


# ---------------------------------------------------------------------------------------------
# Control flow
# ---------------------------------------------------------------------------------------------


def _scan(
    run: Callable[..., list[Value]], xs: list[Value], *, jaxpr: Any, length: int, num_consts: int,
    num_carry: int, reverse: bool, **_: Any,
) -> list[Value]:  # fmt: skip
    consts, rest = xs[:num_consts], xs[num_consts:]
    carry, sequences = rest[:num_carry], rest[num_carry:]
    stacked: list[list[Value]] = []
    for i in range(length)[:: -1 if reverse else 1]:
        out = run(jaxpr, [*consts, *carry, *(s[i] for s in sequences)])
        carry = out[:num_carry]
        stacked.append(out[num_carry:])
    steps = stacked[:: -1 if reverse else 1]
    return [*carry, *(np.stack(column) for column in zip(*steps, strict=True))]


def _while(
    run: Callable[..., list[Value]], xs: list[Value], *, cond_jaxpr: Any, body_jaxpr: Any,
    cond_nconsts: int, body_nconsts: int, **_: Any,
) -> list[Value]:  # fmt: skip
    of_condition = xs[:cond_nconsts]
    of_body = xs[cond_nconsts : cond_nconsts + body_nconsts]
    carry = xs[cond_nconsts + body_nconsts :]
    while bool(run(cond_jaxpr, [*of_condition, *carry])[0]):
        carry = run(body_jaxpr, [*of_body, *carry])
    return carry


def _cond(
    run: Callable[..., list[Value]], xs: list[Value], *, branches: Any, **_: Any
) -> list[Value]:
    which = min(max(int(xs[0]), 0), len(branches) - 1)
    return run(branches[which], xs[1:])


_CONTROL: dict[str, Callable[..., list[Value]]] = {"scan": _scan, "while": _while, "cond": _cond}
