"""The common part of a channel of values and one of Cap'n Proto messages: all but how a message is built and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from ._native import Peer, Stats, Transport
    from ._types import Poll


class Duplex:
    """One side of a channel, around the transport that carries it."""

    __slots__ = ("__weakref__", "transport")

    transport: Transport

    def wait_for_peer(self, timeout: float | None = None) -> None:
        """Wait until the other side has come."""
        self.transport.wait_for_peer(timeout)

    def finish(self, timeout: float | None = None) -> None:
        """Close the direction in which this side sends, once the peer has released everything."""
        self.transport.finish(timeout)

    def reopen(self, timeout: float | None = 5.0) -> None:
        """Join the next life of the channel, on side B."""
        self.transport.reopen(timeout)

    def interrupt(self) -> None:
        """End a wait for a message in another thread: it raises InterruptedError."""
        self.transport.interrupt()

    def stats(self) -> Stats:
        """Figures of both rings, now."""
        return self.transport.stats()

    def fileno(self) -> int:
        """See `Transport.fileno`."""
        return self.transport.fileno()

    def arm(self) -> bool:
        """See `Transport.arm`."""
        return self.transport.arm()

    def close(self) -> None:
        """Close both directions in order; see `Transport.close`."""
        self.transport.close()

    @property
    def name(self) -> str | None:
        """The name, or None."""
        return self.transport.name

    @property
    def side(self) -> str:
        """Either "A", for the side that created the channel, or "B"."""
        return self.transport.side

    @property
    def peer(self) -> Peer | None:
        """The process on the other side of a channel between a server and its client."""
        return self.transport.peer

    @property
    def peer_attached(self) -> bool:
        """Whether the other side has ever been there."""
        return self.transport.peer_attached

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self.transport.closed

    @property
    def poll(self) -> Poll:
        """How this side waits; see `Transport.poll`."""
        return self.transport.poll

    @poll.setter
    def poll(self, mode: Poll) -> None:
        self.transport.poll = mode

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Close it."""
        self.transport.__exit__(exception, value, traceback)

    def __repr__(self) -> str:
        """Say what it is."""
        return f"<{type(self).__name__} over {self.transport!r}>"
