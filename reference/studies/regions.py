"""Count the linear regions of piecewise-linear networks exactly.

Networks of ReLU, absolute-value, leaky, maxout and identity units cut their input space into
polyhedra, on each of which they are affine. Here one can list these polyhedra with the exact affine
map on each (`activation_regions`), count them (`count_activation_regions`, `count_linear_regions`),
cut a line into its affine pieces (`pieces_along`), and build the networks that reach the known
bounds (`folding_layers`, `montufar_layers`). Weights are floats, hence rational numbers; everything
is computed in integers, nothing is sampled or rounded, and degenerate positions need no care.

Two counts, and they differ:

- an *activation region* is the set of inputs at which every unit is on the same piece (a pattern:
  which of its pieces each unit takes), where that set has interior points. It is convex.
- a *linear region* is a maximal connected set on which the last layer's outputs are one affine map:
  activation regions with equal maps that share a facet are one linear region.

Sources: Zaslavsky 1975 (cells of an arrangement); Montúfar, Pascanu, Cho & Bengio 2014, "On the
number of linear regions of deep neural networks"; chapter 6.4.1.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .polyhedra import (
    Cone,
    Vector,
    clip,
    combine,
    count_connected,
    dot,
    interior_point,
    polyhedron,
    unit_vectors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ffverify.reference.networks.network import MLP

Rational = tuple[Fraction, ...]


@dataclass(frozen=True)
class Layer:
    """One layer h = unit(x @ weights + bias), as the counting functions take it.

    Parameters
    ----------
    weights : array [n_in, m]
        Floats, integers or Fractions, all taken exactly.
    bias : array [m], or None for no bias
    unit : "relu", "absolute", "leaky_relu", "prelu", "maxout" or "identity"
    slope : the slope for z < 0 of "leaky_relu" and "prelu", one or one per unit, at most 1
    k : the number of adjacent outputs of which a maxout unit takes the maximum
    """

    weights: Any
    bias: Any = None
    unit: str = "relu"
    slope: Any = 0.01
    k: int = 2


class Region(NamedTuple):
    """A polyhedron on which the network is affine: outputs = x @ weights + bias, exactly.

    ``pattern[l][j]`` is the piece that unit j of layer l takes: for ReLU 0 is inactive and 1
    active, for the absolute value 0 is z < 0, for maxout it is the index of the maximum (the first
    one, where several are equal throughout). ``inside`` is a point of the interior.
    """

    pattern: tuple[tuple[int, ...], ...]
    weights: tuple[Rational, ...]
    bias: Rational
    inside: Rational


class Piece(NamedTuple):
    """An affine piece: outputs = slope · t + intercept for start <= t <= end."""

    start: Fraction
    end: Fraction
    slope: Rational
    intercept: Rational


def _exact(value: Any) -> Fraction:
    try:
        return Fraction(*value.as_integer_ratio())
    except AttributeError:
        return Fraction(operator.index(value))  # NumPy's integers, which would overflow
    except (OverflowError, ValueError):
        raise ValueError(
            f"weight {value} is not finite: regions are only defined for finite weights"
        ) from None


def _domain(d: int, box: tuple[Any, Any] | None) -> Cone:
    """Return R^d, or [low, high]^d."""
    one, *axes = unit_vectors(d + 1)
    sides = []
    if box is not None:
        low, high = map(_exact, box)
        for axis in axes:
            sides.append(combine(low.denominator, axis, -low.numerator, one))
            sides.append(combine(-high.denominator, axis, high.numerator, one))
    domain = polyhedron(d, sides)
    if domain is None:
        raise ValueError(f"box = {box} has no interior: give (low, high) with low < high")
    return domain


def _pieces(layer: Layer) -> tuple[list[list[Vector]], int]:
    """Write each unit as the maximum of affine functions (bias, weights...).

    A rectifier is max(slope z, z): ReLU with slope 0, the absolute value with -1. Returns integers,
    and the scale by which they are to be divided.
    """
    weights = np.asarray(layer.weights)
    if weights.ndim != 2:
        raise ValueError(f"weights have shape {weights.shape}: give a matrix [n_in, m]")
    m = weights.shape[1]
    bias = np.zeros(m) if layer.bias is None else np.asarray(layer.bias)
    if bias.shape != (m,):
        raise ValueError(
            f"bias has shape {bias.shape}, but the weights {weights.shape} need ({m},)"
        )
    rows = [[_exact(bias[j]), *map(_exact, weights[:, j])] for j in range(m)]
    below = {"relu": 0, "absolute": -1, "leaky_relu": layer.slope, "prelu": layer.slope}
    if layer.unit == "maxout":
        if layer.k < 1 or m % layer.k:
            raise ValueError(f"{m} outputs are no groups of k = {layer.k}: give a multiple of k")
        groups = [rows[j : j + layer.k] for j in range(0, m, layer.k)]
    elif layer.unit == "identity":
        groups = [[row] for row in rows]
    elif layer.unit in below:
        slopes = [_exact(slope) for slope in np.broadcast_to(below[layer.unit], m)]
        if max(slopes, default=0) > 1:
            raise ValueError(f"slope {max(slopes)} makes the unit a minimum: give at most 1")
        groups = [[[a * c for c in row], row] for a, row in zip(slopes, rows, strict=True)]
    else:
        known = [*below, "maxout", "identity"]
        raise ValueError(f"unit {layer.unit!r} is not piecewise linear: give one of {known}")
    scale = math.lcm(*(c.denominator for group in groups for row in group for c in row))
    return [[tuple(int(c * scale) for c in row) for row in group] for group in groups], scale


class _Cell(NamedTuple):
    """An activation region while the layers are walked: outputs are rows · (1, x) / scale."""

    cone: Cone
    rows: tuple[Vector, ...]
    scale: int
    pattern: tuple[tuple[int, ...], ...]


def _through(cell: _Cell, units: list[list[Vector]], scale: int) -> list[_Cell]:
    """Cut one cell by the units of the next layer."""
    one = (cell.scale, *[0] * (len(cell.cone.halfspaces[0]) - 1))
    found: list[tuple[Cone, tuple[Vector, ...], tuple[int, ...]]] = [(cell.cone, (), ())]
    for pieces in units:
        # Each piece as a function of x: piece[0] + Σ piece[i] h_i(x), h_i the layer below.
        rows = [
            tuple(dot(piece, column) for column in zip(one, *cell.rows, strict=True))
            for piece in pieces
        ]
        found = [
            (part, (*done, row), (*pattern, winner))
            for cone, done, pattern in found
            for winner, row in enumerate(rows)
            if (part := _where_largest(cone, rows, winner))
        ]
    cells = []
    for cone, rows_x, pattern in found:
        divisor = math.gcd(cell.scale * scale, *(c for row in rows_x for c in row))
        reduced = tuple(tuple(c // divisor for c in row) for row in rows_x)
        cells.append(_Cell(cone, reduced, cell.scale * scale // divisor, (*cell.pattern, pattern)))
    return cells


def _where_largest(cone: Cone, rows: Sequence[Vector], winner: int) -> Cone | None:
    """Return where in the cone ``rows[winner]`` is the largest; of equal rows the first wins."""
    part: Cone | None = cone
    for i, row in enumerate(rows):
        if i != winner and part:
            lead = combine(1, rows[winner], -1, row)
            part = (None if i < winner else part) if not any(lead) else clip(part, lead)
    return part


def _cells(layers: Iterable[Layer], box: tuple[Any, Any] | None) -> list[_Cell]:
    layers = list(layers)
    if not layers:
        raise ValueError("no layers: give at least one Layer")
    cells: list[_Cell] = []
    for number, layer in enumerate(layers):
        units, scale = _pieces(layer)
        n_in = len(units[0][0]) - 1 if units else 0
        if not cells:
            cone = _domain(n_in, box)
            cells = [_Cell(cone, unit_vectors(n_in + 1)[1:], 1, ())]
        if n_in != len(cells[0].rows):
            raise ValueError(
                f"layer {number} takes {n_in} inputs, "
                f"but the one below has {len(cells[0].rows)} outputs"
            )
        cells = [part for cell in cells for part in _through(cell, units, scale)]
    return cells


def _map(cell: _Cell) -> tuple[Rational, ...]:
    return tuple(tuple(Fraction(c, cell.scale) for c in row) for row in cell.rows)


def activation_regions(
    layers: Iterable[Layer], *, box: tuple[Any, Any] | None = None
) -> list[Region]:
    """List the activation regions of a network, on all of R^d or on [low, high]^d.

    The cost grows with the number of regions found, and d <= 3 is what it is meant for.

    Raises
    ------
    ValueError
        for shapes that do not fit, units not piecewise linear, weights not finite.
    """
    regions = []
    for cell in _cells(layers, box):
        weights = tuple(zip(*(row[1:] for row in _map(cell)), strict=True))
        bias = tuple(row[0] for row in _map(cell))
        regions.append(Region(cell.pattern, weights, bias, interior_point(cell.cone)))
    return regions


def count_activation_regions(layers: Iterable[Layer], *, box: tuple[Any, Any] | None = None) -> int:
    """Count the activation patterns whose set of inputs has interior points."""
    return len(_cells(layers, box))


def count_linear_regions(layers: Iterable[Layer], *, box: tuple[Any, Any] | None = None) -> int:
    """Count the maximal connected sets on which the last layer's outputs are one affine map."""
    same_map: defaultdict[tuple[Rational, ...], list[Cone]] = defaultdict(list)
    for cell in _cells(layers, box):
        same_map[_map(cell)].append(cell.cone)
    return sum(map(count_connected, same_map.values()))


