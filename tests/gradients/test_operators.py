"""What torch's operator database showed: right functions that were accused, and defects of torch's own."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import ffverify
from ffverify.gradients.gradcheck import gradcheck

torch = pytest.importorskip("torch")

from tests.corpus import operators  # noqa: E402 - needs torch
from tests.corpus.torch_defects import DEFECTS, VERSION  # noqa: E402 - needs torch

F64 = torch.float64
ZERO_IN_THE_CORNER = torch.tensor([[0.0, 1, 2], [3, 4, 5], [7, 6, 1.5]], dtype=F64)
RIGHT_SIDES = torch.tensor([[1.0, 2], [3, -1], [0.5, 0.25]], dtype=F64)


def check(fn, *inputs, **options):
    return gradcheck(fn, list(inputs), raise_exception=False, **options)


FACTORED = {
    "det": torch.linalg.det,
    "slogdet": lambda a: torch.linalg.slogdet(a)[1],
    "solve": lambda a: torch.linalg.solve(a, RIGHT_SIDES),
    "solve from the right": lambda a: torch.linalg.solve(a, RIGHT_SIDES.mT, left=False),
    "inverse": torch.linalg.inv,
    "lu_factor": lambda a: torch.linalg.lu_factor(a)[0],
    "lu": lambda a: torch.linalg.lu(a)[1:],
    "lu_unpack": lambda a: torch.lu_unpack(*torch.linalg.lu_factor(a[:2]))[1:],
    "lu_solve": lambda a: torch.linalg.lu_solve(
        *torch.linalg.lu_factor(a), RIGHT_SIDES, adjoint=True
    ),
}


@pytest.mark.parametrize("name", FACTORED)
def test_factors_are_those_of_the_matrix_as_it_lies_in_memory(name):
    """A determinant keeps the factors of its matrix's columns; only an exact zero on U's diagonal is one."""
    for a in (ZERO_IN_THE_CORNER, ZERO_IN_THE_CORNER.mT):
        report = check(FACTORED[name], a)
        assert report.verdict == "correct", str(report)
        assert report.truth == "shadow"


def test_a_determinant_whose_gradient_is_not_transposed_is_wrong():
    class Det(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return torch.linalg.det(a)

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return g * torch.linalg.det(a) * torch.linalg.inv(a)

    assert check(Det.apply, ZERO_IN_THE_CORNER).verdict == "wrong"


X = torch.tensor([[3.0, 1, 2, 5], [0.5, -1, 7, 0.25]], dtype=F64)
LOWER = torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [-0.25, 0.75, 1.5]], dtype=F64)
WHOLE = {
    "kthvalue": (lambda x: torch.kthvalue(x, 3, 1, True)[0], X),
    "median": (torch.median, X),
    "median along": (lambda x: torch.median(x, 1)[0], X),
    "nanmedian": (lambda x: torch.nanmedian(x, 0)[0], X),
    "angle": (lambda x: x * torch.angle(x), X),
    "cholesky_solve": (
        lambda a: torch.cholesky_solve(RIGHT_SIDES, a, upper=True),
        ffverify.upper_triangular(LOWER.mT),
    ),
    "triangular_solve": (
        lambda a: torch.triangular_solve(RIGHT_SIDES, a, upper=False)[0],
        ffverify.lower_triangular(LOWER),
    ),
}


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("name", WHOLE)
def test_kernels_without_a_decomposition_have_a_formula(name):
    report = check(*WHOLE[name])
    assert report.verdict == "correct", str(report)
    assert report.truth == "shadow"


def test_log_zero_written_as_the_lowest_float_is_no_fault():
    """The derivative of logcumsumexp works on logs of cotangents, and writes log 0 as -1.8e308."""

    def fn(x):
        return torch.logcumsumexp(x, 0)

    x = torch.tensor([100.0, 99, 98, 101], dtype=F64)
    assert check(fn, x, modes=("reverse",)).verdict == "correct"
    far = torch.tensor([10000.0, -8.5, -6.25, -6.75], dtype=F64)
    assert check(fn, far, modes=("reverse",)).ok


def test_a_part_that_is_exactly_zero_is_rounded_as_the_other_part():
    z = torch.tensor([[2, 0.3 + 0.4j], [0.3 - 0.4j, 1.5]], dtype=torch.complex128)

    def cholesky(x):  # its diagonal is real
        return torch.linalg.cholesky((x + x.mH) / 2)

    assert check(cholesky, z).ok
    assert check(torch.linalg.eigvals, torch.tensor([[2.0, 1], [0.5, 3]], dtype=F64)).ok

    class Turned(torch.autograd.Function):
        """Twice a number, and a tangent that is off by 1e-9 of it in the part that is zero."""

        @staticmethod
        def forward(ctx, x):
            return torch.complex(x, torch.zeros_like(x)) @ torch.eye(len(x)).to(torch.complex128)

        @staticmethod
        def backward(ctx, g):
            return g.real

        @staticmethod
        def jvp(ctx, t):
            return torch.complex(t, 1e-9 * t)

    assert check(Turned.apply, torch.tensor([0.5, -2.0], dtype=F64)).verdict == "wrong"


def test_draws_whose_distribution_depends_on_the_inputs_are_named():
    def seeded(draw):
        def fn(x):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                return draw(x)

        return fn

    x = torch.tensor([0.5, 0.25], dtype=F64)
    for draw in (lambda m: torch.normal(m, 1.0), torch.bernoulli, torch.poisson):
        report = check(seeded(draw), x)
        assert report.verdict == "inconclusive"
        assert "draws from a distribution whose parameters depend on its inputs" in str(report)
    mask = seeded(lambda x: x * torch.empty_like(x).bernoulli_(0.5))
    assert check(mask, x).verdict == "correct"


class Noisy(torch.autograd.Function):
    """Keeps and doubles what a draw of its own chooses."""

    doubled = 2.0

    @staticmethod
    def forward(ctx, x):
        draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
        ctx.save_for_backward(keep := (draw > 0.5).to(x.dtype))
        return 2 * x * keep

    @classmethod
    def backward(cls, ctx, g):
        return cls.doubled * g * ctx.saved_tensors[0]


class Halved(Noisy):
    doubled = 1.0


class Flat(Noisy):
    @staticmethod
    def backward(ctx, g):
        return 2 * g.as_strided(g.shape, (g.shape[1], 1)) * ctx.saved_tensors[0]


def gumbel(x, noise=1.0):
    draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return torch.softmax(2 * (x - noise * torch.log(-torch.log(draw + 1e-9))), -1)


def seeded(draw):
    def fn(x):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return draw(x)

    return fn


def test_noise_of_a_seed_is_what_it_was_in_the_format_of_the_inputs():
    """The same seed gives other numbers in float64: there a gradient right in float32 looked wrong."""
    x = torch.tensor([[0.0, 4, 0], [0, 0, 3]])
    dropout = torch.nn.functional.dropout
    right = [gumbel, Noisy.apply, seeded(lambda x: dropout(x) * torch.randn_like(x))]
    for fn in right:
        report = check(fn, x)
        assert (report.ok, report.truth) == (True, "shadow"), str(report)
    assert check(seeded(dropout), x, order=2).truth == "shadow"
    wrong = [Halved.apply, lambda x: gumbel(x) + 1e-3 * (x - x.detach())]
    assert [check(fn, x).verdict for fn in wrong] == ["wrong"] * 2
    assert check(lambda x: gumbel(x) * torch.rand(3), x).verdict == "inconclusive"  # of no seed


def test_noise_that_fills_memory_in_its_order_is_not_held_to_other_layouts():
    x = torch.tensor([[0.5, 4, 0.25], [2, 1, 3]])
    assert check(seeded(lambda x: x * torch.randn_like(x)), x).verdict == "correct"
    assert check(Flat.apply, x).verdict == "wrong"


def test_a_function_of_memory_is_not_held_to_other_layouts():
    x = torch.arange(1.0, 7, dtype=F64).reshape(2, 3)
    assert check(lambda x: x.as_strided((2, 2), (1, 2)) ** 2, x).verdict == "correct"


def test_results_without_numbers_are_called_so():
    report = check(lambda x: x[:0] * 2, torch.ones(3, dtype=F64))
    assert "returns no numbers: its results are empty" in str(report)
    assert not report.ok


def test_zeros_without_memory_are_numbers():
    """torch's forward mode gives some zeros as tensors that have no memory."""
    report = check(torch.sgn, torch.tensor([[0.5, -2.0]], dtype=F64))
    assert report.verdict == "correct", str(report)
    assert np.all(report.worst_ulps == 0)


