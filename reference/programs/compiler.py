"""Compile a function to straight-line NumPy: `compile(f)` runs it, `source(f, *args)` shows it.

The function is traced once for each combination of argument structure, shapes and dtypes; its graph
is simplified and written out as one Python function without any differentiation left in it: for
``value_and_grad(loss)`` that is hand-written back-propagation. Intermediate results go into work
arrays that are kept between calls and shared by values that do not live at the same time; what is
returned never shares memory with them, with the arguments, or with each other.
"""

from __future__ import annotations

import builtins
import contextvars
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from math import isfinite, prod
from typing import Any

import numpy as np

from ffverify.reference.engine.primitive import Primitive, multiply, scale
from ffverify.reference.engine.tree import LEAF, NONE, flatten, tree_map, unflatten
from ffverify.reference.engine.var import Value, Var, dtype_of, shape_of
from ffverify.reference.primitives.shaping import scatter

from .captured import OURS, Captured, classes_in, content, same_bytes
from .graph import Graph, Names, Node, dynamic_leaves, retrace, trace
from .simplification import simplify

LINE, HUGE = 2**6, 2**21  # bytes of a line of the cache, and of a huge page
FILLED = 2**16  # bytes: smaller arrays are filled faster than NumPy broadcasts
OPERATORS = {np.add: "+", np.subtract: "-", np.multiply: "*", np.divide: "/"}
Buffer = tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]]  # shape, dtype, strides


def compile(f: Callable[..., Any]) -> Callable[..., Any]:  # noqa: A001  # as in PyTorch and `re`
    """Return a function with f's results that runs compiled programs.

    Arrays and floats among the arguments may change from call to call; a program is made for each
    new combination of shapes, dtypes and memory layouts, and of everything else (ints, strings, sets,
    objects by what they hold, structure). What f brings along, names it uses, closures, default
    values, and arrays, lists and objects in them, their classes and the user's own modules, is looked at
    in every call (arrays are compared with a copy); where something has changed, programs are made anew.
    Not looked at are the clock, the environment and settings of installed packages. To make one f is run
    twice: traced, and as it is; that takes some 0.1 ms and 7 kB for each operation, and until it is done
    memory for all values on the way twice. Programs raise no floating-point warnings.

    The result has the same bits as that of f's graph, and of f where it takes derivatives itself (but
    for einsum and tensordot along axes of length 1 of arrays with gaps between rows, which NumPy sums in
    an order by their strides). In both some functions are NumPy's only up to rounding: norms and standard
    deviations (which never overflow here); products along axes, of vectors with matrices and of many
    matrices, einsum, tensordot, convolutions, np.gradient, sinc, Fourier transforms, sums with an initial
    value and np.add.at (which are associated differently); ``a**x`` with an `a` of NumPy's (which NumPy
    passes on as np.power(a, x)).

    Raises
    ------
    TypeError
        At the first call, where f branches on a value (``if x > 0``: use np.where), gives other
        results when it is run again (random numbers) or on plain arrays (branches on types), or
        writes into its arguments.
    """
    programs: dict[Any, tuple[Callable[..., Any], Any]] = {}
    recent: list[tuple[Callable[..., Any], Callable[..., Any]]] = []
    captured: list[Captured] = []
    classes: set[type] = set()  # of the arguments so far

    @functools.wraps(f, updated=())
    def compiled(*args: Any) -> Any:
        if captured and not captured[0].unchanged():
            programs.clear()
            recent.clear()
        for program, matches in recent:  # the usual case: arguments like those of the last call
            leaves = matches(args)
            if leaves is not None:
                return program(leaves)
        leaves, structure = flatten(args)
        if any(type(leaf) is Var for leaf in leaves):
            return f(*args)  # inside another derivative or trace: let it see the operations
        key = (content(structure), *map(_signature, leaves))
        found = programs.get(key)
        if found is None:
            graph = _traced(f, args)
            if any(type(node.value) is Var for node in graph.constants):
                return f(*args)  # which uses a value of the derivative or trace it is called in
            program, _ = written(f, graph)
            dynamic = list(dynamic_leaves(leaves)[0])
            found = programs[key] = program, None if len(dynamic) == len(leaves) else dynamic
            classes.update(classes_in(key))
            captured[:] = [Captured(f, classes)]
        program, places = found
        if places is None:
            recent[:] = [(program, _matcher(args))]
        return program(leaves if places is None else [leaves[i] for i in places])

    return compiled


