"""Rows written without a look at gradcheck: custom Functions, modules and programs of torch."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, native_row, torch_op


def torch_rows():
    import torch
    from torch import nn
    from torch.nn.functional import one_hot

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "torch", buggy, twin, *inputs, **options)

    # Indices and windows.

    places = torch.tensor([-1, 0, -2, 0])
    row(
        "torch-negative-index", "gather kernels: negative indices clamped, not wrapped, on the way back",
        torch_op(lambda x: x[places],
           lambda v, x: torch.zeros_like(x).index_add(0, places.clamp(min=0), v)),
        torch_op(lambda x: x[places], lambda v, x: torch.zeros_like(x).index_add(0, places % len(x), v)),
        box(5),
    )  # fmt: skip

    def lowest(x):
        return x.cummin(0).values

    row(
        "torch-cummin-overwritten", "torch cummin backward: scatter in place of scatter_add",
        torch_op(lowest, lambda v, x: torch.zeros_like(x).scatter(0, x.cummin(0).indices, v)),
        torch_op(lowest, lambda v, x: torch.zeros_like(x).scatter_add(0, x.cummin(0).indices, v)),
        box(6, dtype="float32"),
    )  # fmt: skip
    windows = [(0, 3), (2, 5)]

    def adaptive_pool(x):
        return torch.stack([x[a:b].float().mean() for a, b in windows]).to(x.dtype)

    def adaptive_pull(width):
        def pull(v, x):
            g = torch.zeros_like(x, dtype=torch.float32)
            for vi, (a, b) in zip(v.float(), windows, strict=True):
                g[a:b] += vi / width(a, b)
            return g.to(x.dtype)

        return pull

    row(
        "torch-adaptive-pool-width", "adaptive average pooling: n/m for the width of overlapping windows",
        torch_op(adaptive_pool, adaptive_pull(lambda a, b: 2.5)),
        torch_op(adaptive_pool, adaptive_pull(lambda a, b: b - a)), box(5, dtype="float16"),
    )  # fmt: skip

    # Fused layers and losses.

    def geglu(x):
        a, b = x.chunk(2, -1)
        return a * b * torch.special.ndtr(b)

    def geglu_pull(order):
        def pull(v, x):
            a, b = x.chunk(2, -1)
            phi, density = torch.special.ndtr(b), torch.exp(-0.5 * b * b) / (2 * torch.pi) ** 0.5
            halves = v * b * phi, v * a * (phi + b * density)
            return torch.cat(halves[::order], -1)

        return pull

    row(
        "torch-geglu-halves", "fused GEGLU: gate and value halves exchanged by the backward's cat",
        torch_op(geglu, geglu_pull(-1)), torch_op(geglu, geglu_pull(1)), box(2, 6, dtype="float32"),
    )  # fmt: skip
    classes = torch.tensor([2, 0])

    def smoothed(x):
        return 0.9 * one_hot(classes, 4).to(x.dtype) + 0.1 / 4

    def smoothed_loss(x):
        return -(smoothed(x) * x.log_softmax(-1)).sum(-1)

    row(
        "torch-label-smoothing", "fused cross entropy: label smoothing forwards only",
        torch_op(smoothed_loss,
           lambda v, x: v[:, None] * (x.softmax(-1) - one_hot(classes, 4).to(x.dtype))),
        torch_op(smoothed_loss, lambda v, x: v[:, None] * (x.softmax(-1) - smoothed(x))),
        box(2, 4, low=-1, high=1, dtype="float32"),
    )  # fmt: skip

    def z_loss(x):
        total = x.logsumexp(-1)
        return total + 0.1 * total.square() - x[torch.arange(2), classes]

    def z_pull(factor):
        def pull(v, x):
            scale = 1 + factor * 0.1 * x.logsumexp(-1, keepdim=True)
            return v[:, None] * (x.softmax(-1) * scale - one_hot(classes, 3).to(x.dtype))

        return pull

    row(
        "torch-z-loss-factor", "fused cross entropy with z-loss (PaLM): the square's 2 forgotten",
        torch_op(z_loss, z_pull(1)), torch_op(z_loss, z_pull(2)),
        box(2, 3, low=-1, high=1, dtype="float32"),
    )  # fmt: skip

    def lstm(x, c):
        i, f, g, o = x
        cell = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell

    def lstm_pull(overwritten):
        def pull(vh, vc, x, c):
            i, f, g, o = x
            h, cell = lstm(x, c)
            d = vc + vh * o.sigmoid() / cell.cosh() ** 2
            gates = torch.stack([
                d * g.tanh() * i.sigmoid() * (-i).sigmoid(),
                d * (cell if overwritten else c) * f.sigmoid() * (-f).sigmoid(),
                d * i.sigmoid() / g.cosh() ** 2,
                vh * h * (-o).sigmoid(),
            ])  # fmt: skip
            return gates, d * f.sigmoid()

        return pull

    row(
        "torch-lstm-old-cell", "fused LSTM cell: the old state's buffer holds the new one in backward",
        torch_op(lstm, lstm_pull(True)), torch_op(lstm, lstm_pull(False)), box(4, 3), box(3),
    )  # fmt: skip
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]).double() / 0.6
    row(
        "torch-checkpoint-rng", "checkpointed dropout: generator state not restored, another mask",
        torch_op(lambda x: x * mask, lambda v, x: v * mask.roll(1)),
        torch_op(lambda x: x * mask, lambda v, x: v * mask), box(5),
    )  # fmt: skip

    # What is tracked and what is not.

    class SpectralLinear(nn.Module):
        def __init__(self, tracked):
            super().__init__()
            start = torch.tensor([[0.5, 1.0], [2.0, 0.25], [1.0, 0.75]])
            self.weight, self.tracked = nn.Parameter(start.double()), tracked
            self.register_buffer("left", torch.tensor([0.36, 0.8, 0.48]).double())
            self.register_buffer("right", torch.tensor([0.8, 0.6]).double())

        def forward(self, x):
            sigma = self.left @ self.weight @ self.right
            return x @ (self.weight / (sigma if self.tracked else sigma.detach())).T

    row(
        "torch-spectral-norm-detached", "spectral normalisation: σ detached together with its vectors",
        SpectralLinear(False), SpectralLinear(True), box(2, 2),
    )  # fmt: skip
    noise = torch.tensor([0.3, -0.1, 0.5, 0.4, -0.2])

    def gumbel_softmax(hard):
        def sample(x):
            soft = ((x + noise) / 0.8).softmax(-1)
            return one_hot(soft.argmax(-1), 5) + soft - soft.detach() if hard else soft

        return sample

    row(
        "torch-gumbel-straight-through", "gumbel_softmax(hard=True): the gradient of the soft sample",
        gumbel_softmax(True), gumbel_softmax(False), box(5, low=-1, high=1, dtype="float32"),
    )  # fmt: skip
    row(
        "torch-flow-log-det", "affine coupling: the log-determinant's scale detached",
        lambda x, s: (0.5 * (x * s.exp()).square() - s.detach()).sum(0),
        lambda x, s: (0.5 * (x * s.exp()).square() - s).sum(0), box(3, 2), box(3, 2, low=-1, high=1),
    )  # fmt: skip

    def equilibrium(implicit):
        def solve(x):
            z = torch.zeros_like(x)
            with torch.no_grad():
                for _ in range(60):
                    z = 0.5 * torch.tanh(z + x)
            step = 0.5 * torch.tanh(z + x)
            slope = (0.5 / torch.cosh(z + x) ** 2).detach()
            return z + (step - z) / (1 - slope) if implicit else step

        return solve

    row(
        "torch-equilibrium-one-step", "deep equilibrium model: the gradient of the last iteration alone",
        equilibrium(False), equilibrium(True), box(4, low=-1, high=1),
    )  # fmt: skip

    # NaN and infinity.

    def angle_by_cosine(a, b):
        return (a @ b / (a.norm() * b.norm())).clamp(-1, 1).acos()

    def angle(a, b):
        return torch.atan2(torch.linalg.vector_norm(torch.linalg.cross(a, b)), a @ b)

    row(
        "torch-angle-by-cosine", "bond angles by acos of a clamped cosine, of parallel vectors",
        angle_by_cosine, angle, np.array([1.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0]),
        expected="nonfinite",
    )  # fmt: skip

    def narrow_norm(x):
        c = x - x.mean()
        return c * (c.square().mean() + 1e-8).rsqrt()

    row(
        "torch-eps-underflows", "layer norm of equal values in float16: eps = 1e-8 is rounded to 0",
        narrow_norm, lambda x: narrow_norm(x.float()).to(x.dtype), np.full(4, 2.0, "float16"),
        expected="nonfinite",
    )  # fmt: skip

    # Lost digits.

    row(
        "torch-ratio-kl-estimator", "RLHF's k3 estimator exp(d) - 1 - d of the KL divergence, float32",
        lambda d: d.exp() - 1 - d,
        torch_op(lambda d: d * d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5))), lambda v, d: v * d.expm1()),
        box(3, low=1e-5, high=1e-3, dtype="float32"), expected="imprecise",
    )  # fmt: skip

    # Wrong only in forward mode.

    def suffixes(v):
        return v.flip(0).cumsum(0).flip(0)

    row(
        "torch-jvp-cumsum-reversed", "custom cumsum whose jvp is a copy of its backward",
        torch_op(lambda x: x.cumsum(0), lambda v, x: suffixes(v), lambda t, x: suffixes(t)),
        torch_op(lambda x: x.cumsum(0), lambda v, x: suffixes(v), lambda t, x: t.cumsum(0)), box(5),
    )  # fmt: skip

    def amax_pull(v, x):
        return torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), v[:, None])

    def amax(x):
        return x.max(1).values

    row(
        "torch-jvp-amax", "custom max whose jvp is the tangents' own maximum",
        torch_op(amax, amax_pull, lambda t, x: t.amax(1)),
        torch_op(amax, amax_pull, lambda t, x: t.gather(1, x.argmax(1, keepdim=True))[:, 0]),
        box(3, 4, dtype="float32"),
    )  # fmt: skip

    # Wrong only in second order.

    def product(swapped):
        def again(a, b, v, x, y):
            first, second = (a, b) if swapped else (b, a)
            return a * y + b * x, first * v, second * v

        inner = torch_op(lambda v, x, y: (v * y, v * x), again)
        return torch_op(lambda x, y: x * y, inner)

    row(
        "torch-second-order-product", "a product's double backward: the cross terms exchanged",
        product(True), product(False), box(3), box(3), order=2,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
