"""Watch the custom derivatives that other code runs, and check them afterwards at the inputs they had.

>>> from ffverify.gradients.watch import Watch
>>> with Watch() as watch:
...     pass  # whatever calls functions with derivatives of their own
>>> watch.check()
[]

A watched call behaves as before: its arguments are copied before it, a few per function, shapes and dtypes,
and whatever goes wrong in that is no matter of the call. Frameworks are watched from when they are imported,
and never imported for it.
"""

from __future__ import annotations

import fnmatch
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from ffverify import strategies
from ffverify.exact.formats import FORMATS
from ffverify.frameworks.calls import Custom, Leaf
from ffverify.frameworks.framework import framework

from .gradcheck import gradcheck
from .report import GradcheckReport

FRAMEWORKS = ("torch", "jax")
KEPT = 3  # calls of a function with the same shapes and dtypes
KINDS = 8  # shapes and dtypes of a function
LARGEST = 20_000  # elements of a call: more is judged in minutes, not in seconds


@dataclass(frozen=True)
class _Constant:
    """An argument that is left as it is, arrays in it included."""

    value: Any


@dataclass(frozen=True)
class _Call:
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
        return sum(int(np.prod(look.shape)) for look in self.looks)

    @property
    def dtype(self) -> str:
        """The format of its first floating array."""
        return next((look.dtype for look in self.looks if look.dtype in FORMATS), "")

    def given(self, *arrays: Any) -> tuple[list[Any], dict[str, Any]]:
        """Give positional and keyword arguments with these arrays in them."""
        leaves = list(self.leaves)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        args, kwargs = self.rebuild(leaves)
        return [a.value if isinstance(a, _Constant) else a for a in args], kwargs


@dataclass(frozen=True)
class Checked:
    """What came of one function in one format.

    Attributes
    ----------
    custom, dtype
        The function and the format.
    report
        The gravest report of gradcheck; None where nothing could be checked.
    calls, points
        How many calls were seen, and at how many inputs it was checked.
    drawn
        Whether inputs had to be drawn, since all calls were traced and had no numbers.
    left_out
        Inputs that it does not mean to differentiate by, or why it was not checked.
    """

    custom: Custom
    dtype: str
    report: GradcheckReport | None
    calls: int
    points: int
    drawn: bool
    left_out: str


@dataclass
class _Seen:
    """What was seen of one function."""

    custom: Custom
    calls: int = 0
    kept: dict[Any, list[_Call]] = field(default_factory=dict)
    wanted: set[int] = field(default_factory=set)
    enough: set[Any] = field(default_factory=set)  # what calls look like of which no more is kept


