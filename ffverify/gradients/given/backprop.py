"""Hand-written backpropagation: objects with ``forward`` and ``backward``, and gradients as attributes.

``backprop(layer, x)`` checks what ``layer.backward`` gives for the inputs, and what it leaves beside the
parameters (``dW`` beside ``W``, ``grads["W"]`` beside ``params["W"]``, in nested layers too). A layer whose
gradients add up from call to call, as torch's do until they are reset, is checked from 0 on, and the report
says so.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.frameworks.arguments import names_of
from ffverify.frameworks.arrays import coarsest, to_numpy, zeros_like
from ffverify.frameworks.framework import framework_of
from ffverify.frameworks.numpy.making import remake
from ffverify.frameworks.trees import flatten
from ffverify.gradients.equality import close
from ffverify.gradients.function_under_test import Call
from ffverify.gradients.report import GradcheckError, GradcheckReport

Path = tuple[tuple[str, Any], ...]  # of ("attribute", name) and ("item", key)

_BESIDE = ("d{}", "d_{}", "grad_{}", "{}_grad", "g{}", "delta_{}")
_HOLDERS = ("grads", "gradients", "grad", "dparams")
_VALUES = ("value", "data", "values")


def backprop(
    layer: Any,
    inputs: Any,
    *,
    parameters: Mapping[str, str] | None = None,
    **options: Any,
) -> GradcheckReport:
    """Check an object with ``forward(*inputs)`` and ``backward(cotangent)``.

    Parameters
    ----------
    layer
        ``forward`` gives the results; ``backward`` the gradients of the inputs, or None, and leaves those
        of the parameters at the object. One that takes no cotangent is the gradient of a number, and so
        is one of a number that makes nothing of it where it has a default (``backward(dout=1)``). Every
        call gets a copy of the object.
    inputs, options
        As `gradcheck` takes them.
    parameters
        Where the gradient of each parameter is left, as in ``{"W": "dW", "out.b": "out.db"}``. By default
        these are found by their names: ``dW``, ``d_W``, ``grad_W``, ``W_grad`` or ``gW`` beside ``W``,
        ``grads["W"]`` beside ``params["W"]``, ``grad`` beside ``value`` or ``data``.

    Raises
    ------
    TypeError
        If the object has no ``forward`` or ``backward``.
    ValueError
        If a parameter or its gradient is not there.
    GradcheckError
        As `gradcheck`.
    """
    __tracebackhide__ = True
    from ffverify.gradients.given.slots import Slots
    from ffverify.gradients.gradcheck import gradcheck

    for name in ("forward", "backward"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(
                f"{type(layer).__name__} has no {name}(): gradcheck(fn, inputs) takes functions"
            )
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    count = len(given)
    held = _Layer(layer)
    example = Slots(layer.forward, given).example()
    pairs = held.named(parameters) if parameters is not None else held.found(example)
    held.takes_cotangent = held.takes_cotangent and not held.ignores_cotangent(pairs, example)
    state = {_said(path): held.at(layer, path) for path, _ in pairs}
    changing = held.changing(pairs, example)

    def forward(*args: Any) -> Any:
        return held.run(pairs, args[:count], *args[count:])[1]

    def pulled(v: Any, *args: Any) -> Any:
        used, results = held.run(pairs, args[:count], *args[count:])
        bars = held.back(used, v, results)
        bars = list(bars) if isinstance(bars, tuple | list) else [bars]
        bars = [None] * count if all(b is None for b in bars) else bars
        bars += [{_said(path): held.at(used, beside) for path, beside in pairs}] if pairs else []
        tree = flatten(bars)
        scale = 1 if held.takes_cotangent else v
        return tree.rebuild([None if b.value is None else b.value * scale for b in tree.leaves])

    names = [*names_of(layer.forward, count), *(["parameters"] if state else [])]
    kind = inspect.Parameter.POSITIONAL_ONLY
    forward.__name__ = type(layer).__name__
    forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect looks for
        [
            inspect.Parameter(n if n.isidentifier() else f"input_{i}", kind)
            for i, n in enumerate(names)
        ]
    )
    forward.ffverify_call = Call("layer", given=count, by="ffverify.backprop")  # type: ignore[attr-defined]  # for the report
    raises = options.pop("raise_exception", True)
    checked = gradcheck(
        forward, [*given, *([state] if state else [])], vjp=pulled, raise_exception=False, **options
    )
    why = "no gradient was found for it: name it in parameters="
    report = replace(
        checked,
        data={**checked.data, **dict.fromkeys(held.unmatched, why)},
        skipped={**checked.skipped, **changing},
    )
    if raises and not report.ok:
        raise GradcheckError(report)
    return report


class _Layer:
    """An object with forward and backward; what is done with it is done with copies."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        signature = inspect.signature(layer.backward)
        self.takes_cotangent = bool(signature.parameters)
        self.unmatched: list[str] = []  # arrays without a gradient beside them
        self._adding: list[Path] = []  # gradients that backward adds to what lies there
        self._remade: dict[int, Any] | None = None  # methods, where they make precise arrays

    def ffverify_making(self) -> _Layer:
        """Give the same, with methods as `ffverify.frameworks.numpy.making` gives functions."""
        made = copy.copy(self)
        made._remade = {}  # noqa: SLF001 - its own
        return made

    def run(self, pairs: Any, args: Any, *state: Mapping[str, Any]) -> tuple[Any, Any]:
        """Run a copy forward with other parameters; give it, and its results."""
        used = copy.deepcopy(self._layer)
        if self._remade is not None:
            remake(used, self._remade)
        for path, _ in pairs:
            _put(used, path, state[0][_said(path)])
        for beside in self._adding:
            if _is_parameter(before := _reached(used, beside)):
                _put(used, beside, zeros_like(before))
        return used, used.forward(*args)

    def back(self, used: Any, v: Any, results: Any) -> Any:
        """Run backward, with as many cotangents as it takes."""
        if not self.takes_cotangent:
            return used.backward()
        return (
            used.backward(*v)
            if isinstance(results, tuple) and self._takes_several()
            else used.backward(v)
        )

    def ignores_cotangent(self, pairs: Sequence[tuple[Path, Path]], example: Sequence[Any]) -> bool:
        """Tell whether a cotangent of a number, which has a default, makes no difference to any gradient."""
        parameters = inspect.signature(self._layer.backward).parameters.values()
        if any(p.default is p.empty for p in parameters):
            return False
        each = []
        for given in ((), (3.0,)):
            used = copy.deepcopy(self._layer)
            result = used.forward(*copy.deepcopy(list(example)))
            if not _is_number(result) or np.shape(result) != ():
                return False
            bars = [used.backward(*given), [_reached(used, beside) for _, beside in pairs]]
            each.append([to_numpy(b.value) for b in flatten(bars).leaves if b.value is not None])
        alike = all(map(np.array_equal, *each))
        return alike and any(map(np.any, each[0]))  # 0 is also what a cotangent leaves of 0

    def _takes_several(self) -> bool:
        return len(inspect.signature(self._layer.backward).parameters) > 1

    def named(self, parameters: Mapping[str, str]) -> list[tuple[Path, Path]]:
        """Find the parameters that a caller has named."""
        used = copy.deepcopy(self._layer)
        pairs = []
        for name, beside in parameters.items():
            path = _steps(name)
            array = _reached(used, path)
            if not _is_parameter(array):
                raise ValueError(
                    f"parameters={dict(parameters)!r}: {name!r} is no array of floats there"
                )
            pairs.append((path, _steps(beside)))
        return pairs

    def found(self, example: Any) -> list[tuple[Path, Path]]:
        """Find parameters by the names of their gradients: arrays that forward does not make itself."""
        used = copy.deepcopy(self._layer)
        before = {path: array for path, array in _arrays(used) if _is_parameter(array)}
        results = used.forward(*example)
        kept = {path: a for path, a in before.items() if _reached(used, path) is a}
        ones = _ones(results)
        self.back(used, ones, results)
        pairs = []
        for path, array in kept.items():
            if path in _candidates(path):
                continue  # what lies in a holder of gradients is one
            left = [(beside, _reached(used, beside)) for beside in _candidates(path)]
            fit = [b for b, g in left if _is_parameter(g) and np.shape(g) == np.shape(array)]
            # What backward has left under such a name, in another shape, is a gradient that is wrong.
            other = [b for b, g in left if _is_number(g) and g is not _reached(self._layer, b)]
            pairs += [(path, beside) for beside in [*fit, *other][:1]]
        matched = {path for pair in pairs for path in pair}
        self.unmatched = [_said(path) for path in kept if path not in matched]
        return pairs

    def changing(
        self, pairs: Sequence[tuple[Path, Path]], example: Sequence[Any]
    ) -> dict[str, str]:
        """Say of which parameters one object's second backward leaves another gradient; see to what adds up.

        Whatever else raises, or gives no gradient, is told when it is checked.
        """
        used, found = copy.deepcopy(self._layer), {}
        each: list[list[Any]] = []
        with contextlib.suppress(Exception):
            for _ in range(3):
                results = used.forward(*copy.deepcopy(list(example)))
                self.back(used, _ones(results), results)
                each.append([to_numpy(self.at(used, beside)).copy() for _, beside in pairs])
        for (path, beside), *three in zip(pairs, *each, strict=True) if len(each) == 3 else ():
            first, second, third = three
            fmt = coarsest([_reached(used, path)])
            if close(first, third, fmt) and close(first, second, fmt):
                continue
            why = "one object gives another gradient there the second time"
            if close(third - second, second - first, fmt):
                self._adding.append(beside)
                why = "it adds to what lies there, as torch's does: reset that in between"
            found[f"by {_said(path)} from a second backward on"] = why
        return found

    def at(self, holder: Any, path: Path) -> Any:
        """Give what lies at a path.

        Raises
        ------
        ValueError
            If nothing does.
        """
        value = _reached(holder, path)
        if value is None:
            raise ValueError(
                f"{type(holder).__name__} has no {_said(path)} after backward: name it in parameters="
            )
        return value


