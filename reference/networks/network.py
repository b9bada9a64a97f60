"""Multilayer perceptrons: functions made of layers, y = f_L(... f_2(f_1(x))).

Each layer computes an affine map of the layer below and applies a unit to it,

    h_l = unit(h_{l-1} W_l + b_l),        h_0 = x,  y = h_L,

so the whole network is a composition, learned through its parameters θ = (W_1, b_1, ..., W_L, b_L).
An `MLP` holds only its shape: which widths, which units. The parameters are a plain list with one
dictionary {"W": ..., "b": ...} per layer, made by `MLP.init` and passed to every call, so that a
gradient with respect to them is a list of the same form:

    network = MLP((2, 2, 1), hidden="relu")
    params = network.init(seed=0)
    y = network(params, X)                                     # X has one example per row
    slopes = grad(lambda p: np.mean((network(p, X) - Y) ** 2))(params)

Source: chapter 6, sections 6.1 (the XOR network), 6.3 (hidden units) and 6.4 (architecture).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from ffverify.reference.primitives import activations as hidden_units
from ffverify.reference.primitives.elementary import absolute
from ffverify.reference.primitives.reductions import softmax

Array: TypeAlias = "np.ndarray[Any, Any]"
Params: TypeAlias = "list[dict[str, Any]]"
Unit: TypeAlias = "str | Callable[[Any], Any]"

# The units that a network may name. "maxout" and "prelu" take more than z: see `MLP.activations`.
UNITS: dict[str, Callable[..., Any]] = {
    "absolute": absolute,
    "clipped_linear": hidden_units.clipped_linear,
    "elu": hidden_units.elu,
    "gelu": hidden_units.gelu,
    "gelu_tanh": hidden_units.gelu_tanh,
    "hard_sigmoid": hidden_units.hard_sigmoid,
    "hard_swish": hidden_units.hard_swish,
    "hard_tanh": hidden_units.hard_tanh,
    "identity": hidden_units.identity,
    "leaky_relu": hidden_units.leaky_relu,
    "log_sigmoid": hidden_units.log_sigmoid,
    "maxout": hidden_units.maxout,
    "mish": hidden_units.mish,
    "prelu": hidden_units.prelu,
    "relu": hidden_units.relu,
    "relu6": hidden_units.relu6,
    "selu": hidden_units.selu,
    "sigmoid": hidden_units.sigmoid,
    "silu": hidden_units.silu,
    "softmax": softmax,
    "softplus": hidden_units.softplus,
    "softsign": hidden_units.softsign,
    "tanh": hidden_units.tanh,
    "tanhshrink": hidden_units.tanhshrink,
}


@dataclass(frozen=True)
class MLP:
    """The shape of a feedforward network; call it as ``network(params, x)``.

    Parameters
    ----------
    widths : (inputs, hidden..., outputs)
    hidden : the hidden layers' unit, or one for each of them: a name of `UNITS`, or any function of
        z (``np.tanh`` does). "maxout" makes k affine maps per unit and takes their maximum;
        "prelu" learns a slope alpha for each unit.
    output : the last layer's unit; "identity" gives logits, which the losses of `outputs` take.
    bias : False leaves out every b_l
    k : affine maps per maxout unit
    """

    widths: tuple[int, ...]
    hidden: Unit | Sequence[Unit] = "relu"
    output: Unit = "identity"
    bias: bool = True
    k: int = 2

    def __post_init__(self) -> None:
        # Lists are welcome, but the shape must not change afterwards.
        object.__setattr__(self, "widths", tuple(self.widths))
        if not isinstance(self.hidden, str) and isinstance(self.hidden, Sequence):
            object.__setattr__(self, "hidden", tuple(self.hidden))
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(
                f"widths = {self.widths} make no network: "
                "give at least the numbers of inputs and of outputs, all positive"
            )
        if len(self.units) != self.depth:
            raise ValueError(
                f"hidden = {self.hidden} names {len(self.units) - 1} units for "
                f"{self.depth - 1} hidden layers: give one for all, or one for each"
            )
        for unit in self.units:
            if isinstance(unit, str) and unit not in UNITS:
                raise ValueError(f"unit {unit!r} is unknown: give a function, or one of {[*UNITS]}")

    @property
    def units(self) -> tuple[Unit, ...]:
        """The unit of each layer, from the first hidden layer to the output."""
        each = self.hidden if isinstance(self.hidden, tuple) else (self.hidden,) * (self.depth - 1)
        return (*each, self.output)

    @property
    def depth(self) -> int:
        """The number of layers, the output layer included: the length of the composition."""
        return len(self.widths) - 1

    @property
    def width(self) -> int:
        """The largest number of units in a hidden layer (0 without hidden layers)."""
        return max(self.widths[1:-1], default=0)

    @property
    def parameter_count(self) -> int:
        """The number of numbers to learn."""
        return sum(
            int(np.prod(shape)) for layer in self.parameter_shapes for shape in layer.values()
        )

    @property
    def parameter_shapes(self) -> list[dict[str, tuple[int, ...]]]:
        """The shapes of the parameters, in the parameters' own structure."""
        shapes: list[dict[str, tuple[int, ...]]] = []
        for (m, n), unit in zip(pairwise(self.widths), self.units, strict=True):
            affine = n * self.k if unit == "maxout" else n
            layer: dict[str, tuple[int, ...]] = {"W": (m, affine)}
            if self.bias:
                layer["b"] = (affine,)
            if unit == "prelu":
                layer["alpha"] = (n,)
            shapes.append(layer)
        return shapes

    def init(
        self,
        seed: int = 0,
        *,
        scheme: str = "glorot",
        hidden_bias: float = 0.0,
        dtype: Any = np.float64,
    ) -> Params:
        """Draw parameters: random W, constant b. The same seed gives the same bits.

        Parameters
        ----------
        scheme : "glorot", uniform in ±√(6 / (m + n)) for W [m, n] (Glorot & Bengio 2010), keeps the
            variance of activations and slopes for units like tanh; "he", normal with variance 2 / m
            (He et al. 2015), does so for rectifiers, which are off half the time.
        hidden_bias : b of the hidden layers; a small positive value such as 0.1 lets most rectified
            linear units be active at first (section 6.3.1). The output layer starts at b = 0.
        """
        rng = np.random.default_rng(seed)
        params: Params = []
        for number, shapes in enumerate(self.parameter_shapes, start=1):
            m, n = shapes["W"]
            if scheme == "glorot":
                bound = np.sqrt(6.0 / (m + n))
                W = rng.uniform(-bound, bound, (m, n))
            elif scheme == "he":
                W = rng.standard_normal((m, n)) * np.sqrt(2.0 / m)
            else:
                raise ValueError(f"scheme = {scheme!r} is unknown: give 'glorot' or 'he'")
            layer = {"W": W.astype(dtype)}
            if "b" in shapes:
                layer["b"] = np.full(n, hidden_bias if number < self.depth else 0.0, dtype)
            if "alpha" in shapes:
                layer["alpha"] = np.full(shapes["alpha"], 0.25, dtype)  # He et al. 2015
            params.append(layer)
        return params

    def __call__(self, params: Params, x: Any) -> Any:
        """Compute y [..., outputs] for x [..., inputs]."""
        return self.activations(params, x)[-1]

    def activations(self, params: Params, x: Any) -> list[Any]:
        """Compute every layer's output, h_1 to h_L = y: information flows forward."""
        h = x
        found = []
        for layer, unit in zip(params, self.units, strict=True):
            z = h @ layer["W"]
            if self.bias:
                z = z + layer["b"]
            if unit == "maxout":
                h = hidden_units.maxout(z, self.k)
            elif unit == "prelu":
                h = hidden_units.prelu(z, layer["alpha"])
            else:
                h = UNITS[unit](z) if isinstance(unit, str) else unit(z)
            found.append(h)
        return found
