"""The plugin and the decorator, from a user's side."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

BROKEN = """
import numpy as np

def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def tanh(z):
    return 2 * sigmoid(z) - 1  # should be 2 * sigmoid(2 * z) - 1
"""


@pytest.fixture
def library(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(mylib=BROKEN)
    return pytester


def test_the_claims_of_a_package_run_against_a_users_module(library: pytest.Pytester) -> None:
    result = library.runpytest_subprocess(
        "--pyargs",
        "ffverify.specs",
        "--ffverify-backend",
        "mylib",
        "--ffverify-spec",
        "tanh_is_scaled_sigmoid",
        "-q",
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*wrong: tanh(*but should be*", "*ffverify replay *"])
    result.stdout.no_fnmatch_line("*pytest_specs.py*")  # our own frames stay hidden


def test_the_decorator_makes_one_test_per_claim_and_dtype(library: pytest.Pytester) -> None:
    library.makepyfile(
        """
        import ffverify

        claims = ["tanh_is_scaled_sigmoid", "xor_exact_solution"]

        @ffverify.parametrize_specs("mylib", claims, dtypes=["float64"])
        def test_mylib(spec):
            spec()
        """
    )
    library.runpytest_subprocess("-q").assert_outcomes(failed=1, skipped=1)


def test_a_wrong_option_is_a_usage_error(library: pytest.Pytester) -> None:
    result = library.runpytest_subprocess(
        "--pyargs", "ffverify.specs", "--ffverify-backend", "no_such_thing"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ffverify: backend 'no_such_thing' is neither known*"])


def test_loading_the_plugin_loads_nothing_heavy(library: pytest.Pytester) -> None:
    library.makepyfile(
        """
        import sys

        def test_light():
            assert not {"torch", "flint", "mpmath"} & set(sys.modules)
        """
    )
    library.runpytest_subprocess("-q").assert_outcomes(passed=1)
