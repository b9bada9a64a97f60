"""The judge of gradient checks."""
