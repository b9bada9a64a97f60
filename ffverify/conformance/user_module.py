"""A user's module as a backend: its functions by the catalogue's names, or by those that people use.

Names and arguments of torch.nn.functional, jax.nn and keras are taken where they mean the same:
``swish`` is the catalogue's ``silu``, ``softmax(x, dim=-1)`` its ``softmax(z, axis=-1)``. A NumPy module may
bring its own derivatives, ``softplus.vjp(cotangent, z)`` and ``softplus.jvp(tangents, z)``, or mappings
``vjps`` and ``jvps`` of names to them.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

from ffverify.errors import UsageError

Function = Callable[..., Any]

# Other names of the catalogue's functions, where they mean the same.
ALIASES = {
    "abs": "absolute", "binary_cross_entropy_with_logits": "bernoulli_nll", "hard_silu": "hard_swish",
    "hardsigmoid": "hard_sigmoid", "hardswish": "hard_swish", "hardtanh": "hard_tanh",
    "l1_loss": "absolute_error", "leakyrelu": "leaky_relu", "linear": "affine",
    "log_logistic": "log_sigmoid", "logistic": "sigmoid", "logsigmoid": "log_sigmoid",
    "mse_loss": "squared_error", "sigmoid_binary_cross_entropy": "bernoulli_nll",
    "soft_plus": "softplus", "soft_sign": "softsign", "swish": "silu", "tanh_shrink": "tanhshrink",
}  # fmt: skip
# What is meant by names that mean something near, but not the same.
NEAR = {
    "binary_cross_entropy": "bernoulli_nll, of logits", "cross_entropy": "softmax_nll",
    "gaussian_nll_loss": "gaussian_nll", "mean_squared_error": "squared_error, per example",
    "nll_loss": "softmax_nll", "sparse_categorical_crossentropy": "softmax_nll",
}  # fmt: skip
# The catalogue's keyword → what it is called elsewhere.
KEYWORDS = {
    "axis": ("dim",),
    "slope": ("negative_slope", "alpha"),
}


def import_module(name: str) -> ModuleType:
    """Import a module that lies where the command is given, or anywhere on Python's path.

    Raises
    ------
    UsageError
        If there is none, or it does not get through its own code.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is no name of a module: write package.module")
    sys.path.insert(0, "")  # as `python -m` does
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "\0")
        what = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
        raise UsageError(
            f"there is no module {name!r}"
            if missing
            else f"module {name!r} cannot be imported, it raises {what}"
        ) from error
    finally:
        sys.path.remove("")


def functions_of(
    module: ModuleType, wanted: Collection[str], *, rules: bool
) -> dict[str, Function]:
    """Give a module's functions by the wanted names, its own derivatives attached if it has ``rules``.

    Raises
    ------
    UsageError
        If its derivatives are not what they should be.
    """
    held = _callables(module)
    found = {name: held[name] for name in sorted(wanted) if name in held}
    for alias, name in ALIASES.items():
        if alias in held and name in wanted:
            found.setdefault(name, _renamed(alias, held[alias]))
    found = {name: _with_keywords(name, function) for name, function in found.items()}
    gelu = held.get("gelu")
    kind = None if gelu is None else _default(gelu, "approximate")
    if gelu is not None and kind is not None:  # torch's and JAX's have both forms
        exact, tanh = ("none", "tanh") if isinstance(kind, str) else (False, True)
        found["gelu"] = functools.partial(gelu, approximate=exact)
        found.setdefault("gelu_tanh", functools.partial(gelu, approximate=tanh))
    return _with_rules(module, found) if rules else found


def unused(module: ModuleType, wanted: Collection[str]) -> dict[str, str]:
    """Give a module's own public functions that no claim uses, each with what may have been meant."""
    named = getattr(module, "__all__", None)
    own = {
        name
        for name, function in _callables(module).items()
        if not (name.startswith("_") or isinstance(function, type))
        and (name in named if named is not None else _home(function) == module.__name__)
    }
    left = sorted(own - set(wanted) - set(ALIASES))
    return {
        name: NEAR.get(name)
        or next(iter(difflib.get_close_matches(name, wanted, n=1, cutoff=0.75)), "")
        for name in left
    }


