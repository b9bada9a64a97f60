"""Plain NumPy code whose arrays begin as ``np.zeros(…)``, or pass through ``np.asarray``, on exact numbers.

An array that NumPy makes holds no exact numbers, and a function that fills one element by element has no
exact form as it is. ``making(fn)`` gives the same function with another meaning of ``np``: what it makes are
precise arrays while exact arithmetic runs it, and NumPy's else. Nothing of the caller's is changed: functions
are copied, with the names that they use. ``remake(layer)`` makes that of the methods of an object, a copy.
"""

from __future__ import annotations

import contextlib
import copy
import dis
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ffverify.exact.arrays import RUNNING, PreciseArray, arithmetic_of
from ffverify.exact.formats import is_floating


def making(fn: Any) -> Any:
    """Give a function that makes precise arrays while exact arithmetic runs it (see `Itself`).

    What it keeps in lists, dicts and sets by name is as before when it has run: no cache of the caller's
    holds exact numbers.
    """
    known: dict[int, Any] = {}
    made = _remade(fn, known)

    def run(*args: Any) -> Any:
        before = [(kept, copy.copy(kept)) for kept in known.values() if isinstance(kept, _KEEPING)]
        try:
            return made(*args)
        finally:
            for kept, copied in before:
                kept.clear()
                (kept.extend if isinstance(kept, list) else kept.update)(copied)

    return run


def _remade(value: Any, known: dict[int, Any]) -> Any:
    """Give what stands for a value that code uses by name; what was remade before is ``known`` by its id."""
    if id(value) in _STAND_INS:
        return _STAND_INS[id(value)]
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, _KEEPING):
        known[id(value)] = value
    if isinstance(value, FunctionType):
        return _copied(value, known)
    if isinstance(value, MethodType):
        return MethodType(_remade(value.__func__, known), value.__self__)
    if isinstance(value, partial):
        return partial(_remade(value.func, known), *value.args, **value.keywords)
    if callable(value) and "__wrapped__" in getattr(value, "__dict__", ()):
        known[id(value)] = wrapper = copy.copy(value)
        wrapper.__wrapped__ = _remade(value.__wrapped__, known)
        return wrapper
    return value.ffverify_making() if hasattr(value, "ffverify_making") else value


def remake(value: Any, known: dict[int, Any], seen: set[int] | None = None) -> None:
    """Let an object, and those that it holds, make precise arrays: their classes become other ones.

    Functions and classes that were remade before are ``known`` by their ids, as long as they live.
    """
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple | dict):
        for held in value.values() if isinstance(value, dict) else value:
            remake(held, known, seen)
    elif hasattr(value, "__dict__") and _is_own(type(value)):
        value.__class__ = _with_methods(type(value), known)
        for name, held in list(vars(value).items()):
            if isinstance(held, FunctionType | MethodType | partial):
                setattr(value, name, _remade(held, known))
            else:
                remake(held, known, seen)


def _with_methods(cls: type, known: dict[int, Any]) -> type:
    """Give a class with the same methods, which make precise arrays."""
    if id(cls) not in known:
        own = [base for base in reversed(cls.__mro__) if _is_own(base)]
        methods = {n: f for c in own for n, f in vars(c).items() if isinstance(f, FunctionType)}
        made = {n: _copied(f, known) for n, f in methods.items()}
        known[id(cls)] = type(cls.__name__, (cls,), {**made, "__slots__": ()})
    return known[id(cls)]  # type: ignore[no-any-return]  # a class


def _is_own(made: Any) -> bool:
    """Tell whether a class or a function is code of the caller's, or of ours around it."""
    root = (made.__module__ or "").partition(".")[0]
    return root == "__main__" or root not in _LIBRARIES


def _copied(fn: FunctionType, known: dict[int, Any]) -> FunctionType:
    codes = list(_codes(fn.__code__))
    stored = {i.argval for c in codes for i in dis.get_instructions(c) if i.opname in _STORING}
    if not _is_own(fn) or stored & fn.__globals__.keys():
        return fn
    ours = str(fn.__globals__.get("__package__")).startswith("ffverify.")  # its np is NumPy itself
    names = fn.__globals__ if ours else {**fn.__globals__}
    cells = [
        CellType() if free not in stored and _is_code(cell) else cell
        for free, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    ]
    made = FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__, tuple(cells))
    made.__kwdefaults__, made.__qualname__ = fn.__kwdefaults__, fn.__qualname__
    known[id(fn)] = made  # which may call itself
    for new, cell in zip(cells, fn.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # empty yet
            remade = _remade(cell.cell_contents, known)
            if new is not cell:
                new.cell_contents = remade
    for name in set() if ours else {n for c in codes for n in c.co_names} & fn.__globals__.keys():
        names[name] = _remade(fn.__globals__[name], known)
    return made


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Give the code of a function and of those within it."""
    yield code
    yield from itertools.chain.from_iterable(
        _codes(c) for c in code.co_consts if isinstance(c, CodeType)
    )


def _is_code(cell: CellType) -> bool:
    """Tell whether a cell holds what may be remade; one that is empty holds nothing yet."""
    try:
        value = cell.cell_contents
    except ValueError:
        return False
    return callable(value) or value is np or hasattr(value, "ffverify_making")


_KEEPING = (list, dict, set)
_STORING = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"))
# What holds no code of the caller's, and refers to much of its own.
_LIBRARIES = sys.stdlib_module_names | frozenset(
    str.split(
        "numpy scipy torch jax jaxlib autograd tensorflow numba sklearn pandas matplotlib flint mpmath"
    )
)


# ---------------------------------------------------------------------------------------------
# What NumPy makes
# ---------------------------------------------------------------------------------------------


def _making(function: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        values, arithmetic = function(*args, **kwargs), RUNNING.get().arithmetic
        if arithmetic is None or not is_floating(values):
            return values
        return arithmetic.array(values).astype(values.dtype)

    return make


def _taking(function: Callable[..., Any]) -> Callable[..., Any]:
    def take(values: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if not _is_exact(values):
            return function(values, dtype, **kwargs)
        same = dtype is None or np.dtype(dtype) == RUNNING.get().dtype
        if function is not np.array and same and isinstance(values, PreciseArray):
            return values  # itself, and no copy
        taken = _stacked(values)
        return taken if dtype is None else taken.astype(dtype)

    return take


def _is_exact(values: Any) -> bool:
    if isinstance(values, list | tuple):
        return any(map(_is_exact, values))
    return isinstance(values, PreciseArray)


def _stacked(values: Any) -> Any:
    """Give nested lists of numbers, exact ones among them, as one array, and an array as a copy."""
    if isinstance(values, PreciseArray):
        return values.copy()
    parts = [_stacked(v) if isinstance(v, list | tuple) else v for v in values]
    return np.stack([arithmetic_of(parts).array(part) for part in parts])


_BY_NAME = {
    name: _making(getattr(np, name)) for name in ("zeros", "ones", "full", "eye", "identity")
}
_BY_NAME |= {name: _taking(getattr(np, name)) for name in ("array", "asarray", "ascontiguousarray")}
_BY_NAME["empty"] = _BY_NAME["zeros"]


class _NumPy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _BY_NAME[name] if name in _BY_NAME else getattr(np, name)


_STAND_INS = {id(np): _NumPy("numpy")} | {id(getattr(np, n)): f for n, f in _BY_NAME.items()}
