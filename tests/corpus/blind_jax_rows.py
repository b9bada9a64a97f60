"""Rows that nobody tuned gradcheck for: custom rules of JAX."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, jax_jvp, jax_vjp, native_row


def jax_rows():
    import jax
    import jax.numpy as jnp

    stop = jax.lax.stop_gradient
    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "jax", buggy, twin, *inputs, **options)

    def root(x):
        z = 0.5 * (1 + x)
        for _ in range(6):
            z = 0.5 * (z + x / z)
        return z

    row(
        "jax-implicit-root", "implicit differentiation of a solver: the linear solve forgotten",
        jax_vjp(root, lambda v, x: (v * 2 * root(x),)),
        jax_vjp(root, lambda v, x: (v / (2 * root(x)),)), box(3, low=0.5, high=3, **f32),
    )  # fmt: skip

    def recurrence(carry):
        def run(w, xs):
            def step(h, x):
                h = jnp.tanh(w * carry(h) + x)
                return h, h

            return jax.lax.scan(step, jnp.zeros_like(w), xs)[1]

        return run

    row(
        "jax-scan-carry-stopped", "recurrent network: the carry is stopped at every step",
        recurrence(stop), recurrence(lambda h: h),
        box(low=-1.5, high=1.5, **f32), box(4, low=-1, high=1, **f32),
    )  # fmt: skip
    edges = np.array([0, 0, 1, 1, 1])

    def edge_softmax(total):
        def run(x):
            shift = stop(jax.ops.segment_max(x, edges, num_segments=2))
            e = jnp.exp(x - shift[edges])
            return e / total(jax.ops.segment_sum(e, edges, num_segments=2))[edges]

        return run

    row(
        "jax-edge-softmax", "graph attention: the normaliser of the edge softmax is stopped",
        edge_softmax(stop), edge_softmax(lambda x: x), box(5, low=-1, high=1, **f32),
    )  # fmt: skip

    def weighted_lse(x, b):
        m = x.max()
        return m + jnp.log(jnp.sum(b * jnp.exp(x - m)))

    def weights(x, b):
        e = jnp.exp(x - x.max())
        return e / jnp.sum(b * e)

    row(
        "jax-logsumexp-weights", "logsumexp(x, b): no tangent for the weights",
        jax_jvp(weighted_lse, lambda t, x, b: jnp.sum(b * weights(x, b) * t[0])),
        jax_jvp(weighted_lse, lambda t, x, b: jnp.sum(weights(x, b) * (b * t[0] + t[1]))),
        box(4, low=1, high=3, **f32), box(4, low=0.5, high=2, **f32),
    )  # fmt: skip

    def safe_norm(x):
        zero = (x == 0).all(1)
        n = jnp.sqrt(jnp.sum(jnp.where(zero[:, None], 1, x) ** 2, axis=1))
        return jnp.where(zero, 0, n)

    row(
        "jax-row-norm-where", "norm of a zero row: where after the square root",
        lambda x: jnp.where((x == 0).all(1), 0, jnp.sqrt(jnp.sum(x**2, axis=1))), safe_norm,
        np.float32([[0, 0], [3, 4]]), expected="nonfinite",
    )  # fmt: skip

    def attention(q, k, v):
        return jax.nn.softmax(q @ k.T / np.float32(np.sqrt(2)), axis=-1) @ v

    def attention_pull(delta):
        def pull(g, q, k, v):
            scale = np.float32(1 / np.sqrt(2))
            p = jax.nn.softmax(q @ k.T * scale, axis=-1)
            dp = g @ v.T
            ds = p * (dp - delta(p, dp)) * scale
            return ds @ k, ds.T @ q, p.T @ g

        return pull

    row(
        "jax-attention-delta", "flash attention backward: row sums of dP, not of P · dP",
        jax_vjp(attention, attention_pull(lambda p, dp: dp.sum(1, keepdims=True))),
        jax_vjp(attention, attention_pull(lambda p, dp: (p * dp).sum(1, keepdims=True))),
        *(box(3, 2, low=-1, high=1, **f32) for _ in range(3)),
    )  # fmt: skip
    for name, factor in (("buggy", lambda x: 1.0), ("twin", lambda x: 1 / jnp.cosh(x) ** 2)):
        slope = jax_jvp(
            lambda x: 1 / jnp.cosh(x) ** 2,
            lambda t, x, factor=factor: -2 * jnp.tanh(x) * factor(x) * t[0],
        )
        tanh = jax_jvp(jnp.tanh, lambda t, x, slope=slope: slope(x) * t[0])
        if name == "buggy":
            wrong = tanh
    row(
        "jax-second-order-sech", "tanh: the derivative of its slope without sech²",
        wrong, tanh, box(3, low=-2, high=2, **f32), order=2,
    )  # fmt: skip
    row(
        "jax-bfloat16-saturation", "x/(1 + x) by the quotient rule in bfloat16",
        jax_jvp(lambda x: x / (1 + x), lambda t, x: t[0] * ((1 + x) - x) / ((1 + x) * (1 + x))),
        jax_jvp(lambda x: x / (1 + x), lambda t, x: t[0] / ((1 + x) * (1 + x))),
        box(3, low=260, high=1000, dtype="bfloat16"), expected="imprecise", strict=True,
    )  # fmt: skip

    def by_key(k, x):
        return x[jnp.argsort(k)]

    row(
        "jax-sort-by-key", "sort by key: values' gradient by the permutation, not by its inverse",
        jax_vjp(by_key, lambda v, k, x: (0 * k, v[jnp.argsort(k)])),
        jax_vjp(by_key, lambda v, k, x: (0 * k, v[jnp.argsort(jnp.argsort(k))])),
        box(4, **f32), box(4, **f32),
    )  # fmt: skip

    def smooth_l1(x):
        return jnp.where(jnp.abs(x) < 0.5, x * x, jnp.abs(x) - 0.25)

    row(
        "jax-smooth-l1-beta", "smooth L1 with beta: the slope's switch stays at 1",
        jax_jvp(smooth_l1, lambda t, x: t[0] * jnp.where(jnp.abs(x) < 1, 2 * x, jnp.sign(x))),
        jax_jvp(smooth_l1, lambda t, x: t[0] * jnp.where(jnp.abs(x) < 0.5, 2 * x, jnp.sign(x))),
        box(4, **f32),
    )  # fmt: skip

    def tail(x):
        return jax.lax.dynamic_slice_in_dim(x, 4, 3)

    def tail_pull(start):
        def pull(v, x):
            return (jnp.zeros_like(x).at[start + jnp.arange(3)].set(v, mode="drop"),)

        return pull

    row(
        "jax-slice-clamped", "dynamic_slice clamps its start, the custom transpose does not",
        jax_vjp(tail, tail_pull(4)), jax_vjp(tail, tail_pull(3)), box(6, **f32),
    )  # fmt: skip


if importlib.util.find_spec("jax"):
    jax_rows()
