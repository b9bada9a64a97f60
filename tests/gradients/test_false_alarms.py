"""Right code that a gradient check could take for wrong, each beside code that is wrong there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck
from ffverify.strategies import arrays
from ffverify.verdicts.verdict import Verdict

special = pytest.importorskip("scipy.special")


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


def phi(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def log_normal(x):
    return np.log(0.5 * special.erfc(-x / np.sqrt(2)))


def hazard(factor):
    def vjp(v, x):
        return (factor * v * phi(x) / (0.5 * special.erfc(-x / np.sqrt(2))),)

    return vjp


def test_constants_that_are_rounded_apart():
    """√2 in the function and √(2π) in the derivative are other roundings of the same mathematics."""
    x = np.array([-8.0])
    assert check(log_normal, x, vjp=hazard(1.0)).ok
    report = check(log_normal, x, vjp=hazard(1 + 1e-9))
    assert str(report.verdict) == "wrong"


def test_a_wrong_formula_beside_an_exact_zero_is_wrong():
    def quotient(sign):
        return lambda v, x: (v * np.exp(x) * (x + sign) / (x * x),)

    def fn(x):
        return np.exp(x) / x

    assert check(fn, np.ones(1), vjp=quotient(-1)).ok
    assert str(check(fn, np.ones(1), vjp=quotient(1)).verdict) == "wrong"


def test_a_wrong_formula_does_not_hide_in_how_far_slopes_move():
    """Over 250 inputs sin(1e9 x) has slopes that move by 3e-5 with the rounding that sums may have."""

    def fn(x):
        return np.sum(np.sin(1e9 * x))

    def vjp(factor):
        return lambda v, x: (factor * v * 1e9 * np.cos(1e9 * x),)

    x = np.random.default_rng(3).uniform(0.5, 1.0, 250)
    assert check(fn, x, vjp=vjp(1.0)).ok
    assert str(check(fn, x, vjp=vjp(1 + 2e-5)).verdict) == "wrong"


def test_cancellation_beside_rounded_constants_is_imprecise_not_wrong():
    def vjp(v, x):
        return (v * phi(x) / (0.5 * (1 + special.erf(x / np.sqrt(2)))),)

    assert str(check(log_normal, np.array([-7.0]), vjp=vjp).verdict) == "imprecise"


def test_rounded_constants_of_a_function_move_its_slopes_beside_its_own_code():
    torch = pytest.importorskip("torch")
    gelu, x = torch.nn.functional.gelu, torch.tensor([-9.0], dtype=torch.float64)
    assert str(check(gelu, x).verdict) == "imprecise"  # x² times as far: 50 roundings of 1 / √2


def test_special_functions_of_scipy_have_exact_forms():
    def vjp(v, x):
        return (v * (special.digamma(x + 1) - special.psi(x)),)

    assert str(check(np.log, np.array([1e9]), vjp=vjp).verdict) == "imprecise"
    assert check(special.gammaln, np.array([2.5, 7.0]), vjp=lambda v, x: (v * special.psi(x),)).ok
    wrong = check(special.expit, np.array([0.5]), vjp=lambda v, x: (v * special.expit(x) ** 2,))
    assert str(wrong.verdict) == "wrong"


@pytest.mark.parametrize("seed", range(4))
def test_ties_of_a_maximum_inside_a_vector_function(seed):
    def to_first(v, x, sign=1.0):
        first = (np.arange(x.size) == np.argmax(x)).astype(float)
        return (v / x.max() - sign * (v @ x) / x.max() ** 2 * first,)

    def normed(x):
        return x / np.max(x)

    assert check(normed, np.ones(3), vjp=to_first, seed=seed).ok
    assert not check(normed, np.ones(3), vjp=lambda v, x: to_first(v, x, -1.0), seed=seed).ok
    torch = pytest.importorskip("torch")
    assert check(lambda x: x / x.abs().amax(), torch.ones(3, dtype=torch.float64), seed=seed).ok


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def test_noise_beside_terms_that_cancel():
    constant = check(lambda x: np.sum(softmax(x)), np.zeros(3))
    assert constant.ok

    def mixture(w, m):
        return np.sum(np.log(np.sum(softmax(w) * np.exp(-((0.5 - m) ** 2)))))

    def responsibilities(v, w, m, share=1.0):
        p = softmax(w)
        r = p * np.exp(-((0.5 - m) ** 2))
        r = r / np.sum(r)
        return v * (r - share * p), v * r * 2 * (0.5 - m)

    w, m = np.zeros(3), np.array([0.0, 0.0, 3.6e-155])
    assert check(mixture, w, m, vjp=responsibilities).ok
    assert not check(mixture, w, m, vjp=lambda v, w, m: responsibilities(v, w, m, 1 + 1e-9)).ok


def test_kinks_where_only_differences_are_known():
    def opaque(x):
        x = as_doubles(x)  # exact numbers cannot pass
        return np.maximum(x, 0.25 * x)

    def vjp(v, x, slope=0.25):
        return (v * np.where(x > 0, 1.0, slope),)

    report = check(opaque, np.zeros(3), vjp=vjp)
    assert report.truth == "differences"
    assert report.ok
    beside = np.array([0.0, 4.0, 3.583507035551866e-07, -2.0])
    assert check(opaque, beside, vjp=vjp).ok
    assert not check(opaque, beside, vjp=lambda v, x: vjp(v, x, 0.2)).ok
    assert not check(opaque, np.zeros(1), vjp=lambda v, x: vjp(v, x, 0.2)).ok
    many = check(opaque, np.zeros(3), vjp=lambda v, x: vjp(v, x, 0.2))
    assert str(many.verdict) == "inconclusive"  # a limit nearby, for all that differences can tell


def opaque_quantile(x):
    ordered = np.sort(as_doubles(x))  # exact numbers cannot pass
    return 0.8 * ordered[1] + 0.2 * ordered[2]


def quantile_vjp(weights):
    def vjp(v, x):
        g = np.zeros_like(x)
        g[np.argsort(x, kind="stable")[1:3]] = v * np.array(weights)
        return (g,)

    return vjp


@pytest.mark.parametrize("tied", [[0.0, 0.0, 0.0, 0.0, 0.0], [2.0, 1.0, 1.0, 1.0, 1.0]])
def test_ties_of_a_sort_where_only_differences_are_known(tied):
    """No input alone moves the middle one of three: 0 on both sides, and every limit nearby is right."""
    report = check(opaque_quantile, np.array(tied), vjp=quantile_vjp([0.8, 0.2]))
    assert report.truth == "differences"
    assert report.ok
    assert not check(opaque_quantile, np.array(tied), vjp=quantile_vjp([1.2, 0.2])).ok
    apart = np.array([0.5, -1.0, 2.0, 3.0, 4.0])
    assert check(opaque_quantile, apart, vjp=quantile_vjp([0.8, 0.2])).ok
    for wrong in ([0.2, 0.8], [0.8 + 1e-7, 0.2]):  # where it is smooth nothing hides
        assert not check(opaque_quantile, apart, vjp=quantile_vjp(wrong)).ok


def test_subnormals_that_jax_takes_for_zeros():
    jax = pytest.importorskip("jax")
    x = jax.numpy.array([0.0, 1.401298464324817e-45], dtype="float32")
    assert check(jax.nn.selu, x).ok


@pytest.mark.filterwarnings("error")
def test_subnormal_inputs_beside_an_exact_zero_warn_of_nothing():
    assert check(lambda x: np.sum(softmax(x)), np.array([5e-324, 1.0, 0.5])).ok


def to_sorted_places(v, x, factor=1.0):
    g = np.zeros_like(x)
    g[np.argsort(x)] = factor * v
    return (g,)


def many_ties(dtype):
    return (np.random.default_rng(0).integers(0, 6, 90) / 8 - 0.5).astype(dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("sort", "float16"), ("sort", "float64"), ("topk", "float64"), ("kthvalue", "float16"),
        ("median", "float64"),
    ],
)  # fmt: skip
def test_which_of_many_equal_numbers_comes_first_is_the_frameworks_to_choose(name, dtype):
    """torch.sort is not stable, and torch.median gives each of equal middle numbers an equal share."""
    torch = pytest.importorskip("torch")
    own, arguments = getattr(torch, name), {"topk": (20,), "kthvalue": (45,)}.get(name, ())

    def fn(x):
        result = own(x, *arguments)
        return result if isinstance(result, torch.Tensor) else result[0]

    class Doubled(torch.autograd.Function):
        """The gradient of one number of many that are equal is twice what it is."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return fn(x)

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (g,) = torch.autograd.grad(fn(x), x, v)
            return torch.where(abs(g) == abs(g).max(), 2 * g, g)

    x = torch.from_numpy(many_ties(dtype))
    report = check(fn, x)
    assert report.verdict == "correct", report
    assert check(Doubled.apply, x).verdict == "wrong"


