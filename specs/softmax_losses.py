"""Section 6.2.2.3: the negative log-likelihood of softmax units, and one logit too many."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import labels, points, rows
from ffverify.exact.formats import Array
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS

from .softmax_units import CLASSES, one_hot

# Where scale=1.0 is given, accuracy is absolute: see softmax_units.


@claim(
    "6.2.2.3",
    "∂J/∂z = (softmax(z) - onehot(y))/N for the mean over N examples: the slopes sum to 0, descent "
    "raises z_y and lowers every other logit.",
    functions=["softmax_nll"],
    examples=12,
    z=rows(CLASSES),
    y=labels(CLASSES),
)
def softmax_nll_gradient(check: Check, z: Array, y: Array) -> None:
    share = np.full(len(z), 1 / len(z), dtype=z.dtype)
    check.value("softmax_nll", z, y, scale=1.0)
    slope = check.gradient("softmax_nll", z, y, cotangent=share, scale=1.0)
    onehot = one_hot(y, z)
    check.that(
        bool(np.all(np.where(onehot == 1, slope <= 0, slope >= 0))),
        "signs of the slopes",
        slope,
        "≤ 0 at y, else ≥ 0",
    )

    exact = proofs.slopes(check, lambda f, z, y: f.softmax_nll(z, y), z, y, core=(1, 0))
    formula = proofs.balls(lambda f, z: f.softmax(z) - onehot, z).values
    proofs.agree(check, exact, formula, "softmax(z) - onehot(y)")
    check.that(all(s.contains(0) for s in exact.sum(axis=-1)), "sum of the slopes", exact, 0)


@softmax_nll_gradient.bug("softmax_nll", "missing 1/N")
def _(f: Any, z: Any, y: Array) -> Any:
    def vjp(j_bar: Any, _j: Any, z: Any) -> Any:
        return (
            (len(y) * j_bar)[:, None] * (f.softmax(z) - (np.arange(z.shape[-1]) == y[:, None])),
        )

    return f.custom_rule(lambda z: f.softmax_nll(z, y), vjp=vjp)(z)


@softmax_nll_gradient.bug("softmax_nll", "softmax applied twice")
def _(f: Any, z: Any, y: Array) -> Any:
    return f.softmax_nll(f.softmax(z), y)


@claim(
    "6.2.2.3",
    "The most active wrong class is penalised most: J is max z - z_y to within log n, and of all "
    "wrong classes it has the largest slope.",
    functions=["softmax_nll"],
    examples=12,
    z=rows(CLASSES, low=-1e4, high=1e4),
    y=labels(CLASSES),
)
def most_active_wrong_class_is_penalised_most(check: Check, z: Array, y: Array) -> None:
    check.value("softmax_nll", z, y, scale=1.0)
    slope = check.gradient("softmax_nll", z, y, scale=1.0)

    def excess(f: Any, z: Any, y: Any) -> Any:
        right = np.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return f.softmax_nll(z, y) - (np.max(z, axis=1) - right)

    proofs.positive(check, excess, z, y, where="J - (max z - z_y)", or_zero=True)
    proofs.positive(
        check,
        lambda f, z, y: np.log(0 * z[:, 0] + CLASSES) - excess(f, z, y),
        z,
        y,
        where="log n - (J - (max z - z_y))",
        or_zero=True,
    )
    wrong = np.where(one_hot(y, z) == 1, -np.inf, z)
    fastest = np.take_along_axis(slope, wrong.argmax(axis=1)[:, None], axis=1)
    # Classes as active as each other to within rounding have slopes equal to within rounding.
    slack = LIBRARY_ROUNDINGS * check.fmt.unit_roundoff
    slower = np.where(one_hot(y, z) == 1, 0, slope) <= fastest * (1 + slack)
    check.that(bool(slower.all()), "slope at the most active wrong class", fastest, slope)


@most_active_wrong_class_is_penalised_most.bug("softmax_nll", "uniform label smoothing left on")
def _(f: Any, z: Any, y: Array) -> Any:
    return 0.9 * f.softmax_nll(z, y) - 0.1 * np.mean(f.log_softmax(z), axis=-1)


@most_active_wrong_class_is_penalised_most.bug("softmax_nll", "only the average wrong class counts")
def _(f: Any, z: Any, y: Array) -> Any:
    n = z.shape[-1]
    right = np.sum(z * one_hot(y, z), axis=-1)
    return f.softplus((np.sum(z, axis=-1) - right) / (n - 1) - right)


@claim(
    "6.2.2.3",
    "A confident right answer costs next to nothing: a gap g to the runner-up gives J ≤ (n - 1)e^-g.",
    functions=["softmax_nll"],
    examples=12,
    z=rows(CLASSES, low=-300, high=300),
)
def confident_right_answer_costs_nothing(check: Check, z: Array) -> None:
    y = z.argmax(axis=1)
    check.value("softmax_nll", z, y, scale=1.0)
    check.gradient("softmax_nll", z, y, scale=1.0)

    def room(f: Any, z: Any, y: Any, ordered: Any) -> Any:
        return (CLASSES - 1) * np.exp(ordered[:, -2] - ordered[:, -1]) - f.softmax_nll(z, y)

    proofs.positive(check, room, z, y, np.sort(z, axis=1), where="(n - 1)e^-g - J")


@confident_right_answer_costs_nothing.bug("softmax_nll", "ε added inside the log")
def _(f: Any, z: Any, y: Array) -> Any:
    return -np.log(np.sum(f.softmax(z) * one_hot(y, z), axis=-1) + 1e-4)


@confident_right_answer_costs_nothing.bug("softmax_nll", "a cost of margin: at least 1 by hinge")
def _(f: Any, z: Any, y: Array) -> Any:
    return f.softmax_nll(z - one_hot(y, z), y)


@claim(
    "6.2.2.3",
    "Where softmax saturates its own derivatives vanish; the slopes of its negative log-likelihood "
    "for a wrong class do not, but go to -1 at the right class and +1 at the winner.",
    functions=["softmax", "softmax_nll"],
    examples=8,
    z=rows(CLASSES, low=-300, high=300),
    y=labels(CLASSES),
)
def softmax_saturates_but_its_nll_does_not(check: Check, z: Array, y: Array) -> None:
    def likelihood(f: Any, z: Any, y: Any) -> Any:
        return f.softmax_nll(z, y)

    here = one_hot(y, z)
    check.gradient("softmax", z, cotangent=here, scale=1.0)
    check.gradient("softmax_nll", z, y, scale=1.0)
    ordered = np.sort(z.astype(np.float64), axis=1)
    rest = proofs.balls(
        lambda _f, z: (CLASSES - 1) * np.exp(z[:, -2] - z[:, -1])[:, None], ordered
    ).values  # a bound on the shares of all classes but the winner together
    own = proofs.slopes(
        check, lambda f, z, onehot: (f.softmax(z) * onehot).sum(axis=-1), z, here, core=(1, 1)
    )
    check.that(not np.any(abs(own) > rest), "|∂softmax_y/∂z|", own, "≤ (n - 1)e^-gap")
    exact = proofs.slopes(check, likelihood, z, y, core=(1, 0))
    wrong = z.argmax(axis=1) != y
    limit = np.eye(CLASSES, dtype=int)[z.argmax(axis=1)] - here.astype(int)
    far = (abs(exact - limit) > rest)[wrong]
    check.that(not np.any(far), "slope of the NLL", exact[wrong], "-1 at y, +1 at the winner")


@softmax_saturates_but_its_nll_does_not.bug("softmax_nll", "log of a clipped softmax")
def _(f: Any, z: Any, y: Array) -> Any:
    p = np.clip(f.softmax(z), 1e-6, 1.0)
    return -np.log(np.sum(p * one_hot(y, z), axis=-1))


@softmax_saturates_but_its_nll_does_not.bug("softmax", "straight-through gradient")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return f.custom_rule(lambda z: f.softmax(z, axis), vjp=lambda p_bar, _p, _z: (p_bar,))(z)


@claim(
    "6.2.2.3",
    "softmax of two logits is the sigmoid of their difference: softmax([z, 0])_1 = σ(z).",
    functions=["softmax", "sigmoid"],
    z=points(),
)
def two_class_softmax_is_sigmoid(check: Check, z: Array) -> None:
    pair = np.stack([z, np.zeros_like(z)], axis=-1)
    check.value("softmax", pair, scale=1.0)
    check.value("sigmoid", z, scale=1.0)
    check.gradient("sigmoid", z, scale=1.0)
    first = np.zeros_like(pair)
    first[:, 0] = 1
    check.gradient("softmax", pair, cotangent=first, scale=1.0)
    proofs.equal(
        check,
        lambda f, _z, pair: f.softmax(pair)[..., 0],
        lambda f, z, _pair: f.sigmoid(z),
        z,
        pair,
    )


@two_class_softmax_is_sigmoid.bug("sigmoid", "σ(-z)")
def _(f: Any, z: Any) -> Any:
    return f.sigmoid(-z)


@two_class_softmax_is_sigmoid.bug("softmax", "probabilities in reverse order")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return f.softmax(-z, axis)


@claim(
    "6.2.2.3",
    "n logits are one too many: z_n = 0 gives every distribution. The Jacobian diag(p) - ppᵀ is "
    "symmetric, positive semidefinite, of rank n - 1 with null vector 1, and off its diagonal "
    "negative: classes compete.",
    functions=["softmax"],
    examples=12,
    z=rows(CLASSES, low=-16, high=16),
)
def softmax_is_overparametrised(check: Check, z: Array) -> None:
    def entry(f: Any, z: Any, onehot: Any) -> Any:
        return (f.softmax(z) * onehot).sum(axis=-1)

    pinned = z - z[:, -1:]
    check.value("softmax", pinned, scale=1.0)
    proofs.equal(check, lambda f, z: f.softmax(z), lambda f, z: f.softmax(z - z[:, -1:]), z)

    one = np.repeat(z[:1], CLASSES, axis=0)  # row i of the Jacobian from cotangent i
    unit = np.eye(CLASSES, dtype=z.dtype)
    jacobian = check.gradient("softmax", one, cotangent=unit, scale=1.0)
    check.that(bool(np.all(jacobian[unit == 0] <= 0)), "Jacobian off its diagonal", jacobian, "≤ 0")
    exact = proofs.slopes(check, entry, one, unit, core=(1, 1))
    p = proofs.balls(lambda f, z: f.softmax(z), z[0])
    formula = np.diag(p.values) - p.values[:, None] * p.values
    proofs.agree(check, exact, formula, "diag(p) - ppᵀ")
    proofs.agree(check, exact, exact.T, "transposed Jacobian")
    check.that(all(s.contains(0) for s in exact.sum(axis=1)), "Jacobian times 1", exact, 0)

    # All leading minors but the last positive, with the null vector: semidefinite, of rank n - 1.
    def minor(size: int) -> Any:
        def determinant(f: Any, z: Any) -> Any:
            p = f.softmax(z)[:size]
            return np.linalg.det(np.eye(size) * p - p[:, None] * p)

        return determinant

    for size in range(1, CLASSES):
        proofs.positive(check, minor(size), z[0], where=f"leading minor of size {size}")


@softmax_is_overparametrised.bug("softmax", "Jacobian diag(p(1 - p))")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    def vjp(p_bar: Any, p: Any, _z: Any) -> Any:
        return (p_bar * p * (1 - p),)

    return f.custom_rule(lambda z: f.softmax(z, axis), vjp=vjp)(z)


@softmax_is_overparametrised.bug("softmax", "an absent class of logit 0 added")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    return np.exp(z) / (1 + np.sum(np.exp(z), axis=axis, keepdims=True))
