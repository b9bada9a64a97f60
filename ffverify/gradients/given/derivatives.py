"""Derivatives as people have them: a VJP, a JVP, the gradient of a number, the diagonal of a Hessian.

``Derivatives(...)`` holds those of one check. Whatever form they have, the judge is asked about a VJP and a
JVP: a gradient g is the VJP v ↦ v·g of the sum of the results, and the diagonal of a Hessian that of the
gradient's elements, each as a function of its own input alone (`diagonal`).
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffverify.frameworks.arrays import like, ones_like, to_numpy
from ffverify.frameworks.trees import flatten
from ffverify.gradients.function_under_test import Fault, FunctionUnderTest

Function = Callable[..., Any]
MODES = ("reverse", "forward")
_MOST = 8  # elements of a gradient that are moved one by one, where rows depend on each other


@dataclass(frozen=True)
class Derivatives:
    """Whose derivatives of a function are checked: the caller's, or the framework's own.

    Parameters
    ----------
    vjp, jvp, gradient, hessian_diagonal, modes
        As `gradcheck` takes them.

    Raises
    ------
    TypeError
        If one of them cannot be called.
    ValueError
        If they contradict each other, or a mode is not known.
    """

    vjp: Function | None = None
    jvp: Function | None = None
    gradient: Function | bool | None = None
    hessian_diagonal: Function | None = None
    modes: Sequence[str] = MODES

    def __post_init__(self) -> None:
        for name in ("vjp", "jvp", "gradient", "hessian_diagonal"):
            rule = getattr(self, name)
            if rule is not None and rule is not True and not callable(rule):
                raise TypeError(f"{name}={rule!r} cannot be called: give a function")
        if self.vjp is not None and self.gradient is not None:
            raise ValueError("vjp= and gradient= are both given: one of them is to be checked")
        asked = [self.modes] if isinstance(self.modes, str) else list(self.modes)
        for mode in asked:
            if mode not in MODES:
                meant = difflib.get_close_matches(str(mode), MODES, 1, 0.3)
                known = f"did you mean {meant[0]!r}?" if meant else f"use {' and '.join(MODES)}"
                raise ValueError(f"modes={self.modes!r}: {mode!r} is no mode: {known}")
        if not any(self.checked()):
            raise ValueError(f"modes={self.modes!r}: none of them is left to be checked")

    def checked(self) -> tuple[str, str]:
        """Give the reverse and the forward mode, empty where it is not to be checked."""
        reverse, forward = (mode if mode in self.modes else "" for mode in MODES)
        if self.own:
            reverse = reverse if self.vjp is not None or self.gradient is not None else ""
            forward = forward if self.jvp is not None else ""
        return reverse, forward

    @property
    def own(self) -> list[str]:
        """The names of the caller's first derivatives."""
        return [n for n in ("vjp", "jvp", "gradient") if getattr(self, n) is not None]

    def of(self, fn: Function) -> tuple[Function, Function | None]:
        """Give the function that is to be checked, and the caller's VJP of it."""
        if self.gradient is None and self.hessian_diagonal is None:
            return fn, self.vjp
        value: Function = fn
        gradient: Function | bool | None = self.gradient
        if gradient is True:  # value and gradient at once, as scipy.optimize has it with jac=True
            value, gradient = _part(fn, 0), _part(fn, 1)

        @functools.wraps(value)
        def total(*args: Any, **named: Any) -> Any:
            results = [x.value for x in flatten(value(*args, **named)).leaves]
            if len(results) != 1:
                raise TypeError(f"it has {len(results)} results, and gradient= is of one")
            return results[0].sum() if hasattr(results[0], "sum") else results[0]

        if not callable(gradient):
            return total, self.vjp

        def pulled(v: Any, *args: Any, **named: Any) -> Any:
            tree = flatten(gradient(*args, **named))
            return tree.rebuild([None if x.value is None else v * x.value for x in tree.leaves])

        return total, pulled

    def said(self, framework: str) -> str:
        """Say whose derivatives are checked."""
        own = [f"{n}=" for n in (*self.own, "hessian_diagonal") if getattr(self, n) is not None]
        if self.own:
            return f"the caller's {' and '.join(own)}"
        whose = {
            "torch": "torch's autograd",
            "jax": "JAX's",
            "numpy": "ffverify.reference's, not the caller's (give vjp=, jvp= or gradient= to check those)",
        }[framework]
        return f"{whose}, and the caller's {own[0]}" if own else whose


