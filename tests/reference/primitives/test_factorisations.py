"""Factorisations by NumPy's names: factors that multiply to the matrix have slopes that do so too.

And what is smooth where factors are not: determinants at singular matrices, norms at equal singular values.
"""

import itertools

import numpy as np
import pytest

from ffverify.reference import general, grad, hessian, jvp, stats, vjp

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


@pytest.mark.parametrize("a", [TALL, TALL.T, A], ids=lambda a: str(a.shape))
@pytest.mark.parametrize("columns", [(), (2,)])
def test_least_squares_have_the_slopes_of_their_normal_equations(a, columns):
    b, w = rng.normal(size=(len(a), *columns)), rng.normal(size=(a.shape[1], *columns))
    x, residuals, rank, singular = np.linalg.lstsq(a, b, rcond=None)

    def floats(a, b):
        x, residuals, of_rank, singular = np.linalg.lstsq(a, b, rcond=None)
        assert of_rank == rank
        return x, residuals, singular

    for ours, theirs in zip(vjp(floats, a, b)[0], (x, residuals, singular), strict=True):
        assert np.shape(ours) == np.shape(theirs)
        if np.size(theirs):
            close(ours, theirs)

    def by_library(a, b):
        return np.sum(w * np.linalg.lstsq(a, b)[0])

    def by_normal_equations(a, b):
        t = a.T
        long = a.shape[0] >= a.shape[1]
        return np.sum(w * (np.linalg.inv(t @ a) @ t @ b if long else t @ np.linalg.inv(a @ t) @ b))

    for k in (0, 1):
        close(grad(by_library, k)(a, b), grad(by_normal_equations, k)(a, b))
    v, u = rng.normal(size=(2, *a.shape))
    true = nestings(lambda a: by_normal_equations(a, b), a, v, u)
    for ours, theirs in zip(nestings(lambda a: by_library(a, b), a, v, u), true, strict=True):
        close(ours, theirs)
    with pytest.raises(TypeError, match=r"lstsq: a matrix of shape .* has rank 1"):
        grad(lambda a: np.sum(np.linalg.lstsq(a, b)[0]))(np.ones_like(a))


def nestings(f, a, v, w):
    """d²f(a)[v, w] by rr, fr, rf and ff."""

    def slope(f, v, mode):
        if mode == "f":
            return lambda a: jvp(f, (a,), (v,))[1]
        return lambda a: np.sum(grad(f)(a) * v)

    return [slope(slope(f, v, inner), w, outer)(a) for outer in "rf" for inner in "rf"]


def check_second_slopes(f, a, truth):
    """Hold all nestings to ``truth(v, w)`` for two random directions."""
    local = np.random.default_rng(3)
    v, w = local.normal(size=(2, *a.shape))
    for found in nestings(f, a, v, w):
        close(found, truth(v, w))


def minors(a, v, w):
    """det's first and second differential by its definition: sums over pairs of rows and columns."""
    n = len(a)

    def minor(rows, columns):
        return np.linalg.det(np.delete(np.delete(a, rows, 0), columns, 1))

    first = sum(
        (-1) ** (i + j) * v[i, j] * minor([i], [j])
        for i, j in itertools.product(range(n), repeat=2)
    )
    second = 0.0
    for (i, k), (j, m) in itertools.product(itertools.combinations(range(n), 2), repeat=2):
        mixed = v[i, j] * w[k, m] + v[k, m] * w[i, j] - v[i, m] * w[k, j] - v[k, j] * w[i, m]
        second += (-1) ** (i + j + k + m) * mixed * minor([i, k], [j, m])
    return first, second


RANK_TWO = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
SINGULAR = {
    "1 × 1": np.zeros((1, 1)),
    "2 × 2": np.array([[1.0, 2], [2, 4]]),
    "rank 2 of 3": RANK_TWO,
    "rank 1 of 3": np.outer([1.0, -2, 0.5], [4.0, 1, 2]),
    "rank 0 of 3": np.zeros((3, 3)),
    "rank 2 of 4": A[:, :2] @ A[:2],
    "rank 3 of 4": A[:, :3] @ A[:3],
    "nearly of rank 1": 1.1 * np.outer([1.1, 2.2, 3.3], [1.1, 0.7, 0.3]),
    "regular": A,
    "of far apart sizes": np.diag([1.0, 1e-200, 1e-200]),
}