@pytest.mark.parametrize("kind", ["quicksort", "stable"])
def test_a_sort_of_many_equal_numbers_by_numpy(kind):
    def vjp(v, x, factor=1.0):
        bar = np.zeros_like(x)
        bar[np.argsort(x, kind=kind)] = v
        bar[3] *= factor
        return (bar,)

    x = many_ties("float64")
    assert check(np.sort, x, vjp=vjp).verdict == "correct"
    assert check(np.sort, x, vjp=lambda v, x: vjp(v, x, 2.0)).verdict == "wrong"
    assert check(np.sort, x.reshape(9, 10), truth=np.sort).verdict == "correct"


def test_a_sort_of_so_many_numbers_that_not_every_order_is_tried():
    torch = pytest.importorskip("torch")
    numbers = 3 * np.random.default_rng(0).normal(size=1100)
    x = torch.from_numpy(numbers).to(torch.bfloat16)  # up to eight are equal
    assert check(lambda x: torch.sort(x)[0], x).verdict == "correct"

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x + x

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            return v * (2 * x + torch.where(torch.arange(x.numel()) == 100, 1.25, 1.0))

    zeros = torch.zeros(1100)  # where the function is smooth equal numbers excuse nothing
    assert check(Square.apply, zeros).findings[-1].where.endswith("[100], reverse")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tied", [np.ones(3), np.zeros(8)])
def test_three_and_more_ties_of_a_sort(seed, tied):
    assert check(np.sort, tied, vjp=to_sorted_places, seed=seed).ok
    doubled = check(np.sort, tied, vjp=lambda v, x: to_sorted_places(v, x, 2.0), seed=seed)
    assert str(doubled.verdict) == "wrong"


