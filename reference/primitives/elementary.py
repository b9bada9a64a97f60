"""The elementwise primitives of arithmetic and of calculus, one declaration each.

Every slope is written so that it keeps its relative accuracy wherever the function is defined: no
1 - y² near |y| = 1, no x² that overflows where the slope does not.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import (
    ELEMENTARY,
    Primitive,
    _converted,
    _exact_scale,
    _scale,
    astype,
    constant,
    elementwise,
    general,
    multiply,
    positive,
    scale,
)
from ffverify.reference.engine.var import PYTHONS, Value

__all__ = ["astype", "multiply", "positive", "scale"]  # declared with the engine, in primitive.py

LN2, LN10 = float(np.log(2.0)), float(np.log(10.0))

# Arithmetic ------------------------------------------------------------------------------------
add = elementwise("add", np.add, 1, 1)
subtract = elementwise("subtract", np.subtract, 1, -1)
# In slopes it divides by arguments, of which Python's own 0 would raise: of NumPy's the slope is infinite.
divide: Primitive = elementwise(
    "divide", np.divide, lambda _y, _a, b: divide(1.0, b), lambda y, _a, b: -y / b, singular=True
)
negative = elementwise("negative", np.negative, -1, flops=0)
square = elementwise("square", np.square, lambda _y, x: 2.0 * x)
reciprocal = elementwise("reciprocal", np.reciprocal, lambda y, _x: -y * y, singular=True)
remainder = elementwise(
    "remainder",
    np.remainder,
    1,
    lambda _y, a, b: -floor_divide(a, b),
    kinks="a/b an integer: jumps",
)
sqrt = elementwise("sqrt", np.sqrt, lambda y, _x: 0.5 / y, domain=(0, inf), singular=True)
cbrt = elementwise(
    "cbrt", np.cbrt, lambda y, _x: 1.0 / (3.0 * y * y), singular=True, flops=ELEMENTARY
)
hypot: Primitive = elementwise(
    "hypot",
    np.hypot,
    lambda _y, a, b: hypot_slope(a, b),
    lambda _y, a, b: hypot_slope(b, a),
    kinks="a = b = 0: slope 0",
    flops=4,
)


def _ratio_or_zero(a: Value, b: Value) -> Value:
    zero = equal(b, 0)
    return where(zero, 0.0, divide(a, where(zero, 1.0, b)))


# a / hypot(a, b), of which 1/h - a²/h³ would cancel where b is small.
hypot_slope: Primitive = elementwise(
    "hypot_slope",
    lambda a, b: _ratio_or_zero(a, np.hypot(a, b)),
    lambda _y, a, b: _ratio_or_zero(square(hypot_slope(b, a)), hypot(a, b)),
    lambda y, a, b: _ratio_or_zero(-y * hypot_slope(b, a), hypot(a, b)),
    kinks="a = b = 0: 0",
    flops=6,
    exact=lambda a, b: _ratio_or_zero(a, np.hypot(a, b)),
    inline=True,
)


# Powers: right at 0 to second order, also mixed, and where log x does not exist. ----------------------


def _raised(x: Any, p: Any) -> Any:
    if type(x) in PYTHONS and type(p) in PYTHONS:
        return float(
            np.float64(x) ** p
        )  # of theirs 0.0**-1 would raise, and (-1.0)**0.5 be complex
    return x**p


def _power_log(x: Any, p: Any) -> Any:
    # 0**p is 0 for every p > 0, so its slope there is 0; 0**0 = 1 is a jump, and 0 is taken.
    flat = np.logical_and(np.equal(x, 0), np.greater_equal(p, 0))
    return np.where(flat, 0.0, _raised(x, p) * np.log(np.where(flat, 1.0, x)))


def _power_mixed(x: Any, p: Any) -> Any:
    # In one product: x^(p-1) + p x^(p-1) log x would be inf - inf at 0.
    return _scale(_raised(x, p - 1.0), _scale(p, np.log(x)) + 1.0)


power: Primitive = elementwise(
    "power",
    np.power,
    lambda _y, x, p: power_slope(x, p),
    lambda _y, x, p: power_log(x, p),
    singular=True,
    flops=ELEMENTARY,
)
# The operator x**p, which takes the square root for p = 1/2, the square for 2, and so on, where `numpy.power`
# does not: they differ in the last bit, and at -0.0 and -inf.
power_operator = elementwise(
    "power_operator",
    _raised,
    lambda _y, x, p: power_slope(x, p),
    lambda _y, x, p: power_log(x, p),
    singular=True,
    flops=ELEMENTARY,
    exact=np.power,
)
# p x^(p-1) and x^p log x, the slopes in x and in p. The first is 0 for p = 0, also at x = 0.
power_slope: Primitive = elementwise(
    "power_slope",
    lambda x, p: _scale(p, _raised(x, p - 1.0)),
    lambda _y, x, p: scale(p, power_slope(x, p - 1.0)),
    lambda _y, x, p: power_mixed(x, p),
    singular=True,
    flops=ELEMENTARY,
    exact=lambda x, p: _exact_scale(p, np.power(x, p - 1)),
)
power_log: Primitive = elementwise(
    "power_log",
    _power_log,
    lambda _y, x, p: power_mixed(x, p),
    lambda y, x, _p: scale(y, log(x)),
    singular=True,
    flops=2 * ELEMENTARY,
    exact=lambda x, p: _exact_scale(np.power(x, p), np.log(x)),
)
# The slope of the one in p and of the other in x.
power_mixed: Primitive = elementwise(
    "power_mixed",
    _power_mixed,
    lambda _y, x, p: scale(power(x, p - 2.0), scale(p, 2.0 + scale(p - 1.0, log(x))) - 1.0),
    lambda _y, x, p: scale(power(x, p - 1.0), log(x) * (scale(p, log(x)) + 2.0)),
    singular=True,
    flops=2 * ELEMENTARY,
    exact=lambda x, p: _exact_scale(np.power(x, p - 1), _exact_scale(p, np.log(x)) + 1),
)
# The operator with a number p that is the same for every element; p is no operand, so it has no slope.
power_number: Primitive = elementwise(
    "power_number",
    lambda x, *, p: _raised(x, p),
    lambda _y, x, *, p: 0.0 if p == 0 else p * power_number(x, p=p - 1),
    singular=True,
    flops=ELEMENTARY,
    exact=lambda x, *, p: x**p,
)

float_power = elementwise(
    "float_power",
    np.float_power,
    lambda _y, x, p: power_slope(x, p),
    lambda _y, x, p: power_log(x, p),
    singular=True,
    flops=ELEMENTARY,
)

# Exponentials, logarithms ------------------------------------------------------------------------
exp = elementwise("exp", np.exp, lambda y, _x: y, flops=ELEMENTARY)
exp2 = elementwise("exp2", np.exp2, lambda y, _x: y * LN2, flops=ELEMENTARY)
expm1 = elementwise(
    "expm1", np.expm1, lambda _y, x: exp(x), flops=ELEMENTARY
)  # y + 1 would be 0 below -38
log: Primitive = elementwise(
    "log", np.log, lambda _y, x: divide(1.0, x), domain=(0, inf), singular=True, flops=ELEMENTARY
)
log2 = elementwise(
    "log2",
    np.log2,
    lambda _y, x: divide(1.0, x * LN2),
    domain=(0, inf),
    singular=True,
    flops=ELEMENTARY,
)
log10 = elementwise(
    "log10",
    np.log10,
    lambda _y, x: divide(1.0, x * LN10),
    domain=(0, inf),
    singular=True,
    flops=ELEMENTARY,
)
log1p = elementwise(
    "log1p",
    np.log1p,
    lambda _y, x: divide(1.0, 1.0 + x),
    domain=(-1, inf),
    singular=True,
    flops=ELEMENTARY,
)

# Trigonometric and hyperbolic functions; tanh is with the activations ---------------------------
sin = elementwise("sin", np.sin, lambda _y, x: cos(x), flops=ELEMENTARY)
cos: Primitive = elementwise("cos", np.cos, lambda _y, x: -sin(x), flops=ELEMENTARY)
tan = elementwise("tan", np.tan, lambda y, _x: 1.0 + y * y, flops=ELEMENTARY)
sinh = elementwise("sinh", np.sinh, lambda _y, x: cosh(x), flops=ELEMENTARY)
cosh: Primitive = elementwise("cosh", np.cosh, lambda _y, x: sinh(x), flops=ELEMENTARY)
arcsin = elementwise(
    "arcsin",
    np.arcsin,
    lambda _y, x: 1.0 / sqrt((1.0 - x) * (1.0 + x)),
    domain=(-1, 1),
    singular=True,
    flops=ELEMENTARY,
)
arccos = elementwise(
    "arccos",
    np.arccos,
    lambda _y, x: -1.0 / sqrt((1.0 - x) * (1.0 + x)),
    domain=(-1, 1),
    singular=True,
    flops=ELEMENTARY,
)
arctan = elementwise(
    "arctan", np.arctan, lambda _y, x: square(1.0 / hypot(1.0, x)), flops=ELEMENTARY
)
arctan2 = elementwise(
    "arctan2",
    np.arctan2,
    lambda _y, a, b: _ratio_or_zero(_ratio_or_zero(b, hypot(a, b)), hypot(a, b)),
    lambda _y, a, b: -_ratio_or_zero(_ratio_or_zero(a, hypot(a, b)), hypot(a, b)),
    kinks="a = 0, b <= 0: jumps",
    flops=ELEMENTARY,
)
arcsinh = elementwise("arcsinh", np.arcsinh, lambda _y, x: 1.0 / hypot(1.0, x), flops=ELEMENTARY)
arccosh = elementwise(
    "arccosh",
    np.arccosh,
    lambda _y, x: 1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)),
    domain=(1, inf),
    singular=True,
    flops=ELEMENTARY,
)
arctanh = elementwise(
    "arctanh",
    np.arctanh,
    lambda _y, x: divide(1.0, (1.0 - x) * (1.0 + x)),
    domain=(-1, 1),
    singular=True,
    flops=ELEMENTARY,
)

DEGREE = float(np.pi / 180)
deg2rad = elementwise(
    "deg2rad",
    np.deg2rad,
    lambda _y, _x: DEGREE,
    exact=lambda x: x * np.arctan(np.ones_like(x)) / 45,
)
rad2deg = elementwise(
    "rad2deg",
    np.rad2deg,
    lambda _y, _x: 1 / DEGREE,
    exact=lambda x: x * 45 / np.arctan(np.ones_like(x)),
)

# Choices: at a tie each side gets half, which is a subgradient ----------------------------------
absolute = elementwise("absolute", np.absolute, lambda _y, x: sign(x), kinks={0.0: 0.0})
maximum = elementwise(
    "maximum",
    np.maximum,
    lambda _y, a, b: _share(greater(a, b), equal(a, b)),
    lambda _y, a, b: _share(less(a, b), equal(a, b)),
    kinks="a = b: half to each",
    choosing=True,
)
minimum = elementwise(
    "minimum",
    np.minimum,
    lambda _y, a, b: _share(less(a, b), equal(a, b)),
    lambda _y, a, b: _share(greater(a, b), equal(a, b)),
    kinks="a = b: half to each",
    choosing=True,
)
# As these, but a number wins over NaN.
fmax = elementwise(
    "fmax",
    np.fmax,
    lambda _y, a, b: _share(_is_left(less(a, b), a), equal(a, b)),
    lambda _y, a, b: _share(_is_left(greater(a, b), b), equal(a, b)),
    kinks="a = b: half to each",
    choosing=True,
)
fmin = elementwise(
    "fmin",
    np.fmin,
    lambda _y, a, b: _share(_is_left(greater(a, b), a), equal(a, b)),
    lambda _y, a, b: _share(_is_left(less(a, b), b), equal(a, b)),
    kinks="a = b: half to each",
    choosing=True,
)


def _is_left(beaten: Value, x: Value) -> Value:
    return logical_not(logical_or(beaten, isnan(x)))


def _share(mine: Value, tied: Value) -> Value:
    return where(tied, 0.5, mine)


clip = elementwise(
    "clip",
    lambda x, *, low, high: np.clip(x, low, high),
    lambda _y, x, *, low, high: logical_and(greater(x, low), less(x, high)),
    kinks="x = low, x = high: slope 0",
    choosing=True,
)
where: Primitive = general(
    "where",
    np.where,
    None,
    (
        lambda a_dot, _y, c, _a, _b: where(c, a_dot, 0.0),
        lambda y_bar, _y, c, _a, _b: where(c, y_bar, 0.0),
    ),
    (
        lambda b_dot, _y, c, _a, _b: where(c, 0.0, b_dot),
        lambda y_bar, _y, c, _a, _b: where(c, 0.0, y_bar),
    ),
    flops=0,
    exact=lambda c, a, b: np.where(np.not_equal(c, 0), a, b),
)
copysign: Primitive = elementwise(
    "copysign", np.copysign, lambda _y, a, b: copysign(1.0, a) * copysign(1.0, b), None
)

# No derivative: piecewise constant ---------------------------------------------------------------
sign: Primitive = constant("sign", np.sign)
floor = constant("floor", np.floor)
ceil = constant("ceil", np.ceil)
rint = constant("rint", np.rint)
trunc = constant("trunc", np.trunc)
floor_divide: Primitive = constant("floor_divide", np.floor_divide)
signbit = constant("signbit", np.signbit)
spacing = constant("spacing", np.spacing)
equal: Primitive = constant("equal", np.equal)
not_equal = constant("not_equal", np.not_equal)
less: Primitive = constant("less", np.less)
less_equal = constant("less_equal", np.less_equal)
greater: Primitive = constant("greater", np.greater)
greater_equal: Primitive = constant("greater_equal", np.greater_equal)
isfinite = constant("isfinite", np.isfinite)
isinf = constant("isinf", np.isinf)
isnan: Primitive = constant("isnan", np.isnan)
logical_and: Primitive = constant("logical_and", np.logical_and)
logical_or: Primitive = constant("logical_or", np.logical_or)
logical_not: Primitive = constant("logical_not", np.logical_not)
logical_xor = constant(
    "logical_xor", np.logical_xor, exact=lambda x, y: np.not_equal(x, 0) ^ np.not_equal(y, 0)
)
# Of truth values and integers, which exact programs hold as they are.
bitwise_and = constant("bitwise_and", np.bitwise_and, exact=np.bitwise_and)
bitwise_or = constant("bitwise_or", np.bitwise_or, exact=np.bitwise_or)
bitwise_xor = constant("bitwise_xor", np.bitwise_xor, exact=np.bitwise_xor)
invert = constant("invert", np.invert, exact=np.invert)
to_integer = constant(
    "to_integer",
    _converted,
    exact=lambda x, *, dtype: x.astype(dtype),
)
