"""Functions and VJPs of which no exact program is known: only differences tell what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.verdicts.verdict import Verdict


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


def left(x):
    """Give an array as NumPy's own, whatever format it has: exact numbers have no buffer."""
    return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)


def _softmax(a, b):
    z = np.exp(a + b - np.max(a + b, axis=0))
    return z / z.sum(axis=0)


def _softmax_vjp(v, a, b):
    y = _softmax(a, b)
    g = y * (v - (v * y).sum(axis=0))
    return g, g.sum(axis=0)


UNKNOWN = {
    "exact zeros": (_softmax, _softmax_vjp, ((4, 3), (3,)), (-3, 3)),
    "a large argument": (
        lambda x: np.sin(1000 * x),
        lambda v, x: (1000 * v * np.cos(1000 * x),),
        ((3,),),
        (0.5, 1.5),
    ),
    "a difference": (
        lambda x: np.square(x - x.mean()),
        lambda v, x: (2 * v * (x - x.mean()) - 2 * np.mean(v * (x - x.mean())),),
        ((3,),),
        (10, 12),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_rounding_in_a_gradient_that_nobody_can_run_is_no_fault(name, dtype):
    """Inputs' rounding moves a VJP whether an exact program of it is known or not."""
    fn, pull, shapes, (low, high) = UNKNOWN[name]

    def opaque(*args):
        return np.asarray(fn(*map(left, args)))

    def vjp(factor):
        return lambda *args: tuple((factor * g).astype(dtype) for g in pull(*map(left, args)))

    inputs = [arrays(dtype, s, min_value=low, max_value=high) for s in shapes]
    for seed in range(3):
        right, wrong = (
            check(opaque, *inputs, vjp=vjp(f), max_examples=6, seed=seed) for f in (1.0, 1.01)
        )
        assert right.ok, str(right)
        assert right.truth == "differences"
        assert wrong.verdict is Verdict.WRONG


def test_a_jump_is_no_slope_however_steadily_it_is_divided_by_the_step():
    """The mantissa of h over h is the same over a binade of steps: it passed for a slope of 19153.967."""
    report = check(
        one_by_one(lambda x: math.frexp(x)[0]), np.zeros(1), vjp=lambda v, x: (np.zeros(1),)
    )
    assert report.truth == "differences"
    assert str(report.verdict) == "inconclusive"


@pytest.mark.parametrize("factor", [1, 1.01])
def test_inputs_of_very_different_sizes_are_moved_in_proportion(factor):
    """A step that is small beside 9e6 is large beside 0: a right tangent was wrong, should be 0."""

    def one_by_one(x):
        return np.array([math.tanh(float(each)) for each in x])

    report = gradcheck(
        one_by_one,
        np.array([0.0, 0.0, 9e6]),
        vjp=lambda v, x: (v * (1 - np.tanh(x) ** 2),),
        jvp=lambda dots, x: factor * dots[0] * (1 - np.tanh(x) ** 2),
        raise_exception=False,
    )
    assert report.truth == "differences"
    assert str(report.verdict) == ("correct" if factor == 1 else "wrong")


def one_by_one(function):
    """Give a function of numbers that exact arithmetic cannot run, applied to each."""
    return lambda x: np.array([function(float(each)) for each in x], dtype=np.float64)


ALIKE_AT_ALL_SCALES = {
    "the mantissa": (lambda x: math.frexp(x)[0], lambda x: 2.0 ** -math.frexp(x)[1], -3.0547380447e-07),
    "a tiny number's mantissa": (lambda x: math.frexp(x)[0], lambda x: 2.0 ** -math.frexp(x)[1], 1.2e-30),
    "a logarithm": (lambda x: math.log(abs(x)) if x else 0.0, lambda x: 1 / x, 1e-12),
    "a wave of the logarithm": (
        lambda x: math.sin(3 * math.log(abs(x))) if x else 0.0,
        lambda x: 3 * math.cos(3 * math.log(abs(x))) / x,
        3e-10,
    ),
    "a root": (lambda x: math.copysign(abs(x) ** (1 / 3), x), lambda x: x ** (-2 / 3) / 3, 1e-20),
}  # fmt: skip


@pytest.mark.parametrize("factor", [1, 1.01])
@pytest.mark.parametrize("name", ALIKE_AT_ALL_SCALES)
def test_a_slope_is_what_small_steps_agree_on(name, factor):
    """Of what is alike at all scales large steps tell another slope, and by chance two of them the same."""
    value, slope, x = ALIKE_AT_ALL_SCALES[name]
    inputs = np.zeros(20)
    inputs[1] = x
    report = check(
        one_by_one(value),
        inputs,
        vjp=lambda v, given: (np.where(given, factor * v * slope(x), 0.0),),
    )
    assert report.truth == "differences"
    judged = [f for f in report.findings if "x[1]" in f.where]
    assert [str(f.kind) for f in judged] == ([] if factor == 1 else ["wrong"])


def test_a_bounded_wave_is_not_flat_because_large_steps_say_so():
    def fast(each):
        return math.sin(1000 * each)

    def vjp(v, x):
        return (1000 * v * np.cos(1000 * x),)

    report = check(one_by_one(fast), np.array([1000.1]), vjp=vjp)
    assert report.truth == "differences"
    assert str(report.verdict) != "wrong"


@pytest.mark.parametrize("error", [0, 1e-2])
def test_a_constant_that_swallows_the_input_hides_no_rounding(error):
    """Beside 16 moves of 1e-12 are nothing: no noise showed, and a right 2.6e-13 was wrong, should be 0."""
    for k in range(24):
        x = np.array([0.0, 1e-12 * 1.37**k])
        report = check(
            lambda x: np.array(math.log(16 - float(x[1]) ** 2) + float(x[0])),
            x,
            vjp=lambda v, x: (v * np.array([1.0, error - 2 * x[1] / (16 - x[1] ** 2)]),),
        )
        assert report.truth == "differences"
        assert str(report.verdict) == ("wrong" if error else "correct"), str(report)


_BASIS = (
    np.array([[1, 1, 0], [-1, 1, 0], [0, 0, 2**0.5]]) / 2**0.5
)  # of eigenvectors to 0, 10 and 0


ONE_SIDED = {
    "bends of two results that cancel": (
        lambda x: np.array([abs(float(x[0])), abs(float(x[0]))]),
        lambda v, x: (np.array([v[0] - v[1]]),),
        np.zeros(1),
    ),
    "a low kink in a smooth bend": (
        lambda x: np.array([1e-8 * abs(float(x[0])) + math.hypot(1, float(x[0])) + x[0] ** 4]),
        lambda v, x: (np.array([1e-8 * v[0]]),),
        np.zeros(1),
    ),
    "a low kink beside a smooth bend": (
        lambda x: np.array([1e-8 * abs(float(x[0])), math.hypot(1, float(x[0]))]),
        lambda v, x: (np.array([1e-8 * v[0]]),),
        np.zeros(1),
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ONE_SIDED)
def test_one_side_of_a_kink_that_hides_is_not_wrong(name, seed):
    fn, vjp, x = ONE_SIDED[name]
    right = check(fn, x, vjp=vjp, seed=seed)
    wrong = check(fn, x, vjp=lambda *args: tuple(100 * g for g in vjp(*args)), seed=seed)
    assert right.truth == "differences"
    assert right.ok, str(right)
    assert wrong.verdict is Verdict.WRONG


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("which", "error"), [(0, 0), (2, 0.01)])
def test_where_eigenvalues_cross_each_tangent_lies_between_the_sides(which, error, seed):
    """Scaled, a matrix keeps its eigenvalues of 0 exactly: no noise showed, and its rounding was a slope."""

    def fn(a):
        return np.linalg.eigvalsh(np.asarray((a + a.T) / 2))

    a, basis = ((_BASIS * [0, 10, 0]) @ _BASIS.T).astype(np.float32), _BASIS[:, [0, 2, 1]]

    def vjp(v, a):
        return (((basis * v) @ basis.T).astype(a.dtype),)

    def jvp(dots, a):
        return (np.diag(basis.T @ dots[0] @ basis) + error * (np.arange(3) == which)).astype(
            a.dtype
        )

    report = check(fn, a, vjp=vjp, jvp=jvp, seed=seed)
    assert report.truth == "differences"
    assert report.ok == (not error), str(report)


@pytest.mark.parametrize("factor", [1, 1.01])
@pytest.mark.parametrize("size", [1e-6, 1e-12, 1e-20, 1e-200])
def test_a_zero_is_moved_on_the_scale_of_the_smallest_number_beside_it(size, factor):
    """Beside a zero of 1e-20 a step of 1e-10 leads far away, where the function is another."""

    def fn(x):
        a, b, c = map(float, x)
        return np.array(a / math.hypot(a, b) + c)

    def vjp(v, x):
        return (v * np.array([factor / x[1], 0, 1]),)

    report = check(fn, np.array([0.0, size, 1.0]), vjp=vjp)
    tangent = check(
        fn, np.array([0.0, size, 1.0]), vjp=vjp, jvp=lambda dots, x: vjp(1.0, x)[0] @ dots[0]
    )
    assert report.truth == "differences"
    assert str(report.verdict) == ("correct" if factor == 1 else "wrong")
    assert tangent.ok == report.ok


@pytest.mark.parametrize("factor", [1, 1.01])
def test_an_infinite_mask_beside_numbers_is_no_scale_to_move_them_by(factor):
    mask = np.array([0.0, -np.inf, 0.0])

    def fn(x, mask):
        weights = [math.exp(float(a) + float(m)) for a, m in zip(x, mask, strict=True)]
        return np.array(math.log(sum(weights)))

    def vjp(v, x, mask):
        weights = np.exp(x + mask)
        return v * factor * weights / weights.sum(), v * weights / weights.sum()

    report = check(fn, np.array([0.3, 1.0, -0.7]), mask, vjp=vjp)
    assert report.truth == "differences"
    assert report.ok == (factor == 1), str(report)
    assert (
        all("mask[1]" in f.where for f in report.findings) == report.ok
    )  # there is no slope at -inf


def test_a_jump_at_the_point_has_no_slope():
    """A remainder that jumps there: its bend does not shrink with the step, and passed for a kink."""
    report = check(
        one_by_one(lambda x: math.fmod(x, 0.1)), np.array([1000.1]), vjp=lambda v, x: (v,)
    )
    assert report.truth == "differences"
    assert str(report.verdict) == "inconclusive"


@pytest.mark.parametrize("factor", [1, 1.01])
def test_tangents_whose_code_nobody_can_run_are_held_to_the_exact_slopes(factor):
    def jvp(dots, x):
        return factor * np.asarray(dots[0], dtype=float) * np.cos(np.asarray(x, dtype=float))

    report = check(np.sin, np.array([0.3, -1.2, 2.5]), jvp=jvp)
    assert report.truth == "shadow"
    kinds = {(f.mode, str(f.kind)) for f in report.findings}
    assert kinds == (set() if factor == 1 else {("forward", "wrong")})


def through_a_number(way_out, factor=1.0):
    """Give exp(sum x) in torch, where the sum leaves the graph, and ``factor`` times its gradient."""
    torch = pytest.importorskip("torch")

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.exp(torch.as_tensor(way_out(x.detach().sum())).to(x))
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, v):
            x, y = ctx.saved_tensors
            return (factor * v * y).expand(x.shape)

    return Opaque.apply


@pytest.mark.parametrize(
    "way_out", [lambda z: z.item(), lambda z: z.numpy().astype("float32"), lambda z: z.tolist()]
)
def test_a_number_that_leaves_the_graph_and_is_rounded_is_no_constant(way_out):
    """torch.tensor of a Python float has float32: a step of half float64's digits does not show in it."""
    torch = pytest.importorskip("torch")
    x = torch.linspace(-0.3, 0.1, 4, dtype=torch.float64)
    report = check(through_a_number(way_out), x)
    assert report.truth == "differences"
    assert not [f for f in report.findings if f.severity == "error"]
    assert check(through_a_number(way_out, -1.0), x).verdict != "correct"


def test_in_half_precision_conditioning_is_known_where_only_differences_are():
    """A sum of -48 is rounded by an eighth in bfloat16, and e^z of it by as much of itself."""
    torch = pytest.importorskip("torch")
    x = torch.linspace(-3.1, -0.9, 24, dtype=torch.bfloat16)
    report = check(through_a_number(lambda z: z.item()), x)
    assert report.truth == "differences"
    assert not [f for f in report.findings if f.severity == "error"]
    few = torch.tensor([0.5, -0.25], dtype=torch.bfloat16)
    assert check(through_a_number(lambda z: z.item()), few).ok
    spoiled = check(through_a_number(lambda z: z.item(), 1.5), few)
    assert spoiled.verdict == "wrong"


@pytest.mark.parametrize(("factor", "kind"), [(1.0, "imprecise"), (1.001, "wrong")])
def test_rounding_of_code_that_nobody_can_run_is_told_by_wider_numbers(factor, kind):
    """CTC's gradient is of exponentials of sums near 1e4: float32 has three digits left, float64 twelve."""
    torch = pytest.importorskip("torch")
    scores = torch.zeros(4, 1, 3)
    scores[3, 0, 1] = 10420.0
    lengths = torch.tensor([4]), torch.tensor([2])

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            with torch.enable_grad():
                at = x.detach().requires_grad_()
                ctx.pair = at, F.ctc_loss(at.log_softmax(-1), torch.tensor([[1, 2]]), *lengths)
            return ctx.pair[1].detach()

        @staticmethod
        def backward(ctx, v):
            at, loss = ctx.pair
            return factor * torch.autograd.grad(loss, at, v, retain_graph=True)[0]

    F = torch.nn.functional
    report = gradcheck(Loss.apply, scores, raise_exception=False)
    assert str(report.verdict) == kind


def test_results_in_a_narrow_format_do_not_excuse_a_formula():
    """Nothing is wider where inputs are: that the same error is there is no sign of rounding."""
    torch = pytest.importorskip("torch")

    def square(factor):
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return (x * x).float()

            @staticmethod
            def backward(ctx, v):
                (x,) = ctx.saved_tensors
                return torch.from_numpy(np.array(factor * 2 * x.numpy() * v.numpy())).to(x)

        return Square.apply

    x = torch.tensor([0.5, -1.25, 3.0])
    assert check(square(1.0), x).ok
    assert check(square(1.1), x).verdict is Verdict.WRONG
    assert check(square(0.0), x).verdict is Verdict.WRONG


def foreign(fn):
    """Give a function of plain floats alone, in the format of its input."""
    return lambda x: np.asarray(fn(left(x))).astype(x.dtype)


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_results_that_no_step_moves_are_no_noise_in_the_others(factor):
    """The roundings of 3e17 hid the slope of another, 1e38 at a tiny input: 0 passed for it then."""
    x = np.array([-0.00024414065, 33.0, 44.0, -47.318565, -1.1754945e-38], dtype=np.float32)
    fn = foreign(lambda x: np.exp(x.astype(np.float64)) + np.log(np.abs(x.astype(np.float64))))
    for seed in range(3):
        report = check(fn, x, vjp=lambda v, x: factor * v * (np.exp(x) + 1 / x), seed=seed)
        assert report.truth == "differences"
        assert report.verdict is (Verdict.CORRECT if factor == 1 else Verdict.WRONG)


@pytest.mark.parametrize("x", [np.zeros(5), np.array([1e-30, -1e-20, 0.0, 1e-12, 0.0])])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_what_is_rounded_inside_shows_beside_zeros(x, factor):
    """Inputs that are scaled stay where they are: no noise was seen, and over a rounding the slope is 0."""

    def fn(x):
        return np.float64(np.float32(np.logaddexp.reduce(np.asarray(x))))

    def vjp(v, x):
        return factor * v * np.exp(x) / np.exp(x).sum()

    assert check(fn, x, vjp=vjp).ok is (factor == 1)


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_an_element_at_a_pole_is_not_judged_and_hides_no_other(factor):
    """0, the cotangent of log 0, times its slope is nan."""
    with np.errstate(all="ignore"):
        fn = foreign(np.log)
        report = check(fn, np.array([0.0, 1.0, 3.0]), vjp=lambda v, x: factor * v / x)
    assert report.truth == "differences"
    assert report.verdict is (Verdict.CORRECT if factor == 1 else Verdict.WRONG)
    assert "not finite in 1 of 3 at some input, where a result is not either" in str(report)


def test_a_number_that_is_not_finite_beside_finite_results_is_a_fault():
    def vjp(v, x):
        return np.where(x == 0, np.nan, v * np.cos(x))

    assert check(foreign(np.sin), np.array([0.0, 1.0]), vjp=vjp).verdict is Verdict.NONFINITE


@pytest.mark.parametrize("x", [[20.0, -3.0, -4.0], [20.0]])
def test_rounding_of_the_scale_at_ordinary_inputs_is_no_wrong_formula(x):
    """Of 1 - σ in a tail half of the digits are lost, whether an exact program of that is known or not."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def pull(factor):
        def vjp(v, x):
            s = np.array([sigmoid(float(t)) for t in x])
            return factor * v * s * (1 - s)

        return vjp

    for seed in range(3):
        right = check(sigmoid, np.array(x), vjp=pull(1.0), seed=seed)
        assert right.ok
        assert right.verdict in {Verdict.IMPRECISE, Verdict.CORRECT}  # as its rounding falls
        assert check(sigmoid, np.array(x) / 4, vjp=pull(1.001), seed=seed).verdict is Verdict.WRONG