def test_a_kink_that_rounding_meets_below_a_single_input():
    """torch's erf in float16 is 0 at the smallest number, where the other slope begins."""
    torch = pytest.importorskip("torch")

    def fn(x, slope=0.25):
        return torch.nn.functional.leaky_relu(torch.erf(x), slope)

    def with_slope(slope):
        class Leaky(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return fn(x)

            @staticmethod
            def backward(ctx, v):
                (x,) = ctx.saved_tensors
                return v * 2 / np.sqrt(np.pi) * torch.where(torch.erf(x) > 0, 1.0, slope)

        return Leaky.apply

    x = torch.tensor([2.0**-24], dtype=torch.float16)
    assert check(fn, x).ok
    assert check(with_slope(0.25), x).ok
    assert not check(with_slope(3.0), -x).ok
    many = torch.linspace(1, 2, 17, dtype=torch.float16)  # of many inputs as well
    many[16] = 2.0**-24
    assert check(fn, many).ok


def test_a_kink_that_rounding_meets():
    """One ulp above 1 the sum x + 1 rounds to 2, where the clip begins."""
    jax = pytest.importorskip("jax")
    x = jax.numpy.array([1.0000001192092896], dtype="float32")
    assert check(jax.nn.sparse_sigmoid, x).ok
    assert not check(lambda x: jax.nn.sparse_sigmoid(x) + 0 * x, x, truth=lambda x: 0.3 * x).ok


def test_a_single_number_assigned_in_the_callers_derivative():
    def vjp(factor):
        def pull(v, x):
            g = np.zeros_like(x)
            g[0] = factor * v
            return (g,)

        return pull

    x = np.array([3.0, 2.0, 1.0])
    assert check(lambda x: 2 * x[0], x, vjp=vjp(2.0)).ok
    assert str(check(lambda x: 2 * x[0], x, vjp=vjp(2 + 1e-9)).verdict) == "wrong"


def test_indices_that_torch_rounds_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    x = torch.zeros(1, 1, 6, dtype=torch.float64)
    assert check(lambda x: torch.nn.functional.interpolate(x, 9), x).ok


@pytest.mark.parametrize("seed", range(3))
def test_noise_of_a_cancelling_gradient_is_no_matter_of_layout(seed):
    torch = pytest.importorskip("torch")

    def program(c, a):
        m = torch.logsumexp(c, -1)
        z = abs(m) + a
        return m / (2 + z * z)

    c, a = torch.zeros(3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    assert check(program, c, a, seed=seed).ok


def test_rows_that_only_look_alone_at_zero():
    assert check(lambda x: np.triu(x, 1), np.zeros((3, 3)), vjp=lambda v, x: (np.triu(v, 1),)).ok
    x = np.zeros(4)  # and beside it half of all rows are 0, among others or alone

    def vjp(v, x):
        d = v * (x >= x.mean())
        return (d - d.mean(),)

    assert check(lambda x: np.maximum(x - np.mean(x), 0), x, vjp=vjp).ok


def test_large_arrays_are_drawn():
    inputs = arrays("float64", (5000,), min_value=-3, max_value=5)
    report = gradcheck(np.sin, inputs, max_examples=3, raise_exception=False)
    assert report.ok

    def vjp(v, x):
        return (v * np.where(np.arange(x.size) == 4321, -np.cos(x), np.cos(x)),)

    found = gradcheck(np.sin, inputs, vjp=vjp, max_examples=3, raise_exception=False)
    assert [f.index for f in found.findings] == [(4321,)]


def test_cotangents_that_happen_to_cancel_make_no_error_of_a_loss():
    """Of a softmax that is all but 1 the gradient is p·(v - ⟨p, v⟩): rounding beside v, not beside that."""
    z = np.array([[16.63553237915039, 0.0, 2.601378917694092]], dtype="float32")

    def softmax(z):
        e = np.exp(z - z.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def vjp(v, z):
        p = softmax(z)
        return (p * (v - (p * v).sum(axis=-1, keepdims=True)),)

    for seed in (8, 13, 29):
        report = check(softmax, z, vjp=vjp, seed=seed)
        assert report.ok, report
    report = check(softmax, z, vjp=lambda v, z: (vjp(v, z)[0] * np.float32(1.001),))
    assert not report.ok


@pytest.mark.filterwarnings("error")
def test_a_sort_of_the_largest_numbers():
    x = np.array([-1.3407807929942597e154] * 3 + [-1.7976931348623157e308])
    report = check(np.sort, x)
    assert report.ok, report
    assert not report.findings


def as_doubles(x):
    """Leave exact arithmetic and long doubles, as code in other languages does."""
    return np.array(x.tolist(), dtype=np.float64)


ROUNDED_INSIDE = {
    "double": (
        lambda x: as_doubles(x) ** 3 - 2 * as_doubles(x) + 1,
        lambda v, x: v * (3 * x**2 - 2),
        1e-7,
    ),
    "a sum that is large": (
        lambda x: np.tanh(as_doubles(x)).sum() * 1e3 + 1e6,
        lambda v, x: v * 1e3 * (1 - np.tanh(x) ** 2),
        1e-4,
    ),
    "single": (
        lambda x: np.exp(as_doubles(x).astype(np.float32).astype(np.float64)),
        lambda v, x: v * np.exp(x.astype(np.float32)).astype(np.float64),
        1e-2,
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ROUNDED_INSIDE)
def test_opaque_code_that_rounds_inside_is_not_accused_and_its_errors_are_found(name, seed):
    f, pull, error = ROUNDED_INSIDE[name]
    x = arrays("float64", (4,), min_value=-3, max_value=3)

    def checked(scale):
        return check(f, x, vjp=lambda v, x: (scale * pull(v, x),), seed=seed, max_examples=20)

    right = checked(1.0)
    # Differences of single floats show no error below half the digits of a double, and that is said.
    expected = Verdict.INCONCLUSIVE if name == "single" else Verdict.CORRECT
    assert (right.ok, right.verdict, right.truth) == (True, expected, "differences")
    assert checked(1.0 + error).verdict in {Verdict.IMPRECISE, Verdict.WRONG}


def test_opaque_products_of_subnormals_are_not_accused():
    def pull(factor):
        def vjp(v, x):
            p, q, r, s = x
            first = v[0] + q * (v[1] + r * (v[2] + s * v[3]))
            rest = [v[1] + r * (v[2] + s * v[3]), q * (v[2] + s * v[3]), q * r * v[3]]
            return (np.array([factor * first, *(p * g for g in rest)]),)

        return vjp

    x = np.array([1e-323, 0.99999, 2.7255503923509465, -2.373010264769526])
    for seed in range(8):
        right = check(lambda x: np.cumprod(as_doubles(x)), x, vjp=pull(1.0), seed=seed)
        assert (right.verdict, right.truth) == (Verdict.CORRECT, "differences")
    wrong = check(lambda x: np.cumprod(as_doubles(x)), x, vjp=pull(1.001))
    assert wrong.verdict is Verdict.WRONG


def test_an_opaque_median_may_choose_among_ties_beside_a_subnormal():
    def pull(factor):
        return lambda v, x: (factor * v * (np.arange(5) == np.argsort(x, kind="stable")[2]),)

    x = np.array([0.0, 0.0, 0.0, 0.0, 2.225073858507e-311])
    for seed in range(4):
        right = check(lambda x: np.median(as_doubles(x)), x, vjp=pull(1.0), seed=seed)
        assert right.verdict is Verdict.INCONCLUSIVE
        assert right.truth == "differences"
    assert check(lambda x: np.median(as_doubles(x)), x, vjp=pull(2.0)).verdict is Verdict.WRONG


def test_between_two_kinks_a_few_ulps_apart_either_side_is_right():
    """Of sparsemax: one ulp more moves the support, two ulps move it again (Martins & Astudillo 2016)."""

    def threshold(x):
        s = np.sort(x)[::-1]
        c, k = np.cumsum(s), np.arange(1, 6)
        n = np.sum(k * s - c > -1)
        return (c[n - 1] - 1) / n

    def pull(count):
        def vjp(v, x):
            on = x > threshold(x)
            return (np.where(on, v - np.sum(np.where(on, v, 0)) / count(on), 0),)

        return vjp

    x = [
        1.1102230246251564e-16,
        -2.225073858507201e-308,
        -0.99999,
        -0.35709487473672874,
        1 - 2.0**-53,
    ]
    for seed in range(4):
        right = check(
            lambda x: np.maximum(x - threshold(x), 0), np.array(x), vjp=pull(np.sum), seed=seed
        )
        assert right.ok, str(right)
    # There the inputs' rounding takes any support and any mean: what could not show is not "correct".
    for given, seen in ((x, Verdict.INCONCLUSIVE), (np.linspace(-0.5, 0.25, 5), Verdict.WRONG)):
        wrong = check(lambda x: np.maximum(x - threshold(x), 0), np.array(given), vjp=pull(np.size))
        assert wrong.verdict is seen


def test_another_order_of_additions_is_no_fault_of_a_layout_in_bfloat16():
    """The kernel for strided cotangents adds in another order: the gradient moves by an ulp of 2^-8."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(6):
        x = torch.from_numpy(rng.uniform(-3, 3, (2, 2, 5))).to(torch.bfloat16)
        report = check(torch.nn.functional.instance_norm, x)
        assert report.ok, str(report)


def test_a_layout_is_still_found_guilty_in_bfloat16():
    torch = pytest.importorskip("torch")

    class Flattened(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 3 * x

        @staticmethod
        def backward(ctx, v):
            return 3 * v.as_strided(v.shape, torch.empty(v.shape).stride())

    x = torch.arange(1.0, 7.0).reshape(2, 3).to(torch.bfloat16)
    assert "laid out otherwise" in str(check(Flattened.apply, x))


def test_a_result_that_is_not_finite_says_nothing_of_what_moves_it():
    torch = pytest.importorskip("torch")
    x = np.array([np.inf, 1.0])
    assert check(lambda x: x * x, x).ok
    assert check(torch.reciprocal, torch.tensor([1e-310, 2.0], dtype=torch.float64)).ok
    assert check(torch.lgamma, torch.tensor([0.0, 2.0], dtype=torch.float64)).ok
    assert check(torch.special.entr, torch.tensor([0.0, 0.5], dtype=torch.float64)).ok

    def spoiled(x):  # nan in what moves no result that is not finite
        return torch.cat(
            [x[:1].reciprocal(), x[1:] + torch.where(x[1:] > 3, x[1:].log(), 0 * x[1:])]
        )

    trap = check(spoiled, torch.tensor([1e-310, -2.0, 0.0], dtype=torch.float64))
    assert trap.verdict is Verdict.NONFINITE
    assert trap.findings[0].index == (2,)
    norm = check(lambda x: (x * x).sum().sqrt(), torch.zeros(2, dtype=torch.float64))
    assert norm.verdict is Verdict.NONFINITE  # a kink has slopes

    def power(log):  # of 0, which has no slope along x to either side, and the slope 0 along y
        return lambda v, x, y: (v * y * x ** (y - 1), v * x**y * log(x))

    at = np.array([0.0, 1.5]), np.array([2.0, 2.5])
    missing = check(lambda x, y: x**y, *at, vjp=power(np.log))
    assert missing.verdict is Verdict.NONFINITE
    assert check(lambda x, y: x**y, *at, vjp=power(lambda x: np.log(np.where(x > 0, x, 1)))).ok

    def softmax(x):
        e = np.exp(x - np.max(x))
        return e / np.sum(e)

    def pull(v, x):
        y = softmax(x)
        return (y * (v - np.sum(v * y)),)

    masked = np.array([-np.inf, 0.5, 1.0])
    assert check(softmax, masked, vjp=pull).ok
    wrong = check(softmax, masked, vjp=lambda v, x: (pull(v, x)[0] + 0 * x,))
    assert wrong.verdict is Verdict.NONFINITE


def test_what_is_drawn_in_the_format_of_the_inputs_is_another_function_in_a_wider_one():
    torch = pytest.importorskip("torch")

    def pooled(x):
        torch.manual_seed(1)
        return torch.nn.functional.fractional_max_pool2d(x, 2, output_size=5)

    x = torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(pooled(x).double(), pooled(x.double()))
    report = check(pooled, x)
    assert report.truth == "differences"
    assert not [f for f in report.findings if f.severity == "error"]


def test_code_that_is_undefined_here_and_rounds_to_a_number_has_no_wrong_formula():
    """All elements equal: the deviation is 0, its gradient 0/0, which a rounded mean turns into numbers."""

    def deviation(x):
        return np.sqrt(np.mean((x - np.mean(x)) ** 2))

    def vjp(v, x):
        return (v * (x - np.mean(x)) / (x.size * deviation(x)),)

    x = np.full(3, 0.1)
    assert np.all(np.isfinite(vjp(1.0, x)[0]))  # of 3 times 0.1 the mean is not 0.1
    assert check(deviation, x, vjp=vjp).ok  # -1/3 is one of the slopes beside
    far = check(deviation, x, vjp=lambda v, x: (vjp(v, x)[0] + v,))
    assert [str(f.kind) for f in far.findings] == ["imprecise"]
    assert far.findings[0].severity == "error"
    apart = np.array([0.1, 0.1, 0.2])
    assert check(deviation, apart, vjp=lambda v, x: (vjp(v, x)[0] + v,)).verdict is Verdict.WRONG

    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        same = jax.numpy.asarray(np.full((3, 3), 0.1))
        assert check(jax.numpy.std, same).ok
        assert check(jax.numpy.nanstd, same).ok


def test_zeta_is_undefined_where_libraries_say_so():
    torch = pytest.importorskip("torch")
    x, q = (torch.tensor(a, dtype=torch.float64) for a in ([0.1, -0.5, 2.0], [0.1, 2.0, 1.5]))
    assert check(lambda q: torch.special.zeta(x, q), q).ok


def test_what_is_right_at_moderate_numbers_is_no_other_function_at_tiny_ones():
    """torch's erf in bfloat16 is 0 up to 1e-8: a value that is off, beside a gradient that is right."""
    torch = pytest.importorskip("torch")
    report = check(torch.erf, torch.tensor([1e-10, -1e-19, 3e-38], dtype=torch.bfloat16))
    assert report.truth == "shadow"
    assert {f.mode for f in report.findings} == {"value"}

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.erf(x)

        @staticmethod
        def backward(ctx, v):
            (x,) = ctx.saved_tensors
            return v / np.sqrt(np.pi) * torch.exp(-x * x)

    halved = check(Halved.apply, torch.tensor([1e-10, -1e-19, 3e-38], dtype=torch.bfloat16))
    assert "reverse" in {f.mode for f in halved.findings}


def test_where_no_result_has_one_slope_no_sum_of_elements_is_off():
    """Groups on their threshold: a difference across it, good to its step, passed for an exact sum."""

    def shrunk(x):
        norms = np.sqrt((x * x).sum(axis=1, keepdims=True))
        return x * np.where(norms > 1, 1 - 1 / np.where(norms > 1, norms, 1), 0)

    def vjp(v, x):
        norms = np.sqrt((x * x).sum(axis=1, keepdims=True))
        n = np.where(norms > 1, norms, 1)
        along = (v * x).sum(axis=1, keepdims=True) * x / n**3
        return (np.where(norms > 1, v * (1 - 1 / n) + along, 0),)

    x = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert check(shrunk, x, vjp=vjp).ok
    assert not check(shrunk, 1.5 * x, vjp=lambda v, x: (vjp(v, x)[0] * 1.1,)).ok


def test_a_tie_of_what_jax_flushes_to_zero():
    """0.55 a and 0.8 a are 0 beside the smallest normal number: their minimum has the slope of a tie."""
    jax = pytest.importorskip("jax")

    def fn(a, slope=0.8):
        return jax.numpy.minimum(0.55 * a, slope * a)

    beside = jax.numpy.array([-(2.0**-126), 1.0, -1.0], dtype="float32")
    assert check(fn, beside).ok

    @jax.custom_vjp
    def spoiled(a):
        return fn(a)

    spoiled.defvjp(lambda a: (fn(a), a), lambda a, v: (v * 0.55,))
    assert check(spoiled, beside).verdict is Verdict.WRONG


def on_branches():
    """Give compositions of torch's whose pieces are all on their kinks, or tied where they round."""
    torch = pytest.importorskip("torch")
    functional, zeros = torch.nn.functional, torch.zeros
    near = [1e-20, 2e-20, 0.0, 0.0]
    return [
        (lambda x: torch.relu(functional.layer_norm(x, (4,))), zeros(3, 4)),
        (lambda x: torch.relu(functional.batch_norm(x, None, None, training=True)), zeros(3, 4)),
        (lambda x: functional.leaky_relu(x - x.mean(0)), zeros(3, 4)),
        (lambda x: torch.relu(torch.tanh(x) - x.mean()), zeros(4)),
        (lambda x: torch.relu((x + 1) - 1), torch.tensor(near)),
        (lambda x: (x + 1).amax(), torch.tensor(near)),
        (lambda x: torch.exp(x).max(0)[0], torch.tensor(near)),
        (lambda x: x.cumsum(0).amax(), torch.tensor([-1.0, -2e-13, 3e-10, -1.0])),
        (
            lambda x: (x.sum() + x).amax(),
            torch.tensor([-384.00003, -384.0, -383.99997, -384.00003]),
        ),
        (lambda x: torch.softmax(x, 0).amax(), torch.tensor([0.0, 0.0, 2e-38, 2e-38])),
        (lambda x: functional.max_pool1d((x + 1)[None, None], 2), torch.tensor(near)),
        (lambda x: torch.exp(x).sort()[0], torch.tensor([0.5, 0.5, 0.0, 1e-30])),
        (lambda x: (x + 1).median(), torch.tensor(near)),
        # All of a row are on a kink, and rows of numbers that nearly cancel have losses of their own.
        (
            lambda x: torch.relu(functional.layer_norm(x, (4,))),
            torch.tensor(
                [[-6290776.5] * 4, [0.0, *[-6290776.5] * 3], [*[-6290776.5] * 3, 1.6e-25]]
            ),
        ),
        # Of three that are tied where they round the index decides which is in the middle.
        (lambda x: torch.exp(x).sort()[0], torch.tensor([-1.7e-26, -1.0, -1.9e-13, 1.4e-45])),
        (
            lambda x: functional.l1_loss(x.softmax(-1), x.softmax(-1).roll(1, -1)),
            torch.tensor(
                [
                    [5.960465188081798e-08, 1.6278217174203746e-07, -1.0, 1.9375],
                    [-0.14285708963871002, -0.000244140625, -1.0, 0.0],
                    [0.0, 2.0, -3.0, -2.0],
                ]
            ),
        ),
        # Where the terms of a mean cancel it is off by a rounding of theirs.
        (
            lambda x: torch.where(x.tanh() > x.tanh().mean(), x.tanh(), 0.2 * x.tanh()),
            torch.tensor(
                [[0.0, -30.0, 30.0, 0.0], [0.0] * 4, [29.5, -30.0, 0.0, -1.7695128917694092e-08]]
            ),
        ),
    ]


@pytest.mark.parametrize("k", range(17))
def test_pieces_that_are_all_on_their_kinks_or_tied_by_rounding(k):
    """Chain rules give an element of each piece's own generalised gradient: together that is no limit of
    slopes, and at ties which only exist where steps round it is the slope of a neighbour."""
    fn, x = on_branches()[k]
    for given in (x, x.double()):
        for seed in range(2):
            report = check(fn, given, seed=seed)
            assert report.ok
            assert report.verdict is not Verdict.WRONG
            assert report.truth == "shadow"


class SortedProducts:
    """x - xy, sorted in a given order, with a gradient that takes a multiple of what each owes."""

    @staticmethod
    def of(torch, share=1.0):
        class Sorted(torch.autograd.Function):
            @staticmethod
            def forward(ctx, z):
                z, places = z.sort(stable=True)
                ctx.save_for_backward(places)
                return z

            @staticmethod
            def backward(ctx, v):
                return share * torch.zeros_like(v).scatter(0, ctx.saved_tensors[0], v)

        return Sorted.apply


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0.0, 2.0, 2.0, 0.0], [0.0, 0.0, 1.0, 1.0]),
        ([0.0, 2.0, 0.0, 0.0], [0.0, 2.0, -1.0, 0.0]),
        ([2.0, 2.0, 0.0, -1.0], [0.0, 0.0, 2.0, 0.0]),
    ],
)
def test_of_numbers_that_tie_the_index_decides_whatever_was_rounded_before(x, y):
    """2 - 2·1 ties with 0 - 0·1, and lies between two of these by its place: no error of the product's
    may take it before both or behind both."""
    torch = pytest.importorskip("torch")
    given = [torch.tensor(a, dtype=torch.float64) for a in (x, y)]
    for fn in (
        lambda x, y, f: f(x - x * y),
        lambda x, y, f: f((x[:, None] * y).ravel())[3:9],
    ):
        for seed in range(3):
            right, doubled = (
                check(
                    lambda x, y, s=s, fn=fn: fn(x, y, SortedProducts.of(torch, s)),
                    *given,
                    seed=seed,
                )
                for s in (1.0, 2.0)
            )
            assert right.ok
            assert doubled.verdict is Verdict.WRONG


