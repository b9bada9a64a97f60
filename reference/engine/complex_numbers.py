"""Complex values on the way of a real function: what `numpy.fft` gives of traced values.

A `Complex` is a pair of real arrays, of which each operation makes another pair, so that all
derivatives are of real numbers. It has what spectral losses write: arithmetic with real and complex
arrays, ``.real``, ``.imag``, ``abs``, `np.angle`, `np.conj`, `np.exp`, products, indexing, sums, whatever
only moves elements, and the transforms back. No argument and no result of a derivative is complex.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ffverify.reference.primitives import fourier, shaping

from .numpy_shapes import in_layout_of
from .primitive import astype, broadcast_to
from .var import BEYOND, COMPLEX, FUNCTIONS, Shaped, Value, Var, dtype_of, shape_of

Parts = tuple[Value, Value]


class Complex(Shaped):
    """A complex array whose real and imaginary parts are traced."""

    __slots__ = ("imag", "real")

    def __init__(self, real: Value, imag: Value) -> None:
        if type(imag) is float:  # whose type does not count, as NumPy has it
            imag = np.asarray(imag, dtype_of(real))
        shape = np.broadcast_shapes(shape_of(real), shape_of(imag))
        self.real, self.imag = (
            x if shape_of(x) == shape else broadcast_to(x, shape=shape) for x in (real, imag)
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or ufunc not in COMPLEX:
            _unsupported(ufunc.__name__)
        return COMPLEX[ufunc](*args)

    def __array_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if func in PARTWISE:
            return _by_parts(func, args, kwargs)
        if func not in COMPLEX_FUNCTIONS:
            _unsupported(func.__name__)
        return COMPLEX_FUNCTIONS[func](*args, **kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array it stands for."""
        return shape_of(self.real)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array it stands for."""
        return np.result_type(dtype_of(self.real), np.complex64)

    def __getitem__(self, index: Any) -> Complex:
        return Complex(self.real[index], self.imag[index])

    def conj(self) -> Complex:
        """As `numpy.conj`."""
        return Complex(self.real, -self.imag)

    def sum(self, *args: Any, **kwargs: Any) -> Complex:
        """As `numpy.sum`."""
        return _by_parts(np.sum, (self, *args), kwargs)

    def mean(self, *args: Any, **kwargs: Any) -> Complex:
        """As `numpy.mean`."""
        return _by_parts(np.mean, (self, *args), kwargs)

    conjugate = conj
    __hash__ = None  # type: ignore[assignment]  # as of arrays

    def __repr__(self) -> str:
        return f"Complex({self.real!r}, {self.imag!r})"

    def __add__(self, other: Any) -> Complex:
        return _add(self, other)

    def __sub__(self, other: Any) -> Complex:
        return _subtract(self, other)

    def __rsub__(self, other: Any) -> Complex:
        return _subtract(other, self)

    def __mul__(self, other: Any) -> Complex:
        return _multiply(self, other)

    def __truediv__(self, other: Any) -> Complex:
        return _divide(self, other)

    def __rtruediv__(self, other: Any) -> Complex:
        return _divide(other, self)

    def __matmul__(self, other: Any) -> Complex:
        return _matmul(self, other)

    def __rmatmul__(self, other: Any) -> Complex:
        return _matmul(other, self)

    def __pow__(self, n: Any) -> Complex:
        return _power(self, n)

    def __neg__(self) -> Complex:
        return Complex(-self.real, -self.imag)

    def __pos__(self) -> Complex:
        return self

    def __abs__(self) -> Value:
        return np.hypot(self.real, self.imag)

    __radd__, __rmul__ = __add__, __mul__


BEYOND.add(Complex)


def _unsupported(name: str) -> NoReturn:
    raise TypeError(
        f"numpy.{name} of a complex value has no derivative rule here: write it with .real, .imag, "
        "np.abs and np.angle"
    )


def _both(z: Any) -> Parts:
    """Return the real and the imaginary part of any number or array."""
    if isinstance(z, Complex) or (type(z) is not Var and np.iscomplexobj(z)):
        return z.real, z.imag
    return z, 0.0


def _as_complex(z: Any) -> Complex:
    return Complex(*_both(z))


def _add(a: Any, b: Any) -> Complex:
    (p, q), (r, s) = _both(a), _both(b)
    return Complex(p + r, q + s)


def _subtract(a: Any, b: Any) -> Complex:
    (p, q), (r, s) = _both(a), _both(b)
    return Complex(p - r, q - s)


def _bilinear(product: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Complex]:
    def multiplied(a: Any, b: Any) -> Complex:
        if isinstance(b, Complex) and not isinstance(a, Complex) and not np.iscomplexobj(a):
            return Complex(product(a, b.real), product(a, b.imag))
        if isinstance(a, Complex) and not isinstance(b, Complex) and not np.iscomplexobj(b):
            return Complex(product(a.real, b), product(a.imag, b))
        (p, q), (r, s) = _both(a), _both(b)
        return Complex(product(p, r) - product(q, s), product(p, s) + product(q, r))

    return multiplied


_multiply, _matmul = _bilinear(np.multiply), _bilinear(np.matmul)


def _divide(a: Any, b: Any) -> Complex:
    (p, q), (r, s) = _both(a), _both(b)
    if not isinstance(b, Complex) and not np.iscomplexobj(b):
        return Complex(p / r, q / r)
    size = np.hypot(r, s)  # whose square might overflow
    r, s = r / size, s / size
    return Complex((p * r + q * s) / size, (q * r - p * s) / size)


def _power(z: Complex, n: Any) -> Complex:
    if not isinstance(n, int | np.integer) or n < 1:
        raise TypeError(
            f"a power with a complex base or exponent, to the power of {n!r}: only those of 1, 2, 3, ... "
            "have a rule; write it with np.abs and np.angle, or real exp, cos and sin"
        )
    half = z if n < 2 else _power(z, n // 2)
    even = half if n < 2 else half * half
    return even * z if n % 2 and n > 1 else even


def _exp(z: Any) -> Complex:
    size = np.exp(z.real)
    return Complex(size * np.cos(z.imag), size * np.sin(z.imag))


def _angle(z: Complex, deg: bool = False) -> Value:
    angle = np.arctan2(z.imag, z.real)
    return angle * (180 / np.pi) if deg else angle


def _norm(z: Complex, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:  # noqa: A002  # NumPy's
    """As `numpy.linalg.norm`: those that depend on the elements' absolute values alone."""
    if ord in (2, -2, "nuc") and (z.ndim if axis is None else np.size(axis)) == 2:
        _unsupported("linalg.norm with singular values")
    return np.linalg.norm(abs(z), ord, axis, keepdims=keepdims)


