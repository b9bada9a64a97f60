"""How tests run: Hypothesis profiles, with everything stated, and who takes which test."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings

for name, examples in (("dev", 25), ("ci", 100), ("nightly", 5000)):
    settings.register_profile(
        name,
        max_examples=examples,
        derandomize=True,  # the same inputs in every run and on every worker
        database=None,
        deadline=None,  # time is noisy, and no property of the code
        phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
        print_blob=False,
        report_multiple_bugs=True,
        stateful_step_count=50,
        suppress_health_check=[HealthCheck.too_slow],
        verbosity=Verbosity.normal,
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background, where no key is heard
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests press Ctrl-C, and time limits do


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Let an idle worker take tests from another: most of the time goes to a few files, one after another."""
    if config.getvalue("dist") != "load":  # somebody chose
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
