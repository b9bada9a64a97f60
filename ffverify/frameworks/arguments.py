"""Arguments and results of a function under test, some of which are differentiated."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ffverify.exact.formats import FORMATS, dtype_name, is_floating

from .arrays import to_numpy, zeros_like
from .chosen import those
from .declared import COMPLEX, DATA, Declared, amiss, is_fixed, met, pulled_in, pushed_out, within
from .framework import Framework, framework_of
from .trees import Leaf, Tree, flatten, is_leaf, joined, like_tree


def zeros_for_none(given: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """Put zeros in the place of cotangents of results, or tangents of arguments, that are left out."""
    return [zeros_like(a) if v is None else v for v, a in zip(given, arrays, strict=True)]


def pulled_by(
    rule: Callable[..., Any], cotangents: Sequence[Any], results: Sequence[Any], args: Any
) -> Any:
    """Call a caller's ``vjp(cotangent, *inputs)``, which takes a tuple of cotangents of several results."""
    given = zeros_for_none(cotangents, results)
    return rule(tuple(given) if len(given) > 1 else given[0], *args)


def pushed_by(rule: Callable[..., Any], tangents: Sequence[Any], args: Sequence[Any]) -> Any:
    """Call a caller's ``jvp(tangents, *inputs)``."""
    return rule(tuple(zeros_for_none(tangents, args)), *args)


# ---------------------------------------------------------------------------------------------
# What a function is called with
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a function under test, taken apart.

    Attributes
    ----------
    arrays
        The arrays of numbers, in the order in which they stand; everything else is passed as it is.
    labels
        How to call each: the name of its parameter and its path, as in ``params["w"]``.
    wrt
        Which of them are differentiated by.
    data
        Why floats that are not differentiated by are not, by label.
    key
        What else the function depends on: two points with one key differ in their arrays alone.
    """

    arrays: list[Any]
    labels: tuple[str, ...]
    wrt: tuple[bool, ...]
    data: dict[str, str]
    key: tuple[Any, ...]
    _tree: Tree
    _places: list[int]
    _kinds: list[str]
    _named: bool

    def structures(self) -> list[tuple[str, str]]:
        """Give the arrays that happen to have a structure that was not declared, by label, and which."""
        return [
            (label, kind)
            for label, a, w, said in zip(
                self.labels, self.arrays, self.wrt, self._kinds, strict=True
            )
            if w and not said
            for kind in met(a)
        ]

    def declaring(self, label: str, kind: str) -> Any:
        """Give the inputs as the caller gave them, one array declared to be of a kind."""
        arrays = [
            Declared(kind, a) if n == label else a
            for n, a in zip(self.labels, self.arrays, strict=True)
        ]
        return self.given(arrays)

    @property
    def is_complex(self) -> bool:
        """Whether any array is given by real and imaginary parts."""
        return COMPLEX in self._kinds

    @property
    def is_curved(self) -> bool:
        """Whether any array is varied on a curved manifold, of which only tangents are kept."""
        return "orthogonal" in self._kinds

    def given(self, arrays: Sequence[Any]) -> Any:
        """Give the inputs as the caller gave them, with other arrays in their places."""
        whole = [
            within(kind, a, a) if kind == COMPLEX else a
            for kind, a in zip(self._kinds, arrays, strict=True)
        ]
        return self._tree.rebuild(self._filled(whole), declared=True)

    def called(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Give a function of the arrays alone that calls another with all arguments."""
        return lambda *arrays: self.apply(fn, arrays)

    def apply(self, fn: Callable[..., Any], arrays: Sequence[Any], *before: Any) -> Any:
        """Call a function with other arrays in the places of these, and with some arguments before."""
        moved = [
            within(kind, a, base)
            for kind, a, base in zip(self._kinds, arrays, self.arrays, strict=True)
        ]
        tree = self._tree.rebuild(self._filled(moved))
        return fn(*before, **tree) if self._named else fn(*before, *tree)

    def parts(self, derivative: Any, *, what: str) -> list[Any]:
        """Take a caller's gradient, or a tree of them, apart: one per array, None where there is none.

        Where one array alone is differentiated by, its gradient may come alone.

        Raises
        ------
        ValueError
            If it is not built like the inputs.
        """
        if sum(self.wrt) == 1 and is_leaf(derivative):
            parts = [derivative if w else None for w in self.wrt]
        else:
            parts = self._like_inputs(derivative, what)
        return [
            None if g is None else pulled_in(kind, g, base)
            for g, kind, base in zip(parts, self._kinds, self.arrays, strict=True)
        ]

    def _like_inputs(self, derivative: Any, what: str) -> list[Any]:
        inputs = self._tree.rebuild(self._filled(self.arrays))
        if not (self._named and isinstance(derivative, dict)):
            given = list(inputs.values()) if self._named else inputs
            derivative = _per_argument(derivative, given, what)
            derivative = dict(zip(inputs, derivative, strict=True)) if self._named else derivative
        try:
            found = like_tree(inputs, derivative)
        except ValueError as error:
            raise ValueError(f"{what} is not built like the inputs: {error}") from None
        return [found[i] for i in self._places]

    def filled(self, tangents: Sequence[Any]) -> Any:
        """Give tangents, one per array, as the caller's inputs are built; None where no numbers are."""
        moved = [
            None if t is None else pushed_out(kind, t, base)
            for t, kind, base in zip(tangents, self._kinds, self.arrays, strict=True)
        ]
        tree = self._tree.rebuild(self._filled(moved, [None] * len(self._tree.leaves)))
        return tree if self._named else tuple(tree)

    def without(self, data: dict[str, str]) -> Arguments:
        """Give the same arguments, some more of them data."""
        wrt = tuple(w and n not in data for w, n in zip(self.wrt, self.labels, strict=True))
        return replace(self, wrt=wrt, data=self.data | data)

    def _filled(self, arrays: Sequence[Any], others: Sequence[Any] | None = None) -> list[Any]:
        values = [leaf.value for leaf in self._tree.leaves] if others is None else list(others)
        for place, a in zip(self._places, arrays, strict=True):
            values[place] = a
        return values


