"""Correct functions of PyTorch for the sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .rows import Box, box
from .sweep_function import Function, elementwise


def torch_functions() -> Iterator[Function]:
    import torch
    from torch.nn import functional as F

    wide, narrow = (-30.0, 30.0), (-4.0, 4.0)
    yield from elementwise(
        {
            "relu": (F.relu, *wide),
            "relu6": (F.relu6, *wide),
            "elu": (F.elu, *wide),
            "elu 0.5": (partial(F.elu, alpha=0.5), *narrow),
            "selu": (F.selu, *wide),
            "celu": (F.celu, *wide),
            "celu 0.7": (partial(F.celu, alpha=0.7), *narrow),
            "leaky_relu": (F.leaky_relu, *wide),
            "leaky_relu 0.3": (partial(F.leaky_relu, negative_slope=0.3), *wide),
            "rrelu eval": (F.rrelu, *wide),
            "gelu": (F.gelu, *narrow),
            "gelu tanh": (partial(F.gelu, approximate="tanh"), *narrow),
            "logsigmoid": (F.logsigmoid, *wide),
            "hardshrink": (F.hardshrink, 0.6, 4),
            "hardshrink 1": (partial(F.hardshrink, lambd=1), -0.9, 0.9),
            "tanhshrink": (F.tanhshrink, *narrow),
            "softsign": (F.softsign, *wide),
            "softplus": (F.softplus, *wide),
            "softplus 2": (partial(F.softplus, beta=2), *narrow),
            "softshrink": (F.softshrink, *wide),
            "tanh": (torch.tanh, *narrow),
            "sigmoid": (torch.sigmoid, *wide),
            "hardsigmoid": (F.hardsigmoid, *wide),
            "silu": (F.silu, *wide),
            "mish": (F.mish, *narrow),
            "hardswish": (F.hardswish, *wide),
            "hardtanh": (F.hardtanh, *wide),
            "hardtanh 2": (partial(F.hardtanh, min_val=-2, max_val=2), *wide),
            "threshold": (lambda x: F.threshold(x, 0.5, 0.5), *narrow),
            "exp": (torch.exp, *wide),
            "expm1": (torch.expm1, *wide),
            "log": (torch.log, 0.01, 30),
            "log1p": (torch.log1p, -0.9, 30),
            "sqrt": (torch.sqrt, 0.01, 30),
            "rsqrt": (torch.rsqrt, 0.01, 30),
            "sin": (torch.sin, *wide),
            "cos": (torch.cos, *wide),
            "atan": (torch.atan, *wide),
            "asinh": (torch.asinh, *wide),
            "erf": (torch.erf, *narrow),
            "erfc": (torch.erfc, *narrow),
            "reciprocal": (torch.reciprocal, 0.01, 30),
            "sinh": (torch.sinh, *narrow),
            "cosh": (torch.cosh, *narrow),
            "square": (torch.square, *wide),
            "abs": (torch.abs, *wide),
            "pow 3": (lambda x: x**3, *narrow),
            "pow 1.5": (lambda x: x**1.5, 0.01, 4),
        }
    )

    def three(
        name: str, loss: Callable[..., Any], *boxes: Box, **options: Any
    ) -> Iterator[Function]:
        for reduction in ("none", "mean", "sum"):
            yield Function(
                f"{name} {reduction}", partial(loss, reduction=reduction, **options), boxes
            )

    a, p = box(2, 3), box(2, 3, low=0.1, high=0.9)
    sign = torch.tensor([[1, -1, 1], [-1, 1, -1]])
    classes, kept = torch.tensor([2, 0]), torch.tensor([2, -100])

    def to(loss: Callable[..., Any], target: Any) -> Callable[..., Any]:
        cast = (lambda x: target) if target.dtype == torch.int64 else target.to
        return lambda x, **options: loss(x, cast(x.dtype), **options)

    def log_input(loss: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, *rest, **options: loss(F.log_softmax(x, -1), *rest, **options)

    for name, loss, boxes in (
        ("mse_loss", F.mse_loss, (a, a)),
        ("l1_loss", F.l1_loss, (a, a)),
        ("smooth_l1_loss", F.smooth_l1_loss, (a, a)),
        ("smooth_l1_loss 0.3", partial(F.smooth_l1_loss, beta=0.3), (a, a)),
        ("huber_loss", F.huber_loss, (a, a)),
        ("huber_loss 2", partial(F.huber_loss, delta=2.0), (a, a)),
        ("binary_cross_entropy", F.binary_cross_entropy, (p, p)),
        ("bce_with_logits", F.binary_cross_entropy_with_logits, (a, p)),
        (
            "bce_with_logits pos_weight",
            lambda x, t, **o: F.binary_cross_entropy_with_logits(
                x, t, pos_weight=torch.tensor([2.0, 1, 0.5]).to(x), **o
            ),
            (a, p),
        ),
        ("cross_entropy", to(F.cross_entropy, classes), (a,)),
        ("cross_entropy ignore", to(F.cross_entropy, kept), (a,)),
        (
            "cross_entropy smoothing",
            to(partial(F.cross_entropy, label_smoothing=0.1), classes),
            (a,),
        ),
        (
            "cross_entropy probabilities",
            lambda x, t, **o: F.cross_entropy(x, F.softmax(t, -1), **o),
            (a, a),
        ),
        (
            "cross_entropy weight",
            lambda x, **o: F.cross_entropy(x, classes, weight=torch.tensor([1.0, 2, 3]).to(x), **o),
            (a,),
        ),
        ("nll_loss", log_input(to(F.nll_loss, classes)), (a,)),
        ("kl_div", log_input(F.kl_div), (a, p)),
        ("kl_div log_target", log_input(partial(F.kl_div, log_target=True)), (a, a)),
        ("poisson_nll", F.poisson_nll_loss, (a, p)),
        ("poisson_nll rate", partial(F.poisson_nll_loss, log_input=False), (p, p)),
        ("gaussian_nll", F.gaussian_nll_loss, (a, a, p)),
        ("gaussian_nll full", partial(F.gaussian_nll_loss, full=True), (a, a, p)),
        ("hinge_embedding", to(F.hinge_embedding_loss, sign), (a,)),
        ("soft_margin", to(F.soft_margin_loss, sign), (a,)),
        (
            "margin_ranking",
            lambda x, y, **o: F.margin_ranking_loss(x, y, sign.to(x), margin=0.5, **o),
            (a, a),
        ),
        (
            "cosine_embedding",
            lambda x, y, **o: F.cosine_embedding_loss(x, y, torch.tensor([1, -1]), margin=0.1, **o),
            (p, p),
        ),
        ("triplet_margin", F.triplet_margin_loss, (a, a, a)),
        ("triplet_margin swap", partial(F.triplet_margin_loss, swap=True), (a, a, a)),
        ("multi_margin", to(F.multi_margin_loss, classes), (a,)),
        ("multi_margin 2", to(partial(F.multi_margin_loss, p=2), classes), (a,)),
        ("multilabel_soft_margin", to(F.multilabel_soft_margin_loss, (sign > 0).float()), (a,)),
        (
            "multilabel_margin",
            to(F.multilabel_margin_loss, torch.tensor([[2, 0, -1], [1, -1, 0]])),
            (a,),
        ),
        (
            "ctc",
            lambda x, **o: F.ctc_loss(
                F.log_softmax(x, -1),
                torch.tensor([[1, 2]]),
                torch.tensor([4]),
                torch.tensor([2]),
                **o,
            ),
            (box(4, 1, 3),),
        ),
    ):
        yield from three(name, loss, *boxes)

    image, vector, w3 = box(1, 2, 4, 4), box(1, 2, 6), box(3, 2, 3)
    for name, call, *boxes in (
        ("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), box(3, 4), box(4), box(4)),
        ("rms_norm", lambda x, w: F.rms_norm(x, (4,), w), box(3, 4), box(4)),
        ("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), box(2, 4, 3), box(4), box(4)),
        ("instance_norm", F.instance_norm, box(2, 2, 5)),
        ("local_response_norm", lambda x: F.local_response_norm(x, 2), image),
        (
            "batch_norm",
            lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
            box(4, 3),
            box(3),
            box(3),
        ),
        ("normalize", F.normalize, box(2, 3, low=0.1)),
        ("normalize 1", partial(F.normalize, p=1), box(2, 3, low=0.1)),
        ("normalize 3", partial(F.normalize, p=3), box(2, 3, low=0.1)),
        ("cosine_similarity", F.cosine_similarity, box(2, 3, low=0.1), box(2, 3, low=0.1)),
        ("pairwise_distance", F.pairwise_distance, box(2, 3, low=1), box(2, 3, high=0)),
        ("pdist", F.pdist, box(3, 2)),
        ("linear", F.linear, box(2, 3), box(4, 3), box(4)),
        ("bilinear", F.bilinear, box(2, 3), box(2, 2), box(2, 3, 2), box(2)),
        ("prelu", F.prelu, box(2, 3), box(3, low=0.1, high=0.5)),
        ("glu", F.glu, box(2, 4)),
        ("softmax", partial(F.softmax, dim=-1), box(2, 4)),
        ("softmax 0", partial(F.softmax, dim=0), box(2, 4, low=-30, high=30)),
        ("softmin", partial(F.softmin, dim=-1), box(2, 4)),
        ("log_softmax", partial(F.log_softmax, dim=-1), box(2, 4, low=-30, high=30)),
        ("logsumexp", partial(torch.logsumexp, dim=0), box(2, 4)),
        ("conv1d", F.conv1d, vector, w3),
        ("conv1d stride", partial(F.conv1d, stride=2, padding=1), vector, w3),
        ("conv1d dilation", partial(F.conv1d, dilation=2), vector, w3),
        ("conv1d groups", partial(F.conv1d, groups=2), vector, box(2, 1, 3)),
        ("conv2d", F.conv2d, image, box(2, 2, 2, 2), box(2)),
        ("conv3d", F.conv3d, box(1, 1, 3, 3, 3), box(1, 1, 2, 2, 2)),
        ("conv_transpose1d", F.conv_transpose1d, vector, box(2, 3, 3)),
        ("conv_transpose2d", partial(F.conv_transpose2d, stride=2), image, box(2, 1, 2, 2)),
        ("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), vector),
        ("avg_pool2d", lambda x: F.avg_pool2d(x, 2), image),
        (
            "avg_pool1d excluded",
            lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
            vector,
        ),
        ("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 4), vector),
        ("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 4), vector),
        ("max_pool1d", lambda x: F.max_pool1d(x, 3, 1), vector),
        ("max_pool2d", lambda x: F.max_pool2d(x, 2), image),
        ("lp_pool1d", lambda x: F.lp_pool1d(x, 2.0, 2), box(1, 2, 6, low=0.1)),
        ("unfold", lambda x: F.unfold(x, 2), image),
        ("fold", lambda x: F.fold(x, (3, 3), 2), box(1, 4, 4)),
        ("pad reflect", lambda x: F.pad(x, (2, 1), "reflect"), vector),
        ("pad replicate", lambda x: F.pad(x, (2, 1), "replicate"), vector),
        ("pad circular", lambda x: F.pad(x, (2, 1), "circular"), vector),
        ("interpolate linear", lambda x: F.interpolate(x, 9, mode="linear"), vector),
        ("interpolate nearest", lambda x: F.interpolate(x, 9), vector),
        (
            "interpolate bilinear",
            lambda x: F.interpolate(x, (6, 3), mode="bilinear", align_corners=True),
            image,
        ),
        ("interpolate bicubic", lambda x: F.interpolate(x, (6, 3), mode="bicubic"), image),
        (
            "grid_sample",
            partial(F.grid_sample, align_corners=False),
            image,
            box(1, 2, 2, 2, low=0.05, high=0.2),
        ),
        (
            "affine_grid",
            lambda t: F.affine_grid(t, [1, 1, 2, 3], align_corners=False),
            box(1, 2, 3),
        ),
        ("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), box(1, 4, 2, 2)),
        ("embedding", lambda w: F.embedding(torch.tensor([1, 1, 0]), w), box(3, 2)),
        ("embedding_bag", lambda w: F.embedding_bag(torch.tensor([[1, 1], [0, 2]]), w), box(3, 2)),
        ("attention", F.scaled_dot_product_attention, box(1, 3, 2), box(1, 3, 2), box(1, 3, 2)),
        (
            "attention causal",
            partial(F.scaled_dot_product_attention, is_causal=True),
            box(1, 3, 2),
            box(1, 3, 2),
            box(1, 3, 2),
        ),
        ("cumsum", lambda x: x.cumsum(0), box(5)),
        ("cumprod", lambda x: x.cumprod(0), box(5, low=0.5, high=2)),
        ("prod", torch.prod, box(4)),
        ("std", torch.std, box(5)),
        ("var", torch.var, box(5)),
        ("norm", torch.norm, box(5, low=0.1)),
        ("amax", torch.amax, box(5)),
        ("matmul", torch.matmul, box(2, 3, 2), box(2, 2)),
        ("einsum", partial(torch.einsum, "ij,jk->k"), box(3, 2), box(2, 3)),
        ("gather", lambda x: x[[0, 0, 2, 1]], box(3)),
        ("logcumsumexp", lambda x: x.logcumsumexp(0), box(4)),
        ("sort", lambda x: x.sort()[0], box(4)),
        ("inv", lambda x: torch.linalg.inv(x + 4 * torch.eye(3).to(x)), box(3, 3, low=-1, high=1)),
        (
            "logdet",
            lambda x: torch.linalg.slogdet(x + 4 * torch.eye(3).to(x))[1],
            box(3, 3, low=-1, high=1),
        ),
        (
            "cholesky",
            lambda x: torch.linalg.cholesky(x @ x.mT + 3 * torch.eye(3).to(x)),
            box(3, 3, low=-1, high=1),
        ),
        ("atan2", torch.atan2, box(3, low=0.1), box(3, low=0.1)),
        ("hypot", torch.hypot, box(3, low=0.1), box(3, low=0.1)),
        ("logaddexp", torch.logaddexp, box(3), box(3)),
        ("where", lambda x, y: torch.where(x > y, x * y, y), box(3), box(3, low=1)),
    ):
        yield Function(name, call, tuple(boxes))
