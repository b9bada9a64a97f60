"""Rows written without a look at gradcheck: custom rules, modules and programs of torch and JAX."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, jax_vjp, native_row, torch_op


def torch_rows():
    import torch
    from torch import nn
    from torch.nn import functional as F

    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "torch", buggy, twin, *inputs, **options)

    # Gather and scatter.

    bags = torch.tensor([[1, 0, 2], [3, 1, 0]])
    kept = (bags != 0).unsqueeze(-1)

    def bag_pull(count):
        def pull(v, table):
            each = (kept * (v / count).unsqueeze(1)).reshape(6, 3)
            return torch.zeros_like(table).index_add(0, bags.reshape(-1), each)

        return pull

    def bag(table):
        return (table[bags] * kept).sum(1) / 2

    row(
        "torch-bag-padding-counted", "embedding_bag(mode='mean') with padding_idx: padding counted backwards",
        torch_op(bag, bag_pull(3)), torch_op(bag, bag_pull(2)), box(5, 3),
    )  # fmt: skip
    groups = torch.tensor([0, 0, 1, 1, 1, 2])

    def group_max(x):
        return torch.zeros_like(x[:3]).scatter_reduce(0, groups, x, "amax", include_self=False)

    def group_pull(shared):
        def pull(v, x):
            winners = (x == group_max(x)[groups]).to(x.dtype)
            count = torch.zeros_like(v).index_add(0, groups, winners)
            return winners * (v / count if shared else v)[groups]

        return pull

    row(
        "torch-scatter-amax-ties", "scatter_reduce('amax'): each winner paid whole; wrong at ties only",
        torch_op(group_max, group_pull(False)), torch_op(group_max, group_pull(True)), box(6, **f32),
    )  # fmt: skip
    row(
        "torch-pixel-shuffle-reshape", "pixel_shuffle: undone backwards by a reshape alone",
        torch_op(lambda x: F.pixel_shuffle(x, 2), lambda v, x: v.reshape(x.shape)),
        torch_op(lambda x: F.pixel_shuffle(x, 2), lambda v, x: F.pixel_unshuffle(v, 2)),
        box(1, 4, 2, 2, **f32),
    )  # fmt: skip

    # Fused layers and losses.

    def wkv(k, x):
        return (k.exp() * x).cumsum(0) / k.exp().cumsum(0)

    def suffixes(v):
        return v.flip(0).cumsum(0).flip(0)

    def wkv_pull(normalised):
        def pull(v, k, x):
            w = k.exp()
            share = v / w.cumsum(0)
            a, b = suffixes(share), suffixes(share * wkv(k, x))
            return w * (x * a - normalised * b), w * a

        return pull

    row(
        "torch-wkv-normaliser", "RWKV-like running average: the keys' gradient without the denominator's",
        torch_op(wkv, wkv_pull(0)), torch_op(wkv, wkv_pull(1)), box(4, 2, low=-1, high=1), box(4, 2),
    )  # fmt: skip
    classes = torch.tensor([0, 2, 1, 2])
    importance = torch.tensor([1.0, 2.0, 4.0])

    def balanced(x):
        return F.cross_entropy(x, classes, weight=importance.to(x.dtype))

    def balanced_pull(total):
        def pull(v, x):
            each = importance[classes].unsqueeze(1) / total
            return v * each * (x.softmax(1) - F.one_hot(classes, 3))

        return pull

    row(
        "torch-class-weights-mean", "weighted cross entropy: divided by the batch, not by its weights",
        torch_op(balanced, balanced_pull(4)), torch_op(balanced, balanced_pull(11)),
        box(4, 3, low=-2, high=2, **f32),
    )  # fmt: skip

    def margin(sine):
        return lambda x: 0.875 * x - 0.5 * sine(((1 - x) * (1 + x)).sqrt())

    row(
        "torch-angular-margin-sine", "ArcFace: the sine in cos(θ + m) computed without tracking",
        margin(lambda s: s.detach()), margin(lambda s: s), box(4, low=-0.9, high=0.9),
    )  # fmt: skip

    class LayerScale(nn.Module):
        def __init__(self, tracked):
            super().__init__()
            self.scale, self.tracked = nn.Parameter(torch.tensor([0.5, 1.0, 2.0]).double()), tracked

        def forward(self, x):
            return x + torch.tanh(x) * (self.scale if self.tracked else self.scale.data)

    row(
        "torch-parameter-data", "LayerScale, ReZero ports: the trained scale read through .data",
        LayerScale(False), LayerScale(True), box(2, 3),
    )  # fmt: skip

    # NaN and infinity.

    def distances(x):
        return (x[:, None] - x).square().sum(-1)

    def guarded(square):
        apart = square > 0
        return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)

    row(
        "torch-pairwise-diagonal", "all pairwise distances: the root's slope at each point's own distance 0",
        lambda x: distances(x).sqrt(), lambda x: guarded(distances(x)), box(3, 2), expected="nonfinite",
    )  # fmt: skip
    row(
        "torch-scores-scaled-late", "attention in float16: scores overflow before they are scaled",
        lambda q, k: ((q @ k.T) / 4096).softmax(-1), lambda q, k: ((q / 64) @ (k / 64).T).softmax(-1),
        box(2, 4, low=150, high=200, dtype="float16"), box(2, 4, low=150, high=200, dtype="float16"),
        expected="nonfinite",
    )  # fmt: skip

    def exponential_ratio(x):
        near = x.abs() < 2**-8
        far = torch.where(near, 1.0, x)
        return torch.where(
            near, 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5))), far.expm1() / far
        )

    row(
        "torch-exponential-ratio-zero", "exponential integrators: where(x == 0, 1, expm1(x)/x) at 0",
        lambda x: torch.where(x == 0, 1.0, x.expm1() / x), exponential_ratio,
        np.array([0.0, 1.0]), expected="nonfinite",
    )  # fmt: skip

    def root_by_eigenvalues(x):
        values, vectors = torch.linalg.eigh(x)
        return vectors * values.sqrt() @ vectors.T

    def root_by_iteration(x):
        y, z = x, torch.eye(3, dtype=x.dtype)
        for _ in range(7):  # Denman and Beavers 1976
            y, z = (y + torch.linalg.inv(z)) / 2, (z + torch.linalg.inv(y)) / 2
        return y

    row(
        "torch-eigh-repeated", "matrix square root by eigh (ZCA whitening) at a repeated eigenvalue",
        root_by_eigenvalues, root_by_iteration, np.diag([2.0, 2.0, 3.0]), expected="nonfinite",
    )  # fmt: skip

    # Lost digits.

    row(
        "torch-bfloat16-fast-variance", "variance of activations far from 0 by squares, in bfloat16",
        lambda x: (x * x).mean() - x.mean() ** 2,
        lambda x: (x.float() - x.float().mean()).square().mean().to(x.dtype),
        box(4, low=10, high=11, dtype="bfloat16"), expected="imprecise", strict=True,
    )  # fmt: skip
    row(
        "torch-tanh-autocast", "autocast by hand: tanh of float32 numbers through bfloat16",
        lambda x: x.bfloat16().tanh().float(), torch.tanh, box(3, low=0.5, high=2, **f32),
        expected="imprecise",
    )  # fmt: skip

    # Wrong only in forward mode; wrong only in second order.

    def lerp_pull(v, a, b, w):
        return v * (1 - w), v * w, v * (b - a)

    def lerp_tangent(sign):
        return lambda ta, tb, tw, a, b, w: ta * (1 - w) + tb * w + sign * tw * (b - a)

    row(
        "torch-jvp-lerp-weight", "custom lerp whose jvp has the ends of the weight's tangent swapped",
        torch_op(torch.lerp, lerp_pull, lerp_tangent(-1)), torch_op(torch.lerp, lerp_pull, lerp_tangent(1)),
        box(3, **f32), box(3, **f32), box(3, low=0, high=1, **f32),
    )  # fmt: skip

    def log_sigmoid(sign):
        inner = torch_op(
            lambda v, x: v * (-x).sigmoid(),
            lambda w, v, x: (w * (-x).sigmoid(), sign * w * v * x.sigmoid() * (-x).sigmoid()),
        )
        return torch_op(F.logsigmoid, inner)

    row(
        "torch-second-order-logsigmoid", "log_sigmoid's double backward: the sign of -x forgotten",
        log_sigmoid(1), log_sigmoid(-1), box(3), order=2,
    )  # fmt: skip


def jax_rows():
    import jax
    import jax.numpy as jnp

    stop = jax.lax.stop_gradient
    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "jax", buggy, twin, *inputs, **options)

    coupling = np.float32([[0.25, 0.5, 0], [-0.25, 0.125, 0.25], [0, -0.5, 0.25]])
    one = np.eye(3, dtype="float32")

    def fixed_point(x):
        return jax.lax.fori_loop(0, 80, lambda _, z: jnp.tanh(coupling @ z + x), jnp.zeros_like(x))

    def fixed_point_pull(transposed):
        def pull(v, x):
            slope = 1 / jnp.cosh(coupling @ fixed_point(x) + x) ** 2
            system = one - slope[:, None] * coupling
            return (slope * jnp.linalg.solve(system.T if transposed else system, v),)

        return pull

    row(
        "jax-fixed-point-transposed", "implicit layers: the adjoint system not transposed",
        jax_vjp(fixed_point, fixed_point_pull(False)), jax_vjp(fixed_point, fixed_point_pull(True)),
        box(3, low=-1, high=1, **f32),
    )  # fmt: skip

    def joined(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    def recurrence(a, x):
        return jax.lax.associative_scan(joined, (a, x))[1]

    def recurrence_pull(later):
        def pull(v, a, x):
            g = jax.lax.associative_scan(joined, (later(a), v), reverse=True)[1]
            before = jnp.concatenate([jnp.zeros_like(x[:1]), recurrence(a, x)[:-1]])
            return g * before, g

        return pull

    row(
        "jax-linear-recurrence-shift", "S5, linear recurrent units: gates not shifted in the reversed scan",
        jax_vjp(recurrence, recurrence_pull(lambda a: a)),
        jax_vjp(recurrence, recurrence_pull(lambda a: jnp.concatenate([a[1:], jnp.ones_like(a[:1])]))),
        box(5, low=0.25, high=1, **f32), box(5, **f32),
    )  # fmt: skip
    places = np.array([0, 5, 2, 3])

    def filled(x):
        return jnp.take(x, places, mode="fill", fill_value=0)

    row(
        "jax-take-fill-clipped", "take(mode='fill'): what lies outside is clipped to the last row backwards",
        jax_vjp(filled, lambda v, x: (jnp.zeros_like(x).at[np.clip(places, 0, 3)].add(v),)),
        jax_vjp(filled, lambda v, x: (jnp.zeros_like(x).at[places].add(v, mode="drop"),)), box(4, **f32),
    )  # fmt: skip

    def norm(track):
        f = jax.custom_jvp(lambda x: jnp.sqrt(jnp.sum(x * x)))
        f.defjvp(lambda xs, ts: (f(*xs), jnp.vdot(track(xs[0] / f(xs[0])), ts[0])))
        return f

    row(
        "jax-second-order-norm", "custom norm whose unit vector is stopped: no curvature",
        norm(stop), norm(lambda u: u), box(3, low=0.5, high=2, **f32), order=2,
    )  # fmt: skip

    def cutoff(guard):
        def f(r):
            q = guard(r) / 4
            return jnp.where(r < 4, jnp.exp(1 - 1 / (1 - q * q)), 0.0)

        return f

    row(
        "jax-cutoff-beyond", "Behler-Parrinello cut-off: exp overflows beyond the radius, unselected",
        cutoff(lambda r: r), cutoff(lambda r: jnp.where(r < 4, r, 0.0)),
        box(4, low=3.9375, high=4.0078125, **f32), expected="nonfinite",
    )  # fmt: skip
    ndtr = jax.scipy.special.ndtr
    row(
        "jax-truncated-normal-tail", "truncated normal's log mass: difference of CDF in the upper tail",
        lambda a: jnp.log(ndtr(a + 0.25) - ndtr(a)), lambda a: jnp.log(ndtr(-a) - ndtr(-a - 0.25)),
        box(3, low=4, high=4.5, **f32), expected="imprecise",
    )  # fmt: skip
    matrix = np.float32([[3, 1, 0], [-1, 4, 2], [0.5, 0, 2]])

    def solved(adjoint):
        def f(b):
            return jax.lax.custom_linear_solve(
                lambda y: matrix @ y,
                b,
                lambda _, c: jnp.linalg.solve(matrix, c),
                lambda _, c: jnp.linalg.solve(adjoint, c),
            )

        return f

    row(
        "jax-linear-solve-transpose", "custom_linear_solve of a matrix taken for symmetric",
        solved(matrix), solved(matrix.T), box(3, **f32),
    )  # fmt: skip

    def exponential_map(x):
        n = jnp.sqrt(jnp.sum(x * x))
        return jnp.tanh(n) * x / n

    def map_pull(radial):
        def pull(v, x):
            n = jnp.sqrt(jnp.sum(x * x))
            along = jnp.vdot(v, x) / n
            return (
                jnp.tanh(n) / n * v
                + radial * (1 / jnp.cosh(n) ** 2 - jnp.tanh(n) / n) * along * x / n,
            )

        return pull

    row(
        "jax-exponential-map-radial", "Poincaré ball's exponential map: the norm taken as constant",
        jax_vjp(exponential_map, map_pull(0)), jax_vjp(exponential_map, map_pull(1)),
        box(3, low=0.25, high=1.5, **f32),
    )  # fmt: skip

    def reflected(track):
        return lambda x, w: x - 2 * w * jnp.vdot(w, x) / track(jnp.vdot(w, w))

    row(
        "jax-householder-length", "Householder flow: the reflection vector's squared length is stopped",
        reflected(stop), reflected(lambda s: s), box(3, **f32), box(3, low=0.5, high=2, **f32),
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
if importlib.util.find_spec("jax"):
    jax_rows()