def check_det(det, a):
    for v in rng.normal(size=(2, *a.shape)):
        true = minors(a, v, v)[0]
        close(jvp(det, (a,), (v,))[1], true)
        close(np.sum(vjp(det, a)[1](1.0)[0] * v), true)
    check_second_slopes(det, a, lambda v, w: minors(a, v, w)[1])


@pytest.mark.parametrize("name", SINGULAR)
def test_determinants_are_polynomials_of_the_elements(name):
    check_det(np.linalg.det, SINGULAR[name])


def test_determinants_of_stacks_and_of_nothing():
    stack = np.stack([A[:3, :3], RANK_TWO, SINGULAR["rank 1 of 3"], np.zeros((3, 3))])
    c = np.array([1.0, 2.0, 3.0, 4.0])
    v, w = rng.normal(size=(2, *stack.shape))
    parts = [minors(*each) for each in zip(stack, v, w, strict=True)]
    found = grad(lambda a: np.sum(c * np.linalg.det(a)))(stack)
    close(np.sum(found * v), np.sum(c * [first for first, _ in parts]))
    check = nestings(lambda a: np.sum(c * np.linalg.det(a)), stack, v, w)
    for second in check:
        close(second, np.sum(c * [second for _, second in parts]))
    assert grad(np.linalg.det)(np.zeros((0, 0))).shape == (0, 0)
    single = grad(np.linalg.det)(RANK_TWO.astype(np.float32))
    assert single.dtype == np.float32


def test_a_determinant_whose_curvature_needs_an_inverse_is_rejected():
    """The planted bug: det A · tr(A⁻¹ dA), where the determinant is 0 and A all but singular."""
    by_inverse = general(
        "det",
        np.linalg.det,
        (
            lambda d, y, a: y * np.trace(np.linalg.solve(a, d)),
            lambda y_bar, y, a: y_bar * y * np.linalg.inv(a).T,
        ),
    )
    check_det(by_inverse, A)
    for name in ("rank 2 of 3", "rank 1 of 3", "rank 2 of 4"):
        # Whether a pivot is 0 or a rounding error is LAPACK's choice.
        with pytest.raises((AssertionError, np.linalg.LinAlgError)):
            check_det(by_inverse, SINGULAR[name])


def curvature_of_the_nuclear_norm(a, v, w):
    """Σ (v_ij - v_ji)(w_ij - w_ji) / (s_i + s_j) over pairs, and what leaves the space, over s_i."""
    if a.shape[0] < a.shape[1]:
        return curvature_of_the_nuclear_norm(a.T, v.T, w.T)
    u, s, vh = np.linalg.svd(a)
    n = len(s)
    v, w = (u.T @ x @ vh.T for x in (v, w))
    skew = [(x[:n] - x[:n].T) for x in (v, w)]
    sums = s[:, None] + s + 1e9 * np.eye(n)  # whose numerators are 0
    return np.sum(skew[0] * skew[1] / sums) / 2 + np.sum(v[n:] * w[n:] / s)


EQUAL = {
    "all": 2.0 * np.eye(3),
    "two of three": np.diag([3.0, 1.0, 1.0]) @ np.linalg.qr(A[:3, :3]).Q,
    "tall": np.linalg.qr(TALL).Q,
    "wide": 3.0 * np.linalg.qr(TALL).Q.T,
    "none": A,
}


@pytest.mark.parametrize("name", EQUAL)
def test_the_nuclear_norm_at_equal_singular_values(name):
    a = EQUAL[name]
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    close(grad(lambda a: np.linalg.norm(a, "nuc"))(a), u @ vh)
    check_second_slopes(
        lambda a: np.linalg.norm(a, "nuc"), a, lambda v, w: curvature_of_the_nuclear_norm(a, v, w)
    )
    # The third slope of the norm along a line, by differences of the second.
    v, h = np.random.default_rng(4).normal(size=a.shape), 1e-4
    if name in ("all", "tall", "wide"):

        def second(t):
            return curvature_of_the_nuclear_norm(a + t * v, v, v)

        third = grad(lambda t: nestings(lambda a: np.linalg.norm(a, "nuc"), a + t * v, v, v)[3])(
            0.0
        )
        # Truncation h² of fifth slopes below 1e3, rounding 1e-15 over the step.
        np.testing.assert_allclose(third, (second(h) - second(-h)) / (2 * h), atol=1e-5)


