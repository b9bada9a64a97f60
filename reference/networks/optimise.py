"""Learn parameters: gradient descent in minibatches, and SciPy's second-order methods.

An `Optimiser` (`sgd`, `momentum`, `adam`) is two pure functions on parameters of any nesting;
nothing is updated in place. `train` runs one over minibatches:

    state = start(params, adam(1e-3), seed=0)
    state = train(loss, state, (X, Y), adam(1e-3), steps=1000, batch_size=32)

A state is nothing but arrays: save it, load it, and go on. The same seed gives the same bits, and a
run that was interrupted and resumed ends with the bits of one that was not. For small problems
`lbfgs` and `newton_cg` hand the whole objective to SciPy.

Sources: chapter 6.2 and 6.5; Polyak 1964 (momentum); Kingma & Ba 2015 (Adam); Liu & Nocedal 1989
(L-BFGS); Nocedal & Wright 2006, algorithm 7.1 (Newton-CG).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ffverify.reference.engine.transforms import value_and_grad
from ffverify.reference.engine.tree import tree_map
from ffverify.reference.programs.compiler import compile as compile_
from ffverify.reference.studies.krylov import hessian_operator, ravel, scipy_module

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = "np.ndarray[Any, Any]"
Tree: TypeAlias = Any  # parameters, or a gradient or velocity of the same structure


class Optimiser(NamedTuple):
    """A method of gradient descent.

    ``init(params)`` makes its memory; ``update(slopes, memory, params)`` returns (params, memory)
    after one step. Both are pure, and memory is a tree of arrays.
    """

    init: Callable[[Tree], Tree]
    update: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]]


def sgd(rate: float) -> Optimiser:
    """Step along the slopes: θ ← θ - rate · g."""

    def update(slopes: Tree, memory: Tree, params: Tree) -> tuple[Tree, Tree]:
        return tree_map(lambda p, g: p - rate * g, params, slopes), memory

    return Optimiser(lambda _params: None, update)


def momentum(rate: float, *, decay: float = 0.9, nesterov: bool = False) -> Optimiser:
    """Step by a velocity: v ← decay · v - rate · g, θ ← θ + v (Polyak 1964).

    Nesterov's form applies the decay and the slope once more: θ ← θ + decay · v - rate · g.
    """

    def update(slopes: Tree, velocity: Tree, params: Tree) -> tuple[Tree, Tree]:
        velocity = tree_map(lambda v, g: decay * v - rate * g, velocity, slopes)
        step = velocity
        if nesterov:
            step = tree_map(lambda v, g: decay * v - rate * g, velocity, slopes)
        return tree_map(lambda p, s: p + s, params, step), velocity

    return Optimiser(lambda params: tree_map(np.zeros_like, params), update)


def adam(
    rate: float = 1e-3, *, decays: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
) -> Optimiser:
    """Step by the mean slope over its root mean square, both decaying (Kingma & Ba 2015)."""
    decay_1, decay_2 = decays

    def init(params: Tree) -> Tree:
        zeros = tree_map(np.zeros_like, params)
        return {"mean": zeros, "square": zeros, "steps": np.array(0)}

    def update(slopes: Tree, memory: Tree, params: Tree) -> tuple[Tree, Tree]:
        steps = np.array(memory["steps"] + 1)  # the sum alone would be a scalar
        mean = tree_map(lambda m, g: decay_1 * m + (1 - decay_1) * g, memory["mean"], slopes)
        square = tree_map(
            lambda s, g: decay_2 * s + (1 - decay_2) * g * g, memory["square"], slopes
        )
        # Both start at zero; these factors undo that. Python floats, so float32 stays float32.
        full_1, full_2 = 1 - decay_1 ** int(steps), 1 - decay_2 ** int(steps)
        new = tree_map(
            lambda p, m, s: p - rate * (m / full_1) / (np.sqrt(s / full_2) + epsilon),
            params,
            mean,
            square,
        )
        return new, {"mean": mean, "square": square, "steps": steps}

    return Optimiser(init, update)


class TrainingState(NamedTuple):
    """All that training needs to go on: a tree of arrays."""

    params: Tree
    memory: Tree
    step: Array
    seed: Array


def start(params: Tree, optimiser: Optimiser, *, seed: int = 0) -> TrainingState:
    """Make the state before the first step."""
    return TrainingState(params, optimiser.init(params), np.array(0), np.array(seed))


def train(
    loss: Callable[..., Any],
    state: TrainingState,
    data: tuple[Array, ...],
    optimiser: Optimiser,
    *,
    steps: int,
    batch_size: int | None = None,
    compiled: bool = False,
    progress: Callable[[int, float], object] | None = None,
) -> TrainingState:
    """Take ``steps`` steps of descent on ``loss(params, *batch)``.

    Parameters
    ----------
    data : arrays with one example per row, taken apart along their first axis together
    batch_size : rows per step, by default all; every epoch takes all rows once in a new order,
        which depends on the seed and the epoch only
    compiled : compile the gradient's program, once for each size of batch: faster steps, for a loss
        that does not branch in Python on its values
    progress : called as ``progress(step, value)`` after each step, value being the minibatch's loss

    Raises
    ------
    ValueError
        if the arrays differ in length, or batch_size is not between 1 and that length.
    """
    sizes = {len(array) for array in data}
    if len(sizes) != 1:
        raise ValueError(f"data of lengths {sorted(sizes)}: give arrays with one row per example")
    n = sizes.pop()
    size = n if batch_size is None else batch_size
    if not 1 <= size <= n:
        raise ValueError(f"batch_size = {batch_size} with {n} examples: give 1 to {n}")
    gradient = value_and_grad(loss)
    if compiled:
        gradient = compile_(gradient)
    batches = -(-n // size)
    order_of = -1
    order = np.arange(n)
    for step in range(int(state.step), int(state.step) + steps):
        epoch, batch = divmod(step, batches)
        if size < n and epoch != order_of:
            order_of, order = epoch, np.random.default_rng([int(state.seed), epoch]).permutation(n)
        rows = order[batch * size : (batch + 1) * size]
        value, slopes = gradient(state.params, *(array[rows] for array in data))
        params, memory = optimiser.update(slopes, state.memory, state.params)
        state = TrainingState(params, memory, np.array(step + 1), state.seed)
        if progress is not None:
            progress(step + 1, float(value))
    return state


class Fit(NamedTuple):
    """What a SciPy minimiser found: parameters, their loss, and how it ended."""

    params: Tree
    value: float
    steps: int
    converged: bool
    message: str


def lbfgs(
    loss: Callable[..., Any], params: Tree, *data: Any, steps: int = 1000, tolerance: float = 1e-8
) -> Fit:
    """Minimise ``loss(params, *data)`` by L-BFGS, until no slope is larger than ``tolerance``."""
    options = {"maxiter": steps, "maxfun": 20 * steps, "gtol": tolerance, "ftol": 0.0}
    return _minimise("L-BFGS-B", loss, params, data, options)


def newton_cg(
    loss: Callable[..., Any], params: Tree, *data: Any, steps: int = 200, tolerance: float = 1e-10
) -> Fit:
    """Minimise ``loss(params, *data)`` by Newton's method, with exact Hessian-vector products.

    Stops when the parameters change by less than ``tolerance`` on average.
    """
    return _minimise("Newton-CG", loss, params, data, {"maxiter": steps, "xtol": tolerance})


def _minimise(
    method: str, loss: Callable[..., Any], params: Tree, data: tuple[Any, ...], options: Any
) -> Fit:
    minimize = scipy_module("optimize").minimize
    vector, unravel = ravel(params)
    gradient = value_and_grad(loss)

    def value_and_slopes(x: Array) -> tuple[float, Array]:
        value, slopes = gradient(unravel(x), *data)
        return float(value), ravel(slopes)[0]

    def hessian(x: Array) -> Any:
        return hessian_operator(loss, unravel(x), *data)

    hess = hessian if method == "Newton-CG" else None
    found = minimize(value_and_slopes, vector, method=method, jac=True, hess=hess, options=options)
    return Fit(unravel(found.x), float(found.fun), found.nit, bool(found.success), found.message)
