"""Shadows of JAX programs: their jaxpr, run on exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from ffverify.exact.arithmetic import BALLS, MPMATH  # noqa: E402 - after the skip
from ffverify.exact.arrays import PreciseArray  # noqa: E402
from ffverify.exact.elements import arb  # noqa: E402 - after the skip
from ffverify.exact.formats import of  # noqa: E402
from ffverify.frameworks.framework import framework  # noqa: E402
from ffverify.frameworks.shadow import Shadow  # noqa: E402
from ffverify.gradients.gradcheck import gradcheck  # noqa: E402
from ffverify.strategies import arrays  # noqa: E402
from tests.bounds import running_bound  # noqa: E402

jax.config.update("jax_enable_x64", True)
F64 = of("float64")
jnp = jax.numpy
nn = jax.nn
linalg = pytest.importorskip("jax.scipy.linalg")
special = pytest.importorskip("jax.scipy.special")


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def made(fn: Callable[..., Any], *args: Any) -> Shadow:
    return Shadow(fn, args, framework="jax")


def floats(x: Any) -> Any:
    return np.vectorize(float, otypes=[float])(x.values) if isinstance(x, PreciseArray) else x


@jax.custom_vjp
def clipped(x: Any) -> Any:
    return jnp.sin(x)


clipped.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.clip(g * jnp.cos(x), -0.5, 0.5),))


@jax.custom_jvp
def softplus(x: Any) -> Any:
    return jnp.logaddexp(x, 0.0)


softplus.defjvp(lambda p, t: (softplus(*p), nn.sigmoid(*p) * t[0]))

INDEX = jnp.array([0, 2, 2])
CASES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    **{n: (getattr(nn, n), [normal(3, 4)]) for n in str.split(
        "relu relu6 sigmoid softplus soft_sign silu log_sigmoid leaky_relu hard_sigmoid hard_silu hard_tanh "
        "elu celu selu gelu glu squareplus mish sparse_plus softmax log_softmax logsumexp standardize")},
    "custom_vjp": (clipped, [normal(4)]),
    "custom_jvp": (lambda x: softplus(x).sum(), [normal(4)]),
    "network": (
        lambda x, W: jax.jit(lambda x: nn.softmax(jnp.tanh(x @ W)))(x), [normal(3, 4), normal(4, 2, seed=1)]),
    "indices": (lambda x: x[INDEX] * jnp.take_along_axis(x, INDEX[:, None], 1), [normal(3, 4)]),
    "scatter": (lambda x: x.at[INDEX].add(x * x).at[0].set(1.0), [normal(3, 4)]),
    "moves": (
        lambda x: jnp.tile(jax.lax.reshape(x * x, (2, 6), dimensions=(1, 0)).T, (2, 1))[:, None] * x[0, 0],
        [normal(3, 4)]),
    "where": (lambda x: jnp.where(x > 0, jnp.exp(x), x**3), [normal(3, 4)]),
    "scan": (lambda x: jax.lax.scan(lambda c, y: (c * y, jnp.sin(c)), x[0], x), [normal(3, 4)]),
    "loop": (lambda x: jax.lax.fori_loop(0, 3, lambda i, c: jnp.cos(c) + x, x), [normal(3)]),
    "cond": (lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), [normal(3)]),
    "sort": (lambda x: jnp.sort(x * x, axis=0), [normal(3, 4)]),
    "top_k": (lambda x: jax.lax.top_k(x * x, 2)[0], [normal(3, 4)]),
    "search": (lambda x: jnp.interp(x, INDEX + 0.5 * jnp.arange(3), INDEX), [3 * normal(5)]),
    "incomplete": (
        lambda x: special.gammainc(2.5, x * x) * special.gammaincc(0.5, x * x)
        + special.betainc(2.0, 3.5, nn.sigmoid(x)),
        [normal(3, 4)]),
    "cumulative": (lambda x: jnp.cumsum(x, axis=0) + jnp.cumprod(x, axis=1), [normal(3, 4)]),
    "einsum": (lambda x: jnp.einsum("bij,bkj->bik", x, x), [normal(2, 3, 4)]),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), [normal(3)]),
    "logaddexp": (jnp.logaddexp, [normal(3), normal(3, seed=1)]),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(3)), [normal(3, 3)]),
    "cho_solve": (
        lambda x, b: linalg.cho_solve(linalg.cho_factor(x @ x.T + jnp.eye(4)), b), [normal(4, 4), normal(4)]),
    "solve": (jnp.linalg.solve, [normal(4, 4), normal(4)]),
    "solve of a stack": (jax.vmap(jnp.linalg.solve), [normal(2, 3, 3), normal(2, 3, 2)]),
    "inv": (jax.jit(jnp.linalg.inv), [normal(3, 3)]),
    "det": (jnp.linalg.det, [normal(4, 4)]),
    "slogdet": (lambda x: tuple(jnp.linalg.slogdet(x)), [normal(4, 4)]),
    "lu": (linalg.lu, [normal(4, 3)]),
    "lu_solve": (lambda x, b: linalg.lu_solve(linalg.lu_factor(x), b, trans=1), [normal(4, 4), normal(4)]),
    "solve_triangular": (linalg.solve_triangular, [normal(3, 3), normal(3, 2)]),
    "expm": (linalg.expm, [normal(3, 3)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value_gradient_and_tangent(name: str) -> None:
    fn, args = CASES[name]
    program = made(fn, *args)
    assert program.forward is not None
    assert program.backward is not None
    values, pull = jax.vjp(fn, *args)
    bars = pull(jax.tree.map(jnp.ones_like, values))
    values = values if isinstance(values, tuple) else (values,)
    points = [np.asarray(a) for a in args]
    ones = [np.ones(v.shape) for v in values]
    explained(program.forward, points, values)
    explained(program.backward, [*points, *ones], bars)
    if name == "custom_vjp":  # which has no forward mode
        assert program.jvp is None
        return
    assert program.jvp is not None, program.unknown
    tangents = [np.cos(p) for p in points]
    dots = jax.jvp(fn, args, [jnp.asarray(t) for t in tangents])[1]
    explained(program.jvp, [*points, *tangents], dots if isinstance(dots, tuple) else (dots,))


def explained(program: Callable[..., Any], args: list[Any], computed: Any) -> None:
    """Check that JAX's numbers are the exact ones within their running bound, and mpmath agrees."""
    with BALLS.precision(256):
        found = program(*map(BALLS.array, args))
    with MPMATH.precision(256):
        again = program(*map(MPMATH.array, args))
    bounds = running_bound(program, args, F64)
    for ours, second, bound, theirs in zip(found, again, bounds, computed, strict=True):
        if not isinstance(ours, PreciseArray):
            np.testing.assert_array_equal(ours, theirs)
            continue
        numbers = np.asarray(theirs).ravel().tolist()
        for x, y, radius, number in zip(
            *(a.ravel() for a in (ours.values, second.values, bound)), numbers, strict=True
        ):
            assert radius.is_finite()
            assert abs(arb(number) - x) <= radius
            # mpmath rounds each of its operations to 256 bits.
            assert abs(arb(y) - x) <= radius * arb(2) ** -128


