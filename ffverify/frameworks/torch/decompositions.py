"""Formulas of ATen operations for which torch has kernels but no reference decomposition.

Each is what the kernel computes, written in torch's own simpler operations, so that a trace can go on
through it. ``FORMULAS`` maps operations to them, as torch's decomposition tables do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import enable_reentrant_dispatch

aten = torch.ops.aten
# ruff: noqa: SLF001 - ATen's kernels for these have private names

# --- factors -----------------------------------------------------------------------------------


def _factors(a: Tensor) -> tuple[Tensor, Tensor]:
    """Give the factors that a determinant keeps for its derivatives: those of the columns in memory."""
    packed, pivots, _ = aten.linalg_lu_factor_ex(a.mT if a.is_contiguous() else a)
    return packed, pivots


def _solve_ex(a: Tensor, b: Tensor, **options: bool) -> Any:
    x, _, _, info = aten._linalg_solve_ex(a, b, **options)
    packed, pivots, _ = aten.linalg_lu_factor_ex(a)
    return x, packed, pivots, info


# What these keep depends on how a matrix lies in memory, which is known where the function itself runs.
FACTORED = {
    aten._linalg_det.default: lambda a: (aten._linalg_det(a)[0], *_factors(a)),
    aten._linalg_slogdet.default: lambda a: (*aten._linalg_slogdet(a)[:2], *_factors(a)),
    aten._linalg_solve_ex.default: _solve_ex,
}


def _triangular_solve(
    b: Tensor, a: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    matrix, upper = (a.mT, not upper) if transpose else (a, upper)
    return aten.linalg_solve_triangular(matrix, b, upper=upper, unitriangular=unitriangular), a


def _cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Any:
    lower = factor.mT if upper else factor
    half = aten.linalg_solve_triangular(lower, b, upper=False)
    return aten.linalg_solve_triangular(lower.mT, half, upper=True)


def _cholesky_inverse(factor: Tensor, upper: bool = False) -> Any:
    ones = torch.eye(factor.shape[-1], dtype=factor.dtype).expand(factor.shape)
    return _cholesky_solve(ones, factor, upper)


# --- order ---------------------------------------------------------------------------------------


def _ranked(x: Tensor, rank: Any, dim: int, keepdim: bool) -> Any:
    """Give the elements of a rank along an axis, or of ranks of their own, and where they are."""
    if not x.ndim:
        return x, torch.zeros((), dtype=torch.int64)
    shape = [*x.shape]
    shape[dim] = 1
    place = torch.as_tensor(rank).expand(shape)
    found = (a.gather(dim, place) for a in torch.sort(x, dim=dim, stable=True))
    return tuple(a if keepdim else a.squeeze(dim) for a in found)


def _median_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    return _ranked(x, (x.shape[dim] - 1) // 2 if x.ndim else 0, dim, keepdim)


def _nanmedian_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    numbers = (~x.isnan()).sum(dim, keepdim=True)  # which come first
    return _ranked(x, (numbers - 1).clamp(min=0) // 2, dim, keepdim)


# --- units and losses ---------------------------------------------------------------------------


def _rrelu(
    x: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
    *_generator: Any,
) -> Any:  # fmt: skip
    if training:  # random
        return NotImplemented
    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2), noise


def _pulled(function: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """Pull a cotangent back through a function, by autograd's rules for what it is made of."""
    with enable_reentrant_dispatch(), torch.enable_grad():
        x = x.detach().requires_grad_()
        pulled: Tensor
        (pulled,) = torch.autograd.grad(function(x), x, g)
        return pulled


def _loss(hinges: Tensor, reduction: int, shape: Sequence[int]) -> Tensor:
    """Give the losses of rows (..., classes) of hinges, per class; or their mean (1), or their sum."""
    losses = hinges.flatten(1).sum(1) / hinges.shape[-1]
    if reduction == 0:
        return losses.reshape(shape)
    return losses.mean() if reduction == 1 else losses.sum()


def _multi_margin_loss_backward(
    g: Tensor, x: Tensor, target: Tensor, p: int, margin: float, weight: Any = None,
    reduction: int = 1,
) -> Tensor:  # fmt: skip
    t = target.reshape(-1, 1)

    def loss(x: Tensor) -> Tensor:
        rows = x.reshape(len(t), -1)
        z = torch.relu(margin - rows.gather(1, t) + rows)
        z = z if p == 1 else z * z
        z = z if weight is None else z * weight[t]
        return _loss(torch.where(torch.arange(rows.shape[1]) != t, z, 0.0), reduction, target.shape)

    return _pulled(loss, x, g)


