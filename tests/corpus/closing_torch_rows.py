"""Rows written without a look at gradcheck: torch losses, embeddings, double backwards, an adjoint."""

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

    # Losses and metrics.

    targets = torch.tensor([1.0, torch.nan, -0.5, torch.nan])
    missing = targets.isnan()

    def late(x):
        return torch.where(missing, 0.0, (x - targets.to(x.dtype)).square()).sum()

    def early(x):
        return torch.where(missing, 0.0, x - targets.nan_to_num().to(x.dtype)).square().sum()

    row(
        "c-torch-missing-targets", "regression with missing targets: NaN is selected away after the square",
        late, early, box(4, **f32), expected="nonfinite",
    )  # fmt: skip
    first, last = torch.tensor([0.5, 0.25]), torch.tensor([1.75, 2.0])

    def generalised_iou(track):
        def loss(corner, size):
            a, b = first.to(corner.dtype), last.to(corner.dtype)
            end = corner + size
            inner = (torch.minimum(end, b) - torch.maximum(corner, a)).clamp(min=0).prod()
            union = size.prod() + (b - a).prod() - inner
            hull = track((torch.maximum(end, b) - torch.minimum(corner, a)).prod())
            return 1 - inner / union + (hull - union) / hull

        return loss

    row(
        "c-torch-giou-hull-detached", "GIoU loss in detectors: the enclosing box computed without gradient",
        generalised_iou(lambda h: h.detach()), generalised_iou(lambda h: h),
        box(2, low=0, high=1, **f32), box(2, low=1, high=2, **f32),
    )  # fmt: skip

    def pair_signs(s):
        return 2 * torch.eye(3, dtype=s.dtype) - 1

    def pairwise_sigmoid(s, t, b):
        return -F.logsigmoid(pair_signs(s) * (s * t.exp() + b)).sum()

    def pairwise_pull(signed):
        def pull(v, s, t, b):
            z = pair_signs(s)
            weight = -v * (-z * (s * t.exp() + b)).sigmoid()
            g = z * weight * t.exp()
            return g, (g * s).sum(), (z * weight if signed else weight).sum()

        return pull

    row(
        "c-torch-siglip-bias-sign", "SigLIP's fused loss: the bias is pushed the same way by either label",
        torch_op(pairwise_sigmoid, pairwise_pull(False)), torch_op(pairwise_sigmoid, pairwise_pull(True)),
        box(3, 3, low=-1, high=1), box(low=0, high=1), box(low=-2, high=0),
    )  # fmt: skip

    # Embeddings and sequences.

    path, code = torch.tensor([0, 2, 3]), torch.tensor([1, 0, 1])

    def hierarchical(h, table):
        return -F.logsigmoid((1 - 2 * code) * (table[path] @ h)).sum()

    def hierarchical_pull(label):
        def pull(v, h, table):
            g = v * ((table[path] @ h).sigmoid() - label)
            return g @ table[path], torch.zeros_like(table).index_add(0, path, torch.outer(g, h))

        return pull

    row(
        "c-torch-hierarchical-code", "word2vec's hierarchical softmax: the label is 1 - code, not the code",
        torch_op(hierarchical, hierarchical_pull(code)), torch_op(hierarchical, hierarchical_pull(1 - code)),
        box(3, low=-1, high=1, **f32), box(4, 3, low=-1, high=1, **f32),
    )  # fmt: skip
    words = torch.tensor([2, 0, 2, 3])

    def bounded_embedding(track):
        def look_up(table):
            length = torch.linalg.vector_norm(table, dim=1, keepdim=True)
            return (table * track(1 / length.clamp(min=1)))[words]

        return look_up

    row(
        "c-torch-embedding-max-norm", "nn.Embedding(max_norm): long rows scaled in place, without gradient",
        bounded_embedding(lambda s: s.detach()), bounded_embedding(lambda s: s), box(4, 3),
    )  # fmt: skip

    def token_shift(x):
        return 0.75 * x + 0.25 * torch.cat([torch.zeros_like(x[:1]), x[:-1]])

    def shifted_back(v, x):
        return 0.75 * v + 0.25 * torch.cat([v[1:], torch.zeros_like(v[:1])])

    row(
        "c-torch-token-shift-wraps", "RWKV's token shift: rolled back, the first token's part in the last",
        torch_op(token_shift, lambda v, x: 0.75 * v + 0.25 * v.roll(-1, 0)),
        torch_op(token_shift, shifted_back), box(5, 2, dtype="float16"),
    )  # fmt: skip

    # An implicit layer.

    def field(z, rate):
        return torch.sin(rate * z)

    def integrated(z, rate):
        states = [z]
        for _ in range(4):
            states.append(states[-1] + 0.25 * field(states[-1], rate))
        return states

    def adjoint(stored):
        def pull(v, z, rate):
            states = integrated(z, rate)
            after, bar, bar_rate = states.pop(), v, torch.zeros_like(rate)
            for before in reversed(states):
                at = before if stored else after - 0.25 * field(after, rate)
                slope = 0.25 * bar * torch.cos(rate * at)
                bar, bar_rate, after = bar + slope * rate, bar_rate + slope * at, at
            return bar, bar_rate

        return pull

    row(
        "c-torch-adjoint-reconstructed", "neural ODE's adjoint: Euler states integrated back, not stored",
        torch_op(lambda z, r: integrated(z, r)[-1], adjoint(False)),
        torch_op(lambda z, r: integrated(z, r)[-1], adjoint(True)),
        box(3, low=-2, high=2), box(3, low=0.5, high=1.5),
    )  # fmt: skip

    # Lost digits.

    row(
        "c-torch-log-snr-noise", "diffusion schedules by log-SNR: noise √(1 - σ(λ)) of hardly noisy steps",
        lambda s: (1 - s.sigmoid()).sqrt(), lambda s: (-s).sigmoid().sqrt(),
        box(3, low=10, high=15, **f32), expected="imprecise",
    )  # fmt: skip

    # Wrong only in forward mode; wrong only in second order.

    def spectral(left, right):
        return torch.fft.irfft(left * torch.fft.rfft(right), n=5)

    def correlation(a, b):
        return spectral(torch.fft.rfft(a).conj(), b)

    def correlation_pull(v, a, b):
        return correlation(v, b), spectral(torch.fft.rfft(v), a)

    def correlation_tangent(first_one):
        def tangent(ta, tb, a, b):
            return spectral(first_one(torch.fft.rfft(ta)), b) + correlation(a, tb)

        return tangent

    row(
        "c-torch-jvp-correlation", "holographic embeddings: jvp of the circular correlation, conj forgotten",
        torch_op(correlation, correlation_pull, correlation_tangent(lambda f: f)),
        torch_op(correlation, correlation_pull, correlation_tangent(torch.conj)), box(5), box(5),
    )  # fmt: skip

    def softplus(factor):
        inner = torch_op(
            lambda v, x: v * (2 * x).sigmoid(),
            lambda w, v, x: (
                w * (2 * x).sigmoid(),
                factor * w * v * (2 * x).sigmoid() * (-2 * x).sigmoid(),
            ),
        )
        return torch_op(lambda x: F.softplus(x, beta=2), inner)

    row(
        "c-torch-second-order-softplus", "softplus(beta)'s double backward without its beta",
        softplus(1), softplus(2), box(4), order=2,
    )  # fmt: skip

    def prelu(crossed):
        def again(gx, gw, v, x, w):
            low = x <= 0
            bar_v = gx * torch.where(low, w, 1.0) + gw * torch.where(low, x, 0.0)
            return bar_v, gw * v * low, crossed * (gx * v * low).sum(0)

        inner = torch_op(
            lambda v, x, w: (
                v * torch.where(x <= 0, w, 1.0),
                torch.where(x <= 0, v * x, 0.0).sum(0),
            ),
            again,
        )
        return torch_op(lambda x, w: torch.where(x <= 0, w * x, x), inner)

    row(
        "c-torch-second-order-prelu", "PReLU's double backward (cf. pytorch#2106): nothing for the weight",
        prelu(0), prelu(1), np.array([[1.5, -0.5, 2.0], [-1.0, 0.75, -2.0]]), box(3, low=0.125, high=0.5),
        order=2,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
