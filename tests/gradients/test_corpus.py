"""The detection corpus: every buggy function is found with the expected verdict, no twin is accused."""

from __future__ import annotations

import pytest

from ffverify.gradients.gradcheck import gradcheck
from tests.corpus import CORPORA
from tests.gradients.checker_mutants import MUTANTS, planted

TELLING = {  # rows of the fresh and the sealed corpus that showed something on their first run
    "cauchy-loss-scale", "cotangent-masked-in-place", "float16-accumulator", "i-torch-squashed-log-det",
    "inverse-tangent-commuted",
    "jax-residual-compressed", "jax-take-fill-clipped", "sparsemax-support", "torch-scatter-amax-ties",
    "worst-two-ties",
}  # fmt: skip
KILLERS = {mutant.killer.split()[0] for mutant in MUTANTS.values() if mutant.killer}
# The first corpus, whose rows are small, and what tells something; the others are an archive that
# ``tests.corpus.compare`` runs.
ROWS = {
    row.name: row
    for name, rows in CORPORA.items()
    for row in rows
    if name == "first" or row.name in TELLING | KILLERS
}
EXAMPLES = 6


def check(row, case, seed=0):
    return gradcheck(
        case.fn, row.drawn(), vjp=case.vjp, jvp=case.jvp, max_examples=EXAMPLES, seed=seed,
        raise_exception=False, **row.options,
    )  # fmt: skip


def skip_without(row):
    if row.framework != "numpy":
        pytest.importorskip(row.framework)


def test_there_are_rows_enough_each_with_a_source():
    assert all(len(rows) >= 40 for rows in CORPORA.values())
    assert all(len(CORPORA[name]) >= 80 for name in ("first", "unseen", "blind"))
    assert all(row.source for rows in CORPORA.values() for row in rows)
    assert set(ROWS) >= TELLING | KILLERS


def test_every_mutant_stands_where_a_rule_is():
    with planted(*MUTANTS):  # raises for a name that is gone
        pass


ALLOWED = {
    "arctanh_square": "its loss is what inputs that are rounded by g·u explain: strict leaves that bound",
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_buggy_function_is_found(row, request):
    skip_without(row)
    if row.name in ALLOWED:
        request.applymarker(pytest.mark.xfail(reason=ALLOWED[row.name], strict=True))
    report = check(row, row.buggy)
    assert not report.ok
    errors = {str(f.kind) for f in report.findings if f.severity == "error"}
    assert row.expected in errors, str(report)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_twin_is_not_accused(row):
    skip_without(row)
    report = check(row, row.twin)
    assert report.ok, str(report)
