"""The catalogue: one naive textbook definition per function that a backend may provide.

Each is the formula of the book in plain NumPy, never optimised and never made stable: in exact
arithmetic it needs no tricks. Run on a ``PreciseArray`` it is the truth; run on floats it shows
what the formula costs. Constants that have a closed form (√2, π) are computed, not written down.

``CATALOGUE["softmax"]`` is a ``Definition``; ``namespace`` gives all of them as attributes, so a
program ``lambda f, x: f.relu(f.affine(x, W, b))`` runs on truth and on any backend alike.
"""

# ruff: noqa: PLW0108 - a formula shows its argument
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

Formula = Callable[..., Any]


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
    function: Formula
    signature: str = "()->()"
    domain: tuple[float, float] = (-math.inf, math.inf)
    kinks: tuple[float, ...] = ()
    data: tuple[int, ...] = ()

    @property
    def core(self) -> tuple[int, ...]:
        """Number of axes of each argument that one application takes."""
        operands = re.findall(r"\(([\w,]*)\)", self.signature.split("->")[0])
        return tuple(len([axis for axis in operand.split(",") if axis]) for operand in operands)


CATALOGUE: dict[str, Definition] = {}


def _unit(name: str, section: str, formula: Formula, *given: Any, **said: Any) -> Formula:
    """Declare a textbook definition; further arguments are those of `Definition`."""
    CATALOGUE[name] = Definition(name, section, formula, *given, **said)
    formula.__name__ = name
    return formula


def definition(section: str, *given: Any, **said: Any) -> Callable[[Formula], Formula]:
    """Declare a textbook definition that takes more than a line, under the function's own name."""
    return lambda function: _unit(function.__name__, section, function, *given, **said)


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

# fmt: off
_unit("exp", "6.5", lambda x: np.exp(x))
_unit("log", "6.5", lambda x: np.log(x), domain=(0, math.inf))
_unit("log1p", "6.5", lambda x: np.log(1 + x), domain=(-1, math.inf))
_unit("expm1", "6.5", lambda x: np.exp(x) - 1)
_unit("sqrt", "6.5", lambda x: np.sqrt(x), domain=(0, math.inf))
_unit("erf", "6.3", lambda x: _erf(x))
_unit("erfc", "6.3", lambda x: _erfc(x))

# --- hidden units -----------------------------------------------------------------------------

_unit("identity", "6.3", lambda z: 1 * z)
_unit("relu", "6.1", lambda z: np.maximum(0, z), kinks=(0,))
_unit("absolute", "6.3", lambda z: np.abs(z), kinks=(0,))
_unit("leaky_relu", "6.3", lambda z, slope=0.01: np.maximum(0, z) + slope * np.minimum(0, z), kinks=(0,))
_unit("prelu", "6.3", lambda z, alpha: np.maximum(0, z) + alpha * np.minimum(0, z), "(),()->()", kinks=(0,))


@definition("6.3", "(n)->(m)")
def maxout(z: Any, k: int) -> Any:
    return np.max(np.reshape(z, (*z.shape[:-1], z.shape[-1] // k, k)), axis=-1)


_unit("sigmoid", "6.2.2", lambda z: 1 / (1 + np.exp(-z)))
tanh = _unit("tanh", "6.3", lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)))
_unit("softplus", "6.2.2", lambda z: np.log(1 + np.exp(z)))
_unit("log_sigmoid", "6.2.2", lambda z: -np.log(1 + np.exp(-z)))
_unit("hard_tanh", "6.3", lambda z: np.maximum(-1, np.minimum(1, z)), kinks=(-1, 1))
_unit("clipped_linear", "6.2.2", lambda z: np.maximum(0, np.minimum(1, z)), kinks=(0, 1))
_unit("hard_sigmoid", "6.3", lambda z: np.maximum(0, np.minimum(6, z + 3)) / 6, kinks=(-3, 3))
_unit("hard_swish", "6.3", lambda z: z * np.maximum(0, np.minimum(6, z + 3)) / 6, kinks=(-3, 3))
_unit("relu6", "6.3", lambda z: np.maximum(0, np.minimum(6, z)), kinks=(0, 6))


@definition("6.3", kinks=(0,))
def elu(z: Any, alpha: float = 1.0) -> Any:
    return np.where(z > 0, z, alpha * (np.exp(np.minimum(z, 0)) - 1))


@definition("6.3", kinks=(0,))
def selu(z: Any) -> Any:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    return np.where(z > 0, scale * z, scale * alpha * (np.exp(np.minimum(z, 0)) - 1))


_unit("gelu", "6.3", lambda z: z / 2 * (1 + _erf(z * np.sqrt(_one(z) / 2))))
_unit("gelu_tanh", "6.3", lambda z: z / 2 * (1 + tanh(np.sqrt(2 / _pi(z)) * (z + 0.044715 * z**3))))
_unit("silu", "6.3", lambda z: z / (1 + np.exp(-z)))
_unit("mish", "6.3", lambda z: z * tanh(np.log(1 + np.exp(z))))
_unit("softsign", "6.3", lambda z: z / (1 + np.abs(z)), kinks=(0,))
_unit("tanhshrink", "6.3", lambda z: z - tanh(z))


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


_unit("logsumexp", "6.2.2", lambda z, axis=-1: np.log(np.sum(np.exp(z), axis=axis)), "(n)->()")

# --- losses, per example ----------------------------------------------------------------------

_unit("squared_error", "6.2", lambda prediction, y: (prediction - y) ** 2, "(),()->()")
_unit("absolute_error", "6.2", lambda prediction, y: np.abs(prediction - y), "(),()->()", kinks=(0,))


@definition("6.2.2", "(n),(n)->()")
def gaussian_nll(mean: Any, y: Any) -> Any:
    n = mean.shape[-1]
    return np.sum((y - mean) ** 2, axis=-1) / 2 + n * np.log(2 * _pi(mean[..., 0])) / 2


_unit("bernoulli_nll", "6.2.2", lambda z, y: np.log(1 + np.exp((1 - 2 * y) * z)), "(),()->()", data=(1,))


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


# fmt: on
namespace = SimpleNamespace(
    **{name: d.function for name, d in CATALOGUE.items()}, second_derivative=second_derivative
)
