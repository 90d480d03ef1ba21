"""One side of a channel, in Python: as crates/capi/tests/peer.rs is one in Rust. CREATE|OPEN KIND ENDING NAME."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, Protocol

import capnproto_shm_transport as cst
import numpy as np

ROUNDS = 300
WAIT = 60.0
TAG = "pairs/1"
VALUE = np.dtype([("number", "u8"), ("price", "f8"), ("size", "u4"), ("flags", "u4")], align=True)


class Kind(Protocol):
    """A kind of channel, whose messages are numbers."""

    channel: Any

    def send(self, number: int) -> None:
        """Send the message of this number."""

    def next_is(self, number: int) -> bool:
        """Say whether the next message is this one."""


def message_bytes(number: int) -> bytes:
    """Give the message of a number, of several lengths."""
    return bytes((number * 131 + at * 7) & 255 for at in range(number % 40))


class Raw:
    """Bytes."""

    def __init__(self, side: str, name: str) -> None:
        """Make or join the channel."""
        options: dict[str, Any] = {"slot_size": 16, "slot_count": 8, "tag": TAG if side != "wrong" else "pairs/2"}
        transport = cst.Transport
        self.channel = transport.create(name, **options) if side == "create" else transport.open(name, WAIT, **options)

    def send(self, number: int) -> None:
        """Send the message of this number."""
        message = message_bytes(number)
        with self.channel.reserve(len(message)) as slot:
            slot[:] = message

    def next_is(self, number: int) -> bool:
        """Say whether the next message is this one."""
        with self.channel.recv(WAIT) as message:
            return bytes(message) == message_bytes(number)


class Values:
    """Values of one type."""

    def __init__(self, side: str, name: str) -> None:
        """Make or join the channel."""
        options: dict[str, Any] = {"slot_count": 8, "tag": TAG}
        if side == "create":
            self.channel = cst.Channel.create(name, VALUE, **options)
        else:
            sends = VALUE if side == "open" else np.dtype(("u8", 4))
            self.channel = cst.Channel.open(name, sends, VALUE, timeout=WAIT, **options)

    def send(self, number: int) -> None:
        """Send the message of this number."""
        with self.channel.reserve() as value:
            value["number"], value["price"] = number, number * 0.5
            value["size"], value["flags"] = number, ~number & 0xFFFFFFFF

    def next_is(self, number: int) -> bool:
        """Say whether the next message is this one."""
        with self.channel.recv(WAIT) as value:
            return tuple(value[()].tolist()) == (number, number * 0.5, number, ~number & 0xFFFFFFFF)


class Capnp:
    """Cap'n Proto messages."""

    def __init__(self, side: str, name: str) -> None:
        """Make or join the channel."""
        import capnp  # noqa: PLC0415 - not for the others

        quotes = capnp.load(str(Path(__file__).parents[3] / "schema" / "quotes.capnp"))
        options: dict[str, Any] = {"slot_size": 64, "slot_count": 8, "tag": TAG}
        if side == "create":
            self.channel = cst.CapnpChannel.create(name, quotes.Level, **options)
        else:
            sends = quotes.Level if side == "open" else quotes.Book
            self.channel = cst.CapnpChannel.open(name, sends, quotes.Level, timeout=WAIT, **options)

    def send(self, number: int) -> None:
        """Send the message of this number."""
        self.channel.send(self.channel.new_message(price=number * 0.5, size=number))

    def next_is(self, number: int) -> bool:
        """Say whether the next message is this one."""
        with self.channel.recv(WAIT) as level:
            return (level.price, level.size) == (number * 0.5, number)


def need(true: bool, otherwise: str) -> None:  # noqa: FBT001
    """Fail unless this is so."""
    if not true:
        sys.exit(f"peer.py: {otherwise}")


def sees(peer: Kind, end: type[BaseException]) -> None:
    """Fail unless the channel ends so."""
    try:
        peer.channel.recv(WAIT)
    except end:
        return
    need(true=False, otherwise=f"it has not ended by {end.__name__}")


def play(side: str, kind: type[Raw | Values | Capnp], ending: str, name: str) -> None:
    """Do what the arguments say."""
    if ending == "wrong":
        try:
            kind("wrong", name)
        except cst.Mismatch:
            return
        need(true=False, otherwise="the wrong type is not refused")
    peer: Kind = kind(side, name)
    if ending == "waits":
        sys.stdin.read()
        return
    number = 0
    while ending == "streams":
        peer.send(number)
        number += 1
    while ending == "sees-stream":
        try:
            need(peer.next_is(number), f"message {number} of the stream is not as it was sent")
        except cst.PeerDead:
            return
        if number == 0:
            print("there", flush=True)
        number += 1
    for number in range(ROUNDS):
        if side == "create":
            peer.send(number)
        need(peer.next_is(number), f"message {number} is not as it was sent")
        if side == "open":
            peer.send(number)
    if ending == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if ending == "sees-death":
        sees(peer, cst.PeerDead)
    if ending == "sees-close":
        sees(peer, cst.Closed)
    peer.channel.close()


if __name__ == "__main__":
    play(sys.argv[1], {"raw": Raw, "values": Values, "capnp": Capnp}[sys.argv[2]], sys.argv[3], sys.argv[4])
