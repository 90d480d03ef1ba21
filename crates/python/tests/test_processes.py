"""Two processes, threads, signals, deaths."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
import time

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT, left

ECHO = """
import sys
import capnproto_shm_transport as cst
with cst.Transport.open(sys.argv[1], 60) as b:
    for message in b:
        b.send(message)
"""

STREAM = """
import sys
import capnproto_shm_transport as cst
a = cst.Transport.create(sys.argv[1], slot_size=16, slot_count=8)
print("there", flush=True)
number = 0
while True:
    with a.reserve(8) as slot:
        slot[:] = number.to_bytes(8, "little")
    number += 1
"""


def echo_in_child(name: str, rounds: int) -> None:
    """Answer so many messages: the other process of `spawn`."""
    with cst.Transport.open(name, WAIT) as b:
        for _ in range(rounds):
            b.send(b.recv_bytes(WAIT))
        b.finish(WAIT)


def use_in_child(transport: cst.Transport, queue: multiprocessing.Queue) -> None:
    """Try what a forked child must not do."""
    said = []
    for call in (transport.try_recv, lambda: transport.send(b"x"), transport.stats, transport.arm, transport.reserve):
        try:
            call()
        except RuntimeError as error:
            said.append(str(error))
    transport.close()
    queue.put(said)


def test_a_child_answers(name, child):
    with cst.Transport.create(name) as a:
        process = child(ECHO, name)
        for size in (0, 1, 64, 1024, 5000):
            a.send(bytes(size), WAIT)
            assert a.recv_bytes(WAIT) == bytes(size)
    assert process.wait(WAIT) == 0


def test_spawn_works(name):
    context = multiprocessing.get_context("spawn")
    with cst.Transport.create(name) as a:
        process = context.Process(target=echo_in_child, args=(name, 10))
        process.start()
        for number in range(10):
            a.send(bytes([number]), WAIT)
            assert a.recv_bytes(WAIT) == bytes([number])
        process.join(WAIT)
        assert process.exitcode == 0
        with pytest.raises(cst.Closed):
            a.recv(WAIT)


def test_a_forked_child_is_refused_and_told_why(name):
    context = multiprocessing.get_context("fork")
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
        a.send(b"hello")
        message = b.recv(WAIT)
        queue = context.Queue()
        process = context.Process(target=use_in_child, args=(b, queue))
        process.start()
        said = queue.get(timeout=WAIT)
        process.join(WAIT)
        assert process.exitcode == 0
        assert len(said) == 5
        assert all("forked" in text and "spawn" in text for text in said)
        # The parent's channel goes on.
        assert bytes(message) == b"hello"
        message.release()
        a.send(b"again")
        assert b.recv_bytes(WAIT) == b"again"


def test_a_forked_child_gets_no_view_of_memory_that_it_has_not(name):
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b, cst.Tap.open(name) as tap:
        a.send_many([b"1", b"2"])
        reservation = a.reserve(4)
        window = b.window(1, WAIT)
        calls = [
            tap.next,
            tap.try_next,
            lambda: memoryview(window[0]),
            lambda: memoryview(reservation),
            lambda: window[0].__enter__(),
            lambda: window.wait_for(2),
            window.close,
        ]
        pid = os.fork()
        if pid == 0:
            refused = 0
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    refused += "spawn" in str(error)
            tap.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == len(calls)
        window.close()
        reservation.abort()
        assert tap.next(WAIT).data == b"1"
        del calls


def test_a_forked_child_that_drops_everything_harms_nobody(name):
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b, cst.Server.bind(f"{name}s") as server:
        a.send(b"hello")
        kept = [b.recv(WAIT), a.reserve(4), server]
        pid = os.fork()
        if pid == 0:
            try:
                kept.clear()
                del a, b, server
                import gc

                gc.collect()
                os._exit(0)
            except BaseException:  # noqa: BLE001
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        kept[1].abort()
        kept.clear()
        a.send(b"again")
        assert b.recv_bytes(WAIT) == b"again"


def test_a_death_is_told_after_everything_sent(name, child):
    for _ in range(10):
        process = child(STREAM, name)
        with cst.Transport.open(name, WAIT) as b:
            number = 0
            kill_at = random.randrange(1, 200)  # noqa: S311
            with pytest.raises(cst.PeerDead):
                while True:
                    with b.recv(WAIT) as message:
                        assert int.from_bytes(message, "little") == number
                    number += 1
                    if number == kill_at:
                        process.kill()
            assert number >= kill_at
            with pytest.raises(cst.PeerDead):
                b.send(b"x")
        process.wait(WAIT)
    cst.Transport.remove(name)


def test_a_creator_that_outlives_its_peer_leaves_nothing(name, child):
    process = child(ECHO, name)
    with cst.Transport.create(name, slot_count=4) as a:
        a.send(b"x", WAIT)
        a.recv_bytes(WAIT)
        process.kill()
        with pytest.raises(cst.PeerDead):
            a.recv(WAIT)
        with pytest.raises(cst.PeerDead):
            while True:
                a.send(b"x", WAIT)
    assert left(name) == []


def test_a_view_outlives_the_death_of_the_peer(name, child):
    process = child(STREAM, name)
    with cst.Transport.open(name, WAIT) as b:
        with b.recv(WAIT) as message:
            process.kill()
            process.wait(WAIT)
            assert int.from_bytes(message, "little") == 0
        with pytest.raises(cst.PeerDead):
            b.drain(0) or [None for _ in b]
    cst.Transport.remove(name)


@pytest.mark.parametrize("poll", ["spin", "park", 0.001])
def test_other_threads_run_while_one_waits(name, poll):
    with cst.Transport.create(name, poll=poll) as a, cst.Transport.open(name, WAIT, poll=poll) as b:
        got = []
        thread = threading.Thread(target=lambda: got.append(b.recv_bytes()))
        thread.start()
        # This needs the GIL, which a thread that waits has given away.
        for number in range(1000):
            assert sum(range(number)) >= 0
        a.send(b"hello")
        thread.join(WAIT)
        assert got == [b"hello"]


def test_one_thread_sends_and_another_receives(name):
    count = 2000
    with cst.Transport.create(name, slot_count=8) as a, cst.Transport.open(name, WAIT) as b:
        got = []

        def receive() -> None:
            got.extend(int.from_bytes(b.recv_bytes(WAIT), "little") for _ in range(count))

        thread = threading.Thread(target=receive)
        thread.start()
        for number in range(count):
            a.send(number.to_bytes(4, "little"), WAIT)
        thread.join(WAIT)
        assert got == list(range(count))


def test_a_second_thread_is_refused_and_told_so(name):
    with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:
        thread = threading.Thread(target=lambda: b.recv_bytes(WAIT))
        thread.start()
        with pytest.raises(RuntimeError, match="another call receives"):
            while True:
                assert b.try_recv() is None
        a.send(b"x")
        thread.join(WAIT)


@pytest.mark.parametrize("wait", ["recv", "send"])
def test_closing_ends_the_wait_of_another_thread(name, wait):
    with cst.Transport.create(name, slot_count=1) as a:
        ended = []

        def run() -> None:
            try:
                if wait == "recv":
                    a.recv()
                else:
                    while True:
                        a.send(b"x")
            except cst.ChannelError as error:
                ended.append(type(error))

        thread = threading.Thread(target=run)
        thread.start()
        if wait == "send":
            while a.stats().tx.full_waits == 0:
                time.sleep(0.001)
        a.close()
        thread.join(WAIT)
        assert ended == [cst.Closed]


def test_interrupting_another_threads_wait(name):
    with cst.Transport.create(name) as a:
        ended = []

        def run() -> None:
            try:
                a.recv()
            except InterruptedError:
                ended.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        a.interrupt()
        thread.join(WAIT)
        assert ended == [True]


WAITS = {
    "recv": "a.recv()",
    "spin": "a.poll = 'spin'; a.recv()",
    "bytes": "a.recv_bytes(1000)",
    "send": "[a.send(b'x') for _ in range(100)]",
    "window": "a.window(2)",
    "peer": "a.wait_for_peer()",
    "room": "[a.reserve(4).commit() for _ in range(100)]",
    "finish": "(a.send(b'x'), a.finish())",
    "open": "cst.Transport.open(sys.argv[1] + '-not', None)",
    "connect": "cst.Transport.connect(sys.argv[1] + '-not', None)",
    "answer": "(cst.Server.bind(sys.argv[1] + '-s'), cst.Transport.connect(sys.argv[1] + '-s', None))",
    "accept": "cst.Server.bind(sys.argv[1] + '-s').accept()",
    "tap": "cst.Tap.open(sys.argv[1]).next()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait(name, child, wait):
    # A shell has what it starts in the background ignore SIGINT.
    program = f"""
