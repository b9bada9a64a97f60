"""Section 6.2.2.3: softmax units and their negative log-likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify import proofs
from ffverify.check import Check
from ffverify.claims import claim
from ffverify.formats import Array, Format
from ffverify.inputs import labels, points, rows
from ffverify.strategies import arrays

CLASSES = 3

# Where scale=1.0 is given, accuracy is absolute: p is a share of 1, p - 1 a difference of numbers
# of size 1, log Σ e^(z - max z) the log of a sum of at least 1, so all err by a few u.


def _whole_numbers(shape_of: Any, *, bits: int) -> Any:
    """Draw integers of so many bits, or (negative) of so many less than a format's precision."""

    def make(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
        size = 2.0 ** (bits if bits > 0 else fmt.precision + bits)
        return arrays(fmt.name, shape_of(batch), min_value=-size, max_value=size).map(np.rint)

    return make


def _one_hot(y: Array, z: Array) -> Array:
    codes: Array = (np.arange(z.shape[-1]) == y[:, None]).astype(z.dtype)
    return codes


@claim(
    "6.2.2",
    "softmax(z) = softmax(z + c): a number added to every logit changes nothing.",
    functions=["softmax"],
    examples=12,
    z=_whole_numbers(lambda batch: (batch, CLASSES), bits=5),
    c=_whole_numbers(lambda batch: (batch, 1), bits=-2),
    anything=rows(CLASSES),
)
def softmax_shift_invariance(check: Check, z: Array, c: Array, anything: Array) -> None:
    # Whole numbers add exactly. As a function of (z, c) the result is as well conditioned as
    # softmax(z), however large c: the bound leaves no room for one that feels the shift.
    def shifted(f: Any, z: Any, c: Any) -> Any:
        return f.softmax(z + c)

    check.value(shifted, z, c, core=(1, 1))
    proofs.equal(check, shifted, lambda f, z, _c: f.softmax(z), z, c)
    check.value("softmax", anything)  # at the rounded sum, whatever was added
    check.gradient(
        shifted, z, c, cotangent=_one_hot(np.arange(len(z)) % CLASSES, z), core=(1, 1), scale=1.0
    )


@softmax_shift_invariance.bug("softmax", "no maximum subtracted")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    e = np.exp(z)
    return e / np.sum(e, axis=axis, keepdims=True)


@softmax_shift_invariance.bug(
    "softmax", "temperature ½ applied after the shift to the numerator only"
)
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    d = z - np.max(z, axis=axis, keepdims=True)
    return np.exp(2 * d) / np.sum(np.exp(d), axis=axis, keepdims=True)


@softmax_shift_invariance.bug("softmax", "Jacobian diag(p), without the normaliser's part")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return f.custom_rule(lambda z: f.softmax(z, axis), vjp=lambda p_bar, p, _z: (p_bar * p,))(z)


def _with_absent_classes(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
    """Draw rows of any finite logits; some entries but the first are -inf."""
    shape = (batch, CLASSES)
    finite, absent = arrays(fmt.name, shape), labels(2)(fmt, batch * (CLASSES - 1))
    return st.tuples(finite, absent).map(
        lambda drawn: np.where(
            np.pad(drawn[1].reshape(batch, -1) == 1, ((0, 0), (1, 0))), -np.inf, drawn[0]
        ).astype(fmt.carrier)
    )


@claim(
    "6.2.2",
    "softmax and its logarithm never overflow: logits of any finite size and spread, and classes "
    "excluded by -inf, give no NaN, and one far above the rest gets 1 and the rest 0.",
    functions=["softmax", "log_softmax", "logsumexp"],
    examples=12,
    z=rows(CLASSES),
    masked=_with_absent_classes,
)
def softmax_never_overflows(check: Check, z: Array, masked: Array) -> None:
    p = check.value("softmax", z)
    check.gradient("logsumexp", z, scale=1.0)
    check.value("logsumexp", z, scale=1.0)
    check.value("log_softmax", z, scale=1.0)
    check.value("softmax", masked)
    check.value("logsumexp", masked, scale=1.0)
    absent = check.backend.value(lambda f, z: f.log_softmax(z), [masked], check.fmt.name)
    check.equal(absent[np.isneginf(masked)], -np.inf, "log-probability of an excluded class")
    # From this gap on e^-gap is below half the smallest subnormal: the limits are reached.
    far = (2 - check.fmt.smallest_exponent) * np.log(2)
    ordered = np.sort(z.astype(np.float64), axis=1) / 2  # halves, lest the gap overflow
    alone = ordered[:, -1] - ordered[:, -2] > far / 2
    check.equal(p[alone], z[alone] == z[alone].max(axis=1, keepdims=True), "softmax in the limit")


@softmax_never_overflows.bug("softmax", "naive exp/sum")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    return np.exp(z) / np.sum(np.exp(z), axis=axis, keepdims=True)


@softmax_never_overflows.bug("logsumexp", "the mean subtracted in place of the maximum")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    m = np.mean(z, axis=axis)
    return m + np.log(np.sum(np.exp(z - np.expand_dims(m, axis)), axis=axis))


@softmax_never_overflows.bug("log_softmax", "logits clipped to ±500")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return f.log_softmax(np.clip(z, -500, 500), axis)


@claim(
    "6.2.2",
    "log softmax(z)_i = z_i - log Σ exp(z_j), accurate where softmax itself underflows.",
    functions=["log_softmax"],
    examples=12,
    z=rows(CLASSES),
)
def log_softmax_formula(check: Check, z: Array) -> None:
    check.value("log_softmax", z, scale=1.0)
    check.gradient("log_softmax", z, cotangent=_one_hot(np.arange(len(z)) % CLASSES, z), scale=1.0)
    proofs.equal(
        check, lambda f, z: f.log_softmax(z), lambda f, z: np.log(f.softmax(z)), np.clip(z, -99, 99)
    )


@log_softmax_formula.bug("log_softmax", "log(softmax(z))")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return np.log(f.softmax(z, axis))


@log_softmax_formula.bug("log_softmax", "derivative 1 - p in place of δ_ij - p_j")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    def vjp(y_bar: Any, y: Any, _z: Any) -> Any:
        return (y_bar * (1 - np.exp(y)),)

    return f.custom_rule(lambda z: f.log_softmax(z, axis), vjp=vjp)(z)


@claim(
    "6.2.2",
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
    onehot = _one_hot(y, z)
    check.that(
        bool(np.all(np.where(onehot == 1, slope <= 0, slope >= 0))),
        "signs of the slopes",
        slope,
        "≤ 0 at y, else ≥ 0",
    )

    exact = proofs.slopes(check, lambda f, z, y: f.softmax_nll(z, y), z, y, core=(1, 0))
    formula = proofs.balls(lambda f, z: f.softmax(z) - onehot, z).values
    agree = np.frompyfunc(lambda a, b: a.overlaps(b), 2, 1)(exact, formula)
    check.that(bool(agree.all()), "softmax(z) - onehot(y)", formula, exact)
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
    "6.2.2",
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
