"""Channels of numpy types."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import capnproto_shm_transport as cst
import numpy as np
import pytest
from conftest import SEGMENTS, WAIT, left

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = np.dtype([("id", "u8"), ("price", "f8"), ("parts", "u2", 4)], align=True)
FRAME = np.dtype(("u1", (48, 64)))


@pytest.fixture
def ends(name: str) -> Iterator[tuple[cst.Channel, cst.Channel]]:
    """Give both sides of a channel of orders."""
    with cst.Channel.create(name, ORDER, slot_count=4) as a, cst.Channel.open(name, ORDER, timeout=WAIT) as b:
        yield a, b


@pytest.fixture
def frames(name: str) -> Iterator[tuple[cst.Channel, cst.Channel]]:
    """Give both sides of a channel of pictures one way and orders back."""
    with (
        cst.Channel.create(name, FRAME, ORDER, slot_count=4) as a,
        cst.Channel.open(name, ORDER, FRAME, timeout=WAIT) as b,
    ):
        yield a, b


def is_mapped(address: int, length: int, name: str) -> bool:
    """Say whether these bytes lie in a mapping of one of the channel's files."""
    inodes = {path.stat().st_ino for path in left(name)}
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, _, _, _, inode, *_ = line.split()
        start, end = (int(number, 16) for number in addresses.split("-"))
        if start <= address and address + length <= end:
            return int(inode) in inodes
    return False


def test_a_value_is_built_and_read_in_its_slot(ends):
    a, b = ends
    with a.reserve() as order:
        order["id"] = 7
        order["price"] = 99.5
        order["parts"] = [1, 2, 3, 4]
        order["parts"][2:] = 9
    with b.recv(WAIT) as order:
        assert (order["id"], order["price"], order["parts"].tolist()) == (7, 99.5, [1, 2, 9, 9])
        assert order.dtype == ORDER
        with pytest.raises(ValueError, match="read-only"):
            order["id"] = 1
        copy = order.copy()
    # The block's own variable may stay; a copy too.
    with pytest.raises(ValueError, match="released"):
        order["id"]
    assert (repr(order), copy["id"]) == ("<Value, released>", 7)


def test_no_frame_is_copied(frames, name):
    a, b = frames
    with a.reserve() as frame:
        frame[:] = 3
        frame[10:20, 5] = 200
        assert is_mapped(frame.ctypes.data, FRAME.itemsize, name)
    with b.recv(WAIT) as frame:
        assert is_mapped(frame.ctypes.data, FRAME.itemsize, name)
        assert (frame.shape, frame.mean(), np.max(frame), len(frame)) == ((48, 64), 3 + 10 * 197 / 3072, 200, 48)
        assert (frame + 1).sum() == frame.array.astype(int).sum() + 48 * 64
        assert np.asarray(frame)[12, 5] == 200


def test_an_array_that_is_kept_raises_and_stays_whole(frames):
    a, b = frames
    a.send(np.full((48, 64), 5))
    with pytest.raises(BufferError, match="a view of the message"), b.recv(WAIT) as frame:
        kept = frame[10:20]
    a.send(np.full((48, 64), 6))
    assert (kept == 5).all()
    del kept
    with b.recv(WAIT) as frame:
        assert (frame.array == 6).all()


def test_an_exception_aborts(ends):
    a, b = ends
    with pytest.raises(KeyError), a.reserve() as order:
        order["id"] = 7
        raise KeyError
    assert b.try_recv() is None
    a.send((8, 1.0, [0] * 4))
    assert b.recv_copy(WAIT)["id"] == 8


def test_calls_that_do_not_wait_and_timeouts(ends):
    a, b = ends
    assert (b.try_recv(), b.try_recv_latest(), b.try_recv_copy()) == (None,) * 3
    a.send((8, 0.0, [0] * 4))
    assert b.try_recv_copy()["id"] == 8
    a.send((9, 0.0, [0] * 4))
    with b.try_recv_latest() as order:
        assert order["id"] == 9
    assert [a.try_send((n, 0.0, [0] * 4)) for n in range(5)] == [True] * 4 + [False]
    assert a.try_reserve() is None
    with pytest.raises(TimeoutError):
        a.reserve(timeout=0.001)
    with b.recv_latest(WAIT) as order:
        assert order["id"] == 3
    with pytest.raises(TimeoutError):
        b.recv(timeout=0.001)


