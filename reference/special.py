"""erf and erfc in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf_forward(x: Any) -> Any:
    """erf."""
    return np.asarray(_erf(x), np.asarray(x).dtype)[()]


def erfc_forward(x: Any) -> Any:
    """erfc."""
    return np.asarray(_erfc(x), np.asarray(x).dtype)[()]
