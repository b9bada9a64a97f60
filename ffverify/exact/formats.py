"""Floating-point formats: unit roundoff, ulps, and exact conversion to and from NumPy arrays.

``of(dtype)`` describes a format by its three integers (precision, smallest and largest exponent);
everything else about it (unit roundoff, the largest finite number, the size of an ulp at any
magnitude) follows. bfloat16, which NumPy has not, is named and carried in float32 arrays.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Parameters
    ----------
    name
        The dtype's name, as in ``"float32"``.
    precision
        Bits of the significand, the leading one included (53 for float64).
    emin, emax
        Exponents of the smallest normal number and of the largest finite one.
    carrier
        The NumPy dtype whose arrays hold its values.
    gradual
        Whether there are subnormals; False for libraries and devices that flush them to zero.
    """

    name: str
    precision: int
    emin: int
    emax: int
    carrier: str
    gradual: bool = True

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number: the relative error of one rounding."""
        return 2.0**-self.precision

    @property
    def smallest_exponent(self) -> int:
        """Exponent of the smallest positive number, below which results underflow."""
        return self.emin - self.precision + 1 if self.gradual else self.emin

    @cached_property
    def largest(self) -> Fraction:
        """The largest finite number, exactly."""
        return (2 - Fraction(2) ** (1 - self.precision)) * Fraction(2) ** self.emax

    @cached_property
    def overflow(self) -> Fraction:
        """From this magnitude on, rounding to nearest gives infinity."""
        return self.largest + Fraction(2) ** (self.emax - self.precision)

    def ulp_exponents(self, values: Array) -> Array:
        """Give k, elementwise, such that 2^k is one ulp of a value in this format."""
        exponents = np.where(values == 0, self.emin, np.frexp(values)[1] - 1)
        exponents = np.where(np.isfinite(values), exponents, self.emax)
        return np.asarray(exponents.clip(self.emin, self.emax) - self.precision + 1)


FORMATS = {
    f.name: f
    for f in (
        Format("float64", 53, -1022, 1023, "float64"),
        Format("float32", 24, -126, 127, "float32"),
        Format("float16", 11, -14, 15, "float16"),
        Format("bfloat16", 8, -126, 127, "float32"),
    )
}


LONG = np.dtype(np.longdouble).name  # wider than any format under test: for differences only
_FLOATING = frozenset({*FORMATS, LONG})


def of(dtype: Any) -> Format:
    """Give the format of a NumPy, torch or JAX dtype, or of a dtype's name; a format is itself.

    Raises
    ------
    TypeError
        If the dtype is not a binary floating-point format that ffverify knows.
    """
    if isinstance(dtype, Format):
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name not in FORMATS:
        with contextlib.suppress(TypeError):
            name = np.dtype(dtype).name
    if name not in FORMATS:
        raise TypeError(
            f"dtype {name!r} is not a known floating-point format: use one of {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def picked(rng: np.random.Generator, numbers: Array, shape: Any) -> Array:
    """Draw some of a few numbers, as ``rng.choice`` does, whose own checks take longer than that."""
    drawn: Array = numbers[rng.integers(0, len(numbers), shape)]
    return drawn


SIGNS = np.array([-1.0, 1.0])


def dtype_name(value: Any) -> str:
    """Give the name of an array's dtype, whatever framework it is of, as in ``"bfloat16"``."""
    dtype = getattr(value, "dtype", None)
    return _name(np.asarray(value).dtype if dtype is None else dtype)


@cache
def _name(dtype: Any) -> str:
    # NumPy's names leave the order of bytes out.
    return dtype.name if isinstance(dtype, np.dtype) else str(dtype).removeprefix("torch.")


def is_floating(value: Any) -> bool:
    """Tell whether an array of any framework holds floats, which alone are differentiated."""
    return dtype_name(value) in _FLOATING
