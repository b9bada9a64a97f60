"""Bugs of forward mode, of second order, and of how torch and JAX are told about a derivative."""

from __future__ import annotations

import numpy as np

from .rows import box, native_row, numpy_jvp_row

numpy_jvp_row(
    "jvp_sign",
    "sign, in forward mode only",
    np.exp,
    lambda t, x: -t[0] * np.exp(x),
    lambda t, x: t[0] * np.exp(x),
    box(3),
)
numpy_jvp_row(
    "jvp_second_input",
    "second tangent dropped",
    lambda a, b: a * b,
    lambda t, a, b: t[0] * b,
    lambda t, a, b: t[0] * b + a * t[1],
    box(3),
    box(3),
)
numpy_jvp_row(
    "jvp_zero",
    "zero tangent of a large array, below a tolerance that grows with it",
    lambda x: 1e-6 * np.sin(x),
    lambda t, x: 0 * x,
    lambda t, x: 1e-6 * t[0] * np.cos(x),
    np.linspace(-1, 1, 400),
)
numpy_jvp_row(
    "jvp_transpose",
    "the VJP's transpose in the JVP",
    lambda x: np.array([[1.0, 2.0], [3.0, 4.0]]) @ x,
    lambda t, x: np.array([[1.0, 3.0], [2.0, 4.0]]) @ t[0],
    lambda t, x: np.array([[1.0, 2.0], [3.0, 4.0]]) @ t[0],
    box(2),
)


def torch_function(forward, backward):
    """Make a function of torch tensors with a backward of its own: backward(v, *inputs)."""
    import torch

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx, v):
            return backward(v, *ctx.saved_tensors)

    return Custom.apply


def lazily(make):
    """Put off importing a framework until the function is called."""
    made = []

    def call(*inputs):
        if not made:
            made.append(make())
        return made[0](*inputs)

    return call


def torch_row(name, source, bad, good, *inputs, **options):
    native_row(name, source, "torch", lazily(bad), lazily(good), *inputs, **options)


def jax_row(name, source, bad, good, *inputs, **options):
    native_row(name, source, "jax", lazily(bad), lazily(good), *inputs, **options)


torch_row(
    "torch_detached",
    "half of a product is detached",
    lambda: lambda x: x * x.detach(),
    lambda: lambda x: x * x,
    box(3),
)
torch_row(
    "torch_sign",
    "custom Function with the wrong sign",
    lambda: torch_function(lambda x: x.sin(), lambda v, x: -v * x.cos()),
    lambda: torch_function(lambda x: x.sin(), lambda v, x: v * x.cos()),
    box(3),
)
torch_row(
    "torch_item",
    "a number taken out of the graph by item()",
    lambda: lambda x: x * x.sum().detach(),
    lambda: lambda x: x * x.sum(),
    box(3),
)
torch_row(
    "torch_no_grad",
    "a factor computed without gradient",
    lambda: lambda x: x * _without_grad(x),
    lambda: lambda x: x * x.exp(),
    box(3),
)


def _without_grad(x):
    import torch

    with torch.no_grad():
        return x.exp()


torch_row(
    "torch_double_backward",
    "second order: the backward detaches what it saved",
    lambda: torch_function(lambda x: x**3, lambda v, x: 3 * v * x.detach() ** 2),
    lambda: torch_function(lambda x: x**3, lambda v, x: 3 * v * x**2),
    box(3, low=0.5, high=2),
    order=2,
)
torch_row(
    "torch_straight_through",
    "rounding with a straight-through gradient",
    lambda: torch_function(lambda x: x.round(), lambda v, x: v),
    lambda: torch_function(lambda x: x.round(), lambda v, x: 0 * v),
    box(3, low=-2.4, high=2.4),
)
torch_row(
    "torch_linear_bias",
    "bias gradient averaged over the batch",
    lambda: torch_function(lambda x, b: x + b, lambda v, x, b: (v, v.mean(0))),
    lambda: torch_function(lambda x, b: x + b, lambda v, x, b: (v, v.sum(0))),
    box(2, 3),
    box(3),
)


def _saved_overwritten(good):
    import torch

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.saved = y.clone() if good else y
            return y

        @staticmethod
        def backward(ctx, v):
            return v * ctx.saved

    def call(x):
        y = Exp.apply(x)
        with torch.no_grad():
            y.data.add_(1)
        return y

    def right(x):
        return 1 + Exp.apply(x)

    return right if good else call


torch_row(
    "torch_saved_overwritten",
    "a saved buffer is overwritten through .data",
    lambda: _saved_overwritten(good=False),
    lambda: _saved_overwritten(good=True),
    box(3),
)


def jax_custom(f, rule):
    import jax

    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (f(*primals), rule(primals, tangents)))
    return g


def _jnp():
    import jax.numpy as jnp

    return jnp


jax_row(
    "jax_custom_jvp",
    "custom_jvp with a factor too much",
    lambda: jax_custom(lambda x: _jnp().sin(x), lambda p, t: 2 * _jnp().cos(p[0]) * t[0]),
    lambda: jax_custom(lambda x: _jnp().sin(x), lambda p, t: _jnp().cos(p[0]) * t[0]),
    box(3),
)
jax_row(
    "jax_where_nan",
    "jax-ml/jax#347: where with a NaN in the branch not taken",
    lambda: lambda x: _jnp().where(x > 0.5, _jnp().sqrt(x), 1.0 + 0 * x),
    lambda: lambda x: _jnp().where(x > 0.5, _jnp().sqrt(_jnp().where(x > 0.5, x, 1.0)), 1.0),
    box(3, low=-2, high=-1),
    expected="nonfinite",
)
jax_row(
    "jax_stop_gradient",
    "stop_gradient around a factor",
    lambda: lambda x: x * _stop(x),
    lambda: lambda x: x * x,
    box(3),
)


def _stop(x):
    import jax

    return jax.lax.stop_gradient(x)
