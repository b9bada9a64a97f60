"""HIPS autograd's own tests, run on this engine:

    git clone https://github.com/HIPS/autograd
    python -m tests.reference.hips_autograd autograd [pytest's options, such as -k svd]

None of its code is here. Modules called ``autograd...`` are made of this engine for the process: its
transforms under autograd's names, NumPy as ``autograd.numpy`` (whose ``array`` puts traced values
together), SciPy's functions, and a ``check_grads`` that compares both modes, nested to the given order,
with central differences. Arguments that are complex numbers are left out. At the end it lists every test
that was not run, by reason: of real numbers and NumPy's own semantics there is none.
"""

from __future__ import annotations

import builtins
import importlib
import itertools
import re
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffverify import reference
from ffverify.reference import flatten, stats, unflatten
from ffverify.reference.engine.complex_numbers import Complex
from ffverify.reference.engine.var import Var, shape_of
from ffverify.reference.primitives import scipy_functions, shaping

TOLERANCE, STEP = 1e-6, 1e-6  # autograd's own
RNG = np.random.default_rng(0)
# Tests that ask for something else, by reason: expressions for parts of their names.
LEFT_OUT = {
    "complex arguments of functions that are real here, and complex results": r"""
        ::test_(abs|angle|svd|eigvalh|norm_nuclear).*complex|complex_separate|holomorphic|falseyness
        |test_real_type|test_real_if_close|test_dtypes|test_eig_|test_sqrtm""",
    "autograd's own functions, in which NumPy's cannot be told from others: r_, c_, where of lists, int64":
        r"test_r_|test_c_|test_custom_where|test_cast_to_int",
    "autograd's own version, names and deprecated interface":
        r"test_numpy_version|test_wrapped_name|test_deprecated",
    "autograd refuses what works here: writing into arrays, rfftn of odd lengths":
        r"test_assignment_raises|test_rfftn_odd",
}  # fmt: skip
# Files that cannot be imported without autograd's own workings.
PRIVATE = {
    "test_core": "its boxes and vspaces",
    "test_vspaces": "its vspaces",
    "test_tests": "its check of its own checks",
    "test_performance": "the time that its tracer takes",
    "test_misc": "its const_graph and flatten",
}


# NumPy -----------------------------------------------------------------------------------------------
def array(values: Any, *args: Any, **kwargs: Any) -> Any:
    """Put values together, traced ones among them."""
    if type(values) in (Var, Complex):
        return +values
    if isinstance(values, list | tuple) and any(type(v) is Var for v in flatten(values)[0]):
        return shaping.concatenate(
            *(
                np.expand_dims(array(v), 0) if np.ndim(v) else np.reshape(v, (1,))
                for v in map(array, values)
            ),
            axis=0,
        )
    return np.array(values, *args, **kwargs)


