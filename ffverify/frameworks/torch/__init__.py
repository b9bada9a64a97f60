"""PyTorch, differentiated by its autograd and its forward mode."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from torch._library.custom_ops import OPDEFS
from torch.autograd import forward_ad
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode

from ffverify.exact.formats import Array
from ffverify.exact.programs import Program, listed
from ffverify.frameworks.chosen import floating, spread, those
from ffverify.frameworks.framework import Framework, Function, Pullback


@contextmanager
def _differentiating() -> Iterator[None]:
    """Leave inference mode, in which nothing can be differentiated; else the caller's modes stay."""
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
        yield


def _able(tensors: Sequence[Any]) -> list[Any]:
    """Give tensors that were made in inference mode as ones that can be differentiated."""
    return [a.clone() if isinstance(a, torch.Tensor) and a.is_inference() else a for a in tensors]


def recorded(
    fn: Function, args: Sequence[Any], chosen: Sequence[bool], *, graph: bool
) -> tuple[list[Any], Callable[..., list[Any]]]:
    """Run a function; give its results, and what pulls cotangents back through their graph.

    The graph is lost if it is not kept.
    """

    def leaf(a: Any) -> Any:
        if graph:  # clone keeps the tangent of a surrounding forward mode
            return a if a.requires_grad else a.clone().requires_grad_()
        return a.detach().clone().requires_grad_()

    with _differentiating(), torch.enable_grad():
        leaves = [leaf(a) if c else a for a, c in zip(_able(args), chosen, strict=True)]
        results = listed(fn(*leaves))

    def walk(cotangents: Sequence[Any], *, keep: bool) -> list[Any]:
        with _differentiating(), torch.enable_grad():
            pairs = [
                (r, v)
                for r, v in zip(results, _able(cotangents), strict=True)
                if v is not None and r.requires_grad
            ]
            if not pairs:
                return [None] * len(args)
            # What torch.autograd.grad calls, which loads SymPy to compare shapes; here the engine does.
            gradients: tuple[Any, ...] = _engine_run_backward(
                tuple(r for r, _ in pairs),
                tuple(v for _, v in pairs),
                keep,
                graph,
                tuple(a for a, c in zip(leaves, chosen, strict=True) if c),
                allow_unreachable=True,
                accumulate_grad=False,
            )
            return spread(gradients, chosen)

    return results, walk


