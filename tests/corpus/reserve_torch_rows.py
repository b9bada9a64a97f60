"""Rows written without a look at gradcheck: custom Functions and programs of torch."""

from __future__ import annotations

import importlib.util

from .rows import box, native_row, torch_op


def torch_rows():
    import torch
    from torch.nn import functional as F

    f32 = {"dtype": "float32"}

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "torch", buggy, twin, *inputs, **options)

    # Vision.

    def corners(image, p):
        y, x = p.detach().floor().clamp(0, 2).long().unbind(1)
        fy, fx = (p - torch.stack([y, x], 1)).unbind(1)
        return y, x, fy, fx, (image[y, x], image[y, x + 1], image[y + 1, x], image[y + 1, x + 1])

    def bilinear(image, p):
        _, _, fy, fx, (a, b, c, d) = corners(image, p)
        return (1 - fy) * ((1 - fx) * a + fx * b) + fy * ((1 - fx) * c + fx * d)

    def bilinear_pull(right):
        def pull(v, image, p):
            y, x, fy, fx, (a, b, c, d) = corners(image, p)
            top, bottom = (1 - fy, fy) if right else (fy, 1 - fy)
            weights = ((1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx)
            g = torch.zeros_like(image)
            for i, (dy, dx) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
                g = g.index_put((y + dy, x + dx), v * weights[i], accumulate=True)
            by_row = (1 - fx) * (c - a) + fx * (d - b)
            by_column = top * (b - a) + bottom * (d - c)
            return g, torch.stack([v * by_row, v * by_column], 1)

        return pull

    row(
        "torch-sampling-offset-weights", "deformable convolution: row weights swapped in the column offset",
        torch_op(bilinear, bilinear_pull(False)), torch_op(bilinear, bilinear_pull(True)),
        box(4, 4), box(3, 2, low=0, high=2.75),
    )  # fmt: skip

    def resizing(aligned):
        grid = torch.eye(4)[None]
        return F.interpolate(grid, size=7, mode="linear", align_corners=aligned)[0]

    corner, centre = resizing(True), resizing(False)
    row(
        "torch-upsample-corners", "linear upsampling kernels: align_corners not handed on to the backward",
        torch_op(lambda x: x @ corner, lambda v, x: v @ centre.T),
        torch_op(lambda x: x @ corner, lambda v, x: v @ corner.T), box(2, 4, **f32),
    )  # fmt: skip

    def pooled(x):
        return x.view(3, 2).amax(1)

    def winners(x):
        return x.view(3, 2).argmax(1)

    def pooled_pull(v, x):
        return torch.zeros_like(x).scatter(0, winners(x) + 2 * torch.arange(3), v)

    row(
        "torch-jvp-pool-local-index", "custom max pooling: jvp gathers by places within the windows",
        torch_op(pooled, pooled_pull, lambda t, x: t[winners(x)]),
        torch_op(pooled, pooled_pull, lambda t, x: t[winners(x) + 2 * torch.arange(3)]), box(6, **f32),
    )  # fmt: skip
    row(
        "torch-residual-relu-mask", "fused ReLU and residual add, in place: mask of the sum, not of the ReLU",
        torch_op(lambda x, r: x.relu() + r, lambda v, x, r: (v * (x.relu() + r > 0), v)),
        torch_op(lambda x, r: x.relu() + r, lambda v, x, r: (v * (x > 0), v)),
        box(5, dtype="float16"), box(5, dtype="float16"),
    )  # fmt: skip

    # Recurrence and attention.

    def states(x, a):
        c, out = torch.zeros_like(x[0]), []
        for t in range(4):
            c = a[t].sigmoid() * c + (-a[t]).sigmoid() * x[t]
            out.append(c)
        return torch.stack(out)

    def states_pull(candidate):
        def pull(v, x, a):
            before = torch.cat([torch.zeros_like(x[:1]), states(x, a)[:-1]])
            carried, d = [], torch.zeros_like(x[0])
            for t in (3, 2, 1, 0):
                d = v[t] + (a[t + 1].sigmoid() * d if t < 3 else 0)
                carried.append(d)
            d = torch.stack(carried[::-1])
            slope = a.sigmoid() * (-a).sigmoid()
            return d * (-a).sigmoid(), d * slope * (before - candidate * x)

        return pull

    row(
        "torch-simple-recurrent-forget", "SRU kernels: forget gate's gradient without the candidate's share",
        torch_op(states, states_pull(0)), torch_op(states, states_pull(1)), box(4, 2), box(4, 2),
    )  # fmt: skip
    kept = torch.tensor([[1.0, 0, 1], [1, 1, 1], [0, 1, 1]]) / 0.75

    def dropped(q, k, v):
        return (kept * (q @ k.T / 2**0.5).softmax(-1)) @ v

    def dropped_pull(masked):
        def pull(g, q, k, v):
            p, direct = (q @ k.T / 2**0.5).softmax(-1), g @ v.T
            delta = (p * (direct * kept if masked else direct)).sum(-1, keepdim=True)
            ds = p * (direct * kept - delta) / 2**0.5
            return ds @ k, ds.T @ q, (kept * p).T @ g

        return pull

    row(
        "torch-attention-dropout-delta", "attention with dropout: row sums taken before the mask is applied",
        torch_op(dropped, dropped_pull(False)), torch_op(dropped, dropped_pull(True)),
        *(box(3, 2, low=-1, high=1, **f32) for _ in range(3)),
    )  # fmt: skip

    def scores(q, k):
        return q @ k.repeat_interleave(2, 0).mT

    def scores_pull(reduced):
        def pull(v, q, k):
            return v @ k.repeat_interleave(2, 0), reduced((v.mT @ q).view(2, 2, 3, 2))

        return pull

    row(
        "torch-grouped-query-keys", "levanter#449: grouped queries, the keys' gradient of one head alone",
        torch_op(scores, scores_pull(lambda g: g[:, 0])),
        torch_op(scores, scores_pull(lambda g: g.sum(1))), box(4, 3, 2, **f32), box(2, 3, 2, **f32),
    )  # fmt: skip

    # Losses and probabilities.

    def ctc(x):
        return F.ctc_loss(x, torch.tensor([[1, 2]]), (4,), (2,), reduction="sum")

    row(
        "torch-ctc-unnormalised", "torch#52241: ctc_loss differentiates as if a log_softmax were within",
        ctc, lambda x: ctc(x.log_softmax(-1)), box(4, 1, 3, low=-2, high=2),
    )  # fmt: skip
    allowed = torch.tensor([True, True, False, True])

    def log_policy(x):
        return x.masked_fill(~allowed, -torch.inf).log_softmax(0)

    def entropy_unsafe(x):
        return -torch.where(allowed, log_policy(x).exp() * log_policy(x), 0.0).sum()

    def entropy(x):
        return -(log_policy(x).exp() * log_policy(x).masked_fill(~allowed, 0.0)).sum()

    row(
        "torch-masked-action-entropy", "trl#7252: entropy of a masked policy, its NaN masked afterwards",
        entropy_unsafe, entropy, box(4, low=1, high=3), expected="nonfinite",
    )  # fmt: skip
    row(
        "torch-noisy-or-small", "multiple-instance learning: log of the noisy or of small probabilities",
        lambda p: (1 - (1 - p).prod()).log(), lambda p: (-(-p).log1p().sum().expm1()).log(),
        box(3, low=1e-6, high=1e-5, **f32), expected="imprecise",
    )  # fmt: skip
    row(
        "torch-gelu-tail", "torch#187806: exact GELU by 1 + erf, in its negative tail",
        F.gelu, lambda x: 0.5 * x * torch.special.erfc(-x * 0.5**0.5),
        box(4, low=-5.5, high=-4.5, **f32), expected="imprecise", strict=True,
    )  # fmt: skip

    # Wrong only in second order.

    def gated(last):
        slope = torch_op(
            lambda b: b.sigmoid() * (-b).sigmoid(),
            lambda v, b: v * b.sigmoid() * (-b).sigmoid() * last(b),
        )
        gate = torch_op(torch.sigmoid, lambda v, b: v * slope(b))
        return lambda a, b: a * gate(b)

    row(
        "torch-second-order-glu", "gated linear unit's double backward: 1 - 2σ lost in the gate's curvature",
        gated(torch.ones_like), gated(lambda b: -(b / 2).tanh()), box(3), box(3), order=2,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
