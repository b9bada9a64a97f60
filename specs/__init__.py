"""The chapter's claims, one module per section, in book order; importing this declares them all."""

from . import (  # isort: skip  # book order
    networks,
    output_units,
    softmax_units,
    rectifiers,
    sigmoidal_units,
    approximation,
)

__all__ = [
    "approximation",
    "networks",
    "output_units",
    "rectifiers",
    "sigmoidal_units",
    "softmax_units",
]
