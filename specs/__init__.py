"""The chapter's claims, one module per section, in book order; importing this declares them all."""

from . import networks, output_units, softmax_units  # isort: skip  # book order

__all__ = ["networks", "output_units", "softmax_units"]