def _matcher(args: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], list[Any] | None]:
    """Return the function that gives the leaves of arguments of the same structure, else None.

    It is written out for these arguments, since going through a pytree in general takes longer than
    the arithmetic of a small network.
    """
    namespace: dict[str, Any] = {"ndarray": np.ndarray}
    lines, leaves = ["def matches(args):"], []

    def visit(tree: Any, name: str) -> None:
        kind = type(tree)
        if kind in (list, tuple, dict):
            namespace[kind.__name__] = kind
            labels = tuple(tree) if kind is dict else range(len(tree))
            same = f"type({name}) is {kind.__name__} and len({name}) == {len(tree)}"
            if kind is dict:
                namespace[f"keys_{name}"] = labels
                same += f" and tuple({name}) == keys_{name}"
                if not all(type(label) is str for label in labels):  # 1 is equal to True and 1.0
                    lines.append("    return None")
            lines.append(f"    if not ({same}): return None")
            for i, label in enumerate(labels):
                key = f"keys_{name}[{i}]" if kind is dict else i
                lines.append(f"    {name}_{i} = {name}[{key}]")
                visit(tree[label], f"{name}_{i}")
        elif kind is np.ndarray:
            namespace[f"dtype_{name}"] = tree.dtype
            same = f"type({name}) is ndarray and {name}.shape == {tree.shape}"
            same += f" and {name}.strides == {tree.strides}"
            lines.append(f"    if not ({same} and {name}.dtype is dtype_{name}): return None")
            leaves.append(name)
        else:  # anything else goes the general way
            lines.append("    return None")

    visit(args, "args")
    text = "\n".join([*lines, f"    return [{', '.join(leaves)}]"])
    exec(text, namespace)  # noqa: S102  # own text
    matches: Callable[[tuple[Any, ...]], list[Any] | None] = namespace["matches"]
    return matches


