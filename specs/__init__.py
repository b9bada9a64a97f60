"""The chapter's claims, one module per section, in book order; importing this declares them all."""

from . import output_units

__all__ = ["output_units"]
