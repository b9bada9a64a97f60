"""Pictures of claims: declared beside a claim as data, drawn here.

    @xor_exact_solution.plot("Two rectifiers solve XOR")
    def _(check):
        return [Panel("inputs", "x₁", "x₂", surface=Surface(...), curves=[Curve(...)])]

The data come from the claim's own functions, computed by the backend of ``check``; a bug planted in
the backend shows in the picture. ``draw`` makes a matplotlib figure without pyplot's global state,
``write`` puts it into a file, whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffverify.errors import UnavailableError, UsageError
from ffverify.exact.formats import Array
from ffverify.files import refuse_unwritable, write_whole
from ffverify.frameworks.framework import is_installed

from .backends import Backend
from .check import Check

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".png", ".svg")
# Okabe and Ito's colours, which everybody can tell apart (Color Universal Design, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY, INK = "#8a8a8a", "#333333"
COLUMNS = 4  # at most
LABEL_GAP = 0.075  # between the labels of two curves, of an axis's height


@dataclass(frozen=True)
class Curve:
    """Numbers y [n] over x [n], with the label that stands at their end.

    ``style`` is "line", "points" (a marker on each), "marks" (markers alone), or "exact" (dashed and
    grey: a bound, or what the chapter says). Numbers that are not finite leave a gap.
    """

    label: str
    x: Array
    y: Array
    style: str = "line"


@dataclass(frozen=True)
class Surface:
    """Numbers z [m, n] over x [n] and y [m]; lines are drawn at ``levels``."""

    x: Array
    y: Array
    z: Array
    label: str
    levels: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes; ``log`` names those that are logarithmic, as in "xy"."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve] = ()
    surface: Surface | None = None
    log: str = ""


@dataclass(frozen=True)
class Picture:
    """What shows a claim: a title that says what it shows, and its panels on a backend."""

    title: str
    panels: Callable[[Check], list[Panel]]


def or_gap(x: Array, compute: Callable[[], Array]) -> Array:
    """Give what is computed over x, or a gap where the code under test raises."""
    try:
        return compute()
    except Exception:  # noqa: BLE001 - foreign code may raise anything; the claim says what
        return np.full(x.shape, np.nan)


def draw(picture: Picture, check: Check) -> Figure:
    """Draw a picture on the backend and format of a check.

    Raises
    ------
    UsageError
        If matplotlib is not installed, or the code under test raises.
    """
    if not is_installed("matplotlib"):
        raise UnavailableError("matplotlib is not installed: pip install 'ffverify[report]'")
    from matplotlib.figure import Figure

    try:
        with np.errstate(all="ignore"):  # infinities and NaNs are gaps
            panels = picture.panels(check)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}"
        raise UsageError(f"{check.backend.name} cannot draw {picture.title!r}: {said}") from error
    columns = min(len(panels), COLUMNS if len(panels) > COLUMNS else 3)
    rows = -(-len(panels) // columns)
    size = (4.6, 3.7) if rows == 1 else (3.4, 2.8)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _fill(axes, panel)
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.suptitle(picture.title, fontsize=13, color=INK)
    source = f"computed by {check.backend.name} in {check.fmt.name}"
    figure.supxlabel(source, x=0.99, ha="right", fontsize=7, color=GREY)
    return figure


def write(picture: Picture, backend: Backend, path: Path, dtype: str = "float64") -> None:
    """Draw a picture into a file, in the format that its suffix says.

    Raises
    ------
    UnavailableError
        If matplotlib is not installed.
    UsageError
        If the suffix is none of ``SUFFIXES``, or the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot draw {path}: end its name in one of {', '.join(SUFFIXES)}")
    refuse_unwritable(path)
    held = io.BytesIO()
    figure = draw(picture, Check(backend, backend.format(dtype)))
    figure.savefig(held, format=path.suffix.lower()[1:], dpi=160)
    write_whole(path, held.getvalue())


