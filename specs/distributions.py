"""Section 6.2.2.4: other output distributions: learned variances, covariances, mixtures."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from ffverify.conformance import proofs
from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, points, rows
from ffverify.exact.formats import Array

# --- variances ---------------------------------------------------------------------------------


@claim(
    "6.2.2.4",
    "A Gaussian that learns its precision β has the loss ½(β(y-μ)² - log β). The best constant "
    "variance is the mean squared residual; independent outputs add up to a diagonal covariance.",
    functions=["heteroscedastic_nll"],
    examples=12,
    mean=points(low=-64, high=64),
    precision=points(low=2.0**-8, high=2.0**8),
    y=points(low=-64, high=64),
)
def heteroscedastic_gaussian(check: Check, mean: Array, precision: Array, y: Array) -> None:
    check.value("heteroscedastic_nll", mean, precision, y)
    for argument in (0, 1):
        check.gradient("heteroscedastic_nll", mean, precision, y, wrt=argument)

    def above_the_best(f: Any, mean: Any, precision: Any, y: Any) -> Any:
        best = len(y) / ((y - mean) ** 2).sum()  # 1 / mean squared residual
        shared = f.heteroscedastic_nll(mean, precision[0] + 0 * y, y).sum()
        return shared - f.heteroscedastic_nll(mean, best + 0 * y, y).sum()

    apart = np.where(mean == y, y + 1, y)  # no variance of 0
    proofs.positive(check, above_the_best, mean, precision, apart, or_zero=True)

    def independent(f: Any, mean: Any, precision: Any, y: Any) -> Any:
        constant = len(y) * np.log(8 * np.arctan(0 * mean[0] + 1)) / 2
        return f.heteroscedastic_nll(mean, precision, y).sum() + constant

    def diagonal(f: Any, mean: Any, precision: Any, y: Any) -> Any:
        return f.covariance_nll(mean, np.eye(len(y)) / np.sqrt(precision), y)

    proofs.equal(check, independent, diagonal, mean[:3], precision[:3], y[:3])


@heteroscedastic_gaussian.bug("heteroscedastic_nll", "the log term's sign")
def _(_f: Any, mean: Any, precision: Any, y: Any) -> Any:
    return (precision * (y - mean) ** 2 + np.log(precision)) / 2


@heteroscedastic_gaussian.bug(
    "heteroscedastic_nll", "a log of the deviation taken for the variance"
)
def _(_f: Any, mean: Any, precision: Any, y: Any) -> Any:
    return (precision * (y - mean) ** 2 - np.log(precision) / 2) / 2


@claim(
    "6.2.2.4",
    "The precision is the better-behaved parameter: as the parameter goes to 0 the slope in the "
    "variance grows like v⁻², in the deviation like s⁻³ while the slope of s² itself goes to 0, in "
    "the precision like β⁻¹ only; and its loss takes no division that could overflow.",
    functions=["heteroscedastic_nll"],
    examples=12,
    mean=points(low=-64, high=64),
    y=points(low=-64, high=64),
)
def precision_is_the_better_behaved_parameter(check: Check, mean: Array, y: Array) -> None:
    def of_variance(f: Any, mean: Any, v: Any, y: Any) -> Any:
        return f.heteroscedastic_nll(mean, 1 / v, y)

    def of_deviation(f: Any, mean: Any, s: Any, y: Any) -> Any:
        return f.heteroscedastic_nll(mean, 1 / (s * s), y)

    def of_precision(f: Any, mean: Any, beta: Any, y: Any) -> Any:
        return f.heteroscedastic_nll(mean, beta, y)

    # Slopes at 2^-10 and 2^-11 with a residual of 1, whose ratio's logarithm is the exponent. The
    # other term of the slope changes it by less than 2^-9 (of variance), 2^-18, and 2^-9.
    one, zero = np.ones(1, mean.dtype), np.zeros(1, mean.dtype)
    small = 2.0**-10 * one, 2.0**-11 * one
    measured = []
    for program, exponent in ((of_variance, 2), (of_deviation, 3), (of_precision, 1)):
        slopes = [check.gradient(program, zero, x, one, wrt=1, core=(0, 0, 0)) for x in small]
        growth = float(np.log2(slopes[1] / slopes[0])[0])
        measured.append(f"{growth:.4f}")
        off = abs(growth - exponent)
        check.that(off < 2.0**-8, f"exponent of the growth of {program.__name__}", growth, exponent)
    check.measured = f"slopes grow with exponents {', '.join(measured)} for v, s, β"
    squares = [check.gradient(lambda _f, s: s * s, s, core=(0,)) for s in small]
    check.equal(np.ravel(squares), [2.0**-9, 2.0**-10], "slope of s² at 2^-10, 2^-11")

    # Residuals are at most 2⁷, their squares 2¹⁴: the loss stays finite up to this precision.
    largest, moderate = 2.0 ** (check.fmt.emax - 16), 2.0 ** (check.fmt.emax // 4)
    for beta in (largest, 1 / largest):
        check.value("heteroscedastic_nll", mean, np.full_like(mean, beta), y)
    for beta in (moderate, 1 / moderate):
        check.gradient("heteroscedastic_nll", mean, np.full_like(mean, beta), y, wrt=1)


@precision_is_the_better_behaved_parameter.bug("heteroscedastic_nll", "precision form fed 1/v")
def _(f: Any, mean: Any, precision: Any, y: Any) -> Any:
    return f.heteroscedastic_nll(mean, 1 / precision, y)


@precision_is_the_better_behaved_parameter.bug("heteroscedastic_nll", "variance floored at 10⁻⁶")
def _(f: Any, mean: Any, precision: Any, y: Any) -> Any:
    return f.heteroscedastic_nll(mean, np.minimum(precision, 1e6), y)


# --- covariances -------------------------------------------------------------------------------


def _exact_det(M: Array) -> Fraction:
    """Give the determinant of a small matrix of fractions, by its first row."""
    if len(M) == 0:
        return Fraction(1)
    minors = (np.delete(M[1:], j, axis=1) for j in range(len(M)))
    return sum(
        ((-1) ** j * M[0, j] * _exact_det(m) for j, m in enumerate(minors)), start=Fraction(0)
    )


@claim(
    "6.2.2.4",
    "A covariance is best learned through a factor: Σ = BBᵀ is symmetric and positive semidefinite "
    "for every square B, and definite exactly where B has full rank.",
    functions=["covariance_nll"],
    examples=6,
    B=array(3, 3, low=-0.5, high=0.5),
    mean=array(3, low=-1, high=1),
    y=array(3, low=-1, high=1),
)
def covariance_from_factor(check: Check, B: Array, mean: Array, y: Array) -> None:
    exact = np.vectorize(Fraction, otypes=[object])(B.astype(float))
    covariance = exact @ exact.T
    check.equal(covariance, covariance.T, "BBᵀ and its transpose")
    # Semidefinite: no principal minor is negative. Definite: no leading one is 0 (Sylvester).
    chosen = [list(c) for size in (1, 2, 3) for c in combinations(range(3), size)]
    minors = [_exact_det(covariance[np.ix_(c, c)]) for c in chosen]
    check.that(min(minors) >= 0, "principal minors of BBᵀ", minors, "≥ 0")
    leading = [_exact_det(covariance[:size, :size]) for size in (1, 2, 3)]
    full_rank = _exact_det(exact) != 0
    check.that((min(leading) > 0) == full_rank, "BBᵀ definite", leading, f"B regular: {full_rank}")

    # Far from singular: ‖F⁻¹‖ ≤ 1/(3.5 - 1) and ‖F⁻¹(y - μ)‖ ≤ 0.8 in the maximum norm, so that the
    # slopes F⁻ᵀ(I - wwᵀ) and F⁻ᵀw are sums of terms of about 1, beside which they are accurate.
    factor = B + 4 * np.eye(3, dtype=B.dtype)
    check.value("covariance_nll", mean, factor, y)
    check.gradient("covariance_nll", mean, factor, y, wrt=1, scale=1.0)
    check.gradient("covariance_nll", mean, factor, y, scale=1.0)


@covariance_from_factor.bug("covariance_nll", "BᵀB in place of BBᵀ")
def _(f: Any, mean: Any, factor: Any, y: Any) -> Any:
    return f.covariance_nll(mean, np.swapaxes(factor, -1, -2), y)


@covariance_from_factor.bug("covariance_nll", "BB in place of BBᵀ")
def _(f: Any, mean: Any, factor: Any, y: Any) -> Any:
    residual = (y - mean)[..., None]
    white = np.linalg.solve(factor @ factor, residual)
    right = np.linalg.solve(factor, residual)
    wrong_distance = np.sum(residual * white, axis=(-2, -1)) - np.sum(right**2, axis=(-2, -1))
    return f.covariance_nll(mean, factor, y) + wrong_distance / 2


# --- mixtures ----------------------------------------------------------------------------------


def _mixture(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    return f.mixture_nll(logits, means, precisions, y)


def _bimodal(check: Check) -> Array:
    """Give 64 targets [64, 1] around -3 and 3."""
    random = np.random.default_rng(0)
    sides = np.where(np.arange(64) % 2 == 0, -3.0, 3.0)
    return (sides + random.standard_normal(64)).astype(check.fmt.carrier)[:, None]


@claim(
    "6.2.2.4",
    "A mixture density has the loss -log Σ π_k N(y; μ_k, 1/β_k), π on the simplex: stable at any "
    "distance, with responsibilities in its slopes, whatever the components' order, a Gaussian for "
    "k = 1; and it fits two modes that no Gaussian fits.",
    functions=["mixture_nll"],
    examples=5,
    logits=array(2),
    means=array(2, 1),
    precisions=array(2, low=0.25, high=4),
    y=rows(1, low=-1e4, high=1e4),
)
def mixture_density_output(
    check: Check, logits: Array, means: Array, precisions: Array, y: Array
) -> None:
    mixture = logits, means, precisions, y
    check.value("mixture_nll", *mixture)
    flipped = [a[::-1].copy() for a in mixture[:3]]
    proofs.equal(
        check,
        lambda f, a, m, b, y, *_: _mixture(f, a, m, b, y),
        lambda f, _a, _m, _b, y, a, m, b: _mixture(f, a, m, b, y),
        *mixture,
        *flipped,
    )
    standard = logits[:1], means[:1], np.ones_like(precisions[:1]), y
    proofs.equal(
        check, _mixture, lambda f, _l, m, _p, y: f.gaussian_nll(m[0] + 0 * y, y), *standard
    )

    def of_parameters(f: Any, theta: Any, y: Any) -> Any:
        logits, means, precisions = theta[..., :2], theta[..., 2:4], theta[..., 4:]
        return f.mixture_nll(logits, means[..., None], precisions, y)

    # ∂J/∂a_k = π_k - r_k, a difference of shares of 1, r_k that of component k in the density at y.
    theta = np.concatenate([np.ravel(a) for a in mixture[:3]])[None]
    check.gradient(of_parameters, theta, y[:1], core=(1, 1), scale=1.0)
    slopes = proofs.slopes(check, of_parameters, theta, y[:1], core=(1, 1))[:, :2]

    def responsibilities(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
        weights = f.softmax(logits)
        density = np.sqrt(precisions) * np.exp(-precisions * (y - means[:, 0]) ** 2 / 2)
        return weights - weights * density / (weights * density).sum(axis=1)[:, None]

    formula = proofs.balls(responsibilities, logits, means, precisions, y[:1], bits=512)
    proofs.agree(check, slopes, formula.values, "π - responsibilities")

    def total(f: Any, *args: Any) -> Any:
        return f.mixture_nll(*args).sum()

    data = _bimodal(check)
    kind = data.dtype.type
    modes = [np.array(a, kind) for a in ([0, 0], [[-3], [3]], [1, 1])]
    best = np.zeros(1, kind), data.mean(axis=0)[None], np.array([1 / data.var()], kind)
    losses = [
        float(check.backend.value(total, [*args, data], check.fmt.name)) for args in (modes, best)
    ]
    ratio = 2 * (losses[1] - losses[0])
    check.measured = f"twice the log-likelihood ratio, two modes to one Gaussian: {ratio:.1f}"
    # Two more components' parameters would gain more than 16.3 by chance once in 1,000 (χ², 3).
    check.that(ratio > 16.3, "twice the log-likelihood ratio", ratio, "> 16.3")


@mixture_density_output.bug("mixture_nll", "log of the sum of the densities")
def _(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    distance = np.sum((y[..., None, :] - means) ** 2, axis=-1)
    d = means.shape[-1]
    density = (precisions / (2 * np.pi)) ** (d / 2) * np.exp(-precisions * distance / 2)
    return -np.log(np.sum(f.softmax(logits) * density, axis=-1))


@mixture_density_output.bug("mixture_nll", "weights that do not sum to 1")
def _(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    return f.mixture_nll(logits, means, precisions, y) - f.logsumexp(logits)


@mixture_density_output.bug("mixture_nll", "the most likely component alone")
def _(f: Any, logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    d = means.shape[-1]
    distance = np.sum((y[..., None, :] - means) ** 2, axis=-1)
    log_density = (d * np.log(precisions / (2 * np.pi)) - precisions * distance) / 2
    return -np.max(f.log_softmax(logits) + log_density, axis=-1)
