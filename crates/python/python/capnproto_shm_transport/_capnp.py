"""Channels of Cap'n Proto messages, by pycapnp: read in their slots."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Self

import capnp

from . import _native
from ._asyncio import AsyncMessagesOf, MessagesOf, until_received, until_sent
from ._kind import Duplex
from ._native import Corrupt, Mismatch, Transport
from ._server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Unpack

    from typing_extensions import Buffer

    from ._native import Message, Peer
    from ._types import Options, TransportOptions

WORD = 8
MAX_SEGMENTS = 511
TRAVERSAL_WORDS = 8 << 20


def segments_of(frame: memoryview) -> list[memoryview]:
    """Give the segments of a frame of the standard stream framing, which is read once and checked."""
    length = len(frame)
    if length < WORD:
        message = f"a frame of {length} bytes has no table"
        raise Corrupt(message)
    count = struct.unpack_from("<I", frame)[0] + 1
    start = (4 + 4 * count + WORD - 1) // WORD * WORD
    if count > MAX_SEGMENTS or start > length:
        message = f"a frame of {length} bytes says that it has {count} segments"
        raise Corrupt(message)
    segments = []
    for words in struct.unpack_from(f"<{count}I", frame, 4):
        end = start + WORD * words
        if end > length:
            message = f"a frame of {length} bytes says that it goes on to byte {end}"
            raise Corrupt(message)
        segments.append(frame[start:end])
        start = end
    return segments


def read(frame: Buffer, schema: Any) -> Any:  # noqa: ANN401 - pycapnp makes its types at run time
    """Give a reader of the frame's root, which keeps a buffer of the frame as long as it lives."""
    segments = segments_of(memoryview(frame))
    words = sum(map(len, segments)) // WORD
    # A large message may be looked at once more than the default allows.
    return schema.from_segments(segments, traversal_limit_in_words=max(TRAVERSAL_WORDS, WORD * words))


class CapnpMessage:
    """A message in its slot: it has the fields of its root, and the methods of a pycapnp reader.

    Structs, lists and data that are taken of it are views of the slot. They must be gone when the block ends: else that
    raises BufferError. The message itself may stay: after the end, using it raises ValueError.
    """

    __slots__ = ("_reader",)

    def __init__(self, reader: Any) -> None:  # noqa: ANN401
        """Made by a block."""
        self._reader = reader

    @property
    def reader(self) -> Any:  # noqa: ANN401
        """The pycapnp reader. ValueError after the end of the block."""
        if self._reader is None:
            message = "this message was released at the end of its block; copy what is needed later"
            raise ValueError(message)
        return self._reader

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Give a field, or what a reader has."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.reader, name)

    def detach(self) -> None:
        """Give the view up."""
        self._reader = None

    def __repr__(self) -> str:
        """Say what it is."""
        return "<message, released>" if self._reader is None else repr(self._reader)


class Received:
    """A received message: `with` gives it in its slot, and releases it."""

    __slots__ = ("_reading", "_schema", "_slot")

    def __init__(self, slot: Message, schema: Any) -> None:  # noqa: ANN401
        """Make it of a slot."""
        self._slot = slot
        self._schema = schema
        self._reading: CapnpMessage | None = None

    @property
    def address(self) -> int:
        """Where the frame lies in this process's memory."""
        return self._slot.address

    def __enter__(self) -> CapnpMessage:
        """Give the message. Corrupt if it is no frame; then it is released."""
        try:
            self._reading = CapnpMessage(read(self._slot, self._schema))
        except BaseException as error:
            self._slot.__exit__(type(error), error, None)
            raise
        return self._reading

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Release it."""
        if self._reading is not None:
            self._reading.detach()
        self._slot.__exit__(exception, value, traceback)


class Building:
    """A message to fill: `with` gives a pycapnp builder, and sends it at the end of the block unless that raises."""

    __slots__ = ("_builder", "_channel", "_timeout")

    def __init__(self, channel: CapnpChannel, timeout: float | None) -> None:
        """Made by a channel."""
        self._channel = channel
        self._timeout = timeout
        self._builder: Any = None

    def __enter__(self) -> Any:  # noqa: ANN401
        """Give the builder."""
        self._builder = self._channel.sends.new_message()
        return self._builder

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Send it."""
        if exception is None:
            self._channel.send(self._builder, self._timeout)


