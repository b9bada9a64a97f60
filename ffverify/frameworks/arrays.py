"""Native arrays of NumPy, torch and JAX, seen alike: their numbers, dtypes, floats or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact import formats
from ffverify.exact.formats import Array, Format

LONG = np.dtype(np.longdouble).name  # wider than any format under test: for differences only


def framework_of(inputs: Sequence[Any], fn: Any = None) -> str:
    """Give "torch" or "jax" if any input (or the function, a module) is theirs, else "numpy"."""
    for value in (*inputs, fn):
        root = type(value).__module__.split(".")[0]
        if root == "torch" or any(c.__module__.startswith("torch.nn") for c in type(value).__mro__):
            return "torch"
        if root.startswith("jax") and not callable(value):
            return "jax"
    return "numpy"


def to_numpy(value: Any) -> Array:
    """Give a native array as an ndarray that holds the same numbers (bfloat16 as float32)."""
    if framework_of([value]) == "torch":
        import torch

        held = value.detach().cpu().resolve_neg()
        return (held.float() if held.dtype == torch.bfloat16 else held).numpy()  # type: ignore[no-any-return]
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def like(template: Any, array: Array) -> Any:
    """Give a copy of an ndarray as a native array of a template's framework, dtype and device."""
    kind = framework_of([template])
    if kind == "torch":
        import torch

        return torch.from_numpy(np.array(array)).to(dtype=template.dtype, device=template.device)
    if kind == "jax":
        import jax.numpy as jnp

        return jnp.asarray(array, dtype=template.dtype)
    return np.array(array, dtype=np.asarray(template).dtype)


def as_computed(value: Any) -> Any:
    """Give a native array as its framework sees it: XLA takes subnormals of float32's range for zeros."""
    if framework_of([value]) != "jax" or dtype_name(value) not in (
        "float64",
        "float32",
        "bfloat16",
    ):
        return value
    import jax.numpy as jnp

    array = np.array(value)
    lost = (array != 0) & (np.abs(array) < float(jnp.finfo(array.dtype).tiny))  # type: ignore[no-untyped-call]
    return jnp.asarray(np.where(lost, np.zeros_like(array), array)) if lost.any() else value


def zeros_like(template: Any) -> Any:
    """Give zeros of a native array's shape, dtype and device."""
    if framework_of([template]) == "torch":
        import torch

        return torch.zeros_like(template)
    return template * 0 if not isinstance(template, np.ndarray) else np.zeros_like(template)


def dtype_name(value: Any) -> str:
    """Give a native array's dtype by name, as in ``"bfloat16"``."""
    dtype = getattr(value, "dtype", None)
    return (np.asarray(value).dtype.name if dtype is None else str(dtype)).removeprefix("torch.")


def is_floating(value: Any) -> bool:
    """Tell whether a native array holds floats."""
    return dtype_name(value) in formats.FORMATS or dtype_name(value) == LONG


def coarsest(values: Sequence[Any]) -> Format:
    """Give the format of the fewest bits among floating arrays (float64 if there are none)."""
    found = [formats.FORMATS[dtype_name(v)] for v in values if dtype_name(v) in formats.FORMATS]
    return min(found, key=lambda f: f.precision, default=formats.FORMATS["float64"])
