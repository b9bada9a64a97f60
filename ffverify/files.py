"""Files that are written whole: whatever happens, there is the old one or the new one, and JSON is JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import UsageError


def refuse_unwritable(path: Path) -> None:
    """Refuse a path before any work is done for it.

    Raises
    ------
    UsageError
        If it cannot be written, and why.
    """
    with _said(path):
        target, mode = _target(path)
        if mode is None or stat.S_ISREG(mode):
            with _beside(target):
                pass


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, through links, with the mode that it had; a crash leaves no half of it.

    What is no regular file, as a pipe or a terminal, is written to as it is.

    Raises
    ------
    UsageError
        If it cannot be written: then the old file is as it was.
    """
    with _said(path):
        target, mode = _target(path)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb", buffering=0) as device:
                device.write(content)
            return
        with _beside(target) as half:
            half.write_bytes(content)
            if mode is not None:
                half.chmod(stat.S_IMODE(mode))
            half.replace(target)


def write_json(path: Path, data: Any) -> None:
    """Write data as JSON, `plain` as it is there."""
    write_whole(path, (json.dumps(plain(data), indent=1, allow_nan=False) + "\n").encode())


def plain(value: Any) -> Any:
    """Give data as JSON can have it: numbers that are not finite, and what it does not know, as texts."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Say what the system has against a file."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; links in a circle
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot write {str(path)!r}: {reason}") from error


def _target(path: Path) -> tuple[Path, int | None]:
    """Give the file that a path means, links followed, and its mode; None: there is none yet."""
    target = path.resolve()
    if not target.parent.is_dir():
        raise OSError(f"there is no folder {target.parent}")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not os.access(target, os.W_OK):
        raise OSError("it may not be written to")
    return target, mode


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Give a new, empty file in the same folder, under a name that nothing has; it does not stay."""
    half = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.part")
    half.touch(exist_ok=False)  # with the mode that the user's mask gives to new files
    try:
        yield half
    finally:
        half.unlink(missing_ok=True)
