"""The detection corpus: buggy functions with correct twins. ``ROWS`` has them all, by name."""

from . import elementwise_rows, mode_rows, precision_rows, structure_rows  # noqa: F401 - they declare rows
from .rows import ROWS, Box, Case, Row

__all__ = ["ROWS", "Box", "Case", "Row"]
