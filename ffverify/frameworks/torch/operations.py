"""ATen's vocabulary: how torch's operations say what the table of operations does.

``ATEN`` maps names of ATen operations to functions of precise arrays; ``MOVES`` names those that only
move elements. ``DECOMPOSED`` names what torch's own reference formulas decompose into these. What is
left has a formula in `decompositions`, or is unknown. What an operation here is composed of says how it
rounds: the table has the roundings of its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from ffverify.exact.operations import OPERATIONS, renamed
from ffverify.exact.programs import UnknownOperation

from .tape import mapped

_op = OPERATIONS.__getitem__

# What torch decomposes itself, with the _forward and _backward of each; random operations, complex ones and
# changes in place aside. Nothing depends on this list: it is where one finds addmm, and a test holds it.
DECOMPOSED = frozenset(
    str.split("""
    adaptive_max_pool2d adaptive_max_pool3d addcdiv addcmul addmm addmv addr affine_grid_generator aminmax
    baddbmm batch_norm binary_cross_entropy binary_cross_entropy_with_logits bucketize celu col2im complex
    conj_physical count_nonzero deg2rad diagonal dist elu embedding embedding_dense floor_divide frac gcd
    gelu glu grid_sampler_2d hardshrink hardsigmoid hardswish hardtanh hinge_embedding_loss huber_loss
    igamma igammac im2col index_add index_fill isin isneginf isposinf lcm ldexp leaky_relu lerp linalg_cross
    linalg_vector_norm linspace log_sigmoid logaddexp2 logit logspace logsumexp margin_ranking_loss
    max_pool2d_with_indices max_pool3d_with_indices max_unpool2d max_unpool3d meshgrid mish mse_loss
    multi_margin_loss multilabel_margin_loss mvlgamma nan_to_num nansum native_batch_norm native_dropout
    native_group_norm native_layer_norm nextafter nll_loss nll_loss2d norm pad_sequence pairwise_distance
    pdist polar prelu rad2deg reflection_pad1d reflection_pad2d reflection_pad3d relu6 renorm
    replication_pad1d replication_pad2d replication_pad3d resize_as rrelu_with_noise rsub select selu
    sigmoid silu slice smooth_l1_loss soft_margin_loss softplus softshrink special_spherical_bessel_j0 std
    std_mean tanh threshold trace unfold unsafe_split unsafe_split_with_sizes upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d zero
    """)
)

# Keywords that say nothing about numbers but their format, which results are brought to.
IGNORED = frozenset(str.split("memory_format layout device pin_memory non_blocking dtype out"))

# Operations that give their first argument: a functional program changes neither.
COPIES = frozenset(str.split("""
    clone detach detach_copy alias alias_copy lift lift_fresh lift_fresh_copy contiguous positive
"""))  # fmt: skip

# Operations that only move elements, or put zeros beside them: torch says where they go.
_VIEWS = str.split("""
    view permute transpose t expand select slice unsqueeze squeeze split split_with_sizes unbind diagonal
    as_strided unfold
""")
MOVES = frozenset([*_VIEWS, *(f"{view}_copy" for view in _VIEWS), *str.split("""
    _unsafe_view reshape _reshape_alias _reshape_copy narrow_copy flip roll rot90 cat stack block_diag repeat
    repeat_interleave index_select gather index _unsafe_index take tril triu diag_embed diagonal_scatter
    select_scatter slice_scatter as_strided_scatter scatter constant_pad_nd masked_select masked_scatter
    index_copy pixel_shuffle pixel_unshuffle channel_shuffle
