"""Section 6.2.2.3: softmax units and their negative log-likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import drawing, labels, one_of, rows
from ffverify.conformance.pictures import Curve, Panel, or_gap
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program
from ffverify.strategies import arrays
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.derivatives import LIBRARY_ROUNDINGS
from ffverify.verdicts.verdict import judge

CLASSES = 3
OFFSETS = [0.0, 1e3, 1e15]

# Where scale=1.0 is given, accuracy is absolute: p is a share of 1, p - 1 a difference of numbers
# of size 1, log Σ e^(z - max z) the log of a sum of at least 1, so all err by a few u.


def _whole_numbers(shape_of: Any, *, bits: int) -> Any:
    """Draw integers of so many bits, or (negative) of so many less than a format's precision."""
    size = f"{bits} bits" if bits > 0 else f"{-bits} bits less than the format's precision"

    @drawing(f"a batch of whole numbers of {size}")
    def make(fmt: Format, batch: int) -> st.SearchStrategy[Any]:
        size = 2.0 ** (bits if bits > 0 else fmt.precision + bits)
        return arrays(fmt.name, shape_of(batch), min_value=-size, max_value=size).map(np.rint)

    return make


def one_hot(y: Array, z: Array) -> Array:
    """Give one row per label, of z's width and dtype, with a 1 at the label."""
    codes: Array = (np.arange(z.shape[-1]) == y[:, None]).astype(z.dtype)
    return codes


@claim(
    "6.2.2.3",
    "softmax gives a distribution: entries of at least 0 that sum to 1, in the order of the logits, "
    "permuted as they are, along any axis.",
    functions=["softmax"],
    examples=8,
    z=rows(CLASSES),
)
def softmax_on_simplex(check: Check, z: Array) -> None:
    def along(axis: int) -> Any:
        return lambda f, z: f.softmax(z, axis=axis)

    p = check.value("softmax", z, scale=1.0)
    check.that(bool(np.all(p >= 0)), "probabilities", p, "≥ 0")
    # A row divided by its own sum adds up to 1 within n additions, n divisions and a few library
    # roundings, whatever its conditioning (Higham, §3.1).
    roundings = (LIBRARY_ROUNDINGS + 2 * CLASSES) * check.fmt.unit_roundoff
    total = p.astype(np.float64).sum(axis=1)
    check.that(bool(np.all(np.abs(total - 1) <= roundings)), "Σ p", total, f"1 ± {roundings}")
    order = np.argsort(z, axis=1)
    ranked = np.take_along_axis(p, order, axis=1).astype(np.float64)
    falls = ranked[:, 1:] < ranked[:, :-1] * (1 - roundings)  # two logits that are all but equal
    check.that(not falls.any(), "probabilities in the order of the logits", ranked, "ascending")
    check.value("softmax", z[:, ::-1].copy(), scale=1.0)
    check.value(along(0), z, scale=1.0)
    check.value(along(1), z.reshape(-1, CLASSES, 1), scale=1.0)
    proofs.equal(check, lambda f, z: f.softmax(z), lambda f, z: f.softmax(z[:, ::-1])[:, ::-1], z)
    proofs.equal(
        check, along(0), lambda f, z: np.swapaxes(f.softmax(np.swapaxes(z, 0, 1)), 0, 1), z
    )
    proofs.equal(check, lambda f, z: f.softmax(z).sum(axis=1), lambda _f, z: 1 + 0 * z[:, 0], z)


@softmax_on_simplex.bug("softmax", "maximum taken over the whole array")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    e = np.exp(z - np.max(z))
    return e / np.sum(e, axis=axis, keepdims=True)


@softmax_on_simplex.bug("softmax", "always along the last axis")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    return f.softmax(z) + 0 * axis


def _shifted(f: Any, z: Any, c: Any) -> Any:
    return f.softmax(z + c)


