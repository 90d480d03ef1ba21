"""Channels of values: numpy arrays that lie in the slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _native
from ._asyncio import AsyncMessagesOf, MessagesOf, until_received, until_sent
from ._kind import Duplex
from ._native import Transport
from ._server import Server
from ._value import Block, FrameWindow, plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Unpack

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from ._native import Peer
    from ._types import Kind, Options, TransportOptions
    from ._value import Value

MAX_ALIGN = 64


def alignment(dtype: np.dtype[Any]) -> int:
    """Say what C's `alignof` says of a type: of a structured one the largest of its fields', 1 if they lie elsewhere than in C.

    numpy itself says 1 of every structured type that was not made with `align=True`, also if it lies in memory as C's does.
    """
    if dtype.subdtype is not None:
        return alignment(dtype.base)
    if dtype.fields is None or dtype.isalignedstruct:
        return dtype.alignment
    fields = [(offset, alignment(field)) for field, offset, *_ in dtype.fields.values()]
    align = max((each for _, each in fields), default=1)
    as_in_c = dtype.itemsize % align == 0 and all(offset % each == 0 for offset, each in fields)
    return align if as_in_c else 1


def identity(dtype: np.dtype[Any]) -> Kind:
    """Say what the header records of values of a type: what Rust's `size_of` and `align_of` say of the same struct."""
    if dtype.hasobject:
        message = f"{dtype} has Python objects in it, which mean nothing to another process; use numbers"
        raise TypeError(message)
    align = alignment(dtype)
    if dtype.itemsize == 0 or dtype.itemsize % align or align > MAX_ALIGN:
        message = (
            f"{dtype} has {dtype.itemsize} bytes and alignment {align}; a value has at least one byte and a multiple of its "
            f"alignment, which is at most {MAX_ALIGN} (build a struct by np.dtype(..., align=True))"
        )
        raise ValueError(message)
    return ("values", dtype.itemsize, align)


