"""One line that shows a finding again: a claim, a backend, a dtype and its inputs in a token.

The token is compressed JSON with floats in hexadecimal, so it holds them exactly. What it may be is checked
before anything is done with it; that a module is imported only its caller says, with ``--backend``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from ffverify.errors import UsageError
from ffverify.exact.formats import FORMATS

from .backends import is_known

_LARGEST = 2**24  # bytes that a token may unpack to: a hundred times what claims draw
_FLOATS = ("float16", "float32", "float64")
_DTYPES = (
    *_FLOATS,
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
)


def line(claim: str, backend: str, dtype: str, inputs: Mapping[str, Any]) -> str:
    """Give the command that replays a claim on one input."""
    plain = [claim, backend, dtype, {name: _plain(value) for name, value in inputs.items()}]
    packed = zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 9)
    token = base64.urlsafe_b64encode(packed).decode().rstrip("=")
    named = "" if is_known(backend) else f" --backend {backend}"
    return f"ffverify replay{named} {token}"


def parse(token: str) -> tuple[str, str, str, dict[str, Any]]:
    """Give claim, backend, dtype and inputs of a token.

    Raises
    ------
    UsageError
        If the token is damaged, or too large.
    """
    try:
        claim, backend, dtype, inputs = _checked(
            json.loads(_unpacked(token), parse_constant=_refuse)
        )
        return claim, backend, dtype, {name: _restored(value) for name, value in inputs.items()}
    except (binascii.Error, zlib.error, ValueError, RecursionError) as error:
        raise UsageError(
            f"token {token[:20]!r}… is damaged ({error}): copy the whole line of the finding"
        ) from error


def _unpacked(token: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", token, re.ASCII):
        raise ValueError("it has other signs than letters, digits, - and _")
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(
        base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), _LARGEST
    )
    if unpacking.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("it does not end where its content does")
    return content


def _checked(said: Any) -> tuple[str, str, str, dict[str, Any]]:
    names = ("a claim", "a backend", "a format", "inputs by name")
    if not isinstance(said, list) or len(said) != len(names):
        raise ValueError(f"it is not a list of {', '.join(names)}")
    for what, part, kind in zip(names, said, (str, str, str, dict), strict=True):
        if not isinstance(part, kind):
            raise ValueError(f"{part!r:.40} is not {what}")  # noqa: TRY004 - the token's value, no argument's type
    claim, backend, dtype, inputs = said
    if dtype not in FORMATS:
        raise ValueError(f"{dtype!r:.40} is not a format: {', '.join(FORMATS)}")
    return claim, backend, dtype, inputs


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        flat = value.ravel().tolist()
        held = [v.hex() for v in flat] if np.issubdtype(value.dtype, np.floating) else flat
        return {"dtype": value.dtype.name, "shape": value.shape, "values": held}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"float"}:
        return _float(value["float"])
    if set(value) != {"dtype", "shape", "values"}:
        raise ValueError(f"an input has {', '.join(value)!r:.40}")
    dtype, shape, held = value["dtype"], value["shape"], value["values"]
    if dtype not in _DTYPES:
        raise ValueError(f"{dtype!r:.40} is not a dtype of arrays")
    counts = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if not counts or not isinstance(held, list) or math.prod(shape) != len(held) or len(shape) > 8:
        raise ValueError(f"an array of shape {shape!r:.40} does not have its numbers")
    numbers = [_float(v) for v in held] if dtype in _FLOATS else held
    if dtype not in _FLOATS and any(
        type(v) is not (bool if dtype == "bool" else int) for v in held
    ):
        raise ValueError(f"an array of {dtype} has something else in it")
    try:
        with np.errstate(over="ignore"):
            array = np.array(numbers, dtype=dtype).reshape(shape)
    except OverflowError as error:
        raise ValueError(f"a number is no {dtype}") from error
    if any(
        not math.isnan(v) and a != v for a, v in zip(array.ravel().tolist(), numbers, strict=True)
    ):
        raise ValueError(f"a number is no {dtype}")
    return array


def _float(text: Any) -> float:
    try:
        return float.fromhex(text)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{text!r:.40} is no float in hexadecimal") from error
