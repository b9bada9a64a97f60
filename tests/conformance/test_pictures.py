"""Pictures show the claims' own numbers, and a planted bug shows in them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from click.testing import CliRunner

from ffverify.command import main as cli
from ffverify.conformance import pictures as plots
from ffverify.conformance.backends import Backend, load
from ffverify.conformance.check import Check
from ffverify.conformance.claim import Claim, claims
from ffverify.conformance.pictures import Curve, Panel, Picture, Surface
from ffverify.conformance.verification import find_claim
from ffverify.errors import UsageError
from ffverify.exact import formats
from ffverify.frameworks import framework as frameworks
from ffverify.truth import derivatives as truth
from ffverify.truth import textbook
from ffverify.verdicts.verdict import judge

pytest.importorskip("matplotlib")

DRAWN = [c for c in claims() if c.pictures]
WANTED = {
    "xor_exact_solution",  # the decision surface
    "mse_and_mae_saturate_output_units",  # against cross-entropy
    "softmax_shift_invariance",
    "modern_units",  # hidden units with derivatives
    "one_hidden_layer_approximates_continuous_functions",  # fits
    "wider_networks_fit_better",  # error against width
    "folding_doubles_the_regions",
    "linear_region_counts",
    "mode_cost_scales_with_the_other_side",
    "krylov_needs_only_products",  # Lanczos
}


def _panels(claim: Claim, backend: Backend) -> list[Panel]:
    with np.errstate(all="ignore"):
        return claim.picture(backend).panels(Check(backend, backend.format("float64")))


def _numbers(panels: list[Panel]) -> list[Any]:
    curves = [c.y for p in panels for c in p.curves]
    surfaces = [p.surface.z for p in panels if p.surface is not None]
    return [*curves, *surfaces, [p.title for p in panels]]


def test_what_issue_and_design_ask_for_is_drawn() -> None:
    assert {c.id for c in DRAWN} >= WANTED
    assert all(len(c.pictures) == 1 for c in DRAWN)


@pytest.mark.parametrize("claim", DRAWN, ids=lambda c: c.id)
def test_the_axes_hold_the_claims_numbers_and_say_what_they_are(claim: Claim) -> None:
    backend = load("reference")
    figure = plots.draw(claim.picture(load("reference")), Check(backend, backend.format("float64")))
    panels = _panels(claim, backend)
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert len(drawn) == len(panels)
    for axes, panel in zip(drawn, panels, strict=True):
        assert (axes.get_title(), axes.get_xlabel()) == (panel.title, panel.x_label)
        for line, curve in zip(axes.get_lines(), panel.curves, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), curve.x)
            np.testing.assert_array_equal(
                line.get_ydata(), np.where(np.isfinite(curve.y), curve.y, np.nan)
            )
        if panel.surface is not None:
            np.testing.assert_array_equal(
                np.ravel(axes.collections[0].get_array()), panel.surface.z.ravel()
            )
        labels = {text.get_text() for text in axes.texts}
        assert labels >= {c.label for c in panel.curves if np.isfinite(c.y).any()} - {""}


@pytest.mark.parametrize("claim", DRAWN, ids=lambda c: c.id)
def test_other_backends_draw_or_say_what_they_lack(claim: Claim) -> None:
    pytest.importorskip("torch")
    backend = load("torch")
    if claim.missing(backend):
        with pytest.raises(UsageError, match=r"torch cannot draw .*: it has no "):
            claim.picture(backend)
    else:
        assert _numbers(_panels(claim, backend))


@pytest.mark.parametrize("claim", DRAWN, ids=lambda c: c.id)
def test_a_planted_bug_shows_in_the_picture(claim: Claim) -> None:
    right = _numbers(_panels(claim, load("reference")))

    def shows(broken: Backend) -> bool:
        wrong = _numbers(_panels(claim, broken))
        *pairs, titles = zip(right, wrong, strict=True)
        # What moves by less than a thousandth of itself nobody sees in a picture.
        return titles[0] != titles[1] or any(
            not np.allclose(a, b, equal_nan=True, rtol=1e-3, atol=0) for a, b in pairs
        )

    assert any(shows(bug.plant(load("reference"))) for bug in claim.bugs)


def test_the_units_drawn_are_those_of_the_textbook() -> None:
    fmt = formats.of("float64")
    for panel in _panels(find_claim("modern_units"), load("reference")):
        value, slope, _ = panel.curves
        unit = textbook.CATALOGUE[panel.title].function
        exact = truth.value(unit, [value.x], fmt, core=(0,))
        assert judge(value.y, exact, fmt).worst is None
        assert judge(value.y + 1e-12, exact, fmt).worst is not None
        slopes = truth.gradient(unit, [slope.x], np.ones_like(slope.x), 0, fmt, core=(0,))
        assert judge(slope.y, slopes, fmt).worst is None


def test_torchs_cancelling_slope_shows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (_, slopes) = _panels(find_claim("sigmoidal_units_saturate"), load("torch"))
    by_label = {c.label: c for c in slopes.curves if c.label}
    assert by_label["sigmoid'"].y[-1] == 0.0
    reference = _panels(find_claim("sigmoidal_units_saturate"), load("reference"))[1]
    assert {c.label: c for c in reference.curves}["sigmoid'"].y[-1] > 0.0


def test_labels_never_overlap_and_stay_in_order() -> None:
    heights = plots._apart([0.5, 0.5, 0.51, 0.99, 1.2], [0.1, 0.1, 0.2, 0.1, 0.1])
    gaps = np.diff(heights)
    assert np.all(gaps >= np.array([0.1, 0.15, 0.15, 0.1]) - 1e-12)
    assert heights[-1] <= 1.0
    assert plots._apart([], []) == []


PICTURE = Picture(
    "a picture",
    lambda check: [
        Panel("a", "x", "y", [Curve("line", np.arange(3), np.array([1, np.inf, 2]))]),
        Panel("b", "x", "y", surface=Surface(np.arange(2), np.arange(2), np.eye(2), "z", [0.5])),
    ],
)


@pytest.mark.parametrize("suffix", plots.SUFFIXES)
def test_every_format_is_written_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    plots.write(PICTURE, load("reference"), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size > 1000


def test_a_picture_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.png"
    path.write_bytes(b"old")

    def fails(check: Check) -> list[Panel]:
        raise ArithmeticError("no numbers")

    with pytest.raises(UsageError, match="ArithmeticError: no numbers"):
        plots.write(Picture("a picture", fails), load("reference"), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _explained(*words: str) -> SimpleNamespace:
    """Run as the command line does, which turns a wrong word into a line and an exit code."""
    called = ["ffverify", "explain", *words, "--backend", "reference"]
    code: Any = 0
    with CliRunner().isolation() as streams, mock.patch.object(sys, "argv", called):
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        sys.stdout.flush()
        out, err = (stream.getvalue().decode() for stream in streams[:2])
    return SimpleNamespace(exit_code=code, stdout=out, stderr=err)


def test_explain_draws(tmp_path: Path) -> None:
    path = tmp_path / "xor.png"
    result = _explained("xor_exact_solution", "--plot", str(path))
    assert result.exit_code == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "XOR by two rectifiers" in result.stdout


@pytest.mark.parametrize(
    ("claim", "path", "says"),
    [
        ("logit_is_log_odds", "x.png", "logit_is_log_odds has no picture; these have one: xor_"),
        ("xor_exact_solution", "x.gif", "end its name in one of .pdf, .png, .svg"),
        ("xor_exact_solution", "nowhere/x.png", "there is no folder"),
    ],
)
def test_a_wrong_word_is_one_line_and_leaves_nothing(
    tmp_path: Path, claim: str, path: str, says: str
) -> None:
    result = _explained(claim, "--plot", str(tmp_path / path))
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_there_is_one_line_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plots, "is_installed", lambda name: name != "matplotlib")
    result = _explained("xor_exact_solution", "--plot", str(tmp_path / "x.png"))
    assert result.exit_code == 2
    assert (
        result.stderr == "ffverify: matplotlib is not installed: pip install 'ffverify[report]'\n"
    )
    assert not list(tmp_path.iterdir())


def test_no_global_state_of_pyplot_is_used() -> None:
    source = importlib.util.find_spec("ffverify.conformance.pictures")
    assert source is not None
    assert source.origin is not None
    assert "import matplotlib.pyplot" not in Path(source.origin).read_text(encoding="utf-8")
    assert frameworks.is_installed("matplotlib")


def test_what_a_module_cannot_draw_is_a_gap_or_one_line() -> None:
    softmax = {"softmax": load("reference").functions["softmax"]}
    without = Backend("mine", frameworks.framework("numpy"), softmax)
    drawn = _panels(
        find_claim("softmax_shift_invariance"), without
    )  # its printed form needs an exp
    assert any(np.isnan(curve.y).all() for p in drawn for curve in p.curves)
    assert any(np.isfinite(curve.y).all() for p in drawn for curve in p.curves)

    def panels(check: Check) -> list[Panel]:
        raise AttributeError("no exp")

    with pytest.raises(UsageError, match="mine cannot draw 'Two': AttributeError: no exp"):
        plots.draw(Picture("Two", panels), Check(without, without.format("float64")))


def test_titles_are_plain_text_which_a_page_can_show() -> None:
    assert not [p.title for c in DRAWN for p in c.pictures if "$" in p.title]
