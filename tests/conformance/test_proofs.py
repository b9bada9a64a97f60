"""Proofs accept what is true of the textbook definitions and reject what is not."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.conformance import proofs
from ffverify.conformance.backends import load
from ffverify.conformance.check import Check, ClaimViolation
from ffverify.exact import formats

Z = np.array([[1.0, 2.0, -1e300], [3.0, 1e300, 4.0], [700.0, -700.0, 3.0]])


@pytest.fixture
def check():
    return Check(load("reference"), formats.of("float64"))


def test_equal_holds_where_both_sides_are_the_same_number(check):
    proofs.equal(check, lambda f, z: f.softmax(z), lambda f, z: f.softmax(z + 1), Z)


def test_equal_holds_at_an_exact_zero_that_cancels(check):
    proofs.equal(
        check, lambda f, z: f.log_sigmoid(z) - f.log_sigmoid(-z), lambda f, z: z, np.zeros(2)
    )


def test_equal_rejects_a_difference_far_below_a_rounding(check):
    with pytest.raises(ClaimViolation, match="left = right"):
        proofs.equal(check, lambda f, z: f.softmax(z), lambda f, z: f.softmax(z + z * 2.0**-110), Z)


def test_positive_does_not_guess(check):
    with pytest.raises(ClaimViolation, match="undecided at 8192 bits"):
        proofs.positive(check, lambda f, z: f.softplus(z) - z, np.array([1e5]))


def test_positive_proves_what_is_tiny(check):
    proofs.positive(check, lambda f, z: f.softplus(z) - f.relu(z), np.array([-700.0, 700.0]))


def test_positive_rejects_what_is_negative(check):
    with pytest.raises(ClaimViolation, match="0 <"):
        proofs.positive(check, lambda f, z: f.relu(z) - f.softplus(z), Z)


def test_positive_takes_zero_only_where_it_is_told_to(check):
    proofs.positive(check, lambda f, z: f.relu(z), Z, or_zero=True)
    with pytest.raises(ClaimViolation):
        proofs.positive(check, lambda f, z: f.relu(z), Z)


def test_slopes_agree_with_their_formula_and_with_no_other(check):
    slopes = proofs.slopes(check, lambda f, z: f.logsumexp(z), Z[::2], core=(1,))
    right = proofs.balls(lambda f, z: f.softmax(z), Z[::2]).values
    wrong = proofs.balls(lambda f, z: f.softmax(2 * z), Z[::2]).values
    proofs.agree(check, slopes, right, "slopes")
    with pytest.raises(ClaimViolation, match="slopes"):
        proofs.agree(check, slopes, wrong, "slopes")
