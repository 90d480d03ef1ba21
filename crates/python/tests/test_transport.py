"""A transport of bytes: every call, its forms and its errors."""

from __future__ import annotations

import array
import os
import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends(name: str) -> Iterator[tuple[cst.Transport, cst.Transport]]:
    """Give both sides of a channel of 4 slots of 16 bytes."""
    a = cst.Transport.create(name, slot_size=16, slot_count=4)
    b = cst.Transport.open(name, WAIT)
    with a, b:
        yield a, b


def test_a_message_is_built_and_read_in_its_slot(ends):
    a, b = ends
    with a.reserve(5) as slot:
        assert (len(slot), slot.readonly) == (5, False)
        slot[:] = b"hello"
    with b.recv(WAIT) as message:
        assert (message, message.readonly) == (b"hello", True)


def test_a_reservation_is_committed_by_a_call_with_another_length(ends):
    a, b = ends
    reservation = a.reserve()
    assert len(reservation) == 16
    with memoryview(reservation) as view:
        view[:2] = b"hi"
    reservation.commit(2)
    assert b.recv_bytes(WAIT) == b"hi"
    with pytest.raises(ValueError, match="committed or aborted"):
        reservation.commit()
    with pytest.raises(ValueError, match="17 bytes into a reservation of 16"):
        a.reserve(16).commit(17)


def test_a_commit_within_the_block_is_the_end_of_it(ends):
    a, b = ends
    reservation = a.reserve(16)
    with reservation as slot:
        slot[:3] = b"now"
        reservation.commit(3)
        with pytest.raises(ValueError, match="released"):
            slot[0] = 1
    assert b.recv_bytes(WAIT) == b"now"
    assert b.try_recv() is None


def test_an_aborted_or_dropped_reservation_is_never_seen(ends):
    a, b = ends
    a.reserve(4).abort()
    a.reserve(4)
    with pytest.raises(ZeroDivisionError), a.reserve(4) as slot:
        slot[:] = b"oops"
        1 / 0  # noqa: B018
    a.send(b"next")
    assert b.recv_bytes(WAIT) == b"next"


def test_a_message_larger_than_a_slot_takes_several(ends):
    a, b = ends
    with a.reserve(64, WAIT) as slot:
        slot[:] = bytes(64)
    assert len(b.recv(WAIT)) == 64
    a.send(bytes(range(40)), WAIT)
    assert b.recv_bytes(WAIT) == bytes(range(40))
    with pytest.raises(ValueError, match="65 bytes does not fit 64"):
        a.send(bytes(65))


def test_an_empty_message_is_a_message(ends):
    a, b = ends
    a.send(b"")
    with b.recv(WAIT) as message:
        assert len(message) == 0
    a.send(b"")
    assert b.recv_bytes(WAIT) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
def test_everything_with_contiguous_bytes_is_sent(ends, kind):
    a, b = ends
    a.send(kind(b"12345678"))
    assert b.recv_bytes(WAIT) == b"12345678"


def test_what_has_no_contiguous_bytes_is_refused(ends):
    a, _ = ends
    with pytest.raises(TypeError):
        a.send("text")
    with pytest.raises(BufferError):
        a.send(memoryview(b"12345678")[::2])


def test_calls_that_do_not_wait(ends):
    a, b = ends
    assert (b.try_recv(), b.try_recv_bytes(), b.try_recv_latest(), b.try_recv_into(bytearray(4))) == (None,) * 4
    assert [a.try_send(b"x") for _ in range(5)] == [True, True, True, True, False]
    assert a.try_reserve(1) is None
    assert b.drain() == [b"x"] * 4
    assert b.drain() == []
    reservation = a.try_reserve(1)
    assert reservation is not None
    reservation.abort()


