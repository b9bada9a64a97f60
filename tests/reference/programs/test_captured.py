"""Compiled programs are right or refused where anything but their arguments has changed."""

import array
import collections
import contextvars
import copy
import functools
import itertools
import json
import logging
import random
import sys
import types

import numpy as np
import pytest

from ffverify.reference import (
    compile,  # noqa: A004  # the engine's name
    custom_rule,
    grad,
    trace,
    value_and_grad,
)
from ffverify.reference.programs.captured import Captured, content

X = np.array([1.0, 2.0, -4.0])
SCALE = 2.0
SETTINGS = {"scale": [1.0, 2.0]}


class Config:
    """What users keep numbers in."""

    def __init__(self, scale):
        self.scale = scale

    def scaled(self, x):
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale


NAMES = """
    sum_1 multiply_1 add np work work_0 norm where constant_1 parameter_1 out slice x_1 exp_1 cosh_1 lower
    matmul dot len range ufunc leaves program array array_1
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_an_argument_may_have_any_name(name):
    scope = {"numpy": np}
    exec(  # noqa: S102  # the name is what is tested
        f"def {name}_of({name}):\n"
        f"    s = numpy.tanh({name}[0]) * numpy.exp({name}[1])\n"
        f"    return numpy.sum({name}[0]) * {name}[1] + numpy.linalg.norm(s) * s",
        scope,
    )
    f = scope[f"{name}_of"]
    big = np.random.default_rng(0).normal(size=(40, 40))
    for args in ([X, 2 * X], [big, big.T]):
        np.testing.assert_array_equal(compile(f)(args), trace(f, args)(args))
        g = grad(lambda z, f=f: np.sum(f(z)))
        g.__name__ = name
        for found, right in zip(compile(g)(args), g(args), strict=True):
            np.testing.assert_array_equal(found, right)


def test_names_that_python_reads_as_one_are_kept_apart():
    x = {"a²": X, "a2": 2 * X, "ﬁ": 3 * X, "fi": 4 * X, "class": 5 * X, "1": 6 * X}

    def f(p):
        return p["a²"] + 10 * p["a2"] + 100 * p["ﬁ"] + p["fi"] * p["class"] - p["1"]

    np.testing.assert_array_equal(compile(f)(x), f(x))
    graph = trace(f, x)
    names = [n.name for n in (*graph.inputs, *graph.constants, *graph.nodes)]
    assert len(set(names)) == len(names)


def test_two_functions_of_one_name():
    square = custom_rule(lambda x: x * x, vjp=lambda y_bar, _y, x: (2 * y_bar * x,))
    cube = custom_rule(lambda x: x * x * x, vjp=lambda y_bar, _y, x: (3 * y_bar * x * x,))

    def norm(x):
        return np.linalg.norm(square(x) - cube(x))

    np.testing.assert_array_equal(compile(grad(norm))(X), grad(norm)(X))


def test_arguments_that_are_no_arrays_count_by_what_they_hold():
    for make, f in (
        (lambda k: set(range(k)), lambda x, s: x * len(s)),
        (Config, lambda x, c: x * c.scale),
        (lambda k: Slotted(float(k)), lambda x, c: x * c.scale),
        (lambda k: types.SimpleNamespace(scale=[k]), lambda x, c: x * c.scale[0]),
        (lambda k: functools.partial(np.multiply, k), lambda x, g: g(x)),
        (lambda k: Config(k).scaled, lambda x, g: g(x)),
        (lambda k: lambda x: x * k, lambda x, g: g(x)),
        (lambda k: ["a"] * k, lambda x, names: x * len(names)),
    ):
        program = compile(f)
        for k in (1, 5, 2, 1):
            np.testing.assert_array_equal(program(X, make(k)), f(X, make(k)))
    config = Config(1.0)
    program = compile(lambda x, c: x * c.scale)
    np.testing.assert_array_equal(program(X, config), X)
    config.scale = 3.0
    np.testing.assert_array_equal(program(X, config), 3 * X)


def test_keys_that_are_equal_but_differ():
    program = compile(lambda p: {k: v * (2 if k is True else 1) for k, v in p.items()})
    np.testing.assert_array_equal(program({1: X})[1], X)
    np.testing.assert_array_equal(program({True: X})[True], 2 * X)


def test_an_argument_that_cannot_be_looked_into_is_refused():
    with pytest.raises(TypeError, match="argument of type count"):
        compile(lambda x, n: x * next(n))(X, itertools.count())


@pytest.mark.parametrize(
    "argument", [np.ma.array(X, mask=[0, 1, 0]), X[None].view(np.matrix), X.astype(object)]
)
def test_an_array_with_an_arithmetic_of_its_own_is_refused(argument):
    with pytest.raises(TypeError, match="no plain array of numbers"):
        compile(lambda x: x * 2)(argument)


def test_complex_arguments_are_compiled():
    z = X * 1j + 1
    np.testing.assert_array_equal(compile(lambda z: z * 2 + 1)(z), z * 2 + 1)


def test_what_a_function_brings_along_may_change(monkeypatch):
    weights, nested, config = np.ones(3), [[1.0], {"a": np.ones(3)}], Config(2.0)
    total = 1.0

    def helper(x):
        return x * SCALE

    def f(x, *, power=nested):
        y = helper(x) * weights + weights.sum() * SETTINGS["scale"][1]
        return y * config.scale * total + power[0][0] + power[1]["a"]

    program = compile(f)

    def agree():
        for _ in range(2):
            np.testing.assert_array_equal(program(X), f(X))

    agree()
    weights[1] = 5.0
    agree()
    weights[:2] = weights[1::-1].copy()  # the same sum in another order
    agree()
    nested[0][0] = -1.0
    agree()
    nested[1]["a"][2] = 9.0
    agree()
    config.scale = 0.5
    agree()
    total = 7.0
    agree()
    monkeypatch.setitem(SETTINGS, "scale", [0.0, 11.0])
    agree()
    monkeypatch.setitem(globals(), "SCALE", -3.0)
    agree()


def test_forgetting_what_is_brought_along_would_be_noticed(monkeypatch):
    """The planted bug: programs are kept whatever happens outside of them."""
    weights = np.ones(3)
    program = compile(lambda x: x * weights.sum())
    program(X)
    weights[0] = 2.0
    monkeypatch.setattr(Captured, "unchanged", lambda _self: True)
    assert not np.array_equal(program(X), X * weights.sum())


class Base:
    shift = 0.5

    def __getattr__(self, name):
        return LOOKED_UP[name]


class Settings(Base):
    scale, place = 2.0, np.ones(3)

    @staticmethod
    def scaled(x):
        return x * Settings.scale * Settings.place

    @property
    def total(self):
        return sum(LOOKED_UP.values()) + Base.shift


LOOKED_UP = {"seen": 3.0}
MODULE = types.ModuleType("own_module")
exec("scale = 2.0\ndef scaled(x): return x * scale", vars(MODULE))  # noqa: S102  # a module of the user's own
HELD = {
    "deque": collections.deque([2.0]),
    "bytes": bytearray([2]),
    "array": array.array("d", [2.0]),
    "proxy": types.MappingProxyType(LOOKED_UP),
    "context": contextvars.ContextVar("context", default=2.0),
}


def helper_with(x, scale=2.0):
    return x * scale


def imports(x):
    import own_module  # within the function, on purpose

    return x * own_module.scale


SETTING = Settings()
# Functions, and what is changed of what they use: an object, its attribute or item, the new value.
CHANGED = {
    "class": (lambda x: x * Settings.scale, Settings, "scale", 3.0),
    "array of a class": (lambda x: 1 * Settings.scaled(x), Settings, "place", np.arange(3.0)),
    "static method": (lambda x: 1 * Settings.scaled(x), Settings, "scaled", staticmethod(np.tanh)),
    "class of an object": (lambda x: 1 * SETTING.scaled(x), Settings, "scale", 4.0),
    "base class": (lambda x: x * SETTING.shift, Base, "shift", 5.0),
    "property": (lambda x: x * SETTING.total, Base, "shift", 6.0),
    "getattr": (lambda x: x * SETTING.seen, LOOKED_UP, "seen", 7.0),
    "module": (lambda x: x * MODULE.scale, MODULE, "scale", 8.0),
    "function of a module": (lambda x: 1 * MODULE.scaled(x), MODULE, "scale", 9.0),
    "import": (imports, MODULE, "scale", 10.0),
    "code": (
        lambda x: 1 * helper_with(x),
        helper_with,
        "__code__",
        (lambda x, scale: x + scale).__code__,
    ),
    "defaults": (lambda x: 1 * helper_with(x), helper_with, "__defaults__", (11.0,)),
    "method": (lambda x, get=LOOKED_UP.get: x * get("seen"), LOOKED_UP, "seen", 17.0),
    "deque": (lambda x: x * HELD["deque"][0], HELD["deque"], 0, 12.0),
    "bytes": (lambda x: x * HELD["bytes"][0], HELD["bytes"], 0, 13),
    "array": (lambda x: x * HELD["array"][0], HELD["array"], 0, 14.0),
    "memory": (lambda x: x * memoryview(HELD["bytes"])[0], HELD["bytes"], 0, 15),
    "proxy": (lambda x: x * HELD["proxy"]["seen"], LOOKED_UP, "seen", 16.0),
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_classes_and_modules_hold_may_change(monkeypatch, case):
    monkeypatch.setitem(sys.modules, "own_module", MODULE)
    f, holder, name, value = CHANGED[case]
    for g in (f, value_and_grad(lambda x: np.sum(f(x)))):
        program = compile(g)
        before = g(X)
        for found, right in zip(program(X), before, strict=True):
            np.testing.assert_array_equal(found, right)
        with monkeypatch.context() as patch:
            if hasattr(holder, "__setitem__"):
                old, holder[name] = holder[name], value
            else:
                patch.setattr(holder, name, value)
            assert not np.array_equal(g(X)[0], before[0])
            for found, right in zip(program(X), g(X), strict=True):
                np.testing.assert_array_equal(found, right)
        if hasattr(holder, "__setitem__"):
            holder[name] = old


def test_a_context_variable_may_change():
    program = compile(lambda x: x * HELD["context"].get())
    np.testing.assert_array_equal(program(X), 2 * X)
    token = HELD["context"].set(3.0)
    np.testing.assert_array_equal(program(X), 3 * X)
    HELD["context"].reset(token)


def test_random_numbers_are_seen_where_the_result_is_the_same_by_chance():
    generator = np.random.default_rng(0)
    for draw in (generator.random, np.random.random, random.random):
        with pytest.raises(TypeError, match="random numbers"):
            compile(lambda x, draw=draw: x + (draw() < 0))(X)

    def seeded(x):
        np.random.seed(0)  # noqa: NPY002  # old code does
        return x + np.random.default_rng(0).normal(size=3) + np.random.normal()  # noqa: NPY002

    np.testing.assert_array_equal(compile(seeded)(X), seeded(X))


def test_installed_packages_are_not_searched():
    """What they mention would lead through all of Python's library, in minutes."""
    found = Captured(lambda x: x * json.dumps([logging.getLogger().level, copy.copy(1)]).count("1"))
    assert len(found.named) < 20


