"""Functions and inputs that are not what one gives to gradcheck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def functions() -> dict[str, Any]:
    """Give functions of an array, most of them of no use."""

    def mutates(x: Any) -> Any:
        x[...] = 0
        return x

    def recurses(x: Any) -> Any:
        return recurses(x)

    def raising(error: BaseException) -> Callable[[Any], Any]:
        def fn(_x: Any) -> Any:
            raise error

        return fn

    return {
        "square": lambda x: x * x, "itself": lambda x: x, "none": lambda _x: None, "text": lambda _x: "x",
        "number": lambda _x: 1.0, "nothing": lambda _x: (),
        "nested": lambda x: {"a": [x, (x * 2,)], "b": None},
        "mutates": mutates, "counts": len, "integers": lambda _x: np.zeros(2, int),
        "objects": lambda x: np.array([x, None], dtype=object), "complex": lambda x: x * 1j,
        "empty": lambda x: x[:0], "scalar": lambda x: x.sum(), "nan": lambda x: x * np.nan,
        "generator": lambda x: (v for v in x), "raises": raising(ValueError("no\nway")),
        "exits": raising(SystemExit(0)), "stops": raising(StopIteration()), "recurses": recurses,
        "a type": float, "two arguments": lambda x, y: x + y, "no argument": lambda: 1.0,
        "warns": lambda x: np.log(x - 1e9), "a string": "x", "no function": None,
    }  # fmt: skip


def inputs() -> dict[str, Any]:
    """Give inputs, most of them of no use."""
    read_only = np.array([0.5, 1.5])
    read_only.flags.writeable = False
    return {
        "two": np.array([0.5, -1.25]), "one": np.array(0.5), "number": 0.5, "none": None, "text": "x",
        "bytes": b"x", "no array": np.zeros(0), "no axis": np.zeros((0, 3)), "integers": np.array([1, 2]),
        "truth": np.array([True]), "complex": np.array([1j]), "objects": np.array([object()]),
        "texts": np.array(["x"]), "dates": np.array(["2020"], "M8[D]"), "nan": np.array([np.nan]),
        "infinite": np.array([np.inf, 1.0]), "huge": np.array([1e308]), "tiny": np.array([5e-324]),
        "half": np.array([0.5], np.float16), "big endian": np.array([0.5], ">f8"),
        "long": np.array([0.5], np.longdouble), "records": np.zeros(2, "f8,i4"),
        "masked": np.ma.masked_array([1.0, 2.0], [0, 1]), "list": [], "dict": {},
        "nested": [[0.5], [1.0, 2.0]],
        "generator": (v for v in [0.5]), "range": range(3), "memory": memoryview(b"12345678"),
        "read only": read_only, "strided": np.arange(6.0)[::-2], "a class": float,
    }  # fmt: skip