""")])  # fmt: skip

# Random numbers whose distribution has tensors for parameters.
DRAWS = frozenset(
    attrgetter(name)(torch.ops.aten)
    for name in str.split("""
    normal.Tensor_float normal.float_Tensor normal.Tensor_Tensor bernoulli.default bernoulli_.Tensor
    poisson.default binomial.default multinomial.default _standard_gamma.default _sample_dirichlet.default
    """)
)

# Where these take the number that fills the places no element comes to.
FILLS = {"scatter": 3, "constant_pad_nd": 2}


def _identity(x: Any, *_args: Any, **_kwargs: Any) -> Any:
    return x


def _axes(dim: Any) -> Any:
    return None if dim is None or dim == [] else tuple(dim) if isinstance(dim, list) else dim


def _reduced(operation: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        return operation(x, axis=_axes(dim) if x.ndim else None, keepdims=keepdim)

    return reduce


def _extremum_along(value: str, place: str) -> Callable[..., Any]:
    def reduce(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if dim is None:
            return _op(value)(x)
        if x.ndim == 0:
            return x, np.zeros((), np.int64)
        index = _op(place)(x, axis=dim, keepdims=True)
        best = np.take_along_axis(x, index, dim)
        return (best, index) if keepdim else (np.squeeze(best, dim), np.squeeze(index, dim))

    return reduce


def _variance(x: Any, dim: Any = None, correction: Any = None, keepdim: bool = False) -> Any:
    ddof = 1 if correction is None else correction
    return np.var(x, axis=_axes(dim), ddof=ddof, keepdims=keepdim)


def _shifted(x: Any, dim: int) -> tuple[Any, Any, Any]:
    """Give x - max x along an axis, its exponentials, and their sum."""
    axis = dim if x.ndim else None
    rest = x - np.max(x, axis=axis, keepdims=True) if x.size else x
    each = np.exp(rest)
    return rest, each, np.sum(each, axis=axis, keepdims=True)


def _softmax(x: Any, dim: int, _to_float: bool = False) -> Any:
    _, each, total = _shifted(x, dim)
    return each / total


def _log_softmax(x: Any, dim: int, _to_float: bool = False) -> Any:
    rest, _, total = _shifted(x, dim)
    return rest - np.log(total)


def _sort(x: Any, *args: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    if args and (args[0] is None or isinstance(args[0], bool)):
        stable, args = args[0], args[1:]  # the overload with `stable` first
    given = [*args, *[dim, descending][len(args) :]]
    dim, descending = given[0], given[1]

    def of_floats(floats: Any, axis: int) -> Any:
        numbers = torch.from_numpy(-floats if descending else floats)
        return torch.sort(numbers, dim=axis, descending=descending, stable=bool(stable))[1].numpy()

    return _ordered(x, dim, descending, of_floats)


def _topk(x: Any, k: int, dim: int = -1, largest: bool = True, _sorted: bool = True) -> Any:
    def of_floats(floats: Any, axis: int) -> Any:
        numbers = torch.from_numpy(-floats if largest else floats)
        first = torch.topk(numbers, k, axis, largest)[1].numpy()
        rest = np.ones(floats.shape, dtype=bool)
        np.put_along_axis(rest, first, values=False, axis=axis)
        rising = np.lexsort((floats, rest), axis)
        return np.concatenate([first, np.delete(rising, np.s_[:k], axis)], axis)

    values, order = _ordered(x, dim, largest, of_floats)
    if x.ndim == 0:
        return values, order
    first = (slice(None),) * (dim % x.ndim) + (slice(k),)
    return values[first], order[first]


def _ordered(x: Any, dim: int, descending: bool, of_floats: Any) -> Any:
    """Sort along an axis, with the places; torch says which of equal elements comes first."""
    if x.ndim == 0:
        return x, np.zeros((), np.int64)
    order = np.argsort(-x if descending else x, axis=dim, kind=of_floats)
    return np.take_along_axis(x, order, dim), order


def _searchsorted(
    a: Any, v: Any, right: bool = False, side: Any = None, sorter: Any = None, **_: Any
) -> Any:
    a = a if sorter is None else np.take_along_axis(a, sorter, -1)
    return np.searchsorted(a, v, side or ("right" if right else "left"))


def _cumulative_extremum(name: str) -> Callable[..., Any]:
    def accumulate(x: Any, dim: int) -> Any:
        if x.ndim == 0:
            return x, np.zeros((), np.int64)
        best = _op(name)(x, axis=dim)
        places = np.expand_dims(np.arange(x.shape[dim]), [*range(1, x.ndim - dim % x.ndim)])
        return best, np.maximum.accumulate(np.where(x == best, places, 0), axis=dim)

    return accumulate


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    quotient = np.divide(x, y)
    return quotient if rounding_mode is None else _op(rounding_mode)(quotient)


def _where(condition: Any, x: Any, y: Any) -> Any:
    return _op("select")(condition, y, x)


def natively(tree: Any) -> Any:
    """Give arrays of NumPy's, nested as arguments are, as tensors."""
    return mapped(np.ndarray, lambda a: torch.from_numpy(np.array(a)), tree)


