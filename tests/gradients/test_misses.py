"""Wrong code that a gradient check could take for right, each beside the right code."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.verdicts.verdict import Verdict


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


SINGULAR_AT_ZERO = {
    "reciprocal": (lambda a: 1 / a, lambda v, a: -v / a**2),
    "cube": (lambda a: a**-3.0, lambda v, a: -3 * v * a**-4.0),
    "root": (lambda a: np.sqrt(np.abs(a)), lambda v, a: v / (2 * np.sqrt(a))),
    "a log a": (lambda a: a * np.log(np.abs(a)), lambda v, a: v * (np.log(a) + 1)),
}


@pytest.mark.parametrize("name", SINGULAR_AT_ZERO)
def test_a_zero_gradient_is_no_tail_beside_a_singularity(name):
    """Differences across a pole are of any size: no error is small beside them."""
    f, pull = SINGULAR_AT_ZERO[name]
    a = arrays("float64", (3,), min_value=0.5, max_value=2)
    assert check(f, a, vjp=lambda v, a: (0 * v,), max_examples=12).verdict is Verdict.WRONG
    assert check(f, a, vjp=lambda v, a: (pull(v, a),), max_examples=12).verdict is Verdict.CORRECT


def test_a_wrong_tangent_of_an_inverse_is_found():
    a = np.array([[4.0, 1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 0.0, 2.0]])
    inv = np.linalg.inv

    def tangent(t, a):
        return -inv(a) @ t[0] @ inv(a)

    def commuted(t, a):
        return -inv(a) @ inv(a) @ t[0]

    assert check(inv, a, jvp=commuted).verdict is Verdict.WRONG
    assert check(inv, a, jvp=tangent).verdict is Verdict.CORRECT


MASK = np.array([1.0, 0.0, 1.0, 1.0])


def test_a_cotangent_that_is_changed_in_place_excuses_nothing():
    def shared(v, x, y):
        v *= MASK
        return v, v

    def careful(v, x, y):
        return v * MASK, v.copy()

    def f(x, y):
        return x * MASK + y

    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, -1.0, 2.0, 0.25])
    report = check(f, x, y, vjp=shared)
    assert "/∂y[1]" in str(report)
    assert "changes its cotangent in place" in str(report)
    assert report.verdict is Verdict.WRONG
    assert check(f, x, y, vjp=careful).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("dtype", "error"), [("float16", 0.02), ("float16", 0.07), ("float32", 4e-6), ("float32", 1e-5)]
)
def test_many_terms_excuse_no_wrong_formula(dtype, error):
    x = np.array([8] + [0] * 199, dtype=dtype)

    def logsumexp(x):
        return x.max() + np.log(np.sum(np.exp(x - x.max())))

    def pull(factor):
        def vjp(v, x):
            z = np.exp((x - x.max()).astype(np.float32))
            return ((factor * v * (z / z.sum())).astype(dtype),)

        return vjp

    wrong = check(logsumexp, x, vjp=pull(1 + error))
    assert wrong.verdict is Verdict.WRONG
    # 200 roundings may add so much in float32; half formats are summed up in wider ones.
    assert ("the formula itself is off" in str(wrong)) is (dtype == "float32")
    assert check(logsumexp, x, vjp=pull(1.0)).verdict is Verdict.CORRECT


@pytest.mark.parametrize("x", [[0.0] * 5, [0.0, 1.0, -1.0, -0.975, 0.0]])
def test_elements_at_ties_of_zeros_are_right_together_or_wrong(x):
    """Half the sum of the two largest grows by t when all grow by t: no more may come back."""

    def two_largest(x):
        return np.sum(np.sort(x)[-2:]) / 2

    def every_tie(v, x):
        return (v * (x >= np.sort(x)[-2]) / 2,)

    def two(v, x):
        return (v * (np.argsort(np.argsort(x, kind="stable")) >= 3) / 2,)

    x = np.array(x)
    assert check(two_largest, x, vjp=every_tie).verdict is Verdict.WRONG
    assert check(two_largest, x, vjp=two).verdict is Verdict.CORRECT


@pytest.mark.parametrize("fill", [0.0, 7.0])
def test_what_fills_a_take_from_outside_is_a_number(fill):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    places = np.array([0, 5, 2, 3])

    def take(mode):
        f = jax.custom_vjp(lambda x: jnp.take(x, places, mode="fill", fill_value=fill))
        f.defvjp(
            lambda x: (f(x), x),
            lambda x, v: (jnp.zeros_like(x).at[places].add(v, mode=mode),),
        )
        return f

    x = jnp.array([1.0, 2.0, 3.0, 4.0])
    assert check(take("clip"), x).verdict is Verdict.WRONG
    right = check(take("drop"), x)
    assert (right.verdict, right.judged) == (Verdict.CORRECT, 4)


def test_a_scatter_that_leaves_out_its_own_element():
    torch = pytest.importorskip("torch")
    places = torch.tensor([0, 2, 0, 2, 2])

    def largest(x):
        return x.new_zeros(3).scatter_reduce(0, places, x, "amax", include_self=False)

    class EveryTie(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, largest(x))
            return largest(x)

        @staticmethod
        def backward(ctx, v):
            x, y = ctx.saved_tensors
            return v[places] * (x == y[places])

    x = torch.tensor([1.0, 2.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    assert check(EveryTie.apply, x).verdict is Verdict.WRONG
    assert check(largest, x).verdict is Verdict.CORRECT


def _lossy_slope(x, factor):
    """Give tanh's slope: 1 - t² loses all digits at large x, the left half is accurate but for a factor."""
    t = np.tanh(x)
    return np.where(x > 0, 1 - t * t, factor / np.cosh(np.abs(x)) ** 2)


