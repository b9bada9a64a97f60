"""The function under test, made uniform: native arrays in, a list of native arrays out.

``subject(fn, inputs)`` finds the framework, turns a torch module into a function of its parameters,
and gives the value, the VJP and the JVP by the framework's own modes (or the caller's). Everything
that the function under test does runs through ``limited``, so that what it raises, and that it does
not come back, is a ``Fault`` with a sentence, never a traceback of ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ffverify.exact.formats import is_floating
from ffverify.exact.programs import listed
from ffverify.frameworks import declared
from ffverify.frameworks.arguments import (
    Arguments,
    arguments,
    is_complex,
    pulled_by,
    pushed_by,
    varied,
    zeros_for_none,
)
from ffverify.frameworks.arrays import ones_like
from ffverify.frameworks.chosen import those
from ffverify.frameworks.framework import Framework, Pullback, framework_of
from ffverify.frameworks.trees import Leaf, Tree, flatten, is_leaf
from ffverify.time_limit import Overran, within
from ffverify.verdicts.verdict import Verdict

Function = Callable[..., Any]

TIME_LIMIT = 10.0  # seconds for one call of the function under test


@dataclass
class Clock:
    """The time of one check: what one call may take, until when all may, and whether a call did not end."""

    timeout: float | None = None
    until: float = math.inf
    hung: str = ""

    def left(self) -> float:
        """Give the seconds that a call may take."""
        timeout = TIME_LIMIT if self.timeout is None else self.timeout
        return min(timeout, max(self.until - time.perf_counter(), 1.0))

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        return bool(self.hung) or time.perf_counter() >= self.until


class Fault(Exception):
    """What the function under test did instead of giving an answer."""

    def __init__(self, sentence: str, kind: Verdict = Verdict.INCONCLUSIVE) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True)
class Call:
    """How a check was called: the function as code, the options, and how many of its inputs were given."""

    function: str = "f"
    options: str = ""
    given: int | None = None
    by: str = "gradcheck"


def name_of(fn: Callable[..., Any]) -> str:
    """Give how to call a function in a report: of an ``autograd.Function``'s apply the class."""
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, type) and getattr(fn, "__name__", "") == "apply":
        return owner.__name__
    inner = getattr(fn, "func", None)  # of functools.partial
    if inner is not None and not hasattr(fn, "__name__"):
        return name_of(inner)
    return str(getattr(fn, "__name__", type(fn).__name__)).replace("<lambda>", "f")


def is_lambda(fn: Callable[..., Any]) -> bool:
    """Tell whether a function has no name."""
    return getattr(fn, "__name__", "") == "<lambda>"


def written(fn: Callable[..., Any]) -> str:
    """Give a function as one writes it in code."""
    name = name_of(fn)
    return f"{name}.apply" if name != "apply" and getattr(fn, "__name__", "") == "apply" else name