@cache
def _forward_formulas() -> None:
    """Load torch's forward formulas; that they rest on a deprecated part of torch is its own matter."""
    with warnings.catch_warnings():
        # From Python 3.14 on it is not supported either.
        warnings.filterwarnings("ignore", ".torch.jit.script. is ", DeprecationWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401 - loaded, not used


class _Custom(TorchDispatchMode):
    """Sees whether a custom operation runs: torch does not say that it has no forward mode of these.

    Of its own ones that is a defect to be told.
    """

    seen = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name  # noqa: SLF001 - it has no public one
        if name in OPDEFS and not name.startswith(("torch", "prims")):
            self.seen = name
        return func(*args, **(kwargs or {}))


def _dual(
    fn: Function, args: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Push tangents forward as parts of dual numbers; give these parts of the results."""
    with forward_ad.dual_level():
        duals = [  # what forward_ad.make_dual calls, which loads all forward formulas first
            a if t is None else torch._VF._make_dual(a.detach().clone(), t, level=0)  # noqa: SLF001
            for a, t in zip(args, tangents, strict=True)
        ]
        parts = [forward_ad.unpack_dual(r) for r in listed(fn(*duals))]
        if any(p.tangent is None for p in parts):
            with _Custom() as custom:  # type: ignore[no-untyped-call]  # of torch's
                fn(*duals)
            if custom.seen:
                raise NotImplementedError(
                    f"torch has no forward mode of {custom.seen}, a custom operation, and takes 0 for it"
                )
        return [p.primal for p in parts], [
            torch.zeros_like(p.primal) if p.tangent is None else p.tangent.clone() for p in parts
        ]


_NO_DERIVATIVE = re.compile(  # checkpoints that run again inside take no inputs to differentiate by
    "(the )?derivative for .* is not implemented|When use_reentrant=True, torch.utils.checkpoint is"
)


class _Torch(Framework):
    name = "torch"

    def is_array(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    def refusal(self, value: Any) -> str:
        if value.is_nested:
            return "is a nested tensor: give its parts as a list of tensors"
        if value.layout != torch.strided:
            return (
                f"is sparse ({str(value.layout).removeprefix('torch.')}): give its values() as the input, "
                "and build the sparse tensor inside the function"
            )
        if value.is_meta:
            return "is on the meta device and has no numbers: give a tensor on a CPU or a GPU"
        if value.is_quantized:
            return f"is quantised ({value.dtype}): give x.dequantize()"
        if value.dtype == torch.complex32:
            return "is complex32, which torch computes little with: give complex64"
        return ""

    def parts(self, value: Any) -> Any:
        return torch.stack([value.real, value.imag], dim=-1)

    def complex_of(self, parts: Any) -> Any:
        return torch.complex(parts[..., 0], parts[..., 1])

    def generator(self) -> bytes:
        states = [torch.get_rng_state()]
        if torch.cuda.is_initialized():
            states += torch.cuda.get_rng_state_all()
        return b"".join([super().generator(), *(s.numpy().tobytes() for s in states)])

    def array(self, values: Array, dtype: str, device: str | None = None) -> Any:
        tensor = torch.from_numpy(np.array(values))  # a copy: NumPy's may be read-only
        kind = getattr(torch, dtype) if tensor.is_floating_point() else None
        return tensor.to(device=device, dtype=kind)

    def to_numpy(self, value: Any) -> Array:
        held = value.float() if value.dtype == torch.bfloat16 else value
        return held.numpy(force=True)  # type: ignore[no-any-return]  # torch is typed in part

    def like(self, template: Any, values: Array) -> Any:
        return torch.from_numpy(np.array(values)).to(dtype=template.dtype, device=template.device)

    def copied(self, value: Any) -> Any:
        return value.detach().clone()

    def has_no_derivative(self, error: BaseException | None) -> bool:
        return _NO_DERIVATIVE.match(str(error)) is not None

    def attached(self, fn: Function, args: Sequence[Any], wrt: Sequence[bool]) -> list[bool]:
        return [bool(r.requires_grad) for r in recorded(fn, args, wrt, graph=False)[0]]

    def widened(self, value: Any) -> Any:
        return value.double()

    def vjp(
        self,
        fn: Function,
        args: Sequence[Any],
        cotangents: Sequence[Any],
        *,
        wrt: Sequence[bool] | None = None,
        graph: bool = False,
    ) -> list[Any]:
        _, walk = recorded(fn, args, floating(args) if wrt is None else wrt, graph=graph)
        return walk(cotangents, keep=graph)

    def pullback(
        self, fn: Function, args: Sequence[Any], wrt: Sequence[bool], kept: Sequence[bool]
    ) -> tuple[Sequence[Any], Pullback]:
        results, walk = recorded(fn, args, wrt, graph=False)

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            # The next walk may write to what this one gave.
            return [None if g is None else g.clone() for g in walk(cotangents, keep=True)]

        return [r.detach() for r in those(results, kept)], pull

    def value_and_jvp(
        self, fn: Function, args: Sequence[Any], tangents: Sequence[Any], *, nesting: bool = False
    ) -> tuple[list[Any], list[Any]]:
        with _differentiating():
            args, tangents = _able(args), _able(tangents)
            if not nesting:
                try:
                    return _dual(fn, args, tangents)
                except NotImplementedError as error:  # raised by a user's function without jvp, too
                    if "Trying to use forward AD" not in str(error):
                        raise
                    _forward_formulas()  # some operations' are a load of their own
                    return _dual(fn, args, tangents)
                except RuntimeError as error:
                    if "Nested forward mode" not in str(error):
                        raise
            # Dual numbers do not nest, and torch.func refuses some functions that they take.
            _forward_formulas()
            return super().value_and_jvp(fn, args, tangents)

    def pushed(self, fn: Function, points: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        return torch.func.jvp(fn, points, tangents)

    def second_derivative(self, fn: Function, z: Any) -> Any:
        ones = torch.ones_like(z)

        def slope(z: Any) -> Any:
            return self.vjp(fn, [z], [ones], graph=True)[0]

        (twice,) = self.vjp(slope, [z], [ones])
        return torch.zeros_like(z) if twice is None else twice  # of a constant

    def hessian(self, fn: Function) -> Function:
        _forward_formulas()
        return torch.func.hessian(fn)

    def trace_both(self, *args: Any) -> tuple[Program, Program, Any] | None:
        from . import lowering

        return lowering.trace_both(*args)


FRAMEWORK = _Torch()
