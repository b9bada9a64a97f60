"""A user's functions under the names that people use, with derivatives of their own."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ffverify.conformance import backends, user_module
from ffverify.conformance.claim import run
from ffverify.conformance.verification import find_claim
from ffverify.errors import UsageError

Z = np.array([-2.0, 0.5])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("users_own")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def _functions(module: ModuleType) -> Any:
    return user_module.functions_of(module, backends.FUNCTIONS, rules=True)


def test_other_names_and_arguments(module: ModuleType) -> None:
    module.swish = lambda z: z / (1 + np.exp(-z))
    module.leaky_relu = lambda x, negative_slope=0.2: np.where(x > 0, x, negative_slope * x)
    module.softmax = lambda x, dim=-1: np.exp(x) / np.exp(x).sum(axis=dim, keepdims=True)
    module.mse_loss = lambda p, y, reduction="mean": (p - y) ** 2 if reduction == "none" else None
    module.gelu = lambda z, approximate=True: approximate
    module.linear = lambda x, W, b: x @ W.T + b
    held = _functions(module)
    assert held["silu"](1.0) == pytest.approx(0.7310585786)
    assert held["leaky_relu"](np.float64(-1.0)) == -0.01
    assert held["leaky_relu"](np.float64(-1.0), slope=0.5) == -0.5
    assert held["softmax"](np.zeros((2, 4)), axis=0)[0, 0] == 0.5
    assert held["squared_error"](3.0, 1.0) == 4.0
    assert (held["gelu"](1.0), held["gelu_tanh"](1.0)) == (False, True)
    assert held["affine"](np.ones(2), np.ones((2, 3)), np.zeros(3)).shape == (3,)


def test_a_function_under_its_own_name_comes_before_an_alias(module: ModuleType) -> None:
    module.silu, module.swish = (lambda z: 1), (lambda z: 2)
    assert _functions(module)["silu"](0.0) == 1


def test_what_no_claim_uses_is_named(module: ModuleType) -> None:
    def cross_entropy(z: Any) -> Any:
        return z

    def sigmoidd(z: Any) -> Any:
        return z

    def _helper(z: Any) -> Any:
        return z

    for function in (cross_entropy, sigmoidd, _helper):
        function.__module__ = module.__name__
        setattr(module, function.__name__, function)
    module.relu = module.imported = np.abs
    assert user_module.unused(module, backends.FUNCTIONS) == {
        "cross_entropy": "softmax_nll",
        "sigmoidd": "sigmoid",
    }


@pytest.mark.parametrize("how", ["attribute", "mapping", "mapping by another name"])
@pytest.mark.parametrize(("factor", "status"), [(1.0, "holds"), (1.01, "fails")])
def test_own_vjps_are_what_is_checked(
    module: ModuleType, how: str, factor: float, status: str
) -> None:
    def rule(v: Any, z: Any) -> Any:
        s = 1 / (1 + np.exp(-z))
        return factor * v * (s + z * s * (1 - s))

    def silu(z: Any) -> Any:
        return z / (1 + np.exp(-z))

    module.silu = silu
    if how == "attribute":
        silu.vjp = rule  # type: ignore[attr-defined]
    else:
        module.vjps = {"silu" if how == "mapping" else "swish": rule}
    backend = backends.load(module.__name__)
    (pulled,) = backend.vjp(lambda f, z: f.silu(z), [Z], np.ones(2), "float64", wrt=[0])
    pushed = backend.jvp(lambda f, z: f.silu(z), [Z], [np.ones(2)], "float64")
    assert pulled == pytest.approx(rule(1.0, Z), rel=1e-15)
    assert pushed == pytest.approx(rule(1.0, Z), rel=1e-15)

    def property_(check: Any, z: Any) -> None:
        check.gradient("silu", z)

    claim = find_claim("tanh_is_scaled_sigmoid")
    tried = type(claim)("silu_claim", "6.3", ".", ("silu",), claim.inputs, property_, 3)
    assert run(tried, backend, "float64", shrink=False).status in (status, "fails")
    found = run(tried, backend, "float64", shrink=False)
    wrong = [f for f in found.findings if f.kind == "wrong"]
    assert bool(wrong) == (status == "fails")


@pytest.mark.parametrize(
    ("vjps", "says"),
    [
        ({"slu": abs}, "did you mean 'silu'"),
        ({"silu": 3}, "give a function"),
        (3, "no mapping"),
    ],
)
def test_bad_vjps_are_one_clear_error(module: ModuleType, vjps: Any, says: str) -> None:
    module.silu, module.vjps = (lambda z: z), vjps
    with pytest.raises(UsageError, match=says):
        _functions(module)


@pytest.mark.parametrize("name", ["", "a..b", "1x", "no_such_module_at_all", "os/path", "a b"])
def test_a_module_that_is_not_there_is_one_clear_error(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        user_module.import_module(name)
    assert "\n" not in str(caught.value)
