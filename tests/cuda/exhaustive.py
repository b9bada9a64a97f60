"""Every number of float16 and of bfloat16, then of float32: the worst errors of elementwise functions.

The half formats have tables of exact values (`ffverify.specs.half_precision`). For float32 the truth t of 2³²
inputs is computed in float64 on the device, with a bound ε on its own error. With the conditioning bound
B = g·u·(|t| + |x·t'|) + g·2⁻¹⁴⁹, |ŷ - t| ≤ B - ε holds and |ŷ - t| > B + ε fails for certain; what lies
between goes to ball arithmetic, number by number, and so do some random inputs, to see that ε is right.

ε: an input is exact in float64, and so are -|x|, -2|x| and x²/2. Each formula has no more than 16 operations,
each rounded with u₆₄, and three of them at most are library functions good to 8 ulps, 16·u₆₄ (CUDA promises 1
for exp, expm1 and log1p, 5 for erfc; SLEEF, on CPUs, 2): 64·u₆₄ times the sum of the magnitudes of the terms
that are added. Only erfc(-x/√2) has a rounded argument: |z·erfc'(z)/erfc(z)| ≤ 2z² + 1 for z > 0, by Mills'
ratio, and its roundings with √½'s own make 3·(x² + 1)·u₆₄ more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ffverify.conformance.backends import load
from ffverify.exact import formats
from ffverify.exact.formats import Array
from ffverify.specs import half_precision as half
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.verdicts.verdict import Verdict, judge

from .jobs import Job, Row, Setting

HALVES = ("float16", "bfloat16")
ACTIVATIONS = ("tanh", "sigmoid", "softplus", "silu", "gelu")
PARTS = 16  # jobs that the float32 numbers of one function are cut into
CHUNK = 2**24  # inputs at once: a dozen float64 arrays of these are 2 GB
SPOTS, CLOSE = (
    8,
    4096,
)  # inputs of a chunk that balls look at: at random, and at most where it is close
U64 = 2.0**-53


def jobs(setting: Setting) -> list[Job]:
    """The half formats function by function, then float32 in pieces, and the planted errors."""
    few = [("tanh", "float16"), ("softplus", "bfloat16")]
    swept = few if setting.small else [(n, f) for f in HALVES for n in half.FUNCTIONS]
    parts = range(1 if setting.small else PARTS)
    return [
        *(Job(f"every {f} of {n}", every_half, (n, f)) for n, f in swept),
        *(
            Job(f"float32 of {n}, {k + 1} of {len(parts)}", every_single, (n, k))
            for n in ACTIVATIONS for k in parts
        ),
        *(Job(f"planted in {n}", planted, (n,)) for n in ACTIVATIONS[:2]),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------
# Half precision
# ---------------------------------------------------------------------------------------------


def every_half(setting: Setting, name: str, fmt: str) -> Iterator[Row]:
    """Run one function on all numbers of a half format, on every device."""
    form, exact = formats.of(fmt), half.table(name, fmt)
    x = exact.x.astype(form.carrier)

    def program(f: Any, z: Any) -> Any:
        return getattr(f, name)(z)

    for device in setting.devices:
        backend, began = load(f"torch:{device}"), time.perf_counter()
        if not backend.provides(name):
            yield {"outcome": "not provided", "device": device, "dtype": fmt}
            return
        computed = (
            ("value", 0, backend.value(program, [x], fmt)),
            ("reverse", 1, backend.vjp(program, [x], np.ones_like(x), fmt, wrt=[0])[0]),
            ("forward", 1, backend.jvp(program, [x], [np.ones_like(x)], fmt)),
        )
        seconds = time.perf_counter() - began
        for what, order, found in computed:
            wide = found.astype(np.float64)
            with np.errstate(all="ignore"):
                excess = half._excess(exact, order, wide, form)
                t = exact.jets[order]
                off = np.abs(wide - t) / np.ldexp(1.0, form.ulp_exponents(t))
            kinked = half._near_a_kink(name, order, exact, wide, form)
            excess[kinked] = 0.0
            off[np.isnan(off)] = np.inf
            size = np.abs(
                t
            )  # outside of the normal numbers nobody promises ulps; the bound has its opinion
            off[kinked | (size < 2.0**form.emin) | (size >= float(form.largest))] = 0.0
            yield _row(device, fmt, name, what, x, found, off, excess > 1) | {
                "per_second": round(len(x) * 3 / seconds)
            }


def _row(
    device: str, fmt: str, name: str, what: str, x: Array, found: Array, off: Array, beyond: Array
) -> Row:
    i = int(np.argmax(off))
    return {
        "outcome": "finding" if beyond.any() else "holds", "device": device, "dtype": fmt, "function": name,
        "what": what, "judged": len(x), "beyond": int(beyond.sum()), "worst_ulps": float(off[i]),
        "at": float(x[i]), "computed": float(found[i]),
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------
# float32: the truth in float64
# ---------------------------------------------------------------------------------------------


def series(name: str, x: Any) -> list[tuple[Any, Any]]:
    """Give t, t' and t″ of an activation at float64 numbers, each with what its ε is a multiple of."""
    import torch

    e = torch.exp(-x.abs())
    small = e / (1 + e)
    s = torch.where(x >= 0, 1 / (1 + e), small)
    ds = small / (1 + e)
    d2s = ds * torch.sign(x) * torch.expm1(-x.abs()) / (1 + e)
    if name == "sigmoid":
        found = (s, ds, d2s)
    elif name == "softplus":
        found = (x.clamp(min=0) + torch.log1p(e), s, ds)
    elif name == "tanh":
        q = torch.exp(-2 * x.abs())
        t, slope = -torch.sign(x) * torch.expm1(-2 * x.abs()) / (1 + q), 4 * q / (1 + q) ** 2
        found = (t, slope, -2 * t * slope)
    elif name == "silu":
        return [
            (x * s, (x * s).abs()),
            (s + x * ds, s + (x * ds).abs()),
            (2 * ds + x * d2s, 2 * ds + (x * d2s).abs()),
        ]
    else:  # gelu
        cdf = torch.special.erfc(-x * math.sqrt(0.5)) / 2
        pdf = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        # Where erfc's rounded argument counts, and where the density beside it is no more than subnormal
        more = 1 + 3 * (x * x + 1).clamp(max=2000) / 64
        return [
            (x * cdf, (x * cdf).abs() * more),
            (cdf + x * pdf, cdf * more + (x * pdf).abs()),
            ((2 - x * x) * pdf, (2 + x * x) * pdf),
        ]
    return [(t, t.abs()) for t in found]


