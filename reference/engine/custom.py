"""Give a function a derivative rule of your own, whatever the function is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from .primitive import Primitive
from .transforms import Function
from .transforms import vjp as engine_vjp
from .var import Value, dtype_of, shape_of


def custom_rule(
    f: Function,
    *,
    vjp: Callable[..., Sequence[Value | None]] | None = None,  # noqa: A002, RUF100  # the term
    jvp: Callable[..., Value] | None = None,
) -> Function:
    """Give f, from arrays to one array, its own derivative rule; f itself may be any code.

    Parameters
    ----------
    vjp : ``vjp(y_bar, y, *args)`` returns one cotangent, or None for zero, per argument.
    jvp : ``jvp(tangents, y, *args)`` returns the tangent of y for a tuple of tangents.

    With only one of them the other is its transpose, found by differentiating it, since a rule is
    linear in its tangents or cotangents. A rule written with NumPy functions can be differentiated
    again.
    """
    if vjp is None and jvp is None:
        raise ValueError("custom_rule: give vjp=, jvp= or both")

    def map_(x_dot: Value, y: Value, *xs: Value, k: int) -> Value:
        if jvp is not None:
            zeros = [np.zeros(shape_of(x), dtype_of(x)) for x in xs]
            return jvp((*zeros[:k], x_dot, *zeros[k + 1 :]), y, *xs)
        y_zero = np.zeros(shape_of(y), dtype_of(y))
        return _transposed(lambda y_bar: transpose_(y_bar, y, *xs, k=k), y_zero)(x_dot)

    def transpose_(y_bar: Value, y: Value, *xs: Value, k: int) -> Value:
        if vjp is not None:
            x_bars = vjp(y_bar, y, *xs)
            if not isinstance(x_bars, tuple | list) or len(x_bars) != len(xs):
                raise TypeError(
                    f"custom_rule: vjp of {name} returned {x_bars!r}: return a tuple with one "
                    f"cotangent for each of the {len(xs)} arguments"
                )
            x_bar = x_bars[k]
            return np.zeros(shape_of(xs[k]), dtype_of(xs[k])) if x_bar is None else x_bar
        x_zero = np.zeros(shape_of(xs[k]), dtype_of(xs[k]))
        return _transposed(lambda x_dot: map_(x_dot, y, *xs, k=k), x_zero)(y_bar)

    name = getattr(f, "__name__", "custom")
    primitive = Primitive(name, f, maps=(map_,), transposes=(transpose_,), variadic=True)

    @functools.wraps(f, updated=())
    def with_rule(*args: Value) -> Value:
        return primitive(*args)

    return with_rule


def _transposed(linear_map: Callable[[Value], Value], at: Value) -> Callable[[Value], Value]:
    pullback = engine_vjp(linear_map, at)[1]
    return lambda v: pullback(v)[0]
