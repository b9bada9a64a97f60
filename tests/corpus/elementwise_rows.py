"""Wrong formulas of elementwise functions: signs, factors, missing terms, wrong masks."""

from __future__ import annotations

import math

import numpy as np

from .rows import box, numpy_row

SLIP = "slip of the pen: "
X = box(4)
POSITIVE = box(4, low=0.125, high=4.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


numpy_row(
    "exp_sign",
    SLIP + "sign",
    np.exp,
    lambda v, x: (-v * np.exp(x),),
    lambda v, x: (v * np.exp(x),),
    X,
)
numpy_row(
    "square_half",
    SLIP + "the 2 of a square",
    lambda x: x * x,
    lambda v, x: (v * x,),
    lambda v, x: (2 * v * x,),
    X,
)
numpy_row(
    "cube_exponent",
    SLIP + "3x² written 2x²",
    lambda x: x * x * x,
    lambda v, x: (2 * v * x * x,),
    lambda v, x: (3 * v * x * x,),
    X,
)
numpy_row(
    "cos_sign",
    SLIP + "cos' = sin",
    np.cos,
    lambda v, x: (v * np.sin(x),),
    lambda v, x: (-v * np.sin(x),),
    X,
)
numpy_row(
    "reciprocal_sign",
    SLIP + "(1/x)' = 1/x²",
    lambda x: 1 / x,
    lambda v, x: (v / (x * x),),
    lambda v, x: (-v / (x * x),),
    POSITIVE,
)
numpy_row(
    "sqrt_half",
    SLIP + "the ½ of a root",
    np.sqrt,
    lambda v, x: (v / np.sqrt(x),),
    lambda v, x: (v / (2 * np.sqrt(x)),),
    POSITIVE,
)
numpy_row(
    "log_epsilon",
    "an epsilon for safety left in the derivative",
    np.log,
    lambda v, x: (v / (x + 1e-9),),
    lambda v, x: (v / x,),
    POSITIVE,
)
numpy_row(
    "arctan_square",
    SLIP + "1/(1+x)",
    np.arctan,
    lambda v, x: (v / (1 + x),),
    lambda v, x: (v / (1 + x * x),),
    POSITIVE,
)
numpy_row(
    "tanh_square",
    SLIP + "1 - tanh",
    np.tanh,
    lambda v, x: (v * (1 - np.tanh(x)),),
    lambda v, x: (v * (1 - np.tanh(x)) * (1 + np.tanh(x)),),
    X,
)
numpy_row(
    "sigmoid_factor",
    SLIP + "σ' = σ",
    sigmoid,
    lambda v, x: (v * sigmoid(x),),
    lambda v, x: (v * sigmoid(x) * sigmoid(-x),),
    X,
)
numpy_row(
    "softplus_tanh",
    SLIP + "ζ' = tanh",
    lambda x: np.log1p(np.exp(x)),
    lambda v, x: (v * np.tanh(x),),
    lambda v, x: (v * sigmoid(x),),
    X,
)
numpy_row(
    "chain_inner",
    SLIP + "inner derivative of sin 2x",
    lambda x: np.sin(2 * x),
    lambda v, x: (v * np.cos(2 * x),),
    lambda v, x: (2 * v * np.cos(2 * x),),
    X,
)
numpy_row(
    "product_one_term",
    SLIP + "one term of a product's rule",
    lambda x: x * np.exp(x),
    lambda v, x: (v * np.exp(x),),
    lambda v, x: (v * (1 + x) * np.exp(x),),
    X,
)
numpy_row(
    "quotient_sign",
    SLIP + "quotient rule with a plus",
    lambda x: np.exp(x) / x,
    lambda v, x: (v * np.exp(x) * (x + 1) / (x * x),),
    lambda v, x: (v * np.exp(x) * (x - 1) / (x * x),),
    POSITIVE,
)
numpy_row(
    "denominator_square",
    SLIP + "∂(a/b)/∂b without the square",
    lambda a, b: a / b,
    lambda v, a, b: (v / b, -v * a / b),
    lambda v, a, b: (v / b, -v * a / (b * b)),
    X,
    POSITIVE,
)
numpy_row(
    "swapped_inputs",
    "gradients returned in the wrong order",
    lambda a, b: a * b,
    lambda v, a, b: (v * a, v * b),
    lambda v, a, b: (v * b, v * a),
    X,
    X,
)
numpy_row(
    "ignores_cotangent",
    "the incoming cotangent is not multiplied in",
    np.sin,
    lambda v, x: (np.cos(x),),
    lambda v, x: (v * np.cos(x),),
    X,
)
numpy_row(
    "cotangent_squared",
    "the incoming cotangent is multiplied in twice",
    np.sin,
    lambda v, x: (v * v * np.cos(x),),
    lambda v, x: (v * np.cos(x),),
    X,
)
numpy_row(
    "guided_mask",
    "mask taken from the cotangent (guided backprop, Springenberg et al. 2014)",
    lambda x: np.maximum(x, 0),
    lambda v, x: (np.where(v > 0, v, 0) * np.where(x > 0, 1.0, 0.0),),
    lambda v, x: (v * np.where(x > 0, 1.0, 0.0),),
    X,
)
numpy_row(
    "relu_negative",
    "mask |x| > 0",
    lambda x: np.maximum(x, 0),
    lambda v, x: (v * np.where(x != 0, 1.0, 0.0),),
    lambda v, x: (v * np.where(x > 0, 1.0, 0.0),),
    X,
)
numpy_row(
    "leaky_swapped",
    "slope on the wrong side",
    lambda x: np.where(x > 0, x, 0.125 * x),
    lambda v, x: (v * np.where(x > 0, 0.125, 1.0),),
    lambda v, x: (v * np.where(x > 0, 1.0, 0.125),),
    X,
)
numpy_row(
    "hardtanh_bounds",
    "mask with other bounds than the value",
    lambda x: np.minimum(np.maximum(x, -1), 1),
    lambda v, x: (v * np.where(abs(x) < 2, 1.0, 0.0),),
    lambda v, x: (v * np.where(abs(x) < 1, 1.0, 0.0),),
    X,
)
numpy_row(
    "clip_straight",
    "gradient passes outside the clip (a straight-through estimator, unmarked)",
    lambda x: np.minimum(np.maximum(x, -1), 1),
    lambda v, x: (v,),
    lambda v, x: (v * np.where(abs(x) < 1, 1.0, 0.0),),
    X,
)
numpy_row("abs_one", "|x|' = 1", abs, lambda v, x: (v,), lambda v, x: (v * np.sign(x),), X)
numpy_row(
    "elu_alpha",
    "α missing in the negative branch",
    lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
    lambda v, x: (v * np.where(x > 0, 1.0, np.exp(x)),),
    lambda v, x: (v * np.where(x > 0, 1.0, 0.5 * np.exp(x)),),
    X,
)
numpy_row(
    "selu_scale",
    "scale missing in the negative branch",
    lambda x: 1.25 * np.where(x > 0, x, 1.5 * np.expm1(x)),
    lambda v, x: (v * np.where(x > 0, 1.25, 1.5 * np.exp(x)),),
    lambda v, x: (v * np.where(x > 0, 1.25, 1.875 * np.exp(x)),),
    X,
)
numpy_row(
    "silu_term",
    "x·σ' missing",
    lambda x: x * sigmoid(x),
    lambda v, x: (v * sigmoid(x),),
    lambda v, x: (v * sigmoid(x) * (1 + x * sigmoid(-x)),),
    X,
)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.75 * (x + 0.0625 * x * x * x)))