def test_a_window_of_the_last_frames(frames):
    a, b = frames
    for number in range(4):
        a.send(np.full((48, 64), number))
    with b.window(3, WAIT) as window:
        assert np.median(np.stack([frame.array for frame in window]), axis=0).max() == 1
        first = window[0]
        window.release()
        with pytest.raises(ValueError, match="released"):
            first.mean()
        window.wait_for(3, WAIT)
        assert [int(frame[0, 0]) for frame in window] == [1, 2, 3]
        assert not window.try_wait_for(4)
        kept = window[0][0]
        with pytest.raises(BufferError):
            window.release(2)
        assert (len(window), window[0][0, 0]) == (3, 1)
        del kept
        window.release(2)
        assert window[-1][0, 0] == 3
    assert b.try_recv() is None
    assert a.stats().tx.used_slots == 0


def test_a_window_with_an_array_that_is_kept(frames):
    a, b = frames
    a.send(np.full((48, 64), 9))
    with pytest.raises(BufferError), b.window(1, WAIT) as window:
        kept = window[0].array
    assert (kept == 9).all()
    del kept
    assert a.stats().tx.used_slots == 0


def test_a_window_that_is_not_filled_in_time_keeps_nothing(frames):
    a, b = frames
    a.send(np.full((48, 64), 1))
    try:
        b.window(2, timeout=0.001)
    except TimeoutError:
        # While the exception, and with it the call, is still there.
        with b.recv(WAIT) as frame:
            assert frame[0, 0] == 1
    else:
        pytest.fail("one frame filled a window of two")


def test_a_release_of_too_few_leaves_the_window_as_it_is(frames):
    a, b = frames
    a.send(np.full((48, 64), 1))
    a.send(np.full((48, 64), 2))
    with b.window(2, WAIT) as window:
        with pytest.raises(OverflowError):
            window.release(-1)
        with pytest.raises(ValueError, match="0 messages"):
            window.release(0)
        assert [int(frame[0, 0]) for frame in window] == [1, 2]
        window.release(2**62)
        assert len(window) == 0


def test_values_one_after_the_other(ends):
    a, b = ends
    for number in range(3):
        a.send((number, 0.0, [0] * 4))
    a.close()
    assert [int(order["id"]) for order in b] == [0, 1, 2]


def test_in_a_task(ends):
    a, b = ends

    async def both() -> list[int]:
        async def produce() -> None:
            for number in range(20):
                if number % 2:
                    await a.send_async((number, 0.0, [0] * 4))
                else:
                    with await a.reserve_async() as order:
                        order["id"] = number
            a.close()

        producing = asyncio.create_task(produce())
        with await b.recv_async() as order:
            seen = [int(order["id"])]
        seen += [int(order["id"]) async for order in b]
        await producing
        return seen

    assert asyncio.run(both()) == list(range(20))


@pytest.mark.parametrize(
    "other",
    [
        np.dtype([("id", "u8"), ("price", "f8")], align=True),
        np.dtype([("flag", "u1"), ("id", "u8"), ("price", "f8"), ("rest", "u1", 7)]),
        np.dtype(("u4", 6)),
    ],
)
def test_types_that_differ_are_refused(ends, name, other):
    ends[1].close()
    with pytest.raises(cst.Mismatch, match="a Pod type of 24 bytes, aligned to 8"):
        cst.Channel.open(name, other, timeout=WAIT)


@pytest.mark.parametrize(
    ("dtype", "align"),
    [
        ([("id", "u8"), ("price", "f8"), ("parts", "u2", 4)], 8),
        ([("id", "u4"), ("inner", [("a", "u2"), ("b", "u2")])], 4),
        (([("a", "u2"), ("b", "u2")], 3), 2),
        ([("flag", "u1"), ("id", "u8")], 1),
        ([("id", "u8"), ("flag", "u1")], 1),
        (("f4", (2, 3)), 4),
        ("S5", 1),
    ],
)
def test_a_type_that_lies_as_in_c_has_cs_alignment(name, dtype, align):
    with cst.Channel.create(name, dtype):
        kind = cst.info(name).a_to_b
        assert kind.endswith(f"aligned to {align}"), kind


def test_each_direction_has_its_type(frames, name):
    a, b = frames
    b.send((1, 2.0, [3] * 4))
    with a.recv(WAIT) as order:
        assert order["price"] == 2.0
    b.close()
    with pytest.raises(cst.Mismatch, match="sending"):
        cst.Channel.open(name, FRAME, timeout=WAIT)


