"""More correct functions of PyTorch: further layers, special functions, linear algebra, distributions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from .rows import box
from .sweep_function import Function, elementwise


def further_torch_functions() -> Iterator[Function]:
    import torch
    from torch import special
    from torch.nn import functional as F

    narrow, unit = (-4.0, 4.0), (-0.9, 0.9)
    yield from elementwise(
        {
            "tan": (torch.tan, -1.4, 1.4),
            "asin": (torch.asin, *unit),
            "acos": (torch.acos, *unit),
            "acosh": (torch.acosh, 1.1, 30),
            "atanh": (torch.atanh, *unit),
            "log2": (torch.log2, 0.01, 30),
            "log10": (torch.log10, 0.01, 30),
            "exp2": (torch.exp2, *narrow),
            "logit": (torch.logit, 0.05, 0.95),
            "lgamma": (torch.lgamma, 0.5, 8),
            "digamma": (torch.digamma, 0.5, 8),
            "polygamma 1": (partial(torch.polygamma, 1), 0.5, 8),
            "multigammaln": (lambda x: special.multigammaln(x, 2), 1, 8),
            "entr": (special.entr, 0.05, 4),
            "erfinv": (special.erfinv, *unit),
            "erfcx": (special.erfcx, -2, 4),
            "i0": (special.i0, *narrow),
            "i0e": (special.i0e, *narrow),
            "i1": (special.i1, *narrow),
            "i1e": (special.i1e, *narrow),
            "ndtr": (special.ndtr, *narrow),
            "log_ndtr": (special.log_ndtr, *narrow),
            "ndtri": (special.ndtri, 0.05, 0.95),
            "sinc": (torch.sinc, 0.1, 2),
            "deg2rad": (torch.deg2rad, *narrow),
            "clamp": (partial(torch.clamp, min=-1, max=2), *narrow),
            "nan_to_num": (torch.nan_to_num, *narrow),
            "dropout eval": (partial(F.dropout, training=False), *narrow),
            "alpha_dropout eval": (partial(F.alpha_dropout, training=False), *narrow),
        },
        shapes=((2, 3),),
    )

    def eye(x: Any) -> Any:
        return torch.eye(x.shape[-1]).to(x)

    three, square, positive = box(3), box(3, 3, low=-1, high=1), box(3, low=0.3, high=3)
    image, volume, matrix = box(1, 2, 4, 4), box(1, 1, 4, 4, 4), box(2, 3)
    for name, call, *boxes in (
        # layers
        ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 2)), image),
        ("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2), volume),
        ("avg_pool3d", lambda x: F.avg_pool3d(x, 2), volume),
        ("max_pool3d", lambda x: F.max_pool3d(x, 2), volume),
        ("lp_pool2d", lambda x: F.lp_pool2d(x, 3.0, 2), box(1, 2, 4, 4, low=0.1)),
        ("conv2d same", partial(F.conv2d, padding="same"), image, box(2, 2, 3, 3)),
        ("conv2d dilation", partial(F.conv2d, dilation=2), image, box(1, 2, 2, 2)),
        ("conv2d depthwise", partial(F.conv2d, groups=2), image, box(4, 1, 2, 2)),
        ("conv2d stride", partial(F.conv2d, stride=(2, 1), padding=1), image, box(1, 2, 2, 2)),
        ("conv_transpose3d", F.conv_transpose3d, box(1, 1, 2, 2, 2), box(1, 1, 2, 2, 2)),
        (
            "conv_transpose1d output",
            partial(F.conv_transpose1d, stride=2, output_padding=1),
            box(1, 2, 3),
            box(2, 1, 3),
        ),
        ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), image),
        ("channel_shuffle", lambda x: F.channel_shuffle(x, 2), box(1, 4, 2, 2)),
        ("pad constant", lambda x: F.pad(x, (1, 2), value=0.5), matrix),
        ("interpolate area", lambda x: F.interpolate(x, (2, 3), mode="area"), image),
        ("interpolate exact", lambda x: F.interpolate(x, (3, 5), mode="nearest-exact"), image),
        ("interpolate trilinear", lambda x: F.interpolate(x, 3, mode="trilinear"), volume),
        (
            "interpolate antialias",
            lambda x: F.interpolate(x, (2, 3), mode="bilinear", antialias=True),
            image,
        ),
        (
            "batch_norm eval",
            lambda x, w, b: F.batch_norm(x, 0.5 * torch.ones(3).to(x), torch.ones(3).to(x), w, b),
            box(4, 3),
            three,
            three,
        ),
        ("layer_norm 2d", lambda x: F.layer_norm(x, (2, 3)), matrix),
        ("prelu single", F.prelu, matrix, box(1, low=0.1, high=0.5)),
        ("glu 0", partial(F.glu, dim=0), box(4, 2)),
        (
            "triplet with distance",
            partial(F.triplet_margin_with_distance_loss, margin=2.0),
            matrix,
            matrix,
            matrix,
        ),
        (
            "attention scale",
            partial(F.scaled_dot_product_attention, scale=0.3),
            box(2, 3),
            box(2, 3),
            box(2, 2),
        ),
        ("lstm_cell", lambda x, h, c, w, u: torch.lstm_cell(x, (h, c), w, u),
         box(1, 2), box(1, 2), box(1, 2), box(8, 2), box(8, 2)),
        ("gru_cell", torch.gru_cell, box(1, 2), box(1, 2), box(6, 2), box(6, 2)),
        ("rnn_tanh_cell", torch.rnn_tanh_cell, box(1, 2), box(1, 2), box(2, 2), box(2, 2)),
        ("rnn_relu_cell", torch.rnn_relu_cell, box(1, 2), box(1, 2), box(2, 2), box(2, 2)),
        # of two and more arguments
        ("xlogy", torch.xlogy, three, positive),
        ("xlog1py", special.xlog1py, three, positive),
        ("addcmul", partial(torch.addcmul, value=0.5), three, three, three),
        ("addcdiv", partial(torch.addcdiv, value=0.5), three, three, positive),
        ("lerp", torch.lerp, three, three, three),
        ("minimum", torch.minimum, three, three),
        ("maximum", torch.maximum, three, three),
        ("fmax", torch.fmax, three, three),
        ("pow", torch.pow, positive, three),
        ("float_power", torch.float_power, positive, three),
        ("div", torch.div, three, positive),
        ("copysign", torch.copysign, positive, positive),
        ("logaddexp2", torch.logaddexp2, three, three),
        ("outer", torch.outer, three, box(2)),
        ("dot", torch.dot, three, three),
        ("cross", partial(torch.linalg.cross, dim=-1), matrix, matrix),
        ("kron", torch.kron, box(2, 2), box(2, 1)),
        ("tensordot", torch.tensordot, box(2, 2, 2), box(2, 2, 1)),
        ("baddbmm", torch.baddbmm, box(1, 2, 2), box(1, 2, 3), box(1, 3, 2)),
        ("addmm", partial(torch.addmm, beta=0.5, alpha=2), box(2, 2), box(2, 3), box(3, 2)),
        ("cdist", torch.cdist, box(2, 2, low=0.1), box(3, 2, high=0)),
        ("cdist 1", partial(torch.cdist, p=1.0), box(2, 2, low=0.1), box(3, 2, high=0)),
        # along an axis
        ("cummax", lambda x: x.cummax(0)[0], box(5)),
        ("cummin", lambda x: x.cummin(0)[0], box(5)),
        ("diff", torch.diff, box(5)),
        ("trapezoid", torch.trapezoid, box(4), box(4)),
        ("median", torch.median, box(5)),
        ("quantile", lambda x: torch.quantile(x, 0.3), box(5)),
        ("kthvalue", lambda x: x.kthvalue(2)[0], box(5)),
        ("topk", lambda x: x.topk(3)[0], box(5)),
        ("amin", partial(torch.amin, dim=0), matrix),
        ("aminmax", torch.aminmax, box(5)),
        ("var_mean", torch.var_mean, box(5)),
        ("std 0", partial(torch.std, dim=0, correction=0), box(4, 2)),
        ("nansum", torch.nansum, box(4)),
        ("cov", torch.cov, box(2, 4)),
        ("corrcoef", torch.corrcoef, box(2, 4)),
        ("norm 1", partial(torch.linalg.vector_norm, ord=1), box(4)),
        ("norm 3", partial(torch.linalg.vector_norm, ord=3), box(4, low=0.1)),
        ("norm inf", partial(torch.linalg.vector_norm, ord=float("inf")), box(4)),
        ("norm fro", torch.linalg.matrix_norm, box(2, 3, low=0.1)),
        ("cumprod signs", lambda x: x.cumprod(0), box(4)),
        ("softmax grid", lambda x: F.softmax(x.flatten(), 0).reshape(x.shape), box(2, 3)),
        # places
        ("roll", lambda x: x.roll(2), box(5)),
        ("flip", lambda x: x.flip(0), matrix),
        ("tril", torch.tril, box(3, 3)),
        ("diag_embed", torch.diag_embed, matrix),
        ("diagonal", torch.diagonal, box(3, 3)),
        ("trace", torch.trace, box(3, 3)),
        ("index_select", lambda x: x.index_select(0, torch.tensor([1, 1, 0])), matrix),
        ("take_along", lambda x: x.take_along_dim(x.detach().argsort(-1), -1), matrix),
        ("scatter_add", lambda x, y: x.scatter_add(0, torch.tensor([0, 0, 2]), y), three, three),
        ("index_add", lambda x, y: x.index_add(0, torch.tensor([1, 1, 0]), y), three, three),
        ("masked_fill", lambda x: x.masked_fill(torch.tensor([True, False, True]), 0.5), three),
        ("repeat_interleave", lambda x: x.repeat_interleave(2), three),
        ("expand", lambda x: x.expand(2, 3) * x[0], three),
        ("window", lambda x: x.unfold(0, 3, 1), box(5)),
        ("stack", lambda x, y: torch.stack([x, y, x * y]), three, three),
        ("chunk", lambda x: x.chunk(2), box(5)),
        ("block_diag", torch.block_diag, box(2, 2), box(1, 2)),
        # linear algebra
        ("det", lambda x: torch.linalg.det(x + 3 * eye(x)), square),
        ("solve", lambda x, b: torch.linalg.solve(x + 4 * eye(x), b), square, three),
        (
            "solve_triangular",
            lambda x, b: torch.linalg.solve_triangular(x.tril() + 4 * eye(x), b, upper=False),
            square,
            box(3, 1),
        ),
        ("matrix_power", lambda x: torch.linalg.matrix_power(x, 3), square),
        ("multi_dot", lambda x, y: torch.linalg.multi_dot([x, y, x]), box(2, 2), box(2, 2)),
        ("vander", torch.linalg.vander, three),
    ):  # fmt: skip
        yield Function(name, call, tuple(boxes))
    yield from _log_densities()


def _log_densities() -> Iterator[Function]:
    from torch import distributions as D

    def density(law: Any) -> Any:
        return lambda x, *parameters: law(*parameters, validate_args=False).log_prob(x)

    three, positive, inside = box(3), box(3, low=0.3, high=3), box(3, low=0.1, high=0.9)
    for name, law, *boxes in (
        ("normal", D.Normal, three, three, positive),
        ("log normal", D.LogNormal, positive, three, positive),
        ("half normal", D.HalfNormal, positive, positive),
        ("laplace", D.Laplace, three, three, positive),
        ("cauchy", D.Cauchy, three, three, positive),
        ("gumbel", D.Gumbel, three, three, positive),
        ("exponential", D.Exponential, positive, positive),
        ("gamma", D.Gamma, positive, positive, positive),
        ("beta", D.Beta, inside, positive, positive),
        ("student", D.StudentT, three, positive, three, positive),
        ("pareto", D.Pareto, box(3, low=3.1, high=6), positive, positive),
        ("weibull", D.Weibull, positive, positive, positive),
        ("poisson", D.Poisson, positive, positive),
        ("dirichlet", D.Dirichlet, inside, positive),
        ("von mises", D.VonMises, three, three, positive),
    ):
        yield Function(f"log density {name}", density(law), tuple(boxes))
    yield Function(
        "divergence of normals",
        lambda m, s, n, t: D.kl_divergence(D.Normal(m, s), D.Normal(n, t)),
        (three, positive, three, positive),
    )
