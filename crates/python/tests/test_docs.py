"""The examples in the docstrings and in the README run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import capnproto_shm_transport as cst
import pytest
from capnproto_shm_transport import _capnp, _channel, _native, _server
from conftest import WAIT

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


@pytest.mark.parametrize(
    ("name", "needed", "package"), [("Channel", "numpy", "numpy"), ("CapnpChannel", "capnp", "pycapnp")]
)
def test_what_is_not_installed_is_named(child, name, needed, package):
    program = f"""
import sys
sys.modules[{needed!r}] = None  # as if it were not there
import capnproto_shm_transport as cst
print("Transport" in dir(cst), {name!r} in dir(cst), flush=True)
try:
    cst.{name}
except ImportError as error:
    print(error, flush=True)
"""
    said, _ = child(program).communicate(timeout=WAIT)
    assert said == f"True False\n{name} needs {needed}, which is not installed: pip install {package}\n"
    assert name in dir(cst)


@pytest.mark.parametrize("at", range(len(re.findall(r"```python\n", README.read_text()))))
def test_readme(at):
    block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[at]
    exec(compile(block, f"README.md block {at}", "exec"), {"__name__": "readme"})  # noqa: S102
