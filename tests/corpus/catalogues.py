"""Correct functions by the hundred: torch's operator database, JAX's namespaces, compositions in NumPy.

Nothing is listed by hand here: what a framework calls its own, at inputs that it says are fit, or at
numbers between 0.1 and 0.9, where most functions are at home.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .rows import Box, Given, box

SAMPLES = 2  # of the operator database's inputs, for each entry
_LARGE = 10.0  # where an elementwise function's domain has no end


class Function(NamedTuple):
    """A function with an input for each argument: a box to search, or one array."""

    name: str
    call: Callable[..., Any]
    inputs: tuple[Box | Given, ...]


# ---------------------------------------------------------------------------------------------
# torch
# ---------------------------------------------------------------------------------------------


def torch_functions(
    dtype: str = "float64", *, samples: int = SAMPLES, wanted: Callable[[str], bool] = bool
) -> Iterator[Function]:
    """Give the differentiable entries of torch's operator database at their own sample inputs.

    Elementwise functions are searched over their domain. Arguments that need no gradient are part of
    the function. Samples of sparse or complex arrays are left out.

    Raises
    ------
    SystemExit
        If a package is missing that the database imports.
    """
    import torch
    from torch.testing._internal.opinfo.core import UnaryUfuncInfo

    format_ = getattr(torch, dtype)
    for name, entry in entries(dtype):
        if not wanted(name):
            continue
        torch.manual_seed(0)
        found = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, sample in enumerate(
                entry.sample_inputs("cpu", format_, requires_grad=True)
            ):
                call, tensors = of_sample(entry, sample)
                plain = all(t.layout is torch.strided and t.is_floating_point() for t in tensors)
                if not plain or not any(t.numel() for t in tensors):
                    continue
                if isinstance(entry, UnaryUfuncInfo) and len(tensors) == 1:
                    inputs: tuple[Any, ...] = (_over_domain(entry.domain, tensors[0].shape, dtype),)
                else:
                    inputs = tuple(_given(t, dtype) for t in tensors)
                yield Function(f"{name} {number}", call, inputs)
                found += 1
                if found == samples:
                    break


def entries(dtype: str) -> Iterator[tuple[str, Any]]:
    """Give the entries of torch's operator database that can be differentiated in a format, by name.

    Raises
    ------
    SystemExit
        If a package is missing that the database imports.
    """
    import torch

    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"torch's operator database needs the package {error.name}: pip install {error.name}"
        ) from error
    for entry in op_db:
        if entry.supports_autograd and getattr(torch, dtype) in entry.backward_dtypes:
            variant = entry.variant_test_name
            yield entry.name + (f".{variant}" if variant else ""), entry


def of_sample(entry: Any, sample: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Give an entry as a function of the tensors of a sample that need gradients, and these.

    Matrices that it takes for symmetric or triangular are made so first, by torch's own wrapper.
    """
    import torch
    from torch.utils import _pytree as pytree

    leaves, structure = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    where = [i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor) and x.requires_grad]

    def call(*tensors: Any) -> Any:
        full = list(leaves)
        for i, t in zip(where, tensors, strict=True):
            full[i] = t
        x, args, kwargs = pytree.tree_unflatten(full, structure)
        out = sample.output_process_fn_grad(entry.gradcheck_wrapper(entry.op, x, *args, **kwargs))
        return tuple(t for t in pytree.tree_leaves(out) if isinstance(t, torch.Tensor))

    return call, [leaves[i].detach() for i in where]


def _given(tensor: Any, dtype: str) -> Given:
    import torch

    plain = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return Given(plain.numpy(), dtype)


def _over_domain(domain: tuple[Any, Any], shape: Any, dtype: str) -> Box:
    low, high = domain
    low = -_LARGE if low is None else low + 0.01
    return Box(tuple(shape), low, _LARGE if high is None else high - 0.01, dtype)


# ---------------------------------------------------------------------------------------------
# JAX
# ---------------------------------------------------------------------------------------------


def jax_functions(dtype: str = "float64") -> Iterator[Function]:
    """Give the functions of jax.nn, jax.numpy and jax.scipy.special that take one or two arrays."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    one = box(3, 3, low=0.1, high=0.9, dtype=dtype)
    like = jax.ShapeDtypeStruct(one.shape, dtype)
    for module in (jax.nn, jnp, jax.scipy.special):
        for name, function in sorted(vars(module).items()):
            if name.startswith("_") or inspect.isclass(function) or not callable(function):
                continue
            for count in (1, 2):
                if _gives_floats(function, [like] * count):
                    yield Function(f"{module.__name__}.{name}", function, (one,) * count)
                    break


def _gives_floats(function: Callable[..., Any], args: list[Any]) -> bool:
    import jax
    import jax.numpy as jnp

    try:
        # Some of JAX's own objects crash the interpreter where they are traced as they are.
        shapes = jax.eval_shape(lambda *xs: function(*xs), *args)  # noqa: PLW0108
        results = jax.tree_util.tree_leaves(shapes)
    except Exception:  # noqa: BLE001 - not a function of so many arrays
        return False
    arrays = all(hasattr(r, "dtype") for r in results)
    return arrays and any(jnp.issubdtype(r.dtype, jnp.floating) for r in results)


# ---------------------------------------------------------------------------------------------
# NumPy
# ---------------------------------------------------------------------------------------------

_UNITS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "square": np.square,
    "tanh": np.tanh,
    "sin": np.sin,
    "arctan": np.arctan,
    "reciprocal": np.reciprocal,
    "shift": lambda x: x + 1,
    "cube": lambda x: x**3,
    "halve": lambda x: x / 2,
}
_JOINTS: dict[str, Callable[..., Any]] = {
    "sum": lambda z: z.sum(),
    "mean": lambda z: z.mean(axis=0),
    "max": lambda z: z.max(axis=1),
    "var": lambda z: z.var(axis=0),
    "norm": lambda z: np.sqrt((z * z).sum(axis=-1)),
    "logsumexp": lambda z: np.log(np.exp(z).sum(axis=-1)),
    "matmul": lambda z: z @ z.T,
    "transpose": lambda z: z.T.reshape(-1)[1:] * z.reshape(-1)[:-1],
    "gather": lambda z: z[np.array([0, 0, 1])],
}


def numpy_functions(dtype: str = "float64") -> Iterator[Function]:
    """Give compositions of NumPy's functions, differentiated by the reference engine."""
    outer = _UNITS | {"log": np.log, "cos": np.cos, "abs": np.abs}
    three = box(3, low=0.25, high=2, dtype=dtype)
    for (f, apply), (g, inner) in itertools.product(outer.items(), _UNITS.items()):
        yield Function(f"{f} of {g}", partial(_composed, apply, inner), (three,))
    grid, factor = box(2, 3, low=0.25, high=2, dtype=dtype), box(3, low=0.5, high=2, dtype=dtype)
    for (f, apply), (g, inner) in itertools.product(_JOINTS.items(), _UNITS.items()):
        yield Function(f"{f} of y {g}", partial(_joined, apply, inner), (grid, factor))


def _composed(f: Callable[..., Any], g: Callable[..., Any], x: Any) -> Any:
    return f(g(x))


def _joined(f: Callable[..., Any], g: Callable[..., Any], x: Any, y: Any) -> Any:
    return f(y * g(x))
