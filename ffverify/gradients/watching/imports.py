"""Have a package seen when it is imported, before anybody can use it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Finder(MetaPathFinder):
    """Tells of each of some packages, once it has been imported."""

    def __init__(self, names: Collection[str], begin: Callable[[str], None]) -> None:
        self._names, self._begin = names, begin

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find what another finder does, for one of the packages."""
        if name not in self._names:
            return None
        for finder in _others(self):
            spec: ModuleSpec | None = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self._begin)
                return spec
        return None


def _others(own: MetaPathFinder) -> Iterator[Any]:
    yield from (f for f in sys.meta_path if f is not own and hasattr(f, "find_spec"))


class _Loader(Loader):
    """Loads a module as its own loader does, and tells of it."""

    def __init__(self, inner: Loader, begin: Callable[[str], None]) -> None:
        self._inner, self._begin = inner, begin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._inner
        module.__loader__ = self._inner
        self._inner.exec_module(module)
        self._begin(module.__name__)