def test_a_timeout_is_pythons_own(ends):
    a, b = ends
    for receive in (b.recv, b.recv_bytes, b.recv_latest):
        with pytest.raises(TimeoutError):
            receive(0.001)
    with pytest.raises(TimeoutError):
        b.recv(timeout=0)
    a.send_many([b"x"] * 4)
    with pytest.raises(TimeoutError):
        a.send(b"x", timeout=0.001)
    with pytest.raises(TimeoutError):
        a.reserve(1, timeout=0.001)
    with pytest.raises(TimeoutError):
        a.finish(timeout=0.001)
    assert len(b.drain()) == 4


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(ends, timeout):
    with pytest.raises(ValueError, match="timeout="):
        ends[1].recv(timeout)


def test_a_wait_of_a_thousand_years_is_one_without_end(ends):
    a, b = ends
    a.send(b"x")
    assert b.recv_bytes(1e300) == b"x"
    a.send(b"x")
    assert b.recv_bytes(float("inf")) == b"x"


def test_receiving_into_a_buffer(ends):
    a, b = ends
    buffer = bytearray(b"________")
    a.send(b"hello")
    assert (b.recv_into(buffer, WAIT), buffer) == (5, b"hello___")
    a.send(b"far too long")
    with pytest.raises(BufferError) as raised:
        b.recv_into(buffer, WAIT)
    assert raised.value.args[1] == b"far too long"
    with pytest.raises(BufferError):
        b.recv_into(b"nobody writes here")
    a.send(b"")
    assert b.recv_into(bytearray(), WAIT) == 0


def test_many_at_once_wait_for_room(ends):
    a, b = ends
    a.send_many([bytes([n]) for n in range(4)])
    with pytest.raises(TimeoutError):
        a.send_many([b"more"], timeout=0)
    assert b.drain(3) == [b"\0", b"\1", b"\2"]
    assert b.drain() == [b"\3"]
    with pytest.raises(ValueError, match="17 bytes"):
        a.send_many([b"fits", bytes(17)])
    assert b.recv_bytes(WAIT) == b"fits"


def test_the_newest_message(ends):
    a, b = ends
    a.send_many([b"1", b"2", b"3"])
    with b.recv_latest(WAIT) as message:
        assert message == b"3"
    assert b.try_recv() is None


def test_a_window_holds_several_messages(ends):
    a, b = ends
    a.send_many([b"1", b"2", b"3"])
    with b.window(2, WAIT) as window:
        assert [bytes(window[at]) for at in range(len(window))] == [b"1", b"2"]
        assert bytes(window[-1]) == b"2"
        with pytest.raises(IndexError):
            window[2]
        window.release()
        window.wait_for(2, WAIT)
        assert [bytes(message) for message in window] == [b"2", b"3"]
        assert not window.try_wait_for(3)
        with pytest.raises(TimeoutError):
            window.wait_for(3, timeout=0.001)
        with pytest.raises(ValueError, match="does not fit a ring of 4"):
            window.wait_for(5)
        with pytest.raises(RuntimeError, match="a window is open"):
            b.recv(0)
        with pytest.raises(ValueError, match="0 messages"):
            window.release(0)
        # Those that are held take slots.
        assert a.try_send(b"4")
        assert a.try_send(b"5")
        assert not a.try_send(b"6")
    with pytest.raises(ValueError, match="closed"):
        window.wait_for(1)
    assert b.drain() == [b"4", b"5"]


@pytest.mark.parametrize("size", [1, 20])
def test_a_window_that_is_not_filled_in_time_takes_nothing(ends, size):
    a, b = ends
    for _ in range(6):
        a.send(b"1" * size)
        for _ in range(2):
            with pytest.raises(TimeoutError) as raised:
                b.window(2, timeout=0.001)
        # The exception is still there, and with it the call.
        assert b.recv_bytes(WAIT) == b"1" * size
        assert raised
    a.send(b"2" * size)
    a.close()
    with pytest.raises(cst.Closed):
        b.window(2)
    assert b.recv_bytes(WAIT) == b"2" * size


