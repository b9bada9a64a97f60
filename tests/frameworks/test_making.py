"""Plain NumPy code that fills arrays of its own has an exact form, and stays the caller's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy import zeros

from ffverify import gradcheck
from ffverify.frameworks.numpy.making import making
from ffverify.strategies import arrays

COUNT = 0
X = np.array([0.5, -1.25, 2.0])


def _square(t: Any) -> Any:
    out = zeros(1)
    out[0] = t * t
    return out[0]


def _filled(x: Any) -> Any:
    out = np.zeros(x.shape, dtype=x.dtype)
    for i in range(x.size):
        out[i] = _square(x[i])
    return out


def _row_by_row(x: Any) -> Any:
    out = np.empty((2, 3))
    out[0], out[1:] = x, np.pad(x[:2] * 2, (1, 0))
    out[1] += x
    return out


def _factorial(x: Any, n: int = 3) -> Any:
    out = np.ones_like(x)
    out[:] = x + n
    return out if n == 0 else out * _factorial(x, n - 1)


def _nested(x: Any) -> Any:
    rows = []

    def add(row: Any) -> None:
        rows.append(np.asarray(row, dtype=float) ** 2)

    for i in range(2):
        add(x[i : i + 2])
    return np.array(rows)


def _cumulated(x: Any) -> Any:
    out = np.full(x.size + 1, 1.0)
    for i, t in enumerate(x):
        out[i + 1] = out[i] * t
    return out


def _slopes_of_cumulated(v: Any, x: Any) -> Any:
    found = np.zeros(x.size)
    for i in range(x.size):
        for k in range(i, x.size):
            found[i] += v[k + 1] * np.prod(np.delete(x[: k + 1], i))
    return found


def _slopes_of_product(v: Any, x: Any) -> Any:
    factors = np.array([x, x + 1, x + 2, x + 3])
    return v * np.array([np.prod(np.delete(factors, k, 0), axis=0) for k in range(4)]).sum(axis=0)


def _slopes_of_rows(v: Any, x: Any) -> Any:
    out = v.sum(axis=0)
    out[:2] += 2 * v[1, 1:]
    return out


def _slopes_of_nested(v: Any, x: Any) -> Any:
    out = np.zeros(3)
    for i in range(2):
        out[i : i + 2] += 2 * v[i] * x[i : i + 2]
    return out


CODE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "filled": (_filled, lambda v, x: 2 * np.asarray(x) * v),
    "rows": (_row_by_row, _slopes_of_rows),
    "calls itself": (_factorial, _slopes_of_product),
    "nested": (_nested, _slopes_of_nested),
    "cumulated": (_cumulated, _slopes_of_cumulated),
    "partial": (functools.partial(_factorial, n=3), _slopes_of_product),
}


@pytest.mark.parametrize("name", CODE)
def test_arrays_that_are_filled_are_exact(name: str) -> None:
    fn, pull = CODE[name]
    right = gradcheck(fn, X, vjp=pull)
    assert (str(right.verdict), right.truth) == ("correct", "shadow")
    wrong = gradcheck(fn, X, vjp=lambda v, x: (1 + 1e-12) * pull(v, x), raise_exception=False)
    assert (str(wrong.verdict), wrong.truth) == ("wrong", "shadow")


def test_nothing_of_the_caller_is_changed() -> None:
    made = making(_filled)
    assert made is not _filled
    assert _filled.__globals__["np"] is np
    assert _filled.__globals__["_square"] is _square
    np.testing.assert_array_equal(made(X), _filled(X))
    assert type(made(X)) is np.ndarray


def test_a_function_that_sets_names_of_its_module_is_left_as_it_is() -> None:
    def counted(x: Any) -> Any:
        global COUNT  # noqa: PLW0603 - what it is about
        COUNT += 1
        return np.zeros(3) + x

    making(counted)(X)
    assert COUNT == 1


LAST: list[Any] = []


def test_what_a_function_keeps_holds_no_exact_numbers() -> None:
    def kept(v: Any, x: Any) -> Any:
        if not (LAST and np.array_equal(LAST[0], x)):
            LAST[:] = [np.array(x), np.exp(x)]
        return v * LAST[1]

    drawn = arrays("float64", (3,), min_value=-1, max_value=1)
    assert gradcheck(np.exp, drawn, vjp=kept, max_examples=5).ok
    assert {type(a) for a in LAST} == {np.ndarray}


def test_a_local_name_that_is_set_again_is_one_name() -> None:
    total = 0.0

    def add(x: Any) -> Any:
        nonlocal total
        total = total + float(np.ones(1)[0])
        return x

    making(add)(X)
    assert total == 1.0


def test_integers_stay_integers() -> None:
    def chosen(x: Any) -> Any:
        places = np.zeros(2, dtype=int)
        places[1] = 2
        out = np.zeros(2)
        out[:] = x[places]
        return out

    def pull(v: Any, x: Any) -> Any:
        return np.array([v[0], 0.0, v[1]])

    assert gradcheck(chosen, X, vjp=pull).truth == "shadow"


def _through_views(x: Any) -> Any:
    out, kept = np.zeros(4), np.array(x)
    part, first, flat = out[1:3], kept[:2], kept.reshape(2, 2).T
    part += 2 * x[1:3]
    first *= 3
    flat[1] += x[0]
    return out + kept


def _slopes_through_views(v: Any, x: Any) -> Any:
    found, kept = np.zeros(4), np.array(v)
    inner, first = found[1:3], kept[:2]
    inner += 2 * v[1:3]
    first *= 3
    found[0] += v[1] + v[3]
    return found + kept


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-12])
def test_what_is_written_through_a_view_is_written(factor: float) -> None:
    """In a batch an array that was taken from another is no view of it: such code runs row by row."""
    drawn = arrays("float64", (4,), min_value=-2, max_value=2)

    def pull(v: Any, x: Any) -> Any:
        return factor * _slopes_through_views(v, x)

    report = gradcheck(_through_views, drawn, vjp=pull, max_examples=40, raise_exception=False)
    assert report.truth == "shadow"
    assert report.ok is (factor == 1), report


COPIES: dict[str, Callable[[Any], Any]] = {
    "astype": lambda a: a.astype(float),
    "flatten": lambda a: a.flatten(),
    "copy": lambda a: a.copy(),
    "array": lambda a: np.array(a, dtype=a.dtype),
    "repeat": lambda a: a.repeat(1),
    "concatenate": lambda a: np.concatenate([a]),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_one(name: str) -> None:
    """What is written into it is not written into what it was copied from."""
    copied = COPIES[name]

    def tripled(x: Any) -> Any:
        out, other = np.zeros(x.shape), copied(x)
        other *= 2
        out[:] = other + x
        return out

    right = gradcheck(tripled, X, vjp=lambda v, x: tripled(v), raise_exception=False)
    assert (str(right.verdict), right.truth) == ("correct", "shadow")
    wrong = gradcheck(
        lambda x: 3 * x, X, vjp=lambda v, x: (1 + 1e-12) * tripled(v), raise_exception=False
    )
    assert (str(wrong.verdict), wrong.truth) == ("wrong", "shadow")


def test_an_array_that_needs_no_conversion_is_itself() -> None:
    def doubled(x: Any) -> Any:
        out = np.zeros(x.shape)
        same = np.asarray(out, dtype=x.dtype)
        same[:] = 2 * x
        return out

    right = gradcheck(doubled, X, vjp=lambda v, x: doubled(v), raise_exception=False)
    assert (str(right.verdict), right.truth) == ("correct", "shadow")