def _ones(results: Any) -> Any:
    if isinstance(results, tuple | list):
        return tuple(_ones(r) for r in results)
    return results * 0 + 1


def _is_parameter(value: Any) -> bool:
    return hasattr(value, "dtype") and framework_of(value).is_array(value) and is_floating(value)


def _is_number(value: Any) -> bool:
    return _is_parameter(value) or isinstance(value, float | np.floating)


def _candidates(path: Path) -> Iterator[Path]:
    *outer, (kind, name) = path
    if kind == "attribute":
        yield from ((*outer, (kind, form.format(name))) for form in _BESIDE)
        if name in _VALUES:
            yield (*outer, (kind, "grad"))
    else:
        yield from ((*outer, (kind, form.format(name))) for form in _BESIDE)
    for i in reversed(range(len(path))):
        if path[i][0] == "attribute" and i + 1 < len(path):
            for holder in (*_HOLDERS, *(form.format(path[i][1]) for form in _BESIDE)):
                yield (*path[:i], ("attribute", holder), *path[i + 1 :])


def _arrays(
    holder: Any, path: Path = (), seen: frozenset[int] = frozenset()
) -> Iterator[tuple[Path, Any]]:
    """Give the arrays that an object holds, in its attributes, lists and dicts."""
    if id(holder) in seen:
        return
    seen |= {id(holder)}
    if hasattr(holder, "dtype"):
        yield path, holder
        return
    if isinstance(holder, Mapping):
        inner = [(("item", k), v) for k, v in holder.items()]
    elif isinstance(holder, list | tuple):
        inner = [(("item", i), v) for i, v in enumerate(holder)]
    elif (
        hasattr(holder, "__dict__")
        and not isinstance(holder, type)
        and not inspect.isroutine(holder)
    ):
        inner = [(("attribute", k), v) for k, v in vars(holder).items()]
    else:
        return
    for step, value in inner:
        yield from _arrays(value, (*path, step), seen)


def _reached(holder: Any, path: Path) -> Any:
    for kind, name in path:
        try:
            holder = getattr(holder, name) if kind == "attribute" else holder[name]
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return holder


def _put(holder: Any, path: Path, value: Any) -> None:
    *outer, (kind, name) = path
    target = _reached(holder, tuple(outer))
    if kind == "attribute":
        setattr(target, name, value)
    else:
        target[name] = value


def _said(path: Path) -> str:
    text = "".join(f".{n}" if kind == "attribute" else f"[{n!r}]" for kind, n in path)
    return text.removeprefix(".")


def _steps(text: str) -> Path:
    """Read a path as it is written in code: ``layers[0].W``, ``params['W']``."""

    def walk(node: ast.expr) -> Path:
        match node:
            case ast.Attribute(value=inner, attr=name):
                return (*walk(inner), ("attribute", name))
            case ast.Subscript(value=inner, slice=key):
                return (*walk(inner), ("item", ast.literal_eval(key)))
            case ast.Name(id=name):
                return (("attribute", name),)
        raise SyntaxError(text)

    try:
        return walk(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"parameters=: {text!r} is no path like W, layers[0].W or params['W']"
        ) from error