def test_what_is_no_value_is_refused(ends, name):
    with pytest.raises(TypeError, match="Python objects"):
        cst.Channel.create(name, object)
    with pytest.raises(ValueError, match="align=True"):
        cst.Channel.create(name, np.dtype([]))
    with pytest.raises(ValueError, match="bytes on a channel of values"):
        ends[0].transport.send(b"short")
    with pytest.raises(ValueError, match="bytes on a channel of values"):
        ends[0].transport.reserve(3)


def test_an_array_of_another_shape_is_refused(frames):
    with pytest.raises(ValueError, match="shape"):
        frames[0].send(np.zeros((64, 48)))


def test_scalars(name):
    with cst.Channel.create(name, np.float64) as a, cst.Channel.open(name, "f8", timeout=WAIT) as b:
        with a.reserve() as value:
            value[...] = 1.5
        with b.recv(WAIT) as value:
            assert value + 1 == 2.5
            assert (float(value), int(value), bool(value)) == (1.5, 1, True)
            assert (1.5 in value, 2.5 in value) == (True, False)
            with pytest.raises(TypeError, match="0-d"):
                iter(value)
            assert np.asarray(value, "f4").dtype == np.float32
            with pytest.raises(ValueError, match="copy"):
                np.array(value, "f4", copy=False)
            assert np.shares_memory(np.asarray(value), value.array)


def test_the_rows_of_a_value(frames):
    a, b = frames
    a.send(np.arange(48 * 64).reshape(48, 64) % 251)
    with b.recv(WAIT) as frame:
        assert [int(row[0]) for row in frame] == [at * 64 % 251 for at in range(48)]
        assert 7 in frame
        assert 255 not in frame
        with pytest.raises(ValueError, match="ambiguous"):
            bool(frame)


@pytest.mark.parametrize("inner", ["u2", [("x", "u2"), ("y", "u2")]])
def test_an_array_of_arrays(name, inner):
    dtype = np.dtype((np.dtype((inner, 2)), 3))
    sent = np.zeros((3, 2), inner)
    sent.view("u2")[:] = np.arange(sent.nbytes // 2).reshape(3, -1)
    with cst.Channel.create(name, dtype) as a, cst.Channel.open(name, dtype, timeout=WAIT) as b:
        a.send(sent)
        with a.reserve() as value:
            value[:] = sent
        for _ in range(2):
            with b.recv(WAIT) as value:
                assert value.shape == (3, 2)
                assert (value.array == sent).all()
        with pytest.raises(ValueError, match="shape"):
            a.send(sent[:2])


def test_without_a_name_and_from_a_server(name):
    a, fds = cst.Channel.pair("u4")
    with a, cst.Channel.from_fds(fds, "u4") as b:
        a.send(7)
        assert b.recv_copy(WAIT) == 7
    import os
    import threading

    for fd in fds:
        os.close(fd)

    def client() -> None:
        with pytest.raises(cst.Mismatch):
            cst.Channel.connect(name, "u8", timeout=WAIT)
        with cst.Channel.connect(name, "u4", timeout=WAIT) as channel:
            channel.send(9)
            channel.finish(WAIT)

    with cst.Channel.bind(name, "u4", slot_count=4) as server:
        thread = threading.Thread(target=client)
        thread.start()
        with server.accept(WAIT) as channel:
            assert channel.recv_copy(WAIT) == 9
            assert channel.peer.pid == os.getpid()
        thread.join(WAIT)


@pytest.mark.parametrize("length", [0, ORDER.itemsize - 1, ORDER.itemsize + 1, 2**31, 2**32 - 1])
def test_a_length_that_no_value_has_is_corrupt_and_harmless(ends, name, length):
    a, b = ends
    a.send((7, 99.5, (1, 2, 3, 4)))
    # As docs/layout.md has them, the lengths of the slots begin there.
    with (SEGMENTS / f"{name}.fs.a2b").open("r+b") as segment:
        segment.seek(4096)
        assert int.from_bytes(segment.read(4), "little") == ORDER.itemsize
        segment.seek(4096)
        segment.write(length.to_bytes(4, "little"))
    for receive in (b.recv, b.recv_copy, b.recv_latest):
        with pytest.raises(cst.Corrupt, match="impossible"):
            receive(WAIT)