@pytest.mark.parametrize("wrong", [1 + 1e-13, -1.0])
def test_a_number_beyond_its_roundings_is_told(wrong: float) -> None:
    x = np.array([0.5, 1.5])
    program = made(jnp.sin, jnp.asarray(x)).forward
    assert program is not None
    explained(program, [x], [np.sin(x)])
    with pytest.raises(AssertionError):
        explained(program, [x], [np.sin(x) * wrong])


def test_a_wrong_custom_rule_stays_wrong() -> None:
    backward = made(clipped, jnp.zeros(1)).backward
    assert backward is not None
    (bar,) = backward(BALLS.array(np.zeros(1)), BALLS.array(np.ones(1)))
    np.testing.assert_array_equal(floats(bar), [0.5])  # clipped, where the derivative is 1


def test_a_program_is_made_once() -> None:
    known: dict[str, Any] = {}
    fn, (x,) = CASES["cond"]
    first, second = (Shadow(fn, [y], framework="jax", known=known).forward for y in (x, -x))
    assert first is second is not None
    for y in (x, -x):
        explained(first, [np.asarray(y)], [fn(y)])


def test_what_has_no_exact_form_is_named() -> None:
    program = made(lambda x: jnp.linalg.eigh(x)[0], normal(3, 3))
    assert program.forward is None
    assert any("eigh" in u for u in program.unknown), program.unknown


