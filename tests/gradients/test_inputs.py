"""What gradcheck takes as inputs: trees of arrays, data among them, and whatever else functions take."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ffverify
from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays, booleans, labels

X = np.array([0.5, -1.25, 2.0])
RNG = np.random.default_rng(0)


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


# -- trees ----------------------------------------------------------------------------------------

PARAMS = {
    "dense": {"w": RNG.normal(size=(2, 3)), "b": RNG.normal(size=3)},
    "out": [RNG.normal(size=(3, 1)), np.array([0.5])],
}


def mlp(params, x):
    h = np.tanh(x @ params["dense"]["w"] + params["dense"]["b"])
    return h @ params["out"][0] + params["out"][1]


def mlp_vjp(v, params, x, wrong=1.0):
    w, (u, _) = params["dense"]["w"], params["out"]
    h = np.tanh(x @ w + params["dense"]["b"])
    z = (v @ u.T) * (1 - h * h)
    slip = np.ones_like(w)
    slip[0, 1] = wrong
    dense = {"b": z.sum(axis=0), "w": x.T @ z * slip}  # in another order than the parameters'
    return {"out": [h.T @ v, v.sum(axis=0)], "dense": dense}, z @ w.T


def test_a_tree_of_parameters_is_differentiated_and_its_places_named():
    x = RNG.normal(size=(4, 2))
    assert quiet(mlp, (PARAMS, x)).ok
    assert quiet(mlp, (PARAMS, x), vjp=mlp_vjp).ok
    wrong = quiet(mlp, (PARAMS, x), vjp=lambda v, p, x: mlp_vjp(v, p, x, wrong=1.01))
    assert [f.where for f in wrong.findings] == [
        '∂⟨v, mlp⟩/∂params["dense"]["w"][0, 1], reverse',
    ]
    assert not wrong.replay().ok


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Record:
    a: object
    b: object
    mode: str = "sum"


@pytest.mark.parametrize(
    ("tree", "get", "label"),
    [
        ({"a": X, "b": X + 1}, lambda t, n: t[n], 'p["b"]'),
        (OrderedDict(a=X, b=X + 1), lambda t, n: t[n], 'p["b"]'),
        (Pair(X, X + 1), getattr, "p.b"),
        (Record(X, X + 1), getattr, "p.b"),
        ([X, X + 1], lambda t, n: t["ab".index(n)], "p[1]"),
        ((X, [X + 1]), lambda t, n: t[0] if n == "a" else t[1][0], "p[1][0]"),
    ],
    ids=["dict", "ordered", "named tuple", "dataclass", "list", "nested"],
)
def test_containers_come_as_they_were_given(tree, get, label):
    kind = type(tree)

    def f(p):
        assert type(p) is kind
        return np.sum(np.sin(get(p, "a")) * get(p, "b"))

    assert quiet(f, (tree,)).ok

    def vjp(v, p):
        a, b = get(p, "a"), get(p, "b")
        parts = {"a": v * np.cos(a) * b, "b": -v * np.sin(a)}
        if kind is tuple:
            return ((parts["a"], [parts["b"]]),)
        if kind is list:
            return ([parts["a"], parts["b"]],)
        return parts if kind in (dict, OrderedDict) else kind(**parts)

    wrong = quiet(f, (tree,), vjp=vjp)
    assert f"/∂{label}[" in wrong.findings[0].where


def test_a_gradient_that_is_built_otherwise_is_told():
    def vjp(v, p):
        return {"a": v * p["b"]}

    report = quiet(lambda p: np.sum(p["a"] * p["b"]), {"a": X, "b": X}, vjp=vjp)
    assert '["b"] is missing' in str(report)
    report = quiet(lambda x, y: x * y, (X, X), vjp=lambda v, x, y: (v * y,))
    assert "returned 1 gradients for 2 inputs" in str(report)
    report = quiet(np.sum, np.zeros(3), vjp=lambda v, x: [v, v])
    assert "returned 2 gradients for 1 inputs" in str(report)
    report = quiet(np.sum, np.zeros(1), vjp=lambda v, x: [v])
    assert "has shape () instead of (1,)" in str(report)


@pytest.mark.parametrize("given", [X, X.tolist()], ids=["array", "list"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_the_gradient_of_one_array_may_be_a_list_of_numbers(given, kind):
    def vjp(v, x, slip=1.0):
        return kind(2 * v * slip**i * t for i, t in enumerate(x))

    assert quiet(lambda x: sum(t * t for t in x), [given], vjp=vjp).verdict == "correct"
    wrong = quiet(lambda x: sum(t * t for t in x), [given], vjp=lambda v, x: vjp(v, x, 1.001))
    assert wrong.verdict == "wrong"


def test_cotangents_are_built_like_the_results():
    def f(x):
        return {"s": np.sin(x), "c": np.cos(x)}

    def vjp(v, x):
        return v["s"] * np.cos(x) - v["c"] * np.sin(x)

    assert quiet(f, X, vjp=vjp).ok
    assert not quiet(f, X, vjp=lambda v, x: vjp(v, 1.01 * x)).ok


def test_tangents_are_built_like_the_inputs():
    def f(p):
        return p["a"] * p["b"]

    given = {"a": X, "b": X + 1}
    assert quiet(f, given, jvp=lambda t, p: t[0]["a"] * p["b"] + p["a"] * t[0]["b"]).ok
    assert not quiet(f, given, jvp=lambda t, p: t[0]["a"] * p["b"] - p["a"] * t[0]["b"]).ok


def test_a_dict_gives_arguments_by_name():
    def f(x, *, scale, power=2):
        return scale * x**power

    assert quiet(f, {"x": X, "scale": np.array(3.0), "power": 3}).ok
    right = lambda v, x, *, scale: {"x": 2 * v * scale * x, "scale": np.sum(v * x * x)}  # noqa: E731 - a rule
    assert quiet(f, {"x": X, "scale": np.array(3.0)}, vjp=right).ok
    wrong = lambda v, x, *, scale: {"x": v * scale * x, "scale": np.sum(v * x * x)}  # noqa: E731 - a rule
    assert "/∂x" in quiet(f, {"x": X, "scale": np.array(3.0)}, vjp=wrong).findings[0].where


# -- what is passed as it is ------------------------------------------------------------------------


def test_what_is_no_array_is_passed_as_it_is():
    def f(x, scale, mode, mask, function, dtype):
        assert type(scale) is float
        assert mode == "sum"
        assert mask is None
        assert dtype is np.float64
        return scale * np.sum(function(x))

    report = quiet(f, (X, 3.0, "sum", None, np.sin, np.float64))
    assert report.ok
    assert report.data == {"scale": "a float is passed as it is, beside arrays"}
    assert "not differentiated: scale" in str(report)
    text = quiet(
        f, (X, 3.0, "sum", None, np.sin, np.float64), vjp=lambda v, x, *_: (v * x, *[None] * 5)
    )
    assert "3.0, 'sum', None, np.sin, np.float64], vjp=vjp)" in text.findings[0].replay


def test_numbers_alone_are_arrays():
    assert quiet(lambda x: np.log1p(np.exp(x)), 0.5).ok
    assert quiet(lambda x: np.sum(x * x), ([1.0, 2.0],)).judged
    assert (
        quiet(lambda x, y: x * y, (0.5, 2.0), vjp=lambda v, x, y: (v * y, -v * x)).verdict
        == "wrong"
    )
    assert quiet(np.exp, (np.float64(0.5),)).ok


def test_nothing_to_check():
    with pytest.raises(TypeError, match="no array of numbers"):
        gradcheck(np.exp, "x")
    with pytest.raises(
        TypeError, match=r"array\(\[1, 2\]\): there is nothing but int64, .* give some"
    ):
        gradcheck(lambda x: x * 1.0, np.array([1, 2]))
    with pytest.raises(TypeError, match="nothing but bool"):
        gradcheck(lambda x: x * 1.0, (np.array([True]),))
    with pytest.raises(ValueError, match="the floats are empty: give one at least"):
        gradcheck(np.exp, np.array([]))
    assert quiet(lambda x, y: x * y.sum(), (np.ones(2), np.array([]))).judged


@pytest.mark.parametrize(
    ("fn", "inputs", "said"),
    [
        (lambda p: p[0] * p[1], [np.ones(2), np.ones(2)], r"\(p\) is given 2 .* give \[inputs\]"),
        (lambda x, y: x * y, np.ones(2), r"\(x, y\) is given 1 argument, the ndarray itself"),
        (lambda x, y: x * y, [np.ones(2)], r"missing a required argument: 'y'"),
        (lambda x, y: x * y, {"x": np.ones(2), "z": 1.0}, r"its keys are no names of parameters"),
        (lambda x, y: x * y, [arrays("float64", (2,))], r"inputs=\[.*missing a required"),
    ],
)
def test_more_or_fewer_arguments_than_a_function_takes(fn, inputs, said):
    with pytest.raises(TypeError, match=said):
        gradcheck(fn, inputs)


def test_arguments_that_a_function_takes_by_default_or_by_name():
    assert quiet(lambda p: p[0] * p[1], [[np.ones(2), np.ones(2)]]).ok
    assert quiet(lambda x, y=2.0: x * y, [np.ones(2)]).ok
    assert quiet(lambda *xs: xs[0] * xs[1], [np.ones(2), np.ones(2)]).ok
    assert quiet(lambda x, *, y: x * y, {"x": np.ones(2), "y": np.ones(2)}).ok


def test_a_ufunc_is_not_given_arrays_to_write_to():
    for two in ([0.5, 1.0], (np.ones(2), np.ones(2))):
        with pytest.raises(
            TypeError, match=r"np.sin takes 1, and these are 2: if one array is meant"
        ):
            gradcheck(np.sin, two)
    assert quiet(np.add, [0.5, 1.0]).ok
    assert quiet(np.sin, [0.5]).ok
    with pytest.raises(TypeError, match=r"np.arctan2 takes 2, and these are 1"):
        gradcheck(np.arctan2, np.ones(2))


def test_booleans_and_integers_are_data():
    def f(x, mask, places):
        return np.where(mask, x, x * x)[places]

    mask, places = np.array([True, False, True]), np.array([2, 1])
    assert quiet(f, (X, mask, places)).ok

    def vjp(v, x, mask, places, slip=2.0):
        g = np.zeros_like(x)
        np.add.at(g, places, v)
        return g * np.where(mask, 1, slip * x), None, None

    assert quiet(f, (X, mask, places), vjp=vjp).ok
    assert not quiet(f, (X, mask, places), vjp=lambda *a: vjp(*a, slip=3.0)).ok


# -- data -----------------------------------------------------------------------------------------


def squared(z, y):
    return np.sum((z - y) ** 2)


def test_floats_for_which_vjp_gives_none_are_data():
    report = quiet(squared, (X, X + 1), vjp=lambda v, z, y: (2 * v * (z - y), None))
    assert report.ok
    assert report.data == {"y": "vjp= gives None for it"}
    assert not quiet(squared, (X, X + 1), vjp=lambda v, z, y: (v * (z - y), None)).ok
    assert not quiet(squared, (X, X + 1), vjp=lambda v, z, y: (None, None)).ok


def test_declared_data_is_not_differentiated_by():
    for y in (X + 1, arrays("float64", (3,), min_value=-5, max_value=5)):
        report = quiet(
            squared, (X, ffverify.data(y)), vjp=lambda v, z, y: (2 * v * (z - y), z), max_examples=5
        )
        assert report.ok
        assert report.data == {"y": "declared as data"}
    nested = {"z": X, "target": ffverify.data([X + 1])}
    report = quiet(lambda p: squared(p["z"], p["target"][0]), nested)
    assert report.data == {'p["target"][0]': "declared as data"}
    wrong = quiet(squared, (X, ffverify.data(X + 1)), vjp=lambda v, z, y: (v * (z - y), None))
    assert "ffverify.data(np.array(" in wrong.findings[0].replay
    assert not wrong.replay().ok


# -- strategies -----------------------------------------------------------------------------------


def test_strategies_may_stand_anywhere_in_a_tree():
    a = arrays("float64", (2,), min_value=-3, max_value=3)
    tree = {"w": a, "more": [a, 2.0, st.sampled_from(["sum", "mean"])]}

    def f(p):
        total = np.sum if p["more"][2] == "sum" else np.mean
        return total(p["w"] * p["more"][0]) * p["more"][1]

    assert quiet(f, tree, max_examples=10).ok
    report = quiet(f, tree, max_examples=40, vjp=lambda v, p: {"w": 0 * p["w"], "more": None})
    assert report.verdict == "wrong"
    assert not report.replay().ok


def test_a_strategy_may_draw_a_tree():
    a = hnp.arrays(np.float64, 2, elements=st.floats(-3, 3))
    report = quiet(
        lambda p: p["a"] * p["b"], st.fixed_dictionaries({"a": a, "b": a}), max_examples=8
    )
    assert report.ok
    assert report.judged


def test_hypothesis_own_arrays_are_taken_whatever_they_hold():
    anything = hnp.arrays(hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)), 3)
    report = quiet(lambda x: x * 2, anything, max_examples=25)
    assert not any(f.severity == "error" for f in report.findings), str(report)
    assert report.points > 10


@settings(derandomize=True, deadline=None, max_examples=5)
@given(labels((4,), 3), booleans((2, 2)))
def test_labels_and_masks(y, mask):
    assert y.dtype == np.int64
    assert set(y.tolist()) <= {0, 1, 2}
    assert mask.dtype == bool


def test_labels_need_a_class():
    with pytest.raises(ValueError, match="classes=0"):
        labels((3,), 0)


# -- arrays that cannot be judged ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([1 + 2j], dtype=np.clongdouble), "wider than"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "masked array"),
        (np.array([1.0, None]), "Python objects"),
        (np.array([1.0], dtype=np.longdouble), "wider than"),
    ],
)
def test_a_clear_sentence_for_arrays_that_cannot_be_judged(value, words):
    with pytest.raises(TypeError, match=f"^input x .*{words}.*give|^input x .*{words}.*take"):
        gradcheck(lambda x: x * 2, value)


def test_big_endian_arrays_are_floats():
    x = X.astype(">f8")
    assert quiet(lambda x: np.sum(x * x), x).ok
    assert not quiet(lambda x: np.sum(x * x), x, vjp=lambda v, x: v * x).ok


# -- torch ----------------------------------------------------------------------------------------


def test_torch_tensors_in_lists_beside_numbers_and_frozen_ones():
    torch = pytest.importorskip("torch")
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, -1.0, 2.0])

    class Slipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            _, b = ctx.saved_tensors
            return g * b, g * b

    assert quiet(lambda p: p[0] * p[1], ([a, b],)).ok
    assert "/∂p[1][" in quiet(lambda p: Slipped.apply(*p), ([a, b],)).findings[0].where
    assert quiet(lambda x, s: x * s, (a, 3.0)).ok
    assert quiet(lambda x, s: x * s.item(), (a, np.float64(3.0))).ok
    report = quiet(lambda a, b: a * b.detach(), (a.clone().requires_grad_(), b))
    assert report.ok
    assert "does not require a gradient" in report.data["b"]


def test_torch_modules_with_buffers_frozen_parameters_and_keywords():
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
            self.fixed = torch.nn.Parameter(
                torch.tensor(0.5, dtype=torch.float64), requires_grad=False
            )
            self.register_buffer("shift", torch.tensor([0.25, 0.75], dtype=torch.float64))

        def forward(self, x, *, scale):
            return torch.tanh(self.w * x + self.shift) * scale + self.fixed.detach()

    x = torch.tensor([0.3, 0.6], dtype=torch.float64)
    report = quiet(Layer(), {"x": x, "scale": 2.0})
    assert report.ok, str(report)


def test_torch_functions_may_keep_running_statistics_in_their_data():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
    mean, variance = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)

    def normed(x, mean, variance):
        return torch.nn.functional.batch_norm(x, mean, variance, training=True)

    report = quiet(normed, (x, ffverify.data(mean), ffverify.data(variance)))
    assert report.ok, str(report)
    assert set(report.data) == {"mean", "variance"}
    assert mean.tolist() == [0.0, 0.0]
    assert "changes its input x in place" in str(
        quiet(lambda x, m: x.add_(m), (x, ffverify.data(mean + 1)))
    )


def test_torch_labels_and_masks_go_with_their_tensors():
    torch = pytest.importorskip("torch")
    z = arrays("float32", (3, 4), min_value=-5, max_value=5, framework="torch")
    loss = torch.nn.functional.cross_entropy
    assert quiet(loss, (z, labels((3,), 4)), max_examples=5).ok
    assert quiet(loss, (z, labels((3,), 4, framework="torch")), max_examples=5).ok
    masked = lambda z, m: torch.where(m, z, 0 * z)  # noqa: E731 - a function under test
    assert quiet(masked, (z, booleans((3, 4))), max_examples=5).ok


def test_torch_tensors_that_cannot_be_judged():
    torch = pytest.importorskip("torch")
    ones = torch.ones(2, 2)
    for value, words in [
        (ones.to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta device"),
        (ones.to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ]:
        with pytest.raises(TypeError, match=f"^input x is .*{words}"):
            gradcheck(lambda x: x * 2, value)


# -- JAX ------------------------------------------------------------------------------------------


def test_jax_trees_and_keys():
    jax = pytest.importorskip("jax")
    params = {"w": jax.numpy.ones((2, 2)), "b": jax.numpy.zeros(2)}

    def f(params, x, key):
        noise = jax.random.normal(key, (2,))
        return jax.numpy.tanh(x @ params["w"] + params["b"]) * noise

    x = jax.numpy.array([0.5, 0.25])
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert quiet(f, (params, x, key)).ok
    with pytest.raises(TypeError, match="no array of numbers"):
        gradcheck(jax.numpy.tanh, jax.random.key(0))


def test_what_is_registered_with_jax_is_opened():
    jax = pytest.importorskip("jax")

    class Box:
        def __init__(self, w):
            self.w = w

    jax.tree_util.register_pytree_with_keys(
        Box, lambda b: ((("w", b.w),), None), lambda _, parts: Box(*parts)
    )

    @jax.custom_vjp
    def f(box):
        return box.w**2

    f.defvjp(lambda box: (box.w**2, box.w), lambda w, g: (Box(3 * g * w),))
    report = quiet(f, (Box(jax.numpy.array([1.0, 2.0])),))
    assert report.verdict == "wrong"


def test_arrays_of_two_frameworks_are_refused():
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    told = "torch's a and JAX's b: give the arrays of one framework"
    with pytest.raises(TypeError, match=told):
        gradcheck(lambda a, b: a, (torch.ones(2), jnp.ones(2)))
    with pytest.raises(TypeError, match="JAX's input and torch's module"):
        gradcheck(torch.nn.Tanh(), jnp.ones(2))
    assert gradcheck(lambda a, b: a * torch.tensor(b), (torch.ones(2), np.array([1, 2]))).ok
