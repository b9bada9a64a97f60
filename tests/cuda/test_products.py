"""At its full size as well, a product tells by its errors which arithmetic was at work."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.cuda import products
from tests.cuda.jobs import Setting


@pytest.mark.parametrize("fmt", products.FORMATS)
@pytest.mark.parametrize("small", [True, False])
def test_a_shortcut_that_was_forbidden_is_told(fmt, small):
    (row,) = products.planted(Setting("cpu", small=small), fmt)
    assert row["outcome"] == "rejected", row


def test_settings_of_torch_are_restored():
    import torch

    def read():
        matmul = torch.backends.cuda.matmul
        return (
            torch.get_float32_matmul_precision(),
            matmul.allow_fp16_reduced_precision_reduction,
            matmul.allow_bf16_reduced_precision_reduction,
        )

    before = read()
    for shortcut in (True, False):
        with products.allowed(shortcut=shortcut):
            assert read() == ("high" if shortcut else "highest", shortcut, shortcut)
    assert read() == before
