"""Graphs, their simplification, and compiled programs: the same bits as the function itself."""

import collections
import contextvars
import dataclasses
import gc
import itertools
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffverify.reference import (
    affine,
    compile,  # noqa: A004  # the engine's name
    custom_rule,
    elementwise,
    flatten,
    grad,
    hvp,
    jvp,
    simplify,
    softmax_nll,
    source,
    trace,
    tree_map,
    value_and_grad,
)
from ffverify.reference.programs.compiler import HUGE, LINE, _allocate
from ffverify.reference.programs.graph import Graph, Node
from ffverify.reference.programs.simplification import frozen

rng = np.random.default_rng(0)
PARAMS = {
    "layers": [(rng.normal(size=(3, 40)), np.zeros(40)), (rng.normal(size=(40, 5)), np.ones(5))],
    "none": None,
}
INPUTS = rng.normal(size=(30, 3))
LABELS = rng.integers(0, 5, 30)


def loss(params, X, Y):
    h = X
    for W, b in params["layers"][:-1]:
        h = np.tanh(affine(h, W, b))
    W, b = params["layers"][-1]
    return np.mean(softmax_nll(h @ W + b, Y))


def plain_loss(params, X, Y):
    h = X
    for W, b in params["layers"][:-1]:
        h = np.maximum(h @ W + b, 0)
    W, b = params["layers"][-1]
    z = h @ W + b
    z = z - np.max(z, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(Y)), Y])


