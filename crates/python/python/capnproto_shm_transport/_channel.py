"""Channels of values: numpy arrays that lie in the slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import _native
from ._asyncio import AsyncMessagesOf, MessagesOf, until_received, until_sent
from ._kind import Duplex
from ._native import Transport
from ._server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Unpack

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from ._native import Message, Peer, Reservation, Window
    from ._types import Kind, Options, TransportOptions

MAX_ALIGN = 64


class Value(NDArrayOperatorsMixin):
    """One value in its slot: `value["field"]`, `value[index]`, `value.array`, and whatever takes an array.

    Fields and slices of it are arrays that view the slot. They must be gone when the block ends, or be copied: else that
    raises BufferError. The value itself may stay: after the end, using it raises ValueError.
    """

    __slots__ = ("_array",)

    def __init__(self, slot: Message | Reservation, dtype: np.dtype[Any]) -> None:
        """View a slot as a value of this type."""
        # Over a memoryview, so that numpy keeps the slot until the last array goes.
        flat = np.frombuffer(memoryview(slot), np.uint8)
        if dtype.subdtype is None:
            self._array: NDArray[Any] | None = flat.view(dtype).reshape(())
        else:
            base, shape = dtype.subdtype
            self._array = flat.view(base).reshape(shape)

    @property
    def array(self) -> NDArray[Any]:
        """The array itself: of no dimension, unless the type is an array. ValueError after the end of the block."""
        if self._array is None:
            message = "this value was released at the end of its block; copy what is needed later"
            raise ValueError(message)
        return self._array

    def copy(self) -> NDArray[Any]:
        """Give a copy, which stays."""
        return self.array.copy()

    def detach(self) -> None:
        """Give the view up."""
        self._array = None

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - as an array
        """Give a field or an element: a view, unless it is a scalar."""
        return self.array[key]

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401 - as an array
        """Set a field or an element."""
        self.array[key] = value

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as an array
        """Give what an array has: `dtype`, `shape`, `mean()`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.array, name)

    def __len__(self) -> int:
        """Give the length of the first dimension."""
        return len(self.array)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Give the array."""
        array = self.array
        if dtype is not None and array.dtype != np.dtype(dtype):
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401
        """Compute with the array."""
        plain = [given.array if isinstance(given, Value) else given for given in inputs]
        if "out" in options:
            options["out"] = tuple(out.array if isinstance(out, Value) else out for out in options["out"])
        return getattr(ufunc, method)(*plain, **options)

    def __repr__(self) -> str:
        """Say what it is."""
        return "<Value, released>" if self._array is None else f"<Value {self._array!r}>"


class Block:
    """A received or reserved value: `with` gives the value, and ends it."""

    __slots__ = ("_dtype", "_slot", "_value")

    def __init__(self, slot: Message | Reservation, dtype: np.dtype[Any]) -> None:
        """Make it of a slot."""
        self._slot = slot
        self._dtype = dtype
        self._value: Value | None = None

    @property
    def address(self) -> int:
        """Where the value lies in this process's memory."""
        return self._slot.address

    def __enter__(self) -> Value:
        """Give the value."""
        self._value = Value(self._slot, self._dtype)
        return self._value

    def _detach(self) -> None:
        value, self._value = self._value, None
        if value is not None:
            value.detach()

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Release or send the value."""
        self._detach()
        self._slot.__exit__(exception, value, traceback)


class FrameWindow:
    """The last values of a channel, in their slots, oldest first: `window[0]` to `window[-1]`."""

    def __init__(self, window: Window, dtype: np.dtype[Any]) -> None:
        """Made by `Channel.window`."""
        self._window = window
        self._dtype = dtype
        self._values: list[Value] = []

    def _look(self) -> None:
        for at in range(len(self._values), len(self._window)):
            self._values.append(Value(self._window[at], self._dtype))

    def wait_for(self, count: int, timeout: float | None = None) -> None:
        """Receive values until the window holds `count`."""
        try:
            self._window.wait_for(count, timeout)
        finally:
            self._look()

    def try_wait_for(self, count: int) -> bool:
        """Do the same without waiting: False if it holds fewer."""
        enough = self._window.try_wait_for(count)
        self._look()
        return enough

    def release(self, count: int = 1) -> None:
        """Give the `count` oldest values back. BufferError if a view of one is left: then none is given back."""
        count = min(count, len(self._values))
        for value in self._values[:count]:
            value.detach()
        try:
            self._window.release(count)
        except BufferError:
            for at in range(count):
                # As before, also for whoever holds the value.
                self._values[at].__init__(self._window[at], self._dtype)  # type: ignore[misc]
            raise
        del self._values[:count]

    def close(self) -> None:
        """Give all values back."""
        self.__exit__(None, None, None)

    def __len__(self) -> int:
        """Say how many values it holds."""
        return len(self._values)

    def __getitem__(self, index: int) -> Value:
        """Give a value, counted from the oldest."""
        return self._values[index]

    def __iter__(self) -> Iterator[Value]:
        """Give the values, oldest first."""
        return iter(list(self._values))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Give all values back. BufferError if a view of one is left: then that happens when the last one goes."""
        for one in self._values:
            one.detach()
        self._values.clear()
        self._window.__exit__(exception, value, traceback)


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
        if self.sends.subdtype is None:
            return np.asarray(value, self.sends).tobytes()
        base, shape = self.sends.subdtype
        array = np.asarray(value, base)
        if array.shape != shape:
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

    def recv_copy(self, timeout: float | None = None) -> NDArray[Any]:
        """Wait for a value, and give a copy of it."""
        with self.recv(timeout) as value:
            return value.copy()

    def window(self, count: int, timeout: float | None = None) -> FrameWindow:
        """Hold several values at once, `count` of them to begin with; fewer slots are left for the sender meanwhile."""
        window = FrameWindow(self.transport.window(), self.receives)
        window.wait_for(count, timeout)
        return window

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
