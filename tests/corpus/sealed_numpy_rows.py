"""Rows written without a look at gradcheck: dynamic programmes, recurrences, selections in NumPy."""

from __future__ import annotations

import numpy as np

from .rows import box, numpy_row, scattered

# Dynamic programmes and recurrences.


def soft_dtw(d):
    """Give the table of soft alignments and its soft minima (Cuturi and Blondel 2017, γ = 1)."""
    table, minima = {}, {}
    for i in range(3):
        for j in range(3):
            before = [p for p in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p in table]
            minimum = table[before[0]] if before else 0 * d[0, 0]
            for p in before[1:]:
                minimum = -np.logaddexp(-minimum, -table[p])
            minima[i, j], table[i, j] = minimum, d[i, j] + minimum
    return table, minima


def soft_dtw_vjp(upper):
    def vjp(v, d):
        table, minima = soft_dtw(d)
        bars = {(2, 2): v}
        for i in (2, 1, 0):
            for j in (2, 1, 0):
                later = [q for q in ((i + 1, j + 1), (i + 1, j), (i, j + 1)) if q in table]
                shares = [bars[q] * np.exp(upper(table, minima, q) - table[i, j]) for q in later]
                if shares:
                    bars[i, j] = sum(shares)
        return (np.stack([np.stack([bars[i, j] for j in range(3)]) for i in range(3)]),)

    return vjp


numpy_row(
    "soft-dtw-cost-left-in", "soft-DTW kernels: the cell's cost not taken off before the weights",
    lambda d: soft_dtw(d)[0][2, 2],
    soft_dtw_vjp(lambda table, minima, q: table[q]), soft_dtw_vjp(lambda table, minima, q: minima[q]),
    box(3, 3, low=0, high=3),
)  # fmt: skip


def viterbi(e, a):
    score, back = e[0], []
    for row in e[1:]:
        table = score[:, None] + a
        back.append(np.argmax(table, axis=0))
        score = np.max(table, axis=0) + row
    return score, back


def viterbi_vjp(order):
    def vjp(v, e, a):
        score, back = viterbi(e, a)
        path = [np.argmax(score)]
        for pointers in back[::order]:
            path.append(pointers[path[-1]])
        path.reverse()
        g, h = np.zeros_like(e), np.zeros_like(a)
        np.add.at(g, (np.arange(4), path), v)
        np.add.at(h, (path[:-1], path[1:]), v)
        return g, h

    return vjp


numpy_row(
    "viterbi-backtrace-order", "Viterbi loss (structured perceptron): pointers followed from the front",
    lambda e, a: np.max(viterbi(e, a)[0]), viterbi_vjp(1), viterbi_vjp(-1),
    box(4, 3, dtype="float32"), box(3, 3, dtype="float32"),
)  # fmt: skip


def elman(x, w):
    h = np.zeros_like(x[0])
    for row in x:
        h = np.tanh(row + w @ h)
    return h


def elman_vjp(keep):
    def vjp(v, x, w):
        h = np.zeros_like(x[0])
        states = []
        for row in x:
            states.append(keep(h))
            h[:] = np.tanh(row + w @ h)
        g, bar_w, bar = np.zeros_like(x), np.zeros_like(w), v
        for t in (2, 1, 0):
            inner = bar / np.cosh(x[t] + w @ states[t]) ** 2
            g[t] = inner
            bar_w = bar_w + np.outer(inner, states[t])
            bar = w.T @ inner
        return g, bar_w

    return vjp


numpy_row(
    "elman-states-aliased", "recurrent layer in plain NumPy: the list of states holds one buffer thrice",
    elman, elman_vjp(lambda h: h), elman_vjp(np.copy),
    box(3, 2, low=-1, high=1), box(2, 2, low=-1, high=1),
)  # fmt: skip


def same(x, w):
    return np.convolve(x, w, mode="full")[1:8]


def same_vjp(start):
    def vjp(v, x, w):
        whole = np.zeros_like(v, shape=10)
        whole[start : start + 7] = v
        return np.correlate(whole, w, mode="valid"), np.correlate(whole, x, mode="valid")

    return vjp


