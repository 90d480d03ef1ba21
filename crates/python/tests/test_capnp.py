"""Channels of Cap'n Proto messages, by pycapnp."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import capnproto_shm_transport as cst
import pytest
from conftest import WAIT

capnp = pytest.importorskip("capnp")

if TYPE_CHECKING:
    from collections.abc import Iterator

quotes = capnp.load(str(Path(__file__).parents[3] / "schema" / "quotes.capnp"))


@pytest.fixture
def ends(name: str) -> Iterator[tuple[cst.CapnpChannel, cst.CapnpChannel]]:
    """Give both sides of a channel of quotes one way and books back."""
    with (
        cst.CapnpChannel.create(name, quotes.Quotes, quotes.Book, slot_count=16) as a,
        cst.CapnpChannel.open(name, quotes.Book, quotes.Quotes, timeout=WAIT) as b,
    ):
        yield a, b


def message(size: int = 1) -> object:
    """Build quotes of several books."""
    built = quotes.Quotes.new_message(venue="XLON", time=7)
    for at, book in enumerate(built.init("books", size)):
        book.symbol = f"S{at}"
        level = book.init("bids", 1)[0]
        level.price, level.size = at / 2, at
    return built


def check(reader: object, size: int) -> None:
    """Look at all of them."""
    assert (reader.venue, reader.time, len(reader.books)) == ("XLON", 7, size)
    for at, book in enumerate(reader.books):
        assert (book.symbol, book.bids[0].price, book.bids[0].size) == (f"S{at}", at / 2, at)


@pytest.mark.parametrize("size", [0, 1, 5, 100])
def test_messages_of_any_size_are_read_in_their_slot(ends, size):
    a, b = ends
    a.send(message(size), WAIT)
    with b.recv(WAIT) as reader:
        check(reader, size)
    with pytest.raises(ValueError, match="released"):
        _ = reader.venue


def test_a_message_is_built_in_a_block(ends):
    a, b = ends
    with a.reserve() as built:
        built.venue = "XETR"
        books = built.init("books", 2)
        books[1].symbol = "SAP"
    # The messages that were built may stay: they are copies.
    assert books[1].symbol == "SAP"
    with b.recv(WAIT) as reader:
        assert (reader.venue, reader.books[1].symbol) == ("XETR", "SAP")
    with pytest.raises(KeyError), a.reserve() as built:
        raise KeyError
    assert b.try_recv() is None


def test_a_struct_that_is_kept_raises_and_stays_whole(ends):
    a, b = ends
    a.send(message(2))
    with pytest.raises(BufferError, match="a view of the message"), b.recv(WAIT) as reader:
        kept = reader.books[1]
    with pytest.raises(BufferError, match="an earlier message"):
        b.recv(0)
    assert kept.symbol == "S1"
    del kept
    a.send(message(1))
    with b.recv(WAIT) as reader:
        assert len(reader.books) == 1


def test_a_copy_stays(ends):
    a, b = ends
    a.send(message(3))
    kept = b.recv_copy(WAIT)
    b.close()
    check(kept, 3)


def test_calls_that_do_not_wait(ends):
    a, b = ends
    assert (b.try_recv(), b.try_recv_latest(), b.try_recv_copy()) == (None,) * 3
    assert a.try_send(message(1))
    check(b.try_recv_copy(), 1)
    assert a.try_send(message(1))
    assert a.try_send(message(2))
    with b.try_recv_latest() as reader:
        check(reader, 2)
    while a.try_send(message(1)):
        pass
    with pytest.raises(TimeoutError):
        a.send(message(1), timeout=0.001)


def test_without_a_name_and_from_a_server(name):
    a, fds = cst.CapnpChannel.pair(quotes.Quotes, quotes.Book)
    with a, cst.CapnpChannel.from_fds(fds, quotes.Book, quotes.Quotes) as b:
        a.send(message(2))
        check(b.recv_copy(WAIT), 2)
    for fd in fds:
        os.close(fd)

    def client() -> None:
        with pytest.raises(cst.Mismatch):
            cst.CapnpChannel.connect(name, quotes.Quotes, timeout=WAIT)
        with cst.CapnpChannel.connect(name, quotes.Book, quotes.Quotes, timeout=WAIT) as channel:
            check(channel.recv_copy(WAIT), 3)

    with cst.CapnpChannel.bind(name, quotes.Quotes, quotes.Book, slot_count=16) as server:
        thread = threading.Thread(target=client)
        thread.start()
        with server.accept(WAIT) as channel:
            channel.send(message(3))
            channel.finish(WAIT)
        thread.join(WAIT)


def test_a_part_of_a_message_is_answered(ends):
    a, b = ends
    a.send(message(3))
    with b.recv(WAIT) as reader:
        b.send(reader.books[2])
    with a.recv(WAIT) as book:
        assert book.symbol == "S2"


def test_another_type_is_refused(ends, name):
    a, b = ends
    with pytest.raises(cst.Mismatch, match="a message of type"):
        a.send(quotes.Book.new_message())
    with pytest.raises(TypeError, match="dict is no message of pycapnp's"):
        a.send({"venue": "XLON"})
    b.close()
    with pytest.raises(cst.Mismatch, match="Cap'n Proto"):
        cst.CapnpChannel.open(name, quotes.Quotes, timeout=WAIT)
    with pytest.raises(cst.Mismatch):
        cst.CapnpChannel.open(name, quotes.Book, quotes.Level, timeout=WAIT)
    with pytest.raises(TypeError, match="no struct of a schema"):
        cst.CapnpChannel.open(name, dict)


def test_what_is_no_frame_is_corrupt_and_harmless(ends):
    a, b = ends
    bad = [
        b"",
        bytes(7),
        struct.pack("<II", 0, 1),
        struct.pack("<II", 511, 1),
        struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF),
        struct.pack("<III", 1, 0, 0xFFFFFFFF) + bytes(4),
    ]
    for frame in bad:
        a.transport.send(frame)
        with pytest.raises(cst.Corrupt), b.recv(WAIT):
            pass
        a.transport.send(frame)
        with pytest.raises(cst.Corrupt):
            b.recv_copy(WAIT)
    choose = random.Random(1)  # noqa: S311
    whole = b"".join((struct.pack("<II", 0, len(s) // 8) + s for s in message(3).to_segments()[:1]))
    for _ in range(300):
        frame = bytearray(whole)
        for _ in range(choose.randrange(1, 9)):
            frame[choose.randrange(len(frame))] = choose.randrange(256)
        a.transport.send(frame, WAIT)
        try:
            with b.recv(WAIT) as reader:
                reader.to_dict()
        except (cst.Corrupt, capnp.KjException, UnicodeDecodeError):
            pass
    a.send(message(1))
    with b.recv(WAIT) as reader:
        check(reader, 1)


def test_in_a_task(ends):
    a, b = ends

    async def both() -> int:
        async def produce() -> None:
            for size in range(30):
                await a.send_async(message(size % 7))
            a.close()

        producing = asyncio.create_task(produce())
        count = 0
        async for reader in b:
            check(reader, count % 7)
            count += 1
        await producing
        return count

    assert asyncio.run(both()) == 30