def test_classes_of_arguments_are_watched_and_those_of_what_they_hold():
    class Unit:
        gain = 2.0

        def act(self, z):
            return np.tanh(z)

    class Layer:
        def __init__(self):
            self.unit = Unit()

    def cost(layer, x):
        return np.sum(layer.unit.act(x) * layer.unit.gain)

    def other(layer, x):
        return cost(layer[0], x)

    for f, layer in ((cost, Layer()), (other, [Layer()])):
        program = compile(grad(f, argnums=1))
        changes = (("gain", 3.0), ("act", lambda self, z: z * z), ("act", Unit.act), ("gain", 2.0))
        for name, value in changes:
            assert np.array_equal(program(layer, X), grad(f, argnums=1)(layer, X))
            setattr(Unit, name, value)
            assert np.array_equal(program(layer, X), grad(f, argnums=1)(layer, X)), name


def test_random_numbers_counters_and_branches_on_types_are_refused():
    counts = itertools.count(1)
    rng = np.random.default_rng(0)

    def by_type(x):
        return x * 2.0 if type(x) is np.ndarray else x * 3.0

    for f in (lambda x: x + rng.normal(size=3), lambda x: x * next(counts), by_type):
        with pytest.raises(TypeError, match="another result when it is run again"):
            compile(f)(X)


