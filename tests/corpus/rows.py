"""What a row of the detection corpus is: a buggy function, its correct twin, where it is tried, whence.

A row is declared in plain NumPy with its own derivative, so that every checker can be shown it through
its own framework (see `compare.py`), or in torch or JAX where the bug is in how those are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffverify.frameworks.framework import framework
from ffverify.strategies import arrays

ROWS: dict[str, Row] = {}


@dataclass(frozen=True)
class Case:
    """One function with its derivatives; both None: its framework's own."""

    fn: Callable[..., Any]
    vjp: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Row:
    """One declaration of the corpus.

    ``inputs(framework)`` gives strategies or arrays; ``expected`` is the verdict on the buggy one.
    """

    name: str
    source: str
    expected: str
    buggy: Case
    twin: Case
    inputs: tuple[Any, ...]
    framework: str = "numpy"
    options: dict[str, Any] = field(default_factory=dict)

    def drawn(self) -> list[Any]:
        """Give the inputs for gradcheck: strategies for boxes, arrays as they are."""
        array = framework(self.framework).array
        return [
            i.strategy(self.framework) if isinstance(i, Box) else array(i, i.dtype.name)
            for i in self.inputs
        ]

    def sample(self, seed: int) -> list[np.ndarray]:
        """Give one input as ndarrays, for checkers that do not search."""
        rng = np.random.default_rng(seed)
        return [i.sample(rng) if isinstance(i, Box) else np.asarray(i) for i in self.inputs]


@dataclass(frozen=True)
class Box:
    """An input drawn from a box."""

    shape: tuple[int, ...]
    low: float
    high: float
    dtype: str = "float64"

    def strategy(self, framework: str) -> Any:
        return arrays(
            self.dtype, self.shape, min_value=self.low, max_value=self.high, framework=framework
        )

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.low, self.high, self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Given:
    """An input that is one array."""

    array: np.ndarray
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def strategy(self, framework_name: str) -> Any:
        return framework(framework_name).array(self.array, self.dtype)

    def sample(self, _rng: np.random.Generator) -> np.ndarray:
        return self.array


def box(*shape: int, low: float = -3.0, high: float = 3.0, dtype: str = "float64") -> Box:
    """Give an input drawn from a box."""
    return Box(shape, low, high, dtype)


def add(row: Row) -> None:
    """Declare a row."""
    assert row.name not in ROWS, f"{row.name} is declared twice"
    ROWS[row.name] = row


def numpy_row(
    name: str,
    source: str,
    f: Callable[..., Any],
    bad: Callable[..., Any],
    good: Callable[..., Any],
    *inputs: Any,
    expected: str = "wrong",
    **options: Any,
) -> None:
    """Declare a NumPy function with a wrong and a right VJP ``vjp(v, *inputs)``."""
    add(Row(name, source, expected, Case(f, bad), Case(f, good), inputs, "numpy", options))


def numpy_jvp_row(
    name: str,
    source: str,
    f: Callable[..., Any],
    bad: Callable[..., Any],
    good: Callable[..., Any],
    *inputs: Any,
    expected: str = "wrong",
    **options: Any,
) -> None:
    """Declare a NumPy function with a wrong and a right JVP ``jvp(tangents, *inputs)``."""
    add(
        Row(
            name,
            source,
            expected,
            Case(f, None, bad),
            Case(f, None, good),
            inputs,
            "numpy",
            options,
        )
    )


def native_row(
    name: str,
    source: str,
    framework: str,
    buggy: Callable[..., Any],
    twin: Callable[..., Any],
    *inputs: Any,
    expected: str = "wrong",
    **options: Any,
) -> None:
    """Declare two functions of a framework, differentiated by it."""
    add(Row(name, source, expected, Case(buggy), Case(twin), inputs, framework, options))


def scattered(x: np.ndarray, i: Any, v: Any) -> np.ndarray:
    """Give zeros like x with v added at places i, the VJP of taking x[i]."""
    g = np.zeros_like(x)
    np.add.at(g, i, v)
    return g


def torch_op(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    tangent: Callable[..., Any] | None = None,
    save: Callable[..., Any] = lambda *xs: xs,
) -> Any:
    """Give a torch function of a forward, a backward from what it saves, and perhaps a tangent."""
    import torch

    class Op(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            ctx.save_for_backward(*save(*xs))
            ctx.save_for_forward(*save(*xs))
            return forward(*xs)

        @staticmethod
        def backward(ctx: Any, *v: Any) -> Any:
            return backward(*v, *ctx.saved_tensors)

        if tangent is not None:

            @staticmethod
            def jvp(ctx: Any, *t: Any) -> Any:
                return tangent(*t, *ctx.saved_tensors)

    return Op.apply


def jax_vjp(f: Callable[..., Any], pull: Callable[..., Any]) -> Any:
    """Give a JAX function with a VJP of its own, ``pull(v, *inputs)``."""
    import jax

    g = jax.custom_vjp(f)
    g.defvjp(lambda *xs: (f(*xs), xs), lambda xs, v: pull(v, *xs))
    return g


def jax_jvp(f: Callable[..., Any], push: Callable[..., Any]) -> Any:
    """Give a JAX function with a JVP of its own, ``push(tangents, *inputs)``."""
    import jax

    g = jax.custom_jvp(f)
    g.defjvp(lambda primals, tangents: (f(*primals), push(tangents, *primals)))
    return g