def test_the_dot_product_of_two_vectors_has_an_exact_form() -> None:
    x = jnp.array([0.5, -2.0, 3.0])
    program = Shadow(lambda x: jnp.dot(jnp.tanh(x), x), [x], framework="jax")
    assert program.forward is not None
    (value,) = program.forward(BALLS.array(np.asarray(x, dtype=np.float64)))
    assert value.shape == ()


# --- Matrices ------------------------------------------------------------------------------------


def shifted(a: Any) -> Any:
    return a + 3 * jnp.eye(len(a), dtype=a.dtype)


def solving(pull: Callable[..., Any]) -> Any:
    """Give the solution of (a + 3) x = b, and cotangents that are pulled back by inverse, solution and v."""

    @jax.custom_vjp
    def solve(a: Any, b: Any) -> Any:
        return jnp.linalg.solve(shifted(a), b)

    def forward(a: Any, b: Any) -> Any:
        return solve(a, b), (a, solve(a, b))

    solve.defvjp(forward, lambda r, v: pull(jnp.linalg.inv(shifted(r[0])), r[1], v))
    return solve


def halved(x: Any) -> Any:
    return x.at[1].multiply(0.5)


PULLS = {
    "correct": lambda i, x, v: (-jnp.outer(i.T @ v, x), i.T @ v),
    "not transposed": lambda i, x, v: (-jnp.outer(i @ v, x), i @ v),
    "minus forgotten": lambda i, x, v: (jnp.outer(i.T @ v, x), i.T @ v),
    "one element halved": lambda i, x, v: (-jnp.outer(i.T @ v, x), halved(i.T @ v)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PULLS)
def test_rules_of_a_solution_are_judged_by_exact_programs(name: str, dtype: str) -> None:
    inputs = [
        arrays(dtype, shape, framework="jax", min_value=-1, max_value=1) for shape in ((3, 3), 3)
    ]
    report = gradcheck(solving(PULLS[name]), inputs, max_examples=24, raise_exception=False)
    assert report.truth == "shadow"
    assert report.verdict == ("correct" if name == "correct" else "wrong")
    assert report.ok == (name == "correct")
    assert report.points >= 20 or not report.ok


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "fn",
    [jnp.linalg.inv, lambda a: linalg.solve(a, a[0]), lambda a: jnp.linalg.slogdet(a)[1]],
)
def test_what_jax_makes_of_matrices_is_right(fn: Callable[..., Any], dtype: str) -> None:
    small = arrays(dtype, (4, 4), framework="jax", min_value=-0.5, max_value=0.5)
    report = gradcheck(lambda a: fn(shifted(a)), small, max_examples=20, raise_exception=False)
    assert report.truth == "shadow"
    assert report.ok
    assert not [f for f in report.findings if f.kind in {"wrong", "nonfinite"}]


