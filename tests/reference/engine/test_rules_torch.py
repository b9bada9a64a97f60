"""Every primitive against torch: value, forward and reverse mode, second order in all nestings.

Where torch has no function of that name, its counterpart is put together from torch's own.
"""

import itertools

import numpy as np
import pytest

from ffverify import reference
from ffverify.reference import elementwise, grad, jvp, primitives
from ffverify.specs.programs import running_scale
from tests.reference.primitive_rows import CASES, differentiated, program

torch = pytest.importorskip("torch")
F = torch.nn.functional
U = 2.0**-53


def slope(f):
    """f' of an elementwise f."""
    return lambda z: torch.autograd.grad(f(z).sum(), z, create_graph=True)[0]


def gelu_tanh(z):
    return F.gelu(z, approximate="tanh")


def scattered(y, i, *, shape):
    return torch.zeros(shape, dtype=y.dtype).index_add(0, i, y)


def without(e, place):
    mask = torch.ones(e.numel(), dtype=e.dtype).index_fill(0, place, 0)
    return e * mask.reshape(e.shape)


def replaced(x, v, place):
    return without(x, place) + torch.zeros(x.numel(), dtype=x.dtype).index_add(0, place, v).reshape(
        x.shape
    )


def padded(x, *, widths):
    return F.pad(x, [n for pair in reversed(widths) for n in pair])


def dims(f):
    return lambda x, axis, keepdims=False: f(x, dim=axis, keepdim=keepdims)


def cofactors_along(a, e):
    c = torch.linalg.det(a) * torch.linalg.inv(a).T
    turned = torch.linalg.inv(a) @ e
    return torch.trace(turned) * c - c @ turned.T


def polar_factor(a):
    u, _, vh = torch.linalg.svd(a, full_matrices=False)
    return u @ vh


def sylvester_of_symmetric(h, q):
    w, v = torch.linalg.eigh((h + h.T) / 2)
    return v @ ((v.T @ q @ v) / (w[:, None] + w)) @ v.T


def parts(z):
    return torch.stack([z.real, z.imag])


