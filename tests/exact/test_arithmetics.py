"""The two arithmetics agree on the textbook, each catches the other's planted error, and precise
arrays mean what NumPy means.

``FFVERIFY_POINTS=10000 pytest tests/ffverify/test_shadow_arithmetics.py -k textbook`` draws the nightly
number of points per definition.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffverify import strategies
from ffverify.exact import formats
from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.arrays import Arithmetic, PreciseArray, elementwise
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.rounding_arithmetic import rounded
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.verdicts.verdict import Verdict, judge

POINTS = int(os.environ.get("FFVERIFY_POINTS", "60"))
AXES = {"n": 4, "m": 3, "d": 2, "k": 3}
POSITIVE = ("precision", "precisions", "sigma")
OPTIONS: dict[str, dict[str, Any]] = {"maxout": {"k": 2}}


def batch(definition: textbook.Definition) -> int:
    """How many points Hypothesis draws as one example: it refuses larger ones."""
    return 20 if sum(definition.core) == 0 else 5


def points(definition: textbook.Definition) -> st.SearchStrategy[list[Any]]:
    """Draw batches of arguments from a definition's domain: its edges, kinks, and up to ±1000."""
    names = list(inspect.signature(definition.function).parameters)
    operands = re.findall(r"\(([\w,]*)\)", definition.signature.split("->")[0])
    low = float(np.nextafter(definition.domain[0], np.inf))  # the domain is open
    args = []
    for i, operand in enumerate(operands):
        shape = (batch(definition), *(AXES[a] for a in operand.split(",") if a))
        if i in definition.data:
            labels = AXES["n"] if definition.name == "softmax_nll" else 2
            args.append(hnp.arrays(np.int64, shape, elements=st.integers(0, labels - 1)))
            continue
        least = 1e-3 if names[i] in POSITIVE else max(low, -1e3) if i == 0 else -1e3
        edges = definition.kinks if i == 0 else ()
        drawn = strategies.arrays("float64", shape, min_value=least, max_value=1e3, edges=edges)
        args.append(drawn.map(_invertible) if names[i] == "factor" else drawn)
    return st.tuples(*args).map(list)


def _invertible(factor: Any) -> Any:
    """Make factors of covariances: triangular, with a diagonal away from 0."""
    return np.tril(factor, -1) + np.eye(factor.shape[-1]) * (1 + abs(factor))


def disagreements(
    function: Callable[..., Any], args: list[Any], balls: Arithmetic, mps: Arithmetic
) -> tuple[int, int]:
    """Count balls of 128 bits that miss the number that mpmath gives at 640; and all that are finite."""

    def run(arithmetic: Arithmetic, bits: int) -> Any:
        with arithmetic.precision(bits):
            given = [arithmetic.array(a) if a.dtype.kind == "f" else a for a in args]
            return function(*given).values.ravel().tolist()

    def around(number: Any, coarse: Any) -> Any:
        # mpmath promises no enclosure. What changes when its precision doubles it had not settled
        # (gelu(-29.5625) cancels to 5 of 640 bits), and its last 40 of 640 bits are not relied on
        # (erf(-20.872…) is -1 there, which is off by 2^-633).
        return number + arb(0, (abs(number) * arb(2) ** -600 + abs(number - coarse)).abs_upper())

    missed, told = 0, 0
    with BALLS.precision(640):
        found, second, coarse = run(balls, 128), map(arb, run(mps, 640)), map(arb, run(mps, 320))
        for ball, number, before in zip(found, second, coarse, strict=True):
            if ball.is_finite() and number.is_finite():
                missed += not ball.overlaps(around(number, before))
                told += 1
            else:  # an infinite ball holds everything; an infinity is met by itself only
                missed += ball.is_finite()
    return missed, told