@pytest.mark.parametrize("a", [[[9.0, 3.0], [3.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_a_singular_matrix_has_no_inverse(a: Any) -> None:
    report = gradcheck(jnp.linalg.inv, jnp.array(a), raise_exception=False)
    assert (report.verdict, report.truth) == ("inconclusive", "shadow")


def test_a_singular_triangle_has_no_solution() -> None:
    """Not even in its first row, to which substitution gives a number and JAX's rule a derivative of nan."""
    singular = jnp.diag(jnp.array([1.0, 0.0]))
    report = gradcheck(
        lambda a: linalg.solve_triangular(a, jnp.ones(2), lower=True),
        singular,
        raise_exception=False,
    )
    assert (report.verdict, report.truth) == ("inconclusive", "shadow")


def test_a_solution_by_steps_has_no_exact_form() -> None:
    """Each derivative is another such solution, near enough, and not the derivative of what they compute."""
    program = made(
        lambda a, b: jax.scipy.sparse.linalg.cg(a @ a.T + jnp.eye(3), b)[0], normal(3, 3), normal(3)
    )
    assert program.forward is None
    assert any("by steps" in u for u in program.unknown)


# --- Integers ------------------------------------------------------------------------------------


def test_integers_of_a_program_are_what_jax_makes_of_them() -> None:
    """Loops count by them; what runs over is cut off as in the result's format."""

    def numbers(x: Any, i: Any, b: Any) -> Any:
        folded = [jnp.any(b, axis=0), jnp.all(b), jnp.bitwise_or.reduce(i, axis=1)]
        pairs = [i * i, i + i, i - 7, jnp.maximum(i, 3), jnp.minimum(i, 3), i & 6, i | 6, i ^ 6, ~i]
        truths = [i < 3, i <= 3, i > 3, i >= 3, i == 3, i != 3, ~b, b & (i > 2), b | (i > 2)]
        converted = [i.astype("int8"), i.astype("uint16"), b.astype("int32"), i.astype(bool)]
        return (x, *folded, *pairs, *truths, *converted)

    x, i = jnp.ones(2), jnp.array([[2**31 - 1, 3, 200], [-5, 0, 70000]], dtype="int32")
    exact = Shadow(numbers, [x, i, i > 2], framework="jax").forward
    assert exact is not None
    given = [BALLS.array(np.ones(2)), np.asarray(i), np.asarray(i > 2)]
    for found, expected in zip(exact(*given)[1:], numbers(x, i, i > 2)[1:], strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_loops_count_without_jax(monkeypatch: Any) -> None:
    from ffverify.frameworks.jax import lowering

    def squared(x: Any) -> Any:
        def unfinished(state: Any) -> Any:
            return (state[0] < 5) & jnp.any(state[1] < 1e6)

        return jax.lax.while_loop(unfinished, lambda s: (s[0] + 1, s[1] * s[1]), (0, x))[1]

    exact = Shadow(squared, [jnp.ones(2) * 1.5], framework="jax").forward
    assert exact is not None
    monkeypatch.setattr(lowering, "_bound", None)
    found = exact(BALLS.array(np.array([1.5, 0.5])))[0]
    assert [float(e.mid()) for e in found.values] == [1.5**32, 0.5**32]


# --- VJPs that are run again ---------------------------------------------------------------------


def pulled(fn: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def vjp(x: Any, v: Any) -> Any:
        calls[0] += 1
        return jax.vjp(fn, x)[1](v)

    return vjp


def checked(fn: Callable[..., Any], *inputs: Any) -> tuple[int, dict[Any, Any]]:
    """Give how often a VJP that may be run again was called, and what is known; its bits are JAX's own."""
    calls, known = [0], dict[Any, Any]()
    vjp = pulled(fn, calls)
    for x in inputs:
        v = jnp.full_like(fn(x), 1.5)
        (again,), (fresh,) = framework("jax").replayed(vjp, known, "f", x, v), jax.vjp(fn, x)[1](v)
        assert again.tobytes() == fresh.tobytes()
    return calls[0], known


def test_a_vjp_is_run_again_as_it_was_executed() -> None:
    calls, _ = checked(
        lambda x: jnp.tanh(x @ x.T).sum(), *(normal(3, 3, seed=i) for i in range(40))
    )
    assert calls == 3  # called, traced, and called to see that it executes the same


def test_a_vjp_of_what_is_captured_is_run_again() -> None:
    w, other = normal(3, 3, seed=1), normal(3, 3, seed=2)
    calls, _ = checked(
        lambda x: jax.lax.dot(x, w) + other, *(normal(3, 3, seed=i) for i in range(5))
    )
    assert calls == 3


def test_a_vjp_that_branches_on_a_value_is_called() -> None:
    calls, _ = checked(lambda x: x**2 if x > 0 else -x, *map(jnp.asarray, (1.0, 2.0, -1.0, 3.0)))
    assert calls == 4 + 2  # and traces that fail


@jax.custom_vjp
def masked(x: Any) -> Any:
    return x * (x > 0)


masked.defvjp(
    lambda x: (masked(x), x), lambda x, v: (jax.lax.mul(v, jnp.where(x > 0, 1.0, 0.0)),)
)  # the rule is run on arrays: what is compiled as a whole in it is not seen


def test_a_vjp_of_which_not_all_is_seen_is_called_and_staged_later() -> None:
    calls, known = checked(masked, normal(3, seed=0))
    assert calls == 1 + 1  # and traced, to see what is captured
    (course,) = known.values()
    assert course.program is None
    calls, _ = checked(masked, *(normal(3, seed=i) for i in range(9)))
    assert calls in (
        4,
        5,
    )  # called, staged when it is again, and to see; JAX may remember its trace


def test_integers_choose_what_is_executed() -> None:
    def power(x: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, y: y * x, x)

    known: dict[Any, Any] = {}

    def jvp(x: Any, count: Any) -> Any:
        return jax.jvp(lambda x: power(x, count), (x,), (jnp.ones_like(x),))[1]

    for count in (2, 2, 2, 3, 4):
        found = framework("jax").replayed(jvp, known, "f", jnp.asarray(1.5), jnp.asarray(count))
        assert float(found) == (count + 1) * 1.5**count  # exactly: all of it is held


def test_what_gives_other_bits_elsewhere_is_not_run_again(monkeypatch: Any) -> None:
    from ffverify.frameworks.jax import replaying

    def executed(function: Any, operands: Any) -> Any:
        return function(*operands), lambda leaves: [
            jnp.nextafter(leaves[1] * jnp.cos(leaves[0]), 9.0)
        ]

    monkeypatch.setattr(replaying, "executed", executed)
    calls, _ = checked(jnp.sin, *(normal(3, seed=i) for i in range(5)))
    assert calls == 5


@jax.custom_jvp
def squared_often(x: Any) -> Any:
    return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * s[1]), (0, x))[1]


squared_often.defjvp(lambda x, t: (squared_often(*x), 8 * x[0] ** 7 * t[0]))


@pytest.mark.parametrize(
    ("fn", "calls"),
    [
        (lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, None, length=4)[0] + x, 4),
        (lambda x: jnp.cos(squared_often(x)), 4),  # called, called and traced, and called to see
        (lambda x: jnp.cos(x) * x, 6 + 1),  # which is as fast as what it executes
        (lambda x: jnp.cos(x) if x[0] > 9 else jax.lax.cond(True, jnp.sin, jnp.cos, x), 6 + 1),
    ],
)
def test_values_of_loops_are_run_again(fn: Any, calls: int) -> None:
    """JAX compiles a loop anew at every call of a function that is not compiled as a whole."""
    called, known = [0], dict[Any, Any]()

    def counted(x: Any) -> Any:
        called[0] += 1
        return [fn(x)]

    for seed in range(6):
        x = normal(3, seed=seed)
        (again,) = framework("jax").replayed(counted, known, "f", x, loops=True)
        assert again.tobytes() == fn(x).tobytes()
    assert called == [calls]


@jax.custom_vjp
def without_forward_mode(x: Any) -> Any:
    return jnp.sin(x)


without_forward_mode.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


def test_forward_mode_that_is_refused_is_not_tried_everywhere(monkeypatch: Any) -> None:
    tried = [0]
    jvp = jax.jvp

    def counted(*args: Any) -> Any:
        tried[0] += 1
        return jvp(*args)

    monkeypatch.setattr(jax, "jvp", counted)
    report = gradcheck(without_forward_mode, arrays("float64", 2, framework="jax"), max_examples=40)
    assert report.ok
    assert "forward" in report.skipped
    assert 3 <= tried[0] < report.points // 2


def test_numpys_float64_is_a_cotangent_of_whatever_dtype_the_result_has() -> None:
    x = jnp.ones(2, dtype="float32")
    with jax.enable_x64(True):
        _, pull = framework("jax").pullback(jnp.tanh, (x,), [True], [True])
        (gradient,) = pull([np.ones(2)])
    assert gradient.dtype == np.float32


def test_only_one_function_is_watched_at_a_time() -> None:
    """What one within another executes is seen by the outer one, and JAX is left as it was."""
    from ffverify.frameworks.jax import replaying

    before = replaying._Eager.process_primitive
    programs = []

    def outer(x: Any) -> Any:
        results, program = replaying.executed(jax.lax.sin, (x,))
        programs.append(program)
        return jax.lax.add(results, results)

    x = jnp.ones(3)
    results, program = replaying.executed(outer, (x,))
    assert programs[0] is None
    assert program is not None
    np.testing.assert_array_equal(program([x])[0], results)
    assert replaying._Eager.process_primitive is before


def convolutions(count: int) -> Any:
    """Draw convolutions in any order of axes, with strides, dilations, groups and padding of any sign."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        k = int(rng.integers(1, 4))
        groups = [(1, 1), (2, 1), (3, 1), (1, 2)][rng.integers(4)]
        features, batches = groups
        n, i, o = (int(size) for size in rng.integers(1, 3, 3) * [batches, 1, features * batches])
        strides, apart, between = (tuple(map(int, rng.integers(1, 3, k))) for _ in range(3))
        padding = [tuple(map(int, pair)) for pair in rng.integers(-1, 4, (k, 2))]
        names = ["NC" + "DHW"[:k], "OI" + "DHW"[:k], "NC" + "DHW"[:k]]
        orders = tuple("".join(rng.permutation(list(name))) for name in names)
        shapes = [[n, i * features, *rng.integers(3, 6, k)], [o, i, *rng.integers(1, 4, k)]]
        args = [
            jnp.asarray(rng.normal(size=[dict(zip(name, shape, strict=True))[a] for a in order]))
            for name, shape, order in zip(names, shapes, orders, strict=False)
        ]
        yield args, (strides, padding, between, apart, orders, *groups)


def test_convolutions_of_all_kinds_are_those_of_jax():
    for args, options in convolutions(60):

        def fn(x: Any, w: Any, options: Any = options) -> Any:
            return jax.lax.conv_general_dilated(x, w, *options)

        try:
            expected = fn(*args)
        except (TypeError, ValueError):  # padding takes away all there is
            continue
        program = made(fn, *args).forward
        assert program is not None
        explained(program, list(map(np.asarray, args)), [expected])


@pytest.mark.parametrize("error", [None, "not turned", "one stride", "doubled"])
def test_the_backward_of_a_strided_convolution(error):
    """Convolutions had no exact program: a check took 160 s, and knew 8 digits."""

    def plain(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (2,), [(1, 0)], rhs_dilation=(2,))

    @jax.custom_vjp
    def conv(x: Any, w: Any) -> Any:
        return plain(x, w)

    def backward(saved: Any, g: Any) -> Any:
        x, w = saved
        dx, dw = jax.vjp(plain, x, w)[1](g)
        if error == "not turned":
            dx = jax.vjp(plain, x, w[..., ::-1])[1](g)[0]
        if error == "one stride":
            dw = dw.at[..., -1].set(0)
        return dx, 2 * dw if error == "doubled" else dw

    conv.defvjp(lambda x, w: (plain(x, w), (x, w)), backward)
    inputs = [
        arrays("float64", shape, min_value=-5, max_value=5, framework="jax")
        for shape in ((1, 2, 5), (2, 2, 2))
    ]
    report = gradcheck(conv, inputs, max_examples=10, raise_exception=False)
    assert report.truth == "shadow"
    assert str(report.verdict) == ("wrong" if error else "correct"), str(report)
