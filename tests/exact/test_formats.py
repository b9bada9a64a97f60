from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffverify.exact import formats


@pytest.mark.parametrize("name", ["float64", "float32", "float16"])
def test_formats_are_numpys(name: str) -> None:
    fmt, info = formats.of(name), np.finfo(name)
    assert float(fmt.largest) == float(info.max)
    assert fmt.unit_roundoff == float(info.eps) / 2
    assert 2.0**fmt.emin == float(info.smallest_normal)
    assert 2.0**fmt.smallest_exponent == float(info.smallest_subnormal)


def test_bfloat16_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    fmt, info = formats.of(torch.bfloat16), torch.finfo(torch.bfloat16)
    assert float(fmt.largest) == info.max
    assert fmt.unit_roundoff == info.eps / 2
    assert 2.0**fmt.emin == info.smallest_normal


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_ulps_are_pythons(x: float) -> None:
    exponent = formats.of("float64").ulp_exponents(np.array([x]))
    assert 2.0 ** float(exponent[0]) == math.ulp(x)


@pytest.mark.parametrize("dtype", ["int64", "complex128", "float8", object()])
def test_an_unknown_format_is_refused_with_the_known_ones(dtype: object) -> None:
    with pytest.raises(TypeError, match="bfloat16"):
        formats.of(dtype)
