"""Plain NumPy code on traced values: NumPy's own values, and derivatives by extended precision.

The derivative is compared with a central difference of NumPy's function in longdouble: step 2^-20,
so that its error is 2^-40 |f'''| / 6 + 2^-63 |f| / 2^-20 < 4e-12 for functions of size 1 here.
"""

import operator

import numpy as np
import pytest
import scipy.special

from ffverify import reference
from ffverify.reference import (
    compile,  # noqa: A004  # the engine's name
    grad,
    hvp,
    jvp,
    trace,
    value_and_grad,
    vjp,
)
from tests.reference.primitive_rows import UNDIFFERENTIATED

rng = np.random.default_rng(0)
M = rng.uniform(0.2, 0.9, (3, 4))
V = rng.uniform(0.2, 0.9, 4)
S = rng.uniform(0.2, 0.9, (4, 4)) + 2 * np.eye(4)
PLACES = np.array([[2, 0], [1, 1]])
MASK = np.array([True, False, True])
PLACED = np.array([[True], [True], [False]])

STEP = 2.0**-16
# Of the fourth-order difference below: each of the elements rounds by 2^-64, the weights (8 + 8 + 1 + 1) / 12
# make 1.5 of that, and it is divided by the step; truncation is h⁴/30 of the fifth derivative, at most
# 120/0.2⁶ (of 1/x): less than 2^-48 once more. The derivative itself rounds twice an element.
ERROR = M.size * (1.5 * 2.0**-48 + 2 * 2.0**-53) + 2.0**-48


def difference(f, direction):
    wide, v = M.astype(np.longdouble), direction.astype(np.longdouble) * STEP
    near, far = f(wide + v) - f(wide - v), f(wide + 2 * v) - f(wide - 2 * v)
    return np.asarray((8 * near - far) / (12 * STEP), float)


trapezoid = getattr(np, "trapezoid", None) or getattr(np, "trapz")  # noqa: B009  # NumPy 1's name


def copied(x):
    y = x * 2
    np.copyto(y, x * x, where=M > 0.5)
    return y


def filled(x):
    y = x * 2
    np.fill_diagonal(y, x[0, 1])
    return y


def put_along(x):
    y = x * 2
    np.put_along_axis(y, np.array([[1], [0], [3]]), x[:, :1] ** 2, 1)
    return y


def sorted_in_place(x):
    y = x * 2
    y.sort(axis=0)
    y[0].fill(x[1, 1])
    return y


def wider(x):
    """float64, or longdouble where differences are taken."""
    return np.result_type(x, np.float64)


def written_out(x):
    y = np.empty_like(x)
    np.cumsum(x, axis=1, out=y)
    np.multiply(y, 2, out=y)
    np.exp(y, out=y, where=M > 0.5)
    x.sum(axis=0, out=y[0])
    return y


def in_its_own_layout(x):
    y = np.full_like(x.T, 2.0)
    y += x.reshape(4, 3)
    z = np.zeros_like(x.T)
    np.multiply(y, x.reshape(4, 3), out=z)
    return (y.ravel("K") + z.ravel("A")) * np.arange(12.0)


def clipped_by_a_number(x):
    return compile(lambda x, u: np.clip(x, -1, u))(x, 0.7)


def put(x):
    y = x * 2
    y.put([0, -1, 5], x[0, :2] ** 2)
    np.putmask(y, M > 0.5, x[1])
    return y


def added_at(x):
    y = x * 2
    np.add.at(y, [0, 2, 0], x**2)
    np.subtract.at(y, (1, [1, 1, 0]), x[0, :3])
    return y


def partitioned_in_place(x):
    y = x * 2
    y.partition(1, axis=0)
    return y


