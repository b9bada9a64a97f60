"""Rows that nobody tuned gradcheck for: custom Functions and modules of torch."""

from __future__ import annotations

import importlib.util

import numpy as np

from .rows import box, native_row, torch_op


def torch_rows():
    import torch
    from torch import nn

    def row(name, source, buggy, twin, *inputs, **options):
        native_row(name, source, "torch", buggy, twin, *inputs, **options)

    # Indices.

    def largest(x):
        return x.topk(2).values

    row(
        "torch-topk-places", "top-k backward that assumes sorted input",
        torch_op(largest, lambda v, x: torch.cat([v, torch.zeros_like(x)[2:]])),
        torch_op(largest, lambda v, x: torch.zeros_like(x).scatter(0, x.topk(2).indices, v)), box(5),
    )  # fmt: skip
    groups, counts = torch.tensor([0, 2, 0, 2, 2]), torch.tensor([2.0, 1.0, 3.0])

    def group_mean(x):
        return x.new_zeros(3).scatter_reduce(0, groups, x, "mean", include_self=False)

    row(
        "torch-scatter-mean", "scatter_reduce('mean'): the sum's backward",
        torch_op(group_mean, lambda v, x: v[groups]),
        torch_op(group_mean, lambda v, x: v[groups] / counts[groups]), box(5, dtype="float32"),
    )  # fmt: skip
    repeats = torch.tensor([2, 1, 3])
    origin = torch.arange(3).repeat_interleave(repeats)
    row(
        "torch-repeat-unequal", "repeat_interleave backward that supposes equal counts",
        torch_op(lambda x: x.repeat_interleave(repeats), lambda v, x: v.view(3, 2).sum(1)),
        torch_op(lambda x: x.repeat_interleave(repeats),
           lambda v, x: torch.zeros_like(x).index_add(0, origin, v)),
        box(3),
    )  # fmt: skip
    windows = torch.arange(4)[:, None] + torch.arange(3)
    row(
        "torch-unfold-overlap", "im2col backward: overlapping windows put, not added",
        torch_op(lambda x: x.unfold(0, 3, 1).clone(),
           lambda v, x: torch.zeros_like(x).index_put((windows,), v)),
        torch_op(lambda x: x.unfold(0, 3, 1).clone(),
           lambda v, x: torch.zeros_like(x).index_put((windows,), v, accumulate=True)),
        box(6),
    )  # fmt: skip
    row(
        "torch-channel-scale", "per-channel scale: its gradient from the first position of each channel",
        torch_op(lambda x, s: x * s, lambda v, x, s: (v * s, (v * x).sum(0)[:, :1])),
        torch_op(lambda x, s: x * s, lambda v, x, s: (v * s, (v * x).sum((0, 2))[:, None])),
        box(2, 3, 4, dtype="float32"), box(3, 1, dtype="float32"),
    )  # fmt: skip

    # Layers and fused kernels.

    def layer_norm(x, w):
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-3) * w

    def layer_norm_pull(weighted):
        def pull(v, x, w):
            rstd = torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-3)
            h = (x - x.mean(-1, keepdim=True)) * rstd
            g = v * w if weighted else v
            inner = g - g.mean(-1, keepdim=True) - h * (g * h).mean(-1, keepdim=True)
            return inner * rstd if weighted else inner * rstd * w, (v * h).sum(0)

        return pull

    row(
        "torch-layer-norm-weight-order", "fused layer norm: the weight multiplied in after the projection",
        torch_op(layer_norm, layer_norm_pull(False)), torch_op(layer_norm, layer_norm_pull(True)),
        box(3, 8, dtype="float32"), box(8, low=0.5, high=2, dtype="float32"),
    )  # fmt: skip

    def swiglu_pull(up):
        def pull(v, x, y):
            s = x.sigmoid()
            return v * y * s * (1 + x * (-x).sigmoid()), v * up(x, s)

        return pull

    row(
        "torch-swiglu-up", "fused SwiGLU: sigmoid in place of SiLU for the linear branch",
        torch_op(lambda x, y: x * x.sigmoid() * y, swiglu_pull(lambda x, s: s)),
        torch_op(lambda x, y: x * x.sigmoid() * y, swiglu_pull(lambda x, s: x * s)),
        box(4, dtype="float32"), box(4, dtype="float32"),
    )  # fmt: skip

    def scan(a, x):
        states = [x[0]]
        for i in range(1, len(x)):
            states.append(a[i] * states[-1] + x[i])
        return torch.stack(states)

    def scan_pull(shift):
        def pull(v, a, x):
            before = torch.cat([torch.zeros_like(x[:1]), scan(a, x)[:-1]])
            carried = [v[-1]]
            for i in range(len(x) - 2, -1, -1):
                carried.append(v[i] + a[i + shift] * carried[-1])
            adjoint = torch.stack(carried[::-1])
            return adjoint * before, adjoint

        return pull

    row(
        "torch-scan-shift", "selective-scan backward: the decay of the step itself, not of the next one",
        torch_op(scan, scan_pull(0)), torch_op(scan, scan_pull(1)), box(5, low=0.5, high=1), box(5),
    )  # fmt: skip
    row(
        "torch-none-for-angle", "rotation by a learned angle: backward gives None for it",
        torch_op(lambda x, a: x * a.cos(), lambda v, x, a: (v * a.cos(), None)),
        torch_op(lambda x, a: x * a.cos(), lambda v, x, a: (v * a.cos(), -v * x * a.sin())), box(3), box(3),
    )  # fmt: skip

    class InPlaceLoss(torch.autograd.Function):
        """Fused losses compute the gradient forwards and scale it by the cotangent."""

        @staticmethod
        def forward(ctx, x, in_place):
            ctx.gradient, ctx.in_place = x.detach().clone(), in_place
            return 0.5 * x.square().sum()

        @staticmethod
        def backward(ctx, v):
            return (ctx.gradient.mul_(v) if ctx.in_place else ctx.gradient * v), None

    row(
        "torch-gradient-scaled-in-place", "fused cross-entropy kernels: a second backward scales twice",
        lambda x: InPlaceLoss.apply(x, True), lambda x: InPlaceLoss.apply(x, False), box(4),
    )  # fmt: skip

    def decayed(x):
        y = x.exp()
        z = y * y
        y.data.mul_(0.5)
        return z

    row(
        "torch-data-after-use", "a moving average updates .data of a tensor that backward needs",
        decayed, lambda x: x.exp() * x.exp(), box(3, low=-1, high=1),
    )  # fmt: skip

    class StandardisedLinear(nn.Module):
        def __init__(self, tracked):
            super().__init__()
            start = torch.tensor([[0.5, -1.0, 0.25, 2.0], [1.5, 0.75, -0.5, 0.0]])
            self.weight, self.tracked = nn.Parameter(start.double()), tracked

        def forward(self, x):
            with torch.set_grad_enabled(self.tracked):
                mean = self.weight.mean(1, keepdim=True)
                spread = self.weight.std(1, keepdim=True)
            return x @ ((self.weight - mean) / spread).T

    row(
        "torch-weight-standardisation", "weight standardisation with its statistics under no_grad",
        StandardisedLinear(False), StandardisedLinear(True), box(3, 4),
    )  # fmt: skip

    class LowRank(nn.Module):
        def __init__(self, tracked):
            super().__init__()
            self.down = nn.Parameter(torch.tensor([[0.5, -1.0, 0.25]]).double())
            self.up = nn.Parameter(torch.tensor([[1.0], [-0.5]]).double())
            self.register_buffer("base", torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 1.0]]).double())
            self.tracked = tracked

        def forward(self, x):
            down = self.down if self.tracked else self.down.detach()
            return x @ (self.base + self.up @ down).T

    row(
        "torch-low-rank-merged", "low-rank adapter merged with one factor detached",
        LowRank(False), LowRank(True), box(2, 3),
    )  # fmt: skip

    def evidence(track):
        def quadratic(x, b):
            root = torch.linalg.cholesky(x @ x.T + 3 * torch.eye(3, dtype=x.dtype))
            solved = torch.cholesky_solve(b[:, None], root if track else root.detach())
            return b @ solved[:, 0]

        return quadratic

    row(
        "torch-cholesky-detached", "Gaussian process: a cached, detached factor in the data term",
        evidence(False), evidence(True), box(3, 3, low=-1, high=1), box(3),
    )  # fmt: skip

    # NaN, overflow and half precision.

    def rotation_unsafe(v):
        n = v.norm()
        return torch.where(n > 1e-6, 2 * n.asin() / n, 2.0) * v

    def rotation(v):
        square = v.square().sum()
        n = torch.where(square > 1e-12, square, 0.25).sqrt()
        return torch.where(square > 1e-12, 2 * n.asin() / n, 2.0) * v

    row(
        "torch-quaternion-logarithm", "rotation vector of a quaternion at the identity: 0/0 is not selected",
        rotation_unsafe, rotation, np.zeros(3), expected="nonfinite",
    )  # fmt: skip
    row(
        "torch-softplus-inverse", "softplus' inverse log(expm1(x)) overflows in float32",
        lambda x: x.expm1().log(), lambda x: x + (-(-x).expm1()).log(),
        box(3, low=50, high=100, dtype="float32"), expected="nonfinite",
    )  # fmt: skip

    def hard_sigmoid(x):
        return (x / 6 + 0.5).clamp(0, 1)

    row(
        "torch-bfloat16-hard-sigmoid", "hard sigmoid: another library's slope 0.2, in bfloat16",
        torch_op(hard_sigmoid, lambda v, x: v * 0.2 * (x.abs() < 3)),
        torch_op(hard_sigmoid, lambda v, x: v / 6 * (x.abs() < 3)),
        box(4, low=-5, high=5, dtype="bfloat16"),
    )  # fmt: skip

    def squash(x):
        return x * (1 + x * x).rsqrt()

    row(
        "torch-float16-isru", "inverse square root unit: (1 + x²)^1.5 overflows in float16",
        torch_op(squash, lambda v, x: v / (1 + x * x) ** 1.5),
        torch_op(squash, lambda v, x: v * (1 + x * x).rsqrt() ** 3),
        box(3, low=45, high=60, dtype="float16"), expected="imprecise", strict=True,
    )  # fmt: skip

    # Wrong only in forward mode.

    def unit(x):
        return x / x.norm()

    def unit_pull(v, x):
        return (v - unit(x) * (unit(x) * v).sum()) / x.norm()

    row(
        "torch-jvp-unit-vector", "custom normalisation whose jvp lacks the projection",
        torch_op(unit, unit_pull, lambda t, x: t / x.norm()), torch_op(unit, unit_pull, unit_pull),
        box(3, low=0.5, high=2),
    )  # fmt: skip

    def product_pull(v, a, b):
        return v @ b.T, a.T @ v

    row(
        "torch-jvp-matmul-order", "custom matmul whose jvp has a product in the wrong order",
        torch_op(torch.matmul, product_pull, lambda t, u, a, b: t @ b + u @ a),
        torch_op(torch.matmul, product_pull, lambda t, u, a, b: t @ b + a @ u), box(3, 3), box(3, 3),
    )  # fmt: skip

    # Wrong only in second order.

    def rms_norm(recompute):
        class RmsNorm(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                scale = (x.square().mean() + 1e-3).rsqrt()
                ctx.save_for_backward(x, scale)
                return x * scale

            @staticmethod
            def backward(ctx, v):
                x, scale = ctx.saved_tensors
                if recompute:
                    scale = (x.square().mean() + 1e-3).rsqrt()
                return v * scale - x * scale**3 * (v * x).mean()

        return RmsNorm.apply

    row(
        "torch-second-order-saved-scale", "RMS norm: the saved scale is a constant to double backward",
        rms_norm(False), rms_norm(True), box(4, low=0.5, high=2), order=2,
    )  # fmt: skip

    def log_softmax(complete):
        def again(w, v, x):
            p = x.softmax(-1)
            inner = (w * p).sum(-1, keepdim=True)
            curved = -v.sum(-1, keepdim=True) * p * (w - inner)
            return w - inner, curved if complete else torch.zeros_like(x)

        inner = torch_op(lambda v, x: v - x.softmax(-1) * v.sum(-1, keepdim=True), again)
        return torch_op(lambda x: x.log_softmax(-1), inner)

    row(
        "torch-second-order-log-softmax", "log_softmax's double backward without the input's part",
        log_softmax(False), log_softmax(True), box(2, 3, low=-1, high=1), order=2,
    )  # fmt: skip


if importlib.util.find_spec("torch"):
    torch_rows()