def _per_argument(derivative: Any, inputs: Sequence[Any], what: str) -> list[Any]:
    """Give one gradient per argument: of a single one it may stand alone."""
    if isinstance(derivative, list | tuple) and not hasattr(derivative, "_fields"):
        single = len(inputs) == 1 and isinstance(inputs[0], list | tuple)
        if len(derivative) == len(inputs) and not (single and len(inputs[0]) == 1):
            return list(derivative)
        if single and len(derivative) == len(inputs[0]):
            nested = len(derivative) == 1 and isinstance(derivative[0], list | tuple)
            return list(derivative) if nested else [derivative]
        numbers = len(inputs) == 1 and isinstance(inputs[0], np.ndarray)
        if numbers and np.shape(derivative) == inputs[0].shape:  # of an array that came as a list
            return [np.asarray(derivative)]
    elif len(inputs) == 1:
        return [derivative]
    count = len(derivative) if isinstance(derivative, list | tuple) else 1
    raise ValueError(
        f"{what} returned {count} gradients for {len(inputs)} inputs: "
        "return one per input, None for one that is not differentiated"
    )


def by_name(fn: Callable[..., Any], inputs: Any) -> bool:
    """Tell whether a dict of inputs gives a function its arguments by name."""
    if not isinstance(inputs, dict) or not all(isinstance(k, str) for k in inputs):
        return False
    signature = signature_of(fn)
    if signature is None or not set(inputs) <= set(signature.parameters):
        return False
    try:
        signature.bind(**inputs)
    except TypeError:
        return False
    return True


def signature_of(fn: Callable[..., Any]) -> inspect.Signature | None:
    """Give how a function is called, as far as it says so."""
    with contextlib.suppress(TypeError, ValueError):
        return inspect.signature(getattr(fn, "forward", fn) if not inspect.isroutine(fn) else fn)
    return None


def names_of(fn: Callable[..., Any], count: int) -> list[str]:
    """Give the names of a function's first parameters, or numbers where they have none."""
    names = _positional(fn)[:count]
    numbered = ["input"] if count == 1 else [f"input {i}" for i in range(count)]
    return [*names, *numbered[len(names) :]]


_names: WeakKeyDictionary[Callable[..., Any], list[str]] = WeakKeyDictionary()