CALLS = {
    "sum": lambda x: np.sum(x, axis=0),
    "sum method": lambda x: x.sum(axis=(0, 1), keepdims=True),
    "sum by reduce": np.add.reduce,
    "mean": lambda x: np.mean(x, axis=-1, keepdims=True),
    "prod": lambda x: np.prod(x, axis=0),
    "prod of all": np.prod,
    "prod by reduce": lambda x: np.multiply.reduce(x, axis=1),
    "max": lambda x: np.max(x, axis=1),
    "min": lambda x: x.min(),
    "maximum.reduce": np.maximum.reduce,
    "var": lambda x: np.var(x, axis=0, ddof=1),
    "std": lambda x: np.std(x, axis=1),
    "norm": np.linalg.norm,
    "norm 1": lambda x: np.linalg.norm(x, 1, axis=0),
    "norm inf": lambda x: np.linalg.norm(x, np.inf, axis=1),
    "average": lambda x: np.average(x, axis=0, weights=np.arange(1.0, 4.0)[:, None] + 0 * x),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumsum of all": np.cumsum,
    "cumprod": lambda x: np.cumprod(x, axis=1),
    "cumprod of all": np.cumprod,
    "diff": lambda x: np.diff(x, 2, axis=1),
    "dot": lambda x: np.dot(x, V),
    "vdot": lambda x: np.vdot(x, M),
    "inner": lambda x: np.inner(x, M),
    "outer": lambda x: np.outer(x, V),
    "tensordot": lambda x: np.tensordot(x, S, axes=1),
    "tensordot axes": lambda x: np.tensordot(x, M, axes=([0, 1], [0, 1])),
    "matmul operator": lambda x: x @ S,
    "matmul of vectors": lambda x: x[0] @ V + V @ x[1],
    "matmul vector matrix": lambda x: V @ np.swapaxes(x, 0, 1),
    "matmul batch": lambda x: np.stack([x, x * 2]) @ S,
    "einsum": lambda x: np.einsum("ij,jk->ik", x, S),
    "einsum implicit": lambda x: np.einsum("ij,kj", x, M),
    "einsum sum out": lambda x: np.einsum("ij->j", x),
    "einsum ellipsis": lambda x: np.einsum("...j,j->...", x, V),
    "einsum diagonal": lambda x: np.einsum("ii->i", x[:, :3]),
    "einsum trace": lambda x: np.einsum("ii", x[:, :3]),
    "diagonal": lambda x: np.diagonal(x, 1),
    "trace": np.trace,
    "tril": np.tril,
    "triu": lambda x: np.triu(x, 1),
    "diag": lambda x: np.diag(x[0], 1),
    "diag of matrix": np.diag,
    "where": lambda x: np.where(x > 0.5, x, x * x),
    "sort": lambda x: np.sort(x, axis=1),
    "clip": lambda x: np.clip(x, 0.3, 0.7),
    "clip by arrays": lambda x: np.clip(x, V / 2, None),
    "reshape": lambda x: np.reshape(x, (2, -1)),
    "reshape method": lambda x: x.reshape(6, 2),
    "ravel": np.ravel,
    "flatten": lambda x: x.flatten(),
    "transpose": np.transpose,
    "T": lambda x: x.T,
    "transpose method": lambda x: x.transpose(1, 0),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "moveaxis": lambda x: np.moveaxis(x[None], 0, -1),
    "expand_dims": lambda x: np.expand_dims(x, (0, 2)),
    "squeeze": lambda x: np.squeeze(x[None]),
    "atleast_1d": lambda x: np.atleast_1d(x[0, 0]),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "flip": lambda x: np.flip(x, 1),
    "roll": lambda x: np.roll(x, 1, axis=1),
    "roll all": lambda x: np.roll(x, 2),
    "repeat": lambda x: np.repeat(x, 2, axis=0),
    "tile": lambda x: np.tile(x, (2, 1)),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1) * M[:, 1:, None],
    "windows of both axes": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)),
    "vander": lambda x: np.vander(x[0] - x[0, 1]),
    "vander of some powers": lambda x: (
        np.vander(x[0], 2) + np.vander(x[0], 2, increasing=True) * V[:2]
    ),
    "vander of few": lambda x: np.concatenate([np.vander(x[0], n) for n in (0, 1, 5)], axis=1),
    "concatenate": lambda x: np.concatenate([x, M, x], axis=1),
    "concatenate flat": lambda x: np.concatenate([x, M], axis=None),
    "stack": lambda x: np.stack([x, M], axis=1),
    "vstack": lambda x: np.vstack([x[0], M]),
    "hstack": lambda x: np.hstack([x, M]),
    "column_stack": lambda x: np.column_stack([x[:, 0], x]),
    "append": lambda x: np.append(x, M, axis=0),
    "split": lambda x: np.split(x, 2, axis=1)[1],
    "split at": lambda x: np.split(x, [1], axis=0)[1],
    "array_split": lambda x: np.array_split(x, 3, axis=1)[0],
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2))),
    "pad by value": lambda x: np.pad(x, 1, constant_values=3.0),
    "take": lambda x: np.take(x, PLACES, axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[1], [0], [3]]), axis=1),
    "slices": lambda x: x[1:, ::-2],
    "integers": lambda x: x[1, -1],
    "integer arrays": lambda x: x[PLACES, 1],
    "repeated places": lambda x: x[[0, 0, 2]],
    "mask": lambda x: x[MASK],
    "newaxis": lambda x: x[:, None, ..., 0],
    "iteration": lambda x: sum(row * i for i, row in enumerate(x)),
    "float_power": lambda x: np.float_power(x, 1.5),
    "power of arrays": lambda x: x**M,
    "power of a number": lambda x: 2.0**x,
    "modulo": lambda x: x % 0.35,
    "deg2rad": np.deg2rad,
    "angle": lambda x: x * np.angle(x - 0.5),
    "angle in degrees": lambda x: x * np.angle(x - 0.5, deg=True),
    "fabs": np.fabs,
    "logaddexp": lambda x: np.logaddexp(x, V),
    "logsumexp of all": lambda x: reference.logsumexp(x, None),
    "logsumexp of two axes": lambda x: reference.logsumexp(x[None], (0, 2), keepdims=True),
    "hypot": lambda x: np.hypot(x, 1.0),
    "copysign": lambda x: np.copysign(x, -V),
    "zeros_like": lambda x: np.zeros_like(x) + x,
    "full_like": lambda x: np.full_like(x, 2.0) * x,
    "divmod by floor": lambda x: x * (x // 0.3),
    "divmod": lambda x: np.divmod(x, 0.3)[1],
    "modf": lambda x: np.modf(3 * x)[0],
    "fmod": lambda x: np.fmod(-x, 0.35),
    "heaviside": lambda x: np.heaviside(x - 0.5, 0.5) * x,
    "logaddexp2": lambda x: np.logaddexp2(x, V),
    "add.outer": lambda x: np.add.outer(x[0], x[1]) ** 2,
    "add.accumulate": lambda x: np.add.accumulate(x, axis=1),
    "multiply.accumulate": np.multiply.accumulate,
    "sum where": lambda x: np.sum(x, axis=1, where=M > 0.5),
    "sum initial": lambda x: np.sum(x, axis=0, initial=2.0),
    "max initial": lambda x: np.max(x, axis=0, initial=0.6),
    "max where": lambda x: np.max(x, axis=0, where=M > 0.3, initial=0.1),
    "prod where": lambda x: np.prod(x, axis=0, where=M > 0.3),
    "sum where and initial": lambda x: np.sum(x, axis=1, where=M > 0.5, initial=2.0),
    "prod where and initial": lambda x: x.prod(initial=3.0, where=M > 0.5),
    "mean where": lambda x: np.mean(x, axis=1, where=M > 0.3, keepdims=True),
    "logical reduce": lambda x: x * np.logical_and.reduce(x > 0.3, axis=1, keepdims=True),
    "logical reduce or": lambda x: x * np.logical_or.reduce(x > 0.5, axis=1, keepdims=True),
    "ptp": lambda x: np.ptp(x, axis=1),
    "average of rows": lambda x: np.average(x, axis=0, weights=np.array([1.0, 2.0, 5.0])),
    "average of two axes": lambda x: np.average(x[None], axis=(2, 1), weights=M.T),
    "average returned": lambda x: np.average(x, axis=1, weights=x * x, returned=True)[1],
    "median": lambda x: np.median(x, axis=1),
    "median of odd": lambda x: np.median(x, axis=0, keepdims=True),
    "quantile": lambda x: np.quantile(x, [0.1, 0.5], axis=1),
    "percentile": lambda x: np.percentile(x, 33),
    "partition": lambda x: np.partition(x, 1, axis=0),
    "sort flat": lambda x: np.sort(x, axis=None),
    "trapezoid": lambda x: trapezoid(x, axis=0, dx=0.5),
    "trapezoid over points": lambda x: trapezoid(x, x.cumsum(axis=1), axis=1),
    "gradient": lambda x: np.gradient(x, axis=1),
    "gradient of both": lambda x: np.stack(np.gradient(x, 0.5, np.array([0.0, 1.0, 3.0, 4.0]))),
    "diff with ends": lambda x: np.diff(x, prepend=0.5, append=x[:, :1]),
    "ediff1d": np.ediff1d,
    "nan_to_num": lambda x: np.nan_to_num(np.where(M > 0.5, np.nan, x), nan=0.5),
    "nansum": lambda x: np.nansum(np.where(M > 0.5, np.nan, x), axis=0),
    "nanprod": lambda x: np.nanprod(np.where(M > 0.5, np.nan, x), axis=0),
    "nanmean": lambda x: np.nanmean(np.where(M > 0.8, np.nan, x), axis=0),
    "nanmax": lambda x: np.nanmax(np.where(M > 0.8, np.nan, x), axis=0),
    "nanmin": lambda x: np.nanmin(np.where(M > 0.8, np.nan, x), axis=0),
    "nanvar": lambda x: np.nanvar(np.where(M > 0.8, np.nan, x), axis=1, ddof=1),
    "nanstd": lambda x: np.nanstd(np.where(M > 0.8, np.nan, x), axis=1),
    "cov": lambda x: np.cov(x, ddof=0),
    "corrcoef": lambda x: np.corrcoef(x, rowvar=False)[0, 2:],
    "polyval": lambda x: np.polyval(x[0], x[1]),
    "linspace": lambda x: np.linspace(x[0], 2.0, 5),
    "select": lambda x: np.select([M > 0.7, M > 0.4], [x, x * x], x**3),
    "apply_along_axis": lambda x: np.apply_along_axis(lambda r: r[:2] * r[2], 1, x),
    "sinc": lambda x: np.sinc(x * 3),
    "round": lambda x: x * np.round(x, 1),
    "around": lambda x: x * np.around(x * 4) + np.fix(x * 5),
    "kron": lambda x: np.kron(x, V),
    "kron of matrices": lambda x: np.kron(x[:2], x[:, :2]),
    "cross": lambda x: np.cross(x[:, :3], M[:, 1:]),
    "cross along": lambda x: np.cross(x, M, axis=0),
    "convolve": lambda x: np.convolve(x[0], x[1, :3]),
    "convolve same": lambda x: np.convolve(x[0, :2], x[1], "same"),
    "convolve valid": lambda x: np.convolve(x[0], V[:3], "valid"),
    "correlate": lambda x: np.correlate(x[0], x[1, :2]),
    "correlate full": lambda x: np.correlate(x[1, :2], x[0], "full"),
    "flipud": np.flipud,
    "fliplr": np.fliplr,
    "rot90": np.rot90,
    "rot90 twice": lambda x: np.rot90(x, -2) + np.rot90(x, 4),
    "rot90 backwards": lambda x: np.rot90(x[None], 3, axes=(2, 1)),
    "rollaxis": lambda x: np.rollaxis(x[None], 2),
    "roll of axes": lambda x: np.roll(x, (1, 2), (0, 1)),
    "fftshift": np.fft.fftshift,
    "ifftshift of an axis": lambda x: np.fft.ifftshift(x, axes=1),
    "fft power": lambda x: np.abs(np.fft.fft(x, norm="forward")) ** 2,
    "fft phase": lambda x: np.angle(np.fft.rfft(x)[:, 1]),
    "fft filter": lambda x: np.fft.ifft(np.exp(1j * M) * np.fft.fft(x) / (2 + 1j)).imag,
    "fft of Wiener": lambda x: np.fft.irfft(np.fft.rfft(x) / (np.fft.rfft(x[::-1]) + 9.0)),
    "fft of exp": lambda x: np.imag(np.exp(np.fft.ifft(x, axis=0))),
    "fft norm": lambda x: np.linalg.norm(np.fft.fft(x, norm="forward"), axis=1),
    "fft cube": lambda x: np.real(np.fft.fftshift(np.fft.fft(x, norm="forward")).conj() ** 3),
    "fft fft2": lambda x: np.fft.fft2(x, s=(2, 5), norm="ortho").imag,
    "fft fftn": lambda x: (1 - np.fft.ifftn(np.fft.ifft(x))).mean(axis=0).real,
    "fft rfftn": lambda x: np.fft.irfftn(np.fft.rfftn(x)[:, :2] - x[:, :2], (3, 5), (0, 1)),
    "fft hfft": lambda x: np.fft.hfft(np.fft.ihfft(x) * 1j, 5, norm="forward"),
    "fft matmul": lambda x: (np.fft.ifft(x) @ np.fft.ifft(x.T).reshape(4, 3)).T.sum(axis=1).imag,
    "fft stack": lambda x: np.hstack([np.fft.ifft(x), x, -np.fft.ifft(x) / (x + 1j)]).imag,
    "repeats": lambda x: np.repeat(x, [1, 0, 2], axis=0),
    "tile of integers": lambda x: np.tile(x, (np.int64(2), 1, 2)),
    "tile of nothing": lambda x: np.concatenate([np.tile(x, 0).ravel(), x[0]]),
    "delete": lambda x: np.delete(x, 1, axis=1),
    "insert": lambda x: np.insert(x, 1, x[:, 0], axis=1),
    "resize": lambda x: np.resize(x, (2, 9)),
    "compress": lambda x: np.compress([True, False, True], x, axis=0),
    "extract": lambda x: np.extract(M > 0.5, x),
    "atleast": lambda x: np.atleast_3d(x)[..., 0] + np.atleast_2d(x),
    "broadcast_arrays": lambda x: np.broadcast_arrays(x, x[None])[0],
    "meshgrid": lambda x: np.meshgrid(x[0], x[1])[1],
    "meshgrid of three": lambda x: sum(np.meshgrid(x[0], x[1], V[:2], indexing="ij")),
    "meshgrid sparse": lambda x: np.multiply(*np.meshgrid(x, x[1], sparse=True)),
    "dstack": lambda x: np.dstack([x, M]),
    "block": lambda x: np.block([[x, x[:, :1]], [M, np.zeros((3, 1))]]),
    "hstack of numbers": lambda x: np.hstack([x[0], x[1, 1], 0.5]),
    "vstack of rows": lambda x: np.vstack([x, x[0] * 2, V]),
    "vstack of an array": np.vstack,
    "vsplit": lambda x: np.vsplit(x, 3)[1],
    "hsplit": lambda x: np.hsplit(x, 2)[1],
    "dsplit": lambda x: np.dsplit(x[None], [1])[1],
    "diagflat": np.diagflat,
    "pad edge": lambda x: np.pad(x, ((1, 0), (0, 2)), mode="edge"),
    "pad reflect": lambda x: np.pad(x, 1, mode="reflect"),
    "pad by values": lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=((1, 2), (3, 4))),
    "take wrap": lambda x: np.take(x, [5, -3], axis=0, mode="wrap"),
    "take repeats": lambda x: np.take(x, (0, 0), axis=1),
    "tuple index": lambda x: x[(0, 0), :],
    "empty index": lambda x: np.concatenate([x[[]], x]),
    "take_along broadcast": lambda x: np.take_along_axis(x, np.array([[1, 0]]), axis=1),
    "take_along flat": lambda x: np.take_along_axis(x, np.array([1, 1, 5]), axis=None),
    "copyto": copied,
    "fill_diagonal": filled,
    "put_along_axis": put_along,
    "reshape in columns": lambda x: np.reshape(x, (4, 3), order="F") * np.arange(3.0),
    "reshape by its method": lambda x: x.reshape(4, 3, order="F") * np.arange(3.0),
    "flatten in columns": lambda x: x.flatten("F") * np.arange(12.0),
    "matrix_transpose": np.matrix_transpose,
    "astype without a copy": lambda x: x.astype(x.dtype, copy=False),
    "contains": lambda x: x * (0.5 in x) + x * (x[0, 0] in x),
    "einsum transpose": lambda x: np.einsum("ij->ji", x),
    "ravel in columns": lambda x: x.ravel(order="F") * np.arange(12.0),
    "clip by keyword": lambda x: x.clip(min=0.3) if NUMPY_2 else x.clip(0.3, None),
    "trace method": lambda x: x.trace(),
    "einsum by lists": lambda x: np.einsum(x, [0, 1], S, [1, 2], [0, 2]),
    "einsum of length 1": lambda x: np.einsum("ij,jk->ik", x[:, :1], x[:1]),
    "einsum over length 1": lambda x: np.einsum("ij,kj->ik", x[:, :1], x),
    "tensordot of numbers": lambda x: np.tensordot(x[0, 0], x, 0),
    "norm 3": lambda x: np.linalg.norm(x, 3, axis=1),
    "norm -inf": lambda x: np.linalg.norm(x, -np.inf, axis=1),
    "norm of columns": lambda x: np.linalg.norm(x, 1),
    "norm of rows": lambda x: np.linalg.norm(x, np.inf, axis=(1, 0)),
    "multi_dot": lambda x: np.linalg.multi_dot([x, S, x.T]),
    "matrix_power": lambda x: np.linalg.matrix_power(x[:, :3], 3),
    "real": lambda x: np.real(x) * np.isreal(x) + np.imag(x),
    "positions": lambda x: x[np.nonzero(x > 0.5)] * np.count_nonzero(x > 0.5),
    "searchsorted": lambda x: x * np.searchsorted(np.array([0.3, 0.6]), x),
    "copy": lambda x: np.copy(x) * x,
    "gradient by a step": lambda x: np.gradient(x, x[0, 0], axis=1),
    "a list times a matrix": lambda x: [1.0, 2.0, 3.0] @ x,
    "a matrix times a list": lambda x: x @ [1.0, 2.0, 3.0, 4.0],
    "matmul with a list": lambda x: np.matmul([[1.0, 2.0, 3.0]], x),
    "to the power of a list": lambda x: x ** [1.0, 2.0, 3.0, -1.0],
    "dot with a list": lambda x: np.dot(x, [1.0, 2.0, 3.0, 4.0]) + np.dot([3.0, 1.0, 2.0], x)[:3],
    "inner with a list": lambda x: np.inner([1.0, 2.0, 3.0, 4.0], x),
    "cross with a list": lambda x: np.cross([1.0, 2.0, 3.0], x[:, :3]),
    "convolve with a list": lambda x: np.convolve([1.0, 2.0], x[0], "same"),
    "correlate with a list": lambda x: np.correlate(x[0], [1.0, 2.0]),
    "tensordot with a list": lambda x: np.tensordot([1.0, 2.0, 3.0], x, 1),
    "multi_dot with a list": lambda x: np.linalg.multi_dot([[1.0, 2.0, 3.0], x, x[0]]),
    "polyval with a list": lambda x: np.polyval([1.0, 2.0, 3.0], x) + np.polyval(x[0], [2.0])[0],
    "round by its method": lambda x: x.round(1) * x + round(x[0, 0], 1),
    "nonzero by its method": lambda x: x[x.nonzero()] * x[0].searchsorted(0.5),
    "sort by its method": sorted_in_place,
    "trapezoid of a list": lambda x: trapezoid([1.0, 4.0, 2.0, 3.0], x[0]),
    "var where": lambda x: np.var(x, axis=1, where=M > 0.3, ddof=1),
    "var where traced": lambda x: np.var(x, axis=1, where=x > 0.3, keepdims=True),
    "std where": lambda x: x.std(axis=0, where=M > 0.3),
    "std of all where": lambda x: np.std(x, where=M > 0.3),
    "var about a mean": lambda x: np.var(x, axis=0, mean=x.mean(axis=0, keepdims=True)),
    "std about a mean": lambda x: np.std(x, axis=1, mean=np.full((3, 1), 0.5), where=M > 0.3),
    "var with a correction": lambda x: np.var(x, axis=0, correction=1),
    "std in a dtype": lambda x: np.std(x, 0, wider(x), None, 1),
    "mean where traced": lambda x: np.mean(x, axis=1, where=x > 0.3, keepdims=True),
    "all where": lambda x: x * np.all(x > 0.3, axis=1, where=M > 0.3, keepdims=True),
    "any where": lambda x: x * np.any(x > 0.8, 1, None, True, where=M > 0.3),
    "cumsum in a dtype": lambda x: np.cumsum(x, 1, wider(x)),
    "cumprod in a dtype": lambda x: x.cumprod(dtype=wider(x)),
    "add.accumulate in a dtype": lambda x: np.add.accumulate(x, 1, wider(x)),
    "nansum in a dtype": lambda x: np.nansum(np.where(M > 0.5, np.nan, x), 0, wider(x)),
    "nanmax initial": lambda x: np.nanmax(x, axis=0, initial=0.6),
    "nanvar with a correction": lambda x: np.nanvar(x, axis=1, correction=1),
    "exp written out": written_out,
    "put": put,
    "in its own layout": in_its_own_layout,
    "clip by a traced number": clipped_by_a_number,
    "partition by its method": partitioned_in_place,
    "argpartition": lambda x: x[0, np.argpartition(x[0], 1)[0]] + x[0][x[0].argpartition(-1)[-1]],
    "ediff1d with ends": lambda x: np.ediff1d(x, [9, 8.0], x[0]),
    "linspace in a dtype": lambda x: np.linspace(x, 3, 4, dtype=wider(x)),
    "searchsorted by a sorter": lambda x: x * np.searchsorted([0.6, 0.3], x, sorter=[1, 0]),
    "fmax of a large integer": lambda x: np.fmax(x, -(2**70)) * np.fmin(2**70, x),
    "compress by its method": lambda x: x.compress([True, False, True], axis=0),
    "copy in rows": lambda x: x.T.copy().ravel("A") * np.arange(12.0),
    "copy in columns": lambda x: x.copy("F").ravel("K") * np.arange(12.0),
    "ravel in memory's order": lambda x: (
        x.reshape(2, 2, 3).transpose(1, 0, 2).ravel("K") * np.arange(12.0)
    ),
    "hstack in a dtype": lambda x: np.hstack([x, M], dtype=wider(x)),
    "concatenate in a dtype": lambda x: np.concatenate([x, M], dtype=wider(x)),
    "clip by NumPy's number": lambda x: np.clip(x, 0.3, np.float64(0.7)),
    "dot with a number": lambda x: np.dot(x, 2.0) + np.inner(3, x),
    "insert numbers": lambda x: np.insert(x, 1, 2.5, axis=0),
    "by NumPy's names": lambda x: (
        np.split(ary=x, indices_or_sections=3)[0] + np.repeat(a=x, repeats=2).reshape(6, 4)
    ),
    "exclusive or": lambda x: np.where((x > 0.3) ^ (x < 0.6), x, x * x),
    "cast in columns": lambda x: x.astype(wider(x), "F").ravel("K") * np.arange(12.0),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x, axis=1) * np.arange(4.0),
    "minimum.accumulate": lambda x: np.minimum.accumulate(x[::-1]) * np.arange(4.0),
    "array of elements": lambda x: (
        np.array([[x[0, 0], 2.0], [x[1, 1], x[0, 1]]], like=x) * np.asarray([x[0, 0], 1], like=x)
    ),
    "diff from an element": lambda x: np.diff(x[0], prepend=x[1, 1], append=[1.0]),
    "namespace": lambda x: x.__array_namespace__().sum(x * (x.nbytes // x.itemsize)),
    "norm 0": lambda x: np.linalg.norm(x - x[0, 0], 0, axis=1) * x[:, 0],
    "matrix_power 0": lambda x: np.linalg.matrix_power(x[:, :3], 0) + x[:, :3],
    "vecdot": lambda x: np.vecdot(x, M.astype(x.dtype)),
    "eigh of none": lambda x: np.linalg.eigvalsh(np.stack([x[:, :3]] * 2)[:0].astype(float)),
    "strides": lambda x: np.ones_like(x.T) * x.T * len(x.strides),
    "at": added_at,
    "full_like an element": lambda x: np.full_like(x, x[0, 1] * x[1, 0]) + x,
    "mean nan where": lambda x: np.nanmean(x, axis=0, where=PLACED) * x[0],
    "nanvar where": lambda x: np.nanvar(np.where(M > 0.8, np.nan, x), axis=1, where=M > 0.25),
    "nanstd about a mean": lambda x: np.nanstd(x, axis=0, mean=x[:1] / 2),
    "median overwriting": lambda x: np.median(x * 1, axis=1, overwrite_input=True) * x[:, 0],
    "percentile overwriting": lambda x: (
        np.percentile(x * 1, 30.0, overwrite_input=True, weights=None) * x
    ),
    "quantile at places": lambda x: np.quantile(x, x[:, 0] / 2 + 0.1, axis=1),
}
if hasattr(np, "matvec"):  # from NumPy 2.2 on
    CALLS["matvec is matmul"] = lambda x: np.matvec(x[None, :2], x[1:])
    CALLS["vecmat is matmul"] = lambda x: np.vecmat(x[:, 0], x[None])
# What NumPy has in float64 alone.
IN_FLOAT64 = {
    "interp": lambda x: np.interp(x, [0.0, 0.4, 1.0], [1.0, 3.0, 2.0]),
    "gradient of a list by a step": lambda x: np.gradient([0.1, 0.4, 0.2], x[0, 0] + 1),
    "interp around a period": lambda x: np.interp(x * 9, x[0], x[1], period=-0.7),
    "interp of a period": lambda x: np.interp(x, [0.3, 0.1, 0.9], x[0, :3], left=9.0, period=2),
    "interp between infinities": lambda x: np.interp(x, [-np.inf, 0.4, np.inf], x[0, :3]),
    "interp values": lambda x: np.interp([0.1, 0.5, 7.0], [0.0, 0.4, 0.6, 1.0], x[0], right=9.0),
}
NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


@pytest.mark.parametrize("name", sorted(CALLS))
def test_values_and_derivatives(name):
    f = CALLS[name]
    direction = rng.uniform(-1, 1, M.shape)
    y, y_dot = jvp(f, (M,), (direction,))
    plain = f(M)
    assert np.shape(y) == np.shape(plain)
    # prod and einsum associate differently: at most as many roundings as there are elements (Higham §3.1);
    # a difference (of moments, of neighbours) rounds at the size of what it is taken of, at most 4 here.
    np.testing.assert_allclose(y, plain, rtol=2 * M.size * 2**-53, atol=8 * 2**-53)
    size = max(1.0, *(float(np.max(np.abs(a), initial=0)) for a in (plain, y_dot)))
    np.testing.assert_allclose(y_dot, difference(f, direction), rtol=0, atol=ERROR * size)
    y_bar = rng.uniform(-1, 1, np.shape(y))
    (x_bar,) = vjp(f, M)[1](y_bar)
    left, right = float(np.sum(x_bar * direction)), float(np.sum(y_bar * y_dot))
    assert abs(left - right) <= 1e-14 * 100 * size  # adjoint identity: sums of < 100 terms


BRANCHING = {"contains", "nonzero by its method", "positions"}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_gradients_are_compiled_to_the_same_bits(name):
    def weighted(x):
        y = CALLS[name](x)
        return np.sum(y * np.resize(np.sin(np.arange(97.0)), np.shape(y)))

    gradient = value_and_grad(weighted)
    if name in BRANCHING:
        with pytest.raises(TypeError, match="branches on the value"):
            compile(gradient)(M)
        return
    for found, expected in zip(compile(gradient)(M), gradient(M), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_formatted_value_is_the_plain_one():
    found = []
    grad(lambda x: found.append(f"{x[0]:.3f} {x}") or np.sum(x))(V)
    assert found == [f"{V[0]:.3f} Var({V!r})"]
    with pytest.raises(TypeError, match="branches on the value"):
        compile(lambda x: x * len(f"{x[0]:.3g}"))(V)


def test_counts_have_the_slopes_of_their_weights():
    f = lambda w: np.bincount([0, 2, 2, 0], w, minlength=4) * np.arange(1.0, 5.0)  # noqa: E731  # a formula
    np.testing.assert_array_equal(f(V), jvp(f, (V,), (V,))[0])
    np.testing.assert_array_equal(grad(lambda w: np.sum(f(w)))(V), [1.0, 3.0, 3.0, 1.0])
    by_name = grad(lambda w: np.sum(np.bincount([0, 1, 1, 0], weights=w)[:1]))(V)
    np.testing.assert_array_equal(by_name, [1.0, 0.0, 0.0, 1.0])
    counts, _ = jvp(lambda w: w * np.histogram(a=w, bins=4)[0], (V,), (V,))
    np.testing.assert_array_equal(counts, V * np.histogram(V, bins=4)[0])


def test_a_list_is_the_right_hand_side():
    A = S * 1.0
    f = lambda A: np.sum(np.linalg.solve(A, [1.0, 2.0, 3.0, 4.0]))  # noqa: E731  # a formula
    x, z = np.linalg.solve(A, [1.0, 2.0, 3.0, 4.0]), np.linalg.solve(A.T, np.ones(4))
    np.testing.assert_allclose(grad(f)(A), -np.outer(z, x), rtol=1e-12)


def test_interpolation():
    xs = np.array([-1.0, 0.1, 0.4, 0.7, 1.0, 2.0])
    slopes = grad(lambda x: np.sum(np.interp(x, [0.0, 0.4, 1.0], [1.0, 3.0, 2.0])))(xs)
    np.testing.assert_allclose(slopes, [0, 5, -5 / 3, -5 / 3, 0, 0], rtol=1e-15)
    at_knots = grad(lambda f: np.sum(np.interp(xs[:4], [0.0, 0.4, 1.0], f)))(
        np.array([1.0, 3.0, 2.0])
    )
    np.testing.assert_allclose(at_knots, [1.75, 1.75, 0.5], rtol=1e-15)
    # Of period 2, 2.2 is 0.2, four fifths of the way from 1 - 2 to 0.5.
    of_period = grad(lambda f: np.interp(2.2, [0.5, 1.0], f, period=2.0))(np.array([1.0, 4.0]))
    np.testing.assert_allclose(of_period, [0.8, 0.2], rtol=1e-14)
    with pytest.raises(TypeError, match="real and imaginary parts, one by one"):
        grad(lambda x: np.sum(np.interp(x, [0.0, 1.0], [1j, 2.0])))(xs)


def test_the_order_of_equal_elements_is_numpys():
    ties = np.random.default_rng(0).integers(0, 3, (40, 30)).astype(float)
    for x in (ties, ties.T, ties[:, ::-2], ties.astype(np.float32)):
        for how in ({}, {"kind": "stable"}, {"kind": "heapsort"}, {"axis": 0}):
            order = grad(lambda x, how=how: np.sum(x * np.argsort(x, **how)))(x)
            np.testing.assert_array_equal(order, np.argsort(x, **how))


def test_an_argument_that_may_be_overwritten_stays():
    x = rng.normal(size=7)
    kept = x.copy()
    for f in (np.median, lambda x, **how: np.quantile(x, 0.3, **how)):
        np.testing.assert_array_equal(
            grad(lambda x, f=f: f(x, overwrite_input=True))(x), grad(f)(x)
        )
        np.testing.assert_array_equal(x, kept)


EDGES = {
    "not numbers": np.array(
        [[np.nan, 0.5, -np.inf, 0.0], [np.inf, -0.0, 1.0, np.nan], [2.0, 2.0, -1.0, 1e300]]
    ),
    "zeros": np.array([[0.0, -0.0, 0.0, -0.0], [0.0, 0.0, 0.0, 0.0], [-0.0, -0.0, -0.0, -0.0]]),
    "ties": np.array([[1.0, 1.0, 2.0, 2.0], [2.0, 1.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]]),
    "float32": M.astype(np.float32),
    "float16": M.astype(np.float16),
    "columns": np.asfortranarray(M),
    "strided": np.repeat(M, 2, axis=1)[:, ::-2],
}
# What is NumPy's up to rounding alone, so that inf - inf may arise elsewhere: sums of other orders, and
# products that are moved through a matrix.
ROUNDED = frozenset(
    str.split("""
    prod average norm std einsum tensordot inner cov corrcoef gradient convolve correlate kron logsumexp
    trapezoid var linspace nanvar nanstd logaddexp median quantile percentile interp polyval cumprod
    multi_dot matrix_power vdot vecdot multiply.accumulate mean dot matmul trace initial fft at
""")
)
EXACTER = frozenset(["sinc"])  # than NumPy's, which rounds π to the narrow format
WITHOUT_SIGN = frozenset(["nanmax", "nanmin", "sort"])  # of zero, where 0 and -0 are equal elements


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("edge", sorted(EDGES))
@pytest.mark.parametrize("name", sorted(CALLS | IN_FLOAT64))
def test_values_are_numpys_at_every_edge(name, edge):
    """Shape, dtype and value under a trace, and what raises, are those of NumPy's own function."""
    x, f = EDGES[edge], (CALLS | IN_FLOAT64)[name]
    try:
        plain = f(x.copy("K"))
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        with pytest.raises(type(error)):
            jvp(f, (x,), (np.ones_like(x),))
        return
    y = jvp(f, (x,), (np.ones_like(x),))[0]
    assert np.shape(y) == np.shape(plain)
    assert np.asarray(y).dtype == np.asarray(plain).dtype
    assert isinstance(y, np.ndarray) == isinstance(
        plain, np.ndarray
    )  # of a number += makes another
    words = set(name.split())
    if words & EXACTER and x.dtype != np.float64:
        return
    if not ROUNDED & words:
        np.testing.assert_array_equal(y, plain)
        if words & WITHOUT_SIGN:
            return
        zeros = (np.asarray(plain) == 0) & ~np.isnan(plain)
        np.testing.assert_array_equal(np.signbit(y)[zeros], np.signbit(plain)[zeros])
    elif edge != "not numbers":
        u = float(np.finfo(x.dtype).eps)
        np.testing.assert_allclose(y, plain, rtol=2 * x.size * u, atol=8 * u)


def test_the_difference_rejects_a_wrong_derivative():
    direction = np.ones(M.shape)
    wrong = jvp(lambda x: np.sin(x) + 1e-12 * x, (M,), (direction,))[1]
    assert np.max(np.abs(wrong - difference(np.sin, direction))) > 2 * ERROR


def test_linear_algebra():
    b = rng.uniform(-1, 1, (4, 2))
    for f in (
        lambda s: np.linalg.solve(s, b),
        lambda s: np.linalg.solve(s, b[:, 0]),
        np.linalg.inv,
        lambda s: np.linalg.slogdet(s)[1],
        lambda s: np.linalg.cholesky(s @ s.T),
        lambda s: np.linalg.cholesky(s @ s.T, upper=True),
    ):
        y, y_dot = jvp(f, (S,), (np.eye(4)[::-1],))
        np.testing.assert_allclose(y, f(S), rtol=1e-13)
        h = 2.0**-17  # h² = 6e-11 and 2^-52 / h = 3e-11: the error of a float64 difference
        true = (f(S + h * np.eye(4)[::-1]) - f(S - h * np.eye(4)[::-1])) / (2 * h)
        np.testing.assert_allclose(y_dot, true, atol=1e-9)


def test_indices_decided_by_the_values():
    x = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(grad(lambda x: x[np.argmax(x)] ** 2)(x), [6, 0, 0])
    np.testing.assert_array_equal(grad(lambda x: np.sum(x[x > 1.5]))(x), [1, 0, 1])
    np.testing.assert_array_equal(grad(lambda x: x[x.argsort()][0] * 2)(x), [0, 2, 0])


def test_a_ufunc_computes_in_a_dtype_that_is_asked_for():
    x = np.array([0.1, -0.7])
    y, pulled = vjp(lambda x: np.multiply(x, x, dtype=np.float32), x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.multiply(x, x, dtype=np.float32))
    (g,) = pulled(np.ones(2, np.float32))
    assert g.dtype == np.float64
    np.testing.assert_array_equal(g, 2 * x.astype(np.float32))


def test_integer_casts_end_the_derivative():
    assert grad(lambda x: x * x.astype(int))(np.array(2.7)) == 2.0
    assert grad(lambda x: x * np.floor(x))(2.7) == 2.0
    with pytest.raises(TypeError, match="complex"):
        grad(lambda x: np.sum(x.astype(complex)))(V)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (np.unwrap, r"numpy.unwrap has no derivative rule here. What has one: diff, where\."),
        (np.frexp, r"What has one: floor, log2\."),
        (lambda x: np.linalg.lstsq(np.outer(x, x), x), "has rank 1"),
        (np.packbits, r"rule here\. Write"),  # nothing is near
        (lambda x: np.exp(x, out=np.zeros(4)), "out="),
        (lambda x: np.exp(x, where=np.ones(4, bool)), "where="),
        (
            lambda x: np.quantile(x, 0.5, method="lower"),
            r"quantile: method='lower', weights= have no rule",
        ),
        (lambda x: np.add(x, 1, dtype=np.int64), r"add: dtype= has no rule: cast with astype"),
        (lambda x: np.exp(x, dtype=np.float32, casting="safe"), "float32 is no cast of .*'safe'"),
        (lambda x: x.var(which=1), "numpy.var: an argument that is not supported .*'which'"),
        (lambda x: np.cumsum(x, out=np.zeros(4)), r"cumsum\(\.\.\., out=\) would write into"),
        (lambda x: np.hstack([x, x], dtype=int), "joining float64 as int64"),
        (
            lambda x: x.astype(np.float32, casting="safe"),
            "float64 to float32 is no cast of .*'safe'",
        ),
        (lambda x: np.mean(x, out=np.zeros(())), r"mean\(\.\.\., out=\)"),
        (np.subtract.accumulate, "subtract.accumulate"),
        (
            lambda x: operator.setitem(x * 1, 0, np.complex64(2j)),
            r"into an array .* write its \.real",
        ),
        (
            lambda x: operator.setitem(x * 1, ..., np.fft.fft(x)),
            r"into an array .* write its \.real",
        ),
        (np.asarray, "cannot become a plain array"),
        (lambda x: np.array([x, x]), "np.stack"),
        (lambda x: float(x[0]), "Python float"),
        (lambda x: int(x[0]), "Python int"),
        (lambda x: range(x[0]), "Python int"),
        (lambda x: x[0].item(), "Python number"),
        (lambda x: x.tolist(), "Python number"),
        (lambda x: round(x[0]), "Python int"),
        (lambda x: np.pad(x, 1, mode="mean"), "mode 'mean'"),
        (lambda x: np.quantile(x, 0.5, method="hazen"), "method='hazen'"),
        (lambda x: np.linalg.svd(np.outer(x, x[:2])), "full_matrices=False"),
        (lambda x: np.linalg.pinv(np.outer(x, x), rcond=0.1), "numpy.pinv: .*rcond"),
        (lambda x: np.linalg.eig(x.reshape(2, 2) - x.reshape(2, 2).T), "complex eigenvalues"),
        (lambda x: scipy.special.gammainc(x, 1.0), "no derivative in its first argument"),
        (lambda x: len(x[0]), "without axes"),
        (lambda x: np.histogram(V, 3, weights=x)[0], "np.bincount"),
        (lambda x: np.gradient(V, x), "np.diff"),
        (
            scipy.special.logsumexp,
            r"^scipy\.special\.logsumexp .* write .*scipy_functions\.logsumexp,",
        ),
        (scipy.special.softmax, r"^scipy\.special\.softmax .* write .*scipy_functions\.softmax,"),
        (
            lambda x: scipy.special.polygamma(1, x),
            r"^scipy\.special\.polygamma .* write .*scipy_functions\.polygamma,",
        ),
        (
            lambda x: scipy.special.comb(x, 2),
            r"^scipy.special.comb makes .*; namesakes in ffverify.reference.scipy_functions have .*sqrtm",
        ),
    ],
)
def test_what_is_not_supported_says_so(call, match):
    with pytest.raises(TypeError, match=match):
        grad(lambda x: np.sum(call(x)))(V)


