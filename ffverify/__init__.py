"""Verification of feedforward networks and their derivatives against high-precision truth.

- ``ffverify.gradcheck(fn, inputs)``: is this gradient right? A verdict with proof.
- ``ffverify.backprop(layer, x)``: the same of an object with forward and backward.
- ``ffverify.data(x)``, ``ffverify.symmetric(x)`` and their kind: what is known of an input.
- ``ffverify.verify("torch")``: the claims of the chapter against an implementation.
- ``@ffverify.parametrize_specs("mylib.ops")``: the same as pytest tests.
- ``ffverify.strategies.arrays(...)``: Hypothesis strategies that know where floats break.
- ``ffverify.reference``: the reference engine, forward and reverse mode in NumPy.

Importing this is light: every name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import reference, strategies
    from .command.pytest_specs import parametrize_specs
    from .conformance.claim import claims
    from .conformance.verification import verify
    from .frameworks.declared import (
        data,
        lower_triangular,
        orthogonal,
        positive_definite,
        simplex,
        symmetric,
        upper_triangular,
    )
    from .gradients.given.backprop import backprop
    from .gradients.gradcheck import gradcheck
    from .gradients.report import GradcheckError, GradcheckReport

_HOME = {
    "GradcheckError": "gradients.report",
    "GradcheckReport": "gradients.report",
    "backprop": "gradients.given.backprop",
    "claims": "conformance.claim",
    "gradcheck": "gradients.gradcheck",
    "parametrize_specs": "command.pytest_specs",
    "verify": "conformance.verification",
}
_HOME |= dict.fromkeys(
    str.split(
        "data lower_triangular orthogonal positive_definite simplex symmetric upper_triangular"
    ),
    "frameworks.declared",
)
_MODULES = ("reference", "strategies")

__all__ = [
    "GradcheckError",
    "GradcheckReport",
    "backprop",
    "claims",
    "data",
    "gradcheck",
    "lower_triangular",
    "orthogonal",
    "parametrize_specs",
    "positive_definite",
    "reference",
    "simplex",
    "strategies",
    "symmetric",
    "upper_triangular",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        began = time.perf_counter()
        found = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        if "hypothesis" in sys.modules:  # a test of its may be around
            importlib.import_module(".search", __name__).leave_out(began)
        return found
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: it has {', '.join(__all__)}"
    )


def __dir__() -> list[str]:
    return __all__
