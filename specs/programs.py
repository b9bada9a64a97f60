"""Random differentiable programs, drawn whole, and exact derivatives of any order to judge them by.

A program is a list of instructions ``[operation, operand, ...]``, each operand the place of an
earlier value (the inputs come first); its result is the last value. It is plain data, so that it
shrinks and replays, and it runs on every backend and on the textbook alike (`run`).

What rounding may do to a program is found by moving every operand of every instruction by its
rounding, not only the inputs: `nudged` multiplies each operand by ones that are inputs of the exact
program, where truth moves them like all inputs. So the bound is the running bound of this very
program, carried to its result by exact sensitivities (Higham, Accuracy and Stability, §3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify import strategies
from ffverify.conformance.check import Check, direction
from ffverify.conformance.draws import Draw, drawing
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.elements import arb
from ffverify.exact.formats import Array, Format
from ffverify.exact.programs import Program
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.truth.adaptive import Truth

Code = list[list[Any]]
Magnitude = Callable[..., float]

LARGEST = 100.0  # magnitudes of values: nothing overflows, in half precision either
TAME = 2.0  # magnitude of what saturating units are given: their tails are other claims' matter
MOST_ELEMENTS = 12

ANY, SOME, VECTOR, MATRIX = (0, 1, 2), (1, 2), (1,), (2,)


@dataclass(frozen=True)
class Operation:
    """One kind of instruction.

    Attributes
    ----------
    axes
        For each operand, how many axes it may have.
    apply
        What it does, with the functions ``f`` of a backend.
    magnitude
        How large its result can be, from how large the operands can be.
    """

    axes: tuple[tuple[int, ...], ...]
    apply: Callable[..., Any]
    magnitude: Magnitude


def _unit(name: str, largest: float) -> Operation:
    return Operation(
        (ANY,), lambda f, z: getattr(f, name)(z), lambda a: largest if a <= TAME else math.inf
    )


OPERATIONS: dict[str, Operation] = {
    "add": Operation((ANY, ANY), lambda _f, a, b: a + b, lambda a, b: a + b),
    "subtract": Operation((ANY, ANY), lambda _f, a, b: a - b, lambda a, b: a + b),
    "multiply": Operation((ANY, ANY), lambda _f, a, b: a * b, lambda a, b: a * b),
    "divide": Operation((ANY, ANY), lambda _f, a, b: a / (2 + b * b), lambda a, b: a / 2 + 0 * b),
    "cube": Operation((ANY,), lambda _f, a: a**3, lambda a: a**3),
    "halve": Operation((ANY,), lambda _f, a: a / 2, lambda a: a / 2),
    "matmul": Operation((SOME, SOME), lambda _f, a, b: a @ b, lambda a, b: MOST_ELEMENTS * a * b),
    "affine": Operation(
        (SOME, MATRIX, VECTOR),
        lambda f, x, W, b: f.affine(x, W, b),
        lambda x, W, b: MOST_ELEMENTS * x * W + b,
    ),
    "transpose": Operation((MATRIX,), lambda _f, a: a.T, lambda a: a),
    "flatten": Operation((ANY,), lambda _f, a: a.reshape((-1,)), lambda a: a),
    "row": Operation((SOME,), lambda _f, a: a[0], lambda a: a),
    "part": Operation((SOME,), lambda _f, a: a[..., 1:], lambda a: a),
    "column": Operation((ANY,), lambda _f, a: a[..., None], lambda a: a),
    "repeat": Operation((SOME,), lambda _f, a: a[np.array([0, 1, 0])], lambda a: a),
    "sum": Operation((SOME,), lambda _f, a: a.sum(axis=-1), lambda a: MOST_ELEMENTS * a),
    "sum_first": Operation((SOME,), lambda _f, a: a.sum(axis=0), lambda a: MOST_ELEMENTS * a),
    "centre": Operation((SOME,), lambda _f, a: a - a.mean(axis=0, keepdims=True), lambda a: 2 * a),
    "logsumexp": Operation((SOME,), lambda f, a: f.logsumexp(a, axis=-1), lambda a: a + 3),
    "softmax": Operation((SOME,), lambda f, a: f.softmax(a), lambda a: 1 + 0 * a),
    "softmax_first": Operation((SOME,), lambda f, a: f.softmax(a, axis=0), lambda a: 1 + 0 * a),
    "log_softmax": Operation((SOME,), lambda f, a: f.log_softmax(a), lambda a: 2 * a + 3),
    "nll": Operation((SOME,), lambda f, a: -f.log_softmax(a)[..., 0], lambda a: 2 * a + 3),
    "tanh": _unit("tanh", 1), "sigmoid": _unit("sigmoid", 1), "softplus": _unit("softplus", 3),
    "exp": _unit("exp", 8), "erf": _unit("erf", 1), "gelu": _unit("gelu", TAME),
    "elu": _unit("elu", TAME), "log_sigmoid": _unit("log_sigmoid", 3),
    "relu": Operation((ANY,), lambda f, a: f.relu(a), lambda a: a),
    "absolute": Operation((ANY,), lambda f, a: f.absolute(a), lambda a: a),
    "leaky_relu": Operation((ANY,), lambda f, a: f.leaky_relu(a, 0.25), lambda a: a),
    "hard_tanh": Operation((ANY,), lambda f, a: f.hard_tanh(a), lambda _a: 1),
}  # fmt: skip

NEEDED = sorted(set(OPERATIONS) & set(textbook.CATALOGUE))
SMOOTH = sorted(
    name for name in OPERATIONS
    if name not in textbook.CATALOGUE or not textbook.CATALOGUE[name].kinks
)  # fmt: skip


def run(f: Any, code: Code, inputs: Sequence[Any]) -> Any:
    """Run a program with the functions ``f`` of a backend."""
    return trail(f, code, inputs)[-1]


def nudged(code: Code, inputs: Sequence[Array]) -> tuple[Program, list[Array]]:
    """Give the program with every operand multiplied by ones of its own, and those ones.

    The program is ``program(*inputs, *ones)``. Its result is multiplied by ones, too.
    """
    shapes = [np.shape(v) for v in trail(textbook.namespace, code, inputs)]
    ones = [np.ones(shapes[p]) for _, *places in code for p in places] + [np.ones(shapes[-1])]

    def program(*given: Any) -> Any:
        values, factors = list(given[: len(inputs)]), iter(given[len(inputs) :])
        for name, *places in code:
            operands = [values[p] * next(factors) for p in places]
            values.append(OPERATIONS[name].apply(textbook.namespace, *operands))
        return values[-1] * next(factors)

    return program, ones


def trail(f: Any, code: Code, inputs: Sequence[Any]) -> list[Any]:
    """Run a program and give all its values, the inputs first."""
    values = list(inputs)
    for name, *places in code:
        values.append(OPERATIONS[name].apply(f, *(values[p] for p in places)))
    return values


def on_a_kink(code: Code, inputs: Sequence[Array], fmt: Format) -> bool:
    """Tell whether a kinked unit is met within √u of its kink, where rounding picks the branch."""
    values = trail(textbook.namespace, code, [np.asarray(x, dtype=np.float64) for x in inputs])
    near = math.sqrt(fmt.unit_roundoff)
    return any(
        bool(np.any(np.abs(values[places[0]] - kink) <= near))
        for name, *places in code
        if name in textbook.CATALOGUE
        for kink in textbook.CATALOGUE[name].kinks
    )


# ---------------------------------------------------------------------------------------------
# Drawing
# ---------------------------------------------------------------------------------------------


def code(
    *shapes: tuple[int, ...], most: int = 6, names: Sequence[str] = (), start: Code | None = None
) -> Draw:
    """Draw a program over inputs of these shapes with elements in [-2, 2].

    ``start`` is what every drawn program begins with.
    """
    of = "smooth operations" if list(names) == SMOOTH else "any operations"
    says = drawing(f"a program of up to {most} instructions, {of}, on inputs of shapes {shapes}")
    return says(lambda _fmt, _batch: _drawn(shapes, most, sorted(names or OPERATIONS), start or []))


def inputs(*shapes: tuple[int, ...]) -> Draw:
    """Draw inputs of these shapes for a drawn program, none of them tiny."""

    @drawing(f"arrays of shapes {shapes}, sizes of their numbers in [2^-6, {TAME:g}]")
    def make(fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
        size = strategies.floats(fmt.name, min_value=2.0**-6, max_value=TAME)
        element = st.tuples(size, st.sampled_from((1.0, -1.0))).map(math.prod)
        return st.tuples(*(_filled(shape, element, fmt) for shape in shapes)).map(list)

    return make


def _filled(
    shape: tuple[int, ...], element: st.SearchStrategy[float], fmt: Format
) -> st.SearchStrategy[Array]:
    size = math.prod(shape)
    return st.lists(element, min_size=size, max_size=size).map(
        lambda drawn: np.array(drawn, dtype=fmt.carrier).reshape(shape)
    )


@st.composite
def _drawn(
    draw: st.DrawFn, shapes: Sequence[tuple[int, ...]], most: int, names: Sequence[str], start: Code
) -> Code:
    samples = trail(textbook.namespace, start, [np.ones(shape) for shape in shapes])
    magnitudes = [TAME] * len(shapes)
    for name, *places in start:
        magnitudes.append(OPERATIONS[name].magnitude(*(magnitudes[p] for p in places)))
    written = list(start)
    for _ in range(draw(st.integers(1, most))):
        name = draw(st.sampled_from(names))
        operation = OPERATIONS[name]
        # The last value is taken up, so that most of the program matters; others are reused.
        places = [len(samples) - 1] + [
            draw(st.integers(0, len(samples) - 1)) for _ in range(len(operation.axes) - 1)
        ]
        places = draw(st.permutations(places)) if len(places) > 1 else places
        size = operation.magnitude(*(magnitudes[p] for p in places))
        result = _result(operation, [samples[p] for p in places])
        if result is not None and size <= LARGEST:
            written.append([name, *places])
            samples.append(result)
            magnitudes.append(size)
    return written or [["halve", 0]]


def _result(operation: Operation, operands: list[Any]) -> Array | None:
    """Try an operation on samples: its result, or None where the shapes do not suit it."""
    if any(x.ndim not in axes for x, axes in zip(operands, operation.axes, strict=True)):
        return None
    try:
        result = np.asarray(operation.apply(textbook.namespace, *operands))
    except (ValueError, IndexError):  # NumPy's answers to shapes that do not fit
        return None
    return np.ones(result.shape) if result.ndim <= 2 and 0 < result.size <= MOST_ELEMENTS else None


# ---------------------------------------------------------------------------------------------
# Judging
# ---------------------------------------------------------------------------------------------

STEP = 100


def namespace(check: Check) -> SimpleNamespace:
    """Give the functions and transforms of the backend under test as attributes."""
    return SimpleNamespace(**check.backend.functions)


def typed(check: Check, *arrays: Array) -> list[Array]:
    """Give arrays in the dtype that the backend under test is called with."""
    return [np.asarray(a, dtype=check.fmt.carrier) for a in arrays]


def derivative(program: Program, order: int) -> Program:
    """Give the ``order``-th derivative of an exact program in its first argument, a number.

    Central differences with step h = 2^-100 in ball arithmetic: the ball holds the rounding, and
    |D(2h) - D(h)|, three times the truncation c·h², is added to its radius. To be evaluated by
    `ffverify.truth.derivatives.value`, which raises the precision until the ball is narrow.
    """
    weights = [(-1) ** k * math.comb(order, k) for k in range(order + 1)]
    like = BALLS.array(0.0).like

    def differentiated(t: Any, *held: Any) -> Any:
        def quotient(h: Any) -> Any:
            terms = [
                w * program(t + BALLS.array(order - 2 * k) * like(h / 2), *held)
                for k, w in enumerate(weights)
            ]
            return sum(terms[1:], terms[0]) / like(h**order)

        h = arb(2) ** -STEP
        near, wide = quotient(h), quotient(2 * h)
        truncation = abs(near - wide).values
        return near + like(np.frompyfunc(lambda e: arb(0, e.abs_upper()), 1, 1)(truncation))

    return differentiated


def along(code: Code, inputs: Sequence[Array], u: Sequence[Array], v: Array) -> Program:
    """Give the exact program t ↦ ⟨v, program(inputs + t u)⟩ of a number t."""

    def line(t: Any) -> Any:
        moved = [BALLS.array(x) + t * BALLS.array(w) for x, w in zip(inputs, u, strict=True)]
        return (run(textbook.namespace, code, moved) * BALLS.array(v)).sum()

    return line


def both_modes(check: Check, code: Code, inputs: Sequence[Array]) -> tuple[Array, Array, Truth]:
    """Give ⟨v, Ju⟩ by the backend's forward mode, ⟨Jᵀv, u⟩ by its reverse mode, and their truth.

    u and v are fixed; inner products are taken exactly. Truth moves every operand (`nudged`).
    """
    exact_program, ones = nudged(code, inputs)
    u = typed(check, *(direction(*x.shape) for x in inputs))
    (v,) = typed(check, direction(*ones[-1].shape))

    def program(f: Any, *xs: Any) -> Any:
        return run(f, code, xs)

    backend, dtype = check.backend, check.fmt.name
    y_dot = backend.jvp(program, inputs, u, dtype)
    x_bars = backend.vjp(program, inputs, v, dtype, wrt=range(len(inputs)))
    exact = truth.directional(
        lambda *args: (exact_program(*args) * BALLS.array(v)).sum(),
        [*inputs, *ones],
        [*u, *[None] * len(ones)],
        check.fmt,
    )
    return inner([v], [y_dot]), inner(x_bars, u), exact


def inner(left: Sequence[Array], right: Sequence[Array]) -> Array:
    """Give ⟨left, right⟩ of lists of computed arrays with one rounding: summed in rationals."""
    if not all(np.isfinite(a).all() for a in (*left, *right)):
        return np.array(np.nan)
    pairs = zip(
        [x for a in left for x in np.ravel(a).tolist()],
        [y for b in right for y in np.ravel(b).tolist()],
        strict=True,
    )
    return np.array(float(sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(0))))


def running_scale(f: Any, fn: Callable[..., Any], *args: Array) -> float:
    """Give Σ |value · adjoint| over all operations of a traced function with one number as result.

    Times g·u it is the running bound of that function: every operation's result moved by its
    rounding and carried to the end. For derivatives of higher order, whose operations only the
    engine knows; the adjoints are its own, so a wrong rule may widen the bound by its own size,
    which hides nothing larger than rounding.
    """
    graph = f.trace(fn, *args)
    adjoints: dict[Any, Any] = {graph.outputs[0]: np.ones(graph.outputs[0].shape)}
    total = 0.0
    for node in reversed(graph.nodes):
        y_bar = adjoints.get(node)
        if y_bar is None:
            continue
        total += float(np.sum(np.abs(y_bar * node.value)))
        values = [x.value for x in node.inputs]
        for k, x in enumerate(node.inputs):
            if k in node.primitive.active:
                x_bar = node.primitive.pull(k, y_bar, node.value, values, node.params)
                adjoints[x] = adjoints[x] + x_bar if x in adjoints else x_bar
    return total
