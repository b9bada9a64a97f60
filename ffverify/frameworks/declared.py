"""What a caller says of an input: that it is data, or which structure it has.

``data(x)`` is not differentiated. ``symmetric(x)``, ``lower_triangular(x)``, ``upper_triangular(x)``,
``positive_definite(x)``, ``orthogonal(x)`` and ``simplex(x)`` are varied within their kind only: gradients
are compared along the directions that stay in it, by functions of x0 + T(x - x0), T the projection onto
the tangent space at x0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import like, to_numpy
from .framework import framework_of

DATA = "data"


@dataclass(frozen=True, eq=False)
class Declared:
    """An input, a strategy or a tree of these with what is said of it: ``value`` is what was given."""

    kind: str
    value: Any


def data(x: Any) -> Declared:
    """Declare an input, or a tree of inputs, as data: targets, masks, weights that are not learnt."""
    return Declared(DATA, x)


def symmetric(x: Any) -> Declared:
    """Declare that the last two axes are a symmetric matrix, as ``eigh`` and ``cholesky`` take it."""
    return Declared("symmetric", x)


def positive_definite(x: Any) -> Declared:
    """Declare that the last two axes are a symmetric positive definite matrix."""
    return Declared("positive_definite", x)


def lower_triangular(x: Any) -> Declared:
    """Declare that the last two axes are a lower triangular matrix."""
    return Declared("lower_triangular", x)


def upper_triangular(x: Any) -> Declared:
    """Declare that the last two axes are an upper triangular matrix."""
    return Declared("upper_triangular", x)


def orthogonal(x: Any) -> Declared:
    """Declare that the columns of the last two axes are orthonormal (a point of the Stiefel manifold)."""
    return Declared("orthogonal", x)


def simplex(x: Any) -> Declared:
    """Declare that the last axis are probabilities, which add up to one."""
    return Declared("simplex", x)


def _transposed(a: Any) -> Any:
    return np.swapaxes(a, -1, -2) if isinstance(a, np.ndarray) or not hasattr(a, "mT") else a.mT


def _symmetrised(a: Any, _: Any) -> Any:
    return (a + _transposed(a)) * 0.5


def _whole(a: Any, _: Any) -> Any:
    return a


def _masked(mask: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, base: a * like(base, mask(np.ones(np.shape(base))))


def _along_stiefel(d: Any, q: Any) -> Any:
    inner = _transposed(q) @ d
    return d - q @ ((inner + _transposed(inner)) * 0.5)


def _along_simplex(d: Any, base: Any) -> Any:
    count = np.shape(base)[-1]
    return d - d @ like(base, np.full((count, count), 1 / count))


# Projections onto the tangent space, T(direction, point): each is its own adjoint.
_PROJECTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "symmetric": _symmetrised,
    "positive_definite": _symmetrised,
    "lower_triangular": _masked(np.tril),
    "upper_triangular": _masked(np.triu),
    "orthogonal": _along_stiefel,
    "simplex": _along_simplex,
}
_FIXED = frozenset(("orthogonal", "simplex"))


COMPLEX = "complex"  # no one declares it: complex arrays are varied by their two parts


def is_fixed(kind: str) -> bool:
    """Tell whether inputs of a kind are varied around the point where they were given."""
    return kind in _FIXED


def pulled_in(kind: str, gradient: Any, base: Any) -> Any:
    """Give a caller's gradient by an input of a kind as that by what is varied."""
    if kind == COMPLEX:
        return framework_of(gradient).parts(gradient)
    return _PROJECTIONS.get(kind, _whole)(gradient, base)


def pushed_out(kind: str, tangent: Any, base: Any) -> Any:
    """Give a tangent of what is varied as that of the input of a kind."""
    if kind == COMPLEX:
        return framework_of(tangent).complex_of(tangent)
    return _PROJECTIONS.get(kind, _whole)(tangent, base)


def within(kind: str, x: Any, base: Any) -> Any:
    """Give an input within its kind: itself at ``base``, and moved as its tangent space has it beside."""
    if kind == COMPLEX:
        return framework_of(x).complex_of(x)
    along = _PROJECTIONS.get(kind, _whole)
    return base + along(x - base, base) if is_fixed(kind) else along(x, base)


def met(x: Any) -> list[str]:
    """Give the kinds that an array is of, as if by chance; none where it has too few elements to tell."""
    a = to_numpy(x)
    square = a.ndim > 1 and a.shape[-1] == a.shape[-2] > 1
    parted = square and np.any(a != a * np.eye(a.shape[-1]))
    kinds = ["symmetric", "lower_triangular", "upper_triangular", "orthogonal"] if parted else []
    # Zeros and a one are drawn by chance.
    mixed = a.ndim > 0 and np.all(np.count_nonzero(a, axis=-1) > 1)
    kinds += ["simplex"] if mixed and np.all(a >= 0) else []
    return [kind for kind in kinds if not amiss(kind, x)]


def amiss(kind: str, x: Any) -> str:
    """Say why an array is not of its kind; nothing if it is, to half the digits of its format."""
    if kind not in _PROJECTIONS:
        return ""
    a = to_numpy(x)
    if a.dtype.kind == "c":
        return "is complex, and a structure is one of real numbers"
    a = a.astype(np.float64)
    if kind == "simplex":
        if a.ndim < 1:
            return "needs an axis of probabilities"
        off, what = a.sum(axis=-1) - 1, "does not add up to 1 along its last axis"
    elif kind != "orthogonal" and (a.ndim < 2 or a.shape[-1] != a.shape[-2]):
        return "needs a square matrix"
    elif a.ndim < 2:
        return "needs a matrix in its last two axes"
    elif kind == "orthogonal":
        off = np.swapaxes(a, -1, -2) @ a - np.eye(a.shape[-1])
        what = "has columns that are not orthonormal"
    else:
        off, what = a - _PROJECTIONS[kind](a, a), f"is not {kind.replace('_', ' ')}"
        if kind in ("symmetric", "positive_definite"):
            what = "is not symmetric"
    allowed = 2.0 ** -(10 if str(x.dtype).endswith("16") else 12) * max(
        1.0, np.abs(a).max(initial=0)
    )
    return "" if np.all(np.abs(off) <= allowed) else what
