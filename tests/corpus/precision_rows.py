"""Right formulas that lose digits, and derivatives that are NaN or infinite where the truth is finite."""

from __future__ import annotations

import numpy as np

from .rows import box, native_row, numpy_row

WHERE_EXP = "pytorch/pytorch#68425: torch.where produces nan in backward pass"
WHERE_SQRT = "pytorch/pytorch#187297: NaN from an inactive sqrt branch"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def stable_square_of_sech(x):
    e = np.exp(-2 * abs(x))
    return 4 * e / ((1 + e) * (1 + e))


def loses(name, source, f, bad, good, *inputs, **options):
    numpy_row(name, source, f, bad, good, *inputs, expected="imprecise", strict=True, **options)


def infinite(name, source, f, bad, good, *inputs):
    numpy_row(name, source, f, bad, good, *inputs, expected="nonfinite")


loses(
    "tanh_one_minus_square",
    "1 - tanh² near ±1",
    np.tanh,
    lambda v, x: (v * (1 - np.tanh(x) ** 2),),
    lambda v, x: (v * stable_square_of_sech(x),),
    box(4, low=4, high=18),
)
loses(
    "sigmoid_one_minus",
    "σ(1 - σ) near σ = 1",
    sigmoid,
    lambda v, x: (v * sigmoid(x) * (1 - sigmoid(x)),),
    lambda v, x: (v * sigmoid(x) * sigmoid(-x),),
    box(4, low=10, high=30),
)
loses(
    "expm1_result",
    "derivative of expm1 as result + 1",
    np.expm1,
    lambda v, x: (v * (np.expm1(x) + 1),),
    lambda v, x: (v * np.exp(x),),
    box(4, low=-30, high=-10),
)
loses(
    "arctanh_square",
    "1 - x² near ±1",
    np.arctanh,
    lambda v, x: (v / (1 - x * x),),
    lambda v, x: (v / ((1 - x) * (1 + x)),),
    np.array([1 - 2.0**-40, -1 + 2.0**-30]),
)
loses(
    "root_difference",
    "x/√(x²+1) - 1 for large x",
    lambda x: 1 / (np.sqrt(x * x + 1) + x),
    lambda v, x: (v * (x / np.sqrt(x * x + 1) - 1),),
    lambda v, x: (-v / (np.sqrt(x * x + 1) * (np.sqrt(x * x + 1) + x)),),
    box(3, low=1e3, high=1e6),
)
loses(
    "log_cosh_quotient",
    "(eˣ-e⁻ˣ)/(eˣ+e⁻ˣ) near 0",
    lambda x: np.log(np.cosh(x)),
    lambda v, x: (v * (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),),
    lambda v, x: (v * np.tanh(x),),
    np.array([1e-7, -3e-9]),
)
loses(
    "sinc_near_zero",
    "cos x/x - sin x/x² near 0",
    lambda x: np.sin(x) / x,
    lambda v, x: (v * (np.cos(x) / x - np.sin(x) / (x * x)),),
    lambda v, x: (v * -x / 3 * (1 - x * x / 10),),
    np.array([1e-5, -3e-5]),
)
loses(
    "one_minus_cos",
    "1 - cos x near 0",
    lambda x: x - np.sin(x),
    lambda v, x: (v * (1 - np.cos(x)),),
    lambda v, x: (2 * v * np.sin(x / 2) ** 2,),
    np.array([1e-4, 3e-6]),
)
loses(
    "log1p_denominator",
    "1 - x/(1+x) for large x",
    lambda x: x / (1 + x),
    lambda v, x: (v * (1 - x / (1 + x)) / (1 + x),),
    lambda v, x: (v / ((1 + x) * (1 + x)),),
    box(3, low=1e4, high=1e8),
)
loses(
    "log_difference",
    "log(1+eˣ) - x for large x",
    lambda x: np.log1p(np.exp(-x)),
    lambda v, x: (v * (np.exp(x) / (1 + np.exp(x)) - 1),),
    lambda v, x: (-v * sigmoid(-x),),
    box(3, low=12, high=30),
)
loses(
    "float32_tanh",
    "1 - tanh² in float32",
    np.tanh,
    lambda v, x: (v * (1 - np.tanh(x) ** 2),),
    lambda v, x: (v * stable_square_of_sech(x),),
    box(4, low=3, high=8, dtype="float32"),
)
numpy_row(
    "variance_by_squares",
    "E[x²] - E[x]² in the derivative of a standard deviation",
    lambda x: np.sqrt(np.sum((x - np.sum(x) / 3) ** 2)),
    lambda v, x: (v * (x - np.sum(x) / 3) / np.sqrt(np.sum(x * x) - np.sum(x) ** 2 / 3),),
    lambda v, x: (v * (x - np.sum(x) / 3) / np.sqrt(np.sum((x - np.sum(x) / 3) ** 2)),),
    np.array([1e6 + 0.1, 1e6 - 0.7, 1e6 - 1.3]),
    expected="imprecise",
)

