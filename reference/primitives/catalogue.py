"""All primitives of the engine by name, for tests, tables and interpreters in other arithmetics."""

from __future__ import annotations

from ffverify.reference.engine import numpy_functions, numpy_statistics, primitive
from ffverify.reference.engine.primitive import Primitive

from . import (
    activations,
    elementary,
    factorisations,
    fourier,
    linalg,
    losses,
    reductions,
    scipy_functions,
    shaping,
    tails,
)

MODULES = (
    primitive, elementary, shaping, reductions, linalg, factorisations, activations, losses,
    scipy_functions, tails, numpy_functions, numpy_statistics, fourier,
)  # fmt: skip


def primitives() -> dict[str, Primitive]:
    """Return every primitive that the engine declares, sorted by name.

    Raises
    ------
    ValueError
        Where two declarations share a name.
    """
    found: dict[str, Primitive] = {}
    for module in MODULES:
        for value in (*vars(module).values(), *factorisations.FACTORISATIONS):
            if isinstance(value, Primitive) and found.setdefault(value.name, value) is not value:
                raise ValueError(f"two primitives are called {value.name!r}: rename one")
    return dict(sorted(found.items()))
