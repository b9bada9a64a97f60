"""Inputs of a declared structure are varied within it: conventions are right there, and mistakes wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import ffverify
from ffverify import strategies
from ffverify.gradients.gradcheck import gradcheck

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(3, 3))
A = RNG.normal(size=(3, 3))
POSITIVE = ROOT @ ROOT.T + 3 * np.eye(3)
POSITIVE = (POSITIVE + POSITIVE.T) / 2
P = np.array([0.2, 0.3, 0.5])


def verdict(fn, inputs, **options):
    return str(gradcheck(fn, inputs, raise_exception=False, **options).verdict)


def vjp(rule):
    return lambda v, x: v * rule(x)


def squares(x):
    return np.sum(x * x)


def entropy(p):
    return np.sum(p * np.log(p))


def of_inverse(q):
    return np.sum(A * np.linalg.inv(q))


# A gradient that is right within the structure only, one that is wrong there too, and the input.
WITHIN = [
    (ffverify.symmetric, squares, lambda x: 2 * x + A - A.T, lambda x: x, POSITIVE),
    (ffverify.lower_triangular, squares, lambda x: 2 * x + np.triu(A, 1), lambda x: x, np.tril(A)),
    (ffverify.upper_triangular, squares, lambda x: 2 * x + np.tril(A, -1), lambda x: x, np.triu(A)),
    (ffverify.orthogonal, of_inverse, lambda q: A.T, lambda q: A, np.linalg.qr(ROOT)[0]),
    (ffverify.simplex, entropy, np.log, lambda p: p * np.log(p), P),
]


@pytest.mark.parametrize(("declare", "fn", "right", "wrong", "x"), WITHIN)
def test_gradients_are_compared_within_the_structure(declare, fn, right, wrong, x):
    assert verdict(fn, declare(x), vjp=vjp(right)) in ("correct", "imprecise")
    assert verdict(fn, x, vjp=vjp(right)) == "wrong"
    assert verdict(fn, declare(x), vjp=vjp(wrong)) == "wrong"


@pytest.mark.parametrize("declare", [w[0] for w in WITHIN])
def test_an_input_that_is_not_what_it_is_declared_to_be_is_refused(declare):
    with pytest.raises(TypeError, match=r"^input x (is not|does not|has columns)"):
        gradcheck(lambda x: x * 2, declare(A))
    with pytest.raises(TypeError, match=r"^input x needs"):
        gradcheck(lambda x: x * 2, declare(np.array(1.0)))
    with pytest.raises(TypeError, match=r"^input x is complex"):
        gradcheck(lambda x: x * 2, declare(A * 1j))


def test_jvps_get_tangents_within_the_structure():
    assert verdict(np.linalg.cholesky, ffverify.positive_definite(POSITIVE)) == "correct"
    right = lambda t, x: 2 * t[0] @ A  # noqa: E731 - a rule
    assert verdict(lambda x: (x + x.T) @ A, ffverify.symmetric(POSITIVE), jvp=right) == "correct"
    assert verdict(lambda x: (x + x.T) @ A, POSITIVE, jvp=right) == "wrong"


def test_conventions_of_torch_and_a_second_order():
    torch = pytest.importorskip("torch")
    B, x = torch.tensor(RNG.normal(size=(3, 2))), torch.tensor(POSITIVE)
    symmetric, lower = ffverify.symmetric(x), ffverify.lower_triangular(x.tril())
    assert verdict(torch.linalg.eigvalsh, x) == "wrong"
    assert verdict(torch.linalg.eigvalsh, symmetric) == "correct"
    assert verdict(torch.cholesky_solve, (B, lower)) == "correct"
    with pytest.raises(ValueError, match="curved"):
        gradcheck(np.linalg.inv, ffverify.orthogonal(np.eye(2)), order=2)


SHAPES = {
    "symmetric": (2, 3, 3),
    "positive_definite": (3, 3),
    "orthogonal": (4, 3),
    "simplex": (2, 4),
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_strategies_draw_what_they_say(kind, dtype):
    from ffverify.frameworks.declared import amiss

    @settings(derandomize=True, deadline=None, max_examples=10)
    @given(getattr(strategies, kind)(dtype, SHAPES[kind]))
    def holds(x):
        assert x.shape == SHAPES[kind]
        assert x.dtype == dtype
        assert amiss(kind, x) == ""
        if kind == "positive_definite":
            assert np.linalg.eigvalsh(x.astype(float)).min() > 0.9

    holds()


def test_strategies_say_what_they_draw():
    drawn = strategies.positive_definite("float64", (2, 2))
    assert verdict(np.linalg.cholesky, drawn, max_examples=5) == "correct"
    report = gradcheck(
        lambda x: np.sum(x * x), drawn, vjp=vjp(lambda x: x), max_examples=5, raise_exception=False
    )
    assert report.findings[0].replay.startswith(
        "gradcheck(f, [ffverify.positive_definite(np.array("
    )
    assert not report.replay().ok
    for kind, shape in (("symmetric", (2, 3)), ("positive_definite", (3,)), ("orthogonal", (2, 3))):
        with pytest.raises(ValueError, match="shape="):
            getattr(strategies, kind)("float64", shape)