infinite(
    "sigmoid_overflow",
    "eˣ/(1+eˣ)² overflows",
    sigmoid,
    lambda v, x: (v * np.exp(x) / (1 + np.exp(x)) ** 2,),
    lambda v, x: (v * sigmoid(x) * sigmoid(-x),),
    box(2, low=-500, high=900),
)
infinite(
    "logsumexp_overflow",
    "exponentials without the maximum taken off",
    lambda x: np.max(x) + np.log(np.sum(np.exp(x - np.max(x)))),
    lambda v, x: (v * np.exp(x) / np.sum(np.exp(x)),),
    lambda v, x: (v * np.exp(x - np.max(x)) / np.sum(np.exp(x - np.max(x))),),
    np.array([800.0, 1.0, -3.0]),
)
infinite(
    "norm_at_zero",
    "pytorch/pytorch#2421, HIPS/autograd#151: gradient of a norm at 0",
    lambda x: np.sqrt(np.sum(x * x)),
    lambda v, x: (v * x / np.sqrt(np.sum(x * x)),),
    lambda v, x: (v * x / np.where(np.sum(x * x) > 0, np.sqrt(np.sum(x * x)), 1.0),),
    np.array([0.0, 0.0]),
)
infinite(
    "where_log",
    "pytorch/pytorch#108618: where(x > 2, log2 x, 2x) at 0",
    lambda x: np.where(x > 2, np.log(np.where(x > 2, x, 1.0)), 2 * x),
    lambda v, x: (np.where(x > 2, v, 0.0) / x + np.where(x > 2, 0.0, 2 * v),),
    lambda v, x: (np.where(x > 2, v, 0.0) / np.where(x > 2, x, 1.0) + np.where(x > 2, 0.0, 2 * v),),
    np.array([0.0, 3.0]),
)
infinite(
    "product_by_division",
    "gradient of a product as y/x at x = 0",
    lambda x: x[0] * x[1] * x[2],
    lambda v, x: (v * x[0] * x[1] * x[2] / x,),
    lambda v, x: (v * np.stack([x[1] * x[2], x[0] * x[2], x[0] * x[1]]),),
    np.array([0.0, 2.0, 3.0]),
)
infinite(
    "xlogx_at_one",
    "0·∞ at the end of the domain of a weight that is 0",
    lambda p: (p - 1) * (p - 1),
    lambda v, p: (2 * v * (p - 1) * (p - 1) / (p - 1),),
    lambda v, p: (2 * v * (p - 1),),
    np.array([1.0, 0.5]),
)
infinite(
    "sign_by_division",
    "x/|x| for the sign at 0",
    abs,
    lambda v, x: (v * x / abs(x),),
    lambda v, x: (v * np.sign(x),),
    np.array([0.0, 1.0]),
)
infinite(
    "square_overflow",
    "x² under a root overflows",
    lambda x: abs(x) * np.sqrt(1 + 1 / (x * x)),
    lambda v, x: (v * np.sign(x) * (x * x) / np.sqrt(x * x * (1 + x * x)),),
    lambda v, x: (v * np.sign(x) / np.sqrt(1 + 1 / (x * x)),),
    np.array([1e160, -1e170]),
)


def torch():
    import torch

    return torch


native_row(
    "torch_where_sqrt",
    WHERE_SQRT,
    "torch",
    lambda x: torch().where(x > 0, torch().sqrt(x), x),
    lambda x: torch().where(x > 0, torch().sqrt(torch().where(x > 0, x, 1.0)), x),
    box(3, low=-4, high=-1),
    expected="nonfinite",
)
native_row(
    "torch_where_exp",
    WHERE_EXP,
    "torch",
    lambda x: torch().where(x <= 0, torch().exp(x), 1 + x),
    lambda x: torch().where(x <= 0, torch().exp(torch().clamp(x, max=0.0)), 1 + x),
    box(2, low=750, high=1000),
    expected="nonfinite",
)
native_row(
    "torch_std_constant",
    "pytorch/pytorch#4320: gradient of a standard deviation at a constant",
    "torch",
    lambda x: torch().sqrt(((x - x.mean()) ** 2).sum()),
    lambda x: ((x - x.mean()) ** 2).sum(),
    np.ones(3),
    expected="nonfinite",
)
