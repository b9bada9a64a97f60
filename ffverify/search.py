"""Deterministic search: Hypothesis draws inputs from a seed alone, and shrinks what fails.

Everything that Hypothesis would take from its surroundings is stated: no database, no deadline, no
profile, and no constants read from whatever local modules happen to be imported. The same seed so
gives the same inputs in every process, which is what makes runs with any number of workers agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import (
    HealthCheck,
    Phase,
    control,
    currently_in_test_context,
    given,
    seed,
    settings,
)
from hypothesis import strategies as st
from hypothesis.internal import constants_ast
from hypothesis.internal.conjecture import providers


@contextmanager
def _no_local_constants() -> Iterator[None]:
    """Keep Hypothesis from drawing numbers out of the source of imported local modules."""
    if not hasattr(providers, "_get_local_constants"):  # before 6.131 it did not look
        yield
        return
    nothing = constants_ast.Constants()
    cache = providers.CONSTANTS_CACHE.cache
    cache.clear()
    try:
        with mock.patch.object(providers, "_get_local_constants", return_value=nothing):
            yield
    finally:
        cache.clear()


def leave_out(began: float) -> None:
    """Leave the time since a reading of `time.perf_counter` out of a Hypothesis test's deadline.

    A deadline is for the test's own code; a check's first input alone imports a framework's rules. The
    time goes where that of steps of stateful tests goes, which Hypothesis takes off the test's. Outside of
    such a test nothing happens.
    """
    if currently_in_test_context():
        data = control.current_build_context().data
        times = getattr(data, "_stateful_run_times", None)  # no public name
        if times is not None:
            times["execute:gradcheck"] += time.perf_counter() - began


def search(
    strategy: st.SearchStrategy[Any],
    examine: Callable[[Any], None],
    *,
    seed_value: int,
    max_examples: int,
    shrink: bool = True,
) -> None:
    """Call ``examine`` on drawn inputs; what it raises comes out for the smallest failing one.

    Without ``shrink`` it comes out for the first one.
    """

    @seed(seed_value)
    @settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def examined(drawn: Any) -> None:
        examine(drawn)

    with _no_local_constants():
        examined()
