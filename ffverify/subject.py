"""The function under test, made uniform: native arrays in, a list of native arrays out.

``subject(fn, inputs)`` finds the framework, turns a torch module into a function of its parameters,
and gives the value, the VJP and the JVP by the framework's own modes (or the caller's). Everything
that the function under test does runs through ``limited``, so that what it raises, and that it does
not come back, is a ``Fault`` with a sentence, never a traceback of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import formats
from .formats import Array, Format
from .verdict import Verdict

Function = Callable[..., Any]

LONG = np.dtype(np.longdouble).name  # wider than any format under test: for differences only
TIME_LIMIT = 60.0  # seconds for one call of the function under test


class Fault(Exception):
    """What the function under test did instead of giving an answer."""

    def __init__(self, sentence: str, kind: Verdict = Verdict.INCONCLUSIVE) -> None:
        super().__init__(sentence)
        self.kind = kind


def limited(call: Callable[[], Any], what: str, *, kind: Verdict = Verdict.INCONCLUSIVE) -> Any:
    """Run code under test; turn what it raises, and its not coming back, into a `Fault`."""
    box: list[Any] = []

    def run() -> None:
        try:
            with np.errstate(all="ignore"):
                box.append((True, call()))
        except BaseException as error:  # noqa: BLE001 - whatever the code under test raises is its own
            box.append((False, error))

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(TIME_LIMIT)
    if not box:
        raise Fault(f"{what} did not come back within {TIME_LIMIT:g} s")
    fine, result = box[0]
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
        return limited(lambda: _listed(self.fn(*args)), self.name)  # type: ignore[no-any-return]  # a list

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
            gradients = limited(lambda: _listed(rule(given, *args)), what, kind=Verdict.WRONG)
            if len(gradients) != len(args):
                raise Fault(
                    f"{what} returned {len(gradients)} gradients for {len(args)} inputs: "
                    "return one per input, None for an integer one",
                    Verdict.WRONG,
                )
            return list(gradients)
        pull = {"numpy": _numpy_vjp, "torch": _torch_vjp, "jax": _jax_vjp}[self.framework]
        kind = Verdict.INCONCLUSIVE if self.framework == "numpy" else Verdict.WRONG
        return limited(lambda: pull(self.fn, args, cotangents), what, kind=kind)  # type: ignore[no-any-return]  # a list

    def jvp(self, args: Sequence[Any], tangents: Sequence[Any | None]) -> list[Any]:
        """Push tangents forward; one tangent per result."""
        what = f"the JVP of {self.name}"
        if self.caller_jvp is not None:
            dots = tuple(
                zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)
            )
            rule = self.caller_jvp
            return limited(lambda: _listed(rule(dots, *args)), what)  # type: ignore[no-any-return]  # a list
        push = {"numpy": _numpy_jvp, "torch": _torch_jvp, "jax": _jax_jvp}[self.framework]
        return limited(lambda: push(self.fn, args, tangents), what)  # type: ignore[no-any-return]  # a list

    def pulled_back(self, cotangents: Sequence[Any | None]) -> Subject:
        """Give the gradient of ⟨cotangents, fn⟩ as a function, to be checked in its turn."""
        pull = {"numpy": _numpy_vjp, "torch": _torch_vjp, "jax": _jax_vjp}[self.framework]
        if self.caller_vjp is not None:
            given = tuple(cotangents) if len(cotangents) > 1 else cotangents[0]
            rule = self.caller_vjp
            return self._derived(
                lambda *args: tuple(g for g in _listed(rule(given, *args)) if g is not None), "r"
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
                    _listed(
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
        push = {"numpy": _numpy_jvp, "torch": _torch_func_jvp, "jax": _jax_jvp}[self.framework]
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
    made = Subject(name, kind, function, tuple(labels), vjp, jvp, *modes)
    return made, [*inputs, *extra]


def framework_of(inputs: Sequence[Any], fn: Any = None) -> str:
    """Give "torch" or "jax" if any input (or the function, a module) is theirs, else "numpy"."""
    for value in (*inputs, fn):
        root = type(value).__module__.split(".")[0]
        if root == "torch" or any(c.__module__.startswith("torch.nn") for c in type(value).__mro__):
            return "torch"
        if root.startswith("jax") and not callable(value):
            return "jax"
    return "numpy"


# ---------------------------------------------------------------------------------------------
# Native arrays
# ---------------------------------------------------------------------------------------------


def to_numpy(value: Any) -> Array:
    """Give a native array as an ndarray that holds the same numbers (bfloat16 as float32)."""
    if framework_of([value]) == "torch":
        import torch

        held = value.detach().cpu().resolve_neg()
        return (held.float() if held.dtype == torch.bfloat16 else held).numpy()  # type: ignore[no-any-return]
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def like(template: Any, array: Array) -> Any:
    """Give an ndarray as a native array of a template's framework, dtype and device."""
    kind = framework_of([template])
    if kind == "torch":
        import torch

        return torch.from_numpy(np.array(array)).to(dtype=template.dtype, device=template.device)
    if kind == "jax":
        import jax.numpy as jnp

        return jnp.asarray(array, dtype=template.dtype)
    return np.asarray(array, dtype=np.asarray(template).dtype)


