"""Derivatives of plain NumPy functions: grad, vjp, jvp, jacobian, hessian, hvp, linearize.

Every one takes a function and returns numbers, or, inside another derivative or a trace, a graph.
They nest in any order. Arguments and results may be pytrees of float arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ffverify.reference.primitives.shaping import concatenate
from ffverify.reference.programs.sweeps import sweep

from .primitive import _cast_like, reshape
from .tracing import Forward, Recording, Tape, explain, is_float, owned, push_forward
from .tree import LEAF, Structure, flatten, flatten_like, unflatten
from .var import FLOAT, Value, Var, dtype_of, innermost, ndarray, shape_of

Function = Callable[..., Any]


def vjp(f: Function, *args: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Return f(*args) and the pullback: cotangents of the result to cotangents of the arguments.

    Returns
    -------
    value, pullback, and f's auxiliary result if `has_aux`; ``pullback(y_bar)`` is a tuple with one
    pytree per argument. The pullback may be called any number of times; the arguments may be written
    to meanwhile, but no array that f brings along.

    Raises
    ------
    TypeError
        Where an argument or the result is not of a real floating type.
    """
    leaves, structure = flatten(args)
    run = _record(lambda xs: f(*xs), [_saved(leaf) for leaf in leaves], structure, has_aux=has_aux)

    def pullback(y_bar: Any) -> tuple[Any, ...]:
        y_bars = _matching(y_bar, run.out_structure, run.values, "cotangent")
        again = run._replace(tape=[*run.tape])  # which is used up
        return unflatten(structure, again.pull(y_bars))  # type: ignore[no-any-return]  # a tuple

    value = unflatten(run.out_structure, run.values)
    return (value, pullback, run.aux) if has_aux else (value, pullback)


def _saved(leaf: Value) -> Value:
    """Return what stays as it is when the leaf is written into."""
    if type(leaf) is Var:
        return leaf.alias()
    return leaf.copy("K") if isinstance(leaf, np.ndarray) else leaf


class _Run(NamedTuple):
    """One run of a function on a tape: what it returned, and the linear map that it left behind."""

    tape: Tape
    inputs: list[Value]
    outputs: list[int | None]  # place on the tape of each leaf of the result; None: constant
    values: list[Value]
    out_structure: Structure
    aux: Any

    def pull(self, y_bars: list[Value] | None = None) -> list[Value]:
        """Cotangents of the inputs from the outputs' or from 1, in arrays of their own; uses up the tape."""
        return sweep(self.tape, self.outputs, y_bars, self.inputs)

    def push(self, x_dots: list[Value]) -> list[Value]:
        """Tangents of the outputs, in arrays that the caller may write to."""
        dots = push_forward(self.tape, x_dots)
        y_dots = [None if place is None else dots[place] for place in self.outputs]
        return owned(y_dots, self.values, x_dots)


def _record(
    f: Function, leaves: list[Value], structure: Structure, *, has_aux: bool = False
) -> _Run:
    """Run f on a tape, with leaves that nobody writes to as long as the run is used."""
    _check_floats(leaves, "an argument")
    trace = Recording()
    inputs = trace.inputs(leaves)
    try:
        out = f(unflatten(structure, inputs))
    except ValueError as error:
        explain(error)
        raise
    finally:
        tape = trace.close()
    out, aux = out if has_aux else (out, None)
    outputs, values, out_structure = _result(trace, out)
    places = [None if var is None else var.index for var in outputs]
    return _Run(tape, leaves, places, values, out_structure, has_aux and _peeled(trace, aux))


def _result(
    trace: Recording | Forward, out: Any
) -> tuple[list[Var | None], list[Value], Structure]:
    """Return (this trace's `Var` or None, value) for each leaf of a result, and its structure."""
    leaves, structure = flatten(out)
    outputs, values = [], []
    for leaf in leaves:
        var = trace.own(leaf)
        outputs.append(var)
        values.append(leaf if var is None else var.value)
    _check_floats(values, "the result")
    return outputs, values, structure


