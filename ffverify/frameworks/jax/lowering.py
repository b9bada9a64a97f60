"""Shadows of JAX programs: their jaxpr, run on exact numbers.

``lowered(fn, args)`` gives the program as a function of precise arrays. ``jit``, ``custom_jvp``,
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

from ffverify.exact.arrays import Arithmetic, HiddenRows, Plain, PreciseArray
from ffverify.exact.formats import dtype_name, is_floating
from ffverify.exact.moves import Move, marked, move
from ffverify.exact.operations import Value
from ffverify.exact.programs import UnknownOperation, listed
from ffverify.frameworks.line import Line, entering, in_format, moving, once

from . import FRAMEWORK
from .jaxprs import inside, laid_out, ran
from .operations import BY_NUMPY, LAX, MOVES, ON_INTEGERS


class Lowered:
    """A JAX program as a function of precise arrays; ``results`` have its results' shapes and formats."""

    def __init__(self, closed: Any) -> None:
        self.results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals]
        self._line = _laid_out(closed)

    def __call__(self, *given: Value) -> tuple[Any, ...]:  # noqa: D102 - see the class
        return tuple(self._line.exactly(given))


def lowered(fn: Callable[..., Any], args: Sequence[Any]) -> Lowered:
    """Give a JAX function at a point as a function of precise arrays (see `Framework.trace`)."""
    closed = jax.make_jaxpr(lambda *a: tuple(listed(fn(*a))))(*args)
    jaxpr, _ = partial_eval.dce_jaxpr(
        closed.jaxpr, [True] * len(closed.out_avals), instantiate=True
    )
    unknown = sorted(_unknown(jaxpr))
    if unknown:
        raise UnknownOperation(*unknown)
    return Lowered(closed.replace(jaxpr=jaxpr))


# ---------------------------------------------------------------------------------------------
# Interpretation
# ---------------------------------------------------------------------------------------------


def _laid_out(program: Any) -> Line:
    """Lay a jaxpr out; what it calls is part of it, without the rules, which would stay alive."""
    line = Line(len(program.in_avals), _plain)
    return line.giving(laid_out(line, program, range(len(program.in_avals)), _called, _added))


def _added(line: Line, equation: Any, takes: list[int]) -> Sequence[int]:
    """Add an equation to a line; what comes of indices that are the same in all runs is the same, too."""
    given, name = [line.values[i] for i in takes], equation.primitive.name
    if name in _CONTROL or any(x is None or is_floating(x) for x in given):
        return line.add(_step(equation), takes, len(equation.outvars))
    return list(map(line.constant, _bound(equation.primitive, given, equation.params)))


def _step(equation: Any) -> Callable[..., Sequence[Value]]:
    """Give what an equation does to values; it is told first of which arithmetic they are."""
    primitive, name, params = equation.primitive, equation.primitive.name, equation.params
    if name in _CONTROL:
        parts = {k: _lines(v) for k, v in params.items()}
        return lambda arithmetic, *xs: _CONTROL[name](
            lambda line, args: line.exactly(args, arithmetic), list(xs), **parts
        )
    formats = [dtype_name(v.aval) for v in equation.outvars]
    put = _moving(equation) if name in MOVES else None
    bound = once(lambda *xs: list(map(_plain, _bound(primitive, xs, params))))
    whole = None if _some(equation.outvars, jnp.floating) else ON_INTEGERS.get(name)

    def step(arithmetic: Arithmetic, *xs: Value) -> Sequence[Value]:
        kinds = set(map(type, xs))
        some = PreciseArray in kinds
        if Plain in kinds and not (some and (put or name in _OF_PLAIN)):
            raise HiddenRows(name)
        if not some and whole and all(x.dtype.kind in "biu" for x in xs):
            return [np.asarray(whole(*xs, **params)).astype(formats[0])]
        if not some:
            return [entering(o, arithmetic) for o in bound(*xs)]
        if put:
            return put(xs)
        result = LAX[name](*xs, **params)
        results = result if isinstance(result, list) else [result]
        return [in_format(r, f, arithmetic) for r, f in zip(results, formats, strict=True)]

    return step


def _bound(primitive: Any, xs: Sequence[Any], params: Any) -> list[Any]:
    """Let JAX run a primitive."""
    return ran(primitive, primitive.bind(*xs, **params))


def _lines(param: Any) -> Any:
    """Lay out the jaxprs among the parameters of control flow."""
    if isinstance(param, tuple):
        return tuple(map(_lines, param))
    return _laid_out(param) if hasattr(param, "jaxpr") else param


def _moving(equation: Any) -> Callable[..., Sequence[Value]]:
    """Let JAX move the labels of elements, and put the elements where the labels went."""
    primitive, params = equation.primitive, dict(equation.params)
    fill = params.get("fill_value")
    outside = math.nan if fill is None else float(fill)
    if "fill_value" in params:
        params["fill_value"] = -1

    def places(given: Sequence[Value]) -> list[Move]:
        numbers = marked(given)
        if len(numbers) == 1 and primitive.name in BY_NUMPY:
            return [move(BY_NUMPY[primitive.name](*numbers, **params))]
        return [move(o) for o in _bound(primitive, numbers, params)]

    return moving(places, outside)


def _plain(value: Any) -> Any:
    """Give an array as NumPy's, a key of random numbers as it is."""
    is_key = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.extended)
    return value if is_key else FRAMEWORK.to_numpy(value)


# What batches of truth values are taken by as they are.
_OF_PLAIN = frozenset({"select_n"})


def _called(equation: Any) -> Any:
    return next(iter(() if equation.primitive.name in _CONTROL else inside(equation)), None)


def _some(variables: Sequence[Any], kind: Any) -> bool:
    return any(jnp.issubdtype(getattr(v.aval, "dtype", int), kind) for v in variables)


def _loops(programs: Sequence[Any]) -> bool:
    return any(
        equation.primitive.name == "while" or _loops(inside(equation))
        for program in programs
        for equation in getattr(program, "jaxpr", program).eqns
    )


def _unknown(jaxpr: Any) -> set[str]:
    names: set[str] = set()
    for equation in jaxpr.eqns:
        name, inner = equation.primitive.name, inside(equation)
        for sub in inner:
            names |= _unknown(getattr(sub, "jaxpr", sub))
        if name == "custom_linear_solve" and _loops(inner):
            names.add(f"{name} by steps until it is near enough")  # its derivatives stop elsewhere
        if _some((*equation.invars, *equation.outvars), jnp.complexfloating):
            names.add(f"{name} on complex numbers")
        floating = _some(equation.invars, jnp.floating)
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
