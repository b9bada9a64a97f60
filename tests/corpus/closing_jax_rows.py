"""Rows written without a look at gradcheck: filters, matrices, programmes (NumPy); learners, flows (JAX)."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, jax_jvp, jax_vjp, native_row, numpy_jvp_row, numpy_row

# Filters, linear algebra, optimisation in NumPy.


def filtered(y, r):
    """Give the steps of a scalar Kalman filter: means before, variances before, gains."""
    m, p, steps = 0 * y[0], 1 + 0 * r, []
    for one in y:
        p = p + 0.25
        k = p / (p + r)
        steps.append((m, p, k))
        m, p = m + k * (one - m), (1 - k) * p
    return m, steps


def filtered_tangent(adaptive):
    def jvp(tangents, y, r):
        ty, tr = tangents
        tm, tp = 0 * y[0], 0 * r
        for (m, p, k), one, t in zip(filtered(y, r)[1], y, ty, strict=True):
            tk = ((1 - k) * tp - k * tr) / (p + r)
            tm = tm + adaptive * tk * (one - m) + k * (t - tm)
            tp = (1 - k) * tp - tk * p
        return tm

    return jvp


numpy_jvp_row(
    "c-kalman-gain-tangent", "Kalman filter's sensitivity to its noise: the gain's tangent not in the mean",
    lambda y, r: filtered(y, r)[0], filtered_tangent(0), filtered_tangent(1),
    box(4), box(low=0.5, high=2),
)  # fmt: skip

TALL = np.array([[3.0, 0.0], [1.0, 2.0], [1.0, -1.0], [0.0, -2.0]])


def pseudo_inverse(x):
    a = TALL + x
    return np.linalg.solve(a.T @ a, a.T)


def pseudo_inverse_vjp(complement):
    def vjp(v, x):
        p = pseudo_inverse(x)
        rest = np.eye(4) - (TALL + x) @ p
        return (complement * rest @ v.T @ p @ p.T - p.T @ v @ p.T,)

    return vjp


numpy_row(
    "c-pseudo-inverse-square", "pinv (Golub and Pereyra 1973): the square inverse's formula for a tall one",
    pseudo_inverse, pseudo_inverse_vjp(0), pseudo_inverse_vjp(1), box(4, 2, low=-0.5, high=0.5),
)  # fmt: skip
SPREAD = np.array([[1.0, 4.0, 0.0], [0.0, 1.0, 7.0], [2.0, 0.0, 1.0]])


def singular_tangent(right):
    def jvp(tangents, x):
        u, _, vh = np.linalg.svd(SPREAD + x)
        return (u * (tangents[0] @ right(vh))).sum(0)

    return jvp


numpy_jvp_row(
    "c-singular-values-tangent", "singular values in forward mode: svd's third result used as V, not as Vᵀ",
    lambda x: np.linalg.svd(SPREAD + x, compute_uv=False),
    singular_tangent(lambda vh: vh), singular_tangent(np.transpose), box(3, 3, low=-0.5, high=0.5),
)  # fmt: skip
CONSTRAINT = np.array([[1.0, 2.0, -1.0]])


def optimality(q):
    return np.concatenate([
        np.concatenate([np.diag(q), CONSTRAINT.T], axis=1),
        np.concatenate([CONSTRAINT, np.zeros((1, 1))], axis=1),
    ])  # fmt: skip


def programme(q, p, b):
    return np.linalg.solve(optimality(q), np.concatenate([-p, b]))[:3]


def programme_vjp(sign):
    def vjp(v, q, p, b):
        d = np.linalg.solve(optimality(q), np.concatenate([v, np.zeros(1)]))
        return -d[:3] * programme(q, p, b), -d[:3], sign * d[3:]

    return vjp


numpy_row(
    "c-quadratic-programme-dual", "OptNet: sign of the equality constraint's multiplier in b's gradient",
    programme, programme_vjp(-1), programme_vjp(1),
    box(3, low=0.5, high=2), box(3, low=-2, high=2), box(1, low=-2, high=2),
)  # fmt: skip


def jax_rows():
    import jax
    import jax.numpy as jnp

    stop = jax.lax.stop_gradient
    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "jax", buggy, twin, *inputs, **options)

    # Activations.

    def learned_clip(x, a):
        return jnp.clip(x, -1, a)

    def learned_clip_push(above):
        def push(t, x, a):
            inside = (x > -1) & (x < a)
            return jnp.where(inside, t[0], 0) + jnp.where(above(x, a, inside), t[1], 0)

        return push

    row(
        "c-jax-learned-clip-below", "PACT-like hard tanh: the trained bound gets what is clipped below, too",
        jax_jvp(learned_clip, learned_clip_push(lambda x, a, inside: ~inside)),
        jax_jvp(learned_clip, learned_clip_push(lambda x, a, inside: x >= a)),
        box(5, low=-2, high=3, **f32), box(low=0.5, high=2, **f32),
    )  # fmt: skip

    def squared_relu(x):
        return jnp.square(jnp.maximum(x, 0))

    row(
        "c-jax-squared-relu-factor", "Primer's squared ReLU in bfloat16: its 2 forgotten",
        jax_jvp(squared_relu, lambda t, x: t[0] * jnp.maximum(x, 0)),
        jax_jvp(squared_relu, lambda t, x: t[0] * 2 * jnp.maximum(x, 0)),
        box(4, low=-2, high=2, dtype="bfloat16"),
    )  # fmt: skip

    # Graphs and sequences.

    links = np.float32([[0, 1, 1], [1, 0, 0], [0, 0, 0]])
    count = links.sum(1, keepdims=True)
    row(
        "c-jax-isolated-node", "graph convolution by means: where(count > 0) around the division by count",
        lambda x: jnp.where(count > 0, links @ x / count, 0),
        lambda x: jnp.where(count > 0, links @ x / np.maximum(count, 1), 0),
        box(3, 2, **f32), expected="nonfinite",
    )  # fmt: skip

    def delta_rule(track):
        def run(keys, values, rates):
            def step(memory, now):
                k, v, rate = now
                memory = memory + rate * jnp.outer(v - track(memory @ k), k)
                return memory, None

            return jax.lax.scan(step, jnp.zeros((2, 2), keys.dtype), (keys, values, rates))[0]

        return run

    row(
        "c-jax-delta-rule-erase", "DeltaNet: what the memory holds for a key is read without gradient",
        delta_rule(stop), delta_rule(lambda x: x),
        box(4, 2, low=-1, high=1, **f32), box(4, 2, low=-1, high=1, **f32), box(4, low=0, high=1, **f32),
    )  # fmt: skip

    # Optimisation and implicit layers.

    features = np.float32([[0.5, -1, 0.25], [1, 0.5, -0.5], [-0.25, 0.75, 1]])
    aims = np.float32([0.5, -0.5, 0.25])

    def adapted(track):
        def inner(w):
            return jnp.sum((jnp.tanh(features @ w) - aims) ** 2)

        return lambda w: jnp.sum((w - 0.25 * track(jax.grad(inner)(w)) - aims[::-1]) ** 2)

    row(
        "c-jax-meta-first-order", "MAML: the inner step's gradient is stopped, the first-order variant",
        adapted(stop), adapted(lambda g: g), box(3, low=-1, high=1, **f32),
    )  # fmt: skip

    def inverse_flow(y):
        x = y
        for _ in range(8):
            x = x - (x + 0.5 * jnp.tanh(x) - y) / (1 + 0.5 / jnp.cosh(x) ** 2)
        return x

    def inverse_flow_pull(place):
        return lambda v, y: (v / (1 + 0.5 / jnp.cosh(place(y)) ** 2),)

    row(
        "c-jax-inverse-flow-point", "a flow inverted by Newton steps: the slope taken at y, not at x",
        jax_vjp(inverse_flow, inverse_flow_pull(lambda y: y)),
        jax_vjp(inverse_flow, inverse_flow_pull(inverse_flow)), box(4, low=-2, high=2, **f32),
    )  # fmt: skip

    # Lost digits.

    row(
        "c-jax-discount-near-one", "discounted returns' normaliser (1 - γⁿ)/(1 - γ) differentiated as it is",
        lambda g: (1 - g**8) / (1 - g), lambda g: jnp.polyval(jnp.ones(8, g.dtype), g),
        box(3, low=0.998, high=0.9999, **f32), expected="imprecise",
    )  # fmt: skip

    def slerp_by_series(angle, t):
        s, square = 1 - t, angle * angle
        return s * (1 + square * (1 - s * s) / 6 * (1 + square * (7 - 3 * s * s) / 60))

    row(
        "c-jax-slerp-weight", "slerp of close rotations: sin((1 - t)θ)/sin θ differentiated as it is",
        lambda angle, t: jnp.sin((1 - t) * angle) / jnp.sin(angle), slerp_by_series,
        box(3, low=1e-3, high=1e-2, **f32), box(3, low=0.25, high=0.75, **f32), expected="imprecise",
    )  # fmt: skip

    # Wrong only in second order.

    def cubic_root(x):
        z = x
        for _ in range(9):
            z = z - (z**3 + z - x) / (3 * z**2 + 1)
        return z

    def one_newton_step(x):
        z = stop(cubic_root(x))
        return z - (z**3 + z - x) / stop(3 * z**2 + 1)

    root = jax_jvp(cubic_root, lambda t, x: t[0] / (3 * root(x) ** 2 + 1))
    row(
        "c-jax-second-order-newton-step", "implicit layers by one tracked Newton step: no curvature",
        one_newton_step, root, box(3, low=0.5, high=2, **f32), order=2,
    )  # fmt: skip
    apart = np.float32([[2, 1, 1], [1, 3, 2], [1, 2, 5]])

    def symmetric(x):
        return apart + (x + x.T) / 2

    def rayleigh(x):
        vector = stop(jnp.linalg.eigh(symmetric(x))[1][:, -1])
        return vector @ symmetric(x) @ vector

    row(
        "c-jax-second-order-rayleigh", "largest eigenvalue as vᵀAv of a stopped vector: first order alone",
        rayleigh, lambda x: jnp.linalg.eigvalsh(symmetric(x))[-1], box(3, 3, low=-0.5, high=0.5, **f32),
        order=2,
    )  # fmt: skip


if importlib.util.find_spec("jax"):
    jax_rows()
