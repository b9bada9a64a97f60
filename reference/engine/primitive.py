"""Declare a differentiable operation in one place: its value and its slopes give both modes.

    square = elementwise("square", np.square, lambda y, x: 2.0 * x)

is a complete declaration. A primitive maps arrays to one array, y = f(x_1, ..., x_n; params), and
has a linear map J_k = ∂y/∂x_k for each argument. Forward mode needs J_k x_dot (`push`), reverse mode
J_kᵀ y_bar (`pull`). There are four ways to say both:

- `elementwise`: the slope ∂y/∂x_k of each argument, which is J_k's diagonal and serves both;
- `linear`: y is linear in the first argument, J is the primitive itself; give its transpose;
- `multilinear`: linear in each argument alone (a product); give one transpose for each;
- `general`: a pair (map, transpose) for each argument.

Rules are called with ``(y_bar or x_dot, y, x_1, ..., x_n, **params)``, slopes with the same without the
first, and are themselves written with primitives: applied to plain arrays they compute numbers,
applied to `Var`s they build the graph of the derivative, to be differentiated again. They need not
care for broadcasting or dtypes: `pull` sums a cotangent over axes that were broadcast, `push`
broadcasts a tangent, here and nowhere else. A rule that is None says: not differentiated in this
argument (an index, a label).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan, prod
from typing import Any

import numpy as np

from .var import Value, Var, dtype_of, ndarray, shape_of

Rule = Callable[..., Value]


@dataclass(frozen=True)
class Times:
    """A slope told by its product with a cotangent or tangent, where that takes fewer roundings."""

    rule: Rule

    def __call__(self, y: Value, *xs: Value, **params: Any) -> Value:
        """Return the slope."""
        return self.rule(1.0, y, *xs, **params)


# A slope that is 1 or -1 everywhere is given as the number: it costs no multiplication.
Slope = Rule | Times | int | None
ELEMENTARY = 10
FILLED = 4096  # elements: fewer are filled faster than viewed


@dataclass(frozen=True, eq=False, slots=True)
class Primitive:
    """One differentiable operation. Made by `elementwise`, `linear`, `multilinear`, `general`.

    Attributes
    ----------
    forward : computes y from ndarrays; often a NumPy ufunc.
    slopes, maps, transposes : one entry per argument; see the module's text. None for `slopes`
        says that the primitive is not elementwise.
    domain : open interval of the first argument on which y is defined.
    kinks : where the slope jumps: {point: slope taken there}, or a sentence.
    flops : floating-point operations per element of y, or a function of (y, *xs, **params). An
        addition, multiplication, division or square root counts 1, an elementary function 10
        (`ELEMENTARY`), comparing, choosing and changing signs nothing.
    source : how a compiled program writes the application, such as ``"{0}.dot({1}{out})"``, with
        params by name; ``{out}`` says that the result can go into a given array. May be a
        function of (*xs, **params). A ufunc needs none; without one the program calls `forward`.
    exact : what it means on any numbers, in plain NumPy, where `forward` is made for floats: for
        arithmetics that run NumPy's functions on arrays of their own.
    inline : `forward` is itself plain NumPy code that can be traced, in which a compiler may find
        common subexpressions.
    remembering : as `forward`, but returns (y, kept); the rules are then given ``kept=``, so as not to
        compute it again, or None where they must (in graphs and nested derivatives).
    variadic : any number of arguments, which share one rule; it is told which one by ``k=``.
    written : of a primitive whose result may be a view of its first argument x:
        ``written(x, v, **params)`` is x after v was written into the view.
    active : the arguments in which it is differentiated.
    """

    name: str
    forward: Callable[..., Any]
    slopes: tuple[Slope, ...] | None = None
    maps: tuple[Rule | None, ...] | _ForEach = ()
    transposes: tuple[Rule | None, ...] | _ForEach = ()
    domain: tuple[float, float] = (-inf, inf)
    kinks: Mapping[float, float] | str = ""
    flops: float | Callable[..., float] = 1
    source: str | Callable[..., str] = ""
    exact: Callable[..., Any] | None = None
    inline: bool = False
    remembering: Callable[..., tuple[Any, Any]] | None = None
    variadic: bool = False
    written: Callable[..., Value] | None = None
    active: Container[int] = field(init=False)

    def __post_init__(self) -> None:
        rules: Any = self.transposes
        active = range(sys.maxsize) if self.variadic else {k for k, r in enumerate(rules) if r}
        object.__setattr__(self, "active", active)
        if self.variadic:
            for name in ("maps", "transposes"):
                object.__setattr__(self, name, _ForEach(getattr(self, name)[0]))

    @property
    def differentiable(self) -> bool:
        """Whether there is a derivative in any argument."""
        return bool(self.active)

    def __call__(self, *args: Value, **params: Any) -> Value:
        """Apply to arrays, or, where an argument is a `Var`, let its trace apply it."""
        for arg in args:
            if type(arg) is Var:
                return arg.owner.apply(self, args, params)
        return self.forward(*args, **params)

    on = __call__  # by its name Python calls it in a third of the time

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def push(
        self, k: int, x_dot: Value, y: Value, xs: Sequence[Value], params: dict[str, Any]
    ) -> Value:
        """JVP: the tangent J_k x_dot, in the shape and dtype of y."""
        rule: Any = self.maps[k]  # not None: k is active
        return _broadcast_like(rule(x_dot, y, *xs, **params), y)

    def pull(
        self, k: int, y_bar: Value, y: Value, xs: Sequence[Value], params: dict[str, Any]
    ) -> Value:
        """VJP: the cotangent J_kᵀ y_bar, in the shape and dtype of x_k."""
        from .tracing import pull_back  # which rests on this module

        places = tuple(0 if i == k else None for i in range(len(xs)))
        return pull_back([(y, self, params, xs, places, ())], [1], [y_bar], 1)[0]

    def count_flops(self, y: Value, xs: Sequence[Value], params: dict[str, Any]) -> float:
        """Return the number of floating-point operations of one application."""
        if callable(self.flops):
            return self.flops(y, *xs, **params)
        return self.flops * prod(shape_of(y))


class _ForEach:
    """The one rule of a variadic primitive, which is told the argument, as one for each of them."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __getitem__(self, k: int) -> Rule:
        return functools.partial(self.rule, k=k)


