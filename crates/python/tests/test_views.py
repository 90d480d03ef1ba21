"""No view ever dangles, whatever it outlives: its block, its message, its channel, the module."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import capnproto_shm_transport as cst
import numpy as np
import pytest
from conftest import WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends(name: str) -> Iterator[tuple[cst.Transport, cst.Transport]]:
    """Give both sides of a channel of 2 slots of 16 bytes."""
    a = cst.Transport.create(name, slot_size=16, slot_count=2)
    b = cst.Transport.open(name, WAIT)
    with a, b:
        yield a, b


def fill(a: cst.Transport, *messages: bytes) -> None:
    """Send what would write over a slot that was given back too early."""
    for message in messages:
        a.send(message, timeout=WAIT)


@pytest.mark.parametrize("view", [memoryview, lambda m: np.frombuffer(m, np.uint8), lambda m: memoryview(m)[1:]])
def test_a_view_that_outlives_its_message_keeps_the_slot(ends, view):
    a, b = ends
    fill(a, b"precious", b"second")
    message = b.recv(WAIT)
    kept = view(message)
    before = bytes(kept)
    with pytest.raises(BufferError, match="a view of the message"):
        message.release()
    # The slot is still taken: nobody writes there.
    assert not a.try_send(b"x")
    with pytest.raises(BufferError, match="an earlier message"):
        b.recv(0)
    del message
    gc.collect()
    assert bytes(kept) == before
    del kept
    # Now it is free, by itself.
    assert a.try_send(b"x")
    assert b.drain() == [b"second", b"x"]


def test_a_view_that_is_kept_from_a_block(ends):
    a, b = ends
    fill(a, b"precious")
    with pytest.raises(BufferError, match="a view of the message"), b.recv(WAIT) as message:
        kept = np.frombuffer(message, np.uint8)
    with pytest.raises(ValueError, match="released"):
        bytes(message)
    assert bytes(kept) == b"precious"
    del kept
    fill(a, b"next")
    assert b.recv_bytes(WAIT) == b"next"


def test_the_blocks_own_variable_may_stay(ends):
    a, b = ends
    fill(a, b"hello")
    with b.recv(WAIT) as message:
        pass
    with pytest.raises(ValueError, match="released"):
        message[0]


def test_a_released_message_gives_no_view(ends):
    a, b = ends
    fill(a, b"hello")
    message = b.recv(WAIT)
    message.release()
    with pytest.raises(ValueError, match="this message was released"):
        memoryview(message)
    with pytest.raises(ValueError, match="this message was released"), message:
        pass
    reservation = a.reserve(4)
    reservation.abort()
    with pytest.raises(ValueError, match="committed or aborted"):
        memoryview(reservation)


def test_a_received_message_is_read_only(ends):
    a, b = ends
    fill(a, b"hello")
    with b.recv(WAIT) as message, pytest.raises(TypeError):
        message[0] = 1
    fill(a, b"hello")
    with pytest.raises(BufferError):
        b.recv_into(b.recv(WAIT))


def test_what_is_viewed_is_not_sent(ends):
    a, b = ends
    with pytest.raises(BufferError, match="it is not sent"), a.reserve(4) as slot:
        kept = np.frombuffer(slot, np.uint8)
    with pytest.raises(BufferError, match="the last reservation"):
        a.send(b"x")
    kept[:] = 7  # harmless: the slot is nobody else's
    del kept
    assert b.try_recv() is None
    fill(a, b"next")
    assert b.recv_bytes(WAIT) == b"next"


def test_a_commit_is_tried_again_when_the_view_is_gone(ends):
    a, b = ends
    reservation = a.reserve(4)
    kept = np.frombuffer(reservation, np.uint8)
    kept[:] = 7
    with pytest.raises(BufferError):
        reservation.commit()
    assert not reservation.released
    del kept
    reservation.commit()
    assert b.recv_bytes(WAIT) == bytes([7] * 4)


def test_an_exception_in_a_block_is_not_hidden_by_the_views_in_its_traceback(ends):
    a, b = ends

    def receive() -> None:
        with b.recv(WAIT) as message:
            kept = np.frombuffer(message, np.uint8)
            raise KeyError(int(kept[0]))

    def send() -> None:
        with a.reserve(1) as slot:
            kept = np.frombuffer(slot, np.uint8)
            raise KeyError(int(kept[0]))

    fill(a, b"hello")
    with pytest.raises(KeyError):
        receive()
    with pytest.raises(KeyError):
        send()
    fill(a, b"1", b"2")
    assert b.drain() == [b"1", b"2"]


def test_a_view_that_outlives_its_channel(ends):
    a, b = ends
    fill(a, b"precious")
    kept = np.frombuffer(b.recv(WAIT), np.uint8)
    with pytest.raises(BufferError, match="closes when it goes"):
        b.close()
    with pytest.raises(cst.Closed):
        a.recv(WAIT)
    del b, ends
    gc.collect()
    assert bytes(kept) == b"precious"
    a.send(b"x")
    del kept
    gc.collect()
    with pytest.raises(cst.Closed):
        a.send(b"x")
    a.close()


def test_an_array_that_numpy_makes_without_a_view_reads_mapped_memory(ends):
    # `ndarray(buffer=...)` keeps the object, not the buffer. Its contents may change, but its memory is there.
    a, b = ends
    fill(a, b"precious")
    kept = np.ndarray((8,), np.uint8, buffer=b.recv(WAIT))
    a.close()
    b.close()
    assert kept.sum() >= 0


def test_a_message_without_views_does_not_keep_a_channel(ends):
    a, b = ends
    fill(a, b"hello")
    message = b.recv(WAIT)
    reservation = a.reserve(4)
    a.close()
    b.close()
    assert (message.released, reservation.released) == (True, True)


def test_a_window_with_a_view(ends):
    a, b = ends
    fill(a, b"one", b"two")
    window = b.window(2, WAIT)
    kept = memoryview(window[1])
    window.release(1)
    with pytest.raises(BufferError):
        window.release(1)
    assert len(window) == 1
    with pytest.raises(BufferError):
        window.close()
    with pytest.raises(BufferError, match="an earlier message"):
        b.recv(0)
    assert kept == b"two"
    kept.release()
    fill(a, b"next")
    assert b.recv_bytes(WAIT) == b"next"


def test_a_loop_that_is_left_half_way(ends):
    a, b = ends
    fill(a, b"1", b"2")
    for message in b:
        assert message == b"1"
        break
    with pytest.raises(ValueError, match="released"):
        bytes(message)
    assert b.recv_bytes(WAIT) == b"2"


def test_a_view_that_is_kept_from_a_turn_of_a_loop(ends):
    a, b = ends
    fill(a, b"1", b"2")
    kept = []
    with pytest.raises(BufferError):
        for message in b:
            kept.append(memoryview(message)[:])
    assert kept[0] == b"1"
    kept.clear()
    assert b.recv_bytes(WAIT) == b"2"


def test_a_generator_that_is_left_half_way(ends):
    a, b = ends

    def first_bytes():
        while True:
            with b.recv(WAIT) as message:
                yield message[0]

    fill(a, b"1", b"2")
    generator = first_bytes()
    assert next(generator) == ord("1")
    with pytest.raises(RuntimeError, match="a message is open"):
        b.recv()
    generator.close()
    assert b.recv_bytes(WAIT) == b"2"


def test_a_view_that_outlives_its_module(child):
    program = """
import sys
import capnproto_shm_transport as cst
name = sys.argv[1]
a = cst.Transport.create(name)
b = cst.Transport.open(name)
a.send(b"precious")
kept = memoryview(b.recv(5))
for module in [m for m in sys.modules if m.startswith("capnproto_shm_transport")]:
    del sys.modules[module]
del cst, a, b
import gc; gc.collect()
print(bytes(kept).decode(), flush=True)
# And one that lives to the end of the interpreter, among its globals.
"""
    process = child(program, f"t-python-module-{id(child)}")
    said, _ = process.communicate(timeout=WAIT)
    assert (said, process.returncode) == ("precious\n", 0)


def test_no_object_leaks(ends):
    a, b = ends
    message = b"x" * 8

    def round_trip() -> None:
        a.send(message)
        with b.recv(WAIT) as view:
            bytes(view)
        with a.reserve(8) as slot:
            slot[:] = message
        b.recv_bytes(WAIT)

    round_trip()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        round_trip()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
