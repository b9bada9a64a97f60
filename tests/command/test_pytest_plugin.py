"""The plugin and the decorator, from a user's side."""

from __future__ import annotations

import pytest

from ffverify.command.reports.records import read

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


def test_ids_can_be_given_back(library: pytest.Pytester) -> None:
    ids = "ffverify.specs::xor_exact_solution-reference-float64"
    result = library.runpytest_inprocess(ids, "-v", "--junitxml=out.xml")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"{ids} PASSED*"])
    assert 'classname="ffverify.specs"' in (library.path / "out.xml").read_text()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (
            "--ffverify-spec=xor_exact",
            "no claim matches 'xor_exact': did you mean 'xor_exact_solution'?",
        ),
        ("--ffverify-dtype=float8", "dtype 'float8' is not known"),
        ("--ffverify-max-examples=0", "--ffverify-max-examples is 0"),
        ("--ffverify-watch-search=-1 --ffverify-watch", "--ffverify-watch-search is -1"),
        ("--ffverify-watch-seconds=0 --ffverify-watch", "--ffverify-watch-seconds is 0"),
        ("--ffverify-known=no.toml", "cannot read no.toml"),
        ("--ffverify-jsonl=no/such/folder/a.jsonl", "there is no folder"),
        ("ffverify.specs::xor_exact_solution-reference-float8", "dtype 'float8' is not known"),
        ("ffverify.specs::xor-reference-float32", "no claim matches 'xor'"),
    ],
)
def test_a_typo_in_an_option_is_one_line(library: pytest.Pytester, word: str, says: str) -> None:
    result = library.runpytest_inprocess(*word.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sum("ERROR" in line for line in result.errlines) == 1
    assert says in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_a_typo_in_the_decorator_is_one_collection_error(library: pytest.Pytester) -> None:
    library.makepyfile(
        """
        import ffverify

        @ffverify.parametrize_specs("mylib", "tanh_is_scaled_sigmoidd")
        def test_mylib(spec):
            spec()
        """
    )
    result = library.runpytest_subprocess("-q")  # in a process that has imported it pytest warns
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["ffverify.parametrize_specs: no claim matches*did you mean*"])
    assert len(result.outlines) < 12


def test_options_can_stand_in_the_configuration(library: pytest.Pytester) -> None:
    library.makeini(
        """
        [pytest]
        ffverify_backend = mylib
        ffverify_spec = tanh_is_scaled_sigmoid
        ffverify_dtype = float64
        ffverify_known = known.toml
        """
    )
    (library.path / "known.toml").write_text('[[defect]]\nfunction = "tanh"\nreason = "ticket 7"\n')
    library.syspathinsert()
    result = library.runpytest_inprocess("--pyargs", "ffverify.specs", "-rx")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*ticket 7*"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_reports_have_what_every_worker_found(library: pytest.Pytester, workers: str) -> None:
    library.makepyfile(
        test_both="""
        import ffverify
        import numpy as np
        import pytest

        claims = ["tanh_is_scaled_sigmoid", "xor_exact_solution"]

        @ffverify.parametrize_specs("mylib", claims, dtypes=["float64"])
        def test_mylib(spec):
            spec()

        def wrong(v, x):
            return 2 * v,

        def test_right():
            ffverify.gradcheck(np.tanh, np.ones(2))

        def test_wrong():
            ffverify.gradcheck(np.tanh, np.ones(2), vjp=wrong)

        def test_wrong_as_expected():
            with pytest.raises(ffverify.GradcheckError):
                ffverify.gradcheck(np.tanh, np.ones(2), vjp=wrong)
        """
    )
    library.syspathinsert()
    run = library.runpytest_inprocess if workers == "0" else library.runpytest_subprocess
    run("-n", workers, "--ffverify-jsonl=out.jsonl").assert_outcomes(failed=2, passed=2, skipped=1)
    document = read(library.path / "out.jsonl")
    assert sorted((e.tool, e.result.claim, e.result.status) for e in document.entries) == [
        ("gradcheck", "tanh in test_both.py::test_right", "holds"),
        ("gradcheck", "tanh in test_both.py::test_wrong", "fails"),
        ("verify", "tanh_is_scaled_sigmoid", "fails"),
        ("verify", "xor_exact_solution", "not provided"),
    ]
    assert document.ended
    assert not document.ok
