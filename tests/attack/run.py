"""Make calls, and say what is amiss with what came of them."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from ffverify.command.main import main
from ffverify.time_limit import Overran, within

from .calls import MODULES, Call
from .surroundings import changed, settings

for _heavy in ("torch", "jax"):  # their imports change settings, once
    with contextlib.suppress(ImportError):
        importlib.import_module(_heavy)

LIMIT = 30.0  # seconds for a call that should be refused, or is small


@contextlib.contextmanager
def _there(folder: Path) -> Iterator[None]:
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = (
            path  # the command line leaves the user's folder there, to the end of its process
        )
        for name in MODULES:
            sys.modules.pop(name, None)


def complaints(call: Call, folder: Path) -> list[str]:
    """Run the command line with a call's words; give what is amiss, nothing if all is well."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    amiss: list[str] = []
    code: Any = None
    with _there(folder), mock.patch.object(sys, "argv", ["ffverify", *call.words]):
        before = settings(folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                within(LIMIT, main)
        except SystemExit as left:
            code = left.code or 0
        except Overran:
            amiss.append(f"not done within {LIMIT:g} s")
        except BaseException as error:  # noqa: BLE001 - a traceback for the user
            amiss.append(f"traceback: {type(error).__name__}: {str(error)[:100]}")
        amiss += [f"changed: {what}" for what in changed(before, settings(folder))]
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]  # made above
    if not amiss and code not in call.codes:
        amiss.append(f"exit code {code}, not {sorted(call.codes)}")
    if "Traceback" in "".join(texts):
        amiss.append("a traceback is printed")
    if code == 2 and len(texts[1].strip().splitlines()) != 1:
        amiss.append(f"{len(texts[1].strip().splitlines())} lines of complaint")
    return [f"{a}  ({texts[1].strip()[:200]})" for a in amiss]


def complaints_of_gradcheck(fn: Any, inputs: Any, folder: Path) -> list[str]:
    """Gradcheck a function; give what is amiss but a report, a TypeError or a ValueError of one line."""
    from ffverify import gradcheck

    amiss = []
    before = settings(folder)
    try:
        report = within(LIMIT, lambda: gradcheck(fn, inputs, raise_exception=False))
        if (
            report.verdict == "correct"
            and not report.ok
            and "nothing could be judged" not in str(report)
        ):
            amiss.append("correct, and nothing was judged")
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError) and not type(error).__module__.startswith(
            "ffverify"
        ):
            amiss.append(f"{type(error).__name__}: {error}")
        frames = _innermost(error)
        if "ffverify" not in frames and "reference" not in frames:
            amiss.append(f"from within {frames}: {type(error).__name__}: {str(error)[:100]}")
    except Overran:
        amiss.append(f"not done within {LIMIT:g} s")
    except BaseException as error:  # noqa: BLE001 - a traceback for the user
        amiss.append(f"traceback: {type(error).__name__}: {str(error)[:100]}")
    return amiss + [f"changed: {what}" for what in changed(before, settings(folder))]


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else trace.tb_frame.f_code.co_filename
