"""NumPy, differentiated by the reference engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import Array, dtype_name, is_floating
from ffverify.frameworks.chosen import restricted, spread
from ffverify.frameworks.framework import Framework, Function, Pullback


class _NumPy(Framework):
    name = "numpy"

    def is_array(self, value: Any) -> bool:
        if isinstance(value, np.ma.MaskedArray):
            return True
        numeric = isinstance(value, np.ndarray | np.generic)
        return numeric and (
            value.dtype.kind in "fiubcO" or is_floating(value) or "float" in value.dtype.name
        )

    def refusal(self, value: Any) -> str:
        if isinstance(value, np.ma.MaskedArray):
            return "is a masked array, whose mask derivatives lose: give x.filled(0), and the mask beside it"
        if value.dtype.kind == "O":
            return "is an array of Python objects: give an array of floats, as x.astype(float) makes it"
        if value.dtype.kind == "c" and value.dtype.itemsize > 16:
            return f"is {value.dtype.name}, wider than what can be judged: give complex128"
        if value.dtype.kind == "f" and value.dtype.itemsize > 8:
            return f"is {value.dtype.name}, wider than what can be judged: give float64"
        return ""

    def parts(self, value: Any) -> Any:
        return np.stack([value.real, value.imag], axis=-1)

    def complex_of(self, parts: Any) -> Any:
        return parts[..., 0] + 1j * parts[..., 1]

    def array(self, values: Array, dtype: str, device: str | None = None) -> Array:
        del device  # the host
        return values.astype(dtype) if is_floating(values) else values

    def to_numpy(self, value: Any) -> Array:
        plain = np.asarray(value)
        return plain.astype(np.float32) if dtype_name(plain) == "bfloat16" else plain

    def like(self, template: Any, values: Array) -> Array:
        return np.array(values, dtype=np.asarray(template).dtype)

    def zeros_like(self, template: Any) -> Any:
        return np.zeros_like(template)  # also of what is traced

    def copied(self, value: Any) -> Any:
        return np.array(value, copy=True)

    def widened(self, value: Any) -> Array:
        return np.asarray(value, dtype=np.longdouble)

    def pullback(
        self, fn: Function, args: Sequence[Any], wrt: Sequence[bool], kept: Sequence[bool]
    ) -> tuple[Sequence[Any], Pullback]:
        from ffverify import reference

        of_chosen, points = restricted(fn, args, wrt, kept)
        results, pull = reference.vjp(of_chosen, *points)

        def pulled(cotangents: Sequence[Any]) -> list[Any]:
            return spread(pull(tuple(v for v in cotangents if v is not None)), wrt)

        return results, pulled

    def pushed(self, fn: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        from ffverify import reference

        return reference.jvp(fn, points, tangents)

    def hessian(self, fn: Function) -> Function:
        from ffverify import reference

        return reference.hessian(fn)


FRAMEWORK = _NumPy()