@pytest.mark.parametrize("slope", [0.01, 0.011])
def test_constants_are_rounded_beside_numbers_that_take_many_bits_too(slope):
    """torch's formula of batch_norm's gradient has 1/3 in it: rounded, it moves what cancels to ε.

    Beside 1e102 branches are undecided in 128 bits, and nothing was known of what constants move.
    """
    torch = pytest.importorskip("torch")
    x = torch.tensor([[-2.0, 1.0], [0.0, 1.12e102], [0.0, -1.12e102]], dtype=torch.float64)

    class Leaky(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            ctx.save_for_backward(y)
            return torch.nn.functional.leaky_relu(y)

        @staticmethod
        def backward(ctx, v):
            (y,) = ctx.saved_tensors
            return torch.where(y > 0, v, slope * v)

    def fn(x):
        return Leaky.apply(torch.nn.functional.batch_norm(x, None, None, training=True))

    for seed in range(4):
        report = check(fn, x, seed=seed)
        assert report.ok == (slope == 0.01)
        assert (report.verdict is Verdict.WRONG) == (slope != 0.01)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_ties_beside_numbers_that_take_many_bits_are_broken_every_way_too(factor):
    """Softmax' first row takes 300 bits more to tell a step apart: no slope beside the point was found."""
    torch = pytest.importorskip("torch")
    x = [[6.676441737564164e89, 0, 0, 0], [0, 0, 0, -3.143286327701505e-23], [0, 0, 0, 0]]

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.softmax(x, -1)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, v):
            (y,) = ctx.saved_tensors
            return factor * y * (v - (y * v).sum(-1, keepdim=True))

    report = check(lambda x: Softmax.apply(x).sort(-1)[0], torch.tensor(x, dtype=torch.float64))
    assert report.ok == (factor == 1.0)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_ties_that_a_small_move_breaks_beside_large_numbers(factor):
    """A column of equal numbers is normalised to zeros, which tie with another: a move of 1e-3 decides.

    Balls too wide to tell the column's variance from less than nothing were taken for nan and sorted last.
    """
    torch = pytest.importorskip("torch")
    big = 1.1198723710889021e102
    x = [[big, 2.0, 0.0, -1.0], [big, 1.0, 0.0, 0.0], [big, 0.0, 0.0, 0.0]]

    class Median(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            values, places = y.median(-1)
            ctx.save_for_backward(places)
            return values

        @staticmethod
        def backward(ctx, v):
            (places,) = ctx.saved_tensors
            return torch.zeros(3, 4, dtype=v.dtype).scatter(
                -1, places[:, None], factor * v[:, None]
            )

    def fn(x):
        return Median.apply(torch.nn.functional.batch_norm(x, None, None, training=True))

    for seed in range(3):
        report = check(fn, torch.tensor(x, dtype=torch.float64), seed=seed)
        assert (report.verdict is Verdict.WRONG) == (factor != 1.0)


@pytest.mark.parametrize("base", [2e9, 3.3e5])
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_no_digit_is_promised_of_deviations_of_an_ulp_or_two(base, factor):
    """The mean that is taken off is rounded; inputs that move by g of their roundings move everything.

    The formula is exact all the same, and a wrong one is seen.
    """
    torch = pytest.importorskip("torch")

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, v):
            return factor * v

    for kind in (np.float32, np.float64):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            x = kind(base) + np.spacing(kind(base)) * rng.integers(-3, 4, (2, 4)).astype(kind)
            for fn in (lambda x: torch.nn.functional.layer_norm(x, (4,)), lambda x: x.std(-1)):
                report = check(lambda x, fn=fn: Scaled.apply(fn(x)), torch.from_numpy(x), seed=seed)
                assert report.ok == (factor == 1.0)
                assert (report.verdict is Verdict.WRONG) == (factor != 1.0)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_mean_is_rounded_where_all_floats_are_integers(factor):
    """The deviation of the second from the mean, half an ulp of 6e57, is 0 as computed, inside the kinks."""
    torch = pytest.importorskip("torch")
    row = np.float64(3.365422980530133e73) + np.spacing(3.365422980530133e73) * np.arange(4)

    class Shrink(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            ctx.save_for_backward(y)
            return torch.nn.functional.softshrink(y, 0.3)

        @staticmethod
        def backward(ctx, v):
            (y,) = ctx.saved_tensors
            return torch.where(abs(y) > 0.3, factor * v, 0)

    for seed in range(3):
        report = check(
            lambda x: Shrink.apply(x - x.mean(-1, keepdim=True)),
            torch.from_numpy(row)[None],
            seed=seed,
        )
        assert report.ok == (factor == 1.0)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_differences_are_taken_on_the_scale_of_every_number(factor):
    """Beside 8e159 and 7e-214 no step was tried between 0.1 and 1e-61, where 33 moves the third."""
    torch = pytest.importorskip("torch")
    x = np.zeros((3, 4))
    x[0] = -25.0, -36.73680056967711, 36.7368005696771, 33.0
    x[1, :2] = -8.255938686315918e159, 7.251312241686031e-214

    def jvp(t, x):
        with warnings.catch_warnings():  # torch's own, of its first call
            warnings.simplefilter("ignore", DeprecationWarning)
            moved = torch.func.jvp(
                lambda x: torch.nn.functional.gelu(x).sort(-1)[0],
                (torch.tensor(x),),
                (torch.tensor(t[0]),),
            )
        return factor * moved[1].numpy()

    def fn(x):
        return torch.nn.functional.gelu(torch.tensor(np.asarray(x))).sort(-1)[0].numpy()

    report = check(fn, x, jvp=jvp)
    assert report.truth == "differences"
    assert (report.verdict is Verdict.WRONG) == (factor != 1.0)


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_constants_move_slopes_whose_squares_underflow(factor):
    """In gelu's tail √½ is rounded, which moves a slope of 1e-157 by 5e-14 of itself: it was called wrong."""
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.0, -1.0], [0.0, -27.0], [0.0, 0.0]], dtype=torch.float64)

    def vjp(v, x):
        held = x.requires_grad_()
        y = torch.nn.functional.gelu(held)
        return (factor * torch.autograd.grad(torch.maximum(y, y.roll(1, 0)), held, v)[0],)

    class Pairs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            y = torch.nn.functional.gelu(x)
            return torch.maximum(y, y.roll(1, 0))

        @staticmethod
        @torch.enable_grad()
        def backward(ctx, v):
            return vjp(v, ctx.saved_tensors[0].detach())[0]

    for seed in range(3):
        report = check(Pairs.apply, x, seed=seed)
        assert (report.verdict is Verdict.WRONG) == (factor != 1.0)


