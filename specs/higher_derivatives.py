"""Section 6.5: derivatives of derivatives, the Hessian, and what can be had without it."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify import strategies
from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import integers, one_of
from ffverify.conformance.pictures import Curve, Panel
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.adaptive import Truth

from . import programs
from .programs import Code

# ---------------------------------------------------------------------------------------------
# Any order
# ---------------------------------------------------------------------------------------------

UNITS = sorted(
    name for name, d in textbook.CATALOGUE.items() if d.signature == "()->()" and not d.kinks
)


def _moderate(fmt: Format, _batch: int) -> st.SearchStrategy[float]:
    """Draw a number in [1/16, 3]."""
    return strategies.floats(fmt.name, min_value=2.0**-4, max_value=3.0)


def _modes(_fmt: Format, _batch: int) -> st.SearchStrategy[list[str]]:
    """Draw an order of differentiation, and the mode for each level."""
    return st.lists(st.sampled_from(("forward", "reverse")), min_size=1, max_size=5)


def _nested(f: Any, fn: Callable[..., Any], modes: list[str]) -> Callable[..., Any]:
    """Differentiate a function of one number once for each mode, the first innermost."""
    for mode in modes:
        fn = _forward(f, fn) if mode == "forward" else f.grad(fn)
    return fn


def _forward(f: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda t: f.jvp(fn, (t,), (np.ones((), t.dtype),))[1]


@claim(
    "6.5",
    "Derivatives of order 1 to 5, of every smooth unit and of random compositions, in any nesting "
    "of modes; nested derivatives never confuse their perturbations.",
    functions=["grad", "jvp", "trace", *UNITS, *programs.NEEDED],
    examples=12,
    modes=_modes,
    z=_moderate,
    negative=one_of(False, True),
    code=programs.code((3,), (2, 3), most=4, names=programs.SMOOTH),
    inputs=programs.inputs((3,), (2, 3)),
)
def higher_derivatives(
    check: Check, modes: list[str], z: float, negative: bool, code: Code, inputs: list[Array]
) -> None:
    f = programs.namespace(check)
    order = len(modes)
    for name in UNITS:
        low = textbook.CATALOGUE[name].domain[0]
        (at,) = programs.typed(check, np.array(-min(z, -low / 2) if negative and low else z))
        derivative = _nested(f, lambda t, name=name: getattr(f, name)(t), modes)
        definition = getattr(textbook.namespace, name)
        exact = truth.value(programs.derivative(definition, order), [at], check.fmt)
        scale = programs.running_scale(f, derivative, at)
        where = f"derivative of {name} at {at}, {' in '.join(modes)} mode"
        check.agrees(where, derivative(at), exact, scale=scale)

    shape = programs.run(textbook.namespace, code, inputs).shape
    v, zero = programs.typed(check, direction(*shape), np.zeros(()))
    u = programs.typed(check, *(direction(*x.shape) for x in inputs))

    def composition(t: Any) -> Any:
        moved = [x + t * w for x, w in zip(inputs, u, strict=True)]
        return (programs.run(f, code, moved) * v).sum()

    derivative = _nested(f, composition, modes)
    line = programs.along(code, inputs, u, v)
    exact = truth.value(programs.derivative(line, order), [zero], check.fmt)
    scale = programs.running_scale(f, derivative, zero)
    where = f"derivative of a composition, {' in '.join(modes)} mode"
    check.agrees(where, derivative(zero), exact, scale=scale)
    _check_perturbations(check, f, z)


def _check_perturbations(check: Check, f: Any, z: float) -> None:
    (x,) = programs.typed(check, np.array(z))
    for outer, inner in itertools.product(("forward", "reverse"), repeat=2):

        def d(fn: Any, inner: str = inner) -> Any:
            return _nested(f, fn, [inner])

        # d/dx (x · d/dy (x + y)) = 1 (Siskind & Pearlmutter 2005); d/dx (x · d/dy (x y)) = 2x
        apart = _nested(f, lambda x, d=d: x * d(lambda y: x + y)(1.0 * x), [outer])
        check.equal(apart(x), 1.0, f"d/dx (x · d/dy (x + y)), {inner} in {outer} mode")
        product = _nested(f, lambda x, d=d: x * d(lambda y: x * y)(1.0 * x), [outer])
        check.equal(product(x), 2 * x, f"d/dx (x · d/dy (x y)), {inner} in {outer} mode")


@higher_derivatives.bug("jvp", "perturbation confusion: the outer tangent counts as the inner one")
def _(f: Any, fn: Any, primals: Any, tangents: Any) -> Any:
    y, y_dot = f.jvp(fn, primals, tangents)
    return y, y_dot + getattr(y, "tangent", 0)


@higher_derivatives.bug("tanh", "a derivative rule whose own derivative is forgotten")
def _(f: Any, z: Any) -> Any:
    slope = f.custom_rule(lambda y: 1 - y * y, vjp=lambda v, _s, _y: (v * 0,))
    return f.custom_rule(np.tanh, vjp=lambda v, y, _z: (v * slope(y),))(z)


# ---------------------------------------------------------------------------------------------
# The Hessian
# ---------------------------------------------------------------------------------------------

SQUARE_FIRST: Code = [["matmul", 0, 1], ["tanh", 2]]
RECTIFIED: Code = [["matmul", 0, 1], ["relu", 2], ["matmul", 3, 1], ["relu", 4]]


def _half_square(f: Any, code: Code, W: Any, v: Any) -> Callable[..., Any]:
    """Give x ↦ ½ ⟨v, program(x, W)⟩², a cost that is nonlinear in more than its last step."""

    def cost(x: Any) -> Any:
        r = (programs.run(f, code, [x, W]) * v).sum()
        return r * r / 2

    return cost


def _mixed(cost: Callable[..., Any], u: Array, w: Array) -> Program:
    """Give the exact uᵀ H w of a cost, as a program of two zeros and x."""

    def twice(s: Any, t: Any, x: Any) -> Any:
        def outer(s: Any) -> Any:
            def inner(t: Any) -> Any:
                return cost(x + s * BALLS.array(u) + t * BALLS.array(w))

            return programs.derivative(inner, 1)(t)

        return programs.derivative(outer, 1)(s)

    return twice


def _second_order(
    check: Check, code: Code, inputs: list[Array]
) -> tuple[Array, Array, Callable[[Any], Any], Callable[[Array, Array], tuple[Truth, float]]]:
    """Give x, W, the cost ½⟨v, program(x, W)⟩² of x, and what gives uᵀ H w and its running scale."""
    f = programs.namespace(check)
    x, W = inputs[0] / 2, inputs[1] / 2
    shape = programs.run(textbook.namespace, code, inputs).shape
    (v,) = programs.typed(check, direction(*shape))
    cost = _half_square(f, code, W, v)
    exact_cost = _half_square(textbook.namespace, code, BALLS.array(W), BALLS.array(v))
    zero = np.zeros(())

    def exactly(u: Array, w: Array) -> tuple[Truth, float]:
        def computed(x: Any) -> Any:
            return (f.jvp(f.grad(cost), (x,), (w,))[1] * u).sum()

        exact = truth.value(_mixed(exact_cost, u, w), [zero, zero, x], check.fmt)
        return exact, programs.running_scale(f, computed, x)

    return x, W, cost, exactly


@claim(
    "6.5",
    "The Hessian is symmetric and equals differences of the gradient; in the inputs of a ReLU "
    "network it is zero almost everywhere.",
    functions=["grad", "hessian", "jvp", "trace", *programs.NEEDED],
    examples=3,
    code=programs.code((3,), (3, 3), most=3, names=programs.SMOOTH, start=SQUARE_FIRST),
    inputs=programs.inputs((3,), (3, 3)),
)
def hessian_is_symmetric_and_right(check: Check, code: Code, inputs: list[Array]) -> None:
    f = programs.namespace(check)
    x, W, cost, exactly = _second_order(check, code, inputs)
    H = f.hessian(cost)(x)
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        exact, scale = exactly(*programs.typed(check, np.eye(3)[i], np.eye(3)[j]))
        check.agrees(f"H[{i}, {j}]", H[i, j], exact, scale=scale)
        check.agrees(f"H[{j}, {i}]", H[j, i], exact, scale=scale)

    def rectified(x: Any) -> Any:
        return programs.run(f, RECTIFIED, [x, W]).sum()

    if not programs.on_a_kink(RECTIFIED, [x, W], check.fmt):
        check.equal(f.hessian(rectified)(x), 0.0, "the Hessian of a ReLU network in its inputs")


@hessian_is_symmetric_and_right.bug("hessian", "Gauss-Newton: the residual's curvature is left out")
def _(f: Any, cost: Any) -> Any:
    def outer_product(x: Any) -> Any:
        g = f.grad(cost)(x)  # r r', of the cost ½ r²
        return np.multiply.outer(g, g) / (2 * cost(x) + np.finfo(g.dtype).tiny)

    return outer_product


@hessian_is_symmetric_and_right.bug("hessian", "only the upper triangle is filled in")
def _(f: Any, cost: Any) -> Any:
    return lambda x: np.triu(f.hessian(cost)(x))


MILLION = 1_000_000


@claim(
    "6.5",
    "Hv comes by forward-over-reverse without H: it equals H times v, and with 10⁶ parameters it "
    "takes the memory of a few vectors, where H would take 8 TB.",
    functions=["grad", "hvp", "jvp", "trace", *programs.NEEDED],
    examples=6,
    code=programs.code((3,), (3, 3), most=3, names=programs.SMOOTH, start=SQUARE_FIRST),
    inputs=programs.inputs((3,), (3, 3)),
)
def hvp_without_the_hessian(check: Check, code: Code, inputs: list[Array]) -> None:
    f = programs.namespace(check)
    x, _, cost, exactly = _second_order(check, code, inputs)
    u, w = programs.typed(check, direction(3), direction(1, 3)[0] ** 2)
    exact, scale = exactly(u, w)
    product = programs.inner([f.hvp(cost, x, w)], [u])
    check.agrees("⟨u, Hw⟩", product, exact, scale=scale)
    check.once(_check_memory)


def _check_memory(check: Check) -> None:
    """Measure the peak of memory of a product with 10⁶ parameters, in arrays of that size."""
    f = programs.namespace(check)
    side = math.isqrt(MILLION)
    W, v, x = programs.typed(
        check, np.full((side, side), 0.001), np.ones((side, side)), np.ones((1, side))
    )
    tracemalloc.start()
    product = f.hvp(lambda W: f.softplus(f.tanh(x @ W)).sum(), W, v)
    arrays = tracemalloc.get_traced_memory()[1] / W.nbytes
    tracemalloc.stop()
    check.measured = f"Hv of 10⁶ parameters peaks at {arrays:.1f} arrays of that size; H has 10⁶"
    check.that(product.shape == W.shape, "shape of Hv", product.shape, W.shape)
    # Weights, tangent, cotangent and its tangent, and a working copy of each: 8 arrays.
    check.that(arrays <= 8, "peak of memory of Hv, in arrays of 10⁶ numbers", arrays, "at most 8")


@hvp_without_the_hessian.bug("hvp", "a difference of two gradients")
def _(f: Any, cost: Any, x: Any, v: Any) -> Any:
    step = np.finfo(x.dtype).eps ** 0.5
    return (f.grad(cost)(x + step * v) - f.grad(cost)(x)) / step


@hvp_without_the_hessian.bug("hvp", "Gauss-Newton: the residual's curvature is left out")
def _(f: Any, cost: Any, x: Any, v: Any) -> Any:
    g = f.grad(cost)(x)
    return g * (g * v).sum() / (2 * cost(x) + np.finfo(g.dtype).tiny)


# ---------------------------------------------------------------------------------------------
# Krylov methods
# ---------------------------------------------------------------------------------------------

SIDE, RANK = 8, 3


@claim(
    "6.5",
    "Krylov methods need products only: Lanczos finds the extreme eigenvalues of the Hessian, "
    "conjugate gradients solve Hx = g in at most n products, and so a Newton step is made.",
    functions=["extreme_eigenvalues", "hessian_operator", "lanczos", "newton_step", "solve"],
    examples=8,
    seed=integers(0, 10_000),
)
def krylov_needs_only_products(check: Check, seed: int) -> None:
    f = programs.namespace(check)
    H, slope, quadratic, zero = _quadratic(check, SIDE, RANK, seed)
    # Each method is exact for a matrix within about n² roundings of H (Golub & Van Loan, §8.1,
    # §10.3; Weyl's theorem), and the products round in the dtype of the parameters.
    low, high = np.linalg.eigvalsh(H)[[0, -1]]
    rounding = SIDE**2 * check.fmt.unit_roundoff
    operator = f.hessian_operator(quadratic, zero)
    ritz = _tridiagonal(*f.lanczos(operator, SIDE))
    for where, found in (
        ("Lanczos", (ritz[0], ritz[-1])),
        ("extreme_eigenvalues", f.extreme_eigenvalues(operator)),
    ):
        error = max(abs(found[0] - low), abs(found[1] - high))
        check.that(
            error <= rounding * high, f"{where}: extreme eigenvalues", found, f"{low}, {high}"
        )
    # The residual that rounding lets conjugate gradients reach (Greenbaum 1997): u times κ.
    tolerance = rounding * high / low
    found = f.solve(operator, slope, tolerance=tolerance)
    check.that(found.products <= SIDE, "products of conjugate gradients", found.products, SIDE)
    step = f.newton_step(quadratic, zero, tolerance=tolerance)
    for where, x in (("solve", found.x), ("newton_step", np.asarray(step, dtype=np.float64))):
        residual = float(np.linalg.norm(H @ x - slope))
        most = (tolerance + rounding * high / low) * float(np.linalg.norm(slope))
        check.that(residual <= most, f"residual ‖Hx - g‖ of {where}", residual, f"at most {most}")


def _quadratic(
    check: Check, side: int, rank: int, seed: int
) -> tuple[Array, Array, Callable[[Any], Any], Array]:
    """Give H, g, the cost ½xᵀHx - gᵀx, and 0; H has rank + 1 different eigenvalues at most."""
    random = np.random.default_rng(seed)
    factor = random.integers(-2, 3, size=(side, rank)).astype(np.float64)
    H = factor @ factor.T + np.eye(side)  # integers, so exact
    slope = random.integers(-4, 5, size=side).astype(np.float64)
    A, b, zero = programs.typed(check, H, slope, np.zeros(side))
    return H, slope, lambda x: (x * (A @ x)).sum() / 2 - (b * x).sum(), zero


def _tridiagonal(diagonal: Array, beside: Array) -> Array:
    """Give the eigenvalues of a tridiagonal matrix, in ascending order."""
    return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))


@krylov_needs_only_products.plot(
    "Lanczos finds the Hessian's extreme eigenvalues from products alone"
)
def _(check: Check) -> list[Panel]:
    f, side = programs.namespace(check), 64
    steps = np.arange(1, side + 1)

    def panel(rank: int) -> Panel:
        H, _, quadratic, zero = _quadratic(check, side, rank, seed=0)
        ends = np.linalg.eigvalsh(H)[[0, -1]]
        operator = f.hessian_operator(quadratic, zero)
        ritz = [_tridiagonal(*f.lanczos(operator, int(k)))[[0, -1]] for k in steps]
        errors = np.maximum(abs(np.array(ritz) - ends) / ends[1], check.fmt.unit_roundoff)
        rounding = np.full(side, side**2 * check.fmt.unit_roundoff)
        return Panel(
            f"n = {side}, {min(rank, side) + (rank < side)} different eigenvalues",
            "products Hv", "error / largest eigenvalue",
            [
                Curve("lowest", steps, errors[:, 0]),
                Curve("highest", steps, errors[:, 1]),
                Curve("n² roundings", steps, rounding, "exact"),
            ],
            log="y",
        )  # fmt: skip

    return [panel(side), panel(8)]


@krylov_needs_only_products.bug("hessian_operator", "products with a sign error")
def _(f: Any, loss: Any, params: Any, *data: Any) -> Any:
    return -f.hessian_operator(loss, params, *data)


@krylov_needs_only_products.bug("newton_step", "the step goes uphill")
def _(f: Any, loss: Any, params: Any, **options: Any) -> Any:
    return 2 * params - f.newton_step(loss, params, **options)


@krylov_needs_only_products.bug("lanczos", "one step short")
def _(f: Any, operator: Any, steps: int) -> Any:
    return f.lanczos(operator, steps // 4)
