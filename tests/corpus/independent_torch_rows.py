"""Rows written without a look at gradcheck: torch kernels, adapters, masks, forward mode, double backward."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, native_row, torch_op


def torch_rows():
    import torch
    from torch.nn import functional as F

    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "torch", buggy, twin, *inputs, **options)

    # Kernels and what they are given.

    def row_major(v):
        return v.as_strided(v.shape, (v.shape[1], 1))

    def swish(layout):
        def pull(v, x):
            s = x.sigmoid()
            return layout(v) * s * (1 + x * (-x).sigmoid())

        op = torch_op(lambda x: x * x.sigmoid(), pull)
        return lambda x: op(x).t()

    row(
        "i-torch-cotangent-strides",
        "Triton kernel: rows of the cotangent a stride apart that it has not, transposed",
        swish(row_major), swish(lambda v: v), box(2, 3, **f32),
    )  # fmt: skip

    def attention(q, k, v):
        s = q @ k.t()
        return s.softmax(1) @ v, s.logsumexp(1)

    def attention_pull(merged):
        def pull(bar, bar_total, q, k, v):
            p = (q @ k.t()).softmax(1)
            dp = bar @ v.t()
            ds = p * (dp - (p * dp).sum(1, keepdim=True) + merged * bar_total[:, None])
            return ds @ k, ds.t() @ q, p.t() @ bar

        return pull

    row(
        "i-torch-attention-lse-output",
        "ring attention: flash attention's second result, the lse, has no gradient",
        torch_op(attention, attention_pull(0)), torch_op(attention, attention_pull(1)),
        box(2, 2, low=-1, high=1), box(3, 2, low=-1, high=1), box(3, 2, low=-1, high=1),
    )  # fmt: skip

    def standardised(x):
        m, s = x.mean(0), x.std(0, correction=0)
        return (x - m) / s, m, s

    def standardised_pull(order):
        def pull(bar, *bars):
            x = bars[-1]
            bar_m, bar_s = order(*bars[:-1])
            h, _, s = standardised(x)
            return (bar - bar.mean(0) - h * (bar * h).mean(0)) / s + (bar_m + h * bar_s) / len(x)

        return pull

    def first_and_last(op):
        def scaled(x):
            y, _, s = op(x)
            return y, s

        return scaled

    row(
        "i-torch-unused-output-order",
        "Function of (y, mean, std), mean unused: backward takes the std's place for it",
        first_and_last(torch_op(standardised, standardised_pull(lambda m, s: (s, m)))),
        first_and_last(torch_op(standardised, standardised_pull(lambda m, s: (m, s)))),
        np.array([[1.5, -0.5], [-1.0, 2.0], [0.25, -1.75], [-2.0, 0.5]]),
    )  # fmt: skip
    frozen = torch.tensor([[0.5, -1.0], [0.25, 0.75], [-0.5, 1.0]])

    def adapted(x, a, b):
        return x @ frozen.to(x.dtype) + 4 * (x @ a @ b)

    def adapted_pull(scale):
        def pull(v, x, a, b):
            bar = 4 * v @ b.t()
            by_x = v @ frozen.to(x.dtype).t() + bar @ a.t()
            return by_x, x.t() @ bar, scale * (x @ a).t() @ v

        return pull

    row(
        "i-torch-lora-scale",
        "fused LoRA layer: α/r reaches the first factor and the input, not the second factor",
        torch_op(adapted, adapted_pull(1)), torch_op(adapted, adapted_pull(4)),
        box(2, 3, low=-1, high=1, **f32), box(3, 2, low=-1, high=1, **f32), box(2, 2, low=-1, high=1, **f32),
    )  # fmt: skip
    positions = torch.tensor([3.0, 257.0, 1029.0])

    def turned(x, at, sign):
        angle = 0.5 * at.to(x.dtype)
        c, s = angle.cos(), sign * angle.sin()
        a, b = x[:, 0], x[:, 1]
        return torch.stack([a * c - b * s, a * s + b * c], dim=1)

    row(
        "i-torch-positions-bfloat16",
        "rotary embedding: the backward's positions in bfloat16, exact up to 256",
        torch_op(lambda x: turned(x, positions, 1), lambda v, x: turned(v, positions.bfloat16(), -1)),
        torch_op(lambda x: turned(x, positions, 1), lambda v, x: turned(v, positions, -1)),
        box(3, 2, **f32),
    )  # fmt: skip
    point = torch.tensor([1.0, -0.5, 2.0])

    def rotated(q):
        n = q / torch.linalg.vector_norm(q)
        w, u, p = n[0], n[1:], point.to(q.dtype)
        return p + 2 * (w * torch.linalg.cross(u, p) + u * (u @ p) - p * (u @ u))

    def rotated_pull(projected):
        def pull(v, q):
            r, p = torch.linalg.vector_norm(q), point.to(q.dtype)
            n = q / r
            w, u = n[0], n[1:]
            by_w = 2 * (v @ torch.linalg.cross(u, p))
            by_u = 2 * w * torch.linalg.cross(p, v)
            by_u = by_u + 2 * (v * (u @ p) + p * (u @ v)) - 4 * u * (p @ v)
            g = torch.cat([by_w[None], by_u])
            return (g - projected * (g @ n) * n) / r

        return pull

    row(
        "i-torch-quaternion-normalised",
        "Gaussian splatting: quaternions normalised within, the backward only divides",
        torch_op(rotated, rotated_pull(0)), torch_op(rotated, rotated_pull(1)), box(4, low=0.25, high=1),
    )  # fmt: skip

    def similarities(x, y, s):
        return s.exp() * (x @ y.t())

    def similarities_pull(factor):
        def pull(v, x, y, s):
            g = v * s.exp()
            return g @ y, g.t() @ x, (v * (x @ y.t())).sum() * factor(s)

        return pull

    row(
        "i-torch-bfloat16-logit-scale",
        "CLIP in bfloat16: the logarithmic scale trained as if it were the scale",
        torch_op(similarities, similarities_pull(torch.ones_like)),
        torch_op(similarities, similarities_pull(torch.exp)),
        box(2, 2, low=0.25, high=1, dtype="bfloat16"), box(2, 2, low=0.25, high=1, dtype="bfloat16"),
        box(low=1, high=2, dtype="bfloat16"),
    )  # fmt: skip

    # Branches on data.

    def halting(track):
        def run(x, bias):
            left, mean, state = torch.ones_like(x), torch.zeros_like(x), x
            for _ in range(4):
                state = torch.sin(2 * state) + 0.5 * state
                p = (state + bias).sigmoid()
                if p > left - 0.05:
                    break
                mean, left = mean + p * state, left - p
            return mean + track(left) * state

        return run

    row(
        "i-torch-halting-remainder",
        "adaptive computation time (Graves 2016): the remainder without gradient",
        halting(lambda r: r.detach()), halting(lambda r: r), box(low=0.25, high=1.5), box(low=-1.5, high=0),
    )  # fmt: skip
    steps = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]])

    def by_logarithms(e):
        a = e[0] + torch.tensor([1.0, 0, 0], dtype=e.dtype).log()
        for emission in e[1:]:
            a = emission + (a[:, None] + steps.to(e.dtype).log()).exp().sum(0).log()
        return a.exp().sum().log()

    def by_products(e):
        a = e[0].exp() * torch.tensor([1.0, 0, 0], dtype=e.dtype)
        for emission in e[1:]:
            a = emission.exp() * (a @ steps.to(e.dtype))
        return a.sum().log()

    row(
        "i-torch-unreached-state",
        "left-to-right HMM in the log domain: a state not reached yet is log 0, slope 0 · ∞",
        by_logarithms, by_products, box(4, 3, low=-2, high=0, **f32), expected="nonfinite",
    )  # fmt: skip

    # Lost digits.

    padding = torch.tensor([[0.0, 0.0, -10000.0], [-10000.0, -10000.0, -10000.0]])

    def masked_softmax(mask):
        return lambda x: (x + mask.to(x.dtype)).softmax(1)

    row(
        "i-torch-float16-padded-row",
        "BERT's additive mask in float16: scores of a row of padding lost beside -10000",
        masked_softmax(padding), masked_softmax(padding - padding.amax(1, keepdim=True)),
        box(2, 3, low=-2, high=2, dtype="float16"), expected="imprecise",
    )  # fmt: skip
    row(
        "i-torch-squashed-log-det",
        "soft actor-critic: log(1 - tanh² u) of a saturated action, the loss itself",
        lambda u: (1 - u.tanh().square()).log(),
        lambda u: 2 * (torch.log(torch.tensor(2.0, dtype=u.dtype)) - u - F.softplus(-2 * u)),
        box(4, low=6, high=8, **f32), expected="imprecise",
    )  # fmt: skip

    # Wrong only in forward mode; wrong only in second order.

    def lower_solve(a, b):
        return torch.linalg.solve_triangular(a.tril(), b, upper=False)

    def lower_solve_pull(v, a, b):
        w = torch.linalg.solve_triangular(a.tril().t(), v, upper=True)
        return -(w @ lower_solve(a, b).t()).tril(), w

    def lower_solve_tangent(read):
        def tangent(ta, tb, a, b):
            return lower_solve(a, tb - read(ta) @ lower_solve(a, b))

        return tangent

    row(
        "i-torch-jvp-unread-triangle",
        "triangular solve in forward mode: the tangent of the half that is not read",
        torch_op(lower_solve, lower_solve_pull, lower_solve_tangent(lambda t: t)),
        torch_op(lower_solve, lower_solve_pull, lower_solve_tangent(torch.tril)),
        box(3, 3, low=1, high=2), box(3, 2),
    )  # fmt: skip
    places = torch.tensor([1, 0, 1, 3])

    def placed(method):
        return lambda into, rows: getattr(into, method)(0, places, rows)

    row(
        "i-torch-jvp-index-add-copies",
        "message passing in forward mode: tangents copied in, where values are added",
        torch_op(placed("index_add"), lambda v, x, y: (v, v[places]),
                 lambda t, s, x, y: placed("index_copy")(t, s)),
        torch_op(placed("index_add"), lambda v, x, y: (v, v[places]),
                 lambda t, s, x, y: placed("index_add")(t, s)),
        box(4, 2), box(4, 2),
    )  # fmt: skip

    def weighted(op):
        return lambda x: x * op(x)

    row(
        "i-torch-second-order-intermediate",
        "sinh of torch's tutorial: an intermediate is saved for backward, no graph through it",
        weighted(torch_op(torch.sinh, lambda v, e: v * (e + 1 / e) / 2, save=lambda x: (x.exp(),))),
        weighted(torch_op(torch.sinh, lambda v, x: v * (x.exp() + 1 / x.exp()) / 2)),
        box(4, low=-2, high=2), order=2,
    )  # fmt: skip

    def inverse_root(curvature):
        inner = torch_op(
            lambda v, x: -v / 2 * x**-1.5,
            lambda w, v, x: (-w / 2 * x**-1.5, curvature * w * v * x**-2.5),
        )
        return torch_op(torch.rsqrt, inner)

    row(
        "i-torch-second-order-rsqrt", "rsqrt's double backward: exponent 1/2 in place of 3/2 brought down",
        inverse_root(0.25), inverse_root(0.75), box(4, low=0.5, high=3, **f32), order=2,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
