"""Many clients, each with a channel of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self, TypeVar

from . import _native
from ._asyncio import readable, wake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Unpack

    from ._native import Peer, Transport
    from ._types import Options

C = TypeVar("C")


class Server(Generic[C]):
    """Gives each client that connects a channel of its own, of which the server is side A.

    `Server.bind` gives transports, `Channel.bind` and `CapnpChannel.bind` give theirs.

    >>> import threading
    >>> import capnproto_shm_transport as cst
    >>> def client():
    ...     with cst.Transport.connect("doc-server", timeout=5.0) as channel:
    ...         channel.send(b"hello")
    ...         channel.finish(timeout=5.0)
    >>> with cst.Server.bind("doc-server", slot_count=16) as server:
    ...     thread = threading.Thread(target=client)
    ...     thread.start()
    ...     with server.accept(timeout=5.0) as channel:
    ...         print(channel.recv_bytes(timeout=5.0))
    ...     thread.join()
    b'hello'
    """

    def __init__(self, server: _native.Server, wrap: Callable[[Transport], C]) -> None:
        """Made by `bind`."""
        self._server = server
        self._wrap = wrap

    @staticmethod
    def bind(
        name: str,
        *,
        filter: Callable[[Peer], bool] | None = None,  # noqa: A002 - as in Rust
        clients: int | None = None,
        memory: int | None = None,
        **options: Unpack[Options],
    ) -> Server[Transport]:
        """Take the name. Each client's channel has these options.

        `filter(peer)` says who may connect, `clients` and `memory` how many at once and with how many bytes together.
        """
        server = _native.Server.bind(name, filter=filter, clients=clients, memory=memory, **options)
        return Server(server, lambda transport: transport)

    @staticmethod
    def remove(name: str, **options: Unpack[Options]) -> None:
        """Remove what a dead server left under `name`; the next `bind` of the name does this too.

        FileNotFoundError if there is nothing, InUse if the server lives.
        """
        _native.Server.remove(name, **options)

    def accept(self, timeout: float | None = None) -> C:
        """Wait for the next client, and give its channel."""
        return self._wrap(self._server.accept(timeout))

    def try_accept(self) -> C | None:
        """Give the channel of a client that has joined, or None."""
        transport = self._server.try_accept()
        return None if transport is None else self._wrap(transport)

    async def accept_async(self) -> C:
        """Wait for the next client in a task."""
        while (channel := self.try_accept()) is None:
            await readable(self, "accepts", self._server.fileno(), lambda: True)
        return channel

    def __iter__(self) -> Iterator[C]:
        """Clients one after the other, without end."""
        while True:
            yield self.accept()

    async def __aiter__(self) -> AsyncIterator[C]:
        """Give the same in a task."""
        while True:
            yield await self.accept_async()

    def fileno(self) -> int:
        """Give a descriptor for event loops, readable while `try_accept` has something to do."""
        return self._server.fileno()

    @property
    def clients(self) -> int:
        """How many clients have a channel now."""
        return self._server.clients

    @property
    def name(self) -> str:
        """The name that clients connect to."""
        return self._server.name

    def close(self) -> None:
        """Give the name up. The clients' channels stay. A task that waits for a client gets Closed."""
        self._server.close()
        wake(self)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Say what it is."""
        return repr(self._server)