import signal, sys
import capnproto_shm_transport as cst
signal.signal(signal.SIGINT, signal.default_int_handler)
with cst.Transport.create(sys.argv[1], slot_count=4) as a:
    try:
        print("waits", flush=True)
        {WAITS[wait]}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    process = child(program, name)
    assert process.stdout.readline() == "waits\n"
    # A signal that comes before the wait is told all the same.
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("interrupted\n", 0)


@pytest.mark.parametrize("wait", ["server.accept()", "tap.next()"])
def test_a_signal_handler_closes_a_server_or_a_tap_that_waits(name, child, wait):
    program = f"""
import signal, sys
import capnproto_shm_transport as cst
a = cst.Transport.create(sys.argv[1])
tap, server = cst.Tap.open(sys.argv[1]), cst.Server.bind(sys.argv[1] + "-s")
signal.signal(signal.SIGTERM, lambda *_: {wait.split(".")[0]}.close())
try:
    print("waits", flush=True)
    {wait}
except cst.Closed as error:
    print(error, flush=True)
"""
    process = child(program, name)
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == (f"this {wait.split('.')[0]} was closed\n", 0)


@pytest.mark.parametrize("wait", ["recv", "spin", "bytes", "send", "window", "peer"])
def test_a_signal_handler_closes_what_waits(name, child, wait):
    program = f"""
import signal, sys
import capnproto_shm_transport as cst
with cst.Transport.create(sys.argv[1], slot_count=4) as a:
    signal.signal(signal.SIGTERM, lambda *_: a.close())
    try:
        print("waits", flush=True)
        {WAITS[wait]}
    except cst.Closed as error:
        print(error, flush=True)
"""
    process = child(program, name)
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("this transport was closed\n", 0)


