"""Is this gradient right? ``gradcheck(fn, inputs)`` answers with proof, and no tolerance to tune.

>>> import numpy as np
>>> from ffverify import gradcheck
>>> gradcheck(lambda x: np.log1p(np.exp(x)), np.array([0.5, -3.0])).ok
True

The derivatives that a function's own framework (or the caller) computes are compared with the exact
derivative of the function, from the same program run in high precision. The verdict says whether
the formula is wrong, or right but computed with a loss of digits, or not finite.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.alone import alone
from ffverify.exact.formats import dtype_name, is_floating
from ffverify.frameworks.arguments import refuse_count, shortened
from ffverify.frameworks.arrays import to_numpy

from .check import Check
from .function_under_test import Clock
from .given.derivatives import MODES, Derivatives
from .given.searching import search
from .given.slots import Slots
from .report import GradcheckError, GradcheckReport, listeners
from .reporting.summary import summary


@alone
def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    gradient: Callable[..., Any] | bool | None = None,
    hessian_diagonal: Callable[..., Any] | None = None,
    modes: Sequence[str] = MODES,
    truth: Callable[..., Any] | str | None = None,
    order: int = 1,
    strict: bool = False,
    max_examples: int = 200,
    seed: int = 0,
    timeout: float | None = None,
    time_limit: float | None = None,
    progress: Callable[[str], Any] | None = None,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Check the derivatives of a function against exact ones.

    Linearity, layouts in memory and rows alone are tried at one input, and not again in later checks of the
    same function and derivatives at inputs of these shapes, as long as it computes what it did. A lambda is
    the same where its code is and what it has captured; so are torch functions that execute the same and are
    differentiated by the same autograd functions. A NumPy function whose branches depend on numbers is asked
    every time.

    The function is called in the thread that calls this one. Several threads may check at a time: one
    works, the others wait, because the precision of exact numbers belongs to the process.

    Parameters
    ----------
    fn
        A function of NumPy, torch or JAX arrays that returns an array, or arrays in tuples, lists and
        dicts, a torch module (its parameters are checked too), or a ``torch.autograd.Function``.
    inputs
        One argument, a tuple or list of them, or a dict of them by name. An argument is an array, a
        Hypothesis strategy, or a tree of these in dicts, lists, tuples and dataclasses; what is no array
        of numbers is passed as it is. Arrays are one point; strategies are searched and shrunk. Integers,
        truth values, ``ffverify.data(x)``, tensors that require no gradient beside others that do, and
        floats for which ``vjp`` gives None are data. ``ffverify.symmetric(x)`` and its kind are varied
        within their kind only. Complex arrays are varied by their real and imaginary parts: a gradient is
        ∂/∂Re + i ∂/∂Im of a real number, in NumPy as in torch, its conjugate in JAX.
    vjp, jvp
        The caller's own derivatives, ``vjp(cotangent, *inputs)`` (a tuple of cotangents for several
        results; a dict for a dict), which gives one gradient per input, built like it, and
        ``jvp(tangents, *inputs)``. By default the framework's own modes are checked,
        for NumPy functions those of `ffverify.reference`.
    gradient, hessian_diagonal
        The caller's ``gradient(*inputs)`` and ``hessian_diagonal(*inputs)`` of a number, or of the sum of
        losses per row, as scipy.optimize and boosting objectives have them. ``gradient=True``: the function
        gives (value, gradient).
    modes
        Which of "reverse" and "forward" to check, of those that there are.
    truth
        A plain NumPy function taken as the definition, or a name of the textbook catalogue.
    order
        2 checks the derivatives of both modes by both modes as well.
    strict
        Losses of more than a quarter of the digits are errors, in place of half, and in what one input alone
        makes, or at inputs that are given and not drawn, small ones beside the natural scale too. What
        conditioning allows stays allowed; an exact 0 has no digits.
    max_examples, seed
        How many inputs to draw from strategies, and the seed of everything random.
    timeout, time_limit
        How many seconds one call of the function may take (10 by default), and until when new inputs are
        drawn. After a call that did not come back the function is not called again.
    progress
        Called with the function's name after every input.
    raise_exception
        Raise `GradcheckError` if the check fails.

    Raises
    ------
    GradcheckError
        If an error is found, or if nothing could be judged.
    KeyboardInterrupt
        On Ctrl-C; its ``report`` says what was found so far.
    TypeError
        If ``fn`` cannot be called, an input cannot be judged (sparse, masked, float8 ...), none is an
        array of floats, they are more or fewer than it takes, or torch's and JAX's are mixed.
    ValueError
        If ``order`` is neither 1 nor 2, the inputs are none or all empty, ``max_examples`` or ``seed`` is no
        count, ``modes`` are not known, or ``vjp`` and ``gradient`` are both given.
    """
    __tracebackhide__ = True
    began = time.perf_counter()
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}, which cannot be called: give a function of arrays")
    if isinstance(fn, type) and any(c.__module__ == "torch.autograd.function" for c in fn.__mro__):
        fn = fn.apply  # type: ignore[attr-defined]  # a class of torch.autograd.Function's
    if order not in (1, 2):
        raise ValueError(f"order={order!r}: gradcheck knows order=1 and order=2")
    counts: list[tuple[str, Any, int]] = [("max_examples", max_examples, 1), ("seed", seed, 0)]
    for name, value, least in counts:
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}={value!r}: give an integer from {least} on")
    times: list[tuple[str, Any]] = [("timeout", timeout), ("time_limit", time_limit)]
    for name, seconds in times:
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise ValueError(f"{name}={seconds!r}: give seconds, more than 0")
    if isinstance(inputs, tuple | list | dict) and not inputs:
        raise ValueError("inputs is empty: give at least one array or strategy")
    refuse_count(fn, inputs)
    own = Derivatives(vjp, jvp, gradient, hessian_diagonal, modes)
    clock = Clock(timeout, began + (time_limit or math.inf))
    check = Check(fn, own, truth, order, strict, seed, clock, progress)
    again = partial(
        gradcheck, fn, **vars(own), truth=truth, order=order, strict=strict, seed=seed,
        timeout=timeout, raise_exception=False,
    )  # fmt: skip
    slots = Slots(fn, inputs)
    try:
        if slots.strategies:
            search(check, slots, max_examples)
        else:
            check.at(inputs)
            _refuse_nothing(check.native, inputs)
        report = summary(check, time.perf_counter() - began, again)
    except KeyboardInterrupt as stopped:
        so_far = replace(summary(check, time.perf_counter() - began, again), stopped=True)
        stopped.report = so_far  # type: ignore[attr-defined]  # for whoever catches it
        stopped.add_note(str(so_far))
        raise
    if "hypothesis" in sys.modules:  # a test of its may be around
        from ffverify.search import leave_out

        leave_out(began)
    for tell in listeners:
        tell(report)
    if raise_exception and not report.ok:
        raise GradcheckError(report)
    return report


def _refuse_nothing(arrays: Sequence[Any], inputs: Any) -> None:
    """Refuse a point without any float to differentiate by, a module's parameters among them."""
    floats = [a for a in arrays if is_floating(a)]
    if not floats:
        kinds = ", ".join(dict.fromkeys(map(dtype_name, arrays)))
        raise TypeError(
            f"inputs={shortened(inputs)}: there is nothing but {kinds}, and derivatives are by floats: "
            "give some, as np.array([1.0, 2.0])"
        )
    if not any(to_numpy(a).size for a in floats):
        raise ValueError(f"inputs={shortened(inputs)}: the floats are empty: give one at least")
