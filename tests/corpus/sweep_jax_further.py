"""More correct functions of JAX: special functions, reductions, linear algebra, distributions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from .rows import box
from .sweep_function import Function, elementwise


def further_jax_functions() -> Iterator[Function]:
    import jax
    import jax.numpy as jnp
    from jax import lax, nn
    from jax.scipy import special

    narrow, unit = (-4.0, 4.0), (-0.9, 0.9)
    yield from elementwise(
        {
            "tan": (jnp.tan, -1.4, 1.4),
            "arcsin": (jnp.arcsin, *unit),
            "arccos": (jnp.arccos, *unit),
            "sinh": (jnp.sinh, *narrow),
            "cosh": (jnp.cosh, *narrow),
            "arccosh": (jnp.arccosh, 1.1, 30),
            "arctanh": (jnp.arctanh, *unit),
            "log2": (jnp.log2, 0.01, 30),
            "log10": (jnp.log10, 0.01, 30),
            "exp2": (jnp.exp2, *narrow),
            "rsqrt": (lax.rsqrt, 0.01, 30),
            "logit": (special.logit, 0.05, 0.95),
            "gammaln": (special.gammaln, 0.5, 8),
            "digamma": (special.digamma, 0.5, 8),
            "entr": (special.entr, 0.05, 4),
            "erfinv": (special.erfinv, *unit),
            "i0e": (special.i0e, *narrow),
            "i1": (special.i1, *narrow),
            "ndtr": (special.ndtr, *narrow),
            "log_ndtr": (special.log_ndtr, *narrow),
            "ndtri": (special.ndtri, 0.05, 0.95),
            "clip": (lambda x: jnp.clip(x, -1, 2), *narrow),
            "deg2rad": (jnp.deg2rad, *narrow),
            "nan_to_num": (jnp.nan_to_num, *narrow),
            "power 3": (lambda x: x**3, *narrow),
            "integer_pow -2": (lambda x: x**-2, 0.1, 4),
        },
        shapes=((2, 3),),
    )

    def eye(x: Any) -> Any:
        return jnp.eye(x.shape[-1], dtype=x.dtype)

    three, square, positive = box(3), box(3, 3, low=-1, high=1), box(3, low=0.3, high=3)
    matrix, image = box(2, 3), box(1, 1, 4, 4)
    for name, call, *boxes in (
        ("logmeanexp", nn.logmeanexp, box(4)),
        ("glu 0", partial(nn.glu, axis=0), box(4, 2)),
        ("attention mask", partial(nn.dot_product_attention, is_causal=True),
         box(1, 3, 1, 2), box(1, 3, 1, 2), box(1, 3, 1, 2)),
        ("softmax where", lambda x: nn.softmax(x, where=jnp.array([True, False, True])), matrix),
        ("conv", partial(lax.conv, window_strides=(1, 1), padding="SAME"), image, box(1, 1, 3, 3)),
        ("max pool", lambda x: lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"), image),
        ("avg pool", lambda x: lax.reduce_window(
            x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4, image),
        # of two and more arguments
        ("xlogy", special.xlogy, three, positive),
        ("xlog1py", special.xlog1py, three, positive),
        ("rel_entr", special.rel_entr, positive, positive),
        ("kl_div", special.kl_div, positive, positive),
        ("betaln", special.betaln, positive, positive),
        ("minimum", jnp.minimum, three, three),
        ("maximum", jnp.maximum, three, three),
        ("logaddexp2", jnp.logaddexp2, three, three),
        ("float_power", jnp.float_power, positive, three),
        ("dot", jnp.dot, three, three),
        ("vdot", jnp.vdot, three, three),
        ("inner", jnp.inner, matrix, matrix),
        ("cross", jnp.cross, three, three),
        ("kron", jnp.kron, box(2, 2), box(2, 1)),
        ("tensordot", jnp.tensordot, box(2, 2, 2), box(2, 2, 1)),
        ("polyval", jnp.polyval, three, box(2)),
        ("interp", lambda x, y: jnp.interp(x, jnp.arange(3, dtype=x.dtype), y),
         box(2, low=0.1, high=1.9), three),
        # along an axis
        ("diff", jnp.diff, box(5)),
        ("gradient", jnp.gradient, box(5)),
        ("median", jnp.median, box(5)),
        ("quantile", lambda x: jnp.quantile(x, 0.3), box(5)),
        ("ptp", jnp.ptp, box(5)),
        ("min", partial(jnp.min, axis=0), matrix),
        ("nansum", jnp.nansum, box(4)),
        ("average", lambda x, w: jnp.average(x, weights=w), three, positive),
        ("cov", jnp.cov, box(2, 4)),
        ("corrcoef", jnp.corrcoef, box(2, 4)),
        ("norm 1", partial(jnp.linalg.norm, ord=1), box(4)),
        ("norm 3", partial(jnp.linalg.norm, ord=3), box(4, low=0.1)),
        ("norm inf", partial(jnp.linalg.norm, ord=jnp.inf), box(4)),
        ("norm fro", jnp.linalg.norm, box(2, 3, low=0.1)),
        ("cumlogsumexp", lax.cumlogsumexp, box(4)),
        ("cummax", lax.cummax, box(5)),
        ("top_k", lambda x: lax.top_k(x, 3)[0], box(5)),
        ("associative_scan", lambda x: lax.associative_scan(jnp.add, x), box(5)),
        ("var 0", partial(jnp.var, axis=0, ddof=1), box(4, 2)),
        # control flow and transformations
        ("cond", lambda x: lax.cond(x[0] > x[1], jnp.sin, jnp.cos, x), three),
        ("fori_loop", lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + x, x), three),
        ("map", lambda x: lax.map(jnp.tanh, x), three),
        ("vmap", jax.vmap(jnp.outer), box(2, 2), box(2, 2)),
        ("jit", jax.jit(lambda x: jnp.exp(x) * x), three),
        ("checkpoint", jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), three),  # type: ignore[attr-defined]
        ("grad", jax.grad(lambda x: jnp.sum(jnp.sin(x) * x)), three),
        # places
        ("roll", lambda x: jnp.roll(x, 2), box(5)),
        ("flip", jnp.flip, matrix),
        ("tril", jnp.tril, box(3, 3)),
        ("diag", jnp.diag, three),
        ("trace", jnp.trace, box(3, 3)),
        ("at add", lambda x, y: x.at[jnp.array([0, 0, 2])].add(y), three, three),
        ("at set", lambda x, y: x.at[1].set(y[0]), three, box(1)),
        ("at multiply", lambda x, y: x.at[1].multiply(y[0]), three, box(1)),
        ("repeat", lambda x: jnp.repeat(x, 2), three),
        ("tile", lambda x: jnp.tile(x, 2), three),
        ("stack", lambda x, y: jnp.stack([x, y, x * y]), three, three),
        ("take_along", lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1), matrix),
        ("dynamic_slice", lambda x: lax.dynamic_slice(x, (1,), (2,)), three),
        ("pad reflect", lambda x: jnp.pad(x, 2, mode="reflect"), three),
        ("select", lambda x, y: jnp.select([x > 1, x > 0], [x * y, y], x), three, three),
        # linear algebra
        ("det", lambda x: jnp.linalg.det(x + 3 * eye(x)), square),
        ("slogdet", lambda x: jnp.linalg.slogdet(x + 4 * eye(x))[1], square),
        ("solve", lambda x, b: jnp.linalg.solve(x + 4 * eye(x), b), square, three),
        ("matrix_power", lambda x: jnp.linalg.matrix_power(x, 3), square),
        ("multi_dot", lambda x, y: jnp.linalg.multi_dot([x, y, x]), box(2, 2), box(2, 2)),
        ("vander", jnp.vander, three),
        ("solve_triangular", lambda x, b: jax.scipy.linalg.solve_triangular(
            jnp.tril(x) + 4 * eye(x), b, lower=True), square, three),
    ):  # fmt: skip
        yield Function(name, call, tuple(boxes))
    yield from _log_densities()


def _log_densities() -> Iterator[Function]:
    from jax.scipy import stats

    three, positive, inside = box(3), box(3, low=0.3, high=3), box(3, low=0.1, high=0.9)
    for name, law, *boxes in (
        ("normal", stats.norm.logpdf, three, three, positive),
        ("normal tail", stats.norm.logcdf, three, three, positive),
        ("laplace", stats.laplace.logpdf, three, three, positive),
        ("cauchy", stats.cauchy.logpdf, three, three, positive),
        ("logistic", stats.logistic.logpdf, three, three, positive),
        ("exponential", lambda x, s: stats.expon.logpdf(x, 0, s), positive, positive),
        ("gamma", stats.gamma.logpdf, positive, positive),
        ("beta", stats.beta.logpdf, inside, positive, positive),
        ("chi2", stats.chi2.logpdf, positive, positive),
        ("student", stats.t.logpdf, three, positive),
        ("pareto", stats.pareto.logpdf, box(3, low=3.1, high=6), positive),
    ):
        yield Function(f"log density {name}", law, tuple(boxes))