def _positions(x: Any, read: Callable[..., Any], *where: Any) -> Any:
    """Give the flat position in x of every element that is written where torch would read it."""
    return read(torch.arange(x.size).reshape(x.shape), *natively(where)).numpy()


def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    positions = _positions(x, torch.ops.aten.index, indices)
    if accumulate:
        return _op("scatter_add")(x, positions, values)
    out = x.reshape(-1).copy()
    values = x.arithmetic.array(values)
    out[positions.ravel()] = np.broadcast_to(values, positions.shape).reshape(-1)
    return out.reshape(x.shape)


# How each reduction combines, and from what it starts where the element itself is left out.
_STARTS = {
    "sum": ("add", 0), "mean": ("add", 0), "prod": ("multiply", 1),
    "amax": ("maximum", -np.inf), "amin": ("minimum", np.inf),
}  # fmt: skip


def _scatter_reduce(
    x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True
) -> Any:
    if reduce not in _STARTS:
        raise UnknownOperation(f"scatter_reduce {reduce}")
    combine, start = _STARTS[reduce]
    src = src[tuple(slice(n) for n in index.shape)] if index.ndim else src
    positions = _positions(x, torch.gather, dim, index)
    counts = np.bincount(positions.ravel(), minlength=x.size).reshape(x.shape)
    if not include_self:
        x = np.where(counts > 0, start, x)
    result = _op(f"scatter_{combine}")(x, positions, src)
    return result / np.maximum(counts + include_self, 1) if reduce == "mean" else result


def _index_reduce(
    x: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool = True
) -> Any:
    along = index.reshape([-1 if k == dim % x.ndim else 1 for k in range(x.ndim)])
    return _scatter_reduce(
        x, dim, np.broadcast_to(along, source.shape), source, reduce, include_self
    )


def _info(a: Any) -> Any:
    """Report success, as LAPACK does."""
    return np.zeros(a.shape[:-2], np.int32)


def _cholesky(a: Any, upper: bool = False, **_checks: Any) -> Any:
    factor = _op("cholesky")(np.swapaxes(a, -1, -2) if upper else a)
    return (np.swapaxes(factor, -1, -2) if upper else factor), _info(a)