class Channel(Duplex):
    """One side of a channel of values of numpy types, built and read in their slots.

    It meets a Rust `Channel<T>` and a C++ `Channel<T>` whose type has the same size and alignment, and the same tag. A
    structured type is C's struct if its fields lie as in C: `align=True` sees to that.

    >>> import numpy as np
    >>> import capnproto_shm_transport as cst
    >>> order = np.dtype([("id", "u8"), ("price", "f8")], align=True)
    >>> with cst.Channel.create("doc-channel", order) as a, cst.Channel.open("doc-channel", order) as b:
    ...     with a.reserve() as slot:
    ...         slot["id"], slot["price"] = 7, 99.5
    ...     with b.recv(timeout=1.0) as value:
    ...         print(value["id"], value["price"])
    7 99.5
    """

    __slots__ = ("receives", "sends")

    def __init__(self, transport: Transport, sends: np.dtype[Any], receives: np.dtype[Any]) -> None:
        """Made by `create`, `open`, `connect`, `pair`, `from_fds` or a server."""
        self.transport = transport
        self.sends = sends
        self.receives = receives

    @classmethod
    def _make(
        cls,
        make: Callable[[TransportOptions], Transport],
        dtype: DTypeLike,
        receives: DTypeLike | None,
        options: Options,
    ) -> Self:
        sent, received = types(dtype, receives)
        return cls(make(declared(options, sent, received)), sent, received)

    @classmethod
    def create(cls, name: str, dtype: DTypeLike, receives: DTypeLike | None = None, **options: Unpack[Options]) -> Self:
        """Side A: make the channel. It sends values of `dtype`, and receives the same unless `receives` says."""
        return cls._make(lambda given: Transport.create(name, **given), dtype, receives, options)

    @classmethod
    def open(
        cls,
        name: str,
        dtype: DTypeLike,
        receives: DTypeLike | None = None,
        timeout: float | None = 5.0,
        **options: Unpack[Options],
    ) -> Self:
        """Side B: join the channel. Mismatch unless side A receives what this side sends, and sends what it receives."""
        return cls._make(lambda given: Transport.open(name, timeout, **given), dtype, receives, options)

    @classmethod
    def connect(
        cls,
        name: str,
        dtype: DTypeLike,
        receives: DTypeLike | None = None,
        timeout: float | None = 5.0,
        **options: Unpack[Options],
    ) -> Self:
        """Ask the server `name` for a channel."""
        return cls._make(lambda given: Transport.connect(name, timeout, **given), dtype, receives, options)

    @classmethod
    def pair(
        cls, dtype: DTypeLike, receives: DTypeLike | None = None, **options: Unpack[Options]
    ) -> tuple[Self, tuple[int, int]]:
        """Make a channel without a name; see `Transport.pair`."""
        sent, received = types(dtype, receives)
        transport, fds = Transport.pair(**declared(options, sent, received))
        return cls(transport, sent, received), fds

    @classmethod
    def from_fds(
        cls, fds: tuple[int, int], dtype: DTypeLike, receives: DTypeLike | None = None, **options: Unpack[Options]
    ) -> Self:
        """Side B of a channel without a name; see `Transport.from_fds`."""
        return cls._make(lambda given: Transport.from_fds(fds, **given), dtype, receives, options)

    @classmethod
    def bind(  # noqa: PLR0913 - as Server.bind
        cls,
        name: str,
        dtype: DTypeLike,
        receives: DTypeLike | None = None,
        *,
        filter: Callable[[Peer], bool] | None = None,  # noqa: A002 - as in Rust
        clients: int | None = None,
        memory: int | None = None,
        **options: Unpack[Options],
    ) -> Server[Self]:
        """Be a server whose clients' channels are of this kind; see `Server.bind`."""
        sent, received = types(dtype, receives)
        given = declared(options, sent, received)
        server = _native.Server.bind(name, filter=filter, clients=clients, memory=memory, **given)
        return Server(server, lambda transport: cls(transport, sent, received))

    def reserve(self, timeout: float | None = None) -> Block:
        """Reserve a slot. `with` gives the value to fill, and sends it; an exception aborts it."""
        return Block(self.transport.reserve(None, timeout), self.sends)

    def try_reserve(self) -> Block | None:
        """Do the same without waiting: None if there is no room."""
        slot = self.transport.try_reserve()
        return None if slot is None else Block(slot, self.sends)

    async def reserve_async(self) -> Block:
        """Do the same in a task."""
        slot = await until_sent(self.transport, 0, self.transport.try_reserve)
        return Block(slot, self.sends)

    def _bytes(self, value: ArrayLike) -> bytes:
        base, shape = plain(self.sends)
        array = np.asarray(value, base)
        if shape and array.shape != shape:
            message = f"an array of shape {array.shape} on a channel of {shape}"
            raise ValueError(message)
        return array.tobytes()

    def send(self, value: ArrayLike, timeout: float | None = None) -> None:
        """Copy one value into a slot and send it."""
        self.transport.send(self._bytes(value), timeout)

    def try_send(self, value: ArrayLike) -> bool:
        """Do the same without waiting: False if there is no room."""
        return self.transport.try_send(self._bytes(value))

    async def send_async(self, value: ArrayLike) -> None:
        """Do the same in a task."""
        await self.transport.send_async(self._bytes(value))

    def recv(self, timeout: float | None = None) -> Block:
        """Wait for a value. `with` gives it, in its slot and read-only, and releases it."""
        return Block(self.transport.recv(timeout), self.receives)

    def try_recv(self) -> Block | None:
        """Do the same without waiting: None if there is none."""
        slot = self.transport.try_recv()
        return None if slot is None else Block(slot, self.receives)

    async def recv_async(self) -> Block:
        """Do the same in a task."""
        return Block(await until_received(self.transport, self.transport.try_recv), self.receives)

    def recv_latest(self, timeout: float | None = None) -> Block:
        """Wait for a value, and give the newest. Older ones are released unseen."""
        return Block(self.transport.recv_latest(timeout), self.receives)

    def try_recv_latest(self) -> Block | None:
        """Do the same without waiting: None if there is none."""
        slot = self.transport.try_recv_latest()
        return None if slot is None else Block(slot, self.receives)

    def recv_copy(self, timeout: float | None = None) -> NDArray[Any]:
        """Wait for a value, and give a copy of it."""
        with self.recv(timeout) as value:
            return value.copy()

    def try_recv_copy(self) -> NDArray[Any] | None:
        """Do the same without waiting: None if there is none."""
        block = self.try_recv()
        if block is None:
            return None
        with block as value:
            return value.copy()

    def window(self, count: int, timeout: float | None = None) -> FrameWindow:
        """Hold several values at once, `count` of them to begin with; fewer slots are left for the sender meanwhile.

        If they do not come in time, none is taken.
        """
        return FrameWindow(self.transport.window(count, timeout), self.receives)

    def __iter__(self) -> Iterator[Value]:
        """Give the values one after the other, each released when the next one is asked for, until the peer closes."""
        return MessagesOf(self.recv)

    def __aiter__(self) -> AsyncIterator[Value]:
        """Give the same in a task."""
        return AsyncMessagesOf(self.transport, self.try_recv)


def types(dtype: DTypeLike, receives: DTypeLike | None) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Give the two types of a channel."""
    sent = np.dtype(dtype)
    return sent, sent if receives is None else np.dtype(receives)


def declared(options: Options, sent: np.dtype[Any], received: np.dtype[Any]) -> TransportOptions:
    """Give the options of a channel of two types."""
    return {**options, "sends": identity(sent), "receives": identity(received)}