class Frame:
    """A message as it is sent: its table, and its segments."""

    __slots__ = ("_parts", "size")

    def __init__(self, message: Any) -> None:  # noqa: ANN401
        """Take the segments of a builder."""
        segments = message.to_segments()
        count = len(segments)
        table = struct.pack(f"<{count + 1}I", count - 1, *(len(segment) // WORD for segment in segments))
        self._parts = [table.ljust((len(table) + WORD - 1) // WORD * WORD, b"\0"), *segments]
        self.size = sum(map(len, self._parts))

    def write(self, slot: memoryview) -> None:
        """Copy it into a slot."""
        at = 0
        for part in self._parts:
            slot[at : at + len(part)] = part
            at += len(part)


class CapnpChannel(Duplex):
    """One side of a channel of Cap'n Proto messages, which are read in their slots.

    It meets a Rust or C++ `CapnpChannel` of the same root types: their ids are compared when the channel is opened. A message
    to send is built by pycapnp and copied into its slot, once.

    >>> import capnp, os, tempfile
    >>> import capnproto_shm_transport as cst
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = os.path.join(directory, "part.capnp")
    ...     with open(path, "w") as file:
    ...         _ = file.write("@0xbf5147cbbecf40c1; struct Part { id @0 :UInt64; displayName @1 :Text; }")
    ...     Part = capnp.load(path).Part
    >>> with cst.CapnpChannel.create("doc-capnp", Part) as a, cst.CapnpChannel.open("doc-capnp", Part) as b:
    ...     a.send(Part.new_message(id=42, displayName="elbow"))
    ...     with b.recv(timeout=1.0) as part:
    ...         print(part.id, part.displayName)
    42 elbow
    """

    __slots__ = ("_id", "receives", "sends")

    def __init__(self, transport: Transport, sends: Any, receives: Any) -> None:  # noqa: ANN401
        """Made by `create`, `open`, `connect`, `pair`, `from_fds` or a server."""
        self.transport = transport
        self.sends = sends
        self.receives = receives
        self._id = type_id(sends)

    @classmethod
    def _make(cls, make: Callable[[TransportOptions], Transport], schema: Any, receives: Any, options: Options) -> Self:  # noqa: ANN401
        received = schema if receives is None else receives
        return cls(make(declared(options, schema, received)), schema, received)

    @classmethod
    def create(cls, name: str, schema: Any, receives: Any = None, **options: Unpack[Options]) -> Self:  # noqa: ANN401
        """Side A: make the channel. It sends messages of `schema`, and receives the same unless `receives` says."""
        return cls._make(lambda given: Transport.create(name, **given), schema, receives, options)

    @classmethod
    def open(
        cls,
        name: str,
        schema: Any,  # noqa: ANN401
        receives: Any = None,  # noqa: ANN401
        timeout: float | None = 5.0,
        **options: Unpack[Options],
    ) -> Self:
        """Side B: join the channel. Mismatch unless side A receives what this side sends, and sends what it receives."""
        return cls._make(lambda given: Transport.open(name, timeout, **given), schema, receives, options)

    @classmethod
    def connect(
        cls,
        name: str,
        schema: Any,  # noqa: ANN401
        receives: Any = None,  # noqa: ANN401
        timeout: float | None = 5.0,
        **options: Unpack[Options],
    ) -> Self:
        """Ask the server `name` for a channel."""
        return cls._make(lambda given: Transport.connect(name, timeout, **given), schema, receives, options)

    @classmethod
    def pair(cls, schema: Any, receives: Any = None, **options: Unpack[Options]) -> tuple[Self, tuple[int, int]]:  # noqa: ANN401
        """Make a channel without a name; see `Transport.pair`."""
        received = schema if receives is None else receives
        transport, fds = Transport.pair(**declared(options, schema, received))
        return cls(transport, schema, received), fds

    @classmethod
    def from_fds(cls, fds: tuple[int, int], schema: Any, receives: Any = None, **options: Unpack[Options]) -> Self:  # noqa: ANN401
        """Side B of a channel without a name; see `Transport.from_fds`."""
        return cls._make(lambda given: Transport.from_fds(fds, **given), schema, receives, options)

    @classmethod
    def bind(  # noqa: PLR0913 - as Server.bind
        cls,
        name: str,
        schema: Any,  # noqa: ANN401
        receives: Any = None,  # noqa: ANN401
        *,
        filter: Callable[[Peer], bool] | None = None,  # noqa: A002 - as in Rust
        clients: int | None = None,
        memory: int | None = None,
        **options: Unpack[Options],
    ) -> Server[Self]:
        """Be a server whose clients' channels are of this kind; see `Server.bind`."""
        received = schema if receives is None else receives
        given = declared(options, schema, received)
        server = _native.Server.bind(name, filter=filter, clients=clients, memory=memory, **given)
        return Server(server, lambda transport: cls(transport, schema, received))

    def new_message(self, **fields: Any) -> Any:  # noqa: ANN401
        """Make a pycapnp builder of what this side sends."""
        return self.sends.new_message(**fields)

    def reserve(self, timeout: float | None = None) -> Building:
        """Build a message in a `with` block, which sends it at the end."""
        return Building(self, timeout)

    def _frame(self, message: Any) -> Frame:  # noqa: ANN401
        try:
            found = message.schema.node.id
        except AttributeError:
            text = f"{type(message).__name__} is no message of pycapnp's; build one by new_message() or reserve()"
            raise TypeError(text) from None
        if found != self._id:
            text = f"a message of type @{found:#x} on a channel of @{self._id:#x}"
            raise Mismatch(text)
        if not hasattr(message, "to_segments"):
            message = message.as_builder()
        return Frame(message)

    def send(self, message: Any, timeout: float | None = None) -> None:  # noqa: ANN401
        """Send a message of pycapnp's: a builder, or a reader."""
        frame = self._frame(message)
        with self.transport.reserve(frame.size, timeout) as slot:
            frame.write(slot)

    def try_send(self, message: Any) -> bool:  # noqa: ANN401
        """Do the same without waiting: False if there is no room."""
        frame = self._frame(message)
        reservation = self.transport.try_reserve(frame.size)
        if reservation is None:
            return False
        with reservation as slot:
            frame.write(slot)
        return True

    async def send_async(self, message: Any) -> None:  # noqa: ANN401
        """Do the same in a task."""
        frame = self._frame(message)
        with await until_sent(self.transport, frame.size, lambda: self.transport.try_reserve(frame.size)) as slot:
            frame.write(slot)

    def recv(self, timeout: float | None = None) -> Received:
        """Wait for a message. `with` gives it, in its slot, and releases it."""
        return Received(self.transport.recv(timeout), self.receives)

    def try_recv(self) -> Received | None:
        """Do the same without waiting: None if there is none."""
        slot = self.transport.try_recv()
        return None if slot is None else Received(slot, self.receives)

    async def recv_async(self) -> Received:
        """Do the same in a task."""
        return Received(await until_received(self.transport, self.transport.try_recv), self.receives)

    def recv_latest(self, timeout: float | None = None) -> Received:
        """Wait for a message, and give the newest. Older ones are released unseen."""
        return Received(self.transport.recv_latest(timeout), self.receives)

    def try_recv_latest(self) -> Received | None:
        """Do the same without waiting: None if there is none."""
        slot = self.transport.try_recv_latest()
        return None if slot is None else Received(slot, self.receives)

    def recv_copy(self, timeout: float | None = None) -> Any:  # noqa: ANN401
        """Wait for a message, and give a pycapnp reader of a copy, which stays as long as anybody wants it."""
        return read(self.transport.recv_bytes(timeout), self.receives)

    def try_recv_copy(self) -> Any:  # noqa: ANN401
        """Do the same without waiting: None if there is none."""
        frame = self.transport.try_recv_bytes()
        return None if frame is None else read(frame, self.receives)

    def __iter__(self) -> Iterator[CapnpMessage]:
        """Give the messages one after the other, each released when the next one is asked for, until the peer closes."""
        return MessagesOf(self.recv)

    def __aiter__(self) -> AsyncIterator[CapnpMessage]:
        """Give the same in a task."""
        return AsyncMessagesOf(self.transport, self.try_recv)


def type_id(schema: Any) -> int:  # noqa: ANN401
    """Give the id of a struct, as the schema file has it or as it follows from it."""
    try:
        return int(schema.schema.node.id)
    except AttributeError:
        message = f'{schema!r} is no struct of a schema; give one, as capnp.load("quotes.capnp").Quotes'
        raise TypeError(message) from None


def declared(options: Options, sent: Any, received: Any) -> TransportOptions:  # noqa: ANN401
    """Give the options of a channel of two types."""
    return {**options, "sends": ("capnp", type_id(sent)), "receives": ("capnp", type_id(received))}


__all__ = ["CapnpChannel", "CapnpMessage", "capnp"]