def limited(
    call: Callable[[], Any],
    what: str,
    *,
    kind: Verdict = Verdict.INCONCLUSIVE,
    clock: Clock | None = None,
) -> Any:
    """Run code under test; turn what it raises, and its not coming back, into a `Fault`.

    What did not come back once is not called again by the same clock.
    """
    clock = clock or Clock()
    if clock.hung:
        raise Fault(clock.hung)
    seconds = clock.left()
    try:
        with np.errstate(all="ignore"):
            return within(seconds, call)
    except (KeyboardInterrupt, Fault):
        raise
    except Overran:
        clock.hung = f"{what} did not come back within {seconds:.3g} s"
        raise Fault(clock.hung) from None
    except BaseException as error:
        lines = str(error).strip().splitlines()
        raise Fault(
            f"{what} raised {type(error).__name__}{': ' + lines[0] if lines else ''}", kind
        ) from error


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
    wrt
        Which arguments are differentiated by.
    arguments
        What the caller's function is called with.
    caller_vjp, caller_jvp
        The caller's own derivatives, ``vjp(cotangents, *inputs)`` and ``jvp(tangents, *inputs)``.
    clock, call
        How much time there is, and how the check was called.
    known
        What derivatives were seen to execute at other inputs; None to call the framework every time.
    pulls
        The pullback of a pure function at the last inputs, which any cotangents are pulled through.
    around
        What every call is made within.
    reverse, forward
        The names of the two modes in a report ("reverse", "forward"; "rr", "fr", … at order 2);
        empty for a mode that is not there to be checked.
    """

    name: str
    framework: Framework
    fn: Function
    labels: tuple[str, ...]
    wrt: tuple[bool, ...]
    arguments: Arguments
    caller_vjp: Function | None = None
    caller_jvp: Function | None = None
    clock: Clock = field(default_factory=Clock, repr=False, compare=False)
    call: Call = field(default_factory=Call)
    known: dict[Any, Any] | None = field(default=None, repr=False, compare=False)
    reverse: str = "reverse"
    forward: str = "forward"
    pulls: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    around: Callable[[], AbstractContextManager[Any]] = field(
        default=nullcontext, repr=False, compare=False
    )

    def value(self, args: Sequence[Any]) -> list[Any]:
        """Call the function; give its results as a list."""
        call: Function = lambda *args: listed(self.fn(*args))  # noqa: E731
        if self.known is not None:
            key = (self.name, "value", self.arguments.key)
            call = partial(self.framework.replayed, call, self.known, key, loops=True)
        return self._limited(lambda: call(*args), args, self.name)  # type: ignore[no-any-return]  # a list

    def _limited(
        self,
        call: Callable[[], Any],
        args: Sequence[Any],
        what: str,
        *,
        kind: Verdict = Verdict.INCONCLUSIVE,
    ) -> Any:
        def scoped() -> Any:
            with self.framework.scope(args), self.around():
                return call()

        return limited(scoped, what, kind=kind, clock=self.clock)

    def given_at(self, args: Sequence[Any]) -> Any:
        """Give the inputs as the caller gave them, with other arrays in their places."""
        return self.arguments.given(args[: len(self.arguments.arrays)])

    def attached(self, args: Sequence[Any], count: int) -> list[bool]:
        """Tell which of several results are to be differentiated.

        One that is detached beside others that are not, as saved statistics are, is not meant to be.
        """
        if count < 2 or self.caller_vjp is not None or self.reverse != "reverse":
            return [True] * count
        look = self.framework.attached
        found: list[bool] = self._limited(lambda: look(self.fn, args, self.wrt), args, self.name)
        return found if any(found) and len(found) == count else [True] * count

    def vjp(self, args: Sequence[Any], cotangents: Sequence[Any | None]) -> list[Any]:
        """Pull cotangents back; one gradient, or None, per argument (None for integer ones)."""
        what = f"the VJP of {self.name}"
        rule = self.caller_vjp
        if rule is None:
            kind = Verdict.INCONCLUSIVE if self.framework.name == "numpy" else Verdict.WRONG
            call: Function = partial(self.framework.vjp, self.fn, wrt=self.wrt)
            if self.known is None and self.is_pure:
                kept = [v is not None for v in cotangents]
                call = lambda args, cotangents: self._pullback(args, kept)[1](cotangents)  # noqa: E731
            elif self.known is not None:
                key = (self.name, self.arguments.key)
                call = partial(self.framework.replayed, call, self.known, key)
            return self._limited(lambda: call(args, cotangents), args, what, kind=kind)  # type: ignore[no-any-return]  # a list
        results = self.value(args)
        gradients: list[Any] = self._limited(
            lambda: listed(pulled_by(rule, cotangents, results, args)),
            args,
            what,
            kind=Verdict.WRONG,
        )
        return [g if w else None for g, w in zip(gradients, self.wrt, strict=True)]

    def without_gradient(self, args: Sequence[Any]) -> list[str]:
        """Give the labels of floating arguments for which a caller's VJP gives None, if not for all."""
        if self.caller_vjp is None or sum(self.wrt) < 2:
            return []
        try:
            results = self.value(args)
            gradients = self.vjp(args, [ones_like(r) if is_floating(r) else None for r in results])
        except Fault:
            return []  # it is told when the VJP is checked
        pairs = [(n, g) for n, g, w in zip(self.labels, gradients, self.wrt, strict=True) if w]
        none = [n for n, g in pairs if g is None]
        return none if len(none) < len(pairs) else []

    @property
    def keeps_graph(self) -> bool:
        """Whether `pullback` goes through one graph again and again."""
        return self.framework.name == "torch" and self.caller_vjp is None

    def pullback(self, args: Sequence[Any], results: Sequence[Any]) -> Pullback:
        """Give what pulls cotangents back as `vjp` does, as often as asked, from one run of the function."""
        if self.caller_vjp is not None:
            return lambda cotangents: self.vjp(args, cotangents)
        kept = [is_floating(r) for r in results]
        first, what = self.name, f"another backward through {self.name}"
        if self.is_pure:
            first = what = f"the VJP of {self.name}"
        _, pull = self._limited(lambda: self._pullback(args, kept), args, first)
        return lambda cotangents: self._limited(lambda: pull(cotangents), args, what)

    @property
    def is_pure(self) -> bool:
        """Whether nobody can change an array, and a function is the same as long as it is one object."""
        return self.framework.name == "jax" and self.caller_vjp is None

    def on_the_way(self, mode: str, args: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        """Give floating results as a mode of the framework's computes them on the way to its derivatives."""
        kept = [is_floating(r) for r in results]

        def run() -> Sequence[Any]:
            if mode == self.reverse:
                return self._pullback(args, kept)[0]
            tangents = [ones_like(a) if w else None for a, w in zip(args, self.wrt, strict=True)]
            return those(self.framework.value_and_jvp(self.fn, args, tangents)[0], kept)

        return list(self._limited(run, args, self.name))

    def _pullback(
        self, args: Sequence[Any], kept: Sequence[bool]
    ) -> tuple[Sequence[Any], Pullback]:
        key = self.fn, *map(id, args), *kept
        if key not in self.pulls:
            self.pulls.clear()
            made = self.framework.pullback(self.fn, args, self.wrt, kept)
            if not self.is_pure:
                return made
            self.pulls[key] = made, args  # which it keeps alive
        return self.pulls[key][0]  # type: ignore[no-any-return]  # what `Framework.pullback` gives

    def jvp(self, args: Sequence[Any], tangents: Sequence[Any | None]) -> list[Any]:
        """Push tangents forward; one tangent per result."""
        what = f"the JVP of {self.name}"
        rule = self.caller_jvp
        if rule is not None:
            return self._limited(  # type: ignore[no-any-return]  # a list
                lambda: listed(pushed_by(rule, tangents, args)), args, what, kind=Verdict.WRONG
            )
        push: Function = partial(self.framework.jvp, self.fn, nesting=self.forward == "ff")
        if self.known is not None:
            key = (self.name, "forward", self.arguments.key)
            push = partial(self.framework.replayed, push, self.known, key)
        return self._limited(lambda: push(args, tangents), args, what)  # type: ignore[no-any-return]  # a list

    def pulled_back(self, cotangents: Sequence[Any | None]) -> FunctionUnderTest:
        """Give the gradient of ⟨cotangents, fn⟩ as a function, to be checked in its turn."""
        rule = self.caller_vjp

        def gradient(*args: Any) -> tuple[Any, ...]:
            if rule is not None:
                given = tuple(cotangents) if len(cotangents) > 1 else cotangents[0]
                return tuple(g for g in listed(rule(given, *args)) if g is not None)
            wrt = self.wrt
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
            known=None,
            reverse=f"r{inner}" if self.reverse else "",
            forward=f"f{inner}" if self.forward else "",
        )


