"""What is remembered of a function from one check to the next: ``memory_of(fn)``, to be added to.

It is remembered as long as the function lives. Functions that are made anew, as lambdas in tests and loops
are, count as one where their code is the same and what they have captured; of the last of these some are
remembered.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import weakref
from collections.abc import Callable, Collection, Sequence
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ffverify.frameworks.framework import framework_of

_KINDS = 32  # kinds of points, twice, that are remembered of one function
_ANEW = 64  # functions that are made anew
_SMALL = 2**16  # numbers of an array that may outlive those who captured it, in a program
_MOST = 64  # values in a tuple, a list or a dict
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype)
_OF_TORCH = ("<class 'torch.dtype'>", "<class 'torch.device'>")

Memory = dict[Any, Any]
_of_objects: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()
_made_anew: dict[Any, Memory] = {}  # the last used one last


def memory_of(fn: Callable[..., Any]) -> Memory:
    """Give what earlier checks of a function have left.

    What they have left of a method is its owner's: methods are made at every access.
    """
    owner: Any = fn.__self__ if inspect.ismethod(fn) else fn
    try:
        found = _of_objects.get(owner)
        if found is None:
            found = _of_objects[owner] = _of_code(owner)
    except TypeError:  # it has no weak references, or no hash
        return {}
    if len(found) > _KINDS:
        found.clear()
    return found


def _of_code(fn: Callable[..., Any]) -> Memory:
    """Give the memory of functions that are the same as one that may be made anew; a new one of others."""
    if not (isinstance(fn, functools.partial) or _is_local(fn)):
        return {}
    try:
        key = _identity(fn)
    except _NoIdentityError:
        return {}
    found = _made_anew[key] = _made_anew.pop(key, {})
    if len(_made_anew) > _ANEW:
        del _made_anew[next(iter(_made_anew))]
    return found


def _is_local(value: Any) -> bool:
    """Tell whether something is a function that is made again whenever what is around it runs."""
    return isinstance(value, FunctionType) and "<" in value.__qualname__


class _NoIdentityError(Exception):
    """Something may look the same and be another thing the next time."""


class _Same:
    """An object, which is not kept alive: nothing but itself is equal to it."""

    def __init__(self, value: Any) -> None:
        try:
            self._id, self._ref = id(value), weakref.ref(value)
        except TypeError:
            raise _NoIdentityError from None

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        mine = self._ref()
        return isinstance(other, _Same) and mine is not None and mine is other._ref()


def _identity(value: Any, *around: Any) -> Any:
    """Give what is equal of values that are the same: functions by their code and by what they have captured.

    Raises
    ------
    _NoIdentityError
        Of what cannot be referred to without keeping it alive, of large arrays, of what contains itself
        (``around``), and of functions that are part of no module.
    """
    if any(value is other for other in around):
        raise _NoIdentityError
    if isinstance(value, _PLAIN) or str(type(value)) in _OF_TORCH:
        return type(value), repr(value)
    inner = functools.partial(_parts, around=(*around, value))
    if isinstance(value, tuple | list):
        return type(value), inner(value)
    if isinstance(value, dict):
        return dict, inner([*value, *value.values()])
    if isinstance(value, functools.partial):
        return "partial", inner([value.func, value.args, value.keywords])
    if inspect.ismethod(value):
        return "method", inner([value.__self__, value.__func__])
    if _is_local(value):
        if vars(sys.modules.get(value.__module__, value)) is not value.__globals__:
            raise _NoIdentityError
        try:
            captured = [cell.cell_contents for cell in value.__closure__ or ()]
        except ValueError:  # one has nothing in it yet
            raise _NoIdentityError from None
        return (
            value.__code__,
            value.__module__,
            inner([value.__defaults__, value.__kwdefaults__, *captured]),
        )
    if framework_of(value).is_array(value) and math.prod(value.shape) > _SMALL:
        raise _NoIdentityError
    return _Same(value)


def _parts(values: Collection[Any], around: Sequence[Any]) -> tuple[Any, ...]:
    if len(values) > _MOST:
        raise _NoIdentityError
    return tuple(_identity(v, *around) for v in values)
