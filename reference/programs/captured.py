"""What a function depends on besides its arrays: everything that a compiled program has taken in.

`content` gives a hashable stand-in for a value that anything inside may change; `Captured` watches
the names, closures, containers, objects and arrays that a function brings along.
"""

from __future__ import annotations

import array
import collections
import contextvars
import dis
import enum
import functools
import random
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
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


PYTHON = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))  # where its own code is
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
OWN_GENERATORS = [getattr(f, "__self__") for f in (np.random.get_state, random.random)]  # noqa: B009  # as builtin methods have


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


def classes_in(key: Any) -> set[type]:
    """Return the classes of what stand-ins stand for, theirs and those of what they hold."""
    if isinstance(key, type):
        return {key}
    return set[type]().union(*map(classes_in, key)) if isinstance(key, tuple | frozenset) else set()


def _parts(value: Any) -> list[Any] | None:
    """Return what a container, function or object holds, or None where that is not known."""
    if isinstance(value, dict | types.MappingProxyType):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple | np.ndarray | collections.deque | bytearray | array.array):
        return list(value)
    if isinstance(value, memoryview):
        return [value.tobytes()]
    if isinstance(value, contextvars.ContextVar):
        return [value.get(None)]
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
    mentioned = sorted(_mentioned(function))
    for name in mentioned:
        if name in function.__globals__:
            yield function.__globals__, name, function.__globals__[name]
    for name in mentioned and sorted(_imported(function.__code__)):
        if name in sys.modules:
            yield sys.modules, name, sys.modules[name]


def _is_own(file: str) -> bool:
    """Whether code is the user's own and may change, as that of Python and of installed packages does not."""
    return not (file.startswith(PYTHON) or "site-packages" in file or "dist-packages" in file)


def _mentioned(function: types.FunctionType) -> set[str]:
    """Return the names of globals and attributes in the code; of ours and NumPy's none, which stay."""
    # Not by its __module__, which functools.wraps sets to that of the wrapped function.
    if str(function.__globals__.get("__name__")).startswith(OURS):
        return set()
    return _names_in(function.__code__)


@functools.lru_cache(maxsize=4096)
def _names_in(code: types.CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


@functools.lru_cache(maxsize=4096)  # reading instructions takes long, and code does not change
def _imported(code: types.CodeType) -> set[str]:
    """Return the names of what the code itself imports."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"}
    return own.union(*map(_imported, inner))


class Captured:
    """What a function and the classes of its arguments bring along, as it was when this was made."""

    def __init__(self, function: Callable[..., Any], classes: Iterable[type] = ()) -> None:
        self.mentioned: set[str] = set()  # names in the code of all functions that are reached
        known = -1
        while (
            len(self.mentioned) > known
        ):  # these say which attributes of classes and modules count
            known = len(self.mentioned)
            self.cells: list[tuple[Any, Any]] = []
            self.named: list[tuple[Mapping[str, Any], str, Any]] = []
            self.functions: list[tuple[types.FunctionType, types.CodeType, Any]] = []
            self.arrays: list[tuple[Any, Any]] = []
            self.generators: list[Any] = []
            self.others: list[tuple[Any, Any]] = []
            self.seen: set[int] = set()
            for value in (function, *classes):
                self._look_into(value)

    def _look_into(self, value: Any) -> None:
        if type(value) is Var or id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, types.ModuleType):
            self._look_into_names(value.__name__, vars(value))
        elif isinstance(value, type):
            for kind in (*value.__mro__, *type.mro(type(value))):
                self._look_into_names(kind.__module__, vars(kind))
        elif isinstance(value, types.BuiltinFunctionType):
            self._look_into(value.__self__)
        elif isinstance(value, (*ATOMS, float, np.generic)):
            return
        elif isinstance(value, types.FunctionType):
            self.functions.append((value, value.__code__, value.__defaults__))
            if _is_own(value.__code__.co_filename):
                self.mentioned |= _mentioned(value)
            for place, name, part in _names(value):
                if name is None:
                    self.cells.append((place, part))
                else:
                    self.named.append((place, name, part))
                self._look_into(part)
            for part in _defaults(value):
                self._look_into(part)
        elif type(value) is np.ndarray and not value.dtype.hasobject:
            if value.flags.writeable or value.base is not None:
                self.arrays.append((value, value.copy("K")))
        elif isinstance(value, (tuple, types.MethodType, functools.partial)):
            for part in _parts(value) or ():
                self._look_into(part)
        elif isinstance(value, staticmethod | classmethod):
            self._look_into(value.__func__)
        elif isinstance(value, property | functools.cached_property):
            self._look_into(value.fget if isinstance(value, property) else value.func)
        elif isinstance(value, GENERATORS):
            self.generators.append(value)
        else:
            found = content(value)
            if found[0] != "identity":
                self.others.append((value, found))
            self._look_into(type(value))

    def _look_into_names(self, module: str, namespace: Mapping[str, Any]) -> None:
        """Look at what the code mentions of a class or module, and at what Python calls by itself."""
        file = getattr(sys.modules.get(module), "__file__", None)
        if (
            module in sys.builtin_module_names
            or f"{module}.".startswith(OURS)
            or not _is_own(file or "")
        ):
            return
        for name, value in [*namespace.items()]:
            implicit = name.startswith("__") and isinstance(value, types.FunctionType)
            if implicit or name in self.mentioned:
                self.named.append((namespace, name, value))
                self._look_into(value)

    def unchanged(self) -> bool:
        """Whether every name, container, object and array is as it was."""
        for cell, value in self.cells:
            if cell.cell_contents is not value:
                return False
        for namespace, name, value in self.named:
            if namespace.get(name) is not value:
                return False
        for function, code, defaults in self.functions:
            if function.__code__ is not code or function.__defaults__ is not defaults:
                return False
        for held, before in self.arrays:
            if not same_bytes(held, before):
                return False
        return all(content(value) == before for value, before in self.others)

    def random_states(self) -> Any:
        """Return the states of NumPy's and Python's own generators, and of those that are brought along."""
        return [content(_state(g)) for g in (*OWN_GENERATORS, *self.generators)]


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def same_bytes(a: Any, b: Any) -> bool:
    """Whether two arrays of one shape and dtype have the same bytes (NaN is like itself)."""
    if a.dtype.itemsize % 8 == 0 and a.flags.c_contiguous and b.flags.c_contiguous and a.size:
        return bool((a.reshape(-1).view(np.int64) == b.reshape(-1).view(np.int64)).all())
    return bool(a.tobytes() == b.tobytes())
