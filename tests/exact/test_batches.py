"""A batch gives, row by row, what its rows give one by one; what cannot be done at once says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS, MPMATH
from ffverify.exact.arrays import HiddenRows, Plain, PreciseArray, batch, by_rows, row_of
from ffverify.exact.elements import Undecided
from ffverify.exact.formats import of
from ffverify.exact.operations import OPERATIONS
from ffverify.exact.rounding_arithmetic import rounded

ROWS = 3
RNG = np.random.default_rng(5)
X = RNG.uniform(0.2, 2.0, (ROWS, 2, 3))
Y = RNG.uniform(0.2, 2.0, (ROWS, 3))
THRESHOLD = float(np.median(X.sum(axis=(1, 2)))) + 0.01
M = RNG.uniform(-1.0, 1.0, (3, 4))  # the same in all rows


def assigned(x: Any, y: Any) -> Any:
    z = x.copy()
    z[:, 1] = y[:2]
    z[np.array([0, 1]), np.array([2, 0])] = 0.5
    return z


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "elementwise": lambda x, y: np.exp(x) * y + 1 / x - np.log1p(y),
    "lower on the left": lambda x, y: y - x,
    "a number of the program": lambda x, y: 0.1 * x + y**2 + 2**y,
    "composed": lambda x, y: np.logaddexp(x, y) + np.hypot(x, y) + np.cbrt(x),
    "sum": lambda x, y: x.sum() + y.sum(),
    "sum along": lambda x, y: x.sum(axis=0) + x.sum(axis=(0, 1)) + x.sum(-1, keepdims=True).sum(0),
    "mean and variance": lambda x, y: (x - x.mean(axis=-1, keepdims=True)) / x.std(-1)[:, None]
    if hasattr(x, "std")
    else (x - np.mean(x, axis=-1, keepdims=True)) / np.std(x, axis=-1)[:, None],
    "product and extrema": lambda x, y: np.prod(x, axis=0) + np.max(x) - np.min(x, axis=0),
    "cumulative": lambda x, y: np.cumsum(x, axis=0) + np.cumsum(y) + np.cumprod(x, axis=1),
    "matmul": lambda x, y: x @ M,
    "matrix of rows": lambda x, y: x @ x.T + (x @ y)[:, None] * (y @ x.T),
    "dot of vectors": lambda x, y: y @ y,
    "stack of matrices": lambda x, y: np.matmul(x[None, :, :] * y, M),
    "einsum": lambda x, y: np.einsum("ij,j,jk->ik", x, y, M),
    "moves": lambda x, y: np.concatenate([x.reshape(-1)[1:4], y, np.flip(y)]).reshape(3, 3).T,
    "windows": lambda x, y: np.lib.stride_tricks.sliding_window_view(x, (2, 2)) * np.vander(y, 2)[0],
    "stacked": lambda x, y: np.stack([x[0], y, np.zeros(3)])[:, ::-1],
    "differences and pieces": lambda x, y: np.diff(x) @ y[:2] + np.stack(np.split(y, 3))[:2, 0],
    "places of each row's own": lambda x, y: np.take_along_axis(x, np.argsort(x), axis=-1),
    "places among others": lambda x, y: y * np.searchsorted(np.sort(x[0]), y) + np.searchsorted(M[0, :1], x),
    "indices": lambda x, y: x[np.array([1, 1, 0]), np.array([0, 2, 2])] * x[..., 1:].sum(),
    "assigned": assigned,
    "selected": lambda x, y: np.where(x > y, x, -y) + np.where(x < 1, 2.0, y),
    "clipped": lambda x, y: np.clip(x, 0.5, 1.5) * np.maximum(y, 1) - np.sign(x - 1),
    "truth values on the left": lambda x, y: (x > 1) * y - (y > 1) * x,
    "logical": lambda x, y: np.where((x > 1) & ~(y > 1), x, y) + np.where((x > y).any(), x, 0),
    "dots and medians": lambda x, y: np.dot(x, y) * np.median(x) + np.dot(2, np.median(x, axis=1)),
    "added at places": lambda x, y: OPERATIONS["scatter_add"](
        x, np.array([[0, 4, 4]]), y[None] * np.arange(3)) + OPERATIONS["scatter_add"](
        y.arithmetic.array(M), np.array([1, 1]), y[:2])[:2, 1:],
    "the largest at places": lambda x, y: OPERATIONS["scatter_maximum"](x, np.array([0, 3, 0]), y),
    "sorted": lambda x, y: np.sort(x, axis=0) + np.sort(y),
    "softmax": lambda x, y: np.exp(x - np.max(x, axis=-1, keepdims=True)) / np.exp(x).sum(-1)[:, None],
    "sigmoid and erf": lambda x, y: OPERATIONS["sigmoid"](x) * OPERATIONS["erf"](y),
    "determinant": lambda x, y: np.linalg.det(x @ x.T) * np.linalg.inv(x @ x.T + np.eye(2)),
    "solved": lambda x, y: np.linalg.solve(x @ x.T + np.eye(2), x * y) + np.linalg.solve(np.eye(2), x),
    "matrices that are the same in all rows": lambda x, y: np.linalg.solve(M[:, :3] + 3 * np.eye(3), x.T),
    "Cholesky": lambda x, y: OPERATIONS["cholesky"](x @ x.T + np.eye(2)),
    "triangular": lambda x, y: OPERATIONS["solve_triangular"](
        x @ x.T, x, lower=True, left=True, unit=False) * OPERATIONS["solve_triangular"](
        x @ x.T, M[:2, :3], lower=False, left=True, unit=True),
}  # fmt: skip


def entered(arithmetic: Any) -> list[PreciseArray]:
    return [batch([arithmetic.array(r) for r in a]) for a in (X, Y)]


@pytest.mark.parametrize(
    "arithmetic", [BALLS, MPMATH, rounded(of("float64"))], ids=lambda a: a.name
)
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_batch_gives_what_its_rows_give(program: Any, arithmetic: Any) -> None:
    together = program(*entered(arithmetic))
    assert together.rows == ROWS
    for i in range(ROWS):
        alone = program(arithmetic.array(X[i]), arithmetic.array(Y[i]))
        one = row_of(together, i)
        assert one.shape == alone.shape
        assert [str(v) for v in one.values.ravel()] == [str(v) for v in alone.values.ravel()]


def test_comparisons_give_batches_of_truth_values() -> None:
    x, y = entered(BALLS)
    larger = x > y
    assert isinstance(larger, Plain)
    assert larger.shape == (2, 3)
    assert np.array_equal(larger.elements, Y[:, None, :] < X)


def test_rows_that_branch_apart_are_not_taken_together() -> None:
    def branching(x: Any, y: Any) -> Any:
        return x if bool(x.sum() > THRESHOLD) else -x

    x, y = entered(BALLS)
    with pytest.raises(HiddenRows):
        branching(x, y)
    with pytest.raises(HiddenRows):
        _ = x.values
    with pytest.raises(HiddenRows):
        np.argmax(x > 1)
    found = by_rows(branching, x, y)
    for i in range(ROWS):
        expected = branching(BALLS.array(X[i]), BALLS.array(Y[i])).values
        assert all(a == b for a, b in zip(found.elements[i].ravel(), expected.ravel(), strict=True))


def test_integers_are_an_array_if_rows_agree_and_a_batch_if_not() -> None:
    x = batch([BALLS.array(np.array(row)) for row in ([1.0, 3.0, 2.0], [0.0, 9.0, 0.0])])
    same = by_rows(np.argmax, x)
    assert isinstance(same, np.ndarray)
    assert same.shape == ()
    assert same == 1

    def nearest(row: Any) -> Any:
        return np.argmin(np.abs(row - 2))

    differing = by_rows(nearest, x)
    assert isinstance(differing, Plain)
    assert differing.elements.tolist() == [2, 0]
    with pytest.raises(HiddenRows, match="different shapes"):
        by_rows(lambda row: row[: 1 + int(nearest(row))], x)


def test_differences_round_as_subtractions_do() -> None:
    x = rounded(of("float32")).array(np.array([1 / 3, 1.0, 1e-3]))
    apart = x[1:] - x[:-1]
    assert [str(d) for d in np.diff(x).values] == [str(d) for d in apart.values]
    assert np.diff(x, n=2).shape == (1,)


def test_an_undecided_row_is_told() -> None:
    x = batch([BALLS.array(np.array([1.0])), BALLS.array(np.array([1.0])) / 3 * 3])
    with pytest.raises(Undecided):
        x > 1  # noqa: B015 - the second row is a ball around 1


def test_matrices_of_rows_are_factored_with_the_pivots_of_each() -> None:
    a = RNG.uniform(-1.0, 1.0, (5, 4, 3))
    a[0, :, 0] = 0  # where there is nothing to eliminate
    with BALLS.precision(256):
        packed, pivots = OPERATIONS["lu"](batch([BALLS.array(row) for row in a]))
        assert isinstance(pivots, Plain)
        for i, row in enumerate(a):
            alone, chosen = OPERATIONS["lu"](BALLS.array(row))
            assert (pivots.elements[i] == chosen).all()
            assert all(
                x.overlaps(y)
                for x, y in zip(alone.values.flat, packed.elements[i].flat, strict=True)
            )
            order, lower, upper = OPERATIONS["lu_unpacked"](row_of(packed, i), chosen)
            rest = BALLS.array(order) @ lower @ upper - row
            assert all(abs(x) < 1e-60 for x in rest.values.ravel())