def written(f):
    """What becomes of an array into which f writes."""

    def of(x):
        y = x * 2.0
        f(y, x)
        return y

    return of


REFUSED = [
    lambda x: np.einsum("ii", x), lambda x: np.tensordot(x, x.T, 2), lambda x: np.diff(x, -1),
    lambda x: np.inner(x[0, :0], np.zeros((0, 3))), lambda x: np.bincount([0, 1], weights=x[0, :1]),
    lambda x: np.convolve(x, x), lambda x: np.rot90(x[0], 2), lambda x: np.linalg.norm(x[0], "fro"),
    lambda x: np.linalg.norm(x, axis=()), lambda x: np.sum(x, axis=(0, 0)), lambda x: np.diag(x[0, 0]),
    lambda x: np.average(x, weights=V), lambda x: np.diagonal(x, 0, 1, 1),
    *(
        lambda x, f=f: f(x, axis=2)
        for f in (
            np.sum, np.max, np.prod, np.cumsum, np.cumprod, np.diff, np.flip, np.sort, trapezoid, np.gradient,
            np.median, np.var, np.argmax, np.linalg.norm, np.unstack, np.mean, np.all, np.squeeze,
        )
    ),
    *(
        lambda x, f=f: f(x, [0], axis=2)
        for f in (np.take, np.delete, np.repeat, np.array_split, np.split)
    ),
    lambda x: np.cross(x[:, :3], x[:, :3], axis=2), lambda x: np.trace(x, 0, 0, 2),
    lambda x: np.concatenate([x, x], axis=2), lambda x: np.stack([x, x], axis=3),
    lambda x: np.apply_along_axis(np.sum, 2, x), lambda x: np.average(x, 2, np.ones(2)),
    *(
        lambda x, f=f: f(x[0, 0], axis=0)
        for f in (
            np.mean, np.var, np.std, np.median, np.average, np.flip, np.sort, np.diff,
            lambda x, axis: np.quantile(x, 0.5, axis), np.add.accumulate,
        )
    ),
    lambda x: np.flipud(x[0, 0]), lambda x: np.vsplit(x[0], 2), lambda x: np.sum(x, [0]),
    lambda x: np.max(x, True),
    lambda x: np.add.accumulate(x, None), lambda x: np.gradient(x, np.arange(4.0)), lambda x: x.transpose(0),
    lambda x: np.gradient(x, edge_order=3), lambda x: np.sum(x[0, :1], where=[True, False]),
    lambda x: np.average(x[:, :0], axis=0), lambda x: np.quantile(x, 1.2), lambda x: np.percentile(x, [-1]),
    lambda x: np.searchsorted(x[0], 0.5, sorter=[0, 1]), lambda x: np.interp(0.5, [0.0, 1.0], x[0]),
    lambda x: np.interp(x, [0.0, 1.0], [1.0, 2.0, 3.0]), lambda x: np.cov(x, ddof=0.5),
    lambda x: np.sort(x, kind="foo"),
    lambda x: np.argsort(x, kind="foo"), lambda x: np.linspace(x, 1.0, -1),
    lambda x: np.linspace(x, 1.0, 2.5),
    lambda x: np.select([x], [x]), lambda x: x.reshape(-1, order="K"), lambda x: np.ravel(x, "Z"),
    lambda x: x.copy("Z"), lambda x: np.meshgrid(x[0], x[1], indexing="zz")[0],
    lambda x: np.broadcast_to(x[:1], (4,)), lambda x: np.take(x, 0, mode="foo"),
    lambda x: np.take(x, slice(1)),
    lambda x: np.tensordot(x, x, (2, 0)), lambda x: np.cross(x[:, :3], x[:, 1:], axisc=2),
    lambda x: np.linalg.cross(x[0, :3], x[0, :2]), lambda x: np.convolve(x[0], x[1], "foo"),
    lambda x: np.linalg.outer(x, x), lambda x: np.vecdot(x[0], x[1, :1]), lambda x: np.vecdot(x[0], x[1, 1]),
    lambda x: np.linalg.multi_dot([x]), lambda x: np.linalg.multi_dot([x[None], S, S]),
    lambda x: np.linalg.multi_dot([x, V, x]), lambda x: np.linalg.eigh(x[0])[0], np.linalg.eigvalsh,
    lambda x: np.linalg.eigvalsh(x[:, :3], "x"), lambda x: np.linalg.matrix_power(x, 1),
    lambda x: np.linalg.matrix_power(x[:, :3], 1.5), lambda x: np.linalg.norm(x[0, 0], 1),
    lambda x: np.fft.rfft(x, 2.5).real, lambda x: np.fft.rfft(x, norm="foo").real,
    lambda x: np.fft.rfftn(x[0, 0]).real,
    lambda x: np.copyto(x * 1, x, casting="foo"), lambda x: np.copyto(x * 1, np.ones(4, complex)),
    lambda x: np.put_along_axis(x * 1, np.array([0]), 2.0, 1), lambda x: np.pad(x[0, 0], -1),
    lambda x: np.clip(x, 0.5), lambda x: np.clip(x, a_max=0.5), lambda x: np.clip(x, 0, max=1),
    lambda x: np.clip(x, 0, 1, min=0), lambda x: x.clip(a_max=0.5),
    *(
        lambda x, f=f: f(x[:0], initial=None)
        for f in (np.sum, np.prod, np.max, np.add.reduce, np.multiply.reduce)
    ),
    lambda x: np.sum(x, initial=None, where=x > 0.5), lambda x: round(x, 1), round,
    lambda x: round(x[..., 0, 0], 1), lambda x: np.nanmean(x, dtype=int),
    lambda x: np.std(x, axis=0, dtype=int), lambda x: np.squeeze(x[0, 0], 1), lambda x: np.squeeze(x, 0),
    lambda x: x[0, 0] * [1, 2], lambda x: (1, 2) * x[0, 0], lambda x: np.sum(x, initial=[1.0]),
    lambda x: np.nanmax(x, initial=[1.0]), lambda x: np.std(x, where=np.ones(4, int)),
    lambda x: np.prod(x, keepdims=None), lambda x: np.all(x[:1], where=np.ones((3, 4), bool)) * 1.0,
    lambda x: np.nanmean(x, where=np.ones(4, int)), lambda x: np.nanvar(x, ddof=1, correction=1),
    lambda x: np.partition(x, 1, kind="quicksort"), lambda x: np.argpartition(x, 1, kind="heapsort") * 1.0,
    lambda x: np.add.accumulate(x, [0]), lambda x: np.take(x, [1, 0], axis=True),
    lambda x: np.nan_to_num(x, nan=None), lambda x: np.interp(x, [0, 1], [1, 2], left=[0.0]),
    lambda x: np.interp(x, [0, 1], [1, 2], period=0),
    lambda x: np.hstack([x, x.astype(np.float32)], casting="equiv"), lambda x: np.fft.hfft(x, axis=(-1,)),
    written(lambda y, _: operator.setitem(y, (0, 0), [2.0])),
    written(lambda y, x: operator.setitem(y, (0, 0), np.stack([x[0, 0], x[0, 1]])[:1])),
    written(lambda y, _: operator.setitem(y, 0, [[1.0, 2.0, 3.0, 4.0]])),
    written(lambda y, x: np.putmask(y, [True, False, True, False], x)),
    written(lambda y, x: np.copyto(y, x, where=np.ones(4, int))),
    written(lambda y, x: np.add.at(y, 0, x[:1, None])),
    written(lambda y, _: operator.setitem(y, 0, 2j)),
    written(lambda y, _: operator.setitem(y, [0, 1], [2j])),
    *(
        lambda x, f=f: operator.iadd(f(x), np.ones(3))
        for f in (
            lambda x: x[..., 0, 0], lambda x: np.copy(x[0, 0]), lambda x: np.array(x[0, 0], like=x),
            lambda x: operator.iadd(x[..., 0, 0], 1.0), lambda x: np.squeeze(x[:1, :1]),
        )
    ),
]  # fmt: skip
if hasattr(np, "matvec"):
    REFUSED += [lambda x: np.matvec(x[0], x[0]), lambda x: np.vecmat(x[0, 0], x)]