def test_of_two_scales_the_finer_has_the_derivative():
    """Steps of 1e153 say of a normalised column that it is flat; 0.003 from equal numbers it is steep."""
    torch = pytest.importorskip("torch")
    c = -709.782712893384
    x = [[-7.0, c, c, 6.2e143], [-6.6e-183, c, c, 1.7976931348623157e308], [c, c, 4.5e-258, c]]

    def fn(x):
        y = torch.nn.functional.batch_norm(x, None, None, training=True)
        return torch.where(y > y.mean(), y, 0.2 * y)

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tensor(fn(x.detach()).tolist(), dtype=x.dtype)  # exact numbers cannot pass

        @staticmethod
        def backward(ctx, v):
            x = ctx.saved_tensors[0].requires_grad_()
            with torch.enable_grad():
                return torch.autograd.grad(fn(x), x, v)[0]

    given = torch.tensor(x, dtype=torch.float64)
    report = check(Opaque.apply, given)
    assert report.truth == "differences"
    assert report.verdict is Verdict.INCONCLUSIVE
    assert check(fn, given).truth == "shadow"


def test_a_tie_that_no_precision_shows_is_one():
    """The mean of normalised columns is 0, as one of zeros is: whether 0 exceeds it was decided nowhere, and
    differences at 1e102 accused. Along equal tangents the column of zeros stays, but for a rounding."""
    torch = pytest.importorskip("torch")
    c = -1.1198723710889021e102
    x = torch.tensor(
        [[0.0, 0.0, c, 0.0], [0.0, 0.0, c, 0.0], [0.0, 0.0, c, -1.0]], dtype=torch.float64
    )

    class AboveTheMean(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, above):
            ctx.save_for_backward(y)
            ctx.above = above
            return torch.where(y > y.mean(), y, 0.5 * y)

        @staticmethod
        def backward(ctx, v):
            (y,) = ctx.saved_tensors
            return torch.where(y > y.mean(), ctx.above * v, 0.5 * v), None

    def fn(x, above):
        return AboveTheMean.apply(
            torch.nn.functional.batch_norm(x, None, None, training=True), above
        )

    right = check(lambda x: fn(x, 1.0), x, seed=1)
    assert right.truth == "shadow"
    assert right.verdict is Verdict.CORRECT
    assert check(lambda x: fn(x, 1.5), x, seed=1).verdict is Verdict.WRONG


