"""Messages of 64 bytes between two Python processes: a channel, a pipe, and a minimal ring in Python. Frames from Rust.

    cargo build --release -p capnproto-shm-transport-python --example frames
    python bench/compare.py [ROUNDS]

Two processes, each pinned to a processor of its own. The contenders take turns, each with a process that answers; a figure is the
median of its rounds. Each message is another one, and each answer is compared with what was sent.

Frames of 6 MiB come from a Rust process, to one in Rust and one in Python in turns. Both add up every word of each frame, and
compare the sum.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

import capnproto_shm_transport as cst
import numpy as np

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SIZE = 64
TRIPS = 20_000
WAKES = 300
PAUSE = 0.001
"""Between two messages to one that sleeps."""
MESSAGES = [bytes([number]) * SIZE for number in range(1, 200)]
STOP = bytes(SIZE)
FRAMES = 300
WARM = 30
"""Frames before the clock starts: each slot has been touched."""
EXAMPLES = Path(os.environ.get("CSHM_EXAMPLES", Path(__file__).parents[3] / "target/release/examples"))


class Channel:
    """Ours."""

    def __init__(self, name: str, *, leads: bool, poll: cst.Poll) -> None:
        """Take one side."""
        self.channel = (
            cst.Transport.create(name, slot_size=SIZE, poll=poll)
            if leads
            else cst.Transport.open(name, 20.0, poll=poll)
        )
        self.send = self.channel.send
        self.recv = self.channel.recv_bytes

    def close(self) -> None:
        """Leave."""
        self.channel.close()


class Pipe:
    """`multiprocessing.Pipe`."""

    def __init__(self, end: Connection) -> None:
        """Take one end."""
        self.send, self.recv, self.close = end.send_bytes, end.recv_bytes, end.close


class Ring:
    """One slot a direction in `multiprocessing.shared_memory`, and an index that is polled without a pause."""

    def __init__(self, name: str, *, leads: bool) -> None:
        """Take one side."""
        self.memory = SharedMemory(name, create=leads, size=4096)
        out, back = (0, 2048) if leads else (2048, 0)
        whole = self.memory.buf
        assert whole is not None, "it was closed"
        self.views = [
            whole[out : out + 8].cast("Q"),
            whole[out + 64 : out + 64 + SIZE],
            whole[back : back + 8].cast("Q"),
            whole[back + 64 : back + 64 + SIZE],
        ]
        self.out, self.to, self.back, self.at = self.views
        self.sent = self.received = 0
        self.leads = leads

    def send(self, message: bytes) -> None:
        """Write, then say so."""
        self.to[:] = message
        self.sent += 1
        self.out[0] = self.sent

    def recv(self) -> bytes:
        """Look until there is one, and read it."""
        back, wanted = self.back, self.received + 1
        while back[0] != wanted:
            pass
        self.received = wanted
        return bytes(self.at)

    def close(self) -> None:
        """Leave."""
        self.out = self.to = self.back = self.at = memoryview(b"")
        for view in self.views:
            view.release()
        self.memory.close()
        if self.leads:
            self.memory.unlink()


End = Channel | Pipe | Ring


def make(kind: str, name: str, end: Connection, *, leads: bool) -> End:
    """Make one side of a contender."""
    if kind == "pipe":
        return Pipe(end)
    if kind == "ring":
        return Ring(name, leads=leads)
    return Channel(name, leads=leads, poll="park" if kind == "parked" else "spin")


def answer(kind: str, name: str, end: Connection, control: Connection) -> None:
    """Send back what comes."""
    os.sched_setaffinity(0, {1})
    there = make(kind, name, end, leads=False)
    control.send("ready")
    recv, send = there.recv, there.send
    while control.recv() == "round":
        while (message := recv()) != STOP:
            send(message)
    there.close()


def trips(here: End, count: int, pause: float) -> float:
    """Microseconds of a trip: the mean of many, or, with a pause before each, the median."""
    send, recv = here.send, here.recv
    each = []
    began = time.perf_counter()
    for number in range(count):
        message = MESSAGES[number % len(MESSAGES)]
        if pause:
            time.sleep(pause)
        at = time.perf_counter() if pause else 0.0
        send(message)
        if recv() != message:
            raise AssertionError
        if pause:
            each.append(time.perf_counter() - at)
    return (statistics.median(each) if pause else (time.perf_counter() - began) / count) * 1e6


def measure(kinds: list[str], rounds: int, count: int, pause: float) -> dict[str, list[float]]:
    """Let the contenders take turns."""
    spawn = mp.get_context("spawn")
    ends, controls, children = {}, {}, []
    for kind in kinds:
        name = f"bench-python-{os.getpid()}-{kind}"
        (one, other), (control, theirs) = spawn.Pipe(), spawn.Pipe()
        ends[kind] = make(kind, name, one, leads=True)
        child = spawn.Process(target=answer, args=(kind, name, other, theirs))
        child.start()
        children.append(child)
        controls[kind] = control
        control.recv()
    figures: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind in kinds:
            controls[kind].send("round")
            took = trips(ends[kind], count, pause)
            ends[kind].send(STOP)
            if number:  # the first one warms up
                figures[kind].append(took)
    for kind in kinds:
        controls[kind].send("end")
    for child in children:
        child.join()
    for end in ends.values():
        end.close()
    return figures


def look(frame: memoryview) -> int:
    """Add up the words of a frame where it lies. No view of it outlives this call."""
    return int(np.frombuffer(frame, np.uint64).sum())


def receive_frames(name: str) -> float:
    """Receive frames as numpy arrays. Gives how many came in a second."""
    began = 0.0
    with cst.Transport.open(name, 20.0) as channel:
        for number in range(WARM + FRAMES):
            if number == WARM:
                began = time.perf_counter()
            with channel.recv(20.0) as frame:
                if look(frame) != number * (len(frame) // 8):
                    raise AssertionError
        return FRAMES / (time.perf_counter() - began)


def frames(rounds: int) -> dict[str, list[float]]:
    """Let a receiver in Python and one in Rust take turns, each on this process's processor, and the sender on the other."""
    program = str(EXAMPLES / "frames")
    if not Path(program).exists():
        message = f"{program} is not there: cargo build --release -p capnproto-shm-transport-python --example frames"
        raise SystemExit(message)
    figures: dict[str, list[float]] = {"python": [], "rust": []}
    for number in range(rounds + 1):
        for kind, rates in figures.items():
            name = f"bench-python-{os.getpid()}-{kind}"
            send = ["taskset", "-c", "1", program, "send", name, str(WARM + FRAMES)]
            with subprocess.Popen(send) as sender:
                if kind == "python":
                    rate = receive_frames(name)
                else:
                    recv = [program, "recv", name, str(WARM), str(FRAMES)]
                    rate = float(subprocess.run(recv, check=True, stdout=subprocess.PIPE, text=True).stdout)
            if sender.returncode:
                raise SystemExit(sender.returncode)
            if number:
                rates.append(rate)
    return figures