@claim(
    "6.2.2.3",
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
    check.value(_shifted, z, c, core=(1, 1))
    proofs.equal(check, _shifted, lambda f, z, _c: f.softmax(z), z, c)
    check.value("softmax", anything)  # at the rounded sum, whatever was added
    check.gradient(
        _shifted, z, c, cotangent=one_hot(np.arange(len(z)) % CLASSES, z), core=(1, 1), scale=1.0
    )


@softmax_shift_invariance.plot("A shift of all logits changes nothing, if the maximum is taken off")
def _(check: Check) -> list[Panel]:
    c = np.linspace(-1000, 1000, 401).round().astype(check.fmt.carrier)[:, None]
    z = np.broadcast_to(np.array([0, 1, 2], c.dtype), (len(c), CLASSES))

    def as_printed(f: Any, z: Any, c: Any) -> Any:
        e = f.exp(z + c)
        return e / e.sum(-1)[:, None]

    def computed(program: Program) -> Array:
        return or_gap(z, lambda: check.backend.value(program, [z, c], check.fmt.name))

    found = {"softmax(z + c)": computed(_shifted), "exp / Σ exp": computed(as_printed)}
    exact = truth.value(
        lambda z, c: _shifted(textbook.namespace, z, c), [z, c], check.fmt, core=(1, 1)
    )
    judged = {name: judge(p, exact, check.fmt) for name, p in found.items()}
    shift = c[:, 0]
    return [
        Panel(
            "share of the third of the logits c, c + 1, c + 2", "shift c", "probability",
            [Curve(name, shift, p[:, -1]) for name, p in found.items()],
        ),
        Panel(
            "largest error, and what the bound allows", "shift c", f"ulps of {check.fmt.name}",
            [
                *(
                    Curve(name, shift, np.maximum(one.error_ulps.max(axis=1), 0.1))
                    for name, one in judged.items()
                ),
                Curve("allowed", shift, judged["exp / Σ exp"].allowed_ulps.min(axis=1), "exact"),
            ],
            log="y",
        ),
    ]  # fmt: skip


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
    "6.2.2.3",
    "softmax and its logarithm never overflow: logits of any finite size and spread, and classes "
    "excluded by -inf, give no NaN, and one far above the rest gets 1 and the rest 0.",
    functions=["softmax", "log_softmax", "logsumexp"],
    examples=12,
    z=rows(CLASSES),
    masked=_with_absent_classes,
)
def softmax_never_overflows(check: Check, z: Array, masked: Array) -> None:
    p = check.value("softmax", z)
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
    check.gradient("logsumexp", z[:2], scale=1.0)


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
    "6.2.2.3",
    "log softmax(z)_i = z_i - log Σ exp(z_j), accurate where softmax itself underflows.",
    functions=["log_softmax"],
    examples=12,
    z=rows(CLASSES),
)
def log_softmax_formula(check: Check, z: Array) -> None:
    check.value("log_softmax", z, scale=1.0)
    check.gradient("log_softmax", z, cotangent=one_hot(np.arange(len(z)) % CLASSES, z), scale=1.0)
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
    "6.2.2.3",
    "log Σ exp z is a soft maximum: max z ≤ lse ≤ max z + log n, and it tends to max z as the gap "
    "grows; its derivative is softmax(z), which sums to 1 however large the logits.",
    functions=["logsumexp"],
    examples=12,
    z=rows(CLASSES, low=-64, high=64),
    offset=one_of(*OFFSETS),
)
def logsumexp_is_soft_maximum(check: Check, z: Array, offset: float) -> None:
    def log_sum(f: Any, z: Any) -> Any:
        return f.logsumexp(z)

    ties = np.repeat(np.array(OFFSETS, z.dtype)[:, None], CLASSES, axis=1)
    logits = np.concatenate([z + z.dtype.type(offset), ties])
    check.value("logsumexp", logits, scale=1.0)
    ones = np.ones_like(logits[:, 0])
    slope = check.backend.vjp(log_sum, [logits], ones, check.fmt.name, wrt=[0])[0]
    roundings = (LIBRARY_ROUNDINGS + 2 * CLASSES) * check.fmt.unit_roundoff  # as for softmax
    total = slope.astype(np.float64).sum(axis=1)
    check.that(
        bool(np.all(np.abs(total - 1) <= roundings)), "sum of the slopes", total, f"1 ± {roundings}"
    )
    check.gradient("logsumexp", logits, scale=1.0)
    ordered = np.sort(z, axis=1)
    proofs.positive(check, lambda f, z: f.logsumexp(z) - z[:, -1], ordered, where="lse - max z")
    proofs.positive(
        check,
        lambda f, z: z[:, -1] + np.log(0 * z[:, 0] + CLASSES) - f.logsumexp(z),
        ordered,
        where="max z + log n - lse",
        or_zero=True,
    )
    proofs.positive(
        check,
        lambda f, z: z[:, -1] + (CLASSES - 1) * np.exp(z[:, -2] - z[:, -1]) - f.logsumexp(z),
        ordered,
        where="max z + (n - 1)e^-gap - lse",
    )
    exact = proofs.slopes(check, log_sum, z, core=(1,))
    proofs.agree(
        check, exact, proofs.balls(lambda f, z: f.softmax(z), z).values, "derivative of lse"
    )


@logsumexp_is_soft_maximum.bug("logsumexp", "derivative exp(z - lse)")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    def vjp(y_bar: Any, y: Any, z: Any) -> Any:
        return (np.expand_dims(y_bar, axis) * np.exp(z - np.expand_dims(y, axis)),)

    return f.custom_rule(lambda z: f.logsumexp(z, axis), vjp=vjp)(z)


@logsumexp_is_soft_maximum.bug("logsumexp", "the maximum itself")
def _(_f: Any, z: Any, axis: int = -1) -> Any:
    return np.max(z, axis=axis)
