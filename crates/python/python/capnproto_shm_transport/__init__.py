"""Two processes on one machine exchange messages through shared memory, built and read in place.

`Transport` carries bytes, `Channel` numpy arrays, `CapnpChannel` Cap'n Proto messages. `Server` gives each client a channel
of its own. Either process may be killed at any moment: the other one receives what was sent before, then gets `PeerDead`.

>>> import capnproto_shm_transport as cst
>>> with cst.Transport.create("doc-package") as a, cst.Transport.open("doc-package") as b:
...     a.send(b"hello")
...     with b.recv(timeout=1.0) as message:
...         bytes(message)
b'hello'

`try_x` never waits, `x` waits without end or for `timeout=` seconds, `await x_async()` waits in asyncio. A timeout is Python's
own `TimeoutError`. All other ends of a channel are a `ChannelError`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ._native import (
    ChannelError,
    ChannelInfo,
    Closed,
    Corrupt,
    InUse,
    Message,
    Mismatch,
    Peer,
    PeerDead,
    Reservation,
    RingStats,
    ServerInfo,
    SideInfo,
    Stats,
    Superseded,
    Tap,
    Tapped,
    Transport,
    Window,
    info,
    ls,
    servers,
    stats,
)
from ._server import Server
from ._types import Options, Poll

if TYPE_CHECKING:
    from ._capnp import CapnpChannel, CapnpMessage
    from ._channel import Channel
    from ._value import FrameWindow, Value

__all__ = [
    "CapnpChannel",
    "CapnpMessage",
    "Channel",
    "ChannelError",
    "ChannelInfo",
    "Closed",
    "Corrupt",
    "FrameWindow",
    "InUse",
    "Message",
    "Mismatch",
    "Options",
    "Peer",
    "PeerDead",
    "Poll",
    "Reservation",
    "RingStats",
    "Server",
    "ServerInfo",
    "SideInfo",
    "Stats",
    "Superseded",
    "Tap",
    "Tapped",
    "Transport",
    "Value",
    "Window",
    "info",
    "ls",
    "servers",
    "stats",
]

# Names that need numpy or pycapnp are loaded on demand, so that the rest works without them: the place, the module that it
# needs, and the package that has that.
_LATER = {
    "Channel": ("_channel", "numpy", "numpy"),
    "FrameWindow": ("_value", "numpy", "numpy"),
    "Value": ("_value", "numpy", "numpy"),
    "CapnpChannel": ("_capnp", "capnp", "pycapnp"),
    "CapnpMessage": ("_capnp", "capnp", "pycapnp"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the module has
    if name not in _LATER:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    module, needed, package = _LATER[name]
    try:
        value = getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name != needed:
            raise
        message = f"{name} needs {needed}, which is not installed: pip install {package}"
        raise ModuleNotFoundError(message, name=needed) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for name, (_, needed, _) in _LATER.items() if find_spec(needed))})