def test_a_tail_has_its_scale_where_large_inputs_would_be_tied():
    """Cut off at ±1 the last row is a tie of two: its numbers have a scale at inputs that differ."""
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.0, 0.0, 0.0, 6.0], [0.0, 0.0, 3.0, 0.0], [0.0, 0.0, 1.0, 3.0]])
    report = check(lambda x: torch.tanh(x).amax(-1), x)
    assert report.ok
    assert all(f.tail for f in report.findings)
    assert not check(lambda x: torch.tanh(x).amax(-1), x, strict=True).ok


def test_what_cancels_at_a_point_is_held_to_its_scale_at_ordinary_inputs():
    """At (a, b, b, b) the gradient of the first is 0 but for ε: what it lost stands beside 1/σ = 3e-5."""
    torch = pytest.importorskip("torch")
    row = torch.tensor([[-6215747.0, *[-6291456.0] * 3]])
    report = check(lambda x: torch.relu(torch.nn.functional.layer_norm(x, (4,))), row)
    assert {str(f.kind) for f in report.findings} <= {"imprecise"}
    assert report.ok
    # One input's own number has no other scale, and owes its digits.
    loses = check(lambda x: x**2, np.array([1e-9]), vjp=lambda v, x: (v * ((1 + 2 * x) - 1),))
    assert [f.severity for f in loses.findings] == ["error"]


def test_ties_of_a_normalised_row_are_told_apart_by_no_ball():
    """The maximum of balls that are alike is one of them: the gradient of a tie had no exact form, and its
    losses, of terms around 1 that cancel to ε = 1e-5, were called wrong together."""
    torch = pytest.importorskip("torch")

    def top(x):
        return torch.nn.functional.layer_norm(x, (4,)).amax(-1)

    x = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    report = check(top, x)
    assert report.ok
    assert report.verdict is not Verdict.WRONG

    def vjp(v, x, factor=1.0):  # which nobody but torch can run
        held = torch.tensor(x, requires_grad=True)
        return (torch.autograd.grad(top(held), held, torch.tensor(v))[0].numpy() * factor,)

    def opaque(x):
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return np.max(y, -1)

    assert check(opaque, x.numpy(), vjp=vjp).ok
    assert not check(opaque, x.numpy(), vjp=lambda v, x: vjp(v, x, 1.1)).ok


def test_a_number_after_an_underflow_is_a_loss_and_no_wrong_formula():
    """Of 4e-23 the square is a subnormal number: torch.cdist's distance is off, and so is its gradient."""
    torch = pytest.importorskip("torch")
    x = torch.zeros(3, 4)
    x[1, :2] = torch.tensor([3.7223127564886245e-23, -4.203895392974451e-45])
    report = check(lambda x: torch.cdist(x, x).amax(), x)
    assert {str(f.kind) for f in report.findings} == {"imprecise"}

    def vjp(v, x, factor):  # which nobody but torch can run
        held = torch.tensor(x, requires_grad=True)
        return (factor * torch.autograd.grad(held.norm(), held, torch.tensor(v))[0].numpy(),)

    def length(x):
        return np.sqrt(np.sum(x * x))

    for at, kind in ((4e-23, Verdict.IMPRECISE), (4.0, Verdict.WRONG)):
        spoiled = check(length, np.float32([at, at / 2]), vjp=lambda v, x: vjp(v, x, np.float32(3)))
        assert not spoiled.ok
        assert spoiled.verdict is kind


def test_no_branch_explains_a_gradient_of_the_wrong_element():
    """Of the near ties 1 + 1e-20 and 1 + 2e-20 either may win, but not -1/2; and no branch has 1.5, or 10."""
    x = np.array([1e-20, 2e-20, -0.5])

    def first(v, x):
        return (v * np.eye(3)[np.argmax(x + 1)],)

    def top(x):
        return np.max(x + 1)

    assert check(top, x, vjp=first).ok
    assert not check(top, x, vjp=lambda v, x: (np.roll(first(v, x)[0], 2),)).ok
    assert not check(top, x, vjp=lambda v, x: (1.5 * first(v, x)[0],)).ok

    def centred(slope):
        def relu(v, x):
            d = v * slope(x - x.mean())
            return (d - d.mean(),)

        return relu

    def fn(x):
        return np.maximum(x - np.mean(x), 0)

    assert check(fn, np.zeros(4), vjp=centred(lambda y: y > 0)).ok
    assert check(fn, np.zeros(4), vjp=centred(lambda y: y >= 0)).ok
    assert not check(fn, np.zeros(4), vjp=centred(lambda y: 10.0 * (y >= 0))).ok


