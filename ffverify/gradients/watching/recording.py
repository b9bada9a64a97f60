"""Record the calls of custom derivatives that other code makes.

>>> from ffverify.gradients.watching.checking import check
>>> from ffverify.gradients.watching.recording import Watch
>>> with Watch() as watch:
...     pass  # whatever calls functions with derivatives of their own
>>> check(watch)
[]

A watched call behaves as before: its arguments are copied before it, a few per function, shapes and dtypes,
and whatever goes wrong in that is no matter of the call. Frameworks are watched from when they are imported,
and never imported for it.
"""

from __future__ import annotations

import fnmatch
import importlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from ffverify.exact.formats import FORMATS
from ffverify.frameworks.calls import Custom, Leaf

from .imports import Finder

FRAMEWORKS = ("torch", "jax")
KEPT = 3  # calls of a function with the same shapes and dtypes
KINDS = 8  # shapes and dtypes of a function
LARGEST = 20_000  # elements of a call: more is judged in minutes, not in seconds


@dataclass(frozen=True)
class Constant:
    """An argument that is left as it is, arrays in it included."""

    value: Any


@dataclass(frozen=True)
class Call:
    """One call as it was made: its arrays, and how to make it again with others in their place."""

    custom: Custom
    rebuild: Callable[[Sequence[Any]], Any]
    leaves: tuple[Any, ...]
    places: tuple[int, ...]
    looks: tuple[Leaf, ...]
    arrays: tuple[Any, ...]  # None where it was traced and had no numbers

    @property
    def traced(self) -> bool:
        """Whether an array had no numbers."""
        return any(a is None for a in self.arrays)

    @property
    def size(self) -> int:
        """How many numbers its arrays have."""
        return numbers_in(self.looks)

    @cached_property
    def parameters(self) -> list[Leaf]:
        """The parameters that it is differentiated by, as a module is."""
        of = calls_of(self.custom.framework)
        return of.parameters(self.custom.call) if self.custom.made else []

    @property
    def dtype(self) -> str:
        """The format of its first floating array, or else parameter."""
        looks = (*self.looks, *self.parameters)
        return next((look.dtype for look in looks if look.dtype in FORMATS), "")

    def given(self, *arrays: Any) -> tuple[list[Any], dict[str, Any]]:
        """Give positional and keyword arguments with these arrays in them."""
        leaves = list(self.leaves)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        args, kwargs = self.rebuild(leaves)
        return [a.value if isinstance(a, Constant) else a for a in args], kwargs


@dataclass
class Seen:
    """What was seen of one function."""

    custom: Custom
    calls: int = 0
    kept: dict[Any, list[Call]] = field(default_factory=dict)
    wanted: set[int] = field(default_factory=set)
    enough: set[Any] = field(default_factory=set)  # what calls look like of which no more is kept


