"""Backends: implementations under test, as named functions and how they are differentiated.

``load("reference")``, ``load("torch")``, ``load("torch:cuda")``, ``load("jax")``, or
``load("mylib.ops")`` for any importable module with functions of the catalogue's names. What a
backend lacks is *not provided*; it never counts as passed.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from ffverify.errors import UnavailableError, UsageError
from ffverify.exact import formats
from ffverify.exact.formats import Array, Format, is_floating
from ffverify.exact.programs import Program
from ffverify.frameworks.framework import Framework, framework
from ffverify.truth.textbook import CATALOGUE

from . import user_module

DEFAULT_BACKENDS = ("reference", "torch")
DEFAULT_DTYPES = ("float64", "float32")


class UnknownBackendError(UsageError):
    """A backend name that is neither known nor importable."""


@dataclass(frozen=True)
class Backend:
    """An implementation under test.

    A *program* is a function ``program(f, *arrays)`` that takes every operation from ``f``, the
    backend's functions as attributes; the same program runs on the textbook's definitions. Both
    also have ``f.second_derivative(g, z)`` for an elementwise ``g``.
    """

    name: str
    framework: Framework = field(repr=False)
    functions: Mapping[str, Callable[..., Any]] = field(repr=False)
    dtypes: tuple[str, ...] = DEFAULT_DTYPES
    device: str | None = None

    def format(self, dtype: str) -> Format:
        """Give the format that a dtype has here (without subnormals where they are flushed)."""
        return replace(formats.of(dtype), gradual=self.framework.gradual)

    def provides(self, name: str) -> bool:
        """Tell whether the backend has a function of this name."""
        return name in self.functions

    def replacing(self, name: str, function: Callable[..., Any]) -> Backend:
        """Give this backend with one function changed (a planted bug)."""
        return replace(self, functions={**self.functions, name: function})

    def value(self, program: Program, args: Sequence[Array], dtype: str) -> Array:
        """Run a program at a dtype; ndarrays in and out."""
        native = self.native(args, dtype)
        with self.framework.scope(native):
            return self.framework.to_numpy(self.bound(program)(*native))

    def vjp(
        self,
        program: Program,
        args: Sequence[Array],
        cotangent: Array,
        dtype: str,
        *,
        wrt: Sequence[int],
    ) -> list[Array]:
        """Pull a cotangent back to the arguments ``wrt``, by the backend's own reverse mode.

        An argument for which the backend reports no gradient has a zero one.
        """
        native = self.native([*args, cotangent], dtype)
        chosen = [i in wrt for i in range(len(args))]
        gradients = self.framework.vjp(self.bound(program), native[:-1], native[-1:], wrt=chosen)
        return [
            np.zeros(args[i].shape, args[i].dtype)
            if gradients[i] is None
            else self.framework.to_numpy(gradients[i])
            for i in wrt
        ]

    def jvp(
        self, program: Program, args: Sequence[Array], tangents: Sequence[Array | None], dtype: str
    ) -> Array:
        """Push tangents forward, by the backend's own forward mode; None: a fixed argument."""
        native = self.native(args, dtype)
        directions = [None if t is None else self.native([t], dtype)[0] for t in tangents]
        (tangent,) = self.framework.jvp(self.bound(program), native, directions, nesting=True)
        return self.framework.to_numpy(tangent)

    def hessian(self, program: Program, args: Sequence[Array], dtype: str) -> Array:
        """Give the Hessian of a program of a number in its first argument, by the backend's own means."""
        make = self.functions.get("hessian", self.framework.hessian)
        native = self.native(args, dtype)
        with self.framework.scope(native):
            return self.framework.to_numpy(make(self.bound(program))(*native))

    def native(self, args: Sequence[Array], dtype: str) -> list[Any]:
        """Give ndarrays as the framework's arrays, floats in a dtype."""
        return [self.framework.array(a, dtype, self.device) for a in args]

    def bound(self, program: Program) -> Callable[..., Any]:
        """Give a program as a function of the framework's arrays, with this backend's functions."""
        twice = self.framework.second_derivative
        namespace = SimpleNamespace(**self.functions, second_derivative=twice)
        return lambda *args: program(namespace, *args)


def _reference() -> Backend:
    from ffverify import reference
    from ffverify.reference.studies import accumulation, krylov, regions

    functions = _public(accumulation) | _public(regions) | _public(reference)
    if importlib.util.find_spec("scipy") is not None:  # which the Krylov methods are given to
        functions |= _public(krylov)
    return Backend("reference", framework("numpy"), functions)


