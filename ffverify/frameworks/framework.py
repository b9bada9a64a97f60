"""What a framework is: its arrays, its derivatives, its programs on exact numbers.

``framework("torch")`` gives what one of the packages beside this module has for a `Framework`. Nothing heavy
is imported until it is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Protocol

import numpy as np

from ffverify.errors import UnavailableError
from ffverify.exact.formats import Array
from ffverify.exact.programs import Known, Program, listed

from .chosen import floating, restricted

Function = Callable[..., Any]
# From cotangents to gradients, as `Framework.vjp` has them.
Pullback = Callable[[Sequence[Any]], list[Any]]


class Framework(Protocol):
    """One framework's arrays, called native here, and what it does with functions of them.

    In what follows ``fn(*args)`` gives one native array or several; a cotangent or tangent None leaves a
    result or an argument out. What has a body here is so in most frameworks.

    Attributes
    ----------
    name
        "numpy", "torch" or "jax".
    gradual
        Whether it computes with subnormals.
    """

    name: str
    gradual: bool = True

    def is_array(self, value: Any) -> bool:
        """Tell whether a value is an array of numbers of this framework."""

    def refusal(self, value: Any) -> str:
        """Say why an array cannot be judged, whatever its float format is, and what can be; or nothing."""

    def parts(self, value: Any) -> Any:
        """Give a complex array as a real one, its real and imaginary parts along a last axis."""

    def complex_of(self, parts: Any) -> Any:
        """Give the complex array of real and imaginary parts along a last axis."""

    def scope(self, values: Sequence[Any]) -> AbstractContextManager[Any]:
        """Give a scope in which values keep their formats, whatever the process has been told."""
        del values
        return nullcontext()

    def generator(self) -> bytes:
        """Give the state of the global generators that a function may draw from."""
        _, words, place, *_ = np.random.get_state()  # noqa: NPY002 - which user code draws from
        return bytes(np.asarray(words)) + str(place).encode()

    def array(self, values: Array, dtype: str, device: str | None = None) -> Any:
        """Give an ndarray as a native array; integers keep their dtype."""

    def to_numpy(self, value: Any) -> Array:
        """Give a native array as an ndarray of the same numbers (bfloat16 as float32)."""

    def like(self, template: Any, values: Array) -> Any:
        """Give a copy of an ndarray as a native array of a template's dtype and device."""

    def copied(self, value: Any) -> Any:
        """Give a copy of a native array, laid out alike, that is part of no graph."""

    def has_no_derivative(self, error: BaseException | None) -> bool:
        """Tell whether an error says that the framework has no derivative of an operation, in some mode."""
        del error
        return False

    def attached(self, fn: Function, args: Sequence[Any], wrt: Sequence[bool]) -> list[bool]:
        """Tell which results of a function the framework differentiates at all."""
        del wrt
        with self.scope(args):
            return [True] * len(listed(fn(*args)))

    def shaped(self, fn: Function, args: Sequence[Any], program: Program) -> list[Any]:
        """Give a function's results, or what has their shapes and formats; its exact program is known."""
        del program
        return listed(fn(*args))

    def zeros_like(self, template: Any) -> Any:
        """Give zeros of a native array's shape, dtype and device."""
        return self.like(template, np.zeros(np.shape(template)))

    def as_computed(self, value: Any) -> Any:
        """Give a native array as the framework sees it, where it does not see subnormals."""
        return value

    def widened(self, value: Any) -> Any:
        """Give a native array in the widest float that the framework has."""
        return value

    def vjp(
        self,
        fn: Function,
        args: Sequence[Any],
        cotangents: Sequence[Any],
        *,
        wrt: Sequence[bool] | None = None,
        graph: bool = False,
    ) -> list[Any]:
        """Pull cotangents back; one gradient per argument, None where there is none.

        ``wrt`` tells which arguments to differentiate by, all floating ones by default; with ``graph``
        the gradients can be differentiated again.
        """
        del graph  # most derivatives are functions like any other
        chosen = floating(args) if wrt is None else wrt
        _, pull = self.pullback(fn, args, chosen, [v is not None for v in cotangents])
        return pull(cotangents)

    def pullback(
        self, fn: Function, args: Sequence[Any], wrt: Sequence[bool], kept: Sequence[bool]
    ) -> tuple[Sequence[Any], Pullback]:
        """Run a function once; give the results to be kept, and what pulls cotangents back as often as asked.

        torch's goes through one and the same graph.
        """

    def jvp(
        self, fn: Function, args: Sequence[Any], tangents: Sequence[Any], *, nesting: bool = False
    ) -> list[Any]:
        """Push tangents forward; one tangent per result.

        With ``nesting`` it is done so that it can be differentiated again, or traced.
        """
        return self.value_and_jvp(fn, args, tangents, nesting=nesting)[1]

    def value_and_jvp(
        self, fn: Function, args: Sequence[Any], tangents: Sequence[Any], *, nesting: bool = False
    ) -> tuple[list[Any], list[Any]]:
        """Push tangents forward as `jvp` does; give the results as it computes them, and their tangents."""
        del nesting  # most forward modes always nest
        given = [t for t in tangents if t is not None]
        of_chosen, points = restricted(fn, args, [t is not None for t in tangents])
        results, dots = self.pushed(of_chosen, tuple(points), tuple(given))
        return list(results), list(dots)

    def pushed(
        self, fn: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """Push tangents forward, one per argument, by the mode that nests; give the results as well."""

    def second_derivative(self, fn: Function, z: Any) -> Any:
        """Differentiate an elementwise function twice."""
        ones = self.like(z, np.ones(np.shape(z)))

        def slope(z: Any) -> Any:
            return self.vjp(fn, [z], [ones], wrt=[True])[0]

        return self.jvp(slope, [z], [ones])[0]

    def hessian(self, fn: Function) -> Function:
        """Give the Hessian of a function to a number, in its first argument; call it in their `scope`."""

    def compiled(self, fn: Function) -> Function:
        """Give the same function, compiled if the framework compiles and it can be."""
        return fn

    def replayed(
        self,
        function: Function,
        known: dict[Any, Any],
        key: Any,
        *operands: Any,
        loops: bool = False,
    ) -> Any:
        """Call a function of trees of arrays, or run again what it executed at other ones under a key.

        Where that is no gain the function is called: with ``loops`` unless it has loops.
        """
        del known, key, loops
        return function(*operands)

    def trace(self, example: Callable[[], tuple[Function, list[Any]]], known: Known) -> Program:
        """Give a function at a point as an exact program: one that is known, where that is what runs here.

        ``example()`` gives both. What is traced anew becomes ``known``, by whatever tells the framework that
        it is the same program; the function and the shapes and formats of its arguments are always the same.

        Raises
        ------
        UnknownOperation
            Naming what has no exact form.
        """
        lowering = importlib.import_module(f".{self.name}.lowering", __package__)
        return lowering.trace(*example(), known)  # type: ignore[no-any-return]  # a program

    def trace_both(
        self,
        fn: Function,
        args: Sequence[Any],
        cotangents: Sequence[Any],
        wrt: Sequence[bool],
        known: Known,
    ) -> tuple[Program, Program, Any] | None:
        """Trace a function and its VJP at once, as `trace` does; None where that is no gain.

        The third says what differentiating went through: whatever goes through the same, and executes the
        same, is differentiated by the same code. ``cotangents`` are those of floating results.
        """
        del fn, args, cotangents, wrt, known
        return None


def is_installed(name: str) -> bool:
    """Tell whether a framework is installed, without importing it."""
    return name == "numpy" or importlib.util.find_spec(name) is not None


@cache
def framework(name: str) -> Framework:
    """Give a framework by name: ``"numpy"``, ``"torch"`` or ``"jax"``.

    Raises
    ------
    UnavailableError
        If it is not installed.
    ValueError
        If there is no such framework.
    """
    if name not in ("numpy", "torch", "jax"):
        raise ValueError(f"framework {name!r} is not known: use 'numpy', 'torch' or 'jax'")
    if not is_installed(name):
        raise UnavailableError(f"{name} is not installed: pip install 'ffverify[{name}]'")
    chosen: Framework = importlib.import_module(f".{name}", __package__).FRAMEWORK
    return chosen


def framework_of(*values: Any) -> Framework:
    """Give the framework of the first array or module of torch's or JAX's, else NumPy."""
    for value in values:
        if type(value) is np.ndarray:  # most are
            continue
        root = type(value).__module__.partition(".")[0]
        if root.startswith("jax") and not callable(value):
            return framework("jax")
        if root == "torch" or any(c.__module__.startswith("torch.nn") for c in type(value).__mro__):
            return framework("torch")
    return framework("numpy")
