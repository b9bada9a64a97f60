"""Code that shows a finding again: the call of gradcheck, its direction, and the error in mpmath alone."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffverify.exact.formats import FORMATS
from ffverify.frameworks.arrays import to_numpy
from ffverify.frameworks.declared import Declared
from ffverify.frameworks.framework import framework_of
from ffverify.frameworks.trees import flatten
from ffverify.gradients.function_under_test import Call
from ffverify.gradients.judge.numbers import Judged
from ffverify.verdicts.finding import Finding

_PASTED = 64  # elements of an array that is still written out


def code(call: Call, inputs: Any) -> str:
    """Give a check of these inputs as code to paste."""
    if call.given is not None:
        inputs = inputs[: call.given]
    arrays = [leaf.value for leaf in flatten(inputs).leaves if _is_array(leaf.value)]
    try:
        sizes = [to_numpy(a).size for a in arrays]
    except RuntimeError:  # of a device that a fault has put to an end
        return f"{call.by}({call.function}, …{call.options})  # its inputs cannot be read any more"
    if any(size > _PASTED for size in sizes):
        return (
            f"{call.by}({call.function}, report.inputs{call.options})"
            "  # arrays too long to paste; or report.replay()"
        )
    literals = literal(inputs)
    wide = re.search(r"jnp\.array\([^)]*dtype='float64'", literals)
    hint = "  # after jax.config.update('jax_enable_x64', True)" if wide else ""
    return f"{call.by}({call.function}, {literals}{call.options}){hint}"


def along(judged: Judged) -> str:
    """Give the cotangent, or the tangents, at which a number failed, as comments to paste."""
    if judged.mode.startswith("f"):
        named = zip(judged.point.subject.labels, judged.slope.directions, strict=True)
        what, parts = "tangent", {f"{label}: ": d for label, d in named if d is not None}
    else:
        results = judged.point.split(judged.slope.weights)
        what, parts = (
            "cotangent",
            {
                "" if k == 0 else f"of result {k}: ": to_numpy(v)
                for k, v in enumerate(results)
                if v is not None
            },
        )
    if sum(a.size for a in parts.values()) > _PASTED:
        return ""
    return f"# {what} {', '.join(f'{name}{a.tolist()}' for name, a in parts.items())}"


def script(found: Finding) -> str:
    """Give a few lines of Python that compute the error of a finding with mpmath alone.

    Of an exact number that lies between two that is the distance to the nearer one.

    Raises
    ------
    ValueError
        If the finding is no pair of numbers.
    """
    ends = re.findall(rf"(?<![\w.]){_NUMBER}", found.exact)
    try:
        computed = float(found.computed)
    except ValueError:
        ends = []
    if not 1 <= len(ends) <= 2:
        raise ValueError(f"no pair of numbers is compared in: {found.where}: {found.computed}")
    if "+/-" in found.exact:
        middle, radius = ends
        low, high = (f'mpf("{middle}") {sign} mpf("{radius}")' for sign in "-+")
    else:
        low, high = (f'mpf("{end}")' for end in (ends[0], ends[-1]))
    nearest = abs(float(ends[0])) if math.isfinite(float(ends[0])) else 0.0
    ulp = int(FORMATS[found.dtype].ulp_exponents(np.array([nearest]))[0])
    return (
        f"from mpmath import mp, mpf, nstr  # {found.where}\n"
        "mp.dps = 80\n"
        f"low, high = {low}, {high}\n"
        f'computed = mpf("{computed!r}")  # {computed.hex()}\n'
        f"print(nstr((min(computed - low, 0) + max(computed - high, 0)) / mpf(2) ** {ulp}, 10), "
        f"'ulps of {found.dtype}')\n"
    )


_NUMBER = r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?"


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and framework_of(value).is_array(value)


def _call(value: Any, names: Sequence[str]) -> str:
    parts = ", ".join(f"{name}={literal(getattr(value, name))}" for name in names)
    return f"{type(value).__qualname__}({parts})"


def literal(value: Any) -> str:
    """Give inputs, or a part of them, as code."""
    if isinstance(value, Declared):
        return f"ffverify.{value.kind}({literal(value.value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {literal(v)}' for k, v in value.items())}}}"
    if type(value) in (list, tuple):
        parts = ", ".join(map(literal, value))
        comma = "," if len(value) == 1 else ""
        return f"[{parts}]" if isinstance(value, list) else f"({parts}{comma})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _call(value, [f.name for f in dataclasses.fields(value) if f.init])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _call(value, value._fields)
    if not _is_array(value):
        name = getattr(value, "__name__", None)
        if name and (isinstance(value, np.ufunc) or getattr(value, "__module__", "") == "numpy"):
            return f"np.{name}"
        return getattr(value, "__qualname__", None) or repr(value)
    array = to_numpy(value)
    root = type(value).__module__.split(".")[0]
    numbers = re.sub(r"\b(nan|inf)\b", r"float('\1')", str(array.tolist()))
    shape = "" if array.size else f".reshape{array.shape}"
    if isinstance(value, np.ndarray | np.generic):
        return f"np.array({numbers}, dtype='{np.asarray(value).dtype.name}')" + shape
    if root.startswith("jax"):
        return f"jnp.array({numbers}, dtype='{value.dtype}')" + shape
    text = f"torch.tensor({numbers}, dtype={value.dtype}"
    return text + (")" if value.device.type == "cpu" else f", device='{value.device}')") + shape
