"""Numbers: float formats, balls and mpmath, arrays of them, and what operations mean on them."""
