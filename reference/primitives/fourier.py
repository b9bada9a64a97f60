"""Discrete Fourier transforms of real numbers: a complex value is two real ones on a first axis of its own.

Three linear maps, each with its transpose in terms of the others; `engine.complex_numbers` makes
`numpy.fft` of them. `axis` counts the axes of the complex array, and is not negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, linear
from ffverify.reference.engine.var import Value, dtype_of, shape_of

from .shaping import gather, pad_zeros


def _parts(z: Any) -> Any:
    return np.stack([z.real, z.imag])


def _whole(parts: Any) -> Any:
    z = np.empty_like(parts[0], np.result_type(parts.dtype, np.complex64))
    z.real, z.imag = parts
    return z


def _flops(_y: Value, x: Value, **_: Any) -> float:
    n = float(np.prod(shape_of(x)))
    return 5 * n * float(np.log2(max(n, 2)))


def _waves(like: Any, m: int, n: int) -> tuple[Any, Any]:
    """Return cos and sin of 2π jk/n, for j < n and k < m, in the arithmetic of an array."""
    quarter_pi = np.arctan(np.ones_like(like.reshape(-1)[:1]))
    angles = quarter_pi * (np.outer(np.arange(n), np.arange(m)) % n * 8) / n
    return np.cos(angles), np.sin(angles)


def _exact_dft(z: Any, *, axis: int, inverse: bool) -> Any:
    real, imag = (np.swapaxes(part, axis, -1) for part in (z[0], z[1]))
    c, s = _waves(z, z.shape[axis + 1], z.shape[axis + 1])
    s = s if inverse else -s
    parts = real @ c - imag @ s, real @ s + imag @ c
    return np.stack([np.swapaxes(part, axis, -1) for part in parts])


def _exact_rdft(x: Any, *, axis: int) -> Any:
    c, s = _waves(x, x.shape[axis] // 2 + 1, x.shape[axis])
    last = np.swapaxes(x, axis, -1)
    return np.stack([np.swapaxes(part, axis, -1) for part in (last @ c, -(last @ s))])


def _exact_irdft(z: Any, *, axis: int, n: int) -> Any:
    c, s = _waves(z, n // 2 + 1, n)
    real, imag = (np.swapaxes(part, axis, -1) * _weights(n) for part in (z[0], z[1]))
    return np.swapaxes(real @ c.T - imag @ s.T, axis, -1) / n


def _weights(n: int) -> Any:
    """How many of n terms each of the first n // 2 + 1 stands for: itself, and its conjugate."""
    weights = np.full(n // 2 + 1, 2.0)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    return weights


def _dft(z: Any, *, axis: int, inverse: bool) -> Any:
    transform = np.fft.ifft if inverse else np.fft.fft
    return _parts(transform(_whole(z), axis=axis, norm="forward" if inverse else "backward"))


# Σ_j z_j exp(∓2πi jk/n), in both directions without a factor. The matrix is symmetric, so that the
# transpose over the real numbers is its conjugate.
dft: Primitive = linear(
    "dft",
    _dft,
    lambda y_bar, _y, _z, *, axis, inverse: dft(y_bar, axis=axis, inverse=not inverse),
    flops=_flops,
    exact=_exact_dft,
)


def _rdft_transpose(y_bar: Value, _y: Value, x: Value, *, axis: int) -> Value:
    n = shape_of(x)[axis]
    rest = [(0, 0)] * len(shape_of(y_bar))
    rest[axis + 1] = (0, n - (n // 2 + 1))
    full = pad_zeros(y_bar, widths=tuple(rest))
    return gather(dft(full, axis=axis, inverse=True), index=(0,))


# The first n // 2 + 1 terms, of real numbers; the others are their conjugates.
rdft: Primitive = linear(
    "rdft",
    lambda x, *, axis: _parts(np.fft.rfft(x, axis=axis)),
    _rdft_transpose,
    flops=_flops,
    exact=_exact_rdft,
)


def _irdft_transpose(y_bar: Value, _y: Value, z: Value, *, axis: int, n: int) -> Value:
    weights = (_weights(n) / n).astype(dtype_of(z))
    behind = (1,) * (len(shape_of(y_bar)) - axis - 1)
    return rdft(y_bar, axis=axis) * weights.reshape(-1, *behind)


# The n real numbers of which these are the first n // 2 + 1 terms.
irdft: Primitive = linear(
    "irdft",
    lambda z, *, axis, n: np.fft.irfft(_whole(z), n, axis),
    _irdft_transpose,
    flops=_flops,
    exact=_exact_irdft,
)
