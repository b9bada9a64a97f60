"""Sections 6.2 and 6.2.1.1: costs that gradients follow, and maximum likelihood."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, points
from ffverify.exact.formats import Array, Format

# --- 6.2: convexity ----------------------------------------------------------------------------


def _neuron_cost(f: Any, theta: Any, x: Any, y: Any) -> Any:
    """Mean squared error of w tanh(ux + c) + b over the examples (x, y)."""
    hidden = f.tanh(theta[0] * x + theta[1])
    return f.squared_error(theta[2] * hidden + theta[3], y).mean()


@claim(
    "6.2",
    "The mean squared error of a linear model is convex; one hidden nonlinear unit is enough for a "
    "Hessian with a negative eigenvalue.",
    functions=["affine", "tanh", "squared_error"],
    examples=6,
    X=array(4, 2),
    theta=array(3),
    y=array(4),
)
def nonlinearity_makes_the_loss_nonconvex(check: Check, X: Array, theta: Array, y: Array) -> None:
    n = len(y)

    def linear_cost(f: Any, theta: Any, X: Any, y: Any) -> Any:
        answers = f.affine(X, theta[:2].reshape(2, 1), theta[2:])
        return f.squared_error(answers[:, 0], y).mean()

    # The exact Hessian, at every θ, is the Gram matrix 2AᵀA/n of A = [X 1]: vᵀHv = 2‖Av‖²/n ≥ 0.
    A = np.array([[*map(Fraction, row), Fraction(1)] for row in X.tolist()], dtype=object)
    gram = A.T @ A * Fraction(2, n)
    computed = check.backend.hessian(linear_cost, [theta, X, y], check.fmt.name)
    # Each entry is a sum of n products, at most 2 + 2 + n roundings long each (Higham, §3.1); each may
    # underflow besides, before it is multiplied by an entry of A.
    underflow = Fraction(2) ** check.fmt.smallest_exponent * abs(A).max()
    allowed = (n + 4) * (check.fmt.unit_roundoff * (abs(A).T @ abs(A) * Fraction(2, n)) + underflow)
    off = abs(np.vectorize(Fraction, otypes=[object])(computed.astype(float)) - gram)
    check.that(bool(np.all(off <= allowed)), "Hessian of the linear model", computed, gram)

    check.once(_find_negative_curvature)


def _find_negative_curvature(check: Check) -> None:
    """Search for a point of negative curvature; along it midpoints lie above chords, in balls."""
    random = np.random.default_rng(0)
    kind = np.dtype(check.fmt.carrier).type
    x = random.uniform(-2, 2, 8).astype(kind)
    targets = np.sign(x)
    lowest = np.inf
    for _ in range(16):
        start = random.uniform(-2, 2, 4).astype(kind)
        H = check.backend.hessian(_neuron_cost, [start, x, targets], check.fmt.name).astype(float)
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        if values[0] < lowest:
            lowest, point, step = values[0], start, (vectors[:, 0] / 64).astype(kind)
    check.that(lowest < -0.01, "lowest eigenvalue that a search finds", lowest, "well below 0")

    def bulge(f: Any, theta: Any, v: Any, x: Any, y: Any) -> Any:
        ends = _neuron_cost(f, theta + v, x, y) + _neuron_cost(f, theta - v, x, y)
        return 2 * _neuron_cost(f, theta, x, y) - ends

    proofs.positive(check, bulge, point, step, x, targets, where="cost at a midpoint - chord")


@nonlinearity_makes_the_loss_nonconvex.bug("hessian", "Gauss-Newton: second derivatives left out")
def _(f: Any, cost: Any, *_: Any) -> Any:
    def gauss_newton(*args: Any) -> Any:
        H = f.hessian(cost)(*args)
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        return (vectors * np.maximum(values, 0)) @ vectors.T

    return gauss_newton


@nonlinearity_makes_the_loss_nonconvex.bug("hessian", "off-diagonal entries halved")
def _(f: Any, cost: Any, *_: Any) -> Any:
    return lambda theta, *data: f.hessian(cost)(theta, *data) * (np.eye(len(theta)) + 1) / 2


# --- 6.2.1.1: maximum likelihood -----------------------------------------------------------------


def _shares(fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
    """Draw probabilities of three classes, in sixteenths (exact in every format)."""
    counts = st.permutations(range(1, 16)).map(lambda p: sorted(p[:2]))
    return counts.map(
        lambda cuts: np.array([cuts[0], cuts[1] - cuts[0], 16 - cuts[1]], fmt.carrier) / 16
    )


def _multinoulli(f: Any, z: Any, p: Any, zero: Any, y: Any) -> Any:
    return (p * f.softmax_nll(z + zero, y)).sum()


def _bernoulli(f: Any, z: Any, p: Any, zero: Any, y: Any) -> Any:
    return (p * f.bernoulli_nll(z + zero, y)).sum()


def _gaussian(f: Any, mean: Any, centre: Any, nodes: Any) -> Any:
    # Gauss and Hermite: centre ± 1, by halves, integrates against N(centre, I) every polynomial of
    # degree 3 of each coordinate, and -log N is one of degree 2.
    return (f.gaussian_nll(mean + 0 * nodes, centre + nodes) / 2).sum()


def _mixture(f: Any, logits: Any, means: Any, precisions: Any, centre: Any, nodes: Any) -> Any:
    return (f.mixture_nll(logits, means, precisions, centre + nodes) / 2).sum()


@claim(
    "6.2.1.1",
    "Cross-entropy is the expected negative log-likelihood, J = -E log p_model. It is at least the "
    "entropy of the data, and equal to it, with slope zero, where the model is the data's own.",
    functions=["bernoulli_nll", "softmax_nll", "gaussian_nll", "mixture_nll"],
    examples=5,
    p=_shares,
    z=array(1, 3),
    mean=array(1, 2),
    centre=array(1, 2),
)
def cross_entropy_is_expected_nll(
    check: Check, p: Array, z: Array, mean: Array, centre: Array
) -> None:
    zero = np.zeros((3, 1), z.dtype)
    coin, sides, flip = np.array([p[0], 1 - p[0]]), zero[:2, 0], np.array([1, 0])
    nodes = np.array([[1, 1], [-1, -1]], z.dtype)
    experiments: list[tuple[Any, list[Array], list[Array]]] = [
        (_multinoulli, [z, p, zero, np.arange(3)], [np.log(p)[None, :]]),
        (_bernoulli, [z[0, :1], coin, sides, flip], [np.log(coin[:1] / coin[1:])]),
        (_gaussian, [mean, centre, nodes], [centre]),
    ]
    for cost, args, best in experiments:
        check.value(cost, *args, scale=1.0)
        check.gradient(cost, *args, scale=1.0)
        check.gradient(cost, *best, *args[1:], scale=1.0)  # zero there, but for log's rounding

    def entropy(p: Any) -> Any:
        return -(p * np.log(p)).sum()

    proofs.positive(
        check,
        lambda f, z, p, *rest: _multinoulli(f, z, p, *rest) - entropy(p),
        *experiments[0][1],
        where="J - H of a multinoulli",
        or_zero=True,
    )
    proofs.equal(
        check,
        lambda f, p, *rest: _multinoulli(f, np.log(p), p, *rest),
        lambda _f, p, *_: entropy(p),
        p,
        zero,
        np.arange(3),
        where="J = H of a multinoulli",
    )
    proofs.positive(
        check,
        lambda f, z, p, *rest: _bernoulli(f, z, p, *rest) - entropy(p),
        *experiments[1][1],
        where="J - H of a Bernoulli",
        or_zero=True,
    )

    def gaussian_entropy(f: Any, _mean: Any, centre: Any, nodes: Any) -> Any:
        return _gaussian(f, centre, centre, nodes)

    proofs.positive(
        check,
        lambda f, *args: _gaussian(f, *args) - gaussian_entropy(f, *args),
        mean,
        centre,
        nodes,
        where="J - H of a Gaussian",
        or_zero=True,
    )
    # A mixture of equal components is one Gaussian, of the same cost, whatever the weights.
    logits, means = z[0, :2], np.repeat(mean, 2, axis=0)
    shared = logits, means, np.ones_like(logits), centre, nodes
    check.value(_mixture, *shared, scale=1.0)
    check.gradient(_mixture, *shared, wrt=1, scale=1.0)
    proofs.equal(
        check,
        _mixture,
        lambda f, _l, means, _p, centre, nodes: _gaussian(f, means[:1], centre, nodes),
        *shared,
        where="J of a mixture of equal Gaussians",
    )


@cross_entropy_is_expected_nll.bug("softmax_nll", "probabilities summed over the examples' axis")
def _(f: Any, z: Any, y: Array) -> Any:
    return f.logsumexp(z, axis=0) - np.sum(z * np.eye(z.shape[-1], dtype=z.dtype)[y], axis=-1)


@cross_entropy_is_expected_nll.bug("gaussian_nll", "mean over the outputs in place of their sum")
def _(_f: Any, mean: Any, y: Any) -> Any:
    return np.mean((mean - y) ** 2, axis=-1) / 2 + mean.shape[-1] * np.log(2 * np.pi) / 2


@cross_entropy_is_expected_nll.bug("mixture_nll", "weights that do not sum to 1")
def _(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    return f.mixture_nll(logits, means, precisions, y) - f.logsumexp(logits)


@claim(
    "6.2.1.1",
    "A cost of maximum likelihood can have no minimum: at a point that is met exactly a Gaussian of "
    "learned precision has cost -½ log β, which a penalty on log β bounds; logistic regression on "
    "separable data approaches 0 and never gets there.",
    functions=["heteroscedastic_nll", "log", "bernoulli_nll"],
    beta=points(low=2.0**-10, high=2.0**12),
    scale=points(low=0, high=60),
)
def cost_can_be_unbounded_below(check: Check, beta: Array, scale: Array) -> None:
    met = np.full_like(beta, 0.75)

    def cost(f: Any, mean: Any, beta: Any, y: Any) -> Any:
        return f.heteroscedastic_nll(mean, beta, y)

    def penalised(f: Any, mean: Any, beta: Any, y: Any) -> Any:
        return cost(f, mean, beta, y) + f.log(beta) ** 2 / 8

    for program in (cost, penalised):
        check.value(program, met, beta, met, core=(0, 0, 0), scale=1.0)
        check.gradient(program, met, beta, met, wrt=1, core=(0, 0, 0))
    # Every doubling of β lowers the cost by the same: there is no lower bound. The penalty's least
    # value is -½, at log β = 2, since -t/2 + t²/8 = (t - 2)²/8 - ½.
    ladder = [
        check.backend.value(cost, [met[:1], b, met[:1]], check.fmt.name) for b in _powers(check)
    ]
    check.that(bool(np.all(np.diff(np.ravel(ladder)) < 0)), "cost as β grows", ladder, "falling")
    proofs.equal(
        check,
        lambda f, m, b: cost(f, m, b, m) - cost(f, m, 2 * b, m),
        lambda _f, _m, b: np.log(0 * b + 2) / 2,
        met,
        beta,
        where="gain of a doubled precision",
    )
    proofs.positive(
        check,
        lambda f, m, b: penalised(f, m, b, m) + Fraction(1, 2),
        met,
        beta,
        or_zero=True,
        where="penalised cost + ½",
    )

    def logistic(f: Any, w: Any, x: Any, y: Any) -> Any:
        return f.bernoulli_nll(w * x, y)

    y = np.arange(len(scale)) % 2
    x = (2 * y - 1).astype(scale.dtype)  # separable: the sign of x is the class
    # How closely 0 is approached is judged beside the logits, which are up to 60 in size.
    check.value(logistic, scale, x, y, core=(0, 0, 0), scale=60.0)
    proofs.positive(check, logistic, scale, x, y, where="logistic cost")
    proofs.positive(
        check,
        lambda f, w, x, y: np.exp(-w) - logistic(f, w, x, y),
        scale,
        x,
        y,
        where="e^-w - logistic cost",
    )


def _powers(check: Check) -> list[Array]:
    """Give powers of 2 up to the format's largest."""
    exponents = np.linspace(0, check.fmt.emax, 9).astype(int)
    return [np.array([2.0**e], check.fmt.carrier) for e in exponents]


@cost_can_be_unbounded_below.bug("heteroscedastic_nll", "precision clamped to 10⁶")
def _(f: Any, mean: Any, precision: Any, y: Any) -> Any:
    return f.heteroscedastic_nll(mean, np.minimum(precision, 1e6), y)


@cost_can_be_unbounded_below.bug("bernoulli_nll", "probability clipped to 0.999")
def _(f: Any, z: Any, y: Array) -> Any:
    return -np.log(np.minimum(f.sigmoid((2 * y - 1) * z), 0.999))