CROWDS = {
    "elementwise, reverse": (np.tanh, lambda s: {"vjp": lambda v, x: (v * s(x),)}),
    "elementwise, forward": (np.tanh, lambda s: {"jvp": lambda t, x: t[0] * s(x)}),
    "sum, reverse": (
        lambda x: np.tanh(x).sum() * np.ones(2),
        lambda s: {"vjp": lambda v, x: (v.sum() * s(x),)},
    ),
    "rows, forward": (
        lambda x: np.tanh(x) * np.ones((2, 1)),
        lambda s: {"jvp": lambda t, x: t[0] * s(x) * np.ones((2, 1))},
    ),
}


@pytest.mark.parametrize("name", CROWDS)
def test_a_wrong_element_does_not_hide_among_lost_digits(name):
    """The elements with lost digits are further off, absolutely and relatively, than the wrong one."""
    fn, given = CROWDS[name]
    x = np.array([17.0, 18.0, 16.5, 17.5, -15.0, 16.0])
    wrong = check(fn, x, **given(lambda x: _lossy_slope(x, 1 + 1e-6)))
    right = check(fn, x, **given(lambda x: _lossy_slope(x, 1.0)))
    assert (wrong.verdict, right.verdict) == (Verdict.WRONG, Verdict.IMPRECISE)
    assert right.ok


def test_rounding_in_one_argument_does_not_hide_a_wrong_gradient_in_another():
    """The gradient by b is rounding beside an exact 0, which is worth a warning; that by a is halved."""

    def f(a, b):
        z = np.exp(a + b - np.max(a + b, axis=0))
        return z / z.sum(axis=0)

    def vjp(share):
        def pull(v, a, b):
            y = f(a, b)
            g = y * (v - (v * y).sum(axis=0))
            return share * g, g.sum(axis=0)

        return pull

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=3)
    wrong, right = (
        [check(f, a, b, vjp=vjp(s), seed=n).verdict for n in range(4)] for s in (0.5, 1)
    )
    assert wrong == [Verdict.WRONG] * 4
    assert Verdict.IMPRECISE in right
    assert Verdict.WRONG not in right


