"""Types of arguments, for annotations."""

from __future__ import annotations

from os import PathLike  # noqa: TC003 - who asks for the hints of `Options` finds it
from typing import Literal, TypeAlias, TypedDict

Poll: TypeAlias = Literal["spin", "park"] | float
"""How a side waits: "spin", "park", or seconds between two looks."""

Kind: TypeAlias = tuple[Literal["values"], int, int] | tuple[Literal["capnp"], int]
"""The kind of messages: values of a size and an alignment, or Cap'n Proto structs of an id."""


class Options(TypedDict, total=False):
    """Options of every call that makes or joins a channel."""

    slot_size: int
    slot_count: int
    a_to_b: tuple[int, int]
    b_to_a: tuple[int, int]
    poll: Poll | None
    tag: str | None
    permissions: int
    directory: str | PathLike[str] | None
    prefault: bool
    lock_memory: bool
    huge_pages: bool
    numa_node: int | None


class TransportOptions(Options, total=False):
    """The same, and what the messages of a transport are."""

    sends: Kind | None
    receives: Kind | None
