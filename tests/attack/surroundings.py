"""What a call has no business to change: the process's settings, its threads, the user's folder."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import flint
import mpmath
import numpy as np


def settings(folder: Path) -> dict[str, Any]:
    """Give all of it, to be compared with another time."""
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - whose state must stay
    found = {
        "NumPy's error state": np.geterr(),
        "NumPy's random state": (state["state"]["key"].tobytes(), state["state"]["pos"]),
        "Python's random state": random.getstate(),
        "precision": (flint.ctx.prec, flint.ctx.cap, mpmath.mp.prec),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "threads": {t.name for t in threading.enumerate()} - {"ffverify-time-limit"},
        "environment": dict(os.environ),
        "recursion limit": sys.getrecursionlimit(),
        "working folder": Path.cwd(),
        "files": sorted(
            p.name for p in folder.rglob("*") if p.parent.name != "__pycache__" != p.name
        ),
    }
    if "torch" in sys.modules:
        import torch

        found["torch"] = (
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_inference_mode_enabled(),
            torch.get_rng_state().numpy().tobytes(), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
        )  # fmt: skip
    if "jax" in sys.modules:
        import jax

        found["JAX"] = {
            k: v for k, v in jax.config.values.items() if isinstance(v, bool | str | int | None)
        }
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Give what is not as it was; a framework that was not loaded before has nothing to compare."""
    return [name for name, value in before.items() if after.get(name) != value]
