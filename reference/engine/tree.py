"""Pytrees: nested dicts, lists, tuples and dataclasses of arrays, as parameters come.

`flatten` takes one apart into its leaves and its structure, `unflatten` puts it together again,
`tree_map` applies a function to every leaf. None is an empty tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .var import BEYOND, Var, ndarray

# A structure is hashable: LEAF, NONE, or (kind, what else is needed, child structures).
LEAF, NONE = "leaf", "none"
Structure = Any
LEAVES = frozenset([ndarray, np.float64, float, Var])  # the usual ones, known quickly


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Return (leaves, structure); leaves in the order in which they are written."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    names, children = None, tree
    if kind is tuple or kind is list:  # the usual case, quickly
        pass
    elif kind in LEAVES:
        leaves.append(tree)
        return LEAF
    elif tree is None:
        return NONE
    elif isinstance(tree, dict):
        names, children = tuple(tree), tree.values()
    elif not isinstance(tree, (list, tuple)):
        if kind in BEYOND:
            raise TypeError(
                "a complex value among the arguments or results of a derivative: only real ones are "
                "differentiated: return its .real and .imag, or np.abs of it"
            )
        if not dataclasses.is_dataclass(tree) or isinstance(tree, type):
            leaves.append(tree)
            return LEAF
        names = tuple(field.name for field in dataclasses.fields(tree))
        children = [getattr(tree, name) for name in names]
    structures = []
    for child in children:
        if type(child) is ndarray:  # the usual case, quickly
            leaves.append(child)
            structures.append(LEAF)
        else:
            structures.append(_flatten(child, leaves))
    return (kind, names, tuple(structures))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """Put together what `flatten` took apart."""
    remaining = iter(leaves)
    tree = _unflatten(structure, remaining)
    if next(remaining, remaining) is not remaining:
        raise ValueError(f"more leaves ({len(leaves)}) than the structure has places for")
    return tree


def _unflatten(structure: Structure, leaves: Any) -> Any:
    if structure is LEAF:
        return next(leaves)
    if structure is NONE:
        return None
    kind, names, children = structure
    built = []
    for child in children:  # before Python 3.12 a comprehension is a function to call, and slower
        built.append(next(leaves) if child is LEAF else _unflatten(child, leaves))  # noqa: PERF401
    if kind is list:
        return built
    if kind is tuple:
        return tuple(built)
    if issubclass(kind, dict):
        return kind(zip(names, built, strict=True))
    if names is not None:
        return kind(**dict(zip(names, built, strict=True)))
    return kind(*built) if hasattr(kind, "_fields") else kind(built)


def flatten_like(structure: Structure, tree: Any, what: str) -> list[Any]:
    """Return the leaves of a tree that must have the given structure (dicts in any order)."""
    leaves: list[Any] = []
    _flatten_like(structure, tree, leaves, what)
    return leaves


def _flatten_like(structure: Structure, tree: Any, leaves: list[Any], where: str) -> None:
    if structure is LEAF:
        if isinstance(tree, list | tuple | dict) or tree is None:
            raise ValueError(f"{where}: a {type(tree).__name__} where an array is needed")
        leaves.append(tree)
        return
    if structure is NONE:
        if tree is not None:
            raise ValueError(f"{where}: {type(tree).__name__} where the other tree has None")
        return
    kind, names, children = structure
    if not isinstance(tree, kind) or (names is None and len(tree) != len(children)):
        size = "" if names else f" of length {len(children)}"
        raise ValueError(f"{where}: {tree!r} where a {kind.__name__}{size} is needed")
    if names is None:
        parts = list(tree)
    elif isinstance(tree, dict):
        if set(tree) != set(names):
            raise ValueError(f"{where}: keys {list(tree)} where {list(names)} are needed")
        parts = [tree[name] for name in names]
    else:
        parts = [getattr(tree, name) for name in names]
    labels = range(len(parts)) if names is None else names
    for label, child, part in zip(labels, children, parts, strict=True):
        _flatten_like(child, part, leaves, f"{where}[{label!r}]")


def tree_map(f: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply f to the corresponding leaves of trees of one structure."""
    leaves, structure = flatten(tree)
    others = [flatten_like(structure, other, "tree_map") for other in rest]
    return unflatten(structure, [f(*group) for group in zip(leaves, *others, strict=True)])
