"""What a project says once, in its ``pyproject.toml``, in place of options at every call.

::

[tool.ffverify]
backend = ["mylib.ops"]
known = ["known.toml"]
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ffverify.conformance.known_defects import refuse_unknown
from ffverify.errors import UsageError

# Key → the option's parameter, and the type of one value (a list of them where it is repeatable).
_KEYS: dict[str, tuple[str, type, bool]] = {
    "backend": ("backends", str, True),
    "spec": ("specs", str, True),
    "dtype": ("dtypes", str, True),
    "known": ("known", str, True),
    "max-examples": ("max_examples", int, False),
    "seed": ("seed", int, False),
    "workers": ("workers", int, False),
    "fail-on-known": ("fail_on_known", bool, False),
}


def of_project(folder: Path) -> dict[str, Any]:
    """Give the parameters of `ffverify verify` that the nearest ``pyproject.toml`` sets.

    Raises
    ------
    UsageError
        If it is no TOML, or sets what is not known, or to what it cannot be.
    """
    near = (f / "pyproject.toml" for f in (folder, *folder.parents))
    path = next((p for p in near if p.is_file()), None)
    if path is None:
        return {}
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    tool = held.get("tool", {})
    own = tool.get("ffverify", {}) if isinstance(tool, dict) else {}
    if not isinstance(own, dict):
        raise UsageError(f"{path}: write the heading [tool.ffverify]")
    where = f"{path}, [tool.ffverify]"
    refuse_unknown(own, list(_KEYS), where)
    made: dict[str, Any] = {}
    for key, value in own.items():
        parameter, kind, many = _KEYS[key]
        values = value if many and isinstance(value, list) else [value]
        if not all(type(v) is kind for v in values):
            what = {str: "a text", int: "a whole number", bool: "true or false"}[kind]
            raise UsageError(f"{where}: {key} = {value!r} is not {what}{' or a list' * many}")
        if key == "known":
            values = [str(path.parent / v) for v in values]
        made[parameter] = values if many else value
    return made