def _fill(axes: Axes, panel: Panel) -> None:
    """Draw a panel."""
    axes.set_title(panel.title, fontsize=10, color=INK)
    axes.set_xlabel(panel.x_label, fontsize=9, color=INK)
    axes.set_ylabel(panel.y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if "x" in panel.log:
        axes.set_xscale("log")
    else:
        axes.locator_params(axis="x", nbins=5)
    if "y" in panel.log:
        axes.set_yscale("log")
    if panel.surface is not None:
        _fill_surface(axes, panel.surface)
    else:
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    colours = iter(COLOURS * len(panel.curves))
    drawn = [
        (curve, _line(axes, curve, GREY if curve.style == "exact" else next(colours)))
        for curve in panel.curves
    ]
    if panel.surface is None:
        _label_ends(axes, drawn)
    else:
        for curve, _ in drawn:
            _label_points(axes, curve)


def _line(axes: Axes, curve: Curve, colour: str) -> str:
    """Draw one curve; give its colour."""
    looks: dict[str, dict[str, Any]] = {
        "line": {"linewidth": 1.6},
        "points": {"marker": "o", "markersize": 4, "linewidth": 1.0},
        "exact": {"linestyle": (0, (4, 3)), "linewidth": 1.2},
        "marks": {"marker": "o", "markersize": 14, "linestyle": "", "markeredgecolor": "white"},
    }
    y = np.where(np.isfinite(curve.y), curve.y, np.nan)
    axes.plot(curve.x, y, color=colour, label=curve.label, **looks[curve.style])
    return colour


def _label_ends(axes: Axes, drawn: Sequence[tuple[Curve, str]]) -> None:
    """Write each curve's label beside its last number, in its colour, none over another."""
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = []
    for curve, colour in drawn:
        seen = np.flatnonzero(np.isfinite(curve.y))
        if len(seen) and curve.label:
            _, y = to_axes.transform((curve.x[seen[-1]], curve.y[seen[-1]]))
            ends.append((float(y), curve.label, colour))
    ends.sort()
    tall = [LABEL_GAP * (1 + label.count("\n")) for _, label, _ in ends]
    heights = _apart([y for y, _, _ in ends], tall)
    for height, (_, label, colour) in zip(heights, ends, strict=True):
        axes.text(
            1.02, height, label, color=colour, fontsize=8.5, transform=axes.transAxes, va="center"
        )


def _apart(heights: list[float], tall: list[float]) -> list[float]:
    """Move ascending heights apart, so that labels as tall as given do not touch; up to 1."""
    gaps = [(a + b) / 2 for a, b in pairwise(tall)]
    out = [max(h, 0.0) for h in heights]
    for i, gap in enumerate(gaps):
        out[i + 1] = max(out[i + 1], out[i] + gap)
    if out:
        out[-1] = min(out[-1], 1.0)
    for i, gap in reversed(list(enumerate(gaps))):
        out[i] = min(out[i], out[i + 1] - gap)
    return out


def _fill_surface(axes: Axes, surface: Surface) -> None:
    mesh = axes.pcolormesh(surface.x, surface.y, surface.z, cmap="cividis", shading="nearest")
    mesh.set_rasterized(True)
    if surface.levels:
        lines = axes.contour(
            surface.x, surface.y, surface.z, levels=sorted(surface.levels), colors="white",
            linewidths=1.4,
        )  # fmt: skip
        axes.clabel(lines, fontsize=8)
    if surface.label:
        bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02)
        bar.set_label(surface.label, fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, colors=INK)
    axes.set_aspect("equal")


def _label_points(axes: Axes, curve: Curve) -> None:
    """Write a curve's label on each of its points."""
    for x, y in zip(curve.x, curve.y, strict=True):
        axes.text(
            x, y, curve.label, fontsize=9, color="white", weight="bold", ha="center",
            va="center_baseline",
        )  # fmt: skip