def pieces_along(layers: Iterable[Layer], start: Sequence[Any], end: Sequence[Any]) -> list[Piece]:
    """Cut the segment from ``start`` (t = 0) to ``end`` (t = 1) into the network's affine pieces.

    Neighbouring pieces have different maps, so their ends are the exact breakpoints.
    """
    if np.shape(start) != np.shape(end):
        raise ValueError(f"the ends have shapes {np.shape(start)} and {np.shape(end)}: give one")
    p, q = ([_exact(c) for c in point] for point in (start, end))
    direction = [b - a for a, b in zip(p, q, strict=True)]
    segment = Layer(np.array([direction], dtype=object), np.array(p, dtype=object), "identity")
    pieces: list[Piece] = []
    found = []
    for cell in _cells([segment, *layers], (0, 1)):
        left, right = sorted(Fraction(g[1], g[0]) for g, _ in cell.cone.rays)
        found.append(Piece(left, right, *reversed(tuple(zip(*_map(cell), strict=True)))))
    for piece in sorted(found):
        if pieces and pieces[-1][2:] == piece[2:]:
            pieces[-1] = pieces[-1]._replace(end=piece.end)
        else:
            pieces.append(piece)
    return pieces


# Bounds, and the networks that reach them


def cells_in_general_position(n: int, d: int) -> int:
    """Return Σ_{j<=d} C(n, j): cells of n hyperplanes of R^d in general position (Zaslavsky)."""
    return sum(math.comb(n, j) for j in range(d + 1))


