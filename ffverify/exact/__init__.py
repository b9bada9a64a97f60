"""Numbers: float formats, balls and mpmath, arrays of them, and what operations mean on them."""

from . import operations  # noqa: F401 - fills the tables that precise arrays look functions up in
