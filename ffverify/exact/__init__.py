"""Numbers: float formats, balls and mpmath, arrays of them, and what operations mean on them."""

from . import numpy_functions, operations  # noqa: F401 - fill the tables that precise arrays look functions up in