@pytest.mark.parametrize(("x", "transposed", "ok"), [
    ([[0.0, 5e-324], [1.0, 0.0]], True, True),
    ([[0.0, 0.5], [1.0, 2.0]], True, True),
    ([[0.0, 0.5], [1.0, 2.0]], False, False),
])  # fmt: skip
def test_what_is_solved_with_numbers_beyond_the_format_may_fail_everywhere(x, transposed, ok):
    """1/5e-324 is an element of that inverse: what LAPACK makes of the others is no fault."""

    def vjp(v, x):
        inverse = np.linalg.inv(x)
        return (v * (inverse.T if transposed else inverse),)

    assert check(lambda x: np.linalg.slogdet(x)[1], np.array(x), vjp=vjp).ok is ok


@pytest.mark.parametrize(("temperature", "ok"), [(0.07, True), (-0.07, False)])
def test_a_derivative_that_saturates_has_the_scale_of_where_it_does_not(temperature, ok):
    """The nearest key is sure at a temperature of 0.07: nor do ordinary inputs show the scale."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 0.07

        @staticmethod
        def backward(ctx, v):
            return v / temperature

    def contrast(q, k):
        near = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T
        return F.cross_entropy(Scaled.apply(near), torch.arange(3))

    q = torch.tensor([[0.0, -6e-8, 1.025e-5, 0.0], [1.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    k = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, -1e-3, 0.0]])
    assert check(contrast, q, k).ok is ok


@pytest.mark.parametrize(("factor", "verdict"), [(1, "correct"), (3, "wrong")])
def test_ties_that_only_rounding_makes_are_ties_in_every_row(factor, verdict):
    """1 / (1 + x²) is 1 for all x below 1e-8, and the gradient of a maximum is shared among its ties."""

    def f(x):
        return (1 / (1 + x**2)).max(axis=-1)

    def vjp(v, x):
        y = 1 / (1 + x**2)
        ties = y == y.max(axis=-1, keepdims=True)
        return factor * v[:, None] * ties / ties.sum(axis=-1, keepdims=True) * -2 * x * y**2

    x = np.array([[0.0, 1.0, 1.8e-12, 1.0], [0.5, 1.0, 2.0, 3.0]])
    report = check(f, x, vjp=vjp)
    assert str(report.verdict) == verdict


@pytest.mark.parametrize(("term", "verdict"), [(1 / 8, "correct"), (1 / 9, "wrong")])
def test_a_series_cut_short_is_off_by_a_rounding_of_each_term_of_a_sum(term, verdict):
    """What is left of terms that cancel is no measure of how far their series may be cut short."""

    def box_cox(x, power):
        return np.expm1(power * np.log(x)) / power

    def vjp(v, x, power):
        log = np.log(x)
        by_power = log**2 * (1 / 2 + power * log * (1 / 3 + power * log * term))
        return v * x ** (power - 1), (v * by_power).sum()

    x, power = np.array([3.5873364257014457, 4.397181863389283, 2.9886446116348018]), np.array(1e-5)
    assert str(check(box_cox, x, power, vjp=vjp, seed=11).verdict) == verdict


def test_a_value_is_asked_for_beside_its_scale_to_half_of_its_digits():
    """What eˣ rounds off beside 0 is a few ulps of a normalised row at its own scale."""

    def normalised(x):
        y = np.exp(x)
        y = y - y.mean(axis=-1, keepdims=True)
        return y / np.sqrt((y**2).mean(axis=-1, keepdims=True) + 1e-5)

    assert check(normalised, np.array([0.0, 0.0, -1.1102230246251565e-16, 0.0])).ok
    assert not check(lambda x: (x + 1e12) - 1e12, np.array([0.3, 1.7])).ok


@pytest.mark.parametrize(("factor", "verdict"), [(1, "correct"), (1.01, "wrong")])
def test_a_zero_that_alone_moves_at_a_kink_beside_numbers_that_are_rounded(factor, verdict):
    """Of the numbers beside it a batch was made and of it none: "operands could not be broadcast"."""
    torch = pytest.importorskip("torch")

    def sampled(x, grid):
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)

    class Sampled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, grid):
            ctx.save_for_backward(x, grid)
            return sampled(x, grid)

        @staticmethod
        def backward(ctx, g):
            with torch.enable_grad():
                at = [t.detach().requires_grad_() for t in ctx.saved_tensors]
                bars = torch.autograd.grad(sampled(*at), at, g)
            return tuple(factor * bar for bar in bars)

    x = torch.tensor([[[[-4.0, 0.0, 6e-8], [2.0, 3e-45, 0.0], [5.0, -3.0, -1e-9]]]])
    report = check(Sampled.apply, x, torch.zeros(1, 2, 1, 2))
    assert str(report.verdict) == verdict, str(report)


@pytest.mark.parametrize("x", [np.zeros((3, 3)), np.outer([1.0, 2.0, 3.0], [0.0, 0.0, 1.0])])
def test_a_singular_matrix_whose_factors_have_no_slope(x):
    """L jumps there, by 0/0: what U's derivatives share with it is not finite either, and not judged."""
    jax = pytest.importorskip("jax")
    report = check(jax.lax.linalg.lu, jax.numpy.asarray(x, dtype="float32"))
    assert report.verdict in (Verdict.CORRECT, Verdict.INCONCLUSIVE), str(report)
    assert "9 of 9 at some input" in report.skipped["numbers of forward mode"]

    def factors(x):
        return jax.lax.linalg.lu(x)[0]

    spoiled = jax.custom_jvp(factors)

    @spoiled.defjvp
    def _(primals, tangents):
        value, tangent = jax.jvp(factors, primals, tangents)
        return value, 1.01 * tangent

    beside = jax.numpy.asarray(x + np.diag([4.0, 5.0, 6.0]), dtype="float32")
    assert check(factors, beside).ok
    assert check(spoiled, beside).verdict is Verdict.WRONG


def test_a_jump_of_another_result_does_not_excuse_what_is_not_finite():
    torch = pytest.importorskip("torch")

    def fn(x):
        return torch.stack([x[0].sign(), (x * x).sum().sqrt()])

    assert check(fn, torch.zeros(2)).verdict is Verdict.NONFINITE
    assert check(fn, torch.tensor([0.0, 3.0])).ok


def test_a_value_at_the_very_point_that_is_no_limit():
    """A column with nothing below its diagonal keeps its sign, and beside it has the other."""
    jax = pytest.importorskip("jax")
    qr = jax.numpy.linalg.qr
    triangular = jax.numpy.asarray([[1.0, 2.0, 3.0], [0.0, 4.0, 5.0], [0.0, 0.0, 6.0]])
    assert check(qr, triangular).verdict is Verdict.INCONCLUSIVE
    assert check(qr, jax.numpy.zeros((3, 3))).verdict is Verdict.INCONCLUSIVE

    spoiled = jax.custom_jvp(lambda x: tuple(qr(x)))

    @spoiled.defjvp
    def _(primals, tangents):
        value, (q, r) = jax.jvp(lambda x: tuple(qr(x)), primals, tangents)
        return value, (1.5 * q, r)

    assert check(spoiled, triangular.T + 1).verdict is Verdict.WRONG

    def signed(x):
        return np.where(x == 0, 1.0, -1.0)

    at = np.array([0.0, 2.0])
    assert check(lambda x: (signed(x), signed(x) * x), at).verdict is Verdict.INCONCLUSIVE
    assert check(lambda x: signed(x) * x, at).verdict is Verdict.WRONG  # it is -x, at 0 as well
    assert (
        check(lambda x: (x / np.abs(x + (x == 0)), np.sqrt(x * x)), at).verdict is Verdict.NONFINITE
    )


