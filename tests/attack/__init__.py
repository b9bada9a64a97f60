"""Calls to be refused in one line, odd functions, odd inputs: ``python -m tests.attack``."""