def test_a_signal_handler_does_not_reopen_beneath_a_wait(name, child):
    program = """
import os, signal, sys, threading
import capnproto_shm_transport as cst
b = cst.Transport.open(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: b.reopen(60))
def interrupt():
    while True:
        try:
            b.try_recv()
        except RuntimeError:  # the other thread waits
            break
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=interrupt).start()
try:
    b.recv()
except RuntimeError as error:
    print(error, flush=True)
b.reopen(60)
print(b.recv_bytes(60).decode(), flush=True)
b.close()
"""
    with cst.Transport.create(name):
        process = child(program, name)
        assert "beneath the signal handler" in process.stdout.readline()
    with cst.Transport.create(name) as a:
        a.wait_for_peer(WAIT)
        a.send(b"hello")
        a.finish(WAIT)
        said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("hello\n", 0)


def test_the_peer_is_told_when_a_signal_handler_closes(name, child):
    program = """
import signal, sys
import capnproto_shm_transport as cst
a = cst.Transport.open(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: a.close())
print("waits", flush=True)
try:
    a.recv()
except cst.Closed:
    pass
print("closed", flush=True)
sys.stdin.readline()
"""
    with cst.Transport.create(name) as a:
        process = child(program, name)
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "closed\n"
        # The other process lives, and keeps its transport.
        with pytest.raises(cst.Closed):
            a.recv(0)
        with pytest.raises(cst.Closed):
            a.send(b"x", 0)


def test_other_signal_handlers_run_and_the_wait_goes_on(name):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
    try:
        with cst.Transport.create(name) as a, cst.Transport.open(name, WAIT) as b:

            def act() -> None:
                os.kill(os.getpid(), signal.SIGUSR1)
                while not seen:
                    time.sleep(0.001)
                b.send(b"after")

            thread = threading.Thread(target=act)
            thread.start()
            assert a.recv_bytes(WAIT) == b"after"
            thread.join(WAIT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_the_interpreter_ends_while_threads_wait(name, child):
    program = """
import sys, threading
import capnproto_shm_transport as cst
a = cst.Transport.create(sys.argv[1])
threading.Thread(target=a.recv, daemon=True).start()
message = cst.Transport.open(sys.argv[1])
message.send(b"x")
kept = memoryview(b"")
print("ends", flush=True)
"""
    process = child(program, name)
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("ends\n", 0)
    # A daemon thread never comes back, so this side closes by its process's end.
    for path in left(name):
        path.unlink()


def test_the_version_of_python_is_one_that_is_supported():
    assert sys.version_info >= (3, 11)