NO_TAILS = {
    "1/x": lambda x: 1 / x,
    "x^-3": lambda x: x**-3.0,
    "Lennard-Jones": lambda x: x**-12.0 - x**-6.0,
    "log x + ε": lambda x: np.log(x + 1e-6),
    "1/(x + ε)": lambda x: 1 / (x + 1e-6),
    "normalised": lambda x: x / np.maximum(np.sqrt(np.sum(x * x)), 1e-6),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", NO_TAILS)
def test_a_zero_gradient_is_no_tail_where_the_slope_is_large_at_0_only(name, dtype):
    """A power law, or a slope that an ε keeps finite, is large at 0: that is no scale to be small beside."""
    x = arrays(dtype, (3,), min_value=0.75, max_value=3)
    for zero in (
        lambda v, x: (0 * v,),
        lambda v, x: (0 * np.array(v.tolist()),),
    ):  # unknown: the second
        report = check(NO_TAILS[name], x, vjp=zero, max_examples=4)
        assert report.verdict is Verdict.WRONG, str(report)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_formula_that_nobody_can_run_is_not_excused_by_a_slope_elsewhere(dtype):
    def vjp(factor):
        return lambda v, x: (np.array((factor * v * -9 * x**-10.0).tolist(), dtype=x.dtype),)

    x = arrays(dtype, (3,), min_value=0.75, max_value=2)
    halved, right = (
        check(lambda x: x**-9.0, x, vjp=vjp(f), max_examples=4).verdict for f in (0.5, 1)
    )
    assert (halved, right) == (Verdict.WRONG, Verdict.CORRECT)


def test_a_slope_that_is_cut_off_in_an_exponential_tail_is_only_warned_of():
    def vjp(v, x):
        return (np.where(x > 45, 0, v / (1 + np.exp(x))),)

    report = check(lambda x: -np.log1p(np.exp(-x)), np.array([40.0, 50.0]), vjp=vjp)
    assert (report.verdict, report.ok) == (Verdict.IMPRECISE, True)


def test_rounding_in_the_first_derivative_does_not_hide_a_wrong_second_one():
    """The gradient by b is rounding beside an exact 0 at every point; backward holds the softmax constant."""
    torch = pytest.importorskip("torch")

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return torch.softmax(a + b, 0)

        @staticmethod
        def backward(ctx, v):
            a, b = ctx.saved_tensors
            y = torch.softmax(a + b, 0).detach()
            g = y * (v - (v * y).sum(0))
            return g, g.sum(0)

    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=s)) for s in ((4, 3), 3))
    wrong = check(Softmax.apply, a, b, order=2)
    right = check(lambda a, b: torch.softmax(a + b, 0), a, b, order=2)
    assert wrong.verdict is Verdict.WRONG
    assert right.verdict is Verdict.IMPRECISE
    assert right.ok


@pytest.mark.parametrize("size", [8, 5000])
def test_lost_digits_are_seen_among_many_inputs_as_among_few(size):
    """1 - cos x has lost half of them at 1e-4; among 5,000 inputs floats tell how far gradients move."""
    x = np.random.default_rng(0).uniform(1e-4, 1e-3, size)
    x[0] = 3.0  # where nothing is lost

    def fn(x):
        return np.sum(x - np.sin(x))

    lossy = check(fn, x, vjp=lambda v, x: v * (1 - np.cos(x)), strict=True)
    right = check(fn, x, vjp=lambda v, x: v * 2 * np.sin(x / 2) ** 2, strict=True)
    assert lossy.verdict is Verdict.IMPRECISE
    assert not lossy.ok
    assert not [f for f in right.findings if f.mode == "reverse"]