@pytest.fixture
def one_thread():
    """With several, which of two numbers max_unpool puts in one place is left to chance."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp loads it
@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.skipif(not torch.__version__.startswith(VERSION), reason="defects of another version")
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("defect", DEFECTS, ids=[f"{d.entries}: {d.why}" for d in DEFECTS])
def test_what_torch_computes_wrong_is_said_to_be(defect):
    """The exact number is mpmath's, from the definition; that torch's is another needs no ffverify."""
    computed = defect.computed()
    assert computed == pytest.approx(defect.seen, rel=1e-15, nan_ok=True)
    with mpmath.mp.workdps(30):
        exact = float(defect.exact())
    assert not abs(computed - exact) <= 1e-11 * abs(exact)
    report = check(defect.fn, *defect.inputs, order=defect.order)
    assert report.verdict in ("wrong", "nonfinite"), str(report)
    assert not report.ok


def test_a_sample_of_the_operator_database_has_no_fault_that_is_not_known():
    cases = [*operators.cases("float64", 1, every=67), *operators.cases("complex128", 1, "^stack$")]
    assert len(cases) > 8
    rows = [operators.row(c, order=1) for c in cases]
    for r in rows:
        assert not operators.is_fault(r) or operators.is_known(r["case"]), r
    assert sum(r["verdict"] == "correct" for r in rows) > len(rows) / 2
    assert operators.is_known("digamma 0 float64")
    assert not operators.is_known("lgamma 0 float64")