class Watch:
    """Watches while it is entered, or from `begin` to `end`.

    Parameters
    ----------
    modules
        Names of torch modules to watch as well (* and ? stand for anything).
    but
        Names of functions that are left alone, such as straight-through estimators.
    packages
        Roots of packages whose functions are nobody's own.

    Attributes
    ----------
    seen
        What was seen, by kind and name of the function.
    seconds
        How long recording took.
    """

    def __init__(
        self,
        *,
        modules: Sequence[str] = (),
        but: Sequence[str] = (),
        packages: Sequence[str] = (*FRAMEWORKS, "ffverify"),
    ) -> None:
        self._modules, self._but, self._packages = modules, but, packages
        self.seen: dict[tuple[str, str], Seen] = {}
        self._met: set[tuple[str, str]] = set()  # those that are left alone too
        self._ends: list[Callable[[], None]] = []
        self._watching = False
        self.seconds = 0.0

    def begin(self) -> None:
        """Watch from now on."""
        self._watching = True
        for name in FRAMEWORKS:
            if name in sys.modules:
                self._begin(name)
        self._finder = Finder(FRAMEWORKS, self._begin)
        sys.meta_path.insert(0, self._finder)

    def end(self) -> None:
        """Watch no more."""
        if not self._watching:
            return
        self._watching = False
        sys.meta_path.remove(self._finder)
        for end in reversed(self._ends):
            end()
        self._ends.clear()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.end()

    def _begin(self, name: str) -> None:
        if self._watching:
            self._ends.append(calls_of(name).watch(self._see, self._modules))

    def _own(self, name: str) -> bool:
        return name.partition(".")[0] not in self._packages and not any(
            is_called(name, pattern) for pattern in self._but
        )

    def _see(
        self, custom: Custom, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], None] | None:
        """Copy the arguments of a call; give what keeps them once it has come back."""
        if not self._watching:
            return None
        began = time.perf_counter()
        try:
            seen = self.seen.get((custom.kind, custom.name))
            if seen is None:
                self._met.add((custom.kind, custom.name))
                if not self._own(custom.name):
                    return None
                seen = self.seen.setdefault((custom.kind, custom.name), Seen(custom))
            seen.calls += 1
            at_a_glance = tuple(map(_glance, (*args, *kwargs.values())))
            if at_a_glance in seen.enough:
                return None
            of = calls_of(custom.framework)
            fixed = [Constant(a) if i in custom.constants else a for i, a in enumerate(args)]
            leaves, rebuild = of.flatten((fixed, kwargs))
            looks = {i: look for i, value in enumerate(leaves) if (look := of.leaf(value))}
            seen.wanted |= {i for i, look in looks.items() if look.wanted}
            traced = any(look.take is None for look in looks.values())
            key = (traced, *((i, look.shape, look.dtype) for i, look in looks.items()))
            enough = (
                len(seen.kept) >= KINDS if key not in seen.kept else len(seen.kept[key]) >= KEPT
            )
            size = numbers_in(looks.values())
            if enough or not looks or (size > LARGEST and seen.kept):
                seen.enough.add(at_a_glance)
                return None
            arrays = tuple(
                look.take() if look.take is not None and size <= LARGEST else None
                for look in looks.values()
            )
            target = replace(custom, call=custom.call()) if custom.made else custom
            call = Call(
                target,
                rebuild,
                tuple(None if i in looks else value for i, value in enumerate(leaves)),
                tuple(looks),
                tuple(looks.values()),
                arrays,
            )
            return lambda: seen.kept.setdefault(key, []).append(call)
        finally:
            self.seconds += time.perf_counter() - began

    def never_ran(self) -> list[tuple[str, str]]:
        """Give kind and name of the functions that were defined and that no call was seen of."""
        found = {pair for pair in _defined() if self._own(pair[1])}
        return sorted(pair for pair in found - set(self.seen) if not _installed(pair[1]))

    def unmatched(self) -> list[tuple[str, str]]:
        """Give the names to leave alone or to watch as well that nothing has: what they are for, and each."""
        modules = [name for kind, name in self._met if kind == "torch.nn.Module"]
        anything = [name for _, name in {*self._met, *_defined()}]
        asked = [("module", p, modules) for p in self._modules]
        asked += [("but", p, anything) for p in self._but]
        return [(to, p) for to, p, names in asked if not any(is_called(n, p) for n in names)]


def _defined() -> set[tuple[str, str]]:
    """Give kind and name of every function with a derivative of its own that has been defined."""
    return {pair for name in FRAMEWORKS if name in sys.modules for pair in calls_of(name).defined()}


def is_called(name: str, pattern: str) -> bool:
    """Tell whether a function's name, or that without its module, is one of a pattern."""
    return any(fnmatch.fnmatchcase(n, pattern) for n in (name, short(name)))


def _glance(arg: Any) -> tuple[Any, ...]:
    """Give what tells calls apart, at the cost of microseconds."""
    looks = (getattr(arg, name, None) for name in ("shape", "dtype", "requires_grad"))
    return type(arg), *looks


def _installed(name: str) -> bool:
    """Tell whether a function's package is installed beside others, and so nobody's here to be tested."""
    root = sys.modules.get(name.partition(".")[0])
    folder = str(getattr(root, "__file__", None) or "")
    return "site-packages" in folder or "dist-packages" in folder


def numbers_in(looks: Iterable[Leaf]) -> int:
    """Count the numbers of arrays."""
    return sum(math.prod(look.shape) for look in looks)


def short(name: str) -> str:
    """Give a function's name without its module."""
    return name.rpartition(".")[2]


def calls_of(name: str) -> Any:
    """Give what sees the calls of a framework."""
    return importlib.import_module(f"ffverify.frameworks.{name}.calls")