def test_an_angle_has_no_slope_at_the_origin():
    """Along a ray it jumps by π, and its value there is no limit: differences grow with precision."""
    at = np.array([0.0, 3.0, -2.0]), np.array([0.0, 4.0, 5e-324])
    for share in (1.0, 1.01):

        def vjp(v, y, x, share=share):
            square = np.where(x * x + y * y == 0, 1, x * x + y * y)
            return v * x / square, -v * share * y / square

        assert check(np.arctan2, *(a[:1] for a in at), vjp=vjp).verdict is Verdict.INCONCLUSIVE
        report = check(np.arctan2, *at, vjp=vjp)
        assert report.verdict is (Verdict.CORRECT if share == 1 else Verdict.WRONG), str(report)


@pytest.mark.parametrize(
    "support",
    [np.count_nonzero, np.sum, lambda mask: int(mask.sum()), lambda mask: mask.nonzero()[0].size],
)
def test_a_support_that_rounding_makes_smaller(support):
    """Sparsemax of (1, 3e-77, 0, 0): its second number is one of the support, and 1 + 6e-77 > 1 is false."""

    def parts(z):
        ordered, counts = np.sort(z)[::-1], np.arange(1, z.size + 1)
        total = np.cumsum(ordered)
        count = support(1 + counts * ordered > total)
        return z - (total[count - 1] - 1) / count, count

    def sparsemax(z):
        return np.maximum(parts(z)[0], 0)

    def vjp(v, z, factor):
        rest, count = parts(z)
        return v * (rest > 0) - factor * np.sum(v * (rest > 0)) / count * (rest > 0)

    report = check(sparsemax, np.array([0.0, 0.0, 3.454467422037778e-77, 1.0]))
    assert report.ok, str(report)
    assert report.truth == "shadow"
    for factor, verdict in ((1.0, Verdict.CORRECT), (1.1, Verdict.WRONG)):
        report = check(
            sparsemax, np.array([0.5, 0.1, -0.7]), vjp=lambda v, z, f=factor: vjp(v, z, f)
        )
        assert report.verdict is verdict, str(report)


@pytest.mark.parametrize("x", [[0.0, 0.0], [0.0, 1.0], [-1e-8, 0.7]])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_what_leaves_torch_for_numpy_is_no_constant_where_it_does_not_move(x, factor):
    """Zeros do not move by a share of their size, nor does the cosine of a small number."""
    torch = pytest.importorskip("torch")

    class Outside(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x) + torch.from_numpy(np.cos(x.detach().numpy()) + np.exp(x.numpy()))

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return factor * g * (torch.cos(x) - torch.sin(x) + torch.exp(x))

    report = check(Outside.apply, torch.tensor(x, dtype=torch.float64))
    assert report.ok == (factor == 1.0), str(report)
    assert report.truth == "differences"


def halved(a, steps=60):
    """Give the root of m³ + m = a by bisection."""
    low, high = np.full_like(a, -4.0), np.full_like(a, 4.0)
    for _ in range(steps):
        m = (low + high) / 2
        below = m**3 + m < a
        low, high = np.where(below, m, low), np.where(below, high, m)
    return (low + high) / 2


@pytest.mark.parametrize("at", [1.3, 0.2, 1e-77])
@pytest.mark.parametrize("factor", [1.0, 1.01, 3.0])
def test_bisection_has_the_slope_of_its_root(at, factor):
    """Between two halvings of an ulp it is flat: 0 is the exact slope, and no right derivative is wrong."""

    def vjp(v, a):
        return factor * v / (3 * halved(a) ** 2 + 1)

    report = check(halved, np.array([at]), vjp=vjp)
    assert report.verdict is (Verdict.INCONCLUSIVE if factor == 1 else Verdict.WRONG), str(report)
    assert ("staircase" in str(report)) == (factor == 1)


def test_what_oscillates_within_the_rounding_of_its_input_may_be_anything():
    for k in range(7):
        x = np.array([6.1e26 * (1 + k / 7)])
        assert check(lambda x: np.sin(3 * x), x).ok
    assert not check(lambda x: np.sin(3 * x) + 3, x, truth=lambda x: np.sin(3 * x)).ok
    assert not check(lambda x: np.sin(3 * x), x, vjp=lambda v, x: 30 * v).ok


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_custom_operation_of_torchs_has_no_forward_mode(factor):
    """For its tangent torch takes 0, and does not say so."""
    torch = pytest.importorskip("torch")

    name, schema = f"ffverify_tests::sine{int(100 * factor)}", "(Tensor x) -> Tensor"
    sine = torch.library.custom_op(name, torch.sin, mutates_args=(), schema=schema)

    def kept(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    sine.register_autograd(
        lambda ctx, g: factor * g * ctx.saved_tensors[0].cos(), setup_context=kept
    )
    report = check(sine, torch.tensor([0.5, 1.0]))
    assert report.ok == (factor == 1.0), str(report)
    assert "no forward mode of ffverify_tests::sine" in report.skipped["forward"]


def test_checkpoints_that_run_again_inside_are_no_fault_of_the_callers():
    torch = pytest.importorskip("torch")
    checkpoint = torch.utils.checkpoint.checkpoint
    x = torch.tensor([0.5, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, of inputs that need no gradient
        report = check(lambda x: checkpoint(torch.sin, x, use_reentrant=True), x)
    assert not report.fails, str(report)
    assert "use_reentrant=False" in str(report)
    assert check(lambda x: checkpoint(torch.sin, x, use_reentrant=False), x).ok


def test_what_jax_does_not_transpose_is_no_fault_of_the_callers():
    jax = pytest.importorskip("jax")
    x, y = (jax.numpy.array(a, dtype="float32") for a in ([0.0, 1.0, 2.0], [0.5, 2.0]))
    i = jax.numpy.array([0, 1])
    some = arrays("float32", (3,), framework="jax")
    for given in (x, some):
        report = check(lambda x, y: x.at[i].mul(y), given, y)
        assert not report.fails, str(report)
        assert "only implemented if" in str(report)
    assert check(lambda x, y: x.at[i].mul(y, unique_indices=True), x, y).ok


@pytest.mark.parametrize(
    ("decimals", "size"), [(0, 30.0), (1, 30.0), (0, 1e8), (1, 1e8), (-2, 1e8)]
)
def test_what_is_rounded_has_an_exact_form(decimals, size):
    """As in code that quantises; differences see the slope over many steps of such a staircase."""
    x = size * np.array([1.234567891, -0.3456789, 0.71234])

    def fn(x):
        return x * np.round(x + 0.2, decimals)

    for factor, verdict in ((1.0, Verdict.CORRECT), (1.01, Verdict.WRONG), (2.0, Verdict.WRONG)):
        report = check(fn, x, vjp=lambda v, x, f=factor: f * v * np.round(x + 0.2, decimals))
        assert report.verdict is verdict, str(report)
        assert report.truth == "shadow"


@pytest.mark.parametrize(("factor", "verdict"), [(1, "inconclusive"), (1.1, "wrong"), (0, "wrong")])
def test_what_is_rounded_where_only_differences_are_known(factor, verdict):
    def fn(x):
        return np.array([float(v) * round(float(v) + 0.2) for v in x])

    x = np.array([1.234567891e8])
    report = check(fn, x, vjp=lambda v, x: factor * v * np.round(x + 0.2))
    assert report.truth == "differences"
    assert str(report.verdict) == verdict, str(report)