def test_one_message_and_one_reservation_at_a_time(ends):
    a, b = ends
    reservation = a.reserve(1)
    for call in (a.reserve, a.try_reserve, lambda: a.send(b"x"), lambda: a.try_send(b"x"), lambda: a.finish(0)):
        with pytest.raises(RuntimeError, match="a reservation is open"):
            call()
    reservation.commit()
    message = b.recv(WAIT)
    for call in (b.recv, b.try_recv, b.recv_bytes, b.drain, b.window, b.arm):
        with pytest.raises(RuntimeError, match="a message is open"):
            call()
    message.release()
    message.release()
    assert message.released


def test_messages_one_after_the_other_until_the_peer_closes(ends):
    a, b = ends
    a.send_many([b"1", b"2", b"3"])
    a.close()
    assert [bytes(message) for message in b] == [b"1", b"2", b"3"]
    with pytest.raises(cst.Closed):
        b.recv()


def test_after_close(name):
    a = cst.Transport.create(name)
    with cst.Transport.open(name, WAIT) as b:
        b.send(b"last")
    assert b.closed
    b.close()
    for call in (b.recv, b.try_recv, lambda: b.send(b"x"), b.reserve, b.arm, b.fileno):
        with pytest.raises(cst.Closed):
            call()
    assert b.stats().tx.messages == 1
    assert a.recv_bytes(WAIT) == b"last"
    with pytest.raises(cst.Closed):
        a.recv(WAIT)
    with pytest.raises(cst.Closed):
        a.send(b"nobody is there")
    assert issubclass(cst.Closed, cst.ChannelError)
    a.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_mapped(name: str) -> bool:
    return name in Path("/proc/self/maps").read_text()


def test_a_closed_transport_keeps_figures_but_no_memory_and_no_descriptor(name):
    before = descriptors()
    a, b = cst.Transport.create(name, slot_count=4), cst.Transport.open(name, WAIT, poll="spin")
    for end in (a, b):
        end.fileno(), end.room_fileno()
    a.send(b"hello")
    message = b.recv(WAIT)
    a.close()
    b.close()
    assert message.released
    # For who looks without a view, as `numpy.ndarray(buffer=...)` does.
    assert is_mapped(name)
    del message
    assert (is_mapped(name), descriptors() - before) == (False, 0)
    assert (b.stats().rx.messages, b.stats().rx.closed, b.slot_count, b.peer_attached) == (1, True, 4, True)
    assert (b.poll, b.peer_poll) == ("spin", "park")
    with pytest.raises(cst.Closed):
        b.poll = "park"
    b.interrupt()


def test_a_view_keeps_the_memory_of_a_closed_transport(name):
    a, b = cst.Transport.create(name), cst.Transport.open(name, WAIT)
    a.send(b"hello")
    with pytest.raises(BufferError):
        with b:
            kept = memoryview(b.recv(WAIT))
    a.close()
    assert is_mapped(name)
    assert kept == b"hello"
    del kept
    b.close()
    assert not is_mapped(name)


def test_one_direction_is_finished(ends):
    a, b = ends
    a.finish(WAIT)
    with pytest.raises(cst.Closed):
        a.send(b"x")
    b.send(b"still")
    assert a.recv_bytes(WAIT) == b"still"


def test_the_next_life_of_a_channel_is_joined(name):
    a = cst.Transport.create(name, slot_size=16)
    b = cst.Transport.open(name, WAIT, poll="spin")
    b.poll = 0.5
    with pytest.raises(cst.ChannelError, match="only side B reopens"):
        a.reopen()
    a.close()
    with pytest.raises(TimeoutError):
        b.reopen(timeout=0)
    assert b.closed
    with cst.Transport.create(name, slot_size=32) as a:
        b.reopen(WAIT)
        assert (b.closed, b.slot_size, b.poll) == (False, 32, 0.5)
        a.send(b"again")
        assert b.recv_bytes(WAIT) == b"again"
        b.interrupt()
        with pytest.raises(InterruptedError):
            b.recv()
        b.close()


