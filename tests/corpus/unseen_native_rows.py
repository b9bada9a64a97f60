"""Rows written without a look at gradcheck or at the first corpus: how torch and JAX themselves are used."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, jax_jvp, jax_vjp, native_row, torch_op


def torch_rows():
    import torch
    from torch.nn import functional as F

    # Wrong only in second order.
    native_row(
        "torch-detached-saved", "custom Functions that back-propagate through .detach()", "torch",
        torch_op(lambda x: x**3, lambda v, x: 3 * v * x.detach() ** 2),
        torch_op(lambda x: x**3, lambda v, x: 3 * v * x**2), box(3), order=2,
    )  # fmt: skip
    for name, slope in (("buggy", 1.0), ("twin", 2.0)):
        inner = torch_op(
            lambda v, y: v * (1 - y * y),
            lambda w, v, y, slope=slope: (w * (1 - y * y), -slope * w * v * y),
        )

        class Tanh(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                y = torch.tanh(x)
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, v, inner=inner):
                return inner(v, *ctx.saved_tensors)

        if name == "buggy":
            wrong = Tanh.apply
    native_row(
        "torch-double-backward-factor", "torch/csrc double-backward formulas: tanh's without its 2", "torch",
        wrong, Tanh.apply, box(3, low=-2, high=2), order=2,
    )  # fmt: skip
    native_row(
        "torch-double-backward-data", "xlogy-like op whose backward uses .data of one factor", "torch",
        torch_op(lambda x, y: x * x * y, lambda v, x, y: (2 * v * x * y.data, v * x * x)),
        torch_op(lambda x, y: x * x * y, lambda v, x, y: (2 * v * x * y, v * x * x)), box(2), box(2), order=2,
    )  # fmt: skip

    # Wrong only in forward mode.
    native_row(
        "torch-jvp-one-tangent", "custom Function whose jvp forgets the second input", "torch",
        torch_op(lambda x, y: x * y, lambda v, x, y: (v * y, v * x), lambda t, u, x, y: t * y),
        torch_op(lambda x, y: x * y, lambda v, x, y: (v * y, v * x), lambda t, u, x, y: t * y + x * u),
        box(3), box(3),
    )  # fmt: skip
    native_row(
        "torch-jvp-softmax", "custom softmax whose jvp lacks the projection", "torch",
        torch_op(lambda x: x.softmax(-1), softmax_pull, lambda t, x: x.softmax(-1) * t),
        torch_op(lambda x: x.softmax(-1), softmax_pull,
           lambda t, x: x.softmax(-1) * (t - (x.softmax(-1) * t).sum(-1, keepdim=True))),
        box(2, 4, dtype="float32"),
    )  # fmt: skip

    # Graphs that are cut.
    native_row(
        "torch-detached-norm", "x / x.norm().detach()", "torch",
        lambda x: x / x.norm().detach(), lambda x: x / x.norm(), box(3, low=0.5, high=2),
    )  # fmt: skip
    native_row(
        "torch-item-norm", "x / x.norm().item(): the graph is cut by a Python number", "torch",
        lambda x: x / x.norm().item(), lambda x: x / x.norm(), box(3, low=0.5, high=2),
    )  # fmt: skip
    native_row(
        "torch-tied-detached", "tied weights, one use detached", "torch",
        lambda x, w: torch.tanh(x @ w) @ w.detach().T, lambda x, w: torch.tanh(x @ w) @ w.T,
        box(2, 3, low=-1, high=1), box(3, 3, low=-1, high=1),
    )  # fmt: skip
    native_row(
        "torch-no-grad-mean", "centring under no_grad", "torch",
        lambda x: (x - frozen(x.mean)) ** 2, lambda x: (x - x.mean()) ** 2, box(4, dtype="float32"),
    )  # fmt: skip
    native_row(
        "torch-float16-detached-scale", "per-tensor scaling by amax, detached, in float16", "torch",
        lambda x: x / x.abs().amax().detach(), lambda x: x / x.abs().amax(),
        box(3, low=0.5, high=4, dtype="float16"),
    )  # fmt: skip

    # Buffers that are overwritten.
    scratch = np.empty(3)

    def kept(x):
        scratch[:] = x.detach().numpy()
        return (torch.from_numpy(scratch),)

    shared = torch_op(torch.sin, lambda v, x: v * torch.cos(x), save=kept)
    own = torch_op(torch.sin, lambda v, x: v * torch.cos(x))
    native_row(
        "torch-shared-scratch", "a C++ extension's scratch buffer, saved by two calls", "torch",
        lambda x: shared(x) + shared(2 * x), lambda x: own(x) + own(2 * x), box(3),
    )  # fmt: skip

    # Half precision, indices, where.
    native_row(
        "torch-bfloat16-sigmoid", "sigmoid's slope as s (1 - s) in bfloat16", "torch",
        torch_op(torch.sigmoid, lambda v, x: v * x.sigmoid() * (1 - x.sigmoid())),
        torch_op(torch.sigmoid, lambda v, x: v * x.sigmoid() * (-x).sigmoid()),
        box(3, low=5, high=8, dtype="bfloat16"), expected="imprecise", strict=True,
    )  # fmt: skip
    places = torch.tensor([1, 1, 0])
    native_row(
        "torch-index-add", "embedding gradient by index assignment", "torch",
        torch_op(lambda w: w[[1, 1, 0]], lambda v, w: torch.zeros_like(w).index_copy(0, places, v)),
        torch_op(lambda w: w[[1, 1, 0]], lambda v, w: torch.zeros_like(w).index_add(0, places, v)),
        box(3, 2),
    )  # fmt: skip
    native_row(
        "torch-where-sqrt", "torch #68425: where around sqrt", "torch",
        lambda x: torch.where(x > 1, x.sqrt(), 0.5 * x + 0.5),
        lambda x: torch.where(x > 1, x.clamp(min=1).sqrt(), 0.5 * x + 0.5),
        np.array([0.0, -1.0, 4.0]), expected="nonfinite",
    )  # fmt: skip
    native_row(
        "torch-hard-gate", "hard gate with a straight-through gradient", "torch",
        torch_op(lambda x: x.clamp(-1, 1), lambda v, x: v.clone()), F.hardtanh, box(4),
    )  # fmt: skip
    native_row(
        "torch-group-norm-weight", "group norm: weight's gradient of one group alone", "torch",
        torch_op(lambda x, w: x * w, lambda v, x, w: (v * w, (v * x)[:1].sum(0))),
        torch_op(lambda x, w: x * w, lambda v, x, w: (v * w, (v * x).sum(0))), box(4, 3), box(3),
    )  # fmt: skip

    def frozen(f):
        with torch.no_grad():
            return f()


def softmax_pull(v, x):
    p = x.softmax(-1)
    return p * (v - (p * v).sum(-1, keepdim=True))


def jax_rows():
    import jax
    import jax.numpy as jnp

    stop = jax.lax.stop_gradient

    def with_slope(f, slope):
        return jax_jvp(f, lambda tangents, *xs: slope(*xs) * tangents[0])

    f32 = {"dtype": "float32"}
    native_row(
        "jax-stop-gradient-slope", "custom_jvp whose slope is behind stop_gradient: no second order", "jax",
        with_slope(jnp.sin, lambda x: stop(jnp.cos(x))), with_slope(jnp.sin, jnp.cos), box(3, **f32), order=2,
    )  # fmt: skip
    native_row(
        "jax-second-order-saved", "custom_vjp whose residual is a stopped copy", "jax",
        with_slope(lambda x: x**4, lambda x: 4 * x * stop(x) ** 2),
        with_slope(lambda x: x**4, lambda x: 4 * x**3), box(2, low=0.5, high=2, **f32), order=2,
    )  # fmt: skip
    native_row(
        "jax-logsumexp-half-stopped", "shift by a stopped maximum that is added back stopped", "jax",
        lambda x: jnp.log(jnp.exp(x - stop(x.max())).sum()) + 0.5 * (x.max() + stop(x.max())),
        lambda x: jnp.log(jnp.exp(x - stop(x.max())).sum()) + stop(x.max()), box(4, **f32),
    )  # fmt: skip
    native_row(
        "jax-where-sqrt", "JAX FAQ: where around sqrt", "jax",
        lambda x: jnp.where(x > 1, jnp.sqrt(x), 0.5 * x + 0.5),
        lambda x: jnp.where(x > 1, jnp.sqrt(jnp.where(x > 1, x, 1)), 0.5 * x + 0.5),
        np.float32([-2.0, -1.0, 4.0]), expected="nonfinite",
    )  # fmt: skip
    native_row(
        "jax-naive-logsumexp", "log(sum(exp(x))) in float32", "jax",
        lambda x: jnp.log(jnp.exp(x).sum()), jax.nn.logsumexp,
        box(3, low=-150, high=150, **f32), expected="nonfinite",
    )  # fmt: skip
    native_row(
        "jax-clip-vjp", "custom_vjp gradient clipping left in a model", "jax",
        jax_vjp(lambda x: 2 * x, lambda v, x: (jnp.clip(2 * v, -1e-3, 1e-3),)),
        jax_vjp(lambda x: 2 * x, lambda v, x: (2 * v,)), box(3, **f32),
    )  # fmt: skip
    places = np.array([0, 2, 0])
    native_row(
        "jax-scatter-set", "segment sum's transpose by .at[].set", "jax",
        jax_vjp(lambda x: x[places], lambda v, x: (jnp.zeros_like(x).at[places].set(v),)),
        jax_vjp(lambda x: x[places], lambda v, x: (jnp.zeros_like(x).at[places].add(v),)),
        box(3, **f32),
    )  # fmt: skip
    native_row(
        "jax-linear-vjp-conjugate", "complex product with the conjugate forgotten", "jax",
        jax_vjp(lambda x, y: jnp.stack([x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]]),
                 lambda v, x, y: (jnp.stack([v[0] * y[0] - v[1] * y[1], v[0] * y[1] + v[1] * y[0]]),
                                  jnp.stack([v[0] * x[0] + v[1] * x[1], v[1] * x[0] - v[0] * x[1]]))),
        jax_vjp(lambda x, y: jnp.stack([x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]]),
                 lambda v, x, y: (jnp.stack([v[0] * y[0] + v[1] * y[1], v[1] * y[0] - v[0] * y[1]]),
                                  jnp.stack([v[0] * x[0] + v[1] * x[1], v[1] * x[0] - v[0] * x[1]]))),
        box(2, **f32), box(2, **f32),
    )  # fmt: skip
    native_row(
        "jax-bfloat16-slope", "custom_jvp in bfloat16 with a slope rounded through 1 - x", "jax",
        with_slope(lambda x: jnp.exp(-x), lambda x: -(1 - (1 - jnp.exp(-x)))),
        with_slope(lambda x: jnp.exp(-x), lambda x: -jnp.exp(-x)),
        box(3, low=5, high=8, dtype="bfloat16"), expected="imprecise", strict=True,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
if importlib.util.find_spec("jax"):
    jax_rows()