def elementwise(
    name: str,
    forward: Callable[..., Any],
    *slopes: Slope,
    singular: bool = False,
    choosing: bool = False,
    **options: Any,
) -> Primitive:
    """Declare y_i = f(x_1i, ..., x_ni), with NumPy's broadcasting, by its slopes.

    `singular` says that a slope can be infinite or NaN at a point of the domain's closure; an exact
    zero cotangent (or tangent) then still gives zero, as it must for an unselected branch. `choosing`
    says that a slope of zero is that of an argument without any part in y, however steep it is itself.
    """
    plain = isinstance(forward, np.ufunc) and len(slopes) == 1
    rules = tuple(_scaling(slope, singular=singular, plain=plain) for slope in slopes)
    maps = tuple(map(_chosen, slopes)) if choosing else rules
    return Primitive(name, forward, slopes, maps, rules, **options)


def _chosen(slope: Any) -> Rule:
    return lambda x_dot, y, *xs, **params: scale_either(x_dot, slope(y, *xs, **params))


def unchanged(v: Value, *_: Any, **__: Any) -> Value:
    """Return the cotangent or tangent, which a slope of 1 leaves as it is."""
    return v


def _scaling(slope: Slope, *, singular: bool, plain: bool) -> Rule | None:
    """Make the rule that multiplies by the slope, which is both map and transpose.

    `plain`: of one argument and without parameters, which are quicker to pass on than any number.
    """
    if slope is None:
        return None
    if isinstance(slope, Times):
        return slope.rule
    if not callable(slope):
        return unchanged if slope == 1 else lambda v, *_, **__: -v
    if singular:

        def scaled(v: Value, y: Value, *xs: Value, **params: Any) -> Value:
            return scale(v, slope(y, *xs, **params))

        return (lambda v, y, x: scale(v, slope(y, x))) if plain else scaled
    if plain:
        return lambda v, y, x: v * slope(y, x)
    return lambda v, y, *xs, **params: v * slope(y, *xs, **params)


def linear(name: str, forward: Callable[..., Any], transpose: Rule, **options: Any) -> Primitive:
    """Declare y = A x, linear in the first argument, by its transpose; more arguments are data."""

    def apply(x_dot: Value, _y: Value, _x: Value, *data: Value, **params: Any) -> Value:
        return self(x_dot, *data, **params)

    # The two-entry tuples end in None: arguments from the second on are not differentiated.
    self = Primitive(name, forward, maps=(apply, None), transposes=(transpose, None), **options)
    return self


