"""The examples run, and do what they say. CSHM_EXAMPLES says where the Rust ones are; see `ci/python`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
RUST = Path(os.environ.get("CSHM_EXAMPLES", "/nowhere"))
PNG = b"\x89PNG"


def run(example: str, *args: str, **env: str) -> str:
    """Run an example, and give what it says."""
    command = [sys.executable, "-X", "dev", "-W", "ignore", str(EXAMPLES / example), *args]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout


def rust(example: str) -> str:
    """Give a Rust example that has been built."""
    if not (RUST / example).exists():
        pytest.skip("CSHM_EXAMPLES names no directory that has it")
    return str(RUST / example)


def test_camera_viewer(tmp_path):
    plot = tmp_path / "camera.png"
    size = ["--width=640", "--height=480", "--seconds=1", f"--plot={plot}"]
    said = run("camera_viewer.py", "--camera", rust("camera"), *size)
    assert "none copied" in said
    assert plot.read_bytes().startswith(PNG)


@pytest.mark.parametrize("loop", [[], ["--uvloop"]], ids=["asyncio", "uvloop"])
def test_asyncio_echo(loop):
    if loop:
        pytest.importorskip("uvloop")
    said = run("asyncio_echo.py", "--rounds=200", "--clients=2", *loop)
    assert "server: 400 answers to 2 clients" in said


@pytest.mark.parametrize("side", [[], ["--venue"]], ids=["desk", "venue"])
def test_quotes(side):
    said = run("quotes.py", "--rust", rust("capnp_quotes"), *side)
    assert said.count("the desk takes") == 5
    assert said.count("desk:  ") == 15


def test_latency_notebook(tmp_path):
    plot = tmp_path / "latency.png"
    said = run("latency_notebook.py", ROUNDS="500", PLOT=str(plot))
    assert all(f"{mode}: p50" in said for mode in ("spin", "park", "0.0001"))
    assert plot.read_bytes().startswith(PNG)
