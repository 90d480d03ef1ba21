"""The common parts of the tests: names that nobody else has, and a look at what they leave behind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = itertools.count()
SEGMENTS = Path(os.environ.get("CAPNPROTO_SHM_DIR", "/dev/shm"))  # noqa: S108 - where segments lie
WAIT = 20.0
"""How long a test waits for what must come: only a hung one waits so long."""


def left(name: str) -> list[Path]:
    """Give the files of a channel, or of several whose names begin so."""
    return sorted(SEGMENTS.glob(f"{name}*"))


@pytest.fixture
def name() -> Iterator[str]:
    """Give a name of this test's own. Nothing of it may be left."""
    made = f"t-python-{os.getpid()}-{next(NUMBERS)}"
    yield made
    assert left(made) == []


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python programs, each with its arguments in `sys.argv[1:]`. They say lines, and hear lines."""
    started = []

    def start(program: str, *args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-X", "dev", "-c", program, *args]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