def computed(name: str, x: Any) -> tuple[Any, Any]:
    """Give an activation and its derivative as torch computes them."""
    import torch
    from torch.nn import functional as F

    fn: Callable[[Any], Any] = getattr(F, name)
    z = x.clone().requires_grad_()
    y = fn(z)
    (slope,) = torch.autograd.grad(y, z, torch.ones_like(y))
    return y.detach(), slope


Compute = Callable[[str, Any], tuple[Any, Any]]


def every_single(
    setting: Setting, name: str, part: int, compute: Compute = computed
) -> Iterator[Row]:
    """Run one function on a sixteenth of all float32 numbers, and on a sample of these on the CPU."""
    start, stop = part * 2**32 // PARTS, (part + 1) * 2**32 // PARTS
    for device in setting.devices:
        stride = 251 if device == "cpu" else 1
        if setting.small:  # all magnitudes and signs
            start, stop, stride = 0, 2**32, 8_191
        yield from _swept(name, device, range(start, stop, stride), compute)


def _swept(name: str, device: str, bits: range, compute: Compute) -> Iterator[Row]:
    import torch

    began, sums = time.perf_counter(), [_Sums(name, device, w) for w in ("value", "reverse")]
    for k in range(0, len(bits), CHUNK):
        some = bits[k : k + CHUNK]
        patterns = torch.arange(some.start, some.stop, some.step, dtype=torch.int64, device=device)
        x = patterns.to(torch.int32).view(torch.float32)
        x = x[torch.isfinite(x)]
        if not len(x):
            continue
        exact = series(name, x.double())
        for order, found in enumerate(compute(name, x)):
            sums[order].add(order, x, found, exact[order : order + 2])
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    for one in sums:
        yield one.row() | {"per_second": round(len(bits) / seconds)}


