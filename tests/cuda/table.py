"""The table of worst errors, function by function and format by format, on the CPU and on the device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from .jobs import Row

FORMATS = ("float32", "float16", "bfloat16")


def table(rows: Iterable[Row], devices: Sequence[str]) -> str:
    """Give the worst errors that the exhaustive part has met, in ulps of normal results, as Markdown.

    A cell has value / derivative; it is empty where nothing was measured.
    """
    worst: dict[tuple[str, str, str, bool], float] = defaultdict(lambda: -math.inf)
    for row in rows:
        if "function" in row and "worst_ulps" in row and not row["job"].startswith("planted"):
            key = (row["function"], row["dtype"], row["device"], row["what"] == "value")
            worst[key] = max(worst[key], row["worst_ulps"])
    pairs = sorted({k[:2] for k in worst}, key=lambda k: (k[0], FORMATS.index(k[1])))
    lines = [
        "| function | format | " + " | ".join(f"worst error on {d}" for d in devices) + " |",
        "| --- | --- |" + " --- |" * len(devices),
    ]
    for pair in pairs:
        cells = [
            " / ".join(_shown(worst[(*pair, d, of_value)]) for of_value in (True, False))
            for d in devices
        ]
        lines.append(f"| {' | '.join((*pair, *cells))} |")
    return "\n".join(lines) + "\n"


def _shown(ulps: float) -> str:
    return "" if ulps < 0 else f"{ulps:.3g}"