# torch's own decomposition of this one sums over the targets after the first -1 too.
def _multilabel_margin_loss(x: Tensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    classes = x.shape[-1] if x.ndim else 1
    rows, targets = x.reshape(-1, classes), target.reshape(-1, classes)
    listed = ((targets < 0).cumsum(1) == 0)[:, :, None]
    targets = targets.clamp(min=0)
    is_target = ((targets[:, :, None] == torch.arange(classes)) & listed).any(1)
    z = torch.relu(1 - rows.gather(1, targets)[:, :, None] + rows[:, None, :])
    hinges = torch.where(listed & ~is_target[:, None, :], z, 0.0)
    return _loss(hinges, reduction, x.shape[:-1]), is_target.to(x.dtype).reshape(target.shape)


def _trilinear(
    a: Tensor, b: Tensor, c: Tensor, expand_a: Any, expand_b: Any, expand_c: Any, over: Any,
    _unroll: int = 1,
) -> Tensor:  # fmt: skip
    given = ((a, expand_a), (b, expand_b), (c, expand_c))
    a, b, c = (reduce(torch.unsqueeze, axes, x) for x, axes in given)
    return (a * b * c).sum(over) if over else a * b * c


# --- distances ----------------------------------------------------------------------------------


def _norm(d: Tensor, p: float) -> Tensor:
    if p == 0:
        return (d != 0).to(d.dtype).sum(-1)
    if p == float("inf"):
        return d.abs().amax(-1)
    if p == 1:
        return d.abs().sum(-1)
    return (d * d).sum(-1).sqrt() if p == 2 else (d.abs() ** p).sum(-1) ** (1 / p)


def _norm_backward(g: Tensor, d: Tensor, p: float, norm: Tensor) -> Tensor:
    """Give the cotangent of differences d from that of their p-norm; 0 where the norm is 0."""
    g, norm = g[..., None], norm[..., None]
    if p == 0:
        return torch.zeros_like(d) * g
    if p == 1:
        return d.sign() * g
    if p == float("inf"):
        return torch.where(d.abs() == norm, d.sign() * g, 0.0)
    safe = torch.where(norm == 0, 1.0, norm)
    slope = d / safe if p == 2 else d.sign() * (d.abs() / safe) ** (p - 1)
    return torch.where(norm == 0, 0.0, g * slope)


def _among_rows(x: Tensor) -> Tensor:
    i, j = torch.triu_indices(x.shape[0], x.shape[0], 1).unbind()
    return x[i] - x[j]


def _between(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None, :] - b[..., None, :, :]


# --- windows ------------------------------------------------------------------------------------


def _several(given: Any, dims: int) -> list[int]:
    numbers: list[int] = [given] if isinstance(given, int) else list(given)
    return numbers * dims if len(numbers) == 1 else numbers


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], by: float = 0.0) -> Tensor:
    """Put a number around the trailing axes."""
    ends = [n for pair in reversed(list(zip(before, after, strict=True))) for n in pair]
    return aten.constant_pad_nd(x, ends, by) if any(ends) else x


