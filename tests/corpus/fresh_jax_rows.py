"""Rows written without a look at gradcheck: custom rules and programs of JAX."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, jax_jvp, jax_vjp, native_row


def jax_rows():
    import jax
    import jax.numpy as jnp
    from jax.scipy import linalg

    stop = jax.lax.stop_gradient
    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "jax", buggy, twin, *inputs, **options)

    def lambert(x):
        def unfinished(state):
            i, w, last = state
            return (i < 20) & jnp.any(jnp.abs(w - last) > 1e-6 * jnp.abs(w))

        def halley(state):
            i, w, _ = state
            e = jnp.exp(w)
            f = w * e - x
            return i + 1, w - f / (e * (w + 1) - (w + 2) * f / (2 * w + 2)), w

        start = jnp.log1p(x)
        return jax.lax.while_loop(unfinished, halley, (0, start, jnp.full_like(x, -1)))[1]

    row(
        "jax-lambert-w", "TFP lambertw: implicit derivative 1/(e^w (1 + w)) without its e^w",
        jax_jvp(lambert, lambda t, x: t[0] / (1 + lambert(x))),
        jax_jvp(lambert, lambda t, x: t[0] * jnp.exp(-lambert(x)) / (1 + lambert(x))),
        box(3, low=0, high=3, **f32),
    )  # fmt: skip

    def rms_norm(x, w):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + np.float32(1e-3)) * (1 + w)

    def rms_pull(gain):
        def pull(v, x, w):
            s = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + np.float32(1e-3))
            g = v * gain(w)
            return s * (g - x * s * s * jnp.mean(g * x, -1, keepdims=True)), jnp.sum(v * x * s, 0)

        return pull

    row(
        "jax-rms-norm-offset", "Gemma's RMSNorm scales by 1 + w, the ported backward by w",
        jax_vjp(rms_norm, rms_pull(lambda w: w)), jax_vjp(rms_norm, rms_pull(lambda w: 1 + w)),
        box(3, 4, **f32), box(4, low=-0.5, high=0.5, **f32),
    )  # fmt: skip
    causal = np.tril(np.ones((3, 3), bool))
    root = np.float32(np.sqrt(2))

    def weights(q, k, mask):
        return jax.nn.softmax(jnp.where(mask, q @ k.T / root, -jnp.inf), axis=-1)

    def attention(q, k, v):
        return weights(q, k, causal) @ v

    def attention_pull(mask):
        def pull(g, q, k, v):
            p, dp = weights(q, k, mask), g @ v.T
            ds = p * (dp - jnp.sum(p * dp, 1, keepdims=True)) / root
            return ds @ k, ds.T @ q, p.T @ g

        return pull

    row(
        "jax-attention-causal", "flash attention: scores recomputed backwards without the causal mask",
        jax_vjp(attention, attention_pull(True)), jax_vjp(attention, attention_pull(causal)),
        *(box(3, 2, low=-1, high=1, **f32) for _ in range(3)),
    )  # fmt: skip

    def keys_cubic(x):
        a = jnp.abs(x)
        inner, outer = (1 - a) * (1 + a - 1.5 * a * a), 0.5 * (1 - a) * (2 - a) ** 2
        return jnp.select([a <= 1, a < 2], [inner, outer], 0.0)

    def keys_slope(signed):
        def push(t, x):
            a = jnp.abs(x)
            slope = jnp.select([a <= 1, a < 2], [a * (4.5 * a - 5), (2 - a) * (1.5 * a - 2)], 0.0)
            return t[0] * (jnp.sign(x) * slope if signed else slope)

        return push

    row(
        "jax-bicubic-kernel-sign", "bicubic resampling (Keys): the kernel's slope without the offset's sign",
        jax_jvp(keys_cubic, keys_slope(False)), jax_jvp(keys_cubic, keys_slope(True)),
        box(5, low=-2.5, high=2.5, **f32),
    )  # fmt: skip
    rows = np.array([3, 1])

    def scale_rows(x, s):
        return x.at[rows].multiply(s, unique_indices=True)

    row(
        "jax-at-multiply-updated", ".at[].multiply: the factor's gradient from the updated buffer",
        jax_vjp(scale_rows, lambda v, x, s: (v.at[rows].multiply(s), (v * scale_rows(x, s))[rows])),
        scale_rows, box(5, dtype="float16"), box(2, low=1.5, high=3, dtype="float16"),
    )  # fmt: skip

    def clipped_unsafe(x):
        n = jnp.linalg.norm(x)
        return jnp.where(n > 1, x / n, x)

    row(
        "jax-clip-by-norm-zero", "optax-like clipping by norm, differentiated at a zero update",
        clipped_unsafe, lambda x: x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x), 1)),
        np.zeros(3, "float32"), expected="nonfinite",
    )  # fmt: skip

    def logsumexp(projected):
        def push(t, x):
            p = jax.nn.softmax(x)
            return p * (t[0] - jnp.sum(p * t[0]) if projected else t[0])

        slope = jax_jvp(lambda x: jax.nn.softmax(x, axis=0), push)
        return jax_jvp(lambda x: jax.nn.logsumexp(x, axis=0), lambda t, x: jnp.sum(slope(x) * t[0]))

    row(
        "jax-second-order-lse-diagonal", "Gauss-Newton code: logsumexp's Hessian is its diagonal part",
        logsumexp(False), logsumexp(True), box(3, low=0.5, high=2, **f32), order=2,
    )  # fmt: skip
    row(
        "jax-log1pmx", "x - log(1 + x) (Kullback-Leibler of exponentials) differentiated as it stands",
        lambda x: x - jnp.log1p(x),
        jax_jvp(lambda x: x * x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x / 5))),
                 lambda t, x: t[0] * x / (1 + x)),
        box(3, low=1e-5, high=1e-3, **f32), expected="imprecise",
    )  # fmt: skip

    def cube(residual):
        f = jax.custom_vjp(lambda x: x * x * x / 3)
        f.defvjp(
            lambda x: (x * x * x / 3, x.astype(residual)),
            lambda x, v: (v * (x * x).astype(v.dtype),),
        )
        return f

    row(
        "jax-residual-compressed", "activation compression: float32 residuals saved in bfloat16",
        cube("bfloat16"), cube("float32"), box(3, low=0.5, high=3, **f32), expected="imprecise",
    )  # fmt: skip
    spd = np.float32([[4, 1, 0.5], [1, 3, -1], [0.5, -1, 2]])
    lower = np.linalg.cholesky(spd)

    def kriging(b):
        return linalg.cho_solve((lower, True), b)

    row(
        "jax-cho-solve-half", "custom transpose of a Cholesky solve: one triangular factor only",
        jax_vjp(kriging, lambda v, b: (linalg.solve_triangular(lower, v, lower=True),)),
        jax_vjp(kriging, lambda v, b: (linalg.cho_solve((lower, True), v),)), box(3, **f32),
    )  # fmt: skip
    winners, losers = np.array([0, 0, 3, 1]), np.array([1, 2, 2, 2])

    def ranking(x):
        return jnp.mean(jax.nn.softplus(x[losers] - x[winners]))

    def ranking_pull(both):
        def pull(v, x):
            s = v * jax.nn.sigmoid(x[losers] - x[winners]) / 4
            g = jnp.zeros_like(x).at[winners].add(-s)
            return (g.at[losers].add(s) if both else g,)

        return pull

    row(
        "jax-pairwise-loser", "RankNet, reward models: the loser of each pair is not pushed down",
        jax_vjp(ranking, ranking_pull(False)), jax_vjp(ranking, ranking_pull(True)), box(4, **f32),
    )  # fmt: skip
    heights = np.float32([0, 0.5, 2, 2.5, 4])

    def monotone(track):
        def curve(widths, q):
            knots = jnp.concatenate([jnp.zeros_like(widths[:1]), jnp.cumsum(widths)])
            i = jnp.clip(jnp.searchsorted(knots, q, side="right") - 1, 0, 3)
            return heights[i] + np.diff(heights)[i] * (q - track(knots)[i]) / widths[i]

        return curve

    row(
        "jax-spline-knots-stopped", "monotone spline flow: the cumulated knots are stopped",
        monotone(stop), monotone(lambda k: k), box(4, low=0.5, high=1.5, **f32), box(3, low=0, high=4, **f32),
    )  # fmt: skip

    def newton_schulz(track):
        return lambda x: 1.5 * x - 0.5 * x @ track(x.T @ x)

    row(
        "jax-newton-schulz-gram", "orthogonalised weights (Muon): the Gram matrix is stopped",
        newton_schulz(stop), newton_schulz(lambda g: g), box(3, 2, low=-1, high=1, **f32),
    )  # fmt: skip

    def surrogate(d, advantage):
        r = jnp.exp(d)
        return jnp.minimum(r * advantage, jnp.clip(r, 0.8, 1.2) * advantage)

    def surrogate_pull(v, d, advantage):
        r = jnp.exp(d)
        inside = jnp.abs(r - 1) <= 0.2
        ratio = jnp.where(advantage > 0, jnp.minimum(r, 1.2), jnp.maximum(r, 0.8))
        return v * jnp.where(inside, r * advantage, 0), v * ratio

    row(
        "jax-ppo-clip-sign", "PPO: no gradient outside the clip range, whatever the advantage's sign",
        jax_vjp(surrogate, surrogate_pull), surrogate,
        box(4, low=-0.6, high=0.6, **f32), box(4, low=-2, high=2, **f32),
    )  # fmt: skip


if importlib.util.find_spec("jax"):
    jax_rows()