@pytest.mark.parametrize("name", sorted(textbook.CATALOGUE))
def test_both_arithmetics_agree_on_the_textbook(name: str) -> None:
    definition, judged, all_told = textbook.CATALOGUE[name], 0, 0
    options = OPTIONS.get(name, {})

    @settings(max_examples=-(-POINTS // batch(definition)))
    @given(points(definition))
    def on_any_batch(args: list[Any]) -> None:
        nonlocal judged, all_told
        missed, told = disagreements(
            lambda *a: definition.function(*a, **options), args, BALLS, MPMATH
        )
        assert missed == 0
        judged, all_told = judged + len(args[0]), all_told + told

    on_any_batch()
    assert judged >= POINTS
    assert all_told > POINTS / 2
    print(f"{name}: {judged:,} points, {all_told:,} finite results")  # noqa: T201 - a report


@pytest.mark.parametrize("name", ["softplus", "gelu", "log_softmax"])
@pytest.mark.parametrize("which", ["Arb", "mpmath"])
def test_a_planted_error_in_either_arithmetic_is_caught(name: str, which: str) -> None:
    definition = textbook.CATALOGUE[name]
    args = [np.random.default_rng(1).normal(size=(20, *[4] * definition.core[0]))]

    def planted(arithmetic: Arithmetic) -> Arithmetic:
        # One part in 10^30: invisible in any float format.
        def off(name: str) -> Callable[[Any], Any]:
            return lambda x: arithmetic.functions[name](x) * (1 + arithmetic.exact(2.0**-100))

        wrong = {name: off(name) for name in ("exp", "erf")}
        return arithmetic.deriving(functions=arithmetic.functions | wrong)

    balls = planted(BALLS) if which == "Arb" else BALLS
    mps = planted(MPMATH) if which == "mpmath" else MPMATH
    assert disagreements(definition.function, args, BALLS, MPMATH) == (0, args[0].size)
    assert disagreements(definition.function, args, balls, mps)[0] > 0


UNARY = str.split("""exp expm1 log1p sqrt sin cos tan arctan arcsinh sinh cosh tanh floor ceil trunc rint sign
    absolute square reciprocal exp2 log2 log10 cbrt negative""")
BINARY = str.split("""add subtract multiply divide power maximum minimum arctan2 hypot remainder fmod
    floor_divide     copysign fmax fmin logaddexp float_power""")


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_ufuncs_mean_what_numpy_means(name: str) -> None:
    rng = np.random.default_rng(2)
    x, y = abs(rng.normal(size=(3, 4))) + 0.1, rng.normal(size=4) + 3
    means_what_numpy_means(getattr(np, name), [x] if name in UNARY else [x, y])


def means_what_numpy_means(function: Callable[..., Any], args: list[Any]) -> None:
    """Check that NumPy's result is the exact one but for rounding, and mpmath's within Arb's balls."""
    computed = function(*args)
    if isinstance(function(*map(BALLS.array, args)), PreciseArray):
        exact = truth.value(function, args, formats.of("float64"))
        assert (
            judge(np.asarray(computed), exact, formats.of("float64")).verdicts == Verdict.CORRECT
        ).all()
        assert disagreements(function, args, BALLS, MPMATH) == (0, np.size(computed))
    else:
        for arithmetic in (BALLS, MPMATH):
            np.testing.assert_array_equal(function(*map(arithmetic.array, args)), computed)


def floats(x: Any) -> Any:
    return np.vectorize(float, otypes=[float])(x.values) if isinstance(x, PreciseArray) else x


X = np.random.default_rng(3).normal(size=(3, 4, 2))
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: np.sum(x, axis=(0, 2)),
    "mean": lambda x: np.mean(x, axis=1, keepdims=True),
    "var": lambda x: np.var(x, axis=1, ddof=1),
    "prod": lambda x: np.prod(x, axis=-1),
    "prod of all": np.prod,
    "mantissa": lambda x: np.frexp(x)[0],
    "exponent": lambda x: np.frexp(x)[1],
    "max": lambda x: np.max(x, axis=(0, 1)),
    "min": lambda x: np.min(x, axis=1, keepdims=True),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": np.argmin,
    "sort": lambda x: np.sort(x, axis=1),
    "argsort": lambda x: np.argsort(x, axis=0),
    "searchsorted": lambda x: np.searchsorted(np.sort(x[:, 0, 0]), x),
    "searchsorted to the right of equal ones": lambda x: np.searchsorted(X.ravel()[:1], x, "right"),
    "searchsorted of nan": lambda x: np.searchsorted(np.sort(x.reshape(-1)), [np.nan, np.inf]),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "cumprod": lambda x: np.cumprod(x, axis=1),
    "einsum": lambda x: np.einsum("ijk,ilk->jl", x, x),
    "matmul": lambda x: x @ np.swapaxes(x, 1, 2),
    "where": lambda x: np.where(x > 0, x, 0.5 * x),
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "concatenate": lambda x: np.concatenate([x, x], axis=1),
    "indices": lambda x: x[[0, 2], 1:],
    "mask": lambda x: x[X > 0],
    "take_along_axis": lambda x: np.take_along_axis(x, np.argsort(X, axis=1), axis=1),
    "inverse": lambda x: np.linalg.inv(x[:2, :2, :]),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1),
    "powers": lambda x: np.vander(x[0, :, 0]) * np.vander(x[0, :, 1], 4, increasing=True),
    "reduce": lambda x: np.maximum.reduce(x, axis=1),
    "to integers": lambda x: (3 * x).astype(np.int64),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_mean_what_numpy_means(name: str) -> None:
    means_what_numpy_means(FUNCTIONS[name], [X])


def test_a_function_that_means_something_else_is_told() -> None:
    with pytest.raises(AssertionError):  # no bias in one, Bessel's correction in the other
        means_what_numpy_means(lambda x: np.var(x, ddof=int(isinstance(x, PreciseArray))), [X])


def test_assignment_changes_elements_as_in_numpy() -> None:
    x = BALLS.array(np.arange(4.0)).copy()
    x[1:3] = x[0:2] * 10
    x[0] = -1
    np.testing.assert_array_equal(floats(x), [-1, 0, 10, 3])


def test_a_comparison_that_cannot_be_decided_is_not_guessed() -> None:
    with BALLS.precision(64):
        one = np.sin(BALLS.array(np.ones(1))) ** 2 + np.cos(BALLS.array(np.ones(1))) ** 2
        with pytest.raises(Undecided):
            one > 1  # noqa: B015 - the comparison is what is tested
        with pytest.raises(Undecided):
            np.sort(np.concatenate([one, BALLS.array(np.ones(1))]))
        with pytest.raises(Undecided):
            np.floor(one)


@pytest.mark.parametrize(
    "ask",
    [np.isnan, np.isfinite, np.argmax, np.sort, lambda x: x > 1, lambda x: x == -1],
)
def test_what_a_wide_ball_leaves_without_bounds_is_not_nan(ask) -> None:
    def root(big: float) -> Any:
        x = BALLS.array(np.array([big, 1.0]))
        return np.sqrt(np.sum(x, keepdims=True) - big)  # of 1; of [-1, 1] in few bits

    with BALLS.precision(64), pytest.raises(Undecided, match="is a number"):
        ask(np.concatenate([root(1e30), BALLS.array(np.ones(1))]))
    with BALLS.precision(256):
        ask(np.concatenate([root(1e30) + 1, BALLS.array(np.ones(1))]))
    with BALLS.precision(4096):  # 0 / 0 is nan, to any number of bits
        assert np.isnan(BALLS.array(np.zeros(1)) / 0).all()


@pytest.mark.parametrize(
    "ask", [lambda x: x > 1, lambda x: np.sort(np.concatenate([x, 2 * x - x])), np.floor, np.sign]
)
def test_what_stays_undecided_is_told_in_few_digits(ask) -> None:
    with BALLS.precision(8192):
        one = np.sin(BALLS.array(np.ones(1))) ** 2 + np.cos(BALLS.array(np.ones(1))) ** 2
        wide = one.like(one.values + arb(0, 1e-9))
        with pytest.raises(Undecided, match=r"\b(1\.0000|0)") as told:
            ask(wide - 1 if ask is np.sign else wide)
    assert len(str(told.value)) < 100


@pytest.mark.parametrize(
    ("ask", "answers"),
    [
        (lambda x: x > 1, (False, False, True)),
        (lambda x: x >= 1, (False, True, True)),
        (np.floor, (0, 1, 1)),
        (lambda x: np.sign(x - 1), (-1, 0, 1)),
    ],
)
def test_what_is_apart_by_less_than_any_float_is_tied_at_last(ask, answers) -> None:
    """That sin² + cos² is 1 shows at no precision, and where it is less by any float at this one."""
    x = BALLS.array(np.ones(1))
    with BALLS.precision(256), pytest.raises(Undecided):
        ask(np.sin(x) ** 2 + np.cos(x) ** 2)
    with BALLS.precision(4096):
        one = np.sin(x) ** 2 + np.cos(x) ** 2
        found = [ask(one + by) for by in (-(2.0**-1074), 0.0, 2.0**-1074)]
        assert all(np.all(f == answer) for f, answer in zip(found, answers, strict=True))


def test_equal_numbers_made_by_the_same_steps_are_tied_at_last() -> None:
    x = BALLS.array(np.array([0.5, 0.25, 0.5]))
    with BALLS.precision(256), pytest.raises(Undecided):
        np.sort(np.exp(x))
    with BALLS.precision(4096):
        assert np.argsort(np.exp(x), kind="stable").tolist() == [1, 0, 2]
        assert (np.exp(x) >= np.exp(x[::-1])).tolist() == [True, True, True]


def test_one_object_is_one_number() -> None:
    with BALLS.precision(64):
        x = np.tanh(BALLS.array(np.array([0.3, 0.7, -2.0])))
        np.testing.assert_array_equal(x == np.max(x), [False, True, False])


def test_nan_compares_as_in_ieee() -> None:
    for arithmetic in (BALLS, MPMATH):
        x = arithmetic.array(np.array([np.nan, 1.0]))
        np.testing.assert_array_equal(x == x, [False, True])  # noqa: PLR0124
        np.testing.assert_array_equal(x != x, [True, False])  # noqa: PLR0124
        np.testing.assert_array_equal(x < 2, [False, True])


def test_a_precise_array_does_not_become_a_plain_one() -> None:
    with pytest.raises(TypeError, match="digits would be lost"):
        np.asarray(BALLS.array(np.ones(2)))


@pytest.mark.parametrize(
    ("name", "x"),
    [("lgamma", -2.5), ("lgamma", 7.25), ("digamma", 0.3), ("erfinv", 0.4), ("i0", 2.0)],
)
def test_special_functions_agree_in_both(name: str, x: float) -> None:
    values = []
    for arithmetic in (BALLS, MPMATH):
        with arithmetic.precision(160):
            values.append(elementwise(name, arithmetic.array(np.array([x]))).values[0])
    with BALLS.precision(160):
        assert abs(values[0] - arb(values[1])) < arb(2) ** -140


@pytest.mark.parametrize("name", ["lgamma", "digamma", "gamma", "y0"])
def test_what_has_no_finite_real_value_is_undefined_in_both(name: str) -> None:
    x = -2.0 if name != "y0" else -1.0
    for arithmetic in (BALLS, MPMATH):
        with arithmetic.precision(4096):  # with fewer bits it might be a wide ball
            assert not np.isfinite(elementwise(name, arithmetic.array(np.array([x]))))[0]


@pytest.mark.parametrize("x", [-0.3, -2.5, -1500.25, 0.75, 30.0])
def test_polygamma_is_known_to_the_left_of_zero(x: float) -> None:
    """It was undefined to the left of -1000."""
    for n in (0, 1, 3):
        with BALLS.precision(600), MPMATH.precision(300):
            ball, number = (
                elementwise("polygamma", *(a.array(np.array(v)) for v in (float(n), x))).values[()]
                for a in (BALLS, MPMATH)
            )
            assert abs(ball / arb(number) - 1) < arb(2) ** -250


def test_the_place_of_an_extremum_is_decided_where_the_others_are_not_in_order() -> None:
    wide = BALLS.array(np.array([1.0, 1.05, 5.0])).values + np.array([arb(0, 0.1)] * 2 + [arb(0)])
    row = PreciseArray(wide, BALLS)
    assert np.argmax(row) == 2
    with pytest.raises(Undecided):
        np.argmin(row)
    nan = BALLS.array(np.array([1.0, np.nan, 5.0, np.nan]))
    assert np.argmax(nan) == np.argmin(nan) == 1


def test_both_arithmetics_raise_e_to_huge_powers_alike() -> None:
    for x in (2.0**70, -(2.0**70), 1e300, -1.25e200, 700.0):
        with MPMATH.precision(800), BALLS.precision(2400):
            power = np.exp(MPMATH.array(x)).values[()]
            ball = np.exp(BALLS.array(x)).values[()]
            mantissa, exponent = power.man_exp
            apart = abs(arb(int(mantissa)) * arb(2) ** arb(int(exponent)) / ball - 1)
            assert apart < arb(2) ** -790


def test_what_overflows_or_is_divided_by_the_inexact_is_rounded_too() -> None:
    """The running bound of a number alone, and of quotients of no exact numbers, was an error of ours."""
    arithmetic = rounded(formats.FORMATS["float32"])
    infinite, tenth = BALLS.exact(float("inf")), arithmetic.exact(0.1)
    one = PreciseArray(np.array(infinite, dtype=object), arithmetic)
    assert not (one + 1.0).values[()].is_finite()
    assert (
        not (one / PreciseArray(np.array(tenth, dtype=object), arithmetic)).values[()].is_finite()
    )
    half = (arithmetic.array(np.float64(3.0)) / 2.0).values[()]
    assert half.is_exact()
    assert not (arithmetic.array(np.float64(1.0)) / 3.0).values[()].is_exact()


def test_a_quotient_may_be_a_product_with_a_reciprocal_that_is_flushed_to_zero() -> None:
    """LAPACK divides by a pivot so: beyond 2^126 the reciprocal is a subnormal float32."""
    arithmetic = rounded(formats.FORMATS["float32"])
    quotients = arithmetic.array(np.array([12.5, 12.5, 12.5])) / arithmetic.array(
        np.array([2.0**125, 3e37, 3e38])
    )
    assert [x.contains(0) for x in quotients.values] == [False, False, True]


def test_what_meets_numbers_of_a_wider_format_is_computed_in_that() -> None:
    """As NumPy promotes, but by Python's own numbers; the widest is the format of the program."""
    x = PreciseArray(BALLS.array([1 / 3]).elements, rounded(formats.FORMATS["float32"]))
    half = x.astype(np.float16)

    def digits(y: Any) -> int:
        return int(y.elements[0].rel_accuracy_bits())

    assert digits(half) == digits(half.astype(np.float64)) < 12
    exact = PreciseArray(BALLS.array([1 / 3]).elements, half.arithmetic)  # as float16 holds a third
    for narrow in (exact * exact, exact * 0.5 * exact, np.multiply(x, x, dtype="e")):
        assert digits(narrow) < 13
    strong = np.float32(0.7), np.array([0.7]), x
    for wide in (*(exact * y for y in strong), *(y * exact for y in strong)):
        assert 20 < digits(wide) < 26
    assert digits(np.concatenate([exact, x])[:1] * exact) > 20
    into = np.zeros_like(x, dtype=np.float16)
    into[...] = x
    assert digits(into) < 13
    np.multiply(x, x, out=into)
    assert digits(into) < 13


@pytest.mark.parametrize("wave", [np.sin, np.cos])
def test_waves_have_no_value_at_infinity(wave: Any) -> None:
    given = np.array([np.inf, -np.inf, np.nan, 1.0])
    for x in (wave(BALLS.array(given)), *(wave(BALLS.array(given[[k]])) for k in range(3))):
        assert [bool(e.is_nan()) for e in x.values] == [True, True, True, False][: x.size]
    wide = wave(BALLS.array(np.array([1.0])) * arb(0, "inf")).values[0]
    assert not wide.is_nan()
    assert abs(wide) < 1.5