SAME_NAME = """
    cos cosh erf erfc exp exp2 expm1 log log10 log1p log2 negative positive reciprocal relu
    sigmoid sin sinh sqrt square tan tanh arccos arccosh arcsin arcsinh arctan arctanh
    add arctan2 divide hypot logaddexp maximum minimum multiply remainder subtract
    where matmul fmax fmin fmod deg2rad rad2deg float_power erfinv logaddexp2 logit xlogy
"""
COUNTERPARTS = {name: getattr(torch, name) for name in SAME_NAME.split()} | {
    # Of torch's own abs and copysign the second derivative is not 0 but the rounding of x/|x|.
    "absolute": lambda z: torch.where(z > 0, z, -z),
    "affine": lambda x, W, b: torch.addmm(b, x, W),
    "assigned": lambda x, v, i, index: torch.cat([x[:, :2] * 0, x[:, 2:] * 0], 1).index_copy(
        1, torch.tensor([0, 2, 1]), torch.stack([v[:, 1], v[:, 2], x[:, 1]], 1)
    ),
    "astype": lambda x, dtype: x.to(torch.float64),
    "broadcast_to": lambda x, shape: x.expand(shape),
    "cbrt": lambda z: torch.sign(z) * torch.abs(z) ** (1 / 3),
    "cholesky": lambda a: torch.linalg.cholesky((a + a.T) / 2),
    "clip": lambda x, *, low, high: torch.clip(x, low, high),
    "cofactors": lambda a: torch.linalg.det(a) * torch.linalg.inv(a).T,
    "cofactors_along": cofactors_along,
    "concatenate": lambda *xs, axis: torch.cat(xs, axis),
    "copysign": lambda a, b: torch.where((a > 0) == (b > 0), a, -a),
    "cumsum": torch.cumsum,
    "det": torch.linalg.det,
    "dft": lambda z, axis, inverse: parts(
        torch.fft.ifft(torch.complex(*z), dim=axis, norm="forward")
        if inverse
        else torch.fft.fft(torch.complex(*z), dim=axis)
    ),
    "rdft": lambda x, axis: parts(torch.fft.rfft(x, dim=axis)),
    "irdft": lambda z, axis, n: torch.fft.irfft(torch.complex(*z), n, axis),
    "eigenvalues": lambda a: torch.linalg.eigvalsh((a + a.T) / 2),
    "einsum": lambda *xs, subscripts: torch.einsum(subscripts, *xs),
    "gather": lambda x, i, index: x[:, i],
    "gauss": lambda z: torch.exp(-z * z),
    "gelu": F.gelu,
    "gelu_slope": slope(F.gelu),
    "gelu_tanh": gelu_tanh,
    "gelu_tanh_slope": slope(gelu_tanh),
    "hard_swish": F.hardswish,
    "in_vectors": lambda u, a, vh: torch.einsum("ik,ij,kj->k", u, a, vh),
    "inv": torch.linalg.inv,
    "log_abs_det": lambda a: torch.linalg.slogdet(a)[1],
    "log_pseudo_det": lambda a, rcond: torch.linalg.slogdet(a)[1],
    "log_softmax": torch.log_softmax,
    "logsumexp": dims(torch.logsumexp),
    "matrix_diagonal": lambda x, offset: torch.diagonal(x, offset, -2, -1),
    "max": dims(torch.amax),
    "mean": dims(torch.mean),
    "min": dims(torch.amin),
    "minus_max": lambda z, axis: z - torch.amax(z, dim=axis, keepdim=True),
    "mish": F.mish,
    "mish_slope": slope(
        lambda z: z * torch.tanh(F.softplus(z))
    ),  # of F.mish there is no third derivative
    "margin": torch.sum,
    "norm": dims(torch.linalg.vector_norm),
    "nuclear_norm": lambda a: torch.linalg.matrix_norm(a, "nuc"),
    "pad_zeros": padded,
    "entr": torch.special.entr,
    "log1p_square": lambda z: torch.log1p(z * z),
    "log_ndtr": torch.special.log_ndtr,
    "erfcx": torch.special.erfcx,
    "huber": lambda d, r: torch.where(r.abs() <= d, r * r / 2, d * (r.abs() - d / 2)),
    "pseudo_huber": lambda d, r: d * d * (torch.sqrt(1 + (r / d) ** 2) - 1),
    "rel_entr": lambda x, y: torch.xlogy(x, x / y),
    "ndtr": torch.special.ndtr,
    "ndtri": torch.special.ndtri,
    "pinv": torch.linalg.pinv,
    "xlog1py": torch.special.xlog1py,
    "polar_factor": polar_factor,
    "power": torch.pow,
    "power_log": lambda x, p: torch.pow(x, p) * torch.log(x),
    "power_mixed": lambda x, p: torch.pow(x, p - 1) * (p * torch.log(x) + 1),
    "power_slope": lambda x, p: p * torch.pow(x, p - 1),
    "power_number": lambda x, p: x**p,
    "power_operator": torch.pow,
    "over_cosh_squared": lambda v, z: v / torch.cosh(z) ** 2,
    "prelu": lambda z, alpha: torch.where(z > 0, z, alpha * z),
    "put_along": lambda y, i, axis, shape: torch.zeros(shape, dtype=y.dtype).scatter_add(
        axis, i, y
    ),
    "rank_ones": lambda u, w, vh: (u * w) @ vh,
    "replaced": replaced,
    "reshape": torch.reshape,
    "hypot_slope": lambda a, b: a / torch.hypot(a, b),
    "scale": torch.mul,
    "scale_either": torch.mul,
    "beta_kernel": lambda p, q, x, r: x**p * (1 - x) ** q * torch.exp(r),
    "scatter": lambda y, i, index, shape: scattered(y, i, shape=shape),
    "selu": F.selu,
    "sigmoid_slope": lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
    "silu": F.silu,
    "silu_slope": slope(lambda z: z * torch.sigmoid(z)),
    "singular_values": torch.linalg.svdvals,
    "softmax": torch.softmax,
    "softmax_nll": lambda z, place: F.cross_entropy(z, place % z.shape[-1], reduction="none"),
    "softplus": lambda z: F.softplus(z, threshold=700),
    "softsign": F.softsign,
    "solve": torch.linalg.solve,
    "sum": dims(torch.sum),
    "sum_of_losers": lambda e, d, axis: torch.where(d == d.amax(axis, True), 0.0, e).sum(
        axis, keepdim=True
    ),
    "sylvester_of_symmetric": sylvester_of_symmetric,
    "take_along": lambda x, i, axis: torch.gather(x, axis, i),
    "tanhshrink": F.tanhshrink,
    "transpose": lambda x, axes: x.permute(axes),
}