@pytest.mark.parametrize("k", range(len(REFUSED)))
def test_what_numpy_refuses_is_refused(k):
    """No number where NumPy gives none: axes that do not exist, lengths that do not match."""
    for g in (REFUSED[k], grad(lambda x: np.sum(REFUSED[k](x)))):
        with pytest.raises((ValueError, IndexError, TypeError, ZeroDivisionError)):
            g(M)


# Empty arrays, numbers, lists, other spellings: of whole arrays and of what they are cut down to.
SERVED = [
    lambda x: np.resize(x[:0], (2, 2)), lambda x: np.pad(x[0, 0], 1),
    lambda x: np.pad(x[0, 0], 1, mode="edge"),
    *(lambda x, o=o: np.linalg.norm(x[:0, :0], o) for o in (None, 1, 2, np.inf, "fro", "nuc")),
    *(lambda x, o=o: np.linalg.norm(x[0, :0], o) for o in (1, 2, 3, np.inf, -1)),
    lambda x: np.linalg.norm(x[0] / 0.0, -1), lambda x: np.quantile(x, [], axis=0),
    lambda x: np.quantile(x, [0, 1], axis=1, keepdims=True),
    lambda x: np.percentile(x, np.array([[20.0], [30.0]]), 0),
    lambda x: np.median(x, axis=[0, 1]), lambda x: np.average(x, axis=[1]), lambda x: np.flip(x, [0]),
    lambda x: np.cov(x[:1], rowvar=False, ddof=0), lambda x: np.cov(x[:0]),
    lambda x: np.cov(x[0], x[1:], ddof=1),
    lambda x: np.linspace(x, [1.0, 2.0, 3.0, 4.0], 3), lambda x: np.linspace(x, 1.0, 0, retstep=True)[1],
    lambda x: np.interp([0.1, 0.5], [0.4], x[0, :1]), lambda x: np.interp(0.1, x[0, :1], [2.0]),
    lambda x: np.clip(x, [0.3, 0.4, 0.5, 0.6], 0.7),
    lambda x: np.broadcast_arrays(x, [1.0, 2.0, 3.0, 4.0])[1],
    lambda x: np.take(x[0, 0], [0, 0], axis=0), lambda x: np.add.accumulate(x, (0,)),
    lambda x: np.diff(x, 0, axis=5),
    *(
        lambda x, f=f, dtype=dtype: f(9 * x, axis=0, dtype=dtype) * 1.0
        for f in (
            np.mean, np.var, np.cumsum, np.cumprod, np.add.accumulate, np.maximum.accumulate, np.prod,
        )
        for dtype in (int, np.int8, bool)
    ),
    lambda x: np.mean(x, dtype=int, where=x > 0.5) * 1.0, lambda x: np.var(9 * x, 1, int, ddof=1) * 1.0,
    lambda x: np.subtract.outer(x.astype(np.float32), 2.0), lambda x: np.add.outer(1, x.astype(np.float16)),
    lambda x: np.sum(x, initial=None), lambda x: np.prod(x, axis=0, initial=None), lambda x: x.clip(0.5),
    lambda x: round(x[0, 0], 1), lambda x: np.sum(x, dtype=bool) * 1.0,
    lambda x: np.sum(300 * x, dtype=np.int8) * 1.0, np.block,
    lambda x: np.ravel(x, "f"), lambda x: np.reshape(x, (4, 3), "f"), lambda x: np.ravel(x.copy("f"), "k"),
    lambda x: np.array(x, ndmin=3, order="F", like=x).ravel("K"),
    lambda x: np.array([x.T, x.T], like=x).ravel("K"),
    lambda x: np.linalg.vecdot(x[:, :3], x[:, 0], axis=0),
    lambda x: np.linalg.vecdot(x, [1.0, 2.0, 3.0, 4.0]),
    lambda x: np.linalg.tensordot(x, [1.0, 2.0, 3.0, 4.0], axes=1),
    *(
        lambda x, o=o, a=a: np.linalg.vector_norm(x[:1], ord=o, axis=a, keepdims=True)
        for o in (1, 2, 3, 0, np.inf, -np.inf)
        for a in (None, (0, 1), 1, ())
    ),
    lambda x: np.fft.rfftn(x, axes=(0, 0)).real,
    lambda x: np.fft.irfft2(x, s=(-1, 4)), lambda x: np.fft.hfft(x.astype(np.float16)),
    lambda x: np.take(x, True), lambda x: np.take(x[0], [True, False, True]), lambda x: np.take(x, []),
    lambda x: np.atleast_2d(x[0], [1.0, 2.0])[1], lambda x: np.linalg.matrix_power(x[:, :3] / 0.0, 0),
    lambda x: np.cross(x[:, :2] / 0.0, [0.0, 0.0, 1.0])[:, :2],
    lambda x: np.linalg.cross(x[:, :3], [1, 2, 3]),
    lambda x: np.linalg.cholesky(S[:3, :3] + x[:, :3], upper=True), lambda x: np.polyval([], x / 0.0),
    lambda x: np.average(x, returned=True)[1], lambda x: np.full_like(x[0], x[1, 1]),
    lambda x: np.full_like(x[0], x[1, 1], np.float32),
    lambda x: np.sum(x.astype(np.float32), initial=np.array(2.0)),
    lambda x: np.max(x.astype(np.float16), axis=0, initial=np.float64(0.5)),
    lambda x: np.logical_and.reduce(x > 0.5, initial=False, dtype=bool) * 1.0,
    lambda x: np.logical_or.reduce(x, initial=False) * 1.0, lambda x: np.nanmin(x, initial=None),
    lambda x: np.prod(x, axis=0, dtype=bool) * 1.0, lambda x: np.sum(x, dtype=int, where=x > 0.5) * 1.0,
    *(
        lambda x, f=f, o=o: f(np.where(x > 0.6, np.nan, x), axis=1, **o)
        for f in (np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nansum)
        for o in (
            {"where": M > 0.3} if f in (np.nanmean, np.nanvar, np.nanstd) else {"initial": np.nan},
            {"keepdims": True},
        )
    ),
    lambda x: np.nanvar(x, mean=x[0, 0], axis=1), lambda x: np.nanmin(x, initial=0.5, where=x > 2),
    *(
        lambda x, q=q: np.quantile(np.where(x > 0.6, np.inf, x), q, axis=1)
        for q in (1, [0, 1], 0.3)
    ),
    lambda x: np.quantile(V, x / 2), lambda x: np.percentile(V, 50 * x[0, 0]),
    *(
        lambda x, at=at: np.interp(at * x, [-np.inf, 0.4, 0.6, np.inf], [2.0, 2.0, np.inf, np.inf])
        for at in (1.0, -1.0, np.inf, np.nan)
    ),
    lambda x: np.interp(x / M * np.nan, [0.4], [2.0]),
    lambda x: np.linalg.vector_norm(np.stack([x, x]), ord=1), lambda x: np.linalg.vector_norm(x[0, 0], ord=1),
    *(
        written(f)
        for f in (
            lambda y, x: np.put(y, [0, 5], []), lambda y, x: np.putmask(y, y > 1, []),
            lambda y, x: np.fill_diagonal(y, []), lambda y, x: np.copyto(y, 3, casting="no"),
            lambda y, x: np.put_along_axis(y, np.array([0, 5]), x[0, :2], None),
            lambda y, x: np.add.at(y, [0, 2, 0], x), lambda y, x: np.subtract.at(y, (0, [1, 1]), x[0, 0]),
            lambda y, x: np.add.at(y, ([0, 0], [1, 1]), True), lambda y, x: np.put(y, 0, True),
            lambda y, x: np.putmask(y, M.reshape(4, 3) > 0.5, [1.0, 2.0]),
        )
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Arrays of 2-dimensional vectors")
@pytest.mark.parametrize("k", range(len(SERVED)))
def test_what_numpy_serves_is_served(k):
    f = SERVED[k]
    y = jvp(f, (M,), (np.zeros_like(M),))[0]
    try:
        plain = f(M)
    except ValueError:
        assert np.lib.NumpyVersion(np.__version__) < "2.4.0"  # which had no norms of nothing
        return
    assert np.shape(y) == np.shape(plain)
    assert np.asarray(y).dtype == np.asarray(plain).dtype
    assert isinstance(y, np.ndarray) == isinstance(plain, np.ndarray)
    np.testing.assert_allclose(y, plain, rtol=2 * M.size * 2**-53)


# Of vectors, of numbers, and of arrays without axes.
WITHOUT_AXES = [
    *(
        lambda x, f=f: f(x)
        for f in (
            np.sum, np.prod, np.mean, np.var, np.std, np.max, np.ptp, np.median, np.average, np.linalg.norm,
            np.nansum, np.nanprod, np.nanmax, np.nanmean, np.nanvar, trapezoid, np.cov, np.multiply.reduce,
            lambda x: np.quantile(x, 0.3), lambda x: np.percentile(x, 30), lambda x: np.inner(x, x),
            lambda x: np.vdot(x, x), lambda x: np.tensordot(x, x, 1), lambda x: np.einsum("i,i", x, x),
            lambda x: np.linalg.norm(x, 3), lambda x: np.linalg.norm(np.outer(x, x), "nuc"),
            lambda x: np.linalg.norm(np.outer(x, x), 1),
            lambda x: np.interp(0.5, [0.0, 1.0], x[:2]), lambda x: np.take(x, 0), lambda x: x.take(1),
            lambda x: np.sum(x[:0], initial=1.0), lambda x: np.max(x, initial=2.0, where=x > 0),
            lambda x: np.squeeze(x[:1]), lambda x: np.reshape(x[:1], ()), lambda x: x[..., 0],
        )
    ),
    *(
        lambda x, f=f, part=part: f(part(x))
        for f in (
            np.copy, np.squeeze, np.prod, np.nan_to_num, np.i0, np.real_if_close, np.ravel, np.negative,
            np.exp, np.atleast_1d, lambda v: np.prod(v, keepdims=True), np.transpose, np.zeros_like,
            lambda v: v.copy(), lambda v: v.astype(np.float32), lambda v: v.astype(float), lambda v: v * 1.0,
            lambda v: np.clip(v, 0, 1), lambda v: np.modf(v)[0],
            lambda v: np.where(True, v, v), lambda v: np.select([True], [v]),
            lambda v: np.interp(v, [0, 1], [2, 3]),
            lambda v: np.pad(v, 1), lambda v: np.pad(v, 1, mode="edge"), lambda v: np.roll(v, 1),
            lambda v: v**2, lambda v: np.power(v, 0.5),
        )
        for part in (lambda x: x[0], lambda x: x[..., 0])
    ),
]  # fmt: skip


@pytest.mark.parametrize("k", range(len(WITHOUT_AXES)))
def test_what_has_no_axes_is_a_number_or_an_array_as_numpys_is(k):
    """Into an array an augmented assignment writes, which its other names see; a number it replaces."""

    def augmented(x):
        y = WITHOUT_AXES[k](x * 1)
        same = y
        y += 2
        return y * same

    for f in (WITHOUT_AXES[k], augmented):
        plain = f(V)
        for y in (jvp(f, (V,), (V,))[0], vjp(f, V)[0], compile(f)(V)):
            assert isinstance(y, np.ndarray) == isinstance(plain, np.ndarray)
            np.testing.assert_allclose(y, plain, rtol=2 * V.size * 2.0**-23)  # of float32 casts


def test_moved_and_ordered_arrays_lie_in_memory_as_numpys_do():
    """As what follows may read them in that order, and sums depend on it in their last digit."""
    for x in (np.asfortranarray(M), np.stack([M, M + 1]).transpose(1, 2, 0)):
        for f in (
            lambda x: np.sort(x, axis=0), lambda x: np.partition(x, 1, axis=0),
            lambda x: np.roll(x, 1, axis=0),
            lambda x: np.delete(x, 0, axis=1), lambda x: np.insert(x, 0, 2.0, axis=1),
            lambda x: np.repeat(x, 2, 0),
            lambda x: np.cumprod(x, axis=0), lambda x: np.gradient(x, axis=0),
            lambda x: np.take(x, [1, 0], axis=0),
            lambda x: np.pad(x, 1, constant_values=2.0),
            lambda x: np.pad(x, 1, mode="edge"), np.sinc, np.imag,
            lambda x: np.select([x > 0.5], [x]), lambda x: np.tile(x, 1), np.fft.fftshift, np.median,
            lambda x: np.quantile(x, [0.2, 0.7], axis=0), lambda x: np.fft.irfft2(np.fft.rfft2(x)),
            lambda x: np.fft.irfft(np.fft.rfft(x, axis=0), 3, axis=0),
            lambda x: np.fft.irfft(x, axis=0), lambda x: np.reshape(x, x.shape, copy=True),
            lambda x: np.fft.fft(x, 6, axis=0).real + 0.0, lambda x: np.fft.ifft(x, axis=-1).imag + 0.0,
            lambda x: np.fft.rfft(x, 9, axis=0).imag + 0.0,
            lambda x: np.exp(np.broadcast_to(x[:, :1], x.shape)),
            lambda x: np.broadcast_to(x[0], x.shape) + 1,
            lambda x: np.broadcast_to(x[0, :1], (5, *x.shape[1:])).T * 2.0,
            lambda x: np.broadcast_arrays(x[0], x)[0] * 1.0, lambda x: np.diagonal(x) + 0.0,
            lambda x: np.exp(np.diagonal(x, 1, 1, 0)), lambda x: np.einsum("ii...->i...", x[:, :3]) * 1.0,
            lambda x: np.meshgrid(x[0].ravel(), x[1].ravel(), indexing="ij", copy=False)[1] * 2.0,
        ):  # fmt: skip
            for y in (jvp(f, (x,), (x,))[0], compile(f)(x)):
                assert np.asarray(y).strides == np.asarray(f(x)).strides
                np.testing.assert_allclose(y, f(x), rtol=2 * x.size * 2**-53)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_weight_counts_where_it_lies_alone():
    a = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    for v in (np.array([1.0, np.inf]), np.array([np.nan, 1.0, 2.0]), np.array([-np.inf, 0.5])):
        for f in (np.convolve, lambda a, v: np.correlate(a, v, "full")):
            np.testing.assert_array_equal(jvp(f, (a, v), (a, v))[0], f(a, v))
    found = grad(lambda a, v: np.convolve(a, v)[0], argnums=(0, 1))(a, np.array([2.0, 3.0]))
    np.testing.assert_array_equal(found[0], [2, 0, 0, 0, 0])


def test_a_number_has_one_axis_to_reduce():
    for f in (np.sum, np.prod, np.max, np.cumsum, np.cumprod, np.add.reduce):
        for axis in (0, -1):
            y, y_dot = jvp(
                lambda x, f=f, a=axis: f(x, axis=a), (np.float64(0.3),), (np.float64(1),)
            )
            np.testing.assert_array_equal(y, f(np.float64(0.3), axis=axis))
            np.testing.assert_array_equal(y_dot, np.ones_like(y))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_parts_of_a_partition_are_in_numpys_order():
    x = np.random.default_rng(1).normal(size=(50, 60))
    f = lambda x: np.partition(x, [5, 40], axis=1)  # noqa: E731  # a formula
    y, y_dot = jvp(f, (x,), (2 * x,))
    np.testing.assert_array_equal(y, f(x))
    np.testing.assert_array_equal(y_dot, 2 * f(x))
    np.testing.assert_array_equal(compile(f)(x), f(x))
    empty = np.zeros((0, 3))
    np.testing.assert_array_equal(
        jvp(lambda x: np.median(x, axis=0), (empty,), (empty,))[0], [np.nan] * 3
    )


def test_an_infinity_stays_with_its_neighbours():
    x = np.array([1.0, 2.0, 4.0, np.inf, 3.0, 5.0, 1.0, -np.inf])
    with np.errstate(invalid="ignore"):
        for f in (
            np.gradient,
            lambda x: np.gradient(x, np.arange(8.0) ** 2, edge_order=2),
            lambda x: np.quantile(x, [0.05, 0.1, 0.5, 0.9, 0.95]),
        ):
            np.testing.assert_allclose(jvp(f, (x,), (x,))[0], f(x), rtol=1e-15)
    long = np.zeros(100_000)  # whose matrix of weights would not fit into memory
    np.testing.assert_array_equal(jvp(np.gradient, (long,), (long,))[1], long)


@pytest.mark.parametrize("name", ["flat", "flags", "view", "tobytes", "resize"])
def test_an_attribute_that_it_lacks_says_what_to_write(name):
    with pytest.raises(AttributeError, match=rf"no \.{name}: .*x\.ravel\(\)\[i\] = v"):
        grad(lambda x: getattr(x, name))(V)
    assert not grad(lambda x: x[0] if hasattr(x, name) else x[0] * 0.0)(V)[0]


def test_augmented_assignment():
    def writing(x):
        y = x
        y += x  # NumPy writes into the array that both names stand for
        return np.sum(y * x)

    np.testing.assert_array_equal(grad(writing)(V), 8 * V)

    def into_an_array(x):
        total = np.zeros(4)
        total += x
        return np.sum(total)

    with pytest.raises(TypeError, match=r"write `a = a \+ b`"):
        grad(into_an_array)(V)


def test_queries_see_the_shape():
    def f(x):
        assert np.shape(x) == x.shape == (4,)
        assert np.ndim(x) == x.ndim == 1
        assert np.size(x) == x.size == len(x) == 4
        assert x.dtype == np.float64
        assert "Var(" in repr(x)
        assert not np.iscomplexobj(x)
        y = x + 0.0
        assert (x == y).all()
        assert (np.isfinite(x) & ~(x < 0) | (x != y)).all()
        return np.sum(x)

    grad(f)(V)
    jvp(f, (V,), (V,))
    assert trace(lambda x: np.all(x > 0), V)(V)


@pytest.mark.skipif(not hasattr(np.linalg, "vecdot"), reason="NumPy 1 has no array API names")
def test_array_api_names_of_linear_algebra():
    for f, same in (
        (np.linalg.trace, np.trace),
        (np.linalg.diagonal, np.diagonal),
        (np.linalg.matrix_transpose, np.transpose),
        (np.linalg.vector_norm, np.linalg.norm),
        (lambda x: np.linalg.outer(x[0], x[1]), lambda x: np.outer(x[0], x[1])),
        (lambda x: np.linalg.vecdot(x[0], x[1]), lambda x: np.dot(x[0], x[1])),
    ):
        (y, pullback), (true, true_pullback) = vjp(f, S), vjp(same, S)
        np.testing.assert_array_equal(y, true)
        y_bar = np.ones_like(y)
        np.testing.assert_array_equal(pullback(y_bar), true_pullback(y_bar))


def test_uneven_sections_are_for_array_split_alone():
    with pytest.raises(ValueError, match="4 elements do not divide into 3"):
        grad(lambda x: np.sum(np.split(x, 3)[0]))(V)


def test_complex_values_on_the_way_are_pairs_of_real_ones():
    waves = np.exp(1j * V)
    total = np.sum(waves)
    found = grad(lambda x: np.abs(np.sum(np.exp(1j * x))))(V)
    np.testing.assert_allclose(found, (1j * waves * total.conj()).real / abs(total), rtol=1e-14)


def test_a_spectral_loss_is_compiled_and_nests():
    target = np.abs(np.fft.rfft(M)) ** 2

    def loss(x):
        return np.mean((np.abs(np.fft.rfft(x)) ** 2 - target) ** 2)

    x, v = rng.uniform(0.2, 0.9, (2, 3, 4))
    np.testing.assert_array_equal(compile(grad(loss))(x), grad(loss)(x))
    orders = [
        hvp(loss, x, v),
        grad(lambda x: np.sum(grad(loss)(x) * v))(x),
        grad(lambda x: jvp(loss, (x,), (v,))[1])(x),
        jvp(lambda t: grad(loss)(x + t * v), (0.0,), (1.0,))[1],
    ]
    h = (
        2.0**-13
    )  # truncation and rounding of the difference are below 1e-7 of a gradient of size 100
    for found in orders:
        np.testing.assert_allclose(found, orders[0], rtol=1e-12)
        true = (grad(loss)(x + h * v) - grad(loss)(x - h * v)) / (2 * h)
        np.testing.assert_allclose(found, true, rtol=1e-5)


COMPLEX_RESULTS = {
    "fft": np.fft.fft,
    "sum": lambda x: np.sum(np.fft.fft(x)),
    "in a tuple": lambda x: (x[0], 1j * x),
}


@pytest.mark.parametrize("f", COMPLEX_RESULTS.values(), ids=COMPLEX_RESULTS)
@pytest.mark.parametrize(
    "mode", [grad, lambda f: lambda x: jvp(f, (x,), (x,)), lambda f: lambda x: vjp(f, x), compile]
)
def test_a_complex_result_is_refused_with_what_to_write(mode, f):
    with pytest.raises(TypeError, match=r"return its \.real and \.imag, or np\.abs of it"):
        mode(f)(V)


def test_what_complex_values_do_not_have_says_so():
    for f in (np.sin, np.sort, np.add.reduce):
        with pytest.raises(TypeError, match="of a complex value has no derivative rule here"):
            grad(lambda x, f=f: np.abs(f(np.fft.fft(x))))(V)
    for f in (
        lambda x: np.fft.fft(x) ** 0.5,
        lambda x: x ** (2 + 1j),
        lambda x: np.power(x, 1j),
        lambda x: np.power(x, np.array([1j, 2])),
        lambda x: 1j**x,
        lambda x: np.power(2j, x),
        lambda x: x**x ** (1j + 0),
    ):
        with pytest.raises(
            TypeError, match="power with a complex base or exponent, to the power of"
        ):
            grad(lambda x, f=f: np.sum(np.abs(f(x))))(V[:2])


TRANSFORMS = [
    (name, options)
    for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
    for options in ({}, {"n": 3}, {"n": 6}, {"axis": 0}, {"norm": "ortho"}, {"norm": "forward", "n": 5})
] + [
    (name + end, options)
    for name in ("fft", "ifft", "rfft", "irfft")
    for end in ("2", "n")
    for options in ({}, {"s": (3, 6), "axes": (0, 1)}, {"axes": (1, 2), "norm": "ortho"})
]  # fmt: skip


OF_COMPLEX = [row for row in TRANSFORMS if not row[0].startswith(("rfft", "ihfft"))]


@pytest.mark.parametrize(
    ("name", "options", "complex_input"),
    [(*row, False) for row in TRANSFORMS] + [(*row, True) for row in OF_COMPLEX],
    ids=str,
)
def test_transforms_are_numpys_and_linear_in_both_modes(name, options, complex_input):
    """A linear function's derivative in direction v is its value at v."""
    x, v = rng.normal(size=(2, 2, 4, 5, 4))

    def f(x):
        z = x[0] + 1j * x[1] if complex_input else x[0]
        y = getattr(np.fft, name)(z, **options)
        return np.stack([y.real, y.imag])

    y, y_dot = jvp(f, (x,), (v,))
    # The sum of 80 numbers of size 1, in at most 7 levels with a few roundings each.
    np.testing.assert_allclose(y, f(x), rtol=0, atol=80 * 2.0**-50)
    np.testing.assert_allclose(y_dot, f(v), rtol=0, atol=80 * 2.0**-50)
    w = rng.normal(size=y.shape)
    x_bar = grad(lambda x: np.sum(w * f(x)))(x)
    np.testing.assert_allclose(np.sum(x_bar * v), np.sum(w * y_dot), rtol=0, atol=80**2 * 2.0**-50)


class Labelled:
    """An array of another library, which serves NumPy's ufuncs itself, as xarray's do."""

    def __init__(self, data):
        self.data = data

    def __array_ufunc__(self, *_args, **_kwargs):
        raise AssertionError("its operator was not asked")

    def __rmul__(self, other):
        return Labelled(other * self.data)


def test_an_operand_of_another_library_keeps_its_own_operators():
    assert grad(lambda x: np.sum((x * Labelled(V)).data))(2.0) == np.sum(V)


def halved_in_place(x):
    y = x * 1
    y **= 0.5
    return y


POWERS = [
    *(lambda x, p=p: x**p for p in (2, 0.5, -1, 1.7, np.float64(0.5), np.float32(2))),
    *(lambda x, p=p: np.power(x, p) for p in (2, 0.5, -1, 1.7, np.float64(0.5), np.float32(2))),
    lambda x: 2.0**x, lambda x: np.power(2.0, x), lambda x: np.power(np.float32(2), x),
    lambda x: x**x, lambda x: np.power(x, x), np.sqrt, np.square, halved_in_place,
]  # fmt: skip
# Where the operator, the ufunc, and the functions that either stands for differ, in the last bit at least.
WHERE_POWERS_DIFFER = np.array(
    [
        -0.0,
        0.0,
        -np.inf,
        np.inf,
        np.nan,
        -2.0,
        0.4786618688802179,
        1.8846168232956362,
        2.6968743307281793,
    ]
)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("k", range(len(POWERS)))
def test_the_operator_and_the_ufunc_have_their_own_values(k, dtype):
    f, points = POWERS[k], WHERE_POWERS_DIFFER.astype(dtype)
    for x in (points, *points, points[:1].reshape(())):
        plain = f(x)
        for y in (jvp(f, (x,), (x,))[0], vjp(f, x)[0], compile(f)(x)):
            assert np.asarray(y).dtype == np.asarray(plain).dtype
            np.testing.assert_array_equal(y, plain)
            np.testing.assert_array_equal(np.signbit(y), np.signbit(plain))


def augmented(x):
    y = x
    y *= 3
    y **= 2
    return y


NUMBER_PROGRAMS = {
    "operators": lambda x: (2.7 - x * x + 1) / -abs(x) % 7 - +x // 2 + 2**x - (x**2 - x**-0.3 * x**x),
    "divmod": lambda x: divmod(x, 0.3)[1] + divmod(7.0, x)[0],
    "augmented": augmented,
    "times one": lambda x: x * 1.0 + 0.0,
    "NumPy's": lambda x: np.multiply(x, 1.0) * 3.0 + np.exp(x),
    "NumPy's operand": lambda x: x * np.float64(1.0) * 3.0,
}  # fmt: skip


@pytest.mark.parametrize("f", NUMBER_PROGRAMS.values(), ids=NUMBER_PROGRAMS)
def test_pythons_own_numbers_do_not_count_in_a_dtype(f):
    """A Python float, and what operators make of it, leaves float32 what it is; NumPy's numbers do not."""
    x, A = 1.3, M.astype(np.float32)
    g = lambda x: f(x) * A  # noqa: E731  # a formula
    y, y_dot = jvp(g, (x,), (1.0,))
    nested = jvp(lambda x: jvp(f, (x,), (1.0,))[0] * A, (x,), (1.0,))[0]
    for found in (y, vjp(g, x)[0], compile(g)(x), nested):
        assert found.dtype == y_dot.dtype == g(x).dtype
        np.testing.assert_array_equal(found, g(x))
    assert type(jvp(f, (x,), (1.0,))[0]) is type(compile(f)(x)) is type(f(x))
    wide = np.longdouble(x)
    slope = (f(wide + STEP) - f(wide - STEP)) / (2 * STEP)  # whose error is below STEP² times 100
    np.testing.assert_allclose(float(grad(f)(x)), float(slope), rtol=100 * STEP**2)


def test_slopes_at_pythons_own_numbers_are_those_at_numpys():
    """Where Python's own division raises (log at 0), the slope is infinite, as of NumPy's numbers."""
    rows = [
        (name, p, k)
        for name, p in reference.primitives().items()
        if p.slopes and len(p.slopes) < 3
        for k, slope in enumerate(p.slopes)
        if slope is not None and k not in UNDIFFERENTIATED.get(name, ())
    ]
    params = {"power_number": {"p": -1}, "clip": {"low": 0, "high": 1}, "polygamma_n": {"n": 1}}
    params["sinc_derivative"] = {"n": 0}
    with np.errstate(all="ignore"):
        for name, p, k in rows:
            slope = grad(lambda *xs, p=p, name=name: p(*xs, **params.get(name, {})), k)
            compiled = compile(slope)
            for x in (0.0, 1.0, -1.0, 0.5, np.inf):
                for xs in [(x,)] if len(p.slopes) == 1 else [(x, 0.0), (x, -1.0), (x, 0.5)]:
                    for g in (slope, compiled, grad(slope, k)):
                        found, expected = g(*xs), g(*map(np.float64, xs))
                        np.testing.assert_array_equal(found, expected, f"{name}, slope {k}, {xs}")
