"""Second derivatives stay finite where the function's tails are long over."""

import numpy as np
import pytest

from ffverify import reference as f

HUGE = np.array([1e61, 1e160, 1e200, 1e308, 61.0, 151.0, 201.0, 1e5, 12001.0])
UNITS = [
    "gelu", "gelu_tanh", "log_sigmoid", "mish", "selu", "sigmoid", "silu", "softplus", "softsign",
    "tanh", "tanhshrink",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_second_derivatives_vanish_far_out(unit, dtype):
    z = np.concatenate([HUGE, -HUGE])
    z = z[np.abs(z) < np.finfo(dtype).max].astype(dtype)
    with np.errstate(all="ignore"):
        curvature = f.hvp(lambda z: np.sum(getattr(f, unit)(z)), z, np.ones_like(z))
    assert np.all(np.abs(curvature) < 1e-5)  # softsign'' = 2/(1 + |z|)³ is the largest, at 61