class _Flattened:
    """A function of arrays whose results are one array or a flat tuple; None among them is left out.

    Complex results are given by their real and imaginary parts.
    """

    def __init__(self, fn: Function) -> None:
        self.__wrapped__ = fn
        self._tree: Tree | None = None

    def __call__(self, *arrays: Any) -> Any:
        results = self.__wrapped__(*arrays)
        self._tree = flatten(results)
        leaves = tuple(_real(x.value) for x in self._tree.leaves if x.value is not None)
        return leaves[0] if len(leaves) == 1 and is_leaf(results) else leaves

    def shaped(self, cotangents: Any) -> Any:
        """Give cotangents as a caller's VJP takes them: built like the results, tuples as such."""
        tree = self._tree
        if tree is None:
            return cotangents
        given = iter(cotangents if isinstance(cotangents, tuple) else (cotangents,))
        values = []
        for leaf in tree.leaves:
            v = None if leaf.value is None else next(given)
            values.append(framework_of(v).complex_of(v) if is_complex(leaf.value) else v)
        if not isinstance(cotangents, tuple):
            return next((v for v in values if v is not None), None)
        built = tree.rebuild(values)
        return tuple(built) if type(built) is list else built


def _real(value: Any) -> Any:
    return framework_of(value).parts(value) if is_complex(value) else value