def _part(fn: Function, place: int) -> Function:
    @functools.wraps(fn)
    def part(*args: Any, **named: Any) -> Any:
        return fn(*args, **named)[place]

    return part


def diagonal(
    made: FunctionUnderTest, rule: Function, native: Sequence[Any], rng: np.random.Generator
) -> tuple[FunctionUnderTest, str]:
    """Give the gradient of a function to a number, each element as a function of its own input alone.

    Its Jacobian is diagonal, and that of ``rule`` the caller's. Where rows depend on each other only a few
    elements are moved, each by itself; the second result says so.

    Raises
    ------
    Fault
        If more than one array is differentiated by.
    """
    chosen = [k for k, w in enumerate(made.wrt) if w]
    if len(chosen) != 1:
        names = ", ".join(made.labels[k] for k in chosen)
        raise Fault(
            f"hessian_diagonal= is of one input, and there are {names}: declare the others ffverify.data"
        )
    (k,) = chosen
    base = native[k]
    one = [ones_like(r) for r in made.value(native)]
    derived = made.pulled_back(one)
    given = made.arguments

    def gradient(*arrays: Any) -> Any:
        (found,) = derived.fn(*arrays)
        return found

    def masks() -> list[Any]:
        size = to_numpy(base).size
        places = rng.permutation(size)[:_MOST]
        return [like(base, (np.arange(size) == p).reshape(np.shape(base))) for p in places]

    independent = _is_elementwise(derived, native, k)
    parts = None if independent else masks()

    def by_itself(*arrays: Any) -> Any:
        if parts is None:
            return gradient(*arrays)
        total = None
        for mask in parts:
            alone = base * (1 - mask) + arrays[k] * mask
            term = gradient(*arrays[:k], alone, *arrays[k + 1 :]) * mask
            total = term if total is None else total + term
        return total

    def pulled(v: Any, *arrays: Any) -> tuple[Any, ...]:
        try:
            diagonal = given.parts(given.apply(rule, arrays), what="hessian_diagonal")[k]
        except ValueError as error:
            raise Fault(str(error)) from None
        bars: list[Any] = [None] * len(arrays)
        bars[k] = v * diagonal
        if parts is not None:
            bars[k] = bars[k] * sum(parts[1:], start=parts[0])
        return tuple(bars)

    size = to_numpy(base).size
    few = "" if independent or size <= _MOST else f"only {_MOST} of {size} elements at each input"
    subject = replace(
        derived, fn=by_itself, caller_vjp=pulled, reverse="hessian diagonal", forward=""
    )
    return subject, few


def _is_elementwise(derived: FunctionUnderTest, native: Sequence[Any], k: int) -> bool:
    """Tell whether every element of a gradient depends on its own input alone, as floats show it.

    Inputs move by halves of them, once for every binary digit of their places: any two are parted once.
    """
    x = to_numpy(native[k])
    places = np.arange(x.size).reshape(x.shape)
    before = to_numpy(derived.value(native)[0])
    for bit in range(max(x.size - 1, 0).bit_length()):
        for side in (0, 1):
            moved = (places >> bit) & 1 == side
            other = like(native[k], np.where(moved, 0.75 * x + 0.125, x))
            after = to_numpy(derived.value([*native[:k], other, *native[k + 1 :]])[0])
            if not np.array_equal(after[~moved], before[~moved], equal_nan=True):
                return False
    return True