def same(a, b):
    xs, structure = flatten(a)
    ys, other = flatten(b)
    assert structure == other
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_array_equal(x, y)
        assert np.shape(x) == np.shape(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype


# Graphs -------------------------------------------------------------------------------------------
def test_a_graph_can_be_read():
    graph = trace(lambda x, y: np.sum(np.tanh(x) * y + 2.0), np.ones((2, 3)), np.ones(3))
    assert [node.name for node in graph.inputs] == ["x", "y"]
    assert [n.primitive.name for n in graph.nodes] == ["tanh", "multiply", "add", "sum"]
    assert graph.nodes[1].inputs == (graph.nodes[0], graph.inputs[1])
    assert graph.nodes[-1].params == {"axis": (0, 1), "keepdims": False}
    assert graph.nodes[1].shape == (2, 3)
    assert graph.nodes[1].dtype == np.float64
    assert [c.value for c in graph.constants] == [2.0]
    assert graph.counts() == {"add": 1, "multiply": 1, "sum": 1, "tanh": 1}
    assert graph.flops == (10 + 1 + 1 + 1) * 6
    assert graph.memory == 8 * (3 * 6 + 1)
    assert "multiply_1: float64[2, 3] = multiply(tanh_1, y)" in str(graph)
    assert "tanh_1 -> multiply_1;" in graph.dot()
    assert graph(np.zeros((2, 3)), np.ones(3)) == 12.0


def test_matrix_products_count_two_operations_per_term():
    assert trace(np.matmul, np.ones((4, 5)), np.ones((5, 6))).flops == 2 * 4 * 5 * 6


def test_comparisons_are_part_of_a_graph_and_branches_are_noted():
    graph = trace(lambda x: np.where(x > 0, x, -x), np.ones(2))
    assert "greater" in graph.counts()
    assert not graph.branches
    np.testing.assert_array_equal(graph(np.array([-1.0, 2.0])), [1, 2])
    assert trace(lambda x: x if x > 0 else -x, 1.0).branches


# Simplification -----------------------------------------------------------------------------------
def test_simplification_merges_folds_and_drops():
    def f(x):
        dead = np.exp(x)
        del dead
        c = np.sqrt(np.multiply(2.0, 2.0))
        return np.sin(x) * np.sin(x) + np.negative(np.negative(x)) * np.ones(3) + c

    x = np.array([0.1, 0.2, 0.3])
    graph = trace(f, x)
    small = simplify(graph)
    assert graph.counts()["sin"] == 2
    assert small.counts() == {"add": 2, "multiply": 1, "sin": 1}
    np.testing.assert_array_equal(small(x), graph(x))
    np.testing.assert_array_equal(small(2 * x), graph(2 * x))


def test_constants_that_differ_are_kept_apart():
    values = [0.0, -0.0, 0, False, np.float32(0), np.float64(0), np.zeros(1), np.zeros(2), 1.0, 1]
    values += [np.nan, np.array([0.0, -0.0]), (1,), (1.0,), slice(1), slice(None, 1, 1)]
    keys = [frozen(v) for v in values]
    assert len(set(keys)) == len(keys)
    x = np.array([2.0, -3.0])
    graph = simplify(trace(lambda x: (np.copysign(x, 0.0), np.copysign(x, -0.0)), x))
    np.testing.assert_array_equal(graph(x), [[2, 3], [-2, -3]])


def test_constants_of_other_memory_layouts_are_kept_apart():
    """Sums are taken in the order of memory."""
    w = np.random.default_rng(0).normal(size=(50, 60)) ** 3
    columns = np.asfortranarray(w)

    def f(x):
        return np.sum(w * x), np.sum(columns * x)

    assert f(0.1)[0] != f(0.1)[1]  # or nothing is tested
    same(compile(f)(0.1), f(0.1))


def test_merging_different_constants_would_be_noticed(monkeypatch):
    """The planted bug: a key that sees values only by ==, as Python's own hash does."""
    monkeypatch.setattr(
        "ffverify.reference.programs.simplification.frozen",
        lambda v: v if np.isscalar(v) else frozen(v),
    )
    x = np.array([2.0, -3.0])
    graph = simplify(trace(lambda x: (np.copysign(x, 0.0), np.copysign(x, -0.0)), x))
    assert not np.array_equal(graph(x), [[2, 3], [-2, -3]])


# Compiled programs -----------------------------------------------------------------------------------
def direction():
    return {"layers": [(W * 0.5, b + 1) for W, b in PARAMS["layers"]], "none": None}


PROGRAMS = {
    "value": (loss, (PARAMS, INPUTS, LABELS)),
    "gradient": (value_and_grad(loss), (PARAMS, INPUTS, LABELS)),
    "plain gradient": (value_and_grad(plain_loss), (PARAMS, INPUTS, LABELS)),
    "gradient in the inputs": (grad(loss, 1), (PARAMS, INPUTS, LABELS)),
    "hvp": (
        lambda p, v, X, Y: hvp(lambda q: loss(q, X, Y), p, v),
        (PARAMS, direction(), INPUTS, LABELS),
    ),
    "jvp": (
        lambda p, v, X, Y: jvp(lambda q: plain_loss(q, X, Y), (p,), (v,)),
        (PARAMS, direction(), INPUTS, LABELS),
    ),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_compiled_program_returns_the_same_bits(name, dtype):
    f, args = PROGRAMS[name]
    args = eval_tree(args, dtype)
    program = compile(f)
    expected = f(*args)
    same(program(*args), expected)
    same(program(*args), expected)  # from the cache, with used work arrays
    scaled = eval_tree(args, dtype, 0.5)
    same(program(*scaled), f(*scaled))


def eval_tree(args, dtype, factor=1.0):
    return tree_map(lambda x: (x * factor).astype(dtype) if x.dtype.kind == "f" else x, args)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (np.arange(3), np.array([1, 1, 0])),
        (np.array([0, 0, 2]), np.array([1, 1, 0])),  # the same element twice
        (np.array([-1, 2, 0]), np.array([1, 1, 0])),  # and by its two names
        (np.arange(3), np.array([[1], [1]])),  # each row with each column
    ],
)
def test_an_element_taken_twice_gets_both_cotangents(rows, columns):
    """Where constant indices are distinct, cotangents are put in place; -0 is then 0, as in a sum."""

    def f(x, v):
        return np.sum(x[rows, columns] * v)

    x = np.arange(9.0).reshape(3, 3)
    v = np.where(np.arange(3) == 1, -0.0, 2.0)
    expected = np.zeros((3, 3))
    np.add.at(expected, (rows, columns), v)
    for g in (grad(f), compile(grad(f))):
        found = g(x, v)
        np.testing.assert_array_equal(found, expected)
        assert not np.signbit(found).any()


def test_an_index_of_distinct_elements_that_is_an_argument_is_not_taken_for_a_constant():
    g = compile(grad(lambda x, rows: np.sum(x[rows])))
    for rows in (np.arange(3), np.array([0, 0, 2])):
        np.testing.assert_array_equal(g(np.ones(3), rows), np.bincount(rows, minlength=3))


def test_programs_are_cached_by_shape_dtype_and_static_arguments():
    calls = itertools.count()

    def f(x, n):
        next(calls)
        return x * n + np.sum(x)

    program = compile(f)
    x = np.arange(3.0)
    for arguments in [(x, 2), (x, 3), (x[:2], 2), (x.astype(np.float32), 2), (x, 2.5)]:
        same(program(*arguments), f(*arguments))
        before = next(calls)
        same(program(*arguments), arguments[0] * arguments[1] + np.sum(arguments[0]))
        assert next(calls) == before + 1
    before = next(calls)
    same(program(x, 7.5), x * 7.5 + 3.0)  # a float is an input, an int a part of the program
    assert next(calls) == before + 1