def say(what: str, bound: str, ours: list[float], theirs: list[float], unit: str = "{:.2f} µs") -> None:
    """Print a line of the table. The bound is one from above, as "≤ 1", or from below, as "≥ 1"."""
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    limit = float(bound[1:])
    met = "met" if (ratio <= limit if bound[0] == "≤" else ratio >= limit) else "not met"
    shown = " to ".join(unit.format(statistics.median(each)) for each in (ours, theirs))
    print(f"| {what} | {bound} | {ratio:.3f} | {met} | {shown} |")


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    os.sched_setaffinity(0, {0})
    busy = measure(["spin", "pipe", "ring"], rounds, TRIPS, 0.0)
    parked = measure(["parked", "pipe"], rounds, WAKES, PAUSE)
    large = frames(rounds)
    print("| what | bound | measured | | of |\n|---|---|---|---|---|")
    say("round trip 64 B, Spin, against multiprocessing.Pipe", "≤ 0.0666", busy["spin"], busy["pipe"])
    say("the same against a minimal ring in Python", "≤ 1.000", busy["spin"], busy["ring"])
    say(
        "round trip to one that sleeps, a message each 1 ms, against the pipe",
        "≤ 1.200",
        parked["parked"],
        parked["pipe"],
    )
    say("frames of 6 MiB from Rust, read by numpy, against Rust", "≥ 0.800", large["python"], large["rust"], "{:.0f}/s")


if __name__ == "__main__":
    main()
