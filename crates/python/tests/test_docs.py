"""The examples in the docstrings and in the README run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import capnproto_shm_transport as cst
import pytest
from capnproto_shm_transport import _capnp, _channel, _native, _server

README = Path(__file__).parents[1] / "README.md"


def docstrings() -> list[doctest.DocTest]:
    """Find the examples of all modules, those of native classes too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for module in (cst, _channel, _capnp, _server):
        found += finder.find(module)
    for name, value in vars(_native).items():
        found += finder.find(value, name, module=False, globs={}) if isinstance(value, type) else []
    return [test for test in found if test.examples]


@pytest.mark.parametrize("test", docstrings(), ids=lambda test: test.name)
def test_docstring(test):
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0


def test_there_are_examples_of_every_kind():
    names = {test.name.split(".")[-1] for test in docstrings()}
    assert {"Transport", "Tap", "Channel", "CapnpChannel", "Server"} <= names


@pytest.mark.parametrize("at", range(len(re.findall(r"```python\n", README.read_text()))))
def test_readme(at):
    block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[at]
    exec(compile(block, f"README.md block {at}", "exec"), {"__name__": "readme"})  # noqa: S102
