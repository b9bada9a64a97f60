"""Derivatives and values that torch computes wrong, each at the smallest input that shows it.

``DEFECTS`` names the entries of torch's operator database that they make wrong. Each has the number that
torch gives, and the exact one by mpmath from the definition alone: nothing here goes through ffverify.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from mpmath import diff, exp, log, lu_solve, matrix, mp, mpf, psi, sqrt

VERSION = "2.13"  # of torch, that these were seen in
F64 = torch.float64


class Defect(NamedTuple):
    """A defect of torch's: of ``fn`` at ``inputs``, in its values or the mode that is named.

    ``entries`` are the database's, a regular expression. ``computed()`` is what torch gives, ``seen`` what it
    gave in the version above, and ``exact()`` what mpmath does. ``order`` is that of the derivative.
    """

    entries: str
    why: str
    fn: Callable[..., Any]
    inputs: tuple[Any, ...]
    mode: str
    computed: Callable[[], Any]
    seen: float
    exact: Callable[[], Any]
    order: int = 1


def _jvp(fn: Any, inputs: Any, along: Any, element: Any) -> Callable[[], Any]:
    def computed() -> Any:
        return torch.func.jvp(fn, inputs, along)[1][element].real.item()

    return computed


def _vjp(fn: Any, inputs: Any, cotangent: Any, element: Any) -> Callable[[], Any]:
    def computed() -> Any:
        return torch.func.vjp(fn, *inputs)[1](cotangent)[0][element].item()

    return computed


def _second_jvp(fn: Any, x: Any, along: Any, element: Any) -> Callable[[], Any]:
    def once(x: Any) -> Any:
        return torch.func.jvp(fn, (x,), (along,))[1]

    return _jvp(once, (x,), (along,), element)


def _tensor(numbers: Any) -> Any:
    return torch.tensor(numbers, dtype=F64)


def _inverse(t: Any) -> Any:
    factor = matrix([[1, 0], [mpf("0.5"), 1 + t]])
    return ((factor * factor.T) ** -1)[1, 1]


def _unpooled(dims: int) -> Callable[[Any], Any]:
    unpool = getattr(torch.nn.functional, f"max_unpool{dims}d")
    shape = (1,) * dims

    def fn(x: Any) -> Any:  # both numbers are put in place 0, where the second stays
        places = torch.zeros(1, *shape[1:], 2, dtype=torch.int64)
        return unpool(x.reshape(1, *shape[1:], 2), places, 1, output_size=(*shape[1:], 2)).flatten()

    return fn


def _unpool_defect(dims: int) -> Defect:
    fn, x = _unpooled(dims), (_tensor([1.0, 2.0]),)
    return Defect(
        rf"nn\.functional\.max_unpool{dims}d", "a number that another overwrites keeps its gradient",
        fn, x, "reverse", _vjp(fn, x, _tensor([1.0, 0.0]), 0), 1.0, lambda: mpf(0),
    )  # fmt: skip


_L = (_tensor([[1.0, 0.0], [0.5, 1.0]]),)
_SCATTERED = (_tensor([0.0, 1.0, 2.0, 3.0]), _tensor([1.0, 1.0]))
_POINT = (_tensor(2.685009210157367),)
_FAR = (_tensor([-20.0, 0.0]),)
_HUGE = (torch.tensor([800.0 + 0j, 0.0], dtype=torch.complex128),)
_FACTORS = (_tensor([3.0]), _tensor([5.0]))
_ROWS = (_tensor([[0.5, -1.0], [2.0, 0.25]]), _tensor([[1.0, 0.5], [-0.5, 2.0]]))


def _scatter(x: Any, src: Any) -> Any:
    return torch.as_strided_scatter(x, src, (2,), (1,), 1)


def _logcumsumexp(x: Any) -> Any:
    return torch.logcumsumexp(x, 0)


def _product(x: Any, src: Any) -> Any:
    return torch.scatter_reduce(x, 0, torch.tensor([0]), src, "prod")


def _cross_entropy(x: Any, w: Any) -> Any:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=1, allow_retain_graph=True)
    return torch.nn.functional.linear_cross_entropy(x, w, torch.tensor([0, 1]), options=options)


def _losses(t: Any) -> Any:
    """Give the mean loss with the first row moved by (t, 0): logits are x wᵀ, the labels 0 and 1."""
    rows = [[mpf("0.5") + t, mpf(-1)], [mpf(2), mpf("0.25")]]
    weights = [[mpf(1), mpf("0.5")], [mpf("-0.5"), mpf(2)]]
    total = mpf(0)
    for label, row in enumerate(rows):
        z = [w[0] * row[0] + w[1] * row[1] for w in weights]
        total += log(sum(map(exp, z))) - z[label]
    return total / 2


def _normalised(t: Any) -> Any:
    x = [t, mpf(1), mpf(3)]
    rest = [a - sum(x) / 3 for a in x]
    return rest[0] / sqrt(sum(a * a for a in rest) / 3 + mpf(1e-5))


def _layer_norm(x: Any) -> Any:
    return torch.nn.functional.layer_norm(x, (3,))


def _solve(a: Any) -> Any:
    return torch.linalg.solve_ex(a, _tensor([1.0, 2.0]))[0]


def _solved(t: Any) -> Any:
    return lu_solve(matrix([[2 + t, 1], [1, 3]]), matrix([1, 2]))[0]


def _transposed(a: Any) -> Any:
    return torch.triangular_solve(_tensor([[1.0], [2.0]]), a, transpose=True)[0]


def _solved_transposed(t: Any) -> Any:
    return lu_solve(matrix([[2, 0], [1 + t, 3]]), matrix([1, 2]))[1]


def _mantissa(x: Any) -> Any:
    return torch.frexp(x)[0]


def _mean(x: Any) -> Any:
    normalised, mean, _ = torch.native_group_norm(x, None, None, 1, 2, 1, 1, 1e-5)
    return normalised, mean


def _trigamma() -> Any:
    return psi(1, mpf(_POINT[0].item()))


DEFECTS = [
    Defect(
        r"cholesky_inverse", "the JVP multiplies by a factor that is not transposed",
        torch.cholesky_inverse, _L, "forward",
        _jvp(torch.cholesky_inverse, _L, (_tensor([[0.0, 0.0], [0.0, 1.0]]),), (1, 1)), -1.5,
        lambda: diff(_inverse, 0),
    ),
    Defect(
        r"nn\.functional\.linear_cross_entropy\.chunked(_none)?", "the JVP is always zero",
        _cross_entropy, _ROWS, "forward",
        _jvp(_cross_entropy, _ROWS, (_tensor([[1.0, 0.0], [0.0, 0.0]]), torch.zeros_like(_ROWS[1])), ()), 0.0,
        lambda: diff(_losses, 0),
    ),
    Defect(
        r"as_strided_scatter", "what is overwritten has the gradient, and what is not has none",
        _scatter, _SCATTERED, "reverse", _vjp(_scatter, _SCATTERED, _tensor([1.0, 2.0, 3.0, 4.0]), 0), 0.0,
        lambda: mpf(1),
    ),
    *map(_unpool_defect, (1, 2, 3)),
    Defect(
        r"nn\.functional\.hardsigmoid", "its slope 1/6 is rounded to float32",
        torch.nn.functional.hardsigmoid, (_tensor(1.0),), "reverse",
        _vjp(torch.nn.functional.hardsigmoid, (_tensor(1.0),), _tensor(1.0), ()), 0.1666666716337204,
        lambda: mpf(1) / 6,
    ),
    Defect(
        r"frexp", "its slope, a power of 2, is computed in float32 and overflows",
        _mantissa, (_tensor(1.5 * 2.0**-174),), "reverse",
        _vjp(_mantissa, (_tensor(1.5 * 2.0**-174),), _tensor(1.0), ()), float("inf"),
        lambda: mpf(2) ** 173,
    ),
    Defect(
        r"native_group_norm", "the gradient of the mean is lost where that of the deviation is not asked for",
        _mean, (_tensor([[[1.0], [3.0]]]),), "reverse",
        _vjp(_mean, (_tensor([[[1.0], [3.0]]]),), (_tensor([[[0.0], [0.0]]]), _tensor([[1.0]])), (0, 0, 0)),
        0.0, lambda: mpf(1) / 2,
    ),
    Defect(
        r"(special\.)?polygamma\..*", "ψ′ has ten right digits",
        lambda x: torch.polygamma(1, x), _POINT, "value",
        lambda: torch.polygamma(1, _POINT[0]).item(), 0.45018470067984, _trigamma,
    ),
    Defect(
        r"digamma", "its derivative ψ′ has ten right digits",
        torch.digamma, _POINT, "reverse",
        _vjp(torch.digamma, _POINT, _tensor(1.0), ()), 0.45018470067984, _trigamma,
    ),
    Defect(
        r"logcumsumexp", "the JVP divides by a sum to which 1e-13 is added",
        _logcumsumexp, _FAR, "forward", _jvp(_logcumsumexp, _FAR, (_tensor([1.0, 0.0]),), 0),
        0.9999514858341975, lambda: mpf(1),
    ),
    Defect(
        r"logcumsumexp", "the JVP of complex numbers overflows",
        _logcumsumexp, _HUGE, "forward",
        _jvp(_logcumsumexp, _HUGE, (torch.tensor([1.0 + 0j, 0.0], dtype=torch.complex128),), 0),
        float("nan"), lambda: mpf(1),
    ),
    Defect(
        r"scatter_reduce\.prod", "the JVP is always zero",
        _product, _FACTORS, "forward", _jvp(_product, _FACTORS, (_tensor([1.0]), _tensor([0.0])), 0), 0.0,
        lambda: mpf(5),
    ),
    Defect(  # its derivatives solve with the transpose
        r"triangular_solve", "the JVP with transpose=True does not transpose the tangent",
        _transposed, (_tensor([[2.0, 1.0], [0.0, 3.0]]),), "forward",
        _jvp(_transposed, (_tensor([[2.0, 1.0], [0.0, 3.0]]),), (_tensor([[0.0, 1.0], [0.0, 0.0]]),), (1, 0)),
        0.08333333333333333, lambda: diff(_solved_transposed, 0), 2,
    ),
    Defect(
        r"nn\.functional\.layer_norm", "the JVP of the JVP takes mean and deviation for constants",
        _layer_norm, (_tensor([0.0, 1.0, 3.0]),), "ff",
        _second_jvp(_layer_norm, _tensor([0.0, 1.0, 3.0]), _tensor([1.0, 0.0, 0.0]), 0), 0.3817980925302259,
        lambda: diff(_normalised, 0, 2), 2,
    ),
    Defect(
        r"linalg\.solve(_ex)?", "the JVP of the JVP takes the factors for constants",
        _solve, (_tensor([[2.0, 1.0], [1.0, 3.0]]),), "ff",
        _second_jvp(_solve, _tensor([[2.0, 1.0], [1.0, 3.0]]), _tensor([[1.0, 0.0], [0.0, 0.0]]), 0),
        0.07199999999999998,
        lambda: diff(_solved, 0, 2), 2,
    ),
]  # fmt: skip


def table() -> str:
    """Give the defects, a line each: what torch gives, and what is exact."""
    with mp.workdps(30):
        return "\n".join(
            f"{d.entries}: {d.why} ({d.mode} {d.computed()!r}, exactly {mp.nstr(d.exact(), 20)})"
            for d in DEFECTS
        )
