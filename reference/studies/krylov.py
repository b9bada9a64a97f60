"""Second-order information from products alone: the Hessian is never formed.

One Hessian-vector product costs a few gradients; Krylov methods need nothing else. Here one can
wrap the products of a loss over nested parameters as SciPy operators (`hessian_operator`,
`gauss_newton_operator`), and use them: `extreme_eigenvalues` and `lanczos` for the curvature,
`solve` and `newton_step` for Newton's method. Memory is O(n): a network with n = 10⁶ parameters
works, where its Hessian would take 8 TB.

Sources: Pearlmutter 1994 (exact products), Schraudolph 2002 (Gauss-Newton products), Nocedal &
Wright 2006 chapter 7 (Newton-CG); chapter 6.5.10. SciPy is imported where it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ffverify.reference.engine.transforms import grad, linearize, vjp
from ffverify.reference.engine.tree import flatten, unflatten

if TYPE_CHECKING:
    from collections.abc import Callable

Array: TypeAlias = "np.ndarray[Any, Any]"


def ravel(tree: Any) -> tuple[Array, Callable[[Array], Any]]:
    """Return the parameters as one float64 vector [n], and the function that puts them back.

    The way back restores shapes and dtypes, so that float32 parameters stay float32.
    """
    leaves, structure = flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    ends = np.cumsum([a.size for a in arrays])

    def unravel(vector: Array) -> Any:
        parts = np.split(vector, ends[:-1])
        restored = [
            part.reshape(a.shape).astype(a.dtype)[()] for part, a in zip(parts, arrays, strict=True)
        ]
        return unflatten(structure, restored)

    return np.concatenate([a.ravel() for a in arrays]).astype(np.float64), unravel


def scipy_module(name: str) -> Any:
    """Import scipy.<name>, which is needed only by those who call what needs it."""
    try:
        return importlib.import_module(f"scipy.{name}")
    except ImportError:
        raise ImportError(
            "SciPy is not installed, and this function hands its problem to it: "
            'pip install "ffverify[scipy]"'
        ) from None


def hessian_operator(loss: Callable[..., Any], params: Any, *data: Any) -> Any:
    """Return v ↦ H v, H [n, n] the Hessian of ``loss(params, *data)`` in the raveled parameters.

    A `scipy.sparse.linalg.LinearOperator`. The gradient is evaluated once, and linearised; each
    product then is one pass in forward mode (forward-over-reverse).
    """
    vector, unravel = ravel(params)
    _, push = linearize(lambda p: grad(loss)(p, *data), params)
    return _operator(len(vector), lambda v: ravel(push(unravel(v)))[0])


def gauss_newton_operator(
    network: Callable[[Any], Any], loss: Callable[[Any], Any], params: Any
) -> Any:
    """Return v ↦ Jᵀ H J v, for the loss ``loss(network(params))``, as a SciPy operator.

    J is the network's Jacobian and H the Hessian of the loss in the network's outputs. It is the
    Hessian without the network's own curvature: positive semidefinite wherever the loss is convex
    in the outputs, as all the losses of `outputs.gaussian`, `bernoulli` and `multinoulli` are.
    """
    vector, unravel = ravel(params)
    z, pull = vjp(network, params)
    _, push = linearize(network, params)
    _, curve = linearize(grad(loss), z)

    def product(v: Array) -> Array:
        (p_bar,) = pull(curve(push(unravel(v))))
        return ravel(p_bar)[0]

    return _operator(len(vector), product)


def _operator(n: int, product: Callable[[Array], Array]) -> Any:
    # Hessians are symmetric, so the adjoint is the operator itself.
    linear_operator = scipy_module("sparse.linalg").LinearOperator
    return linear_operator((n, n), matvec=product, rmatvec=product, dtype=np.float64)


def extreme_eigenvalues(
    operator: Any, *, tolerance: float = 0.0, seed: int = 0
) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of a symmetric operator, by Lanczos' method.

    Each is off by at most ``tolerance`` times its size, or by rounding only for 0. The iteration
    starts from a seeded random vector, so that it returns the same bits every time.
    """
    n = operator.shape[0]
    start = np.random.default_rng(seed).standard_normal(n)
    product = operator @ start
    if n == 1 or not product.any():  # ARPACK can begin with neither
        only = float(product[0] / start[0])
        return only, only
    eigsh = scipy_module("sparse.linalg").eigsh
    low, high = (
        eigsh(operator, 1, which=which, v0=start, tol=tolerance, return_eigenvectors=False)[0]
        for which in ("SA", "LA")
    )
    return float(low), float(high)


def lanczos(operator: Any, steps: int, *, seed: int = 0) -> tuple[Array, Array]:
    """Reduce a symmetric operator to a tridiagonal matrix: (diagonal [k], off-diagonal [k-1]).

    After k products its eigenvalues (Ritz values) approach the operator's, the extreme ones first;
    k is ``steps``, or fewer where the Krylov space is exhausted. Vectors are orthogonalised in
    full, so memory is O(k n). Source: Golub & Van Loan, section 10.3.
    """
    n = operator.shape[0]
    q = np.random.default_rng(seed).standard_normal(n)
    basis = [q / np.linalg.norm(q)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        w = operator @ basis[-1]
        scale = np.linalg.norm(w)
        diagonal.append(float(basis[-1] @ w))
        for _ in range(2):  # twice is enough (Parlett 1980)
            for q in basis:
                w = w - (q @ w) * q
        rest = float(np.linalg.norm(w))
        # What remains of w after n roundings of its own size is no new direction.
        if len(diagonal) == min(steps, n) or rest <= n * np.finfo(float).eps * scale:
            return np.array(diagonal), np.array(beside)
        beside.append(rest)
        basis.append(w / rest)


class Solution(NamedTuple):
    """What conjugate gradients found: x, after how many products, and whether they converged."""

    x: Array
    products: int
    converged: bool


def solve(
    operator: Any,
    g: Array,
    *,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    most_products: int | None = None,
) -> Solution:
    """Solve (H + damping · I) x = g by conjugate gradients, to a residual of tolerance · ‖g‖.

    In exact arithmetic n products are enough.

    Raises
    ------
    ValueError
        where a direction of negative curvature shows that the matrix is not positive definite.
    """
    linalg = scipy_module("sparse.linalg")
    products = 0

    def product(v: Array) -> Array:
        nonlocal products
        products += 1
        w: Array = operator @ v + damping * v
        curvature = float(v @ w)
        if v.any() and curvature <= 0:
            raise ValueError(
                f"the matrix is not positive definite: curvature {curvature / float(v @ v):.3g} "
                "along a search direction. Add damping, or take gauss_newton_operator"
            )
        return w

    x, failed = linalg.cg(
        linalg.LinearOperator(operator.shape, matvec=product, dtype=np.float64),
        g,
        rtol=tolerance,
        atol=0.0,
        maxiter=most_products,
    )
    return Solution(x, products, failed == 0)


def newton_step(
    loss: Callable[..., Any],
    params: Any,
    *data: Any,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    most_products: int | None = None,
) -> Any:
    """Return params - (H + damping · I)⁻¹ g of ``loss(params, *data)``, from products alone."""
    vector, unravel = ravel(params)
    g, _ = ravel(grad(loss)(params, *data))
    found = solve(
        hessian_operator(loss, params, *data),
        g,
        damping=damping,
        tolerance=tolerance,
        most_products=most_products,
    )
    return unravel(vector - found.x)
