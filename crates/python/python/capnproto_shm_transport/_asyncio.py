"""Waiting in an event loop, and messages one after the other.

Each call tries, arms the half, and sleeps on its descriptor until there is something to do. A task that is cancelled has
taken nothing. Works in every loop that has `add_reader`: asyncio's own on Unix, and uvloop.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

from ._native import Closed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

    from ._native import Message, Reservation, Transport

T = TypeVar("T")
M = TypeVar("M")


class Wait:
    """A task that waits until a descriptor is readable.

    It watches a descriptor of its own: one that is closed while a loop watches it, by another thread, stops uvloop's process.
    """

    def __init__(self, fd: int) -> None:
        """Wait in the running loop."""
        self.loop = asyncio.get_running_loop()
        self.told: asyncio.Future[None] = self.loop.create_future()
        self.fd: int | None = os.dup(fd)
        # Whether what it waits for is closed.
        self.over = False

    async def readable(self) -> None:
        """Wait."""
        if self.fd is not None:
            self.loop.add_reader(self.fd, self.end)
            await self.told

    def end(self) -> None:
        """Have the task go on."""
        self.forget()
        if not self.told.done():
            self.told.set_result(None)

    def forget(self) -> None:
        """Watch no more."""
        fd, self.fd = self.fd, None
        if fd is not None:
            if not self.loop.is_closed():
                self.loop.remove_reader(fd)
            os.close(fd)


WAITS: WeakKeyDictionary[object, dict[str, Wait]] = WeakKeyDictionary()
"""The tasks that wait on a transport or a server, by what they do: it sends, receives or accepts."""


async def readable(owner: object, half: str, fd: int, arm: Callable[[], bool]) -> None:
    """Wait until a descriptor is readable or its owner is closed, unless `arm` finds something to do."""
    waits = WAITS.setdefault(owner, {})
    before = waits.get(half)
    # Asked first: a second task that arms would take the first one's wake.
    if before is not None and not before.over and not before.loop.is_closed():
        message = f"another task {half} on this now; let one task do it, or use asyncio.Lock"
        raise RuntimeError(message)
    wait = waits[half] = Wait(fd)
    try:
        if arm():
            await wait.readable()
    finally:
        wait.forget()
        if waits.get(half) is wait:
            del waits[half]


def wake(owner: object) -> None:
    """Have the tasks go on that wait on what was closed: they find out."""
    for wait in list(WAITS.get(owner, {}).values()):
        wait.over = True
        if asyncio._get_running_loop() is wait.loop:  # noqa: SLF001 - the one that does not raise
            wait.end()
        else:
            with suppress(RuntimeError):  # the loop was closed
                wait.loop.call_soon_threadsafe(wait.end)


async def until_received(transport: Transport, take: Callable[[], T | None]) -> T:
    """Wait until `take`, which does not wait, takes something."""
    while (taken := take()) is None:
        await readable(transport, "receives", transport.fileno(), transport.arm)
    return taken


async def until_sent(transport: Transport, size: int, give: Callable[[], T | None]) -> T:
    """Wait until `give`, which does not wait, has found room for `size` bytes."""
    while (given := give()) is None:
        await readable(transport, "sends", transport.room_fileno(), lambda: transport.arm_room(size))
    return given


async def recv(transport: Transport) -> Message:
    """See `Transport.recv_async`."""
    return await until_received(transport, transport.try_recv)


async def recv_bytes(transport: Transport) -> bytes:
    """See `Transport.recv_bytes_async`."""
    return await until_received(transport, transport.try_recv_bytes)


async def send(transport: Transport, message: Buffer) -> None:
    """See `Transport.send_async`."""
    size = memoryview(message).nbytes
    await until_sent(transport, size, lambda: transport.try_send(message) or None)


async def reserve(transport: Transport, size: int | None) -> Reservation:
    """See `Transport.reserve_async`."""
    return await until_sent(transport, size or 0, lambda: transport.try_reserve(size))


class Current(Generic[M]):
    """The message that a loop is at: entered, and left when the next one is asked for."""

    def __init__(self) -> None:
        """Begin with none."""
        self.block: AbstractContextManager[M] | None = None

    def leave(self) -> None:
        """Release it. BufferError if a view of it is left."""
        block, self.block = self.block, None
        if block is not None:
            block.__exit__(None, None, None)

    def enter(self, block: AbstractContextManager[M]) -> M:
        """Go on to the next one."""
        message = block.__enter__()
        self.block = block
        return message

    def __del__(self) -> None:
        """Release the message of a loop that was left half-way, at the latest when its last view goes."""
        block, self.block = self.block, None
        if block is not None:
            block.__exit__(GeneratorExit, None, None)


class MessagesOf(Generic[M]):
    """Received messages one after the other, each released when the next one is asked for, until the peer has closed."""

    def __init__(self, receive: Callable[[], AbstractContextManager[M]]) -> None:
        """Receive by this call."""
        self._receive = receive
        self._current: Current[M] = Current()

    def __iter__(self) -> MessagesOf[M]:
        """Itself."""
        return self

    def __next__(self) -> M:
        """Release the last message and wait for the next one."""
        self._current.leave()
        try:
            block = self._receive()
        except Closed:
            raise StopIteration from None
        return self._current.enter(block)


class AsyncMessagesOf(Generic[M]):
    """The same in a task."""

    def __init__(self, transport: Transport, take: Callable[[], AbstractContextManager[M] | None]) -> None:
        """Receive by this call, which does not wait."""
        self._transport = transport
        self._take = take
        self._current: Current[M] = Current()

    def __aiter__(self) -> AsyncMessagesOf[M]:
        """Itself."""
        return self

    async def __anext__(self) -> M:
        """Release the last message and wait for the next one."""
        self._current.leave()
        try:
            block = await until_received(self._transport, self._take)
        except Closed:
            raise StopAsyncIteration from None
        return self._current.enter(block)


def messages(transport: Transport) -> MessagesOf[memoryview]:
    """See `Transport.__iter__`."""
    return MessagesOf(transport.recv)


def async_messages(transport: Transport) -> AsyncMessagesOf[memoryview]:
    """See `Transport.__aiter__`."""
    return AsyncMessagesOf(transport, transport.try_recv)