def jvp(
    f: Function, primals: Sequence[Any], tangents: Sequence[Any], *, has_aux: bool = False
) -> tuple[Any, ...]:
    """Return f(*primals) and its derivative in the direction `tangents`, in forward mode.

    `primals` and `tangents` are sequences with one pytree per argument; a tangent None means zero.
    """
    leaves, structure = flatten(tuple(primals))
    _check_floats(leaves, "an argument")
    x_dots = [
        None if v is None else _like(v, leaf, "tangent")
        for v, leaf in zip(_tangent_leaves(tuple(primals), tangents), leaves, strict=True)
    ]
    trace = Forward()
    inputs = [
        leaf if v is None else trace.input(leaf, v) for leaf, v in zip(leaves, x_dots, strict=True)
    ]
    try:
        with np.errstate(all="ignore"):
            out = f(*unflatten(structure, inputs))
    except ValueError as error:
        explain(error)
        raise
    out, aux = out if has_aux else (out, None)
    outputs, values, out_structure = _result(trace, out)
    found = [None if var is None else var.tangent for var in outputs]
    y_dots = owned(found, values, x_dots)
    value, y_dot = unflatten(out_structure, values), unflatten(out_structure, y_dots)
    return (value, y_dot, _peeled(trace, aux)) if has_aux else (value, y_dot)


def _tangent_leaves(primals: tuple[Any, ...], tangents: Sequence[Any]) -> list[Value]:
    if len(tangents) != len(primals):
        raise ValueError(f"jvp: {len(tangents)} tangents for {len(primals)} arguments")
    found: list[Value] = []
    for primal, tangent in zip(primals, tangents, strict=True):
        leaves, structure = flatten(primal)
        found += (
            [None] * len(leaves) if tangent is None else flatten_like(structure, tangent, "tangent")
        )
    return found


def linearize(f: Function, *args: Any) -> tuple[Any, Callable[..., Any]]:
    """Return f(*args) and the linear map ``tangents -> y_dot``; f itself runs only once."""
    leaves, structure = flatten(args)
    run = _record(lambda xs: f(*xs), [_saved(leaf) for leaf in leaves], structure)

    def linear_map(*tangents: Any) -> Any:
        x_dots = _matching(tangents, structure, run.inputs, "tangents")
        return unflatten(run.out_structure, run.push(x_dots))

    return unflatten(run.out_structure, run.values), linear_map


