"""The function under test, made uniform: native arrays in, a list of native arrays out.

``subject(fn, inputs)`` finds the framework, turns a torch module into a function of its parameters,
and gives the value, the VJP and the JVP by the framework's own modes (or the caller's). Everything
that the function under test does runs through ``limited``, so that what it raises, and that it does
not come back, is a ``Fault`` with a sentence, never a traceback of ours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from ffverify.exact.programs import listed
from ffverify.frameworks.arguments import floating, pulled_by, pushed_by, zeros_for_none
from ffverify.frameworks.framework import Framework, framework_of
from ffverify.verdicts.verdict import Verdict

Function = Callable[..., Any]

TIME_LIMIT = 60.0  # seconds for one call of the function under test


class Fault(Exception):
    """What the function under test did instead of giving an answer."""

    def __init__(self, sentence: str, kind: Verdict = Verdict.INCONCLUSIVE) -> None:
        super().__init__(sentence)
        self.kind = kind


class _Worker:
    """A thread that runs calls one after the other: a new one for each costs more than most calls."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self.results: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self.process = os.getpid()  # a fork has no threads
        threading.Thread(target=_work, args=(self.calls, self.results), daemon=True).start()

    def __del__(self) -> None:
        self.calls.put(None)


def _work(
    calls: SimpleQueue[Callable[[], Any] | None], results: SimpleQueue[tuple[bool, Any]]
) -> None:
    while (call := calls.get()) is not None:
        try:
            with np.errstate(all="ignore"):
                results.put((True, call()))
        except BaseException as error:  # noqa: BLE001 - whatever the code under test raises is its own
            results.put((False, error))
        del call  # nothing of the caller's is kept until the next one


_own = threading.local()  # one worker for every thread: calls may be nested


def limited(call: Callable[[], Any], what: str, *, kind: Verdict = Verdict.INCONCLUSIVE) -> Any:
    """Run code under test; turn what it raises, and its not coming back, into a `Fault`."""
    worker = getattr(_own, "worker", None)
    if worker is None or worker.process != os.getpid():
        worker = _Worker()
    # Until it has answered it is nobody's: a worker that is given up has its answer yet to come.
    _own.worker = None
    worker.calls.put(call)
    try:
        fine, result = worker.results.get(timeout=TIME_LIMIT)
    except Empty:
        raise Fault(f"{what} did not come back within {TIME_LIMIT:g} s") from None
    _own.worker = worker
    if not fine:
        if isinstance(result, KeyboardInterrupt):
            raise result
        lines = str(result).strip().splitlines()
        raise Fault(
            f"{what} raised {type(result).__name__}{': ' + lines[0] if lines else ''}", kind
        ) from result
    return result


