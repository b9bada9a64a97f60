"""Networks against compositions written out by hand, and initialisation against its moments."""

import math

import numpy as np
import pytest

from ffverify.reference.engine.transforms import grad
from ffverify.reference.networks.network import MLP, UNITS

X = np.random.default_rng(5).standard_normal((7, 3))


def two_tanh_layers_by_hand(params, x):
    (p, q, r) = params
    h = np.tanh(x @ p["W"] + p["b"])
    h = np.tanh(h @ q["W"] + q["b"])
    return h @ r["W"] + r["b"]


def check_composition(network, params):
    # The same operations in the same order: the same bits.
    assert np.array_equal(network(params, X), two_tanh_layers_by_hand(params, X))


def test_a_network_is_the_composition_of_its_layers():
    network = MLP((3, 5, 5, 2), hidden="tanh")
    params = network.init(1, hidden_bias=0.5)
    check_composition(network, params)
    check_composition(MLP([3, 5, 5, 2], hidden=np.tanh), params)


def test_a_layer_applied_twice_is_rejected():
    network = MLP((3, 5, 5, 2), hidden="tanh")
    p, q, r = network.init(1)
    with pytest.raises(AssertionError):
        check_composition(
            lambda _params, x: MLP((3, 5, 5, 5, 2), "tanh")([p, q, q, r], x), [p, q, r]
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_books_xor_network(dtype):
    params = [
        {"W": np.ones((2, 2), dtype), "b": np.array([0, -1], dtype)},
        {"W": np.array([[1], [-2]], dtype), "b": np.zeros(1, dtype)},
    ]
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype)
    y = MLP((2, 2, 1))(params, x)
    assert y.tolist() == [[0], [1], [1], [0]]
    assert y.dtype == dtype


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (MLP((784, 128, 10)), 784 * 128 + 128 + 128 * 10 + 10),
        (MLP((784, 128, 10), bias=False), 784 * 128 + 128 * 10),
        (MLP((4, 3, 2), hidden="maxout", k=5), 4 * 15 + 15 + 3 * 2 + 2),
        (MLP((4, 3, 2), hidden="prelu"), 4 * 3 + 3 + 3 + 3 * 2 + 2),
        (MLP((4, 3, 2, 1), hidden=("maxout", "prelu")), 4 * 6 + 6 + 3 * 2 + 2 + 2 + 2 * 1 + 1),
        (MLP((4, 2)), 4 * 2 + 2),
    ],
)
def test_parameters_are_counted(network, count):
    assert network.parameter_count == count
    params = network.init(0)
    assert sum(array.size for layer in params for array in layer.values()) == count
    shapes = [{name: array.shape for name, array in layer.items()} for layer in params]
    assert shapes == network.parameter_shapes
    assert network(params, np.ones((6, network.widths[0]))).shape == (6, network.widths[-1])


def test_depth_and_width():
    network = MLP((3, 5, 8, 4, 2))
    assert (network.depth, network.width) == (4, 8)
    assert (MLP((3, 2)).depth, MLP((3, 2)).width) == (1, 0)
    assert network == MLP([3, 5, 8, 4, 2])
    assert hash(network) == hash(MLP([3, 5, 8, 4, 2]))


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_named_unit_learns(unit):
    network = MLP((3, 4, 1), hidden=unit)
    params = network.init(2, hidden_bias=0.1)
    x = X.astype(np.float32)
    slopes = grad(lambda p: np.sum(network(p, X) ** 2))(params)
    assert all(np.isfinite(s).all() for layer in slopes for s in layer.values())
    assert any(slopes[0]["W"].ravel())
    for dtype in (np.float32, np.float64):
        assert network(network.init(2, dtype=dtype), x.astype(dtype)).dtype == dtype


def test_maxout_and_prelu_are_what_they_say():
    network = MLP((3, 2, 1), hidden="maxout", k=3)
    params = network.init(3)
    z = X @ params[0]["W"] + params[0]["b"]
    h = np.stack([z[:, :3].max(axis=1), z[:, 3:].max(axis=1)], axis=1)
    assert np.array_equal(network.activations(params, X)[0], h)
    network = MLP((3, 2, 1), hidden="prelu")
    params = network.init(3)
    params[0]["alpha"] = np.array([-1.0, 0.5])
    z = X @ params[0]["W"] + params[0]["b"]
    assert np.array_equal(network.activations(params, X)[0], np.where(z > 0, z, z * [-1.0, 0.5]))


def test_information_flows_forward():
    network = MLP((3, 4, 4, 2), hidden="tanh")
    params = network.init(4)
    for above in range(1, 3):
        slopes = grad(lambda p, i=above: np.sum(network.activations(p, X)[i - 1] ** 2))(params)
        assert not any(s.any() for layer in slopes[above:] for s in layer.values())
        assert all(s.any() for s in slopes[above - 1].values())


def check_moments(draw, variance, fourth):
    """Mean and variance of n weights are within six standard errors of the distribution's."""
    w = draw.ravel()
    assert abs(w.mean()) < 6 * math.sqrt(variance / w.size)
    assert abs(np.mean(w**2) - variance) < 6 * math.sqrt((fourth - variance**2) / w.size)


def test_initial_weights_have_the_variance_of_their_scheme():
    network = MLP((300, 100, 7))
    glorot, he = (network.init(0, scheme=s)[0]["W"] for s in ("glorot", "he"))
    bound = math.sqrt(6 / 400)
    assert np.abs(glorot).max() <= bound
    check_moments(glorot, bound**2 / 3, bound**4 / 5)
    check_moments(he, 2 / 300, 3 * (2 / 300) ** 2)
    with pytest.raises(AssertionError):  # the planted bug: fan-out taken for fan-in
        check_moments(he, 2 / 100, 3 * (2 / 100) ** 2)


def test_initialisation_is_seeded_and_biases_are_where_they_belong():
    network = MLP((3, 4, 4, 2))
    first, again, other = (network.init(seed, hidden_bias=0.1) for seed in (7, 7, 8))
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in ("W", "b"))
    assert not np.array_equal(first[0]["W"], other[0]["W"])
    assert [layer["b"].tolist() for layer in first] == [[0.1] * 4, [0.1] * 4, [0.0] * 2]


def test_a_positive_bias_activates_more_rectifiers():
    network = MLP((3, 200, 1))
    before, after = (
        network.activations(network.init(0, hidden_bias=b), X)[0] > 0 for b in (0.0, 0.1)
    )
    assert np.all(after >= before)
    assert after.sum() > before.sum()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP((3,)), "at least"),
        (lambda: MLP((3, 0, 1)), "positive"),
        (lambda: MLP((3, 4, 1), hidden="rleu"), "'rleu' is unknown"),
        (lambda: MLP((3, 4, 1), hidden=("relu", "relu")), "1 hidden layers"),
        (lambda: MLP((3, 4, 1)).init(scheme="xavier"), "'glorot' or 'he'"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