def zeros_like(template: Any) -> Any:
    """Give zeros of a native array's shape, dtype and device."""
    if framework_of([template]) == "torch":
        import torch

        return torch.zeros_like(template)
    return template * 0 if not isinstance(template, np.ndarray) else np.zeros_like(template)


def dtype_name(value: Any) -> str:
    """Give a native array's dtype by name, as in ``"bfloat16"``."""
    dtype = getattr(value, "dtype", None)
    return (np.asarray(value).dtype.name if dtype is None else str(dtype)).removeprefix("torch.")


def is_floating(value: Any) -> bool:
    """Tell whether a native array holds floats."""
    return dtype_name(value) in formats.FORMATS or dtype_name(value) == LONG


def coarsest(values: Sequence[Any]) -> Format:
    """Give the format of the fewest bits among floating arrays (float64 if there are none)."""
    found = [formats.FORMATS[dtype_name(v)] for v in values if dtype_name(v) in formats.FORMATS]
    return min(found, key=lambda f: f.precision, default=formats.FORMATS["float64"])


def _listed(result: Any) -> list[Any]:
    if isinstance(result, tuple | list):
        return list(result)
    return [result]


# ---------------------------------------------------------------------------------------------
# Derivatives, framework by framework
# ---------------------------------------------------------------------------------------------


def _split(
    args: Sequence[Any], chosen: Sequence[bool]
) -> tuple[Callable[..., list[Any]], list[Any]]:
    """Give a function that puts chosen arguments back among the others, and the chosen ones."""
    places = [i for i, c in enumerate(chosen) if c]

    def full(*values: Any) -> list[Any]:
        out = list(args)
        for i, value in zip(places, values, strict=True):
            out[i] = value
        return out

    return full, [args[i] for i in places]


def _spread(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    remaining = iter(values)
    return [next(remaining) if c else None for c in chosen]


def _numpy_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    from ffverify import reference

    chosen = [is_floating(a) for a in args]
    full, points = _split(args, chosen)
    wanted = [v is not None for v in cotangents]

    def floats(*xs: Any) -> tuple[Any, ...]:
        results = _listed(fn(*full(*xs)))
        return tuple(r for r, w in zip(results, wanted, strict=True) if w)

    del graph  # the engine's derivatives are always graphs of the derivative around them
    _, pullback = reference.vjp(floats, *points)
    return _spread(pullback(tuple(v for v in cotangents if v is not None)), chosen)


def _numpy_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    from ffverify import reference

    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    _, dots = reference.jvp(
        lambda *xs: tuple(_listed(fn(*full(*xs)))), points, [t for t in tangents if t is not None]
    )
    return list(dots)


def _torch_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    import torch

    chosen = [is_floating(a) for a in args]
    with torch.enable_grad():
        if graph:  # clone keeps the tangent of a surrounding forward mode
            leaves = [
                a.clone().requires_grad_() if c and not a.requires_grad else a
                for a, c in zip(args, chosen, strict=True)
            ]
        else:
            leaves = [
                a.detach().clone().requires_grad_() if c else a
                for a, c in zip(args, chosen, strict=True)
            ]
        results = _listed(fn(*leaves))
        pairs = [
            (r, v)
            for r, v in zip(results, cotangents, strict=True)
            if v is not None and r.requires_grad
        ]
        if not pairs:
            return [None] * len(args)
        wanted = [a for a, c in zip(leaves, chosen, strict=True) if c]
        gradients = torch.autograd.grad(
            [r for r, _ in pairs],
            wanted,
            [v for _, v in pairs],
            allow_unused=True,
            create_graph=graph,
        )
    return _spread(gradients, chosen)


def _torch_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    import torch
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        duals = [
            a if t is None else forward_ad.make_dual(a.detach().clone(), t)
            for a, t in zip(args, tangents, strict=True)
        ]
        parts = [forward_ad.unpack_dual(r) for r in _listed(fn(*duals))]
        return [
            torch.zeros_like(p.primal) if p.tangent is None else p.tangent.clone() for p in parts
        ]


def _torch_func_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Push forward with torch.func, whose forward mode nests."""
    import torch

    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    primal_and_tangent = torch.func.jvp(
        lambda *xs: tuple(_listed(fn(*full(*xs)))),
        tuple(points),
        tuple(t for t in tangents if t is not None),
    )
    return list(primal_and_tangent[1])


def _jax_vjp(
    fn: Function, args: Sequence[Any], cotangents: Sequence[Any], *, graph: bool = False
) -> list[Any]:
    import jax

    del graph  # JAX's derivatives are functions like any other
    chosen = [is_floating(a) for a in args]
    full, points = _split(args, chosen)

    def floats(*xs: Any) -> tuple[Any, ...]:
        results = _listed(fn(*full(*xs)))
        return tuple(r for r, v in zip(results, cotangents, strict=True) if v is not None)

    _, pullback = jax.vjp(floats, *points)
    return _spread(pullback(tuple(v for v in cotangents if v is not None)), chosen)


def _jax_jvp(fn: Function, args: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    import jax

    chosen = [t is not None for t in tangents]
    full, points = _split(args, chosen)
    _, dots = jax.jvp(
        lambda *xs: tuple(_listed(fn(*full(*xs)))), points, [t for t in tangents if t is not None]
    )
    return list(dots)
