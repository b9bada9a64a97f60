"""The chapter's claims, one module per section, in book order; importing this declares them all."""

from . import (  # isort: skip  # book order
    networks,
    costs,
    conditional_statistics,
    output_units,
    softmax_units,
    softmax_losses,
    distributions,
    rectifiers,
    sigmoidal_units,
    hidden_units,
    approximation,
    architecture,
)

__all__ = [
    "approximation",
    "architecture",
    "conditional_statistics",
    "costs",
    "distributions",
    "hidden_units",
    "networks",
    "output_units",
    "rectifiers",
    "sigmoidal_units",
    "softmax_losses",
    "softmax_units",
]
