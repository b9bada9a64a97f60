"""Section 6.3, first part: kinks, and the rectified linear unit with its generalisations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, integers, points, rows
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array
from ffverify.truth import textbook

UNITS_WITH_KINKS = [
    "relu", "absolute", "leaky_relu", "prelu", "clipped_linear", "hard_tanh", "hard_sigmoid",
    "hard_swish", "relu6", "elu", "selu", "softsign",
]  # fmt: skip
SLOPES = np.array([-1.0, 0.0625, 2.0])  # of the parametric unit
EDGES = [-3.0, -1.0, 1.0, 3.0, 6.0]


def difference_quotient(unit: str, kink: float, h: float) -> Any:
    """Give (g(kink + h) - g(kink)) / h for one unit, in balls."""
    definition = textbook.CATALOGUE[unit]
    here = BALLS.array(np.full(SLOPES.shape, kink))
    slopes = (BALLS.array(SLOPES),) if unit == "prelu" else ()
    change = definition.function(here + h, *slopes) - definition.function(here, *slopes)
    return change / h


@claim(
    "6.3",
    "Hidden units lack a derivative at few points only, and have left and right derivatives there; "
    "the one reported lies between these, and random inputs do not meet such points.",
    functions=UNITS_WITH_KINKS,
    each="unit",
)
def kinks_have_one_sided_derivatives(check: Check, unit: str) -> None:
    draws = np.random.default_rng(6).standard_normal(10**6)
    for kink in textbook.CATALOGUE[unit].kinks:
        for h in (2.0**-50, -(2.0**-50)):
            # On either side |g''| ≤ 4, so a quotient is within 2h of its limit.
            with BALLS.precision(400):
                coarse, fine = (difference_quotient(unit, kink, s) for s in (h, h * abs(h)))
                exists = bool(np.all(abs(coarse - fine) < BALLS.array(4 * abs(h))))
            where = f"difference quotients of {unit} at {kink} from one side"
            check.that(exists, where, f"{coarse.values}, {fine.values}", "one limit")
        at = np.full(SLOPES.shape, kink, dtype=check.fmt.carrier)
        check.gradient(unit, at, *([SLOPES.astype(at.dtype)] if unit == "prelu" else []))
        # The chance of a hit is below 10⁶ · 0.4 · ulp(6) < 4e-10.
        hits = int(np.sum(draws == kink))
        check.that(hits == 0, f"random inputs on the kink of {unit} at {kink}", hits, 0)


@kinks_have_one_sided_derivatives.bug("relu", "derivative 2 at 0")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.relu, vjp=lambda y_bar, _y, z: (y_bar * np.where(z > 0, 1.0, 2.0 * (z == 0)),)
    )(z)


@kinks_have_one_sided_derivatives.bug("hard_tanh", "derivative 0 + 1 + 1 at the ends: both pieces")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(
        f.hard_tanh,
        vjp=lambda y_bar, _y, z: (y_bar * ((abs(z) <= 1) * 1.0 + (abs(z) == 1) * 1.0),),
    )(z)


@claim(
    "6.3",
    "An active ReLU is linear: z > 0 gives z, with derivative 1 and second derivative 0; z < 0 gives "
    "0, 0 and 0; all of this exactly.",
    functions=["relu"],
    z=points(),
)
def relu_is_linear_when_active(check: Check, z: Array) -> None:
    z = np.where(z == 0, z + 1, z)
    active = z > 0
    check.equal(check.value("relu", z), np.where(active, z, 0), "relu(z)")
    check.equal(check.gradient("relu", z), active, "relu'(z)")
    second = check.value(lambda f, z: f.second_derivative(f.relu, z), z, core=(0,))
    check.equal(second, 0, "relu''(z)")


@relu_is_linear_when_active.bug("relu", "softplus instead")
def _(f: Any, z: Any) -> Any:
    return f.softplus(z)


@relu_is_linear_when_active.bug("relu", "a surrogate gradient: softplus's")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.relu, vjp=lambda y_bar, _y, z: (y_bar * f.sigmoid(z),))(z)


@relu_is_linear_when_active.bug("relu", "derivative 1 below 2^-20 too: a leaky neighbourhood of 0")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.relu, vjp=lambda y_bar, _y, z: (y_bar * (z > -(2.0**-20)),))(z)


@claim(
    "6.3",
    "A ReLU that is inactive on every example does not learn: the gradients for its weights and its "
    "bias are exactly 0.",
    functions=["affine", "relu"],
    x=rows(3, low=-4, high=4),
    W=array(3, 2),
    b=array(2),
)
def inactive_relu_does_not_learn(check: Check, x: Array, W: Array, b: Array) -> None:
    def layer(f: Any, x: Any, W: Any, b: Any) -> Any:
        return f.relu(f.affine(x, W, b))

    b = b.copy()
    b[0] = -64  # |x W| ≤ 48
    kind = check.fmt.name
    h = check.backend.value(layer, [x, W, b], kind)
    check.equal(h[:, 0], 0, "an inactive unit")
    for_W, for_b = check.backend.vjp(layer, [x, W, b], np.ones_like(h), kind, wrt=[1, 2])
    check.equal(for_W[:, 0], 0, "gradient of its weights")
    check.equal(for_b[0], 0, "gradient of its bias")
    alone = [x, W[:, :1], b[:1]]
    passed_on = check.backend.vjp(layer, alone, np.ones_like(h[:, :1]), kind, wrt=[0])[0]
    check.equal(passed_on, 0, "gradient that it passes on")


@inactive_relu_does_not_learn.bug("relu", "leaky slope")
def _(f: Any, z: Any) -> Any:
    return f.leaky_relu(z, 0.01)


@inactive_relu_does_not_learn.bug("relu", "straight-through gradient")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(f.relu, vjp=lambda y_bar, _y, _z: (y_bar,))(z)


@claim(
    "6.3",
    "Biases that start at a small positive value make most ReLUs active at first: with b = 0.1 all "
    "with |wᵀx| < 0.1 are, and of 40 random networks more units have a gradient than with b = 0.",
    functions=["affine", "relu"],
    examples=8,
    seed=integers(0, 10**6),
)
def positive_bias_activates_relus(check: Check, seed: int) -> None:
    networks, units, n = 40, 16, 8
    kind = check.fmt.carrier
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((1, n)).astype(kind)
    W = (rng.standard_normal((n, networks * units)) / n).astype(kind)
    counts, u = [], check.fmt.unit_roundoff

    def layer(f: Any, x: Any, W: Any, b: Any) -> Any:
        return f.relu(f.affine(x, W, b))

    for bias in (0.0, 0.1):
        b = np.full(networks * units, bias, dtype=kind)
        active = check.backend.value(layer, [x, W, b], check.fmt.name)[0] > 0
        cotangent = np.ones((1, len(b)), dtype=kind)
        (slopes,) = check.backend.vjp(layer, [x, W, b], cotangent, check.fmt.name, wrt=[2])
        check.equal(slopes != 0, active, f"units with a gradient are the active ones, b = {bias}")
        counts.append(active.reshape(networks, units).sum(axis=1))
    # Exact sums by Fractions; a computed one is within (n + 1)u of the sum of sizes (Higham §3.1).
    exact = BALLS.array(x) @ BALLS.array(W)
    size = BALLS.array(np.abs(x)) @ BALLS.array(np.abs(W)) + 0.1
    small = abs(exact)[0] < (BALLS.array(b) - (n + 2) * u * size[0])
    check.that(bool(np.all(active[small])), "units with |wᵀx| < b are active", active[small], True)
    more, fewer = int(np.sum(counts[1] > counts[0])), int(np.sum(counts[1] < counts[0]))
    check.measured = (
        f"of {networks} networks {more} have more active units with b = 0.1 and {fewer} have fewer "
        f"(sign test: a chance of 2^-{more} were it all the same)"
    )
    # A sign test: were both biases alike, this would happen with a chance below 1e-6.
    check.that(
        fewer == 0 and 2.0**-more < 1e-6,
        "networks with more, and with fewer active units for b = 0.1 than for b = 0",
        (more, fewer),
        "at least 20, and none",
    )


@positive_bias_activates_relus.bug("affine", "bias subtracted")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.affine(x, W, -b)


@positive_bias_activates_relus.bug("relu", "a threshold above 0")
def _(f: Any, z: Any) -> Any:
    return f.relu(z - 0.0625)


@positive_bias_activates_relus.bug("affine", "bias forgotten")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.affine(x, W, 0 * b)


@claim(
    "6.3",
    "max(0, z) + α min(0, z): α = -1 is |z|, 0.01 the leaky unit; a learned α has the gradient "
    "min(0, z), summed over everything that shares it.",
    functions=["absolute", "leaky_relu", "prelu", "relu"],
    examples=12,
    z=points(),
    images=array(4, 3, low=-8, high=8),
    alpha=array(3),
)
def generalised_rectifiers(check: Check, z: Array, images: Array, alpha: Array) -> None:
    minus_one, zero = np.full_like(z, -1), np.zeros_like(z)
    absolute, rectified = check.value("absolute", z), check.value("relu", z)
    check.equal(check.value("prelu", z, minus_one), absolute, "prelu with α = -1, which is |z|")
    check.equal(check.value("prelu", z, zero), rectified, "prelu with α = 0, which is relu")
    check.gradient("absolute", z)
    check.value("leaky_relu", z)
    check.gradient("leaky_relu", z)
    check.value("leaky_relu", z, slope=0.25)

    def per_channel(f: Any, images: Any, alpha: Any) -> Any:
        return f.prelu(images, alpha)

    def shared(f: Any, images: Any, alpha: Any) -> Any:
        return f.prelu(images, alpha[0])

    check.gradient(per_channel, images, alpha, core=(0, 0))
    with BALLS.precision(2400):  # sums of floats are exact here
        negative = BALLS.array(np.minimum(images, 0))
        for program, sums in ((per_channel, negative.sum(axis=0)), (shared, negative.sum())):
            given, ones = [images, alpha], np.ones_like(images)
            (found,) = check.backend.vjp(program, given, ones, check.fmt.name, wrt=[1])
            exact: Any = sums if program is per_channel else np.stack([sums, 0 * sums, 0 * sums])
            # Summing n numbers of one sign is good to n roundings, relative (Higham §4.2).
            bound = abs(exact) * (images.size * check.fmt.unit_roundoff)
            near = bool(np.all(abs(BALLS.array(found) - exact) <= bound))
            check.that(near, "gradient of α: the sum of min(0, z)", found, str(exact.values))


def _broadcast(z: Any, alpha: Any) -> tuple[Any, Any]:
    """Give both the same shape, in a way that is differentiated."""
    return z + 0 * alpha, alpha + 0 * z


@generalised_rectifiers.bug("prelu", "branch from the output's sign, wrong where α < 0")
def _(f: Any, z: Any, alpha: Any) -> Any:
    def vjp(y_bar: Any, y: Any, z: Any, alpha: Any) -> tuple[Any, Any]:
        return y_bar * np.where(y > 0, 1.0, alpha), y_bar * np.where(y > 0, 0.0, z)

    return f.custom_rule(f.prelu, vjp=vjp)(*_broadcast(z, alpha))


@generalised_rectifiers.bug("prelu", "gradient of α from the positive side")
def _(f: Any, z: Any, alpha: Any) -> Any:
    def vjp(y_bar: Any, _y: Any, z: Any, alpha: Any) -> tuple[Any, Any]:
        return y_bar * np.where(z > 0, 1.0, alpha), y_bar * np.where(z > 0, z, 0.0)

    return f.custom_rule(f.prelu, vjp=vjp)(*_broadcast(z, alpha))


@generalised_rectifiers.bug("leaky_relu", "the default slope whatever is asked for")
def _(f: Any, z: Any, slope: float = 0.01) -> Any:  # noqa: ARG001 - the bug
    return f.leaky_relu(z)


@claim(
    "6.3",
    "A maxout unit gives the largest element of its group, and the gradient to it; it is convex and "
    "piecewise linear, has k times the parameters, and can be a ReLU, |z| or a leaky unit.",
    functions=["absolute", "affine", "leaky_relu", "maxout", "relu"],
    examples=15,
    z=rows(6),
    x=rows(2, low=-8, high=8),
    W=array(2, 6),
    b=array(6),
)
def maxout_takes_group_maximum(check: Check, z: Array, x: Array, W: Array, b: Array) -> None:
    value = check.value("maxout", z, k=3)
    check.equal(value, z.reshape(-1, 2, 3).max(axis=-1), "the largest of each group of 3")
    slopes = check.gradient("maxout", z, k=3).reshape(-1, 2, 3)
    total = slopes.astype(np.float64).sum(axis=-1)
    # Ties may share the gradient: m parts of 1/m, each rounded, miss 1 by at most u in all.
    whole = bool(np.all(abs(total - 1) <= check.fmt.unit_roundoff) and np.all(slopes >= 0))
    check.that(whole, "parts of the gradient in each group", slopes, "not negative, 1 in all")
    below = z.reshape(-1, 2, 3) < value[..., None]
    check.equal(slopes[below], 0, "gradient to elements that are not the largest")

    first = z[:, 0]
    for unit, other in (("relu", 0 * first), ("absolute", -first), ("leaky_relu", 0.25 * first)):
        pair = np.stack([first, other], axis=-1).astype(check.fmt.carrier)
        options: dict[str, Any] = {"slope": 0.25} if unit == "leaky_relu" else {}
        alone = check.value(unit, first, **options)
        check.equal(check.value("maxout", pair, k=2)[:, 0], alone, f"maxout as {unit}")

    def layer(f: Any, x: Any) -> Any:
        return f.maxout(f.affine(x, BALLS.array(W), BALLS.array(b)), 3)

    def bulge(f: Any, x: Any) -> Any:
        return layer(f, x) + layer(f, x[::-1]) - 2 * layer(f, (x + x[::-1]) / 2)

    proofs.positive(check, bulge, x, or_zero=True, where="convexity: half the sum - the middle")
    outputs = check.value(lambda f, x, W, b: f.maxout(f.affine(x, W, b), 3), x[:3], W, b).shape[-1]
    check.that(W.shape[1] == 3 * outputs, "weight vectors per unit", W.shape[1] / outputs, 3)


@maxout_takes_group_maximum.bug("maxout", "groups interleaved: every m-th element")
def _(f: Any, z: Any, k: int) -> Any:
    rearranged = np.swapaxes(np.reshape(z, (*z.shape[:-1], k, -1)), -1, -2)
    return f.maxout(np.reshape(rearranged, z.shape), k)


@maxout_takes_group_maximum.bug("maxout", "the whole gradient to every one of equal elements")
def _(f: Any, z: Any, k: int) -> Any:
    def vjp(y_bar: Any, y: Any, z: Any) -> tuple[Any]:
        largest = np.reshape(z, (*y.shape, k)) == y[..., None]
        return (np.reshape(y_bar[..., None] * largest, z.shape),)

    return f.custom_rule(lambda z: f.maxout(z, k), vjp=vjp)(z)


@maxout_takes_group_maximum.bug("maxout", "the element of largest magnitude")
def _(f: Any, z: Any, k: int) -> Any:
    return f.maxout(f.absolute(z), k)


@claim(
    "6.3",
    "With enough pieces a maxout unit comes near any convex function: k tangents of g on [0, 1] miss "
    "it by between min g''/(8k²) and max g''/(8k²).",
    functions=["affine", "maxout"],
    examples=12,
    bend=array(1, low=0.25, high=4),
    rate=array(1, low=-2, high=2),
)
def maxout_approximates_convex_functions(check: Check, bend: Array, rate: Array) -> None:
    a, s = float(bend[0]), float(rate[0])

    def g(x: Any) -> Any:
        return a * x * x + np.exp(s * x)

    def slope(x: Any) -> Any:
        return 2 * a * x + s * np.exp(s * x)

    # g'' = 2a + s² e^(sx) is largest and smallest at the ends.
    curvature = [2 * a + s * s * e for e in sorted((1.0, float(np.exp(s))))]
    for k in (2, 4, 8, 16, 32):
        t = (BALLS.array(np.arange(k)) + 0.5) / k
        W, b = (
            p.values.astype(float).astype(check.fmt.carrier)
            for p in (slope(t), g(t) - t * slope(t))
        )
        # g less a line is convex, so largest where another line takes over, or at an end.
        meet = np.clip(-np.diff(b.astype(float)) / np.diff(W.astype(float)), 0, 1)
        x = np.concatenate([[0.0], meet, [1.0]]).astype(check.fmt.carrier)
        answers = check.value(
            lambda f, x, W, b, k=k: f.maxout(f.affine(x, W, b), k), x[:, None], W[None], b
        )
        error = (g(BALLS.array(x)) - BALLS.array(answers[:, 0])).values.astype(float)
        rounding = 8 * check.fmt.unit_roundoff * float(np.max(abs(W)) + np.max(abs(b)))
        low, high = (c / (8 * k * k) for c in curvature)
        check.that(
            bool(np.all(error >= -rounding) and low - rounding <= error.max() <= high + rounding),
            f"largest error of {k} tangents",
            error.max(),
            f"between {low} and {high}, up to {rounding}",
        )


@maxout_approximates_convex_functions.bug("maxout", "minimum of the lines")
def _(f: Any, z: Any, k: int) -> Any:
    return -f.maxout(-z, k)


@maxout_approximates_convex_functions.bug("maxout", "a smooth maximum")
def _(f: Any, z: Any, k: int) -> Any:
    return f.logsumexp(np.reshape(z, (*z.shape[:-1], -1, k)), axis=-1)
