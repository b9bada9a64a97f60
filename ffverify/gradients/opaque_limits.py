"""Slopes beside a point of a function of which only differences are known: ties and kinks of opaque code.

``limits_by_differences`` is for kernels what `ffverify.truth.neighbourhood` is for exact programs, and
no sharper than differences are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffverify.exact.formats import Array, is_floating
from ffverify.frameworks.arrays import to_numpy
from ffverify.truth.neighbourhood import spread_moves

from .judge.by_differences import Opaque, shifted, unit_roundoff

_BESIDE = 24  # points around a point
_ZERO = 2.0**-400  # what is smaller moves as zeros do: by the size of the other numbers
_LEAST = 2.0**-500  # a step that divides numbers of any size


def limits_by_differences(
    opaque: Opaque, directions: Sequence[Array | None], weights: Array
) -> tuple[float, float] | None:
    """Give the hull of slopes of ⟨weights, results⟩ beside the point; None where they are all alike.

    At ties of a sort no input alone moves the middle one, and no kink shows along it; the limits of
    gradients nearby, each a right answer, differ all the same (see there). Inputs move in
    another order at every point, by some square roots of the unit roundoff, which balances truncation
    and noise. Where the function is smooth slopes draw together as the points do: only what stays apart
    when the points come eight times nearer, and is more than noise, is a hull of limits.
    """
    wide = opaque.inputs
    # Inside it may round to the narrowest format of its inputs.
    unit = max(unit_roundoff(n) for n in opaque.native if is_floating(n))
    within = opaque.noise(weights)
    sizes = [np.abs(to_numpy(w).ravel().astype(np.float64)) for w in wide if is_floating(w)]
    numbers = [s > _ZERO for s in sizes]
    smallest = min(
        (float(s[n].min()) for s, n in zip(sizes, numbers, strict=True) if n.any()), default=1.0
    )
    scales = np.concatenate([np.where(n, s, smallest) for s, n in zip(sizes, numbers, strict=True)])
    steps = np.concatenate(
        [
            np.zeros(to_numpy(w).size) if d is None else np.abs(d).ravel()
            for w, d in zip(wide, directions, strict=True)
            if is_floating(w)
        ]
    )
    if scales.size < 2 or not np.any(steps):
        return None
    rng = np.random.default_rng(scales.size)
    hulls = []
    for nearness in (1.0, 0.125):
        far = min(64 * scales.size * unit**0.5, 2.0**-6) * nearness
        gap = far * scales / (scales.size + 1)
        h = float((gap[steps != 0] / steps[steps != 0]).min()) / 4
        if h < _LEAST:
            return None
        slopes, noise = [], 0.0
        for k in range(_BESIDE):
            moves = far * scales * spread_moves(scales.size, k, _BESIDE, rng)
            parts = iter(np.split(moves, np.cumsum([s.size for s in sizes])[:-1]))
            there = [
                shifted(w, next(parts).reshape(w.shape), 1.0) if is_floating(w) else w for w in wide
            ]
            ends = []
            for t in (h, -h):
                moved = [
                    w if d is None else shifted(w, d, t)
                    for w, d in zip(there, directions, strict=True)
                ]
                terms = opaque.results(moved)[weights != 0] * weights[weights != 0]
                ends.append(terms.sum())
                noise = max(noise, (4 * unit * float(np.abs(terms).sum()) + within) / h)
            slopes.append(float((ends[0] - ends[1]) / (2 * np.longdouble(h))))
        if not np.isfinite(slopes).all():
            return None
        hulls.append((min(slopes) - noise, max(slopes) + noise, noise))
    (low, high, _), (near_low, near_high, noise) = hulls
    if near_high - near_low <= 8 * noise or 2 * (near_high - near_low) < high - low:
        return None
    return near_low, near_high
