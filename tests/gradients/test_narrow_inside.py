"""What passes through a narrower format inside loses digits of the wider one that it comes out in."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify import gradcheck

X = np.array([0.3, -1.2, 0.7])


def through(narrow, wide):
    """Give x·tanh(x), its tanh in a narrower format."""
    return lambda x: np.tanh(x.astype(narrow)).astype(wide) * x


@pytest.mark.parametrize(
    ("narrow", "wide"), [("float16", "float64"), ("float32", "float64"), ("float16", "float32")]
)
def test_numpy(narrow, wide):
    report = gradcheck(through(narrow, wide), X.astype(wide), raise_exception=False)
    # Beside float64 float32 keeps about half the digits, where an exact program is told from another.
    assert report.verdict != "correct"
    assert not report.ok or narrow == "float32"
    assert gradcheck(through(wide, wide), X.astype(wide)).verdict == "correct"


def test_a_gradient_of_the_callers():
    def vjp(v, x):
        return ((3 * v * x * x).astype(np.float16).astype(np.float64),)

    assert not gradcheck(lambda x: x**3, X, vjp=vjp, raise_exception=False).ok
    assert gradcheck(lambda x: x**3, X, vjp=lambda v, x: (3 * v * x * x,)).verdict == "correct"


def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X)
    assert not gradcheck(lambda x: x.half().tanh().double() * x, x, raise_exception=False).ok
    assert gradcheck(lambda x: x.tanh() * x, x).verdict == "correct"