@pytest.mark.parametrize(("factor", "verdict"), [(1, "correct"), (2, "wrong"), (0.5, "wrong")])
def test_an_argument_along_which_a_function_jumps_hides_no_other(factor, verdict):
    """Labels of ±1 are floats, and a loss that asks whether they are 1 jumps beside it."""

    def loss(x, y):
        return np.mean(np.where(y == 1, x, np.maximum(0, 1 - x)))

    def vjp(v, x, y):
        return factor * v * np.where(y == 1, 1.0, np.where(x < 1, -1.0, 0.0)) / x.size, 0 * y

    x, y = np.array([-8.5, -1.7, 0.3, 4.0]), np.array([1.0, 1.0, -1.0, -1.0])
    report = check(loss, x, y, vjp=vjp)
    assert str(report.verdict) == verdict
    assert report.skipped == {"by y": "no result has a slope along it at some input"}
    assert "not checked: by y (no result" in str(report)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1, "correct"), (2, "wrong"), (0.5, "wrong"), (0, "wrong")]
)
def test_slopes_on_the_other_side_of_a_jump_excuse_none_between(factor, verdict):
    """If a label of 1 were none, the slope of this loss would have the other sign."""

    def loss(x, y):
        return np.where(y == 1, x**2, np.maximum(0, 1 - x) ** 2).sum()

    def vjp(v, x, y):
        return factor * v * np.where(y == 1, 2 * x, -2 * np.maximum(0, 1 - x)), 0 * y

    x, y = np.array([0.3, 0.7, 0.2]), np.ones(3)
    assert str(check(loss, x, y, vjp=vjp).verdict) == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1, "imprecise"), (1.5, "wrong")])
def test_a_tail_that_is_cut_off_hides_no_wrong_element(factor, verdict):
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def vjp(v, x):
        y = sigmoid(x)
        return (np.where(x < -36, 0, factor * v * y * (1 - y)),)

    report = check(sigmoid, np.array([-40.0, 0.5, 1.0]), vjp=vjp)
    assert str(report.verdict) == verdict
    assert report.ok == (factor == 1)


@pytest.mark.parametrize("seed", range(12))
def test_what_one_sign_of_a_cotangent_shows_is_no_matter_of_small_numbers(seed):
    """Found at 1e-123 and not where that was held within the range, of which another cotangent was asked."""

    def guided(v, x):
        return (np.where(v > 0, v, 0) * np.where(x > 0, 1.0, 0.0),)

    report = check(lambda x: np.maximum(x, 0), arrays("float64", (4,)), vjp=guided, seed=seed)
    assert report.fails


KINKS_AWAY_FROM_ZERO = {
    "relu": (lambda z: np.maximum(z - 0.5, 0), 0.5, lambda z: np.where(z >= 0.5, 1.0, 0.0)),
    "hinge": (lambda z: np.maximum(0, 1 - z), 1.0, lambda z: np.where(z < 1, -1.0, 0.0)),
    "distance": (lambda z: np.abs(0.75 - z), 0.75, lambda z: np.sign(z - 0.75)),
    "clip": (lambda z: np.clip(z, -2, 0.75), 0.75, lambda z: np.where(z <= 0.75, 1.0, 0.0)),
}


@pytest.mark.parametrize("name", KINKS_AWAY_FROM_ZERO)
@pytest.mark.parametrize("others", [[], [0.25]])
def test_a_kink_away_from_zero_is_judged_in_either_mode(name, others):
    """Any number between the slopes on either side is right there, and no other."""
    f, at, slope = KINKS_AWAY_FROM_ZERO[name]
    z = np.array([at, *others])
    for planted, verdict in ((slope(at), "correct"), (7.0, "wrong"), (np.nan, "nonfinite")):

        def d(z, planted=planted):
            return np.where(z == at, planted, slope(z))

        for own in ({"vjp": lambda v, z: v * d(z)}, {"jvp": lambda t, z: t[0] * d(z)}):
            report = check(f, z, **own)
            assert str(report.verdict) == verdict
            assert report.judged >= z.size


@pytest.mark.parametrize(("slope", "ok"), [(-0.9, True), (0.4, False)])
def test_a_pinball_loss_that_fits_exactly(slope, ok):
    """Slopes are -0.9 on one side of a label and 0.1 on the other."""
    y = np.array([0.5, 0.2])

    def loss(z):
        return np.maximum(0.9 * (y - z), -0.1 * (y - z))

    def gradient(z):
        return np.where(z == y, slope, np.where(y > z, -0.9, 0.1))

    assert check(loss, np.array([0.5, 1.0]), gradient=gradient).ok == ok
