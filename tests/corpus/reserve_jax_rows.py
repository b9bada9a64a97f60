"""Rows written without a look at gradcheck: custom rules and programs of JAX."""

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

    # Recurrences.

    def kalman(track):
        def run(noise, ys):
            def step(state, y):
                mean, variance = state
                predicted = variance + noise
                gain = predicted / (predicted + 1)
                mean = mean + track(gain) * (y - mean)
                return (mean, gain), mean

            return jax.lax.scan(step, (jnp.zeros_like(noise), jnp.ones_like(noise)), ys)[1]

        return run

    row(
        "jax-kalman-gain-stopped", "Kalman filter with a trained process noise: the gain is stopped",
        kalman(stop), kalman(lambda k: k), box(low=0.25, high=2, **f32), box(4, low=-2, high=2, **f32),
    )  # fmt: skip

    def velocity(z, w):
        return jnp.tanh(w @ z) / 4

    def trajectory(z, w):
        states = [z]
        for _ in range(4):
            states.append(states[-1] + velocity(states[-1], w))
        return states

    def reconstructed(z, w):
        states = [trajectory(z, w)[-1]]
        for _ in range(4):
            states.append(states[-1] - velocity(states[-1], w))
        return states[::-1]

    def adjoint(states):
        def pull(v, z, w):
            g, gw = v, jnp.zeros_like(w)
            for state in states(z, w)[-2::-1]:
                inner = g / (4 * jnp.cosh(w @ state) ** 2)
                g, gw = g + w.T @ inner, gw + jnp.outer(inner, state)
            return g, gw

        return pull

    def flow(z, w):
        return trajectory(z, w)[-1]

    row(
        "jax-adjoint-reconstructed", "neural ODE (Gholami 2019): Euler's states integrated back, not stored",
        jax_vjp(flow, adjoint(reconstructed)), jax_vjp(flow, adjoint(trajectory)),
        box(2, low=-2, high=2, **f32), box(2, 2, low=-2, high=2, **f32),
    )  # fmt: skip

    def advantages(deltas):
        out, a = [], jnp.zeros_like(deltas[0])
        for t in range(4, -1, -1):
            a = deltas[t] + 0.75 * a
            out.append(a)
        return jnp.stack(out[::-1])

    def advantages_pull(decay):
        def pull(v, deltas):
            out, g = [], jnp.zeros_like(v[0])
            for t in range(5):
                g = v[t] + decay * g
                out.append(g)
            return (jnp.stack(out),)

        return pull

    row(
        "jax-advantage-decay", "generalised advantage estimation: γ for γλ on the way back",
        jax_vjp(advantages, advantages_pull(0.9375)), jax_vjp(advantages, advantages_pull(0.75)),
        box(5, **f32),
    )  # fmt: skip

    # Layers.

    def squeeze(x):
        return x * jax.nn.sigmoid(jnp.mean(x, axis=1, keepdims=True))

    def squeeze_pull(count):
        def pull(v, x):
            m = jnp.mean(x, axis=1, keepdims=True)
            gate, slope = jax.nn.sigmoid(m), jax.nn.sigmoid(m) * jax.nn.sigmoid(-m)
            return (v * gate + jnp.sum(v * x, axis=1, keepdims=True) * slope / count,)

        return pull

    row(
        "jax-squeeze-excite-mean", "squeeze-and-excitation: pooling's 1/n lost on the gate's path",
        jax_vjp(squeeze, squeeze_pull(1)), jax_vjp(squeeze, squeeze_pull(4)), box(2, 4, **f32),
    )  # fmt: skip

    def squared_relu(x):
        return jnp.square(jnp.maximum(x, 0))

    row(
        "jax-bfloat16-squared-relu", "squared ReLU (Primer) in bfloat16: the power's 2 forgotten",
        jax_jvp(squared_relu, lambda t, x: t[0] * jnp.maximum(x, 0)),
        jax_jvp(squared_relu, lambda t, x: 2 * t[0] * jnp.maximum(x, 0)), box(4, dtype="bfloat16"),
    )  # fmt: skip

    def wave(order):
        slope = jax_jvp(
            lambda x: 3 * jnp.cos(3 * x), lambda t, x: -(3**order) * jnp.sin(3 * x) * t[0]
        )
        return jax_jvp(lambda x: jnp.sin(3 * x), lambda t, x: slope(x) * t[0])

    row(
        "jax-second-order-sine-layer", "SIREN's sine in physics-informed networks: ω for ω² in its curvature",
        wave(1), wave(2), box(3, low=-1, high=1, **f32), order=2,
    )  # fmt: skip

    # Statistics.

    def power_log(k, p):
        return jnp.where(k == 0, 0, k * jnp.log(p))

    def power_log_push(factor):
        return lambda t, k, p: factor(k, p) * t[0] + k / p * t[1]

    def beta(product):
        return lambda a, p: product(a - 1, p) + jnp.log1p(-p)

    row(
        "jax-beta-unit-concentration", "jax#15598: xlogy's slope masked at 0, so Beta(1, b) has none by a",
        beta(jax_jvp(power_log, power_log_push(lambda k, p: jnp.where(k == 0, 0, jnp.log(p))))),
        beta(jax_jvp(power_log, power_log_push(lambda k, p: jnp.log(p)))),
        np.float32([1, 1, 2]), np.float32([0.25, 0.5, 0.125]),
    )  # fmt: skip
    row(
        "jax-confident-cross-entropy", "softmax collapse (Prieto 2025): loss of a confident prediction",
        lambda x, others: jax.nn.logsumexp(jnp.append(others, x)) - x,
        lambda x, others: jnp.log1p(jnp.sum(jnp.exp(others - x))),
        box(low=11, high=14, **f32), box(3, low=-1, high=1, **f32), expected="imprecise", strict=True,
    )  # fmt: skip

    # NaN from what is not selected.

    def stability(guard):
        return lambda z: jnp.where(z < 0, (1 - 16 * guard(z)) ** -0.25, 1 + 5 * z)

    row(
        "jax-stability-function", "Businger-Dyer profiles in weather models: unselected root of a negative",
        stability(lambda z: z), stability(lambda z: jnp.minimum(z, 0)),
        box(3, low=0.125, high=1, **f32), expected="nonfinite",
    )  # fmt: skip

    def slerp(guard):
        def f(a, b):
            cosine = jnp.vdot(a, b)
            near = cosine > 0.9995
            angle = jnp.arccos(guard(near, cosine))
            turned = (jnp.sin(0.75 * angle) * a + jnp.sin(0.25 * angle) * b) / jnp.sin(angle)
            return jnp.where(near, 0.75 * a + 0.25 * b, turned)

        return f

    row(
        "jax-slerp-parallel", "quaternion slerp with its linear fallback: arccos' slope at 1, unselected",
        slerp(lambda near, c: jnp.clip(c, -1, 1)), slerp(lambda near, c: jnp.where(near, 0.5, c)),
        np.float32([0.5, 0.5, 0.5, 0.5]), np.float32([0.5, 0.5, 0.5, 0.5]), expected="nonfinite",
    )  # fmt: skip


if importlib.util.find_spec("jax"):
    jax_rows()