def _home(function: Function) -> Any:
    return getattr(function, "__module__", None)


def _callables(module: ModuleType) -> dict[str, Function]:
    return {n: f for n, f in vars(module).items() if callable(f) and not n.startswith("__")}


def _renamed(alias: str, function: Function) -> Function:
    """Give a function under one of its other names with the catalogue's order and meaning of arguments."""
    if alias == "linear":  # W is (out, in) in torch, (in, out) in the book
        return lambda x, W, b: function(x, W.swapaxes(-1, -2), b)
    if ALIASES[alias] == "bernoulli_nll":  # torch's and optax' labels are floats
        inner = _per_example(function)
        return lambda z, y: inner(z, y.to(z.dtype) if hasattr(y, "to") else y.astype(z.dtype))
    return _per_example(function)


def _per_example(function: Function) -> Function:
    if (
        _default(function, "reduction") is not None
    ):  # torch's losses: the catalogue's are per example
        return functools.partial(function, reduction="none")
    return function


def _with_keywords(name: str, function: Function) -> Function:
    """Let a function take the catalogue's keywords where it has the same under another name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in
        return function
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return function
    theirs = {
        ours: next(t for t in names if t in parameters)
        for ours, names in KEYWORDS.items()
        if ours not in parameters and any(t in parameters for t in names)
    }
    if not theirs:
        return function
    fixed = {"slope": 0.01} if name == "leaky_relu" else {}  # keras' own is 0.2

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        given = {**fixed, **options}
        return function(*args, **{theirs.get(k, k): v for k, v in given.items()})

    return called


def _default(function: Function, parameter: str) -> Any:
    """Give the default of a function's parameter; None if it has no such parameter."""
    try:
        held = inspect.signature(function).parameters.get(parameter)
    except (TypeError, ValueError):
        return None
    return None if held is None or held.default is held.empty else held.default


def _with_rules(module: ModuleType, found: dict[str, Function]) -> dict[str, Function]:
    """Give functions their own derivatives, where the module brings some."""
    brought = {kind: _rules(module, kind, found) for kind in ("vjp", "jvp")}
    return {
        name: _ruled(function, brought["vjp"].get(name), brought["jvp"].get(name))
        for name, function in found.items()
    }


def _rules(module: ModuleType, kind: str, found: Mapping[str, Function]) -> dict[str, Function]:
    """Give what a module has as ``softplus.vjp`` and in ``vjps``, by the catalogue's names."""
    mapping = getattr(module, f"{kind}s", {})
    if not isinstance(mapping, Mapping):
        raise UsageError(f"{module.__name__}.{kind}s is no mapping of names to functions")
    held = {n: getattr(f, kind) for n, f in _callables(module).items() if hasattr(f, kind)}
    named = {ALIASES.get(n, n): rule for n, rule in {**held, **mapping}.items()}
    for name, rule in named.items():
        if name not in found and name in mapping:
            near = difflib.get_close_matches(name, found, n=1)
            meant = f": did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{module.__name__}.{kind}s has {name!r}, which is no function here{meant}"
            )
        if not callable(rule):
            raise UsageError(f"the {kind} of {module.__name__}.{name} is {rule!r}: give a function")
    return named


def _ruled(function: Function, vjp: Function | None, jvp: Function | None) -> Function:
    if vjp is None and jvp is None:
        return function
    from ffverify.reference import custom_rule

    def ruled(*args: Any, **options: Any) -> Any:
        def pulled(cotangent: Any, _y: Any, *xs: Any) -> tuple[Any, ...]:
            found = vjp(cotangent, *xs, **options)  # type: ignore[misc]  # called where there is one
            return tuple(found) if isinstance(found, tuple | list) else (found,)

        def pushed(tangents: Any, _y: Any, *xs: Any) -> Any:
            return jvp(tangents, *xs, **options)  # type: ignore[misc]  # as above

        with_rule = custom_rule(
            functools.partial(function, **options) if options else function,
            vjp=pulled if vjp else None,
            jvp=pushed if jvp else None,
        )
        return with_rule(*args)

    return functools.wraps(function, updated=())(ruled)
