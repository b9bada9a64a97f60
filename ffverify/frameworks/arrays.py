"""Native arrays of NumPy, torch and JAX, seen alike: their numbers, formats, devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import FORMATS, Array, Format, dtype_name

from .framework import framework_of


def to_numpy(value: Any) -> Array:
    """Give a native array as an ndarray that holds the same numbers (bfloat16 as float32)."""
    return framework_of(value).to_numpy(value)


def like(template: Any, values: Array) -> Any:
    """Give a copy of an ndarray as a native array of a template's framework, dtype and device."""
    return framework_of(template).like(template, values)


def zeros_like(template: Any) -> Any:
    """Give zeros of a native array's framework, shape, dtype and device."""
    return framework_of(template).zeros_like(template)


def ones_like(template: Any) -> Any:
    """Give ones of a native array's framework, shape, dtype and device."""
    return like(template, np.ones(np.shape(template)))


def device_of(value: Any) -> str:
    """Give the kind of device on which a native array lies."""
    device = getattr(value, "device", None)  # torch's has a type, JAX's a platform
    return str(getattr(device, "type", None) or getattr(device, "platform", "cpu"))


def coarsest(values: Sequence[Any]) -> Format:
    """Give the format of the fewest bits among floating arrays (float64 if there are none)."""
    found = [FORMATS[dtype_name(v)] for v in values if dtype_name(v) in FORMATS]
    return min(found, key=lambda f: f.precision, default=FORMATS["float64"])
