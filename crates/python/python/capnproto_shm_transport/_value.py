"""Values in their slots: one, or a window of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray

    from ._native import Message, Reservation, Window


def plain(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Give the type and the shape of a value's array: of an array of arrays the innermost type and all lengths."""
    shape: tuple[int, ...] = ()
    while dtype.subdtype is not None:
        dtype, lengths = dtype.subdtype
        shape += lengths
    return dtype, shape


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
        base, shape = plain(dtype)
        self._array: NDArray[Any] | None = flat.view(base).reshape(shape)

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

    def __iter__(self) -> Iterator[Any]:
        """Give the elements. TypeError if there is one value alone."""
        return iter(self.array)

    def __contains__(self, value: object) -> bool:
        """Say whether an element is this."""
        return value in self.array

    def __bool__(self) -> bool:
        """Say what the array says: of one value alone, whether it is not 0."""
        return bool(self.array)

    def __int__(self) -> int:
        """Give one value alone."""
        return int(self.array)

    def __float__(self) -> float:
        """Give one value alone."""
        return float(self.array)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        """Give the array."""
        return np.array(self.array, dtype=dtype, copy=copy)

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
        self._look()

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
        values = self._values[:count]
        for value in values:
            value.detach()
        try:
            self._window.release(count)
        except Exception:
            for at, value in enumerate(values):
                # As before, also for whoever holds the value.
                value.__init__(self._window[at], self._dtype)  # type: ignore[misc]
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
