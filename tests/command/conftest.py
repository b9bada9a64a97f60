"""What sessions of pytest within a test leave behind: they forget every module that was imported in them."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    # torch registers its compiler's operators when that is imported, and cannot do so twice in a process.
    import torch._dynamo  # noqa: F401
