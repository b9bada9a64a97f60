"""A gradient check as a result like a claim's, so that every report can have it."""

from __future__ import annotations

from typing import Any

from ffverify.conformance.claim import Result
from ffverify.exact.formats import dtype_name, is_floating
from ffverify.frameworks.framework import framework_of, is_installed
from ffverify.gradients.report import GradcheckReport


def figure_of(report: GradcheckReport) -> Any:
    """Draw the error around the input of the first finding; None where nothing can be drawn."""
    if report.ok or not is_installed("matplotlib"):
        return None
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6, 2.6), layout="constrained").add_subplot()
    try:
        report.plot(axes)
    except Exception:  # noqa: BLE001 - beside the input foreign code may raise anything
        return None
    return axes.figure


def result_of(report: GradcheckReport) -> Result:
    """Give the result that a report of gradcheck comes to."""
    floats = [dtype_name(a) for a in report.inputs if is_floating(a)]
    errors = [f for f in report.findings if f.severity == "error"]
    return Result(
        claim=report.name,
        backend=framework_of(*report.inputs).name,
        dtype=errors[0].dtype if errors else floats[0] if floats else "float64",
        status="holds" if report.ok else "fails" if errors else "inconclusive",
        findings=report.findings,
        worst_ulps=report.worst_ulps,
        examples=report.points,
        seconds=report.seconds,
        reason="" if report.ok or errors else "nothing could be judged",
    )