class Watch:
    """Watches while it is entered; `check` judges what was seen.

    Parameters
    ----------
    modules
        Names of torch modules to watch as well (* and ? stand for anything).
    but
        Names of functions that are left alone, such as straight-through estimators.
    packages
        Roots of packages whose functions are nobody's own.
    """

    def __init__(
        self,
        *,
        modules: Sequence[str] = (),
        but: Sequence[str] = (),
        packages: Sequence[str] = (*FRAMEWORKS, "ffverify"),
    ) -> None:
        self._modules, self._but, self._packages = modules, but, packages
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._ends: list[Callable[[], None]] = []
        self._watching = False
        self.seconds = 0.0  # spent on recording

    def begin(self) -> None:
        """Watch from now on."""
        self._watching = True
        for name in FRAMEWORKS:
            if name in sys.modules:
                self._begin(name)
        self._finder = _Finder(self._begin)
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
            self._ends.append(_calls(name).watch(self._see, self._modules))

    def _own(self, name: str) -> bool:
        return name.partition(".")[0] not in self._packages and not any(
            fnmatch.fnmatchcase(n, pattern) for pattern in self._but for n in (name, _short(name))
        )

    def _see(
        self, custom: Custom, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callable[[], None] | None:
        """Copy the arguments of a call; give what keeps them once it has come back."""
        if not self._watching:
            return None
        began = time.perf_counter()
        try:
            seen = self._seen.get((custom.kind, custom.name))
            if seen is None:
                if not self._own(custom.name):
                    return None
                seen = self._seen.setdefault((custom.kind, custom.name), _Seen(custom))
            seen.calls += 1
            at_a_glance = tuple(map(_glance, args))
            if at_a_glance in seen.enough:
                return None
            of = _calls(custom.framework)
            fixed = [_Constant(a) if i in custom.constants else a for i, a in enumerate(args)]
            leaves, rebuild = of.flatten((fixed, kwargs))
            looks = {i: look for i, value in enumerate(leaves) if (look := of.leaf(value))}
            seen.wanted |= {i for i, look in looks.items() if look.wanted}
            traced = any(look.take is None for look in looks.values())
            key = (traced, *((i, look.shape, look.dtype) for i, look in looks.items()))
            enough = (
                len(seen.kept) >= KINDS if key not in seen.kept else len(seen.kept[key]) >= KEPT
            )
            size = sum(int(np.prod(look.shape)) for look in looks.values())
            if enough or not looks or (size > LARGEST and seen.kept):
                seen.enough.add(at_a_glance)
                return None
            arrays = tuple(
                look.take() if look.take is not None and size <= LARGEST else None
                for look in looks.values()
            )
            target = replace(custom, call=custom.call()) if custom.made else custom
            call = _Call(
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
        loaded = [n for n in FRAMEWORKS if n in sys.modules]
        found = {pair for name in loaded for pair in _calls(name).defined() if self._own(pair[1])}
        return sorted(pair for pair in found - set(self._seen) if not _installed(pair[1]))

    def check(
        self,
        *,
        seconds: float = 60.0,
        search: int = 0,
        seed: int = 0,
        told: Callable[[str], None] = lambda _name: None,
    ) -> list[Checked]:
        """Check every function at the inputs that it had, and at ``search`` more around them.

        What ``seconds`` do not suffice for is given as not checked; ``told`` is called with each name.
        """
        until = time.monotonic() + seconds
        made = []
        for seen in self._seen.values():
            told(seen.custom.name)
            by_dtype: dict[str, list[_Call]] = {}
            for calls in seen.kept.values():
                for call in calls:
                    by_dtype.setdefault(call.dtype, []).append(call)
            for dtype, calls in (by_dtype or {"": []}).items():
                smallest_first = sorted(calls, key=lambda c: c.size)
                made.append(_checked(seen, dtype, smallest_first, until, search, seed))
        return made


def _glance(arg: Any) -> tuple[Any, ...]:
    """Give what tells calls apart, at the cost of microseconds."""
    looks = (getattr(arg, name, None) for name in ("shape", "dtype", "requires_grad"))
    return type(arg), *looks


def _installed(name: str) -> bool:
    """Tell whether a function's package is installed beside others, and so nobody's here to be tested."""
    root = sys.modules.get(name.partition(".")[0])
    folder = str(getattr(root, "__file__", None) or "")
    return "site-packages" in folder or "dist-packages" in folder


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _calls(name: str) -> Any:
    return importlib.import_module(f"ffverify.frameworks.{name}.calls")


def _checked(
    seen: _Seen, dtype: str, calls: list[_Call], until: float, search: int, seed: int
) -> Checked:
    """Check one function in one format, until something is wrong or the time is up."""
    worst: GradcheckReport | None = None
    points, drawn = 0, False
    notes: dict[str, None] = {}
    if not dtype:
        why = (
            "it was called with no float that can be judged" if seen.calls else "no call came back"
        )
        return Checked(seen.custom, "float64", None, seen.calls, 0, False, why)
    if any(not call.traced for call in calls):
        calls = [call for call in calls if not call.traced]
    for call in calls:
        if points and time.monotonic() > until:
            break
        if time.monotonic() > until:
            notes["there was no time left"] = None
            break
        if call.size > LARGEST:
            notes[f"inputs of {call.size} elements are too large"] = None
            continue
        try:
            arrays = _numbers(call, seed)
            fn, inputs, left_out = _differentiated(seen, call, arrays)
            notes |= dict.fromkeys(left_out)
            check = partial(
                gradcheck, fn, seed=seed, raise_exception=False, vjp=_reverse_only(call.custom, fn)
            )
            report = check(inputs)
            if report.ok and search:
                points += report.points
                report = check(_around(call, inputs), max_examples=search)
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            notes[f"{type(error).__name__}: {error}".splitlines()[0]] = None
            continue
        points += report.points
        drawn = drawn or call.traced
        if worst is None or _gravity(report) > _gravity(worst):
            worst = report
        if _gravity(report) == 2:
            break
    return Checked(seen.custom, dtype, worst, seen.calls, points, drawn, "; ".join(notes))


def _gravity(report: GradcheckReport) -> int:
    return 0 if report.ok else 2 if any(f.severity == "error" for f in report.findings) else 1


def _numbers(call: _Call, seed: int) -> list[Any]:
    """Give the arrays of a call as its framework's, with numbers for those that had none."""
    rng, of = np.random.default_rng(seed), framework(call.custom.framework)
    made = []
    for look, array in zip(call.looks, call.arrays, strict=True):
        if isinstance(array, np.ndarray | np.generic):
            made.append(of.array(np.asarray(array), look.dtype, look.device))
        elif array is not None:
            made.append(array)
        elif look.dtype in FORMATS:
            made.append(of.array(rng.standard_normal(look.shape), look.dtype, look.device))
        else:
            raise ValueError(f"an input of {look.dtype} was traced, and had no numbers")
    return made


def _differentiated(
    seen: _Seen, call: _Call, arrays: list[Any]
) -> tuple[Callable[..., Any], list[Any], list[str]]:
    """Give the function of the arrays that it is differentiated by, those, and notes on the others.

    These are the ones that somebody differentiated by; where nobody did, all floats but those of which the
    backward gives None.
    """
    floats = [look.dtype in FORMATS for look in call.looks]
    asked = [f and p in seen.wanted for f, p in zip(floats, call.places, strict=True)]
    notes = []
    if not any(asked):
        asked = floats
        of = _calls(call.custom.framework)
        none = of.none_gradients(call.custom, call.given, arrays, floats)
        if any(none) and none != floats:
            asked = [f and not n for f, n in zip(floats, none, strict=True)]
            notes = [f"its backward gives None for input {i}" for i, n in enumerate(none) if n]
    chosen = [i for i, a in enumerate(asked) if a]

    def fn(*values: Any) -> Any:
        filled = list(arrays)
        for i, value in zip(chosen, values, strict=True):
            filled[i] = value
        args, kwargs = call.given(*filled)
        return call.custom.call(*args, **kwargs)

    fn.__name__ = _short(call.custom.name)
    return fn, [arrays[i] for i in chosen], notes


def _reverse_only(custom: Custom, fn: Callable[..., Any]) -> Callable[..., Any] | None:
    """Give the function's own VJP where that is its only derivative (forward mode gives zeros there)."""
    if "forward" in custom.modes:
        return None
    of = framework(custom.framework)

    def vjp(cotangent: Any, *inputs: Any) -> list[Any]:
        return of.vjp(fn, inputs, cotangent if isinstance(cotangent, tuple) else (cotangent,))

    return vjp


def _around(call: _Call, inputs: Sequence[Any]) -> list[Any]:
    """Give strategies for inputs like the ones there were, over twice their range."""
    of = framework(call.custom.framework)
    made = []
    for array in inputs:
        held = of.to_numpy(array)
        low, high = float(held.min(initial=0.0)), float(held.max(initial=0.0))
        margin = max((high - low) / 2, 1.0)
        made.append(
            strategies.arrays(
                str(array.dtype).removeprefix("torch."),
                held.shape,
                min_value=low - margin if low < 0 else low,
                max_value=high + margin if high > 0 else high,
                framework=of.name,
            )
        )
    return made


class _Finder(MetaPathFinder):
    """Sees a framework being imported, and has it watched before anybody can use it."""

    def __init__(self, begin: Callable[[str], None]) -> None:
        self._begin = begin

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in FRAMEWORKS:
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