def _allocate(buffers: list[Buffer]) -> list[Any]:
    """Make the work arrays, with the axes in the memory order of the traced ones, in which sums are taken.

    They share one block, since the system gives huge pages only to what is large, with which products of
    matrices of a megabyte take 1 or 2 % less time; each begins where a cache line, or page, does.
    """
    sizes = [-(-prod(shape) * dtype.itemsize // LINE) * LINE for shape, dtype, _ in buffers]
    unit = LINE if sum(sizes) < HUGE else HUGE
    block = np.empty(-(-sum(sizes) // unit) * unit + unit, np.uint8)
    starts = itertools.accumulate(sizes, initial=-block.ctypes.data % unit)
    found = []
    for (shape, dtype, strides), start in zip(buffers, starts, strict=False):  # the last is the end
        order = sorted(range(len(shape)), key=lambda a: -abs(strides[a]))
        array = np.ndarray([shape[a] for a in order], dtype, block, start)
        found.append(array.transpose(np.argsort(order)))
    return found


def _of_the_user(graph: Graph) -> bool:
    """Whether functions of the user's own are among the primitives."""
    functions = [node.primitive.forward for node in graph.nodes if node.primitive]
    return not all(
        isinstance(getattr(f, "__self__", f), np.ufunc) or str(f.__module__).startswith(OURS)
        for f in functions
    )


def _silenced(*, of_the_user: bool) -> Callable[..., Any]:
    """Return what calls a function without floating-point warnings.

    A context of its own, in which they are off, is entered in a twentieth of the time that
    `np.errstate` takes; the user's own functions among the primitives see the caller's instead.
    """
    if not of_the_user:
        context = contextvars.copy_context()
        context.run(np.seterr, all="ignore")
        return context.run

    def run(function: Callable[..., Any], *args: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args)

    return run


def _signature(leaf: Any) -> Any:
    kind = type(leaf)
    if kind is float:
        return float
    holds_objects = getattr(getattr(leaf, "dtype", None), "hasobject", False)
    if holds_objects or isinstance(leaf, np.ma.MaskedArray | np.matrix):
        raise TypeError(
            f"compile: an argument of type {kind.__name__} that is no plain array of numbers: convert it "
            "with np.asarray(), a masked array with .filled(), objects with .astype(float)"
        )
    if isinstance(leaf, np.generic | np.ndarray):
        return (kind, leaf.shape, leaf.strides, leaf.dtype)
    found = content(leaf)
    if found[0] == "identity":
        raise TypeError(
            f"compile: an argument of type {kind.__name__}, which may change without its being "
            "noticed: pass arrays, numbers, strings, containers or objects with attributes"
        )
    return ("static", found)


def source(f: Callable[..., Any], *args: Any) -> str:
    """Return the text of the program that `compile(f)` runs for such arguments."""
    return written(f, _traced(f, args))[1]


def _traced(f: Callable[..., Any], args: tuple[Any, ...]) -> Graph:
    """Return the graph of f, having made sure that it is f for other arguments as well."""
    with np.errstate(all="ignore"):
        captured = Captured(f)
        graph = trace(f, *args)
        states = captured.random_states()
        if graph.branches:
            raise TypeError(
                f"compile: the program branches on the value of {graph.branches[0]!r}, so that it "
                "would be wrong for other arguments: use np.where instead of if, or do not compile"
            )
        given = tree_map(_copied, args)
        expected, structure = flatten(f(*given))
        if not all(map(_same, flatten(given)[0], flatten(args)[0])):
            raise TypeError("compile: the function writes into its arguments: return new arrays")
    # What differs by more than half the digits of the narrowest format, beside the largest number on the way,
    # is no rounding.
    values = [node.value for node in (*graph.inputs, *graph.constants, *graph.nodes)]
    if any(type(value) is Var for value in values):
        return graph
    scale = max((_largest(value) for value in values), default=0.0)
    floats = [dtype for dtype in map(dtype_of, values) if dtype.kind == "f"]
    allowed = scale * max((float(np.finfo(dtype).eps) for dtype in floats), default=0.0) ** 0.5
    found = [node.value for node in graph.outputs]
    if (
        structure != graph.out_structure
        or not all(_alike(a, b, allowed) for a, b in zip(found, expected, strict=True))
        or captured.random_states() != states
    ):
        raise TypeError(
            "compile: the function gives another result when it is run again on plain arrays, as it "
            "does where it draws random numbers, counts its calls, or branches on the type of an "
            "argument: make these arguments, or do not compile"
        )
    return graph


def _copied(leaf: Any) -> Any:
    return leaf.copy("K") if isinstance(leaf, np.ndarray) else leaf


def _same(a: Any, b: Any) -> bool:
    return not isinstance(a, np.ndarray) or same_bytes(a, b)


def _largest(value: Value) -> float:
    finite = np.asarray(np.absolute(value), float)
    return float(np.max(finite, initial=0.0, where=np.isfinite(finite)))


def _alike(a: Value, b: Value, allowed: float) -> bool:
    if np.shape(a) != np.shape(b) or np.asarray(a).dtype != np.asarray(b).dtype:
        return False
    if np.asarray(a).dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, rtol=0, atol=allowed, equal_nan=True))


def written(f: Callable[..., Any], graph: Graph) -> tuple[Callable[..., Any], str]:
    """Return the program of f's graph, which takes its inputs as a list, and the program's text."""
    with np.errstate(all="ignore"):
        graph = lower(simplify(graph))
    return _Writer(graph, getattr(f, "__name__", "program")).build()


def lower(graph: Graph) -> Graph:
    """Write out the primitives that are plain NumPy programs, then find what they share."""

    def apply(primitive: Primitive, *args: Value, **params: Any) -> Value:
        if primitive.inline:
            return primitive.forward(*args, **params)
        if primitive is scale and type(args[0]) is not Var and np.all(args[0]):
            return multiply(*args)  # no exact zero wins against an infinite slope
        if primitive is scatter and _takes_none_twice(args[1:]):
            # Added to a zero, -0 is 0: the assigned values have the bits of the sum.
            return scatter(args[0] + 0.0, *args[1:], **params, distinct=True)
        return primitive(*args, **params)

    return simplify(retrace(graph, apply))


def _takes_none_twice(index: tuple[Value, ...]) -> bool:
    """Whether arrays of one shape index no element twice, as one of them, a constant, tells."""
    shapes = set(map(shape_of, index))
    known = [part for part in index if type(part) is np.ndarray and np.all(part >= 0)]
    return len(shapes) == 1 and any(np.unique(part).size == part.size for part in known)


def _broadcast_operand(node: Node) -> int | None:
    """Return the place of the operand to be spread out in the result's memory: quicker if small."""
    short = [i for i, x in enumerate(node.inputs) if x.shape != node.shape]
    if len(short) != 1 or len(node.inputs) != 2 or node.value.nbytes > FILLED:
        return None
    x = node.inputs[short[0]]
    return short[0] if x.shape and x.dtype == node.dtype else None


class _Memory:
    """Which work array each value lies in, and from when on it can hold another."""

    def __init__(self, graph: Graph) -> None:
        self.buffers: list[Buffer] = []
        self.free: dict[Buffer, list[int]] = {}
        # Where a value may lie: numbers of work arrays, or nodes with memory of their own.
        self.places: dict[Node, frozenset[int | Node]] = {}
        self.holders: dict[int, set[Node]] = {}  # values still needed, by work array
        self.last = {node: step for step, node in enumerate(graph.nodes)}
        self.last.update((x, step) for step, node in enumerate(graph.nodes) for x in node.inputs)
        self.last.update(dict.fromkeys(graph.outputs, len(graph.nodes)))
        self.ending: dict[int, list[Node]] = {}
        for node, step in self.last.items():
            self.ending.setdefault(step, []).append(node)

    def own(self, node: Node) -> None:
        """Note that the value has memory of its own: an argument, a constant, a new array."""
        self.places[node] = frozenset([node])

    def follow(self, node: Node) -> None:
        """Note that the value may lie wherever the operands lie."""
        self.places[node] = frozenset().union(*(self.places[x] for x in node.inputs))
        for number in self.places[node]:
            if isinstance(number, int):
                self.holders[number].add(node)

    def take(self, node: Node, step: int, *, inplace: bool) -> int:
        """Return the number of a work array for the value: a dying operand's, a free one, or new."""
        kind = (node.shape, node.dtype, node.value.strides)
        number = self._dying_operand(node, step, kind) if inplace else None
        if number is None:
            free = self.free.get(kind)
            if free:
                number = free.pop()
            else:
                number = len(self.buffers)
                self.buffers.append(kind)
        self.places[node] = frozenset([number])
        self.holders[number] = {node}
        return number

    def _dying_operand(self, node: Node, step: int, kind: Buffer) -> int | None:
        """Return the work array of an operand that nothing else needs, to be written over."""
        for x in node.inputs:
            if self.last[x] == step and len(self.places[x]) == 1:
                (number,) = self.places[x]
                if isinstance(number, Node) or self.buffers[number] != kind:
                    continue
                if self.holders[number] == {x}:
                    self.places[x] = frozenset()
                    return number
        return None

    def release(self, step: int) -> None:
        """Give back the work arrays in which no value lies that a later step needs."""
        for x in self.ending.get(step, ()):
            for number in sorted(n for n in self.places[x] if isinstance(n, int)):
                self.holders[number].discard(x)
                if not self.holders[number]:
                    self.free.setdefault(self.buffers[number], []).append(number)


class _Writer:
    """Writes the source of one graph: names, buffers by liveness, one line per node."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name
        self.namespace: dict[str, Any] = {"np": np}
        self.names = Names({"np", "work", "slice"})
        self.memory = _Memory(graph)
        self.text = {x: self.names.new(x.name) for x in (*graph.inputs, *graph.nodes)}
        self.work: list[str] = []
        self.before: list[str] = []  # statements that the next one needs
        self.functions: dict[Callable[..., Any], str] = {}

    def build(self) -> tuple[Callable[..., Any], str]:
        """Return the program, which takes the arrays among the arguments, and its text."""
        lines = self._body()
        parameters = ", ".join(["work", *(self.text[node] for node in self.graph.inputs)])
        unpack = [f"[{', '.join(self.work)}] = work"] if self.work else []
        name = self.names.new(self.name)
        text = "\n    ".join([f"def {name}({parameters}):", *unpack, *lines]) + "\n"
        exec(builtins.compile(text, f"<compiled {name}>", "exec"), self.namespace)  # noqa: S102  # own text
        function, buffers = self.namespace[name], self.memory.buffers
        # The program is to keep the graph no longer, whose values take memory.
        of_the_user = _of_the_user(self.graph)
        # Popped and appended atomically: calls may nest, or run in threads.
        pool: list[tuple[Callable[..., Any], list[Any]]] = []

        def program(leaves: Iterable[Any]) -> Any:
            try:
                run, work = pool.pop()
            except IndexError:
                run, work = (
                    _silenced(of_the_user=of_the_user),
                    _allocate(buffers),
                )
            result = run(function, work, *leaves)
            pool.append((run, work))
            return result

        return program, text

    def _body(self) -> list[str]:
        graph = self.graph
        for node in graph.constants:
            self.text[node] = self._constant(node)
            self.memory.own(node)
        for node in graph.inputs:
            self.memory.own(node)
        returned = set(graph.outputs)
        lines = []
        for step, node in enumerate(graph.nodes):
            expression = self._expression(node, step, returned)
            lines += [*self.before, f"{self.text[node]} = {expression}"]
            self.before = []
            self.memory.release(step)
        results = iter([self._result(node, i) for i, node in enumerate(graph.outputs)])
        return [*lines, f"return {self._tree(graph.out_structure, results)}"]

    def _tree(self, structure: Any, leaves: Iterator[str]) -> str:
        """Write the expression that puts the result's pytree together."""
        if structure is LEAF or structure is NONE:
            return next(leaves) if structure is LEAF else "None"
        kind, labels, children = structure
        parts = [self._tree(child, leaves) for child in children]
        inside = ", ".join(parts)
        if kind is list:
            return f"[{inside}]"
        if kind is tuple:
            return f"({inside},)" if parts else "()"
        if kind is dict:
            keys = map(self._literal, labels)
            return f"{{{', '.join(f'{k}: {v}' for k, v in zip(keys, parts, strict=True))}}}"
        outermost = (kind, labels, (LEAF,) * len(parts))  # the parts are put together already
        return f"{self._literal(unflatten)}({self._literal(outermost)}, [{inside}])"

    def _constant(self, node: Node) -> str:
        value = node.value
        if type(value) in (int, bool) or (type(value) is float and isfinite(value)):
            return repr(value) if value >= 0 else f"({value!r})"
        return self._named(node.name, node.value)

    def _named(self, wanted: str, value: Any) -> str:
        """Give a value of the program a name."""
        name = self.names.new(wanted)
        self.namespace[name] = value
        return name

    def _function(self, primitive: Primitive) -> str:
        """Give the name of what computes the primitive."""
        forward = primitive.forward
        if forward not in self.functions:
            self.functions[forward] = self._named(primitive.name, forward)
        return self.functions[forward]

    def _expression(self, node: Node, step: int, returned: set[Node]) -> str:
        primitive = node.primitive
        assert primitive is not None  # noqa: S101  # nodes are applications
        arguments = [self.text[x] for x in node.inputs]
        is_ufunc = isinstance(primitive.forward, np.ufunc)
        template = primitive.source
        if callable(template):
            template = template(*(x.value for x in node.inputs), **node.params)
        if template.startswith("{0}.") and not isinstance(node.inputs[0].value, np.ndarray):
            template = ""  # a Python float has no such method
        if (
            not template
            and primitive.forward in OPERATORS
            and isinstance(node.value, np.generic)
            and any(isinstance(x.value, np.generic) for x in node.inputs)  # else they are Python's
        ):
            template = (
                f"({{0}} {OPERATORS[primitive.forward]} {{1}})"  # quicker for NumPy's numbers
            )
        if not template and is_ufunc:
            places = ", ".join(f"{{{i}}}" for i in range(len(arguments)))
            template = f"np.{primitive.forward.__name__}({places}{{out}})"
        is_ours = bool(template)
        if not template:
            template = self._call(primitive, len(arguments), node.params)
        out = ""
        if "{out}" not in template:
            self.memory.follow(node)  # a function that we do not know may return a view
        elif not isinstance(node.value, np.ndarray) or node in returned:
            self.memory.own(node)
        else:
            elementwise = is_ufunc and primitive.slopes is not None
            short = _broadcast_operand(node) if elementwise else None
            number = self.memory.take(node, step, inplace=elementwise and short is None)
            if number == len(self.work):
                self.work.append(self.names.new(f"work_{number}"))
            work = self.work[number]
            if short is not None:
                self.before.append(f"{work}[...] = {arguments[short]}")
                arguments[short] = work
            # By its place it is passed quicker than by name; these two ufuncs refuse it there.
            by_name = "=" in template or primitive.forward in (np.maximum, np.minimum)
            out = f", out={work}" if by_name else f", {work}"
        if template.startswith(f"{primitive.name}("):
            template = self._function(primitive) + template.removeprefix(primitive.name)
        params = {k: self._literal(v) for k, v in node.params.items()}
        if is_ours:  # a single axis is quicker as a number
            params = {k: v[1:-2] if re.fullmatch(r"\(\d+,\)", v) else v for k, v in params.items()}
        return template.format(*arguments, out=out, **params)

    def _call(self, primitive: Primitive, count: int, params: dict[str, Any]) -> str:
        name = self._function(primitive)
        places = [f"{{{i}}}" for i in range(count)] + [f"{k}={{{k}}}" for k in params]
        return f"{name}({', '.join(places)})"

    def _literal(self, value: Any) -> str:
        """Write a parameter into the program, by name where its repr does not read back."""
        if value is None or type(value) in (bool, int, str):
            return repr(value)
        if type(value) is float and isfinite(value):
            return repr(value)
        if value is Ellipsis:
            return "..."
        if isinstance(value, slice):
            return f"slice({', '.join(map(self._literal, (value.start, value.stop, value.step)))})"
        if type(value) in (tuple, list):
            inside = ", ".join(map(self._literal, value))
            comma = "," if len(value) == 1 else ""
            return f"[{inside}]" if type(value) is list else f"({inside}{comma})"
        return self._named("parameter_1", value)

    def _result(self, node: Node, i: int) -> str:
        text = self.text[node]
        fresh = self.memory.places[node] == {node} and node.primitive is not None
        first = self.graph.outputs.index(node) == i
        if (fresh and first) or not isinstance(node.value, np.ndarray):
            return text
        return f"np.array({text})"
