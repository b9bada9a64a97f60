"""Beyond the chapter: every option and every argument of a function acts on its derivatives too.

An implementation can heed an option in its value and forget it in a derivative, or take an argument for
a constant in one of the two modes. Both are planted here, for each option and each argument.
"""

from __future__ import annotations

import numpy as np

from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array
from ffverify.exact.formats import Array

from .planted import plant_forgetfulness

# Accuracy is absolute where terms cancel: those of a softmax's derivative are up to 1 in size, those
# of the others' values and derivatives at the inputs below up to 16.
SIZE = 16.0


def _apart(*arrays: Array) -> list[Array]:
    """Move numbers apart, each array's its own way: among equal ones much is 0 whatever it is made of."""
    return [x + direction(k, *x.shape)[-1].astype(x.dtype) for k, x in enumerate(arrays, 1)]


@claim(
    "beyond",
    "What softmax, its logarithm and log Σ e^z do along the last axis they do along any axis, and so "
    "do their derivatives in both modes.",
    functions=["log_softmax", "logsumexp", "softmax"],
    each="function",
    examples=2,
    z=array(2, 2, 2),
)
def softmax_along_any_axis(check: Check, function: str, z: Array) -> None:
    (z,) = _apart(z)
    for axis in (0, 1):
        check.derivatives(function, z, scale=1.0, axis=axis)


@claim(
    "beyond",
    "Hidden units obey their parameters: the slope of a leaky ReLU, the α of ELU and PReLU, the groups "
    "of maxout, templates and width of RBF, weights and bias. So do their derivatives, in both modes.",
    functions=["affine", "elu", "leaky_relu", "maxout", "prelu", "rbf"],
    each="unit",
    examples=2,
    z=array(2, 6, low=-2, high=2),
    x=array(2, 2, low=-2, high=2),
    W=array(3, 2, low=-2, high=2),
    b=array(3),
    sigma=array(2, low=1, high=2),
)
def units_obey_their_parameters(
    check: Check, unit: str, z: Array, x: Array, W: Array, b: Array, sigma: Array
) -> None:
    z, x, W, b = _apart(z, x, W, b)
    given: dict[str, tuple[list[Array], dict[str, float]]] = {
        "leaky_relu": ([z], {"slope": 0.25}),
        "elu": ([z], {"alpha": 0.625}),
        "prelu": ([z, z[::-1].copy()], {"scale": SIZE}),
        "maxout": ([z], {"k": 3}),
        "rbf": ([x, W, sigma], {"scale": SIZE}),
        "affine": ([x, W.T.copy(), b], {"scale": SIZE}),
    }
    args, options = given[unit]
    check.derivatives(unit, *args, **options)


@claim(
    "beyond",
    "A loss has a slope in each of its arguments, in the target as well, and in both modes.",
    functions=[
        "absolute_error", "bernoulli_nll", "covariance_nll", "gaussian_nll", "heteroscedastic_nll",
        "mixture_nll", "softmax_nll", "squared_error",
    ],
    each="loss",
    examples=2,
    z=array(2, 2, low=-2, high=2),
    y=array(2, 2, low=-2, high=2),
    precision=array(2, 2, low=0.5, high=2),
)  # fmt: skip
def losses_obey_every_argument(
    check: Check, loss: str, z: Array, y: Array, precision: Array
) -> None:
    z, y = _apart(z, y)
    labels = np.array([0, 1])
    factor = np.stack([np.diag(p) for p in precision]) + z[:, :, None] / 8  # far from singular
    means = np.stack([z, y], axis=1)
    given = {
        "bernoulli_nll": [z, np.stack([labels, labels])],
        "softmax_nll": [z, labels],
        "heteroscedastic_nll": [z, precision, y],
        "covariance_nll": [z, factor, y],
        "mixture_nll": [z, means, precision, y],
    }
    check.derivatives(loss, *given.get(loss, [z, y]), scale=SIZE)


for declared in (softmax_along_any_axis, units_obey_their_parameters, losses_obey_every_argument):
    for function in declared.functions:
        plant_forgetfulness(declared, function)
