"""Rows written without a look at gradcheck: JAX's custom rules, shards, schedules, curvature."""

from __future__ import annotations

import importlib.util
import math
from functools import partial

import numpy as np

from .rows import box, jax_jvp, jax_vjp, native_row


def jax_rows():
    import jax
    import jax.numpy as jnp

    stop = jax.lax.stop_gradient
    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "jax", buggy, twin, *inputs, **options)

    # Custom rules and what is not differentiated.

    def celu(width):
        @partial(jax.custom_jvp, nondiff_argnums=(1,))
        def op(x, alpha):
            return jnp.maximum(x, 0) + alpha * jnp.expm1(jnp.minimum(x, 0) / alpha)

        @op.defjvp
        def _(alpha, primals, tangents):
            (x,), (t,) = primals, tangents
            return op(x, alpha), t * jnp.exp(jnp.minimum(x, 0) / width(alpha))

        return lambda x: op(x, 0.5)

    row(
        "i-jax-nondiff-width",
        "custom_jvp with nondiff_argnums: CELU's slope for α = 1, whatever the argument",
        celu(lambda alpha: 1), celu(lambda alpha: alpha), box(5, **f32),
    )  # fmt: skip

    def running_sum(back):
        @partial(jax.custom_vjp, nondiff_argnums=(0,))
        def op(axis, x):
            return jnp.cumsum(x, axis)

        def pull(axis, _, v):
            return (jnp.flip(jnp.cumsum(jnp.flip(v, back(axis)), axis), back(axis)),)

        op.defvjp(lambda axis, x: (op(axis, x), None), pull)
        return lambda x: op(0, x)

    row(
        "i-jax-nondiff-axis",
        "custom_vjp cumsum with its axis as nondiff_argnums: flipped along the last one",
        running_sum(lambda axis: -1), running_sum(lambda axis: axis), box(3, 4, **f32),
    )  # fmt: skip

    def integrand(c, x):
        return c * x**3 - x + 1

    def simpson(a, b, c):
        return (b - a) / 6 * (integrand(c, a) + 4 * integrand(c, (a + b) / 2) + integrand(c, b))

    def leibniz(sign):
        def pull(v, a, b, c):
            square = a * a + b * b
            return (
                sign * v * integrand(c, a),
                v * integrand(c, b),
                v * (b - a) * (a + b) * square / 4,
            )

        return pull

    row(
        "i-jax-quadrature-lower-limit",
        "quadrature with a rule of its own: the lower limit's minus forgotten",
        jax_vjp(simpson, leibniz(1)), jax_vjp(simpson, leibniz(-1)),
        box(low=-1, high=1, **f32), box(low=1, high=2, **f32), box(low=-1, high=1, **f32),
    )  # fmt: skip

    def gated(gate, up):
        g = jnp.minimum(gate, 2)
        return g * jax.nn.sigmoid(1.5 * g) * (1 + jnp.clip(up, -2, 2))

    def gated_pull(mask):
        def pull(v, gate, up):
            g, u = jnp.minimum(gate, 2), jnp.clip(up, -2, 2)
            s = jax.nn.sigmoid(1.5 * g)
            by_g = s * (1 + 1.5 * g * jax.nn.sigmoid(-1.5 * g)) * (1 + u)
            return v * by_g * mask(gate), v * g * s * (abs(up) < 2)

        return pull

    row(
        "i-jax-bfloat16-clamped-gate",
        "gpt-oss-like clamped SwiGLU in bfloat16: the gate's clamp not in the backward",
        jax_vjp(gated, gated_pull(jnp.ones_like)), jax_vjp(gated, gated_pull(lambda g: g < 2)),
        box(4, low=-3, high=4, dtype="bfloat16"), box(4, low=-3, high=3, dtype="bfloat16"),
    )  # fmt: skip
    depth = np.arange(5)[:, None] - np.arange(5)

    def windowed(width):
        seen = (depth >= 0) & (depth < width)

        def probabilities(q, k):
            return jax.nn.softmax(jnp.where(seen, q @ k.T, -jnp.inf), axis=1)

        return probabilities

    def local_attention(q, k, v):
        return windowed(3)(q, k) @ v

    def local_attention_pull(width):
        def pull(bar, q, k, v):
            p, dp = windowed(width)(q, k), bar @ v.T
            ds = p * (dp - (p * dp).sum(1, keepdims=True))
            return ds @ k, ds.T @ q, p.T @ bar

        return pull

    row(
        "i-jax-window-wider-backwards",
        "sliding-window attention: the recomputed mask reaches back one key more",
        jax_vjp(local_attention, local_attention_pull(4)),
        jax_vjp(local_attention, local_attention_pull(3)),
        box(5, 2, low=-1, high=1, **f32), box(5, 2, low=-1, high=1, **f32), box(5, 2, low=-1, high=1, **f32),
    )  # fmt: skip

    # Batches and shards.

    def all_shards(x):
        return x.mean()

    def each_shard(x):
        return x.mean(1, keepdims=True)

    def inverse_scale(x):
        return jax.lax.rsqrt(all_shards(x * x) + 0.125)

    def shards_pull(mean):
        def pull(v, x):
            r = inverse_scale(x)
            return (r * v - r**3 * x * mean(x * v),)

        return pull

    row(
        "i-jax-shards-local-backward",
        "synchronised norm: statistics of all shards forwards, of each backwards",
        jax_vjp(lambda x: x * inverse_scale(x), shards_pull(each_shard)),
        jax_vjp(lambda x: x * inverse_scale(x), shards_pull(all_shards)), box(2, 3, low=-2, high=2, **f32),
    )  # fmt: skip

    def memberships(scale):
        def share(d):
            weight = (d / scale(d)) ** -8
            return weight / weight.sum()

        return share

    row(
        "i-jax-fuzzy-memberships",
        "fuzzy c-means: inverse eighth powers of short distances overflow in float32",
        memberships(jnp.ones_like), memberships(lambda d: stop(d.min())),
        box(4, low=1e-6, high=1.5e-6, **f32), expected="nonfinite",
    )  # fmt: skip

    # Special points.

    def between(x, y):
        return 0.5 * ((x - y) ** 2).sum(1)

    def squared_arcosh(z):
        return jnp.arccosh(1 + z) ** 2

    def squared_arcosh_selected(z):
        apart = jnp.where(z > 0, z, 1)
        return jnp.where(z > 0, 4 * jnp.arcsinh(jnp.sqrt(apart / 2)) ** 2, 2 * z)

    row(
        "i-jax-hyperbolic-same-point",
        "squared hyperbolic distance of a point from itself: 2 arcosh 1 · ∞ · 0",
        lambda x, y: squared_arcosh(between(x, y)), lambda x, y: squared_arcosh_selected(between(x, y)),
        np.float32([[0.5, 1.0], [0.25, -0.5]]), np.float32([[0.5, 1.0], [1.0, 0.75]]),
        expected="nonfinite",
    )  # fmt: skip

    # Lost digits.

    step = 2.0**-16
    row(
        "i-jax-cosine-schedule-beta",
        "diffusion's cosine schedule: β = 1 - ᾱ(t + δ)/ᾱ(t) of many short steps",
        lambda t: 1 - (jnp.cos(t + step) / jnp.cos(t)) ** 2,
        lambda t: math.sin(step) * jnp.sin(2 * t + step) / jnp.cos(t) ** 2,
        box(4, low=0.25, high=1, **f32), expected="imprecise",
    )  # fmt: skip

    # Wrong only in forward mode; wrong only in second order.

    def whitened(a, x):
        factor = jnp.linalg.cholesky(a @ a.T + 2 * jnp.eye(2))
        return jax.scipy.linalg.solve_triangular(factor, x, lower=True)

    def whitened_push(second):
        def push(t, a, x):
            c, tc = a @ a.T + 2 * jnp.eye(2), t[0] @ a.T + second(a @ t[0].T, t[0] @ a.T)
            factor = jnp.linalg.cholesky(c)
            half = jax.scipy.linalg.solve_triangular(factor, tc, lower=True)
            both = jax.scipy.linalg.solve_triangular(factor, half.T, lower=True)
            lower = jnp.tril(both, -1) + jnp.diag(jnp.diag(both)) / 2
            y = jax.scipy.linalg.solve_triangular(factor, x, lower=True)
            ty = jax.scipy.linalg.solve_triangular(factor, t[1], lower=True)
            return ty - lower @ y

        return push

    row(
        "i-jax-whitening-gram-tangent",
        "whitening by Cholesky, custom_jvp: Gram matrix's tangent, one product twice",
        jax_jvp(whitened, whitened_push(lambda right, left: left)),
        jax_jvp(whitened, whitened_push(lambda right, left: right)),
        box(2, 2, low=-1, high=1, **f32), box(2, **f32),
    )  # fmt: skip

    def bell(curvature):
        slope = jax_jvp(
            lambda x: -2 * x * jnp.exp(-x * x), lambda t, x: t[0] * curvature(x) * jnp.exp(-x * x)
        )
        return jax_jvp(lambda x: jnp.exp(-x * x), lambda t, x: t[0] * slope(x))

    row(
        "i-jax-second-order-bell", "radial basis in physics-informed networks: curvature 4x² without its -2",
        bell(lambda x: 4 * x * x), bell(lambda x: 4 * x * x - 2), box(4, low=-2, high=2, **f32), order=2,
    )  # fmt: skip

    def residuals(w):
        return jnp.stack([w[0] * w[1] - 1, jnp.sin(w[0]) + w[1], w[1] ** 2 - 0.5])

    def linearised(w):
        at = stop(w)
        r, moved = jax.jvp(residuals, (at,), (w - at,))
        return jnp.sum((r + moved) ** 2) / 2

    row(
        "i-jax-second-order-gauss-newton",
        "least squares of linearised residuals: right slope, no curvature of theirs",
        linearised, lambda w: jnp.sum(residuals(w) ** 2) / 2, box(2, low=-2, high=2, **f32), order=2,
    )  # fmt: skip


if importlib.util.find_spec("jax"):
    jax_rows()