# Functions that torch lacks, has without a second derivative, with vectors of other signs, or (digamma,
# lgamma, polygamma, sinc) with errors of a thousand roundings.
NOT_IN_TORCH = frozenset(
    str.split("""
    beta beta_tail betainc betaincc betaln digamma eig eigh eigh_upper erfcinv erfcx_slope gamma
    gamma_growth gammainc gammaincc heaviside i0 i0e i1 i1e iv ive j0 j1 jv k0 k1 kv lgamma log_betainc
    log_betaincc log_gammainc log_gammaincc log_stdtr lower_gamma polygamma_n qr t_tail upper_gamma
    rgamma sinc_derivative solve_sylvester sqrtm stdtr svd y0 y1 yv
""")
)


def counterpart(row):
    """Torch's function of the arguments in which the primitive is differentiated."""
    _, args, params = CASES[row]
    places = differentiated(row, args)

    def f(*zs):
        full = [torch.as_tensor(np.ascontiguousarray(x)) for x in args]
        for k, z in zip(places, zs, strict=True):
            full[k] = z
        return COUNTERPARTS[row](*full, **params)

    return f


def forward(f, v):
    """The derivative of a scalar f along v, as a function, by forward mode."""
    return lambda *xs: jvp(f, xs, v)[1]


def reverse(f, v):
    """The same by reverse mode."""
    return lambda *xs: sum(
        np.sum(g * d) for g, d in zip(grad(f, range(len(v)))(*xs), v, strict=True)
    )


def slope_in_torch(y, xs, v):
    """The same of a scalar that torch has computed."""
    if not y.requires_grad:
        return torch.zeros((), dtype=y.dtype)
    gradients = torch.autograd.grad(y, xs, create_graph=True, materialize_grads=True)
    return sum((g * torch.tensor(d)).sum() for g, d in zip(gradients, v, strict=True))


def check(primitive, row):
    """Raise AssertionError unless the primitive agrees with torch to second order.

    Of numbers: the value times c, its derivative along v, and that one's along w. Each is allowed 16 u
    for each operation of its program, carried to its end (`running_scale`), and torch's as much: a
    primitive is within 8 u (test_accuracy.py), a sum of these sizes has fewer than 16 terms.
    """
    f, at = program(primitive, row)
    local = np.random.default_rng(3)
    v, w = ([local.uniform(-1, 1, x.shape) for x in at] for _ in range(2))
    c = local.uniform(0.5, 1.5, np.shape(f(*at)))
    xs = [torch.tensor(x, requires_grad=True) for x in at]
    theirs = counterpart(row)(*xs)
    assert theirs.shape == np.shape(f(*at))
    value = (torch.tensor(c) * theirs).sum()
    first = slope_in_torch(value, xs, v)
    second = slope_in_torch(first, xs, w)

    n = len(at)
    modes = {"": lambda g, _: g, "forward": forward, "reverse": reverse}
    for outer, inner in itertools.product(modes, modes):
        if not inner and outer:
            continue

        def ours(c, *given, outer=modes[outer], inner=modes[inner]):
            def cost(*zs):
                return np.sum(c * f(*zs))

            return outer(inner(cost, given[n : 2 * n]), given[2 * n :])(*given[:n])

        true = second if outer else first if inner else value
        # All that is rounded is an argument: what a trace takes for constant counts for nothing.
        allowed = 2 * 16 * U * running_scale(reference, ours, c, *at, *v, *w)
        error = abs(float(ours(c, *at, *v, *w)) - true.item())
        what = f"{outer} over {inner}" if outer else inner or "value"
        assert error <= allowed, f"{what}: error {error:.3g} from torch, allowed {allowed:.3g}"


def test_every_primitive_has_a_counterpart():
    ours = {name for name, p in primitives().items() if p.differentiable}
    assert set(COUNTERPARTS) == ours - NOT_IN_TORCH


@pytest.mark.parametrize("name", sorted(COUNTERPARTS))
def test_agrees_with_torch(name):
    check(primitives()[name], name)


@pytest.mark.parametrize(
    ("primitive", "row"),
    [
        (elementwise("b", lambda x: np.exp(x) * (1 + 1e-11), lambda y, _x: y), "exp"),
        (elementwise("b", np.sin, lambda _y, x: np.cos(x) * (1 + 1e-11)), "sin"),
        (elementwise("b", np.cos, lambda _y, x: np.sin(x)), "cos"),
    ],
)
def test_a_planted_bug_is_rejected(primitive, row):
    with pytest.raises(AssertionError, match="from torch"):
        check(primitive, row)


def test_a_wrong_second_derivative_alone_is_rejected():
    """Right slopes, but what they are made of has a wrong slope of its own."""
    wrong = elementwise("w", np.cos, lambda _y, x: np.sin(x))
    with pytest.raises(AssertionError, match="over"):
        check(elementwise("b", np.sin, lambda _y, x: wrong(x)), "sin")