def _positional(fn: Callable[..., Any]) -> list[str]:
    """Give the names of a function's parameters by position; its inputs are taken apart many times."""
    with contextlib.suppress(TypeError):  # it has no weak references, or no hash
        if fn in _names:
            return _names[fn]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = signature_of(fn)
    parameters = [] if signature is None else list(signature.parameters.values())
    names = [p.name for p in parameters if p.kind in positional]
    with contextlib.suppress(TypeError):
        _names[fn] = names
    return names


def taken_apart(fn: Callable[..., Any], inputs: Any) -> tuple[Tree, bool]:
    """Take the inputs of a check apart, as the function takes them; tell whether by name (see `by_name`)."""
    if by_name(fn, inputs):
        names = list(inputs)
        trees = [flatten(value, name) for name, value in inputs.items()]
        return joined(trees, lambda parts: dict(zip(names, parts, strict=True))), True
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    trees = [flatten(v, n) for v, n in zip(given, names_of(fn, len(given)), strict=True)]
    return joined(trees, lambda parts: parts), False


def arguments(fn: Callable[..., Any], inputs: Any) -> Arguments:
    """Take what a function is called with apart.

    Parameters
    ----------
    inputs
        One argument, a tuple or list of them, or a dict of them by the names of the parameters; each an
        array, or a tree of arrays and whatever else. Python's own numbers are arrays only where there
        are no others; in torch functions NumPy's are passed as they are.

    Raises
    ------
    TypeError
        If an input is an array of numbers that cannot be judged, none is an array of numbers, or they are
        of several frameworks.
    """
    tree, named = taken_apart(fn, inputs)
    kind = _one_framework([*(leaf for leaf in tree.leaves if _is_array(leaf.value)), Leaf("", fn)])
    native = [_is_native(leaf.value, kind.name) for leaf in tree.leaves]
    if not any(native):
        tree, named = taken_apart(fn, _with_numbers(inputs))
        native = [_is_native(leaf.value, kind.name) for leaf in tree.leaves]
    if not any(native):
        raise TypeError(
            f"inputs={shortened(inputs)}: there is no array of numbers among them: give real floats"
        )
    complex_data = [leaf.declared == DATA and is_complex(leaf.value) for leaf in tree.leaves]
    native = [n and not c for n, c in zip(native, complex_data, strict=True)]
    for leaf in those(tree.leaves, native):
        if why := refusal_of(leaf.value) or amiss(leaf.declared, leaf.value):
            raise TypeError(f"input {leaf.label} {why}")
    leaves = list(map(varied, those(tree.leaves, native)))
    data = {leaf.label: "declared as data" for leaf in leaves if leaf.declared == DATA}
    floats = [leaf for leaf in leaves if is_floating(leaf.value) and leaf.label not in data]
    if any(getattr(leaf.value, "requires_grad", False) for leaf in floats):
        frozen = [leaf.label for leaf in floats if not getattr(leaf.value, "requires_grad", False)]
        data |= dict.fromkeys(frozen, "it does not require a gradient, and others do")
    others = those(tree.leaves, [not n for n in native])
    data |= {leaf.label: why for leaf in others if (why := _passed(leaf.value))}
    fixed = [to_numpy(leaf.value).tobytes() for leaf in leaves if is_fixed(leaf.declared)]
    return Arguments(
        arrays=[
            np.asarray(leaf.value) if isinstance(leaf.value, np.generic) else leaf.value
            for leaf in leaves
        ],
        labels=tuple(leaf.label for leaf in leaves),
        wrt=tuple(is_floating(leaf.value) and leaf.label not in data for leaf in leaves),
        data=data,
        key=(tuple(_identity(leaf.value) for leaf in others), *fixed),
        _tree=tree,
        _places=[i for i, n in enumerate(native) if n],
        _kinds=[leaf.declared for leaf in leaves],
        _named=named,
    )