def _by_parts(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Complex:
    """Apply a linear function of one argument, an array or a list of arrays, to both parts."""
    given, *rest = args
    if isinstance(given, list | tuple):
        pairs = [_both(_as_complex(z)) for z in given]
        return Complex(
            *(function(list(part), *rest, **kwargs) for part in zip(*pairs, strict=True))
        )
    parts = _both(given)
    return Complex(*(function(part, *rest, **kwargs) for part in parts))


COMPLEX |= {
    np.add: _add, np.subtract: _subtract, np.multiply: _multiply, np.divide: _divide, np.matmul: _matmul,
    np.power: _power, operator.pow: _power, np.square: lambda z: z * z, np.negative: Complex.__neg__,
    np.positive: Complex.__pos__,
    np.absolute: Complex.__abs__, np.conjugate: Complex.conj, np.exp: _exp,
}  # fmt: skip
COMPLEX_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.real: lambda z: z.real, np.imag: lambda z: z.imag, np.angle: _angle, np.iscomplexobj: lambda _z: True,
    np.linalg.norm: _norm, np.dot: _bilinear(np.dot), np.shape: shape_of, np.ndim: lambda z: z.ndim,
    np.size: lambda z: z.size,
}  # fmt: skip
PARTWISE = {
    np.sum, np.mean, np.cumsum, np.diff, np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis,
    np.squeeze, np.expand_dims, np.broadcast_to, np.roll, np.flip, np.take, np.repeat, np.tile, np.trace,
    np.diagonal, np.fft.fftshift, np.fft.ifftshift, np.concatenate, np.stack, np.hstack, np.vstack,
}  # fmt: skip


# Transforms --------------------------------------------------------------------------------------------
def _factor(n: int, norm: str | None, *, inverse: bool) -> float:
    """Return what a transform is multiplied by that has no factor in either direction."""
    found = {"backward": 1 / n if inverse else 1.0, "forward": 1.0 if inverse else 1 / n}
    found["ortho"] = 1 / float(np.sqrt(n))
    if (norm or "backward") not in found:
        raise ValueError(f"norm={norm!r}: one of {', '.join(found)}")
    return found[norm or "backward"]


def _fitted(x: Value, n: int, axis: int) -> Value:
    """Cut an axis to n elements, or fill it with zeros."""
    length = shape_of(x)[axis]
    if length == n:
        return x
    if n < length:
        return shaping.gather(x, index=(slice(None),) * axis + (slice(0, n),))
    widths = tuple((0, n - length if i == axis else 0) for i in range(len(shape_of(x))))
    return shaping.pad_zeros(x, widths=widths)


def _stacked(x: Any, n: int, axis: int) -> Value:
    return np.stack([_fitted(part, n, axis) for part in _both(x)])


