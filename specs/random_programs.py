"""Beyond the chapter: whole random programs, and every input that half precision has."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffverify.conformance.check import Check, direction
from ffverify.conformance.claim import claim
from ffverify.exact.formats import Array
from ffverify.truth import derivatives as truth
from ffverify.truth.adaptive import Truth

from . import programs
from .planted import overwriting, swept, unsummed
from .programs import Code

SHAPES = ((2, 3), (3, 3), (3,))
# Each program has a product, a reused node, a branch, a broadcast, and a reduction over axis 0.
START: Code = [
    ["affine", 0, 1, 2], ["leaky_relu", 3], ["add", 4, 2], ["softmax_first", 5], ["multiply", 6, 3],
]  # fmt: skip


@claim(
    "beyond",
    "Whole programs drawn at random, graphs with broadcasts, reductions and reused nodes: value, "
    "forward and reverse mode equal truth, in every way the engine has to compute them.",
    functions=programs.NEEDED,
    examples=12,
    code=programs.code(*SHAPES, start=START),
    inputs=programs.inputs(*SHAPES),
)
def random_programs_agree(check: Check, code: Code, inputs: list[Array]) -> None:
    if programs.on_a_kink(code, inputs, check.fmt):
        return
    exact_program, ones = programs.nudged(code, inputs)
    computed = check.backend.value(lambda f, *xs: programs.run(f, code, xs), inputs, check.fmt.name)
    check.agrees("value", computed, truth.value(exact_program, [*inputs, *ones], check.fmt))
    forward, reverse, exact = programs.both_modes(check, code, inputs)
    check.agrees("⟨v, Ju⟩ in forward mode", forward, exact)
    check.agrees("⟨Jᵀv, u⟩ in reverse mode", reverse, exact)
    if check.backend.provides("trace"):
        _check_transforms(check, code, inputs, exact)


def _check_transforms(check: Check, code: Code, inputs: list[Array], exact: Truth) -> None:
    """Check the engine's other ways to the same derivative ⟨v, Ju⟩."""
    f = programs.namespace(check)

    def program(*xs: Any) -> Any:
        return programs.run(f, code, xs)

    y, pullback = f.vjp(program, *inputs)
    (v,) = programs.typed(check, direction(*np.shape(y)))
    u = programs.typed(check, *(direction(*x.shape) for x in inputs))
    everything = range(len(inputs))

    def cost(*xs: Any) -> Any:
        return (program(*xs) * v).sum()

    gradient = f.grad(cost, argnums=tuple(everything))
    rows = f.jacobian(program, argnums=tuple(everything), mode="reverse")(*inputs)
    columns = f.jacobian(program, argnums=tuple(everything), mode="forward")(*inputs)
    for where, gradients in (
        ("vjp", pullback(v)),
        ("grad", gradient(*inputs)),
        ("the simplified graph of grad", f.simplify(f.trace(gradient, *inputs))(*inputs)),
        ("compiled grad", f.compile(gradient)(*inputs)),
    ):
        check.agrees(f"⟨Jᵀv, u⟩ by {where}", programs.inner(gradients, u), exact)
    for where, tangent in (
        ("jvp", f.jvp(program, tuple(inputs), tuple(u))[1]),
        ("linearize", f.linearize(program, *inputs)[1](*u)),
    ):
        check.agrees(f"⟨v, Ju⟩ by {where}", programs.inner([v], [tangent]), exact)
    pairs = np.multiply.outer
    for mode, blocks in (("reverse", rows), ("forward", columns)):
        product = programs.inner(blocks, [pairs(v, w) for w in u])
        check.agrees(f"vᵀJu by the Jacobian in {mode} mode", product, exact)


@random_programs_agree.bug("vjp", "a broadcast operand gets the cotangent of the first row alone")
def _(f: Any, fn: Any, *args: Any) -> Any:
    return swept(f, fn, args, unsummed)


@random_programs_agree.bug("vjp", "the last consumer's cotangent overwrites the others'")
def _(f: Any, fn: Any, *args: Any) -> Any:
    return swept(f, fn, args, overwriting)


@random_programs_agree.bug("softmax", "its rule sums over the last axis, whichever was asked for")
def _(f: Any, z: Any, axis: int = -1) -> Any:
    def rule(v: Any, y: Any, _z: Any) -> tuple[Any]:
        return (y * (v - (v * y).sum(axis=-1, keepdims=True)),)

    return f.custom_rule(lambda z: f.softmax(z, axis=axis), vjp=rule)(z)


@random_programs_agree.bug("leaky_relu", "the negative branch's derivative is dropped")
def _(f: Any, z: Any, slope: float = 0.01) -> Any:
    return f.custom_rule(lambda z: f.leaky_relu(z, slope), vjp=lambda v, _y, z: (v * (z > 0),))(z)