@dataclass(frozen=True)
class FunctionUnderTest:
    """A function under test with its derivatives.

    Attributes
    ----------
    name, framework
        How to call it in a report; whose arrays it takes.
    fn
        ``fn(*native)`` gives a native array or a tuple of them.
    labels
        One name per argument.
    caller_vjp, caller_jvp
        The caller's own derivatives, ``vjp(cotangents, *inputs)`` and ``jvp(tangents, *inputs)``.
    reverse, forward
        The names of the two modes in a report ("reverse", "forward"; "rr", "fr", … at order 2);
        empty for a mode that is not there to be checked.
    """

    name: str
    framework: Framework
    fn: Function
    labels: tuple[str, ...]
    caller_vjp: Function | None = None
    caller_jvp: Function | None = None
    reverse: str = "reverse"
    forward: str = "forward"

    def value(self, args: Sequence[Any]) -> list[Any]:
        """Call the function; give its results as a list."""
        return limited(lambda: listed(self.fn(*args)), self.name)  # type: ignore[no-any-return]  # a list

    def attached(self, args: Sequence[Any], count: int) -> list[bool]:
        """Tell which of several results are to be differentiated.

        One that is detached beside others that are not, as saved statistics are, is not meant to be.
        """
        if count < 2 or self.caller_vjp is not None or self.reverse != "reverse":
            return [True] * count
        found: list[bool] = limited(lambda: self.framework.attached(self.fn, args), self.name)
        return found if any(found) and len(found) == count else [True] * count

    def vjp(self, args: Sequence[Any], cotangents: Sequence[Any | None]) -> list[Any]:
        """Pull cotangents back; one gradient, or None, per argument (None for integer ones)."""
        what = f"the VJP of {self.name}"
        rule = self.caller_vjp
        if rule is None:
            kind = Verdict.INCONCLUSIVE if self.framework.name == "numpy" else Verdict.WRONG
            return limited(lambda: self.framework.vjp(self.fn, args, cotangents), what, kind=kind)  # type: ignore[no-any-return]  # a list
        results = self.value(args)
        gradients: list[Any] = limited(
            lambda: listed(pulled_by(rule, cotangents, results, args)), what, kind=Verdict.WRONG
        )
        if len(gradients) != len(args):
            raise Fault(
                f"{what} returned {len(gradients)} gradients for {len(args)} inputs: "
                "return one per input, None for an integer one",
                Verdict.WRONG,
            )
        return gradients

    def vjp_twice(
        self, args: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[list[Any]] | None:
        """Pull cotangents back twice through one graph; None where no graph is kept."""
        if self.caller_vjp is not None:
            return None
        what = f"a second backward through {self.name}"
        return limited(lambda: self.framework.vjp_twice(self.fn, args, cotangents), what)  # type: ignore[no-any-return]  # two lists

    def jvp(self, args: Sequence[Any], tangents: Sequence[Any | None]) -> list[Any]:
        """Push tangents forward; one tangent per result."""
        what = f"the JVP of {self.name}"
        rule = self.caller_jvp
        if rule is not None:
            return limited(  # type: ignore[no-any-return]  # a list
                lambda: listed(pushed_by(rule, tangents, args)), what, kind=Verdict.WRONG
            )
        nesting = self.forward == "ff"
        push = self.framework.jvp
        return limited(lambda: push(self.fn, args, tangents, nesting=nesting), what)  # type: ignore[no-any-return]  # a list

    def pulled_back(self, cotangents: Sequence[Any | None]) -> FunctionUnderTest:
        """Give the gradient of ⟨cotangents, fn⟩ as a function, to be checked in its turn."""
        rule = self.caller_vjp

        def gradient(*args: Any) -> tuple[Any, ...]:
            if rule is not None:
                given = tuple(cotangents) if len(cotangents) > 1 else cotangents[0]
                return tuple(g for g in listed(rule(given, *args)) if g is not None)
            wrt = floating(args)
            gradients = self.framework.vjp(self.fn, args, cotangents, wrt=wrt, graph=True)
            filled = zeros_for_none(gradients, args)
            return tuple(g for g, f in zip(filled, wrt, strict=True) if f)

        return self._derived(gradient, "r")

    def pushed_forward(self, tangents: Sequence[Any | None]) -> FunctionUnderTest:
        """Give the derivative of fn along tangents as a function, to be checked in its turn."""
        rule = self.caller_jvp

        def derivative(*args: Any) -> tuple[Any, ...]:
            if rule is not None:
                return tuple(listed(pushed_by(rule, tangents, args)))
            return tuple(self.framework.jvp(self.fn, args, tangents, nesting=True))

        return self._derived(derivative, "f")

    def _derived(self, fn: Function, inner: str) -> FunctionUnderTest:
        return replace(
            self,
            name=f"the {'gradient' if inner == 'r' else 'JVP'} of {self.name}",
            fn=fn,
            caller_vjp=None,
            caller_jvp=None,
            reverse=f"r{inner}" if self.reverse else "",
            forward=f"f{inner}" if self.forward else "",
        )


def _leaves(results: Any) -> list[Any]:
    """Give the arrays in nested tuples, lists and dicts, as of an LSTM; what is None is left out."""
    if isinstance(results, dict):
        results = list(results.values())
    if not isinstance(results, tuple | list):
        return [] if results is None else [results]
    return [leaf for part in results for leaf in _leaves(part)]


def _flat(fn: Function) -> Function:
    """Give a function with the same results, one array or a flat tuple of them."""

    def flat(*args: Any) -> Any:
        results = fn(*args)
        return tuple(_leaves(results)) if isinstance(results, tuple | list | dict) else results

    return flat


def subject(
    fn: Function, inputs: Sequence[Any], *, vjp: Function | None, jvp: Function | None
) -> tuple[FunctionUnderTest, list[Any]]:
    """Give the subject of a check and its inputs, a torch module's parameters among them."""
    kind = framework_of(*inputs, fn)
    name = getattr(fn, "__name__", type(fn).__name__).replace("<lambda>", "f")
    labels = [f"input {i}" if len(inputs) > 1 else "input" for i in range(len(inputs))]
    extra: list[Any] = []
    function = fn
    if kind.name == "torch":
        import torch

        if isinstance(fn, torch.nn.Module):
            parameters = {n: p.detach().clone() for n, p in fn.named_parameters()}
            buffers = dict(fn.named_buffers())
            labels += list(parameters)
            extra = list(parameters.values())
            count = len(inputs)

            def function(*args: Any) -> Any:
                state = dict(zip(parameters, args[count:], strict=True))
                state |= {n: b.clone() for n, b in buffers.items()}
                return torch.func.functional_call(fn, state, args[:count])

    modes = ("reverse", "forward")
    if vjp is not None or jvp is not None:
        modes = ("reverse" if vjp else "", "forward" if jvp else "")
    made = FunctionUnderTest(name, kind, _flat(function), tuple(labels), vjp, jvp, *modes)
    return made, [*inputs, *extra]
