"""Programs whose indices differ from row to row of a batch give what they give of every row alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import Plain, batch, row_of
from ffverify.frameworks.framework import framework
from ffverify.frameworks.shadow import Shadow

X = np.random.default_rng(0).normal(size=(4, 3, 4))
LABELS = np.array([[0, 3, 1], [2, 2, 0], [0, 3, 1], [1, 0, 3]])  # two rows are alike


def _rows(kind: str) -> Any:
    return framework(kind).array(np.arange(3), "int64")


def _torch(name: str) -> Callable[..., Any]:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    return {
        "picked": lambda x, y: x[_rows("torch"), y].exp(),
        "gathered": lambda x, y: x.gather(1, y[:, None]).sin(),
        "selected": lambda x, y: x.index_select(1, y).exp(),
        "masked": lambda x, y: torch.where((x > 0) & ~(y[:, None] == 3) | (x < -1), x.sin(), x),
        "cross-entropy": lambda x, y: functional.cross_entropy(x, y, ignore_index=3),
    }[name]


def _jax(name: str) -> Callable[..., Any]:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return {
        "picked": lambda x, y: jax.numpy.exp(x[_rows("jax"), y]),
        "gathered": lambda x, y: jax.numpy.take_along_axis(x, y[:, None], 1) ** 2,
    }[name]


def _numpy(name: str) -> Callable[..., Any]:
    return {
        "picked": lambda x, y: np.exp(x[np.arange(3), y]),
        "gathered": lambda x, y: np.take_along_axis(x, y[:, None], 1) ** 2,
    }[name]


@pytest.mark.parametrize("mode", ["forward", "backward"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("numpy", "torch", "jax") for name in ("picked", "gathered")]
    + [("torch", "selected"), ("torch", "masked"), ("torch", "cross-entropy")],
)
def test_indices_of_their_own(kind: str, name: str, mode: str) -> None:
    fn = {"numpy": _numpy, "torch": _torch, "jax": _jax}[kind](name)
    native = [framework(kind).array(X[0], "float64"), framework(kind).array(LABELS[0], "int64")]
    made = Shadow(fn, native, framework=kind, wrt=[True, False])
    program = getattr(made, mode)
    assert program is not None, made.unknown
    shape = np.shape(framework(kind).to_numpy(fn(*native)))
    more = [BALLS.array(np.ones(shape))] if mode == "backward" else []
    (together,) = program(batch([BALLS.array(x) for x in X]), Plain(LABELS, 4), *more)
    assert together.rows == 4
    for i in range(4):
        (alone,) = program(BALLS.array(X[i]), LABELS[i], *more)
        assert [str(v) for v in row_of(together, i).values.ravel()] == [
            str(v) for v in alone.values.ravel()
        ]
