"""Correct functions of JAX for the sweep."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from .rows import box
from .sweep_function import Function, elementwise


def jax_functions() -> Iterator[Function]:
    import jax
    import jax.numpy as jnp
    from jax import nn
    from jax.scipy import special

    wide, narrow = (-30.0, 30.0), (-4.0, 4.0)
    yield from elementwise(
        {
            "relu": (nn.relu, *wide),
            "relu6": (nn.relu6, *wide),
            "sigmoid": (nn.sigmoid, *wide),
            "softplus": (nn.softplus, *wide),
            "sparse_plus": (nn.sparse_plus, *wide),
            "sparse_sigmoid": (nn.sparse_sigmoid, *wide),
            "soft_sign": (nn.soft_sign, *wide),
            "silu": (nn.silu, *wide),
            "mish": (nn.mish, *narrow),
            "log_sigmoid": (nn.log_sigmoid, *wide),
            "leaky_relu": (nn.leaky_relu, *wide),
            "hard_sigmoid": (nn.hard_sigmoid, *wide),
            "hard_silu": (nn.hard_silu, *wide),
            "hard_tanh": (nn.hard_tanh, *wide),
            "elu": (nn.elu, *wide),
            "elu 0.5": (partial(nn.elu, alpha=0.5), *narrow),
            "celu": (nn.celu, *wide),
            "celu 0.7": (partial(nn.celu, alpha=0.7), *narrow),
            "selu": (nn.selu, *wide),
            "gelu": (partial(nn.gelu, approximate=False), *narrow),
            "gelu tanh": (nn.gelu, *narrow),
            "squareplus": (nn.squareplus, *wide),
            "tanh": (jnp.tanh, *narrow),
            "exp": (jnp.exp, *wide),
            "expm1": (jnp.expm1, *wide),
            "log": (jnp.log, 0.01, 30),
            "log1p": (jnp.log1p, -0.9, 30),
            "sqrt": (jnp.sqrt, 0.01, 30),
            "sin": (jnp.sin, *wide),
            "cos": (jnp.cos, *wide),
            "arctan": (jnp.arctan, *wide),
            "arcsinh": (jnp.arcsinh, *wide),
            "erf": (special.erf, *narrow),
            "erfc": (special.erfc, *narrow),
            "sinc": (jnp.sinc, 0.1, 2),
            "cbrt": (jnp.cbrt, 0.01, 30),
            "log1mexp": (nn.log1mexp, 0.01, 30),
            "square": (jnp.square, *wide),
            "abs": (jnp.abs, *wide),
            "reciprocal": (jnp.reciprocal, 0.01, 30),
        }
    )
    for name, call, *boxes in (
        ("glu", nn.glu, box(2, 4)),
        ("softmax", nn.softmax, box(2, 4)),
        ("softmax wide", nn.softmax, box(2, 4, low=-30, high=30)),
        ("softmax 0", partial(nn.softmax, axis=0), box(2, 4)),
        ("log_softmax", nn.log_softmax, box(2, 4)),
        ("log_softmax wide", nn.log_softmax, box(2, 4, low=-30, high=30)),
        ("logsumexp", nn.logsumexp, box(4)),
        ("logsumexp axis", partial(nn.logsumexp, axis=0), box(2, 4, low=-30, high=30)),
        ("standardize", nn.standardize, box(2, 4)),
        ("attention", nn.dot_product_attention, box(1, 3, 1, 2), box(1, 3, 1, 2), box(1, 3, 1, 2)),
        ("cumsum", jnp.cumsum, box(5)),
        ("cumprod", jnp.cumprod, box(5, low=0.5, high=2)),
        ("prod", jnp.prod, box(4, low=0.5, high=2)),
        ("std", jnp.std, box(5)),
        ("var", jnp.var, box(5)),
        ("mean", jnp.mean, box(2, 3)),
        ("norm", jnp.linalg.norm, box(5, low=0.1)),
        ("max", jnp.max, box(5)),
        ("sort", jnp.sort, box(4)),
        ("matmul", jnp.matmul, box(2, 3, 2), box(2, 2)),
        ("einsum", partial(jnp.einsum, "ij,jk->k"), box(3, 2), box(2, 3)),
        ("gather", lambda x: x[np.array([0, 0, 2, 1])], box(3)),
        ("outer", jnp.outer, box(3), box(2)),
        (
            "inv",
            lambda x: jnp.linalg.inv(x + 4 * jnp.eye(3, dtype=x.dtype)),
            box(3, 3, low=-1, high=1),
        ),
        ("logaddexp", jnp.logaddexp, box(3), box(3)),
        (
            "cholesky",
            lambda x: jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(3, dtype=x.dtype)),
            box(3, 3, low=-1, high=1),
        ),
        ("hypot", jnp.hypot, box(3, low=0.1), box(3, low=0.1)),
        ("arctan2", jnp.arctan2, box(3, low=0.1), box(3, low=0.1)),
        ("where", lambda x, y: jnp.where(x > y, x * y, y), box(3), box(3, low=1)),
        ("segment_sum", lambda x: jax.ops.segment_sum(x, np.array([0, 1, 0, 1]), 2), box(4)),
        (
            "scan",
            lambda x: jax.lax.scan(lambda c, y: (c * 0.5 + y, jnp.tanh(c)), x[0], x)[1],
            box(4),
        ),
        ("convolve", jnp.convolve, box(5), box(3)),
        ("divide", jnp.divide, box(3), box(3, low=0.5)),
        ("power", jnp.power, box(3, low=0.5), box(3)),
        ("trapezoid", jax.scipy.integrate.trapezoid, box(4), box(4)),
        ("layer norm", lambda x, g: g * nn.standardize(x), box(3, 4), box(4)),
    ):
        yield Function(name, call, tuple(boxes))