def test_a_nuclear_norm_by_singular_vectors_is_rejected():
    """The planted bug: the sum of singular values, whose vectors turn by one over differences."""
    f = lambda a: np.sum(np.linalg.svd(a)[1])  # noqa: E731  # a formula
    check_second_slopes(f, A, lambda v, w: curvature_of_the_nuclear_norm(A, v, w))
    a = EQUAL["two of three"]
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        check_second_slopes(f, a, lambda v, w: curvature_of_the_nuclear_norm(a, v, w))


def curvature_of_a_value(w, k, v, d):
    """2 Σ v_kj d_jk / (w_k - w_j), of a simple eigenvalue of a diagonal matrix."""
    others = [j for j in range(len(w)) if j != k]
    return sum(2 * v[k, j] * d[j, k] / (w[k] - w[j]) for j in others)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the values that coincide
def test_values_that_coincide_spoil_no_other_one():
    w = np.array([4.0, 1.0, 1.0, -1.0])
    for k, f in ((0, np.max), (3, np.min), (0, lambda w: w[-1]), (3, lambda w: w[0])):
        check_second_slopes(
            lambda a, f=f: f(np.linalg.eigvalsh(0.5 * (a + a.T))),
            np.diag(w),
            lambda v, d, k=k: curvature_of_a_value(w, k, (v + v.T) / 2, (d + d.T) / 2),
        )

    def of_norm(v, d):
        """The largest singular value is the largest eigenvalue of [[0, a], [aᵀ, 0]]."""
        n, s = 4, np.abs(w)
        signs, zero = np.sign(w), np.zeros((4, 4))
        turn = np.block([[np.diag(signs), np.diag(signs)], [np.eye(n), -np.eye(n)]]) / np.sqrt(2)
        blocks = [turn.T @ np.block([[zero, x], [x.T, zero]]) @ turn for x in (v, d)]
        return curvature_of_a_value(np.r_[s, -s], 0, *blocks)

    check_second_slopes(lambda a: np.linalg.norm(a, 2), np.diag(w), of_norm)
    check_second_slopes(lambda a: np.linalg.svd(a, compute_uv=False)[0], np.diag(w), of_norm)


def test_condition_numbers_are_numpys():
    for p in (None, 2, -2, 1, np.inf, "fro", "nuc"):
        for a in (A, STACK @ np.swapaxes(STACK, -1, -2)):
            close(jvp(lambda a, p=p: np.linalg.cond(a, p), (a,), (a,))[0], np.linalg.cond(a, p))
        # It is the same for every multiple of a matrix.
        close(jvp(lambda a, p=p: np.linalg.cond(a, p), (A,), (A,))[1], 0.0)
    assert np.linalg.cond(TALL) == jvp(np.linalg.cond, (TALL,), (TALL,))[0]
    zeros = np.zeros((2, 2))
    with np.errstate(all="ignore"):
        assert jvp(np.linalg.cond, (zeros,), (zeros,))[0] == np.linalg.cond(zeros) == np.inf
    with pytest.raises(np.linalg.LinAlgError, match="square"):
        grad(lambda a: np.linalg.cond(a, 1))(TALL)


def test_a_singular_normal_density_at_equal_variances():
    x, zero = np.array([1.0, -2.0, 0.0]), np.zeros(3)
    f = lambda c: stats.multivariate_normal.logpdf(x, zero, c, allow_singular=True)  # noqa: E731  # a formula

    def regular(c):
        return stats.multivariate_normal.logpdf(x, zero, c)

    v, w = np.random.default_rng(5).normal(size=(2, 3, 3))
    for found, true in zip(
        nestings(f, np.eye(3), v, w), nestings(regular, np.eye(3), v, w), strict=True
    ):
        close(found, true)
    flat = np.diag([2.0, 2.0, 0.0])
    close(np.diagonal(grad(f)(flat)), [0.5 * (1 / 4 - 1 / 2), 0.5 * (4 / 4 - 1 / 2), 0.0])