def test_a_channel_without_a_name():
    a, fds = cst.Transport.pair(slot_size=64)
    b = cst.Transport.from_fds(fds)
    for fd in fds:
        os.close(fd)
    with a, b:
        a.send(b"hello")
        assert (b.recv_bytes(WAIT), a.name) == (b"hello", None)
        with pytest.raises(cst.ChannelError, match="anonymous"):
            b.reopen()
    with pytest.raises(ValueError, match="no file descriptor"):
        cst.Transport.from_fds((-1, -1))
    with pytest.raises(OSError, match="descriptor"):
        cst.Transport.from_fds((1000, 1001))


def test_figures_and_settings(ends):
    a, b = ends
    a.send(b"hello")
    stats = a.stats()
    assert (stats.tx.messages, stats.tx.bytes, stats.tx.used_slots, stats.rx.messages) == (1, 5, 1, 0)
    assert (a.slot_size, a.slot_count, a.side, b.side, a.peer_attached, a.peer) == (16, 4, "A", "B", True, None)
    for mode in ("spin", "park", 0.25):
        a.poll = mode
        assert (a.poll, b.peer_poll) == (mode, mode)
    b.peer_poll = "spin"
    assert a.poll == "spin"
    for mode in ("fast", 0.0, -1.0, None):
        with pytest.raises(ValueError, match="poll="):
            a.poll = mode
    assert "side A" in repr(a)
    assert "messages=1" in repr(stats)


def test_waiting_for_the_other_side(name):
    with cst.Transport.create(name) as a:
        with pytest.raises(TimeoutError, match="no other side"):
            a.wait_for_peer(0.001)
        with cst.Transport.open(name, WAIT):
            a.wait_for_peer(WAIT)


def test_a_name_belongs_to_one_pair(name):
    with cst.Transport.create(name):
        with pytest.raises(cst.InUse):
            cst.Transport.create(name)
        with pytest.raises(cst.InUse):
            cst.Transport.remove(name)
        with cst.Transport.open(name, WAIT), pytest.raises(cst.InUse):
            cst.Transport.open(name, WAIT)
    with pytest.raises(FileNotFoundError):
        cst.Transport.remove(name)
    # The time that was asked for, not that of the last of the looks between which signals are heard.
    with pytest.raises(TimeoutError, match="after 60ms: no side A has created it"):
        cst.Transport.open(name, timeout=0.06)


def test_what_makes_no_sense_is_refused(name):
    for options in (
        {"slot_count": 3},
        {"slot_size": 0},
        {"tag": "t" * 65},
        {"permissions": 0o7777},
        {"a_to_b": (0, 1)},
    ):
        with pytest.raises(ValueError, match="refused|allowed"):
            cst.Transport.create(name, **options)
    with pytest.raises(ValueError, match="no kind of message"):
        cst.Transport.create(name, sends=("values", 8))
    with pytest.raises(ValueError, match="name"):
        cst.Transport.create("a/b")
    with pytest.raises(TypeError, match='there is no option "slots"'):
        cst.Transport.create(name, slots=4)
    with pytest.raises(TypeError):
        cst.Transport.create(name, slot_size="big")
    with pytest.raises(OverflowError):
        cst.Transport.create(name, slot_size=-1)
    with pytest.raises(OSError, match="nowhere"):
        cst.Transport.create(name, directory="/nowhere")


def test_another_tag_is_a_mismatch(name):
    with cst.Transport.create(name, tag="ticks/1"), pytest.raises(cst.Mismatch, match="ticks/2"):
        cst.Transport.open(name, WAIT, tag="ticks/2")


def test_other_directories_and_geometries(name, tmp_path):
    options = {"directory": tmp_path, "a_to_b": (64, 2), "b_to_a": (8, 16), "prefault": True, "permissions": 0o600}
    with cst.Transport.create(name, **options) as a, cst.Transport.open(name, WAIT, directory=str(tmp_path)) as b:
        assert ((a.slot_size, a.slot_count), (b.slot_size, b.slot_count)) == ((64, 2), (8, 16))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_transport_is_not_pickled(ends):
    with pytest.raises(TypeError, match="pass the channel's name"):
        pickle.dumps(ends[0])


def test_a_wait_takes_its_time_and_no_more(ends):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ends[1].recv(0.12)
    assert time.monotonic() - began >= 0.12
