"""The catalogue: one naive textbook definition per function that a backend may provide.

Each is the formula of the book in plain NumPy, never optimised and never made stable: in exact
arithmetic it needs no tricks. Run on a ``PreciseArray`` it is the truth; run on floats it shows
what the formula costs. Constants that have a closed form (√2, π) are computed, not written down.

``CATALOGUE["softmax"]`` is a ``Definition``; ``namespace`` gives all of them as attributes, so a
program ``lambda f, x: f.relu(f.affine(x, W, b))`` runs on truth and on any backend alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffverify.exact.arrays import PreciseArray, elementwise

from .curvature import second_derivative


@dataclass(frozen=True)
class Definition:
    """A function of the catalogue.

    Attributes
    ----------
    name, section
        The name under which backends provide it, and where the chapter has it.
    function
        The textbook formula.
    signature
        A gufunc signature; ``core`` counts the axes of each argument that it names.
    domain
        The open interval of differentiable arguments.
    kinks
        Where the derivative jumps.
    data
        Positions of arguments that are data (labels), not differentiated.
    """

    name: str
    section: str
    function: Callable[..., Any]
    signature: str
    domain: tuple[float, float]
    kinks: tuple[float, ...]
    data: tuple[int, ...]

    @property
    def core(self) -> tuple[int, ...]:
        """Number of axes of each argument that one application takes."""
        operands = re.findall(r"\(([\w,]*)\)", self.signature.split("->")[0])
        return tuple(len([axis for axis in operand.split(",") if axis]) for operand in operands)


CATALOGUE: dict[str, Definition] = {}


def definition(
    section: str,
    signature: str = "()->()",
    *,
    domain: tuple[float, float] = (-math.inf, math.inf),
    kinks: tuple[float, ...] = (),
    data: tuple[int, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a textbook definition, under the function's own name."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        CATALOGUE[name] = Definition(name, section, function, signature, domain, kinks, data)
        return function

    return declare


def _one(like: Any) -> Any:
    """Give the number 1 in the arithmetic of what it will stand beside."""
    return like.arithmetic.array(1) if isinstance(like, PreciseArray) else np.ones_like(like)


def _pi(like: Any) -> Any:
    return 4 * np.arctan(_one(like))


def _special(name: str) -> Callable[[Any], Any]:
    on_floats = np.vectorize(getattr(math, name), otypes=[float])
    return lambda x: elementwise(name, x) if isinstance(x, PreciseArray) else on_floats(x)


_erf, _erfc = _special("erf"), _special("erfc")

# --- elementary functions ---------------------------------------------------------------------


@definition("6.5")
def exp(x: Any) -> Any:
    return np.exp(x)


@definition("6.5", domain=(0, math.inf))
def log(x: Any) -> Any:
    return np.log(x)


@definition("6.5", domain=(-1, math.inf))
def log1p(x: Any) -> Any:
    return np.log(1 + x)


@definition("6.5")
def expm1(x: Any) -> Any:
    return np.exp(x) - 1


@definition("6.5", domain=(0, math.inf))
def sqrt(x: Any) -> Any:
    return np.sqrt(x)


@definition("6.3")
def erf(x: Any) -> Any:
    return _erf(x)


@definition("6.3")
def erfc(x: Any) -> Any:
    return _erfc(x)


# --- hidden units -----------------------------------------------------------------------------


@definition("6.3")
def identity(z: Any) -> Any:
    return 1 * z


@definition("6.1", kinks=(0,))
def relu(z: Any) -> Any:
    return np.maximum(0, z)


@definition("6.3", kinks=(0,))
def absolute(z: Any) -> Any:
    return np.abs(z)


@definition("6.3", kinks=(0,))
def leaky_relu(z: Any, slope: float = 0.01) -> Any:
    return np.maximum(0, z) + slope * np.minimum(0, z)


@definition("6.3", "(),()->()", kinks=(0,))
def prelu(z: Any, alpha: Any) -> Any:
    return np.maximum(0, z) + alpha * np.minimum(0, z)


@definition("6.3", "(n)->(m)")
def maxout(z: Any, k: int) -> Any:
    return np.max(np.reshape(z, (*z.shape[:-1], z.shape[-1] // k, k)), axis=-1)


@definition("6.2.2")
def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


@definition("6.3")
def tanh(z: Any) -> Any:
    return (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z))


@definition("6.2.2")
def softplus(z: Any) -> Any:
    return np.log(1 + np.exp(z))


@definition("6.2.2")
def log_sigmoid(z: Any) -> Any:
    return -np.log(1 + np.exp(-z))


@definition("6.3", kinks=(-1, 1))
def hard_tanh(z: Any) -> Any:
    return np.maximum(-1, np.minimum(1, z))


@definition("6.2.2", kinks=(0, 1))
def clipped_linear(z: Any) -> Any:
    return np.maximum(0, np.minimum(1, z))


@definition("6.3", kinks=(-3, 3))
def hard_sigmoid(z: Any) -> Any:
    return np.maximum(0, np.minimum(6, z + 3)) / 6


@definition("6.3", kinks=(-3, 3))
def hard_swish(z: Any) -> Any:
    return z * np.maximum(0, np.minimum(6, z + 3)) / 6


@definition("6.3", kinks=(0, 6))
def relu6(z: Any) -> Any:
    return np.maximum(0, np.minimum(6, z))


@definition("6.3", kinks=(0,))
def elu(z: Any, alpha: float = 1.0) -> Any:
    return np.where(z > 0, z, alpha * (np.exp(np.minimum(z, 0)) - 1))


@definition("6.3", kinks=(0,))
def selu(z: Any) -> Any:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return np.where(z > 0, scale * z, scale * alpha * (np.exp(np.minimum(z, 0)) - 1))


@definition("6.3")
def gelu(z: Any) -> Any:
    return z / 2 * (1 + _erf(z * np.sqrt(_one(z) / 2)))


@definition("6.3")
def gelu_tanh(z: Any) -> Any:
    return z / 2 * (1 + tanh(np.sqrt(2 / _pi(z)) * (z + 0.044715 * z**3)))


@definition("6.3")
def silu(z: Any) -> Any:
    return z / (1 + np.exp(-z))


@definition("6.3")
def mish(z: Any) -> Any:
    return z * tanh(np.log(1 + np.exp(z)))


@definition("6.3", kinks=(0,))
def softsign(z: Any) -> Any:
    return z / (1 + np.abs(z))


@definition("6.3")
def tanhshrink(z: Any) -> Any:
    return z - tanh(z)


@definition("6.3", "(d),(m,d),()->(m)")
def rbf(x: Any, W: Any, sigma: Any) -> Any:
    distance = np.sum((W - x[..., None, :]) ** 2, axis=-1)
    return np.exp(-distance / np.expand_dims(sigma, -1) ** 2)


@definition("6.1", "(n),(n,m),(m)->(m)")
def affine(x: Any, W: Any, b: Any) -> Any:
    if W.ndim == 2:
        return x @ W + b
    return (x[..., None, :] @ W)[..., 0, :] + b  # a batch of matrices


# --- output units -----------------------------------------------------------------------------


@definition("6.2.2", "(n)->(n)")
def softmax(z: Any, axis: int = -1) -> Any:
    return np.exp(z) / np.sum(np.exp(z), axis=axis, keepdims=True)


@definition("6.2.2", "(n)->(n)")
def log_softmax(z: Any, axis: int = -1) -> Any:
    return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))


@definition("6.2.2", "(n)->()")
def logsumexp(z: Any, axis: int = -1) -> Any:
    return np.log(np.sum(np.exp(z), axis=axis))


# --- losses, per example ----------------------------------------------------------------------


@definition("6.2", "(),()->()")
def squared_error(prediction: Any, y: Any) -> Any:
    return (prediction - y) ** 2


@definition("6.2", "(),()->()", kinks=(0,))
def absolute_error(prediction: Any, y: Any) -> Any:
    return np.abs(prediction - y)


@definition("6.2.2", "(n),(n)->()")
def gaussian_nll(mean: Any, y: Any) -> Any:
    n = mean.shape[-1]
    return np.sum((y - mean) ** 2, axis=-1) / 2 + n * np.log(2 * _pi(mean[..., 0])) / 2


@definition("6.2.2", "(),()->()", data=(1,))
def bernoulli_nll(z: Any, y: Any) -> Any:
    return np.log(1 + np.exp((1 - 2 * y) * z))


@definition("6.2.2", "(n),()->()", data=(1,))
def softmax_nll(z: Any, y: Any) -> Any:
    right = np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return np.log(np.sum(np.exp(z), axis=-1)) - right


@definition("6.2.2", "(),(),()->()")
def heteroscedastic_nll(mean: Any, precision: Any, y: Any) -> Any:
    return (precision * (y - mean) ** 2 - np.log(precision)) / 2


@definition("6.2.2", "(n),(n,n),(n)->()")
def covariance_nll(mean: Any, factor: Any, y: Any) -> Any:
    n = mean.shape[-1]
    covariance = factor @ np.swapaxes(factor, -1, -2)
    residual = (y - mean)[..., None]
    mahalanobis = np.sum(residual * np.linalg.solve(covariance, residual), axis=(-2, -1))
    constant = n * np.log(2 * _pi(mean[..., 0]))
    return (mahalanobis + np.log(np.linalg.det(covariance)) + constant) / 2


@definition("6.2.2", "(k),(k,d),(k),(d)->()")
def mixture_nll(logits: Any, means: Any, precisions: Any, y: Any) -> Any:
    d = means.shape[-1]
    weights = softmax(logits)
    exponent = precisions * np.sum((y[..., None, :] - means) ** 2, axis=-1) / 2
    density = np.sqrt((precisions / (2 * _pi(precisions))) ** d) * np.exp(-exponent)
    return -np.log(np.sum(weights * density, axis=-1))


namespace = SimpleNamespace(
    **{name: d.function for name, d in CATALOGUE.items()}, second_derivative=second_derivative
)
