"""NumPy, differentiated by the reference engine."""
