"""Frameworks: the arrays, derivatives and traced programs of NumPy, torch and JAX."""
