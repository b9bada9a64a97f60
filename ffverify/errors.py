"""What a user said that cannot be taken."""

from __future__ import annotations


class UsageError(ValueError):
    """A word of the user's that cannot be taken: the message has value, reason and fix."""


class UnavailableError(UsageError):
    """A framework or device that this machine does not have."""
