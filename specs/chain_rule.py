"""Section 6.5: what back-propagation is: the chain rule on a graph, each node once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ffverify.conformance import proofs
from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import integers
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.formats import Array, Format
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook

from . import programs
from .planted import overwriting, swept
from .programs import Code

# ---------------------------------------------------------------------------------------------
# What it computes
# ---------------------------------------------------------------------------------------------

TARGETS = np.array([[0], [1], [1]])


def _cost(f: Any, X: Any, W: Any, b: Any, y: Any) -> Any:
    return f.bernoulli_nll(f.affine(X, W, b), y).sum()


@claim(
    "6.5",
    "Back-propagation only computes gradients: parameters stay as they are; a step of 1/L along "
    "the negative gradient, L the gradient's Lipschitz constant, then lowers the cost.",
    functions=["affine", "bernoulli_nll"],
    examples=10,
    inputs=programs.inputs((3, 2), (2, 1), (1,)),
)
def backprop_only_computes_gradients(check: Check, inputs: list[Array]) -> None:
    backend, dtype = check.backend, check.fmt.name
    X, W, b = inputs
    (one,) = programs.typed(check, np.ones(()))
    g_W, g_b = backend.vjp(_cost, [*inputs, TARGETS], one, dtype, wrt=(1, 2))
    if backend.provides("vjp"):  # called without the harness, which hands out copies
        f = programs.namespace(check)
        given = [x.copy() for x in inputs]
        f.vjp(lambda X, W, b: _cost(f, X, W, b, TARGETS), *given)[1](one)
        for name, before, after in zip("XWb", inputs, given, strict=True):
            check.equal(after, before, f"{name} after back-propagation")
    # ζ'' ≤ ¼, so L = ¼ Σ (‖x‖² + 1); with an error e in g, J falls by (‖g‖² - ‖e‖²) / 2L at least.
    step = 4 / float(np.sum(X.astype(np.float64) ** 2) + len(X)) * (1 - 2**-40)

    def decrease(f: Any, *arrays: Any) -> Any:
        X, W, b, g_W, g_b = arrays
        moved = _cost(f, X, W - step * g_W, b - step * g_b, TARGETS)
        return _cost(f, X, W, b, TARGETS) - moved

    proofs.positive(check, decrease, X, W, b, g_W, g_b, where="J(θ) - J(θ - g/L)")


@backprop_only_computes_gradients.bug("vjp", "parameters are updated during the backward pass")
def _(f: Any, fn: Any, *args: Any) -> Any:
    value, pullback = f.vjp(fn, *args)

    def updating(y_bar: Any) -> Any:
        bars = pullback(y_bar)
        for x, x_bar in zip(args, bars, strict=True):
            x -= 0.125 * x_bar  # noqa: PLW2901 - in place, which is the bug
        return bars

    return value, updating


@backprop_only_computes_gradients.bug("affine", "the gradient's sign is turned, for a descent")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    def rule(v: Any, _y: Any, X: Any, W: Any, _b: Any) -> tuple[Any, ...]:
        return -v @ W.T, -X.T @ v, -v.sum(axis=0)

    return f.custom_rule(lambda X, W, b: X @ W + b, vjp=rule)(X, W, b)


LAYER_SHAPES = ((2, 3), (3, 3), (3,))
LAYER_FIRST: Code = [["affine", 0, 1, 2], ["tanh", 3]]


@claim(
    "6.5",
    "∇ₓf(x, y) does not depend on whether the derivative in y is asked for, too.",
    functions=programs.NEEDED,
    examples=15,
    code=programs.code(*LAYER_SHAPES, most=4, start=LAYER_FIRST),
    inputs=programs.inputs(*LAYER_SHAPES),
)
def gradient_ignores_undifferentiated_inputs(check: Check, code: Code, inputs: list[Array]) -> None:
    def program(f: Any, *xs: Any) -> Any:
        return programs.run(f, code, xs)

    shape = programs.run(textbook.namespace, code, inputs).shape
    (v,) = programs.typed(check, direction(*shape))
    everything = check.backend.vjp(program, inputs, v, check.fmt.name, wrt=range(3))
    for i, both in enumerate(everything):
        (alone,) = check.backend.vjp(program, inputs, v, check.fmt.name, wrt=[i])
        check.equal(alone, both, f"gradient in argument {i} alone and beside the others")


@gradient_ignores_undifferentiated_inputs.bug("affine", "the weights' cotangent is added in")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    leaks = hasattr(W, "value")  # it is being differentiated

    def rule(v: Any, _y: Any, X: Any, W: Any, _b: Any) -> tuple[Any, ...]:
        W_bar = X.T @ v
        return v @ W.T + (W_bar.sum() if leaks else 0), W_bar, v.sum(axis=0)

    return f.custom_rule(lambda X, W, b: X @ W + b, vjp=rule)(X, W, b)


# ---------------------------------------------------------------------------------------------
# The chain rule
# ---------------------------------------------------------------------------------------------


def _first(f: Any, x: Any, W: Any) -> Any:
    return f.tanh(x @ W)


def _second(f: Any, y: Any, V: Any) -> Any:
    return f.softplus(f.affine(y, V, V[0]))


def _composed(f: Any, x: Any, W: Any, V: Any) -> Any:
    return _second(f, _first(f, x, W), V)


@claim(
    "6.5",
    "Chain rule: dz/dx = dz/dy dy/dx for numbers; ∇ₓz = (∂y/∂x)ᵀ ∇_y z for vectors; for tensors it "
    "is the same, whatever their shape.",
    functions=["affine", "tanh", "softplus"],
    examples=6,
    inputs=programs.inputs((1, 3), (3, 3), (3, 3)),
)
def chain_rule_scalars_vectors_tensors(check: Check, inputs: list[Array]) -> None:
    x, W, V = (a / 2 for a in inputs)  # exact
    backend, dtype = check.backend, check.fmt.name
    u, v = programs.typed(check, direction(1, 3), -direction(1, 3))

    def pull(program: Any, arrays: list[Array], z_bar: Array) -> Array:
        return backend.vjp(program, arrays, z_bar, dtype, wrt=[0])[0]

    y = backend.value(_first, [x, W], dtype)
    whole = pull(_composed, [x, W, V], v)
    parts = pull(_first, [x, W], pull(_second, [y, V], v))
    rows = [np.eye(3)[i : i + 1] for i in range(3)]
    inner_rows = [pull(_first, [x, W], e) for e in programs.typed(check, *rows)]
    outer_rows = [pull(_second, [y, V], e) for e in programs.typed(check, *rows)]
    along_u = [programs.inner([row], [u]) for row in inner_rows]
    from_v = [programs.inner([column], [v]) for column in np.concatenate(outer_rows).T]
    tensor = pull(
        lambda f, x, W, V: _composed(f, x.reshape((1, 3)), W, V), [x.reshape(3, 1), W, V], v
    )

    def line(t: Any, x: Any, W: Any, V: Any) -> Any:
        moved = x + t * BALLS.array(u)
        return (_composed(textbook.namespace, moved, W, V) * BALLS.array(v)).sum()

    exact = truth.value(programs.derivative(line, 1), [np.zeros(()), x, W, V], check.fmt)
    check.agrees("⟨∇z, u⟩ of the composition", programs.inner([whole], [u]), exact)
    check.agrees("⟨∇z, u⟩ part by part", programs.inner([parts], [u]), exact)
    product = programs.inner([np.array(from_v)], [np.array(along_u)])
    check.agrees("⟨(∂y/∂x)ᵀ(∂z/∂y)ᵀ v, u⟩ of Jacobians", product, exact)
    check.equal(tensor.reshape(1, 3), whole, "the gradient in x as a tensor of shape (3, 1)")

    chained = pull(lambda f, x: f.softplus(f.tanh(x)), [x], np.ones_like(x))
    inside = pull(lambda f, x: f.tanh(x), [x], np.ones_like(x))
    at = backend.value(lambda f, x: f.tanh(x), [x], dtype)
    outside = pull(lambda f, y: f.softplus(y), [at], np.ones_like(x))
    number = truth.gradient(
        lambda x: textbook.namespace.softplus(textbook.namespace.tanh(x)),
        [x], np.ones_like(x), 0, check.fmt, core=(0,),
    )  # fmt: skip
    check.agrees("dz/dx", chained, number)
    check.agrees("dz/dy · dy/dx", outside * inside, number)


@chain_rule_scalars_vectors_tensors.bug("affine", "a square Jacobian is not transposed")
def _(f: Any, X: Any, W: Any, b: Any) -> Any:
    return f.custom_rule(
        lambda X, W, b: X @ W + b, vjp=lambda v, _y, X, W, _b: (v @ W, X.T @ v, v.sum(axis=0))
    )(X, W, b)


@chain_rule_scalars_vectors_tensors.bug("tanh", "the inner derivative is left out")
def _(f: Any, z: Any) -> Any:
    return f.custom_rule(np.tanh, vjp=lambda v, _y, _z: (v,))(z)


# ---------------------------------------------------------------------------------------------
# Memoisation
# ---------------------------------------------------------------------------------------------


@claim(
    "6.5",
    "Derivatives are computed once per node and stored: a chain of n diamonds has 2^n paths, and "
    "its derivative takes 2n applications of rules, one per node, in either mode.",
    functions=["custom_rule", "vjp", "jvp"],
    length=integers(1, 100),
)
def memoisation_prevents_explosion(check: Check, length: int) -> None:
    f = programs.namespace(check)
    one = np.ones((), dtype=check.fmt.carrier)
    applied = 0

    def rule(v: Any) -> Any:
        nonlocal applied
        applied += 1
        where = f"rules applied on a chain of {length} diamonds with 2 nodes each"
        check.that(applied <= 2 * length, where, f"more than {2 * length}", 2 * length)
        return v / 2

    half = f.custom_rule(
        lambda x: x / 2, vjp=lambda v, _y, _x: (rule(v),), jvp=lambda v, _y, _x: rule(v[0])
    )

    def chain(x: Any) -> Any:
        for _ in range(length):
            x = half(x) + half(x)
        return x

    for mode in ("reverse", "forward"):
        applied = 0
        slope = (
            f.vjp(chain, one)[1](one)[0] if mode == "reverse" else f.jvp(chain, (one,), (one,))[1]
        )
        check.equal(slope, 1.0, f"derivative in {mode} mode")
        check.that(applied == 2 * length, f"rules applied in {mode} mode", applied, 2 * length)


@memoisation_prevents_explosion.bug("vjp", "recursion without memo, path by path")
def _(f: Any, fn: Any, *args: Any) -> Any:
    def along_paths(graph: Any, y_bar: Any, pulls: Any) -> dict[Any, Any]:
        bars: dict[Any, Any] = {}

        def visit(node: Any, y_bar: Any) -> None:
            bars[node] = bars.get(node, 0) + y_bar
            for x, x_bar in pulls(node, y_bar):
                visit(x, x_bar)

        visit(graph.outputs[0], y_bar)
        return bars

    return swept(f, fn, args, along_paths)


@memoisation_prevents_explosion.bug("jvp", "each operand's tangent computed anew for every use")
def _(f: Any, fn: Any, primals: Any, tangents: Any) -> Any:
    graph = f.trace(fn, *primals)

    def tangent(node: Any) -> Any:
        if node in graph.inputs:
            return tangents[graph.inputs.index(node)]
        values = [x.value for x in node.inputs]
        return sum(
            node.primitive.push(k, tangent(x), node.value, values, node.params)
            for k, x in enumerate(node.inputs)
            if x.primitive is not None or x in graph.inputs
        )

    return graph(*primals), tangent(graph.outputs[0])


# ---------------------------------------------------------------------------------------------
# Order
# ---------------------------------------------------------------------------------------------


def _dags(_fmt: Format, _batch: int) -> st.SearchStrategy[Any]:
    """Draw a graph: for each node, the places of its two operands; place 0 is the input."""
    nodes = st.integers(1, 8).flatmap(
        lambda n: st.tuples(*(st.tuples(*[st.integers(0, i)] * 2).map(list) for i in range(n)))
    )
    return nodes.map(list)


@claim(
    "6.5",
    "Nodes are visited in reverse topological order: a node's cotangent is the sum over all its "
    "consumers before its own rule is applied, however often it is reused.",
    functions=["custom_rule", "vjp"],
    graph=_dags,
)
def nodes_follow_their_consumers(check: Check, graph: list[list[int]]) -> None:
    f = programs.namespace(check)
    (one,) = programs.typed(check, np.ones(()))
    cotangents = [0.0] * len(graph) + [1.0]  # multiples of 2^-8: exact
    for i in reversed(range(len(graph))):
        for place in graph[i]:
            cotangents[place] += cotangents[i + 1] / 2

    def node(i: int) -> Callable[..., Any]:
        def rule(v: Any, _y: Any, _a: Any, _b: Any) -> tuple[Any, Any]:
            check.equal(v, cotangents[i + 1], f"cotangent of node {i + 1} when its rule is applied")
            return v / 2, v / 2

        halves: Callable[..., Any] = f.custom_rule(lambda a, b: (a + b) / 2, vjp=rule)
        return halves

    def run(x: Any) -> Any:
        values = [x]
        for i, (a, b) in enumerate(graph):
            values.append(node(i)(values[a], values[b]))
        return values[-1]

    _, pullback = f.vjp(run, one)
    check.equal(pullback(one)[0], cotangents[0], "cotangent of the input")


@nodes_follow_their_consumers.bug("vjp", "depth first from the output, without ordering")
def _(f: Any, fn: Any, *args: Any) -> Any:
    def depth_first(graph: Any, y_bar: Any, pulls: Any) -> dict[Any, Any]:
        bars: dict[Any, Any] = {}
        visited = set()

        def visit(node: Any, y_bar: Any) -> None:
            bars[node] = bars.get(node, 0) + y_bar
            if node not in visited:
                visited.add(node)
                for x, x_bar in pulls(node, bars[node]):
                    visit(x, x_bar)

        visit(graph.outputs[0], y_bar)
        return bars

    return swept(f, fn, args, depth_first)


@nodes_follow_their_consumers.bug("vjp", "the last consumer's cotangent overwrites the others'")
def _(f: Any, fn: Any, *args: Any) -> Any:
    return swept(f, fn, args, overwriting)