def subject(
    fn: Function,
    inputs: Any,
    *,
    vjp: Function | None,
    jvp: Function | None,
    data: dict[str, str] | None = None,
    clock: Clock | None = None,
) -> tuple[FunctionUnderTest, list[Any]]:
    """Give the subject of a check and its arrays, a torch module's parameters among them.

    Parameters
    ----------
    inputs
        As `gradcheck` takes them, or `Arguments`.
    data
        Floating inputs that are not differentiated by, by label, and why.
    clock
        How much time there is.
    """
    given = inputs if isinstance(inputs, Arguments) else arguments(fn, inputs)
    given = given.without(data or {})
    kind = framework_of(*given.arrays, fn)
    name = name_of(fn)
    labels, wrt, extra = list(given.labels), list(given.wrt), list[Any]()
    function = given.called(fn)
    if kind.name == "torch":
        import torch

        if isinstance(fn, torch.nn.Module):
            module, count = fn, len(labels)
            parameters = dict(module.named_parameters())
            buffers = dict(module.named_buffers())
            leaves = [varied(Leaf(n, p.detach().clone())) for n, p in parameters.items()]
            labels += [leaf.label for leaf in leaves]
            wrt += [p.requires_grad for p in parameters.values()]
            extra = [leaf.value for leaf in leaves]

            def function(*arrays: Any) -> Any:
                moved = zip(leaves, arrays[count:], strict=True)
                whole = (declared.within(leaf.declared, a, leaf.value) for leaf, a in moved)
                state = dict(zip(parameters, whole, strict=True))
                device = next((a.device for a in arrays if isinstance(a, torch.Tensor)), None)
                state |= {n: b.to(device, copy=True) for n, b in buffers.items()}

                def call(*args: Any, **named: Any) -> Any:
                    return torch.func.functional_call(module, state, args, named)

                return given.apply(call, arrays[:count])

    if kind.name == "torch":  # running statistics are changed at every call: each gets its own
        function = _with_own_data(function, wrt, kind)
    flat = _Flattened(function)
    around = partial(_grads_kept, name, _grads(fn) if kind.name == "torch" else [])
    modes = ("reverse", "forward")
    if vjp is not None or jvp is not None:
        modes = ("reverse" if vjp else "", "forward" if jvp else "")
    made = FunctionUnderTest(
        name, kind, flat, tuple(labels), tuple(wrt), given,
        None if vjp is None else _pulling(vjp, given, flat, name),
        None if jvp is None else _pushing(jvp, given),
        clock or Clock(), Call(written(fn)), None, *modes, around=around,
    )  # fmt: skip
    return made, [*given.arrays, *extra]


def _grads(fn: Any) -> list[tuple[str, Any, Any, Any, int]]:
    """Give a torch module's parameters by name, each with its .grad, the numbers in it and their version."""
    named = fn.named_parameters() if hasattr(fn, "named_parameters") else ()
    each = ((n, p, p.grad) for n, p in named)
    return [(n, p, g, *((None, 0) if g is None else (g.clone(), g._version))) for n, p, g in each]  # noqa: SLF001 - torch has no other way


@contextmanager
def _grads_kept(name: str, grads: Sequence[tuple[str, Any, Any, Any, int]]) -> Iterator[None]:
    """Keep what lies in .grad of a module's parameters.

    Raises
    ------
    Fault
        If code adds to it by itself, as reversible blocks do: then it is no gradient that autograd gives.
    """
    yield
    touched = []
    for n, p, held, numbers, version in grads:
        if p.grad is not held or (held is not None and held._version != version):  # noqa: SLF001 - see there
            touched.append(n)
            p.grad = held if held is None else held.copy_(numbers)
    if touched:
        raise Fault(
            f"{name} runs backward inside of its own and adds to the .grad of {', '.join(touched)}: "
            "autograd gives no gradient by these: check a function of the inputs and of these as inputs"
        )


def _with_own_data(fn: Function, wrt: Sequence[bool], kind: Framework) -> Function:
    """Give a function that gets copies of the floats that are not differentiated by."""

    def call(*arrays: Any) -> Any:
        pairs = zip(arrays, wrt, strict=True)
        return fn(*(a if w or not is_floating(a) else kind.copied(a) for a, w in pairs))

    return call


def _pulling(rule: Function, given: Arguments, flat: _Flattened, name: str) -> Function:
    """Give a caller's VJP as a function of arrays that gives one gradient per array."""

    def pulled(cotangents: Any, *arrays: Any) -> tuple[Any, ...]:
        bars = given.apply(rule, arrays, flat.shaped(cotangents))
        try:
            return tuple(given.parts(bars, what=f"the VJP of {name}"))
        except ValueError as error:
            raise Fault(str(error), Verdict.WRONG) from None

    return pulled


def _pushing(rule: Function, given: Arguments) -> Function:
    """Give a caller's JVP as a function of arrays that gives one tangent per result."""

    def pushed(tangents: Any, *arrays: Any) -> tuple[Any, ...]:
        found = flatten(given.apply(rule, arrays, given.filled(tangents)))
        return tuple(_real(leaf.value) for leaf in found.leaves if leaf.value is not None)

    return pushed