def value_and_grad(
    f: Function, argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Function:
    """Return the function that computes f's scalar value and its gradient.

    Parameters
    ----------
    argnums : the arguments to differentiate, one gradient for an int, a tuple for a sequence.
    has_aux : f returns (scalar, auxiliary), and the result is ((scalar, auxiliary), gradient).
    """

    @functools.wraps(f, updated=())
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        x, of_x = _of_chosen(f, argnums, args, kwargs)
        leaves, structure = flatten(x)
        run = _record(of_x, leaves, structure, has_aux=has_aux)
        if run.out_structure is not LEAF or shape_of(run.values[0]) != ():
            found = unflatten(run.out_structure, list(map(shape_of, run.values)))
            what = "shape" if run.out_structure is LEAF else "the structure"
            raise TypeError(
                f"grad: the function returns {what} {found}, and a gradient is that of a scalar: "
                "return one number, or use jacobian or vjp"
            )
        (value,) = run.values
        gradient = unflatten(structure, run.pull())
        return ((value, run.aux) if has_aux else value), gradient

    return differentiated


def grad(f: Function, argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Function:
    """Return the function that computes the gradient of scalar f; see `value_and_grad`.

    With `has_aux` the result is (gradient, auxiliary).
    """
    both = value_and_grad(f, argnums, has_aux=has_aux)

    @functools.wraps(f, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, bars = both(*args, **kwargs)
        return (bars, value[1]) if has_aux else bars

    return gradient


def jacobian(f: Function, argnums: int | Sequence[int] = 0, *, mode: str = "cheaper") -> Function:
    """Return the function that computes the full Jacobian.

    For an array in, an array out, its shape is output shape + input shape; pytrees give a tree of
    the output's structure whose leaves are trees of the input's.

    Parameters
    ----------
    mode : "forward" costs one JVP per input element, "reverse" one VJP per output element,
        "cheaper" takes the smaller number.
    """
    if mode not in ("forward", "reverse", "cheaper"):
        raise ValueError(f"jacobian: mode={mode!r}: use 'forward', 'reverse' or 'cheaper'")

    @functools.wraps(f, updated=())
    def full(*args: Any, **kwargs: Any) -> Any:
        x, of_x = _of_chosen(f, argnums, args, kwargs)
        in_leaves, in_structure = flatten(x)
        if mode == "forward":
            value, linear_map = linearize(of_x, x)
            forward = True
        else:
            value, pullback = vjp(of_x, x)
        out_leaves, out_structure = flatten(value)
        if mode != "forward":
            forward = mode == "cheaper" and _total(in_leaves) < _total(out_leaves)
            if forward:
                _, linear_map = linearize(of_x, x)
        if forward:
            columns = [
                flatten(linear_map(unflatten(in_structure, v)))[0] for v in _basis(in_leaves)
            ]
            blocks = _blocks(columns, in_leaves, out_leaves, last=True)
        else:
            rows = [flatten(pullback(unflatten(out_structure, v)))[0] for v in _basis(out_leaves)]
            blocks = _blocks(rows, out_leaves, in_leaves, last=False)
        return unflatten(out_structure, [unflatten(in_structure, row) for row in blocks])

    return full


def _total(leaves: list[Value]) -> int:
    return sum(prod(shape_of(leaf)) for leaf in leaves)


def _basis(leaves: list[Value]) -> Any:
    """Yield the unit vectors of the space that the leaves span, each as a list of leaves."""
    for i, leaf in enumerate(leaves):
        for j in range(prod(shape_of(leaf))):
            vectors = [np.zeros(shape_of(other), dtype_of(other)) for other in leaves]
            vectors[i].reshape(-1)[j] = 1
            yield vectors


def _blocks(
    products: list[list[Value]], basis: list[Value], others: list[Value], *, last: bool
) -> list[list[Value]]:
    """Put products with unit vectors together: blocks[output leaf][input leaf]."""
    blocks, start = [], 0
    for leaf in basis:
        n = prod(shape_of(leaf))
        row = []
        for k, other in enumerate(others):
            size = prod(shape_of(other))
            shape = (size, 1) if last else (1, size)
            parts = [reshape(product[k], shape=shape) for product in products[start : start + n]]
            full = (
                concatenate(*parts, axis=1 if last else 0)
                if parts
                else np.zeros((size, 0) if last else (0, size), dtype_of(other))
            )
            joined = (other, leaf) if last else (leaf, other)
            row.append(reshape(full, shape=shape_of(joined[0]) + shape_of(joined[1])))
        blocks.append(row)
        start += n
    return [list(column) for column in zip(*blocks, strict=True)] if last else blocks


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return the function that computes the Hessian of scalar f, forward over reverse."""
    return jacobian(grad(f, argnums), argnums, mode="forward")


def hvp(f: Function, x: Any, v: Any) -> Any:
    """Return H v for the Hessian H of scalar f at x, forward over reverse, in O(size of x).

    x and v are one pytree each; the Hessian is never formed (Pearlmutter 1994).
    """
    return jvp(grad(f), (x,), (v,))[1]


# Checks -------------------------------------------------------------------------------------------------
def _check_floats(leaves: list[Value], what: str) -> None:
    for leaf in leaves:
        if (type(leaf) is ndarray and leaf.dtype is FLOAT) or type(leaf) is np.float64:
            continue  # the usual case, quickly
        value = innermost(leaf)
        if isinstance(value, np.matrix | np.ma.MaskedArray):
            raise TypeError(
                f"{what}: a {type(value).__name__}, which has an arithmetic of its own: convert it "
                "with np.asarray(), a masked array with .filled()"
            )
        if not is_float(leaf):
            kind = getattr(value, "dtype", type(value).__name__)
            fix = (
                "complex values are not differentiated here: give real and imaginary parts"
                if getattr(kind, "kind", "") == "c" or isinstance(value, complex)
                else "only real floating types are differentiated: convert it with float() or "
                ".astype(float), or leave it out of the differentiated arguments (argnums, closure)"
            )
            raise TypeError(f"{what}: a value of type {kind}; {fix}")


def _matching(tree: Any, structure: Structure, like: list[Value], what: str) -> list[Value]:
    """Return the leaves of tangents or cotangents for primals of this structure and these values."""
    leaves = flatten_like(structure, tree, what)
    return [_like(v, x, what) for v, x in zip(leaves, like, strict=True)]


def _like(v: Value, like: Value, what: str) -> Value:
    """Return a tangent or cotangent in the dtype of its primal, whose shape it must have."""
    if shape_of(v) != shape_of(like):
        raise ValueError(f"{what} of shape {shape_of(v)} for a value of shape {shape_of(like)}")
    return _cast_like(v, like)


def _peeled(trace: Recording | Forward, aux: Any) -> Any:
    leaves, structure = flatten(aux)
    return unflatten(
        structure,
        [leaf.value if type(leaf) is Var and leaf.owner is trace else leaf for leaf in leaves],
    )


def _of_chosen(
    f: Function, argnums: int | Sequence[int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Function]:
    """Return the chosen argument, or a tuple of them, and f as a function of it alone."""
    try:
        chosen = args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in argnums)
    except IndexError:
        raise ValueError(
            f"argnums={argnums} for a call with {len(args)} positional arguments"
        ) from None

    def of_chosen(x: Any) -> Any:
        full = list(args)
        if isinstance(argnums, int):
            full[argnums] = x
        else:
            for i, part in zip(argnums, x, strict=True):
                full[i] = part
        return f(*full, **kwargs)

    return chosen, of_chosen