def multilinear(
    name: str, forward: Callable[..., Any], *transposes: Rule, **options: Any
) -> Primitive:
    """Declare y linear in each argument alone, by the transpose with respect to each."""

    def map_in(k: int) -> Rule:
        def apply(x_dot: Value, _y: Value, *xs: Value, **params: Any) -> Value:
            return self(*xs[:k], x_dot, *xs[k + 1 :], **params)

        return apply

    maps = tuple(map(map_in, range(len(transposes))))
    self = Primitive(name, forward, maps=maps, transposes=transposes, **options)
    return self


def general(
    name: str, forward: Callable[..., Any], *pairs: tuple[Rule, Rule] | None, **options: Any
) -> Primitive:
    """Declare y = f(x_1, ...) by (map, transpose) of its Jacobian in each argument."""
    maps = tuple(pair and pair[0] for pair in pairs)
    transposes = tuple(pair and pair[1] for pair in pairs)
    return Primitive(name, forward, maps=maps, transposes=transposes, **options)


def constant(name: str, forward: Callable[..., Any], **options: Any) -> Primitive:
    """Declare an operation with no derivative: comparisons, rounding, indices."""
    return Primitive(name, forward, flops=0, **options)


def of_pythons(primitive: Primitive) -> Primitive:
    """Return the same for Python's own numbers: the result is one too, which has no dtype beside an array."""
    forward = primitive.forward
    return replace(
        primitive, forward=lambda *xs: float(forward(*xs)), exact=primitive.exact or forward
    )


# The primitives that the engine itself needs to scale, sum and broadcast cotangents. ---------------


def has_nan(x: Any) -> bool:
    """Whether an element is NaN: argmax takes the first that is, in half the time of asking each."""
    return x.size > 0 and isnan(x.item(x.argmax()))


def _scale(v: Any, slope: Any) -> Any:
    product = np.multiply(v, slope)
    if has_nan(product):
        product = np.where(np.equal(v, 0), np.zeros_like(product), product)
    return product


def _exact_scale(v: Any, slope: Any) -> Any:
    product = np.multiply(v, slope)
    lost = np.isnan(product)
    if not lost.any():  # whether v is 0 need not be decided
        return product
    return np.where(lost, np.where(v == 0, 0, product), product)


def _scale_either(a: Any, b: Any) -> Any:
    product = _scale(a, b)
    if has_nan(product):
        product = np.where(np.equal(b, 0), np.zeros_like(product), product)
    return product


def _exact_scale_either(a: Any, b: Any) -> Any:
    product = _exact_scale(a, b)
    lost = np.isnan(product)
    return np.where(lost, np.where(b == 0, 0, product), product) if lost.any() else product


def _broadcast(x: Any, *, shape: tuple[int, ...], view: bool = False) -> Any:
    if view:  # laid out as NumPy does
        return np.broadcast_to(x, shape)
    y = np.empty(shape, dtype_of(x))
    if y.size > FILLED and shape_of(x):  # the memory is not touched
        return np.broadcast_to(x, shape)
    y[...] = x
    return y


def _converted(x: Any, *, dtype: Any) -> Any:
    # An array without axes stays one, into which a program may write; a number gives a number.
    return x.astype(dtype) if isinstance(x, np.ndarray) else np.asarray(x).astype(dtype)[()]


positive = elementwise("positive", np.positive, 1, flops=0)
multiply = elementwise("multiply", np.multiply, lambda _y, _a, b: b, lambda _y, a, _b: a)
# The product in which an exact zero of either wins.
scale_either: Primitive = elementwise(
    "scale_either",
    _scale_either,
    Times(lambda v, _y, _a, b: scale_either(v, b)),
    Times(lambda v, _y, a, _b: scale_either(v, a)),
    exact=_exact_scale_either,
)
# The product in which an exact zero cotangent v wins against an infinite or undefined slope; it is then 0
# whatever the slope is, which has no part in it.
scale = elementwise(
    "scale",
    _scale,
    lambda _y, _v, s: s,
    Times(lambda t, _y, v, _s: scale_either(t, v)),
    singular=True,
    exact=_exact_scale,
)

astype: Primitive = linear(
    "astype",
    _converted,
    lambda y_bar, _y, x, **_: astype(y_bar, dtype=dtype_of(x)),
    flops=0,
    exact=lambda x, *, dtype: x.astype(dtype),
)
broadcast_to: Primitive = linear(
    "broadcast_to",
    _broadcast,
    lambda y_bar, _y, _x, **_: y_bar,  # the engine's unbroadcast is the transpose
    flops=0,
)
reshape: Primitive = linear(
    "reshape",
    lambda x, *, shape: (x if isinstance(x, np.ndarray) else np.asarray(x)).reshape(shape),
    lambda y_bar, _y, x, **_: reshape(y_bar, shape=shape_of(x)),
    flops=0,
    source="{0}.reshape({shape})",
    written=lambda x, v, **_: reshape(v, shape=shape_of(x)),
)


