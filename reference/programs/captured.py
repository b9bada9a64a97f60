"""What a function depends on besides its arrays: everything that a compiled program has taken in.

`content` gives a hashable stand-in for a value that anything inside may change; `Captured` watches
the names, closures, containers, objects and arrays that a function brings along.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive
from ffverify.reference.engine.var import Var

LIMIT = 10_000  # values; what lies beyond in larger structures is known by identity alone
OURS = ("ffverify.", "numpy.", "scipy.")  # whose functions use no names that change
ATOMS = (
    bool, int, str, bytes, type(None), type(...), complex, range, type, np.dtype, enum.Enum,
    types.ModuleType, types.BuiltinFunctionType, np.ufunc, Primitive,
)  # fmt: skip


def content(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Return a hashable stand-in that is equal only for values that cannot be told apart.

    Containers, sets, functions and objects are known by what they hold, at the time of the call.
    """
    seen = {} if seen is None else seen
    if type(value) is Var:
        return "identity", id(value)
    if isinstance(value, float):
        return type(value), value.hex()  # tells -0.0 from 0.0
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    if isinstance(value, ATOMS):
        return type(value), value
    if id(value) in seen:
        return "again", seen[id(value)]
    seen[id(value)] = len(seen)
    if len(seen) > LIMIT:
        return "identity", id(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return type(value), value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, set | frozenset):
        return type(value), frozenset(content(item, seen) for item in value)
    parts = _parts(value)
    if parts is None:
        return "identity", id(value)
    return type(value), *(content(part, seen) for part in parts)


def _parts(value: Any) -> list[Any] | None:
    """Return what a container, function or object holds, or None where that is not known."""
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    if isinstance(value, types.FunctionType):
        return [value.__code__, *(part for *_, part in _names(value)), *_defaults(value)]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.CodeType):
        return None
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    held = [getattr(value, name, None) for name in slots if not name.startswith("__")]
    attributes = getattr(value, "__dict__", None)
    return [*held, attributes] if attributes is not None or held else None


def _defaults(function: types.FunctionType) -> list[Any]:
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _names(function: types.FunctionType) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (cell, None, value) for each closure, (namespace, name, value) for each global name."""
    for cell in function.__closure__ or ():
        try:
            yield cell, None, cell.cell_contents
        except ValueError:  # still empty
            continue
    # Not by its __module__, which functools.wraps sets to that of the wrapped function.
    if not str(function.__globals__.get("__name__")).startswith(OURS):
        for name in sorted(_global_names(function.__code__)):
            if name in function.__globals__:
                yield function.__globals__, name, function.__globals__[name]


def _global_names(code: types.CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


class Captured:
    """What a function brings along, as it was when this was made."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.cells: list[tuple[Any, Any]] = []
        self.globals: list[tuple[dict[str, Any], str, Any]] = []
        self.arrays: list[tuple[Any, Any]] = []
        self.others: list[tuple[Any, Any]] = []
        self._look_into(function, set())

    def _look_into(self, value: Any, seen: set[int]) -> None:
        if (
            type(value) is Var
            or id(value) in seen
            or isinstance(value, (*ATOMS, float, np.generic))
        ):
            return
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            for place, name, part in _names(value):
                if name is None:
                    self.cells.append((place, part))
                else:
                    self.globals.append((place, name, part))
                self._look_into(part, seen)
            for part in _defaults(value):
                self._look_into(part, seen)
        elif type(value) is np.ndarray and not value.dtype.hasobject:
            if value.flags.writeable or value.base is not None:
                self.arrays.append((value, value.copy("K")))
        elif isinstance(value, tuple | types.MethodType | functools.partial):
            for part in _parts(value) or ():
                self._look_into(part, seen)
        elif (found := content(value))[0] != "identity":
            self.others.append((value, found))

    def unchanged(self) -> bool:
        """Whether every name, container, object and array is as it was."""
        for cell, value in self.cells:
            if cell.cell_contents is not value:
                return False
        for namespace, name, value in self.globals:
            if namespace.get(name) is not value:
                return False
        for array, before in self.arrays:
            if not same_bytes(array, before):
                return False
        return all(content(value) == before for value, before in self.others)


def same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays of one shape and dtype have the same bytes (NaN is like itself)."""
    if a.dtype.itemsize % 8 == 0 and a.flags.c_contiguous and b.flags.c_contiguous and a.size:
        return bool((a.reshape(-1).view(np.int64) == b.reshape(-1).view(np.int64)).all())
    return bool(a.tobytes() == b.tobytes())