def upper_bound(widths: Iterable[int], d: int) -> int:
    """Return Π_l Σ_{j<=d} C(n_l, j): no ReLU network of these hidden widths has more regions."""
    return math.prod(cells_in_general_position(n, d) for n in widths)


def montufar_bound(n: int, d: int, depth: int) -> int:
    """Return ⌊n/d⌋^{d(depth-1)} Σ_{j<=d} C(n, j), which `montufar_layers` reaches."""
    folds: int = (n // d) ** (d * (depth - 1))
    return folds * cells_in_general_position(n, d)


def folding_layers(depth: int) -> list[Layer]:
    """Build ``depth`` layers of one unit |2h - 1|: they fold [0, 1] into 2^depth affine pieces."""
    return [Layer(np.array([[2.0]]), np.array([-1.0]), "absolute")] * depth


def montufar_layers(n: int, d: int, depth: int) -> list[Layer]:
    """Build ``depth`` ReLU layers of n >= d units with `montufar_bound` regions on [0, 1]^d.

    Every layer but the last folds each axis of the cube p = ⌊n/d⌋ times onto itself, with units
    relu(p u), relu(2 (p u - 1)), relu(2 (p u - 2)), ... summed with alternating signs by the layer
    above. The last one cuts the cube by the hyperplanes Σ_i t^(i-1) x_i = t^d, t = 0, 1/n, 2/n...:
    in general position, with all their common points inside, since those are coefficients of
    polynomials with roots in [0, 1], at most C(d, i) < 2^d in size. The count is exact.
    """
    if n < d:
        raise ValueError(f"n = {n} units cannot fold d = {d} axes: give n >= d")
    p = n // d
    fold = np.zeros((d, n))  # unit a p + j is the j-th of axis a; units beyond p d stay at zero
    shift = np.zeros(n)
    unfold = np.zeros((n, d))
    for axis in range(d):
        for j in range(p):
            fold[axis, axis * p + j] = 2 * p if j else p
            shift[axis * p + j] = -2 * j
            unfold[axis * p + j, axis] = -1 if j % 2 else 1
    cut = np.array([[float(t**i * n ** (d - i)) for t in range(n)] for i in range(d)])
    offset = np.array([-float(t**d) for t in range(n)]) - 2**d * cut.sum(axis=0)
    last = (2 ** (d + 1) * cut, offset)  # the cube's [0, 1] is x in [-2^d, 2^d]
    maps = [(fold, shift)] * (depth - 1) + [last]
    return [Layer(unfold @ w if i else w, b) for i, (w, b) in enumerate(maps)]


def layers_of(network: MLP, params: Sequence[dict[str, Any]]) -> list[Layer]:
    """Read the layers of an MLP with its parameters."""
    return [
        Layer(p["W"], p.get("b"), str(unit), slope=p.get("alpha", 0.01), k=network.k)
        for p, unit in zip(params, network.units, strict=True)
    ]
