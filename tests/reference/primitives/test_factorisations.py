"""Factorisations by NumPy's names: factors that multiply to the matrix have slopes that do so too."""

import numpy as np
import pytest

from ffverify.reference import grad, hessian, jvp, vjp

rng = np.random.default_rng(0)
A, TALL, STACK = (rng.normal(size=shape) for shape in ((4, 4), (5, 3), (2, 3, 4)))
# Products of matrices of size 1 to 5 with gaps of singular and eigenvalues above 0.1: errors of some
# hundred roundings, amplified by one over the gap.
ALLOWED = 1e4 * 2.0**-53


def close(found, true):
    size = max(1.0, float(np.max(np.abs(true))))
    np.testing.assert_allclose(found, true, rtol=0, atol=ALLOWED * size)


@pytest.mark.parametrize(
    "a", [A, TALL, TALL.T, STACK, np.swapaxes(STACK, -1, -2)], ids=lambda a: str(a.shape)
)
@pytest.mark.parametrize("name", ["svd", "qr"])
def test_products_of_factors_have_the_slope_of_the_matrix(a, name):
    def product(a):
        if name == "qr":
            q, r = np.linalg.qr(a)
            return q @ r
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return (u * s[..., None, :]) @ vh

    direction, y_bar = rng.normal(size=(2, *a.shape))
    close(jvp(product, (a,), (direction,))[1], direction)
    close(vjp(product, a)[1](y_bar)[0], y_bar)
    second = jvp(lambda x: jvp(product, (x,), (direction,))[1], (a,), (y_bar,))[1]
    close(second, np.zeros(a.shape))


def test_orthogonal_factors_stay_orthogonal():
    direction = rng.normal(size=TALL.shape)
    for factor in (
        lambda a: np.linalg.svd(a, full_matrices=False)[0],
        lambda a: np.linalg.svd(a, full_matrices=False).U,
        lambda a: np.linalg.qr(a).Q,
    ):
        close(jvp(lambda a, f=factor: f(a).T @ f(a), (TALL,), (direction,))[1], np.zeros((3, 3)))


@pytest.mark.parametrize("UPLO", ["L", "U"])
def test_eigenvalues_of_a_triangle(UPLO):
    """As NumPy's eigh, which reads one triangle alone: the other has no slope."""
    a = A.copy()

    def product(a):
        w, v = np.linalg.eigh(a, UPLO)
        return (v * w) @ v.T

    half = np.tril if UPLO == "L" else np.triu
    k = -1 if UPLO == "L" else 1
    full = half(a) + half(a, k).T
    close(product(a), full)
    direction = rng.normal(size=a.shape)
    close(jvp(product, (a,), (direction,))[1], half(direction) + half(direction, k).T)
    other = grad(lambda a: np.sum(np.linalg.eigvalsh(a, UPLO) ** 3))(a)
    assert not np.any(np.triu(other, 1) if UPLO == "L" else np.tril(other, -1))
    close(np.sum(other * np.eye(4)), 3 * np.trace(full @ full))


def test_eigenvalues_of_any_matrix():
    a = np.diag([1.0, 2.0, 4.0]) + 0.1 * rng.normal(size=(3, 3))

    def product(a):
        w, v = np.linalg.eig(a)
        return (v * w) @ np.linalg.inv(v)

    direction = rng.normal(size=a.shape)
    close(jvp(product, (a,), (direction,))[1], direction)
    close(grad(lambda a: np.sum(np.linalg.eigvals(a)))(a), np.eye(3))


def test_norms_of_matrices():
    s = np.linalg.svd(A, compute_uv=False)
    u, _, vh = np.linalg.svd(A)
    close(grad(lambda a: np.linalg.norm(a, "nuc"))(A), u @ vh)
    close(grad(lambda a: np.linalg.norm(a, 2))(A), np.outer(u[:, 0], vh[0]))
    close(grad(lambda a: np.linalg.norm(a, -2))(A), np.outer(u[:, -1], vh[-1]))
    close(grad(lambda a: np.sum(np.linalg.svd(a, compute_uv=False) ** 2))(A), 2 * A)
    assert np.linalg.norm(STACK, "nuc", axis=(1, 2)).shape == (2,)
    value, _ = vjp(lambda a: np.linalg.norm(a, "nuc", axis=(2, 1), keepdims=True), STACK)
    close(value, np.linalg.norm(STACK, "nuc", axis=(2, 1), keepdims=True))
    assert s.shape == (4,)
    for ord in (3, 0.5, 0, -np.inf, 1, np.inf):  # noqa: A001  # NumPy's
        value, pullback = vjp(lambda v, p=ord: np.linalg.norm(v, p), A[0])
        close(value, np.linalg.norm(A[0], ord))
        close(
            np.sum(pullback(1.0)[0] * A[0]), 0 if ord == 0 else value
        )  # homogeneous: Euler's theorem
    np.testing.assert_array_equal(grad(lambda v: np.linalg.norm(v, 3))(np.zeros(3)), np.zeros(3))


def test_the_pseudo_inverse_solves_least_squares():
    b = rng.normal(size=5)

    def rest(a):
        return np.sum((a @ (np.linalg.pinv(a) @ b) - b) ** 2)

    x = np.linalg.pinv(TALL) @ b
    close(grad(rest)(TALL), 2 * np.outer(TALL @ x - b, x))  # the envelope theorem
    h = hessian(rest)(TALL).reshape(15, 15)
    close(h, h.T)
