"""Objectives of ADBench and GradBench at small sizes: their gradients, judged in exact arithmetic.

Written from the problems' descriptions, as one writes them in NumPy. `gradcheck` runs each objective and
its gradient program again in ball arithmetic, and allows what conditioning does. ADBench's own expected
gradients are held to the same: its hand model's, of hundreds of numbers, by `adbench.py`.
"""

import functools

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
from tests.reference import objectives

rng = np.random.default_rng(0)
lse = functools.partial(objectives.lse, np)


def gmm(alphas, means, icf, x, gamma=1.0, m=0):
    """Log-likelihood of a mixture with inverse covariance factors, and their Wishart prior."""
    (k, d), n = means.shape, len(x)
    log_diagonals, (columns, rows) = icf[:, :d], np.triu_indices(d, 1)  # one column after the other
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


def rotated(rotation, point):
    """Rodrigues' formula."""
    squared = np.sum(rotation**2)
    theta = np.sqrt(squared)
    axis = rotation / theta
    along = np.dot(axis, point) * (1 - np.cos(theta))
    return point * np.cos(theta) + np.cross(axis, point) * np.sin(theta) + axis * along


def ba(camera, point, weight, feature=(1.5, -0.5)):
    """Weighted reprojection error of a camera with radial distortion: rotation, centre, f, x0, κ."""
    p = rotated(camera[:3], point - camera[3:6])
    flat = p[:2] / p[2]
    r2 = np.sum(flat**2)
    distorted = flat * (1 + camera[9] * r2 + camera[10] * r2**2)
    return weight * (camera[6] * distorted + camera[7:9] - np.array(feature))


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
    "ode": (
        lambda x: objectives.ode(np, x, np.zeros(3), np.ones(1), 4),
        (rng.uniform(0.5, 1.5, 3),),
    ),
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


def numbers(text, *shape):
    return np.array(text.split(), float).reshape(shape)


# The inputs of ADBench's tests (data/gmm/test.txt, data/ba/test.txt) and the gradients that they expect.
GMM_INPUTS = (
    numbers("-0.649014 1.181166 -0.758453", 3),
    numbers("0.092339 0.186260 0.345561 0.396767 0.538817 0.419195", 3, 2),
    numbers(
        """0.586443 -0.851887 0.800321 -1.509405 0.875874 -0.242790
        0.166813 -1.965419 -1.270071""",
        3,
        3,
    ),
)
GMM_GRADIENT = (
    numbers("1.08662855508652456e-01 -7.41270039523898472e-01 6.32607184015246071e-01", 3),
    numbers(
        """1.11692576532787013e+00 1.63333013551455269e-01 -2.19989824071193142e-02
        2.27778292254236098e-01 1.20963025612832187e+00 -6.06375920733956339e-02""",
        3,
        2,
    ),
    numbers(
        """2.58529994051162237e+00 1.12632694524213789e-01 3.85744309849611777e-01
        7.35180573182305508e-02 5.41836362715595232e+00 -3.21494409677446469e-01
        1.71892309775004937e+00 8.60091090790866875e-01 -9.94640930466322848e-01""",
        3,
        3,
    ),
)
BA_INPUTS = (
    numbers(
        """1.797201 0.590697 -0.635786 90.859550 29.361415 28.777534 211.628116
        -0.284531 -14.762924 0.058931 0.069976""",
        11,
    ),
    numbers("4.173048 5.586898 1.403869", 3),
    np.array(0.417022),
)
BA_JACOBIAN = (  # with respect to the camera, the point, and the weight
    numbers(
        """2.28877202208246757e+02 6.34574811495545418e+02 -7.82222866259340549e+02
        2.42892615607159668e+00 -1.17828079628011313e+01 2.54169312487743460e+00
        -1.03657084958518086e+00 4.17022e-01 0 -3.50739521096005205e+02 -9.12107773668008576e+02
        -1.20542435994996879e+02 -3.85673240766460424e+02 9.75476291403326456e+01
        -1.78372108529576567e+00 4.15466799433126077e+00 2.04025718029898906e+00
        3.49176397433145880e-01 0 4.17022e-01 1.18149147704414503e+02 3.07250108960343255e+02""",
        2,
        11,
    ),
    numbers(
        """-2.42892615607159668e+00 1.17828079628011313e+01 -2.54169312487743460e+00
        1.78372108529576567e+00 -4.15466799433126077e+00 -2.04025718029898906e+00""",
        2,
        3,
    ),
    numbers("-6.45167039712987389e-01 6.23335921553064054e-01", 2),
)
EXPECTED = {
    "gmm": (
        lambda a, mu, q: gmm(a, mu, q, np.array([[1.175171, 2.029160]])),
        GMM_INPUTS,
        GMM_GRADIENT,
    ),
    "ba": (lambda *at: ba(*at, feature=(-525.672849, 161.811929)), BA_INPUTS, BA_JACOBIAN),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_adbenchs_expected_gradients_and_ours_are_both_what_conditioning_allows(name):
    f, inputs, expected = EXPECTED[name]
    assert gradcheck(f, inputs).verdict.value == "correct"
    assert gradcheck(f, inputs, vjp=pulling(expected)).ok


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_expected_gradient_with_another_eleventh_digit_is_refused(name):
    f, inputs, expected = EXPECTED[name]
    altered = [np.array(x) for x in expected]
    altered[0].flat[0] *= 1 + 1e-11
    assert not gradcheck(f, inputs, vjp=pulling(altered), raise_exception=False).ok


def pulling(jacobian):
    """Make the VJP of the Jacobian, one array for each argument: the result's axes come first."""
    return lambda v, *_: tuple(np.tensordot(v, x, np.ndim(v)) for x in jacobian)