numpy_row(
    "convolution-same-even", "'same' convolution with an even kernel: padded on the other side backwards",
    same, same_vjp(2), same_vjp(1), box(7, dtype="float32"), box(4, dtype="float32"),
)  # fmt: skip

# Selections, thresholds, ties.


def simplex_threshold(x):
    s = np.sort(x)[::-1]
    c, k = np.cumsum(s), np.arange(1, 6)
    n = np.sum(k * s - c > -1)
    return (c[n - 1] - 1) / n


def sparsemax(x):
    return np.maximum(x - simplex_threshold(x), 0)


def sparsemax_vjp(counted):
    def vjp(v, x):
        on = x > simplex_threshold(x)
        return (np.where(on, v - np.sum(np.where(on, v, 0)) / counted(on), 0),)

    return vjp


numpy_row(
    "sparsemax-support", "sparsemax (Martins 2016): the mean over all classes, not over the support",
    sparsemax, sparsemax_vjp(np.size), sparsemax_vjp(np.sum), box(5, low=-1, high=1),
)  # fmt: skip


def worst_two_vjp(v, x):
    return (scattered(x, np.argsort(-x, kind="stable")[:2], v / 2),)


numpy_row(
    "worst-two-ties", "tail risk (CVaR): mask x >= threshold; wrong at ties with the threshold only",
    lambda x: np.mean(np.sort(x)[-2:]),
    lambda v, x: (v / 2 * (x >= np.sort(x)[-2]),), worst_two_vjp, box(5, dtype="float32"),
)  # fmt: skip
FIRST, SECOND = np.triu_indices(4, 1)


def nearest_image(x):
    d = x[FIRST] - x[SECOND]
    return d - 2 * np.round(d / 2)


def springs_vjp(distance):
    def vjp(v, x):
        force = v * distance(x)
        return (scattered(x, FIRST, force) - scattered(x, SECOND, force),)

    return vjp


numpy_row(
    "minimum-image-force", "periodic box in molecular dynamics: the force of the unwrapped distance",
    lambda x: 0.5 * nearest_image(x) ** 2,
    springs_vjp(lambda x: x[FIRST] - x[SECOND]), springs_vjp(nearest_image), box(4, low=0, high=2),
)  # fmt: skip
KNOTS, HEIGHTS = np.array([-2, -0.5, 1, 2]), np.array([1, -1, 0.5, 3])


def table_slope(x):
    i = np.clip(np.searchsorted(KNOTS, x, side="right") - 1, 0, 2)
    return (np.diff(HEIGHTS) / np.diff(KNOTS))[i]


numpy_row(
    "table-extrapolated", "look-up table by np.interp: constant outside, differentiated as extrapolated",
    lambda x: np.interp(x, KNOTS, HEIGHTS),
    lambda v, x: (v * table_slope(x),),
    lambda v, x: (v * np.where((x >= -2) & (x < 2), table_slope(x), 0),), box(5),
)  # fmt: skip
TOE = np.float32(1 / 64)


def toe_vjp(v, x):
    dark = x <= TOE
    with np.errstate(all="ignore"):
        return (v * dark * 8 + v * ~dark * (0.5 / np.sqrt(x)),)


numpy_row(
    "display-gamma-mask", "display transfer curve: the root's NaN below black multiplied by a mask",
    lambda x: np.where(x <= TOE, 8 * x, np.sqrt(np.maximum(x, TOE))), toe_vjp,
    lambda v, x: (v * np.where(x <= TOE, 8, 0.5 / np.sqrt(np.maximum(x, TOE))),),
    box(4, low=-1, high=1, dtype="float32"), expected="nonfinite",
)  # fmt: skip


def one_stale(v, x):
    g = v / (1 + x * x)
    g[137] *= 1.001
    return (g,)


numpy_row(
    "one-lane-stale", "a vectorised kernel's reciprocal in one of 200 places from a coarse table",
    np.arctan, one_stale, lambda v, x: (v / (1 + x * x),), box(200),
)  # fmt: skip