@pytest.mark.parametrize("number", [10**30, -(10**30), True, -0.0, -np.inf, np.nan])
def test_a_number_of_any_size_is_part_of_a_program(number):
    for f in (lambda x: x * number, lambda x: number / x, lambda x: np.maximum(x, number) - number):
        for g in (f, value_and_grad(lambda x, f=f: np.sum(f(x)))):
            with np.errstate(all="ignore"):  # NumPy's own warnings
                same(compile(g)(INPUTS), g(INPUTS))


def test_results_are_the_callers_own():
    def f(x, b):
        return x, x.T, np.reshape(x, -1), np.exp(x) + b, np.exp(x) + b, np.broadcast_to(b, x.shape)

    program = compile(f)
    x, b = rng.normal(size=(20, 20)), rng.normal(size=20)
    first = program(x, b)
    copies = [a.copy() for a in first]
    second = program(x + 1, b)
    for i, a in enumerate(first):
        np.testing.assert_array_equal(a, copies[i])  # not overwritten by the second call
        a[...] = np.nan
        for other in (*first[:i], *first[i + 1 :], *second, x, b):
            assert not np.shares_memory(a, other)
    assert np.isfinite(x).all()
    assert all(np.isfinite(a).all() for a in second)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Both:
    first: Any
    second: Any


@pytest.mark.parametrize("kind", [Pair, Both])
def test_results_of_any_structure_are_put_together_as_they_were(kind):
    def f(x):
        return kind(
            [x * 2.0, None], kind({"x": [x + 1.0, (x * x,)]}, collections.OrderedDict(a=x * 3.0))
        )

    x = np.arange(3.0)
    (found, structure), (expected, same) = flatten(compile(f)(x)), flatten(f(x))
    assert structure == same
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_programs_may_run_in_several_threads():
    f = value_and_grad(loss)
    program = compile(f)
    batches = [(PARAMS, INPUTS * s, LABELS) for s in (0.1, 0.5, 1.0, 2.0)]
    expected = [f(*batch) for batch in batches]
    program(*batches[0])
    failures = []

    def work(k):
        for _ in range(50):
            try:
                same(program(*batches[k]), expected[k])
            except AssertionError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_program_that_branches_on_a_value_is_refused():
    with pytest.raises(TypeError, match=r"np\.where instead of if"):
        compile(lambda x: x if x > 0 else -x)(1.0)
    with pytest.raises(TypeError, match="branches"):
        compile(lambda x: np.sum(x[x > 0]))(np.ones(2))


def test_a_compiled_function_can_be_differentiated():
    f = compile(lambda x: np.sum(np.sin(x) * x))
    x = np.arange(3.0)
    f(x)
    np.testing.assert_array_equal(grad(f)(x), np.cos(x) * x + np.sin(x))


def test_the_source_is_straight_line_numpy():
    text = source(value_and_grad(loss), PARAMS, INPUTS, LABELS)
    assert text.startswith("def loss(work, params_layers_0_0, params_layers_0_1")
    assert "X.dot(params_layers_0_0, work_0)" in text
    assert not {"for ", "if ", "lambda"} & set(text.split("\n"))
    assert text.count("np.tanh") == 1  # the forward value is used again in the derivative


view = elementwise("view", lambda x: x, 1)  # may return its argument


def with_view(x):
    h = np.exp(x)
    v = view(h)
    return np.sum(np.cos(np.sin(h) * 2.0) * v) + np.sum(v)


def test_a_user_function_that_returns_a_view_is_not_overwritten():
    x = rng.normal(size=(20, 20))
    assert compile(with_view)(x) == with_view(x)


def test_a_user_function_sees_the_context_of_each_call():
    factor = contextvars.ContextVar("factor", default=1.0)
    scaled = elementwise("scaled", lambda x: x * factor.get(), lambda _y, _x: factor.get())
    f = compile(lambda x: np.sum(scaled(x)))
    x = np.arange(3.0)
    assert f(x) == 3.0
    factor.set(2.0)
    assert f(x) == 6.0


def test_programs_raise_no_warnings_and_leave_the_callers_settings():
    f = compile(lambda x: np.log(x) + np.exp(1000.0 * x))
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(f(np.array([0.0, 1.0])), [-np.inf, np.inf])
        assert set(np.geterr().values()) == {"raise"}


