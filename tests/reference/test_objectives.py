"""Objectives of ADBench and GradBench at small sizes: their gradients, judged in exact arithmetic.

Written from the problems' descriptions, as one writes them in NumPy. `gradcheck` runs each objective and
its gradient program again in ball arithmetic, and allows what conditioning does.
"""

import numpy as np
import pytest

from ffverify import gradcheck
from ffverify.reference import (
    compile,  # noqa: A004  # the engine's name
    flatten,
    grad,
    jacobian,
    value_and_grad,
)

rng = np.random.default_rng(0)


def lse(x):
    largest = np.max(x)
    return largest + np.log(np.sum(np.exp(x - largest)))


def gmm(alphas, means, icf, x, gamma=1.0, m=0):
    """Log-likelihood of a mixture with inverse covariance factors, and their Wishart prior."""
    (k, d), n = means.shape, len(x)
    log_diagonals, rows, columns = icf[:, :d], *np.tril_indices(d, -1)
    terms = []
    for i in range(k):
        factor = np.diag(np.exp(log_diagonals[i]))
        factor[rows, columns] = icf[i, d:]
        white = (x - means[i]) @ factor.T
        terms.append(alphas[i] + np.sum(log_diagonals[i]) - 0.5 * np.sum(white**2, axis=1))
    terms = np.stack(terms, axis=1)
    largest = np.max(terms, axis=1, keepdims=True)
    slse = np.sum(np.log(np.sum(np.exp(terms - largest), axis=1)) + largest[:, 0])
    prior = 0.5 * gamma**2 * (np.sum(np.exp(log_diagonals) ** 2) + np.sum(icf[:, d:] ** 2))
    prior = prior - m * np.sum(log_diagonals)
    return slse - n * lse(alphas) - n * d * 0.5 * np.log(2 * np.pi) + prior


def ode(x, steps=4):
    """RK4 for y_0' = x_0, y_i' = x_i y_{i-1}, from y = 0 to time 2."""

    def slope(y):
        shifted = np.concatenate([np.ones(1), y[:-1]])
        return x * shifted

    h, y = 2.0 / steps, np.zeros(len(x))
    for _ in range(steps):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y[-1]


def rotated(rotation, point):
    """Rodrigues' formula."""
    squared = np.sum(rotation**2)
    theta = np.sqrt(squared)
    axis = rotation / theta
    along = np.dot(axis, point) * (1 - np.cos(theta))
    return point * np.cos(theta) + np.cross(axis, point) * np.sin(theta) + axis * along


def ba(camera, point, weight):
    """Weighted reprojection error of a camera with radial distortion: rotation, centre, f, x0, κ."""
    p = rotated(camera[:3], point - camera[3:6])
    flat = p[:2] / p[2]
    r2 = np.sum(flat**2)
    distorted = flat * (1 + camera[9] * r2 + camera[10] * r2**2)
    return weight * (camera[6] * distorted + camera[7:9] - np.array([1.5, -0.5]))


def hand(theta, points):
    """Distances of points on a chain of three bones to what was measured, by three angles a bone."""
    pose, found = np.eye(4), []
    for i in range(3):
        bone = np.eye(4) + 0.0 * theta[i, 0]
        for k in range(3):
            c, s = np.cos(theta[i, k]), np.sin(theta[i, k])
            turn = np.eye(4) + 0.0 * c
            a, b = (k + 1) % 3, (k + 2) % 3
            turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
            bone = turn @ bone
        shift = np.eye(4)
        shift[1, 3] = 1.5
        pose = pose @ bone @ shift
        found.append((pose @ np.array([0.1, 0.2, 0.3, 1.0]))[:3])
    return np.sum((np.stack(found) - points) ** 2)


K, D, N = 3, 2, 4
CAMERA = np.array([0.1, -0.2, 0.3, 0.2, 0.1, 5.0, 2.0, 0.3, -0.1, 0.02, -0.01])
OBJECTIVES = {
    "lse": (lse, (rng.normal(size=8),)),
    "gmm": (
        lambda a, mu, q: gmm(a, mu, q, DATA),
        (rng.normal(size=K), rng.normal(size=(K, D)), 0.3 * rng.normal(size=(K, D * (D + 1) // 2))),
    ),
    "ode": (ode, (rng.uniform(0.5, 1.5, 3),)),
    "ba": (ba, (CAMERA, np.array([0.5, -0.4, -1.0]), np.array(0.8))),
    "hand": (lambda theta: hand(theta, POINTS), (rng.uniform(-0.5, 0.5, (3, 3)),)),
}
DATA, POINTS = rng.normal(size=(N, D)), rng.normal(size=(3, 3))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradients_are_what_conditioning_allows(name):
    f, inputs = OBJECTIVES[name]
    report = gradcheck(f, inputs)
    assert report.truth == "shadow"


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_compiled_objectives_have_the_same_bits(name):
    f, inputs = OBJECTIVES[name]
    places = tuple(range(len(inputs)))
    g = jacobian(f, places) if name == "ba" else value_and_grad(f, places)
    for at in (inputs, [x * 0.9 for x in inputs]):
        program = compile(g)
        for a, b in zip(flatten(program(*at))[0], flatten(g(*at))[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_planted_bug_is_found():
    """One entry of the mixture's gradient is off by 1e-9."""
    f, inputs = OBJECTIVES["gmm"]

    def vjp(v, *at):
        a, mu, q = grad(f, (0, 1, 2))(*at)
        mu[1, 0] *= 1 + 1e-9
        return v * a, v * mu, v * q

    assert not gradcheck(f, inputs, vjp=vjp, raise_exception=False).ok
