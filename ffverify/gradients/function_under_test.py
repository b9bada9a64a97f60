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

from ffverify.frameworks.arrays import framework_of, is_floating, zeros_like
from ffverify.frameworks.derivatives import (
    jax_jvp,
    jax_vjp,
    listed,
    numpy_jvp,
    numpy_vjp,
    torch_func_jvp,
    torch_jvp,
    torch_vjp,
    torch_vjp_twice,
)
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
class Subject:
    """A function under test with its derivatives.

    Attributes
    ----------
    name, framework
        How to call it in a report; "numpy", "torch" or "jax".
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
    framework: str
    fn: Function
    labels: tuple[str, ...]
    caller_vjp: Function | None = None
    caller_jvp: Function | None = None
    reverse: str = "reverse"
    forward: str = "forward"

    def value(self, args: Sequence[Any]) -> list[Any]:
        """Call the function; give its results as a list."""
        return limited(lambda: listed(self.fn(*args)), self.name)  # type: ignore[no-any-return]  # a list

    def vjp(self, args: Sequence[Any], cotangents: Sequence[Any | None]) -> list[Any]:
        """Pull cotangents back; one gradient, or None, per argument (None for integer ones)."""
        what = f"the VJP of {self.name}"
        if self.caller_vjp is not None:
            bars = [
                zeros_like(o) if v is None else v
                for v, o in zip(cotangents, self.value(args), strict=True)
            ]
            given = tuple(bars) if len(bars) > 1 else bars[0]
            rule = self.caller_vjp
            gradients = limited(lambda: listed(rule(given, *args)), what, kind=Verdict.WRONG)
            if len(gradients) != len(args):
                raise Fault(
                    f"{what} returned {len(gradients)} gradients for {len(args)} inputs: "
                    "return one per input, None for an integer one",
                    Verdict.WRONG,
                )
            return list(gradients)
        pull = {"numpy": numpy_vjp, "torch": torch_vjp, "jax": jax_vjp}[self.framework]
        kind = Verdict.INCONCLUSIVE if self.framework == "numpy" else Verdict.WRONG
        return limited(lambda: pull(self.fn, args, cotangents), what, kind=kind)  # type: ignore[no-any-return]  # a list

    def vjp_twice(
        self, args: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[list[Any]] | None:
        """Pull cotangents back twice through one graph; None where no graph is kept."""
        if self.framework != "torch" or self.caller_vjp is not None:
            return None
        what = f"a second backward through {self.name}"
        return limited(lambda: torch_vjp_twice(self.fn, args, cotangents), what)  # type: ignore[no-any-return]  # two lists

    def jvp(self, args: Sequence[Any], tangents: Sequence[Any | None]) -> list[Any]:
        """Push tangents forward; one tangent per result."""
        what = f"the JVP of {self.name}"
        if self.caller_jvp is not None:
            dots = tuple(
                zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)
            )
            rule = self.caller_jvp
            return limited(lambda: listed(rule(dots, *args)), what)  # type: ignore[no-any-return]  # a list
        push = {"numpy": numpy_jvp, "torch": torch_jvp, "jax": jax_jvp}[self.framework]
        if push is torch_jvp and self.forward == "ff":  # dual numbers do not nest
            push = torch_func_jvp
        return limited(lambda: push(self.fn, args, tangents), what)  # type: ignore[no-any-return]  # a list

    def pulled_back(self, cotangents: Sequence[Any | None]) -> Subject:
        """Give the gradient of ⟨cotangents, fn⟩ as a function, to be checked in its turn."""
        pull = {"numpy": numpy_vjp, "torch": torch_vjp, "jax": jax_vjp}[self.framework]
        if self.caller_vjp is not None:
            given = tuple(cotangents) if len(cotangents) > 1 else cotangents[0]
            rule = self.caller_vjp
            return self._derived(
                lambda *args: tuple(g for g in listed(rule(given, *args)) if g is not None), "r"
            )
        return self._derived(
            lambda *args: tuple(
                g if g is not None else zeros_like(a)
                for g, a in zip(pull(self.fn, args, cotangents, graph=True), args, strict=True)
                if is_floating(a)
            ),
            "r",
        )

    def pushed_forward(self, tangents: Sequence[Any | None]) -> Subject:
        """Give the derivative of fn along tangents as a function, to be checked in its turn."""
        if self.caller_jvp is not None:
            rule = self.caller_jvp
            return self._derived(
                lambda *args: tuple(
                    listed(
                        rule(
                            tuple(
                                zeros_like(a) if t is None else t
                                for a, t in zip(args, tangents, strict=True)
                            ),
                            *args,
                        )
                    )
                ),
                "f",
            )
        push = {"numpy": numpy_jvp, "torch": torch_func_jvp, "jax": jax_jvp}[self.framework]
        return self._derived(lambda *args: tuple(push(self.fn, args, tangents)), "f")

    def _derived(self, fn: Function, inner: str) -> Subject:
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
) -> tuple[Subject, list[Any]]:
    """Give the subject of a check and its inputs, a torch module's parameters among them."""
    kind = framework_of(inputs, fn)
    name = getattr(fn, "__name__", type(fn).__name__).replace("<lambda>", "f")
    labels = [f"input {i}" if len(inputs) > 1 else "input" for i in range(len(inputs))]
    extra: list[Any] = []
    function = fn
    if kind == "torch":
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
    made = Subject(name, kind, _flat(function), tuple(labels), vjp, jvp, *modes)
    return made, [*inputs, *extra]