def _solve(a: Any, b: Any, left: bool = True) -> Any:
    if not left:
        return np.swapaxes(_solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    return _op("solve")(a, b[..., None])[..., 0] if vector else _op("solve")(a, b)


def _unpacked(packed: Any, pivots: Any, _data: bool = True, _pivots: bool = True) -> Any:
    order, lower, upper = _op("lu_unpacked")(packed, pivots)
    return packed.arithmetic.array(order), lower, upper


def _lu_solve(packed: Any, pivots: Any, b: Any, left: bool = True, adjoint: bool = False) -> Any:
    """Solve with the matrix that was factored: elimination is what its rounding is known for."""
    order, lower, upper = _unpacked(packed, pivots)
    a = order @ lower @ upper
    return _solve(np.swapaxes(a, -1, -2) if adjoint else a, b, left)


def _new(value: int) -> Callable[..., Any]:
    return lambda x, size, *_: x.arithmetic.array(np.full(size, value))


# ATen's names of the table's operations, and its own ways to pass arguments.
ATEN: dict[str, Callable[..., Any]] = renamed("aten", {
    "map": _identity, "reduce": _reduced, "place": _reduced,
    "scan": lambda operation: lambda x, dim: operation(x, axis=dim) if x.ndim else x,
}) | {
    "add": lambda x, y, alpha=1: np.add(x, y if alpha == 1 else np.multiply(y, alpha)),
    "sub": lambda x, y, alpha=1: np.subtract(x, y if alpha == 1 else np.multiply(y, alpha)),
    "div": _divide,
    "round": lambda x, decimals=0: np.rint(x) if not decimals else np.rint(x * 10**decimals) / 10**decimals,
    "relu": lambda x: np.maximum(x, 0), "fill": lambda x, v: np.zeros_like(x) + v,
    **dict.fromkeys(("clamp", "clamp_min"), lambda x, min=None, max=None: np.clip(x, min, max)),  # noqa: A006
    "clamp_max": lambda x, high: np.clip(x, None, high),
    "where": _where, "masked_fill": lambda x, mask, v: _where(mask, v, x),
    "var": _variance, "var_mean": lambda x, *a, **k: (
        _variance(x, *a, **k), np.mean(x, axis=_axes(a[0] if a else None), keepdims=k.get("keepdim", False))),
    "_softmax": _softmax, "_log_softmax": _log_softmax,
    "max": _extremum_along("max", "argmax"), "min": _extremum_along("min", "argmin"),
    "cummax": _cumulative_extremum("cummax"), "cummin": _cumulative_extremum("cummin"),
    "sort": _sort, "topk": _topk, "argsort": lambda *a, **k: _sort(*a, **k)[1],
    "searchsorted": _searchsorted,
    **dict.fromkeys(("index_put", "_unsafe_index_put", "_index_put_impl"), _index_put),
    "scatter_add": lambda x, dim, index, src: _scatter_reduce(x, dim, index, src, "sum"),
    "scatter_reduce": _scatter_reduce, "index_reduce": _index_reduce,
    "linalg_solve_triangular": lambda a, b, upper, left=True, unitriangular=False: _op("solve_triangular")(
        a, b, lower=not upper, left=left, unit=unitriangular),
    "linalg_cholesky_ex": _cholesky,
    "cholesky": lambda a, upper=False: _cholesky(a, upper)[0],
    # What these give beside their result has a formula of its own (see `FACTORED`).
    "_linalg_solve_ex": lambda a, b, left=True, _checks=False: (_solve(a, b, left), None, None, _info(a)),
    "_linalg_det": lambda a: (_op("determinant")(a), None, None),
    "_linalg_slogdet": lambda a: (
        np.sign(_op("determinant")(a)), np.log(abs(_op("determinant")(a))), None, None),
    "linalg_lu_factor_ex": lambda a, _pivot=True, _check_errors=False: (*_op("lu")(a), _info(a)),
    "linalg_lu": lambda a, _pivot=True: _unpacked(*_op("lu")(a)),
    "lu_unpack": _unpacked, "linalg_lu_solve": _lu_solve,
    "linalg_inv_ex": lambda a, _check_errors=False: (_op("inverse")(a), _info(a)),
    **dict.fromkeys(("copy", "copy_"), lambda _x, y, *_: y),
    **dict.fromkeys((*COPIES, "_to_copy"), _identity),
    "full_like": np.full_like, "ones_like": np.ones_like,
    **dict.fromkeys(("zeros_like", "empty_like"), np.zeros_like),
    **dict.fromkeys(("new_zeros", "new_empty", "new_empty_strided"), _new(0)), "new_ones": _new(1),
    "_new_zeros_with_same_feature_meta": lambda x, other, self_num_batch_dims=0: (
        _new(0)(x, (*x.shape[:self_num_batch_dims], *other.shape))),
    "new_full": lambda x, size, value: x.arithmetic.array(np.full(size, value)),
}  # fmt: skip

# Elementwise operations that turn integers into floats.
ON_NUMBERS = frozenset(str.split("div pow exp log sqrt mean sigmoid"))
