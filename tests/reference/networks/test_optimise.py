"""Optimisers against exact recurrences and torch; training against its own interruption."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from ffverify.reference.engine.tree import flatten, tree_map
from ffverify.reference.networks.network import MLP
from ffverify.reference.networks.optimise import (
    Optimiser,
    TrainingState,
    adam,
    lbfgs,
    momentum,
    newton_cg,
    sgd,
    start,
    train,
)
from ffverify.reference.networks.outputs import cost, multinoulli

U = 2.0**-53
X = np.random.default_rng(0).standard_normal((10, 3))
Y = np.sin(X.sum(axis=1, keepdims=True))
NETWORK = MLP((3, 4, 1), hidden="tanh")


def squared_error(params, x, y):
    return np.mean((NETWORK(params, x) - y) ** 2)


def same_bits(a, b):
    (a, structure), (b, other) = flatten(a), flatten(b)
    return structure == other and all(
        np.array_equal(p, q) and np.asarray(p).dtype == np.asarray(q).dtype
        for p, q in zip(a, b, strict=True)
    )


def descend(optimiser, params, slope, steps):
    memory = optimiser.init(params)
    for _ in range(steps):
        params, memory = optimiser.update(slope(params), memory, params)
    return params


# With rates and decays that are powers of 2, six steps on θ²/2 are exact in float64.
START = {"a": np.array([1.0, -3.0]), "b": [np.array(2.0)]}


def by_recurrence(rate, decay, *, nesterov=False):
    def run(p):
        p, v = Fraction(p), Fraction(0)
        for _ in range(6):
            v = decay * v - rate * p
            p += decay * v - rate * p if nesterov else v
        return float(p)

    return tree_map(lambda leaf: np.vectorize(run, otypes=[float])(leaf)[()], START)


def check_recurrence(optimiser, **expected):
    found = descend(optimiser, START, lambda p: p, 6)
    assert same_bits(found, by_recurrence(Fraction(1, 4), **expected))


def test_descent_follows_its_recurrence_to_the_bit():
    half = Fraction(1, 2)
    check_recurrence(sgd(0.25), decay=0)
    check_recurrence(momentum(0.25, decay=0.5), decay=half)
    check_recurrence(momentum(0.25, decay=0.5, nesterov=True), decay=half, nesterov=True)


def test_a_velocity_that_forgets_is_rejected():
    forgetful = momentum(0.25, decay=0.5)
    planted = Optimiser(
        forgetful.init, lambda g, v, p: (forgetful.update(g, v, p)[0], tree_map(np.zeros_like, v))
    )
    with pytest.raises(AssertionError):
        check_recurrence(planted, decay=Fraction(1, 2))


def check_adam(optimiser):
    scale = np.array([1.0, 10.0, 0.1])
    theirs = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    other = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(20):
        other.zero_grad()
        (0.5 * torch.tensor(scale) * theirs**2).sum().backward()
        other.step()
    ours = descend(optimiser, np.array([1.0, -2.0, 3.0]), lambda p: scale * p, 20)
    # Each step rounds p (at most 3.1) once in each program, and makes at most 16 roundings of a
    # step of at most 0.2; errors made before are damped or kept, since curvature · rate is small
    # against √square. Twice, for the two programs.
    assert np.all(np.abs(ours - theirs.detach().numpy()) <= 2 * 20 * (3.1 + 16 * 0.2) * U)


def test_adam_agrees_with_torch():
    check_adam(adam(0.1))


def test_adam_without_its_correction_is_rejected():
    right = adam(0.1)

    def update(slopes, memory, params):
        late = {**memory, "steps": memory["steps"] + 10_000}  # the correction is then 1
        return right.update(slopes, late, params)

    with pytest.raises(AssertionError):
        check_adam(Optimiser(right.init, update))


@pytest.mark.parametrize("optimiser", [sgd(0.1), momentum(0.1), adam(0.01)])
def test_float32_stays_and_nothing_is_updated_in_place(optimiser):
    params = NETWORK.init(0, dtype=np.float32)
    before = tree_map(np.copy, params)
    data = (X.astype(np.float32), Y.astype(np.float32))
    state = train(squared_error, start(params, optimiser), data, optimiser, steps=3)
    assert same_bits(params, before)
    assert {leaf.dtype for leaf in flatten(state.params)[0]} == {np.dtype(np.float32)}


def check_resumption(run, optimiser):
    whole = run(start(NETWORK.init(0), optimiser, seed=3), 23)
    parts = start(NETWORK.init(0), optimiser, seed=3)
    for steps in (1, 6, 0, 9, 7):
        assert all(isinstance(array, np.ndarray) for array in flatten(parts)[0])
        parts = run(TrainingState(*tree_map(np.copy, parts)), steps)
    assert same_bits(whole, parts)
    assert int(whole.step) == 23


@pytest.mark.parametrize("optimiser", [sgd(0.1), momentum(0.1), adam(0.01)])
def test_resumed_is_uninterrupted_and_seeded(optimiser):
    def run(state, steps):
        return train(squared_error, state, (X, Y), optimiser, steps=steps, batch_size=4)

    check_resumption(run, optimiser)
    one, two = (run(start(NETWORK.init(0), optimiser, seed=s), 5) for s in (3, 4))
    assert not same_bits(one.params, two.params)


def test_a_generator_that_starts_again_is_rejected():
    optimiser = sgd(0.1)

    def forgetful(state, steps):  # every call begins with the first epoch's order
        inner = train(
            squared_error,
            state._replace(step=np.array(0)),
            (X, Y),
            optimiser,
            steps=steps,
            batch_size=4,
        )
        return inner._replace(step=state.step + steps)

    with pytest.raises(AssertionError):
        check_resumption(forgetful, optimiser)


def test_labels_change_from_batch_to_batch_compiled_or_not():
    unit = multinoulli(3)
    network = MLP((3, 4, unit.width), hidden="tanh")
    labels = np.arange(10) % 3
    optimiser = sgd(0.1)
    compiled, eager = (
        train(
            cost(network, unit),
            start(network.init(0), optimiser),
            (X, labels),
            optimiser,
            steps=7,
            batch_size=4,
            compiled=compiled,
        )
        for compiled in (True, False)
    )
    assert same_bits(compiled, eager)


def branching(theta, x):
    return np.sum(theta * x) if theta[0] > 0.5 else np.sum(theta * theta)


def test_a_loss_that_branches_is_trained():
    state = start(np.ones(3), sgd(0.25))
    # 1 - ¼ · 2 = ½, where the other branch takes over: ½ - ¼ · 1, ...
    after = train(branching, state, (np.ones((2, 3)),), sgd(0.25), steps=3)
    assert after.params.tolist() == [0.125] * 3


def test_a_loss_that_branches_is_not_compiled():
    state = start(np.ones(3), sgd(0.25))
    with pytest.raises(TypeError, match="branches"):
        train(branching, state, (np.ones((2, 3)),), sgd(0.25), steps=3, compiled=True)


def test_an_epoch_takes_every_row_once_in_a_new_order():
    rows = np.eye(10)
    seen = []
    optimiser = Optimiser(lambda _p: None, lambda g, m, p: (seen.append(g) or p, m))
    # The gradient of Σ θ_row is the indicator of the minibatch.
    loss = lambda theta, batch: np.sum(theta * np.sum(batch, axis=0))  # noqa: E731 - a formula
    progress = []
    train(
        loss,
        start(np.zeros(10), optimiser),
        (rows,),
        optimiser,
        steps=6,
        batch_size=4,
        progress=lambda step, value: progress.append((step, value)),
    )
    assert [g.sum() for g in seen] == [4, 4, 2, 4, 4, 2]
    for epoch in (seen[:3], seen[3:]):
        assert np.array_equal(sum(epoch), np.ones(10))
    assert not np.array_equal(seen[0], seen[3])
    assert progress == [(step, 0.0) for step in range(1, 7)]


def test_training_learns_xor():
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    network = MLP((2, 8, 1), hidden="tanh")
    optimiser = adam(0.02)
    losses = []
    train(
        lambda p, x, y: np.mean((network(p, x) - y) ** 2),
        start(network.init(0), optimiser),
        (x, y),
        optimiser,
        steps=500,
        progress=lambda _step, value: losses.append(value),
    )
    assert losses[-1] < 1e-3 < losses[0]


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [((X, Y[:5]), None, "lengths"), ((X, Y), 0, "1 to 10"), ((X, Y), 11, "1 to 10")],
)
def test_errors_say_what_to_do(data, batch_size, message):
    state = start(NETWORK.init(0), sgd(0.1))
    with pytest.raises(ValueError, match=message):
        train(squared_error, state, data, sgd(0.1), steps=1, batch_size=batch_size)


def linear_regression(params, x, y):
    return np.mean((x @ params["w"] + params["c"] - y[:, 0]) ** 2)


def check_least_squares(minimise):
    fit = minimise(linear_regression, {"w": np.zeros(3), "c": np.array(5.0)}, X, Y)
    design = np.column_stack([X, np.ones(10)])
    (*w, c), *_ = np.linalg.lstsq(design, Y[:, 0])
    error = np.concatenate([fit.params["w"] - w, [fit.params["c"] - c]])
    # The slope is H · error with H = 2 AᵀA / 10; both minimisers stop with slopes below 1e-8.
    smallest = np.linalg.eigvalsh(2 * design.T @ design / 10)[0]
    assert np.linalg.norm(error) <= 2 * 1e-8 / smallest
    assert fit.converged


@pytest.mark.parametrize("minimise", [lbfgs, newton_cg])
def test_scipys_minimisers_solve_least_squares(minimise):
    check_least_squares(minimise)


def test_a_wrong_objective_is_rejected():
    with pytest.raises(AssertionError):
        check_least_squares(lambda loss, p, x, y: lbfgs(loss, p, x[:-1], y[:-1]))


@pytest.mark.parametrize("minimise", [lbfgs, newton_cg])
def test_scipys_minimisers_train_networks(minimise):
    params = NETWORK.init(0)
    fit = minimise(squared_error, params, X, Y, steps=300)
    assert fit.value < 1e-2 * squared_error(params, X, Y)
    assert fit.value == squared_error(fit.params, X, Y)
    assert [*fit.params[0]] == ["W", "b"]