def gelu_vjp(v, x, cubic):
    t = np.tanh(0.75 * (x + 0.0625 * x * x * x))
    inner = 0.75 * (1 + cubic * 0.0625 * x * x)
    return (v * 0.5 * ((1 + t) + x * (1 - t) * (1 + t) * inner),)


numpy_row(
    "gelu_inner",
    "the 3 of the cubic's derivative",
    gelu,
    lambda v, x: gelu_vjp(v, x, 1),
    lambda v, x: gelu_vjp(v, x, 3),
    X,
)
numpy_row(
    "gelu_term",
    "one term of x·Φ",
    gelu,
    lambda v, x: (v * 0.5 * (1 + np.tanh(0.75 * (x + 0.0625 * x * x * x))),),
    lambda v, x: gelu_vjp(v, x, 3),
    X,
)


def mish_vjp(v, x):
    t = np.tanh(np.log1p(np.exp(x)))
    return (v * (t + x * (1 - t) * (1 + t) * sigmoid(x)),)


numpy_row(
    "mish_term",
    "σ of the inner softplus missing",
    lambda x: x * np.tanh(np.log1p(np.exp(x))),
    lambda v, x: (
        v * (np.tanh(np.log1p(np.exp(x))) + x * (1 - np.tanh(np.log1p(np.exp(x))) ** 2)),
    ),
    mish_vjp,
    X,
)
numpy_row(
    "huber_unclipped",
    "not clipped beyond δ",
    lambda x: np.where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5),
    lambda v, x: (v * x,),
    lambda v, x: (v * np.where(abs(x) < 1, x, np.sign(x)),),
    X,
)
numpy_row(
    "smooth_l1_beta",
    "β of the inner branch missing",
    lambda x: np.where(abs(x) < 2, 0.25 * x * x, abs(x) - 1),
    lambda v, x: (v * np.where(abs(x) < 2, x, np.sign(x)),),
    lambda v, x: (v * np.where(abs(x) < 2, 0.5 * x, np.sign(x)),),
    X,
)
numpy_row(
    "bce_sign",
    "sign of the second term",
    lambda p: -(0.25 * np.log(p) + 0.75 * np.log1p(-p)),
    lambda v, p: (v * -(0.25 / p + 0.75 / (1 - p)),),
    lambda v, p: (v * -(0.25 / p - 0.75 / (1 - p)),),
    box(3, low=0.125, high=0.875),
)
numpy_row(
    "entropy_one",
    "the +1 of (p log p)'",
    lambda p: p * np.log(p),
    lambda v, p: (v * np.log(p),),
    lambda v, p: (v * (np.log(p) + 1),),
    box(3, low=0.0625, high=2),
)
numpy_row(
    "expm1_zero",
    "zero gradient, below every absolute tolerance",
    np.expm1,
    lambda v, x: (0 * v,),
    lambda v, x: (v * np.exp(x),),
    np.array([-12.0]),
)
numpy_row(
    "tiny_sign",
    "wrong sign of a derivative of size 1e-8",
    lambda x: 1e-8 * np.sin(x),
    lambda v, x: (-1e-8 * v * np.cos(x),),
    lambda v, x: (1e-8 * v * np.cos(x),),
    np.array([0.5, 1.0]),
)
numpy_row(
    "relative_1e_10",
    "relative error of 1e-10",
    np.exp,
    lambda v, x: (v * np.exp(x) * (1 + 1e-10),),
    lambda v, x: (v * np.exp(x),),
    X,
)
numpy_row(
    "constant_digits",
    "√(2/π) typed to six digits",
    lambda x: np.sin(math.sqrt(2 / math.pi) * x),
    lambda v, x: (0.797885 * v * np.cos(math.sqrt(2 / math.pi) * x),),
    lambda v, x: (math.sqrt(2 / math.pi) * v * np.cos(math.sqrt(2 / math.pi) * x),),
    X,
)
numpy_row(
    "finite_difference",
    "a difference quotient in place of a rule",
    np.sin,
    lambda v, x: (v * (np.sin(x + 1e-6) - np.sin(x - 1e-6)) / 2e-6,),
    lambda v, x: (v * np.cos(x),),
    X,
)
numpy_row(
    "degrees",
    "radians taken for degrees",
    lambda x: np.sin(x * (math.pi / 180)),
    lambda v, x: (v * np.cos(x * (math.pi / 180)),),
    lambda v, x: (v * np.cos(x * (math.pi / 180)) * (math.pi / 180),),
    X,
)
numpy_row(
    "threshold_mask",
    "threshold of the mask off by a half",
    lambda x: np.where(x > 1, x, 0 * x),
    lambda v, x: (v * np.where(x > 1.5, 1.0, 0.0),),
    lambda v, x: (v * np.where(x > 1, 1.0, 0.0),),
    X,
)
numpy_row(
    "negative_power",
    "x^-2 with exponent +1",
    lambda x: 1 / (x * x),
    lambda v, x: (-2 * v / x,),
    lambda v, x: (-2 * v / (x * x * x),),
    POSITIVE,
)
