"""Verdicts: bounds on what rounding may do, and what a computed number is worth beside the truth."""