def of_array(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: function(
        array(x), *(map(array, args) if function is np.append else args), **kwargs
    )


def numpy_module() -> types.ModuleType:
    module = types.ModuleType("autograd.numpy")
    vars(module).update({k: getattr(np, k) for k in dir(np) if not k.startswith("__")})
    vars(module).update(array=array, random=np.random, fft=np.fft, __version__=np.__version__)
    for name in ("mean", "std", "var", "append"):  # of lists of traced values
        vars(module)[name] = of_array(getattr(np, name))
    module.int64 = lambda x: x.astype(np.int64) if type(x) is Var else np.int64(x)  # type: ignore[attr-defined]
    linalg = types.ModuleType("autograd.numpy.linalg")
    vars(linalg).update(
        {k: getattr(np.linalg, k) for k in dir(np.linalg) if not k.startswith("__")}
    )
    vars(linalg)["norm"] = of_array(np.linalg.norm)
    linalg._dot, linalg.T = np.dot, lambda x: np.swapaxes(x, -1, -2)  # what its tests borrow
    module.linalg = linalg
    return module


# Transforms ------------------------------------------------------------------------------------------
def of_argument(transform: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``transform(f, argnum)``, which is a function of f's arguments, from transform(f, x)."""

    def wrapped(f: Callable[..., Any], argnum: Any = 0, *more: Any, **options: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            def of_x(x: Any) -> Any:
                full = list(args)
                for k, part in (
                    [(argnum, x)] if isinstance(argnum, int) else zip(argnum, x, strict=True)
                ):
                    full[k] = part
                return f(*full, **kwargs)

            x = args[argnum] if isinstance(argnum, int) else tuple(args[k] for k in argnum)
            return transform(of_x, x, *more, **options)

        return call

    return wrapped


def make_vjp(f: Callable[..., Any], x: Any) -> Any:
    value, pullback = reference.vjp(f, x)
    return (lambda y_bar: pullback(y_bar)[0]), value


def make_jvp(f: Callable[..., Any], x: Any) -> Any:
    return lambda v: reference.jvp(f, (x,), (v,))


def grad(f: Callable[..., Any], x: Any) -> Any:
    """Autograd's takes arrays of one element for scalars."""
    return reference.grad(lambda x: np.sum(scalar(f(x))))(x)


def scalar(y: Any) -> Any:
    if int(np.prod(shape_of(y))) != 1:
        raise TypeError("Grad only applies to real scalar-output functions")
    return y


def elementwise_grad(f: Callable[..., Any], x: Any) -> Any:
    pullback, value = make_vjp(f, x)
    return pullback(np.ones(shape_of(value)))


def deriv(f: Callable[..., Any], x: Any) -> Any:
    return make_jvp(f, x)(np.ones(shape_of(x)))[1]


def value_and_grad(f: Callable[..., Any], x: Any) -> Any:
    return reference.value_and_grad(lambda x: np.sum(scalar(f(x))))(x)


# Checks ----------------------------------------------------------------------------------------------
def numbers(tree: Any) -> Any:
    leaves = [np.asarray(leaf, float).ravel() for leaf in flatten(tree)[0]]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def drawn(tree: Any) -> Any:
    leaves, structure = flatten(tree)
    return unflatten(structure, [np.asarray(RNG.normal(size=np.shape(x)))[()] for x in leaves])


def moved(x: Any, v: Any, h: float) -> Any:
    leaves, structure = flatten(x)
    return unflatten(structure, [a + h * b for a, b in zip(leaves, flatten(v)[0], strict=True)])


def close(a: float, b: float) -> bool:
    return abs(a - b) < TOLERANCE or abs(a - b) / abs(a + b) < TOLERANCE


def check_equivalent(a: Any, b: Any) -> None:
    assert [np.shape(x) for x in flatten(a)[0]] == [np.shape(x) for x in flatten(b)[0]]
    v = RNG.normal(size=numbers(a).size)
    assert close(numbers(a) @ v, numbers(b) @ v), f"{a} and {b}"


def in_parts(z: Any) -> Any:
    """Give complex numbers as a pair of real ones, of which derivatives are taken here."""
    plain = type(z) in (np.ndarray, complex, np.complex128)
    return (z.real, z.imag) if isinstance(z, Complex) or (plain and np.iscomplexobj(z)) else z


def check_parts(f: Callable[..., Any], x: Any, modes: Sequence[str], order: int) -> None:
    """Check a function that may have complex arguments and results."""
    leaves, structure = flatten(x)

    def of_parts(parts: Any) -> Any:
        whole = [Complex(*part) if isinstance(part, tuple) else part for part in parts]
        return in_parts(f(unflatten(structure, whole)))

    check_one(of_parts, list(map(in_parts, leaves)), modes, order)


def check_one(f: Callable[..., Any], x: Any, modes: Sequence[str], order: int) -> None:
    v = drawn(x)
    up, down = numbers(f(moved(x, v, STEP / 2))), numbers(f(moved(x, v, -STEP / 2)))
    true = (up - down) / STEP
    pullback, y = make_vjp(f, x)
    y_bar = drawn(y)
    if "fwd" in modes:
        check_equivalent(numbers(make_jvp(f, x)(v)[1]), true)
    if "rev" in modes:
        assert close(numbers(pullback(y_bar)) @ numbers(v), numbers(y_bar) @ true)
    if order > 1:
        if "fwd" in modes:
            check_one(lambda xv: make_jvp(f, xv[0])(xv[1])[1], (x, v), modes, order - 1)
        if "rev" in modes:
            check_one(lambda xv: make_vjp(f, xv[0])[0](xv[1]), (x, y_bar), modes, order - 1)


def check_grads(f: Callable[..., Any], argnum: Any = 0, modes: Any = None, order: int = 2) -> Any:
    wanted = ["fwd", "rev"] if modes is None else modes
    return of_argument(partial(check_parts, modes=wanted, order=order))(f, argnum)


def is_complex(x: Any) -> bool:
    return any(np.iscomplexobj(leaf) for leaf in flatten(x)[0] if type(leaf) is not Var)


def combo_check(f: Callable[..., Any], argnum: Any = 0, **options: Any) -> Any:
    def check(*args: Any, **kwargs: Any) -> None:
        keys = [[(k, x) for x in xs] for k, xs in kwargs.items()]
        for chosen in itertools.product(*args):
            if not any(map(is_complex, chosen)):
                for given in itertools.product(*keys):
                    of = argnum if isinstance(argnum, int) else tuple(argnum)
                    check_grads(f, of, **options)(*chosen, **dict(given))

    return check


def convolve(a: Any, v: Any, axes: Any = None, dot_axes: Any = None, mode: str = "full") -> Any:
    """SciPy's; with the axes that only autograd's has, nothing is asked."""
    if axes is not None or dot_axes is not None:
        pytest.skip("autograd's own axes of convolve")
    return scipy_functions.convolve(a, v, mode)


def not_ours(name: str) -> Any:
    """Stand for what only autograd has, so that a file that asks for it can be collected."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        pytest.skip(f"autograd's own {name}")

    return refuse


# The modules -----------------------------------------------------------------------------------------
def install() -> None:
    anp = numpy_module()
    made = {
        "autograd": {
            "numpy": anp, "grad": of_argument(grad), "value_and_grad": of_argument(value_and_grad),
            "elementwise_grad": of_argument(elementwise_grad), "deriv": of_argument(deriv),
            "jacobian": of_argument(lambda f, x: reference.jacobian(f)(x)),
            "hessian": of_argument(lambda f, x: reference.jacobian(reference.jacobian(f))(x)),
            "make_vjp": of_argument(make_vjp), "make_jvp": of_argument(make_jvp),
            "holomorphic_grad": of_argument(grad),
            "tuple": builtins.tuple, "list": builtins.list, "dict": builtins.dict,
            "isinstance": builtins.isinstance,
        },
        "autograd.numpy": vars(anp), "autograd.numpy.random": vars(np.random),
        "autograd.numpy.linalg": vars(anp.linalg),
        "autograd.test_util": {
            "check_grads": check_grads, "combo_check": combo_check, "scalar_close": close,
            "check_equivalent": check_equivalent,
        },
        "autograd.scipy": {}, "autograd.scipy.integrate": {},
        "autograd.scipy.stats": vars(stats),
        "autograd.scipy.stats.multivariate_normal": vars(stats.multivariate_normal),
        "autograd.scipy.special": {
            **scipy_functions.SPECIAL, "polygamma": scipy_functions.polygamma,
            "digamma": scipy_functions.digamma, "multigammaln": scipy_functions.multigammaln,
            "logsumexp": scipy_functions.logsumexp,
        },
        "autograd.scipy.signal": {"convolve": convolve},
        "autograd.scipy.linalg": {
            name: getattr(scipy_functions, name) for name in ("sqrtm", "solve_sylvester", "solve_banded")
        },
        "autograd.core": {"make_vjp": make_vjp, "primitive_vjps": {}},
        "autograd.builtins": {"tuple": tuple, "list": list, "dict": dict, "isinstance": isinstance},
        "autograd.wrap_util": {},
        "autograd.extend": {},
        "autograd.tracer": {"isbox": lambda x: type(x) is Var},
    }  # fmt: skip
    for name, content in made.items():
        module = types.ModuleType(name)
        vars(module).update({k: v for k, v in content.items() if not k.startswith("__")})
        vars(module).update(__getattr__=not_ours, __path__=[])
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    stats_module = sys.modules["autograd.scipy.stats"]
    rvs = importlib.import_module("scipy.stats").dirichlet.rvs
    stats_module.dirichlet = types.SimpleNamespace(**vars(stats.dirichlet), rvs=rvs)


class NotRun:
    """Leaves out tests, and lists them by reason with those that skip themselves."""

    def __init__(self, tests: Path) -> None:
        self.by_reason: dict[str, set[str]] = {}
        for name, reason in PRIVATE.items():
            text = (tests / f"{name}.py").read_text()
            for test in re.findall(r"^def (test\w*)", text, re.MULTILINE):
                self.note(f"autograd's private interface: {reason}", f"{name}.py::{test}")

    def note(self, reason: str, test: str) -> None:
        self.by_reason.setdefault(reason, set()).add(test.rpartition("/")[2])

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        left_out = []
        for item in items:
            for reason, names in LEFT_OUT.items():
                if re.search(names, item.nodeid, re.VERBOSE):
                    self.note(reason, item.nodeid)
                    left_out.append(item)
                    break
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for report in terminalreporter.stats.get("skipped", ()):
            self.note(report.longrepr[2].removeprefix("Skipped: "), report.nodeid)
        for reason, tests in self.by_reason.items():
            terminalreporter.write_line(f"not run, {len(tests)}: {reason}")
            terminalreporter.write_line(f"    {' '.join(sorted(tests))}")


def main(checkout: str, *options: str) -> int:
    install()
    tests = Path(checkout).resolve() / "tests"
    sys.path.insert(0, str(tests))
    left_out = [f"--ignore={tests / name}.py" for name in PRIVATE]
    base = [
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tests}",
        "-c",
        "/dev/null",
        "--no-header",
    ]
    return int(pytest.main([str(tests), *left_out, *base, *options], plugins=[NotRun(tests)]))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
