"""What runs, and on what."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

from .jobs import Row, Setting


def machine(setting: Setting) -> Iterator[Row]:
    """Say what runs here, and where."""
    import flint
    import numpy as np
    import torch

    torch.ones(1, device=setting.device).sum().item()
    said = {
        "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "numpy": np.__version__, "flint": flint.__version__, "cores": os.cpu_count(),
        "device": setting.device,
    }  # fmt: skip
    if setting.device.startswith("cuda"):
        named = torch.cuda.get_device_properties(setting.device)
        said |= {"gpu": named.name, "capability": f"{named.major}.{named.minor}"}
    yield {"outcome": "noted", "reason": ", ".join(f"{k} {v}" for k, v in said.items()), **said}