def _windows(
    x: Tensor, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Give all windows of the trailing axes: (..., places, size)."""
    lead = x.ndim - len(size)
    for i, (k, s, d) in enumerate(zip(size, stride, dilation, strict=True)):
        x = x.unfold(lead + i, (k - 1) * d + 1, s)[..., ::d]
    return x


def _unfold_backward(g: Tensor, sizes: Any, dim: int, size: int, step: int) -> Tensor:
    """Add what the windows' elements of each number give, which no two windows have in one place."""
    if not sizes:  # of a number there is one window
        return g.squeeze(0)
    dim, zeros = dim % len(sizes), g.new_zeros(sizes)
    reach = (g.shape[dim] - 1) * step + 1
    given = [torch.slice_scatter(zeros, g[..., j], dim, j, j + reach, step) for j in range(size)]
    return torch.stack(given).sum(0)


def _correlated(
    x: Tensor, w: Tensor, stride: Any, padding: Any, dilation: Any, groups: int, shape: Any = ()
) -> Tensor:
    """Multiply windows as matrices (groups, batch·places, channels·size) with the kernels.

    Where an image has places more than a shape, as a transposed convolution may leave it, these are left out.
    """
    size = w.shape[2:]
    stride, padding, dilation = (_several(a, len(size)) for a in (stride, padding, dilation))
    windows = _windows(_padded(x, padding, padding), size, stride, dilation)
    places = windows.shape[2 : 2 + len(size)]
    split = windows.reshape(x.shape[0], groups, x.shape[1] // groups, prod(places), prod(size))
    columns = split.permute(1, 0, 3, 2, 4).reshape(groups, x.shape[0] * prod(places), -1)
    kernels = w.reshape(groups, w.shape[0] // groups, -1).transpose(1, 2)
    y = (columns @ kernels).reshape(groups, x.shape[0], prod(places), -1)
    whole = y.permute(1, 0, 3, 2).reshape(x.shape[0], w.shape[0], *places)
    return whole[(..., *map(slice, shape[2:]))]  # type: ignore[index]  # a tuple


def _convolution(
    x: Tensor, w: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    extra: Any, groups: int,
) -> Tensor:  # fmt: skip
    if transposed:
        given = (_several(a, w.ndim - 2) for a in (stride, padding, dilation, extra))
        each = zip(x.shape[2:], w.shape[2:], *given, strict=True)
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + e for n, k, s, p, d, e in each]
        image = x.new_zeros(x.shape[0], w.shape[1] * groups, *sizes)
        y = _pulled(
            lambda u: _correlated(u, w, stride, padding, dilation, groups, x.shape), image, x
        )
    else:
        y = _correlated(x, w, stride, padding, dilation, groups)
    return y if bias is None else y + bias.reshape(-1, *[1] * (w.ndim - 2))


def _convolution_backward(
    g: Tensor, x: Tensor, w: Tensor, _bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    _extra: Any, groups: int, wanted: Sequence[bool],
) -> tuple[Any, ...]:  # fmt: skip
    image, y = (g, x) if transposed else (x, g)

    def correlated(image: Tensor, w: Tensor) -> Tensor:
        return _correlated(image, w, stride, padding, dilation, groups, y.shape)

    x_bar = w_bar = None
    if wanted[0]:
        x_bar = correlated(g, w) if transposed else _pulled(lambda x: correlated(x, w), x, g)
    if wanted[1]:
        w_bar = _pulled(lambda w: correlated(image, w), w, y)
    return x_bar, w_bar, g.sum([0, *range(2, g.ndim)]) if wanted[2] else None


def _average(dims: int) -> Callable[..., Tensor]:
    def pool(
        x: Tensor, size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: Any = None,
    ) -> Tensor:  # fmt: skip
        size, padding = _several(size, dims), _several(padding, dims)
        stride = _several(stride, dims) if stride else size
        lengths, beyond = x.shape[-dims:], []
        for n, k, s, p in zip(lengths, size, stride, padding, strict=True):
            places = (n + 2 * p - k + (s - 1 if ceil_mode else 0)) // s + 1
            places -= (places - 1) * s >= n + p  # the last window starts inside
            beyond.append(max((places - 1) * s + k - n - 2 * p, 0))
        # What is beyond the padding, where the last window ends, counts for nothing.
        inside = _padded(x.new_ones(lengths), padding, padding, float(count_include_pad))
        sums, counts = (
            _windows(_padded(a, [0] * dims, beyond), size, stride, [1] * dims)
            .sum(list(range(-dims, 0)))
            for a in (_padded(x, padding, padding), inside)
        )  # fmt: skip
        average: Tensor = sums / (counts if divisor_override is None else divisor_override)
        return average

    return pool


# --- all of them --------------------------------------------------------------------------------

_2D, _3D = _average(2), _average(3)

_BY_NAME: dict[str, Callable[..., Any]] = {
    "triangular_solve.default": _triangular_solve, "cholesky_solve.default": _cholesky_solve,
    "cholesky_inverse.default": _cholesky_inverse,
    "kthvalue.default": lambda x, k, dim=-1, keepdim=False: _ranked(x, k - 1, dim, keepdim),
    "median.dim": _median_along, "nanmedian.dim": _nanmedian_along,
    "median.default": lambda x: _median_along(x.reshape(-1), 0)[0],
    "nanmedian.default": lambda x: _nanmedian_along(x.reshape(-1), 0)[0],
    "angle.default": lambda x: torch.where(x < 0, torch.pi, torch.where(x.isnan(), x, 0.0)),
    **dict.fromkeys(
        ("softshrink_backward.default", "hardshrink_backward.default"),
        lambda g, x, lambd: torch.where((x >= -lambd) & (x <= lambd), 0.0, g)),
    "_neg_view.default": torch.neg, "rrelu_with_noise_functional.default": _rrelu,
    "multi_margin_loss_backward.default": _multi_margin_loss_backward,
    "multilabel_margin_loss_forward.default": _multilabel_margin_loss,
    "multilabel_margin_loss_backward.default": lambda g, x, target, reduction, _is_target: _pulled(
        lambda x: _multilabel_margin_loss(x, target, reduction)[0], x, g),
    "_trilinear.default": _trilinear,
    "addbmm.default": lambda x, a, b, beta=1, alpha=1: beta * x + alpha * (a @ b).sum(0),
    "_pdist_forward.default": lambda x, p=2.0: _norm(_among_rows(x), p),
    "_pdist_backward.default": lambda g, x, p, norm: _pulled(
        _among_rows, x, _norm_backward(g, _among_rows(x), p, norm)),
    "_cdist_forward.default": lambda a, b, p, _mode: _norm(_between(a, b), p),
    "_cdist_backward.default": lambda g, a, b, p, norm: _norm_backward(g, _between(a, b), p, norm).sum(-2),
    "unfold_backward.default": _unfold_backward,
    "convolution.default": _convolution, "convolution_backward.default": _convolution_backward,
    "avg_pool2d.default": _2D, "avg_pool3d.default": _3D,
    "avg_pool2d_backward.default": lambda g, x, *given: _pulled(lambda x: _2D(x, *given), x, g),
    "avg_pool3d_backward.default": lambda g, x, *given: _pulled(lambda x: _3D(x, *given), x, g),
}  # fmt: skip
FORMULAS = {attrgetter(name)(aten): formula for name, formula in _BY_NAME.items()}