class _Sums:
    """What has come of one function in one mode."""

    def __init__(self, name: str, device: str, what: str) -> None:
        self.said: Row = {"device": device, "dtype": "float32", "function": name, "what": what}
        self.name, self.judged, self.beyond, self.worst = name, 0, 0, (-1.0, 0.0, 0.0)
        self.close = self.open = 0
        self.mistaken: list[str] = []
        self.rng = np.random.default_rng(0)

    def add(self, order: int, x: Any, found: Any, exact: list[tuple[Any, Any]]) -> None:
        import torch

        (t, size), (slope, _) = exact
        form = formats.of("float32")
        unit = truth.LIBRARY_ROUNDINGS * form.unit_roundoff
        epsilon = 64 * U64 * size + 1e-280
        # |x·t'| overflows nowhere: t' is 0 in float64 long before
        bound = unit * (t.abs() + (x.double() * slope).abs())
        bound = bound + truth.LIBRARY_ROUNDINGS * 2.0**form.smallest_exponent
        error = (found.double() - t).abs()
        error = torch.where(torch.isnan(error), torch.inf, error)
        fails = error > bound * (1 + 256 * U64) + epsilon
        close = ~fails & ~(error <= bound * (1 - 256 * U64) - epsilon)
        exponent = torch.frexp(t)[1] - form.precision
        off = torch.where(t.abs() >= 2.0**form.emin, torch.ldexp(error, -exponent), 0.0)
        i = int(off.argmax())
        self.worst = max(self.worst, (float(off[i]), float(x[i]), float(found[i])))
        self.judged += len(x)
        self.beyond += int(fails.sum())
        places = torch.nonzero(close).ravel()
        self.close += len(places)
        self.open += max(len(places) - CLOSE, 0)
        self.beyond += self._by_balls(order, x[places[:CLOSE]], found[places[:CLOSE]])
        self._spot_checks(order, x, t, epsilon)

    def _by_balls(self, order: int, x: Any, found: Any) -> int:
        if not len(x):
            return 0
        judged = judge(found.cpu().numpy(), _exact(self.name, order, x), formats.of("float32"))
        return int(np.sum(judged.verdicts != Verdict.CORRECT))

    def _spot_checks(self, order: int, x: Any, t: Any, epsilon: Any) -> None:
        spots = self.rng.integers(0, len(x), SPOTS)
        for ball, v, r, at in zip(
            _exact(self.name, order, x[spots]).exact, t[spots].tolist(), epsilon[spots].tolist(),
            x[spots].tolist(), strict=True,
        ):  # fmt: skip
            if abs(ball - v) > r:  # for certain: balls are narrow where float32 has numbers
                self.mistaken.append(f"at {at} float64 gives {v}, exactly it is {ball}")

    def row(self) -> Row:
        off, at, computed = self.worst
        outcome = "failed" if self.mistaken else "finding" if self.beyond else "holds"
        return self.said | {
            "outcome": "inconclusive" if self.open and outcome == "holds" else outcome, "judged": self.judged,
            "beyond": self.beyond, "worst_ulps": off, "at": at, "computed": computed, "by_balls": self.close,
            "undecided": self.open, "reason": "; ".join(self.mistaken[:3]),
        }  # fmt: skip


def _exact(name: str, order: int, x: Any) -> Any:
    """Give the truth of an activation, or of its slope, at float32 numbers."""
    function, at = textbook.CATALOGUE[name].function, x.cpu().numpy()
    if order == 0:
        return truth.value(function, [at], formats.of("float32"), core=(0,))
    return truth.gradient(function, [at], np.ones_like(at), 0, formats.of("float32"), core=(0,))


def planted(setting: Setting, name: str) -> Iterator[Row]:
    """Change one value in half a million by 20 ulps, and the slopes where x > 2 by 170: both must show."""

    def wrong(name: str, x: Any) -> tuple[Any, Any]:
        y, slope = computed(name, x)
        y[int((x - 0.75).abs().argmin())] *= 1 + 2.0**-19
        return y, slope * (1 + 1e-5 * (x > 2))

    for row in every_single(Setting(setting.device, small=True), name, 0, wrong):
        yield row | {"outcome": "rejected" if row["beyond"] else "missed"}