@pytest.mark.parametrize("shape", [(3, 1), (1, 4), (4,), (1, 1), (3, 4)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_broadcast_in_a_work_array_keeps_its_bits(shape, dtype):
    x, y = (rng.normal(size=n).astype(dtype) for n in ((3, 4), shape))

    def f(x, y):  # the result of each lies in memory where the other operand may lie
        z = np.exp(x) - y
        return np.maximum(y, y / (z * y)) + (y + z) - z.T.T * y

    np.testing.assert_array_equal(compile(f)(x, y), f(x, y), strict=True)


def test_forgetting_views_would_be_noticed(monkeypatch):
    """The planted bug: a work array is given back while a view of it is still needed."""
    memory = "ffverify.reference.programs.compiler._Memory"
    monkeypatch.setattr(f"{memory}.follow", lambda self, node: self.own(node))
    x = rng.normal(size=(20, 20))
    assert compile(with_view)(x) != with_view(x)


def test_custom_rules_compile():
    cube = custom_rule(lambda x: x**3, vjp=lambda y_bar, y, x: (y_bar * 3 * x**2,))
    f = value_and_grad(lambda x: np.sum(cube(x) + cube(np.sin(x))))
    x = np.linspace(-1, 1, 5)
    same(compile(f)(x), f(x))


UNARY = [np.tanh, np.exp, np.sin, np.negative, np.abs, lambda x: x.T, lambda x: x[::-1]]
BINARY = [np.add, np.multiply, np.subtract, np.maximum, np.matmul]
REDUCE = [np.sum, np.mean, np.max]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_random_programs_compile_to_the_same_bits(data):
    steps = data.draw(
        st.lists(st.tuples(st.integers(0, 14), st.integers(0, 9), st.integers(0, 9)), max_size=12)
    )

    def f(x, y):
        values = [x, y, x * 0.5]
        for op, i, j in steps:
            a, b = values[i % len(values)], values[j % len(values)]
            if op < len(UNARY):
                values.append(UNARY[op](a) * 0.5)
            elif op < len(UNARY) + len(BINARY):
                values.append(BINARY[op - len(UNARY)](a, b) * 0.1)
            else:
                values.append(REDUCE[op - len(UNARY) - len(BINARY)](a, axis=0, keepdims=True) + b)
        return sum(np.sum(v) for v in values), values[-1]

    x, y = np.linspace(-1, 1, 144).reshape(12, 12), np.linspace(0.1, 0.7, 144).reshape(12, 12)
    same(compile(f)(x, y), f(x, y))
    g = value_and_grad(f, (0, 1), has_aux=True)
    same(compile(g)(x, y), g(x, y))


def test_work_arrays_share_a_block_but_no_memory():
    buffers = [
        ((3, 4), np.dtype(float), (8, 24)),  # the second axis comes first in memory
        ((5,), np.dtype(bool), (1,)),
        ((), np.dtype(np.float32), ()),
        ((0, 2), np.dtype(float), (16, 8)),
        ((600, 600), np.dtype(float), (4800, 8)),
    ]
    found = _allocate(buffers)
    for i, (array, (shape, dtype, strides)) in enumerate(zip(found, buffers, strict=True)):
        assert (array.shape, array.dtype, array.strides) == (shape, dtype, strides)
        assert array.ctypes.data % LINE == 0
        array[...] = i
    for i, array in enumerate(found):
        assert (array == i).all()
    assert found[0].ctypes.data % HUGE == 0  # all in all they are large


def test_a_program_keeps_no_graph():
    """The values of its nodes take as much memory as the function itself."""
    graphs = lambda: sum(type(x) is Graph for x in gc.get_objects())  # noqa: E731  # a formula
    before = graphs()
    program = compile(lambda x: np.sum(np.sin(x)))
    program(INPUTS)
    gc.collect()
    assert graphs() <= before


def test_nodes_without_primitive_have_no_operations():
    assert Node("x", None, (), {}, 1.0).flops == 0


def test_a_rounding_within_is_that_of_the_narrowest_format():
    """Sorted columns lie otherwise in memory here than NumPy's, and are summed in another order."""

    def f(x):
        return np.float64(1.0) * np.sum(np.sort(x, axis=0))

    for seed in range(20):
        x = np.asfortranarray(np.random.default_rng(seed).normal(size=(30, 7)).astype(np.float32))
        assert compile(f)(x) == pytest.approx(f(x), abs=210 * 4 * 2.0**-24)