def refuse_count(fn: Callable[..., Any], inputs: Any) -> None:
    """Refuse more or fewer arguments than a function takes: a ufunc would write to those that are more.

    What other callables say of how they are called need not be so.

    Raises
    ------
    TypeError
        If it takes another number of them.
    """
    listed = isinstance(inputs, tuple | list)
    count = len(inputs) if listed else 1
    if isinstance(fn, np.ufunc) and count != fn.nin:
        meant = (
            f": if one array is meant, give np.array({shortened(inputs)})" if fn.nin == 1 else ""
        )
        raise TypeError(
            f"inputs={shortened(inputs)}: np.{fn.__name__} takes {fn.nin}, and these are {count}{meant}"
        )
    plain = isinstance(fn, FunctionType | MethodType) and not hasattr(fn, "__wrapped__")
    if not plain or by_name(fn, inputs):
        return
    signature = inspect.signature(fn)
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        kind = f"the {type(inputs).__name__}"
        whole = f"one for each element of {kind}" if listed else f"{kind} itself"
        fix = f": give [inputs] if {kind} itself is meant" if listed and count > 1 else ""
        fix = fix or (": its keys are no names of parameters" if isinstance(inputs, dict) else "")
        raise TypeError(
            f"inputs={shortened(inputs)}: {fn.__name__}{signature} is given {count} "
            f"argument{'s' * (count != 1)}, {whole}, and says {error}{fix}"
        ) from None


def _one_framework(leaves: Sequence[Leaf]) -> Framework:
    """Give the framework of arrays and of what they are given to, NumPy's among another's."""
    kinds = [framework_of(leaf.value) for leaf in leaves]
    others = {
        k.name: (k, leaf.label) for k, leaf in zip(kinds, leaves, strict=True) if k.name != "numpy"
    }
    if len(others) > 1:
        each = " and ".join(
            f"{'JAX' if name == 'jax' else name}'s {label or 'module'}"
            for name, (_, label) in others.items()
        )
        raise TypeError(f"inputs are {each}: give the arrays of one framework")
    return next(iter(others.values()))[0] if others else kinds[0]


def varied(leaf: Leaf) -> Leaf:
    """Give a complex array by its real and imaginary parts, which are what is varied."""
    if leaf.declared or not is_complex(leaf.value):
        return leaf
    return Leaf(f"view_as_real({leaf.label})", framework_of(leaf.value).parts(leaf.value), COMPLEX)


def is_complex(value: Any) -> bool:
    """Tell whether an array of any framework holds complex numbers."""
    return _is_array(value) and dtype_name(value).startswith("complex")


def _identity(value: Any) -> Any:
    """Give something that tells what is passed as it is apart from other values."""
    return (to_numpy(value).tobytes(), np.shape(value)) if _is_array(value) else repr(value)


def refusal_of(value: Any) -> str:
    """Say why an array cannot be judged; nothing if it can, or is none."""
    if not _is_array(value):
        return ""
    known = is_floating(value) or "float" not in dtype_name(value)
    other = "" if known else f"is {dtype_name(value)}: give one of {', '.join(FORMATS)}"
    return framework_of(value).refusal(value) or other


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and framework_of(value).is_array(value)


def _is_native(value: Any, framework_name: str) -> bool:
    """Tell whether a leaf is an array that a framework's function is given as one."""
    if not _is_array(value):
        return False
    foreign = framework_name != "numpy" and framework_of(value).name == "numpy"
    if framework_name == "torch":
        return not foreign or (isinstance(value, np.ndarray) and not is_floating(value))
    return not (foreign and isinstance(value, np.generic))


def _with_numbers(inputs: Any) -> Any:
    """Give the inputs with Python's numbers, and lists of them, as arrays."""
    return list(map(_number, inputs)) if isinstance(inputs, tuple | list) else _number(inputs)


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _number(v) for k, v in value.items()}
    if isinstance(value, Declared):
        return Declared(value.kind, _number(value.value))
    if isinstance(value, int | float | list | tuple):
        with contextlib.suppress(ValueError, TypeError):
            array = np.asarray(value)
            return array if array.dtype.kind in "fiub" else value
    return value


def _passed(value: Any) -> str:
    """Say that numbers are passed as they are, where one could think that they are differentiated by."""
    if isinstance(value, float) or _is_array(value):
        return f"a {type(value).__name__} is passed as it is, beside arrays"
    return ""


def shortened(value: Any) -> str:
    """Print a value in one line, as far as 80 signs go."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