def _along(x: Any, n: int | None, axis: int) -> tuple[int, int]:
    axis = normalize_axis_index(axis, len(shape_of(x)))
    n = shape_of(x)[axis] if n is None else operator.index(n)
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    return n, axis


def _laid_out(x: Value, z: Complex) -> Complex:
    return Complex(in_layout_of(x, z.real), in_layout_of(x, z.imag))


def _scaled(z: Value, factor: float) -> Value:
    return z if factor == 1 else z * factor


def _transform(inverse: bool) -> Callable[..., Any]:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
        n, axis = _along(a, n, axis)
        factor = _factor(n, norm, inverse=inverse)
        if isinstance(a, Complex):
            z = fourier.dft(_stacked(a, n, axis), axis=axis, inverse=inverse)
            return _laid_out(a.real, Complex(*_scaled(z, factor)))
        half = _rfft(a, n, axis, "ortho" if norm == "ortho" else None)
        before = (slice(None),) * axis
        mirrored = half[(*before, np.arange(n - half.shape[axis], 0, -1))].conj()
        z = _laid_out(a, _by_parts(np.concatenate, ([half, mirrored], axis), {}))
        return _scaled(z.conj() if inverse else z, 1.0 if norm == "ortho" else factor)

    return transform


def _rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Complex:
    n, axis = _along(a, n, axis)
    z = fourier.rdft(_fitted(a, n, axis), axis=axis)
    return _laid_out(a, Complex(*_scaled(z, _factor(n, norm, inverse=False))))


def _irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Value:
    length, axis = _along(a, None, axis)
    n, _ = _along(a, 2 * (length - 1) if n is None else n, axis)
    z = _as_complex(a)
    y = fourier.irdft(_stacked(z, n // 2 + 1, axis), axis=axis, n=n)
    y = in_layout_of(z.real, _scaled(y, n * _factor(n, norm, inverse=True)))
    half = dtype_of(a) == np.float16  # of real numbers, whose dtype NumPy keeps
    return astype(y, dtype=np.dtype(np.float16)) if half else y


def _several(
    one: Callable[..., Any], last: Callable[..., Any], default: Sequence[int] | None, *, ends: bool
) -> Callable[..., Any]:
    """Make the transform over several axes; `last` is that of the last one, which `ends` or begins."""

    def transform(
        a: Any,
        s: Sequence[int] | None = None,
        axes: Sequence[int] | None = default,
        norm: Any = None,
    ) -> Any:
        if axes is None:
            axes = range(-len(shape_of(a)) if s is None else -len(s), 0)
        own: list[int | None] = [shape_of(a)[i] for i in axes]
        given = own if s is None else s
        lengths = [length if n == -1 else n for n, length in zip(given, own, strict=True)]
        if s is None and ends:
            lengths[-1:] = [None]  # twice as many numbers as terms
        steps = list(zip(lengths, axes, strict=True))
        if not steps and last is not one:
            raise ValueError("a transform of real numbers is along one axis at least")
        for i, (n, axis) in enumerate(steps if ends else steps[::-1]):
            is_last = i == (len(steps) - 1 if ends else 0)
            a = (last if is_last else one)(a, n, axis, norm)
        return a

    return transform


_fft, _ifft = _transform(inverse=False), _transform(inverse=True)
_SWAPPED = {"forward": "backward", "ortho": "ortho", "backward": "forward", None: "forward"}
TRANSFORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.fft.fft: _fft, np.fft.ifft: _ifft, np.fft.rfft: _rfft, np.fft.irfft: _irfft,
    np.fft.hfft: lambda a, n=None, axis=-1, norm=None: _irfft(
        np.conj(a), n, axis, _SWAPPED.get(norm, norm)
    ),
    np.fft.ihfft: lambda a, n=None, axis=-1, norm=None: _rfft(
        a, n, axis, _SWAPPED.get(norm, norm)
    ).conj(),
    np.fft.fft2: _several(_fft, _fft, (-2, -1), ends=False),
    np.fft.ifft2: _several(_ifft, _ifft, (-2, -1), ends=False),
    np.fft.rfft2: _several(_fft, _rfft, (-2, -1), ends=False),
    np.fft.irfft2: _several(_ifft, _irfft, (-2, -1), ends=True),
    np.fft.fftn: _several(_fft, _fft, None, ends=False),
    np.fft.ifftn: _several(_ifft, _ifft, None, ends=False),
    np.fft.rfftn: _several(_fft, _rfft, None, ends=False),
    np.fft.irfftn: _several(_ifft, _irfft, None, ends=True),
}  # fmt: skip
FUNCTIONS |= TRANSFORMS
COMPLEX_FUNCTIONS |= TRANSFORMS