def sum_transpose(y_bar: Value, _y: Value, x: Value, *, axis: Any, keepdims: bool = False) -> Value:
    """Spread a sum's cotangent over the axes that were summed."""
    shape = shape_of(x)
    if type(y_bar) is not np.ndarray:
        if not keepdims and shape_of(y_bar) != ():
            y_bar = reshape(y_bar, shape=kept(shape, axis))
        return broadcast_to(y_bar, shape=shape)
    return _broadcast(y_bar if keepdims else y_bar.reshape(kept(shape, axis)), shape=shape)


sum_over = linear(
    "sum",
    np.add.reduce,
    sum_transpose,
    flops=lambda _y, x, **_: float(prod(shape_of(x))),
    # NumPy 2.0 adds in another order where a result is given, unless memory's order is the axes'.
    source=lambda x, *, keepdims=False, **_: (
        f"np.add.reduce({{0}}, axis={{axis}}{', keepdims=True' if keepdims else ''}"
        f"{'{out}' if type(x) is np.ndarray and x.flags.c_contiguous else ''})"
    ),
)


@functools.lru_cache(maxsize=16)
def ones(shape: tuple[int, ...], dtype: str) -> Any:
    """Return ones, by which sums over rows or columns are products, the quickest way to them."""
    shared = np.ones(shape, dtype)
    shared.flags.writeable = False
    return shared


def _margin(x: Any, *, axis: int) -> Any:
    n, char = x.shape[axis], x.dtype.char
    if axis:
        return x.dot(ones((n, 1), char)) if type(x) is ndarray else x @ ones((n, 1), char)
    return ones((n,), char).dot(x) if type(x) is ndarray else ones((n,), char) @ x


# The sum of a matrix's rows, or of its columns as a column; rounded otherwise than `sum`, and quicker.
margin = linear(
    "margin",
    _margin,
    lambda y_bar, _y, x, **_: broadcast_to(y_bar, shape=shape_of(x)),
    flops=lambda _y, x, **_: float(prod(shape_of(x))),
    inline=True,
    exact=lambda x, *, axis: np.sum(x, axis=axis, keepdims=axis == 1),
)


def kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape after a reduction over `axis` that keeps the axes with length 1."""
    lengths = list(shape)
    for a in axis:
        lengths[a] = 1
    return tuple(lengths)


def unbroadcast(x_bar: Value, x: Value) -> Value:
    """Sum a cotangent over the axes along which x was broadcast, and give it x's dtype."""
    plain = type(x) is type(x_bar) is ndarray  # the usual case, quickly
    shape, found = (x.shape, x_bar.shape) if plain else (shape_of(x), shape_of(x_bar))
    if found != shape:
        if len(found) == 2 and shape in (found[1:], (found[0], 1)) and x_bar.dtype.char in "fd":
            x_bar = (_margin if plain else margin)(x_bar, axis=len(shape) - 1)
            return x_bar if plain and x_bar.dtype is x.dtype else _cast_like(x_bar, x)
        extra = len(found) - len(shape)
        axis = tuple(range(extra))
        if found[extra:] != shape:
            axis += tuple(extra + i for i, n in enumerate(shape) if n == 1 != found[extra + i])
        if axis:
            x_bar = sum_over(x_bar, axis=axis, keepdims=False)
        if shape_of(x_bar) != shape:
            x_bar = reshape(x_bar, shape=shape)
        if shape_of(x_bar) != shape:  # pragma: no cover
            raise ValueError(f"cotangent of shape {found} for an argument of shape {shape}")
    return _cast_like(x_bar, x)


def _broadcast_like(y_dot: Value, y: Value) -> Value:
    shape = shape_of(y)
    if shape_of(y_dot) != shape:
        y_dot = broadcast_to(y_dot, shape=shape)
    return _cast_like(y_dot, y)


def _cast_like(v: Value, x: Value) -> Value:
    dtype, found = dtype_of(x), dtype_of(v)
    if found is dtype and found.kind == "f":
        return v
    if found.kind == "c":
        raise TypeError(
            "a complex number among the values of a derivative: only real functions are "
            "differentiated here; write it with real and imaginary parts"
        )
    return v if found == dtype else astype(v, dtype=dtype)