def _torch(device: str | None = None) -> Backend:
    from ffverify.frameworks.torch.catalogue import torch_functions

    numbers = framework("torch")
    if device is not None:
        import torch

        types = ("cpu", "cuda", "mps", "xpu")
        near = difflib.get_close_matches(device, types, n=1, cutoff=0.7)
        if device == "meta" or (near and device.partition(":")[0] not in types):
            meant = f"did you mean {near[0]!r}?" if near else "its tensors hold no numbers"
            raise UnknownBackendError(f"torch has no device {device!r} to compute on: {meant}")
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            raise UnavailableError(f"torch has no device {device!r} here: {reason}") from error
    name = "torch" if device is None else f"torch:{device}"
    return Backend(name, numbers, torch_functions(), device=device)


def _jax() -> Backend:
    from ffverify.frameworks.jax.catalogue import jax_functions

    return Backend("jax", framework("jax"), jax_functions())


_KNOWN: dict[str, Callable[..., Backend]] = {"reference": _reference, "torch": _torch, "jax": _jax}


def load(name: str) -> Backend:
    """Give a backend by its name.

    Raises
    ------
    UnknownBackendError
        If the name is not known and no module of that name has a function of the catalogue.
    UnavailableError
        If its framework is not installed or its device is not here.
    """
    kind, _, device = name.partition(":")
    if kind in _KNOWN and name.endswith(":"):
        raise UnknownBackendError(
            f"backend {name!r} names no device: write {kind!r} or 'torch:cuda'"
        )
    if kind in _KNOWN and (not device or kind == "torch"):
        numbers = {"reference": "numpy"}.get(kind, kind)
        framework(numbers)  # before the functions are made: a missing framework has one clear line
        return _KNOWN[kind](device) if device else _KNOWN[kind]()
    return _module_backend(name)


def is_known(name: str) -> bool:
    """Tell whether a name is of one of the frameworks here: loading it imports no module of the user's."""
    return name.partition(":")[0] in _KNOWN


def _module_backend(name: str) -> Backend:
    try:
        module = user_module.import_module(name)
    except UsageError as error:
        known = ", ".join(_KNOWN)
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        meant = f": did you mean {near[0]!r}?" if near else ""
        raise UnknownBackendError(
            f"backend {name!r} is neither known ({known}, torch:DEVICE) nor an importable module: "
            f"{error}{meant}"
        ) from error
    numbers = framework(_framework_of(module))
    functions = user_module.functions_of(module, FUNCTIONS, rules=numbers.name == "numpy")
    if not functions:
        raise UnknownBackendError(
            f"module {name!r} has no function of the catalogue: name its functions as "
            "`ffverify catalogue` lists them"
        )
    return Backend(name, numbers, functions)


def unused(name: str) -> dict[str, str]:
    """Give the functions of a user's module that no claim uses, each with what may have been meant."""
    module = sys.modules.get(name)
    return {} if module is None or name in _KNOWN else user_module.unused(module, FUNCTIONS)


def _public(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {n: f for n, f in sorted(vars(module).items()) if n in FUNCTIONS and callable(f)}


# What claims about the engine itself need, beside the catalogue's functions.
TRANSFORMS = (
    "MLP", "compile", "custom_rule", "grad", "hessian", "hvp", "jacobian", "jvp", "linearize",
    "simplify", "trace", "value_and_grad", "vjp",
    # Jacobian accumulation and Krylov methods
    "Linearised", "bracketing_cost", "eliminate", "extreme_eigenvalues", "forward_bracketing",
    "forward_order", "hessian_operator", "lanczos", "markowitz_order", "multiply_chain",
    "newton_step", "optimal_bracketing", "optimal_order", "reverse_bracketing", "reverse_order",
    "solve",
    # Exact counting of linear regions
    "Layer", "count_activation_regions", "count_linear_regions", "montufar_layers",
)  # fmt: skip
FUNCTIONS = (*CATALOGUE, *TRANSFORMS)


def _framework_of(module: ModuleType) -> str:
    """Give the framework that a module's ``FRAMEWORK`` names, or whose names it has imported."""
    named = getattr(module, "FRAMEWORK", None)
    if named is not None:
        return str(named)
    origins = {
        (v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) or "").split(
            "."
        )[0]
        for v in vars(module).values()
    }
    return next((name for name in ("torch", "jax") if name in origins), "numpy")


def floating_arguments(args: Sequence[Array]) -> list[int]:
    """Give the positions of the arguments that can be differentiated."""
    return [i for i, a in enumerate(args) if is_floating(a)]
