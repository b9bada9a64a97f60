"""One line that shows a finding again: a claim, a backend, a dtype and its inputs in a token.

The token is compressed JSON with floats in hexadecimal, so it holds them exactly.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffverify.errors import UsageError


def line(claim: str, backend: str, dtype: str, inputs: Mapping[str, Any]) -> str:
    """Give the command that replays a claim on one input."""
    plain = [claim, backend, dtype, {name: _plain(value) for name, value in inputs.items()}]
    packed = zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 9)
    return "ffverify replay " + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def parse(token: str) -> tuple[str, str, str, dict[str, Any]]:
    """Give claim, backend, dtype and inputs of a token.

    Raises
    ------
    UsageError
        If the token is damaged.
    """
    try:
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        claim, backend, dtype, inputs = json.loads(zlib.decompress(packed))
        return claim, backend, dtype, {name: _restored(value) for name, value in inputs.items()}
    except (binascii.Error, zlib.error, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"token {token[:20]!r}… is damaged ({error}): copy the whole line of the finding"
        ) from error


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
    if "float" in value:
        return float.fromhex(value["float"])
    held = [float.fromhex(v) if isinstance(v, str) else v for v in value["values"]]
    return np.array(held, dtype=value["dtype"]).reshape(value["shape"])
