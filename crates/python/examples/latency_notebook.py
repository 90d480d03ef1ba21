# %% [markdown]
# # How long a message takes
#
# A notebook as a script: open it in Jupyter (jupytext), VS Code or PyCharm cell by cell, or run it as it is. It measures
# round trips between two Python processes in each poll mode, and plots their histograms to `latency.png`.

# %%
"""Histograms of round trips between two Python processes, in each poll mode."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import capnproto_shm_transport as cst
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

ROUNDS = int(os.environ.get("ROUNDS", "20000"))
POLLS: list[cst.Poll] = ["spin", "park", 0.0001]

# %% [markdown]
# The other process answers whatever comes. It is a program of its own: a forked child could not use a channel.

# %%
ECHO = """
import sys
import capnproto_shm_transport as cst
poll = sys.argv[2] if sys.argv[2] in ("spin", "park") else float(sys.argv[2])
with cst.Transport.open(sys.argv[1], 30, poll=poll) as b:
    try:
        while True:
            b.send(b.recv_bytes())
    except cst.Closed:
        pass
"""


def round_trips(poll: cst.Poll, rounds: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Measure round trips of 64 bytes, in microseconds."""
    name = f"latency-{os.getpid()}-{poll}"
    message = bytes(64)
    times = np.empty(rounds)
    with (
        cst.Transport.create(name, slot_size=64, poll=poll) as a,
        subprocess.Popen([sys.executable, "-c", ECHO, name, str(poll)]) as other,
    ):
        try:
            a.wait_for_peer(30)
            for at in range(rounds):
                began = time.perf_counter_ns()
                a.send(message)
                a.recv_bytes()
                times[at] = time.perf_counter_ns() - began
        except BaseException:
            other.kill()
            raise
        a.close()
    return times / 1000


# %%
measured = {str(poll): round_trips(poll, ROUNDS if poll == "spin" else ROUNDS // 10) for poll in POLLS}
for mode, times in measured.items():
    p50, p99, p999 = np.percentile(times, [50, 99, 99.9])
    print(f"{mode:>8}: p50 {p50:8.2f} µs, p99 {p99:8.2f} µs, p99.9 {p999:8.2f} µs")

# %%
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
bins = np.geomspace(0.3, 3000, 150).tolist()
for mode, times in measured.items():
    axes.hist(times, bins=bins, density=True, histtype="step", label=f"poll={mode}")
axes.set(xscale="log", yscale="log", xlabel="round trip of 64 bytes, µs", ylabel="density")
axes.legend()
figure.savefig(os.environ.get("PLOT", "latency.png"))
