"""Products and Krylov methods against dense Hessians from torch and dense linear algebra."""

import sys
import tracemalloc

import numpy as np
import pytest
import torch

from ffverify.reference.networks.network import MLP
from ffverify.reference.networks.outputs import cost, multinoulli
from ffverify.reference.studies.krylov import (
    extreme_eigenvalues,
    gauss_newton_operator,
    hessian_operator,
    lanczos,
    newton_step,
    ravel,
    scipy_module,
    solve,
)

U = 2.0**-53
NETWORK = MLP((3, 4, 3), hidden="tanh")
UNIT = multinoulli(3)
LOSS = cost(NETWORK, UNIT)
PARAMS = NETWORK.init(0)
X = np.random.default_rng(1).standard_normal((6, 3))
LABELS = np.array([0, 1, 2, 2, 1, 0])


def torch_outputs(theta):
    W, b, V, c = torch.split(theta, [12, 4, 12, 3])
    return torch.tanh(torch.tensor(X) @ W.view(3, 4) + b) @ V.view(4, 3) + c


def torch_loss(theta):
    return torch.nn.functional.cross_entropy(torch_outputs(theta), torch.tensor(LABELS))


THETA = torch.tensor(ravel(PARAMS)[0])
HESSIAN = torch.autograd.functional.hessian(torch_loss, THETA).numpy()


def gauss_newton_by_torch():
    J = torch.autograd.functional.jacobian(torch_outputs, THETA).reshape(18, -1).numpy()
    z = torch_outputs(THETA).flatten()
    loss = lambda z: torch.nn.functional.cross_entropy(z.view(6, 3), torch.tensor(LABELS))  # noqa: E731
    return J.T @ torch.autograd.functional.hessian(loss, z).numpy() @ J


def check_products(operator, matrix):
    """Columns agree to 200 u of the matrix's norm.

    Each entry comes from sums of at most 18 products through 3 layers in either program, all of
    them below 1 in size, and the norm is above 1/2: 3 · 18 roundings on either side, doubled for
    the elementwise functions' own.
    """
    columns = np.stack([operator @ e for e in np.eye(len(matrix))], axis=1)
    assert np.abs(columns - matrix).max() <= 200 * U * np.linalg.norm(matrix, 2)


def test_hessian_products_without_the_hessian():
    check_products(hessian_operator(LOSS, PARAMS, X, LABELS), HESSIAN)


def test_gauss_newton_products():
    operator = gauss_newton_operator(
        lambda p: NETWORK(p, X), lambda z: np.mean(UNIT.loss(z, LABELS)), PARAMS
    )
    matrix = gauss_newton_by_torch()
    check_products(operator, matrix)
    assert np.linalg.eigvalsh(matrix)[0] > -100 * U  # semidefinite, as the Hessian is not
    assert np.linalg.eigvalsh(HESSIAN)[0] < -1e-3


def test_gauss_newton_for_the_hessian_and_a_wrong_sign_are_rejected():
    operator = hessian_operator(LOSS, PARAMS, X, LABELS)
    with pytest.raises(AssertionError):
        check_products(operator, gauss_newton_by_torch())
    with pytest.raises(AssertionError):
        check_products(-operator, HESSIAN)


def test_parameters_travel_through_vectors():
    tree = {"a": np.float32([[1, 2]]), "b": [np.array(3.0), np.zeros((0, 2))], "c": None}
    vector, unravel = ravel(tree)
    assert vector.tolist() == [1, 2, 3]
    assert vector.dtype == np.float64
    back = unravel(vector + 1)
    assert back["a"].dtype == np.float32
    assert back["a"].tolist() == [[2, 3]]
    assert (back["b"][0], back["b"][1].shape, back["c"]) == (4, (0, 2), None)


def symmetric(n, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, n))
    return (A + A.T) / 2


def as_operator(matrix):
    return scipy_module("sparse.linalg").aslinearoperator(matrix)


def check_extremes(find, matrix):
    """ARPACK stops at its default, full precision: n u ‖A‖, as a dense solver's own error."""
    eigenvalues = np.linalg.eigvalsh(matrix)
    bound = 2 * len(matrix) * U * np.abs(eigenvalues).max()
    low, high = find(as_operator(matrix))
    assert abs(low - eigenvalues[0]) <= bound
    assert abs(high - eigenvalues[-1]) <= bound


@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_extreme_eigenvalues(n):
    check_extremes(extreme_eigenvalues, symmetric(n))


def test_a_tolerance_saves_products_and_is_kept():
    matrix = symmetric(300)
    count = 0

    def product(v):
        nonlocal count
        count += 1
        return matrix @ v

    operator = scipy_module("sparse.linalg").LinearOperator((300, 300), matvec=product, dtype=float)
    counts = []
    for tolerance in (0.0, 1e-3):
        count = 0
        found = extreme_eigenvalues(operator, tolerance=tolerance)
        counts.append(count)
        dense = np.linalg.eigvalsh(matrix)[[0, -1]]
        bound = tolerance * np.abs(dense) + 2 * 300 * U * np.abs(dense).max()
        assert np.all(np.abs(found - dense) <= bound)
    assert counts[1] < counts[0]


def test_extreme_eigenvalues_of_a_flat_function():
    check_extremes(extreme_eigenvalues, np.zeros((4, 4)))


def test_extreme_eigenvalues_of_a_network():
    operator = hessian_operator(LOSS, PARAMS, X, LABELS)
    low, high = extreme_eigenvalues(operator)
    assert (low, high) == extreme_eigenvalues(operator)  # the same bits every time
    dense = np.linalg.eigvalsh(HESSIAN)
    # The two programs' matrices differ by at most n times the entries' bound of check_products.
    bound = 31 * 200 * U * np.abs(dense).max()
    assert abs(low - dense[0]) <= bound
    assert abs(high - dense[-1]) <= bound


