"""Programs as data: graphs, their simplification, their compilation to straight-line NumPy."""
