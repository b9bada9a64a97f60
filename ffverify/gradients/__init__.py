"""Gradient checks: ``gradcheck`` and what it is made of."""
