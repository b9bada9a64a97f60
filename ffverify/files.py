"""Files that are written whole: whatever happens, there is the old one or the new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UsageError


def refuse_unwritable(path: Path) -> None:
    """Refuse a path before any work is done for it.

    Raises
    ------
    UsageError
        If its folder does not exist.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.absolute().parent}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; a crash leaves no half of it."""
    half = path.with_name(path.name + ".part")
    half.write_bytes(content)
    half.replace(path)


def write_json(path: Path, plain: Any) -> None:
    """Write plain data as JSON."""
    write_whole(path, (json.dumps(plain, indent=1, default=str) + "\n").encode())
