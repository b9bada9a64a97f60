"""What a claim can say, tried on backends that are wrong in one stated way each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffverify.conformance.backends import load
from ffverify.conformance.check import Check, ClaimViolation
from ffverify.conformance.claim import Claim, _search
from ffverify.exact import formats
from ffverify.strategies import arrays
from ffverify.verdicts.verdict import Verdict

Z = np.array([-700.0, -3.0, -1e-9, 0.0, 0.5, 40.0])


def _check(dtype: str = "float64", **changes: Callable[..., Any]) -> Check:
    backend = load("reference")
    for name, function in changes.items():
        backend = backend.replacing(name, function)
    check = Check(backend, formats.of(dtype))
    check.start("a claim", {"z": Z})
    return check


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_right_function_passes_at_every_format(dtype: str) -> None:
    check = _check(dtype)
    z = np.array([-10.0, -0.5, 0.0, 3.0], dtype=dtype)
    computed = check.value("sigmoid", z)
    assert computed.dtype == dtype
    check.gradient("sigmoid", z)
    check.tangent("sigmoid", [z], [np.ones_like(z)])
    assert 0 < check.worst_ulps < 4


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (np.tanh, Verdict.WRONG),
        (lambda z: 1 / (1 + np.exp(-z)) + 1e-13, Verdict.WRONG),
        (lambda z: z / 0.0, Verdict.NONFINITE),
        (
            lambda z: np.where(z < 0, 1 - 1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))),
            Verdict.IMPRECISE,
        ),
    ],
)
def test_a_wrong_value_is_a_finding_of_its_kind(broken: Callable[..., Any], kind: Verdict) -> None:
    with np.errstate(all="ignore"), pytest.raises(ClaimViolation) as caught:
        _check(sigmoid=broken).value("sigmoid", Z)
    finding = caught.value.finding
    assert finding.kind is kind
    assert finding.severity == "error"
    assert finding.where.startswith("sigmoid(")
    assert len(finding.exact) >= 60 or finding.exact == "0.5"
    assert "ffverify replay" in str(finding)


def test_a_derivative_lost_in_the_tail_names_the_exact_one() -> None:
    from ffverify.reference import custom_rule

    def forgetful(y_bar: Any, y: Any, _z: Any) -> tuple[Any]:
        return (y_bar * y * (1 - y),)

    broken = custom_rule(load("reference").functions["sigmoid"], vjp=forgetful)
    with pytest.raises(ClaimViolation) as caught:
        _check(sigmoid=broken).gradient("sigmoid", np.array([40.0]))
    text = str(caught.value)
    assert "sigmoid'(40.0) = 0.0, but should be 4.248354255291588" in text


def test_an_exception_of_the_backend_is_its_failure() -> None:
    def raises(z: Any) -> Any:
        raise OverflowError("too large")

    with pytest.raises(ClaimViolation, match="OverflowError: too large"):
        _check(sigmoid=raises).value("sigmoid", Z)


def test_a_wrong_shape_is_a_finding() -> None:
    with pytest.raises(ClaimViolation, match="shape of sigmoid"):
        _check(sigmoid=np.sum).value("sigmoid", Z)


def test_any_subgradient_is_right_at_a_kink_and_none_beyond() -> None:
    zero = np.zeros(1)
    for slope in (0.0, 0.3, 1.0):
        _check(relu=_with_slope_at_zero(slope)).gradient("relu", zero)
    with pytest.raises(ClaimViolation, match="interval of one-sided derivatives"):
        _check(relu=_with_slope_at_zero(2.0)).gradient("relu", zero)


def _with_slope_at_zero(slope: float) -> Callable[..., Any]:
    return lambda z: np.maximum(z, 0) + np.where(z == 0, slope * z, 0) - np.where(z == 0, z, 0) / 2


def test_absolute_accuracy_is_enough_where_only_that_is_promised() -> None:
    naive = _check(softmax=lambda z: np.exp(z - np.max(z)) / np.sum(np.exp(z - np.max(z))) + 1e-17)
    naive.value("softmax", np.array([[0.0, 60.0]]), scale=1.0)
    with pytest.raises(ClaimViolation):
        naive.value("softmax", np.array([[0.0, 60.0]]))


def test_a_small_loss_is_a_warning_not_a_failure() -> None:
    check = _check(sigmoid=lambda z: (1 + np.tanh(z / 2)) / 2)
    check.value("sigmoid", np.array([-12.0]))
    (warning,) = check.warnings
    assert warning.severity == "warning"
    assert warning.kind is Verdict.IMPRECISE


def test_only_undefined_points_are_inconclusive() -> None:
    check = _check(log=lambda x: x * 0)
    check.value("log", np.array([-1.0]))
    assert check.only_inconclusive


def test_programs_run_on_backend_and_textbook_alike() -> None:
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)

    def layer(f: Any, x: Any, W: Any, b: Any) -> Any:
        return f.tanh(f.affine(x, W, b))

    check = _check()
    check.value(layer, x, W, b)
    for argument in range(3):
        check.gradient(layer, x, W, b, wrt=argument)
    with pytest.raises(ClaimViolation):
        _check(affine=lambda x, W, b: x @ W).value(layer, x, W, b)
    with pytest.raises(ClaimViolation):
        _check(affine=lambda x, W, b: x @ W - b).gradient(layer, x, W, b, wrt=2)


def test_equality_is_bit_for_bit() -> None:
    check = _check()
    check.equal(np.array([0.0, 1.0]), [-0.0, 1.0], "two numbers")
    with pytest.raises(ClaimViolation, match="bit for bit"):
        check.equal(np.array([1.0]), [1.0 + 2**-52], "one number")


def test_a_rounded_constant_does_not_make_a_formula_wrong() -> None:
    erf = load("reference").functions["erf"]
    cancelling = _check(gelu=lambda z: z * 0.5 * (1 + erf(z * 0.7071067811865476)))
    with pytest.raises(ClaimViolation) as caught:
        cancelling.value("gelu", np.array([-10.0]))
    assert caught.value.finding.kind is Verdict.IMPRECISE
    mistaken = _check(gelu=lambda z: z * 0.5 * (1 + erf(z * 0.7071)))
    with pytest.raises(ClaimViolation) as caught:
        mistaken.value("gelu", np.array([0.5]))
    assert caught.value.finding.kind is Verdict.WRONG


def test_what_has_nothing_to_draw_is_examined_once_and_fails_every_example() -> None:
    check, seen = _check(), []

    def examine(check: Check) -> None:
        seen.append(check)
        check.that(False, "a count", 2, 1)

    for _ in range(3):
        with pytest.raises(ClaimViolation, match="a count"):
            check.once(examine)
    assert len(seen) == 1
    check = _check()
    check.once(seen.append)
    check.once(seen.append)
    assert len(seen) == 2


def test_a_ball_narrower_than_the_confirmation_is_not_a_disagreement() -> None:
    z = np.array([[1.1102230246251564e-16, 744.4400719213811, -43.889401185064344]])
    with pytest.raises(ClaimViolation) as caught:
        _check(log_softmax=lambda z: np.log(load("reference").functions["softmax"](z))).value(
            "log_softmax", z, scale=1.0
        )
    assert caught.value.finding.kind is Verdict.NONFINITE


def test_a_kink_beside_the_point_leaves_the_subgradients_of_both_sides() -> None:
    almost_tied = np.array([[0.0, 0.0, 1.4016293e-31]], np.float32)
    _check("float32").gradient("maxout", almost_tied, k=3)
    doubled = _check("float32", maxout=lambda z, k: 2 * load("reference").functions["maxout"](z, k))
    with pytest.raises(ClaimViolation):
        doubled.gradient("maxout", almost_tied, k=3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_backends_own_roundings_are_known_in_every_format(dtype: str) -> None:
    pytest.importorskip("jax")
    check = Check(load("jax"), formats.of(dtype))
    check.start("a claim", {})
    with pytest.raises(ClaimViolation) as told:
        check.gradient("elu", np.array([-40.0], dtype=dtype))  # expm1(z) + 1, formed in the format
    assert told.value.finding.kind is Verdict.IMPRECISE


def test_jax_computes_a_backends_float64_gradients_in_float64() -> None:
    jax = pytest.importorskip("jax")
    check = Check(load("jax"), formats.of("float64"))
    check.start("a claim", {})
    x, W, b = np.array([[0.1, -0.7]]), np.array([[0.3], [1.1]]), np.array([0.2])
    with jax.enable_x64(False):  # as it is in a process that says nothing
        check.derivatives("affine", x, W, b)
        check.derivatives("softmax_nll", x, np.array([1]), scale=1.0)


def test_what_fails_once_and_not_again_is_inconclusive() -> None:
    """As a peak of memory that something else in the process has raised."""
    measured = iter([0.9])

    def steady(check: Check, z: Any) -> None:
        check.that(next(measured, 1.0) >= 1, f"what is measured of {z.size} numbers", 0.9, "1")

    claim = Claim(
        "steady", "6", "It is steady.", (), {"z": lambda fmt, _: arrays(fmt.name, (2,))}, steady, 5
    )
    check = Check(load("reference"), formats.of("float64"))
    (found,) = _search(claim, check, {}, seed_value=0, max_examples=5, shrink=True)
    assert found.kind is Verdict.INCONCLUSIVE
    assert "failed once and not again" in found.reason
