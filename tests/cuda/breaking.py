"""Jobs that break, or do not end: what the tests of `tests.cuda.jobs` run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from .jobs import Row, Setting


def fine(setting: Setting) -> Iterator[Row]:
    yield {"outcome": "holds", "pid": os.getpid()}


def raising(setting: Setting) -> Iterator[Row]:
    yield {"outcome": "holds"}
    raise ValueError("no\nmore than its first line")


def dying(setting: Setting) -> Iterator[Row]:
    yield {"outcome": "holds"}
    os._exit(3)


def staying(setting: Setting) -> Iterator[Row]:
    yield {"outcome": "holds", "pid": os.getpid()}
    time.sleep(600)
