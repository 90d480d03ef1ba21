"""Looking at channels from outside."""

from __future__ import annotations

import os

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT


def test_channels_are_listed(name):
    assert name not in [info.name for info in cst.ls()]
    with cst.Transport.create(name, tag="ticks/1", slot_size=64, poll="spin") as a:
        a.send(b"hello")
        [info] = [info for info in cst.ls() if info.name == name]
        assert (info.tag, info.problem, info.a.life, info.a.pid, info.a.poll) == (
            "ticks/1",
            None,
            "alive",
            os.getpid(),
            "spin",
        )
        assert (info.b.life, info.a_to_b, info.stats.tx.messages) == ("absent", "bytes", 1)
        assert cst.info(name).generation == info.generation
        assert cst.stats(name).tx.bytes == 5
        assert name in repr(info)
        assert "alive" in repr(info.a)
    with pytest.raises(TimeoutError):
        cst.stats(name)
    with pytest.raises(TimeoutError):
        cst.info(name)
    with pytest.raises(OSError, match="No such file"):
        cst.ls(directory="/nowhere")


def test_messages_are_read_in_passing(name):
    with pytest.raises(TimeoutError):
        cst.Tap.open(name)
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
        tap = cst.Tap.open(name)
        assert tap.try_next() is None
        with tap.open(name) as other:
            assert other.try_next() is None
        with pytest.raises(cst.Closed, match="this tap was closed"):
            other.next()
        with pytest.raises(TimeoutError):
            tap.next(timeout=0.01)
        a.send(b"ask")
        b.send(b"answer")
        seen = sorted((one.direction, one.sequence, one.missed, one.data) for one in (tap.next(WAIT), tap.next(WAIT)))
        assert seen == [("a_to_b", 0, 0, b"ask"), ("b_to_a", 0, 0, b"answer")]
        a.send(b"last")
        assert "4 bytes" in repr(tap.try_next())
        a.send(b"very last")
    assert [one.data for one in tap] == [b"very last"]
    assert tap.missed == 0
    with pytest.raises(cst.Closed):
        tap.next()


def test_the_number_of_the_missed_is_there_while_another_thread_waits(name, child):
    # In a process of its own: what went wrong here once stopped the whole interpreter.
    program = """
import sys, threading
import capnproto_shm_transport as cst
with cst.Transport.create(sys.argv[1]) as a:
    tap = cst.Tap.open(sys.argv[1])
    thread = threading.Thread(target=tap.next)
    thread.start()
    while True:
        try:
            tap.try_next()
        except RuntimeError:  # the thread waits
            break
    print(tap.missed, flush=True)
    a.send(b"x")
    thread.join()
"""
    process = child(program, name)
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("0\n", 0)