def test_a_traced_value_is_an_array_to_isinstance():
    def f(x, s):
        assert isinstance(x, np.ndarray)
        assert isinstance(s, float)
        assert not isinstance(s, np.ndarray)
        return np.sum(x) * s

    np.testing.assert_array_equal(grad(f)(X, 2.0), [2, 2, 2])
    np.testing.assert_array_equal(grad(f, 1)(X, 2.0), np.sum(X))
    assert compile(value_and_grad(f))(X, 2.0)[0] == f(X, 2.0)


def test_memory_layouts_have_programs_of_their_own():
    x = np.random.default_rng(0).normal(size=(50, 60)) ** 3
    program = compile(lambda x: np.sum(x, axis=0) / np.sum(x))
    for at in (x, np.asfortranarray(x), x.T, x[::2], x[::-1, ::3]):
        np.testing.assert_array_equal(program(at), np.sum(at, axis=0) / np.sum(at))


def test_a_program_in_another_derivative_uses_its_values():
    def outer(x):
        return np.sum(compile(lambda y: y * x * x)(X))

    np.testing.assert_array_equal(grad(outer)(X), 2 * X * X)
    np.testing.assert_array_equal(grad(outer)(2 * X), 4 * X * X)


def test_content_tells_apart_what_differs():
    loop = []
    loop.append(loop)
    values = [0.0, -0.0, 0, False, None, "0", (0,), [0], {0}, frozenset([0]), {0: 1}, np.float64(0)]
    values += [
        np.zeros(1),
        np.zeros(2),
        np.array([-0.0]),
        Config(1),
        Config(2),
        loop,
        X.sum,
        np.exp,
    ]
    keys = [content(value) for value in values]
    assert len(set(keys)) == len(keys)
    assert content(Config([1.0])) == content(Config([1.0]))
