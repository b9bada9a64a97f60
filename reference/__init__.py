"""The reference engine: derivatives of plain NumPy functions, exact, small and readable.

>>> import numpy as np
>>> from ffverify.reference import grad
>>> float(grad(lambda x: np.log1p(np.exp(x)))(0.0))
0.5
"""

from .engine.custom import custom_rule
from .engine.primitive import Primitive, constant, elementwise, general, linear, multilinear
from .engine.transforms import grad, hessian, hvp, jacobian, jvp, linearize, value_and_grad, vjp
from .engine.tree import flatten, tree_map, unflatten
from .engine.var import Var, implements
from .networks import optimise, outputs
from .networks.network import MLP
from .primitives import distributions as stats
from .primitives import scipy_functions
from .primitives.activations import (
    clipped_linear,
    elu,
    erf,
    erfc,
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    maxout,
    mish,
    prelu,
    rbf,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
    tanhshrink,
)
from .primitives.catalogue import primitives
from .primitives.elementary import absolute, exp, expm1, log, log1p, sqrt
from .primitives.linalg import affine
from .primitives.losses import (
    absolute_error,
    bernoulli_nll,
    covariance_nll,
    gaussian_nll,
    heteroscedastic_nll,
    mixture_nll,
    softmax_nll,
    squared_error,
)
from .primitives.reductions import log_softmax, logsumexp, softmax
from .programs.compiler import compile, source  # noqa: A004  # as in PyTorch and `re`
from .programs.graph import Graph, Node, trace
from .programs.simplification import simplify
from .studies import accumulation, krylov, regions

__all__ = [
    "MLP",
    "Graph",
    "Node",
    "Primitive",
    "Var",
    "absolute",
    "absolute_error",
    "accumulation",
    "affine",
    "bernoulli_nll",
    "clipped_linear",
    "compile",
    "constant",
    "covariance_nll",
    "custom_rule",
    "elementwise",
    "elu",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "flatten",
    "gaussian_nll",
    "gelu",
    "gelu_tanh",
    "general",
    "grad",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hessian",
    "heteroscedastic_nll",
    "hvp",
    "identity",
    "implements",
    "jacobian",
    "jvp",
    "krylov",
    "leaky_relu",
    "linear",
    "linearize",
    "log",
    "log1p",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "maxout",
    "mish",
    "mixture_nll",
    "multilinear",
    "optimise",
    "outputs",
    "prelu",
    "primitives",
    "rbf",
    "regions",
    "relu",
    "relu6",
    "scipy_functions",
    "selu",
    "sigmoid",
    "silu",
    "simplify",
    "softmax",
    "softmax_nll",
    "softplus",
    "softsign",
    "source",
    "sqrt",
    "squared_error",
    "stats",
    "tanh",
    "tanhshrink",
    "trace",
    "tree_map",
    "unflatten",
    "value_and_grad",
    "vjp",
]
