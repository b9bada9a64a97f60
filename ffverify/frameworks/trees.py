"""Trees of arguments and results: dicts, lists, tuples, dataclasses and JAX's pytrees of arrays.

``flatten(tree, "params")`` gives the leaves, each with the path at which it stands
(``params["dense"]["w"]``), and a function that puts other leaves in their places.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from .declared import Declared


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """One leaf: where it stands, what it is, and what was declared of it."""

    label: str
    value: Any
    declared: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """A tree that was taken apart: its leaves, and how to put others in their places.

    ``rebuild(values)`` gives the tree as the caller's function takes it; with ``declared=True`` also
    what was declared is in its place again.
    """

    leaves: list[Leaf]
    rebuild: Callable[..., Any]


def flatten(tree: Any, label: str = "", declared: str = "") -> Tree:
    """Take a tree apart; whatever is no container is a leaf, None among them."""
    if isinstance(tree, Declared):
        kind, inner = tree.kind, flatten(tree.value, label, tree.kind)
        return Tree(
            inner.leaves,
            lambda values, declared=False: (
                Declared(kind, inner.rebuild(values)) if declared else inner.rebuild(values)
            ),
        )
    found = _opened(tree)
    if found is None:
        return Tree([Leaf(label, tree, declared)], lambda values, declared=False: values[0])  # noqa: ARG005 - a leaf is a leaf
    steps, parts, build = found
    return joined(
        [flatten(p, label + s, declared) for s, p in zip(steps, parts, strict=True)], build
    )


def is_leaf(value: Any) -> bool:
    """Tell whether a value is no container of others."""
    return _opened(value) is None


def joined(trees: Sequence[Tree], build: Callable[[list[Any]], Any]) -> Tree:
    """Give the tree whose parts were taken apart already."""

    def rebuild(values: Sequence[Any], *, declared: bool = False) -> Any:
        made, start = [], 0
        for part in trees:
            end = start + len(part.leaves)
            made.append(part.rebuild(values[start:end], declared=declared))
            start = end
        return build(made)

    return Tree([leaf for part in trees for leaf in part.leaves], rebuild)


def like_tree(tree: Any, other: Any) -> list[Any]:
    """Give the parts of another tree where the leaves of a tree stand; None for all below a None.

    Raises
    ------
    ValueError
        If the other tree is built otherwise; the message says where.
    """
    found: list[Any] = []
    _like(tree, other, "", found)
    return found


def _like(tree: Any, other: Any, path: str, found: list[Any]) -> None:
    tree = tree.value if isinstance(tree, Declared) else tree
    opened = _opened(tree)
    if opened is None:
        found.append(other)
        return
    steps, parts, _ = opened
    if other is None:
        found += [None] * len(flatten(tree).leaves)
        return
    theirs = _opened(other)
    if theirs is None:
        raise ValueError(f"{path or 'it'} is a {type(other).__name__}, not a {type(tree).__name__}")
    given = dict(zip(theirs[0], theirs[1], strict=True))
    if missing := [s for s in steps if s not in given]:
        raise ValueError(f"{path}{missing[0]} is missing")
    if more := [s for s in given if s not in set(steps)]:
        raise ValueError(f"{path}{more[0]} is not among the inputs")
    for step, part in zip(steps, parts, strict=True):
        _like(part, given[step], path + step, found)


def _opened(value: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]] | None:
    """Give the subscripts and the parts of a container, and how to build one of other parts."""
    kind = type(value)
    if hasattr(value, "dtype") or isinstance(value, Iterator):  # an array, quickly; what runs out
        return None
    if isinstance(value, Mapping):
        keys = list(value)
        steps = [f"[{json.dumps(k) if isinstance(k, str) else repr(k)}]" for k in keys]

        def mapping(parts: list[Any]) -> Any:
            made = dict(zip(keys, parts, strict=True))
            if kind is dict:
                return made
            if not isinstance(value, MutableMapping):
                return kind(made)  # as frozen dicts are made
            out = copy.copy(value)
            out.update(made)
            return out

        return steps, [value[k] for k in keys], mapping
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [f".{n}" for n in value._fields], list(value), lambda parts: kind(*parts)
    if isinstance(value, list | tuple):
        steps = [f"[{i}]" for i in range(len(value))]
        return steps, list(value), lambda parts: parts if kind is list else kind(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]

        def record(parts: list[Any]) -> Any:
            out = copy.copy(value)
            for name, part in zip(names, parts, strict=True):
                object.__setattr__(out, name, part)  # frozen ones too
            return out

        return [f".{n}" for n in names], [getattr(value, n) for n in names], record
    return _pytree(value)


def _pytree(value: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]] | None:
    """Open what a caller has registered with JAX."""
    known = getattr(sys.modules.get("jax"), "tree_util", None)
    if known is None or value is None:
        return None
    paths, structure = known.tree_flatten_with_path(value, is_leaf=lambda v: v is not value)
    if len(paths) == 1 and paths[0][1] is value:
        return None
    steps = [known.keystr(path) for path, _ in paths]
    return steps, [part for _, part in paths], structure.unflatten