@pytest.mark.parametrize(
    "planted",
    [
        lambda op: extreme_eigenvalues(-op),
        lambda op: tuple(np.linalg.eigvalsh(op @ np.eye(60))[[1, -1]]),
    ],
)
def test_wrong_extremes_are_rejected(planted):
    with pytest.raises(AssertionError):
        check_extremes(planted, symmetric(60))


def ritz_values(operator, steps):
    diagonal, beside = lanczos(operator, steps)
    return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))


def test_lanczos_finds_all_eigenvalues_in_n_products():
    matrix = symmetric(30)
    expected = np.linalg.eigvalsh(matrix)
    # Backward error n u ‖A‖ for the reduction and for either dense solver.
    bound = 3 * 30 * U * np.abs(expected).max()
    assert np.abs(ritz_values(as_operator(matrix), 30) - expected).max() <= bound


def test_lanczos_approaches_the_extremes_from_inside():
    matrix = symmetric(100)
    dense = np.linalg.eigvalsh(matrix)
    highest = [ritz_values(as_operator(matrix), k)[-1] for k in (5, 10, 20, 40)]
    assert highest == sorted(highest)
    gaps = dense[-1] - np.array(highest)
    assert gaps[-1] < 1e-6 * gaps[0]
    assert gaps[-1] > -100 * 3 * U * np.abs(dense).max()


def test_lanczos_stops_where_the_space_is_exhausted():
    matrix = np.diag([1.0] * 10 + [2.0] * 10 + [5.0] * 10)  # three eigenvalues: three products
    values = ritz_values(as_operator(matrix), 30)
    assert len(values) == 3
    assert np.abs(values - [1, 2, 5]).max() <= 3 * 30 * U * 5


def positive(n):
    A = symmetric(n)
    return A @ A + np.eye(n)


def check_solution(found, matrix, g):
    """The residual asked for, and the rounding of the n-term products that measure it."""
    residual = np.linalg.norm(matrix @ found.x - g)
    norms = np.linalg.norm(matrix, 2) * np.linalg.norm(found.x)
    assert residual <= 1e-10 * np.linalg.norm(g) + 10 * len(g) * U * norms
    assert found.converged


def test_conjugate_gradients_solve():
    matrix, g = positive(20), np.arange(20.0)
    check_solution(solve(as_operator(matrix), g), matrix, g)
    damped = solve(as_operator(matrix), g, damping=2.0)
    check_solution(damped, matrix + 2 * np.eye(20), g)
    with pytest.raises(AssertionError):  # the planted bug: damping forgotten
        check_solution(damped, matrix, g)


def test_conjugate_gradients_need_a_product_per_eigenvalue():
    matrix = np.diag([1.0] * 10 + [2.0] * 10 + [5.0] * 10)
    found = solve(as_operator(matrix), np.ones(30))
    assert found.products == 3
    assert found.converged
    few = solve(as_operator(positive(20)), np.arange(20.0), most_products=2)
    assert not few.converged


def test_negative_curvature_is_refused():
    with pytest.raises(ValueError, match=r"curvature -.*Add damping"):
        solve(as_operator(np.diag([1.0, -2.0])), np.ones(2))


def test_a_newton_step_minimises_a_quadratic():
    A, target = positive(6), np.arange(6.0).reshape(2, 3)

    def quadratic(p, A):
        e = (p["x"] - target).ravel()
        return 0.5 * np.sum(e * (A @ e))

    after = newton_step(quadratic, {"x": np.full((2, 3), 7.0)}, A, tolerance=1e-14)
    # The residual is at most 1e-14 ‖g‖ + roundings, and A >= I: so is the error.
    g = A @ (7.0 - target).ravel()
    assert np.linalg.norm(after["x"] - target) <= 1e-14 * np.linalg.norm(
        g
    ) + 60 * U * np.linalg.norm(g)


def test_damped_newton_steps_train_a_network():
    params, values = PARAMS, []
    for _ in range(5):
        values.append(LOSS(params, X, LABELS))
        params = newton_step(LOSS, params, X, LABELS, damping=0.3)
    assert values == sorted(values, reverse=True)


def test_scipy_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(ImportError, match=r'pip install "ffverify\[scipy\]"'):
        solve(None, np.ones(2))


def test_a_million_parameters_take_memory_linear_in_n():
    network = MLP((1000, 979, 20), hidden="tanh")
    params = network.init(0)
    n = network.parameter_count
    assert n >= 999_000
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 1000)), rng.integers(0, 20, 4)
    v = rng.standard_normal(n)
    tracemalloc.start()
    try:
        operator = hessian_operator(cost(network, multinoulli(20)), params, x, y)
        w = operator @ v
        peak = tracemalloc.get_traced_memory()[1] / (8 * n)
    finally:
        tracemalloc.stop()
    print(f"n = {n}: a product's peak memory is {peak:.1f} n numbers")  # noqa: T201 - the figure
    # At once alive: the raveled parameters, v, its unraveled parts, the gradient, the product's
    # parts, their cast and their concatenation, and one sum in progress: 10, and as much again.
    assert peak < 20
    # The product is right: H is symmetric, to the rounding of sums of n terms.
    u = rng.standard_normal(n)
    other = operator @ u
    rounding = n * U * (np.abs(u) @ np.abs(w) + np.abs(v) @ np.abs(other))
    assert abs(u @ w - v @ other) <= rounding
